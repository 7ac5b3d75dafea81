"""What makes the loss small: optimisers, schedules, and the triplet term, as a config names them."""

import logging

import torch
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from pianistid_core.config import RunConfig, to_dict

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
