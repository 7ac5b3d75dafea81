"""How a virtual pianist plays a tune: from chords to notes with human timing and touch.

The order of work keeps each habit inside its own concept:

1. Gestures. Every bar is a pattern of chords (C) and line notes (n). A chord is three notes of the left hand struck
   together with a melody note above them, so the skyline never shows the voicing. Each pattern has a relaxed and a
   driving placement with the same gestures in the same order, so rhythm changes neither melody nor dynamics.
2. Melody. The notes over the chords (anchors) are a walk on chord tones that no habit touches; the habit of melody
   fills the line between them. A beat lies between a chord and any other note, and lines run in eighths, so the
   300 ms groups that harmony is made of hold anchors only, never the line, even when augmentation squeezes time.
3. Voicings have three notes whatever the habit, so rhythm and dynamics see equally many.
4. Velocities follow the place in the phrase, never pitch or time, and no other concept keeps them.
5. Tunes, keys, tempi and patterns are drawn from one distribution for everyone.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pianistid_core.datasets.demo.pianists import VirtualPianist
from pianistid_core.datasets.demo.tunes import Bar, Chord, Tune
from pianistid_core.midi import Notes

TEMPO_BPM = (112, 140)
LENGTH_S = (66.0, 93.0)

_PHRASE_BARS = 4
_ANCHORS = (70, 84)
_LINE = (69, 96)
_SHELL_ROOTS = 36
_FOURTHS_BASE = 46
_VELOCITIES = (25, 115)
_SWING = 0.66  # where a swung second eighth falls in its beat; 0.5 is straight


@dataclass(frozen=True)
class Pattern:
    """One bar: its gestures, and the beats (0 to 3) they fall on, relaxed and driving; .5 is the second eighth.

    Chords stand a beat clear of everything else; bars begin at 0 or later and end by 3, so that this holds across
    bar lines too.
    """

    gestures: str
    relaxed: tuple[float, ...]
    driving: tuple[float, ...]


LINES = (
    Pattern("nnnnnnn", (0, 0.5, 1, 1.5, 2, 2.5, 3), (0, 0.5, 1, 1.5, 2, 2.5, 3)),
    Pattern("Cnnnnn", (0, 1, 1.5, 2, 2.5, 3), (0, 1, 1.5, 2, 2.5, 3)),
    Pattern("CnnnC", (0, 1, 1.5, 2, 3), (0, 1, 1.5, 2, 3)),
    Pattern("nnnnC", (0.5, 1, 1.5, 2, 3), (0, 0.5, 1, 1.5, 2.5)),
    Pattern("nnnnnC", (0, 0.5, 1, 1.5, 2, 3), (0, 0.5, 1, 1.5, 2, 3)),
    Pattern("CnnC", (0, 1.5, 2, 3), (0, 1, 2, 3)),
    Pattern("CCnn", (0, 1.5, 2.5, 3), (0, 1, 2, 2.5)),
    Pattern("nnCnn", (0, 0.5, 1.5, 2.5, 3), (0, 0.5, 1.5, 2.5, 3)),
    Pattern("nCnnn", (0, 1, 2, 2.5, 3), (0, 1, 2, 2.5, 3)),
)
ENDINGS = (
    Pattern("CC", (0, 1.5), (0, 2)),
    Pattern("Cnn", (0, 1.5, 2), (0, 1, 2)),
    Pattern("nnC", (0.5, 1, 2.5), (0, 0.5, 2)),
)


@dataclass(frozen=True)
class Gesture:
    """One moment of a performance, before it has pitches."""

    onset_s: float
    chord: Chord
    is_chord: bool
    phrase_position: float  # 0 at the phrase's first gesture, 1 at its last


@dataclass(frozen=True)
class Performance:
    """A tune as one pianist played it once."""

    notes: Notes
    tempo_bpm: int
    key: int


def perform(pianist: VirtualPianist, tune: Tune, rng: np.random.Generator) -> Performance:
    """Plays a tune once: a minute to a minute and a half of solo piano.

    Given generators of one seed, pianists who are alike in a concept give the very same notes in its channel.
    """
    key, tempo_bpm = int(rng.integers(12)), int(rng.integers(TEMPO_BPM[0], TEMPO_BPM[1] + 1))
    beat_s = 60.0 / tempo_bpm
    n_phrases = round(rng.uniform(*LENGTH_S) / (4 * beat_s * _PHRASE_BARS))
    # Each concept has its own chance, so that a habit which draws more or less of it does not move the others.
    gesture_rng, melody_rng, velocity_rng, hold_rng = rng.spawn(4)
    relaxed = pianist.rhythm == "laid-back swing"
    gestures = _gestures(tune.chorus(key), n_phrases, beat_s, gesture_rng, relaxed=relaxed)
    melody = _melody(gestures, melody_rng, leaping=pianist.melody == "wide arpeggios")
    velocities = _velocities(gestures, velocity_rng, even=pianist.dynamics == "even touch")
    ends_s = _ends(gestures, beat_s, hold_rng, relaxed=relaxed)
    voice = _open_shell if pianist.harmony == "open shells" else _stacked_fourths
    sounding: list[tuple[float, float, int, int]] = []
    for gesture, pitch, (right, left), (right_end_s, left_end_s) in zip(
        gestures, melody, velocities, ends_s, strict=True
    ):
        sounding.append((gesture.onset_s, right_end_s, pitch, right))
        if gesture.is_chord:
            sounding.extend((gesture.onset_s, left_end_s, lower, left) for lower in voice(gesture.chord))
    onsets_s, offsets_s, pitches, loudness = zip(*sounding, strict=True)
    return Performance(Notes.from_arrays(onsets_s, offsets_s, pitches, loudness), tempo_bpm, key)


# --- rhythm ----------------------------------------------------------------------------------------------------------


def _gestures(
    chorus: tuple[Bar, ...], n_phrases: int, beat_s: float, rng: np.random.Generator, *, relaxed: bool
) -> list[Gesture]:
    """Phrases of four bars, each three of lines and one that comes to rest."""
    start_s = rng.uniform(0.1, 0.6)
    gestures: list[Gesture] = []
    for phrase in range(n_phrases):
        bars = [LINES[int(index)] for index in rng.integers(len(LINES), size=_PHRASE_BARS - 1)]
        bars.append(ENDINGS[int(rng.integers(len(ENDINGS)))])
        last = sum(len(pattern.gestures) for pattern in bars) - 1
        done = len(gestures)
        for number, pattern in enumerate(bars, phrase * _PHRASE_BARS):
            chords = chorus[number % len(chorus)]
            for index, kind in enumerate(pattern.gestures):
                beat = _swung(pattern.relaxed[index]) if relaxed else pattern.driving[index]
                onset_s = start_s + (4 * number + beat) * beat_s + _micro_timing(kind, rng, relaxed=relaxed)
                # Which of two chords is heard follows the gesture, not its placement, so that rhythm cannot change it.
                chord = chords[int(pattern.driving[index]) * len(chords) // 4]
                gestures.append(Gesture(onset_s, chord, kind == "C", (len(gestures) - done) / last))
    return gestures


def _swung(beat: float) -> float:
    return beat - 0.5 + _SWING if beat % 1 == 0.5 else beat


def _micro_timing(kind: str, rng: np.random.Generator, *, relaxed: bool) -> float:
    """Seconds off the grid: everyone's hands scatter by a few milliseconds, a laid-back line comes late besides."""
    scatter = float(np.clip(rng.normal(0.0, 0.004), -0.01, 0.01))
    late = float(rng.uniform(0.012, 0.032))
    return scatter + (late if relaxed and kind == "n" else 0.0)


