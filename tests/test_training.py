"""Training: it learns, it leaves what it promises, and an interrupted run equals an uninterrupted one."""

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pianistid_core.checkpoints import read_checkpoint
from pianistid_core.config import RunConfig, load_config, to_yaml
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import CheckpointError, DataError, MidiError, PianistIDError, RunError, SplitError
from pianistid_core.midi import write_midi
from pianistid_core.processes import ProcessIdentity
from pianistid_core.run_config import run_for
from pianistid_core.runs import Run
from pianistid_core.training import train
from tiny import PIANISTS, make_notes, tiny_config, until

TIMES = ("seconds", "clips_per_second", "peak_memory_mb")


def numbers(run: Run) -> list[dict[str, Any]]:
    """The metrics of a run without what depends on the clock."""
    return [{key: value for key, value in row.items() if key not in TIMES} for row in run.metrics()]


def weights(run: Run) -> dict[str, torch.Tensor]:
    return read_checkpoint(run.latest_checkpoint())["model_state_dict"]  # type: ignore[no-any-return]


def same_weights(a: Run, b: Run) -> bool:
    ours, theirs = weights(a), weights(b)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def trained(root: DataRoot, config: RunConfig, **settings: Any) -> Run:
    run = run_for(config, root)
    train(config, root, run, **settings)
    return run


def stop_at(run: Run, phase: str, batch: int, kind: str = "save", *, visit: int = 1) -> Any:
    """A progress callback that asks a run to stop at the `visit`-th time that a batch of a phase is done."""
    visits = 0

    def on_progress(seen: str, done: int, total: int) -> None:
        nonlocal visits
        visits += (seen, done) == (phase, batch)
        if (seen, done) == (phase, batch) and visits == visit:
            run.request_stop(kind)  # type: ignore[arg-type]

    return on_progress


def test_a_run_learns_and_leaves_what_it_promises(tiny_root: DataRoot) -> None:
    run = trained(tiny_root, tiny_config(epochs=12))
    assert run.state().status == "finished" and run.state().epoch == 12
    rows = run.metrics()
    assert rows[-1]["test_loss"] < 0.7 * rows[0]["test_loss"]
    assert rows[-1]["test_recording_accuracy"] == 1.0
    assert load_config(run.path / "config.yaml") == tiny_config(epochs=12)
    assert run.read_json("environment.json")["versions"]["torch"] == torch.__version__
    assert len(run.read_json("data.json")["parts"]["train"]) == 64
    assert set(run.confusions()) == {"epoch_001", "epoch_005", "epoch_010", "epoch_012", "validation"}
    assert (run.path / "figures" / "epoch_005_confusionmatrix.png").exists()
    assert run.read_json("evaluation/validation.json")["n_recordings"] == 3
    assert [path.name for path in run.checkpoints()] == [f"checkpoint_{epoch:03d}.pth" for epoch in range(1, 13)]
    log = run.log_tail()
    for promised in ("parameters", "18 clips in 4 batches", "epoch 12/12", "recording accuracy", "no validation part"):
        assert promised in log
    assert run.confusions()["validation"].class_names == PIANISTS
    for name in ("epoch_005", "validation"):
        confusion = run.confusions()[name]
        outcomes = {one.track: one.true for one in confusion.recordings}
        assert len(outcomes) == 3 == confusion.counts.sum() and set(outcomes.values()) == {0, 1, 2}
        assert set(outcomes) == {track for track in tiny_root.tracks() if track in outcomes}
    assert 50 < rows[-1]["peak_memory_mb"] < 100_000
    assert run.failure() is None


def test_the_same_seed_gives_the_same_run_whatever_the_worker_count(tiny_root: DataRoot) -> None:
    one = trained(tiny_root, tiny_config(run="one"))
    two = trained(tiny_root, tiny_config(run="two", num_workers=2))
    other = trained(tiny_root, tiny_config(run="other", seed=1))
    assert numbers(one) == numbers(two) != numbers(other)
    assert same_weights(one, two)


