"""Concepts held against the truth of the demo: a trained model names the right ones, and one that is none does not."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from pianistid_core.checkpoints import LoadedModel
from pianistid_core.concepts import CONCEPTS
from pianistid_core.datasets.demo import PIANISTS, GroundTruth
from pianistid_core.datasets.root import DataRoot
from pianistid_core.demo_truth import TruthReport, against_the_truth, explained_pairs
from pianistid_core.errors import DataError, ModelError, SplitError
from pianistid_core.models import build_model
from pianistid_core.shapley import ALL_SUBSETS
from tiny import tiny_config

TRUTH = GroundTruth("demo", 0, PIANISTS)
NAMES = tuple(pianist.name for pianist in PIANISTS)
LABELS = np.repeat(np.arange(len(NAMES)), 4)


def a_perfect_listener(deaf_to: str = "") -> dict[tuple[str, ...], np.ndarray]:
    """What one says who knows all habits, and shares out its certainty among those whom it cannot tell apart."""
    said = {}
    for subset in ALL_SUBSETS:
        groups = TRUTH.groups(concept for concept in subset if concept != deaf_to)
        of = {name: group for group in groups for name in group}
        said[subset] = np.array(
            [[1 / len(of[NAMES[label]]) if name in of[NAMES[label]] else 0.0 for name in NAMES] for label in LABELS]
        )
    return said


def report(said: dict[tuple[str, ...], np.ndarray]) -> TruthReport:
    return explained_pairs(TRUTH, NAMES, said, LABELS, model="a listener", part="test")


def test_a_trained_model_names_the_concept_that_tells_each_pair_apart(
    taught: LoadedModel, unheard_demo: DataRoot
) -> None:
    found = against_the_truth(taught, unheard_demo, "train")
    assert found.accuracy > 0.6 and found.n_clips > 50, "there is something to explain"
    data = found.to_dict()
    assert (data["n_twins"], data["twins_found_by_accuracy"], data["twins_found_by_shapley"]) == (8, 8, 8)
    assert (data["n_pairs"], data["found_by_accuracy"], data["found_by_shapley"]) == (24, 24, 24)
    assert {pair.differs_in for pair in found.twins} == {(concept,) for concept in CONCEPTS}
    for pair in found.twins:
        [true] = pair.differs_in
        others = [concept for concept in CONCEPTS if concept != true]
        assert pair.accuracy[true] > 0.8 and pair.shapley[true] > 0.05
        # Alike in them, so that only chance tells: 16 clips of a pair have 0.5 within a quarter, most of the time.
        assert np.mean([pair.accuracy[concept] for concept in others]) == pytest.approx(0.5, abs=0.15)
        assert max(abs(pair.shapley[concept]) for concept in others) < pair.shapley[true] / 2


def test_a_model_that_learned_nothing_does_not(taught: LoadedModel, unheard_demo: DataRoot) -> None:
    torch.manual_seed(3)
    blank = build_model(taught.config.encoder_module, taught.config.model_cfg, len(NAMES)).eval()
    found = against_the_truth(replace(taught, model=blank), unheard_demo, "train")
    assert sum(pair.found_by_accuracy for pair in found.twins) <= 4
    assert sum(pair.found_by_shapley for pair in found.twins) <= 6


def test_a_perfect_listener_is_found_perfect() -> None:
    found = report(a_perfect_listener())
    assert found.accuracy == 1 and len(found.pairs) == 24 and len(found.twins) == 8
    for pair in found.pairs:
        assert pair.found_by_accuracy and pair.found_by_shapley
        for concept in CONCEPTS:
            tells = concept in pair.differs_in
            assert pair.accuracy[concept] == (1.0 if tells else 0.5)
            # Any one of those that differ tells the two apart, so they have equal shares in the half that is to win.
            assert pair.shapley[concept] == pytest.approx(0.5 / len(pair.differs_in) if tells else 0.0, abs=1e-12)
    assert "found in 8 by the accuracy of single concepts and in 8 by Shapley values" in found.words


@pytest.mark.parametrize("concept", CONCEPTS)
def test_a_listener_who_is_deaf_to_a_concept_cannot_find_it(concept: str) -> None:
    found = report(a_perfect_listener(deaf_to=concept))
    for pair in found.twins:
        assert pair.found_by_accuracy == pair.found_by_shapley == (pair.differs_in != (concept,))
    assert "found in 6 by" in found.words


def test_who_always_says_the_same_pianist_tells_nobody_apart() -> None:
    said = {subset: np.tile(np.linspace(0.2, 0.05, len(NAMES)), (len(LABELS), 1)) for subset in ALL_SUBSETS}
    for pair in report(said).pairs:
        assert set(pair.accuracy.values()) == {0.5} and not pair.found_by_accuracy
        assert max(map(abs, pair.shapley.values())) < 1e-12 and not pair.found_by_shapley


def test_what_has_no_truth_is_refused(taught: LoadedModel, unheard_demo: DataRoot, tiny_root: DataRoot) -> None:
    config = tiny_config()
    tiny = LoadedModel(build_model(config.encoder_module, config.model_cfg, 3), config, NAMES[:3], taught.path, 1)
    with pytest.raises(SplitError, match="ground truth"):
        against_the_truth(tiny, tiny_root)
    with pytest.raises(ModelError, match="does not tell"):
        against_the_truth(replace(taught, class_names=tuple("ABCDEFGH")), unheard_demo)
    said = {subset: rows[:4] for subset, rows in a_perfect_listener().items()}
    with pytest.raises(DataError, match="no clip of Bela Marsh"):
        explained_pairs(TRUTH, NAMES, said, LABELS[:4], model="", part="test")


def test_progress_counts_the_clips(taught: LoadedModel, unheard_demo: DataRoot) -> None:
    seen: list[tuple[int, int]] = []
    found = against_the_truth(taught, unheard_demo, "test", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (found.n_clips, found.n_clips) and all(one < other for one, other in pairwise(seen))
