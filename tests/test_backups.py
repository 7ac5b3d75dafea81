"""Backups: packed while runs train, checked to the byte, restored elsewhere with the same result, refused in words."""

import hashlib
import json
import os
import shutil
import sqlite3
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lab_support import a_run
from pianistid_core.__main__ import main
from pianistid_core.backups.manifest import Contents, Entry, Reading, written
from pianistid_core.backups.opening import check_backup
from pianistid_core.backups.packing import write_backup
from pianistid_core.backups.restoring import restore
from pianistid_core.backups.store import mend
from pianistid_core.config import to_yaml
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import ArchiveError, DataRootError, ImportSourceError
from pianistid_core.mirror import lacking
from pianistid_core.processes import ProcessIdentity
from pianistid_core.run_config import config_of, config_to_resume, run_for
from pianistid_core.run_labels import RunLabels
from pianistid_core.runs import Run
from pianistid_core.training import train
from pianistid_core.training_options import MlflowOptions
from pianistid_core.trash import discard, discarded
from tiny import tiny_config

Files = dict[str, bytes]


@pytest.fixture
def elsewhere(tmp_path: Path) -> DataRoot:
    """A data root that is not there yet."""
    return DataRoot(tmp_path / "elsewhere" / "root", cache_dir=tmp_path / "other cache")


def files_of(root: DataRoot) -> Files:
    """Everything under a root that is not only there while something goes on."""
    found = {path.relative_to(root.path).as_posix(): path for path in root.path.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not Path(name).name.startswith(".")}


def files_of_paths(root: DataRoot) -> list[Path]:
    """The paths of the same files."""
    return [root.path / name for name in files_of(root)]


