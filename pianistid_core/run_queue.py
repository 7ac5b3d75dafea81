"""The queue of a data root: runs that wait, and the process that starts them: here one after the other.

The dispatcher is a process of its own (`python -m pianistid_core.run_queue ROOT CACHE`) that outlives page, server and
terminal. It holds `dispatcher.lock` while it lives, starts the next run when nothing trains in this data root, and ends
when nothing waits. Runs for a cluster wait for nobody here: they are handed over in their order, up to 16 at a time,
and Ray gives them their turns there. Killed at any moment, the next one goes on from the files: a claimed entry is
started again (whose process takes the claim away first trains), a started one is only waited for.
"""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from pianistid_core.atomic import write_atomically
from pianistid_core.config import RunConfig, parse_config, to_dict, to_yaml
from pianistid_core.credentials import fit_to_show
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import ConfigError, PianistIDError, RunError
from pianistid_core.ladder import apart
from pianistid_core.launch import start_claimed
from pianistid_core.places import Cluster, checked, cluster_from, cluster_of, require_free
from pianistid_core.processes import ProcessIdentity
from pianistid_core.queue_files import QueueFiles, Stage, put_back, reserve
from pianistid_core.run_config import resumable_checkpoint, run_for
from pianistid_core.runs import QUEUED_FILE, WAITING, Run, find_runs
from pianistid_core.strict_json import parse_json

__all__ = ["QueueEntry", "RunQueue", "dispatch"]

Lane = Literal["here", "cluster"]
MOST_ON_CLUSTERS = 16
_LOOK_EVERY_S = 0.5
_MAX_LOG_BYTES = 1 << 20


@dataclass(frozen=True)
class QueueEntry:
    """A run that waits: its entry's id, its own ("experiment/run"), since when, what it will train, and where.

    Without a cluster it trains on this machine.
    """

    id: str
    run_id: str
    queued: float
    config: RunConfig
    epochs: int
    cluster: Cluster | None = None


