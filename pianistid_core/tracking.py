"""The MLflow mirror of a run: parameters, metrics, figures and the model, for those who keep their runs there.

The run's own folder is the truth; this is a copy. A server that cannot be reached, or that dies half-way, therefore
turns the mirror off with one warning and never stops a run. What was missed is sent once more at the end, and the log
says what came of that. `mirror` keeps all of it out of the way of a training.

Nothing is sent anywhere but to the store that the config names, and MLflow's own telemetry is off. Without a
`tracking_uri` the store is a SQLite file, `mlflow/mlflow.db` in the data root, with artifacts beside it.
"""

import json
import logging
import math
import os
import platform
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pianistid_core.errors import TrackingError
from pianistid_core.masking import masked
from pianistid_core.mlflow_store import (
    BOOT_TAG,
    MACHINE_TAG,
    PROCESS_TAG,
    EndStatus,
    Store,
    client_of,
    is_gone,
    local_store,
)
from pianistid_core.processes import ProcessIdentity, boot_id
from pianistid_core.training_options import MlflowOptions

log = logging.getLogger(__name__)


_LARGEST_BATCH = 100
_LONGEST_VALUE = 6000
_EVERY_EPOCHS = "train_loss"  # what every epoch has


class Tracker:
    """One run's entry in MLflow, or nothing at all; no method of it ever raises."""

    def __init__(self, client: Any, run_id: str | None, *, where: str, problem: str | None = None) -> None:
        self.run_id = run_id
        self.experiment_id: str | None = None
        self.problem = problem
        self._client = client
        self._where = where
        self._missed: list[Callable[[], object]] = []
        self._epochs: set[int] = set()
        self._why = ""

    @classmethod
    def off(cls, problem: str | None = None) -> "Tracker":
        """A tracker that tracks nothing."""
        return cls(None, None, where="", problem=problem)

    def remember_epochs(self) -> None:
        """Asks which epochs the entry has already; they are not sent again."""

        def ask() -> None:
            self._epochs |= {metric.step for metric in self._client.get_metric_history(self.run_id, _EVERY_EPOCHS)}

        self._mirror(ask)

    def log_epoch(self, row: Mapping[str, Any], epoch: int) -> None:
        """Sends the finite numbers of one epoch's row; `epoch` counts from 1 and is their step."""
        if epoch in self._epochs:
            return
        now = int(time.time() * 1000)
        numbers = {key: float(value) for key, value in row.items() if key != "epoch" and _is_number(value)}

        def send() -> None:
            from mlflow.entities import Metric

            if epoch in self._epochs:  # sent late, when the entry has said which it has
                return
            metrics = [Metric(key, value, now, epoch) for key, value in numbers.items()]
            self._client.log_batch(self.run_id, metrics=metrics)
            self._epochs.add(epoch)

        self._mirror(send)

    def log_figure(self, path: Path) -> None:
        """Sends a picture, to `figures/`."""
        self._send_file(path, "figures")

    def log_model(self, path: Path) -> None:
        """Sends a checkpoint, to `model/`."""
        self._send_file(path, "model")

    def log_artifact(self, path: Path) -> None:
        """Sends any other file of the run."""
        self._send_file(path, None)

    def end(self, status: EndStatus) -> None:
        """Says how the run ended, after one more try at what could not be sent before."""
        if self._client is None:
            return
        before, self.problem = self.problem, None
        missed, self._missed = self._missed, []
        for call in [*missed, lambda: self._client.set_terminated(self.run_id, status)]:
            self._mirror(call, warn=before is None)
        if before is not None and self.problem is None:
            log.info("MLflow at %s answers again and has got what it missed", self._where)
        elif before is not None:
            log.warning(
                "MLflow at %s did not get the rest of this run at the last try either: %s", self._where, self._why
            )

    def _send_file(self, path: Path, folder: str | None) -> None:
        def send() -> None:
            # Sent late, a checkpoint may have made way for a newer one.
            if path.is_file():
                self._client.log_artifact(self.run_id, str(path), folder)

        self._mirror(send)

    def _mirror(self, call: Callable[[], object], *, warn: bool = True) -> None:
        if self._client is None:
            return
        if self.problem is None:
            try:
                call()
                return
            # Whatever breaks in somebody else's server or client, a copy must not cost the original.
            except Exception as error:
                self._why = _reason(error)
                self.problem = _problem(self._where, error)
                if warn:
                    log.warning("%s", self.problem)
        self._missed.append(call)


def open_tracker(
    options: MlflowOptions,
    *,
    root_path: Path,
    experiment: str,
    run_name: str,
    parameters: Mapping[str, object],
    saved_run_id: str | None = None,
) -> Tracker:
    """Opens a run's entry in MLflow: a new one, or `options.run_id`, or `saved_run_id` where that still exists.

    `parameters` are values by dotted key. An entry that is gone on with is marked as running again; its parameters
    stay as they were, and those that differ now become tags `resumed.<key>`. Whatever goes wrong is logged as one
    warning, and the tracker that is returned does nothing.
    """
    if not options.use:
        return Tracker.off()
    store = Store(options.tracking_uri, root_path)
    where = masked(store.uri)
    try:
        client = client_of(store)
        run_id = _open_run(client, store, experiment, run_name, options.run_id, saved_run_id)
        _log_parameters(client, run_id, parameters)
        tracker = Tracker(client, run_id, where=where)
        tracker.experiment_id = str(client.get_run(run_id).info.experiment_id)
        return tracker
    # As in Tracker._mirror: a store that cannot be used is told, and costs nothing.
    except Exception as error:
        problem = _problem(where, error)
        log.warning("%s", problem)
        return Tracker.off(problem)


