"""The charts of the Identify page: data in, `charts.Chart` out."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from charts import Chart, reach_of
from palette import Palette
from wording import listed, one_line, percent

if TYPE_CHECKING:
    from pianistid_core.deletion import Deletion

MINUS = "\u2212"
# As words: of concepts, and of their subsets.
NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four", 7: "seven", 15: "fifteen"}
_LABEL = {"width": 150, "overflow": "truncate", "interval": 0}


def points(change: float) -> str:
    """A change of a probability: 0.123 as "+12.3", with a real minus."""
    return f"{'+' if change >= 0 else MINUS}{abs(100 * change):.1f}"


def ranking(probabilities: Mapping[str, float], palette: Palette, *, top: int = 6) -> Chart:
    """The likeliest pianists, each in their own colour, and the others together in grey."""
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])
    shown, rest = ranked[:top], ranked[top:]
    rows = [(one_line(name, 40), value, palette.of_pianist(name, list(probabilities))) for name, value in shown]
    if rest:
        rows.append((f"{len(rest)} others", sum(value for _, value in rest), palette.muted))
    data = [
        {
            "value": round(value, 5),
            "itemStyle": {"color": colour, "borderRadius": [0, 4, 4, 0], "opacity": 1 if index == 0 else 0.75},
            "label": {"formatter": percent(value, 1), "fontWeight": "bold" if index == 0 else "normal"},
        }
        for index, (_, value, colour) in enumerate(rows)
    ]
    option = {
        "animation": False,
        "grid": {"left": 4, "right": 62, "top": 4, "bottom": 4, "containLabel": True},
        "xAxis": {"type": "value", "min": 0, "max": reach_of([value for _, value, _ in rows]), "show": False},
        "yAxis": _names([name for name, _, _ in rows], palette),
        "series": [
            {
                "type": "bar", "data": data, "barMaxWidth": 18, "barMinHeight": 1,
                "label": {"show": True, "position": "right", "color": palette.ink, "fontSize": 13},
                "showBackground": True, "backgroundStyle": {"color": palette.line, "opacity": 0.28, "borderRadius": 4},
            }
        ],
    }  # fmt: skip
    words = listed(f"{name} {percent(value)}" for name, value in shown[:3])
    return Chart(option, f"Probabilities over the whole piece: {words}.", 36 + 34 * len(rows))


def waterfall(silence: float, shares: Mapping[str, float], full: float, palette: Palette) -> Chart:
    """From nothing heard to all heard: what each concept gives, each bar beginning where the one before ends."""
    names = ["Nothing heard", *(concept.capitalize() for concept in shares), f"All {NUMBERS[len(shares)]} heard"]
    edges = [(0.0, silence)]
    at = silence
    for share in shares.values():
        edges.append((at, at + share))
        at += share
    edges.append((0.0, full))
    # Steps may pass below 0 on their way; the bars are stacked on what is left of their lower end.
    floor = min(0.0, *(min(edge) for edge in edges))
    colours = [palette.muted, *(palette.of_series(index) for index in range(len(shares))), palette.ink_soft]
    labels = [percent(silence, 1), *(points(share) for share in shares.values()), percent(full, 1)]
    rounded = [0, 4, 4, 0]
    bars = [
        {
            "value": round(abs(end - start), 6),
            "itemStyle": {"color": colour, "borderRadius": rounded if end >= start else rounded[::-1]},
            "label": {"formatter": label},
        }
        for (start, end), colour, label in zip(edges, colours, labels, strict=True)
    ]
    option = {
        "animation": False,
        "grid": {"left": 4, "right": 62, "top": 4, "bottom": 4, "containLabel": True},
        "xAxis": {"type": "value", "min": 0, "show": False},
        "yAxis": _names(names, palette),
        "series": [
            {
                "type": "bar", "stack": "steps", "silent": True, "barMaxWidth": 20,
                "itemStyle": {"color": "transparent"},
                "data": [round(min(edge) - floor, 6) for edge in edges],
            },
            {
                "type": "bar", "stack": "steps", "barMaxWidth": 20, "barMinHeight": 2, "data": bars,
                "label": {"show": True, "position": "right", "color": palette.ink, "fontSize": 13},
            },
        ],
    }  # fmt: skip
    steps = listed(f"{concept} {points(share)}" for concept, share in shares.items())
    alt = f"From {percent(silence, 1)} with nothing heard to {percent(full, 1)} with all: {steps} points."
    return Chart(option, alt, 40 + 34 * len(names))


def deletion(found: "Deletion", palette: Palette) -> Chart:
    """How probable the answer is as its notes are deleted, the highest ranked first; a band holds all random draws."""
    at = [round(100 * share, 1) for share in found.shares]
    drawn = found.drawn()
    highest, usual = found.curve("highest").mean.tolist(), drawn.mean(axis=0).tolist()
    low, high, height = drawn.min(axis=0).tolist(), drawn.max(axis=0).tolist(), np.ptp(drawn, axis=0).tolist()

    def line(name: str, values: Sequence[float], **more: Any) -> dict[str, Any]:
        data = [[share, round(100 * value, 3)] for share, value in zip(at, values, strict=True)]
        return {"name": name, "type": "line", "data": data, **more}

    unseen = {
        "stack": "random", "stackStrategy": "all", "silent": True, "showSymbol": False, "tooltip": {"show": False},
        "lineStyle": {"opacity": 0}, "color": palette.muted, "z": 1,
    }  # fmt: skip
    reach = 100 * reach_of(highest, high)
    names = ("Highest ranked first", "Random")
    option = {
        "animation": False,
        "tooltip": {"trigger": "axis", "confine": True, "valueFormatter": "%.1f %%"},
        "legend": {"top": 0, "left": 0, "data": list(names), "itemWidth": 24, "itemStyle": {"opacity": 0}},
        "grid": {"left": 4, "right": 22, "top": 34, "bottom": 24, "containLabel": True},
        "xAxis": {
            "type": "value", "min": 0, "max": at[-1], "name": "notes deleted", "nameLocation": "middle", "nameGap": 26,
            "splitLine": {"show": False}, "axisLabel": {"formatter": "{value} %"},
        },
        "yAxis": {
            "type": "value", "min": 0, "max": reach, "interval": reach / 5,
            "axisLabel": {"formatter": "{value} %"},
        },
        "series": [
            line("Random, from", low, **unseen),
            line("Random, to", height, **unseen, areaStyle={"opacity": 0.3}),
            line(names[1], usual, color=palette.muted, showSymbol=False, lineStyle={"width": 2, "type": "dashed"}, z=2),
            line(names[0], highest, color=palette.steps[-1], symbolSize=6, lineStyle={"width": 2.4}, z=3),
        ],
    }  # fmt: skip
    alt = (
        f"Probability of the answer, {percent(highest[0])} with all notes: with {at[-1]:.0f} % of the notes deleted "
        f"{percent(highest[-1])} when the highest ranked go first, {percent(usual[-1])} when random ones go."
    )
    return Chart(option, alt, 230)


def _names(names: Sequence[str], palette: Palette) -> dict[str, Any]:
    return {
        "type": "category", "data": list(names), "inverse": True, "axisTick": {"show": False},
        "axisLine": {"show": False}, "axisLabel": {**_LABEL, "color": palette.ink, "fontSize": 13},
    }  # fmt: skip
