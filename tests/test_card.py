"""The model card: every figure that was measured, nothing that was not, and what the model must not be used for."""

from typing import Any

from pianistid_core.card import card_text


def share(right: int, n: int) -> dict[str, Any]:
    return {"right": right, "n": n, "interval": [0.1, 0.9] if n else None}


FACTS: dict[str, Any] = {
    "weights": {"bytes": 9_400_000, "sha256": "ab" * 32},
    "config": {"encoder_module": "ngram"},
    "class_names": ["Ada", "Bela"],
    "epoch": 40,
    "made": {"date": "2026-11-27", "program": "pianistid 0.1.0", "command": "pianistid box make"},
    "calibration": {
        "n_recordings": 30,
        "part": "held out in 5 folds",
        "measured": {"ece": 0.0312, "candidates": 2.35, "bins": [[0.55, 5, 10]], "unknown": {"auroc": 0.8123}},
    },
    "measured": {
        "test": {
            "split": "20class_80min",
            "part": "test",
            "hears": ["melody", "harmony", "rhythm"],
            "recordings": share(24, 30),
            "clips": share(60, 100),
            "macro_recall": {"value": 0.7654, "interval": [0.6, 0.9]},
            "commonest": {"pianist": "Ada", **share(20, 30)},
            "concepts": {"melody": {"recordings": share(12, 30), "clips": share(30, 100)}},
            "per_pianist": [
                {"pianist": "Ada", "learned_from": 80, **share(18, 20), "named": 21, "alone": {"melody": 7}},
                {"pianist": "Be|la", "learned_from": 9, **share(0, 0), "named": 0, "alone": {"melody": 0}},
            ],
            "train": {"recordings": 1100, "clips": 4500},
        },
        "robustness": [{"variation": "tempo x 0.8", **share(20, 30), "same": 27}],
        "calibration": {
            "ece": 0.04,
            "coverage": 0.91,
            "candidates": 2.31,
            "bins": [[0.95, 19, 20]],
            "by_clips": [{"from": 1, "n_recordings": 9, "accuracy": 0.5, "coverage": 0.88, "candidates": 3.2}],
        },
        "expressive": {"train": share(0, 0), "held out": share(50, 68)},
    },
}


def test_every_figure_stands_with_its_interval() -> None:
    text = card_text("Two pianists", FACTS)
    for line in (
        "# Two pianists: model card",
        "It hears melody, harmony and rhythm, and not dynamics.",
        "| recordings named rightly | 0.800 [0.10, 0.90] | 24 of 30 |",
        "| 30 s clips named rightly | 0.600 [0.10, 0.90] | 60 of 100 |",
        "| mean recall of the pianists | 0.765 [0.60, 0.90] |  |",
        "| Ada | 80 | 20 | 0.900 [0.10, 0.90] | 18 of 21 | 7 of 20 |",
        "| Be/la | 9 | 0 | none tested | never named | 0 of 0 |",
        "| melody alone | 0.400 [0.10, 0.90] | 0.300 [0.10, 0.90] |",
        "Calibrated by 30 recordings (held out in 5 folds).",
        "On the test part:",
        "| how many candidates it names, on average | 2.3 |",
        "| 1 | 9 | 0.50 | 0.88 | 3.20 |",
        "| 0.95 | 0.95 | 20 |",
        "| tempo x 0.8 | 0.667 [0.10, 0.90] | 90 % |",
        "| of recordings held out | 0.735 [0.10, 0.90] | 50 of 68 |",
        "| SHA-256 | " + " ".join(4 * ["`" + "ab" * 8 + "`"]) + " |",
    ):
        assert line in text.splitlines(), line


def test_the_limits_are_those_of_the_data() -> None:
    text = card_text("Two pianists", FACTS)
    for words in ("1,100 recordings, 4,500 clips", "100 ms", "62 %", "transcriptions", "solo", "mostly male"):
        assert words in text, words
    assert "0.812" in text and "0.031" not in text
    other = {**FACTS, "measured": {"test": {**FACTS["measured"]["test"], "split": "mine"}}}
    assert "split `mine`: 1,100 recordings" in card_text("Mine", other)
    assert "100 ms" not in card_text("Mine", other)


def test_without_a_test_of_it_the_calibration_says_what_it_found_itself() -> None:
    text = card_text("Two pianists", {**FACTS, "measured": {}})
    assert "On a fifth of these at a time" in text and "| 0.55 | 0.50 | 10 |" in text and "0.031" in text


def test_what_nobody_measured_is_left_out_and_the_uses_are_always_said() -> None:
    text = card_text("Two pianists", {})
    assert "named rightly" not in text and "otherwise" not in text and "not calibrated" in text
    for words in ("not evidence of authorship or authenticity", "living musician", "CC BY-NC 4.0", "MIT"):
        assert words in text, words
