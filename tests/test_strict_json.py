"""The JSON reader: whatever is no plain data is one kind of error."""

import pytest

from hostile_yaml import HOSTILE_JSON
from pianistid_core.strict_json import parse_json


@pytest.mark.parametrize("case", HOSTILE_JSON)
def test_what_cannot_be_read_is_a_value_error(case: str) -> None:
    with pytest.raises(ValueError):
        parse_json(HOSTILE_JSON[case])


def test_plain_data_is_given() -> None:
    assert parse_json(b'{"a": [1, null, "x"]}') == {"a": [1, None, "x"]}
