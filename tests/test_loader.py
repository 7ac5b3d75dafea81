"""Batches: the same whatever the worker count, every clip once, nothing hidden."""

import numpy as np
import pytest
import torch

from pianistid_core.batches import Batch
from pianistid_core.clips import ClipOptions
from pianistid_core.datasets.cache import open_note_cache
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import SplitError
from pianistid_core.loader import ClipDataset, make_loader
from pianistid_core.midi import write_midi
from tiny import PIANISTS, make_notes, tiny_config

TRAINING = tiny_config().train_dataset_cfg


def dataset(root: DataRoot, options: ClipOptions = TRAINING, *, epoch: int = 0, **settings: object) -> ClipDataset:
    clips = ClipDataset(
        open_note_cache(root, "tiny", "train"),
        options,
        **({"seed": 1, "training": True} | settings),  # type: ignore[arg-type]
    )
    clips.set_epoch(epoch)
    return clips


def batches(clips: ClipDataset, **settings: object) -> list[Batch]:
    return list(make_loader(clips, **({"batch_size": 5, "shuffle": True} | settings)))  # type: ignore[arg-type]


def same(a: list[Batch], b: list[Batch]) -> bool:
    pairs = zip(a, b, strict=True)
    return all(torch.equal(x.rolls, y.rolls) and torch.equal(x.labels, y.labels) for x, y in pairs)


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_the_number_of_workers(tiny_root: DataRoot, workers: int) -> None:
    clips = dataset(tiny_root)
    assert same(batches(clips), batches(clips, num_workers=workers))


def test_each_clip_comes_once_an_epoch_in_another_order_each_time(tiny_root: DataRoot) -> None:
    orders = [torch.cat([b.clips for b in batches(dataset(tiny_root, epoch=epoch))]).tolist() for epoch in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(18))
    assert orders[0] != orders[1]


def test_a_batch_unpacks_as_rolls_labels_and_recordings(tiny_root: DataRoot) -> None:
    rolls, labels, recordings = next(iter(make_loader(dataset(tiny_root), batch_size=4, shuffle=False)))
    assert rolls.shape == (4, 4, 88, 3000) and rolls.dtype == torch.float32
    assert labels.tolist() == [0, 0, 0, 0] and recordings.tolist() == [0, 0, 1, 1]


def test_draws_differ_between_epochs_and_seeds_and_are_alike_within(tiny_root: DataRoot) -> None:
    first = dataset(tiny_root)[0].rolls
    assert torch.equal(first, dataset(tiny_root)[0].rolls)
    assert not torch.equal(first, dataset(tiny_root, epoch=1)[0].rolls)
    assert not torch.equal(first, dataset(tiny_root, seed=2)[0].rolls)


def test_an_interrupted_epoch_goes_on_with_the_same_batches(tiny_root: DataRoot) -> None:
    clips = dataset(tiny_root)
    assert same(batches(clips)[2:], batches(clips, start_batch=2))


def test_evaluation_draws_depend_on_the_notes_alone(tiny_root: DataRoot) -> None:
    options = ClipOptions(multichannel=True)
    one, other = (dataset(tiny_root, options, training=False, seed=seed, epoch=seed) for seed in (1, 2))
    assert torch.equal(one[3].rolls, other[3].rolls)


def test_n_clips_takes_clips_of_every_pianist(tiny_root: DataRoot) -> None:
    clips = dataset(tiny_root, ClipOptions(n_clips=6))
    labels = torch.cat([batch.labels for batch in batches(clips)])
    assert sorted(labels.tolist()) == [0, 0, 1, 1, 2, 2]


def test_sources_can_be_the_classes(tiny_root: DataRoot) -> None:
    clips = dataset(tiny_root, classify_dataset=True)
    assert clips.class_names == ("tiny",)
    assert set(torch.cat([batch.labels for batch in batches(clips)]).tolist()) == {0}


def test_positives_are_other_clips_of_the_same_pianist(tiny_root: DataRoot) -> None:
    options = ClipOptions()
    plain = {clip: dataset(tiny_root, options, training=False)[clip].rolls[0].numpy() for clip in range(18)}
    clips = dataset(tiny_root, options, with_positives=True)
    for batch in batches(clips):
        assert batch.positives is not None
        for clip, label, positive in zip(batch.clips.tolist(), batch.labels, batch.positives.numpy(), strict=True):
            (match,) = [other for other, roll in plain.items() if np.array_equal(roll, positive)]
            assert match != clip and clips.labels[match] == label


def test_clips_without_chords_are_skipped_with_the_reason(tiny_root: DataRoot) -> None:
    for path in tiny_root.clip_paths("tiny/ada-0"):
        write_midi(make_notes(1, chord=()), path)
    clips = dataset(tiny_root)
    found = batches(clips)
    skipped = [skip for batch in found for skip in batch.skipped]
    assert {reason.split(":")[0] for _, reason in skipped} == {"no chords in the clip"}
    drawn = sum(len(batch.labels) for batch in found)
    assert drawn == 18 - len(skipped) == 16
    assert same(found, batches(clips, num_workers=2))


def test_making_a_loader_leaves_the_generator_of_torch_alone(tiny_root: DataRoot) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    batches(dataset(tiny_root))
    assert torch.equal(before, torch.get_rng_state())


def test_the_simplest_data_set_is_for_evaluation_in_its_own_order(tiny_root: DataRoot) -> None:
    cache = open_note_cache(tiny_root, "tiny", "test")
    (batch,) = make_loader(ClipDataset(cache))
    assert batch.clips.tolist() == list(range(len(cache))) and batch.rolls.shape[1:] == (1, 88, 3000)
    assert same([batch], batches(ClipDataset(cache, ClipOptions(), seed=9), batch_size=32, shuffle=False))


def test_a_part_is_opened_by_name_and_drawn_as_its_part_is(tiny_root: DataRoot) -> None:
    for root in (tiny_root, tiny_root.path, str(tiny_root.path)):
        test = ClipDataset.open(root, "tiny", "test")
        assert len(test) == 6 and test.class_names == PIANISTS
        assert not test.training and test.options == ClipOptions(multichannel=True)
    train = ClipDataset.open(tiny_root, "tiny", "train")
    assert train.training and train.options.data_augmentation and train.options.jitter_start
    assert ClipDataset.open(tiny_root, "tiny").cache.fingerprint == train.cache.fingerprint
    own = ClipDataset.open(tiny_root, "tiny", "train", ClipOptions(), training=False, seed=3)
    assert not own.training and own.seed == 3 and own[0].rolls.shape == (1, 1, 88, 3000)
    with pytest.raises(SplitError, match="tiny"):
        ClipDataset.open(tiny_root, "tinny", "train")
