"""Who may do what in the lab: roles, and the accounts in a file that only its owner reads.

A password is kept as a salted scrypt hash. Beside the accounts stand the people whom the organisation's own login
names, by e-mail address; they have a role here and no password. Whoever is removed or gets another password is known
by the account's stamp, which changes with each password.
"""

import base64
import hashlib
import hmac
import json
import logging
import os
import secrets
import threading
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path
from typing import Any

from pianistid_core.atomic import replacing
from pianistid_core.errors import AccessError
from pianistid_core.strict_json import parse_json

NAMED_BY = "PIANISTID_ACCESS"
FILE_NAME = "access.json"  # in the data root; a backup of a data root leaves it out
SHORTEST_PASSWORD = 10
LONGEST_PASSWORD = 200
LONGEST_NAME = 64
_MOST_BYTES = 1 << 20
_FEWEST_KINDS = 5
_PRIVATE = 0o600
# 32 MiB and some tenths of a second for each try, as OWASP advises; OpenSSL's own limit of memory lies below it.
_SCRYPT = {"n": 1 << 15, "r": 8, "p": 3, "maxmem": 1 << 26, "dklen": 32}

_log = logging.getLogger(__name__)


class Role(IntEnum):
    """What a person may do; each may do what those before it may."""

    LOOK = 1
    RUN = 2
    ADMINISTER = 3

    @property
    def label(self) -> str:
        """The role as a word: look, run or administer."""
        return self.name.lower()

    @classmethod
    def named(cls, label: str) -> "Role":
        """The role of a word. Raises: AccessError when there is none."""
        for role in cls:
            if role.label == label:
                return role
        raise AccessError(f"there is no role {label[:40]!r}; the roles are {', '.join(one.label for one in cls)}")


@dataclass(frozen=True)
class Person:
    """Somebody who uses the lab: a name, foreign text as any other, and a role."""

    name: str
    role: Role


@dataclass(frozen=True)
class Account:
    """One person who logs in with a password: what is kept of the password, and a stamp that changes with it."""

    name: str
    role: Role
    password: str = field(repr=False)
    stamp: str = field(repr=False)


@dataclass(frozen=True)
class Accounts:
    """Everybody who may come in, as the file had it when it was read; names are compared without regard to case."""

    people: Mapping[str, Account] = field(default_factory=dict)
    members: Mapping[str, Role] = field(default_factory=dict)  # of the organisation, by e-mail address
    others: Role | None = None  # of the organisation, who are not named

    def __bool__(self) -> bool:
        return bool(self.people or self.members or self.others)

    def account(self, name: str) -> Account | None:
        """The account of a name, or None."""
        return self.people.get(_key(name))

    def member(self, address: str) -> Role | None:
        """The role of somebody whom the organisation's login names by e-mail address, or None for nobody."""
        return self.members.get(_key(address), self.others)

    def check(self, name: str, password: str) -> Account | None:
        """The account that a name and a password open, or None; it takes as long for a name that nobody has."""
        account = self.account(name)
        fits = _fits(password, account.password if account else _NOBODY)
        return account if account and fits else None


class AccountFile:
    """The accounts on disk: read again when the file has changed, written whole, readable by its owner alone."""

    def __init__(self, path: Path, *, must_exist: bool = False) -> None:
        self.path = path
        self._must_exist = must_exist
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] | None = None
        self._accounts = Accounts()

    @classmethod
    def of(cls, root: Path) -> "AccountFile":
        """The file that belongs to a data root: $PIANISTID_ACCESS, which must be there, else `access.json` in it."""
        named = os.environ.get(NAMED_BY)
        return cls(Path(named).expanduser().absolute(), must_exist=True) if named else cls(root / FILE_NAME)

    def read(self) -> Accounts:
        """The accounts as they are now; none where there is no file.

        Raises: AccessError when the file is damaged or cannot be read, since nobody can be let in by it; and when one
        that is named is missing, since a slip in its name would else leave the lab open.
        """
        if self._must_exist and not self.path.exists():
            raise AccessError(
                f"${NAMED_BY} names {self.path}, and there is no such file; name the one with the accounts, or make it "
                "by `pianistid access add NAME --role administer`"
            )
        return self._read()

    def _read(self) -> Accounts:
        with self._lock:
            try:
                stat = self.path.stat()
            except FileNotFoundError:
                self._seen, self._accounts = None, Accounts()
                return self._accounts
            except OSError as error:
                raise AccessError(f"the accounts in {self.path} cannot be read: {error.strerror}") from error
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if seen != self._seen:
                self._accounts = _parsed(self.path)
                self._seen = seen
            return self._accounts

    def add(self, name: str, role: Role, password: str) -> Account:
        """Makes an account. Raises: AccessError when the name is taken, or the name or the password cannot be used."""
        name = _name(name)
        _check_password(password, name)
        with self._changing() as people:
            if people.account(name):
                raise AccessError(
                    f"there is an account {name!r} already; give its role or password instead, or remove it"
                )
            account = Account(name, role, _kept(password), secrets.token_hex(8))
            self._write(replace(people, people={**people.people, _key(name): account}))
        return account

    def set_role(self, name: str, role: Role) -> None:
        """Gives somebody another role, which holds from the next click. Raises: AccessError for an unknown name."""
        with self._changing() as people:
            if people.account(name):
                changed = replace(_found(people, name), role=role)
                self._write(replace(people, people={**people.people, _key(name): changed}))
            elif _key(name) in people.members:
                self._write(replace(people, members={**people.members, _key(name): role}))
            else:
                _found(people, name)

    def set_password(self, name: str, password: str) -> None:
        """Gives somebody another password, and ends what is open under the old one.

        Raises: AccessError for an unknown name, or a password that cannot be used.
        """
        with self._changing() as people:
            account = _found(people, name)
            _check_password(password, account.name)
            changed = replace(account, password=_kept(password), stamp=secrets.token_hex(8))
            self._write(replace(people, people={**people.people, _key(name): changed}))

    def remove(self, name: str) -> None:
        """Takes somebody's account or place among the members away. Raises: AccessError for an unknown name."""
        with self._changing() as people:
            if _key(name) not in people.members:
                _found(people, name)
            self._write(
                replace(
                    people,
                    people={key: account for key, account in people.people.items() if key != _key(name)},
                    members={key: role for key, role in people.members.items() if key != _key(name)},
                )
            )

    def add_member(self, address: str, role: Role) -> None:
        """Lets in somebody whom the organisation's login names by e-mail address. Raises: AccessError."""
        address = _name(address)
        if "@" not in address:
            raise AccessError(f"{address!r} is no e-mail address; the organisation's login names people by theirs")
        with self._changing() as people:
            self._write(replace(people, members={**people.members, _key(address): role}))

    def set_others(self, role: Role | None) -> None:
        """What those may do whom the organisation's login knows and who are not named here; None refuses them."""
        with self._changing() as people:
            self._write(replace(people, others=role))

    @contextmanager
    def _changing(self) -> Iterator[Accounts]:
        """The accounts, which nobody else changes meanwhile."""
        from filelock import FileLock, Timeout

        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock", timeout=10, mode=_PRIVATE):
                yield self._read()
        except Timeout as error:
            raise AccessError(f"the accounts in {self.path} are being changed by another; try again") from error
        except OSError as error:
            raise AccessError(f"the accounts cannot be kept in {self.path}: {error.strerror or error}") from error

    def _write(self, accounts: Accounts) -> None:
        text = json.dumps(_data_of(accounts), indent=1, ensure_ascii=False) + "\n"
        with replacing(self.path) as file:
            if hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), _PRIVATE)  # before anything stands in it
            file.write(text.encode())


