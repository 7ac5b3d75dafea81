"""The guided path for a first visit: make music, train, identify. Each step is one click, and the next opens by itself.

What has been done is read from the data root, never remembered, so the path goes on after a refresh or a restart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import streamlit as st

import actions
import acts
import cached
import home_now
import jobs
import run_states
import settings
import sidebar
import state
from acts import acting
from guard import guard, guarded
from pianistid_core.accounts import Role
from pianistid_core.config import load_config
from pianistid_core.datasets.root import DataRoot
from pianistid_core.runs import Run, RunSummary
from wording import percent, plain, sentence

DEMO_RUN = "demo/demo"
DEMO_SPLIT = "demo"

Stage = Literal["make", "making", "train", "training", "identify"]


@dataclass(frozen=True)
class Tour:
    """How far the path is: the stage, and the demo's run where there is one."""

    stage: Stage
    run: RunSummary | None

    @property
    def done(self) -> bool:
        """Whether everything is there to identify with."""
        return self.stage == "identify"


def tour_of(splits: Sequence[str], runs: Sequence[RunSummary], *, making: bool) -> Tour:
    """How far the path is, from what is in the data root and whether the demo is being composed."""
    run = next((run for run in runs if run.id == DEMO_RUN), None)
    status = run.state.status if run is not None else None
    if status in ("running", "queued"):
        return Tour("training", run)
    if run is not None and run.best_recording_accuracy is not None:
        return Tour("identify", run)
    if making:
        return Tour("making", run)
    return Tour("train" if DEMO_SPLIT in splits else "make", run)


def draw_tour(root: DataRoot, tour: Tour, *, lead: bool = True) -> None:
    """Draws the three steps, each with what is seen in it; the one to do next stands out where the path leads."""
    one, two, three = st.columns(3, gap="medium")
    with one.container(border=True, height="stretch", key=f"tour_1_{_look(1, tour)}"):
        _title(1, "Make music", tour)
        st.write("Eight virtual pianists play the same tunes. Some differ only in their chords, others only in touch.")
        _make(root, tour, lead)
    with two.container(border=True, height="stretch", key=f"tour_2_{_look(2, tour)}"):
        _title(2, "Train", tour)
        st.write("A small network listens to melody, harmony, rhythm and dynamics apart, for two or three minutes.")
        _train(root, tour, lead)
    with three.container(border=True, height="stretch", key=f"tour_3_{_look(3, tour)}"):
        _title(3, "Identify", tour)
        st.write("A recording that it has never heard: who plays, how sure it is, where in the music, and what told.")
        _identify(tour, lead)


_STEP_OF: dict[Stage, int] = {"make": 1, "making": 1, "train": 2, "training": 2, "identify": 3}


def _look(step: int, tour: Tour) -> str:
    now = _STEP_OF[tour.stage]
    return "done" if step < now else "now" if step == now else "later"


def _weight(leads: bool) -> Literal["primary", "secondary"]:
    return "primary" if leads else "secondary"


def _title(step: int, title: str, tour: Tour) -> None:
    mark = ":green[:material/check_circle:]" if _look(step, tour) == "done" else f":gray[{step}]"
    st.subheader(f"{mark} {title}", anchor=False)


def _make(root: DataRoot, tour: Tour, lead: bool) -> None:
    job = jobs.find(actions.demo_job(root))
    if tour.stage == "making":
        jobs.draw(actions.demo_job(root))
        st.caption("It takes a few seconds.")
        return
    if _look(1, tour) == "done":
        st.page_link(
            "views/data.py", label="Look and listen", icon=":material/music_note:",
            query_params={"split": DEMO_SPLIT, "data_tab": "Look and listen"}, help="Its clips, to see and hear.",
        )  # fmt: skip
        return
    if job is not None and job.error is not None:
        st.error(sentence(job.error), icon=":material/error:")
    st.button(
        "Make demo data", key="make_demo", icon=":material/piano:", type=_weight(lead),
        on_click=actions.start_demo_data, args=(root,),
        **acts.allowed(Role.RUN, "Composes 128 short recordings into the data root.", off=not root.writable()),
    )  # fmt: skip
    if not root.writable():
        st.caption("This data root cannot be written. Choose another one beside the pages.")


def _train(root: DataRoot, tour: Tour, lead: bool) -> None:
    run = tour.run
    if tour.stage == "training" and run is not None:
        _watch(root, run.state.status)
    if run is not None:
        st.page_link(
            "views/runs.py", label="See how it learns", icon=":material/monitoring:",
            query_params={state.RUN: run.id}, help="Its curves and its confusion matrix.",
        )  # fmt: skip
    if tour.done and run is not None:
        st.caption(
            f"It names {percent(run.best_recording_accuracy)} of the test recordings right; guessing, one in eight."
        )
        if run.state.status != "finished" and run.state.epoch < run.state.epochs:
            st.button(
                f"Go on from epoch {run.state.epoch}", key="train_demo", icon=":material/play_arrow:",
                on_click=start_training, args=(root,),
                **acts.allowed(
                    Role.RUN, f"It ended before its {run.state.epochs} epochs were done; this trains the rest."
                ),
            )  # fmt: skip
    elif tour.stage != "training":
        if run is not None:
            st.caption(run_states.in_words(run.state, run.best_recording_accuracy))
        st.button(
            "Train the demo", key="train_demo", icon=":material/play_arrow:",
            type=_weight(lead and tour.stage == "train"), on_click=start_training, args=(root,),
            **acts.allowed(
                Role.RUN, "Starts a run of twelve epochs; it goes on when you leave the page.",
                off=tour.stage != "train",
            ),
        )  # fmt: skip


@acting(Role.RUN, "start")
def start_training(root: DataRoot) -> None:
    """Starts the demo's run, with MLflow where that was chosen for new runs."""
    config = settings.with_tracking(load_config(actions.DEMO_CONFIG), root)
    actions.attempt(lambda: actions.start_run(config, root), about=DEMO_RUN)


@st.fragment(run_every=home_now.LOOK_EVERY_S, key="tour_watch")
@guard
def _watch(root: DataRoot, known: str) -> None:
    """The demo's run as it learns; when it ends, the page is drawn anew and the last step opens."""
    run = next((run for run in cached.run_index(root).summaries() if run.id == DEMO_RUN), None)
    if run is None or run.state.status != known:
        st.rerun()
    best = run.best_recording_accuracy
    words = "Getting ready" if best is None else f"So far {percent(best)} of test recordings are named right"
    st.progress(run_states.progress_of(run.state), text=plain(f"{words}. {sidebar.how_far(run)}", 240))


def _identify(tour: Tour, lead: bool) -> None:
    asked = st.button(
        "Identify one", key="identify_demo", type=_weight(lead and tour.done),
        icon=":material/hearing:", disabled=not tour.done,
        help="Opens a test recording of the demo in Identify.",
    )  # fmt: skip
    if asked:
        with guarded():
            Run.find(state.data_root().checkpoints_dir, DEMO_RUN)
            st.switch_page("views/identify.py", query_params={state.MODEL: DEMO_RUN, "example": "demo"})
