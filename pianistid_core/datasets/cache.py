"""The packed note cache: every clip of one part of a split, parsed once, then memory-mapped.

A cache is a folder under `root.cache_dir`/notes named by what is in it: the clips' names, contents, labels and sources,
and the parser. A small pointer for each root, split and part says which folder was current for which file sizes and
times; where these no longer fit, the clips' contents decide, so a touched file costs a hash and a changed one a
rebuild.
Folders and pointers appear by renaming, so that builders can race and a killed one leaves nothing half-written.

Times are float64 seconds, exactly as `read_midi` gives them: 18 bytes a note. Everything is mapped and nothing held, so
an open cache takes as much memory for a million clips as for a thousand.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache as memoised
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pianistid_core import midi
from pianistid_core.atomic import write_atomically
from pianistid_core.datasets import building, packing
from pianistid_core.datasets.building import (
    CLIP_ARRAYS,
    INDEX,
    NOTE_ARRAYS,
    TEXTS,
    Clip,
    Listing,
    Read,
    UnreadableClip,
    Writer,
    read_all,
)
from pianistid_core.datasets.packing import Strings, Texts, checksum, mapped, read_sealed
from pianistid_core.datasets.root import DataRoot, Split, require_clips
from pianistid_core.errors import DataRootError, InvalidNotesError, SplitError
from pianistid_core.midi import Notes
from pianistid_core.packed_notes import PackedNotes
from pianistid_core.strict_json import parse_json

__all__ = ["NoteCache", "UnreadableClip", "open_note_cache"]

IntArray = npt.NDArray[np.int64]

_log = logging.getLogger(__name__)

_KEEP_UNUSED_S = 30 * 24 * 3600.0
_ATTEMPTS = 3


class NoteCache:
    """The clips of one part of a split; `notes(i)` takes microseconds.

    For n clips: `packed` holds all notes; `labels`, `sources`, `recording_ids` int64 (n,), of which the last two index
    `source_names` and `recordings` (track names); `clip_names` n times "source/recording/clip_000.mid". `unreadable`
    clips are not among the n. `source_names` are those of all parts of the split, so that a source has the same number
    in each. `fingerprint` is the SHA-256 of all clips' names, contents, labels and sources.
    """

    def __init__(self, folder: Path, class_names: tuple[str, ...], source_names: tuple[str, ...]) -> None:
        index = read_sealed(folder / INDEX)
        self.folder = folder
        self.class_names = class_names
        self.source_names = source_names
        self.fingerprint: str = index["fingerprint"]
        self.unreadable = tuple(UnreadableClip(name, reason) for name, reason in index["unreadable"])
        arrays = {name: mapped(folder / f"{name}.npy", kind) for name, kind in {**NOTE_ARRAYS, **CLIP_ARRAYS}.items()}
        self.labels: IntArray = arrays["labels"]
        self.sources: IntArray = arrays["sources"]
        self.recording_ids: IntArray = arrays["recording_ids"]
        self.packed = PackedNotes(*(arrays[name] for name in (*NOTE_ARRAYS, "starts")))
        self.recordings: Sequence[str] = Texts(folder, "recordings")
        file_names = Texts(folder, "file_names")
        self.clip_names: Sequence[str] = _ClipNames(self.recordings, self.recording_ids, file_names)
        if {len(array) for array in (self.labels, self.sources, self.recording_ids, file_names)} != {len(self.packed)}:
            raise ValueError("arrays of clips differ in length")

    def __len__(self) -> int:
        return len(self.packed)

    def __repr__(self) -> str:
        return f"NoteCache({len(self)} clips, {len(self.packed.onsets_s)} notes, {self.fingerprint[:12]})"

    def __reduce__(self) -> tuple[Callable[..., "NoteCache"], tuple[Path, tuple[str, ...], tuple[str, ...]]]:
        # A worker process maps the files itself; sending their contents would undo what the map is for.
        return NoteCache, (self.folder, self.class_names, self.source_names)

    def notes(self, i: int) -> Notes:
        """The notes of clip `i`, read-only views of the map. Raises: IndexError."""
        return self.packed.notes(i)


class _ClipNames(Strings):
    """The names of clips, put together of recording and file."""

    def __init__(self, recordings: Sequence[str], recording_ids: IntArray, file_names: Texts) -> None:
        self._recordings, self._recording_ids, self._file_names = recordings, recording_ids, file_names

    def __len__(self) -> int:
        return len(self._file_names)

    def _at(self, i: int) -> str:
        return f"{self._recordings[int(self._recording_ids[i])]}/{self._file_names[i]}"


def open_note_cache(
    root: DataRoot,
    split_name: str,
    part: str,
    *,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 1,
) -> NoteCache:
    """The cache of one part of a split: reused while the clips' contents are the same, else built.

    `progress(done, total)` counts clips while building. With more than one of `workers`, many clips are parsed in as
    many processes (a script that asks for them needs the usual `if __name__ == "__main__"`).

    Raises: SplitError when the split cannot be read, names recordings without clips, or has no readable clip;
    DataRootError when the cache cannot be written, or the clips change all the while they are read.
    """
    split = root.split(split_name)
    require_clips(root, split, part)
    names = split.class_names, _source_names(split)
    clips = Listing(root, split.part(part), names[1])
    store = root.cache_dir / "notes"
    pointer = store / "pointers" / f"{_digest([root.identity, split_name, part])[:32]}.json"
    for _ in range(_ATTEMPTS):
        state = clips.state()
        fingerprint = _remembered(pointer, state.digest)
        if fingerprint and (cache := _load(store, fingerprint, *names)):
            _touch(cache)
            return cache
        cache = _found(store, clips, *names)
        if cache is None:
            parsed = read_all(clips, state.n_clips, progress or _no_progress, workers)
            cache = _built(store, parsed, f"split {split_name!r} has no readable {part} clips", *names)
        if clips.state().digest == state.digest:
            _touch(cache)
            if state.settled:
                _remember(pointer, state.digest, cache.fingerprint)
            return cache
        _log.warning("clips of split %s, %s, changed while they were read; they are read again", split_name, part)
    raise DataRootError(
        f"the {part} clips of split {split_name!r} changed {_ATTEMPTS} times while they were read: wait until what "
        f"writes to {root.clips_dir} has ended, then try again"
    )


def _source_names(split: Split) -> tuple[str, ...]:
    """The sources of all parts: numbered in each part alone, one number would mean other sources in train and test."""
    return tuple(sorted({entry.track.partition("/")[0] for entries in split.parts.values() for entry in entries}))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


# --- what is there already -------------------------------------------------------------------------------------------


@memoised
def _maker() -> str:
    """Names the code that makes a cache of bytes, so that a cache does not outlive a change of it."""
    core = Path(midi.__file__).parent
    sources = [core / f"{name}.py" for name in ("midi", "bulk_midi", "compiled_midi")]
    sources += [Path(building.__file__), Path(packing.__file__)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:8]


def _folder(store: Path, fingerprint: str) -> Path:
    return store / f"{fingerprint[:32]}-{_maker()}"


def _found(
    store: Path, clips: Listing, class_names: tuple[str, ...], source_names: tuple[str, ...]
) -> NoteCache | None:
    """The cache that has the clips' contents; where there is none of any contents, they are not looked into."""
    if not any(store.glob(f"*-{_maker()}")):
        return None
    return _load(store, clips.fingerprint(), class_names, source_names)


