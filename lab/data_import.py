"""How music comes into a data root: the demo, an upload, or a path on this machine."""

import os
import re
import shutil
import time
import uuid
from pathlib import Path
from typing import BinaryIO

import streamlit as st

import actions
import acts
import cached
import jobs
import state
from acts import acting
from components.tables import download
from pianistid_core.accounts import Role
from pianistid_core.datasets.importing import ImportReport, import_source
from pianistid_core.datasets.root import DataRoot
from wording import count, listed, one_line, plain

_CHUNK = 1 << 20
_UPLOAD, _PATH = "import_zip", "import_path"
_COPY = re.compile(r"[0-9a-f]{32}")
_LEFT_S = 24 * 3600.0  # an upload of this age belongs to no import any more: its server was killed


def import_job(root: DataRoot) -> str:
    """The name of the job that brings music into a data root."""
    return f"import:{root.path}"


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
    busy = any(job is not None and job.running for job in map(jobs.find, (actions.demo_job(root), import_job(root))))
    with demo.container(border=True, height="stretch"):
        st.subheader("The demo", anchor=False)
        st.write("Eight virtual pianists whose habits are known, composed here in a few seconds.")
        st.button(
            "Make demo data", key="make_demo", icon=":material/piano:",
            type="secondary" if "demo" in cached.contents(root).splits else "primary",
            on_click=actions.start_demo_data, args=(root,),
            **acts.allowed(Role.RUN, "Composes 128 short recordings into the data root.", off=busy),
        )  # fmt: skip
    with upload.container(border=True, height="stretch"):
        st.subheader("A zip", anchor=False)
        st.write("The paper's archive, or one folder of MIDI files for each pianist.")
        given = st.file_uploader(
            "Zip file", type=["zip"], key=_UPLOAD, label_visibility="collapsed",
            **acts.allowed(Role.RUN, "It is copied to the cache, read from there and removed again."),
        )  # fmt: skip
        st.button(
            "Import the zip", key="import_upload", icon=":material/upload:", on_click=import_upload, args=(root,),
            **acts.allowed(
                Role.RUN, "Files that cannot be read are left out and listed; the rest comes in.",
                off=busy or given is None,
            ),
        )  # fmt: skip
    with path.container(border=True, height="stretch"):
        st.subheader("A path on this machine", anchor=False)
        st.write("A zip, a folder, or a CSV with the columns file and pianist.")
        st.text_input(
            "Path", key=_PATH, label_visibility="collapsed", placeholder="/music/pianists",
            **acts.allowed(Role.ADMINISTER, "It is read where it lies; nothing there is changed."),
        )  # fmt: skip
        st.button(
            "Import the path", key="import_from", icon=":material/drive_folder_upload:", on_click=import_path,
            args=(root,),
            **acts.allowed(
                Role.ADMINISTER, "Files that cannot be read are left out and listed; the rest comes in.", off=busy
            ),
        )  # fmt: skip


def _progress(root: DataRoot) -> None:
    jobs.draw(actions.demo_job(root))
    job = jobs.draw(import_job(root))
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


@acting(Role.ADMINISTER, "import")
def import_path(root: DataRoot) -> None:
    """Imports what lies at the path that was typed, in the background; it may be any folder of the server."""
    where = str(st.session_state.get(_PATH) or "").strip()
    if not where:
        acts.refuse("give the path of a zip, a folder or a CSV")
        return
    source = Path(where)
    _start(root, source.name, lambda progress: import_source(root, source, progress=progress))


@acting(Role.RUN, "import")
def import_upload(root: DataRoot) -> None:
    """Copies the upload to the cache, imports it from there and removes the copy, all in the background."""
    given = st.session_state.get(_UPLOAD)
    if given is None:
        acts.refuse("choose a zip first")
        return
    take_upload(root, given)


def take_upload(root: DataRoot, given: BinaryIO) -> None:
    """Imports an upload, which has a name, in the background."""
    name = os.path.basename(str(given.name).replace("\\", "/"))
    uploads = root.cache_dir / "uploads"
    folder = uploads / uuid.uuid4().hex
    fits = name.lower().endswith(".zip") and len(os.fsencode(name)) < 200
    copy = folder / (name if fits else "upload.zip")

    def work(progress: jobs.Progress) -> ImportReport:
        try:
            _clear(uploads)
            folder.mkdir(parents=True)
            with copy.open("wb") as file:
                shutil.copyfileobj(given, file, _CHUNK)
            return import_source(root, copy, progress=progress)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    _start(root, copy.name, work)


def _clear(uploads: Path) -> None:
    """Removes what imports have left that were killed long ago; never a folder that is no copy of ours, nor a link."""
    for folder in uploads.glob("*") if uploads.is_dir() else ():
        try:
            old = time.time() - folder.lstat().st_mtime > _LEFT_S
        except OSError:
            continue
        if old and _COPY.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder, ignore_errors=True)


def _start(root: DataRoot, name: str, work: jobs.Work) -> None:
    """Begins an import, or says that one is running already."""
    title = f"Importing {name}"
    if jobs.start(import_job(root), title, work, about=name).title != title:
        state.complain(f"another import is running; bring in {name} when it has ended")
