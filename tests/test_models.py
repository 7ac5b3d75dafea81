"""The architectures behind `build_model`: inputs, concepts, training, inference copies; on tiny networks."""

import itertools
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pianistid_core.concepts import CONCEPTS
from pianistid_core.errors import ModelError
from pianistid_core.models import FactorisedModel, PianistModel, build_model, for_inference
from pianistid_core.models.factorised import masked_average

LAYERS = [
    {"in_channels": 1, "out_channels": 6, "conv_kernel_size": 5, "has_pool": True, "pool_kernel_size": 4},
    {"in_channels": 6, "out_channels": 8},
]
STACK = {"layers": LAYERS, "use_gru": False, "use_attention": False, "frame_pool": 100}
RESNET18 = {"_use_resnet": True, "use_attention": False, "use_2fc": False, "frame_pool": 100}
EVERY_KIND: dict[str, tuple[str, dict[str, Any]]] = {
    "cnn": ("cnn", {"frame_pool": 100}),
    "cnn ibn gem": ("cnn", {"norm_type": "ibn", "pool_type": "gem", "frame_pool": 100}),
    "crnn": ("crnn", {"frame_pool": 100}),
    "resnet50": ("resnet50", {"frame_pool": 100}),
    "resnet50 ibn": ("resnet50", {"layers": [1, 1, 1, 1], "norm_type": "ibn", "pool_type": "gem", "frame_pool": 100}),
    "factorised stack": ("disentangle", STACK),
    "factorised gru": ("disentangle", {**STACK, "use_gru": True, "use_attention": True, "pool_type": "gem"}),
    "factorised resnet18": ("disentangle", {**RESNET18, "pool_type": "conv1x1"}),
    "factorised masked-avg": ("disentangle", {**STACK, "pool_type": "masked-avg", "use_masking": True}),
}


def make(kind: str, num_classes: int = 3) -> PianistModel:
    torch.manual_seed(7)
    module, options = EVERY_KIND[kind]
    return build_model(module, options, num_classes)


def make_stack(**options: Any) -> FactorisedModel:
    torch.manual_seed(7)
    model = build_model("disentangle", {**STACK, **options}, 3)
    assert isinstance(model, FactorisedModel)
    return model


