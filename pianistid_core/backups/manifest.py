"""The list in a backup: what it is, every file with its length and SHA-256, and the totals, which come last.

It is the last file of the archive, one JSON object a line: first what made it and when, then a line for each file, then
the totals. A backup that was cut off has no end, so it is never taken for a whole one.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from pianistid_core.errors import ArchiveError
from pianistid_core.strict_json import parse_json

FORMAT = 1
_LONGEST_LINE = 64 << 20  # the last one names all runs


@dataclass(frozen=True)
class Entry:
    """One file of a backup: its name there, its bytes, and their SHA-256 in hexadecimal digits."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Contents:
    """What a backup says of itself. `made` is in seconds since 1970; `live` are runs that trained while it was made.

    `version` is of the program that made it. `artifacts` is where its MLflow store kept files, as an address.
    """

    version: str = ""
    made: float | None = None
    runs: tuple[str, ...] = ()
    live: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    artifacts: str = ""
    entries: tuple[Entry, ...] = field(default=(), repr=False)

    @property
    def bytes(self) -> int:
        """The bytes of all files, unpacked."""
        return sum(entry.bytes for entry in self.entries)


def program_version() -> str:
    """The version of this program, as a backup says by what it was made."""
    try:
        return metadata.version("pianistid")
    except metadata.PackageNotFoundError:
        return "not installed"


def written(contents: Contents) -> Iterator[bytes]:
    """The list as bytes, a line at a time."""
    head = {"pianistid_backup": FORMAT, "version": contents.version, "made": contents.made or time.time()}
    yield _line({**head, "artifacts": contents.artifacts})
    for entry in contents.entries:
        yield _line({"name": entry.name, "bytes": entry.bytes, "sha256": entry.sha256})
    names = {"runs": contents.runs, "live": contents.live, "splits": contents.splits}
    yield _line({**names, "files": len(contents.entries), "bytes": contents.bytes})


class Reading:
    """A list of files that is read as it comes, in pieces; `take` is given them, `contents` makes the end of it.

    What is no list is refused at the first line that says so, so that reading one never takes more than a list would.
    Both raise an ArchiveError when it is damaged, cut off, too long, or of a later version of the program.
    """

    def __init__(self, most_files: int) -> None:
        self._most_files = most_files
        self._rest = b""
        self._head: dict[str, Any] = {}
        self._tail: dict[str, Any] = {}
        self._entries: list[Entry] = []

    def take(self, piece: bytes) -> None:
        """Reads the lines that are whole by now."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            raise ArchiveError("its list of files has a line longer than any backup's; it is damaged")
        for line in lines:
            self._read(line)

    def contents(self) -> Contents:
        """What the list says."""
        if self._rest:
            self._read(self._rest)
        head, tail, entries = self._head, self._tail, self._entries
        if not head or not tail:
            raise ArchiveError("its list of files is cut off; copy or make it again")
        if (tail.get("files"), tail.get("bytes")) != (len(entries), sum(entry.bytes for entry in entries)):
            raise ArchiveError("its list of files does not add up to its totals; it is damaged")
        made = head.get("made")
        return Contents(
            version=str(head.get("version", ""))[:80],
            made=float(made) if isinstance(made, int | float) and 0 <= made < 9e9 else None,
            runs=_names(tail, "runs"),
            live=_names(tail, "live"),
            splits=_names(tail, "splits"),
            artifacts=str(head.get("artifacts", "")),
            entries=tuple(entries),
        )

    def _read(self, line: bytes) -> None:
        said = _object(line)
        if not self._head:
            _check_head(said)
            self._head = said
        elif self._tail:
            raise ArchiveError("its list of files goes on after its end; it is damaged")
        elif "name" not in said:
            self._tail = said
        elif len(self._entries) < self._most_files:
            self._entries.append(_entry(said))
        else:
            raise ArchiveError(f"its list names more than {self._most_files:,} files, which no backup has")


def _line(data: dict[str, Any]) -> bytes:
    return json.dumps(data).encode() + b"\n"


def _object(line: bytes) -> dict[str, Any]:
    try:
        said = parse_json(line)
    except ValueError as error:
        raise ArchiveError("its list of files is damaged; copy or make it again") from error
    if not isinstance(said, dict):
        raise ArchiveError("its list of files is damaged; copy or make it again")
    return said


def _check_head(head: dict[str, Any]) -> None:
    format = head.get("pianistid_backup")
    if not isinstance(format, int):
        raise ArchiveError("its list of files is not one of a backup")
    if format != FORMAT:
        version = str(head.get("version", "unknown"))[:40]
        raise ArchiveError(
            f"it was made by another version ({version!a}) in format {format}, and this one reads {FORMAT}; "
            "use the version that made it"
        )


def _entry(said: dict[str, Any]) -> Entry:
    match said:
        case {"name": str(name), "bytes": int(size), "sha256": str(digest)} if size >= 0 and len(digest) == 64:
            return Entry(name, size, digest)
    raise ArchiveError("its list of files is damaged; copy or make it again")


def _names(tail: dict[str, Any], key: str) -> tuple[str, ...]:
    names = tail.get(key)
    return tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else ()
