"""The MLflow mirror: the local store, a real server, and every way in which one can be missing."""

import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pianistid_core.mlflow_store import local_store
from pianistid_core.processes import ProcessIdentity
from pianistid_core.tracking import Tracker, open_tracker
from pianistid_core.training_options import MlflowOptions

PARAMETERS = {"epochs": 3, "optim_cfg.lr": 0.01, "sched_type": None, "model_cfg.layers": [3, 4, 6, 3]}
ROW = {"epoch": 1, "train_loss": 1.5, "test_recording_accuracy": 0.25, "skipped_reasons": {"no chords": 2}, "lr": None}

# What each of several processes does at the same time on a data root without a store.
ONE_RUN = """
import sys
from pathlib import Path
from pianistid_core.tracking import open_tracker
from pianistid_core.training_options import MlflowOptions
tracker = open_tracker(MlflowOptions(use=True), root_path=Path(sys.argv[1]), experiment="race", run_name=sys.argv[2],
                       parameters={"number": int(sys.argv[2])})
tracker.log_epoch({"train_loss": 1.0}, 1)
print(tracker.run_id, tracker.problem)
"""


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undoes what opening a tracker sets in the environment."""
    for name in (
        "MLFLOW_DISABLE_TELEMETRY",
        "DO_NOT_TRACK",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
        "MLFLOW_HTTP_REQUEST_TIMEOUT",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT",
        "MLFLOW_LOGGING_LEVEL",
        "MLFLOW_TRACKING_URI",
    ):
        monkeypatch.setenv(name, "to be undone")
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def local_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root whose store was made by three processes at once."""
    root = tmp_path_factory.mktemp("a root") / "not made yet"
    command = [sys.executable, "-c", ONE_RUN, str(root)]
    started = [subprocess.Popen([*command, str(i)], stdout=subprocess.PIPE, text=True) for i in range(3)]
    for process in started:
        printed, _ = process.communicate(timeout=200)
        assert process.returncode == 0
        assert printed.split()[1] == "None", printed
    return root


