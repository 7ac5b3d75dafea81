"""A run's config: the paper's files load, defaults follow choices, faults are named, and nothing is lost in writing."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pianistid_core.config import (
    RunConfig,
    config_fields,
    default_config,
    difference,
    flatten,
    load_config,
    parse_config,
    presets,
    to_dict,
    to_yaml,
)
from pianistid_core.errors import ConfigError
from pianistid_core.models import ENCODERS
from pianistid_core.models.options import CnnOptions, FactorisedOptions, ResNetOptions
from pianistid_core.names import folder_name_problem
from pianistid_core.schema import FieldInfo, read_yaml
from pianistid_core.training_options import (
    AdamOptions,
    CosineOptions,
    CrossEntropyOptions,
    LinearOptions,
    MlflowOptions,
    NoOptions,
    PlateauOptions,
    SgdOptions,
    StepOptions,
    TripletOptions,
)

USE_FC2 = "disentangle-resnet/disentangle-jtd+pijama-resnet18-mask30concept3-augment50-noattention-avgpool-onefc.yaml"
LINEAR_POOL = (
    "disentangle-channel/disentangle-jtd+pijama-4conv3pool-mask30concept3-augment50-noattention-linearflatten.yaml"
)
REFUSED = {
    USE_FC2: "model_cfg.use_fc2: unknown key for encoder_module disentangle; did you mean use_2fc?",
    LINEAR_POOL: "model_cfg.pool_type: got 'linear'; give one of avg, max, gem, conv1x1, masked-avg",
}
FOUR_CHANNELS = {"train_dataset_cfg": {"multichannel": True}, "test_dataset_cfg": {"multichannel": True}}


def faults(mapping: dict[str, Any], overrides: tuple[str, ...] = ()) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(mapping, overrides=overrides)
    assert "\n" not in str(caught.value)
    return {fault.key: fault.message for fault in caught.value.faults}


# --- the paper's files ------------------------------------------------------------------------------------------


def test_reference_configs_load_but_for_the_two_that_were_broken(shared: Path) -> None:
    root = shared / "reference" / "configs"
    loaded, refused = {}, {}
    for path in sorted(root.rglob("*.yaml")):
        try:
            loaded[path.relative_to(root).as_posix()] = load_config(path)
        except ConfigError as error:
            refused[path.relative_to(root).as_posix()] = [str(fault) for fault in error.faults]
    assert len(loaded) == 41
    assert refused == {name: [message] for name, message in REFUSED.items()}


def test_reference_values_arrive(shared: Path) -> None:
    root = shared / "reference" / "configs"
    triplet = load_config(
        root / "disentangle-lossfn" / "disentangle-jtd+pijama-4conv3pool-mask30concept3-augment50-noattention-"
        "cce+triplet0.1.yaml"
    )
    assert triplet.loss_cfg == TripletOptions(margin=0.1, similarity="cosine")
    assert triplet.optim_cfg == AdamOptions(lr=0.0001)
    assert triplet.sched_cfg == CosineOptions(T_max=100)
    assert isinstance(triplet.model_cfg, FactorisedOptions)
    assert [layer.out_channels for layer in triplet.model_cfg.layers] == [64, 128, 256, 512]
    assert triplet.checkpoint_cfg.checkpoint_dir is not None
    assert triplet.mlflow_cfg == MlflowOptions(use=True, tracking_uri="http://127.0.0.1:5000")


def test_loading_leaves_the_file_as_it_was(shared: Path, tmp_path: Path) -> None:
    original = (shared / "reference" / "configs" / "debug_local.yaml").read_bytes()
    path = tmp_path / "mine.yaml"
    path.write_bytes(original)
    path.chmod(0o444)
    load_config(path, overrides=["epochs=1"])
    assert path.read_bytes() == original


def test_the_guides_example_loads() -> None:
    config = parse_config(
        read_yaml(
            "experiment: default\nrun: debug_local\nbatch_size: 4\nepochs: 100\nclassify_dataset: false\n"
            "train_dataset_cfg:\n  n_clips: 100\n  multichannel: false\n  normalize_velocity: true\n"
            "test_dataset_cfg:\n  n_clips: 100\n  multichannel: false\n  normalize_velocity: true\n"
            "encoder_module: cnn\nmodel_cfg: { }\noptim_type: adam\noptim_cfg:\n  lr: 1.0e-3\nsched_type: null\n"
            "loss_type: cce\nloss_cfg: { }\nmlflow_cfg:\n  use: false\n  tracking_uri: ...\n  run_id: ...\n"
        )
    )
    assert config.model_cfg == CnnOptions()
    assert (config.sched_type, config.sched_cfg) == (None, NoOptions())
    assert config.train_dataset_cfg.n_clips == 100


# --- defaults ---------------------------------------------------------------------------------------------------


def test_defaults_are_those_of_the_paper() -> None:
    clips = {"n_clips": None, "normalize_velocity": True, "multichannel": False, "augmentation_probability": 0.5}
    expected: dict[str, Any] = {
        "experiment": "default",
        "run": "debug_local",
        "batch_size": 5,
        "epochs": 100,
        "data_split_dir": "20class_80min",
        "classify_dataset": False,
        "train_dataset_cfg": clips | {"data_augmentation": True, "jitter_start": True},
        "test_dataset_cfg": clips | {"data_augmentation": False, "jitter_start": False},
        "encoder_module": "resnet50",
        "model_cfg": {"layers": [3, 4, 6, 3], "pool_type": "avg", "norm_type": "bn", "frame_pool": 1},
        "optim_type": "sgd",
        "optim_cfg": {"lr": 0.01, "momentum": 0.9, "nesterov": False, "weight_decay": 0.0001},
        "sched_type": "cosine",
        "sched_cfg": {"T_max": 100, "eta_min": 0.0},
        "loss_type": "cce",
        "loss_cfg": {"label_smoothing": 0.0, "logit_adjustment": 0.0},
        "checkpoint_cfg": {
            "save_checkpoints": True,
            "load_checkpoints": True,
            "checkpoint_after_n_epochs": 25,
            "checkpoint_dir": None,
            "delete_old_checkpoints": False,
        },
        "mlflow_cfg": {"use": False, "tracking_uri": None, "run_id": None},
        "seed": 42,
        "num_workers": 0,
        "device": "auto",
        "num_threads": None,
        "precision": "float32",
        "channels_last": False,
        "compile": False,
        "fused_optimiser": False,
        "roll_form": "float32",
    }
    extraction = {
        "melody": {"lower_bound": 21, "quantize_resolution": 0.01},
        "harmony": {
            "upper_bound": 109,
            "minimum_notes": 3,
            "quantize_resolution": 0.3,
            "remove_highest_pitch": False,
        },
        "dynamics": {"quantize_resolution": 0.01},
    }
    for part in ("train_dataset_cfg", "test_dataset_cfg"):
        expected[part] |= {"use_concepts": [0, 1, 2, 3], "extractor_cfg": extraction, "release_gap_s": 0.0}
    assert to_dict(default_config()) == expected
    assert default_config() == RunConfig()


@pytest.mark.parametrize(
    ("mapping", "key", "expected"),
    [
        ({"optim_type": "adam"}, "optim_cfg", AdamOptions(lr=0.001, betas=(0.9, 0.999), weight_decay=0.0)),
        ({"optim_type": "sgd"}, "optim_cfg", SgdOptions()),
        ({"optim_cfg": {"lr": 0.1}}, "optim_cfg", SgdOptions(lr=0.1, momentum=0.9)),
        ({"sched_type": "plateau"}, "sched_cfg", PlateauOptions()),
        ({"sched_type": "step"}, "sched_cfg", StepOptions()),
        ({"sched_type": "linear"}, "sched_cfg", LinearOptions()),
        ({"sched_type": None}, "sched_cfg", NoOptions()),
        ({}, "sched_cfg", CosineOptions(T_max=100)),
        ({"epochs": 3}, "sched_cfg", CosineOptions(T_max=100)),
        ({"encoder_module": "cnn"}, "model_cfg", CnnOptions()),
        ({"encoder_module": "disentangle", **FOUR_CHANNELS}, "model_cfg", FactorisedOptions()),
        ({"model_cfg": {"norm_type": "ibn"}}, "model_cfg", ResNetOptions(norm_type="ibn")),
        ({"loss_type": "cce+triplet"}, "loss_cfg", TripletOptions(margin=0.3, similarity="cosine")),
        ({"loss_type": "cce"}, "loss_cfg", CrossEntropyOptions()),
        ({"mlflow_cfg": {"use": True}}, "mlflow_cfg", MlflowOptions(use=True)),
    ],
)
def test_a_default_belongs_to_the_choice_it_was_written_for(
    mapping: dict[str, Any], key: str, expected: object
) -> None:
    assert getattr(parse_config(mapping), key) == expected


def test_a_checkpoint_section_given_in_part_keeps_the_other_defaults() -> None:
    given = parse_config({"checkpoint_cfg": {"checkpoint_after_n_epochs": 3}}).checkpoint_cfg
    assert given == dataclasses.replace(default_config().checkpoint_cfg, checkpoint_after_n_epochs=3)


# --- faults -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mapping", "key", "words"),
    [
        ({"epochs": 0}, "epochs", "at least 1"),
        ({"batch_size": 0}, "batch_size", "at least 1"),
        ({"batch_size": 2.5}, "batch_size", "whole number"),
        ({"optim_cfg": {"lr": -0.1}}, "optim_cfg.lr", "above 0"),
        ({"optim_cfg": {"lr": 0}}, "optim_cfg.lr", "above 0"),
        ({"optim_cfg": {"learning_rate": 0.1}}, "optim_cfg.learning_rate", "allowed are lr, momentum"),
        ({"optim_cfg": {"momentum": 1}}, "optim_cfg.momentum", "below 1"),
        ({"optim_cfg": {"nesterov": True, "momentum": 0}}, "optim_cfg.nesterov", "momentum above 0"),
        ({"optim_type": "adam", "optim_cfg": {"momentum": 0.9}}, "optim_cfg.momentum", "belongs to optim_type sgd"),
        ({"optim_type": "adam", "optim_cfg": {"betas": [0.9, 1]}}, "optim_cfg.betas[1]", "below 1"),
        ({"optim_type": "adamw"}, "optim_type", "did you mean adam?"),
        ({"sched_cfg": {"T_max": 0}}, "sched_cfg.T_max", "at least 1"),
        ({"sched_cfg": {"t_max": 5}}, "sched_cfg.t_max", "did you mean T_max?"),
        ({"sched_type": "none"}, "sched_type", "did you mean null?"),
        ({"sched_type": "reduce"}, "sched_type", "one of plateau, cosine, step, linear, or null"),
        ({"sched_type": "step", "sched_cfg": {"step_size": 0}}, "sched_cfg.step_size", "at least 1"),
        ({"sched_type": "linear", "sched_cfg": {"start_factor": 0}}, "sched_cfg.start_factor", "above 0"),
        ({"sched_type": "plateau", "sched_cfg": {"factor": 1}}, "sched_cfg.factor", "below 1"),
        ({"loss_cfg": {"margin": 1}}, "loss_cfg.margin", "belongs to loss_type cce+triplet"),
        ({"loss_type": "cce+triplet", "batch_size": 1}, "batch_size", "at least 2"),
        ({"encoder_module": "resnet"}, "encoder_module", "did you mean resnet50?"),
        ({"model_cfg": {"layers": [3, 4, 10**9, 3]}}, "model_cfg.layers[2]", "at most 64"),
        ({"model_cfg": {"pool_type": "max"}}, "model_cfg.pool_type", "one of avg, gem"),
        ({"encoder_modul": "cnn"}, "encoder_modul", "did you mean encoder_module?"),
        ({"lr": 0.1}, "lr", "did you mean optim_cfg.lr?"),
        ({"device": "cuda:x"}, "device", "give auto, cpu, cuda"),
        ({"device": "tpu"}, "device", "give auto, cpu, cuda"),
        ({"seed": -1}, "seed", "at least 0"),
        ({"num_workers": -1}, "num_workers", "at least 0"),
        ({"num_threads": 0}, "num_threads", "at least 1"),
        ({"precision": "fp16"}, "precision", "float32, bf16"),
        ({"roll_form": "stroke"}, "roll_form", "float32, uint8, strokes"),
        ({"compile": "yes"}, "compile", "true or false"),
        ({"run": 5}, "run", "quotes"),
        ({"run": False}, "run", "quotes"),
        ({"run": "../x"}, "run", "leave out / and"),
        ({"run": "a/b"}, "run", "leave out / and"),
        ({"run": ""}, "run", "not empty"),
        ({"run": "CON"}, "run", "Windows"),
        ({"run": "x" * 121}, "run", "at most 120"),
        ({"experiment": ".."}, "experiment", "leave out .."),
        ({"data_split_dir": "../../etc"}, "data_split_dir", "leave out / and"),
        ({"mlflow_cfg": True}, "mlflow_cfg", "a section with the keys use, tracking_uri, run_id"),
        (
            {"test_dataset_cfg": {"normalize_velocity": False}},
            "test_dataset_cfg.normalize_velocity",
            "differs from train_dataset_cfg",
        ),
        (
            {"test_dataset_cfg": {"multichannel": True}},
            "test_dataset_cfg.multichannel",
            "got true; resnet50 takes one channel",
        ),
        (
            {"encoder_module": "disentangle", "train_dataset_cfg": {"multichannel": True}},
            "test_dataset_cfg.multichannel",
            "got false; disentangle needs the four concept channels",
        ),
        (
            {
                "encoder_module": "disentangle",
                "train_dataset_cfg": {"multichannel": True, "use_concepts": [0, 1]},
                "test_dataset_cfg": {"multichannel": True},
            },
            "train_dataset_cfg.use_concepts",
            "got [0, 1]; disentangle needs all four",
        ),
    ],
)
def test_what_would_fail_later_is_refused_now(mapping: dict[str, Any], key: str, words: str) -> None:
    found = faults(mapping)
    assert key in found
    assert words in found[key]


def test_one_concept_may_feed_a_network_of_one_channel() -> None:
    clips = {"multichannel": True, "use_concepts": [1]}
    config = parse_config({"encoder_module": "cnn", "train_dataset_cfg": clips, "test_dataset_cfg": clips})
    assert config.train_dataset_cfg.n_channels == 1
    other = clips | {"use_concepts": [2]}
    found = faults({"encoder_module": "cnn", "train_dataset_cfg": clips, "test_dataset_cfg": other})
    assert "differs" in found["test_dataset_cfg.use_concepts"]


def test_all_faults_come_at_once() -> None:
    found = faults(
        {
            "epochs": 0,
            "runn": "x",
            "optim_cfg": {"lr": "fast"},
            "model_cfg": {"use_2fc": False},
            "train_dataset_cfg": {"augmentation_probability": 2},
            "checkpoint_cfg": {"checkpoint_after_n_epochs": 0},
        },
        overrides=("batch_size=0", "nonsense"),
    )
    assert set(found) == {
        "",
        "epochs",
        "runn",
        "optim_cfg.lr",
        "model_cfg.use_2fc",
        "train_dataset_cfg.augmentation_probability",
        "checkpoint_cfg.checkpoint_after_n_epochs",
        "batch_size",
    }


@pytest.mark.parametrize("bomb", ["a: &a [*a]", "a: " + "[" * 90_000, "epochs: .nan", "epochs: 1\nepochs: 2", "- a"])
def test_a_hostile_file_is_one_quick_sentence_with_its_name(bomb: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.yaml"
    path.write_text(bomb)
    start = time.perf_counter()
    with pytest.raises(ConfigError, match=r"bomb\.yaml: 1 fault: [^\n]+$"):
        load_config(path)
    assert time.perf_counter() - start < 5


def test_a_huge_file_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    path.write_text("a: 1\n" * 2_000_000)
    with pytest.raises(ConfigError, match="too large"):
        load_config(path)


# --- overrides --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "key", "expected"),
    [
        ("epochs=7", "epochs", 7),
        ("optim_cfg.lr=1e-3", "optim_cfg.lr", 0.001),
        ("model_cfg.layers=[1, 1, 1, 1]", "model_cfg.layers", [1, 1, 1, 1]),
        ("mlflow_cfg.tracking_uri=http://h:1/?a=b", "mlflow_cfg.tracking_uri", "http://h:1/?a=b"),
        ("checkpoint_cfg={save_checkpoints: false}", "checkpoint_cfg.save_checkpoints", False),
        ("sched_type=null", "sched_type", None),
        ("sched_type=", "sched_type", None),
        ("run=12", "run", "12"),
        ("run=1e-3", "run", "1e-3"),
        ("run=yes", "run", "yes"),
        ("run='12'", "run", "12"),
        (" run = spaced ", "run", "spaced"),
        ("test_dataset_cfg.n_clips=3", "test_dataset_cfg.n_clips", 3),
    ],
)
def test_an_override_wins_over_the_yaml(override: str, key: str, expected: object) -> None:
    given = to_dict(default_config())
    assert flatten(parse_config(given, overrides=[override]))[key] == expected
    assert given == to_dict(default_config())


def test_an_override_of_a_choice_leaves_the_old_choices_settings_behind() -> None:
    given = to_dict(default_config())
    given["optim_cfg"]["lr"] = 5.0
    config = parse_config(given, overrides=["optim_cfg.eps=0.001", "optim_type=adam", "sched_type=null"])
    assert config.optim_cfg == AdamOptions(eps=0.001)
    assert config.sched_cfg == NoOptions()
    assert parse_config(given, overrides=["optim_type=sgd"]).optim_cfg == SgdOptions(lr=5.0)


def test_the_last_of_two_overrides_wins() -> None:
    assert parse_config({}, overrides=["epochs=1", "epochs=2"]).epochs == 2


@pytest.mark.parametrize(
    ("override", "key", "words"),
    [
        ("nonsense", "", "give key=value, such as optim_cfg.lr=0.001"),
        ("=1", "", "give key=value"),
        ("optim_cfg..lr=1", "", "give key=value"),
        ("epoch=1", "epoch", "did you mean epochs?"),
        ("epochs=[1", "epochs", "line 1, column 3"),
        ("epochs=&a 1", "epochs", "anchor"),
        ("epochs.x=1", "epochs.x", "epochs is not a section"),
        ("model_cfg.use_2fc=false", "model_cfg.use_2fc", "belongs to encoder_module disentangle"),
    ],
)
def test_a_bad_override_is_named(override: str, key: str, words: str) -> None:
    found = faults(to_dict(default_config()), overrides=(override,))
    assert words in found[key]


# --- writing, comparing, describing -----------------------------------------------------------------------------


NAMES = st.one_of(
    st.text(st.characters(categories=["L", "N"], include_characters="+-_.,=() "), min_size=1, max_size=30),
    st.sampled_from(["1e-3", "yes", "012", "null", "2024-01-01", "1.5", "=", "crnn-jtd+pijama", "0x1F"]),
).filter(lambda name: folder_name_problem(name) is None)


def values_for(info: FieldInfo) -> st.SearchStrategy[Any]:
    """Draws values that one field takes."""
    if info.key in ("experiment", "run", "data_split_dir"):
        return NAMES
    if info.key == "device":
        return st.sampled_from(["auto", "cpu", "cuda", "cuda:1", "mps"])
    if info.choices is not None:
        found: st.SearchStrategy[Any] = st.sampled_from(info.choices)
    elif info.kind == "bool":
        found = st.booleans()
    elif info.kind == "int":
        found = st.integers(int(info.low or 0), int(min(info.high or 10**6, 10**6)))
    elif info.kind == "float":
        found = st.floats(
            info.low, info.high, exclude_min=info.low_open, exclude_max=info.high_open, allow_subnormal=False
        )
    else:
        found = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=40)
    return st.none() | found if info.optional else found


@st.composite
def mappings(draw: st.DrawFn) -> dict[str, Any]:
    """Draws configs that should be accepted: any choices, any keys given or left out."""
    mapping: dict[str, Any] = {"encoder_module": draw(st.sampled_from(list(ENCODERS)))}
    for key, choices in (
        ("optim_type", ["adam", "sgd"]),
        ("sched_type", ["plateau", "cosine", "step", "linear", None]),
        ("loss_type", ["cce", "cce+triplet"]),
    ):
        if draw(st.booleans()):
            mapping[key] = draw(st.sampled_from(choices))
    chosen = ("encoder_module", "optim_type", "sched_type", "loss_type")
    for info in config_fields(mapping):
        if info.kind in ("group", "list") or "extractor_cfg" in info.key or info.key in chosen:
            continue
        if draw(st.booleans()):
            place = mapping
            for section in info.key.split(".")[:-1]:
                place = place.setdefault(section, {})
            place[info.key.rpartition(".")[2]] = draw(values_for(info))
    for part in ("train_dataset_cfg", "test_dataset_cfg"):
        clips = mapping.setdefault(part, {})
        clips["multichannel"] = mapping["encoder_module"] == "disentangle"
        clips["normalize_velocity"] = mapping["encoder_module"] != "cnn"
    mapping["batch_size"] = draw(st.integers(2, 100))
    model, optimiser = mapping.get("model_cfg", {}), mapping.get("optim_cfg", {})
    model.pop("num_attention_heads", None)
    model.pop("frame_pool", None)
    if model.get("_use_resnet"):
        model.pop("compact_encoders", None)
    if model.get("compact_width") == 1:  # too narrow for a head of two layers
        model.pop("compact_width")
    optimiser.pop("nesterov", None)
    return mapping


@settings(max_examples=150, deadline=None)
@given(mappings())
def test_any_config_survives_writing(mapping: dict[str, Any]) -> None:
    config = parse_config(mapping)
    text = to_yaml(config)
    again = parse_config(read_yaml(text))
    assert again == config
    assert to_yaml(again) == text


def test_differences_are_listed_by_dotted_key() -> None:
    a = default_config()
    b = parse_config({"epochs": 3, "optim_type": "adam"})
    assert difference(a, a) == []
    assert difference(a, b) == [
        ("epochs", 100, 3),
        ("optim_type", "sgd", "adam"),
        ("optim_cfg.lr", 0.01, 0.001),
        ("optim_cfg.momentum", 0.9, None),
        ("optim_cfg.nesterov", False, None),
        ("optim_cfg.weight_decay", 0.0001, 0.0),
        ("optim_cfg.betas", None, [0.9, 0.999]),
        ("optim_cfg.eps", None, 1e-8),
        ("optim_cfg.amsgrad", None, False),
    ]


def every_field() -> dict[str, FieldInfo]:
    found: dict[str, FieldInfo] = {}
    for info in config_fields({}):
        for choice in info.choices or ():
            for other in config_fields({info.key: choice} if "." not in info.key else {}):
                found[f"{info.key}={choice} {other.key}"] = other
                for item in other.item_fields:
                    found[f"{other.key}[].{item.key}"] = item
    for other in config_fields({"sched_type": None}):
        found[other.key] = other
    return found


def test_every_field_says_what_it_is() -> None:
    found = every_field()
    assert any(name.endswith("_resnet_cls") for name in found)
    for name, info in found.items():
        assert info.label.strip(), name
        assert len(info.help) >= 40, name
        assert info.help.endswith("."), name
        assert info.level in ("basic", "advanced"), name


def test_the_form_knows_every_key_and_default() -> None:
    for preset in presets():
        config = load_config(preset.path)
        described = config_fields(to_dict(config))
        leaves = {info.key: info for info in described if info.kind != "group"}
        assert set(leaves) == set(flatten(config))
    defaults = {info.key: info.default for info in config_fields({}) if info.kind != "group"}
    assert defaults == flatten(default_config())


def test_the_form_hides_what_has_no_effect() -> None:
    fields = {info.key: info for info in config_fields({"encoder_module": "disentangle"})}
    resnet = fields["model_cfg._resnet_cls"]
    assert resnet.matters({"model_cfg._use_resnet": True})
    assert not resnet.matters({"model_cfg._use_resnet": False})
    chords = fields["train_dataset_cfg.extractor_cfg.harmony.minimum_notes"]
    assert not chords.matters({"train_dataset_cfg.multichannel": False})
