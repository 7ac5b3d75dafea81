"""One step of training, and what a network learns with: shared by a run and by its preflight."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from pianistid_core.batches import Batch
from pianistid_core.config import RunConfig
from pianistid_core.datasets.cache import NoteCache
from pianistid_core.errors import RunError
from pianistid_core.loader import ClipDataset
from pianistid_core.models import build_model
from pianistid_core.optimisation import make_optimiser, make_scheduler, triplet_loss
from pianistid_core.training_options import TripletOptions


class DivergedError(RunError):
    """A loss that is not a number."""


@dataclass(frozen=True)
class Step:
    """What one batch gave: its mean loss, and how many of its clips were named rightly."""

    loss: float
    n_correct: int
    n_clips: int


class Learner:
    """A network with its optimiser and schedule, as a config names them."""

    def __init__(self, config: RunConfig, device: torch.device, n_classes: int) -> None:
        self.config, self.device = config, device
        torch.manual_seed(config.seed)
        self.model = build_model(config.encoder_module, config.model_cfg, n_classes).to(device)
        self.optimiser = make_optimiser(config, self.model)
        self.scheduler = make_scheduler(config, self.optimiser)

    def learn(self, batch: Batch, where: str) -> Step:
        """Takes one step of the optimiser on a batch that is not empty.

        Raises
        ------
        DivergedError
            When the loss is no number; `where` says in which batch.
        """
        rolls = batch.rolls.to(self.device, non_blocking=True)
        labels = batch.labels.to(self.device, non_blocking=True)
        self.optimiser.zero_grad(set_to_none=True)
        features = self.model.forward_features(rolls)
        logits = self.model.head(features)
        loss = functional.cross_entropy(logits, labels)
        options = self.config.loss_cfg
        if batch.positives is not None and isinstance(options, TripletOptions):
            positives = self.model.forward_features(batch.positives.to(self.device, non_blocking=True))
            loss = loss + triplet_loss(features, positives, labels, options.margin, options.similarity)
        value = loss.item()
        if not math.isfinite(value):
            raise DivergedError(
                f"the loss is {value} in {where}: training has diverged; lower optim_cfg.lr and start again"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return Step(value, int((logits.argmax(dim=1) == labels).sum()), len(labels))

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of this: weights, optimiser, schedule, and torch's chance."""
        return {
            "model_state_dict": self.model.state_dict(),
            "optimizer_state_dict": self.optimiser.state_dict(),
            "scheduler_state_dict": self.scheduler.state_dict() if self.scheduler is not None else None,
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }


def clips_of(config: RunConfig, cache: NoteCache, *, training: bool) -> ClipDataset:
    """The clips of a part as a config draws them, for training or for evaluation."""
    return ClipDataset(
        cache,
        config.train_dataset_cfg if training else config.test_dataset_cfg,
        seed=config.seed,
        training=training,
        classify_dataset=config.classify_dataset,
        with_positives=training and config.loss_type == "cce+triplet",
    )


def class_names_of(config: RunConfig, cache: NoteCache) -> tuple[str, ...]:
    """What a config's network tells apart: pianists, or sources."""
    return cache.source_names if config.classify_dataset else cache.class_names
