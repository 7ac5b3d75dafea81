"""Reading MIDI: the same notes as pretty_midi, one clear sentence for every file that cannot be read."""

import contextlib
import io
import random
import time
import zipfile
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pretty_midi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostile_midi import MidiCase, cases, damaged
from pianistid_core.bulk_midi import read_many
from pianistid_core.errors import InvalidNotesError, MidiError
from pianistid_core.midi import Notes, ReadLimits, augment, key_name, read_midi, split_into_clips, write_midi
from tiny import make_notes

GOLDEN = Path(__file__).parent / "golden"
FIELDS = ("onsets_s", "offsets_s", "pitches", "velocities")


def by_pretty_midi(data: bytes) -> Notes:
    file = pretty_midi.PrettyMIDI(io.BytesIO(data))
    notes = [note for instrument in file.instruments if not instrument.is_drum for note in instrument.notes]
    columns = [[getattr(note, name) for note in notes] for name in ("start", "end", "pitch", "velocity")]
    return Notes.from_arrays(*columns)


def same(a: Notes, b: Notes) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in FIELDS)


def midi_bytes(*tracks: list[mido.Message], kind: int = 1) -> bytes:
    buffer = io.BytesIO()
    mido.MidiFile(type=kind, ticks_per_beat=480, tracks=[mido.MidiTrack(track) for track in tracks]).save(file=buffer)
    return buffer.getvalue()


def on(key: int, time: int = 0, *, channel: int = 0, velocity: int = 80) -> mido.Message:
    return mido.Message("note_on", note=key, velocity=velocity, time=time, channel=channel)


def off(key: int, time: int = 0, *, channel: int = 0) -> mido.Message:
    return mido.Message("note_off", note=key, time=time, channel=channel)


def tempo(microseconds: int, time: int = 0) -> mido.MetaMessage:
    return mido.MetaMessage("set_tempo", tempo=microseconds, time=time)


def program(number: int, time: int = 0) -> mido.Message:
    return mido.Message("program_change", program=number, time=time)


DIRTY = {
    "several tracks": midi_bytes([tempo(400_000)], [on(60), off(60, 100)], [on(72, 50), off(72, 90)]),
    "several programs on one track": midi_bytes([program(0), on(60), off(60, 9), program(24), on(64), off(64, 9)]),
    "a program change during a note": midi_bytes([on(60), program(5, 10), off(60, 10), on(62), off(62, 10)]),
    "tempo changes": midi_bytes([tempo(500_000), tempo(250_000, 333), tempo(700_001, 7)], [on(60, 200), off(60, 400)]),
    "repeated tempo": midi_bytes([tempo(400_000), tempo(400_000, 100)], [on(60, 50), off(60, 400)]),
    "tempo in another track": midi_bytes([on(60, 10), off(60, 480)], [tempo(100_000, 5)]),
    "format 0": midi_bytes([tempo(600_000), on(60), off(60, 480)], kind=0),
    "one key struck twice, ended once": midi_bytes([on(60), on(60, 100), off(60, 100)]),
    "struck again on the tick of its end": midi_bytes([on(60), on(60, 100), off(60), off(60, 50)]),
    "a note of no length": midi_bytes([on(60), off(60), on(62), off(62, 10)]),
    "a note without an end": midi_bytes([on(60), on(62), off(62, 10)]),
    "an end without a note": midi_bytes([off(60), on(62), off(62, 10)]),
    "drums beside a piano": midi_bytes([on(36, channel=9), off(36, 10, channel=9), on(60), off(60, 10)]),
    "a held pedal": midi_bytes(
        [mido.Message("control_change", control=64, value=127), on(60), off(60, 48), on(64), off(64, 48)]
    ),
}


@pytest.mark.parametrize("name", DIRTY)
def test_dirty_files_give_the_notes_of_pretty_midi(name: str) -> None:
    notes = read_midi(DIRTY[name])
    assert len(notes) > 0
    assert same(notes, by_pretty_midi(DIRTY[name]))


def test_golden_files_give_the_notes_of_pretty_midi() -> None:
    for path in GOLDEN.glob("*.mid"):
        assert same(read_midi(path), by_pretty_midi(path.read_bytes())), path.name


