"""Every page in every state, without a browser: an empty data root, demo data, runs in each state, a trained model."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from pianistid_core import launch
from pianistid_core.config import load_config, to_yaml
from pianistid_core.datasets.demo import make_demo
from pianistid_core.datasets.root import DataRoot
from pianistid_core.processes import ProcessIdentity
from pianistid_core.run_config import run_for
from pianistid_core.runs import Confusion, Run
from pianistid_core.training import train

HOME = Path(__file__).resolve().parent.parent / "lab" / "Home.py"
PAGES = ("views/home.py", "views/data.py", "views/build.py", "views/runs.py", "views/identify.py")
TINY = [
    "epochs=2", "run=tiny", "train_dataset_cfg.n_clips=16", "test_dataset_cfg.n_clips=12", "model_cfg.frame_pool=60",
]  # fmt: skip


@pytest.fixture(autouse=True)
def fresh_server() -> Iterator[None]:
    """Each test meets a server that has cached nothing."""
    st.cache_data.clear()
    st.cache_resource.clear()
    yield


@pytest.fixture(scope="module")
def demo_root(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    base = tmp_path_factory.mktemp("lab")
    root = DataRoot(base / "home", base / "cache")
    make_demo(root, recordings_per_pianist=4)
    return root


@pytest.fixture(scope="module")
def trained_root(demo_root: DataRoot) -> DataRoot:
    """Demo data and a tiny model that was trained on it."""
    config = load_config("demo.yaml", overrides=TINY)
    train(config, demo_root, run_for(config, demo_root))
    return demo_root


def lab(root: Path | DataRoot, monkeypatch: pytest.MonkeyPatch, page: str = "views/home.py", **query: str) -> AppTest:
    """The lab on a data root, at a page, with what stands in the address bar."""
    path = root.path if isinstance(root, DataRoot) else root
    monkeypatch.setenv("PIANISTID_HOME", str(path))
    if isinstance(root, DataRoot):
        monkeypatch.setenv("PIANISTID_CACHE", str(root.cache_dir))
    at = AppTest.from_file(str(HOME), default_timeout=60)
    for key, value in query.items():
        at.query_params[key] = value
    at.run()
    at.switch_page(page)
    for key, value in query.items():
        at.query_params[key] = value
    at.run()
    assert not at.exception
    return at


def words(at: AppTest) -> str:
    """All text that a page shows, without the marks that keep foreign text plain."""
    kinds = (at.title, at.markdown, at.caption, at.error, at.warning, at.info, at.success)
    return "\n".join(str(element.value) for kind in kinds for element in kind).replace("\\", "")


def charts_of(at: AppTest) -> list[dict[str, Any]]:
    return [json.loads(element.proto.spec) for element in at.get("echarts_chart")]


def rolls_of(at: AppTest) -> list[dict[str, Any]]:
    return [json.loads(element.proto.json) for element in at.get("bidi_component")]


def a_run(root: Path, name: str, status: str, *, epochs: int = 20, done: int = 3, reason: str = "") -> Run:
    """A run on disk in one of its states."""
    run = Run.create(root / "checkpoints", "study", name)
    run.save_text("config.yaml", to_yaml(load_config("demo.yaml", overrides=["experiment=study", f"run={name}"])))
    process = ProcessIdentity.of(os.getpid()) if status == "running" else None
    run.set_state(status, reason, epochs=epochs, process=process)  # type: ignore[arg-type]
    for epoch in range(1, done + 1):
        run.append_metrics(
            {
                "epoch": epoch, "train_loss": 2.0 / epoch, "test_loss": 2.2 / epoch, "train_clip_accuracy": 0.1 * epoch,
                "test_clip_accuracy": 0.1 * epoch, "test_recording_accuracy": 0.2 * epoch, "lr": 0.1, "skipped": 2,
            }
        )  # fmt: skip
    if done:
        run.save_confusion(1, Confusion(("Ada", "Bela"), np.array([[2, 1], [0, 3]])))
        run.save_confusion("validation", Confusion(("Ada", "Bela"), np.array([[3, 0], [0, 3]])))
    (run.path / "log.txt").write_text("epoch 1/20: fine\n")
    return run


# --- an empty data root ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_an_empty_root_says_what_to_do(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(tmp_path / "nothing", monkeypatch, page)
    assert len(at.title) == 1
    assert not (tmp_path / "nothing").exists(), "looking at a page creates nothing"


def test_the_tour_begins_with_demo_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(tmp_path / "home", monkeypatch)
    assert at.button(key="train_demo").disabled
    at.button(key="make_demo").click().run()
    deadline = time.monotonic() + 60
    while "demo" not in DataRoot(tmp_path / "home").split_names() or at.button(key="train_demo").disabled:
        assert time.monotonic() < deadline
        time.sleep(0.2)
        at.run()
    assert not at.exception
    assert not at.button(key="train_demo").disabled


def test_the_tour_trains_with_one_click(demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(demo_root, monkeypatch)
    at.button(key="train_demo").click().run()
    run = Run.find(demo_root.checkpoints_dir, "demo/demo")
    try:
        assert not at.exception
        assert at.title[0].value == "Runs"
        assert at.selectbox(key="run").value == "demo/demo"
        assert run.state().status in ("queued", "running")
    finally:
        launch.stop_and_wait(run, "discard")


def test_a_file_in_place_of_the_root_is_said_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("no folder")
    monkeypatch.setenv("PIANISTID_HOME", str(path))
    at = AppTest.from_file(str(HOME), default_timeout=60).run()
    assert not at.exception
    assert "is a file, not a folder" in words(at)


def test_another_root_can_be_chosen(demo_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(tmp_path / "nothing", monkeypatch)
    at.text_input[0].set_value(str(demo_root.path))
    next(button for button in at.button if button.label == "Use this folder").click().run()
    at.switch_page("views/data.py").run()
    assert not at.exception
    assert at.selectbox(key="split").value == "demo"


# --- data ------------------------------------------------------------------------------------------------------------


def test_statistics_of_a_split(demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(demo_root, monkeypatch, "views/data.py")
    values = {metric.label: metric.value for metric in at.metric}
    assert values["Pianists"] == "8"
    assert values["Recordings"].isdigit()
    bars = charts_of(at)[0]
    assert sorted(bars["yAxis"]["data"]) == sorted(demo_root.split("demo").class_names)


def test_a_clip_to_look_at_and_hear(demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(demo_root, monkeypatch, "views/data.py", data_tab="Look and listen")
    roll = rolls_of(at)[0]
    assert [layer["name"] for layer in roll["layers"]] == ["As played", "Melody", "Harmony", "Rhythm", "Dynamics"]
    assert len(roll["layers"][0]["s"]) > 10
    before = roll["piece"]
    pianists = at.selectbox(key="clip_pianist")
    pianists.select(pianists.options[1]).run()
    assert not at.exception
    assert rolls_of(at)[0]["piece"] != before


def test_the_doctor_reports(demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(demo_root, monkeypatch, "views/data.py", data_tab="Check")
    at.button(key="check").click().run()
    deadline = time.monotonic() + 60
    while not at.metric:
        assert time.monotonic() < deadline
        time.sleep(0.1)
        at.run()
    assert not at.exception
    assert {metric.label for metric in at.metric} == {"To fix", "To know", "Good to know"}


def test_a_path_that_cannot_be_imported(demo_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(demo_root, monkeypatch, "views/data.py", data_tab="Bring in more")
    at.button(key="import_from").click().run()
    assert "Give the path" in words(at)
    at.text_input(key="import_path").set_value(str(tmp_path / "missing"))
    at.button(key="import_from").click().run()
    deadline = time.monotonic() + 30
    while "missing" not in words(at):
        assert time.monotonic() < deadline
        time.sleep(0.1)
        at.run()
    assert not at.exception
    assert len(at.error) == 1


def test_a_folder_is_imported_and_split(demo_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "mine"
    for number, path in enumerate(sorted(demo_root.raw_dir.glob("demo/*/piano_midi.mid"))[:12]):
        place = source / f"Pianist {'AB'[number % 2]}" / f"piece {number}.mid"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
    root = DataRoot(tmp_path / "home")
    at = lab(root, monkeypatch, "views/data.py")
    at.text_input(key="import_path").set_value(str(source))
    at.button(key="import_from").click().run()
    deadline = time.monotonic() + 60
    while not root.tracks() or not at.success:
        assert time.monotonic() < deadline
        time.sleep(0.1)
        at.run()
    assert "12 recordings" in words(at)
    next(button for button in at.button if button.label == "Make the split").click().run()
    assert not at.exception
    assert root.split_names() == ["all"]
    at.run()
    assert at.selectbox(key="split").value == "all"


# --- build -----------------------------------------------------------------------------------------------------------


def field(at: AppTest, kind: str, key: str) -> Any:
    return next(widget for widget in getattr(at, kind) if widget.key and widget.key.endswith(f":{key}"))


def yaml_of(at: AppTest) -> str:
    return str(next(area for area in at.text_area if area.label == "YAML").value)


def test_the_form_and_the_yaml_say_the_same(demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(demo_root, monkeypatch, "views/build.py")
    assert not at.button(key="start").disabled
    field(at, "number_input", "epochs").set_value(7).run()
    assert "epochs: 7\n" in yaml_of(at)
    area = next(area for area in at.text_area if area.label == "YAML")
    area.set_value(yaml_of(at).replace("epochs: 7", "epochs: 9")).run()
    assert not at.exception
    assert field(at, "number_input", "epochs").value == 9
    assert "Differences from the preset (1)" in [expander.label for expander in at.expander]


def test_what_was_typed_survives_a_page_change(demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(demo_root, monkeypatch, "views/build.py")
    field(at, "number_input", "batch_size").set_value(3).run()
    at.switch_page("views/data.py").run()
    at.switch_page("views/build.py").run()
    assert field(at, "number_input", "batch_size").value == 3


def test_faults_show_all_at_once_and_at_their_fields(demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(demo_root, monkeypatch, "views/build.py")
    field(at, "number_input", "epochs").set_value(0).run()
    field(at, "number_input", "batch_size").set_value(0).run()
    assert "2 things to fix" in words(at)
    assert words(at).count("got 0; give a whole number of at least 1") == 4
    assert at.button(key="start").disabled


def test_a_changed_architecture_brings_its_own_fields(demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(demo_root, monkeypatch, "views/build.py")
    field(at, "selectbox", "encoder_module").select("crnn").run()
    assert not at.exception
    assert "needs" in words(at) or "takes one channel" in words(at)
    assert not [w for w in at.toggle if w.key and w.key.endswith("model_cfg.use_masking")]


def test_a_broken_yaml_leaves_the_form_as_it_was(demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(demo_root, monkeypatch, "views/build.py")
    area = next(area for area in at.text_area if area.label == "YAML")
    area.set_value("epochs: many\nuse_fc2: 1\n").run()
    assert "epochs: got 'many'" in words(at)
    assert "use_fc2" in words(at)
    assert field(at, "number_input", "epochs").value != 0
    at.button(key="drop_yaml").click().run()
    assert not at.exception
    assert "many" not in yaml_of(at)


@pytest.mark.parametrize("advanced", [False, True])
def test_every_preset_opens(advanced: bool, demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(demo_root, monkeypatch, "views/build.py")
    if advanced:
        at.toggle(key="advanced").set_value(True).run()
    picker = next(box for box in at.selectbox if box.label == "Start from")
    for name in list(picker.options):
        next(box for box in at.selectbox if box.label == "Start from").select(name).run()
        assert not at.exception, name
        assert yaml_of(at)


# --- runs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["queued", "running", "finished", "stopped", "failed", "interrupted"])
@pytest.mark.parametrize("done", [0, 3])
def test_a_run_in_every_state(status: str, done: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_run(tmp_path, "one", status, done=done, reason="its process was killed by SIGKILL" if status == "failed" else "")
    at = lab(tmp_path, monkeypatch, "views/runs.py")
    assert at.selectbox(key="run").value == "study/one"
    values = {metric.label: metric.value.replace("\\", "") for metric in at.metric}
    assert values["Epoch"] == f"{done} / 20"
    if done:
        assert values["Recordings right"] == "60 %"
        assert len(charts_of(at)) == 2
    if status == "failed":
        assert "killed by SIGKILL" in words(at)
    labels = {button.label for button in at.button}
    assert ("Stop and save" in labels) == (status in ("queued", "running"))
    assert ("Resume" in labels) == (status in ("stopped", "failed", "interrupted"))


@pytest.mark.parametrize("tab", ["Confusion matrix", "Log", "Config", "Files"])
def test_each_tab_of_a_run(tab: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_run(tmp_path, "one", "finished")
    at = lab(tmp_path, monkeypatch, "views/runs.py", run_tab=tab)
    if tab == "Confusion matrix":
        assert len(charts_of(at)) == 2
        assert "6 of 6 recordings of the validation part are right" in words(at)
    if tab == "Log":
        assert "epoch 1/20: fine" in [code.value for code in at.code]


def test_the_address_bar_names_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two", "three"):
        a_run(tmp_path, name, "finished")
    at = lab(tmp_path, monkeypatch, "views/runs.py", run="study/two")
    assert at.selectbox(key="run").value == "study/two"
    gone = lab(tmp_path, monkeypatch, "views/runs.py", run="study/gone")
    assert "there is no run study/gone" in words(gone).replace("There", "there")


def test_stop_is_asked_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path, "one", "running")
    at = lab(tmp_path, monkeypatch, "views/runs.py")
    at.button(key="stop_save").click().run()
    assert not at.exception
    assert run.stop_request() == "save"


def test_a_run_is_deleted_and_one_is_built_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path, "one", "finished")
    at = lab(tmp_path, monkeypatch, "views/runs.py")
    at.button(key="clone").click().run()
    assert not at.exception
    assert "experiment: study\nrun: one\n" in yaml_of(at)
    at.switch_page("views/runs.py").run()
    at.button(key="delete").click().run()
    assert not at.exception
    assert not run.path.exists()


def test_a_run_with_markup_in_its_name_stays_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.create(tmp_path / "checkpoints", "study", "![x](http:x) <b>")
    run.set_state("running", epochs=3, process=ProcessIdentity.of(os.getpid()))
    at = lab(tmp_path, monkeypatch)
    shown = [str(markdown.value) for markdown in at.markdown if "is training" in str(markdown.value)]
    assert shown
    assert "![" not in shown[0]
    assert "\\!\\[x\\]\\(http\\:x\\) \\<b\\>" in shown[0]


# --- identify --------------------------------------------------------------------------------------------------------


def test_one_file_gets_a_full_answer(trained_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(trained_root, monkeypatch, "views/identify.py", model="demo/tiny")
    piece = sorted(trained_root.raw_dir.glob("demo/*/piano_midi.mid"))[0]
    at.file_uploader[0].upload("a *piece*.mid", piece.read_bytes(), "audio/midi").run()
    assert not at.exception
    text = words(at)
    assert any(name in text for name in trained_root.split("demo").class_names)
    assert "a *piece*.mid" in text
    assert "From " in text and " alone the model gives " in text
    kinds = [chart["series"][0]["type"] for chart in charts_of(at)]
    assert kinds.count("bar") >= 3
    assert len(rolls_of(at)[0]["layers"]) == 5


def test_broken_files_get_a_sentence_each_and_the_others_are_served(
    trained_root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = lab(trained_root, monkeypatch, "views/identify.py", model="demo/tiny")
    pieces = [path.read_bytes() for path in sorted(trained_root.raw_dir.glob("demo/*/piano_midi.mid"))[:2]]
    files = [("one.mid", pieces[0]), ("cut.mid", pieces[0][:100]), ("two.mid", pieces[1]), ("empty.mid", b"")]
    for name, data in files:
        at.file_uploader[0].upload(name, data, "audio/midi")
    at.run()
    assert not at.exception
    assert len(at.error) == 2
    assert all("Traceback" not in str(error.value) for error in at.error)
    assert at.selectbox(key="answer").options == ["one.mid", "two.mid"]


def test_a_recording_that_is_here_comes_with_the_truth(trained_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(trained_root, monkeypatch, "views/identify.py", model="demo/tiny", example="demo")
    assert "plays." in words(at)
    assert rolls_of(at)


def test_a_damaged_checkpoint_is_said_in_a_sentence(
    trained_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(tmp_path, "broken", "finished")
    (run.path / "checkpoint_003.pth").write_bytes(b"no checkpoint")
    at = lab(tmp_path, monkeypatch, "views/identify.py")
    piece = sorted(trained_root.raw_dir.glob("demo/*/piano_midi.mid"))[0]
    at.file_uploader[0].upload("one.mid", piece.read_bytes(), "audio/midi").run()
    assert not at.exception
    assert len(at.error) == 1
    assert "checkpoint_003.pth" in words(at)


def test_torch_is_not_imported_before_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from streamlit.testing.v1 import AppTest\n"
        f"at = AppTest.from_file({str(HOME)!r}, default_timeout=60).run()\n"
        f"for page in {PAGES!r}: at.switch_page(page).run(); assert not at.exception\n"
        "print('torch' in sys.modules)"
    )
    environment = os.environ | {"PIANISTID_HOME": str(tmp_path), "PYTHONPATH": str(HOME.parent)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "False"
