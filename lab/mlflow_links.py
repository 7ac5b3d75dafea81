"""Where a run is to be found in MLflow: the address of its page there, and the words when there is none."""

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import streamlit as st

from pianistid_core.datasets.root import DataRoot
from pianistid_core.exposure import is_loopback
from pianistid_core.mlflow_server import MlflowServer, ServerState
from pianistid_core.mlflow_store import local_store
from pianistid_core.run_index import RunIndex
from pianistid_core.runs import Run, RunSummary
from pianistid_core.tracking import without_password


@dataclass(frozen=True)
class Mirror:
    """A run's entry in MLflow: its id there, its experiment's, and the server's address (None: the local store)."""

    run_id: str
    experiment_id: str | None
    address: str | None

    @property
    def where(self) -> str:
        """The store in words; never with a password."""
        return without_password(self.address) if self.address else "this data root"

    def url(self, base: str | None) -> str | None:
        """The address of its page below `base`, a server's address; of the server when its experiment is unknown."""
        if base is None:
            return None
        if self.experiment_id is None:
            return base
        return f"{base.rstrip('/')}/#/experiments/{self.experiment_id}/runs/{self.run_id}"


def server_of(root: DataRoot) -> MlflowServer:
    """The MLflow server of a data root, which lies where its runs are mirrored."""
    return MlflowServer(root.checkpoints_dir.parent)


def mirror_of(run: RunSummary, index: RunIndex, root: DataRoot) -> Mirror | None:
    """A run's entry in MLflow; None when it has none."""
    try:
        seen = os.stat(run.path).st_mtime_ns
    except OSError:
        return None
    run_id, experiment_id = _saved(run.path, seen)
    if run_id is None:
        return None
    address = index.config(run).get("mlflow_cfg.tracking_uri")
    if not isinstance(address, str) or not address.startswith(("http://", "https://")):
        address = None
    if experiment_id is None and address is None:
        experiment_id = local_store(root.checkpoints_dir.parent).experiment_of(run_id)
    return Mirror(run_id, experiment_id, address)


def url_of(mirror: Mirror, server: ServerState | None) -> str | None:
    """The address of a run's page in MLflow; None while the server that would show it does not run, or not for here."""
    if mirror.address is not None:
        return mirror.url(without_password(mirror.address))
    return mirror.url(server.url if server is not None and server.ready and is_at_the_server() else None)


def is_at_the_server() -> bool:
    """Whether the browser may reach what listens on the server's loopback address: it asked for the lab by that."""
    host = st.context.headers.get("Host")
    if host is None:
        return True
    try:
        return is_loopback(urlsplit(f"//{host}").hostname)
    except ValueError:
        return False


def is_lacking(run: RunSummary) -> bool:
    """Whether a run has ended and its copy in MLflow is not whole."""
    if run.state.is_due():
        return False
    try:
        return _is_whole(run.path, os.stat(run.path).st_mtime_ns) is False
    except OSError:
        return False


@functools.lru_cache(maxsize=4096)
def _is_whole(path: Path, seen: int) -> bool | None:
    """What a run folder says of its copy, read again when the folder has changed; None when there is none."""
    said = Run(path).read_json("mlflow.json") or {}
    whole = said.get("whole")
    return whole if isinstance(whole, bool) else None


@functools.lru_cache(maxsize=4096)
def _saved(path: Path, seen: int) -> tuple[str | None, str | None]:
    """What a run folder says of its entry, read again when the folder has changed."""
    said = Run(path).read_json("mlflow.json") or {}
    run_id, experiment_id = said.get("run_id"), said.get("experiment_id")
    return (run_id if isinstance(run_id, str) else None, experiment_id if isinstance(experiment_id, str) else None)
