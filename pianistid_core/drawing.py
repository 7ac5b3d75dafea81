"""From packed notes to drawn clips, in whatever form: by the compiled code where it can run, else by the plain one.

Both give the same numbers; the plain code is what is compiled, one clip at a time.
"""

import logging
import math
import weakref
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import numpy as np
import numpy.typing as npt
import torch

from pianistid_core.batches import Form, PackedRolls, Rolls
from pianistid_core.clips import ClipOptions, draw_channels
from pianistid_core.concepts import DrawnNotes, evaluation_rng, evaluation_seed
from pianistid_core.errors import ExtractionError
from pianistid_core.midi import Notes
from pianistid_core.packed_notes import PackedNotes
from pianistid_core.rolls import N_FRAMES, N_KEYS, rasterise
from pianistid_core.strokes import Strokes

_log = logging.getLogger(__name__)

# One batch is drawn and one waits while a third is learned from; each may come with another one of positives.
_BLOCKS_KEPT = 4


@dataclass(frozen=True)
class Chance:
    """Where the chance of a draw comes from.

    In training each clip has a generator seeded by (`seed`, `epoch`, clip, `stream` + attempt), and is tried up to
    `attempts` times; in evaluation its own notes seed it, and it is tried once.
    """

    seed: int = 0
    epoch: int = 0
    stream: int = 0
    attempts: int = 1
    training: bool = False


