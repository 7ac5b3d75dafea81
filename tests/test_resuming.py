"""A run goes on from its newest whole checkpoint, says which it passed over, and never starts over by itself."""

import errno
import shutil
from pathlib import Path

import pytest
import torch

from pianistid_core import outline
from pianistid_core.checkpoints import load_model, read_checkpoint
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import CheckpointError, DamagedCheckpointError, RunError
from pianistid_core.resuming import saved_for
from pianistid_core.run_config import run_for
from pianistid_core.runs import Run, RunState
from pianistid_core.training import train
from tiny import tiny_config

TIMES = ("seconds", "clips_per_second", "peak_memory_mb")


@pytest.fixture
def run(tiny_root: DataRoot) -> Run:
    """A run of three epochs with a checkpoint of each."""
    config = tiny_config(epochs=3)
    train(config, tiny_root, run_for(config, tiny_root))
    return run_for(config, tiny_root)


def flip(path: Path, bit: int = 40_001) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def rows(run: Run) -> list[dict[str, object]]:
    return [{key: value for key, value in row.items() if key not in TIMES} for row in run.metrics()]


def test_damaged_checkpoints_are_passed_over_and_named_and_the_end_is_the_same(tiny_root: DataRoot, run: Run) -> None:
    before, weights = rows(run), read_checkpoint(run.latest_checkpoint())["model_state_dict"]
    flip(run.path / "checkpoint_003.pth")
    (run.path / "checkpoint_002.pth").write_bytes((run.path / "checkpoint_002.pth").read_bytes()[:-3000])
    states: list[RunState] = []
    said: set[str] = set()

    def look(phase: str, done: int, total: int) -> None:
        states.append(run.state())
        said.update(path.name for path in run.damaged_checkpoints())

    train(tiny_config(epochs=3), tiny_root, run, on_progress=look)
    words = "checkpoint_003.pth, checkpoint_002.pth are damaged; it goes on from checkpoint_001.pth, the newest whole"
    assert states[-1].status == "running" and words in states[-1].reason and words in run.log_tail()
    assert said == {"checkpoint_002.pth.damaged", "checkpoint_003.pth.damaged"}
    assert run.damaged_checkpoints() == [], "they were trained again"
    assert run.state() == RunState(**{**vars(run.state()), "status": "finished", "reason": ""})
    assert rows(run) == before
    after = read_checkpoint(run.latest_checkpoint())["model_state_dict"]
    assert all(torch.equal(after[name], weights[name]) for name in weights)


def test_a_run_whose_checkpoints_are_all_damaged_starts_over_only_when_told(tiny_root: DataRoot, run: Run) -> None:
    for path in run.checkpoints():
        flip(path)
    metrics = run.metrics_path.read_bytes()
    for _ in range(2):  # a second try must not find a run that has no checkpoint
        with pytest.raises(CheckpointError, match=r"all|checkpoint_001\.pth are damaged.*load_checkpoints=false"):
            train(tiny_config(epochs=3), tiny_root, run)
        assert run.state().status == "failed" and "there is no other" in run.state().reason
        assert len(run.checkpoints()) == 3 and run.metrics_path.read_bytes() == metrics
    again = {"load_checkpoints": False, "checkpoint_after_n_epochs": 1}
    train(tiny_config(epochs=1, checkpoint_cfg=again), tiny_root, run)
    assert run.state().status == "finished" and [row["epoch"] for row in run.metrics()] == [1]


def test_what_is_measured_of_a_run_is_of_its_latest_checkpoint_or_of_none(tiny_root: DataRoot, run: Run) -> None:
    flip(run.path / "checkpoint_003.pth")
    with pytest.raises(DamagedCheckpointError, match=r"checkpoint_002\.pth before it is whole"):
        load_model(run.path, root=tiny_root)
    assert load_model(run.path / "checkpoint_002.pth", root=tiny_root).epoch == 2
    with pytest.raises(DamagedCheckpointError, match=r"checkpoint_003\.pth is damaged"):
        load_model(run.path / "checkpoint_003.pth", root=tiny_root)


def test_a_checkpoint_that_cannot_be_reached_is_not_called_damaged(tiny_root: DataRoot, run: Run) -> None:
    newest = run.path / "checkpoint_003.pth"
    newest.unlink()
    newest.mkdir()  # as root no permission is denied, but no folder is read either
    with pytest.raises(RunError, match="IsADirectoryError"):
        train(tiny_config(epochs=4), tiny_root, run)
    assert run.damaged_checkpoints() == []
    shutil.rmtree(newest)
    train(tiny_config(epochs=3), tiny_root, run)
    assert run.state().status == "finished"


NO_MEMORY = (
    "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate 400 b"
)


@pytest.mark.parametrize("trouble", [MemoryError(), RuntimeError(NO_MEMORY), OSError(errno.EINTR, "interrupted")])
def test_what_fails_in_the_machine_sets_no_checkpoint_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    run = saved(tmp_path)

    def fail(*arguments: object, **settings: object) -> None:
        raise trouble

    with monkeypatch.context() as at, pytest.raises((MemoryError, OSError)):
        at.setattr(torch, "load", fail)
        saved_for(tiny_config(), run)
    assert run.damaged_checkpoints() == []
    found = saved_for(tiny_config(), run)
    assert found is not None and found[0] == "checkpoint_002.pth"


def test_a_whole_checkpoint_that_is_refused_stays_and_one_of_no_structure_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = saved(tmp_path)
    with monkeypatch.context() as at, pytest.raises(CheckpointError, match="are read"):
        at.setattr(outline, "MAX_BYTES", 100)
        saved_for(tiny_config(), run)
    assert run.damaged_checkpoints() == []
    run.latest_checkpoint().write_bytes(bytes(2000))  # as a loss of power may leave it
    found = saved_for(tiny_config(), run)
    assert found is not None and found[0] == "checkpoint_001.pth" and len(run.damaged_checkpoints()) == 1


def saved(folder: Path) -> Run:
    """A run with two checkpoints, which was never trained."""
    run = Run.create(folder, "tests", "tiny")
    for epoch in (1, 2):
        state = {"model_state_dict": {"w": torch.ones(5)}, "epoch": epoch, "batch": 0}
        run.save_checkpoint(state, epoch=epoch, batch=0, keep_old=True)
    return run
