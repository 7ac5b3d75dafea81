"""The same config as text beside the form, editable both ways, and what was changed since the preset."""

from collections.abc import Iterable

import pandas as pd
import streamlit as st
import yaml

import acts
import bases
import state
from acts import acting
from pianistid_core.accounts import Role
from pianistid_core.config import RunConfig, difference, parse_config, to_yaml
from pianistid_core.errors import ConfigError, PianistIDError
from pianistid_core.schema import read_yaml, write_yaml
from pianistid_core.strict_yaml import MAX_BYTES
from wording import count, one_line, plain, said, sentence

# The columns of the table of differences with their widths, so that both values are seen in a narrow column.
_DIFFERENCES = {"Key": 170, "Preset": 75, "Here": 75}


def line_of(text: str, key: str) -> int | None:
    """The line, from 1, where a dotted key such as `a.b[2].c` stands in a YAML; of the nearest section around it, else.

    None when not even its first part is there, or the text cannot be read.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    line = None
    for part in key.replace("[", ".[").split("."):
        if part.startswith("[") and isinstance(node, yaml.SequenceNode):
            number = int(part[1:-1])
            node = node.value[number] if number < len(node.value) else None
        elif isinstance(node, yaml.MappingNode):
            pair = next((pair for pair in node.value if pair[0].value == part), None)
            if pair is None:
                return line
            line, node = pair[0].start_mark.line + 1, pair[1]
            continue
        if node is None or part.startswith("[") is False:
            return line
        line = node.start_mark.line + 1
    return line


def faults_in_words(error: ConfigError, text: str) -> tuple[str, ...]:
    """Each fault with the line where it stands."""
    found = []
    for fault in error.faults:
        line = line_of(text, fault.key) if fault.key else None
        found.append(f"line {line}, {fault}" if line else str(fault))
    return tuple(found)


def take_yaml(text: str, source: str) -> bool:
    """Puts a YAML into the form when it is sound; otherwise keeps the text and says all that is wrong."""
    state.refresh_draft()
    draft = state.draft()
    try:
        config = parse_config(read_yaml(text, source=source), source=source)
    except ConfigError as error:
        draft.yaml_text = text[: 2 * MAX_BYTES]
        draft.yaml_faults = faults_in_words(error, text)[:50]
        state.keep_draft()
        return False
    draft.take(config, draft.base)
    state.keep_draft()
    state.notify("The form follows the YAML.")
    return True


@acting(Role.RUN)
def _edited(key: str) -> None:
    take_yaml(st.session_state[key], "the YAML")


@acting(Role.RUN)
def _uploaded(key: str) -> None:
    given = st.session_state.get(key)
    if given is None:
        return
    text = given.getvalue()[: MAX_BYTES + 1].decode("utf-8", "replace")
    state.draft().generation += 1
    take_yaml(text, one_line(given.name, 100))


@acting(Role.RUN)
def _back_to_the_form() -> None:
    state.draft().drop_text()
    state.keep_draft()


def draw(config: RunConfig | None) -> None:
    """Two tabs: the YAML, and the differences from what the form started from."""
    changes, trouble = _changes(config)
    text, changed = st.tabs(["YAML", "Changes"], key="text_tab")
    with text:
        _draw_yaml(config)
    with changed:
        _draw_changes(changes, trouble)


def _changes(config: RunConfig | None) -> tuple[list[tuple[str, object, object]] | None, str]:
    if config is None:
        return None, "What has changed shows again once there is nothing to fix."
    try:
        return difference(bases.config_of_base(state.draft().base), config), ""
    except PianistIDError as error:
        return None, f"What the form started from cannot be read any more: {error}."


def _draw_yaml(config: RunConfig | None) -> None:
    draft = state.draft()
    text = draft.yaml_text
    if text is None:
        text = to_yaml(config) if config else write_yaml(draft.values)
    key = f"yaml:{draft.id}:{draft.generation}"
    if draft.yaml_text is None or key not in st.session_state:
        st.session_state[key] = text
    if draft.yaml_faults:
        _draw_yaml_faults(draft.yaml_faults)
    st.container(key="yaml_box").text_area(
        "YAML", key=key, height=560, on_change=_edited, args=(key,), label_visibility="collapsed",
        **acts.allowed(
            Role.RUN,
            "Edit or paste, then press Ctrl+Enter or leave the box: the form follows. The form's changes show here.",
        ),
    )  # fmt: skip
    st.caption("Edit or paste, then press Ctrl+Enter: the form follows.")
    with st.container(horizontal=True, vertical_alignment="center"):
        name = f"{draft.values.get('run') or 'config'}.yaml"
        st.download_button(
            "Download", lambda: text, file_name=one_line(name, 100), mime="application/yaml",
            icon=":material/download:", on_click="ignore", key="yaml_out",
            help="Saves the YAML; `pianistid train --config FILE` trains it.",
        )  # fmt: skip
        with st.popover("Upload", icon=":material/upload:", key="yaml_in_menu"):
            inbox = f"yaml_in:{draft.id}:{draft.generation}"
            st.file_uploader(
                "A config as YAML", type=["yaml", "yml"], key=inbox, on_change=_uploaded, args=(inbox,),
                max_upload_size=1,
                **acts.allowed(Role.RUN, "Any config of this project; the form follows it. At most 100 kB."),
            )  # fmt: skip


def _draw_yaml_faults(faults: Iterable[str]) -> None:
    found = list(faults)
    lines = "\n".join(f"- {plain(fault, 500)}" for fault in found)
    st.error(
        f"**{count(len(found), 'fault')} in this YAML; the form stays as it was**\n\n{lines}", icon=":material/error:"
    )
    st.button(
        "Back to the form's YAML", key="drop_yaml", icon=":material/undo:", on_click=_back_to_the_form,
        **acts.allowed(Role.RUN, "Drops this text and shows the form's YAML again."),
    )  # fmt: skip


def _draw_changes(changes: list[tuple[str, object, object]] | None, trouble: str) -> None:
    if changes is None:
        st.caption(sentence(trouble))
        return
    started = plain(bases.name_of(state.draft().base))
    if not changes:
        st.caption(f"None: this is {started}, setting for setting.")
        return
    st.caption(f"{count(len(changes), 'setting')} unlike {started}.")
    st.dataframe(
        pd.DataFrame([(key, said(old), said(new)) for key, old, new in changes], columns=list(_DIFFERENCES)),
        hide_index=True, key="differences",
        column_config={name: st.column_config.Column(width=width) for name, width in _DIFFERENCES.items()},
        alt="Keys whose values differ from what the form started from.",
    )  # fmt: skip
