"""How music comes into a data root: the demo, an upload, or a path on this machine."""

import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import streamlit as st

import actions
import cached
import jobs
import state
from components.tables import download
from pianistid_core.datasets.importing import ImportReport, import_source
from pianistid_core.datasets.root import DataRoot
from wording import count, listed, one_line, plain

IMPORT_JOB = "import"
_CHUNK = 1 << 20


def draw_import(root: DataRoot) -> None:
    """Draws the three ways in, and the import that runs or has just ended."""
    if not root.writable():
        st.warning(
            plain(f"{root.path} cannot be written, so nothing can be brought in. Choose another data root.", 600),
            icon=":material/lock:",
        )
        return
    _progress(root)
    st.header("Three ways in", anchor=False)
    demo, upload, path = st.columns(3, gap="medium")
    busy = jobs.any_running() is not None
    with demo.container(border=True, height="stretch"):
        st.subheader("The demo", anchor=False)
        st.write("Eight virtual pianists whose habits are known, composed here in a few seconds.")
        st.button(
            "Make demo data", key="make_demo", icon=":material/piano:", disabled=busy,
            type="secondary" if "demo" in cached.contents(root).splits else "primary",
            on_click=actions.start_demo_data, args=(root,), help="Composes 128 short recordings into the data root.",
        )  # fmt: skip
    with upload.container(border=True, height="stretch"):
        st.subheader("A zip", anchor=False)
        st.write("The paper's archive, or one folder of MIDI files for each pianist.")
        given = st.file_uploader(
            "Zip file", type=["zip"], key="import_zip", label_visibility="collapsed",
            help="It is copied to the cache, read from there and removed again.",
        )  # fmt: skip
        asked = st.button(
            "Import the zip",
            key="import_upload",
            icon=":material/upload:",
            disabled=busy or given is None,
            help="Files that cannot be read are left out and listed; the rest comes in.",
        )
        if asked and given is not None:
            import_upload(root, given)
            st.rerun()
    with path.container(border=True, height="stretch"):
        st.subheader("A path on this machine", anchor=False)
        st.write("A zip, a folder, or a CSV with the columns file and pianist.")
        where = st.text_input(
            "Path", key="import_path", label_visibility="collapsed", placeholder="/music/pianists",
            help="It is read where it lies; nothing there is changed.",
        )  # fmt: skip
        asked = st.button(
            "Import the path", key="import_from", icon=":material/drive_folder_upload:", disabled=busy,
            help="Files that cannot be read are left out and listed; the rest comes in.",
        )  # fmt: skip
        if asked:
            if where.strip():
                source = Path(where.strip())
                _start(source.name, lambda progress: import_source(root, source, progress=progress))
                st.rerun()
            else:
                st.error("Give the path of a zip, a folder or a CSV.", icon=":material/error:")


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
        words += " Make a split of them under Splits, and they can be trained on."
    st.success(plain(words, 600), icon=":material/check_circle:")
    if report.skipped:
        with st.expander(f"{count(len(report.skipped), 'file was', 'files were')} left out"):
            rows = [{"File": skipped.name, "Reason": skipped.reason} for skipped in report.skipped]
            download(rows, key="skipped_csv", name="left_out")
            st.dataframe(
                [{name: one_line(text, 500) for name, text in row.items()} for row in rows[:1000]],
                hide_index=True, key="skipped", alt="Files that were left out, and why.",
            )  # fmt: skip


def import_upload(root: DataRoot, given: Any) -> None:
    """Copies an upload to the cache, imports it from there and removes the copy, all in the background."""
    name = os.path.basename(str(given.name).replace("\\", "/"))
    folder = root.cache_dir / "uploads" / uuid.uuid4().hex
    copy = folder / (name if name.lower().endswith(".zip") else "upload.zip")

    def work(progress: jobs.Progress) -> ImportReport:
        try:
            folder.mkdir(parents=True)
            with copy.open("wb") as file:
                shutil.copyfileobj(given, file, _CHUNK)
            return import_source(root, copy, progress=progress)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    _start(copy.name, work)


def _start(name: str, work: jobs.Work) -> None:
    """Begins an import, or says that one is running already."""
    title = f"Importing {name}"
    if jobs.start(IMPORT_JOB, title, work).title != title:
        state.complain(f"another import is running; bring in {name} when it has ended")
