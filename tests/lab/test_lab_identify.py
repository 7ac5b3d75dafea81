"""Identify: one file, many, broken ones, a known recording, one's own playing, a damaged model, what comes after."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import identify_work
from lab_support import HOME, PAGES, a_run, charts_of, lab, rolls_of, words
from pianistid_core.datasets.root import DataRoot, Split, write_split
from pianistid_core.midi import Notes, write_midi
from tiny import until

PAGE = "views/identify.py"


@pytest.fixture
def explained() -> None:
    """For tests of what comes after the answer, which takes a while."""


@pytest.fixture(autouse=True)
def only_the_answer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after the answer is worked out only for the tests that are about it."""
    if "explained" not in request.fixturenames:
        monkeypatch.setattr(identify_work, "begin", lambda insight, asked: None)


def recordings(root: DataRoot) -> list[bytes]:
    return [path.read_bytes() for path in sorted(root.raw_dir.glob("demo/*/piano_midi.mid"))]


def identify(root: DataRoot, monkeypatch: pytest.MonkeyPatch, *files: tuple[str, bytes]) -> AppTest:
    at = lab(root, monkeypatch, PAGE, model="demo/tiny")
    for name, data in files:
        at.file_uploader[0].upload(name, data, "audio/midi")
    at.run()
    assert not at.exception
    return at


def players(at: AppTest) -> list[dict[str, Any]]:
    return [roll for roll in rolls_of(at) if "layers" in roll]


