"""The list of runs: filter, sort, choose, act on many. Controls stand outside of what refreshes itself."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

import acts
import cached
import run_actions
import run_export
import run_table
import state
from components.empty import show_empty
from guard import guard, whole
from pianistid_core.accounts import Role
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import PianistIDError
from pianistid_core.run_filter import parse_filter
from pianistid_core.run_index import RunIndex
from pianistid_core.runs import WAITING, RunSummary
from wording import count, listed, plain, sentence

LIVE_TICK_S = 3.0
IDLE_TICK_S = 15.0
ROW_PX = 35
MOST_ROWS = 14
TABLE = "runs_table"
OPEN = "runs_open"
PICKED = "runs.picked"
SHOWN = "runs.shown"
MOST_COMPARED = 20
TAG_HELP = "One short word, added to each chosen run. Enter applies it."

EXAMPLES = (
    ("baseline", "runs with these letters in their name, tags or note"),
    ("accuracy > 0.7", "best accuracy of test recordings over 70 %"),
    ('state == "failed"', "queued, running, finished, stopped, failed or interrupted"),
    ("optim_cfg.lr < 0.01 and starred", "any key of the config, and the star"),
    ('"baseline" in tags or test_loss < 1', "a tag, or a figure of the last epoch"),
    ('encoder_module == "cnn" and age_days < 7', "a model, and not older than a week"),
)


def seen(runs: Sequence[RunSummary]) -> int:
    """What of the runs the list shows, as one number: another number means that the list is out of date."""
    states = ((run.state.status, run.state.reason, run.state.epoch, run.state.silent_s is not None) for run in runs)
    return hash(tuple((run.id, state, run.labels) for run, state in zip(runs, states, strict=True)))


def remember(key: str, default: Any) -> None:
    """Gives a control that was away while a run was open the value it had, unless the address says otherwise."""
    kept = f"{key}.kept"
    if key not in st.session_state and key not in st.query_params and kept in st.session_state:
        st.session_state[key] = st.session_state[kept]
    st.session_state[kept] = st.session_state.get(key, default)


def draw(root: DataRoot, runs: Sequence[RunSummary]) -> None:
    """Draws the list with its controls."""
    live = any(run.state.status in ("running", "queued") for run in runs)
    st.fragment(watch, run_every=LIVE_TICK_S if live else IDLE_TICK_S, key="runs_watch")(root, seen(runs))
    if not runs:
        nothing_yet()
        return
    shown = toolbar(cached.run_index(root), runs)
    bar = st.container(key="bulk_bar")
    place = st.container(key="runs_place")
    with place:
        picked = table(shown) if shown else no_match(runs)
    with bar:
        bulk_bar([run for run in shown if run.id in picked])


@guard
def watch(root: DataRoot, known: int) -> None:
    """Draws the page anew when a run came, went, changed its state or finished an epoch."""
    if seen(cached.run_index(root).summaries()) != known:
        st.rerun()


def nothing_yet() -> None:
    """What a data root without runs shows."""
    show_empty(
        ":material/monitoring:", "No run yet",
        "A run is one training: its config, its curves, its checkpoints. Start one from a preset.",
        lambda: st.page_link("views/build.py", label="Build a run", icon=":material/tune:"), key="runs",
    )  # fmt: skip


def no_match(runs: Sequence[RunSummary]) -> tuple[str, ...]:
    """What is shown when no run passes the filter."""
    st.session_state[PICKED] = ()
    put_away = sum(run.labels.archived for run in runs)
    words = f"None of the {count(len(runs), 'run')} here fits. Change or empty the filter."
    if put_away and not st.session_state.get("runs_archived"):
        words += f" {count(put_away, 'run is', 'runs are')} archived and not shown."
    st.info(plain(words, 400), icon=":material/filter_alt_off:")
    return ()


def fields() -> tuple[str | None, str | None, bool]:
    """The fields of the toolbar: the filter, the order, and whether archived runs are shown."""
    text = st.text_input(
        "Filter", key="runs_filter", bind="query-params", placeholder='accuracy > 0.7 and "baseline" in tags',
        max_chars=1000, icon=":material/filter_alt:",
        help="Words to look for, or an expression over config keys, figures, tags and state. Enter applies it.",
    )  # fmt: skip
    with st.popover(
        "Examples", icon=":material/help:", type="tertiary", key="filter_help", help="What a filter can ask for."
    ):
        st.markdown("**What can be asked**")
        for expression, meaning in EXAMPLES:
            st.code(expression, language=None)
            st.caption(plain(meaning))
    sort = st.selectbox(
        "Order", list(run_table.ORDERS), key="runs_sort", bind="query-params", width=190, help="Which runs come first."
    )
    archived = st.toggle(
        "Archived", key="runs_archived", bind="query-params", help="Shows archived runs among the others."
    )
    return text, sort, archived


def toolbar(index: RunIndex, runs: Sequence[RunSummary]) -> list[RunSummary]:
    """Filter, order and archive; gives the runs to show, in order."""
    for key, default in (("runs_filter", ""), ("runs_sort", run_table.NEWEST), ("runs_archived", False)):
        remember(key, default)
    with st.container(horizontal=True, vertical_alignment="bottom", key="runs_toolbar"):
        text, sort, archived = fields()

    try:
        wanted = parse_filter(text or "")
    except PianistIDError as error:
        st.error(sentence(error), icon=":material/error:")
        wanted = parse_filter("")
    asks_for_archived = "archived" in (text or "")
    among = [run for run in runs if archived or asks_for_archived or not run.labels.archived]
    if wanted.needs_config:
        with st.spinner("Reading the configs"):  # only the first time; later only those that changed
            found = [run for run in among if wanted.matches(run, index.config(run))]
    else:
        found = [run for run in among if wanted.matches(run, _NO_CONFIG)]
    left_out = len(runs) - len(found)
    tail = f" {left_out:,} not shown." if left_out else ""
    st.caption(plain(f"{count(len(found), 'run')}.{tail} A click on a name opens the run; tick runs to act on them."))
    return run_table.ordered(found, sort)


_NO_CONFIG: Mapping[str, Any] = {}


def table(runs: Sequence[RunSummary]) -> tuple[str, ...]:
    """The table; gives the ids of the chosen rows. When rows move, a selection goes on meaning the same runs."""
    ids = tuple(run.id for run in runs)
    picked: tuple[str, ...] = st.session_state.get(PICKED, ())
    if st.session_state.get(SHOWN) != ids or TABLE not in st.session_state:
        rows = [ids.index(id) for id in picked if id in ids] if picked else []
        st.session_state[TABLE] = {"selection": {"rows": rows, "columns": [], "cells": []}}
    st.session_state[SHOWN] = ids

    @whole
    def took() -> None:
        # The rows of the browser are those of the table that was drawn last, so these ids are the ones to ask.
        chosen = st.session_state[TABLE]["selection"]["rows"]
        st.session_state[PICKED] = tuple(ids[row] for row in chosen if row < len(ids))

    @whole
    def opened() -> None:
        row = st.session_state[OPEN]["row"]
        if row < len(ids):
            st.session_state[state.RUN] = ids[row]

    event = st.dataframe(
        run_table.frame(runs), hide_index=True, column_config=run_table.columns(OPEN, opened), key=TABLE,
        on_select=took, selection_mode="multi-row", height=ROW_PX * min(len(runs), MOST_ROWS) + 38,
        row_height=ROW_PX, placeholder="", alt="Every run with its state, progress, accuracy, time, tags and note.",
    )  # fmt: skip
    chosen = tuple(ids[row] for row in event["selection"]["rows"] if row < len(ids))
    st.session_state[PICKED] = chosen
    return chosen


def bulk_bar(picked: Sequence[RunSummary]) -> None:
    """What can be done with the chosen runs; always there, so that nothing moves when a row is chosen."""
    ids = tuple(run.id for run in picked)
    none = not ids
    live = [run.id for run in picked if run.state.status in ("running", "queued")]
    ended = [run.id for run in picked if run.state.status in ("stopped", "failed", "interrupted")]
    waiting = [run.id for run in picked if run.state.reason == WAITING]
    starred = bool(picked) and all(run.labels.starred for run in picked)
    archived = bool(picked) and all(run.labels.archived for run in picked)

    def act(
        label: str, name: str, icon: str, off: bool, do: Callable[..., None], args: tuple[Any, ...], help: str,
        role: Role = Role.RUN,
    ) -> None:  # fmt: skip
        st.button(
            label, key=f"bulk_{name}", type="tertiary", icon=f":material/{icon}:", on_click=whole(do), args=args,
            **acts.allowed(role, help, off=off),
        )  # fmt: skip

    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="bulk_row"):
        st.markdown(f"**{len(ids)}** chosen", width="content")
        one = ids[0] if ids else ""
        act("Open", "open", "open_in_full", len(ids) != 1, open_run, (one,), "Shows the chosen run.",
            Role.LOOK)  # fmt: skip
        if st.button(
            "Compare", key="bulk_compare", type="tertiary", icon=":material/compare_arrows:",
            disabled=not 2 <= len(ids) <= MOST_COMPARED, help=f"Puts 2 to {MOST_COMPARED} runs side by side.",
        ):  # fmt: skip
            compare(ids)
        with st.popover(
            "Stop", key="bulk_stop", type="tertiary", icon=":material/stop_circle:", disabled=not live,
            help="Ends training runs, and takes waiting ones out of the queue.",
        ):  # fmt: skip
            stop_buttons("bulk", live)
        help = "Goes on from the latest checkpoint. Several runs take their turn in the queue."
        act("Resume", "resume", "resume", not ended, run_actions.resume, (ended,), help)
        act("Run next", "first", "vertical_align_top", not waiting, run_actions.first_in_queue, (waiting,),
            "To the front of the queue.")  # fmt: skip
        act("Remove star" if starred else "Star", "star", "star", none, run_actions.star, (ids, not starred),
            "A star marks runs to find again.")  # fmt: skip
        with st.popover("Tag", key="bulk_tag", type="tertiary", icon=":material/label:", disabled=none, help=TAG_HELP):
            st.text_input(
                "Tag", key="bulk_tag_text", max_chars=40, on_change=run_actions.add_tag, args=(ids, "bulk_tag_text"),
                **acts.allowed(Role.RUN, TAG_HELP),
            )  # fmt: skip
        help = "Archived runs stay on disk and are left out of the list."
        act("Bring back" if archived else "Archive", "archive", "archive", none, run_actions.archive,
            (ids, not archived), help)  # fmt: skip
        run_export.button(ids)
        help = "Moves them to the trash, from where they can be put back."
        if live:
            with st.popover(
                "Trash",
                key="bulk_trash_menu",
                type="tertiary",
                icon=":material/delete:",
                **acts.allowed(Role.RUN, help),
            ):
                trash_running("bulk_trash", ids, live)
        else:
            act("Trash", "trash", "delete", none, run_actions.discard, (ids,), help)


def stop_buttons(prefix: str, ids: Sequence[str]) -> None:
    """The three ways to stop."""
    st.button(
        "Stop and save", key=f"{prefix}_save", icon=":material/save:", width="stretch", on_click=run_actions.stop,
        args=(ids, "save"), **acts.allowed(Role.RUN, "Ends after this batch and keeps a checkpoint to go on from."),
    )  # fmt: skip
    st.button(
        "Finish now", key=f"{prefix}_finish", icon=":material/flag:", width="stretch", on_click=run_actions.stop,
        args=(ids, "finish"), **acts.allowed(Role.RUN, "Ends after this batch, evaluates, and counts as finished."),
    )  # fmt: skip
    st.button(
        "Discard", key=f"{prefix}_discard", icon=":material/close:", width="stretch", on_click=run_actions.stop,
        args=(ids, "discard"), **acts.allowed(Role.RUN, "Ends now and keeps nothing of this epoch."),
    )  # fmt: skip


def trash_running(key: str, ids: Sequence[str], live: Sequence[str]) -> None:
    """What moves runs to the trash of which some run or wait: it says what becomes of those."""
    one = len(live) == 1
    words = (
        f"{listed(live, 3)} {'is' if one else 'are'} not done. {'It is' if one else 'They are'} stopped first, with "
    )
    words += "a checkpoint, and can be put back. What waits in the queue and never trained is removed."
    st.write(plain(words, 600))
    st.button(
        "Stop and move to the trash", key=key, icon=":material/delete:", type="primary", on_click=run_actions.discard,
        args=(ids,), **acts.allowed(Role.RUN, "This takes a while; the page can be left."),
    )  # fmt: skip


@whole
def open_run(id: str) -> None:
    """Shows a run."""
    st.session_state[state.RUN] = id


def compare(ids: Sequence[str]) -> None:
    """Turns to the page that compares runs."""
    st.switch_page("views/compare.py", query_params={"runs": ",".join(ids)})
