"""Who a process is, so that its number is never taken for another's.

A process number alone is reused sooner or later. With the moment of its start and the boot of the machine it names one
process for ever.
"""

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

# Where a boot is only known by its time: more than clocks are corrected by, less than between most restarts.
_CLOCK_CORRECTION_S = 300.0
# How long a trainer that was asked to stop has until it is told by a signal, and then until it is killed.
STOP_GRACE_S = 30.0
TERMINATE_GRACE_S = 10.0
_GONE_WITHIN_S = 5.0


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
        started = _started(number)
        return None if started is None else cls(number, started, boot_id())

    def alive(self) -> bool:
        """Whether this very process still runs; a finished one that nobody has collected does not."""
        return self.same_boot() and _started(self.pid) == self.started

    def same_boot(self) -> bool:
        """Whether the machine has not been restarted since this process began."""
        now = boot_id()
        if self.boot == now:
            return True
        try:
            return abs(float(self.boot) - float(now)) <= _CLOCK_CORRECTION_S
        except ValueError:
            return False


def kill_tree(identity: ProcessIdentity) -> None:
    """Ends a process and all its descendants at once, if it is still that process."""
    if not identity.alive():
        return
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(identity.pid)
        family = [*process.children(recursive=True), process]
        for member in family:
            with contextlib.suppress(psutil.Error):
                member.kill()
        # Not psutil's wait, which would take a child's exit status away from whoever started it.
        deadline = time.monotonic() + _GONE_WITHIN_S
        while any(map(_runs, family)) and time.monotonic() < deadline:
            time.sleep(0.02)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def boot_id() -> str:
    """What is different after every restart of the machine: a name on Linux, elsewhere the second it started in.

    That second moves when the clock is corrected, so compare by `ProcessIdentity.same_boot`.
    """
    linux = Path("/proc/sys/kernel/random/boot_id")
    if linux.exists():
        return linux.read_text().strip()
    return f"{psutil.boot_time():.0f}"


def _started(pid: int) -> str | None:
    """When a process began, in a form that a change of the clock leaves alone where the system offers one."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        if stat.parent.parent.is_dir() and Path("/proc/self/stat").exists():
            # The name in brackets may hold anything, so fields are counted from its last bracket.
            fields = stat.read_text().rpartition(")")[2].split()
            return None if fields[0] in "ZX" else fields[19]
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except (OSError, psutil.Error):
        return None