def test_real_files_give_the_notes_of_pretty_midi(shared: Path) -> None:
    for path in sorted((shared / "data" / "expressive").glob("*.mid"))[::6]:
        assert same(read_midi(path), by_pretty_midi(path.read_bytes())), path.name
    with zipfile.ZipFile(shared / "data" / "jazz20.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".mid"))
        for name in names[::350]:
            data = archive.read(name)
            assert same(read_midi(data), by_pretty_midi(data)), name


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 300), st.booleans(), st.integers(0, 2), st.integers(58, 61), st.integers(1, 127)),
        min_size=1,
        max_size=60,
    )
)
def test_any_order_of_events_gives_the_notes_of_pretty_midi(events: list[tuple[int, bool, int, int, int]]) -> None:
    track = [
        on(key, time, channel=channel, velocity=velocity) if is_on else off(key, time, channel=channel)
        for time, is_on, channel, key, velocity in events
    ]
    data = midi_bytes([tempo(430_001)], track)
    expected = by_pretty_midi(data)
    if len(expected):
        assert same(read_midi(data), expected)
    else:
        with pytest.raises(MidiError, match="no note"):
            read_midi(data)


def header(*, size: int = 6, kind: int = 0, tracks: int = 1, division: int = 480) -> bytes:
    words = (kind, tracks, division)
    return b"MThd" + size.to_bytes(4, "big") + b"".join((word & 0xFFFF).to_bytes(2, "big") for word in words)


def track(body: bytes) -> bytes:
    return b"MTrk" + len(body).to_bytes(4, "big") + body


NOTE = b"\x00\x90\x3c\x50\x60\x80\x3c\x00"
BROKEN = {
    "empty": (b"", "the file is empty"),
    "not MIDI": (b"<html></html>", "not a MIDI file"),
    "cut in its header": (b"MThd\x00\x00", "cut off"),
    "a header of 4 GB": (header(size=2**32 - 1), "header claims"),
    "format 2": (header(kind=2) + track(NOTE), "format 2"),
    "SMPTE time": (header(division=-6360) + track(NOTE), "SMPTE"),
    "no time base": (header(division=0) + track(NOTE), "0 ticks"),
    "too many tracks": (header(tracks=30_000), "tracks"),
    "a missing track": (header(tracks=2, kind=1) + track(NOTE), "cut off"),
    "a track cut short": ((header() + track(NOTE))[:-3], "cut off"),
    "data where an event must begin": (header() + track(b"\x00\x3c\x50"), "must begin"),
    "a number over 127": (header() + track(b"\x00\x90\x3c\xc8"), "over 127"),
    "an undefined status": (header() + track(b"\x00\xf4"), "0xF4"),
    "an endless delta time": (header() + track(b"\xff" * 1_000_000), "longer than four bytes"),
    "a tempo of zero": (header() + track(b"\x00\xff\x51\x03\x00\x00\x00" + NOTE), "tempo"),
    "a text longer than its track": (header() + track(b"\x00\xff\x01\x7fabc"), "runs past"),
    "no notes": (header() + track(b"\x00\xff\x2f\x00"), "no note"),
    "drums only": (header() + track(b"\x00\x99\x24\x50\x60\x89\x24\x00"), "drum"),
    "years of silence": (header(division=1) + track(b"\x00\x90\x3c\x50\x84\x80\x80\x00\x80\x3c\x00"), "hours"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused_with_a_reason(name: str) -> None:
    data, reason = BROKEN[name]
    with pytest.raises(MidiError, match=reason) as caught:
        read_midi(data)
    assert "\n" not in str(caught.value)


QUICK = [case for case in cases() if not case.name.startswith(("M33", "M34", "M35", "M28 900", "M28 400"))]


@pytest.mark.parametrize("case", QUICK, ids=[case.name for case in QUICK])
def test_hostile_files_made_here_are_read_or_refused_for_what_they_are(case: MidiCase) -> None:
    data, began = case.make(), time.process_time()
    if case.refusal is None:
        assert len(read_midi(data)) > 0
    else:
        with pytest.raises(MidiError) as caught:
            read_midi(data)
        said = str(caught.value)
        assert case.refusal in said and said.isprintable() and len(said) < 300
    assert time.process_time() - began < 10


def test_real_files_damaged_at_random_are_read_alike_by_both_readers_or_refused() -> None:
    pytest.importorskip("pianistid_core.compiled_midi")
    whole = [path.read_bytes() for path in GOLDEN.glob("*.mid")]
    files = [damaged(whole, random.Random(seed)) for seed in range(300)]
    reading = read_many(files)
    assert reading.fallbacks == 0 and 30 < len(reading.errors) < 300
    for number, data in enumerate(files):
        try:
            notes = read_midi(data)
        except MidiError as error:
            assert str(reading.errors[number]) == str(error)
        else:
            assert same(notes, reading.notes(number))


def test_hostile_files_are_read_or_refused(shared: Path) -> None:
    with zipfile.ZipFile(shared / "hostile" / "midi.zip") as archive:
        for name in archive.namelist():
            try:
                assert len(read_midi(archive.read(name))) > 0
            except MidiError as error:
                assert len(str(error)) > 20


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_file_is_read_or_refused(data: st.DataObject) -> None:
    good = bytearray(DIRTY["tempo changes"])
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MidiError):
        read_midi(bytes(good[: data.draw(st.integers(0, len(good)))]))


def test_a_file_larger_than_the_limits_is_refused() -> None:
    data = DIRTY["several tracks"]
    for limits in (ReadLimits(max_bytes=10), ReadLimits(max_events=2), ReadLimits(max_tracks=2)):
        with pytest.raises(MidiError):
            read_midi(data, limits=limits)


def test_the_message_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "broken.mid").write_bytes(b"nothing")
    with pytest.raises(MidiError, match=r"broken\.mid"):
        read_midi(tmp_path / "broken.mid")
    with pytest.raises(MidiError, match=r"missing\.mid"):
        read_midi(tmp_path / "missing.mid")


