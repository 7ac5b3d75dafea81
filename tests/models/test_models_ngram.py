"""The n-gram model: what it counts, what it does not hear, and that its answer is the sum of its traces."""

import pkgutil
from collections.abc import Sequence
from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pianistid_core import models
from pianistid_core.clips import ClipOptions, draw_clip
from pianistid_core.concepts import CONCEPTS
from pianistid_core.errors import ConfigError, ModelError
from pianistid_core.midi import Notes
from pianistid_core.models import ConceptModel, NgramModel, build_model
from pianistid_core.models.moments import Moments
from pianistid_core.models.ngram import LENGTH
from pianistid_core.models.ngrams import FAMILIES, find
from pianistid_core.strokes import moved

GAP = ClipOptions(release_gap_s=0.02)

Note = tuple[int, int, int]  # onset and offset in steps of 100 ms, MIDI pitch


def notes_of(notes: Sequence[Note]) -> Notes:
    onsets, offsets, pitches = (np.array(column) for column in zip(*sorted(notes), strict=True))
    return Notes.from_arrays(onsets / 10, offsets / 10, pitches, np.full(len(pitches), 80))


def roll_of(notes: Sequence[Note]) -> torch.Tensor:
    return torch.from_numpy(draw_clip(notes_of(notes), GAP, np.random.default_rng(0))[np.newaxis])


def counted(notes: Sequence[Note]) -> dict[str, dict[int, int]]:
    """How often each n-gram occurs, by family."""
    counts: dict[str, dict[int, int]] = {}
    for found in find(Moments.of(roll_of(notes))):
        of_family = counts.setdefault(found.family.name, {})
        for code in found.codes.tolist():
            of_family[code] = of_family.get(code, 0) + 1
    return counts


def by_concept(notes: Sequence[Note], *, absolute: bool = True) -> dict[str, list[dict[int, int]]]:
    counts = counted(notes)
    return {
        concept: [
            counts.get(family.name, {})
            for family in FAMILIES
            if family.concept == concept and (absolute or not family.absolute)
        ]
        for concept in CONCEPTS[:3]
    }


MUSIC: list[Note] = [
    *((2 * n, 2 * n + 1 + n % 3, 60 + n * 7 % 12) for n in range(40)),
    *((8 * n, 8 * n + 6, 48 + n % 5) for n in range(10)),
    *((8 * n, 8 * n + 6, 55 + n % 4) for n in range(10)),
]
notes_strategy = st.lists(
    st.tuples(st.integers(0, 280), st.integers(1, 15), st.integers(30, 95)).map(lambda n: (n[0], n[0] + n[1], n[2])),
    min_size=3,
    max_size=60,
    unique_by=lambda note: (note[0], note[2]),
)


def trained(seed: int = 0, **options: object) -> NgramModel:
    """A model that knows the n-grams of `MUSIC`, with weights drawn from a seed."""
    model = build_model("ngram", {"vocabulary": 4000, "least_recordings": 1, **options}, 5)
    assert isinstance(model, NgramModel)
    model.study([(roll_of(MUSIC), np.array([0]))])
    torch.manual_seed(seed)
    torch.nn.init.normal_(model.weight)
    torch.nn.init.normal_(model.bias)
    return model.eval()


# --- moments ---------------------------------------------------------------------------------------------------------


def test_moments_are_the_steps_at_which_something_is_struck() -> None:
    moments = Moments.of(roll_of([(0, 3, 60), (2, 4, 64), (2, 9, 67), (20, 21, 72)]))
    assert moments.steps.tolist() == [0, 2, 20]
    assert (moments.top + 21).tolist() == [60, 67, 72]
    assert (moments.low + 21).tolist() == [60, 64, 72]
    assert (moments.held.nonzero() + torch.tensor([0, 21])).tolist() == [[1, 60]]
    assert moments.lengths[1, 67 - 21] == 7


def test_a_key_struck_again_at_once_is_two_moments_with_the_gap_and_one_without() -> None:
    music = [(0, 5, 60), (5, 9, 60)]
    assert Moments.of(roll_of(music)).steps.tolist() == [0, 5]
    joined = draw_clip(notes_of(music), ClipOptions(), np.random.default_rng(0))
    assert Moments.of(torch.from_numpy(joined[np.newaxis])).steps.tolist() == [0]


