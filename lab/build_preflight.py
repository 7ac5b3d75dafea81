"""Preflight on the page: started, watched while it goes, and what came of it with the estimate in words."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import streamlit as st

import acts
import jobs
import state
from components.figures import show_figures
from drafts import DraftStore
from guard import guard
from pianistid_core.config import RunConfig, config_fields, difference, parse_config, to_dict
from pianistid_core.errors import ConfigError
from pianistid_core.preflight import Check, Estimate, Preflight, Range, run_preflight
from wording import count, duration, listed, plain, sentence

_TRYING_S, _COMPARING_S = 180.0, 600.0


@dataclass
class Underway:
    """A preflight that runs: for which config, and the checks that are done."""

    config: RunConfig
    checks: list[Check] = field(default_factory=list)
    started: float = field(default_factory=time.time)


@dataclass(frozen=True)
class Result:
    """A preflight that is done, with the config it was run for."""

    config: RunConfig
    preflight: Preflight


@st.cache_resource(show_spinner=False)
def _underway() -> dict[str, Underway]:
    return {}


def job_key(draft_id: str) -> str:
    """The name of a draft's preflight among the jobs."""
    return f"preflight:{draft_id}"


def start(config: RunConfig, *, compare: bool = False) -> None:
    """Runs the preflight of a config in the background, for the draft of this session.

    With `compare` it also measures a step as the reference computes it, and fast, for which a network is compiled.

    Raises: AccessError when the config leads outside of the data root, and its person does not administer.
    """
    root, store, draft_id = state.data_root(), state.draft_store(), state.draft().id
    acts.refuse_outside(config, root)
    running = jobs.find(job_key(draft_id))
    if running is not None and running.running:
        return
    mine = _underway()[draft_id] = Underway(config)

    def work(progress: jobs.Progress) -> Preflight:
        limit_s = _COMPARING_S if compare else _TRYING_S
        found = run_preflight(config, root, on_check=mine.checks.append, timeout_s=limit_s, compare=compare)
        store.save_result(draft_id, {"config": to_dict(config), "preflight": found.to_dict()})
        return found

    jobs.start(job_key(draft_id), "Preflight", work)


def result_of(store: DraftStore, draft_id: str) -> Result | None:
    """The last preflight of a draft, from disk, so that it outlives the server."""
    plain_result = store.result(draft_id)
    if plain_result is None:
        return None
    try:
        return Result(parse_config(plain_result["config"]), Preflight.from_dict(plain_result["preflight"]))
    except (ConfigError, KeyError, TypeError, ValueError, AttributeError):
        return None


@dataclass(frozen=True)
class Standing:
    """Where the draft of this session stands with preflight: running, failed to run, done, or never asked for.

    `changed` are the keys that differ from the config that the result is of; `sound`, whether there is a config now.
    """

    running: bool = False
    error: str | None = None
    result: Result | None = None
    changed: tuple[str, ...] = ()
    sound: bool = True

    @property
    def holding(self) -> Result | None:
        """The result, if it is of the config as it stands."""
        return self.result if self.sound and not self.changed else None

    def in_words(self) -> str:
        """The same in a few words."""
        if self.running:
            return "The preflight is running"
        if self.error is not None:
            return "The preflight could not be run"
        if self.result is None:
            return "No preflight yet"
        if self.holding is None:
            return "Changed since its preflight"
        found = self.result.preflight
        if not found.ok:
            return "The preflight failed"
        if found.estimate is None:
            return "The preflight passed"
        time_of_it = "left" if goes_on(found.estimate, self.result.config.epochs) else "in all"
        return f"The preflight passed: about {about_time(found.estimate.total_s)} {time_of_it}"


def standing(config: RunConfig | None) -> Standing:
    """Where the draft of this session stands, given its config, or None while it has faults."""
    draft_id = state.draft().id
    job = jobs.find(job_key(draft_id))
    if job is not None and (job.running or job.error is not None):
        return Standing(running=job.running, error=None if job.running else job.error)
    result = result_of(state.draft_store(), draft_id)
    if result is None or config is None:
        return Standing(result=result, sound=config is not None)
    return Standing(result=result, changed=tuple(key for key, _, _ in difference(result.config, config)))


def draw(now: Standing) -> None:
    """Shows the preflight that runs, or what came of the last one."""
    if now.result is None and not now.running and now.error is None:
        return
    draft_id = state.draft().id
    with st.container(border=True, key="preflight"):
        if now.running:
            _watch(draft_id)
        elif now.error is not None:
            st.markdown("##### Preflight could not be run")
            st.error(sentence(now.error), icon=":material/error:")
            mine = _underway().get(draft_id)
            draw_checks(mine.checks if mine is not None else [])
        elif now.result is not None:
            _draw_result(now.result, now)


@st.fragment(run_every=0.7, key="preflight_watch")
@guard
def _watch(draft_id: str) -> None:
    job, mine = jobs.find(job_key(draft_id)), _underway().get(draft_id)
    if job is None or not job.running or mine is None:
        st.rerun()
    st.markdown("##### Preflight")
    st.caption(
        f"The run's own code, for a few seconds, in a process of its own. {time.time() - mine.started:.0f} s so far."
    )
    draw_checks(list(mine.checks))
    st.markdown(":gray[:material/progress_activity: The next check is being made …]")


