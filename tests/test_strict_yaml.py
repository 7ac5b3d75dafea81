"""The YAML reader: what researchers write is read, what would hang, crash or surprise is one sentence."""

import math
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hostile_yaml import HOSTILE_CONFIGS, INTENDED, REFUSED
from pianistid_core.config import parse_config
from pianistid_core.errors import ConfigError
from pianistid_core.strict_yaml import read_value, read_written_yaml, read_yaml, write_yaml


@pytest.mark.parametrize("case", REFUSED)
def test_hostile_yaml_is_one_quick_sentence(case: str) -> None:
    text, expected = REFUSED[case]
    start = time.thread_time()
    with pytest.raises(ConfigError) as caught:
        read_yaml(text, source="mine.yaml")
    assert time.thread_time() - start < 10  # a bomb takes minutes; less would time the collector of garbage
    (fault,) = caught.value.faults
    assert re.search(expected, fault.message)
    assert str(caught.value).startswith("mine.yaml: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("text", ["1: 2", "on: 2", "~: 2", "a: {3: 4}"])
def test_the_quicker_reader_takes_no_key_that_is_not_text(text: str) -> None:
    with pytest.raises(ConfigError, match="a key must be text"):
        read_written_yaml(text.encode())


@pytest.mark.parametrize("text", HOSTILE_CONFIGS)
def test_what_reads_well_and_cannot_be_a_config_is_one_sentence_a_fault(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(read_yaml(text))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize(("text", "value"), INTENDED)
def test_values(text: str, value: Any) -> None:
    assert read_yaml(f"a: {text}\n") == {"a": value}
    assert type(read_yaml(f"a: {text}\n")["a"]) is type(value)
    assert read_value(text, source="test") == value


def test_nan_is_read_and_left_to_the_schema() -> None:
    assert math.isnan(read_yaml("a: .nan")["a"])


def test_byte_order_mark_and_line_ends_do_no_harm() -> None:
    assert read_yaml("\ufeffa: 1\r\nb: 2\r\n".encode()) == {"a": 1, "b": 2}


@pytest.mark.parametrize("read", [read_yaml, read_written_yaml])
def test_thirty_levels_are_read_and_no_more(read: Callable[[bytes], dict[str, Any]]) -> None:
    levels = ["".join("  " * depth + "a:\n" for depth in range(n)).encode() for n in (29, 31)]
    assert read(levels[0])
    with pytest.raises(ConfigError, match="nested more than 30 deep"):
        read(levels[1])


def test_open_brackets_do_not_slow_the_reader_down() -> None:
    def seconds(brackets: int) -> float:
        began = time.thread_time()
        with pytest.raises(ConfigError, match="nested more than 30 deep"):
            read_yaml("a: " + "[" * brackets)
        return time.thread_time() - began

    few, many = (min(seconds(brackets) for _ in range(9)) for brackets in (100, 1000))
    assert many < 30 * few  # looking for a key behind each of them, it took a hundred times as long


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
