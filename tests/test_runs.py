"""A run directory: its state is what the evidence shows, its files are whole or not there."""

import json
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pianistid_core.errors import RunError
from pianistid_core.processes import ProcessIdentity
from pianistid_core.run_folder import ENDING
from pianistid_core.run_log import LogFile
from pianistid_core.runs import STARTING, Confusion, RecordingOutcome, Run, RunLabels, find_runs, list_runs
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


@pytest.mark.parametrize(
    "name",
    [
        "nothing/here",
        "run",
        ".hidden/run",
        "experiment/.run",
        "../x",
        "experiment/..",
        "experiment/../../etc",
        "a/b/c",
        "",
    ],
)
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


def test_a_trainer_that_has_not_spoken_is_its_launchers_matter_while_that_lives(run: Run) -> None:
    """One that fails at once is gone a moment before its launcher says so, and was not interrupted meanwhile."""
    mine = ProcessIdentity.of()
    assert mine is not None
    gone = ProcessIdentity(mine.pid, "123", mine.boot)
    for launcher, child, status in ((mine, gone, "running"), (gone, mine, "running"), (gone, gone, "interrupted")):
        run.set_state("running", STARTING, epochs=3, process=launcher, child=child)
        assert run.state().status == status


def test_a_run_that_ends_while_its_state_is_read_was_never_interrupted(run: Run) -> None:
    def live_and_end() -> None:
        for _ in range(300):
            run.set_state("running", epochs=1, process=ProcessIdentity.of())
            run.set_state("finished", epochs=1)

    run.set_state("finished", epochs=1)
    with ThreadPoolExecutor(1) as pool:
        life = pool.submit(live_and_end)
        seen = {run.state().status for _ in iter(life.done, True)}
    assert life.result() is None and seen <= {"running", "finished"}


def test_a_start_that_came_to_nothing_is_a_failure(run: Run) -> None:
    run.set_state("queued", STARTING, epochs=3)
    assert run.state().status == "queued"
    said = json.loads((run.path / "state.json").read_text())
    early = {**said["said"], "clock_s": said["said"]["clock_s"] - 3600}
    for then in (early, {**said["said"], "boot": "of another day"}, None, {"clock_s": "soon"}):
        run.save_json("state.json", said | {"said": then})
        assert run.state().status == "failed" and "never started" in run.state().reason


@pytest.mark.parametrize("days", [-1, 1, 36500])
def test_a_clock_that_is_set_changes_no_state(run: Run, monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    run.set_state("queued", STARTING, epochs=3)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86400 * days)
    assert run.state().status == "queued"
    run.set_state("running", epochs=3, process=ProcessIdentity.of())
    monkeypatch.setattr(time, "time", lambda: now - 86400 * days)
    assert run.state().status == "running" and run.state().silent_s is None


def test_a_run_has_not_ended_before_its_supervisor_has(run: Run) -> None:
    """Which stays until nothing of the run is left, and writes down how the trainer ended."""
    supervisor = sleeping_process()
    gone = replace(ProcessIdentity.of(), started="1")  # type: ignore[type-var]
    run.set_state("running", epochs=3, process=gone, supervisor=ProcessIdentity.of(supervisor.pid))
    run.set_exit(-9)
    assert (run.state().status, run.state().reason) == ("running", ENDING) and run.is_due()
    run.set_state("stopped", "as asked", epochs=3)
    assert (run.state().status, run.state().reason) == ("running", ENDING)
    supervisor.kill()
    supervisor.wait()
    assert (run.state().status, run.state().reason) == ("stopped", "as asked")


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
    Run.create(tmp_path, "experiment", "other").set_state("finished", epochs=1)
    whole = b'{"status": "finished", "reason": "", "epochs": 1, "process": null}'
    damaged = [
        b"",
        b"{",
        whole[:-9],
        b"[]",
        b"7",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        whole.replace(b"finished", b"paused"),
    ]
    damaged += [b'{"status": ["finished"]}', b"{}", b'{"schema": 99, "state": {"status": "finished"}}']
    for text in damaged:
        (run.path / "state.json").write_bytes(text)
        state = run.state()
        assert state.status == "interrupted" and "state.json is damaged" in state.reason, text
        assert sorted(one.state.status for one in list_runs(tmp_path)) == ["finished", "interrupted"]
    (run.path / "state.json").unlink()
    (run.path / "state.json").mkdir()
    assert "state.json is damaged" in run.state().reason


