"""Charts of a data set: how much of each pianist is in each part of a split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from charts import PART_NAMES, Chart
from palette import Palette
from pianistid_core.datasets.root import PARTS, Split
from wording import one_line

MEASURES = ("Hours", "Recordings", "Clips")


@dataclass(frozen=True)
class Holding:
    """What one pianist has in one part of a split; `clips` is None where they were not counted."""

    pianist: str
    part: str
    recordings: int
    hours: float
    clips: int | None

    def of(self, measure: str) -> float:
        """The figure that a measure names."""
        return {"Hours": self.hours, "Recordings": self.recordings, "Clips": self.clips or 0}[measure]


def holdings_of(split: Split, clips: Mapping[str, int] | None = None) -> list[Holding]:
    """What each pianist has in each part, in the order of classes and parts; `clips` by track."""
    found = []
    for part in (part for part in PARTS if part in split.parts):
        n, n_clips = [0] * len(split.class_names), [0] * len(split.class_names)
        seconds = [0.0] * len(split.class_names)
        for entry in split.parts[part]:
            n[entry.pianist] += 1
            seconds[entry.pianist] += entry.duration_s
            n_clips[entry.pianist] += (clips or {}).get(entry.track, 0)
        for index, name in enumerate(split.class_names):
            held = n_clips[index] if clips is not None else None
            found.append(Holding(name, part, n[index], seconds[index] / 3600, held))
    return found


def holdings_chart(holdings: Sequence[Holding], measure: str, palette: Palette) -> Chart:
    """One bar a pianist, in pieces for the parts of the split; the longest on top."""
    totals: dict[str, float] = {}
    for held in holdings:
        totals[held.pianist] = totals.get(held.pianist, 0.0) + held.of(measure)
    names = sorted(totals, key=lambda name: (-totals[name], name))
    scale, unit, digits = 1.0, {"Recordings": "", "Clips": ""}.get(measure, " h"), 0 if measure != "Hours" else 1
    if measure == "Hours" and max(totals.values(), default=1.0) < 1:
        scale, unit, digits = 60.0, " min", 0
    values = {(held.pianist, held.part): scale * held.of(measure) for held in holdings}
    parts = [part for part in PARTS if any(held.part == part for held in holdings)]
    option = {
        "animation": False,
        "tooltip": {
            "trigger": "axis", "axisPointer": {"type": "shadow"}, "confine": True,
            "valueFormatter": f"%.{digits}f{unit}",
        },
        "legend": {"top": 0, "left": 0, "icon": "roundRect", "itemWidth": 14, "itemHeight": 10},
        "grid": {"left": 4, "right": 20, "top": 34, "bottom": 4, "containLabel": True},
        "xAxis": {"type": "value", "axisLabel": {"formatter": f"{{value}}{unit}", "hideOverlap": True}},
        "yAxis": {
            "type": "category", "data": [one_line(name) for name in names], "inverse": True,
            "axisTick": {"show": False}, "axisLabel": {"width": 130, "overflow": "truncate", "interval": 0},
        },
        "series": [
            {
                "name": PART_NAMES.get(part, part), "type": "bar", "stack": "all", "barMaxWidth": 16,
                "color": palette.of_part(part), "itemStyle": {"borderColor": palette.paper, "borderWidth": 1},
                "data": [round(values.get((name, part), 0.0), 4) for name in names],
            }
            for part in parts
        ],
    }  # fmt: skip
    return Chart(option, _in_words(names, totals, measure, scale, unit, digits), 80 + 25 * len(names))


def _in_words(
    names: Sequence[str], totals: Mapping[str, float], measure: str, scale: float, unit: str, digits: int
) -> str:
    words = f"{measure} of music by pianist and part" if measure == "Hours" else f"{measure} by pianist and part"
    if not names:
        return f"{words}: none."
    most, least = names[0], names[-1]

    def said(name: str) -> str:
        return f"{one_line(name)}, {scale * totals[name]:,.{digits}f}{unit}"

    return f"{words}, for {len(names)} pianists. Most: {said(most)}; least: {said(least)}."


def holdings_table(holdings: Sequence[Holding]) -> list[dict[str, object]]:
    """One row a pianist, with recordings, hours and clips in each part."""
    rows: dict[str, dict[str, object]] = {}
    for held in holdings:
        row = rows.setdefault(held.pianist, {"Pianist": one_line(held.pianist)})
        part = PART_NAMES.get(held.part, held.part)
        row[f"{part}: recordings"] = held.recordings
        row[f"{part}: hours"] = round(held.hours, 3)
        if held.clips is not None:
            row[f"{part}: clips"] = held.clips
    return list(rows.values())
