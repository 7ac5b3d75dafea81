"""The chosen runs as one file to take away, which the Backup page brings in elsewhere."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

import acts
import state
import who
from pianistid_core import audit
from pianistid_core.accounts import Role
from pianistid_core.backups.packing import write_backup
from pianistid_core.datasets.root import DataRoot
from pianistid_core.runs import Run

MOST_BYTES = 200 << 20
MOST_RUNS = 50


def button(ids: Sequence[str]) -> None:
    """Draws the button that packs runs when it is pressed; for what is large it names the command."""
    root, person = state.data_root(), who.me().name
    runs = [Run(root.checkpoints_dir / id) for id in ids[: MOST_RUNS + 1]]
    fits = len(runs) <= MOST_RUNS and sum(run.size_bytes() for run in runs) <= MOST_BYTES
    help = "Saves the chosen runs as one file, which Backup brings in elsewhere. One that trains is taken as it is now."
    if not fits:
        help = "These are over 200 MB or 50 runs. On the server: pianistid backup FILE --runs RUN ..."
    st.download_button(
        "Export", data=acts.handing_out(Role.RUN, "export", lambda: packed(root, runs, person)),
        file_name="runs.zip", mime="application/zip", key="bulk_export", type="tertiary",
        icon=":material/archive:", on_click="ignore", **acts.allowed(Role.RUN, help, off=not runs or not fits),
    )  # fmt: skip


def packed(root: DataRoot, runs: Sequence[Run], person: str) -> bytes:
    """The runs as the bytes of a backup that holds nothing else.

    Raises: RunError, DataRootError or ArchiveError when they cannot be packed.
    """
    with tempfile.TemporaryDirectory(prefix="pianistid-") as folder:
        target = Path(folder) / "runs.zip"
        write_backup(root, target, runs=runs, parts={"runs"})
        audit.note(root, person, "export", ", ".join(run.id for run in runs), where=audit.LAB)
        return target.read_bytes()
