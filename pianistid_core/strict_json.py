"""The JSON reader for files that nobody vouches for: plain data, or one kind of error."""

import json
from typing import Any


def parse_json(text: bytes | str) -> Any:
    """The data that a JSON text stands for.

    Raises
    ------
    ValueError
        When it is no JSON, or no text, or nested so deep that Python gives up, which it says in an error of its own.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
