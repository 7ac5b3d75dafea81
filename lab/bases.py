"""What a config can start from: the presets that ship with the lab, and the runs of the data root."""

import time
from pathlib import Path
from typing import Any

import streamlit as st

import cached
import settings
import state
from pianistid_core.config import Preset, RunConfig, config_dir, load_config, to_dict
from pianistid_core.config import presets as read_presets
from pianistid_core.credentials import fit_to_show
from pianistid_core.datasets.root import DataRoot
from pianistid_core.run_config import config_of
from pianistid_core.runs import CONFIG_FILE, REQUEST_FILE, Run
from wording import ago, one_line, percent

RUN_PREFIX = "run: "
DEMO = "demo.yaml"


def presets() -> list[Preset]:
    """The presets in the order of the picker, read again only when a file of theirs has changed."""
    files = tuple(sorted(config_dir().rglob("*.yaml")))
    return _presets(files, cached.stamp(*files))


@st.cache_resource(max_entries=2, show_spinner=False)
def _presets(files: tuple[Path, ...], seen: tuple[float, ...]) -> list[Preset]:
    return read_presets()


def config_of_base(name: str) -> RunConfig:
    """The config of a preset or of an earlier run.

    Raises: PianistIDError when it is not there any more, or cannot be read.
    """
    if name.startswith(RUN_PREFIX):
        run = Run.find(state.data_root().checkpoints_dir, name.removeprefix(RUN_PREFIX))
        return _config_of_run(run.path, cached.stamp(run.path / CONFIG_FILE, run.path / REQUEST_FILE))
    known = next((preset for preset in presets() if preset.name == name), None)
    return load_config(name) if known is None else _config_of_preset(name, cached.stamp(known.path))


def start_of(name: str) -> RunConfig:
    """What a new draft from a base begins with: a preset takes up what the Tracking page says of new runs.

    Raises: as `config_of_base`.
    """
    config = config_of_base(name)
    return config if name.startswith(RUN_PREFIX) else settings.with_tracking(config, state.data_root())


@st.cache_resource(max_entries=64, show_spinner=False)
def _config_of_run(path: Path, seen: tuple[float, ...]) -> RunConfig:
    return fit_to_show(config_of(Run(path)))


@st.cache_resource(max_entries=64, show_spinner=False)
def _config_of_preset(name: str, seen: tuple[float, ...]) -> RunConfig:
    return load_config(name)


def preset_choices() -> dict[str, str]:
    """The presets by name, with how they are shown."""
    shown: dict[str, str] = {}
    for preset in presets():
        accuracy = preset.published_accuracy
        of_the_paper = f" · {percent(accuracy, 1)} of validation recordings in the paper" if accuracy else ""
        shown[preset.name] = one_line(f"{preset.title}{of_the_paper}")
    return shown


def run_choices(root: DataRoot) -> dict[str, str]:
    """The runs of the data root by name, the newest first, with how they are shown."""
    now = time.time()
    shown: dict[str, str] = {}
    for run in cached.run_index(root).summaries(archived=False):
        best = run.best_recording_accuracy
        facts = [run.id, "no result yet" if best is None else f"{percent(best)} of recordings"]
        shown[RUN_PREFIX + run.id] = " · ".join([*facts, ago(run.state.started or run.created, now)])
    return shown


def plain_of(config: RunConfig) -> dict[str, Any]:
    """A config's values as a draft holds them."""
    return to_dict(config)


def name_of(base: str) -> str:
    """A base as a sentence names it."""
    if base.startswith(RUN_PREFIX):
        return f"run {base.removeprefix(RUN_PREFIX)}"
    return next((preset.title for preset in presets() if preset.name == base), base)


def first(root: DataRoot) -> str:
    """What the form starts from unasked: the demo, unless another preset's data is here and the demo's is not."""
    here = cached.contents(root).splits
    fitting = [preset.name for preset in presets() if config_of_base(preset.name).data_split_dir in here]
    return next((name for name in fitting), DEMO)
