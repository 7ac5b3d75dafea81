"""The parts that the four architectures are made of, and the interface they share.

Shapes: B clips, C channels of a roll, H keys (88 at the door), T frames (3000 at the door), D features, K pianists.
The names of the parameters are those of the paper's published checkpoints, which load strictly: renaming an
attribute that holds parameters breaks them.
"""

from abc import abstractmethod
from collections.abc import Iterable
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from pianistid_core.errors import ModelError
from pianistid_core.models.chance import Dropout, Dropout2d
from pianistid_core.rolls import N_FRAMES, N_KEYS

BLOCK_DROPOUT = 0.2
HEAD_DROPOUT = 0.5
GRU_LAYERS = 2


class PianistModel(nn.Module):
    """A network from piano rolls to pianists; every architecture is one of these.

    Rolls are float32 (B, in_channels, 88, 3000), normalised to 0..1. One that `studies` is shown the training part once
    before its first step. Of one that `is_linear`, the mean of several trainings' weights answers with the mean of
    their logits, where the trainings differ in their seed alone. Whoever asks who plays does so once for each of
    `listenings`, frames by which the rolls are moved, and takes the mean of the logits.
    """

    studies: bool = False
    is_linear: bool = False
    listenings: tuple[int, ...] = (0,)

    def __init__(self, *, in_channels: int, num_classes: int, feature_size: int, frame_pool: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.feature_size = feature_size
        self.frame_pool = frame_pool

    @abstractmethod
    def forward_features(self, rolls: Tensor) -> Tensor:
        """Describes each clip by one vector, (B, D), the input of the head.

        Raises ModelError when the rolls have another shape or are not floating point.
        """

    def study(self, clips: Iterable[tuple[Tensor, npt.NDArray[np.int64]]]) -> None:
        """Looks through the training part, maybe twice: rolls (B, C, 88, 3000) and the recordings (B,) they are of."""

    @abstractmethod
    def head(self, features: Tensor) -> Tensor:
        """Turns features (B, D) into logits (B, K)."""

    def forward(self, rolls: Tensor) -> Tensor:
        """Gives logits (B, K) for rolls (B, C, 88, 3000).

        Raises ModelError when the rolls have another shape or are not floating point.
        """
        return self.head(self.forward_features(rolls))

    def prepare(self, rolls: Tensor) -> Tensor:
        """Checks the rolls and averages every `frame_pool` frames: (B, C, 88, 3000 // frame_pool)."""
        self.check(rolls)
        if self.frame_pool == 1:
            return rolls
        return functional.avg_pool2d(rolls, kernel_size=(1, self.frame_pool))

    def check(self, rolls: Tensor) -> None:
        """Raises ModelError when the rolls have another shape or are not floating point."""
        wanted = (self.in_channels, N_KEYS, N_FRAMES)
        if rolls.dim() != 4 or tuple(rolls.shape[1:]) != wanted:
            raise ModelError(
                f"rolls of shape {tuple(rolls.shape)} came, but {type(self).__name__} wants "
                f"(clips, {', '.join(map(str, wanted))}); {self._channel_hint()}"
            )
        if not rolls.is_floating_point():
            raise ModelError(f"rolls of type {rolls.dtype} came; normalise them to floating point 0..1 first")

    def _channel_hint(self) -> str:
        kind = "all four concepts (multichannel: true)" if self.in_channels > 1 else "single piano rolls"
        return f"draw the clips as {kind}"


class InstanceBatchNorm(nn.Module):
    """Instance norm over the first half of the channels and batch norm over the rest ("ibn").

    Source: Pan et al., "Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net", 2018.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.n_instance = channels // 2
        self.instance_norm = nn.InstanceNorm2d(self.n_instance, affine=True)
        self.batch_norm = nn.BatchNorm2d(channels - self.n_instance)

    def forward(self, maps: Tensor) -> Tensor:
        first, rest = maps[:, : self.n_instance], maps[:, self.n_instance :]
        return torch.cat([self._by_instance(first), self.batch_norm(rest)], dim=1)

    def _by_instance(self, maps: Tensor) -> Tensor:
        if len(maps):
            return cast(Tensor, self.instance_norm(maps))
        # torch norms at least one instance; a process may hold none of a batch that others share.
        return maps * self.instance_norm.weight.view(1, -1, 1, 1) + self.instance_norm.bias.view(1, -1, 1, 1)


class AveragePooling(nn.Module):
    """The mean over all positions: (B, D, ...) to (B, D)."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.flatten(2).mean(dim=2)


class MaxPooling(nn.Module):
    """The largest value over all positions: (B, D, ...) to (B, D)."""

    def forward(self, maps: Tensor) -> Tensor:
        # Not amax: where silence makes many positions equal, the gradient belongs to one of them, not to all.
        return maps.flatten(2).max(dim=2).values


class GemPooling(nn.Module):
    """The generalised mean over all positions, between mean and max by a trained exponent: (B, D, ...) to (B, D).

    Source: Radenovic et al., "Fine-tuning CNN Image Retrieval with No Human Annotation", 2018.
    """

    def __init__(self, exponent: float = 3.0, floor: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((1,), exponent))
        self.floor = floor

    def forward(self, maps: Tensor) -> Tensor:
        powers = maps.flatten(2).clamp(min=self.floor).pow(self.p)
        return powers.mean(dim=2).pow(1.0 / self.p)


def make_norm(norm_type: str, channels: int) -> nn.Module:
    """Makes the norm called bn or ibn."""
    return InstanceBatchNorm(channels) if norm_type == "ibn" else nn.BatchNorm2d(channels)


def make_pooling(pool_type: str) -> nn.Module:
    """Makes the pooling called avg, max or gem, from (B, D, ...) to (B, D)."""
    poolings: dict[str, type[nn.Module]] = {"avg": AveragePooling, "max": MaxPooling, "gem": GemPooling}
    return poolings[pool_type]()


class ConvBlock(nn.Module):
    """Convolution, dropout, ReLU, norm, and average pooling if `pool_size` is above 1.

    (B, in_channels, H, T) to (B, out_channels, H // pool_size, T // pool_size).
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: int = 3, norm_type: str = "bn", pool_size: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.dropout = Dropout2d(BLOCK_DROPOUT)
        self.norm = make_norm(norm_type, out_channels)
        self.pool_size = pool_size

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.norm(functional.relu(self.dropout(self.conv(maps)), inplace=True))
        return maps if self.pool_size == 1 else functional.avg_pool2d(maps, self.pool_size)


class RecurrentBlock(nn.Module):
    """A bidirectional GRU along time: maps (B, C, H, T) to (B, 2 * hidden_size, T)."""

    def __init__(self, channels: int, height: int, hidden_size: int) -> None:
        super().__init__()
        self.gru = nn.GRU(channels * height, hidden_size, num_layers=GRU_LAYERS, batch_first=True, bidirectional=True)

    def forward(self, maps: Tensor) -> Tensor:
        steps = maps.flatten(1, 2).transpose(1, 2)  # (B, T, C * H)
        outputs, _ = self.gru(steps)
        return cast(Tensor, outputs).transpose(1, 2)


class HeadLayer(nn.Module):
    """A linear layer followed by dropout, on the logits too: that is how the published models were trained.

    With `drop_first` the dropout is on what goes in, so that logits stay whole.
    """

    def __init__(self, in_features: int, out_features: int, *, drop_first: bool = False) -> None:
        super().__init__()
        self.fc = nn.Linear(in_features, out_features)
        self.dropout = Dropout(HEAD_DROPOUT)
        self.drop_first = drop_first

    def forward(self, features: Tensor) -> Tensor:
        if self.drop_first:
            return cast(Tensor, self.fc(self.dropout(features)))
        return cast(Tensor, self.dropout(self.fc(features)))
