"""From a MIDI file to notes: read, validate, write, cut into clips, augment.

Conventions
-----------
Times are seconds (float64) from the start of the file; pitches are MIDI numbers (60 = middle C); velocities run from
1 to 127 in files, and from 0 to 127 after augmentation. `Notes` are ordered by onset, ties in the file's own order.

What is done with real, dirty files (the same notes as pretty_midi gives, in the same order, checked by the tests):

- Format 0 and format 1 are read, format 2 (independent songs in one file) and SMPTE time are refused.
- All tracks and all programs are merged; channel 10 (drums) is left out.
- The tempo map is taken from the first track, as the standard has it; tempo changes in other tracks are ignored.
- A note-off ends every open note of its channel and key, so two note-ons with one note-off give two notes that end
  together. Notes of no length are dropped. A note without an end is dropped, and so is an end without a note.
- The sustain pedal does not lengthen notes: onsets and offsets are those of the keys, as in the paper's data.
- Reading is bounded: `ReadLimits` caps bytes, tracks, events, notes and seconds before memory is taken for them.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from pianistid_core.atomic import write_atomically
from pianistid_core.errors import InvalidNotesError, MidiError

FloatArray = npt.NDArray[np.float64]
ByteArray = npt.NDArray[np.uint8]
MidiSource = str | Path | bytes | bytearray | memoryview | IO[bytes]

CLIP_LENGTH_S = 30.0
SHORTEST_RELEASED_S = 0.02
DRUM_CHANNEL = 9
TRANSPOSE_SEMITONES = (-6, 5)
TIME_STRETCH = (0.8, 1.2)
VELOCITY_SHIFT = (-12, 11)
_MICROSECONDS_PER_QUARTER = 500_000
_KEY_NAMES = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")


@dataclass(frozen=True, eq=False)
class Notes:
    """The notes of a performance or clip, ordered by onset: four arrays of one length n.

    `onsets_s` and `offsets_s` are float64 seconds, `pitches` and `velocities` uint8. Four flat arrays of these very
    types are taken as they are, uncopied, and trusted to hold ordered notes, so that slices of a large array cost
    nothing; anything else, such as lists, is checked, converted and sorted as by `from_arrays`.

    Raises
    ------
    InvalidNotesError
        When lengths differ, or as `from_arrays`.
    """

    onsets_s: FloatArray
    offsets_s: FloatArray
    pitches: ByteArray
    velocities: ByteArray

    def __post_init__(self) -> None:
        arrays = (self.onsets_s, self.offsets_s, self.pitches, self.velocities)
        pairs = zip(arrays, _NOTE_TYPES, strict=True)
        if all(isinstance(array, np.ndarray) and array.dtype == wanted for array, wanted in pairs):
            _check_lengths(arrays)
            return
        for name, array in zip(_NOTE_FIELDS, _checked_notes(*arrays), strict=True):
            object.__setattr__(self, name, array)

    @classmethod
    def from_arrays(
        cls, onsets_s: npt.ArrayLike, offsets_s: npt.ArrayLike, pitches: npt.ArrayLike, velocities: npt.ArrayLike
    ) -> "Notes":
        """Validates and sorts four array-likes of one length.

        Raises
        ------
        InvalidNotesError
            When lengths differ, a time is negative or not finite, an offset precedes its onset, or a pitch or
            velocity is not a whole number or outside 0..127.
        """
        return cls(*_checked_notes(onsets_s, offsets_s, pitches, velocities))

    def __len__(self) -> int:
        return len(self.onsets_s)

    @property
    def duration_s(self) -> float:
        """Seconds until the last note has ended; 0.0 without notes."""
        return float(self.offsets_s.max()) if len(self) else 0.0

    def shifted(self, by_s: float) -> "Notes":
        """The same notes `by_s` seconds later (earlier when negative)."""
        return Notes(self.onsets_s + by_s, self.offsets_s + by_s, self.pitches, self.velocities)

    def released(self, gap_s: float) -> "Notes":
        """The same notes ended `gap_s` seconds sooner, and that long before their key is struck again.

        None that it would leave shorter is ended sooner than 20 ms after its onset. With a gap of 0 nothing changes.
        """
        if gap_s == 0:
            return self
        by_key = np.lexsort((np.arange(len(self)), self.pitches))
        struck_again_s = np.full(len(self), np.inf)
        follows = self.pitches[by_key[1:]] == self.pitches[by_key[:-1]]
        struck_again_s[by_key[:-1][follows]] = self.onsets_s[by_key[1:][follows]]
        sooner = np.maximum(
            np.minimum(self.offsets_s, struck_again_s) - gap_s,
            np.minimum(self.offsets_s, self.onsets_s + SHORTEST_RELEASED_S),
        )
        return Notes(self.onsets_s, sooner, self.pitches, self.velocities)

    def between(self, start_s: float, end_s: float) -> "Notes":
        """The notes whose onset lies in [start_s, end_s), at their own times."""
        first, last = np.searchsorted(self.onsets_s, [start_s, end_s], side="left")
        return Notes(
            self.onsets_s[first:last], self.offsets_s[first:last], self.pitches[first:last], self.velocities[first:last]
        )


_NOTE_FIELDS = ("onsets_s", "offsets_s", "pitches", "velocities")
_NOTE_TYPES = (np.dtype(np.float64), np.dtype(np.float64), np.dtype(np.uint8), np.dtype(np.uint8))


def _check_lengths(arrays: tuple[npt.NDArray[Any], ...]) -> None:
    shape = arrays[0].shape
    if len(shape) != 1 or any(array.shape != shape for array in arrays):
        raise InvalidNotesError(
            "onsets, offsets, pitches and velocities must be flat and equally long, not of shapes "
            f"{', '.join(str(array.shape) for array in arrays)}"
        )


def _checked_notes(
    onsets_s: npt.ArrayLike, offsets_s: npt.ArrayLike, pitches: npt.ArrayLike, velocities: npt.ArrayLike
) -> tuple[FloatArray, FloatArray, ByteArray, ByteArray]:
    """The four arrays of `Notes`: checked, converted, ordered by onset."""
    try:
        onsets, offsets = np.asarray(onsets_s, np.float64), np.asarray(offsets_s, np.float64)
        raw_pitches, raw_velocities = np.asarray(pitches), np.asarray(velocities)
    except (TypeError, ValueError) as error:
        raise InvalidNotesError(f"notes must be four lists of numbers ({error})") from error
    _check_lengths((onsets, offsets, raw_pitches, raw_velocities))
    if not (np.isfinite(onsets).all() and np.isfinite(offsets).all()):
        raise InvalidNotesError("a note's onset or offset is not a finite number of seconds")
    if onsets.size and (onsets.min() < 0 or (offsets < onsets).any()):
        raise InvalidNotesError("every note must start at 0 s or later and must not end before it starts")
    order = np.argsort(onsets, kind="stable")
    pitches, velocities = _midi_values("pitch", raw_pitches), _midi_values("velocity", raw_velocities)
    return onsets[order], offsets[order], pitches[order], velocities[order]


def _midi_values(name: str, values: npt.NDArray[Any]) -> ByteArray:
    # NaN is not equal to its own floor, so it is no whole number either.
    if values.dtype.kind not in "iuf" or (values.dtype.kind == "f" and (values != np.floor(values)).any()):
        raise InvalidNotesError(f"every {name} must be a whole number in 0..127, such as 60 or 64")
    if values.size and (values.min() < 0 or values.max() > 127):
        raise InvalidNotesError(
            f"every {name} must lie in 0..127, not in {values.min()}..{values.max()}: are columns swapped?"
        )
    return values.astype(np.uint8)


@dataclass(frozen=True)
class ReadLimits:
    """How much of a file is read before it is refused; real performances are far below every limit."""

    max_bytes: int = 4_000_000
    max_tracks: int = 256
    max_events: int = 400_000
    max_ticks: int = 10_000_000
    max_duration_s: float = 4 * 3600.0


DEFAULT_LIMITS = ReadLimits()


def read_midi(source: MidiSource, *, limits: ReadLimits = DEFAULT_LIMITS) -> Notes:
    """Reads the piano notes of a MIDI file: from a path, its bytes, or a file that is open in binary mode.

    Raises
    ------
    MidiError
        When the file cannot be opened, is not MIDI, is cut off or contradicts itself, is over `limits`, or holds no
        piano notes. The message names the file when `source` is a path.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return _read_bytes(bytes(source), limits)
    if not isinstance(source, str | PathLike):
        return _read_bytes(_content(source, limits), limits)
    path = Path(source)
    try:
        data = file_bytes(path, limits)
    except (OSError, ValueError) as error:
        raise cannot_open(path, error) from error
    try:
        return _read_bytes(data, limits)
    except MidiError as error:
        raise MidiError(f"{path.name!r}: {error}") from error


