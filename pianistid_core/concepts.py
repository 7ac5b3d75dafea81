"""The four musical concepts that a performance is taken apart into.

Each concept is a transform of the notes heard in one 30 s window, which forgets everything else (Cheston, Bance and
Harrison 2025, after Foscarin et al. 2022):

- melody: the skyline, the highest of the notes that begin together (to 10 ms), all equally long and loud;
- harmony: the groups of at least three distinct pitches that begin together (to 300 ms), all equally long and loud;
- rhythm: onsets and offsets as played, each note on a random key, all equally loud;
- dynamics: velocities as played, groups of notes that begin together (to 10 ms) equally long, on random keys.

Channels are always in the order of `CONCEPTS`. Random keys come from the generator that is passed in.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pianistid_core.errors import ExtractionError
from pianistid_core.midi import Notes
from pianistid_core.rolls import (
    CLIP_SECONDS,
    MAX_VELOCITY,
    N_FRAMES,
    N_KEYS,
    NO_NOTES,
    HeardNotes,
    Roll,
    heard_notes,
    rasterise,
)
from pianistid_core.schema import closest, option

CONCEPTS = ("melody", "harmony", "rhythm", "dynamics")
RANDOM_PITCHES = (21, 108)  # half open: 21 to 107, as the paper drew them


@dataclass(frozen=True)
class MelodyOptions:
    """How the skyline is drawn from the notes."""

    lower_bound: int = option(
        21,
        label="Lowest pitch",
        help="Notes below this MIDI pitch never count as melody; 21 keeps the whole keyboard.",
        low=0,
        high=127,
        level="advanced",
    )
    quantize_resolution: float = option(
        0.01,
        label="Melody grid (s)",
        help="Notes whose onsets round to the same multiple of this many seconds compete, and the highest is kept.",
        low=0.001,
        high=5.0,
        level="advanced",
    )


@dataclass(frozen=True)
class HarmonyOptions:
    """How chords are drawn from the notes."""

    upper_bound: int = option(
        109,
        label="Highest pitch",
        help="Only notes below this MIDI pitch count as part of a chord; 109 keeps the whole keyboard.",
        low=1,
        high=128,
        level="advanced",
    )
    minimum_notes: int = option(
        3,
        label="Notes in a chord",
        help="A group of simultaneous notes is a chord when it holds at least this many distinct pitches.",
        low=1,
        high=88,
        level="advanced",
    )
    quantize_resolution: float = option(
        0.3,
        label="Harmony grid (s)",
        help="Notes whose onsets round to the same multiple of this many seconds form one chord.",
        low=0.001,
        high=5.0,
        level="advanced",
    )
    remove_highest_pitch: bool = option(
        False,
        label="Drop the top note",
        help="Takes the highest pitch away from each group before counting it, so that melody does not leak in.",
        level="advanced",
    )


@dataclass(frozen=True)
class DynamicsOptions:
    """How loudness is drawn from the notes."""

    quantize_resolution: float = option(
        0.01,
        label="Dynamics grid (s)",
        help="Notes whose onsets round to the same multiple of this many seconds share one equally long slot.",
        low=0.001,
        high=5.0,
        level="advanced",
    )


@dataclass(frozen=True)
class ExtractorOptions:
    """The settings of the concept transforms; the defaults are the paper's."""

    melody: MelodyOptions = option(
        default_factory=MelodyOptions, label="Melody", help="How the melody channel is drawn from the notes of a clip."
    )
    harmony: HarmonyOptions = option(
        default_factory=HarmonyOptions,
        label="Harmony",
        help="How the harmony channel is drawn from the notes of a clip.",
    )
    dynamics: DynamicsOptions = option(
        default_factory=DynamicsOptions,
        label="Dynamics",
        help="How the dynamics channel is drawn from the notes of a clip.",
    )


PAPER_EXTRACTORS = ExtractorOptions()


@dataclass(frozen=True)
class DrawnNotes:
    """Notes as a concept redraws them: n start and end times (s), pitches, and velocities (n, or one for all).

    `sources` (n,) says which of the heard notes, counted from 0, each is drawn from: of several that are drawn as one,
    the first.
    """

    starts_s: npt.NDArray[np.float64]
    ends_s: npt.NDArray[np.float64]
    pitches: npt.NDArray[np.int64]
    velocities: npt.NDArray[np.uint8] | int
    sources: npt.NDArray[np.intp]


