"""Whether explanations can be trusted, measured as one: what is asked of which clips, and what the command prints."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from pianistid_core.__main__ import main
from pianistid_core.checkpoints import LoadedModel
from pianistid_core.config import load_config
from pianistid_core.datasets.demo import make_demo
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import DataError, SplitError
from pianistid_core.faithfulness import faithfulness
from pianistid_core.identify import Identifier
from pianistid_core.run_config import run_for
from pianistid_core.training import train
from tiny import tiny_config

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def single(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    """A root with a briefly trained model that hears the roll as a whole, of data whose truth nobody knows."""
    folder = tmp_path_factory.mktemp("single")
    shutil.copytree(tiny_data, folder / "root")
    root = DataRoot(folder / "root", cache_dir=folder / "cache")
    config = tiny_config(
        run="single", epochs=1, encoder_module="compact", model_cfg={"frame_pool": 50, "stem_width": 4, "width": 8},
        train_dataset_cfg={}, test_dataset_cfg={},
    )  # fmt: skip
    train(config, root, run_for(config, root))
    return root


def test_everything_is_measured_of_the_same_clips(single: DataRoot) -> None:
    identifier = Identifier.from_checkpoint("tests/single", root=single)
    seen: list[tuple[int, int]] = []
    found = faithfulness(identifier, single, clips=5, draws=2, forgetful=2, progress=lambda *at: seen.append(at))
    assert seen == [(number, 5) for number in range(1, 6)]
    assert found.n_clips == found.deletion.n_clips == 5 and found.n_recordings == 3, "the same ones once more"
    assert found.deletion.n_draws == 2 and (found.split, found.part) == ("tiny", "test")
    assert len(found.forgotten) == len(found.naive) == 2
    assert found.mean_cascade[-1].layers == found.mean_cascade[-1].of == found.forgotten[0][-1].of
    assert found.mean_cascade[0].correlation == pytest.approx(sum(one[0].correlation for one in found.forgotten) / 2)
    assert found.informative == sum(one.informative for one in found.checked)
    assert found.truth is None, "it takes nothing apart"
    data = json.loads(json.dumps(found.to_dict()))
    assert data["n_clips"] == data["deletion"]["n_clips"] == len(data["controls"]["clips"]) == 5
    assert data["controls"]["untrained_seen_through"] == found.seen_through


def test_where_the_truth_is_known_it_is_held_against_it(taught: LoadedModel, unheard_demo: DataRoot) -> None:
    found = faithfulness(Identifier(taught, CPU), unheard_demo, "train", clips=1, draws=1, forgetful=0)
    assert found.n_clips == 1 and found.forgotten == found.naive == found.mean_cascade == ()
    assert found.truth is not None and found.to_dict()["truth"]["twins_found_by_shapley"] == 8


def test_what_cannot_be_measured_is_refused(taught: LoadedModel, unheard_demo: DataRoot, tiny_root: DataRoot) -> None:
    identifier = Identifier(taught, CPU)
    with pytest.raises(DataError, match="at least 1"):
        faithfulness(identifier, unheard_demo, clips=0)
    with pytest.raises(SplitError, match="demo"):
        faithfulness(identifier, tiny_root)


def test_the_command_prints_tables_or_json_of_any_model(single: DataRoot, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data-root", str(single.path), "--clips", "5", "--draws", "2", "--forgetful", "1"]
    assert main(["faithfulness", "tests/single", *options]) == 0
    text = capsys.readouterr().out
    for promised in (
        "on 5 clips of 3 recordings of the test part of split tiny",
        "The answer's probability as notes are deleted",
        "The answer's log odds as notes are deleted",
        "models that have learned nothing, seen through: ",
        "As layers forget, from the head down (1 clip):",
        "note: Music with notes missing is unlike any that a model learned from",
    ):
        assert promised in text
    assert "40 %" in text and "demo" not in text
    assert main(["faithfulness", "tests/single", *options, "--json"]) == 0
    data: Any = json.loads(capsys.readouterr().out)
    assert data["n_clips"] == 5 and data["truth"] is None


def test_a_clip_that_cannot_be_read_is_counted_and_no_more(
    single: DataRoot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(single.path, tmp_path / "root")
    root = DataRoot(tmp_path / "root")
    for entry in root.split("tiny").part("test"):
        root.clip_paths(entry.track)[0].write_bytes(b"no music")
    options = ["--data-root", str(root.path), "--clips", "9", "--draws", "1", "--forgetful", "0"]
    assert main(["faithfulness", "tests/single", *options, "--json"]) == 0
    data: Any = json.loads(capsys.readouterr().out)
    assert data["skipped"] == 3 and data["n_clips"] == 3
    for entry in root.split("tiny").part("test"):
        root.clip_paths(entry.track)[1].write_bytes(b"no music")
    assert main(["faithfulness", "tests/single", *options]) == 1
    assert "no clip of the test part" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_explanations_of_the_demo_as_it_ships_can_be_trusted(tmp_path: Path) -> None:
    root = DataRoot(tmp_path / "root", tmp_path / "cache")
    make_demo(root)
    config = load_config("demo.yaml", overrides=["device=cpu"])
    train(config, root, run_for(config, root))
    found = faithfulness(Identifier.from_checkpoint("demo/demo", root=root), root, clips=24)
    truth = found.to_dict()["truth"]
    assert (truth["twins_found_by_accuracy"], truth["twins_found_by_shapley"]) == (8, 8)
    assert (truth["found_by_accuracy"], truth["found_by_shapley"]) == (24, 24)
    assert found.deletion.n_clips == 24 and found.deletion.told
    for order in ("random", "most painted", "lowest"):
        interval = found.deletion.area(order).interval
        assert interval is not None and interval[0] > 0, order
    assert found.informative >= 18 and found.seen_through == len(found.naive) == 4
    assert found.mean_cascade[-1].correlation < 0.3 and found.mean_cascade[0].correlation < 0.9
