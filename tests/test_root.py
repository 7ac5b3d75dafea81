"""The data root: where things are, what its tables say, and what is said when they are wrong."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pianistid_core.datasets import root as root_module
from pianistid_core.datasets.root import (
    DataRoot,
    RecordingInfo,
    Split,
    SplitEntry,
    missing_clips,
    require_clips,
    write_split,
)
from pianistid_core.datasets.tables import harmless_cell, is_track, plain_cell
from pianistid_core.errors import DataRootError, SplitError

MAPPING = ",idx\nBill Evans,0\nMcCoy Tyner,1\n"
TRAIN = ",track,pianist,duration\n0,jtd/a,0,65.0\n1,jtd/b,1,31.5\n"


@pytest.fixture
def root(tmp_path: Path) -> DataRoot:
    return DataRoot(tmp_path / "root")


def put(root: DataRoot, name: str, **tables: str) -> None:
    folder = root.splits_dir / name
    folder.mkdir(parents=True, exist_ok=True)
    for table, text in tables.items():
        (folder / f"{table}.csv").write_text(text, encoding="utf-8")


def put_clips(root: DataRoot, track: str, *names: str) -> None:
    (root.clips_dir / track).mkdir(parents=True)
    for name in names:
        (root.clips_dir / track / name).write_bytes(b"")


class TestWhere:
    def test_argument_beats_environment_beats_default(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert DataRoot.open().path == tmp_path / "workspace"
        monkeypatch.setenv("PIANISTID_HOME", str(tmp_path / "home"))
        assert DataRoot.open().path == tmp_path / "home"
        assert DataRoot.open(tmp_path / "named").path == tmp_path / "named"

    def test_opening_creates_nothing(self, root: DataRoot) -> None:
        DataRoot.open(root.path)
        assert not root.path.exists()
        assert not root.exists()
        assert root.writable()

    def test_a_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(DataRootError, match="is a file, not a folder"):
            DataRoot.open(tmp_path / "file")

    @pytest.mark.parametrize("path", ["x" * 5000, "~nobody_of_that_name/x", "a\0b"])
    def test_a_path_that_cannot_be_looked_at_is_refused(self, path: str) -> None:
        with pytest.raises(DataRootError, match="cannot be used"):
            DataRoot.open(path)

    def test_the_cache_is_outside_the_root(self, root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
        assert root.path not in root.cache_dir.parents
        monkeypatch.delenv("PIANISTID_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
        assert DataRoot(root.path).cache_dir == Path("/somewhere/pianistid")

    def test_checkpoints_of_a_read_only_root_go_to_the_cache(
        self, root: DataRoot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert root.checkpoints_dir == root.path / "checkpoints"
        monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith(str(root.path.parent)))
        assert not root.writable()
        assert root.cache_dir in root.checkpoints_dir.parents
        assert root.checkpoints_dir != DataRoot(root.path.parent / "other", root.cache_dir).checkpoints_dir


class TestClips:
    def test_are_in_playing_order(self, root: DataRoot) -> None:
        put_clips(root, "jtd/a", "clip_010.mid", "clip_002.mid", "clip_1000.MID", ".clip_001.mid", "notes.txt")
        names = [path.name for path in root.clip_paths("jtd/a")]
        assert names == ["clip_002.mid", "clip_010.mid", "clip_1000.MID"]
        assert root.tracks() == ["jtd/a"]

    def test_of_an_unknown_track_are_none(self, root: DataRoot) -> None:
        assert root.clip_paths("jtd/nobody") == []
        assert root.tracks() == []

    @pytest.mark.parametrize("track", ["../../etc", "a", "", "a/b/c", "a/..", "/etc", "a\\b/c"])
    def test_a_track_cannot_lead_outside(self, root: DataRoot, track: str) -> None:
        with pytest.raises(DataRootError, match="source/recording"):
            root.clip_paths(track)

    @given(st.text())
    def test_whatever_is_a_track_stays_inside(self, track: str) -> None:
        base = Path("/base/clips")
        if is_track(track):
            assert Path(os.path.normpath(base / track)).parent.parent == base


class TestSplits:
    def test_are_read(self, root: DataRoot) -> None:
        put(root, "mine", pianist_mapping=MAPPING, train_split=TRAIN, test_split=",track,pianist,duration\n")
        split = root.split("mine")
        assert root.split_names() == ["mine"]
        assert split.class_names == ("Bill Evans", "McCoy Tyner")
        assert split.part("train") == (SplitEntry("jtd/a", 0, 65.0), SplitEntry("jtd/b", 1, 31.5))
        assert split.part("test") == ()

    def test_validation_falls_back_to_test_and_says_so(self, root: DataRoot) -> None:
        put(root, "mine", pianist_mapping=MAPPING, test_split=TRAIN)
        split = root.split("mine")
        assert split.validation_is_test
        assert split.part("validation") == split.part("test") != ()
        with pytest.raises(SplitError, match="no part 'train'; it has 'test'"):
            split.part("train")

    def test_pianists_may_be_names_without_a_mapping(self, root: DataRoot) -> None:
        table = ",pianist,track,duration,album\n0,McCoy Tyner,jtd/b,40,x\n1,Bill Evans,jtd/a,40,x\n"
        put(root, "albums", train_split=table)
        split = root.split("albums")
        assert split.class_names == ("Bill Evans", "McCoy Tyner")
        assert [entry.pianist for entry in split.part("train")] == [1, 0]

    def test_a_byte_order_mark_and_windows_lines_are_fine(self, root: DataRoot) -> None:
        put(root, "mine", pianist_mapping="\ufeff" + MAPPING.replace("\n", "\r\n"), train_split=TRAIN)
        assert len(root.split("mine").class_names) == 2

    def test_an_unknown_name_is_answered_with_a_near_one(self, root: DataRoot) -> None:
        with pytest.raises(SplitError, match="holds none yet"):
            root.split("mine")
        put(root, "20class_80min", pianist_mapping=MAPPING, train_split=TRAIN)
        with pytest.raises(SplitError, match="did you mean '20class_80min'"):
            root.split("20clas_80min")
        with pytest.raises(SplitError, match="no split"):
            root.split("../data_splits/20class_80min")

    @pytest.mark.parametrize(
        ("train", "message"),
        [
            ("", "line 1: no column 'track', 'pianist', 'duration'"),
            (",track,duration\n0,jtd/a,60\n", "line 1: no column 'pianist'"),
            (",track,pianist,duration\n0,jtd/a,0,60\n1,jtd/b,2,60\n", "line 3: pianist '2' is not in the mapping"),
            (",track,pianist,duration\n0,jtd/a,-1,60\n", "line 2: pianist '-1'"),
            (",track,pianist,duration\n0,jtd/a,Art Tatum,60\n", "line 2: pianist 'Art Tatum'"),
            (",track,pianist,duration\n0,../a,0,60\n", "line 2: track '../a'"),
            (",track,pianist,duration\n0,jtd/a,0,nan\n", "line 2: duration 'nan'"),
            (",track,pianist,duration\n0,jtd/a,0,60\n1,jtd/a,0,60\n", "line 3: track 'jtd/a' is listed twice"),
            (",track,pianist,duration\n0,jtd/a,0\n", "line 2: 3 columns where the header has 4"),
            (',track,pianist,duration\n0,"jtd/a,0,60\n', "line 2"),
        ],
    )
    def test_a_wrong_table_names_the_line(self, root: DataRoot, train: str, message: str) -> None:
        put(root, "mine", pianist_mapping=MAPPING, train_split=train)
        with pytest.raises(SplitError) as caught:
            root.split("mine")
        assert message in str(caught.value)
        assert "train_split.csv" in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        "mapping",
        [",idx\n", ",idx\nA,0\nB,2\n", ",idx\nA,0\nA,1\n", ",idx\nA,0\nB,0\n", ",idx\nA,x\n", ",idx\n,0\n", "A\n"],
    )
    def test_a_wrong_mapping_is_refused(self, root: DataRoot, mapping: str) -> None:
        put(root, "mine", pianist_mapping=mapping, train_split=TRAIN)
        with pytest.raises(SplitError, match=r"pianist_mapping\.csv"):
            root.split("mine")

    def test_text_that_is_not_utf8_is_refused(self, root: DataRoot) -> None:
        put(root, "mine", pianist_mapping=MAPPING, train_split=TRAIN)
        (root.splits_dir / "mine" / "train_split.csv").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(SplitError, match="not UTF-8"):
            root.split("mine")

    def test_recordings_without_clips_are_counted_and_named(self, root: DataRoot) -> None:
        entries = (*(SplitEntry(f"jtd/{name}", 0, 60.0) for name in "abcde"), SplitEntry("jtd/short", 0, 29.0))
        split = Split("mine", ("Bill Evans",), {"train": entries})
        put_clips(root, "jtd/a", "clip_000.mid")
        assert missing_clips(root, entries) == ["jtd/b", "jtd/c", "jtd/d", "jtd/e"]
        with pytest.raises(SplitError, match=r"names 4 of 6 train recordings .*\(jtd/b, jtd/c, jtd/d, \.\.\.\)"):
            require_clips(root, split, "train")


class TestWriting:
    def test_gives_the_papers_bytes(self, root: DataRoot, shared: Path, tmp_path: Path) -> None:
        import zipfile

        with zipfile.ZipFile(shared / "data" / "jazz20.zip") as archive:
            tables = {n: archive.read(n) for n in archive.namelist() if n.endswith(".csv")}
        for name, data in tables.items():
            (root.path / name).parent.mkdir(parents=True, exist_ok=True)
            (root.path / name).write_bytes(data)
        other = DataRoot(tmp_path / "other")
        write_split(other, root.split("20class_80min"))
        assert {name: (other.path / name).read_bytes() for name in tables} == tables

    @given(
        names=st.lists(st.text(min_size=1).map(str.strip).filter(bool), min_size=1, unique=True),
        durations=st.lists(st.floats(0, 1e6), max_size=5),
    )
    def test_what_is_written_is_read_again(
        self, tmp_path_factory: pytest.TempPathFactory, names: list[str], durations: list[float]
    ) -> None:
        clean = [name for name in names if name.isprintable()]
        root = DataRoot(tmp_path_factory.mktemp("root"))
        entries = tuple(SplitEntry(f"s/r{i}", i % len(clean), s) for i, s in enumerate(durations)) if clean else ()
        split = Split("mine", tuple(clean) or ("A",), {"train": entries, "validation": ()})
        write_split(root, split)
        again = root.split("mine")
        assert (again.class_names, again.parts) == (split.class_names, split.parts)

    def test_pianists_named_by_numbers_keep_their_own(self, root: DataRoot) -> None:
        entries = tuple(SplitEntry(f"s/r{i}", i, 30.0) for i in range(3))
        write_split(root, Split("mine", ("2", "0", "1"), {"train": entries, "validation": ()}))
        assert root.split("mine").parts["train"] == entries

    def test_overwrites_only_when_told_and_then_wholly(self, root: DataRoot) -> None:
        split = Split("mine", ("A",), {"train": (), "validation": ()})
        write_split(root, split)
        with pytest.raises(SplitError, match="exists already"):
            write_split(root, split)
        (root.splits_dir / "mine" / "ground_truth.json").write_text("{}")
        write_split(root, Split("mine", ("B",), {"train": ()}), overwrite=True)
        assert root.split("mine").class_names == ("B",)
        assert root.split("mine").validation_is_test
        assert (root.splits_dir / "mine" / "ground_truth.json").exists()

    @pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "CON", "a\nb", "x" * 300])
    def test_refuses_names_that_are_no_folder(self, root: DataRoot, name: str) -> None:
        with pytest.raises(SplitError, match="cannot be called"):
            write_split(root, Split(name, ("A",), {"train": ()}))
        assert not root.path.exists()

    @pytest.mark.parametrize("failing", ["test_split.csv", "pianist_mapping.csv", "rename"])
    def test_a_failure_leaves_no_half_split(
        self, root: DataRoot, monkeypatch: pytest.MonkeyPatch, failing: str
    ) -> None:
        entry = SplitEntry("s/r", 0, 30.0)
        old = Split("mine", ("A",), {"train": (entry,), "validation": (entry,)})
        new = Split("mine", ("B",), {"train": (), "test": (entry,)})
        write, rename = root_module.write_atomically, os.rename

        def writing(path: Path, data: bytes) -> None:
            if path.name == failing:
                raise OSError(28, "No space left on device")
            write(path, data)

        def renaming(source: Path, target: Path) -> None:
            if failing == "rename" and Path(source).name == "new":
                raise OSError(5, "Input/output error")
            rename(source, target)

        def attempt(*, overwrite: bool) -> None:
            with monkeypatch.context() as broken, pytest.raises(DataRootError, match="cannot write split"):
                broken.setattr(root_module, "write_atomically", writing)
                broken.setattr(root_module.os, "rename", renaming)
                write_split(root, new, overwrite=overwrite)

        attempt(overwrite=False)
        assert list(root.splits_dir.iterdir()) == []
        write_split(root, old)
        attempt(overwrite=True)
        assert root.split("mine") == old
        write_split(root, new, overwrite=True)
        assert root.split("mine") == new
        assert [path.name for path in root.splits_dir.iterdir()] == ["mine"]

    def test_further_files_come_with_it(self, root: DataRoot) -> None:
        split = Split("mine", ("A",), {"train": ()})
        write_split(root, split, beside={"one.json": b"1", "two.json": b"2"})
        write_split(root, split, overwrite=True, beside={"one.json": b"3"})
        folder = root.splits_dir / "mine"
        assert ((folder / "one.json").read_bytes(), (folder / "two.json").read_bytes()) == (b"3", b"2")


class TestRecordings:
    def test_facts_come_from_the_best_table_that_has_them(self, root: DataRoot) -> None:
        put(root, "mine", pianist_mapping=MAPPING, train_split=TRAIN)
        assert root.recordings()["jtd/b"] == RecordingInfo("jtd/b", "McCoy Tyner", duration_s=31.5)
        folder = root.raw_dir / "jtd" / "b"
        folder.mkdir(parents=True)
        metadata = {"album_name": "Inception", "track_name": "Blues", "musicians": {"pianist": "M. Tyner"}}
        (folder / "metadata.json").write_text(json.dumps(metadata))
        assert root.recordings()["jtd/b"] == RecordingInfo("jtd/b", "M. Tyner", "Inception", "Blues", None, 31.5)
        root.recordings_file.write_text("track,setting,album,extra\njtd/b,trio,Other,1\n")
        assert root.recordings()["jtd/b"] == RecordingInfo("jtd/b", "M. Tyner", "Other", "Blues", "trio", 31.5)
        assert root.recordings()["jtd/a"].pianist == "Bill Evans"

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"pianist": 3}', "[" * 100_000, "\udc80"])
    def test_broken_metadata_says_nothing(self, root: DataRoot, text: str) -> None:
        folder = root.raw_dir / "jtd" / "b"
        folder.mkdir(parents=True)
        (folder / "metadata.json").write_text(text, encoding="utf-8", errors="surrogateescape")
        assert all(info.pianist == "" for info in root.recordings().values())

    def test_a_broken_split_does_not_hide_the_rest(self, root: DataRoot) -> None:
        put(root, "bad", train_split=TRAIN)
        put(root, "good", pianist_mapping=MAPPING, train_split=TRAIN)
        assert set(root.recordings()) == {"jtd/a", "jtd/b"}

    def test_a_table_without_tracks_names_the_line(self, root: DataRoot) -> None:
        root.recordings_file.parent.mkdir(parents=True)
        root.recordings_file.write_text("track,pianist\nnowhere,A\n")
        with pytest.raises(DataRootError, match=r"recordings\.csv: line 2"):
            root.recordings()


class TestCells:
    @settings(deadline=None)
    @given(st.text(max_size=12) | st.text("'=+-@\t\r a", max_size=6))
    def test_a_cell_is_no_formula_and_its_text_comes_back(self, text: str) -> None:
        cell = harmless_cell(text)
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
        assert plain_cell(cell) == text

    def test_what_is_no_formula_stays_as_it_is(self) -> None:
        assert [harmless_cell(text) for text in ("Ada", "'s", "a=b", "")] == ["Ada", "'s", "a=b", ""]