def concepts_problem(names: Sequence[object]) -> str | None:
    """Says what is wrong with the names of concepts to keep, or gives None."""
    if isinstance(names, str) or not len(names):
        return f"{names!r} came for the concepts to keep; give at least one of {', '.join(CONCEPTS)}, in a list"
    unknown = next((name for name in names if name not in CONCEPTS), None)
    if unknown is None:
        return None
    meant = closest(unknown, CONCEPTS) if isinstance(unknown, str) else None
    hint = f"; did you mean {meant!r}?" if meant else ""
    return f"there is no concept {unknown!r}; the concepts are {', '.join(CONCEPTS)}{hint}"


def evaluation_seed(notes: Notes) -> int:
    """A number that the notes themselves give, so that a result never depends on order, file name or workers."""
    checksum = 0
    for array in (notes.onsets_s, notes.offsets_s, notes.pitches, notes.velocities):
        checksum = zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data, checksum)
    return checksum


def evaluation_rng(notes: Notes) -> np.random.Generator:
    """A generator seeded by the notes (`evaluation_seed`)."""
    return np.random.default_rng(evaluation_seed(notes))


def concept_rolls(
    notes: Notes,
    clip_start: float = 0.0,
    rng: np.random.Generator | int | None = None,
    *,
    concepts: Sequence[str] = CONCEPTS,
    options: ExtractorOptions = PAPER_EXTRACTORS,
    normalised: bool = False,
) -> Roll:
    """The four concepts of the 30 s from `clip_start` (seconds): float32 (4, 88, 3000), values 0..127.

    `rng`, a generator or a seed, gives the random keys of rhythm and dynamics; without one they are seeded by the
    notes (`evaluation_rng`). `concepts` names the channels to keep; in whatever order they are named, the channels
    come in that of `CONCEPTS`. With `normalised`, what `normalise` makes of it.

    Raises
    ------
    ExtractionError
        When a kept concept has nothing to be drawn from (no notes, or no chords for harmony), or there is no such
        concept.
    """
    drawn = draw_concepts(notes, clip_start, rng, concepts=concepts, options=options)
    roll = np.zeros((len(drawn), N_KEYS, N_FRAMES), np.float32)
    for channel, concept in zip(roll, drawn.values(), strict=True):
        rasterise(channel, concept.starts_s, concept.ends_s, concept.pitches, concept.velocities, normalised=normalised)
    return roll


def draw_concepts(
    notes: Notes,
    clip_start: float = 0.0,
    rng: np.random.Generator | int | None = None,
    *,
    concepts: Sequence[str] = CONCEPTS,
    options: ExtractorOptions = PAPER_EXTRACTORS,
) -> dict[str, DrawnNotes]:
    """The notes that `concept_rolls` paints, by concept: what can be looked at, and listened to.

    Raises
    ------
    ExtractionError
        As `concept_rolls`.
    """
    problem = concepts_problem(concepts)
    if problem is not None:
        raise ExtractionError(problem)
    heard = heard_notes(notes, clip_start)
    if not len(heard):
        raise ExtractionError(NO_NOTES)
    generator = evaluation_rng(notes) if rng is None else np.random.default_rng(rng)
    # Both are drawn whichever concepts are kept, so that one channel's keys never depend on the others.
    rhythm_pitches = generator.integers(*RANDOM_PITCHES, size=len(heard))
    dynamics_pitches = generator.integers(*RANDOM_PITCHES, size=len(heard))
    drawn: dict[str, DrawnNotes] = {}
    if "melody" in concepts:
        drawn["melody"] = melody(heard, options.melody)
    if "harmony" in concepts:
        drawn["harmony"] = harmony(heard, options.harmony)
    if "rhythm" in concepts:
        drawn["rhythm"] = DrawnNotes(heard.starts_s, heard.ends_s, rhythm_pitches, MAX_VELOCITY, np.arange(len(heard)))
    if "dynamics" in concepts:
        drawn["dynamics"] = dynamics(heard, dynamics_pitches, options.dynamics)
    return drawn


