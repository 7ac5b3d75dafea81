"""The cluster's end of a run: what it takes, what it gives out, and nothing beyond the run's own folder."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pianistid_core import cluster_trainer
from pianistid_core.cluster_trainer import RemoteTrainer, travels
from pianistid_core.errors import ClusterError

TRAVELS = (
    "log.txt", "metrics.jsonl", "state.json", "config.yaml", "checkpoint_003.pth", "checkpoint_003_batch_00042.pth",
    "confusion/epoch_005.json", "figures/epoch_005_confusionmatrix.png", "evaluation/test.json", "ablation/test.json",
)  # fmt: skip
STAYS = (
    "", ".", "..", "../evil.json", "figures/../../evil.png", "/etc/passwd.txt", "figures//a.png", "other/a.json",
    "figures/a/b.png", ".hidden.json", "figures/.x.png", "run.py", "noending", "a\n.json", "C:a.json", "a\\b.json",
    "place.json", "queued.json", "request.yaml", "labels.json", "exit.json", "lock", "stop", "con.json", "~a.json",
)  # fmt: skip


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RemoteTrainer:
    monkeypatch.setattr(cluster_trainer.tempfile, "mkdtemp", lambda prefix: str(tmp_path))
    return RemoteTrainer("study", "one", 0.0)


def test_what_a_training_leaves_travels() -> None:
    assert [name for name in TRAVELS if not travels(name)] == []


@pytest.mark.parametrize("name", STAYS)
def test_nothing_else_is_read_or_written(trainer: RemoteTrainer, tmp_path: Path, name: str) -> None:
    assert not travels(name)
    for refused in (lambda: trainer.put(name, b"x", 0), lambda: trainer.read(name, 0), lambda: trainer.digest(name)):
        with pytest.raises(ClusterError, match="not a file of a run"):
            refused()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


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
        RemoteTrainer("study", name, 0.0)


def test_a_machine_without_the_data_says_so_and_trains_nothing(trainer: RemoteTrainer, tmp_path: Path) -> None:
    assert "has no folder /nowhere" in trainer.begin("", "tiny", "/nowhere")
    assert "no split 'tiny'" in trainer.begin("", "tiny", str(tmp_path))
    assert not trainer.begun()


def test_several_gpus_train_one_run_together() -> None:
    one, four = RemoteTrainer("study", "one", 0.5), RemoteTrainer("study", "one", 4.0)
    assert "torch.distributed.run" not in one._command("/data")
    assert four._command("/data")[2:6] == ["torch.distributed.run", "--standalone", "--nproc-per-node=4", "-m"]
    for trainer in (one, four):
        trainer.close()


def test_a_run_that_asked_for_no_gpu_sees_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    for gpus, seen in ((0.0, ""), (1.0, "0,1")):
        trainer = RemoteTrainer("study", "one", gpus)
        assert trainer._environment()["CUDA_VISIBLE_DEVICES"] == seen
        trainer.close()
