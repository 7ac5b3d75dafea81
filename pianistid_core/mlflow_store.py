"""The MLflow store in a data root: a SQLite file, `mlflow/mlflow.db`, with artifacts beside it.

It is made once, whoever asks first, and brought up when MLflow has become newer. What is asked of it without MLflow, by
plain SQL, takes no seconds: to which experiment a run belongs, and how one ended whose trainer was killed.
"""

import contextlib
import logging
import os
import platform
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from pianistid_core.credentials import with_password
from pianistid_core.errors import TrackingError
from pianistid_core.processes import ProcessIdentity

log = logging.getLogger(__name__)

EndStatus = Literal["FINISHED", "KILLED", "FAILED"]

_SQLITE = "sqlite:///"
BOOT_TAG = "pianistid.boot"
PROCESS_TAG = "pianistid.process"
MACHINE_TAG = "pianistid.machine"
# Making a store takes MLflow seconds, and minutes on a machine that is busy; who waits is never a training.
_LOCK_TIMEOUT_S = 900.0
_BUSY_S = 5.0
# MLflow retries a dead server for minutes unless told otherwise; what the user has set stands.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "4"}
_QUIET = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true", "MLFLOW_LOGGING_LEVEL": "WARNING"}
# An entry that runs, and who trains it; one of somebody else's program has no such tags.
_RUNNING = f"""
    SELECT runs.run_uuid, process.value, boot.value, machine.value FROM runs
    JOIN tags process ON process.run_uuid = runs.run_uuid JOIN tags boot ON boot.run_uuid = runs.run_uuid
    LEFT JOIN tags machine ON machine.run_uuid = runs.run_uuid AND machine.key = '{MACHINE_TAG}'
    WHERE runs.status = 'RUNNING' AND process.key = '{PROCESS_TAG}' AND boot.key = '{BOOT_TAG}'
"""


@dataclass(frozen=True)
class LocalStore:
    """The store in a data root: the address of its database and of the folder for artifacts, and the file itself."""

    uri: str
    artifacts: str
    database: Path

    def experiment_of(self, run_id: str) -> str | None:
        """The experiment of one of its runs, read without MLflow; None when it knows no such run."""
        try:
            with contextlib.closing(sqlite3.connect(f"{self.database.as_uri()}?mode=ro", uri=True, timeout=1)) as store:
                found = store.execute("SELECT experiment_id FROM runs WHERE run_uuid = ?", (run_id,)).fetchone()
        except sqlite3.Error:
            return None
        return None if found is None else str(found[0])

    def end_abandoned(self) -> int:
        """Marks as killed the entries whose process on this machine is gone, without MLflow; gives how many.

        A store that is not there, is busy or is damaged is left for the next time.
        """
        if not self.database.is_file():
            return 0
        try:
            with contextlib.closing(sqlite3.connect(self.database, timeout=_BUSY_S)) as store, store:
                gone = [run_id for run_id, *who in store.execute(_RUNNING) if is_gone(*who)]
                return sum(self._end(store, run_id, "KILLED") for run_id in gone)
        except sqlite3.Error as error:
            log.warning("the MLflow store %s cannot be looked through now (%s)", self.database, error)
            return 0

    def end(self, run_id: str, status: EndStatus) -> bool:
        """Says how an entry ended that still stands as running, without MLflow; False when there is none such."""
        if not self.database.is_file():
            return False
        try:
            with contextlib.closing(sqlite3.connect(self.database, timeout=_BUSY_S)) as store, store:
                return self._end(store, run_id, status) > 0
        except sqlite3.Error as error:
            log.warning("the MLflow store %s cannot be told how a run ended (%s)", self.database, error)
            return False

    def _end(self, store: sqlite3.Connection, run_id: str, status: EndStatus) -> int:
        now = int(time.time() * 1000)
        return store.execute(
            "UPDATE runs SET status = ?, end_time = ? WHERE run_uuid = ? AND status = 'RUNNING'", (status, now, run_id)
        ).rowcount


class Store:
    """Where entries go: a server, or a SQLite file with artifacts beside it."""

    def __init__(self, tracking_uri: str | None, root_path: Path) -> None:
        local = f"{_SQLITE}{(root_path / 'mlflow' / 'mlflow.db').absolute().as_posix()}"
        self.uri = with_password(root_path, tracking_uri) if tracking_uri else local
        self.database = Path(self.uri.removeprefix(_SQLITE)) if self.uri.startswith(_SQLITE) else None
        self.artifacts = None if self.database is None else (self.database.parent / "artifacts").absolute().as_uri()
        self.in_root = root_path if tracking_uri is None else None


