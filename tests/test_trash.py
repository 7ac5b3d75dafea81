"""The trash of runs: what was discarded comes back whole, and never over another run."""

import json
import os
from pathlib import Path

import pytest

from pianistid_core import trash
from pianistid_core.errors import RunError
from pianistid_core.processes import ProcessIdentity
from pianistid_core.runs import WAITING, Run, find_runs


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run.create(tmp_path, "study", "first")
    run.append_metrics({"epoch": 1, "test_loss": 0.5})
    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_discarded_run_is_gone_and_comes_back_as_it_was(run: Run, tmp_path: Path) -> None:
    before, size = contents(run.path), run.size_bytes()
    discarded = trash.discard(run)
    assert (discarded.run_id, discarded.size_bytes) == ("study/first", size)
    assert find_runs(tmp_path) == [] and trash.discarded(tmp_path) == [discarded]
    with pytest.raises(RunError, match="no run"):
        Run.find(tmp_path, f".trash/{discarded.id}")
    restored = trash.restore(tmp_path, discarded.id)
    assert restored.id == "study/first" and contents(restored.path) == before
    assert trash.discarded(tmp_path) == [] and not list((tmp_path / ".trash").iterdir())


def test_a_restored_run_finds_its_experiment_gone(run: Run, tmp_path: Path) -> None:
    discarded = trash.discard(run)
    run.path.parent.rmdir()
    assert trash.restore(tmp_path, discarded.id).metrics()[0]["epoch"] == 1


def test_a_taken_name_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    discarded = trash.discard(run)
    other = Run.create(tmp_path, "study", "first")
    for folder in ("figures", "confusion"):
        (other.path / folder).rmdir()
    before = contents(other.path)
    with pytest.raises(RunError, match=r"study/first .* another run has that name.*; discard or rename"):
        trash.restore(tmp_path, discarded.id)
    assert contents(other.path) == before and trash.discarded(tmp_path) == [discarded]
    second = trash.discard(other)
    assert {one.id for one in trash.discarded(tmp_path)} == {discarded.id, second.id}


def test_what_may_not_be_moved_stays(run: Run, tmp_path: Path) -> None:
    run.set_state("running", epochs=1, process=ProcessIdentity.of())
    with pytest.raises(RunError, match="stop it first"):
        trash.discard(run)
    queue = tmp_path / "queue"
    (queue / "waiting").mkdir(parents=True)
    (queue / "waiting" / "one.json").write_text("{}")
    run.save_json("queued.json", {"queue": os.path.relpath(queue, run.path), "id": "one"})
    run.set_state("queued", WAITING, epochs=1)
    with pytest.raises(RunError, match="take it out of the queue first"):
        trash.discard(run)
    stranger = Run(tmp_path / "thesis" / "chapters")
    stranger.path.mkdir(parents=True)
    (stranger.path / "checkpoint_099.pth").write_bytes(b"published")
    with pytest.raises(RunError, match="left alone"):
        trash.discard(stranger)
    with pytest.raises(RunError, match="gone already"):
        trash.discard(Run(tmp_path / "study" / "never"))
    assert run.path.is_dir() and stranger.path.is_dir() and trash.discarded(tmp_path) == []


def test_emptying_removes_all_or_the_chosen(tmp_path: Path) -> None:
    gone = [trash.discard(Run.create(tmp_path, "study", name)) for name in ("a", "b", "c")]
    assert trash.empty(tmp_path, [gone[1].id, "20250101-000000-00000000"]) == 1
    assert {one.run_id for one in trash.discarded(tmp_path)} == {"study/a", "study/c"}
    assert trash.empty(tmp_path) == 2 and trash.discarded(tmp_path) == [] and trash.empty(tmp_path) == 0


@pytest.mark.parametrize("id", ["", "..", "../study/first", "20250101-000000-00000000", "x" * 300, "\0"])
def test_what_is_not_in_the_trash_cannot_be_put_back(run: Run, tmp_path: Path, id: str) -> None:
    with pytest.raises(RunError, match="not in the trash"):
        trash.restore(tmp_path, id)


@pytest.mark.parametrize("run_id", ["../../etc/cron", "/etc/x", "study/..", "a/b/c", "study", ".trash/x", "a\\b/c", 3])
def test_a_note_in_the_trash_cannot_point_elsewhere(run: Run, tmp_path: Path, run_id: object) -> None:
    discarded = trash.discard(run)
    about = tmp_path / ".trash" / discarded.id / "discarded.json"
    about.write_text(json.dumps({"run_id": run_id, "when": 1.0, "size_bytes": 1}))
    assert trash.discarded(tmp_path) == []
    with pytest.raises(RunError):
        trash.restore(tmp_path, discarded.id)
