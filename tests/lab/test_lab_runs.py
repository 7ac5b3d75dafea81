"""Runs: one run in every state, its tabs, its buttons, and what is said of it."""

import os
import shutil
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import run_checkpoints
import run_curves
import run_log_view
from lab_support import a_run, charts_of, lab, words, yaml_of
from pianistid_core import trash
from pianistid_core.calibration import CALIBRATION_FILE, Calibration
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import RunError
from pianistid_core.metrics_log import MetricsLog
from pianistid_core.processes import ProcessIdentity
from pianistid_core.runs import Run, RunLabels

PAGE = "views/runs.py"


def one(root: Path, monkeypatch: pytest.MonkeyPatch, tab: str = "Curves", run: str = "study/one") -> AppTest:
    return lab(root, monkeypatch, PAGE, run=run, run_tab=tab)


def figures(at: AppTest) -> dict[str, str]:
    return {metric.label: metric.value.replace("\\", "") for metric in at.metric}


@pytest.mark.parametrize("status", ["queued", "running", "finished", "stopped", "failed", "interrupted"])
@pytest.mark.parametrize("done", [0, 3])
def test_a_run_in_every_state(status: str, done: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_run(tmp_path, "one", status, done=done, reason="its process was killed by SIGKILL" if status == "failed" else "")
    at = one(tmp_path, monkeypatch)
    assert at.selectbox(key="run").value == "study/one"
    assert figures(at)["Epoch"] == f"{done} / 20"
    if done:
        assert figures(at)["Recordings right"] == "60 %"
        assert len(charts_of(at)) == 3
    else:
        assert "No epoch yet" in words(at) + "".join(str(part.value) for part in at.subheader)
    if status == "failed":
        assert "killed by SIGKILL" in words(at)
    labels = {button.label for button in at.button}
    assert ("Stop and save" in labels) == (status in ("queued", "running"))
    assert ("Resume" in labels) == (status in ("stopped", "failed", "interrupted"))
    assert ("Trash" in labels) == (status not in ("queued", "running"))


@pytest.mark.parametrize(("seconds", "tick"), [([], 2.0), ([0.4] * 9, 2.0), ([9.0] + [6.0] * 5, 6.0), ([80.0], 10.0)])
def test_the_curves_are_looked_at_about_once_an_epoch(seconds: list[float], tick: float, tmp_path: Path) -> None:
    run = a_run(tmp_path, "one", "running", done=0)
    for epoch, length in enumerate(seconds, start=1):
        run.append_metrics({"epoch": epoch, "seconds": length})
    assert run_curves.tick_of(MetricsLog(run.metrics_path).refresh()) == tick


def test_the_address_bar_names_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two", "three"):
        a_run(tmp_path, name, "finished")
    at = lab(tmp_path, monkeypatch, PAGE, run="study/two")
    assert at.selectbox(key="run").value == "study/two"
    at.button(key="all_runs").click().run()
    assert at.selectbox(key="run").value is None
    assert len(at.dataframe[0].value) == 3


@pytest.mark.parametrize("asked", ["study/gone", "../../etc", "nothing", "study/![x](http:x)"])
def test_a_run_that_is_not_here_is_named(asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_run(tmp_path, "one", "finished")
    gone = lab(tmp_path, monkeypatch, PAGE, run=asked)
    assert f"There is no run {asked}" in words(gone)
    assert len(gone.dataframe[0].value) == 1


def test_a_run_deleted_in_another_tab_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path, "one", "finished")
    a_run(tmp_path, "two", "finished")
    at = one(tmp_path, monkeypatch)
    thrown = trash.discard(run)
    at.run()
    assert not at.exception
    assert "Run study/one is in the trash" in words(at)
    at.button(key="restore_asked").click().run()
    assert at.selectbox(key="run").value == "study/one"
    assert trash.discarded(tmp_path / "checkpoints") == []
    shutil.rmtree(run.path)
    at.run()
    assert not at.exception
    assert "There is no run study/one" in words(at)
    assert thrown.run_id == "study/one"


@pytest.mark.parametrize("kind", ["save", "finish", "discard"])
def test_stop_is_asked_of_the_run_and_shown_until_it_is_true(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(tmp_path, "one", "running")
    run.set_progress(phase="train", epoch=4, epochs=20, batch=5, batches=10, eta_s=90.0, loss=1.25, clips_per_second=30)
    at = one(tmp_path, monkeypatch)
    assert "Epoch 4 of 20: training, batch 5 of 10, loss so far 1.250, 30 clips a second" in bar(at)
    assert "About 1 min 30 s left" in bar(at)
    at.button(key=f"stop_{kind}").click().run()
    assert not at.exception
    assert run.stop_request() == kind
    assert "Stopping" in words(at)
    assert bar(at).startswith(("Stopping", "Finishing"))


def bar(at: AppTest) -> str:
    return next(str(one.proto.text) for one in at.get("progress") if "Epoch 4 of" in one.proto.text).replace("\\", "")


def test_a_run_goes_to_the_trash_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path, "one", "finished")
    at = one(tmp_path, monkeypatch)
    at.button(key="trash").click().run()
    assert not at.exception
    assert not run.path.exists()
    assert "1 run is in the trash: study/one" in words(at)
    at.button(key="undo_trash").click().run()
    assert run.path.is_dir()
    assert "undo_trash" not in [button.key for button in at.button]


def test_a_run_is_built_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_run(tmp_path, "one", "finished")
    at = one(tmp_path, monkeypatch)
    at.button(key="clone").click().run()
    assert not at.exception
    assert "experiment: study\n" in yaml_of(at)
    assert "run: one" in yaml_of(at)


def test_what_people_say_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path, "one", "finished")
    run.set_labels(RunLabels(tags=("baseline",), note="![x](http:x) **first**"))
    at = one(tmp_path, monkeypatch)
    assert "baseline" in words(at)
    note = next(str(caption.value) for caption in at.caption if "first" in str(caption.value))
    assert "\\!\\[x\\]" in note
    at.button(key="star").click().run()
    assert run.labels().starred
    at.text_area(key="note_study/one").set_value("a second thought").run()
    assert run.labels() == RunLabels(("baseline",), "a second thought", starred=True)
    at.multiselect(key="tags_study/one").set_value([]).run()
    assert run.labels().tags == ()
    at.button(key="archive").click().run()
    assert run.labels().archived
    assert not at.exception


