"""Compare: runs side by side in every state, their colours, curves, results, the paired test and the paper's rows."""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import compare_charts
import compare_data as data
import compare_parts
import jobs
import palette
from compare_data import METRICS, Line
from compare_parts import result_table
from lab_support import a_run, charts_of, lab, many_runs, words
from pianistid_core.config import load_config, to_yaml
from pianistid_core.confusion import Confusion, RecordingOutcome
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import RunError
from pianistid_core.published import published
from pianistid_core.runs import Run
from test_lab_charts import plain_json
from tiny import until

COLOURS = palette.of_theme("light")
PAGE = "views/compare.py"


def outcomes(right: str) -> Confusion:
    """A matrix of two pianists from a word such as "xx-x": which of the recordings are right."""
    found = tuple(
        RecordingOutcome(f"tiny/{n}", n % 2, n % 2 if mark == "x" else 1 - n % 2, 0.8) for n, mark in enumerate(right)
    )
    counts = np.zeros((2, 2), np.int64)
    for one in found:
        counts[one.true, one.heard] += 1
    return Confusion(("Ada", "Bela"), counts, found)


def a_measured_run(root: Path, name: str, right: str, *overrides: str) -> Run:
    run = a_run(root, name, "finished")
    overrides = ("experiment=study", f"run={name}", *overrides)
    run.save_text("config.yaml", to_yaml(load_config("demo.yaml", overrides=overrides)))
    run.save_confusion("validation", outcomes(right))
    return run


# --- the page --------------------------------------------------------------------------------------------------------


def test_without_runs_it_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(tmp_path, monkeypatch, PAGE)
    assert "No run to compare yet" in [header.value for header in at.subheader]
    assert not at.multiselect


def test_without_a_choice_it_offers_the_newest_and_shows_the_paper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two", "three"):
        a_run(tmp_path, name, "finished")
    at = lab(tmp_path, monkeypatch, PAGE)
    assert len(charts_of(at)) == 2  # the paper's two tables
    at.button(key="compare_newest").click().run()
    assert sorted(at.multiselect(key="runs").value) == ["study/one", "study/three", "study/two"]
    assert not at.exception


