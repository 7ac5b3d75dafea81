"""Reading files from a zip or a folder that nobody vouches for.

A zip is checked whole before anything in it is read: how many members it has, what they are called, how they are
packed, that none lies inside another, and how much the MIDI files in it claim to unpack to. Members are then read one
at a time in pieces, never more than was asked for, and their names are only ever text: what is written, and where, is
for the caller to decide. Hidden and system files are left out and counted; archives in the archive are left out and
named.
"""

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from pianistid_core.errors import ArchiveError, ImportSourceError

__all__ = [
    "DEFAULT_LIMITS",
    "MIDI_SUFFIXES",
    "ArchiveLimits",
    "FolderSource",
    "Skipped",
    "Source",
    "ZipSource",
    "is_left_out",
    "open_source",
    "read_file",
    "shown",
]

MIDI_SUFFIXES = frozenset({".mid", ".midi"})

_NESTED_SUFFIXES = frozenset({".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".xz", ".zip", ".zst"})
_JUNK_NAMES = frozenset({"__macosx", "thumbs.db", "desktop.ini", "$recycle.bin"})
_CHUNK_BYTES = 1 << 18
_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, RuntimeError, OverflowError)

_PACKINGS = {9: "deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard"}
_ENCRYPTED_FLAG = 0x1
_END_RECORD = struct.Struct("<4s4H2LH")
_END_RECORD_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64_BYTES = 20
_DIRECTORY_ENTRY_BYTES = 46
_LOCAL_HEADER_BYTES = 30


@dataclass(frozen=True)
class ArchiveLimits:
    """How much an archive may claim before it is refused; the paper's has some tens of thousands of clips of 2 kB.

    `max_total_bytes`, `max_ratio` (unpacked to packed, for files over `ratio_from_bytes`) concern its MIDI files.
    """

    max_members: int = 100_000
    max_directory_bytes: int = 64 << 20
    max_total_bytes: int = 8 << 30
    max_ratio: float = 200.0
    ratio_from_bytes: int = 1 << 20


DEFAULT_LIMITS = ArchiveLimits()


@dataclass(frozen=True)
class Skipped:
    """Something that was left out, and why; signs that a terminal would obey are escaped in both."""

    name: str
    reason: str

    def __post_init__(self) -> None:
        for field in ("name", "reason"):
            text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in getattr(self, field))
            object.__setattr__(self, field, text)


class Source(Protocol):
    """Files to import from, by relative names with forward slashes, sorted."""

    @property
    def path(self) -> Path: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def skipped(self) -> tuple[Skipped, ...]: ...

    @property
    def n_hidden(self) -> int: ...

    def size(self, name: str) -> int: ...

    def read(self, name: str, max_bytes: int) -> bytes: ...

    def copy(self, name: str, target: Path, max_bytes: int) -> None: ...

    def close(self) -> None: ...


def open_source(path: Path, limits: ArchiveLimits = DEFAULT_LIMITS, *, without: Path | None = None) -> Source:
    """Opens a folder (leaving out the folder `without`) or a zip; close it after use.

    Raises: ArchiveError when a zip is broken or not safe; ImportSourceError when there is nothing to open.
    """
    if path.is_dir():
        return FolderSource(path, without)
    if not path.exists():
        raise ImportSourceError(f"{path} does not exist; name a zip, a folder or a CSV to import")
    if not path.is_file():
        raise ImportSourceError(f"{path} is neither a file nor a folder; name a zip, a folder or a CSV to import")
    return ZipSource(path, limits)


