"""How much each family of n-grams should count: learned by gradient descent on what held-out recordings say.

    python tests/benchmarks/families.py --data-root workspace [--steps 12]

The n-gram model's kernel is the sum of its families' kernels, each times a weight (`models.ngrams.FAMILIES`). Here
kernel ridge regression stands for the model, since it is solved at once: on four fifths of the training recordings, for
the rest, five times over. The weights go down the gradient of the held-out cross entropy of clips and recordings
(Lanckriet et al. 2004; Bengio 2000 for the gradient through what is solved). They are learned on three folds and tried
on the other two before they are learned on all five. The test part is not touched. Ten minutes and 5 GB on two cores.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from pianistid_core.config import load_config
from pianistid_core.datasets.cache import open_note_cache
from pianistid_core.datasets.root import DataRoot
from pianistid_core.loader import ClipDataset, make_loader
from pianistid_core.models import NgramModel, build_model
from pianistid_core.models.moments import Moments
from pianistid_core.models.ngrams import FAMILIES

FOLDS, LEARNED, TRIED = 5, (0, 1, 2), (3, 4)
RIDGE = 0.01  # of the kernel's mean diagonal
SCALE = 8.0  # of what is solved, as logits
STEP, TOWARDS_NOW = 0.12, 2e-3
_AT_ONCE = 2048  # columns

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Clips:
    """n clips: their kernels by family, half precision (n, n) each; labels, recordings and folds (n,)."""

    kernels: list[Tensor]
    labels: Tensor
    recordings: Ints
    folds: Ints

    def kernel(self, weights: Tensor) -> Tensor:
        """The sum of the families' kernels, each times its weight, (n, n)."""
        summed = torch.zeros(len(self.labels), len(self.labels))
        for kernel, weight in zip(self.kernels, weights.tolist(), strict=True):
            summed.add_(kernel, alpha=weight)
        return summed


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args(arguments)
    clips = read(DataRoot.open(options.data_root))
    now = torch.tensor([family.weight for family in FAMILIES], dtype=torch.float32)
    now /= now.mean()
    norms = torch.tensor([float(kernel.diagonal().float().mean()) for kernel in clips.kernels])
    equal = 1 / norms.clamp(min=1e-6)
    for words, weights in (
        ("each family as much as any", equal),
        ("as they come", torch.ones_like(now)),
        ("as now", now),
    ):
        say(f"{words}, all folds", clips, weights, range(FOLDS))
    start = torch.ones_like(now)
    say("as they come, folds not learned from", clips, start, TRIED)
    say("learned, folds not learned from", clips, learned(clips, start, LEARNED, options.steps), TRIED)
    final = learned(clips, now, range(FOLDS), options.steps)
    say("learned on all folds from those of now", clips, final, range(FOLDS))
    for family, before, after in zip(FAMILIES, now.tolist(), (final / final.mean()).tolist(), strict=True):
        print(f"{family.name:24}{before:6.2f}{after:8.2f}")


def read(root: DataRoot) -> Clips:
    """The training part as the n-gram model of the box sees it, but for the weights of its families."""
    config = load_config("box.yaml")
    cache = open_note_cache(root, config.data_split_dir, "train")
    dataset = ClipDataset(cache, config.test_dataset_cfg, seed=config.seed, training=False)
    loader = make_loader(dataset, batch_size=config.batch_size, form="float32")
    model = build_model(config.encoder_module, config.model_cfg, len(cache.class_names))
    if not isinstance(model, NgramModel):
        raise TypeError(f"box.yaml trains {config.encoder_module}, and only n-grams have families")
    rolls = [(batch.rolls, batch.recordings.numpy()) for batch in loader]
    model.study(rolls)
    starts = model.vocabulary.starts
    rows, columns, values, n = [], [], [], 0
    with torch.inference_mode():
        for some, _ in rolls:
            held = model.hold(Moments.of(some))
            family = torch.searchsorted(starts, held.rows, right=True) - 1
            rows.append(held.clips + n)
            columns.append(held.rows)
            values.append(held.values / model.scales[family])
            n += len(some)
    labels = torch.from_numpy(np.array(dataset.labels[dataset.clips]))
    recordings = np.array(cache.recording_ids[dataset.clips])
    found = kernels(torch.cat(rows), torch.cat(columns), torch.cat(values), n, starts.tolist())
    return Clips(list(found), labels, recordings, folds(labels.numpy(), recordings))


def kernels(rows: Tensor, columns: Tensor, values: Tensor, n: int, starts: Sequence[int]) -> Iterator[Tensor]:
    """The kernel of each family, from a table of n rows in which its columns are a run: values and where they stand."""
    for begin, end in pairwise(starts):
        product = torch.zeros(n, n)
        for first in range(begin, end, _AT_ONCE):
            width = min(_AT_ONCE, end - first)
            mine = (columns >= first) & (columns < first + width)
            block = torch.zeros(n, width)
            block[rows[mine], columns[mine] - first] = values[mine]
            product.addmm_(block, block.T)
        yield product.half()