def test_bytes_in_any_form_and_open_files_are_read(tmp_path: Path) -> None:
    notes = make_notes(1)
    data = write_midi(notes, tmp_path / "notes.mid")
    wanted = read_midi(data)
    for source in (bytearray(data), memoryview(data), io.BytesIO(data), str(tmp_path / "notes.mid")):
        assert same(read_midi(source), wanted)
    with (tmp_path / "notes.mid").open("rb") as file:
        assert same(read_midi(file), wanted)


def test_an_open_file_is_read_no_further_than_the_limit() -> None:
    file = io.BytesIO(bytes(1000))
    with pytest.raises(MidiError, match="larger"):
        read_midi(file, limits=ReadLimits(max_bytes=10))
    assert file.tell() == 11


def test_what_is_no_source_of_midi_is_refused(tmp_path: Path) -> None:
    closed = io.BytesIO()
    closed.close()
    for source, reason in (
        ("solo\0.mid", "cannot open"),
        (3, "int came"),
        (io.StringIO("MThd"), "binary"),
        (closed, "closed"),
    ):
        with pytest.raises(MidiError, match=reason):
            read_midi(source)  # type: ignore[arg-type]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    notes = make_notes(1)
    data = write_midi(notes, tmp_path / "notes.mid")
    again = read_midi(tmp_path / "notes.mid")
    assert data == write_midi(notes)
    assert len(again) == len(notes)
    assert np.abs(again.onsets_s - notes.onsets_s).max() < 0.001
    assert sorted(again.pitches) == sorted(notes.pitches)


def by_mido(notes: Notes) -> bytes:
    """The same file, by mido's writer."""
    starts = np.round(notes.onsets_s * 960).astype(int)
    ends = np.maximum(np.round(notes.offsets_s * 960).astype(int), starts + 1)
    events = [
        (tick, 1, key, velocity) for tick, key, velocity in zip(starts, notes.pitches, notes.velocities, strict=True)
    ]
    events += [(tick, 0, key, 0) for tick, key in zip(ends, notes.pitches, strict=True)]
    track, now = [tempo(500_000)], 0
    for tick, _, key, velocity in sorted((int(a), b, int(c), int(d)) for a, b, c, d in events):
        track.append(on(key, tick - now, velocity=velocity))
        now = tick
    return midi_bytes(track, kind=0)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 3000), st.floats(0, 200), st.integers(0, 127), st.integers(0, 127)), max_size=30)
)
def test_what_is_written_is_what_mido_writes(notes: list[tuple[float, float, int, int]]) -> None:
    made = Notes.from_arrays(
        *([(start, start + length, key, loud)[i] for start, length, key, loud in notes] for i in range(4))
    )
    assert write_midi(made) == by_mido(made)


