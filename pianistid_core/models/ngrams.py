"""The n-grams of melody, harmony and rhythm that moments hold, each as one number.

A family is one way to look at music: three successive intervals of the top voice, a chord as steps above its lowest
note, two successive waits. Whatever a family sees is hashed to 64 bits, which no two n-grams of a data set share in
practice. Melody forgets time, rhythm forgets keys, and harmony forgets the order of single notes: what one concept
hears says little of the others. Shapes: n moments of all clips (`Moments`), m n-grams found.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

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

    `weight` is how much a family counts beside the others. An `absolute` one depends on the keys themselves, and so on
    transposition.
    """

    name: str
    concept: str
    voice: Voice
    weight: float
    absolute: bool = False


@dataclass(frozen=True, eq=False)
class Found:
    """The m n-grams of one family: their clips and codes int64 (m,), and the moments that they span (m, w).

    `keys` (m, k) are the keys that an n-gram is made of, where it is not all that its voice has there: all at its one
    moment, or each at one of its k moments.
    """

    family: Family
    clips: Tensor
    codes: Tensor
    moments: Tensor
    keys: Tensor | None = None


def _sized(
    prefix: str, concept: str, voice: Voice, weights: Mapping[int, float], *, absolute: bool = False
) -> list[Family]:
    return [Family(f"{prefix}{n}", concept, voice, weight, absolute) for n, weight in weights.items()]


# The weights are those with which models told apart best whom they had not learned from, found by gradient descent on
# five folds of the training recordings of 20 jazz pianists (Lanckriet et al. 2004, Learning the kernel matrix).
FAMILIES: tuple[Family, ...] = (
    *_sized("interval", "melody", "top", {1: 13, 2: 10, 3: 11, 4: 12, 5: 20}),
    *_sized("pitch", "melody", "top", {1: 35, 2: 8, 3: 3, 4: 20}, absolute=True),
    *_sized("contour", "melody", "top", {4: 5}),
    *_sized("skip", "melody", "top", {1: 18, 2: 4}),
    *_sized("skyline", "melody", "top", {2: 7}),
    *_sized("single", "melody", "top", {1: 5}),
    *_sized("high", "melody", "top", {1: 3, 2: 19, 3: 18}, absolute=True),
    Family("chord under top", "harmony", "struck", 21),
    Family("chord over low", "harmony", "struck", 29),
    Family("close chord over low", "harmony", "struck", 10),
    Family("chord without top", "harmony", "struck", 5),
    *_sized("high chord", "harmony", "struck", {2: 14}, absolute=True),
    Family("pitch classes", "harmony", "struck", 12),
    Family("sounding classes", "harmony", "sounding", 5),
    *_sized("interval up ", "harmony", "struck", {1: 3, 2: 4, 3: 15, 4: 20}),
    *_sized("interval at ", "harmony", "struck", {1: 14, 2: 5, 3: 5}, absolute=True),
    Family("pair", "harmony", "struck", 18, absolute=True),
    Family("held under top", "harmony", "sounding", 8),
    Family("held under top at", "harmony", "sounding", 5, absolute=True),
    Family("held above low", "harmony", "sounding", 3),
    *_sized("bass step", "harmony", "low", {1: 15, 2: 6, 3: 4}),
    *_sized("bass", "harmony", "low", {1: 4, 2: 8}, absolute=True),
    Family("lead", "harmony", "struck", 5),
    Family("lead at", "harmony", "struck", 8, absolute=True),
    Family("lead of keys", "harmony", "struck", 9, absolute=True),
    Family("late lead", "harmony", "struck", 10),
    Family("late lead at", "harmony", "struck", 6, absolute=True),
    Family("key", "harmony", "struck", 8, absolute=True),
    *_sized("wait", "rhythm", "struck", {1: 9, 2: 3, 3: 5}),
    *_sized("count", "rhythm", "struck", {1: 6, 2: 5, 3: 10}),
    *_sized("count and wait", "rhythm", "struck", {1: 23, 2: 5}),
    *_sized("length", "rhythm", "top", {1: 11, 3: 4}),
    *_sized("length and wait", "rhythm", "top", {1: 16, 2: 5, 3: 4}),
    *_sized("low length", "rhythm", "low", {1: 10}),
    *_sized("low length and count", "rhythm", "low", {1: 3, 2: 3}),
    *_sized("legato", "rhythm", "top", {1: 4, 2: 4, 3: 3}),
    *_sized("held and struck", "rhythm", "sounding", {1: 8, 2: 3}),
    Family("note and wait", "rhythm", "struck", 15),
    Family("note, wait and count", "rhythm", "struck", 5),
    Family("note between waits", "rhythm", "struck", 3),
)
_BY_NAME = {family.name: family for family in FAMILIES}
_NUMBERS = {family.name: number for number, family in enumerate(FAMILIES)}
_NUMBERED = [match for match in map(re.compile(r"(.*\D)(\d+)").fullmatch, _BY_NAME) if match]
_SIZES = {match[1]: [int(other[2]) for other in _NUMBERED if other[1] == match[1]] for match in _NUMBERED}

