"""The switch for a fast run, what it changes, and both kinds of step side by side: measured, and what runs reached."""

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

import actions
import acts
import build_preflight
import build_start
import cached
import forms
import state
from acts import acting
from pianistid_core.accounts import Role
from pianistid_core.config import RunConfig, difference
from pianistid_core.preflight import Speed
from pianistid_core.preflight_speed import KINDS, Reached, reached
from pianistid_core.speed import AS_REFERENCE, Settings, fast_settings
from wording import duration, listed, percent, plain, said, sentence

_NAMES = {"reference": "As the reference", "fast": "Fast"}


def _fast() -> Settings:
    """The fast settings of this machine, or of the processor that the draft asks for."""
    device = str(state.draft().values.get("device", "auto"))
    has_gpu = any(device.kind == "GPU" for device in cached.devices())
    return fast_settings(on_gpu=device.startswith("cuda") or (device == "auto" and has_gpu))


def _now() -> dict[str, object]:
    return {key: forms.get(state.draft().values, key, default) for key, default in AS_REFERENCE.items()}


@acting(Role.RUN)
def _switched(key: str) -> None:
    state.refresh_draft()
    draft = state.draft()
    draft.remember()
    draft.values.update(_fast() if st.session_state[key] else AS_REFERENCE)
    draft.generation += 1
    state.keep_draft()


@acting(Role.RUN)
def _compare() -> None:
    state.refresh_draft()
    config, _ = build_start.check()
    if config is not None:
        actions.attempt(lambda: build_preflight.start(config, compare=True))


def draw(config: RunConfig | None, tried: build_preflight.Standing) -> None:
    """The switch and, below it, what is known of both kinds of step for the config as it stands."""
    draft, fast = state.draft(), _fast()
    key = f"fast:{draft.id}:{draft.generation}"
    with st.container(border=True, key="card_speed"):
        switch, button = st.columns([3, 2], vertical_alignment="center")
        switch.toggle(
            "Fast", key=key, value=_now() == dict(fast), on_change=_switched, args=(key,),
            **acts.allowed(
                Role.RUN, "Other arithmetic, the same experiment. Off computes as the reference did; Undo reverts it."
            ),
        )  # fmt: skip
        button.button(
            "Compare both", key="speed_compare", icon=":material/speed:", on_click=_compare,
            **acts.allowed(
                Role.RUN, "A preflight that also takes a few steps of each kind and measures their time and memory.",
                off=config is None or tried.running,
            ),
        )  # fmt: skip
        st.caption(plain(_what_it_changes(fast, _now()), 400))
        if config is not None:
            _draw_comparison(_speeds_of(config, tried), reached(config, cached.run_index(state.data_root())))


def _what_it_changes(fast: Settings, now: Mapping[str, object]) -> str:
    changes = listed(f"{key} {said(fast[key])}" for key in AS_REFERENCE if fast[key] != AS_REFERENCE[key])
    on = [f"{key} {said(value)}" for key, value in now.items() if value != AS_REFERENCE[key]]
    words = f"Sets {changes}."
    if fast["precision"] == AS_REFERENCE["precision"]:
        words += " What else makes a GPU fast makes most processors slower."
    return words + (f" Now on: {listed(on)}." if on and now != dict(fast) else "")


def _speeds_of(config: RunConfig, tried: build_preflight.Standing) -> Sequence[Speed]:
    """What was measured last, if it was of this config or of its other kind."""
    if tried.result is None:
        return ()
    changed = {key for key, _, _ in difference(tried.result.config, config)}
    return tried.result.preflight.speeds if changed <= AS_REFERENCE.keys() else ()


def _draw_comparison(speeds: Sequence[Speed], runs: Mapping[str, Reached]) -> None:
    if speeds:
        rows = [_row(speed, runs.get(speed.kind)) for speed in speeds]
        st.dataframe(
            pd.DataFrame(rows), hide_index=True, key="speed_table",
            alt="A training step as the reference and fast: time, memory, and the accuracy that runs reached.",
        )  # fmt: skip
        for speed in speeds:
            if speed.trouble:
                st.caption(f"{_NAMES[speed.kind]}: {sentence(speed.trouble)}")
    if speeds or runs:
        st.caption(plain(accuracy_in_words(runs), 400))


def _row(speed: Speed, run: Reached | None) -> dict[str, str]:
    measured = not speed.trouble
    return {
        "Step": _NAMES[speed.kind],
        "Time": _time(speed.step_s) if measured else "could not run",
        "The first": _time(speed.first_s) if measured else "",
        "Peak memory": build_preflight.size(speed.memory_bytes) if measured else "",
        "Accuracy": percent(run.accuracy, 1) if run is not None else "no run yet",
    }


def _time(seconds: float) -> str:
    return f"{1000 * seconds:,.0f} ms" if seconds < 10 else duration(seconds)


def accuracy_in_words(runs: Mapping[str, Reached]) -> str:
    """Which finished runs of this experiment tell the accuracy of each kind, and how to get what is missing."""
    known = [
        f"{_NAMES[kind].lower()} {percent(runs[kind].accuracy, 1)} ({runs[kind].run_id})"
        for kind in KINDS
        if kind in runs
    ]
    missing = [_NAMES[kind].lower() for kind in KINDS if kind not in runs]
    words = f"Accuracy: {', '.join(known)}." if known else "Accuracy: no finished run of this experiment yet."
    if missing:
        words += f" Train it {' and '.join(missing)}, with the same seed, to see what the speed costs."
    return words
