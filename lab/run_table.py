"""Runs as the rows of the list on the Runs page: which columns, in which order, and how they are drawn."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from guard import whole
from pianistid_core.runs import STARTING, RunSummary
from run_states import PERCENT, SILENT, STATES, progress_of
from wording import duration, one_line

NEWEST = "Newest first"
_ORDER_OF_STATES = ("running", "queued", "interrupted", "failed", "stopped", "finished")


def _last(value: float | None) -> float:
    return float("inf") if value is None else -value


# Each gives what to sort by; the runs come newest first, and stay so among equals.
ORDERS: Mapping[str, Callable[[RunSummary], Any]] = {
    NEWEST: lambda run: -run.created,
    "Best accuracy": lambda run: _last(run.best_recording_accuracy),
    "Starred first": lambda run: not run.labels.starred,
    "By state": lambda run: _ORDER_OF_STATES.index(run.state.status),
    "By name": lambda run: run.id.casefold(),
    "Longest training": lambda run: -run.seconds,
}


def ordered(runs: Sequence[RunSummary], order: str | None) -> list[RunSummary]:
    """The runs in one of `ORDERS`."""
    return sorted(runs, key=ORDERS.get(order or NEWEST, ORDERS[NEWEST]))


def state_word(run: RunSummary) -> str:
    """A run's state as the list says it."""
    if run.state.status == "queued":
        return "Starting" if run.state.reason == STARTING else "Waiting"
    return STATES[run.state.status][0] if run.state.silent_s is None else SILENT


def frame(runs: Sequence[RunSummary]) -> pd.DataFrame:
    """One row a run."""
    return pd.DataFrame(
        {
            "Run": [one_line(run.id) for run in runs],
            "★": ["★" if run.labels.starred else "" for run in runs],
            "State": [[state_word(run)] for run in runs],
            "Progress": np.array([100 * progress_of(run.state) for run in runs], np.float32),
            "Accuracy": [[round(100 * share, 1) for share in run.sparkline] for run in runs],
            "Best": [None if (best := run.best_recording_accuracy) is None else 100 * best for run in runs],
            "Time": [duration(run.seconds) if run.seconds else "" for run in runs],
            "Created": pd.to_datetime([run.created for run in runs], unit="s"),
            "Tags": [[one_line(tag, 40) for tag in run.labels.tags] for run in runs],
            "Note": [one_line(run.labels.note, 120) for run in runs],
        }
    )


def columns(open_key: str, on_open: Callable[[], None]) -> dict[str, Any]:
    """How the columns of `frame` are drawn; a click on a name calls `on_open`."""
    config = st.column_config
    words = [*dict.fromkeys(name for name, _, _ in STATES.values()), "Starting", SILENT]
    colours = {name: colour for name, _, colour in STATES.values()} | {"Starting": "blue", SILENT: "orange"}
    return {
        "Run": config.ButtonColumn(
            width=205, pinned=True, alignment="left", type="tertiary", key=open_key,
            on_click=whole(on_open), help="A click opens the run.",
        ),
        "★": config.TextColumn(width=34, help="Starred runs."),
        "State": config.MultiselectColumn(
            width=100, options=words, color=[colours[word] for word in words], help="What the run is doing."
        ),
        "Progress": config.ProgressColumn(
            format=PERCENT, min_value=0, max_value=100, width=100, color="primary", help="Epochs done, of all."
        ),
        "Accuracy": config.LineChartColumn(
            width=90, y_min=0, y_max=100, help="Share of test recordings whose pianist was named, epoch by epoch."
        ),
        "Best": config.NumberColumn(
            format=PERCENT, width=62, help="Share of test recordings whose pianist was named, in the best epoch."
        ),
        "Time": config.TextColumn(width=84, help="Time spent training so far."),
        "Created": config.DatetimeColumn(format="distance", width=130, help="When the run was made."),
        "Tags": config.ListColumn(width=120, help="Tags, set in the run or for many at once."),
        "Note": config.TextColumn(width=220, help="The note, set in the run."),
    }  # fmt: skip
