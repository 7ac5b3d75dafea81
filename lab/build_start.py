"""The bar of Build: whether the config is sound, and its four ways on: preflight, start, queue, sweep."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import streamlit as st

import actions
import acts
import build_form
import build_preflight
import build_sweep
import cached
import cluster_view
import data_check
import state
import who
from acts import acting
from pianistid_core.accounts import Role
from pianistid_core.config import RunConfig, parse_config
from pianistid_core.errors import ConfigError, Fault, PianistIDError, RunError
from pianistid_core.names import MAX_CHARACTERS
from pianistid_core.run_config import changed_since, run_for
from pianistid_core.run_starter import remember_starter
from pianistid_core.runs import Run
from wording import count, listed, plain, sentence

_STARTED = "build.started"
_NEWS = "build.news"


def check() -> tuple[RunConfig | None, list[Fault]]:
    """The config that this session's draft holds, or everything that is wrong with it."""
    try:
        config = parse_config(state.draft().values)
    except ConfigError as error:
        return None, list(error.faults)
    here = cached.contents(state.data_root()).splits
    if config.data_split_dir not in here:
        none = "there is no data to learn from yet; make the demo's or bring in some of your own"
        some = f"there is no split {config.data_split_dir!r} here; give one of {', '.join(here)}"
        return None, [Fault("data_split_dir", some if here else none)]
    return config, []


def _with_config(action: Callable[[RunConfig], None]) -> None:
    """Does something with the config as it stands when the button is pressed, in this tab or another."""
    state.refresh_draft()
    config, faults = check()
    if config is None:
        acts.refuse(build_form.summary(faults))
        return
    try:
        action(config)
    except PianistIDError as error:
        acts.refuse(str(error), f"{config.experiment}/{config.run}")
        state.notify(str(error))  # the page may be scrolled away from its top


@acting(Role.RUN)
def preflight() -> None:
    """Tries the config."""
    _with_config(build_preflight.start)


@acting(Role.RUN, "start")
def start() -> None:
    """Starts a run of the config."""
    _with_config(_start)


@acting(Role.RUN, "queue add")
def queue_one() -> None:
    """Puts a run of the config into the queue."""
    _with_config(_queue)


@acting(Role.RUN, "queue add")
def queue_sweep() -> None:
    """Puts the runs of the sweep into the queue."""
    _with_config(_queue_sweep)


def _start(config: RunConfig) -> None:
    _refuse_taken(config)
    run = actions.start_run(config, state.data_root(), cluster=cluster_view.chosen_cluster(state.data_root()))
    acts.tell(run.id)
    st.session_state[_STARTED] = (run.id, str(run.path))


def _queue(config: RunConfig) -> None:
    acts.refuse_outside(config, state.data_root())
    _refuse_taken(config)
    queue = cached.run_queue(state.data_root())
    (entry,) = queue.add([config], cluster=cluster_view.chosen_cluster(state.data_root()))
    _sign([config])
    place = [waiting.id for waiting in queue.entries()]
    n = place.index(entry.id) + 1 if entry.id in place else 0
    where = f"as number {n}" if n > 1 else "and starts next" if n else "and is starting"
    where += "" if entry.cluster is None else f" on the cluster at {entry.cluster.address}"
    st.session_state[_NEWS] = f"{entry.run_id} is in the queue {where}{_paused()}."


def _queue_sweep(config: RunConfig) -> None:
    fields = build_form.fields_of_draft(())
    found = build_sweep.plan(config, state.draft().sweep, {info.key: info for info in fields.all})
    if not found.runs:
        acts.refuse("the sweep has faults or is empty; look at it again")
        return
    for run in found.runs:
        acts.refuse_outside(run, state.data_root())
    cluster = cluster_view.chosen_cluster(state.data_root())
    added = cached.run_queue(state.data_root()).add(found.runs, cluster=cluster)
    _sign(found.runs)
    st.session_state[_NEWS] = (
        f"{count(len(added), 'run')} of the sweep {'is' if len(added) == 1 else 'are'} in the queue{_paused()}."
    )


