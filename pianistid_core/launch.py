"""Runs in the background: started, watched and stopped without being anybody's child.

`start` spawns `python -m pianistid_core.launch RUN ROOT` in a session of its own, so that it outlives the page, the
server and the terminal. That process, the supervisor, starts the trainer in a session of its own, waits for it, writes
down how it ended, ends a trainer that does not heed a request to stop, and stays until nothing of the run is left. Of a
trainer without a supervisor (that was killed, or there was none) whoever asks it to stop starts one to see to that.
"""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from pianistid_core.config import RunConfig, to_yaml
from pianistid_core.credentials import fit_to_show
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import RunError
from pianistid_core.ladder import KILL, Family, Ladder, Patience, apart, is_of, marked
from pianistid_core.mirror import settle_run
from pianistid_core.places import Cluster, checked, cluster_of, require_free, set_place
from pianistid_core.processes import ProcessIdentity
from pianistid_core.queue_files import QueueFiles, holding, leave, withdraw
from pianistid_core.run_config import config_to_resume, resumable_checkpoint, run_for
from pianistid_core.runs import REQUEST_FILE, STARTING, WAITING, Run, StopKind
from pianistid_core.trash import Discarded, discard

# What a run on a cluster has to end in: it is ended there as here, and then brought over.
ON_A_CLUSTER = Patience(600.0, 610.0)
# How much longer whoever waits for a run's end leaves it to its supervisor.
_BESIDE_S = 3.0
_TO_CLOSE = Patience(10.0, 15.0)
_LOOK_EVERY_S = 0.5
_TRIES = 5
_END = "--end"
_START = "--start"
_GONE_WITHIN_S = 5.0


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
    return _start(config, root, cluster, make=True)


def _start(config: RunConfig, root: DataRoot, cluster: Cluster | None, *, make: bool) -> Run:
    config, run = fit_to_show(config, root), run_for(config, root)
    cluster = None if cluster is None else checked(cluster, root)
    anew = not config.checkpoint_cfg.load_checkpoints
    root.split(config.data_split_dir)
    resumable_checkpoint(config, run)
    with holding(run) as place:
        if make:
            run.make()
        # Held for a moment only, so that two pages cannot start one run twice.
        with run.launching():
            if run.is_due():
                raise RunError(f"run {run.id} is already running; stop it first, or choose another run name")
            require_free(run, cluster, anew=anew)
            leave(run, place)
            run.save_text(REQUEST_FILE, to_yaml(config))
            set_place(run, cluster, anew=anew)
            run.clear_stop()
            token = secrets.token_hex(8)
            run.set_state("queued", STARTING, epochs=config.epochs, start=token)
    _spawn(run, root, token=token)
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
    with run.launching():
        if not claim.exists():
            return None
        run.save_text(REQUEST_FILE, to_yaml(config))
        set_place(run, cluster)  # by the trainer that it has there already, unless queueing it gave it a new one
        run.set_state("queued", STARTING, epochs=config.epochs)
    return _spawn(run, root, claim)


def _spawn(
    run: Run, root: DataRoot, claim: Path | None = None, *, token: str | None = None
) -> "subprocess.Popen[bytes]":
    paths = (run.path, root.path, root.cache_dir, *([claim] if claim else []))
    return _spawn_process(run, [*([_START, token] if token else []), *(str(path) for path in paths)])


def _spawn_process(run: Run, arguments: list[str]) -> "subprocess.Popen[bytes]":
    with run.log_path.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "pianistid_core.launch", *arguments],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, **apart()},
        )  # fmt: skip


def resume(run: Run, root: DataRoot) -> Run:
    """Goes on with a run from its latest checkpoint, by its own config and where it trained before.

    Raises
    ------
    RunError
        When it is running, is gone, or has no config to go on with.
    """
    return _start(config_to_resume(run, root), root, cluster_of(run), make=False)


def stop(run: Run, kind: StopKind = "save") -> None:
    """Asks a run to stop and returns at once; one that does not heed is ended, by its supervisor or another process.

    One that waits in the queue is taken out of it, and is then what it was before: one that never trained is gone.

    Raises
    ------
    RunError
        When it is not running.
    """
    if _ask(run, kind) and not _lives(run.supervisor()) and Family(run.path).members():
        _spawn_process(run, [_END, str(run.path)])


def _ask(run: Run, kind: StopKind) -> bool:
    """Asks a run to stop, or takes it out of the queue; whether there is an end to wait for. Raises: see `stop`."""
    state = run.state()
    if state.status not in ("running", "queued"):
        raise RunError(f"run {run.id} is not running: it is {state.status}")
    if state.reason == WAITING and withdraw(run):
        return False
    try:
        run.request_stop(kind)
    except FileNotFoundError as error:
        raise RunError(f"run {run.id} is gone; look at the list of runs again") from error
    return True


