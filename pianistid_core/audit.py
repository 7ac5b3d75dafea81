"""The audit log of a data root: who did what, when, about what, from where, and how it ended.

    audit/log.jsonl             one JSON object a line, the latest last
    audit/log.000001.jsonl ...  what came before, by number; the oldest go when there are more than `FILES_KEPT`

It lies beside the runs: in the data root, or in its place in the cache when the root cannot be written. Whoever writes
appends a line by one call, so lines of several processes never mix; a line that a full disk or a power cut has torn
stays alone, and readers pass it over. Nothing that is done fails because its line cannot be written.
"""

import getpass
import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal

from filelock import FileLock, Timeout

from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import PianistIDError
from pianistid_core.masking import masked
from pianistid_core.strict_json import parse_json

log = logging.getLogger(__name__)

Ended = Literal["done", "begun", "refused"]

COMMAND_LINE = "command line"
LAB = "lab"
MOST_BYTES = 5_000_000
FILES_KEPT = 5

_MOST_CHARACTERS = 600
_MOST_DETAILS = 20
_BLOCK = 1 << 16
_OLDER = re.compile(r"log\.(\d{6,12})\.jsonl")
_KNOWN = ("when", "who", "what", "about", "where", "ended", "why")


@dataclass(frozen=True)
class Entry:
    """One line: `when` in UTC to the millisecond, `why` the sentence of a refusal. All text in it is foreign text."""

    when: datetime
    who: str
    what: str
    about: str = ""
    where: str = ""
    ended: str = "done"
    why: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        said = {"when": _moment(self.when), "who": self.who, "what": self.what, "about": self.about}
        return {**said, "where": self.where, "ended": self.ended, "why": self.why, **self.details}


def machine_user() -> str:
    """The user of this machine whose process this is, for what is done without an account."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have a number and no name
        return "somebody at this machine"


def note(
    root: DataRoot,
    who: str,
    what: str,
    about: str = "",
    *,
    where: str = COMMAND_LINE,
    ended: Ended = "done",
    why: str = "",
    **details: object,
) -> None:
    """Appends a line to the audit log of a data root; warns in the log of the program when the disk refuses.

    What is refused makes no data root: a slip in its name leaves nothing behind.
    """
    if ended == "refused" and not root.path.is_dir():
        return
    texts = {"who": who, "what": what, "about": about, "where": where, "ended": ended, "why": why}
    more = {key: value for key, value in list(details.items())[:_MOST_DETAILS] if key not in _KNOWN}
    record: dict[str, Any] = {"when": _moment(datetime.now(UTC)), **{key: _cut(text) for key, text in texts.items()}}
    record |= {key: value if isinstance(value, int | float | None) else _cut(value) for key, value in more.items()}
    line = json.dumps(record).encode() + b"\n"
    try:
        folder = folder_of(root)
        folder.mkdir(parents=True, exist_ok=True)
        _make_room(folder)
        _append(folder / "log.jsonl", line)
    except OSError as error:
        log.warning("the audit log cannot be written (%s): %s %s", error.strerror or error, what, _cut(about))


@contextmanager
def noting(
    root: DataRoot, what: str, about: str = "", *, who: str | None = None, where: str = COMMAND_LINE, **details: Any
) -> Iterator[None]:
    """Writes a line about what is done in the block, once it has ended: done, or refused with the sentence."""
    name = machine_user() if who is None else who
    try:
        yield
    except (PianistIDError, OSError) as error:
        note(root, name, what, about, where=where, ended="refused", why=str(error), **details)
        raise
    note(root, name, what, about, where=where, **details)


def entries(
    root: DataRoot,
    last: int = 200,
    *,
    who: str | None = None,
    what: str | None = None,
    about: str | None = None,
    since: datetime | None = None,
) -> list[Entry]:
    """The latest entries, the latest first: of one person, one kind, with a text in what they are about, or since then.

    Only as much is read from the end as is needed for the `last` ones.
    """
    found: list[Entry] = []
    for line in _lines_from_the_end(folder_of(root)):
        entry = _read(line)
        if entry is None:
            continue
        if len(found) >= last or (since is not None and entry.when < since):
            break
        if who not in (None, entry.who) or what not in (None, entry.what):
            continue
        if about is None or about.casefold() in entry.about.casefold():
            found.append(entry)
    return found


def folder_of(root: DataRoot) -> Path:
    """Where the audit log of a data root lies."""
    return root.checkpoints_dir.parent / "audit"


# --- writing ---------------------------------------------------------------------------------------------------------


def _append(path: Path, line: bytes) -> None:
    """Adds a line by one write. Raises: OSError when the disk takes none of it or only a part."""
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        if size := os.lseek(file, 0, os.SEEK_END):
            os.lseek(file, size - 1, os.SEEK_SET)
            if os.read(file, 1) != b"\n":  # the line before is torn, and must not take this one with it
                line = b"\n" + line
        if os.write(file, line) != len(line):
            raise OSError("only a part of the line fitted on the disk")
        os.fsync(file)
    finally:
        os.close(file)


def _make_room(folder: Path) -> None:
    """Puts a full file aside by one renaming, and removes the oldest; whoever still writes into it loses nothing."""
    current = folder / "log.jsonl"
    if not _is_full(current):
        return
    try:
        with FileLock(folder / "lock", timeout=0):
            if not _is_full(current):
                return
            older = _older(folder)
            number = older[0][0] + 1 if older else 1
            os.rename(current, folder / f"log.{number:06d}.jsonl")
            for _, path in older[FILES_KEPT - 1 :]:
                path.unlink(missing_ok=True)
    except Timeout:
        return  # somebody else does it at this moment


def _is_full(path: Path) -> bool:
    try:
        return path.stat().st_size >= MOST_BYTES
    except FileNotFoundError:
        return False


def _older(folder: Path) -> list[tuple[int, Path]]:
    """The files that were put aside, the latest first."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    found = [(int(match[1]), folder / name) for name in names if (match := _OLDER.fullmatch(name))]
    return sorted(found, reverse=True)