def file_bytes(path: str | Path, limits: ReadLimits = DEFAULT_LIMITS) -> bytes:
    """A file's bytes, no more than show that it is over the limit.

    Raises: OSError when it cannot be read; ValueError when its name has a character that no file system takes.
    """
    with open(path, "rb", buffering=0) as file:
        # As many as there are, and one more: room for the limit's 4 MB costs more than reading a clip.
        wanted = min(os.fstat(file.fileno()).st_size, limits.max_bytes) + 1
        data = file.read(wanted)
        told_too_few = len(data) == wanted
        while told_too_few and len(data) <= limits.max_bytes:
            more = file.read(limits.max_bytes + 1 - len(data))
            if not more:
                break
            data += more
    return data


def cannot_open(path: Path, error: OSError | ValueError) -> MidiError:
    """What `read_midi` raises when a file cannot be opened."""
    reason = (error.strerror if isinstance(error, OSError) else None) or error
    return MidiError(f"cannot open {str(path)!r}: {reason}")


def _content(file: IO[bytes], limits: ReadLimits) -> bytes:
    if not hasattr(file, "read"):
        raise MidiError(f"{type(file).__name__} came; give a path, the bytes of a MIDI file, or an open one")
    try:
        data = file.read(limits.max_bytes + 1)
    except (OSError, ValueError) as error:
        raise MidiError(f"cannot read the open file: {error}") from error
    if not isinstance(data, bytes):
        raise MidiError(f"the open file gives {type(data).__name__}; open it in binary mode, with open(path, 'rb')")
    return data


