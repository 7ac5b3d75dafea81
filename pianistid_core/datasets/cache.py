"""The packed note cache: every clip of one part of a split, parsed once, then memory-mapped.

A cache is a folder under `root.cache_dir`/notes named by what is in it: the clips' names, contents, labels and sources,
and the parser. A small pointer for each root, split and part says which folder was current for which file sizes and
times; where these no longer fit, the clips' contents decide, so a touched file costs a hash and a changed one a
rebuild.
Folders and pointers appear by renaming, so that builders can race and a killed one leaves nothing half-written.

Times are float64 seconds, exactly as `read_midi` gives them: 18 bytes a note.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache as memoised
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pianistid_core import midi
from pianistid_core.atomic import write_atomically
from pianistid_core.datasets.root import DataRoot, Split, require_clips
from pianistid_core.datasets.workers import shared_out
from pianistid_core.errors import DataRootError, MidiError, SplitError
from pianistid_core.midi import Notes, read_midi
from pianistid_core.strict_json import parse_json

__all__ = ["NoteCache", "UnreadableClip", "open_note_cache"]

IntArray = npt.NDArray[np.int64]

_log = logging.getLogger(__name__)

_NOTE_ARRAYS: dict[str, str] = {"onsets_s": "f8", "offsets_s": "f8", "pitches": "u1", "velocities": "u1"}
_CLIP_ARRAYS = ("starts", "labels", "sources", "recording_ids")
# Clocks of file systems tick as slowly as every 2 s: a file that young may change again without a new time.
_SETTLED_NS = 2_000_000_000
_KEEP_UNUSED_S = 30 * 24 * 3600.0
_PATHS_PER_TASK = 64


@dataclass(frozen=True)
class UnreadableClip:
    """A clip that is not in the cache, and why."""

    name: str
    reason: str


class NoteCache:
    """The clips of one part of a split; `notes(i)` takes microseconds.

    For n clips: `labels`, `sources`, `recording_ids` int64 (n,), of which the last two index `source_names` and
    `recordings` (track names); `clip_names` n times "source/recording/clip_000.mid". `unreadable` clips are not among
    the n. `source_names` are those of all parts of the split, so that a source has the same number in each.
    `fingerprint` is the SHA-256 of all clips' names, contents, labels and sources.
    """

    def __init__(self, folder: Path, class_names: tuple[str, ...], source_names: tuple[str, ...]) -> None:
        index: dict[str, Any] = parse_json((folder / "index.json").read_bytes())
        self.folder = folder
        self.class_names = class_names
        self.source_names = source_names
        self.fingerprint: str = index["fingerprint"]
        self.clip_names: tuple[str, ...] = tuple(index["clip_names"])
        self.recordings: tuple[str, ...] = tuple(index["recordings"])
        self.unreadable = tuple(UnreadableClip(name, reason) for name, reason in index["unreadable"])
        starts, self.labels, self.sources, self.recording_ids = (_mapped(folder, name, "i8") for name in _CLIP_ARRAYS)
        self._starts: list[int] = starts.tolist()
        self._arrays = tuple(_mapped(folder, name, kind) for name, kind in _NOTE_ARRAYS.items())
        n_clips, n_notes = len(self.clip_names), self._starts[-1]
        if {len(array) for array in (self.labels, self.sources, self.recording_ids)} != {n_clips}:
            raise ValueError("arrays of clips differ in length")
        if len(self._starts) != n_clips + 1 or {len(array) for array in self._arrays} != {n_notes}:
            raise ValueError("arrays of notes differ in length")

    def __len__(self) -> int:
        return len(self.clip_names)

    def __repr__(self) -> str:
        return f"NoteCache({len(self)} clips, {self._starts[-1]} notes, {self.fingerprint[:12]})"

    def __reduce__(self) -> tuple[Callable[..., "NoteCache"], tuple[Path, tuple[str, ...], tuple[str, ...]]]:
        # A worker process maps the files itself; sending their contents would undo what the map is for.
        return NoteCache, (self.folder, self.class_names, self.source_names)

    def notes(self, i: int) -> Notes:
        """The notes of clip `i`, read-only views of the map. Raises: IndexError."""
        if not 0 <= i < len(self.clip_names):
            raise IndexError(f"clip {i} of {len(self)}")
        start, stop = self._starts[i], self._starts[i + 1]
        onsets_s, offsets_s, pitches, velocities = self._arrays
        return Notes(onsets_s[start:stop], offsets_s[start:stop], pitches[start:stop], velocities[start:stop])


def open_note_cache(
    root: DataRoot,
    split_name: str,
    part: str,
    *,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 1,
) -> NoteCache:
    """The cache of one part of a split: reused while the clips' contents are the same, else built.

    `progress(done, total)` counts clips while building. With more than one of `workers`, clips are parsed in as many
    processes (a script that asks for them needs the usual `if __name__ == "__main__"`).

    Raises: SplitError when the split cannot be read, names recordings without clips, or has no readable clip;
    DataRootError when the cache cannot be written.
    """
    split = root.split(split_name)
    require_clips(root, split, part)
    source_names = _source_names(split)
    clips = _list_clips(root, split, part, source_names)
    store = root.cache_dir / "notes"
    pointer = store / "pointers" / f"{_digest([root.identity, split_name, part])[:32]}.json"
    state, settled = _file_state(clips)
    fingerprint = _remembered(pointer, state) or _fingerprint(clips, map(_content, clips))
    cache = _load(_folder(store, fingerprint), split.class_names, source_names)
    if cache is None:
        parsed = list(_parse_all(clips, progress or _no_progress, workers))
        if not any(result.notes for result in parsed):
            why = f"{clips[0].name}: {parsed[0].reason}" if clips else "there are no clips at all"
            raise SplitError(
                f"split {split_name!r} has no readable {part} clips ({why}); `pianistid data check` lists them"
            )
        cache = _stored(store, clips, parsed, split.class_names, source_names)
    _remember(pointer, state if settled else "", cache)
    return cache


@dataclass(frozen=True)
class _Clip:
    name: str
    path: Path
    label: int
    source: int
    recording_id: int
    track: str


@dataclass(frozen=True)
class _Parsed:
    """What one file gave: the hash of its bytes, and its notes or why there are none."""

    content: str
    notes: Notes | None
    reason: str = ""


def _source_of(track: str) -> str:
    return track.partition("/")[0]


def _source_names(split: Split) -> tuple[str, ...]:
    """The sources of all parts: numbered in each part alone, one number would mean other sources in train and test."""
    return tuple(sorted({_source_of(entry.track) for entries in split.parts.values() for entry in entries}))


def _list_clips(root: DataRoot, split: Split, part: str, source_names: tuple[str, ...]) -> list[_Clip]:
    clips: list[_Clip] = []
    recording_id = 0
    for entry in split.part(part):
        paths = root.clip_paths(entry.track)
        source = source_names.index(_source_of(entry.track))
        clips += [
            _Clip(f"{entry.track}/{path.name}", path, entry.pianist, source, recording_id, entry.track)
            for path in paths
        ]
        recording_id += bool(paths)
    return clips


def _file_state(clips: Sequence[_Clip]) -> tuple[str, bool]:
    """A hash of all sizes and times, and whether every file is old enough for them to be trusted."""
    newest = 0
    table: list[tuple[object, ...]] = []
    for clip in clips:
        try:
            status = clip.path.stat()
        except OSError:
            table.append((clip.name, clip.label, clip.source, None))
            continue
        newest = max(newest, status.st_mtime_ns, status.st_ctime_ns)
        seen = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        table.append((clip.name, clip.label, clip.source, *seen))
    return _digest(table), newest + _SETTLED_NS < time.time_ns()


def _fingerprint(clips: Sequence[_Clip], contents: Iterable[str]) -> str:
    return _digest(
        [(clip.name, clip.label, clip.source, content) for clip, content in zip(clips, contents, strict=True)]
    )


def _content(clip: _Clip) -> str:
    try:
        return hashlib.sha256(clip.path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


@memoised
def _parser() -> str:
    """Names the code that makes notes of bytes, so that a cache does not outlive a change of it."""
    return hashlib.sha256(Path(midi.__file__).read_bytes()).hexdigest()[:8]


def _folder(store: Path, fingerprint: str) -> Path:
    return store / f"{fingerprint[:32]}-{_parser()}"


def _remembered(pointer: Path, state: str) -> str | None:
    """The fingerprint that was current for this state of the files, if there is one."""
    try:
        saved = parse_json(pointer.read_bytes())
        return str(saved["fingerprint"]) if saved["state"] == state else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(pointer: Path, state: str, cache: NoteCache) -> None:
    try:
        os.utime(cache.folder)
        if state and _remembered(pointer, state) != cache.fingerprint:
            pointer.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(pointer, json.dumps({"state": state, "fingerprint": cache.fingerprint}).encode())
    except OSError as error:
        # A cache that can be read but not written still saves the parsing.
        _log.debug("the note cache's pointer was not written: %s", error)


def _load(folder: Path, class_names: tuple[str, ...], source_names: tuple[str, ...]) -> NoteCache | None:
    """Opens a cache folder; None when it is absent or damaged."""
    if not folder.is_dir():
        return None
    try:
        sums = parse_json((folder / "index.json").read_bytes())["checksums"]
        if any(_checksum(folder / f"{name}.npy") != sums[name] for name in (*_CLIP_ARRAYS, *_NOTE_ARRAYS)):
            raise ValueError("a checksum differs")
        return NoteCache(folder, class_names, source_names)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        _log.warning("the note cache %s is damaged (%s) and is built again", folder.name, error)
        return None


def _checksum(path: Path) -> int:
    total = 0
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            total = zlib.crc32(piece, total)
    return total


def _mapped(folder: Path, name: str, kind: str) -> npt.NDArray[Any]:
    array = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    if array.dtype != np.dtype(kind) or array.ndim != 1:
        raise ValueError(f"{name} is {array.dtype} {array.shape}")
    # A plain view: slicing a memmap costs four times as much, and gives nothing more.
    view: npt.NDArray[Any] = array.view(np.ndarray)
    return view


def _stored(
    store: Path,
    clips: Sequence[_Clip],
    parsed: Sequence[_Parsed],
    class_names: tuple[str, ...],
    source_names: tuple[str, ...],
) -> NoteCache:
    """Writes a cache folder aside, renames it into place, and opens it."""
    fingerprint = _fingerprint(clips, (result.content for result in parsed))
    folder = _folder(store, fingerprint)
    try:
        store.mkdir(parents=True, exist_ok=True)
        _remove_unused(store)
        aside = Path(tempfile.mkdtemp(prefix=".building-", dir=store))
        try:
            _write(aside, fingerprint, clips, parsed)
            # Another builder may have been here meanwhile: what it wrote is as good.
            if _load(folder, class_names, source_names) is None:
                _put_in_place(aside, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise DataRootError(
            f"cannot write the note cache in {store} ({error.strerror}); set PIANISTID_CACHE to a folder that can be "
            "written and has room"
        ) from error
    cache = _load(folder, class_names, source_names)
    if cache is None:
        raise DataRootError(f"the note cache in {folder} cannot be read back: check the disk, then try again")
    return cache


def _put_in_place(aside: Path, folder: Path) -> None:
    if folder.exists():
        damaged = aside.with_name(f"{aside.name}-damaged")
        os.rename(folder, damaged)
        shutil.rmtree(damaged, ignore_errors=True)
    try:
        os.rename(aside, folder)
    except OSError:
        if not folder.is_dir():
            raise


def _parse_all(clips: Sequence[_Clip], progress: Callable[[int, int], None], workers: int) -> Iterator[_Parsed]:
    paths = [clip.path for clip in clips]
    per_task = _PATHS_PER_TASK if workers > 1 else 1
    tasks = [paths[i : i + per_task] for i in range(0, len(paths), per_task)]
    done = 0
    for _, results in shared_out(_parse_some, tasks, workers):
        done += len(results)
        progress(done, len(paths))
        yield from results


def _parse_some(paths: Sequence[Path]) -> list[_Parsed]:
    return [_parse(path) for path in paths]


def _parse(path: Path) -> _Parsed:
    try:
        data = path.read_bytes()
    except OSError as error:
        return _Parsed("", None, f"cannot be opened: {error.strerror}")
    content = hashlib.sha256(data).hexdigest()
    try:
        return _Parsed(content, read_midi(data))
    except MidiError as error:
        return _Parsed(content, None, str(error))


def _write(folder: Path, fingerprint: str, clips: Sequence[_Clip], parsed: Sequence[_Parsed]) -> None:
    readable = [(clip, result.notes) for clip, result in zip(clips, parsed, strict=True) if result.notes is not None]
    recordings = list(dict.fromkeys(clip.track for clip in clips))
    arrays: dict[str, npt.NDArray[Any]] = {
        name: np.concatenate([np.empty(0, kind), *(getattr(notes, name) for _, notes in readable)]).astype(kind)
        for name, kind in _NOTE_ARRAYS.items()
    }
    arrays["starts"] = np.cumsum([0, *(len(notes) for _, notes in readable)], dtype=np.int64)
    arrays["labels"] = np.array([clip.label for clip, _ in readable], np.int64)
    arrays["sources"] = np.array([clip.source for clip, _ in readable], np.int64)
    arrays["recording_ids"] = np.array([clip.recording_id for clip, _ in readable], np.int64)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    index = {
        "fingerprint": fingerprint,
        "clip_names": [clip.name for clip, _ in readable],
        "recordings": recordings,
        "unreadable": [
            (clip.name, result.reason) for clip, result in zip(clips, parsed, strict=True) if result.notes is None
        ],
        "checksums": {name: _checksum(folder / f"{name}.npy") for name in arrays},
    }
    (folder / "index.json").write_text(json.dumps(index))


def _remove_unused(store: Path) -> None:
    """Removes what nobody has opened for a month, and what killed builders left a day ago."""
    now = time.time()
    for folder in store.iterdir():
        keep_s = 24 * 3600.0 if folder.name.startswith(".") else _KEEP_UNUSED_S
        try:
            if folder.name != "pointers" and now - folder.stat().st_mtime > keep_s:
                shutil.rmtree(folder, ignore_errors=True)
        except FileNotFoundError:
            continue


def _no_progress(done: int, total: int) -> None:
    """Nobody is watching."""
