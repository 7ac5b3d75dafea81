"""Finds clips that hold the same music, in time linear in the number of clips.

Conventions
-----------
A clip is known by its figures, of two kinds. An outline is seven intervals in a row of the notes that nothing higher
begins within 80 ms of: it stays the same when music is shifted, transposed, stretched, re-quantised, or changed below
the outline. A landmark is four notes close together with the time between them in steps of 100 ms: some of the many
landmarks survive even another transcription of the same recording; one in sixteen, chosen by its hash, is kept.

Clips that share a few figures are laid over each other (by one transposition, one stretch and one shift) and compared
note by note. Two takes of one tune share figures too, but not the timing of most notes.

Clips with too few notes for that are compared as a whole.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pianistid_core.datasets.workers import shared_out
from pianistid_core.midi import Notes

__all__ = ["SIMILAR", "ClipPrint", "Likeness", "Overlay", "clip_print", "find_duplicates", "overlay"]

SIMILAR = 0.75  # from this share of agreeing notes on, two clips are called the same music

_OUTLINE_S = 0.08
_OUTLINE_INTERVALS = 7
_LANDMARK_REACH = 6  # a landmark's other notes are among the next six
_LANDMARK_OFFSETS = np.array(list(combinations(range(1, _LANDMARK_REACH + 1), 3)))
_LANDMARK_STEP_S = 0.1
_LANDMARK_STEPS = (2, 20)  # its shortest and longest length
_LANDMARK_SAMPLE = 16
_MINIMUM_SHARED = 3
_MAXIMUM_CLIPS = 24  # a figure in more clips than this tells nothing
_MAXIMUM_PARTNERS = 24  # a clip is laid over the clips that share the most figures with it
_MAXIMUM_MATCHES = 100
_RANGE_BITS = 4
_TOLERANCE_S = 0.055  # half a step of a 100 ms grid, and a little
_STRETCHES = (0.7, 1.4)
_SHIFT_SEARCH_S = 0.5
_ROUNDING_S = 1e-6
_MAXIMUM_NOTE_PAIRS = 1_000_000  # of two clips: music has some hundreds, and 250 notes a second on 50 keys some 75,000
_SHIFT_STEP_S = 0.2
_SHIFTS_TRIED = 3
_AGREEMENT_S = 0.3
_MINIMUM_SLOPES = 20
_WORTH_A_LOOK = 0.35
_MINIMUM_OVERLAP_S = 8.0
_MINIMUM_OVERLAP_NOTES = 20
_MINIMUM_WHOLE_NOTES = 8
_GRID_S = 0.05
# Fewer pairs than the second are compared by one process before another has started.
_PAIRS_PER_TASK, _PAIRS_PER_WORKER = 256, 2_000

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
HashArray = npt.NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class ClipPrint:
    """What is kept of a clip to compare it: its n notes by onset, and its k different figures."""

    onsets_s: npt.NDArray[np.float32]
    pitches: npt.NDArray[np.uint8]
    figures: npt.NDArray[np.uint64]  # ascending
    positions: npt.NDArray[np.int32]  # the note at which each figure first begins
    whole: bytes  # a checksum of all pitches and when they begin after the first, in steps of 50 ms


class Overlay(NamedTuple):
    """One clip laid over another: the share of notes that agree, and what turns the first into the second."""

    similarity: float
    semitones: int = 0
    stretch: float = 1.0
    shift_s: float = 0.0


class Likeness(NamedTuple):
    """Two clips (indices) that hold the same music."""

    a: int
    b: int
    overlay: Overlay


def clip_print(notes: Notes) -> ClipPrint:
    """What `find_duplicates` needs to know of a clip."""
    outlines, outline_starts = _outlines(notes.onsets_s, notes.pitches)
    landmarks, landmark_starts = _landmarks(notes.onsets_s, notes.pitches)
    figures, first = np.unique(np.concatenate([outlines, landmarks]), return_index=True)
    steps = np.round((notes.onsets_s - notes.onsets_s[:1]) / _GRID_S).astype(np.int64)
    return ClipPrint(
        notes.onsets_s.astype(np.float32),
        notes.pitches,
        figures,
        np.concatenate([outline_starts, landmark_starts])[first].astype(np.int32),
        hashlib.blake2b(np.unique(steps * 128 + notes.pitches).tobytes(), digest_size=12).digest(),
    )


def find_duplicates(prints: Sequence[ClipPrint], recordings: npt.ArrayLike, *, workers: int = 1) -> list[Likeness]:
    """The pairs of clips from different recordings that hold the same music, or an excerpt of at least 8 s of it.

    `recordings` has the number of each clip's recording; clips of one recording are not compared. The result is
    ordered by the clips' indices. Many pairs are compared in as many processes as `workers`.
    """
    recording = np.asarray(recordings, np.int64)
    found = {(a, b): Likeness(a, b, Overlay(1.0)) for a, b in _equal_wholes(prints, recording)}
    pairs = [pair for pair in _sharing_figures(prints, recording) if pair not in found]
    shared = [pairs[start : start + _PAIRS_PER_TASK] for start in range(0, len(pairs), _PAIRS_PER_TASK)]
    tasks = ([(prints[a], prints[b]) for a, b in some] for some in shared)
    results = shared_out(_overlaid, tasks, min(workers, 1 + len(pairs) // _PAIRS_PER_WORKER))
    for some, (_, overlays) in zip(shared, results, strict=True):
        for (a, b), laid in zip(some, overlays, strict=True):
            if laid is not None and laid.similarity >= SIMILAR:
                found[a, b] = Likeness(a, b, laid)
    return [found[pair] for pair in sorted(found)]


def _overlaid(pairs: Sequence[tuple[ClipPrint, ClipPrint]]) -> list[Overlay | None]:
    return [overlay(a, b) for a, b in pairs]


def overlay(a: ClipPrint, b: ClipPrint) -> Overlay | None:
    """Lays b over a where their shared figures say; None when these do not agree, or the clips overlap too little.

    The similarity is the share of both clips' notes, where the clips overlap, that the other has too: the same
    pitch after transposition, within 55 ms.
    """
    _, in_a, in_b = np.intersect1d(a.figures, b.figures, assume_unique=True, return_indices=True)
    if not len(in_a):
        return None
    notes_a, notes_b = a.positions[in_a], b.positions[in_b]
    moved = b.pitches[notes_b].astype(np.int64) - a.pitches[notes_a]
    semitones = int(np.bincount(moved + 128).argmax()) - 128
    same = moved == semitones
    laid = _Laid(a, b, semitones)
    times_a, times_b = laid.onsets_a[notes_a[same]], laid.onsets_b[notes_b[same]]
    maps = [each for each in _time_maps(times_a, times_b) if _agreeing(times_a, times_b, *each) >= _MINIMUM_SHARED]
    rough = [(laid.similarity(*each, 2 * _TOLERANCE_S), each) for each in maps]
    fitting = [(similarity, each) for similarity, each in rough if similarity is not None]
    if not fitting:
        return None
    similarity, (stretch, shift_s) = max(fitting)
    if similarity >= _WORTH_A_LOOK:
        # The figures give the map to about a step of 100 ms; the notes themselves give it to a few milliseconds.
        finer = [(factor, laid.best_shift_s(factor, shift_s)) for factor in {1.0, stretch}]
        similarity, (stretch, shift_s) = max((laid.similarity(*each) or 0.0, each) for each in finer)
    return Overlay(similarity, semitones, stretch, shift_s)


class _Laid:
    """Clip a, transposed, and clip b, to be compared at any stretch and shift of a."""

    def __init__(self, a: ClipPrint, b: ClipPrint, semitones: int) -> None:
        self.onsets_a, self.onsets_b = a.onsets_s.astype(np.float64), b.onsets_s.astype(np.float64)
        self._pitches_a, self._pitches_b = a.pitches.astype(np.int64) + semitones, b.pitches.astype(np.int64)

    def similarity(self, stretch: float, shift_s: float, tolerance_s: float = _TOLERANCE_S) -> float | None:
        """The share of notes in the overlap that agree; None when the overlap is too short."""
        onsets_a = stretch * self.onsets_a + shift_s
        start_s = max(onsets_a[0], self.onsets_b[0]) - tolerance_s
        end_s = min(onsets_a[-1], self.onsets_b[-1]) + tolerance_s
        kept_a = (onsets_a >= start_s) & (onsets_a <= end_s)
        kept_b = (self.onsets_b >= start_s) & (self.onsets_b <= end_s)
        n_notes = int(kept_a.sum() + kept_b.sum())
        if end_s - start_s < _MINIMUM_OVERLAP_S or n_notes < 2 * _MINIMUM_OVERLAP_NOTES:
            return None
        # One number line for all keys, on which different keys are never near each other.
        line_a = np.sort(self._pitches_a[kept_a] * 1000.0 + onsets_a[kept_a])
        line_b = np.sort(self._pitches_b[kept_b] * 1000.0 + self.onsets_b[kept_b])
        return (_near(line_a, line_b, tolerance_s) + _near(line_b, line_a, tolerance_s)) / n_notes

    def best_shift_s(self, stretch: float, about_s: float) -> float:
        """The shift within half a second of `about_s` at which most pairs of notes of one key agree.

        It is `about_s` itself where there is no such pair, or more of them than any music has.
        """
        notes_a, notes_b = self._pairs(stretch, about_s)
        apart_s = self.onsets_b[notes_b] - stretch * self.onsets_a[notes_a]
        apart_s = np.sort(apart_s[np.abs(apart_s - about_s) <= _SHIFT_SEARCH_S])
        if not len(apart_s):
            return about_s
        ends = np.searchsorted(apart_s, apart_s + 2 * _TOLERANCE_S, side="right")
        start = int((ends - np.arange(len(apart_s))).argmax())
        return float(apart_s[start] + apart_s[ends[start] - 1]) / 2

    def _pairs(self, stretch: float, shift_s: float) -> tuple[IntArray, IntArray]:
        """The pairs of notes of one key that are half a second apart at most, and a rounding; none when too many."""
        onsets_a = stretch * self.onsets_a + shift_s
        # One number line for all keys, on which different keys are never near each other.
        times = np.concatenate([onsets_a, self.onsets_b])
        length_s = float(times.max() - times.min()) + 2 * _SHIFT_SEARCH_S
        line_a, line_b = self._pitches_a * length_s + onsets_a, self._pitches_b * length_s + self.onsets_b
        order = np.argsort(line_b)
        reach_s = _SHIFT_SEARCH_S + _ROUNDING_S
        first = np.searchsorted(line_b[order], line_a - reach_s, side="left")
        counts = np.searchsorted(line_b[order], line_a + reach_s, side="right") - first
        n_pairs = int(counts.sum())
        if n_pairs > _MAXIMUM_NOTE_PAIRS:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        within = np.arange(n_pairs) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(np.arange(len(counts)), counts), order[np.repeat(first, counts) + within]


def _near(here: FloatArray, there: FloatArray, tolerance_s: float) -> int:
    """How many sorted values have a partner among other sorted values."""
    first_after = np.searchsorted(there, here - tolerance_s, side="left")
    return int((np.searchsorted(there, here + tolerance_s, side="right") > first_after).sum())


def _outlines(onsets_s: FloatArray, pitches: npt.NDArray[np.uint8]) -> tuple[HashArray, IntArray]:
    """The outlines, hashed, and the note at which each begins."""
    keys = pitches.astype(np.int64)
    after = _highest_after(onsets_s, keys)
    before = _highest_after(-onsets_s[::-1], keys[::-1])[::-1]
    # Of two strokes of one key, the first stays.
    outline = np.flatnonzero((after <= keys) & (before < keys))
    intervals = (np.diff(keys[outline]) + 128).astype(np.uint64)
    n_figures = max(len(intervals) - _OUTLINE_INTERVALS + 1, 0)
    packed = np.zeros(n_figures, np.uint64)
    for place in range(_OUTLINE_INTERVALS):
        packed = packed << np.uint64(8) | intervals[place : place + n_figures]
    return _mixed(packed), outline[:n_figures]


def _highest_after(onsets_s: FloatArray, keys: IntArray) -> IntArray:
    """The highest key among the later notes that begin within 80 ms of each note; -1 where there is none.

    The time is n log n for n notes, however many begin together.
    """
    n_notes = len(keys)
    highest_of = [keys]  # place k, note i: the highest of the 2**k notes from i on
    ahead = 1
    while ahead < n_notes and (onsets_s[ahead:] - onsets_s[:-ahead] <= _OUTLINE_S).any():
        highest_of.append(np.maximum(highest_of[-1][:-ahead], highest_of[-1][ahead:]))
        ahead *= 2
    reached, highest = np.arange(n_notes), np.full(n_notes, -1)
    for powers, table in reversed(list(enumerate(highest_of))):
        further = np.flatnonzero(reached + (1 << powers) < n_notes)
        ends = reached[further] + (1 << powers)
        near = onsets_s[ends] - onsets_s[further] <= _OUTLINE_S
        further, ends = further[near], ends[near]
        highest[further] = np.maximum(highest[further], table[reached[further] + 1])
        reached[further] = ends
    return highest


def _landmarks(onsets_s: FloatArray, pitches: npt.NDArray[np.uint8]) -> tuple[HashArray, IntArray]:
    """The sampled landmarks, hashed, and the note at which each begins."""
    n_notes = len(pitches)
    # How many steps later each of the next notes begins, and that with its interval in 13 bits; one row an offset.
    steps = np.full((_LANDMARK_REACH + 1, n_notes), 31, np.uint64)
    later = np.zeros_like(steps)
    for ahead in range(1, min(_LANDMARK_REACH + 1, n_notes)):
        apart = np.round((onsets_s[ahead:] - onsets_s[:-ahead]) / _LANDMARK_STEP_S)
        steps[ahead, :-ahead] = np.minimum(apart, 31)
        later[ahead, :-ahead] = pitches[ahead:].astype(np.int64) - pitches[:-ahead] + 128
    later = later << np.uint64(5) | steps
    packed = np.broadcast_to(pitches.astype(np.uint64), (len(_LANDMARK_OFFSETS), n_notes))
    for column in _LANDMARK_OFFSETS.T:
        packed = packed << np.uint64(13) | later[column]
    hashed = _mixed(packed | np.uint64(1 << 63))
    length = steps[_LANDMARK_OFFSETS[:, -1]]
    shortest, longest = _LANDMARK_STEPS
    fitting = (length >= shortest) & (length <= longest)
    kept = fitting & ((hashed >> np.uint64(40)) % np.uint64(_LANDMARK_SAMPLE) == 0)
    return hashed[kept], np.nonzero(kept)[1]


def _mixed(keys: HashArray) -> HashArray:
    """Scrambles keys one to one, so that any of their bits is as good as another for sampling."""
    keys = keys * np.uint64(0x9E3779B97F4A7C15)
    keys ^= keys >> np.uint64(29)
    return keys * np.uint64(0xBF58476D1CE4E5B9)


def _sharing_figures(prints: Sequence[ClipPrint], recording: IntArray) -> list[tuple[int, int]]:
    """The pairs of clips of different recordings that share a few figures which are not common figures."""
    if not prints:
        return []
    # Figures are hashes and ascending: a range of them is a slice of each print, and takes a fraction of the memory.
    edges = np.arange(1 << _RANGE_BITS, dtype=np.uint64) << np.uint64(64 - _RANGE_BITS)
    slices = [[*np.searchsorted(clip.figures, edges).tolist(), len(clip.figures)] for clip in prints]
    found = [np.empty(0, np.int64)]
    for i in range(len(edges)):
        figures = np.concatenate([clip.figures[at[i] : at[i + 1]] for clip, at in zip(prints, slices, strict=True)])
        clips = np.repeat(np.arange(len(prints)), [at[i + 1] - at[i] for at in slices])
        found += _sharing_one(figures, clips, recording)
    keys, shared = _repeated(found, len(prints) ** 2)
    first, second = np.divmod(keys, len(prints))
    kept = _closest(first, second, shared)
    return list(zip(first[kept].tolist(), second[kept].tolist(), strict=True))


def _sharing_one(figures: HashArray, clips: IntArray, recording: IntArray) -> list[IntArray]:
    """A key a * n + b for each figure that clips a < b share, of those that are in two clips and not in many."""
    if not len(figures):
        return []
    order = np.argsort(figures, kind="stable")
    figures, clips = figures[order], clips[order]
    first = np.flatnonzero(np.diff(figures, prepend=figures[:1] ^ np.uint64(1)))
    counts = np.diff(first, append=len(figures))
    in_clips = np.repeat(counts, counts)
    telling = in_clips <= _MAXIMUM_CLIPS
    pairs: list[IntArray] = []
    for ahead in range(1, _MAXIMUM_CLIPS):
        telling &= in_clips > ahead
        figures, clips, in_clips, telling = figures[telling], clips[telling], in_clips[telling], telling[telling]
        # Clips are ascending within one figure, so the pair (a, b) always has a < b.
        a, b = clips[:-ahead], clips[ahead:]
        together = (figures[:-ahead] == figures[ahead:]) & (recording[a] != recording[b])
        pairs.append(a[together] * len(recording) + b[together])
    return pairs


def _repeated(found: Sequence[IntArray], end: int) -> tuple[IntArray, IntArray]:
    """The keys below `end` that are there often enough, ascending, and how often; a few are sorted at a time."""
    edges = np.linspace(0, end, (1 << _RANGE_BITS) + 1).astype(np.int64)
    kept: list[tuple[IntArray, IntArray]] = []
    for low, high in pairwise(edges.tolist()):
        some = np.concatenate([keys[(keys >= low) & (keys < high)] for keys in found])
        keys, counts = np.unique(some, return_counts=True)
        enough = counts >= _MINIMUM_SHARED
        kept.append((keys[enough], counts[enough]))
    return np.concatenate([keys for keys, _ in kept]), np.concatenate([counts for _, counts in kept])


def _closest(first: IntArray, second: IntArray, shared: IntArray) -> npt.NDArray[np.bool_]:
    """Which pairs are among those that share the most, for at least one of their two clips.

    Copies share dozens of figures, chance a few: without this, the pairs by chance would grow with the square of the
    number of clips.
    """
    clips, pairs = np.concatenate([first, second]), np.tile(np.arange(len(first)), 2)
    order = np.lexsort((pairs, -shared[pairs], clips))
    starts = np.flatnonzero(np.diff(clips[order], prepend=-1))
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    kept = np.zeros(len(first), bool)
    kept[pairs[order[rank < _MAXIMUM_PARTNERS]]] = True
    return kept


def _equal_wholes(prints: Sequence[ClipPrint], recording: IntArray) -> list[tuple[int, int]]:
    """Clips of one checksum, each paired with the first that has it."""
    first: dict[bytes, int] = {}
    pairs = []
    for index, clip in enumerate(prints):
        if len(clip.pitches) < _MINIMUM_WHOLE_NOTES:
            continue
        earlier = first.setdefault(clip.whole, index)
        if recording[earlier] != recording[index]:
            pairs.append((earlier, index))
    return pairs


def _agreeing(times_a: FloatArray, times_b: FloatArray, stretch: float, shift_s: float) -> int:
    """How many of the matches a map takes to where they are; by chance it is one or two."""
    return int(np.count_nonzero(np.abs(times_b - (stretch * times_a + shift_s)) <= _AGREEMENT_S))


def _time_maps(times_a: FloatArray, times_b: FloatArray) -> list[tuple[float, float]]:
    """Stretches and shifts (s) that may take times a to times b: the commonest shifts alone, and the likeliest stretch.

    Some of the matches are chance, so nothing here is a mean of them all.
    """
    shifts, votes = np.unique(np.round((times_b - times_a) / _SHIFT_STEP_S), return_counts=True)
    commonest = shifts[np.argsort(-votes, kind="stable")[:_SHIFTS_TRIED]] * _SHIFT_STEP_S
    maps = [(1.0, float(shift_s)) for shift_s in commonest]
    some = np.linspace(0, len(times_a) - 1, min(len(times_a), _MAXIMUM_MATCHES)).astype(int)
    apart_a = times_a[some] - times_a[some][:, np.newaxis]
    apart_b = times_b[some] - times_b[some][:, np.newaxis]
    far = apart_a > _SHIFT_SEARCH_S
    slopes = apart_b[far] / apart_a[far]
    slopes = slopes[(slopes >= _STRETCHES[0]) & (slopes <= _STRETCHES[1])]
    if len(slopes) >= _MINIMUM_SLOPES:
        stretch = float(np.median(slopes))
        maps.append((stretch, float(np.median(times_b - stretch * times_a))))
    return maps
