"""How a trainer is brought to its end: all that is its own, nothing else, in steps."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pianistid_core.ladder import Family, Ladder, Patience, is_marked, marked
from pianistid_core.processes import ProcessIdentity
from tiny import until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sessions and signals are of POSIX systems")

# A trainer with a stray that is in its session and nothing else, without a parent or the environment; a grandchild that
# only descends from it; and an orphan that only has the environment.
SLEEPS = "sh -c 'echo $$ > {0}/%s; exec sleep 60'"
FORGETS = 'os.setsid(); open("{0}/grandchild", "w").write(str(os.getpid())); time.sleep(60)'
TRAINER = (
    f"echo $$ > {{0}}/trainer; (env -i {SLEEPS % 'stray'} &) ; (setsid {SLEEPS % 'orphan'} &) ; "
    f"env -i {{1}} -c 'import os, time; {FORGETS}' & wait"
)


class Started:
    """Processes of one run, with who they are."""

    def __init__(self, folder: Path, *, heeds: bool = True) -> None:
        self.run = folder / "run"
        self.run.mkdir()
        script = TRAINER.format(folder, sys.executable)
        if not heeds:
            script = f"trap : TERM; {script} ; while :; do sleep 1; done"
        self.trainer = subprocess.Popen(
            ["sh", "-c", script], env={**os.environ, **marked(self.run)}, start_new_session=True
        )
        names = ("trainer", "stray", "grandchild", "orphan")
        until(lambda: all((folder / name).exists() and (folder / name).read_text().strip() for name in names))
        found = {name: ProcessIdentity.of(int((folder / name).read_text())) for name in names}
        self.who = {name: one for name, one in found.items() if one is not None}
        assert len(self.who) == len(names)

    def living(self) -> set[str]:
        return {name for name, one in self.who.items() if one.alive()}


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    found = Started(tmp_path)
    yield found
    for one in found.who.values():
        one.signal(signal.SIGKILL)
    found.trainer.wait()


@pytest.fixture
def bystanders(tmp_path: Path) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Processes of another run, and of none."""
    found = [
        subprocess.Popen(["sleep", "60"], env={**os.environ, **marked(tmp_path / "other")}, start_new_session=True),
        subprocess.Popen(["sleep", "60"], start_new_session=True),
    ]
    yield found
    for one in found:
        one.kill()
        one.wait()


def test_all_of_a_run_are_found_and_nothing_else(started: Started, bystanders: list["subprocess.Popen[bytes]"]) -> None:
    family = Family(started.run, started.who["trainer"])
    assert set(started.who.values()) <= set(family.members())
    family.end()
    assert started.living() == set() and family.members() == []
    assert [one.poll() for one in bystanders] == [None, None]
    started.trainer.wait(timeout=30)  # a shell whose children went first may have ended by itself


def test_what_a_killed_trainer_leaves_is_found_by_its_session_and_its_mark(started: Started) -> None:
    started.who["trainer"].signal(signal.SIGKILL)
    until(lambda: "trainer" not in started.living())
    assert {"stray", "grandchild", "orphan"} <= started.living()
    family = Family(started.run, started.who["trainer"])  # not collected yet, so the session's number is its own
    assert {started.who["stray"], started.who["orphan"]} <= set(family.members())
    started.trainer.wait()
    later = Family(started.run)  # whoever comes later knows the mark alone
    assert started.who["orphan"] in later.members() and started.who["stray"] not in later.members()
    family.end()
    assert not {"stray", "orphan"} & started.living()


def test_who_was_seen_once_is_ended_though_nothing_leads_to_it_any_more(started: Started) -> None:
    family = Family(started.run, started.who["trainer"])
    family.members()
    started.who["trainer"].signal(signal.SIGKILL)
    started.trainer.wait()
    family.end()
    assert started.living() == set()


def test_a_trainer_whose_number_is_anothers_leads_to_nobody(
    tmp_path: Path, bystanders: list["subprocess.Popen[bytes]"]
) -> None:
    other = ProcessIdentity.of(bystanders[1].pid)
    assert other is not None
    family = Family(tmp_path / "run", replace(other, started="1"))
    assert family.members() == []
    family.end()
    assert bystanders[1].poll() is None


def test_a_process_that_a_trainer_started_for_another_run_is_left_alone(tmp_path: Path) -> None:
    """A person's notebook trains one run and has started another in the background."""
    starts = (
        "import os, subprocess, sys, time; from pianistid_core.ladder import apart; "
        "other = subprocess.Popen(['sleep', '60'], env={**os.environ, **apart()}); print(other.pid, flush=True); "
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", starts], stdout=subprocess.PIPE, text=True) as notebook:
        assert notebook.stdout is not None
        other = ProcessIdentity.of(int(notebook.stdout.readline()))
        family = Family(tmp_path / "run", ProcessIdentity.of(notebook.pid))
        family.end()
        assert notebook.wait() == -signal.SIGKILL
        assert other is not None and other.alive() and other.signal(signal.SIGKILL)


def test_a_run_without_any_process_is_ended_by_a_signal_to_nobody(
    tmp_path: Path, bystanders: list["subprocess.Popen[bytes]"]
) -> None:
    """Where a session was begun outside of a container its number is 0, which is nobody's."""
    me = ProcessIdentity.of()
    for family in (Family(tmp_path / "run"), Family(tmp_path / "run", me)):
        assert not [one for one in family.members() if one.pid in (1, os.getpid(), os.getppid())]
    family = Family(tmp_path / "run")
    assert family.members() == []
    family.end()
    assert [one.poll() for one in bystanders] == [None, None]


def test_each_step_is_taken_when_its_time_has_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = Started(tmp_path, heeds=False)
    clock = [100.0]
    ladder = Ladder(Family(started.run, started.who["trainer"]), Patience(30.0, 40.0), now=lambda: clock[0])
    for asked, at, living in (
        (True, 100.0, set(started.who)), (True, 129.0, set(started.who)),
        (False, 131.0, set(started.who)), (True, 132.0, set(started.who)),  # taken back, and asked anew
        (True, 161.0, set(started.who)),
    ):  # fmt: skip
        clock[0] = at
        ladder.climb(asked=asked)
        assert started.living() == living, at
    clock[0] = 162.0
    ladder.climb(asked=True)
    until(lambda: started.living() < set(started.who))
    assert "trainer" in started.living() and not ladder.killed and ladder.insisted  # it goes on, what it started ends
    clock[0] = 172.0
    ladder.climb(asked=True)
    assert ladder.killed and started.living() == set()
    assert ladder.wait_for(started.trainer, asked=lambda: True) == -signal.SIGKILL


def test_what_a_trainer_leaves_behind_is_ended(started: Started) -> None:
    ladder = Ladder(Family(started.run, started.who["trainer"]), Patience())
    started.who["trainer"].signal(signal.SIGKILL)
    until(lambda: "trainer" not in started.living())
    assert ladder.wait_for(started.trainer, asked=lambda: False) == -signal.SIGKILL
    assert not {"stray", "orphan"} & started.living()


def test_a_mark_is_of_one_run(tmp_path: Path) -> None:
    assert is_marked(tmp_path / "a", marked(tmp_path / "a")) and not is_marked(tmp_path / "b", marked(tmp_path / "a"))
    assert not is_marked(tmp_path / "a", {})
