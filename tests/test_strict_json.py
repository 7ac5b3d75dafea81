"""The JSON reader: whatever is no plain data is one kind of error."""

import pytest

from pianistid_core.strict_json import parse_json


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", "[" * 100_000, b'{"a":' * 100_000, "1" * 5000], ids=range(6))
def test_what_cannot_be_read_is_a_value_error(text: bytes | str) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


def test_plain_data_is_given() -> None:
    assert parse_json(b'{"a": [1, null, "x"]}') == {"a": [1, None, "x"]}
