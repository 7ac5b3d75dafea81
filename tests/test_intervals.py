"""Wilson's interval and the bootstrap's: known values, and what must hold for any count."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pianistid_core.confusion import Confusion
from pianistid_core.intervals import bootstrap, recall_intervals, wilson


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_values_of_newcombes_table(hits: int, n: int, low: float, high: float) -> None:
    assert wilson(hits, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_it_holds_the_share_and_stays_a_share(case: tuple[int, int], level: float) -> None:
    hits, n = case
    low, high = wilson(hits, n, level) or (2.0, 2.0)
    assert 0 <= low <= hits / n <= high <= 1
    assert low < high
    mirrored = wilson(n - hits, n, level) or (2.0, 2.0)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)


@given(st.integers(0, 30), st.integers(1, 30))
def test_more_recordings_narrow_it(hits: int, times: int) -> None:
    few, many = wilson(hits, 30) or (0, 0), wilson(hits * (times + 1), 30 * (times + 1)) or (0, 0)
    assert many[1] - many[0] < few[1] - few[0]


def test_what_cannot_be_is_refused_and_nothing_gives_nothing() -> None:
    assert wilson(0, 0) is None
    for hits, n, level in ((3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0), (1, 2, 0.0)):
        with pytest.raises(ValueError, match="got"):
            wilson(hits, n, level)


def test_recall_of_each_pianist() -> None:
    found = recall_intervals(Confusion(("Ada", "Bela", "Cleo"), np.array([[81, 182, 0], [0, 0, 0], [0, 0, 20]])))
    assert found[0] == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert found[1] is None
    assert found[2] == pytest.approx((1 - 0.1611, 1.0), abs=5e-5)


@given(st.lists(st.floats(-1, 1), min_size=5, max_size=40))
def test_the_bootstrap_stays_among_its_values_and_is_the_same_each_time(values: list[float]) -> None:
    low, high = bootstrap(values) or (2.0, 2.0)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    assert bootstrap(values) == (low, high)


def test_the_bootstrap_is_as_wide_as_theory_has_it() -> None:
    values = np.random.default_rng(1).normal(size=400)
    low, high = bootstrap(values) or (0.0, 0.0)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    narrow = bootstrap(values, 0.5) or (0.0, 0.0)
    assert low < narrow[0] < narrow[1] < high


def test_a_handful_has_no_bootstrap() -> None:
    assert bootstrap([0.1, 0.2, 0.3, 0.4]) is None and bootstrap([]) is None
    with pytest.raises(ValueError, match="flat"):
        bootstrap(np.zeros((5, 2)))
    with pytest.raises(ValueError, match="level"):
        bootstrap([0.0] * 5, 1.0)
