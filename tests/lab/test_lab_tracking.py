"""Tracking: what new drafts begin with, MLflow's pages started and stopped, and each run's page there."""

import json
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

import mlflow_links
import settings
from lab_support import a_run, lab, words
from pianistid_core.config import load_config
from pianistid_core.credentials import with_password
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import TrackingError
from pianistid_core.mlflow_server import MlflowServer, ServerState
from pianistid_core.processes import ProcessIdentity
from pianistid_core.run_index import RunIndex
from settings import TrackingSettings
from tiny import until

PAGE = "views/tracking.py"
SECRET = "http://ada:secret@mlflow.example.org:5000"


def a_server(*, ready: bool = True) -> ServerState:
    me = ProcessIdentity.of()
    assert me is not None
    return ServerState(me, 5055, 1_700_000_000.0, ready)


def test_an_empty_root_is_off_and_stays_untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "nothing"
    at = lab(root, monkeypatch, PAGE)
    assert not at.toggle(key="mlflow_use").value
    assert "No run is mirrored yet" in " ".join(element.value for element in at.subheader)
    assert not root.exists()


def test_new_drafts_begin_as_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = DataRoot(tmp_path / "home", tmp_path / "cache")
    at = lab(root, monkeypatch, PAGE)
    at.toggle(key="mlflow_use").set_value(True).run()
    assert settings.tracking(root) == TrackingSettings(True, None)
    config = load_config("demo.yaml")
    assert settings.with_tracking(config, root).mlflow_cfg.use
    assert settings.with_tracking(config, root).mlflow_cfg.tracking_uri is None
    at.radio(key="mlflow_where").set_value("On a server").run()
    assert "No address yet" in words(at)
    at.text_input(key="mlflow_address").set_value(SECRET).run()
    assert "No address yet" not in words(at)
    assert not at.error
    assert settings.with_tracking(config, root).mlflow_cfg.tracking_uri == SECRET.replace(":secret", "")
    at.toggle(key="mlflow_use").set_value(False).run()
    assert settings.with_tracking(config, root) is config


def test_the_address_of_a_server_is_text_and_no_markdown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = DataRoot(tmp_path / "home", tmp_path / "cache")
    settings.save_tracking(root, TrackingSettings(True, "http://127.0.0.1:5000/*a*_b_"))
    at = lab(root, monkeypatch, PAGE)
    (link,) = (one.proto for one in at.get("link_button") if "5000" in one.proto.label)
    assert r"\*a\*\_b\_" in link.label
    assert link.url == "http://127.0.0.1:5000/*a*_b_"


def test_one_can_go_back_and_forth_between_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = DataRoot(tmp_path / "home", tmp_path / "cache")
    at = lab(root, monkeypatch, PAGE)
    at.toggle(key="mlflow_use").set_value(True).run()
    for _ in range(2):
        at.radio(key="mlflow_where").set_value("On a server").run()
        assert at.radio(key="mlflow_where").value == "On a server"
        assert at.text_input(key="mlflow_address").value == ""
        at.run()
        at.radio(key="mlflow_where").set_value("In this data root").run()
        at.run()
    at.toggle(key="mlflow_use").set_value(False).run()
    at.toggle(key="mlflow_use").set_value(True).run()
    assert at.radio(key="mlflow_where").value == "In this data root"


def test_a_password_is_kept_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = DataRoot(tmp_path / "home", tmp_path / "cache")
    settings.save_tracking(root, TrackingSettings(True, SECRET))
    run = a_run(root.path, "there", "finished")
    run.save_json("mlflow.json", {"run_id": "abc", "experiment_id": "7"})
    text = (run.path / "config.yaml").read_text()
    (run.path / "config.yaml").write_text(text.replace("tracking_uri:", f"tracking_uri: {SECRET} #"))
    at = lab(root, monkeypatch, PAGE)
    shown = words(at) + str([element.proto for element in at.main])
    assert "mlflow.example.org:5000" in shown
    assert "secret" not in shown and "ada" not in at.text_input(key="mlflow_address").value
    at.toggle(key="mlflow_use").set_value(False).run()
    address = settings.tracking(root).address
    assert address is not None and "secret" not in address
    assert with_password(root.checkpoints_dir.parent, address) == SECRET


@pytest.mark.parametrize("address", ["mlflow", "ftp://x", "http://"])
def test_an_address_that_cannot_be_is_said_and_not_kept(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = DataRoot(tmp_path / "home", tmp_path / "cache")
    settings.save_tracking(root, TrackingSettings(True, "http://127.0.0.1:5000"))
    at = lab(root, monkeypatch, PAGE)
    at.text_input(key="mlflow_address").set_value(address).run()
    assert "must begin with http" in words(at)
    assert settings.tracking(root).address == "http://127.0.0.1:5000"
    with pytest.raises(TrackingError, match="http"):
        settings.save_tracking(root, TrackingSettings(True, address))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"tracking": {"use": 1, "address": "file:///etc"}}',
        '{"tracking": 3}',
        "[" * 60_000,
        '{"a":' * 9_000,
    ],
)
def test_a_damaged_settings_file_means_off(text: str, tmp_path: Path) -> None:
    (tmp_path / "lab.json").write_text(text)
    assert settings.tracking(DataRoot(tmp_path)) == TrackingSettings()


