"""Runs as rows of a table and as words: what Home and Runs both say of a run."""

import time
from collections.abc import Sequence
from typing import Any, Literal

import pandas as pd
import streamlit as st

from pianistid_core.runs import STARTING, RunState, RunSummary, Status
from wording import ago, one_line, percent, plain

Colour = Literal["red", "orange", "green", "blue", "gray"]

STATES: dict[Status, tuple[str, str, Colour]] = {
    "queued": ("Waiting", ":material/hourglass_empty:", "gray"),
    "running": ("Training", ":material/graphic_eq:", "blue"),
    "finished": ("Finished", ":material/check_circle:", "green"),
    "stopped": ("Stopped", ":material/stop_circle:", "gray"),
    "failed": ("Failed", ":material/error:", "red"),
    "interrupted": ("Interrupted", ":material/bolt:", "orange"),
}

PERCENT = "%.0f %%"


def badge(state: RunState, *, stopping: bool = False) -> None:
    """Shows a run's state as a word with its icon and colour."""
    name, icon, colour = STATES[state.status]
    with st.container(key="run_state", width="content"):
        if state.status == "queued" and state.reason == STARTING:
            name = "Starting"
        st.badge("Stopping" if stopping else name, icon=icon, color=colour)


def progress_of(state: RunState) -> float:
    """The share of its epochs that a run has done."""
    return min(1.0, state.epoch / state.epochs) if state.epochs else 0.0


def table(runs: Sequence[RunSummary]) -> pd.DataFrame:
    """One row a run, newest first."""
    now = time.time()
    return pd.DataFrame(
        {
            "Run": [one_line(run.id) for run in runs],
            "State": [STATES[run.state.status][0] for run in runs],
            "Progress": [100 * progress_of(run.state) for run in runs],
            "Epoch": [f"{run.state.epoch} / {run.state.epochs or '?'}" for run in runs],
            "Best": [None if (best := run.best_recording_accuracy) is None else 100 * best for run in runs],
            "Test loss": [run.last.get("test_loss") for run in runs],
            "Updated": [ago(run.state.updated or run.created, now) for run in runs],
        }
    )


def columns() -> dict[str, Any]:
    """How the columns of `table` are drawn."""
    config = st.column_config
    return {
        "Run": config.TextColumn(width="medium"),
        "State": config.TextColumn(width="small"),
        "Progress": config.ProgressColumn(format=PERCENT, min_value=0, max_value=100, width="small", color="primary"),
        "Epoch": config.TextColumn(width="small"),
        "Best": config.NumberColumn(
            format=PERCENT, width="small", help="Share of test recordings whose pianist was named, in the best epoch."
        ),
        "Test loss": config.NumberColumn(format="%.3f", width="small", help="After the last epoch."),
        "Updated": config.TextColumn(width="small"),
    }


def in_words(state: RunState, best: float | None) -> str:
    """A run in one line of markdown."""
    name = STATES[state.status][0]
    words = f"{name}, epoch {state.epoch} of {state.epochs}" if state.epochs else name
    if best is not None:
        words += f", best accuracy {percent(best)} of test recordings"
    return plain(words)
