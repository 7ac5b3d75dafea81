"""The shipped configs: the paper's sixteen experiments and our own, found by name, whole, and what the paper ran."""

import re
from pathlib import Path

import pytest
import yaml

from pianistid_core.config import (
    RunConfig,
    config_dir,
    difference,
    load_config,
    parse_config,
    presets,
    to_dict,
    to_yaml,
)
from pianistid_core.errors import ConfigError
from pianistid_core.schema import read_yaml
from pianistid_core.speed import FAST_ON_GPU, speed_settings

# Each fast preset, and the one whose experiment it is.
FAST = {
    "fast/resnet50-jtd+pijama-augment.yaml": "baselines/resnet50-jtd+pijama-augment.yaml",
    "fast/disentangle-jtd+pijama-resnet18-maxpool.yaml": (
        "disentangle-final-experiments/"
        "disentangle-jtd+pijama-resnet18-noattention-maxpool-augment50-mask30concept3.yaml"
    ),
}


def test_a_path_is_taken_as_it_stands_then_below_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config("demo.yaml").experiment == "demo"
    assert load_config("demo").experiment == "demo"
    assert load_config("baselines/crnn-jtd+pijama.yaml").encoder_module == "crnn"
    (tmp_path / "demo.yaml").write_text("experiment: mine")
    assert load_config("demo.yaml").experiment == "mine"
    assert load_config(tmp_path / "demo.yaml").experiment == "mine"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("demoo.yaml", "did you mean demo.yaml"),
        ("crnn-jtd+pijama.yaml", "did you mean baselines/crnn-jtd+pijama.yaml"),
        ("baselines/crnn-jtd-pijama.yaml", "did you mean baselines/crnn-jtd+pijama.yaml"),
        ("zzzzzzzz", "no such file"),
        ("a\0b", "no such file"),
        ("x" * 5000, "not the path of a file"),
        (".", "folder"),
    ],
)
def test_a_missing_file_is_one_sentence_with_the_nearest_name(path: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_presets_are_the_papers_sixteen_and_our_own(shared: Path) -> None:
    guide = (shared / "reference" / "training-readme.md").read_text()
    table = re.compile(r"^\|.*\| +\*?(0\.\d+)\*? +\| `(.+?)` +\|$", re.MULTILINE)
    published = {name: float(accuracy) for accuracy, name in table.findall(guide)}
    assert len(published) == 16
    found = {preset.name: preset for preset in presets()}
    assert {name: found[name].published_accuracy for name in published} == published
    assert set(found) - set(published) == {"demo.yaml", "box.yaml", "jazz20-cpu.yaml", *FAST}
    assert list(found)[:3] == ["demo.yaml", "box.yaml", "jazz20-cpu.yaml"]
    for name, preset in found.items():
        assert preset.title and len(preset.summary) > 40
        assert preset.path == config_dir() / name
        assert f"\n# pianistid train --config {name}\n" in preset.path.read_text()
        assert (preset.table is None) == (name not in published)
        # What the paper reports is of its validation part.
        assert "test accuracy" not in preset.path.read_text()


def test_presets_are_the_reference_files_but_for_their_machines(shared: Path) -> None:
    for preset in presets():
        if preset.table is None:
            continue
        ours = load_config(preset.path)
        theirs = load_config(shared / "reference" / "configs" / preset.name)
        machine = ("checkpoint_cfg.checkpoint_dir", "mlflow_cfg.use", "mlflow_cfg.tracking_uri", "mlflow_cfg.run_id")
        assert {key for key, _, _ in difference(ours, theirs)} <= set(machine), preset.name
        assert not ours.mlflow_cfg.use
        assert ours.checkpoint_cfg.checkpoint_dir is None


def test_presets_are_whole_and_stand_alone() -> None:
    for preset in presets():
        given = yaml.safe_load(preset.path.read_text())
        assert read_yaml(preset.path.read_bytes()) == given
        assert [key for key in to_dict(RunConfig()) if key in given] == list(given)
        assert set(to_dict(RunConfig())) - set(given) <= {
            *("num_workers", "device", "num_threads"),
            *("precision", "channels_last", "compile", "fused_optimiser", "roll_form"),
        }


@pytest.mark.parametrize(("fast", "reference"), FAST.items())
def test_a_fast_preset_is_the_papers_experiment_with_other_arithmetic(fast: str, reference: str) -> None:
    ours, theirs = load_config(fast), load_config(reference)
    assert {key for key, _, _ in difference(ours, theirs)} - {"run"} == {"experiment", *FAST_ON_GPU}
    assert speed_settings(ours) == dict(FAST_ON_GPU)


def test_every_preset_survives_writing() -> None:
    for preset in presets():
        config = load_config(preset.path)
        text = to_yaml(config)
        again = parse_config(read_yaml(text))
        assert again == config
        assert to_yaml(again) == text
        assert yaml.safe_load(text) == to_dict(config)
