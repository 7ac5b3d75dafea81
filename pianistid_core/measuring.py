"""What a model comes to on recordings that it never learned from, as plain data for its card.

Shares come with Wilson's interval; that of the macro recall is recovered from those of its pianists' recalls (Zou and
Donner 2008, Construction of confidence intervals about effect measures). A recording's probabilities are those that the
model answers with: calibrated where it has a calibration. What is measured is the model as it is shipped.
"""

from collections.abc import Callable, Sequence
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pianistid_core.concepts import CONCEPTS
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import CheckpointError
from pianistid_core.intervals import wilson

if TYPE_CHECKING:
    from pianistid_core.batches import Form
    from pianistid_core.calibration import Calibration
    from pianistid_core.checkpoints import LoadedModel
    from pianistid_core.evaluation import Predictions

IntArray = npt.NDArray[np.int64]
OnProgress = Callable[[int, int], None]

_AT_ONCE = 8


def counted(right: int, n: int) -> dict[str, Any]:
    """So many of so many, with the interval of the share."""
    interval = wilson(right, n)
    return {"right": right, "n": n, "interval": None if interval is None else [round(end, 6) for end in interval]}


def macro_recall(rights: Sequence[int], totals: Sequence[int]) -> dict[str, Any]:
    """The mean recall of those of whom there are recordings, with its interval."""
    rows = [(right / n, wilson(right, n)) for right, n in zip(rights, totals, strict=True) if n]
    mean = sum(share for share, _ in rows) / len(rows)
    below = sqrt(sum((share - interval[0]) ** 2 for share, interval in rows if interval)) / len(rows)
    above = sqrt(sum((interval[1] - share) ** 2 for share, interval in rows if interval)) / len(rows)
    return {"value": mean, "interval": [round(max(0.0, mean - below), 6), round(min(1.0, mean + above), 6)]}


def measure_model(
    loaded: "LoadedModel",
    root: DataRoot,
    part: str = "test",
    *,
    calibration: "Calibration | None" = None,
    progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Measures a model on a part of its split, by all concepts, by each alone and with each left out.

    `progress(done, total)` counts batches.

    Raises
    ------
    CheckpointError
        When the split here is not of the model's pianists.
    PianistIDError
        When there is no such split here, or not a single clip of it can be drawn.
    """
    from pianistid_core.datasets.cache import open_note_cache
    from pianistid_core.evaluation import predict, predict_each
    from pianistid_core.loader import ClipDataset, ahead, make_loader
    from pianistid_core.models import ConceptModel, for_inference

    config = loaded.config
    cache = open_note_cache(root, config.data_split_dir, part)
    dataset = ClipDataset(cache, config.test_dataset_cfg, seed=config.seed, training=False)
    if tuple(dataset.class_names) != loaded.class_names:
        raise CheckpointError(
            f"{loaded.name} tells {len(loaded.class_names)} pianists apart who are not those of split "
            f"{config.data_split_dir!r} in {root.path}; give the data root it was trained on with --data-root"
        )
    form: Form = "float32"
    loader = make_loader(dataset, batch_size=_AT_ONCE, form=form)
    total = len(loader)
    model = for_inference(loaded.model)
    subsets = _subsets(model.hears) if isinstance(model, ConceptModel) else {}
    on_batch = None if progress is None else lambda done: progress(done, total)
    heard = (
        predict_each(model, ahead(loader), list(subsets.values()), on_batch=on_batch)
        if subsets
        else [predict(model, ahead(loader), on_batch=on_batch)]
    )
    found = {name: _Outcome(one, calibration) for name, one in zip(subsets or ("all",), heard, strict=True)}
    train = open_note_cache(root, config.data_split_dir, "train")
    learned = _recordings_of_each(train.labels, train.recording_ids, len(loaded.class_names))
    return _facts(found, loaded, part, learned) | {
        "hears": list(model.hears) if isinstance(model, ConceptModel) else None,
        "train": {"recordings": int(learned.sum()), "clips": len(train)},
    }


def _subsets(hears: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """All concepts, each of those that are heard alone, and each left out."""
    return {
        "all": CONCEPTS,
        **{concept: (concept,) for concept in hears},
        **{f"no {concept}": tuple(one for one in hears if one != concept) for concept in hears if len(hears) > 1},
    }


class _Outcome:
    """What came of a part's n clips and r recordings: which were right, whose they are, who was heard."""

    def __init__(self, heard: "Predictions", calibration: "Calibration | None") -> None:
        self.clips_right = int((heard.probabilities.argmax(axis=1) == heard.labels).sum())
        self.n_clips = len(heard.labels)
        self.n_skipped = len(heard.skipped)
        _, first, of_recording = np.unique(heard.recordings, return_index=True, return_inverse=True)
        self.truth: IntArray = heard.labels[first]
        # Shares have the same logits but for a constant, which softmax takes no notice of.
        logits = np.log(np.maximum(heard.probabilities, 1e-300))
        rows = [np.flatnonzero(of_recording == number) for number in range(len(first))]
        shares = [
            heard.probabilities[mine].mean(axis=0) if calibration is None else calibration.of_recording(logits[mine])
            for mine in rows
        ]
        self.guesses: IntArray = np.array([share.argmax() for share in shares], np.int64)

    def recalls(self, n_classes: int) -> tuple[list[int], list[int], list[int]]:
        """For each pianist: recordings that are named rightly, recordings, and recordings that bear their name."""
        hits = np.bincount(self.truth[self.truth == self.guesses], minlength=n_classes)
        totals = np.bincount(self.truth, minlength=n_classes)
        return hits.tolist(), totals.tolist(), np.bincount(self.guesses, minlength=n_classes).tolist()


def _facts(found: dict[str, _Outcome], loaded: "LoadedModel", part: str, learned: IntArray) -> dict[str, Any]:
    whole, n_classes = found["all"], len(loaded.class_names)
    hits, totals, named = whole.recalls(n_classes)
    by_concept = {name: one.recalls(n_classes)[0] for name, one in found.items()}
    right = int((whole.truth == whole.guesses).sum())
    commonest = int(learned.argmax())
    return {
        "split": loaded.config.data_split_dir,
        "part": part,
        "recordings": counted(right, len(whole.truth)),
        "clips": counted(whole.clips_right, whole.n_clips),
        "macro_recall": macro_recall(hits, totals),
        "skipped_clips": whole.n_skipped,
        "commonest": {"pianist": loaded.class_names[commonest], **counted(totals[commonest], len(whole.truth))},
        "concepts": {
            name: {
                "recordings": counted(int((one.truth == one.guesses).sum()), len(one.truth)),
                "clips": counted(one.clips_right, one.n_clips),
            }
            for name, one in found.items()
            if name != "all"
        },
        "per_pianist": [
            {
                "pianist": name,
                "learned_from": int(learned[index]),
                **counted(hits[index], totals[index]),
                "named": named[index],
                "alone": {concept: by_concept[concept][index] for concept in CONCEPTS if concept in by_concept},
            }
            for index, name in enumerate(loaded.class_names)
        ],
    }


def _recordings_of_each(labels: IntArray, recordings: IntArray, n_classes: int) -> IntArray:
    """How many recordings there are of each pianist."""
    _, first = np.unique(recordings, return_index=True)
    counts: IntArray = np.bincount(labels[first], minlength=n_classes)
    return counts
