"""Home: an empty data root, the guided path, what is running, the next step."""

import contextlib
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import cached
import home_devices
import home_tour
import jobs
import state
from home_devices import Device, parse_gpus
from lab_support import HOME, PAGES, a_run, lab, many_runs, words
from pianistid_core import launch
from pianistid_core.config import load_config
from pianistid_core.datasets.root import DataRoot
from pianistid_core.run_index import RunIndex
from pianistid_core.run_queue import RunQueue
from pianistid_core.runs import Run
from tiny import until


def figures(at: AppTest) -> dict[str, str]:
    return {metric.label: metric.value.replace("\\", "") for metric in at.metric}


def links(at: AppTest) -> dict[str, tuple[str, str]]:
    """The labels of a page's links, with their pages and what they put into the address."""
    found: dict[str, tuple[str, str]] = {}
    for link in at.get("page_link"):
        found[str(link.proto.label).replace("\\", "")] = (link.proto.page, link.proto.query_string)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_an_empty_root_says_what_to_do(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(tmp_path / "nothing", monkeypatch, page)
    assert len(at.title) == 1
    assert not (tmp_path / "nothing").exists(), "looking at a page creates nothing"


def test_the_path_begins_with_demo_data_and_goes_on_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(tmp_path / "home", monkeypatch)
    assert at.button(key="train_demo").disabled
    at.button(key="make_demo").click().run()
    until(lambda: not at.run().button(key="train_demo").disabled)
    assert not at.exception
    assert "demo" in DataRoot(tmp_path / "home").split_names()
    assert "Look and listen" in links(at)


def test_a_run_that_trains_is_here_though_it_is_archived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path, "away", "running")
    run.set_labels(replace(run.labels(), archived=True))
    at = lab(tmp_path, monkeypatch)  # which never ended when page and live part counted other runs
    assert figures(at)["Training now"] == "1"
    assert not at.exception


def test_training_is_one_click_and_is_watched_in_place(demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(demo_root, monkeypatch)
    at.button(key="train_demo").click().run()
    run = Run.find(demo_root.checkpoints_dir, "demo/demo")
    try:
        assert not at.exception
        assert run.state().status in ("queued", "running")
        assert at.title[0].value.startswith("Who is playing")
        assert links(at)["See how it learns"][1] == "run=demo%2Fdemo"
        assert at.button(key="identify_demo").disabled
    finally:
        launch.stop_and_wait(run, "discard")
        run.delete()


def test_the_last_step_identifies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path, "demo", "finished")
    run.path.parent.rename(tmp_path / "checkpoints" / "demo")
    at = lab(tmp_path, monkeypatch)
    assert "names 60 % of the test recordings" in words(at)
    at.button(key="identify_demo").click().run()
    assert not at.exception
    assert at.query_params["model"] == "demo/demo"
    assert at.query_params["example"] == "demo"


@pytest.mark.parametrize("status", ["interrupted", "stopped", "failed"])
def test_a_demo_that_ended_early_can_be_used_and_goes_on(
    status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_run(tmp_path, "demo", status).path.parent.rename(tmp_path / "checkpoints" / "demo")
    started: list[str] = []
    monkeypatch.setattr(
        launch, "start", lambda config, root, cluster: started.append(f"{config.experiment}/{config.run}")
    )
    at = lab(tmp_path, monkeypatch)
    assert not at.button(key="identify_demo").disabled
    assert at.button(key="train_demo").label == "Go on from epoch 3"
    at.button(key="train_demo").click().run()
    assert started == ["demo/demo"]


def test_a_root_that_cannot_be_written_says_why_no_demo_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DataRoot, "writable", lambda self: False)
    at = lab(tmp_path, monkeypatch)
    assert at.button(key="make_demo").disabled
    assert "cannot be written" in words(at)


@pytest.mark.parametrize(
    ("splits", "status", "making", "stage"),
    [
        ([], None, False, "make"), ([], None, True, "making"), (["demo"], None, False, "train"),
        (["demo"], "queued", False, "training"), (["demo"], "running", False, "training"),
        (["demo"], "failed", False, "train"), (["demo"], "finished", False, "identify"),
    ],
)  # fmt: skip
def test_how_far_the_path_is(splits: list[str], status: Any, making: bool, stage: str, tmp_path: Path) -> None:
    if status:
        done = 3 if status == "finished" else 0
        a_run(tmp_path, "demo", status, done=done).path.parent.rename(tmp_path / "checkpoints" / "demo")
    runs = RunIndex(tmp_path / "checkpoints").summaries()
    assert home_tour.tour_of(splits, runs, making=making).stage == stage


