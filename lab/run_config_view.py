"""What a run was trained with: its config, how that differs from a preset, the machine, and the data."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

import cached
from pianistid_core.config import RunConfig, difference, flatten, load_config
from pianistid_core.credentials import fit_to_show
from pianistid_core.errors import PianistIDError
from pianistid_core.masking import masked
from pianistid_core.presets import presets
from pianistid_core.run_config import config_of
from pianistid_core.runs import Run
from wording import count, one_line, plain, said, sentence

# What names a run rather than saying how it is trained.
_NAMES = ("experiment", "run")


def draw(run: Run) -> None:
    """Draws the config and what else the run keeps of how it came to be."""
    try:
        config = fit_to_show(config_of(run))
    except PianistIDError as error:
        st.warning(sentence(error), icon=":material/warning:")
    else:
        left, right = st.columns(2, gap="large")
        with left:
            keys(config)
        with right:
            against_preset(config)
            text(run)
    left, right = st.columns(2, gap="large")
    for column, title, name in ((left, "Machine", "environment.json"), (right, "Data", "data.json")):
        with column:
            facts(run, title, name)


def keys(config: RunConfig) -> None:
    """Every key with its value."""
    st.markdown("**Config**")
    st.dataframe(
        pd.DataFrame([(key, said(value)) for key, value in flatten(config).items()], columns=["Key", "Value"]),
        hide_index=True, key="config_table", height=420, alt="Every key of the run's config.",
    )  # fmt: skip


def against_preset(config: RunConfig) -> None:
    """How it differs from the preset that it is closest to."""
    found = closest_preset(config)
    if found is None:
        return
    name, changed = found
    st.markdown(f"**Against the preset** {plain(name)}")
    if not changed:
        st.caption("Nothing differs but the name.")
        return
    st.dataframe(
        pd.DataFrame(
            [(key, said(before), said(after)) for key, before, after in changed], columns=["Key", "Preset", "This run"]
        ),
        hide_index=True, key="preset_table", height="content" if len(changed) < 8 else 300,
        alt=f"The {count(len(changed), 'key')} in which the run differs from the preset.",
    )  # fmt: skip


def closest_preset(config: RunConfig) -> tuple[str, list[tuple[str, Any, Any]]] | None:
    """The shipped preset that differs in the fewest keys, with these; None when there are no presets."""
    best: tuple[str, list[tuple[str, Any, Any]]] | None = None
    for name, preset in _presets().items():
        changed = [one for one in difference(preset, config) if one[0] not in _NAMES]
        if best is None or len(changed) < len(best[1]):
            best = name, changed
    return best


def _presets() -> dict[str, RunConfig]:
    try:
        files = {preset.name: preset.path for preset in presets()}
    except PianistIDError:
        return {}
    return _load(tuple(files.items()), cached.stamp(*files.values()))


@st.cache_resource(max_entries=2, show_spinner=False)
def _load(files: tuple[tuple[str, Path], ...], seen: tuple[float, ...]) -> dict[str, RunConfig]:
    found = {}
    for name, path in files:
        with contextlib.suppress(PianistIDError):
            found[name] = load_config(path)
    return found


def text(run: Run) -> None:
    """The YAML, to read and to keep."""
    written = masked(run.read_text("config.yaml") or "")
    if not written:
        return
    with st.expander("YAML", icon=":material/code:"):
        st.code(written, language="yaml", height=380)
    st.download_button(
        "Download YAML", lambda: written, file_name=f"{run.path.name}.yaml", mime="application/yaml", key="config_yaml",
        icon=":material/download:", on_click="ignore", help="Trains the same again: pianistid train --config FILE.",
    )  # fmt: skip


def facts(run: Run, title: str, name: str) -> None:
    """What is known of the machine or of the data, one line a fact."""
    known = run.read_json(name)
    st.markdown(f"**{title}**")
    if not known:
        st.caption("It was not written down.")
        return
    if title == "Data":
        st.caption("Each part's fingerprint changes when one of its recordings does.")
    st.dataframe(
        pd.DataFrame(named_facts(known), columns=["What", "Value"]), hide_index=True, height="content",
        key=f"facts_{title.lower()}", alt=f"What is known of the {title.lower()}.",
    )  # fmt: skip


def named_facts(facts: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """What a file of a run says, one line a fact, with the names of what it stands under."""
    lines: list[tuple[str, str]] = []
    for name, value in facts.items():
        label = one_line(f"{above}{name}".replace("_", " "))
        lines += named_facts(value, f"{label}, ") if isinstance(value, Mapping) else [(label, said(value))]
    return lines
