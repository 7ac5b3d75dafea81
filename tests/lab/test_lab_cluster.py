"""Cluster: where runs may be handed to, and the choice on the Build page; no Ray is started here."""

from dataclasses import replace
from pathlib import Path

import pytest

import cached
import jobs
from lab_support import a_run, lab, words
from pianistid_core.cluster import Offer
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import ClusterError
from pianistid_core.places import Cluster, save_cluster, saved_cluster, set_place

ADDRESS = "127.0.0.1:6379"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster_view.is_installed", lambda: True)


PAGE, BUILD = "views/cluster.py", "views/build.py"
GPUS = Cluster(ADDRESS, 2.0, 4, "/data/piano")


@pytest.fixture
def root(demo_root: DataRoot, tmp_path: Path) -> DataRoot:
    """The demo's data with runs and a queue of its own."""
    own = tmp_path / "home"
    own.mkdir()
    for name in ("data", "references"):
        (own / name).symlink_to(demo_root.path / name)
    return DataRoot(own, tmp_path / "cache")


def test_without_ray_one_sentence_says_what_to_install(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster_view.is_installed", lambda: False)
    save_cluster(root, GPUS)
    at = lab(root, monkeypatch, PAGE)
    assert 'pip install "pianistid[ray]"' in "\n".join(str(info.value) for info in at.info)
    assert "cluster_address" not in [text.key for text in at.text_input]
    assert not [group for group in lab(root, monkeypatch, BUILD).button_group if group.key == "where"]


@pytest.mark.usefixtures("installed")
def test_connecting_keeps_the_cluster_and_says_what_it_has(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def offer_of(address: str) -> Offer:
        asked.append(address)
        return Offer(2, 16.0, 1.0, 12.0, 0.0)

    monkeypatch.setattr("cluster_view.offer_of", offer_of)
    at = lab(root, monkeypatch, PAGE)
    at.text_input(key="cluster_address").set_value(f" {ADDRESS} ")
    at.number_input(key="cluster_gpus").set_value(2.0)
    at.number_input(key="cluster_cpus").set_value(4)
    at.button(key="cluster_connect").click().run()
    assert saved_cluster(root) == Cluster(ADDRESS, 2.0, 4, "")
    job = jobs.find(f"cluster:{root.path}:{ADDRESS}")
    assert job is not None and job.finished.wait(20)
    at.run()
    assert asked == [ADDRESS]
    assert "2 machines with 16 CPUs and 1 GPU; 12 CPUs and 0 GPUs free now" in words(at)
    assert "more than the cluster has" in words(at)
    at.button(key="cluster_forget").click().run()
    assert saved_cluster(root) is None and at.text_input(key="cluster_address").value == ""


@pytest.mark.usefixtures("installed")
def test_a_cluster_that_does_not_answer_is_said_in_place(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    def offer_of(address: str) -> Offer:
        raise ClusterError(f"nothing answers at {address}")

    monkeypatch.setattr("cluster_view.offer_of", offer_of)
    save_cluster(root, GPUS)
    at = lab(root, monkeypatch, PAGE)
    at.button(key="cluster_connect").click().run()
    job = jobs.find(f"cluster:{root.path}:{ADDRESS}")
    assert job is not None and job.finished.wait(20)
    assert f"Nothing answers at {ADDRESS}" in words(at.run())
    at.text_input(key="cluster_address").set_value("nonsense")
    at.button(key="cluster_connect").click().run()
    assert "is not the address of a Ray cluster" in words(at)
    assert saved_cluster(root) == GPUS


@pytest.mark.usefixtures("installed")
def test_a_run_is_started_or_queued_where_it_was_chosen(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = cached.run_queue(root)
    queue.pause()
    assert not [group for group in lab(root, monkeypatch, BUILD).button_group if group.key == "where"]
    save_cluster(root, replace(GPUS, data_root=""))
    at = lab(root, monkeypatch, BUILD)
    at.button(key="queue").click().run()
    next(text for text in at.text_input if text.key and text.key.endswith(":run")).set_value("away").run()
    next(group for group in at.button_group if group.key == "where").set_value("The cluster").run()
    assert f"{ADDRESS}, with 2 GPUs and 4 CPUs for each run" in words(at)
    at.button(key="queue").click().run()
    assert f"demo/away is in the queue as number 2 on the cluster at {ADDRESS}" in words(at)
    assert [entry.cluster for entry in queue.entries()] == [None, replace(GPUS, data_root=str(root.path))]
    at.switch_page("views/runs.py")
    at.query_params["view"] = "Queue"
    at.session_state["runs_view"] = "Queue"
    at.run()
    assert f"goes to {ADDRESS} when the queue goes on" in words(at)


def test_a_run_says_where_it_trains_and_what_it_waits_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path, "away", "running", reason="waits for 2 GPUs and 4 CPUs on the cluster")
    set_place(run, GPUS)
    at = lab(tmp_path, monkeypatch, "views/runs.py", run=run.id)
    assert f"Trains on the cluster at {ADDRESS}, with 2 GPUs and 4 CPUs" in words(at)
    shown = [str(one.proto.text).replace("\\", "") for one in at.get("progress")]
    assert "Waits for 2 GPUs and 4 CPUs on the cluster" in shown
