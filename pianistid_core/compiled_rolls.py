"""From packed notes to a batch of rolls in one compiled call: what `clips.draw_clip` draws, bit for bit.

One clip at a time, while all of it is in the processor's cache: seed a generator, augment, choose a start, keep the
notes that are heard, turn them into the strokes of each channel, and paint those. Every step is that of the plain
code, in its order and with its roundings: `midi.augment`, `Notes.released`, `rolls.is_heard`, `concepts.draw_concepts`,
`rolls.rasterise`. Where that code is changed, this must follow; the tests hold the two together.

Reasons why a clip cannot be drawn come back as numbers, of which `reason` makes sentences.

This module imports numba: import it where it is used, not at the top of a module.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pianistid_core.clips import MAX_JITTER_S, ClipOptions
from pianistid_core.compiled_chance import Words, compiled, integer, new_state, random, seed, uniform
from pianistid_core.concepts import RANDOM_PITCHES, no_chords, no_melody
from pianistid_core.midi import SHORTEST_RELEASED_S, TIME_STRETCH, TRANSPOSE_SEMITONES, VELOCITY_SHIFT
from pianistid_core.packed_notes import PackedNotes
from pianistid_core.rolls import (
    CLIP_SECONDS,
    FRAME_EDGES_S,
    FRAMES_PER_SECOND,
    HIGHEST_PITCH,
    LOWEST_PITCH,
    MAX_VELOCITY,
    MINIMUM_LENGTH_S,
    N_FRAMES,
    N_KEYS,
    NO_NOTES,
)

_CHANNEL = N_KEYS * N_FRAMES
_DRAWN, _NO_NOTES, _NO_MELODY, _NO_CHORDS = range(4)
_SINGLE, _MELODY, _HARMONY, _RHYTHM, _DYNAMICS = -1, 0, 1, 2, 3

# Numba reads globals as constants when it compiles; it knows numbers, not tuples of tuples.
_LOWEST_KEY, _ABOVE_HIGHEST_KEY = RANDOM_PITCHES
_DOWN, _UP = TRANSPOSE_SEMITONES
_SOFTER, _LOUDER = VELOCITY_SHIFT
_FASTEST, _SLOWEST = TIME_STRETCH


class Rules(NamedTuple):
    """The options of a draw, as compiled code takes them."""

    augment: bool
    probability: float
    jitter: bool
    release_gap_s: float
    normalised: bool
    lower_bound: int
    melody_grid_s: float
    upper_bound: int
    minimum_notes: int
    harmony_grid_s: float
    drop_highest: bool
    dynamics_grid_s: float


class Seeds(NamedTuple):
    """What seeds the generators of n clips.

    In training, by clip and attempt: `prefix`, the words of seed and epoch, then the clip's number, then `stream` plus
    the attempt, of which there are `attempts`. In evaluation the notes' own seeds, `by_notes` uint64 (n,), are all.
    """

    prefix: Words
    stream: int
    attempts: int
    by_notes: Words


class Arrays(NamedTuple):
    """The arrays of `strokes.Strokes`."""

    rows: npt.NDArray[np.int32]
    firsts: npt.NDArray[np.int16]
    lasts: npt.NDArray[np.int16]
    values: npt.NDArray[np.uint8]


class _Work(NamedTuple):
    """Room for the notes of the largest clip: as heard, their random keys, and what a concept needs on its way."""

    starts_s: npt.NDArray[np.float64]
    ends_s: npt.NDArray[np.float64]
    pitches: npt.NDArray[np.int64]
    velocities: npt.NDArray[np.int64]
    rhythm: npt.NDArray[np.int64]
    dynamics: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    tops: npt.NDArray[np.int64]


def reason(code: int, options: ClipOptions) -> str:
    """Why a clip could not be drawn; "" when it was."""
    if code == _DRAWN:
        return ""
    if code == _NO_NOTES:
        return NO_NOTES
    return no_melody(options.extractor_cfg.melody) if code == _NO_MELODY else no_chords(options.extractor_cfg.harmony)


def draw_strokes(
    packed: PackedNotes, clips: Sequence[int], options: ClipOptions, seeds: Seeds
) -> tuple[Arrays, npt.NDArray[np.uint8]]:
    """Draws clips of `packed` as strokes; and the codes (B,), 0 where drawn: a clip that cannot be has no strokes."""
    numbers, most = _numbers_of(packed, clips)
    room = most * options.n_channels
    strokes = Arrays(np.empty(room, np.int32), np.empty(room, np.int16), np.empty(room, np.int16), np.empty(room, "u1"))
    codes = np.empty(len(numbers), np.uint8)
    n = _draw_strokes(
        _notes_of(packed), numbers, _rules(options), _channels(options), seeds, FRAME_EDGES_S, strokes, codes
    )
    return Arrays(strokes.rows[:n], strokes.firsts[:n], strokes.lasts[:n], strokes.values[:n]), codes


def draw_rolls(
    packed: PackedNotes,
    clips: Sequence[int],
    options: ClipOptions,
    seeds: Seeds,
    out: npt.NDArray[np.float32] | npt.NDArray[np.uint8],
    spans: npt.NDArray[np.uint8],
) -> npt.NDArray[np.uint8]:
    """Draws clips of `packed` into `out` (B, C, 88, 3000), whatever was in it; gives the codes (B,), 0 where drawn.

    float32 rolls are normalised where the options say so, uint8 rolls are velocities. `spans` (B, C, 2) takes each
    channel's smallest and largest velocity. The rolls of a clip that cannot be drawn are left as they were.
    """
    numbers, _ = _numbers_of(packed, clips)
    codes = np.empty(len(numbers), np.uint8)
    flat = out.reshape(-1)
    _draw_rolls(
        _notes_of(packed), numbers, _rules(options), _channels(options), seeds, FRAME_EDGES_S, flat, spans, codes
    )
    return codes


def _numbers_of(packed: PackedNotes, clips: Sequence[int]) -> tuple[npt.NDArray[np.int64], int]:
    """The clips as an array, and how many notes they have in all."""
    numbers = np.asarray(clips, np.int64)
    if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(packed):
        raise IndexError(f"clips {numbers.min()} to {numbers.max()} of {len(packed)}")
    return numbers, int((packed.starts[numbers + 1] - packed.starts[numbers]).sum())


def _notes_of(packed: PackedNotes) -> tuple[npt.NDArray[Any], ...]:
    arrays = (packed.onsets_s, packed.offsets_s, packed.pitches, packed.velocities, packed.starts)
    views = tuple(array.view() for array in arrays)
    for view in views:
        # As a cache's maps are: numba would compile everything twice, once for arrays that can be written.
        view.flags.writeable = False
    return views


def _channels(options: ClipOptions) -> npt.NDArray[np.int64]:
    return np.array(options.use_concepts if options.multichannel else (_SINGLE,), np.int64)


def _rules(options: ClipOptions) -> Rules:
    melody, harmony, dynamics = (getattr(options.extractor_cfg, name) for name in ("melody", "harmony", "dynamics"))
    return Rules(
        options.data_augmentation,
        float(options.augmentation_probability),
        options.jitter_start,
        float(options.release_gap_s),
        options.normalize_velocity,
        melody.lower_bound,
        float(melody.quantize_resolution),
        harmony.upper_bound,
        harmony.minimum_notes,
        float(harmony.quantize_resolution),
        harmony.remove_highest_pitch,
        float(dynamics.quantize_resolution),
    )


# --- the kernels: a batch --------------------------------------------------------------------------------------------


@compiled
def _draw_strokes(
    notes: Any, clips: Any, rules: Any, channels: Any, seeds: Any, edges_s: Any, strokes: Any, codes: Any
) -> int:
    """All strokes of all clips, one clip after the other; gives their number."""
    work = _workspace(clips, notes[4])
    ends = np.empty(len(channels), np.int64)
    n = 0
    for b in range(len(clips)):
        codes[b] = _draw_clip(notes, clips, b, rules, channels, seeds, edges_s, work, strokes, n, ends)
        if codes[b] == _DRAWN:
            n = ends[len(channels) - 1]
    return n


@compiled
def _draw_rolls(
    notes: Any, clips: Any, rules: Any, channels: Any, seeds: Any, edges_s: Any, out: Any, spans: Any, codes: Any
) -> None:
    """The strokes of one clip at a time, painted at once."""
    work = _workspace(clips, notes[4])
    ends = np.empty(len(channels), np.int64)
    room = len(work.tops) * len(channels)
    strokes = Arrays(
        np.empty(room, np.int32), np.empty(room, np.int16), np.empty(room, np.int16), np.empty(room, np.uint8)
    )
    for b in range(len(clips)):
        codes[b] = _draw_clip(notes, clips, b, rules, channels, seeds, edges_s, work, strokes, 0, ends)
        if codes[b] != _DRAWN:
            continue
        start = 0
        for c in range(len(channels)):
            base = (b * len(channels) + c) * _CHANNEL
            low, high = _paint(out, base, strokes, start, ends[c], rules.normalised)
            spans[b, c, 0] = low
            spans[b, c, 1] = high
            start = ends[c]


@compiled
def _workspace(clips: Any, note_starts: Any) -> Any:
    most = 1
    for clip in clips:
        most = max(most, note_starts[clip + 1] - note_starts[clip])
    times, numbers = np.empty((2, most)), np.empty((6, most), np.int64)
    return _Work(times[0], times[1], numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5])


# --- the kernels: a clip ---------------------------------------------------------------------------------------------


@compiled
def _draw_clip(
    notes: Any,
    clips: Any,
    b: int,
    rules: Any,
    channels: Any,
    seeds: Any,
    edges_s: Any,
    work: Any,
    strokes: Any,
    n: int,
    ends: Any,
) -> int:
    """Draws clip `b` of a batch until a draw succeeds; writes its strokes from `n` on, and each channel's end.

    Gives why the last draw failed, or that one succeeded.
    """
    state = new_state()
    words = np.empty(len(seeds.prefix) + 3, np.uint64)
    code = _NO_NOTES
    for attempt in range(seeds.attempts):
        n_words = 1
        if len(seeds.by_notes):
            words[0] = seeds.by_notes[b]
        else:
            n_words = clip_words(seeds, clips[b], attempt, words)
        seed(state, words, n_words)
        heard = _hear(notes, clips[b], rules, state, work)
        code = _stroke(heard, rules, channels, state, edges_s, work, b * len(channels) * N_KEYS, strokes, n, ends)
        if code == _DRAWN:
            break
    return code


@compiled
def clip_words(seeds: Any, clip: int, attempt: int, words: Any) -> int:
    """Writes the 32-bit words of (seed, epoch, clip, stream + attempt); gives their number."""
    n = len(seeds.prefix)
    words[:n] = seeds.prefix
    words[n] = clip & 0xFFFFFFFF
    n += 1
    if clip >> 32:
        words[n] = clip >> 32
        n += 1
    words[n] = seeds.stream + attempt
    return n + 1


@compiled
def _hear(notes: Any, clip: int, rules: Any, state: Any, work: Any) -> int:
    """Augments a clip's notes, chooses a start, and keeps the notes that are heard from there; gives their number."""
    onsets_s, offsets_s, pitches, velocities, note_starts = notes
    begin, end = note_starts[clip], note_starts[clip + 1]
    semitones, stretch, shifts = 0, 1.0, work.rhythm
    augmented = rules.augment and random(state) < rules.probability
    if augmented:
        semitones = integer(state, _DOWN, _UP + 1)
        stretch = uniform(state, _FASTEST, _SLOWEST)
        for i in range(end - begin):
            shifts[i] = integer(state, _SOFTER, _LOUDER + 1)
    clip_start = uniform(state, 0.0, MAX_JITTER_S) if rules.jitter else 0.0
    clip_end = clip_start + CLIP_SECONDS
    heard = 0
    # Of the last note on each key: its number among those heard, its end, and the soonest that it may be ended.
    last, last_end_s, soonest_s = np.full(128, -1), np.zeros(128), np.zeros(128)
    for i in range(begin, end):
        onset_s, offset_s, pitch, velocity = onsets_s[i], offsets_s[i], int(pitches[i]), int(velocities[i])
        if augmented:
            onset_s *= stretch
            offset_s *= stretch
            # A pitch beyond 0..127 would be clipped there, which is off the keyboard as well.
            pitch += semitones
            velocity = min(max(velocity + shifts[i - begin], 0), MAX_VELOCITY)
        if rules.release_gap_s > 0.0:
            key = min(max(pitch, 0), 127)
            if last[key] >= 0:
                ended_s = min(last_end_s[key], max(onset_s - rules.release_gap_s, soonest_s[key]))
                work.ends_s[last[key]] = ended_s - clip_start
            soonest_s[key] = min(offset_s, onset_s + SHORTEST_RELEASED_S)
            offset_s = max(offset_s - rules.release_gap_s, soonest_s[key])
            last[key], last_end_s[key] = -1, offset_s
        if (
            pitch >= LOWEST_PITCH
            and pitch <= HIGHEST_PITCH
            and onset_s >= clip_start
            and onset_s <= clip_end
            and offset_s - onset_s > MINIMUM_LENGTH_S
            and velocity > 0
        ):
            work.starts_s[heard] = onset_s - clip_start
            work.ends_s[heard] = offset_s - clip_start
            work.pitches[heard] = pitch
            work.velocities[heard] = velocity
            if rules.release_gap_s > 0.0:
                last[pitch] = heard
            heard += 1
    return heard