def stop_and_wait(run: Run, kind: StopKind = "save", *, patience: Patience | None = None) -> None:
    """Asks a run to stop and waits until no process of it is left, ending them all when patience is over.

    One that a person's terminal or notebook trains is waited for until its training is over: that process is theirs.
    One on a cluster is ended there as one here would be, and waited for until it is brought over, 10 minutes at most;
    then whatever follows it here is ended, and what the cluster still has is brought over when the run is resumed.

    Raises
    ------
    RunError
        When it is not running, or cannot be ended.
    """
    trainer, supervisor = run.trainer(), run.supervisor()
    # Another may be a person's terminal or notebook, in which there is more than this training.
    ours = trainer if trainer is not None and is_of(run.path, trainer) else None
    family = Family(run.path, ours)
    patience = patience or patience_with(run)
    if not _ask(run, kind):
        return
    if _lives(supervisor):
        patience = Patience(patience.told_after_s + _BESIDE_S, patience.killed_after_s + _BESIDE_S)
    ladder = Ladder(family, patience)
    while not ladder.killed and (run.state().status in ("running", "queued") or family.members()):
        ladder.climb(asked=True)
        time.sleep(0.1)
    if not ladder.killed:
        return
    if supervisor is not None:
        supervisor.signal(KILL)  # one that has not seen to it by now is frozen itself
        _wait_until_gone(supervisor)
    state = run.state()
    if state.is_due():
        left = state.pid if state.pid is not None or supervisor is None else supervisor.pid
        raise RunError(f"run {run.id} could not be ended: process {left} is still there; end it yourself")


def bring_to_rest(run: Run) -> bool:
    """Stops a run if it runs, and takes it out of the queue if it waits there; False when nothing of it is left then.

    Raises
    ------
    RunError
        When somebody starts it again and again, or the queue is starting it.
    """
    for _ in range(_TRIES):
        state = run.state()
        if state.reason == WAITING and withdraw(run):
            return run.path.is_dir()
        if not (state.is_due() or state.reason == WAITING):
            return True
        try:
            stop_and_wait(run)
        except RunError:
            if run.is_due():  # or it has ended by itself meanwhile
                raise
    raise RunError(f"run {run.id} is started again and again; see who does that, then try again")


def stop_and_discard(run: Run) -> Discarded | None:
    """Stops a run, with a checkpoint, if it runs, and moves it to the trash; returns when nothing of it runs any more.

    One that waited in the queue and never trained is gone with its place there: None.

    Raises
    ------
    RunError
        When it is gone, cannot be moved, or is started again and again.
    """
    for tries_left in reversed(range(_TRIES)):
        if not bring_to_rest(run):
            return None
        try:
            return discard(run)
        except RunError:
            if not (tries_left and run.is_due()):  # or somebody resumed it in between
                raise
    return None


def patience_with(run: Run) -> Patience:
    """How long a run has to end by itself once it was asked to."""
    return Patience() if cluster_of(run) is None else ON_A_CLUSTER


def _lives(process: ProcessIdentity | None) -> bool:
    return process is not None and process.alive()


def _wait_until_gone(killed: ProcessIdentity) -> None:
    """Waits, for some seconds, for a process that was killed: much memory, or a slow disk, holds it for a moment."""
    deadline = time.monotonic() + _GONE_WITHIN_S
    while killed.alive() and time.monotonic() < deadline:
        time.sleep(0.02)


# --- the supervisor --------------------------------------------------------------------------------------------------


def supervise(
    run: Run,
    root: Path,
    cache_dir: Path,
    claim: Path | None = None,
    *,
    token: str | None = None,
    patience: Patience | None = None,
) -> int:
    """Trains a run in a process of its own and stays until nothing of it is left; returns the trainer's exit status.

    With a `claim` of the queue it trains only if it is the one to take that away, otherwise only if the run still waits
    for the start of this `token`: who comes late leaves alone what others have begun meanwhile.
    """
    _ignore_signals()
    me = ProcessIdentity.of()
    if not (_take_start(run, token) if claim is None else _take_claim(run, claim)):
        return 0
    Family(run.path).end()  # what a training that was killed may have left, which would hold its lock
    away = cluster_of(run) is not None
    trainer = subprocess.Popen(
        [sys.executable, "-m", *(_following(run) if away else _training(run, root))],
        env={**os.environ, "PIANISTID_CACHE": str(cache_dir), **marked(run.path)},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_heed_signals if os.name == "posix" else None,
    )
    identity = ProcessIdentity.of(trainer.pid)
    if run.trainer() == me:
        # It says so itself in a few seconds; should this process be killed before, nobody else trains beside it.
        with contextlib.suppress(OSError):
            run.set_state("running", STARTING, epochs=run.state().epochs, process=me, child=identity)
    ladder = Ladder(Family(run.path, identity), patience or patience_with(run))
    code = ladder.wait_for(trainer, asked=lambda: run.stop_request() is not None)
    try:
        _write_down(run, code, ended_by_us=ladder.insisted)
    finally:
        while ladder.family.members():  # what a disk holds up, say: the run has not ended before
            ladder.family.end()
    settle_run(run, DataRoot(root, cache_dir))
    return code