VARIANTS: dict[str, dict[str, Any]] = {
    "adam, cosine": {"sched_type": "cosine", "sched_cfg": {"T_max": 3}},
    "sgd, plateau": {
        "optim_type": "sgd",
        "optim_cfg": {"lr": 0.01, "momentum": 0.9},
        "sched_type": "plateau",
        "sched_cfg": {"patience": 0, "factor": 0.5},
    },
    "triplet, step": {"loss_type": "cce+triplet", "sched_type": "step", "sched_cfg": {"step_size": 1, "gamma": 0.5}},
    "linear": {"sched_type": "linear", "sched_cfg": {"total_iters": 2}},
    "no schedule": {"sched_type": None},
    "n-grams": {
        "encoder_module": "ngram",
        "model_cfg": {"vocabulary": 500, "least_recordings": 1, "ngram_dropout": 0.5, "use_masking": True},
        **{f"{part}_dataset_cfg": {"multichannel": False, "release_gap_s": 0.02} for part in ("train", "test")},
    },
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize(("phase", "batch", "visit"), [("train", 2, 2), ("test", 1, 2)])
def test_a_resumed_run_equals_an_uninterrupted_one(
    tiny_root: DataRoot, name: str, phase: str, batch: int, visit: int
) -> None:
    whole = trained(tiny_root, tiny_config(run="whole", epochs=3, **VARIANTS[name]))
    config = tiny_config(run="cut", epochs=3, **VARIANTS[name])
    cut = run_for(config, tiny_root)
    train(config, tiny_root, cut, on_progress=stop_at(cut, phase, batch, visit=visit))
    assert cut.state().status == "stopped" and cut.state().epoch == 1
    train(config, tiny_root, cut)
    assert cut.state().status == "finished"
    assert numbers(cut) == numbers(whole)
    assert same_weights(cut, whole)
    assert all(np.array_equal(cut.confusions()[name].counts, m.counts) for name, m in whole.confusions().items())


def command(config: RunConfig, root: DataRoot, path: Path) -> list[str]:
    path.write_text(to_yaml(config))
    return [sys.executable, "-m", "pianistid_core", "train", "--config", str(path), "--data-root", str(root.path)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_signalled_process_is_resumed_to_the_same_numbers(
    tiny_root: DataRoot, tmp_path: Path, number: signal.Signals
) -> None:
    whole = trained(tiny_root, tiny_config(run="whole", epochs=6))
    config = tiny_config(run="cut", epochs=6)
    run = run_for(config, tiny_root)
    environment = os.environ | {"PIANISTID_CACHE": str(tiny_root.cache_dir), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command(config, tiny_root, tmp_path / "cut.yaml"), env=environment)
    until(lambda: len(run.metrics()) >= 2 or process.poll() is not None)
    process.send_signal(number)
    code = process.wait()
    if number == signal.SIGKILL:
        assert code == -signal.SIGKILL and run.state().status == "interrupted"
    else:
        assert code >= 0 and run.state().status == "stopped"
    train(config, tiny_root, run)
    assert numbers(run) == numbers(whole)
    assert same_weights(run, whole)


def test_a_run_is_stopped_while_it_reads_its_clips(tiny_root: DataRoot) -> None:
    config = tiny_config()
    run = run_for(config, tiny_root)
    seen: list[str] = []

    def on_progress(phase: str, done: int, total: int) -> None:
        seen.append(phase)
        run.request_stop("save")

    assert train(config, tiny_root, run, on_progress=on_progress).status == "stopped"
    assert seen == ["reading train clips"] and run.stop_request() is None and run.checkpoints() == []


def test_a_run_is_stopped_while_it_studies_and_studies_again(tiny_root: DataRoot) -> None:
    whole = trained(tiny_root, tiny_config(run="whole", epochs=1, **VARIANTS["n-grams"]))
    config = tiny_config(run="cut", epochs=1, **VARIANTS["n-grams"])
    cut = run_for(config, tiny_root)
    train(config, tiny_root, cut, on_progress=stop_at(cut, "studying train", 1))
    assert cut.state().status == "stopped"
    train(config, tiny_root, cut)
    assert cut.state().status == "finished"
    assert same_weights(cut, whole)
    assert weights(cut)["vocabulary.starts"][-1] > 0


def test_finishing_early_evaluates_and_keeps_a_checkpoint(tiny_root: DataRoot) -> None:
    config = tiny_config(epochs=50)
    run = run_for(config, tiny_root)
    train(config, tiny_root, run, on_progress=stop_at(run, "train", 2, "finish", visit=2))
    assert run.state().status == "finished" and "early" in run.state().reason
    assert run.read_json("evaluation/validation.json")["n_clips"] == 6
    assert run.latest_checkpoint().name == "checkpoint_001_batch_00002.pth"


def test_a_discarded_run_writes_no_checkpoint(tiny_root: DataRoot) -> None:
    config = tiny_config(epochs=50)
    run = run_for(config, tiny_root)
    train(config, tiny_root, run, on_progress=stop_at(run, "train", 2, "discard"))
    assert run.state().status == "stopped" and run.checkpoints() == []


def test_more_epochs_go_on_with_a_finished_run(tiny_root: DataRoot) -> None:
    trained(tiny_root, tiny_config(epochs=1, sched_type=None))
    run = trained(tiny_root, tiny_config(epochs=3, sched_type=None))
    whole = trained(tiny_root, tiny_config(run="whole", epochs=3, sched_type=None))
    assert numbers(run) == numbers(whole)


def test_another_config_does_not_go_on_with_a_run(tiny_root: DataRoot) -> None:
    run = trained(tiny_root, tiny_config(epochs=1))
    with pytest.raises(RunError, match=r"optim_cfg\.lr"):
        trained(tiny_root, tiny_config(epochs=2, optim_cfg={"lr": 0.5}))
    assert len(run.metrics()) == 1
    scratch = {"load_checkpoints": False, "checkpoint_after_n_epochs": 1}
    trained(tiny_root, tiny_config(epochs=2, optim_cfg={"lr": 0.005}, checkpoint_cfg=scratch))
    assert len(run.metrics()) == 2


def test_a_run_is_trained_by_one_process_at_a_time(tiny_root: DataRoot) -> None:
    config = tiny_config()
    run = run_for(config, tiny_root)
    problems: list[Exception] = []

    def again(phase: str, done: int, total: int) -> None:
        try:
            train(config, tiny_root, run)
        except RunError as error:
            problems.append(error)

    train(config, tiny_root, run, on_progress=again)
    assert problems and all("already being trained" in str(problem) for problem in problems)
    assert run.state().status == "finished"


def test_what_a_killed_trainer_leaves_holds_the_run_for_a_moment_only(tiny_root: DataRoot) -> None:
    """Its loader processes have its lock until they notice."""
    config = tiny_config(epochs=1)
    run = run_for(config, tiny_root)
    run.make()
    holds = (
        "import sys; from filelock import FileLock\n"
        "with FileLock(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", holds, str(run.path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as left:
        assert left.stdout is not None and left.stdout.readline() == b"held\n" and left.stdin is not None
        run.set_state("running", epochs=1, process=ProcessIdentity.of(left.pid))
        with pytest.raises(RunError, match=f"already being trained by process {left.pid}"):
            train(config, tiny_root, run)
        run.set_state("running", epochs=1, process=ProcessIdentity(left.pid, "1", "of another day"))
        threading.Timer(1.0, left.stdin.close).start()
        assert train(config, tiny_root, run).status == "finished"


def test_a_loss_that_is_no_number_ends_the_run_in_words(tiny_root: DataRoot) -> None:
    config = tiny_config(optim_type="sgd", optim_cfg={"lr": 10, "weight_decay": 1.0}, epochs=40)
    with pytest.raises(RunError, match="diverged"):
        trained(tiny_root, config)
    run = run_for(config, tiny_root)
    state, failure = run.state(), run.failure()
    assert state.status == "failed" and "lower optim_cfg.lr" in state.reason
    assert failure is not None and failure.kind == "loss is not a number" and failure.words == state.reason
    assert any("diverged" in line for line in failure.last_lines)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory"),
        (MemoryError(), "out of memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk full"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/data/clip.mid"), "missing file"),
        (DataError("no clip of the training part could be drawn"), "bad data"),
        (MidiError("clip.mid is cut off"), "bad data"),
        (KeyError("x"), "other"),
        (PianistIDError("something else"), "other"),
    ],
)
def test_each_kind_of_failure_is_kept_with_the_run(
    tiny_root: DataRoot, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str
) -> None:
    def fail(*arguments: Any, **settings: Any) -> None:
        raise error

    monkeypatch.setattr("pianistid_core.trainer.predict", fail)
    config = tiny_config(epochs=1)
    with pytest.raises(PianistIDError):
        trained(tiny_root, config)
    failure = run_for(config, tiny_root).failure()
    assert failure is not None and failure.kind == kind and failure.hint


def test_the_progress_of_an_epoch_tells_loss_and_speed(tiny_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pianistid_core.keeping.PROGRESS_EVERY_S", 0.0)
    config = tiny_config(epochs=1)
    run, seen = run_for(config, tiny_root), []

    def look(phase: str, done: int, total: int) -> None:
        progress = run.progress()
        if progress and progress["phase"] == "train":
            seen.append(progress)

    train(config, tiny_root, run, on_progress=look)
    assert len(seen) >= 3
    assert all(one["loss"] > 0 and one["clips_per_second"] > 0 for one in seen)


def test_what_can_be_refused_is_refused_before_anything_is_written(tiny_root: DataRoot) -> None:
    for config, error in (
        (tiny_config(data_split_dir="tinny"), SplitError),
        (tiny_config(device="cuda:99"), RunError),
    ):
        with pytest.raises(error, match=r"tiny|device"):
            trained(tiny_root, config)
    assert not tiny_root.checkpoints_dir.exists()


def test_a_refusal_leaves_a_finished_run_finished(tiny_root: DataRoot) -> None:
    run = trained(tiny_root, tiny_config(epochs=1))
    for changes in ({"optim_cfg": {"lr": 0.5}}, {"device": "cuda:99"}, {"data_split_dir": "gone"}):
        with pytest.raises(PianistIDError):
            trained(tiny_root, tiny_config(epochs=1, **changes))
    assert run.state().status == "finished" and "failed" not in run.log_tail()


def test_checkpoints_of_others_are_left_alone(tiny_root: DataRoot) -> None:
    run = run_for(tiny_config(), tiny_root)
    run.path.mkdir(parents=True)
    (run.path / "checkpoint_099.pth").write_bytes(b"published weights")
    for load in (True, False):
        with pytest.raises(RunError, match="left alone"):
            trained(tiny_root, tiny_config(checkpoint_cfg={"load_checkpoints": load}))
    assert [path.name for path in run.path.iterdir()] == ["checkpoint_099.pth"]


def test_starting_over_leaves_no_old_results(tiny_root: DataRoot) -> None:
    run = trained(tiny_root, tiny_config(epochs=6))
    run.save_json("ablation/test.json", {"rows": []})
    config = tiny_config(epochs=1, checkpoint_cfg={"load_checkpoints": False})
    run = run_for(config, tiny_root)
    train(config, tiny_root, run, on_progress=stop_at(run, "train", 2))
    assert run.confusions() == {} and not list(run.path.glob("*/*.*"))


def test_a_checkpoint_that_training_cannot_go_on_from_is_named(tiny_root: DataRoot) -> None:
    run = trained(tiny_root, tiny_config(epochs=1))
    saved = read_checkpoint(run.latest_checkpoint())
    for missing in ("class_names", "optimizer_state_dict", "torch_rng"):
        torch.save({key: value for key, value in saved.items() if key != missing}, run.latest_checkpoint())
        with pytest.raises(CheckpointError, match=r"checkpoint_001\.pth.*--set run=NAME"):
            trained(tiny_root, tiny_config(epochs=2))


def test_skipped_and_unreadable_clips_are_counted_with_reasons(tiny_root: DataRoot) -> None:
    for path in tiny_root.clip_paths("tiny/ada-0"):
        write_midi(make_notes(1, chord=()), path)
    broken = tiny_root.clip_paths("tiny/ben-0")[0]
    broken.write_bytes(b"not midi")
    run = trained(tiny_root, tiny_config())
    assert run.metrics()[0]["skipped"] == 2
    assert "no chords" in next(iter(run.metrics()[0]["skipped_reasons"]))
    assert "1 unreadable" in run.log_tail() and broken.name in run.log_tail()


@pytest.mark.parametrize("encoder", ["cnn", "crnn", "resnet50"])
def test_every_single_channel_architecture_trains(tiny_root: DataRoot, encoder: str) -> None:
    model_cfg = {"frame_pool": 100} | ({"layers": [1, 1, 1, 1]} if encoder == "resnet50" else {})
    clips = {"n_clips": 3}
    run = trained(
        tiny_root,
        tiny_config(
            encoder_module=encoder, model_cfg=model_cfg, epochs=1, train_dataset_cfg=clips, test_dataset_cfg=clips
        ),
    )
    assert run.state().status == "finished"


def test_the_source_can_be_classified(tiny_root: DataRoot) -> None:
    run = trained(tiny_root, tiny_config(classify_dataset=True))
    assert read_checkpoint(run.latest_checkpoint())["class_names"] == ["tiny"]


def test_an_unwritable_checkpoint_folder_is_refused(tiny_root: DataRoot) -> None:
    checkpoint_cfg = {"checkpoint_dir": "/proc/nowhere"}
    with pytest.raises(PianistIDError, match="checkpoint_dir"):
        trained(tiny_root, tiny_config(checkpoint_cfg=checkpoint_cfg))


def test_a_trainer_says_who_it_is(tiny_root: DataRoot) -> None:
    config = tiny_config(epochs=1)
    run, seen = run_for(config, tiny_root), set()

    def look(phase: str, done: int, total: int) -> None:
        seen.add((run.state().status, run.trainer() == ProcessIdentity.of()))

    train(config, tiny_root, run, on_progress=look)
    assert seen == {("running", True)}


def test_a_resumed_run_goes_on_in_the_same_mlflow_run(tiny_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pianistid_core.mirror._SHORT_PATIENCE_S", 120.0)  # on a busy machine the first copy takes long
    config = tiny_config(epochs=2, mlflow_cfg={"use": True})
    run = run_for(config, tiny_root)
    train(config, tiny_root, run, on_progress=stop_at(run, "train", 2, visit=2))
    first = run.read_json("mlflow.json")["run_id"]
    train(config, tiny_root, run)
    assert run.read_json("mlflow.json")["run_id"] == first and run.state().status == "finished"