def test_mlflow_is_started_and_stopped_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    living: list[ServerState] = []
    ports: list[int | None] = []

    def begin(self: MlflowServer, port: int | None = None, on_wait: Any = None) -> ServerState:
        ports.append(port)
        living.append(a_server())
        return living[0]

    monkeypatch.setattr(MlflowServer, "start", begin)
    monkeypatch.setattr(MlflowServer, "stop", lambda self: bool(living) and bool(living.clear() or True))
    monkeypatch.setattr(MlflowServer, "state", lambda self: living[0] if living else None)
    at = lab(tmp_path / "home", monkeypatch, PAGE)
    at.number_input(key="mlflow_port").set_value(5055).run()
    at.button(key="mlflow_start").click().run()
    until(lambda: bool(living))
    at.run()
    assert not at.exception
    assert ports == [5055]
    assert "http://127.0.0.1:5055" in words(at)
    at.button(key="mlflow_stop").click().run()
    assert living == []
    assert at.button(key="mlflow_start")


def test_a_start_is_waited_for_once_and_can_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[int] = []
    stopped, go = threading.Event(), threading.Event()

    def begin(self: MlflowServer, port: int | None = None, on_wait: Any = None) -> ServerState:
        waits.append(1)
        go.wait(30)
        return a_server(ready=False)  # slow: it has answered, and does not any more

    monkeypatch.setattr(MlflowServer, "start", begin)
    monkeypatch.setattr(MlflowServer, "stop", lambda self: bool(stopped.set()) or True)
    monkeypatch.setattr(MlflowServer, "state", lambda self: None if stopped.is_set() else a_server(ready=False))
    at = lab(tmp_path / "home", monkeypatch, PAGE)
    assert "10 to 60 seconds" in words(at), "one that the lab began before its restart is waited for"
    assert at.button(key="mlflow_stop")
    go.set()
    until(lambda: "does not answer now" in words(at.run()))
    at.button(key="mlflow_look").click().run()
    assert "does not answer now" in words(at)
    assert waits == [1]
    at.button(key="mlflow_stop").click().run()
    assert stopped.is_set()
    assert not at.button(key="mlflow_start").disabled


def test_what_keeps_mlflow_from_starting_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: MlflowServer, port: int | None = None, on_wait: Any = None) -> ServerState:
        raise TrackingError("port 5055 is taken")

    monkeypatch.setattr(MlflowServer, "start", refuse)
    at = lab(tmp_path / "home", monkeypatch, PAGE)
    at.button(key="mlflow_start").click().run()
    until(lambda: bool(at.run().error))
    assert "Port 5055 is taken" in words(at)


def test_each_run_has_a_way_to_its_page_in_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MlflowServer, "state", lambda self: a_server())
    a_run(tmp_path, "without", "finished")
    a_run(tmp_path, "mirrored", "finished").save_json("mlflow.json", {"run_id": "abc", "experiment_id": "7"})
    at = lab(tmp_path, monkeypatch, PAGE)
    assert at.selectbox(key="mlflow_run").options == ["study/mirrored"]
    table = at.dataframe[0].value
    assert list(table["In MLflow"]) == ["http://127.0.0.1:5055/#/experiments/7/runs/abc"]
    monkeypatch.setattr(MlflowServer, "state", lambda self: None)
    at.run()
    assert "Start MLflow above" in words(at)


def test_the_experiment_of_older_runs_is_looked_up_in_the_store(tmp_path: Path) -> None:
    a_run(tmp_path, "older", "finished").save_json("mlflow.json", {"run_id": "abc"})
    (tmp_path / "mlflow").mkdir()
    with sqlite3.connect(tmp_path / "mlflow" / "mlflow.db") as store:
        store.execute("CREATE TABLE runs (run_uuid TEXT, experiment_id INTEGER)")
        store.execute("INSERT INTO runs VALUES ('abc', 3)")
    root, index = DataRoot(tmp_path), RunIndex(tmp_path / "checkpoints")
    mirror = mlflow_links.mirror_of(index.summaries()[0], index, root)
    assert mirror is not None and mirror.experiment_id == "3"
    assert mlflow_links.url_of(mirror, a_server()) == "http://127.0.0.1:5055/#/experiments/3/runs/abc"
    assert mlflow_links.url_of(mirror, None) is None


def test_a_damaged_entry_is_no_entry(tmp_path: Path) -> None:
    (a_run(tmp_path, "broken", "finished").path / "mlflow.json").write_text(json.dumps({"run_id": 3}))
    index = RunIndex(tmp_path / "checkpoints")
    assert mlflow_links.mirror_of(index.summaries()[0], index, DataRoot(tmp_path)) is None
