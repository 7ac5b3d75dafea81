"""The queue on disk: which runs wait, in which order, and how far each has come.

    waiting/<id>.json    an entry that nobody has taken yet       order.json         the ids in order
    claimed/<id>.json    taken by the dispatcher; its run has no process yet
    started/<id>.json    its run has a process; gone when that has ended
    paused               there while the queue is paused          lock               held for a moment by who changes it
    dispatcher.json, dispatcher.lock, log.txt                     who starts the next run, and what it did

An entry goes from one folder to the next by renaming, so it is in exactly one at any moment, whoever is killed when.
A run that waits names its entry in `queued.json`; an entry that its run does not name is void.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from pianistid_core.atomic import write_atomically
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import RunError
from pianistid_core.names import printable
from pianistid_core.places import Cluster, set_place
from pianistid_core.run_folder import QUEUE_FOLDER
from pianistid_core.runs import CONFIG_FILE, PLACE_FILE, QUEUED_FILE, REQUEST_FILE, WAITING, Run
from pianistid_core.strict_json import parse_json

Stage = Literal["waiting", "claimed", "started"]
_LOCK_WITHIN_S = 20.0
_RESTORED = ("state.json", REQUEST_FILE, PLACE_FILE)


class QueueFiles:
    """The files of one queue; nothing is made until something changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, root: DataRoot) -> "QueueFiles":
        """The queue of a data root, or, where the root cannot be written, beside its runs in the cache."""
        return cls(root.checkpoints_dir.parent / QUEUE_FOLDER)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Holds the queue for a moment, so that two that change it at once lose nothing.

        Raises
        ------
        RunError
            When the queue cannot be written, or somebody holds it for long.
        """
        lock = FileLock(self.folder / "lock")
        try:
            for stage in ("waiting", "claimed", "started"):
                (self.folder / stage).mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=_LOCK_WITHIN_S)
        except Timeout as error:
            raise RunError(f"the queue in {self.folder} is busy; try again in a moment") from error
        except OSError as error:
            raise RunError(f"the queue in {self.folder} cannot be written: {error.strerror or error}") from error
        try:
            yield
        finally:
            lock.release()

    # --- entries ---

    def path(self, stage: Stage, id: str) -> Path:
        """The file of an entry while it is in a stage."""
        return self.folder / stage / f"{id}.json"

    def ids(self, stage: Stage) -> list[str]:
        """The entries in a stage, the oldest first."""
        try:
            names = os.listdir(self.folder / stage)
        except FileNotFoundError:
            return []
        return sorted(name[:-5] for name in names if name.endswith(".json") and not name.startswith("."))

    def ordered(self) -> list[str]:
        """The waiting entries in their order; those that the order does not name come last, by age."""
        waiting = self.ids("waiting")
        try:
            order = parse_json((self.folder / "order.json").read_bytes())
        except (OSError, ValueError):
            return waiting
        known = order if isinstance(order, list) else []
        position = {id: n for n, id in enumerate(known) if isinstance(id, str)}
        return sorted(waiting, key=lambda id: (position.get(id, len(position)), id))

    def set_order(self, ids: list[str]) -> None:
        """Writes down in which order entries wait."""
        write_atomically(self.folder / "order.json", json.dumps(ids).encode())

    def read(self, stage: Stage, id: str) -> dict[str, Any] | None:
        """What an entry says; None when it is not in that stage, or damaged."""
        try:
            record = parse_json(self.path(stage, id).read_bytes())
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) else None

    def write(self, stage: Stage, id: str, record: Mapping[str, Any]) -> None:
        """Writes an entry."""
        write_atomically(self.path(stage, id), json.dumps(record).encode())

    def advance(self, id: str, before: Stage, after: Stage) -> None:
        """Moves an entry to its next stage. Raises: FileNotFoundError when it is not in the first."""
        os.rename(self.path(before, id), self.path(after, id))

    def drop(self, stage: Stage, id: str) -> bool:
        """Removes an entry from a stage; False when it was not there."""
        try:
            self.path(stage, id).unlink()
        except FileNotFoundError:
            return False
        return True

    # --- log ---

    def note(self, text: str) -> None:
        """Appends a line to the queue's log."""
        with contextlib.suppress(OSError), (self.folder / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {printable(text)}\n")


@dataclass(frozen=True)
class Place:
    """The place of a run in a queue that is held."""

    run: Run
    files: QueueFiles
    id: str

    def take(self) -> bool:
        """Takes the run out of the queue; False when it no longer waits."""
        if not self.files.drop("waiting", self.id):
            return False
        (self.run.path / QUEUED_FILE).unlink(missing_ok=True)
        return True


@contextmanager
def holding(run: Run) -> Iterator[Place | None]:
    """Holds the queue in which a run waits, if it does in one."""
    place = place_of(run)
    if place is None:
        yield None
        return
    with place.files.changing():
        yield place


def place_of(run: Run) -> Place | None:
    """The place that a run says it has in a queue; the entry may be gone."""
    folder, id = run.queue_entry() or (None, "")
    return None if folder is None else Place(run, QueueFiles(folder), id)


def leave(run: Run, place: Place | None) -> None:
    """Takes a run out of the queue, if it waits there, because somebody else trains it.

    Raises
    ------
    RunError
        When the queue is starting it.
    """
    if run.state().reason == WAITING and not (place is not None and place.take()):
        raise RunError(f"the queue is starting run {run.id} at this moment; look again in a few seconds")


def reserve(
    run: Run,
    files: QueueFiles,
    id: str,
    request: str,
    epochs: int,
    *,
    cluster: Cluster | None = None,
    anew: bool = False,
) -> dict[str, str | None]:
    """Makes a run one that waits, and gives what it takes to undo that: `put_back`'s `before`.

    It will train here or on a cluster, there by the trainer that it may have already, unless it starts `anew`.

    Raises
    ------
    OSError
        When the disk refuses, it being full for instance; the run is then what it was before.
    """
    before = {name: run.read_text(name) for name in _RESTORED}
    run.make()
    # By a relative path, so that a data root can be moved as a whole.
    folder = os.path.relpath(files.folder, run.path)
    try:
        run.save_json(QUEUED_FILE, {"queue": folder, "id": id})
        run.save_text(REQUEST_FILE, request)
        set_place(run, cluster, anew=anew)
        run.clear_stop()
        run.set_state("queued", WAITING, epochs=epochs)
    except OSError:
        with contextlib.suppress(OSError, RunError):
            put_back(run, before)
        raise
    return before


def put_back(run: Run, before: Mapping[str, str | None]) -> None:
    """Makes a run what it was before it waited: one that never trained is gone, with its folder."""
    if not run.path.is_dir():
        return
    (run.path / QUEUED_FILE).unlink(missing_ok=True)
    trained = run.checkpoints() or (run.path / CONFIG_FILE).exists() or (run.path / "metrics.jsonl").exists()
    if not trained and before.get("state.json") is None:
        run.delete()
        with contextlib.suppress(OSError):  # the experiment, when that was its only run
            run.path.parent.rmdir()
        return
    for name in _RESTORED:
        text = before.get(name)
        if text is None:
            (run.path / name).unlink(missing_ok=True)
        else:
            run.save_text(name, text)


def withdraw(run: Run) -> bool:
    """Takes a waiting run out of its queue and makes it what it was before; False when it does not wait any more."""
    with holding(run) as place:
        if place is None:
            return False
        record = place.files.read("waiting", place.id)
        if not place.take():
            return False
        put_back(run, (record or {}).get("before") or {})
    return True
