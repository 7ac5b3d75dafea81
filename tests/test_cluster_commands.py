"""The command line of clusters: which one is set, and what train and queue hand to it; no Ray is started."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from pianistid_core import __main__ as command_line
from pianistid_core import launch
from pianistid_core.cluster import Offer
from pianistid_core.config import to_yaml
from pianistid_core.datasets.root import DataRoot
from pianistid_core.places import Cluster, cluster_of, keep_place, remote_place, saved_cluster, set_place
from pianistid_core.processes import ProcessIdentity
from pianistid_core.run_queue import RunQueue
from pianistid_core.runs import STARTING, Run
from tiny import tiny_config

ADDRESS = "10.0.0.5:6379"


@pytest.fixture
def config(tiny_root: DataRoot) -> Path:
    path = tiny_root.path / "tiny.yaml"
    path.write_text(to_yaml(tiny_config()))
    return path


@pytest.fixture
def run_cli(tiny_root: DataRoot, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.setenv("PIANISTID_CACHE", str(tiny_root.cache_dir))

    def run(*arguments: str) -> tuple[int, str, str]:
        status = command_line.main([*arguments, "--data-root", str(tiny_root.path)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def test_a_cluster_is_set_asked_and_forgotten(
    run_cli: Any, tiny_root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no cluster is set" in run_cli("cluster", "show")[2]
    assert run_cli("cluster", "use", ADDRESS, "--gpus", "2", "--cpus", "4")[0] == 0
    assert saved_cluster(tiny_root) == Cluster(ADDRESS, 2.0, 4, str(tiny_root.path))
    monkeypatch.setattr("pianistid_core.commands.cluster.offer_of", lambda address: Offer(3, 32, 8, 30, 1))
    _, out, _ = run_cli("cluster", "show")
    assert f"{ADDRESS}: 3 machines with 32 CPUs and 8 GPUs; 30 CPUs and 1 GPU free now" in out
    assert f"a run gets 2 GPUs and 4 CPUs; the data root there is {tiny_root.path}" in out
    shown = json.loads(run_cli("cluster", "show", "--json")[1])
    assert shown["offer"]["gpus"] == 8 and shown["cluster"]["address"] == ADDRESS
    assert run_cli("cluster", "forget")[0] == 0 and saved_cluster(tiny_root) is None


def test_a_run_is_queued_for_the_cluster_that_is_named_or_set(run_cli: Any, tiny_root: DataRoot, config: Path) -> None:
    RunQueue(tiny_root).pause()
    add = ("queue", "add", "--config", str(config), "--set")
    assert run_cli(*add, "run=a", "--ray", "ray://head:10001", "--gpus", "0.5", "--ray-data", "/data/piano")[0] == 0
    status, _, err = run_cli(*add, "run=b", "--ray")
    assert status == 1 and "no cluster is set for this data root" in err
    run_cli("cluster", "use", ADDRESS, "--gpus", "0", "--cpus", "4")
    assert run_cli(*add, "run=b", "--ray")[0] == 0
    assert run_cli(*add, "run=c", "--ray", ADDRESS, "--gpus", "1")[0] == 0
    assert run_cli(*add, "run=d")[0] == 0
    here = str(tiny_root.path)
    assert [entry.cluster for entry in RunQueue(tiny_root).entries()] == [
        Cluster("ray://head:10001", 0.5, 1, "/data/piano"),
        Cluster(ADDRESS, 0.0, 4, here),
        Cluster(ADDRESS, 1.0, 4, here),
        None,
    ]
    listed = run_cli("queue", "list")[1].splitlines()
    assert [line.split()[-1] for line in listed[:5]] == ["where", "ray://head:10001", ADDRESS, ADDRESS, "here"]
    waiting = json.loads(run_cli("queue", "list", "--json")[1])["waiting"]
    assert [(entry["cluster"] or {}).get("cpus") for entry in waiting] == [1, 4, 4, None]
    assert "on the cluster at ray://head:10001, with 0.5 GPUs and 1 CPU" in run_cli("runs", "show", "tests/a")[1]
    assert ADDRESS in run_cli("runs", "list")[1]


def test_a_removed_entry_leaves_a_run_where_it_was(run_cli: Any, tiny_root: DataRoot, config: Path) -> None:
    queue = RunQueue(tiny_root)
    queue.pause()
    run = Run.create(tiny_root.checkpoints_dir, "tests", "tiny")
    run.set_state("stopped", "", epochs=2)
    (entry,) = queue.add([tiny_config()], cluster=Cluster(ADDRESS))
    assert cluster_of(run) is not None
    queue.remove(entry.id)
    assert cluster_of(run) is None and run.state().status == "stopped"


def test_training_on_a_cluster_is_in_the_background(
    run_cli: Any, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Cluster | None] = []

    def start(config: Any, root: DataRoot, *, cluster: Cluster | None) -> Run:
        started.append(cluster)
        return Run.create(root.checkpoints_dir, config.experiment, config.run)

    monkeypatch.setattr(launch, "start", start)
    train = ("train", "--config", str(config))
    assert "give --background with --ray" in run_cli(*train, "--ray", ADDRESS)[2]
    assert "give --ray as well" in run_cli(*train, "--background", "--gpus", "1")[2]
    assert "1.5 GPUs cannot be given" in run_cli(*train, "--background", "--ray", ADDRESS, "--gpus", "1.5")[2]
    assert started == []
    assert run_cli(*train, "--background", "--ray", ADDRESS, "--ray-data", "/data")[0] == 0
    assert started == [Cluster(ADDRESS, 1.0, 1, "/data")]


def test_a_run_that_may_not_train_here_keeps_its_place_on_the_cluster(
    run_cli: Any, tiny_root: DataRoot, config: Path
) -> None:
    queue = RunQueue(tiny_root)
    queue.pause()
    train = ("train", "--config", str(config))
    (entry,) = queue.add([tiny_config()], cluster=Cluster(ADDRESS))
    run = Run.find(tiny_root.checkpoints_dir, entry.run_id)
    place = remote_place(run)
    assert place is not None

    assert "cuda" in run_cli(*train, "--set", "device=cuda:99")[2]
    with FileLock(run.path / "lock"):
        assert "already being trained" in run_cli(*train)[2]
    assert remote_place(run) == place

    (entry,) = queue.entries() or queue.add([tiny_config()], cluster=Cluster(ADDRESS))
    place = remote_place(run)
    queue.files.advance(entry.id, "waiting", "claimed")
    assert "the queue is starting run" in run_cli(*train)[2]
    run.set_state("running", STARTING, epochs=2, process=ProcessIdentity.of())
    assert f"trains on the cluster at {ADDRESS}; stop it first" in run_cli(*train)[2]
    run.set_state("failed", "the cluster fell silent", epochs=2)
    keep_place(run, replace(place, outstanding=True))  # type: ignore[type-var]
    assert "resume it there and stop it first" in run_cli(*train)[2]
    assert remote_place(run) == replace(place, outstanding=True)  # type: ignore[type-var]


def test_a_run_that_trains_here_has_no_place_on_a_cluster_any_more(
    run_cli: Any, tiny_root: DataRoot, config: Path
) -> None:
    run = Run.create(tiny_root.checkpoints_dir, "tests", "tiny")
    set_place(run, Cluster(ADDRESS, data_root="/data"))
    assert cluster_of(run) is not None
    assert run_cli("train", "--config", str(config), "--set", "epochs=1")[0] == 0
    assert cluster_of(run) is None and run.state().status == "finished"
