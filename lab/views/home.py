"""Home: what is here, what is training, and one thing to do next."""

from dataclasses import dataclass

import streamlit as st

import actions
import cached
import jobs
import runs_table
import state
from components.figures import show_figures
from guard import guarded
from pianistid_core.config import load_config
from pianistid_core.runs import RunSummary, list_runs
from wording import count, duration, listed, plain


@dataclass(frozen=True)
class Here:
    """What the data root holds, as far as the next step depends on it."""

    splits: tuple[str, ...]
    runs: tuple[RunSummary, ...]

    @property
    def running(self) -> RunSummary | None:
        return next((run for run in self.runs if run.state.status in ("running", "queued")), None)

    @property
    def trained(self) -> RunSummary | None:
        return next((run for run in self.runs if run.best_recording_accuracy is not None), None)


def hero(here: Here) -> None:
    st.title("Who is playing, and what gave them away?")
    with st.container(width=760):
        st.markdown(
            "Teach a network to tell pianists apart by how they play, then ask it about any MIDI file: "
            "whom it hears, how sure it is, and whether melody, harmony, rhythm or dynamics told."
        )
    if here.splits or here.runs:
        with st.container(border=True, key="next_step"):
            next_step(here)
    else:
        st.page_link("views/data.py", label="Bring in your own MIDI files", icon=":material/library_music:")


def next_step(here: Here) -> None:
    """One suggestion, from what is here: a sentence and its button."""
    if here.running:
        page, label, icon = "views/runs.py", "Watch it", ":material/monitoring:"
        words = f"{plain(here.running.id)} is training. Watch its curves and its confusion matrix fill in."
        params = {state.RUN: here.running.id}
    elif here.trained:
        page, label, icon = "views/identify.py", "Identify a pianist", ":material/hearing:"
        words = f"{plain(here.trained.id)} is trained. Drop a MIDI file on it and see whom it hears."
        params = {state.MODEL: here.trained.id}
    else:
        page, label, icon = "views/build.py", "Build a run", ":material/tune:"
        words = f"There is data to learn from: {plain(listed(here.splits, 3))}. Choose a preset and start training."
        params = {}
    text, action = st.columns([3, 1], vertical_alignment="center")
    text.markdown(f"**Next step**  \n{words}")
    if action.button(label, key="next", type="primary", icon=icon, width="stretch"):
        st.switch_page(page, query_params=params)


def facts(here: Here) -> None:
    root = state.data_root()
    recordings = len(cached.contents(root).recordings) or len(cached.contents(root).tracks)
    show_figures(
        [
            ("Splits", str(len(here.splits)), "Data sets that are ready to train on."),
            ("Recordings", f"{recordings:,}", "Recordings that this data root knows."),
            ("Runs", f"{len(here.runs):,}", "Trainings, whatever came of them."),
            ("Trains on", *cached.device()),
        ]
    )


def tour(here: Here) -> None:
    """Three steps for a visitor without data, each one click."""
    st.subheader("Try it in three minutes")
    st.caption("With eight virtual pianists that the lab composes itself, so that the truth about them is known.")
    demo_run = next((run for run in here.runs if run.id == "demo/demo"), None)
    has_data = "demo" in here.splits
    is_trained = demo_run is not None and demo_run.best_recording_accuracy is not None
    one, two, three = st.columns(3, gap="medium")
    with one.container(border=True, height="stretch"):
        step(1, "Make music", has_data)
        st.write("Eight pianists play the same tunes. Some differ only in their chords, others only in their touch.")
        job = jobs.find(actions.DEMO_JOB)
        jobs.draw(actions.DEMO_JOB)
        if job is not None and job.running:
            st.caption("It takes a few seconds.")
        elif has_data:
            st.page_link("views/data.py", label="Look and listen", icon=":material/music_note:")
        else:
            st.button(
                "Make demo data", key="make_demo", icon=":material/piano:",
                type="secondary" if here.splits or here.runs else "primary",
                on_click=actions.start_demo_data, args=(state.data_root(),),
            )  # fmt: skip
    with two.container(border=True, height="stretch"):
        step(2, "Train", is_trained)
        st.write("A small network listens to each of the four concepts apart. It takes a few minutes on a laptop.")
        if demo_run is not None:
            st.page_link(
                "views/runs.py", label="See how it learns", icon=":material/monitoring:",
                query_params={state.RUN: demo_run.id},
            )  # fmt: skip
            st.caption(runs_table.in_words(demo_run.state, demo_run.best_recording_accuracy))
        else:
            asked = st.button(
                "Train the demo", key="train_demo", type="primary" if not here.runs else "secondary",
                icon=":material/play_arrow:", disabled=not has_data,
            )  # fmt: skip
            if asked:
                with guarded():
                    run = actions.start_run(load_config(actions.DEMO_CONFIG), state.data_root())
                    st.switch_page("views/runs.py", query_params={state.RUN: run.id})
    with three.container(border=True, height="stretch"):
        step(3, "Identify", False)
        st.write("A recording that it has never heard: who plays, where in the music, and by which concept.")
        if st.button(
            "Identify one", key="identify_demo", type="secondary",
            icon=":material/hearing:", disabled=not is_trained,
        ):  # fmt: skip
            st.switch_page("views/identify.py", query_params={state.MODEL: "demo/demo", "example": "demo"})


def step(number: int, title: str, done: bool) -> None:
    mark = ":green[:material/check_circle:]" if done else f":gray[{number}]"
    st.markdown(f"#### {mark} {title}")


def recent(here: Here) -> None:
    st.subheader("Last runs")
    st.dataframe(
        runs_table.table(here.runs[:5]), hide_index=True, column_config=runs_table.columns(), key="recent_runs",
        placeholder="—",
        alt="The five newest runs with their state and accuracy.",
    )  # fmt: skip
    trained = sum(run.best_recording_accuracy is not None for run in here.runs)
    spent = sum(max(0.0, (run.state.updated or 0) - (run.state.started or run.state.updated or 0)) for run in here.runs)
    st.caption(plain(f"{count(len(here.runs), 'run')}, {trained} with results, {duration(spent)} of training in all."))


def page() -> None:
    root = state.data_root()
    here = Here(tuple(cached.contents(root).splits), tuple(list_runs(root.checkpoints_dir)))
    hero(here)
    if here.splits or here.runs:
        facts(here)
    if here.runs:
        recent(here)
    tour(here)


page()
