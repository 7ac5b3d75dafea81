"""The pieces of a report: escaped text, tables, bars, and drawings that stretch to the width of the page.

Names, file names and reasons are foreign text, so all text goes through `text`.
"""

import html
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pianistid_core.midi import Notes

MAX_DRAWN_NOTES = 6000
_LEVELS = 4
_NARROWEST = 2.2  # of 1000: what is thinner than two pixels is not seen
_BLACK_KEYS = {1, 3, 6, 8, 10}
_MAX_TEXT = 300
_MINUS = "\N{MINUS SIGN}"
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def text(value: object, longest: int = _MAX_TEXT) -> str:
    """Text that is only text: one line, no markup, nothing invisible that could turn what stands beside it round."""
    seen = "".join(" " if unicodedata.category(c) in _UNSEEN else c for c in str(value))
    short = " ".join(seen.split())
    return html.escape(short if len(short) <= longest else short[: longest - 1] + "…", quote=True)


def percent(share: float) -> str:
    """ "93 %", "0.4 %"."""
    value = 100 * share
    return f"{value:.1f} %" if 0 < value < 1 or 99 < value < 100 else f"{value:.0f} %"


def points(share: float) -> str:
    """ "+12.0" or its opposite: a difference of probabilities in percentage points."""
    return signed(100 * share, 1)


def signed(value: float, places: int) -> str:
    """A number with its sign, the true minus sign where it is below zero."""
    return f"{_MINUS if value < 0 else '+'}{abs(value):.{places}f}"


def clock(seconds: float) -> str:
    """ "1:05"; with hours "1:02:05"."""
    whole = int(seconds)
    minutes = f"{whole % 3600 // 60}:{whole % 60:02d}"
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}" if whole >= 3600 else minutes


def section(title: str, *content: str) -> str:
    """A section with its heading; nothing where there is nothing to say."""
    body = "\n".join(piece for piece in content if piece)
    return f"<section>\n<h2>{text(title)}</h2>\n{body}\n</section>" if body else ""


def paragraph(sentence: str, kind: str = "") -> str:
    """A paragraph of foreign or own text; nothing where there is none."""
    kind = f' class="{kind}"' if kind else ""
    return f"<p{kind}>{text(sentence, 1000)}</p>" if sentence else ""


def table(
    headers: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int] = (), long: Sequence[int] = ()
) -> str:
    """A table of cells that are HTML already; columns in `numbers` stand to the right, those in `long` may break."""
    right = {column: ' class="n"' for column in numbers} | {column: ' class="long"' for column in long}
    head = "".join(f'<th scope="col"{right.get(i, "")}>{text(name)}</th>' for i, name in enumerate(headers))
    lines = [
        "<tr>" + "".join(f"<td{right.get(i, '')}>{cell}</td>" for i, cell in enumerate(row)) + "</tr>" for row in rows
    ]
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n'
        + "\n".join(lines)
        + "</tbody></table></div>"
    )


@dataclass(frozen=True)
class Bar:
    """One line of a bar chart: its label, a share of -1 to 1 of the reach, its value in words, and its colour."""

    label: str
    share: float
    value: str
    colour: str


def bars(lines: Sequence[Bar], *, both_ways: bool = False) -> str:
    """Horizontal bars from the left, or both ways from the middle."""
    shown = []
    track = "track both" if both_ways else "track"
    for line in lines:
        share = min(max(line.share, -1.0), 1.0)
        if both_ways:
            left, width = (50.0, 50 * share) if share >= 0 else (50 + 50 * share, -50 * share)
        else:
            left, width = 0.0, 100 * abs(share)
        shown.append(
            f'<div class="line"><span class="name">{text(line.label)}</span><span class="{track}">'
            f'<span class="fill" style="left:{left:.2f}%;width:{width:.2f}%;background:{line.colour}"></span></span>'
            f'<span class="value">{text(line.value)}</span></div>'
        )
    return '<div class="bars">' + "".join(shown) + "</div>"


