"""The note cache: exact, reused, rebuilt when contents change, whole whatever happens to it."""

import os
import pickle
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pianistid_core.bulk_midi import BulkReading
from pianistid_core.datasets import building
from pianistid_core.datasets import cache as cache_module
from pianistid_core.datasets.cache import NoteCache, open_note_cache
from pianistid_core.datasets.root import DataRoot, Split, SplitEntry, write_split
from pianistid_core.errors import DataRootError, SplitError
from pianistid_core.midi import Notes, read_midi, write_midi

TRACKS = {"jtd/a": 0, "jtd/b": 1, "pijama/c": 1}


def melody(seed: int, n: int = 40) -> Notes:
    rng = np.random.default_rng(seed)
    onsets_s = np.sort(rng.uniform(0, 28, n))
    return Notes.from_arrays(onsets_s, onsets_s + 0.5, rng.integers(30, 100, n), rng.integers(1, 127, n))


def age(root: DataRoot) -> None:
    """Makes every clip an hour older; its change time, which nobody can set, is settled by `settle`."""
    for path in root.clips_dir.rglob("*.mid"):
        status = path.stat()
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - 3_600_000_000_000))


@pytest.fixture
def settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as old enough to be known by their times at once."""
    monkeypatch.setattr(building, "_SETTLED_NS", -1_000_000_000)


@pytest.fixture
def root(tmp_path: Path) -> DataRoot:
    root = DataRoot(tmp_path / "root")
    for number, track in enumerate(TRACKS):
        folder = root.clips_dir / track
        folder.mkdir(parents=True)
        for clip in range(number + 1):
            write_midi(melody(10 * number + clip), folder / f"clip_{clip:03}.mid")
    entries = tuple(SplitEntry(track, label, 60.0) for track, label in TRACKS.items())
    write_split(root, Split("mine", ("Ann", "Bob"), {"train": entries, "test": entries[:1]}))
    return root


def clip(root: DataRoot, name: str = "jtd/b/clip_001.mid") -> Path:
    return root.clips_dir / name


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many files have been parsed since the last call."""
    calls: list[bytes] = []
    real = building.read_many

    def counting(datas: Iterable[bytes]) -> BulkReading:
        taken = list(datas)
        calls.extend(taken)
        return real(taken)

    def count() -> int:
        number = len(calls)
        calls.clear()
        return number

    monkeypatch.setattr(building, "read_many", counting)
    return count