def end_entry(options: MlflowOptions, root_path: Path, run_id: str, status: EndStatus) -> None:
    """Says of a run's entry how it ended, where it still stands as running: in the local store or on a server.

    A store that cannot be reached is told in the log.
    """
    store = Store(options.tracking_uri, root_path)
    if options.tracking_uri is None:
        local_store(root_path).end(run_id, status)
        return
    try:
        client = client_of(store)
        if client.get_run(run_id).info.status == "RUNNING":
            client.set_terminated(run_id, status)
    # As in Tracker._mirror: a store that cannot be used is told, and costs nothing.
    except Exception as error:
        log.warning("%s", _problem(masked(store.uri), error))


def address_problem(address: str) -> str | None:
    """What is wrong with the address of an MLflow server, as half a sentence; None when nothing is."""
    try:
        parts = urlsplit(address)
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        return "it is no address; give one such as http://127.0.0.1:5000"
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_right:
        return "it must begin with http:// or https:// and name a machine, such as http://127.0.0.1:5000"
    if any(character.isspace() or not character.isprintable() for character in address):
        return "it holds a space or a control character; give one such as http://127.0.0.1:5000"
    return None


def without_password(address: str) -> str:
    """An address as it may be shown: no user name or password in it."""
    return masked(address)


def _open_run(
    client: Any, store: Store, experiment: str, run_name: str, chosen_id: str | None, saved_id: str | None
) -> str:
    from mlflow.exceptions import MlflowException

    process = ProcessIdentity.of()
    tags = {
        BOOT_TAG: boot_id(),
        PROCESS_TAG: f"{process.pid} {process.started}" if process else "",
        MACHINE_TAG: platform.node(),
    }
    for run_id in (chosen_id, saved_id):
        if run_id is None:
            continue
        try:
            client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            if run_id == chosen_id:
                message = f"it has no run {run_id!r}; correct mlflow_cfg.run_id, or leave it out for a new run"
                raise TrackingError(message) from error
            continue
        client.update_run(run_id, status="RUNNING")
        for key, value in tags.items():
            client.set_tag(run_id, key, value)
        return str(run_id)
    if store.in_root is not None:
        local_store(store.in_root).end_abandoned()
    experiment_id = _experiment_id(client, store, experiment)
    if store.in_root is None:
        _end_abandoned(client, experiment_id)
    return str(client.create_run(experiment_id, run_name=run_name, tags=tags).info.run_id)


def _experiment_id(client: Any, store: Store, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=store.artifacts))
        except MlflowException as error:
            # Another process may have made it in between.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise error
    if found.lifecycle_stage != "active":
        raise TrackingError(f"experiment {name!r} was deleted there; restore it, or give the run another experiment")
    return str(found.experiment_id)


def _end_abandoned(client: Any, experiment_id: str) -> None:
    """Marks as killed the entries whose process vanished on this machine without a word."""
    running = f"attributes.status = 'RUNNING' and tags.`{BOOT_TAG}` = '{boot_id()}'"
    for run in client.search_runs([experiment_id], running, max_results=_LARGEST_BATCH):
        if is_gone(run.data.tags.get(PROCESS_TAG), boot_id(), run.data.tags.get(MACHINE_TAG)):
            client.set_terminated(run.info.run_id, "KILLED")


def _log_parameters(client: Any, run_id: str, parameters: Mapping[str, object]) -> None:
    from mlflow.entities import Param, RunTag

    known = client.get_run(run_id).data.params
    # The tracker's own settings say nothing about the run, and an address may hold a password.
    values = {key: _text(value) for key, value in parameters.items() if not key.startswith("mlflow_cfg.")}
    params = [Param(key, value) for key, value in values.items() if key not in known]
    # MLflow lets no parameter change, so what changed on the way is told beside it.
    tags = [RunTag(f"resumed.{key}", value) for key, value in values.items() if known.get(key, value) != value]
    for start in range(0, len(params), _LARGEST_BATCH):
        client.log_batch(run_id, params=params[start : start + _LARGEST_BATCH])
    for start in range(0, len(tags), _LARGEST_BATCH):
        client.log_batch(run_id, tags=tags[start : start + _LARGEST_BATCH])


def _text(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text[:_LONGEST_VALUE]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _problem(where: str, error: Exception) -> str:
    return f"MLflow at {where} cannot be used: {_reason(error)}; the run goes on without it, its own files are complete"


def _reason(error: Exception) -> str:
    """What is behind an error, in words; never an address with a password."""
    for cause in _causes(error):
        if isinstance(cause, TrackingError):
            return str(cause)
        if isinstance(cause, socket.gaierror):
            return "no machine of that name is known"
        if isinstance(cause, ConnectionRefusedError):
            return "nothing listens at that address"
        if isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__:
            return f"no answer within {os.environ.get('MLFLOW_HTTP_REQUEST_TIMEOUT', '?')} s"
        if isinstance(cause, ConnectionError):
            return "the connection broke off"
        if isinstance(cause, PermissionError):
            return f"no permission to write {cause.filename}"
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    text = masked(line)
    return text if len(text) <= 300 else text[:299] + "…"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that led to it."""
    current: BaseException | None = error
    seen: set[int] = set()
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
