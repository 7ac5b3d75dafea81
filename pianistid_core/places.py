"""Where a run trains: on this machine, or on a Ray cluster; what is known of the cluster, and where that is kept.

A run that trains on a cluster says so in its `place.json`: the cluster, the name of its trainer there, and how much of
the trainer's log is here. A run without that file trains on this machine. The data root keeps one cluster in its
`cluster.json`, for whoever asks for a cluster without saying which.
"""

import json
import math
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from pianistid_core.atomic import write_atomically
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import ClusterError, DataRootError
from pianistid_core.run_folder import PLACE_FILE, RunFolder
from pianistid_core.strict_json import parse_json

SETTINGS_FILE = "cluster.json"
MOST_GPUS = 64
MOST_CPUS = 4096
_MOST_BYTES = 1 << 16
_MOST_CHARACTERS = 1000


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster as a run uses it: the address, what the run gets there, and the data root on its machines.

    `gpus` may be a part of one GPU (0.5), or whole ones; several are used by as many processes of one training.
    """

    address: str
    gpus: float = 1.0
    cpus: int = 1
    data_root: str = ""

    def in_words(self) -> str:
        """What a run asks of it: "1 GPU and 4 CPUs"."""
        cpus = f"{self.cpus} CPU{'' if self.cpus == 1 else 's'}"
        return f"{self.gpus:g} GPU{'' if self.gpus == 1 else 's'} and {cpus}" if self.gpus else cpus


@dataclass(frozen=True)
class RemotePlace:
    """Where a run trains on a cluster.

    `actor` is the name of its trainer there, `machine` the one that it was given, `log_bytes` how much of the
    trainer's log is in the run's own, and `begun` whether the trainer has begun to fill the run's folder.
    `outstanding` is true while the trainer may be there with something that has not been brought over.
    """

    cluster: Cluster
    actor: str
    machine: str = ""
    log_bytes: int = 0
    begun: bool = False
    outstanding: bool = False

    def in_words(self) -> str:
        """For people: "the cluster at 10.0.0.5:6379 (gpu-3)"."""
        return f"the cluster at {self.cluster.address}" + (f" ({self.machine})" if self.machine else "")


# --- what a cluster may be -------------------------------------------------------------------------------------------


def cluster_problem(cluster: Cluster) -> str | None:
    """Says what is wrong with how a cluster is described, or gives None; nothing is asked of the cluster itself."""
    if problem := address_problem(cluster.address):
        return problem
    gpus, cpus = cluster.gpus, cluster.cpus
    if not (math.isfinite(gpus) and 0 <= gpus <= MOST_GPUS) or (gpus > 1 and gpus != int(gpus)):
        return f"{gpus:g} GPUs cannot be given to a run; give 0, a part of one such as 0.5, or 1 to {MOST_GPUS}"
    if not 1 <= cpus <= MOST_CPUS:
        return f"{cpus} CPUs cannot be given to a run; give 1 to {MOST_CPUS}"
    if not cluster.data_root.startswith("/") or not _is_line(cluster.data_root):
        return f"the data root on the cluster is {cluster.data_root!r}; give its full path there, such as /data/piano"
    return None


def address_problem(address: str) -> str | None:
    """Says what is wrong with a cluster's address, or gives None."""
    wanted = "give HOST:PORT (usually port 6379) on a machine of the cluster, or ray://HOST:PORT (usually 10001)"
    if not address:
        return f"no address of a cluster; {wanted}"
    try:
        host, _ = host_and_port(address)
    except ValueError:
        return f"{address!r} is not the address of a Ray cluster; {wanted}"
    if not all(character.isalnum() or character in ".-_:" for character in host) or not _is_line(address):
        return f"{address!r} is not the address of a Ray cluster; {wanted}"
    return None


def host_and_port(address: str) -> tuple[str, int]:
    """The host and the port of an address. Raises: ValueError when it has no such form."""
    parts = urlsplit(address if address.startswith("ray://") else f"//{address}")
    if not parts.hostname or not parts.port or parts.path or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(address)
    return parts.hostname, parts.port