def test_one_file_gets_a_full_answer(trained_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = identify(trained_root, monkeypatch, ("a *piece*.mid", recordings(trained_root)[0]))
    text = words(at)
    assert any(name in text for name in trained_root.split("demo").class_names)
    assert "a *piece*.mid" in text
    assert "From " in text and " alone the model gives " in text
    assert "Exact Shapley values" in text
    assert "It names one of the 8 pianists it knows, whoever plays." in text
    assert "Guessing among 8 pianists would be right 12 % of the time." in text
    kinds = [chart["series"][0]["type"] for chart in charts_of(at)]
    assert kinds.count("bar") >= 4
    player = players(at)[0]
    assert [layer["name"] for layer in player["layers"]] == ["As played", "Melody", "Harmony", "Rhythm", "Dynamics"]
    assert len(player["moments"]["names"]) >= 5
    assert set(player["moments"]["concepts"]) == {"Melody", "Harmony", "Rhythm", "Dynamics"}
    assert player["verdict"]["truth"] is None


def test_the_shares_shown_add_up_to_the_answer(trained_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = identify(trained_root, monkeypatch, ("one.mid", recordings(trained_root)[0]))
    said = next(text for text in words(at).splitlines() if text.endswith(" per cent") and " = " in text)
    left, right = said.replace("\u2212 ", "-").replace("+ ", "").removesuffix(" per cent").split(" = ")
    assert sum(float(part) for part in left.split()) == pytest.approx(float(right.strip("*")), abs=0.4)


def test_broken_files_get_a_sentence_each_and_the_others_are_served(
    trained_root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = recordings(trained_root)[:2]
    at = identify(trained_root, monkeypatch, ("one.mid", one), ("cut.mid", one[:100]), ("two.mid", two), ("0.mid", b""))
    assert len(at.error) == 2
    assert all("Traceback" not in str(error.value) for error in at.error)
    assert at.selectbox(key="answer").options == ["one.mid", "two.mid"]
    at.selectbox(key="answer").select_index(1).run()
    assert "two.mid" in words(at)
    assert not at.exception


def test_many_broken_files_leave_the_answers_in_sight(trained_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = [(f"{number}.mid", b"no music") for number in range(9)]
    at = identify(trained_root, monkeypatch, ("one.mid", recordings(trained_root)[0]), *broken)
    assert len(at.error) == 4
    assert "5 more files could not be identified" in [box.label for box in at.expander]
    assert all(f"**{name}**: " in words(at) for name, _ in broken), "each has its sentence"


def test_files_of_one_name_and_names_with_markup_stay_apart_and_text(
    trained_root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = recordings(trained_root)[:3]
    hostile = "<img src=x onerror=alert(1)> 🎹 **b**.mid"
    at = identify(trained_root, monkeypatch, ("same.mid", one), ("same.mid", two), (hostile, three))
    assert at.selectbox(key="answer").options == ["same.mid", "same.mid (2)", hostile]
    at.selectbox(key="answer").select_index(2).run()
    shown = [str(element.value) for element in (*at.caption, *at.markdown)]
    assert not any(re.search(r"(?<!\\)<img", text) for text in shown), "the page escapes it"
    assert players(at)[0]["label"] == hostile, "the player sets it as text"


def test_fifty_files_at_once_and_one_too_many(trained_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    onsets = np.repeat(np.arange(0, 8, 0.25), 3)
    pieces = []
    for number in range(51):
        notes = Notes.from_arrays(
            onsets, onsets + 0.2, np.tile([48, 52, 60 + number % 12], 32), 60 + onsets.astype(int)
        )
        pieces.append((f"piece {number:02d}.mid", write_midi(notes)))
    at = identify(trained_root, monkeypatch, *pieces)
    assert len(at.selectbox(key="answer").options) == 50
    assert any("The first 50 files are taken and piece 50" in str(w.value).replace("\\", "") for w in at.warning)


def test_a_file_over_the_limit_is_refused_in_words(trained_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = identify(trained_root, monkeypatch, ("huge.mid", b"MThd" + bytes(21 * 2**20)))
    assert "The file has 21 MB; at most 4 MB are taken" in words(at)
    assert not players(at)


def test_music_without_chords_or_dynamics_or_length_is_said(
    trained_root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    onsets = np.repeat(np.arange(0, 10, 0.25), 3)
    flat = Notes.from_arrays(onsets, onsets + 0.2, np.tile([48, 52, 60], 40), np.full(120, 64))
    line = Notes.from_arrays(onsets[::3], onsets[::3] + 0.2, np.full(40, 60), 40 + np.arange(40))
    at = identify(trained_root, monkeypatch, ("flat.mid", write_midi(flat)), ("line.mid", write_midi(line)))
    assert "no chords" in words(at)
    assert any("equally loud" in str(warning.value) for warning in at.warning)
    assert any("10 s long" in str(warning.value) for warning in at.warning)


def test_a_recording_that_is_here_comes_with_the_truth(trained_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(trained_root, monkeypatch, PAGE, model="demo/tiny", example="demo")
    text = words(at)
    assert " plays" in text and ("Right: " in text or "In truth " in text)
    assert players(at)[0]["verdict"]["truth"] in trained_root.split("demo").class_names
    titles = at.selectbox(key="example_track").options
    assert len(set(titles)) == len(titles), "two of one title can both be chosen"


def test_the_split_of_the_model_comes_first(
    trained_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = _with_a_split_the_other_way_round(trained_root, tmp_path)
    at = lab(root, monkeypatch, PAGE, model="demo/tiny", source="From your recordings")
    assert at.selectbox(key="example_split").options == ["a_split", "demo"]
    assert at.selectbox(key="example_split").value == "demo"


def test_a_recording_that_the_model_learned_from_is_no_test_of_it(
    trained_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = _with_a_split_the_other_way_round(trained_root, tmp_path)
    learned = "The model learned from this very recording"
    assert learned not in words(lab(root, monkeypatch, PAGE, model="demo/tiny", example="demo"))
    at = lab(root, monkeypatch, PAGE, model="demo/tiny", example="a_split")
    assert players(at) and learned in words(at)


def _with_a_split_the_other_way_round(trained_root: DataRoot, folder: Path) -> DataRoot:
    """The same data and model, and a split that tests with what the model learned from."""
    root = DataRoot(folder / "home", folder / "cache")
    root.path.mkdir()
    shutil.copytree(trained_root.checkpoints_dir, root.checkpoints_dir)
    shutil.copytree(trained_root.splits_dir.parent, root.splits_dir.parent)
    (root.path / "data").symlink_to(trained_root.clips_dir.parent)
    demo = root.split("demo")
    parts = {"train": demo.parts["test"], "test": demo.parts["train"]}
    write_split(root, Split("a_split", demo.class_names, parts))
    return root


def test_the_accuracy_told_is_that_of_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path, "fell", "finished")
    (run.path / "checkpoint_003.pth").write_bytes(b"a model")
    rows = [{"epoch": epoch, "test_recording_accuracy": share} for epoch, share in ((1, 0.25), (2, 0.75), (3, 0.5))]
    run.metrics_path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    at = lab(tmp_path, monkeypatch, PAGE)
    assert "It named the pianist of 50 % of the test recordings." in words(at), "its best epoch had 75 %"


def test_what_was_played_here_is_identified(trained_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(trained_root, monkeypatch, PAGE, model="demo/tiny", source="Play")
    assert not players(at)
    notes = [[250 * n, 250 * n + 200, key, 50 + n] for n in range(40) for key in (48, 52, 60 + n % 12)]
    at.session_state["keyboard"] = {"take": {"number": 3, "notes": notes}}
    at.run()
    assert not at.exception
    assert "Your take 3" in words(at)
    assert players(at)[0]["duration"] == pytest.approx(9.95, abs=0.01)


@pytest.mark.parametrize(
    "take", [None, 7, {"notes": "x"}, {"number": "x", "notes": [[0, 1, 2]]}, {"notes": [[0, -5, 300, 1.5]]}]
)
def test_nonsense_from_the_keyboard_is_nothing(
    trained_root: DataRoot, monkeypatch: pytest.MonkeyPatch, take: Any
) -> None:
    at = lab(trained_root, monkeypatch, PAGE, model="demo/tiny", source="Play")
    at.session_state["keyboard"] = {"take": take}
    at.run()
    assert not at.exception
    assert not players(at)


def test_a_few_notes_are_too_little(trained_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(trained_root, monkeypatch, PAGE, model="demo/tiny", source="Play")
    at.session_state["keyboard"] = {"take": {"number": 1, "notes": [[0, 400, 60, 80], [500, 900, 64, 80]]}}
    at.run()
    assert "That was 2 notes in 1 s; play at least 12 notes over 5 s" in words(at)
    assert not players(at)


@pytest.mark.usefixtures("explained")
def test_what_comes_after_the_answer(trained_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = identify(trained_root, monkeypatch, ("one.mid", recordings(trained_root)[0]))
    assert "It comes in a moment." in words(at)
    insight = next(iter(identify_work._explainer()._found.values()))
    until(lambda: insight.finished)
    assert insight.troubles == {}
    at.run()
    assert not at.exception
    player = players(at)[0]
    assert player["layers"][-1]["name"] == "Notes that mattered"
    assert len(player["layers"][-1]["w"]) == len(player["layers"][0]["s"])
    assert player["moments"]["smooth"]
    text = words(at)
    assert "association, not a proof" in text
    assert insight.neighbours
    assert at.selectbox(key="alike_track").options
    assert "one.mid" not in at.selectbox(key="alike_track").options
    assert len(players(at)) == 2, "the neighbour's own player"


@pytest.mark.usefixtures("explained")
def test_what_goes_wrong_after_the_answer_is_said(trained_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(identify_work, "moving_answers", fails)
    at = identify(trained_root, monkeypatch, ("one.mid", recordings(trained_root)[1]))
    insight = next(iter(identify_work._explainer()._found.values()))
    until(lambda: insight.finished)
    at.run()
    assert not at.exception
    assert "This could not be worked out" in words(at)
    assert "out of luck" not in words(at), "the reason belongs into the log"


def test_a_damaged_checkpoint_is_said_in_a_sentence(
    trained_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(tmp_path, "broken", "finished")
    (run.path / "checkpoint_003.pth").write_bytes(b"no checkpoint")
    at = lab(tmp_path, monkeypatch, PAGE)
    at.file_uploader[0].upload("one.mid", recordings(trained_root)[0], "audio/midi").run()
    assert not at.exception
    assert len(at.error) == 1
    assert "checkpoint_003.pth" in words(at)


def test_a_run_or_checkpoint_that_is_gone_is_said(trained_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(trained_root, monkeypatch, PAGE, model="demo/gone")
    assert "There is no trained run demo/gone here" in words(at)
    at = lab(trained_root, monkeypatch, PAGE, model="demo/tiny", checkpoint="checkpoint_999.pth")
    assert "has no checkpoint checkpoint_999.pth any more" in words(at)
    assert at.selectbox(key="checkpoint").value == "checkpoint_002.pth"


def test_nothing_is_trained_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(tmp_path, monkeypatch, PAGE)
    assert "No trained model yet" in "\n".join([words(at), *(str(head.value) for head in at.subheader)])
    assert not at.file_uploader


def test_the_answer_can_be_taken_away(trained_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = identify(trained_root, monkeypatch, ("one.mid", recordings(trained_root)[0]))
    labels = [json.loads(json.dumps(button.proto.label)) for button in at.get("download_button")]
    assert {"Report", "JSON", "CSV", "MIDI"} <= set(labels)


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
