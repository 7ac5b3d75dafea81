"""Home: an empty data root, the tour, the next step."""

import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from lab_support import HOME, PAGES, lab, words
from pianistid_core import launch
from pianistid_core.datasets.root import DataRoot
from pianistid_core.runs import Run


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
