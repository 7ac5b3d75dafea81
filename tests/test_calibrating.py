"""Fitting a calibration: what it promises holds on recordings that it has not seen, and its measures are right."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pianistid_core import calibrating
from pianistid_core.calibrating import (
    HeldOut,
    auroc,
    conformal_threshold,
    cross_measured,
    expected_calibration_error,
    fit,
    measure,
    reliability,
)
from pianistid_core.calibration import Calibration
from pianistid_core.errors import DataError

PIANISTS = 6


def heard(seed: int, recordings: int, *, scale: float = 0.4, first: int = 0) -> HeldOut:
    """Logits as of a model that is right now and then, and far less sure than it could be: its scale is too small.

    What is wrong with a recording is wrong with all its clips in part, so that ten clips are not ten witnesses.
    """
    rng = np.random.default_rng(seed)
    logits, labels, numbers = [], [], []
    for number in range(recordings):
        label, n = int(rng.integers(PIANISTS)), int(rng.choice([1, 1, 2, 3, 5, 9]))
        common = rng.normal(size=PIANISTS)
        clips = 2.2 * np.eye(PIANISTS)[label] + common + 0.8 * rng.normal(size=(n, PIANISTS))
        logits.append(scale * clips)
        labels += [label] * n
        numbers += [first + number] * n
    return HeldOut(np.concatenate(logits), np.array(labels), np.array(numbers))


@pytest.fixture(scope="module")
def fitted() -> Any:
    return fit(*heard(0, 800))


def test_what_it_says_holds_on_recordings_that_it_has_not_seen(fitted: Any) -> None:
    new = heard(201, 1500)
    raw = np.exp(new.logits) / np.exp(new.logits).sum(axis=1, keepdims=True)
    found = measure(fitted, new)
    assert expected_calibration_error(raw.max(axis=1), raw.argmax(axis=1) == new.labels) > 0.2
    assert found["ece"] < 0.05 and found["ece_clips"] < 0.05
    assert 0.87 <= found["coverage"] <= 0.94 and found["candidates"] < 3
    assert 0.02 <= found["false_alarms"] <= 0.09
    for row in found["by_clips"]:
        assert row["coverage"] > 0.83, row
    assert [row["from"] for row in found["by_clips"]] == [1, 2, 4, 8]
    assert sum(n for _, _, n in found["bins"]) == found["n_recordings"] == 1500


def test_what_it_measured_is_not_of_what_it_was_fitted_on(fitted: Any) -> None:
    assert fitted.n_recordings == 800 and fitted.measured["n_recordings"] == 800
    assert fitted.measured["ece"] == cross_measured(heard(0, 800))["ece"] != measure(fitted, heard(0, 800))["ece"]


def test_nothing_is_measured_on_what_it_was_fitted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    held, seen = heard(6, 40), []
    real = calibrating._outcomes

    def watched(calibration: Calibration, new: HeldOut) -> Any:
        seen.append((calibration.n_recordings, set(new.recordings.tolist())))
        return real(calibration, new)

    monkeypatch.setattr(calibrating, "_outcomes", watched)
    cross_measured(held)
    assert all(n + len(new) == 40 for n, new in seen) and len(set().union(*(new for _, new in seen))) == 40
    assert sum(len(new) for _, new in seen) == 40


def test_the_same_recordings_under_other_numbers_and_in_another_order_fit_as_well() -> None:
    held = heard(2, 60)
    order = np.random.default_rng(0).permutation(len(held.labels))
    one, other = fit(*held), fit(held.logits[order], held.labels[order], 7 * held.recordings[order])
    # Which clips of a recording are drawn is chance, and nothing else.
    assert one.power == pytest.approx(other.power, rel=0.25)
    assert one.thresholds[0][1] == pytest.approx(other.thresholds[0][1], abs=0.05)


def test_who_is_nobody_known_is_told_from_the_known(fitted: Any) -> None:
    rng = np.random.default_rng(5)
    known = [fitted.unknown(held.logits[rows]).familiarity for held in [heard(3, 200)] for _, rows in held.rows()]
    nobody = [fitted.unknown(0.4 * rng.normal(size=(3, PIANISTS))).familiarity for _ in range(200)]
    assert auroc(known, nobody) > 0.8 and np.mean(np.array(nobody) < 0.05) > 0.2


def test_a_short_piece_has_more_candidates(fitted: Any) -> None:
    assert [clips for clips, _ in fitted.thresholds] == [1, 2, 4, 8]
    shares = np.array([0.5, 0.3, 0.1, 0.06, 0.03, 0.01])
    assert len(fitted.candidates(shares, 1)) >= len(fitted.candidates(shares, 9))


def test_a_model_that_is_always_right_or_knows_nothing_can_be_calibrated_too() -> None:
    labels = np.arange(60) % 3
    always = fit(5 * np.eye(3)[labels], labels, np.arange(60))
    assert always.measured["ece"] < 0.01 and always.measured["candidates"] == 1
    blind = fit(np.random.default_rng(0).normal(size=(60, 3)), labels, np.arange(60))
    assert blind.of_recording([[3.0, 0.0, 0.0]]).max() < 0.6 and blind.measured["ece"] < 0.25
    same = fit(np.zeros((60, 3)), labels, np.arange(60))
    assert same.of_recording([[0.0, 0.0, 0.0]]) == pytest.approx(np.full(3, 1 / 3))


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_the_threshold_is_reached_as_often_as_promised(coverage: float) -> None:
    rng = np.random.default_rng(0)
    hits = [rng.random() >= conformal_threshold(rng.random(19), coverage) for _ in range(3000)]
    assert np.mean(hits) == pytest.approx(coverage, abs=0.025)


def test_too_few_recordings_promise_everybody() -> None:
    assert conformal_threshold([0.9] * 8, 0.9) == 0 and conformal_threshold([0.9] * 9, 0.9) == 0.9
    assert conformal_threshold([0.9] * 8 * 4, 0.9, per_recording=4) == 0


# --- measures --------------------------------------------------------------------------------------------------------


def test_the_calibration_error_by_hand() -> None:
    sure, right = [0.95, 0.95, 0.55, 0.55], [True, False, True, True]
    assert [tuple(one) for one in reliability(sure, right)] == [(0.55, 2, 2), (0.95, 1, 2)]
    assert expected_calibration_error(sure, right) == pytest.approx((0.45 + 0.45) / 2)
    assert expected_calibration_error([1.0, 1.0], [True, True]) == 0
    assert math.isnan(expected_calibration_error([], []))


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1))
def test_every_prediction_is_in_one_range(pairs: list[tuple[float, bool]]) -> None:
    sure, right = zip(*pairs, strict=True)
    bins = reliability(sure, right)
    assert sum(one.n for one in bins) == len(pairs) and sum(one.right for one in bins) == sum(right)
    assert [one.confidence for one in bins] == sorted(one.confidence for one in bins)
    assert 0 <= expected_calibration_error(sure, right) <= 1


@given(st.lists(st.integers(0, 5), min_size=1), st.lists(st.integers(0, 5), min_size=1))
def test_auroc_is_the_share_of_pairs_in_order(known: list[int], unknown: list[int]) -> None:
    pairs = [(a > b) + (a == b) / 2 for a in known for b in unknown]
    assert auroc(known, unknown) == pytest.approx(np.mean(pairs))
    assert auroc(known, unknown) == pytest.approx(1 - auroc(unknown, known))
    assert math.isnan(auroc([], unknown)) and math.isnan(auroc(known, []))


@pytest.mark.parametrize(
    ("logits", "labels", "recordings", "words"),
    [
        (np.zeros((40, 3)), np.zeros(40, int), np.arange(40) % 19, "19 recordings are too few"),
        (np.zeros((40, 3)), np.zeros(39, int), np.arange(40), r"logits \(n, K\)"),
        (np.zeros(40), np.zeros(40, int), np.arange(40), r"logits \(n, K\)"),
        (np.full((40, 3), np.nan), np.zeros(40, int), np.arange(40), "finite"),
        (np.zeros((40, 3)), np.full(40, 3), np.arange(40), "labels lie in"),
    ],
)
def test_what_cannot_be_fitted_is_said(logits: Any, labels: Any, recordings: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        fit(logits, labels, recordings)
