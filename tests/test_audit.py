"""The audit log: every line whole or not there, whoever writes at once, and nothing that it can break."""

import json
import logging
import os
import subprocess
import sys
import threading
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pianistid_core import audit
from pianistid_core.__main__ import main
from pianistid_core.audit import entries, folder_of, note, noting
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import RunError
from pianistid_core.runs import Run


@pytest.fixture
def root(tmp_path: Path) -> DataRoot:
    return DataRoot(tmp_path / "home", tmp_path / "cache")


def test_a_line_says_who_when_what_about_what_and_how_it_ended(root: DataRoot) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=2)
    note(root, "Ann", "stop", "study/a", where="lab", kind="save")
    with noting(root, "delete", "study/b", who="Bob"):
        pass
    with pytest.raises(RunError), noting(root, "delete", "study/c", who="Bob"):
        raise RunError("run study/c is still running; stop it first")
    refused, deleted, stopped = entries(root)
    assert (stopped.who, stopped.what, stopped.about, stopped.where) == ("Ann", "stop", "study/a", "lab")
    assert stopped.details == {"kind": "save"} and stopped.ended == "done"
    assert before <= stopped.when <= datetime.now(UTC)
    assert (deleted.ended, deleted.where) == ("done", "command line")
    assert (refused.ended, refused.why) == ("refused", "run study/c is still running; stop it first")
    line = (folder_of(root) / "log.jsonl").read_text().splitlines()[0]
    assert json.loads(line)["when"].endswith("Z") and len(json.loads(line)["when"]) == len("2026-11-27T09:30:00.123Z")


@pytest.mark.parametrize(
    "name", ["a\nb", '"}\n{"who": "root"', "\x1b[2J", "<script>x</script>", "\udc80", "é" * 5000, "\u202e", "\x00"]
)
def test_names_are_data(root: DataRoot, name: str) -> None:
    note(root, name, "start", name, why=name)
    (entry,) = entries(root)
    assert entry.about == (name if len(name) < 600 else name[:599] + "…")
    assert (folder_of(root) / "log.jsonl").read_bytes().count(b"\n") == 1


def test_no_password_gets_in(root: DataRoot) -> None:
    note(root, "Ann", "settings", "https://ann:s3cret@host", why="http://x:s3cret@y", more="http://x:s3cret@y")
    note(root, "Ann", "settings", "https://ann:" + 700 * "s3cret" + "@host")
    assert b"s3cret" not in (folder_of(root) / "log.jsonl").read_bytes()


def test_a_torn_line_takes_no_other_with_it(root: DataRoot) -> None:
    note(root, "Ann", "start", "a")
    with (folder_of(root) / "log.jsonl").open("ab") as file:
        file.write(b'{"when": "2026-11-27T09:30:00.123Z", "who": "Ann", "wh')
    note(root, "Ann", "start", "b")
    with (folder_of(root) / "log.jsonl").open("ab") as file:
        file.write(b'\n[1]\n{}\n"x"\n{"when": 3}\n\xff\n' + b"[" * 100_000 + b"\n")
    note(root, "Ann", "start", "c")
    assert [entry.about for entry in entries(root)] == ["c", "b", "a"]


