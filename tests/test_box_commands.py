"""`pianistid box`: one command trains, measures and fills the box; others show it and prove that it is sound."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pianistid_core.__main__ import main
from pianistid_core.boxed import CARD, WEIGHTS, load_box, read_box
from pianistid_core.checkpoints import load_model
from pianistid_core.concepts import CONCEPTS
from pianistid_core.config import to_yaml
from pianistid_core.datasets.root import DataRoot
from pianistid_core.identify import Identifier
from pianistid_core.midi import write_midi
from pianistid_core.models import FactorisedModel
from pianistid_core.run_config import run_for
from pianistid_core.training import train
from tiny import HABITS, PIANISTS, make_notes, tiny_config


@pytest.fixture(scope="module")
def root(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    folder = tmp_path_factory.mktemp("box")
    (folder / "root").mkdir()
    for name in ("data", "references"):
        (folder / "root" / name).symlink_to(tiny_data / name)
    return DataRoot(folder / "root", cache_dir=folder / "cache")


@pytest.fixture(scope="module")
def filled(root: DataRoot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A box that the command has filled, by training."""
    folder = tmp_path_factory.mktemp("filled")
    config = folder / "tiny.yaml"
    config.write_text(to_yaml(tiny_config(epochs=1)))
    asked = ["--config", str(config), "--to", str(folder / "box"), "--data-root", str(root.path)]
    assert main(["box", "make", *asked, "--set", "optim_cfg.lr=0.02"]) == 0
    return folder / "box"


def test_one_command_trains_measures_and_fills_the_box(filled: Path) -> None:
    box = read_box(filled)
    assert box.title == "3 pianists" and box.class_names == PIANISTS and box.epoch == 1
    assert box.measured["test"]["recordings"]["n"] == 3 and len(box.measured["robustness"]) == 14
    assert box.calibration is None, "three recordings are too few"
    assert "| recordings named rightly |" in box.card and "with a drum track" in box.card
    assert box.made["command"] == "pianistid box make"


