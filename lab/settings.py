"""What the lab remembers about a data root beyond its runs: what new drafts begin with.

A run's own `mlflow_cfg` is the truth about that run; what stands here is only where the Build form starts.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pianistid_core.atomic import write_atomically
from pianistid_core.config import RunConfig
from pianistid_core.credentials import keep_password
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import DataRootError, TrackingError
from pianistid_core.strict_json import parse_json
from pianistid_core.tracking import address_problem

_FILE = "lab.json"
_MOST_BYTES = 1 << 16


@dataclass(frozen=True)
class TrackingSettings:
    """Whether new runs are mirrored in MLflow, and where: the address of a server, or None for the local store."""

    use: bool = False
    address: str | None = None


def tracking(root: DataRoot) -> TrackingSettings:
    """What was chosen for a data root; off when nothing was, or when the file is damaged."""
    try:
        with _path(root).open("rb") as file:
            said = parse_json(file.read(_MOST_BYTES))["tracking"]
        use, address = said["use"], said["address"]
    except (OSError, ValueError, TypeError, KeyError):
        return TrackingSettings()
    good = isinstance(address, str) and address_problem(address) is None
    return TrackingSettings(use is True, address if good else None)


def save_tracking(root: DataRoot, settings: TrackingSettings) -> None:
    """Keeps what new runs begin with.

    Raises: TrackingError when the address cannot be one; DataRootError when the data root cannot be written.
    """
    if settings.address is not None and (problem := address_problem(settings.address)):
        raise TrackingError(f"the address of the MLflow server cannot be used: {problem}")
    if settings.address is not None:
        settings = replace(settings, address=keep_password(root.checkpoints_dir.parent, settings.address))
    path = _path(root)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps({"tracking": asdict(settings)}, indent=1) + "\n").encode())
        path.chmod(0o600)  # an address may hold a password
    except OSError as error:
        raise DataRootError(f"the setting cannot be kept in {path}: {error.strerror or error}") from error


def with_tracking(config: RunConfig, root: DataRoot) -> RunConfig:
    """A preset's config as a new draft begins: mirrored in MLflow where that was chosen for the data root."""
    chosen = tracking(root)
    if not chosen.use or config.mlflow_cfg.use:
        return config
    # What a draft holds is seen by whoever builds: of an address that was saved with its password, that stays here.
    address = keep_password(root.checkpoints_dir.parent, chosen.address) if chosen.address else None
    return replace(config, mlflow_cfg=replace(config.mlflow_cfg, use=True, tracking_uri=address))


def _path(root: DataRoot) -> Path:
    """In the data root, or in its place in the cache when the root cannot be written; as `checkpoints_dir` has it."""
    return root.checkpoints_dir.parent / _FILE
