"""Where runs train: what a cluster may be, and what is kept of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import ClusterError
from pianistid_core.places import (
    Cluster,
    RemotePlace,
    checked,
    cluster_from,
    cluster_of,
    cluster_problem,
    keep_place,
    remote_place,
    require_free,
    save_cluster,
    saved_cluster,
    set_place,
)
from pianistid_core.runs import Run

GOOD = Cluster("10.0.0.5:6379", 1.0, 4, "/data/piano")


@pytest.fixture
def root(tmp_path: Path) -> DataRoot:
    return DataRoot(tmp_path / "root", tmp_path / "cache")


@pytest.fixture
def run(root: DataRoot) -> Run:
    return Run.create(root.checkpoints_dir, "study", "one")


@pytest.mark.parametrize("address", ["10.0.0.5:6379", "ray://head:10001", "head.lab_1:6379", "[::1]:6379"])
def test_addresses_of_clusters(address: str) -> None:
    assert cluster_problem(replace(GOOD, address=address)) is None


NO_ADDRESS = [
    *("", "head", "head:", "head:port", "http://head:8265", "ray://head", "a b:1", "u:p@head:1", "head:1/x"),
    *("head:99999", "head\n:6379", "-:0", "x" * 2000 + ":1"),
]


@pytest.mark.parametrize("address", NO_ADDRESS)
def test_what_is_no_address_says_what_is(address: str) -> None:
    assert "give HOST:PORT" in (cluster_problem(replace(GOOD, address=address)) or "")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"gpus": -1.0}, "GPUs cannot"), ({"gpus": 1.5}, "GPUs cannot"), ({"gpus": float("nan")}, "GPUs cannot"),
        ({"gpus": 65.0}, "GPUs cannot"), ({"cpus": 0}, "CPUs cannot"), ({"cpus": 5000}, "CPUs cannot"),
        ({"data_root": "data"}, "full path"), ({"data_root": "/a\nb"}, "full path"),
    ],
)  # fmt: skip
def test_a_share_that_no_run_can_have_is_refused(wrong: dict[str, float], words: str, root: DataRoot) -> None:
    with pytest.raises(ClusterError, match=words):
        checked(replace(GOOD, **wrong), root)  # type: ignore[arg-type]
    with pytest.raises(ClusterError, match=words):
        save_cluster(root, replace(GOOD, **wrong))  # type: ignore[arg-type]
    assert saved_cluster(root) is None


def test_the_data_lies_there_as_here_unless_told(root: DataRoot) -> None:
    assert checked(replace(GOOD, data_root=""), root).data_root == str(root.path)
    assert checked(GOOD, root) == GOOD


def test_a_share_in_words() -> None:
    assert GOOD.in_words() == "1 GPU and 4 CPUs"
    assert replace(GOOD, gpus=0.5, cpus=1).in_words() == "0.5 GPUs and 1 CPU"
    assert replace(GOOD, gpus=0.0).in_words() == "4 CPUs"


def test_a_run_trains_here_until_it_is_sent_away(run: Run) -> None:
    assert remote_place(run) is None and cluster_of(run) is None
    set_place(run, GOOD)
    assert cluster_of(run) == GOOD
    set_place(run, None)
    assert cluster_of(run) is None


def test_a_run_keeps_its_trainer_on_the_same_cluster_unless_it_starts_anew(run: Run) -> None:
    set_place(run, GOOD)
    first = remote_place(run)
    assert first is not None
    keep_place(run, replace(first, machine="gpu-3", log_bytes=7, begun=True))
    set_place(run, replace(GOOD, gpus=2.0))
    assert remote_place(run) == RemotePlace(replace(GOOD, gpus=2.0), first.actor, "gpu-3", 7, True)
    set_place(run, GOOD, anew=True)
    second = remote_place(run)
    assert second is not None and second.actor != first.actor and not second.begun
    set_place(run, replace(GOOD, address="other:6379"))
    assert remote_place(run).actor != second.actor  # type: ignore[union-attr]


def test_a_run_with_a_trainer_on_a_cluster_is_not_started_where_that_is_lost(run: Run, caplog: Any) -> None:
    elsewhere = replace(GOOD, address="other:6379")
    set_place(run, GOOD)
    for cluster in (None, elsewhere, GOOD):
        require_free(run, cluster)
    keep_place(run, replace(remote_place(run), machine="gpu-3", outstanding=True))  # type: ignore[arg-type, type-var]
    require_free(run, replace(GOOD, gpus=2.0))
    for cluster, anew in ((None, False), (elsewhere, False), (GOOD, True)):
        with pytest.raises(ClusterError, match=r"may still train on .*\(gpu-3\); resume it there .* or remove .*place"):
            require_free(run, cluster, anew=anew)
    set_place(run, replace(GOOD, gpus=2.0))
    assert remote_place(run).outstanding  # type: ignore[union-attr]
    run.delete()
    assert "may still train on its cluster" in caplog.text


@pytest.mark.parametrize(
    "said", [{}, {"cluster": None}, {"cluster": {"address": "10.0.0.5:6379"}, "actor": "a"}, {"cluster": 3, "actor": 4}]
)
def test_a_damaged_place_is_none(run: Run, said: dict[str, object]) -> None:
    run.save_json("place.json", said)
    assert remote_place(run) is None


def test_the_cluster_of_a_data_root_is_kept_and_forgotten(root: DataRoot) -> None:
    assert saved_cluster(root) is None
    save_cluster(root, replace(GOOD, data_root=""))
    assert saved_cluster(root) == replace(GOOD, data_root="")
    (root.path / "cluster.json").write_text('{"address": "x", "gpus": 1}')
    assert saved_cluster(root) is None
    save_cluster(root, GOOD)
    save_cluster(root, None)
    assert saved_cluster(root) is None


def test_plain_data_that_describes_no_cluster() -> None:
    good = {"address": "10.0.0.5:6379", "gpus": 1, "cpus": 4, "data_root": "/data/piano"}
    assert cluster_from(good) == GOOD
    for wrong in ({"gpus": True}, {"gpus": "1"}, {"cpus": 1.5}, {"address": "x"}, {"data_root": None}):
        assert cluster_from({**good, **wrong}) is None
    assert cluster_from(None) is None and cluster_from([good]) is None
