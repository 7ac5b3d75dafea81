"""Batches on their way to a device: three forms, the same floats."""

import pytest
import torch

from pianistid_core.batches import FORMS, AnyBatch, Batch, Form, PackedBatch, StrokeBatch
from pianistid_core.clips import ClipOptions
from pianistid_core.datasets.cache import open_note_cache
from pianistid_core.datasets.root import DataRoot
from pianistid_core.loader import ClipDataset

KINDS = {"float32": Batch, "uint8": PackedBatch, "strokes": StrokeBatch}


def batch(root: DataRoot, form: Form, options: ClipOptions, *, with_positives: bool = False) -> AnyBatch:
    cache = open_note_cache(root, "tiny", "train")
    return ClipDataset(cache, options, seed=3, training=True, with_positives=with_positives).draw(range(7), form)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("multichannel", [True, False])
def test_every_form_becomes_the_same_floats(tiny_root: DataRoot, multichannel: bool, normalize: bool) -> None:
    options = ClipOptions(normalize_velocity=normalize, multichannel=multichannel, data_augmentation=True)
    drawn = {form: batch(tiny_root, form, options, with_positives=True) for form in FORMS}
    assert {form: type(one) for form, one in drawn.items()} == KINDS
    expected = drawn["float32"].to_device("cpu")
    assert expected.positives is not None and (expected.rolls.max() > 1) == (not normalize)
    for one in drawn.values():
        on_device = one.to_device("cpu")
        assert len(one) == len(on_device) == 7
        assert torch.equal(on_device.rolls, expected.rolls) and torch.equal(on_device.positives, expected.positives)
        for name in ("labels", "recordings", "clips"):
            assert torch.equal(getattr(on_device, name), getattr(expected, name))
        assert on_device.skipped == one.skipped == expected.skipped


def test_without_positives_there_are_none(tiny_root: DataRoot) -> None:
    for form in FORMS:
        assert batch(tiny_root, form, ClipOptions()).to_device("cpu").positives is None


def test_a_batch_unpacks(tiny_root: DataRoot) -> None:
    one = batch(tiny_root, "float32", ClipOptions()).to_device("cpu")
    rolls, labels, recordings = one
    assert rolls is one.rolls and labels is one.labels and recordings is one.recordings


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("form", FORMS)
def test_every_form_becomes_the_same_floats_on_a_gpu(tiny_root: DataRoot, form: Form) -> None:
    options = ClipOptions(multichannel=True, data_augmentation=True)
    expected = batch(tiny_root, "float32", options, with_positives=True)
    assert isinstance(expected, Batch) and expected.positives is not None
    pinned = batch(tiny_root, form, options, with_positives=True).pin_memory()
    there = pinned.to_device("cuda")
    assert there.rolls.device.type == there.labels.device.type == "cuda" and there.positives is not None
    assert torch.equal(there.rolls.cpu(), expected.rolls) and torch.equal(there.positives.cpu(), expected.positives)
    assert torch.equal(there.labels.cpu(), expected.labels)
