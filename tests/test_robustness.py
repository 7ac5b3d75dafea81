"""The same music otherwise: each variation changes what it says and nothing else, and answers are counted as given."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pianistid_core import robustness
from pianistid_core.datasets.cache import open_note_cache
from pianistid_core.datasets.root import DataRoot, Split, SplitEntry
from pianistid_core.errors import DataError, ExtractionError
from pianistid_core.midi import Notes, read_midi, split_into_clips, write_midi
from pianistid_core.robustness import joined, measure_expressive, measure_robustness, recordings_of, variations
from tiny import PIANISTS, make_notes

NOTES = make_notes(3, seconds=29, centre=50)


class ByPitch:
    """Names a pianist by the mean pitch; music without notes below middle C it cannot draw."""

    def identify(self, notes: Notes, *, concepts: bool) -> Any:
        if notes.pitches.min() >= 60:
            raise ExtractionError("no low notes")
        pianist = "high" if notes.pitches.mean() > 66 else "low"
        return type("Answer", (), {"pianist": pianist})


def changed(name: str) -> Notes:
    [variation] = [one for one in variations() if one.name == name]
    return variation.change(NOTES, np.random.default_rng(1))


def fields(notes: Notes) -> list[list[float]]:
    rows = np.column_stack([notes.onsets_s, notes.offsets_s, notes.pitches, notes.velocities])
    return sorted(np.round(rows, 2).tolist())


def test_velocities_alone_are_drawn() -> None:
    other = changed("velocities drawn at random")
    assert (other.onsets_s == NOTES.onsets_s).all() and (other.pitches == NOTES.pitches).all()
    assert (other.velocities != NOTES.velocities).any()


def test_a_transposition_is_one_interval_within_its_bounds_and_never_none() -> None:
    steps = set()
    [variation] = [one for one in variations() if one.name.startswith("transposed")]
    for seed in range(60):
        moved = variation.change(NOTES, np.random.default_rng(seed)).pitches.astype(int) - NOTES.pitches.astype(int)
        assert len(set(moved.tolist())) == 1
        steps.add(int(moved[0]))
    assert steps == {*range(-5, 0), *range(1, 7)}
    assert len(robustness.transposed(NOTES, 60)) < len(NOTES)


@pytest.mark.parametrize(("name", "factor"), [("tempo x 0.8", 1.25), ("tempo x 1.2", 1 / 1.2)])
def test_a_tempo_changes_all_times(name: str, factor: float) -> None:
    assert changed(name).offsets_s == pytest.approx(NOTES.offsets_s * factor)


@pytest.mark.parametrize("spread_s", [0.010, 0.020])
def test_jitter_moves_notes_and_keeps_their_length(spread_s: float) -> None:
    other = changed(f"onsets jittered by {1000 * spread_s:.0f} ms")
    assert np.sort(other.offsets_s - other.onsets_s) == pytest.approx(np.sort(NOTES.offsets_s - NOTES.onsets_s))
    assert 0.5 < np.std(other.onsets_s - np.sort(NOTES.onsets_s)) / spread_s < 1.5


def test_a_grid_holds_beginnings_and_ends() -> None:
    other = changed("put on a grid of 125 ms")
    assert (other.onsets_s * 8 == np.round(other.onsets_s * 8)).all()
    assert (other.offsets_s - other.onsets_s >= 0.125).all()


def test_hands_in_two_tracks_are_the_same_notes() -> None:
    data = robustness.two_hands(NOTES)
    assert int.from_bytes(data[10:12], "big") == 2
    assert np.array(fields(read_midi(data))) == pytest.approx(np.array(fields(NOTES)), abs=0.011)


def test_drums_are_in_the_file_and_not_heard() -> None:
    data = robustness.with_drums(NOTES)
    assert b"\x99" in data and int.from_bytes(data[10:12], "big") == 2
    assert len(read_midi(data)) == len(NOTES)


def test_the_pedal_holds_notes_until_it_is_changed_or_their_key_is_struck() -> None:
    notes = Notes.from_arrays([0.1, 0.5, 1.0], [0.2, 0.6, 1.1], [60, 60, 64], [50, 50, 50])
    assert robustness.pedalled(notes).offsets_s.tolist() == [0.5, 2.0, 2.0]


def test_a_tenth_is_missing() -> None:
    assert 0.8 < len(changed("a tenth of the notes missing")) / len(NOTES) < 0.97


def test_clips_put_together_are_cut_apart_again() -> None:
    clips = [clip.between(0, 30) for clip in split_into_clips(make_notes(4, seconds=89.5))] + [NOTES]
    whole = joined(clips)
    again = [clip.between(0, 30) for clip in split_into_clips(whole)]
    assert [fields(one) for one in again[:-1]] == [fields(one) for one in clips[:-1]]
    assert len(again) == len(clips) == 3 and len(again[-1]) == len(clips[-1])
    assert len(joined([Notes.from_arrays([], [], [], [])])) == 0


def test_answers_are_counted_as_they_come() -> None:
    low, high = make_notes(1, seconds=29, centre=45), make_notes(2, seconds=29, centre=58)
    recordings = [("low", [low, low]), ("high", [high]), ("low", [high]), ("high", [make_notes(2, centre=72)])]
    rows = measure_robustness(ByPitch(), recordings)  # type: ignore[arg-type]
    by_name = {row["variation"]: row for row in rows}
    assert len(by_name) == 14
    assert (by_name["as it is"]["right"], by_name["as it is"]["n"], by_name["as it is"]["same"]) == (2, 4, 4)
    assert by_name["velocities drawn at random"]["same"] == 4
    assert by_name["tempo x 0.8"]["interval"][0] > 0


def test_recordings_come_with_their_pianist_and_clips_in_order(tiny_root: DataRoot) -> None:
    found = recordings_of(open_note_cache(tiny_root, "tiny", "test"))
    assert [who for who, _ in found] == list(PIANISTS)
    assert all(len(clips) == 2 for _, clips in found)


def test_clips_as_transcribed_are_told_apart_by_whether_they_were_learned_from(tmp_path: Path) -> None:
    split = Split(
        "mine",
        ("low", "high"),
        {
            "train": (SplitEntry("jtd/a-tune-1", 0, 60.0),),
            "test": (SplitEntry("pijama/b-tune-2", 1, 60.0),),
        },
    )
    with pytest.raises(DataError, match="no clip"):
        measure_expressive(ByPitch(), tmp_path, split)  # type: ignore[arg-type]
    write_midi(make_notes(1, seconds=29, centre=45), tmp_path / "jtd_a-tune-1_clip_003.mid")
    write_midi(make_notes(1, seconds=29, centre=45), tmp_path / "pijama_b-tune-2_clip_011.mid")
    write_midi(make_notes(1, seconds=29, centre=58), tmp_path / "pijama_b-elsewhere-3_clip_000.mid")
    write_midi(make_notes(1, seconds=29), tmp_path / "pijama_c-unknown_clip_000.mid")
    found = measure_expressive(ByPitch(), tmp_path, split)  # type: ignore[arg-type]
    assert [(name, one["right"], one["n"]) for name, one in found.items()] == [("train", 1, 1), ("held out", 1, 2)]
