"""One step of training, and what a network learns with: shared by a run and by its preflight.

Nothing here waits for a GPU: a step leaves its numbers there, `Sums` adds them up, and who shows them takes what has
arrived. Where the loss stops being a number is seen at once on a CPU, elsewhere when the sums are looked at.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pianistid_core.batches import AnyBatch, Batch, Form
from pianistid_core.checkpoints import load_state
from pianistid_core.config import RunConfig
from pianistid_core.datasets.cache import NoteCache
from pianistid_core.errors import RunError
from pianistid_core.loader import ClipDataset
from pianistid_core.models import PianistModel, build_model
from pianistid_core.optimisation import load_optimiser, load_schedule, make_optimiser, make_scheduler, triplet_loss
from pianistid_core.rolls import N_FRAMES, N_KEYS
from pianistid_core.training_options import TripletOptions

log = logging.getLogger(__name__)

Wrap = Callable[[nn.Module], nn.Module]


class DivergedError(RunError):
    """A loss that is not a number."""


# --- what steps give -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """What one batch gave, on the device: its mean loss times its clips, and how many were named rightly."""

    loss_sum: Tensor
    n_correct: Tensor
    n_clips: int


@dataclass(frozen=True)
class Totals:
    """What steps add up to, as numbers."""

    loss_sum: float = 0.0
    n_correct: int = 0
    n_clips: int = 0


class Sums:
    """What the steps of an epoch add up to, kept on the device so that no step waits for it."""

    def __init__(self, device: torch.device, totals: Totals | None = None) -> None:
        totals = totals or Totals()
        self.device, self.n_clips = device, totals.n_clips
        self._sums = torch.tensor([totals.loss_sum, totals.n_correct], dtype=_exact(device), device=device)
        self._arrived = totals
        self._coming: tuple[Tensor, int, torch.cuda.Event] | None = None

    def add(self, step: Step) -> None:
        """Adds a step."""
        self._sums += torch.stack([step.loss_sum, step.n_correct.to(step.loss_sum.dtype)])
        self.n_clips += step.n_clips

    def glance(self, where: str) -> Totals:
        """The newest totals that can be had without waiting: of a GPU, those of an earlier glance.

        Raises
        ------
        DivergedError
            When the loss was no number; `where` says by when.
        """
        if self.device.type != "cuda":
            return self.read(where)
        if self._coming is not None and self._coming[2].query():  # type: ignore[no-untyped-call]
            numbers, n_clips, _ = self._coming
            self._arrived, self._coming = _totals(numbers, n_clips, where), None
        if self._coming is None:
            numbers = torch.empty(2, dtype=self._sums.dtype, pin_memory=True)
            numbers.copy_(self._sums, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(torch.cuda.current_stream(self.device))
            self._coming = (numbers, self.n_clips, event)
        return self._arrived

    def read(self, where: str) -> Totals:
        """The totals of all steps so far, for which a GPU is waited for.

        Raises
        ------
        DivergedError
            When the loss was no number; `where` says by when.
        """
        self._arrived, self._coming = _totals(self._sums, self.n_clips, where), None
        return self._arrived


def _totals(numbers: Tensor, n_clips: int, where: str) -> Totals:
    loss_sum, n_correct = numbers.tolist()
    _refuse_no_number(loss_sum, where)  # what is no number stays none, however much is added
    return Totals(loss_sum, round(n_correct), n_clips)


def _refuse_no_number(loss: float, where: str) -> None:
    if not math.isfinite(loss):
        raise DivergedError(f"the loss is {loss} in {where}: training has diverged; lower optim_cfg.lr and start again")


def _exact(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64


# --- a step ----------------------------------------------------------------------------------------------------------


class _Pass(nn.Module):
    """What a step asks of a network: logits and features of rolls, and features of their positives."""

    def __init__(self, model: PianistModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, rolls: Tensor, positives: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        features = self.model.forward_features(rolls)
        logits = self.model.head(features)
        return logits, features, None if positives is None else self.model.forward_features(positives)


class Learner:
    """A network with its optimiser and schedule, as a config names them.

    `wrap` is given the module whose forward is a step's pass, with the network as its `model`, and gives what is called
    instead. `n_clips_of` (K,) is how many training clips there are of each pianist, for the loss that makes up for it.
    What is compiled takes whole batches; smaller ones are not worth compiling for.
    """

    def __init__(
        self,
        config: RunConfig,
        device: torch.device,
        n_classes: int,
        *,
        wrap: Wrap | None = None,
        n_clips_of: Sequence[int] | None = None,
    ) -> None:
        self.config, self.device = config, device
        torch.manual_seed(config.seed)
        self.model = build_model(config.encoder_module, config.model_cfg, n_classes).to(device)
        if config.channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)
        self.optimiser = make_optimiser(config, self.model)
        self.scheduler = make_scheduler(config, self.optimiser)
        self._pass: nn.Module = _Pass(self.model)
        if wrap is not None:
            self._pass = wrap(self._pass)
        self._compiled: Any = torch.compile(self._pass, dynamic=False) if config.compile else None
        self._is_tried = False
        self._adjustment: Tensor | None = None
        if n_clips_of is not None and config.loss_cfg.logit_adjustment:
            counts = torch.tensor(n_clips_of, dtype=torch.float32, device=device).clamp(min=1)
            self._adjustment = config.loss_cfg.logit_adjustment * (counts / counts.sum()).log()

    def learn(self, batch: AnyBatch, where: str, *, weight: Tensor | float | None = None) -> Step:
        """Takes one step of the optimiser on a batch, which may be empty where others share it.

        `weight` is what the loss counts for beside those of other processes; the step's numbers are without it.

        Raises
        ------
        DivergedError
            When the loss is no number, on a CPU; `where` says in which batch. Elsewhere `Sums` sees it.
        """
        here = batch.to_device(self.device)
        logits, loss = self._forward_and_backward(here, where, weight)
        self.optimiser.step()
        n_correct = (logits.argmax(dim=1) == here.labels).sum()
        return Step(loss.to(_exact(self.device)) * len(batch), n_correct, len(batch))

    def _forward_and_backward(self, batch: Batch, where: str, weight: Tensor | float | None) -> tuple[Tensor, Tensor]:
        if self._compiled is None or len(batch) != self.config.batch_size:
            return self._gradients(self._pass, batch, where, weight)
        if self._is_tried:
            return self._gradients(self._compiled, batch, where, weight)
        before = self._chance_and_buffers()
        try:
            result = self._gradients(self._compiled, batch, where, weight)
        except (DivergedError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # if it is not the compiler's, the next line raises it again
            log.warning("the network cannot be compiled here (%s), so it runs as it is", _short(error))
            self._compiled = None
            self._restore(before)
            result = self._gradients(self._pass, batch, where, weight)
        self._is_tried = True
        return result

    def _gradients(
        self, forward: Callable[..., Any], batch: Batch, where: str, weight: Tensor | float | None
    ) -> tuple[Tensor, Tensor]:
        """Leaves the gradients of a batch in the parameters; gives its logits and its mean loss."""
        self.optimiser.zero_grad(set_to_none=True)
        options = self.config.loss_cfg
        positives = batch.positives if isinstance(options, TripletOptions) else None
        with self._arithmetic():
            logits, features, of_positives = forward(batch.rolls, positives)
        # Of no clips the mean is no number; a process may hold none of a batch that others share.
        adjusted = logits.float() if self._adjustment is None else logits.float() + self._adjustment
        loss = (
            functional.cross_entropy(adjusted, batch.labels, label_smoothing=options.label_smoothing)
            if len(batch)
            else adjusted.sum()
        )
        if of_positives is not None and isinstance(options, TripletOptions):
            anchors, others = features.float(), of_positives.float()
            loss = loss + triplet_loss(anchors, others, batch.labels, options.margin, options.similarity)
        if self.device.type == "cpu":
            _refuse_no_number(loss.item(), where)
        (loss if weight is None else loss * weight).backward()
        return logits.detach(), loss.detach()

    def _arithmetic(self) -> AbstractContextManager[Any]:
        if self.config.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def _chance_and_buffers(self) -> tuple[Tensor, Tensor | None, list[Tensor]]:
        on_cuda = self.device.type == "cuda"
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        return torch.get_rng_state(), torch.cuda.get_rng_state(self.device) if on_cuda else None, buffers

    def _restore(self, before: tuple[Tensor, Tensor | None, list[Tensor]]) -> None:
        chance, cuda_chance, buffers = before
        torch.set_rng_state(chance)
        if cuda_chance is not None:
            torch.cuda.set_rng_state(cuda_chance, self.device)
        for buffer, was in zip(self.model.buffers(), buffers, strict=True):
            buffer.copy_(was)

    def try_batch(self, n: int) -> None:
        """Takes steps on n clips of noise, with a batch waiting beside them, to see whether they fit in memory.

        Raises
        ------
        torch.OutOfMemoryError
            When they do not.
        """
        shape = (n, self.model.in_channels, N_KEYS, N_FRAMES)
        rolls = torch.rand(shape, device=self.device)
        positives = torch.rand(shape, device=self.device) if isinstance(self.config.loss_cfg, TripletOptions) else None
        numbers = torch.arange(n, device=self.device)
        batch = Batch(rolls, numbers % self.model.num_classes, numbers, numbers, positives, [])
        waiting = torch.empty_like(rolls)
        for _ in range(2):  # the first makes what the optimiser remembers
            self.learn(batch, "a trial").loss_sum.item()
        del waiting

    # --- going on ---

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of this: weights, optimiser, schedule, and torch's chance."""
        return {
            "model_state_dict": self.model.state_dict(),
            "optimizer_state_dict": self.optimiser.state_dict(),
            "scheduler_state_dict": self.scheduler.state_dict() if self.scheduler is not None else None,
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def load(self, saved: Mapping[str, Any], *, source: str) -> None:
        """Takes up what `state` gave.

        Raises
        ------
        CheckpointError
            When the weights, or the state of optimiser or schedule, do not fit; `source` is its name.
        KeyError, TypeError, ValueError, RuntimeError
            When something else is missing or does not fit.
        """
        load_state(self.model, saved["model_state_dict"], source=source)
        load_optimiser(self.optimiser, saved["optimizer_state_dict"], source=source)
        if self.scheduler is not None and saved["scheduler_state_dict"] is not None:
            load_schedule(self.scheduler, saved["scheduler_state_dict"], source=source)
        torch.set_rng_state(saved["torch_rng"])
        if self.device.type == "cuda" and saved["cuda_rng"] is not None:
            torch.cuda.set_rng_state(saved["cuda_rng"], self.device)


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


# --- parts of a config -----------------------------------------------------------------------------------------------


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


def n_clips_of(clips: ClipDataset, n_classes: int) -> tuple[int, ...]:
    """How many of the clips there are of each class."""
    counted = np.bincount(clips.labels[clips.clips], minlength=n_classes)
    return tuple(counted.tolist())


def form_of(config: RunConfig) -> Form:
    """How a config has clips travel to the device."""
    return cast(Form, config.roll_form)


def class_names_of(config: RunConfig, cache: NoteCache) -> tuple[str, ...]:
    """What a config's network tells apart: pianists, or sources."""
    return cache.source_names if config.classify_dataset else cache.class_names
