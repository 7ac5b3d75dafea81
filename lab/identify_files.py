"""What can be taken away of an answer: JSON, CSV, one self-contained report, and the music itself."""

import json
import re
from typing import TYPE_CHECKING

import streamlit as st

import palette
from identify_answer import Answer
from identify_work import Insight
from wording import one_line

if TYPE_CHECKING:
    from pianistid_core.identify import Identification

_UNSAFE = re.compile(r"[^\w .()-]+")


def file_stem(name: str) -> str:
    """A name that any system takes for a file: letters, digits, blanks, dots, brackets and hyphens."""
    stem = _UNSAFE.sub("_", one_line(name, 80).rsplit(".", 1)[0]).strip(" ._")
    return stem or "piece"


def downloads(answer: Answer, found: "Identification", insight: Insight) -> None:
    """Buttons for each kind of file; each is made when it is pressed."""
    stem = file_stem(answer.given.name)

    def as_json() -> str:
        extra: dict[str, object] = {"name": answer.given.name, "truth": answer.given.truth}
        if insight.attribution is not None:
            extra["attribution"] = insight.attribution.to_dict()
        if insight.phrases is not None:
            extra["phrases"] = [phrase.to_dict() for phrase in insight.phrases]
        if insight.neighbours is not None:
            extra["neighbours"] = [one.to_dict() for one in insight.neighbours]
        if insight.familiarity is not None:
            extra["familiarity"] = insight.familiarity.to_dict()
        return json.dumps(found.to_dict() | extra, indent=2, ensure_ascii=False)

    def as_report() -> str:
        from pianistid_core.report import identification_html

        notes = answer.notes
        if notes is None:
            return ""
        names = list(found.probabilities)
        paper = palette.of_theme("light")
        return identification_html(
            answer.given.name, notes, found, attribution=insight.attribution, neighbours=insight.neighbours or (),
            familiarity=insight.familiarity, phrases=insight.phrases or (),
            colours={name: paper.of_pianist(name, names) for name in names},
        )  # fmt: skip

    st.subheader("Take it away")
    with st.container(horizontal=True, gap="small"):
        st.download_button(
            "Report", as_report, file_name=f"{stem} - identification.html", mime="text/html", type="primary",
            icon=":material/description:", on_click="ignore", key="answer_html",
            help="One page that needs neither this lab nor a network: the answer, the roll, the concepts, the notes.",
        )  # fmt: skip
        st.download_button(
            "JSON", as_json, file_name=f"{stem} - identification.json", mime="application/json",
            icon=":material/data_object:", on_click="ignore", key="answer_json",
            help="Everything on this page as data.",
        )  # fmt: skip
        st.download_button(
            "CSV", lambda: found.to_csv(), file_name=f"{stem} - identification.csv", mime="text/csv",
            icon=":material/table_view:", on_click="ignore", key="answer_csv",
            help="Every probability in one table: the piece, its clips, each subset of concepts.",
        )  # fmt: skip
        st.download_button(
            "MIDI", lambda: answer.given.data, file_name=f"{stem}.mid", mime="audio/midi",
            icon=":material/music_note:", on_click="ignore", key="answer_midi",
            help="The music that was identified, as it came.",
        )  # fmt: skip
