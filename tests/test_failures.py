"""Why a run failed: the kind, a sentence with what to do, and the largest batch that fits."""

import errno
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import DataError, DiskFullError, RunError
from pianistid_core.failures import failure_in_words, failure_kind, largest_batch
from pianistid_core.learning import DivergedError, Learner
from pianistid_core.run_config import run_for
from pianistid_core.runs import Run
from pianistid_core.training import train
from tiny import tiny_config

NO_ROOM = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def learner_with_room(n_clips: int, **changes: Any) -> tuple[Learner, list[int]]:
    """A learner on a device that has room for so many clips at a time, and the batches that were tried on it."""
    learner, tried = Learner(tiny_config(**changes), torch.device("cpu"), 3), []

    def look(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        tried.append(len(inputs[0]))
        if len(inputs[0]) > n_clips:
            raise NO_ROOM

    learner.model.get_submodule("fc2").register_forward_pre_hook(look)
    return learner, tried


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (NO_ROOM, "out of memory", "the device ran out of memory; lower batch_size (now 5)"),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling"), "out of memory", "the device ran out of memory"),
        (MemoryError(), "out of memory", "the machine ran out of memory; lower batch_size (now 5) or num_workers"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory", "the machine ran out of memory"),
        (OSError(errno.ENOSPC, "No space left"), "disk full", "free some space and resume"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk full", "free some space and resume"),
        (
            OSError(errno.EFBIG, "File too large", "a.pth"),
            "disk full",
            "a.pth may not grow any further (File too large)",
        ),
        (DiskFullError("the disk is full: it needs more"), "disk full", "it needs more"),
        (
            OSError(errno.EROFS, "Read-only file system", "a.json"),
            "no access",
            "a.json cannot be used any more (Read-on",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "a"), "no access", "give the user who trains access"),
        (OSError(errno.EIO, "Input/output error", "a.bin"), None, "the disk fails at a.bin"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.mid"), "missing file", "a file is missing: a.mid"),
        (
            FileNotFoundError(errno.ENOENT, "No", "/gone/b/c.json"),
            "missing file",
            "the folder /gone is gone: it was moved",
        ),
        (FileNotFoundError("nothing"), "missing file", "nothing"),
        (DivergedError("the loss is nan"), "loss is not a number", "the loss is nan"),
        (DataError("no clips"), "bad data", "no clips"),
        (RuntimeError("a surprise"), None, "RuntimeError: a surprise"),
    ],
)
def test_a_failure_has_a_kind_and_a_sentence(error: Exception, kind: str | None, words: str) -> None:
    assert failure_kind(error) == kind
    assert words in failure_in_words(error, tiny_config())


@given(room=st.integers(0, 300), below=st.integers(2, 300), smallest=st.integers(1, 2))
def test_the_largest_batch_is_found_exactly(room: int, below: int, smallest: int) -> None:
    tried: list[int] = []

    def fits(n: int) -> bool:
        tried.append(n)
        return n <= room

    most = min(room, below - 1)
    assert largest_batch(fits, smallest=smallest, below=below) == (most if most >= smallest else None)
    assert all(smallest <= n < below for n in tried) and len(tried) == len(set(tried)) <= 10


@pytest.mark.parametrize(
    ("room", "words"),
    [(3, "the largest batch that fits is 3, so set batch_size to 3 (now 5)"), (0, "not even a batch of 1 fits")],
)
def test_a_device_without_room_is_tried_with_smaller_batches(room: int, words: str) -> None:
    learner, tried = learner_with_room(room)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        learner.try_batch(5)
    assert words in failure_in_words(caught.value, learner.config, learner)
    assert tried[0] == 5 and max(tried[1:]) < 5


def test_a_loss_of_pairs_is_never_told_to_take_one_clip() -> None:
    learner, tried = learner_with_room(1, loss_type="cce+triplet")
    assert "not even a batch of 2 fits" in failure_in_words(NO_ROOM, learner.config, learner)
    assert min(tried) == 2


def test_a_trial_that_fails_for_another_reason_does_not_hide_the_failure() -> None:
    def fail(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        raise ValueError("something else")

    learner, _ = learner_with_room(5)
    learner.model.get_submodule("fc2").register_forward_pre_hook(fail)
    words = failure_in_words(NO_ROOM, learner.config, learner)
    assert words == "the device ran out of memory; lower batch_size (now 5)"


def test_a_run_whose_device_runs_out_of_memory_in_mid_epoch_says_what_fits(
    tiny_root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, calls = torch.nn.functional.cross_entropy, 0

    def room_at_first(logits: torch.Tensor, labels: torch.Tensor, **options: Any) -> torch.Tensor:
        nonlocal calls
        calls += logits.requires_grad
        if calls > 6 and logits.requires_grad and len(logits) > 3:  # in the second of two epochs of four batches
            raise NO_ROOM
        return really(logits, labels, **options)

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", room_at_first)
    run = run_for(tiny_config(), tiny_root)
    with pytest.raises(RunError, match=r"the largest batch that fits is 3, so set batch_size to 3 \(now 5\)"):
        train(tiny_config(), tiny_root, run)
    assert run.state().status == "failed" and "set batch_size to 3" in run.state().reason
    assert [path.name for path in run.checkpoints()] == ["checkpoint_001.pth"]


# --- a run that meets it goes on when the cause is gone ---------------------------------------------------------------


def once(phase: str, batch: int, action: Callable[[], object], *, visit: int = 2) -> Callable[[str, int, int], None]:
    """A progress callback that does something at the `visit`-th time that a batch of a phase is done."""
    visits = 0

    def look(seen: str, done: int, total: int) -> None:
        nonlocal visits
        visits += (seen, done) == (phase, batch)
        if (seen, done) == (phase, batch) and visits == visit:
            action()

    return look


def figures(run: Run) -> list[dict[str, Any]]:
    times = ("seconds", "clips_per_second", "peak_memory_mb")
    return [{key: value for key, value in row.items() if key not in times} for row in run.metrics()]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_ends_a_run_in_words_and_it_goes_on_when_there_is_room(tiny_root: DataRoot) -> None:
    whole, config = run_for(tiny_config(run="whole"), tiny_root), tiny_config()
    train(tiny_config(run="whole"), tiny_root, whole)
    run = run_for(config, tiny_root)
    kept = run.path / "kept"

    def fill() -> None:
        # Every write to /dev/full says that no space is left; so does every row, until it is a file again.
        os.rename(run.metrics_path, kept)
        run.metrics_path.symlink_to("/dev/full")

    with pytest.raises(RunError, match="the disk is full; free some space and resume"):
        train(config, tiny_root, run, on_progress=once("test", 1, fill))
    failure = run.failure()
    assert failure is not None and failure.kind == "disk full" and "disk is full" in run.state().reason
    assert "the disk is full" in run.log_tail(), "in the space that was kept back"
    os.replace(kept, run.metrics_path)
    assert train(config, tiny_root, run).status == "finished"
    assert figures(run) == figures(whole)
    assert not (run.path / ".reserve").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_run_that_cannot_begin_for_a_full_disk_says_so_and_is_what_it_was(tiny_root: DataRoot) -> None:
    run = run_for(tiny_config(), tiny_root)
    train(tiny_config(epochs=1), tiny_root, run)
    (run.path / ".reserve").symlink_to("/dev/full")
    with pytest.raises(RunError, match="run tests/tiny cannot be trained: the disk is full; free some space"):
        train(tiny_config(), tiny_root, run)
    assert run.state().status == "finished" and len(run.metrics()) == 1
    assert train(tiny_config(), tiny_root, run).epoch == 2


def test_a_state_that_cannot_be_written_does_not_hide_why_a_run_failed(tiny_root: DataRoot) -> None:
    run = run_for(tiny_config(), tiny_root)
    elsewhere = run.path.with_name("moved")
    with pytest.raises(RunError, match=r"the folder .*tests/tiny is gone: it was moved or deleted; put it back and"):
        train(tiny_config(), tiny_root, run, on_progress=once("test", 1, lambda: os.rename(run.path, elsewhere)))
    os.rename(elsewhere, run.path)
    assert len(run.metrics()) == 1 and train(tiny_config(), tiny_root, run).status == "finished"


def test_a_run_whose_music_vanishes_goes_on_from_what_it_has_read(tiny_root: DataRoot) -> None:
    config = tiny_config(num_workers=2)
    run, elsewhere = run_for(config, tiny_root), tiny_root.path / "moved"

    def vanish() -> None:
        os.rename(tiny_root.path / "data", elsewhere)
        shutil.rmtree(tiny_root.cache_dir)

    with suppress(RunError):
        train(config, tiny_root, run, on_progress=once("train", 2, vanish, visit=1))
    state = run.state()
    assert state.status == "finished" or "is gone" in state.reason or "missing" in state.reason, state
    with pytest.raises(DataError, match="tiny"):  # and no other is begun without it
        train(config, tiny_root, run)
    os.rename(elsewhere, tiny_root.path / "data")
    assert train(config, tiny_root, run).status == "finished" and len(run.metrics()) == 2


def test_a_clock_that_is_set_back_a_day_at_every_look_changes_nothing(
    tiny_root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, looks = time.time, 0

    def back() -> float:
        nonlocal looks
        looks += 1
        return really() - 86_400 * looks

    monkeypatch.setattr(time, "time", back)
    run = run_for(tiny_config(), tiny_root)
    seen: list[str] = []
    train(tiny_config(), tiny_root, run, on_progress=lambda *_: seen.append(run.state().status))
    assert looks and set(seen) == {"running"} and run.state().status == "finished"
    assert all(row["seconds"] > 0 for row in run.metrics())