def test_a_tag_that_somebody_else_added_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path, "shared", "finished")
    run.set_labels(RunLabels(tags=("first",)))
    at = lab(tmp_path, monkeypatch, "views/runs.py", run=run.id)
    run.relabel(lambda labels: RunLabels((*labels.tags, "theirs"), note="theirs"))
    at.multiselect(key=f"tags_{run.id}").set_value(["first", "mine"]).run()
    assert run.labels().tags == ("first", "theirs", "mine") and run.labels().note == "theirs"
    assert at.multiselect(key=f"tags_{run.id}").value == ["first", "theirs", "mine"]
    assert at.text_area(key=f"note_{run.id}").value == "theirs"
    at.multiselect(key=f"tags_{run.id}").set_value(["theirs"]).run()
    assert run.labels().tags == ("theirs",)


def test_a_failed_run_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path, "one", "failed", reason="CUDA out of memory. Tried to allocate 2 GiB")
    (run.path / "log.txt").write_text("".join(f"line {n} <b>\n" for n in range(60)))
    at = one(tmp_path, monkeypatch)
    assert "Why it failed: out of memory" in words(at)
    assert "The last 20 lines of its log" in [expander.label for expander in at.expander]
    assert "Lower batch_size" in words(at)
    shown = next(code.value for code in at.code if "line 59" in code.value).splitlines()
    assert shown == [f"line {n} <b>" for n in range(40, 60)]


def test_an_interrupted_run_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path, "one", "running")
    run.set_state("running", epochs=20, process=ProcessIdentity(pid=2**22 - 1, started="x", boot="another"))
    at = one(tmp_path, monkeypatch)
    assert "Why it ended" in words(at)
    assert "Resume to go on" in words(at)


def test_the_log_by_level_and_by_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path, "one", "finished")
    lines = [
        f"2026-01-01 10:00:0{n},000 {level} said {n}" for n, level in enumerate(["INFO", "WARNING", "ERROR", "INFO"])
    ]
    (run.path / "log.txt").write_text("\n".join(lines) + "\n")
    at = one(tmp_path, monkeypatch, "Log")

    def shown() -> list[str]:
        return [line for code in at.code if "said" in code.value for line in code.value.splitlines()]

    assert shown() == lines
    at.button_group(key="log_level").set_value("Warnings").run()
    assert shown() == lines[1:3]
    at.text_input(key="log_search").set_value("SAID 2").run()
    assert shown() == lines[2:3]
    at.text_input(key="log_search").set_value("nothing like it").run()
    assert shown() == []
    assert "No line of the log fits" in words(at)


