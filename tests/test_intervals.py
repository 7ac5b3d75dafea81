"""Wilson's interval: known values, and what must hold for any count."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pianistid_core.confusion import Confusion
from pianistid_core.intervals import recall_intervals, wilson


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
