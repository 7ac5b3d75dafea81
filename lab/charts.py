"""Data to charts: each function gives a `Chart`, an ECharts option as plain data with its text alternative.

Nothing here draws; `components.chart.show_chart` does. Animation is off, so that a live chart is replaced in place.
Shares come as fractions of 1 and are shown in per cent.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from palette import Palette
from wording import listed, percent

Row = Mapping[str, Any]

PART_NAMES = {"train": "Training", "validation": "Validation", "test": "Test"}
_ACCURACIES = {
    "test_recording_accuracy": "Recordings, test",
    "test_clip_accuracy": "Clips, test",
    "train_clip_accuracy": "Clips, training",
}
_LOSSES = {"test_loss": "Test", "train_loss": "Training"}
_MAX_POINTS = 500


@dataclass(frozen=True)
class Chart:
    """An ECharts option, what it says in words, and its height in pixels."""

    option: dict[str, Any]
    alt: str
    height: int = 280


def loss_curves(rows: Sequence[Row], palette: Palette) -> Chart:
    """Training and test loss by epoch, from a run's metrics."""
    chart = _curves(rows, _LOSSES, palette)
    last = rows[-1] if rows else {}
    alt = "Loss by epoch."
    if last.get("test_loss") is not None:
        alt += f" After epoch {last['epoch']} the test loss is {last['test_loss']:.3f}."
    return Chart({**chart, "yAxis": {**chart["yAxis"], "scale": True}}, alt)


def accuracy_curves(rows: Sequence[Row], palette: Palette) -> Chart:
    """Recording and clip accuracy by epoch, from a run's metrics."""
    chart = _curves(rows, _ACCURACIES, palette, scale=100)
    last = rows[-1] if rows else {}
    axis = {**chart["yAxis"], "min": 0, "max": 100, "axisLabel": {"formatter": "{value} %"}}
    chart["tooltip"]["valueFormatter"] = "%.1f %%"
    alt = "Accuracy by epoch."
    if last.get("test_recording_accuracy") is not None:
        alt += f" After epoch {last['epoch']}, {percent(last['test_recording_accuracy'])} of test recordings are right."
    return Chart({**chart, "yAxis": axis}, alt)


def _curves(rows: Sequence[Row], names: Mapping[str, str], palette: Palette, *, scale: float = 1) -> dict[str, Any]:
    kept = thinned(rows)
    series = [
        {
            "name": label,
            "type": "line",
            "showSymbol": len(kept) < 2,
            "symbolSize": 7,
            "lineStyle": {"width": 2.5 if index == 0 else 1.8, "type": "solid" if index < 2 else "dashed"},
            "color": palette.of_series(index),
            "data": [[row["epoch"], _number(row.get(key), scale)] for row in kept],
        }
        for index, (key, label) in enumerate(names.items())
        if any(row.get(key) is not None for row in kept) or index == 0
    ]
    return {
        "animation": False,
        "tooltip": {"trigger": "axis"},
        "legend": {"top": 0, "left": 0, "icon": "roundRect", "itemHeight": 3, "itemWidth": 16},
        "grid": {"left": 4, "right": 18, "top": 36, "bottom": 4, "containLabel": True},
        "xAxis": {"type": "value", "min": 1, "minInterval": 1, "max": max(2, len(rows)), "splitLine": {"show": False}},
        "yAxis": {"type": "value"},
        "series": series,
    }


def thinned(rows: Sequence[Row], limit: int = _MAX_POINTS) -> list[Row]:
    """At most about `limit` rows, evenly chosen, always with the first and the last."""
    if len(rows) <= limit:
        return list(rows)
    chosen = sorted({round(index) for index in np.linspace(0, len(rows) - 1, limit)})
    return [rows[index] for index in chosen]


