"""Checkpoints: read as data, refused with the first difference when they do not fit."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hostile_checkpoints import EXECUTED, CheckpointCase, cases, good_content, hostile_states, saved, without_seal
from pianistid_core.checkpoints import check_position, load_model, read_checkpoint
from pianistid_core.config import config_dir, load_config, to_dict, to_yaml
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import CheckpointError, PianistIDError
from pianistid_core.learning import Learner
from pianistid_core.models import build_model
from pianistid_core.run_config import run_for
from pianistid_core.runs import Run
from pianistid_core.training import train
from tiny import tiny_config


@pytest.fixture(scope="module")
def trained_run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("trained")
    root = DataRoot(tiny_data, cache_dir=folder / "cache")
    config = tiny_config(epochs=1, checkpoint_cfg={"checkpoint_dir": str(folder / "checkpoints")})
    run = run_for(config, root)
    train(config, root, run)
    return run


def published(path: Path, model: torch.nn.Module, **more: Any) -> Path:
    """A checkpoint in the form of the paper's: no config, no class names, metrics as NumPy numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    saved = {
        "epoch": 99,
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": 0.001}]},
        "scheduler_state_dict": None,
        "train/acc": np.float64(0.9),
        "test/loss": np.float32(0.5),
        "iterations": np.int64(12),
        **more,
    }
    torch.save(saved, path)
    return path


def test_a_checkpoint_alone_rebuilds_its_model(trained_run: Run, tmp_path: Path) -> None:
    moved = tmp_path / "moved.pth"
    moved.write_bytes(trained_run.latest_checkpoint().read_bytes())
    loaded = load_model(moved)
    assert loaded.class_names == ("Ada Even", "Ben Cluster", "Cleo Wide")
    assert loaded.config.run == "tiny" and loaded.epoch == 1
    assert not loaded.model.training


def test_run_folder_and_checkpoint_give_the_same_model(trained_run: Run) -> None:
    one, other = load_model(trained_run.path), load_model(trained_run.latest_checkpoint())
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_published_checkpoint_takes_its_config_from_config_and_its_classes_from_the_split(
    tiny_root: DataRoot,
) -> None:
    preset = load_config("baselines/crnn-jtd+pijama.yaml")
    (tiny_root.splits_dir / "tiny").rename(tiny_root.splits_dir / preset.data_split_dir)
    model = build_model(preset.encoder_module, preset.model_cfg, 3)
    path = published(tiny_root.checkpoints_dir / preset.experiment / preset.run / "checkpoint_099.pth", model)
    loaded = load_model(f"{preset.experiment}/{preset.run}", root=tiny_root)
    assert loaded.config == preset and loaded.path == path and loaded.epoch == 99
    assert len(loaded.class_names) == 3
    assert config_dir().is_dir()


def test_a_published_checkpoint_takes_the_config_beside_it(tmp_path: Path, tiny_root: DataRoot) -> None:
    config = tiny_config()
    path = published(tmp_path / "some" / "where" / "weights.pth", build_model("disentangle", config.model_cfg, 3))
    with pytest.raises(CheckpointError, match="--config"):
        load_model(path, root=tiny_root)
    (path.parent / "config.yaml").write_text(to_yaml(config))
    assert load_model(path, root=tiny_root).config == config


def test_without_its_split_a_published_checkpoint_has_no_names(tmp_path: Path) -> None:
    config = tiny_config()
    path = published(tmp_path / "a" / "b" / "weights.pth", build_model("disentangle", config.model_cfg, 3))
    with pytest.raises(CheckpointError, match="does not name its pianists"):
        load_model(path, config=config, root=DataRoot(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_cfg": to_dict(tiny_config())["model_cfg"] | {"frame_pool": 50, "use_2fc": True}}, "lacks fc1"),
        ({"encoder_module": "cnn", "model_cfg": {}}, "another architecture"),
    ],
)
def test_a_checkpoint_of_another_architecture_is_refused(trained_run: Run, change: dict[str, Any], reason: str) -> None:
    single = {"train_dataset_cfg": {}, "test_dataset_cfg": {}} if change.get("encoder_module") == "cnn" else {}
    with pytest.raises(CheckpointError, match=reason):
        load_model(trained_run.latest_checkpoint(), config=tiny_config(**change, **single))


def test_a_checkpoint_of_another_class_list_is_refused(trained_run: Run, tmp_path: Path) -> None:
    saved = read_checkpoint(trained_run.latest_checkpoint())
    torch.save(saved | {"class_names": ["a", "b"]}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="class list"):
        load_model(tmp_path / "other.pth")


