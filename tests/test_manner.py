"""How music is played: the numbers by hand, what is unusual in words, and strangers told from pianists."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pianistid_core.errors import CheckpointError, DataError
from pianistid_core.manner import NAMES, Range, Usual, exact_grid_s, manner_of, usual_of
from pianistid_core.midi import Notes
from strangers import STRANGERS


def played(seed: int, seconds: float = 30.0) -> Notes:
    """Music as of a pianist: a restless line over chords that come when they please, no two clips alike."""
    rng = np.random.default_rng(seed)
    tempo, rows = float(rng.uniform(0.12, 0.35)), []
    time, pitch = float(rng.uniform(0, 0.3)), 72
    while time < seconds:
        pitch = int(np.clip(pitch + rng.choice([-7, -4, -3, -2, -1, 1, 2, 3, 4, 6]), 60, 96))
        length = tempo * float(rng.choice([1, 1, 1, 2, 3])) * float(rng.uniform(0.8, 1.2))
        rows.append((time, 1.1 * length, pitch))
        if rng.random() < 0.3:
            root = int(rng.integers(36, 50))
            rows += [(time + 0.01 * k, 4 * length, root + tone) for k, tone in enumerate((0, 4, 10, 14)) if root]
        time += length
    onsets, lengths, pitches = np.array(rows).T
    return Notes.from_arrays(onsets, onsets + lengths, pitches.astype(int), rng.integers(30, 100, len(rows)))


@pytest.fixture(scope="module")
def usual() -> Usual:
    return usual_of([played(seed) for seed in range(150)])


@pytest.mark.parametrize("name", STRANGERS)
def test_a_stranger_is_told_and_why(usual: Usual, name: str) -> None:
    remarks = usual.remarks(STRANGERS[name]())
    assert remarks, name
    assert all(one.words.endswith(".") and not one.words[0].islower() and len(one.words) < 200 for one in remarks)
    about = {one.about for one in remarks}
    expected = {
        "scales": "grid", "hanon": "grid", "chorale": "grid", "hymn": "chords", "random_notes": "pitches",
        "drums": "pitches", "near_silence": "notes", "one_chord": "note_s", "minimal": "patterns",
        "melody": "polyphony", "alberti": "grid", "ragtime": "grid",
    }  # fmt: skip
    assert expected[name] in about


def test_pianists_are_not_remarked_upon(usual: Usual) -> None:
    assert np.mean([bool(usual.remarks(played(seed, 90.0))) for seed in range(1000, 1030)]) < 0.15


def test_the_numbers_by_hand() -> None:
    notes = Notes.from_arrays([0, 0, 1, 2, 3], [2, 2, 2, 3, 4], [60, 64, 67, 72, 74], [50, 50, 60, 60, 60])
    found = manner_of(notes)
    assert found is not None
    assert found.notes_per_s == pytest.approx(5 / 4) and found.polyphony == pytest.approx(7 / 4)
    assert found.chords == 0.25 and found.note_s == 1 and found.pitches == 5 and found.loudnesses == 2
    assert found.pitch_classes == pytest.approx(math.exp(-(0.4 * math.log(0.4) + 3 * 0.2 * math.log(0.2))))
    assert found.silence == pytest.approx(0) and found.steps == pytest.approx(1 / 3)
    assert manner_of(notes.between(0, 1.5)) is None


def test_silence_and_overlaps_are_counted_once() -> None:
    notes = Notes.from_arrays([0, 1, 10, 19], [5, 2, 11, 20], [60, 61, 62, 63], [9] * 4)
    found = manner_of(notes)
    assert found is not None and found.silence == pytest.approx(13 / 20) and found.polyphony == pytest.approx(8 / 7)


@settings(max_examples=40)
@given(st.floats(0.07, 0.5), st.integers(0, 9999))
def test_a_program_s_grid_is_found_and_a_person_s_is_not(step: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    onsets = np.round(np.cumsum(rng.integers(1, 4, 80)) * step, 3)  # a file's ticks are about a millisecond
    onsets = onsets[onsets < 30]
    notes = Notes.from_arrays(onsets, onsets + 0.1, np.full(len(onsets), 60), np.full(len(onsets), 60))
    if len(onsets) >= 12:
        found = exact_grid_s(notes)
        assert found is not None and np.abs(np.round(onsets / found) * found - onsets - (0)).max() < step
        shaken = onsets + rng.normal(0, 0.03, len(onsets)).clip(-0.06, 0.06) + 0.1
        human = Notes.from_arrays(shaken, shaken + 0.1, np.full(len(onsets), 60), np.full(len(onsets), 60))
        assert exact_grid_s(human) is None


def test_on_the_training_music_s_own_grid_nothing_is_remarked() -> None:
    def on_grid(seed: int) -> Notes:
        notes = played(seed)
        onsets = np.round(notes.onsets_s, 1)
        return Notes.from_arrays(onsets, onsets + 0.3, notes.pitches, np.full(len(notes), 63))

    usual = usual_of([on_grid(seed) for seed in range(60)])
    assert usual.grid_s == 0.1 and usual.ranges["loudnesses"].high == 1
    assert "grid" not in {one.about for one in usual.remarks(on_grid(900))}
    assert "grid" in {one.about for one in usual.remarks(STRANGERS["hymn"]())}
    # The same music in finer time and with its loudness is the same playing.
    assert not {"grid", "loudnesses", "evenness"} & {one.about for one in usual.remarks(played(901))}


def test_too_few_notes_are_a_remark_of_their_own(usual: Usual) -> None:
    few = Notes.from_arrays([0.0, 1.0], [0.5, 1.5], [60, 62], [64, 64])
    assert [one.about for one in usual.remarks(few)] == ["notes"]
    with pytest.raises(DataError, match="four notes"):
        usual_of([few])


def test_it_comes_back_from_json_as_it_was(usual: Usual) -> None:
    assert Usual.from_dict(json.loads(json.dumps(usual.to_dict()))) == usual
    assert tuple(asdict(manner_of(played(1)) or pytest.fail())) == NAMES


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"ranges": {}},
        {"ranges": 3},
        {"grid_s": -1},
        {"grid_s": "x"},
        {"ranges": {name: [1, 0, 2] for name in NAMES}},
        {"ranges": {name: [0, 1, float("inf")] for name in NAMES}},
        {"ranges": {name: [0, 1] for name in NAMES}},
        {"n_clips": None},
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, object]) -> None:
    data = Usual({name: Range(0.0, 1.0, 2.0) for name in NAMES}).to_dict()
    with pytest.raises(CheckpointError, match="training music"):
        Usual.from_dict(data | change)