def make_rolls(model: PianistModel, clips: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    shape = (clips, model.in_channels, 88, 3000)
    return (torch.rand(shape, generator=generator) < 0.05).float() * torch.rand(shape, generator=generator)


def unsettle(model: nn.Module) -> None:
    """Gives the norms statistics and weights as after training, so that folding them has something to fold."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 1.5),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.2, 0.2),
            ):
                assert tensor is not None
                tensor.uniform_(low, high)


# Building


def test_options_are_read_without_torch() -> None:
    script = (
        "import sys; from pianistid_core.models import model_options; model_options('disentangle', {}); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_kind_gives_features_and_logits(kind: str) -> None:
    model = make(kind).eval()
    rolls = make_rolls(model)
    with torch.inference_mode():
        features = model.forward_features(rolls)
        logits = model(rolls)
        torch.testing.assert_close(model.head(features), logits)
    assert features.shape == (2, model.feature_size)
    assert logits.shape == (2, 3)
    assert torch.isfinite(logits).all()


def test_weights_come_from_torchs_generator_alone() -> None:
    first, second = make("factorised gru").state_dict(), make("factorised gru").state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_state_survives_a_file_read_without_code_execution(tmp_path: Path) -> None:
    model, other = make("factorised gru").eval(), build_model(*EVERY_KIND["factorised gru"], 3).eval()
    torch.save({"model_state_dict": model.state_dict()}, tmp_path / "checkpoint_000.pth")
    other.load_state_dict(torch.load(tmp_path / "checkpoint_000.pth", weights_only=True)["model_state_dict"])
    rolls = make_rolls(model)
    assert torch.equal(model(rolls), other(rolls))


@pytest.mark.parametrize("num_classes", [0, -1, True, 2.0, "20", np.int64(0), np.bool_(True)])
def test_an_impossible_number_of_classes_is_refused(num_classes: Any) -> None:
    with pytest.raises(ModelError, match="classes came"):
        build_model("cnn", {}, num_classes)


def test_a_number_of_classes_may_be_numpys() -> None:
    assert build_model("cnn", {}, np.int64(3)).num_classes == 3


# Inputs


@pytest.mark.parametrize("shape", [(2, 4, 88, 3000), (1, 88, 3000), (2, 1, 88, 2999), (2, 1, 128, 3000)])
def test_rolls_of_a_wrong_shape_are_named_with_the_wanted_one(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError) as raised:
        make("resnet50 ibn")(torch.zeros(shape))
    assert str(shape) in str(raised.value)
    assert "(clips, 1, 88, 3000)" in str(raised.value)


def test_single_rolls_for_the_factorised_model_are_told_how_to_come() -> None:
    model = make_stack()
    for call in (model, model.encode_concepts, model.forward_features):
        with pytest.raises(ModelError, match=r"\(clips, 4, 88, 3000\).*multichannel: true"):
            call(torch.zeros(2, 1, 88, 3000))


def test_rolls_that_are_not_normalised_are_refused() -> None:
    with pytest.raises(ModelError, match="uint8"):
        make("cnn")(torch.zeros((1, 1, 88, 3000), dtype=torch.uint8))


@pytest.mark.parametrize("kind", ["cnn", "crnn", "resnet50 ibn", "factorised stack"])
def test_frame_pool_averages_frames_before_the_network(kind: str) -> None:
    model = make(kind).eval()
    rolls = make_rolls(model, clips=1)
    windows = rolls.reshape(*rolls.shape[:3], 30, 100)
    averaged = windows.mean(dim=4, keepdim=True).expand_as(windows).flatten(3)
    torch.testing.assert_close(model(averaged), model(rolls), rtol=1e-4, atol=1e-5)
    if isinstance(model, FactorisedModel):
        torch.testing.assert_close(model.encode_concepts(averaged), model.encode_concepts(rolls), rtol=1e-4, atol=1e-5)


def test_without_frame_pool_every_frame_counts() -> None:
    model = make_stack(frame_pool=1).eval()
    rolls = make_rolls(model, clips=1)
    swapped = rolls.reshape(*rolls.shape[:3], 30, 100).flip(4).flatten(3)
    assert not torch.allclose(model(rolls), model(swapped), rtol=1e-3)


# Concepts


def test_classifying_embeddings_is_the_whole_model() -> None:
    model = make("factorised gru").eval()
    assert isinstance(model, FactorisedModel)
    rolls = make_rolls(model)
    embeddings = model.encode_concepts(rolls)
    assert embeddings.shape == (2, 4, 8)
    torch.testing.assert_close(model.classify(embeddings), model(rolls))
    torch.testing.assert_close(model.classify(embeddings, keep=CONCEPTS), model(rolls))


@pytest.mark.parametrize("pool_type", ["avg", "max", "gem", "conv1x1", "masked-avg"])
@pytest.mark.parametrize("use_attention", [False, True])
def test_a_concept_that_is_not_kept_is_not_heard(pool_type: str, use_attention: bool) -> None:
    model = make_stack(pool_type=pool_type, use_attention=use_attention).eval()
    embeddings = torch.randn(2, 4, 8) + 1
    other = embeddings.clone()
    other[:, [1, 3]] += 5
    kept = model.classify(embeddings, keep=["rhythm", "melody"])
    torch.testing.assert_close(model.classify(other, keep=("melody", "rhythm")), kept)
    assert not torch.allclose(model.classify(other), model.classify(embeddings))
    assert not torch.allclose(kept, model.classify(embeddings))


def test_each_concept_is_encoded_from_its_own_channel() -> None:
    model = make_stack().eval()
    rolls = make_rolls(model, clips=1)
    before = model.encode_concepts(rolls)
    for channel in range(len(CONCEPTS)):
        changed = rolls.clone()
        changed[:, channel] = 1 - changed[:, channel]
        moved = (model.encode_concepts(changed) != before).any(dim=2)[0]
        assert moved.nonzero().flatten().tolist() == [channel]


def test_masked_average_counts_only_what_is_kept() -> None:
    model = make_stack(pool_type="masked-avg").eval()
    embeddings = torch.randn(2, 4, 8)
    wanted = model.head(embeddings[:, [0, 2, 3]].mean(dim=1))
    torch.testing.assert_close(model.classify(embeddings, keep=["melody", "rhythm", "dynamics"]), wanted)
    nothing = masked_average(embeddings, torch.zeros(2, 4, dtype=torch.bool))
    assert torch.equal(nothing, torch.zeros(2, 8))


@pytest.mark.parametrize(("keep", "message"), [
    ([], "at least one"),
    ("melody", "at least one"),
    (["melody", "harmonie"], "did you mean 'harmony'"),
    ([4], "there is no concept 4"),
    ([-1], "there is no concept -1"),
    ([True], "there is no concept True"),
    ([1.0], "there is no concept 1.0"),
])  # fmt: skip
def test_unknown_concepts_are_refused(keep: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make_stack().classify(torch.zeros(2, 4, 8), keep=keep)


def test_concepts_are_kept_by_name_or_by_number() -> None:
    model = make_stack().eval()
    embeddings = torch.rand(2, 4, model.feature_size)
    wanted = model.classify(embeddings, keep=["melody", "rhythm"])
    for keep in ([0, 2], (2, 0), np.array([0, 2]), ["rhythm", 0]):
        assert torch.equal(model.classify(embeddings, keep=keep), wanted)


@pytest.mark.parametrize("shape", [(2, 8), (2, 3, 8), (2, 4, 9)])
def test_embeddings_of_a_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"wants \(clips, 4, 8\)"):
        make_stack().classify(torch.zeros(shape))


# Training


def drawn_masks(model: FactorisedModel, clips: int = 8000) -> list[tuple[int, ...]]:
    """The concepts masked for each clip, read off embeddings that are each a one at the concept's own place."""
    codes = torch.eye(4).repeat(1, 2).expand(clips, 4, 8)
    model.encode_concepts = lambda rolls: codes  # type: ignore[method-assign]
    features = model.forward_features(torch.empty(0))
    return [tuple((row[:4] == 0).nonzero().flatten().tolist()) for row in features]


def test_masking_hides_one_to_three_concepts_of_three_clips_in_ten() -> None:
    torch.manual_seed(11)
    masks = Counter(drawn_masks(make_stack(use_masking=True)))
    clips = masks.total()
    assert 1 - masks[()] / clips == pytest.approx(0.3, abs=0.02)
    sizes = Counter({size: sum(n for mask, n in masks.items() if len(mask) == size) for size in (1, 2, 3)})
    for size, sets in ((1, 4), (2, 6), (3, 4)):
        assert sizes[size] / clips == pytest.approx(0.1, abs=0.015)
        for mask in itertools.combinations(range(4), size):
            assert masks[mask] / sizes[size] == pytest.approx(1 / sets, abs=0.05)
    assert set(masks) == {mask for size in range(4) for mask in itertools.combinations(range(4), size)}


def test_masking_keeps_to_its_options() -> None:
    always_one = drawn_masks(make_stack(use_masking=True, mask_probability=1.0, max_masked_concepts=1), clips=500)
    assert {len(mask) for mask in always_one} == {1}
    for options in (
        {"use_masking": False, "mask_probability": 1.0},
        {"use_masking": True, "mask_probability": 0.0},
        {"use_masking": True, "mask_probability": 1.0, "max_masked_concepts": 0},
    ):
        assert set(drawn_masks(make_stack(**options), clips=500)) == {()}


def test_masking_is_for_training_only_and_follows_the_seed() -> None:
    model = make_stack(use_masking=True, mask_probability=1.0)
    torch.manual_seed(3)
    first = drawn_masks(model, clips=100)
    torch.manual_seed(3)
    assert drawn_masks(model, clips=100) == first
    assert set(drawn_masks(model.eval(), clips=100)) == {()}


@pytest.mark.parametrize("pool_type", ["avg", "max", "gem", "conv1x1", "masked-avg"])
def test_a_clip_with_every_concept_masked_stays_finite(pool_type: str) -> None:
    model = make_stack(use_masking=True, mask_probability=1.0, max_masked_concepts=4, pool_type=pool_type)
    torch.manual_seed(1)
    loss = model(make_rolls(model, clips=12)).square().sum()
    torch.autograd.backward(loss)
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_parameter_learns(kind: str) -> None:
    model = make(kind, num_classes=16)
    rolls = make_rolls(model, clips=3)
    torch.autograd.backward(nn.functional.cross_entropy(model(rolls), torch.tensor([0, 1, 2])))
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"no gradient reaches {name}"
        assert torch.isfinite(parameter.grad).all(), f"the gradient of {name} is not finite"
    reached = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {name.split(".")[0] for name, _ in model.named_parameters()}


@pytest.mark.parametrize("kind", ["cnn", "crnn", "factorised stack"])
def test_dropout_is_on_the_logits_in_training_and_off_in_evaluation(kind: str) -> None:
    model = make(kind, num_classes=200)
    rolls = make_rolls(model)
    dropped = float((model(rolls) == 0).float().mean())
    assert dropped == pytest.approx(0.5, abs=0.1)
    model.eval()
    logits = model(rolls)
    assert torch.equal(model(rolls), logits)
    assert (logits != 0).all()


# Inference copies


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_an_inference_copy_gives_the_same_logits(kind: str) -> None:
    model = make(kind)
    unsettle(model)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ready = for_inference(model)
    assert model.training
    assert not ready.training
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    rolls = make_rolls(model)
    with torch.inference_mode():
        logits = model.eval()(rolls)
        worst = (ready(rolls) - logits).abs().max() / logits.abs().max()
    assert worst < 1e-4


def test_an_inference_copy_of_a_residual_network_has_no_batch_norm_left() -> None:
    for kind in ("resnet50", "factorised resnet18"):
        assert not any(isinstance(module, nn.BatchNorm2d) for module in for_inference(make(kind)).modules())
