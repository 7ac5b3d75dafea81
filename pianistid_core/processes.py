"""Who a process is, so that its number is never taken for another's, and when something was, whatever the clock does.

A process number alone is reused sooner or later. With the moment of its start and the boot of the machine it names one
process for ever. Likewise a moment is counted from the boot, for a clock on the wall may be set back or forward.
"""

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

# Where a boot is only known by its time: more than clocks are corrected by, less than between most restarts.
_CLOCK_CORRECTION_S = 300.0
_HIGHEST_PID = 2**31 - 1


@dataclass(frozen=True)
class ProcessIdentity:
    """One process for ever: its number, when it started, and in which boot of the machine."""

    pid: int
    started: str
    boot: str

    @classmethod
    def of(cls, pid: int | None = None) -> "ProcessIdentity | None":
        """The identity of a running process (this one by default); None when there is none of that number."""
        number = os.getpid() if pid is None else pid
        seen = _seen(number)
        return None if seen is None or seen.ended else cls(number, seen.started, boot_id())

    @classmethod
    def from_json(cls, said: object) -> "ProcessIdentity | None":
        """The identity that plain data describes, as `dataclasses.asdict` gives it; None when it describes none."""
        match said:
            case {"pid": int(pid), "started": str(started), "boot": str(boot)} if 0 < pid <= _HIGHEST_PID:
                return cls(int(pid), started, boot)
        return None

    def alive(self) -> bool:
        """Whether this very process still runs; a finished one that nobody has collected does not."""
        seen = _seen(self.pid) if self.same_boot() else None
        return seen is not None and not seen.ended and seen.started == self.started

    def has_its_number(self) -> bool:
        """Whether the number is still this process's, which it is until somebody has collected it."""
        seen = _seen(self.pid) if self.same_boot() else None
        return seen is not None and seen.started == self.started

    def same_boot(self) -> bool:
        """Whether the machine has not been restarted since this process began."""
        return _is_this_boot(self.boot)

    def signal(self, number: int) -> bool:
        """Sends a signal to this very process, and to no other that has its number by now; False when it is gone."""
        try:
            handle = _handle(self.pid)
        except ProcessLookupError:
            return False
        try:
            # Looked at while the handle is held: from here on the handle can mean no other process.
            if not self.alive():
                return False
            if handle is None:
                os.kill(self.pid, number)
            else:
                signal.pidfd_send_signal(handle, number)  # type: ignore[attr-defined,unused-ignore]
        except (ProcessLookupError, PermissionError):
            return False
        finally:
            if handle is not None:
                os.close(handle)
        return True


@dataclass(frozen=True)
class Moment:
    """A moment in this boot of the machine, by the clock that all its processes share and that nobody can set."""

    boot: str
    clock_s: float

    @classmethod
    def now(cls) -> "Moment":
        """This moment."""
        return cls(boot_id(), time.monotonic())

    @classmethod
    def from_json(cls, said: object) -> "Moment | None":
        """The moment that plain data describes, as `dataclasses.asdict` gives it; None when it describes none."""
        match said:
            case {"boot": str(boot), "clock_s": float() | int() as clock_s} if abs(clock_s) < 1e12:
                return cls(boot, float(clock_s))
        return None

    def age_s(self) -> float | None:
        """Seconds since then, without those that the machine slept; None when it has been restarted since."""
        return max(0.0, time.monotonic() - self.clock_s) if _is_this_boot(self.boot) else None


def boot_id() -> str:
    """What is different after every restart of the machine: a name on Linux, elsewhere the second it started in.

    That second moves when the clock is corrected, so compare by `ProcessIdentity.same_boot`.
    """
    linux = Path("/proc/sys/kernel/random/boot_id")
    if linux.exists():
        return linux.read_text().strip()
    return f"{psutil.boot_time():.0f}"


def _is_this_boot(boot: str) -> bool:
    now = boot_id()
    if boot == now:
        return True
    try:
        return abs(float(boot) - float(now)) <= _CLOCK_CORRECTION_S
    except ValueError:
        return False


def _handle(pid: int) -> int | None:
    """What means one process even after its number has another; None where the system has no such thing.

    Raises: ProcessLookupError when there is no such process.
    """
    with contextlib.suppress(AttributeError):
        try:
            return os.pidfd_open(pid)  # type: ignore[attr-defined,unused-ignore]
        except ProcessLookupError:
            raise
        except OSError:  # an old kernel, or one that is not asked such things
            return None
    return None


@dataclass(frozen=True)
class _Seen:
    started: str
    ended: bool


def _seen(pid: int) -> _Seen | None:
    """When the process of a number began, in a form that a change of the clock leaves alone where the system can."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        if stat.parent.parent.is_dir() and Path("/proc/self/stat").exists():
            # The name in brackets may hold anything, so fields are counted from its last bracket.
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
            return _Seen(fields[19], fields[0] in "ZX")
        process = psutil.Process(pid)
        return _Seen(f"{process.create_time():.2f}", process.status() == psutil.STATUS_ZOMBIE)
    except (OSError, psutil.Error):
        return None
