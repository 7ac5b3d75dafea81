"""What is painted into a batch of rolls, and the painting of it on any device.

A stroke is one note in one channel of one clip: a run of frames on one key, and its velocity. A batch of strokes weighs
a hundredth of its rolls, so that a GPU can be sent the strokes and paint the rolls itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import torch

from pianistid_core.concepts import DrawnNotes
from pianistid_core.rolls import LOWEST_PITCH, N_FRAMES, N_KEYS, frames

# Strokes are told apart by their order, times 128 to make room for a velocity; so many of them fit in 32 bits.
_MOST_IN_32_BITS = (1 << 31) // 128


@dataclass(frozen=True, eq=False)
class Strokes:
    """n strokes in the order of painting: on one row, a later one covers an earlier one.

    `rows` int32 (n,): (clip * n_channels + channel) * 88 + key, from 0 for A0; `firsts` and `lasts` int16 (n,): frames
    from the first up to, not with, the last; `values` uint8 (n,). `n_cells` is the sum of all lengths: known before a
    device is asked, so that it need not be waited for.
    """

    rows: torch.Tensor
    firsts: torch.Tensor
    lasts: torch.Tensor
    values: torch.Tensor
    n_clips: int
    n_channels: int
    n_cells: int

    @classmethod
    def from_arrays(
        cls,
        rows: npt.NDArray[np.int32],
        firsts: npt.NDArray[np.int16],
        lasts: npt.NDArray[np.int16],
        values: npt.NDArray[np.uint8],
        *,
        n_clips: int,
        n_channels: int,
    ) -> "Strokes":
        """Takes the arrays as they are, uncopied."""
        n_cells = int(lasts.sum(dtype=np.int64) - firsts.sum(dtype=np.int64))
        tensor = torch.from_numpy
        return cls(tensor(rows), tensor(firsts), tensor(lasts), tensor(values), n_clips, n_channels, n_cells)

    @classmethod
    def of(cls, clips: Sequence[Sequence[DrawnNotes]], n_channels: int) -> "Strokes":
        """The strokes of drawn clips, each a list of `n_channels` channels."""
        arrays: list[tuple[npt.NDArray[np.int64], ...]] = [(np.empty(0, np.int64),) * 4]
        for clip, channels in enumerate(clips):
            for channel, drawn in enumerate(channels):
                first, last = frames(drawn.starts_s, drawn.ends_s)
                seen = last > first
                rows = (clip * n_channels + channel) * N_KEYS + drawn.pitches - LOWEST_PITCH
                values = np.broadcast_to(np.asarray(drawn.velocities, np.int64), rows.shape)
                arrays.append((rows[seen], first[seen], last[seen], values[seen]))
        rows, firsts, lasts, values = map(np.concatenate, zip(*arrays, strict=True))
        return cls.from_arrays(
            rows.astype(np.int32),
            firsts.astype(np.int16),
            lasts.astype(np.int16),
            values.astype(np.uint8),
            n_clips=len(clips),
            n_channels=n_channels,
        )

    def __len__(self) -> int:
        return len(self.rows)

    def without(self, clips: Sequence[int]) -> "Strokes":
        """The strokes of the other clips, which move up; for a batch from which a few are left out."""
        per_clip = self.n_channels * N_KEYS
        clip = self.rows.numpy() // per_clip
        gone = np.isin(np.arange(self.n_clips), clips)
        kept = ~gone[clip]
        rows = self.rows.numpy() - (np.cumsum(gone)[clip] * per_clip).astype(np.int32)
        return Strokes.from_arrays(
            rows[kept],
            self.firsts.numpy()[kept],
            self.lasts.numpy()[kept],
            self.values.numpy()[kept],
            n_clips=self.n_clips - int(gone.sum()),
            n_channels=self.n_channels,
        )

    def pin_memory(self) -> "Strokes":
        """The same strokes where a GPU can fetch them without waiting."""
        return replace(self, **{name: getattr(self, name).pin_memory() for name in _ARRAYS})


_ARRAYS = tuple(field.name for field in fields(Strokes))[:4]


def paint(strokes: Strokes, device: torch.device | str) -> torch.Tensor:
    """Paints strokes on a device, which the CPU does not wait for: float32 (B, C, 88, 3000), values 0..127."""
    rows, firsts, lasts, values = (sent(getattr(strokes, name), device) for name in _ARRAYS)
    shape = (strokes.n_clips, strokes.n_channels, N_KEYS, N_FRAMES)
    wide = torch.int32 if len(strokes) < _MOST_IN_32_BITS else torch.int64
    lengths = lasts.long() - firsts.long()
    # The flat index of every painted cell: each stroke's first cell, repeated, plus 0, 1, 2, ... within the stroke.
    origins = rows.long() * N_FRAMES + firsts.long() - (lengths.cumsum(0) - lengths)
    painted = torch.stack((origins, torch.arange(len(strokes), device=rows.device) * 128 + values))
    each = painted.repeat_interleave(lengths, dim=1, output_size=strokes.n_cells)
    cells = each[0] + torch.arange(strokes.n_cells, device=rows.device)
    # Of the strokes over one cell the largest number is the last one's; its lowest seven bits are the velocity.
    canvas = torch.zeros(strokes.n_clips * strokes.n_channels * N_KEYS * N_FRAMES, dtype=wide, device=rows.device)
    canvas.scatter_reduce_(0, cells, each[1].to(wide), "amax")
    return canvas.bitwise_and_(127).to(torch.float32).view(shape)


def sent(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """A tensor on a device; the way to a GPU of CUDA is not waited for.

    CUDA takes from pinned memory when it is there, and copies other memory aside first. Devices of other makers may
    read the tensor's own memory later, when it may hold the next batch.
    """
    return tensor.to(device, non_blocking=torch.device(device).type == "cuda")


def moved(rolls: torch.Tensor, by: int) -> torch.Tensor:
    """Rolls (..., T) so many frames later, or sooner where negative; what leaves them is lost, what enters is empty."""
    if by == 0:
        return rolls
    out = torch.zeros_like(rolls)
    if by > 0:
        out[..., by:] = rolls[..., :-by]
    else:
        out[..., :by] = rolls[..., -by:]
    return out


def normalise_rolls(rolls: torch.Tensor) -> torch.Tensor:
    """What `rolls.normalise` makes of rolls (..., 88, 3000), bit for bit, on their device and in their place."""
    low = rolls.amin(dim=(-2, -1), keepdim=True)
    span = rolls.amax(dim=(-2, -1), keepdim=True) - low
    return scaled(rolls, low, span)


def scaled(rolls: torch.Tensor, low: torch.Tensor, span: torch.Tensor) -> torch.Tensor:
    """(rolls - low) / span in place, where a span of 0 divides by 1; all three float32 on one device."""
    # Tensor by tensor: dividing by a number would multiply by its reciprocal, which rounds differently.
    return rolls.sub_(low).div_(torch.where(span > 0, span, torch.ones_like(span)))
