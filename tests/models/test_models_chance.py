"""Draws for a batch that processes share: each gets what one process would have drawn for its clips."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from pianistid_core.models import build_model
from pianistid_core.models.chance import Dropout, Dropout2d, SelfAttention, Share, share_chance

SHARES = ([5], [3, 2], [0, 5], [2, 2, 1])
MASKED = {"use_masking": True, "mask_probability": 0.7, "use_gru": False, "use_attention": True, "frame_pool": 100} | {
    "layers": [{"in_channels": 1, "out_channels": 4}]
}
MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "dropout": (lambda: Dropout(0.4), (5, 7)),
    "dropout of steps": (lambda: Dropout(0.4), (5, 3, 6)),
    "dropout of channels": (lambda: Dropout2d(0.4), (5, 6, 2, 3)),
    "attention": (lambda: SelfAttention(8, 2, dropout=0.4), (5, 4, 8)),
}


def shared(module: nn.Module, clips: torch.Tensor, counts: list[int]) -> torch.Tensor:
    """What processes with so many clips each give, one after the other."""
    parts = []
    for rank, count in enumerate(counts):
        share = Share(total=len(clips), start=sum(counts[:rank]), count=count)
        share_chance(module, share)
        torch.manual_seed(3)
        parts.append(module(clips[share.start : share.start + count]))
    return torch.cat(parts)


@pytest.mark.parametrize("counts", SHARES, ids=str)
@pytest.mark.parametrize("name", MODULES)
def test_shares_are_of_one_draw(name: str, counts: list[int]) -> None:
    make, shape = MODULES[name]
    torch.manual_seed(0)
    module, clips = make().double(), torch.randn(shape, dtype=torch.float64)
    torch.manual_seed(3)
    alone = module(clips)
    after = torch.rand(1)
    torch.testing.assert_close(shared(module, clips, counts), alone, rtol=0, atol=1e-14)
    assert torch.equal(torch.rand(1), after), "the generator is where it would be alone"
    assert not torch.equal(alone, module.eval()(clips))


@pytest.mark.parametrize("counts", SHARES, ids=str)
def test_masked_concepts_are_of_one_draw(counts: list[int]) -> None:
    torch.manual_seed(0)
    model = build_model("disentangle", MASKED, 3)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):  # whose statistics are another matter
            norm.eval()
    clips = torch.rand(5, 4, 88, 3000)
    torch.manual_seed(3)
    alone = model(clips)
    torch.testing.assert_close(shared(model, clips, counts), alone, rtol=1e-5, atol=1e-6)


def test_attention_draws_as_torch_does() -> None:
    torch.manual_seed(0)
    ours, theirs = SelfAttention(8, 2, dropout=0.4), nn.MultiheadAttention(8, 2, dropout=0.4, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    clips = torch.randn(5, 4, 8)
    for training in (True, False):
        torch.manual_seed(3)
        answer = ours.train(training)(clips)
        torch.manual_seed(3)
        theirs_answer, _ = theirs.train(training)(clips, clips, clips, need_weights=False)
        torch.testing.assert_close(answer, theirs_answer)


def test_alone_dropout_is_that_of_torch() -> None:
    values = torch.randn(5, 6, 2, 3)
    for ours, theirs in ((Dropout(0.3), nn.Dropout(0.3)), (Dropout2d(0.3), nn.Dropout2d(0.3))):
        for training in (True, False):
            torch.manual_seed(3)
            answer = ours.train(training)(values)
            torch.manual_seed(3)
            assert torch.equal(answer, theirs.train(training)(values))
