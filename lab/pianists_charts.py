"""The charts of the Pianists page, as pure functions: the overview, a radar of concepts, and whom one is taken for."""

from collections.abc import Sequence
from typing import Any

from charts import Chart, pointed_at
from compare_charts import Mark, intervals
from palette import Palette
from pianistid_core.concepts import CONCEPTS
from pianistid_core.profiles import ALL, Profile, Profiles
from pianists_data import heard_by, interval, mean_recalls
from wording import listed, one_line, percent


def overview(pianists: Sequence[Profile], found: Profiles, palette: Palette) -> Chart:
    """A heat map of pianists by everything and each concept alone; shade and number are the share named right."""
    columns = [heard_by(name) for name in found.heard]
    rows = [f"{one_line(one.pianist, 40)}  {one.n}" for one in pianists]
    cells = []
    for row, one in enumerate(pianists):
        for column, name in enumerate(found.heard):
            recall = one.recall[name]
            if recall is None:
                continue
            cells.append(
                {
                    "value": [column, row, round(recall, 4)],
                    "name": pointed_at(
                        f"{one_line(one.pianist)}, {columns[column].lower()}: {percent(recall)} of {one.n}"
                    ),
                    "label": {"formatter": f"{100 * recall:.0f}", "color": palette.on_step(recall)},
                }
            )
    option = {
        "animation": False,
        "tooltip": {"formatter": "{b}", "confine": True},
        "grid": {"left": 4, "right": 4, "top": 26, "bottom": 4, "containLabel": True},
        "xAxis": {
            "type": "category", "data": columns, "position": "top", "axisTick": {"show": False},
            "axisLine": {"show": False}, "splitLine": {"show": False},
            "axisLabel": {"interval": 0, "color": palette.ink},
        },
        "yAxis": {
            "type": "category", "data": rows, "inverse": True, "axisTick": {"show": False},
            "axisLine": {"show": False}, "splitLine": {"show": False},
            "axisLabel": {"interval": 0, "width": 170, "overflow": "truncate", "color": palette.ink},
        },
        "visualMap": {"show": False, "min": 0, "max": 1, "dimension": 2, "inRange": {"color": list(palette.steps)}},
        "series": [
            {
                "type": "heatmap", "data": cells, "label": {"show": True, "fontSize": 12},
                "itemStyle": {"borderWidth": 2, "borderColor": palette.paper},
                "emphasis": {"itemStyle": {"borderColor": palette.ink, "borderWidth": 1.5}},
            }
        ],
        "media": [
            {
                "query": {"maxWidth": 480},
                "option": {
                    "yAxis": {"axisLabel": {"width": 104}},
                    "xAxis": {"axisLabel": {"fontSize": 10, "rotate": 30}}, "grid": {"top": 44},
                },
            },
            {
                "option": {
                    "yAxis": {"axisLabel": {"width": 170}},
                    "xAxis": {"axisLabel": {"fontSize": 12, "rotate": 0}}, "grid": {"top": 26},
                }
            },
        ],
    }  # fmt: skip
    means = mean_recalls(found)
    told = listed(f"{heard_by(name).lower()} {percent(mean)}" for name, mean in means.items())
    alt = f"Share of each pianist's recordings named right. Mean over pianists: {told}."
    return Chart(option, alt, 48 + 27 * max(1, len(rows)))


