"""Runs on a real Ray cluster, which this test session starts: handed over, followed, stopped, collected."""

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from pianistid_core import cluster, launch
from pianistid_core.cluster_trainer import RemoteTrainer, travels
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import ClusterError
from pianistid_core.places import Cluster, remote_place
from pianistid_core.run_config import run_for
from pianistid_core.run_queue import RunQueue
from pianistid_core.runs import Run
from pianistid_core.training import train
from tiny import tiny_config, until

LONG: dict[str, Any] = {
    "epochs": 2000,
    "checkpoint_cfg": {"checkpoint_after_n_epochs": 1, "delete_old_checkpoints": True},
}


@dataclass(frozen=True)
class Ray:
    """A cluster of one machine: its address, and that of its client server."""

    address: str
    client: str


def free_ports(n: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ray]:
    if importlib.util.find_spec("ray") is None:
        pytest.skip('Ray is not installed; pip install "pianistid[ray]" adds it')
    port, client, agent = free_ports(3)
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        command = [
            Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--num-cpus=2", "--num-gpus=0",
            f"--port={port}", f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}",
            "--include-dashboard=false", "--disable-usage-stats", "--node-ip-address=127.0.0.1", f"--temp-dir={folder}",
        ]  # fmt: skip
        own = {"PIANISTID_CACHE": str(tmp_path_factory.mktemp("there")), "OMP_NUM_THREADS": "1", "TMPDIR": folder}
        with (Path(folder) / "said.txt").open("wb") as said:
            head = subprocess.Popen(command, env={**os.environ, **own}, stdout=said, stderr=said)
        try:
            until(lambda: head.poll() is not None or answers(port) and answers(client))
            assert head.poll() is None, (Path(folder) / "said.txt").read_text()
            yield Ray(f"127.0.0.1:{port}", f"ray://127.0.0.1:{client}")
        finally:
            family = [psutil.Process(head.pid), *psutil.Process(head.pid).children(recursive=True)]
            head.terminate()
            _, left = psutil.wait_procs(family, timeout=10)
            for process in left:
                process.kill()
            head.wait()


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def followers_of(run: Run) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
        and {"pianistid_core.cluster_follower", str(run.path)} <= set(process.info["cmdline"] or [])
    ]


def trainers_of(run: Run) -> list[psutil.Process]:
    """The processes that train a run on the cluster, which is this machine too."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
        and {"pianistid_core", "train"} <= set(process.info["cmdline"] or [])
        and f"{run.id}/request.yaml" in " ".join(process.info["cmdline"])
        and str(run.path) not in " ".join(process.info["cmdline"])
    ]


def is_over(run: Run) -> bool:
    return run.state().status not in ("queued", "running")


@pytest.fixture
def started(tiny_root: DataRoot, ray: Ray) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def start(where: str = "", gpus: float = 0, **changes: Any) -> Run:
        place = Cluster(where or ray.address, gpus=gpus, cpus=1)
        runs.append(launch.start(tiny_config(**changes), tiny_root, cluster=place))
        return runs[-1]

    yield start
    for run in runs:
        for process in [*followers_of(run), *trainers_of(run)]:
            process.kill()


def without_times(run: Run) -> list[dict[str, Any]]:
    own = ("seconds", "clips_per_second", "peak_memory_mb")
    return [{key: value for key, value in row.items() if key not in own} for row in run.metrics()]


def names_in(run: Run) -> set[str]:
    return {path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file()}


@pytest.mark.parametrize("by_client", [False, True], ids=["HOST:PORT", "ray://"])
def test_a_run_on_the_cluster_is_the_same_as_one_here(
    started: Callable[..., Run], tiny_root: DataRoot, ray: Ray, by_client: bool
) -> None:
    run = started(ray.client if by_client else ray.address)
    until(lambda: is_over(run))
    assert run.state().status == "finished", run.log_tail()
    here = run_for(tiny_config(run="here"), tiny_root)
    train(tiny_config(run="here"), tiny_root, here)
    assert without_times(run) == without_times(here)
    gone = {"lock", "launch.lock", "request.yaml", "place.json", "exit.json"}
    until(lambda: (run.path / "exit.json").exists())
    assert names_in(run) - gone == names_in(here) - gone
    assert (run.read_json("exit.json") or {})["code"] == 0
    assert run.log_tail().count("epoch 2/2") == 1 and "goes to the cluster at" in run.log_tail()
    assert not trainers_of(run) and not list(Path(tempfile.gettempdir()).glob(f"pianistid-*/{run.id}"))
