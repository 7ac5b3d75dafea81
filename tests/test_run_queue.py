"""The queue: each waiting run is trained exactly once and in order, whoever is killed when."""

import errno
import json
import os
import shutil
import timeit
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest

from pianistid_core import __main__ as command_line
from pianistid_core import atomic, launch, queue_files, run_folder, run_queue, runs
from pianistid_core.config import RunConfig, difference, to_yaml
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import RunError
from pianistid_core.places import Cluster, RemotePlace, cluster_of, keep_place, remote_place, set_place
from pianistid_core.processes import ProcessIdentity
from pianistid_core.run_config import run_for
from pianistid_core.run_queue import QueueEntry, RunQueue
from pianistid_core.runs import STARTING, WAITING, Run, list_runs
from pianistid_core.training import train
from tiny import tiny_config, until

SHORT: dict[str, Any] = {
    "epochs": 1,
    "train_dataset_cfg": {"multichannel": True, "data_augmentation": True, "jitter_start": True, "n_clips": 6},
    "test_dataset_cfg": {"multichannel": True, "n_clips": 3},
}


def named(name: str, **changes: Any) -> RunConfig:
    return tiny_config(**SHORT | {"run": name} | changes)


def processes_in(root: DataRoot, module: str = "pianistid_core") -> list[psutil.Process]:
    """Every living process of this data root that runs a module."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
        and str(root.path) in " ".join(process.info["cmdline"] or [])
        and any(argument.startswith(module) for argument in process.info["cmdline"] or [])
    ]


def kill_dispatchers(root: DataRoot) -> int:
    found = processes_in(root, "pianistid_core.run_queue")
    for process in found:
        process.kill()
    # Not "until none is listed": a dying process has no command line any more while it still holds its lock.
    until(lambda: all(has_ended(process) for process in found))
    return len(found)


def has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def queue(tiny_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunQueue]:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield RunQueue(tiny_root)
    while family := processes_in(tiny_root):
        for process in family:
            process.kill()
        psutil.wait_procs(family, timeout=5)


@pytest.fixture
def paused(queue: RunQueue) -> RunQueue:
    """A queue that starts nothing."""
    queue.pause()
    return queue


def run_of(queue: RunQueue, name: str) -> Run:
    return Run(queue.root.checkpoints_dir / "tests" / name)


def status_of(queue: RunQueue, name: str) -> str:
    return run_of(queue, name).state().status


def is_over(queue: RunQueue, *names: str) -> bool:
    return all(status_of(queue, name) not in ("queued", "running") for name in names)


def times_trained(run: Run) -> int:
    return run.log_tail(1000).count(f"run {run.id} on cpu")


def names_of(entries: list[QueueEntry]) -> list[str]:
    return [entry.config.run for entry in entries]


# --- starting, exactly once ---


def test_each_run_is_trained_once_and_in_order_though_the_dispatcher_is_killed_twice(queue: RunQueue) -> None:
    shutil.copytree(queue.root.splits_dir / "tiny", queue.root.splits_dir / "leaving")
    names = ["a", "b", "c", "d", "e", "f"]
    queue.add([named(name, **{"data_split_dir": "leaving"} if name == "c" else {}) for name in names])
    shutil.rmtree(queue.root.splits_dir / "leaving")
    for awaited in ("b", "e"):
        until(lambda awaited=awaited: status_of(queue, awaited) == "running")  # type: ignore[misc]
        assert kill_dispatchers(queue.root) == 1
        queue.wake()
    until(lambda: is_over(queue, *names))
    until(lambda: not processes_in(queue.root))
    found = {name: run_of(queue, name) for name in names}
    assert {name: run.state().status for name, run in found.items()} == {
        name: "failed" if name == "c" else "finished" for name in names
    }
    assert "leaving" in found["c"].state().reason
    assert {name: times_trained(run) for name, run in found.items()} == {name: int(name != "c") for name in names}
    started = [run.state().started or 0.0 for run in found.values()]
    assert started == sorted(started)
    assert queue.entries() == [] and not any(queue.files.ids(stage) for stage in ("claimed", "started"))  # type: ignore[arg-type]


def test_a_claim_whose_dispatcher_died_before_it_launched_is_started(paused: RunQueue) -> None:
    (entry,) = paused.add([named("a")])
    paused.files.advance(entry.id, "waiting", "claimed")
    assert status_of(paused, "a") == "queued" and paused.entries() == []
    paused.wake()  # what is claimed was begun before the pause
    until(lambda: is_over(paused, "a"))
    assert status_of(paused, "a") == "finished" and times_trained(run_of(paused, "a")) == 1


def test_a_claim_that_is_launched_twice_trains_once(paused: RunQueue) -> None:
    (entry,) = paused.add([named("a")])
    paused.files.advance(entry.id, "waiting", "claimed")
    claim = paused.files.path("claimed", entry.id)
    twins = [launch.start_claimed(entry.config, paused.root, claim) for _ in range(4)]
    assert {twin.wait() for twin in twins if twin is not None} == {0}
    assert status_of(paused, "a") == "finished" and times_trained(run_of(paused, "a")) == 1
    assert launch.start_claimed(entry.config, paused.root, claim) is None


def test_a_started_run_that_was_killed_is_not_started_again(paused: RunQueue) -> None:
    (entry,) = paused.add([named("a")])
    paused.files.advance(entry.id, "waiting", "claimed")
    gone = ProcessIdentity(2**22, "1", ProcessIdentity.of().boot)  # type: ignore[union-attr]
    run_of(paused, "a").set_state("running", STARTING, epochs=1, process=gone)
    record = paused.files.read("claimed", entry.id) or {}
    paused.files.write("claimed", entry.id, {**record, "process": asdict(gone)})
    paused.files.advance(entry.id, "claimed", "started")
    paused.wake()
    until(lambda: not paused.files.ids("started"))
    assert status_of(paused, "a") == "interrupted" and times_trained(run_of(paused, "a")) == 0


def test_many_wakes_make_one_dispatcher_which_ends_with_the_queue(queue: RunQueue) -> None:
    queue.pause()
    queue.add([named("a")])
    (queue.files.folder / "paused").unlink()
    pages = []
    for _ in range(16):  # pages of many servers
        if (pid := os.fork()) == 0:
            status = 1
            try:
                RunQueue(queue.root).wake()
                status = 0
            finally:
                os._exit(status)
        pages.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pages] == [0] * len(pages)
    assert len(processes_in(queue.root, "pianistid_core.run_queue")) == 1
    until(lambda: is_over(queue, "a"))
    until(lambda: not processes_in(queue.root))
    assert not (queue.files.folder / "dispatcher.json").exists() and times_trained(run_of(queue, "a")) == 1


def test_a_run_started_by_hand_is_waited_for(queue: RunQueue) -> None:
    by_hand = launch.start(named("long", epochs=2000), queue.root)
    queue.add([named("a")])
    until(lambda: by_hand.state().epoch >= 1)
    assert run_of(queue, "a").state().reason == WAITING
    launch.stop_and_wait(by_hand)
    until(lambda: is_over(queue, "a"))
    assert status_of(queue, "a") == "finished"


def test_a_dispatcher_that_is_paused_goes_and_comes_back(queue: RunQueue) -> None:
    by_hand = launch.start(named("long", epochs=2000), queue.root)
    queue.add([named("a")])
    queue.pause()
    until(lambda: not processes_in(queue.root, "pianistid_core.run_queue"))
    assert queue.paused and names_of(queue.entries()) == ["a"]
    launch.stop_and_wait(by_hand, "discard")
    queue.unpause()
    until(lambda: is_over(queue, "a"))
    assert status_of(queue, "a") == "finished"


def test_waking_costs_next_to_nothing(queue: RunQueue) -> None:
    assert min(timeit.repeat(queue.wake, number=20, repeat=10)) / 20 < 0.001
    queue.pause()
    queue.add([named("a")])
    assert min(timeit.repeat(queue.wake, number=20, repeat=10)) / 20 < 0.001


def test_runs_for_clusters_are_handed_over_so_many_at_a_time_and_wait_for_nobody_here(
    paused: RunQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_queue, "MOST_ON_CLUSTERS", 2)
    away = paused.add([named(name) for name in "abc"], cluster=Cluster("127.0.0.1:6379"))
    here = paused.add([named(name) for name in "de"])
    (paused.files.folder / "paused").unlink()
    dispatcher = run_queue._Dispatcher(paused)
    while dispatcher.claim_next(dispatcher.free_lanes()):
        pass
    claimed = paused.files.ids("claimed")
    assert claimed == [away[0].id, away[1].id, here[0].id] and dispatcher.free_lanes() == set()
    paused.files.drop("claimed", away[0].id)
    assert dispatcher.free_lanes() == {"cluster"} and dispatcher.claim_next({"cluster"})
    assert names_of(paused.entries()) == ["e"] and not dispatcher.claim_next({"cluster"})


def test_an_entry_is_started_where_it_was_queued_for(paused: RunQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_spawn", lambda run, root, claim: None)
    away = Cluster("127.0.0.1:6379", data_root="/data")
    a, b, c = [*paused.add([named("a"), named("b")], cluster=away), *paused.add([named("c")])]
    kept = remote_place(run_of(paused, "b"))
    set_place(run_of(paused, "a"), None)
    set_place(run_of(paused, "c"), away)
    for entry in (a, b, c):
        paused.files.advance(entry.id, "waiting", "claimed")
        run_queue._Dispatcher(paused).begin(entry.id)
    assert [cluster_of(run_of(paused, name)) for name in "abc"] == [away, away, None]
    assert remote_place(run_of(paused, "b")) == kept


def test_a_run_that_may_still_train_on_a_cluster_is_not_queued_elsewhere(paused: RunQueue) -> None:
    away = Cluster("127.0.0.1:6379", data_root="/data")
    run = run_of(paused, "a")
    run.make()
    keep_place(run, RemotePlace(away, "pianistid-1", outstanding=True))
    with pytest.raises(RunError, match="may still train on the cluster at"):
        paused.add([named("a")])
    assert paused.entries() == [] and cluster_of(run) == away
    assert len(paused.add([named("a")], cluster=away)) == 1


def test_an_entry_whose_cluster_cannot_be_read_does_not_train_here(paused: RunQueue) -> None:
    (entry,) = paused.add([named("a")], cluster=Cluster("127.0.0.1:6379"))
    record = paused.files.read("waiting", entry.id) or {}
    paused.files.write("waiting", entry.id, {**record, "cluster": {"address": "127.0.0.1:6379"}})
    assert RunQueue(paused.root).entries() == []


# --- what waits ---


def test_a_waiting_run_has_a_folder_and_is_listed(paused: RunQueue) -> None:
    (entry,) = paused.add([named("a", epochs=7)])
    (summary,) = list_runs(paused.root.checkpoints_dir)
    assert (summary.id, summary.state.status, summary.state.reason) == ("tests/a", "queued", WAITING)
    assert (entry.run_id, entry.epochs, summary.state.epochs) == ("tests/a", 7, 7)
    assert RunQueue(paused.root).entries() == [entry]
    assert difference(entry.config, named("a", epochs=7)) == []


def test_a_waiting_run_stays_one_however_long_it_waits(paused: RunQueue) -> None:
    paused.add([named("a")])
    state = run_of(paused, "a").read_json("state.json") or {}
    run_of(paused, "a").save_json("state.json", state | {"started": 1.0})
    assert status_of(paused, "a") == "queued"


def test_a_waiting_run_without_an_entry_says_so(paused: RunQueue) -> None:
    (entry,) = paused.add([named("a")])
    paused.files.drop("waiting", entry.id)
    state = run_of(paused, "a").state()
    assert state.status == "interrupted" and "no longer in the queue" in state.reason
    launch.start(named("a"), paused.root)
    until(lambda: is_over(paused, "a"))
    assert status_of(paused, "a") == "finished"


def test_an_entry_that_lies_outside_its_queue_is_none(paused: RunQueue) -> None:
    paused.add([named("a")])
    run, outside = run_of(paused, "a"), paused.root.path / "victim.json"
    outside.write_text("{}")
    run.save_json("queued.json", {"queue": "../../../queue", "id": "../../victim"})
    assert run.queue_entry() is None and run.state().status == "interrupted"
    with pytest.raises(RunError, match="not running"):
        launch.stop(run)
    assert outside.exists()


def test_an_entry_whose_run_was_deleted_is_void(paused: RunQueue) -> None:
    paused.add([named("a"), named("b")])
    run_of(paused, "a").delete()
    assert names_of(paused.entries()) == ["b"]
    paused.unpause()
    until(lambda: is_over(paused, "b") and not processes_in(paused.root))
    assert not run_of(paused, "a").path.exists() and paused.files.ids("waiting") == []


def test_entries_can_be_moved(paused: RunQueue) -> None:
    entries = paused.add([named(name) for name in "abcd"])
    paused.move(entries[3].id, 0)
    assert names_of(paused.entries()) == ["d", "a", "b", "c"]
    paused.move(entries[3].id, 99)
    paused.move(entries[0].id, 1)
    assert names_of(paused.entries()) == ["b", "a", "c", "d"]
    paused.add([named("e")])
    assert names_of(paused.entries())[-1] == "e"
    with pytest.raises(RunError, match="does not wait"):
        paused.move("nothing", 0)


def test_removing_leaves_no_folder_of_a_run_that_never_trained(paused: RunQueue) -> None:
    first, second = paused.add([named("a"), named("b")])
    paused.remove(first.id)
    assert names_of(paused.entries()) == ["b"] and not run_of(paused, "a").path.exists()
    paused.remove(second.id)
    assert not (paused.root.checkpoints_dir / "tests").exists()
    with pytest.raises(RunError, match="does not wait"):
        paused.remove(second.id)


def test_removing_a_trained_run_makes_it_what_it_was(paused: RunQueue) -> None:
    train(named("a"), paused.root, run_of(paused, "a"))
    before = run_of(paused, "a").state()
    (entry,) = paused.add([named("a", epochs=3)])
    assert status_of(paused, "a") == "queued"
    paused.remove(entry.id)
    after = run_of(paused, "a").state()
    assert (
        (after.status, after.epoch, after.epochs) == (before.status, before.epoch, before.epochs) == ("finished", 1, 1)
    )


def test_a_trained_run_is_taken_further(queue: RunQueue) -> None:
    train(named("a"), queue.root, run_of(queue, "a"))
    queue.add([named("a", epochs=2)])
    until(lambda: is_over(queue, "a"))
    assert [row["epoch"] for row in run_of(queue, "a").metrics()] == [1, 2]


def test_what_cannot_be_queued_is_refused_all_at_once_and_nothing_is_written(paused: RunQueue) -> None:
    train(named("trained"), paused.root, run_of(paused, "trained"))
    run_of(paused, "busy").make()
    run_of(paused, "busy").set_state("running", epochs=1, process=ProcessIdentity.of(os.getpid()))
    paused.add([named("waits")])
    others = [named("twice"), named("twice"), named("lost", data_split_dir="nowhere"), named("fine")]
    with pytest.raises(RunError) as refused:
        paused.add([named("trained", batch_size=3), named("busy"), named("waits"), *others])
    for part in ("batch_size", "busy is already running", "waits already waits", "twice is given twice", "'nowhere'"):
        assert part in str(refused.value)
    assert "fine" not in str(refused.value)
    assert names_of(paused.entries()) == ["waits"]
    assert not any(run_of(paused, name).path.exists() for name in ("twice", "lost", "fine"))


def test_runs_of_which_one_has_no_room_for_its_folder_leave_nothing_waiting(paused: RunQueue) -> None:
    paused.root.checkpoints_dir.mkdir()
    (paused.root.checkpoints_dir / "blocked").write_text("a file where the experiment's folder would be")
    with pytest.raises(RunError, match="cannot write the run folder"):
        paused.add([named("a"), named("b", experiment="blocked")])
    assert paused.entries() == [] and not run_of(paused, "a").path.exists()


@pytest.mark.parametrize("file", ["run.json", "queued.json", "request.yaml", "state.json"])
def test_a_full_disk_leaves_no_folder_of_a_run_that_never_waited(
    file: str, paused: RunQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = atomic.write_atomically

    def full(path: Path, data: bytes) -> None:
        if path.name == file and path.parent.name == "b":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data)

    for module in (queue_files, run_folder, runs):
        monkeypatch.setattr(module, "write_atomically", full)
    with pytest.raises(RunError, match="No space left"):
        paused.add([named("a"), named("b", experiment="other")])
    assert paused.entries() == [] and list(paused.root.checkpoints_dir.glob("*/*")) == []
    assert not (paused.root.checkpoints_dir / "other").exists()


def test_pages_that_change_the_queue_at_once_lose_nothing(paused: RunQueue) -> None:
    kept = paused.add([named(f"old-{n}") for n in range(6)])

    def change(n: int) -> None:
        own = RunQueue(paused.root)
        own.add([named(f"new-{n}")])
        own.move(kept[n % 3].id, n)
        own.remove(kept[3 + n].id) if n < 3 else own.entries()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(change, range(6)))
    expected = {"old-0", "old-1", "old-2", *(f"new-{n}" for n in range(6))}
    assert set(names_of(paused.entries())) == expected and len(paused.entries()) == len(expected)
    assert {run.state.reason for run in list_runs(paused.root.checkpoints_dir)} == {WAITING}


def test_a_queue_that_cannot_be_written_says_so(tmp_path: Path, tiny_root: DataRoot) -> None:
    (tiny_root.path / "queue").write_text("in the way")
    with pytest.raises(RunError, match="cannot be written"):
        RunQueue(tiny_root).add([named("a")])
    assert not tiny_root.checkpoints_dir.exists()


# --- beside launch ---


def test_starting_a_waiting_run_by_hand_takes_it_out_of_the_queue(paused: RunQueue) -> None:
    paused.add([named("a"), named("b")])
    launch.start(named("a"), paused.root)
    assert names_of(paused.entries()) == ["b"]
    until(lambda: is_over(paused, "a"))
    assert times_trained(run_of(paused, "a")) == 1


def test_training_a_waiting_run_here_takes_it_out_of_the_queue(paused: RunQueue) -> None:
    """Or the queue would train it again, from nothing where its config says so."""
    paused.add([named("a"), named("b")])
    train(named("a"), paused.root, run_of(paused, "a"))
    assert names_of(paused.entries()) == ["b"] and status_of(paused, "a") == "finished"


def test_a_run_that_the_queue_is_starting_is_not_trained_here(paused: RunQueue) -> None:
    (entry,) = paused.add([named("a")])
    paused.files.advance(entry.id, "waiting", "claimed")
    with pytest.raises(RunError, match="queue is starting"):
        train(named("a"), paused.root, run_of(paused, "a"))
    assert paused.files.ids("claimed") == [entry.id] and run_of(paused, "a").state().reason == WAITING


def test_a_run_that_the_queue_is_starting_is_not_started_by_hand(paused: RunQueue) -> None:
    (entry,) = paused.add([named("a")])
    paused.files.advance(entry.id, "waiting", "claimed")
    with pytest.raises(RunError, match="queue is starting"):
        launch.start(named("a"), paused.root)


def test_stopping_a_waiting_run_takes_it_out_of_the_queue(paused: RunQueue) -> None:
    paused.add([named("a"), named("b")])
    launch.stop(run_of(paused, "a"))
    launch.stop_and_wait(run_of(paused, "b"))
    assert paused.entries() == [] and not run_of(paused, "a").path.exists()


def test_a_relative_folder_for_runs_is_frozen(
    paused: RunQueue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (entry,) = paused.add([named("a", checkpoint_cfg={"checkpoint_dir": "elsewhere"})])
    assert entry.config.checkpoint_cfg.checkpoint_dir == str(tmp_path / "elsewhere")
    assert run_for(entry.config, paused.root).state().reason == WAITING


# --- the command ---


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """What a command answers as JSON."""
    assert command_line.main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_queue_by_command(paused: RunQueue, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = ("--data-root", str(paused.root.path))
    config = tmp_path / "tiny.yaml"
    config.write_text(to_yaml(named("a")))
    added = [
        said(capsys, "queue", "add", "--config", str(config), "--set", f"run={name}", *here)["run"] for name in "abc"
    ]
    assert added == ["tests/a", "tests/b", "tests/c"]
    moved = said(capsys, "queue", "move", "tests/c", "1", *here)
    assert moved["paused"] and [entry["run"] for entry in moved["waiting"]] == ["tests/c", "tests/a", "tests/b"]
    left = said(capsys, "queue", "remove", "1", "tests/b", *here)
    assert [entry["run"] for entry in left["waiting"]] == ["tests/a"]
    assert command_line.main(["queue", "list", *here]) == 0
    shown = capsys.readouterr().out
    assert "tests/a" in shown and "is paused" in shown
    assert command_line.main(["queue", "remove", "nothing", *here]) == 1
    assert "those that wait: tests/a" in capsys.readouterr().err
    assert said(capsys, "runs", "stop", "tests/a", *here) == {"id": "tests/a", "removed": True}
    assert said(capsys, "queue", "pause", *here) == {"paused": True, "waiting": []}


def test_a_sweep_by_command_waits_in_the_queue(
    paused: RunQueue, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(to_yaml(named("a")))
    sweep = ("sweep", "--config", str(config), "--over", "batch_size=3..4", "--seeds", "1", "--data-root")
    expected = ["tests/a-batch_size3-seed1", "tests/a-batch_size4-seed1"]
    assert [run["run"] for run in said(capsys, *sweep, str(paused.root.path), "--dry-run")] == expected
    assert paused.entries() == []
    assert command_line.main([*sweep, str(paused.root.path)]) == 0
    assert "2 runs queued; the queue is paused" in capsys.readouterr().out
    assert [entry.run_id for entry in paused.entries()] == expected
