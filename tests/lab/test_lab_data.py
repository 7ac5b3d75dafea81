"""Data: statistics, clips, the doctor, import and splits."""

import time
from pathlib import Path

import pytest

from lab_support import charts_of, lab, rolls_of, words
from pianistid_core.datasets.root import DataRoot


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