def _sign(configs: Sequence[RunConfig]) -> None:
    """Keeps who queued runs, in each and in the audit log."""
    for config in configs:
        run = run_for(config, state.data_root())
        remember_starter(run, who.me().name)
        acts.tell(run.id)


def _paused() -> str:
    return ", which is paused: go on with it in Runs" if cached.run_queue(state.data_root()).paused else ""


def follow_started() -> None:
    """Goes to the run that a click has just started."""
    started = st.session_state.pop(_STARTED, None)
    if started is None:
        return
    run_id, path = started
    known = Run(state.data_root().checkpoints_dir / run_id)
    if str(known.path) != path:
        st.session_state[_NEWS] = f"{run_id} is starting in {path}, outside of this data root: Runs does not list it."
        return
    state.notify(f"{run_id} is starting.")
    st.switch_page("views/runs.py", query_params={state.RUN: run_id})


def draw_bar(config: RunConfig | None, faults: Sequence[Fault], tried: build_preflight.Standing) -> None:
    """The state of the config in a few words, and the buttons; always in sight."""
    cluster_view.draw_choice(state.data_root())
    sound = config is not None
    with st.container(key="build_bar", horizontal=True, vertical_alignment="center", gap="small"):
        with st.container(key="build_state", width="stretch"):
            if config is None:
                st.markdown(f":red[:material/error: **{plain(build_form.summary(faults))}**]")
            else:
                name = plain(f"{config.experiment}/{config.run}", 80)
                st.markdown(f":green[:material/check_circle:] **{name}** is sound")
            st.caption(plain(tried.in_words()))
        st.button(
            "Preflight", key="preflight_go", icon=":material/flight_takeoff:", on_click=preflight,
            **acts.allowed(
                Role.RUN,
                "Tries everything the run will do for a few seconds, and measures how long the whole will take.",
                off=not sound or tried.running,
            ),
        )  # fmt: skip
        st.button(
            "Sweep", key="sweep_toggle", icon=":material/grid_view:", on_click=build_sweep.toggle,
            **acts.allowed(
                Role.RUN, "Several values for up to two settings, or several seeds: many runs from one form."
            ),
        )  # fmt: skip
        st.button(
            "Queue", key="queue", icon=":material/playlist_add:", on_click=queue_one,
            **acts.allowed(
                Role.RUN,
                "Adds it to the queue: it starts when those before it have ended, with the settings as they are now.",
                off=not sound,
            ),
        )  # fmt: skip
        st.button(
            "Start now", key="start", type="primary", icon=":material/play_arrow:", on_click=start,
            **acts.allowed(
                Role.RUN, "Starts training at once, in the background, and opens the run.", off=not sound
            ),
        )  # fmt: skip


def draw_queue_sweep(found: build_sweep.Plan) -> None:
    """The click that queues a whole sweep."""
    st.button(
        f"Add {count(len(found.runs), 'run')} to the queue", key="queue_sweep", type="primary",
        icon=":material/playlist_add:", on_click=queue_sweep,
        **acts.allowed(Role.RUN, cluster_view.order_of(cluster_view.chosen_cluster(state.data_root()))),
    )  # fmt: skip


def draw_news() -> None:
    """What the last click did, until the next one."""
    news = st.session_state.pop(_NEWS, None)
    if news is None:
        return
    with st.container(horizontal=True, vertical_alignment="center", key="build_news"):
        st.success(plain(news, 600), icon=":material/playlist_add_check:")
        st.page_link("views/runs.py", label="See the queue", icon=":material/monitoring:")


@dataclass(frozen=True)
class Taken:
    """That a run of this name is there: what starting would do to it, and whether it is refused."""

    words: str
    refused: bool


