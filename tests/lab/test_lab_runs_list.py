"""The list of runs: filter, order, choosing many and acting on them, the trash and the queue."""

import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import run_list
import run_table
from lab_support import a_run, lab, many_runs, words
from pianistid_core import trash
from pianistid_core.config import load_config
from pianistid_core.datasets.root import DataRoot
from pianistid_core.processes import ProcessIdentity
from pianistid_core.run_index import RunIndex
from pianistid_core.run_queue import RunQueue
from pianistid_core.runs import Run, RunLabels
from tiny import until

PAGE = "views/runs.py"


def names(at: AppTest) -> list[str]:
    return list(at.dataframe[0].value["Run"])


def tick(at: AppTest, ids: Iterable[str], table: str = "runs_table") -> None:
    """Chooses rows as the browser does: by their place in the table that is shown."""
    rows = [names(at).index(id) for id in ids]
    at.session_state[table] = {"selection": {"rows": rows, "columns": [], "cells": []}}
    at.run()
    assert not at.exception


def ticked(at: AppTest) -> list[str]:
    return [names(at)[row] for row in at.session_state["runs_table"]["selection"]["rows"]]


def find(root: Path, name: str) -> Run:
    return Run.find(root / "checkpoints", f"study/{name}")


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """Three finished runs, the newest first: three, two, one; two has a tag, three is archived."""
    for number, name in enumerate(("one", "two", "three")):
        run = a_run(tmp_path, name, "finished", done=number + 1)
        run.save_json("run.json", {"experiment": "study", "run": name, "created": 1000.0 + number})
    find(tmp_path, "two").set_labels(RunLabels(tags=("baseline",), starred=True))
    find(tmp_path, "three").set_labels(RunLabels(archived=True))
    return tmp_path


def test_no_run_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(tmp_path, monkeypatch, PAGE)
    assert "No run yet" in [part.value for part in at.subheader]
    assert not at.dataframe


