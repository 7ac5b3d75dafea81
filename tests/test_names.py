"""Names of experiments, runs and splits: whatever passes is one folder, on every system."""

from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pianistid_core.names import MAX_BYTES, folder_name_problem, is_plain_name, printable

FINE = ["demo", "crnn-jtd+pijama", "cce+triplet0.1", "a", "Bill Evans", "lr=0.001, seed=2", "7", "é", "20class_80min"]
REFUSED = {
    "": "not empty",
    "   ": "not empty",
    "a/b": "leave out / and",
    "a\\b": "leave out / and",
    "../../x": "leave out / and",
    "/etc": "leave out / and",
    "..": "leave out ..",
    ".": "leave out ..",
    "a..b": "leave out ..",
    ".hidden": "leave out ..",
    "-x": "leave out the -",
    " a": "leave out ..",
    "a ": "leave out ..",
    "a.": "leave out ..",
    "a\0b": "leave out '\\x00'",
    "a\nb": "leave out '\\n'",
    "a:b": "leave out ':'",
    "<script>": "leave out '<'",
    "a\u202eb": "leave out '\\u202e'",
    "😀": "leave out",
    "\uff41": "write it as 'a'",
    "CON": "Windows",
    "nul.yaml": "Windows",
    "AUX .txt": "Windows",
    "Com7": "Windows",
    "x" * 121: "at most 120",
    "楽" * 100: "at most 120",
}


@pytest.mark.parametrize("name", FINE)
def test_names_that_people_use_are_fine(name: str) -> None:
    assert folder_name_problem(name) is None


@pytest.mark.parametrize("name", REFUSED)
def test_unsafe_names_are_refused_with_the_way_out(name: str) -> None:
    problem = folder_name_problem(name)
    assert problem is not None
    assert REFUSED[name] in problem
    assert "\n" not in problem


@pytest.mark.parametrize("name", [*FINE, "Bill's [live] & more!", "a..b", "é" * 120])
def test_plain_names(name: str) -> None:
    assert is_plain_name(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".x", "-rf", "~", " a", "a ", "a.", "a/b", "a\\b", "a\0", "c:d", "nul.txt", "AUX .txt", "é" * 121],
)
def test_names_that_are_not_plain(name: str) -> None:
    assert not is_plain_name(name)


@settings(deadline=None)
@given(st.text())
def test_plain_names_are_one_component(name: str) -> None:
    if is_plain_name(name):
        assert PurePosixPath("/base", name).parts == ("/", "base", name)
        assert len(name.encode()) <= MAX_BYTES


@settings(deadline=None)
@given(st.text(max_size=130))
def test_whatever_passes_is_one_folder_everywhere(name: str) -> None:
    if folder_name_problem(name) is None:
        assert PurePosixPath("runs", name).parent == PurePosixPath("runs")
        assert PureWindowsPath("runs", name).parent == PureWindowsPath("runs")
        assert not PureWindowsPath(name).drive
        assert name.isprintable()
        assert is_plain_name(name)


@settings(deadline=None)
@given(st.text())
def test_what_a_terminal_or_a_log_is_given_is_one_line_of_what_is_seen(text: str) -> None:
    line = printable(text)
    assert line.isprintable() and line.splitlines() == ([line] if line else [])
    assert line == text or not text.isprintable()
    line.encode()
