"""Bulk reading: what `read_midi` gives, bit for bit, whatever the files hold, and what pretty_midi gives."""

import io
import logging
import os
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pretty_midi
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pianistid_core import bulk_midi, compiled_midi
from pianistid_core.bulk_midi import BulkReading, read_many, read_many_files
from pianistid_core.errors import MidiError
from pianistid_core.midi import Notes, ReadLimits, read_midi, write_midi
from test_midi import BROKEN, DIRTY
from tiny import make_notes

GOLDEN = Path(__file__).parent / "golden"
FIELDS = ("onsets_s", "offsets_s", "pitches", "velocities")


def same(a: Notes, b: Notes) -> bool:
    """The same arrays, to the last bit."""
    pairs = [(getattr(a, name), getattr(b, name)) for name in FIELDS]
    return all(one.dtype == other.dtype and one.tobytes() == other.tobytes() for one, other in pairs)


def one_by_one(data: bytes, limits: ReadLimits | None = None) -> Notes | str:
    try:
        return read_midi(data, limits=limits or ReadLimits())
    except MidiError as error:
        return str(error)


def check_alike(datas: Sequence[bytes], reading: BulkReading, limits: ReadLimits | None = None) -> None:
    """Every file gave the very notes or the very sentence of `read_midi`."""
    assert len(reading) == len(datas)
    for i, data in enumerate(datas):
        wanted = one_by_one(data, limits)
        if isinstance(wanted, str):
            assert str(reading.errors[i]) == wanted
            with pytest.raises(MidiError):
                reading.notes(i)
            assert not len(reading.packed.notes(i))
        else:
            assert same(reading.notes(i), wanted)


# --- files made up ---------------------------------------------------------------------------------------------------


def variable_length(number: int) -> bytes:
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.append(number & 0x7F | 0x80)
    return bytes(reversed(digits))


def chunk(kind: bytes, body: bytes) -> bytes:
    return kind + len(body).to_bytes(4, "big") + body


channels = st.sampled_from([0, 0, 0, 1, 9, 15])
keys = st.sampled_from([0, 59, 60, 61, 127])
values = st.integers(0, 127)
struck = st.one_of(st.just(0), st.integers(1, 127))
# Each event: its status byte (None for one that no running status may stand for), and what follows.
note_ons = st.builds(lambda channel, key, value: (0x90 | channel, bytes([key, value])), channels, keys, struck)
note_offs = st.builds(lambda channel, key, value: (0x80 | channel, bytes([key, value])), channels, keys, values)
programs = st.builds(lambda channel, value: (0xC0 | channel, bytes([value])), channels, values)
pressures = st.builds(lambda channel, value: (0xD0 | channel, bytes([value])), channels, values)
controls = st.builds(
    lambda kind, channel, value: (kind | channel, bytes([64, value])),
    st.sampled_from([0xA0, 0xB0, 0xE0]),
    channels,
    values,
)
tempos = st.builds(
    lambda tempo: (None, b"\xff\x51\x03" + tempo.to_bytes(3, "big")),
    st.one_of(st.sampled_from([500_000, 430_001]), st.integers(1, 2**24 - 1)),
)
texts = st.builds(lambda text: (None, b"\xff\x01" + variable_length(len(text)) + text), st.binary(max_size=200))
system = st.builds(
    lambda kind, body: (None, bytes([kind]) + variable_length(len(body)) + body),
    st.sampled_from([0xF0, 0xF7]),
    st.binary(max_size=5),
)
real_time = st.sampled_from([(None, b"\xf8"), (None, b"\xfe")])
ends_of_track = st.just((None, b"\xff\x2f\x00"))
events = st.one_of(note_ons, note_ons, note_offs, note_offs, programs, tempos, pressures, controls, texts, system)
deltas = st.sampled_from([0, 0, 1, 7, 127, 128, 480, 20_000])


@st.composite
def tracks(draw: st.DrawFn) -> bytes:
    body, running = b"", None
    for delta, (status, rest), runs in draw(
        st.lists(st.tuples(deltas, st.one_of(events, events, real_time), st.booleans()), max_size=40)
    ):
        body += variable_length(delta)
        if status is not None and not (runs and status == running):
            body += bytes([status])
        body += rest
        if status is not None:
            running = status
        elif rest[0] in (0xF0, 0xF7):
            running = None
    if draw(st.booleans()):
        body += b"\x00\xff\x2f\x00" + draw(st.binary(max_size=3))
    return chunk(b"MTrk", body)


