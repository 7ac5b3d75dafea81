"""Many pieces at once: an answer each, what could not be read, one to look into, and all of them to take away."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import streamlit as st

from components.tables import download
from identify_answer import Answer, ask, probability_column
from identify_sources import Given
from wording import count, one_line, plain, sentence

_SHOWN_ERRORS = 4


def ask_all(model: Path, pieces: Sequence[Given]) -> list[Answer]:
    """Identifies each piece; a bad one gets its sentence and does not hold up the others."""
    bar = st.progress(0.0) if len(pieces) > 1 else None
    answers = []
    for number, given in enumerate(pieces):
        if bar:
            bar.progress(number / len(pieces), text=plain(f"Listening to {given.name}"))
        answers.append(ask(model, given))
    if bar:
        bar.empty()
    return answers


def overview(answers: Sequence[Answer]) -> Answer | None:
    """Several pieces at a glance; the one to look into is chosen below the table."""
    good = [answer for answer in answers if answer.found]
    refused([answer for answer in answers if answer.error])
    if not good:
        return None
    if len(good) == 1:
        return good[0]
    st.dataframe(
        pd.DataFrame([row_of(answer) for answer in good]), hide_index=True, key="answers",
        height="content" if len(good) <= 10 else 390,
        column_config={
            "File": st.column_config.TextColumn(width="medium"),
            "Heard": st.column_config.TextColumn(width="small"),
            "Probability": probability_column(),
            "Next": st.column_config.TextColumn(width="medium"),
        },
        alt=f"{count(len(good), 'file')} with the pianist heard in each.",
    )  # fmt: skip
    st.caption("A name is the likeliest of those the model knows, whoever plays. Look into a piece for its warnings.")
    left, right = st.columns([4, 2], vertical_alignment="bottom")
    position = left.selectbox(
        "Look into", range(len(good)), format_func=lambda n: one_line(good[n].given.name), key="answer",
        help="The piece that the rest of the page is about.",
    )  # fmt: skip
    with right:
        download(
            lambda: table_of(answers), key="answers_csv", name="identifications", label="Download all answers as CSV"
        )
    return good[position] if position is not None and position < len(good) else good[0]


def refused(answers: Sequence[Answer]) -> None:
    """What could not be identified and why: the first few at once, so that the answers stay in sight."""
    said = [f"**{plain(answer.given.name)}**: {sentence(answer.error)}" for answer in answers]
    for words in said[:_SHOWN_ERRORS]:
        st.error(words, icon=":material/music_off:")
    if len(said) > _SHOWN_ERRORS:
        rest = count(len(said) - _SHOWN_ERRORS, "more file")
        with st.expander(f"{rest} could not be identified", icon=":material/music_off:", key="refused"):
            for words in said[_SHOWN_ERRORS:]:
                st.markdown(words)


def row_of(answer: Answer) -> dict[str, object]:
    """A piece's line in the table."""
    found = answer.found
    if found is None:
        return {"File": one_line(answer.given.name)}
    others = list(found.probabilities.items())[1:2]
    return {
        "File": one_line(answer.given.name),
        "Heard": one_line(
            found.pianist + (f", or {found.unknown.verdict}" if found.unknown and found.stranger else "")
        ),
        "Probability": 100 * found.confidence,
        "Next": ", ".join(f"{one_line(name, 40)} {100 * share:.0f} %" for name, share in others),
    }


def table_of(answers: Sequence[Answer]) -> list[dict[str, object]]:
    """Every piece with its answer, every pianist's probability, or what was wrong with it."""
    rows: list[dict[str, object]] = []
    for answer in answers:
        found = answer.found
        row: dict[str, object] = {"file": answer.given.name, "error": answer.error}
        if found is not None:
            row |= {"heard": found.pianist, "probability": found.confidence, "truth": answer.given.truth or ""}
            row |= {"duration_s": round(found.duration_s, 3), "notes": found.n_notes, "clips": len(found.clips)}
            if found.coverage is not None:
                verdict = found.unknown.verdict if found.unknown else ""
                row |= {"candidates": "; ".join(found.candidates), "unknown": verdict}
            row |= {f"p: {name}": share for name, share in sorted(found.probabilities.items())}
        rows.append(row)
    return rows
