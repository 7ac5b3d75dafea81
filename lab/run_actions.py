"""What the buttons of the Runs page do to one or many runs; one run that refuses is named, and the others are done."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import streamlit as st

import actions
import acts
import cached
import jobs
import state
import who
from acts import acting
from guard import whole
from pianistid_core import launch, trash
from pianistid_core.accounts import Role
from pianistid_core.errors import PianistIDError
from pianistid_core.places import cluster_of
from pianistid_core.run_config import config_of
from pianistid_core.run_starter import remember_starter
from pianistid_core.runs import STARTING, WAITING, Run, RunLabels, StopKind
from wording import count, listed

UNDO = "runs.undo"
LEAVING = "runs.leaving"
GO_BUILD = "runs.go_build"
_SAID = 4


def runs_of(ids: Sequence[str]) -> list[Run]:
    """The runs of these names in the data root; those that are gone are left out, and said."""
    found = []
    gone = []
    for id in ids:
        try:
            found.append(Run.find(state.data_root().checkpoints_dir, id))
        except PianistIDError:
            gone.append(id)
    if gone:
        state.complain(f"{listed(gone, _SAID)} {'is' if len(gone) == 1 else 'are'} not here any more")
    for id in gone:
        acts.tell(id, "it is not here any more")
    return found


def each(runs: Sequence[Run], do: Callable[[Run], object], done: str) -> list[Run]:
    """Does something to each run, and gives those that it was done to; `done` says what, as in "stopped"."""
    well: list[Run] = []
    refused: list[str] = []
    for run in runs:
        try:
            do(run)
        except PianistIDError as error:
            refused.append(str(error))
            acts.tell(run.id, str(error))
        except OSError as error:
            refused.append(f"run {run.id}: the system refused ({error.strerror or error})")
            acts.tell(run.id, refused[-1])
        else:
            well.append(run)
            acts.tell(run.id)
    if refused:
        state.complain("; ".join(refused[:_SAID]) + (f"; and {len(refused) - _SAID} more" if refused[_SAID:] else ""))
    if well:
        state.notify(f"{count(len(well), 'run')} {done}")
    return well


def relabel(ids: Sequence[str], change: Callable[[RunLabels], RunLabels], done: str) -> None:
    """Changes what is said of runs."""
    each(runs_of(ids), lambda run: run.relabel(change), done)


@acting(Role.RUN, "label")
def star(ids: Sequence[str], on: bool) -> None:
    """Stars runs, or takes the star away."""
    relabel(ids, lambda labels: replace(labels, starred=on), "starred" if on else "without a star now")


@acting(Role.RUN, "label")
def archive(ids: Sequence[str], on: bool) -> None:
    """Puts runs away, or back into the list."""
    relabel(ids, lambda labels: replace(labels, archived=on), "archived" if on else "back in the list")


@acting(Role.RUN, "label")
def add_tag(ids: Sequence[str], key: str) -> None:
    """Adds the tag that was typed into a field to runs, and empties the field."""
    tag = str(st.session_state.get(key) or "").strip()
    if tag:
        relabel(ids, lambda labels: replace(labels, tags=(*labels.tags, tag)), f"tagged {tag}")
        st.session_state[key] = ""


def shown(key: str) -> str:
    """Where a session keeps what of a run's labels a field showed."""
    return f"{key}.shown"


@acting(Role.RUN, "label")
def set_tags(id: str, key: str) -> None:
    """Adds and takes away the tags that were added and taken away in a run's field for them; others' stay."""
    wanted = tuple(str(tag) for tag in st.session_state.get(key) or ())
    before = set(st.session_state.get(shown(key), ()))
    new = tuple(tag for tag in wanted if tag not in before)
    gone = before - set(wanted)
    _set_one(id, lambda labels: replace(labels, tags=(*(tag for tag in labels.tags if tag not in gone), *new)))


@acting(Role.RUN, "label")
def set_note(id: str, key: str) -> None:
    """Keeps the note that was written for one run."""
    note = str(st.session_state.get(key) or "")
    _set_one(id, lambda labels: replace(labels, note=note))


def _set_one(id: str, change: Callable[[RunLabels], RunLabels]) -> None:
    for run in runs_of([id]):
        actions.attempt(lambda run=run: run.relabel(change), about=run.id)  # type: ignore[misc]


@acting(Role.RUN, "stop")
def stop(ids: Sequence[str], kind: StopKind) -> None:
    """Asks runs to stop; one that waits in the queue is taken out of it."""
    queue = cached.run_queue(state.data_root())
    waiting = {entry.run_id: entry.id for entry in queue.entries()}

    def end(run: Run) -> None:
        if run.state().reason == WAITING and run.id in waiting:
            queue.remove(waiting[run.id])
        else:
            launch.stop(run, kind)

    each(runs_of(ids), end, "asked to stop")


@acting(Role.RUN, "resume")
def resume(ids: Sequence[str]) -> None:
    """Goes on with runs: one is started, several go to the end of the queue, since one trains at a time."""
    root, me = state.data_root(), who.me().name
    runs = runs_of(ids)
    if len(runs) == 1:
        each(runs, lambda run: remember_starter(launch.resume(run, root), me), "going on from the latest checkpoint")
        return
    queue = cached.run_queue(root)
    from pianistid_core.run_config import config_to_resume

    def add(run: Run) -> None:
        queue.add([config_to_resume(run, root)], cluster=cluster_of(run))
        remember_starter(run, me)

    each(runs, add, "waiting in the queue to go on")


