"""Backups: made of the whole data root, kept on its shelf, checked, taken away, and brought in."""

import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import streamlit as st

import actions
import acts
import jobs
import who
from acts import acting
from components.empty import show_empty
from components.tables import forget_ticks_of_another_list
from pianistid_core.accounts import Role
from pianistid_core.backups.layout import PARTS, Part
from pianistid_core.backups.manifest import Contents
from pianistid_core.backups.opening import check_backup
from pianistid_core.backups.packing import OnProgress, Packed, write_backup
from pianistid_core.backups.restoring import Restored, restore
from pianistid_core.backups.shelf import Kept, kept_backups, place_for, remove, shelf_of
from pianistid_core.datasets.root import DataRoot
from wording import count, listed, one_line, plain

MOST_DOWNLOADED = 200 << 20
_CHUNK = 1 << 20
_UPLOAD, _PATH, _RENAME = "restore_zip", "restore_path", "restore_rename"
_TABLE = "backups_table"
# What somebody who may run things, but not administer, brings in: music and runs, and nothing that changes the lab.
_OF_RUNNERS: tuple[Part, ...] = ("data", "runs")
_CHOICES: tuple[tuple[Part, str, str], ...] = (
    ("data", "Music and splits", "Without them it holds runs alone, to be restored where the music is."),
    ("trash", "Trash", "Runs that were thrown away and not yet removed for good."),
    ("mlflow", "MLflow store", "Its database and files; runs are complete without it."),
)


def draw(root: DataRoot) -> None:
    """Draws what can be made, what there is, and the way in."""
    job = jobs.draw(_job(root))
    if job is not None and job.error is None:
        _result(job.result)
    busy = (found := jobs.find(_job(root))) is not None and found.running
    if who.may(Role.ADMINISTER):
        _make(root, busy)
        _shelf(root, busy)
    _bring_in(root, busy)


def _make(root: DataRoot, busy: bool) -> None:
    st.header("Make a backup", anchor=False)
    with st.container(border=True, key="backup_make"):
        st.write("Every run with its checkpoints and results, labels, settings and the audit log go into one file.")
        with st.container(horizontal=True, key="backup_parts"):
            for part, label, help in _CHOICES:
                st.checkbox(label, value=True, key=f"backup_{part}", help=help)
        st.button(
            "Make a backup", key="backup_start", icon=":material/archive:", type="primary", on_click=make, args=(root,),
            **acts.allowed(Role.ADMINISTER, "Runs that train are taken at their last checkpoint.", off=busy),
        )  # fmt: skip
        st.caption(plain(f"It is kept in {shelf_of(root)}. Passwords of accounts are not in it.", 400))


def _shelf(root: DataRoot, busy: bool) -> None:
    st.header("Backups here", anchor=False)
    found = kept_backups(root)
    if not found:
        show_empty(":material/inventory_2:", "No backup yet", "Those that are made here stand in a list.", key="shelf")
        return
    forget_ticks_of_another_list(_TABLE, tuple(one.name for one in found))
    bar = st.container(key="shelf_bar")
    event = st.dataframe(
        pd.DataFrame(
            {
                "Backup": [one_line(one.name) for one in found],
                "Made": pd.to_datetime([one.made for one in found], unit="s"),
                "Size": [one.bytes / 2**20 for one in found],
            }
        ),
        hide_index=True, key=_TABLE, on_select="rerun", selection_mode="single-row", alt="Backups in this data root.",
        height=35 * min(len(found), 12) + 38,
        column_config={
            "Backup": st.column_config.TextColumn(width="large", help="The name of its file."),
            "Made": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm", help="When it was made."),
            "Size": st.column_config.NumberColumn(format="%.1f MB", help="What its file takes."),
        },
    )  # fmt: skip
    rows = [row for row in event["selection"]["rows"] if row < len(found)]
    with bar, st.container(horizontal=True, vertical_alignment="center"):
        _do(root, found[rows[0]] if rows else None, busy)


