"""Pictures of results as PNG files, drawn without a screen and without matplotlib's global state.

The same data give the same bytes, so that a picture that differs says that its numbers do.
"""

import warnings
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 110
_CELL_IN = 0.42
_SIDE_IN = (3.2, 15.0)
_LARGEST_NUMBERED = 40
_LARGEST_NAMED = 100
_LONGEST_NAME = 28


def confusion_matrix_png(shares: npt.NDArray[np.float64], class_names: Sequence[str], *, title: str) -> bytes:
    """Draws a confusion matrix: (K, K) shares, rows true, columns predicted, each row summing to 1.

    Cells hold per cent where they fit; a cell of exactly 0 stays empty, and a row without recordings is grey.

    Raises
    ------
    ValueError
        When `shares` is not a square of as many rows as there are names.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n_classes = len(class_names)
    if shares.shape != (n_classes, n_classes) or n_classes == 0:
        raise ValueError(f"a confusion matrix of shape {shares.shape} does not fit {n_classes} class names")
    names = [_short(name) for name in class_names]
    side_in = float(np.clip(_CELL_IN * n_classes, *_SIDE_IN))
    font_size = float(np.clip(20 * side_in / n_classes, 4.0, 9.0))
    # A letter is about 0.62 of its size wide; 0.6 inches are left for ticks and the axis's label.
    names_in = 0.6 + max(map(len, names)) * 0.62 * font_size / 72
    width_in, height_in = names_in + side_in + 1.1, names_in + side_in + 0.5
    figure = Figure(figsize=(width_in, height_in), dpi=_DPI)
    canvas = FigureCanvasAgg(figure)
    left, bottom, high = names_in / width_in, names_in / height_in, side_in / height_in
    axes = figure.add_axes((left, bottom, side_in / width_in, high))
    empty = ~(np.nansum(shares, axis=1) > 0)
    drawn = np.ma.masked_array(shares, empty[:, None] | ~np.isfinite(shares))
    axes.set_facecolor("#e4e4e4")
    image = axes.imshow(drawn, cmap="Blues", vmin=0.0, vmax=1.0, interpolation="nearest", aspect="auto")
    _label(axes, names, _short(title, 80), font_size)
    if n_classes <= _LARGEST_NUMBERED:
        _write_cells(axes, drawn.filled(0.0), font_size)
    bar_axes = figure.add_axes(((names_in + side_in + 0.2) / width_in, bottom, 0.2 / width_in, high))
    bar = figure.colorbar(image, cax=bar_axes, ticks=np.linspace(0, 1, 6))
    bar_axes.set_yticklabels([str(per_cent) for per_cent in range(0, 101, 20)], fontsize=8)
    bar.set_label("Per cent of the true pianist's recordings", fontsize=8)

    buffer = BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; that is no news every five epochs.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from", category=UserWarning)
        canvas.print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def _label(axes: "Axes", names: Sequence[str], title: str, font_size: float) -> None:
    """Names on both sides; they come from files, so a dollar sign in one does not begin a formula."""
    step = -(-len(names) // _LARGEST_NAMED)
    ticks = range(0, len(names), step)
    axes.set_xticks(ticks, names[::step], rotation=90, fontsize=font_size, parse_math=False)
    axes.set_yticks(ticks, names[::step], fontsize=font_size, parse_math=False)
    axes.set_xlabel("Predicted pianist")
    axes.set_ylabel("True pianist")
    axes.set_title(title, fontsize=10, parse_math=False)
    edges = np.arange(-0.5, len(names))
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    axes.grid(which="minor", color="white", linewidth=0.6)
    axes.tick_params(which="minor", length=0)


def _write_cells(axes: "Axes", shares: npt.NDArray[np.float64], font_size: float) -> None:
    for row, column in np.argwhere(shares > 0):
        share = shares[row, column]
        text = f"{100 * share:.0f}" if share >= 0.005 else "<1"
        colour = "white" if share > 0.55 else "#1a1a1a"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=min(8.0, font_size))


def _short(text: str, longest: int = _LONGEST_NAME) -> str:
    """One line of at most `longest` characters."""
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"