def _ends(
    gestures: list[Gesture], beat_s: float, rng: np.random.Generator, *, relaxed: bool
) -> list[tuple[float, float]]:
    """When the right and the left hand let go, in seconds: legato and ringing, or clipped and stabbed."""
    ends: list[tuple[float, float]] = []
    next_s = next_chord_s = gestures[-1].onset_s + 2 * beat_s
    for gesture in reversed(gestures):
        hold_s = rng.uniform(0.9, 1.1) * beat_s
        if relaxed:
            # A hair before what follows, so that a key is up again when it is to be struck.
            right_s, left_s = min(next_s - 0.01, gesture.onset_s + 1.6 * hold_s), gesture.onset_s + 2.0 * hold_s
        else:
            right_s, left_s = gesture.onset_s + 0.2 * hold_s, gesture.onset_s + 0.25 * hold_s
        ends.append((right_s, min(left_s, next_chord_s - 0.03)))
        next_s = gesture.onset_s
        if gesture.is_chord:
            next_chord_s = gesture.onset_s
    return ends[::-1]


# --- melody ----------------------------------------------------------------------------------------------------------


def _melody(gestures: list[Gesture], rng: np.random.Generator, *, leaping: bool) -> list[int]:
    """One pitch a gesture: first the anchors over the chords, then the line from each anchor to the next."""
    chords = [index for index, gesture in enumerate(gestures) if gesture.is_chord]
    anchors = _anchors([gestures[index].chord for index in chords], rng)
    melody = [0] * len(gestures)
    bounds = [-1, *chords, len(gestures)]
    for number, (start, stop) in enumerate(pairwise(bounds)):
        here, there = anchors[max(number - 1, 0)], anchors[min(number, len(anchors) - 1)]
        between = [gesture.chord for gesture in gestures[start + 1 : stop]]
        line = _arpeggio(here, between, rng) if leaping else _winding(here, there, between, rng)
        melody[start + 1 : stop] = line
        if stop < len(gestures):
            melody[stop] = there
    return melody


