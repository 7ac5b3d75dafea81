"""The chart of the Results page, as a pure function: differences of pairs, the paper's beside ours, around nought."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from charts import Chart, painted, pointed_at
from palette import Palette
from pianistid_core.paper_results import Comparison, verdict
from wording import listed

_ROW = 34
_STEP = 0.1


def differences(found: Sequence[Comparison], palette: Palette) -> Chart:
    """One row a pair: a diamond for the paper's difference, a dot with its interval for ours; right of 0 is better.

    Ours is coloured where its interval leaves out 0, and grey where it does not.
    """
    ends = [abs(end) for one in found for end in (one.test.low, one.test.high, one.published)]
    reach = _STEP * max(1, int(np.ceil(max(ends, default=_STEP) / _STEP)))
    names = [name_of(one) for one in found]
    option = {
        "animation": False,
        "tooltip": {"trigger": "item", "formatter": "{b}", "confine": True},
        "grid": {"left": 4, "right": 112, "top": 24, "bottom": 4, "containLabel": True},
        "xAxis": {"type": "value", "min": round(-100 * reach), "max": round(100 * reach)},
        "yAxis": {
            "type": "category", "data": names, "inverse": True,
            "axisTick": {"show": False}, "axisLine": {"show": False}, "splitLine": {"show": False},
            "axisLabel": {"interval": 0, "width": 290, "overflow": "truncate", "color": palette.ink},
        },
        "series": [
            *[_whisker(one, place, palette) for place, one in enumerate(found)],
            {
                "type": "scatter", "z": 4,
                "data": [_published(one, place, palette) for place, one in enumerate(found)],
                "markLine": {
                    "silent": True, "symbol": "none", "data": [{"xAxis": 0}],
                    "lineStyle": {"type": "dashed", "color": palette.ink_soft, "width": 1.2},
                    "label": {
                        "show": True, "position": "start", "color": palette.ink_soft, "formatter": "no difference",
                        "distance": -4,
                    },
                },
            },
            {"type": "scatter", "z": 5, "data": [_ours(one, place, palette) for place, one in enumerate(found)]},
            _verdicts(found, 100 * reach, palette),
        ],
        "media": [
            {
                "query": {"maxWidth": 560},
                "option": {
                    "yAxis": {"axisLabel": {"width": 150, "overflow": "break", "fontSize": 10, "lineHeight": 11}},
                    "grid": {"right": 12}, "series": _silent(len(found)),
                },
            },
            {
                "option": {
                    "yAxis": {"axisLabel": {"width": 290, "overflow": "truncate", "fontSize": 12, "lineHeight": 14}},
                    "grid": {"right": 112},
                }
            },
        ],
    }  # fmt: skip
    told = listed((f"{name_of(one)}: {in_points(one)}, {verdict(one)}" for one in found), 30)
    return Chart(option, f"Differences of recording accuracy, the paper's and ours: {told}.", 40 + _ROW * len(found))


def name_of(one: Comparison) -> str:
    """A pair in a few words."""
    return f"{one.pair.question}: {one.pair.change}, {one.pair.setting}"


def in_points(one: Comparison) -> str:
    """Both differences of a pair, in words."""
    test = one.test
    ours = f"{100 * test.difference:+.1f} ({100 * test.low:+.1f} to {100 * test.high:+.1f})"
    return f"paper {100 * one.published:+.1f}, here {ours} points"


def _is_sure(one: Comparison) -> bool:
    return not one.test.low <= 0 <= one.test.high


def _colour(one: Comparison, palette: Palette) -> str:
    return palette.of_series(0) if _is_sure(one) else palette.ink_soft


def _whisker(one: Comparison, place: int, palette: Palette) -> dict[str, Any]:
    return {
        "type": "line", "silent": True, "showSymbol": False, "z": 3,
        "lineStyle": {"width": 4, "color": _colour(one, palette), "opacity": 0.45, "cap": "round"},
        "data": [[round(100 * one.test.low, 3), place], [round(100 * one.test.high, 3), place]],
    }  # fmt: skip


def _ours(one: Comparison, place: int, palette: Palette) -> dict[str, Any]:
    return {
        "value": [round(100 * one.test.difference, 3), place],
        "name": pointed_at(f"{name_of(one)}: {in_points(one)}"),
        "symbol": "circle", "symbolSize": 12,
        "itemStyle": {"color": _colour(one, palette), "borderColor": palette.paper, "borderWidth": 1.5},
    }  # fmt: skip


def _published(one: Comparison, place: int, palette: Palette) -> dict[str, Any]:
    return {
        "value": [round(100 * one.published, 3), place],
        "name": pointed_at(f"{name_of(one)}: {in_points(one)}"),
        "symbol": "diamond", "symbolSize": 13,
        "itemStyle": {"color": palette.paper, "borderColor": palette.of_series(1), "borderWidth": 2},
    }  # fmt: skip


def _verdicts(found: Sequence[Comparison], right: float, palette: Palette) -> dict[str, Any]:
    """What stands beside each row: whether the direction agrees."""
    words = {"yes": "agrees", "no": "disagrees", "cannot be told": "cannot be told", "no direction": "paper: equal"}
    return {
        "type": "scatter", "symbolSize": 0, "silent": True,
        "data": [
            {
                "value": [round(right), place],
                "label": {
                    "show": True, "position": "right", "distance": 8, "formatter": painted(words[one.agrees]),
                    "color": palette.ink if one.agrees in ("yes", "no") else palette.ink_soft,
                },
            }
            for place, one in enumerate(found)
        ],
    }  # fmt: skip


def _silent(n_rows: int) -> list[dict[str, Any]]:
    """On a narrow screen the words beside the rows are left to the table."""
    return [{} for _ in range(n_rows + 2)] + [{"data": []}]