@compiled
def _stroke(
    heard: int,
    rules: Any,
    channels: Any,
    state: Any,
    edges_s: Any,
    work: Any,
    row: int,
    strokes: Any,
    n: int,
    ends: Any,
) -> int:
    """Writes the strokes of each channel; gives why one cannot be drawn, or that all were."""
    if heard == 0:
        return _NO_NOTES
    if channels[0] != _SINGLE:
        # Both are drawn whichever concepts are kept, so that one channel's keys never depend on the others.
        for i in range(heard):
            work.rhythm[i] = integer(state, _LOWEST_KEY, _ABOVE_HIGHEST_KEY)
        for i in range(heard):
            work.dynamics[i] = integer(state, _LOWEST_KEY, _ABOVE_HIGHEST_KEY)
    for c in range(len(channels)):
        channel, base, start = channels[c], row + c * N_KEYS - LOWEST_PITCH, n
        if channel == _MELODY:
            n = _melody(heard, rules, edges_s, work, base, strokes, n)
            if n < start:
                return _NO_MELODY
        elif channel == _HARMONY:
            n = _harmony(heard, rules, edges_s, work, base, strokes, n)
            if n < start:
                return _NO_CHORDS
        elif channel == _DYNAMICS:
            slot_s = CLIP_SECONDS / _group(heard, rules.dynamics_grid_s, work)
            for i in range(heard):
                group = work.groups[i]
                first, last = _frames(group * slot_s, (group + 1) * slot_s, edges_s)
                n = _add(base + work.dynamics[i], first, last, work.velocities[i], strokes, n)
        elif channel == _RHYTHM:
            for i in range(heard):
                first, last = _frames(work.starts_s[i], work.ends_s[i], edges_s)
                n = _add(base + work.rhythm[i], first, last, MAX_VELOCITY, strokes, n)
        else:
            for i in range(heard):
                first, last = _frames(work.starts_s[i], work.ends_s[i], edges_s)
                n = _add(base + work.pitches[i], first, last, work.velocities[i], strokes, n)
        ends[c] = n
    return _DRAWN


