"""One pass over a loader, and everything that is measured from it.

Clip accuracy is exact, over clips. A recording's probabilities are the mean over its clips; its confusion matrix and
accuracy are over recordings. The ablation keeps every subset of the four concepts (Cheston et al. 2025, section 5).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from pianistid_core.batches import AnyBatch
from pianistid_core.concepts import CONCEPTS
from pianistid_core.errors import DataError, ModelError
from pianistid_core.runs import Confusion, RecordingOutcome

if TYPE_CHECKING:
    from pianistid_core.models import ConceptModel, PianistModel

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
OnBatch = Callable[[int], None]

# Every way to keep some of the four concepts, all of them first: 15 rows.
CONCEPT_SUBSETS: tuple[tuple[str, ...], ...] = tuple(
    subset for size in range(len(CONCEPTS), 0, -1) for subset in combinations(CONCEPTS, size)
)
_FETCH_AT = 1 << 22  # numbers: 16 MB


@dataclass(frozen=True)
class Predictions:
    """What a model says of n clips: probabilities (n, K) float64, labels, recordings and clips (n,) int64.

    `loss` is the mean cross entropy over the clips; `skipped` lists (clip, reason) of those that could not be drawn.
    """

    probabilities: FloatArray
    labels: IntArray
    recordings: IntArray
    clips: IntArray
    loss: float
    skipped: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Metrics:
    """What is measured from predictions; `recalls[k]` is None where pianist k has no recording."""

    loss: float
    clip_accuracy: float
    recording_accuracy: float
    macro_recall: float
    recalls: tuple[float | None, ...]
    confusion: Confusion
    n_clips: int
    n_recordings: int
    skipped: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "loss": self.loss,
            "clip_accuracy": self.clip_accuracy,
            "recording_accuracy": self.recording_accuracy,
            "macro_recall": self.macro_recall,
            "n_clips": self.n_clips,
            "n_recordings": self.n_recordings,
            "skipped": self.skipped,
            "per_pianist": dict(zip(self.confusion.class_names, self.recalls, strict=True)),
            "confusion": self.confusion.to_dict(),
        }


@dataclass(frozen=True)
class AblationRow:
    """How well a model does when only some concepts reach its head."""

    kept: tuple[str, ...]
    metrics: Metrics


def predict(
    model: "PianistModel",
    loader: Iterable[AnyBatch],
    device: torch.device | str | None = None,
    *,
    on_batch: OnBatch | None = None,
    check: Callable[[], None] | None = None,
    precision: str | None = None,
) -> Predictions:
    """Runs a model once over a loader, in evaluation mode and without gradients.

    `device` is the one that the model is on, which need not be said. `on_batch` is told how many batches are done;
    `check` may raise to stop in between. With `precision` "bf16" the network computes in half precision.

    Raises
    ------
    DataError
        When not a single clip could be drawn.
    """

    def answer(rolls: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = model(rolls)
        return logits.unsqueeze(0)

    [predictions] = _hear(model, answer, loader, device, on_batch=on_batch, check=check, precision=precision)
    return predictions


def predict_each(
    model: "PianistModel",
    loader: Iterable[AnyBatch],
    subsets: Sequence[Sequence[str]] = CONCEPT_SUBSETS,
    device: torch.device | str | None = None,
    *,
    on_batch: OnBatch | None = None,
    precision: str | None = None,
) -> list[Predictions]:
    """What a factorised model says with each of some subsets of concepts kept; the rest as `predict`.

    The encoders run once; every subset is classified from their embeddings.

    Raises
    ------
    ModelError
        When the model has no concepts to keep or leave out.
    DataError
        When not a single clip could be drawn.
    """
    factorised = as_factorised(model)

    def answer(rolls: torch.Tensor) -> torch.Tensor:
        return factorised.classify_each(factorised.encode_concepts(rolls), subsets)

    return _hear(factorised, answer, loader, device, on_batch=on_batch, check=None, precision=precision)


def ablate(
    model: "PianistModel",
    loader: Iterable[AnyBatch],
    device: torch.device | str | None,
    class_names: Sequence[str],
    *,
    on_batch: OnBatch | None = None,
    precision: str | None = None,
) -> list[AblationRow]:
    """Measures a factorised model with every subset of concepts kept: 15 rows, the full model first.

    Raises
    ------
    ModelError
        When the model has no concepts to keep or leave out.
    DataError
        When not a single clip could be drawn.
    """
    heard = predict_each(model, loader, CONCEPT_SUBSETS, device, on_batch=on_batch, precision=precision)
    return [AblationRow(kept, measure(one, class_names)) for kept, one in zip(CONCEPT_SUBSETS, heard, strict=True)]


def arithmetic(device: torch.device, precision: str | None) -> AbstractContextManager[Any]:
    """What a network computes in: half precision where `precision` is "bf16", else its weights' own."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


def as_factorised(model: "PianistModel") -> "ConceptModel":
    """The model as one that takes concepts apart.

    Raises
    ------
    ModelError
        When it is not.
    """
    from pianistid_core.models import ConceptModel

    if not isinstance(model, ConceptModel):
        raise ModelError(
            f"a {type(model).__name__} does not take concepts apart; train one with encoder_module: disentangle"
        )
    return model


