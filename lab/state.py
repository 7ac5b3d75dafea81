"""Every key that the lab keeps between reruns, with the functions that read and write it.

A page's choice of run, pianist or model lives in the address bar (`bind="query-params"`), so that a link or a refresh
opens the same view. What stands here is the rest.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from pianistid_core.datasets.root import DataRoot

# Widgets whose value is in the address bar. They are shared by all pages, so each name has one meaning.
RUN = "run"
MODEL = "model"

_DRAFT = "build.draft"
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


@dataclass
class Draft:
    """The config being built: plain values nested as in a YAML, and what it is compared with.

    `generation` names the widgets: it grows when values come from elsewhere, so that every widget takes them up.
    """

    base: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    generation: int = 0
    yaml_text: str | None = None
    yaml_faults: tuple[str, ...] = ()


def draft() -> Draft:
    """The config being built in this session; empty until a preset is chosen."""
    found: Draft = st.session_state.setdefault(_DRAFT, Draft())
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
