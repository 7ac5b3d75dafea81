"""The index of runs: it reads only what has changed, and never shows what is no longer so."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pianistid_core.config import flatten, load_config, to_yaml
from pianistid_core.processes import ProcessIdentity
from pianistid_core.run_index import RunIndex
from pianistid_core.runs import STARTING, WAITING, Run, RunLabels, RunSummary, list_runs
from tiny import until

LONG_AGO = 1_700_000_000


def settle(folder: Path) -> None:
    """Makes everything in a folder look as if it had been written long ago."""
    for path in sorted(folder.rglob("*"), reverse=True):
        os.utime(path, (LONG_AGO, LONG_AGO))


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    for number in range(3):
        run = Run.create(tmp_path, "study", f"run-{number}")
        run.save_text("config.yaml", to_yaml(load_config("demo.yaml", overrides=[f"seed={number}"])))
        run.set_state("finished", epochs=2)
        for epoch in (1, 2):
            run.append_metrics({"epoch": epoch, "test_recording_accuracy": epoch / 4, "seconds": 1.5})
    settle(tmp_path)
    return tmp_path


def only(index: RunIndex, id: str) -> RunSummary:
    return next(summary for summary in index.summaries() if summary.id == id)


def test_it_gives_what_a_listing_gives(checkpoints: Path) -> None:
    index = RunIndex(checkpoints)
    assert index.summaries() == list_runs(checkpoints)
    summary = only(index, "study/run-1")
    assert summary.best_recording_accuracy == 0.5 and summary.sparkline == (0.25, 0.5) and summary.seconds == 3.0
    assert RunIndex(checkpoints / "nothing").summaries() == []


def test_unchanged_runs_are_not_read_again(checkpoints: Path) -> None:
    index = RunIndex(checkpoints)
    first = index.summaries()
    assert index.reads == 3
    again = index.summaries()
    assert index.reads == 3 and all(a is b for a, b in zip(first, again, strict=True))


def test_what_was_just_written_is_not_trusted(checkpoints: Path) -> None:
    index = RunIndex(checkpoints)
    index.summaries()
    os.utime(checkpoints / "study" / "run-0")  # now: it may be written again within this tick of the clock
    index.summaries()
    index.summaries()
    assert index.reads == 5


def test_each_change_of_a_run_is_seen(checkpoints: Path) -> None:
    index, run = RunIndex(checkpoints), Run.find(checkpoints, "study/run-0")
    index.summaries()
    run.append_metrics({"epoch": 3, "test_recording_accuracy": 1.0})
    assert only(index, run.id).best_recording_accuracy == 1.0
    settle(checkpoints)
    index.summaries()
    run.set_labels(RunLabels(tags=("kept",)))
    assert only(index, run.id).labels.tags == ("kept",)
    settle(checkpoints)
    index.summaries()
    run.set_state("failed", "it broke", epochs=2)
    assert only(index, run.id).state.reason == "it broke"
    settle(checkpoints)
    index.summaries()
    run.truncate_metrics(1)
    assert only(index, run.id).best_recording_accuracy == 0.25


def test_runs_come_and_go(checkpoints: Path) -> None:
    index = RunIndex(checkpoints)
    index.summaries()
    shutil.rmtree(checkpoints / "study" / "run-1")
    Run.create(checkpoints, "new", "run")
    (checkpoints / ".trash" / "thing").mkdir(parents=True)
    (checkpoints / ".trash" / "thing" / "run.json").write_text("{}")
    (checkpoints / "study" / "no run").mkdir()
    (checkpoints / "a file").write_text("")
    assert [summary.id for summary in index.summaries()] == ["new/run", "study/run-2", "study/run-0"]


def test_a_process_that_dies_is_seen_though_no_file_changes(checkpoints: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    run = Run.find(checkpoints, "study/run-0")
    run.set_state("running", epochs=2, process=ProcessIdentity.of(process.pid))
    settle(checkpoints)
    index = RunIndex(checkpoints)
    assert only(index, run.id).state.status == "running"
    process.kill()
    process.wait()
    assert only(index, run.id).state.status == "interrupted"


def test_a_start_that_comes_to_nothing_is_seen_though_no_file_changes(checkpoints: Path) -> None:
    run = Run.find(checkpoints, "study/run-0")
    run.set_state("queued", STARTING, epochs=2)
    settle(checkpoints)
    index = RunIndex(checkpoints)
    assert only(index, run.id).state.status == "queued"
    later = time.monotonic() + 3600
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: later)
        assert only(index, run.id).state.status == "failed"


def test_a_run_that_leaves_the_queue_is_seen_though_its_folder_is_the_same(checkpoints: Path, tmp_path: Path) -> None:
    run, entry = Run.find(checkpoints, "study/run-0"), tmp_path / "queue" / "waiting" / "one.json"
    entry.parent.mkdir(parents=True)
    entry.write_text("{}")
    run.save_json("queued.json", {"queue": os.path.relpath(tmp_path / "queue", run.path), "id": "one"})
    run.set_state("queued", WAITING, epochs=2)
    settle(checkpoints)
    index = RunIndex(checkpoints)
    assert only(index, run.id).state.reason == WAITING
    entry.unlink()
    assert "no longer in the queue" in only(index, run.id).state.reason


def test_a_running_run_is_followed_and_not_read_from_its_beginning(checkpoints: Path) -> None:
    run = Run.find(checkpoints, "study/run-0")
    run.set_state("running", epochs=900, process=ProcessIdentity.of())
    for epoch in range(3, 500):
        run.append_metrics({"epoch": epoch, "test_recording_accuracy": 0.1})
    index = RunIndex(checkpoints)
    assert only(index, run.id).state.epoch == 499
    run.append_metrics({"epoch": 500, "test_recording_accuracy": 0.9})
    summary = only(index, run.id)
    assert summary.state.epoch == 500 and summary.best_recording_accuracy == 0.9
    assert len(summary.sparkline) <= 30 and summary.sparkline[-1] == 0.9


def test_long_metrics_of_an_ended_run_are_read_once(checkpoints: Path) -> None:
    run = Run.find(checkpoints, "study/run-0")
    row = json.dumps({"epoch": 3, "test_recording_accuracy": 0.1, "padding": "x" * 60}) + "\n"
    run.metrics_path.write_text(row * 60_000)
    index = RunIndex(checkpoints)

    def seconds() -> float:
        began = time.perf_counter()
        assert only(index, run.id).state.epoch == 3
        return time.perf_counter() - began

    first, again = seconds(), []
    for number in range(3):
        run.set_labels(RunLabels((str(number),)))
        again.append(seconds())
    assert min(again) < first / 5


def test_archived_runs_are_listed_on_demand(checkpoints: Path) -> None:
    Run.find(checkpoints, "study/run-1").set_labels(RunLabels(archived=True))
    index = RunIndex(checkpoints)
    assert [summary.id for summary in index.summaries(archived=True)] == ["study/run-1"]
    assert len(index.summaries(archived=False)) == 2 and len(index.summaries()) == 3


def test_a_config_is_given_by_dotted_keys_and_read_once(checkpoints: Path) -> None:
    index = RunIndex(checkpoints)
    summary = only(index, "study/run-1")
    config = index.config(summary)
    assert dict(config) == flatten(load_config("demo.yaml", overrides=["seed=1"]))
    assert index.config(summary) is config
    path = summary.path / "config.yaml"
    path.write_text(path.read_text().replace("seed: 1", "seed: 7"))
    assert index.config(summary)["seed"] == 7


@pytest.mark.parametrize("text", ["[1]", "a: [", "a: &x [*x]", "", "a: !!python/object:os.system {}"])
def test_a_config_that_cannot_be_read_is_empty(checkpoints: Path, text: str) -> None:
    summary = RunIndex(checkpoints).summaries()[0]
    (summary.path / "config.yaml").write_text(text)
    assert not RunIndex(checkpoints).config(summary)


@pytest.mark.parametrize("name", ["state.json", "run.json", "labels.json", "metrics.jsonl"])
@pytest.mark.parametrize("content", ["{", "[1]", '{"status": "running", "epochs": NaN, "tags": [{}], "note": 3}'])
def test_damaged_files_never_hide_a_run(checkpoints: Path, name: str, content: str) -> None:
    (checkpoints / "study" / "run-0" / name).write_text(content)
    assert len(RunIndex(checkpoints).summaries()) == 3


def test_many_threads_ask_while_runs_come_and_go(checkpoints: Path) -> None:
    index, wrong, done = RunIndex(checkpoints), [], threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                found = index.summaries()
                for summary in found:
                    index.config(summary)
                if {"study/run-0", "study/run-2"} - {summary.id for summary in found}:
                    wrong.append(found)
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(20):
        run = Run.create(checkpoints, "busy", f"run-{number}")
        run.append_metrics({"epoch": 1})
        run.delete()
    done.set()
    for thread in threads:
        thread.join()
    until(lambda: len(index.summaries()) == 3)
    assert not wrong


def test_a_thousand_unchanged_runs_are_listed_at_once(tmp_path: Path) -> None:
    for number in range(1000):
        folder = tmp_path / f"study-{number % 7}" / f"run-{number}"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({"created": LONG_AGO + number}))
        (folder / "metrics.jsonl").write_text('{"epoch": 1}\n')
    settle(tmp_path)
    index = RunIndex(tmp_path)
    index.summaries()
    (tmp_path / "study-0" / "run-0" / "state.json").write_text('{"status": "finished"}')
    settle(tmp_path)
    index.summaries()
    reads = index.reads
    times = []
    for _ in range(7):
        began = time.perf_counter()
        assert len(index.summaries()) == 1000
        times.append(time.perf_counter() - began)
    assert index.reads == reads
    assert min(times) < 3  # read again they take longer; the benchmark has the figure
