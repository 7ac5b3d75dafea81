"""Background runs: they outlive whoever started them, stop when asked, and say how they ended."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from pianistid_core import __main__ as command_line
from pianistid_core import launch, trash
from pianistid_core.config import RunConfig, to_yaml
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import ClusterError, RunError, SplitError
from pianistid_core.ladder import Patience, marked
from pianistid_core.places import Cluster, RemotePlace, cluster_of, keep_place
from pianistid_core.processes import ProcessIdentity
from pianistid_core.run_config import config_to_resume, run_for
from pianistid_core.run_queue import RunQueue
from pianistid_core.runs import STARTING, Run, find_runs
from pianistid_core.training import train
from tiny import tiny_config, until

PYTHON = sys.executable  # which the fixtures replace
LONG: dict[str, Any] = {
    "epochs": 2000,
    "checkpoint_cfg": {"checkpoint_after_n_epochs": 1, "delete_old_checkpoints": True},
}


def processes_of(run: Run) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if process.info["status"] != psutil.STATUS_ZOMBIE and str(run.path) in " ".join(process.info["cmdline"] or []):
            found.append(process)
    return found


def of(run: Run) -> dict[str, str]:
    """The environment of what a supervisor has started for a run."""
    return {**os.environ, **marked(run.path)}


@pytest.fixture
def started(tiny_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Run]]:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    runs: list[Run] = []

    def start(**changes: Any) -> Run:
        runs.append(launch.start(tiny_config(**changes), tiny_root))
        return runs[-1]

    yield start
    for run in runs:
        for process in processes_of(run):
            process.kill()


def test_a_run_trains_in_the_background_and_finishes(started: Callable[..., Run]) -> None:
    run = started()
    assert run.state().status in ("queued", "running")
    until(lambda: run.state().status not in ("queued", "running"))
    assert run.state().status == "finished" and run.state().epoch == 2
    until(lambda: not processes_of(run))
    assert run.read_json("exit.json")["code"] == 0
    assert run.log_tail().count("epoch 2/2") == 1


def test_a_run_outlives_the_process_that_started_it(tiny_root: DataRoot) -> None:
    code = (
        "import sys, pathlib; from pianistid_core import launch; from pianistid_core.config import load_config; "
        "from pianistid_core.datasets.root import DataRoot; "
        "launch.start(load_config(sys.argv[1]), DataRoot(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))); "
        "print('started', flush=True); sys.stdin.read()"
    )
    config = tiny_root.path / "config.yaml"
    config.write_text(to_yaml(tiny_config()))
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(config), str(tiny_root.path), str(tiny_root.cache_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert parent.stdout is not None and parent.stdout.readline() == b"started\n"
    os.killpg(parent.pid, signal.SIGKILL)
    parent.wait()
    run = Run.find(tiny_root.checkpoints_dir, "tests/tiny")
    until(lambda: run.state().status not in ("queued", "running"))
    assert run.state().status == "finished"


@pytest.mark.parametrize("workers", [0, 2])
def test_stopping_saves_and_leaves_no_process(started: Callable[..., Run], workers: int) -> None:
    run = started(num_workers=workers, **LONG)
    until(lambda: run.state().epoch >= 1)
    launch.stop_and_wait(run)
    assert run.state().status == "stopped" and run.checkpoints()
    until(lambda: not processes_of(run))


def test_a_trainer_that_heeds_is_waited_for_to_its_end(tmp_path: Path) -> None:
    """It says that it has stopped before it has closed what it opened, such as its record in MLflow."""
    run = Run(tmp_path / "study" / "one")
    run.make()
    heeds = (
        "import sys, time; from pathlib import Path; from pianistid_core.runs import Run\n"
        "run = Run(Path(sys.argv[1]))\n"
        "until = time.monotonic() + 60\n"
        "while run.stop_request() is None and time.monotonic() < until: time.sleep(0.02)\n"
        "run.set_state('stopped', epochs=1); time.sleep(1); run.save_text('closed.txt', '')\n"
    )
    with subprocess.Popen([sys.executable, "-c", heeds, str(run.path)], env=of(run)) as trainer:
        run.set_state("running", epochs=1, process=ProcessIdentity.of(trainer.pid))
        launch.stop_and_wait(run)
    assert (run.path / "closed.txt").exists() and trainer.returncode == 0


NOTEBOOK = (
    "import subprocess, sys, time; from pathlib import Path; from pianistid_core.processes import ProcessIdentity\n"
    "from pianistid_core.runs import Run; run = Run(Path(sys.argv[1]))\n"
    "other = subprocess.Popen(['sleep', '60']); run.set_state('running', epochs=1, process=ProcessIdentity.of())\n"
    "print(other.pid, flush=True)\n"
    "while sys.argv[2] == 'deaf' or run.stop_request() is None: time.sleep(0.02)\n"
    "run.set_state('stopped', epochs=1); run.clear_stop(); time.sleep(60)\n"
)


@pytest.mark.parametrize("heeds", [True, False], ids=["heeds", "deaf"])
def test_a_notebook_that_trains_is_asked_and_never_ended_nor_what_else_it_has_started(
    tmp_path: Path, heeds: bool
) -> None:
    run = Run(tmp_path / "study" / "one")
    run.make()
    command = [PYTHON, "-c", NOTEBOOK, str(run.path), "heeds" if heeds else "deaf"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as notebook:
        assert notebook.stdout is not None
        other = ProcessIdentity.of(int(notebook.stdout.readline()))
        try:
            if heeds:
                launch.stop_and_wait(run)
                assert run.state().status == "stopped"
            else:
                with pytest.raises(RunError, match=f"process {notebook.pid} is still there"):
                    launch.stop_and_wait(run, patience=Patience(0.0, 0.2))
            assert notebook.poll() is None and other is not None and other.alive()
        finally:
            os.killpg(notebook.pid, signal.SIGKILL)


def test_a_supervisor_that_was_killed_is_waited_for_until_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One with much memory is there for a moment after the signal; the run has ended all the same."""
    run = Run(tmp_path / "study" / "one")
    run.make()
    monkeypatch.setattr(launch, "_BESIDE_S", 0.0)
    holds = "held = bytearray(300 << 20); print(1, flush=True); import time; time.sleep(60)"
    with subprocess.Popen([PYTHON, "-c", holds], stdout=subprocess.PIPE, start_new_session=True) as supervisor:
        assert supervisor.stdout is not None and supervisor.stdout.readline()
        me = ProcessIdentity.of(supervisor.pid)
        run.set_state("running", epochs=1, process=me, supervisor=me)
        run.set_state("stopped", "as asked", epochs=1)
        supervisor.send_signal(signal.SIGSTOP)
        try:
            launch.stop_and_wait(run, patience=Patience(0.0, 0.0))
        finally:
            supervisor.kill()
    assert run.state().status == "stopped"


def test_a_run_is_ended_where_no_signal_kills_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path / "study" / "one")
    run.make()
    with subprocess.Popen(["sleep", "60"], env=of(run)) as trainer:
        me = ProcessIdentity.of(trainer.pid)
        run.set_state("running", epochs=1, process=me, supervisor=me)
        monkeypatch.delattr(signal, "SIGKILL")  # as on Windows
        launch.stop_and_wait(run, patience=Patience(0.0, 0.0))
    run.set_exit(-9)
    assert run.state().status == "failed" and "when memory runs out" in run.state().reason


def test_a_state_larger_than_any_is_not_believed(tmp_path: Path) -> None:
    run = Run(tmp_path / "study" / "one")
    run.make()
    run.set_state("running", "x" * (1 << 20), epochs=1, process=ProcessIdentity.of())
    assert run.trainer() is None and run.state().status == "interrupted"


@pytest.mark.parametrize("meanwhile", ["trains", "starts"])
def test_a_supervisor_that_comes_late_leaves_alone_what_others_have_begun(tiny_root: DataRoot, meanwhile: str) -> None:
    run = run_for(tiny_config(), tiny_root)
    run.make()
    run.set_state("queued", STARTING, epochs=2, start="first")
    if meanwhile == "trains":
        run.set_state("running", epochs=2, process=ProcessIdentity.of())
    else:
        run.set_state("queued", STARTING, epochs=2, start="second")
    before = run.read_json("state.json")
    late = ["--start", "first", str(run.path), str(tiny_root.path), str(tiny_root.cache_dir)]
    with subprocess.Popen(["sleep", "60"], env=of(run)) as trainer:
        try:
            assert subprocess.run([PYTHON, "-m", "pianistid_core.launch", *late], timeout=60).returncode == 0
            assert trainer.poll() is None and run.read_json("state.json") == before
        finally:
            trainer.kill()


def test_a_run_that_is_being_started_is_not_trained_in_a_terminal(tiny_root: DataRoot) -> None:
    run = run_for(tiny_config(), tiny_root)
    run.make()
    run.set_state("queued", STARTING, epochs=2, start="now")
    with pytest.raises(RunError, match="is being started in the background"):
        train(tiny_config(), tiny_root, run)
    assert run.state().reason == STARTING


def test_a_killed_trainer_is_shown_with_its_signal_and_resumes(
    started: Callable[..., Run], tiny_root: DataRoot
) -> None:
    run = started(**LONG)
    until(lambda: run.state().epoch >= 1)
    pid = run.state().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: run.state().status == "failed")
    assert "SIGKILL" in run.state().reason
    epochs = run.state().epoch
    launch.resume(run, tiny_root)
    until(lambda: run.state().status == "running" and run.state().epoch > epochs)
    launch.stop_and_wait(run)
    assert run.state().status == "stopped"


def test_a_run_is_started_once(started: Callable[..., Run], tiny_root: DataRoot) -> None:
    run = started(**LONG)
    until(lambda: run.state().status == "running")
    with pytest.raises(RunError, match="already running"):
        launch.start(tiny_config(**LONG), tiny_root)
    launch.stop_and_wait(run, "discard")
    with pytest.raises(RunError, match="is not running"):
        launch.stop(run)


def test_two_starts_at_once_start_one_trainer(tiny_root: DataRoot, started: Callable[..., Run]) -> None:
    config = tiny_config(**LONG)
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda _: _started_or_refused(config, tiny_root), range(8)))
    assert sum(outcomes) == 1
    run = Run.find(tiny_root.checkpoints_dir, "tests/tiny")
    until(lambda: run.state().epoch >= 1)
    launch.stop_and_wait(run)
    assert run.state().status == "stopped"


def _started_or_refused(config: RunConfig, root: DataRoot) -> bool:
    try:
        launch.start(config, root)
    except RunError:
        return False
    return True


def test_a_run_of_another_config_is_refused_at_the_door(tiny_root: DataRoot) -> None:
    run = run_for(tiny_config(epochs=1), tiny_root)
    train(tiny_config(epochs=1), tiny_root, run)
    with pytest.raises(RunError, match="batch_size"):
        launch.start(tiny_config(epochs=2, batch_size=4), tiny_root)
    assert run.state().status == "finished"


def test_resuming_a_run_that_was_started_over_does_not_start_it_over_again(
    started: Callable[..., Run], tiny_root: DataRoot
) -> None:
    over = {"checkpoint_cfg": {"load_checkpoints": False, "checkpoint_after_n_epochs": 1}}
    run = started(**LONG | over)
    until(lambda: run.state().epoch >= 2)
    launch.stop_and_wait(run)
    epochs = run.state().epoch
    launch.resume(run, tiny_root)
    until(lambda: run.state().status == "running" and run.state().epoch > epochs)
    launch.stop_and_wait(run)
    assert run.metrics()[0]["epoch"] == 1 and len(run.metrics()) > epochs


def test_a_moved_run_goes_on_where_it_lies(tiny_root: DataRoot, tmp_path: Path) -> None:
    config = tiny_config(epochs=1)
    run = run_for(config, tiny_root)
    train(config, tiny_root, run)
    (tmp_path / "elsewhere" / "tests").mkdir(parents=True)
    moved = Run(run.path.rename(tmp_path / "elsewhere" / "tests" / "tiny"))
    again = config_to_resume(moved, tiny_root, overrides=["epochs=2"])
    assert run_for(again, tiny_root).path == moved.path and again.epochs == 2
    with pytest.raises(RunError, match="under that name"):
        config_to_resume(Run(moved.path.rename(moved.path.with_name("renamed"))), tiny_root)


def test_a_missing_split_is_refused_at_the_door(tiny_root: DataRoot) -> None:
    with pytest.raises(SplitError, match="missing"):
        launch.start(tiny_config(data_split_dir="missing"), tiny_root)
    assert not tiny_root.checkpoints_dir.exists()


def test_a_run_that_fails_at_once_says_why(started: Callable[..., Run], tiny_root: DataRoot) -> None:
    shutil.rmtree(tiny_root.clips_dir)
    run = started()
    until(lambda: run.state().status not in ("queued", "running"))
    assert run.state().status == "failed" and "clip" in run.state().reason
    assert "clip" in run.log_tail()


AWAY = Cluster("127.0.0.1:6379", 0.0, 1, "/data")


def supervised(
    root: DataRoot, trainer: str, folder: Path, *, away: bool = False
) -> tuple[Run, "subprocess.Popen[bytes]"]:
    """A run whose supervisor starts a script in place of Python, which never says anything of itself.

    It has no patience with one that is asked to stop, neither here nor with what follows a run on a cluster.
    """
    fake = folder / "python"
    fake.write_text(f"#!/bin/sh\n{trainer}\n")
    fake.chmod(0o755)
    run = run_for(tiny_config(), root)
    run.make()
    run.save_text("request.yaml", to_yaml(tiny_config()))
    run.set_state("queued", STARTING, epochs=2, start="now")
    if away:
        keep_place(run, RemotePlace(AWAY, "pianistid-1"))
    code = (
        "import sys; from pathlib import Path; from pianistid_core import launch; from pianistid_core.ladder import *; "
        "from pianistid_core.runs import Run; sys.executable = sys.argv[1]; paths = map(Path, sys.argv[2:]); "
        "launch.supervise(Run(next(paths)), *paths, token='now', patience=Patience(0.0, 0.0))"
    )
    paths = [str(path) for path in (fake, run.path, root.path, root.cache_dir)]
    return run, subprocess.Popen([sys.executable, "-c", code, *paths], start_new_session=True)


def test_a_trainer_whose_supervisor_was_killed_before_it_said_anything_is_not_trained_beside(
    tiny_root: DataRoot, tmp_path: Path
) -> None:
    run, supervisor = supervised(tiny_root, f"echo $$ > {tmp_path}/begun; exec sleep 600", tmp_path)
    begun = tmp_path / "begun"
    until(lambda: begun.exists() and begun.read_text().strip().isdigit())
    pid = int(begun.read_text())
    try:
        until(lambda: "child" in (run.read_json("state.json") or {}))
        supervisor.kill()
        supervisor.wait()
        assert (run.state().status, run.state().pid) == ("running", pid)
        with pytest.raises(RunError, match="already running"):
            launch.start(tiny_config(), tiny_root)
    finally:
        os.kill(pid, signal.SIGKILL)
    until(lambda: run.state().status == "interrupted")


def test_a_trainer_that_ends_before_it_said_anything_could_not_start(tiny_root: DataRoot, tmp_path: Path) -> None:
    run, supervisor = supervised(tiny_root, "exit 3", tmp_path)
    assert supervisor.wait() == 0
    state = run.state()
    assert (state.status, state.reason) == ("failed", "it could not start: exit status 3")


@pytest.mark.parametrize("away", [False, True], ids=["a trainer", "a follower"])
def test_what_hangs_when_it_is_asked_to_stop_is_ended(tiny_root: DataRoot, tmp_path: Path, away: bool) -> None:
    run, supervisor = supervised(tiny_root, f"trap '' TERM; touch {tmp_path}/begun; sleep 600", tmp_path, away=away)
    try:
        until((tmp_path / "begun").exists)
        run.request_stop("save")
        until(lambda: supervisor.poll() is not None)
        assert (run.path / "exit.json").exists() and not processes_of(run)
    finally:
        for process in [supervisor, *processes_of(run)]:
            process.kill()