@pytest.mark.parametrize(
    "process",
    [
        *(7, "1", [], {"pid": -1}),
        *({"pid": pid, "started": "1", "boot": "b"} for pid in (0, "1", 10**12)),
        {"pid": 1, "started": 1, "boot": None},
    ],
)
def test_a_process_of_another_type_is_none(run: Run, process: object) -> None:
    said = {
        "status": "running",
        "reason": 7,
        "epochs": "many",
        "started": "now",
        "supervisor": process,
        "said": process,
    }
    run.save_json("state.json", said | {"process": process, "child": process})
    state = run.state()
    assert (state.status, state.epochs, state.started) == ("interrupted", 0, None)
    assert run.trainer() is None and run.supervisor() is None


def test_who_starts_moves_or_deletes_a_run_is_alone_in_that(run: Run) -> None:
    inside, seen = threading.Event(), []

    def other() -> None:
        inside.set()
        with pytest.raises(RunError, match="is gone"), run.launching():
            seen.append("in a folder that is not there")

    with ThreadPoolExecutor(1) as pool, run.launching():
        waiting = pool.submit(other)
        inside.wait()
        run.path.rename(run.path.with_name("away"))
    waiting.result()
    assert seen == [] and not run.path.exists()


def test_confusion_matrices_are_kept_as_data_and_picture(run: Run) -> None:
    run.save_confusion(5, Confusion(("a", "b"), np.array([[3, 1], [0, 2]])))
    assert run.confusions()["epoch_005"].counts.tolist() == [[3, 1], [0, 2]]
    assert (run.path / "figures" / "epoch_005_confusionmatrix.png").read_bytes().startswith(b"\x89PNG")


OUTCOMES = (RecordingOutcome("jtd/one", 0, 1, 0.625), RecordingOutcome("jtd/two", 1, 1, 1.0))


def test_a_confusion_matrix_knows_its_recordings(run: Run) -> None:
    confusion = Confusion(("a", "b"), np.array([[0, 1], [0, 1]]), OUTCOMES)
    run.save_confusion(5, confusion)
    loaded = run.confusion("epoch_005")
    assert loaded is not None and loaded.recordings == OUTCOMES
    assert loaded.in_cell(0, 1) == OUTCOMES[:1] and loaded.in_cell(1, 0) == ()


def test_matrices_are_in_the_order_of_training(run: Run) -> None:
    for name in (1000, 5, 995, "validation", "test"):
        run.save_confusion(name, Confusion(("a", "b"), np.eye(2, dtype=np.int64)))
    (run.path / "confusion" / ".epoch_006.json.1.tmp").write_text("{")
    (run.path / "confusion" / "epoch_007.txt").write_text("")
    names = ["epoch_005", "epoch_995", "epoch_1000", "test", "validation"]
    assert run.confusion_names() == names == list(run.confusions())
    assert Run(run.path / "gone").confusion_names() == []


