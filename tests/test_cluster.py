"""Runs on a real Ray cluster, which this test session starts: handed over, followed, stopped, collected."""

import contextlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from pianistid_core import cluster, launch
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import ClusterError
from pianistid_core.places import Cluster, remote_place
from pianistid_core.run_config import run_for
from pianistid_core.run_queue import RunQueue
from pianistid_core.runs import Run
from pianistid_core.training import train
from tiny import tiny_config, until

FEW: dict[str, Any] = {
    "train_dataset_cfg": {"multichannel": True, "data_augmentation": True, "jitter_start": True, "n_clips": 6},
    "test_dataset_cfg": {"multichannel": True, "n_clips": 3},
}
LONG: dict[str, Any] = FEW | {
    "epochs": 2000,
    "checkpoint_cfg": {"checkpoint_after_n_epochs": 1, "delete_old_checkpoints": True},
}


@dataclass(frozen=True)
class Ray:
    """A cluster of one machine: its address, that of its client server, and where its trainers keep their runs."""

    address: str
    client: str
    folder: Path

    def left(self) -> list[Path]:
        """What trainers have left there."""
        return list(self.folder.glob("pianistid-*"))


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
            until(lambda: head.poll() is not None or (answers(port) and answers(client)))
            assert head.poll() is None, (Path(folder) / "said.txt").read_text()
            yield Ray(f"127.0.0.1:{port}", f"ray://127.0.0.1:{client}", Path(folder))
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
    run = started(ray.client if by_client else ray.address, **FEW)
    until(lambda: is_over(run))
    assert run.state().status == "finished", run.log_tail()
    here = run_for(tiny_config(run="here", **FEW), tiny_root)
    train(tiny_config(run="here", **FEW), tiny_root, here)
    assert without_times(run) == without_times(here)
    gone = {"lock", "launch.lock", "request.yaml", "place.json", "exit.json"}
    until(lambda: (run.path / "exit.json").exists())
    assert names_in(run) - gone == names_in(here) - gone
    assert (run.read_json("exit.json") or {})["code"] == 0
    assert run.log_tail().count("epoch 2/2") == 1 and "goes to the cluster at" in run.log_tail()
    assert not trainers_of(run)
    until(lambda: not any((folder / run.id).exists() for folder in ray.left()))


@pytest.mark.slow
def test_a_stopped_run_is_collected_and_goes_on_there(started: Callable[..., Run], tiny_root: DataRoot) -> None:
    run = started(**LONG)
    until(lambda: run.state().epoch >= 1)
    assert run.state().status == "running" and remote_place(run).machine == socket.gethostname()  # type: ignore[union-attr]
    launch.stop_and_wait(run)
    assert run.state().status == "stopped" and len(run.checkpoints()) in (1, 2)  # the newest, and the one before it
    assert not trainers_of(run) and not followers_of(run)
    epochs = run.state().epoch
    launch.resume(run, tiny_root)
    until(lambda: run.state().epoch > epochs)
    launch.stop_and_wait(run, "discard")
    assert run.state().status == "stopped"
    assert [row["epoch"] for row in run.metrics()] == list(range(1, run.state().epoch + 1))
    assert "going on after" in run.log_tail(1000)


def test_a_run_whose_follower_is_killed_goes_on_and_is_found_again(
    started: Callable[..., Run], tiny_root: DataRoot
) -> None:
    run = started(**LONG)
    until(lambda: run.state().epoch >= 1)
    (trainer,) = trainers_of(run)
    (follower,) = followers_of(run)
    follower.kill()
    until(lambda: run.state().status == "failed")
    assert "SIGKILL" in run.state().reason
    launch.resume(run, tiny_root)
    epochs = run.state().epoch
    until(lambda: run.state().status == "running" and run.state().epoch > epochs)
    assert trainers_of(run) == [trainer] and "found the trainer" in run.log_tail(1000)
    launch.stop_and_wait(run)
    assert run.state().status == "stopped"
    assert run.log_tail(100_000).count("epoch 1/2000:") == 1
    assert [row["epoch"] for row in run.metrics()] == list(range(1, run.state().epoch + 1))


def test_a_run_whose_trainer_is_killed_there_says_so(started: Callable[..., Run], ray: Ray) -> None:
    run = started(**LONG)
    until(lambda: run.state().epoch >= 1)
    (trainer,) = trainers_of(run)
    assert any((folder / run.id).exists() for folder in ray.left())
    trainer.kill()
    until(lambda: is_over(run))
    assert run.state().status == "failed" and "killed by signal 9 (SIGKILL)" in run.state().reason
    failure = run.failure()
    assert failure is not None and failure.kind == "killed"
    assert run.checkpoints()