def _draw_result(result: Result, now: Standing) -> None:
    """What came of it: in full while it holds, else folded away behind what has changed since."""
    found = result.preflight
    failed = [check for check in found.checks if not check.ok]
    spent = sum(check.seconds for check in found.checks)
    if failed:
        title = f":red[:material/error:] Preflight: {count(len(failed), 'check')} failed"
    else:
        title = ":green[:material/check_circle:] Preflight passed"
    device = f" on {found.device}" if found.device else ""
    took_all = plain(f"{count(len(found.checks), 'check')} in {duration(spent)}{device}.", 300)
    if now.holding is None:
        st.markdown("##### :gray[:material/history:] An earlier preflight")
        st.caption(plain(staleness(now.changed, result.config), 600))
        with st.expander("What it found", icon=":material/checklist:", key="preflight_checks"):
            st.markdown(f"**{title}**, {took_all}")
            if found.estimate is not None:
                draw_estimate(found.estimate, result.config.epochs)
            draw_checks(found.checks)
        return
    st.markdown(f"##### {title}")
    st.caption(took_all)
    if failed:
        draw_checks(failed)
    if found.estimate is not None:
        draw_estimate(found.estimate, result.config.epochs)
    with st.expander(f"What was tried ({len(found.checks)})", icon=":material/checklist:", key="preflight_checks"):
        draw_checks(found.checks)


def staleness(changed: Sequence[str], before: RunConfig) -> str:
    """Says that a preflight was of another config, and what has changed since."""
    if not changed:
        return "This was before the settings that are now to be fixed."
    fields = {info.key: info for info in config_fields(to_dict(before))}
    names = []
    for key in changed:
        info = fields.get(key)
        section = fields.get(info.section) if info is not None else None
        names.append(key if info is None else f"{section.label}: {info.label}" if section else info.label)
    return f"The settings have changed since: {listed(names)}. Run it again to be sure."


def draw_checks(checks: Sequence[Check]) -> None:
    """One line a check: how it went, what was found, and how long it took."""
    if not checks:
        return
    lines = []
    for check in checks:
        mark = ":green[:material/check_circle:]" if check.ok else ":red[:material/error:]"
        lines.append(f"{mark} **{plain(check.name)}** :gray[{plain(took(check.seconds))}]  \n{sentence(check.detail)}")
    st.markdown("\n\n".join(lines))


def took(seconds: float) -> str:
    """A check's time, finer than `duration` where it is short."""
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


def draw_estimate(estimate: Estimate, epochs: int) -> None:
    """Time, memory and disk as figures, and the ranges in a sentence."""
    whole = "What is left of it" if goes_on(estimate, epochs) else "The whole run"
    show_figures(
        [
            ("An epoch", about_time(estimate.epoch_s), "The likely time of one pass over the clips, with its tests."),
            (whole, about_time(estimate.total_s), "The likely time of all epochs and the last evaluation."),
            ("Peak memory", size(estimate.memory_bytes.likely), "The most memory it is likely to hold at once."),
            ("Disk", size(estimate.disk_bytes.likely), "What its folder is likely to hold at the end."),
        ]
    )
    st.caption(plain(in_words(estimate, epochs), 600))


def goes_on(estimate: Estimate, epochs: int) -> bool:
    """Whether the estimate is of the rest of a run that has done some of its epochs already."""
    return estimate.total_s.likely < 0.98 * epochs * estimate.epoch_s.likely


def about_time(span: Range) -> str:
    """The likely time, short."""
    return duration(max(1.0, span.likely))


def in_words(estimate: Estimate, epochs: int) -> str:
    """The estimate with its ranges, as a sentence."""
    whole = "what is left of the run" if goes_on(estimate, epochs) else "the whole run"
    return (
        f"An epoch takes {span_of_time(estimate.epoch_s)}, {whole} {span_of_time(estimate.total_s)}. "
        f"It holds {_sizes(estimate.memory_bytes)} of memory and leaves {_sizes(estimate.disk_bytes)} on disk."
    )


def span_of_time(span: Range) -> str:
    """A range of times in words."""
    low, high = (_short(span.low), _short(span.high))
    return f"about {low}" if low == high else f"{low} to {high}"


def _short(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


def _sizes(span: Range) -> str:
    low, high = size(span.low), size(span.high)
    return f"about {low}" if low == high else f"{low} to {high}"


def size(n_bytes: float) -> str:
    """A number of bytes in the unit a person would use."""
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= step:
            number = n_bytes / step
            return f"{number:.1f} {unit}" if number < 10 else f"{number:,.0f} {unit}"
    return f"{n_bytes:.0f} bytes"


def time_of_all(estimate: Estimate, measured: RunConfig, configs: Sequence[RunConfig]) -> Range:
    """How long several runs take one after the other, if an epoch of each takes as long as the measured one.

    What a run takes beside its epochs (reading, the last evaluation) counts once for each.
    """

    def total(name: str) -> float:
        epoch, whole = getattr(estimate.epoch_s, name), getattr(estimate.total_s, name)
        rest = max(0.0, whole - measured.epochs * epoch)
        return float(sum(config.epochs * epoch + rest for config in configs))

    return Range(total("low"), total("likely"), total("high"))
