"""What a model knows of each pianist: figures that fit together, kept in the run, and of no use once it changes."""

import json
import os
import shutil
from pathlib import Path

import pytest

from pianistid_core.__main__ import main
from pianistid_core.checkpoints import load_model
from pianistid_core.concepts import CONCEPTS
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import CheckpointError, RunError
from pianistid_core.evaluation import ablate
from pianistid_core.loader import ClipDataset, make_loader
from pianistid_core.profiles import Profiles, profiles, saved
from pianistid_core.run_config import run_for
from pianistid_core.runs import Run
from pianistid_core.training import train
from tiny import PIANISTS, tiny_config

COMPACT = {"compact_encoders": True, "compact_stem": 4, "compact_width": 8, "frame_pool": 50, "use_gru": False}


@pytest.fixture(scope="module")
def trained(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    """The tiny data set's root with a factorised and a single-channel run, both briefly trained."""
    folder = tmp_path_factory.mktemp("profiles")
    shutil.copytree(tiny_data, folder / "root")
    root = DataRoot(folder / "root", cache_dir=folder / "cache")
    single = {"encoder_module": "compact", "model_cfg": {"frame_pool": 50, "stem_width": 4, "width": 8}}
    clips = {"train_dataset_cfg": {}, "test_dataset_cfg": {}}
    for config in (tiny_config(run="four", model_cfg=COMPACT), tiny_config(run="single", **single, **clips)):
        train(config, root, run_for(config, root))
    return root


@pytest.fixture
def root(trained: DataRoot, tmp_path: Path) -> DataRoot:
    shutil.copytree(trained.path, tmp_path / "root")
    return DataRoot(tmp_path / "root", cache_dir=trained.cache_dir)


@pytest.fixture
def run(root: DataRoot) -> Run:
    return Run.find(root.checkpoints_dir, "tests/four")


def test_the_recalls_are_those_of_the_ablation(run: Run, root: DataRoot) -> None:
    found = profiles(run, root, "train")
    loaded = load_model(run.path, root=root)
    data = ClipDataset.open(root, "tiny", "train", loaded.config.test_dataset_cfg, training=False)
    rows = ablate(loaded.model, make_loader(data), next(loaded.model.parameters()).device, PIANISTS)
    by_kept = {row.kept: row.metrics for row in rows}
    assert found.concepts == CONCEPTS and found.heard == ("all", *CONCEPTS) and found.n_recordings == 9
    assert found.accuracy == by_kept[CONCEPTS].recording_accuracy
    for index, one in enumerate(found.pianists):
        assert one.pianist == PIANISTS[index] and one.n == 3
        assert one.recall["all"] == by_kept[CONCEPTS].recalls[index]
        for concept in CONCEPTS:
            assert one.recall[concept] == by_kept[(concept,)].recalls[index]
            counts = by_kept[(concept,)].confusion.counts[index]
            expected = {PIANISTS[k]: c / 3 for k, c in enumerate(counts) if k != index and c}
            assert dict(one.mistaken_for[concept]) == expected


def test_the_typical_are_named_rightly_and_the_surest_come_first(run: Run, root: DataRoot) -> None:
    found = profiles(run, root, "train")
    truth = {entry.track: PIANISTS[entry.pianist] for entry in root.split("tiny").part("train")}
    assert any(one.typical for one in found.pianists)
    for one in found.pianists:
        assert len(one.typical) == round((one.recall["all"] or 0) * one.n)
        assert [share for _, share in one.typical] == sorted((share for _, share in one.typical), reverse=True)
        assert all(truth[track] == one.pianist and share > 1 / 3 for track, share in one.typical)


def test_a_model_that_hears_music_as_a_whole_has_one_column(root: DataRoot) -> None:
    found = profiles(Run.find(root.checkpoints_dir, "tests/single"), root)
    assert found.concepts == () and found.heard == ("all",)
    assert {tuple(one.recall) for one in found.pianists} == {("all",)}


def test_they_are_kept_in_the_run_and_read_without_measuring(run: Run, root: DataRoot) -> None:
    assert saved(run) is None
    seen: list[tuple[int, int]] = []
    found = profiles(run, root, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (6, 6)
    train_part = profiles(run, root, "train")
    assert saved(run) == found and saved(run, "train") == train_part and saved(run, "validation") is None
    assert Profiles.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_each_checkpoint_has_its_own_and_the_most_trained_counts(run: Run, root: DataRoot) -> None:
    first, last = run.checkpoints()
    early = profiles(run, root, checkpoint=first)
    assert saved(run) == early and early.checkpoint == first.name
    late = profiles(run, root)
    assert saved(run) == late and late.checkpoint == last.name
    assert saved(run, checkpoint=first) == early
    last.unlink()
    assert saved(run) == early


def test_they_end_with_their_checkpoint_and_damage_is_passed_over(run: Run, root: DataRoot) -> None:
    profiles(run, root)
    path = run.path / "profiles" / f"{run.latest_checkpoint().stem}-test.json"
    good = path.read_bytes()
    for bad in (b"", b"[]", b'{"stamp": 3}', good[:-20], good.replace(b'"n":', b'"m":')):
        path.write_bytes(bad)
        assert saved(run) is None
    path.write_bytes(good)
    assert saved(run) is not None
    os.utime(run.latest_checkpoint(), ns=(1, 1))
    assert saved(run) is None


def test_a_run_without_checkpoint_and_other_pianists_are_refused(run: Run, root: DataRoot) -> None:
    mapping = root.splits_dir / "tiny" / "pianist_mapping.csv"
    mapping.write_text(mapping.read_text().replace("Ada Even", "Someone Else"))
    with pytest.raises(CheckpointError, match="tells others apart"):
        profiles(run, root)
    for path in run.checkpoints():
        path.unlink()
    with pytest.raises(RunError, match="no checkpoint"):
        profiles(run, root)


def test_the_command_prints_a_table_and_keeps_the_result(
    run: Run, root: DataRoot, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data-root", str(root.path), "--device", "cpu"]
    assert main(["profile", "tests/four", "--part", "train", *options]) == 0
    shown = capsys.readouterr().out
    assert "Cleo Wide" in shown and "dynamics" in shown and "of 9 recordings of the train part" in shown
    assert main(["profile", "tests/four", "--json", *options]) == 0
    assert json.loads(capsys.readouterr().out)["n_recordings"] == 3
    assert saved(run, "train") is not None
    assert main(["profile", "tests/none", *options]) == 1
