"""The report: one file that needs nothing else, says what was found, and takes foreign text as text."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from pianistid_core.attribution import Attribution
from pianistid_core.calibration import VERDICTS, Unknown
from pianistid_core.concepts import CONCEPTS
from pianistid_core.evaluation import CONCEPT_SUBSETS
from pianistid_core.identify import ClipResult, Identification, SkippedClip
from pianistid_core.midi import Notes
from pianistid_core.neighbours import Familiarity, Neighbour
from pianistid_core.phrases import Phrase
from pianistid_core.report import identification_html
from pianistid_core.report.parts import MAX_DRAWN_NOTES, clock, percent, text
from tiny import make_notes

EVIL = "<script>alert(1)</script>\"'&\u202e<img src=x onerror=1>"
PAIR = {"Ada Even": 0.7, "Ben Cluster": 0.3}


def found(names: dict[str, float] = PAIR, *, factorised: bool = True, clips: int = 2) -> Identification:
    return Identification(
        probabilities=names,
        clips=tuple(ClipResult(30.0 * i, 30.0 * (i + 1), names) for i in range(clips)),
        concepts=dict.fromkeys(CONCEPT_SUBSETS, names) if factorised else {},
        skipped=(SkippedClip(60, 90, "no chords in the clip"),),
        warnings=("All notes are equally loud, so dynamics say nothing here.",),
        model="demo/demo, checkpoint_012.pth",
        duration_s=61.0,
        n_notes=300,
        silence=dict.fromkeys(names, 1 / len(names)) if factorised else {},
    )


def attribution(notes: Notes, *, informative: bool = True) -> Attribution:
    scores = np.linspace(-1, 1, len(notes))
    words = ("A note's score says how much it spoke: an association, not a proof.",)
    return Attribution("Ada Even", scores, {"melody": scores}, 0.1, 0.6, 0.98, informative, words)


NEIGHBOUR = Neighbour("demo/some-track", "Ben Cluster", 0.913, Path("/data/clip_001.mid"))


class _Seen(HTMLParser):
    """The tags, attributes and text of a page; fails on tags that do not match."""

    VOID = frozenset({"meta", "br", "path", "rect"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(page)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data + " "


def test_everything_that_was_found_is_on_the_page() -> None:
    notes = make_notes(1)
    page = identification_html(
        "solo.mid", notes, found(), attribution=attribution(notes), neighbours=[NEIGHBOUR],
        familiarity=Familiarity(0.9, 0.8, False, "This music is like what the model knows."),
    )  # fmt: skip
    seen = _Seen(page)
    for expected in (
        "solo.mid", "Ada Even", "70 %", "Ben Cluster", "30 %", "equally loud", "exact Shapley values", "No harmony",
        "All fifteen subsets", "Which notes mattered", "not a proof", "demo/some-track", "0.91", "clip_001.mid",
        "like what the model knows", "no chords in the clip", "checkpoint_012.pth", "How to read this", "association",
    ):  # fmt: skip
        assert expected in seen.words, expected
    assert seen.tags.count("svg") == 2 and all(value for name, value in seen.attributes if name == "aria-label")
    assert page == identification_html(
        "solo.mid", notes, found(), attribution=attribution(notes), neighbours=[NEIGHBOUR],
        familiarity=Familiarity(0.9, 0.8, False, "This music is like what the model knows."),
    )  # fmt: skip


def test_phrases_that_told_have_their_part_where_there_are_any() -> None:
    lick = Phrase(
        "melody", "interval3", "E5 E♭5 <E5> B4 (down 1, up 1, down 5)", 0.4, 0.123, 5, (1.0, 1.4, 65.0, 70, 75), (1,), 9
    )
    wait = Phrase("rhythm", "wait1", "a wait of 200 ms", -0.2, 0.05, 1, (12.0,), (3, 4), 1)
    page = identification_html("solo.mid", make_notes(1), found(), phrases=(lick, wait))
    seen = _Seen(page)
    for expected in (
        "Phrases that told",
        "E5 E♭5 <E5> B4 (down 1",
        "+12.3\N{NO-BREAK SPACE}%",
        "0:01, 1:05, 1:10, …",
        "0:12",
        "A wait of 200",
    ):
        assert expected in seen.words, expected
    assert "\N{MINUS SIGN}5.0\N{NO-BREAK SPACE}%" in seen.words and "exact" in seen.words and "&lt;E5&gt;" in page
    assert "Phrases that told" not in identification_html("solo.mid", make_notes(1), found())


def test_what_is_not_heard_is_said_and_drawn_nowhere() -> None:
    deaf = replace(found(), hears=CONCEPTS[:3])
    words = _Seen(identification_html("a", make_notes(1), deaf)).words
    assert "Dynamics: not heard by this model." in words
    assert "All seven subsets" in words and "having heard all three concepts" in words
    assert "No dynamics" not in words and "No rhythm" in words
    assert "not heard by this model" not in identification_html("a", make_notes(1), found())


def test_a_calibrated_answer_says_what_it_is_worth() -> None:
    sure = replace(found(), candidates=("Ada Even", "Ben Cluster"), coverage=0.9, unknown=Unknown(0.5, VERDICTS[0]))
    words = _Seen(identification_html("a", make_notes(1), sure)).words
    assert "One of: Ada Even, Ben Cluster (right 9 times in 10)." in words and "calibrated" in words
    assert "none of the" not in words and "not how often such an answer is right" not in words
    nobody = replace(sure, unknown=Unknown(0.004, VERDICTS[2]), remarks=("It is too quick.",))
    page = identification_html("a", make_notes(1), nobody)
    assert "<h1>Probably none of these 2</h1>" in page and "Most like Ada Even" in page
    assert "fewer than 1 would sound as little like" in page and "It is too quick." in page
    perhaps = replace(sure, unknown=Unknown(0.03, VERDICTS[1]))
    assert "<h1>Ada Even?</h1>" in identification_html("a", make_notes(1), perhaps)


def test_nothing_is_run_or_fetched() -> None:
    notes = make_notes(1)
    page = identification_html("solo.mid", notes, found(), attribution=attribution(notes), neighbours=[NEIGHBOUR])
    seen = _Seen(page)
    assert not {"script", "link", "img", "iframe", "object", "form", "base", "a"} & set(seen.tags)
    assert not {name for name, _ in seen.attributes if name.startswith("on") or name in ("src", "href", "srcset")}
    assert "default-src 'none'" in page and not re.search(r"https?:|url\(|@import|//", page)


@pytest.mark.parametrize("factorised", [True, False])
def test_foreign_text_stays_text(factorised: bool) -> None:
    notes = make_notes(1)
    names = {EVIL: 0.6, "</style><b>": 0.4}
    answer = found(names, factorised=factorised)
    answer = Identification(
        **{
            **vars(answer),
            "warnings": (EVIL,),
            "candidates": (EVIL,),
            "coverage": 0.9,
            "remarks": (EVIL,),
            "model": EVIL,
            "skipped": (SkippedClip(0, 1, EVIL),),
        }
    )
    marked = Attribution(EVIL, np.ones(len(notes)), {EVIL: np.ones(len(notes))}, 0.9, 0.1, 1, False, (EVIL,))
    neighbour = Neighbour(EVIL, EVIL, 0.5, Path("/x") / EVIL.replace("/", "_"))
    page = identification_html(
        EVIL, notes, answer, attribution=marked, neighbours=[neighbour],
        familiarity=Familiarity(0.1, 0.5, True, EVIL), colours={EVIL: "red;background:url(x)"},
    )  # fmt: skip
    seen = _Seen(page)
    assert not {"script", "img", "b"} & set(seen.tags) and "url(" not in page and "\u202e" not in page
    assert not any(name.startswith("on") for name, _ in seen.attributes)
    assert "<script>alert(1)</script>" in seen.words


def test_a_plain_model_and_missing_explanations_leave_their_parts_out() -> None:
    page = identification_html("solo.mid", make_notes(1), found(factorised=False))
    assert "cannot say which concept told" in page
    for absent in ("Shapley", "subsets", "Which notes mattered", "Most similar"):
        assert absent not in page


def test_warnings_come_right_after_the_answer() -> None:
    notes = make_notes(1)
    page = identification_html(
        "solo.mid", notes, found(), attribution=attribution(notes, informative=False),
        familiarity=Familiarity(0.1, 0.5, True, "This music is unlike all that the model learned from."),
    )  # fmt: skip
    assert page.index("unlike all") < page.index("Along the music")
    assert "do not rely on this picture" in page


def test_a_long_piece_is_thinned_and_says_so() -> None:
    n = 40_000
    onsets = np.arange(n) * 0.1
    notes = Notes.from_arrays(onsets, onsets + 0.2, np.arange(n) % 60 + 30, np.full(n, 60))
    scores = np.zeros(n)
    scores[12_345] = -3.0
    marked = Attribution("Ada Even", scores, {}, 0.1, 0.6, 1.0, True, ("words",))
    page = identification_html("long.mid", notes, found(clips=130), attribution=marked)
    assert len(page) < 500_000
    drawn = int(re.findall(r"Of 40,000 notes ([\d,]+) are drawn", page)[0].replace(",", ""))
    assert 1000 < drawn <= MAX_DRAWN_NOTES
    assert page.count('class="levelm4"') == 1 and "20:34" in page and "70 more clips" in page
    assert "1:06:40" in page


def test_given_colours_are_used_where_they_are_colours() -> None:
    page = identification_html("a", make_notes(1), found(), colours={"Ada Even": "#123abc", "Ben Cluster": "blue"})
    assert "#123abc" in page and "blue" not in page.replace("Blue", "")


def test_one_pianist_one_clip_and_a_tie_are_fine() -> None:
    notes = Notes.from_arrays([0.0], [0.5], [60], [64])
    _Seen(identification_html("", notes, found({"Only": 1.0}, clips=1), attribution=attribution(notes)))
    assert "could well be someone else" in identification_html("x", notes, found({"A": 0.4, "B": 0.35, "C": 0.25}))


def test_words_for_numbers() -> None:
    assert [percent(v) for v in (0, 0.004, 0.5, 0.996, 1)] == ["0 %", "0.4 %", "50 %", "99.6 %", "100 %"]
    assert [clock(v) for v in (0, 65.9, 3725)] == ["0:00", "1:05", "1:02:05"]
    assert text("a\nb\x00c" + "d" * 500).startswith("a b cd") and len(text("d" * 500)) == 300
    assert CONCEPTS[0].capitalize() in identification_html("x", make_notes(1), found())


def test_the_report_is_as_sure_as_the_page() -> None:
    def said(share: float, familiarity: Familiarity | None = None) -> str:
        names = {"Ada": share, "Ben": 1 - share}
        return identification_html("x", make_notes(1), found(names), familiarity=familiarity)

    assert "the model is sure" in said(0.95) and "the model is sure" not in said(0.85)
    assert "the model is fairly sure" in said(0.85)
    unlike = said(0.95, Familiarity(0.2, 0.8, True, "This music is unlike all."))
    assert "the model is sure" not in unlike and "unlike all it knows" in unlike


def test_what_gives_the_most_goes_the_way_of_the_difference() -> None:
    names = {"Ada": 0.4, "Ben": 0.35, "Cleo": 0.25}
    heard = found(names)
    worth = {
        kept: {**names, "Ada": 0.4 + 0.2 * ("melody" not in kept) - 0.05 * ("rhythm" not in kept)}
        for kept in CONCEPT_SUBSETS
    }
    lower = replace(heard, concepts=worth, silence={**names, "Ada": 0.55})
    assert "Of that difference melody gives the most, \N{MINUS SIGN}20.0" in identification_html(
        "x", make_notes(1), lower
    )


def test_an_end_that_was_not_heard_is_said() -> None:
    long = identification_html("x", make_notes(1), replace(found(), duration_s=89.0))
    assert "the last 29 s are too short for a clip and were not heard" in long
    assert "too short for a clip" not in identification_html("x", make_notes(1), replace(found(), duration_s=60.0))
