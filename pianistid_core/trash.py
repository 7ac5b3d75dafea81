"""The trash of runs, in `checkpoints/.trash/`: what was discarded can be put back until the trash is emptied.

    .trash/<id>/discarded.json    which run it was, when it was discarded, its size
    .trash/<id>/run/              its folder, as it was

A run comes and goes by one renaming, so it is always in one place, whole.
"""

import json
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pianistid_core.atomic import write_atomically
from pianistid_core.errors import RunError
from pianistid_core.names import is_plain_name
from pianistid_core.runs import LATEST_S, PLACE_FILE, WAITING, Run
from pianistid_core.strict_json import parse_json

log = logging.getLogger(__name__)

TRASH = ".trash"
_ABOUT = "discarded.json"
_FOLDER = "run"
_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")


@dataclass(frozen=True)
class Discarded:
    """A run in the trash: `id` names it there, `run_id` is what it was called; `when` is in seconds since 1970."""

    id: str
    run_id: str
    when: float
    size_bytes: int


def discard(run: Run) -> Discarded:
    """Moves a run to the trash; one that may still train on a cluster is moved all the same, with a warning.

    Raises
    ------
    RunError
        When it is running, is gone, cannot be moved, or is not a run that this program made.
    """
    if not run.path.is_dir():
        raise RunError(f"run {run.id} is gone already; look at the list of runs again")
    with run.launching():  # nobody starts it meanwhile
        return _discard(run)


def _discard(run: Run) -> Discarded:
    if run.is_due():
        raise RunError(f"run {run.id} is still running; stop it first")
    if run.state().reason == WAITING:
        raise RunError(f"run {run.id} waits in the queue; take it out of the queue first")
    if not run.is_own():
        raise RunError(f"{run.path} was not made by this program, so it is left alone; remove it yourself")
    if (run.read_json(PLACE_FILE) or {}).get("outstanding"):
        log.warning("run %s may still train on its cluster; its trainer there ends by itself in a day", run.id)
    now = time.time()
    id = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{secrets.token_hex(4)}"
    folder = run.path.parent.parent / TRASH / id
    try:
        size = run.size_bytes()
        folder.mkdir(parents=True)
        about = {"run_id": run.id, "when": now, "size_bytes": size}
        write_atomically(folder / _ABOUT, json.dumps(about).encode())
        os.rename(run.path, folder / _FOLDER)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise RunError(f"run {run.id} cannot be moved to the trash: {error.strerror or error}") from error
    return Discarded(id, run.id, now, size)


def restore(checkpoints_dir: Path, id: str) -> Run:
    """Puts a discarded run back where it was.

    Raises
    ------
    RunError
        When it is not in the trash, or another run has its name by now.
    """
    found = next((one for one in discarded(checkpoints_dir) if one.id == id), None)
    if found is None:
        raise RunError(f"{id!r} is not in the trash; it was put back or removed for good already")
    experiment, name = found.run_id.split("/")
    target = checkpoints_dir / experiment / name
    if os.path.lexists(target):
        raise RunError(
            f"{found.run_id} cannot be put back, since another run has that name by now; "
            "discard or rename that one first, then try again"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(checkpoints_dir / TRASH / id / _FOLDER, target)
    except OSError as error:
        raise RunError(f"{found.run_id} cannot be put back: {error.strerror or error}") from error
    shutil.rmtree(checkpoints_dir / TRASH / id, ignore_errors=True)
    return Run(target)


def discarded(checkpoints_dir: Path) -> list[Discarded]:
    """What lies in the trash, the last discarded first; damaged leftovers are passed over."""
    try:
        names = [name for name in os.listdir(checkpoints_dir / TRASH) if _ID.fullmatch(name)]
    except OSError:
        return []
    found = [one for name in names if (one := _read(checkpoints_dir / TRASH / name)) is not None]
    return sorted(found, key=lambda one: (-one.when, one.id))


def empty(checkpoints_dir: Path, ids: Collection[str] | None = None) -> int:
    """Removes discarded runs for good, all or those of some ids, and gives how many were removed.

    Raises
    ------
    RunError
        When one cannot be removed.
    """
    n_removed = 0
    for one in discarded(checkpoints_dir):
        if ids is not None and one.id not in ids:
            continue
        try:
            shutil.rmtree(checkpoints_dir / TRASH / one.id)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise RunError(f"{one.run_id} cannot be removed from the trash: {error.strerror or error}") from error
        n_removed += 1
    return n_removed


def is_trash_id(name: str) -> bool:
    """Whether a folder of that name in the trash is one of a discarded run."""
    return _ID.fullmatch(name) is not None


def _read(folder: Path) -> Discarded | None:
    try:
        data = parse_json((folder / _ABOUT).read_bytes())
    except (OSError, ValueError):
        return None
    match data:
        case {"run_id": str(run_id), "when": float() | int() as when, "size_bytes": int(size)}:
            parts = run_id.split("/")
            if not 0 <= when < LATEST_S:
                when = 0.0  # damaged, but the run can be put back
            if len(parts) == 2 and all(map(is_plain_name, parts)) and (folder / _FOLDER).is_dir():
                return Discarded(folder.name, run_id, float(when), size)
    return None
