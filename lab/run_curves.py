"""The curves of one run, live: loss, accuracy and learning rate, smoothed or not, by epoch or by time."""

import csv
import io

import streamlit as st

import cached
import palette
import run_actions
import run_charts
from components.chart import show_chart
from components.empty import show_empty
from guard import guard
from pianistid_core.errors import RunError
from pianistid_core.metrics_log import Curves, finite_number
from pianistid_core.runs import Run
from wording import count

BY_EPOCH, BY_TIME = "Epoch", "Time"
FASTEST_S, SLOWEST_S = 2.0, 10.0
_LAST_EPOCHS = 5


def tick_of(found: Curves) -> float:
    """How many seconds to wait before looking for another epoch: about one epoch's, within what a page can take."""
    lengths = [length for row in found.rows[-_LAST_EPOCHS:] if (length := finite_number(row.get("seconds")))]
    return min(max(sum(lengths) / len(lengths), FASTEST_S), SLOWEST_S) if lengths else FASTEST_S


def draw(run: Run, *, tick_s: float | None) -> None:
    """Draws the controls, which stand still, and below them what follows the training."""
    bar = st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="curves_toolbar")
    smooth = bar.slider(
        "Smoothing", 0.0, 0.95, 0.0, 0.05, key="curves_smooth", width=280,
        help="Shows a running mean; the figures as measured stay behind it, faint.",
    )  # fmt: skip
    log = bar.toggle("Log scale", key="curves_log", help="Draws the losses and the learning rate by powers of ten.")
    across = bar.segmented_control(
        "Along", [BY_EPOCH, BY_TIME], default=BY_EPOCH, key="curves_axis", required=True,
        help="Epochs done, or time spent training.",
    )  # fmt: skip
    follow = True
    if tick_s is not None:
        follow = bar.toggle(
            "Live", True, key="live_follow", help="Off holds the curves still, so that you can zoom into them."
        )
    bar.download_button(
        "Data", lambda: table(run), file_name=f"{run.path.name}_metrics.csv", mime="text/csv", key="curves_data",
        icon=":material/download:", help="Every epoch and every figure, as CSV.",
        on_click=run_actions.say_if_gone, args=(run.metrics_path, f"the table of epochs of {run.id}"),
    )  # fmt: skip
    every = tick_s if follow else None
    awaited = every is not None and not cached.metrics_log(run).refresh().rows
    st.fragment(charts_of, run_every=every, key="live_curves")(run, smooth, log, across == BY_TIME, awaited)


@guard
def charts_of(run: Run, smooth: float, log: bool, by_time: bool, awaited: bool) -> None:
    """The three charts; only what was appended to the metrics is read. `awaited`: this began before the first epoch."""
    found = cached.metrics_log(run).refresh()
    if awaited and found.rows:
        st.rerun()  # now it is known how long an epoch takes, and so how often to look
    if not found.rows:
        show_empty(
            ":material/show_chart:", "No epoch yet", "The curves begin when the first epoch is done.", key="curves"
        )
        return
    colours = palette.current()
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**Accuracy**")
        chart = run_charts.curves(
            found.rows, run_charts.ACCURACIES, colours, title="Accuracy", smooth=smooth, by_time=by_time,
            total_s=found.seconds, per_cent=True,
        )  # fmt: skip
        show_chart(chart, key="accuracy_chart")
    with right:
        st.markdown("**Loss**")
        chart = run_charts.curves(
            found.rows, run_charts.LOSSES, colours, title="Loss", smooth=smooth, log=log, by_time=by_time,
            total_s=found.seconds,
        )  # fmt: skip
        show_chart(chart, key="loss_chart")
    left, right = st.columns(2, gap="large")  # a row of its own: on a phone the loss comes before it
    with left:
        st.markdown("**Learning rate**")
        chart = run_charts.curves(
            found.rows, run_charts.RATE, colours, title="Learning rate", log=log, by_time=by_time,
            total_s=found.seconds,
        )  # fmt: skip
        show_chart(run_charts.lower(chart), key="rate_chart")
    if found.last.get("clips_per_second") is not None:
        with right:
            st.markdown("**Speed**")
            chart = run_charts.curves(
                found.rows, run_charts.SPEED, colours, title="Clips a second", smooth=smooth, by_time=by_time,
                total_s=found.seconds,
            )  # fmt: skip
            show_chart(run_charts.lower(chart), key="speed_chart")
    notes = []
    if found.n_rows > len(found.rows):
        notes.append(f"Of {found.n_rows:,} epochs {len(found.rows):,} are drawn, evenly chosen; the data holds all.")
    if found.damaged:
        notes.append(f"{count(found.damaged, 'damaged line was', 'damaged lines were')} passed over.")
    skipped = found.last.get("skipped")
    n = sum(n for n in skipped.values() if isinstance(n, int)) if isinstance(skipped, dict) else skipped
    if isinstance(n, int) and n:
        notes.append(f"In the last epoch {count(n, 'clip was', 'clips were')} left out; the log says why.")
    if notes:
        st.caption(" ".join(notes))


def table(run: Run) -> bytes:
    """Every epoch of a run as CSV, one column a figure; read whole, and only when it is asked for."""
    if not run.metrics_path.is_file():
        raise RunError(f"run {run.id} has no table of epochs")
    rows = run.metrics()
    names = list(dict.fromkeys(key for row in rows for key, value in row.items() if not isinstance(value, dict)))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
