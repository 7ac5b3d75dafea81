"""What n-grams are called: notes, steps, chords, waits, as they stand in the music."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from pianistid_core.clips import ClipOptions, draw_clip
from pianistid_core.midi import Notes
from pianistid_core.models.moments import Moments
from pianistid_core.models.ngrams import FAMILIES, find
from pianistid_core.phrase_words import words

LINE = [(0, 2, 76), (2, 4, 75), (4, 5, 76), (5, 8, 71)]  # onset and offset in steps of 100 ms, MIDI pitch
CHORDS = [(0, 9, 48), (0, 4, 52), (0, 4, 59), (0, 4, 62), (4, 8, 53), (4, 8, 57), (4, 8, 60), (12, 14, 74)]


def moments_of(notes: Sequence[tuple[int, int, int]]) -> Moments:
    onsets, offsets, pitches = (np.array(column) for column in zip(*notes, strict=True))
    played = Notes.from_arrays(onsets / 10, offsets / 10, pitches, np.full(len(pitches), 80))
    rolls = draw_clip(played, ClipOptions(release_gap_s=0.02), np.random.default_rng(0))[np.newaxis]
    return Moments.of(torch.from_numpy(rolls))


def said(notes: Sequence[tuple[int, int, int]], family: str) -> list[str]:
    moments = moments_of(notes)
    return [
        words(found, at, moments)
        for found in find(moments)
        if found.family.name == family
        for at in range(len(found.codes))
    ]


@pytest.mark.parametrize(
    ("family", "told"),
    [
        ("interval3", "E5 E♭5 E5 B4 (down 1, up 1, down 5)"),
        ("pitch2", "E5 E♭5, at just this pitch"),
        ("skip1", "E5 E♭5 E5 (same past the note between)"),
        ("skip2", "E5 E♭5 E5 B4 (same, down 4 past the note between)"),
        ("skyline2", "E5 E♭5 E5 as the highest line of all (down 1, up 1)"),
        ("bass step1", "E5 E♭5 as lowest notes (down 1)"),
        ("bass2", "E5 E♭5 as lowest notes, at just this pitch"),
        ("key", "E5 struck, at just this pitch"),
        ("wait1", "a wait of 200 ms"),
        ("wait3", "waits of 200, 200, 100 ms"),
        ("single1", "E5 E♭5 among single notes (down 1)"),
        ("high2", "E5 E♭5 E5 as the top line from middle C up (down 1, up 1)"),
        ("count1", "1 key struck"),
        ("count3", "1, 1, 1 keys struck in turn"),
        ("count and wait2", "2 times in turn: 1 key, wait 200 ms"),
        ("length1", "a top note of 200 ms"),
        ("length3", "top notes lasting 200, 200, 100 ms"),
        ("length and wait1", "a top note of 200 ms, wait 200 ms"),
        ("low length and count1", "a lowest note of 200 ms, 1 key struck"),
        ("legato2", "top note 2 times in turn: held until the next"),
        ("note and wait", "a note of 200 ms, wait 200 ms"),
        ("note, wait and count", "a note of 200 ms, 1 key struck, wait 200 ms"),
        ("note between waits", "a note of 200 ms, the first of a clip, wait 200 ms"),
    ],
)
def test_a_line_is_told(family: str, told: str) -> None:
    assert said(LINE, family)[0] == told


@pytest.mark.parametrize(
    ("family", "told"),
    [
        ("chord under top", "C3 E3 B3 D4 struck together, on top"),
        ("chord over low", "C3 E3 B3 D4 struck together, at the bottom"),
        ("close chord over low", "C3 E3 struck together, at the bottom"),
        ("chord without top", "C3 E3 B3 struck together below a top note"),
        ("high chord2", "D4, then C4, all that is struck from middle C up"),
        ("pitch classes", "C E B D struck together, in whatever octaves"),
        ("interval up 1", "C3 E3 struck together (4 apart)"),
        ("interval up 2", "C3 B3 struck together with 1 key between (11 apart)"),
        ("interval at 3", "C3 D4 struck together with 2 keys between (14 apart), in this register"),
        ("held under top", "C3 held while C4 is struck on top"),
        ("held above low", "C3 held while F3 is struck, lowest of 3"),
        ("held under top at", "C3 held while C4 is struck on top, in this register"),
        ("pair", "C3 E3 struck together (4 apart), at just this pitch"),
        ("lead", "C3 F3 from chord to chord (up 5)"),
        ("lead at", "C3 F3 from chord to chord (up 5), in this register"),
        ("lead of keys", "C3 F3 from chord to chord (up 5), at just this pitch"),
        ("late lead", "D4 D5 from chord to chord (up 12 past the moment between)"),
        ("count2", "4, 3 keys struck in turn"),
        ("held and struck2", "4 keys struck over none held; 3 keys struck over 1 held"),
        ("low length1", "a lowest note of 900 ms"),
        ("wait2", "waits of 400, 800 ms"),
        ("wait3", "waits of 400, 800 ms, then the clip ends"),
        ("legato1", "top note held until the next"),
        ("legato2", "top note held until the next; let go 300 ms or more before the next"),
        ("note between waits", "a note of 800 ms or more, the first of a clip, wait 400 ms"),
    ],
)
def test_chords_are_told(family: str, told: str) -> None:
    assert said(CHORDS, family)[0] == told


def test_what_sounds_together_is_told() -> None:
    held = [(0, 20, 48), (0, 20, 52), (0, 20, 55), (8, 10, 64), (8, 10, 69)]
    assert said(held, "sounding classes") == [
        "C E G sounding together, in whatever octaves",
        "C E G A sounding together, in whatever octaves",
    ]


def test_long_times_and_the_end_of_a_clip_are_told_as_the_model_hears_them() -> None:
    slow = [(0, 30, 60), (40, 80, 60)]
    assert said(slow, "wait1") == ["a wait of 1200 ms or more", "the last notes of a clip"]
    assert said([*slow, (90, 110, 60)], "length3") == [f"top notes lasting {', '.join(['1200 ms or more'] * 3)}"]
    assert said(slow, "count and wait1") == ["1 key, wait 600 ms or more", "1 key, then the clip ends"]
    assert said(LINE, "note between waits")[1] == "a note of 200 ms, 200 ms after what was before, wait 200 ms"
    assert said(slow, "interval1") == ["C4 2 times in a row"]
    assert said(slow, "skyline2") == []
    assert said(slow, "bass step1") == ["C4 2 times in a row as lowest note"]
    assert said([(0, 2, 60), (2, 4, 60), (4, 6, 60)], "skyline2") == ["C4 3 times in a row as the highest line of all"]


def test_many_keys_are_counted_as_far_as_the_model_counts() -> None:
    many = [(0, 4, 40 + n) for n in range(10)] + [(2, 4, 80)]
    assert said(many, "count2") == ["6 or more, 1 keys struck in turn"]
    assert said(many, "held and struck1")[1] == "1 key struck over 9 or more held"
    assert said(many, "chord over low")[0] == "E2 F2 F♯2 G2 A♭2 A2 B♭2 B2 … C♯3 struck together, at the bottom"


def test_contours_are_told_in_words() -> None:
    assert said([(2 * n, 2 * n + 2, pitch) for n, pitch in enumerate((60, 62, 62, 66, 59, 80))], "contour4") == [
        "C4 D4 D4 F♯4 B3 (step up, repeated, third up, leap down)",
        "D4 D4 F♯4 B3 A♭5 (repeated, third up, leap down, wide leap up)",
    ]


def test_every_family_has_words_for_all_it_finds() -> None:
    rng = np.random.default_rng(3)
    music = [(int(at), int(at + rng.integers(1, 30)), int(rng.integers(40, 80))) for at in rng.integers(0, 60, 150)]
    told = {family.name: said(sorted(set(music)), family.name) for family in FAMILIES}
    assert all(told.values()), [name for name, some in told.items() if not some]
    for some in told.values():
        assert all(one and "\n" not in one and len(one) < 300 for one in some)