def radar(profile: Profile, found: Profiles, palette: Palette) -> Chart:
    """How well each concept alone tells a pianist, beside the mean of all pianists."""
    means = mean_recalls(found)
    colour = palette.of_pianist(profile.pianist, [one.pianist for one in found.pianists])
    values = [round(100 * (profile.recall[concept] or 0.0), 2) for concept in found.concepts]
    mean = [round(100 * means[concept], 2) for concept in found.concepts]
    option = {
        "animation": False,
        "tooltip": {"trigger": "item", "confine": True, "valueFormatter": "%.0f %%"},
        "legend": {"bottom": 0, "icon": "roundRect", "itemHeight": 4, "itemWidth": 18},
        "radar": {
            "indicator": [{"name": heard_by(concept), "max": 100, "min": 0} for concept in found.concepts],
            "radius": "66%", "center": ["50%", "46%"], "splitNumber": 4,
            "axisName": {"color": palette.ink, "fontSize": 13},
            "axisLine": {"lineStyle": {"color": palette.line}}, "splitLine": {"lineStyle": {"color": palette.line}},
            "splitArea": {"show": False},
        },
        "series": [
            {
                "type": "radar",
                "data": [
                    {
                        "name": "Mean of all", "value": mean, "symbol": "none", "itemStyle": {"color": palette.muted},
                        "lineStyle": {"type": "dashed", "width": 1.6, "color": palette.muted},
                    },
                    {
                        "name": one_line(profile.pianist, 40), "value": values, "symbolSize": 7,
                        "itemStyle": {"color": colour}, "lineStyle": {"width": 2.4, "color": colour},
                        "areaStyle": {"color": colour, "opacity": 0.22},
                    },
                ],
            }
        ],
    }  # fmt: skip
    told = listed(
        f"{concept} {percent(profile.recall[concept])} (mean {percent(means[concept])})" for concept in found.concepts
    )
    return Chart(option, f"{one_line(profile.pianist)} told by one concept alone: {told}.", 330)


def recalls(profile: Profile, found: Profiles, palette: Palette) -> Chart:
    """The share of a pianist's recordings named right by everything and each concept alone, with intervals."""
    marks = [
        Mark(
            heard_by(name) if name == ALL else f"{heard_by(name)} alone", profile.recall[name],
            interval(profile, name), percent(profile.recall[name]),
            colour=palette.ink if name == ALL else palette.of_series(CONCEPTS.index(name)),
        )
        for name in found.heard
    ]  # fmt: skip
    return intervals(marks, palette, what=f"Recordings of {one_line(profile.pianist)} named right", whole=True)


def taken_for(profile: Profile, found: Profiles, palette: Palette) -> Chart:
    """Where a pianist's recordings go, by everything and each concept alone: to them, or to whom else."""
    names = [one.pianist for one in found.pianists]
    others = list(dict.fromkeys(other for name in found.heard for other, _ in profile.mistaken_for[name]))
    labels = [heard_by(name) for name in found.heard]
    bar: dict[str, Any] = {"type": "bar", "stack": "all", "barMaxWidth": 26}
    edge = {"borderColor": palette.paper, "borderWidth": 1}
    own = [round(100 * (profile.recall[name] or 0.0), 2) for name in found.heard]
    series = [
        {**bar, "name": f"{one_line(profile.pianist, 40)} (right)", "data": own,
         "itemStyle": {"color": palette.of_pianist(profile.pianist, names), **edge}}
    ]  # fmt: skip
    shares = [dict(profile.mistaken_for[name]) for name in found.heard]
    for other in others:
        series.append(
            {
                **bar, "name": one_line(other, 40), "data": [round(100 * share.get(other, 0.0), 2) for share in shares],
                "itemStyle": {"color": palette.of_pianist(other, names), "opacity": 0.62, **edge},
            }
        )  # fmt: skip
    rest = [max(0.0, round(100 - mine - 100 * sum(share.values()), 2)) for mine, share in zip(own, shares, strict=True)]
    if profile.n and any(value > 0.01 for value in rest):
        series.append({**bar, "name": "Others", "data": rest, "itemStyle": {"color": palette.line, **edge}})
    option = {
        "animation": False,
        "tooltip": {
            "trigger": "axis", "axisPointer": {"type": "shadow"}, "valueFormatter": "%.0f %%", "confine": True,
        },
        "legend": {"top": 0, "left": 0, "right": 0, "type": "scroll", "icon": "roundRect"},
        "grid": {"left": 4, "right": 26, "top": 38, "bottom": 4, "containLabel": True},
        "xAxis": {"type": "value", "min": 0, "max": 100, "axisLabel": {"formatter": "{value} %"}},
        "yAxis": {
            "type": "category", "data": labels, "inverse": True, "axisTick": {"show": False},
            "axisLine": {"show": False}, "axisLabel": {"color": palette.ink},
        },
        "series": series,
    }  # fmt: skip
    told = "; ".join(
        f"{heard_by(name).lower()}: " + (listed(f"{one_line(o)} {percent(s)}" for o, s in pairs) or "nobody else")
        for name in found.heard
        for pairs in (profile.mistaken_for[name],)
    )
    return Chart(option, f"Whom {one_line(profile.pianist)} is taken for. {told}.", 64 + 38 * len(labels))
