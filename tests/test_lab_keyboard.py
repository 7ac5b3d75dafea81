"""What comes from the piano in the browser: notes, or nothing; a browser may send anything."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.keyboard import take_of

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["number", "notes", "x"]), inner),
    max_leaves=12,
)


def test_a_take_becomes_notes_in_seconds() -> None:
    take = take_of({"number": 2, "notes": [[500, 900, 64, 70], [0, 400, 60, 80]]})
    assert take is not None
    assert take.number == 2
    assert take.notes.onsets_s.tolist() == [0.0, 0.5]
    assert take.notes.offsets_s.tolist() == [0.4, 0.9]
    assert take.notes.pitches.tolist() == [60, 64]


@pytest.mark.parametrize(
    "row",
    [
        [0, 0, 60, 80], [-1, 5, 60, 80], [5, 1, 60, 80], [0, 9_999_999, 60, 80], [0, 400, 20, 80], [0, 400, 109, 80],
        [0, 400, 60, 0], [0, 400, 60, 128], [0.5, 400, 60, 80], [0, 400, True, 80], [0, 400, 60], "note", None,
    ],
)  # fmt: skip
def test_a_note_that_cannot_be_is_left_out(row: Any) -> None:
    take = take_of({"number": 1, "notes": [[0, 400, 60, 80], row]})
    assert take is not None
    assert len(take.notes) == 1
    assert take_of({"number": 1, "notes": [row]}) is None


@given(ANYTHING)
def test_whatever_else_is_sent_is_nothing_or_a_take(sent: Any) -> None:
    take = take_of(sent)
    assert take is None or len(take.notes) > 0