@st.composite
def midi_files(draw: st.DrawFn) -> bytes:
    made = draw(st.lists(tracks(), min_size=1, max_size=4))
    division = draw(st.sampled_from([1, 96, 220, 480, 0x7FFF]))
    header = chunk(
        b"MThd", b"".join(word.to_bytes(2, "big") for word in (draw(st.integers(0, 1)), len(made), division))
    )
    others = draw(st.lists(st.sampled_from([b"", chunk(b"XFIH", b"abc")]), min_size=len(made), max_size=len(made)))
    return header + b"".join(other + track for other, track in zip(others, made, strict=True))


@settings(max_examples=400, deadline=None)
@given(st.lists(midi_files(), min_size=1, max_size=3))
def test_any_well_formed_files_give_the_notes_of_read_midi(datas: list[bytes]) -> None:
    reading = read_many(datas)
    check_alike(datas, reading)
    assert reading.fallbacks == 0


few_keys = st.builds(
    lambda kind, channel, key, value: (kind | channel, bytes([key, value])),
    st.sampled_from([0x80, 0x90, 0x90]),
    st.sampled_from([0, 0, 1]),
    st.sampled_from([60, 61]),
    st.sampled_from([0, 1, 64]),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 0, 1, 5]), st.one_of(few_keys, few_keys, programs)), max_size=25))
def test_keys_struck_again_and_again_give_the_notes_of_read_midi(struck: list[tuple[int, tuple[int, bytes]]]) -> None:
    body = b"".join(variable_length(delta) + bytes([status]) + rest for delta, (status, rest) in struck)
    data = chunk(b"MThd", b"\x00\x00\x00\x01\x01\xe0") + chunk(b"MTrk", body)
    check_alike([data], read_many([data]))


