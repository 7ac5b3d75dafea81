"""The geometry of a piano roll, and the one rasteriser.

A roll has 88 keys (row 0 = A0, MIDI 21) and 3000 frames of 10 ms: 30 s. Frame f covers [f / 100, (f + 1) / 100) s. A
note sounds in a frame when its onset lies before the frame's end and its offset at or after the frame's start; where
notes overlap on one key, the one given later wins. Values are velocities, 0 to 127.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pianistid_core.errors import ExtractionError
from pianistid_core.midi import CLIP_LENGTH_S, Notes

Roll = npt.NDArray[np.float32]

LOWEST_PITCH = 21
HIGHEST_PITCH = 108
N_KEYS = HIGHEST_PITCH - LOWEST_PITCH + 1
FRAMES_PER_SECOND = 100
CLIP_SECONDS = CLIP_LENGTH_S
N_FRAMES = round(CLIP_SECONDS * FRAMES_PER_SECOND)
MINIMUM_LENGTH_S = 0.01
MAX_VELOCITY = 127
NO_NOTES = "no notes in the clip: nothing longer than 10 ms begins on the 88 keys in these 30 s"

FRAME_EDGES_S = np.linspace(0.0, CLIP_SECONDS, N_FRAMES + 1)


@dataclass(frozen=True)
class HeardNotes:
    """The notes of one 30 s window that count, with times from the window's start, ordered by onset; n of each."""

    starts_s: npt.NDArray[np.float64]
    ends_s: npt.NDArray[np.float64]
    pitches: npt.NDArray[np.int64]
    velocities: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.starts_s)


def is_heard(notes: Notes, clip_start: float = 0.0) -> npt.NDArray[np.bool_]:
    """Which notes (n,) begin on the keyboard in [clip_start, clip_start + 30] s, last over 10 ms and are not silent."""
    heard: npt.NDArray[np.bool_] = (
        (notes.pitches >= LOWEST_PITCH)
        & (notes.pitches <= HIGHEST_PITCH)
        & (notes.onsets_s >= clip_start)
        & (notes.onsets_s <= clip_start + CLIP_SECONDS)
        & (notes.offsets_s - notes.onsets_s > MINIMUM_LENGTH_S)
        & (notes.velocities > 0)
    )
    return heard


def heard_notes(notes: Notes, clip_start: float = 0.0) -> HeardNotes:
    """The notes of a window that count, as `is_heard` says."""
    counts = is_heard(notes, clip_start)
    return HeardNotes(
        notes.onsets_s[counts] - clip_start,
        notes.offsets_s[counts] - clip_start,
        notes.pitches[counts].astype(np.int64),
        notes.velocities[counts],
    )


def frames(
    starts_s: npt.NDArray[np.float64], ends_s: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The frames in which n notes sound: from the first up to, not with, the last; none where the two are equal."""
    first = np.searchsorted(FRAME_EDGES_S, starts_s, side="right") - 1
    last = np.searchsorted(FRAME_EDGES_S, ends_s, side="right")
    np.clip(first, 0, N_FRAMES, out=first)
    np.clip(last, first, N_FRAMES, out=last)
    return first, last


def rasterise(
    out: Roll,
    starts_s: npt.NDArray[np.float64],
    ends_s: npt.NDArray[np.float64],
    pitches: npt.NDArray[np.int64],
    velocities: npt.NDArray[np.uint8] | npt.NDArray[np.int64] | int,
    *,
    normalised: bool = False,
) -> None:
    """Paints n notes, in their order, into one empty (88, 3000) roll; `velocities` has n values or one for all.

    With `normalised` the values are those that `normalise` would make of the roll, bit for bit, at the cost of the
    painted cells alone instead of four passes over the whole roll.
    """
    first, last = frames(starts_s, ends_s)
    lengths = last - first
    ends = np.cumsum(lengths)
    # The flat index of every painted cell: each note's first cell, repeated, plus 0, 1, 2, ... within the note.
    origins = (pitches - LOWEST_PITCH) * N_FRAMES + first - (ends - lengths)
    cells = np.repeat(origins, lengths)
    cells += np.arange(len(cells))
    flat = out.reshape(-1)
    values = (
        np.float32(velocities) if isinstance(velocities, int) else np.repeat(velocities.astype(np.float32), lengths)
    )
    # Where a cell repeats, NumPy keeps the last value assigned: the later note.
    flat[cells] = values
    if not normalised or not len(cells):
        return
    if len(cells) < flat.size:
        # Some cell is empty, so the minimum is 0; a softer note may hide a louder one, so the maximum is looked up.
        flat[cells] = values / flat[cells].max()
    else:
        out[:] = normalise(out)


def piano_roll(notes: Notes, clip_start: float = 0.0, *, normalised: bool = False) -> Roll:
    """The notes of the 30 s from `clip_start` (seconds) as played: float32 (1, 88, 3000), values 0..127.

    With `normalised`, what `normalise` makes of it.

    Raises
    ------
    ExtractionError
        When no note counts in that window.
    """
    heard = heard_notes(notes, clip_start)
    if not len(heard):
        raise ExtractionError(NO_NOTES)
    roll = np.zeros((1, N_KEYS, N_FRAMES), np.float32)
    rasterise(roll[0], heard.starts_s, heard.ends_s, heard.pitches, heard.velocities, normalised=normalised)
    return roll


def normalise(roll: npt.ArrayLike) -> Roll:
    """Maps each channel of a roll to 0..1 by its own minimum and maximum, as float32; all-equal becomes zeros.

    A channel is what the last two axes hold: `roll` is (88, 3000), (C, 88, 3000) or a batch (B, C, 88, 3000).
    """
    values = np.asarray(roll, np.float32)
    low = values.min(axis=(-2, -1), keepdims=True)
    span = values.max(axis=(-2, -1), keepdims=True) - low
    scaled: Roll = (values - low) / np.where(span > 0, span, np.float32(1))
    return scaled