def made_by_hand(path: Path, files: Files, **changes: Any) -> Path:
    """A backup with a sound list of files, whatever their names are."""
    entries = tuple(Entry(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items())
    runs = tuple({"/".join(name.split("/")[1:3]) for name in files if name.startswith("checkpoints/")})
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        listed = Contents(**{"runs": runs, "entries": entries, **changes})
        archive.writestr("backup.jsonl", b"".join(written(listed)))
    return path


def test_a_whole_root_comes_back_with_the_same_bytes(tiny_root: DataRoot, elsewhere: DataRoot, tmp_path: Path) -> None:
    run = a_run(tiny_root.path, "first", "finished")
    run.set_labels(RunLabels(("jazz",), "a note", starred=True))
    (run.path / "checkpoint_003.pth").write_bytes(bytes(range(256)) * 4000)
    thrown = discard(a_run(tiny_root.path, "thrown", "stopped"))
    (tiny_root.path / "lab.json").write_text('{"tracking": {"use": true, "address": null}}')
    tiny_root.drafts_dir.mkdir(parents=True)
    (tiny_root.drafts_dir / "0123456789.json").write_text("{}")
    before = files_of(tiny_root)
    told: list[tuple[int, int]] = []

    packed = write_backup(tiny_root, tmp_path / "b.zip", on_progress=lambda *said: told.append(said))
    assert packed.contents.runs == ("study/first",) and packed.contents.splits == ("tiny",) and not packed.left_out
    assert told[-1][0] == told[-1][1] and (tmp_path / "b.zip").stat().st_mode & 0o77 == 0
    assert check_backup(tmp_path / "b.zip").bytes == packed.contents.bytes

    done = restore(tmp_path / "b.zip", elsewhere)
    assert done.runs == ("study/first",) and done.splits == ("tiny",) and done.files == len(packed.contents.entries)
    assert files_of(elsewhere) == before
    assert [one.id for one in discarded(elsewhere.checkpoints_dir)] == [thrown.id]
    assert (elsewhere.drafts_dir / "0123456789.json").read_text() == "{}"
    again = restore(tmp_path / "b.zip", elsewhere)
    assert (again.files, again.runs) == (0, ()) and again.already > 10


def test_a_run_that_trained_half_goes_on_elsewhere_to_the_same_end(
    tiny_root: DataRoot, tiny_data: Path, elsewhere: DataRoot, tmp_path: Path
) -> None:
    config = tiny_config(epochs=2)
    whole = DataRoot(tiny_data, cache_dir=tmp_path / "cache")
    never_stopped = Run(tmp_path / "aside" / "tests" / "tiny")
    assert train(config, whole, never_stopped).status == "finished"
    half = run_for(config, tiny_root)

    def stop_in_the_second_epoch(phase: str, done: int, total: int) -> None:
        if half.epochs_done() == 1 and phase == "train":
            half.request_stop("save")

    assert train(config, tiny_root, half, on_progress=stop_in_the_second_epoch).status == "stopped"
    write_backup(tiny_root, tmp_path / "b.zip", runs=[half], parts={"runs", "data"})
    restore(tmp_path / "b.zip", elsewhere)

    moved = Run.find(elsewhere.checkpoints_dir, "tests/tiny")
    assert moved.state().status == "stopped"
    assert train(config_to_resume(moved, elsewhere), elsewhere, moved).status == "finished"
    passing = {"seconds", "clips_per_second", "peak_memory_mb"}
    numbers = [
        [{key: row[key] for key in row.keys() - passing} for row in run.metrics()] for run in (never_stopped, moved)
    ]
    assert numbers[0] == numbers[1] and len(numbers[0]) == 2
    one, other = (
        torch.load(run.checkpoints()[-1], weights_only=True)["model_state_dict"] for run in (never_stopped, moved)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert never_stopped.read_json("evaluation/validation.json") == moved.read_json("evaluation/validation.json")


def test_a_run_that_trains_is_taken_at_its_last_checkpoint(
    tiny_root: DataRoot, elsewhere: DataRoot, tmp_path: Path
) -> None:
    run = a_run(tiny_root.path, "live", "running")
    (run.path / "checkpoint_002.pth").write_bytes(b"two epochs")
    with run.metrics_path.open("ab") as file:
        file.write(b'{"epoch": 4, "train_lo')
    for name in ("lock", "stop", "progress.json", "queued.json", "place.json", ".half.tmp"):
        (run.path / name).write_text("{}")
    packed = write_backup(tiny_root, tmp_path / "b.zip")
    assert packed.contents.live == ("study/live",)
    restore(tmp_path / "b.zip", elsewhere)
    moved = Run.find(elsewhere.checkpoints_dir, "study/live")
    state = moved.state()
    assert state.status == "interrupted" and "resume to go on from its last checkpoint" in state.reason
    assert moved.trainer() is None and [row["epoch"] for row in moved.metrics()] == [1, 2, 3]
    assert moved.metrics_path.read_bytes().endswith(b"}\n")
    names = {path.name for path in moved.path.iterdir()}
    assert "checkpoint_002.pth" in names
    assert not names & {"lock", "stop", "progress.json", "queued.json", "place.json", ".half.tmp"}
    assert run.state().status == "running"


def test_processes_named_in_an_archive_are_not_believed(elsewhere: DataRoot, tmp_path: Path) -> None:
    me = ProcessIdentity.of()
    assert me is not None
    said = {"status": "running", "process": me.__dict__, "supervisor": me.__dict__, "epochs": 3, "reason": ""}
    files = {"checkpoints/a/b/state.json": json.dumps(said).encode(), "checkpoints/a/b/config.yaml": b"run: b\n"}
    restore(made_by_hand(tmp_path / "b.zip", files), elsewhere)
    run = Run.find(elsewhere.checkpoints_dir, "a/b")
    assert run.trainer() is None and run.state().status == "interrupted" and not run.is_due()


def test_a_state_of_any_length_names_no_process(elsewhere: DataRoot, tmp_path: Path) -> None:
    me = ProcessIdentity.of()
    assert me is not None
    said = {"status": "running", "process": me.__dict__, "epochs": 3, "reason": "", "more": "x" * (2 << 20)}
    files = {"checkpoints/a/b/state.json": json.dumps(said).encode(), "checkpoints/a/b/config.yaml": b"run: b\n"}
    restore(made_by_hand(tmp_path / "b.zip", files), elsewhere)
    run = Run.find(elsewhere.checkpoints_dir, "a/b")
    assert run.trainer() is None and run.state().status == "interrupted" and not run.is_due()


def test_names_that_some_systems_take_for_one_come_back_where_this_one_tells_them_apart(
    tmp_path: Path, elsewhere: DataRoot
) -> None:
    root = DataRoot(tmp_path / "root", tmp_path / "cache")
    composed = ["data/raw/Caf\u00e9/x.mid", "data/raw/Cafe\u0301/x.mid"]
    for name in (*composed, "data/clips/A/x/1.mid", "data/clips/a/x/1.mid"):
        (root.path / name).parent.mkdir(parents=True, exist_ok=True)
        (root.path / name).write_bytes(name.encode())
    runs = [Run.create(root.checkpoints_dir, "exp", name) for name in ("Jazz", "jazz")]
    if len(list((root.path / "data" / "clips").iterdir())) == 1:
        pytest.skip("this disk has one name for both")
    packed = write_backup(root, tmp_path / "b.zip")
    assert len(packed.twins) >= 3 and {run.id for run in runs} == set(check_backup(tmp_path / "b.zip").runs)
    restore(tmp_path / "b.zip", elsewhere)
    for name in (*composed, "data/clips/A/x/1.mid", "data/clips/a/x/1.mid"):
        assert (elsewhere.path / name).read_bytes() == name.encode()
    assert not [path for path in elsewhere.path.iterdir() if path.name.startswith(".import-")]


def test_a_copy_in_mlflow_is_the_runs_only_where_its_store_came_along(elsewhere: DataRoot, tmp_path: Path) -> None:
    ours = replace(tiny_config(), experiment="a", run="b", mlflow_cfg=MlflowOptions(use=True))
    theirs = replace(ours, mlflow_cfg=MlflowOptions(use=True, tracking_uri="http://127.0.0.1:9"))
    entry = json.dumps({"run_id": "0" * 32, "whole": False}).encode()
    for number, config in enumerate((ours, theirs)):
        files = {"checkpoints/a/b/config.yaml": to_yaml(config).encode(), "checkpoints/a/b/mlflow.json": entry}
        root = DataRoot(tmp_path / f"root{number}", tmp_path / "cache")
        path = made_by_hand(tmp_path / f"{number}.zip", files)
        restore(path, root)
        assert not lacking(root) and not (root.checkpoints_dir / "a" / "b" / "mlflow.json").exists()
        assert restore(path, root).already == 1  # and is the same run still


def test_what_is_refused_late_leaves_nothing_and_names_no_folder_of_its_own(
    elsewhere: DataRoot, tmp_path: Path
) -> None:
    root = elsewhere
    root.recordings_file.parent.mkdir(parents=True)
    root.recordings_file.write_text("track,pianist\n")
    before = files_of(root)
    files = {"checkpoints/e/r/run.json": b"{}", "references/recordings.csv": b"\xff\xfe\x00no table"}
    with pytest.raises(DataRootError, match=r"references/recordings\.csv of the backup.*--without data") as refused:
        restore(made_by_hand(tmp_path / "table.zip", files), root)
    assert ".import" not in str(refused.value) and files_of(root) == before
    files = {"checkpoints/e/r/run.json": b"{}", "lab.json": bytes(17 << 20)}
    with pytest.raises(ArchiveError, match=r"lab\.json"):
        restore(made_by_hand(tmp_path / "settings.zip", files), root)
    assert files_of(root) == before


def test_a_small_file_with_an_endless_list_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("backup.jsonl", "w") as list_of:
        for _ in range(200):
            list_of.write(b"\n" * (1 << 20))
    with pytest.raises(ArchiveError, match="claims to unpack"):
        check_backup(path)
    reading = Reading(2)
    reading.take(b'{"pianistid_backup": 1}\n')
    line = json.dumps({"name": "a", "bytes": 0, "sha256": "0" * 64}).encode() + b"\n"
    with pytest.raises(ArchiveError, match="more than 2 files"):
        reading.take(line * 3)
    with pytest.raises(ArchiveError, match="damaged"):
        Reading(2).take(b"\n")


def test_a_folder_that_goes_away_meanwhile_is_passed_over_and_access_stays_at_home(
    tiny_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("access.json", "access.json.lock", "data/raw/gone/x/a.mid"):
        (tiny_root.path / name).parent.mkdir(parents=True, exist_ok=True)
        (tiny_root.path / name).write_bytes(b"x")
    walk = os.walk

    def walked(top: str, **how: bool) -> Iterator[tuple[str, list[str], list[str]]]:
        for at, folders, files in walk(top, **how):
            if Path(at).name == "gone":
                shutil.rmtree(at)
            yield at, folders, files

    monkeypatch.setattr(os, "walk", walked)
    packed = write_backup(tiny_root, tmp_path / "b.zip")
    assert not [entry.name for entry in packed.contents.entries if "access" in entry.name or "gone" in entry.name]


def test_what_comes_in_outlives_a_loss_of_power(
    tiny_root: DataRoot, elsewhere: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_run(tiny_root.path, "first", "finished")
    (tiny_root.path / "lab.json").write_text("{}")
    write_backup(tiny_root, tmp_path / "b.zip")
    flushed, flush = set(), os.fsync

    def noting(handle: int) -> None:
        flushed.add(os.fstat(handle).st_ino)
        flush(handle)

    monkeypatch.setattr(os, "fsync", noting)
    restore(tmp_path / "b.zip", elsewhere)
    run = elsewhere.checkpoints_dir / "study" / "first"
    there = [run, run.parent, elsewhere.clips_dir / "tiny", *files_of_paths(elsewhere)]
    assert [path for path in there if path.stat().st_ino not in flushed] == []


def test_what_is_there_already_is_never_overwritten(tiny_root: DataRoot, elsewhere: DataRoot, tmp_path: Path) -> None:
    run = a_run(tiny_root.path, "first", "finished")
    run.save_json("mlflow.json", {"run_id": "0" * 32})
    write_backup(tiny_root, tmp_path / "b.zip")
    restore(tmp_path / "b.zip", elsewhere)
    here = Run.find(elsewhere.checkpoints_dir, "study/first")
    here.set_labels(RunLabels(note="of this place"))
    before = files_of(elsewhere)
    with pytest.raises(ImportSourceError, match=r"study/first.*--rename"):
        restore(tmp_path / "b.zip", elsewhere)
    assert files_of(elsewhere) == before

    done = restore(tmp_path / "b.zip", elsewhere, rename=True)
    assert done.renamed == {"study/first": "study/first-2"} and done.runs == ("study/first-2",)
    other = Run.find(elsewhere.checkpoints_dir, "study/first-2")
    assert (
        other.is_own() and config_of(other).run == "first-2" and run_for(config_of(other), elsewhere).path == other.path
    )
    assert other.read_json("mlflow.json") is None and here.labels().note == "of this place"


def test_what_is_known_of_recordings_is_merged(tiny_root: DataRoot, elsewhere: DataRoot, tmp_path: Path) -> None:
    tiny_root.recordings_file.write_text("track,pianist,album\ntiny/ada-0,Ada Even,Here\ntiny/ada-1,Ada Even,There\n")
    write_backup(tiny_root, tmp_path / "b.zip")
    elsewhere.recordings_file.parent.mkdir(parents=True)
    elsewhere.recordings_file.write_text("track,pianist,album\ntiny/ada-0,Ada Even,Mine\n")
    restore(tmp_path / "b.zip", elsewhere)
    known = elsewhere.recordings()
    assert (known["tiny/ada-0"].album, known["tiny/ada-1"].album) == ("Mine", "There")


def test_an_export_comes_in_as_a_run(tiny_root: DataRoot, elsewhere: DataRoot, tmp_path: Path) -> None:
    run = a_run(tiny_root.path, "first", "finished")
    (run.path / "checkpoint_003.pth").write_bytes(b"weights")
    assert main(["runs", "export", "study/first", str(tmp_path / "run.zip"), "--data-root", str(tiny_root.path)]) == 0
    assert restore(tmp_path / "run.zip", elsewhere).runs == ("study/first",)
    moved = Run.find(elsewhere.checkpoints_dir, "study/first")
    assert moved.metrics() == run.metrics() and moved.latest_checkpoint().read_bytes() == b"weights"
    assert check_backup(tmp_path / "run.zip").runs == ("study/first",)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    at = data.index(b"the weights") + 4
    data[at] ^= 1
    path.write_bytes(data)


def swap(path: Path) -> None:
    """Another file of the same length, with a zip that is sound."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["checkpoints/a/b/checkpoint_001.pth"] = files["checkpoints/a/b/checkpoint_001.pth"].replace(b"the", b"THE")
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)


@pytest.mark.parametrize("damage", [cut, flip, swap])
def test_a_damaged_backup_leaves_nothing(damage: Callable[[Path], None], elsewhere: DataRoot, tmp_path: Path) -> None:
    files = {"checkpoints/a/b/config.yaml": b"run: b\n", "checkpoints/a/b/checkpoint_001.pth": b"the weights" * 10}
    path = made_by_hand(tmp_path / "b.zip", files)
    assert check_backup(path).runs == ("a/b",)
    damage(path)
    with pytest.raises(ArchiveError, match=r"b\.zip"):
        check_backup(path)
    with pytest.raises(ArchiveError, match=r"b\.zip"):
        restore(path, elsewhere)
    assert not elsewhere.path.exists()


@pytest.mark.parametrize(
    "name",
    [
        "../escaped", "/etc/escaped", "checkpoints/../../escaped/a/b", "etc/passwd", "accounts.json", "checkpoints/a/b",
        "checkpoints/a\\b/c/d", "checkpoints/.trash/x/y", "checkpoints/CON/b/run.json", "trash/x/run/config.yaml",
        "mlflow/server.json", "queue/waiting/a.json", "data/clips/.hidden/x", "data/\x1b[31m/x", "drafts/a/b",
        "data/" + "a/" * 20 + "b", "data/" + "a" * 300,
    ],
)  # fmt: skip
def test_a_file_without_a_place_refuses_the_whole(name: str, elsewhere: DataRoot, tmp_path: Path) -> None:
    files = {"checkpoints/a/b/config.yaml": b"run: b\n", name: b"x"}
    with pytest.raises(ArchiveError):
        restore(made_by_hand(tmp_path / "b.zip", files, runs=("a/b",)), elsewhere)
    assert not elsewhere.path.exists() and not list(tmp_path.rglob("escaped"))


def test_a_list_that_does_not_fit_is_refused(elsewhere: DataRoot, tmp_path: Path) -> None:
    files = {"checkpoints/a/b/config.yaml": b"run: b\n"}
    path = made_by_hand(tmp_path / "more.zip", files)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("checkpoints/a/b/log.txt", "more")
    other_runs = made_by_hand(tmp_path / "runs.zip", files, runs=("x/y",))
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.writestr("hello.txt", "hello")
    for bad, reason in (
        (path, "not the same"), (other_runs, "not those"),
        (tmp_path / "none.zip", "no backup"),
    ):  # fmt: skip
        with pytest.raises(ArchiveError, match=reason):
            restore(bad, elsewhere)
    with pytest.raises(ImportSourceError, match="not a file"):
        restore(tmp_path / "is not there.zip", elsewhere)
    assert not elsewhere.path.exists()


def test_a_backup_is_whole_or_not_there(tiny_root: DataRoot, tmp_path: Path) -> None:
    target = tmp_path / "b.zip"
    (tmp_path / ".b.zip.999999999.1.tmp").write_text("of one that was killed")
    target.write_text("somebody's")
    with pytest.raises(DataRootError, match="exists already"):
        write_backup(tiny_root, target)
    with pytest.raises(DataRootError, match="not a folder"):
        write_backup(tiny_root, tmp_path / "no" / "b.zip")

    def fails(done: int, total: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(DataRootError, match="No space left"):
        write_backup(tiny_root, target, overwrite=True, on_progress=fails)
    assert target.read_text() == "somebody's"
    assert {path.name for path in tmp_path.iterdir()} == {"b.zip", "root"}
    with pytest.raises(DataRootError, match="nothing"):
        write_backup(DataRoot(tmp_path / "empty"), tmp_path / "c.zip")


def test_a_store_of_another_folder_leads_nowhere_else(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(database)) as store, store:
        store.execute("CREATE TABLE experiments (artifact_location TEXT)")
        store.execute("CREATE TABLE runs (artifact_uri TEXT, status TEXT)")
        store.execute("INSERT INTO experiments VALUES ('file:///old/mlflow/artifacts'), ('file:///etc')")
        rows = [("file:///old/mlflow/artifacts/ab/artifacts", "RUNNING"), ("s3://theirs/x", "FINISHED")]
        rows.append(("file:///old/mlflow/artifacts/../../..", "FAILED"))
        store.executemany("INSERT INTO runs VALUES (?, ?)", rows)
    mend(database, "file:///old/mlflow/artifacts", "file:///new")
    with closing(sqlite3.connect(database)) as store, store:
        assert {row[0] for row in store.execute("SELECT * FROM experiments")} == {
            "file:///new",
            "file:///new/elsewhere",
        }
        assert store.execute("SELECT * FROM runs").fetchall() == [
            ("file:///new/ab/artifacts", "KILLED"), ("file:///new/elsewhere", "FINISHED"),
            ("file:///new/elsewhere", "FAILED"),
        ]  # fmt: skip
        store.execute("CREATE VIEW more AS SELECT 1")
    with pytest.raises(ArchiveError, match="--without mlflow"):
        mend(database, "", "file:///new")
    (tmp_path / "none.db").write_bytes(b"no database" * 100)
    with pytest.raises(ArchiveError, match="damaged"):
        mend(tmp_path / "none.db", "", "file:///new")


def test_by_command_line(
    tiny_root: DataRoot, elsewhere: DataRoot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a_run(tiny_root.path, "first", "finished")
    a_run(tiny_root.path, "second", "stopped")
    file, here, there = str(tmp_path / "b.zip"), str(tiny_root.path), str(elsewhere.path)
    assert main(["backup", file, "--runs", "study/first", "--data-root", here, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == ["study/first"]
    assert main(["backup", "--check", file]) == 0 and "is whole: 1 run" in capsys.readouterr().out
    assert main(["restore", file, "--data-root", there, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == ["study/first"]
    assert main(["backup", file, "--data-root", here]) == 1 and "--overwrite" in capsys.readouterr().err
    assert main(["backup", file, "--overwrite", "--without", "data", "trash", "--data-root", here]) == 0
    assert main(["restore", file, "--data-root", there]) == 0
    assert "1 run, 0 splits" in capsys.readouterr().out and Run.find(elsewhere.checkpoints_dir, "study/second")
    cut(Path(file))
    assert main(["backup", "--check", file]) == 1 and "b.zip" in capsys.readouterr().err
