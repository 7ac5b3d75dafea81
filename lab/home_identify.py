"""The shortest way to an answer: a file dropped on Home, to the model that comes with the lab."""

import streamlit as st

import identify_sources
import state
from identify_work import warm_up
from pianistid_core.boxed import Box
from wording import count, percent, plain


def draw(box: Box) -> None:
    """The drop zone, what answers, and the way for who has no file; what is dropped goes to Identify at once."""
    warm_up()
    with st.container(border=True, key="home_identify"):
        st.header("Identify a MIDI file", anchor=False)
        st.markdown(plain(promise(box), 600))
        pieces = identify_sources.pieces_of(identify_sources.drop_zone("home_files"))
        with st.container(horizontal=True, gap="small"):
            st.page_link(
                "views/identify.py", label="No file? Play a piano", icon=":material/piano:",
                query_params={state.MODEL: box.name, "source": identify_sources.PLAY},
                help="Half a minute on the keys of this computer, or of a MIDI keyboard.",
            )  # fmt: skip
    if pieces:
        state.bring([(piece.name, piece.data) for piece in pieces])
        st.switch_page("views/identify.py", query_params={state.MODEL: box.name})


def promise(box: Box) -> str:
    """What the model can tell, how often it is right, and what its answer is not."""
    who = count(len(box.class_names), "pianist")
    right = box.right
    often = (
        f"It named {percent(right[0])} of {count(right[1], 'recording')} rightly that it never heard. " if right else ""
    )
    doubt = (
        ", and where it may be nobody of them, it says so" if box.calibration and box.calibration.get("leads") else ""
    )
    return (
        f"The model that comes with the lab knows {who} and answers in seconds, without data, training or a network. "
        f"{often}A name is a likeness, no proof{doubt}."
    )