@compiled
def _melody(heard: int, rules: Any, edges_s: Any, work: Any, base: int, strokes: Any, n: int) -> int:
    """The skyline: the highest note of each grid step, all equally long; gives one below `n` when there is none."""
    groups, before = 0, 0
    for i in range(heard):
        pitch = work.pitches[i]
        if pitch < rules.lower_bound:
            continue
        step = _grid_step(work.starts_s[i], rules.melody_grid_s)
        if groups == 0 or step != before:
            work.tops[groups] = pitch
            groups += 1
            before = step
        else:
            work.tops[groups - 1] = max(work.tops[groups - 1], pitch)
    if groups == 0:
        return n - 1
    slot_s = CLIP_SECONDS / groups
    for i in range(groups):
        first, last = _frames(i * slot_s, (i + 1) * slot_s, edges_s)
        n = _add(base + work.tops[i], first, last, MAX_VELOCITY, strokes, n)
    return n


@compiled
def _harmony(heard: int, rules: Any, edges_s: Any, work: Any, base: int, strokes: Any, n: int) -> int:
    """The chords: enough distinct pitches of one grid step, all equally long; gives one below `n` when there is none.

    Chords are gathered first, their pitches in `tops` with the chord's number in `groups`: how long each is depends on
    how many there are.
    """
    chords, gathered, at = 0, 0, 0
    while at < heard:
        step, begin, opened = 0, gathered, False
        while at < heard:
            if work.pitches[at] < rules.upper_bound:
                here = _grid_step(work.starts_s[at], rules.harmony_grid_s)
                if opened and here != step:
                    break
                step, opened = here, True
                gathered = _insert_once(work.pitches[at], work.tops, begin, gathered)
            at += 1
        if rules.drop_highest and gathered > begin:
            gathered -= 1
        if gathered > begin and gathered - begin >= rules.minimum_notes:
            work.groups[begin:gathered] = chords
            chords += 1
        else:
            gathered = begin
    if chords == 0:
        return n - 1
    slot_s = CLIP_SECONDS / chords
    for i in range(gathered):
        first, last = _frames(work.groups[i] * slot_s, (work.groups[i] + 1) * slot_s, edges_s)
        n = _add(base + work.tops[i], first, last, MAX_VELOCITY, strokes, n)
    return n


