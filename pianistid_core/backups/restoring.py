"""Bringing a backup into a data root: whole units, nothing overwritten, nothing left behind when it is refused.

Everything is first unpacked into a hidden folder of the root and compared with its SHA-256, then renamed into place
unit by unit. A failure or a kill before that changes nothing; one in the middle leaves whole runs and recordings, and
restoring the same backup again brings the rest.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pianistid_core.atomic import flush_folder, replacing
from pianistid_core.backups.layout import DATABASE, RECORDINGS, Part, Place, in_root, is_passing, place_of
from pianistid_core.backups.manifest import Contents, Entry
from pianistid_core.backups.moving import mend_run, new_name
from pianistid_core.backups.opening import Backup, OnProgress, opened
from pianistid_core.backups.store import mend
from pianistid_core.datasets.recordings import RecordingsTable
from pianistid_core.datasets.root import DataRoot, read_recordings_file
from pianistid_core.datasets.staging import Staging, staging_in
from pianistid_core.errors import ArchiveError, DataRootError, ImportSourceError
from pianistid_core.mirror import ENTRY_FILE
from pianistid_core.mlflow_store import local_store
from pianistid_core.names import twin_of

_MARGIN = 64 << 20
_NAMED = 5
_PIECE = 1 << 20
# What a run says of its process and of its copy in MLflow is of the place where it lies.
_OF_ITS_PLACE = ("state.json", ENTRY_FILE)
_MOST_SETTINGS_BYTES = 16 << 20


@dataclass
class Restored:
    """What came of restoring a backup: runs by their names now, what was there already, and what was kept as it is.

    `renamed` are runs whose name was taken, by their names before; `notes` are sentences for people.
    """

    contents: Contents
    runs: tuple[str, ...] = ()
    renamed: dict[str, str] = field(default_factory=dict)
    splits: tuple[str, ...] = ()
    files: int = 0
    bytes: int = 0
    already: int = 0
    notes: tuple[str, ...] = ()


@dataclass
class _Unit:
    """What comes in whole: its name in the archive and in the root, and its files with the rest of their paths."""

    place: Place
    target: str
    files: list[tuple[Entry, str]] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        return sum(entry.bytes for entry, _ in self.files)


def restore(
    path: Path,
    root: DataRoot,
    *,
    without: Collection[Part] = (),
    rename: bool = False,
    on_progress: OnProgress | None = None,
) -> Restored:
    """Brings a backup, or what `pianistid runs export` makes, into a data root that may hold things already.

    What is there with the same bytes is passed over and counted. A run, split or recording that is there with others
    refuses the whole, unless `rename` gives such runs another name; settings, logs and an MLflow store that are there
    stay. Runs come in with their checkpoints as bytes that nobody has opened, and with no process. `on_progress` hears
    bytes done and in all.

    Raises
    ------
    ArchiveError
        When the archive is damaged, not safe, or holds what has no place in a data root.
    ImportSourceError
        When there is no such file, or what it holds is there with other contents.
    DataRootError
        When the root cannot be written, has too little room, or another import into it is running.
    """
    with opened(path) as backup, staging_in(root) as staging:
        plan = _Plan(backup.contents, root, set(without), rename)
        plan.make()
        _check_names(staging.folder, plan.names())
        _check_room(root, plan.bytes)
        _unpack(backup, staging, plan, on_progress)
        _mend(staging, plan, backup.contents)
        recordings = _new_recordings(staging, root, plan)
        _flush_folders(staging.folder)
        staging.place()
        if recordings is not None:
            recordings()
        _put_settings(staging, plan)
    return plan.report()


class _Plan:
    """What of a backup comes in, under which names."""

    def __init__(self, contents: Contents, root: DataRoot, without: set[Part], rename: bool) -> None:
        self.contents, self.root, self.without, self.rename = contents, root, without, rename
        self.new: list[_Unit] = []
        self.beside: list[_Unit] = []  # not renamed into place: merged, or kept in the cache
        self.renamed: dict[str, str] = {}
        self.already = 0
        self.notes: list[str] = []
        self._differing: list[str] = []

    def make(self) -> None:
        """Compares every unit with what is there. Raises: ImportSourceError when something is there, but different."""
        units = self._units()
        if any(unit.place.part == "mlflow" for unit in units) and self._has_store():
            units = [unit for unit in units if unit.place.part != "mlflow"]
            self.notes.append("the MLflow store here is kept, and that of the backup left out; runs are complete")
        for unit in units:
            self._sort(unit)
        if self._differing:
            names = ", ".join(self._differing[:_NAMED]) + (", ..." if len(self._differing) > _NAMED else "")
            raise ImportSourceError(
                f"{len(self._differing)} things of the backup are in {self.root.path} already, with other contents "
                f"({names}): restore runs under other names with --rename, leave music out with --without data, or "
                "choose another data root"
            )

    def names(self) -> Iterator[str]:
        """The files that come in, by their paths in the root."""
        for unit in (*self.new, *self.beside):
            yield from (f"{unit.target}/{within}" if within else unit.target for _, within in unit.files)

    @property
    def bytes(self) -> int:
        """The bytes that come in."""
        return sum(unit.bytes for unit in (*self.new, *self.beside))

    def report(self) -> Restored:
        """What came of it."""
        placed = [unit for unit in self.new if unit.place.part == "runs"]
        splits = [unit for unit in self.new if unit.target.startswith("references/data_splits/")]
        units = [*self.new, *self.beside]
        return Restored(
            self.contents,
            runs=tuple(sorted("/".join(unit.target.split("/")[1:3]) for unit in placed)),
            renamed=self.renamed,
            splits=tuple(sorted(unit.target.split("/")[2] for unit in splits)),
            files=sum(len(unit.files) for unit in units),
            bytes=self.bytes,
            already=self.already,
            notes=tuple(self.notes),
        )

    def _units(self) -> list[_Unit]:
        units: dict[str, _Unit] = {}
        for entry in self.contents.entries:
            place = place_of(entry.name)
            if place.part in self.without or (place.part == "runs" and is_passing(place.within)):
                continue
            unit = units.setdefault(place.unit, _Unit(place, in_root(place.unit)))
            unit.files.append((entry, place.within))
        # The database says what the store holds, so it comes last.
        return sorted(units.values(), key=lambda unit: unit.place.unit == DATABASE)

    def _has_store(self) -> bool:
        return (self.root.path / "mlflow" / "mlflow.db").exists() or (self.root.path / "mlflow" / "artifacts").exists()

    def _sort(self, unit: _Unit) -> None:
        target = self.target(unit)
        there = target.exists()
        if unit.place.part == "settings" and unit.bytes > _MOST_SETTINGS_BYTES and not unit.target.startswith("audit/"):
            raise ArchiveError(f"{unit.target} of the backup has {unit.bytes} bytes, more than any settings have")
        if unit.place.part == "settings" and not there:
            self.beside.append(unit)
        elif unit.place.part == "settings":
            self.already += 1
            if not _same(unit, target):
                self.notes.append(f"{unit.place.unit} here is kept as it is")
        elif not there:
            self.new.append(unit)
        elif _same(unit, target):
            self.already += 1
        elif unit.target == RECORDINGS:
            self.beside.append(unit)
        elif unit.place.run_id is not None and self.rename:
            self._give_other_name(unit, unit.place.run_id)
        else:
            self._differing.append(unit.place.run_id or unit.target)

    def target(self, unit: _Unit) -> Path:
        """Where a unit goes."""
        if unit.target.startswith("drafts/"):
            return self.root.drafts_dir / unit.target.removeprefix("drafts/")
        return self.root.path / unit.target

    def _give_other_name(self, unit: _Unit, run_id: str) -> None:
        experiment, name = run_id.split("/")
        taken = {*self.contents.runs, *self.renamed.values()}
        folder = self.root.path / "checkpoints" / experiment
        chosen = new_name(name, lambda one: f"{experiment}/{one}" in taken or (folder / one).exists())
        self.renamed[run_id] = f"{experiment}/{chosen}"
        unit.target = f"checkpoints/{experiment}/{chosen}"
        self.new.append(unit)


def _unpack(backup: Backup, staging: Staging, plan: _Plan, on_progress: OnProgress | None) -> None:
    total, done = plan.bytes, 0

    def copy(entry: Entry) -> Callable[[Path], object]:
        def write(path: Path) -> None:
            nonlocal done
            with path.open("wb") as file:

                def take(piece: bytes) -> None:
                    nonlocal done
                    file.write(piece)
                    done += len(piece)
                    if on_progress is not None:
                        on_progress(done, total)

                backup.stream(entry, take)
                file.flush()
                os.fsync(file.fileno())

        return write

    for unit in plan.new:
        for entry, within in unit.files:
            staging.put_with(unit.target, within, copy(entry))
    for unit in plan.beside:
        for entry, within in unit.files:
            staging.put_with("", f"beside/{unit.place.unit}/{within}".rstrip("/"), copy(entry))


def _mend(staging: Staging, plan: _Plan, contents: Contents) -> None:
    """Makes what was true elsewhere true here: no process of another machine, no path of another folder."""
    with_store = any(unit.target == DATABASE for unit in plan.new)
    for unit in plan.new:
        if unit.place.part == "runs":
            mend_run(staging.folder / unit.target, renamed=unit.target != unit.place.unit, with_store=with_store)
        elif unit.place.part == "trash" and (folder := staging.folder / unit.target / "run").is_dir():
            mend_run(folder, renamed=False, with_store=with_store)
        elif unit.target == DATABASE:
            mend(staging.folder / unit.target, contents.artifacts, local_store(plan.root.path).artifacts)


def _new_recordings(staging: Staging, root: DataRoot, plan: _Plan) -> Callable[[], object] | None:
    """What merges the backup's table of recordings into the one here, once both have been read; None without one.

    Raises: DataRootError when either cannot be read.
    """
    if all(unit.target != RECORDINGS for unit in plan.beside):
        return None
    source = staging.folder / "beside" / RECORDINGS
    known, table = set(root.recordings()), RecordingsTable(root)
    try:
        infos = read_recordings_file(source)
    except DataRootError as error:
        said = str(error).replace(str(source), f"{RECORDINGS} of the backup")
        raise DataRootError(f"{said}; leave it out with --without data") from error
    return lambda: table.merge(infos, known)


def _put_settings(staging: Staging, plan: _Plan) -> None:
    """Settings and logs, which are files of their own."""
    for unit in plan.beside:
        if unit.target == RECORDINGS:
            continue
        target = plan.target(unit)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with (staging.folder / "beside" / unit.place.unit).open("rb") as source, replacing(target) as file:
                shutil.copyfileobj(source, file, _PIECE)
            target.chmod(0o600)
        except OSError as error:
            raise DataRootError(f"{target} cannot be written: {error.strerror or error}") from error


def _check_names(folder: Path, names: Iterable[str]) -> None:
    """Whether a file system tells files apart by names that some systems take for the same, tried in a folder of it.

    Raises
    ------
    ImportSourceError
        When two of the files would be one there.
    """
    known: dict[str, str] = {}
    for name in names:
        parts = name.split("/")
        for n in range(1, len(parts) + 1):
            path = "/".join(parts[:n])
            other = known.setdefault(twin_of(path), path)
            if other.rpartition("/")[2] != parts[n - 1] and _are_one(folder, other.rpartition("/")[2], parts[n - 1]):
                raise ImportSourceError(
                    f"{other!a} and {path!a} of the backup are one name on the disk of {folder.parent}; restore it "
                    "on a disk that tells them apart, or pack only one of them"
                )


def _are_one(folder: Path, one: str, other: str) -> bool:
    (folder / one).touch()
    try:
        return (folder / other).exists()
    finally:
        (folder / one).unlink()


def _flush_folders(folder: Path) -> None:
    for at, _, _ in os.walk(folder):
        flush_folder(Path(at))


def _same(unit: _Unit, target: Path) -> bool:
    """Whether a unit is there with the same bytes; what a run says of its process does not count."""
    if not unit.files[0][1]:
        return target.is_file() and _digest(target) == unit.files[0][0].sha256
    wanted = {within: entry for entry, within in unit.files if not within.endswith(_OF_ITS_PLACE)}
    within_root = (path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file())
    there = {within for within in within_root if not within.endswith(_OF_ITS_PLACE) and not is_passing(within)}
    if there != set(wanted):
        return False
    if any((target / within).stat().st_size != entry.bytes for within, entry in wanted.items()):
        return False
    return all(_digest(target / within) == entry.sha256 for within, entry in wanted.items())


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _check_room(root: DataRoot, needed: int) -> None:
    free = shutil.disk_usage(root.path).free
    if needed + _MARGIN > free:
        raise DataRootError(
            f"the backup needs {needed / 1e9:,.1f} GB and {root.path} has {free / 1e9:,.1f} GB free; free space, or "
            "leave parts out with --without"
        )