@settings(max_examples=500, deadline=None)
@given(midi_files(), st.data())
def test_any_damage_gives_the_notes_or_the_sentence_of_read_midi(good: bytes, data: st.DataObject) -> None:
    damaged = bytearray(good)
    for _ in range(data.draw(st.integers(0, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    # Between two whole files: what is read beyond the middle one's own bytes would be somebody's notes.
    datas = [good, bytes(damaged), cut, good]
    reading = read_many(datas)
    check_alike(datas, reading)
    assert reading.fallbacks == 0


@given(st.binary(max_size=100))
@example(b"")
@example(b"MThd")
@example(b"MThd\x00\x00\x00\x06\x00\x01\x00\x01\x01\xe0MTrk\xff\xff\xff\xff")
@settings(deadline=None)
def test_any_bytes_give_the_sentence_of_read_midi(data: bytes) -> None:
    check_alike([data], read_many([data]))


# --- files that are there --------------------------------------------------------------------------------------------


def test_golden_dirty_and_broken_files_are_read_alike() -> None:
    datas = [path.read_bytes() for path in sorted(GOLDEN.glob("*.mid"))]
    datas += [*DIRTY.values(), *(data for data, _ in BROKEN.values())]
    assert len(datas) > 40
    reading = read_many(datas)
    check_alike(datas, reading)
    assert reading.fallbacks == 0
    assert len(reading.errors) == len(BROKEN)


def test_a_system_message_ends_running_status_and_a_clock_does_not() -> None:
    note = b"\x00\x90\x3c\x50\x60\x3c\x00"
    datas = [
        chunk(b"MThd", b"\x00\x00\x00\x01\x01\xe0") + chunk(b"MTrk", note + between + b"\x00\x3e\x50\x60\x3e\x00")
        for between in (b"", b"\x00\xf8", b"\x00\xff\x01\x00", b"\x00\xf0\x01\xf7")
    ]
    reading = read_many(datas)
    check_alike(datas, reading)
    assert [len(reading.packed.notes(i)) for i in range(4)] == [2, 2, 2, 0]


def test_hostile_files_are_read_alike(shared: Path) -> None:
    with zipfile.ZipFile(shared / "hostile" / "midi.zip") as archive:
        datas = [archive.read(name) for name in archive.namelist()]
    reading = read_many(datas)
    check_alike(datas, reading)
    assert reading.fallbacks == 0


@pytest.fixture(scope="module")
def jazz20(shared: Path) -> list[bytes]:
    with zipfile.ZipFile(shared / "data" / "jazz20.zip") as archive:
        return [archive.read(name) for name in sorted(archive.namelist()) if name.endswith(".mid")]


def test_all_of_jazz20_is_read_alike(jazz20: list[bytes]) -> None:
    reading = read_many(jazz20)
    assert not reading.errors
    assert reading.fallbacks == 0
    check_alike(jazz20, reading)


def test_jazz20_and_expressive_files_give_the_notes_of_pretty_midi(jazz20: list[bytes], shared: Path) -> None:
    datas = jazz20[::175] + [path.read_bytes() for path in sorted((shared / "data" / "expressive").glob("*.mid"))[::3]]
    reading = read_many(datas)
    for i, data in enumerate(datas):
        file = pretty_midi.PrettyMIDI(io.BytesIO(data))
        notes = [note for instrument in file.instruments if not instrument.is_drum for note in instrument.notes]
        columns = [[getattr(note, name) for note in notes] for name in ("start", "end", "pitch", "velocity")]
        assert same(reading.notes(i), Notes.from_arrays(*columns))


# --- limits, order, memory -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limits",
    [
        ReadLimits(max_bytes=60),
        ReadLimits(max_tracks=2),
        ReadLimits(max_events=5),
        ReadLimits(max_ticks=300),
        ReadLimits(max_duration_s=0.3),
    ],
    ids=str,
)
def test_limits_are_kept_alike(limits: ReadLimits) -> None:
    datas = list(DIRTY.values())
    reading = read_many(datas, limits=limits)
    assert 0 < len(reading.errors) < len(datas)
    check_alike(datas, reading, limits)


def test_files_of_many_batches_stay_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_midi, "_FILES_AT_ONCE", 4)
    datas = [write_midi(make_notes(seed)) for seed in range(11)]
    datas[5] = b"nothing"
    reading = read_many(iter(datas))
    check_alike(datas, reading)
    assert list(reading.errors) == [5]


def test_a_few_files_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_midi(make_notes(1))
    monkeypatch.setattr(bulk_midi, "_BYTES_AT_ONCE", 3 * len(data))
    at_once = []
    real = bulk_midi._compiled_reading

    def watching(kernels: object, datas: Sequence[bytes], limits: ReadLimits) -> BulkReading:
        at_once.append(len(datas))
        return real(kernels, datas, limits)  # type: ignore[arg-type]

    monkeypatch.setattr(bulk_midi, "_compiled_reading", watching)
    read_many(data for _ in range(10))
    assert at_once == [3, 3, 3, 1]


def test_nothing_gives_nothing() -> None:
    reading = read_many([])
    assert len(reading) == 0
    assert len(reading.packed.onsets_s) == 0


def test_a_million_notes_at_once_are_sorted_in_no_time() -> None:
    # A sort that is quadratic on ties would take minutes for these.
    n = 190_000
    body = b"".join(
        b"\x00" + bytes([0x90, key % 128, 64]) if key == 0 else b"\x00" + bytes([key % 128, 64]) for key in range(n)
    )
    body += b"\x60" + b"".join(b"\x00" * (key > 0) + bytes([127 - key, 0]) for key in range(128))
    data = chunk(b"MThd", b"\x00\x00\x00\x01\x01\xe0") + chunk(b"MTrk", body)
    check_alike([data], read_many([data]))


# --- where things are missing ----------------------------------------------------------------------------------------


def test_what_the_compiled_reader_refuses_for_nothing_is_read_and_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    datas = [write_midi(make_notes(seed)) for seed in range(5)] + [b"broken"]

    class Choosy:
        """A reader that refuses the second file and the broken one."""

        REFUSED, BYTES_A_NOTE = compiled_midi.REFUSED, compiled_midi.BYTES_A_NOTE

        @staticmethod
        def read_files(data: np.ndarray, bounds: np.ndarray, *rest: object) -> int:
            data = data.copy()
            data[bounds[1]] = 0
            data.flags.writeable = False  # as it came: what may be written would be compiled for anew
            return compiled_midi.read_files(data, bounds, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(bulk_midi, "_kernels", lambda: Choosy)
    with caplog.at_level(logging.INFO):
        reading = read_many(datas)
    check_alike(datas, reading)
    assert reading.fallbacks == 1
    assert "1 of 6 MIDI files" in caplog.text


@pytest.fixture
def without_numba(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "pianistid_core.compiled_midi", None)
    monkeypatch.delattr("pianistid_core.compiled_midi")
    bulk_midi._kernels.cache_clear()
    yield
    bulk_midi._kernels.cache_clear()


@pytest.mark.usefixtures("without_numba")
def test_without_numba_it_is_the_same_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    datas = [*DIRTY.values(), *(data for data, _ in BROKEN.values())]
    for _ in range(2):
        check_alike(datas, read_many(datas))
    assert caplog.text.count("one by one") == 1


def test_a_few_files_are_read_before_numba_is_loaded(tmp_path: Path) -> None:
    write_midi(make_notes(1), tmp_path / "a.mid")
    code = """
    import sys
    from pathlib import Path
    from pianistid_core.bulk_midi import read_many_files
    path = Path(sys.argv[1])
    print(len(read_many_files([path]).notes(0)), "numba" in sys.modules)
    print(len(read_many_files([path] * 400)), "numba" in sys.modules)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "a.mid")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(len(make_notes(1))), "False", "400", "True"]


def test_a_full_batch_of_the_smallest_files_loads_numba_as_well() -> None:
    data = write_midi(make_notes(1, seconds=4.0))
    assert len(data) * bulk_midi._FILES_AT_ONCE < bulk_midi._WORTH_LOADING_BYTES
    code = """
    import sys
    from pianistid_core import bulk_midi
    data = bytes.fromhex(sys.argv[1])
    for n_files in (bulk_midi._FILES_AT_ONCE - 1, bulk_midi._FILES_AT_ONCE):
        print(len(bulk_midi.read_many([data] * n_files)), "numba" in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), data.hex()], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["511", "False", "512", "True"]


def test_the_errors_of_paths_are_those_of_read_midi(tmp_path: Path) -> None:
    write_midi(make_notes(1), tmp_path / "good.mid")
    (tmp_path / "bad.mid").write_bytes(b"<html>")
    (tmp_path / "folder.mid").mkdir()
    paths = [tmp_path / name for name in ("good.mid", "bad.mid", "folder.mid", "missing.mid", "zero\0byte.mid")]
    reading = read_many_files(paths)
    assert same(reading.notes(0), read_midi(paths[0]))
    for i, path in enumerate(paths[1:], 1):
        with pytest.raises(MidiError) as caught:
            read_midi(path)
        assert str(reading.errors[i]) == str(caught.value)


# --- nothing outside a file's own bytes ------------------------------------------------------------------------------

_BOUNDS_CHECKED = """
import random, sys
from pathlib import Path
from pianistid_core import compiled_midi
from pianistid_core.bulk_midi import read_many

rng = random.Random(1)
files = [path.read_bytes()[:400] for path in sorted(Path(sys.argv[1]).glob("*.mid"))]
datas = []
for _ in range(3000):
    data = bytearray(rng.choice(files))
    for _ in range(rng.randrange(4)):
        data[rng.randrange(len(data))] = rng.choice([0, 0x7F, 0x80, 0xFF, rng.randrange(256)])
    datas.append(bytes(data[: rng.randrange(len(data) + 1)]))
reading = read_many(datas)
print(len(reading), reading.fallbacks)
"""


def test_a_damaged_file_is_not_read_beyond_its_bytes(tmp_path: Path) -> None:
    """Compiled with checks of every index, which raise where plain compiled code would read somebody's memory."""
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_OPT": "0", "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", _BOUNDS_CHECKED, str(GOLDEN)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["3000", "0"]


def test_what_is_over_the_limit_is_refused_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = pytest.importorskip("pianistid_core.compiled_midi")
    sizes: list[int] = []
    read_files = kernels.read_files
    monkeypatch.setattr(kernels, "read_files", lambda data, *rest: sizes.append(len(data)) or read_files(data, *rest))
    good = write_midi(make_notes(1))
    reading = read_many([good, good + bytes(20_000_000), good])
    assert sum(sizes) == 2 * len(good)
    assert "larger than 4 MB" in str(reading.errors[1]) and len(reading.errors) == 1
    assert len(reading.notes(2)) == len(reading.notes(0)) > 0
