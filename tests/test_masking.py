"""Addresses as they may be shown."""

import pytest

from pianistid_core.masking import masked, masked_values


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://ann:s3cret@host:5000/x", "https://host:5000/x"),
        ("https://ann@host", "https://host"),
        ("no answer from http://a:b@c@host/ and http://x:y@z", "no answer from http://host/ and http://z"),
        ("http://ann:pa/ss@host/x", "http://host/x"),
        ("http://ann:12/ss@host:5000", "http://host:5000"),
        ("http://ann:1?ss@host", "http://host"),
        ("postgresql://ann:ss@host/db", "postgresql://host/db"),
        ("http://host:5000/users/@ann", "http://host:5000/users/@ann"),
        ("mail ann@host", "mail ann@host"),
        ("", ""),
    ],
)
def test_no_address_keeps_a_user_name_or_a_password(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_values_are_masked_however_deep_they_lie() -> None:
    plain = {"uri": "http://a:b@c", "n": 1, "list": ["http://a:b@c", None], "more": {"uri": "http://a:b@c"}}
    assert masked_values(plain) == {"uri": "http://c", "n": 1, "list": ["http://c", None], "more": {"uri": "http://c"}}
