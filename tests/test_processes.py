"""Processes: the same one for ever, whatever the clock does."""

import subprocess
import sys

import psutil
import pytest

from pianistid_core import processes
from pianistid_core.processes import ProcessIdentity, kill_tree


@pytest.mark.parametrize(("later", "same"), [(0, True), (3, True), (-40, True), (7200, False)])
def test_where_a_boot_is_a_time_a_corrected_clock_is_not_a_restart(
    monkeypatch: pytest.MonkeyPatch, later: int, same: bool
) -> None:
    monkeypatch.setattr(processes, "boot_id", lambda: "1700000000")
    identity = ProcessIdentity.of()
    assert identity is not None and identity.alive()
    monkeypatch.setattr(processes, "boot_id", lambda: str(1700000000 + later))
    assert identity.alive() == identity.same_boot() == same


def test_where_a_boot_has_a_name_another_one_is_a_restart() -> None:
    identity = ProcessIdentity.of()
    assert identity is not None and identity.alive() and identity.same_boot()
    other = ProcessIdentity(identity.pid, identity.started, "of another day")
    assert not other.alive() and not other.same_boot()


def test_a_number_that_another_process_has_now_is_not_that_process() -> None:
    mine = ProcessIdentity.of()
    assert mine is not None
    assert not ProcessIdentity(mine.pid, "at another moment", mine.boot).alive()


@pytest.mark.skipif(sys.platform == "win32", reason="signals are of POSIX systems")
def test_a_family_is_killed_and_its_parent_is_told_how_it_ended() -> None:
    sleeps = "import subprocess, sys; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()"
    child = subprocess.Popen([sys.executable, "-c", sleeps], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    grandchild, identity = int(child.stdout.readline()), ProcessIdentity.of(child.pid)
    assert identity is not None
    kill_tree(identity)
    assert child.wait() == -9
    assert not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE
