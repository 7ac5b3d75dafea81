"""Runs in the background: started, watched and stopped without being anybody's child.

`start` spawns `python -m pianistid_core.launch RUN ROOT` in a session of its own, so that it outlives the page, the
server and the terminal. That process, the supervisor, starts the trainer, waits for it, writes down how it ended, and
ends a trainer that does not heed a request to stop.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock

from pianistid_core.config import RunConfig, to_yaml
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import RunError
from pianistid_core.places import Cluster, checked, cluster_of, require_free, set_place
from pianistid_core.processes import STOP_GRACE_S, TERMINATE_GRACE_S, ProcessIdentity, kill_tree
from pianistid_core.queue_files import QueueFiles, holding, leave, withdraw
from pianistid_core.run_config import config_to_resume, resumable_checkpoint, run_for
from pianistid_core.runs import REQUEST_FILE, STARTING, WAITING, Run, StopKind

# What a run on a cluster has to end in: it is ended there as here, and then brought over.
_CLUSTER_STOP_S = 600.0


def start(config: RunConfig, root: DataRoot, *, cluster: Cluster | None = None) -> Run:
    """Starts training in the background, here or on a cluster, or goes on with a run that was stopped.

    Raises
    ------
    RunError
        When the run is running already, was trained with another config, or its folder cannot be written.
    SplitError
        When the data root has no such split.
    ClusterError
        When the cluster is not described as one can be (whether it is there, the run will say), or when the run may
        still train on a cluster that this would leave.
    """
    run = run_for(config, root)
    cluster = None if cluster is None else checked(cluster, root)
    anew = not config.checkpoint_cfg.load_checkpoints
    root.split(config.data_split_dir)
    resumable_checkpoint(config, run)
    with holding(run) as place:
        run.make()
        # Held for a moment only, so that two pages cannot start one run twice.
        with FileLock(run.path / "launch.lock"):
            if run.is_due():
                raise RunError(f"run {run.id} is already running; stop it first, or choose another run name")
            require_free(run, cluster, anew=anew)
            leave(run, place)
            run.save_text(REQUEST_FILE, to_yaml(config))
            set_place(run, cluster, anew=anew)
            run.clear_stop()
            run.set_state("queued", STARTING, epochs=config.epochs)
    _spawn(run, root)
    return run


def start_claimed(
    config: RunConfig, root: DataRoot, claim: Path, *, cluster: Cluster | None = None
) -> subprocess.Popen[bytes] | None:
    """Starts a run that the queue has claimed; `claim` is the entry's file, which its supervisor takes away.

    It trains where its entry says, here or on a cluster, whatever has become of the run's own word meanwhile.
    It may be called again for the same claim, by a dispatcher whose forerunner was killed: whichever supervisor takes
    the claim first trains, the others end. None when the claim is gone already.

    Raises
    ------
    PianistIDError
        When the run cannot be started; nothing has a process then.
    """
    run = run_for(config, root)
    root.split(config.data_split_dir)
    resumable_checkpoint(config, run)
    run.make()
    with FileLock(run.path / "launch.lock"):
        if not claim.exists():
            return None
        run.save_text(REQUEST_FILE, to_yaml(config))
        set_place(run, cluster)  # by the trainer that it has there already, unless queueing it gave it a new one
        run.set_state("queued", STARTING, epochs=config.epochs)
    return _spawn(run, root, claim)


def _spawn(run: Run, root: DataRoot, claim: Path | None = None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pianistid_core.launch", str(run.path), str(root.path), str(root.cache_dir)]
    with (run.path / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [*command, *([str(claim)] if claim else [])],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def resume(run: Run, root: DataRoot) -> Run:
    """Goes on with a run from its latest checkpoint, by its own config and where it trained before.

    Raises
    ------
    RunError
        When it is running, or has no config to go on with.
    """
    return start(config_to_resume(run, root), root, cluster=cluster_of(run))


def stop(run: Run, kind: StopKind = "save") -> None:
    """Asks a run to stop and returns at once; one that does not heed is ended by its supervisor.

    One that waits in the queue is taken out of it, and is then what it was before: one that never trained is gone.

    Raises
    ------
    RunError
        When it is not running.
    """
    state = run.state()
    if state.status not in ("running", "queued"):
        raise RunError(f"run {run.id} is not running: it is {state.status}")
    if state.reason == WAITING and withdraw(run):
        return
    run.request_stop(kind)


def stop_and_wait(run: Run, kind: StopKind = "save", *, timeout_s: float = STOP_GRACE_S + TERMINATE_GRACE_S) -> None:
    """Asks a run to stop and waits until no process of it is left, ending it the hard way after `timeout_s`.

    One on a cluster is ended there as one here would be, and waited for until it is brought over, 10 minutes at most;
    then whatever follows it here is ended, and what the cluster still has is brought over when the run is resumed.

    Raises
    ------
    RunError
        When it is not running.
    """
    trainer, away = run.trainer(), cluster_of(run) is not None
    stop(run, kind)
    deadline = time.monotonic() + (_CLUSTER_STOP_S + TERMINATE_GRACE_S if away else timeout_s)
    while (run.state().status in ("running", "queued") or _lives(trainer)) and time.monotonic() < deadline:
        time.sleep(0.1)
    if trainer is not None:
        kill_tree(trainer)


def _lives(process: ProcessIdentity | None) -> bool:
    return process is not None and process.alive()


def supervise(run: Run, root: Path, cache_dir: Path, claim: Path | None = None) -> int:
    """Trains a run in a process of its own and stays until it has ended; returns its exit status.

    With a `claim` of the queue it trains only if it is the one to take that away.
    """
    # A signal to the group is the trainer's to heed; the supervisor stays to write down how it ended.
    for number in (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])):
        signal.signal(number, signal.SIG_IGN)
    if claim is None:
        run.set_state("running", STARTING, epochs=run.state().epochs, process=ProcessIdentity.of())
    elif not _take_claim(run, claim):
        return 0
    away = cluster_of(run) is not None
    trainer = subprocess.Popen(
        [sys.executable, "-m", *(_following(run) if away else _training(run, root))],
        env={**os.environ, "PIANISTID_CACHE": str(cache_dir)},
        stdin=subprocess.DEVNULL,
        preexec_fn=_heed_signals if os.name == "posix" else None,
    )
    identity = ProcessIdentity.of(trainer.pid)
    me = ProcessIdentity.of()
    if run.trainer() == me:
        # It says so itself in a few seconds; should this process be killed before, nobody else trains beside it.
        with contextlib.suppress(OSError):
            run.set_state("running", STARTING, epochs=run.state().epochs, process=me, child=identity)
    # Whoever follows a run on a cluster sees to it there, and ends by itself, unless the follower hangs.
    grace = _CLUSTER_STOP_S if away else STOP_GRACE_S
    asked: float | None = None
    while (code := trainer.poll()) is None:
        asked = (asked or time.monotonic()) if run.stop_request() else None
        waited = time.monotonic() - asked if asked else 0.0
        if waited > grace + TERMINATE_GRACE_S and identity is not None:
            kill_tree(identity)
        elif waited > grace:
            trainer.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            trainer.wait(timeout=0.5)
    run.set_exit(code)
    said = run.read_json("state.json") or {}
    if (said.get("status"), said.get("reason")) == ("running", STARTING):  # it ended before it could say anything
        last_line = run.log_tail(1) or f"exit status {code}"
        run.set_state("failed", f"it could not start: {last_line}", epochs=run.state().epochs)
    return code


def _training(run: Run, root: Path) -> list[str]:
    return ["pianistid_core", "train", "--config", str(run.path / REQUEST_FILE), "--data-root", str(root)]


def _following(run: Run) -> list[str]:
    return ["pianistid_core.cluster_follower", str(run.path)]


def _take_claim(run: Run, claim: Path) -> bool:
    """Turns a claimed entry of the queue into a started one that names this process; False when another has done so.

    The renaming is the moment from which the run counts as trained once: a process killed before it has trained
    nothing, and the dispatcher starts another.
    """
    files, id, me = QueueFiles(claim.parent.parent), claim.stem, ProcessIdentity.of()
    with FileLock(run.path / "launch.lock"):
        record = files.read("claimed", id)
        if record is None:
            return False
        run.set_state("running", STARTING, epochs=run.state().epochs, process=me)
        files.write("claimed", id, {**record, "process": asdict(me) if me else None})
        files.advance(id, "claimed", "started")
    return True


def _heed_signals() -> None:
    # What the supervisor ignores would be ignored by its child as well.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(supervise(Run.open(Path(sys.argv[1])), *(Path(argument) for argument in sys.argv[2:5])))
