"""Preflight: the real core for a few seconds; what is wrong is a sentence, and nothing stays behind."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from pianistid_core import __main__ as command_line
from pianistid_core import preflight_trial
from pianistid_core.config import RunConfig, to_yaml
from pianistid_core.datasets.root import DataRoot, SplitEntry, write_split
from pianistid_core.preflight import Check, Preflight, preflight, run_preflight
from pianistid_core.run_config import run_for
from pianistid_core.training import train
from tiny import PIANISTS, tiny_config, until

ALL = (
    "Run name", "Device", "Data split", "Clips", "Network", "Training", "Evaluation", "Checkpoint", "Disk space",
)  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few batches are enough to see that they are made."""
    monkeypatch.setattr(preflight_trial, "_ENOUGH_TRAINING_S", 0.2)
    monkeypatch.setattr(preflight_trial, "_MAX_TRAINING_S", 0.2)


def files_of(root: DataRoot) -> set[Path]:
    return set(root.path.rglob("*"))


def failed(found: Preflight) -> Check:
    """The one check that failed."""
    (check,) = [check for check in found.checks if not check.ok]
    assert not found.ok
    return check


def tried(found: Preflight) -> tuple[str, ...]:
    return tuple(check.name for check in found.checks)


def test_all_is_tried_and_nothing_stays_behind(tiny_root: DataRoot) -> None:
    before, told = files_of(tiny_root), list[Check]()
    found = preflight(tiny_config(), tiny_root, on_check=told.append)
    assert found.ok and tried(found) == ALL and tuple(told) == found.checks and found.device == "cpu"
    assert files_of(tiny_root) == before
    details = {check.name: check.detail for check in found.checks}
    assert "18 training and 6 test clips" in details["Clips"]
    assert "9 training, 3 test and test again as validation recordings of 3 pianists" in details["Data split"]
    assert Preflight.from_dict(found.to_dict()) == found


def test_the_estimate_follows_from_what_was_measured(tiny_root: DataRoot) -> None:
    found = preflight(tiny_config(epochs=1000), tiny_root)
    assert found.estimate is not None
    epoch, total = found.estimate.epoch_s, found.estimate.total_s
    for span in (epoch, total, found.estimate.memory_bytes, found.estimate.disk_bytes):
        assert 0 < span.low <= span.likely <= span.high
    assert 1000 * epoch.likely < total.likely
    # Few epochs, so that the figures, which are not always of one size, weigh little beside the checkpoints.
    checkpoints = [preflight(tiny_config(epochs=10, checkpoint_cfg=options), tiny_root) for options in (
        {"checkpoint_after_n_epochs": 1}, {"checkpoint_after_n_epochs": 1, "delete_old_checkpoints": True},
        {"save_checkpoints": False},
    )]  # fmt: skip
    every, newest, none = (found.estimate.disk_bytes.likely for found in checkpoints if found.estimate)
    size = (every - newest) / 8  # the newest and the one before it stay
    assert size > 4 * 19_683 and newest - none == pytest.approx(2 * size, rel=0.3)


def test_a_run_that_goes_on_takes_the_rest_of_the_time(tiny_root: DataRoot) -> None:
    train(tiny_config(epochs=2), tiny_root, run_for(tiny_config(), tiny_root))
    found = preflight(tiny_config(epochs=3), tiny_root)
    assert found.ok and found.estimate is not None
    assert "goes on from checkpoint_002.pth, after 2 of 3 epochs" in found.checks[0].detail
    assert found.estimate.total_s.likely < 3 * found.estimate.epoch_s.likely + 10
    assert len(run_for(tiny_config(), tiny_root).checkpoints()) == 2


def test_epochs_that_no_checkpoint_holds_are_trained_again(tiny_root: DataRoot) -> None:
    run = run_for(tiny_config(), tiny_root)
    train(tiny_config(epochs=2), tiny_root, run)
    run.delete_checkpoint("checkpoint_002.pth")
    found = preflight(tiny_config(epochs=3), tiny_root)
    assert "goes on from checkpoint_001.pth, after 1 of 3 epochs" in found.checks[0].detail


def test_loader_processes_are_used_and_gone(tiny_root: DataRoot) -> None:
    before = set(psutil.Process().children(recursive=True))
    found = preflight(tiny_config(num_workers=2), tiny_root)
    assert found.ok
    assert set(psutil.Process().children(recursive=True)) <= before


def test_a_name_that_was_trained_otherwise_is_told_and_the_rest_is_tried(tiny_root: DataRoot) -> None:
    train(tiny_config(epochs=1), tiny_root, run_for(tiny_config(), tiny_root))
    found = preflight(tiny_config(batch_size=4), tiny_root)
    assert failed(found).name == "Run name" and "batch_size" in failed(found).detail
    assert tried(found) == ALL and found.estimate is not None


def test_a_missing_device_leaves_out_what_needs_it(tiny_root: DataRoot) -> None:
    found = preflight(tiny_config(device="cuda:9"), tiny_root)
    assert failed(found).name == "Device" and "device=cpu" in failed(found).detail
    assert tried(found) == ("Run name", "Device", "Data split", "Clips") and found.estimate is None


def without_clips(root: DataRoot) -> None:
    shutil.rmtree(root.clips_dir / "tiny" / "ada-0")


def without_a_test_part(root: DataRoot) -> None:
    table = root.splits_dir / "tiny" / "test_split.csv"
    table.write_text(table.read_text().splitlines()[0] + "\n")


