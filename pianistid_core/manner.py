"""How music is played, in a dozen plain numbers, and whether that is usual for what a model learned from.

A model that knows only jazz pianists names one of them for a hymn too. These checks cost a millisecond a clip and say
in words what is not as it was in the training music: too many notes, too low, one at a time, like a machine. They are
of 30 s clips; of a longer piece the median over its clips counts. Where the training music lies on a grid of times,
such as 0.1 s, music that comes is put on that grid first, so that only the playing is compared.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pianistid_core.errors import CheckpointError, DataError
from pianistid_core.midi import CLIP_LENGTH_S, Notes, split_into_clips

FloatArray = npt.NDArray[np.float64]

_TOGETHER_S = 0.05
_GRIDS_S = (0.1, 0.05, 0.02)
_ON_GRID_S = 0.002
_ROUNDING = 0.02  # of a step of the grid
_SHORTEST_BEAT_S, _LONGEST_BEAT_S = 0.18, 1.2
_RESOLUTION_S, _PADDED = 0.02, 8192
_EXACT_S, _SHORTEST_STEP_S, _FEWEST_MOMENTS, _NEARLY_ALL = 0.005, 0.06, 12, 0.97
_FEWEST_NOTES = 4
_PATTERN = 4  # moves of the top line that make a pattern
_STEP = 2  # semitones
_ONE_VOICE = 1.6  # notes at once, where each may reach into the next
_MARGIN = 0.1  # beyond a bound, in distances of that bound from the middle: bounds are estimates
_LEAST_REACH = 0.2  # of the middle: a few clips that are all alike say little of others
_OUTSIDE = 0.002  # of the training clips, the share that lies beyond each bound
_KEY_NAMES = ("C", "C#", "D", "E flat", "E", "F", "F#", "G", "A flat", "A", "B flat", "B")
_FORMAT = 1


@dataclass(frozen=True)
class Manner:
    """How a clip is played.

    notes_per_s: over the clip's length, at most 30 s; low, high: the pitches that 5 % of the notes are below and above;
    polyphony: notes that sound at once, where any do; chords: the share of moments at which two or more are struck;
    note_s: a note's median length; pitches: how many different ones; pitch_classes: how many of the twelve, effectively
    (the exponential of their entropy); evenness: how closely all onsets follow one even beat, 0 to 1; steps: the share
    of the top line's moves by one or two semitones; patterns: the share of different ones among its patterns of four
    moves; silence: the share of the time in which nothing sounds; loudnesses: how many different ones.
    """

    notes_per_s: float
    low: float
    high: float
    polyphony: float
    chords: float
    note_s: float
    pitches: float
    pitch_classes: float
    evenness: float
    steps: float
    patterns: float
    silence: float
    loudnesses: float


NAMES: tuple[str, ...] = tuple(one.name for one in fields(Manner))


def manner_of(clip: Notes, grid_s: float = 0.0) -> Manner | None:
    """How the first 30 s of a clip are played, on a grid of times if there is one; None for fewer than four notes."""
    clip = clip.between(0, CLIP_LENGTH_S)  # what follows is only there for augmentation
    if len(clip) < _FEWEST_NOTES:
        return None
    onsets, offsets = _on_grid(clip, grid_s)
    pitches = clip.pitches.astype(np.float64)
    length = max(min(CLIP_LENGTH_S, float(offsets.max())), 1.0)
    sounding, covered = float((offsets - onsets).sum()), _covered_s(onsets, offsets)
    starts = np.flatnonzero(np.diff(onsets, prepend=-1.0) > _TOGETHER_S / 2)
    struck = np.diff(np.append(starts, len(onsets)))
    top = np.maximum.reduceat(pitches, starts)
    classes = np.bincount(clip.pitches % 12, minlength=12) / len(clip)
    low, high = np.percentile(pitches, [5, 95])
    return Manner(
        notes_per_s=len(clip) / length,
        low=float(low),
        high=float(high),
        polyphony=sounding / max(covered, 1e-9),
        chords=float((struck > 1).mean()),
        note_s=float(np.median(offsets - onsets)),
        pitches=float(len(np.unique(clip.pitches))),
        pitch_classes=float(np.exp(-(classes * np.log(np.maximum(classes, 1e-12))).sum())),
        evenness=_evenness(onsets[starts]),
        steps=_steps(top),
        patterns=_patterns(top),
        silence=max(0.0, 1 - covered / length),
        loudnesses=float(len(np.unique(clip.velocities))),
    )


def _on_grid(clip: Notes, grid_s: float) -> tuple[FloatArray, FloatArray]:
    """Onsets and offsets (n,) on a grid, each note at least one step long, in the order of the onsets."""
    if not grid_s:
        return clip.onsets_s, np.maximum(clip.offsets_s, clip.onsets_s + 1e-3)
    # As frames that a note is heard in: from the one it starts in to the one it ends in.
    onsets = np.floor(clip.onsets_s / grid_s + _ROUNDING) * grid_s
    return onsets, np.maximum(np.ceil(clip.offsets_s / grid_s - _ROUNDING) * grid_s, onsets + grid_s)


def _covered_s(onsets: FloatArray, offsets: FloatArray) -> float:
    """How many seconds of the clip something sounds; onsets rise."""
    reached = np.maximum.accumulate(offsets)
    new = np.maximum(onsets, np.concatenate([[0.0], reached[:-1]]))
    return float(np.maximum(np.minimum(offsets, CLIP_LENGTH_S) - new, 0).sum())


def _evenness(moments: FloatArray) -> float:
    """The length of the mean of the moments' phases against the beat that they follow best, 0 to 1."""
    if len(moments) < _FEWEST_MOMENTS:
        return 0.0
    train = np.zeros(_PADDED)
    np.add.at(train, np.minimum((moments - moments[0]) / _RESOLUTION_S + 0.5, _PADDED - 1).astype(np.int64), 1.0)
    follows = np.abs(np.fft.rfft(train)) / len(moments)
    beats_a_second = np.arange(len(follows)) / (_PADDED * _RESOLUTION_S)
    return float(follows[(beats_a_second >= 1 / _LONGEST_BEAT_S) & (beats_a_second <= 1 / _SHORTEST_BEAT_S)].max())


