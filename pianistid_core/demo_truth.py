"""Explanations held against the truth: which concept tells two of the demo's virtual pianists apart.

The demo's pianists differ in concepts that are known (`datasets.demo`). For each pair of them a factorised model is
asked, over the clips of both, to tell the two apart by each concept alone, and how much of telling them apart each
concept gives: the Shapley values of the probability of the right one of the two. An explanation finds the truth where
every concept that tells the two apart ranks above every one in which they are alike.

Shapes: n clips, K pianists; subsets as in `shapley`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pianistid_core.concepts import CONCEPTS
from pianistid_core.datasets.demo import GroundTruth, PianistPair, ground_truth
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import DataError, ModelError
from pianistid_core.shapley import ALL_SUBSETS, shapley_values

if TYPE_CHECKING:
    from pianistid_core.checkpoints import LoadedModel

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
OnProgress = Callable[[int, int], None]

_BATCH = 8


@dataclass(frozen=True)
class PairExplained:
    """Two virtual pianists, what truly tells them apart, and what a model's explanations say of it.

    `accuracy` is the share of the n clips, both pianists counting alike, of which a concept alone names the right one
    of the two: 0.5 is chance. `shapley` shares out, in probability, what all four concepts make of the right one of the
    two above that 0.5.
    """

    a: str
    b: str
    differs_in: tuple[str, ...]
    accuracy: dict[str, float]
    shapley: dict[str, float]
    n_clips: int

    @property
    def found_by_accuracy(self) -> bool:
        """Whether each concept that tells the two apart is more accurate alone than each in which they are alike."""
        return _on_top(self.accuracy, self.differs_in)

    @property
    def found_by_shapley(self) -> bool:
        """Whether each concept that tells the two apart has a larger share than each in which they are alike."""
        return _on_top(self.shapley, self.differs_in)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        found = {"found_by_accuracy": self.found_by_accuracy, "found_by_shapley": self.found_by_shapley}
        return {**vars(self), "differs_in": list(self.differs_in), **found}


@dataclass(frozen=True)
class TruthReport:
    """What a model's explanations say of every pair of virtual pianists that are alike in something.

    `twins` are the pairs that one concept alone tells apart; `accuracy` is the share of all n clips that the model
    names rightly among all pianists, without which there is nothing to explain.
    """

    model: str
    data_set: str
    part: str
    accuracy: float
    n_clips: int
    pairs: tuple[PairExplained, ...]

    @property
    def twins(self) -> tuple[PairExplained, ...]:
        return tuple(pair for pair in self.pairs if len(pair.differs_in) == 1)

    @property
    def words(self) -> str:
        """The outcome in a sentence."""
        twins, pairs = self.twins, self.pairs
        alone, shared = (sum(pair.found_by_accuracy for pair in some) for some in (twins, pairs))
        alone_shapley, shared_shapley = (sum(pair.found_by_shapley for pair in some) for some in (twins, pairs))
        return (
            f"Of {len(twins)} pairs that one concept tells apart, it is found in {alone} by the accuracy of single "
            f"concepts and in {alone_shapley} by Shapley values; of all {len(pairs)} pairs that are alike in "
            f"something, all concepts that tell are ranked above all others in {shared} and in {shared_shapley}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        twins = self.twins
        return {
            "model": self.model,
            "data_set": self.data_set,
            "part": self.part,
            "accuracy": self.accuracy,
            "n_clips": self.n_clips,
            "n_twins": len(twins),
            "twins_found_by_accuracy": sum(pair.found_by_accuracy for pair in twins),
            "twins_found_by_shapley": sum(pair.found_by_shapley for pair in twins),
            "n_pairs": len(self.pairs),
            "found_by_accuracy": sum(pair.found_by_accuracy for pair in self.pairs),
            "found_by_shapley": sum(pair.found_by_shapley for pair in self.pairs),
            "pairs": [pair.to_dict() for pair in self.pairs],
            "words": self.words,
        }


def against_the_truth(
    loaded: "LoadedModel", root: DataRoot, part: str = "test", *, progress: OnProgress | None = None
) -> TruthReport:
    """Holds what a factorised model says of the demo data that it was trained on against what tells its pianists apart.

    `part` names the part of the model's split whose clips are heard; `progress(done, total)` counts them.

    Raises
    ------
    ModelError
        When the model does not take concepts apart, or does not know the pianists.
    SplitError
        When the model's split has no ground truth, since it is no demo data.
    DataError
        When there is no such part, or no clip in it can be drawn.
    """
    from pianistid_core.evaluation import predict_each
    from pianistid_core.loader import ClipDataset, make_loader
    from pianistid_core.models import for_inference

    config = loaded.config
    truth = ground_truth(root, config.data_split_dir)
    unknown = [pianist.name for pianist in truth.pianists if pianist.name not in loaded.class_names]
    if unknown or config.classify_dataset:
        raise ModelError(f"{loaded.name} does not tell the pianists of {truth.data_set!r} apart; train it on that data")
    data = ClipDataset.open(root, config.data_split_dir, part, config.test_dataset_cfg, training=False)

    def on_batch(number: int) -> None:
        if progress is not None:
            progress(min(number * _BATCH, len(data)), len(data))

    heard = predict_each(
        for_inference(loaded.model), make_loader(data, batch_size=_BATCH), ALL_SUBSETS, on_batch=on_batch
    )
    said = {subset: one.probabilities for subset, one in zip(ALL_SUBSETS, heard, strict=True)}
    return explained_pairs(truth, loaded.class_names, said, heard[0].labels, model=loaded.name, part=part)


def explained_pairs(
    truth: GroundTruth,
    class_names: Sequence[str],
    said: dict[tuple[str, ...], FloatArray],
    labels: IntArray,
    *,
    model: str,
    part: str,
) -> TruthReport:
    """The report on what a model says of n clips with labels (n,): probabilities (n, K) for each of the 16 subsets.

    Raises
    ------
    DataError
        When there is no clip of one of the pianists.
    """
    number = {name: index for index, name in enumerate(class_names)}
    pairs = [
        _explained(pair, number[pair.a], number[pair.b], said, labels)
        for pair in truth.pairs
        if len(pair.differs_in) < len(CONCEPTS)
    ]
    right = float((said[CONCEPTS].argmax(axis=1) == labels).mean())
    return TruthReport(model, truth.data_set, part, right, len(labels), tuple(pairs))


def _explained(
    pair: PianistPair, a: int, b: int, said: dict[tuple[str, ...], FloatArray], labels: IntArray
) -> PairExplained:
    """What is said of the clips of two pianists, when only these two are asked about."""
    for name, index in ((pair.a, a), (pair.b, b)):
        if not (labels == index).any():
            raise DataError(f"no clip of {name} is in this part; make the demo with more recordings a pianist")
    worth: dict[tuple[str, ...], float] = {}
    accuracy: dict[str, float] = {}
    for subset, probabilities in said.items():
        # Of both pianists' clips, each half: who always says "a" is right of a's clips, and tells nobody apart.
        of_a, of_b = probabilities[:, a], probabilities[:, b]
        share_of_a = of_a / np.maximum(of_a + of_b, np.finfo(np.float64).tiny)
        rightly = [share_of_a[labels == a], 1 - share_of_a[labels == b]]
        worth[subset] = float(np.mean([share.mean() for share in rightly]))
        if len(subset) == 1:
            hits = [(share > 0.5) + 0.5 * (share == 0.5) for share in rightly]
            accuracy[subset[0]] = float(np.mean([hit.mean() for hit in hits]))
    n_clips = int(np.isin(labels, (a, b)).sum())
    return PairExplained(pair.a, pair.b, pair.differs_in, accuracy, shapley_values(worth), n_clips)


def _on_top(measured: dict[str, float], differs_in: Sequence[str]) -> bool:
    alike = [value for concept, value in measured.items() if concept not in differs_in]
    return min(measured[concept] for concept in differs_in) > max(alike)
