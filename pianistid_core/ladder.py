"""How a trainer is brought to its end: asked, told by a signal to all its processes, killed.

The processes of a run are its trainer, all that descend from it, the session that it leads, and whatever carries the
run's mark in its environment: a worker whose parent died belongs to nobody else, and is found by that. Each is known by
its identity, which is looked at again right before a signal, so that nothing that has only its number is hit.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from pianistid_core.processes import ProcessIdentity

_MARK = "PIANISTID_RUN"
_GONE_WITHIN_S = 5.0
_LOOK_EVERY_S = 0.5
_MOMENT_S = 0.02
KILL: int = getattr(signal, "SIGKILL", signal.SIGTERM)
"""The signal that nothing withstands, or, on Windows, what stands for it there."""


@dataclass(frozen=True)
class Patience:
    """How long after the request to stop a trainer is told by a signal, and how long until it is killed."""

    told_after_s: float = 30.0
    killed_after_s: float = 40.0


def marked(path: Path) -> dict[str, str]:
    """What the environment of a run's processes says besides this one's, so that they are found again."""
    return {_MARK: _mark(path)}


def apart() -> dict[str, str]:
    """What the environment says of a process that outlives whoever starts it, so that it is taken for nobody's."""
    return {_MARK: ""}


def is_marked(path: Path, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process was started as one of a run's, by whoever sees to its end."""
    return environ.get(_MARK) == _mark(path)


def is_of(path: Path, process: ProcessIdentity) -> bool:
    """Whether another process bears a run's mark; one in a person's terminal or notebook bears none."""
    try:
        return _mark_of(psutil.Process(process.pid)) == _mark(path)
    except (psutil.Error, OSError):  # gone meanwhile, or somebody else's
        return False


def _mark(path: Path) -> str:
    return str(path.absolute())


class Family:
    """All processes of the run in a folder, whose trainer is known or not."""

    def __init__(self, path: Path, trainer: ProcessIdentity | None = None) -> None:
        self.trainer = trainer
        self._mark = _mark(path)
        self._known: set[ProcessIdentity] = set() if trainer is None else {trainer}

    def members(self) -> list[ProcessIdentity]:
        """Those that live; who has been seen once is not forgotten when its parent dies."""
        # A session's number is its leader's, and nobody else's until the leader was collected.
        leads = self.trainer is not None and self.trainer.has_its_number()
        session = self.trainer.pid if self.trainer is not None and leads else -1
        spared = _forebears()
        children: dict[int, list[ProcessIdentity]] = {}
        found = {one for one in self._known if one.alive() and one.pid not in spared}
        for process in psutil.process_iter():
            # Who it is comes first: should the number go to another after that, nobody is signalled.
            one = ProcessIdentity.of(process.pid)
            if one is None or one.pid in spared:
                continue
            try:
                mark = _mark_of(process)
                if mark == self._mark or (mark is None and _session_of(one.pid) == session):
                    found.add(one)
                elif mark is None:
                    children.setdefault(process.ppid(), []).append(one)
            except (psutil.Error, OSError):  # gone meanwhile, or somebody else's
                continue
        waiting = list(found)
        while waiting:
            more = [one for one in children.get(waiting.pop().pid, ()) if one not in found and _is_unmarked(one)]
            found.update(more)
            waiting += more
        self._known |= found
        return list(found)

    def signal(self, number: int) -> None:
        """Sends a signal to each of them."""
        for member in self.members():
            member.signal(number)

    def end(self) -> None:
        """Kills all of them, and those that they started meanwhile, and waits until they are gone, for some seconds."""
        deadline = time.monotonic() + _GONE_WITHIN_S
        while (left := self.members()) and time.monotonic() < deadline:
            for member in left:
                member.signal(KILL)
            while any(one.alive() for one in left) and time.monotonic() < deadline:
                time.sleep(_MOMENT_S)


class Ladder:
    """The steps to the end of one training, each taken when its time has come since the request to stop."""

    def __init__(
        self,
        family: Family,
        patience: Patience,
        *,
        before_killing: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.family, self.patience, self._now = family, patience, now
        self._before_killing = before_killing
        self.killed = False
        self._asked_at: float | None = None
        self._told = False

    @property
    def insisted(self) -> bool:
        """Whether the request alone was not enough."""
        return self._told or self.killed

    def climb(self, *, asked: bool) -> None:
        """Takes the step that is due, if one is; to be called every moment. A request that is taken back counts not."""
        if not asked:
            self._asked_at, self._told = None, False
            return
        now = self._now()
        self._asked_at = now if self._asked_at is None else self._asked_at
        waited = now - self._asked_at
        if waited >= self.patience.killed_after_s:
            if not self.killed:
                self._before_killing()
            self.killed = True
            self.family.end()
        elif waited >= self.patience.told_after_s and not self._told:
            self._told = True
            self.family.signal(signal.SIGTERM)

    def wait_for(self, trainer: "subprocess.Popen[bytes]", *, asked: Callable[[], bool]) -> int:
        """Waits for a child, the trainer, taking each step that is due once it was `asked` to stop; its exit status.

        What it leaves behind is killed: there is nobody who would wait for it.
        """
        while not _has_ended(trainer):
            self.climb(asked=asked())
            _wait(trainer, _LOOK_EVERY_S)
        # Before it is collected, while the number of its session cannot be another's.
        self.family.end()
        return trainer.wait()


def _wait(process: "subprocess.Popen[bytes]", seconds: float) -> None:
    """Waits for a child to end, without collecting it where the system allows: its number then stays its own."""
    deadline = time.monotonic() + seconds
    while not _has_ended(process) and time.monotonic() < deadline:
        time.sleep(2 * _MOMENT_S)


def _has_ended(process: "subprocess.Popen[bytes]") -> bool:
    if not hasattr(os, "waitid"):
        return process.poll() is not None
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # collected already
        return True


def _mark_of(process: psutil.Process) -> str | None:
    return process.environ().get(_MARK)


def _is_unmarked(one: ProcessIdentity) -> bool:
    """Whether a process bears no mark of another run, looked at again: while it begins there is nothing to be read."""
    time.sleep(_MOMENT_S)
    try:
        return _mark_of(psutil.Process(one.pid)) is None
    except (psutil.Error, OSError):
        return False


def _forebears() -> set[int]:
    """This process, what it descends from, and the first of the machine, which all do."""
    try:
        return {0, 1, os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    except psutil.Error:
        return {0, 1, os.getpid(), os.getppid()}


def _session_of(pid: int) -> int | None:
    return os.getsid(pid) if hasattr(os, "getsid") else None
