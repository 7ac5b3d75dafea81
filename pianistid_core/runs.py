"""The run directory: the only file that knows what lies in `checkpoints/<experiment>/<run>/`.

    config.yaml             the resolved config, complete            figures/epoch_005_confusionmatrix.png
    request.yaml            what a background start was asked for    confusion/epoch_005.json
    queued.json             its entry in the queue, while it waits
    run.json                when and by what it was made             mlflow.json   its MLflow run
    state.json              what the trainer last said of itself     evaluation/<split>.json, ablation/<split>.json
    exit.json               how the trainer's process ended          checkpoint_010.pth       after 10 epochs
    progress.json           where it is right now                    checkpoint_010_batch_00042.pth   in the middle
    metrics.jsonl           one line an epoch, appended              stop                     a request to stop
    environment.json, data.json, log.txt                             lock, launch.lock        who may train, start
    labels.json             tags, note, star, archive

A run's state is derived from this evidence each time it is asked for: a trainer that vanished is shown as such,
whatever it last wrote about itself.
"""

import json
import logging
import os
import re
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pianistid_core.atomic import replacing, write_atomically
from pianistid_core.confusion import Confusion as Confusion
from pianistid_core.confusion import RecordingOutcome as RecordingOutcome
from pianistid_core.errors import RunError
from pianistid_core.metrics_log import Curves, finite_number, last_row, row_of, shared_log
from pianistid_core.processes import ProcessIdentity
from pianistid_core.run_labels import RunLabels as RunLabels
from pianistid_core.run_log import Failure as Failure
from pianistid_core.run_log import LogLine as LogLine
from pianistid_core.run_log import chosen, failure_of, read_lines

log = logging.getLogger(__name__)

Status = Literal["queued", "running", "finished", "stopped", "failed", "interrupted"]
StopKind = Literal["save", "finish", "discard"]
STATUSES: tuple[Status, ...] = ("queued", "running", "finished", "stopped", "failed", "interrupted")
STOP_KINDS: tuple[StopKind, ...] = ("save", "finish", "discard")
CONFIG_FILE = "config.yaml"
REQUEST_FILE = "request.yaml"
METRICS_FILE = "metrics.jsonl"
LABELS_FILE = "labels.json"
SPARKLINE_VALUES = 30
QUEUED_FILE = "queued.json"
STARTING = "starting"
WAITING = "waiting in the queue"
_START_WITHIN_S = 60.0
_LAST_LOG_LINES = 20
_LAST_LOG_BYTES = 1 << 18
_CHECKPOINT = re.compile(r"checkpoint_(\d+)(?:_batch_(\d+))?\.pth")
_EPOCH_FILE = re.compile(r"epoch_(\d+)")
_CONFUSION = re.compile(r"epoch_\d+|[a-z]+")


@dataclass(frozen=True)
class RunState:
    """What is true of a run now. `epoch` counts completed epochs; times are seconds since 1970."""

    status: Status
    reason: str = ""
    epoch: int = 0
    epochs: int = 0
    started: float | None = None
    updated: float | None = None
    pid: int | None = None

    def is_due(self) -> bool:
        """Whether the run has a process, or was just started and will have one."""
        return self.status == "running" or (self.status == "queued" and self.reason == STARTING)


@dataclass(frozen=True)
class RunSummary:
    """One line of a list of runs; `sparkline` holds at most 30 test recording accuracies, evenly over its epochs."""

    id: str
    path: Path
    state: RunState
    best_recording_accuracy: float | None
    last: Mapping[str, Any]
    created: float
    labels: RunLabels = field(default_factory=RunLabels)
    sparkline: tuple[float, ...] = ()
    seconds: float = 0.0


