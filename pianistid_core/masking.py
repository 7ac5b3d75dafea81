"""Text as it may be shown, logged or handed on: no user name or password in an address."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

# What stands between "://" and the machine's name. A password with a slash in it is no sound address, yet a secret.
_CREDENTIALS = re.compile(r"(?<=://)(?:[^/\s\"'<>]*@|[^/\s@:]+:(?!\d+(?:/(?:[^\s\"'<>@]*/)?@|\s|$))[^\s\"'<>@]*@)")
_SECRET = re.compile("token|secret|pass|pwd|auth|key", re.IGNORECASE)


def masked(text: str) -> str:
    """The same text without the user names and passwords of the addresses in it."""
    return _CREDENTIALS.sub("", text)


def hides_password(address: str) -> str | None:
    """Why an address may hold a password where nobody looks for one, as half a sentence; None when it does not.

    What is no address of a machine, such as a path, holds none.
    """
    scheme, sign, rest = address.strip().partition("://")
    if not sign or rest.startswith("/"):
        return None
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        sound = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        sound = False
    if not sound or "@" in parts.path + parts.query + parts.fragment:
        return "its machine or port cannot be read; in a user name or password write / ? # @ as %2F %3F %23 %40"
    if any(_SECRET.search(name) for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
        return "it has a password or token behind its question mark; give it as scheme://user:password@machine"
    return None


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