def exact_grid_s(clip: Notes) -> float | None:
    """The step of an even grid of times that nearly all onsets lie on to 5 ms; None where there is none.

    Nobody plays so; a program writes so. Steps below 60 ms are no finding, since every onset is near one of those.
    """
    clip = clip.between(0, CLIP_LENGTH_S)
    moments = clip.onsets_s[np.diff(clip.onsets_s, prepend=-1.0) > _TOGETHER_S / 2]
    if len(moments) < _FEWEST_MOMENTS:
        return None
    since = moments - moments[0]
    shortest = float(np.diff(moments).min())
    for parts in (1, 2, 3, 4):
        step = shortest / parts
        if step < _SHORTEST_STEP_S:
            return None
        for time in since[1:]:  # what a rounded first distance does not tell, the later ones do
            number = round(time / step)
            if number and abs(time - number * step) < min(2 * _EXACT_S, step / 4):
                step = time / number
        off = np.abs(since - np.round(since / step) * step)
        if (off < _EXACT_S).mean() >= _NEARLY_ALL:
            return float(step)
    return None


def _steps(top: FloatArray) -> float:
    moves = np.abs(np.diff(top))
    moves = moves[moves > 0]
    return float((moves <= _STEP).mean()) if len(moves) else 0.0


def _patterns(top: FloatArray) -> float:
    moves = np.diff(top).astype(np.int64)
    if len(moves) < _PATTERN + 1:
        return 1.0
    windows = np.lib.stride_tricks.sliding_window_view(moves, _PATTERN)
    return float(len(np.unique(windows, axis=0)) / len(windows))


# --- what is usual ---------------------------------------------------------------------------------------------------