MOST_WAIT, NO_WAIT, MOST_STRUCK, MOST_HELD, MOST_LEGATO = 12, 15, 6, 9, 3
SHORT_WAIT, SHORT_LENGTH = 6, 8  # where families that look at two things at once stop counting
NEAR, CLOSE = 14, 9  # semitones within which the upper or the lower part of a chord lies
MIDDLE_C = 39  # as a key from 0
_MOST_LENGTH = 12
_LEAP, _BASS_LEAP, _SKIP, _LEAD = 24, 30, 30, 14
_REGISTER = 6  # keys to a register
_MOST_UP = 4


def find(moments: Moments) -> Iterator[Found]:
    """All n-grams of all families, concept by concept."""
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
        """The top voice: intervals, pitches, contour, and how it moves on top of all, alone, or from middle C up."""
        top = self.m.top
        intervals = step_from_before(top, _LEAP)
        yield from self._grams("interval", [intervals], of_steps=True)
        yield from self._grams("pitch", [top])
        yield from self._grams("contour", [_size_of_leap(intervals)], of_steps=True)
        yield from self._skips(top)
        for name, where in (
            ("skyline", top >= self.m.ceiling),
            ("single", self.m.n_struck == 1),
            ("high", top >= MIDDLE_C),
        ):
            at = where.nonzero().squeeze(1)
            yield from self._grams(name, [step_from_before(top[at], _LEAP)], of_steps=True, at=at)

    def harmony(self) -> Iterator[Found]:
        """What is struck together, what is held beneath it, how chords lead on, and the lowest voice."""
        m = self.m
        where, keys = m.places
        above_low, below_top = keys - m.low[where], m.top[where] - keys
        two, three = m.n_struck >= 2, m.n_struck >= 3
        on_top, low, close = below_top <= NEAR, above_low <= NEAR, above_low <= CLOSE
        under = below_top > 0
        yield self._single("chord under top", [self._chords(where[on_top], below_top[on_top])], two)
        yield self._single("chord over low", [self._chords(where[low], above_low[low])], two)
        yield self._single("close chord over low", [self._chords(where[close], above_low[close])], two)
        yield self._single("chord without top", [self._chords(where[under], above_low[under])], three)
        yield from self._high_chords(where, keys)
        yield self._single("pitch classes", [self._pitch_classes(where, above_low)], three)
        yield self._sounding()
        yield from self._intervals(where, keys)
        yield from self._held()
        yield from self._grams("bass step", [step_from_before(m.low, _BASS_LEAP)], of_steps=True)
        yield from self._grams("bass", [m.low])
        yield from self._leads()
        yield self._found("key", m.clips[where], hash_columns([keys]), where, [keys])

    def rhythm(self) -> Iterator[Found]:
        """Waits, how many keys are struck, and how long they sound: all without keys."""
        m = self.m
        counts, held = m.n_struck.clamp(max=MOST_STRUCK), m.n_held.clamp(max=MOST_HELD)
        waits, since = self._waits()
        at_top = m.lengths.gather(1, m.top.unsqueeze(1)).squeeze(1).clamp(max=_MOST_LENGTH)
        at_low = m.lengths.gather(1, m.low.unsqueeze(1)).squeeze(1).clamp(max=_MOST_LENGTH)
        short_wait = waits.clamp(max=SHORT_LENGTH)
        yield from self._grams("wait", [waits])
        yield from self._grams("count", [counts])
        yield from self._grams("count and wait", [counts, waits.clamp(max=SHORT_WAIT)])
        yield from self._grams("length", [at_top])
        yield from self._grams("length and wait", [at_top.clamp(max=SHORT_LENGTH), short_wait])
        yield from self._grams("low length", [at_low])
        yield from self._grams("low length and count", [at_low.clamp(max=SHORT_LENGTH), counts])
        yield from self._grams("legato", [(at_top - waits).clamp(-MOST_LEGATO, MOST_LEGATO)])
        yield from self._grams("held and struck", [held, counts])
        where, keys = m.places
        clips, lengths = m.clips[where], m.lengths[where, keys].clamp(max=_MOST_LENGTH)
        short = lengths.clamp(max=SHORT_LENGTH)
        for name, columns in (
            ("note and wait", [lengths, waits[where]]),
            ("note, wait and count", [short, short_wait[where], counts[where]]),
            ("note between waits", [short, since.clamp(max=SHORT_LENGTH)[where], short_wait[where]]),
        ):
            yield self._found(name, clips, hash_columns(columns), where, [keys])

    # --- their parts ---

    def _skips(self, top: Tensor) -> Iterator[Found]:
        """Intervals from each top note to the one after the next."""
        skips = torch.zeros_like(top)
        skips[2:] = (top[2:] - top[:-2]).clamp(-_SKIP, _SKIP)
        yield from self._grams("skip", [skips], of_steps=True, reach=2)

    def _high_chords(self, where: Tensor, keys: Tensor) -> Iterator[Found]:
        """What is struck from middle C up, one moment after the other, as keys above the lowest of them."""
        high = keys >= MIDDLE_C
        there = self.m.struck.clone()
        there[:, :MIDDLE_C] = False
        above = keys - lowest(there)[where]
        chords = self._chords(where[high], above[high])
        at = (self.m.top >= MIDDLE_C).nonzero().squeeze(1)
        yield from self._grams("high chord", [chords[at]], at=at)

    def _sounding(self) -> Found:
        """Pitch classes of all that sounds, above the lowest."""
        sounding = self.m.struck | self.m.held
        where, keys = sounding.nonzero(as_tuple=True)
        classes = self._pitch_classes(where, keys - lowest(sounding)[where])
        return self._single("sounding classes", [classes], sounding.sum(dim=1) >= 3)

    def _intervals(self, where: Tensor, keys: Tensor) -> Iterator[Found]:
        """Intervals within what is struck, to the next key up, the one after it, and so on; alone and by register."""
        for up in range(1, _MOST_UP + 1):
            together = where[up:] == where[:-up]
            low, high, moment = keys[:-up][together], keys[up:][together], where[up:][together]
            clips = self.m.clips[moment]
            for name, column in ((f"interval up {up}", None), (f"interval at {up}", low // _REGISTER), ("pair", low)):
                if name in _BY_NAME and (name != "pair" or up == 1):
                    columns = [high - low, *(() if column is None else (column,))]
                    yield self._found(name, clips, hash_columns(columns), moment, [low, high])

    def _leads(self) -> Iterator[Found]:
        """Ways from each key to each key near it in the next moment, and the one after, where either is a chord."""
        m = self.m
        for back, prefix in ((1, "lead"), (2, "late lead")):
            near = (m.clips[back:] == m.clips[:-back]) & ((m.n_struck[back:] > 1) | (m.n_struck[:-back] > 1))
            after = near.nonzero().squeeze(1) + back
            now, before = m.struck[after], functional.pad(m.struck[after - back], (_LEAD, _LEAD))
            places, keys, ways = (now.unsqueeze(2) & before.unfold(1, 2 * _LEAD + 1, 1)).nonzero(as_tuple=True)
            ways, moments = _LEAD - ways, after[places]
            members, both = torch.stack([moments - back, moments], dim=1), [keys - ways, keys]
            clips = m.clips[moments]
            yield self._found(prefix, clips, hash_columns([ways]), members, both)
            yield self._found(f"{prefix} at", clips, hash_columns([ways, keys // _REGISTER]), members, both)
            if back == 1:
                yield self._found("lead of keys", clips, hash_columns([ways, keys]), members, both)

    def _held(self) -> Iterator[Found]:
        """What is held over, as seen from what is struck."""
        m = self.m
        where, keys = m.held.nonzero(as_tuple=True)
        clips, top = m.clips[where], m.top[where]
        from_top = (top - keys).clamp(-40, 60)
        yield self._found("held under top", clips, hash_columns([from_top]), where, [keys, top])
        yield self._found("held under top at", clips, hash_columns([from_top, top // _REGISTER]), where, [keys, top])
        from_low, counts = (m.low[where] - keys).clamp(-60, 60), m.n_struck[where].clamp(max=MOST_STRUCK)
        yield self._found("held above low", clips, hash_columns([from_low, counts]), where, [keys, m.low[where]])

    def _waits(self) -> tuple[Tensor, Tensor]:
        """Steps until the next moment of the clip, a number of its own after the last; and since the one before, or 0.

        Both (n,).
        """
        m = self.m
        waits, since = torch.full_like(m.steps, NO_WAIT), torch.zeros_like(m.steps)
        follows, steps = m.clips[1:] == m.clips[:-1], m.since(MOST_WAIT)[1:]
        waits[:-1] = torch.where(follows, steps, NO_WAIT)
        since[1:] = torch.where(follows, steps, 0)
        return waits, since

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
        *,
        of_steps: bool = False,
        reach: int = 1,
        at: Tensor | None = None,
    ) -> Iterator[Found]:
        """Runs along `columns`, within a clip, of each size that there is a family for.

        With `of_steps` a value stands for the way from the moment `reach` before, so a run spans as many moments more.
        `at` says at which moments the columns stand, where not at all.
        """
        moments = self.places if at is None else at
        clips = self.m.clips[moments]
        order = torch.arange(len(moments), device=self.device)
        is_first = torch.ones_like(clips, dtype=torch.bool)
        is_first[1:] = clips[1:] != clips[:-1]
        opening = torch.cummax(torch.where(is_first, order, 0), dim=0).values if len(order) else order
        for size in _SIZES[prefix]:
            span = size - 1 + (reach if of_steps else 0)
            ends = order[order - span >= opening]
            values = [column[ends - back] for back in range(size - 1, -1, -1) for column in columns]
            members = moments[ends.unsqueeze(1) - torch.arange(span, -1, -1, device=self.device)]
            yield self._found(f"{prefix}{size}", clips[ends], hash_columns(values), members)

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