def test_how_long_a_key_was_held_is_not_known_when_it_is_struck_again_or_the_clip_ends() -> None:
    moments = Moments.of(roll_of([(0, 5, 60), (5, 8, 60), (5, 400, 72), (10, 14, 64), (12, 13, 67)]))
    assert moments.steps.tolist() == [0, 5, 10, 12]
    assert moments.lengths[0, 60 - 21] == 1 and moments.lengths[1, 60 - 21] == 3
    assert moments.lengths[1, 72 - 21] == 1
    assert (moments.held.nonzero() + torch.tensor([0, 21])).tolist() == [[3, 64]]


@pytest.mark.parametrize("late_s", [-0.045, -0.02, 0.0, 0.02, 0.045])
def test_onsets_go_to_the_nearest_step(late_s: float) -> None:
    notes = Notes.from_arrays(np.array([1.0 + late_s]), np.array([1.5]), np.array([60]), np.array([80]))
    roll = draw_clip(notes, GAP, np.random.default_rng(0))
    assert Moments.of(torch.from_numpy(roll[np.newaxis])).steps.tolist() == [10]


# --- n-grams ---------------------------------------------------------------------------------------------------------


def test_a_scale_has_the_n_grams_it_should() -> None:
    counts = counted([(4 * n, 4 * n + 4, 60 + 2 * n) for n in range(8)])
    assert sorted(counts["interval1"].values()) == [7]  # one interval, a whole tone, seven times
    assert sorted(counts["interval3"].values()) == [5]
    assert sorted(counts["pitch1"].values()) == [1] * 8
    assert sorted(counts["wait1"].values()) == [1, 7]  # the last note is followed by nothing
    assert not counts["chord over low"]


@given(notes_strategy, st.integers(-9, 9))
@settings(max_examples=25, deadline=None)
def test_transposed_music_has_the_same_n_grams_but_for_absolute_ones(music: list[Note], semitones: int) -> None:
    moved = [(onset, offset, pitch + semitones) for onset, offset, pitch in music]
    assert by_concept(music, absolute=False) == by_concept(moved, absolute=False)


@given(notes_strategy)
@settings(max_examples=25, deadline=None)
def test_rhythm_hears_no_keys_and_melody_and_chords_no_time(music: list[Note]) -> None:
    # Turned upside down, all keys are others; drawn out, all times are.
    steps = sorted({onset for onset, _, _ in music})
    short = [(steps.index(onset), steps.index(onset) + 1, pitch) for onset, _, pitch in music]
    plain = counted(short)
    slow = counted([(onset * 2, onset * 2 + 1, pitch) for onset, _, pitch in short])
    mirrored = counted([(onset, offset, 125 - pitch) for onset, offset, pitch in short])
    for family in FAMILIES:
        other = mirrored if family.concept == "rhythm" else slow
        assert plain.get(family.name) == other.get(family.name), family.name


def test_n_grams_stay_within_their_clip() -> None:
    one, other = roll_of(MUSIC), roll_of([(onset, offset, pitch + 1) for onset, offset, pitch in MUSIC])
    model = trained()
    together = model(torch.cat([one, other]))
    assert torch.allclose(together, torch.cat([model(one), model(other)]), atol=1e-5)


# --- the vocabulary --------------------------------------------------------------------------------------------------


def test_it_knows_what_most_recordings_share() -> None:
    common, rare = [(n, n + 1, 60) for n in range(0, 50, 5)], [(n, n + 1, 60 + n % 7) for n in range(0, 50, 5)]
    clips = [(roll_of(common), np.array([0])), (roll_of(common), np.array([1])), (roll_of(rare), np.array([2]))]
    model = build_model("ngram", {"vocabulary": 1000, "least_recordings": 2}, 3)
    model.study(clips)
    assert isinstance(model, NgramModel)
    every = trained()
    every.least_recordings = 1
    every.study(clips)
    assert 0 < len(model.vocabulary) < len(every.vocabulary)
    # Two clips of one recording are one recording.
    same = build_model("ngram", {"vocabulary": 1000, "least_recordings": 2}, 3)
    same.study([(rolls, np.zeros(1, np.int64)) for rolls, _ in clips])
    assert isinstance(same, NgramModel)
    assert len(same.vocabulary) == 0
    assert torch.isfinite(same(roll_of(common))).all()