def checked(cluster: Cluster, root: DataRoot) -> Cluster:
    """A cluster that may be used; its data root is that of this machine where none is given.

    Raises: ClusterError that says what is wrong with it.
    """
    whole = cluster if cluster.data_root else replace(cluster, data_root=str(root.path))
    if problem := cluster_problem(whole):
        raise ClusterError(problem)
    return whole


def _is_line(text: str) -> bool:
    return len(text) <= _MOST_CHARACTERS and text.isprintable()


# --- the place of a run ----------------------------------------------------------------------------------------------


def remote_place(run: RunFolder) -> RemotePlace | None:
    """Where a run trains on a cluster; None when it trains on this machine."""
    said = run.read_json(PLACE_FILE) or {}
    cluster = cluster_from(said.get("cluster"))
    match said:
        case {"actor": str(actor), "machine": str(machine), "log_bytes": int(log_bytes), "begun": bool(begun)}:
            outstanding = said.get("outstanding") is True
            return RemotePlace(cluster, actor, machine, max(0, log_bytes), begun, outstanding) if cluster else None
    return None


def cluster_of(run: RunFolder) -> Cluster | None:
    """The cluster on which a run trains; None when it trains on this machine."""
    place = remote_place(run)
    return None if place is None else place.cluster


def keep_place(run: RunFolder, place: RemotePlace) -> None:
    """Writes down where a run trains on a cluster."""
    run.save_json(PLACE_FILE, asdict(place))


def set_place(run: RunFolder, cluster: Cluster | None, *, anew: bool = False) -> None:
    """Says where a run will train: on a cluster, or on this machine.

    On the cluster that it trained on before it keeps its trainer, which may still be at work, unless it starts anew.
    """
    if cluster is None:
        (run.path / PLACE_FILE).unlink(missing_ok=True)
        return
    before = remote_place(run)
    if before is not None and before.cluster.address == cluster.address and not anew:
        keep_place(run, replace(before, cluster=cluster))
    else:
        keep_place(run, RemotePlace(cluster, f"pianistid-{secrets.token_hex(8)}"))


def require_free(run: RunFolder, cluster: Cluster | None, *, anew: bool = False) -> None:
    """Does nothing when a run may train here or on a cluster without leaving a trainer behind on another.

    Raises: ClusterError.
    """
    before = remote_place(run)
    if before is None or not before.outstanding:
        return
    if cluster is None or anew or cluster.address != before.cluster.address:
        raise ClusterError(
            f"run {run.id} may still train on {before.in_words()}; resume it there and stop it first, so that it is "
            f"brought over, or remove {run.path / PLACE_FILE} to give that up: its trainer ends by itself in a day"
        )


# --- the cluster of a data root --------------------------------------------------------------------------------------


def saved_cluster(root: DataRoot) -> Cluster | None:
    """The cluster that was set for a data root; None when none was, or when the file is damaged."""
    try:
        with (root.checkpoints_dir.parent / SETTINGS_FILE).open("rb") as file:
            return cluster_from(parse_json(file.read(_MOST_BYTES)))
    except (OSError, ValueError):
        return None


def save_cluster(root: DataRoot, cluster: Cluster | None) -> None:
    """Keeps the cluster of a data root, or forgets it.

    Raises: ClusterError when it cannot be one; DataRootError when the data root cannot be written.
    """
    path = root.checkpoints_dir.parent / SETTINGS_FILE
    try:
        if cluster is None:
            path.unlink(missing_ok=True)
            return
        checked(cluster, root)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(asdict(cluster), indent=1) + "\n").encode())
    except OSError as error:
        raise DataRootError(f"the cluster cannot be kept in {path}: {error.strerror or error}") from error


def cluster_from(said: object) -> Cluster | None:
    """The cluster that plain data describes, as `dataclasses.asdict` gives it; None when it describes none."""
    match said:
        case {"address": str(address), "gpus": int() | float() as gpus, "cpus": int(cpus), "data_root": str(data_root)}:
            if not isinstance(gpus, bool) and not isinstance(cpus, bool):
                found = Cluster(address, float(gpus), cpus, data_root)
                return None if cluster_problem(replace(found, data_root=data_root or "/")) else found
    return None


def cluster_data(cluster: Cluster | None) -> Mapping[str, Any] | None:
    """A cluster as plain data, for JSON."""
    return None if cluster is None else asdict(cluster)
