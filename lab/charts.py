"""Data to charts: each function gives a `Chart`, an ECharts option as plain data with its text alternative.

Nothing here draws; `components.chart.show_chart` does. Animation is off, so that a live chart is replaced in place.
Shares come as fractions of 1 and are shown in per cent.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wording import listed, percent

_TEMPLATE = re.compile(r"\{(?=[a-g]\d*\}|@)")  # a template begins; an unseen mark keeps it from that
PART_NAMES = {"train": "Training", "validation": "Validation", "test": "Test"}


@dataclass(frozen=True)
class Chart:
    """An ECharts option, what it says in words, and its height in pixels."""

    option: dict[str, Any]
    alt: str
    height: int = 280


def subset_bars(
    labels: Sequence[str], shares: Sequence[float], notes: Sequence[str], colours: Sequence[str], *, reach: float = 1.0
) -> Chart:
    """One bar a set of concepts: how probable the answer is when the model hears only that; bars end at `reach`."""
    option = _bars(list(labels), list(shares), list(notes), colours[0], maximum=reach)
    for item, colour in zip(option["series"][0]["data"], colours, strict=True):
        item["itemStyle"]["color"] = colour
    words = listed(f"{label} {percent(share)}" for label, share in zip(labels, shares, strict=True))
    return Chart(option, f"Probability of the answer by concept: {words}.", 40 + 34 * len(labels))


def reach_of(*shares: Sequence[float]) -> float:
    """Where the axis of charts that are compared ends: at 1, or at a half when no share is larger."""
    return 1.0 if max((max(row, default=0.0) for row in shares), default=0.0) > 0.5 else 0.5


def _bars(
    names: list[str], values: Sequence[float | None], notes: Sequence[str], colour: str, *, maximum: float | None = None
) -> dict[str, Any]:
    data = [
        {
            "value": _number(value),
            "itemStyle": {"color": colour, "borderRadius": [0, 3, 3, 0]},
            "label": {"formatter": painted(note)},
        }
        for value, note in zip(values, notes, strict=True)
    ]
    return {
        "animation": False,
        "grid": {"left": 4, "right": 72, "top": 4, "bottom": 4, "containLabel": True},
        "xAxis": {"type": "value", "max": maximum, "min": 0, "show": False},
        "yAxis": {
            "type": "category", "data": names, "inverse": True,
            "axisTick": {"show": False}, "axisLine": {"show": False},
            "axisLabel": {"width": 150, "overflow": "truncate", "interval": 0},
        },
        "series": [
            {
                "type": "bar", "data": data, "barMaxWidth": 16, "barMinHeight": 1,
                "label": {"show": True, "position": "right"},
            }
        ],
    }  # fmt: skip


def _number(value: Any, scale: float = 1) -> float | None:
    """A finite number for the chart, or a gap."""
    return round(scale * float(value), 6) if isinstance(value, int | float) and math.isfinite(value) else None


def painted(text: str) -> str:
    """Text for a label's `formatter`, which ECharts takes for a template: {a} and the like in it stay what they are."""
    return _TEMPLATE.sub("{\u2060", text)


def pointed_at(text: str) -> str:
    """Text for an item's name that a tooltip shows by `{b}`: ECharts looks through it for more, and for $."""
    return painted(text).replace("$", "$$")