class Range(NamedTuple):
    """What a number was in the training clips: beyond each bound lay 2 in 1000, and half below the middle."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class Usual:
    """How the training music is played: for each number of `Manner` its range, and the grid of times that it lies on.

    `written` is the share of the training clips that lie exactly on a grid of their own, as a program writes music.

    Raises
    ------
    CheckpointError
        When a number is missing, is not finite, or its bounds are out of order.
    """

    ranges: Mapping[str, Range]
    grid_s: float = 0.0
    written: float = 0.0
    n_clips: int = 0

    def __post_init__(self) -> None:
        missing = next((name for name in NAMES if name not in self.ranges), None)
        if missing is not None:
            raise CheckpointError(f"what is usual in the training music lacks {missing}")
        for name, found in self.ranges.items():
            if not all(map(math.isfinite, found)) or not found.low <= found.middle <= found.high:
                raise CheckpointError(f"what is usual in the training music cannot be: {ascii(name)[:40]}")
        if not 0 <= self.grid_s <= 1 or not 0 <= self.written <= 1:
            raise CheckpointError("the training music's grid cannot be; its step is 0 to 1 s, its share 0 to 1")

    def remarks(self, notes: Notes) -> tuple["Remark", ...]:
        """What is unlike the training music in a piece, the furthest off first; nothing where all is usual."""
        clips = split_into_clips(notes)
        played = [found for clip in clips if (found := manner_of(clip, self.grid_s)) is not None]
        if not played:
            return (Remark("notes", f"There are only {len(notes)} notes: too few to tell how anybody plays."),)
        numbers = {name: float(np.median([getattr(one, name) for one in played])) for name in NAMES}
        unusual = [(math.inf, remark) for remark in self._written(clips)]
        for name in NAMES:
            usual, value = self.ranges[name], numbers[name]
            if (far := _how_far(value, usual)) > _MARGIN and (words := _WORDS[name](value, usual)):
                unusual.append((far, Remark(name, words)))
        return tuple(remark for _, remark in sorted(unusual, key=lambda pair: -pair[0]))

    def _written(self, clips: list[Notes]) -> Iterator["Remark"]:
        """That the onsets lie on a grid as a program writes them, unless the training music lies on the same."""
        exact = [] if self.written > _OUTSIDE else _steps_of_their_own(clips, self.grid_s)
        if 2 * len(exact) > len(clips):
            yield Remark(
                "grid",
                f"All onsets lie exactly on a grid of {1000 * float(np.median(exact)):.0f} ms: this was written by a "
                "program or quantised, not played.",
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, from which `from_dict` makes the same again."""
        return {
            "format": _FORMAT,
            "ranges": {name: list(found) for name, found in self.ranges.items()},
            "grid_s": self.grid_s,
            "written": self.written,
            "n_clips": self.n_clips,
        }

    @classmethod
    def from_dict(cls, data: object) -> "Usual":
        """The same from plain data that nobody vouches for.

        Raises
        ------
        CheckpointError
            When something is missing, of another kind, or cannot be.
        """
        if (
            not isinstance(data, Mapping)
            or data.get("format") != _FORMAT
            or not isinstance(data.get("ranges"), Mapping)
        ):
            raise CheckpointError("what is usual in the training music is of another format")
        try:
            ranges = {str(name): Range(*map(_number, found)) for name, found in data["ranges"].items()}
            grid_s, written = (_number(data.get(name, 0.0)) for name in ("grid_s", "written"))
            return cls(ranges, grid_s, written, int(_number(data.get("n_clips", 0))))
        except (TypeError, ValueError, OverflowError) as error:
            raise CheckpointError("what is usual in the training music is damaged") from error


class Remark(NamedTuple):
    """One thing that is unlike the training music: the number of `Manner` that says so, and a sentence."""

    about: str
    words: str


def usual_of(clips: Iterable[Notes]) -> Usual:
    """What is usual in training clips; those of fewer than four notes are left out.

    Raises
    ------
    DataError
        When no clip is left.
    """
    kept = list(clips)
    grid_s = next((grid for grid in _GRIDS_S if kept and all(_lies_on(clip, grid) for clip in kept)), 0.0)
    played = [tuple(asdict(found).values()) for clip in kept if (found := manner_of(clip, grid_s)) is not None]
    if not played:
        raise DataError("there is no clip of four notes or more to learn from how music is played")
    low, middle, high = np.quantile(np.array(played), [_OUTSIDE, 0.5, 1 - _OUTSIDE], axis=0)
    ranges = {name: Range(*map(float, bounds)) for name, *bounds in zip(NAMES, low, middle, high, strict=True)}
    return Usual(ranges, grid_s, len(_steps_of_their_own(kept, grid_s)) / len(kept), len(played))


def _steps_of_their_own(clips: Iterable[Notes], grid_s: float) -> list[float]:
    """The steps of the exact grids that some of the clips lie on, where it is not the one that all lie on."""
    steps = (exact_grid_s(clip) for clip in clips)
    return [step for step in steps if step is not None and abs(step - grid_s) > _ON_GRID_S]


def _lies_on(clip: Notes, grid_s: float) -> bool:
    return bool((np.abs(clip.onsets_s / grid_s - np.round(clip.onsets_s / grid_s)) * grid_s < _ON_GRID_S).all())


