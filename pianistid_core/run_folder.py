"""A run's folder and its state: plain files, what the trainer said of itself, and what is true of it now.

A run's state is derived from this evidence each time it is asked for: a trainer that vanished is shown as such,
whatever it last wrote about itself. `runs` says what else lies in the folder.
"""

import json
import logging
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from pianistid_core.atomic import write_atomically
from pianistid_core.errors import RunError
from pianistid_core.heartbeat import silent_s
from pianistid_core.metrics_log import finite_number, last_row
from pianistid_core.names import is_plain_name
from pianistid_core.processes import Moment, ProcessIdentity
from pianistid_core.reserve import RESERVE_BYTES
from pianistid_core.strict_json import parse_json

log = logging.getLogger(__name__)

Status = Literal["queued", "running", "finished", "stopped", "failed", "interrupted"]
StopKind = Literal["save", "finish", "discard"]
STATUSES: tuple[Status, ...] = ("queued", "running", "finished", "stopped", "failed", "interrupted")
STOP_KINDS: tuple[StopKind, ...] = ("save", "finish", "discard")
CONFIG_FILE = "config.yaml"
REQUEST_FILE = "request.yaml"
METRICS_FILE = "metrics.jsonl"
QUEUED_FILE = "queued.json"
QUEUE_FOLDER = "queue"
PLACE_FILE = "place.json"
STARTING = "starting"
WAITING = "waiting in the queue"
ENDING = "its last processes end"
_START_WITHIN_S = 60.0
_LOCK_FILE = ".launch.lock"
_LOCK_WITHIN_S = 20.0
_MOST_STATE_BYTES = 1 << 20
_MOST_JSON_BYTES = 256 << 20  # an evaluation lists every recording
_KILLED = 9  # SIGKILL, which Windows has no name for, though a run may come from elsewhere
CHECKPOINT = re.compile(r"checkpoint_(\d+)(?:_batch_(\d+))?\.pth")


@dataclass(frozen=True)
class RunState:
    """What is true of a run now. `epoch` counts completed epochs; times are seconds since 1970.

    `silent_s` is for how many seconds a trainer that lives has given no sign of it; None while it does.
    """

    status: Status
    reason: str = ""
    epoch: int = 0
    epochs: int = 0
    started: float | None = None
    updated: float | None = None
    pid: int | None = None
    silent_s: float | None = None

    def is_due(self) -> bool:
        """Whether the run has a process, or was just started and will have one."""
        return self.status == "running" or (self.status == "queued" and self.reason == STARTING)


