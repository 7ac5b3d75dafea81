"""The notes of many clips in four flat arrays: what a note cache maps, and what the compiled code reads."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pianistid_core.errors import InvalidNotesError
from pianistid_core.midi import ByteArray, FloatArray, Notes


@dataclass(frozen=True, eq=False)
class PackedNotes:
    """The notes of n clips, one clip after the other: clip i holds those from `starts[i]` to `starts[i + 1]`.

    `onsets_s` and `offsets_s` are float64 seconds from the clip's start, ordered by onset within a clip, `pitches` and
    `velocities` uint8; `starts` int64 (n + 1,).

    Raises
    ------
    InvalidNotesError
        When `starts` does not share out the notes, or the arrays differ in length or type.
    """

    onsets_s: FloatArray
    offsets_s: FloatArray
    pitches: ByteArray
    velocities: ByteArray
    starts: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        # Compiled code looks nothing up twice: a wrong length or type must end here.
        arrays = (self.onsets_s, self.offsets_s, self.pitches, self.velocities, self.starts)
        types = tuple(str(array.dtype) for array in arrays)
        if types != ("float64", "float64", "uint8", "uint8", "int64") or any(array.ndim != 1 for array in arrays):
            raise InvalidNotesError(
                f"packed notes must be flat arrays of float64, float64, uint8, uint8 and int64, not {', '.join(types)}"
            )
        starts, lengths = self.starts, {len(array) for array in arrays[:4]}
        if not len(starts) or starts[0] != 0 or lengths != {int(starts[-1])} or (np.diff(starts) < 0).any():
            raise InvalidNotesError(
                f"packed notes of {sorted(lengths)} values do not fit their starts; they must run from 0 to the last"
            )

    @classmethod
    def of(cls, clips: Sequence[Notes]) -> "PackedNotes":
        """Packs the notes of some clips."""
        starts = np.cumsum([0, *map(len, clips)], dtype=np.int64)
        if not clips:
            return cls(np.empty(0), np.empty(0), np.empty(0, np.uint8), np.empty(0, np.uint8), starts)
        return cls(
            np.concatenate([notes.onsets_s for notes in clips]),
            np.concatenate([notes.offsets_s for notes in clips]),
            np.concatenate([notes.pitches for notes in clips]),
            np.concatenate([notes.velocities for notes in clips]),
            starts,
        )

    def __len__(self) -> int:
        return len(self.starts) - 1

    def notes(self, i: int) -> Notes:
        """The notes of clip `i`, views of the arrays. Raises: IndexError."""
        if not 0 <= i < len(self):
            raise IndexError(f"clip {i} of {len(self)}")
        here = slice(int(self.starts[i]), int(self.starts[i + 1]))
        return Notes(self.onsets_s[here], self.offsets_s[here], self.pitches[here], self.velocities[here])
