"""Browsers that have logged in before: what each keeps to be known by, so that strangers cannot keep it out.

It opens nothing. It names nobody, it is good for one account, and it is void when that has another password.
"""

import hmac
import secrets

from pianistid_core.accounts import Account, Accounts

KNOWN_FOR_S = 180 * 24 * 3600
_LONGEST = 200


def mark(account: Account) -> str:
    """What a browser is given that has logged in by an account."""
    number = secrets.token_hex(16)
    return f"{number}.{_seal(account, number)}"


def known(accounts: Accounts, name: str, given: str) -> str:
    """What a browser that has logged in by a name before is known by; nothing when it has not."""
    account = accounts.account(name)
    number, _, seal = given.partition(".")
    if account is None or len(given) > _LONGEST or not given.isascii():
        return ""
    return number if hmac.compare_digest(seal, _seal(account, number)) else ""


def _seal(account: Account, number: str) -> str:
    # By the hash of the password, which only the server has, and which outlasts its being started again.
    return hmac.digest(account.password.encode(), f"browser {number}".encode(), "sha256").hex()
