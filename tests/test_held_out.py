"""Recordings and pianists that a model never learned from: who is held out, that nothing is touched, what is kept."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pianistid_core import held_out
from pianistid_core.__main__ import main
from pianistid_core.calibrating import HeldOut
from pianistid_core.calibration import CALIBRATION_FILE
from pianistid_core.checkpoints import LoadedModel, load_model
from pianistid_core.config import RunConfig, to_dict
from pianistid_core.datasets.root import DataRoot, Split, SplitEntry, write_split
from pianistid_core.errors import CheckpointError, DataError
from pianistid_core.held_out import Strangers, by_folds, calibrate, draws, hear, leave_out, strangers_measured, usual_in
from pianistid_core.midi import split_into_clips, write_midi
from pianistid_core.models import build_model
from pianistid_core.run_config import run_for
from tiny import HABITS, PIANISTS, make_notes, tiny_config

EACH = 8


def config(**changes: object) -> RunConfig:
    options = {"compact_encoders": True, "compact_stem": 4, "compact_width": 8, "frame_pool": 50, "use_gru": False}
    return tiny_config(
        epochs=2,
        batch_size=8,
        data_split_dir="many",
        run="many",
        model_cfg={**options, "use_attention": False},
        **changes,
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    """Three pianists with three habits, eight training recordings each and two for testing, of one or two clips."""
    folder = tmp_path_factory.mktemp("held_out")
    root = DataRoot(folder / "root", cache_dir=folder / "cache")
    parts: dict[str, list[SplitEntry]] = {"train": [], "test": []}
    for label, pianist in enumerate(PIANISTS):
        for number in range(EACH + 8):
            track = f"tiny/{pianist.split()[0].lower()}-{number}"
            (root.clips_dir / track).mkdir(parents=True)
            notes = make_notes(100 * label + number, seconds=31.0 + 30 * (number % 2), **HABITS[label])
            for index, clip in enumerate(split_into_clips(notes)):
                write_midi(clip, root.clips_dir / track / f"clip_{index:03d}.mid")
            parts["train" if number < EACH else "test"].append(SplitEntry(track, label, notes.duration_s))
    write_split(root, Split("many", PIANISTS, {part: tuple(entries) for part, entries in parts.items()}))
    torch.manual_seed(0)
    run = run_for(config(), root)
    run.make()
    state = build_model(config().encoder_module, config().model_cfg, 3).state_dict()
    saved = {"model_state_dict": state, "config": to_dict(config()), "class_names": list(PIANISTS), "epoch": 1}
    torch.save(saved, run.path / "checkpoint_001.pth")
    return root


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> list[Split]:
    """In place of each training a new network; gives the splits that were to be learned from."""
    seen: list[Split] = []

    def new(given: RunConfig, place: DataRoot, split: Split, number: int, total: int, progress: Any) -> LoadedModel:
        write_split(place, split)
        seen.append(split)
        if progress is not None:
            progress(f"model {number + 1} of {total}", 1, 1)
        model = build_model(given.encoder_module, given.model_cfg, len(split.class_names)).eval()
        return LoadedModel(model, replace(given, data_split_dir=split.name), split.class_names, place.path, 1)

    monkeypatch.setattr(held_out, "_trained", new)
    return seen


def files_of(root: DataRoot) -> set[str]:
    return {str(path.relative_to(root.path)) for path in root.path.rglob("*")}


def test_every_training_recording_is_heard_once_by_a_model_that_never_met_it(
    root: DataRoot, untrained: list[Split]
) -> None:
    before = files_of(root)
    told: list[str] = []
    held = by_folds(config(), root, folds=2, progress=lambda phase, done, total: told.append(phase))
    assert len(np.unique(held.recordings)) == 3 * EACH
    assert Counter(held.labels.tolist()) == {label: EACH + EACH // 2 for label in range(3)}
    assert held.logits.shape == (len(held.labels), 3) and np.isfinite(held.logits).all()
    assert files_of(root) == before
    assert told == ["model 1 of 2", "model 2 of 2"]
    for split in untrained:
        learned, heard = ({one.track for one in split.part(part)} for part in ("train", "validation"))
        assert not learned & heard and len(learned | heard) == 3 * EACH
        assert {one.track for one in split.part("test")} <= heard


def test_who_is_left_out_is_not_among_the_known(root: DataRoot, untrained: list[Split]) -> None:
    before = files_of(root)
    found = leave_out(config(), root, [PIANISTS[1]], folds=4)
    assert found.known.logits.shape[1] == found.unknown.logits.shape[1] == 2
    assert len(np.unique(found.known.recordings)) == 2 * EACH // 4
    assert len(np.unique(found.unknown.recordings)) == EACH
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["left_out"] == [PIANISTS[1]] and 0 <= plain["auroc"] <= 1 and 0 <= plain["caught"] <= 1
    assert files_of(root) == before
    [split] = untrained
    theirs = {one.track for one in root.split("many").part("train") if one.pianist == 1}
    assert split.class_names == (PIANISTS[0], PIANISTS[2])
    assert not theirs & {one.track for part in ("train", "test", "validation") for one in split.part(part)}


def test_what_cannot_be_left_out_or_dealt_is_said(root: DataRoot) -> None:
    with pytest.raises(DataError, match="'Nobody' is no pianist"):
        leave_out(config(), root, ["Nobody"])
    with pytest.raises(DataError, match="fewer than 2 are left"):
        leave_out(config(), root, PIANISTS[:2])
    with pytest.raises(DataError, match="8 training recordings, too few for 9 folds"):
        by_folds(config(), root, folds=9)


def test_everybody_is_left_out_once_before_anybody_twice() -> None:
    names = [f"P{number}" for number in range(20)]
    groups = list(draws(names, 8))
    assert all(len(set(group)) == 5 for group in groups)
    for four in (groups[:4], groups[4:]):
        assert sorted(name for group in four for name in group) == sorted(names)
    assert groups == list(draws(names, 8)) != list(draws(names, 8, seed=1))
    with pytest.raises(DataError, match="cannot be left out"):
        list(draws(names, 1, size=21))


def test_the_measures_of_a_draw_by_hand() -> None:
    def held(leads: list[float]) -> HeldOut:
        logits = np.array([[2 * lead, 0.0] for lead in leads])
        return HeldOut(logits, np.zeros(len(leads), int), np.arange(len(leads)))

    found = Strangers(("A",), held([1, 2, 3, 4]), held([0.5, 2.5]))
    assert found.auroc == pytest.approx((4 + 2) / 8) and found.caught() == 0.5
    assert strangers_measured([found, found])["auroc"] == found.auroc


def test_a_calibration_is_of_the_part_that_is_named(root: DataRoot) -> None:
    loaded = load_model("tests/many", root=root)
    found = calibrate(loaded, root, "test")
    assert found.n_recordings == 24 and found.part == "test" and found.usual == usual_in(root, "many")
    other = write_split(root, Split("two", PIANISTS[:2], {"train": root.split("many").part("train")[:EACH]}))
    with pytest.raises(CheckpointError, match="not those of split 'two'"):
        hear(loaded, root, "train", split=other.name)


@pytest.mark.slow
def test_it_trains_as_any_run_does_and_leaves_nothing_behind(root: DataRoot) -> None:
    before = files_of(root)
    phases: set[str] = set()
    found = leave_out(config(), root, [PIANISTS[1]], folds=4, progress=lambda phase, done, total: phases.add(phase))
    assert {"model 1 of 1, train", "model 1 of 1, validation"} <= phases
    assert len(np.unique(found.unknown.recordings)) == EACH and files_of(root) == before


@pytest.mark.usefixtures("untrained")
def test_the_command_keeps_what_it_fits(root: DataRoot, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "tests/many", "--data-root", str(root.path)]) == 0
    printed = capsys.readouterr()
    assert "no validation part" in printed.err
    for promised in ("24 recordings: test part", "expected calibration error", "wanted 0.9", "95 % interval"):
        assert promised in printed.out
    loaded = load_model("tests/many", root=root)
    assert loaded.calibration is not None and loaded.calibration.part == "test part"
    arguments = ["calibrate", "tests/many", "--folds", "2", "--strangers", "1", "--left-out", "1", "--json"]
    assert main([*arguments, "--data-root", str(root.path)]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["n_recordings"] == 24 and len(plain["measured"]["unknown"]["draws"]) == 1
    kept = json.loads((Path(loaded.path).parent / CALIBRATION_FILE).read_text())
    assert kept["calibration"] == {key: value for key, value in plain.items() if key != "model"}


def test_the_command_refuses_in_one_sentence(root: DataRoot, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "tests/many", "--folds", "9", "--data-root", str(root.path)]) == 1
    assert "too few for 9 folds" in capsys.readouterr().err
    assert main(["calibrate", "tests/none", "--data-root", str(root.path)]) == 1
