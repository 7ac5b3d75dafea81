"""Charts are plain data with a text alternative, and survive what a run may hold."""

import json
from typing import Any

import numpy as np
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


def rows(n: int) -> list[dict[str, Any]]:
    return [
        {
            "epoch": epoch, "train_loss": 2.0 / epoch, "test_loss": 2.5 / epoch, "train_clip_accuracy": 0.5,
            "test_clip_accuracy": 0.4, "test_recording_accuracy": 0.6,
        }
        for epoch in range(1, n + 1)
    ]  # fmt: skip


def test_curves_hold_every_epoch() -> None:
    option = plain_json(charts.loss_curves(rows(3), COLOURS))
    assert option["series"][0]["data"] == [[1, 2.5], [2, 1.25], [3, pytest.approx(0.833333)]]
    assert option["animation"] is False


def test_accuracy_is_in_per_cent() -> None:
    chart = charts.accuracy_curves(rows(2), COLOURS)
    assert plain_json(chart)["series"][0]["data"][-1] == [2, 60.0]
    assert "60 % of test recordings" in chart.alt


@pytest.mark.parametrize("build", [charts.loss_curves, charts.accuracy_curves])
def test_no_rows_and_gaps_draw_nothing(build: Any) -> None:
    plain_json(build([], COLOURS))
    gaps = [{"epoch": 1, "test_loss": None, "train_loss": float("inf"), "test_recording_accuracy": None}]
    option = plain_json(build(gaps, COLOURS))
    assert option["series"][0]["data"] == [[1, None]]


def test_long_runs_are_thinned_and_keep_their_ends() -> None:
    kept = charts.thinned(rows(10_000))
    assert len(kept) <= 500
    assert (kept[0]["epoch"], kept[-1]["epoch"]) == (1, 10_000)


def test_confusion_matrix_shows_shares_and_names_the_commonest_mistake() -> None:
    counts = np.array([[8, 2], [0, 0]])
    chart = charts.confusion_matrix(counts, ["Ada", "Bela"], COLOURS)
    cells = plain_json(chart)["series"][0]["data"]
    assert cells[0]["value"] == [0, 0, 0.8]
    assert cells[0]["label"]["formatter"] == "80"
    assert cells[3]["value"] == [1, 1, 0.0]
    assert "10 recordings: 8 are right" in chart.alt
    assert "Ada heard as Bela, 2 times" in chart.alt
    counted = charts.confusion_matrix(counts, ["Ada", "Bela"], COLOURS, as_counts=True)
    assert plain_json(counted)["series"][0]["data"][1]["label"]["formatter"] == "2"


def test_recall_of_a_pianist_without_recordings_is_a_gap() -> None:
    chart = charts.recall_bars(np.array([[1, 1], [0, 0]]), ["Ada", "Bela"], COLOURS)
    bars = plain_json(chart)["series"][0]["data"]
    assert bars[0]["value"] == 0.5
    assert bars[1]["value"] is None
    assert bars[1]["label"]["formatter"] == "none here"


def test_probabilities_show_the_likeliest_and_sum_the_others() -> None:
    probabilities = {f"p{i}": 0.1 for i in range(9)} | {"top": 0.1001}
    option = plain_json(charts.probability_bars(probabilities, COLOURS, top=4))
    assert option["yAxis"]["data"] == ["top", "p0", "p1", "p2", "6 others"]
    assert option["series"][0]["data"][-1]["value"] == pytest.approx(0.6)


def test_a_name_with_braces_is_no_template() -> None:
    option = plain_json(charts.subset_bars(["melody"], [0.5], ["{b} {@[0]}"], ["#000"]))
    assert "{" not in option["series"][0]["data"][0]["label"]["formatter"]


def test_timeline_stacks_to_one() -> None:
    clips = [{f"p{i}": value for i, value in enumerate(row)} for row in np.full((3, 8), 0.125)]
    option = plain_json(charts.timeline([(0, 30), (30, 60), (60, 70)], clips, COLOURS))
    assert option["xAxis"]["data"] == ["0:00", "0:30", "1:00"]
    assert [sum(series["data"][k] for series in option["series"]) for k in range(3)] == pytest.approx([1, 1, 1])


def test_hours_are_sorted_by_pianist() -> None:
    chart = charts.hours_by_pianist({"train": {"Ada": 1.0, "Bela": 3.0}, "test": {"Ada": 0.5}}, COLOURS)
    option = plain_json(chart)
    assert option["yAxis"]["data"] == ["Bela", "Ada"]
    assert option["series"][1]["data"] == [0.0, 0.5]
    plain_json(charts.hours_by_pianist({}, COLOURS))


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
    option = inked(charts.loss_curves(rows(3), COLOURS).option, COLOURS)
    assert option["xAxis"]["axisLabel"]["color"] == option["legend"]["textStyle"]["color"] == COLOURS.ink_soft
    assert option["xAxis"]["splitLine"]["show"] is False, "what a chart says of its own goes before"


def test_less_than_an_hour_is_in_minutes() -> None:
    chart = charts.hours_by_pianist({"train": {"Ada": 0.5}}, COLOURS)
    assert plain_json(chart)["series"][0]["data"] == [30.0]
    assert "30.0 min" in chart.alt