class RunQueue:
    """The runs that wait in a data root; everything is read from disk when asked for."""

    def __init__(self, root: DataRoot) -> None:
        self.root = root
        self.files = QueueFiles.of(root)
        self._read: dict[str, QueueEntry] = {}

    # --- what waits ---

    def add(self, configs: Sequence[RunConfig], *, cluster: Cluster | None = None) -> list[QueueEntry]:
        """Puts runs at the end of the queue, each with its folder, and sees to it that they will be started.

        They train on this machine, or on a cluster.

        Raises
        ------
        RunError
            When any of them cannot be queued: a name that is running, waits already or is given twice, a run trained
            with another config or perhaps still on another cluster, a split that is not there. All of them are named,
            and nothing is written.
        ClusterError
            When the cluster is not described as one can be.
        """
        cluster = None if cluster is None else checked(cluster, self.root)
        frozen = [self._with_absolute_folder(fit_to_show(config, self.root)) for config in configs]
        if not frozen:
            return []
        problems = self._problems(frozen, cluster)
        if not problems:
            requests = [to_yaml(config) for config in frozen]
            with self.files.changing():
                # Looked at again: another page may have queued the same meanwhile.
                problems = self._problems(frozen, cluster)
                if not problems:
                    entries = self._written(frozen, requests, cluster)
        if problems:
            raise RunError("; ".join(problems))
        self.wake()
        return entries

    def entries(self) -> list[QueueEntry]:
        """The runs that wait, in the order in which they will be started."""
        found = (self._entry("waiting", id) for id in self.files.ordered())
        return [entry for entry in found if entry is not None and self._is_wanted(entry)]

    def move(self, id: str, to: int) -> None:
        """Moves an entry to a place in the order, 0 being the next to be started.

        Raises
        ------
        RunError
            When it does not wait any more.
        """
        with self.files.changing():
            ids = [entry.id for entry in self.entries()]
            if id not in ids:
                raise RunError(_gone(id))
            ids.remove(id)
            ids.insert(max(0, min(to, len(ids))), id)
            self.files.set_order(ids)

    def remove(self, id: str) -> None:
        """Takes an entry out of the queue; a run that never trained leaves no folder behind.

        Raises
        ------
        RunError
            When it does not wait any more.
        """
        with self.files.changing():
            entry, record = self._entry("waiting", id), self.files.read("waiting", id)
            if not self.files.drop("waiting", id):
                raise RunError(_gone(id))
            if entry is not None and record is not None and self._is_wanted(entry):
                put_back(run_for(entry.config, self.root), record.get("before") or {})

    # --- starting ---

    @property
    def paused(self) -> bool:
        """Whether no further run is started for now; one that trains goes on."""
        return (self.files.folder / "paused").exists()

    def pause(self) -> None:
        """Starts no further run until `unpause`."""
        with self.files.changing():
            write_atomically(self.files.folder / "paused", b"")

    def unpause(self) -> None:
        """Goes on with starting runs."""
        with self.files.changing():
            (self.files.folder / "paused").unlink(missing_ok=True)
        self.wake()

    def wake(self) -> None:
        """Makes sure that the dispatcher lives when there is something for it to do; costs next to nothing else."""
        if not self._has_work() or self._dispatcher_lives():
            return
        with self.files.changing():
            if not self._dispatcher_lives():
                self._start_dispatcher()

    def _has_work(self) -> bool:
        files = self.files
        begun = bool(files.ids("claimed") or files.ids("started"))
        return begun or (bool(files.ids("waiting")) and not self.paused)

    def _dispatcher_lives(self) -> bool:
        try:
            said = parse_json((self.files.folder / "dispatcher.json").read_bytes())
        except (OSError, ValueError):
            return False
        dispatcher = ProcessIdentity.from_json(said)
        return dispatcher is not None and dispatcher.alive()

    def _start_dispatcher(self) -> None:
        log = self.files.folder / "log.txt"
        if log.exists() and log.stat().st_size > _MAX_LOG_BYTES:
            os.replace(log, log.with_name("log.old.txt"))
        command = [sys.executable, "-m", "pianistid_core.run_queue", str(self.root.path), str(self.root.cache_dir)]
        with log.open("ab") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, **apart()},
            )  # fmt: skip
        self.note_dispatcher(process.pid)

    def note_dispatcher(self, pid: int | None = None) -> None:
        """Writes down which process starts the runs; this one by default."""
        identity = ProcessIdentity.of(pid)
        if identity is not None:
            write_atomically(self.files.folder / "dispatcher.json", json.dumps(asdict(identity)).encode())

    # --- adding ---

    def _with_absolute_folder(self, config: RunConfig) -> RunConfig:
        """The config with its folder of runs said in full: the dispatcher has another working directory."""
        if not config.checkpoint_cfg.checkpoint_dir:
            return config
        folder = str(run_for(config, self.root).path.parent.parent)
        return replace(config, checkpoint_cfg=replace(config.checkpoint_cfg, checkpoint_dir=folder))

    def _problems(self, configs: Sequence[RunConfig], cluster: Cluster | None) -> list[str]:
        problems: dict[str, None] = {}  # each sentence once, in order
        seen: set[Path] = set()
        splits: set[str] = set()
        for config in configs:
            run = run_for(config, self.root)
            try:
                if config.data_split_dir not in splits:
                    self.root.split(config.data_split_dir)
                    splits.add(config.data_split_dir)
                _check_free(run, seen)
                require_free(run, cluster, anew=not config.checkpoint_cfg.load_checkpoints)
                resumable_checkpoint(config, run)
            except PianistIDError as error:
                problems[str(error)] = None
            seen.add(run.path)
        return list(problems)

    def _written(
        self, configs: Sequence[RunConfig], requests: Sequence[str], cluster: Cluster | None
    ) -> list[QueueEntry]:
        now = time.time()
        entries: list[QueueEntry] = []
        befores: list[dict[str, str | None]] = []
        try:
            for number, (config, request) in enumerate(zip(configs, requests, strict=True)):
                run = run_for(config, self.root)
                # Sorted by name they are sorted by age.
                id = f"{time.time_ns():020d}-{number:04d}-{secrets.token_hex(4)}"
                with _launching(run):
                    anew = not config.checkpoint_cfg.load_checkpoints
                    before = reserve(run, self.files, id, request, config.epochs, cluster=cluster, anew=anew)
                record = {"id": id, "run": run.id, "queued": now, "config": to_dict(config), "before": before}
                record |= {"cluster": asdict(cluster)} if cluster else {}
                entries.append(QueueEntry(id, run.id, now, config, config.epochs, cluster))
                befores.append(before)
                self.files.write("waiting", id, record)
        except (OSError, RunError) as error:
            for entry, before in zip(entries, befores, strict=True):
                self.files.drop("waiting", entry.id)
                put_back(run_for(entry.config, self.root), before)
            if isinstance(error, RunError):  # a folder of one of them cannot be made, and it says so
                raise
            raise RunError(f"the queue cannot be written: {error.strerror or error}") from error
        return entries

    def _entry(self, stage: Stage, id: str) -> QueueEntry | None:
        if id in self._read and self.files.path(stage, id).exists():
            return self._read[id]
        record = self.files.read(stage, id)
        if record is None:
            return None
        try:
            config = parse_config(record["config"], source=f"queue entry {id}")
            cluster = cluster_from(record.get("cluster"))
            entry = QueueEntry(id, str(record["run"]), float(record["queued"]), config, config.epochs, cluster)
        except (ConfigError, KeyError, TypeError, ValueError):
            return None
        if cluster is None and record.get("cluster") is not None:
            return None  # damaged; it was not meant for this machine
        self._read[id] = entry
        return entry

    def _is_wanted(self, entry: QueueEntry) -> bool:
        """Whether the entry's run still says that it waits there; a run that was deleted does not."""
        place = run_for(entry.config, self.root).queue_entry()
        return place is not None and place[1] == entry.id


