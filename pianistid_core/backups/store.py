"""The MLflow store in a backup: a copy of its database as it is at one moment, and the same database elsewhere.

The database holds the address of each run's files, so it is mended when it comes to lie in another folder. It may be
anybody's: nothing in it leads outside the folder that it is mended for, and one that would do more than hold rows is
refused.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from pianistid_core.errors import ArchiveError
from pianistid_core.names import is_plain_name

_BUSY_S = 20.0
_PAGES = 2048
# MLflow's own, which keeps a row from being changed.
_KNOWN_TRIGGERS = frozenset({"prevent_secrets_aad_mutation"})
_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("workspaces", "trace_archival_location"),
)


def copy_database(database: Path, target: Path) -> None:
    """Copies a SQLite database as it is at one moment, whoever writes to it.

    Raises
    ------
    ArchiveError
        When it cannot be read.
    """
    try:
        with (
            contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)) as store,
            contextlib.closing(sqlite3.connect(target)) as copy,
        ):
            store.backup(copy, pages=_PAGES)
            copy.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise ArchiveError(
            f"the MLflow store {database} cannot be read ({error}); make the backup without it, with --without mlflow"
        ) from error


def mend(database: Path, before: str, after: str) -> None:
    """Makes the store of another folder one of this folder: addresses of files, and entries whose process is away.

    `before` and `after` are the addresses of its folder of files, there and here.

    Raises
    ------
    ArchiveError
        When it is damaged, or holds anything but tables.
    """
    with _opened(database) as store:
        _check(store)
        for table, column in _ADDRESSES:
            _mend_column(store, table, column, before, after)
        store.execute("UPDATE runs SET status = 'KILLED' WHERE status IN ('RUNNING', 'SCHEDULED')")


@contextmanager
def _opened(database: Path) -> Iterator[sqlite3.Connection]:
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=_BUSY_S)) as store, store:
            store.execute("PRAGMA trusted_schema = OFF")
            store.execute("PRAGMA cell_size_check = ON")
            yield store
    except sqlite3.Error as error:
        raise ArchiveError(
            f"its MLflow store is damaged ({error}); restore it without, with --without mlflow"
        ) from error


def _check(store: sqlite3.Connection) -> None:
    found = store.execute("SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view')").fetchall()
    strange = [name for kind, name in found if kind == "view" or name not in _KNOWN_TRIGGERS]
    if strange or store.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        raise ArchiveError(
            "its MLflow store is damaged or more than MLflow makes; restore it without, with --without mlflow"
        )


def _mend_column(store: sqlite3.Connection, table: str, column: str, before: str, after: str) -> None:
    columns = {row[1] for row in store.execute(f"PRAGMA table_info({table})")}
    if column not in columns:
        return
    addresses = store.execute(f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL")
    changes = [(_moved(str(address), before, after), address) for (address,) in addresses.fetchall()]
    store.executemany(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", changes)


def _moved(address: str, before: str, after: str) -> str:
    """An address below `before` as one below `after`; whatever leads elsewhere leads to nothing."""
    rest = address.removeprefix(before).strip("/") if before and address.startswith(before) else "elsewhere"
    parts = rest.split("/") if rest else []
    return "/".join([after, *parts]) if all(is_plain_name(unquote(part)) for part in parts) else f"{after}/elsewhere"