def test_a_run_whose_machine_is_gone_says_so_and_leaves_no_trainer(started: Callable[..., Run]) -> None:
    run = started(**LONG)
    until(lambda: run.state().epoch >= 1)
    (trainer,) = trainers_of(run)
    trainer.parent().kill()  # type: ignore[union-attr]
    until(lambda: is_over(run))
    assert run.state().status == "failed" and "is gone (" in run.state().reason
    until(lambda: not trainers_of(run))


def test_a_run_waits_for_a_gpu_and_can_be_stopped_meanwhile(started: Callable[..., Run]) -> None:
    run = started(gpus=1)
    until(lambda: run.state().reason.startswith("waits for"))
    assert run.state().reason == "waits for 1 GPU and 1 CPU on the cluster, which has 0 GPUs in all"
    launch.stop_and_wait(run)
    assert (run.state().status, run.checkpoints()) == ("stopped", [])


def test_a_cluster_without_the_data_says_so(tiny_root: DataRoot, ray: Ray, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    expected = {str(tmp_path / "nowhere"): "has no folder", str(tmp_path / "empty"): "no split 'tiny'"}
    runs = [
        launch.start(tiny_config(run=f"run-{n}"), tiny_root, cluster=Cluster(ray.address, 0, 1, path))
        for n, path in enumerate(expected)
    ]
    for run, words in zip(runs, expected.values(), strict=True):
        until(lambda run=run: is_over(run))  # type: ignore[misc]
        assert run.state().status == "failed" and words in run.state().reason
        assert not any((folder / run.id).exists() for folder in ray.left())


def test_what_fails_there_is_said_here(started: Callable[..., Run], tiny_root: DataRoot) -> None:
    shutil.rmtree(tiny_root.clips_dir)
    run = started()
    until(lambda: is_over(run))
    assert run.state().status == "failed" and "clip" in run.state().reason
    assert "clip" in run.log_tail() and run.failure().kind == "bad data"  # type: ignore[union-attr]


@pytest.mark.slow
def test_runs_for_the_cluster_wait_for_nobody_here(tiny_root: DataRoot, ray: Ray) -> None:
    queue = RunQueue(tiny_root)
    by_hand = launch.start(tiny_config(run="by-hand", **LONG), tiny_root)
    queue.add([tiny_config(run="here", **FEW | {"epochs": 1})])
    away = queue.add(
        [tiny_config(run=name, **FEW | {"epochs": 1}) for name in ("a", "b")], cluster=Cluster(ray.address, 0, 1)
    )
    assert [entry.cluster for entry in queue.entries()][-1] == Cluster(ray.address, 0, 1, str(tiny_root.path))
    runs = [Run.find(tiny_root.checkpoints_dir, entry.run_id) for entry in away]
    until(lambda: all(is_over(run) for run in runs))
    here = Run.find(tiny_root.checkpoints_dir, "tests/here")
    assert [run.state().status for run in (*runs, here)] == ["finished", "finished", "queued"]
    launch.stop_and_wait(by_hand)
    until(lambda: is_over(here))
    assert here.state().status == "finished"
    until(lambda: not queue._dispatcher_lives())


# --- what a cluster is asked ---


def test_a_cluster_says_what_it_has(ray: Ray) -> None:
    for address in (ray.address, ray.client):
        offer = cluster.offer_of(address)
        assert (offer.machines, offer.cpus, offer.gpus) == (1, 2.0, 0.0)
    assert offer.in_words().startswith("1 machine with 2 CPUs and 0 GPUs; ")


def test_where_nothing_answers_is_said_at_once(started: Callable[..., Run]) -> None:
    (port,) = free_ports(1)
    with pytest.raises(ClusterError, match="nothing answers at"):
        cluster.offer_of(f"127.0.0.1:{port}")
    run = started(f"127.0.0.1:{port}")
    until(lambda: is_over(run))
    assert run.state().status == "failed" and "nothing answers at" in run.state().reason


def test_what_is_no_ray_cluster_is_told_from_one(monkeypatch: pytest.MonkeyPatch) -> None:
    if not cluster.is_installed():
        pytest.skip('Ray is not installed; pip install "pianistid[ray]" adds it')
    monkeypatch.setattr(cluster, "CONNECT_S", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        code = (
            f"from pianistid_core import cluster; cluster.CONNECT_S = 2.0; cluster._look({address!r}); cluster.leave(0)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "does not speak as a Ray cluster does" in json.loads(done.stdout.splitlines()[-1])["problem"]


def test_without_ray_a_run_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "is_installed", lambda: False)
    with pytest.raises(ClusterError, match=r'pip install "pianistid\[ray\]"'):
        cluster.offer_of("127.0.0.1:6379")