class Run:
    """One run directory; everything is read from disk when asked for, so that any process sees the same."""

    def __init__(self, path: Path) -> None:
        self.path = path

    # --- find and make ---

    @classmethod
    def create(cls, checkpoints_dir: Path, experiment: str, name: str) -> "Run":
        """Makes the directory of a run, or takes the one that is there; see `make`."""
        run = cls(checkpoints_dir / experiment / name)
        run.make()
        return run

    def make(self) -> None:
        """Makes the run's directory, if it is not there yet.

        Raises
        ------
        RunError
            When the directory cannot be written.
        """
        try:
            for folder in ("figures", "confusion"):
                (self.path / folder).mkdir(parents=True, exist_ok=True)
            if not (self.path / "run.json").exists():
                name = {"experiment": self.path.parent.name, "run": self.path.name}
                self._write_json("run.json", {**name, "created": time.time()})
        except OSError as error:
            raise RunError(
                f"cannot write the run folder {self.path} ({error.strerror or error}); "
                "choose another with --set checkpoint_cfg.checkpoint_dir=FOLDER"
            ) from error

    def is_own(self) -> bool:
        """Whether this program made the directory, as a run of that name; a published checkpoint's is not."""
        made = self._read_json("run.json") or {}
        return (made.get("experiment"), made.get("run")) == (self.path.parent.name, self.path.name)

    @classmethod
    def open(cls, path: Path) -> "Run":
        """The run in a directory.

        Raises
        ------
        RunError
            When there is no run in it.
        """
        run = cls(Path(path))
        if not run.is_run():
            raise RunError(f"{str(path)!r} is not a run: it holds no config.yaml, run.json or checkpoint")
        return run

    @classmethod
    def find(cls, checkpoints_dir: Path, id: str) -> "Run":
        """The run named "experiment/run".

        Raises
        ------
        RunError
            When there is none of that name; the message lists close ones.
        """
        parts = id.split("/")
        if len(parts) == 2 and all(part and not part.startswith(".") and "\\" not in part for part in parts):
            run = cls(checkpoints_dir / parts[0] / parts[1])
            if run.is_run():
                return run
        known = [run.id for run in find_runs(checkpoints_dir)]
        listed = ", ".join(known[:5]) + (", ..." if len(known) > 5 else "") if known else "none yet"
        raise RunError(f"there is no run {id!r}; runs are named experiment/run, and here are: {listed}")

    def is_run(self) -> bool:
        """Whether the folder holds anything of a run."""
        names = (CONFIG_FILE, REQUEST_FILE, "run.json", "state.json")
        return any((self.path / name).is_file() for name in names) or bool(self.checkpoints())

    @property
    def id(self) -> str:
        """ "experiment/run"."""
        return f"{self.path.parent.name}/{self.path.name}"

    # --- state ---

    def state(self) -> RunState:
        """The run's state, derived from what its process and files show now."""
        return self._state(self.epochs_done())

    def epochs_done(self) -> int:
        """How many epochs are complete, by the last row of the metrics; their number does not matter."""
        return int(last_row(self.metrics_path).get("epoch", 0))

    def is_due(self) -> bool:
        """Whether the run has a process, or was just started and will have one."""
        return self.state().is_due()

    def failure(self) -> Failure | None:
        """Why the run failed, in words; None when it did not."""
        state = self.state()
        if state.status != "failed":
            return None
        said = str((self._read_json("state.json") or {}).get("failure") or "")
        code = (self._read_json("exit.json") or {}).get("code")
        code = code if isinstance(code, int) else None
        lines = [line.text for line in read_lines(self.path / "log.txt", max_bytes=_LAST_LOG_BYTES)]
        signal_name = _signal_name(-code) if code is not None and code < 0 else ""
        return failure_of(said, state.reason, code, signal_name, lines[-_LAST_LOG_LINES:])

    def _state(self, epochs_done: int) -> RunState:
        if not self.path.is_dir():
            return RunState("interrupted", "its folder is gone")
        said = self._read_json("state.json")
        if not said:
            return RunState("finished" if self.checkpoints() else "queued", "no record of its training is here")
        status = next((known for known in STATUSES if known == said.get("status")), None)
        if status is None:
            return RunState("interrupted", "its state.json is damaged; resume to go on")
        reason = str(said.get("reason", ""))
        started = finite_number(said.get("started"))
        common: dict[str, Any] = {
            "epoch": epochs_done,
            "epochs": int(finite_number(said.get("epochs")) or 0),
            "started": started,
            "updated": self._updated(),
        }
        if status == "queued" and reason == WAITING and not self._waits():
            return RunState("interrupted", "it is no longer in the queue; start it, or queue it again", **common)
        if status == "queued" and reason == STARTING and time.time() - (started or 0.0) > _START_WITHIN_S:
            return RunState("failed", "its process never started; resume to try again", **common)
        if status != "running":
            return RunState(status, reason, **common)
        process = _identity(said.get("process"))
        if process is not None and process.alive():
            return RunState("running", reason, pid=process.pid, **common)
        return RunState(*self._how_it_ended(process), **common)

    def _how_it_ended(self, process: ProcessIdentity | None) -> tuple[Status, str]:
        if process is not None and not process.same_boot():
            return "interrupted", "the machine was restarted while it trained; resume to go on"
        code = (self._read_json("exit.json") or {}).get("code")
        if isinstance(code, int) and code < 0:
            hint = ", often by the system when memory runs out" if -code == signal.SIGKILL else ""
            return "failed", f"its process was killed by {_signal_name(-code)}{hint}; resume to go on"
        if isinstance(code, int) and code > 0:
            return "failed", f"its process ended with exit status {code}; the log says why"
        return "interrupted", "its process is gone without a word; resume to go on"

    def _updated(self) -> float | None:
        for name in ("progress.json", "state.json"):
            try:
                return (self.path / name).stat().st_mtime
            except OSError:
                continue
        return None

    def set_state(
        self,
        status: Status,
        reason: str = "",
        *,
        epochs: int,
        process: ProcessIdentity | None = None,
        failure: str | None = None,
    ) -> None:
        """Writes what the trainer (or its launcher) says of itself; `failure` is a kind of failure, where known."""
        before = self._read_json("state.json") or {}
        started = before.get("started") if before.get("status") == "running" else None
        self._write_json(
            "state.json",
            {
                "status": status,
                "reason": reason,
                "epochs": epochs,
                "started": started or time.time(),
                "process": asdict(process) if process else None,
                **({"failure": failure} if failure else {}),
            },
        )
        if status == "running":
            (self.path / "exit.json").unlink(missing_ok=True)

    def queue_entry(self) -> tuple[Path, str] | None:
        """The folder of the queue that the run was added to, and its entry there; the entry may be gone."""
        said = self._read_json(QUEUED_FILE) or {}
        folder, id = said.get("queue"), said.get("id")
        if not isinstance(folder, str) or not isinstance(id, str):
            return None
        return Path(os.path.normpath(self.path / folder)), id

    def _waits(self) -> bool:
        folder, id = self.queue_entry() or (None, "")
        return folder is not None and any((folder / stage / f"{id}.json").is_file() for stage in ("waiting", "claimed"))

    def trainer(self) -> ProcessIdentity | None:
        """The process that trains this run, as last written down; it may be gone."""
        return _identity((self._read_json("state.json") or {}).get("process"))

    def set_exit(self, code: int) -> None:
        """Records how the trainer's process ended: its exit status, or minus the number of the signal."""
        self._write_json("exit.json", {"code": code, "time": time.time()})

    def set_progress(self, **values: Any) -> None:
        """Replaces the live progress: phase, epoch, batch, batches, loss, eta_s and the like."""
        self._write_json("progress.json", values)

    def progress(self) -> dict[str, Any] | None:
        """The live progress, or None."""
        return self._read_json("progress.json")

    # --- stop requests ---

    def request_stop(self, kind: StopKind) -> None:
        """Asks the trainer to stop: `save` and end, `finish` with a last evaluation, or `discard`."""
        write_atomically(self.path / "stop", kind.encode())

    def stop_request(self) -> StopKind | None:
        """What a stop was asked for, if one was."""
        try:
            kind = (self.path / "stop").read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None
        return next((known for known in STOP_KINDS if known == kind), "save")

    def clear_stop(self) -> None:
        """Forgets a request to stop."""
        (self.path / "stop").unlink(missing_ok=True)

    # --- metrics, confusion matrices, log ---

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Appends one epoch's row; numbers that are not finite are written as null."""
        clean = {key: _finite(value) for key, value in row.items()}
        with self.metrics_path.open("ab") as file:
            file.write(json.dumps(clean, allow_nan=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    @property
    def metrics_path(self) -> Path:
        """The file of metrics, which `MetricsLog` follows."""
        return self.path / METRICS_FILE

    def metrics(self) -> list[dict[str, Any]]:
        """One row a completed epoch, all of them, in order; a torn last line is passed over."""
        try:
            lines = self.metrics_path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        rows = []
        for line in filter(None, lines[:-1]):
            row = row_of(line)
            if row is None:
                log.warning("%s: a damaged line in metrics.jsonl is passed over", self.id)
            else:
                rows.append(dict(row))
        return rows

    def truncate_metrics(self, epochs: int) -> None:
        """Keeps the rows of the first `epochs` epochs, which is what a resumed run starts from."""
        rows = [row for row in self.metrics() if row["epoch"] <= epochs]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        write_atomically(self.metrics_path, text.encode())
        for folder in ("confusion", "figures"):
            for path in (self.path / folder).glob("epoch_*"):
                match = _EPOCH_FILE.match(path.name)
                if match and int(match[1]) > epochs:
                    path.unlink()

    def save_confusion(self, epoch: int | str, confusion: Confusion) -> None:
        """Keeps a confusion matrix as data and as a picture; `epoch` is a number, or a part's name."""
        from pianistid_core.figures import confusion_matrix_png

        name = f"epoch_{epoch:03d}" if isinstance(epoch, int) else epoch
        self._write_json(f"confusion/{name}.json", confusion.to_dict())
        png = confusion_matrix_png(confusion.row_normalised(), confusion.class_names, title=f"{self.id}, {name}")
        write_atomically(self.path / "figures" / f"{name}_confusionmatrix.png", png)

    def confusion_names(self) -> list[str]:
        """The names of the confusion matrices kept: epoch_005, epoch_010, ..., validation."""
        try:
            names = [entry.removesuffix(".json") for entry in os.listdir(self.path / "confusion")]
        except OSError:
            return []
        return sorted((name for name in names if _CONFUSION.fullmatch(name)), key=_confusion_position)

    def confusion(self, name: str) -> Confusion | None:
        """One confusion matrix by its name; None when there is none, or it is damaged."""
        data = self._read_json(f"confusion/{name}.json") if _CONFUSION.fullmatch(name) else None
        return Confusion.from_dict(data) if data else None

    def confusions(self) -> dict[str, Confusion]:
        """All confusion matrices kept, by name and in the order of `confusion_names`."""
        found = {name: self.confusion(name) for name in self.confusion_names()}
        return {name: confusion for name, confusion in found.items() if confusion is not None}

    def log_tail(self, lines: int = 200) -> str:
        """The last lines of the log as a terminal would show them; reads at most 256 kB."""
        found = read_lines(self.path / "log.txt", max_bytes=_LAST_LOG_BYTES)
        return "\n".join(line.text for line in found[-lines:]).strip("\n") if lines > 0 else ""

    def log_lines(self, after: int = 0) -> list[LogLine]:
        """The lines of the log (4 MB at most); `after` is the `end` of the last line known, to go on from there."""
        return read_lines(self.path / "log.txt", after)

    def log_page(self, *, level: str | None = None, contains: str = "", last: int = 500) -> tuple[list[LogLine], int]:
        """The last lines of a level or worse that hold a text, and how many there are in the 4 MB read at most."""
        found = chosen(self.log_lines(), level, contains)
        return found[-last:] if last > 0 else [], len(found)

    # --- checkpoints ---

    def checkpoints(self) -> list[Path]:
        """The checkpoints, from the least to the most trained."""
        paths = [path for path in self.path.glob("checkpoint_*.pth") if _CHECKPOINT.fullmatch(path.name)]
        return sorted(paths, key=_checkpoint_position)

    def latest_checkpoint(self) -> Path:
        """The most trained checkpoint.

        Raises
        ------
        RunError
            When there is none yet.
        """
        checkpoints = self.checkpoints()
        if not checkpoints:
            raise RunError(f"run {self.id} has no checkpoint yet; train it first, or wait for its first one")
        return checkpoints[-1]

    def save_checkpoint(self, state: Mapping[str, Any], *, epoch: int, batch: int, keep_old: bool) -> Path:
        """Writes a checkpoint after `epoch` epochs and `batch` batches of the next, whole or not at all."""
        import torch

        name = f"checkpoint_{epoch:03d}" + (f"_batch_{batch:05d}" if batch else "") + ".pth"
        path = self.path / name
        with replacing(path) as file:
            torch.save(dict(state), file)
        # A checkpoint in the middle of an epoch only serves to go on from; the next one replaces it.
        for old in self.checkpoints():
            if old != path and (not keep_old or _checkpoint_position(old)[1]):
                old.unlink(missing_ok=True)
        return path

    def delete_checkpoint(self, name: str) -> None:
        """Removes one checkpoint.

        Raises
        ------
        RunError
            When there is none of that name, the run is running, or the folder is not one that this program made.
        """
        path = self.path / name
        if not _CHECKPOINT.fullmatch(name) or not path.is_file():
            raise RunError(f"run {self.id} has no checkpoint {name!r}; it may have been deleted already")
        if self.is_due():
            raise RunError(f"run {self.id} is still running and goes on from its checkpoints; stop it first")
        if not self.is_own():
            raise RunError(f"{self.path} was not made by this program, so it is left alone; remove {name} yourself")
        path.unlink(missing_ok=True)

    # --- what people say of it ---

    def labels(self) -> RunLabels:
        """Tags, note, star and archive."""
        return RunLabels.from_dict(self._read_json(LABELS_FILE) or {})

    def set_labels(self, labels: RunLabels) -> None:
        """Keeps tags, note, star and archive.

        Raises
        ------
        RunError
            When a tag or the note is not allowed, the run is gone, or its folder cannot be written.
        """
        checked = labels.checked()
        try:
            self._write_json(LABELS_FILE, checked.to_dict())
        except OSError as error:
            raise RunError(
                f"the labels of run {self.id} cannot be kept ({error.strerror or error}); it may have been deleted"
            ) from error

    # --- plain files of the run ---

    def save_text(self, name: str, text: str) -> None:
        """Keeps a text file of the run, such as config.yaml."""
        write_atomically(self.path / name, text.encode())

    def read_text(self, name: str) -> str | None:
        """A text file of the run, or None."""
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def save_json(self, name: str, data: Any) -> None:
        """Keeps a JSON file of the run, such as evaluation/test.json."""
        (self.path / name).parent.mkdir(exist_ok=True)
        self._write_json(name, data)

    def read_json(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the run, or None when it is missing or damaged."""
        return self._read_json(name)

    def summary(self, curves: Curves | None = None) -> RunSummary:
        """What a list of runs shows; `curves` are its metrics, where the caller has read them."""
        curves = curves or shared_log(self.metrics_path, SPARKLINE_VALUES).refresh()
        accuracies = (finite_number(row.get("test_recording_accuracy")) for row in curves.rows)
        made = finite_number((self._read_json("run.json") or {}).get("created"))
        return RunSummary(
            self.id,
            self.path,
            self._state(int(curves.last.get("epoch", 0))),
            curves.best.get("test_recording_accuracy"),
            dict(curves.last),
            made or self.path.stat().st_mtime,
            self.labels(),
            _evenly([value for value in accuracies if value is not None], SPARKLINE_VALUES),
            curves.seconds,
        )

    def size_bytes(self) -> int:
        """The disk space that the run takes."""
        return sum(path.stat().st_size for path in self.path.rglob("*") if path.is_file())

    def clear(self) -> None:
        """Removes what a training leaves behind, for one that starts again from nothing."""
        for folder in ("figures", "confusion", "evaluation", "ablation"):
            for path in (self.path / folder).glob("*.*"):
                path.unlink()
        for path in [
            *self.checkpoints(),
            *(self.path / name for name in (METRICS_FILE, "progress.json", "exit.json")),
        ]:
            path.unlink(missing_ok=True)

    def delete(self) -> None:
        """Removes the run from disk.

        Raises
        ------
        RunError
            When it is running or about to, or when the folder is not one that this program made.
        """
        if self.is_due():
            raise RunError(f"run {self.id} is still running; stop it before deleting it")
        if not self.is_own():
            raise RunError(f"{self.path} was not made by this program, so it is left alone; remove it yourself")
        # Renamed first, so that a listing never meets a half-deleted run.
        doomed = self.path.with_name(f".deleted-{self.path.name}-{os.getpid()}")
        os.replace(self.path, doomed)
        shutil.rmtree(doomed)

    def _read_json(self, name: str) -> dict[str, Any] | None:
        try:
            data = _plain_object((self.path / name).read_bytes())
        except FileNotFoundError:
            return None
        if data is None:
            log.warning("%s: %s is damaged and is passed over", self.id, name)
        return data

    def _write_json(self, name: str, data: Any) -> None:
        write_atomically(self.path / name, json.dumps(data, indent=1).encode())


def find_runs(checkpoints_dir: Path) -> list[Run]:
    """Every run under a checkpoints folder, sorted by name; folders that are not runs are passed over."""
    if not checkpoints_dir.is_dir():
        return []
    folders = sorted(checkpoints_dir.glob("*/*/"))
    runs = (Run(folder) for folder in folders if not folder.name.startswith(".") and folder.parent.name[0] != ".")
    return [run for run in runs if run.is_run()]


def list_runs(checkpoints_dir: Path) -> list[RunSummary]:
    """A summary of every run under a checkpoints folder, newest first."""
    return sorted((run.summary() for run in find_runs(checkpoints_dir)), key=lambda run: -run.created)


def describe_time(seconds_since_1970: float) -> str:
    """A moment for people: 2025-01-31 14:05 in the machine's own time zone."""
    return datetime.fromtimestamp(seconds_since_1970, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def _identity(data: Any) -> ProcessIdentity | None:
    match data:
        case {"pid": int(pid), "started": str(started), "boot": str(boot)}:
            return ProcessIdentity(pid, started, boot)
    return None


def _plain_object(text: bytes) -> dict[str, Any] | None:
    """A JSON object, or None for anything else."""
    try:
        data = json.loads(text)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _checkpoint_position(path: Path) -> tuple[int, int]:
    match = _CHECKPOINT.fullmatch(path.name)
    return (int(match[1]), int(match[2] or 0)) if match else (-1, 0)


def _confusion_position(name: str) -> tuple[bool, int, str]:
    match = _EPOCH_FILE.fullmatch(name)
    return (match is None, int(match[1]) if match else 0, name)


def _evenly(values: list[float], n: int) -> tuple[float, ...]:
    """At most n of the values, evenly spread, with the first and the last."""
    if len(values) <= n:
        return tuple(values)
    return tuple(values[index * (len(values) - 1) // (n - 1)] for index in range(n))