@dataclass(frozen=True)
class Server:
    """A running `mlflow server`."""

    uri: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """Kills it and its workers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def server(local_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real `mlflow server` on a free port, with a store of its own (copied, since making one takes MLflow 10 s)."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(local_root / "mlflow" / "mlflow.db", folder / "store.db")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/store.db", "--artifacts-destination", str(folder / "files")]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    with (folder / "log.txt").open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=environment, cwd=folder, start_new_session=True
        )
    uri = f"http://127.0.0.1:{port}"
    try:
        for _ in range(1200):
            if process.poll() is not None or answers(uri):
                break
            threading.Event().wait(0.1)
        assert process.poll() is None and answers(uri), (folder / "log.txt").read_text()
        yield Server(uri, process)
    finally:
        Server(uri, process).kill()


def answers(uri: str) -> bool:
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def client_of(uri: str | Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri if isinstance(uri, str) else f"sqlite:///{uri}/mlflow/mlflow.db")


def open_at(root: Path, uri: str | None = None, **changes: Any) -> Tracker:
    options = MlflowOptions(use=True, tracking_uri=uri, run_id=changes.pop("run_id", None))
    wanted = {"root_path": root, "experiment": "jazz", "run_name": "first", "parameters": PARAMETERS, **changes}
    return open_tracker(options, **wanted)


def test_several_processes_make_one_store_and_all_their_runs_are_in_it(local_root: Path) -> None:
    client = client_of(local_root)
    experiment = client.get_experiment_by_name("race")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.params["number"] for run in runs) == ["0", "1", "2"]
    assert {path.name for path in (local_root / "mlflow").iterdir()} == {"mlflow.db", ".mlflow.db.lock"}


@pytest.mark.parametrize("place", ["local", "server"])
def test_a_run_is_logged_whole(
    place: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = request.getfixturevalue("local_root") if place == "local" else tmp_path
    uri = request.getfixturevalue("server").uri if place == "server" else None
    monkeypatch.chdir(tmp_path)
    figure, model = tmp_path / "epoch_001_confusionmatrix.png", tmp_path / "checkpoint_003.pth"
    figure.write_bytes(b"a picture")
    model.write_bytes(b"a model")

    tracker = open_at(
        root, uri, experiment=place, parameters={**PARAMETERS, "mlflow_cfg.tracking_uri": "http://me:secret@host"}
    )
    tracker.log_epoch(ROW, 1)
    tracker.log_epoch({"train_loss": 1.0, "test_loss": float("nan")}, 2)
    tracker.log_figure(figure)
    tracker.log_model(model)
    tracker.log_artifact(tmp_path / "is not there")
    tracker.end("FINISHED")

    assert tracker.problem is None and tracker.run_id is not None
    client = client_of(uri or root)
    run = client.get_run(tracker.run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "first")
    assert run.data.params == {
        "epochs": "3",
        "optim_cfg.lr": "0.01",
        "sched_type": "null",
        "model_cfg.layers": "[3, 4, 6, 3]",
    }
    assert run.data.metrics == {"train_loss": 1.0, "test_recording_accuracy": 0.25}
    history = client.get_metric_history(tracker.run_id, "train_loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 1.5), (2, 1.0)]
    assert [file.path for file in client.list_artifacts(tracker.run_id, "figures")] == [f"figures/{figure.name}"]
    assert [file.path for file in client.list_artifacts(tracker.run_id, "model")] == [f"model/{model.name}"]
    if place == "local":
        kept = root / "mlflow" / "artifacts" / tracker.run_id / "artifacts" / "model" / model.name
        assert kept.read_bytes() == b"a model"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([figure.name, model.name])


def test_a_resumed_run_goes_on_in_its_own_entry(local_root: Path) -> None:
    first = open_at(local_root)
    first.log_epoch(ROW, 1)
    first.end("KILLED")
    client = client_of(local_root)
    assert client.get_run(first.run_id).info.status == "KILLED"

    second = open_at(local_root, saved_run_id=first.run_id, parameters={**PARAMETERS, "epochs": 5, "new": True})
    assert second.run_id == first.run_id
    during = client.get_run(first.run_id)
    assert during.info.status == "RUNNING"
    assert during.data.params["epochs"] == "3" and during.data.params["new"] == "true"
    assert during.data.tags["resumed.epochs"] == "5"
    second.log_epoch(ROW, 2)
    second.end("FINISHED")
    third = open_at(local_root, run_id=first.run_id, saved_run_id="of no run")
    assert third.run_id == first.run_id
    third.end("FINISHED")
    assert client.get_run(first.run_id).info.status == "FINISHED"
    assert len(client.get_metric_history(first.run_id, "train_loss")) == 2


def test_a_saved_entry_that_is_gone_is_made_anew_and_a_wrong_one_is_told(
    local_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    anew = open_at(local_root, saved_run_id="0123456789abcdef0123456789abcdef")
    assert anew.problem is None and anew.run_id not in (None, "0123456789abcdef0123456789abcdef")
    anew.end("FINISHED")
    wrong = open_at(local_root, run_id="0123456789abcdef0123456789abcdef")
    assert wrong.run_id is None and "correct mlflow_cfg.run_id" in (wrong.problem or "")
    assert len(caplog.records) == 1


def test_an_entry_whose_process_vanished_is_ended_by_the_next_run(local_root: Path) -> None:
    vanished = open_at(local_root, experiment="abandoned")
    alive = open_at(local_root, experiment="abandoned")
    client = client_of(local_root)
    here = ProcessIdentity.of()
    assert here is not None
    client.set_tag(vanished.run_id, "pianistid.process", f"{here.pid} {here.started}0")
    open_at(local_root, experiment="abandoned").end("FINISHED")
    assert client.get_run(vanished.run_id).info.status == "KILLED"
    assert client.get_run(alive.run_id).info.status == "RUNNING"


def test_a_deleted_experiment_is_told(local_root: Path) -> None:
    tracker = open_at(local_root, experiment="doomed")
    client = client_of(local_root)
    client.delete_experiment(client.get_experiment_by_name("doomed").experiment_id)
    tracker.log_epoch(ROW, 1)
    assert "deleted" in (open_at(local_root, experiment="doomed").problem or "")


def test_without_use_nothing_happens(tmp_path: Path) -> None:
    tracker = open_tracker(MlflowOptions(), root_path=tmp_path, experiment="a", run_name="b", parameters={})
    tracker.log_epoch(ROW, 1)
    tracker.log_model(tmp_path / "c")
    tracker.end("FINISHED")
    assert (tracker.run_id, tracker.problem, list(tmp_path.iterdir())) == (None, None, [])


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("http://me:secret@127.0.0.1:{closed}", "nothing listens"),
        ("http://127.0.0.1:{silent}", "no answer within 1 s"),
        ("gopher://127.0.0.1", "unsupported URI"),
        ("sqlite:///{file}/mlflow.db", "cannot be used"),
    ],
)
def test_a_store_that_cannot_be_used_is_told_once_and_costs_nothing(
    uri: str, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.socket() as silent, socket.socket() as closed:
        for one in (silent, closed):
            one.bind(("127.0.0.1", 0))
        silent.listen(8)
        ports = {"silent": silent.getsockname()[1], "closed": closed.getsockname()[1]}
        address = uri.format(**ports, file=__file__)
        tracker = open_at(tmp_path, address)
        tracker.log_epoch(ROW, 1)
        tracker.end("FINISHED")
    told = [record.getMessage() for record in caplog.records if record.name.startswith("pianistid_core")]
    assert tracker.run_id is None and told == [tracker.problem]
    assert reason in told[0] and "the run goes on" in told[0] and "secret" not in told[0] and "\n" not in told[0]


def test_a_root_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "mlflow").write_text("a file where the folder should be")
    assert "cannot be used" in (open_at(tmp_path).problem or "")


def test_nothing_is_sent_to_the_makers_of_mlflow_and_patience_is_short(tmp_path: Path) -> None:
    open_at(tmp_path, "http://127.0.0.1:1")
    from mlflow.telemetry.utils import is_telemetry_disabled

    assert is_telemetry_disabled()
    assert (
        int(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]) * (1 + int(os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"])) < 10
    )


def test_mlflow_that_is_not_installed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert "not installed" in (open_at(tmp_path).problem or "")


class FlakyClient:
    """Stands in for a server that dies and comes back."""

    def __init__(self) -> None:
        self.down = False
        self.got: list[Any] = []

    def _take(self, what: Any) -> None:
        if self.down:
            raise ConnectionResetError("peer")
        self.got.append(what)

    def log_batch(self, run_id: str, metrics: Any) -> None:
        self._take([(metric.key, metric.value, metric.step) for metric in metrics])

    def get_metric_history(self, run_id: str, key: str) -> list[Any]:
        if self.down:
            raise ConnectionResetError("peer")
        return [SimpleNamespace(step=step) for batch in self.got for name, _, step in batch if name == key]

    def log_artifact(self, run_id: str, path: str, folder: str | None) -> None:
        self._take((folder, Path(path).name))

    def set_terminated(self, run_id: str, status: str) -> None:
        self._take(status)


def test_a_server_that_dies_costs_one_warning_and_one_that_returns_gets_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for name in ("a.png", "kept.pth", "replaced.pth"):
        (tmp_path / name).write_bytes(b"")
    client = FlakyClient()
    tracker = Tracker(client, "id", where="http://there")
    tracker.log_epoch({"train_loss": 3.0}, 1)
    client.down = True
    tracker.log_epoch({"train_loss": 2.0}, 2)
    tracker.log_figure(tmp_path / "a.png")
    tracker.log_model(tmp_path / "replaced.pth")
    tracker.log_model(tmp_path / "kept.pth")
    (tmp_path / "replaced.pth").unlink()
    assert "the connection broke off" in (tracker.problem or "")
    assert len(caplog.records) == 1
    client.down = False
    tracker.end("FINISHED")
    assert tracker.problem is None and "answers again" in caplog.records[-1].getMessage()
    assert client.got == [
        [("train_loss", 3.0, 1)],
        [("train_loss", 2.0, 2)],
        ("figures", "a.png"),
        ("model", "kept.pth"),
        "FINISHED",
    ]


def test_epochs_that_could_not_be_asked_for_at_first_are_sent_once() -> None:
    client = FlakyClient()
    Tracker(client, "id", where="http://there").log_epoch({"train_loss": 3.0}, 1)
    client.down = True
    tracker = Tracker(client, "id", where="http://there")
    tracker.remember_epochs()
    for epoch in (1, 2):
        tracker.log_epoch({"train_loss": 3.0}, epoch)
    client.down = False
    tracker.end("FINISHED")
    assert client.got == [[("train_loss", 3.0, 1)], [("train_loss", 3.0, 2)], "FINISHED"]


def test_a_server_that_stays_dead_costs_a_warning_and_one_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    client = FlakyClient()
    client.down = True
    tracker = Tracker(client, "id", where="http://there")
    tracker.log_epoch(ROW, 1)
    tracker.log_epoch(ROW, 2)
    assert len(caplog.records) == 1
    tracker.end("KILLED")
    last = caplog.records[-1].getMessage()
    assert tracker.problem is not None and len(caplog.records) == 2
    assert "did not get the rest" in last and "the connection broke off" in last


def test_an_entry_whose_process_vanished_is_ended_without_mlflow(local_root: Path) -> None:
    vanished, alive = open_at(local_root, experiment="vanished"), open_at(local_root, experiment="vanished")
    elsewhere, other = open_at(local_root, experiment="vanished"), open_at(local_root, experiment="others")
    client = client_of(local_root)
    here = ProcessIdentity.of()
    assert here is not None
    gone = f"{here.pid} {here.started}0"
    for tracker in (vanished, elsewhere, other):
        client.set_tag(tracker.run_id, "pianistid.process", gone)
    client.set_tag(elsewhere.run_id, "pianistid.machine", "another")
    store = local_store(local_root)
    assert store.end_abandoned() == 2 and store.end_abandoned() == 0
    said = [client.get_run(tracker.run_id).info.status for tracker in (vanished, other, alive, elsewhere)]
    assert said == ["KILLED", "KILLED", "RUNNING", "RUNNING"]
    assert client.get_run(vanished.run_id).info.end_time > 0
    assert store.end(str(alive.run_id), "FAILED") and not store.end(str(alive.run_id), "KILLED")
    assert client.get_run(alive.run_id).info.status == "FAILED"
    store.end(str(elsewhere.run_id), "FAILED")


def test_epochs_that_an_entry_has_are_not_sent_again(local_root: Path) -> None:
    first = open_at(local_root, experiment="twice")
    first.log_epoch(ROW, 1)
    second = open_at(local_root, experiment="twice", saved_run_id=first.run_id)
    second.remember_epochs()
    for epoch in (1, 2, 2):
        second.log_epoch(ROW, epoch)
    second.end("FINISHED")
    history = client_of(local_root).get_metric_history(first.run_id, "train_loss")
    assert [metric.step for metric in history] == [1, 2]


@pytest.mark.slow
def test_a_store_of_an_earlier_mlflow_is_brought_up(tmp_path: Path) -> None:
    import sqlalchemy
    from alembic import command
    from mlflow.store.db.utils import InitialBase, _get_alembic_config

    database = tmp_path / "mlflow" / "mlflow.db"
    database.parent.mkdir()
    engine = sqlalchemy.create_engine(f"sqlite:///{database}")
    InitialBase.metadata.create_all(engine)
    config = _get_alembic_config(str(engine.url))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "451aebb31d03")
        connection.execute(sqlalchemy.text("INSERT INTO experiments VALUES (7, 'old', 'file:///x', 'active')"))
    engine.dispose()
    tracker = open_at(tmp_path, experiment="new")
    tracker.end("FINISHED")
    assert tracker.problem is None
    assert client_of(tmp_path).get_experiment("7").name == "old"
    assert (tmp_path / "mlflow" / "mlflow-before-451aebb31d03.db").is_file()


def test_a_real_server_that_dies_later_does_not_cost_the_run(server: Server, tmp_path: Path) -> None:
    """Last in this file: it kills the server."""
    tracker = open_at(tmp_path, server.uri, experiment="on the server")
    assert tracker.problem is None
    client = client_of(server.uri)
    assert json.loads(client.get_run(tracker.run_id).data.params["epochs"]) == 3
    server.kill()
    tracker.log_epoch(ROW, 1)
    assert "MLflow at" in (tracker.problem or "")
    tracker.end("FINISHED")