@compiled
def _insert_once(pitch: int, ascending: Any, begin: int, end: int) -> int:
    """Puts a pitch into its place in an ascending run, unless it is there already; gives the run's new end."""
    place = end
    while place > begin and ascending[place - 1] > pitch:
        place -= 1
    if place > begin and ascending[place - 1] == pitch:
        return end
    for k in range(end, place, -1):
        ascending[k] = ascending[k - 1]
    ascending[place] = pitch
    return end + 1


@compiled
def _group(heard: int, grid_s: float, work: Any) -> int:
    """Numbers the groups of notes that share a grid step; gives how many there are."""
    group, before = -1, 0
    for i in range(heard):
        step = _grid_step(work.starts_s[i], grid_s)
        if group < 0 or step != before:
            group += 1
            before = step
        work.groups[i] = group
    return group + 1


@compiled
def _grid_step(time_s: float, grid_s: float) -> int:
    """The nearest multiple of the grid, halves to the even one, as `np.round`."""
    return int(np.rint(time_s / grid_s))


@compiled
def _frames(start_s: float, end_s: float, edges_s: Any) -> Any:
    """The frames in which a note sounds: from the first up to, not with, the last."""
    first = min(_edges_until(start_s, edges_s) - 1, N_FRAMES)
    return first, min(max(_edges_until(end_s, edges_s), first), N_FRAMES)


