"""Chance in training, the same for a batch whether one process holds it or several share it.

Every process draws for the whole batch and takes what belongs to its own clips. So all generators stay in the same
state, and the numbers are those that one process would draw. Shapes: B clips of this process, C channels.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass
class Share:
    """Which clips of the batch at hand are this process's: `count` of `total`, from `start` on."""

    total: int = 0
    start: int = 0
    count: int = 0

    def of(self, whole: Tensor) -> Tensor:
        """What belongs to this process's clips, of a tensor over all clips of the batch."""
        return whole[self.start : self.start + self.count]


class DrawsChance(nn.Module):
    """A module that draws in training; without a `share` the clips that come are the whole batch."""

    share: Share | None = None

    def n_drawn(self, n_clips: int) -> int:
        """How many clips to draw for where `n_clips` came."""
        return n_clips if self.share is None else self.share.total

    def own(self, drawn: Tensor) -> Tensor:
        """What belongs to the clips that came, of what was drawn."""
        return drawn if self.share is None else self.share.of(drawn)


class Dropout(DrawsChance, nn.Dropout):
    """Dropout of single values, (B, ...)."""

    def forward(self, input: Tensor) -> Tensor:
        return drop(input, self.p, self)


class Dropout2d(DrawsChance, nn.Dropout2d):
    """Dropout of whole channels, (B, C, H, T)."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.share is None:
            return functional.dropout2d(input, self.p, self.training)
        kept = functional.dropout2d(input.new_ones(self.share.total, input.shape[1], 1, 1), self.p)
        return input * self.own(kept)


def drop(values: Tensor, p: float, by: DrawsChance) -> Tensor:
    """Drops single values of (B, ...) with probability p while `by` is in training, as `nn.Dropout` does."""
    if not by.training or by.share is None:
        return functional.dropout(values, p, by.training)
    return values * by.own(functional.dropout(values.new_ones(by.n_drawn(len(values)), *values.shape[1:]), p))


class SelfAttention(DrawsChance, nn.MultiheadAttention):
    """Self-attention over a short sequence, (B, L, D) to (B, L, D), with dropout on the attention weights.

    In training it is computed here, for `nn.MultiheadAttention` keeps its chance to itself.
    """

    def __init__(self, width: int, heads: int, *, dropout: float) -> None:
        super().__init__(width, heads, dropout=dropout, batch_first=True)

    def forward(self, steps: Tensor) -> Tensor:  # type: ignore[override]
        if not self.training:
            return super().forward(steps, steps, steps, need_weights=False)[0]
        projected = functional.linear(steps, self.in_proj_weight, self.in_proj_bias)  # (B, L, 3 D)
        by_head = (*steps.shape[:2], self.num_heads, self.head_dim)
        queries, keys, values = (part.reshape(by_head).transpose(1, 2) for part in projected.chunk(3, dim=2))
        weights = torch.softmax(queries @ keys.transpose(2, 3) * self.head_dim**-0.5, dim=3)
        heard = drop(weights, self.dropout, self) @ values
        return cast(Tensor, self.out_proj(heard.transpose(1, 2).flatten(2)))


def share_chance(model: nn.Module, share: Share) -> None:
    """Makes everything in a model that draws go by `share`, which is set anew before each batch."""
    for module in model.modules():
        if isinstance(module, DrawsChance):
            module.share = share
