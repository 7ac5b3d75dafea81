"""Data: what is here, what it sounds like, what is wrong with it, how it is split, and how more comes in."""

import streamlit as st

import actions
import cached
import jobs
import state
from components.empty import show_empty
from data_browser import draw_browser
from data_check import draw_check
from data_import import draw_import
from data_split import draw_editor
from data_statistics import draw_statistics
from guard import guarded
from pianistid_core.datasets.root import DataRoot
from wording import count, plain, sentence

_STATISTICS, _CLIPS, _CHECK, _SPLITS, _MORE = "Statistics", "Look and listen", "Check", "Splits", "Bring in more"


def without_split(root: DataRoot) -> None:
    """What a data root without a split shows: the way to music, or the way to a split."""
    tracks = cached.contents(root).tracks
    if tracks:
        st.info(
            plain(f"{count(len(tracks), 'recording')} are here, but no split says which of them to train and test on."),
            icon=":material/info:",
        )
        with guarded():
            draw_editor(root)
    else:
        show_empty(
            ":material/library_music:", "No music here yet",
            "Let the lab compose its demo, or bring in MIDI files of your own.", key="data",
        )  # fmt: skip
    draw_import(root)


def page() -> None:
    root = state.data_root()
    st.title("Data", anchor=False)
    here = cached.contents(root)
    for name, reason in here.broken_splits.items():
        st.error(sentence(f"split {name} cannot be read: {reason}"), icon=":material/error:")
    if not here.splits:
        without_split(root)
        return
    names = list(here.splits)
    asked = st.query_params.get("split")
    if asked is not None and asked not in names:
        st.warning(sentence(f"there is no split {asked} here; this is another"), icon=":material/link_off:")
    chosen, _ = st.columns([2, 3])
    name = chosen.selectbox(
        "Split", names, key="split", bind="query-params",
        help="Which recordings train, test and validate. A data root may hold several.",
    )  # fmt: skip
    split = here.splits[name if name in here.splits else names[0]]
    job = jobs.find(actions.demo_job(root))
    if job is not None and job.running:
        jobs.draw(actions.demo_job(root))
    labels = [_STATISTICS, _CLIPS, _CHECK, _SPLITS, _MORE]
    tabs = dict(zip(labels, st.tabs(labels, key="data_tab", on_change="rerun", bind="query-params"), strict=True))
    for label, tab in tabs.items():
        if tab.open:
            with tab, guarded():
                if label == _STATISTICS:
                    draw_statistics(root, split)
                elif label == _CLIPS:
                    draw_browser(root, split)
                elif label == _CHECK:
                    draw_check(root, split.name)
                elif label == _SPLITS:
                    draw_editor(root)
                else:
                    draw_import(root)


page()
