"""The colours of charts, read from `.streamlit/config.toml`, their only home."""

from dataclasses import dataclass

import streamlit as st


@dataclass(frozen=True)
class Palette:
    """Colours of one look: series in order, ten steps from paper to the accent, and tones of ink, line and quiet."""

    series: tuple[str, ...]
    steps: tuple[str, ...]
    ink: str
    paper: str
    line: str
    muted: str
    ink_soft: str

    def of_series(self, index: int) -> str:
        """The colour of the nth series, pianist or concept; they come round again after the last."""
        return self.series[index % len(self.series)]

    def on_step(self, share: float) -> str:
        """The colour of text on the step that stands for a share of 0 to 1: black or white, whichever is clearer."""
        step = self.steps[round(min(max(share, 0.0), 1.0) * (len(self.steps) - 1))]
        return "#000000" if luminance(step) > 0.179 else "#ffffff"


def luminance(colour: str) -> float:
    """How light "#rrggbb" is, 0 to 1, as WCAG weighs it; above 0.179 black stands out more than white."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


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
        option("borderColor"), option("grayColor"), option("grayTextColor"),
    )  # fmt: skip