def test_a_line_without_end_is_not_gathered(root: DataRoot) -> None:
    note(root, "Ann", "start", "a")
    with (folder_of(root) / "log.jsonl").open("ab") as file:
        file.write(b"x" * (20 << 20))
    tracemalloc.start()
    try:
        assert [entry.about for entry in entries(root)] == ["a"]
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_only_what_was_asked_for(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(300):
        note(root, "Ann" if number % 2 else "Bob", "start" if number % 3 else "stop", f"study/{number}")
    assert [entry.about for entry in entries(root, 3)] == ["study/299", "study/298", "study/297"]
    assert [entry.about for entry in entries(root, 2, who="Bob", what="stop")] == ["study/294", "study/288"]
    assert [entry.about for entry in entries(root, 9, about="STUDY/12")] == [
        f"study/12{n}" for n in range(9, 1 - 1, -1)
    ]
    assert len(entries(root, 1000)) == 300
    assert entries(root, since=datetime.now(UTC) + timedelta(hours=1)) == []
    read = 0
    whole = audit._read  # the tail alone is read

    def counted(line: bytes) -> object:
        nonlocal read
        read += 1
        return whole(line)

    monkeypatch.setattr(audit, "_read", counted)
    entries(root, 3)
    assert read < 10


def test_what_is_full_is_put_aside_and_no_line_is_lost_among_writers(
    root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "MOST_BYTES", 20_000)
    monkeypatch.setattr(audit, "FILES_KEPT", 1000)
    threads = [
        threading.Thread(target=lambda n=n: [note(root, f"w{n}", "start", str(i)) for i in range(200)])  # type: ignore[misc]
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [(entry.who, entry.about) for entry in entries(root, 10_000)]
    assert sorted(found) == sorted((f"w{n}", str(i)) for n in range(8) for i in range(200))
    assert len(list(folder_of(root).glob("log.*.jsonl"))) >= 5


def test_the_oldest_files_go(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MOST_BYTES", 1000)
    for number in range(200):
        note(root, "Ann", "start", str(number))
    assert len(list(folder_of(root).glob("log.*.jsonl"))) == audit.FILES_KEPT
    found = [int(entry.about) for entry in entries(root, 1000)]
    assert found == list(range(199, 199 - len(found), -1)) and len(found) < 100


def test_several_processes_lose_nothing(root: DataRoot) -> None:
    code = (
        "import sys; from pathlib import Path; from pianistid_core import audit; audit.MOST_BYTES = 9000;"
        "audit.FILES_KEPT = 1000; from pianistid_core.datasets.root import DataRoot;"
        "root = DataRoot(Path(sys.argv[1]), Path(sys.argv[2]));"
        "[audit.note(root, sys.argv[3], 'start', str(n)) for n in range(100)]"
    )
    command = [sys.executable, "-c", code, str(root.path), str(root.cache_dir)]
    writers = [subprocess.Popen([*command, name]) for name in ("a", "b", "c")]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert len({(entry.who, entry.about) for entry in entries(root, 1000)}) == 300


@pytest.mark.parametrize("fault", ["open", "write", "short"])
def test_a_disk_that_refuses_is_a_warning_and_no_failure(
    root: DataRoot, fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    note(root, "Ann", "start", "before")
    true_write = os.write

    def refuse(*given: object, **named: object) -> int:
        raise OSError(28, "No space left on device")

    replaced = {"open": refuse, "write": refuse, "short": lambda file, data: true_write(file, data[:20])}
    with monkeypatch.context() as broken, caplog.at_level(logging.WARNING):
        broken.setattr(os, "open" if fault == "open" else "write", replaced[fault])
        note(root, "Ann", "delete", "https://ann:s3cret@host")
    assert "audit log cannot be written" in caplog.text and "s3cret" not in caplog.text
    note(root, "Ann", "start", "after")
    assert [entry.about for entry in entries(root)] == ["after", "before"]


def test_where_the_root_cannot_be_written_it_lies_in_the_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    root = DataRoot(tmp_path / "file" / "inside", tmp_path / "cache")
    note(root, "Ann", "start", "study/a")
    assert folder_of(root).is_relative_to(tmp_path / "cache")
    assert [entry.about for entry in entries(root)] == ["study/a"]


def test_what_is_refused_makes_no_data_root(tmp_path: Path) -> None:
    root = DataRoot(tmp_path / "hoem", tmp_path / "cache")
    note(root, "Ann", "import", "music.zip", ended="refused", why="there is no such file")
    assert not root.path.exists()


def test_every_command_that_changes_something_leaves_a_line(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "machine_user", lambda: "operator")
    for name in ("a", "b"):
        run = Run.create(root.checkpoints_dir, "study", name)
        run.set_state("stopped", "", epochs=2)
    there = ["--data-root", str(root.path)]
    (root.path / "music").mkdir()
    lines: list[tuple[list[str], str, str, str]] = [
        (["runs", "tag", "study/a", "x"], "label", "study/a", "done"),
        (["runs", "note", "study/a", "x"], "label", "study/a", "done"),
        (["runs", "star", "study/a"], "label", "study/a", "done"),
        (["runs", "archive", "study/a"], "label", "study/a", "done"),
        (["runs", "stop", "study/a"], "stop", "study/a", "refused"),
        (["runs", "export", "study/a", str(root.path / "a.zip")], "export", "study/a", "done"),
        (["runs", "trash", "study/a"], "delete", "study/a", "done"),
        (["runs", "restore", "study/a"], "restore", "study/a", "done"),
        (["runs", "trash", "study/a"], "delete", "study/a", "done"),
        (["runs", "trash", "--empty"], "empty trash", "study/a", "done"),
        (["runs", "delete", "study/b"], "delete", "study/b", "done"),
        (["queue", "pause"], "queue pause", "", "done"),
        (["queue", "unpause"], "queue unpause", "", "done"),
        (["queue", "add", "--config", "demo.yaml"], "queue add", "demo/demo", "refused"),
        (["sweep", "--config", "demo.yaml", "--seeds", "1"], "queue add", "demo/demo-seed1", "refused"),
        (["cluster", "use", "10.0.0.5:6379"], "settings", "cluster 10.0.0.5:6379", "done"),
        (["cluster", "forget"], "settings", "no cluster", "done"),
        (["data", "import", str(root.path / "music")], "import", str(root.path / "music"), "refused"),
        (["data", "split", "all"], "split", "all", "refused"),
    ]
    for command, what, about, ended in lines:
        before = len(entries(root, 1000))
        main([*command, *there])
        now = entries(root, 1000)
        assert len(now) == before + 1, command
        assert (now[0].who, now[0].what, now[0].ended, now[0].where) == ("operator", what, ended, "command line"), (
            command
        )
        assert now[0].about == about, command
    for command in (["runs", "list"], ["runs", "trash"], ["queue", "list"], ["data", "list"], ["audit"]):
        main([*command, *there])
    assert len(entries(root, 1000)) == len(lines)


def test_the_command_lists_filters_and_gives_json(root: DataRoot, capsys: pytest.CaptureFixture[str]) -> None:
    there = ["--data-root", str(root.path)]
    assert main(["audit", *there]) == 0
    assert "nothing of the kind" in capsys.readouterr().out
    root.path.mkdir()
    note(root, "Ann", "stop", "study/\x1b[2Ja", where="lab", ended="refused", why="it is not running")
    note(root, "Bob", "start", "study/b")
    assert main(["audit", *there]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and out.index("Ann") < out.index("Bob") and "refused: it is not running" in out
    assert main(["audit", "--who", "Ann", "--what", "stop", "--since", "24h", "--json", *there]) == 0
    (said,) = json.loads(capsys.readouterr().out)
    assert said["who"] == "Ann" and said["why"] == "it is not running"
    assert main(["audit", "--since", "2100-01-01", *there]) == 0
    assert main(["audit", "--since", "yesterday", *there]) == 2
    assert main(["audit", "--last", "0", *there]) == 2
