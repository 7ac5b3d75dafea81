"""The data root: where clips, whole performances, splits and checkpoints lie, and what their tables say.

The layout is the one that the paper's archive unzips to, so a folder that a researcher already has is used as
it is. Nothing here writes except `write_split`; caches never go inside `data/` or `references/`.

Tracks are named "source/recording". Classes are the row numbers of a split's `pianist_mapping.csv`.
"""

import difflib
import hashlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pianistid_core.atomic import write_atomically
from pianistid_core.datasets.tables import (
    TableError,
    csv_bytes,
    is_track,
    listed,
    rows,
    seconds,
    whole_number,
)
from pianistid_core.errors import DataRootError, SplitError
from pianistid_core.midi import CLIP_LENGTH_S
from pianistid_core.names import folder_name_problem, is_plain_name
from pianistid_core.strict_json import parse_json

__all__ = [
    "PARTS",
    "RECORDING_COLUMNS",
    "DataRoot",
    "RecordingInfo",
    "Split",
    "SplitEntry",
    "missing_clips",
    "read_recordings_file",
    "require_clips",
    "write_split",
]

PARTS = ("train", "test", "validation")
RECORDING_COLUMNS = ("track", "pianist", "album", "composition", "setting", "duration_s")

_CLIP_NAME = re.compile(r"clip_(\d{1,9})\.midi?", re.IGNORECASE)
_MAX_JSON_BYTES = 1 << 20

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecordingInfo:
    """What is known about one recording; only the track and the pianist are always there."""

    track: str
    pianist: str
    album: str | None = None
    composition: str | None = None
    setting: str | None = None
    duration_s: float | None = None


@dataclass(frozen=True)
class SplitEntry:
    """One recording in a split: its track, its class, its length in seconds."""

    track: str
    pianist: int
    duration_s: float


@dataclass(frozen=True)
class Split:
    """Which recordings train, test and validate, and which pianist each class number means."""

    name: str
    class_names: tuple[str, ...]
    parts: Mapping[str, tuple[SplitEntry, ...]] = field(repr=False)

    @property
    def validation_is_test(self) -> bool:
        """Whether there is no validation part, so that asking for it gives the test part."""
        return "validation" not in self.parts

    def part(self, name: str) -> tuple[SplitEntry, ...]:
        """The entries of one part; "validation" falls back to "test" where there is none.

        Raises: SplitError when the part does not exist.
        """
        wanted = "test" if name == "validation" and self.validation_is_test else name
        if wanted not in self.parts:
            raise SplitError(f"split {self.name!r} has no part {name!r}; it has {listed(self.parts)}")
        return self.parts[wanted]


