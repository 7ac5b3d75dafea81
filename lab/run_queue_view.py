"""The queue of runs: what trains now, what comes next, in which order."""

import time

import streamlit as st

import actions
import acts
import cached
import run_states
import state
from acts import acting
from components.empty import show_empty
from guard import guard
from pianistid_core.accounts import Role
from pianistid_core.datasets.root import DataRoot
from pianistid_core.places import Cluster, cluster_of, remote_place
from pianistid_core.run_queue import QueueEntry, RunQueue
from pianistid_core.runs import Run, RunSummary
from wording import ago, count, duration, plain

TICK_S = 3.0
SHOWN = 25


def draw(root: DataRoot, runs: list[RunSummary]) -> None:
    """Draws what trains now and the runs that wait."""
    queue = cached.run_queue(root)
    entries = queue.entries()
    running = [run for run in runs if run.state.status == "running"]
    now = (queue.paused, tuple(entry.id for entry in entries), tuple(run.id for run in running))
    st.fragment(watch, run_every=TICK_S if entries or running else 10.0, key="queue_watch")(root, now)
    controls(queue, len(entries))
    if not entries and not running:
        show_empty(
            ":material/queue_music:", "Nothing waits",
            "Runs that you queue on the Build page stand here, and train one after the other.",
            lambda: st.page_link("views/build.py", label="Build a run", icon=":material/tune:"), key="queue",
        )  # fmt: skip
        return
    if running:
        st.markdown("**Now**")
        st.fragment(what_runs, run_every=TICK_S, key="queue_running")([run.id for run in running])
    if entries:
        st.markdown("**Next**")
    here = [run for run in running if cluster_of(Run(run.path)) is None]
    eta = left_of(Run(here[0].path)) if here else None
    before = 0  # of those that wait for this machine
    for place, entry in enumerate(entries[:SHOWN]):
        if entry.cluster is None:
            when = starts(before, eta, bool(here), queue.paused)
            before += 1
        else:
            when = handed_over(entry.cluster, queue.paused)
        waiting(queue, entry, place, len(entries), when)
    if len(entries) > SHOWN:
        st.caption(plain(f"And {len(entries) - SHOWN} more after these."))


@guard
def watch(root: DataRoot, known: tuple[bool, tuple[str, ...], tuple[str, ...]]) -> None:
    """Draws the page anew when a run of the queue began or ended, or another page changed the queue."""
    queue = cached.run_queue(root)
    running = tuple(run.id for run in cached.run_index(root).summaries() if run.state.status == "running")
    if (queue.paused, tuple(entry.id for entry in queue.entries()), running) != known:
        st.rerun()


@guard
def what_runs(ids: list[str]) -> None:
    """What trains now, how far it is, and when it should be done."""
    for id in ids:
        run = Run.find(state.data_root().checkpoints_dir, id)
        now = run.state()
        left = left_of(run)
        words = f"{id}: epoch {now.epoch} of {now.epochs} done" + (f", about {duration(left)} left" if left else "")
        if (place := remote_place(run)) is not None:
            words += f"; {now.reason or 'trains'}, on {place.in_words()}"
        st.progress(run_states.progress_of(now), text=plain(words))


def left_of(run: Run) -> float | None:
    """The seconds that a run needs to its end, as it says itself."""
    eta = (run.progress() or {}).get("eta_s")
    return float(eta) if isinstance(eta, int | float) and eta > 0 else None


def starts(place: int, eta: float | None, busy: bool, paused: bool) -> str:
    """When a waiting run should start, as far as that is known."""
    if paused:
        return "waits until the queue goes on"
    if place:
        return "after the run before it" if place == 1 else f"after the {place} runs before it"
    if not busy:
        return "starts now"
    return f"starts in about {duration(eta)}" if eta else "starts when the run before it ends"


def handed_over(cluster: Cluster, paused: bool) -> str:
    """When a waiting run goes to its cluster, and to which."""
    return f"goes to {cluster.address} {'when the queue goes on' if paused else 'next'}"


def controls(queue: RunQueue, n: int) -> None:
    """Whether the queue goes on."""
    with st.container(horizontal=True, vertical_alignment="center"):
        words = f"{count(n, 'run waits', 'runs wait')}. One trains at a time on this machine."
        st.markdown(plain(f"{words} The queue is paused." if queue.paused else words), width="content")
        if queue.paused:
            st.button(
                "Go on", key="queue_unpause", icon=":material/play_arrow:", type="primary",
                on_click=unpause, args=(queue,), **acts.allowed(Role.RUN, "Starts the next run that waits."),
            )  # fmt: skip
        else:
            st.button(
                "Pause", key="queue_pause", icon=":material/pause:", on_click=pause, args=(queue,),
                **acts.allowed(Role.RUN, "Starts no further run; what trains goes on."),
            )  # fmt: skip


@acting(Role.RUN, "queue pause")
def pause(queue: RunQueue) -> None:
    """Has the queue start no further run."""
    actions.attempt(queue.pause, "No further run is started.")


@acting(Role.RUN, "queue unpause")
def unpause(queue: RunQueue) -> None:
    """Has the queue go on."""
    actions.attempt(queue.unpause, "The queue goes on.")


def waiting(queue: RunQueue, entry: QueueEntry, place: int, n: int, when: str) -> None:
    """One run that waits, with its buttons."""

    @acting(Role.RUN, "queue move")
    def move(to: int) -> None:
        actions.attempt(lambda: queue.move(entry.id, to), about=entry.run_id)

    @acting(Role.RUN, "queue remove")
    def remove() -> None:
        words = f"{entry.run_id} is taken out of the queue."
        actions.attempt(lambda: queue.remove(entry.id), words, about=entry.run_id)

    with (
        st.container(border=True, key=f"queue_{entry.id}"),
        st.container(horizontal=True, vertical_alignment="center", gap="small"),
    ):
        name = plain(entry.run_id)
        facts = plain(f"({count(entry.epochs, 'epoch')}, {when}; queued {ago(entry.queued, time.time())})")
        st.markdown(f"**{place + 1}\\. {name}** {facts}", width="stretch")
        for action, label, icon, off, to in (
            ("up", "Earlier", ":material/arrow_upward:", place == 0, place - 1),
            ("down", "Later", ":material/arrow_downward:", place == n - 1, place + 1),
            ("top", "Next", ":material/vertical_align_top:", place == 0, 0),
        ):
            st.button(
                label, key=f"{action}_{entry.id}", type="tertiary", icon=icon, on_click=move, args=(to,),
                **acts.allowed(Role.RUN, f"Moves it: {label.lower()}.", off=off),
            )  # fmt: skip
        st.button(
            "Remove", key=f"remove_{entry.id}", icon=":material/close:", type="tertiary", on_click=remove,
            **acts.allowed(Role.RUN, "Takes it out of the queue; nothing that it trained before is lost."),
        )  # fmt: skip
