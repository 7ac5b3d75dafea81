"""What stands where nothing is yet: a sign, a title, a sentence on what would be here, and one thing to do."""

from collections.abc import Callable

import streamlit as st

from wording import plain


def show_empty(
    icon: str, title: str, words: str, action: Callable[[], object] | None = None, *, key: str = "empty"
) -> None:
    """Draws an empty state; `icon` is a Material icon such as ":material/piano:", `action` draws what can be done."""
    with st.container(key=f"empty_{key}", border=True, horizontal_alignment="center", gap="small"):
        st.markdown(icon, width="content")
        st.subheader(plain(title), anchor=False, width="content", text_alignment="center")
        st.markdown(plain(words, 600), width=520, text_alignment="center")
        if action is not None:
            with st.container(horizontal=True, horizontal_alignment="center", gap="small"):
                action()
