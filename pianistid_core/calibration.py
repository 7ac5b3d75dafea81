"""What a model's numbers mean: how often it is right when it says so, who else it may be, and whether it is anybody.

A calibration is fitted on recordings that the model never learned from. Conventions: n clips of a recording, K
pianists, R recordings; logits are those of clips.

- Probabilities. Each clip's logits are divided by `temperature`; a recording's probabilities are the mean over its
  clips' softmax, raised to `power * n ** growth` and made to add up to 1 again. One clip is a recording of one. The
  three numbers are those under which the held-out recordings are likeliest (Guo et al. 2017, with n added).
- Candidates. All whose probability reaches a threshold, and the likeliest always. The threshold is such that the right
  one is among them in nine of ten recordings (split conformal prediction over recordings, with one minus the
  probability of the right one as score: Sadinle, Lei and Wasserman 2019); it is fitted for 1, 2, 4, ... clips apart.
- None of these. A recording's lead is how far its largest mean logit is above the average of all. Of the held-out
  recordings by the known pianists it is known how often their lead is lower: that share is the familiarity, 0 to 1.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from pianistid_core.errors import CheckpointError
from pianistid_core.manner import Remark, Usual

FloatArray = npt.NDArray[np.float64]
Verdict = Literal["one of these", "perhaps none of these", "probably none of these"]

# In a run's folder, for a checkpoint that says nothing of it itself.
CALIBRATION_FILE = "evaluation/calibration.json"
VERDICTS: tuple[Verdict, ...] = ("one of these", "perhaps none of these", "probably none of these")
PERHAPS, PROBABLY = 0.05, 0.01  # of the known recordings that are called so, the share
SHARES = (0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, *(round(0.2 + 0.1 * k, 1) for k in range(9)))
_MANY_REMARKS = 3
_NOT_PLAYED = ("grid", "notes")
_MOST = 1e6
_FORMAT = 1


class Unknown(NamedTuple):
    """Whether a recording sounds like any known pianist.

    `familiarity` is the share (0 to 1) of the known pianists' own held-out recordings that sound even less so.
    """

    familiarity: float
    verdict: Verdict

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"familiarity": self.familiarity, "verdict": self.verdict}


@dataclass(frozen=True)
class Calibration:
    """A model's calibration, as it lies in the model's file; plain numbers only.

    `thresholds` are (clips, least probability of a candidate) and `leads` (clips, the leads below which the shares
    `shares` of the known recordings lie), both by ascending clips, the first for one. `usual` is what the training
    music is like; `measured` is what was found on recordings that were not fitted on, by name.

    Raises
    ------
    CheckpointError
        When a number is missing, not finite or cannot be.
    """

    temperature: float
    power: float
    growth: float
    thresholds: tuple[tuple[int, float], ...]
    leads: tuple[tuple[int, tuple[float, ...]], ...] = ()
    shares: tuple[float, ...] = SHARES
    coverage: float = 0.9
    part: str = ""
    n_recordings: int = 0
    usual: Usual | None = None
    measured: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in pairwise(self.shares))
        wrong = {
            "temperature": not _between(self.temperature, 1e-3, _MOST),
            "power": not _between(self.power, 1e-3, _MOST),
            "growth": not _between(self.growth, -2, 2),
            "coverage": not 0 < self.coverage < 1,
            "thresholds": not _by_clips(self.thresholds) or not all(_between(p, 0, 1) for _, p in self.thresholds),
            "shares": not self.shares or not rising or not all(_between(share, 0, 1) for share in self.shares),
            "leads": bool(self.leads)
            and (not _by_clips(self.leads) or not all(_leads(row, len(self.shares)) for _, row in self.leads)),
        }
        for name, broken in wrong.items():
            if broken:
                raise CheckpointError(f"the calibration's {name} cannot be: {ascii(getattr(self, name))[:80]}")

    # --- what is asked of it ---

    def of_clips(self, logits: npt.ArrayLike) -> FloatArray:
        """The probabilities (..., K) of single clips with logits (..., K)."""
        return self.of_recording(np.asarray(logits, np.float64)[..., None, :])

    def of_recording(self, logits: npt.ArrayLike) -> FloatArray:
        """The probabilities (..., K) of a recording with the logits (..., n, K) of its clips."""
        clips = np.asarray(logits, np.float64)
        return sharpened(softmax(clips / self.temperature).mean(axis=-2), self.power * clips.shape[-2] ** self.growth)

    def candidates(self, probabilities: npt.ArrayLike, n_clips: int) -> list[int]:
        """Which of K pianists a recording of n clips may be by, the likeliest first; never none."""
        shares = np.asarray(probabilities, np.float64)
        order = np.argsort(-shares, kind="stable")
        least = _at_level(self.thresholds, n_clips)
        return [int(k) for rank, k in enumerate(order) if rank == 0 or shares[k] >= least]

    def unknown(self, logits: npt.ArrayLike, remarks: Sequence[Remark] = ()) -> Unknown | None:
        """Whether the recording with logits (n, K) is by anybody known; None where that was not fitted.

        What is unlike the training music speaks against everybody, however sure the model is.
        """
        if not self.leads:
            return None
        clips = np.asarray(logits, np.float64)
        familiarity = _share_below(lead(clips), _at_level(self.leads, len(clips)), self.shares)
        worst = max(VERDICTS.index(verdict_of(familiarity)), _against(remarks))
        return Unknown(familiarity, VERDICTS[worst])

    # --- plain data ---

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, from which `from_dict` makes the same again."""
        return {
            "format": _FORMAT,
            "temperature": self.temperature,
            "power": self.power,
            "growth": self.growth,
            "coverage": self.coverage,
            "thresholds": [list(pair) for pair in self.thresholds],
            "shares": list(self.shares),
            "leads": [[clips, list(row)] for clips, row in self.leads],
            "part": self.part,
            "n_recordings": self.n_recordings,
            "usual": None if self.usual is None else self.usual.to_dict(),
            "measured": self.measured,
        }

    @classmethod
    def from_dict(cls, data: object, *, source: str = "the file") -> "Calibration":
        """The calibration in plain data that nobody vouches for, such as a checkpoint's.

        Raises
        ------
        CheckpointError
            When something is missing, of another kind, or cannot be; the message names it and `source`.
        """
        if not isinstance(data, Mapping) or data.get("format") != _FORMAT:
            raise CheckpointError(f"{source} holds a calibration of another format; calibrate the model again")
        measured = data.get("measured", {})
        try:
            if not isinstance(measured, Mapping):
                raise TypeError("measured is no table")
            return cls(
                temperature=_number(data["temperature"]),
                power=_number(data["power"]),
                growth=_number(data["growth"]),
                coverage=_number(data["coverage"]),
                thresholds=tuple((_whole(clips), _number(least)) for clips, least in data["thresholds"]),
                shares=tuple(map(_number, data["shares"])),
                leads=tuple((_whole(clips), tuple(map(_number, row))) for clips, row in data["leads"]),
                part=str(data.get("part", ""))[:200],
                n_recordings=_whole(data.get("n_recordings", 0)),
                usual=None if data.get("usual") is None else Usual.from_dict(data["usual"]),
                measured=dict(measured),
            )
        except CheckpointError as error:
            raise CheckpointError(f"{source}: {error}; calibrate the model again") from error
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(
                f"{source} holds a damaged calibration ({ascii(str(error))[:80]}); calibrate the model again"
            ) from error


