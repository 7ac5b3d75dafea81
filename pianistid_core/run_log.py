"""A run's log as a terminal would show it, in lines with levels, and why a run failed, in words.

However long a log is, only its end is read, at most `MAX_READ_BYTES`, and then only what is appended.
"""

import logging
import os
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from pianistid_core.names import printable

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
LEVELS: tuple[Level, ...] = ("DEBUG", "INFO", "WARNING", "ERROR")
_LEVEL_OF: dict[str, Level] = {**{level: level for level in LEVELS}, "CRITICAL": "ERROR"}
MAX_READ_BYTES = 4 << 20
MAX_LINE_CHARACTERS = 2000

_STAMPED = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d\S* (DEBUG|INFO|WARNING|ERROR|CRITICAL)\b")
_ANSI = re.compile(r"\x1b(?:\[[0-9;:?<=>]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class LineFormatter(logging.Formatter):
    """Writes records as the log of a run has them: a message is one line, whatever stands in the names that it tells.

    Else the name of a pianist could bring a line of its own, and colours and titles to a terminal that shows the log.
    """

    def __init__(self, *, stamped: bool = True) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s" if stamped else "%(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line of a record, without its traceback."""
        record.message = printable(record.message)
        return super().formatMessage(record)


class LogLine(NamedTuple):
    """One line of a log. A line without a level of its own, as in a traceback, has that of the line it belongs to.

    `number` counts from the first line that was read, which is the file's first unless the log was longer than
    `MAX_READ_BYTES` when it was first looked at; `end` is the byte after the line, from which following can go on.
    """

    number: int
    level: Level
    text: str
    end: int = 0
    belongs: bool = False


class LogFile:
    """One log, followed as it grows; many threads may share one. At most its last `max_bytes` are kept, as lines."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_READ_BYTES) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.bytes_read = 0
        self._lock = threading.Lock()
        self._forget(0)

    def lines(self) -> list[LogLine]:
        """The lines as they are now; reads only what was appended. An unfinished last line counts as well."""
        with self._lock:
            try:
                with self.path.open("rb") as file:
                    torn = self._read(file)
            except OSError:
                self._forget(0)
                torn = []
            return self._lines + torn

    def _forget(self, offset: int) -> None:
        self._lines: list[LogLine] = []
        self._offset = offset
        self._file: tuple[int, int] = (0, 0)

    def _read(self, file: BinaryIO) -> list[LogLine]:
        """Keeps what is whole and new, and gives what is torn."""
        status = os.fstat(file.fileno())
        identity = (status.st_dev, status.st_ino)
        if identity != self._file or status.st_size < self._offset:
            self._forget(0)
        cut = status.st_size - self._offset > self.max_bytes
        if cut:
            self._forget(status.st_size - self.max_bytes)
        self._file = identity
        file.seek(self._offset)
        data = file.read(status.st_size - self._offset)
        self.bytes_read += len(data)
        if cut:  # what precedes the first newline is the end of a line that began before
            begin = data.find(b"\n") + 1
            self._offset += begin
            data = data[begin:]
        whole = data.rfind(b"\n") + 1
        if whole:
            self._lines += _with_levels(data[: whole - 1], self._offset, self._lines[-1:])
            self._offset += whole
            first = self._offset - self.max_bytes
            if self._lines[0].end < first - self.max_bytes // 4:
                self._lines = [line for line in self._lines if line.end >= first]
        rest = data[whole:]
        return _with_levels(rest, self._offset, self._lines[-1:], ended=False) if rest else []


@lru_cache(maxsize=16)
def shared_log_file(path: Path) -> LogFile:
    """The log that everybody in this process shares, so that it is read once for all of them."""
    return LogFile(path)


def _with_levels(data: bytes, start: int, before: Sequence[LogLine], *, ended: bool = True) -> list[LogLine]:
    """Lines from bytes that begin at `start` and have no newline at their end, going on from the line before."""
    lines: list[LogLine] = []
    level: Level = before[0].level if before else "INFO"
    # A line belongs to the last one with a level of its own, if there is one.
    known = bool(before) and (before[0].belongs or _STAMPED.match(before[0].text) is not None)
    first = before[0].number + 1 if before else 1
    pieces = data.split(b"\n")
    for number, piece in enumerate(pieces, start=first):
        start += len(piece) + 1
        text = as_shown(piece.decode(errors="replace"))
        stamped = _STAMPED.match(text) if text[:1].isdigit() else None
        if stamped:
            level = _LEVEL_OF[stamped[1]]
        lines.append(LogLine(number, level, text, start, belongs=known and not stamped))
        known = known or stamped is not None
    if not ended:
        lines[-1] = lines[-1]._replace(end=start - 1)
    return lines


def tail_lines(path: Path, n_lines: int, *, max_bytes: int = 1 << 18) -> list[str]:
    """The last lines of a log as they are shown, from at most its last `max_bytes`."""
    return [line.text for line in LogFile(path, max_bytes=max_bytes).lines()[-n_lines:]] if n_lines > 0 else []


def as_shown(line: str) -> str:
    """A line as a terminal would leave it: carriage returns resolved, colours and control characters left out."""
    text = line
    if not line.isprintable():  # most lines are, and need none of this
        text = _ANSI.sub("", line).rstrip("\r")
        text = _CONTROL.sub("", text.rpartition("\r")[2])
    return text if len(text) <= MAX_LINE_CHARACTERS else text[: MAX_LINE_CHARACTERS - 1] + "…"


def chosen(lines: Iterable[LogLine], level: str | None = None, contains: str = "") -> list[LogLine]:
    """The lines of a level and those more serious, and of these the ones that hold a text, whatever its case.

    A line is found together with all that belongs to it, such as a traceback.
    """
    if level is None and not contains:
        return list(lines)
    lowest = LEVELS.index(next((one for one in LEVELS if one == level), "DEBUG"))
    serious = frozenset(LEVELS[lowest:])
    wanted = contains.casefold()
    found: list[LogLine] = []
    group: list[LogLine] = []
    hit = False
    for line in lines:
        if line.level not in serious:
            continue
        if not line.belongs:
            found += group if hit else []
            group, hit = [], False
        group.append(line)
        hit = hit or wanted in line.text.casefold()
    return found + (group if hit else [])


# --- why a run failed ------------------------------------------------------------------------------------------------

FailureKind = Literal[
    "out of memory", "loss is not a number", "missing file", "disk full", "no access", "killed", "bad data", "other"
]
FAILURE_KINDS: tuple[FailureKind, ...] = (
    "out of memory", "loss is not a number", "missing file", "disk full", "no access", "killed", "bad data", "other",
)  # fmt: skip


@dataclass(frozen=True)
class Failure:
    """Why a run failed: what kind of failure, in words, what to do, and the last lines of its log."""

    kind: FailureKind
    words: str
    hint: str
    last_lines: tuple[str, ...] = ()


# What each kind looks like, in the reason that the trainer gave or in the last lines of its log.
_SIGNS: tuple[tuple[FailureKind, re.Pattern[str]], ...] = (
    ("out of memory", re.compile(r"out of memory|MemoryError|can(?:'t|not) allocate memory|bad_alloc", re.I)),
    ("disk full", re.compile(r"disk is full|No space left on device|Disk quota exceeded|ENOSPC", re.I)),
    ("no access", re.compile(r"Read-only file system|Permission denied", re.I)),
    ("loss is not a number", re.compile(r"the loss is (?:nan|-?inf)|training has diverged", re.I)),
    ("missing file", re.compile(r"a file is missing|FileNotFoundError|No such file or directory", re.I)),
    (
        "bad data",
        re.compile(
            r"no clip of the|no readable .* clips|split '|SplitError|MidiError|DataError|DataRootError|ArchiveError"
            r"|data check|not MIDI|recordings? without clips",
            re.I,
        ),
    ),
)  # fmt: skip
_HINTS: dict[FailureKind, str] = {
    "out of memory": "Lower batch_size or num_workers, or choose a smaller model, and start again.",
    "loss is not a number": "Lower optim_cfg.lr and start again, from the checkpoint before or from nothing.",
    "missing file": "Put the file back, or check the data set with `pianistid data check`, and resume.",
    "disk full": "Free some disk space, for instance by emptying the trash of runs, and resume.",
    "no access": "Give the user who trains access to its folder, and resume.",
    "killed": "Resume to go on from its latest checkpoint.",
    "bad data": "Check the data set on the Data page or with `pianistid data check`, and start again.",
    "other": "The log says more; put right what it names, and resume.",
}


def failure_of(said: str, reason: str, code: int | None, signal_name: str, lines: Sequence[str]) -> Failure:
    """Why a run failed, from the kind that its trainer said, its reason, how its process ended, and its last lines."""
    kind: FailureKind
    known = next((one for one in FAILURE_KINDS if one == said), None)
    if known is not None:
        kind = known
    elif code is not None and code < 0:
        kind = "killed"
    else:
        # The reason counts before the log, whose earlier warnings may be about something else.
        texts = (reason, "\n".join(lines[-5:]))
        kind = next((one for text in texts for one, sign in _SIGNS if sign.search(text)), "other")
    hint = _HINTS[kind]
    if kind == "killed" and "SIGKILL" in signal_name:
        hint = "Most often the system ends a process when memory runs out: lower batch_size or num_workers, and resume."
    return Failure(kind, reason or "it failed without a word", hint, tuple(lines))
