"""One step of training: what the fast keys change and what they leave alone, and sums that wait for no device."""

import copy
import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pianistid_core.batches import Batch
from pianistid_core.config import RunConfig, parse_config
from pianistid_core.learning import DivergedError, Learner, Step, Sums, Totals
from pianistid_core.models import build_model
from pianistid_core.optimisation import make_optimiser
from pianistid_core.rolls import N_FRAMES, N_KEYS
from tiny import tiny_config

CPU = torch.device("cpu")
N_CLASSES = 3


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order, whatever the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def some_batch(n: int = 6, channels: int = 4, *, seed: int = 0) -> Batch:
    """Clips whose class is the part of the keyboard they sound in; every other is its neighbour's positive."""
    chance = torch.Generator().manual_seed(seed)
    rolls = (torch.rand((n, channels, N_KEYS, N_FRAMES), generator=chance) > 0.97).float()
    labels = torch.arange(n) % N_CLASSES
    for clip, label in enumerate(labels.tolist()):
        rolls[clip, :, 30 * label : 30 * label + 20] *= 3
    return Batch(rolls, labels, torch.arange(n), torch.arange(n), rolls.flip(3), [])


def losses(learner: Learner, n_steps: int = 4, batch: Batch | None = None, seed: int | None = 0) -> list[float]:
    if seed is not None:
        torch.manual_seed(seed)
    batch = batch or some_batch(channels=learner.model.in_channels)
    steps = [learner.learn(batch, "a step") for _ in range(n_steps)]
    return [step.loss_sum.item() / step.n_clips for step in steps]


def sgd(**changes: Any) -> RunConfig:
    plain = {"optim_type": "sgd", "optim_cfg": {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}, "sched_type": None}
    return tiny_config(**plain | changes)


def close(a: Learner, b: Learner, atol: float) -> bool:
    ours, theirs = a.model.state_dict(), b.model.state_dict()
    return list(ours) == list(theirs) and all(torch.allclose(ours[name], theirs[name], atol=atol) for name in ours)


# --- as the reference ---


def test_labels_are_smoothed_as_torch_does_it() -> None:
    batch = some_batch()
    plain, smooth = (
        Learner(tiny_config(loss_cfg={"label_smoothing": smoothing}), CPU, N_CLASSES) for smoothing in (0.0, 0.4)
    )
    torch.manual_seed(0)
    logits = plain.model(batch.rolls)
    expected = functional.cross_entropy(logits, batch.labels, label_smoothing=0.4).item()
    assert losses(smooth, 1) == [pytest.approx(expected)]
    assert losses(plain, 1) != [pytest.approx(expected)]


@pytest.mark.parametrize("loss_type", ["cce", "cce+triplet"])
def test_pianists_with_few_clips_are_made_up_for_in_training(loss_type: str) -> None:
    batch, few = some_batch(), (6, 3, 1)
    config = tiny_config(loss_type=loss_type, loss_cfg={"logit_adjustment": 0.5})
    plain, adjusted, unknowing = (
        Learner(tiny_config(loss_type=loss_type), CPU, N_CLASSES),
        Learner(config, CPU, N_CLASSES, n_clips_of=few),
        Learner(config, CPU, N_CLASSES),
    )
    torch.manual_seed(0)
    logits = plain.model(batch.rolls)
    shares = torch.tensor(few) / 10
    more = functional.cross_entropy(logits + 0.5 * shares.log(), batch.labels).item()
    more -= functional.cross_entropy(logits, batch.labels).item()
    [before], [after], [without] = losses(plain, 1), losses(adjusted, 1), losses(unknowing, 1)
    assert after - before == pytest.approx(more, abs=1e-5)
    assert without == before


def test_a_pianist_without_clips_does_no_harm_to_the_loss() -> None:
    config = tiny_config(loss_cfg={"logit_adjustment": 1.0})
    assert math.isfinite(losses(Learner(config, CPU, N_CLASSES, n_clips_of=(4, 5, 0)), 1)[0])


