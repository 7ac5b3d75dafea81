"""Draws a `charts.Chart` in place."""

from typing import Any

import streamlit as st

import palette
from charts import Chart
from palette import Palette


def show_chart(chart: Chart, *, key: str) -> None:
    """Draws a chart under a stable key, so that a live one is updated and not built anew."""
    st.echarts_chart(inked(chart.option, palette.current()), height=chart.height, key=key, alt=chart.alt)


def inked(option: dict[str, Any], colours: Palette) -> dict[str, Any]:
    """The option with its axes, grid lines and legend in the lab's own ink; ECharts' grey is too faint to read."""
    done = dict(option)
    for name in {"xAxis", "yAxis"} & done.keys():
        axis = {**done[name]}
        axis["axisLabel"] = {"color": colours.ink_soft, **axis.get("axisLabel", {})}
        axis["axisLine"] = {"lineStyle": {"color": colours.line}, **axis.get("axisLine", {})}
        axis["splitLine"] = {"lineStyle": {"color": colours.line, "opacity": 0.6}, **axis.get("splitLine", {})}
        done[name] = axis
    if "legend" in done:
        done["legend"] = {"textStyle": {"color": colours.ink_soft}, **done["legend"]}
    return done
