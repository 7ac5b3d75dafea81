"""What a `model_cfg` may say, and what is said when it may not."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from pianistid_core.errors import ConfigError, ModelError
from pianistid_core.models import (
    ENCODERS,
    CnnOptions,
    CrnnOptions,
    FactorisedOptions,
    LayerOptions,
    ResNetOptions,
    build_model,
    model_options,
)
from pianistid_core.schema import FieldInfo, fields_of, read_yaml, to_plain


def faults_of(encoder_module: str, model_cfg: Any) -> dict[str, str]:
    with pytest.raises(ConfigError) as raised:
        model_options(encoder_module, model_cfg)
    return {fault.key: fault.message for fault in raised.value.faults}


def every_field() -> list[FieldInfo]:
    fields = [info for cls in ENCODERS.values() for info in fields_of(cls)]
    return fields + [item for info in fields for item in info.item_fields]


def test_the_defaults_are_the_papers() -> None:
    assert model_options("cnn", {}) == CnnOptions(pool_type="max", norm_type="bn", frame_pool=1)
    assert model_options("crnn", {}) == CrnnOptions(pool_type="max", norm_type="bn", frame_pool=1)
    assert model_options("resnet50", {}) == ResNetOptions(layers=(3, 4, 6, 3), pool_type="avg", norm_type="bn")
    plain = to_plain(model_options("disentangle", {}))
    layers = plain.pop("layers")
    assert plain == {
        "_use_resnet": False,
        "_resnet_cls": "resnet18",
        "use_gru": True,
        "use_masking": False,
        "mask_probability": 0.3,
        "max_masked_concepts": 3,
        "use_attention": True,
        "num_attention_heads": 2,
        "pool_type": "avg",
        "use_2fc": True,
        "drop_logits": True,
        "compact_encoders": False,
        "compact_stem": 24,
        "compact_width": 64,
        "frame_pool": 1,
    }
    assert [layer["out_channels"] for layer in layers] == [64, 128, 256, 512]
    assert [layer["has_pool"] for layer in layers] == [True, True, True, False]


def test_an_empty_model_cfg_means_the_defaults() -> None:
    assert model_options("crnn", None) == CrnnOptions()  # type: ignore[arg-type]  # `model_cfg:` with nothing after it


def test_every_option_says_what_it_does() -> None:
    assert len(every_field()) > 20
    for info in every_field():
        assert len(info.help) >= 40, info.key
        assert info.help.endswith("."), info.key
        assert info.label, info.key


def test_a_complete_copy_reads_back_the_same() -> None:
    for encoder_module, options_class in ENCODERS.items():
        options = options_class()
        assert model_options(encoder_module, to_plain(options)) == options


def test_the_references_configs_load_but_for_two(shared: Path) -> None:
    refused = {}
    paths = sorted((shared / "reference" / "configs").rglob("*.yaml"))
    for path in paths:
        config = read_yaml(path.read_text(encoding="utf-8"))
        try:
            model_options(config["encoder_module"], config["model_cfg"])
        except ConfigError as error:
            refused[path.name] = str(error)
    assert len(paths) == 43
    assert len(refused) == 2
    messages = " ".join(refused.values())
    assert "did you mean use_2fc" in messages
    assert "'linear'; give one of avg, max, gem, conv1x1, masked-avg" in messages


@pytest.mark.parametrize(("encoder_module", "message"), [
    ("resnet", "did you mean resnet50"),
    ("disentagle", "did you mean disentangle"),
    ("transformer", "give one of cnn, crnn, resnet50, disentangle"),
    (None, "give one of cnn, crnn, resnet50, disentangle"),
    (["cnn"], "give one of cnn, crnn, resnet50, disentangle"),
])  # fmt: skip
def test_an_unknown_architecture_is_refused(encoder_module: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_model(encoder_module, {}, 20)


def test_options_of_another_architecture_are_refused() -> None:
    assert "takes CrnnOptions" in faults_of("crnn", CnnOptions())["model_cfg"]
    assert "pool_tipe" not in faults_of("cnn", {"layers": [3, 4, 6, 3]})
    assert faults_of("resnet50", {"pool_type": "max"})["model_cfg.pool_type"].startswith("got 'max'")


def test_all_faults_come_at_once() -> None:
    faults = faults_of("disentangle", {
        "use_fc2": False, "pool_type": "linear", "mask_probability": 1.5, "max_masked_concepts": 5,
        "num_attention_heads": 0, "_resnet_cls": "resnet101", "frame_pool": 101, "use_gru": 1,
    })  # fmt: skip
    assert set(faults) == {
        f"model_cfg.{key}"
        for key in (
            "use_fc2", "pool_type", "mask_probability", "max_masked_concepts",
            "num_attention_heads", "_resnet_cls", "frame_pool", "use_gru",
        )
    }  # fmt: skip


@pytest.mark.parametrize("layers", [[3, 4, 6], [3, 4, 6, 3, 3], [3, 4, 6, 0], [3, 4, 6, "3"], 50])
def test_a_residual_network_has_four_stages(layers: Any) -> None:
    assert faults_of("resnet50", {"layers": layers})


def layer(in_channels: int, out_channels: int, **options: Any) -> dict[str, Any]:
    return {"in_channels": in_channels, "out_channels": out_channels, **options}


POOLED = {"has_pool": True, "pool_kernel_size": 8}


@pytest.mark.parametrize(("options", "key", "message"), [
    ({"layers": [layer(4, 8)]}, "layers[0].in_channels", "the roll has 1"),
    ({"layers": [layer(1, 8), layer(16, 8)]}, "layers[1].in_channels", "layers[0] gives 8, so give 8"),
    ({"layers": [layer(1, 8, **POOLED), layer(8, 8, **POOLED), layer(8, 8, **POOLED)]},
     "layers[2].pool_kernel_size", "only 1 keys and 46 frames are left"),
    ({"layers": [layer(1, 8, **POOLED), layer(8, 8, **POOLED)], "frame_pool": 100},
     "layers[1].pool_kernel_size", "only 11 keys and 3 frames are left"),
    ({"layers": [layer(1, 9)], "use_attention": False}, "layers[0].out_channels", "even number"),
    ({"layers": [layer(1, 2)]}, "layers[0].out_channels", "give at least 4, or use_2fc: false"),
    ({"compact_encoders": True, "compact_width": 1}, "compact_width", "got 1, but"),
    ({"layers": [layer(1, 8, conv_kernel_size=4)]}, "layers[0].conv_kernel_size", "got 4"),
    ({"layers": [{"out_channels": 8}]}, "layers[0].in_channels", "missing"),
    ({"layers": []}, "layers", "a list of 1 to 32"),
    ({"num_attention_heads": 3}, "num_attention_heads", "does not divide the embedding's 512 values; give a divisor"),
    ({"num_attention_heads": 3, "_use_resnet": True}, "num_attention_heads", "give a divisor such as 2"),
])  # fmt: skip
def test_settings_that_cannot_work_together_are_refused(options: dict[str, Any], key: str, message: str) -> None:
    assert message in faults_of("disentangle", options)[f"model_cfg.{key}"]


def test_options_made_by_hand_are_checked_too() -> None:
    options = dataclasses.replace(FactorisedOptions(), layers=(LayerOptions(in_channels=3, out_channels=8),))
    assert "model_cfg.layers[0].in_channels" in faults_of("disentangle", options)


def test_what_an_option_does_not_use_is_not_checked() -> None:
    model_options("disentangle", {"_use_resnet": True, "layers": [layer(7, 9)]})
    model_options("disentangle", {"use_attention": False, "num_attention_heads": 3})