@pytest.mark.parametrize("loss_type", ["cce", "cce+triplet"])
def test_a_step_is_what_torch_would_do_by_hand(loss_type: str) -> None:
    config, batch = tiny_config(loss_type=loss_type), some_batch()
    torch.manual_seed(config.seed)
    model = build_model(config.encoder_module, config.model_cfg, N_CLASSES)
    optimiser = make_optimiser(config, model)
    expected = []
    torch.manual_seed(0)
    for _ in range(3):
        optimiser.zero_grad()
        features = model.forward_features(batch.rolls)
        loss = functional.cross_entropy(model.head(features), batch.labels)
        if loss_type == "cce+triplet":
            others = model.forward_features(batch.rolls.flip(3))
            a, b = functional.normalize(features, dim=1), functional.normalize(others, dim=1)
            alike = a @ b.T
            is_other = batch.labels[:, None] != batch.labels
            loss = loss + (functional.relu(alike - alike.diag()[:, None] + 0.3) * is_other).sum() / is_other.sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        expected.append(loss.item())
    learner = Learner(config, CPU, N_CLASSES)
    assert losses(learner, 3) == expected
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in learner.model.state_dict().items())


def test_a_loss_that_is_no_number_ends_a_step_on_a_cpu_before_it_does_harm() -> None:
    learner = Learner(sgd(), CPU, N_CLASSES)
    before = {name: parameter.clone() for name, parameter in learner.model.named_parameters()}
    with torch.no_grad():
        learner.model.get_parameter("fc2.fc.bias")[0] = torch.nan
    with pytest.raises(DivergedError, match=r"the loss is nan in epoch 2, batch 3.*lower optim_cfg\.lr"):
        learner.learn(some_batch(), "epoch 2, batch 3")
    same = [torch.equal(parameter, before[name]) for name, parameter in learner.model.named_parameters()]
    assert same.count(False) == 1


def test_a_weight_counts_for_the_step_and_not_for_its_numbers() -> None:
    config = sgd(optim_cfg={"lr": 0.2, "momentum": 0.0, "weight_decay": 0.0})
    weighted, faster, batch = Learner(sgd(), CPU, N_CLASSES), Learner(config, CPU, N_CLASSES), some_batch()
    torch.manual_seed(0)
    one = weighted.learn(batch, "", weight=torch.tensor(2.0))
    torch.manual_seed(0)
    other = faster.learn(batch, "")
    assert one.loss_sum == other.loss_sum and one.n_correct == other.n_correct and one.n_clips == 6
    assert close(weighted, faster, 1e-6)


def test_what_a_step_calls_can_be_wrapped_and_names_stay() -> None:
    seen: list[nn.Module] = []

    class Wrapped(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, rolls: Tensor, positives: Tensor | None) -> Any:
            seen.append(self)
            return self.inner(rolls, positives)

    wrapped, plain = Learner(sgd(), CPU, N_CLASSES, wrap=Wrapped), Learner(sgd(), CPU, N_CLASSES)
    assert losses(wrapped) == losses(plain) and len(seen) == 4
    assert close(wrapped, plain, 0.0)


def test_no_clips_are_a_step_that_teaches_nothing() -> None:
    """One of several processes may hold none of a batch's clips, and has to go along."""
    learner = Learner(tiny_config(optim_type="sgd"), CPU, N_CLASSES)
    learner.model.eval()
    before = copy.deepcopy(learner.model.state_dict())
    batch = some_batch(2, 4)
    empty = replace(batch, rolls=batch.rolls[:0], labels=batch.labels[:0])
    step = learner.learn(empty, "", weight=0.0)
    assert (step.loss_sum.item(), step.n_correct.item(), step.n_clips) == (0.0, 0, 0)
    gradients = [parameter.grad for parameter in learner.model.parameters()]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)
    assert before.keys() == learner.model.state_dict().keys()


# --- sums ---


def step_of(loss: float, n_correct: int, n_clips: int) -> Step:
    return Step(torch.tensor(loss * n_clips, dtype=torch.float64), torch.tensor(n_correct), n_clips)


