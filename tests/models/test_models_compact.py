"""The compact network: what it hears, where it stands among the others, and that it learns."""

import pytest
import torch

from pianistid_core.config import load_config
from pianistid_core.errors import ConfigError, ModelError
from pianistid_core.models import build_model, for_inference
from pianistid_core.models.compact import sustain_and_onset


def rolls(channels: int, clips: int = 2) -> torch.Tensor:
    torch.manual_seed(0)
    return (torch.rand(clips, channels, 88, 3000) > 0.98).float()


def test_sustain_is_the_mean_and_onset_the_largest_rise() -> None:
    roll = torch.zeros(1, 1, 88, 40)
    roll[0, 0, 5, 12:25] = 0.5
    roll[0, 0, 6, :3] = 1.0
    coarse = sustain_and_onset(roll, 10)
    assert coarse.shape == (1, 2, 88, 4)
    assert coarse[0, 0, 5].tolist() == pytest.approx([0.0, 0.4, 0.25, 0.0])
    assert coarse[0, 1, 5].tolist() == [0.0, 0.5, 0.0, 0.0]
    assert coarse[0, 1, 6].tolist() == [1.0, 0.0, 0.0, 0.0]


def test_it_gives_logits_from_one_channel() -> None:
    model = build_model("compact", {"stem_width": 4, "width": 8}, 5).eval()
    assert model(rolls(1)).shape == (2, 5)
    assert model.forward_features(rolls(1)).shape == (2, 16)
    with pytest.raises(ModelError, match="Compact"):
        model(rolls(4))


def test_it_encodes_concepts_in_the_factorised_model() -> None:
    options = {
        "compact_encoders": True,
        "compact_stem": 4,
        "compact_width": 8,
        "use_attention": False,
        "frame_pool": 10,
    }
    model = build_model("disentangle", options, 5).eval()
    embeddings = model.encode_concepts(rolls(4))  # type: ignore[operator]
    assert embeddings.shape == (2, 4, 16)
    changed = rolls(4)
    changed[:, 2] = 0
    moved = (model.encode_concepts(changed) - embeddings).abs().amax(dim=(0, 2)) > 0  # type: ignore[operator]
    assert moved.tolist() == [False, False, True, False]


def test_compact_and_resnet_encoders_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="choose one"):
        build_model("disentangle", {"compact_encoders": True, "_use_resnet": True}, 5)


def test_dropout_can_leave_logits_whole() -> None:
    options = {
        "compact_encoders": True,
        "compact_stem": 4,
        "compact_width": 8,
        "use_attention": False,
        "use_2fc": False,
    }
    zeros = {}
    for drop_logits in (True, False):
        torch.manual_seed(0)
        model = build_model("disentangle", options | {"drop_logits": drop_logits}, 50).train()
        zeros[drop_logits] = (model(rolls(4)) == 0).float().mean().item()
    assert 0.3 < zeros[True] < 0.7 and zeros[False] == 0


def test_the_copy_for_inference_gives_the_same_logits() -> None:
    model = build_model("compact", {"stem_width": 4, "width": 8}, 5).eval()
    assert torch.allclose(model(rolls(1)), for_inference(model)(rolls(1)), atol=1e-5)


def test_the_shipped_configs_build_it() -> None:
    for name in ("demo.yaml", "jazz20-cpu.yaml"):
        config = load_config(name)
        model = build_model(config.encoder_module, config.model_cfg, 20)
        assert sum(parameter.numel() for parameter in model.parameters()) < 1_000_000
