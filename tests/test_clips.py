"""One drawn clip: options decide its channels, the generator all its chance."""

import dataclasses

import numpy as np
import pytest

from pianistid_core.clips import ClipOptions, draw_clip
from pianistid_core.concepts import concept_rolls
from pianistid_core.errors import ExtractionError
from pianistid_core.midi import Notes
from pianistid_core.rolls import normalise, piano_roll
from tiny import make_notes

NOTES = make_notes(0)


def draw(seed: int = 0, **options: object) -> np.ndarray:
    return draw_clip(NOTES, ClipOptions(**options), np.random.default_rng(seed))  # type: ignore[arg-type]


def test_without_variation_a_clip_is_its_normalised_roll() -> None:
    assert np.array_equal(draw(), normalise(piano_roll(NOTES)))
    assert np.array_equal(draw(normalize_velocity=False), piano_roll(NOTES))
    four = draw(multichannel=True)
    assert np.array_equal(four, normalise(concept_rolls(NOTES, rng=np.random.default_rng(0))))
    assert draw(multichannel=True, use_concepts=(0, 2)).shape == (2, 88, 3000)


def test_the_same_generator_draws_the_same_clip() -> None:
    options = {"multichannel": True, "data_augmentation": True, "jitter_start": True}
    assert np.array_equal(draw(5, **options), draw(5, **options))
    assert not np.array_equal(draw(5, **options), draw(6, **options))


@pytest.mark.parametrize("multichannel", [False, True])
@pytest.mark.parametrize(("probability", "low", "high"), [(0.0, 0, 0), (0.5, 60, 140), (1.0, 195, 200)])
def test_the_augmentation_probability_holds_for_one_channel_and_for_four(
    multichannel: bool, probability: float, low: int, high: int
) -> None:
    plain = draw(multichannel=multichannel, use_concepts=(0,))
    options = {"data_augmentation": True, "augmentation_probability": probability}
    drawn = (draw(seed, multichannel=multichannel, use_concepts=(0,), **options) for seed in range(200))
    assert low <= sum(not np.array_equal(roll, plain) for roll in drawn) <= high


def test_a_gap_ends_notes_sooner_but_never_a_short_one() -> None:
    music = Notes.from_arrays(
        np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 2.03]), np.array([60, 60, 60]), np.full(3, 80)
    )
    joined, apart = (
        draw_clip(music, ClipOptions(release_gap_s=gap_s), np.random.default_rng(0))[0, 39] > 0 for gap_s in (0.0, 0.05)
    )
    assert joined[:201].all()
    assert apart[:95].all() and not apart[96:100].any() and apart[100:195].all() and not apart[196:200].any()
    assert apart[200:202].all() and not apart[203:].any()


def test_a_key_struck_again_while_it_sounds_is_let_go_first_whatever_the_velocities() -> None:
    for velocities in ([80, 80], [90, 40], [40, 90]):
        music = Notes.from_arrays(np.array([0.0, 1.0]), np.array([5.0, 2.0]), np.array([60, 60]), np.array(velocities))
        sounding = draw_clip(music, ClipOptions(release_gap_s=0.05), np.random.default_rng(0))[0, 39] > 0
        assert sounding[:95].all() and not sounding[96:100].any() and sounding[100:195].all()
        assert not sounding[196:].any()


def test_jitter_starts_within_the_first_15_s() -> None:
    late = dataclasses.replace(NOTES, onsets_s=NOTES.onsets_s + 44.9, offsets_s=NOTES.offsets_s + 44.9)
    starts = 0
    for seed in range(300):
        try:
            draw_clip(late, ClipOptions(jitter_start=True), np.random.default_rng(seed))
            starts += 1
        except ExtractionError:
            pass
    assert starts <= 10  # only a start after 14.9 s hears anything
