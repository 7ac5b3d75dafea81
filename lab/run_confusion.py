"""Who is taken for whom in one run: the matrix, the recordings of a cell to hear, and recall with its intervals."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import streamlit as st

import cached
import palette
import run_charts
from components.chart import show_chart
from components.confusion_matrix import Moment, show_confusion
from components.empty import show_empty
from components.recordings import show_recordings
from guard import guard
from pianistid_core.comparison import look_alike_order
from pianistid_core.datasets.root import DataRoot
from pianistid_core.intervals import recall_intervals
from pianistid_core.runs import Confusion, RecordingOutcome, Run
from wording import count, one_line, percent, plain

MOST_MOMENTS = 60


def draw(run: Run, root: DataRoot, *, tick_s: float | None) -> None:
    """Draws the matrix and, below it, what was chosen in it."""
    names = run.confusion_names()
    st.fragment(watch, run_every=tick_s, key="live_confusions")(run, len(names))
    found = moments(run, names)
    if not found:
        show_empty(
            ":material/grid_on:", "No confusion matrix yet",
            "One is kept after the first epoch, every five epochs, and at the end.", key="confusion",
        )  # fmt: skip
        return
    last = found[-1]
    key = f"confusion_{zlib.crc32(str(run.path).encode()):08x}"
    st.markdown("**Who plays** (rows) **and who is heard** (columns)")
    chosen = show_confusion(found, look_alike_order(last.confusion.counts), key=key)
    shown = next((moment for moment in found if moment.key == chosen.key), last)
    if chosen.cell is not None:
        recordings(root, shown, chosen.cell)
    recall(shown)
    table(run, shown)


@guard
def watch(run: Run, known: int) -> None:
    """Draws the page anew when another matrix was kept; the slider itself must not refresh under a hand."""
    if len(run.confusion_names()) != known:
        st.rerun()


def moments(run: Run, names: Sequence[str]) -> list[Moment]:
    """The matrices of a run as stops of the slider, evenly thinned when there are very many; damaged ones left out."""
    kept = list(names)
    if len(kept) > MOST_MOMENTS:
        step = (len(kept) - 1) / (MOST_MOMENTS - 1)
        kept = [kept[round(step * index)] for index in range(MOST_MOMENTS)]
    found = [(name, _confusion(run.path, name, cached.stamp(run.path / "confusion" / f"{name}.json"))) for name in kept]
    whole = [(name, confusion) for name, confusion in found if confusion is not None]
    n = len(whole[-1][1].class_names) if whole else 0
    return [
        Moment(name, label(name), "test" if name.startswith("epoch") else name, confusion)
        for name, confusion in whole
        if len(confusion.class_names) == n
    ]


@st.cache_data(max_entries=600, show_spinner=False)
def _confusion(path: Path, name: str, seen: tuple[float, ...]) -> Confusion | None:
    return Run(path).confusion(name)


def label(name: str) -> str:
    """A matrix as people call it."""
    return f"Epoch {int(name[6:])}" if name.startswith("epoch_") else one_line(name.capitalize(), 40)


def recall(shown: Moment) -> None:
    """Each pianist's recall, most easily recognised first, with intervals, n, and the line of guessing."""
    confusion = shown.confusion
    names = [one_line(name, 40) for name in confusion.class_names]
    totals = [int(n) for n in confusion.counts.sum(axis=1)]
    recalls = [int(confusion.counts[i, i]) / n if n else None for i, n in enumerate(totals)]
    intervals = recall_intervals(confusion)
    order = sorted(range(len(totals)), key=lambda i: -1.0 if (share := recalls[i]) is None else share, reverse=True)
    chance = 1 / max(1, len(totals))
    chart = run_charts.recall_chart(
        [names[i] for i in order], [totals[i] for i in order], [recalls[i] for i in order],
        [intervals[i] for i in order], chance, palette.current(),
    )  # fmt: skip
    rows = [
        {
            "pianist": names[i], "recordings": totals[i], "right": int(confusion.counts[i, i]), "recall": recalls[i],
            "low": None if (between := intervals[i]) is None else between[0],
            "high": None if between is None else between[1],
        }
        for i in order
    ]  # fmt: skip
    show_chart(
        chart, key="recall_chart", title=f"Recall by pianist, {shown.label.lower()}", data=rows,
        about=f"Dot: share of the pianist's {shown.part} recordings that are recognised. Bar: 95 % interval (Wilson). "
        f"Dashed line: guessing evenly among {len(totals)}, {percent(chance, 1)}.",
    )  # fmt: skip


def recordings(root: DataRoot, shown: Moment, cell: tuple[int, int]) -> None:
    """The recordings of the chosen cell, to look at and hear."""
    true, heard = cell
    names = shown.confusion.class_names
    who = f"{names[true]} recognised" if true == heard else f"{names[true]} heard as {names[heard]}"
    n = int(shown.confusion.counts[true, heard])
    st.markdown(f"**{plain(who)}**: {count(n, 'recording')}, {plain(shown.label.lower())}")
    found = sorted(shown.confusion.in_cell(true, heard), key=lambda one: -one.probability)
    if not found and n:
        st.info(
            "This matrix is of an older run, which did not note which recordings it heard as whom.",
            icon=":material/info:",
        )
        return
    if not found:
        st.caption("No recording is in this cell.")
        return
    show_recordings(
        root, [one.track for one in found], key="cell", height=260,
        labels={one.track: said_of(one, names) for one in found},
    )  # fmt: skip


def said_of(one: RecordingOutcome, names: Sequence[str]) -> str:
    """How sure the model was of what it heard."""
    return f"{percent(one.probability)} {names[one.heard]}"


def table(run: Run, shown: Moment) -> None:
    """The figures behind the matrix, to read and to keep."""
    frame = pd.DataFrame(
        shown.confusion.counts,
        index=[one_line(name) for name in shown.confusion.class_names],
        columns=[one_line(name) for name in shown.confusion.class_names],
    )
    st.download_button(
        "Matrix as CSV", lambda: frame.to_csv().encode(), file_name=f"{run.path.name}_{shown.key}.csv", mime="text/csv",
        key="confusion_data", icon=":material/download:", on_click="ignore",
        help="Counts of recordings: a row for who played, a column for who was heard.",
    )  # fmt: skip
