"""Processes that share a network's steps: every architecture, uneven and empty shares, in double precision."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from pianistid_core.models import build_model
from pianistid_core.models.chance import Share
from pianistid_core.peers import Peers
from pianistid_core.sharing import sharing

LAYERS = [
    {"in_channels": 1, "out_channels": 4, "has_pool": True},
    {"in_channels": 4, "out_channels": 8, "has_pool": True},
]
MASKED = {"use_masking": True, "frame_pool": 100}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "stacks, gru, attention": ("disentangle", {"layers": LAYERS, **MASKED}),
    "compact encoders": (
        "disentangle",
        {"compact_encoders": True, "compact_stem": 4, "compact_width": 8, **MASKED, "frame_pool": 60},
    ),
    "resnet encoders": (
        "disentangle",
        {"_use_resnet": True, "use_attention": False, "pool_type": "masked-avg", **MASKED},
    ),
    "cnn, ibn": ("cnn", {"norm_type": "ibn", "frame_pool": 100}),
    "crnn": ("crnn", {"frame_pool": 100}),
    "resnet50, ibn, gem": (
        "resnet50",
        {"layers": [1, 1, 1, 1], "norm_type": "ibn", "pool_type": "gem", "frame_pool": 100},
    ),
    "compact": ("compact", {"stem_width": 4, "width": 8, "frame_pool": 60}),
}


class Pass(nn.Module):
    """What a learner gives to be wrapped."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, rolls: torch.Tensor) -> torch.Tensor:
        return self.model(rolls)  # type: ignore[no-any-return]


def two_steps(peers: Peers, name: str, counts: list[int]) -> dict[str, torch.Tensor]:
    """The weights after two steps on a batch that is shared out by counts, and torch's chance after them."""
    encoder, model_cfg = ARCHITECTURES[name]
    torch.manual_seed(0)
    model = build_model(encoder, model_cfg, 3).double().train()
    total = sum(counts)
    share = Share(total, sum(counts[: peers.rank]), counts[peers.rank] if peers.many else total)
    step = Pass(model)
    wrap = sharing(peers, share)
    called = step if wrap is None else wrap(step)
    rolls = torch.rand(total, model.in_channels, 88, 3000, dtype=torch.float64)
    labels = torch.arange(total) % 3
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    torch.manual_seed(7)
    for _ in range(2):
        optimiser.zero_grad()
        loss = functional.cross_entropy(called(share.of(rolls)), share.of(labels), reduction="sum") / total
        (loss * peers.world).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return {**model.state_dict(), "chance": torch.rand(3)}


def take_part(rank: int, port: int, counts: list[int], folder: str) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(len(counts))}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    peers = Peers.from_environment()
    with peers.joined(torch.device("cpu")):
        results = {name: two_steps(peers, name, counts) for name in ARCHITECTURES}
    torch.save(results, Path(folder) / f"{rank}.pt")


@pytest.mark.slow
@pytest.mark.parametrize("counts", [[3, 2], [5, 0]], ids=str)
def test_shared_steps_are_those_of_one_process(counts: list[int], tmp_path: Path) -> None:
    from torch.distributed import TCPStore

    port = TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False).port  # free again at once
    torch.multiprocessing.spawn(take_part, (port, counts, str(tmp_path)), nprocs=len(counts))
    for name in ARCHITECTURES:
        alone = two_steps(Peers.alone(), name, counts)
        for rank in range(len(counts)):
            shared = torch.load(tmp_path / f"{rank}.pt", weights_only=True)[name]
            assert list(shared) == list(alone)
            for key, tensor in alone.items():
                torch.testing.assert_close(shared[key], tensor, rtol=1e-9, atol=1e-10, msg=f"{name}: {key}")
