"""Foreign text stays text; figures read as a person would say them."""

import pytest

import wording


@pytest.mark.parametrize(
    "name",
    [
        "![x](http://example.org/x.png)",
        "[link](javascript:alert(1))",
        "<script>alert(1)</script>",
        "<iframe srcdoc='x'>",
        "**bold** _it_ `code` $x$ :material/home: :red[x] ~~gone~~ # head",
        "http://example.org www.example.org a@example.org",
    ],
)
def test_markup_in_a_name_is_shown_and_not_drawn(name: str) -> None:
    safe = wording.plain(name)
    for mark in "![]()<>*_`$:~#@./":
        assert safe.count(mark) == safe.count("\\" + mark)
    assert safe.replace("\\", "") == name


def test_control_and_direction_marks_are_dropped() -> None:
    assert wording.one_line("a\nb\u202ec\x00d\u2066e") == "a b c d e"


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
