"""What a calibration gives: probabilities, candidates, "none of these", and plain data that is checked at the door."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from pianistid_core.calibration import VERDICTS, Calibration, lead, verdict_of
from pianistid_core.errors import CheckpointError
from pianistid_core.manner import NAMES, Range, Remark, Usual

USUAL = Usual({name: Range(1.0, 5.0, 9.0) for name in NAMES}, grid_s=0.1, written=0.0, n_clips=7)
MINE = Calibration(
    temperature=2.0,
    power=1.5,
    growth=0.2,
    thresholds=((1, 0.05), (4, 0.2)),
    leads=((1, (0.0, 1.0, 3.0)), (2, (1.0, 2.0, 4.0))),
    shares=(0.01, 0.05, 1.0),
    part="validation",
    n_recordings=50,
    usual=USUAL,
    measured={"ece": 0.03},
)
LOGITS = nps.arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 9)), elements=st.floats(-300, 300))


@given(LOGITS)
def test_probabilities_add_up_and_one_clip_is_a_recording_of_one(logits: np.ndarray[Any, Any]) -> None:
    of_recording, of_clips = MINE.of_recording(logits), MINE.of_clips(logits)
    assert of_recording.shape == logits.shape[1:] and of_clips.shape == logits.shape
    assert of_recording.sum() == pytest.approx(1) and (of_recording >= 0).all()
    np.testing.assert_allclose(of_clips[0], MINE.of_recording(logits[:1]), atol=1e-12)


@given(LOGITS)
def test_the_likeliest_is_always_a_candidate_and_candidates_come_in_order(logits: np.ndarray[Any, Any]) -> None:
    shares = MINE.of_recording(logits)
    found = MINE.candidates(shares, len(logits))
    assert shares[found[0]] == shares.max()
    assert [shares[k] for k in found] == sorted((shares[k] for k in found), reverse=True)
    least = 0.2 if len(logits) >= 4 else 0.05
    assert set(found) == {found[0]} | {k for k, share in enumerate(shares) if share >= least}


def test_the_order_of_clips_and_what_all_logits_share_change_nothing() -> None:
    logits = np.random.default_rng(0).normal(size=(5, 4))
    np.testing.assert_allclose(MINE.of_recording(logits), MINE.of_recording(logits[::-1] + 7))
    stacked = np.stack([logits, 2 * logits])
    np.testing.assert_allclose(MINE.of_recording(stacked)[1], MINE.of_recording(2 * logits))


def test_more_clips_that_agree_make_surer() -> None:
    one = np.array([[1.0, 0.0, 0.0]])
    assert MINE.of_recording(np.repeat(one, 8, axis=0)).max() > MINE.of_recording(one).max()
    assert replace(MINE, growth=0.0).of_recording(np.repeat(one, 8, axis=0)).max() == pytest.approx(
        replace(MINE, growth=0.0).of_recording(one).max()
    )


@given(st.floats(-10, 10), st.floats(-10, 10))
def test_a_greater_lead_is_never_less_familiar(first: float, second: float) -> None:
    low, high = (MINE.unknown([[0.0, 0.0, size]]) for size in sorted((abs(first), abs(second))))
    assert low is not None and high is not None and 0 <= low.familiarity <= high.familiarity <= 1


def test_who_is_nobody_known() -> None:
    assert lead([[0.0, 3.0], [0.0, 1.0]]) == 1.0
    for height, verdict in ((-1.0, VERDICTS[2]), (0.4, VERDICTS[1]), (2.0, VERDICTS[0])):
        logits = np.zeros((1, 3)) if height < 0 else np.array([[0.0, 0.0, 1.5 * height]])
        found = MINE.unknown(logits - 1e-9)
        assert found is not None and found.verdict == (verdict if height > 0 else verdict_of(found.familiarity))
    assert [verdict_of(share) for share in (0.5, 0.05, 0.049, 0.01, 0.009)] == [
        VERDICTS[0], VERDICTS[0], VERDICTS[1], VERDICTS[1], VERDICTS[2],
    ]  # fmt: skip
    assert replace(MINE, leads=()).unknown([[0.0, 1.0]]) is None


def test_what_is_unusual_speaks_against_everybody() -> None:
    sure = [[0.0, 0.0, 30.0]]

    def verdict(*about: str) -> str:
        found = MINE.unknown(sure, [Remark(name, "") for name in about])
        assert found is not None and found.familiarity == 1
        return found.verdict

    assert verdict() == verdict("low") == VERDICTS[0]
    assert verdict("grid") == verdict("low", "high") == VERDICTS[1]
    assert verdict("low", "high", "chords") == VERDICTS[2]


def test_it_comes_back_from_json_as_it_was() -> None:
    assert Calibration.from_dict(json.loads(json.dumps(MINE.to_dict()))) == MINE
    bare = replace(MINE, usual=None, leads=(), measured={})
    assert Calibration.from_dict(json.loads(json.dumps(bare.to_dict()))) == bare


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 2),
        ("temperature", 0),
        ("temperature", "hot"),
        ("temperature", float("nan")),
        ("power", -1.0),
        ("growth", 9.0),
        ("coverage", 1.0),
        ("thresholds", []),
        ("thresholds", [[2, 0.1]]),
        ("thresholds", [[1, 0.1], [1, 0.2]]),
        ("thresholds", [[1, 1.5]]),
        ("thresholds", [[True, 0.1]]),
        ("thresholds", 3),
        ("shares", [0.5, 0.1, 1.0]),
        ("leads", [[1, [0.0]]]),
        ("leads", [[1, [2.0, 1.0, 3.0]]]),
        ("leads", [[1, [0.0, 1.0, float("inf")]]]),
        ("usual", {"format": 1, "ranges": {}}),
        ("usual", 7),
        ("measured", 3),
        ("n_recordings", -1),
        ("growth", None),
    ],
)
def test_what_cannot_be_is_refused_with_its_source(key: str, value: object) -> None:
    data = {**json.loads(json.dumps(MINE.to_dict())), key: value}
    with pytest.raises(CheckpointError, match=r"checkpoint_3.*calibrate the model again"):
        Calibration.from_dict(data, source="checkpoint_3")
    without = {name: kept for name, kept in data.items() if name != key}
    if key in ("temperature", "thresholds", "leads", "shares"):
        with pytest.raises(CheckpointError):
            Calibration.from_dict(without)


@pytest.mark.parametrize("data", [None, 3, [], "x", {}])
def test_what_is_no_calibration_is_refused(data: object) -> None:
    with pytest.raises(CheckpointError, match="calibrate"):
        Calibration.from_dict(data)
