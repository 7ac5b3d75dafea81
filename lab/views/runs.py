"""Runs: the list of every run with its queue and trash, and one run as it trains; all is read from disk."""

import streamlit as st

import acts
import cached
import run_actions
import run_detail
import run_list
import run_queue_view
import run_trash_view
import state
from acts import acting
from guard import guarded, whole
from pianistid_core import trash
from pianistid_core.accounts import Role
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import PianistIDError
from pianistid_core.runs import Run, RunSummary
from wording import count, one_line, plain, sentence

VIEW = "runs_view"
LIST, QUEUE, TRASH = "Runs", "Queue", "Trash"


def forget_the_gone(runs: list[RunSummary]) -> None:
    """Says when the run that the address or the session asks for is not here, and asks for it no longer."""
    asked = st.session_state[state.RUN] if state.RUN in st.session_state else st.query_params.get(state.RUN)
    if asked and asked not in {run.id for run in runs}:
        gone(str(asked))
        st.session_state[state.RUN] = None


def gone(id: str) -> None:
    """Says that a run is not here, and where it is if it is in the trash."""
    folder = state.data_root().checkpoints_dir
    inside = next((one for one in trash.discarded(folder) if one.run_id == id), None)
    if inside is None:
        words = f"there is no run {id} in this data root; it was deleted or moved, or trains into another folder"
        st.warning(sentence(words), icon=":material/warning:")
        return
    if inside.id in {one for one, _ in st.session_state.get(run_actions.UNDO, ())}:
        return
    st.warning(sentence(f"run {id} is in the trash"), icon=":material/delete:")
    st.button(
        "Put it back", key="restore_asked", icon=":material/restore_from_trash:", on_click=put_back,
        args=(inside.id, id), **acts.allowed(Role.RUN, "Takes it out of the trash and shows it."),
    )  # fmt: skip


@acting(Role.RUN, "restore")
def put_back(trash_id: str, run_id: str) -> None:
    """Takes a run out of the trash and shows it."""
    run_actions.restore([trash_id])
    st.session_state[state.RUN] = run_id


@whole
def close() -> None:
    """Goes back to the list."""
    st.session_state[state.RUN] = None


def top(runs: list[RunSummary]) -> str | None:
    """The title, and the field that finds a run by its name; gives the run to show."""
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    shown = right.selectbox(
        "Run", [run.id for run in runs], index=None, key=state.RUN, bind="query-params", format_func=one_line,
        placeholder="Find a run by its name", help="Opens a run: type a part of its name.",
    )  # fmt: skip
    with left:
        if shown is not None:
            st.button(
                "All runs", key="all_runs", type="tertiary", icon=":material/arrow_back:", on_click=close,
                help="Goes back to the list.",
            )  # fmt: skip
        st.title("Runs" if shown is None else plain(shown))
    return shown


def views(root: DataRoot, runs: list[RunSummary]) -> None:
    """The list, the queue and the trash."""
    waiting = 0
    with guarded():
        waiting = len(cached.run_queue(root).entries())
    thrown = len(trash.discarded(root.checkpoints_dir))
    run_list.remember(VIEW, LIST)
    with st.container(horizontal=True, vertical_alignment="center", key="runs_views"):
        view = st.segmented_control(
            "Show", [LIST, QUEUE, TRASH], default=LIST, key=VIEW, bind="query-params", required=True,
            label_visibility="collapsed", help="Every run, those that wait, or those thrown away.",
        )  # fmt: skip
        words = [count(waiting, "waits", "wait")] if waiting else []
        words += [f"{thrown:,} in the trash"] if thrown else []
        if words:
            st.caption(", ".join(words), width="content")
    with guarded():
        if view == QUEUE:
            run_queue_view.draw(root, runs)
        elif view == TRASH:
            run_trash_view.draw(root)
        else:
            run_list.draw(root, runs)


def page() -> None:
    if st.session_state.pop(run_actions.GO_BUILD, False):
        # No parameters rather than none given: the latter refuses to leave a page whose widgets stand in the address.
        st.switch_page("views/build.py", query_params={})
    root = state.data_root()
    with guarded():
        cached.run_queue(root).wake()
    runs = cached.run_index(root).summaries()
    forget_the_gone(runs)
    shown = top(runs)
    run_trash_view.notice()
    known = next((run for run in runs if run.id == shown), None)
    if known is None:
        views(root, runs)
        return
    try:
        run = Run.find(root.checkpoints_dir, known.id)
    except PianistIDError as error:
        st.warning(sentence(error), icon=":material/warning:")
        return
    run_detail.draw(root, run, known)


page()
