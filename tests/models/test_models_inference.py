"""Asked often: all subsets of concepts at once, and copies for inference, folded and compiled; on tiny networks."""

import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pianistid_core.concepts import CONCEPTS
from pianistid_core.errors import ModelError
from pianistid_core.evaluation import CONCEPT_SUBSETS
from pianistid_core.models import FactorisedModel, PianistModel, build_model, for_inference

RESNET18 = {"_use_resnet": True, "use_attention": False, "use_2fc": False, "frame_pool": 100}
COMPACT = {"compact_encoders": True, "compact_stem": 4, "compact_width": 8, "use_gru": False, "frame_pool": 50}


def make(module: str, options: dict[str, Any]) -> PianistModel:
    """A network whose norms have statistics as after training, so that folding them has something to fold."""
    torch.manual_seed(7)
    model = build_model(module, options, 5)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, -1.5, 1.5)
            nn.init.normal_(norm.bias, std=0.2)
            nn.init.normal_(norm.running_mean, std=0.2)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return model.eval()


def factorised(**options: Any) -> FactorisedModel:
    model = make("disentangle", {**COMPACT, **options})
    assert isinstance(model, FactorisedModel)
    return model


def rolls(model: PianistModel, clips: int = 2) -> Tensor:
    torch.manual_seed(5)
    shape = (clips, model.in_channels, 88, 3000)
    return (torch.rand(shape) < 0.05).float() * torch.rand(shape)


def apart(found: Tensor, wanted: Tensor) -> float:
    assert found.shape == wanted.shape
    return float((found - wanted).abs().max() / wanted.abs().max())


# Subsets


@pytest.mark.parametrize("pool_type", ["avg", "max", "gem", "masked-avg", "conv1x1"])
@pytest.mark.parametrize("use_attention", [False, True])
def test_each_subset_is_what_it_is_alone(pool_type: str, use_attention: bool) -> None:
    model = factorised(pool_type=pool_type, use_attention=use_attention)
    embeddings = torch.randn(3, 4, model.feature_size)
    with torch.inference_mode():
        found = model.classify_each(embeddings, CONCEPT_SUBSETS)
        assert found.shape == (15, 3, 5)
        for kept, logits in zip(CONCEPT_SUBSETS, found, strict=True):
            assert apart(logits, model.classify(embeddings, keep=kept)) < 1e-6


def test_an_empty_subset_is_silence() -> None:
    model = factorised(pool_type="max")
    with torch.inference_mode():
        silence, everything = model.classify_each(torch.randn(2, 4, model.feature_size), [(), CONCEPTS])
    torch.testing.assert_close(silence[0], silence[1])
    assert not torch.allclose(everything[0], everything[1])


def test_subsets_and_embeddings_that_do_not_fit_are_refused() -> None:
    model = factorised()
    with pytest.raises(ModelError, match="did you mean 'harmony'"):
        model.classify_each(torch.zeros(2, 4, model.feature_size), [CONCEPTS, ["harmonie"]])
    with pytest.raises(ModelError, match="embeddings of shape"):
        model.classify_each(torch.zeros(2, 3, model.feature_size), CONCEPT_SUBSETS)


# Copies


@pytest.mark.parametrize(
    ("module", "options"),
    [
        ("resnet50", {"layers": [1, 1, 1, 1], "frame_pool": 100}),
        ("disentangle", RESNET18),
        ("compact", {"stem_width": 4, "width": 8, "frame_pool": 50}),
        ("disentangle", COMPACT),
    ],
    ids=["resnet50", "factorised resnet18", "compact", "factorised compact"],
)
def test_a_copy_agrees_to_a_hundred_thousandth(module: str, options: dict[str, Any]) -> None:
    model = make(module, options)
    ready = for_inference(model)
    with torch.inference_mode():
        assert apart(ready(rolls(model)), model(rolls(model))) < 1e-5


def test_norms_right_after_a_convolution_are_gone() -> None:
    ready = for_inference(make("disentangle", RESNET18))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in ready.modules())
    # Of a compact block's two norms the first comes after a sum.
    names = [name for name, module in for_inference(factorised()).named_modules() if isinstance(module, nn.BatchNorm1d)]
    assert names and not any(name.endswith("norm2") for name in names)


def test_a_copy_passes_gradients_back_to_the_rolls() -> None:
    model = make("resnet50", {"layers": [1, 1, 1, 1], "frame_pool": 100})
    given = rolls(model, 1).requires_grad_()
    torch.autograd.backward(for_inference(model)(given).sum())
    assert given.grad is not None and bool(given.grad.any())


# Compiled copies


def compiled_by_hand(monkeypatch: pytest.MonkeyPatch, sizes: list[int]) -> None:
    """Has torch's compiler give back what it is given, and note the sizes of the batches that come."""

    def compile(method: Any, **options: Any) -> Any:
        def call(rolls: Tensor) -> Tensor:
            sizes.append(len(rolls))
            result: Tensor = method(rolls)
            return result

        return call

    monkeypatch.setattr(torch, "compile", compile)


@pytest.mark.parametrize("module", ["resnet50", "disentangle"])
def test_smaller_batches_are_filled_up_for_the_compiled_code(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    compiled_by_hand(monkeypatch, sizes)
    model = make(module, COMPACT if module == "disentangle" else {"layers": [1, 1, 1, 1], "frame_pool": 100})
    ready = for_inference(model, compile=True)
    with torch.inference_mode():
        for clips in (2, 1, 3, 2):
            assert apart(ready(rolls(model, clips)), model(rolls(model, clips))) < 1e-5
    assert sizes == [2, 2, 3, 3]
    with pytest.raises(ModelError, match="rolls of shape"):
        ready(torch.zeros(1, 2, 88, 3000))


def test_without_a_compiler_a_copy_runs_as_it_is_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def compile(method: Any, **options: Any) -> Any:
        def call(rolls: Tensor) -> Tensor:
            raise RuntimeError("InvalidCxxCompiler: no working C++ compiler\nand a long story")

        return call

    monkeypatch.setattr(torch, "compile", compile)
    model = factorised()
    ready = for_inference(model, compile=True)
    with torch.inference_mode(), caplog.at_level(logging.WARNING):
        for clips in (2, 1):
            assert apart(ready(rolls(model, clips)), model(rolls(model, clips))) < 1e-5
    [record] = caplog.records
    assert "no working C++ compiler), so it runs as it is" in record.getMessage()


def test_a_really_compiled_copy_gives_the_same_logits(caplog: pytest.LogCaptureFixture) -> None:
    model = make("compact", {"stem_width": 4, "width": 8, "frame_pool": 50})
    ready = for_inference(model, compile=True)
    with torch.inference_mode(), caplog.at_level(logging.WARNING, "pianistid_core"):
        assert apart(ready(rolls(model)), model(rolls(model))) < 1e-5
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("pianistid_core")]
    if ours:
        pytest.skip(f"nothing compiles here: {ours[0]}")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("compile", [False, True])
def test_a_copy_on_a_gpu_agrees_with_the_cpu(compile: bool) -> None:
    model = make("disentangle", RESNET18)
    with torch.inference_mode():
        wanted = model(rolls(model))
        ready = for_inference(model.cuda(), compile=compile)
        assert apart(ready(rolls(model).cuda()).cpu(), wanted) < 1e-3
        with torch.autocast("cuda", dtype=torch.bfloat16):
            assert apart(ready(rolls(model).cuda()).float().cpu(), wanted) < 0.1
