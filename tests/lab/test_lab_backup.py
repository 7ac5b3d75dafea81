"""The Backup page: making, checking, removing, and bringing in, by those who may."""

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import jobs
import run_export
from lab_support import a_run, lab, words
from pianistid_core import audit
from pianistid_core.backups.opening import check_backup
from pianistid_core.backups.packing import write_backup
from pianistid_core.backups.shelf import kept_backups, place_for, remove, shelf_of
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import DataRootError
from pianistid_core.runs import Run
from tiny import until


@pytest.fixture
def root(tiny_root: DataRoot) -> DataRoot:
    a_run(tiny_root.path, "first", "finished")
    return tiny_root


def done(at: AppTest, root: DataRoot) -> AppTest:
    """The page once its job has ended."""
    job = jobs.find(f"backup:{root.path}")
    assert job is not None
    until(lambda: not job.running)
    return at.run()


def test_a_backup_is_made_checked_and_removed(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(root, monkeypatch, "views/backup.py")
    at.checkbox(key="backup_trash").uncheck()
    at.button(key="backup_start").click().run()
    at = done(at, root)
    (kept,) = kept_backups(root)
    assert f"{kept.name} is made: 1 run" in words(at) and not at.exception
    choose: Any = {"selection": {"rows": [0], "columns": [], "cells": []}}
    at.session_state["backups_table"] = choose
    at.run()
    at.button(key="backup_check").click().run()
    assert "It is whole" in words(done(at, root))
    kept.path.write_bytes(kept.path.read_bytes()[:-50])
    at.session_state["backups_table"] = choose
    at.run()
    at.button(key="backup_check").click().run()
    assert "refused" in words(done(at, root)).lower()
    at.session_state["backups_table"] = choose
    at.run()
    at.button(key="backup_delete").click().run()
    assert not kept_backups(root) and not at.exception
    assert {"backup", "backup check", "backup delete"} <= {entry.what for entry in audit.entries(root)}


def test_another_backup_that_comes_meanwhile_is_not_the_chosen_one(
    root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf_of(root).mkdir()
    write_backup(root, shelf_of(root) / "a.zip")
    at = lab(root, monkeypatch, "views/backup.py")
    at.session_state["backups_table"] = {"selection": {"rows": [0], "columns": [], "cells": []}}
    assert "a.zip is chosen" in words(at.run()).replace("\\", "")
    write_backup(root, shelf_of(root) / "b.zip")  # by somebody else; the newest stands first
    at.run()
    assert "is chosen" not in words(at) and at.button(key="backup_delete").disabled


def test_a_backup_is_brought_in_from_a_path(root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_backup(root, tmp_path / "b.zip")
    there = DataRoot(tmp_path / "there", cache_dir=tmp_path / "other")
    there.splits_dir.mkdir(parents=True)
    at = lab(there, monkeypatch, "views/backup.py")
    at.text_input(key="restore_path").set_value(str(tmp_path / "b.zip"))
    at.button(key="restore_from").click().run()
    assert "1 run and 1 split came in" in words(done(at, there))
    assert Run.find(there.checkpoints_dir, "study/first").metrics()
    at.text_input(key="restore_path").set_value(str(tmp_path / "is not there.zip"))
    at.button(key="restore_from").click().run()
    assert "is not a file" in words(done(at, there)) and not at.exception


def test_who_may_only_run_sees_no_shelf(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    import who
    from pianistid_core.accounts import Role

    write_backup(root, place_for(root))
    monkeypatch.setattr(who, "may", lambda role: role <= Role.RUN)
    at = lab(root, monkeypatch, "views/backup.py")
    keys = {widget.key for kind in ("button", "download_button") for widget in at.get(kind)}
    assert not {"backup_start", "backup_download", "backup_delete"} & keys
    assert at.button(key="restore_from").disabled


def test_chosen_runs_are_exported_as_a_backup_of_nothing_else(
    root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = a_run(root.path, "second", "running")
    at = lab(root, monkeypatch, "views/runs.py")
    (button,) = [one for one in at.get("download_button") if one.proto.id.endswith("bulk_export")]
    assert button.proto.disabled
    (tmp_path / "runs.zip").write_bytes(run_export.packed(root, [second], "ada"))
    contents = check_backup(tmp_path / "runs.zip")
    assert contents.runs == contents.live == ("study/second",)
    assert {entry.name.split("/")[0] for entry in contents.entries} == {"checkpoints"}
    (line,) = audit.entries(root, 1)
    assert (line.who, line.what, line.about) == ("ada", "export", "study/second")


def test_a_shelf_gives_only_its_own(root: DataRoot, tmp_path: Path) -> None:
    first, second = place_for(root), place_for(root)
    assert first == second
    first.write_bytes(b"x")
    assert place_for(root) != first
    (tmp_path / "outside.zip").write_bytes(b"x")
    (shelf_of(root) / "link.zip").symlink_to(tmp_path / "outside.zip")
    assert [one.name for one in kept_backups(root)] == [first.name]
    for name in ("../outside.zip", "link.zip", "gone.zip", "..", ""):
        with pytest.raises(DataRootError):
            remove(root, name)
    remove(root, first.name)
    assert not kept_backups(root) and (tmp_path / "outside.zip").exists()
