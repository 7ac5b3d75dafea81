"""Home's live part: how busy the machine is, what trains and how far it is, and what waits."""

import streamlit as st

import cached
import run_states
import sidebar
from components.figures import show_figures
from guard import guard
from home_devices import Device
from pianistid_core.datasets.root import DataRoot
from pianistid_core.runs import RunSummary
from wording import one_line, percent, plain

_MOST_RUNNING = 4
LOOK_EVERY_S = 2.0


def draw_now(root: DataRoot, running: list[RunSummary], waiting: int) -> None:
    """Draws the figures of this moment, and goes on doing so by itself; a run that begins or ends redraws the page."""
    _now(root, tuple(run.id for run in running), waiting)


@st.fragment(run_every=LOOK_EVERY_S, key="home_now")
@guard
def _now(root: DataRoot, known: tuple[str, ...], known_waiting: int) -> None:
    index = cached.run_index(root)
    runs = index.summaries()
    running = [run for run in runs if run.state.status == "running"]
    waiting = waiting_in(root)
    if tuple(run.id for run in running) != known or waiting != known_waiting:
        st.rerun()
    devices = cached.devices()
    contents = cached.contents(root)
    recordings = len(contents.recordings) or len(contents.tracks)
    trained = sum(run.best_recording_accuracy is not None for run in runs)
    show_figures(
        [
            *(figure_of(device) for device in devices[:2]),
            ("Data sets", str(len(contents.splits)), "Splits, ready to train on.", f"{recordings:,} recordings"),
            ("Runs", f"{len(runs):,}", "Trainings, whatever came of them.", f"{trained:,} with results"),
            (
                "Training now", str(len(running)), "Runs that train at this moment, and runs in the queue.",
                f"{waiting} waiting" if waiting else "none waiting",
            ),
        ],
        key="home",
    )  # fmt: skip
    if running:
        with st.container(border=True, key="home_running", gap="small"):
            for run in running[:_MOST_RUNNING]:
                st.progress(run_states.progress_of(run.state), text=plain(words_of(run), 240))
            if len(running) > _MOST_RUNNING:
                st.caption(f"and {len(running) - _MOST_RUNNING} more")


def waiting_in(root: DataRoot) -> int:
    """How many runs wait in the queue."""
    return len(cached.run_queue(root).files.ids("waiting"))


def words_of(run: RunSummary) -> str:
    """A run that trains, in one line: how far, how long still, how good so far."""
    words = f"{one_line(run.id, 60)}: {sidebar.how_far(run)}"
    if run.best_recording_accuracy is not None:
        words += f", best so far {percent(run.best_recording_accuracy)} of test recordings"
    return words


def figure_of(device: Device) -> tuple[str, str, str | None, str]:
    """A device as a figure: how busy it is, and its memory."""
    gib = 1 << 30
    memory = f"{device.memory_used / gib:.1f} of {device.memory_total / gib:.1f} GB memory in use"
    busy = percent(device.use) if device.use is not None else "—"
    if device.kind == "GPU":
        return ("GPU", busy, f"{one_line(device.name, 80)}: the share of time it computes.", memory)
    return ("CPU", busy, f"{device.name}: the load of the last minute. No GPU was found.", memory)
