"""The YAML reader: what researchers write is read, what would hang, crash or surprise is one sentence."""

import math
import re
import time
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pianistid_core.errors import ConfigError
from pianistid_core.strict_yaml import MAX_BYTES, read_value, read_yaml, write_yaml

FULL = MAX_BYTES - 100
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {k: 1}\n" + "".join(
    f"b{level}: &b{level}\n  <<: [{', '.join(['*a' if level == 0 else f'*b{level - 1}'] * 8)}]\n" for level in range(12)
)

REFUSED = {
    "laughs": (LAUGHS, "line 1, column 4: an anchor or alias"),
    "merge key bomb": (MERGES, "line 1, column 4: an anchor or alias"),
    "merge key": ("<<: {a: 1}", "line 1, column 1: a merge key"),
    "recursive list": ("a: &a [*a]", "line 1, column 4: an anchor or alias"),
    "recursive root": ("&a {b: *a}", "line 1, column 1: an anchor or alias"),
    "1,000 lists deep": ("a: " + "[" * 1000, "nested more than 30 deep"),
    "lists all the way": ("a: " + "[" * FULL, "nested more than 30 deep"),
    "mappings all the way": ("a: " + "{a: " * (FULL // 4), "nested more than 30 deep"),
    "dashes all the way": ("a:\n" + "- " * (FULL // 2), "nested more than 30 deep"),
    "question marks": ("? " * (FULL // 2), "nested more than 30 deep"),
    "indents all the way": ("".join(" " * depth + "a:\n" for depth in range(400)), "line 30, column 30: nested"),
    "python object": ("a: !!python/object/apply:os.system ['true']", "line 1, column 4: a tag"),
    "private tag": ("a: !foo 1", "line 1, column 4: a tag"),
    "plain tag": ("a: !!bool maybe", "line 1, column 4: a tag"),
    "key twice": ("optim_cfg:\n  lr: 1\n  momentum: 0\n  lr: 2\n", "line 4, column 3: the key 'lr' is given twice"),
    "5,000 digits": ("a: " + "9" * 5000, "line 1, column 4: a number of 5,000 digits"),
    "escape out of range": (r'a: "\UFFFFFFFF"', "line 1, column 7: not YAML that can be read"),
    "empty": ("", "empty"),
    "only a comment": ("# nothing\n", "empty"),
    "scalar": ("jazz", "key: value"),
    "list": ("- a", "key: value"),
    "two documents": ("a: 1\n---\nb: 2\n", "line 2, column 1: expected a single document"),
    "tab": ("a:\n\tb: 1", "line 2, column 1: .* indent with spaces"),
    "NUL": ("a: \0", r"line 1, column 4: character U\+0000"),
    "surrogate": ("a: \ud800", r"line 1, column 4: character U\+D800"),
    "latin-1": ("run: café".encode("latin-1"), "line 1, column 9: not UTF-8"),
    "UTF-16": ("a: 1".encode("utf-16"), "line 1, column 1: not UTF-8"),
    "number as a key": ("1: 2", "line 1, column 1: a key must be text"),
    "boolean as a key": ("on: 2", "line 1, column 1: a key must be text"),
    "null as a key": ("~: 2", "line 1, column 1: a key must be text"),
    "list as a key": ("[a]: 2", "line 1, column 1: a key must be text"),
    "9 MB": ("a: 1\n" * 1_800_000, "9,000 kB is too large"),
    "flat": ("".join(f"a{i}: 0\n" for i in range(10_500)), "more than 10,000 values"),
    "long list": ("a: [" + "1," * (FULL // 2) + "]", "more than 10,000 values"),
    "open quote": ('a: "' + "x" * FULL, "line 1, column .*: found unexpected end of stream"),
    "colons": (":" * FULL, "line 1"),
    "unbalanced": ("a: [1, 2", "line 1, column 9"),
    "unknown version": ("%YAML 9.9\n---\na: 1", "line 1, column 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_hostile_yaml_is_one_quick_sentence(case: str) -> None:
    text, expected = REFUSED[case]
    start = time.perf_counter()
    with pytest.raises(ConfigError) as caught:
        read_yaml(text, source="mine.yaml")
    assert time.perf_counter() - start < 5
    (fault,) = caught.value.faults
    assert re.search(expected, fault.message)
    assert str(caught.value).startswith("mine.yaml: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1.0e-3", 1e-3),
        ("5E2", 500.0),
        (".5", 0.5),
        ("1_000", 1000),
        ("-7", -7),
        ("True", True),
        ("no", False),
        ("on", True),
        ("~", None),
        ("", None),
        ("012", "012"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("0x1F", "0x1F"),
        ("'1'", "1"),
        (".inf", math.inf),
        ("crnn-jtd+pijama", "crnn-jtd+pijama"),
        ("[ 3, 4, 6, 3 ]", [3, 4, 6, 3]),
        ("{ }", {}),
    ],
)
def test_values(text: str, value: Any) -> None:
    assert read_yaml(f"a: {text}\n") == {"a": value}
    assert type(read_yaml(f"a: {text}\n")["a"]) is type(value)
    assert read_value(text, source="test") == value


def test_nan_is_read_and_left_to_the_schema() -> None:
    assert math.isnan(read_yaml("a: .nan")["a"])


def test_byte_order_mark_and_line_ends_do_no_harm() -> None:
    assert read_yaml("\ufeffa: 1\r\nb: 2\r\n".encode()) == {"a": 1, "b": 2}


def test_thirty_levels_are_read() -> None:
    levels = 29
    assert read_yaml("".join("  " * depth + "a:\n" for depth in range(levels)))


@settings(deadline=None)
@given(st.one_of(st.text(), st.binary(), st.text("ab:-[]{},&*!|>'\"%#?\n \t~<=01.e", max_size=80)))
def test_any_input_is_a_mapping_or_a_config_error(text: str | bytes) -> None:
    try:
        assert isinstance(read_yaml(text), dict)
    except ConfigError as error:
        assert len(error.faults) == 1
        assert "\n" not in str(error)


PRINTABLE = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])  # a schema takes no other text
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(PRINTABLE, max_size=20),
    st.sampled_from(["1e-3", "yes", "012", "1:30", "2024-01-01", "null", "~", "", "<<", "=", "1_0", "- a", "a: b"]),
)
KEYS = st.text(PRINTABLE, max_size=10)
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4))


@settings(deadline=None)
@given(st.dictionaries(KEYS, TREES, min_size=1, max_size=5))
def test_what_is_written_is_read_back(data: dict[str, Any]) -> None:
    text = write_yaml(data)
    assert read_yaml(text) == data
    assert write_yaml(read_yaml(text)) == text
    assert yaml.safe_load(text) == data  # other readers, which know 1e-3 as text, must agree
