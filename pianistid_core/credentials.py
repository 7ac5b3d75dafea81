"""Passwords in the addresses of MLflow servers: kept apart from what is shown, exported and mirrored.

A run's config is copied into its folder, its exports and a cluster. So a password leaves the config before anything is
written: it goes to `mlflow/credentials.json` of the data root, which only its owner reads, under the address without
it, and is put back where the server is spoken to. The user name stays, since one server may have several users.
"""

import json
import os
from dataclasses import replace
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from filelock import FileLock, Timeout

from pianistid_core.atomic import replacing
from pianistid_core.config import RunConfig
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import TrackingError
from pianistid_core.strict_json import parse_json

_LOCK_WITHIN_S = 20.0
_PRIVATE = 0o600


def without_password(address: str) -> str:
    """An address with its user name and without its password."""
    parts = _parts(address)
    if parts is None or parts.password is None:
        return address
    return parts._replace(netloc=f"{parts.netloc.rpartition('@')[0].partition(':')[0]}@{_machine(parts)}").geturl()


def keep_password(root_path: Path, address: str) -> str:
    """Keeps the password of an address below a data root, and gives the address without it.

    Raises: TrackingError when it cannot be kept.
    """
    plain = without_password(address)
    parts = _parts(address)
    if plain == address or parts is None:
        return address
    path = _path(root_path)
    password = parts.netloc.rpartition("@")[0].partition(":")[2]  # as it is written, percent signs and all
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(".credentials.lock"), timeout=_LOCK_WITHIN_S):
            known = _kept(root_path)
            if known.get(_key(plain)) == password:
                return plain
            with replacing(path) as file:
                if hasattr(os, "fchmod"):
                    os.fchmod(file.fileno(), _PRIVATE)  # before anything stands in it
                file.write(json.dumps({**known, _key(plain): password}, indent=1).encode() + b"\n")
    except (OSError, Timeout) as error:
        raise TrackingError(f"the password of the MLflow server cannot be kept in {path}: {error}") from error
    return plain


def with_password(root_path: Path, address: str) -> str:
    """The address as the server wants it: with the password that is kept for it, if there is one."""
    parts = _parts(address)
    if parts is None or parts.username is None or parts.password is not None:
        return address
    password = _kept(root_path).get(_key(address))
    if password is None:
        return address
    return parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}:{password}@{_machine(parts)}").geturl()


def fit_to_show(config: RunConfig, root: DataRoot | None = None) -> RunConfig:
    """The config without a password; with a `root` that is kept there, else it is dropped.

    Raises: TrackingError when it cannot be kept.
    """
    address = config.mlflow_cfg.tracking_uri
    if address is None:
        return config
    plain = without_password(address) if root is None else keep_password(root.checkpoints_dir.parent, address)
    return config if plain == address else replace(config, mlflow_cfg=replace(config.mlflow_cfg, tracking_uri=plain))


def _parts(address: str) -> SplitResult | None:
    try:
        parts = urlsplit(address)
        return parts if parts.scheme and parts.hostname else None
    except ValueError:
        return None


def _machine(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def _key(address: str) -> str:
    """What an address without a password is kept under: its path says nothing about who may come in."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def _path(root_path: Path) -> Path:
    return root_path / "mlflow" / "credentials.json"


def _kept(root_path: Path) -> dict[str, str]:
    try:
        said = parse_json(_path(root_path).read_bytes())
    except (OSError, ValueError):
        return {}
    return {key: word for key, word in said.items() if isinstance(word, str)} if isinstance(said, dict) else {}
