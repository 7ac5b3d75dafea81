"""The colours of charts, read from `.streamlit/config.toml`, their only home."""

from dataclasses import dataclass

import streamlit as st


@dataclass(frozen=True)
class Palette:
    """Colours of one look: series in order, ten steps from paper to the accent, and ink, line and muted tones."""

    series: tuple[str, ...]
    steps: tuple[str, ...]
    ink: str
    paper: str
    line: str
    muted: str

    def of_series(self, index: int) -> str:
        """The colour of the nth series, pianist or concept; they come round again after the last."""
        return self.series[index % len(self.series)]

    def on_step(self, share: float) -> str:
        """The colour of text on the step that stands for a share of 0 to 1."""
        return self.paper if share > 0.55 else self.ink


def current() -> Palette:
    """The palette of the look that the browser shows now."""
    return of_theme("dark" if st.context.theme.type == "dark" else "light")


def of_theme(name: str) -> Palette:
    """The palette of "light" or "dark"."""

    def option(key: str) -> str:
        return str(st.get_option(f"theme.{name}.{key}") or "#808080")

    series = st.get_option(f"theme.{name}.chartCategoricalColors") or ["#808080"]
    steps = st.get_option(f"theme.{name}.chartSequentialColors") or ["#ffffff", "#000000"]
    return Palette(
        tuple(map(str, series)), tuple(map(str, steps)), option("textColor"), option("backgroundColor"),
        option("borderColor"), option("grayColor"),
    )  # fmt: skip
