"""Who sits at the page, and what that person may do."""

import getpass
from dataclasses import dataclass

from pianistid_core.accounts import Role


@dataclass(frozen=True)
class Person:
    """Somebody at the page: a name, foreign text as any other, and a role."""

    name: str
    role: Role


def me() -> Person:
    """The person of this session: on a lab that only this machine reaches and that has no accounts, its user."""
    return Person(_user_of_the_machine(), Role.ADMINISTER)


def may(role: Role) -> bool:
    """Whether the person of this session has at least a role."""
    return me().role >= role


def _user_of_the_machine() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have a number and no name
        return "somebody at this machine"