def test_the_config_with_what_differs_from_its_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path, "one", "finished")
    text = (run.path / "config.yaml").read_text()
    (run.path / "config.yaml").write_text(text.replace("seed: 42", "seed: 7"))
    run.save_json("data.json", {"split": "demo", "parts": {"train": "abc"}})
    at = one(tmp_path, monkeypatch, "Config")
    tables = {tuple(table.value.columns): table.value for table in at.dataframe}
    changed = tables["Key", "Preset", "This run"]
    assert list(changed["Key"]) == ["seed"]
    assert list(changed["This run"]) == ["7"]
    assert "demo.yaml" in words(at)
    assert "parts, train" in list(tables["What", "Value"]["What"])


@pytest.mark.parametrize("tab", ["Curves", "Confusion matrix", "Log", "Config", "Checkpoints"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.jsonl", b'{"epoch": 1, "test_loss": 2.0}\n{"epoch": 2, "test_lo'),
        ("metrics.jsonl", b"\xff\xfe not json\n"),
        ("confusion/validation.json", b'{"class_names": ["a"], "counts": [[1, 2]]}'),
        ("config.yaml", b"experiment: [1, 2\n"),
        ("state.json", b"{"),
        ("labels.json", b"[1]"),
        ("progress.json", b'{"epoch": "x", "batches": "y"}'),
        ("evaluation/test.json", b'{"recording_accuracy": "x", "n_recordings": null}'),
        ("evaluation/test.json", b'{"recording_accuracy": 3, "n_recordings": 4}'),
        ("metrics.jsonl", b'{"epoch": 1, "test_loss": "x", "seconds": {}, "skipped": {"a": "b"}}\n'),
        ("metrics.jsonl", b'{"epoch": -3}\n{"epoch": 9, "seconds": 1e308}\n{"epoch": 10, "seconds": 1e308}\n'),
    ],
)
def test_damaged_files_are_said_and_never_a_traceback(
    tab: str, name: str, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(tmp_path, "one", "running")
    (run.path / name).parent.mkdir(exist_ok=True)
    (run.path / name).write_bytes(content)
    at = one(tmp_path, monkeypatch, tab)
    assert not at.exception
    assert at.selectbox(key="run").value == "study/one"


def test_a_run_with_markup_in_its_name_stays_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.create(tmp_path / "checkpoints", "study", "![x](http:x) <b>")
    run.set_state("running", epochs=3, process=ProcessIdentity.of(os.getpid()))
    at = lab(tmp_path, monkeypatch, PAGE, run=run.id)
    assert at.title[0].value == "study/\\!\\[x\\]\\(http\\:x\\) \\<b\\>".replace("/", "\\/")
    for element in (*at.markdown, *at.caption, *at.info, *at.error):
        assert "![x](" not in str(element.value)
    assert not at.exception


# --- checkpoints ---


def test_checkpoints_are_listed_and_one_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path, "one", "finished")
    for name in ("checkpoint_005.pth", "checkpoint_010.pth", "checkpoint_010_batch_00042.pth"):
        (run.path / name).write_bytes(b"x" * 2**20)
    at = one(tmp_path, monkeypatch, "Checkpoints")
    table = at.dataframe[0].value
    assert list(table["Epochs"]) == ["10, and 42 batches", "10", "5"]
    assert list(table["Size"]) == [1.0, 1.0, 1.0]
    at.selectbox(key="checkpoint_name").select("checkpoint_010.pth").run()
    at.button(key="checkpoint_delete").click().run()
    assert not at.exception
    assert [path.name for path in run.checkpoints()] == ["checkpoint_005.pth", "checkpoint_010_batch_00042.pth"]


def test_a_checkpoint_that_vanished_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path, "one", "finished")
    path = run.path / "checkpoint_005.pth"
    path.write_bytes(b"x")
    at = one(tmp_path, monkeypatch, "Checkpoints")
    path.unlink()
    at.button(key="checkpoint_delete").click().run()
    assert not at.exception
    assert "no checkpoint 'checkpoint_005.pth'" in words(at)