# --- names and passwords ---------------------------------------------------------------------------------------------


def _key(name: str) -> str:
    return unicodedata.normalize("NFKC", name).strip().casefold()


def _name(name: str) -> str:
    name = unicodedata.normalize("NFKC", name).strip()
    if not name or len(name) > LONGEST_NAME:
        raise AccessError(f"a name has 1 to {LONGEST_NAME} characters; this one has {len(name)}")
    if not name.isprintable():
        raise AccessError("a name is written with letters, digits and signs that can be seen; leave the others out")
    return name


def _found(people: Accounts, name: str) -> Account:
    account = people.account(name)
    if account is None:
        known = ", ".join(one.name for one in list(people.people.values())[:10]) or "none"
        raise AccessError(f"there is no account {name[:LONGEST_NAME]!r}; those there are: {known}")
    return account


def _check_password(password: str, name: str) -> None:
    password = unicodedata.normalize("NFC", password)
    if len(password) < SHORTEST_PASSWORD or len(password) > LONGEST_PASSWORD:
        raise AccessError(
            f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters; this one has {len(password)}"
        )
    if len(set(password)) < _FEWEST_KINDS or _key(name) == _key(password):
        raise AccessError(f"choose another password: at least {_FEWEST_KINDS} different characters, and not the name")


def _kept(password: str) -> str:
    salt = secrets.token_bytes(16)
    return f"{base64.b64encode(salt).decode()}${base64.b64encode(_hash(password, salt)).decode()}"


def _fits(password: str, kept: str) -> bool:
    salt, _, expected = kept.partition("$")
    given = _hash(password[: 2 * LONGEST_PASSWORD], base64.b64decode(salt))
    return hmac.compare_digest(given, base64.b64decode(expected))


def _hash(password: str, salt: bytes) -> bytes:
    words = unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
    return hashlib.scrypt(words, salt=salt, **_SCRYPT)


_NOBODY = f"{base64.b64encode(bytes(16)).decode()}${base64.b64encode(bytes(32)).decode()}"


# --- the file --------------------------------------------------------------------------------------------------------


def _data_of(accounts: Accounts) -> dict[str, Any]:
    return {
        "accounts": [
            {"name": one.name, "role": one.role.label, "password": one.password, "stamp": one.stamp}
            for one in accounts.people.values()
        ],
        "organisation": {
            "members": {address: role.label for address, role in accounts.members.items()},
            "others": accounts.others.label if accounts.others else None,
        },
    }


def _parsed(path: Path) -> Accounts:
    try:
        with path.open("rb") as file:
            if hasattr(os, "fchmod") and os.fstat(file.fileno()).st_mode & 0o077:
                _log.warning("%s can be read by others on this machine; `chmod 600` it", path)
            said = parse_json(file.read(_MOST_BYTES))
        accounts = [
            Account(_text(one["name"]), Role.named(one["role"]), _hashed(one["password"]), _text(one["stamp"]))
            for one in said["accounts"]
        ]
        organisation = said["organisation"]
        members = {_key(address): Role.named(role) for address, role in organisation["members"].items()}
        others = organisation["others"]
        people = {_key(one.name): one for one in accounts}
        return Accounts(people, members, Role.named(others) if others is not None else None)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, AccessError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is damaged"
        raise AccessError(f"the accounts in {path} cannot be read: {reason}; restore the file or remove it") from error


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("no text")
    return value


def _hashed(value: object) -> str:
    salt, _, expected = _text(value).partition("$")
    if len(base64.b64decode(salt, validate=True)) < 16 or len(base64.b64decode(expected, validate=True)) != 32:
        raise ValueError("no password's hash")
    return f"{salt}${expected}"