class FolderSource:
    """The files under a folder; links to folders are not followed."""

    def __init__(self, path: Path, without: Path | None = None) -> None:
        self.path = path
        names: list[str] = []
        skipped: list[Skipped] = []
        self.n_hidden = 0
        for folder, subfolders, files in os.walk(path, onerror=_cannot_list):
            within = PurePosixPath(Path(folder).relative_to(path).as_posix())
            self.n_hidden += sum(_is_junk(name) for name in (*files, *subfolders))
            subfolders[:] = [name for name in subfolders if not _is_junk(name) and Path(folder, name) != without]
            for file in files:
                name = (within / file).as_posix()
                if _is_junk(file):
                    continue
                if PurePosixPath(file).suffix.lower() in _NESTED_SUFFIXES:
                    skipped.append(Skipped(name, "an archive in the folder; import it by itself"))
                else:
                    names.append(name)
        self.names = tuple(sorted(names))
        self.skipped = tuple(skipped)

    def size(self, name: str) -> int:
        """Bytes of a file; 0 when it cannot be looked at."""
        try:
            return (self.path / name).stat().st_size
        except OSError:
            return 0

    def read(self, name: str, max_bytes: int) -> bytes:
        """The whole of a file of at most `max_bytes`. Raises: ImportSourceError."""
        return read_file(self.path / name, max_bytes)

    def copy(self, name: str, target: Path, max_bytes: int) -> None:
        """Copies a file of at most `max_bytes` to `target`. Raises: ImportSourceError; OSError from the target."""
        with open(target, "wb") as output, _opened(self.path / name, max_bytes) as file:
            while piece := file.read(_CHUNK_BYTES):
                output.write(piece)

    def close(self) -> None:
        """Does nothing: a folder is not held open."""


def read_file(path: Path, max_bytes: int) -> bytes:
    """The whole of a regular file of at most `max_bytes`. Raises: ImportSourceError that says why it cannot be read."""
    with _opened(path, max_bytes) as file:
        return file.read(max_bytes)


@contextmanager
def _opened(path: Path, max_bytes: int) -> Iterator[BinaryIO]:
    try:
        status = path.stat()
        # A pipe or a device would never end.
        if not stat.S_ISREG(status.st_mode):
            raise ImportSourceError("not a regular file")
        if status.st_size > max_bytes:
            raise ImportSourceError(f"larger than {max_bytes / 1e6:g} MB")
        file = open(path, "rb")  # noqa: SIM115
    except (OSError, ValueError) as error:
        raise ImportSourceError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    with file:
        yield file


