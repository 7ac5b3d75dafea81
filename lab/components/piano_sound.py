"""The samples of a real piano on the page, for every player on it to find; without them players make a tone.

They stand in an audio element of Streamlit's own, out of sight: its address is a file of this server, the same for the
same bytes, so that the browser fetches them once.
"""

import logging
from pathlib import Path

import streamlit as st
from streamlit.errors import StreamlitDuplicateElementKey

import state
from pianistid_core.errors import PianistIDError
from pianistid_core.sound import bank_layout, piano_bank

log = logging.getLogger(__name__)

CONTAINER = "piano_bank"  # piano_sound.js looks for it


def sound_script() -> str:
    """The JavaScript that finds and plays the samples, to stand before a component's own."""
    return (Path(__file__).parent / "piano_sound.js").read_text(encoding="utf-8")


@st.cache_data(show_spinner=False)
def layout() -> list[list[float]]:
    """Pitch, start and length (seconds) of each sample, as the browser takes them."""
    return [[sample.pitch, round(sample.start_s, 6), round(sample.length_s, 6)] for sample in bank_layout()]


@st.cache_resource(max_entries=1, show_spinner=False)
def _bank(cache_dir: Path) -> bytes | None:
    try:
        return piano_bank(cache_dir)
    except PianistIDError as error:
        log.warning("players make a tone of their own: %s", error)
        return None


def place_bank() -> list[list[float]]:
    """Puts the samples on the page, once however many players it has, and gives their layout."""
    bank = _bank(state.data_root().cache_dir)
    if bank is None:
        return []
    try:
        with st.container(key=CONTAINER):
            st.audio(bank, format="audio/wav", alt="The samples that the players on this page sound with.")
    except StreamlitDuplicateElementKey:
        log.debug("another player of this page has put the samples there")
    return layout()
