"""The charts of one run, as pure functions: its curves, and how well each pianist is recognised."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from charts import Chart, pointed_at
from palette import Palette
from pianistid_core.metrics_log import finite_number
from wording import percent

Row = Mapping[str, Any]
_LONGEST_S = 1e12  # a damaged file may say more
Interval = tuple[float, float] | None

ACCURACIES = {
    "test_recording_accuracy": "Recordings, test",
    "test_clip_accuracy": "Clips, test",
    "train_clip_accuracy": "Clips, training",
}
LOSSES = {"test_loss": "Test", "train_loss": "Training"}
RATE = {"lr": "Learning rate"}
SPEED = {"clips_per_second": "Training clips a second"}
_TOOLS = {
    "right": 0, "top": 0, "itemSize": 12, "itemGap": 8,
    "feature": {"dataZoom": {"yAxisIndex": "none"}, "restore": {}},
}  # fmt: skip


def smoothed(values: Sequence[float | None], strength: float) -> list[float | None]:
    """An exponential mean that forgets its beginning, for a strength of 0 (as they are) to 0.99; gaps stay gaps."""
    mean, weight = 0.0, 0.0
    found: list[float | None] = []
    for value in values:
        if value is None or not math.isfinite(value):
            found.append(None)
            continue
        mean = strength * mean + (1 - strength) * value
        weight = strength * weight + (1 - strength)
        found.append(mean / weight)
    return found


def elapsed_s(rows: Sequence[Row], total_s: float | None = None) -> list[float]:
    """The seconds of training up to the end of each row; rows left out between two are taken to be like the later."""
    seconds: list[float] = []
    sum_s, epoch_before = 0.0, 0
    for row in rows:
        epoch = int(row["epoch"])
        sum_s = min(sum_s + (finite_number(row.get("seconds")) or 0.0) * max(1, epoch - epoch_before), _LONGEST_S)
        epoch_before = epoch
        seconds.append(sum_s)
    if total_s and sum_s:
        seconds = [value * total_s / sum_s for value in seconds]
    return seconds


def time_unit(seconds: float) -> tuple[float, str]:
    """How many seconds the unit has in which a length of time reads well, and its sign."""
    return (3600.0, "h") if seconds >= 7200 else (60.0, "min") if seconds >= 120 else (1.0, "s")


def curves(
    rows: Sequence[Row],
    names: Mapping[str, str],
    palette: Palette,
    *,
    title: str,
    smooth: float = 0.0,
    log: bool = False,
    by_time: bool = False,
    total_s: float | None = None,
    per_cent: bool = False,
) -> Chart:
    """Some figures of a run by epoch, or by time spent training; smoothed lines stand over their faint originals."""
    times = elapsed_s(rows, total_s) if by_time else []
    unit, sign = time_unit(times[-1]) if times else (1.0, "")
    x = [round(value / unit, 4) for value in times] if by_time else [int(row["epoch"]) for row in rows]
    scale = 100.0 if per_cent else 1.0
    series: list[dict[str, Any]] = []
    told: list[str] = []
    for index, (key, label) in enumerate(names.items()):
        values = [_number(row.get(key)) for row in rows]
        if all(value is None for value in values) and index:
            continue
        line = {
            "type": "line", "color": palette.of_series(index), "connectNulls": False, "symbolSize": 7,
            "showSymbol": len(rows) < 2,
        }  # fmt: skip
        style = {"width": 2.5 if index == 0 else 1.8, "type": "solid" if index < 2 else "dashed"}
        if smooth and len(rows) > 2:
            raw = _points(x, values, scale, log)
            faint = {"lineStyle": {"width": 1, "opacity": 0.3}, "silent": True, "tooltip": {"show": False}}
            series.append({**line, **faint, "name": f"{label}, as measured", "data": raw})
            values = smoothed(values, smooth)
        series.append({**line, "name": label, "lineStyle": style, "data": _points(x, values, scale, log)})
        last = _number(rows[-1].get(key)) if rows else None
        if last is not None:
            told.append(f"{label} {percent(last) if per_cent else f'{last:.4g}'}")
    after = f"After epoch {rows[-1]['epoch']}: {', '.join(told)}." if rows and told else "Nothing is measured yet."
    axis: dict[str, Any] = {"type": "log" if log else "value"}
    if per_cent and not log:
        axis |= {"min": 0, "max": 100, "axisLabel": {"formatter": "{value} %"}}
    elif not log:
        axis |= {"scale": True}
    across: dict[str, Any] = {"type": "value", "splitLine": {"show": False}}
    if by_time:
        across |= {"min": 0, "max": x[-1] if x else 1, "axisLabel": {"formatter": f"{{value}} {sign}"}}
    else:
        across |= {"min": 1, "minInterval": 1, "max": max(2, x[-1] if x else 2)}
    tooltip: dict[str, Any] = {"trigger": "axis"}
    if per_cent:
        tooltip["valueFormatter"] = "%.1f %%"
    option = {
        "animation": False,
        "tooltip": tooltip,
        "toolbox": {**_TOOLS, "iconStyle": {"borderColor": palette.ink_soft}},
        "legend": {
            "type": "scroll", "top": 0, "left": 0, "right": 84, "icon": "roundRect", "itemHeight": 3, "itemWidth": 16,
            "data": [one["name"] for one in series if not str(one["name"]).endswith(", as measured")],
        },
        "grid": {"left": 4, "right": 18, "top": 36, "bottom": 4, "containLabel": True},
        "xAxis": across,
        "yAxis": axis,
        "series": series,
    }  # fmt: skip
    return Chart(option, f"{title} by {'time' if by_time else 'epoch'}. {after}", 280)


def lower(chart: Chart) -> Chart:
    """The same chart for a figure that is looked at less: half as high, without a legend."""
    option = {**chart.option, "legend": {"show": False}, "toolbox": {"show": False}}
    option["grid"] = {**chart.option["grid"], "top": 12}
    option["yAxis"] = {**chart.option["yAxis"], "splitNumber": 2}
    return Chart(option, chart.alt, 150)


def _points(x: Sequence[float], values: Sequence[float | None], scale: float, log: bool) -> list[list[float | None]]:
    # A logarithmic axis has no place for zero.
    return [
        [place, None if value is None or (log and value <= 0) else round(scale * value, 6 if value > 1e-3 else 12)]
        for place, value in zip(x, values, strict=True)
    ]


def recall_chart(
    names: Sequence[str],
    totals: Sequence[int],
    recalls: Sequence[float | None],
    intervals: Sequence[Interval],
    chance: float,
    palette: Palette,
) -> Chart:
    """How well each pianist is recognised: a dot, the interval it may lie in, n beside it, and the line of guessing."""
    known = [(recall, name) for recall, name in zip(recalls, names, strict=True) if recall is not None]
    low = [interval[0] if interval else 0.0 for interval in intervals]
    width = [interval[1] - interval[0] if interval else 0.0 for interval in intervals]
    colour = palette.of_series(0)
    notes = [
        f"{percent(recall)} of {n}" if recall is not None else "none here"
        for recall, n in zip(recalls, totals, strict=True)
    ]
    stack: dict[str, Any] = {
        "type": "bar",
        "stack": "interval",
        "barWidth": 5,
        "silent": True,
        "tooltip": {"show": False},
    }
    option = {
        "animation": False,
        "grid": {"left": 4, "right": 96, "top": 4, "bottom": 4, "containLabel": True},
        "tooltip": {"trigger": "item", "formatter": "{b}"},
        "xAxis": {
            "type": "value", "min": 0, "max": 1, "splitNumber": 2, "interval": 0.5,
            "axisLabel": {"show": False}, "axisLine": {"show": False}, "axisTick": {"show": False},
        },
        "yAxis": {
            "type": "category", "data": list(names), "inverse": True, "axisTick": {"show": False},
            "axisLine": {"show": False}, "axisLabel": {"width": 130, "overflow": "truncate", "interval": 0},
            "splitLine": {"show": False},
        },
        "series": [
            {**stack, "name": "from", "data": [round(v, 5) for v in low], "itemStyle": {"color": "transparent"}},
            {
                **stack, "name": "interval", "data": [round(v, 5) for v in width],
                "itemStyle": {"color": colour, "opacity": 0.35, "borderRadius": 3},
            },
            {
                "name": "recall", "type": "scatter", "symbolSize": 11, "z": 5,
                "itemStyle": {"color": colour, "borderColor": palette.paper, "borderWidth": 1.5},
                "data": [
                    {
                        "value": [None if recall is None else round(recall, 5), index],
                        "name": pointed_at(f"{name}: {note}{_between(interval)}"),
                    }
                    for index, (recall, name, note, interval) in enumerate(
                        zip(recalls, names, notes, intervals, strict=True)
                    )
                ],
                "markLine": {
                    "silent": True, "symbol": "none", "label": {"show": False},
                    "lineStyle": {"type": "dashed", "color": palette.ink_soft, "width": 1.2},
                    "data": [{"xAxis": round(chance, 5)}],
                },
            },
            {
                "name": "n", "type": "scatter", "symbolSize": 0, "silent": True,
                "data": [
                    {
                        "value": [1, index],
                        "label": {
                            "show": True, "position": "right", "distance": 10, "formatter": note,
                            "color": palette.ink_soft,
                        },
                    }
                    for index, note in enumerate(notes)
                ],
            },
        ],
    }  # fmt: skip
    alt = f"Recall by pianist with 95 % intervals; guessing gives {percent(chance, 1)}."
    if known:
        alt += f" Best: {max(known)[1]}, {percent(max(known)[0])}; worst: {min(known)[1]}, {percent(min(known)[0])}."
    return Chart(option, alt, max(180, 24 + 28 * len(names)))


def _between(interval: Interval) -> str:
    return "" if interval is None else f", 95 % interval {percent(interval[0])} to {percent(interval[1])}"


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
