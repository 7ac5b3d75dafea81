"""One run: what it is called and said of it, how far it is, its controls, and its tabs."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

import acts
import cached
import run_actions
import run_checkpoints
import run_config_view
import run_confusion
import run_curves
import run_list
import run_log_view
import run_states
import state
import who
from components.figures import show_figures
from guard import guard, guarded, whole
from pianistid_core.accounts import Role
from pianistid_core.datasets.root import DataRoot
from pianistid_core.places import remote_place
from pianistid_core.run_labels import MAX_NOTE_CHARACTERS, MAX_TAG_CHARACTERS, MAX_TAGS
from pianistid_core.run_starter import starter_of
from pianistid_core.runs import STARTING, WAITING, Failure, Run, RunState, RunSummary
from wording import duration, one_line, percent, plain, sentence

TICK_S = 2.0
LOG_TICK_S = 3.0
LIVE = ("running", "queued")
TABS = ["Curves", "Confusion matrix", "Log", "Config", "Checkpoints"]
PHASES = {"train": "training", "test": "testing", "validation": "last evaluation"}
STOPPING = {
    "save": "Stopping after this batch, with a checkpoint",
    "finish": "Finishing: a last evaluation is made",
    "discard": "Stopping without keeping this epoch",
}


def draw(root: DataRoot, run: Run, known: RunSummary) -> None:
    """Draws a run; `known` is what the list knows of it."""
    now = run.state()
    header(run, now, known)
    controls(root, run, now)
    live = now.status in LIVE
    # An epoch is what changes curves and matrices, so they are looked at about once an epoch.
    tick = run_curves.tick_of(cached.metrics_log(run).refresh()) if live else None
    st.fragment(summary, run_every=TICK_S if live else 10.0, key="live_summary")(run, now, run.stop_request())
    if now.status in ("failed", "interrupted"):
        trouble(run, now)
    curves, confusion, log, config, checkpoints = st.tabs(TABS, key="run_tab", on_change="rerun", bind="query-params")
    if curves.open:
        with curves, guarded():
            run_curves.draw(run, tick_s=tick)
    if confusion.open:
        with confusion, guarded():
            run_confusion.draw(run, root, tick_s=tick)
    if log.open:
        with log, guarded():
            run_log_view.draw(run, tick_s=LOG_TICK_S if live else None)
    if config.open:
        with config, guarded():
            run_config_view.draw(run)
    if checkpoints.open:
        with checkpoints, guarded():
            run_checkpoints.draw(run, root, live=live)


def header(run: Run, now: RunState, known: RunSummary) -> None:
    """State, star, tags and note."""
    labels = run.labels()
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="run_head"):
        run_states.badge(now, stopping=now.status == "running" and run.stop_request() is not None)
        if labels.archived:
            st.badge("Archived", icon=":material/archive:", color="gray")
        for tag in labels.tags:
            # As `st.badge` would, which escapes brackets once more: a tag with one came back with a backslash.
            st.markdown(f":gray-badge[:material/label: {plain(tag)}]", width="content")
        st.button(
            "Starred" if labels.starred else "Star", key="star", type="primary" if labels.starred else "tertiary",
            icon=":material/star:", on_click=run_actions.star, args=([run.id], not labels.starred),
            **acts.allowed(Role.RUN, "A star marks runs to find again."),
        )  # fmt: skip
        with st.popover(
            "Tags and note",
            icon=":material/edit:",
            type="tertiary",
            key="labels_menu",
            help="What you want to remember.",
        ):
            say(run)
    if labels.note:
        st.caption(plain(labels.note, MAX_NOTE_CHARACTERS))
    if who.has_logged_in() and (name := starter_of(run)):
        st.caption(f":material/person: Started by {plain(name, 80)}")
    if place := remote_place(run):
        words = "Trains" if now.status in LIVE else "Trained"
        st.caption(f":material/hub: {words} on {plain(place.in_words())}, with {plain(place.cluster.in_words())}")


def say(run: Run) -> None:
    """The fields for tags and note."""
    labels = run.labels()
    index = cached.run_index(state.data_root())
    used = sorted({tag for other in index.summaries() for tag in other.labels.tags} | set(labels.tags))
    tags, note = f"tags_{run.id}", f"note_{run.id}"
    # What somebody else said of it meanwhile is shown here too, and not taken back by the next change made here.
    for key, kept in ((tags, list(labels.tags)), (note, labels.note)):
        if key not in st.session_state or st.session_state.get(run_actions.shown(key)) != kept:
            st.session_state[key] = st.session_state[run_actions.shown(key)] = kept
    st.multiselect(
        "Tags", used, key=tags, accept_new_options=True, max_selections=MAX_TAGS, on_change=run_actions.set_tags,
        args=(run.id, tags), format_func=lambda tag: one_line(tag, MAX_TAG_CHARACTERS),
        **acts.allowed(Role.RUN, "Short words to find runs by. Type a new one, or choose."),
    )  # fmt: skip
    st.text_area(
        "Note", key=note, max_chars=MAX_NOTE_CHARACTERS, on_change=run_actions.set_note, args=(run.id, note),
        **acts.allowed(Role.RUN, "What you want to remember of this run."),
    )  # fmt: skip


def controls(root: DataRoot, run: Run, now: RunState) -> None:
    """Buttons stand outside the parts that refresh themselves: a click there could be lost."""
    with st.container(horizontal=True, vertical_alignment="center", key="run_controls"):
        if now.status in LIVE:
            if now.reason == WAITING:
                st.button(
                    "Show the queue", key="show_queue", icon=":material/queue_music:", on_click=show_queue,
                    help="Where it stands, and what runs before it.",
                )  # fmt: skip
            with st.popover("Stop", icon=":material/stop_circle:", key="stop_menu", help="Three ways to end it."):
                run_list.stop_buttons("stop", [run.id])
        elif now.status in ("stopped", "failed", "interrupted"):
            st.button(
                "Resume", key="resume", type="primary", icon=":material/resume:", on_click=run_actions.resume,
                args=([run.id],),
                **acts.allowed(Role.RUN, "Goes on from the latest checkpoint, as if it had never stopped."),
            )  # fmt: skip
        if run.checkpoints():
            link = {state.MODEL: run.id}
            st.page_link(
                "views/identify.py", label="Identify with it", icon=":material/hearing:", query_params=link,
                help="Drops music into this model.",
            )  # fmt: skip
        st.button(
            "Build on it", key="clone", type="tertiary", icon=":material/content_copy:", on_click=run_actions.clone,
            args=(run,), **acts.allowed(Role.RUN, "Puts its config into the Build form."),
        )  # fmt: skip
        archived = run.labels().archived
        st.button(
            "Bring back" if archived else "Archive", key="archive", type="tertiary", icon=":material/archive:",
            on_click=run_actions.archive, args=([run.id], not archived),
            **acts.allowed(Role.RUN, "Archived runs stay on disk and are left out of the list."),
        )  # fmt: skip
        if now.status not in LIVE:
            st.button(
                "Trash", key="trash", type="tertiary", icon=":material/delete:", on_click=run_actions.discard,
                args=([run.id],), **acts.allowed(Role.RUN, "Moves it to the trash, from where it can be put back."),
            )  # fmt: skip
        else:
            help = "Stops it and moves it to the trash, from where it can be put back."
            with st.popover(
                "Trash", key="trash_menu", type="tertiary", icon=":material/delete:", **acts.allowed(Role.RUN, help)
            ):
                run_list.trash_running("trash", [run.id], [run.id])


@whole
def show_queue() -> None:
    """Turns to the queue."""
    st.session_state[state.RUN] = None
    st.session_state["runs_view"] = "Queue"


@guard
def summary(run: Run, was: RunState, asked: str | None) -> None:
    """How far it is and how well it does; when its state changes, the whole page follows."""
    now = run.state()
    if (now.status, now.reason) != (was.status, was.reason) or run.stop_request() != asked or not run.path.is_dir():
        st.rerun()
    found = cached.metrics_log(run).refresh()
    if now.status in LIVE:
        progress = run.progress() or {}
        st.progress(share_of(now, progress), text=plain(progress_in_words(now, progress, asked), 300))
    elif now.reason and now.status not in ("failed", "interrupted"):
        st.info(sentence(now.reason), icon=run_states.STATES[now.status][1])
    last, loss = found.last, found.last.get("test_loss")
    best = found.best.get("test_recording_accuracy")
    at = found.best_epoch.get("test_recording_accuracy")
    after = f"test part, after epoch {last['epoch']}" if last else "test part"
    figures = [
        (
            "Epoch", f"{now.epoch} / {now.epochs}" if now.epochs else str(now.epoch), "Epochs done, of all.",
            f"{duration(found.seconds)} of training" if found.seconds else "epochs done, of all",
        ),
        (
            "Recordings right", percent(last.get("test_recording_accuracy")),
            "Share of recordings whose pianist was named, from all their clips.", after,
        ),
        (
            "Best", percent(best), "The largest share of test recordings right, and the first epoch that reached it.",
            "test part" if at is None else f"test part, epoch {at}",
        ),
        ("Clips right", percent(last.get("test_clip_accuracy")), "Share of 30 s clips whose pianist was named.", after),
        ("Loss", "—" if loss is None else f"{loss:.3f}", "Mean loss over the clips.", after),
    ]  # fmt: skip
    show_figures(figures, key="run")


def share_of(now: RunState, progress: Mapping[str, Any]) -> float:
    """The share of its epochs that a run has done, with what is done of this one."""
    epochs = now.epochs or _number(progress.get("epochs")) or 1
    batches = _number(progress.get("batches"))
    inside = _number(progress.get("batch")) / batches if batches and progress.get("phase") == "train" else 0.0
    return max(0.0, min(1.0, (now.epoch + min(inside, 1.0)) / epochs))


def progress_in_words(now: RunState, progress: Mapping[str, Any], asked: str | None = None) -> str:
    """Where a training is, how fast, and when it should be done; or that it is about to stop."""
    if now.status == "queued" and now.reason == WAITING:
        return "Waiting in the queue"
    if now.status == "queued" and now.reason != STARTING:
        return f"Not begun: {now.reason}" if now.reason else "Not begun"
    if now.status == "running" and now.reason and now.reason != STARTING:
        return one_line(now.reason[:1].upper() + now.reason[1:])  # what it waits for, on a cluster
    if now.status == "queued" or not progress:
        return "Starting: reading the data and building the network"
    words = f"{STOPPING[asked]}. " if asked in STOPPING else ""
    words += f"{run_states.silence(now)}. " if now.silent_s is not None else ""
    phase = str(progress.get("phase", ""))
    words += f"Epoch {progress.get('epoch')} of {now.epochs}: {PHASES.get(phase, phase)}"
    if progress.get("batches"):
        words += f", batch {progress.get('batch')} of {progress.get('batches')}"
    loss, speed, eta = (progress.get(key) for key in ("loss", "clips_per_second", "eta_s"))
    if isinstance(loss, int | float):
        words += f", loss so far {loss:.3f}"
    if isinstance(speed, int | float):
        words += f", {speed:.0f} clips a second"
    if isinstance(eta, int | float) and eta > 0 and not asked:
        words += f". About {duration(eta)} left"
    return words


def trouble(run: Run, now: RunState) -> None:
    """Why it failed or was interrupted, what to do, and the end of its log."""
    failure = run.failure()
    if failure is None:
        lines = tuple(line.text for line in run.log_page(last=20)[0])
        failure = Failure("other", now.reason, "Resume to go on from its latest checkpoint.", lines)
    title = "Why it failed" if now.status == "failed" else "Why it ended"
    if now.status == "failed" and failure.kind != "other":
        title += f": {failure.kind}"
    with st.container(border=True, key="trouble"):
        st.markdown(f"{run_states.STATES[now.status][1]} **{plain(title)}**")
        st.markdown(sentence(failure.words))
        st.markdown(f"**What to do.** {sentence(failure.hint)}")
        if failure.last_lines:
            n = len(failure.last_lines)
            with st.expander(
                f"The last {'line' if n == 1 else f'{n} lines'} of its log", expanded=True, key="last_lines"
            ):
                st.code("\n".join(one_line(line, 400) for line in failure.last_lines), language=None, wrap_lines=True)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
