"""Piano rolls: equal to the reference's, cell by cell, and to the rules as written."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pianistid_core.concepts import concept_rolls, draw_concepts
from pianistid_core.errors import ExtractionError
from pianistid_core.midi import Notes, read_midi
from pianistid_core.rolls import N_FRAMES, N_KEYS, normalise, piano_roll

GOLDEN = Path(__file__).parent / "golden"


def check_against_golden(notes: Notes, case: dict[str, object], arrays: dict[str, np.ndarray]) -> int:
    """Compares all five outputs with a golden case; returns how many were checked."""
    start, errors = float(case["clip_start"]), case["errors"]  # type: ignore[arg-type]
    for name in ("single", "melody", "harmony", "rhythm", "dynamics"):
        if name in errors:  # type: ignore[operator]
            with pytest.raises(ExtractionError):
                piano_roll(notes, start) if name == "single" else concept_rolls(notes, start, concepts=[name])
        elif name == "single":
            assert np.array_equal(piano_roll(notes, start)[0], arrays["single"])
        elif name in ("melody", "harmony"):
            assert np.array_equal(concept_rolls(notes, start, concepts=[name])[0], arrays[name])
        else:
            drawn = draw_concepts(notes, start, concepts=[name])[name]
            velocities = np.broadcast_to(drawn.velocities, drawn.starts_s.shape)
            assert np.array_equal(np.column_stack([drawn.starts_s, drawn.ends_s, velocities]), arrays[f"{name}_notes"])
    return 5


def test_synthetic_clips_equal_the_reference() -> None:
    checked = 0
    for case in json.loads((GOLDEN / "index.json").read_text()):
        with np.load(GOLDEN / case["arrays"]) as arrays:
            checked += check_against_golden(read_midi(GOLDEN / case["midi"]), case, dict(arrays))
    assert checked == 120


def test_real_clips_equal_the_reference(shared: Path) -> None:
    folder, checked = shared / "golden" / "extractors", 0
    with zipfile.ZipFile(shared / "data" / "jazz20.zip") as archive:
        for case in json.loads((folder / "index.json").read_text()):
            place, _, member = case["midi"].partition(":")
            notes = read_midi(archive.read(member) if member else (shared / place).read_bytes())
            with np.load(folder / case["arrays"]) as arrays:
                checked += check_against_golden(notes, case, dict(arrays))
    assert checked == 240


TIMES = st.floats(0.0, 50.0) | st.integers(0, 4000).map(lambda frame: frame / 100)


@st.composite
def some_notes(draw: st.DrawFn) -> Notes:
    rows = draw(
        st.lists(
            st.tuples(TIMES, st.floats(0.0, 4.0), st.integers(15, 115), st.integers(0, 127)), min_size=1, max_size=40
        )
    )
    onsets, lengths, pitches, velocities = map(np.array, zip(*rows, strict=True))
    return Notes.from_arrays(onsets, onsets + lengths, pitches, velocities)


def by_the_rules(notes: Notes, start: float) -> np.ndarray:
    """The slow reading of design rules: every note against every frame."""
    edges = np.linspace(0, 30, N_FRAMES + 1)
    roll = np.zeros((N_KEYS, N_FRAMES), np.float32)
    rows = zip(notes.onsets_s, notes.offsets_s, notes.pitches.astype(int), notes.velocities, strict=True)
    for onset, offset, pitch, velocity in rows:
        counts = 21 <= pitch <= 108 and start <= onset <= start + 30 and offset - onset > 0.01 and velocity > 0
        if counts:
            sounds = (onset - start < edges[1:]) & (offset - start >= edges[:-1])
            roll[pitch - 21, sounds] = velocity
    return roll


def rolls_or_none(notes: Notes, start: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    expected = by_the_rules(notes, start)
    try:
        yield piano_roll(notes, start)[0], expected
    except ExtractionError:
        assert not expected.any()


@settings(max_examples=150, deadline=None)
@given(some_notes(), st.sampled_from([0.0, 7.25, 0.005]))
def test_a_roll_follows_the_rules(notes: Notes, start: float) -> None:
    for roll, expected in rolls_or_none(notes, start):
        assert np.array_equal(roll, expected)


@settings(max_examples=100, deadline=None)
@given(some_notes())
def test_normalising_while_drawing_equals_normalising_after(notes: Notes) -> None:
    try:
        assert np.array_equal(piano_roll(notes, normalised=True), normalise(piano_roll(notes)))
        assert np.array_equal(concept_rolls(notes, normalised=True), normalise(concept_rolls(notes)))
    except ExtractionError:
        pass


def test_the_loudest_note_keeps_its_velocity() -> None:
    roll = piano_roll(Notes.from_arrays([0.0], [1.0], [60], [127]))
    assert roll.max() == 127


def test_the_later_note_wins_where_two_overlap() -> None:
    roll = piano_roll(Notes.from_arrays([0.0, 0.5], [2.0, 1.0], [60, 60], [100, 40]))
    assert roll[0, 39, [0, 49, 60, 150]].tolist() == [100, 100, 40, 100]


def test_a_roll_filled_from_edge_to_edge_is_normalised_by_its_minimum() -> None:
    keys = np.arange(21, 109)
    notes = Notes.from_arrays(np.zeros(88), np.full(88, 31.0), keys, np.where(keys == 60, 100, 50))
    roll = piano_roll(notes, normalised=True)
    assert roll[0, 39].min() == 1 and roll[0, 40].max() == 0


@pytest.mark.parametrize("value", [0.0, 5.0, 127.0])
def test_an_even_roll_becomes_zeros(value: float) -> None:
    roll = normalise(np.full((2, N_KEYS, N_FRAMES), value, np.float32))
    assert not roll.any() and np.isfinite(roll).all()


def test_each_channel_is_normalised_by_itself_in_rolls_batches_and_single_keyboards() -> None:
    rng = np.random.default_rng(0)
    batch = rng.integers(0, 128, (3, 2, N_KEYS, N_FRAMES)).astype(np.float32) * np.array([1, 0.5])[:, None, None]
    batch = batch.astype(np.float32)
    whole = normalise(batch)
    assert np.array_equal(whole, np.stack([normalise(roll) for roll in batch]))
    assert np.array_equal(whole[1, 0], normalise(batch[1, 0])) and whole[1, 0].max() == 1


def test_what_numpy_can_read_is_normalised_as_float32() -> None:
    roll = normalise([[[0, 1], [2, 4]]])
    assert roll.dtype == np.float32 and roll.tolist() == [[[0, 0.25], [0.5, 1]]]
    assert normalise(np.array([[10, 110]], np.uint8)).tolist() == [[0, 1]]
