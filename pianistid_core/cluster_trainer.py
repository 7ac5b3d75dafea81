"""The end of a cluster's run that lies on the cluster: an actor of Ray that keeps a trainer and hands out its files.

`RemoteTrainer` runs `pianistid train` as a process beside it, in a run folder of its own, and answers quickly to
whatever it is asked. It outlives whoever started it, but not for ever: what nobody has asked for a day stops, with a
checkpoint that waits another day to be fetched. What arrives is a config, files of the same run from an earlier
training, and requests to stop; what leaves is bytes. `cluster` is the other end.
"""

import contextlib
import ctypes
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import ClusterError, PianistIDError
from pianistid_core.ladder import Family, Ladder, Patience, marked
from pianistid_core.names import is_plain_name
from pianistid_core.processes import ProcessIdentity
from pianistid_core.runs import PLACE_FILE, QUEUED_FILE, REQUEST_FILE, Run, StopKind

CHUNK_BYTES = 8 << 20
# How long a training goes on that nobody asks for, and its result then waits to be fetched, until it is given up with
# the place it takes; and how long a trainer waits to be told to begin.
KEPT_FOR_S = 24 * 3600.0
BEGINS_WITHIN_S = 600.0
LOG = "log.txt"
STATE = "state.json"
CONFIG = "config.yaml"
_FOLDERS = ("confusion", "figures", "evaluation", "ablation")
_ENDINGS = frozenset((".json", ".jsonl", ".png", ".pth", ".txt", ".yaml"))
# What a run says of this one machine, or a person of the run, does not travel.
_STAYS = frozenset(
    (REQUEST_FILE, QUEUED_FILE, PLACE_FILE, "run.json", "exit.json", "labels.json", "lock", "launch.lock", "stop")
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_PR_SET_PDEATHSIG = 1

Signature = tuple[int, int, int]  # the file's number on its disk, its bytes, when it was written


@dataclass(frozen=True)
class Look:
    """What there is of a training: its files, and the exit status of its process once that has ended."""

    files: dict[str, Signature]
    code: int | None


def travels(name: str) -> bool:
    """Whether a file of a run, by its name in the folder, is one that goes from machine to machine.

    Nothing else is written by either end: no name leads out of the folder, or to what only the other end may say.
    """
    folder, slash, last = name.rpartition("/")
    known = not slash or folder in _FOLDERS
    good = _NAME.fullmatch(last) is not None and is_plain_name(last) and os.path.splitext(last)[1] in _ENDINGS
    return known and good and name not in _STAYS


class RemoteTrainer:
    """Trains one run on the machine that Ray has chosen; every method returns at once.

    With `owns_process` the process it lives in, an actor's, ends when it is given up.
    """

    def __init__(self, experiment: str, name: str, gpus: float, *, owns_process: bool) -> None:
        if not (is_plain_name(experiment) and is_plain_name(name)):
            raise ClusterError(f"{experiment}/{name} cannot be the name of a run")
        self._base = Path(tempfile.mkdtemp(prefix="pianistid-"))
        self._run = Run(self._base / experiment / name)
        self._run.make()
        self._gpus = gpus
        self._training: threading.Thread | None = None
        self._code: int | None = None
        self._asked = time.monotonic()
        if owns_process:
            threading.Thread(target=self._expire, daemon=True).start()

    def machine(self) -> str:
        """The name of the machine it is on."""
        return socket.gethostname()

    def begun(self) -> bool:
        """Whether it has been told to train."""
        self._asked = time.monotonic()
        return self._training is not None

    def put(self, name: str, data: bytes, offset: int) -> None:
        """Takes a piece of a file of an earlier training of this run."""
        self._asked = time.monotonic()
        if not travels(name):
            raise ClusterError(f"{name!r} is not a file of a run")
        path = self._run.path / name
        path.parent.mkdir(exist_ok=True)
        with path.open("r+b" if offset else "wb") as file:
            file.seek(offset)
            file.write(data)

    def begin(self, config: str, split: str, data_root: str) -> str:
        """Starts to train by a config (YAML); gives a sentence instead when this machine has no such data."""
        if self._training is not None:
            return ""
        here = f"the cluster's machine {self.machine()}"
        if not Path(data_root).is_dir():
            return f"{here} has no folder {data_root}; say where the data root is there, or copy it to that place"
        try:
            DataRoot(Path(data_root)).split(split)
        except PianistIDError as error:
            return f"{here}: {error}"
        self._run.save_text(REQUEST_FILE, config)
        self._training = threading.Thread(target=self._train, args=(data_root,), daemon=True)
        self._training.start()
        return ""

    def look(self) -> Look:
        """What there is now. A process that has ended has written all its files before its status is given.

        Raises: ClusterError when the run's folder is gone; OSError when it cannot be read, which is no empty folder.
        """
        self._asked = time.monotonic()
        code = self._code
        return Look(self._files(), code)

    def read(self, name: str, offset: int) -> tuple[bytes, Signature]:
        """A piece of a file, empty at its end, and which file it is of. Raises: FileNotFoundError when it is gone."""
        self._asked = time.monotonic()
        if not travels(name):
            raise ClusterError(f"{name!r} is not a file of a run")
        with (self._run.path / name).open("rb") as file:
            signature = _signature(os.fstat(file.fileno()))
            file.seek(offset)
            return file.read(CHUNK_BYTES), signature

    def digest(self, name: str) -> str:
        """The SHA-256 of a file. Raises: FileNotFoundError when it is gone."""
        if not travels(name):
            raise ClusterError(f"{name!r} is not a file of a run")
        with (self._run.path / name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def stop(self, kind: StopKind) -> None:
        """Asks the trainer to stop; one that does not heed is ended."""
        if self._code is None:
            self._run.request_stop(kind)

    def close(self) -> None:
        """Removes what is left on this machine."""
        shutil.rmtree(self._base, ignore_errors=True)

    def _files(self) -> dict[str, Signature]:
        found: dict[str, Signature] = {}
        if not self._run.path.is_dir():
            raise ClusterError(f"the folder of run {self._run.id} on {self.machine()} is gone")
        for folder in ("", *_FOLDERS):
            with contextlib.suppress(FileNotFoundError), os.scandir(self._run.path / folder) as entries:
                for entry in entries:
                    name = f"{folder}/{entry.name}" if folder else entry.name
                    if travels(name) and entry.is_file(follow_symlinks=False):
                        with contextlib.suppress(FileNotFoundError):
                            found[name] = _signature(entry.stat())
        return found

    def _expire(self) -> None:
        """Gives up what nobody asks for, so that it does not keep its place on the cluster for ever."""
        while not self._is_given_up():
            time.sleep(60.0)
        self.close()
        os._exit(0)

    def _is_given_up(self) -> bool:
        """Whether nothing is left to wait for; a training that nobody has asked for long is told to stop."""
        silent = time.monotonic() - self._asked
        if self._training is None:
            return silent > BEGINS_WITHIN_S
        if self._code is not None:
            return silent > KEPT_FOR_S or not self._run.path.is_dir()
        if silent > KEPT_FOR_S:
            with contextlib.suppress(OSError):
                if self._run.stop_request() is None:
                    self._run.request_stop("save")
        return False

    def _train(self, data_root: str) -> None:
        # The process ends when this thread does, so the thread stays for as long: see `_with_its_parent`.
        code = 1
        try:
            code = self._wait_for(self._start(data_root))
        except Exception as error:
            with contextlib.suppress(OSError), (self._run.path / LOG).open("a") as log:
                log.write(f"the trainer could not be started: {error}\n")
        finally:
            self._asked, self._code = time.monotonic(), code

    def _start(self, data_root: str) -> "subprocess.Popen[bytes]":
        with (self._run.path / LOG).open("ab") as log:
            return subprocess.Popen(
                self._command(data_root), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env=self._environment(), start_new_session=True, preexec_fn=_with_its_parent(),
            )  # fmt: skip

    def _wait_for(self, trainer: "subprocess.Popen[bytes]") -> int:
        """Waits until the trainer has ended, sees to it that it heeds a request to stop, and gives its exit status."""
        ladder = Ladder(Family(self._run.path, ProcessIdentity.of(trainer.pid)), Patience())
        return ladder.wait_for(trainer, asked=lambda: self._run.stop_request() is not None)

    def _command(self, data_root: str) -> list[str]:
        python = [sys.executable, "-m"]
        if self._gpus > 1:
            python += ["torch.distributed.run", "--standalone", f"--nproc-per-node={self._gpus:.0f}", "-m"]
        folder = "'" + str(self._base).replace("'", "''") + "'"
        train = ["pianistid_core", "train", "--config", str(self._run.path / REQUEST_FILE), "--data-root", data_root]
        return [*python, *train, "--set", f"checkpoint_cfg.checkpoint_dir={folder}"]

    def _environment(self) -> dict[str, str]:
        # Ray leaves a process that asked for no GPU with all of them.
        return {**os.environ, **marked(self._run.path), **({} if self._gpus else {"CUDA_VISIBLE_DEVICES": ""})}


def _signature(stat: os.stat_result) -> Signature:
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _with_its_parent() -> Callable[[], None] | None:
    """Makes a child end when the thread that started it does, whatever ended that; only Linux can."""
    if sys.platform != "linux":
        return None
    # Loaded before the fork, after which nothing may be.
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def end_with_parent() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return end_with_parent
