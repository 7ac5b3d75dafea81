"""The charts of the Compare page, as pure functions: curves of many runs, shares with their intervals, a difference."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from charts import Chart, painted, pointed_at
from compare_data import N_COLOURS, Line, Metric
from palette import Palette
from pianistid_core.intervals import Interval
from run_charts import time_unit
from wording import listed, percent

# Places in the palette that lie far apart; with four kinds of line they make the twenty slots.
_COLOURS = (0, 1, 2, 3, 7)
_DASHES: tuple[Any, ...] = ("solid", [8, 4], [2, 3], [8, 3, 2, 3])
_LABELLED = 12  # more names at the ends of lines than this would lie over each other


@dataclass(frozen=True)
class Mark:
    """One row of a chart of intervals: a name, a share, its interval, what stands beside it, and its slot or colour.

    Without a share only the name and the note stand there; `hollow` marks what somebody else has measured.
    """

    name: str
    share: float | None
    interval: Interval | None = None
    note: str = ""
    slot: int = 0
    hollow: bool = False
    colour: str | None = None


def colour_of(slot: int, palette: Palette) -> str:
    """The colour of a run."""
    return palette.of_series(_COLOURS[slot % N_COLOURS])


def curves(lines: Sequence[Line], label: str, metric: Metric, palette: Palette, *, by_time: bool = False) -> Chart:
    """Curves of runs, each named at its end, with a band where a line is the mean of several seeds."""
    longest = max((line.x[-1] for line in lines if line.x), default=1.0)
    unit, sign = time_unit(longest) if by_time else (1.0, "")
    scale = 100.0 if metric.is_share else 1.0
    series: list[dict[str, Any]] = []
    for number, line in enumerate(lines):
        x = [round(place / unit, 4) for place in line.x]
        if line.low:
            series += _band(line, number, x, scale, palette)
        series.append(_curve(line, x, scale, palette, named=len(lines) <= _LABELLED))
    y_axis: dict[str, Any] = {"type": "value"}
    y_axis |= {"min": 0, "max": 100, "axisLabel": {"formatter": "{value} %"}} if metric.is_share else {"scale": True}
    x_axis: dict[str, Any] = {"type": "value", "splitLine": {"show": False}}
    if by_time:
        x_axis |= {"min": 0, "max": round(longest / unit, 4), "axisLabel": {"formatter": f"{{value}} {sign}"}}
    else:
        x_axis |= {"min": 1, "minInterval": 1, "max": max(2, longest)}
    tooltip: dict[str, Any] = {"trigger": "axis", "confine": True, "order": "valueDesc"}
    tooltip["valueFormatter"] = "%.1f %%" if metric.is_share else "%.4g"
    option = {
        "animation": False,
        "tooltip": tooltip,
        "legend": _legend(lines, metric),
        "grid": {"left": 4, "right": 150, "top": 38, "bottom": 4, "containLabel": True},
        "xAxis": x_axis,
        "yAxis": y_axis,
        "series": series,
        "media": _media(lines, series),
    }
    return Chart(option, _curves_in_words(lines, label, metric), 400)


def _legend(lines: Sequence[Line], metric: Metric) -> dict[str, Any]:
    """The names with their lines, in the order in which the lines end."""

    def end(line: Line) -> float:
        last = next((value for value in reversed(line.y) if value is not None), None)
        return float("-inf") if last is None else last if metric.more_is_better is not False else -last

    names = [line.name for line in sorted(lines, key=end, reverse=True)]
    # The dots in the middle of the lines would hide how these are dashed.
    return {"type": "scroll", "itemWidth": 30, "itemStyle": {"opacity": 0}, "data": names}


def _media(lines: Sequence[Line], series: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Few lines have their names at their ends, many in a column beside them; on a narrow screen, above them."""
    above = {"orient": "horizontal", "top": 0, "left": 0, "right": 0, "textStyle": {"width": None}}
    beside = {
        "orient": "vertical", "top": 30, "left": "auto", "right": 0,
        "textStyle": {"width": 150, "overflow": "truncate"},
    }  # fmt: skip
    few = len(lines) <= _LABELLED
    narrow = {"grid": {"right": 18, "top": 38}, "legend": above, "series": _unnamed(series)}
    wide = {"grid": {"right": 150 if few else 212, "top": 38}, "legend": above if few else beside}
    return [{"query": {"maxWidth": 620}, "option": narrow}, {"option": wide}]


