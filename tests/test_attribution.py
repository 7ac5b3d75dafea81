"""Which notes mattered: planted models get their own notes back, and models without learning are seen through."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from pianistid_core import attribution
from pianistid_core.attribution import attribute, rank_correlation
from pianistid_core.checkpoints import LoadedModel
from pianistid_core.clips import ClipOptions, draw_clip
from pianistid_core.concepts import CONCEPTS, draw_concepts, evaluation_rng
from pianistid_core.config import RunConfig
from pianistid_core.errors import ExtractionError, ModelError
from pianistid_core.identify import Identifier
from pianistid_core.midi import Notes, split_into_clips
from pianistid_core.models import PianistModel, build_model
from pianistid_core.rolls import heard_notes
from tiny import PIANISTS, make_notes, tiny_config

CPU = torch.device("cpu")
CLIPS = {"train_dataset_cfg": {}, "test_dataset_cfg": {}}
SINGLE = tiny_config(encoder_module="compact", model_cfg={"frame_pool": 50, "stem_width": 4, "width": 8}, **CLIPS)
FOUR = tiny_config(
    model_cfg={"compact_encoders": True, "compact_stem": 4, "compact_width": 8, "frame_pool": 50, "use_gru": False}
)


class Planted(PianistModel):
    """Hears nothing but some rows of some channels, by weights (C, 88); only the first pianist's logit moves."""

    def __init__(self, weights: torch.Tensor) -> None:
        super().__init__(in_channels=len(weights), num_classes=3, feature_size=3, frame_pool=1)
        self.weights = torch.nn.Parameter(weights)

    def forward_features(self, rolls: torch.Tensor) -> torch.Tensor:
        heard = (rolls * self.weights[:, :, None]).sum(dim=(1, 2, 3)) / 100
        return torch.stack([heard, torch.zeros_like(heard), torch.zeros_like(heard)], dim=1)

    def head(self, features: torch.Tensor) -> torch.Tensor:
        return features


def asking(model: PianistModel, config: RunConfig) -> Identifier:
    return Identifier(LoadedModel(model.eval(), config, PIANISTS, Path("planted.pth"), 1), CPU)


def untrained(config: RunConfig, seed: int) -> Identifier:
    torch.manual_seed(seed)
    return asking(build_model(config.encoder_module, config.model_cfg, 3), config)


def rows(channels: int, **chosen: int) -> torch.Tensor:
    weights = torch.zeros(channels, 88)
    for name, pitch in chosen.items():
        weights[CONCEPTS.index(name), pitch - 21] = 1.0
    return weights


def test_a_model_that_hears_one_pitch_scores_its_notes_alone() -> None:
    notes = make_notes(3, seconds=95)
    found = attribute(asking(Planted(rows(1, melody=64)), SINGLE), notes, PIANISTS[0])
    heard = notes.pitches == 64
    inside = notes.onsets_s < 90  # what is left after the last whole clip is not asked about
    assert (found.scores[heard & inside] > 0).all()
    assert not found.scores[~heard].any() and found.by_concept == {}
    assert found.completeness == pytest.approx(1, abs=1e-4)
    assert "gradients" in found.method
    assert {int(notes.pitches[index]) for index in found.strongest(5)} == {64}
    assert found.stability > 0.9 and found.control < 0.7 and found.informative
    # Louder and longer notes fill more of the roll, so a linear model is moved by velocity times length.
    chosen = np.flatnonzero(heard & (notes.onsets_s < 29))
    expected = notes.velocities[chosen] * np.round(100 * (notes.offsets_s - notes.onsets_s)[chosen])
    assert np.corrcoef(found.scores[chosen], expected)[0, 1] > 0.99


def test_scores_are_signed() -> None:
    notes = make_notes(3)
    found = attribute(asking(Planted(-rows(1, melody=64)), SINGLE), notes, PIANISTS[0])
    assert (found.scores <= 0).all() and found.scores.min() < 0