def _hear(
    model: "PianistModel",
    answer: Callable[[torch.Tensor], torch.Tensor],
    loader: Iterable[AnyBatch],
    device: torch.device | str | None,
    *,
    on_batch: OnBatch | None,
    check: Callable[[], None] | None,
    precision: str | None,
) -> list[Predictions]:
    """The one pass: `answer` gives logits (S, B, K) for rolls (B, C, 88, 3000), and each of the S its predictions."""
    where = next(model.parameters()).device if device is None else torch.device(device)
    model.eval()
    logits = _Logits()
    clips: list[_Clips] = []
    for number, batch in enumerate(loader, start=1):
        if check is not None:
            check()
        if len(batch):
            with torch.inference_mode(), arithmetic(where, precision):
                logits.add(answer(batch.to_device(where).rolls))
        # Copies: what a worker sends holds a file open for as long as it is kept.
        labels, recordings, numbers = batch.labels.clone(), batch.recordings.clone(), batch.clips.clone()
        clips.append(_Clips(labels, recordings, numbers, tuple(batch.skipped)))
        if on_batch is not None:
            on_batch(number)
    skipped = tuple(skip for some in clips for skip in some.skipped)
    if not any(len(some.labels) for some in clips):
        reason = skipped[0][1] if skipped else "it is empty"
        raise DataError(f"no clip of this part could be drawn; the first: {reason}")
    labels, recordings, numbers = (torch.cat(columns) for columns in list(zip(*clips, strict=True))[:3])
    return [
        Predictions(
            probabilities=torch.softmax(of_subset, dim=1).numpy(),
            labels=labels.numpy(),
            recordings=recordings.numpy(),
            clips=numbers.numpy(),
            loss=float(functional.cross_entropy(of_subset, labels)),
            skipped=skipped,
        )
        for of_subset in logits.all().double()
    ]


class _Clips(NamedTuple):
    """What is kept of a batch once it was heard."""

    labels: torch.Tensor
    recordings: torch.Tensor
    clips: torch.Tensor
    skipped: tuple[tuple[int, str], ...]


class _Logits:
    """Logits (S, B, K) as batches give them. Fetching waits for a GPU to have done its work, so many go at a time."""

    def __init__(self) -> None:
        self._there: list[torch.Tensor] = []
        self._here: list[torch.Tensor] = []
        self._n_there = 0

    def add(self, logits: torch.Tensor) -> None:
        self._there.append(logits.float())
        self._n_there += logits.numel()
        if self._n_there >= _FETCH_AT:
            self._fetch()

    def all(self) -> torch.Tensor:
        """Those of all clips, (S, n, K), on the CPU."""
        self._fetch()
        return torch.cat(self._here, dim=1)

    def _fetch(self) -> None:
        if self._there:
            self._here.append(torch.cat(self._there, dim=1).cpu())
        self._there, self._n_there = [], 0


def average_by_recording(probabilities: npt.ArrayLike, recordings: npt.ArrayLike) -> tuple[IntArray, FloatArray]:
    """Averages clip probabilities (n, K) over each recording (n,): ids (r,) ascending, and probabilities (r, K)."""
    of_clips = np.asarray(probabilities, np.float64)
    ids, inverse = np.unique(np.asarray(recordings, np.int64), return_inverse=True)
    sums = np.zeros((len(ids), of_clips.shape[1]))
    np.add.at(sums, inverse, of_clips)
    averages: FloatArray = sums / np.bincount(inverse)[:, np.newaxis]
    return ids, averages


def measure(predictions: Predictions, class_names: Sequence[str], tracks: Sequence[str] | None = None) -> Metrics:
    """Accuracies, recalls and the confusion matrix over recordings.

    `tracks` are the names that `predictions.recordings` index; with them the matrix knows each recording's outcome.
    """
    clip_hits = predictions.probabilities.argmax(axis=1) == predictions.labels
    ids, averages = average_by_recording(predictions.probabilities, predictions.recordings)
    truth = np.empty(len(ids), np.int64)
    truth[np.searchsorted(ids, predictions.recordings)] = predictions.labels
    guesses = averages.argmax(axis=1)
    counts = np.zeros((len(class_names), len(class_names)), np.int64)
    np.add.at(counts, (truth, guesses), 1)
    outcomes = (
        tuple(
            RecordingOutcome(tracks[id], int(true), int(heard), float(averages[row, heard]))
            for row, (id, true, heard) in enumerate(zip(ids.tolist(), truth, guesses, strict=True))
        )
        if tracks is not None
        else ()
    )
    totals = counts.sum(axis=1)
    recalls = tuple(
        float(hits / total) if total else None for hits, total in zip(counts.diagonal(), totals, strict=True)
    )
    known = [recall for recall in recalls if recall is not None]
    return Metrics(
        loss=predictions.loss,
        clip_accuracy=float(clip_hits.mean()),
        recording_accuracy=float((guesses == truth).mean()),
        macro_recall=float(np.mean(known)),
        recalls=recalls,
        confusion=Confusion(tuple(class_names), counts, outcomes),
        n_clips=len(clip_hits),
        n_recordings=len(ids),
        skipped=dict(Counter(reason for _, reason in predictions.skipped)),
    )


def commonest_class_accuracy(train_labels: IntArray, metrics: Metrics) -> tuple[str, float]:
    """The pianist with most training clips, and the recording accuracy of always naming that one."""
    commonest = int(np.bincount(train_labels, minlength=len(metrics.recalls)).argmax())
    counts = metrics.confusion.counts
    return metrics.confusion.class_names[commonest], float(counts[commonest].sum() / max(1, counts.sum()))


def subset_name(kept: Sequence[str]) -> str:
    """ "melody+harmony" for a kept subset."""
    return "+".join(kept)
