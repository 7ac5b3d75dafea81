"""Batches: the same whatever the worker count, the form and the share; every clip once; nothing hidden."""

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pianistid_core.batches import FORMS, Batch, Form
from pianistid_core.clips import ClipOptions
from pianistid_core.datasets.cache import open_note_cache
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import LoaderError, SplitError
from pianistid_core.loader import ClipDataset, Loader, ahead, make_loader
from pianistid_core.midi import write_midi
from tiny import PIANISTS, make_notes, tiny_config, until

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
    loader = make_loader(clips, **({"batch_size": 5, "shuffle": True} | settings))  # type: ignore[call-overload]
    return [batch.to_device("cpu") for batch in loader]


def same(a: list[Batch], b: list[Batch]) -> bool:
    pairs = zip(a, b, strict=True)
    return all(
        torch.equal(x.rolls, y.rolls) and torch.equal(x.labels, y.labels) and torch.equal(x.clips, y.clips)
        for x, y in pairs
    )


@pytest.mark.filterwarnings("ignore:This DataLoader will create 8 worker processes")
@pytest.mark.parametrize(
    ("workers", "form"), [(0, "uint8"), (0, "strokes"), (1, "float32"), (2, "float32"), (2, "uint8"), (8, "strokes")]
)
def test_batches_do_not_depend_on_form_or_workers(tiny_root: DataRoot, workers: int, form: Form) -> None:
    clips = dataset(tiny_root, with_positives=True)
    plain, other = batches(clips), batches(clips, num_workers=workers, form=form)
    assert same(plain, other)
    assert all(torch.equal(a.positives, b.positives) for a, b in zip(plain, other, strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_shares_of_a_batch_are_the_batch(tiny_root: DataRoot, workers: int) -> None:
    clips = dataset(tiny_root)
    whole = batches(clips, batch_size=8)
    shares = [batches(clips, batch_size=8, share=(rank, 3), num_workers=workers) for rank in range(3)]
    sizes = {tuple(len(share[number]) for share in shares) for number in range(3)}
    assert sizes == {(2, 3, 3), (0, 1, 1)}
    for number, batch in enumerate(whole):
        assert torch.equal(torch.cat([share[number].rolls for share in shares]), batch.rolls)
        assert torch.equal(torch.cat([share[number].clips for share in shares]), batch.clips)
    assert same(batches(clips, batch_size=8, share=(1, 3), start_batch=1), shares[1][1:])
    assert len(make_loader(clips, batch_size=8, share=(1, 3), start_batch=1)) == 2


def threads_that_draw() -> int:
    return sum(thread.name == "draw-ahead" for thread in threading.enumerate())


@pytest.mark.parametrize("workers", [0, 1])
def test_drawing_ahead_changes_nothing_and_leaves_nothing(tiny_root: DataRoot, workers: int) -> None:
    clips = dataset(tiny_root)
    loader = make_loader(clips, batch_size=4, shuffle=True, num_workers=workers)
    assert same(list(ahead(loader)), batches(clips, batch_size=4))
    assert threads_that_draw() == 0


def test_drawing_ahead_stops_with_the_one_who_asked(tiny_root: DataRoot) -> None:
    batches = ahead(make_loader(dataset(tiny_root), batch_size=1))
    next(batches)
    assert threads_that_draw() == 1
    batches.close()  # type: ignore[attr-defined]
    assert threads_that_draw() == 0


def test_drawing_ahead_is_never_far_ahead(tiny_root: DataRoot) -> None:
    asked: list[int] = []

    class Counted(ClipDataset):
        def draw(self, indices: list[int], form: Form = "float32") -> Batch:  # type: ignore[override]
            asked.append(len(asked))
            return super().draw(indices, form)  # type: ignore[return-value]

    batches = ahead(make_loader(Counted(open_note_cache(tiny_root, "tiny", "train")), batch_size=1))
    for taken in range(1, 10):
        next(batches)
        until(lambda taken=taken: len(asked) == taken + 2)  # type: ignore[misc]
    batches.close()  # type: ignore[attr-defined]
    assert len(asked) == 11


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_drawing_reaches_the_one_who_asked(tiny_root: DataRoot, workers: int) -> None:
    class Failing(ClipDataset):
        def draw(self, indices: list[int], form: Form = "float32") -> Batch:  # type: ignore[override]
            if 7 in indices:
                raise OSError("the disk is gone")
            return super().draw(indices, form)  # type: ignore[return-value]

    loader = make_loader(Failing(open_note_cache(tiny_root, "tiny", "train")), batch_size=4, num_workers=workers)
    for drawn in (ahead(loader), iter(loader)):
        assert len(next(drawn)) == 4
        with pytest.raises(OSError, match="the disk is gone"):
            next(drawn)
    assert threads_that_draw() == 0


class Dying(ClipDataset):
    """A data set that kills the process that draws one of its clips, as often as there are files that say so."""

    fatal_clip = 9

    def draw(self, indices: list[int], form: Form = "float32") -> Batch:  # type: ignore[override]
        if self.fatal_clip in indices:
            for order in sorted(self.cache.folder.glob("die-*")):
                order.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().draw(indices, form)  # type: ignore[return-value]


def dying(root: DataRoot, times: int) -> tuple[ClipDataset, Loader[Batch]]:
    cache = open_note_cache(root, "tiny", "train")
    for number in range(times):
        (cache.folder / f"die-{number}").touch()
    clips = Dying(cache, TRAINING, seed=1, training=True)
    return clips, make_loader(clips, batch_size=2, num_workers=2)


def test_a_worker_that_dies_changes_no_batch(tiny_root: DataRoot, caplog: pytest.LogCaptureFixture) -> None:
    expected = batches(dataset(tiny_root), batch_size=2, shuffle=False)
    _, loader = dying(tiny_root, times=1)
    with caplog.at_level(logging.WARNING):
        assert same(list(loader), expected)
    (record,) = [record for record in caplog.records if record.name == "pianistid_core.loader"]
    assert "starts again" in record.getMessage()


def test_workers_that_keep_dying_end_the_loader_in_words(tiny_root: DataRoot) -> None:
    _, loader = dying(tiny_root, times=2)
    drawn: Iterator[Batch] = iter(loader)
    given = 0
    with pytest.raises(LoaderError, match=r"died, twice.*num_workers: 0"):
        for _ in drawn:
            given += 1
    assert given <= 4


def test_a_program_ends_though_its_workers_died(tiny_root: DataRoot) -> None:
    lines = (
        "import sys",
        "from pathlib import Path",
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})",
        "from test_loader import DataRoot, dying",
        f"_, loader = dying(DataRoot(Path({str(tiny_root.path)!r}), cache_dir=Path({str(tiny_root.cache_dir)!r})), 2)",
        "list(loader)",
    )
    # The error is nobody's: it keeps the loader and its other worker until the interpreter is gone.
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "LoaderError" in done.stderr.splitlines()[-1]