def write_midi(notes: Notes, path: str | Path | None = None) -> bytes:
    """Writes notes as a one-track piano MIDI file (480 ticks a quarter, 120 quarters a minute); returns its bytes.

    Times are rounded to the nearest tick, about 1 ms. The same notes give the same bytes.

    Raises: InvalidNotesError when a pitch or velocity is over 127.
    """
    starts = np.round(notes.onsets_s * _WRITTEN_TICKS_PER_S).astype(np.int64)
    ends = np.maximum(np.round(notes.offsets_s * _WRITTEN_TICKS_PER_S).astype(np.int64), starts + 1)
    ticks, pitches = np.concatenate([starts, ends]), np.tile(notes.pitches, 2)
    velocities = np.concatenate([notes.velocities, np.zeros(len(notes), np.uint8)])
    if len(notes) and max(pitches.max(), velocities.max()) > 127:
        raise InvalidNotesError("a pitch or velocity is over 127, which MIDI cannot hold")
    is_on = np.repeat([1, 0], len(notes))
    # Offs sort before ons of the same tick, so that a repeated key ends before it is struck again.
    order = np.lexsort((velocities, pitches, is_on, ticks))
    deltas = np.diff(ticks[order], prepend=0).tolist()
    # One status byte for all: an end is a stroke of velocity 0.
    events = zip(deltas, pitches[order].tolist(), velocities[order].tolist(), strict=True)
    body = b"".join([_written_number(delta) + bytes((pitch, velocity)) for delta, pitch, velocity in events])
    first = len(_written_number(deltas[0])) if deltas else 0
    body = b"".join([_WRITTEN_TEMPO, body[:first], b"\x90" if deltas else b"", body[first:], b"\x00\xff\x2f\x00"])
    data = _WRITTEN_HEADER + len(body).to_bytes(4, "big") + body
    if path is not None:
        write_atomically(Path(path), data, durable=False)  # one of many clips, as a rule
    return data


_WRITTEN_TICKS_PER_S = 960.0
_WRITTEN_HEADER = b"MThd\x00\x00\x00\x06\x00\x00\x00\x01\x01\xe0MTrk"
_WRITTEN_TEMPO = b"\x00\xff\x51\x03" + _MICROSECONDS_PER_QUARTER.to_bytes(3, "big")