@pytest.mark.parametrize("tab", ["Curves", "Results", "Config", "Matrices", "Is one better?", "The paper"])
@pytest.mark.parametrize("names", [["one"], ["one", "two"]])
def test_every_tab_with_one_run_and_with_two(
    tab: str, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, right in (("one", "xx-x"), ("two", "xxxx")):
        a_measured_run(tmp_path, name, right)
    at = lab(tmp_path, monkeypatch, PAGE, runs=",".join(f"study/{name}" for name in names), compare_tab=tab)
    assert at.multiselect(key="runs").value == [f"study/{name}" for name in names]
    assert not at.exception
    assert not at.error


def test_runs_without_an_epoch_and_runs_that_vanished_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_run(tmp_path, "one", "finished")
    a_run(tmp_path, "waiting", "queued", done=0)
    at = lab(tmp_path, monkeypatch, PAGE, runs="study/one,study/gone,study/waiting")
    assert "study/gone is not here any more, and left out" in words(at)
    assert "1 run without a finished epoch is left out" in words(at)
    assert at.multiselect(key="runs").value == ["study/one", "study/waiting"]
    at.multiselect(key="runs").set_value(["study/one"]).run()
    assert "left out" not in words(at)


def test_a_run_that_still_trains_is_said_to_be_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_run(tmp_path, "one", "finished")
    run = a_run(tmp_path, "two", "running")
    at = lab(tmp_path, monkeypatch, PAGE, runs="study/one,study/two")
    assert "1 still trains, as it was when this page was drawn" in words(at)
    run.set_state("finished", epochs=20)
    at.run()
    assert "still train" not in words(at)


def test_a_run_deleted_in_another_tab_leaves_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        a_run(tmp_path, name, "finished")
    at = lab(tmp_path, monkeypatch, PAGE, runs="study/one,study/two")
    Run.find(tmp_path / "checkpoints", "study/two").delete()
    at.run()
    assert not at.exception
    assert "study/two is not here any more" in words(at)
    assert at.multiselect(key="runs").value == ["study/one"]


def test_twenty_runs_of_a_thousand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many_runs(tmp_path, 60)
    chosen = [f"study-{number % 7}/run-{number:04d}" for number in range(25)]
    at = lab(tmp_path, monkeypatch, PAGE, runs=",".join(chosen))
    assert at.multiselect(key="runs").value == chosen[:20]
    lines = [series for series in charts_of(at)[0]["series"] if "endLabel" in series]
    assert len(lines) == 20
    assert len({(line["color"], json.dumps(line["lineStyle"]["type"])) for line in lines}) == 20


def test_the_filter_shortens_the_list_but_keeps_what_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many_runs(tmp_path, 10)
    at = lab(tmp_path, monkeypatch, PAGE, runs="study-0/run-0000", compare_filter="run-0003")
    assert at.multiselect(key="runs").options == ["study-0/run-0000", "study-3/run-0003"]
    at.text_input(key="compare_filter").set_value("accuracy >").run()
    assert len(at.error) == 1
    assert len(at.multiselect(key="runs").options) == 10


def test_only_keys_that_differ_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_measured_run(tmp_path, "one", "xx")
    a_measured_run(tmp_path, "two", "xx", "optim_cfg.lr=0.01")
    at = lab(tmp_path, monkeypatch, PAGE, runs="study/one,study/two", compare_tab="Config")
    table = at.dataframe[0].value
    assert table.to_dict("records") == [{"Key": "optim_cfg.lr", "one": "0.002", "two": "0.01"}]
    at.toggle(key="compare_keys").set_value(True).run()
    assert len(at.dataframe[0].value) > 20
    alone = lab(tmp_path, monkeypatch, PAGE, runs="study/one", compare_tab="Config")
    assert "One run differs from nothing" in words(alone)
    a_measured_run(tmp_path, "twin", "xx")
    same = lab(tmp_path, monkeypatch, PAGE, runs="study/one,study/twin", compare_tab="Config")
    assert "the same config but for their names" in words(same)


def test_seeds_fold_into_a_mean_with_a_band(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(3):
        a_measured_run(tmp_path, f"s{seed}", "xx-x", f"seed={seed}")
    a_measured_run(tmp_path, "other", "xx", "optim_cfg.lr=0.01")
    at = lab(tmp_path, monkeypatch, PAGE, runs="study/s0,study/s1,study/s2,study/other")
    assert "3 runs differ only in their seed" in words(at)
    assert len([one for one in charts_of(at)[0]["series"] if "endLabel" in one]) == 4
    at.toggle(key="compare_fold").set_value(True).run()
    series = charts_of(at)[0]["series"]
    assert [one["name"] for one in series if "endLabel" in one] == ["s0 and 2 more seeds", "other"]
    assert len([one for one in series if one.get("stack")]) == 2
    assert "intervals of the mean over seeds" in words(at)


def test_is_one_better_says_so_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_measured_run(tmp_path, "one", "x" * 10 + "-" * 12)
    a_measured_run(tmp_path, "two", "x" * 20 + "-" * 2)
    asked = {"runs": "study/one,study/two", "compare_tab": "Is one better?"}
    at = lab(tmp_path, monkeypatch, PAGE, **asked)
    assert "B names 10 more of 22 recordings than A; chance alone hardly ever does that (p = 0.002)" in words(at)
    assert "A is one, B is two; recordings of the validation part of split demo" in words(at)
    swapped = lab(tmp_path, monkeypatch, PAGE, **asked, compare_a="two", compare_b="one")
    assert "A names 10 more of 22 recordings than B" in words(swapped)
    alike = lab(tmp_path, monkeypatch, PAGE, **asked, compare_a="two", compare_b="two")
    assert "A and B are the same run" in words(alike)


def test_runs_of_before_are_measured_again_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_measured_run(tmp_path, "new", "xx-x")
    old = a_run(tmp_path, "old", "finished")
    asked = {"runs": "study/old,study/new", "compare_tab": "Is one better?"}
    at = lab(tmp_path, monkeypatch, PAGE, **asked)
    assert "It is not known which recordings of the validation part old named" in words(at)
    assert "No checkpoint of old is on disk" in words(at)
    assert not any("pianistid evaluate" in code.value for code in at.code)
    (old.path / "checkpoint_003.pth").write_bytes(b"x")
    at.run()
    assert "No checkpoint of" not in words(at)
    assert "pianistid evaluate study/old --split validation" in at.code[-1].value
    old.save_json("evaluation/validation.json", {"confusion": outcomes("x--x").to_dict()})
    at.run()
    assert "B names 1 more of 4 recordings than A" in words(at)


def test_two_pages_that_measure_do_not_disturb_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    measured: list[str] = []

    def evaluate(path: Path, part: str, root: DataRoot) -> None:
        if path.parent.name == "broken":
            raise RunError("no such weights")
        measured.append(path.parent.name)
        go.wait(30)
        Run(path.parent).save_json(f"evaluation/{part}.json", {"confusion": outcomes("x--x").to_dict()})

    monkeypatch.setattr(compare_parts, "evaluate", evaluate)
    a_measured_run(tmp_path, "new", "xx-x")
    for name in ("old", "older", "broken"):
        (a_run(tmp_path, name, "finished").path / "checkpoint_003.pth").write_bytes(b"x")
    asked = {"compare_tab": "Is one better?"}
    first = lab(tmp_path, monkeypatch, PAGE, runs="study/old,study/new", **asked)
    first.button(key="compare_evaluate").click().run()
    assert first.button(key="compare_evaluate").disabled
    second = lab(tmp_path, monkeypatch, PAGE, runs="study/older,study/new", **asked)
    assert not second.get("progress")
    second.button(key="compare_evaluate").click().run()
    go.set()
    until(lambda: not any(job.running for job in jobs._jobs().values()))
    assert sorted(measured) == ["old", "older"]
    for page in (first, second, lab(tmp_path, monkeypatch, PAGE, runs="study/old,study/new", **asked)):
        page.run()
        assert "B names 1 more of 4 recordings than A" in words(page)
    failing = lab(tmp_path, monkeypatch, PAGE, runs="study/broken,study/new", **asked)
    failing.button(key="compare_evaluate").click().run()
    until(lambda: not any(job.running for job in jobs._jobs().values()))
    failing.run()
    assert "No such weights" in words(failing)


def test_what_was_tested_is_said_with_its_epoch_and_a_later_checkpoint_is_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A matrix over the test part is kept every few epochs; a run that was stopped has trained further."""
    for name in ("one", "two"):
        a_measured_run(tmp_path, name, "xx-x").save_confusion(1, outcomes("x---"))
    asked = {"runs": "study/one,study/two", "compare_tab": "Is one better?", "compare_test_part": "Test"}
    at = lab(tmp_path, monkeypatch, PAGE, **asked)
    assert "A is one after epoch 1, B is two after epoch 1; recordings of the test part" in words(at)
    assert "trained further" not in words(at)
    run = Run(tmp_path / "checkpoints" / "study" / "two")
    (run.path / "checkpoint_003.pth").write_bytes(b"x")
    at = lab(tmp_path, monkeypatch, PAGE, **asked)
    assert "Two has trained further than was tested here; evaluate its latest checkpoint" in words(at)
    assert at.button(key="compare_evaluate").label == "Evaluate 1 run again"
    measured = {"confusion": outcomes("xx--").to_dict(), "checkpoint": "somewhere/checkpoint_003.pth"}
    run.save_json("evaluation/test.json", measured)
    at = lab(tmp_path, monkeypatch, PAGE, **asked)
    assert "A is one after epoch 1, B is two after epoch 3" in words(at) and "trained further" not in words(at)
    assert "B names 1 more of 4 recordings than A" in words(at)
    at = lab(tmp_path, monkeypatch, PAGE, **asked | {"compare_tab": "Matrices", "compare_matrix_part": "Test"})
    assert "1 of 4 test recordings are right (25.0 %) after epoch 1." in words(at)


def test_runs_that_heard_nothing_in_common_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_measured_run(tmp_path, "one", "xx")
    other = a_measured_run(tmp_path, "two", "xx", "data_split_dir=elsewhere")
    strange = tuple(RecordingOutcome(f"other/{n}", 0, 0, 0.9) for n in range(3))
    other.save_confusion("validation", Confusion(("Ada", "Bela"), np.array([[3, 0], [0, 0]]), strange))
    at = lab(tmp_path, monkeypatch, PAGE, runs="study/one,study/two", compare_tab="Is one better?")
    assert "have heard no recording in common" in words(at)
    assert "tested on different recordings" in words(at)


def test_a_mean_of_seeds_that_trained_unequally_long_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2):
        a_measured_run(tmp_path, f"s{number}", "xx-x", f"seed={number}")
    asked = {"runs": "study/s0,study/s1", "compare_tab": "Results", "compare_fold": "true"}
    assert "same number of epochs" not in words(lab(tmp_path, monkeypatch, PAGE, **asked))
    Run(tmp_path / "checkpoints" / "study" / "s1").append_metrics({"epoch": 4, "test_recording_accuracy": 0.8})
    assert "Not all seeds of s0 have trained for the same number of epochs" in words(
        lab(tmp_path, monkeypatch, PAGE, **asked)
    )


def test_a_part_without_a_matrix_names_the_one_that_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (a_run(tmp_path, name, "stopped").path / "confusion" / "validation.json").unlink()
    at = lab(tmp_path, monkeypatch, PAGE, runs="study/one,study/two", compare_tab="Matrices")
    assert "No confusion matrix over the validation part is kept of one and two" in words(at)
    assert "One over the test part is kept: choose it above." in words(at)


def test_matrices_of_other_pianists_are_shown_without_a_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_measured_run(tmp_path, "one", "xx-x")
    other = a_measured_run(tmp_path, "two", "xx")
    other.save_confusion("validation", Confusion(("Cleo", "Dan"), np.array([[3, 0], [0, 1]])))
    at = lab(tmp_path, monkeypatch, PAGE, runs="study/one,study/two", compare_tab="Matrices")
    assert len(charts_of(at)) == 2
    assert "No difference is drawn with two, which knows other pianists than one" in words(at)
    at.multiselect(key="compare_matrices").set_value([]).run()
    assert not at.exception


def test_names_with_markup_stay_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_measured_run(tmp_path, "one", "xx")
    bold = Confusion(("**Ada** ![x](http://evil)", "<b>Bela"), np.array([[3, 1], [0, 1]]), outcomes("xx-x").recordings)
    run.save_confusion("validation", bold)
    a_measured_run(tmp_path, "two", "-xxx")
    for tab in ("Matrices", "Is one better?"):
        at = lab(tmp_path, monkeypatch, PAGE, runs="study/one,study/two", compare_tab=tab)
        assert not any("![x]" in str(element.value) for element in [*at.markdown, *at.caption, *at.info])


def test_a_reproduction_stands_beside_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = published()[0]
    for seed in (1, 2):
        run = a_run(tmp_path, f"again{seed}", "finished")
        overrides = ["experiment=study", f"run=again{seed}", f"seed={seed}"]
        run.save_text("config.yaml", to_yaml(load_config(row.preset, overrides=overrides)))
        run.save_confusion("validation", outcomes("xxx-" if seed == 1 else "xxxx"))
    at = lab(tmp_path, monkeypatch, PAGE, runs="study/again1", compare_tab="The paper")
    names = charts_of(at)[0]["yAxis"]["data"]
    assert names[0] in row.title
    assert names[1] == "↳ yours, 2 seeds"
    assert "No run here repeats" not in words(at)


# --- the data and its charts -----------------------------------------------------------------------------------------


@given(st.lists(st.text("abc/", min_size=1, max_size=4), unique=True, max_size=20), st.data())
def test_a_run_keeps_its_colour_when_later_ones_leave(ids: list[str], draw: Any) -> None:
    slots = data.slots_of(ids)
    assert sorted(slots) == sorted(ids)
    assert len(set(slots.values())) == len(ids)
    assert max(slots.values(), default=0) < 20
    assert slots == data.slots_of(reversed(ids))
    if len(ids) <= data.N_COLOURS:
        assert len({slot % data.N_COLOURS for slot in slots.values()}) == len(ids)


def subjects_of(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[data.Subject]:
    from pianistid_core.datasets.root import DataRoot
    from pianistid_core.runs import list_runs

    found = data.subjects(DataRoot(root), sorted(list_runs(root / "checkpoints"), key=lambda run: run.id))
    return found


def test_curves_by_time_smoothed_and_at_their_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path, "one", "finished", done=0)
    for epoch, share in enumerate((0.2, 0.6, 0.4), start=1):
        run.append_metrics({"epoch": epoch, "seconds": 10.0, "test_recording_accuracy": share, "test_loss": 1 / share})
    (one,) = subjects_of(tmp_path, monkeypatch)
    metric, loss = METRICS["Recordings, test"], METRICS["Loss, test"]
    (line,) = data.lines([one], metric)
    assert (line.x, line.y) == ((1.0, 2.0, 3.0), (0.2, 0.6, 0.4))
    (line,) = data.lines([one], metric, by_time=True, best_so_far=True)
    assert (line.x, line.y) == ((10.0, 20.0, 30.0), (0.2, 0.6, 0.6))
    (line,) = data.lines([one], loss, best_so_far=True)
    assert line.y == (5.0, pytest.approx(1 / 0.6), pytest.approx(1 / 0.6))
    (line,) = data.lines([one], metric, smooth=0.9)
    assert line.y[0] == pytest.approx(0.2)
    assert 0.2 < (line.y[2] or 0) < 0.6


def test_a_mean_of_seeds_covers_the_epochs_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed, epochs in ((0, 3), (1, 2)):
        run = a_measured_run(tmp_path, f"s{seed}", "xx-x", f"seed={seed}")
        run.truncate_metrics(0)
        for epoch in range(1, epochs + 1):
            run.append_metrics({"epoch": epoch, "test_recording_accuracy": 0.1 * epoch + 0.2 * seed})
    found = subjects_of(tmp_path, monkeypatch)
    (line,) = data.lines(found, METRICS["Recordings, test"], fold=True)
    assert line.x == (1.0, 2.0)
    assert line.y == (pytest.approx(0.2), pytest.approx(0.3))
    assert (line.low[0] or 0) < 0.1 < 0.3 < (line.high[0] or 0)
    (row,) = data.results(found, fold=True)
    assert row.seeds == 2
    assert row.validation == data.Score(0.75, 4, (0.75, 0.75))


def test_results_have_intervals_over_their_recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_measured_run(tmp_path, "one", "xx-x")
    (run.path / "log.txt").write_text("2026 INFO run study/one\n2026 INFO disentangle: 171,784 parameters\n")
    (row,) = data.results(subjects_of(tmp_path, monkeypatch))
    assert row.parameters == 171_784
    assert row.last is not None
    assert (row.last.share, row.last.n) == (pytest.approx(0.6), 6)
    assert row.last.interval is not None
    assert row.last.interval[0] < 0.6 < row.last.interval[1]
    assert (row.best_epoch, row.validation and row.validation.share) == (3, 0.75)
    assert result_table([row])["Validation"].tolist() == [75.0]


def test_charts_are_plain_data_whatever_the_runs_hold() -> None:
    gaps = Line("a {b}", 0, (1.0, 2.0), (None, 0.5), (None, None), (None, None), 2)
    for lines in ([], [gaps], [gaps, Line("long", 19, tuple(map(float, range(900))), (0.5,) * 900)]):
        for by_time in (False, True):
            plain_json(
                compare_charts.curves(lines, "Recordings, test", METRICS["Recordings, test"], COLOURS, by_time=by_time)
            )
    marks = [compare_charts.Mark("one", 0.5, (0.4, 0.6), "{50}"), compare_charts.Mark("none", None)]
    option = plain_json(compare_charts.intervals(marks, COLOURS, what="Right"))
    assert (option["xAxis"]["min"], option["xAxis"]["max"]) == (30, 70)
    plain_json(compare_charts.intervals([], COLOURS, what="Right"))
    chart = compare_charts.difference(-0.1, -0.3, 0.1, ("one", "two"), COLOURS)
    assert "Accuracy of two less that of one: -10.0 points (-30.0 to +10.0)" in chart.alt
    assert plain_json(chart)["xAxis"]["max"] == 40
    plain_json(compare_charts.small_matrix(np.array([[0, 0], [0, 2]]), ["A", "B"], COLOURS))
