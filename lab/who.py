"""Who sits at the page, and what that person may do."""

from collections.abc import Callable, Mapping

from streamlit import config
from streamlit.runtime.scriptrunner import get_script_run_ctx

from gate import sessions
from pianistid_core.accounts import Person, Role
from pianistid_core.audit import machine_user
from pianistid_core.errors import AccessError

__all__ = ["TICKET", "Person", "has_logged_in", "may", "may_still", "me"]

TICKET = "pianistid_ticket"  # under which Streamlit keeps what the gate says about a session


def me() -> Person:
    """The person of this session: who has logged in; where nobody is asked, the user of the machine.

    Raises: AccessError when the session has ended, or when this is no session of a page.
    """
    person = _person(_said())
    if person is None:
        raise AccessError("you are not logged in any more: reload the page to log in")
    return person


def may(role: Role) -> bool:
    """Whether the person of this session has at least a role; nobody has none."""
    person = _person(_said())
    return person is not None and person.role >= role


def may_still(role: Role) -> Callable[[], bool]:
    """The same question about the person of this session for later, when nothing says any more whose session it is."""
    said = _said()

    def holds() -> bool:
        person = _person(said)
        return person is not None and person.role >= role

    return holds


def has_logged_in() -> bool:
    """Whether the person of this session has logged in, and so can log out."""
    served = sessions.served()
    return served is not None and served.asks()


def _person(said: Mapping[str, object]) -> Person | None:
    served = sessions.served()
    if served is not None:
        ticket = said.get(TICKET)
        return served.person(ticket if isinstance(ticket, str) else None)
    # No gate stands before this process. In a test of a page (AppTest) there is no network either, and the test may say
    # who sits there; a page that a server shows past the gate belongs to nobody.
    if not config.get_option("global.appTest"):
        return None
    name, role = said.get("name"), said.get("role")
    if isinstance(name, str) and isinstance(role, str):
        return Person(name, Role.named(role))
    return Person(machine_user(), Role.ADMINISTER)


def _said() -> dict[str, object]:
    """What the session's first request said about its person, which Streamlit keeps."""
    context = get_script_run_ctx(suppress_warning=True)
    return dict(context.user_info) if context is not None else {}
