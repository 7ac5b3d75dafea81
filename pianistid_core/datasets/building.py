"""Building a note cache: which clips there are, what they hold, and the files that are made of it.

Clips are gone through one after the other and never held together, so memory does not grow with their number.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pianistid_core.bulk_midi import read_many
from pianistid_core.datasets.packing import ArrayFile, TextsFile, checksum, write_sealed
from pianistid_core.datasets.root import DataRoot, SplitEntry
from pianistid_core.datasets.workers import shared_out
from pianistid_core.midi import file_bytes
from pianistid_core.packed_notes import PackedNotes

__all__ = [
    "CLIP_ARRAYS",
    "INDEX",
    "NOTE_ARRAYS",
    "TEXTS",
    "Clip",
    "FileState",
    "Listing",
    "UnreadableClip",
    "Writer",
    "read_all",
]

NOTE_ARRAYS = {"onsets_s": "f8", "offsets_s": "f8", "pitches": "u1", "velocities": "u1"}
CLIP_ARRAYS = {"starts": "i8", "labels": "i8", "sources": "i8", "recording_ids": "i8"}
TEXTS = ("recordings", "file_names")
INDEX = "index.json"

# Clocks of file systems tick as slowly as every 2 s: a file that young may change again without a new time.
_SETTLED_NS = 2_000_000_000
_CLIPS_PER_TASK = 512
# Fewer clips than this are read by one process before another has started.
_CLIPS_PER_WORKER = 10_000


@dataclass(frozen=True)
class UnreadableClip:
    """A clip that is not in the cache, and why."""

    name: str
    reason: str


class Clip(NamedTuple):
    """A clip that is to be read; its name is "source/recording/clip_000.mid"."""

    track: str
    file_name: str
    path: str
    label: int
    source: int
    recording_id: int

    @property
    def name(self) -> str:
        """The track and the file's name."""
        return f"{self.track}/{self.file_name}"


class FileState(NamedTuple):
    """All clips' names, sizes and times in one hash; `settled` says whether all are old enough to be trusted."""

    digest: str
    settled: bool
    n_clips: int


@dataclass(frozen=True)
class Listing:
    """The clips of some recordings of a split; listed anew each time they are gone through."""

    root: DataRoot
    entries: Sequence[SplitEntry]
    source_names: Sequence[str]

    def __iter__(self) -> Iterator[Clip]:
        numbers = {name: number for number, name in enumerate(self.source_names)}
        recording_id = 0
        for entry in self.entries:
            folder, names = self.root.clip_names(entry.track)
            source = numbers[entry.track.partition("/")[0]]
            for name in names:
                yield Clip(entry.track, name, f"{folder}{os.sep}{name}", entry.pianist, source, recording_id)
            recording_id += bool(names)

    def state(self) -> FileState:
        """What the files' names, sizes and times are now."""
        hasher = hashlib.sha256()
        newest = n_clips = 0
        for clip in self:
            n_clips += 1
            try:
                status = os.stat(clip.path)
            except OSError:
                seen: tuple[int, ...] = ()
            else:
                newest = max(newest, status.st_mtime_ns, status.st_ctime_ns)
                seen = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
            hasher.update(repr((clip.track, clip.file_name, clip.label, clip.source, seen)).encode("utf-8", "replace"))
        return FileState(hasher.hexdigest(), newest + _SETTLED_NS < time.time_ns(), n_clips)

    def fingerprint(self) -> str:
        """The SHA-256 of all clips' names, contents, labels and sources; reads every file."""
        fingerprint = _Fingerprint()
        for clip in self:
            fingerprint.add(clip, content_of(clip))
        return fingerprint.hexdigest()


class _Fingerprint:
    """The SHA-256 of the JSON list of [name, label, source, content] of all clips, made clip by clip."""

    def __init__(self) -> None:
        self._hasher = hashlib.sha256(b"[")
        self._between = b""

    def add(self, clip: Clip, content: str) -> None:
        self._hasher.update(self._between + json.dumps([clip.name, clip.label, clip.source, content]).encode())
        self._between = b", "

    def hexdigest(self) -> str:
        hasher = self._hasher.copy()
        hasher.update(b"]")
        return hasher.hexdigest()


def content_of(clip: Clip) -> str:
    """The hash of a clip's bytes; empty when it cannot be read."""
    try:
        return hashlib.sha256(file_bytes(clip.path)).hexdigest()
    except OSError:
        return ""


