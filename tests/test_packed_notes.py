"""Many clips in four arrays: what goes in comes out, and what does not fit is refused."""

import numpy as np
import pytest

from pianistid_core.errors import InvalidNotesError
from pianistid_core.midi import Notes
from pianistid_core.packed_notes import PackedNotes
from tiny import make_notes

FIELDS = ("onsets_s", "offsets_s", "pitches", "velocities")
EMPTY = Notes.from_arrays([], [], np.empty(0, int), np.empty(0, int))


def test_each_clip_comes_out_as_it_went_in() -> None:
    clips = [make_notes(1), EMPTY, make_notes(2, seconds=5)]
    packed = PackedNotes.of(clips)
    assert len(packed) == 3 and len(PackedNotes.of([])) == 0
    for i, clip in enumerate(clips):
        assert all(np.array_equal(getattr(packed.notes(i), field), getattr(clip, field)) for field in FIELDS)
        assert packed.notes(i).onsets_s.base is packed.onsets_s


@pytest.mark.parametrize("i", [-1, 2])
def test_there_is_no_clip_outside(i: int) -> None:
    with pytest.raises(IndexError, match=f"clip {i} of 2"):
        PackedNotes.of([EMPTY, EMPTY]).notes(i)


@pytest.mark.parametrize("starts", [[0, 2], [1, 3], [0, 3, 2, 3], []])
def test_starts_that_do_not_share_out_the_notes_are_refused(starts: list[int]) -> None:
    three, bytes_ = np.arange(3.0), np.full(3, 60, np.uint8)
    with pytest.raises(InvalidNotesError, match="do not fit their starts"):
        PackedNotes(three, three + 1, bytes_, bytes_, np.array(starts, np.int64))


def test_arrays_of_other_types_or_lengths_are_refused() -> None:
    three, bytes_, starts = np.arange(3.0), np.full(3, 60, np.uint8), np.array([0, 3])
    with pytest.raises(InvalidNotesError, match="not float64, float64, int64"):
        PackedNotes(three, three, bytes_.astype(np.int64), bytes_, starts)
    with pytest.raises(InvalidNotesError, match="do not fit"):
        PackedNotes(three, three[:2], bytes_, bytes_, starts)
    with pytest.raises(InvalidNotesError, match="flat"):
        PackedNotes(three[None], three[None], bytes_[None], bytes_[None], starts)