def is_there(path: Path) -> bool:
    """Whether there is something at a path.

    Raises: OSError or ValueError when it cannot be looked at: refused, too long, a zero byte.
    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


class DataRoot:
    """A data root and its cache: paths, splits, recordings and clips; creates nothing by itself."""

    def __init__(self, path: Path, cache_dir: Path | None = None) -> None:
        self.path = Path(path).expanduser().absolute()
        self.cache_dir = Path(cache_dir).expanduser().absolute() if cache_dir else _default_cache_dir()
        self.clips_dir = self.path / "data" / "clips"
        self.raw_dir = self.path / "data" / "raw"
        self.splits_dir = self.path / "references" / "data_splits"
        self.recordings_file = self.path / "references" / "recordings.csv"

    @classmethod
    def open(cls, path: str | Path | None = None) -> "DataRoot":
        """The root at `path`, else at $PIANISTID_HOME, else at ./workspace; it need not exist yet.

        Raises: DataRootError when something that is not a folder is in its place, or it cannot be looked at.
        """
        chosen = Path(path or os.environ.get("PIANISTID_HOME") or "workspace")
        try:
            root = cls(chosen)
            is_other = is_there(root.path) and not root.path.is_dir()
        except (OSError, ValueError, RuntimeError) as error:  # too long, refused, a zero byte; no such user's home
            reason = error.strerror if isinstance(error, OSError) else str(error)
            named = str(chosen)[:200]
            raise DataRootError(f"data root {named!r} cannot be used: {reason}; name another folder") from error
        if is_other:
            raise DataRootError(f"data root {root.path} is a file, not a folder; name a folder with --data-root")
        return root

    def __repr__(self) -> str:
        return f"DataRoot({str(self.path)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DataRoot) and (self.path, self.cache_dir) == (other.path, other.cache_dir)

    def __hash__(self) -> int:
        return hash((self.path, self.cache_dir))

    def exists(self) -> bool:
        """Whether anything of the layout is here."""
        return any(folder.is_dir() for folder in (self.clips_dir, self.raw_dir, self.splits_dir))

    def writable(self) -> bool:
        """Whether files can be made in the root, or the root itself where it is still missing."""
        return _can_write(self.path)

    @property
    def identity(self) -> str:
        """A short name for this root's path, for what is kept about it in the cache."""
        return hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]

    @property
    def checkpoints_dir(self) -> Path:
        """Where runs are written: in the root, or in the cache when the root cannot be written."""
        inside = self.path / "checkpoints"
        return inside if _can_write(inside) else self.cache_dir / "roots" / self.identity / "checkpoints"

    @property
    def drafts_dir(self) -> Path:
        """Where the lab keeps what is typed into Build: in the cache, by the root's path."""
        mark = hashlib.sha256(str(self.path).encode("utf-8", "surrogatepass")).hexdigest()[:12]
        return self.cache_dir / "drafts" / mark

    def split_names(self) -> list[str]:
        """The names of all splits, sorted."""
        return sorted(
            entry.name
            for entry in _folders(self.splits_dir)
            if any(Path(entry.path, f"{part}_split.csv").is_file() for part in PARTS)
        )

    def split(self, name: str) -> Split:
        """Reads one split.

        Raises: SplitError when it is missing, unreadable, or contradicts itself; the message names the line.
        """
        folder = self.splits_dir / name
        if not is_plain_name(name) or not folder.is_dir():
            raise SplitError(_no_such_split(name, self))
        return _read_split(name, folder)

    def recordings(self) -> dict[str, RecordingInfo]:
        """Every recording that is described anywhere, by track.

        For each track the first of these that knows a fact wins: references/recordings.csv, then
        data/raw/<source>/<recording>/metadata.json, then the splits (pianist and length only).

        Raises: DataRootError when recordings.csv cannot be read.
        """
        found: dict[str, RecordingInfo] = {}
        for info in self._described():
            known = found.get(info.track)
            found[info.track] = _completed(known, info) if known else info
        return found

    def tracks(self) -> list[str]:
        """All "source/recording" that have a folder under data/clips, sorted."""
        return sorted(
            f"{source.name}/{recording.name}"
            for source in _folders(self.clips_dir)
            for recording in _folders(Path(source.path))
        )

    def clip_paths(self, track: str) -> list[Path]:
        """The clips of one recording in playing order; empty when there are none.

        Raises: DataRootError when `track` is not "source/recording".
        """
        folder, names = self.clip_names(track)
        return [folder / name for name in names]

    def clip_names(self, track: str) -> tuple[Path, list[str]]:
        """The folder of one recording and, as `clip_paths`, the names of the clips in it."""
        if not is_track(track):
            raise DataRootError(f"track {track!r} is not of the form source/recording")
        folder = self.clips_dir / track
        try:
            names = [name for name in os.listdir(folder) if _CLIP_NAME.fullmatch(name)]
        except (FileNotFoundError, NotADirectoryError):
            return folder, []
        except OSError as error:
            raise DataRootError(f"cannot list {folder}: {error.strerror}") from error
        return folder, sorted(names, key=lambda name: (_clip_number(name), name))

    def _described(self) -> Iterator[RecordingInfo]:
        if self.recordings_file.is_file():
            yield from read_recordings_file(self.recordings_file)
        for source in _folders(self.raw_dir):
            for recording in _folders(Path(source.path)):
                info = _read_metadata(f"{source.name}/{recording.name}", Path(recording.path, "metadata.json"))
                if info is not None:
                    yield info
        for name in self.split_names():
            try:
                split = self.split(name)
            except SplitError as error:
                _log.warning("recordings are listed without a broken split: %s", error)
                continue
            for entries in split.parts.values():
                for entry in entries:
                    yield RecordingInfo(entry.track, split.class_names[entry.pianist], duration_s=entry.duration_s)


def missing_clips(root: DataRoot, entries: Iterable[SplitEntry]) -> list[str]:
    """The tracks that have no clips though they are long enough for one (a clip is 30 s)."""
    long_enough = (entry.track for entry in entries if entry.duration_s >= CLIP_LENGTH_S)
    return [track for track in long_enough if not root.clip_names(track)[1]]


