"""Bulk reading: the bytes of many MIDI files to notes in a few compiled calls, as `read_midi` gives them bit for bit.

The compiled reader covers all that `read_midi` reads. A file that it refuses is read again by `read_midi`, which says
why in its own words; should `read_midi` read it after all, that is counted as a fallback. Without numba, and for few
files while numba is not loaded, which takes a second, `read_midi` reads everything.
"""

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np

from pianistid_core.errors import MidiError
from pianistid_core.midi import DEFAULT_LIMITS, Notes, ReadLimits, cannot_open, file_bytes, read_midi
from pianistid_core.packed_notes import PackedNotes

__all__ = ["BulkReading", "read_many", "read_many_files"]

_log = logging.getLogger(__name__)

_KERNELS = "pianistid_core.compiled_midi"
# One compiled call takes as many: memory is bounded by bytes, for ten clips and for ten files of 4 MB.
_FILES_AT_ONCE, _BYTES_AT_ONCE = 512, 4 << 20
# Until numba is loaded, files are read one by one that are together fewer than one call takes and smaller than this,
# some 250 clips.
_WORTH_LOADING_BYTES = 500_000


@dataclass(frozen=True, eq=False)
class BulkReading:
    """What n files gave, in their order.

    `packed` has the notes of all n; a file that cannot be read has none there, and its number has its error in
    `errors`. `fallbacks` files were refused by the compiled reader and read by `read_midi`.
    """

    packed: PackedNotes
    errors: Mapping[int, MidiError]
    fallbacks: int = 0

    def __len__(self) -> int:
        return len(self.packed)

    def notes(self, i: int) -> Notes:
        """The notes of file `i`. Raises: MidiError as `read_midi`; IndexError."""
        if i in self.errors:
            raise self.errors[i]
        return self.packed.notes(i)


def read_many(datas: Iterable[bytes], *, limits: ReadLimits = DEFAULT_LIMITS) -> BulkReading:
    """Reads the bytes of many MIDI files; they are taken from `datas` a few MB at a time."""
    pieces: list[PackedNotes] = []
    errors: dict[int, MidiError] = {}
    fallbacks = n_read = 0
    for batch in _batches(datas):
        kernels = _kernels() if _KERNELS in sys.modules or _is_worth_loading(batch) else None
        reading = _compiled_reading(kernels, batch, limits) if kernels else _plain_reading(batch, limits)
        pieces.append(reading.packed)
        errors.update((n_read + i, error) for i, error in reading.errors.items())
        fallbacks += reading.fallbacks
        n_read += len(batch)
    if fallbacks:
        _log.info("%d of %d MIDI files were left to the slower reader", fallbacks, n_read)
    return BulkReading(_joined(pieces), errors, fallbacks)


def read_many_files(paths: Sequence[Path], *, limits: ReadLimits = DEFAULT_LIMITS) -> BulkReading:
    """Reads many MIDI files from disk; the errors name the files, as those of `read_midi` do."""
    unopened: dict[int, MidiError] = {}
    reading = read_many(_contents(paths, limits, unopened), limits=limits)
    errors = {
        i: unopened[i] if i in unopened else MidiError(f"{paths[i].name!r}: {error}")
        for i, error in reading.errors.items()
    }
    return BulkReading(reading.packed, errors, reading.fallbacks)


def _contents(paths: Sequence[Path], limits: ReadLimits, unopened: dict[int, MidiError]) -> Iterator[bytes]:
    for i, path in enumerate(paths):
        try:
            yield file_bytes(path, limits)
        except (OSError, ValueError) as error:
            unopened[i] = cannot_open(path, error)
            yield b""


