"""Runs: the confusion matrix, the recordings of a cell, recall with intervals, and the charts of one run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

import palette
import run_charts
import run_confusion
from components.confusion_matrix import Chosen, Moment, chosen_of, grid_data
from lab_support import a_run, charts_of, lab, words
from pianistid_core.datasets.root import DataRoot
from pianistid_core.evaluation import measure
from pianistid_core.runs import Confusion, RecordingOutcome, Run

PAGE = "views/runs.py"
NAMES = ("Ada", "bela", "Cleo")
COUNTS = np.array([[3, 1, 0], [0, 2, 2], [0, 0, 0]])


def outcomes() -> tuple[RecordingOutcome, ...]:
    return tuple(
        RecordingOutcome(f"demo/{true}{heard}-{number}", true, heard, 0.5 + 0.1 * number)
        for true, row in enumerate(COUNTS)
        for heard, n in enumerate(row)
        for number in range(n)
    )


def moment(key: str = "epoch_005", counts: Any = COUNTS) -> Moment:
    return Moment(key, "Epoch 5", "test", Confusion(NAMES, np.array(counts), outcomes()))


def components(at: AppTest) -> list[dict[str, Any]]:
    found = [json.loads(element.proto.json) for element in at.get("bidi_component")]
    return [data for data in found if "matrices" in data]


def key_of(run: Run) -> str:
    import zlib

    return f"confusion_{zlib.crc32(str(run.path).encode()):08x}"


# --- what the browser is given, and what it says ---


def test_the_cells_add_up_to_the_recordings_and_the_diagonal_to_those_that_are_right() -> None:
    data = grid_data([moment()], [2, 0, 1], start="epoch_005")
    assert data["matrices"][0]["counts"] == COUNTS.tolist()
    assert sum(map(sum, data["matrices"][0]["counts"])) == len(outcomes())
    assert data["byName"] == [0, 1, 2]
    assert data["look"] == [2, 0, 1]
    assert data["matrices"][0]["between"] == "31 % to 86 %"
    json.dumps(data, allow_nan=False)


@given(
    st.one_of(
        st.none(),
        st.integers(),
        st.text(),
        st.dictionaries(
            st.sampled_from(["matrix", "true", "heard"]),
            st.one_of(st.none(), st.integers(-2, 5), st.text(max_size=5), st.just("epoch_005"), st.floats()),
        ),
    )
)
def test_whatever_the_browser_says_a_cell_is_inside_the_matrix(state: object) -> None:
    found = chosen_of(state, [moment()], "epoch_005")
    assert found.key == "epoch_005"
    assert found.cell is None or all(0 <= place < 3 for place in found.cell)


def test_a_cell_that_is_chosen() -> None:
    state = {"matrix": "epoch_005", "true": 0, "heard": 1}
    assert chosen_of(state, [moment()], "epoch_005") == Chosen("epoch_005", (0, 1))
    assert chosen_of({"matrix": "epoch_900", "true": 0, "heard": 1}, [moment()], "epoch_005") == Chosen("epoch_005")


# --- on the page ---


def test_the_matrix_of_the_last_moment_is_in_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_run(tmp_path, "one", "finished")
    at = lab(tmp_path, monkeypatch, PAGE, run="study/one", run_tab="Confusion matrix")
    (data,) = components(at)
    assert [matrix["label"] for matrix in data["matrices"]] == ["Epoch 1", "Validation"]
    assert data["start"] == "validation"
    assert data["matrices"][1]["counts"] == [[3, 0], [0, 3]]
    (chart,) = charts_of(at)
    dots = next(series for series in chart["series"] if series["name"] == "recall")
    assert [point["value"][0] for point in dots["data"]] == [1.0, 1.0]
    assert dots["markLine"]["data"] == [{"xAxis": 0.5}]


def test_no_matrix_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_run(tmp_path, "one", "running", done=0)
    at = lab(tmp_path, monkeypatch, PAGE, run="study/one", run_tab="Confusion matrix")
    assert "No confusion matrix yet" in [part.value for part in at.subheader]
    assert components(at) == []


def test_a_chosen_cell_lists_its_recordings(demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    split = demo_root.split("demo")
    tracks = [entry.track for entry in split.part("test")][:2]
    counts = np.zeros((2, 2), int)
    counts[0, 1] = 2
    heard = tuple(RecordingOutcome(track, 0, 1, share) for track, share in zip(tracks, (0.6, 0.9), strict=True))
    run = a_run(demo_root.path, "cells", "finished", done=1)
    run.save_confusion("validation", Confusion(("Ada", "Bela"), counts, heard))
    at = lab(demo_root, monkeypatch, PAGE, run="study/cells", run_tab="Confusion matrix")
    at.session_state[key_of(run)] = {"choice": {"matrix": "validation", "true": 0, "heard": 1}}
    at.run()
    assert not at.exception
    assert "Ada heard as Bela: 2 recordings, validation" in words(at).replace("**", "")
    chosen = at.selectbox(key="cell_track")
    assert chosen.value == tracks[1]
    assert "90 % Bela" in chosen.options[0]
    at.session_state[key_of(run)] = {"choice": {"matrix": "epoch_001", "true": 1, "heard": 1}}
    at.run()
    assert not at.exception
    assert "did not note which recordings" in words(at)


def test_a_recording_that_is_gone_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path, "one", "finished", done=1)
    counts = np.array([[1, 0], [0, 0]])
    run.save_confusion("validation", Confusion(("Ada", "Bela"), counts, (RecordingOutcome("demo/gone", 0, 0, 0.7),)))
    at = lab(tmp_path, monkeypatch, PAGE, run="study/one", run_tab="Confusion matrix")
    at.session_state[key_of(run)] = {"choice": {"matrix": "validation", "true": 0, "heard": 0}}
    at.run()
    assert not at.exception
    assert "No music of demo/gone is on disk any more" in words(at)


def test_very_many_matrices_are_thinned_with_the_first_and_the_last(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "study", "long")
    for epoch in range(1, 301):
        run.save_json(f"confusion/epoch_{epoch:03d}.json", Confusion(("a", "b"), np.eye(2, dtype=int)).to_dict())
    found = run_confusion.moments(run, run.confusion_names())
    assert len(found) == run_confusion.MOST_MOMENTS
    assert (found[0].label, found[-1].label) == ("Epoch 1", "Epoch 300")


def test_the_core_counts_what_the_page_shows() -> None:
    from pianistid_core.evaluation import Predictions

    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(3), 4)
    probabilities = rng.dirichlet(np.ones(3), 12)
    predictions = Predictions(probabilities, labels, np.arange(12) // 2, np.arange(12), 1.0)
    metrics = measure(predictions, NAMES, [f"demo/{n}" for n in range(6)])
    data = grid_data([Moment("epoch_001", "Epoch 1", "test", metrics.confusion)], [0, 1, 2], start="epoch_001")
    counts = np.array(data["matrices"][0]["counts"])
    assert counts.sum() == metrics.n_recordings == len(metrics.confusion.recordings)
    assert counts.trace() / counts.sum() == pytest.approx(metrics.recording_accuracy)


# --- charts ---

LIGHT = palette.Palette(
    ("#000000", "#111111", "#222222"), ("#ffffff", "#000000"), "#000", "#fff", "#ccc", "#888", "#555"
)
ROWS = [
    {"epoch": e, "test_loss": 2.0 / e, "train_loss": 1.0 / e, "lr": 0.0, "seconds": 60.0}
    for e in range(1, 6)
]  # fmt: skip


def test_curves_by_epoch_and_by_time() -> None:
    chart = run_charts.curves(ROWS, run_charts.LOSSES, LIGHT, title="Loss")
    assert [series["name"] for series in chart.option["series"]] == ["Test", "Training"]
    assert chart.option["series"][0]["data"] == [[e, pytest.approx(2.0 / e)] for e in range(1, 6)]
    assert "After epoch 5: Test 0.4, Training 0.2" in chart.alt
    timed = run_charts.curves(ROWS, run_charts.LOSSES, LIGHT, title="Loss", by_time=True)
    assert [point[0] for point in timed.option["series"][0]["data"]] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert timed.option["xAxis"]["axisLabel"]["formatter"] == "{value} min"


def test_a_logarithmic_axis_has_no_zero() -> None:
    chart = run_charts.curves(ROWS, run_charts.RATE, LIGHT, title="Learning rate", log=True)
    assert chart.option["yAxis"]["type"] == "log"
    assert all(point[1] is None for point in chart.option["series"][0]["data"])


def test_smoothed_lines_stand_over_their_originals() -> None:
    chart = run_charts.curves(ROWS, run_charts.LOSSES, LIGHT, title="Loss", smooth=0.6)
    raw, smooth = chart.option["series"][:2]
    assert raw["name"] == "Test, as measured"
    assert raw["lineStyle"]["opacity"] < 1
    assert smooth["name"] == "Test"
    assert chart.option["legend"]["data"] == ["Test", "Training"]
    assert smooth["data"][0] == raw["data"][0]
    assert smooth["data"][-1][1] > raw["data"][-1][1]


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=50), st.floats(0, 0.99))
def test_smoothing_keeps_gaps_and_stays_within_what_was_measured(values: list[float | None], strength: float) -> None:
    found = run_charts.smoothed(values, strength)
    known = [value for value in values if value is not None]
    assert [value is None for value in found] == [value is None for value in values]
    for value in found:
        if value is not None:
            assert min(known) - 1e-3 <= value <= max(known) + 1e-3


def test_time_between_rows_that_were_left_out_is_counted() -> None:
    thinned = [row for row in ROWS if row["epoch"] in (1, 3, 5)]
    assert run_charts.elapsed_s(thinned) == [60.0, 180.0, 300.0]
    assert run_charts.elapsed_s(thinned, 600.0)[-1] == pytest.approx(600.0)


def test_recall_with_intervals_and_the_line_of_guessing() -> None:
    chart = run_charts.recall_chart(["Ada", "Cleo"], [4, 0], [0.75, None], [(0.3, 0.95), None], 0.25, LIGHT)
    low, width, dots, notes = chart.option["series"]
    assert low["data"] == [0.3, 0.0]
    assert width["data"] == [0.65, 0.0]
    assert [point["value"][0] for point in dots["data"]] == [0.75, None]
    assert "95 % interval 30 % to 95 %" in dots["data"][0]["name"]
    assert dots["markLine"]["data"] == [{"xAxis": 0.25}]
    assert [point["label"]["formatter"] for point in notes["data"]] == ["75 % of 4", "none here"]
    assert "guessing gives 25.0 %" in chart.alt
