"""Zips made to escape, explode or lie; `cases()` makes them, with words of what refuses each, or None where it is read.

Their numbers (Z01 ...) are those of a catalogue of what such archives have done to readers.
"""

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

NOTE = bytes.fromhex("4d546864000000060000000101e04d54726b0000000d00903c508300803c0000ff2f00")


@dataclass(frozen=True)
class ZipCase:
    """The bytes of a file, and words of the sentence that refuses it; None when something in it is imported."""

    name: str
    make: Callable[[], bytes]
    refusal: str | None


@dataclass(frozen=True)
class Member:
    """A file in a zip, and what the zip is to say of it where that is not the truth."""

    name: str | bytes
    data: bytes = NOTE
    method: int = zipfile.ZIP_DEFLATED
    mode: int = stat.S_IFREG | 0o644
    size: int | None = None
    packed_size: int | None = None
    crc: int | None = None
    flags: int = 0
    offset: int | None = None


def packed(members: Sequence[Member], *, count: int | None = None) -> bytes:
    """A zip, written here: Python's writer lies about nothing."""
    body, directory = b"", b""
    for member in members:
        name = member.name if isinstance(member.name, bytes) else member.name.encode()
        content = zlib.compress(member.data, 9)[2:-4] if member.method == zipfile.ZIP_DEFLATED else member.data
        size = len(member.data) if member.size is None else member.size
        packed_size = len(content) if member.packed_size is None else member.packed_size
        crc = zlib.crc32(member.data) if member.crc is None else member.crc
        shared = (20, member.flags | (0 if isinstance(member.name, bytes) else 0x800), member.method, 0, 0x21)
        sizes, offset = (crc, packed_size, size), len(body) if member.offset is None else member.offset
        body += struct.pack("<4s5H3L2H", b"PK\3\4", *shared, *sizes, len(name), 0) + name + content
        fields = (*sizes, len(name), 0, 0, 0, 0, member.mode << 16, offset)
        directory += struct.pack("<4s6H3L5H2L", b"PK\1\2", 0x314, *shared, *fields) + name
    n = len(members) if count is None else count
    return body + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, n, n, len(directory), len(body), 0)


_Row = tuple[str, Callable[[], bytes], str | None]


def cases() -> list[ZipCase]:
    """Some 60 files."""
    return [ZipCase(*row) for part in (_names(), _bombs(), _lies(), _broken(), _harmless()) for row in part]


def _of(*members: Member, **options: int) -> Callable[[], bytes]:
    return lambda: packed(members, **options)  # type: ignore[arg-type]


def _names() -> Iterator[_Row]:
    outside = (
        "../../x.mid", "/etc/x.mid", "Ada/../../x.mid", "..", "C:\\x.mid", "C:/x.mid", "..\\x.mid",
        "\\\\host\\share\\x.mid", "//host/x.mid", "Ada/./x.mid", "Ada//x.mid", "\\x.mid",
    )  # fmt: skip
    for name in outside:
        yield f"Z01 {name}", _of(Member(name), Member("Ada/a.mid")), "could lead outside"
    yield "Z01 NUL in a name", _of(Member(b"Ada/a\0b.mid")), "could lead outside"
    kinds = {"a link": stat.S_IFLNK, "a pipe": stat.S_IFIFO, "a device": stat.S_IFCHR, "a disk": stat.S_IFBLK}
    for name, kind in kinds.items():
        yield f"Z02 {name}", _of(Member("Ada/a.mid", b"/etc/passwd", mode=kind | 0o777)), "link or a device"
    yield "Z02 a socket", _of(Member("Ada/a.mid", mode=stat.S_IFSOCK | 0o777)), "link or a device"
    yield "Z11 a name twice", _of(Member("Ada/a.mid"), Member("Ada/a.mid")), "more than once"
    yield "Z11 one name as a file and as a folder", _of(Member("Ada"), Member("Ada/a.mid")), None
    yield "Z11 names that differ in case", _of(Member("Ada/a.mid"), Member("ada/A.MID"), Member("Ben/b.mid")), None
    strange = (
        "\n",
        "\x1b[2J",
        "\u202egnp",
        "<script>",
        "-rf",
        "x" * 300,
        "CON",
        "nul.",
        " ",
        "%2e%2e",
        "é",
        "e\u0301",
        "💥",
    )
    yield "Z11 strange names", _of(*(Member(f"A{name}/b{name}{i}.mid") for i, name in enumerate(strange))), None
    yield "Z11 names in no encoding", _of(Member(b"Ada\xff/\xfe.mid"), Member(b"Ben\x80/b.mid")), None
    yield "Z11 a name of 60,000 characters", _of(Member("Ada/" + "x" * 60_000 + ".mid")), None
    yield "Z11 30,000 folders in each other", _of(Member("a/" * 30_000 + "x.mid")), None
    yield (
        "Z12 hidden files",
        _of(Member("__MACOSX/Ada/._a.mid"), Member("Ada/.DS_Store"), Member("Ada/Thumbs.db"), Member("Ada/a.mid")),
        None,
    )
    yield "Z12 nothing but hidden files", _of(Member("__MACOSX/Ada/._a.mid"), Member("Ada/.a.mid")), "nothing in"


