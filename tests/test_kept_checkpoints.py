"""A run's checkpoints: proven before they take their name, and never without one to fall back to."""

import errno
import os
import shutil
import threading
from pathlib import Path

import pytest
import torch

from pianistid_core.errors import DamagedCheckpointError, DiskFullError, RunError
from pianistid_core.failures import failure_kind
from pianistid_core.processes import ProcessIdentity
from pianistid_core.runs import Run
from pianistid_core.seals import verify

STATE = {"model_state_dict": {"w": torch.zeros(2)}}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path, "experiment", "run")


def names(run: Run) -> list[str]:
    return sorted(path.name for path in run.path.glob("*checkpoint*"))


def flip(path: Path, bit: int = 4001) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def test_the_latest_checkpoint_is_the_most_trained(run: Run) -> None:
    with pytest.raises(RunError, match="no checkpoint"):
        run.latest_checkpoint()
    run.save_checkpoint(STATE, epoch=1, batch=0, keep_old=True)
    middle = run.save_checkpoint(STATE, epoch=1, batch=4, keep_old=True)
    assert run.latest_checkpoint() == middle and verify(middle)
    run.save_checkpoint(STATE, epoch=10, batch=0, keep_old=True)
    assert run.latest_checkpoint().name == "checkpoint_010.pth"


def test_the_one_before_the_newest_is_always_kept(run: Run) -> None:
    for epoch, batch in ((1, 0), (1, 4), (2, 0), (3, 0)):
        run.save_checkpoint(STATE, epoch=epoch, batch=batch, keep_old=True)
    assert names(run) == ["checkpoint_001.pth", "checkpoint_002.pth", "checkpoint_003.pth"], "none in mid-epoch"
    for epoch in (4, 5):
        run.save_checkpoint(STATE, epoch=epoch, batch=0, keep_old=False)
    assert names(run) == ["checkpoint_004.pth", "checkpoint_005.pth"]


def test_a_checkpoint_that_fails_to_be_written_leaves_the_last_one(run: Run) -> None:
    run.save_checkpoint(STATE, epoch=1, batch=0, keep_old=False)
    with pytest.raises(Exception, match="pickle"):
        run.save_checkpoint({"bad": lambda: None}, epoch=2, batch=0, keep_old=False)
    assert names(run) == ["checkpoint_001.pth"]


def test_a_checkpoint_that_reads_back_otherwise_takes_no_place(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run.save_checkpoint(STATE, epoch=1, batch=0, keep_old=False)
    good = first.read_bytes()
    really = os.posix_fadvise

    def failing_disk(handle: int, *arguments: int) -> None:
        really(handle, *arguments)
        flip(Path(f"/proc/self/fd/{handle}").resolve())

    monkeypatch.setattr(os, "posix_fadvise", failing_disk)
    for epoch in (1, 2):
        with pytest.raises(RunError, match=r"could not be read back as it was written.*older checkpoints are kept"):
            run.save_checkpoint(STATE, epoch=epoch, batch=0, keep_old=False)
    assert names(run) == ["checkpoint_001.pth"] and first.read_bytes() == good


def test_a_disk_without_room_is_said_to_be_full_before_anything_is_written(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run.save_checkpoint(STATE, epoch=1, batch=0, keep_old=False)
    size = first.stat().st_size
    for free, fits in ((size - 1, False), (size, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: shutil._ntuple_diskusage(0, 0, free))  # type: ignore[attr-defined]
        if fits:
            run.save_checkpoint(STATE, epoch=2, batch=0, keep_old=False)
            continue
        with pytest.raises(DiskFullError, match=r"the disk is full: checkpoint_002\.pth needs.*checkpoint_001") as full:
            run.save_checkpoint(STATE, epoch=2, batch=0, keep_old=False)
        assert failure_kind(full.value) == "disk full" and names(run) == ["checkpoint_001.pth"]
    assert names(run) == ["checkpoint_001.pth", "checkpoint_002.pth"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_disk_that_fills_while_it_is_written_leaves_the_last_one(run: Run) -> None:
    run.save_checkpoint(STATE, epoch=1, batch=0, keep_old=False)
    aside = run.path / f".checkpoint_002.pth.{os.getpid()}.{threading.get_ident()}.tmp"
    aside.symlink_to("/dev/full")  # where every write says that no space is left
    with pytest.raises(OSError, match="No space left") as full:
        run.save_checkpoint(STATE, epoch=2, batch=0, keep_old=False)
    assert full.value.errno == errno.ENOSPC and names(run) == ["checkpoint_001.pth"]


def test_a_damaged_latest_one_is_refused_and_the_whole_one_before_it_is_named(run: Run) -> None:
    for epoch in (1, 2, 3):
        flip(run.save_checkpoint(STATE, epoch=epoch, batch=0, keep_old=True), 3000 if epoch > 1 else 0)
    with pytest.raises(DamagedCheckpointError, match=r"checkpoint_003\.pth is damaged; no other of the run is whole"):
        run.latest_checkpoint()
    flip(run.path / "checkpoint_001.pth", 0)
    with pytest.raises(DamagedCheckpointError, match=r"checkpoint_003\.pth is damaged; checkpoint_001\.pth before it"):
        run.latest_checkpoint()


def test_damaged_ones_are_set_aside_until_they_are_trained_again(run: Run) -> None:
    for epoch in (1, 2):
        run.save_checkpoint(STATE, epoch=epoch, batch=0, keep_old=True)
    run.set_aside([run.path / "checkpoint_002.pth"])
    assert [path.name for path in run.damaged_checkpoints()] == ["checkpoint_002.pth.damaged"]
    assert [path.name for path in run.checkpoints()] == ["checkpoint_001.pth"]
    run.save_checkpoint(STATE, epoch=2, batch=0, keep_old=True)
    assert run.damaged_checkpoints() == []
    run.set_aside([run.path / "checkpoint_002.pth"])
    run.delete_checkpoint("checkpoint_002.pth.damaged")
    assert names(run) == ["checkpoint_001.pth"]


def test_a_checkpoint_can_be_deleted_unless_the_run_needs_it(run: Run) -> None:
    for epoch in (1, 2):
        run.save_checkpoint(STATE, epoch=epoch, batch=0, keep_old=True)
    for name in ("checkpoint_003.pth", "../run/checkpoint_001.pth", "run.json", ""):
        with pytest.raises(RunError, match="no checkpoint"):
            run.delete_checkpoint(name)
    run.set_state("running", epochs=3, process=ProcessIdentity.of())
    with pytest.raises(RunError, match="still running"):
        run.delete_checkpoint("checkpoint_001.pth")
    run.set_state("stopped", epochs=3)
    run.delete_checkpoint("checkpoint_001.pth")
    assert names(run) == ["checkpoint_002.pth"]
