"""Deletion curves: notes that a planted model rests on bring its answer down, and no others do."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pianistid_core.attribution import attribute
from pianistid_core.checkpoints import LoadedModel
from pianistid_core.deletion import MEASURES, ORDERS, SHARES, Deletion, delete, pooled
from pianistid_core.errors import ExtractionError, ModelError
from pianistid_core.identify import Identifier
from pianistid_core.midi import Notes
from pianistid_core.models import PianistModel, build_model
from tiny import PIANISTS, make_notes, tiny_config

CPU = torch.device("cpu")
SINGLE = tiny_config(
    encoder_module="compact",
    model_cfg={"frame_pool": 50, "stem_width": 4, "width": 8},
    train_dataset_cfg={},
    test_dataset_cfg={},
)


class HearsOnePitch(PianistModel):
    """Gives the first pianist a logit for how much one pitch sounds, the others none."""

    def __init__(self, pitch: int, weight: float = 0.003) -> None:
        super().__init__(in_channels=1, num_classes=3, feature_size=1, frame_pool=1)
        self.row, self.weight = pitch - 21, torch.nn.Parameter(torch.tensor([weight]))

    def forward_features(self, rolls: torch.Tensor) -> torch.Tensor:
        return rolls[:, 0, self.row].sum(dim=1, keepdim=True) * self.weight

    def head(self, features: torch.Tensor) -> torch.Tensor:
        return torch.cat([features, torch.zeros_like(features), torch.zeros_like(features)], dim=1)


def asking(model: PianistModel) -> Identifier:
    return Identifier(LoadedModel(model.eval(), SINGLE, PIANISTS, Path("planted.pth"), 1), CPU)


@pytest.fixture(scope="module")
def planted() -> tuple[Identifier, Notes]:
    return asking(HearsOnePitch(64)), make_notes(3, seconds=95)


@pytest.fixture(scope="module")
def found(planted: tuple[Identifier, Notes]) -> Deletion:
    identifier, notes = planted
    return delete(identifier, notes, attribute(identifier, notes, PIANISTS[0]))


def test_what_the_answer_rests_on_brings_it_down(found: Deletion, planted: tuple[Identifier, Notes]) -> None:
    identifier, notes = planted
    whole = identifier.identify(notes, concepts=False).probabilities[PIANISTS[0]]
    share_of_64 = float((notes.pitches == 64).mean())
    assert found.n_clips == 3 and found.skipped == 0 and found.shares == SHARES
    for order in ORDERS:
        assert found.curve(order).mean[0] == pytest.approx(whole), "all notes are there at first"
    highest, lowest = found.curve("highest").mean, found.curve("lowest").mean
    gone = [share for share in SHARES if share > share_of_64 + 0.02]
    assert gone and highest[SHARES.index(gone[0]) :] == pytest.approx(1 / 3), "every note that it hears has gone"
    assert (np.diff(highest) <= 1e-12).all()
    assert lowest == pytest.approx(whole), "what it does not hear can go"
    assert found.area("lowest").value > found.area("random").value > 0.1
    assert found.ahead_of_draws() == found.n_draws == 5 and found.told
    assert "lowers the answer faster than deleting random ones" in found.words()[0]
    assert "unlike any that a model learned from" in found.words()[1]


def test_log_odds_are_the_logit_less_that_of_the_others(found: Deletion) -> None:
    probability, log_odds = (found.curve("highest", measure).mean for measure in MEASURES)
    assert log_odds[-1] == pytest.approx(np.log(0.5)) and probability[-1] == pytest.approx(1 / 3)
    one_clip = found.curves["highest"][0, 0]
    assert one_clip[:, 1] == pytest.approx(np.log(one_clip[:, 0] / (1 - one_clip[:, 0])))


def test_scores_that_mean_nothing_are_told_from_those_that_do(planted: tuple[Identifier, Notes]) -> None:
    identifier, notes = planted
    known = attribute(identifier, notes, PIANISTS[0])
    guessed = replace(known, scores=np.random.default_rng(1).normal(size=len(notes)))
    found = delete(identifier, notes, guessed)
    assert not found.told and abs(found.area().value) < 0.1
    assert "does not lower the answer reliably faster" in found.words()[0]
    turned = delete(identifier, notes, replace(known, scores=-known.scores))
    assert turned.area().value < 0 and not turned.told and "higher on average" in turned.words()[0]


def test_a_model_that_hardly_listens_is_not_said_to_rest_on_its_notes() -> None:
    found = delete(asking(HearsOnePitch(64, weight=1e-6)), make_notes(3, seconds=31))
    assert found.ahead_of_draws() == found.n_draws and 0 < found.area().value < 0.005
    assert not found.told and "0.0 points of probability lower" in found.words()[0]


def test_louder_and_longer_notes_are_no_explanation() -> None:
    """A ranking that only knows how much of the roll a note fills is what "most painted" stands for."""
    notes = make_notes(3, seconds=31)
    velocities = np.where(notes.pitches == 64, 30, 100).astype(np.uint8)
    quiet = Notes(notes.onsets_s, notes.offsets_s, notes.pitches, velocities)
    found = delete(asking(HearsOnePitch(64)), quiet)
    assert found.area("most painted").value > 0
    assert found.curve("most painted").mean[1] == pytest.approx(found.curve("most painted").mean[0])


def test_clips_pool_and_few_have_no_interval(found: Deletion) -> None:
    assert found.area().interval is None, "three clips"
    twice = pooled([found, found])
    assert twice.n_clips == 6 and twice.area().value == pytest.approx(found.area().value)
    interval = twice.area().interval
    assert interval is not None and interval[0] <= twice.area().value <= interval[1]
    curve = twice.curve("random")
    assert (curve.low <= curve.mean + 1e-12).all() and (curve.mean <= curve.high + 1e-12).all()
    assert "95 % interval over 6 clips" in twice.words()[0]
    with pytest.raises(ModelError, match="no deletion curves"):
        pooled([])


def test_where_chords_run_out_the_curves_end() -> None:
    """The longest notes of this music are its chords, which are gone before most notes are."""
    torch.manual_seed(1)
    config = tiny_config(
        model_cfg={"compact_encoders": True, "compact_stem": 4, "compact_width": 8, "frame_pool": 50, "use_gru": False}
    )
    model = build_model(config.encoder_module, config.model_cfg, 3).eval()
    identifier = Identifier(LoadedModel(model, config, PIANISTS, Path("blank.pth"), 1), CPU)
    notes = make_notes(1, seconds=31)
    known = replace(attribute(identifier, notes, PIANISTS[0]), scores=np.arange(len(notes), dtype=np.float64))
    short = delete(identifier, notes, known, draws=1)
    assert 2 <= len(short.shares) < len(SHARES) and short.shares == SHARES[: len(short.shares)]
    assert short.curves["random"].shape == (1, 1, len(short.shares), 2) and short.skipped == 0
    assert len(short.curve("highest").mean) == len(short.to_dict()["shares_deleted"]) == len(short.shares)
    whole = Deletion({order: np.zeros((2, 1, len(SHARES), 2)) for order in ORDERS}, skipped=1)
    together = pooled([short, whole])
    assert together.n_clips == 2 and together.skipped == 2 and together.shares == SHARES, "over those that go furthest"


def test_a_few_clips_stand_for_many_and_the_same_notes_go_each_time(planted: tuple[Identifier, Notes]) -> None:
    identifier, notes = planted
    known = attribute(identifier, notes, PIANISTS[0])
    seen: list[tuple[int, int]] = []
    one = delete(identifier, notes, known, most_clips=2, draws=2, progress=lambda *at: seen.append(at))
    again = delete(identifier, notes, known, most_clips=2, draws=2)
    assert one.n_clips == 2 and seen == [(0, 2), (1, 2)] and one.n_draws == 2
    assert all(np.array_equal(one.curves[order], again.curves[order]) for order in ORDERS)


def test_it_is_plain_data(found: Deletion) -> None:
    import json

    data = json.loads(json.dumps(found.to_dict()))
    assert data["areas"]["probability"]["random"]["value"] == pytest.approx(found.area().value)
    assert len(data["curves"]["log odds"]["highest"]["mean"]) == len(SHARES)
    assert len(data["areas"]["probability"]["lowest"]["clips"]) == 3 and data["told"] is True


def test_what_cannot_be_asked_is_refused(planted: tuple[Identifier, Notes]) -> None:
    identifier, notes = planted
    known = attribute(identifier, notes, PIANISTS[0])
    with pytest.raises(ModelError, match="scores came for"):
        delete(identifier, make_notes(3, seconds=31), known)
    with pytest.raises(ModelError, match="at least 1"):
        delete(identifier, notes, known, draws=0)
    inaudible = Notes(notes.onsets_s, notes.offsets_s, np.full(len(notes), 120, np.uint8), notes.velocities)
    with pytest.raises(ExtractionError):
        delete(identifier, inaudible, known)
