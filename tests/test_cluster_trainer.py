"""The cluster's end of a run: what it takes, what it gives out, and nothing beyond the run's own folder."""

import errno
import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pianistid_core import cluster_trainer
from pianistid_core.cluster_trainer import RemoteTrainer, travels
from pianistid_core.errors import ClusterError
from pianistid_core.runs import Run
from tiny import until

TRAVELS = (
    "log.txt", "metrics.jsonl", "state.json", "config.yaml", "checkpoint_003.pth", "checkpoint_003_batch_00042.pth",
    "confusion/epoch_005.json", "figures/epoch_005_confusionmatrix.png", "evaluation/test.json", "ablation/test.json",
)  # fmt: skip
STAYS = (
    "", ".", "..", "../evil.json", "figures/../../evil.png", "/etc/passwd.txt", "figures//a.png", "other/a.json",
    "figures/a/b.png", ".hidden.json", "figures/.x.png", "run.py", "noending", "a\n.json", "C:a.json", "a\\b.json",
    "run.json", "place.json", "queued.json", "request.yaml", "labels.json", "exit.json", "lock", "stop", "con.json",
    "~a.json",
)  # fmt: skip


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RemoteTrainer:
    monkeypatch.setattr(cluster_trainer.tempfile, "mkdtemp", lambda prefix: str(tmp_path))
    return RemoteTrainer("study", "one", 0.0, owns_process=False)


def test_what_a_training_leaves_travels() -> None:
    assert [name for name in TRAVELS if not travels(name)] == []


@pytest.mark.parametrize("name", STAYS)
def test_nothing_else_is_read_or_written(trainer: RemoteTrainer, tmp_path: Path, name: str) -> None:
    assert not travels(name)
    for refused in (lambda: trainer.put(name, b"x", 0), lambda: trainer.read(name, 0), lambda: trainer.digest(name)):
        with pytest.raises(ClusterError, match="not a file of a run"):
            refused()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["run.json"]  # its own


@given(st.text(alphabet="ab./\\~: \n\0é-_", max_size=12), st.sampled_from([".json", ".png", ".pth", ""]))
def test_no_name_that_travels_leads_out_of_the_folder(stem: str, ending: str) -> None:
    name = stem + ending
    if travels(name):
        path = Path("/run", name)
        assert path.resolve() == path and path.is_relative_to("/run") and len(path.relative_to("/run").parts) <= 2


def test_a_file_goes_there_and_back_in_pieces(trainer: RemoteTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_trainer, "CHUNK_BYTES", 4)
    trainer.put("checkpoint_001.pth", b"old and longer", 0)
    trainer.put("checkpoint_001.pth", b"new", 0)
    trainer.put("checkpoint_001.pth", b" one", 3)
    pieces = [trainer.read("checkpoint_001.pth", offset) for offset in (0, 4, 8)]
    assert [data for data, _ in pieces] == [b"new ", b"one", b""]
    assert trainer.look().files == {"checkpoint_001.pth": pieces[0][1]} and trainer.look().code is None
    assert trainer.digest("checkpoint_001.pth") == hashlib.sha256(b"new one").hexdigest()
    with pytest.raises(FileNotFoundError):
        trainer.read("metrics.jsonl", 0)


def test_links_and_what_is_not_of_the_run_are_not_offered(trainer: RemoteTrainer, tmp_path: Path) -> None:
    folder = tmp_path / "study" / "one"
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "linked.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "place.json").write_text("{}")
    (folder / "log.txt").write_text("a line")
    assert list(trainer.look().files) == ["log.txt"]


@pytest.mark.parametrize("name", ["..", "a/b", "", ".x"])
def test_a_run_has_a_plain_name(name: str) -> None:
    with pytest.raises(ClusterError, match="name of a run"):
        RemoteTrainer("study", name, 0.0, owns_process=False)


def test_a_machine_without_the_data_says_so_and_trains_nothing(trainer: RemoteTrainer, tmp_path: Path) -> None:
    assert "has no folder /nowhere" in trainer.begin("", "tiny", "/nowhere")
    assert "no split 'tiny'" in trainer.begin("", "tiny", str(tmp_path))
    assert not trainer.begun()