@pytest.mark.parametrize(
    ("content", "recordings"),
    [
        ('{"class_names": ["a", "b"], "counts": [[1, 0], [0, 1]]}', ()),  # of an older version
        ('{"class_names": ["a", "b"], "counts": [[1, 0], [0, 1]], "recordings": [{"track": "t", "true": 0}]}', ()),
        ('{"class_names": ["a", "b"], "counts": [[1, 0], [0, 1]], "recordings": "all"}', ()),
        (
            '{"class_names": ["a", "b"], "counts": [[1, 0], [0, 1]], "recordings": '
            '[{"track": "t", "true": 0, "heard": 2, "probability": 1}]}',
            (),
        ),
    ],
)
def test_matrices_of_older_versions_and_of_damaged_lists_load(run: Run, content: str, recordings: object) -> None:
    (run.path / "confusion" / "epoch_001.json").write_text(content)
    confusion = run.confusion("epoch_001")
    assert confusion is not None and confusion.counts.tolist() == [[1, 0], [0, 1]]
    assert confusion.recordings == recordings


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"class_names": ["a"], "counts": [[1, 2]]}',
        '{"class_names": 3, "counts": []}',
        '{"class_names": ["a"], "counts": [[-1]]}',
        '{"class_names": ["a"], "counts": [["x"]]}',
        '{"counts": [[1]]}',
    ],
)
def test_a_damaged_matrix_is_none(run: Run, content: str) -> None:
    (run.path / "confusion" / "epoch_001.json").write_text(content)
    assert run.confusion("epoch_001") is None and run.confusions() == {}


@pytest.mark.parametrize("name", ["../run", "epoch_001/../../x", "nothing", "", "/etc/passwd"])
def test_a_name_that_is_no_matrix_gives_none(run: Run, name: str) -> None:
    assert run.confusion(name) is None


def test_the_log_shows_what_a_terminal_would(run: Run) -> None:
    (run.path / "log.txt").write_text("one\n10 %\r50 %\r100 %\ntwo\n")
    assert run.log_tail(2) == "100 %\ntwo"


def test_the_lines_of_a_log_have_levels_and_a_traceback_belongs_to_its_error(run: Run) -> None:
    (run.path / "log.txt").write_text(
        "plain words\n"
        "2026-01-02 03:04:05,678 INFO epoch 1/2: fine\n"
        "10 %\r\x1b[32m50 %\x1b[0m\r100 %\r\n"
        "2026-01-02 03:04:06,678 WARNING a clip was left out\n"
        "2026-01-02 03:04:07,678 ERROR run failed: no\n"
        "Traceback (most recent call last):\n"
        '  File "x.py", line 1\n'
        "ValueError: no\n"
        "2026-01-02 03:04:08,678 CRITICAL the end"
    )
    lines = run.log_lines()
    assert [line.number for line in lines] == list(range(1, 10))
    assert [line.level for line in lines] == ["INFO"] * 3 + ["WARNING"] + ["ERROR"] * 5
    assert lines[0].text == "plain words" and lines[2].text == "100 %" and lines[8].text.endswith("the end")
    found, n = run.log_page(level="WARNING")
    assert n == 6 and found == lines[3:]
    assert run.log_page(contains="LINE 1") == (lines[4:8], 4)  # a hit in a traceback shows all of it
    assert run.log_page(contains="fine") == (lines[1:3], 2)
    assert run.log_page(level="ERROR", contains="fine") == ([], 0)
    assert run.log_page(last=2) == (lines[-2:], 9) and run.log_page(last=0) == ([], 9)


def test_a_log_is_followed_from_the_last_line_known(run: Run) -> None:
    assert run.log_lines() == [] and run.log_page() == ([], 0)
    with (run.path / "log.txt").open("a") as file:
        file.write("one\ntwo\n")
        file.flush()
        known = run.log_lines()
        assert [line.text for line in known] == ["one", "two"]
        file.write("three\nfo")
        file.flush()
        assert [line.text for line in run.log_lines(known[-1].end)] == ["three", "fo"]
    (run.path / "log.txt").write_text("anew\n")
    assert [line.text for line in run.log_lines(known[-1].end)] == ["anew"]


def test_a_torn_line_of_a_log_is_shown_and_completed(run: Run) -> None:
    whole = "2026-01-02 03:04:05,678 ERROR it broke\nTraceback\n10 %\r50 %\nend\n"
    for character in whole:
        with run.log_path.open("a") as file:
            file.write(character)
        run.log_lines()
    lines = run.log_lines()
    assert [(line.number, line.text) for line in lines[1:]] == [(2, "Traceback"), (3, "50 %"), (4, "end")]
    assert {line.level for line in lines} == {"ERROR"} and [line.belongs for line in lines] == [False, True, True, True]
    assert LogFile(run.log_path).lines() == lines


