"""The run directory: what lies in `checkpoints/<experiment>/<run>/`.

    config.yaml             the resolved config, complete            figures/epoch_005_confusionmatrix.png
    request.yaml            what a background start was asked for    confusion/epoch_005.json
    queued.json             its entry in the queue, while it waits
    place.json              the Ray cluster that trains it, if one does
    run.json                when and by what it was made             mlflow.json   its MLflow run
    state.json              what the trainer last said of itself     evaluation/<split>.json, ablation/<split>.json
    exit.json               how the trainer's process ended          checkpoint_010.pth       after 10 epochs
    progress.json           where it is right now                    checkpoint_010_batch_00042.pth   in the middle
    metrics.jsonl           one line an epoch, appended              stop                     a request to stop
    environment.json, data.json, log.txt, log.old.txt                lock, heartbeat          who trains; that it lives
    labels.json             tags, note, star, archive            checkpoint_010.pth.damaged   was passed over
    .reserve                space for last words on a full disk

What is plain, and how a run's state is derived from it, is in `run_folder`; this says what a training leaves.
"""

import contextlib
import json
import logging
import os
import re
import shutil
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from pianistid_core.atomic import sweep, write_atomically
from pianistid_core.confusion import Confusion, RecordingOutcome
from pianistid_core.errors import RunError
from pianistid_core.kept_checkpoints import KeptCheckpoints
from pianistid_core.metrics_log import Curves, append_row, finite_number, row_of, shared_log
from pianistid_core.names import stays_inside
from pianistid_core.run_folder import (
    CONFIG_FILE,
    METRICS_FILE,
    PLACE_FILE,
    QUEUED_FILE,
    REQUEST_FILE,
    STARTING,
    STATUSES,
    STOP_KINDS,
    WAITING,
    RunState,
    Status,
    StopKind,
    signal_name,
)
from pianistid_core.run_labels import RunLabels
from pianistid_core.run_log import Failure, LogLine, chosen, failure_of, shared_log_file, tail_lines

__all__ = [
    "CONFIG_FILE", "LABELS_FILE", "METRICS_FILE", "PLACE_FILE", "QUEUED_FILE", "REQUEST_FILE", "SPARKLINE_VALUES",
    "STARTING", "STATUSES", "STOP_KINDS", "WAITING", "Confusion", "Failure", "LogLine", "RecordingOutcome", "Run",
    "RunLabels", "RunState", "RunSummary", "Status", "StopKind", "describe_time", "find_runs", "list_runs",
]  # fmt: skip

log = logging.getLogger(__name__)

LABELS_FILE = "labels.json"
_LABELS_LOCK = ".labels.lock"
_LABELS_WAIT_S = 10.0
SPARKLINE_VALUES = 30
_LAST_LOG_LINES = 20
LATEST_S = 9e9  # the year 2255: later is a damaged file, and more than tables of dates can hold
_EPOCH_FILE = re.compile(r"epoch_(\d+)")
_CONFUSION = re.compile(r"epoch_\d+|[a-z]+")


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