def _do(root: DataRoot, chosen: Kept | None, busy: bool) -> None:
    """What can be done with the chosen backup."""
    name = "" if chosen is None else chosen.name
    st.markdown(plain(f"{name} is chosen" if name else "Choose a backup in the list."), width="content")
    st.button(
        "Check", key="backup_check", icon=":material/verified:", on_click=check, args=(root, name),
        **acts.allowed(Role.ADMINISTER, "Compares every file in it with its SHA-256.", off=busy or chosen is None),
    )  # fmt: skip
    small = chosen is not None and chosen.bytes <= MOST_DOWNLOADED
    help = "Saves it to your computer." if small or chosen is None else "It is large: copy the file itself."
    st.download_button(
        "Download", data=acts.handing_out(Role.ADMINISTER, "backup download", lambda: _bytes_of(chosen)),
        file_name=name or "backup.zip", mime="application/zip", key="backup_download", icon=":material/download:",
        on_click="ignore", **acts.allowed(Role.ADMINISTER, help, off=not small),
    )  # fmt: skip
    with st.popover(
        "Delete",
        key="backup_delete_menu",
        icon=":material/delete:",
        disabled=chosen is None,
        help="Removes it for good.",
    ):
        st.write(plain(f"This removes {name} from disk. It cannot be undone."))
        st.button(
            "Remove for good", key="backup_delete", type="primary", on_click=delete, args=(root, name),
            **acts.allowed(Role.ADMINISTER, "Frees the disk space.", off=chosen is None),
        )  # fmt: skip


def _bytes_of(chosen: Kept | None) -> bytes:
    return b"" if chosen is None else chosen.path.read_bytes()


def _bring_in(root: DataRoot, busy: bool) -> None:
    st.header("Bring one in", anchor=False)
    st.write("A backup, or a run that was exported. What is here already is never overwritten.")
    upload, path = st.columns(2, gap="medium")
    with upload.container(border=True, height="stretch"):
        st.subheader("A file", anchor=False)
        given = st.file_uploader(
            "Backup", type=["zip"], key=_UPLOAD, label_visibility="collapsed",
            help="Every file in it is compared with its SHA-256 before anything comes in.",
        )  # fmt: skip
        st.button(
            "Restore the file", key="restore_upload", icon=":material/upload:", on_click=bring_upload, args=(root,),
            **acts.allowed(Role.RUN, "Brings its runs and music in.", off=busy or given is None),
        )  # fmt: skip
    with path.container(border=True, height="stretch"):
        st.subheader("A path on the server", anchor=False)
        st.text_input(
            "Path", key=_PATH, label_visibility="collapsed", placeholder="/backups/lab.zip",
            disabled=not who.may(Role.ADMINISTER), help="For those that are too large to be uploaded.",
        )  # fmt: skip
        st.button(
            "Restore the path", key="restore_from", icon=":material/drive_folder_upload:", on_click=bring_path,
            args=(root,), **acts.allowed(Role.ADMINISTER, "Also brings settings in that are missing.", off=busy),
        )  # fmt: skip
    st.checkbox(
        "Give runs whose name is taken another name", key=_RENAME,
        help="Otherwise nothing comes in when another run has the name of one of them.",
    )  # fmt: skip


def _result(result: object) -> None:
    """What came of the last job."""
    if isinstance(result, Packed):
        words = f"{result.path.name} is made: {_held(result.contents)}"
        live = result.contents.live
        st.success(plain(f"{words}, {result.bytes / 2**20:,.1f} MB", 400), icon=":material/check_circle:")
        if live:
            st.info(plain(f"{listed(live, 3)} still trained and was taken at the last checkpoint.", 400))
        for one in result.left_out[:5]:
            st.warning(plain(f"Left out: {one}", 400))
        if result.twins:
            names = listed(result.twins, 3)
            st.warning(
                plain(f"Some disks take {names} for another name of the backup; restore it on one like this.", 400)
            )
    elif isinstance(result, Contents):
        st.success(plain(f"It is whole: {_held(result)}, each as it was packed.", 400), icon=":material/verified:")
    elif isinstance(result, Restored):
        words = f"{count(len(result.runs), 'run')} and {count(len(result.splits), 'split')} came in"
        words += f"; {result.already:,} things were here already" if result.already else ""
        st.success(plain(f"{words}.", 400), icon=":material/check_circle:")
        for before, now in list(result.renamed.items())[:10]:
            st.info(plain(f"{before} is here as {now}.", 400))
        for note in result.notes[:5]:
            st.info(plain(note[:1].upper() + note[1:] + ".", 400))