def test_what_no_file_can_hold_is_not_written() -> None:
    times_s = np.array([0.0])
    with pytest.raises(InvalidNotesError, match="over 127"):
        write_midi(Notes(times_s, times_s + 1, np.array([128], np.uint8), np.array([64], np.uint8)))


@given(st.floats(0.1, 400.0))
@settings(max_examples=40, deadline=None)
def test_clips_hop_by_30_s_and_keep_30_s_more(length_s: float) -> None:
    onsets = np.arange(0.0, length_s, 0.5)
    notes = Notes.from_arrays(onsets, onsets + 0.1, np.full(len(onsets), 60), np.full(len(onsets), 64))
    clips = split_into_clips(notes)
    assert len(clips) == max(1, int(notes.duration_s // 30))
    for number, clip in enumerate(clips):
        expected = [onset - 30.0 * number for onset in onsets if 30 * number <= onset < 30 * number + 60]
        assert np.allclose(clip.onsets_s, expected)


def test_augmentation_moves_notes_as_documented() -> None:
    notes = make_notes(2)
    rng = np.random.default_rng(0)
    steps, stretches, shifts = set(), [], set()
    for _ in range(300):
        other = augment(notes, rng)
        steps |= set((other.pitches.astype(int) - notes.pitches).tolist())
        stretches.append(other.duration_s / notes.duration_s)
        shifts |= set((other.velocities.astype(int) - notes.velocities).tolist())
    assert steps == set(range(-6, 6))
    assert 0.8 <= min(stretches) < 0.82 and 1.18 < max(stretches) <= 1.2
    assert shifts == set(range(-12, 12))


def test_velocities_stay_in_range() -> None:
    quiet = Notes.from_arrays([0.0, 1.0], [0.5, 1.5], [60, 62], [1, 127])
    for seed in range(30):
        other = augment(quiet, np.random.default_rng(seed))
        assert other.velocities.max() <= 127


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        (([0.0], [1.0], [60], [1, 2]), "equally long"),
        (([0.0], [np.nan], [60], [64]), "finite"),
        (([1.0], [0.5], [60], [64]), "end before"),
        (([-1.0], [0.5], [60], [64]), "0 s or later"),
        (([0.0], [0.5], [200], [64]), "pitch"),
        (([0.0], [0.5], [60], [-1]), "velocity"),
        ((["a"], [0.5], [60], [1]), "numbers"),
        (([0.0], [0.5], [np.nan], [64]), "whole"),
        (([0.0], [0.5], [60.7], [64]), "whole"),
        (([0.0], [0.5], ["C4"], [64]), "whole"),
        (([0.0], [0.5], [60], [None]), "whole"),
        (([0.0], [0.5], [10**30], [64]), "whole"),
        (([0.0], [0.5], [np.inf], [64]), "pitch"),
    ],
)
def test_contradictory_notes_are_refused(arrays: tuple[list[float], ...], reason: str) -> None:
    with pytest.raises(InvalidNotesError, match=reason):
        Notes.from_arrays(*arrays)
    with pytest.raises(InvalidNotesError, match=reason):
        Notes(*arrays)  # type: ignore[arg-type]


def test_the_constructor_makes_of_lists_what_from_arrays_makes() -> None:
    lists: tuple[Any, ...] = ([2.0, 1.0], [3, 4], [60.0, 64.0], (80, 90))
    notes = Notes(*lists)
    assert same(notes, Notes.from_arrays(*lists))
    assert notes.onsets_s.tolist() == [1, 2] and notes.pitches.tolist() == [64, 60]
    assert (notes.onsets_s.dtype, notes.pitches.dtype) == (np.float64, np.uint8)


def test_arrays_of_the_right_kind_are_taken_as_they_are_but_not_of_different_lengths() -> None:
    made = make_notes(1)
    arrays = [getattr(made, field) for field in FIELDS]
    notes = Notes(*arrays)
    assert all(getattr(notes, field) is array for field, array in zip(FIELDS, arrays, strict=True))
    with pytest.raises(InvalidNotesError, match="equally long"):
        Notes(*arrays[:3], arrays[3][:-1])
    with pytest.raises(InvalidNotesError, match="flat"):
        Notes(*(array[np.newaxis] for array in arrays))


def test_keys_have_names() -> None:
    assert [key_name(pitch) for pitch in (21, 60, 61, 108)] == ["A0", "C4", "C♯4", "C8"]