def test_of_a_growing_log_only_what_is_new_is_read_and_only_the_end_is_kept(run: Run) -> None:
    log = LogFile(run.log_path, max_bytes=4000)
    with run.log_path.open("a") as file:
        for number in range(2000):
            file.write(f"line {number}\n")
            if number % 50 == 0:
                file.flush()
                log.lines()
    lines = log.lines()
    assert lines[-1].text == "line 1999" and 300 < len(lines) < 600
    numbers = [int(line.text.split()[1]) for line in lines]
    assert numbers == list(range(numbers[0], 2000))
    assert log.bytes_read < 2 * run.log_path.stat().st_size


def test_of_a_huge_log_only_the_end_is_read(run: Run) -> None:
    with (run.path / "log.txt").open("wb") as file:
        file.truncate(1 << 30)  # a gigabyte of nothing, on most file systems without taking any room
        file.seek(0, 2)
        file.write(b"\n2026-01-02 03:04:05,678 ERROR the last line\n")
    tracemalloc.start()
    lines, n = run.log_page(level="ERROR")
    assert [line.text for line in lines] == ["2026-01-02 03:04:05,678 ERROR the last line"] and n == 1
    assert run.log_tail(1) == lines[0].text
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("said", "reason", "code", "logged", "kind", "hint"),
    [
        (None, "the device ran out of memory; lower batch_size (now 20)", 1, "", "out of memory", "batch_size"),
        (None, "its process ended", 1, "torch.cuda.OutOfMemoryError: no more", "out of memory", "batch_size"),
        (None, "the loss is nan in epoch 3, batch 7: training has diverged", 1, "", "loss is not a number", "lr"),
        (None, "a file is missing: /data/x.mid", 1, "", "missing file", "Put the file back"),
        (None, "OSError: [Errno 28] No space left on device", 1, "", "disk full", "Free some disk space"),
        (None, "no clip of the training part could be drawn; the first: no chords", 1, "", "bad data", "data check"),
        ("bad data", "this file is odd", 1, "out of memory", "bad data", "data check"),
        (None, "KeyError: 'x'", 1, "2026-01-02 03:04:05,678 ERROR run failed: KeyError", "other", "log"),
        ("no such kind", "KeyError: 'x'", None, "", "other", "log"),
        (None, "its process was killed by signal 9 (SIGKILL)", -9, "out of memory", "killed", "memory runs out"),
        (None, "its process was killed by signal 11 (SIGSEGV)", -11, "", "killed", "Resume"),
    ],
)  # fmt: skip
def test_a_failed_run_says_why_in_words(
    run: Run, said: str | None, reason: str, code: int | None, logged: str, kind: str, hint: str
) -> None:
    run.set_state("failed", reason, epochs=3, failure=said)
    if code is not None:
        run.set_exit(code)
    (run.path / "log.txt").write_text("before\n" * 50 + logged)
    failure = run.failure()
    assert failure is not None
    assert (failure.kind, failure.words) == (kind, reason) and hint in failure.hint
    assert len(failure.last_lines) <= 20 and failure.last_lines[-1] == (logged or "before")


def test_a_killed_run_is_a_failure_by_that_signal_and_others_are_none(run: Run) -> None:
    process = sleeping_process()
    run.set_state("running", epochs=3, process=ProcessIdentity.of(process.pid))
    assert run.failure() is None
    process.kill()
    run.set_exit(process.wait())
    failure = run.failure()
    assert failure is not None and failure.kind == "killed" and "signal 9 (SIGKILL)" in failure.words
    run.set_state("finished", epochs=3)
    assert run.failure() is None


