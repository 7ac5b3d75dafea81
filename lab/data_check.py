"""The doctor's findings, by severity, each with the files behind it."""

import pandas as pd
import streamlit as st

import jobs
from components.figures import show_figures
from pianistid_core.datasets.doctor import Report, check
from pianistid_core.datasets.findings import SEVERITIES, Finding
from pianistid_core.datasets.root import DataRoot
from wording import count, one_line, percent, plain

_NAMES = {"error": "To fix", "warning": "To know", "note": "Good to know"}
_ICONS = {"error": ":material/error:", "warning": ":material/warning:", "note": ":material/info:"}
_COLOURS = {"error": "red", "warning": "orange", "note": "gray"}
_MOST_ITEMS = 2000


def draw_check(root: DataRoot, split_name: str) -> None:
    """Checks a split when asked to, and shows what was found."""
    key = f"check:{root.path}:{split_name}"
    st.write(
        "Reads every clip of the split and looks for files that cannot be read, empty clips, clips without chords, "
        "and for recordings, albums or music that stand in two parts."
    )
    found = jobs.find(key)
    busy = found is not None and found.running
    label = "Check again" if found else "Check this split"
    if st.button(label, key="check", icon=":material/stethoscope:", type="primary", disabled=busy):
        jobs.forget(key)
        jobs.start(key, f"Checking {split_name}", lambda progress: check(root, split_name, progress=progress))
        st.rerun()
    job = jobs.draw(key)
    if job is None or not isinstance(job.result, Report):
        return
    _draw_report(job.result)


def _draw_report(report: Report) -> None:
    counts = {severity: len(report.by_severity(severity)) for severity in SEVERITIES}
    if not any(counts[severity] for severity in SEVERITIES if severity != "note"):
        st.success("Nothing is wrong with this split.", icon=":material/check_circle:")
    show_figures([(_NAMES[severity], str(counts[severity]), None) for severity in SEVERITIES])
    for severity in SEVERITIES:
        for number, finding in enumerate(report.by_severity(severity)):
            _draw_finding(finding, f"finding_{severity}_{number}")
    with st.expander("Parts as a table", icon=":material/table:"):
        rows = [
            (
                part.split,
                part.part,
                part.pianists,
                part.recordings,
                part.clips,
                round(part.hours, 2),
                percent(part.baseline),
            )
            for part in report.parts
        ]
        names = ["Split", "Part", "Pianists", "Recordings", "Clips", "Hours", "Always the commonest"]
        st.dataframe(
            pd.DataFrame(rows, columns=names), hide_index=True, key="check_parts",
            alt="Pianists, recordings, clips and hours by part.",
        )  # fmt: skip


def _draw_finding(finding: Finding, key: str) -> None:
    """One finding: what it is, and the files behind it."""
    colour, icon = _COLOURS[finding.severity], _ICONS[finding.severity]
    with st.container(border=True, key=key):
        st.markdown(f":{colour}[{icon}] **{plain(finding.title)}**  \n{plain(finding.message, 600)}")
        if not finding.items:
            return
        with st.expander(count(len(finding.items), "item") + " behind it", type="compact"):
            shown = [one_line(item, 500) for item in finding.items[:_MOST_ITEMS]]
            st.dataframe(pd.DataFrame({"Behind it": shown}), hide_index=True, alt="The files behind this finding.")
            if len(finding.items) > _MOST_ITEMS:
                st.caption(f"The first {_MOST_ITEMS:,} of {len(finding.items):,}.")