def _remembered(pointer: Path, state: str) -> str | None:
    """The fingerprint that was current for this state of the files, if there is one."""
    try:
        saved = parse_json(pointer.read_bytes())
        return str(saved["fingerprint"]) if saved["state"] == state else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(pointer: Path, state: str, fingerprint: str) -> None:
    try:
        pointer.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(pointer, json.dumps({"state": state, "fingerprint": fingerprint}).encode())
    except OSError as error:
        # A cache that can be read but not written still saves the parsing.
        _log.debug("the note cache's pointer was not written: %s", error)


def _touch(cache: NoteCache) -> None:
    """Says that the cache is in use."""
    try:
        os.utime(cache.folder)
    except OSError as error:
        _log.debug("the note cache's time was not set: %s", error)


def _load(
    store: Path, fingerprint: str, class_names: tuple[str, ...], source_names: tuple[str, ...]
) -> NoteCache | None:
    """Opens a cache folder; None when it is absent or damaged."""
    folder = _folder(store, fingerprint)
    if not folder.is_dir():
        return None
    try:
        index = read_sealed(folder / INDEX)
        if index["fingerprint"] != fingerprint:
            raise ValueError("it holds other clips")
        wanted = {f"{name}.npy" for name in (*NOTE_ARRAYS, *CLIP_ARRAYS)}
        wanted |= {f"{name}{of}.npy" for name in TEXTS for of in ("", "_starts")}
        if set(index["checksums"]) != wanted:
            raise ValueError("files are missing")
        if any(checksum(folder / name) != total for name, total in index["checksums"].items()):
            raise ValueError("a checksum differs")
        return NoteCache(folder, class_names, source_names)
    except (OSError, ValueError, KeyError, TypeError, IndexError, InvalidNotesError) as error:
        _log.warning("the note cache %s is damaged (%s) and is built again", folder.name, error)
        return None


