"""Said and true: the points that a calibration's file holds, the chart, and what such a file may hold instead."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import palette
from pianistid_core.calibration import Calibration
from run_reliability import Point, candidates_words, facts, points, reliability_chart, strangers_words

MEASURED = {
    "ece": 0.0312,
    "coverage": 0.898,
    "candidates": 1.67,
    "bins": [[0.55, 40, 86], [0.975, 559, 575]],
    "unknown": {"auroc": 0.81, "caught": 0.27},
}
MINE = Calibration(2.0, 1.0, 0.1, ((1, 0.05),), part="test part", n_recordings=1146, measured=MEASURED)


def test_the_points_come_with_their_intervals() -> None:
    first, second = points(MEASURED)
    assert (first.confidence, first.right, first.n) == (0.55, 40, 86) and first.low < first.share < first.high
    assert second.high - second.low < first.high - first.low


def test_the_chart_is_plain_data_and_says_all_in_words() -> None:
    chart = reliability_chart(points(MEASURED), palette.of_theme("dark"))
    option = json.loads(json.dumps(chart.option, allow_nan=False))
    diagonal, bars, dots = (series["data"] for series in option["series"])
    assert diagonal == [[0, 0], [100, 100]]
    assert [dot["value"] for dot in dots] == [[55.0, 46.51], [97.5, 97.22]]
    assert dots[1]["symbolSize"] > dots[0]["symbolSize"]
    # Each interval is a line of its own, broken off before the next.
    assert len(bars) == 6 and bars[2] == bars[5] == [None, None] and bars[0][0] == bars[1][0] == 55.0
    assert "said 98 %, right 559 of 575 (97 %" in chart.alt and "right 40 of 86" in chart.alt


def test_what_was_measured_is_said() -> None:
    assert "1,146 recordings (test part)" in facts(MINE) and "3.1 %" in facts(MINE)
    assert "89.8 %" in candidates_words(MINE) and "1.7 on average" in candidates_words(MINE)
    assert "27 % of their recordings" in strangers_words(MEASURED) and strangers_words({}) == ""


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 1 << 60) | st.floats() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=12,
    )
)
def test_a_file_may_hold_anything_in_their_place(anything: Any) -> None:
    for one in points({"bins": anything}) + points({"bins": [anything, [0.5, anything, 3], [anything, 1, 2]]}):
        assert isinstance(one, Point) and 0 <= one.low <= one.share <= one.high <= 1
    assert isinstance(strangers_words({"unknown": anything}), str)


@pytest.mark.parametrize("bins", [None, [], [[0.5, 0, 0]], [[2.0, 1, 2]], [[0.5, 3, 2]], [[0.5, True, 2]]])
def test_what_is_no_range_is_left_out(bins: Any) -> None:
    assert points({"bins": bins}) == []