def confusion_matrix(
    counts: npt.NDArray[Any], names: Sequence[str], palette: Palette, *, as_counts: bool = False
) -> Chart:
    """Who was taken for whom: rows are who played, columns who was heard; shade is the share of the row."""
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    n = len(names)
    cells = []
    for true in range(n):
        for heard in range(n):
            share, number = float(shares[true, heard]), int(counts[true, heard])
            text = str(number) if as_counts else f"{100 * share:.0f}"
            shown = {"formatter": text, "color": palette.on_step(share)} if number else {"show": False}
            cells.append(
                {
                    "value": [heard, true, round(share, 4)],
                    "name": f"{names[true]} heard as {names[heard]}: {number} of {int(totals[true, 0])}",
                    "label": shown,
                }
            )
    label = {"fontSize": 11, "width": 110, "overflow": "truncate"}
    option = {
        "animation": False,
        "tooltip": {"formatter": "{b}"},
        "grid": {"left": 4, "right": 8, "top": 4, "bottom": 4, "containLabel": True},
        "xAxis": {
            "type": "category", "data": list(names), "axisTick": {"show": False}, "splitLine": {"show": False},
            "axisLabel": {**label, "interval": 0, "rotate": 0 if n <= 4 else 60, "width": 90},
        },
        "yAxis": {
            "type": "category", "data": list(names), "inverse": True, "axisTick": {"show": False},
            "axisLabel": {**label, "interval": 0}, "splitLine": {"show": False},
        },
        "visualMap": {"show": False, "min": 0, "max": 1, "dimension": 2, "inRange": {"color": list(palette.steps)}},
        "series": [
            {
                "type": "heatmap",
                "data": cells,
                "label": {"show": True, "fontSize": 10 if n > 12 else 11},
                "labelLayout": {"hideOverlap": True},
                "itemStyle": {"borderWidth": 1, "borderColor": palette.line},
                "emphasis": {"itemStyle": {"borderColor": palette.ink, "borderWidth": 2}},
            }
        ],
        # On a narrow screen many cells are too small for their numbers; a touch still tells them.
        "media": [
            {"query": {"maxWidth": 110 + 18 * n}, "option": {"series": [{"label": {"show": False}}]}},
            {"option": {"series": [{"label": {"show": True}}]}},
        ],
    }  # fmt: skip
    return Chart(option, _confusion_in_words(counts, names), max(260, 110 + 26 * n))


def _confusion_in_words(counts: npt.NDArray[Any], names: Sequence[str]) -> str:
    total = int(counts.sum())
    right = int(np.trace(counts))
    words = f"Confusion matrix of {total} recordings: {right} are right."
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    if wrong.any():
        true, heard = divmod(int(wrong.argmax()), len(names))
        words += f" The commonest mistake is {names[true]} heard as {names[heard]}, {int(wrong[true, heard])} times."
    return words


def recall_bars(counts: npt.NDArray[Any], names: Sequence[str], palette: Palette) -> Chart:
    """The share of each pianist's recordings that are recognised, in the order of the matrix."""
    totals = counts.sum(axis=1)
    recall = [float(counts[i, i] / totals[i]) if totals[i] else None for i in range(len(names))]
    notes = [f"{percent(r)} of {int(totals[i])}" if r is not None else "none here" for i, r in enumerate(recall)]
    known = [(r, name) for r, name in zip(recall, names, strict=True) if r is not None]
    alt = "Recall by pianist."
    if known:
        alt += f" Best: {max(known)[1]}, {percent(max(known)[0])}; worst: {min(known)[1]}, {percent(min(known)[0])}."
    return Chart(
        _bars(list(names), recall, notes, palette.of_series(0), maximum=1), alt, max(260, 60 + 26 * len(names))
    )


def probability_bars(probabilities: Mapping[str, float], palette: Palette, *, top: int = 8) -> Chart:
    """The likeliest pianists with their probabilities, the answer in the accent colour, the others in a quiet one."""
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])
    shown, rest = ranked[:top], ranked[top:]
    names = [name for name, _ in shown]
    values = [value for _, value in shown]
    if rest:
        names.append(f"{len(rest)} others")
        values.append(sum(value for _, value in rest))
    option = _bars(names, values, [percent(value, 1) for value in values], palette.muted, maximum=reach_of(values))
    option["series"][0]["data"][0]["itemStyle"]["color"] = palette.of_series(0)
    words = listed(f"{name} {percent(value)}" for name, value in shown[:3])
    return Chart(option, f"Probabilities: {words}.", 44 + 30 * len(names))


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
            "label": {"formatter": _template(note)},
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