# --- the dispatcher --------------------------------------------------------------------------------------------------


class _Dispatcher:
    """What the process does that starts the runs."""

    def __init__(self, queue: RunQueue) -> None:
        self.queue, self.files = queue, queue.files

    def run(self) -> None:
        """Starts waiting runs, each when its turn has come, until none is left or the queue is paused."""
        lock = FileLock(self.files.folder / "dispatcher.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return
        with self.files.changing():
            self.queue.note_dispatcher()
        while True:
            for id in self.files.ids("claimed"):
                self.begin(id)
            for id in self.files.ids("started"):
                self.see_off(id)
            free = self.free_lanes()
            with self.files.changing():
                if not self.claim_next(free) and self.is_done():
                    # Still holding the queue, so that whoever adds the next entry finds no dispatcher and starts one.
                    (self.files.folder / "dispatcher.json").unlink(missing_ok=True)
                    lock.release()
                    return
            if not self.files.ids("claimed"):
                # Looking whether a run that was started by hand has ended reads the state of each.
                time.sleep(_LOOK_EVERY_S if self.files.ids("started") else 2 * _LOOK_EVERY_S)

    def is_done(self) -> bool:
        """Whether nothing is left to wait for: no run that was begun, and none that may be."""
        begun = self.files.ids("claimed") or self.files.ids("started")
        return not begun and (self.queue.paused or not self.files.ids("waiting"))

    def free_lanes(self) -> set[Lane]:
        """Where one more run may be started: on this machine one trains at a time."""
        if self.queue.paused or not self.files.ids("waiting"):
            return set()
        found = [self.queue._entry(stage, id) for stage in ("claimed", "started") for id in self.files.ids(stage)]
        begun = [_lane(entry) for entry in found if entry is not None]
        free: set[Lane] = {"cluster"} if begun.count("cluster") < MOST_ON_CLUSTERS else set()
        return free | ({"here"} if "here" not in begun and not _anything_trains(self.queue.root) else set())

    def claim_next(self, free: set[Lane]) -> bool:
        """Takes the next entry whose turn it is, so that nobody else starts, moves or removes it."""
        for id in self.files.ordered() if free and not self.queue.paused else []:
            entry = self.queue._entry("waiting", id)
            if entry is None or not self.queue._is_wanted(entry):
                self.files.note(f"{id} is left out: its run is gone or it cannot be read")
                self.files.drop("waiting", id)
            elif _lane(entry) in free:
                self.files.advance(id, "waiting", "claimed")
                return True
        return False

    def begin(self, id: str) -> None:
        """Starts the run of a claimed entry and waits until it has a process, or stands as failed."""
        entry = self.queue._entry("claimed", id)
        if entry is None:
            self.files.note(f"{id} is left out: it cannot be read")
            self.files.drop("claimed", id)
            return
        run = run_for(entry.config, self.queue.root)
        try:
            claim = self.files.path("claimed", id)
            process = start_claimed(entry.config, self.queue.root, claim, cluster=entry.cluster)
        except (PianistIDError, OSError) as error:
            self._fail(id, run, entry, str(error))
            return
        self.files.note(f"{entry.run_id} starts")
        if process is not None:
            while process.poll() is None and self.files.path("claimed", id).exists():
                time.sleep(_LOOK_EVERY_S / 5)
            if self.files.path("claimed", id).exists():
                self._fail(id, run, entry, f"it could not start: {run.log_tail(1) or 'its process ended at once'}")

    def _fail(self, id: str, run: Run, entry: QueueEntry, reason: str) -> None:
        with contextlib.suppress(PianistIDError, OSError), _launching(run):
            # Not while a supervisor takes the claim after all.
            if self.files.path("claimed", id).exists():
                self.files.note(f"{entry.run_id} failed: {reason}")
                run.set_state("failed", reason, epochs=entry.epochs)
                self.files.drop("claimed", id)
        self.files.drop("claimed", id)

    def see_off(self, id: str) -> None:
        """Takes a started entry away, if its run has ended."""
        record = self.files.read("started", id) or {}
        supervisor = ProcessIdentity.from_json(record.get("process"))
        entry = self.queue._entry("started", id)
        run = None if entry is None else run_for(entry.config, self.queue.root)
        if (supervisor is not None and supervisor.alive()) or (run is not None and _has_process(run)):
            return
        if entry is not None and run is not None:
            state = run.state()
            self.files.note(f"{entry.run_id} {state.status}{': ' + state.reason if state.reason else ''}")
            if self.queue._is_wanted(entry):
                (run.path / QUEUED_FILE).unlink(missing_ok=True)
        self.queue._read.pop(id, None)
        self.files.drop("started", id)


def dispatch(root: DataRoot) -> None:
    """Starts waiting runs, each when its turn has come, until none is left or the queue is paused.

    It ends at once when another process does that already.
    """
    # What ends a terminal or a server is not meant for the queue.
    for number in (signal.SIGINT, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])):
        signal.signal(number, signal.SIG_IGN)
    _Dispatcher(RunQueue(root)).run()