def require_clips(root: DataRoot, split: Split, part: str) -> None:
    """Does nothing when every recording of a part has clips.

    Raises: SplitError that says how many recordings have none, and names the first three.
    """
    entries = split.part(part)
    missing = missing_clips(root, entries)
    if missing:
        more = ", ..." if len(missing) > 3 else ""
        raise SplitError(
            f"split {split.name!r} names {len(missing)} of {len(entries)} {part} recordings that have "
            f"no clips in {root.clips_dir} ({', '.join(missing[:3])}{more}): import them, or use another"
        )


def write_split(
    root: DataRoot, split: Split, *, overwrite: bool = False, beside: Mapping[str, bytes] | None = None
) -> Path:
    """Writes a split in the paper's CSV format and returns its folder, which is whole or, at a failure, as before.

    `beside` are further files for the folder; those that a split to be overwritten has are kept.

    Raises: SplitError when it exists and `overwrite` is false or its name cannot be a folder;
    DataRootError when the root cannot be written.
    """
    if problem := folder_name_problem(split.name):
        raise SplitError(f"a split cannot be called {split.name!r}: {problem}")
    folder = root.splits_dir / split.name
    if folder.exists() and not overwrite:
        raise SplitError(
            f"split {split.name!r} exists already in {root.splits_dir}; choose another name or overwrite it"
        )
    try:
        root.splits_dir.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".split-", dir=root.splits_dir))
        try:
            if folder.exists():
                shutil.copytree(folder, aside / "new")
                for part in PARTS:
                    (aside / "new" / f"{part}_split.csv").unlink(missing_ok=True)
            else:
                (aside / "new").mkdir()
            for name, data in {**_split_files(split), **(beside or {})}.items():
                write_atomically(aside / "new" / name, data)
            _put_in_place(aside / "new", folder, aside / "old")
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise DataRootError(f"cannot write split {split.name!r} to {folder}: {error.strerror or error}") from error
    return folder


def _split_files(split: Split) -> dict[str, bytes]:
    mapping = [(name, number) for number, name in enumerate(split.class_names)]
    files = {"pianist_mapping.csv": csv_bytes(("", "idx"), mapping)}
    for part, entries in split.parts.items():
        table = [(number, entry.track, entry.pianist, entry.duration_s) for number, entry in enumerate(entries)]
        files[f"{part}_split.csv"] = csv_bytes(("", "track", "pianist", "duration"), table)
    return files


def _put_in_place(new: Path, folder: Path, old: Path) -> None:
    """Renames `new` to `folder`, and what was there to `old`: a full folder cannot be renamed over."""
    try:
        if folder.exists():
            os.rename(folder, old)
        os.rename(new, folder)
    finally:
        if old.exists() and not folder.exists():
            os.rename(old, folder)


def read_recordings_file(path: Path) -> list[RecordingInfo]:
    """Reads a table of recordings (columns as in RECORDING_COLUMNS; all but `track` may be missing).

    Raises: DataRootError that names the line.
    """
    infos: dict[str, RecordingInfo] = {}
    try:
        for line, row in rows(path, required=("track",)):
            if not is_track(row["track"]):
                raise TableError(f"line {line}: track {row['track']!r} is not of the form source/recording")
            infos[row["track"]] = _recording(row["track"], row)
    except TableError as error:
        raise DataRootError(f"{path}: {error}") from error
    return list(infos.values())


def _read_split(name: str, folder: Path) -> Split:
    tables = {part: folder / f"{part}_split.csv" for part in PARTS}
    tables = {part: path for part, path in tables.items() if path.is_file()}
    if not tables:
        raise SplitError(f"split {name!r} has no train_split.csv, test_split.csv or validation_split.csv in {folder}")
    path = folder / "pianist_mapping.csv"
    try:
        class_names = _read_mapping(path) if path.is_file() else _names_in_tables(tables)
        parts = {}
        for part, path in tables.items():
            parts[part] = _read_part(path, class_names)
    except TableError as error:
        raise SplitError(f"split {name!r}, {path.name}: {error}") from error
    return Split(name, class_names, parts)


def _read_mapping(path: Path) -> tuple[str, ...]:
    by_index: dict[int, str] = {}
    for line, row in rows(path, required=("idx",)):
        name = row.get("") or row.get("name") or row.get("pianist") or ""
        if not name:
            raise TableError(f"line {line}: no pianist's name in the first column")
        index = whole_number(row["idx"])
        if index is None or index in by_index or name in by_index.values():
            raise TableError(f"line {line}: {name!r}, {row['idx']!r} is not a new pianist with a new whole number")
        by_index[index] = name
    if sorted(by_index) != list(range(len(by_index))) or not by_index:
        raise TableError(f"the column idx must hold 0 to {max(len(by_index) - 1, 0)}, each once")
    return tuple(by_index[index] for index in range(len(by_index)))


