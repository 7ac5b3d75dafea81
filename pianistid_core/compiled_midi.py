"""Reads the bytes of many MIDI files to notes in one compiled call, by the rules of `midi.py`.

Only `bulk_midi.py` imports this module, and only when there is something to read: numba takes a second to load.

The kernels repeat `midi._read_bytes` step by step, and give the same float64 bits. A file that is damaged, over a limit
or without piano notes gets `REFUSED` in place of its number of notes, never a reason: reasons are given by `read_midi`,
which reads such a file again. No byte outside a file's own range is looked at, whatever the file claims.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

REFUSED = -1
BYTES_A_NOTE = 3  # the least: a delta time, a key and a velocity under running status

_BYTES_A_TEMPO = 7
_DRUMS = 9
_CHANNELS, _VALUES = 16, 128
_NOBODY = -1
_SECONDS_PER_TICK_AT_120 = 60.0 / 120.0

ByteArray = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
_Limits = tuple[int, int, int, int, float]
_Tempo = tuple[IntArray, FloatArray, FloatArray]  # by segment: the tick and the second it starts at, seconds a tick
_Counts = tuple[int, int, int, int, int]  # of events, notes begun, notes ended, groups, tempo segments
_Out = tuple[FloatArray, FloatArray, ByteArray, ByteArray]  # onsets, offsets, pitches, velocities
_Function = TypeVar("_Function", bound=Callable[..., Any])


def _compiled(function: _Function) -> _Function:
    return cast(_Function, numba.njit(cache=True, nogil=True)(function))


@_compiled
def read_files(
    data: ByteArray,
    bounds: IntArray,
    limits: _Limits,
    onsets_s: FloatArray,
    offsets_s: FloatArray,
    pitches: ByteArray,
    velocities: ByteArray,
    counts: IntArray,
) -> int:
    """Fills the four arrays with the notes of all files, one after the other; returns how many there are in all.

    File i is `data[bounds[i]:bounds[i + 1]]` and has `counts[i]` notes, or REFUSED. `limits` are the fields of
    `ReadLimits` in their order. The arrays must have room for a note in every `BYTES_A_NOTE` bytes of data.
    """
    longest = 0
    for i in range(len(bounds) - 1):
        longest = max(longest, bounds[i + 1] - bounds[i])
    room = longest // BYTES_A_NOTE + 1
    notes = np.empty((_FIELDS, room), np.int64)
    tempo_ticks = np.empty(longest // _BYTES_A_TEMPO + 2, np.int64)
    tempo_scales = np.empty(len(tempo_ticks), np.float64)
    tempo_starts_s = np.empty(len(tempo_ticks), np.float64)
    tables = np.empty((3, _CHANNELS * _VALUES), np.int64)
    n_all = 0
    for i in range(len(bounds) - 1):
        counts[i] = _read_file(
            data[bounds[i] : bounds[i + 1]],
            limits,
            notes,
            tables,
            (tempo_ticks, tempo_scales, tempo_starts_s),
            (onsets_s[n_all:], offsets_s[n_all:], pitches[n_all:], velocities[n_all:]),
        )
        n_all += max(counts[i], 0)
    return n_all


# What is kept of each note that has begun (rows), and the order in which notes ended.
_ON, _OFF, _KEY, _VELOCITY, _GROUP, _NEXT, _ENDED, _SORTED = range(8)
_FIELDS = 8
# By channel and key, the first and last note that is still open; by program and channel, the number of the group.
_FIRST, _LAST, _GROUPS = range(3)


@_compiled
def _read_file(data: ByteArray, limits: _Limits, notes: IntArray, tables: IntArray, tempo: _Tempo, out: _Out) -> int:
    max_bytes, max_tracks, max_events, max_ticks, max_duration_s = limits
    if len(data) > max_bytes or len(data) < 14:
        return REFUSED
    if data[0] != 0x4D or data[1] != 0x54 or data[2] != 0x68 or data[3] != 0x64:
        return REFUSED
    header_length = _big_endian(data, 4, 4)
    midi_format, n_tracks, division = _big_endian(data, 8, 2), _big_endian(data, 10, 2), _big_endian(data, 12, 2)
    if header_length < 6 or 8 + header_length > len(data) or midi_format > 1:
        return REFUSED
    if division == 0 or division >= 0x8000 or n_tracks == 0 or n_tracks > max_tracks:
        return REFUSED
    position = 8 + header_length
    n_notes = n_ended = n_events = n_groups = found = 0
    n_tempos = 1
    tempo[0][0], tempo[1][0], tempo[2][0] = 0, _SECONDS_PER_TICK_AT_120 / division, 0.0
    while found < n_tracks:
        if position + 8 > len(data):
            return REFUSED
        end = position + 8 + _big_endian(data, position + 4, 4)
        if end > len(data):
            return REFUSED
        is_track = (
            data[position] == 0x4D
            and data[position + 1] == 0x54
            and data[position + 2] == 0x72
            and data[position + 3] == 0x6B
        )
        if is_track:
            found += 1
            n_events, n_notes, n_ended, n_groups, n_tempos = _read_track(
                data[position + 8 : end],
                (max_events, max_ticks, division),
                notes,
                tables,
                tempo,
                (n_events, n_notes, n_ended, n_groups, n_tempos),
                found == 1,
            )
            if n_events == REFUSED:
                return REFUSED
        position = end
    if n_ended == 0:
        return REFUSED
    return _deliver(notes, n_ended, n_groups, tempo, n_tempos, max_duration_s, out)


@_compiled
def _read_track(
    data: ByteArray,
    limits: tuple[int, int, int],
    notes: IntArray,
    tables: IntArray,
    tempo: _Tempo,
    counts: _Counts,
    has_tempos: bool,
) -> _Counts:
    """Adds the notes of a track to `notes`; gives the new counts, of which the first is REFUSED when it is damaged."""
    refused = (REFUSED, 0, 0, 0, 0)
    max_events, max_ticks, division = limits
    n_events, n_notes, n_ended, n_groups, n_tempos = counts
    tables[:] = _NOBODY
    programs = np.zeros(_CHANNELS, np.int64)
    end = len(data)
    position = tick = running = 0
    while position < end:
        position, delta = _variable_length(data, position)
        if position == REFUSED or position >= end:
            return refused
        tick += delta
        n_events += 1
        if n_events > max_events:
            return refused
        status = _byte(data, position)
        if status & 0x80:
            position += 1
            if status < 0xF0:
                running = status
            elif status < 0xF8:
                running = 0
        elif running:
            status = running
        else:
            return refused
        kind, channel = status & 0xF0, status & 0x0F
        if kind < 0xF0:
            n_values = 1 if kind == 0xC0 or kind == 0xD0 else 2
            if position + n_values > end:
                return refused
            first, second = _byte(data, position), _byte(data, position + n_values - 1)
            if (first | second) & 0x80:
                return refused
            position += n_values
            if kind == 0xC0:
                programs[channel] = first
            elif channel == _DRUMS:
                pass
            elif kind == 0x90 and second:
                _begin(notes, tables, n_notes, tick, channel, first, second)
                n_notes += 1
            elif kind == 0x90 or kind == 0x80:
                group = programs[channel] * _CHANNELS + channel
                n_ended, n_groups = _end(notes, tables, n_ended, n_groups, tick, channel * _VALUES + first, group)
        elif status == 0xFF:
            if position >= end:
                return refused
            meta = data[position]
            position, length = _variable_length(data, position + 1)
            if position == REFUSED or position + length > end:
                return refused
            if meta == 0x51:
                if length != 3 or _big_endian(data, position, 3) == 0:
                    return refused
                if has_tempos:
                    n_tempos = _change_tempo(tempo, n_tempos, tick, _big_endian(data, position, 3), division)
            position += length
            if meta == 0x2F:
                break
        elif status == 0xF0 or status == 0xF7:
            position, length = _variable_length(data, position)
            if position == REFUSED or position + length > end:
                return refused
            position += length
        elif status < 0xF8:
            return refused
        if tick > max_ticks:
            return refused
    return n_events, n_notes, n_ended, n_groups, n_tempos


@_compiled
def _begin(notes: IntArray, tables: IntArray, note: int, tick: int, channel: int, key: int, velocity: int) -> None:
    notes[_ON, note], notes[_KEY, note], notes[_VELOCITY, note], notes[_NEXT, note] = tick, key, velocity, _NOBODY
    slot = channel * _VALUES + key
    if tables[_FIRST, slot] == _NOBODY:
        tables[_FIRST, slot] = note
    else:
        notes[_NEXT, tables[_LAST, slot]] = note
    tables[_LAST, slot] = note


@_compiled
def _end(
    notes: IntArray, tables: IntArray, n_ended: int, n_groups: int, tick: int, slot: int, group: int
) -> tuple[int, int]:
    """Ends the open notes of a channel and key; of those that began on this very tick, keeps them if others ended."""
    note = tables[_FIRST, slot]
    tables[_FIRST, slot] = _NOBODY
    # Notes are open in the order in which they began, so those of this tick are the last.
    if note == _NOBODY or notes[_ON, note] == tick:
        return n_ended, n_groups
    if tables[_GROUPS, group] == _NOBODY:
        tables[_GROUPS, group] = n_groups
        n_groups += 1
    while note != _NOBODY and notes[_ON, note] != tick:
        notes[_OFF, note], notes[_GROUP, note] = tick, tables[_GROUPS, group]
        notes[_ENDED, n_ended] = note
        n_ended += 1
        note = notes[_NEXT, note]
    tables[_FIRST, slot] = note
    return n_ended, n_groups


@_compiled
def _change_tempo(tempo: _Tempo, n_tempos: int, tick: int, microseconds: int, division: int) -> int:
    ticks, scales, starts_s = tempo
    scale = 60.0 / ((6e7 / microseconds) * division)
    last = n_tempos - 1
    if tick == 0:
        scales[0] = scale
    elif scale != scales[last]:
        ticks[n_tempos], scales[n_tempos] = tick, scale
        starts_s[n_tempos] = starts_s[last] + scales[last] * (tick - ticks[last])
        n_tempos += 1
    return n_tempos


@_compiled
def _deliver(
    notes: IntArray, n_ended: int, n_groups: int, tempo: _Tempo, n_tempos: int, max_duration_s: float, out: _Out
) -> int:
    """Writes the notes that have ended, group by group as they ended, then stably by onset."""
    onsets_s, offsets_s, pitches, velocities = out
    if n_groups > 1:
        _sort_by_group(notes, n_ended, n_groups)
    unsorted_s = np.empty(n_ended, np.float64)
    for i in range(n_ended):
        note = notes[_ENDED, i]
        unsorted_s[i] = _seconds(tempo, n_tempos, notes[_ON, note])
        if _seconds(tempo, n_tempos, notes[_OFF, note]) > max_duration_s:
            return REFUSED
    order = np.argsort(unsorted_s, kind="mergesort")
    for i in range(n_ended):
        note = notes[_ENDED, order[i]]
        onsets_s[i] = unsorted_s[order[i]]
        offsets_s[i] = _seconds(tempo, n_tempos, notes[_OFF, note])
        pitches[i], velocities[i] = notes[_KEY, note], notes[_VELOCITY, note]
    return n_ended


@_compiled
def _sort_by_group(notes: IntArray, n_ended: int, n_groups: int) -> None:
    places = np.zeros(n_groups + 1, np.int64)
    for i in range(n_ended):
        places[notes[_GROUP, notes[_ENDED, i]] + 1] += 1
    places = np.cumsum(places)
    for i in range(n_ended):
        group = notes[_GROUP, notes[_ENDED, i]]
        notes[_SORTED, places[group]] = notes[_ENDED, i]
        places[group] += 1
    notes[_ENDED, :n_ended] = notes[_SORTED, :n_ended]


@_compiled
def _seconds(tempo: _Tempo, n_tempos: int, tick: int) -> float:
    ticks, scales, starts_s = tempo
    low, high = 0, n_tempos
    while high - low > 1:
        middle = (low + high) // 2
        # A tempo holds from the tick after its own.
        if ticks[middle] < tick:
            low = middle
        else:
            high = middle
    at_s: float = starts_s[low] + scales[low] * (tick - ticks[low])
    return at_s


@_compiled
def _variable_length(data: ByteArray, position: int) -> tuple[int, int]:
    """The position after a variable-length number, or REFUSED, and the number."""
    value = 0
    for at in range(position, min(position + 4, len(data))):
        byte = _byte(data, at)
        value = (value << 7) | (byte & 0x7F)
        if not byte & 0x80:
            return at + 1, value
    return REFUSED, value


@_compiled
def _big_endian(data: ByteArray, position: int, n_bytes: int) -> int:
    value = 0
    for at in range(position, position + n_bytes):
        value = (value << 8) | _byte(data, at)
    return value


@_compiled
def _byte(data: ByteArray, at: int) -> int:
    # Signed: numba makes a float of an unsigned and a signed number.
    return np.int64(data[at])  # type: ignore[return-value]
