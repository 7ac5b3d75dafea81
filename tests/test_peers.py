"""Several processes train one run: as one would, with one that writes, and with an end when one of them is gone."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import torch
from torch.distributed import TCPStore

from pianistid_core import peer_watch
from pianistid_core.checkpoints import read_checkpoint
from pianistid_core.config import RunConfig, to_yaml
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import RunError
from pianistid_core.evaluation import Predictions
from pianistid_core.midi import write_midi
from pianistid_core.peer_watch import PeerError, PeerWatch, is_first, under_torchrun
from pianistid_core.peers import Peers
from pianistid_core.run_config import run_for
from pianistid_core.runs import Run
from pianistid_core.sharing import joined_predictions, no_predictions, refuse_what_cannot_be_shared
from pianistid_core.training import train
from tiny import make_notes, tiny_config, until

TIMES = ("seconds", "clips_per_second", "peak_memory_mb")
LAYERS = [
    {"in_channels": 1, "out_channels": 8, "has_pool": True, "pool_kernel_size": 4},
    {"in_channels": 8, "out_channels": 8, "has_pool": True, "pool_kernel_size": 2},
]
# Batch norm, dropout of channels and of logits, masking, attention with dropout, and a GRU.
MODEL = {"layers": LAYERS, "use_gru": True, "use_masking": True, "use_attention": True, "frame_pool": 50}
# Its steps follow gradients as they are: Adam's make as much of rounding as of anything else where a gradient is 0.
SGD = {"optim_type": "sgd", "optim_cfg": {"lr": 0.05, "momentum": 0.9}}


def peers_config(**changes: Any) -> RunConfig:
    return tiny_config(**{"model_cfg": MODEL, **SGD, **changes})


@pytest.fixture
def tiny_root(tiny_root: DataRoot) -> DataRoot:
    """The tiny data set with a clip that cannot be drawn in training, and one in evaluation: 17 and 5 are left."""
    for track in ("tiny/ada-0", "tiny/ada-3"):
        write_midi(make_notes(1, chord=()), tiny_root.clip_paths(track)[0])
    return tiny_root


def start(root: DataRoot, *arguments: str, processes: int = 2) -> "subprocess.Popen[str]":
    """`pianistid train` under torchrun."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.Popen(
        [*torchrun, "-m", "pianistid_core", "train", "--data-root", str(root.path), *arguments],
        env=os.environ | {"PIANISTID_CACHE": str(root.cache_dir), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_config(root: DataRoot, config: RunConfig, *, processes: int = 2) -> "subprocess.Popen[str]":
    path = root.path / f"{config.run}.yaml"
    path.write_text(to_yaml(config))
    return start(root, "--config", str(path), processes=processes)


def member(torchrun: "subprocess.Popen[str]", rank: int) -> psutil.Process:
    return next(one for one in psutil.Process(torchrun.pid).children() if one.environ()["RANK"] == str(rank))


def numbers(run: Run) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in TIMES} for row in run.metrics()]


def state_of(run: Run) -> dict[str, torch.Tensor]:
    return read_checkpoint(run.latest_checkpoint())["model_state_dict"]  # type: ignore[no-any-return]


