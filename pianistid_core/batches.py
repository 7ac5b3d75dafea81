"""What a loader gives and a network takes: B clips at once, brought to the device that it runs on."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch


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
    skipped: list[tuple[int, str]]

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter((self.rolls, self.labels, self.recordings))

    def __len__(self) -> int:
        return len(self.labels)

    def to_device(self, device: torch.device | str) -> "Batch":
        """The same clips with rolls, labels and positives on a device, without waiting for the copy."""
        return replace(
            self,
            rolls=self.rolls.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
            positives=None if self.positives is None else self.positives.to(device, non_blocking=True),
        )

    def pin_memory(self) -> "Batch":
        """The same batch where a GPU can fetch it without waiting; a DataLoader calls this."""
        positives = None if self.positives is None else self.positives.pin_memory()
        return replace(self, rolls=self.rolls.pin_memory(), labels=self.labels.pin_memory(), positives=positives)
