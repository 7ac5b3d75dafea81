"""Draws a `charts.Chart` in place, on its own or in a frame with its title and its data."""

from typing import Any

import streamlit as st

import palette
from charts import Chart
from components.tables import show_data
from palette import Palette
from wording import plain


def show_chart(chart: Chart, *, key: str, title: str | None = None, about: str = "", data: Any = None) -> None:
    """Draws a chart under a stable key, so that a live one is updated and not built anew.

    `title` and `about` stand above it: what it shows, and what its numbers are of. `data` (rows as mappings, a data
    frame, or a function that gives either when it is wanted) can be looked at and downloaded.
    """
    if title is None and data is None:
        _draw(chart, key)
        return
    with st.container(key=f"{key}_frame", gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="top", gap="small"):
            with st.container(width="stretch", gap="xxsmall"):
                if title:
                    st.subheader(plain(title), anchor=False)
                if about:
                    st.caption(plain(about, 400))
            if data is not None:
                show_data(data, key=key, name=key, alt=chart.alt)
        _draw(chart, key)


def _draw(chart: Chart, key: str) -> None:
    st.echarts_chart(inked(chart.option, palette.current()), height=chart.height, key=key, alt=chart.alt)


def inked(option: dict[str, Any], colours: Palette) -> dict[str, Any]:
    """The option with its axes, grid lines and legend in the lab's own ink; ECharts' grey is too faint to read."""
    done = dict(option)
    for name in {"xAxis", "yAxis"} & done.keys():
        axis = done[name]
        done[name] = [_axis(one, colours) for one in axis] if isinstance(axis, list) else _axis(axis, colours)
    if "legend" in done:
        done["legend"] = {"textStyle": {"color": colours.ink_soft}, **done["legend"]}
    return done


def _axis(axis: dict[str, Any], colours: Palette) -> dict[str, Any]:
    return {
        "nameTextStyle": {"color": colours.ink_soft},
        **axis,
        "axisLabel": {"color": colours.ink_soft, **axis.get("axisLabel", {})},
        "axisLine": {"lineStyle": {"color": colours.line}, **axis.get("axisLine", {})},
        "splitLine": {"lineStyle": {"color": colours.line, "opacity": 0.6}, **axis.get("splitLine", {})},
    }
