"""Runs beside each other: which differ only in their seed, in which keys, and whether one is better beyond chance.

Everything here is about recordings or runs that were measured already; nothing is trained or read from disk.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import comb, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from pianistid_core.confusion import RecordingOutcome
from pianistid_core.errors import RunError
from pianistid_core.intervals import wilson

# What two trainings of one experiment may differ in: chance, names, and where and how fast they ran.
OF_THE_SEED = frozenset(
    {"seed", "run", "experiment", "device", "num_workers", "num_threads", "channels_last", "compile"}
    | {"fused_optimiser", "roll_form", "checkpoint_cfg", "mlflow_cfg"}
)


@dataclass(frozen=True)
class PairedTest:
    """Two models on the same n recordings: how many each names, and how many only one of them does.

    `difference` is the accuracy of b less that of a, `low` to `high` its 95 % interval (Newcombe 1998, method 10, which
    allows for the pairing), and `p` how often chance alone would set two equally good models at least as far apart
    (McNemar's test, exact).
    """

    n: int
    a_right: int
    b_right: int
    only_a: int
    only_b: int
    difference: float
    low: float
    high: float
    p: float
    words: str


@dataclass(frozen=True)
class MeanInterval:
    """The mean of n values and its 95 % interval (Student's t); one value has neither interval nor deviation."""

    mean: float
    low: float | None
    high: float | None
    n: int
    sd: float | None


def paired_test(
    a: Sequence[RecordingOutcome], b: Sequence[RecordingOutcome], *, names: tuple[str, str] = ("A", "B")
) -> PairedTest:
    """Tests whether b names more recordings than a, over the recordings that both have heard.

    Raises
    ------
    RunError
        When they have not heard a single recording in common.
    """
    ours, theirs = ({one.track: one.true == one.heard for one in outcomes} for outcomes in (a, b))
    common = sorted(ours.keys() & theirs.keys())
    if not common:
        raise RunError(
            f"{names[0]} ({len(ours)} recordings) and {names[1]} ({len(theirs)}) have heard no recording in common; "
            "evaluate both on the same part of one split"
        )
    n = len(common)
    both = sum(ours[track] and theirs[track] for track in common)
    only_a = sum(ours[track] and not theirs[track] for track in common)
    only_b = sum(theirs[track] and not ours[track] for track in common)
    p = mcnemar(only_a, only_b)
    low, high = _newcombe(both, only_b, only_a, n - both - only_a - only_b)
    words = _in_words(names, both + only_a, both + only_b, n, p)
    return PairedTest(n, both + only_a, both + only_b, only_a, only_b, (only_b - only_a) / n, low, high, p, words)


def mcnemar(only_a: int, only_b: int) -> float:
    """The exact two-sided p of McNemar's test, from the pairs that disagree: a fair coin's chance to be as lopsided."""
    n = only_a + only_b
    tail = sum(comb(n, k) for k in range(min(only_a, only_b) + 1))
    return min(1.0, float(2 * tail / 2**n))


def _newcombe(both: int, first: int, second: int, neither: int) -> tuple[float, float]:
    """The interval of the difference of two paired shares; `first` counts the pairs that only the first has right.

    Newcombe, R. G. (1998), Improved confidence intervals for the difference between binomial proportions based on
    paired data, method 10: Wilson's intervals of either share, and the correlation between them, corrected.
    """
    n = both + first + second + neither
    p1, p2 = (both + first) / n, (both + second) / n
    (low1, high1), (low2, high2) = (wilson(both + only, n) or (0.0, 1.0) for only in (first, second))
    margins = (both + first) * (second + neither) * (both + second) * (first + neither)
    cross: float = both * neither - first * second
    if cross > 0:
        cross = max(cross - n / 2, 0)
    phi = cross / sqrt(margins) if margins else 0.0
    below, above = p1 - low1, high2 - p2
    down = sqrt(max(0.0, below**2 - 2 * phi * below * above + above**2))
    over, under = high1 - p1, p2 - low2
    up = sqrt(max(0.0, over**2 - 2 * phi * over * under + under**2))
    difference = p1 - p2
    return max(-1.0, difference - down), min(1.0, difference + up)


def _in_words(names: tuple[str, str], a_right: int, b_right: int, n: int, p: float) -> str:
    of_all = f"{n} recording{'s' if n != 1 else ''}"
    said_p = "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.01 else f"p = {p:.2f}"
    if a_right == b_right:
        return f"{names[0]} and {names[1]} both name {a_right} of {of_all}; neither is shown to be better ({said_p})"
    better, worse = (names[1], names[0]) if b_right > a_right else names
    chance = (
        "that could well be chance" if p >= 0.05
        else "chance alone rarely does that" if p >= 0.01
        else "chance alone hardly ever does that"
    )  # fmt: skip
    return f"{better} names {abs(b_right - a_right)} more of {of_all} than {worse}; {chance} ({said_p})"


def mean_interval(values: Iterable[float], level: float = 0.95) -> MeanInterval:
    """The mean of runs that differ only by chance, with Student's interval of it.

    Raises
    ------
    ValueError
        When there is no value.
    """
    numbers = np.asarray(list(values), np.float64)
    n = len(numbers)
    if n == 0:
        raise ValueError("got no value; a mean needs at least one")
    mean = float(numbers.mean())
    if n == 1:
        return MeanInterval(mean, None, None, 1, None)
    sd = float(numbers.std(ddof=1))
    reach = _student(n - 1, level) * sd / sqrt(n)
    return MeanInterval(mean, mean - reach, mean + reach, n, sd)


def _student(degrees: int, level: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + level) / 2))