def _names_in_tables(tables: Mapping[str, Path]) -> tuple[str, ...]:
    """The paper's album and composition splits have no mapping: there the column holds the names."""
    names = {row["pianist"] for path in tables.values() for _, row in rows(path, required=("track", "pianist"))}
    numbers = [name for name in names if whole_number(name) is not None]
    if numbers:
        raise TableError("missing, so the numbers in the column pianist have no names")
    return tuple(sorted(names - {""}))


def _read_part(path: Path, class_names: tuple[str, ...]) -> tuple[SplitEntry, ...]:
    by_name = {name: index for index, name in enumerate(class_names)}
    entries: dict[str, SplitEntry] = {}
    for line, row in rows(path, required=("track", "pianist", "duration")):
        track, pianist = row["track"], row["pianist"]
        if not is_track(track):
            raise TableError(f"line {line}: track {track!r} is not of the form source/recording")
        if track in entries:
            raise TableError(f"line {line}: track {track!r} is listed twice")
        number = whole_number(pianist)
        # A number first: pianists may be named by numbers too, and the column holds rows of the mapping.
        index = number if number is not None and number < len(class_names) else by_name.get(pianist)
        if index is None:
            raise TableError(
                f"line {line}: pianist {pianist!r} is not in the mapping, which has {len(class_names)} "
                f"pianists, 0 to {len(class_names) - 1}"
            )
        duration_s = seconds(row["duration"])
        if duration_s is None:
            raise TableError(f"line {line}: duration {row['duration']!r} is not a number of seconds")
        entries[track] = SplitEntry(track, index, duration_s)
    return tuple(entries.values())


def _read_metadata(track: str, path: Path) -> RecordingInfo | None:
    """Reads a metadata.json for what it tells; a broken one tells nothing."""
    try:
        if not path.is_file() or path.stat().st_size > _MAX_JSON_BYTES:
            return None
        metadata = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return None
    return _recording(track, metadata) if isinstance(metadata, dict) and is_track(track) else None


def _recording(track: str, facts: Mapping[str, Any]) -> RecordingInfo:
    musicians = facts.get("musicians")
    pianist = _text(facts, "pianist", "performer")
    if pianist is None and isinstance(musicians, Mapping):
        pianist = _text(musicians, "pianist", "piano")
    duration = facts.get("duration_s", facts.get("duration"))
    return RecordingInfo(
        track,
        pianist or _text(facts, "bandleader", "artist") or "",
        album=_text(facts, "album", "album_name"),
        composition=_text(facts, "composition", "composition_canonic", "track_name", "title"),
        setting=_text(facts, "setting"),
        duration_s=seconds(duration) if duration is not None else None,
    )


def _completed(known: RecordingInfo, other: RecordingInfo) -> RecordingInfo:
    """`known`, with what it lacks taken from `other`."""
    lacking = {item.name for item in fields(known) if not getattr(known, item.name) and getattr(other, item.name)}
    return replace(known, **{name: getattr(other, name) for name in lacking}) if lacking else known


def _text(facts: Mapping[str, Any], *keys: str) -> str | None:
    for key in keys:
        value = facts.get(key)
        if isinstance(value, str) and value.strip():
            return value.strip()
    return None


def _clip_number(name: str) -> int:
    match = _CLIP_NAME.fullmatch(name)
    return int(match[1]) if match else -1


def _folders(path: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataRootError(f"cannot list {path}: {error.strerror}") from error
    return sorted(found, key=lambda entry: entry.name)


def _can_write(path: Path) -> bool:
    existing = path
    while not os.path.exists(existing) and existing != existing.parent:
        existing = existing.parent
    return os.path.isdir(existing) and os.access(existing, os.W_OK | os.X_OK)


def _default_cache_dir() -> Path:
    if own := os.environ.get("PIANISTID_CACHE"):
        return Path(own).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache").absolute() / "pianistid"


def _no_such_split(name: str, root: DataRoot) -> str:
    names = root.split_names()
    if not names:
        return f"no split {name!r}: {root.splits_dir} holds none yet; make one with `pianistid data split`"
    close = difflib.get_close_matches(name, names, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"no split {name!r} in {root.splits_dir}{hint}; there is {listed(names)}"
