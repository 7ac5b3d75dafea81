"""From cached notes to batches of rolls.

Every draw has a generator of its own, seeded by (seed, epoch, clip, attempt) in training and by the notes in
evaluation, so that a batch depends neither on the number of workers, nor on the form in which it comes, nor on the
order or what was drawn before it. That is also why a loader whose worker dies can start again and change nothing.
"""

import logging
import multiprocessing
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import Generic, Literal, TypeVar, overload

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from pianistid_core.batches import AnyBatch, Batch, Form, Rolls, batch_of
from pianistid_core.clips import ClipOptions
from pianistid_core.datasets.cache import NoteCache, open_note_cache
from pianistid_core.datasets.root import DataRoot
from pianistid_core.drawing import Chance, Room, SameClass, compiled_rolls, draw, without
from pianistid_core.errors import LoaderError

DEFAULT_SEED = 42
DEFAULT_BATCH_SIZE = 20
MAX_DRAWS = 10
_POSITIVE_STREAM = 1 << 20
_NO_SECOND_CLIP = "its pianist has no second clip to compare it with"
_AHEAD = 2

IntArray = npt.NDArray[np.int64]
_log = logging.getLogger(__name__)
AnyForm = TypeVar("AnyForm", bound=AnyBatch)


class ClipDataset(Dataset[Batch]):
    """The clips of one part of a split, drawn anew each epoch in training and always alike in evaluation.

    What it holds itself is a number a clip; the notes stay in the cache's memory map.
    """

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
        self._room = Room()
        self._same_class = SameClass(self.labels[self.clips]) if with_positives else None

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

    def __getitem__(self, index: int) -> Batch:
        """One clip, as a batch of one."""
        batch = self.draw([index])
        if not isinstance(batch, Batch):
            raise TypeError(f"a clip was drawn as {type(batch).__name__}")
        return batch

    def draw(self, indices: Sequence[int], form: Form = "float32") -> AnyBatch:
        """Draws some clips of the current epoch as a batch; those that cannot be drawn are listed as skipped."""
        clips = self.clips[np.asarray(indices, np.int64)]
        rolls, reasons = self._draw(clips, form, stream=0)
        positives = None
        if self._same_class is not None:
            rolls, positives = self._with_positives(indices, rolls, reasons, form)
        kept = clips[[not reason for reason in reasons]]
        about = (
            torch.from_numpy(self.labels[kept]),
            torch.from_numpy(self.cache.recording_ids[kept]),
            torch.from_numpy(kept),
        )
        skipped = [(int(clip), reason) for clip, reason in zip(clips, reasons, strict=True) if reason]
        return batch_of(rolls, positives, about, skipped, normalised=self.options.normalize_velocity)

    def _draw(self, clips: IntArray, form: Form, stream: int) -> tuple[Rolls, list[str]]:
        chance = Chance(self.seed, self.epoch, stream, self._draws, self.training)
        return draw(self.cache.packed, clips.tolist(), self.options, chance, form, self._room)

    def _with_positives(
        self, indices: Sequence[int], rolls: Rolls, reasons: list[str], form: Form
    ) -> tuple[Rolls, Rolls]:
        """Draws another clip of its class for each clip drawn; leaves out, with the reason, those that have none."""
        drawn = [i for i, reason in enumerate(reasons) if not reason]
        partners = [self._partner(indices[i]) for i in drawn]
        chosen = np.array([partner for partner in partners if partner is not None], np.int64)
        positives, why_not = self._draw(self.clips[chosen], form, stream=_POSITIVE_STREAM)
        answers = iter(why_not)
        for i, partner in zip(drawn, partners, strict=True):
            reasons[i] = _NO_SECOND_CLIP if partner is None else next(answers)
        return without(rolls, [slot for slot, i in enumerate(drawn) if reasons[i]]), positives

    def _partner(self, index: int) -> int | None:
        """Another index of the same class, chosen by seed, epoch and clip; None where there is none."""
        rng = np.random.default_rng([self.seed, self.epoch, int(self.clips[index]), 2 * _POSITIVE_STREAM])
        return None if self._same_class is None else self._same_class.other(index, rng)


