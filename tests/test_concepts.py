"""The four concepts: what each keeps, what it forgets, and where its chance comes from."""

from typing import Any

import numpy as np
import pytest

from pianistid_core.concepts import (
    CONCEPTS,
    ExtractorOptions,
    HarmonyOptions,
    MelodyOptions,
    concept_rolls,
    draw_concepts,
    evaluation_rng,
)
from pianistid_core.errors import ExtractionError
from pianistid_core.midi import Notes
from tiny import make_notes


def changed(notes: Notes, **arrays: np.ndarray) -> Notes:
    fields = {
        name: arrays.get(name, getattr(notes, name)) for name in ("onsets_s", "offsets_s", "pitches", "velocities")
    }
    return Notes.from_arrays(*fields.values())


def channels_that_change(notes: Notes, other: Notes) -> set[str]:
    """The concepts whose roll differs, with the same random keys for both."""
    rolls = [concept_rolls(each, rng=np.random.default_rng(0)) for each in (notes, other)]
    return {name for name, a, b in zip(CONCEPTS, *rolls, strict=True) if not np.array_equal(a, b)}


def test_loudness_is_heard_by_dynamics_alone() -> None:
    notes = make_notes(0, seconds=30)
    assert channels_that_change(notes, changed(notes, velocities=notes.velocities[::-1].copy())) == {"dynamics"}


def test_lengths_are_heard_by_rhythm_alone() -> None:
    notes = make_notes(0, seconds=30)
    assert channels_that_change(notes, changed(notes, offsets_s=notes.onsets_s + 0.05)) == {"rhythm"}


def test_an_inner_voice_is_heard_by_harmony_alone() -> None:
    notes = make_notes(0, seconds=30)
    pitches = np.where(notes.pitches == 64, 63, notes.pitches)
    assert channels_that_change(notes, changed(notes, pitches=pitches)) == {"harmony"}


def test_the_top_voice_between_chords_is_heard_by_melody_alone() -> None:
    notes = make_notes(0, seconds=30)
    between = notes.onsets_s % 1.0 == 0.5
    assert channels_that_change(notes, changed(notes, pitches=notes.pitches + between)) == {"melody"}


def test_melody_and_harmony_do_not_depend_on_chance_and_the_others_only_on_the_generator() -> None:
    notes = make_notes(3)
    one, same, other = (concept_rolls(notes, rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert np.array_equal(one[:2], other[:2])
    assert not np.array_equal(one[2], other[2]) and not np.array_equal(one[3], other[3])


def test_without_a_generator_the_notes_seed_it() -> None:
    notes, other = make_notes(3), make_notes(4)
    assert np.array_equal(concept_rolls(notes), concept_rolls(notes, rng=evaluation_rng(notes)))
    assert evaluation_rng(notes).random() != evaluation_rng(other).random()


def test_kept_concepts_come_in_order_and_do_not_change_each_other() -> None:
    notes = make_notes(5)
    everything = concept_rolls(notes, rng=np.random.default_rng(0))
    for kept in (["dynamics"], ["rhythm", "melody"], ["harmony", "dynamics"]):
        indices = [index for index, name in enumerate(CONCEPTS) if name in kept]
        some = concept_rolls(notes, rng=np.random.default_rng(0), concepts=kept)
        assert np.array_equal(some, everything[indices])


def test_random_keys_run_from_21_to_107() -> None:
    onsets = np.linspace(0, 29, 20_000)
    notes = Notes.from_arrays(onsets, onsets + 0.1, np.full(20_000, 60), np.full(20_000, 64))
    drawn = draw_concepts(notes, rng=np.random.default_rng(0), concepts=["rhythm", "dynamics"])
    for concept in drawn.values():
        assert (concept.pitches.min(), concept.pitches.max()) == (21, 107)


def test_without_chords_only_harmony_fails() -> None:
    notes = make_notes(6, chord=())
    with pytest.raises(ExtractionError, match="no chords"):
        concept_rolls(notes)
    assert concept_rolls(notes, concepts=["melody", "rhythm", "dynamics"]).shape == (3, 88, 3000)


def test_without_notes_every_concept_fails() -> None:
    for concept in CONCEPTS:
        with pytest.raises(ExtractionError, match="no notes"):
            concept_rolls(make_notes(7), clip_start=200.0, concepts=[concept])


def test_options_choose_what_counts() -> None:
    notes = make_notes(8, seconds=30)
    high = ExtractorOptions(melody=MelodyOptions(lower_bound=78))
    assert draw_concepts(notes, concepts=["melody"], options=high)["melody"].pitches.min() >= 78
    with pytest.raises(ExtractionError, match="no melody"):
        draw_concepts(notes, concepts=["melody"], options=ExtractorOptions(melody=MelodyOptions(lower_bound=120)))

    low = ExtractorOptions(harmony=HarmonyOptions(upper_bound=66, minimum_notes=2))
    assert draw_concepts(notes, concepts=["harmony"], options=low)["harmony"].pitches.max() == 64
    four = ExtractorOptions(harmony=HarmonyOptions(minimum_notes=30))
    with pytest.raises(ExtractionError, match="30 distinct"):
        draw_concepts(notes, concepts=["harmony"], options=four)

    whole = draw_concepts(notes, concepts=["harmony"])["harmony"]
    topless = ExtractorOptions(harmony=HarmonyOptions(remove_highest_pitch=True))
    without_top = draw_concepts(notes, concepts=["harmony"], options=topless)["harmony"]
    assert whole.pitches.max() > 67 and without_top.pitches.max() < whole.pitches.max()


def test_a_number_seeds_the_random_keys() -> None:
    notes = make_notes(3)
    assert np.array_equal(concept_rolls(notes, rng=7), concept_rolls(notes, rng=np.random.default_rng(7)))
    assert not np.array_equal(concept_rolls(notes, rng=0), concept_rolls(notes, rng=1))


@pytest.mark.parametrize(
    ("concepts", "reason"),
    [
        (["melody", "harmonie"], "did you mean 'harmony'"),
        (["tempo"], "the concepts are melody, harmony, rhythm, dynamics"),
        ([2], "no concept 2"),
        ("melody", "at least one"),
        ([], "at least one"),
    ],
)
def test_unknown_concepts_are_refused(concepts: Any, reason: str) -> None:
    for draw in (concept_rolls, draw_concepts):
        with pytest.raises(ExtractionError, match=reason):
            draw(make_notes(3), concepts=concepts)