def test_what_trains_is_shown_with_its_progress_and_the_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(tmp_path, "busy", "running")
    run.set_progress(phase="train", epoch=4, batch=1, batches=2, eta_s=125.0)
    at = lab(tmp_path, monkeypatch)
    assert figures(at)["Training now"] == "1"
    bars = [bar.proto for bar in at.get("progress")]
    shown = [bar.text.replace("\\", "") for bar in bars]
    assert any("study/busy: Epoch 3 of 20, 2 min 05 s left" in text and "60 %" in text for text in shown)
    assert all(bar.value == 15 for bar in bars)
    assert "study/busy is training" in words(at)
    at.button(key="next").click().run()
    assert at.query_params["run"] == "study/busy"


def test_the_queue_is_counted_and_a_paused_one_is_the_next_step(
    demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = RunQueue(demo_root)
    queue.pause()
    try:
        entries = queue.add([load_config("demo.yaml", overrides=["run=waits"])])
        at = lab(demo_root, monkeypatch)
        assert "1 waiting" in words(at)
        assert "the queue is paused" in words(at)
        assert at.button(key="next").label == "Open the queue"
    finally:
        queue.remove(entries[0].id)
        queue.unpause()


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_a_run_that_ended_early_is_the_next_step(status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_run(tmp_path, "broken", status, reason="the loss is not a number")
    at = lab(tmp_path, monkeypatch)
    assert "study/broken ended early" in words(at)
    assert at.button(key="next").label == "See why"


def test_results_lead_to_their_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many_runs(tmp_path, 12)
    at = lab(tmp_path, monkeypatch)
    shown = links(at)
    assert shown["study-4/run-0011"][1] == "run=study-4%2Frun-0011"
    assert "study-0/run-0000" not in shown, "only the newest"
    assert "12 runs, 12 with results" in words(at)


def test_a_long_queue_hides_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_run(tmp_path, "waits-0", "queued", done=0)
    at = lab(tmp_path, monkeypatch)
    assert "Last results" not in [header.value for header in at.header]
    a_run(tmp_path, "done", "finished")
    for number in range(1, 7):
        a_run(tmp_path, f"waits-{number}", "queued", done=0)
    at.run()
    assert "study/done" in links(at)
    assert "study/waits-1" not in links(at)


def test_data_sets_lead_to_their_page(demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(demo_root, monkeypatch)
    assert links(at)["demo"] == ("data", "split=demo")
    assert "8 pianists, 32 recordings" in words(at)


def test_foreign_names_stay_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path, "nice", "failed", reason="![x](http://evil.example/x.png) <b>bold</b>")
    at = lab(tmp_path, monkeypatch)
    assert run.id in words(at)
    shown = [str(element.value) for element in at.markdown]
    assert not any("![x](" in text or "<b>" in text for text in shown)


def test_a_split_that_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "references" / "data_splits" / "torn"
    folder.mkdir(parents=True)
    (folder / "train_split.csv").write_text("no,such,columns\n")
    at = lab(tmp_path, monkeypatch)
    assert "torn cannot be read" in words(at)


def test_a_data_folder_that_vanishes_is_no_traceback(
    demo_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "home"
    (root / "data").mkdir(parents=True)
    a_run(root, "was", "finished")
    at = lab(root, monkeypatch)
    root.rename(tmp_path / "elsewhere")
    at.run()
    assert not at.exception
    assert figures(at)["Runs"] == "0"
    root.write_text("a file in its place")
    at.run()
    assert not at.exception
    assert "is a file, not a folder" in words(at)


def test_a_file_in_place_of_the_root_is_said_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("no folder")
    monkeypatch.setenv("PIANISTID_HOME", str(path))
    at = AppTest.from_file(str(HOME), default_timeout=60).run()
    assert not at.exception
    assert "is a file, not a folder" in words(at)


def folder_field(at: AppTest) -> Any:
    return next(field for field in at.text_input if field.key and field.key.startswith("root_folder:"))


def test_another_root_can_be_chosen(demo_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(tmp_path / "nothing", monkeypatch)
    folder_field(at).set_value(str(demo_root.path))
    at.button(key="root_use").click().run()
    at.switch_page("views/data.py").run()
    assert not at.exception
    assert at.selectbox(key="split").value == "demo"
    folder_field(at).set_value("")
    at.button(key="root_use").click().run()
    assert folder_field(at).value == str(tmp_path / "nothing"), "empty is the default, and it is shown"
    folder_field(at).set_value("")
    at.button(key="root_use").click().run()
    assert folder_field(at).value == str(tmp_path / "nothing"), "also where it was in use before"


def test_a_folder_that_is_not_there_is_taken_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(tmp_path, monkeypatch)
    folder_field(at).set_value(str(tmp_path / "mistyped"))
    at.button(key="root_use").click().run()
    assert "where nothing is yet" in at.toast[0].value


def test_a_folder_chosen_in_another_tab_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(tmp_path, monkeypatch)
    state.choose_data_root(str(tmp_path / "other"))
    at.run()
    assert folder_field(at).value == str(tmp_path / "other")
    assert folder_field(at).proto.default == str(tmp_path / "other"), "a popover that opens later shows nothing else"


def test_the_draft_of_another_folder_is_not_looked_for(
    demo_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = lab(DataRoot(tmp_path / "home", tmp_path / "cache"), monkeypatch, "views/build.py")
    folder_field(at).set_value(str(demo_root.path))
    at.button(key="root_use").click().run()
    assert not at.exception
    assert "is not here any more" not in words(at)


def test_gpus_are_read_from_the_drivers_tool() -> None:
    text = "NVIDIA A100, 40GB, 73, 1024, 40960\nQuadro, [N/A], 10, 20\nnonsense\n"
    assert parse_gpus(text) == (
        Device("GPU", "NVIDIA A100, 40GB", 0.73, 1 << 30, 40 << 30),
        Device("GPU", "Quadro", None, 10 << 20, 20 << 20),
    )


def test_a_gpu_is_shown_with_its_use_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached, "read_devices", lambda: (Device("GPU", "A100", 0.73, 1 << 30, 40 << 30),))
    at = lab(tmp_path, monkeypatch)
    assert figures(at)["GPU"] == "73 %"
    assert "1.0 of 40.0 GB memory in use" in words(at)


def test_without_a_gpu_the_processor_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_devices.shutil, "which", lambda name: None)
    (device,) = home_devices.read_devices()
    assert device.kind == "CPU"
    assert device.use is None or 0 <= device.use <= 1
    assert 0 < device.memory_used < device.memory_total
    assert json.dumps(device.name)


@pytest.mark.parametrize("path", ["x" * 5000, "~nobody_of_that_name/x", "a\0b"])
def test_a_folder_that_cannot_be_used_is_said_and_not_taken(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = lab(tmp_path / "home", monkeypatch)
    folder_field(at).set_value(path)
    at.button(key="root_use").click().run()
    assert not at.exception
    assert "cannot be used" in words(at)
    at.run()
    assert not at.error, "the folder that was in use still is"


def test_two_clicks_at_once_are_one_job(monkeypatch: pytest.MonkeyPatch) -> None:
    both_looked, go = threading.Barrier(2), threading.Event()
    find = jobs.find

    def slow_find(key: str) -> jobs.Job | None:
        found = find(key)
        with contextlib.suppress(threading.BrokenBarrierError):
            both_looked.wait(0.3)
        return found

    begun: list[int] = []
    monkeypatch.setattr(jobs, "find", slow_find)

    def work(progress: jobs.Progress) -> None:
        begun.append(1)
        go.wait(30)

    clicks = [threading.Thread(target=jobs.start, args=("one", "One", work)) for _ in range(2)]
    for click in clicks:
        click.start()
    for click in clicks:
        click.join()
    until(lambda: bool(begun))
    go.set()
    assert len(begun) == 1


@pytest.mark.parametrize("page", PAGES)
def test_files_nested_without_end_are_damaged_files(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = "[" * 200_000
    for name in ("run.json", "state.json", "progress.json", "labels.json", "mlflow.json", "environment.json"):
        (a_run(tmp_path, name.partition(".")[0], "finished").path / name).write_text(deep)
    for place in ("lab.json", "mlflow/server.json", "queue/order.json", "queue/waiting/a.json"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(deep)
    at = lab(tmp_path, monkeypatch, page)
    assert len(at.title) == 1
