"""What a loader gives and a network takes: B clips at once, brought to the device that it runs on.

A batch travels in one of three forms: `Batch` holds the float32 rolls themselves, `PackedBatch` the velocities in a
quarter of the room, and `StrokeBatch` only what is to be painted, in a hundredth of it. `to_device` makes the same
floats of each, bit for bit: what a form saves is the CPU's time and the way to the device.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch

from pianistid_core.strokes import Strokes, normalise_rolls, paint, scaled, sent

Form = Literal["float32", "uint8", "strokes"]
FORMS: tuple[Form, ...] = ("float32", "uint8", "strokes")
Skipped = list[tuple[int, str]]


@dataclass(frozen=True, eq=False)
class Batch:
    """B clips: rolls float32 (B, C, 88, 3000), the rest int64 (B,); `skipped` lists (clip, reason) of those left out.

    `recordings` and `clips` index the cache's tables. `positives`, when asked for, holds for each clip another one of
    the same pianist, in the shape of `rolls`. A batch unpacks as `rolls, labels, recordings`.
    """

    rolls: torch.Tensor
    labels: torch.Tensor
    recordings: torch.Tensor
    clips: torch.Tensor
    positives: torch.Tensor | None
    skipped: Skipped

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter((self.rolls, self.labels, self.recordings))

    def __len__(self) -> int:
        return len(self.labels)

    def to_device(self, device: torch.device | str) -> "Batch":
        """The same clips with rolls, labels and positives on a device, without waiting for the copy."""
        return replace(
            self,
            rolls=sent(self.rolls, device),
            labels=sent(self.labels, device),
            positives=None if self.positives is None else sent(self.positives, device),
        )

    def pin_memory(self) -> "Batch":
        """The same batch where a GPU can fetch it without waiting; a DataLoader calls this."""
        positives = None if self.positives is None else self.positives.pin_memory()
        return replace(self, rolls=self.rolls.pin_memory(), labels=self.labels.pin_memory(), positives=positives)


@dataclass(frozen=True, eq=False)
class PackedRolls:
    """Rolls as bytes: `values` uint8 (B, C, 88, 3000), and each channel's smallest and largest, uint8 (B, C)."""

    values: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor

    def floats(self, device: torch.device | str, *, normalised: bool) -> torch.Tensor:
        """The rolls as float32 on a device, normalised there or not."""
        rolls = sent(self.values, device).to(torch.float32)
        if not normalised:
            return rolls
        low, high = (sent(edge, device).to(torch.float32)[..., None, None] for edge in (self.low, self.high))
        return scaled(rolls, low, high - low)

    def without(self, clips: Sequence[int]) -> "PackedRolls":
        """The rolls of the other clips."""
        kept = [clip for clip in range(len(self.values)) if clip not in clips]
        return PackedRolls(self.values[kept], self.low[kept], self.high[kept])

    def pin_memory(self) -> "PackedRolls":
        """The same rolls where a GPU can fetch them without waiting."""
        return PackedRolls(self.values.pin_memory(), self.low.pin_memory(), self.high.pin_memory())


@dataclass(frozen=True, eq=False)
class PackedBatch:
    """A `Batch` whose rolls are bytes; `normalised` says whether they become floats in 0..1 or in 0..127."""

    rolls: PackedRolls
    labels: torch.Tensor
    recordings: torch.Tensor
    clips: torch.Tensor
    positives: PackedRolls | None
    skipped: Skipped
    normalised: bool

    def __len__(self) -> int:
        return len(self.labels)

    def to_device(self, device: torch.device | str) -> Batch:
        """The batch of float32 rolls on a device, without waiting for the copy."""
        rolls = self.rolls.floats(device, normalised=self.normalised)
        positives = None if self.positives is None else self.positives.floats(device, normalised=self.normalised)
        labels = sent(self.labels, device)
        return Batch(rolls, labels, self.recordings, self.clips, positives, self.skipped)

    def pin_memory(self) -> "PackedBatch":
        """The same batch where a GPU can fetch it without waiting; a DataLoader calls this."""
        positives = None if self.positives is None else self.positives.pin_memory()
        return replace(self, rolls=self.rolls.pin_memory(), labels=self.labels.pin_memory(), positives=positives)


@dataclass(frozen=True, eq=False)
class StrokeBatch:
    """A `Batch` whose rolls are yet to be painted; `normalised` says whether to floats in 0..1 or in 0..127."""

    strokes: Strokes
    labels: torch.Tensor
    recordings: torch.Tensor
    clips: torch.Tensor
    positives: Strokes | None
    skipped: Skipped
    normalised: bool

    def __len__(self) -> int:
        return len(self.labels)

    def to_device(self, device: torch.device | str) -> Batch:
        """The batch of float32 rolls, painted on a device that is not waited for."""
        rolls = self._painted(self.strokes, device)
        positives = None if self.positives is None else self._painted(self.positives, device)
        labels = sent(self.labels, device)
        return Batch(rolls, labels, self.recordings, self.clips, positives, self.skipped)

    def _painted(self, strokes: Strokes, device: torch.device | str) -> torch.Tensor:
        rolls = paint(strokes, device)
        return normalise_rolls(rolls) if self.normalised else rolls

    def pin_memory(self) -> "StrokeBatch":
        """The same batch where a GPU can fetch it without waiting; a DataLoader calls this."""
        positives = None if self.positives is None else self.positives.pin_memory()
        return replace(self, strokes=self.strokes.pin_memory(), labels=self.labels.pin_memory(), positives=positives)


AnyBatch = Batch | PackedBatch | StrokeBatch
Rolls = torch.Tensor | PackedRolls | Strokes


def batch_of(
    rolls: Rolls,
    positives: Rolls | None,
    about: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    skipped: Skipped,
    *,
    normalised: bool,
) -> AnyBatch:
    """The batch of the form that the rolls, and the positives with them, have; `about` is labels, recordings, clips."""
    if isinstance(rolls, PackedRolls):
        return PackedBatch(rolls, *about, cast("PackedRolls | None", positives), skipped, normalised)
    if isinstance(rolls, Strokes):
        return StrokeBatch(rolls, *about, cast("Strokes | None", positives), skipped, normalised)
    return Batch(rolls, *about, cast("torch.Tensor | None", positives), skipped)
