"""Near-duplicates: the same recording in any disguise, and nothing that merely resembles it."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pianistid_core.datasets import duplicates
from pianistid_core.datasets.duplicates import SIMILAR, ClipPrint, clip_print, find_duplicates, overlay
from pianistid_core.midi import Notes


def music(seed: int, *, n_notes: int = 250, grid_s: float | None = None) -> Notes:
    """Thirty seconds of chance: every key and moment its own, as in no two performances."""
    rng = np.random.default_rng(seed)
    onsets_s = np.sort(rng.uniform(0.0, 29.0, n_notes))
    if grid_s is not None:
        onsets_s = np.round(onsets_s / grid_s) * grid_s
    return Notes.from_arrays(onsets_s, onsets_s + 0.2, rng.integers(40, 90, n_notes), np.full(n_notes, 63))


def transcribed_again(notes: Notes, seed: int) -> Notes:
    """Another transcription of one recording: a sixth of the notes missed, as many invented, times on a 100 ms grid."""
    rng = np.random.default_rng(seed)
    heard = rng.random(len(notes)) > 1 / 6
    n_invented = int((~heard).sum())
    onsets_s = np.concatenate(
        [notes.onsets_s[heard] + rng.normal(0, 0.01, heard.sum()), rng.uniform(0, 29, n_invented)]
    )
    onsets_s = np.round(np.maximum(onsets_s, 0.0), 1)
    pitches = np.concatenate([notes.pitches[heard], rng.integers(40, 90, n_invented)])
    return Notes.from_arrays(onsets_s, onsets_s + 0.2, pitches, np.full(len(pitches), 63))


def found(*clips: Notes, recordings: list[int] | None = None) -> set[tuple[int, int]]:
    prints = [clip_print(clip) for clip in clips]
    return {likeness[:2] for likeness in find_duplicates(prints, recordings or list(range(len(clips))))}


def test_copies_among_many_clips() -> None:
    clips = [music(seed) for seed in range(60)]
    assert found(*clips, clips[7], clips[31].shifted(2.0)) == {(7, 60), (31, 61)}


def test_another_transcription_of_the_same_recording() -> None:
    """No outline survives this; some landmarks do."""
    for seed in range(5):
        original = music(seed)
        assert found(original, transcribed_again(original, seed + 100)) == {(0, 1)}


def test_a_transposed_copy_with_wrong_notes() -> None:
    original = music(1)
    wrong = np.random.default_rng(0).random(len(original)) < 0.05
    pitches = original.pitches + np.where(wrong, 9, 4)
    copy = Notes.from_arrays(original.onsets_s, original.offsets_s, pitches, original.velocities)
    assert found(original, copy) == {(0, 1)}


def test_the_overlay_says_what_was_done() -> None:
    original = music(2)
    copy = Notes.from_arrays(
        1.15 * original.onsets_s + 0.8, 1.15 * original.offsets_s + 0.8, original.pitches - 5, original.velocities
    )
    laid = overlay(clip_print(original), clip_print(copy))
    assert laid is not None
    assert laid.similarity == pytest.approx(1.0)
    assert (laid.semitones, laid.stretch) == (-5, pytest.approx(1.15, abs=0.005))
    assert laid.shift_s == pytest.approx(0.8, abs=0.1)


def test_another_take_is_not_a_copy() -> None:
    """The same notes in the same order, but the time of every phrase its own."""
    for seed in range(5):
        original = music(seed)
        drift_s = np.cumsum(np.random.default_rng(seed).normal(0.0, 0.04, len(original)))
        onsets_s = np.maximum.accumulate(np.maximum(original.onsets_s + drift_s, 0.0))
        take = Notes.from_arrays(onsets_s, onsets_s + 0.2, original.pitches, original.velocities)
        laid = overlay(clip_print(original), clip_print(take))
        assert laid is not None
        assert laid.similarity < SIMILAR
        assert found(original, take) == set()


def test_strangers_are_not_alike() -> None:
    assert found(*(music(seed, grid_s=0.1) for seed in range(40))) == set()


def test_one_figure_for_everyone_is_no_copy() -> None:
    """A scale that every clip begins with tells nothing."""
    scale = np.arange(40)
    clips = []
    for seed in range(50):
        rest = music(seed, n_notes=150).between(8.0, 30.0)
        clips.append(
            Notes.from_arrays(
                np.concatenate([scale * 0.1, rest.onsets_s]),
                np.concatenate([scale * 0.1 + 0.1, rest.offsets_s]),
                np.concatenate([40 + scale, rest.pitches]),
                np.full(40 + len(rest), 63),
            )
        )
    assert found(*clips) == set()


def test_clips_of_one_recording_are_not_compared() -> None:
    clip = music(3)
    assert found(clip, clip, recordings=[5, 5]) == set()
    assert found(clip, clip, recordings=[5, 6]) == {(0, 1)}


def test_many_copies_of_one_clip() -> None:
    """More than may share a figure: they are still found, each paired with the first."""
    clip = music(4)
    assert {pair for pair in found(*[clip] * 60) if pair[0] == 0} >= {(0, other) for other in range(1, 60)}


@pytest.mark.parametrize("n_notes", [0, 1, 3, 7])
def test_clips_of_a_few_notes(n_notes: int) -> None:
    """Too few notes to say that they are a copy."""
    clip = music(5, n_notes=n_notes)
    assert found(clip, clip) == set()


def test_a_copy_is_found_among_many_clips_that_share_less(monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [music(seed) for seed in range(12)]
    # All quote five seconds of the first; the last is a copy of it, two semitones higher.
    quoting = [
        Notes.from_arrays(
            *(
                np.concatenate([getattr(clip, name) for clip in (clips[0].between(0, 5), other.between(5, 29))])
                for name in ("onsets_s", "offsets_s", "pitches", "velocities")
            )
        )
        for other in clips[1:]
    ]
    copy = Notes(clips[0].onsets_s, clips[0].offsets_s, clips[0].pitches + np.uint8(2), clips[0].velocities)
    compared: list[int] = []
    overlaid = duplicates._overlaid
    monkeypatch.setattr(duplicates, "_overlaid", lambda pairs: compared.append(len(pairs)) or overlaid(pairs))
    monkeypatch.setattr(duplicates, "_MAXIMUM_PARTNERS", 1)
    assert found(clips[0], *quoting, copy) == {(0, 12)}
    # However many clips resemble each other, no more pairs are compared than there are clips.
    assert sum(compared) <= 13


def test_figures_that_agree_on_no_time_are_chance() -> None:
    """Three phrases of one figure each, in another order: clips share three figures, at three different shifts."""
    rng = np.random.default_rng(0)
    phrases = [rng.integers(40, 90, 8) for _ in range(3)]

    def played(order: list[int], pause_s: float) -> ClipPrint:
        onsets_s = np.concatenate([(6.4 + pause_s) * place + 0.8 * np.arange(8) for place in range(3)])
        pitches = np.concatenate([phrases[number] for number in order])
        return clip_print(Notes.from_arrays(onsets_s, onsets_s + 0.5, pitches, np.full(24, 64)))

    one, same, other = played([0, 1, 2], 1.0), played([0, 1, 2], 1.0), played([2, 1, 0], 2.0)
    assert len(np.intersect1d(one.figures, other.figures)) >= 3
    assert overlay(one, other) is None
    assert overlay(one, same) is not None


def test_several_processes_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [music(seed) for seed in range(4)]
    # Shifted, so that they are no equal wholes but have to be laid over each other.
    copies = [clip.between(2.0, 28.0).shifted(-2.0) for clip in clips]
    prints = [clip_print(clip) for clip in (*clips, *copies)]
    monkeypatch.setattr(duplicates, "_PAIRS_PER_TASK", 1)
    monkeypatch.setattr(duplicates, "_PAIRS_PER_WORKER", 1)
    alone = find_duplicates(prints, range(8))
    assert {(one.a, one.b) for one in alone} == {(i, i + 4) for i in range(4)}
    assert find_duplicates(prints, range(8), workers=2) == alone


def together(*parts: Notes) -> Notes:
    fields = ("onsets_s", "offsets_s", "pitches", "velocities")
    return Notes.from_arrays(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))


@given(st.integers(0, 1000), st.integers(0, 40), st.floats(-0.079, 0.079))
def test_an_outline_stays_however_many_notes_are_played_below_it(seed: int, n_below: int, later_s: float) -> None:
    rng = np.random.default_rng(seed)
    tune_s = 1.0 + 0.4 * np.arange(24)
    tune = Notes.from_arrays(tune_s, tune_s + 0.3, rng.integers(80, 108, 24), np.full(24, 64))
    # From somewhat before or after the note of the tune up to the note itself.
    below_s = np.repeat(tune_s, n_below) + later_s * rng.uniform(0.0, 1.0, 24 * n_below)
    pitches = rng.integers(21, 80, len(below_s))
    below = Notes.from_arrays(below_s, below_s + 0.3, pitches, np.full(len(below_s), 64))
    alone, accompanied = clip_print(tune), clip_print(together(tune, below))
    # 24 notes are 17 outlines of seven intervals, the same in both; landmarks of tune notes alone get fewer.
    shared = np.intersect1d(alone.figures, accompanied.figures)
    outlines, _ = duplicates._outlines(tune.onsets_s, tune.pitches)
    assert len(outlines) == 17
    assert set(outlines.tolist()) <= set(shared.tolist())


@pytest.mark.parametrize("length_s", [0.0, 0.079])
def test_notes_that_all_begin_together_are_printed_in_no_time(length_s: float) -> None:
    # As many as a file may have: each compared with every other, they would take minutes.
    n_notes = 399_000
    onsets_s = np.linspace(0.0, length_s, n_notes)
    clip = Notes.from_arrays(onsets_s, onsets_s + 0.1, np.arange(n_notes) % 128, np.full(n_notes, 64))
    assert len(clip_print(clip).onsets_s) == n_notes


def peak_bytes_of_overlay(clip: Notes) -> int:
    printed, copy = clip_print(clip), clip_print(clip.shifted(1.0))
    tracemalloc.start()
    try:
        laid = overlay(printed, copy)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert laid is not None
    assert laid.similarity >= SIMILAR
    assert laid.shift_s == pytest.approx(1.0, abs=0.15)
    return peak


def test_dense_clips_are_laid_over_each_other_in_little_memory() -> None:
    """Each note with each other one would be 128 MB."""
    assert peak_bytes_of_overlay(music(7, n_notes=4000)) < 16 << 20


def test_more_pairs_of_notes_than_music_has_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    clip, later = (clip_print(notes) for notes in (music(8), music(8).shifted(0.97)))
    finer = overlay(clip, later)
    monkeypatch.setattr(duplicates, "_MAXIMUM_NOTE_PAIRS", len(clip.pitches) - 1)
    rough = overlay(clip, later)
    assert finer is not None
    assert rough is not None
    assert finer.shift_s == pytest.approx(0.97, abs=0.03)
    # The shift that the figures gave, in steps of 0.2 s.
    assert rough.shift_s == pytest.approx(1.0, abs=1e-9)


def test_no_clips() -> None:
    assert find_duplicates([], []) == []


def test_a_print_holds_the_notes() -> None:
    clip = music(6)
    printed: ClipPrint = clip_print(clip)
    np.testing.assert_array_equal(printed.pitches, clip.pitches)
    assert (np.diff(printed.figures.astype(object)) > 0).all()
    assert len(printed.figures) == len(printed.positions)