def _batches(datas: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    n_bytes = 0
    for data in datas:
        batch.append(data)
        n_bytes += len(data)
        if len(batch) == _FILES_AT_ONCE or n_bytes >= _BYTES_AT_ONCE:
            yield batch
            batch, n_bytes = [], 0
    if batch:
        yield batch


def _is_worth_loading(batch: Sequence[bytes]) -> bool:
    # A full batch of the smallest files has few bytes, but more such batches may follow.
    return len(batch) >= _FILES_AT_ONCE or sum(map(len, batch)) >= _WORTH_LOADING_BYTES


@cache
def _kernels() -> ModuleType | None:
    """The compiled reader; None, said once in the log, where there is none."""
    try:
        from pianistid_core import compiled_midi
    except (ImportError, RuntimeError) as error:  # RuntimeError: numba has no folder to keep compiled code in
        _log.warning("MIDI files are read one by one, which is 20 times slower: numba cannot be used (%s)", error)
        return None
    return compiled_midi


def _plain_reading(datas: Sequence[bytes], limits: ReadLimits) -> BulkReading:
    clips: list[Notes] = []
    errors: dict[int, MidiError] = {}
    for i, data in enumerate(datas):
        notes = _read(data, limits)
        if isinstance(notes, MidiError):
            errors[i] = notes
        clips.append(_NO_NOTES if isinstance(notes, MidiError) else notes)
    return BulkReading(PackedNotes.of(clips), errors)


def _compiled_reading(kernels: ModuleType, datas: Sequence[bytes], limits: ReadLimits) -> BulkReading:
    # What is over the limit is refused unseen: room for its notes would be twenty times its size.
    within = [data if len(data) <= limits.max_bytes else b"" for data in datas]
    data = np.frombuffer(b"".join(within), np.uint8)
    bounds = np.cumsum([0, *map(len, within)], dtype=np.int64)
    room = len(data) // kernels.BYTES_A_NOTE
    arrays = np.empty(room), np.empty(room), np.empty(room, np.uint8), np.empty(room, np.uint8)
    counts = np.empty(len(datas), np.int64)
    n_notes = kernels.read_files(data, bounds, astuple(limits), *arrays, counts)
    again = {i: _read(datas[i], limits) for i in np.flatnonzero(counts == kernels.REFUSED).tolist()}
    starts = np.zeros(len(datas) + 1, np.int64)
    np.cumsum(np.maximum(counts, 0), out=starts[1:])
    # Copies: a clip's notes would otherwise keep all the room there was for others.
    onsets_s, offsets_s, pitches, velocities = (array[:n_notes].copy() for array in arrays)
    packed = PackedNotes(onsets_s, offsets_s, pitches, velocities, starts)
    errors = {i: result for i, result in again.items() if isinstance(result, MidiError)}
    found = {i: result for i, result in again.items() if isinstance(result, Notes)}
    if found:
        packed = PackedNotes.of([found[i] if i in found else packed.notes(i) for i in range(len(datas))])
    return BulkReading(packed, errors, len(found))


def _read(data: bytes, limits: ReadLimits) -> Notes | MidiError:
    try:
        return read_midi(data, limits=limits)
    except MidiError as error:
        return error


def _joined(pieces: Sequence[PackedNotes]) -> PackedNotes:
    if len(pieces) == 1:
        return pieces[0]
    firsts = np.cumsum([0, *(int(piece.starts[-1]) for piece in pieces)])
    starts = [np.zeros(1, np.int64), *(piece.starts[1:] + first for piece, first in zip(pieces, firsts, strict=False))]
    return PackedNotes(
        np.concatenate([_NO_NOTES.onsets_s, *(piece.onsets_s for piece in pieces)]),
        np.concatenate([_NO_NOTES.offsets_s, *(piece.offsets_s for piece in pieces)]),
        np.concatenate([_NO_NOTES.pitches, *(piece.pitches for piece in pieces)]),
        np.concatenate([_NO_NOTES.velocities, *(piece.velocities for piece in pieces)]),
        np.concatenate(starts),
    )


_NO_NOTES = Notes(np.empty(0), np.empty(0), np.empty(0, np.uint8), np.empty(0, np.uint8))
