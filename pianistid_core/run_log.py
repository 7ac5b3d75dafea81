"""A run's log as a terminal would show it, in lines with levels, and why a run failed, in words.

However long a log is, only its end is read: at most `MAX_READ_BYTES` at a time.
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
LEVELS: tuple[Level, ...] = ("DEBUG", "INFO", "WARNING", "ERROR")
_LEVEL_OF: dict[str, Level] = {**{level: level for level in LEVELS}, "CRITICAL": "ERROR"}
MAX_READ_BYTES = 4 << 20
MAX_LINE_CHARACTERS = 2000

_STAMPED = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d\S* (DEBUG|INFO|WARNING|ERROR|CRITICAL)\b")
_ANSI = re.compile(r"\x1b(?:\[[0-9;:?<=>]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class LogLine(NamedTuple):
    """One line of a log. A line without a level of its own, as in a traceback, has that of the line it belongs to.

    `number` counts from the first line that was read, which is the file's first unless the log is longer than
    `MAX_READ_BYTES`; `end` is the byte after the line, from which reading can go on.
    """

    number: int
    level: Level
    text: str
    end: int = 0
    belongs: bool = False


def read_lines(path: Path, after: int = 0, *, max_bytes: int = MAX_READ_BYTES) -> list[LogLine]:
    """The lines that begin at byte `after` or later, at most the last `max_bytes`; an unfinished line counts as well.

    A log that is shorter than `after` was begun anew, and is read from its beginning.
    """
    try:
        with path.open("rb") as file:
            stop = file.seek(0, os.SEEK_END)
            start = after if 0 < after <= stop else 0
            cut = stop - start > max_bytes
            start = stop - max_bytes if cut else start
            file.seek(start)
            data = file.read(stop - start)
    except OSError:
        return []
    if cut:
        start += data.find(b"\n") + 1
        data = data[data.find(b"\n") + 1 :]
    return _with_levels(data, start)


def _with_levels(data: bytes, start: int) -> list[LogLine]:
    lines: list[LogLine] = []
    level: Level = "INFO"
    known = False
    pieces = data.split(b"\n")
    for number, piece in enumerate(pieces, start=1):
        start += len(piece) + 1
        if number == len(pieces):
            start -= 1
            if not piece:
                break
        text = as_shown(piece.decode(errors="replace"))
        stamped = _STAMPED.match(text) if text[:1].isdigit() else None
        if stamped:
            level = _LEVEL_OF[stamped[1]]
        lines.append(LogLine(number, level, text, start, belongs=known and not stamped))
        known = known or stamped is not None
    return lines


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
    "out of memory", "loss is not a number", "missing file", "disk full", "killed", "bad data", "other"
]
FAILURE_KINDS: tuple[FailureKind, ...] = (
    "out of memory", "loss is not a number", "missing file", "disk full", "killed", "bad data", "other",
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
