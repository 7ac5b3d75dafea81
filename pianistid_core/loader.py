"""From cached notes to batches of rolls.

Every draw has a generator of its own, seeded by (seed, epoch, clip, attempt) in training and by the notes in
evaluation, so that a batch depends neither on the number of workers nor on the order or what was drawn before it.
"""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from pianistid_core.batches import Batch
from pianistid_core.clips import ClipOptions, draw_clip
from pianistid_core.concepts import evaluation_rng
from pianistid_core.datasets.cache import NoteCache, open_note_cache
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import ExtractionError
from pianistid_core.rolls import N_FRAMES, N_KEYS, Roll

DEFAULT_SEED = 42
DEFAULT_BATCH_SIZE = 20
MAX_DRAWS = 10
_POSITIVE_STREAM = 1 << 20


@dataclass(frozen=True)
class Example:
    """One drawn clip, or the reason why it could not be drawn."""

    clip: int
    label: int
    recording: int
    roll: Roll | None
    positive: Roll | None = None
    reason: str = ""


class ClipDataset(Dataset[Example]):
    """The clips of one part of a split, drawn anew each epoch in training and always alike in evaluation."""

    def __init__(
        self,
        cache: NoteCache,
        options: ClipOptions | None = None,
        *,
        seed: int = DEFAULT_SEED,
        training: bool = False,
        classify_dataset: bool = False,
        with_positives: bool = False,
    ) -> None:
        options = options or ClipOptions()
        self.cache = cache
        self.options = options
        self.seed = seed
        self.training = training
        self.with_positives = with_positives
        self.labels: npt.NDArray[np.int64] = cache.sources if classify_dataset else cache.labels
        self.class_names = cache.source_names if classify_dataset else cache.class_names
        n = len(cache) if options.n_clips is None else min(options.n_clips, len(cache))
        self.clips: npt.NDArray[np.int64] = np.linspace(0, len(cache), n, endpoint=False).astype(np.int64)
        self.epoch = 0
        self._draws = MAX_DRAWS if training and (options.data_augmentation or options.jitter_start) else 1

    @classmethod
    def open(
        cls,
        root: DataRoot | str | Path,
        split: str,
        part: str = "train",
        options: ClipOptions | None = None,
        *,
        seed: int = DEFAULT_SEED,
        training: bool | None = None,
        workers: int = 1,
    ) -> "ClipDataset":
        """The clips of a part ("train", "test" or "validation") of a split in a data root; parses them the first time.

        Unless said otherwise, clips have the four concept channels, and those of the train part are drawn for
        training: augmented, from a random start, anew each epoch. `workers` processes parse.

        Raises
        ------
        DataError
            When there is no such split, or its clips cannot be read.
        """
        here = root if isinstance(root, DataRoot) else DataRoot.open(root)
        for_training = part == "train" if training is None else training
        if options is None:
            options = ClipOptions(multichannel=True, data_augmentation=for_training, jitter_start=for_training)
        cache = open_note_cache(here, split, part, workers=workers)
        return cls(cache, options, seed=seed, training=for_training)

    def set_epoch(self, epoch: int) -> None:
        """Chooses which epoch's draws come next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Example:
        clip = int(self.clips[index])
        label, recording = int(self.labels[clip]), int(self.cache.recording_ids[clip])
        try:
            roll = self._draw(clip, stream=0)
            positive = self._draw_positive(clip) if self.with_positives else None
        except ExtractionError as error:
            return Example(clip, label, recording, None, reason=str(error))
        return Example(clip, label, recording, roll, positive)

    def _draw(self, clip: int, stream: int) -> Roll:
        notes = self.cache.notes(clip)
        if not self.training:
            return draw_clip(notes, self.options, evaluation_rng(notes))
        for attempt in range(self._draws):
            rng = np.random.default_rng([self.seed, self.epoch, clip, stream + attempt])
            try:
                return draw_clip(notes, self.options, rng)
            except ExtractionError:
                if attempt == self._draws - 1:
                    raise
        raise ExtractionError("no draw was tried")

    def _draw_positive(self, clip: int) -> Roll:
        others = self.clips[(self.labels[self.clips] == self.labels[clip]) & (self.clips != clip)]
        if not len(others):
            raise ExtractionError("its pianist has no second clip to compare it with")
        rng = np.random.default_rng([self.seed, self.epoch, clip, 2 * _POSITIVE_STREAM])
        return self._draw(int(rng.choice(others)), stream=_POSITIVE_STREAM)


class _EpochBatches(Sampler[list[int]]):
    """The batches of the data set's current epoch, from `start_batch` on."""

    def __init__(self, dataset: ClipDataset, batch_size: int, shuffle: bool, start_batch: int) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.start_batch = start_batch

    def __iter__(self) -> Iterator[list[int]]:
        order = np.arange(len(self.dataset))
        if self.shuffle:
            order = np.random.default_rng([self.dataset.seed, self.dataset.epoch]).permutation(order)
        for start in range(self.start_batch * self.batch_size, len(order), self.batch_size):
            yield order[start : start + self.batch_size].tolist()

    def __len__(self) -> int:
        return max(0, -(-len(self.dataset) // self.batch_size) - self.start_batch)


def make_loader(
    dataset: ClipDataset,
    *,
    batch_size: int = DEFAULT_BATCH_SIZE,
    shuffle: bool = False,
    num_workers: int = 0,
    start_batch: int = 0,
) -> "DataLoader[Batch]":
    """Batches of one epoch, in a random order that depends on seed and epoch alone, or in the data set's own.

    `start_batch` leaves out the first batches, for an epoch that was interrupted.
    """
    loader: DataLoader[Batch] = DataLoader(
        dataset,  # type: ignore[arg-type]
        batch_sampler=_EpochBatches(dataset, batch_size, shuffle, start_batch),
        collate_fn=collate,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_leave_signals_to_the_trainer,
        # Its own generator, so that making a loader never moves the one that dropout draws from.
        generator=torch.Generator().manual_seed(0),
    )
    return loader


def collate(examples: list[Example]) -> Batch:
    """Stacks drawn clips into a batch; those that could not be drawn are listed as skipped."""
    drawn = [example for example in examples if example.roll is not None]
    positives = [example.positive for example in drawn if example.positive is not None]
    return Batch(
        _stack([example.roll for example in drawn if example.roll is not None]),
        torch.tensor([example.label for example in drawn], dtype=torch.int64),
        torch.tensor([example.recording for example in drawn], dtype=torch.int64),
        torch.tensor([example.clip for example in drawn], dtype=torch.int64),
        _stack(positives) if positives else None,
        [(example.clip, example.reason) for example in examples if example.roll is None],
    )


def _stack(rolls: list[Roll]) -> torch.Tensor:
    return torch.from_numpy(np.stack(rolls)) if rolls else torch.empty(0, 1, N_KEYS, N_FRAMES)


def _leave_signals_to_the_trainer(worker: int) -> None:
    # Ctrl-C and SIGTERM reach the whole group; the trainer stops its workers itself once it has saved.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