def _written_number(number: int) -> bytes:
    """A number of variable length: 7 bits a byte, all bytes but the last marked."""
    if number < 0x80:
        return bytes((number,))
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.append(number & 0x7F | 0x80)
    return bytes(reversed(digits))


def key_name(pitch: int) -> str:
    """ "C4" for middle C, MIDI 60."""
    return f"{_KEY_NAMES[pitch % 12]}{pitch // 12 - 1}"


def clips_in(duration_s: float) -> int:
    """How many clips are cut from so many seconds of music: every whole 30 s, and at least one."""
    return max(1, int(duration_s // CLIP_LENGTH_S))


def split_into_clips(notes: Notes) -> list[Notes]:
    """Cuts a performance at 30 s hops into floor(length / 30) clips, at least one, each starting at 0.

    Each clip keeps the 30 s that follow it as padding, which a jittered start can reach into; a note belongs to a
    clip when its onset does. Music shorter than 30 s is one clip.
    """
    starts = CLIP_LENGTH_S * np.arange(clips_in(notes.duration_s))
    return [notes.between(start, start + 2 * CLIP_LENGTH_S).shifted(-start) for start in starts]


def augment(notes: Notes, rng: np.random.Generator) -> Notes:
    """Transposes by an integer in [-6, 5], stretches time by U(0.8, 1.2), shifts each velocity by [-12, 11].

    Velocities are clipped to 0..127 (a note at 0 is not drawn); keys that leave the keyboard are not drawn either.
    """
    semitones = int(rng.integers(TRANSPOSE_SEMITONES[0], TRANSPOSE_SEMITONES[1] + 1))
    stretch = rng.uniform(*TIME_STRETCH)
    shift = rng.integers(VELOCITY_SHIFT[0], VELOCITY_SHIFT[1] + 1, size=len(notes))
    return Notes(
        notes.onsets_s * stretch,
        notes.offsets_s * stretch,
        np.clip(notes.pitches.astype(np.int16) + semitones, 0, 127).astype(np.uint8),
        np.clip(notes.velocities.astype(np.int16) + shift, 0, 127).astype(np.uint8),
    )


# --- the file format -------------------------------------------------------------------------------------------------

# Kinds of event that matter, ordered so that tuples never need to be compared beyond the tick.
_NOTE_OFF, _NOTE_ON, _PROGRAM, _TEMPO = range(4)
_Event = tuple[int, int, int, int, int]  # tick, kind, channel, key or tempo or program, velocity


def _read_bytes(data: bytes, limits: ReadLimits) -> Notes:
    if len(data) > limits.max_bytes:
        raise MidiError(f"the file is larger than {limits.max_bytes / 1e6:g} MB, more than any piano performance needs")
    ticks_per_quarter, chunks = _read_header(data, limits)
    tracks: list[list[_Event]] = []
    n_events = n_drums = 0
    for start, end in chunks:
        events, seen = _read_track(data, start, end, limits.max_events - n_events, limits.max_ticks)
        tracks.append(events)
        n_events += seen
    starts: list[int] = []
    ends: list[int] = []
    keys: list[tuple[int, int]] = []
    for events in tracks:
        for program_notes in _pair_notes(events).values():
            for start_tick, end_tick, channel, key, velocity in program_notes:
                if channel == DRUM_CHANNEL:
                    n_drums += 1
                    continue
                starts.append(start_tick)
                ends.append(end_tick)
                keys.append((key, velocity))
    if not starts:
        reason = f"only {n_drums} drum notes" if n_drums else "no note that has both a beginning and an end"
        raise MidiError(f"the file holds {reason}, so there is no piano to listen to")
    seconds = _TempoMap(tracks[0], ticks_per_quarter)
    offsets_s = seconds(ends)
    if offsets_s.max() > limits.max_duration_s:
        hours, limit = offsets_s.max() / 3600, limits.max_duration_s / 3600
        raise MidiError(f"the file claims to last {hours:.1f} hours; at most {limit:g} are read")
    key_array = np.array(keys, np.uint8)
    return Notes.from_arrays(seconds(starts), offsets_s, key_array[:, 0], key_array[:, 1])


def _read_header(data: bytes, limits: ReadLimits) -> tuple[int, list[tuple[int, int]]]:
    """Ticks a quarter, and the (start, end) byte ranges of the track chunks."""
    if data[:4] != b"MThd":
        what = "the file is empty" if not data else "this is not a MIDI file (it does not begin with MThd)"
        raise MidiError(f"{what}; choose a file saved as .mid by a sequencer, keyboard or transcriber")
    if len(data) < 14:
        raise MidiError("the file is cut off inside its header; export or download it again")
    header_length = int.from_bytes(data[4:8], "big")
    midi_format, n_tracks = int.from_bytes(data[8:10], "big"), int.from_bytes(data[10:12], "big")
    division = int.from_bytes(data[12:14], "big", signed=True)
    if header_length < 6 or 8 + header_length > len(data):
        raise MidiError(f"the header claims to be {header_length} bytes long, which the file is not; export it again")
    if midi_format not in (0, 1):
        raise MidiError(f"MIDI format {midi_format} is not supported; save the piece as format 0 or 1")
    if division <= 0:
        kind = "SMPTE frames" if division < 0 else "0 ticks a quarter"
        raise MidiError(f"the file counts time in {kind}; save it with ticks per quarter note instead")
    if n_tracks > limits.max_tracks:
        raise MidiError(f"the file declares {n_tracks} tracks; at most {limits.max_tracks} are read")
    chunks = list(_track_chunks(data, 8 + header_length, n_tracks))
    return division, chunks


def _track_chunks(data: bytes, position: int, n_tracks: int) -> Iterator[tuple[int, int]]:
    found = 0
    while found < n_tracks:
        if position + 8 > len(data):
            raise MidiError(f"the file is cut off: {n_tracks} tracks are declared, {found} are there; export it again")
        length = int.from_bytes(data[position + 4 : position + 8], "big")
        start, end = position + 8, position + 8 + length
        if end > len(data):
            raise MidiError(f"the file is cut off inside track {found + 1}; export or download it again")
        # The standard allows chunks of other kinds between tracks and asks readers to skip them.
        if data[position : position + 4] == b"MTrk":
            yield start, end
            found += 1
        position = end


def _read_track(data: bytes, position: int, end: int, max_events: int, max_ticks: int) -> tuple[list[_Event], int]:
    """The events that matter in one track, and how many events it has in all."""
    events: list[_Event] = []
    append = events.append
    tick = seen = running = 0
    try:
        while position < end:
            # A delta time: 7 bits a byte, at most four bytes.
            byte = data[position]
            position += 1
            delta = byte & 0x7F
            extra = 0
            while byte & 0x80:
                extra += 1
                if extra > 3:
                    raise MidiError(f"a delta time at byte {position} is longer than four bytes; the file is damaged")
                byte = data[position]
                position += 1
                delta = (delta << 7) | (byte & 0x7F)
            tick += delta
            seen += 1
            if seen > max_events:
                raise MidiError("the file holds more events than any piano performance; split it into shorter files")
            status = data[position]
            if status & 0x80:
                position += 1
                # Running status: a channel's status byte holds until the next; text and meta events leave it be.
                if status < 0xF0:
                    running = status
                elif status < 0xF8:
                    running = 0
            elif running:
                status = running
            else:
                raise MidiError(f"byte {position} holds data where a MIDI event must begin; the file is damaged")
            kind = status & 0xF0
            if kind == 0x90 or kind == 0x80:
                key, velocity = data[position], data[position + 1]
                position += 2
                if (key | velocity) & 0x80:
                    raise MidiError(f"a note at byte {position - 2} has a value over 127; the file is damaged")
                append((tick, _NOTE_ON if kind == 0x90 and velocity else _NOTE_OFF, status & 0x0F, key, velocity))
            elif kind == 0xC0:
                append((tick, _PROGRAM, status & 0x0F, _data_byte(data, position), 0))
                position += 1
            elif kind == 0xD0:
                _data_byte(data, position)
                position += 1
            elif kind in (0xA0, 0xB0, 0xE0):
                _data_byte(data, position)
                _data_byte(data, position + 1)
                position += 2
            elif status == 0xFF:
                meta, (position, length) = data[position], _variable_length(data, position + 1)
                if position + length > end:
                    raise MidiError(f"a text or meta event at byte {position} runs past its track; the file is damaged")
                if meta == 0x51:
                    tempo = int.from_bytes(data[position : position + length], "big")
                    if length != 3 or tempo == 0:
                        raise MidiError(f"a tempo at byte {position} is not a positive 3-byte number")
                    append((tick, _TEMPO, 0, tempo, 0))
                position += length
                if meta == 0x2F:
                    break
            elif status in (0xF0, 0xF7):
                position, length = _variable_length(data, position)
                if position + length > end:
                    raise MidiError(f"a system message at byte {position} runs past its track; the file is damaged")
                position += length
            elif status < 0xF8:
                raise MidiError(f"byte {position - 1} is 0x{status:02X}, which no MIDI file may hold; it is damaged")
            if tick > max_ticks:
                raise MidiError(f"an event lies {tick} ticks in, over the limit of {max_ticks}; the file is damaged")
    except IndexError as error:
        raise MidiError("the file is cut off in the middle of an event; export or download it again") from error
    if position > end:
        raise MidiError("an event runs past the end of its track; the file is damaged")
    return events, seen


def _data_byte(data: bytes, position: int) -> int:
    value = data[position]
    if value & 0x80:
        raise MidiError(f"byte {position} is {value}, over 127, where a MIDI value must be; the file is damaged")
    return value


def _variable_length(data: bytes, position: int) -> tuple[int, int]:
    """The position after a variable-length number, and the number."""
    value = 0
    for offset in range(4):
        byte = data[position + offset]
        value = (value << 7) | (byte & 0x7F)
        if not byte & 0x80:
            return position + offset + 1, value
    raise MidiError(f"a length at byte {position} is longer than four bytes; the file is damaged")


def _pair_notes(events: list[_Event]) -> dict[tuple[int, int], list[tuple[int, int, int, int, int]]]:
    """Notes (start tick, end tick, channel, key, velocity) by (program, channel), in the order of their ends."""
    program = [0] * 16
    open_notes: dict[tuple[int, int], list[tuple[int, int]]] = {}
    notes: dict[tuple[int, int], list[tuple[int, int, int, int, int]]] = {}
    for tick, kind, channel, key, velocity in events:
        if kind == _NOTE_ON:
            open_notes.setdefault((channel, key), []).append((tick, velocity))
        elif kind == _NOTE_OFF:
            pending = open_notes.pop((channel, key), None)
            if pending is None:
                continue
            closed = [note for note in pending if note[0] != tick]
            # Struck again on the very tick of the note-off: that note has only just begun.
            kept = [note for note in pending if note[0] == tick]
            if closed:
                ended = notes.setdefault((program[channel], channel), [])
                ended.extend((start, tick, channel, key, struck) for start, struck in closed)
                if kept:
                    open_notes[channel, key] = kept
        elif kind == _PROGRAM:
            program[channel] = key
    return notes


class _TempoMap:
    """Ticks to seconds, by the tempo changes of one track."""

    def __init__(self, events: list[_Event], ticks_per_quarter: int) -> None:
        ticks, seconds_per_tick = [0], [60.0 / (120.0 * ticks_per_quarter)]
        for tick, kind, _, tempo, _ in events:
            if kind != _TEMPO:
                continue
            # By way of quarters a minute, not tempo / 1e6: the rounding of pretty_midi, kept bit for bit.
            scale = 60.0 / ((6e7 / tempo) * ticks_per_quarter)
            if tick == 0:
                seconds_per_tick[0] = scale
            elif scale != seconds_per_tick[-1]:
                ticks.append(tick)
                seconds_per_tick.append(scale)
        self._ticks = np.array(ticks, np.int64)
        self._scales = np.array(seconds_per_tick)
        self._starts_s = np.zeros(len(ticks))
        for i in range(1, len(ticks)):
            self._starts_s[i] = self._starts_s[i - 1] + self._scales[i - 1] * (ticks[i] - ticks[i - 1])

    def __call__(self, ticks: list[int]) -> FloatArray:
        at = np.asarray(ticks, np.int64)
        segment = np.searchsorted(self._ticks, at, side="left") - 1
        segment = np.maximum(segment, 0)
        times_s: FloatArray = self._starts_s[segment] + self._scales[segment] * (at - self._ticks[segment])
        return times_s