def test_archived_runs_are_left_out_until_asked_for(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(three, monkeypatch, PAGE)
    assert names(at) == ["study/two", "study/one"]
    at.toggle(key="runs_archived").set_value(True).run()
    assert names(at) == ["study/three", "study/two", "study/one"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("two", ["study/two"]),
        ("baseline", ["study/two"]),
        ('"baseline" in tags', ["study/two"]),
        ("epoch < 2", ["study/one"]),
        ("archived", ["study/three"]),
        ("seed == 42 and not starred", ["study/one"]),
    ],
)
def test_the_filter(text: str, expected: list[str], three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(three, monkeypatch, PAGE, runs_filter=text)
    assert names(at) == expected


def test_a_filter_that_cannot_be_read_says_where(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(three, monkeypatch, PAGE, runs_filter="accuracy > > 0.7")
    assert "At character 12" in words(at)
    assert names(at) == ["study/two", "study/one"]
    at.text_input(key="runs_filter").set_value("nosuchrun").run()
    assert "None of the 3 runs here fits" in words(at)
    assert "1 run is archived" in words(at)
    assert not at.dataframe


def test_orders() -> None:
    assert set(run_table.ORDERS) == {
        "Newest first", "Best accuracy", "Starred first", "By state", "By name", "Longest training"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("Newest first", ["three", "two", "one"]),
        ("Best accuracy", ["three", "two", "one"]),
        ("By name", ["one", "three", "two"]),
        ("Starred first", ["two", "three", "one"]),
        (None, ["three", "two", "one"]),
    ],
)
def test_the_order(order: str | None, expected: list[str], three: Path) -> None:
    runs = RunIndex(three / "checkpoints").summaries()
    assert [run.id for run in run_table.ordered(runs, order)] == [f"study/{name}" for name in expected]


def test_one_row_is_opened_and_the_filter_is_there_on_the_way_back(
    three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = lab(three, monkeypatch, PAGE)
    at.text_input(key="runs_filter").set_value("o").run()
    assert at.button(key="bulk_open").disabled
    tick(at, ["study/one"])
    at.button(key="bulk_open").click().run()
    assert at.selectbox(key="run").value == "study/one"
    at.button(key="all_runs").click().run()
    assert not at.exception
    assert at.text_input(key="runs_filter").value == "o"
    assert ticked(at) == ["study/one"]


def test_a_selection_goes_on_meaning_the_same_runs(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(three, monkeypatch, PAGE)
    tick(at, ["study/one"])
    new = a_run(three, "new", "finished")
    at.run()
    assert names(at)[0] == new.id
    assert ticked(at) == ["study/one"]
    at.selectbox(key="runs_sort").select("By name").run()
    assert ticked(at) == ["study/one"]
    at.text_input(key="runs_filter").set_value("two").run()
    assert ticked(at) == []
    assert at.button(key="bulk_trash").disabled


def test_many_are_starred_tagged_and_archived(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(three, monkeypatch, PAGE)
    tick(at, ["study/one", "study/two"])
    at.text_input(key="bulk_tag_text").set_value("july").run()
    assert find(three, "one").labels().tags == ("july",)
    assert find(three, "two").labels().tags == ("baseline", "july")
    assert at.text_input(key="bulk_tag_text").value == ""
    at.button(key="bulk_star").click().run()
    assert find(three, "one").labels().starred
    at.button(key="bulk_archive").click().run()
    assert find(three, "one").labels().archived
    assert "None of the 3 runs" in words(at)
    assert not at.exception


def test_two_are_compared(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(three, monkeypatch, PAGE)
    assert at.button(key="bulk_compare").disabled
    tick(at, ["study/one"])
    assert at.button(key="bulk_compare").disabled
    asked: list[dict[str, str]] = []
    monkeypatch.setattr(run_list.st, "switch_page", lambda page, query_params: asked.append(query_params))
    run_list.compare(["study/one", "study/two"])
    assert asked == [{"runs": "study/one,study/two"}]


def test_many_are_stopped_and_those_that_cannot_be_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [a_run(tmp_path, name, "running") for name in ("one", "two")]
    done = a_run(tmp_path, "done", "finished")
    at = lab(tmp_path, monkeypatch, PAGE)
    tick(at, [run.id for run in (*runs, done)])
    at.button(key="bulk_save").click().run()
    assert [run.stop_request() for run in (*runs, done)] == ["save", "save", None]
    assert "are not done" in words(at)


def test_what_runs_is_stopped_first_and_then_in_the_trash_with_undo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, done = a_run(tmp_path, "one", "running"), a_run(tmp_path, "done", "finished")
    heeds = "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1], 'stop').exists(): time.sleep(0.02)"
    with subprocess.Popen([sys.executable, "-c", heeds, str(run.path)]) as trainer:
        run.set_state("running", epochs=2, process=ProcessIdentity.of(trainer.pid))
        at = lab(tmp_path, monkeypatch, PAGE)
        tick(at, [run.id, done.id])
        assert "study/one is not done" in words(at)
        at.button(key="bulk_trash").click().run()
        assert not at.exception and not done.path.exists()
        until(lambda: not run.path.exists())
        at.run()
    assert trainer.returncode == 0 and "study/one" in words(at)
    at.button(key="undo_trash").click().run()
    assert run.path.is_dir() and done.path.is_dir() and run.state().status == "interrupted"


def test_trash_with_undo_restore_and_empty(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(three, monkeypatch, PAGE)
    tick(at, ["study/one", "study/two"])
    at.button(key="bulk_trash").click().run()
    assert "None of the 1 run here fits" in words(at)
    at.button(key="undo_trash").click().run()
    assert names(at) == ["study/two", "study/one"]
    tick(at, ["study/one", "study/two"])
    at.button(key="bulk_trash").click().run()
    at.button_group(key="runs_view").set_value("Trash").run()
    assert sorted(names(at)) == ["study/one", "study/two"]
    tick(at, ["study/one"], "trash_table")
    at.button(key="trash_restore").click().run()
    assert find(three, "one").path.is_dir()
    assert names(at) == ["study/two"]
    assert "0 chosen" in words(at), "the tick was for the run that has left, not for the one in its row now"
    at.button(key="trash_empty").click().run()
    assert not at.exception
    assert trash.discarded(three / "checkpoints") == []
    assert "The trash is empty" in [part.value for part in at.subheader]


def test_a_run_that_came_or_changed_makes_the_list_out_of_date(three: Path) -> None:
    index = RunIndex(three / "checkpoints")
    before = run_list.seen(index.summaries())
    assert run_list.seen(index.summaries()) == before
    find(three, "one").set_labels(RunLabels(starred=True))
    after = run_list.seen(RunIndex(three / "checkpoints").summaries())
    assert after != before
    a_run(three, "new", "finished")
    assert run_list.seen(RunIndex(three / "checkpoints").summaries()) not in (before, after)


@pytest.mark.parametrize("created", ["1e300", "-1e18", "[]"])
def test_a_date_that_cannot_be_leaves_the_list_standing(
    created: str, three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = three / "checkpoints" / "study" / "one"
    about = f'{{"experiment": "study", "run": "one", "created": {created}}}'
    (folder / "run.json").write_text(about)
    assert "study/one" in names(lab(three, monkeypatch, PAGE))
    thrown = trash.discard(Run(folder))
    said = three / "checkpoints" / ".trash" / thrown.id / "discarded.json"
    said.write_text(said.read_text().replace(f'"when": {thrown.when}', '"when": 1e300'))
    at = lab(three, monkeypatch, PAGE, runs_view="Trash")
    assert "1 run" in words(at)


def test_a_thousand_runs_are_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many_runs(tmp_path, 1000)
    at = lab(tmp_path, monkeypatch, PAGE)
    assert len(names(at)) == 1000
    at.text_input(key="runs_filter").set_value("optim_cfg.lr == 0.001 and seed == 2").run()
    assert len(names(at)) == 50
    assert len(at.dataframe[0].value["Accuracy"][0]) > 10


# --- the queue ---


@pytest.fixture
def queued(demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> RunQueue:
    """Three runs that wait in a queue that is paused, in a data root with data."""
    queue = RunQueue(demo_root)
    queue.pause()
    config = load_config("demo.yaml", overrides=["experiment=queued", "epochs=2"])
    queue.add([replace(config, run=name) for name in ("first", "second", "third") if not _waits(queue, name)])
    return queue


def _waits(queue: RunQueue, name: str) -> bool:
    return any(entry.run_id == f"queued/{name}" for entry in queue.entries())


def order(queue: RunQueue) -> list[str]:
    return [entry.run_id.rpartition("/")[2] for entry in queue.entries()]


def test_the_queue_is_ordered_and_emptied(
    queued: RunQueue, demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunQueue, "wake", lambda self: None)
    at = lab(demo_root, monkeypatch, PAGE, runs_view="Queue")
    assert "The queue is paused" in words(at)
    assert order(queued) == ["first", "second", "third"]
    third = queued.entries()[2].id
    at.button(key=f"up_{third}").click().run()
    assert order(queued) == ["first", "third", "second"]
    at.button(key=f"down_{third}").click().run()
    assert order(queued) == ["first", "second", "third"]
    at.button(key=f"top_{third}").click().run()
    assert order(queued) == ["third", "first", "second"]
    at.button(key="queue_unpause").click().run()
    assert not queued.paused
    at.button(key="queue_pause").click().run()
    assert queued.paused
    for entry in queued.entries():
        at.button(key=f"remove_{entry.id}").click().run()
        assert not at.exception
    assert order(queued) == []
    assert "Nothing waits" in [part.value for part in at.subheader]


def test_a_run_that_waits_is_brought_forward_or_taken_out_from_the_list(
    queued: RunQueue, demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = lab(demo_root, monkeypatch, PAGE, runs_filter="queued")
    tick(at, ["queued/third"])
    assert "Waiting" in [word for words_ in at.dataframe[0].value["State"] for word in words_]
    at.button(key="bulk_first").click().run()
    assert order(queued) == ["third", "first", "second"]
    at.button(key="bulk_discard").click().run()
    assert not at.exception
    assert order(queued) == ["first", "second"]
    one = lab(demo_root, monkeypatch, PAGE, run="queued/first")
    one.button(key="show_queue").click().run()
    assert not one.exception
    assert any(button.key.startswith("remove_") for button in one.button if button.key)
    for entry in queued.entries():
        queued.remove(entry.id)