@pytest.mark.parametrize("concept", CONCEPTS)
def test_the_cells_of_a_concept_go_back_to_the_notes_they_came_from(concept: str) -> None:
    weights = torch.zeros(4, 88)
    weights[CONCEPTS.index(concept)] = 1.0
    notes = make_notes(4)
    found = attribute(asking(Planted(weights), FOUR), notes, PIANISTS[0])
    for other in CONCEPTS:
        assert found.by_concept[other].any() == (other == concept)
    assert np.allclose(np.sum(list(found.by_concept.values()), axis=0), found.scores)
    scored = set(np.flatnonzero(found.scores).tolist())
    expected: set[int] = set()
    for number, clip in enumerate(split_into_clips(notes)):
        first = int(np.searchsorted(notes.onsets_s, 30 * number))
        drawn = draw_concepts(clip, rng=evaluation_rng(clip))[concept]
        # What begins with the very end of the window is drawn there, but paints no cell.
        expected |= {first + int(n) for n in drawn.sources[drawn.starts_s < 30]}
    assert scored == expected
    assert 0 < len(scored) < len(notes) or concept in ("rhythm", "dynamics")


def test_sources_are_the_notes_that_were_drawn() -> None:
    notes = make_notes(7)
    heard, drawn = heard_notes(notes), draw_concepts(notes)
    for concept in ("melody", "harmony"):
        assert np.array_equal(heard.pitches[drawn[concept].sources], drawn[concept].pitches)
    assert np.array_equal(drawn["dynamics"].velocities, heard.velocities[drawn["dynamics"].sources])
    assert np.array_equal(drawn["rhythm"].starts_s, heard.starts_s[drawn["rhythm"].sources])


def test_it_is_captums_integrated_gradients() -> None:
    from captum.attr import IntegratedGradients

    notes = make_notes(5, seconds=30.5)
    identifier = untrained(SINGLE, seed=5)
    found = attribute(identifier, notes, PIANISTS[1])
    roll = torch.from_numpy(draw_clip(notes, ClipOptions(), evaluation_rng(notes)))[None]
    cells = IntegratedGradients(identifier.model).attribute(roll, target=1, n_steps=attribution.MOST_STEPS)
    assert found.scores.sum() == pytest.approx(float(cells.sum()), rel=1e-3)
    row = cells[0, 0, 72 - 21].detach().numpy()
    expected = [row[int(100 * on) : int(100 * off) + 1].sum() for on, off, pitch in _of(notes, 72)]
    assert found.scores[notes.pitches == 72] == pytest.approx(expected, rel=0.05, abs=1e-4)


def _of(notes: Notes, pitch: int) -> list[tuple[float, float, int]]:
    table = zip(notes.onsets_s, notes.offsets_s, notes.pitches, strict=True)
    return [(float(on), float(off), int(p)) for on, off, p in table if p == pitch]


@pytest.mark.parametrize("config", [SINGLE, FOUR], ids=["single", "factorised"])
def test_a_model_that_learned_nothing_is_seen_through(config: RunConfig) -> None:
    found = attribute(untrained(config, seed=9), make_notes(6), PIANISTS[0])
    assert not found.informative
    assert any("learned nothing" in sentence for sentence in found.words)


def test_the_control_itself_correlates_with_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    identifier = untrained(SINGLE, seed=9)
    monkeypatch.setattr(attribution, "_randomised", lambda of: of.model)
    found = attribute(identifier, make_notes(6, seconds=31), PIANISTS[0])
    assert found.control > 0.9 and not found.informative


def test_it_says_what_it_is_and_is_plain_data() -> None:
    notes = make_notes(3, seconds=31)
    seen: list[tuple[int, int]] = []
    identifier = asking(Planted(rows(1, melody=64)), SINGLE)
    found = attribute(identifier, notes, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 1)]
    assert found.pianist == identifier.identify(notes).pianist
    assert "not a proof" in found.words[0]
    assert found.to_dict()["scores"] == found.scores.tolist()


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(ModelError, match="Nobody"):
        attribute(asking(Planted(rows(1, melody=64)), SINGLE), make_notes(3, seconds=31), "Nobody")
    with pytest.raises(ExtractionError):
        attribute(untrained(FOUR, seed=1), make_notes(3, seconds=31, chord=()), PIANISTS[0])


