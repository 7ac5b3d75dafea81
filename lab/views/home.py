"""Home: what is here, what trains, what came of it, and one thing to do next."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

import actions
import cached
import home_identify
import home_now
import home_tour
import jobs
import run_states
import state
from guard import guarded
from home_tour import Tour
from pianistid_core.datasets.root import DataRoot, Split
from pianistid_core.runs import RunSummary
from wording import ago, count, duration, listed, one_line, percent, plain

_MOST_SETS = 6
_MOST_RESULTS = 5


@dataclass(frozen=True)
class Step:
    """One suggestion: a sentence, and the page that it leads to."""

    words: str
    label: str
    icon: str
    page: str
    params: dict[str, str]


def next_step(splits: Sequence[str], runs: Sequence[RunSummary], waiting: int, *, paused: bool) -> Step | None:
    """One suggestion, from what is here; None for a data root without anything."""
    running = next((run for run in runs if run.state.status == "running"), None)
    trained = next((run for run in runs if run.best_recording_accuracy is not None), None)
    if running is not None:
        words = f"{running.id} is training. Watch its curves and its confusion matrix fill in."
        return Step(words, "Watch it", ":material/monitoring:", "views/runs.py", {state.RUN: running.id})
    if waiting and paused:
        words = f"{count(waiting, 'run')} in the queue, and the queue is paused. Let it go on when the machine is free."
        return Step(words, "Open the queue", ":material/queue:", "views/runs.py", {})
    if runs and runs[0].state.status in ("failed", "interrupted"):
        reason = f": {runs[0].state.reason}" if runs[0].state.reason else ""
        words = f"{runs[0].id} ended early{reason}. Its page says why, and what can be done."
        return Step(words, "See why", ":material/troubleshoot:", "views/runs.py", {state.RUN: runs[0].id})
    if trained is not None:
        words = f"{trained.id} is trained. Drop a MIDI file on it and see whom it hears."
        return Step(words, "Identify a pianist", ":material/hearing:", "views/identify.py", {state.MODEL: trained.id})
    if splits:
        words = f"There is data to learn from: {listed(splits, 3)}. Choose a preset and start training."
        return Step(words, "Build a run", ":material/tune:", "views/build.py", {})
    return None


def hero() -> None:
    st.title("Who is playing, and what gave them away?", anchor=False)
    with st.container(width=760):
        st.markdown(
            "Teach a network to tell pianists apart by how they play, then ask it about any MIDI file: "
            "whom it hears, how sure it is, and whether melody, harmony, rhythm or dynamics told."
        )


def suggest(step: Step) -> None:
    with st.container(border=True, key="next_step", horizontal=True, vertical_alignment="center"):
        with st.container(width="stretch", gap=None):
            st.caption("Next step")
            st.markdown(plain(step.words, 400))
        if st.button(step.label, key="next", type="primary", icon=step.icon, help="Goes to the page for it."):
            st.switch_page(step.page, query_params=step.params)


def data_sets(root: DataRoot, splits: dict[str, Split]) -> None:
    """A card for each split: who plays, how much, and the way to it."""
    st.header("Data sets", anchor=False)
    if not splits:
        with st.container(horizontal=True):
            st.page_link(
                "views/data.py", label="Bring in your own MIDI files", icon=":material/library_music:",
                query_params={"data_tab": "Bring in more"}, help="A zip, a folder, or a CSV.",
            )  # fmt: skip
        return
    shown = list(splits.items())[:_MOST_SETS]
    columns = st.columns(2 if len(shown) < 3 else 3)
    for number, (name, split) in enumerate(shown):
        entries = [entry for part in split.parts.values() for entry in part]
        hours = sum(entry.duration_s for entry in entries)
        with columns[number % len(columns)].container(border=True, key=f"set_{number}", gap="xsmall"):
            st.page_link(
                "views/data.py", label=plain(name, 40), icon=":material/library_music:",
                query_params={"split": name}, help="Its music, its clips, and what the doctor finds.",
            )  # fmt: skip
            pianists, recordings = count(len(split.class_names), "pianist"), count(len(entries), "recording")
            st.caption(plain(f"{pianists}, {recordings}, {duration(hours)}"))
    if len(splits) > _MOST_SETS:
        st.caption(f"and {len(splits) - _MOST_SETS} more on the page Data")


def results(runs: Sequence[RunSummary]) -> None:
    """The newest runs, each with what came of it and the way to it."""
    begun = [run for run in runs if run.state.status != "queued"]  # a long queue would hide every result
    if not begun:
        return
    st.header("Last results", anchor=False)
    now = time.time()
    with st.container(border=True, key="results", gap="small"):
        for number, run in enumerate(begun[:_MOST_RESULTS]):
            name, icon, colour = run_states.STATES[run.state.status]
            with st.container(horizontal=True, vertical_alignment="center", key=f"result_{number}", gap="small"):
                st.page_link(
                    "views/runs.py", label=plain(run.id, 60), width=260, query_params={state.RUN: run.id},
                    help="Its curves, confusion matrix, log and files.",
                )  # fmt: skip
                st.badge(name, icon=icon, color=colour)
                best = run.best_recording_accuracy
                words = f"{percent(best)} of test recordings right" if best is not None else "no result yet"
                st.markdown(plain(words), width="stretch")
                st.caption(plain(ago(run.state.updated or run.created, now)), width="content")
    trained = sum(run.best_recording_accuracy is not None for run in begun)
    spent = sum(run.seconds for run in begun)
    st.caption(plain(f"{count(len(begun), 'run')}, {trained:,} with results, {duration(spent)} of training in all."))


def guided_path(root: DataRoot, tour: Tour, *, lead: bool) -> None:
    st.header("Try it in three minutes", anchor=False)
    st.caption("With eight virtual pianists that the lab composes itself, so that the truth about them is known.")
    home_tour.draw_tour(root, tour, lead=lead)


def page() -> None:
    root = state.data_root()
    here = cached.contents(root)
    everything = cached.run_index(root).summaries()
    runs = [run for run in everything if not run.labels.archived]
    waiting = home_now.waiting_in(root)
    running = [run for run in everything if run.state.status == "running"]  # one that is put away trains all the same
    job = jobs.find(actions.demo_job(root))
    tour = home_tour.tour_of(list(here.splits), everything, making=job is not None and job.running)
    others = [run for run in runs if run.id != home_tour.DEMO_RUN] or set(here.splits) - {home_tour.DEMO_SPLIT}
    hero()
    with guarded():
        box = cached.shipped()
        if box is not None:
            home_identify.draw(box)
    if not others:
        guided_path(root, tour, lead=True)
    else:
        step = next_step(list(here.splits), runs, waiting, paused=cached.run_queue(root).paused)
        if step is not None:
            suggest(step)
    st.header("This machine now", anchor=False)
    home_now.draw_now(root, running, waiting)
    data_sets(root, here.splits)
    results(runs)
    if others:
        guided_path(root, tour, lead=False)
    for name, reason in here.broken_splits.items():
        st.warning(plain(f"Split {one_line(name)} cannot be read: {reason}", 600), icon=":material/warning:")


page()