def test_a_death_interrupts_nothing_but_the_next_batch(tiny_root: DataRoot) -> None:
    clips, loader = dying(tiny_root, times=1)
    drawn = iter(loader)
    next(drawn)
    # The worker dies ahead of the batch that is computed with: that must go on undisturbed.
    until(lambda: not list(clips.cache.folder.glob("die-*")))
    until(lambda: len(multiprocessing.active_children()) < 2)
    assert len(list(drawn)) == 8


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


def test_positives_are_chosen_as_among_all_others(tiny_root: DataRoot) -> None:
    clips = dataset(tiny_root, ClipOptions(n_clips=11), with_positives=True)
    plain = dataset(tiny_root, ClipOptions(n_clips=11))
    drawn = clips.draw(range(11))
    for i, clip in enumerate(clips.clips):
        others = clips.clips[(clips.labels[clips.clips] == clips.labels[clip]) & (clips.clips != clip)]
        chosen = np.random.default_rng([1, 0, clip, 2 << 20]).choice(others)
        assert torch.equal(drawn.positives[i], plain[clips.clips.tolist().index(chosen)].rolls[0])


@pytest.mark.parametrize("form", FORMS)
def test_a_clip_without_a_second_of_its_class_is_skipped(tiny_root: DataRoot, form: Form) -> None:
    clips = dataset(tiny_root, ClipOptions(n_clips=4), with_positives=True)
    alone = [clip for clip in clips.clips if (clips.labels[clips.clips] == clips.labels[clip]).sum() == 1]
    batch = clips.draw(range(4), form).to_device("cpu")
    assert len(alone) == 2 and [clip for clip, _ in batch.skipped] == alone
    assert {reason for _, reason in batch.skipped} == {"its pianist has no second clip to compare it with"}
    assert len(batch) == len(batch.rolls) == len(batch.positives) == 2
    assert batch.labels.tolist() == clips.labels[batch.clips].tolist()


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