class RunFolder:
    """One run directory; everything is read from disk when asked for, so that any process sees the same."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def id(self) -> str:
        """ "experiment/run"."""
        return f"{self.path.parent.name}/{self.path.name}"

    def is_own(self) -> bool:
        """Whether this program made the directory, as a run of that name; a published checkpoint's is not."""
        made = self._read_json("run.json") or {}
        return (made.get("experiment"), made.get("run")) == (self.path.parent.name, self.path.name)

    @property
    def metrics_path(self) -> Path:
        """The file of metrics, which `MetricsLog` follows."""
        return self.path / METRICS_FILE

    def checkpoints(self) -> list[Path]:
        """The checkpoints, from the least to the most trained."""
        paths = [path for path in self.path.glob("checkpoint_*.pth") if CHECKPOINT.fullmatch(path.name)]
        return sorted(paths, key=checkpoint_position)

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

    def _state(self, epochs_done: int) -> RunState:
        if not self.path.is_dir():
            return RunState("interrupted", "its folder is gone")
        said = self._read_json("state.json")
        if said is None and not os.path.lexists(self.path / "state.json"):
            return RunState("finished" if self.checkpoints() else "queued", "no record of its training is here")
        said = said or {}
        status = next((known for known in STATUSES if known == said.get("status")), None)
        if status is None:
            what = "its state.json is damaged, or of a newer version of this program"
            return RunState("interrupted", f"{what}; resume to go on", epochs_done)
        reason = str(said.get("reason", ""))
        common: dict[str, Any] = {
            "epoch": epochs_done,
            "epochs": int(finite_number(said.get("epochs")) or 0),
            "started": finite_number(said.get("started")),
            "updated": self._updated(),
        }
        if status == "queued" and reason == WAITING and not self._waits():
            return RunState("interrupted", "it is no longer in the queue; start it, or queue it again", **common)
        if status == "queued" and reason == STARTING and not _may_still_start(said):
            return RunState("failed", "its process never started; resume to try again", **common)
        process = _trainer(said)  # of the same reading: it may have ended since
        supervisor = ProcessIdentity.from_json(said.get("supervisor"))
        if status == "queued":
            return RunState(status, reason, **common)
        if status == "running" and process is not None and process.alive():
            return RunState("running", reason, pid=process.pid, silent_s=silent_s(self.path, process), **common)
        # It is over when nothing of it is left, which is its supervisor's to see to, and to write down.
        if supervisor is not None and supervisor.alive():
            return RunState("running", ENDING, **common)
        return RunState(*(self._how_it_ended(process) if status == "running" else (status, reason)), **common)

    def _how_it_ended(self, process: ProcessIdentity | None) -> tuple[Status, str]:
        if process is not None and not process.same_boot():
            return "interrupted", "the machine was restarted while it trained; resume to go on"
        code = (self._read_json("exit.json") or {}).get("code")
        if isinstance(code, int) and code < 0:
            hint = ", often by the system when memory runs out" if -code == _KILLED else ""
            return "failed", f"its process was killed by {signal_name(-code)}{hint}; resume to go on"
        if isinstance(code, int) and code > 0:
            return "failed", f"its process ended with exit status {code}; the log says why"
        if self._is_disk_full():
            return "interrupted", "its process is gone without a word, and its disk is full; free some space and resume"
        return "interrupted", "its process is gone without a word; resume to go on"

    def _is_disk_full(self) -> bool:
        try:
            return shutil.disk_usage(self.path).free < RESERVE_BYTES
        except OSError:
            return False

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
        child: ProcessIdentity | None = None,
        supervisor: ProcessIdentity | None = None,
        failure: str | None = None,
        start: str | None = None,
    ) -> None:
        """Writes what the trainer (or its launcher) says of itself; `failure` is a kind of failure, where known.

        `child` is the trainer that the launcher has started, and that has not spoken yet; `supervisor` sees to the
        end of it, and is kept until there is another; `start` is the start whose process is on its way.
        """
        before = self._read_json("state.json") or {}
        keeper = asdict(supervisor) if supervisor else before.get("supervisor")
        started = before.get("started") if before.get("status") == "running" else None
        self._write_json(
            "state.json",
            {
                "status": status,
                "reason": reason,
                "epochs": epochs,
                "started": started or time.time(),
                "said": asdict(Moment.now()),
                "process": asdict(process) if process else None,
                **({"supervisor": keeper} if keeper else {}),
                **({"child": asdict(child)} if child else {}),
                **({"failure": failure} if failure else {}),
                **({"start": start} if start else {}),
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
        # A run folder may come from somewhere else: it names a queue that is there, and a file in it, nothing else.
        queue = Path(os.path.normpath(self.path / folder))
        if not is_plain_name(id) or queue.name != QUEUE_FOLDER or not os.path.isdir(queue / "waiting"):
            return None
        return queue, id

    def _waits(self) -> bool:
        folder, id = self.queue_entry() or (None, "")
        return folder is not None and any((folder / stage / f"{id}.json").is_file() for stage in ("waiting", "claimed"))

    def trainer(self) -> ProcessIdentity | None:
        """The process that trains this run, as last written down; it may be gone.

        Of a launcher that is gone, it is the trainer that it had started.
        """
        return _trainer(self._read_json("state.json") or {})

    def supervisor(self) -> ProcessIdentity | None:
        """The process that sees to the end of this run's trainer, as last written down; it may be gone."""
        return ProcessIdentity.from_json((self._read_json("state.json") or {}).get("supervisor"))

    def set_exit(self, code: int) -> None:
        """Records how the trainer's process ended: its exit status, or minus the number of the signal."""
        self._write_json("exit.json", {"code": code, "time": time.time()})

    def set_progress(self, **values: Any) -> None:
        """Replaces the live progress: phase, epoch, batch, batches, loss, eta_s and the like."""
        # Twice a second, and of no use after a loss of power: not worth the training's waiting for the disk.
        write_atomically(self.path / "progress.json", json.dumps(values, indent=1).encode(), durable=False)

    def progress(self) -> dict[str, Any] | None:
        """The live progress, or None."""
        return self._read_json("progress.json")

    @contextmanager
    def launching(self) -> Iterator[None]:
        """Holds all runs beside this one for a moment: who starts, queues, moves or deletes one is alone in that.

        Raises
        ------
        RunError
            When the run's folder is gone, or the folder of runs cannot be written or is held for long.
        """
        # Not in the run's folder, which may be moved away meanwhile, and would be made anew for the lock.
        lock = FileLock(self.path.parent.parent / _LOCK_FILE, mode=0o666)  # of all who share these runs
        if not self.path.is_dir():
            raise RunError(f"run {self.id} is gone; look at the list of runs again")
        try:
            lock.acquire(timeout=_LOCK_WITHIN_S)
        except Timeout as error:
            raise RunError(f"the runs in {self.path.parent.parent} are busy; try again in a moment") from error
        except OSError as error:
            raise RunError(f"{self.path.parent.parent} cannot be written: {error.strerror or error}") from error
        try:
            if not self.path.is_dir():
                raise RunError(f"run {self.id} is gone; look at the list of runs again")
            yield
        finally:
            lock.release()

    # --- stop requests ---

    def request_stop(self, kind: StopKind) -> None:
        """Asks the trainer to stop: `save` and end, `finish` with a last evaluation, or `discard`."""
        write_atomically(self.path / "stop", kind.encode())

    def stop_request(self) -> StopKind | None:
        """What a stop was asked for, if one was."""
        try:
            kind = (self.path / "stop").read_text(encoding="utf-8", errors="replace").strip()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return next((known for known in STOP_KINDS if known == kind), "save")

    def clear_stop(self) -> None:
        """Forgets a request to stop."""
        (self.path / "stop").unlink(missing_ok=True)

    # --- plain files of the run ---

    def save_text(self, name: str, text: str) -> None:
        """Keeps a text file of the run, such as config.yaml."""
        write_atomically(self.path / name, text.encode())

    def read_text(self, name: str) -> str | None:
        """A text file of the run, or None; what is no text in it is replaced by marks."""
        try:
            return (self.path / name).read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def save_json(self, name: str, data: Any) -> None:
        """Keeps a JSON file of the run, such as evaluation/test.json."""
        (self.path / name).parent.mkdir(exist_ok=True)
        self._write_json(name, data)

    def read_json(self, name: str) -> dict[str, Any] | None:
        """A JSON file of the run, or None when it is missing or damaged."""
        return self._read_json(name)

    def _read_json(self, name: str) -> dict[str, Any] | None:
        try:
            most = _MOST_STATE_BYTES if name == "state.json" else _MOST_JSON_BYTES
            with (self.path / name).open("rb") as file:
                small = os.fstat(file.fileno()).st_size <= most
                data = _plain_object(file.read()) if small else None
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (IsADirectoryError, PermissionError) as error:
            log.warning("%s: %s cannot be read (%s) and is passed over", self.id, name, error.strerror)
            return None
        if data is None:
            log.warning("%s: %s is damaged and is passed over", self.id, name)
        return data

    def _write_json(self, name: str, data: Any) -> None:
        write_atomically(self.path / name, json.dumps(data, indent=1).encode())


def _trainer(said: dict[str, Any]) -> ProcessIdentity | None:
    process, child = ProcessIdentity.from_json(said.get("process")), ProcessIdentity.from_json(said.get("child"))
    return process if child is None or (process is not None and process.alive()) else child


def _may_still_start(said: dict[str, Any]) -> bool:
    """Whether the process of a run that was just started may still be on its way."""
    moment = Moment.from_json(said.get("said"))
    age_s = None if moment is None else moment.age_s()
    return age_s is not None and age_s <= _START_WITHIN_S


def _plain_object(text: bytes) -> dict[str, Any] | None:
    """A JSON object, or None for anything else."""
    try:
        data = parse_json(text)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def checkpoint_position(path: Path) -> tuple[int, int]:
    match = CHECKPOINT.fullmatch(path.name)
    return (int(match[1]), int(match[2] or 0)) if match else (-1, 0)