def test_a_follower_that_hangs_without_a_supervisor_is_ended_as_well(tmp_path: Path) -> None:
    run = Run(tmp_path / "study" / "one")
    run.make()
    keep_place(run, RemotePlace(AWAY, "pianistid-1"))
    with subprocess.Popen(["sleep", "600"], env=of(run)) as follower:
        run.set_state("running", epochs=1, process=ProcessIdentity.of(follower.pid))
        follower.send_signal(signal.SIGSTOP)
        try:
            launch.stop_and_wait(run, patience=Patience(0.0, 0.0))
            until(lambda: follower.poll() is not None)
        finally:
            follower.kill()
    assert run.state().status == "interrupted"


def test_a_run_that_may_still_train_on_a_cluster_is_not_started_elsewhere(
    tiny_root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawned: list[Run] = []
    monkeypatch.setattr(launch, "_spawn", lambda run, root, token: spawned.append(run))
    run = run_for(tiny_config(), tiny_root)
    run.make()
    run.set_state("failed", "the cluster fell silent", epochs=2)
    keep_place(run, RemotePlace(AWAY, "pianistid-1", outstanding=True))
    over = {"checkpoint_cfg": {"load_checkpoints": False}}
    for config, cluster in ((tiny_config(), None), (tiny_config(**over), AWAY)):
        with pytest.raises(ClusterError, match="resume it there and stop it first"):
            launch.start(config, tiny_root, cluster=cluster)
    assert spawned == [] and run.state().status == "failed" and cluster_of(run) == AWAY
    launch.start(tiny_config(), tiny_root, cluster=AWAY)
    assert [one.path for one in spawned] == [run.path]


def background(folder: Path, trainer: str) -> str:
    """A script in place of Python: its supervisors are real, its trainers a script that knows the run's folder as $run.

    A trainer costs next to nothing that way.
    """
    fake = folder / "python"
    supervise = (
        "import sys; sys.executable = sys.argv[1]; from pianistid_core import launch; "
        "sys.exit(launch.main(sys.argv[2:]))"
    )
    fake.write_text(
        f'#!/bin/sh\nif [ "$2" = pianistid_core.launch ]; then shift 2; exec {PYTHON} -c "{supervise}" "$0" "$@"; fi\n'
        f'run=$(dirname "$5")\n{trainer}\n'
    )
    fake.chmod(0o755)
    return str(fake)


HEEDS = 'while [ ! -e "$run/stop" ]; do sleep 0.05; done; rm -f "$run/stop"'


@pytest.fixture
def light(tiny_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DataRoot]:
    """A data root whose trainers do nothing but heed a request to stop."""
    monkeypatch.setattr(sys, "executable", background(tmp_path, HEEDS))
    yield tiny_root
    for run in find_runs(tiny_root.checkpoints_dir):
        for process in processes_of(run):
            process.kill()


def kill(identity: ProcessIdentity | None) -> None:
    assert identity is not None and identity.signal(signal.SIGKILL)


@pytest.mark.parametrize("killed", ["trainer", "supervisor", "both"])
def test_who_was_killed_is_seen_at_once_and_nothing_is_left(light: DataRoot, killed: str) -> None:
    run = launch.start(tiny_config(), light)
    until(lambda: "child" in (run.read_json("state.json") or {}))
    supervisor = run.supervisor()
    trainer = ProcessIdentity.from_json((run.read_json("state.json") or {}).get("child"))
    if killed != "trainer":
        kill(supervisor)
    if killed != "supervisor":
        kill(trainer)
        until(lambda: run.state().status not in ("queued", "running"))
        assert run.state().status == ("failed" if killed == "trainer" else "interrupted")
        assert killed == "both" or "SIGKILL" in run.state().reason + run.log_tail()
    else:
        assert run.state().status == "running"
        launch.stop_and_wait(run)
        assert run.state().status == "interrupted"
    until(lambda: not processes_of(run))


def test_a_trainer_without_a_supervisor_that_does_not_heed_is_ended_after_a_stop(
    light: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", background(tmp_path, "trap '' TERM; while :; do sleep 1; done"))
    run = launch.start(tiny_config(), light)
    until(lambda: "child" in (run.read_json("state.json") or {}))
    kill(run.supervisor())
    trainer = run.trainer()
    run.request_stop("save")
    ending = (
        "import sys; from pathlib import Path; from pianistid_core import launch, ladder, runs; "
        "launch.see_to_the_end(runs.Run.open(Path(sys.argv[1])), patience=ladder.Patience(0.0, 0.5))"
    )
    with subprocess.Popen([PYTHON, "-c", ending, str(run.path)]) as ender:
        until(lambda: run.state().status not in ("queued", "running"))
        left = processes_of(run)  # looked at the moment it says so
    assert ender.returncode == 0 and left == []
    assert trainer is not None and not trainer.alive()
    assert run.state().status == "stopped" and "did not heed" in run.state().reason


def test_a_run_that_trains_is_stopped_before_it_is_thrown_away(light: DataRoot) -> None:
    run = launch.start(tiny_config(), light)
    until(lambda: "child" in (run.read_json("state.json") or {}))
    with pytest.raises(RunError, match="still running"):
        trash.discard(run)
    thrown = launch.stop_and_discard(run)
    assert thrown is not None and not run.path.exists() and not processes_of(run)
    with pytest.raises(RunError, match="is gone"):
        launch.stop_and_discard(run)
    assert trash.restore(light.checkpoints_dir, thrown.id).path == run.path
    assert run.state().status == "failed"  # this trainer says nothing


def test_a_run_that_waits_is_taken_out_of_the_queue_before_it_is_thrown_away(light: DataRoot) -> None:
    queue = RunQueue(light)
    queue.pause()
    queue.add([tiny_config()])
    run = run_for(tiny_config(), light)
    assert launch.stop_and_discard(run) is None
    assert queue.entries() == [] and not run.path.exists() and trash.discarded(light.checkpoints_dir) == []


@pytest.mark.parametrize("action", ["trash", "delete"])
def test_the_command_line_stops_first_what_it_is_told_to(
    light: DataRoot, action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = launch.start(tiny_config(), light)
    until(lambda: "child" in (run.read_json("state.json") or {}))
    command = ["runs", action, run.id, "--data-root", str(light.path)]
    assert command_line.main(command) == 1 and "still running" in capsys.readouterr().err
    assert command_line.main([*command, "--stop"]) == 0 and not run.path.exists() and not processes_of(run)
    assert len(trash.discarded(light.checkpoints_dir)) == (action == "trash")


ORDERS = 12


def act(root: DataRoot, run: Run, order: str) -> None:
    """One order of one person; a sentence is a fine answer, a traceback is none."""
    thrown = [one.id for one in trash.discarded(root.checkpoints_dir) if one.run_id == run.id]
    with contextlib.suppress(RunError):
        if order == "stop":
            launch.stop(run)
        elif order == "delete":
            launch.stop_and_discard(run)
        elif order == "resume":
            launch.resume(run, root)
        elif thrown:
            trash.restore(root.checkpoints_dir, thrown[0])


def test_people_who_stop_delete_and_resume_the_same_runs_get_sentences_and_one_end(light: DataRoot) -> None:
    runs = [run_for(tiny_config(run=name), light) for name in ("a", "b")]
    for run in runs:
        run.make()
        run.save_text("config.yaml", to_yaml(tiny_config(run=run.path.name)))
        run.set_state("stopped", epochs=2)
    people = []
    for person in range(4):
        if (pid := os.fork()) == 0:
            status, rng = 1, random.Random(person)
            try:
                for _ in range(ORDERS):
                    act(light, rng.choice(runs), rng.choice(["stop", "delete", "resume", "restore"]))
                status = 0
            finally:
                os._exit(status)
        people.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in people] == [0] * len(people)
    for run in runs:
        with contextlib.suppress(RunError):
            launch.stop_and_wait(run)
        thrown = [one.run_id for one in trash.discarded(light.checkpoints_dir)]
        assert int(run.is_run()) + thrown.count(run.id) == 1, "it is in one place"
        assert run.path.exists() == run.is_run() and not run.is_due() and not processes_of(run)
    assert sorted(path.name for path in (light.checkpoints_dir / "tests").iterdir()) == [
        run.path.name for run in runs if run.path.exists()
    ]
