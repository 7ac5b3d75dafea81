"""Phrases that told: the sum over n-grams is the answer itself, and one lick is one phrase."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from pianistid_core.checkpoints import LoadedModel
from pianistid_core.clips import ClipOptions, draw_clip
from pianistid_core.concepts import evaluation_rng
from pianistid_core.config import RunConfig
from pianistid_core.errors import ExtractionError, ModelError
from pianistid_core.identify import Identifier
from pianistid_core.midi import Notes, split_into_clips
from pianistid_core.models import NgramModel, PianistModel, build_model
from pianistid_core.models.moments import Moments
from pianistid_core.phrases import given, has_phrases, phrases
from pianistid_core.strokes import moved
from tiny import PIANISTS, make_notes, tiny_config

OPTIONS = {"vocabulary": 20000, "least_recordings": 1}
CONFIG = tiny_config(encoder_module="ngram", model_cfg=OPTIONS, train_dataset_cfg={}, test_dataset_cfg={})
MUSIC = make_notes(1, seconds=65)
LICK = (76, 75, 76, 71, 74, 72, 69)


def knowing(*music: Notes, seed: int | None = 0) -> NgramModel:
    """A model that knows the n-grams of some music, with weights drawn from a seed, or all 0."""
    model = build_model(CONFIG.encoder_module, CONFIG.model_cfg, len(PIANISTS))
    assert isinstance(model, NgramModel)
    model.study([(roll, np.array([number])) for number, notes in enumerate(music) for roll in rolls_of(notes)])
    if seed is not None:
        torch.manual_seed(seed)
        torch.nn.init.normal_(model.weight, std=0.1)
        torch.nn.init.normal_(model.bias)
    return model.eval()


def asking(model: PianistModel, config: RunConfig = CONFIG) -> Identifier:
    return Identifier(LoadedModel(model, config, PIANISTS, Path("planted.pth"), 1), torch.device("cpu"))


def rolls_of(notes: Notes) -> list[torch.Tensor]:
    """The rolls (1, 1, 88, 3000) of the clips that can be drawn."""
    rolls = []
    for piece in split_into_clips(notes):
        with contextlib.suppress(ExtractionError):
            rolls.append(torch.from_numpy(draw_clip(piece, ClipOptions(), evaluation_rng(piece))[np.newaxis]))
    return rolls


def with_lick(at_s: tuple[float, ...]) -> Notes:
    """A slow bass, and above it, where it is silent, a lick at some times."""
    silent = [(at - 0.1, at + 0.2 * len(LICK)) for at in at_s]
    bass = [(1.1 * n, 1.1 * n + 0.8, 40 + n * 5 % 12) for n in range(27)]
    bass = [note for note in bass if not any(start < note[0] < end for start, end in silent)]
    lick = [(at + 0.2 * n, at + 0.2 * n + 0.2, pitch) for at in at_s for n, pitch in enumerate(LICK)]
    onsets, offsets, pitches = (np.array(column) for column in zip(*sorted(bass + lick), strict=True))
    return Notes.from_arrays(onsets, offsets, pitches, np.full(len(pitches), 80))


@pytest.fixture(scope="module")
def identifier() -> Identifier:
    return asking(knowing(MUSIC))


played = st.lists(
    st.tuples(st.integers(0, 640), st.integers(1, 30), st.integers(36, 90)),
    min_size=2,
    max_size=80,
    unique_by=lambda note: (note[0], note[2]),
)


@settings(max_examples=10, deadline=None)
@drawn(played, st.sampled_from(PIANISTS))
def test_all_n_grams_of_all_clips_make_up_the_logits(
    identifier: Identifier, music: list[tuple[int, int, int]], who: str
) -> None:
    onsets, lengths, pitches = (np.array(column) for column in zip(*sorted(music), strict=True))
    notes = Notes.from_arrays(onsets / 10, (onsets + lengths) / 10, pitches, np.full(len(pitches), 80))
    try:
        tally = given(identifier, notes, who)
    except ExtractionError:
        return
    model, at = identifier.model, PIANISTS.index(who)
    assert isinstance(model, NgramModel)
    with torch.inference_mode():
        heard = [[model(moved(roll, by))[0].double() for by in model.listenings] for roll in rolls_of(notes)]
        silence = model(torch.zeros(1, 1, 88, 3000))[0].double()
        logits = [sum(times) / len(times) - silence for times in heard]
    whole = sum(float(one[at] - one.mean()) for one in logits)
    assert float(tally.gives.sum()) == pytest.approx(whole, abs=1e-3)
    groups = list(tally.groups(10**6))
    assert sum(group.gives for group in groups) == pytest.approx(whole, abs=1e-3), "every n-gram is in one group"
    rows = np.concatenate([group.rows for group in groups]) if groups else np.empty(0)
    assert len(np.unique(rows)) == len(rows) == np.count_nonzero(tally.gives)


def test_the_music_that_a_model_learned_from_is_full_of_n_grams(identifier: Identifier) -> None:
    tally = given(identifier, MUSIC, PIANISTS[0])
    assert tally.n_clips == 2 and np.count_nonzero(tally.gives) > 2000


def test_for_all_pianists_together_it_is_nothing(identifier: Identifier) -> None:
    assert np.abs(sum(given(identifier, MUSIC, who).gives for who in PIANISTS)).max() < 1e-9


def test_what_all_pianists_like_tells_of_none() -> None:
    model = knowing(MUSIC)
    with torch.no_grad():
        model.weight.copy_(model.weight[:, :1].expand(-1, len(PIANISTS)))
    alike = asking(model)
    assert np.abs(given(alike, MUSIC, PIANISTS[0]).gives).max() < 1e-9
    assert all(abs(phrase.gives) < 1e-9 for phrase in phrases(alike, MUSIC, PIANISTS[0]))


def planted(notes: Notes, families: tuple[str, ...]) -> Identifier:
    """A model to which some families say that the first pianist plays, wherever their notes are those of the lick."""
    model = knowing(notes, seed=None)
    moments = Moments.of(rolls_of(with_lick((3.0,)))[0])
    inside = set(range(len(moments))) - set(((moments.top + 21) < 60).nonzero().flatten().tolist())
    for found in model.find(moments):
        rows, known = model.vocabulary.find(found.codes)
        if found.family.name in families:
            for row, members in zip(rows.tolist(), found.moments[known].tolist(), strict=True):
                if set(members) <= inside:
                    with torch.no_grad():
                        model.weight[row, 0] = 1.0 + len(members) / 100
    return asking(model)


def test_one_lick_seen_by_many_families_is_one_phrase() -> None:
    notes = with_lick((3.0, 11.7, 20.5))
    identifier = planted(notes, ("interval4", "interval5", "contour4", "pitch4"))
    told = [phrase for phrase in phrases(identifier, notes, PIANISTS[0]) if phrase.speaks_for]
    assert 1 <= len(told) <= 3, "of eleven n-grams"
    first = told[0]
    assert first.concept == "melody" and first.n_ngrams >= 3
    assert first.count == 3
    assert first.times_s == pytest.approx([first.times_s[0] + gap for gap in (0.0, 8.7, 17.5)], abs=0.01)
    assert set(notes.pitches[list(first.notes)].tolist()) <= set(LICK)
    assert sum(phrase.share for phrase in told) == pytest.approx(1.0)
    assert all(name in first.words for name in ("E5", "B4"))


def test_concepts_do_not_share_a_phrase() -> None:
    notes = with_lick((3.0, 11.7))
    identifier = planted(notes, ("interval4", "wait3"))
    assert {phrase.concept for phrase in phrases(identifier, notes, PIANISTS[0])} == {"melody", "rhythm"}


def test_the_strongest_come_first_and_some_against_after_them(identifier: Identifier) -> None:
    told = phrases(identifier, MUSIC, PIANISTS[1])
    assert len(told) == 15 and [phrase.speaks_for for phrase in told] == [True] * 12 + [False] * 3
    gives = [phrase.gives for phrase in told]
    assert gives[:12] == sorted(gives[:12], reverse=True) and gives[12:] == sorted(gives[12:])
    for phrase in told:
        assert 0 < phrase.share < 1 and phrase.count >= 1 and 1 <= len(phrase.times_s) <= 6
        assert phrase.words and list(phrase.notes) == sorted(set(phrase.notes)) and phrase.notes[-1] < len(MUSIC)
        onsets = MUSIC.onsets_s[list(phrase.notes)]
        assert all(np.isclose(onsets, time).any() for time in phrase.times_s)
    assert len(phrases(identifier, MUSIC, PIANISTS[1], n=2)) == 3


def test_the_answer_is_asked_about_where_nobody_is_named(identifier: Identifier) -> None:
    who = identifier.identify(MUSIC, concepts=False).pianist
    seen: list[tuple[int, int]] = []
    told = phrases(identifier, MUSIC, progress=lambda *at: seen.append(at))
    assert [one.to_dict() for one in told] == [one.to_dict() for one in phrases(identifier, MUSIC, who)]
    assert seen == [(1, 2), (2, 2)]
    assert json.loads(json.dumps([one.to_dict() for one in told]))[0]["words"] == told[0].words


def test_what_cannot_be_asked_is_refused(identifier: Identifier) -> None:
    with pytest.raises(ModelError, match="does not know 'Nobody'"):
        phrases(identifier, MUSIC, "Nobody")
    with pytest.raises(ModelError, match="at least 1"):
        phrases(identifier, MUSIC, n=0)
    inaudible = Notes(MUSIC.onsets_s, MUSIC.offsets_s, np.full(len(MUSIC), 120, np.uint8), MUSIC.velocities)
    with pytest.raises(ExtractionError):
        phrases(identifier, inaudible, PIANISTS[0])
    other = tiny_config(
        encoder_module="compact", model_cfg={"frame_pool": 50, "stem_width": 4, "width": 8},
        train_dataset_cfg={}, test_dataset_cfg={},
    )  # fmt: skip
    whole = asking(build_model(other.encoder_module, other.model_cfg, len(PIANISTS)).eval(), other)
    assert has_phrases(identifier) and not has_phrases(whole)
    with pytest.raises(ModelError, match="not made of n-grams"):
        phrases(whole, MUSIC)


def test_a_clip_that_cannot_be_drawn_is_left_out(identifier: Identifier) -> None:
    pitches = np.where(MUSIC.onsets_s < 30, MUSIC.pitches, 120).astype(np.uint8)
    half = Notes(MUSIC.onsets_s, MUSIC.offsets_s, pitches, MUSIC.velocities)
    assert len(split_into_clips(half)) == 2 and given(identifier, half, PIANISTS[0]).n_clips == 1
    assert all(time < 30 for phrase in phrases(identifier, half) for time in phrase.times_s)


def test_times_and_notes_are_those_of_the_performance(identifier: Identifier) -> None:
    pitches = np.where(MUSIC.onsets_s < 30, 120, MUSIC.pitches).astype(np.uint8)
    told = phrases(identifier, Notes(MUSIC.onsets_s, MUSIC.offsets_s, pitches, MUSIC.velocities))
    assert told and all(time >= 30 for phrase in told for time in phrase.times_s)
    assert all(number >= np.searchsorted(MUSIC.onsets_s, 30) for phrase in told for number in phrase.notes)