def test_weights_stay_as_they_were_and_chance_too() -> None:
    identifier = untrained(SINGLE, seed=2)
    before = [p.clone() for p in identifier.model.parameters()]
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    attribute(identifier, make_notes(3, seconds=31), PIANISTS[0])
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(a, b) for a, b in zip(before, identifier.model.parameters(), strict=True))
    assert all(p.grad is None for p in identifier.model.parameters())


def test_ranks_of_absolute_scores_are_compared() -> None:
    one = np.array([1.0, -2.0, 3.0, -4.0])
    assert rank_correlation(one, -10 * one) == pytest.approx(1)
    assert rank_correlation(one, 1 / one) == pytest.approx(-1)
    assert rank_correlation(one, np.ones(4)) == 0.0
    tied, other = np.array([0.0, 0, 0, 2, 2, 5]), np.array([1.0, 0, 3, 2, 2, 4])
    assert rank_correlation(tied, other) == pytest.approx(spearmanr(tied, other).statistic)
    assert rank_correlation(one[:1], one[:1]) == 0.0


def test_the_clip_options_leave_nothing_to_chance() -> None:
    config = replace(SINGLE, test_dataset_cfg=ClipOptions(n_clips=1, data_augmentation=True, jitter_start=True))
    assert asking(Planted(rows(1)), config).clip_options == ClipOptions()


class Counted(Planted):
    """Counts the rolls it hears for their logits alone."""

    heard = 0

    def forward_features(self, rolls: torch.Tensor) -> torch.Tensor:
        self.heard += 0 if torch.is_grad_enabled() else len(rolls)
        return super().forward_features(rolls)


def test_only_what_is_told_is_heard_for_its_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    identifier = asking(Counted(rows(1, melody=64)), SINGLE)
    model = identifier.model
    assert isinstance(model, Counted)
    control = Counted(rows(1, melody=70))
    monkeypatch.setattr(attribution, "_randomised", lambda of: control)
    attribute(identifier, make_notes(3, seconds=91), PIANISTS[0])
    n_clips, at_once = 3, 4
    assert model.heard == n_clips * at_once + 1, "each clip's first rolls, and one empty roll for all"
    assert control.heard == 0, "nothing is told of how complete the controls are"


def ngram_identifier(seed: int = 0) -> tuple[Identifier, Notes]:
    """A model of n-grams that knows those of a piece, with weights of a seed; and the piece, off the grid."""
    clips = {"multichannel": False, "release_gap_s": 0.02}
    config = tiny_config(
        encoder_module="ngram",
        model_cfg={"vocabulary": 5000, "least_recordings": 1},
        train_dataset_cfg=clips,
        test_dataset_cfg=clips,
    )
    model = build_model(config.encoder_module, config.model_cfg, len(PIANISTS))
    notes = make_notes(seed, seconds=45)
    late_s = np.random.default_rng(seed).uniform(0, 0.1, len(notes))
    loose = Notes.from_arrays(notes.onsets_s + late_s, notes.offsets_s + late_s, notes.pitches, notes.velocities)
    pieces = split_into_clips(loose)
    rolls = [draw_clip(piece, config.test_dataset_cfg, evaluation_rng(piece)) for piece in pieces]
    model.study([(torch.from_numpy(np.stack(rolls)), np.arange(len(rolls)))])
    torch.manual_seed(seed)
    torch.nn.init.normal_(model.get_parameter("weight"))
    return asking(model, config), loose


def test_an_n_gram_model_s_scores_make_up_its_answer_exactly_by_concept() -> None:
    identifier, notes = ngram_identifier()
    found = attribute(identifier, notes, PIANISTS[0])
    assert found.completeness == pytest.approx(1, abs=1e-4)
    assert "n-grams" in found.method
    assert set(found.by_concept) == set(CONCEPTS) and not found.by_concept["dynamics"].any()
    assert np.allclose(np.sum(list(found.by_concept.values()), axis=0), found.scores)
    assert all(found.by_concept[concept].any() for concept in CONCEPTS[:3])
    # What a random model of the same n-grams marks is something else.
    assert abs(found.control) < 0.5