def test_what_vanished_is_said_when_it_is_asked_for_and_no_empty_file_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(tmp_path, "one", "finished")
    path = run.path / "checkpoint_005.pth"
    path.write_bytes(b"x")
    at = one(tmp_path, monkeypatch, "Checkpoints")
    path.unlink()
    at.get("download_button")[0].click().run()
    assert not at.exception
    assert "Checkpoint checkpoint_005.pth of study/one is not there" in words(at)
    at = one(tmp_path, monkeypatch, "Log")
    (run.path / "log.txt").unlink()
    at.get("download_button")[0].click().run()
    assert "The log of study/one is not there" in words(at)
    at = one(tmp_path, monkeypatch, "Curves")
    run.metrics_path.unlink()
    at.get("download_button")[0].click().run()
    assert "The table of epochs of study/one is not there" in words(at)
    with pytest.raises(OSError):
        run_checkpoints.opened(path)
    with pytest.raises(OSError):
        run_log_view.whole(run)
    with pytest.raises(RunError):
        run_curves.table(run)


def test_kept_evaluations_come_with_their_intervals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path, "one", "finished")
    run.save_json(
        "evaluation/test.json",
        {
            "part": "test", "checkpoint": "/x/checkpoint_020.pth", "recording_accuracy": 0.8, "n_recordings": 10,
            "clip_accuracy": 0.71, "baseline": {"recording_accuracy": 0.25},
        },
    )  # fmt: skip
    at = one(tmp_path, monkeypatch, "Checkpoints")
    row = at.dataframe[0].value.iloc[0]
    assert row["Recordings right"] == "8 of 10 (80.0 %)"
    assert row["Interval"] == "49 % to 94 %"
    assert row["Always the commonest"] == "25.0 %"


def test_an_evaluation_that_is_damaged_is_a_row_of_dashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path, "one", "finished")
    damaged = {
        "recording_accuracy": "x",
        "n_recordings": 3,
        "clip_accuracy": "no",
        "baseline": {"recording_accuracy": []},
    }
    run.save_json("evaluation/test.json", damaged)
    at = one(tmp_path, monkeypatch, "Checkpoints")
    row = at.dataframe[0].value.iloc[0]
    assert [row[name] for name in ("Recordings right", "Clips right", "Always the commonest")] == ["—"] * 3


def test_a_calibration_is_drawn_and_a_damaged_one_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path, "one", "finished")
    measured = {"ece": 0.03, "coverage": 0.9, "candidates": 1.5, "bins": [[0.4, 3, 9], [0.9, 18, 20]]}
    kept = Calibration(1.0, 1.0, 0.0, ((1, 0.1),), part="<b>test</b>", n_recordings=29, measured=measured)
    run.save_json(CALIBRATION_FILE, {"calibration": kept.to_dict()})
    at = one(tmp_path, monkeypatch, "Checkpoints")
    captions = " ".join(caption.value for caption in at.caption)
    said = captions.replace("\\", "")
    assert "error: 3.0 %" in said and "1.5 on average" in said and "\\<b" in captions
    assert any("Said and true" in header.value for header in at.subheader)
    run.save_json(CALIBRATION_FILE, {"calibration": {**kept.to_dict(), "power": "x"}})
    at = one(tmp_path, monkeypatch, "Checkpoints")
    assert any("calibrate the model again" in warning.value for warning in at.warning)


def test_a_checkpoint_is_measured_in_a_process_of_its_own(trained_root: DataRoot) -> None:
    run = Run.find(trained_root.checkpoints_dir, "demo/tiny")
    seen: list[tuple[int, int]] = []
    data = run_checkpoints.evaluate(
        run.latest_checkpoint(), "test", trained_root, lambda done, total: seen.append((done, total))
    )
    assert data["n_recordings"] == sum(map(sum, data["confusion"]["counts"]))
    assert run_checkpoints.measured(data)["Checkpoint"] == run.latest_checkpoint().name
    assert all(0 <= done <= total for done, total in seen)


def test_a_checkpoint_that_cannot_be_measured_says_why(tmp_path: Path) -> None:
    run = a_run(tmp_path, "one", "finished")
    with pytest.raises(RunError, match="not there any more"):
        run_checkpoints.evaluate(run.path / "checkpoint_001.pth", "test", DataRoot(tmp_path))
    (run.path / "checkpoint_001.pth").write_bytes(b"no checkpoint")
    with pytest.raises(RunError, match="checkpoint_001"):
        run_checkpoints.evaluate(run.path / "checkpoint_001.pth", "test", DataRoot(tmp_path))