# --- building --------------------------------------------------------------------------------------------------------


def _built(
    store: Path,
    parsed: Iterator[tuple[list[Clip], Read]],
    nothing: str,
    class_names: tuple[str, ...],
    source_names: tuple[str, ...],
) -> NoteCache:
    """Writes a cache folder aside, renames it into place, and opens it; another builder may do the same meanwhile."""
    with _writing(store):
        store.mkdir(parents=True, exist_ok=True)
        _remove_unused(store)
        aside = Path(tempfile.mkdtemp(prefix=".building-", dir=store))
    try:
        fingerprint = _write(store, aside, parsed, nothing)
        folder = _folder(store, fingerprint)
        for _ in range(_ATTEMPTS):
            looked_at = _identity(folder)
            # What another builder wrote is as good.
            cache = _load(store, fingerprint, class_names, source_names)
            if cache is not None:
                return cache
            # Once it is in place, another builder may hold it for a moment: it is only looked at again.
            if aside.exists():
                with _writing(store):
                    _take_away(folder, looked_at, aside.with_name(f"{aside.name}-damaged"))
                    _put_in_place(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    raise DataRootError(f"the note cache in {folder} cannot be read back: check the disk, then try again")


def _write(store: Path, aside: Path, parsed: Iterator[tuple[list[Clip], Read]], nothing: str) -> str:
    """Writes what is read as it is read, and returns the fingerprint."""
    with _writing(store), Writer(aside) as writer:
        for clips, read in parsed:
            writer.add(clips, read)
        if not writer.n_readable:
            first = writer.unreadable[:1]
            why = f"{first[0].name}: {first[0].reason}" if first else "there are no clips at all"
            raise SplitError(f"{nothing} ({why}); `pianistid data check` lists them")
        return writer.close()


@contextmanager
def _writing(store: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataRootError(
            f"cannot write the note cache in {store} ({error.strerror}); set PIANISTID_CACHE to a folder that can be "
            "written and has room"
        ) from error


def _identity(folder: Path) -> tuple[int, int] | None:
    """Tells a folder from another that has since taken its name; None when there is none."""
    try:
        status = folder.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _take_away(folder: Path, damaged: tuple[int, int] | None, away: Path) -> None:
    """Removes a folder that was found damaged, but not what another builder has put in its place since."""
    if damaged is None or _identity(folder) != damaged:
        return
    with suppress(FileNotFoundError):
        os.rename(folder, away)
    if _identity(away) not in (damaged, None):
        # It came between the look and the rename. When it cannot go back, another that is as good is there.
        with suppress(OSError):
            os.rename(away, folder)
    shutil.rmtree(away, ignore_errors=True)


def _put_in_place(aside: Path, folder: Path) -> None:
    """Renames `aside` to `folder`, unless that is there."""
    try:
        os.rename(aside, folder)
    except OSError:
        if not folder.is_dir():
            raise


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