def _curve(line: Line, x: Sequence[float], scale: float, palette: Palette, *, named: bool) -> dict[str, Any]:
    colour = colour_of(line.slot, palette)
    return {
        "name": line.name, "type": "line", "color": colour, "showSymbol": len(x) < 2,
        "symbol": "circle" if len(x) < 2 else "none", "symbolSize": 8,
        "lineStyle": {"width": 2.2, "type": _DASHES[line.slot // N_COLOURS % len(_DASHES)]},
        "data": [[place, None if v is None else round(scale * v, 6)] for place, v in zip(x, line.y, strict=True)],
        "emphasis": {"focus": "series", "lineStyle": {"width": 3.5}},
        "endLabel": {
            "show": named, "formatter": painted(line.name), "color": palette.ink, "distance": 8,
            "width": 132, "overflow": "truncate",
        },
        "labelLayout": {"moveOverlap": "shiftY"},
        "z": 3,
    }  # fmt: skip


def _unnamed(series: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """On a narrow screen the legend alone tells the lines apart."""
    return [{"endLabel": {"show": False}} if "endLabel" in one else {} for one in series]


def _band(line: Line, number: int, x: Sequence[float], scale: float, palette: Palette) -> list[dict[str, Any]]:
    """An interval as two stacked areas, of which the lower one is not seen."""
    ends = list(zip(x, line.low, line.high, strict=True))
    floor = {
        "type": "line", "stack": f"band {number}", "stackStrategy": "all", "silent": True, "showSymbol": False,
        "lineStyle": {"opacity": 0}, "tooltip": {"show": False}, "color": colour_of(line.slot, palette), "z": 1,
    }  # fmt: skip
    below = [[place, None if low is None else round(scale * low, 6)] for place, low, _ in ends]
    height = [
        [place, None if low is None or high is None else round(scale * (high - low), 6)] for place, low, high in ends
    ]
    return [
        {**floor, "name": f"{line.name}, from", "data": below},
        {**floor, "name": f"{line.name}, to", "data": height, "areaStyle": {"opacity": 0.18}},
    ]


def _curves_in_words(lines: Sequence[Line], label: str, metric: Metric) -> str:
    ends = []
    for line in lines:
        last = next((value for value in reversed(line.y) if value is not None), None)
        if last is not None:
            ends.append((last, f"{line.name} {percent(last) if metric.is_share else f'{last:.4g}'}"))
    ends.sort(reverse=metric.more_is_better is not False)
    words = f"{label} of {len(lines)} lines."
    return f"{words} At the end: {listed((text for _, text in ends), 20)}." if ends else words


def intervals(marks: Sequence[Mark], palette: Palette, *, what: str, whole: bool = False) -> Chart:
    """Shares with their intervals, one under the other on one scale, so that overlaps are seen.

    The scale is `whole`, or as much of it as there is to see.
    """
    known = [mark for mark in marks if mark.share is not None]
    ends = [end for mark in known for end in (mark.interval or (mark.share or 0.0, mark.share or 0.0))]
    low = 0.0 if whole else max(0.0, float(np.floor(10 * min(ends, default=0.0) - 0.2)) / 10)
    high = 1.0 if whole else min(1.0, float(np.ceil(10 * max(ends, default=1.0) + 0.2)) / 10)
    option = {
        "animation": False,
        "tooltip": {"trigger": "item", "formatter": "{b}", "confine": True},
        "grid": {"left": 4, "right": 78, "top": 4, "bottom": 4, "containLabel": True},
        "xAxis": {
            "type": "value", "min": round(100 * low), "max": round(100 * high), "axisLabel": {"formatter": "{value} %"},
        },
        "yAxis": {
            "type": "category", "data": [mark.name for mark in marks], "inverse": True,
            "axisTick": {"show": False}, "axisLine": {"show": False}, "splitLine": {"show": False},
            "axisLabel": {"interval": 0, "width": 236, "overflow": "truncate", "color": palette.ink},
        },
        "series": [
            *[_whisker(mark, place, palette) for place, mark in enumerate(marks) if mark.interval],
            {
                "type": "scatter", "z": 5,
                "data": [_dot(mark, place, palette) for place, mark in enumerate(marks) if mark.share is not None],
            },
            _notes(marks, round(100 * high), palette),
        ],
        "media": [
            {"query": {"maxWidth": 480}, "option": {"yAxis": {"axisLabel": {"width": 116}}}},
            {"option": {"yAxis": {"axisLabel": {"width": 236}}}},
        ],
    }  # fmt: skip
    told = listed(
        (f"{mark.name} {percent(mark.share, 1)}{_between(mark.interval)}" for mark in known), 20
    )  # fmt: skip
    return Chart(option, f"{what}, with 95 % intervals: {told}.", 34 + 32 * max(1, len(marks)))


def _colour(mark: Mark, palette: Palette) -> str:
    return mark.colour or colour_of(mark.slot, palette)


def _whisker(mark: Mark, place: int, palette: Palette) -> dict[str, Any]:
    low, high = mark.interval or (0.0, 0.0)
    return {
        "type": "line", "silent": True, "showSymbol": False, "z": 3,
        "lineStyle": {"width": 4, "color": _colour(mark, palette), "opacity": 0.45, "cap": "round"},
        "data": [[round(100 * low, 3), place], [round(100 * high, 3), place]],
    }  # fmt: skip


def _dot(mark: Mark, place: int, palette: Palette) -> dict[str, Any]:
    colour = _colour(mark, palette)
    return {
        "value": [round(100 * (mark.share or 0.0), 3), place],
        "name": pointed_at(f"{mark.name}: {percent(mark.share, 1)}{_between(mark.interval)}"),
        "symbolSize": 12,
        "symbol": "diamond" if mark.hollow else "circle",
        "itemStyle": {
            "color": palette.paper if mark.hollow else colour, "borderColor": colour if mark.hollow else palette.paper,
            "borderWidth": 2 if mark.hollow else 1.5,
        },
    }  # fmt: skip


def _notes(marks: Sequence[Mark], right: float, palette: Palette) -> dict[str, Any]:
    return {
        "type": "scatter", "symbolSize": 0, "silent": True,
        "data": [
            {
                "value": [right, place],
                "label": {
                    "show": True, "position": "right", "distance": 8, "color": palette.ink_soft,
                    "formatter": painted(mark.note),
                },
            }
            for place, mark in enumerate(marks)
            if mark.note
        ],
    }  # fmt: skip


def _between(interval: Interval | None) -> str:
    return f" ({100 * interval[0]:.0f} to {100 * interval[1]:.0f} %)" if interval else ""


def difference(value: float, low: float, high: float, names: tuple[str, str], palette: Palette) -> Chart:
    """One difference of accuracies, b less a, with its interval: left of nought a is better, right of it b."""
    widest = 1.1 * max(abs(low), abs(high))
    step = 0.05 if widest <= 0.2 else 0.1 if widest <= 0.5 else 0.25
    reach = step * max(1, int(np.ceil(widest / step)))
    sure = low > 0 or high < 0
    colour = palette.of_series(0) if sure else palette.ink_soft
    option = {
        "animation": False,
        "grid": {"left": 12, "right": 12, "top": 26, "bottom": 4, "containLabel": True},
        "tooltip": {"trigger": "item", "formatter": "{b}", "confine": True},
        "xAxis": {
            "type": "value", "min": round(-100 * reach), "max": round(100 * reach),
            "interval": round(100 * step),
            "axisLabel": {"formatter": "{value}"},
        },
        "yAxis": {"type": "category", "data": [""], "show": False},
        "series": [
            {
                "type": "line", "silent": True, "showSymbol": False,
                "lineStyle": {"width": 6, "color": colour, "opacity": 0.4, "cap": "round"},
                "data": [[round(100 * low, 3), 0], [round(100 * high, 3), 0]],
            },
            {
                "type": "scatter", "symbolSize": 14, "z": 5,
                "itemStyle": {"color": colour, "borderColor": palette.paper, "borderWidth": 1.5},
                "data": [{"value": [round(100 * value, 3), 0], "name": points(value, low, high)}],
                "markLine": {
                    "silent": True, "symbol": "none", "data": [{"xAxis": 0}],
                    "lineStyle": {"type": "dashed", "color": palette.ink_soft, "width": 1.2},
                    "label": {
                        "show": True, "position": "end", "color": palette.ink_soft,
                        "formatter": "A is better  |  B is better",
                    },
                },
            },
        ],
    }  # fmt: skip
    alt = f"Accuracy of {names[1]} less that of {names[0]}: {points(value, low, high)}."
    return Chart(option, alt, 130)


def points(value: float, low: float, high: float) -> str:
    """A difference of shares and its interval, in words."""
    return f"{100 * value:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"


def small_matrix(counts: npt.NDArray[Any], names: Sequence[str], palette: Palette, *, height: int = 300) -> Chart:
    """A confusion matrix small enough to stand beside others: shade is the share of the row, a touch tells the rest."""
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    cells = [
        {
            "value": [heard, true, round(float(shares[true, heard]), 4)],
            "name": pointed_at(
                f"{names[true]} heard as {names[heard]}: {int(counts[true, heard])} of {int(totals[true, 0])}"
            ),
        }
        for true in range(len(names))
        for heard in range(len(names))
    ]
    axis = {"type": "category", "data": list(names), "axisTick": {"show": False}, "splitLine": {"show": False}}
    option = {
        "animation": False,
        "tooltip": {"formatter": "{b}", "confine": True},
        "grid": {"left": 4, "right": 4, "top": 4, "bottom": 4, "containLabel": True},
        "xAxis": {**axis, "axisLabel": {"show": False}},
        "yAxis": {
            **axis, "inverse": True,
            "axisLabel": {"fontSize": 10, "width": 84, "overflow": "truncate", "interval": 0},
        },
        "visualMap": {"show": False, "min": 0, "max": 1, "dimension": 2, "inRange": {"color": list(palette.steps)}},
        "series": [
            {"type": "heatmap", "data": cells, "itemStyle": {"borderWidth": 1, "borderColor": palette.line}},
        ],
    }  # fmt: skip
    right, total = int(np.trace(counts)), int(counts.sum())
    return Chart(option, f"Confusion matrix of {total} recordings: {right} are right.", height)
