"""Who was taken for whom: a confusion matrix over recordings, and the outcome of each recording in it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class RecordingOutcome:
    """One recording heard by a model: `true` and `heard` index the class names, `probability` is that of `heard`."""

    track: str
    true: int
    heard: int
    probability: float


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix over recordings: counts[true, predicted], and the names of its rows and columns.

    `recordings` says which recordings were counted; matrices of older versions do not know them.
    """

    class_names: tuple[str, ...]
    counts: npt.NDArray[np.int64]
    recordings: tuple[RecordingOutcome, ...] = ()

    def row_normalised(self) -> npt.NDArray[np.float64]:
        """Each row divided by its sum: recall along the diagonal; rows without recordings are zeros."""
        totals = self.counts.sum(axis=1, keepdims=True)
        shares: npt.NDArray[np.float64] = self.counts / np.maximum(totals, 1)
        return shares

    def in_cell(self, true: int, heard: int) -> tuple[RecordingOutcome, ...]:
        """The recordings of one pianist that were taken for another (or for that one)."""
        return tuple(one for one in self.recordings if (one.true, one.heard) == (true, heard))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        data: dict[str, Any] = {"class_names": list(self.class_names), "counts": self.counts.tolist()}
        return data | ({"recordings": [asdict(one) for one in self.recordings]} if self.recordings else {})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Confusion | None":
        """What `to_dict` gave, of any version; None when it is damaged."""
        try:
            names = tuple(str(name) for name in data["class_names"])
            counts = np.array(data["counts"], np.int64)
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        if counts.shape != (len(names), len(names)) or (counts < 0).any():
            return None
        return cls(names, counts, _outcomes(data.get("recordings"), len(names)))


def _outcomes(data: Any, n_classes: int) -> tuple[RecordingOutcome, ...]:
    """The outcomes in a file: all of them, or none when one is damaged, so that a cell never shows half its list."""
    found: list[RecordingOutcome] = []
    for one in data if isinstance(data, Sequence) else ():
        match one:
            case {"track": str(track), "true": int(true), "heard": int(heard), "probability": float() | int() as share}:
                if not (0 <= true < n_classes and 0 <= heard < n_classes):
                    return ()
                found.append(RecordingOutcome(track, true, heard, float(share)))
            case _:
                return ()
    return tuple(found)
