"""How far a share of recordings can be trusted: Wilson's interval for a binomial proportion.

Wilson, E. B. (1927), Probable inference, the law of succession, and statistical inference. Unlike the textbook's
p +- z * se, it stays within 0 and 1, and says something sensible when none or all of a handful are right.
"""

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist

from pianistid_core.confusion import Confusion

Interval = tuple[float, float]


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