def _how_far(value: float, usual: Range) -> float:
    """How far a number is beyond its bound, in distances of that bound from the middle; 0 within both."""
    bound = min(max(value, usual.low), usual.high)
    return abs(value - bound) / max(abs(bound - usual.middle), _LEAST_REACH * abs(usual.middle), 1e-6)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{ascii(value)[:40]} is no number")
    return float(value)


# --- in words --------------------------------------------------------------------------------------------------------


def _between(usual: Range, form: str, unit: str = "") -> str:
    return f"the model learned from {usual.low:{form}} to {usual.high:{form}}{unit}"


def _notes_per_s(value: float, usual: Range) -> str:
    return f"There are {value:.1f} notes a second; {_between(usual, '.1f')}."


def _low(value: float, usual: Range) -> str:
    return f"The lowest notes lie at {_key(value)}; {_keys(usual)}."


def _high(value: float, usual: Range) -> str:
    return f"The highest notes lie at {_key(value)}; {_keys(usual)}."


def _polyphony(value: float, usual: Range) -> str:
    if value < usual.low and value < _ONE_VOICE:
        return f"Hardly ever does more than one note sound, {value:.1f} at once; {_between(usual, '.1f')}."
    return f"{value:.1f} notes sound at once; {_between(usual, '.1f')}."


def _chords(value: float, usual: Range) -> str:
    if value < usual.low:
        often, known = _percent(value), _percent(usual.low)
        return f"Notes are struck one by one, together in {often} of all moments; known is {known} or more."
    return f"{_percent(value)} of all moments are chords struck together; known is up to {_percent(usual.high)}."


def _note_s(value: float, usual: Range) -> str:
    which = "short" if value < usual.low else "long"
    return f"The notes are {which}, {value:.2f} s in the middle; {_between(usual, '.1f', ' s')}."


def _pitches(value: float, usual: Range) -> str:
    few = "only " if value < usual.low else ""
    return f"There are {few}{value:.0f} different pitches in 30 s; {_between(usual, '.0f')}."


def _pitch_classes(value: float, usual: Range) -> str:
    if value < usual.low:
        return f"Of the twelve tones only {value:.1f} are used, by weight; known is from {usual.low:.1f}."
    return f"All twelve tones come equally often ({value:.1f} of 12); known is up to {usual.high:.1f}: it has no key."


def _evenness_words(value: float, usual: Range) -> str:
    if value < usual.low:  # a player may be as free as he likes, and a few notes have no beat
        return ""
    return (
        f"The onsets follow an even beat as a machine's do ({_percent(value)}; known is up to {_percent(usual.high)}): "
        "it may have been written, not played."
    )


def _steps_words(value: float, usual: Range) -> str:
    if value > usual.high:
        known = _percent(usual.high)
        return f"The top line moves by steps nearly always ({_percent(value)}; known is up to {known}), as scales do."
    return f"The top line moves by leaps nearly always (steps {_percent(value)}; known is from {_percent(usual.low)})."


def _patterns_words(value: float, usual: Range) -> str:
    known = _percent(usual.low)
    return f"The top line repeats itself: {_percent(value)} of its patterns are new; known is {known} or more."


def _silence(value: float, usual: Range) -> str:
    return f"For {_percent(value)} of the time nothing sounds; known is up to {_percent(usual.high)}."


def _loudnesses(value: float, usual: Range) -> str:
    if usual.high <= 1:  # the training music carries no loudness, so that any is unheard
        return ""
    if value == 1:
        return f"All notes are equally loud; the model learned from {usual.low:.0f} or more loudnesses."
    return f"There are {value:.0f} different loudnesses; {_between(usual, '.0f')}."


def _percent(share: float) -> str:
    """ "87 %"."""
    return f"{100 * share:.0f} %"


def _keys(usual: Range) -> str:
    return f"in what the model learned from, between {_key(usual.low)} and {_key(usual.high)}"


def _key(pitch: float) -> str:
    """ "C4" for middle C, MIDI 60."""
    return f"{_KEY_NAMES[round(pitch) % 12]}{round(pitch) // 12 - 1}"


_WORDS: dict[str, Callable[[float, Range], str]] = {
    "notes_per_s": _notes_per_s,
    "low": _low,
    "high": _high,
    "polyphony": _polyphony,
    "chords": _chords,
    "note_s": _note_s,
    "pitches": _pitches,
    "pitch_classes": _pitch_classes,
    "evenness": _evenness_words,
    "steps": _steps_words,
    "patterns": _patterns_words,
    "silence": _silence,
    "loudnesses": _loudnesses,
}
