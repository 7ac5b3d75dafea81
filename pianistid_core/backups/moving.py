"""A run that has come from elsewhere: at rest, and, where its name was taken, under another."""

import json
from collections.abc import Callable
from pathlib import Path

from pianistid_core.atomic import write_atomically
from pianistid_core.backups.rest import at_rest
from pianistid_core.config import load_config, to_yaml
from pianistid_core.errors import ConfigError, PianistIDError
from pianistid_core.mirror import ENTRY_FILE
from pianistid_core.names import MAX_CHARACTERS
from pianistid_core.run_config import config_of
from pianistid_core.runs import CONFIG_FILE, REQUEST_FILE, Run
from pianistid_core.strict_json import parse_json

_MOST_BYTES = 1 << 20


def mend_run(folder: Path, *, renamed: bool, with_store: bool) -> None:
    """Makes a run's folder one of this machine; one that was `renamed` takes its name from its folder.

    Which entry of MLflow is its copy stays said only where it came `with_store`, that of the data root it was in.
    """
    path = folder / "state.json"
    if path.exists():
        # What cannot be read here, such as one longer than any of ours, may still name a process to another reader.
        rewritten = at_rest(_object(path) or {})
        if rewritten is not None:
            _write(path, rewritten)
    if renamed or not (with_store and _is_in_store(folder)):
        (folder / ENTRY_FILE).unlink(missing_ok=True)  # there it may be any run's, or somebody else's server asked
    if not renamed:
        return
    about = _object(folder / "run.json")
    if about is not None:
        _write(folder / "run.json", {**about, "experiment": folder.parent.name, "run": folder.name})
    for name in (CONFIG_FILE, REQUEST_FILE):
        _rename_config(folder / name, folder.name)


def new_name(name: str, is_taken: Callable[[str], bool]) -> str:
    """A name like another that is not taken: "jazz", then "jazz-2", "jazz-3"."""
    number = 2
    while is_taken(chosen := f"{name[: MAX_CHARACTERS - 8]}-{number}"):
        number += 1
    return chosen


def _is_in_store(folder: Path) -> bool:
    """Whether a run's config has its copy in the store of its data root, and on no server."""
    try:
        return config_of(Run(folder)).mlflow_cfg.tracking_uri is None
    except PianistIDError:
        return False


def _rename_config(path: Path, name: str) -> None:
    if not path.is_file():
        return
    try:
        config = load_config(path, overrides=[f"run='{name.replace(chr(39), 2 * chr(39))}'"])
    except ConfigError:
        return  # it says what is wrong with it when somebody asks for it, here as it did there
    write_atomically(path, to_yaml(config).encode())


def _object(path: Path) -> dict[str, object] | None:
    try:
        with path.open("rb") as file:
            said = parse_json(file.read(_MOST_BYTES))
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) else None


def _write(path: Path, data: dict[str, object]) -> None:
    write_atomically(path, json.dumps(data, indent=1).encode())