class Room:
    """Memory for rolls that is used again once no tensor over it is left.

    Memory that is new to a process comes page by page, which for a batch of float32 takes eight times as long as
    writing it.
    """

    def __init__(self) -> None:
        # Threads take from it and give back at once: a deque's own append and pop cannot be interrupted.
        self._free: deque[npt.NDArray[np.uint8]] = deque(maxlen=_BLOCKS_KEPT)

    def __reduce__(self) -> tuple[type["Room"], tuple[()]]:
        return Room, ()  # a worker has memory of its own

    def lend(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """A tensor with anything in it."""
        size = math.prod(shape) * dtype.itemsize
        if not size:
            return torch.empty(*shape, dtype=dtype)
        try:
            block = self._free.pop()
        except IndexError:
            block = np.empty(size, np.uint8)
        if len(block) < size:
            block = np.empty(size, np.uint8)
        # The tensor's storage holds this very view, whatever tensors share it; when the view goes, all of them have.
        lent = block[:size]
        weakref.finalize(lent, self._free.append, block).atexit = False
        return torch.from_numpy(lent).view(dtype).view(*shape)


def draw(
    packed: PackedNotes, clips: Sequence[int], options: ClipOptions, chance: Chance, form: Form, room: Room
) -> tuple[Rolls, list[str]]:
    """Draws some clips: the rolls of those that can be drawn, and for each clip why it cannot be ("" where it can).

    Rolls are float32 (B, C, 88, 3000), normalised where the options say so, or their bytes or strokes, normalised only
    as they become floats.
    """
    compiled = compiled_rolls()
    if compiled is None:
        return _plain(packed, clips, options, chance, form)
    seeds = compiled.Seeds(*_seeds(packed, clips, options, chance))
    if form == "strokes":
        arrays, codes = compiled.draw_strokes(packed, clips, options, seeds)
        strokes = Strokes.from_arrays(*arrays, n_clips=len(clips), n_channels=options.n_channels)
        return _kept(strokes, codes), [compiled.reason(code, options) for code in codes]
    shape = (len(clips), options.n_channels, N_KEYS, N_FRAMES)
    rolls = room.lend(shape, torch.uint8 if form == "uint8" else torch.float32)
    spans = torch.zeros(*shape[:2], 2, dtype=torch.uint8)
    codes = compiled.draw_rolls(packed, clips, options, seeds, rolls.numpy(), spans.numpy())
    reasons = [compiled.reason(code, options) for code in codes]
    if form == "float32":
        return _kept(rolls, codes), reasons
    return _kept(PackedRolls(rolls, spans[..., 0].contiguous(), spans[..., 1].contiguous()), codes), reasons


@cache
def compiled_rolls() -> ModuleType | None:
    """The compiled code; None, said once in the log, where it cannot run or does not draw what the plain code draws."""
    try:
        from pianistid_core import compiled_rolls
    # Numba says RuntimeError where there is no folder that it could keep compiled code in.
    except (ImportError, RuntimeError) as error:
        _log.warning("clips are drawn by the plain code, many times slower than the compiled: %s", error)
        return None
    if not _draws_the_same(compiled_rolls):
        _log.warning(
            "clips are drawn by the plain code, for the compiled code draws others here: NumPy's random numbers have "
            "changed, or what is kept of it in __pycache__ is older than the program and should be deleted"
        )
        return None
    return compiled_rolls


def _draws_the_same(compiled: ModuleType) -> bool:
    """Tries the compiled code on one clip with everything in it, since it repeats NumPy's code and that of others."""
    number = np.arange(240)
    onsets_s = number // 4 * 0.25
    pitches, velocities = 18 + number * 37 % 93, number * 29 % 128
    notes = Notes.from_arrays(onsets_s, onsets_s + number % 9 * 0.05, pitches, velocities)
    packed, clips = PackedNotes.of([notes]), [0]
    options = ClipOptions(multichannel=True, data_augmentation=True, augmentation_probability=1.0, jitter_start=True)
    for seed in (0, 1 << 40):
        chance = Chance(seed, epoch=1, training=True)
        strokes, _ = _plain(packed, clips, options, chance, "strokes")
        arrays, _ = compiled.draw_strokes(
            packed, clips, options, compiled.Seeds(*_seeds(packed, clips, options, chance))
        )
        if not all(np.array_equal(array, getattr(strokes, name)) for name, array in arrays._asdict().items()):
            return False
    return True


def without(rolls: Rolls, clips: Collection[int]) -> Rolls:
    """The rolls of the other clips of a batch."""
    if not clips:
        return rolls
    if isinstance(rolls, torch.Tensor):
        return rolls[[clip for clip in range(len(rolls)) if clip not in clips]]
    return rolls.without(list(clips))


def _kept(rolls: Rolls, codes: npt.NDArray[np.uint8]) -> Rolls:
    return without(rolls, np.flatnonzero(codes).tolist())


def _seeds(
    packed: PackedNotes, clips: Sequence[int], options: ClipOptions, chance: Chance
) -> tuple[npt.NDArray[np.uint64], int, int, npt.NDArray[np.uint64]]:
    """What `compiled_rolls.Seeds` takes."""
    from pianistid_core.compiled_chance import words_of

    if chance.training:
        return words_of(chance.seed, chance.epoch), chance.stream, chance.attempts, np.empty(0, np.uint64)
    # What has no chance in it needs no seed; without augmentation and jitter, one channel has none.
    by_chance = options.multichannel or options.data_augmentation or options.jitter_start
    seeds = [evaluation_seed(packed.notes(clip)) if by_chance else 0 for clip in clips]
    return np.empty(0, np.uint64), 0, 1, np.array(seeds, np.uint64)


class SameClass:
    """Chooses among the clips of one class without looking through all; `labels` (n,) are the clips' classes."""

    def __init__(self, labels: npt.NDArray[np.int64]) -> None:
        self._labels = labels
        # Class by class, and within each in the order of the clips.
        self._order = np.argsort(labels, kind="stable")
        self._starts = np.searchsorted(labels, np.arange(labels.max(initial=-1) + 2), sorter=self._order)

    def other(self, index: int, rng: np.random.Generator) -> int | None:
        """Any index of the same class but this one, each as likely."""
        start, end = self._starts[self._labels[index]], self._starts[self._labels[index] + 1]
        if end - start < 2:
            return None
        members = self._order[start:end]
        number = int(rng.integers(0, len(members) - 1))
        return int(members[number + (number >= np.searchsorted(members, index))])


# --- the plain code --------------------------------------------------------------------------------------------------


def _plain(
    packed: PackedNotes, clips: Sequence[int], options: ClipOptions, chance: Chance, form: Form
) -> tuple[Rolls, list[str]]:
    drawn: list[list[DrawnNotes]] = []
    reasons: list[str] = []
    for clip in clips:
        try:
            drawn.append(_channels(packed, clip, options, chance))
            reasons.append("")
        except ExtractionError as error:
            reasons.append(str(error))
    if form == "strokes":
        return Strokes.of(drawn, options.n_channels), reasons
    normalised = options.normalize_velocity and form == "float32"
    rolls = np.zeros((len(drawn), options.n_channels, N_KEYS, N_FRAMES), np.float32)
    for out, channels in zip(rolls, drawn, strict=True):
        for roll, notes in zip(out, channels, strict=True):
            rasterise(roll, notes.starts_s, notes.ends_s, notes.pitches, notes.velocities, normalised=normalised)
    if form == "float32":
        return torch.from_numpy(rolls), reasons
    values = torch.from_numpy(rolls.astype(np.uint8))
    return PackedRolls(values, values.amin(dim=(-2, -1)), values.amax(dim=(-2, -1))), reasons


def _channels(packed: PackedNotes, clip: int, options: ClipOptions, chance: Chance) -> list[DrawnNotes]:
    notes = packed.notes(clip)
    if not chance.training:
        return draw_channels(notes, options, evaluation_rng(notes))
    for attempt in range(chance.attempts):
        rng = np.random.default_rng([chance.seed, chance.epoch, clip, chance.stream + attempt])
        try:
            return draw_channels(notes, options, rng)
        except ExtractionError:
            if attempt == chance.attempts - 1:
                raise
    raise ExtractionError("no draw was tried")