def _write_down(run: Run, code: int, *, ended_by_us: bool) -> None:
    run.set_exit(code)
    said = run.read_json("state.json") or {}
    if said.get("status") != "running":
        return
    epochs = run.state().epochs
    if ended_by_us:
        words = "it did not heed the request to stop, so it was ended; resume to go on from its latest checkpoint"
        run.set_state("stopped", words, epochs=epochs)
        run.clear_stop()
    elif said.get("reason") == STARTING and code >= 0:  # it ended before it could say anything
        run.set_state("failed", f"it could not start: {run.log_tail(1) or f'exit status {code}'}", epochs=epochs)


def see_to_the_end(run: Run, *, patience: Patience | None = None) -> None:
    """Ends a run that was asked to stop, as its supervisor would, and stays until nothing of it is left.

    Only one that was started in the background: another may be trained by a person's terminal or notebook, which is
    theirs to end.
    """
    _ignore_signals()
    ladder = Ladder(Family(run.path), patience or patience_with(run), before_killing=lambda: _take_over(run))
    while _lives(run.trainer()) and ladder.family.members():
        ladder.climb(asked=run.stop_request() is not None)
        time.sleep(_LOOK_EVERY_S)
    if ladder.insisted:
        _write_down(run, -KILL, ended_by_us=True)
    closing = Ladder(Family(run.path), _TO_CLOSE)  # one that has said how it ended has what it opened to close
    while not run.is_due() and closing.family.members():
        closing.climb(asked=True)
        time.sleep(_LOOK_EVERY_S)


def _take_over(run: Run) -> None:
    """Says that this process sees to the end of a run, so that nobody takes it for over before all of it is."""
    trainer = run.trainer()
    if trainer is None or not is_of(run.path, trainer):  # a person's terminal or notebook
        return
    if hasattr(signal, "SIGSTOP"):
        trainer.signal(signal.SIGSTOP)  # it could write its state between the reading and the writing
    state = run.state()
    if state.status == "running":
        run.set_state("running", state.reason, epochs=state.epochs, process=trainer, supervisor=ProcessIdentity.of())


def _ignore_signals() -> None:
    # A signal to the group is the trainer's to heed; the supervisor stays to write down how it ended.
    for number in (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])):
        signal.signal(number, signal.SIG_IGN)


def _training(run: Run, root: Path) -> list[str]:
    return ["pianistid_core", "train", "--config", str(run.path / REQUEST_FILE), "--data-root", str(root)]


def _following(run: Run) -> list[str]:
    return ["pianistid_core.cluster_follower", str(run.path)]


def _take_start(run: Run, token: str | None) -> bool:
    """Says that the run has this process; False when it no longer waits for it."""
    me = ProcessIdentity.of()
    with run.launching():
        said = run.read_json("state.json") or {}
        if (said.get("status"), said.get("reason"), said.get("start")) != ("queued", STARTING, token):
            return False
        run.set_state("running", STARTING, epochs=run.state().epochs, process=me, supervisor=me)
    return True


def _take_claim(run: Run, claim: Path) -> bool:
    """Turns a claimed entry of the queue into a started one that names this process; False when another has done so.

    The renaming is the moment from which the run counts as trained once: a process killed before it has trained
    nothing, and the dispatcher starts another.
    """
    files, id, me = QueueFiles(claim.parent.parent), claim.stem, ProcessIdentity.of()
    with run.launching():
        record = files.read("claimed", id)
        if record is None:
            return False
        run.set_state("running", STARTING, epochs=run.state().epochs, process=me, supervisor=me)
        files.write("claimed", id, {**record, "process": asdict(me) if me else None})
        files.advance(id, "claimed", "started")
    return True


def _heed_signals() -> None:
    # What the supervisor ignores would be ignored by its child as well.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def main(arguments: list[str]) -> int:
    """What a process of this module does: it trains a run, or sees to the end of one that has no supervisor."""
    if arguments[0] == _END:
        see_to_the_end(Run.open(Path(arguments[1])))
        return 0
    token = None
    if arguments[0] == _START:
        token, arguments = arguments[1], arguments[2:]
    return supervise(Run.open(Path(arguments[0])), *map(Path, arguments[1:4]), token=token)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
