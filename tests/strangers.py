"""Music that is no jazz piano, made from code: what a model that knows only jazz pianists must not name anybody for."""

from collections.abc import Iterable

import numpy as np

from pianistid_core.midi import Notes

Row = tuple[float, float, int, int]  # onset, length (seconds), pitch, velocity

_MAJOR = (0, 2, 4, 5, 7, 9, 11)


def _notes(rows: Iterable[Row]) -> Notes:
    onsets, lengths, pitches, velocities = np.array(sorted(rows)).T
    return Notes.from_arrays(onsets, onsets + lengths, pitches.astype(int), velocities.astype(int))


def _degree(step: int, key: int = 48) -> int:
    """A pitch of C major, counted from a key."""
    return key + 12 * (step // 7) + _MAJOR[step % 7]


def scales(seconds: float = 60.0) -> Notes:
    """Both hands up and down four octaves of C major in even sixteenths."""
    up = [*range(29), *range(27, 0, -1)]
    steps = [up[k % len(up)] for k in range(int(seconds / 0.15))]
    return _notes((0.15 * k, 0.14, _degree(step, key), 70) for k, step in enumerate(steps) for key in (36, 48))


def hanon(seconds: float = 60.0) -> Notes:
    """A finger exercise: one figure, a step higher each time, in both hands."""
    figure = (0, 2, 3, 4, 5, 4, 3, 2)
    return _notes(
        (0.125 * k, 0.12, _degree(figure[k % 8] + (k // 8) % 14, key), 64)
        for k in range(int(seconds / 0.125))
        for key in (36, 48)
    )


def chorale(seconds: float = 60.0) -> Notes:
    """Four voices in quarters, plain triads in a key, as in a hymn book; here and there a passing eighth."""
    rng = np.random.default_rng(1)
    rows: list[Row] = []
    soprano = 14
    for beat in range(int(seconds / 0.75)):
        root = int(rng.choice([0, 3, 4, 0, 5, 1]))
        soprano = int(np.clip(soprano + rng.choice([-1, 0, 1]), 11, 18))
        start = 0.75 * beat
        for degree, key in ((root - 7, 48), (root + 2, 48), (root + 4, 48)):
            rows.append((start, 0.74, _degree(degree, key), 64))
        rows.append((start, 0.74, _degree(soprano), 72))
        if rng.random() < 0.25:
            rows.append((start + 0.375, 0.36, _degree(root + 3), 60))
    return _notes(rows)


def hymn(seconds: float = 60.0) -> Notes:
    """Block chords exactly on every beat."""
    chords = ((0, 4, 7, 12), (5, 9, 12, 17), (7, 11, 14, 19), (0, 4, 7, 12))
    return _notes(
        (0.6 * beat, 0.58, 48 + tone, 80) for beat in range(int(seconds / 0.6)) for tone in chords[beat // 2 % 4]
    )


def random_notes(seconds: float = 60.0) -> Notes:
    """Any pitch at any time for any length."""
    rng = np.random.default_rng(2)
    n = int(10 * seconds)
    lengths = rng.uniform(0.05, 1.5, n)
    return _notes(
        zip(rng.uniform(0, seconds, n), lengths, rng.integers(21, 109, n), rng.integers(20, 120, n), strict=True)
    )


def drums(seconds: float = 60.0) -> Notes:
    """A drummer's bar on a piano's channel: kick, snare, hi-hat."""
    rows: list[Row] = []
    for eighth in range(int(seconds / 0.25)):
        rows.append((0.25 * eighth, 0.05, 42, 80))
        if eighth % 4 == 0:
            rows.append((0.25 * eighth, 0.05, 36, 100))
        if eighth % 4 == 2:
            rows.append((0.25 * eighth, 0.05, 38, 100))
    return _notes(rows)


def near_silence(seconds: float = 60.0) -> Notes:
    """A note every ten seconds."""
    return _notes((10.0 * k + 0.5, 0.5, 60 + 2 * k, 40) for k in range(int(seconds / 10)))


def one_chord(seconds: float = 30.0) -> Notes:
    """One long chord."""
    return _notes((0.0, seconds, pitch, 64) for pitch in (36, 48, 55, 60, 64, 67))


def minimal(seconds: float = 60.0) -> Notes:
    """One bar of six notes, again and again."""
    figure = (64, 66, 71, 73, 74, 66)
    return _notes((0.16 * k, 0.15, figure[k % 6], 70) for k in range(int(seconds / 0.16)))


def melody(seconds: float = 60.0) -> Notes:
    """A tune for one voice, loosely in time."""
    rng = np.random.default_rng(3)
    rows: list[Row] = []
    start, step = 0.0, 7
    while start < seconds:
        length = float(rng.choice([0.3, 0.45, 0.6, 0.9])) * float(rng.uniform(0.95, 1.05))
        rows.append((start, 0.95 * length, _degree(step, 60), 70))
        step = int(np.clip(step + rng.choice([-2, -1, 1, 2, 4, -4]), 0, 14))
        start += length
    return _notes(rows)


def alberti(seconds: float = 60.0) -> Notes:
    """A classical sonatina: broken chords in eighths under a tune in quarters, exactly in time."""
    chords = ((0, 4, 2, 4), (1, 5, 3, 5), (-1, 4, 1, 4), (0, 4, 2, 4))
    rng = np.random.default_rng(4)
    rows: list[Row] = []
    for k in range(int(seconds / 0.25)):
        rows.append((0.25 * k, 0.24, _degree(chords[k // 8 % 4][k % 4]), 60))
        if k % 2 == 0:
            rows.append((0.25 * k, 0.48, _degree(14 + int(rng.integers(0, 8))), 80))
    return _notes(rows)


def ragtime(seconds: float = 60.0) -> Notes:
    """Oom-pah and syncopated octaves, exactly on a grid of sixteenths: piano, near jazz, but written."""
    rng = np.random.default_rng(5)
    rows: list[Row] = []
    roots = (36, 41, 43, 36)
    for k in range(int(seconds / 0.14)):
        root = roots[k // 32 % 4]
        if k % 8 == 0:
            rows += [(0.14 * k, 0.25, root, 80), (0.14 * k, 0.25, root + 12, 80)]
        if k % 8 == 4:
            rows += [(0.14 * k, 0.25, root + 12 + tone, 70) for tone in (4, 7, 12)]
        if k % 8 in (0, 1, 3, 4, 6) and rng.random() < 0.9:
            pitch = root + 36 + int(rng.choice([0, 2, 3, 4, 7, 9]))
            rows += [(0.14 * k, 0.2, pitch, 90), (0.14 * k, 0.2, pitch + 12, 90)]
    return _notes(rows)


STRANGERS = {
    one.__name__: one
    for one in (
        scales, hanon, chorale, hymn, random_notes, drums, near_silence, one_chord, minimal, melody, alberti, ragtime,
    )
}  # fmt: skip
