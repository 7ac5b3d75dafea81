"""The doctor's findings, gravest first, each with the files behind it."""

from dataclasses import dataclass

import streamlit as st

import acts
import cached
import jobs
from acts import acting
from components.figures import show_figures
from components.tables import download
from pianistid_core.accounts import Role
from pianistid_core.datasets.doctor import Report, check
from pianistid_core.datasets.findings import SEVERITIES, Finding
from pianistid_core.datasets.root import DataRoot
from wording import count, one_line, percent, plain

_NAMES = {"error": "To fix", "warning": "To know", "note": "Good to know"}
_MEANINGS = {
    "error": "Results on this split cannot be trusted, or training will not start, until these are put right.",
    "warning": "Something is probably not as it was meant to be.",
    "note": "What to say when results on this split are told to others.",
}
_ICONS = {"error": ":material/error:", "warning": ":material/warning:", "note": ":material/info:"}
_COLOURS = {"error": "red", "warning": "orange", "note": "gray"}
_MOST_ITEMS = 2000


@dataclass(frozen=True)
class Checked:
    """What the doctor found in a split, and how its data looked then."""

    report: Report
    seen: tuple[float, ...]


def job_of(root: DataRoot, split_name: str) -> str:
    """The name of the job that checks a split."""
    return f"check:{root.path}:{split_name}"


def report_of(root: DataRoot, split_name: str) -> Report | None:
    """What the doctor found in a split as it stands; None when it has not looked, or the data has changed since."""
    job = jobs.find(job_of(root, split_name))
    found = job.result if job is not None else None
    return found.report if isinstance(found, Checked) and found.seen == cached.seen(root, split_name) else None


def draw_check(root: DataRoot, split_name: str) -> None:
    """Checks a split when asked to, and shows what was found."""
    key = job_of(root, split_name)
    found = jobs.find(key)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            "Reads every clip of the split and looks for files that cannot be read, empty clips, clips without chords, "
            "and for recordings, albums or music that stand in two parts.",
            width="stretch",
        )
        st.button(
            "Check again" if found else "Check this split", key="check", icon=":material/stethoscope:",
            type="secondary" if found else "primary", on_click=start_check, args=(root, split_name, key),
            **acts.allowed(
                Role.RUN, "Takes about a minute for five thousand clips, and goes on when you leave the page.",
                off=found is not None and found.running,
            ),
        )  # fmt: skip
    job = jobs.draw(key)
    if job is not None and isinstance(job.result, Checked):
        if report_of(root, split_name) is None:
            st.warning("The data has changed since this check. Check again to be sure.", icon=":material/history:")
        _draw_report(job.result.report, split_name)


@acting(Role.RUN)
def start_check(root: DataRoot, split_name: str, key: str) -> None:
    """Begins to read the clips of a split in the background."""

    def work(progress: jobs.Progress) -> Checked:
        seen = cached.seen(root, split_name)
        return Checked(check(root, split_name, progress=progress), seen)

    jobs.start(key, f"Checking {split_name}", work)


def rows_of(report: Report) -> list[dict[str, object]]:
    """All findings as rows, one for each file behind one."""
    return [
        {"severity": finding.severity, "finding": finding.title, "about": finding.message, "file": item}
        for severity in SEVERITIES
        for finding in report.by_severity(severity)
        for item in finding.items or ("",)
    ]


def _draw_report(report: Report, split_name: str) -> None:
    counts = {severity: len(report.by_severity(severity)) for severity in SEVERITIES}
    if not any(counts[severity] for severity in SEVERITIES if severity != "note"):
        st.success("Nothing is wrong with this split.", icon=":material/check_circle:")
    show_figures([(_NAMES[severity], str(counts[severity]), _MEANINGS[severity]) for severity in SEVERITIES])
    for severity in SEVERITIES:
        findings = report.by_severity(severity)
        if findings:
            st.subheader(_NAMES[severity], anchor=False)
            st.caption(_MEANINGS[severity])
        for number, finding in enumerate(findings):
            _draw_finding(finding, f"finding_{severity}_{number}")
    with st.expander("Parts as a table", icon=":material/table:"):
        rows = [
            {
                "Part": one_line(part.part or "none"), "Pianists": part.pianists, "Recordings": part.recordings,
                "Clips": part.clips, "Hours": round(part.hours, 2), "Always the commonest": percent(part.baseline),
            }
            for part in report.parts
        ]  # fmt: skip
        st.dataframe(
            rows, hide_index=True, key="check_parts", alt="Pianists, recordings, clips and hours by part.",
            column_config={
                "Always the commonest": st.column_config.TextColumn(
                    help="The share of recordings that is right by always naming the pianist with the most."
                )
            },
        )  # fmt: skip
    download(lambda: rows_of(report), key="check_csv", name=f"check_{split_name}", label="Download all findings")


def _draw_finding(finding: Finding, key: str) -> None:
    """One finding: what it is, and the files behind it."""
    colour, icon = _COLOURS[finding.severity], _ICONS[finding.severity]
    with st.container(border=True, key=key, gap="small"):
        st.markdown(f":{colour}[{icon}] **{plain(finding.title)}**  \n{plain(finding.message, 600)}")
        if not finding.items:
            return
        opened = st.expander(
            count(len(finding.items), "file or recording", "files or recordings") + " behind it",
            key=f"{key}_items", type="compact", on_change="rerun",
        )  # fmt: skip
        if opened.open:
            with opened:
                shown = [{"Behind it": one_line(item, 500)} for item in finding.items[:_MOST_ITEMS]]
                st.dataframe(shown, hide_index=True, key=f"{key}_table", alt="The files behind this finding.")
                if len(finding.items) > _MOST_ITEMS:
                    st.caption(f"The first {_MOST_ITEMS:,} of {len(finding.items):,}; the file has all.")
                download(
                    lambda: [{"finding": finding.title, "file": item} for item in finding.items],
                    key=f"{key}_csv", name=one_line(f"{finding.kind}_{finding.split or 'all'}", 80),
                )  # fmt: skip
