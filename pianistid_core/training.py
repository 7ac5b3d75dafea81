"""Training, from a config to a finished run: by one trainer at a time, with a state that says how it ended.

What happens in between is the loop in `trainer`.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

import torch
from filelock import FileLock, Timeout

from pianistid_core.config import RunConfig
from pianistid_core.credentials import fit_to_show
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import PianistIDError, RunError
from pianistid_core.failures import failure_in_words, failure_kind
from pianistid_core.heartbeat import beating
from pianistid_core.keeping import Keeper
from pianistid_core.ladder import is_marked
from pianistid_core.learning import Learner
from pianistid_core.peer_watch import PeerError
from pianistid_core.peers import Peers
from pianistid_core.places import remote_place, require_free, set_place
from pianistid_core.processes import ProcessIdentity
from pianistid_core.queue_files import holding, leave
from pianistid_core.reserve import give_back, keep_back
from pianistid_core.run_config import resumable_checkpoint
from pianistid_core.run_log import FailureKind, LineFormatter
from pianistid_core.runs import STARTING, WAITING, Run, RunState, Status
from pianistid_core.sharing import refuse_what_cannot_be_shared
from pianistid_core.stopping import ENDINGS, Signalled, Stop, on_signals
from pianistid_core.trainer import OnProgress, Trainer

log = logging.getLogger(__name__)

_LOCK_LINGERS_S = 10.0


def _nobody(phase: str, done: int, total: int) -> None:
    """Nobody looks at the progress."""


def train(
    config: RunConfig,
    root: DataRoot,
    run: Run,
    *,
    on_progress: OnProgress | None = None,
    peers: Peers | None = None,
) -> RunState:
    """Trains a run to its end, or goes on with it from its latest checkpoint.

    `on_progress` is told (phase, done, total). SIGINT and SIGTERM, and a stop request in the run, end it after the
    batch at hand, with a checkpoint. The state it ends in is returned, and kept in the run. `peers` are the processes
    that train this run together, each of which calls this; `config.batch_size` counts the clips of all.

    Raises
    ------
    RunError
        When another process trains this run or the queue is starting it, when it was trained with another config, or
        when its loss is no number.
    PeerError
        When one of the peers failed or died.
    SplitError
        When the data root has no such split.
    PianistIDError
        When data, model or checkpoint are not what the config says. The run then stands as failed, with the reason.
    """
    peers = peers or Peers.alone()
    config = fit_to_show(config, root if peers.first else None)
    # What can be refused is refused before anything is written.
    device = peers.device(config.device)
    root.split(config.data_split_dir)
    refuse_what_cannot_be_shared(config, peers)
    lock = FileLock(run.path / "lock")
    with peers.joined(device, lambda lost: _end_from_outside(config, run, peers, lock, lost)):
        try:
            peers.from_first(lambda: _take(config, run, lock))
            with _seen_from_outside(run) if peers.first else nullcontext(), on_signals() as signalled:
                _train(config, root, run, device, peers, lock, signalled, on_progress or _nobody)
        finally:
            lock.release()
    return run.state()


def _take(config: RunConfig, run: Run, lock: FileLock) -> None:
    """Makes sure that this process, and no other, trains a run, and that it can say how it ends."""
    try:
        _take_alone(config, run, lock)
    except OSError as error:
        give_back(run.path)
        raise RunError(f"run {run.id} cannot be trained: {failure_in_words(error, config)}") from error


def _take_alone(config: RunConfig, run: Run, lock: FileLock) -> None:
    resumable_checkpoint(config, run)
    if (place := remote_place(run)) is not None and run.is_due():
        raise RunError(f"run {run.id} trains on {place.in_words()}; stop it first, or choose another run name")
    require_free(run, None)
    if run.state().reason == WAITING:
        # Or the queue would train it a second time; what it starts itself does not wait any more.
        with holding(run) as entry:
            leave(run, entry)
    run.make()
    busy, parent = run.trainer(), ProcessIdentity.of(os.getppid())
    others = busy is not None and busy != parent and busy.alive()
    try:
        # Of a trainer that was killed, what it had started may hold the lock for a moment longer.
        lock.acquire(timeout=0 if others else _LOCK_LINGERS_S)
    except Timeout as error:
        by = f" by process {busy.pid}" if busy is not None and others else ""
        raise RunError(
            f"run {run.id} is already being trained{by}; stop it first, or choose another run name"
        ) from error
    run.sweep()
    keep_back(run.path)
    with run.launching():  # from here on nobody moves its folder away, or starts it
        state = run.state()
        if state.is_due() and state.reason == STARTING and not _is_started(run):
            give_back(run.path)
            raise RunError(
                f"run {run.id} is being started in the background; stop it first, or choose another run name"
            )
        # Only now is it sure that it trains here: a run that was refused keeps its trainer on the cluster.
        set_place(run, None)
        # A request from before this training is none of its business, unless it came while somebody started it, who saw
        # to that before.
        if not is_marked(run.path):
            run.clear_stop()
        run.set_state("running", epochs=config.epochs, process=ProcessIdentity.of())


def _is_started(run: Run) -> bool:
    """Whether this process is the one that whoever starts a run in the background has started for it."""
    return is_marked(run.path) or run.trainer() in (ProcessIdentity.of(), ProcessIdentity.of(os.getppid()))


def _train(
    config: RunConfig,
    root: DataRoot,
    run: Run,
    device: torch.device,
    peers: Peers,
    lock: FileLock,
    signalled: Signalled,
    on_progress: OnProgress,
) -> None:
    """Trains from beginning to end, and says in the run how it ended."""
    keeper = Keeper(config, run if peers.first else None)
    trainer: Trainer | None = None
    status: Status = "interrupted"
    reason = "interrupted at once; resume to go on from its latest checkpoint"
    failure: FailureKind | None = None
    lost: PeerError | None = None
    try:
        trainer = Trainer(config, root, run, device, peers, keeper, signalled, on_progress)
        trainer.fit()
        status, reason = "finished", ""
    except Stop as stop:
        status, reason = ENDINGS[stop.kind]
    except Exception as raised:
        error = peers.explained(raised)
        lost = error if isinstance(error, PeerError) else None
        reason, failure = _why(error, config, None if trainer is None or peers.many else trainer.learner)
        status = "failed"
        give_back(run.path)  # or the log could not say it either
        peers.last_words(reason, failure)
        if isinstance(error, PianistIDError):
            log.error("run %s failed: %s", run.id, reason)
            raise error from (raised if error is not raised else error.__cause__)
        log.exception("run %s failed: %s", run.id, reason)
        raise RunError(reason) from error
    finally:
        if _speaks(peers, lost, lock):
            _say_how_it_ended(run, config, status, reason, failure)
        keeper.end(status)
    log.info("run %s %s%s", run.id, status, f": {reason}" if reason else "")


def _say_how_it_ended(run: Run, config: RunConfig, status: Status, reason: str, failure: FailureKind | None) -> None:
    """Writes a run's last state; one that cannot be written is no reason to forget why the run failed."""
    give_back(run.path)
    try:
        run.set_state(status, reason, epochs=config.epochs, failure=failure)
        run.clear_stop()
    except OSError as error:
        words = failure_in_words(error, config)
        log.error("run %s: its state cannot be written: %s", run.id, words)
        if status != "failed":
            raise RunError(f"run {run.id} is {status}, but its state cannot be written: {words}") from error


