"""The states of runs as words, signs and colours: what every page says of a run."""

from typing import Literal

import streamlit as st

from pianistid_core.runs import STARTING, RunState, Status
from wording import duration, percent, plain

Colour = Literal["red", "orange", "green", "blue", "gray"]

STATES: dict[Status, tuple[str, str, Colour]] = {
    "queued": ("Waiting", ":material/hourglass_empty:", "gray"),
    "running": ("Training", ":material/graphic_eq:", "blue"),
    "finished": ("Finished", ":material/check_circle:", "green"),
    "stopped": ("Stopped", ":material/stop_circle:", "gray"),
    "failed": ("Failed", ":material/error:", "red"),
    "interrupted": ("Interrupted", ":material/bolt:", "orange"),
}

SILENT = "No response"
PERCENT = "%.0f %%"


def badge(state: RunState, *, stopping: bool = False) -> None:
    """Shows a run's state as a word with its icon and colour."""
    name, icon, colour = STATES[state.status]
    with st.container(key="run_state", width="content"):
        if state.status == "queued" and state.reason == STARTING:
            name = "Starting"
        if state.silent_s is not None:
            name, icon, colour = SILENT, ":material/hourglass_disabled:", "orange"
        st.badge("Stopping" if stopping else name, icon=icon, color=colour)


def silence(state: RunState) -> str:
    """That a trainer which lives gives no sign of it, in words; empty while it does."""
    if state.silent_s is None:
        return ""
    return f"Its process is there but has not responded for {duration(state.silent_s)}: it, or a disk, may be stuck"


def progress_of(state: RunState) -> float:
    """The share of its epochs that a run has done."""
    return min(1.0, state.epoch / state.epochs) if state.epochs > 0 else 0.0


def in_words(state: RunState, best: float | None) -> str:
    """A run in one line of markdown."""
    name = STATES[state.status][0]
    words = f"{name}, epoch {state.epoch} of {state.epochs}" if state.epochs else name
    if state.silent_s is not None:
        words += f", no response for {duration(state.silent_s)}"
    if best is not None:
        words += f", best accuracy {percent(best)} of test recordings"
    return plain(words)
