"""Exact Shapley values of the four concepts: how a difference is shared out among what made it.

With four players there are only sixteen subsets, so nothing is sampled. A concept's value is what it adds to the
subsets without it, averaged over every order in which concepts can be added (Shapley 1953). The values add up to the
worth of all four less that of none.
"""

from collections.abc import Mapping
from itertools import combinations
from math import factorial

from pianistid_core.concepts import CONCEPTS
from pianistid_core.errors import ModelError

Worth = Mapping[tuple[str, ...], float]

_WORTH_A_SENTENCE = 0.02

# Every subset of the concepts, none of them first: 16.
ALL_SUBSETS: tuple[tuple[str, ...], ...] = tuple(
    subset for size in range(len(CONCEPTS) + 1) for subset in combinations(CONCEPTS, size)
)


def shapley_values(worth: Worth) -> dict[str, float]:
    """Shares worth[all four] - worth[()] out among the concepts, by the worth of all 16 subsets.

    Subsets are tuples in the order of `CONCEPTS`.

    Raises
    ------
    ModelError
        When the worth of a subset is missing.
    """
    _check(worth)
    n = len(CONCEPTS)
    weights = [factorial(size) * factorial(n - size - 1) / factorial(n) for size in range(n)]
    return {
        concept: sum(
            weights[len(others)] * (worth[_with(others, concept)] - worth[others])
            for others in ALL_SUBSETS
            if concept not in others
        )
        for concept in CONCEPTS
    }


def interactions(worth: Worth) -> dict[tuple[str, str], float]:
    """How much each pair of concepts adds together beyond what both add alone: the Shapley interaction index.

    Above 0 the two support each other; below 0 they say the same or stand in each other's way.
    Source: Grabisch and Roubens 1999.

    Raises
    ------
    ModelError
        When the worth of a subset is missing.
    """
    _check(worth)
    n = len(CONCEPTS)
    weights = [factorial(size) * factorial(n - size - 2) / factorial(n - 1) for size in range(n - 1)]
    return {
        (one, two): sum(
            weights[len(others)]
            * (worth[_with(others, one, two)] - worth[_with(others, one)] - worth[_with(others, two)] + worth[others])
            for others in ALL_SUBSETS
            if one not in others and two not in others
        )
        for one, two in combinations(CONCEPTS, 2)
    }


def together(pairs: Mapping[tuple[str, str], float]) -> str:
    """In words, the pair of concepts whose giving together differs most from what each gives, where that is much."""
    (one, two), most = max(pairs.items(), key=lambda item: abs(item[1]))
    names, size = f"{one.capitalize()} and {two}", f"{100 * abs(most):.1f} points"
    if abs(most) < _WORTH_A_SENTENCE:
        return "No two concepts give much more or less together than each gives by itself."
    if most > 0:
        return f"{names} support each other: together they give {size} more than each gives by itself."
    return f"{names} do not add up: together they give {size} less than each gives by itself."


def _with(subset: tuple[str, ...], *more: str) -> tuple[str, ...]:
    return tuple(concept for concept in CONCEPTS if concept in subset or concept in more)


def _check(worth: Worth) -> None:
    missing = next((subset for subset in ALL_SUBSETS if subset not in worth), None)
    if missing is not None:
        name = "+".join(missing) or "no concept at all"
        raise ModelError(f"the worth of {name} is missing; give that of all {len(ALL_SUBSETS)} subsets of {CONCEPTS}")