def without_a_split(root: DataRoot) -> None:
    shutil.rmtree(root.splits_dir / "tiny")


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (without_clips, "1 of 9 train recordings that have no clips"),
        (without_a_test_part, "has an empty test part"),
        (without_a_split, "no split 'tiny'"),
    ],
)
def test_a_split_that_cannot_be_used_is_told(tiny_root: DataRoot, spoil: Callable[[DataRoot], None], part: str) -> None:
    spoil(tiny_root)
    found = preflight(tiny_config(), tiny_root)
    assert failed(found).name == "Data split" and part in failed(found).detail
    assert "Clips" not in tried(found)


def test_a_pianist_without_training_clips_is_told(tiny_root: DataRoot) -> None:
    split = tiny_root.split("tiny")
    train_part = tuple(entry for entry in split.parts["train"] if entry.pianist != 1)
    parts: dict[str, tuple[SplitEntry, ...]] = {"train": train_part, "test": split.parts["test"]}
    write_split(tiny_root, type(split)("tiny", PIANISTS, parts), overwrite=True)
    found = preflight(tiny_config(), tiny_root)
    assert failed(found).name == "Clips" and "1 of 3 have no training clips (Ben Cluster)" in failed(found).detail


def test_clips_that_cannot_be_read_are_told(tiny_root: DataRoot) -> None:
    for clip in tiny_root.clips_dir.rglob("*.mid"):
        clip.write_bytes(b"not music")
    found = preflight(tiny_config(), tiny_root)
    assert failed(found).name == "Clips" and "no readable train clips" in failed(found).detail


def test_a_loss_that_is_no_number_is_told(tiny_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.nn.functional.cross_entropy", lambda logits, labels, **options: logits.sum() * torch.nan)
    found = preflight(tiny_config(), tiny_root)
    assert failed(found).name == "Training" and "lower optim_cfg.lr" in failed(found).detail
    assert tried(found)[-1] == "Training" and found.estimate is None


def test_memory_that_runs_out_is_told_with_the_batch_that_fits(
    tiny_root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def room_for_three(logits: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        if len(logits) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return logits.sum()

    monkeypatch.setattr("torch.nn.functional.cross_entropy", room_for_three)
    found = preflight(tiny_config(), tiny_root)
    assert failed(found).name == "Training" and "set batch_size to 3 (now 5)" in failed(found).detail


def test_a_place_that_cannot_be_written_is_told(tiny_root: DataRoot, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = preflight(tiny_config(checkpoint_cfg={"checkpoint_dir": str(tmp_path / "file" / "runs")}), tiny_root)
    assert failed(found).name == "Checkpoint" and "is a file" in failed(found).detail
    assert found.estimate is None


def test_a_full_disk_is_told_with_the_estimate(tiny_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    found = preflight(tiny_config(), tiny_root)
    assert failed(found).name == "Disk space" and "1 kB are free" in failed(found).detail
    assert found.estimate is not None


# --- in a process of its own ---


def test_it_runs_in_a_process_of_its_own(tiny_root: DataRoot) -> None:
    before, told = files_of(tiny_root), list[Check]()
    found = run_preflight(tiny_config(), tiny_root, on_check=told.append)
    assert found.ok and tried(found) == ALL and tuple(told) == found.checks and found.estimate is not None
    assert files_of(tiny_root) == before and trials() == []


def test_who_asks_does_not_load_torch() -> None:
    code = "import sys, pianistid_core.preflight; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def trials() -> list[psutil.Process]:
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if process.status() != psutil.STATUS_ZOMBIE and "pianistid_core.preflight" in process.cmdline()
    ]


def test_one_that_takes_too_long_is_ended(tiny_root: DataRoot) -> None:
    found = run_preflight(tiny_config(), tiny_root, timeout_s=0.01)
    assert failed(found).name == "Start" and "was not done after" in failed(found).detail
    assert trials() == []


def test_one_that_the_system_kills_is_told_as_memory(tiny_root: DataRoot) -> None:
    before = files_of(tiny_root)

    def kill(check: Check) -> None:
        if check.name == "Clips":
            trials()[0].send_signal(signal.SIGKILL)

    found = run_preflight(tiny_config(), tiny_root, on_check=kill)
    assert failed(found).name in ("After Clips", "Network", "Training") and "memory ran out" in failed(found).detail
    assert files_of(tiny_root) == before


def test_one_that_nobody_waits_for_any_more_is_ended(tiny_root: DataRoot) -> None:
    class Gone(Exception):
        pass

    def leave(check: Check) -> None:
        raise Gone

    with pytest.raises(Gone):
        run_preflight(tiny_config(), tiny_root, on_check=leave)
    until(lambda: trials() == [])
    assert not list(tiny_root.path.rglob(".preflight-*"))


def test_a_process_that_cannot_start_says_why(tiny_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    found = run_preflight(tiny_config(), tiny_root)
    assert failed(found).name == "Start" and "exit status 1" in failed(found).detail


def test_a_config_is_not_changed_by_flying(tiny_root: DataRoot) -> None:
    config: RunConfig = tiny_config()
    preflight(config, tiny_root)
    assert config == tiny_config() and torch.get_num_threads() >= 1


def test_preflight_by_command(tiny_root: DataRoot, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(to_yaml(tiny_config()))
    command = ["preflight", "--config", str(config), "--data-root", str(tiny_root.path)]
    assert command_line.main(command) == 0
    shown = capsys.readouterr().out
    assert "ok    Checkpoint" in shown and "an epoch takes" in shown
    assert command_line.main([*command, "--set", "data_split_dir=missing", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is False and answer["estimate"] is None