def _cut(text: object) -> str:
    line = masked(str(text))  # before it is cut: half a password is one too
    return line if len(line) <= _MOST_CHARACTERS else line[: _MOST_CHARACTERS - 1] + "…"


def _moment(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- reading ---------------------------------------------------------------------------------------------------------


def _lines_from_the_end(folder: Path) -> Iterator[bytes]:
    """Every line of every file, the latest first; a file put aside meanwhile is not read twice."""
    seen: set[tuple[int, int]] = set()
    # The names of what was put aside are looked up after the current file is open, so that none is missed.
    for path in _from_the_latest(folder):
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                if (status.st_dev, status.st_ino) not in seen:
                    seen.add((status.st_dev, status.st_ino))
                    yield from _backwards(file)
        except OSError:
            continue


def _from_the_latest(folder: Path) -> Iterator[Path]:
    yield folder / "log.jsonl"
    yield from (path for _, path in _older(folder))


def _backwards(file: BinaryIO) -> Iterator[bytes]:
    end = file.seek(0, os.SEEK_END)
    tail = b""
    while end > 0:
        start = max(0, end - _BLOCK)
        file.seek(start)
        first, *whole = (file.read(end - start) + tail).split(b"\n")
        yield from reversed(whole)
        tail, end = first[:_BLOCK], start  # a longer one is no line of this log, and is torn by this
    yield tail


def _read(line: bytes) -> Entry | None:
    """What a line says; None when it is torn, or no line of this log."""
    try:
        said = parse_json(line)
        when = datetime.fromisoformat(said["when"])
        texts = {key: said.get(key, "") for key in _KNOWN[1:]}
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    if when.tzinfo is None or not all(isinstance(text, str) for text in texts.values()):
        return None
    return Entry(when, **texts, details={key: value for key, value in said.items() if key not in _KNOWN})
