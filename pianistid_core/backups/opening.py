"""A backup, read as an archive that nobody vouches for: what it says it holds, and whether every byte of that is so.

The zip passes the checks of `datasets.archives` first. Then its list of files and the files in it must be the same, and
each must have a place in a data root; what `pianistid runs export` makes has no list, and is read through once for one.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pianistid_core.backups import manifest
from pianistid_core.backups.layout import MANIFEST, is_passing, place_of
from pianistid_core.backups.manifest import Contents, Entry
from pianistid_core.backups.packing import MOST_FILES
from pianistid_core.datasets.archives import ArchiveLimits, ZipSource, shown
from pianistid_core.errors import ArchiveError, ImportSourceError
from pianistid_core.names import is_plain_name
from pianistid_core.strict_json import parse_json

OnProgress = Callable[[int, int], None]

LIMITS = ArchiveLimits(max_members=MOST_FILES + 10, max_directory_bytes=256 << 20, max_total_bytes=1 << 40)
_MOST_LIST_BYTES = 256 << 20
_MOST_ABOUT_BYTES = 1 << 16
# No sound backup unpacks to more than this many times its size, some small ones aside.
_MOST_RATIO = 200
_RATIO_FROM = 64 << 20
_ABOUT_RUN = "run.json"


class Backup:
    """An open backup whose list of files has been checked; what is in the files is checked as they are read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._zip = ZipSource(path, LIMITS)
        self._prefix = ""
        try:
            self.contents = self._listed() if MANIFEST in self._zip.names else self._exported()
            self._check()
        except (ArchiveError, ImportSourceError) as error:
            self.close()
            raise _named(path, error) from error

    def stream(self, entry: Entry, write: Callable[[bytes], object]) -> None:
        """Gives a file to `write`, piece by piece.

        Raises
        ------
        ArchiveError
            When it is not as the list has it.
        """
        digest = hashlib.sha256()

        def take(piece: bytes) -> None:
            digest.update(piece)
            write(piece)

        self._zip.stream(entry.name.removeprefix(self._prefix), entry.bytes, take)
        if digest.hexdigest() != entry.sha256:
            raise _named(self.path, ArchiveError(f"{shown(entry.name)} is not as it was packed; copy or make it again"))

    def close(self) -> None:
        """Closes the file."""
        self._zip.close()

    def _listed(self) -> Contents:
        if self._zip.size(MANIFEST) > _MOST_LIST_BYTES:
            raise ArchiveError("its list of files is longer than any backup's")
        self._check_ratio(self._zip.size(MANIFEST))
        reading = manifest.Reading(MOST_FILES)
        self._zip.stream(MANIFEST, _MOST_LIST_BYTES, reading.take)
        contents = reading.contents()
        names = {name for name in self._zip.names if name != MANIFEST}
        listed = {entry.name for entry in contents.entries}
        if len(listed) != len(contents.entries) or names != listed or self._zip.skipped or self._zip.n_hidden:
            odd = sorted(names ^ listed)
            what = f", such as {shown(odd[0])}" if odd else ""
            raise ArchiveError(f"its files and its list of files are not the same{what}; copy or make it again")
        wrong = next((entry for entry in contents.entries if self._zip.size(entry.name) != entry.bytes), None)
        if wrong is not None:
            raise ArchiveError(f"{shown(wrong.name)} has another length than its list says; copy or make it again")
        return contents

    def _exported(self) -> Contents:
        """The contents of one run's export, whose names are those in the run's folder."""
        if _ABOUT_RUN not in self._zip.names:
            raise ArchiveError("it is no backup: it holds neither a list of files nor a run")
        try:
            about = parse_json(self._zip.read(_ABOUT_RUN, _MOST_ABOUT_BYTES))
        except ValueError as error:
            raise ArchiveError("its run.json is damaged, so its run has no name") from error
        match about:
            case {"experiment": str(experiment), "run": str(run)} if is_plain_name(experiment) and is_plain_name(run):
                self._prefix = f"checkpoints/{experiment}/{run}/"
            case _:
                raise ArchiveError("its run.json names no run")
        names = [name for name in self._zip.names if not is_passing(name)]
        self._check_ratio(sum(self._zip.size(name) for name in names))
        return Contents(runs=(f"{experiment}/{run}",), entries=tuple(map(self._measured, names)))

    def _measured(self, name: str) -> Entry:
        digest, size = hashlib.sha256(), self._zip.size(name)
        self._zip.stream(name, size, digest.update)
        return Entry(self._prefix + name, size, digest.hexdigest())

    def _check(self) -> None:
        self._check_ratio(self.contents.bytes)
        places = [place_of(entry.name) for entry in self.contents.entries]
        # What it says of itself is shown, so it may only say what its files bear out.
        runs = {place.run_id for place in places if place.run_id is not None}
        splits = {place.unit.split("/")[2] for place in places if place.unit.startswith("references/data_splits/")}
        if set(self.contents.runs) != runs or not set(self.contents.splits) <= splits:
            raise ArchiveError("the runs or splits that it names are not those that it holds")
        live = tuple(run for run in self.contents.live if run in runs)
        self.contents = replace(self.contents, live=live)

    def _check_ratio(self, unpacked: int) -> None:
        packed = self.path.stat().st_size
        if unpacked > _RATIO_FROM + _MOST_RATIO * packed:
            raise ArchiveError(f"it claims to unpack {packed} bytes to {unpacked}, over {_MOST_RATIO} times")


@contextmanager
def opened(path: Path) -> Iterator[Backup]:
    """A backup, open for the length of a block.

    Raises
    ------
    ArchiveError
        When it is damaged, not safe, or no backup.
    ImportSourceError
        When there is no such file.
    """
    if not path.is_file():
        raise ImportSourceError(f"{path} is not a file; name a backup, which `pianistid backup FILE` makes")
    backup = Backup(path)
    try:
        yield backup
    finally:
        backup.close()


def check_backup(path: Path, on_progress: OnProgress | None = None) -> Contents:
    """Reads a backup to its last byte and compares every file with its SHA-256; `on_progress` hears bytes.

    Raises
    ------
    ArchiveError
        When anything is not as it was packed; the first such file is named.
    ImportSourceError
        When there is no such file.
    """
    with opened(path) as backup:
        total, done = backup.contents.bytes, 0

        def count(piece: bytes) -> None:
            nonlocal done
            done += len(piece)
            if on_progress is not None:
                on_progress(done, total)

        for entry in backup.contents.entries:
            backup.stream(entry, count)
        return backup.contents


def contents_of(path: Path) -> Contents:
    """What a backup says it holds, without reading its files. Raises: as `check_backup`."""
    with opened(path) as backup:
        return backup.contents


def _named(path: Path, error: Exception) -> ArchiveError:
    text = str(error)
    return ArchiveError(text if path.name in text else f"backup {path.name!a} is refused: {text}")
