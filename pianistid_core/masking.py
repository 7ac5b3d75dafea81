"""Text as it may be shown, logged or handed on: no user name or password in an address."""

import re
from collections.abc import Mapping
from typing import Any

# What stands between "://" and the machine's name. A password with a slash in it is no sound address, yet a secret.
_CREDENTIALS = re.compile(r"(?<=://)(?:[^/\s\"'<>]*@|[^/\s@:]+:(?!\d+(?:[/\s]|$))[^\s\"'<>@]*@)")


def masked(text: str) -> str:
    """The same text without the user names and passwords of the addresses in it."""
    return _CREDENTIALS.sub("", text)


def masked_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values, masked wherever they are or hold text."""
    return {key: _masked_value(value) for key, value in values.items()}


def _masked_value(value: Any) -> Any:
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        return masked_values(value)
    if isinstance(value, list | tuple):
        return [_masked_value(item) for item in value]
    return value