@acting(Role.RUN, "queue move")
def first_in_queue(ids: Sequence[str]) -> None:
    """Moves those of these runs that wait to the front of the queue, in the order in which they stood."""
    queue = cached.run_queue(state.data_root())
    chosen = [entry for entry in queue.entries() if entry.run_id in ids]
    moved = [
        entry
        for entry in reversed(chosen)
        if actions.attempt(lambda e=entry: queue.move(e.id, 0), about=entry.run_id)  # type: ignore[misc]
    ]
    if moved:
        state.notify(f"{count(len(moved), 'run')} at the front of the queue")
    else:
        acts.refuse("none of these runs waits in the queue")


@acting(Role.RUN, "delete")
def discard(ids: Sequence[str]) -> None:
    """Moves runs to the trash, and keeps in mind which, for the undo; those that run are stopped first, meanwhile."""
    runs = runs_of(ids)
    live = [run for run in runs if run.state().status == "running" or run.state().reason in (STARTING, WAITING)]
    thrown: list[trash.Discarded] = []
    each([run for run in runs if run not in live], lambda run: thrown.append(trash.discard(run)), "moved to the trash")
    if thrown:
        _remember(thrown)
        state.take_notice()  # the line with the undo says it
    for run in live:
        key = f"discard:{run.path}"
        jobs.start(key, f"Stopping {run.id}", lambda progress, run=run: launch.stop_and_discard(run), about=run.id)  # type: ignore[misc]
        st.session_state[LEAVING] = (*st.session_state.get(LEAVING, ()), key)
    if live:
        they = "it goes" if len(live) == 1 else "they go"
        state.notify(f"{listed([run.id for run in live], _SAID)}: stopping; {they} to the trash when that is done")


def take_in() -> None:
    """Keeps in mind, for the undo, what has been stopped and moved to the trash since the page was drawn last."""
    waiting: list[str] = []
    thrown: list[trash.Discarded] = []
    for key in st.session_state.get(LEAVING, ()):
        job = jobs.find(key)
        if job is not None and job.running:
            waiting.append(key)
        elif job is not None:
            if job.error is not None:
                state.complain(job.error)
            elif job.result is not None:
                thrown.append(job.result)
            jobs.forget(key)
    st.session_state[LEAVING] = tuple(waiting)
    if thrown:
        _remember(thrown, beside=st.session_state.get(UNDO, ()))


def _remember(thrown: Sequence[trash.Discarded], *, beside: Sequence[tuple[str, str]] = ()) -> None:
    st.session_state[UNDO] = (*beside, *((one.id, one.run_id) for one in thrown))
    if st.session_state.get(state.RUN) in {one.run_id for one in thrown}:
        st.session_state[state.RUN] = None


@acting(Role.RUN, "restore")
def restore(trash_ids: Sequence[str]) -> None:
    """Puts runs back from the trash."""
    folder = state.data_root().checkpoints_dir
    names = {one.id: one.run_id for one in trash.discarded(folder)}
    n = sum(
        actions.attempt(lambda id=id: trash.restore(folder, id), about=names.get(id, id))  # type: ignore[misc]
        for id in trash_ids
    )
    if n:
        state.notify(f"{count(n, 'run is', 'runs are')} back in the list")
    left = {id for id, _ in st.session_state.get(UNDO, ())} - set(trash_ids)
    if not left:
        st.session_state.pop(UNDO, None)


@acting(Role.RUN, "restore")
def undo() -> None:
    """Puts back what was just moved to the trash."""
    restore([id for id, _ in st.session_state.get(UNDO, ())])


@whole
def forget_undo() -> None:
    """Takes the line with the undo away; the runs stay in the trash."""
    st.session_state.pop(UNDO, None)


@acting(Role.ADMINISTER, "empty trash")
def empty_trash(trash_ids: Sequence[str] | None) -> None:
    """Removes runs of the trash for good; all of them when none are named."""
    folder = state.data_root().checkpoints_dir
    forget_undo()
    names = [one.run_id for one in trash.discarded(folder) if trash_ids is None or one.id in trash_ids]

    def remove() -> None:
        n = trash.empty(folder, trash_ids)
        state.notify(f"{count(n, 'run')} removed for good")

    actions.attempt(remove, about=listed(names, 20))


@acting(Role.RUN)
def clone(run: Run) -> None:
    """Puts a run's config into the Build form; the page then turns to it."""

    def take() -> None:
        actions.draft_from(config_of(run), f"run: {run.id}")
        st.session_state[GO_BUILD] = True

    actions.attempt(take)


@whole
def say_if_gone(path: Path, what: str) -> None:
    """Says that the file that was to be downloaded is not there; the browser alone would only say that it failed."""
    if not path.is_file():
        state.complain(f"{what} is not there, so nothing can be downloaded: it was not written yet, or was deleted")


@acting(Role.RUN, "delete")
def delete_checkpoint(run: Run, name: str) -> None:
    """Removes one checkpoint of a run."""
    actions.attempt(lambda: run.delete_checkpoint(name), f"{name} is deleted.", about=f"{run.id}/{name}")
