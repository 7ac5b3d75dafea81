"""Charts are plain data with a text alternative, and survive what a run may hold."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


def echarts(template: str, **values: str) -> str:
    """What ECharts makes of a template, by its source: each value goes in by JavaScript's `replace`."""
    for alias in values:
        template = template.replace(f"{{{alias}}}", f"{{{alias}0}}", 1)
    for alias, value in values.items():
        before, found, after = template.partition(f"{{{alias}0}}")
        if found:
            special = {"$$": "$", "$&": found, "$`": before, "$'": after}
            parts = re.split(r"(\$[$&`'])", value)
            template = before + "".join(special.get(part, part) for part in parts) + after
    return re.sub(r"\{@(.+?)\}", "a figure", template)


@settings(deadline=None)
@given(st.text("ab{}$&@[0]`'c ", max_size=12) | st.sampled_from(["{b}", "{c0} $$ $&", "{@[0]}", "{value}", "{a|b}"]))
def test_a_name_with_braces_or_dollars_is_no_template(name: str) -> None:
    option = plain_json(charts.subset_bars(["melody"], [0.5], [name], ["#000"]))
    formatter = option["series"][0]["data"][0]["label"]["formatter"]
    assert echarts(formatter, a="A", b="B", c="C").replace("\u2060", "") == name
    shown = echarts("{b}", a="A", b=charts.pointed_at(name), c="C")
    assert shown.replace("\u2060", "") == name


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