def same_result(a: Run, b: Run) -> None:
    ours, theirs = state_of(a), state_of(b)
    assert list(ours) == list(theirs)
    for name, tensor in ours.items():
        torch.testing.assert_close(
            tensor, theirs[name], rtol=1e-4, atol=1e-5, msg=lambda text, at=name: f"{at}: {text}"
        )
    for one, other in zip(numbers(a), numbers(b), strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert value == (pytest.approx(other[key], rel=1e-4) if isinstance(value, float) else other[key]), key
    ours_valid, theirs_valid = (run.read_json("evaluation/validation.json") or {} for run in (a, b))
    assert ours_valid["n_clips"] == theirs_valid["n_clips"] == 5 and ours_valid["skipped"] == theirs_valid["skipped"]
    for one, other in zip(ours_valid["confusion"]["recordings"], theirs_valid["confusion"]["recordings"], strict=True):
        assert one == other | {"probability": pytest.approx(other["probability"], rel=1e-3)}


def test_two_processes_train_as_one_and_only_the_first_writes(tiny_root: DataRoot) -> None:
    clips = {"multichannel": True, "data_augmentation": True, "jitter_start": True, "n_clips": 16}
    # Batches of 5, 5, 5 and 1: of the last, one process has nothing.
    one, two = (peers_config(run=name, train_dataset_cfg=clips) for name in ("one", "two"))
    torchrun = start_config(tiny_root, two)
    alone = run_for(one, tiny_root)
    train(one, tiny_root, alone)
    out, err = torchrun.communicate()
    assert torchrun.returncode == 0, err
    together = run_for(two, tiny_root)
    same_result(together, alone)
    rows = together.metrics()
    assert [row["epoch"] for row in rows] == [1, 2] and rows[0]["skipped"] == 1 == rows[0]["test_skipped"]
    assert sorted(path.name for path in together.path.rglob("*")) == sorted(path.name for path in alone.path.rglob("*"))
    log = (together.path / "log.txt").read_text()
    assert log.count("epoch 1/2:") == 1 == err.count("epoch 1/2:") and out.count("run tests/two finished") == 1
    assert together.state().status == "finished" and "cpu and 1 more" in log


@pytest.mark.slow
def test_a_request_stops_all_at_one_batch_and_another_number_of_processes_goes_on(tiny_root: DataRoot) -> None:
    config = peers_config(run="cut", epochs=30, checkpoint_cfg={"checkpoint_after_n_epochs": 100})
    torchrun, run = start_config(tiny_root, config), run_for(config, tiny_root)
    until(lambda: bool(run.metrics()) or torchrun.poll() is not None)
    run.request_stop("save")
    _, err = torchrun.communicate()
    assert torchrun.returncode == 0 and run.state().status == "stopped", err
    [cut] = run.checkpoints()
    epochs = run.state().epoch + 1
    torchrun = start(tiny_root, "--resume", run.id, "--set", f"epochs={epochs}", processes=3)
    whole = peers_config(run="whole", epochs=epochs)
    train(whole, tiny_root, run_for(whole, tiny_root))
    _, err = torchrun.communicate()
    assert torchrun.returncode == 0 and run.state().status == "finished", err
    assert f"checkpoint {cut.name}" in run.log_tail() and "going on after" in run.log_tail()
    same_result(run, run_for(whole, tiny_root))


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_when_a_process_is_killed_the_others_end_and_say_so(tiny_root: DataRoot, rank: int) -> None:
    config = peers_config(run="killed", epochs=500)
    torchrun, run = start_config(tiny_root, config), run_for(config, tiny_root)
    until(lambda: bool(run.metrics()) or torchrun.poll() is not None)
    others = psutil.Process(torchrun.pid).children(recursive=True)
    member(torchrun, rank).kill()
    torchrun.communicate(timeout=60)
    assert torchrun.returncode != 0 and not psutil.wait_procs(others, timeout=10)[1]
    state, failure = run.state(), run.failure()
    assert (
        state.status == "failed" and state.reason == f"a process of this training died (rank {rank}); resume to go on"
    )
    assert failure is not None and failure.kind == "killed"
    assert len(run.checkpoints()) >= 1
    # What is left can be gone on with, by one process as well.
    goes_on = peers_config(run="killed", epochs=run.state().epoch + 1)
    assert train(goes_on, tiny_root, run).status == "finished"


def test_a_run_that_is_being_trained_is_refused_in_one_sentence(tiny_root: DataRoot) -> None:
    config, seen = peers_config(run="busy", epochs=1), []

    def start_another(phase: str, done: int, total: int) -> None:
        if phase == "train" and not seen:
            seen.append(start_config(tiny_root, config).communicate())

    run = run_for(config, tiny_root)
    train(config, tiny_root, run, on_progress=start_another)
    assert seen[0][1].count("already being trained") == 1 and run.state().status == "finished"


def test_an_error_of_one_process_ends_all_with_its_words(tiny_root: DataRoot) -> None:
    config = peers_config(run="wild", optim_cfg={"lr": 10, "weight_decay": 1.0}, epochs=40)
    torchrun = start_config(tiny_root, config)
    torchrun.communicate(timeout=100)
    state, failure = run_for(config, tiny_root).state(), run_for(config, tiny_root).failure()
    assert torchrun.returncode != 0 and state.status == "failed" and "lower optim_cfg.lr" in state.reason
    assert failure is not None and failure.kind == "loss is not a number"


def test_background_is_refused_under_torchrun(
    tiny_root: DataRoot, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pianistid_core.__main__ import main

    for name, value in environment(0, 2).items():
        monkeypatch.setenv(name, value)
    assert main(["train", "--config", "demo.yaml", "--background", "--data-root", str(tiny_root.path)]) == 1
    assert "--background" in capsys.readouterr().err and not tiny_root.checkpoints_dir.exists()


# --- who the peers are -----------------------------------------------------------------------------------------------


def environment(rank: object, world: object) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "1",
    }


def test_torchrun_says_who_a_process_is() -> None:
    peers = Peers.from_environment(environment(1, 3))
    assert (peers.rank, peers.world, peers.local_rank, peers.first, peers.many) == (1, 3, 1, False, True)
    assert Peers.from_environment({"RANK": "1"}) == Peers.alone() and Peers.alone().first and not Peers.alone().many
    assert not under_torchrun({}) and is_first({}) and not is_first(environment(1, 2)) and is_first(environment(0, 2))


@pytest.mark.parametrize(("rank", "world"), [("x", 2), (2, 2), (-1, 2)])
def test_an_environment_that_contradicts_itself_is_refused(rank: object, world: object) -> None:
    with pytest.raises(RunError, match="torchrun's environment"):
        Peers.from_environment(environment(rank, world))


def test_each_process_has_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert Peers(1, 2, 1).device("auto") == torch.device("cuda", 1) and Peers(1, 2, 1).device("cpu").type == "cpu"
    with pytest.raises(RunError, match="one GPU for 2 processes"):
        Peers(1, 2, 1).device("cuda:0")
    with pytest.raises(RunError, match="which has 2"):
        Peers(2, 3, 2).device("cuda")


def test_what_compares_all_clips_of_a_batch_is_refused() -> None:
    triplet = tiny_config(loss_type="cce+triplet")
    refuse_what_cannot_be_shared(triplet, Peers.alone())
    with pytest.raises(RunError, match="one process, or with loss_type: cce"):
        refuse_what_cannot_be_shared(triplet, Peers(0, 2, 0))


def test_predictions_are_joined_in_the_order_of_the_clips() -> None:
    def of(clips: list[int], loss: float, skipped: tuple[tuple[int, str], ...] = ()) -> Predictions:
        ids = torch.tensor(clips).numpy()
        return Predictions(torch.eye(9)[clips].double().numpy(), ids % 3, ids // 2, ids, loss, skipped)

    joined = joined_predictions(
        [of([0, 1, 5], 1.0, ((7, "no chords"),)), no_predictions([(3, "no notes")], 9), of([2], 3.0)]
    )
    assert joined.clips.tolist() == [0, 1, 2, 5] == joined.probabilities.argmax(axis=1).tolist()
    assert joined.labels.tolist() == [0, 1, 2, 2] and joined.recordings.tolist() == [0, 0, 1, 2]
    assert joined.loss == pytest.approx(1.5) and joined.skipped == ((3, "no notes"), (7, "no chords"))


# --- whether they live -----------------------------------------------------------------------------------------------


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[TCPStore]:
    monkeypatch.setattr(peer_watch, "BEAT_EVERY_S", 0.01)
    yield TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)


def watches(store: TCPStore) -> tuple[PeerWatch, PeerWatch]:
    one, other = (PeerWatch(store.clone(), rank, 2, lambda loss: None) for rank in (0, 1))
    one.start()
    other.start()
    return one, other


def test_a_process_that_ends_well_is_not_missed(store: TCPStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_watch, "SILENT_AFTER_BEATS", 5)
    one, other = watches(store)
    other.end()
    assert one.loss(0.5) is None
    one.check()
    one.end()


def test_a_process_that_fails_is_heard(store: TCPStore) -> None:
    one, other = watches(store)
    other.end("the disk is full", "disk full")
    loss = one.loss(30)
    one.end()
    assert loss is not None and str(loss).startswith("the disk is full") and loss.kind == "disk full" and not loss.died
    with pytest.raises(PeerError, match="process 1"):
        one.check()


def test_a_silent_process_counts_as_dead(store: TCPStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_watch, "SILENT_AFTER_BEATS", 5)
    one = PeerWatch(store.clone(), 0, 2, lambda loss: None)
    store.set("peer/1", peer_watch.Beat("another machine", None).to_json())
    one.start()
    loss = one.loss(30)
    one.end()
    assert loss is not None and loss.died and loss.rank == 1


def test_a_process_that_cannot_get_out_of_its_waiting_is_ended(
    store: TCPStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_watch, "GRACE_S", 0.01)
    ended, said = threading.Event(), []
    monkeypatch.setattr(peer_watch.os, "_exit", lambda code: ended.set())
    one = PeerWatch(store.clone(), 0, 2, said.append)
    store.set("peer/1", peer_watch.Beat("here", None, end="out of memory").to_json())
    one.start()
    assert ended.wait(30) and "out of memory" in str(said[0])
    one.end()
