"""Batch norm over shares of a batch: values, gradients and remembered statistics are those over all of it."""

import copy
import threading

import pytest
import torch
from torch import nn

from pianistid_core.models.norms import Together, share_norms

SHARES = ([6], [4, 2], [0, 6], [1, 3, 2])


class Meeting:
    """Sums over threads that play processes."""

    def __init__(self, world: int) -> None:
        self.barrier = threading.Barrier(world, timeout=30)
        self.tensors: list[torch.Tensor | None] = [None] * world

    def of(self, rank: int) -> Together:
        def add_up(tensor: torch.Tensor) -> torch.Tensor:
            self.tensors[rank] = tensor.clone()
            self.barrier.wait()
            total = sum(one for one in self.tensors if one is not None)
            self.barrier.wait()
            return tensor.copy_(torch.as_tensor(total))

        return Together(add_up, rank, len(self.tensors))


def network(dims: int) -> nn.Module:
    torch.manual_seed(0)
    first, second = (nn.BatchNorm2d(4), nn.BatchNorm2d(4)) if dims == 4 else (nn.BatchNorm1d(4), nn.BatchNorm1d(4))
    return nn.Sequential(first, nn.Tanh(), nn.Sequential(second)).double()


def batch(dims: int) -> torch.Tensor:
    torch.manual_seed(1)
    # A mean far from 0 beside the spread: sums of squares would cancel.
    return 1e4 + torch.randn(6, 4, *[5] * (dims - 2), dtype=torch.float64)


@pytest.mark.parametrize("dims", [2, 3, 4])
@pytest.mark.parametrize("counts", SHARES, ids=str)
def test_shares_are_normalised_as_one_batch(counts: list[int], dims: int) -> None:
    whole, clips = network(dims), batch(dims).requires_grad_()
    shared = [copy.deepcopy(whole) for _ in counts]
    alone = whole(clips)
    wanted = torch.linspace(0, 1, alone.numel(), dtype=torch.float64).view_as(alone)
    ((alone - wanted) ** 2).sum().backward()

    meeting = Meeting(len(counts))
    inputs = [part.detach().clone().requires_grad_() for part in clips.split(counts)]
    outputs: list[torch.Tensor] = [torch.empty(0)] * len(counts)

    def go(rank: int) -> None:
        share_norms(shared[rank], meeting.of(rank))
        outputs[rank] = shared[rank](inputs[rank])
        ((outputs[rank] - wanted.split(counts)[rank]) ** 2).sum().backward()

    threads = [threading.Thread(target=go, args=(rank,)) for rank in range(len(counts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    torch.testing.assert_close(torch.cat(outputs), alone, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(torch.cat([part.grad for part in inputs if part.grad is not None]), clips.grad)
    for name, parameter in whole.named_parameters():
        total = sum(dict(one.named_parameters())[name].grad for one in shared)
        torch.testing.assert_close(total, parameter.grad)
    for one in shared:
        assert list(one.state_dict()) == list(whole.state_dict())
        for name, buffer in whole.named_buffers():
            torch.testing.assert_close(dict(one.named_buffers())[name], buffer)


def test_in_evaluation_a_shared_norm_asks_nobody() -> None:
    def nobody(tensor: torch.Tensor) -> torch.Tensor:
        raise AssertionError("it asked")

    whole = network(4)
    shared = copy.deepcopy(whole)
    share_norms(shared, Together(nobody, 0, 2))
    assert torch.equal(shared.eval()(batch(4)), whole.eval()(batch(4)))
    assert torch.equal(copy.deepcopy(shared)(batch(4)), whole(batch(4)))