# --- reading ---------------------------------------------------------------------------------------------------------


class Read(NamedTuple):
    """What some clips gave: the hashes of the very bytes that were parsed, the notes, and why some have none."""

    contents: list[str]
    packed: PackedNotes
    reasons: dict[int, str]


def read_all(
    clips: Iterable[Clip], n_clips: int, progress: Callable[[int, int], None], workers: int
) -> Iterator[tuple[list[Clip], Read]]:
    """Reads clips, some hundred at a time, in as many of `workers` processes as are worth it."""
    workers = min(workers, 1 + n_clips // _CLIPS_PER_WORKER)
    done = 0
    for some, read in shared_out(_read_some, _tasks(clips), workers):
        done += len(some)
        progress(done, max(n_clips, done))
        yield some, read


def _tasks(clips: Iterable[Clip]) -> Iterator[list[Clip]]:
    some: list[Clip] = []
    for clip in clips:
        some.append(clip)
        if len(some) == _CLIPS_PER_TASK:
            yield some
            some = []
    if some:
        yield some


def _read_some(clips: Sequence[Clip]) -> Read:
    contents: list[str] = []
    unopened: dict[int, str] = {}
    reading = read_many(_bytes_of(clips, contents, unopened))
    reasons = {i: unopened.get(i, str(error)) for i, error in reading.errors.items()}
    return Read(contents, reading.packed, reasons)


def _bytes_of(clips: Iterable[Clip], contents: list[str], unopened: dict[int, str]) -> Iterator[bytes]:
    for i, clip in enumerate(clips):
        try:
            data = file_bytes(clip.path)
        except OSError as error:
            unopened[i] = f"cannot be opened: {error.strerror}"
            contents.append("")
            yield b""
        else:
            contents.append(hashlib.sha256(data).hexdigest())
            yield data


# --- writing ---------------------------------------------------------------------------------------------------------


class Writer:
    """The files of a note cache while they grow in a folder; they are closed at the end of its `with`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._arrays = {
            name: ArrayFile(folder / f"{name}.npy", kind) for name, kind in {**NOTE_ARRAYS, **CLIP_ARRAYS}.items()
        }
        self._texts = {name: TextsFile(folder, name) for name in TEXTS}
        self._fingerprint = _Fingerprint()
        self._n_notes = self._n_recordings = 0
        self.n_readable = 0
        self.unreadable: list[UnreadableClip] = []
        self._arrays["starts"].append([0])

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *failure: object) -> None:
        for file in self._files():
            file.abandon()

    def _files(self) -> list[ArrayFile | TextsFile]:
        return [*self._arrays.values(), *self._texts.values()]

    def add(self, clips: Sequence[Clip], read: Read) -> None:
        """Adds what some clips gave. Raises: OSError."""
        readable: list[Clip] = []
        for i, (clip, content) in enumerate(zip(clips, read.contents, strict=True)):
            self._fingerprint.add(clip, content)
            if clip.recording_id == self._n_recordings:
                self._texts["recordings"].append([clip.track])
                self._n_recordings += 1
            if i in read.reasons:
                self.unreadable.append(UnreadableClip(clip.name, read.reasons[i]))
            else:
                readable.append(clip)
        self.n_readable += len(readable)
        # A clip that cannot be read has no notes, so the others' notes lie side by side as they are.
        for name in NOTE_ARRAYS:
            self._arrays[name].append(getattr(read.packed, name))
        ends = np.delete(read.packed.starts[1:], list(read.reasons))
        self._arrays["starts"].append(self._n_notes + ends)
        self._n_notes += int(read.packed.starts[-1])
        self._arrays["labels"].append([clip.label for clip in readable])
        self._arrays["sources"].append([clip.source for clip in readable])
        self._arrays["recording_ids"].append([clip.recording_id for clip in readable])
        self._texts["file_names"].append([clip.file_name for clip in readable])

    def close(self) -> str:
        """Makes the files whole and returns the fingerprint of all clips. Raises: OSError."""
        for file in self._files():
            file.close()
        fingerprint = self._fingerprint.hexdigest()
        index = {
            "fingerprint": fingerprint,
            "unreadable": [(clip.name, clip.reason) for clip in self.unreadable],
            "checksums": {path.name: checksum(path) for path in sorted(self._folder.glob("*.npy"))},
        }
        write_sealed(self._folder / INDEX, index)
        return fingerprint
