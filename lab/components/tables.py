"""Tables as people take them away: the figures behind a chart, the files behind a finding."""

from typing import TYPE_CHECKING, Any

import streamlit as st

from pianistid_core.datasets.tables import harmless_cell

if TYPE_CHECKING:
    import pandas as pd

_MOST_SHOWN = 1000


def csv_of(source: Any) -> bytes:
    """Gives rows, a data frame or a function of either as CSV, in which a spreadsheet finds no formula."""
    table = _frame(source)
    for column in table.columns:
        if not _is_numeric(table[column]):
            table[column] = [harmless_cell(value) if isinstance(value, str) else value for value in table[column]]
    table.columns = [harmless_cell(str(column)) for column in table.columns]
    return bytes(table.to_csv(index=False).encode("utf-8"))


def show_data(source: Any, *, key: str, name: str, alt: str) -> None:
    """Draws a button that opens the figures behind something as a table, with a file to take away.

    The table is made when it is opened, so that it costs a live page nothing while it is closed.
    """
    opened = st.popover(
        "Data", key=f"{key}_data", icon=":material/table_view:", type="tertiary", on_change="rerun",
        help="The figures of this chart as a table, and as a file.",
    )  # fmt: skip
    with opened:
        download(source, key=f"{key}_csv", name=name)
        if opened.open:
            table = _frame(source)
            st.dataframe(
                table.head(_MOST_SHOWN), hide_index=True, key=f"{key}_table", height=_height(len(table)), alt=alt
            )
            if len(table) > _MOST_SHOWN:
                st.caption(f"The first {_MOST_SHOWN:,} of {len(table):,} rows; the file has all.")


def download(source: Any, *, key: str, name: str, label: str = "Download as CSV") -> None:
    """Draws a button that saves rows as `name`.csv, worked out when it is pressed."""
    st.download_button(
        label, data=lambda: csv_of(source), file_name=f"{name}.csv", mime="text/csv", key=key,
        icon=":material/download:", on_click="ignore", help="Comma-separated values, one row a line.",
    )  # fmt: skip


def forget_ticks_of_another_list(table: str, shown: tuple[str, ...]) -> None:
    """Unticks the rows of a table when it shows other things than before: they would be ones that nobody chose."""
    if st.session_state.get(f"{table}.shown") != shown:
        st.session_state[table] = {"selection": {"rows": [], "columns": [], "cells": []}}
    st.session_state[f"{table}.shown"] = shown


def _frame(source: Any) -> "pd.DataFrame":
    import pandas as pd

    found = source() if callable(source) else source
    return pd.DataFrame(found).copy()


def _is_numeric(column: "pd.Series[Any]") -> bool:
    import pandas as pd

    return bool(pd.api.types.is_numeric_dtype(column))


def _height(rows: int) -> int:
    return min(38 + 35 * max(rows, 1), 320)