def _bombs() -> Iterator[_Row]:
    yield "Z03 1 GB by its word", _of(Member("Ada/a.mid", bytes(1_000_000), size=1 << 30)), "over 200 times"
    yield "Z03 3 MB of zeros", _of(Member("Ada/a.mid", bytes(3_000_000))), "over 200 times"
    yield "Z03 9 GB in all", _of(*(Member(f"Ada/{i}.mid", size=3 << 30) for i in range(3))), "claim 9.7 GB"
    yield "Z03 a bomb that is no MIDI file", _of(Member("Ada/a.txt", bytes(50_000_000)), Member("Ada/a.mid")), None
    yield "Z03 more bytes than it says", _of(Member("Ada/a.mid", NOTE + bytes(900_000), size=len(NOTE))), ""
    for method, name in ((zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "LZMA")):
        yield f"Z04 {name}", (lambda method=method: _by_python(method)), "only stored and deflated"  # type: ignore[misc]
    for method in (1, 6, 9, 93, 95, 98, 99):
        yield f"Z09 method {method}", _of(Member("Ada/a.mid", method=method)), "only stored and deflated"
    yield "Z09 encrypted", _of(Member("Ada/a.mid", flags=1)), "encrypted"
    yield "Z07 200,000 members", lambda: _many(200_000), "more than 100000"
    yield "Z08 a zip in a zip", _of(Member("Ada/more.zip", packed([Member("x.mid")])), Member("Ada/a.mid")), None
    yield "Z08 100 zips in a zip", _of(*(Member(f"Ada/{i}.zip") for i in range(100))), "nothing in"


def _by_python(method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as made:
        made.writestr("Ada/a.mid", bytes(2_000_000))
    return buffer.getvalue()


def _many(n: int) -> bytes:
    one = packed([Member("a", b"")])
    start = one.index(b"PK\1\2")
    entry = one[start : one.index(b"PK\5\6")]
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(entry) * n, start, 0)
    return one[:start] + entry * n + end


def _lies() -> Iterator[_Row]:
    yield "Z05 two members in one place", _of(Member("Ada/a.mid"), Member("Ada/b.mid", offset=0)), "overlaps"
    yield "Z05 100 members in one place", _of(*(Member(f"Ada/{i}.mid", offset=0) for i in range(100))), "overlaps"
    yield (
        "Z05 a member inside another",
        _of(Member("Ada/a.mid", packed([Member("x.mid")]), 0), Member("b/b.mid", offset=40)),
        "overlaps",
    )
    yield "Z06 smaller than it says", _of(Member("Ada/a.mid", size=len(NOTE) + 1)), ""
    yield "Z06 larger than it says", _of(Member("Ada/a.mid", size=len(NOTE) - 1)), ""
    yield "Z06 of no size", _of(Member("Ada/a.mid", size=0)), ""
    yield "Z06 of 4 GB", _of(Member("Ada/a.mid", size=2**32 - 1)), ""
    yield "Z14 packed to 4 GB", _of(Member("Ada/a.mid", packed_size=2**32 - 1)), ""
    yield "Z14 packed to 2 GB", _of(Member("Ada/a.mid", packed_size=2**31, size=2**31)), "overlaps"
    yield "Z14 a place beyond the end", _of(Member("Ada/a.mid", offset=2**31)), ""
    yield "Z14 large-archive record that lies", _large_record, ""
    yield "Z07 a count that lies", _of(Member("Ada/a.mid"), Member("Ada/b.mid"), count=60_000), None
    yield "Z10 a false check sum", _of(Member("Ada/a.mid", crc=1)), "is broken"


def _large_record() -> bytes:
    whole = packed([Member("Ada/a.mid")])
    end = whole.index(b"PK\5\6")
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 2**40, 2**40, 2**50, 0)
    return whole[:end] + record + struct.pack("<4sLQL", b"PK\6\7", 0, end, 1) + whole[end:]


def _broken() -> Iterator[_Row]:
    whole = packed([Member("Ada/a.mid"), Member("Ben/b.mid", NOTE * 30)])
    yield "Z10 empty", lambda: b"", "is empty"
    yield "Z10 no zip", lambda: b"hello", "not a zip"
    yield "Z10 no members", lambda: packed([]), "nothing in it"
    for share in (10, 50, 90, 99):
        yield f"Z10 cut at {share} %", (lambda share=share: whole[: len(whole) * share // 100]), "cut off"  # type: ignore[misc]
    yield (
        "Z10 data that is not deflated",
        _of(Member("Ada/a.mid", method=0, flags=0), Member("b/b.mid", b"\xff" * 50, 0)),
        None,
    )
    yield "Z10 a directory of noise", lambda: whole.replace(b"PK\1\2", b"PK\x09\x09"), ""
    yield "Z10 something before it", lambda: b"#!/bin/sh\n" * 50 + whole, None


def _harmless() -> Iterator[_Row]:
    good = [Member(f"Ada/{i}.mid") for i in range(500)] + [Member(f"Ben/{i}.mid") for i in range(500)]
    yield "Z13 one damaged among 1,000", _of(*good[:700], Member("Ada/bad.mid", b"MThd nothing"), *good[700:]), None
    yield (
        "Z13 a MIDI file of 5 MB",
        _of(Member("Ada/big.mid", bytes(range(256)) * 20_000, 0), Member("Ada/a.mid")),
        None,
    )