class _EpochBatches(Sampler[list[int]]):
    """This process's part of the batches of the data set's current epoch, from `start_batch` on."""

    def __init__(
        self, dataset: ClipDataset, batch_size: int, shuffle: bool, start_batch: int, share: tuple[int, int]
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.start_batch = start_batch
        self.share = share

    def __iter__(self) -> Iterator[list[int]]:
        order = np.arange(len(self.dataset))
        if self.shuffle:
            order = np.random.default_rng([self.dataset.seed, self.dataset.epoch]).permutation(order)
        rank, world = self.share
        for start in range(self.start_batch * self.batch_size, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            yield batch[len(batch) * rank // world : len(batch) * (rank + 1) // world].tolist()

    def __len__(self) -> int:
        return max(0, -(-len(self.dataset) // self.batch_size) - self.start_batch)


class _Drawn(Dataset[Batch]):
    """A data set whose batches come in one form, as a DataLoader asks for them."""

    def __init__(self, dataset: ClipDataset, form: Form) -> None:
        self.dataset = dataset
        self.form = form

    def __getitems__(self, indices: list[int]) -> AnyBatch:
        return self.dataset.draw(indices, self.form)


class Loader(Generic[AnyForm]):
    """The batches of a data set's current epoch; as many times as they are asked for."""

    def __init__(
        self,
        dataset: ClipDataset,
        *,
        batch_size: int,
        shuffle: bool,
        num_workers: int,
        start_batch: int,
        form: Form,
        share: tuple[int, int],
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.num_workers = num_workers
        self.start_batch = start_batch
        self.form = form
        self.share = share

    def __len__(self) -> int:
        return len(self._batches_from(self.start_batch))

    def __iter__(self) -> Iterator[AnyForm]:
        """Gives the batches.

        Raises
        ------
        LoaderError
            When a worker dies, and another one when the loader has started again after the last batch it gave.
        """
        given = 0
        try:
            for batch in self._drawn(self.start_batch):
                given += 1
                yield batch
                del batch  # so that its memory is free before the next one is asked for
            return
        except _WorkerDied as error:
            _log.warning("%s; the loader starts again, with the same batches, from number %d", error, given)
        try:
            yield from self._drawn(self.start_batch + given)
        except _WorkerDied as error:
            raise LoaderError(
                f"{error}, twice: this machine may lack memory for {self.num_workers} workers with batches of "
                f"{self.batch_size}; take fewer, or num_workers: 0, which draws in the training process"
            ) from error

    def _batches_from(self, start_batch: int) -> _EpochBatches:
        return _EpochBatches(self.dataset, self.batch_size, self.shuffle, start_batch, self.share)

    def _drawn(self, start_batch: int) -> Iterator[AnyForm]:
        # Once here, so that workers that are forked find it tried already.
        compiled_rolls()
        loader: DataLoader[AnyForm] = DataLoader(
            _Drawn(self.dataset, self.form),  # type: ignore[arg-type]
            batch_sampler=self._batches_from(start_batch),
            collate_fn=_as_it_is,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_leave_signals_to_the_trainer,
            # Its own generator, so that making a loader never moves the one that dropout draws from.
            generator=torch.Generator().manual_seed(0),
        )
        others = multiprocessing.active_children()
        try:
            batches = _quietly_started(loader)
        except OSError as error:
            raise _WorkerDied(f"no process that draws clips could be started ({error})") from error
        workers = [process for process in multiprocessing.active_children() if process not in others]
        try:
            while (batch := next(batches, None)) is not None:
                yield batch
                del batch
        except (RuntimeError, OSError, EOFError) as error:
            if self.num_workers and _says_that_a_worker_died(error):
                raise _WorkerDied("a process that draws clips died") from error
            raise
        finally:
            # They heed no gentler signal, and may wait for what a dead one held: the program's end would wait for them.
            for worker in workers:
                worker.kill()


class _WorkerDied(Exception):
    """A worker process is gone, or none could be started."""


def _quietly_started(loader: "DataLoader[AnyForm]") -> Iterator[AnyForm]:
    """Starts workers whose death is noticed when the next batch is asked for.

    torch would also raise an error the moment a child dies, in whatever the main thread is doing: in the middle of a
    training step, for one, where nobody can tell what is done and what is not.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        return iter(loader)
    handler = signal.getsignal(signal.SIGCHLD)
    batches = iter(loader)
    signal.signal(signal.SIGCHLD, handler if handler is not None else signal.SIG_DFL)
    return batches


def _says_that_a_worker_died(error: BaseException) -> bool:
    """Whether an error of a DataLoader is about its workers, not one that was raised in a worker's own code."""
    text = str(error)
    if isinstance(error, RuntimeError):
        # The thread that pins what workers send fails at one that is gone, when nobody waits for a batch just then.
        return text.startswith(("DataLoader worker (pid", "Pin memory thread exited"))
    # What a worker sends is fetched from it; one that died meanwhile can no longer be reached.
    return not text.startswith("Caught") or "in pin memory thread" in text


@overload
def make_loader(
    dataset: ClipDataset,
    *,
    batch_size: int = ...,
    shuffle: bool = ...,
    num_workers: int = ...,
    start_batch: int = ...,
    form: Literal["float32"] = ...,
    share: tuple[int, int] = ...,
) -> Loader[Batch]: ...
@overload
def make_loader(
    dataset: ClipDataset,
    *,
    batch_size: int = ...,
    shuffle: bool = ...,
    num_workers: int = ...,
    start_batch: int = ...,
    form: Form,
    share: tuple[int, int] = ...,
) -> Loader[AnyBatch]: ...
def make_loader(
    dataset: ClipDataset,
    *,
    batch_size: int = DEFAULT_BATCH_SIZE,
    shuffle: bool = False,
    num_workers: int = 0,
    start_batch: int = 0,
    form: Form = "float32",
    share: tuple[int, int] = (0, 1),
) -> Loader[Batch] | Loader[AnyBatch]:
    """Batches of one epoch, in a random order that depends on seed and epoch alone, or in the data set's own.

    `start_batch` leaves out the first batches, for an epoch that was interrupted. `form` says how rolls travel: as they
    are, as bytes, or as strokes that the device paints (see `batches`). `share` is this process's rank among how many:
    of each batch it gives the process's part, a run of clips that may be one shorter than others', or empty.
    """
    return Loader(
        dataset,
        batch_size=batch_size,
        shuffle=shuffle,
        num_workers=num_workers,
        start_batch=start_batch,
        form=form,
        share=share,
    )


def ahead(loader: Loader[AnyForm]) -> Iterator[AnyForm]:
    """The loader's batches; without workers, a thread draws the next ones while the last one is computed with.

    The thread ends with the iterator, also when that is closed early. What goes wrong in it is raised here.
    """
    if loader.num_workers:
        yield from loader
        return
    drawn: SimpleQueue[AnyForm | BaseException | None] = SimpleQueue()
    room, stopped = Semaphore(_AHEAD), threading.Event()
    thread = Thread(target=_draw_ahead, args=(iter(loader), drawn, room, stopped), name="draw-ahead", daemon=True)
    thread.start()
    try:
        while True:
            match drawn.get():
                case None:
                    return
                case BaseException() as error:
                    raise error
                case batch:
                    room.release()
                    yield batch
                    del batch
    finally:
        stopped.set()
        room.release()
        thread.join()


def _draw_ahead(
    batches: Iterator[AnyForm],
    drawn: "SimpleQueue[AnyForm | BaseException | None]",
    room: Semaphore,
    stopped: threading.Event,
) -> None:
    try:
        while True:
            room.acquire()
            if stopped.is_set():
                return
            drawn.put(next(batches, None))
    except BaseException as error:
        drawn.put(error)


def _as_it_is(batch: AnyForm) -> AnyForm:
    """A batch is drawn whole: there is nothing to collate."""
    return batch


def _leave_signals_to_the_trainer(worker: int) -> None:
    # Ctrl-C and SIGTERM reach the whole group; the trainer stops its workers itself once it has saved.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
