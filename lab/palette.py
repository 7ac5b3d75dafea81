"""The colours of charts, read from `.streamlit/config.toml`, their only home.

Colours mean one thing each: a series of a chart or a concept by its place, a pianist by their place among the sorted
names (`of_pianist`), a part of a split (`of_part`), more and less by `steps`, above and below by `diverging`.

The 24 colours, the concepts' own four first, stand out from their paper by 3:1 or more. Any two are at least 11 apart
in CIELAB for eyes that see no red or no green too, the first eight pianists at least 14 (1 is just to be told apart,
side by side). From the 25th pianist on they come round again with a pattern (`pattern_of`); where there are as many, a
name has to stand beside each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from pianistid_core.concepts import CONCEPTS

_PATTERNS: tuple[dict[str, Any], ...] = (
    {"symbol": "rect", "dashArrayX": [1, 0], "dashArrayY": [2, 5], "rotation": -0.785},
    {"symbol": "circle", "dashArrayX": [[8, 8], [0, 8, 8, 0]], "dashArrayY": [6, 0], "symbolSize": 0.8},
)


@dataclass(frozen=True)
class Palette:
    """Colours of one look: series, steps from paper to the accent, steps from below to above, and tones of ink."""

    series: tuple[str, ...]
    steps: tuple[str, ...]
    ink: str
    paper: str
    line: str
    muted: str
    ink_soft: str
    diverging: tuple[str, ...] = ("#7a3500", "#fbf8f2", "#0b3f66")

    def of_series(self, index: int) -> str:
        """The colour of the nth series, pianist or concept; they come round again after the last."""
        return self.series[index % len(self.series)]

    def of_pianist(self, name: str, names: Sequence[str]) -> str:
        """The one colour of a pianist among all that a model or split knows, in whatever order those are given."""
        return self.of_series(place_of(name, names))

    def of_part(self, part: str) -> str:
        """The colour of a split's part: shades of the accent for training and test, grey for validation."""
        return {"train": self.steps[-1], "test": self.steps[len(self.steps) // 2]}.get(part, self.muted)

    def on_step(self, share: float) -> str:
        """The colour of text on the step that stands for a share of 0 to 1: black or white, whichever is clearer."""
        return _on(_nearest(self.steps, share))

    def of_difference(self, score: float) -> str:
        """The colour of a signed score from -1 (the most below) over 0 (paper) to 1 (the most above)."""
        return _nearest(self.diverging, (score + 1) / 2)

    def on_difference(self, score: float) -> str:
        """The colour of text on `of_difference`."""
        return _on(self.of_difference(score))


def place_of(name: str, names: Sequence[str]) -> int:
    """A pianist's place in the series of colours, after those of the concepts: by their place among the sorted names.

    A stranger comes last. The first 20 so share no colour with a concept.
    """
    return len(CONCEPTS) + _rank(name, names)


def _rank(name: str, names: Sequence[str]) -> int:
    ordered = sorted(set(names))
    return ordered.index(name) if name in ordered else len(ordered)


def of_pianist(name: str, names: Sequence[str]) -> str:
    """The one colour of a pianist in the look that the browser shows now."""
    return current().of_pianist(name, names)


def pattern_of(name: str, names: Sequence[str]) -> dict[str, Any] | None:
    """An ECharts decal for pianists whose colour another has already; None for the first 24."""
    again = _rank(name, names) // len(current().series)
    return None if again == 0 else _PATTERNS[(again - 1) % len(_PATTERNS)]


def luminance(colour: str) -> float:
    """How light "#rrggbb" is, 0 to 1, as WCAG weighs it; above 0.179 black stands out more than white."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """How much one colour stands out from another, 1 to 21, as WCAG has it."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def current() -> Palette:
    """The palette of the look that the browser shows now."""
    return of_theme("dark" if st.context.theme.type == "dark" else "light")


def of_theme(name: str) -> Palette:
    """The palette of "light" or "dark"."""

    def option(key: str) -> str:
        return str(st.get_option(f"theme.{name}.{key}") or "#808080")

    def colours(key: str, otherwise: list[str]) -> tuple[str, ...]:
        return tuple(map(str, st.get_option(f"theme.{name}.{key}") or otherwise))

    paper = option("backgroundColor")
    sides = colours("chartDivergingColors", ["#000000", "#ffffff"])
    middle = len(sides) // 2
    return Palette(
        colours("chartCategoricalColors", ["#808080"]), colours("chartSequentialColors", ["#ffffff", "#000000"]),
        option("textColor"), paper, option("borderColor"), option("grayColor"), option("grayTextColor"),
        (*sides[:middle], paper, *sides[middle:]),
    )  # fmt: skip


def _nearest(steps: Sequence[str], share: float) -> str:
    return steps[round(min(max(share, 0.0), 1.0) * (len(steps) - 1))]


def _on(colour: str) -> str:
    return "#000000" if luminance(colour) > 0.179 else "#ffffff"
