"""A piano to play in the browser: its keys on the page, the computer's keys, or a MIDI keyboard that is connected.

What is played comes to Python when the recording is stopped, not note by note; it is checked here, since a browser may
send anything.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from components.piano_sound import place_bank, sound_script
from pianistid_core.errors import InvalidNotesError
from pianistid_core.midi import Notes

_MAX_NOTES = 20_000
_MAX_MS = 3_600_000


@dataclass(frozen=True)
class Take:
    """One recording of what was played: its number in this session, and its notes."""

    number: int
    notes: Notes


def _text(suffix: str) -> str:
    return (Path(__file__).parent / f"keyboard.{suffix}").read_text(encoding="utf-8")


_KEYBOARD = st.components.v2.component(
    "pianistid_keyboard", html=_text("html"), css=_text("css"), js="\n".join((sound_script(), _text("js")))
)


def take_of(sent: Any) -> Take | None:
    """The take that the browser sent, {"number": n, "notes": [[on ms, off ms, key, velocity], ...]}, or nothing.

    Notes that cannot be are left out; a message of another shape is nothing.
    """
    if not isinstance(sent, dict) or not isinstance(sent.get("notes"), list):
        return None
    rows = [row for row in sent["notes"][:_MAX_NOTES] if _is_note(row)]
    number = sent.get("number")
    if not rows:
        return None
    try:
        notes = Notes.from_arrays(
            [row[0] / 1000 for row in rows], [row[1] / 1000 for row in rows], [row[2] for row in rows],
            [row[3] for row in rows],
        )  # fmt: skip
    except InvalidNotesError:
        return None
    return Take(number if isinstance(number, int) and 0 < number < 10_000 else 1, notes)


def _is_note(row: Any) -> bool:
    if not isinstance(row, list) or len(row) != 4 or any(isinstance(x, bool) or not isinstance(x, int) for x in row):
        return False
    on, off, key, velocity = row
    return bool(0 <= on < off <= _MAX_MS and 21 <= key <= 108 and 1 <= velocity <= 127)


def show_keyboard(*, key: str) -> Take | None:
    """Draws the piano; the latest take once its recording was stopped, until it is cleared."""
    result = _KEYBOARD(key=key, data={"bank": place_bank()}, default={"take": None}, on_take_change=lambda: None)
    return take_of(result.take)
