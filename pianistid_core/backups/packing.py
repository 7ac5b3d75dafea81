"""Making a backup: a whole data root or some of its runs in one zip, also while runs train.

Files are read one after the other in pieces, so memory does not grow with them. What is replaced whole is read whole;
of what grows, as much is taken as is there, up to the last whole line. A run's checkpoints are packed before its
metrics: the metrics then reach at least as far as the checkpoint, and a resumed run drops what is beyond it.
"""

import glob
import hashlib
import io
import json
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import psutil

from pianistid_core.atomic import replacing
from pianistid_core.backups import manifest
from pianistid_core.backups.layout import DATABASE, MANIFEST, PARTS, SETTINGS, Part, fits, is_passing, place_of
from pianistid_core.backups.manifest import Contents, Entry
from pianistid_core.backups.rest import at_rest
from pianistid_core.backups.store import copy_database
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import ArchiveError, DataRootError, PianistIDError, RunError
from pianistid_core.mlflow_store import local_store
from pianistid_core.names import twin_of
from pianistid_core.run_config import config_of
from pianistid_core.runs import CONFIG_FILE, METRICS_FILE, Run, find_runs
from pianistid_core.strict_json import parse_json
from pianistid_core.trash import TRASH, discarded

OnProgress = Callable[[int, int], None]

MOST_FILES = 400_000
_PIECE = 1 << 20
_STORED = frozenset({".pth", ".png", ".mid", ".midi", ".db", ".gz"})
_GROWS = frozenset({".jsonl", ".txt"})
_MARGIN = 64 << 20
_LOOK_AGAIN = 20


@dataclass
class Packed:
    """What is in the backup that was made; `left_out` names files and runs that cannot be in one, with the reason.

    `twins` are names of which some systems take two for the same: it comes back whole only where this one does.
    """

    path: Path
    contents: Contents
    bytes: int
    left_out: tuple[str, ...] = ()
    twins: tuple[str, ...] = ()