@pytest.mark.parametrize("epoch", [float("nan"), float("inf"), -1, np.float64("nan")])
def test_an_impossible_epoch_is_refused(trained_run: Run, tmp_path: Path, epoch: float) -> None:
    saved = read_checkpoint(trained_run.latest_checkpoint())
    torch.save(saved | {"epoch": epoch}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="epoch"):
        load_model(tmp_path / "other.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(trained_run: Run, tmp_path: Path, value: float) -> None:
    saved = read_checkpoint(trained_run.latest_checkpoint())
    weights = saved["model_state_dict"]
    name = next(name for name in weights if name.endswith("weight"))
    weights[name].view(-1)[-1] = value
    torch.save(saved, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=f"{name} .*not finite"):
        load_model(tmp_path / "other.pth")


def test_class_names_that_are_given_twice_are_refused(trained_run: Run, tmp_path: Path) -> None:
    saved = read_checkpoint(trained_run.latest_checkpoint())
    torch.save(saved | {"class_names": ["Ada", "Ben", "Ada"]}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="'Ada' twice"):
        load_model(tmp_path / "other.pth")


def test_root_may_be_a_path_and_device_auto(trained_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    root = trained_run.path.parents[2]
    for place in (root, str(root), DataRoot(root)):
        assert load_model(trained_run.id, root=place, device="auto").path == trained_run.latest_checkpoint()


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path("executed").write_text, ("by a checkpoint",)


def test_a_checkpoint_with_code_in_it_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model_state_dict": {}, "epoch": Malicious()}, "bad.pth")
    with pytest.raises(CheckpointError, match="more than weights"):
        read_checkpoint(Path("bad.pth"))
    assert not Path("executed").exists()


@pytest.mark.parametrize("content", [b"", b"text", b"MThd", b"PK\x03\x04" + bytes(100), b"\x80\x02}q\x00."])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"bad\.pth is (damaged|not a checkpoint)"):
        read_checkpoint(tmp_path / "bad.pth")


def test_a_cut_checkpoint_is_refused(trained_run: Run, tmp_path: Path) -> None:
    whole = trained_run.latest_checkpoint().read_bytes()
    for share in (0.1, 0.5, 0.9, 0.999):
        (tmp_path / "cut.pth").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(CheckpointError, match="damaged"):
            read_checkpoint(tmp_path / "cut.pth")


def test_what_holds_no_weights_is_refused(tmp_path: Path) -> None:
    for number, content in enumerate([OrderedDict(a=torch.zeros(1)), [1, 2], {"model_state_dict": 3}]):
        torch.save(content, tmp_path / f"{number}.pth")
        with pytest.raises(CheckpointError, match="no model_state_dict"):
            read_checkpoint(tmp_path / f"{number}.pth")


def test_missing_runs_and_files_are_named(tmp_path: Path) -> None:
    for source in ("nothing/here", tmp_path / "nothing.pth", tmp_path):
        with pytest.raises(PianistIDError, match=r"nothing|is not a run"):
            load_model(source, root=DataRoot(tmp_path))


GOOD = good_content()
HOSTILE = [case for case in cases(saved(GOOD)) if "200 MB" not in case.name and "100,000 members" not in case.name]


@pytest.mark.parametrize("case", HOSTILE, ids=[case.name for case in HOSTILE])
def test_hostile_checkpoints_are_refused_for_what_they_are_and_run_nothing(
    case: CheckpointCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(EXECUTED, str(tmp_path / "executed"))
    path = tmp_path / "hostile.pth"
    path.write_bytes(case.make())
    if case.refusal is None:
        assert load_model(path).class_names == ("a", "b", "c")
    else:
        with pytest.raises(PianistIDError) as caught:
            load_model(path)
        said = str(caught.value)
        assert case.refusal in said and said.isprintable() and 20 < len(said) < 600
    assert set(tmp_path.iterdir()) == {path}


STATES = hostile_states(GOOD)


@pytest.mark.parametrize("name", STATES)
def test_what_training_cannot_go_on_from_is_told_before_a_step(name: str) -> None:
    learner = Learner(tiny_config(sched_type="plateau"), torch.device("cpu"), 3)
    # Those that torch tells of itself are put in words by the trainer.
    with pytest.raises((CheckpointError, KeyError, TypeError, RuntimeError)):
        check_position(STATES[name], source="checkpoint.pth")
        learner.load(STATES[name], source="checkpoint.pth")


def test_what_training_goes_on_from_is_taken_up_as_it_was_saved() -> None:
    learner = Learner(tiny_config(sched_type="plateau"), torch.device("cpu"), 3)
    check_position(GOOD, source="checkpoint.pth")
    learner.load(GOOD, source="checkpoint.pth")
    taken = learner.state()
    for number, wanted in GOOD["optimizer_state_dict"]["state"].items():
        found = taken["optimizer_state_dict"]["state"][number]
        assert found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert taken["optimizer_state_dict"]["param_groups"] == GOOD["optimizer_state_dict"]["param_groups"]
    assert taken["scheduler_state_dict"] == GOOD["scheduler_state_dict"]


def test_a_file_that_was_never_sealed_is_still_compared_with_its_check_sums(tmp_path: Path) -> None:
    whole = bytearray(without_seal(saved(GOOD)))
    for at in range(len(whole) // 10, len(whole), len(whole) // 10):
        hurt = bytes(whole[:at]) + bytes([whole[at] ^ 4]) + bytes(whole[at + 1 :])
        (tmp_path / "hurt.pth").write_bytes(hurt)
        with pytest.raises(CheckpointError, match=r"hurt\.pth is"):
            read_checkpoint(tmp_path / "hurt.pth")