def taken(config: RunConfig) -> Taken | None:
    """What stands in the way of a config's name, or what starting would go on with; None for a name that is free."""
    run = run_for(config, state.data_root())
    if not run.path.is_dir():
        return None
    now, trained = run.state(), bool(run.checkpoints())
    if now.status == "running":
        return Taken(f"{run.id} is already running.", True)
    if now.status == "queued":
        return Taken(f"{run.id} already waits in the queue.", True)
    if not trained and not now.epoch:
        return None
    if trained and not run.is_own():
        return Taken(f"The folder of {run.id} holds checkpoints that this program did not train.", True)
    done = f"{run.id} exists, with {count(now.epoch, 'epoch')} done"
    if not trained or not config.checkpoint_cfg.load_checkpoints:
        return Taken(f"{done}. Starting begins it anew: its results and checkpoints are removed.", False)
    try:
        changed = changed_since(run, config)
    except PianistIDError as error:
        return Taken(f"{done}, and cannot go on: {error}.", True)
    if changed:
        return Taken(f"{done}, and was trained with other settings: {listed(changed, 3)}.", True)
    if now.epoch >= config.epochs:
        return Taken(f"{done}. Starting only tests it once more, since these are its settings.", False)
    return Taken(f"{done}. Starting goes on from its last checkpoint.", False)


def free_name(config: RunConfig) -> str:
    """The name with the next number behind it that no run of the experiment has."""
    folder = run_for(config, state.data_root()).path.parent
    base, _, number = config.run.rpartition("-")
    if not (base and number.isdecimal() and (folder / base).is_dir()):
        base = config.run
    base = base[: MAX_CHARACTERS - 8].rstrip(" .")
    return next(name for n in itertools.count(2) if not (folder / (name := f"{base}-{n}")).exists())


@acting(Role.RUN)
def rename(name: str) -> None:
    """Gives the run of the form another name."""
    state.refresh_draft()
    draft = state.draft()
    draft.remember()
    draft.values["run"] = name
    draft.drop_text()
    state.keep_draft()


def draw_name_taken(config: RunConfig) -> None:
    """What starting would continue or collide with, and the click that gives the run a name of its own."""
    found = taken(config)
    if found is None:
        return
    mark = ":red[:material/error:]" if found.refused else ":gray[:material/history:]"
    with st.container(horizontal=True, vertical_alignment="center", key="name_taken", gap="small"):
        st.markdown(f"{mark} {plain(found.words, 500)}", width="content")
        name = free_name(config)
        st.button(
            f"Name it {plain(name, 60)}", key="rename", type="tertiary", icon=":material/edit:", on_click=rename,
            args=(name,), **acts.allowed(Role.RUN, "Leaves that run as it is, and gives this one a name of its own."),
        )  # fmt: skip


def _refuse_taken(config: RunConfig) -> None:
    """Raises: RunError when no run may start under this name."""
    found = taken(config)
    if found is not None and found.refused:
        raise RunError(f"{found.words} Give this run another name")


def draw_doctor(config: RunConfig) -> None:
    """One line on leakage, when the doctor has found errors in the chosen split or has not looked at it yet."""
    name = config.data_split_dir
    report = data_check.report_of(state.data_root(), name)
    errors = 0 if report is None else len(report.by_severity("error"))
    if report is not None and not errors:
        return
    if report is None:
        words = (
            f":gray[:material/stethoscope:] Whether music of {plain(name)} stands in both training and test has not "
            "been checked"
        )
    else:
        words = (
            f":red[:material/error:] The doctor found {count(errors, 'error')} in {plain(name)}: results may be "
            "better than they should be"
        )
    with st.container(horizontal=True, vertical_alignment="center", key="doctor_line", gap="small"):
        st.markdown(words, width="content")
        st.page_link(
            "views/data.py", label="Check the split" if report is None else "See what",
            query_params={"split": name, "data_tab": "Check"}, icon=":material/arrow_forward:", icon_position="right",
        )  # fmt: skip


def draw_unkept() -> None:
    """That the disk refuses what is typed, if so."""
    message = state.unkept()
    if message:
        st.warning(sentence(message), icon=":material/save:")