class ZipSource:
    """The files in a zip that has passed every check; see the module's docstring."""

    def __init__(self, path: Path, limits: ArchiveLimits = DEFAULT_LIMITS) -> None:
        self.path = path
        self._limits = limits
        with _refusing(path):
            _check_directory(path, limits)
            self._zip = zipfile.ZipFile(path)
        try:
            with _refusing(path):
                self._prepare()
        except ArchiveError:
            self._zip.close()
            raise

    def _prepare(self) -> None:
        members = self._zip.infolist()
        _check_members(members, self._limits)
        self._ends = _member_ends(members, self._zip.start_dir)
        files = [member for member in members if not member.is_dir()]
        kept = [member for member in files if not any(_is_junk(part) for part in member.filename.split("/"))]
        self.n_hidden = len(files) - len(kept)
        nested = [member for member in kept if _suffix(member) in _NESTED_SUFFIXES]
        self.skipped = tuple(
            Skipped(member.filename, "an archive in the archive; unpack it and import it by itself")
            for member in nested
        )
        for member in kept:
            _check_packing(member)
        self._members = {member.filename: member for member in kept if _suffix(member) not in _NESTED_SUFFIXES}
        self.names = tuple(sorted(self._members))
        _check_sizes([member for member in self._members.values() if _suffix(member) in MIDI_SUFFIXES], self._limits)

    def size(self, name: str) -> int:
        """Bytes that a member claims to unpack to."""
        return self._members[name].file_size

    def read(self, name: str, max_bytes: int) -> bytes:
        """The whole of a member. Raises: ImportSourceError when it is over `max_bytes`; ArchiveError when broken."""
        pieces: list[bytes] = []
        self.stream(name, max_bytes, pieces.append)
        return b"".join(pieces)

    def copy(self, name: str, target: Path, max_bytes: int) -> None:
        """Unpacks a member to `target`. Raises: as `read`; OSError from the target."""
        with open(target, "wb") as output:
            self.stream(name, max_bytes, output.write)

    def close(self) -> None:
        """Closes the file."""
        self._zip.close()

    def stream(self, name: str, max_bytes: int, write: Callable[[bytes], object]) -> None:
        """Gives a member to `write`, piece by piece. Raises: as `read`; whatever `write` raises."""
        member = self._members[name]
        if member.file_size > max_bytes:
            raise ImportSourceError(f"larger than {max_bytes / 1e6:g} MB")
        with _refusing(self.path, name):
            self._check_extent(member)
            packed = self._zip.open(member)
        unpacked = 0
        with closing(packed):
            while True:
                with _refusing(self.path, name):
                    piece = packed.read(_CHUNK_BYTES)
                if not piece:
                    break
                unpacked += len(piece)
                write(piece)
        if unpacked != member.file_size:
            raise ArchiveError(_refusal(self.path, f"{shown(name)} claims {member.file_size} bytes and has {unpacked}"))

    def _check_extent(self, member: zipfile.ZipInfo) -> None:
        """The member's own header may be longer than the directory says; its data must still end before the next."""
        with open(self.path, "rb") as file:
            file.seek(member.header_offset)
            header = file.read(_LOCAL_HEADER_BYTES)
        if len(header) < _LOCAL_HEADER_BYTES:
            raise zipfile.BadZipFile("a header is cut off")
        name_bytes, extra_bytes = struct.unpack("<2H", header[26:30])
        start = member.header_offset + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes
        if start + member.compress_size > self._ends[member.header_offset]:
            raise _Unsafe(f"{shown(member.filename)} overlaps what follows it")


class _Unsafe(Exception):
    """Why an archive is refused; `_refusing` turns it into the ArchiveError that names the archive."""


@contextmanager
def _refusing(path: Path, name: str | None = None) -> Iterator[None]:
    """Turns whatever zipfile raises into one ArchiveError that names the archive."""
    try:
        yield
    except _Unsafe as error:
        raise ArchiveError(_refusal(path, str(error))) from error
    except OSError as error:
        raise ArchiveError(f"archive {path.name!r} cannot be read: {error.strerror or error}") from error
    except (*_BROKEN, NotImplementedError) as error:
        where = f" at {shown(name)}" if name else ""
        why = str(error) or type(error).__name__
        raise ArchiveError(f"archive {path.name!r} is broken{where} ({why}): download or zip it again") from error


def _refusal(path: Path, why: str) -> str:
    return f"archive {path.name!r} is refused: {why}; nothing was imported from it"


def shown(name: str) -> str:
    """A foreign name as it may stand in a message: quoted, escaped, short."""
    escaped = ascii(name)
    return escaped if len(escaped) <= 80 else f"{escaped[:60]}...{escaped[-16:]}"


def _check_directory(path: Path, limits: ArchiveLimits) -> None:
    """Counts the members before zipfile makes an object of each, whatever the end record claims their number is."""
    size = path.stat().st_size
    if size == 0:
        raise _Unsafe("the file is empty")
    with open(path, "rb") as file:
        file.seek(max(0, size - _END_RECORD.size - 0xFFFF))
        tail = file.read()
        at = tail.rfind(b"PK\5\6")
        if at < 0 or len(tail) - at < _END_RECORD.size:
            raise _Unsafe("it is not a zip, or is cut off")
        directory_bytes = _END_RECORD.unpack_from(tail, at)[5]
        end = size - len(tail) + at
        end_64 = end - _LOCATOR_64_BYTES - _END_RECORD_64.size
        if end_64 >= 0:
            file.seek(end_64)
            record = file.read(_END_RECORD_64.size)
            if record[:4] == b"PK\6\6":
                directory_bytes, end = _END_RECORD_64.unpack(record)[8], end_64
        if directory_bytes > min(limits.max_directory_bytes, end):
            raise _Unsafe(f"its directory of members claims {directory_bytes / 1e6:.1f} MB")
        file.seek(end - directory_bytes)
        directory = file.read(directory_bytes)
    members = position = 0
    while position + _DIRECTORY_ENTRY_BYTES <= len(directory):
        lengths = struct.unpack_from("<3H", directory, position + 28)
        position += _DIRECTORY_ENTRY_BYTES + sum(lengths)
        members += 1
        if members > limits.max_members:
            raise _Unsafe(f"it has more than {limits.max_members} members")
    if members == 0:
        raise _Unsafe("there is nothing in it")