def verdict_of(familiarity: float) -> Verdict:
    """A familiarity in words: of the known pianists' recordings one in 20 is not "one of these"."""
    if familiarity >= PERHAPS:
        return "one of these"
    return "perhaps none of these" if familiarity >= PROBABLY else "probably none of these"


def _against(remarks: Sequence[Remark]) -> int:
    """Which verdict what is unusual asks for at least: one thing alone can happen to anybody, save a machine's time."""
    if len(remarks) >= _MANY_REMARKS:
        return 2
    return int(len(remarks) > 1 or any(one.about in _NOT_PLAYED for one in remarks))


def lead(logits: npt.ArrayLike) -> float:
    """How far the largest of a recording's mean logits is above their average; logits (n, K)."""
    mean = np.asarray(logits, np.float64).mean(axis=0)
    return float(mean.max() - mean.mean())


# --- small things ----------------------------------------------------------------------------------------------------


def softmax(logits: FloatArray) -> FloatArray:
    """Shares (..., K) of logits (..., K)."""
    shares: FloatArray = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    return shares


def sharpened(shares: FloatArray, power: float) -> FloatArray:
    """Shares (..., K) to a power, adding up to 1 again; by logarithms, since a power may be large."""
    return softmax(np.log(np.maximum(shares, 1e-300)) * power)


def _at_level(rows: Sequence[tuple[int, Any]], n_clips: int) -> Any:
    """What was fitted for the most clips that are no more than came."""
    return [found for clips, found in rows if clips <= max(n_clips, rows[0][0])][-1]


def _share_below(value: float, row: Sequence[float], shares: Sequence[float]) -> float:
    if value < row[0]:
        return 0.0
    return 1.0 if value >= row[-1] else float(np.interp(value, row, shares))


def _between(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _by_clips(rows: Sequence[tuple[int, Any]]) -> bool:
    numbers = [clips for clips, _ in rows]
    return bool(numbers) and numbers[0] == 1 and all(a < b for a, b in pairwise(numbers))


def _leads(row: Sequence[float], n: int) -> bool:
    return len(row) == n and all(map(math.isfinite, row)) and all(a <= b for a, b in pairwise(row))


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{ascii(value)[:40]} is no number")
    return float(value)


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise ValueError(f"{ascii(value)[:40]} is no whole number")
    return value