def local_store(root_path: Path) -> LocalStore:
    """Where runs of a data root go that name no server; it need not be there yet."""
    store = Store(None, root_path)
    database = (root_path / "mlflow" / "mlflow.db").absolute()
    return LocalStore(store.uri, str(store.artifacts), database)


def make_local_store(root_path: Path) -> None:
    """Makes the store of a data root unless it is there, which takes MLflow some seconds.

    Raises
    ------
    TrackingError
        When MLflow is not installed.
    """
    client_of(Store(None, root_path))


def load_mlflow() -> Any:
    """MLflow's client class. Importing it takes some seconds, which a thread beside others should not begin with.

    Raises
    ------
    TrackingError
        When MLflow is not installed.
    """
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = os.environ["DO_NOT_TRACK"] = "true"
    for name, value in {**_PATIENCE, **_QUIET}.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
    except ModuleNotFoundError as error:
        raise TrackingError("MLflow is not installed; install it with `python -m pip install mlflow`") from error
    logging.getLogger("alembic").setLevel(logging.WARNING)
    return MlflowClient


def client_of(store: "Store") -> Any:
    MlflowClient = load_mlflow()
    if store.database is not None:
        _make_database(store.database, str(store.artifacts))
    return MlflowClient(tracking_uri=store.uri)


def is_gone(process: str | None, boot: str | None, machine: str | None) -> bool:
    """Whether a process that an entry names was one of this machine and lives no more."""
    pid, _, started = (process or "").partition(" ")
    if not pid.isdecimal() or machine not in (None, platform.node()):
        return False
    return not ProcessIdentity(int(pid), started, boot or "").alive()


def _make_database(database: Path, artifacts: str) -> None:
    """Makes a SQLite store unless it is there, and brings one of an earlier MLflow up to this one.

    MLflow takes seconds for either, does not guard itself against a second process that does the same, and never
    recovers from being killed in the middle: hence the lock, and the rename of a file that is ready.
    """
    if database.exists() and not _is_old(database):
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    aside = database.with_name(f".{database.name}.tmp")
    try:
        with FileLock(database.with_name(f".{database.name}.lock"), timeout=_LOCK_TIMEOUT_S):
            if not database.exists():
                _fill_new(aside, artifacts)
            elif _is_old(database):
                _bring_up(database, aside)
            else:
                return
            os.replace(aside, database)
    except Timeout as error:
        raise TrackingError("another process has been making its store for a quarter of an hour") from error


def _fill_new(aside: Path, artifacts: str) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    aside.unlink(missing_ok=True)
    store = SqlAlchemyStore(f"{_SQLITE}{aside.as_posix()}", artifacts)
    store.engine.dispose()


def _bring_up(database: Path, aside: Path) -> None:
    """A copy of the store as this MLflow has it; the one of before stays beside it."""
    import sqlalchemy
    from mlflow.store.db.utils import _upgrade_db

    aside.unlink(missing_ok=True)
    kept = database.with_name(f"{database.stem}-before-{_version_of(database)}{database.suffix}")
    with contextlib.closing(sqlite3.connect(database, timeout=_BUSY_S)) as store:
        for target in (kept, aside):
            with contextlib.closing(sqlite3.connect(target)) as copy:
                store.backup(copy)
    engine = sqlalchemy.create_engine(f"{_SQLITE}{aside.as_posix()}")
    try:
        _upgrade_db(engine)
    finally:
        engine.dispose()
    log.info("the MLflow store %s is of this MLflow now; as it was, it is %s", database, kept.name)


def _is_old(database: Path) -> bool:
    """Whether a store was made by an earlier MLflow; one of a later MLflow is MLflow's to refuse."""
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    version = _version_of(database)
    script = ScriptDirectory.from_config(_get_alembic_config(""))
    known = {revision.revision for revision in script.walk_revisions()}
    return version in known and version not in script.get_heads()


def _version_of(database: Path) -> str | None:
    try:
        with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)) as store:
            found = store.execute("SELECT version_num FROM alembic_version").fetchone()
    except (sqlite3.Error, ValueError):
        return None
    return None if found is None else str(found[0])
