"""The trash of runs: put back, or removed for good."""

import pandas as pd
import streamlit as st

import acts
import run_actions
from components.empty import show_empty
from components.tables import forget_ticks_of_another_list
from pianistid_core import trash
from pianistid_core.accounts import Role
from pianistid_core.datasets.root import DataRoot
from wording import count, listed, one_line, plain

TABLE = "trash_table"


def notice() -> None:
    """Right after runs went to the trash: says so, with an undo."""
    run_actions.take_in()
    thrown = st.session_state.get(run_actions.UNDO)
    if not thrown:
        return
    names = listed((run_id for _, run_id in thrown), 3)
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="undo_line"):
        st.markdown(plain(f"{count(len(thrown), 'run is', 'runs are')} in the trash: {names}", 400), width="stretch")
        st.button(
            "Undo", key="undo_trash", icon=":material/undo:", type="primary", on_click=run_actions.undo,
            **acts.allowed(Role.RUN, "Puts them back where they were."),
        )  # fmt: skip
        st.button(
            "Dismiss", key="dismiss_undo", icon=":material/close:", type="tertiary", on_click=run_actions.forget_undo,
            help="Takes this line away; the runs stay in the trash.",
        )  # fmt: skip


def draw(root: DataRoot) -> None:
    """Draws what lies in the trash."""
    found = trash.discarded(root.checkpoints_dir)
    if not found:
        show_empty(
            ":material/delete:", "The trash is empty",
            "A run that is moved to the trash waits here until it is put back or removed for good.", key="trash",
        )  # fmt: skip
        return
    forget_ticks_of_another_list(TABLE, tuple(one.id for one in found))
    total = sum(one.size_bytes for one in found) / 2**20
    bar = st.container(key="trash_bar")
    event = st.dataframe(
        pd.DataFrame(
            {
                "Run": [one_line(one.run_id) for one in found],
                "Discarded": pd.to_datetime([one.when for one in found], unit="s"),
                "Size": [one.size_bytes / 2**20 for one in found],
            }
        ),
        hide_index=True, key=TABLE, on_select="rerun", selection_mode="multi-row",
        height=35 * min(len(found), 14) + 38, alt="Runs in the trash with their size.",
        column_config={
            "Run": st.column_config.TextColumn(width="large", help="What the run was called, and will be again."),
            "Discarded": st.column_config.DatetimeColumn(format="distance", help="When it was moved here."),
            "Size": st.column_config.NumberColumn(format="%.1f MB", help="What it takes on disk."),
        },
    )  # fmt: skip
    rows = [row for row in event["selection"]["rows"] if row < len(found)]
    chosen = [found[row].id for row in rows]
    with bar, st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(plain(f"{count(len(found), 'run')}, {total:,.1f} MB. {len(chosen)} chosen."), width="content")
        st.button(
            "Put back", key="trash_restore", icon=":material/restore_from_trash:", type="primary",
            on_click=run_actions.restore, args=(chosen,),
            **acts.allowed(Role.RUN, "Puts the chosen runs back where they were.", off=not chosen),
        )  # fmt: skip
        with st.popover("Empty", icon=":material/delete_forever:", key="trash_empty_menu", help="Removes for good."):
            what = f"the {count(len(chosen), 'chosen run')}" if chosen else f"all {count(len(found), 'run')}"
            st.write(plain(f"This removes {what} with their checkpoints from disk. It cannot be undone."))
            st.button(
                "Remove for good", key="trash_empty", type="primary", on_click=run_actions.empty_trash,
                args=(chosen or None,), **acts.allowed(Role.ADMINISTER, "Frees the disk space."),
            )  # fmt: skip