def test_show_prints_the_card_and_the_figures(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["box", "show", "--from", str(filled)]) == 0
    assert capsys.readouterr().out == (filled / CARD).read_text()
    assert main(["box", "show", "--from", str(filled), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["measured"]["test"]["part"] == "test" and facts["bytes"] == (filled / WEIGHTS).stat().st_size


def test_check_proves_that_it_is_whole_and_answers(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["box", "check", "--from", str(filled)]) == 0
    shown = capsys.readouterr().out
    assert "of at most 12 MB" in shown and "s of music in" in shown
    assert main(["box", "check", "--from", str(filled), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sound"] and [one["check"] for one in found["checks"]] == ["weights", "card and licence", "answers"]


def test_check_fails_for_weights_that_are_not_those_of_the_card(
    filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in filled.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / CARD).unlink()
    assert main(["box", "check", "--from", str(tmp_path)]) == 1
    assert "missing: the card" in capsys.readouterr().out
    (tmp_path / WEIGHTS).write_bytes((filled / WEIGHTS).read_bytes()[:-1] + b"\0")
    assert main(["box", "check", "--from", str(tmp_path), "--json"]) == 1
    printed = capsys.readouterr()
    assert "checksum" in printed.err and json.loads(printed.out)["sound"] is False


def test_a_finished_run_is_put_in_as_it_is(root: DataRoot, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny_config(run="ready", epochs=1)
    train(config, root, run_for(config, root))
    asked = ["box", "make", "--run", "tests/ready", "--to", str(tmp_path / "box"), "--data-root", str(root.path)]
    assert main([*asked, "--title", "My three", "--most", "2", "--json"]) == 0
    printed = capsys.readouterr()
    facts = json.loads(printed.out)
    assert facts["title"] == "My three" and {row["n"] for row in facts["measured"]["robustness"]} == {2}
    assert "not calibrated" in printed.err


def test_a_model_of_n_grams_comes_out_of_the_box_as_it_went_in(root: DataRoot, tmp_path: Path) -> None:
    options = {"vocabulary": 3000, "least_recordings": 2}
    config = tiny_config(
        run="ngram", epochs=1, encoder_module="ngram", model_cfg=options, train_dataset_cfg={}, test_dataset_cfg={}
    )
    run = run_for(config, root)
    train(config, root, run)
    asked = ["box", "make", "--run", "tests/ngram", "--to", str(tmp_path / "box"), "--data-root", str(root.path)]
    assert main([*asked, "--most", "1"]) == 0
    notes = make_notes(99, seconds=61, **HABITS[0])
    here, there = (
        Identifier.from_checkpoint(source, root=root).identify(notes).probabilities
        for source in (run.path, tmp_path / "box" / WEIGHTS)
    )
    assert there == pytest.approx(here, abs=2e-3)
    assert "and not dynamics." in read_box(tmp_path / "box").card


def test_further_seeds_are_trained_and_the_weights_are_the_mean(root: DataRoot, tmp_path: Path) -> None:
    config = tmp_path / "grams.yaml"
    options = {"vocabulary": 3000, "least_recordings": 2}
    changes = {"run": "grams", "epochs": 1, "encoder_module": "ngram", "model_cfg": options}
    config.write_text(to_yaml(tiny_config(**changes, train_dataset_cfg={}, test_dataset_cfg={})))
    asked = ["--config", str(config), "--to", str(tmp_path / "box"), "--data-root", str(root.path)]
    few = ["--most", "1", "--folds", "0", "--strangers", "0"]
    assert main(["box", "make", *asked, "--seeds", "7", "8", *few]) == 0
    weights = [
        load_model(root.checkpoints_dir / "tests" / name, root=root).model.get_parameter("weight")
        for name in ("grams", "grams-seed7", "grams-seed8")
    ]
    assert not torch.equal(weights[0], weights[1])
    made = load_box(tmp_path / "box").model.get_parameter("weight")
    assert torch.allclose(made, torch.stack(weights).mean(dim=0), atol=1e-3)
    assert main(["box", "make", "--run", "tests/grams", "--seeds", "7", "--data-root", str(root.path)]) == 1
    card = read_box(tmp_path / "box").card
    assert "3 times with other seeds" in card and "`pianistid box make --seeds 7 8`" in card


def test_identify_asks_the_model_in_the_box_first(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIANISTID_BOX", str(filled))
    write_midi(make_notes(99, seconds=31, **HABITS[0]), tmp_path / "solo.mid")
    asked: list[Any] = ["identify", str(tmp_path / "solo.mid"), "--data-root", str(tmp_path / "nothing")]
    assert main([*asked, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["model"] == "3 pianists (shipped)" and set(answer["probabilities"]) == set(PIANISTS)
    assert not (tmp_path / "nothing").exists()


def test_what_a_model_does_not_hear_is_said_and_has_no_row(
    root: DataRoot, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIANISTID_BOX", str(filled))
    monkeypatch.setattr(FactorisedModel, "hears", CONCEPTS[:3])
    write_midi(make_notes(99, seconds=31, **HABITS[0]), tmp_path / "solo.mid")
    assert main(["identify", str(tmp_path / "solo.mid")]) == 0
    shown = capsys.readouterr().out
    assert "note: dynamics: not heard by this model" in shown and "+dynamics" not in shown and "melody+rhythm" in shown
    for command in ("ablate", "profile"):
        assert main([command, "tests/tiny", "--data-root", str(root.path)]) == 0
        shown = capsys.readouterr().out
        assert "rhythm" in shown and "+dynamics" not in shown and "no dynamics" not in shown, command


def test_an_empty_box_and_a_missing_config_are_one_sentence_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for action in ("show", "check"):
        assert main(["box", action]) == 1
        assert "`pianistid box make` trains one" in capsys.readouterr().err
    assert main(["box", "make", "--config", "nowhere.yaml", "--data-root", str(tmp_path)]) == 1
    assert "nowhere.yaml" in capsys.readouterr().err
