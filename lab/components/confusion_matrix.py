"""The confusion matrix as a grid to walk through: the one place that knows what its JavaScript takes.

Every matrix that the slider reaches is in the data, so that moving it needs no server. What comes back is the matrix
in view and the cell that was chosen, by position among the pianists; both are checked before they are believed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from pianistid_core.intervals import wilson
from pianistid_core.runs import Confusion
from wording import one_line, percent


@dataclass(frozen=True)
class Moment:
    """One stop of the slider: its name among the run's matrices, what people call it, and the part it measures."""

    key: str
    label: str
    part: str
    confusion: Confusion


@dataclass(frozen=True)
class Chosen:
    """What is in view: the matrix, and the cell that was chosen in it, if one was (true, heard)."""

    key: str
    cell: tuple[int, int] | None = None


def grid_data(
    moments: Sequence[Moment], look_alikes: Sequence[int], *, start: str, slider: str = "After", base: str = ""
) -> dict[str, Any]:
    """The JSON that the browser draws; `look_alikes` is the order that puts pianists who are confused together."""
    names = moments[-1].confusion.class_names
    fitting = [moment for moment in moments if len(moment.confusion.class_names) == len(names)]
    by_name = sorted(range(len(names)), key=lambda index: names[index].casefold())
    return {
        "names": [one_line(name, 60) for name in names],
        "look": [int(index) for index in look_alikes],
        "byName": by_name,
        "slider": slider,
        "start": start,
        "base": base,
        "chosen": None,
        "matrices": [
            {
                "key": moment.key,
                "label": moment.label,
                "part": one_line(moment.part, 40),
                "between": _between(moment.confusion),
                "counts": [[int(n) for n in row] for row in moment.confusion.counts],
            }
            for moment in fitting
        ],
    }


def _between(confusion: Confusion) -> str:
    """The 95 % interval of the share of recordings that are right."""
    interval = wilson(int(confusion.counts.trace()), int(confusion.counts.sum()))
    return f"{percent(interval[0])} to {percent(interval[1])}" if interval else ""


def chosen_of(state: object, moments: Sequence[Moment], start: str) -> Chosen:
    """What the browser says is chosen, as far as it can be: other matrices and cells that are not there are ignored."""
    if not isinstance(state, Mapping):
        return Chosen(start)
    key = state.get("matrix")
    found = next((moment for moment in moments if moment.key == key), None)
    if found is None:
        return Chosen(start)
    cell = (state.get("true"), state.get("heard"))
    n = len(found.confusion.class_names)
    inside = all(isinstance(place, int) and 0 <= place < n for place in cell)
    return Chosen(found.key, (int(cell[0] or 0), int(cell[1] or 0)) if inside else None)


def _text(suffix: str) -> str:
    return (Path(__file__).parent / f"confusion_matrix.{suffix}").read_text(encoding="utf-8")


_GRID = st.components.v2.component(
    "pianistid_confusion_matrix", html=_text("html"), css=_text("css"), js=_text("js")
)  # fmt: skip


def show_confusion(
    moments: Sequence[Moment],
    look_alikes: Sequence[int],
    *,
    key: str,
    start: str | None = None,
    slider: str = "After",
    base: str = "",
) -> Chosen:
    """Draws the grid of one or more matrices over the same pianists, and gives what is chosen in it."""
    first = start if any(moment.key == start for moment in moments) and start else moments[-1].key
    result = _GRID(
        key=key,
        data=grid_data(moments, look_alikes, start=first, slider=slider, base=base),
        on_choice_change=lambda: None,
    )
    return chosen_of(result.get("choice"), moments, first)
