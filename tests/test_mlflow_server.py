"""MLflow's pages from a data root: a real server is started, found again and stopped; and what may be in the way."""

import json
import os
import socket
import sys
import urllib.request
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from pianistid_core import mlflow_server
from pianistid_core.errors import TrackingError
from pianistid_core.mlflow_server import HOST, MlflowServer
from pianistid_core.mlflow_store import local_store
from pianistid_core.processes import ProcessIdentity
from pianistid_core.tracking import address_problem, open_tracker, without_password
from pianistid_core.training_options import MlflowOptions


def listening_addresses(pid: int) -> set[str]:
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return {
        connection.laddr.ip
        for process in family
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }


def test_a_real_server_is_started_found_again_and_stopped(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    root = tmp_path / "a root"
    server = MlflowServer(root)
    assert server.state() is None
    waited: list[float] = []
    try:
        started = server.start(on_wait=waited.append)
        assert started.ready and started.process.alive()
        assert waited and all(0 <= share <= 1 for share in waited)
        with urllib.request.urlopen(started.url, timeout=20) as page:
            assert b"<title>MLflow</title>" in page.read()
        assert listening_addresses(started.process.pid) == {HOST}
        assert os.getsid(started.process.pid) == started.process.pid, "it must outlive the lab's terminal"

        again = MlflowServer(root)
        assert again.state() == started
        assert again.start() == started, "a second start finds the first"

        family = [psutil.Process(started.process.pid), *psutil.Process(started.process.pid).children(recursive=True)]
        assert again.stop()
        assert psutil.wait_procs(family, timeout=10)[1] == []
        assert server.state() is None
        assert not server.stop(), "there is none any more"
    finally:
        server.stop()


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(TrackingError, match=f"port {port} is taken"):
            MlflowServer(tmp_path).start(port)


def test_without_mlflow_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_server, "find_spec", lambda name: None)
    with pytest.raises(TrackingError, match="pip install mlflow"):
        MlflowServer(tmp_path).start()


def test_a_server_that_dies_says_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    (tmp_path / "mlflow" / "mlflow.db").mkdir(parents=True)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(TrackingError, match="MLflow ended"):
        MlflowServer(tmp_path).start()
    assert MlflowServer(tmp_path).state() is None


def test_a_record_of_another_process_is_no_server_and_is_never_signalled(tmp_path: Path) -> None:
    server = MlflowServer(tmp_path)
    server.folder.mkdir()
    me = ProcessIdentity.of()
    assert me is not None
    stranger = ProcessIdentity(me.pid, "1", me.boot)
    record = {"process": asdict(stranger), "port": 5000, "started": 0.0}
    (server.folder / "server.json").write_text(json.dumps(record))
    assert server.state() is None
    assert not server.stop()
    (server.folder / "server.json").write_text("not json")
    assert server.state() is None


def test_a_root_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    (tmp_path / "mlflow").write_text("a file in its place")
    with pytest.raises(TrackingError, match="cannot be started"):
        MlflowServer(tmp_path).start()


def test_the_experiment_of_a_run_is_known(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    tracker = open_tracker(
        MlflowOptions(use=True), root_path=tmp_path, experiment="study", run_name="first", parameters={}
    )
    assert tracker.run_id is not None
    assert tracker.experiment_id is not None
    store = local_store(tmp_path)
    assert store.experiment_of(tracker.run_id) == tracker.experiment_id
    assert store.experiment_of("no such run") is None
    assert local_store(tmp_path / "elsewhere").experiment_of(tracker.run_id) is None


@pytest.mark.parametrize("address", ["http://127.0.0.1:5000", "https://user:secret@mlflow.example.org/base"])
def test_addresses_that_can_be(address: str) -> None:
    assert address_problem(address) is None
    assert "secret" not in without_password(address)


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1:5000", "ftp://host", "http://", "http://host:notaport", "http://a b"]
)
def test_addresses_that_cannot_be_are_told_what_is_allowed(address: str) -> None:
    assert "http://127.0.0.1:5000" in (address_problem(address) or "")