def folds(labels: Ints, recordings: Ints) -> Ints:
    """A fold for each clip: whole recordings, each pianist's spread evenly."""
    rng, fold = np.random.default_rng(0), np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        mine = rng.permutation(np.unique(recordings[labels == label]))
        for number, recording in enumerate(mine):
            fold[recordings == recording] = number % FOLDS
    return fold


# --- kernel ridge regression, and the gradient through it ------------------------------------------------------------


def solved(clips: Clips, kernel: Tensor, fold: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which clips a fold learns from, the factor of their kernel (Cholesky), and their coefficients (m, K)."""
    known = torch.from_numpy(np.flatnonzero(clips.folds != fold))
    n_classes = int(clips.labels.max()) + 1
    targets = functional.one_hot(clips.labels[known], n_classes) * (1 + 1 / (n_classes - 1)) - 1 / (n_classes - 1)
    ridged = kernel[known][:, known]
    ridged.diagonal().add_(RIDGE * float(ridged.diagonal().mean()))
    factor = torch.linalg.cholesky(ridged)
    return known, factor, torch.cholesky_solve(targets, factor)


def of_recordings(clips: Clips, held: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over each recording's clips, by the root of how many there are; and whose recordings they are."""
    _, first, of = np.unique(clips.recordings[held.numpy()], return_index=True, return_inverse=True)
    rows = torch.from_numpy(of)
    summed = torch.zeros(len(first), logits.shape[1]).index_add_(0, rows, logits)
    return summed / torch.bincount(rows).sqrt().unsqueeze(1), clips.labels[held[torch.from_numpy(first)]]


def gradient(clips: Clips, weights: Tensor, chosen: Sequence[int]) -> Tensor:
    """The gradient of the held-out loss of some folds by the weights, (F,)."""
    kernel, n = clips.kernel(weights), len(clips.labels)
    lefts, rights = [], []
    for fold in chosen:
        known, factor, coefficients = solved(clips, kernel, fold)
        held = torch.from_numpy(np.flatnonzero(clips.folds == fold))
        logits = (SCALE * kernel[held][:, known] @ coefficients).requires_grad_()
        loss = functional.cross_entropy(logits, clips.labels[held])
        (loss + functional.cross_entropy(*of_recordings(clips, held, logits))).backward()  # type: ignore[no-untyped-call]
        if logits.grad is None:
            raise RuntimeError("no gradient arrived")
        by_output = SCALE * logits.grad
        left, right = (torch.zeros(n, by_output.shape[1]) for _ in range(2))
        left[held] = by_output
        left[known] -= torch.cholesky_solve(kernel[known][:, held] @ by_output, factor)
        right[known] = coefficients
        lefts.append(left)
        rights.append(right)
    left, right = torch.cat(lefts, dim=1), torch.cat(rights, dim=1)
    return torch.tensor([float((left * (one.float() @ right)).sum()) for one in clips.kernels]) / len(chosen)


def learned(clips: Clips, start: Tensor, chosen: Sequence[int], steps: int) -> Tensor:
    """Weights after some steps of Adam on their logarithms."""
    logs, mean, square = torch.zeros_like(start), torch.zeros_like(start), torch.zeros_like(start)
    for step in range(1, steps + 1):
        weights = start * logs.exp()
        slope = gradient(clips, weights, chosen) * weights + TOWARDS_NOW * logs
        mean, square = 0.8 * mean + 0.2 * slope, 0.95 * square + 0.05 * slope**2
        logs = logs - STEP * (mean / (1 - 0.8**step)) / ((square / (1 - 0.95**step)).sqrt() + 1e-6)
    return start * logs.exp()


def say(words: str, clips: Clips, weights: Tensor, chosen: Sequence[int]) -> None:
    kernel = clips.kernel(weights)
    n_clips = n_recordings = clips_right = recordings_right = 0
    for fold in chosen:
        known, _, coefficients = solved(clips, kernel, fold)
        held = torch.from_numpy(np.flatnonzero(clips.folds == fold))
        logits = SCALE * kernel[held][:, known] @ coefficients
        clips_right += int((logits.argmax(dim=1) == clips.labels[held]).sum())
        summed, labels = of_recordings(clips, held, logits)
        recordings_right += int((summed.argmax(dim=1) == labels).sum())
        n_clips, n_recordings = n_clips + len(held), n_recordings + len(labels)
    print(f"{words:44}clips {clips_right / n_clips:.3f}, recordings {recordings_right / n_recordings:.3f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
