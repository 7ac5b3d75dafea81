"""Where what a backup holds has its place in a data root: the names in an archive, and the parts that they belong to.

    data/..., references/...              music and splits, as they lie in the root            part "data"
    checkpoints/<experiment>/<run>/...    a run                                                part "runs"
    trash/<id>/...                        a discarded run: checkpoints/.trash/<id> in the root part "trash"
    mlflow/mlflow.db, mlflow/artifacts/   the MLflow store                                     part "mlflow"
    lab.json, cluster.json, drafts/, audit/   settings, what is typed into Build, the log      part "settings"

A unit is what comes into a root whole or not at all: a recording, a split, a run, a file.
"""

import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pianistid_core.datasets.archives import is_left_out, shown
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import ArchiveError
from pianistid_core.names import MAX_BYTES, is_plain_name
from pianistid_core.runs import PLACE_FILE, QUEUED_FILE, Run
from pianistid_core.trash import TRASH, is_trash_id

Part = Literal["data", "runs", "trash", "mlflow", "settings"]
PARTS: tuple[Part, ...] = ("data", "runs", "trash", "mlflow", "settings")
MANIFEST = "backup.jsonl"
DATABASE = "mlflow/mlflow.db"
RECORDINGS = "references/recordings.csv"
SETTINGS = ("lab.json", "cluster.json")
# What only means something while a run goes on, on the machine where it does.
PASSING = frozenset(
    {"lock", "launch.lock", "stop", "progress.json", "heartbeat.json", "heartbeat", QUEUED_FILE, PLACE_FILE}
)

_DEEPEST = 12
_LONGEST = 1000
_UNIT_PARTS = {"clips": 4, "raw": 4, "data_splits": 3}


@dataclass(frozen=True)
class Place:
    """Where a file of a backup goes: its unit and the rest of its path, and the part that it belongs to.

    `unit` and `within` are as the archive has them; `within` is "" when the unit is a file. `run_id` is of runs alone.
    """

    part: Part
    unit: str
    within: str
    run_id: str | None = None


def place_of(name: str) -> Place:
    """The place of a file by its name in an archive.

    Raises
    ------
    ArchiveError
        When no such file belongs into a data root, or its name is not one for every folder on the way.
    """
    if not fits(name):
        raise ArchiveError(f"{shown(name)} is no name for a file of a data root")
    match name.split("/"):
        case ["data" | "references", _, *_] as parts:
            n = _UNIT_PARTS.get(parts[1], len(parts))
            return _cut("data", parts, n if len(parts) > n else len(parts))
        case ["checkpoints", experiment, run, _, *_] as parts if is_plain_name(experiment) and is_plain_name(run):
            return _cut("runs", parts, 3, f"{experiment}/{run}")
        case ["trash", id, "discarded.json"] | ["trash", id, "run", _, *_] if is_trash_id(id):
            return _cut("trash", name.split("/"), 2)
        case ["mlflow", "mlflow.db"]:
            return _cut("mlflow", ["mlflow", "mlflow.db"], 2)
        case ["mlflow", "artifacts", _, *_] as parts:
            return _cut("mlflow", parts, 2)
        case ["drafts" | "audit", _] | ["lab.json" | "cluster.json"] as parts:
            return _cut("settings", parts, len(parts))
    raise ArchiveError(f"{shown(name)} has no place in a data root")


def fits(name: str) -> bool:
    """Whether a relative path can be packed and found again: no hidden files, nothing that leads elsewhere."""
    parts = name.split("/")
    if len(parts) > _DEEPEST or len(name) > _LONGEST or is_left_out(name):
        return False
    return all(map(_is_component, parts))


def _is_component(part: str) -> bool:
    """Looser than a plain name where the system allows it: a researcher's own folders keep the names that they have."""
    if not part or part in {".", ".."} or any(sign in part for sign in "\\\0"):
        return False
    if os.name == "nt":
        return is_plain_name(part)
    return len(part.encode("utf-8", "surrogatepass")) <= MAX_BYTES and not any(
        unicodedata.category(sign) in ("Cc", "Cs") for sign in part
    )


def _cut(part: Part, parts: list[str], n: int, run_id: str | None = None) -> Place:
    return Place(part, "/".join(parts[:n]), "/".join(parts[n:]), run_id)


def in_root(unit: str) -> str:
    """Where a unit lies relative to the root: as in the archive, but for the trash."""
    return f"checkpoints/{TRASH}/{unit.removeprefix('trash/')}" if unit.startswith("trash/") else unit


def is_passing(within: str) -> bool:
    """Whether a file of a run, by its path in the run's folder, only serves while the run goes on."""
    return within in PASSING or Path(within).name.startswith(".")


def run_folder(unit: str, root: DataRoot) -> Run:
    """The run that a unit of the part "runs" is."""
    _, experiment, name = unit.split("/")
    return Run(root.path / "checkpoints" / experiment / name)
