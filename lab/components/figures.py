"""Draws a row of figures, each with its name, that wraps on a narrow screen."""

from collections.abc import Sequence

import streamlit as st

from wording import plain

Figure = tuple[str, str, str | None]


def show_figures(figures: Sequence[Figure]) -> None:
    """Draws (name, value, help) side by side as far as there is room."""
    with st.container(horizontal=True):
        for name, value, help in figures:
            with st.container(border=True, width="stretch"):
                st.metric(name, plain(value, 60), help=help)
