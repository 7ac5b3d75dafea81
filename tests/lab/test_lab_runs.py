"""Runs: a run in every state, its tabs and its buttons."""

import os
from pathlib import Path

import pytest

from lab_support import a_run, charts_of, lab, words, yaml_of
from pianistid_core.processes import ProcessIdentity
from pianistid_core.runs import Run


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
