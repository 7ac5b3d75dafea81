"""MIDI files made to break a reader: cut, lying, endless, huge; and real ones damaged at random.

`cases()` makes them afresh, each with what is to come of it: words of the refusal, or None where it is to be read.
Their numbers (M01 ...) are those of a catalogue of what such files have done to readers.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

ENDLESS = b"\xff" * 1_000_000
END = b"\x00\xff\x2f\x00"
NOTE = b"\x00\x90\x3c\x50\x60\x80\x3c\x00"
LONGEST = b"\xff\xff\xff\x7f"  # the largest number that a file may hold, 268,435,455


@dataclass(frozen=True)
class MidiCase:
    """A file, and words of the sentence that refuses it; None when it holds notes to be read."""

    name: str
    make: Callable[[], bytes]
    refusal: str | None


def header(*, size: int = 6, kind: int = 0, tracks: int = 1, division: int = 480) -> bytes:
    words = (kind, tracks, division)
    return b"MThd" + size.to_bytes(4, "big") + b"".join((word & 0xFFFF).to_bytes(2, "big") for word in words)


def track(body: bytes, *, size: int | None = None) -> bytes:
    return b"MTrk" + (len(body) if size is None else size).to_bytes(4, "big") + body


def file(body: bytes, **fields: int) -> bytes:
    return header(**fields) + track(body)


def meta(kind: int, data: bytes) -> bytes:
    return b"\x00\xff" + bytes([kind]) + number(len(data)) + data


def number(value: int) -> bytes:
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(value & 0x7F | 0x80)
    return bytes(reversed(digits))


def notes(n: int, *, gap: int = 10) -> bytes:
    """n notes, one after the other, each of `gap` ticks."""
    keys = (40 + i % 40 for i in range(n))
    return b"".join(b"\x00\x90" + bytes([key, 80]) + number(gap) + b"\x80" + bytes([key, 0]) for key in keys)


def repeated_tempo(n: int) -> bytes:
    return b"".join(b"\x01\xff\x51\x03" + (300_000 + i).to_bytes(3, "big") for i in range(n))


def _noise(n: int) -> bytes:
    return random.Random(0).randbytes(n)


_WHOLE = file(notes(20) + END)


def cases() -> list[MidiCase]:
    """Some 150 files; the largest has 20 MB, so each is made when it is asked for."""
    return [
        MidiCase(name, (lambda data=data: data) if isinstance(data, bytes) else data, refusal)  # type: ignore[misc]
        for name, data, refusal in (*_cut(), *_foreign(), *_headers(), *_times(), *_events(), *_texts(), *_large())
    ]


_Row = tuple[str, bytes | Callable[[], bytes], str | None]


def _cut() -> Iterator[_Row]:
    yield "M01 empty", b"", "is empty"
    yield "M01 one byte", b"M", "not a MIDI file"
    yield "M01 only MThd", b"MThd", "cut off"
    yield "M01 header only", header(), "cut off"
    yield "M01 header of 13 bytes", header()[:-1], "cut off"
    yield "M01 last byte missing", _WHOLE[:-1], "cut off"
    for share in range(1, 10):
        yield f"M01 cut at {share}0 %", _WHOLE[: len(_WHOLE) * share // 10], "cut off"
    yield "M01 cut in a delta time", file(b"\x00\x90\x3c\x50\x81"), "cut off"
    yield "M01 cut after a status", file(b"\x00\x90"), "cut off"
    yield "M01 cut in a meta length", file(NOTE + b"\x00\xff\x01\x81"), "cut off"


def _foreign() -> Iterator[_Row]:
    foreign = {
        "HTML": b"<!doctype html><html><body>404</body></html>",
        "zip": b"PK\x03\x04" + bytes(100),
        "RIFF": b"RIFF\x20\x00\x00\x00RMIDdata" + _WHOLE,
        "UTF-16 mark": b"\xff\xfe" + _WHOLE,
        "UTF-8 mark": b"\xef\xbb\xbf" + _WHOLE,
        "blank line first": b"\r\n" + _WHOLE,
        "lower case": b"mthd" + _WHOLE[4:],
        "zeros": bytes(1_000_000),
        "noise": _noise(1_000_000),
        "MTrk only": _WHOLE[14:],
        "wave": b"RIFF\xff\xff\xff\x7fWAVEfmt ",
    }
    for name, data in foreign.items():
        yield f"M02 {name}", data, "not a MIDI file"
    yield "M02 MThd and noise", b"MThd" + _noise(100_000), "header claims"
    yield "M02 a header and noise", header() + _noise(100_000), "cut off"


def _headers() -> Iterator[_Row]:
    yield "M03 header of 4 GB", header(size=2**32 - 1) + track(NOTE), "header claims"
    yield "M03 header of 5 bytes", header(size=5) + track(NOTE), "header claims"
    yield "M03 header of 8 bytes", header(size=8) + b"\0\0" + track(NOTE), None
    yield "M04 no tracks", header(tracks=0), "no note"
    yield "M04 no tracks declared, one there", file(NOTE, tracks=0), "no note"
    yield "M04 65,535 tracks", header(kind=1, tracks=65_535) + track(NOTE), "tracks"
    yield "M04 empty track", file(b""), "no note"
    yield "M05 32,767 tracks declared, one there", header(kind=1, tracks=32_767) + track(NOTE), "tracks"
    yield "M05 256 tracks declared, one there", header(kind=1, tracks=256) + track(NOTE), "cut off"
    yield "M06 fewer tracks declared than there", header(kind=1) + track(END) + track(NOTE), "no note"
    yield "M07 track longer than the file", header() + track(NOTE, size=len(NOTE) + 1), "cut off"
    yield "M07 track of 4 GB", header() + track(NOTE, size=2**32 - 1), "cut off"
    yield "M07 track too short", header() + track(NOTE, size=len(NOTE) - 1), "past the end"
    yield "M07 track of 0 bytes with notes in it", header() + track(NOTE, size=0), "no note"
    yield "M08 unknown chunk between", header() + b"XFIH\0\0\0\4abcd" + track(NOTE), None
    yield "M08 unknown chunk of 4 GB", header() + b"XFIH\xff\xff\xff\xff" + track(NOTE), "cut off"
    yield "M08 500,000 empty chunks", lambda: header() + b"XFIH\0\0\0\0" * 499_000 + track(NOTE), None
    yield "M09 division 0", file(NOTE, division=0), "0 ticks"
    yield "M09 tempo 0", file(meta(0x51, bytes(3)) + NOTE), "tempo"
    yield "M09 tempo 0 later", file(NOTE + meta(0x51, bytes(3)) + NOTE), "tempo"
    for frames in (24, 25, 29, 30):
        yield f"M10 SMPTE of {frames} frames", file(NOTE, division=((256 - frames) << 8) | 40), "SMPTE"
    yield "M10 division -1", file(NOTE, division=-1), "SMPTE"
    yield "M30 format 2", file(NOTE, kind=2), "format 2"
    yield "M30 format 9", file(NOTE, kind=9), "format 9"
    yield "M30 format 65,535", file(NOTE, kind=65_535), "format 65535"
    yield "M30 format 0 with two tracks", header(tracks=2) + track(END) + track(NOTE), None


def _times() -> Iterator[_Row]:
    def later(delta: bytes, **fields: int) -> bytes:
        return file(b"\x00\x90\x3c\x50" + delta + b"\x80\x3c\x00", **fields)

    yield "M15 9.99 million ticks", later(number(9_990_000), division=32_767), None
    yield "M15 9.99 million ticks at 480", later(number(9_990_000)), None
    yield "M16 11 million ticks", later(number(11_000_000)), "over the limit"
    yield "M16 the largest delta", later(LONGEST), "over the limit"
    yield "M16 the largest delta, 100,000 times", lambda: file((LONGEST + b"\xb0\x40\x40") * 100_000), "over the limit"
    yield "M16 a delta of 10 bytes", later(b"\x80" * 9 + b"\x01"), "longer than four"
    yield "M16 a delta of 4 bytes that is 1", later(b"\x80\x80\x80\x01"), None
    for size in (5, 100_000, 1_000_000, 3_900_000):
        yield f"M17 a delta of {size} bytes", (lambda size=size: file(b"\xff" * size)), "longer than four"  # type: ignore[misc]
    yield "M17 a length of 1 MB", file(b"\x00\xff\x01" + ENDLESS), "longer than four"
    yield "M17 a sysex length of 1 MB", file(b"\x00\xf0" + ENDLESS), "longer than four"
    yield "M18 five years", later(number(9_900_000), division=1), "hours"
    yield (
        "M18 five years, slowest tempo",
        file(meta(0x51, b"\xff\xff\xff") + b"\x00\x90\x3c\x50" + number(9_000_000) + b"\x80\x3c\x00", division=1),
        "hours",
    )
    yield "M18 a note of four hours", later(number(2 * 4 * 3600), division=1), None
    yield "M18 a minute over four hours", later(number(2 * (4 * 3600 + 60)), division=1), "hours"
    yield (
        "M19 tempo of a microsecond",
        file(meta(0x51, b"\0\0\1") + b"\x00\x90\x3c\x50" + number(9_900_000) + b"\x80\x3c\x00", division=1),
        None,
    )
    yield "M20 slowest tempo", file(meta(0x51, b"\xff\xff\xff") + NOTE), None
    yield "M20 every tempo event the slowest", lambda: file(meta(0x51, b"\xff\xff\xff") * 50_000 + NOTE), None


def _events() -> Iterator[_Row]:
    for size in (0, 1, 2, 4, 127):
        yield f"M11 tempo of {size} bytes", file(meta(0x51, b"\1" * size) + NOTE), "tempo"
    short = {0x58: "time signature", 0x59: "key signature", 0x54: "SMPTE offset", 0x00: "sequence number"}
    for kind, name in short.items():
        yield f"M11 short {name}", file(meta(kind, b"\1") + NOTE), None
    yield "M12 SMPTE offset of no rate", file(meta(0x54, b"\xff" * 5) + NOTE), None
    yield "M13 99 sharps", file(meta(0x59, b"\x63\x07") + NOTE), None
    yield "M14 time signature 0/4", file(meta(0x58, b"\0\2\x18\x08") + NOTE), None
    yield "M14 time signature 4/2^255", file(meta(0x58, b"\4\xff\x18\x08") + NOTE), None
    yield "M21 notes that never end", file(b"\x00\x90\x3c\x50" * 20), "no note"
    yield "M21 ends that never began", file(b"\x00\x80\x3c\x50" * 20), "no note"
    yield "M21 notes of no length", file(b"\x00\x90\x3c\x50\x00\x80\x3c\x00" * 20), "no note"
    yield "M22 two begun, one end", file(b"\x00\x90\x3c\x50" + NOTE), None
    yield "M22 100,000 begun, one end", lambda: file(b"\x01\x90\x3c\x50" * 100_000 + b"\x01\x80\x3c\x00"), None
    yield "M23 running status with none before", file(b"\x00\x3c\x50"), "must begin"
    yield "M23 running status after sysex", file(b"\x00\x90\x3c\x50\x00\xf0\x01\xf7\x60\x3c\x00"), "must begin"
    yield "M24 running status after meta", file(b"\x00\x90\x3c\x50" + meta(1, b"x") + b"\x60\x3c\x00"), None
    for status, name in (
        (0x90, "a note"),
        (0x80, "an end"),
        (0xA0, "pressure"),
        (0xB0, "a controller"),
        (0xE0, "bend"),
    ):
        yield f"M25 {name} over 127", file(NOTE + bytes([0, status, 0x80, 0x40])), "over 127"
        yield f"M25 the second value of {name} over 127", file(NOTE + bytes([0, status, 0x40, 0xFF])), "over 127"
    yield "M25 a program over 127", file(NOTE + b"\x00\xc0\x80"), "over 127"
    for status in range(0xF1, 0xF7):
        yield f"M26 status {status:X}", file(NOTE + bytes([0, status])), "no MIDI file may hold"
    for status in range(0xF8, 0xFF):
        yield f"M26 status {status:X}", file(NOTE + bytes([0, status])), None
    yield "M27 sysex of 268 million bytes", file(NOTE + b"\x00\xf0" + LONGEST), "runs past"
    yield "M27 meta of 268 million bytes", file(NOTE + b"\x00\xff\x01" + LONGEST), "runs past"
    yield (
        "M27 meta longer than its track, another follows",
        header(kind=1, tracks=2) + track(NOTE + b"\x00\xff\x01\x20") + track(NOTE * 9),
        "runs past",
    )
    yield "M31 no end of track", file(NOTE), None
    yield "M31 notes after the end of track", file(NOTE + END + b"\x00\x90\x3c" * 9), None
    yield "M31 trailing noise", file(NOTE) + _noise(1000), None
    yield "M32 no notes", file(END), "no note"
    yield "M32 drums only", file(b"\x00\x99\x24\x50\x60\x89\x24\x00"), "drum"
    yield "M32 tempo on track 2", header(kind=1, tracks=2) + track(NOTE) + track(meta(0x51, b"\0\0\1")), None
    yield "M36 trailing line end", file(NOTE) + b"\r\n", None
    at_once = b"".join(b"\x00\x90" + bytes([key, 80]) for key in range(128))
    yield (
        "M36 128 notes at once",
        file(at_once + b"\x60\x80\x00\x00" + b"".join(b"\x00\x80" + bytes([key, 0]) for key in range(1, 128))),
        None,
    )
    yield "M36 a stuck pedal", file(b"\x00\xb0\x40\x7f" + NOTE * 50), None
    yield (
        "M36 all 16 channels, all programs",
        file(
            b"".join(
                bytes([0, 0xC0 | i % 16, i % 128, 0, 0x90 | i % 16, 60, 80, 9, 0x80 | i % 16, 60, 0])
                for i in range(2048)
            )
        ),
        None,
    )


def _texts() -> Iterator[_Row]:
    names = {
        "script": b"<script>alert(1)</script>",
        "bad UTF-8": b"\xff\xfe\x80",
        "NUL": b"a\0b",
        "right-to-left": "\u202egnp.exe".encode(),
        "escape signs": b"\x1b[2J\x1b]0;x\x07",
    }
    for name, text in names.items():
        yield f"M29 {name} for a name", file(meta(3, text) + NOTE), None
    yield "M28 1 MB of text", lambda: file(meta(1, b"x" * 1_000_000) + NOTE), None
    yield "M28 20 times 1 MB of text", lambda: file(meta(1, b"x" * 1_000_000) * 20 + NOTE), "larger than"
    yield "M28 900,000 empty texts", lambda: file(b"\x00\xff\x01\x00" * 900_000 + NOTE), "more events"
    yield "M28 400,000 empty sysex", lambda: file(b"\x00\xf0\x00" * 399_990 + NOTE), None


def _large() -> Iterator[_Row]:
    yield "M33 32,767 tracks", lambda: header(kind=1, tracks=32_767) + track(NOTE) * 32_767, "tracks"
    yield "M33 256 tracks", lambda: header(kind=1, tracks=256) + track(NOTE * 700) * 256, None
    yield "M34 a million notes", lambda: file(notes(1_000_000)), "larger than"
    yield "M34 200,000 notes", lambda: file(notes(199_999)), None
    yield "M34 200,000 notes in 4 hours", lambda: file(notes(199_000, gap=50), division=480), None
    yield "M34 a million notes at once", lambda: file(b"\x00\x90\x3c\x50" + b"\x00\x3c\x50" * 1_300_000), "more events"
    yield (
        "M34 399,999 notes begun at once, ended once",
        (lambda: file(b"\x00\x90\x3c\x50" + b"\x00\x3c\x50" * 399_998 + b"\x01\x3c\x00")),
        None,
    )
    yield (
        "M34 struck again on the tick of every end",
        lambda: file(b"\x00\x90\x3c\x50" + (b"\x00\x3c\x50" * 200 + b"\x01\x3c\x50\x00\x3c\x00") * 1_900),
        None,
    )
    yield "M34 20 MB of notes", lambda: file(NOTE * 2_500_000), "larger than"
    yield "M34 400,000 ends of nothing", lambda: file(b"\x00\x80\x3c\x00" + b"\x00\x3c\x00" * 399_990 + NOTE), None
    yield "M35 a million bends", lambda: file(b"\x00\xe0\x00\x40" + b"\x00\x00\x40" * 1_000_000 + NOTE), "more events"
    yield "M35 390,000 bends", lambda: file(b"\x00\xe0\x00\x40" + b"\x00\x00\x40" * 390_000 + NOTE), None
    yield "M35 500,000 tempo changes", lambda: file(repeated_tempo(500_000) + NOTE), "more events"
    yield "M35 390,000 tempo changes", lambda: file(repeated_tempo(390_000) + NOTE), None
    yield (
        "M35 130,000 tempo changes and 130,000 notes",
        lambda: file(
            b"".join(
                b"\x01\xff\x51\x03" + (300_000 + i).to_bytes(3, "big") + b"\x00\x90\x3c\x50\x01\x80\x3c\x00"
                for i in range(130_000)
            )
        ),
        None,
    )


def damaged(whole: Sequence[bytes], rng: random.Random) -> bytes:
    """A real file with one to eight wounds: bits and bytes changed, pieces cut out, doubled, or taken from another."""
    data = bytearray(rng.choice(whole))
    for _ in range(rng.randint(1, 8)):
        _WOUNDS[rng.randrange(len(_WOUNDS))](data, whole, rng)
    return bytes(data)


def _flip(data: bytearray, whole: Sequence[bytes], rng: random.Random) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _change(data: bytearray, whole: Sequence[bytes], rng: random.Random) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0x90, 0xF0, 0xFF, rng.randrange(256)))


def _truncate(data: bytearray, whole: Sequence[bytes], rng: random.Random) -> None:
    del data[rng.randint(0, len(data)) :]


def _cut_out(data: bytearray, whole: Sequence[bytes], rng: random.Random) -> None:
    start = rng.randint(0, len(data))
    del data[start : start + rng.randint(1, 64)]


def _double(data: bytearray, whole: Sequence[bytes], rng: random.Random) -> None:
    start = rng.randint(0, len(data))
    data[start:start] = data[start : start + rng.randint(1, 200)] * rng.randint(1, 20)


def _splice(data: bytearray, whole: Sequence[bytes], rng: random.Random) -> None:
    other, start = rng.choice(whole), rng.randint(0, len(data))
    at = rng.randint(0, len(other))
    data[start : start + rng.randint(0, 300)] = other[at : at + rng.randint(1, 600)]


def _lie(data: bytearray, whole: Sequence[bytes], rng: random.Random) -> None:
    """One of the lengths, counts and divisions of the header and the first track."""
    start, size = rng.choice(((4, 4), (8, 2), (10, 2), (12, 2), (18, 4)))
    data[start : start + size] = rng.choice((0, 1, 2, 255, 32_767, 2**31, 2**32 - 1)).to_bytes(4, "big")[-size:]


_WOUNDS = (_flip, _flip, _change, _change, _truncate, _cut_out, _double, _splice, _lie)
