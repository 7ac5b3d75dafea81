"""Batch norm over a batch that several processes share, on any device; torch's own needs a GPU.

Statistics are those of the whole batch and gradients flow through them, so that the numbers are those of one process.
Names of weights and buffers are those of the norm it stands in for. Shapes: B clips, C channels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm


@dataclass(frozen=True)
class Together:
    """How processes put numbers together: the sum of a tensor over all of them, in place; who this is, of how many."""

    add_up: Callable[[Tensor], Tensor]
    rank: int
    world: int

    def __deepcopy__(self, memo: dict[int, Any]) -> "Together":
        return self  # a copy of a model talks to the same processes

    def gather(self, row: Tensor) -> Tensor:
        """The rows of all processes, (world, n)."""
        rows = row.new_zeros(self.world, len(row))
        rows[self.rank] = row
        return self.add_up(rows)


class _Normalise(torch.autograd.Function):
    """Normalises (B, C, ...) by mean and variance over all clips of all processes; gives these two and the count."""

    @staticmethod
    def forward(
        ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor, eps: float, together: Together
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean, variance, count = _statistics(maps, together)
        ctx.save_for_backward(maps, weight, mean, variance, count)
        ctx.eps, ctx.together = eps, together
        ctx.mark_non_differentiable(mean, variance, count)
        return functional.batch_norm(maps, mean, variance, weight, bias, eps=eps), mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        maps, weight, mean, variance, count = ctx.saved_tensors
        gradient, exact = gradients[0].to(mean.dtype), maps.to(mean.dtype)
        of_weight, of_bias = _of_weights(gradient, exact, weight, mean, variance, ctx.eps)
        # Put together in a tensor of their own: what is given back is this process's.
        means = ctx.together.add_up(torch.stack([of_weight, of_bias])) / count
        scale = torch.rsqrt(variance + ctx.eps)
        shape = _across(maps)
        of_maps = exact - mean.view(shape)
        of_maps.mul_((-means[0] * scale).view(shape)).add_(gradient).sub_(means[1].view(shape))
        of_maps.mul_((weight * scale).view(shape))
        return of_maps.to(maps.dtype), of_weight, of_bias, None, None


def _of_weights(
    gradient: Tensor, maps: Tensor, weight: Tensor, mean: Tensor, variance: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """The gradients of weight and bias (C,), by torch's own kernel for fixed statistics."""
    if not len(maps):
        return torch.zeros_like(weight), torch.zeros_like(weight)
    which = [False, True, True]
    _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
        gradient, maps, weight, mean, variance, None, None, False, eps, which
    )
    return of_weight, of_bias


def _statistics(maps: Tensor, together: Together) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance (C,) of each channel over all processes, and how many values each is of."""
    n_channels, n = maps.shape[1], maps.numel() // max(1, maps.shape[1])
    exact = maps.to(torch.promote_types(maps.dtype, torch.float32))
    own = exact.new_zeros(2, n_channels)
    if n:
        own[1], own[0] = torch.var_mean(exact, _dims(maps), correction=0)
    rows = together.gather(torch.cat([own.flatten(), own.new_full((1,), n)]))  # `new_tensor` would wait for a GPU
    counts = rows[:, -1:]  # (world, 1)
    means, variances = rows[:, :n_channels], rows[:, n_channels:-1]
    total = counts.sum()
    mean = (counts * means).sum(0) / total
    # From deviations, not from squares: these would cancel where the mean is large.
    return mean, (counts * (variances + (means - mean).square())).sum(0) / total, total


def _dims(maps: Tensor) -> list[int]:
    return [dim for dim in range(maps.dim()) if dim != 1]


def _across(maps: Tensor) -> list[int]:
    return [1, -1, *[1] * (maps.dim() - 2)]


class _SharedNorm(_BatchNorm):
    """What the shared norms have in common: in training their statistics are those of all processes' clips."""

    together: Together

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        normalised, mean, variance, count = _Normalise.apply(input, self.weight, self.bias, self.eps, self.together)
        with torch.no_grad():
            self._remember(mean, variance * (count / (count - 1)))
        return cast(Tensor, normalised)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 0.1 if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), momentum)


class _SharedNorm1d(_SharedNorm, nn.BatchNorm1d):
    pass


class _SharedNorm2d(_SharedNorm, nn.BatchNorm2d):
    pass


def share_norms(model: nn.Module, together: Together) -> None:
    """Puts shared batch norms, with the same weights under the same names, in place of all batch norms of a model."""
    for parent in model.modules():
        for name, norm in parent.named_children():
            kind = _SharedNorm1d if isinstance(norm, nn.BatchNorm1d) else _SharedNorm2d
            if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
                setattr(parent, name, _taking_over(norm, kind(norm.num_features, norm.eps, norm.momentum), together))


def _taking_over(norm: _BatchNorm, shared: _SharedNorm, together: Together) -> _SharedNorm:
    shared.weight, shared.bias = norm.weight, norm.bias
    for name, buffer in norm.named_buffers(recurse=False):
        setattr(shared, name, buffer)
    shared.together = together
    return shared.train(norm.training)
