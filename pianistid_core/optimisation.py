"""What makes the loss small: optimisers, schedules, and the triplet term, as a config names them."""

import logging
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from pianistid_core.config import RunConfig, to_dict
from pianistid_core.errors import CheckpointError

log = logging.getLogger(__name__)

Scheduler = LRScheduler | ReduceLROnPlateau


def make_optimiser(config: RunConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser that a config names, over all parameters of a model that is on its device already.

    A fused one, where that was asked for and torch has it for the device.
    """
    if config.fused_optimiser:
        try:
            return _optimiser(config, model, fused=True)
        except RuntimeError as error:
            log.warning("torch has no fused optimiser for this device, so the usual one is used: %s", error)
    return _optimiser(config, model, fused=None)


def _optimiser(config: RunConfig, model: nn.Module, *, fused: bool | None) -> torch.optim.Optimizer:
    options = to_dict(config)["optim_cfg"]
    if config.optim_type == "adam":
        return torch.optim.Adam(model.parameters(), **{**options, "betas": tuple(options["betas"])}, fused=fused)
    return torch.optim.SGD(model.parameters(), **options, fused=fused)


def make_scheduler(config: RunConfig, optimiser: torch.optim.Optimizer) -> Scheduler | None:
    """The schedule that a config names; None keeps the learning rate as it is."""
    options = to_dict(config)["sched_cfg"]
    match config.sched_type:
        case "plateau":
            return torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, **options)
        case "cosine":
            return torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, **options)
        case "step":
            return torch.optim.lr_scheduler.StepLR(optimiser, **options)
        case "linear":
            return torch.optim.lr_scheduler.LinearLR(optimiser, **options)
    return None


def load_optimiser(optimiser: torch.optim.Optimizer, saved: Any, *, source: str) -> None:
    """Takes up an optimiser's state as `state_dict` gave it, but for its switches, such as `fused`: the config's stay.

    Raises
    ------
    CheckpointError
        When it is another optimiser's or none: torch takes any, and fails in the next step; `source` is its name.
    """
    own = optimiser.state_dict()
    groups, state = (saved.get("param_groups"), saved.get("state")) if isinstance(saved, Mapping) else (None, None)
    if not isinstance(groups, list) or not isinstance(state, Mapping) or len(groups) != len(own["param_groups"]):
        raise _no_state(source, "optimiser")
    merged = []
    for group, known in zip(groups, own["param_groups"], strict=True):
        if not isinstance(group, Mapping) or group.get("params") != known["params"]:
            raise _no_state(source, "optimiser")
        # Numbers are the run's so far, and switches, how it is gone about, this config's.
        numbers = {key: value for key, value in known.items() if key != "params" and _is_numeric(value)}
        if not all(_is_alike(group.get(key, value), value) for key, value in numbers.items()):
            raise _no_state(source, "optimiser")
        merged.append({**known, **{key: group[key] for key in numbers if key in group}})
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    for number, values in state.items():
        if type(number) is not int or not 0 <= number < len(weights) or not _fits(values, weights[number], optimiser):
            raise _no_state(source, "optimiser")
    optimiser.load_state_dict({"state": dict(state), "param_groups": merged})


def load_schedule(scheduler: Scheduler, saved: Any, *, source: str) -> None:
    """Takes up a schedule's state as `state_dict` gave it; what this schedule does not know is passed over.

    Raises
    ------
    CheckpointError
        When a value is not of the kind that this schedule has there; `source` is its name.
    """
    own = scheduler.state_dict()
    if not isinstance(saved, Mapping):
        raise _no_state(source, "schedule")
    known = {key: value for key, value in saved.items() if key in own}
    if not all(_is_alike(value, own[key]) for key, value in known.items()):
        raise _no_state(source, "schedule")
    scheduler.load_state_dict(known)


def _no_state(source: str, whose: str) -> CheckpointError:
    return CheckpointError(
        f"{source} does not hold the state of this {whose}; remove it to go on from the one before, or choose another "
        "run name with --set run=NAME"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _is_numeric(value: Any) -> bool:
    return all(map(_is_number, value)) if isinstance(value, tuple | list) else _is_number(value)


def _fits(values: Any, weight: torch.Tensor, optimiser: torch.optim.Optimizer) -> bool:
    """Whether they are what an optimiser remembers of one weight."""
    wanted = {"step", "exp_avg", "exp_avg_sq"} if isinstance(optimiser, torch.optim.Adam) else {"momentum_buffer"}
    if not isinstance(values, Mapping) or not wanted <= set(values):
        return False
    return all(
        _is_step(value) if name == "step" else value is None or _is_like(value, weight)
        for name, value in values.items()
    )


def _is_step(value: Any) -> bool:
    is_tensor = isinstance(value, torch.Tensor) and value.numel() == 1 and value.is_floating_point()
    return is_tensor or _is_number(value)


def _is_like(value: Any, weight: torch.Tensor) -> bool:
    return isinstance(value, torch.Tensor) and value.shape == weight.shape and value.is_floating_point()


def _is_alike(value: Any, known: Any) -> bool:
    """Whether a value is of the kind of another; the best so far of a plateau that has seen nothing is infinite."""
    if isinstance(known, list | tuple):
        return isinstance(value, list | tuple) and len(value) == len(known) and all(map(_is_alike, value, known))
    return _is_number(value) if _is_number(known) else type(value) is type(known)


def triplet_loss(
    anchors: torch.Tensor, positives: torch.Tensor, labels: torch.Tensor, margin: float, similarity: str
) -> torch.Tensor:
    """Mean of max(0, s_negative - s_positive + margin) over the other-class pairs of a batch.

    Anchors and positives are (B, D), labels (B,). `similarity` is "cosine" or "dot". 0 when all are of one class.
    """
    if similarity == "cosine":
        anchors, positives = functional.normalize(anchors, dim=1), functional.normalize(positives, dim=1)
    similarities = anchors @ positives.T  # (B, B): anchor by positive
    of_positive = similarities.diagonal().unsqueeze(1)
    is_other = labels.unsqueeze(1) != labels.unsqueeze(0)
    losses = functional.relu(similarities - of_positive + margin)
    return (losses * is_other).sum() / is_other.sum().clamp(min=1)