class Run(KeptCheckpoints):
    """One run: how it is found and made, and everything that a training leaves in its folder."""

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
            When the directory cannot be written; no empty folder is left behind.
        """
        try:
            for folder in ("figures", "confusion"):
                (self.path / folder).mkdir(parents=True, exist_ok=True)
            if not (self.path / "run.json").exists():
                name = {"experiment": self.path.parent.name, "run": self.path.name}
                self._write_json("run.json", {**name, "created": time.time()})
        except OSError as error:
            for made in (self.path / "figures", self.path / "confusion", self.path, self.path.parent):
                with contextlib.suppress(OSError):  # what holds anything stays
                    made.rmdir()
            raise RunError(
                f"cannot write the run folder {self.path} ({error.strerror or error}); "
                "choose another with --set checkpoint_cfg.checkpoint_dir=FOLDER"
            ) from error

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
        if len(parts) == 2 and all(stays_inside(part) and not part.startswith(".") for part in parts):
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

    # --- metrics, confusion matrices, log ---

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Appends one epoch's row; numbers that are not finite are written as null."""
        append_row(self.metrics_path, {key: _finite(value) for key, value in row.items()})

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

    def failure(self) -> Failure | None:
        """Why the run failed, in words; None when it did not."""
        state = self.state()
        if state.status != "failed":
            return None
        said = str((self._read_json("state.json") or {}).get("failure") or "")
        code = (self._read_json("exit.json") or {}).get("code")
        code = code if isinstance(code, int) else None
        lines = tail_lines(self.log_path, _LAST_LOG_LINES)
        killed_by = signal_name(-code) if code is not None and code < 0 else ""
        return failure_of(said, state.reason, code, killed_by, lines)

    def log_tail(self, lines: int = 200) -> str:
        """The last lines of the log as a terminal would show them; reads at most 256 kB."""
        return "\n".join(tail_lines(self.log_path, lines)).strip("\n")

    @property
    def log_path(self) -> Path:
        """The file of the log."""
        return self.path / "log.txt"

    def log_lines(self, after: int = 0) -> list[LogLine]:
        """The lines of the log (of its last 4 MB); `after` is the `end` of the last line known, to go on from there.

        A log that is shorter than that was begun anew, and is given from its beginning.
        """
        lines = shared_log_file(self.log_path).lines()
        begun_anew = bool(lines) and lines[-1].end < after
        return lines if begun_anew else lines[bisect_right(lines, after, key=lambda line: line.end) :]

    def log_page(self, *, level: str | None = None, contains: str = "", last: int = 500) -> tuple[list[LogLine], int]:
        """The last lines of a level or worse that hold a text, and how many there are in the 4 MB read at most."""
        found = chosen(self.log_lines(), level, contains)
        return found[-last:] if last > 0 else [], len(found)

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

    def relabel(self, change: Callable[[RunLabels], RunLabels]) -> RunLabels:
        """Changes tags, note, star and archive from what they are, so that of two people's changes neither is lost.

        Raises
        ------
        RunError
            As `set_labels`, or when others have been changing labels for ten seconds.
        """
        folder = self.path.parent.parent
        if not self.path.is_dir():
            raise RunError(f"run {self.id} is not here any more; it may have been deleted")
        try:
            # One lock for all runs, beside them: within a run's folder it would bring back one that is just deleted.
            with FileLock(folder / _LABELS_LOCK, timeout=_LABELS_WAIT_S):
                self.set_labels(change(self.labels()))
                return self.labels()
        except Timeout as error:
            raise RunError(f"the labels of run {self.id} are being changed by somebody else; try again") from error
        except OSError as error:
            raise RunError(
                f"the labels of run {self.id} cannot be kept: {error.strerror or error}; look at the data root"
            ) from error

    def summary(self, curves: Curves | None = None) -> RunSummary:
        """What a list of runs shows; `curves` are its metrics, where the caller has read them."""
        curves = curves or shared_log(self.metrics_path, SPARKLINE_VALUES).refresh()
        accuracies = (finite_number(row.get("test_recording_accuracy")) for row in curves.rows)
        made = finite_number((self._read_json("run.json") or {}).get("created"))
        if made is not None and not 0 <= made < LATEST_S:
            made = None
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

    def sweep(self) -> None:
        """Removes what trainers that were killed left half-written."""
        for name in sweep(self.path):
            log.info("run %s: %s was left half-written by a process that is gone, and is removed", self.id, name)

    def clear(self) -> None:
        """Removes what a training leaves behind, for one that starts again from nothing."""
        for folder in ("figures", "confusion", "evaluation", "ablation"):
            for path in (self.path / folder).glob("*.*"):
                path.unlink()
        for path in [
            *self.checkpoints(),
            *self.damaged_checkpoints(),
            *(self.path / name for name in (METRICS_FILE, "progress.json", "exit.json")),
        ]:
            path.unlink(missing_ok=True)

    def delete(self) -> None:
        """Removes the run from disk; one that may still train on a cluster is deleted all the same, with a warning.

        Raises
        ------
        RunError
            When it is running or about to, or when the folder is not one that this program made.
        """
        if self.is_due():
            raise RunError(f"run {self.id} is still running; stop it before deleting it")
        if not self.is_own():
            raise RunError(f"{self.path} was not made by this program, so it is left alone; remove it yourself")
        if (self._read_json(PLACE_FILE) or {}).get("outstanding"):
            log.warning("run %s may still train on its cluster; its trainer there ends by itself in a day", self.id)
        # Renamed first, so that a listing never meets a half-deleted run.
        doomed = self.path.with_name(f".deleted-{self.path.name}-{os.getpid()}")
        os.replace(self.path, doomed)
        shutil.rmtree(doomed)


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


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _confusion_position(name: str) -> tuple[bool, int, str]:
    match = _EPOCH_FILE.fullmatch(name)
    return (match is None, int(match[1]) if match else 0, name)


def _evenly(values: list[float], n: int) -> tuple[float, ...]:
    """At most n of the values, evenly spread, with the first and the last."""
    if len(values) <= n:
        return tuple(values)
    return tuple(values[index * (len(values) - 1) // (n - 1)] for index in range(n))
