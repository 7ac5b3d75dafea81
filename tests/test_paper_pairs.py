"""The pairs of the paper: every experiment is in one, and both of a pair are rows of its tables."""

from pianistid_core.paper_pairs import REFERENCE, pairs, questions_of
from pianistid_core.published import published


def test_every_experiment_is_compared_and_every_pair_is_of_the_paper() -> None:
    presets = {row.preset for row in published()}
    assert {preset for pair in pairs() for preset in (pair.a, pair.b)} == presets
    assert len({(pair.a, pair.b) for pair in pairs()}) == len(pairs()) == 18
    assert all(pair.a != pair.b for pair in pairs())


def test_the_reference_answers_most_questions() -> None:
    assert questions_of(REFERENCE) == (
        "Augmentation", "Masking", "Attention", "Pooling", "Size of encoders", "Kind of encoders",
    )  # fmt: skip
    assert questions_of("demo.yaml") == ()
