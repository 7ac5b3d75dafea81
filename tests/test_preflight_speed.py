"""A step as the reference and fast: both measured, and the runs that say what each kind reaches."""

from typing import Any

import pytest
import torch

from pianistid_core import preflight_speed
from pianistid_core.config import RunConfig, to_yaml
from pianistid_core.datasets.root import DataRoot
from pianistid_core.preflight import Preflight, preflight, run_preflight
from pianistid_core.preflight_speed import Reached, reached
from pianistid_core.run_index import RunIndex
from pianistid_core.runs import Run
from pianistid_core.speed import AS_REFERENCE, FAST_ON_CPU, FAST_ON_GPU, speed_settings, with_settings
from tiny import tiny_config


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few batches are enough to see that they are made."""
    for limit in ("preflight_speed._ENOUGH_S", "preflight_trial._ENOUGH_TRAINING_S", "preflight_trial._MAX_TRAINING_S"):
        monkeypatch.setattr(f"pianistid_core.{limit}", 0.1)


def finished(root: DataRoot, config: RunConfig, accuracy: float, status: Any = "finished") -> None:
    """A run as training leaves it, with that accuracy in its only epoch."""
    run = Run.create(root.checkpoints_dir, config.experiment, config.run)
    run.save_text("config.yaml", to_yaml(config))
    run.append_metrics({"epoch": 1, "test_recording_accuracy": accuracy})
    run.set_state(status, epochs=1)


def test_both_kinds_of_step_are_measured_when_asked_for(tiny_root: DataRoot) -> None:
    found = preflight(tiny_config(), tiny_root, compare=True)
    assert found.ok and found.checks[-1].name == "Speed"
    assert [speed.kind for speed in found.speeds] == ["reference", "fast"]
    for speed in found.speeds:
        assert (
            0 < speed.step_s < 60 and 0 < speed.first_s < 60 and 1e7 < speed.memory_bytes < 1e11 and not speed.trouble
        )
    assert Preflight.from_dict(found.to_dict()) == found
    assert preflight(tiny_config(), tiny_root).speeds == ()


def test_an_epoch_of_a_single_batch_is_enough(tiny_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight_speed, "_MAX_S", 0.1)
    found = preflight(tiny_config(batch_size=50, num_workers=1), tiny_root, compare=True)
    assert found.ok and all(speed.step_s > 0 for speed in found.speeds)


def test_a_process_of_its_own_measures_them_too(tiny_root: DataRoot) -> None:
    found = run_preflight(tiny_config(), tiny_root, compare=True)
    assert found.ok and len(found.speeds) == 2


def test_one_kind_that_cannot_run_leaves_the_other_and_the_preflight(
    tiny_root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*arguments: Any, **settings: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(preflight_speed, "fast_settings", lambda *, on_gpu: {**FAST_ON_CPU, "precision": "bf16"})
    monkeypatch.setattr(torch, "autocast", no_room)
    found = preflight(tiny_config(), tiny_root, compare=True)
    reference, fast = found.speeds
    assert found.ok and reference.step_s > 0 and fast.step_s == 0
    assert "the machine ran out of memory" in fast.trouble


def test_settings_go_there_and_back() -> None:
    config = tiny_config()
    fast = with_settings(config, FAST_ON_GPU)
    assert speed_settings(config) == dict(AS_REFERENCE) and speed_settings(fast) == dict(FAST_ON_GPU)
    assert with_settings(fast, AS_REFERENCE) == config


def test_accuracy_is_told_by_runs_of_this_experiment_alone(tiny_root: DataRoot) -> None:
    config, index = tiny_config(), RunIndex(tiny_root.checkpoints_dir)
    assert reached(config, index) == {}
    finished(tiny_root, tiny_config(run="plain"), 0.9)
    finished(tiny_root, with_settings(tiny_config(run="quick"), FAST_ON_GPU), 0.8)
    finished(tiny_root, with_settings(tiny_config(run="other", batch_size=4), FAST_ON_GPU), 0.1)
    finished(tiny_root, tiny_config(run="seed", seed=1), 0.2)
    finished(tiny_root, tiny_config(run="half", precision="bf16"), 0.3)
    finished(tiny_root, tiny_config(run="ended"), 0.4, "stopped")
    both = {"reference": Reached("tests/plain", 0.9), "fast": Reached("tests/quick", 0.8)}
    assert reached(config, index) == both == reached(with_settings(config, FAST_ON_CPU), index)


def test_a_run_from_before_there_were_such_settings_was_as_the_reference(tiny_root: DataRoot) -> None:
    config = tiny_config(run="old")
    finished(tiny_root, config, 0.7)
    path = tiny_root.checkpoints_dir / "tests" / "old" / "config.yaml"
    kept = [line for line in path.read_text().splitlines() if line.partition(":")[0] not in AS_REFERENCE]
    path.write_text("\n".join(kept))
    assert reached(config, RunIndex(tiny_root.checkpoints_dir)) == {"reference": Reached("tests/old", 0.7)}
