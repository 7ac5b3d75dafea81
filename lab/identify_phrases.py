"""The phrases that gave a pianist away, in words of music: a list, and the chosen one to see and hear."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

import palette
from components.piano_roll import Roll, as_played, show_roll
from components.tables import show_data
from guard import guard
from identify_answer import Answer
from identify_charts import MINUS
from identify_why import not_yet
from identify_work import Insight, digest
from pianistid_core.concepts import CONCEPTS
from pianistid_core.midi import Notes
from wording import clock, count, one_line, plain

if TYPE_CHECKING:
    import pandas as pd

    from pianistid_core.identify import Identification
    from pianistid_core.phrases import Phrase

_SHOWN_TIMES = 3
_WINDOW_S = 12.0
_ROW_PX = 32


def phrases_that_told(answer: Answer, found: "Identification", insight: Insight, *, can_tell: bool) -> None:
    """The phrases that spoke for the pianist and some against; nothing where the model has none to tell."""
    if not can_tell or answer.notes is None:
        return
    st.subheader("Phrases that told")
    phrases = insight.phrases
    if phrases is None:
        not_yet(insight, "phrases")
        return
    who = one_line(found.pianist, 60)
    if not phrases:
        st.caption(plain(f"No phrase of this music speaks for {who} more than for all others."))
        return
    st.caption(
        plain(
            f"What spoke for {who} in this model and not for everybody, and a few things that spoke against. A phrase "
            "is named by its notes where it is first heard; it may come again on other keys. Its share is of all that "
            "speaks the same way.",
            400,
        )
    )
    _choose(phrases, answer.notes, who, digest(answer.given.data))
    rows = [
        {
            "concept": one.concept, "family": one.family, "phrase": one.words, "heard": one.count,
            "share": one.share if one.speaks_for else -one.share, "gives": one.gives,
            "times_s": " ".join(f"{time:.2f}" for time in one.times_s),
        }
        for one in phrases
    ]  # fmt: skip
    show_data(rows, key="phrases", name="phrases-that-told", alt="Each phrase with its share.")


@st.fragment
@guard
def _choose(phrases: Sequence["Phrase"], notes: Notes, who: str, music: str) -> None:
    """The list, and under it the chosen phrase: the first, where none is."""
    event = st.dataframe(
        _table(phrases).style.map(_in_its_colour, subset=["Concept"]).format({"Share": _signed}),
        hide_index=True, key=f"phrases_{music}", on_select="rerun",
        selection_mode="single-row-required", selection_default={"selection": {"rows": [0]}},
        height=_ROW_PX * len(phrases) + 38, row_height=_ROW_PX,
        alt=f"The phrases that spoke the most for {who}, and some against.",
        column_config={
            "Concept": st.column_config.TextColumn(width=80),
            "Phrase": st.column_config.TextColumn(width="large", help="Choose a row to see and hear it."),
            "Heard": st.column_config.NumberColumn(width=70, help="How often."),
            "At": st.column_config.TextColumn(width=130, help="The first few times."),
            "Share": st.column_config.NumberColumn(
                width=78, help=f"Of all that spoke for {who}; with a minus, of all that spoke against."
            ),
        },
    )  # fmt: skip
    rows = [row for row in event["selection"]["rows"] if row < len(phrases)]
    chosen = phrases[rows[0] if rows else 0]
    show_roll(marked(chosen, notes, who), key=f"phrase_roll_{music}", height=220, window_s=_WINDOW_S)
    st.caption(plain(f"{_capital(chosen.words)}: {_where(chosen, who)}. Press play to hear it in its place.", 400))


def _table(phrases: Sequence["Phrase"]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(
        {
            "Concept": [one.concept.capitalize() for one in phrases],
            "Share": [100 * (one.share if one.speaks_for else -one.share) for one in phrases],
            "Phrase": [_capital(one.words) for one in phrases],
            "Heard": [one.count for one in phrases],
            "At": [_times(one) for one in phrases],
        }
    )


def marked(phrase: "Phrase", notes: Notes, who: str) -> Roll:
    """The whole piece with a phrase's notes in colour wherever it is heard, from where it is first heard."""
    scores = np.zeros(len(notes))
    scores[list(phrase.notes)] = 1.0 if phrase.speaks_for else -1.0
    layer = replace(as_played(notes, "This phrase"), scores=scores, poles=(f"against {who}", f"for {who}"))
    begin = max(phrase.times_s[0] - 0.3, 0.0) if phrase.times_s else 0.0
    return Roll(one_line(phrase.words, 100), max(notes.duration_s, 1.0), [layer], begin_s=begin)


def _in_its_colour(concept: object) -> str:
    return f"color: {palette.current().of_series(CONCEPTS.index(str(concept).lower()))}"


def _signed(value: object) -> str:
    share = float(str(value))
    return f"{'+' if share >= 0 else MINUS}{abs(share):.1f} %"


def _times(phrase: "Phrase") -> str:
    seconds = list(dict.fromkeys(clock(time) for time in phrase.times_s))[:_SHOWN_TIMES]
    told = ", ".join(seconds)
    return f"{told}, …" if phrase.count > len(seconds) else told


def _where(phrase: "Phrase", who: str) -> str:
    way = "for" if phrase.speaks_for else "against"
    share = f"{100 * phrase.share:.1f} % of all that spoke {way} {who}"
    return f"heard {count(phrase.count, 'time')}, first at {clock(phrase.times_s[0])}, {share}"


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
