"""Every key that the lab keeps between reruns, with the functions that read and write it.

A page's choice of run, pianist or model lives in the address bar (`bind="query-params"`), so that a link or a refresh
opens the same view. What stands here is the rest.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

import who
from drafts import Draft, DraftError, DraftStore
from pianistid_core.accounts import Role
from pianistid_core.datasets.root import DataRoot

# Widgets whose value is in the address bar. They are shared by all pages, so each name has one meaning.
RUN = "run"
MODEL = "model"

DRAFT = "draft"

_BROUGHT = "brought"
_DRAFT = "build.draft"
_UNKEPT = "build.unkept"
_NOTICE = "notice"
_COMPLAINT = "complaint"


def bound_choice(key: str, options: Sequence[str]) -> None:
    """Chooses the first option for a widget bound to the address bar, unless the address or the user says otherwise.

    A widget's own default is left out of the address, and a link must go on meaning the same when newer options come.
    """
    asked = st.query_params.get(key)
    if st.session_state.get(key) not in options and asked not in options:
        st.session_state[key] = options[0]


@dataclass
class _Chosen:
    """The data root that this server works with; a refresh or a second tab finds the same one."""

    path: str | None = None


@st.cache_resource(show_spinner=False)
def _chosen() -> _Chosen:
    return _Chosen()


def data_root() -> DataRoot:
    """The data root in use: the one chosen in the sidebar, else $PIANISTID_HOME, else ./workspace."""
    return DataRoot.open(_chosen().path)


def choose_data_root(path: str) -> None:
    """Works with another data root from now on; empty text goes back to the default.

    Raises: DataRootError when a file is in its place.
    """
    text = path.strip()
    DataRoot.open(text or None)
    _chosen().path = os.path.expanduser(text) or None


def draft_store() -> DraftStore:
    """The drafts that the person of this session has on disk, in the data root in use."""
    return DraftStore(data_root(), _owner())


def _owner() -> str:
    """Whose drafts these are: of somebody with an account, or nobody's but the machine's."""
    return who.me().name if who.has_logged_in() else ""


def _draft_key() -> str:
    return f"{_DRAFT}:{data_root().path}:{_owner()}"


def draft() -> Draft:
    """The config being built in this session; empty until a preset is chosen."""
    found: Draft = st.session_state.setdefault(_draft_key(), Draft())
    return found


def open_draft(asked: str | None) -> str | None:
    """Takes up the draft that the address names, else this session's, else the latest on disk.

    Gives the sentence to show when the one asked for cannot be had.
    """
    store, mine = draft_store(), draft()
    complaint = None
    found: Draft | None = None
    if asked and asked != mine.id:
        try:
            found = store.load(asked)
        except DraftError as error:
            complaint = f"{error}; here is the latest one"
    if found is None and not mine.base:
        found = store.latest()
    if found is not None:
        _take_up(found)
    refresh_draft()
    return complaint


def refresh_draft() -> bool:
    """Takes up what another tab has written into the draft of this session; says whether there was anything."""
    store, mine = draft_store(), draft()
    if store.written(mine.id) in (0, mine.written):
        return False
    try:
        found = store.load(mine.id)
    except DraftError:
        return False
    found.generation = mine.generation + 1
    _take_up(found)
    return True


def keep_draft() -> None:
    """Writes the draft of this session to disk; a disk that refuses is named on the page, and nothing else is lost.

    Who may only look keeps nothing: the Build page shows such a person what it could do, and no more.
    """
    st.session_state.pop(_UNKEPT, None)
    if not who.may(Role.RUN):
        return
    try:
        draft_store().save(draft())
    except DraftError as error:
        st.session_state[_UNKEPT] = str(error)


def unkept() -> str | None:
    """Why the draft could not be written to disk, if so."""
    message: str | None = st.session_state.get(_UNKEPT)
    return message


def new_draft() -> Draft:
    """Begins another draft; the old one stays on disk until there are too many."""
    _take_up(Draft())
    draft_store().prune()
    return draft()


def _take_up(found: Draft) -> None:
    st.session_state[_draft_key()] = found


def bring(pieces: Sequence[tuple[str, bytes]]) -> None:
    """Keeps files that were dropped elsewhere for the page Identify: their names and bytes."""
    st.session_state[_BROUGHT] = list(pieces)


def brought() -> list[tuple[str, bytes]]:
    """The files kept by `bring`, until others come or they are put away."""
    found: list[tuple[str, bytes]] = st.session_state.get(_BROUGHT, [])
    return found


def notify(message: str) -> None:
    """Keeps a short message for the next page to show, since a page change drops toasts."""
    st.session_state[_NOTICE] = message


def take_notice() -> str | None:
    """The message kept by `notify`, once."""
    message: str | None = st.session_state.pop(_NOTICE, None)
    return message


def complain(message: str) -> None:
    """Keeps what went wrong in a callback, for the page to show in place."""
    st.session_state[_COMPLAINT] = message


def take_complaint() -> str | None:
    """The message kept by `complain`, once."""
    message: str | None = st.session_state.pop(_COMPLAINT, None)
    return message
