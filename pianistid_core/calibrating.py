"""Fitting a calibration to recordings that a model never learned from, and measuring how true it is.

Conventions as in `calibration`: n clips, K pianists, R recordings. A recording also counts as it is with only 1, 2, 4,
8 or 16 of its clips, drawn from it, so that what holds of long pieces holds of short ones.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pianistid_core.calibration import PERHAPS, SHARES, Calibration, FloatArray, softmax
from pianistid_core.errors import DataError
from pianistid_core.manner import Usual

IntArray = npt.NDArray[np.int64]

LEVELS = (1, 2, 4, 8, 16)  # clips of a recording for which thresholds are fitted
FEWEST_RECORDINGS = 20
_FEWEST_AT_LEVEL = 100
_DRAWS = 8  # runs of clips that are drawn from each recording at each level
_FEWER = 4  # of which one in four is enough to fit three numbers
_TEMPERATURES = (1.0, 4.0)
_SMALLEST = 1e-12
# A model that is never wrong would have no end to its power, and one that is worse than chance none above nothing.
_LOG_POWERS = (math.log(0.01), math.log(1000.0))
_STEPS, _NOTICED = 60, 1e-9


class Bin(NamedTuple):
    """The predictions of one range of confidence: how sure they are on average, how many are right, of how many."""

    confidence: float
    right: int
    n: int


def fit(
    logits: npt.ArrayLike,
    labels: npt.ArrayLike,
    recordings: npt.ArrayLike,
    *,
    coverage: float = 0.9,
    usual: Usual | None = None,
    part: str = "",
    measured: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Calibration:
    """Fits a calibration to the logits (n, K) of held-out clips with their labels (n,) and recordings (n,).

    Each recording also counts as it is with fewer of its clips, so that short music is calibrated too. What
    `cross_measured` finds on recordings that are not fitted on goes into `measured`, beside what is given.

    Raises
    ------
    DataError
        When there are fewer than 20 recordings, or the arrays do not fit each other.
    """
    held = HeldOut.of(logits, labels, recordings)
    found = {**cross_measured(held, coverage=coverage, seed=seed), **(measured or {})}
    return _fit(held, coverage, seed, usual=usual, part=part, measured=found)


class HeldOut(NamedTuple):
    """What a model said of clips that it never learned from: logits (n, K), labels and recordings (n,)."""

    logits: FloatArray
    labels: IntArray
    recordings: IntArray

    @classmethod
    def of(cls, logits: npt.ArrayLike, labels: npt.ArrayLike, recordings: npt.ArrayLike) -> "HeldOut":
        """Checks three arrays.

        Raises
        ------
        DataError
            When there are fewer than 20 recordings, or the arrays do not fit each other.
        """
        held = cls(np.asarray(logits, np.float64), np.asarray(labels, np.int64), np.asarray(recordings, np.int64))
        if (
            held.logits.ndim != 2
            or held.labels.shape != held.logits.shape[:1]
            or held.recordings.shape != held.labels.shape
        ):
            raise DataError(
                "logits (n, K), labels (n,) and recordings (n,) are needed, not "
                f"{held.logits.shape}, {held.labels.shape}, {held.recordings.shape}"
            )
        n = len(np.unique(held.recordings))
        if n < FEWEST_RECORDINGS:
            raise DataError(f"{n} recordings are too few to calibrate with; at least {FEWEST_RECORDINGS} are needed")
        if not np.isfinite(held.logits).all() or held.labels.min() < 0 or held.labels.max() >= held.logits.shape[1]:
            raise DataError("logits must be finite, and labels lie in 0..K-1")
        return held

    def of_recordings(self, chosen: npt.ArrayLike) -> "HeldOut":
        """Only the clips of some recordings."""
        kept = np.isin(self.recordings, chosen)
        return HeldOut(self.logits[kept], self.labels[kept], self.recordings[kept])

    def rows(self) -> Iterator[tuple[int, IntArray]]:
        """For each recording its label and the rows of its clips."""
        order = np.argsort(self.recordings, kind="stable")
        starts = np.flatnonzero(np.diff(self.recordings[order], prepend=-1 - abs(int(self.recordings.min()))))
        for rows in np.split(order, starts[1:]):
            yield int(self.labels[rows[0]]), rows


class _Runs(NamedTuple):
    """Some clips of each recording: which rows (m, n clips), labels (m,)."""

    rows: IntArray
    labels: IntArray


def _fit(
    held: HeldOut, coverage: float, seed: int, *, usual: Usual | None, part: str, measured: Mapping[str, Any]
) -> Calibration:
    rng = np.random.default_rng(seed)
    of_level = {level: runs for level in LEVELS if len((runs := _some_clips(held, level, rng)).labels)}
    temperature, power, growth = _likeliest(
        held, [_Runs(runs.rows[::_FEWER], runs.labels[::_FEWER]) for runs in of_level.values()]
    )
    rough = Calibration(temperature, power, growth, ((1, 0.0),), coverage=coverage)
    usable = {
        level: runs for level, runs in of_level.items() if level == 1 or len(runs.labels) >= _FEWEST_AT_LEVEL * _DRAWS
    }
    thresholds, leads = [], []
    for level, runs in usable.items():
        clips = held.logits[runs.rows]
        right = rough.of_recording(clips)[np.arange(len(runs.labels)), runs.labels]
        thresholds.append((level, conformal_threshold(right, coverage, per_recording=_DRAWS)))
        mean = clips.mean(axis=1)
        found = np.quantile(mean.max(axis=1) - mean.mean(axis=1), SHARES)
        leads.append((level, tuple(map(float, found))))
    return Calibration(
        temperature, power, growth, tuple(thresholds), tuple(leads), SHARES, coverage, part,
        len(np.unique(held.recordings)), usual, dict(measured),
    )  # fmt: skip


def conformal_threshold(right: npt.ArrayLike, coverage: float, *, per_recording: int = 1) -> float:
    """The probability that the right one reaches in a new recording with probability `coverage`; 0 when too few came.

    `right` (m,) are probabilities of the right one, `per_recording` of them for each recording, which count as one.
    """
    ascending = np.sort(np.asarray(right, np.float64))
    recordings = len(ascending) / per_recording
    # One more recording is coming, and may be as low as any: the conformal correction.
    kept = math.floor((recordings + 1) * (1 - coverage) * per_recording + 1e-9)
    return float(ascending[kept - 1]) if kept >= per_recording else 0.0


def _some_clips(held: HeldOut, level: int, rng: np.random.Generator) -> _Runs:
    """From each recording of at least `level` clips that many, drawn 8 times."""
    rows: list[IntArray] = []
    labels: list[int] = []
    for label, mine in held.rows():
        if len(mine) >= level:
            rows += [rng.permutation(mine)[:level] for _ in range(_DRAWS)]
            labels += [label] * _DRAWS
    return _Runs(np.array(rows, np.int64).reshape(-1, level), np.array(labels, np.int64))


def _likeliest(held: HeldOut, runs: Sequence[_Runs]) -> tuple[float, float, float]:
    """The temperature, power and growth under which the runs are likeliest; each length of run counts once."""
    best = (math.inf, 1.0, 1.0, 0.0)
    for temperature in _TEMPERATURES:
        means = [
            (
                some.rows.shape[1],
                np.log(np.maximum(softmax(held.logits[some.rows] / temperature).mean(axis=1), _SMALLEST)),
            )
            for some in runs
        ]
        surprise = _Surprise(means, [some.labels for some in runs])
        value, log_power, growth = _lowest(surprise, math.log(2.5 * temperature), 0.0)
        if value < best[0] - 1e-9:
            best = (value, temperature, math.exp(log_power), growth)
    return best[1:]


@dataclass(frozen=True)
class _Surprise:
    """How unlikely the right ones are: means (clips, log shares (m, K)) and labels (m,) for each length of run."""

    means: Sequence[tuple[int, FloatArray]]
    labels: Sequence[IntArray]

    def __call__(self, log_power: float, growth: float) -> float:
        """The mean cross entropy over all; a length of which there are few weighs more than its number."""
        total = 0.0
        for (clips, mean), labels in zip(self.means, self.labels, strict=True):
            logits = mean * (math.exp(log_power) * clips**growth)
            largest = logits.max(axis=1)
            whole = np.log(np.exp(logits - largest[:, None]).sum(axis=1)) + largest
            total += math.sqrt(len(labels)) * float((whole - logits[np.arange(len(labels)), labels]).mean())
        return total


def _lowest(value_of: Callable[[float, float], float], x: float, y: float) -> tuple[float, float, float]:
    """The lowest value of a smooth function of two numbers near a start, and where: a grid that moves and shrinks.

    The first number stays between the logarithms of the least and greatest power, the second between -1 and 1.
    """
    best, step_x, step_y = value_of(x, y), 1.0, 0.4
    for _ in range(_STEPS):
        around = [
            (_within(x + i * step_x, *_LOG_POWERS), _within(y + j * step_y, -1.0, 1.0))
            for i in (-1, 0, 1)
            for j in (-1, 0, 1)
        ]
        found, at = min((value_of(*one), one) for one in around)
        if found < best - _NOTICED:
            best, (x, y) = found, at
        else:
            step_x, step_y = step_x / 2, step_y / 2
        if step_x < 0.01:
            break
    return best, x, y


def _within(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


# --- measuring -------------------------------------------------------------------------------------------------------


def expected_calibration_error(confidences: npt.ArrayLike, right: npt.ArrayLike, n_bins: int = 10) -> float:
    """The mean distance of confidence (m,) from the share that is right (m,), over equal ranges of confidence.

    Source: Naeini, Cooper and Hauskrecht 2015. Not a number when nothing came.
    """
    bins = reliability(confidences, right, n_bins)
    total = sum(one.n for one in bins)
    return sum(abs(one.confidence - one.right / one.n) * one.n for one in bins) / total if total else math.nan


def reliability(confidences: npt.ArrayLike, right: npt.ArrayLike, n_bins: int = 10) -> list[Bin]:
    """The ranges of confidence in which predictions lie, the least sure first; a range without any is left out."""
    sure, hits = np.asarray(confidences, np.float64), np.asarray(right, bool)
    place = np.clip((sure * n_bins).astype(np.int64), 0, n_bins - 1)
    return [
        Bin(float(sure[here].mean()), int(hits[here].sum()), int(here.sum()))
        for k in range(n_bins)
        if (here := place == k).any()
    ]


def auroc(known: npt.ArrayLike, unknown: npt.ArrayLike) -> float:
    """The probability that a known one's score is above an unknown one's, ties counting half; nan without either."""
    higher, lower = np.sort(np.asarray(known, np.float64)), np.asarray(unknown, np.float64)
    if not len(higher) or not len(lower):
        return math.nan
    below = len(higher) - np.searchsorted(higher, lower, side="right")
    equal = np.searchsorted(higher, lower, side="right") - np.searchsorted(higher, lower, side="left")
    return float((below + equal / 2).mean() / len(higher))


def measure(calibration: Calibration, held: HeldOut) -> dict[str, Any]:
    """How true a calibration is on held-out recordings that it was not fitted on, as plain data.

    `ece` and `bins` are of whole recordings, `ece_clips` of single clips; `coverage` says how often the right one is
    among the candidates, `candidates` how many these are on average, `alone` how often it is one; `false_alarms` how
    many recordings by known pianists are taken for somebody else's.
    """
    return _summary(_outcomes(calibration, held))


class _Outcomes(NamedTuple):
    """What came of each recording (r,), and of each clip (n,)."""

    clips: IntArray
    confidences: FloatArray
    right: npt.NDArray[np.bool_]
    covered: npt.NDArray[np.bool_]
    sizes: IntArray
    familiarity: FloatArray
    clip_confidences: FloatArray
    clip_right: npt.NDArray[np.bool_]


def _outcomes(calibration: Calibration, held: HeldOut) -> _Outcomes:
    rows = []
    for label, mine in held.rows():
        logits = held.logits[mine]
        shares = calibration.of_recording(logits)
        who = calibration.candidates(shares, len(mine))
        unknown = calibration.unknown(logits)
        rows.append(
            (len(mine), shares.max(), who[0] == label, label in who, len(who), unknown.familiarity if unknown else 1.0)
        )
    of_clips = calibration.of_clips(held.logits)
    n, sure, right, covered, sizes, familiarity = zip(*rows, strict=True)
    return _Outcomes(
        np.array(n, np.int64), np.array(sure), np.array(right, bool), np.array(covered, bool),
        np.array(sizes, np.int64), np.array(familiarity), of_clips.max(axis=1), of_clips.argmax(axis=1) == held.labels,
    )  # fmt: skip


def _summary(found: _Outcomes) -> dict[str, Any]:
    return {
        "n_recordings": len(found.right),
        "accuracy": float(found.right.mean()),
        "ece": expected_calibration_error(found.confidences, found.right),
        "ece_clips": expected_calibration_error(found.clip_confidences, found.clip_right),
        "coverage": float(found.covered.mean()),
        "candidates": float(found.sizes.mean()),
        "alone": float((found.sizes == 1).mean()),
        "false_alarms": float((found.familiarity < PERHAPS).mean()),
        "bins": [list(one) for one in reliability(found.confidences, found.right)],
        "by_clips": [
            {
                "from": low,
                "n_recordings": int(here.sum()),
                "accuracy": float(found.right[here].mean()),
                "coverage": float(found.covered[here].mean()),
                "candidates": float(found.sizes[here].mean()),
            }
            for low, high in zip(LEVELS, (*LEVELS[1:], 1 << 30), strict=True)
            if (here := (found.clips >= low) & (found.clips < high)).any()
        ],
    }


def cross_measured(held: HeldOut, *, coverage: float = 0.9, folds: int = 5, seed: int = 0) -> dict[str, Any]:
    """As `measure`, but fitted on four fifths of the recordings at a time and measured on the rest."""
    names = np.random.default_rng(seed).permutation(np.unique(held.recordings))
    found = []
    for part in np.array_split(names, folds):
        fitted = _fit(held.of_recordings(np.setdiff1d(names, part)), coverage, seed, usual=None, part="", measured={})
        found.append(_outcomes(fitted, held.of_recordings(part)))
    return _summary(_Outcomes(*(np.concatenate(columns) for columns in zip(*found, strict=True))))
