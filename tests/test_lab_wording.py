"""Foreign text stays text; figures read as a person would say them."""

import re
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wording

APART = ":small[]"  # between two pieces of text; draws nothing


@pytest.mark.parametrize(
    "name",
    [
        "![x](http://example.org/x.png)",
        "[link](javascript:alert(1))",
        "<script>alert(1)</script>",
        "<iframe srcdoc='x'>",
        "**bold** _it_ `code` $x$ :material/home: :red[x] ~~gone~~ # head",
        "http://example.org www.example.org a@example.org",
        ":streamlit: :material_home: a -> b, a <- b, a <-> b, a -- b, a >= b, a <= b, a ~= b",
    ],
)
def test_markup_in_a_name_is_shown_and_not_drawn(name: str) -> None:
    safe = wording.plain(name)
    assert safe.replace(APART, "").replace("\\", "") == name
    for piece in safe.split(APART):
        for mark in "![]()<>*_`$:~#@./":
            assert piece.count(mark) == piece.count("\\" + mark)


# What the page's own markdown does to a piece of text once its escapes are gone, from its source; text it does it to.
MADE_INTO_MORE = {
    r"(https?://|www(?=\.))[-.\w]+": ("http://a.b", "HTTPS://x", "www.names.invalid", "wwww.a"),
    r"[-.\w+]+@[-\w]+(\.[-\w]+)+": ("a@b.c", "a@b@c.d", "a.b+c@d-e.f.g"),
    r":streamlit:": (":streamlit:", "::streamlit::"),
    r":material_(\w+):": (":material_home:",),
    r"(^|\s)(<->|->|<-|--|>=|<=|~=)(\s|$)": ("->", "a <-> b", "a -- b", "<-", "a >= b", "<=", "~=", "--->"),
}


@pytest.mark.parametrize("pattern", MADE_INTO_MORE)
@settings(deadline=None)
@given(data=st.data())
def test_no_piece_of_a_name_is_made_into_a_link_a_picture_or_an_arrow(pattern: str, data: st.DataObject) -> None:
    around = st.text(max_size=8)
    name = data.draw(around) + data.draw(st.sampled_from(MADE_INTO_MORE[pattern])) + data.draw(around)
    safe = wording.plain(name)
    assert all(re.search(pattern, piece.replace("\\", ""), re.IGNORECASE) is None for piece in safe.split(APART))


@settings(deadline=None)
@given(st.text(max_size=40))
def test_a_name_reads_as_it_is_but_for_marks_that_are_not_seen(name: str) -> None:
    read = re.sub(r"\\(.)", r"\1", wording.plain(name).replace(APART, ""))
    assert read == wording.one_line(name)
    read.encode()  # as the browser is told


OF_A_SHELL = st.sampled_from(["$(x)", "`x`", "; x", "a'b", "-rf", "a\nb", "demo/a b", ""])


@settings(deadline=None)
@given(st.lists(st.text(max_size=20) | OF_A_SHELL, max_size=4))
def test_a_command_to_copy_has_the_words_it_was_given(words: list[str]) -> None:
    line = wording.command("pianistid", *words)
    assert len(line.splitlines()) == 1
    assert shlex.split(line) == ["pianistid", *(wording.one_line(word) for word in words)]


def test_control_and_direction_marks_are_dropped() -> None:
    assert wording.one_line("a\nb\u202ec\x00d\u2066e") == "a b c d e"
    assert wording.one_line("a\u2060b\u00adc\U000e0041d") == "a b c d"


def test_a_byte_that_is_no_text_is_shown_as_a_sign() -> None:
    assert wording.one_line("Ada\udcff.mid") == "Ada\ufffd.mid"


def test_long_text_is_cut() -> None:
    assert wording.one_line("x" * 500, 10) == "x" * 9 + "…"


def test_a_sentence_begins_with_a_capital() -> None:
    assert wording.sentence("no such run") == "No such run"
    assert wording.sentence("run.pth is damaged") == "run\\.pth is damaged", "a file's name is kept as it is"
    assert wording.sentence("") != ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (75, "1 min 15 s"),
        (1800, "30 min"),
        (5400, "1 h 30 min"),
        (None, "—"),
        (float("nan"), "—"),
    ],
)
def test_lengths_of_time(seconds: float | None, words: str) -> None:
    assert wording.duration(seconds) == words


def test_shares_counts_and_lists() -> None:
    assert wording.percent(0.853) == "85 %"
    assert wording.percent(None) == "—"
    assert wording.count(1, "clip") == "1 clip"
    assert wording.count(2400, "clip") == "2,400 clips"
    assert wording.count(2, "file was", "files were") == "2 files were"
    assert wording.listed(["a", "b", "c"]) == "a, b and c"
    assert wording.listed("abcdefgh", 2) == "a, b and 6 more"
    assert wording.listed([]) == ""
    assert wording.clock(75.9) == "1:15"
    assert wording.ago(0, 3600) == "1 h ago"
    assert wording.ago(None, 0) == "—"
