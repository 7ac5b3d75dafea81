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
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pianistid_core.atomic import replacing, write_atomically
from pianistid_core.errors import RunError
from pianistid_core.processes import ProcessIdentity

log = logging.getLogger(__name__)

Status = Literal["queued", "running", "finished", "stopped", "failed", "interrupted"]
StopKind = Literal["save", "finish", "discard"]
STATUSES: tuple[Status, ...] = ("queued", "running", "finished", "stopped", "failed", "interrupted")
STOP_KINDS: tuple[StopKind, ...] = ("save", "finish", "discard")
CONFIG_FILE = "config.yaml"
REQUEST_FILE = "request.yaml"
QUEUED_FILE = "queued.json"
STARTING = "starting"
WAITING = "waiting in the queue"
_START_WITHIN_S = 60.0
_CHECKPOINT = re.compile(r"checkpoint_(\d+)(?:_batch_(\d+))?\.pth")
_EPOCH_FILE = re.compile(r"epoch_(\d+)")


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


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix over recordings: counts[true, predicted], and the names of its rows and columns."""

    class_names: tuple[str, ...]
    counts: npt.NDArray[np.int64]

    def row_normalised(self) -> npt.NDArray[np.float64]:
        """Each row divided by its sum: recall along the diagonal; rows without recordings are zeros."""
        totals = self.counts.sum(axis=1, keepdims=True)
        shares: npt.NDArray[np.float64] = self.counts / np.maximum(totals, 1)
        return shares


@dataclass(frozen=True)
class RunSummary:
    """One line of a list of runs."""

    id: str
    path: Path
    state: RunState
    best_recording_accuracy: float | None
    last: Mapping[str, Any]
    created: float


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
        if not run._is_run():
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
        if len(parts) == 2 and all(part not in ("", ".", "..") and "\\" not in part for part in parts):
            run = cls(checkpoints_dir / parts[0] / parts[1])
            if run._is_run():
                return run
        known = [run.id for run in find_runs(checkpoints_dir)]
        listed = ", ".join(known[:5]) + (", ..." if len(known) > 5 else "") if known else "none yet"
        raise RunError(f"there is no run {id!r}; runs are named experiment/run, and here are: {listed}")

    def _is_run(self) -> bool:
        names = (CONFIG_FILE, REQUEST_FILE, "run.json", "state.json")
        return any((self.path / name).is_file() for name in names) or bool(self.checkpoints())

    @property
    def id(self) -> str:
        """ "experiment/run"."""
        return f"{self.path.parent.name}/{self.path.name}"

    # --- state ---

    def state(self) -> RunState:
        """The run's state, derived from what its process and files show now."""
        return self._state(len(self.metrics()))

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
        started = _number(said.get("started"))
        common: dict[str, Any] = {
            "epoch": epochs_done,
            "epochs": int(_number(said.get("epochs")) or 0),
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
        self, status: Status, reason: str = "", *, epochs: int, process: ProcessIdentity | None = None
    ) -> None:
        """Writes what the trainer (or its launcher) says of itself."""
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
        with (self.path / "metrics.jsonl").open("ab") as file:
            file.write(json.dumps(clean, allow_nan=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def metrics(self) -> list[dict[str, Any]]:
        """One row a completed epoch, in order; a torn last line is passed over."""
        try:
            lines = (self.path / "metrics.jsonl").read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        rows = []
        for line in lines[:-1]:
            row = _plain_object(line)
            if row is None or not isinstance(row.get("epoch"), int):
                log.warning("%s: a damaged line in metrics.jsonl is passed over", self.id)
            else:
                rows.append(row)
        return rows

    def truncate_metrics(self, epochs: int) -> None:
        """Keeps the rows of the first `epochs` epochs, which is what a resumed run starts from."""
        rows = [row for row in self.metrics() if row["epoch"] <= epochs]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        write_atomically(self.path / "metrics.jsonl", text.encode())
        for folder in ("confusion", "figures"):
            for path in (self.path / folder).glob("epoch_*"):
                match = _EPOCH_FILE.match(path.name)
                if match and int(match[1]) > epochs:
                    path.unlink()

    def save_confusion(self, epoch: int | str, confusion: Confusion) -> None:
        """Keeps a confusion matrix as data and as a picture; `epoch` is a number, or a part's name."""
        from pianistid_core.figures import confusion_matrix_png

        name = f"epoch_{epoch:03d}" if isinstance(epoch, int) else epoch
        data = {"class_names": confusion.class_names, "counts": confusion.counts.tolist()}
        self._write_json(f"confusion/{name}.json", data)
        png = confusion_matrix_png(confusion.row_normalised(), confusion.class_names, title=f"{self.id}, {name}")
        write_atomically(self.path / "figures" / f"{name}_confusionmatrix.png", png)

    def confusions(self) -> dict[str, Confusion]:
        """The confusion matrices kept, by file name: epoch_005, epoch_010, ..., validation."""
        found = {}
        for path in sorted((self.path / "confusion").glob("*.json")):
            data = self._read_json(f"confusion/{path.name}")
            if data and {"class_names", "counts"} <= data.keys():
                found[path.stem] = Confusion(tuple(data["class_names"]), np.array(data["counts"], np.int64))
        return found

    def log_tail(self, lines: int = 200) -> str:
        """The last lines of the log, carriage returns resolved; reads at most 256 kB."""
        try:
            with (self.path / "log.txt").open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - 262_144))
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        resolved = [line.rpartition("\r")[2] for line in text.replace("\r\n", "\n").split("\n")]
        return "\n".join(resolved[-lines - 1 :]).strip("\n")

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

    def summary(self) -> RunSummary:
        """What a list of runs shows."""
        rows = self.metrics()
        accuracies = [row["test_recording_accuracy"] for row in rows if row.get("test_recording_accuracy") is not None]
        made = _number((self._read_json("run.json") or {}).get("created"))
        return RunSummary(
            self.id,
            self.path,
            self._state(len(rows)),
            max(accuracies, default=None),
            rows[-1] if rows else {},
            made or self.path.stat().st_mtime,
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
            *(self.path / name for name in ("metrics.jsonl", "progress.json", "exit.json")),
        ]:
            path.unlink(missing_ok=True)

    def delete(self) -> None:
        """Removes the run from disk.

        Raises
        ------
        RunError
            When it is running or about to, or when the folder is not one that this program made.
        """
        state = self.state()
        if state.status == "running" or (state.status == "queued" and state.reason == STARTING):
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
    runs = (Run(folder) for folder in folders if not folder.name.startswith("."))
    return [run for run in runs if run._is_run()]


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


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


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
