"""What stands between a page and trouble: callbacks that are done to their end."""

import pytest
from streamlit.testing.v1 import AppTest


def an_app(protected: bool) -> None:
    import streamlit as st
    from streamlit.runtime.scriptrunner import RerunData, get_script_run_ctx

    from guard import whole

    def typed() -> None:
        st.session_state["begun"] = st.session_state.get("begun", 0) + 1
        context = get_script_run_ctx()
        assert context is not None and context.script_requests is not None
        # As a live part that refreshes, or a click elsewhere, while the callback works.
        context.script_requests.request_rerun(RerunData(page_script_hash=context.page_script_hash))
        st.session_state["kept"] = st.session_state["text"]

    st.text_input("Text", key="text", on_change=whole(typed) if protected else typed)
    st.write(st.session_state.get("kept", "nothing"))


@pytest.mark.parametrize("protected", [False, True])
def test_a_callback_is_done_to_its_end_though_another_request_comes(protected: bool) -> None:
    at = AppTest.from_function(an_app, args=(protected,)).run()
    at.text_input(key="text").set_value("mine").run()
    assert not at.exception
    assert at.session_state["begun"] == 1
    assert ("kept" in at.session_state) is protected, "once Streamlit does this by itself, `whole` can go"