def no_melody(options: MelodyOptions) -> str:
    """Why a clip has no melody."""
    return f"no melody in the clip: no note reaches MIDI pitch {options.lower_bound}"


def no_chords(options: HarmonyOptions) -> str:
    """Why a clip has no harmony."""
    return (
        f"no chords in the clip: {options.minimum_notes} distinct pitches never begin within "
        f"{1000 * options.quantize_resolution:g} ms of each other"
    )


def melody(heard: HeardNotes, options: MelodyOptions) -> DrawnNotes:
    """The skyline: of the notes that share a quantised onset the highest, each 30 s / n long, velocity 127."""
    steps = _grid_steps(heard.starts_s, options.quantize_resolution)
    high_enough = heard.pitches >= options.lower_bound
    steps, pitches = steps[high_enough], heard.pitches[high_enough]
    if not len(steps):
        raise ExtractionError(no_melody(options))
    starts = _group_starts(steps)
    highest = np.maximum.reduceat(pitches, starts)
    on_top = np.flatnonzero(pitches == np.repeat(highest, np.diff(starts, append=len(steps))))
    sources = np.flatnonzero(high_enough)[on_top[np.searchsorted(on_top, starts)]]
    starts_s, ends_s = _equal_slots(len(highest))
    return DrawnNotes(starts_s, ends_s, highest, MAX_VELOCITY, sources)


def harmony(heard: HeardNotes, options: HarmonyOptions) -> DrawnNotes:
    """The chords: groups of enough distinct pitches that share a quantised onset, each 30 s / n long, velocity 127."""
    steps = _grid_steps(heard.starts_s, options.quantize_resolution)
    low_enough = heard.pitches < options.upper_bound
    # One integer per (step, pitch): sorting and dropping repeats leaves each chord's distinct pitches, ascending.
    distinct, first = np.unique(steps[low_enough] * 128 + heard.pitches[low_enough], return_index=True)
    steps, pitches, sources = distinct >> 7, distinct & 127, np.flatnonzero(low_enough)[first]
    starts = _group_starts(steps)
    sizes = np.diff(starts, append=len(steps))
    if options.remove_highest_pitch and len(steps):
        kept = np.ones(len(steps), bool)
        kept[starts + sizes - 1] = False
        steps, pitches, sources, sizes = steps[kept], pitches[kept], sources[kept], sizes - 1
    is_chord = sizes >= options.minimum_notes
    n_chords = int(is_chord.sum())
    if n_chords == 0:
        raise ExtractionError(no_chords(options))
    slots = np.repeat(np.cumsum(is_chord) - 1, sizes)
    in_chord = np.repeat(is_chord, sizes)
    starts_s, ends_s = _equal_slots(n_chords)
    return DrawnNotes(
        starts_s[slots[in_chord]], ends_s[slots[in_chord]], pitches[in_chord], MAX_VELOCITY, sources[in_chord]
    )


def dynamics(heard: HeardNotes, random_pitches: npt.NDArray[np.int64], options: DynamicsOptions) -> DrawnNotes:
    """Velocities as played, on `random_pitches`; each group that shares a quantised onset is 30 s / n long."""
    steps = _grid_steps(heard.starts_s, options.quantize_resolution)
    group_starts = _group_starts(steps)
    groups = np.repeat(np.arange(len(group_starts)), np.diff(group_starts, append=len(steps)))
    starts_s, ends_s = _equal_slots(len(group_starts))
    return DrawnNotes(starts_s[groups], ends_s[groups], random_pitches, heard.velocities, np.arange(len(heard)))


def _grid_steps(times_s: npt.NDArray[np.float64], resolution_s: float) -> npt.NDArray[np.int64]:
    return np.round(times_s / resolution_s).astype(np.int64)


def _group_starts(steps: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """Where each run of equal values begins in a sorted array."""
    return np.flatnonzero(np.diff(steps, prepend=steps[:1] - 1))


def _equal_slots(n: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Start and end times (s) of n equal parts of a clip."""
    slots = np.arange(n + 1, dtype=np.float64) * (CLIP_SECONDS / n)
    return slots[:-1], slots[1:]