def _lane(entry: QueueEntry) -> Lane:
    return "here" if entry.cluster is None else "cluster"


def _check_free(run: Run, seen: set[Path]) -> None:
    if run.path in seen:
        raise RunError(f"run {run.id} is given twice; give each run a name of its own")
    if run.is_due():
        raise RunError(f"run {run.id} is already running; stop it first, or choose another run name")
    if run.state().reason == WAITING:
        raise RunError(f"run {run.id} already waits in the queue; remove it there first, or choose another run name")


def _launching(run: Run) -> contextlib.AbstractContextManager[Any]:
    run.make()
    return run.launching()


def _anything_trains(root: DataRoot) -> bool:
    """Whether a run trains, or is about to, on this machine."""
    for run in find_runs(root.checkpoints_dir):
        if cluster_of(run) is not None:
            continue
        said = run.read_json("state.json") or {}
        if said.get("status") == "running" and _has_process(run):
            return True
        if said.get("status") == "queued" and run.is_due():
            return True
    return False


def _has_process(run: Run) -> bool:
    """Whether a process trains a run; cheaper than its whole state."""
    trainer = run.trainer()
    return trainer is not None and trainer.alive()


def _gone(id: str) -> str:
    return f"entry {id!r} does not wait in the queue any more: it was started or removed"


if __name__ == "__main__":
    dispatch(DataRoot(Path(sys.argv[1]), Path(sys.argv[2])))
