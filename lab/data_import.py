"""How music comes into a data root: the demo, an upload, a path; and the split that makes it a data set."""

import os
import uuid
from pathlib import Path
from typing import Any

import streamlit as st

import actions
import cached
import jobs
from pianistid_core.datasets.importing import ImportReport, import_source
from pianistid_core.datasets.root import DataRoot
from pianistid_core.datasets.splitting import GROUPINGS, make_split
from pianistid_core.errors import PianistIDError
from wording import count, listed, plain, sentence

IMPORT_JOB = "import"
_CHUNK = 1 << 20


def draw_import(root: DataRoot) -> None:
    """Three ways in, the import that runs or has just ended, and the split editor when there are recordings."""
    if not root.writable():
        st.warning(
            plain(f"{root.path} cannot be written, so nothing can be brought in. Choose another data root.", 600),
            icon=":material/lock:",
        )
        return
    _progress(root)
    demo, upload, path = st.columns(3, gap="medium")
    busy = jobs.any_running() is not None
    with demo.container(border=True, height="stretch"):
        st.markdown("##### The demo")
        st.write("Eight virtual pianists whose habits are known, composed here in a few seconds.")
        st.button(
            "Make demo data", key="make_demo", icon=":material/piano:", disabled=busy,
            type="secondary" if "demo" in cached.contents(root).splits else "primary",
            on_click=actions.start_demo_data, args=(root,),
        )  # fmt: skip
    with upload.container(border=True, height="stretch"):
        st.markdown("##### A zip")
        st.write("The paper's archive, or one folder of MIDI files for each pianist.")
        given = st.file_uploader("Zip file", type=["zip"], key="import_zip", label_visibility="collapsed")
        asked = st.button(
            "Import the zip", key="import_upload", icon=":material/upload:", disabled=busy or given is None
        )
        if asked and given is not None:
            _import_upload(root, given)
            st.rerun()
    with path.container(border=True, height="stretch"):
        st.markdown("##### A path on this machine")
        st.write("A zip, a folder, or a CSV with the columns file and pianist.")
        where = st.text_input("Path", key="import_path", label_visibility="collapsed", placeholder="/music/pianists")
        if st.button("Import the path", key="import_from", icon=":material/drive_folder_upload:", disabled=busy):
            if where.strip():
                source = Path(where.strip())
                jobs.start(
                    IMPORT_JOB, f"Importing {source.name}",
                    lambda progress: import_source(root, source, progress=progress),
                )  # fmt: skip
                st.rerun()
            else:
                st.error("Give the path of a zip, a folder or a CSV.", icon=":material/error:")
    if cached.contents(root).tracks:
        _split_form(root)


def _progress(root: DataRoot) -> None:
    jobs.draw(actions.DEMO_JOB)
    job = jobs.draw(IMPORT_JOB)
    if job is None or job.error is not None or not isinstance(job.result, ImportReport):
        return
    report = job.result
    words = f"{count(report.recordings, 'recording')} and {count(report.clips, 'clip')} are in"
    words += f", by {listed(report.pianists, 4)}." if report.pianists else "."
    if report.splits:
        words += f" Splits: {listed(report.splits)}."
    elif not cached.contents(root).splits:
        words += " Make a split below, and they can be trained on."
    st.success(plain(words, 600), icon=":material/check_circle:")
    if report.skipped:
        with st.expander(f"{count(len(report.skipped), 'file was', 'files were')} left out"):
            st.dataframe(
                [{"File": skipped.name, "Reason": skipped.reason} for skipped in report.skipped[:1000]],
                hide_index=True, key="skipped", alt="Files that were left out, and why.",
            )  # fmt: skip


def _import_upload(root: DataRoot, given: Any) -> None:
    """Copies an upload to the cache, imports it from there and removes the copy."""
    folder = root.cache_dir / "uploads" / uuid.uuid4().hex
    name = os.path.basename(str(given.name).replace("\\", "/")) or "upload.zip"
    copy = folder / (name if name.lower().endswith(".zip") else "upload.zip")
    try:
        folder.mkdir(parents=True)
        with copy.open("wb") as file:
            while chunk := given.read(_CHUNK):
                file.write(chunk)
    except OSError as error:
        st.error(sentence(f"the upload cannot be kept in {folder}: {error.strerror}"), icon=":material/error:")
        st.stop()

    def work(progress: jobs.Progress) -> ImportReport:
        try:
            return import_source(root, copy, progress=progress)
        finally:
            copy.unlink(missing_ok=True)
            folder.rmdir()

    jobs.start(IMPORT_JOB, f"Importing {name}", work)


def _split_form(root: DataRoot) -> None:
    """Makes a split of the recordings that are here."""
    names = cached.contents(root).splits
    with (
        st.expander("Make a split", icon=":material/call_split:", expanded=not names),
        st.form("split_form", border=False),
    ):
        one, two, three = st.columns(3)
        name = one.text_input("Name", value="all" if "all" not in names else "", max_chars=80)
        by = two.selectbox(
            "Keep together", GROUPINGS, format_func=lambda g: {"recording": "each recording"}.get(g, f"each {g}"),
            help="What must not be in two parts. By album or composition is the stricter test.",
        )  # fmt: skip
        minutes = three.number_input("At least this much of a pianist (minutes)", value=0, min_value=0, step=10)
        train, test, validation = st.columns(3)
        shares = (
            train.number_input("Training", value=0.8, min_value=0.0, max_value=1.0, step=0.05),
            test.number_input("Test", value=0.1, min_value=0.0, max_value=1.0, step=0.05),
            validation.number_input("Validation", value=0.1, min_value=0.0, max_value=1.0, step=0.05),
        )
        if not st.form_submit_button("Make the split", type="primary"):
            return
        try:
            plan = make_split(root, name.strip(), by=by or "recording", ratios=shares, minimum_minutes=float(minutes))
        except PianistIDError as error:
            st.error(sentence(error), icon=":material/error:")
            return
    hours = ", ".join(f"{part} {value:.1f} h" for part, value in plan.hours.items())
    st.success(plain(f"Split {plan.split.name} is made: {hours}."), icon=":material/check_circle:")
    for warning in plan.warnings:
        st.warning(sentence(warning), icon=":material/warning:")
    st.button("Use it", key="use_split", icon=":material/arrow_forward:")