def test_a_small_vocabulary_is_the_most_widespread_part_of_a_large_one_whatever_the_batches() -> None:
    clips = [roll_of([(onset, offset, pitch + n) for onset, offset, pitch in MUSIC[: 20 + 10 * n]]) for n in range(4)]
    sizes = []
    for batches in ([[0, 1, 2, 3]], [[0], [1, 2], [3]]):
        model = build_model("ngram", {"vocabulary": 200, "least_recordings": 1}, 3)
        model.study([(torch.cat([clips[n] for n in batch]), np.array(batch)) for batch in batches])
        sizes.append(model.state_dict())
    assert all(torch.allclose(sizes[0][name], sizes[1][name]) for name in sizes[0])


def test_it_is_shown_its_clips_twice() -> None:
    model = build_model("ngram", {"vocabulary": 200, "least_recordings": 1}, 3)
    with pytest.raises(ModelError, match="twice"):
        model.study(iter([(roll_of(MUSIC), np.array([0]))]))


# --- the model -------------------------------------------------------------------------------------------------------


def test_its_answer_is_the_sum_of_what_its_concepts_give() -> None:
    model = trained()
    embeddings = model.encode_concepts(roll_of(MUSIC))
    assert embeddings.shape == (1, 4, 5)
    assert torch.allclose(model.head(embeddings.sum(dim=1)), model(roll_of(MUSIC)), atol=1e-4)
    assert isinstance(model, ConceptModel)
    assert model.hears == ("melody", "harmony", "rhythm")
    assert not embeddings[:, 3].any()
    with_dynamics, without = model.classify_each(embeddings, [CONCEPTS, CONCEPTS[:3]])
    assert torch.equal(with_dynamics, without)


@given(notes_strategy)
@settings(max_examples=25, deadline=None)
def test_its_trace_adds_up_to_the_logit(music: list[Note]) -> None:
    model = trained()
    model.study([(roll_of(music), np.array([0]))])
    rolls = roll_of(music)
    for target in (0, 3):
        traced = model.trace(rolls, target)
        logit = model(rolls)[0, target] - model(torch.zeros_like(rolls))[0, target]
        assert traced.sum().item() == pytest.approx(logit.item(), abs=1e-3)
        by_concepts = (model.encode_concepts(rolls) - model.encode_concepts(torch.zeros_like(rolls)))[0, :, target]
        assert torch.allclose(traced.sum(dim=(0, 2, 3)), by_concepts, atol=1e-3)
    silent = ~rolls[0, 0, :, 4::10].bool()
    # Only keys that are struck or held have a part in it.
    struck = Moments.of(rolls)
    never = torch.ones(88, 300, dtype=torch.bool)
    never[:, struck.steps] = ~(struck.struck | struck.held).T
    assert not traced[0][:, never].any()
    assert silent.any()


def test_it_ignores_loudness_and_small_changes_of_timing() -> None:
    model, rng = trained(), np.random.default_rng(0)
    notes = notes_of(MUSIC)
    moved = Notes.from_arrays(
        notes.onsets_s + rng.uniform(0, 0.04, len(notes)),
        notes.offsets_s + 0.04,
        notes.pitches,
        rng.integers(20, 120, len(notes)),
    )
    roll = draw_clip(moved, GAP, rng)
    assert torch.allclose(model(torch.from_numpy(roll[np.newaxis])), model(roll_of(MUSIC)), atol=1e-4)


def test_without_absolute_pitch_transposed_music_is_the_same_music() -> None:
    model = trained(absolute_pitch=False)
    moved = roll_of([(onset, offset, pitch + 5) for onset, offset, pitch in MUSIC])
    assert torch.allclose(model(moved), model(roll_of(MUSIC)), atol=1e-4)


