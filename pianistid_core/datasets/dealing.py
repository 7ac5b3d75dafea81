"""Deals groups of recordings out to the parts of a split.

Largest first, each group goes to the part where its pianists' minutes come nearest to the ratios; where a pianist is
then missing in a part, the group that fits best is moved there. The seed orders groups of about one size. The result
depends on the groups and the seed alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Group", "deal"]

# What it costs to leave a pianist out of a part, next to shares that are off by a few per cent of a pianist's minutes.
_ABSENCE_COST = {"train": 1e6, "test": 1e4, "validation": 1e2}


@dataclass(frozen=True)
class Group:
    """Recordings that stay together: their tracks, and how many seconds of each class they hold."""

    name: str
    tracks: tuple[str, ...]
    seconds: Mapping[int, float]


def deal(groups: Sequence[Group], class_names: Sequence[str], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """The part of each group, by the group's name: largest first to where it is most wanted."""
    rng = np.random.default_rng(seed)
    shuffled = [groups[index] for index in rng.permutation(len(groups))]
    # Within a factor of two, the seed decides who goes first: else one split would come of every seed.
    dealt = sorted(shuffled, key=lambda group: -math.frexp(sum(group.seconds.values()))[1])
    table = _Table(len(class_names), shares, groups)
    part_of: dict[str, str] = {}
    for group in dealt:
        part_of[group.name] = min(shares, key=lambda part: table.cost(group, part))
        table.add(group, part_of[group.name])
    _fill_absences(dealt, part_of, table, len(class_names))
    return part_of


def _fill_absences(groups: Sequence[Group], part_of: dict[str, str], table: "_Table", n_classes: int) -> None:
    """Gives each pianist who is missing in a part the group whose move there costs least, where one can be spared."""
    for index in range(n_classes):
        own = [group for group in groups if index in group.seconds]
        for part in table.parts:
            if table.count[part][index]:
                continue
            moves = [(table.cost_of_move(group, part_of[group.name], part), group) for group in own]
            cost, group = min(moves, key=lambda move: move[0])
            if cost < 0:
                table.remove(group, part_of[group.name])
                table.add(group, part)
                part_of[group.name] = part


class _Table:
    """Seconds and groups of each pianist in each part, and how far that is from what was asked for."""

    def __init__(self, n_classes: int, shares: Mapping[str, float], groups: Sequence[Group]) -> None:
        total = [0.0] * n_classes
        for group in groups:
            for index, seconds in group.seconds.items():
                total[index] += seconds
        self._total = [max(seconds, 1e-9) for seconds in total]
        self._shares = dict(shares)
        self._seconds = {part: [0.0] * n_classes for part in shares}
        self.parts = tuple(shares)
        self.count = {part: [0] * n_classes for part in shares}

    def add(self, group: Group, part: str, sign: int = 1) -> None:
        for index, seconds in group.seconds.items():
            self._seconds[part][index] += sign * seconds
            self.count[part][index] += sign

    def remove(self, group: Group, part: str) -> None:
        self.add(group, part, sign=-1)

    def cost(self, group: Group, part: str, sign: int = 1) -> float:
        """How much worse (or, below 0, better) the shares of the group's pianists get by adding it to a part.

        The square of each share's error weighs more in a smaller part, where it matters more.
        """
        share, cost = self._shares[part], 0.0
        for index, seconds in group.seconds.items():
            before = self._seconds[part][index] / self._total[index] - share
            after = before + sign * seconds / self._total[index]
            cost += (after**2 - before**2) / share
        return cost

    def cost_of_move(self, group: Group, here: str, there: str) -> float:
        """The cost of moving a group, with what it costs to leave a pianist out of a part."""
        cost = self.cost(group, here, sign=-1) + self.cost(group, there)
        for index in group.seconds:
            cost += _ABSENCE_COST[here] * (self.count[here][index] == 1)
            cost -= _ABSENCE_COST[there] * (self.count[there][index] == 0)
        return cost
