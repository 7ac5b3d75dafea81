"""Callbacks that change something: who may call them, and the line that the audit log gets of each.

`acting` stands where `guard.whole` stands for callbacks that only turn the page. It is what refuses: a widget that was
drawn for somebody who might may be pressed when that person may not any more, or is another one.
"""

import functools
import logging
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import streamlit as st

import state
import who
from guard import whole
from pianistid_core import audit
from pianistid_core.accounts import Role
from pianistid_core.config import RunConfig
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import AccessError, DataRootError, PianistIDError
from pianistid_core.run_config import leads_outside
from refusals import Refusals

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class Act:
    """Something that a person is doing: what the audit log calls it, and how many lines it has got of it."""

    root: DataRoot | None
    who: str
    what: str
    lines: int = 0

    def tell(self, about: str = "", why: str = "", *, begun: bool = False, **details: Any) -> None:
        """Writes down how it ended for one thing; `why` is the sentence of a refusal."""
        self.lines += 1
        if not self.what or self.root is None:
            return
        ended: audit.Ended = "refused" if why else "begun" if begun else "done"
        if why:
            said = _refusals().line((self.root.path, self.who), why)
            if said is None:
                return
            why = said
        audit.note(self.root, self.who, self.what, about, where=audit.LAB, ended=ended, why=why, **details)


@st.cache_resource(show_spinner=False)
def _refusals() -> Refusals:
    return Refusals()


_NOW: ContextVar[Act | None] = ContextVar("act", default=None)


def acting(role: Role, what: str = "") -> Callable[[Callable[P, None]], Callable[P, None]]:
    """A callback that needs a role: refused without it, done to its end with it, and written down as `what`.

    What it does to several things it says by `tell`, a line each; when it says nothing, it gets one line. Without
    `what`, as for a draft that is typed, only a refusal is written down.
    """

    def decorate(callback: Callable[P, None]) -> Callable[P, None]:
        @whole
        @functools.wraps(callback)
        def careful(*args: P.args, **kwargs: P.kwargs) -> None:
            if _NOW.get() is not None:  # a part of what is being done already
                callback(*args, **kwargs)
                return
            try:
                person = who.me()
            except AccessError as error:  # the session has ended since the page was drawn
                state.complain(str(error))
                return
            if not who.may(role):
                reason = refusal(role)
                Act(_root(), person.name, what or callback.__name__.strip("_")).tell(why=reason)
                state.complain(reason)
                return
            act = Act(_root(), person.name, what)
            before = _NOW.set(act)
            try:
                callback(*args, **kwargs)
            except (PianistIDError, OSError) as error:
                act.tell(why=str(error))
                raise
            finally:
                _NOW.reset(before)
            if not act.lines:
                act.tell()

        careful.role = role  # type: ignore[attr-defined]  # for whoever asks what a callback needs
        return careful

    return decorate


def now() -> Act | None:
    """What is being done at this moment; None outside of callbacks that act."""
    return _NOW.get()


def tell(about: str = "", why: str = "", **details: Any) -> None:
    """Writes down how it ended for one thing, if something is being done."""
    act = _NOW.get()
    if act is not None:
        act.tell(about, why, **details)


def refuse(why: str, about: str = "") -> None:
    """Says on the page and in the audit log why something was not done."""
    state.complain(why)
    tell(about, why)


def refusal(role: Role) -> str:
    """Why the person of this session may not do what needs a role."""
    return f"this needs the role {role.label!r}, and yours is {who.me().role.label!r}; ask whoever administers this lab"


def refuse_outside(config: RunConfig, root: DataRoot) -> None:
    """Raises: AccessError when a config writes outside of the data root, and its person does not administer."""
    keys = [] if who.may(Role.ADMINISTER) else leads_outside(config, root)
    if keys:
        raise AccessError(
            f"{' and '.join(keys)} leads outside of the data root: {refusal(Role.ADMINISTER)}, or empty it"
        )


def allowed(role: Role, help: str = "", *, off: bool = False) -> dict[str, Any]:
    """`disabled` and `help` of a widget that needs a role; who has it not is told so in place of the help."""
    if who.may(role):
        return {"disabled": off, "help": help or None}
    return {"disabled": True, "help": f"Needs the role {role.label}. {help}".strip()}


def handing_out(role: Role, what: str, data: Callable[[], T]) -> Callable[[], T]:
    """`data` of a download button, made only if its person has a role when the button is pressed.

    A browser can press a button that was drawn for somebody who might, and may not any more. Raises: AccessError then.
    """
    root, person, may_still = _root(), who.me().name, who.may_still(role)

    def made() -> T:
        if not may_still():
            reason = f"this needs the role {role.label!r}, which {person} does not have any more; reload the page"
            Act(root, person, what).tell(why=reason)
            raise AccessError(reason)
        return data()

    return made


def _root() -> DataRoot | None:
    try:
        return state.data_root()
    except DataRootError:  # what is in its place is said beside every page; a log there can be none
        return None