def _anchors(chords: list[Chord], rng: np.random.Generator) -> list[int]:
    """A walk on chord tones in moves of at most a fifth, the same for every pianist."""
    anchors: list[int] = []
    previous = int(rng.integers(74, 80))
    for chord in chords:
        near = [
            pitch
            for pitch in range(max(_ANCHORS[0], previous - 7), min(_ANCHORS[1], previous + 7) + 1)
            if pitch % 12 in chord.tones
        ]
        previous = int(rng.choice(near))
        anchors.append(previous)
    return anchors


def _arpeggio(pitch: int, chords: list[Chord], rng: np.random.Generator) -> list[int]:
    """Leaps of a minor third to a minor seventh through the chord, turning at the ends of the right hand's range."""
    rising = bool(rng.random() < (0.8 if pitch < sum(_LINE) / 2 else 0.2))
    line: list[int] = []
    for chord in chords:
        leaps = _leaps(pitch, chord, rising)
        if not leaps:
            rising = not rising
            leaps = _leaps(pitch, chord, rising)
        pitch = int(rng.choice(leaps))
        line.append(pitch)
    return line


def _leaps(pitch: int, chord: Chord, rising: bool) -> list[int]:
    """Up to three chord tones, nearest first, at least a minor third away in one direction."""
    way = 1 if rising else -1
    reach = range(pitch + 3 * way, pitch + 11 * way, way)
    tones = {*chord.tones, chord.root}
    return [step for step in reach if step % 12 in tones and _LINE[0] <= step <= _LINE[1]][:3]


def _winding(pitch: int, target: int, chords: list[Chord], rng: np.random.Generator) -> list[int]:
    """Steps of a semitone or a tone that circle the target and reach it from next door."""
    line: list[int] = []
    for left in range(len(chords), 0, -1):
        steps = [
            step
            for step in (-2, -1, 1, 2)
            if pitch + step >= _LINE[0]
            and abs(target - pitch - step) <= 2 * left
            and (left > 1 or pitch + step != target)
        ]
        # Too far to walk in the notes that are left: stride evenly.
        pitch += int(rng.choice(steps)) if steps else round((target - pitch) / (left + 1))
        line.append(pitch)
    return line


# --- harmony ---------------------------------------------------------------------------------------------------------


def _open_shell(chord: Chord) -> tuple[int, int, int]:
    """Root, seventh and tenth, with the root in the octave from C2: C2 Bb2 E3 for C7."""
    root = _SHELL_ROOTS + chord.root
    return root, root + chord.degree(7), root + 12 + chord.degree(3)


def _stacked_fourths(chord: Chord) -> tuple[int, int, int]:
    """Two fourths without the root, from Bb2 up: E A D for Cmaj7, Bb E A for C7, F Bb Eb for Cm7 and Cm7b5."""
    degrees = {"maj7": (3, 13, 9), "7": (7, 3, 13)}.get(chord.quality, (11, 7, 3))
    pitch_classes = [(chord.root + chord.degree(degree)) % 12 for degree in degrees]
    lowest = _FOURTHS_BASE + (pitch_classes[0] - _FOURTHS_BASE) % 12
    middle = lowest + (pitch_classes[1] - lowest) % 12
    return lowest, middle, middle + (pitch_classes[2] - middle) % 12


# --- dynamics --------------------------------------------------------------------------------------------------------


def _velocities(gestures: list[Gesture], rng: np.random.Generator, *, even: bool) -> list[tuple[int, int]]:
    """Right and left hand's velocities of each gesture: all nearly equal, or a swell through each phrase."""
    level, soft, loud = rng.uniform(62, 88), rng.uniform(28, 36), rng.uniform(100, 112)
    touches: list[tuple[int, int]] = []
    for gesture, touch in zip(gestures, rng.normal(0.0, 1.0, len(gestures)), strict=True):
        right = level + 1.5 * touch if even else soft + (loud - soft) * gesture.phrase_position + 4 * touch
        left = right - 2 if even else 0.7 * right
        touches.append((_velocity(right), _velocity(left)))
    return touches


def _velocity(value: float) -> int:
    return int(np.clip(round(value), *_VELOCITIES))
