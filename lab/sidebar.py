"""What stands beside every page: the name, the pages, what is training, and the data root in use."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

import actions
import acts
import cached
import run_states
import state
import who
from acts import acting
from guard import guard, guarded
from pianistid_core.accounts import Role
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import PianistIDError
from pianistid_core.runs import Run, RunSummary
from wording import count, duration, one_line, plain, sentence

_HERE = Path(__file__).parent / "components"
_MOST_RUNNING = 2
_SEEN = "root_seen"
_LOOK_EVERY_S = 4
# A form of the gate's: a button of Streamlit's could not make the browser forget its cookie.
_LOG_OUT = '<form method="post" action="logout"><button>Log out</button></form>'

Pages = Mapping[str, Sequence[Any]]


def draw(pages: Pages) -> None:
    """Draws the sidebar with the navigation, and what callbacks left to be said."""
    st.html(_HERE / "lab.css")
    st.logo((_HERE / "logo.svg").read_text(encoding="utf-8"), size="large")
    with st.sidebar:
        _navigation(pages)
        try:
            root = state.data_root()
        except PianistIDError as error:
            st.error(sentence(error))
            _chooser("")
            st.stop()
        with guarded():
            _training(root)
        _data_root(root)
        _person()
    notice = state.take_notice()
    if notice:
        st.toast(plain(notice, 600))
    complaint = state.take_complaint()
    if complaint:
        st.error(sentence(complaint), icon=":material/error:")


def _navigation(pages: Pages) -> None:
    """The pages by section. Streamlit's own menu puts list items into blocks, which screen readers stumble over."""
    with st.container(key="nav", gap=None):
        for section, links in pages.items():
            if section:
                st.caption(section)
            for page in links:
                st.page_link(page, width="stretch")


def _training(root: DataRoot) -> None:
    """The runs that train now, each with how far it is; and how many wait."""
    running = running_now(root)
    queue = cached.run_queue(root)
    try:
        queue.wake()
        waiting = len(queue.files.ids("waiting"))
    except (PianistIDError, OSError) as error:
        st.warning(sentence(error), icon=":material/hourglass_disabled:")
        waiting = 0
    if not running and not waiting:
        return
    with st.container(key="nav_training", gap="xsmall"):
        st.caption("Training now" if running else "Queue")
        for run in running[:_MOST_RUNNING]:
            st.page_link(
                "views/runs.py", label=plain(run.id, 40), icon=run_states.STATES["running"][1], width="stretch",
                query_params={state.RUN: run.id}, help="Watch this run.",
            )  # fmt: skip
        if running:
            _progress(root, [run.id for run in running])
        more = [f"{len(running) - _MOST_RUNNING} more"] if len(running) > _MOST_RUNNING else []
        more += [f"{waiting} waiting" + (", paused" if queue.paused else "")] if waiting else []
        if more:
            st.caption(plain("; ".join(more)))


def running_now(root: DataRoot) -> list[RunSummary]:
    """The runs that train now, newest first."""
    return [run for run in cached.run_index(root).summaries() if run.state.status == "running"]


@st.fragment(run_every=_LOOK_EVERY_S, key="sidebar_progress")
@guard
def _progress(root: DataRoot, ids: Sequence[str]) -> None:
    running = running_now(root)
    if [run.id for run in running] != list(ids):
        st.rerun()
    for run in running[:_MOST_RUNNING]:
        st.progress(run_states.progress_of(run.state), text=plain(how_far(run)))


def how_far(run: RunSummary) -> str:
    """How far a run is, in words: its epoch, and how long it will still take where that is known."""
    progress = Run(run.path).progress() or {}
    words = f"Epoch {run.state.epoch} of {run.state.epochs}" if run.state.epochs else count(run.state.epoch, "epoch")
    left = progress.get("eta_s")
    return f"{words}, {duration(left)} left" if isinstance(left, int | float) else words


def _data_root(root: DataRoot) -> None:
    with st.container(key="nav_root", gap=None):
        st.caption("Data root")
        with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
            st.markdown(f":material/folder: {plain(_short(root.path), 120)}", width="stretch")
            _chooser(str(root.path))


def _person() -> None:
    """Who has logged in, and the way out; nothing where nobody is asked."""
    if not who.has_logged_in():
        return
    person = who.me()
    with st.container(key="nav_person", gap=None):
        st.caption("Logged in")
        with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
            st.markdown(f":material/person: {plain(person.name, 80)}, may {person.role.label}", width="stretch")
            st.html(_LOG_OUT, width="content")


def _short(path: Path) -> str:
    """A path as a person would write it: from the home folder, or from here."""
    for base, sign in ((Path.cwd(), "."), (Path.home(), "~")):
        if path.is_relative_to(base):
            return one_line(f"{sign}/{path.relative_to(base)}".rstrip("/."), 300) or sign
    return one_line(path, 300)


def _chooser(path: str) -> None:
    seen, times = st.session_state.get(_SEEN, ("", 0))
    if seen != path:  # here or in another tab; a new field shows it, since a closed popover takes up no change
        times += 1
        st.session_state[_SEEN] = path, times
    with (
        st.popover("Change", key=f"root_popover:{times}", type="tertiary", help="Work with another folder."),
        st.form("data_root", border=False),
    ):
        key = f"root_folder:{times}"
        st.text_input(
            "Folder", value=path, key=key,
            **acts.allowed(
                Role.ADMINISTER, "The folder that holds data, splits and runs. Empty goes back to the default."
            ),
        )  # fmt: skip
        st.form_submit_button(
            "Use this folder", key="root_use", type="primary", on_click=use_folder, args=(key, times),
            **acts.allowed(Role.ADMINISTER, "Takes effect for all open tabs."),
        )  # fmt: skip


@acting(Role.ADMINISTER, "settings")
def use_folder(key: str, times: int) -> None:
    """Works with the folder that was typed."""
    chosen = str(st.session_state.get(key) or "")
    if not actions.attempt(lambda: state.choose_data_root(chosen), about=f"data root {chosen.strip() or 'by default'}"):
        return
    now = state.data_root().path
    state.notify(f"The data root is now {now}" + ("" if now.is_dir() else ", where nothing is yet"))
    st.session_state[_SEEN] = "", times
    st.query_params.pop(state.DRAFT, None)  # it belongs to the folder that was in use
