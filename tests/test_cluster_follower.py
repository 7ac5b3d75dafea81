"""This machine's end of a cluster's run, against a trainer of which every step is chosen; no Ray is started."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from filelock import FileLock

from pianistid_core import cluster_follower
from pianistid_core.cluster_follower import Follower
from pianistid_core.cluster_trainer import Look, Signature
from pianistid_core.config import to_yaml
from pianistid_core.errors import CheckpointError, ClusterError
from pianistid_core.places import Cluster, RemotePlace, keep_place, remote_place
from pianistid_core.processes import ProcessIdentity
from pianistid_core.runs import Run
from tiny import tiny_config

CONFIG = tiny_config()


class Gone(Exception):
    """What Ray raises when an actor is dead."""


class Unavailable(Gone):
    """What Ray raises when the way to an actor is broken for now."""


class Failed(Exception):
    """What Ray raises when an actor's method raised."""


class Late(Exception):
    """What Ray raises when an answer does not come in time."""


class There:
    """A trainer on the cluster: `steps` are what it does between two looks."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.steps: list[Callable[[], object]] = []
        self.code: int | None = None
        self.began = False
        self.numbers: dict[str, int] = {}
        self.taken: dict[str, bytes] = {}
        self.stops: list[str] = []
        self.reads: list[str] = []
        self.closed = False
        self.killed = 0  # how often it is still heard after it was killed

    def write(self, name: str, data: bytes, *, anew: bool = True) -> None:
        self.numbers[name] = self.numbers.get(name, 0) + (anew or name not in self.numbers)
        self.files[name] = data

    def says(self, status: str, reason: str = "", **more: object) -> None:
        self.write("state.json", json.dumps({"status": status, "reason": reason, **more}).encode())

    def ends(self, code: int, status: str = "", reason: str = "", **more: object) -> None:
        if status:
            self.says(status, reason, **more)
        self.code = code

    def signature(self, name: str) -> Signature:
        return self.numbers[name], len(self.files[name]), self.numbers[name]

    # --- what the follower asks ---

    def machine(self) -> str:
        return "gpu-3"

    def begun(self) -> bool:
        return self.began

    def put(self, name: str, data: bytes, offset: int) -> None:
        self.taken[name] = self.taken.get(name, b"")[:offset] + data

    def begin(self, config: str, split: str, data_root: str) -> str:
        self.began = True
        return ""

    def look(self) -> Look:
        if self.steps:
            self.steps.pop(0)()
        return Look({name: self.signature(name) for name in self.files}, self.code)

    def read(self, name: str, offset: int) -> tuple[bytes, Signature]:
        self.reads.append(name)
        if name not in self.files:
            raise FileNotFoundError(name)
        return self.files[name][offset : offset + cluster_follower.CHUNK_BYTES], self.signature(name)

    def digest(self, name: str) -> str:
        return hashlib.sha256(self.files[name]).hexdigest()

    def stop(self, kind: str) -> None:
        self.stops.append(kind)

    def close(self) -> None:
        self.closed = True


def ray_with(there: There) -> Any:
    class Handle:
        def __getattr__(self, name: str) -> Any:
            return SimpleNamespace(remote=lambda *arguments: (name, arguments))

    def get(question: tuple[str, tuple[Any, ...]], timeout: float) -> Any:
        if there.killed:
            there.killed += 1
            if there.killed > 3:
                raise Gone("The actor is dead because it was killed")
        return getattr(there, question[0])(*question[1])

    def kill(handle: Any) -> None:
        there.killed = 1

    there.killed = 0
    actor = SimpleNamespace(options=lambda **options: SimpleNamespace(remote=lambda *arguments, **settings: Handle()))
    return SimpleNamespace(
        remote=lambda kind: actor, get=get, kill=kill, wait=lambda some, timeout: (some, []),
        exceptions=SimpleNamespace(
            GetTimeoutError=Late, RayActorError=Gone, ActorUnavailableError=Unavailable, RayTaskError=Failed
        ),
    )  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(cluster_follower, "LOOK_EVERY_S", 0.0)
    run = Run.create(tmp_path / "checkpoints", "tests", "tiny")
    keep_place(run, RemotePlace(Cluster("127.0.0.1:6379", 0.0, 1, "/data"), "pianistid-1"))
    run.set_state("running", "", epochs=2, process=ProcessIdentity.of())
    return run


@pytest.fixture
def there() -> There:
    return There()


def follow(run: Run, there: There, **changes: Any) -> int:
    place = remote_place(run)
    assert place is not None
    return Follower(run, tiny_config(**changes), place, ray_with(there)).follow()


def files_in(run: Run) -> set[str]:
    return {path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file()}


def test_what_grows_is_brought_over_once_and_what_is_replaced_whole(run: Run, there: There) -> None:
    there.steps = [
        lambda: there.write("log.txt", b"one\n"),
        lambda: (there.write("config.yaml", b"theirs: 1"), there.write("metrics.jsonl", b'{"epoch": 1}\n')),
        lambda: (there.write("log.txt", b"one\ntwo\n", anew=False), there.write("checkpoint_001.pth", b"first")),
        lambda: there.write("metrics.jsonl", b'{"epoch": 1}\n{"epoch": 2}\n', anew=False),
        lambda: (there.write("checkpoint_002.pth", b"second"), there.files.pop("checkpoint_001.pth")),
        lambda: there.write("metrics.jsonl", b'{"epoch": 9, "test_loss": 0.125, "train_loss": 0.25}\n'),
        lambda: there.ends(0, "finished"),
    ]
    assert follow(run, there) == 0
    assert run.read_text("log.txt") == "one\ntwo\n"
    assert [row["epoch"] for row in run.metrics()] == [9]
    assert [path.name for path in run.checkpoints()] == ["checkpoint_002.pth"]
    assert "theirs" not in (run.read_text("config.yaml") or "") and "epochs: 2" in (run.read_text("config.yaml") or "")
    assert (run.state().status, there.closed) == ("finished", True)
    place = remote_place(run)
    assert place is not None and (place.machine, place.log_bytes, place.begun) == ("gpu-3", 8, True)
    assert not place.outstanding


def test_names_that_are_not_a_runs_are_not_written(run: Run, there: There, tmp_path: Path) -> None:
    evil = (
        "../evil.json",
        "../../../evil.txt",
        "/tmp/evil-pianistid.txt",
        "place.json",
        "labels.json",
        "run.json",
        "figures/../x.png",
    )
    before = files_in(run)

    def offer() -> None:
        there.write("config.yaml", b"")
        for name in evil:
            there.write(name, b"evil")

    there.steps = [offer, lambda: there.ends(0, "finished")]
    assert follow(run, there) == 0
    assert not [name for name in there.reads if name in evil]
    assert files_in(run) - before == {"config.yaml", "state.json"} - before
    assert "evil" not in "".join(path.read_text() for path in tmp_path.rglob("*.json"))


def test_too_many_files_or_too_large_ones_are_refused(run: Run, there: There, monkeypatch: pytest.MonkeyPatch) -> None:
    there.write("config.yaml", b"")
    there.write("data.json", b"0123456789")
    there.ends(0, "finished")
    monkeypatch.setattr(cluster_follower, "MOST_BYTES", 9)
    with pytest.raises(ClusterError, match="larger than"):
        follow(run, there)
    monkeypatch.setattr(cluster_follower, "MOST_FILES", 1)
    with pytest.raises(ClusterError, match="3 files"):
        follow(run, there)
    assert not (run.path / "data.json").exists()


def test_a_file_that_changes_while_it_is_read_is_read_again(
    run: Run, there: There, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_follower, "CHUNK_BYTES", 64)
    there.write("config.yaml", b"")
    there.write("checkpoint_001.pth", b"a" * 100)
    read = there.read

    def changing(name: str, offset: int) -> tuple[bytes, Signature]:
        if name == "checkpoint_001.pth" and offset == 64 and there.reads.count(name) == 1:
            there.write(name, b"b" * 100)
        return read(name, offset)

    monkeypatch.setattr(there, "read", changing)
    there.steps = [lambda: None, lambda: there.ends(0, "finished")]
    assert follow(run, there) == 0
    assert (run.path / "checkpoint_001.pth").read_bytes() == b"b" * 100


def test_what_cannot_be_fetched_whole_is_no_finished_run(
    run: Run, there: There, monkeypatch: pytest.MonkeyPatch
) -> None:
    there.write("config.yaml", b"")
    there.write("checkpoint_001.pth", b"abc")
    there.ends(0, "finished")
    monkeypatch.setattr(there, "digest", lambda name: "another")
    with pytest.raises(ClusterError, match=r"checkpoint_001\.pth could not be fetched whole"):
        follow(run, there)
    assert not there.closed and run.checkpoints() == [] and run.state().status == "running"
    assert remote_place(run).outstanding  # type: ignore[union-attr]


def test_a_second_follower_takes_up_the_thread(run: Run, there: There) -> None:
    there.began = True
    there.write("config.yaml", b"")
    there.write("log.txt", b"one\ntwo\nthree\n")
    there.write("checkpoint_001.pth", b"first")
    (run.path / "log.txt").write_text("one\ntwo\n")
    (run.path / "checkpoint_001.pth").write_bytes(b"first")
    place = remote_place(run)
    assert place is not None
    keep_place(run, RemotePlace(place.cluster, place.actor, "gpu-3", len("one\ntwo\n"), True))
    there.steps = [lambda: None, lambda: there.ends(0, "finished")]
    assert follow(run, there) == 0
    assert there.taken == {} and "checkpoint_001.pth" not in there.reads
    assert (run.read_text("log.txt") or "").endswith("one\ntwo\nthree\n")


def test_a_run_that_goes_on_takes_its_files_along_and_one_that_starts_over_does_not(run: Run, there: There) -> None:
    for name in ("checkpoint_001.pth", "checkpoint_002.pth", "metrics.jsonl", "labels.json", "log.txt"):
        (run.path / name).write_text(name)
    place = remote_place(run)
    assert place is not None
    there.steps = [lambda: there.ends(1)]
    follow(run, there)
    assert set(there.taken) == {"checkpoint_002.pth", "metrics.jsonl"}
    again = There()
    again.steps = [lambda: again.write("config.yaml", b""), lambda: again.ends(0, "finished")]
    assert follow(run, again, checkpoint_cfg={"load_checkpoints": False}) == 0
    assert again.taken == {} and run.checkpoints() == []


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_goes_along(run: Run, there: There) -> None:
    paths = []
    for epoch in (1, 2):
        state = {"model_state_dict": {"w": torch.ones(5)}, "epoch": epoch, "batch": 0}
        paths.append(run.save_checkpoint(state, epoch=epoch, batch=0, keep_old=True))
    data = bytearray(paths[1].read_bytes())
    data[len(data) // 2] ^= 1
    paths[1].write_bytes(data)
    there.steps = [lambda: there.ends(1)]
    follow(run, there)
    assert set(there.taken) == {"checkpoint_001.pth"} and len(run.damaged_checkpoints()) == 1
    paths[0].write_bytes(data)
    with pytest.raises(CheckpointError, match="all its checkpoints are damaged"):
        follow(run, There())
    assert run.checkpoints() == [paths[0]]


def test_a_training_that_never_began_there_costs_nothing_here(run: Run, there: There) -> None:
    (run.path / "checkpoint_001.pth").write_bytes(b"first")
    there.steps = [lambda: there.ends(1, "failed", "no clips")]
    assert follow(run, there, checkpoint_cfg={"load_checkpoints": False}) == 1
    assert len(run.checkpoints()) == 1 and run.state().reason == "no clips"


@pytest.mark.parametrize(
    ("code", "words", "kind"),
    [(-9, "was killed by signal 9 (SIGKILL)", "killed"), (3, "ended with exit status 3: Segmentation", "other")],
)
def test_a_trainer_that_ends_without_a_word_is_a_failed_run(
    run: Run, there: There, code: int, words: str, kind: str
) -> None:
    there.says("running")
    there.write("log.txt", b"Segmentation fault\n")
    there.steps = [lambda: there.ends(code)]
    assert follow(run, there) == 1
    assert run.state().status == "failed" and words in run.state().reason
    assert run.failure().kind == kind  # type: ignore[union-attr]


def test_a_request_to_stop_is_passed_on_once(run: Run, there: There) -> None:
    there.steps = [
        lambda: run.request_stop("save"), lambda: None, lambda: run.request_stop("discard"), lambda: None,
        lambda: there.ends(0, "stopped", "discarded on request"),
    ]  # fmt: skip
    assert follow(run, there) == 0
    assert there.stops == ["save", "discard"]
    assert (run.state().status, run.stop_request()) == ("stopped", None)


def test_a_cluster_that_falls_silent_is_given_up(run: Run, there: There) -> None:
    def silent() -> None:
        raise Late

    there.steps = [lambda: None, silent]
    with pytest.raises(ClusterError, match="has not answered for 120 s; resume"):
        follow(run, there)


def test_a_way_that_is_broken_for_a_moment_is_tried_again(
    run: Run, there: There, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise Unavailable("the network")

    there.steps = [lambda: None, broken, broken, lambda: there.ends(0, "finished")]
    assert follow(run, there) == 0
    monkeypatch.setattr(cluster_follower, "SILENT_S", -1.0)
    there.code, there.steps = None, [lambda: None, broken]
    with pytest.raises(ClusterError, match="is gone"):
        follow(run, there)


def test_what_goes_wrong_in_the_trainer_itself_is_said(run: Run, there: There) -> None:
    def full() -> None:
        raise Failed("Traceback\n  in look\nOSError: No space left on device")

    there.steps = [full]
    with pytest.raises(ClusterError, match=r"failed: OSError: No space left on device"):
        follow(run, there)


def test_a_cluster_that_lacks_the_program_says_so(run: Run, there: There) -> None:
    def dead() -> None:
        raise Gone("The actor died\nModuleNotFoundError: No module named 'pianistid_core'")

    there.steps = [dead]
    with pytest.raises(ClusterError, match="install pianistid there"):
        follow(run, there)


def test_a_mirror_in_a_store_of_this_machine_does_not_go_along(
    run: Run, there: There, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []
    monkeypatch.setattr(there, "begin", lambda config, split, root: given.append(config) or "")
    for uri in (None, "http://mlflow:5000"):
        there.code = None
        there.steps = [lambda: there.ends(1)]
        follow(run, there, mlflow_cfg={"use": True, "tracking_uri": uri})
    assert ["use: true" in config for config in given] == [False, True]


def test_a_listing_without_the_config_deletes_nothing_here(run: Run, there: There) -> None:
    def swept() -> None:
        there.files.clear()
        there.write("log.txt", b"swept")

    there.write("config.yaml", b"")
    there.write("checkpoint_001.pth", b"first")
    there.steps = [lambda: None, swept, lambda: there.ends(1)]
    assert follow(run, there) == 1
    assert [path.name for path in run.checkpoints()] == ["checkpoint_001.pth"] and run.log_tail() == "swept"


def test_how_it_ended_is_said_before_the_trainer_is_let_go(
    run: Run, there: There, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """As the process that follows ends, at once."""

    def killed() -> None:
        raise Killed

    monkeypatch.setattr(there, "close", killed)
    there.write("config.yaml", b"")
    run.request_stop("save")
    there.steps = [lambda: None, lambda: there.ends(0, "finished")]
    with pytest.raises(Killed):
        follow(run, there)
    assert (run.state().status, run.stop_request()) == ("finished", None)


def test_a_trainer_that_cannot_begin_leaves_nothing_there(
    run: Run, there: There, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(there, "begin", lambda config, split, root: "no such folder")
    with pytest.raises(ClusterError, match="no such folder"):
        follow(run, there)
    assert there.closed and not remote_place(run).outstanding  # type: ignore[union-attr]
    assert there.killed == 4  # and it was seen gone


def test_what_may_still_be_there_is_known_until_it_is_here_or_gone(run: Run, there: There) -> None:
    def dead() -> None:
        assert remote_place(run).outstanding  # type: ignore[union-attr]
        raise Gone("its node died")

    def silent() -> None:
        raise Late

    for last, left in ((silent, True), (dead, False)):
        there.steps = [lambda: None, last]
        with pytest.raises(ClusterError):
            follow(run, there)
        assert remote_place(run).outstanding == left  # type: ignore[union-attr]


def test_a_run_that_somebody_trains_here_by_now_is_left_to_them(run: Run) -> None:
    run.save_text("request.yaml", to_yaml(CONFIG))
    (run.path / "place.json").unlink()
    with FileLock(run.path / "lock"):
        assert cluster_follower.follow(run) == 1
    assert run.state().status == "running"
