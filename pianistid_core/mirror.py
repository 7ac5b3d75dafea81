"""A run's copy in MLflow, kept by a thread of its own: a training hands over what there is, and never waits for it.

`mlflow.json` in the run says which entry is the copy, and whether it is whole. One that is not, since the store could
not be used or the trainer was killed, is made whole by `catch_up`, from what lies in the run's folder.
"""

import logging
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pianistid_core.config import RunConfig, flatten
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import PianistIDError, TrackingError
from pianistid_core.mlflow_store import EndStatus, load_mlflow, local_store
from pianistid_core.run_config import config_of
from pianistid_core.runs import Run, Status, find_runs
from pianistid_core.tracking import Tracker, end_entry, open_tracker

log = logging.getLogger(__name__)

ENTRY_FILE = "mlflow.json"
# How long a training that has ended waits for the rest of its copy; what is not sent by then is sent by `catch_up`.
_PATIENCE_S = {"finished": 60.0}
_SHORT_PATIENCE_S = 5.0

_Send = Callable[[Tracker], object]


class Mirror:
    """The copy of one run while it trains; without `use` in its config there is none, and nothing of it raises."""

    def __init__(self, config: RunConfig, root: DataRoot, run: Run, *, goes_on: bool) -> None:
        self._config, self._root, self._run, self._goes_on = config, root, run, goes_on
        self._waiting: queue.SimpleQueue[_Send | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        if not config.mlflow_cfg.use:
            return
        try:
            load_mlflow()  # here, for a process that forks while a thread imports may never get hold of the module
        except TrackingError as error:
            log.warning("%s; the run goes on without it, its own files are complete", error)
            return
        self._thread = threading.Thread(target=self._work, name="MLflow", daemon=True)
        self._thread.start()

    def epoch(self, row: Mapping[str, Any], epoch: int) -> None:
        """Hands over an epoch's row."""
        self._hand_over(lambda tracker: tracker.log_epoch(row, epoch))

    def figure(self, path: Path) -> None:
        """Hands over a picture."""
        self._hand_over(lambda tracker: tracker.log_figure(path))

    def model(self, path: Path) -> None:
        """Hands over a checkpoint."""
        self._hand_over(lambda tracker: tracker.log_model(path))

    def end(self, status: Status) -> None:
        """Says how the run ended, and waits some seconds at most until all is sent."""
        if self._thread is None:
            return
        self._hand_over(lambda tracker: tracker.end(_ENDINGS[status]))
        self._waiting.put(None)
        self._thread.join(_PATIENCE_S.get(status, _SHORT_PATIENCE_S))
        if self._thread.is_alive():
            log.warning("MLflow takes its time, so the run's copy there is not whole yet; it is completed later")

    def _hand_over(self, send: _Send) -> None:
        if self._thread is not None:
            self._waiting.put(send)

    def _work(self) -> None:
        tracker = _opened(self._config, self._root, self._run, goes_on=self._goes_on)
        _note(self._run, tracker, whole=False)
        if self._goes_on:
            _send_rows(tracker, self._run)  # what its copy lacks of the time before
        while (send := self._waiting.get()) is not None:
            send(tracker)
        _note(self._run, tracker, whole=tracker.run_id is not None and tracker.problem is None)


_ENDINGS: Mapping[str, EndStatus] = {
    "finished": "FINISHED",
    "stopped": "KILLED",
    "interrupted": "KILLED",
    "failed": "FAILED",
}


def settle(root: DataRoot) -> int:
    """Marks as killed the entries of a data root's own store whose trainer is gone; gives how many."""
    return local_store(root_path_of(root)).end_abandoned()


def settle_run(run: Run, root: DataRoot) -> None:
    """Says in MLflow how a run ended whose trainer can no longer do so, as after a kill; nothing of it raises."""
    said, code = run.read_json("state.json") or {}, (run.read_json("exit.json") or {}).get("code")
    run_id = (run.read_json(ENTRY_FILE) or {}).get("run_id") if (run.path / ENTRY_FILE).is_file() else None
    status = _ENDINGS.get(said.get("status", ""), "KILLED" if isinstance(code, int) and code < 0 else "FAILED")
    if not isinstance(run_id, str):
        return
    try:
        options = config_of(run).mlflow_cfg
    except PianistIDError as error:
        log.warning("MLflow is not told how run %s ended: %s", run.id, error)
        return
    end_entry(options, root_path_of(root), run_id, status)


def lacking(root: DataRoot) -> list[Run]:
    """The runs that have ended and whose copy in MLflow is not whole."""
    found = []
    for run in find_runs(root.checkpoints_dir):
        said = run.read_json(ENTRY_FILE) if (run.path / ENTRY_FILE).is_file() else None
        if said is not None and said.get("whole") is False and not run.is_due():
            found.append(run)
    return found


def catch_up(run: Run, root: DataRoot) -> None:
    """Sends what MLflow lacks of a run that has ended, and how it ended.

    Raises
    ------
    TrackingError
        When MLflow cannot be used; what could be sent is there, and the rest is sent another time.
    RunError
        When the run trains.
    PianistIDError
        When its config cannot be read.
    """
    config, state = config_of(run), run.state()
    status = _ENDINGS.get(state.status)
    if status is None or state.is_due():
        raise TrackingError(f"run {run.id} is not over; its trainer keeps its copy in MLflow")
    tracker = _opened(config, root, run, goes_on=True)
    _note(run, tracker, whole=False)
    if tracker.problem is None:
        _send_rows(tracker, run)
        for picture in sorted((run.path / "figures").glob("*.png")):
            tracker.log_figure(picture)
        if checkpoints := run.checkpoints():
            tracker.log_model(checkpoints[-1])
        tracker.end(status)
    if tracker.problem is not None:
        raise TrackingError(tracker.problem)
    _note(run, tracker, whole=True)


def root_path_of(root: DataRoot) -> Path:
    """Where a data root's own store lies: in it, or in its place in the cache when it cannot be written."""
    return root.path if root.writable() else root.checkpoints_dir.parent


def _opened(config: RunConfig, root: DataRoot, run: Run, *, goes_on: bool) -> Tracker:
    saved = (run.read_json(ENTRY_FILE) or {}).get("run_id") if (run.path / ENTRY_FILE).is_file() else None
    return open_tracker(
        config.mlflow_cfg,
        root_path=root_path_of(root),
        experiment=config.experiment,
        run_name=config.run,
        parameters=flatten(config),
        saved_run_id=saved if goes_on and isinstance(saved, str) else None,
    )


def _send_rows(tracker: Tracker, run: Run) -> None:
    tracker.remember_epochs()
    for row in run.metrics():
        tracker.log_epoch(row, row["epoch"])


def _note(run: Run, tracker: Tracker, *, whole: bool) -> None:
    """Keeps in the run which entry is its copy; a disk that refuses costs the note alone."""
    before = (run.read_json(ENTRY_FILE) or {}) if (run.path / ENTRY_FILE).is_file() else {}
    entry = {"run_id": tracker.run_id, "experiment_id": tracker.experiment_id}
    known = entry if tracker.run_id is not None else {key: before.get(key) for key in entry}
    try:
        run.save_json(ENTRY_FILE, {**known, "whole": whole})
    except OSError as error:
        log.warning("mlflow.json of run %s cannot be kept (%s)", run.id, error.strerror or error)


def main(root_path: Path) -> int:
    """Completes the copies of all runs of a data root in its own store, one after the other; gives how many could not.

    A run's folder may come from elsewhere, so nobody's server is spoken to because a folder names it: that is asked
    for, on the page of MLflow.
    """
    root, failed = DataRoot(root_path), 0
    for run in lacking(root):
        try:
            if config_of(run).mlflow_cfg.tracking_uri is None:
                catch_up(run, root)
        except PianistIDError as error:
            log.warning("the copy of run %s in MLflow is not whole: %s", run.id, error)
            failed += 1
    return failed


if __name__ == "__main__":
    sys.exit(min(main(Path(sys.argv[1])), 1))
