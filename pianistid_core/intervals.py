"""How far a share of recordings, or a mean over clips, can be trusted: Wilson's interval, and the bootstrap's.

Wilson, E. B. (1927), Probable inference, the law of succession, and statistical inference. Unlike the textbook's
p +- z * se, it stays within 0 and 1, and says something sensible when none or all of a handful are right.
Efron, B. (1979), Bootstrap methods: another look at the jackknife. It asks nothing of how values are distributed.
"""

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from pianistid_core.confusion import Confusion

Interval = tuple[float, float]

_RESAMPLES = 2000
_FEWEST = 5
_BOOTSTRAP_SEED = 20250101


def wilson(hits: int, n: int, level: float = 0.95) -> Interval | None:
    """The interval of a share of which `hits` in `n` were seen; None when nothing was.

    Raises
    ------
    ValueError
        When there are more hits than tries, or the level is not between 0 and 1.
    """
    if not 0 <= hits <= n:
        raise ValueError(f"got {hits} hits of {n}; hits lie between 0 and the number of tries")
    if not 0 < level < 1:
        raise ValueError(f"got the level {level}; it lies between 0 and 1, such as 0.95")
    if n == 0:
        return None
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = hits / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # Rounding must not push an end past the share itself, or past what a share can be.
    return max(0.0, min(middle - reach, share)), min(1.0, max(middle + reach, share))


def recall_intervals(confusion: Confusion, level: float = 0.95) -> list[Interval | None]:
    """For each pianist of a confusion matrix, the interval of the share that is recognised; None without recordings."""
    counts = confusion.counts
    rows: Sequence[int] = counts.sum(axis=1).tolist()
    return [wilson(int(counts[index, index]), n, level) for index, n in enumerate(rows)]


def bootstrap(values: npt.ArrayLike, level: float = 0.95) -> Interval | None:
    """The interval of the mean of n values (n,), by drawing n of them again and again; None of fewer than five.

    Fewer, drawn from again and again, would look surer than they are. The same values always have the same interval.

    Raises
    ------
    ValueError
        When the values are no flat list, or the level is not between 0 and 1.
    """
    given = np.asarray(values, np.float64)
    if given.ndim != 1:
        raise ValueError(f"got values of shape {given.shape}; give a flat list, one for each clip")
    if not 0 < level < 1:
        raise ValueError(f"got the level {level}; it lies between 0 and 1, such as 0.95")
    if len(given) < _FEWEST:
        return None
    drawn = np.random.default_rng(_BOOTSTRAP_SEED).integers(len(given), size=(_RESAMPLES, len(given)))
    low, high = np.quantile(given[drawn].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
