"""Exact Shapley values: the axioms that define them, on any worths."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pianistid_core.concepts import CONCEPTS
from pianistid_core.errors import ModelError
from pianistid_core.shapley import ALL_SUBSETS, interactions, shapley_values, together

WORTHS = st.fixed_dictionaries({subset: st.floats(-1, 1) for subset in ALL_SUBSETS})


def test_there_are_sixteen_subsets() -> None:
    assert len(set(ALL_SUBSETS)) == 16 and ALL_SUBSETS[0] == () and ALL_SUBSETS[-1] == CONCEPTS


@given(WORTHS)
def test_they_add_up_to_the_difference(worth: dict[tuple[str, ...], float]) -> None:
    assert sum(shapley_values(worth).values()) == pytest.approx(worth[CONCEPTS] - worth[()], abs=1e-9)


@given(WORTHS, st.sampled_from(CONCEPTS))
def test_a_concept_that_adds_nothing_gets_nothing(worth: dict[tuple[str, ...], float], idle: str) -> None:
    without = {subset: worth[tuple(c for c in subset if c != idle)] for subset in ALL_SUBSETS}
    assert shapley_values(without)[idle] == pytest.approx(0, abs=1e-12)


@given(WORTHS, st.permutations(CONCEPTS))
def test_names_do_not_matter(worth: dict[tuple[str, ...], float], order: list[str]) -> None:
    renamed = dict(zip(CONCEPTS, order, strict=True))
    swapped = {
        tuple(c for c in CONCEPTS if c in {renamed[name] for name in subset}): value for subset, value in worth.items()
    }
    before, after = shapley_values(worth), shapley_values(swapped)
    assert {renamed[name]: value for name, value in before.items()} == pytest.approx(after, abs=1e-12)


@given(WORTHS, WORTHS)
def test_worths_add(one: dict[tuple[str, ...], float], other: dict[tuple[str, ...], float]) -> None:
    both = shapley_values({subset: one[subset] + other[subset] for subset in ALL_SUBSETS})
    expected = {name: shapley_values(one)[name] + shapley_values(other)[name] for name in CONCEPTS}
    assert both == pytest.approx(expected, abs=1e-9)


def test_an_example_by_hand() -> None:
    # Melody and harmony are worth 1 together and nothing apart; rhythm is always worth 0.25.
    worth = {s: float({"melody", "harmony"} <= {*s}) + 0.25 * ("rhythm" in s) for s in ALL_SUBSETS}
    values = {"melody": 0.5, "harmony": 0.5, "rhythm": 0.25, "dynamics": 0.0}
    assert shapley_values(worth) == pytest.approx(values)
    pairs = interactions(worth)
    assert pairs.pop(("melody", "harmony")) == pytest.approx(1.0)
    assert list(pairs.values()) == pytest.approx([0.0] * 5, abs=1e-12)


@given(WORTHS)
def test_what_only_adds_up_does_not_interact(worth: dict[tuple[str, ...], float]) -> None:
    additive = {subset: sum(worth[(name,)] for name in subset) for subset in ALL_SUBSETS}
    assert list(interactions(additive).values()) == pytest.approx([0.0] * 6, abs=1e-9)


def test_a_missing_subset_is_named() -> None:
    worth = dict.fromkeys(ALL_SUBSETS, 0.0)
    del worth["melody", "rhythm"]
    with pytest.raises(ModelError, match=r"melody\+rhythm"):
        shapley_values(worth)
    with pytest.raises(ModelError, match="no concept at all"):
        interactions({subset: 0.0 for subset in ALL_SUBSETS if subset})


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.12, "support each other: together they give 12.0 points more"), (-0.12, "12.0 points less"), (0.01, "No two")],
)
def test_two_concepts_together_in_words(value: float, said: str) -> None:
    words = together({("melody", "harmony"): value, ("rhythm", "dynamics"): 0.001})
    assert said in words and (abs(value) < 0.02 or words.startswith("Melody and harmony"))
