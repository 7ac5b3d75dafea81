"""Draws a row of figures, each with its name and what it is of, that wraps on a narrow screen."""

import zlib
from collections.abc import Sequence

import streamlit as st

from wording import plain

Figure = tuple[str, str, str | None] | tuple[str, str, str | None, str]


def show_figures(figures: Sequence[Figure], *, key: str | None = None) -> None:
    """Draws (name, value, help, and optionally a line on what it is of) side by side as far as there is room.

    Without a key the names make one, which is enough unless a page shows the same figures twice.
    """
    key = key or f"{zlib.crc32(repr([figure[0] for figure in figures]).encode()):08x}"
    with st.container(horizontal=True, key=f"figures_{key}", gap="small"):
        for number, (name, value, help, *of) in enumerate(figures):
            with st.container(border=True, width="stretch", key=f"figure_{key}_{number}", gap=None):
                st.metric(name, plain(value, 60), help=help)
                if of:
                    st.caption(plain(of[0], 160))