def test_dropout_and_masks_are_for_training_and_the_same_for_the_same_seed() -> None:
    model = trained(ngram_dropout=0.5, use_masking=True, mask_probability=0.5)
    rolls = roll_of(MUSIC).repeat(8, 1, 1, 1)
    quiet = model(rolls)
    model.train()
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(model(rolls))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.allclose(drawn[0], drawn[2])
    assert not torch.allclose(drawn[0], quiet)
    assert torch.isfinite(drawn[0]).all()
    assert not torch.allclose(drawn[0][0], drawn[0][1])  # each clip has its own chance


def test_it_learns_two_players_from_their_n_grams() -> None:
    up = [roll_of([(3 * n, 3 * n + 2, 50 + k + 2 * n) for n in range(20)]) for k in range(4)]
    down = [roll_of([(3 * n, 3 * n + 2, 90 - k - 2 * n) for n in range(20)]) for k in range(4)]
    rolls, labels = torch.cat([*up, *down]), torch.tensor([0] * 4 + [1] * 4)
    model = build_model("ngram", {"vocabulary": 1000, "least_recordings": 1, "absolute_pitch": False}, 2)
    model.study([(rolls[::2], np.arange(4))])
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(10):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(rolls[::2]), labels[::2]).backward()
        optimiser.step()
    assert (model.eval()(rolls[1::2]).argmax(dim=1) == labels[1::2]).all()


def test_usual_music_says_nothing_and_a_masked_concept_is_as_usual() -> None:
    clips = [roll_of(MUSIC), roll_of([(onset, offset, pitch + onset % 3) for onset, offset, pitch in MUSIC])]
    model = build_model("ngram", {"vocabulary": 4000, "least_recordings": 1}, 5)
    model.study([(rolls, np.array([number])) for number, rolls in enumerate(clips)])
    torch.manual_seed(0)
    torch.nn.init.normal_(model.get_parameter("weight"))
    assert isinstance(model, NgramModel)
    embeddings = model.eval().encode_concepts(torch.cat(clips))
    assert embeddings.abs().max() > 1e-3
    assert torch.allclose(embeddings.mean(dim=0), torch.zeros(4, 5), atol=1e-4)
    silence = model.classify_each(embeddings, [()])
    assert torch.allclose(silence, (LENGTH * model.bias).expand_as(silence))


def test_it_refuses_what_it_cannot_hear() -> None:
    model = trained()
    with pytest.raises(ModelError, match="Ngram"):
        model(torch.zeros(1, 4, 88, 3000))
    with pytest.raises(ModelError, match="Ngram"):
        model.trace(torch.zeros(1, 4, 88, 3000), 0)
    with pytest.raises(ConfigError, match="vocabulary"):
        build_model("ngram", {"vocabulary": 0}, 5)


def test_silence_and_a_single_note_are_answered() -> None:
    model = trained()
    assert torch.isfinite(model(torch.zeros(2, 1, 88, 3000))).all()
    assert torch.isfinite(model(roll_of([(5, 9, 60)]))).all()
    assert not model.trace(torch.zeros(1, 1, 88, 3000), 0).any()


def test_music_on_the_grid_is_heard_alike_each_time_and_other_music_on_either_side() -> None:
    model, rolls, rng = trained(), roll_of(MUSIC), np.random.default_rng(0)
    heard = [model(moved(rolls, by)) for by in model.listenings]
    assert len(heard) == 3
    assert all(torch.allclose(one, heard[0], atol=1e-4) for one in heard)
    notes = notes_of(MUSIC)
    late_s = rng.uniform(0, 0.1, len(notes))
    loose = Notes.from_arrays(notes.onsets_s + late_s, notes.offsets_s + late_s, notes.pitches, notes.velocities)
    roll = torch.from_numpy(draw_clip(loose, GAP, rng)[np.newaxis])
    heard = [model(moved(roll, by)) for by in model.listenings]
    assert not torch.allclose(heard[1], heard[2])


def test_no_module_of_models_holds_a_tensor() -> None:
    # Whoever imports one while a model is built without memory would make it a tensor without data.
    names = [f"pianistid_core.models.{found.name}" for found in pkgutil.iter_modules(models.__path__)]
    held = [(name, key) for name in names for key, value in vars(import_module(name)).items() if torch.is_tensor(value)]
    assert held == []