def write_backup(
    root: DataRoot,
    target: Path,
    *,
    runs: Sequence[Run] | None = None,
    parts: Collection[Part] = PARTS,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> Packed:
    """Packs a data root, or with `runs` these and what of `parts` belongs to them: "data" are then their splits' clips.

    The file is readable by its owner alone, since settings may hold a password; it is whole or not there. A run that
    trains is taken at its last checkpoint, as interrupted. What waits in the queue is packed as runs that do not wait;
    accounts, caches and the queue itself are not in it. `on_progress` hears bytes done and in all.

    Raises
    ------
    DataRootError
        When there is nothing to pack, `target` is taken or cannot be written, or there is not enough room for it.
    RunError
        When a run goes away while it is packed.
    ArchiveError
        When the root holds more files than a backup can, or its MLflow store cannot be read.
    """
    _check_target(target, overwrite)
    _sweep(target)
    packing = _Packing(root, set(parts), on_progress)
    packing.plan(runs)
    _check_room(target, packing.total)
    try:
        with replacing(target) as file:
            if os.name == "posix":
                os.fchmod(file.fileno(), 0o600)
            packing.write(file)
    except OSError as error:
        raise DataRootError(
            f"the backup {target} cannot be written: {error.strerror or error}; free space, or name another folder"
        ) from error
    twins = tuple(_twins(entry.name for entry in packing.entries))
    return Packed(target, packing.contents, target.stat().st_size, tuple(packing.left_out), twins)


@dataclass
class _Packing:
    """A backup on its way: first what will be in it, then the writing."""

    root: DataRoot
    parts: set[Part]
    on_progress: OnProgress | None
    total: int = 0
    done: int = 0
    left_out: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    contents: Contents = field(default_factory=Contents)
    _runs: list[Run] = field(default_factory=list)
    _live: list[str] = field(default_factory=list)
    _splits: list[str] = field(default_factory=list)
    _files: list[tuple[str, Path]] = field(default_factory=list)

    def plan(self, runs: Sequence[Run] | None) -> None:
        """Looks at what there is."""
        self._runs = [run for run in self._found(runs) if self._may(f"checkpoints/{run.id}/{CONFIG_FILE}")]
        if "data" in self.parts:
            self._splits = self.root.split_names() if runs is None else self._splits_of(self._runs)
            self._files += _data(self.root) if runs is None else _data_of(self.root, self._splits)
        if runs is None:
            self._files += [*self._settings(), *self._trash(), *self._artifacts()]
        else:
            self.parts &= {"runs", "data"}
        self._files = [(name, path) for name, path in self._files if self._may(name)]
        database = self._database()
        sizes = [_size(path) for _, path in self._files] + [
            _size(path) for run in self._runs for path in _walk(run.path)
        ]
        self.total = sum(sizes) + (_size(database) if database else 0)
        if not sizes and database is None:
            raise DataRootError(f"there is nothing in {self.root.path} to back up; name another data root")
        if len(sizes) > MOST_FILES:
            raise ArchiveError(
                f"there are {len(sizes):,} files to pack, more than the {MOST_FILES:,} of one backup; "
                "make several, of some runs each"
            )

    def write(self, file: BinaryIO) -> None:
        """Writes the archive; its list of files is the last in it."""
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            for name, path in self._files:
                self._add(archive, name, path, grows=name.startswith("audit/"))
            for run in self._runs:
                self._add_run(archive, run)
            self._add_database(archive)
            self.contents = Contents(
                version=manifest.program_version(),
                made=time.time(),
                runs=tuple(run.id for run in self._runs),
                live=tuple(self._live),
                splits=tuple(self._splits),
                artifacts=local_store(self.root.checkpoints_dir.parent).artifacts,
                entries=tuple(self.entries),
            )
            with archive.open(_info(MANIFEST, time.time(), 0), "w", force_zip64=True) as member:
                for line in manifest.written(self.contents):
                    member.write(line)

    # --- what there is ---

    def _found(self, runs: Sequence[Run] | None) -> Sequence[Run]:
        if "runs" not in self.parts:
            return []
        return find_runs(self.root.checkpoints_dir) if runs is None else runs

    def _may(self, name: str) -> bool:
        try:
            place_of(name)
        except ArchiveError as error:
            if fits(name) or not any(part.startswith(".") for part in name.split("/")):
                self.left_out.append(str(error))
            return False
        return True

    def _splits_of(self, runs: Sequence[Run]) -> list[str]:
        names = set()
        for run in runs:
            try:
                names.add(config_of(run).data_split_dir)
            except PianistIDError as error:
                self.left_out.append(f"the split of run {run.id}: {error}")
        return [name for name in self.root.split_names() if name in names]

    def _settings(self) -> Iterator[tuple[str, Path]]:
        if "settings" not in self.parts:
            return
        folder = self.root.checkpoints_dir.parent
        yield from ((name, folder / name) for name in SETTINGS if (folder / name).is_file())
        for name, there in (("audit", folder / "audit"), ("drafts", self.root.drafts_dir)):
            yield from ((f"{name}/{path.name}", path) for path in _walk(there) if path.parent == there)

    def _trash(self) -> Iterator[tuple[str, Path]]:
        if "trash" in self.parts:
            for one in discarded(self.root.checkpoints_dir):
                folder = self.root.checkpoints_dir / TRASH / one.id
                for path in _walk(folder):
                    within = path.relative_to(folder).as_posix()
                    if not is_passing(within.removeprefix("run/")):
                        yield f"trash/{one.id}/{within}", path

    def _artifacts(self) -> Iterator[tuple[str, Path]]:
        if self._database() is not None:
            folder = self.root.checkpoints_dir.parent / "mlflow" / "artifacts"
            yield from ((f"mlflow/artifacts/{path.relative_to(folder).as_posix()}", path) for path in _walk(folder))

    def _database(self) -> Path | None:
        database = local_store(self.root.checkpoints_dir.parent).database
        return database if "mlflow" in self.parts and database.is_file() else None

    # --- into the archive ---

    def _add_run(self, archive: zipfile.ZipFile, run: Run) -> None:
        """Packs a run: its checkpoints first, and what it says of itself as it will be true elsewhere."""
        was = run.state()
        live = was.is_due()
        self._add_checkpoints(archive, run)
        rest = [path for path in _walk(run.path) if path.suffix != ".pth" or path.parent != run.path]
        metrics_first = sorted(rest, key=lambda path: (path.name != METRICS_FILE, path))
        for path in metrics_first:
            within = path.relative_to(run.path).as_posix()
            name = f"checkpoints/{run.id}/{within}"
            if is_passing(within) or within == "state.json" or (live and within == "exit.json") or not self._may(name):
                continue
            self._add(archive, name, path, grows=live)
        self._add_state(archive, run)
        if live:
            self._live.append(run.id)
        if not run.path.is_dir():
            raise RunError(f"run {run.id} went away while it was packed, so there is no backup; try again")

    def _add_checkpoints(self, archive: zipfile.ZipFile, run: Run) -> None:
        """Packs the checkpoints that are there; one that makes way for its successor meanwhile is followed by that."""
        packed: set[Path] = set()
        for _ in range(_LOOK_AGAIN):
            gone = False
            for path in sorted(run.path.glob("*.pth")):
                name = f"checkpoints/{run.id}/{path.name}"
                if path not in packed and not is_passing(path.name) and self._may(name):
                    found = self._add(archive, name, path)
                    packed |= {path} if found else set()
                    gone = gone or not found
            if not gone:
                return
        raise RunError(f"run {run.id} saves faster than it can be packed; stop it, then try again")

    def _add_state(self, archive: zipfile.ZipFile, run: Run) -> None:
        path = run.path / "state.json"
        try:
            data = path.read_bytes()
            said = parse_json(data)
        except FileNotFoundError:
            return
        except ValueError:
            said = None
        rewritten = at_rest(said, run.state()) if isinstance(said, dict) else None
        if rewritten is not None:
            data = json.dumps(rewritten, indent=1).encode()
        self._put(archive, f"checkpoints/{run.id}/state.json", data)

    def _add_database(self, archive: zipfile.ZipFile) -> None:
        database = self._database()
        if database is None:
            return
        with tempfile.TemporaryDirectory(prefix="pianistid-") as folder:
            copy = Path(folder) / database.name
            copy_database(database, copy)
            self._add(archive, DATABASE, copy)

    def _put(self, archive: zipfile.ZipFile, name: str, data: bytes) -> None:
        self._stream(archive, _info(name, time.time(), len(data)), io.BytesIO(data), len(data))

    def _add(self, archive: zipfile.ZipFile, name: str, path: Path, *, grows: bool = False) -> bool:
        """Packs a file as it is when it is opened, up to its last whole line if it grows; False when it was gone."""
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return False
        with file:
            status = os.fstat(file.fileno())
            size = _whole_lines(file, status.st_size) if grows and path.suffix in _GROWS else status.st_size
            self._stream(archive, _info(name, status.st_mtime, size), file, size)
        return True

    def _stream(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: BinaryIO, size: int) -> None:
        digest, left = hashlib.sha256(), size
        with archive.open(info, "w", force_zip64=size > 1 << 30) as member:
            while left and (piece := file.read(min(left, _PIECE))):
                member.write(piece)
                digest.update(piece)
                left -= len(piece)
                self.done += len(piece)
                if self.on_progress is not None:
                    self.on_progress(min(self.done, self.total), self.total)
        self.entries.append(Entry(info.filename, size - left, digest.hexdigest()))


def _data(root: DataRoot) -> list[tuple[str, Path]]:
    folders = (root.path / "data", root.path / "references")
    return [(path.relative_to(root.path).as_posix(), path) for folder in folders for path in _walk(folder)]


def _data_of(root: DataRoot, splits: Sequence[str]) -> list[tuple[str, Path]]:
    """The splits of some names, the clips of their recordings, and what is known of recordings."""
    folders = [root.splits_dir / name for name in splits]
    tracks = {entry.track for name in splits for part in root.split(name).parts.values() for entry in part}
    folders += [root.clips_dir / track for track in sorted(tracks)]
    paths = [path for folder in folders for path in _walk(folder)]
    paths += [root.recordings_file] if root.recordings_file.is_file() else []
    return [(path.relative_to(root.path).as_posix(), path) for path in paths]


def _walk(folder: Path) -> list[Path]:
    """The regular files under a folder, sorted; folders that are links are followed, each folder once."""
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    for at, subfolders, files in os.walk(folder, followlinks=True):
        try:
            status = os.stat(at)
        except OSError:  # it went away, or may not be looked into
            subfolders.clear()
            continue
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        paths = (Path(at, name) for name in sorted(files) if not name.startswith("."))
        found += [path for path in paths if path.is_file()]
    return found


def _twins(names: Iterable[str]) -> Iterator[str]:
    known: dict[str, str] = {}
    for name in names:
        parts = name.split("/")
        for n in range(1, len(parts) + 1):
            path = "/".join(parts[:n])
            if known.setdefault(twin_of(path), path) != path:
                yield path
                break


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _whole_lines(file: BinaryIO, size: int) -> int:
    """How many of the first `size` bytes of a file end in a whole line; all of them when it has no lines at all."""
    end = size
    while end > 0:
        start = max(0, end - _PIECE)
        file.seek(start)
        at = file.read(end - start).rfind(b"\n")
        if at >= 0:
            file.seek(0)
            return start + at + 1
        end = start
    file.seek(0)
    return size


def _info(name: str, when: float, size: int) -> zipfile.ZipInfo:
    moment = time.localtime(min(max(when, 315532800.0), 4e9))[:6]  # a zip knows the years 1980 to 2107
    info = zipfile.ZipInfo(name, (max(1980, moment[0]), *moment[1:]))
    info.compress_type = zipfile.ZIP_STORED if Path(name).suffix.lower() in _STORED else zipfile.ZIP_DEFLATED
    info.external_attr = 0o100600 << 16
    info.file_size = size
    return info


def _check_target(target: Path, overwrite: bool) -> None:
    if target.is_dir():
        raise DataRootError(f"{str(target)!r} is a folder; name the file to write, such as {target.name}/lab.zip")
    if target.exists() and not overwrite:
        raise DataRootError(f"{target} exists already; choose another name, or give --overwrite")
    if not target.absolute().parent.is_dir():
        raise DataRootError(f"{target.absolute().parent} is not a folder; make it first, or choose another")


def _check_room(target: Path, needed: int) -> None:
    folder = target.absolute().parent
    free = shutil.disk_usage(folder).free
    if needed + _MARGIN > free:
        raise DataRootError(
            f"a backup of {needed / 1e9:,.1f} GB may not fit: {folder} has {free / 1e9:,.1f} GB free; "
            "free space, name another folder, or leave parts out with --without"
        )


def _sweep(target: Path) -> None:
    """Removes what killed backups of this name left beside it."""
    for stale in target.absolute().parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        pid = stale.name.split(".")[-3]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            stale.unlink(missing_ok=True)
