"""Comparing runs: the paired test, means over seeds, groups, differing keys, and the order of look-alikes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pianistid_core.comparison import (
    differing_keys,
    look_alike_order,
    mcnemar,
    mean_interval,
    paired_test,
    seed_groups,
)
from pianistid_core.confusion import RecordingOutcome
from pianistid_core.errors import RunError


def outcomes(right: list[bool], first: int = 0) -> list[RecordingOutcome]:
    return [
        RecordingOutcome(f"tiny/{number}", 0, 0 if is_right else 1, 0.5) for number, is_right in enumerate(right, first)
    ]


def pairs(both: int, only_a: int, only_b: int, neither: int) -> tuple[list[RecordingOutcome], list[RecordingOutcome]]:
    a = [True] * (both + only_a) + [False] * (only_b + neither)
    b = [True] * both + [False] * only_a + [True] * only_b + [False] * neither
    return outcomes(a), outcomes(b)


def test_a_paired_test_gives_the_published_interval_and_the_exact_p() -> None:
    a, b = pairs(36, 2, 12, 0)
    found = paired_test(a, b)
    assert (found.n, found.a_right, found.b_right, found.only_a, found.only_b) == (50, 38, 48, 2, 12)
    assert found.difference == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.0569, 0.3404), abs=5e-5)  # Newcombe 1998, table II
    assert found.p == pytest.approx(2 * (1 + 14 + 91) / 2**14)
    assert found.words == "B names 10 more of 50 recordings than A; chance alone rarely does that (p = 0.01)"


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ((90, 12, 19, 18), "B names 7 more of 139 recordings than A; that could well be chance (p = 0.28)"),
        ((10, 0, 30, 5), "B names 30 more of 45 recordings than A; chance alone hardly ever does that (p < 0.001)"),
        ((0, 1, 0, 0), "A names 1 more of 1 recording than B; that could well be chance (p = 1.00)"),
        ((3, 1, 1, 0), "A and B both name 4 of 5 recordings; neither is shown to be better (p = 1.00)"),
    ],
)
def test_what_a_paired_test_says(counts: tuple[int, int, int, int], words: str) -> None:
    assert paired_test(*pairs(*counts)).words == words


def test_only_recordings_in_common_count() -> None:
    found = paired_test(outcomes([True] * 6), outcomes([False] * 6, first=4), names=("one", "two"))
    assert (found.n, found.only_a, found.only_b) == (2, 2, 0)
    with pytest.raises(RunError, match=r"one \(6 recordings\) and two \(6\) have heard no recording in common"):
        paired_test(outcomes([True] * 6), outcomes([True] * 6, first=6), names=("one", "two"))
    with pytest.raises(RunError, match="no recording in common"):
        paired_test([], [])


def test_models_that_number_the_pianists_differently_can_be_compared() -> None:
    a = [RecordingOutcome("tiny/1", 0, 0, 0.5), RecordingOutcome("tiny/2", 1, 0, 0.5)]
    b = [RecordingOutcome("tiny/1", 7, 7, 0.5), RecordingOutcome("tiny/2", 3, 3, 0.5)]
    assert paired_test(a, b).only_b == 1


@given(st.tuples(*[st.integers(0, 60)] * 4).filter(any))
def test_swapping_the_models_mirrors_the_test(counts: tuple[int, int, int, int]) -> None:
    a, b = pairs(*counts)
    one, other = paired_test(a, b), paired_test(b, a)
    assert one.p == other.p
    assert 0 < one.p <= 1
    assert one.difference == -other.difference
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert -1 <= one.low <= one.difference + 1e-12
    assert one.difference - 1e-12 <= one.high <= 1


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_a_fair_coin(only_a: int, only_b: int) -> None:
    from scipy.stats import binomtest

    n = only_a + only_b
    assert mcnemar(only_a, only_b) == pytest.approx(binomtest(only_a, n).pvalue if n else 1.0)


def test_the_mean_of_seeds_has_students_interval() -> None:
    found = mean_interval([0.7, 0.75, 0.8])
    reach = 4.302653 * 0.05 / 3**0.5  # the 97.5 % point of t with two degrees of freedom
    assert (found.mean, found.n) == (pytest.approx(0.75), 3)
    assert (found.low, found.high) == pytest.approx((0.75 - reach, 0.75 + reach))
    assert found.sd == pytest.approx(0.05)
    one = mean_interval([0.7])
    assert (one.mean, one.low, one.high, one.n, one.sd) == (0.7, None, None, 1, None)
    with pytest.raises(ValueError, match="at least one"):
        mean_interval([])


def test_look_alikes_stand_together() -> None:
    """Two pairs that are taken for each other, far apart in the old order, and one who is not here."""
    counts = np.zeros((6, 6), int)
    for a, b in ((0, 3), (1, 5)):
        counts[a, a] = counts[b, b] = 6
        counts[a, b] = counts[b, a] = 4
    counts[2, 2] = 9
    order = look_alike_order(counts)
    place = {pianist: position for position, pianist in enumerate(order)}
    assert abs(place[0] - place[3]) == abs(place[1] - place[5]) == 1
    assert order[-1] == 4


matrices = st.integers(0, 9).flatmap(
    lambda n: st.lists(st.integers(0, 4), min_size=n * n, max_size=n * n).map(lambda v: np.array(v).reshape(n, n))
)


@settings(deadline=None)
@given(matrices)
def test_an_order_is_a_permutation_and_always_the_same(
    counts: "np.ndarray[tuple[int, int], np.dtype[np.int64]]",
) -> None:
    order = look_alike_order(counts)
    assert sorted(order) == list(range(len(counts)))
    assert order == look_alike_order(counts.copy())
    absent = [index for index in range(len(counts)) if not counts[index].sum() and not counts[:, index].sum()]
    assert order[len(order) - len(absent) :] == absent


def test_runs_that_differ_only_by_chance_name_or_machine_are_one_group() -> None:
    base = {"seed": 1, "run": "a", "optim_cfg.lr": 0.1, "checkpoint_cfg.checkpoint_every_n_epochs": 5, "device": "cpu"}
    configs = {
        "x/a": base,
        "x/b": base | {"seed": 2, "run": "b", "device": "cuda", "checkpoint_cfg.checkpoint_every_n_epochs": 1},
        "x/c": base | {"seed": 1, "run": "c", "optim_cfg.lr": 0.2},
        "x/d": {},
        "x/e": {},
        "x/f": dict(reversed(base.items())),
    }
    assert seed_groups(configs) == [("x/a", "x/b"), ("x/c",), ("x/d",), ("x/e",), ("x/f",)]  # a seed counts once
    nested = {"a": {"seed": 1, "optim_cfg": {"lr": 1}}, "b": {"seed": 2, "optim_cfg": {"lr": 1}}}
    assert seed_groups(nested) == [("a", "b")]


def test_keys_that_differ_come_with_every_value() -> None:
    configs = {
        "a": {"lr": 1, "seed": 1, "x": True, "layers": [1, 2]},
        "b": {"lr": 1.0, "seed": 2, "x": 1, "layers": [1, 2], "new": None},
    }
    assert differing_keys(configs) == {"seed": {"a": 1, "b": 2}, "x": {"a": True, "b": 1}}
    assert differing_keys({"a": {"k": 1}, "b": {}}) == {"k": {"a": 1, "b": None}}
    assert differing_keys({"a": {"k": 1}}) == {}
    assert differing_keys({}) == {}
