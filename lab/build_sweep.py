"""A sweep on the page: several values for up to two settings and several seeds, as runs with their names and time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import streamlit as st

import acts
import build_preflight
import state
from acts import acting
from build_form import Fields
from drafts import SweepText
from pianistid_core.accounts import Role
from pianistid_core.config import RunConfig, flatten
from pianistid_core.errors import ConfigError, Fault
from pianistid_core.schema import FieldInfo
from pianistid_core.sweep import MAX_AXES, Axis, parse_values, sweep
from wording import count, duration, one_line, plain, said

_NAMES_THE_RUN = ("experiment", "run")
_NOTHING = ""
_MOST_CHARACTERS = 2000


@dataclass(frozen=True)
class Plan:
    """What a sweep comes to: its runs, or all that is wrong with what was typed; `varied` are the keys that differ."""

    runs: tuple[RunConfig, ...] = ()
    faults: tuple[Fault, ...] = ()
    varied: tuple[str, ...] = field(default_factory=tuple)

    @property
    def empty(self) -> bool:
        return not self.runs and not self.faults


def plan(config: RunConfig, text: SweepText, fields: Mapping[str, FieldInfo]) -> Plan:
    """The runs that were typed, or every fault; nothing typed gives an empty plan."""
    axes: list[Axis] = []
    faults: list[Fault] = []
    seeds: tuple[Any, ...] = ()
    for key, values in text.axes:
        if not key or not values.strip():
            continue
        if key not in fields:
            faults.append(Fault(key, "is no setting of this config; choose another one"))
            continue
        try:
            axes.append(Axis(key, parse_values(values, fields[key])))
        except ConfigError as error:
            faults.extend(error.faults)
    if text.seeds.strip():
        try:
            seeds = parse_values(text.seeds, fields["seed"])
        except ConfigError as error:
            faults.extend(error.faults)
    if faults or not (axes or seeds):
        return Plan(faults=tuple(faults))
    try:
        runs = sweep(config, axes, seeds)
    except ConfigError as error:
        return Plan(faults=error.faults)
    return Plan(tuple(runs), (), (*(axis.key for axis in axes), *(("seed",) if seeds else ())))


def example(info: FieldInfo, value: Any) -> str:
    """Values as they could be typed for a setting."""
    if info.choices is not None and info.kind != "list":
        return ", ".join(said(choice) for choice in info.choices[:3])
    if info.kind == "bool":
        return "true, false"
    if info.kind == "int":
        start = value if isinstance(value, int) else int(info.low or 1)
        return f"{start}, {2 * start or 1}"
    if info.kind == "float":
        real = float(value) if isinstance(value, int | float) and value else 0.1
        return f"{real:g}, {real / 3:.2g}, {real / 10:g}"
    return "[0, 1], [2, 3]" if info.kind == "list" else "one, another"


def choices(fields: Sequence[FieldInfo], now: Mapping[str, Any]) -> dict[str, str]:
    """The settings that a sweep may vary, with how they are shown: those that matter, and do not name the run."""
    labels = {info.key: info.label for info in fields}
    shown = {}
    for info in fields:
        if info.kind == "group" or info.key in _NAMES_THE_RUN or info.key == "seed" or info.item_kind == "group":
            continue
        if info.matters(now):
            section = labels.get(info.section)
            shown[info.key] = f"{section}: {info.label}" if section else info.label
    return shown


@acting(Role.RUN)
def _typed(position: int, part: int, key: str) -> None:
    state.refresh_draft()
    sweep_text = state.draft().sweep
    axis = list(sweep_text.axes[position])
    axis[part] = (st.session_state.get(key) or "")[:_MOST_CHARACTERS]
    sweep_text.axes[position] = (axis[0], axis[1])
    state.keep_draft()


@acting(Role.RUN)
def _typed_seeds(key: str) -> None:
    state.refresh_draft()
    state.draft().sweep.seeds = (st.session_state.get(key) or "")[:_MOST_CHARACTERS]
    state.keep_draft()


@acting(Role.RUN)
def toggle() -> None:
    """Opens or closes the sweep."""
    state.refresh_draft()
    state.draft().sweep.open = not state.draft().sweep.open
    state.keep_draft()


def draw(config: RunConfig | None, fields: Fields, measured: build_preflight.Result | None) -> Plan | None:
    """The panel: what varies, and the runs it comes to; gives the plan when there is a sound one."""
    st.markdown("##### Sweep")
    st.caption("One run for every combination of the values and seeds. Everything else is as in the form.")
    _draw_inputs(fields)
    if config is None:
        st.caption("The runs show here once there is nothing to fix.")
        return None
    found = plan(config, state.draft().sweep, {info.key: info for info in fields.all})
    if found.empty:
        st.caption("Give values for a setting, or some seeds, and the runs show here.")
    elif found.faults:
        _draw_faults(found.faults, fields)
    else:
        _draw_runs(found, config, fields, measured)
        return found
    return None


def _draw_inputs(fields: Fields) -> None:
    known = choices(fields.all, fields.now)
    draft = state.draft()
    by_key = {info.key: info for info in fields.all}
    prefix = f"sweep:{draft.id}:{draft.generation}"
    for position in range(MAX_AXES):
        key, values = draft.sweep.axes[position]
        options = [_NOTHING, *known, *([key] if key and key not in known else [])]
        which, what = st.columns([2, 3])
        name = f"{prefix}:{position}"
        which.selectbox(
            ("Setting to vary", "A second one")[position], options, index=options.index(key), key=f"{name}:key",
            format_func=lambda option: known.get(option, option) or "none", on_change=_typed,
            args=(position, 0, f"{name}:key"),
            **acts.allowed(Role.RUN, "Which setting takes several values. Type to search."),
        )  # fmt: skip
        info = by_key.get(key)
        what.text_input(
            "Its values" if position == 0 else "Values of the second", value=values, key=f"{name}:values",
            placeholder=f"such as {example(info, fields.now.get(key))}" if info else "choose a setting first",
            on_change=_typed, args=(position, 1, f"{name}:values"),
            **acts.allowed(
                Role.RUN, "Separated by commas. For whole numbers 1..5 means 1 to 5.", off=info is None
            ),
        )  # fmt: skip
    st.text_input(
        "Seeds", value=draft.sweep.seeds, key=f"{prefix}:seeds", placeholder="such as 1..3", on_change=_typed_seeds,
        args=(f"{prefix}:seeds",),
        **acts.allowed(
            Role.RUN,
            "Several seeds show how far results differ by chance alone; three is the least that says something.",
        ),
    )  # fmt: skip


def _draw_faults(faults: Sequence[Fault], fields: Fields) -> None:
    lines = []
    for fault in faults:
        name = fields.labels.get(fault.key, fault.key)
        lines.append(
            f"- **{plain(name)}**: {plain(fault.message, 500)}" if fault.key else f"- {plain(fault.message, 500)}"
        )
    title = "One thing to fix in the sweep" if len(faults) == 1 else f"{len(faults)} things to fix in the sweep"
    st.error(f"**{title}**\n\n" + "\n".join(lines[:20]), icon=":material/error:")


def _draw_runs(found: Plan, config: RunConfig, fields: Fields, measured: build_preflight.Result | None) -> None:
    estimate = measured.preflight.estimate if measured is not None else None
    title = count(len(found.runs), "run")
    if estimate is not None:
        whole = build_preflight.time_of_all(estimate, config, found.runs)
        title += f", {build_preflight.span_of_time(whole)} in all"
    st.markdown(f"**{plain(title)}**")
    if estimate is None:
        st.caption("Run a preflight to see how long this takes.")
    else:
        st.caption("One after the other, if an epoch of each takes as long as the measured one.")
    rows = []
    for run in found.runs:
        flat = flatten(run)
        row: dict[str, Any] = {"Run": one_line(f"{run.experiment}/{run.run}")}
        for key in found.varied:
            row[fields.labels.get(key, key)] = said(flat.get(key)) if key in flat else "—"
        if estimate is not None:
            row["Time"] = duration(build_preflight.time_of_all(estimate, config, [run]).likely)
        rows.append(row)
    st.dataframe(
        pd.DataFrame(rows), hide_index=True, key="sweep_runs", height="content" if len(rows) <= 8 else 316,
        alt="The runs of the sweep with what each varies.",
    )  # fmt: skip
