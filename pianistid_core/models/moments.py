"""From piano rolls to the moments at which something is struck: music as columns, freed of clock time.

A roll is put on a grid of 100 ms, each onset to the nearest step, which is where transcriptions are still sure of it
and as fine as n-grams want to be. A moment is a step with at least one onset. Shapes: B clips, S steps (300), n moments
of all clips, in the order of clips and of time.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from pianistid_core.rolls import N_FRAMES, N_KEYS

STEP_FRAMES = 10
N_STEPS = N_FRAMES // STEP_FRAMES
# What ends after the middle between two steps ends at the later one: as clips are drawn for this, with a gap of 20 ms
# before each strike, the middle is this frame.
_HELD_FRAME = 3
_NONE_BELOW, _NONE_ABOVE = -1, N_KEYS


@dataclass(frozen=True, eq=False)
class Moments:
    """n moments of B clips: `clips`, `steps` int64 (n,), and what is struck and what is still held, bool (n, 88).

    `lengths` int64 (n, 88): how many steps a key that is struck there sounds, itself included.
    """

    clips: Tensor
    steps: Tensor
    struck: Tensor
    held: Tensor
    lengths: Tensor
    n_clips: int

    @classmethod
    def of(cls, rolls: Tensor) -> "Moments":
        """The moments of single-channel rolls (B, 1, 88, 3000)."""
        struck, held = struck_and_held(rolls[:, 0])
        clips, steps = struck.any(dim=1).nonzero(as_tuple=True)
        lengths = _lengths(held)
        return cls(clips, steps, struck[clips, :, steps], held[clips, :, steps], lengths[clips, :, steps], len(rolls))

    def __len__(self) -> int:
        return len(self.clips)

    @cached_property
    def top(self) -> Tensor:
        """The highest key struck, (n,)."""
        return highest(self.struck)

    @cached_property
    def low(self) -> Tensor:
        """The lowest key struck, (n,)."""
        return lowest(self.struck)

    @cached_property
    def ceiling(self) -> Tensor:
        """The highest key that sounds, struck or held, (n,)."""
        return highest(self.struck | self.held)

    @cached_property
    def n_struck(self) -> Tensor:
        """How many keys are struck, (n,)."""
        return self.struck.sum(dim=1)

    @cached_property
    def n_held(self) -> Tensor:
        """How many keys are held over, (n,)."""
        return self.held.sum(dim=1)

    @cached_property
    def places(self) -> tuple[Tensor, Tensor]:
        """Every struck key: its moment and the key, from low to high within a moment."""
        moments, keys = self.struck.nonzero(as_tuple=True)
        return moments, keys

    def since(self, most: int) -> Tensor:
        """Steps since the moment before, at most `most`; for a clip's first moment a number without meaning."""
        return step_from_before(self.steps, most)


def struck_and_held(roll: Tensor) -> tuple[Tensor, Tensor]:
    """Which keys are struck in each step of rolls (B, 88, 3000), and which are known to be held: bool (B, 88, S).

    Step s stands for the frames nearest to it: from 10 s - 5 up to, not with, 10 s + 5.
    """
    half = STEP_FRAMES // 2
    rises = roll[..., 1:] > roll[..., :-1]
    rises = functional.pad(torch.cat([roll[..., :1] > 0, rises], dim=-1)[..., : N_FRAMES - half], (half, 0))
    struck = rises.view(*rises.shape[:-1], N_STEPS, STEP_FRAMES).any(dim=-1)
    held = (roll[..., _HELD_FRAME::STEP_FRAMES] > 0) & ~struck
    # A key that is held until it is struck again, or until the clip ends, was mostly let go before, but nobody wrote
    # when: a transcription on a coarse grid joins such notes. So its length is not known, and not heard.
    struck_after = functional.pad(struck, (0, 1), value=True)
    return struck, held & ~struck_after.gather(-1, _ends(held))


def highest(keys: Tensor) -> Tensor:
    """The highest of some keys (n, 88), -1 where there is none: (n,)."""
    return torch.where(keys, torch.arange(N_KEYS, device=keys.device), _NONE_BELOW).amax(dim=1)


def lowest(keys: Tensor) -> Tensor:
    """The lowest of some keys (n, 88), 88 where there is none: (n,)."""
    return torch.where(keys, torch.arange(N_KEYS, device=keys.device), _NONE_ABOVE).amin(dim=1)


def step_from_before(values: Tensor, most: int) -> Tensor:
    """How far each value (n,) is from the one before it, within -most..most; 0 for the first."""
    return torch.diff(values, prepend=values[:1]).clamp(-most, most)


def _lengths(held: Tensor) -> Tensor:
    """How many steps a key struck in each step sounds (B, 88, S): the step itself, and those in which it is held."""
    return functional.pad(_ends(held)[..., 1:], (0, 1), value=N_STEPS) - torch.arange(N_STEPS, device=held.device)


def _ends(held: Tensor) -> Tensor:
    """The first step from each on in which a key is not held (B, 88, S): the step itself, or N_STEPS after the last."""
    not_held = torch.where(held, N_STEPS, torch.arange(N_STEPS, device=held.device))
    return torch.flip(torch.cummin(torch.flip(not_held, [-1]), dim=-1).values, [-1])
