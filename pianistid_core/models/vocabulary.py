"""Which n-grams a model knows: those that most recordings of the training part have in common.

Whatever only one pianist was ever heard to play once says nothing of anybody, but there is ten times as much of it as
of the rest. So the part is read once before training, and the `size` most widespread n-grams are kept. Shapes: m
n-grams found, V n-grams known, F families.
"""

from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pianistid_core.models.ngrams import FAMILIES, Found

_EMPTY = (1 << 63) - 1
_MIX = np.uint64(0x9E3779B97F4A7C15)

Codes = npt.NDArray[np.int64]


class Vocabulary(nn.Module):
    """V rows, one for each n-gram known, family by family; what is not known has none.

    `codes` int64 (V,) ascending, `rows` int32 (V,) the row of each, `starts` int64 (F + 1,) where the rows of each
    family begin. Before anything is learned, all families are empty.
    """

    codes: Tensor
    rows: Tensor
    starts: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.full((size,), _EMPTY))
        self.register_buffer("rows", torch.zeros(size, dtype=torch.int32))
        self.register_buffer("starts", torch.zeros(len(FAMILIES) + 1, dtype=torch.int64))

    def __len__(self) -> int:
        return int(self.starts[-1])

    def find(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of the n-grams that are known, and which of those given, bool (m,), they are."""
        places = torch.searchsorted(self.codes, codes).clamp_(max=len(self.codes) - 1)
        known = self.codes[places] == codes
        return self.rows[places[known]].long(), known

    def learn(self, kept: list[Codes]) -> None:
        """Takes the codes of each family, in the order of `FAMILIES`; no more than V in all."""
        codes = np.concatenate(kept)
        order = np.argsort(codes)
        n = len(codes)
        with torch.no_grad():
            self.codes.fill_(_EMPTY)
            self.codes[:n] = torch.from_numpy(codes[order])
            self.rows[:n] = torch.from_numpy(order.astype(np.int32))
            self.starts.copy_(torch.from_numpy(np.cumsum([0, *map(len, kept)])))


class Survey:
    """Counts in how many recordings each n-gram occurs."""

    def __init__(self) -> None:
        self._seen: list[tuple[Codes, npt.NDArray[np.int16], npt.NDArray[np.int32]]] = []

    def add(self, found: Found, recordings: npt.NDArray[np.int64]) -> None:
        """Notes the n-grams of some clips; `recordings` says of which recording each clip is."""
        codes = found.codes.cpu().numpy()
        of = recordings[found.clips.cpu().numpy()]
        _, first = np.unique(_paired(codes, of), return_index=True)
        family = np.full(len(first), FAMILIES.index(found.family), np.int16)
        self._seen.append((codes[first], family, of[first].astype(np.int32)))

    def most_widespread(self, size: int, *, least: int) -> list[Codes]:
        """The `size` n-grams that most recordings have, `least` of them at least: the codes of each family, ascending.

        Of n-grams that are equally widespread, those with the smaller codes.
        """
        if not self._seen:
            return [np.empty(0, np.int64) for _ in FAMILIES]
        codes, families, recordings = map(np.concatenate, zip(*self._seen, strict=True))
        _, once = np.unique(_paired(codes, recordings), return_index=True)
        unique, first, counts = np.unique(codes[once], return_index=True, return_counts=True)
        of_family = families[once][first]
        order = np.lexsort((unique, -counts))
        kept = np.sort(order[: min(size, int((counts >= least).sum()))])
        return [unique[kept][of_family[kept] == number] for number in range(len(FAMILIES))]


def _paired(codes: Codes, recordings: npt.NDArray[np.int64] | npt.NDArray[np.int32]) -> npt.NDArray[np.uint64]:
    """One number for an n-gram in a recording."""
    return cast(npt.NDArray[np.uint64], (codes.view(np.uint64) ^ (recordings.astype(np.uint64) * _MIX)) * _MIX)