def _check_members(members: list[zipfile.ZipInfo], limits: ArchiveLimits) -> None:
    if len(members) > limits.max_members:
        raise _Unsafe(f"it has {len(members)} members, more than {limits.max_members}")
    seen: set[str] = set()
    for member in members:
        _check_name(member)
        if member.filename in seen:
            raise _Unsafe(f"{shown(member.filename)} is in it more than once")
        seen.add(member.filename)
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _Unsafe(f"{shown(member.filename)} is a link or a device, not a file")


def _check_name(member: zipfile.ZipInfo) -> None:
    name = member.orig_filename
    parts = name.removesuffix("/").split("/")
    if "\\" in name or "\0" in name or name[1:2] == ":" or any(part in ("", ".", "..") for part in parts):
        raise _Unsafe(f"the name {shown(name)} could lead outside the folder it is unpacked in")


def _check_packing(member: zipfile.ZipInfo) -> None:
    if member.flag_bits & _ENCRYPTED_FLAG:
        raise _Unsafe(f"{shown(member.filename)} is encrypted; zip it without a password")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        kind = _PACKINGS.get(member.compress_type, f"method {member.compress_type}")
        raise _Unsafe(f"{shown(member.filename)} is packed with {kind}; only stored and deflated members are read")


def _check_sizes(members: list[zipfile.ZipInfo], limits: ArchiveLimits) -> None:
    total = sum(member.file_size for member in members)
    if total > limits.max_total_bytes:
        raise _Unsafe(f"its MIDI files claim {total / 1e9:.1f} GB, over {limits.max_total_bytes / 1e9:.1f} GB")
    for member in members:
        ratio = member.file_size / max(member.compress_size, 1)
        if member.file_size > limits.ratio_from_bytes and ratio > limits.max_ratio:
            raise _Unsafe(
                f"{shown(member.filename)} claims to unpack {member.compress_size} bytes to {member.file_size}, "
                f"over {limits.max_ratio:g} times"
            )


def _member_ends(members: list[zipfile.ZipInfo], directory_start: int) -> dict[int, int]:
    """For each member's offset, where the next one (or the directory) begins."""
    ordered = sorted(members, key=lambda member: member.header_offset)
    offsets = [member.header_offset for member in ordered] + [directory_start]
    for member, end in zip(ordered, offsets[1:], strict=True):
        least = _LOCAL_HEADER_BYTES + member.compress_size
        if member.header_offset < 0 or member.header_offset + least > end:
            raise _Unsafe(f"{shown(member.filename)} overlaps what follows it")
    return dict(pairwise(offsets))


def _suffix(member: zipfile.ZipInfo) -> str:
    return PurePosixPath(member.filename).suffix.lower()


def is_left_out(name: str) -> bool:
    """Whether a file of that name, with forward slashes, is hidden, the system's, or an archive in the archive."""
    parts = PurePosixPath(name).parts
    return any(map(_is_junk, parts)) or PurePosixPath(name).suffix.lower() in _NESTED_SUFFIXES


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name.lower() in _JUNK_NAMES


def _cannot_list(error: OSError) -> None:
    raise ImportSourceError(f"cannot list {error.filename}: {error.strerror}") from error