def test_several_gpus_train_one_run_together() -> None:
    one, four = (
        RemoteTrainer("study", "one", 0.5, owns_process=False),
        RemoteTrainer("study", "one", 4.0, owns_process=False),
    )
    assert "torch.distributed.run" not in one._command("/data")
    assert four._command("/data")[2:6] == ["torch.distributed.run", "--standalone", "--nproc-per-node=4", "-m"]
    for trainer in (one, four):
        trainer.close()


def test_a_run_that_asked_for_no_gpu_sees_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    for gpus, seen in ((0.0, ""), (1.0, "0,1")):
        trainer = RemoteTrainer("study", "one", gpus, owns_process=False)
        assert trainer._environment()["CUDA_VISIBLE_DEVICES"] == seen
        trainer.close()


# --- what goes wrong on its machine ---


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.ESTALE])
def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(
    trainer: RemoteTrainer, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    trainer.put("figures/a.png", b"", 0)
    list_folder = os.scandir

    def refuse(path: Path) -> Any:
        if path.name == "figures":
            raise OSError(number, os.strerror(number))
        return list_folder(path)

    assert list(trainer.look().files) == ["figures/a.png"]
    monkeypatch.setattr(cluster_trainer.os, "scandir", refuse)
    with pytest.raises(OSError, match=os.strerror(number)):
        trainer.look()


def test_a_run_whose_folder_is_gone_is_not_one_without_files(trainer: RemoteTrainer, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "study" / "one" / "figures")
    assert trainer.look().files == {}
    shutil.rmtree(tmp_path / "study" / "one")
    with pytest.raises(ClusterError, match=r"the folder of run study/one on .* is gone"):
        trainer.look()


@pytest.mark.parametrize("error", [OSError("no memory"), ValueError("embedded null byte")])
@pytest.mark.parametrize("loggable", [True, False])
def test_whatever_keeps_a_training_from_starting_it_has_ended(
    trainer: RemoteTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, loggable: bool
) -> None:
    folder = tmp_path / "study" / "one"

    def refuse(data_root: str) -> Any:
        if not loggable:
            (folder / "log.txt").mkdir()
        raise error

    monkeypatch.setattr(trainer, "_start", refuse)
    monkeypatch.setattr(cluster_trainer.DataRoot, "split", lambda self, name: None)
    assert trainer.begin("", "tiny", str(tmp_path)) == ""
    until(lambda: trainer.look().code is not None)
    assert trainer.look().code == 1
    if loggable:
        assert str(error) in (folder / "log.txt").read_text()


# --- what nobody asks for ---


def passes(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    later = time.monotonic() + seconds
    monkeypatch.setattr(cluster_trainer, "time", type("Later", (), {"monotonic": staticmethod(lambda: later)}))


def test_a_trainer_that_is_never_told_to_begin_is_given_up(
    trainer: RemoteTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not trainer._is_given_up()
    passes(monkeypatch, 700.0)
    trainer.put("metrics.jsonl", b"", 0)  # as one that is still handed its files
    assert not trainer._is_given_up()
    passes(monkeypatch, 1400.0)
    assert trainer._is_given_up()


def test_a_training_that_nobody_asks_for_stops_and_its_result_waits_a_day(
    trainer: RemoteTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, hours = Run(tmp_path / "study" / "one"), 3600.0
    monkeypatch.setattr(trainer, "_start", lambda data_root: None)
    monkeypatch.setattr(cluster_trainer.DataRoot, "split", lambda self, name: None)

    def wait(process: None) -> int:
        until(lambda: run.stop_request() is not None)
        return 0

    monkeypatch.setattr(trainer, "_wait_for", wait)
    trainer.begin("", "tiny", str(tmp_path))
    passes(monkeypatch, 23 * hours)
    assert not trainer._is_given_up() and run.stop_request() is None
    passes(monkeypatch, 25 * hours)
    assert not trainer._is_given_up() and run.stop_request() == "save"
    until(lambda: trainer._code is not None)
    passes(monkeypatch, 48 * hours)
    assert not trainer._is_given_up()
    passes(monkeypatch, 50 * hours)
    assert trainer._is_given_up()
    trainer.look()
    assert not trainer._is_given_up()
    shutil.rmtree(run.path)
    assert trainer._is_given_up()
