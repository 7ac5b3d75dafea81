"""Bringing files into a data root whole or not at all.

What is imported is first written to a hidden folder inside the root that has the root's own layout, and then renamed
into place recording by recording. A failure or a kill before that changes nothing; one in the middle leaves whole
recordings, and the next import of the same source brings the rest. Nothing that is there already is ever overwritten.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pianistid_core.atomic import flush_folder
from pianistid_core.datasets.archives import Skipped
from pianistid_core.datasets.root import DataRoot, RecordingInfo, Split, write_split
from pianistid_core.errors import DataRootError, ImportSourceError
from pianistid_core.names import twin_of

__all__ = ["Staged", "Staging", "staging_in"]

_COMPARED_SUFFIXES = frozenset({".mid", ".midi", ".csv"})
_PREFIX = ".import-"
_LOCK = ".import.lock"


@contextmanager
def staging_in(root: DataRoot) -> Iterator["Staging"]:
    """A staging folder in the root, removed at the end; sweeps up what killed imports left.

    Raises: DataRootError when the root cannot be written or another import into it is running.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(root.path / _LOCK, timeout=0)
    is_new = not root.path.exists()
    with _writing(root):
        root.path.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout as error:
            raise DataRootError(
                f"another import into {root.path} is running; wait until it has ended, then try again"
            ) from error
    try:
        # Whoever holds the lock is alone, so every other staging folder belongs to an import that is dead.
        for stale in root.path.glob(f"{_PREFIX}*"):
            if stale.is_dir():
                shutil.rmtree(stale, ignore_errors=True)
        with _writing(root):
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root.path))
        try:
            yield Staging(root, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        lock.release()
        if is_new:
            _remove_if_empty(root.path)


@dataclass
class Staged:
    """What an import has put into its staging folder, and what it left out."""

    skipped: list[Skipped]
    n_ignored: int = 0
    tracks: set[str] = field(default_factory=set)
    infos: list[RecordingInfo] = field(default_factory=list)
    splits: tuple[str, ...] = ()
    n_clips: int = 0
    n_checkpoints: int = 0


class Staging:
    """Files on their way into a root; paths are relative to the root, with forward slashes.

    A unit is what is renamed into place at once: a folder of clips, of a raw performance or of a split, or a file.
    """

    def __init__(self, root: DataRoot, folder: Path) -> None:
        self.root = root
        self.folder = folder
        self._units: dict[str, None] = {}
        self._taken: set[str] = set()

    @property
    def staged(self) -> DataRoot:
        """The staged files as a data root of their own."""
        return DataRoot(self.folder, self.root.cache_dir)

    def take(self, path: str) -> bool:
        """Reserves a path; false when it, or one that some systems take for the same, is taken."""
        key = twin_of(path)
        if key in self._taken:
            return False
        self._taken.add(key)
        return True

    def put(self, unit: str, file: str, data: bytes) -> None:
        """Writes a file of a unit; `file` is "" when the unit is a file, `unit` when it is not to be placed at all.

        Raises: DataRootError.
        """
        self.put_with(unit, file, lambda path: path.write_bytes(data))

    def put_with(self, unit: str, file: str, write: Callable[[Path], object]) -> None:
        """Like `put`, with the file written by `write(path)`."""
        path = self.folder / unit / file if file else self.folder / unit
        with _writing(self.root):
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path)
        if unit:
            self._units[unit] = None

    def put_split(self, split: Split) -> None:
        """Writes a split. Raises: DataRootError, SplitError."""
        write_split(self.staged, split)
        self._units[f"references/data_splits/{split.name}"] = None

    def drop(self, unit: str) -> None:
        """Forgets a unit that turned out to be of no use."""
        self._units.pop(unit, None)
        shutil.rmtree(self.folder / unit, ignore_errors=True)

    def place(self) -> set[str]:
        """Renames all units into the root; returns those that were there already, with the same contents.

        Raises: ImportSourceError when any unit is there with other contents, before anything has been placed;
        DataRootError when the root cannot be written.
        """
        with _writing(self.root):
            there = {unit for unit in self._units if os.path.lexists(self.root.path / unit)}
            differing = [unit for unit in sorted(there) if not _same(self.folder / unit, self.root.path / unit)]
            if differing:
                names = ", ".join(differing[:3]) + (", ..." if len(differing) > 3 else "")
                raise ImportSourceError(
                    f"{len(differing)} of {len(self._units)} things to import are in {self.root.path} already, with "
                    f"other contents ({names}): import this source under another name with --name"
                )
            placed = [unit for unit in self._units if unit not in there]
            for unit in placed:
                _move(self.folder / unit, self.root.path / unit)
            for folder in {(self.root.path / unit).parent for unit in placed}:
                flush_folder(folder)
        return there


@contextmanager
def _writing(root: DataRoot) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataRootError(
            f"cannot write to the data root {root.path} ({error.strerror or error}); free space, or choose another "
            "with --data-root"
        ) from error


def _remove_if_empty(path: Path) -> None:
    """A root that an import has made in vain goes again."""
    with suppress(OSError):
        if [entry.name for entry in path.iterdir()] == [_LOCK]:
            (path / _LOCK).unlink()
            path.rmdir()


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # data/clips may be a link to another disk: there, copy aside first.
        aside = target.with_name(f"{_PREFIX}{target.name}")
        if source.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
            shutil.copytree(source, aside)
        else:
            shutil.copyfile(source, aside)
        os.rename(aside, target)


def _same(new: Path, old: Path) -> bool:
    """Whether both hold the same music or tables; metadata.json may have been corrected since."""
    if not new.is_dir():
        return old.is_file() and _same_bytes(new, old)
    if not old.is_dir():
        return False
    names = _compared(new)
    return names == _compared(old) and all(
        (old / name).is_file() and _same_bytes(new / name, old / name) for name in names
    )


def _compared(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix.lower() in _COMPARED_SUFFIXES}


def _same_bytes(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    with open(one, "rb") as a, open(other, "rb") as b:
        while piece := a.read(1 << 20):
            if piece != b.read(1 << 20):
                return False
    return True
