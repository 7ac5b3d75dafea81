"""Processes: the same one for ever, whatever the clock does."""

import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from pianistid_core import processes
from pianistid_core.processes import Moment, ProcessIdentity
from tiny import until


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
def test_a_signal_reaches_the_very_process_and_none_that_has_its_number() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        identity = ProcessIdentity.of(child.pid)
        assert identity is not None
        for other in (replace(identity, started="1"), replace(identity, boot="of another day")):
            assert not other.signal(signal.SIGKILL) and not other.has_its_number()
        assert child.poll() is None and identity.signal(signal.SIGKILL)
        until(lambda: not identity.alive())
        assert identity.has_its_number()  # a finished child keeps it until it is collected
        assert child.wait() == -signal.SIGKILL
    assert not identity.has_its_number() and not identity.signal(signal.SIGKILL)


@pytest.mark.parametrize("pid", [0, -1, 2**31, "1", 1.0, None])
def test_what_is_no_process_is_none(pid: object) -> None:
    assert ProcessIdentity.from_json({"pid": pid, "started": "1", "boot": "b"}) is None


def test_a_moment_is_counted_by_no_clock_that_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = Moment.now()
    monkeypatch.setattr("time.time", lambda: 0.0)
    age = moment.age_s()
    assert age is not None and 0.0 <= age < 60.0
    assert replace(moment, clock_s=moment.clock_s + 1000).age_s() == 0.0
    assert replace(moment, boot="of another day").age_s() is None
    assert Moment.from_json({"boot": "b", "clock_s": "1"}) is None and Moment.from_json([]) is None