def test_sums_go_on_from_where_they_stood_and_are_there_at_a_glance_on_a_cpu() -> None:
    sums = Sums(CPU, Totals(2.5, 3, 5))
    sums.add(step_of(0.5, 1, 2))
    assert sums.glance("") == sums.read("") == Totals(3.5, 4, 7) and sums.n_clips == 7


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_was_no_number_once_is_never_summed_away(loss: float) -> None:
    sums = Sums(CPU)
    for each in (1.0, loss, 1.0, 1.0):
        sums.add(step_of(each, 0, 2))
    for look in (sums.glance, sums.read):
        with pytest.raises(DivergedError, match="in epoch 1, by batch 4"):
            look("epoch 1, by batch 4")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="only a GPU is waited for")
def test_a_glance_at_a_gpu_shows_an_earlier_one_and_finds_divergence_in_the_end() -> None:
    device = torch.device("cuda")
    sums = Sums(device)
    sums.add(Step(torch.tensor(4.0, dtype=torch.float64, device=device), torch.tensor(1, device=device), 2))
    assert sums.glance("") == Totals()
    torch.cuda.synchronize()
    assert sums.glance("") == Totals(4.0, 1, 2) == sums.read("")
    sums.add(Step(torch.tensor(torch.nan, dtype=torch.float64, device=device), torch.tensor(1, device=device), 2))
    sums.glance("")
    torch.cuda.synchronize()
    with pytest.raises(DivergedError):
        sums.glance("")


# --- faster ---


@pytest.mark.parametrize("loss_type", ["cce", "cce+triplet"])
def test_bf16_learns_with_weights_that_stay_float32(loss_type: str) -> None:
    shape = {"width": 16, "stem_width": 8, "frame_pool": 50, "head_dropout": 0.0}
    adam = {"optim_type": "adam", "optim_cfg": {"lr": 0.003}}
    config = {"encoder_module": "compact", "model_cfg": shape, "precision": "bf16", "loss_type": loss_type, **adam}
    learner = Learner(parse_config(config), CPU, N_CLASSES)
    seen: list[torch.dtype] = []
    head: nn.Module = learner.model.fc  # type: ignore[assignment]
    head.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    found = losses(learner, 15)
    assert sum(found[-3:]) < 0.8 * sum(found[:3])
    assert set(seen) == {torch.bfloat16}
    assert {parameter.dtype for parameter in learner.model.parameters()} == {torch.float32}


SMALL: dict[str, dict[str, Any]] = {
    "cnn": {"encoder_module": "cnn", "model_cfg": {"frame_pool": 100}},
    "crnn": {"encoder_module": "crnn", "model_cfg": {"frame_pool": 100}},
    "resnet50": {"encoder_module": "resnet50", "model_cfg": {"layers": [1, 1, 1, 1], "frame_pool": 50}},
    "gem, ibn": {"model_cfg": {"layers": [1, 1, 1, 1], "frame_pool": 50, "norm_type": "ibn", "pool_type": "gem"}},
    "compact": {"encoder_module": "compact", "model_cfg": {"width": 16, "stem_width": 4, "frame_pool": 50}},
}


@pytest.mark.parametrize("name", SMALL)
def test_every_architecture_takes_a_step_in_bf16_and_channels_last(name: str) -> None:
    config = parse_config({"batch_size": 4, "precision": "bf16", "channels_last": True, **SMALL[name]})
    learner = Learner(config, CPU, N_CLASSES)
    assert all(loss > 0 for loss in losses(learner, 2, some_batch(4, 1)))


def test_channels_last_gives_the_same_numbers_in_another_order() -> None:
    slow = {"optim_cfg": {"lr": 0.001, "momentum": 0.9}}
    last, plain = Learner(sgd(channels_last=True, **slow), CPU, N_CLASSES), Learner(sgd(**slow), CPU, N_CLASSES)
    convolutions = [module for module in last.model.modules() if isinstance(module, nn.Conv2d)]
    convolution = next(module for module in convolutions if module.in_channels > 1)  # of one channel both are one
    assert losses(last) == pytest.approx(losses(plain), rel=1e-3)
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
    assert list(last.model.state_dict()) == list(plain.model.state_dict())


