"""Draws a `charts.Chart` in place."""

import streamlit as st

from charts import Chart


def show_chart(chart: Chart, *, key: str) -> None:
    """Draws a chart under a stable key, so that a live one is updated and not built anew."""
    st.echarts_chart(chart.option, height=chart.height, key=key, alt=chart.alt)