@compiled
def _edges_until(time_s: float, edges_s: Any) -> int:
    """How many edges of frames lie at or before a time: `searchsorted(edges_s, time_s, "right")`, by a good guess."""
    if time_s >= edges_s[N_FRAMES]:
        return N_FRAMES + 1
    edge = int(time_s * FRAMES_PER_SECOND)
    while edge >= 0 and edges_s[edge] > time_s:
        edge -= 1
    while edges_s[edge + 1] <= time_s:
        edge += 1
    return edge + 1


@compiled
def _add(row: int, first: int, last: int, value: int, strokes: Any, n: int) -> int:
    """Writes a stroke as number `n` unless it has no frame; gives the number of the next."""
    if last <= first:
        return n
    strokes.rows[n] = row
    strokes.firsts[n] = first
    strokes.lasts[n] = last
    strokes.values[n] = value
    return n + 1


# --- the kernels: paint ----------------------------------------------------------------------------------------------


@compiled
def _paint(out: Any, base: int, strokes: Any, start: int, end: int, normalised: bool) -> Any:
    """Paints strokes `start` to `end` into the channel that begins at `out[base]`; gives its smallest and largest.

    Bytes are velocities. Floats that shall be normalised are painted as velocity / loudest from the start; only where
    every stroke of the loudest velocity is covered by others, or no cell is empty, is there more to do.
    """
    out[base : base + _CHANNEL] = 0
    cells, loudest = 0, 0
    for i in range(start, end):
        cells += int(strokes.lasts[i]) - int(strokes.firsts[i])
        loudest = max(loudest, int(strokes.values[i]))
    if loudest == 0:
        return 0, 0
    floats = normalised and out.itemsize == 4
    by = np.float32(loudest) if floats else np.float32(1)
    _paint_over(out, base, strokes, start, end, by)
    if cells < _CHANNEL and _is_seen(out, base, strokes, start, end, loudest, np.float32(loudest) / by):
        return 0, loudest
    # The rare case: look at every cell.
    if floats:
        _paint_over(out, base, strokes, start, end, np.float32(1))
    low, high = MAX_VELOCITY, 0
    for cell in range(base, base + _CHANNEL):
        low = min(low, int(out[cell]))
        high = max(high, int(out[cell]))
    if floats:
        span = np.float32(high - low) if high > low else np.float32(1)
        for cell in range(base, base + _CHANNEL):
            out[cell] = (out[cell] - np.float32(low)) / span
    return low, high


@compiled
def _paint_over(out: Any, base: int, strokes: Any, start: int, end: int, by: Any) -> None:
    """Paints velocity / `by`, each stroke over the ones before it."""
    for i in range(start, end):
        at = base + (strokes.rows[i] % N_KEYS) * N_FRAMES
        out[at + strokes.firsts[i] : at + strokes.lasts[i]] = np.float32(strokes.values[i]) / by


@compiled
def _is_seen(out: Any, base: int, strokes: Any, start: int, end: int, value: int, painted: Any) -> bool:
    """Whether a stroke of a velocity, painted as `painted`, is left uncovered anywhere."""
    for i in range(start, end):
        if strokes.values[i] == value:
            at = base + (strokes.rows[i] % N_KEYS) * N_FRAMES
            for cell in range(at + strokes.firsts[i], at + strokes.lasts[i]):
                if out[cell] == painted:
                    return True
    return False
