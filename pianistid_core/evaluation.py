"""One pass over a loader, and everything that is measured from it.

Clip accuracy is exact, over clips. A recording's probabilities are the mean over its clips; its confusion matrix and
accuracy are over recordings. The ablation keeps every subset of the four concepts (Cheston et al. 2025, section 5).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from pianistid_core.batches import Batch
from pianistid_core.concepts import CONCEPTS
from pianistid_core.errors import DataError, ModelError
from pianistid_core.runs import Confusion, RecordingOutcome

if TYPE_CHECKING:
    from pianistid_core.models import FactorisedModel, PianistModel

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
OnBatch = Callable[[int], None]

# Every way to keep some of the four concepts, all of them first: 15 rows.
CONCEPT_SUBSETS: tuple[tuple[str, ...], ...] = tuple(
    subset for size in range(len(CONCEPTS), 0, -1) for subset in combinations(CONCEPTS, size)
)


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
    loader: Iterable[Batch],
    device: torch.device | str | None = None,
    *,
    on_batch: OnBatch | None = None,
    check: Callable[[], None] | None = None,
) -> Predictions:
    """Runs a model once over a loader, in evaluation mode and without gradients.

    `device` is the one that the model is on, which need not be said. `on_batch` is told how many batches are done;
    `check` may raise to stop in between.

    Raises
    ------
    DataError
        When not a single clip could be drawn.
    """
    if device is None:
        device = next(model.parameters()).device
    model.eval()
    logits: list[torch.Tensor] = []
    batches: list[Batch] = []
    for number, batch in enumerate(loader, start=1):
        if check is not None:
            check()
        if len(batch.labels):
            with torch.inference_mode():
                logits.append(model(batch.rolls.to(device, non_blocking=True)).float().cpu())
        batches.append(replace(batch, rolls=torch.empty(0), positives=None))
        if on_batch is not None:
            on_batch(number)
    return _predictions(logits, batches)


def ablate(
    model: "PianistModel",
    loader: Iterable[Batch],
    device: torch.device,
    class_names: Sequence[str],
    *,
    on_batch: OnBatch | None = None,
) -> list[AblationRow]:
    """Measures a factorised model with every subset of concepts kept: 15 rows, the full model first.

    The encoders run once; every subset is classified from their embeddings.

    Raises
    ------
    ModelError
        When the model has no concepts to keep or leave out.
    DataError
        When not a single clip could be drawn.
    """
    factorised = as_factorised(model)
    factorised.eval()
    logits: dict[tuple[str, ...], list[torch.Tensor]] = {subset: [] for subset in CONCEPT_SUBSETS}
    batches: list[Batch] = []
    for number, batch in enumerate(loader, start=1):
        if len(batch.labels):
            with torch.inference_mode():
                embeddings = factorised.encode_concepts(batch.rolls.to(device, non_blocking=True))
                for subset in CONCEPT_SUBSETS:
                    logits[subset].append(factorised.classify(embeddings, keep=subset).float().cpu())
        batches.append(replace(batch, rolls=torch.empty(0), positives=None))
        if on_batch is not None:
            on_batch(number)
    return [AblationRow(kept, measure(_predictions(found, batches), class_names)) for kept, found in logits.items()]


def as_factorised(model: "PianistModel") -> "FactorisedModel":
    """The model as one that takes concepts apart.

    Raises
    ------
    ModelError
        When it is not.
    """
    from pianistid_core.models import FactorisedModel

    if not isinstance(model, FactorisedModel):
        raise ModelError(
            f"a {type(model).__name__} does not take concepts apart; train one with encoder_module: disentangle"
        )
    return model


def _predictions(logits: Sequence[torch.Tensor], batches: Sequence[Batch]) -> Predictions:
    skipped = tuple(skip for batch in batches for skip in batch.skipped)
    if not logits:
        reason = skipped[0][1] if skipped else "it is empty"
        raise DataError(f"no clip of this part could be drawn; the first: {reason}")
    all_logits = torch.cat(list(logits)).double()
    labels = torch.cat([batch.labels for batch in batches])
    return Predictions(
        probabilities=torch.softmax(all_logits, dim=1).numpy(),
        labels=labels.numpy(),
        recordings=torch.cat([batch.recordings for batch in batches]).numpy(),
        clips=torch.cat([batch.clips for batch in batches]).numpy(),
        loss=float(functional.cross_entropy(all_logits, labels)),
        skipped=skipped,
    )


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
