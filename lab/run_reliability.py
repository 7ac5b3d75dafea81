"""How far a run's probabilities can be trusted: said and true, as `pianistid calibrate` has measured it."""

import math
from typing import Any, NamedTuple

import streamlit as st

import palette
from charts import Chart, pointed_at
from components.chart import show_chart
from palette import Palette
from pianistid_core.calibration import CALIBRATION_FILE, Calibration
from pianistid_core.errors import CheckpointError
from pianistid_core.intervals import wilson
from pianistid_core.metrics_log import finite_number
from pianistid_core.runs import Run
from wording import count, percent, plain, sentence

_LEAST_DOT, _GREATEST_DOT = 7.0, 22.0


class Point(NamedTuple):
    """The answers of one range of confidence: how sure, how many of n are right, and the interval of that share."""

    confidence: float
    right: int
    n: int
    low: float
    high: float

    @property
    def share(self) -> float:
        return self.right / self.n


def draw(run: Run) -> None:
    """Draws what was measured when the run was calibrated; nothing where it was not."""
    kept = run.read_json(CALIBRATION_FILE)
    if kept is None:
        return
    try:
        calibration = Calibration.from_dict(kept.get("calibration"), source=CALIBRATION_FILE)
    except CheckpointError as error:
        st.warning(sentence(str(error)), icon=":material/warning:")
        return
    found = points(calibration.measured)
    if not found:
        return
    show_chart(
        reliability_chart(found, palette.current()), key="reliability", title="Said and true",
        about=f"{facts(calibration)} A dot on the dashed line says what is true. Bar: 95 % interval (Wilson).",
        data=[
            {"confidence": one.confidence, "right": one.share, "recordings": one.n, "low": one.low, "high": one.high}
            for one in found
        ],
    )  # fmt: skip
    for words in (candidates_words(calibration), strangers_words(calibration.measured)):
        if words:
            st.caption(plain(words, 400))


def points(measured: dict[str, Any]) -> list[Point]:
    """The ranges of confidence in what was measured; what is no such range is left out, for files may hold anything."""
    bins = measured.get("bins")
    found = []
    for row in bins if isinstance(bins, list) else []:
        if not isinstance(row, list) or len(row) != 3:
            continue
        sure, (right, n) = finite_number(row[0]), row[1:]
        if sure is None or not 0 <= sure <= 1 or type(right) is not int or type(n) is not int or not 0 <= right <= n:
            continue
        between = wilson(right, n)
        if between is not None:
            found.append(Point(sure, right, n, *between))
    return found


def facts(calibration: Calibration) -> str:
    """By what it was calibrated, and how far what it says is from what is true on average."""
    ece = finite_number(calibration.measured.get("ece"))
    by = f"Calibrated by {count(calibration.n_recordings, 'recording')} ({calibration.part}), measured by leaving out."
    return by if ece is None else f"{by} Expected calibration error: {percent(ece, 1)}."


def candidates_words(calibration: Calibration) -> str:
    """How often the right one is among the candidates, and how many there are."""
    covered, size = (finite_number(calibration.measured.get(name)) for name in ("coverage", "candidates"))
    if covered is None or size is None:
        return ""
    return (
        f"The right one is among the candidates in {percent(covered, 1)} of recordings, as wanted in "
        f"{percent(calibration.coverage)}; there are {size:.1f} on average."
    )


def strangers_words(measured: dict[str, Any]) -> str:
    """How well pianists are told whom a model never met; nothing where that was not measured."""
    unknown = measured.get("unknown")
    if not isinstance(unknown, dict):
        return ""
    area, caught = (finite_number(unknown.get(name)) for name in ("auroc", "caught"))
    if area is None or caught is None:
        return ""
    return (
        f"Pianists that a model never met: {percent(caught)} of their recordings are told to be by none of the known, "
        f"where 5 % of the known are; a stranger sounds less familiar than a known one in {percent(area)} of pairs."
    )


def reliability_chart(found: list[Point], colours: Palette) -> Chart:
    """How sure the answers are, to the right, and how many of them are right, upwards; larger dots are of more."""
    most = max(one.n for one in found)
    colour = colours.of_series(0)
    bars: list[list[float | None]] = []
    for one in found:
        x = round(100 * one.confidence, 2)
        bars += [[x, round(100 * one.low, 2)], [x, round(100 * one.high, 2)], [None, None]]
    dots = [
        {
            "value": [round(100 * one.confidence, 2), round(100 * one.share, 2)],
            "symbolSize": round(_LEAST_DOT + (_GREATEST_DOT - _LEAST_DOT) * math.sqrt(one.n / most), 1),
            "name": pointed_at(_in_words(one)),
        }
        for one in found
    ]
    axis: dict[str, Any] = {
        "type": "value", "min": 0, "max": 100, "interval": 25, "nameLocation": "middle",
        "axisLabel": {"formatter": "{value} %"},
    }  # fmt: skip
    option = {
        "animation": False,
        "grid": {"left": 30, "right": 22, "top": 14, "bottom": 26, "containLabel": True},
        "tooltip": {"trigger": "item", "formatter": "{b}", "confine": True},
        "xAxis": {**axis, "name": "said to be sure", "nameGap": 28},
        "yAxis": {**axis, "name": "right", "nameGap": 44},
        "series": [
            {
                "type": "line", "data": [[0, 0], [100, 100]], "showSymbol": False, "silent": True,
                "tooltip": {"show": False},
                "lineStyle": {"type": "dashed", "color": colours.ink_soft, "width": 1.2}, "z": 1,
            },
            {
                "type": "line", "data": bars, "showSymbol": False, "silent": True, "tooltip": {"show": False},
                "lineStyle": {"color": colour, "opacity": 0.4, "width": 4, "cap": "round"}, "z": 2,
            },
            {
                "type": "scatter", "data": dots, "z": 3,
                "itemStyle": {"color": colour, "borderColor": colours.paper, "borderWidth": 1.5},
            },
        ],
    }  # fmt: skip
    words = "; ".join(_in_words(one) for one in found)
    return Chart(option, f"How sure the answers are and how many are right: {words}.", 320)


def _in_words(one: Point) -> str:
    between = f"{percent(one.low)} to {percent(one.high)}"
    return f"said {percent(one.confidence)}, right {one.right} of {one.n} ({percent(one.share)}, {between})"
