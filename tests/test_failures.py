"""Why a run failed: the kind, a sentence with what to do, and the largest batch that fits."""

import errno
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import DataError, RunError
from pianistid_core.failures import failure_in_words, failure_kind, largest_batch
from pianistid_core.learning import DivergedError, Learner
from pianistid_core.run_config import run_for
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
        (FileNotFoundError(errno.ENOENT, "No such file", "a.mid"), "missing file", "a file is missing: a.mid"),
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