def look_alike_order(counts: npt.NDArray[Any]) -> list[int]:
    """An order of pianists in which those who are taken for each other stand together.

    `counts` (K, K) are recordings, true by heard. Shares of rows, made symmetric, are joined by average linkage, and
    the leaves ordered optimally (Bar-Joseph et al. 2001). Whoever neither plays nor is heard stands at the end.
    """
    counts = np.asarray(counts, np.float64)
    seen = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    unseen = [index for index in range(len(counts)) if index not in set(seen.tolist())]
    if len(seen) < 3:
        return [*(int(index) for index in seen), *unseen]
    from scipy.cluster.hierarchy import leaves_list, linkage

    part = counts[np.ix_(seen, seen)]
    shares = part / np.maximum(part.sum(axis=1, keepdims=True), 1)
    alike = (shares + shares.T) / 2
    upper = np.triu_indices(len(seen), 1)
    joined = linkage(1.0 - alike[upper], method="average", optimal_ordering=True)
    return [*(int(seen[leaf]) for leaf in leaves_list(joined)), *unseen]


def seed_groups(configs: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Sorts runs, by id, into groups whose configs are equal but for chance, names and machine.

    Configs may be nested or have dotted keys. Every run is in one group, and a group has each seed once: a run that
    repeats another with the same seed is no further draw, and would make an interval too narrow. A run without a config
    is one by itself.
    """
    groups: dict[tuple[str, int], list[str]] = {}  # by what all have in common; the nth run of a seed is in the nth
    repeats: Counter[tuple[str, str]] = Counter()
    for id, config in configs.items():
        rest = {key: value for key, value in config.items() if key.split(".")[0] not in OF_THE_SEED}
        same = json.dumps(rest, sort_keys=True, default=str) if rest else f"no config of {id}"
        seed = str(config.get("seed", id))
        groups.setdefault((same, repeats[same, seed]), []).append(id)
        repeats[same, seed] += 1
    return [tuple(ids) for ids in groups.values()]


def differing_keys(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The keys in which configs differ, each with the value of every run by id; None where a config has no such key."""
    keys = dict.fromkeys(key for config in configs.values() for key in config)
    rows = {key: {id: config.get(key) for id, config in configs.items()} for key in keys}
    return {key: row for key, row in rows.items() if len({_told_apart(value) for value in row.values()}) > 1}


def _told_apart(value: Any) -> str:
    """Equal for equal values: 1 and 1.0 are, 1 and true are not."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return repr(float(value)) if is_number else json.dumps(value, sort_keys=True, default=str)
