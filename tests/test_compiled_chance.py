"""The compiled generator: NumPy's numbers, bit for bit, whatever is asked in whatever order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

chance = pytest.importorskip("pianistid_core.compiled_chance", reason="numba is not installed")

SEEDS = st.lists(
    st.sampled_from([0, 1, 42, 2**20, 2**21, 2**32 - 1, 2**32, 2**64]) | st.integers(0, 2**70), min_size=1, max_size=7
)
ASKED = st.lists(
    st.just("random")
    | st.tuples(st.floats(-5, 5), st.floats(5, 20))
    | st.tuples(st.integers(-300, 300), st.integers(1, 5) | st.integers(2**31, 2**32 - 1)),
    max_size=30,
)


def started(numbers: list[int]) -> np.ndarray:
    state, words = chance.new_state(), chance.words_of(*numbers)
    chance.seed(state, words, len(words))
    return state


@settings(max_examples=150, deadline=None)
@given(SEEDS, ASKED)
def test_every_kind_of_number_is_that_of_numpy(numbers: list[int], asked: list[object]) -> None:
    state, rng = started(numbers), np.random.default_rng(numbers)
    for what in asked:
        match what:
            case (float(low), float(high)):
                assert chance.uniform(state, low, high) == rng.uniform(low, high)
            case (int(low), int(values)):
                assert chance.integer(state, low, low + values) == rng.integers(low, low + values)
            case _:
                assert chance.random(state) == rng.random()


@pytest.mark.parametrize("number", [0, 1, 2**31, 2**32 - 1])
def test_one_number_seeds_as_it_does_in_numpy(number: int) -> None:
    assert chance.random(started([number])) == np.random.default_rng(number).random()


def test_many_integers_are_those_of_one_call_in_numpy() -> None:
    state, rng = started([1, 2, 3, 4]), np.random.default_rng([1, 2, 3, 4])
    assert [chance.integer(state, 21, 108) for _ in range(5000)] == rng.integers(21, 108, size=5000).tolist()
    others = np.arange(100, 117)
    assert others[chance.integer(state, 0, 17)] == rng.choice(others)
