"""A run directory: its state is what the evidence shows, its files are whole or not there."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pianistid_core.errors import RunError
from pianistid_core.processes import ProcessIdentity
from pianistid_core.runs import STARTING, Confusion, Run, find_runs, list_runs
from tiny import until


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path, "experiment", "run")


def sleeping_process() -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)


def test_a_run_is_found_by_its_name(run: Run, tmp_path: Path) -> None:
    assert run.id == "experiment/run"
    assert Run.find(tmp_path, "experiment/run").path == run.path
    assert [found.id for found in find_runs(tmp_path)] == ["experiment/run"]


@pytest.mark.parametrize("name", ["nothing/here", "run", "../x", "experiment/..", "experiment/../../etc", "a/b/c", ""])
def test_a_name_that_is_no_run_is_refused_with_those_that_are(run: Run, tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="experiment/run"):
        Run.find(tmp_path, name)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "experiment").write_text("a file in its place")
    with pytest.raises(RunError, match="cannot write"):
        Run.create(tmp_path, "experiment", "run")


def test_a_running_process_is_running_and_a_killed_one_is_not(run: Run) -> None:
    process = sleeping_process()
    run.set_state("running", epochs=3, process=ProcessIdentity.of(process.pid))
    assert run.state().status == "running" and run.state().pid == process.pid
    process.kill()
    process.wait()
    assert run.state().status == "interrupted"
    run.set_exit(process.returncode)
    state = run.state()
    assert state.status == "failed" and "SIGKILL" in state.reason


def test_a_process_that_ended_and_was_not_collected_is_not_running(run: Run) -> None:
    process = sleeping_process()
    identity = ProcessIdentity.of(process.pid)
    assert identity is not None and identity.alive()
    process.kill()
    until(lambda: not identity.alive())  # a zombie as soon as the signal has arrived
    process.wait()


def test_another_process_of_the_same_number_is_not_the_trainer(run: Run) -> None:
    mine = ProcessIdentity.of()
    assert mine is not None
    for stranger in (
        ProcessIdentity(mine.pid, "123", mine.boot),
        ProcessIdentity(mine.pid, mine.started, "other boot"),
    ):
        run.set_state("running", epochs=3, process=stranger)
        assert run.state().status == "interrupted"
    assert "restarted" in run.state().reason


def test_a_start_that_came_to_nothing_is_a_failure(run: Run) -> None:
    run.set_state("queued", STARTING, epochs=3)
    assert run.state().status == "queued"
    said = json.loads((run.path / "state.json").read_text())
    (run.path / "state.json").write_text(json.dumps(said | {"started": said["started"] - 3600}))
    assert run.state().status == "failed" and "never started" in run.state().reason


def test_metrics_survive_a_torn_last_line(run: Run) -> None:
    for epoch in (1, 2):
        run.append_metrics({"epoch": epoch, "train_loss": 1.5, "test_loss": float("nan")})
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"epoch": 3, "train')
    assert [row["epoch"] for row in run.metrics()] == [1, 2]
    assert run.metrics()[0]["test_loss"] is None
    assert run.state().status == "queued"
    run.truncate_metrics(1)
    run.append_metrics({"epoch": 2, "train_loss": 2.5})
    assert [(row["epoch"], row["train_loss"]) for row in run.metrics()] == [(1, 1.5), (2, 2.5)]


def test_a_damaged_state_file_does_not_hide_the_run(run: Run, tmp_path: Path) -> None:
    (run.path / "state.json").write_text("{")
    assert run.state().status in ("queued", "finished")
    assert len(list_runs(tmp_path)) == 1


def test_confusion_matrices_are_kept_as_data_and_picture(run: Run) -> None:
    run.save_confusion(5, Confusion(("a", "b"), np.array([[3, 1], [0, 2]])))
    assert run.confusions()["epoch_005"].counts.tolist() == [[3, 1], [0, 2]]
    assert (run.path / "figures" / "epoch_005_confusionmatrix.png").read_bytes().startswith(b"\x89PNG")


def test_the_latest_checkpoint_is_the_most_trained(run: Run) -> None:
    with pytest.raises(RunError, match="no checkpoint"):
        run.latest_checkpoint()
    state = {"model_state_dict": {"w": torch.zeros(2)}}
    run.save_checkpoint(state, epoch=1, batch=0, keep_old=True)
    middle = run.save_checkpoint(state, epoch=1, batch=4, keep_old=True)
    assert run.latest_checkpoint() == middle
    run.save_checkpoint(state, epoch=10, batch=0, keep_old=True)
    assert [path.name for path in run.checkpoints()] == ["checkpoint_001.pth", "checkpoint_010.pth"]
    run.save_checkpoint(state, epoch=11, batch=0, keep_old=False)
    assert [path.name for path in run.checkpoints()] == ["checkpoint_011.pth"]


def test_a_checkpoint_that_fails_to_be_written_leaves_the_last_one(run: Run) -> None:
    run.save_checkpoint({"model_state_dict": {}}, epoch=1, batch=0, keep_old=False)
    with pytest.raises(Exception, match="pickle"):
        run.save_checkpoint({"bad": lambda: None}, epoch=2, batch=0, keep_old=False)
    assert [path.name for path in run.path.glob("*checkpoint*")] == ["checkpoint_001.pth"]


def test_the_log_shows_what_a_terminal_would(run: Run) -> None:
    (run.path / "log.txt").write_text("one\n10 %\r50 %\r100 %\ntwo\n")
    assert run.log_tail(2) == "100 %\ntwo"


def test_a_stop_is_asked_for_and_forgotten(run: Run) -> None:
    assert run.stop_request() is None
    run.request_stop("finish")
    assert run.stop_request() == "finish"
    run.clear_stop()
    assert run.stop_request() is None


def test_deleting_a_running_run_is_refused(run: Run, tmp_path: Path) -> None:
    run.set_state("running", epochs=1, process=ProcessIdentity.of())
    with pytest.raises(RunError, match="still running"):
        run.delete()
    run.set_state("stopped", epochs=1)
    run.delete()
    assert find_runs(tmp_path) == [] and not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("name", ["config.yaml", "state.json", "checkpoint_099.pth", "run.json"])
def test_a_folder_that_is_not_ours_is_not_deleted(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "thesis" / "chapters"
    folder.mkdir(parents=True)
    (folder / name).write_text("{}")
    with pytest.raises(RunError, match="left alone"):
        Run.open(folder).delete()
    assert (folder / name).exists()


DAMAGED = ("[1]", "null", '{"status": 3}', '{"status": "running", "process": {"pid": 1}}', "{")


@pytest.mark.parametrize("content", DAMAGED)
@pytest.mark.parametrize("name", ["state.json", "run.json", "exit.json", "progress.json", "metrics.jsonl"])
def test_damaged_files_never_hide_a_run(run: Run, tmp_path: Path, name: str, content: str) -> None:
    run.set_state("running", epochs=2, process=ProcessIdentity.of())
    (run.path / name).write_text(content + "\n")
    (summary,) = list_runs(tmp_path)
    assert summary.id == "experiment/run" and run.metrics() == []


def test_a_summary_names_the_best_epoch(run: Run) -> None:
    for epoch, accuracy in enumerate((0.5, 0.75, 0.6), start=1):
        run.append_metrics({"epoch": epoch, "test_recording_accuracy": accuracy})
    summary = run.summary()
    assert summary.best_recording_accuracy == 0.75 and summary.last["epoch"] == 3
    assert json.dumps(dict(summary.last))