@pytest.mark.parametrize("optim", [{}, {"optim_type": "sgd", "optim_cfg": {"lr": 0.1, "momentum": 0.9}}])
def test_a_fused_optimiser_moves_weights_alike_and_takes_over_from_the_other(optim: dict[str, Any]) -> None:
    fused, plain = (
        Learner(tiny_config(fused_optimiser=True, **optim), CPU, N_CLASSES),
        Learner(tiny_config(**optim), CPU, N_CLASSES),
    )
    assert losses(fused, 2) == pytest.approx(losses(plain, 2), rel=1e-4)
    assert fused.optimiser.param_groups[0]["fused"] and not plain.optimiser.param_groups[0]["fused"]
    swapped, back = fused.state(), plain.state()
    fused.load(back, source="plain")
    plain.load(swapped, source="fused")
    assert fused.optimiser.param_groups[0]["fused"] and not plain.optimiser.param_groups[0]["fused"]
    assert losses(fused, 2) == pytest.approx(losses(plain, 2), rel=1e-3)


@pytest.mark.parametrize(
    "keys", [{}, {"precision": "bf16"}, {"channels_last": True}, {"fused_optimiser": True}], ids=str
)
def test_a_learner_goes_on_from_its_state_as_if_it_had_not_stopped(keys: dict[str, Any]) -> None:
    config = tiny_config(**keys)
    whole, first, second = (Learner(config, CPU, N_CLASSES) for _ in range(3))
    expected = losses(whole, 4)
    before = losses(first, 2)
    saved = copy.deepcopy(first.state())
    torch.manual_seed(2)
    second.load(saved, source="a state")
    assert before + losses(second, 2, seed=None) == expected


# --- compiled ---


@pytest.mark.slow
def test_a_compiled_network_gives_the_same_numbers_under_the_same_names() -> None:
    shape = {"encoder_module": "compact", "model_cfg": {"width": 16, "stem_width": 4, "frame_pool": 50}}
    config = parse_config({"batch_size": 6, **shape})
    fast, plain = Learner(parse_config({"batch_size": 6, "compile": True, **shape}), CPU, 3), Learner(config, CPU, 3)
    for learner in (fast, plain):
        learner.model.eval()  # a compiled network draws its dropout otherwise
    for batch in (some_batch(6, 1), some_batch(6, 1, seed=1), some_batch(4, 1), some_batch(6, 1)):
        assert losses(fast, 1, batch) == pytest.approx(losses(plain, 1, batch), rel=1e-4)
    assert fast._compiled is not None and fast._is_tried
    assert close(fast, plain, 1e-4)


@pytest.mark.slow
def test_a_compiled_network_in_bf16_has_gradients_that_are_numbers() -> None:
    shape = {"encoder_module": "compact", "model_cfg": {"width": 16, "stem_width": 4, "frame_pool": 50}}
    learner = Learner(parse_config({"batch_size": 2, "compile": True, "precision": "bf16", **shape}), CPU, 3)
    learner.model.train()
    learner.learn(some_batch(2, 1), "")
    assert learner._compiled is not None and learner._is_tried
    for parameter in learner.model.parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all()


def test_a_network_that_cannot_be_compiled_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_compiler(*arguments: Any) -> Any:
        raise RuntimeError("no C++ compiler was found")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=no_compiler))
    hopeful, plain = Learner(tiny_config(batch_size=6, compile=True), CPU, 3), Learner(tiny_config(), CPU, 3)
    with caplog.at_level(logging.WARNING):
        found = losses(hopeful)
    assert found == losses(plain) and close(hopeful, plain, 0.0)
    assert [record.message for record in caplog.records if "cannot be compiled here" in record.message]
    assert "no C++ compiler was found" in caplog.text


def test_divergence_in_a_compiled_network_is_not_taken_for_the_compilers_fault(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch, "compile", lambda module, **options: module)
    learner = Learner(tiny_config(batch_size=6, compile=True), CPU, N_CLASSES)
    batch = some_batch()
    batch.rolls.fill_(torch.nan)
    with pytest.raises(DivergedError):
        learner.learn(batch, "")
    assert "cannot be compiled" not in caplog.text