def _why(error: Exception, config: RunConfig, learner: Learner | None) -> tuple[str, FailureKind | None]:
    """Why a training failed, in words and by kind."""
    if isinstance(error, PeerError):
        return str(error), error.kind
    if isinstance(error, PianistIDError):
        return str(error), failure_kind(error)
    return failure_in_words(error, config, learner), failure_kind(error)


def _speaks(peers: Peers, lost: PeerError | None, lock: FileLock) -> bool:
    """Whether this process says how the run ended: the first, or the second in place of a first that died."""
    if peers.first:
        return True
    if peers.rank != 1 or lost is None or lost.rank != 0 or not lost.died:
        return False
    with suppress(Timeout, OSError):  # the run's folder may be on another machine, or somebody trains it already
        lock.acquire(timeout=0)
    return lock.is_locked


def _end_from_outside(config: RunConfig, run: Run, peers: Peers, lock: FileLock, lost: PeerError) -> None:
    """Says how a run ended whose trainer cannot get out of its waiting for a lost peer."""
    log.error("run %s failed: %s", run.id, lost)
    if _speaks(peers, lost, lock):
        run.set_state("failed", str(lost), epochs=config.epochs, failure=lost.kind)


@contextmanager
def _seen_from_outside(run: Run) -> Iterator[None]:
    """Leaves a log and signs of life in the run's folder."""
    with beating(run.path), _logging_to(run):
        yield


@contextmanager
def _logging_to(run: Run) -> Iterator[None]:
    """Writes the package's log to the run's log.txt, unless stderr goes there already."""
    path = run.path / "log.txt"
    package = logging.getLogger("pianistid_core")
    try:
        already = os.path.samestat(os.fstat(2), path.stat())
    except OSError:
        already = False
    handler: logging.Handler = logging.NullHandler() if already else logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(LineFormatter())
    handler.setLevel(logging.INFO)
    level = package.level
    package.setLevel(min(level or logging.INFO, logging.INFO))
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level)
        handler.close()