class TestContents:
    def test_are_what_the_files_hold(self, root: DataRoot) -> None:
        cache = open_note_cache(root, "mine", "train")
        assert len(cache) == 6
        assert cache.clip_names[:3] == ("jtd/a/clip_000.mid", "jtd/b/clip_000.mid", "jtd/b/clip_001.mid")
        for i, name in enumerate(cache.clip_names):
            expected, notes = read_midi(clip(root, name)), cache.notes(i)
            for field in ("onsets_s", "offsets_s", "pitches", "velocities"):
                have, want = getattr(notes, field), getattr(expected, field)
                assert have.dtype == want.dtype
                assert have.tobytes() == want.tobytes()
        assert cache.labels.tolist() == [0, 1, 1, 1, 1, 1]
        assert cache.recording_ids.tolist() == [0, 1, 1, 2, 2, 2]
        assert [cache.recordings[i] for i in (0, 1, 2)] == list(TRACKS)
        assert [cache.source_names[i] for i in cache.sources] == ["jtd"] * 3 + ["pijama"] * 3
        assert cache.class_names == ("Ann", "Bob")
        assert cache.labels.dtype == cache.sources.dtype == cache.recording_ids.dtype == np.int64

    def test_sources_have_the_same_number_in_every_part(self, root: DataRoot) -> None:
        entries = tuple(SplitEntry(track, label, 60.0) for track, label in TRACKS.items())
        write_split(root, Split("apart", ("Ann", "Bob"), {"train": entries[:2], "test": entries[2:]}))
        train, test = (open_note_cache(root, "apart", part) for part in ("train", "test"))
        assert train.source_names == test.source_names == ("jtd", "pijama")
        assert (set(train.sources.tolist()), set(test.sources.tolist())) == ({0}, {1})

    @pytest.mark.usefixtures("settle")
    def test_a_new_source_in_another_part_renumbers(self, root: DataRoot) -> None:
        entries = tuple(SplitEntry(track, label, 60.0) for track, label in TRACKS.items())
        write_split(root, Split("apart", ("Ann", "Bob"), {"train": entries[2:], "test": entries[2:]}))
        before = open_note_cache(root, "apart", "train")
        write_split(root, Split("apart", ("Ann", "Bob"), {"train": entries[2:], "test": entries[:2]}), overwrite=True)
        after = open_note_cache(root, "apart", "train")
        assert (set(before.sources.tolist()), set(after.sources.tolist())) == ({0}, {1})
        assert before.fingerprint != after.fingerprint
        assert [after.source_names[i] for i in after.sources] == ["pijama"] * len(after)

    def test_indices_outside_are_refused(self, root: DataRoot) -> None:
        cache = open_note_cache(root, "mine", "test")
        for i in (-1, 1, 100):
            with pytest.raises(IndexError):
                cache.notes(i)

    def test_cannot_be_changed(self, root: DataRoot) -> None:
        with pytest.raises(ValueError, match="read-only"):
            open_note_cache(root, "mine", "test").notes(0).onsets_s[0] = 1.0

    def test_survives_pickling_without_its_contents(self, root: DataRoot) -> None:
        cache = open_note_cache(root, "mine", "train")
        data = pickle.dumps(cache)
        again: NoteCache = pickle.loads(data)
        assert len(data) < 1000
        assert again.notes(3).onsets_s.tolist() == cache.notes(3).onsets_s.tolist()

    def test_validation_is_test_where_there_is_none(self, root: DataRoot) -> None:
        cache = open_note_cache(root, "mine", "validation")
        assert cache.fingerprint == open_note_cache(root, "mine", "test").fingerprint

    def test_nothing_is_written_into_the_root(self, root: DataRoot) -> None:
        before = sorted(root.path.rglob("*"))
        open_note_cache(root, "mine", "train")
        assert sorted(root.path.rglob("*")) == before

    def test_processes_give_the_same(self, root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(building, "_CLIPS_PER_WORKER", 2)
        monkeypatch.setattr(building, "_CLIPS_PER_TASK", 2)
        seen: list[tuple[int, int]] = []
        fingerprint = open_note_cache(
            root, "mine", "train", workers=2, progress=lambda done, total: seen.append((done, total))
        ).fingerprint
        shutil.rmtree(root.cache_dir)
        assert open_note_cache(root, "mine", "train").fingerprint == fingerprint
        assert seen == [(2, 6), (4, 6), (6, 6)]

    def test_all_notes_lie_side_by_side(self, root: DataRoot) -> None:
        cache = open_note_cache(root, "mine", "train")
        assert len(cache.packed) == len(cache)
        for i in range(len(cache)):
            assert cache.packed.notes(i).onsets_s.tolist() == cache.notes(i).onsets_s.tolist()
        assert cache.packed.starts.dtype == np.int64

    def test_names_are_those_of_the_files_whatever_their_letters(self, root: DataRoot) -> None:
        track = "jtd/Köln-\u65e5\u672c"
        (root.clips_dir / "jtd/b").rename(root.clips_dir / track)
        entries = (SplitEntry("jtd/a", 0, 60.0), SplitEntry(track, 1, 60.0))
        write_split(root, Split("mine", ("Ann", "Bob"), {"train": entries}), overwrite=True)
        cache = open_note_cache(root, "mine", "train")
        assert list(cache.recordings) == ["jtd/a", track]
        assert cache.clip_names[-1] == f"{track}/clip_001.mid"
        assert all(clip(root, name).is_file() for name in cache.clip_names)
        assert f"{track}/clip_000.mid" in cache.clip_names
        with pytest.raises(IndexError):
            cache.clip_names[3]

    def test_clips_are_written_as_they_are_read(self, root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(building, "_CLIPS_PER_TASK", 2)
        happened: list[str] = []
        read, add = building._read_some, building.Writer.add

        def reading(clips: Sequence[building.Clip]) -> building.Read:
            happened.append(f"read {len(clips)}")
            return read(clips)

        def adding(writer: building.Writer, clips: Sequence[building.Clip], some: building.Read) -> None:
            happened.append(f"written {len(clips)}")
            add(writer, clips, some)

        monkeypatch.setattr(building, "_read_some", reading)
        monkeypatch.setattr(building.Writer, "add", adding)
        open_note_cache(root, "mine", "train")
        assert happened == ["read 2", "written 2"] * 3


class TestBrokenClips:
    def test_are_left_out_with_the_reason(self, root: DataRoot) -> None:
        clip(root).write_bytes(b"<html>")
        (root.clips_dir / "jtd/b/clip_007.mid").mkdir()
        cache = open_note_cache(root, "mine", "train")
        assert len(cache) == 5
        reasons = {broken.name: broken.reason for broken in cache.unreadable}
        assert "not a MIDI file" in reasons["jtd/b/clip_001.mid"]
        assert "cannot be opened" in reasons["jtd/b/clip_007.mid"]
        assert "jtd/b/clip_001.mid" not in cache.clip_names
        assert cache.notes(1).onsets_s.tolist() == read_midi(clip(root, "jtd/b/clip_000.mid")).onsets_s.tolist()
        assert open_note_cache(root, "mine", "train").unreadable == cache.unreadable

    def test_all_broken_is_an_error(self, root: DataRoot) -> None:
        clip(root, "jtd/a/clip_000.mid").write_bytes(b"")
        with pytest.raises(SplitError, match=r"no readable test clips \(jtd/a/clip_000.mid: the file is empty"):
            open_note_cache(root, "mine", "test")

    def test_missing_ones_are_an_error(self, root: DataRoot) -> None:
        shutil.rmtree(root.clips_dir / "jtd")
        with pytest.raises(SplitError, match="names 2 of 3 train recordings that have no clips"):
            open_note_cache(root, "mine", "train")


class TestReuse:
    def test_parses_once(self, root: DataRoot, parsed: Callable[[], int]) -> None:
        open_note_cache(root, "mine", "train")
        assert parsed() == 6
        open_note_cache(root, "mine", "train")
        assert parsed() == 0

    @pytest.mark.usefixtures("settle")
    def test_does_not_even_read_what_has_not_been_touched(
        self, root: DataRoot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fingerprint = open_note_cache(root, "mine", "train").fingerprint
        monkeypatch.setattr(building, "content_of", lambda clip: pytest.fail(f"{clip.name} was read"))
        assert open_note_cache(root, "mine", "train").fingerprint == fingerprint

    @pytest.mark.usefixtures("settle")
    def test_survives_new_times_with_old_contents(self, root: DataRoot, parsed: Callable[[], int]) -> None:
        fingerprint = open_note_cache(root, "mine", "train").fingerprint
        parsed()
        age(root)
        assert open_note_cache(root, "mine", "train").fingerprint == fingerprint
        assert parsed() == 0

    @pytest.mark.usefixtures("settle")
    def test_sees_new_contents_of_old_size_and_time(self, root: DataRoot) -> None:
        old = open_note_cache(root, "mine", "train")
        path, status = clip(root), clip(root).stat()
        data = bytearray(path.read_bytes())
        at = data.index(0x90)  # the first note-on; the key follows
        data[at + 1] ^= 1
        path.write_bytes(bytes(data))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        new = open_note_cache(root, "mine", "train")
        assert new.fingerprint != old.fingerprint
        assert new.notes(2).pitches.tolist() != old.notes(2).pitches.tolist()

    def test_does_not_trust_the_times_of_files_just_written(
        self, root: DataRoot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Written again within one tick of the file system's clock, a file keeps its time, and may keep its size.
        open_note_cache(root, "mine", "train")
        looked_into: list[str] = []
        monkeypatch.setattr(building, "content_of", lambda clip: looked_into.append(clip.name) or "")
        open_note_cache(root, "mine", "train")
        assert len(looked_into) == 6

    @pytest.mark.usefixtures("settle")
    def test_sees_clips_come_and_go_and_labels_change(self, root: DataRoot) -> None:
        seen = {open_note_cache(root, "mine", "train").fingerprint}
        write_midi(melody(5), root.clips_dir / "jtd/a/clip_001.mid")
        seen.add(open_note_cache(root, "mine", "train").fingerprint)
        clip(root).unlink()
        seen.add(open_note_cache(root, "mine", "train").fingerprint)
        entries = tuple(SplitEntry(track, 1 - label, 60.0) for track, label in TRACKS.items())
        write_split(root, Split("mine", ("Ann", "Bob"), {"train": entries}), overwrite=True)
        cache = open_note_cache(root, "mine", "train")
        assert cache.labels.tolist() == [1, 1, 0, 0, 0, 0]
        assert len(seen | {cache.fingerprint}) == 4

    def test_new_names_for_the_same_classes_are_used(self, root: DataRoot, parsed: Callable[[], int]) -> None:
        open_note_cache(root, "mine", "train")
        parsed()
        split = root.split("mine")
        write_split(root, Split("mine", ("Art", "Bud"), split.parts), overwrite=True)
        assert open_note_cache(root, "mine", "train").class_names == ("Art", "Bud")
        assert parsed() == 0

    def test_the_fingerprint_does_not_depend_on_the_place(self, root: DataRoot, tmp_path: Path) -> None:
        shutil.copytree(root.path, tmp_path / "elsewhere")
        other = DataRoot(tmp_path / "elsewhere")
        assert open_note_cache(other, "mine", "train").fingerprint == open_note_cache(root, "mine", "train").fingerprint

    def test_another_reader_makes_another_cache(
        self, root: DataRoot, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        before = open_note_cache(root, "mine", "train")
        real = Path.read_bytes

        def changed(path: Path) -> bytes:
            return real(path) + (b"# changed" if path.name == "compiled_midi.py" else b"")

        monkeypatch.setattr(Path, "read_bytes", changed)
        cache_module._maker.cache_clear()
        try:
            after = open_note_cache(root, "mine", "train")
        finally:
            cache_module._maker.cache_clear()
        assert after.folder != before.folder
        assert after.fingerprint == before.fingerprint
        assert not caplog.records


@pytest.mark.usefixtures("settle")
class TestFilesThatChangeWhileTheyAreRead:
    @pytest.fixture
    def meddling(self, root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
        """Writes another clip right after the clips were read, so many times; gives the numbers of the readings."""

        def meddle(times: int) -> list[int]:
            real, readings = building.read_many, [0]

            def interrupted(datas: Iterable[bytes]) -> BulkReading:
                reading = real(list(datas))
                readings[0] += 1
                if readings[0] <= times:
                    # As long as before, so that only the time tells.
                    data = bytearray(clip(root).read_bytes())
                    key = data.index(0x90) + 1
                    data[key] = (data[key] + 1) % 128
                    clip(root).write_bytes(bytes(data))
                    status = clip(root).stat()
                    os.utime(clip(root), ns=(status.st_atime_ns, status.st_mtime_ns + readings[0]))
                return reading

            monkeypatch.setattr(building, "read_many", interrupted)
            return readings

        return meddle

    def test_are_read_again(
        self, root: DataRoot, meddling: Callable[[int], list[int]], caplog: pytest.LogCaptureFixture
    ) -> None:
        readings = meddling(1)
        cache = open_note_cache(root, "mine", "train")
        assert readings == [2]
        assert "changed while they were read" in caplog.text
        assert cache.notes(2).pitches.tolist() == read_midi(clip(root)).pitches.tolist()
        assert open_note_cache(root, "mine", "train").fingerprint == cache.fingerprint
        assert readings == [2]

    def test_that_never_stop_changing_are_an_error_and_nothing_is_remembered(
        self, root: DataRoot, meddling: Callable[[int], list[int]]
    ) -> None:
        readings = meddling(100)
        with pytest.raises(DataRootError, match="changed 3 times while they were read: wait"):
            open_note_cache(root, "mine", "train")
        assert not list((root.cache_dir / "notes").glob("pointers/*"))
        readings[0] = 100
        cache = open_note_cache(root, "mine", "train")
        assert cache.notes(2).pitches.tolist() == read_midi(clip(root)).pitches.tolist()

    def test_the_fingerprint_is_of_the_bytes_that_were_parsed(
        self, root: DataRoot, meddling: Callable[[int], list[int]]
    ) -> None:
        listing = building.Listing(root, root.split("mine").part("train"), ("jtd", "pijama"))
        before = listing.fingerprint()
        meddling(100)
        with pytest.raises(DataRootError):
            open_note_cache(root, "mine", "train")
        [first] = (root.cache_dir / "notes").glob(f"{before[:32]}-*")
        old = NoteCache(first, ("Ann", "Bob"), ("jtd", "pijama"))
        assert old.notes(2).pitches.tolist() != read_midi(clip(root)).pitches.tolist()
        assert listing.fingerprint() != before


class TestDamage:
    @pytest.mark.parametrize(
        "name",
        [
            "onsets_s.npy",
            "pitches.npy",
            "starts.npy",
            "labels.npy",
            "recordings.npy",
            "file_names_starts.npy",
            "index.json",
        ],
    )
    @pytest.mark.parametrize("how", ["gone", "cut", "flipped", "empty"])
    def test_is_mended(self, root: DataRoot, name: str, how: str) -> None:
        before = open_note_cache(root, "mine", "train")
        notes = [before.notes(i).onsets_s.tolist() for i in range(len(before))]
        path = before.folder / name
        data = path.read_bytes()
        path.unlink()  # the map that is still open keeps the old file
        if how != "gone":
            middle = len(data) // 2
            flipped = data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]
            path.write_bytes({"cut": data[:-3], "empty": b"", "flipped": flipped}[how])
        after = open_note_cache(root, "mine", "train")
        assert [after.notes(i).onsets_s.tolist() for i in range(len(after))] == notes
        assert after.labels.tolist() == before.labels.tolist()

    @pytest.mark.usefixtures("settle")
    def test_a_broken_pointer_is_no_matter(self, root: DataRoot) -> None:
        fingerprint = open_note_cache(root, "mine", "train").fingerprint
        for pointer in (root.cache_dir / "notes" / "pointers").iterdir():
            pointer.write_text("[1")
        assert open_note_cache(root, "mine", "train").fingerprint == fingerprint

    def test_builders_may_race(self, root: DataRoot) -> None:
        with ThreadPoolExecutor(4) as pool:
            caches = list(pool.map(lambda _: open_note_cache(root, "mine", "train"), range(8)))
        assert len({cache.fingerprint for cache in caches}) == 1
        assert all(cache.notes(5).onsets_s.tolist() == caches[0].notes(5).onsets_s.tolist() for cache in caches)
        assert not list((root.cache_dir / "notes").glob(".building*"))

    @pytest.fixture
    def damaged(self, root: DataRoot) -> Path:
        """The folder of a cache with a damaged file."""
        folder = open_note_cache(root, "mine", "train").folder
        (folder / "onsets_s.npy").write_bytes(b"")
        return folder

    def test_what_another_builder_mended_stays(
        self, root: DataRoot, damaged: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two find the damage; one has mended it before the other, which has built as well, goes on."""
        quick: list[NoteCache] = []
        mended: list[int] = []
        moved: list[Path] = []
        load, looks, rename = cache_module._load, iter(range(100)), os.rename

        def loading(*arguments: Any) -> NoteCache | None:
            cache = load(*arguments)
            if not quick and next(looks) == 1:  # the look after building
                monkeypatch.setattr(cache_module, "_load", load)
                quick.append(open_note_cache(root, "mine", "train"))
                mended.append(damaged.stat().st_ino)
                # Nor is it moved away for a moment, in which a reader would not find it.
                monkeypatch.setattr(os, "rename", lambda old, new: moved.append(old) or rename(old, new))
            return cache

        monkeypatch.setattr(cache_module, "_load", loading)
        slow = open_note_cache(root, "mine", "train")
        assert [damaged.stat().st_ino] == mended
        assert damaged not in moved
        assert slow.fingerprint == quick[0].fingerprint
        assert slow.notes(5).onsets_s.tolist() == quick[0].notes(5).onsets_s.tolist()

    @pytest.mark.parametrize("how", ["mended", "taken away"])
    def test_what_another_builder_does_at_the_last_moment_is_no_matter(
        self, root: DataRoot, damaged: Path, how: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rename = os.rename
        mended: list[int] = []

        def renaming(old: Path, new: Path) -> None:
            if old == damaged:
                monkeypatch.setattr(os, "rename", rename)
                rename(damaged, root.cache_dir / "damaged")
                if how == "mended":
                    mended.append(open_note_cache(root, "mine", "train").folder.stat().st_ino)
            rename(old, new)

        monkeypatch.setattr(os, "rename", renaming)
        cache = open_note_cache(root, "mine", "train")
        assert cache.notes(5).onsets_s.tolist() == read_midi(clip(root, cache.clip_names[5])).onsets_s.tolist()
        if how == "mended":
            assert [damaged.stat().st_ino] == mended
        assert not list((root.cache_dir / "notes").glob(".building*"))

    def test_a_folder_that_is_gone_for_a_moment_is_read_back_all_the_same(
        self, root: DataRoot, damaged: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        load, looks = cache_module._load, iter(range(100))

        def loading(*arguments: Any) -> NoteCache | None:
            is_there = next(looks) != 2  # the look after putting it in place
            return load(*arguments) if is_there else None

        monkeypatch.setattr(cache_module, "_load", loading)
        assert len(open_note_cache(root, "mine", "train")) == 6

    def test_what_cannot_be_read_back_is_an_error(self, root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cache_module, "_load", lambda *arguments: None)
        with pytest.raises(DataRootError, match="cannot be read back: check the disk"):
            open_note_cache(root, "mine", "train")

    def test_what_a_killed_builder_left_goes_in_time(self, root: DataRoot) -> None:
        store = root.cache_dir / "notes"
        old, new = store / ".building-old", store / ".building-new"
        for folder, hours in ((old, 48), (new, 1)):
            folder.mkdir(parents=True)
            (folder / "onsets_s.npy").write_bytes(b"x")
            os.utime(folder, (time.time() - hours * 3600,) * 2)
        open_note_cache(root, "mine", "train")
        assert not old.exists()
        assert new.exists()

    def test_a_cache_that_cannot_be_written_says_what_to_do(self, root: DataRoot) -> None:
        root.cache_dir.mkdir(parents=True, exist_ok=True)
        (root.cache_dir / "notes").write_text("in the way")
        with pytest.raises(DataRootError, match="set PIANISTID_CACHE"):
            open_note_cache(root, "mine", "train")