def _held(contents: Contents) -> str:
    return f"{count(len(contents.runs), 'run')}, {count(len(contents.entries), 'file')}"


def _job(root: DataRoot) -> str:
    return f"backup:{root.path}"


@acting(Role.ADMINISTER, "backup")
def make(root: DataRoot) -> None:
    """Makes a backup in the background."""
    without = {part for part, _, _ in _CHOICES if not st.session_state.get(f"backup_{part}", True)}
    parts = [part for part in PARTS if part not in without]

    def work(progress: jobs.Progress) -> Packed:
        return write_backup(root, place_for(root), parts=parts, on_progress=_in_megabytes(progress))

    _start(root, "Making a backup", work, "the data root")


@acting(Role.ADMINISTER, "backup check")
def check(root: DataRoot, name: str) -> None:
    """Checks a backup in the background."""
    path = shelf_of(root) / _known(root, name)
    _start(root, f"Checking {name}", lambda progress: check_backup(path, _in_megabytes(progress)), name)


@acting(Role.ADMINISTER, "backup delete")
def delete(root: DataRoot, name: str) -> None:
    """Removes a backup for good."""
    actions.attempt(lambda: remove(root, name), "The backup is removed.", about=name)


@acting(Role.ADMINISTER, "restore")
def bring_path(root: DataRoot) -> None:
    """Restores what lies at the path that was typed, in the background."""
    where = str(st.session_state.get(_PATH) or "").strip()
    if not where:
        acts.refuse("give the path of a backup")
        return
    source, rename = Path(where), bool(st.session_state.get(_RENAME))
    _start(
        root, f"Restoring {source.name}",
        lambda progress: restore(source, root, rename=rename, on_progress=_in_megabytes(progress)), where,
    )  # fmt: skip


@acting(Role.RUN, "restore")
def bring_upload(root: DataRoot) -> None:
    """Copies the upload to the cache, restores it from there and removes the copy, all in the background."""
    given, rename = st.session_state.get(_UPLOAD), bool(st.session_state.get(_RENAME))
    if given is None:
        acts.refuse("choose a backup first")
        return
    everything = who.may(Role.ADMINISTER)
    without: Sequence[Part] = [part for part in PARTS if not everything and part not in _OF_RUNNERS]
    folder = root.cache_dir / "uploads" / uuid.uuid4().hex
    name = one_line(os.path.basename(str(given.name).replace("\\", "/")), 80)

    def work(progress: jobs.Progress) -> Restored:
        try:
            folder.mkdir(parents=True)
            with (folder / "backup.zip").open("wb") as file:
                shutil.copyfileobj(given, file, _CHUNK)
            return restore(
                folder / "backup.zip", root, without=without, rename=rename, on_progress=_in_megabytes(progress)
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    _start(root, f"Restoring {name}", work, name)


def _in_megabytes(progress: jobs.Progress) -> OnProgress:
    return lambda done, total: progress(done >> 20, max(total >> 20, 1))


def _known(root: DataRoot, name: str) -> str:
    """The name of a backup on the shelf; what else a session may say is none."""
    return name if name in {one.name for one in kept_backups(root)} else "gone"


def _start(root: DataRoot, title: str, work: jobs.Work, about: str) -> None:
    if jobs.start(_job(root), title, work, about=about).title != title:
        acts.refuse("another backup is being made, checked or restored; try again when it has ended", about)