def roll(notes: Notes, scores: npt.NDArray[np.float64] | None, description: str) -> tuple[str, int]:
    """A piano roll as a drawing, coloured by scores where there are some, and how many notes are drawn in it."""
    drawn = _thinned(len(notes), scores)
    low, high = int(notes.pitches.min()) - 1, int(notes.pitches.max()) + 1
    length = max(notes.duration_s, 1.0)
    x0 = 1000 * notes.onsets_s[drawn] / length
    x1 = np.maximum(1000 * notes.offsets_s[drawn] / length, x0 + _NARROWEST)
    y = high - notes.pitches[drawn].astype(int)
    levels = _levels(scores[drawn]) if scores is not None else np.zeros(len(drawn), int)
    black = "".join(f"M0 {high - pitch}h1000v1h-1000z" for pitch in range(low, high + 1) if pitch % 12 in _BLACK_KEYS)
    paths = [f'<path class="keys" d="{black}"/>']
    for level in sorted(set(levels.tolist()), key=abs):
        chosen = levels == level
        shapes = "".join(
            f"M{a:.1f} {b}h{c:.1f}v1h-{c:.1f}z"
            for a, b, c in zip(x0[chosen], y[chosen], (x1 - x0)[chosen], strict=True)
        )
        kind = "note" if scores is None else f"level{level}".replace("-", "m")
        paths.append(f'<path class="{kind}" d="{shapes}"/>')
    return _drawing("".join(paths), 1000, high - low + 1, "roll", description), len(drawn)


def timeline(
    spans: Sequence[tuple[float, float]], shares: Sequence[Sequence[float]], colours: Sequence[str], length_s: float,
    description: str,
) -> str:  # fmt: skip
    """For each clip (seconds) a column, shared out among pianists from the bottom; what is left over stays empty."""
    shapes = []
    length = max(length_s, 1.0)
    for (start, end), row in zip(spans, shares, strict=True):
        x, width, bottom = 1000 * start / length, max(1000 * (end - start) / length - 1.2, 0.5), 100.0
        for share, colour in zip(row, colours, strict=True):
            height = 100 * share
            bottom -= height
            shapes.append(
                f'<rect x="{x:.1f}" y="{bottom:.2f}" width="{width:.1f}" height="{height:.2f}" style="fill:{colour}"/>'
            )
    return _drawing("".join(shapes), 1000, 100, "timeline", description)


def ticks(length_s: float) -> str:
    """Marks of time under a drawing, from its left to its right."""
    times = [clock(length_s * step / 4) for step in range(5)]
    return '<div class="ticks" aria-hidden="true">' + "".join(f"<span>{time}</span>" for time in times) + "</div>"


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """Colours and what they mean."""
    return (
        '<p class="legend">'
        + "".join(f'<span><i style="background:{colour}"></i>{text(name, 60)}</span>' for name, colour in entries)
        + "</p>"
    )


def _drawing(shapes: str, width: int, height: int, kind: str, description: str) -> str:
    return (
        f'<svg class="{kind}" viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" '
        f'aria-label="{text(description, 600)}">{shapes}</svg>'
    )


def _thinned(n: int, scores: npt.NDArray[np.float64] | None) -> npt.NDArray[np.intp]:
    """Which notes to draw: all, or of a long piece those that matter most and of the others some, evenly."""
    if n <= MAX_DRAWN_NOTES:
        return np.arange(n)
    even = np.linspace(0, n - 1, MAX_DRAWN_NOTES if scores is None else MAX_DRAWN_NOTES // 2).astype(np.intp)
    if scores is None:
        return np.unique(even)
    strongest = np.argsort(-np.abs(scores), kind="stable")[: MAX_DRAWN_NOTES // 2]
    return np.union1d(even, strongest)


def _levels(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Signed steps of -4 to 4 for scores; what is beyond all but the strongest hundredth has the last step."""
    reach = float(np.percentile(np.abs(scores), 99)) or 1.0
    # The root, because a few notes are far above all others and the rest would be one colour.
    shares = np.sqrt(np.clip(np.abs(scores) / reach, 0, 1))
    levels: npt.NDArray[np.int64] = (np.sign(scores) * np.round(shares * _LEVELS)).astype(np.int64)
    return levels
