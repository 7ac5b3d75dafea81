"""Build: an experiment as a form and as YAML, side by side, tried before it starts; then one run, or many."""

import streamlit as st

import actions
import acts
import bases
import build_form
import build_preflight
import build_speed
import build_start
import build_sweep
import build_yaml
import state
from acts import acting
from pianistid_core.accounts import Role
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import PianistIDError
from wording import plain, sentence

_PRESETS, _RUNS = "Presets", "Earlier runs"


@acting(Role.RUN)
def take_base(name: str) -> None:
    """Fills the form anew from a preset or a run."""
    state.refresh_draft()
    draft = state.draft()
    if actions.attempt(lambda: draft.take(bases.start_of(name), name)):
        state.keep_draft()
    else:
        draft.generation += 1  # the picker shows again what the form still holds


@acting(Role.RUN)
def undo() -> None:
    state.refresh_draft()
    if state.draft().undo():
        state.keep_draft()


def open_draft(root: DataRoot) -> str | None:
    """The draft of the address, of this session, or the latest; a new one starts from the preset that fits the data."""
    complaint = state.open_draft(st.query_params.get("draft"))
    draft = state.draft()
    if not draft.base:
        first = bases.first(root)
        draft.take(bases.start_of(first), first)
        state.keep_draft()
    if st.query_params.get("draft") != draft.id:
        st.query_params["draft"] = draft.id
    return complaint


def draw_base(root: DataRoot) -> None:
    """What the form starts from, and the ways back."""
    draft = state.draft()
    is_run = draft.base.startswith(bases.RUN_PREFIX)
    with st.container(key="build_base", horizontal=True, vertical_alignment="bottom"):
        kind = st.segmented_control(
            "Start from", [_PRESETS, _RUNS], default=_RUNS if is_run else _PRESETS, required=True,
            key=f"base_kind:{draft.id}:{draft.generation}",
            help="A preset of the lab (the paper's sixteen, two made fast, two for a laptop), or a run of yours.",
        )  # fmt: skip
        _draw_picker(bases.run_choices(root) if kind == _RUNS else bases.preset_choices(), kind or _PRESETS)
        with st.container(horizontal=True, width="content"):
            st.button(
                "Undo", key="undo", icon=":material/undo:", on_click=undo,
                **acts.allowed(Role.RUN, "Takes back the last change.", off=not draft.history),
            )  # fmt: skip
            st.button(
                "Back to the run" if is_run else "Back to the preset", key="back_to_base",
                icon=":material/restart_alt:", on_click=take_base, args=(draft.base,),
                **acts.allowed(
                    Role.RUN, "Sets everything as in what the form started from; Undo brings back what was there.",
                    off=not _is_changed(),
                ),
            )  # fmt: skip
    summary = next((preset.summary for preset in bases.presets() if preset.name == draft.base), "")
    if summary:
        st.caption(plain(summary, 600))


def _draw_picker(known: dict[str, str], kind: str) -> None:
    draft = state.draft()
    names = list(known)
    if draft.base not in known and draft.base.startswith(bases.RUN_PREFIX) == (kind == _RUNS):
        known[draft.base] = bases.name_of(draft.base)  # archived, or not here any more
        names.insert(0, draft.base)
    key = f"base:{draft.id}:{draft.generation}:{kind}"
    st.selectbox(
        "Run" if kind == _RUNS else "Preset", names, index=names.index(draft.base) if draft.base in names else None,
        key=key, format_func=lambda name: known.get(name, name), on_change=_picked, args=(key,),
        placeholder="Choose one, or type to search" if names else "There is no run yet",
        **acts.allowed(
            Role.RUN, "Type to search. Choosing one fills the form anew; Undo brings back what was there.",
            off=not names,
        ),
    )  # fmt: skip


@acting(Role.RUN)
def _picked(key: str) -> None:
    name = st.session_state.get(key)
    if name:
        take_base(name)


def _is_changed() -> bool:
    draft = state.draft()
    try:
        base = bases.start_of(draft.base)
    except PianistIDError:
        return False
    return bool(draft.yaml_text) or draft.values != bases.plain_of(base)


def page() -> None:
    root = state.data_root()
    st.title("Build")
    build_start.follow_started()
    complaint = open_draft(root)
    if complaint:
        st.warning(sentence(complaint), icon=":material/history:")
    build_start.draw_unkept()
    config, faults = build_start.check()
    fields = build_form.fields_of_draft(faults)
    draw_base(root)
    build_form.draw_header(fields)
    if config is not None:
        build_start.draw_name_taken(config)
        build_start.draw_doctor(config)
    tried = build_preflight.standing(config)
    build_start.draw_bar(config, faults, tried)
    build_start.draw_news()
    build_form.draw_faults(fields)
    build_preflight.draw(tried)
    if state.draft().sweep.open:
        with st.container(border=True, key="sweep_panel"):
            found = build_sweep.draw(config, fields, tried.holding)
            if found is not None:
                build_start.draw_queue_sweep(found)
    left, right = st.container(key="build_sides").columns([3, 2], gap="large")
    with left:
        build_speed.draw(config, tried)
        build_form.draw(fields)
    with right:
        build_yaml.draw(config)


page()
