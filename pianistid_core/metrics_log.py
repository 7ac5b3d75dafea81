"""The metrics of a run as they grow: only what was appended is read, and only so many rows are kept.

A look costs the same after a thousand epochs as after a million. A run that is taken up again cuts its metrics and
writes them anew; that is noticed by another file, a shorter one, or other bytes where reading stopped, and all is read
afresh. A torn last line waits until it is whole; a damaged line is passed over and counted.
"""

import json
import math
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

from pianistid_core.atomic import flush_folder

Row = Mapping[str, Any]

MAX_ROWS = 1000
MAX_LINE_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 20
_SEEN_BYTES = 256
_MOST_EPOCHS = 10**9
_MOST_SECONDS = 1e12
_TAIL_BYTES = 1 << 14


@dataclass(frozen=True)
class Curves:
    """The metrics of a run so far.

    `rows` are evenly thinned, with the first and the last; `n_rows` counts all of them, and `damaged` the lines passed
    over. `best` holds the lowest of each loss, and the highest of each accuracy and recall, of all rows, and
    `best_epoch` the first epoch that reached it. `seconds` is the training time of all rows together.
    """

    rows: tuple[Row, ...] = ()
    n_rows: int = 0
    last: Row = field(default_factory=dict)
    best: Mapping[str, float] = field(default_factory=dict)
    best_epoch: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    damaged: int = 0


@dataclass
class _Rows:
    """Rows as they come: every `stride`th is kept, and the stride doubles when there are too many."""

    limit: int
    kept: list[Row] = field(default_factory=list)
    stride: int = 1
    n: int = 0
    last: Row = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    best_epoch: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    damaged: int = 0

    def add(self, line: bytes) -> None:
        row = row_of(line)
        if row is None:
            self.damaged += 1
            return
        if self.n % self.stride == 0:
            self.kept.append(row)
            if len(self.kept) >= self.limit:  # one place is the last row's
                self.kept = self.kept[::2]
                self.stride *= 2
        self.n += 1
        self.last = row
        self.seconds = min(self.seconds + (finite_number(row.get("seconds")) or 0.0), _MOST_SECONDS)
        for key, value in row.items():
            sign = _better(key)
            number = finite_number(value) if sign else None
            if number is not None and (key not in self.best or sign * number > sign * self.best[key]):
                self.best[key], self.best_epoch[key] = number, row["epoch"]

    def curves(self) -> Curves:
        rows = tuple(self.kept)
        if self.n and (self.n - 1) % self.stride:
            rows += (self.last,)
        best, best_epoch = MappingProxyType(dict(self.best)), MappingProxyType(dict(self.best_epoch))
        return Curves(rows, self.n, self.last, best, best_epoch, self.seconds, self.damaged)


