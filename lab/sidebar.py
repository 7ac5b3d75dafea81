"""What stands beside every page: the name, the data root in use, and what is training."""

from pathlib import Path

import streamlit as st

import state
from pianistid_core.errors import PianistIDError
from pianistid_core.runs import list_runs
from wording import count, one_line, plain, sentence

_HERE = Path(__file__).parent / "components"


def draw() -> None:
    """Draws the sidebar below the navigation."""
    st.html(_HERE / "lab.css")
    st.logo((_HERE / "logo.svg").read_text(encoding="utf-8"), size="large")
    with st.sidebar:
        try:
            root = state.data_root()
        except PianistIDError as error:
            st.error(sentence(error))
            _chooser("")
            st.stop()
        running = [run for run in list_runs(root.checkpoints_dir) if run.state.status == "running"]
        if running:
            st.page_link(
                "views/runs.py",
                label=f"{count(len(running), 'run')} training",
                icon=":material/graphic_eq:",
                query_params={state.RUN: running[0].id},
            )
        st.caption("Data root")
        st.code(_short(root.path), language=None, wrap_lines=True)
        _chooser(str(root.path))
    notice = state.take_notice()
    if notice:
        st.toast(plain(notice, 600))
    complaint = state.take_complaint()
    if complaint:
        st.error(sentence(complaint), icon=":material/error:")


def _short(path: Path) -> str:
    """A path as a person would write it: from the home folder, or from here."""
    for base, sign in ((Path.cwd(), "."), (Path.home(), "~")):
        if path.is_relative_to(base):
            return one_line(f"{sign}/{path.relative_to(base)}".rstrip("/."), 300) or sign
    return one_line(path, 300)


def _chooser(path: str) -> None:
    with st.popover("Change", icon=":material/folder_open:", type="tertiary"), st.form("data_root", border=False):
        chosen = st.text_input(
            "Folder", value=path, help="The folder that holds data, splits and runs. Empty goes back to the default."
        )
        if st.form_submit_button("Use this folder", type="primary"):
            try:
                state.choose_data_root(chosen)
            except PianistIDError as error:
                st.error(sentence(error))
            else:
                state.notify(f"The data root is now {state.data_root().path}")
                st.rerun()
