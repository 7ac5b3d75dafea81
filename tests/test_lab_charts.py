"""Charts are plain data with a text alternative, and survive what a run may hold."""

import json
from typing import Any

import pytest

import charts
import palette
from components.chart import inked

COLOURS = palette.of_theme("light")


def plain_json(chart: charts.Chart) -> dict[str, Any]:
    """The option after a way through strict JSON, as a browser gets it."""
    option: dict[str, Any] = json.loads(json.dumps(chart.option, allow_nan=False))
    assert chart.alt
    assert chart.height > 0
    return option


def test_a_share_that_is_none_is_a_gap() -> None:
    option = plain_json(charts.subset_bars(["melody", "rhythm"], [0.5, float("nan")], ["", ""], ["#000", "#111"]))
    assert [bar["value"] for bar in option["series"][0]["data"]] == [0.5, None]


def test_a_name_with_braces_is_no_template() -> None:
    option = plain_json(charts.subset_bars(["melody"], [0.5], ["{b} {@[0]}"], ["#000"]))
    assert "{" not in option["series"][0]["data"][0]["label"]["formatter"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_both_looks_have_ten_steps_and_enough_series(theme: str) -> None:
    colours = palette.of_theme(theme)
    assert len(colours.steps) == 10
    assert len(set(colours.series)) == len(colours.series) >= 8
    assert colours.of_series(len(colours.series)) == colours.series[0]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_numbers_stand_out_on_every_step(theme: str) -> None:
    colours = palette.of_theme(theme)
    for index, step in enumerate(colours.steps):
        written = colours.on_step(index / 9)
        dark, light = sorted(palette.luminance(colour) for colour in (step, written))
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_axes_and_legend_take_the_lab_s_ink() -> None:
    option = inked({"xAxis": {"type": "value", "splitLine": {"show": False}}, "legend": {"top": 0}}, COLOURS)
    assert option["xAxis"]["axisLabel"]["color"] == option["legend"]["textStyle"]["color"] == COLOURS.ink_soft
    assert option["xAxis"]["splitLine"]["show"] is False, "what a chart says of its own goes before"