def timeline(spans: Sequence[tuple[float, float]], clips: Sequence[Mapping[str, float]], palette: Palette) -> Chart:
    """Who is heard where: for each clip, the probabilities of those who matter, stacked to 100 %."""
    totals: dict[str, float] = {}
    for clip in clips:
        for name, value in clip.items():
            totals[name] = totals.get(name, 0.0) + value
    ranked = sorted(totals, key=lambda name: -totals[name])[: min(5, len(palette.series))]
    labels = [f"{int(start // 60)}:{int(start % 60):02d}" for start, _ in spans]
    series: list[dict[str, Any]] = [
        {
            "name": name, "type": "bar", "stack": "all", "barCategoryGap": "2%",
            "color": palette.of_series(index),
            "data": [round(float(clip.get(name, 0.0)), 5) for clip in clips],
        }
        for index, name in enumerate(ranked)
    ]  # fmt: skip
    others = [max(0.0, 1.0 - sum(float(clip.get(name, 0.0)) for name in ranked)) for clip in clips]
    if len(totals) > len(ranked):
        series.append(
            {
                "name": "Others", "type": "bar", "stack": "all", "color": palette.line,
                "data": [round(other, 5) for other in others],
            }
        )  # fmt: skip
    option = {
        "animation": False,
        "tooltip": {"trigger": "axis", "valueFormatter": "percent", "axisPointer": {"type": "shadow"}},
        "legend": {"top": 0, "left": 0, "type": "scroll", "icon": "roundRect"},
        "grid": {"left": 4, "right": 12, "top": 38, "bottom": 4, "containLabel": True},
        "xAxis": {"type": "category", "data": labels, "axisTick": {"alignWithLabel": True}},
        "yAxis": {"type": "value", "min": 0, "max": 1, "splitNumber": 2, "axisLabel": {"show": False}},
        "series": series,
    }
    first = [max(clip, key=lambda name: clip[name]) for clip in clips if clip]
    heard = listed(f"{name} in {first.count(name)}" for name in ranked if name in first)
    return Chart(option, f"Likeliest pianist in {len(clips)} clips of 30 s: {heard}.", 220)


def hours_by_pianist(hours: Mapping[str, Mapping[str, float]], palette: Palette) -> Chart:
    """Hours of music for each pianist, by part of the split; `hours[part][pianist]`."""
    totals: dict[str, float] = {}
    for part in hours.values():
        for name, value in part.items():
            totals[name] = totals.get(name, 0.0) + value
    names = sorted(totals, key=lambda name: -totals[name])
    scale, unit = (1, "h") if max(totals.values(), default=1) >= 1 else (60, "min")
    option = {
        "animation": False,
        "tooltip": {"trigger": "axis", "axisPointer": {"type": "shadow"}, "valueFormatter": f"%.2f {unit}"},
        "legend": {"top": 0, "left": 0, "icon": "roundRect"},
        "grid": {"left": 4, "right": 20, "top": 34, "bottom": 4, "containLabel": True},
        "xAxis": {"type": "value", "name": "", "axisLabel": {"formatter": f"{{value}} {unit}"}},
        "yAxis": {
            "type": "category", "data": names, "inverse": True, "axisTick": {"show": False},
            "axisLabel": {"width": 130, "overflow": "truncate", "interval": 0},
        },
        "series": [
            {
                "name": PART_NAMES.get(part, part), "type": "bar", "stack": "all", "barMaxWidth": 16,
                "color": palette.of_series(index), "data": [round(scale * values.get(name, 0.0), 4) for name in names],
            }
            for index, (part, values) in enumerate(hours.items())
        ],
    }  # fmt: skip
    most = (
        f" Most: {names[0]}, {scale * totals[names[0]]:.1f} {unit}; "
        f"least: {names[-1]}, {scale * totals[names[-1]]:.1f} {unit}."
        if names
        else ""
    )
    return Chart(option, f"Hours of music for {len(names)} pianists.{most}", 80 + 25 * len(names))


def _number(value: Any, scale: float = 1) -> float | None:
    """A finite number for the chart, or a gap."""
    return round(scale * float(value), 6) if isinstance(value, int | float) and math.isfinite(value) else None


def _template(text: str) -> str:
    """A label that ECharts shows as it is: braces would begin a template."""
    return text.replace("{", "(").replace("}", ")")