class MetricsLog:
    """One metrics file, followed as it grows; many threads may share one.

    `bytes_read` and `reread` tell how much was read in all, and how often from the beginning.
    """

    def __init__(self, path: Path, *, max_rows: int = MAX_ROWS) -> None:
        self.path = path
        self.max_rows = max(2, max_rows)
        self.bytes_read = 0
        self.reread = 0
        self._lock = threading.Lock()
        self._forget()

    def refresh(self) -> Curves:
        """The metrics as they are now; reads only what was appended since the last time."""
        with self._lock:
            try:
                with self.path.open("rb") as file:
                    self._read(file)
            except OSError:  # not there yet, or gone: what can no longer be seen is not shown
                self._forget()
            return self._curves

    def _forget(self) -> None:
        self._rows = _Rows(self.max_rows)
        self._curves = Curves()
        self._file: tuple[int, int] = (0, 0)
        self._offset = 0
        self._seen = b""
        self._too_long = False

    def _read(self, file: BinaryIO) -> None:
        status = os.fstat(file.fileno())
        identity = (status.st_dev, status.st_ino)
        if self._offset and (identity != self._file or status.st_size < self._offset or not self._as_before(file)):
            self._forget()
            self.reread += 1
        self._file = identity
        before = self._rows.n, self._rows.damaged
        stop = status.st_size
        file.seek(self._offset)
        rest = b""
        while self._offset + len(rest) < stop:
            block = file.read(min(_BLOCK_BYTES, stop - self._offset - len(rest)))
            if not block:
                break
            self.bytes_read += len(block)
            rest = self._take(rest + block)
        if (self._rows.n, self._rows.damaged) != before:
            self._curves = self._rows.curves()

    def _as_before(self, file: BinaryIO) -> bool:
        """Whether the bytes before the place where reading stopped are those that were read."""
        file.seek(self._offset - len(self._seen))
        self.bytes_read += len(self._seen)
        return file.read(len(self._seen)) == self._seen

    def _take(self, data: bytes) -> bytes:
        """Takes the whole lines of `data`, which begins at the offset, and gives what is left."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            if self._too_long or len(line) > MAX_LINE_BYTES:
                self._rows.damaged += 1
                self._too_long = False
            elif line.strip():
                self._rows.add(line)
        if len(rest) > MAX_LINE_BYTES:  # no row is that long: what is left of this line need not be kept
            self._too_long, rest = True, b""
        used = len(data) - len(rest)
        if used:
            self._offset += used
            self._seen = (self._seen + data[:used])[-_SEEN_BYTES:]
        return rest


@lru_cache(maxsize=256)
def shared_log(path: Path, max_rows: int = MAX_ROWS) -> MetricsLog:
    """The log of a file that everybody in this process shares, so that it is read once for all of them."""
    return MetricsLog(path, max_rows=max_rows)


def append_row(path: Path, row: Row) -> None:
    """Appends a row in one write, and flushes it; what a torn last line left is taken away first.

    Raises
    ------
    OSError
        When there is no room for it; the file is then as it was.
    ValueError
        When a number of the row is not finite.
    """
    line = json.dumps(dict(row), allow_nan=False).encode() + b"\n"
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        end = _whole_lines(handle)
        if end < os.lseek(handle, 0, os.SEEK_END):
            os.ftruncate(handle, end)
        try:
            written = os.write(handle, line)
            if written < len(line):
                written += os.write(handle, line[written:])  # which says why
            os.fsync(handle)
        except OSError:
            with suppress(
                OSError
            ):  # why it could not be written is to be told, and the next row takes away what is torn
                os.ftruncate(handle, end)
            raise
    finally:
        os.close(handle)
    if end == 0:
        flush_folder(path.parent)


def _whole_lines(handle: int) -> int:
    """How many bytes of an open file are whole lines."""
    end = os.lseek(handle, 0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _TAIL_BYTES)
        os.lseek(handle, start, os.SEEK_SET)
        newline = os.read(handle, end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def last_row(path: Path) -> Row:
    """The last whole row of a metrics file, looked for in its last megabytes; empty when there is none."""
    try:
        with path.open("rb") as file:
            stop = file.seek(0, os.SEEK_END)
            n_bytes = _TAIL_BYTES
            while True:
                start = max(0, stop - n_bytes)
                file.seek(start)
                # What follows the last newline is torn, and what precedes the first may be.
                lines = file.read(stop - start).split(b"\n")[1 if start else 0 : -1]
                found = next((row for row in map(row_of, reversed(lines)) if row is not None), None)
                if found is not None or start == 0 or n_bytes > MAX_LINE_BYTES:
                    return found or {}
                n_bytes *= 8
    except OSError:
        return {}


def _not_finite(constant: str) -> None:
    """NaN and infinity are no JSON, and say nothing to a chart."""


# One for all lines: making one takes longer than reading a line.
_DECODER = json.JSONDecoder(parse_constant=_not_finite)


def row_of(line: bytes) -> Row | None:
    """The row in a line, with none in place of what is no figure; None when it is damaged or says no epoch."""
    try:
        row = _DECODER.decode(line.decode())
    except (ValueError, RecursionError):
        return None
    epoch = row.get("epoch") if isinstance(row, dict) else None
    if type(epoch) is not int or not 0 <= epoch < _MOST_EPOCHS:
        return None
    return row if all(map(_is_figure, row.values())) else {k: v if _is_figure(v) else None for k, v in row.items()}


def _is_figure(value: Any) -> bool:
    kind = type(value)
    return (
        (kind is float and math.isfinite(value))
        or value is None
        or kind is dict
        or (kind is int and abs(value) < 2**63)
    )


def finite_number(value: Any) -> float | None:
    """A number of a JSON file as a float; None for what is none, or has no place on an axis."""
    if isinstance(value, bool) or not isinstance(value, float | int):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


@lru_cache(maxsize=1024)
def _better(key: str) -> int:
    """1 for a metric of which more is better, -1 for one of which less is, 0 for what has no best."""
    if key.endswith("loss"):
        return -1
    return 1 if key.endswith(("accuracy", "recall")) else 0
