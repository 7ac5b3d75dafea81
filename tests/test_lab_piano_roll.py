"""What the piano-roll player is given: plain numbers and text, whatever the music."""

import json
from dataclasses import replace

import numpy as np
import pytest

from components.piano_roll import (
    Band,
    Layer,
    Moments,
    Roll,
    Verdict,
    clip_roll,
    concept_layers,
    performance_roll,
    player_data,
)
from components.piano_sound import layout
from pianistid_core.midi import Notes


def music(n: int, spacing_s: float = 0.25, chords: bool = True) -> Notes:
    onsets = np.repeat(np.arange(n) * spacing_s, 3 if chords else 1)
    pitches = np.tile([48, 55, 64] if chords else [60], n)
    return Notes.from_arrays(onsets, onsets + 0.2, pitches, 40 + np.arange(len(onsets)) % 80)


def test_a_clip_as_played_and_by_concept() -> None:
    roll, missing = clip_roll(music(200), "a clip")
    assert missing is None
    assert [layer.name for layer in roll.layers] == ["As played", "Melody", "Harmony", "Rhythm", "Dynamics"]
    assert roll.duration_s == 30.0
    assert max(layer.starts_s.max() for layer in roll.layers) <= 30.0, "the padding is left out"


def test_music_without_chords_lacks_harmony_and_says_so() -> None:
    layers, missing = concept_layers(music(50, chords=False))
    assert [layer.name for layer in layers] == ["Melody", "Rhythm", "Dynamics"]
    assert missing is not None and "no chords" in missing


def test_a_performance_has_its_concepts_clip_by_clip() -> None:
    roll = performance_roll(music(400), "a piece")
    assert roll.duration_s == pytest.approx(99.95)
    melody = roll.layers[1]
    assert melody.name == "Melody"
    assert melody.starts_s.min() == 0.0
    assert 60.0 <= melody.starts_s.max() < 90.0, "three clips of 30 s, one after another"


def test_the_browser_gets_plain_json_in_order() -> None:
    roll = performance_roll(music(200), "![x](y) <b>", [Band(0, 30, "Ada", 1, 3.0), Band(30, 50, "Bela", 2, 0.0)])
    data = json.loads(json.dumps(player_data(roll), allow_nan=False))
    for layer in data["layers"]:
        assert layer["s"] == sorted(layer["s"]), "the player schedules notes in order"
        assert len(layer["s"]) == len(layer["e"]) == len(layer["p"]) == len(layer["v"])
    assert [band["strength"] for band in data["bands"]] == [1.0, 0.12]
    assert data["label"] == "![x](y) <b>", "the player sets it as text"


def test_other_notes_are_another_piece() -> None:
    one, two = performance_roll(music(30), "same"), performance_roll(music(31), "same")
    assert player_data(one)["piece"] == player_data(performance_roll(music(30), "same"))["piece"]
    assert player_data(one)["piece"] != player_data(two)["piece"]


def test_no_notes_at_all() -> None:
    none = np.array([])
    data = player_data(Roll("silence", 1.0, [Layer("As played", none, none, none, none)]))
    assert data["layers"][0]["s"] == []


def test_scores_come_as_thousandths_of_what_most_notes_reach() -> None:
    played = performance_roll(music(60), "a piece").layers[0]
    n = len(played.starts_s)
    scores = np.linspace(-1, 1, n)
    scores[0] = -50.0  # one note far beyond the others must not turn those grey
    data = player_data(Roll("a piece", 15.0, [replace(played, scores=scores, poles=("against Ada", "for Ada"))]))
    sent = data["layers"][0]["w"]
    assert len(sent) == n
    assert (min(sent), max(sent)) == (-1000, 1000)
    assert sent[n // 4] < -400
    assert data["layers"][0]["poles"] == ["against Ada", "for Ada"]
    quiet = player_data(Roll("a piece", 15.0, [replace(played, scores=np.zeros(n))]))
    assert set(quiet["layers"][0]["w"]) == {0}


def test_who_is_heard_when_goes_to_the_browser_whole() -> None:
    shares = np.array([[0.7, 0.3], [0.25, 0.75]])
    moments = Moments([(0, 30), (10, 40)], ["Ada <b>", "Bela"], [0, "#ff0000"], shares, {"Melody": shares[::-1]}, True)
    roll = replace(performance_roll(music(160), "a piece"), moments=moments, verdict=Verdict("Ada <b>", 0.61, "Bela"))
    data = json.loads(json.dumps(player_data(roll), allow_nan=False))
    assert data["moments"]["shares"] == [[700, 300], [250, 750]]
    assert data["moments"]["concepts"] == {"Melody": [[250, 750], [700, 300]]}
    assert (data["moments"]["starts"], data["moments"]["ends"]) == ([0, 10000], [30000, 40000])
    assert data["verdict"] == {"name": "Ada <b>", "share": 0.61, "truth": "Bela", "unlike": False}
    assert player_data(performance_roll(music(160), "a piece"))["moments"] is None


def test_what_is_known_later_leaves_the_piece_the_same() -> None:
    roll = performance_roll(music(160), "a piece")
    later = replace(roll, layers=[*roll.layers, replace(roll.layers[0], name="Notes that mattered")])
    assert player_data(later)["piece"] == player_data(roll)["piece"], "the music plays on"


def test_the_samples_are_described_to_the_player() -> None:
    data = player_data(performance_roll(music(30), "a piece"), bank=layout())
    assert len(data["bank"]) == 30
    assert all(len(sample) == 3 for sample in data["bank"])
