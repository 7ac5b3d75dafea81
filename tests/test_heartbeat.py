"""A trainer's sign of life: missed when it is frozen, whatever the clock says; and its log within bounds."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import BinaryIO

import pytest

from pianistid_core import heartbeat
from pianistid_core.atomic import replacing
from pianistid_core.heartbeat import BEAT_FILE, OLD_LOG, beating, bound_log, silent_s
from pianistid_core.processes import Moment, ProcessIdentity
from pianistid_core.run_log import LogFile
from pianistid_core.runs import Run
from tiny import until

BEATS = (
    "import sys; from pathlib import Path; from pianistid_core import heartbeat; heartbeat.BEAT_EVERY_S = 0.05\n"
    "with heartbeat.beating(Path(sys.argv[1])): print('there', flush=True); sys.stdin.read()"
)


@pytest.fixture
def me() -> ProcessIdentity:
    found = ProcessIdentity.of()
    assert found is not None
    return found


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path, "study", "one")


@pytest.fixture
def trainer(run: Run) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", BEATS, str(run.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"there\n"
    run.set_state("running", epochs=1, process=ProcessIdentity.of(process.pid))
    yield process
    process.kill()
    process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="only POSIX systems freeze a process")
def test_a_frozen_trainer_does_not_respond_and_is_not_dead(
    run: Run, trainer: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "SILENT_AFTER_S", 1.0)
    until(lambda: (run.path / BEAT_FILE).exists())
    trainer.send_signal(signal.SIGSTOP)
    until(lambda: run.state().silent_s is not None)
    assert run.state().status == "running" and (run.state().silent_s or 0.0) >= 1.0
    trainer.send_signal(signal.SIGCONT)
    until(lambda: run.state().silent_s is None)
    assert run.state().status == "running"


def write(folder: Path, process: object, moment: object) -> None:
    (folder / BEAT_FILE).write_text(json.dumps({"process": process, "moment": moment}))


def test_a_sign_counts_that_this_very_trainer_gave_in_this_boot(tmp_path: Path, me: ProcessIdentity) -> None:
    now = Moment.now()
    early = replace(now, clock_s=now.clock_s - 100.0)
    assert silent_s(tmp_path, me) is None
    write(tmp_path, asdict(me), asdict(early))
    assert silent_s(tmp_path, me) == pytest.approx(100.0, abs=30.0)
    assert silent_s(tmp_path, replace(me, started="1")) is None
    for moment in (now, replace(early, boot="of another day"), replace(now, clock_s=now.clock_s + 1e6)):
        write(tmp_path, asdict(me), asdict(moment))
        assert silent_s(tmp_path, me) is None


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"process": 1, "moment": 2}', b"\xff"])
def test_a_damaged_sign_is_none(tmp_path: Path, me: ProcessIdentity, text: bytes) -> None:
    (tmp_path / BEAT_FILE).write_bytes(text)
    assert silent_s(tmp_path, me) is None


def test_a_sign_is_written_over_the_one_before_and_needs_no_folder(
    tmp_path: Path, me: ProcessIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    with beating(tmp_path / "gone"):
        pass
    monkeypatch.setattr(heartbeat, "BEAT_EVERY_S", 0.01)
    (tmp_path / BEAT_FILE).write_text("x" * 300)
    with beating(tmp_path):
        until(lambda: b"clock_s" in (tmp_path / BEAT_FILE).read_bytes())
        first = (tmp_path / BEAT_FILE).read_bytes()
        until(lambda: (tmp_path / BEAT_FILE).read_bytes() != first)
    assert os.stat(tmp_path / BEAT_FILE).st_size == len(first) and not (tmp_path / "gone").exists()


def test_a_log_that_grows_too_long_keeps_its_end_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "MOST_LOG_BYTES", 200_000)
    monkeypatch.setattr(heartbeat, "KEPT_LOG_BYTES", 50_000)
    path = tmp_path / "log.txt"
    bound_log(path)
    reader, taken = LogFile(path), 0
    with path.open("ab", buffering=0) as log:  # as a trainer's output is
        for number in range(30_000):
            log.write(b"a warning, number %06d\n" % number)
            if number % 1000 == 0:
                bound_log(path)
                lines = reader.lines()
                taken += lines[-1].text.endswith(f"number {number:06d}")
    assert path.stat().st_size < 250_000 and (tmp_path / OLD_LOG).stat().st_size <= 50_000
    assert b"number 029999" in path.read_bytes()[-30:] and taken >= 20
    old, begun = (tmp_path / OLD_LOG).read_bytes(), path.read_bytes().split(b"\n")
    assert OLD_LOG.encode() in begun[0] and begun[1].endswith(b"%06d" % (int(old[-7:]) + 1))


def test_what_is_written_while_the_end_of_a_log_is_kept_is_kept_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "MOST_LOG_BYTES", 100)
    monkeypatch.setattr(heartbeat, "KEPT_LOG_BYTES", 50)
    path = tmp_path / "log.txt"
    path.write_bytes(b"line\n" * 100)

    @contextmanager
    def slow(kept: Path) -> Iterator[BinaryIO]:
        with replacing(kept) as file:
            yield file
        with path.open("ab") as log:
            log.write(b"late\n")

    monkeypatch.setattr(heartbeat, "replacing", slow)
    bound_log(path)
    assert (tmp_path / OLD_LOG).read_bytes() == b"line\n" * 10 + b"late\n"


def test_a_log_whose_end_cannot_be_kept_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "MOST_LOG_BYTES", 100)
    monkeypatch.setattr(heartbeat, "KEPT_LOG_BYTES", 50)
    path = tmp_path / "log.txt"
    path.write_bytes(b"line\n" * 100)
    (tmp_path / OLD_LOG / "in the way").mkdir(parents=True)
    with pytest.raises(OSError):
        bound_log(path)
    assert path.read_bytes() == b"line\n" * 100