def test_labels_are_kept_without_stray_spaces_and_repetitions(run: Run) -> None:
    assert run.labels() == RunLabels()
    run.set_labels(RunLabels((" baseline ", "Baseline", "two  words", ""), "a\r\nb \n", starred=True))
    assert run.labels() == RunLabels(("baseline", "two words"), "a\nb", starred=True)
    assert run.summary().labels.starred


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (RunLabels(tuple(map(str, range(21)))), "at most 20"),
        (RunLabels(("x" * 41,)), "at most 40"),
        (RunLabels(("a,b",)), "comma"),
        (RunLabels(("a\x1bb",)), "control character"),
        (RunLabels(("a\u202eb",)), "control character"),
        (RunLabels(note="x" * 4001), "at most 4,000"),
        (RunLabels(note="a\0b"), "control character"),
    ],
)
def test_labels_that_are_not_allowed_are_refused(run: Run, labels: RunLabels, words: str) -> None:
    with pytest.raises(RunError, match=words):
        run.set_labels(labels)
    assert run.labels() == RunLabels()


def test_threads_that_label_one_run_do_not_collide(run: Run) -> None:
    def label(number: int) -> None:
        for _ in range(30):
            run.set_labels(RunLabels((str(number),)))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(label, range(4)))
    assert len(run.labels().tags) == 1 and not list(run.path.glob(".*"))


def test_of_changes_to_labels_at_once_none_is_lost(run: Run) -> None:
    def tag(number: int) -> None:
        for mine in range(3):
            name = f"{number}-{mine}"
            run.relabel(lambda labels, name=name: RunLabels((*labels.tags, name)))  # type: ignore[misc]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(tag, range(4)))
    assert sorted(run.labels().tags) == [f"{number}-{mine}" for number in range(4) for mine in range(3)]


def test_a_change_of_labels_does_not_bring_back_a_run_that_is_gone(run: Run) -> None:
    run.delete()
    with pytest.raises(RunError, match="deleted"):
        run.relabel(lambda labels: labels)
    assert not run.path.exists()


def test_labels_of_a_run_that_is_gone_are_refused(run: Run) -> None:
    run.delete()
    with pytest.raises(RunError, match="deleted"):
        run.set_labels(RunLabels(starred=True))


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"tags": "abc"}', '{"tags": [1, {}], "note": []}', '{"tags": ["\\u0000"]}']
)
def test_damaged_labels_are_none(run: Run, content: str) -> None:
    (run.path / "labels.json").write_text(content)
    assert run.labels() == RunLabels()


def test_a_stop_is_asked_for_and_forgotten(run: Run) -> None:
    assert run.stop_request() is None
    run.request_stop("finish")
    assert run.stop_request() == "finish"
    (run.path / "stop").write_bytes(b"\xff\xfe")
    assert run.stop_request() == "save", "a request that cannot be read is one to stop"
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
    assert summary.sparkline == (0.5, 0.75, 0.6) and summary.seconds == 0.0


def test_a_long_run_is_summed_up_from_all_its_epochs(run: Run) -> None:
    rows = [
        {"epoch": epoch, "test_recording_accuracy": 0.1 + (epoch == 77) / 2, "seconds": 2} for epoch in range(1, 1001)
    ]
    run.metrics_path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = run.summary()
    assert summary.best_recording_accuracy == 0.6 and summary.seconds == 2000 and 15 <= len(summary.sparkline) <= 30
    assert run.epochs_done() == 1000


def test_the_state_of_a_long_run_is_told_from_the_end_of_its_metrics(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.set_state("finished", epochs=10**5)
    run.metrics_path.write_bytes(b"".join(b'{"epoch": %d}\n' % epoch for epoch in range(1, 10**5 + 1)))
    monkeypatch.setattr(Run, "metrics", lambda self: pytest.fail("all metrics were read"))
    tracemalloc.start()
    assert run.state().epoch == 10**5
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_hidden_folders_hold_no_runs(run: Run, tmp_path: Path) -> None:
    for name in (".trash", "experiment/.deleted-run-1"):
        (tmp_path / name / "run").mkdir(parents=True)
        (tmp_path / name / "run.json").write_text("{}")
        (tmp_path / name / "run" / "run.json").write_text("{}")
    assert [found.id for found in find_runs(tmp_path)] == ["experiment/run"]
