"""Build: an experiment as a form and as YAML, side by side, until it has no faults; then start it."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

import actions
import cached
import forms
import state
from pianistid_core.concepts import CONCEPTS
from pianistid_core.config import (
    RunConfig,
    config_fields,
    difference,
    load_config,
    parse_config,
    presets,
    to_yaml,
)
from pianistid_core.errors import ConfigError, Fault, PianistIDError
from pianistid_core.run_config import config_of
from pianistid_core.runs import Run, list_runs
from pianistid_core.schema import FieldInfo, read_yaml, write_yaml
from wording import one_line, percent, plain, said, sentence

# Which tab a top-level key stands in; keys that are not named here come under the last tab.
TABS: dict[str, tuple[str, ...]] = {
    "Run": ("experiment", "run", "data_split_dir", "classify_dataset", "epochs", "batch_size"),
    "Clips": ("train_dataset_cfg", "test_dataset_cfg"),
    "Network": ("encoder_module", "model_cfg"),
    "Learning": ("optim_type", "optim_cfg", "sched_type", "sched_cfg", "loss_type", "loss_cfg"),
    "Machine": (),
}
RUN_PREFIX = "run: "
# Numbers that stand for names, by the last word of their key.
NAMES = {"use_concepts": CONCEPTS}
# The columns of the table of differences with their widths, so that both values are seen in a narrow column.
_DIFFERENCES = {"Key": 150, "Preset": 70, "Here": 70}


def bases() -> dict[str, str]:
    """What a config can start from: name -> how it is shown."""
    found: dict[str, str] = {}
    for preset in presets():
        accuracy = f"  ({percent(preset.published_accuracy, 1)} in the paper)" if preset.published_accuracy else ""
        found[preset.name] = one_line(f"{preset.title}{accuracy}")
    for run in list_runs(state.data_root().checkpoints_dir):
        found[RUN_PREFIX + run.id] = one_line(f"Run {run.id}")
    return found


def load_base(name: str) -> RunConfig:
    """The config of a preset or of an earlier run."""
    if name.startswith(RUN_PREFIX):
        checkpoints = state.data_root().checkpoints_dir
        return config_of(Run.find(checkpoints, name.removeprefix(RUN_PREFIX)))
    return load_config(name)


def take_base(name: str) -> None:
    actions.attempt(lambda: actions.draft_from(load_base(name), name))


def first_base(known: dict[str, str]) -> str:
    """What the form starts from unasked: the demo, unless another preset's data is here and the demo's is not."""
    here = cached.contents(state.data_root()).splits
    fitting = [preset.name for preset in presets() if load_config(preset.name).data_split_dir in here]
    return next((name for name in [*fitting, actions.DEMO_CONFIG] if name in known), next(iter(known)))


def choose_base(known: dict[str, str]) -> None:
    """The preset that the form starts from."""
    draft = state.draft()
    if not draft.base:
        take_base(first_base(known))
    names = list(known) if draft.base in known else [draft.base, *known]
    key = f"base:{draft.generation}"
    st.selectbox(
        "Start from", names, index=names.index(draft.base), key=key, format_func=lambda name: known.get(name, name),
        on_change=lambda: take_base(st.session_state[key]),
        help="A preset that ships with the lab, or an earlier run. Choosing one fills the form anew.",
    )  # fmt: skip
    summary = next((preset.summary for preset in presets() if preset.name == draft.base), "")
    if summary:
        st.caption(plain(summary, 600))


def check(values: dict[str, Any]) -> tuple[RunConfig | None, list[Fault]]:
    """The config that the form holds, or everything that is wrong with it."""
    try:
        config = parse_config(values)
    except ConfigError as error:
        return None, list(error.faults)
    here = cached.contents(state.data_root()).splits
    if config.data_split_dir not in here:
        none = "there is no data to learn from yet; make the demo's or bring in some of your own"
        some = f"there is no split {config.data_split_dir!r} here; give one of {', '.join(here)}"
        return None, [Fault("data_split_dir", some if here else none)]
    return config, []


def tab_of(info: FieldInfo) -> str:
    top = info.key.partition(".")[0]
    return next((tab for tab, keys in TABS.items() if top in keys), list(TABS)[-1])


def draw_form(faults: Sequence[Fault]) -> None:
    """The form: a tab for each group of settings, with the number of faults in its name."""
    draft = state.draft()
    advanced = st.toggle(
        "Advanced settings", key="advanced", persist_state="session",
        help="Shows every setting. Without it, those that rarely change are left out.",
    )  # fmt: skip
    suggestions = {"data_split_dir": list(cached.contents(state.data_root()).splits)}
    form = forms.Form(draft.values, faults, f"field:{draft.generation}", advanced, suggestions, NAMES)
    fields = config_fields(draft.values)
    by_tab: dict[str, list[FieldInfo]] = {tab: [] for tab in TABS}
    for info in fields:
        by_tab[tab_of(info)].append(info)
    for (_, mine), tab in zip(by_tab.items(), st.tabs(list(by_tab), key="form_tab"), strict=True):
        with tab:
            forms.draw_fields(mine, form)


def list_faults(faults: Sequence[Fault]) -> None:
    """All faults at once, each with its key and the fix; the fields show them too."""
    if not faults:
        return
    labels = {info.key: info.label for info in config_fields(state.draft().values)}
    lines = []
    for fault in faults:
        tab = next((tab for tab, keys in TABS.items() if fault.key.partition(".")[0] in keys), list(TABS)[-1])
        where = f"**{plain(labels[fault.key])}** ({tab})" if fault.key in labels else f"**{plain(fault.key)}**"
        said_of = f"{where}: " if fault.key else ""
        lines.append(f"- {said_of}{plain(fault.message, 500)}")
    title = "One thing to fix" if len(faults) == 1 else f"{len(faults)} things to fix"
    st.error(f"{title}\n\n" + "\n".join(lines), icon=":material/error:")
    if not cached.contents(state.data_root()).splits:
        st.page_link("views/data.py", label="Bring in data", icon=":material/library_music:")


def take_yaml(text: str, source: str) -> None:
    """Puts a YAML into the form when it is sound; otherwise keeps the text and says all that is wrong."""
    draft = state.draft()
    try:
        config = parse_config(read_yaml(text, source=source), source=source)
    except ConfigError as error:
        draft.yaml_text = text
        draft.yaml_faults = tuple(str(fault) for fault in error.faults)
        return
    actions.draft_from(config, draft.base)
    state.notify("The form follows the YAML.")


def draw_yaml(config: RunConfig | None) -> None:
    """The same config as text: to edit, to paste over, to upload and to download."""
    draft = state.draft()
    text = draft.yaml_text
    if text is None:
        text = to_yaml(config) if config else write_yaml(draft.values)
    key = f"yaml:{draft.generation}"
    if draft.yaml_text is None:
        st.session_state[key] = text
    st.container(key="yaml_box").text_area(
        "YAML", key=key, height=520, on_change=lambda: take_yaml(st.session_state[key], "the YAML"),
        help="Edit or paste, then press Ctrl+Enter or leave the box: the form follows. The form's changes show here.",
    )  # fmt: skip
    if draft.yaml_faults:
        faults = "\n".join(f"- {plain(fault, 500)}" for fault in draft.yaml_faults)
        st.error(f"The form stays as it was, since this YAML is not sound yet\n\n{faults}", icon=":material/error:")
        if st.button("Back to the form's YAML", key="drop_yaml", icon=":material/undo:"):
            draft.yaml_text, draft.yaml_faults = None, ()
            draft.generation += 1
            st.rerun()
    name = f"{draft.values.get('run') or 'config'}.yaml"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "Download", text, file_name=one_line(name, 100), mime="application/yaml", icon=":material/download:",
            on_click="ignore", key="yaml_out",
        )  # fmt: skip
        with st.popover("Upload", icon=":material/upload:"):
            given = st.file_uploader("A config as YAML", type=["yaml", "yml"], key=f"yaml_in:{draft.generation}")
            if given is not None and st.button("Use it", key="yaml_use", type="primary"):
                take_yaml(given.getvalue()[:200_000].decode("utf-8", "replace"), given.name)
                st.rerun()


def draw_differences(config: RunConfig | None) -> None:
    """What was changed since the preset."""
    draft = state.draft()
    try:
        changes = difference(load_base(draft.base), config) if config else []
    except PianistIDError as error:
        st.caption(sentence(error))
        return
    with st.expander(f"Differences from the preset ({len(changes)})", icon=":material/difference:"):
        if not changes:
            st.caption("None: this is the preset as it ships.")
            return
        st.dataframe(
            pd.DataFrame([(key, said(old), said(new)) for key, old, new in changes], columns=list(_DIFFERENCES)),
            hide_index=True, key="differences",
            column_config={name: st.column_config.Column(width=width) for name, width in _DIFFERENCES.items()},
            alt="Keys whose values differ from the preset.",
        )  # fmt: skip


def draw_start(config: RunConfig | None) -> None:
    """The button that starts training, and what it would overwrite or continue."""
    if config is None:
        st.button("Start training", key="start", type="primary", disabled=True, icon=":material/play_arrow:")
        st.caption("Fix what is listed below first.")
        return
    root = state.data_root()
    taken = next((r for r in list_runs(root.checkpoints_dir) if r.id == f"{config.experiment}/{config.run}"), None)
    if st.button("Start training", key="start", type="primary", icon=":material/play_arrow:"):
        try:
            run = actions.start_run(config, root)
        except PianistIDError as error:
            st.error(sentence(error), icon=":material/error:")
        else:
            if run.path.parent.parent != root.checkpoints_dir:
                st.success(
                    plain(
                        f"{run.id} is starting in {run.path}, outside of this data root: Runs does not list it.", 600
                    ),
                    icon=":material/play_arrow:",
                )
                return
            state.notify(f"{run.id} is starting.")
            st.switch_page("views/runs.py", query_params={state.RUN: run.id})
    if taken is not None and taken.state.status == "running":
        st.caption(plain(f"{taken.id} is training now. Give the run another name to start a second one."))
    elif taken is not None:
        st.caption(
            plain(
                f"{taken.id} exists, with {taken.state.epoch} epochs done. The same config goes on from its last "
                "checkpoint; give the run another name to start anew."
            )
        )


def page() -> None:
    st.title("Build")
    try:
        known = bases()
    except PianistIDError as error:
        st.error(sentence(error), icon=":material/error:")
        return
    left, right = st.columns([3, 2], gap="large")
    with left:
        choose_base(known)
        config, faults = check(state.draft().values)
        draw_start(config)
        list_faults(faults)
        draw_form(faults)
    with right:
        draw_yaml(config)
        draw_differences(config)


page()
