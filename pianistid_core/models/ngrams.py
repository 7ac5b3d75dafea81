"""The n-grams of melody, harmony and rhythm that moments hold, each as one number.

A family is one way to look at music: three successive intervals of the top voice, a chord as steps above its lowest
note, two successive waits. Whatever a family sees is hashed to 64 bits, which no two n-grams of a data set share in
practice. Melody forgets time, rhythm forgets keys, and harmony forgets the order of single notes: what one concept
hears says little of the others. Shapes: n moments of all clips (`Moments`), m n-grams found.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pianistid_core.models.moments import Moments, lowest, step_from_before
from pianistid_core.rolls import N_KEYS

Voice = Literal["top", "low", "struck", "sounding"]

# Any odd numbers would do; these spread neighbours far apart (Steele, Lea and Flood 2014), as signed 64 bits.
_MULTIPLY, _ADD = -7046029254386353131, 1442695040888963407
_HALF = (1 << 33) - 1
_CHORD_SEED = 2025


@dataclass(frozen=True)
class Family:
    """One kind of n-gram: whose `concept` it is, and the `voice` whose notes it is made of.

    An `absolute` one depends on the keys themselves, and so on transposition.
    """

    name: str
    concept: str
    voice: Voice
    absolute: bool = False


@dataclass(frozen=True, eq=False)
class Found:
    """The m n-grams of one family: their clips and codes int64 (m,), and the moments that they span (m, w).

    `keys` (m, k) are the keys at that moment that an n-gram is made of, where it is not all that its voice has there.
    """

    family: Family
    clips: Tensor
    codes: Tensor
    moments: Tensor
    keys: Tensor | None = None


def _sized(prefix: str, concept: str, voice: Voice, sizes: Iterable[int], *, absolute: bool = False) -> list[Family]:
    return [Family(f"{prefix}{n}", concept, voice, absolute) for n in sizes]


FAMILIES: tuple[Family, ...] = (
    *_sized("interval", "melody", "top", range(1, 7)),
    *_sized("pitch", "melody", "top", range(1, 5), absolute=True),
    *_sized("contour", "melody", "top", range(4, 9)),
    *_sized("skip", "melody", "top", range(1, 4)),
    *_sized("skyline", "melody", "top", range(2, 6)),
    Family("chord over bass", "harmony", "struck"),
    Family("chord under top", "harmony", "struck"),
    Family("chord", "harmony", "struck", absolute=True),
    Family("chord without bass", "harmony", "struck"),
    Family("chord without top", "harmony", "struck"),
    Family("voicing", "harmony", "struck", absolute=True),
    Family("pitch classes", "harmony", "struck"),
    *_sized("interval up ", "harmony", "struck", range(1, 6)),
    *_sized("interval at ", "harmony", "struck", range(1, 6), absolute=True),
    Family("held under top", "harmony", "sounding"),
    Family("held above low", "harmony", "sounding"),
    Family("held around top", "harmony", "sounding"),
    Family("held chord", "harmony", "sounding"),
    *_sized("bass step", "harmony", "low", range(1, 5)),
    *_sized("bass", "harmony", "low", range(1, 3), absolute=True),
    Family("chord pair over bass", "harmony", "struck"),
    Family("chord pair under top", "harmony", "struck"),
    *_sized("chord top", "harmony", "struck", range(1, 4)),
    Family("key", "harmony", "struck", absolute=True),
    *_sized("wait", "rhythm", "struck", range(1, 7)),
    *_sized("count", "rhythm", "struck", range(1, 6)),
    *_sized("count and wait", "rhythm", "struck", range(1, 5)),
    *_sized("length", "rhythm", "top", range(1, 4)),
    *_sized("length and wait", "rhythm", "top", range(1, 4)),
    *_sized("low length", "rhythm", "low", range(1, 3)),
    *_sized("low length and count", "rhythm", "low", range(1, 3)),
    *_sized("held and struck", "rhythm", "sounding", range(1, 3)),
)
_BY_NAME = {family.name: family for family in FAMILIES}
_NUMBERS = {family.name: number for number, family in enumerate(FAMILIES)}

MOST_WAIT, NO_WAIT, MOST_STRUCK, MOST_HELD = 12, 15, 6, 9
_MOST_LENGTH = 12
_LEAP, _BASS_LEAP, _SKIP = 24, 30, 30
_NEAR_TOP = 14  # semitones below the top in which a chord's upper part lies
AROUND_TOP = 28


def find(moments: Moments) -> Iterator[Found]:
    """All n-grams of all families, in the order of `FAMILIES` but for those of which there are none."""
    if not len(moments):
        return
    reader = _Reader(moments)
    yield from reader.melody()
    yield from reader.harmony()
    yield from reader.rhythm()


class _Reader:
    """The columns that n-grams are cut from."""

    def __init__(self, moments: Moments) -> None:
        self.m = moments
        self.device = moments.clips.device
        self.places = torch.arange(len(moments), device=self.device)
        self.chord_codes = _chord_codes().to(self.device)

    # --- the concepts ---

    def melody(self) -> Iterator[Found]:
        """The top voice: intervals, pitches, contour, intervals past the next note, and those of the skyline alone."""
        top = self.m.top
        intervals = step_from_before(top, _LEAP)
        yield from self._grams("interval", [intervals], range(1, 7), of_steps=True)
        yield from self._grams("pitch", [top], range(1, 5))
        yield from self._grams("contour", [_size_of_leap(intervals)], range(4, 9), of_steps=True)
        yield from self._skips(top)
        highest_of_all = (top >= self.m.ceiling).nonzero().squeeze(1)
        yield from self._grams(
            "skyline", [step_from_before(top[highest_of_all], _LEAP)], range(2, 6), of_steps=True, at=highest_of_all
        )

    def harmony(self) -> Iterator[Found]:
        """What is struck together, what is held beneath it, and the lowest voice."""
        m = self.m
        where, keys = m.places
        above_low, below_top = keys - m.low[where], m.top[where] - keys
        over_bass, chord = self._chords(where, above_low), self._chords(where, keys)
        two, three = m.n_struck >= 2, m.n_struck >= 3
        near, inner, under = below_top <= _NEAR_TOP, above_low > 0, below_top > 0
        yield self._single("chord over bass", [over_bass], two)
        yield self._single("chord under top", [self._chords(where[near], below_top[near])], two)
        yield self._single("chord", [chord], two)
        yield self._single("chord without bass", [self._chords(where[inner], below_top[inner])], three)
        yield self._single("chord without top", [self._chords(where[under], above_low[under])], three)
        yield self._single("voicing", [self._chords(where[under], keys[under])], two)
        yield self._single("pitch classes", [self._pitch_classes(where, above_low)], three)
        yield from self._intervals(where, keys)
        yield from self._held()
        yield from self._grams("bass step", [step_from_before(m.low, _BASS_LEAP)], range(1, 5), of_steps=True)
        yield from self._grams("bass", [m.low], range(1, 3))
        chords = three.nonzero().squeeze(1)
        yield from self._grams("chord pair over bass", [over_bass[chords]], (2,), at=chords, numbered=False)
        under_top = self._chords(where, below_top)
        yield from self._grams("chord pair under top", [under_top[chords]], (2,), at=chords, numbered=False)
        tops = step_from_before(m.top[chords], N_KEYS)
        yield from self._grams("chord top", [tops], range(1, 4), of_steps=True, at=chords)
        yield self._found("key", m.clips[where], hash_columns([keys]), where, [keys])

    def rhythm(self) -> Iterator[Found]:
        """Waits, how many keys are struck, and how long they sound: all without keys."""
        m = self.m
        counts, held = m.n_struck.clamp(max=MOST_STRUCK), m.n_held.clamp(max=MOST_HELD)
        waits = self._waits_after()
        at_top = m.lengths.gather(1, m.top.unsqueeze(1)).squeeze(1).clamp(max=_MOST_LENGTH)
        at_low = m.lengths.gather(1, m.low.unsqueeze(1)).squeeze(1).clamp(max=_MOST_LENGTH)
        yield from self._grams("wait", [waits], range(1, 7))
        yield from self._grams("count", [counts], range(1, 6))
        yield from self._grams("count and wait", [counts, waits.clamp(max=6)], range(1, 5))
        yield from self._grams("length", [at_top], range(1, 4))
        yield from self._grams("length and wait", [at_top.clamp(max=8), waits.clamp(max=8)], range(1, 4))
        yield from self._grams("low length", [at_low], range(1, 3))
        yield from self._grams("low length and count", [at_low.clamp(max=8), counts], range(1, 3))
        yield from self._grams("held and struck", [held, counts], range(1, 3))

    # --- their parts ---

    def _skips(self, top: Tensor) -> Iterator[Found]:
        """Intervals from each top note to the one after the next."""
        skips = torch.zeros_like(top)
        skips[2:] = (top[2:] - top[:-2]).clamp(-_SKIP, _SKIP)
        yield from self._grams("skip", [skips], range(1, 4), of_steps=True, reach=2)

    def _intervals(self, where: Tensor, keys: Tensor) -> Iterator[Found]:
        """Intervals within what is struck, to the next key up, the one after it, and so on; alone and by register."""
        for up in range(1, 6):
            together = where[up:] == where[:-up]
            low, high, moment = keys[:-up][together], keys[up:][together], where[up:][together]
            clips = self.m.clips[moment]
            yield self._found(f"interval up {up}", clips, hash_columns([high - low]), moment, [low, high])
            yield self._found(f"interval at {up}", clips, hash_columns([high - low, low // 6]), moment, [low, high])

    def _held(self) -> Iterator[Found]:
        """What is held over, as seen from what is struck."""
        m = self.m
        where, keys = m.held.nonzero(as_tuple=True)
        clips = m.clips[where]
        from_top = m.top[where] - keys
        yield self._found("held under top", clips, hash_columns([from_top.clamp(-40, 60)]), where, [keys, m.top[where]])
        from_low, counts = (m.low[where] - keys).clamp(-60, 60), m.n_struck[where].clamp(max=MOST_STRUCK)
        yield self._found("held above low", clips, hash_columns([from_low, counts]), where, [keys, m.low[where]])
        around = from_top.abs() <= AROUND_TOP
        yield self._single("held around top", [self._chords(where[around], from_top[around])], m.n_held >= 2)
        shape = self._chords(where, keys - lowest(m.held)[where])
        yield self._single("held chord", [shape], m.n_held >= 3)

    def _waits_after(self) -> Tensor:
        """Steps until the next moment of the clip; a number of its own after the last."""
        m = self.m
        waits = torch.full_like(m.steps, NO_WAIT)
        follows = m.clips[1:] == m.clips[:-1]
        waits[:-1] = torch.where(follows, m.since(MOST_WAIT)[1:], NO_WAIT)
        return waits

    def _chords(self, where: Tensor, values: Tensor) -> Tensor:
        """One number for the set of values (-88..88) at each moment, whatever their order: Zobrist's sum, (n,)."""
        codes = torch.zeros(len(self.m), dtype=torch.int64, device=self.device)
        return codes.index_add_(0, where, self.chord_codes[values + N_KEYS])

    def _pitch_classes(self, where: Tensor, above_low: Tensor) -> Tensor:
        classes = torch.zeros(len(self.m), 12, dtype=torch.int64, device=self.device)
        classes[where, above_low % 12] = 1
        return (classes * self.chord_codes[:12]).sum(dim=1)

    def _grams(
        self,
        prefix: str,
        columns: Sequence[Tensor],
        sizes: Sequence[int],
        *,
        of_steps: bool = False,
        reach: int = 1,
        at: Tensor | None = None,
        numbered: bool = True,
    ) -> Iterator[Found]:
        """Runs of each size along `columns`, within a clip.

        With `of_steps` a value stands for the way from the moment `reach` before, so a run spans as many moments more.
        `at` says at which moments the columns stand, where not at all.
        """
        moments = self.places if at is None else at
        clips = self.m.clips[moments]
        order = torch.arange(len(moments), device=self.device)
        is_first = torch.ones_like(clips, dtype=torch.bool)
        is_first[1:] = clips[1:] != clips[:-1]
        opening = torch.cummax(torch.where(is_first, order, 0), dim=0).values if len(order) else order
        for size in sizes:
            span = size - 1 + (reach if of_steps else 0)
            ends = order[order - span >= opening]
            values = [column[ends - back] for back in range(size - 1, -1, -1) for column in columns]
            name = f"{prefix}{size}" if numbered else prefix
            members = moments[ends.unsqueeze(1) - torch.arange(span, -1, -1, device=self.device)]
            yield self._found(name, clips[ends], hash_columns(values), members)

    def _single(self, name: str, columns: Sequence[Tensor], where: Tensor) -> Found:
        moments = where.nonzero().squeeze(1)
        return self._found(name, self.m.clips[moments], hash_columns([c[moments] for c in columns]), moments)

    def _found(
        self, name: str, clips: Tensor, codes: Tensor, moments: Tensor, keys: Sequence[Tensor] | None = None
    ) -> Found:
        family = _BY_NAME[name]
        own = hash_columns([codes, torch.tensor(_NUMBERS[name], device=self.device)])
        members = moments if moments.dim() == 2 else moments.unsqueeze(1)
        return Found(family, clips, own, members, None if keys is None else torch.stack(list(keys), dim=1))


def hash_columns(values: Sequence[Tensor]) -> Tensor:
    """Mixes some columns (m,) into one number each."""
    code = torch.full_like(values[0], _ADD)
    for value in values:
        code = (code ^ value) * _MULTIPLY
        code = code ^ ((code >> 31) & _HALF)
    return code * _MULTIPLY


def _size_of_leap(intervals: Tensor) -> Tensor:
    """A repeated note, a step, a third, a leap, a wide leap, up or down: -4 to 4."""
    sizes = intervals.abs()
    return intervals.sign() * ((sizes > 0).long() + (sizes > 2).long() + (sizes > 4).long() + (sizes > 9).long())


def _chord_codes() -> Tensor:
    """A number for each value from -88 to 88, as good as random but the same whatever torch's generators do."""
    return hash_columns([torch.arange(2 * N_KEYS + 1), torch.tensor(_CHORD_SEED)])
