"""Identify: one file, many, broken ones, a known recording, a damaged model."""

import os
from pathlib import Path

import pytest

from lab_support import HOME, PAGES, a_run, charts_of, lab, rolls_of, words
from pianistid_core.datasets.root import DataRoot


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
