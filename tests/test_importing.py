"""Importing: every layout, whole or not at all, the same again the second time, nothing overwritten."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pianistid_core.datasets import staging as staging_module
from pianistid_core.datasets.archives import Skipped
from pianistid_core.datasets.importing import import_source
from pianistid_core.datasets.performances import in_folders, slug
from pianistid_core.datasets.root import DataRoot, Split, SplitEntry, write_split
from pianistid_core.errors import ArchiveError, DataRootError, ImportSourceError
from pianistid_core.midi import Notes, read_midi, split_into_clips, write_midi
from pianistid_core.names import is_plain_name

HOSTILE = Path(__file__).parent / "hostile" / "archives"


def playing(seed: int, seconds: float = 70.0) -> bytes:
    rng = np.random.default_rng(seed)
    onsets_s = np.append(np.arange(0, seconds - 1, 1.0), seconds - 0.5)
    return write_midi(
        Notes.from_arrays(onsets_s, onsets_s + 0.5, rng.integers(30, 100, len(onsets_s)), np.full(len(onsets_s), 64))
    )


def put(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def contents(root: DataRoot) -> dict[str, bytes]:
    """Every file of the root but the lock."""
    files = (path for path in root.path.rglob("*") if path.is_file() and path.name != ".import.lock")
    return {path.relative_to(root.path).as_posix(): path.read_bytes() for path in files}


def reasons(skipped: Iterable[Skipped]) -> dict[str, str]:
    return {entry.name: entry.reason for entry in skipped}


@pytest.fixture
def root(tmp_path: Path) -> DataRoot:
    return DataRoot(tmp_path / "root")


@pytest.fixture
def layout(tmp_path: Path) -> dict[str, bytes]:
    """The files of a small data set in the archive's layout."""
    made = DataRoot(tmp_path / "made")
    split = Split("two", ("Ann", "Bob"), {"train": (SplitEntry("jtd/a", 0, 65.0), SplitEntry("solo/b", 1, 31.0))})
    write_split(made, split)
    return {
        **{path.relative_to(made.path).as_posix(): path.read_bytes() for path in made.splits_dir.rglob("*.csv")},
        "data/clips/jtd/a/clip_000.mid": playing(1),
        "data/clips/jtd/a/clip_001.MID": playing(2),
        "data/clips/solo/b/clip_000.mid": playing(3),
        "data/raw/jtd/a/piano_midi.mid": playing(4),
        "data/raw/jtd/a/metadata.json": b'{"pianist": "Ann A.", "album_name": "First"}',
    }


@pytest.fixture
def performances() -> dict[str, bytes]:
    return {
        "Ann Alpha/one.mid": playing(1),
        "Ann Alpha/live/1999/one.MIDI": playing(2, 20.0),
        "Bob Beta/two.mid": playing(3, 125.0),
        "Bob Beta/notes.txt": b"not music",
    }


class TestLayout:
    def test_arrives_as_it_is(self, root: DataRoot, layout: dict[str, bytes], tmp_path: Path) -> None:
        report = import_source(root, zipped(tmp_path / "a.zip", layout))
        expected = {name.replace(".MID", ".mid"): data for name, data in layout.items()}
        assert contents(root) == expected
        assert (report.recordings, report.clips, report.splits, report.skipped) == (2, 3, ("two",), ())
        assert report.pianists == ("Ann", "Ann A.", "Bob")
        assert root.split("two").part("train")[0].track == "jtd/a"

    @pytest.mark.parametrize("outer", ["", "outer/", "outer/inner/"])
    @pytest.mark.parametrize("as_zip", [True, False])
    def test_is_found_in_a_folder_in_a_folder(
        self, root: DataRoot, layout: dict[str, bytes], tmp_path: Path, outer: str, as_zip: bool
    ) -> None:
        files = {outer + name: data for name, data in layout.items()}
        source = zipped(tmp_path / "a.zip", files) if as_zip else put(tmp_path / "folder", files)
        assert import_source(root, source).clips == 3
        assert "data/clips/jtd/a/clip_000.mid" in contents(root)

    def test_twice_changes_nothing(self, root: DataRoot, layout: dict[str, bytes], tmp_path: Path) -> None:
        source = zipped(tmp_path / "a.zip", layout)
        import_source(root, source)
        before = contents(root)
        report = import_source(root, source)
        assert (report.recordings, report.unchanged) == (2, 2)
        assert contents(root) == before

    def test_only_what_belongs_to_it_is_taken(self, root: DataRoot, layout: dict[str, bytes], tmp_path: Path) -> None:
        more = {
            "README.md": b"x",
            "data/clips/jtd/a/clip_one.mid": playing(9),
            "data/clips/.hidden/a/clip_000.mid": playing(9),
            "reports/figures/huge.bin": bytes(30_000_000),
            "__MACOSX/data/clips/jtd/a/._clip_000.mid": b"",
            "checkpoints/exp/run/checkpoint_099.pth": b"weights",
            "checkpoints/exp/run/evil.py": b"",
            "data/inner.zip": b"PK",
        }
        report = import_source(root, zipped(tmp_path / "a.zip", {**layout, **more}))
        expected = {name.replace(".MID", ".mid"): data for name, data in layout.items()}
        assert contents(root) == {**expected, "checkpoints/exp/run/checkpoint_099.pth": b"weights"}
        assert report.checkpoints == 1
        assert report.ignored == 6
        assert list(reasons(report.skipped)) == ["data/inner.zip"]

    def test_broken_files_are_skipped_with_the_reason(
        self, root: DataRoot, layout: dict[str, bytes], tmp_path: Path
    ) -> None:
        broken = {
            "data/clips/jtd/a/clip_002.mid": b"<html>",
            "data/clips/jtd/c/clip_000.mid": b"",
            "data/clips/jtd/d/clip_000.mid": b"MThd" + np.random.default_rng(0).bytes(5_000_000),
            "data/clips/solo/z/clip_000.mid": playing(7),
            "data/clips/jtd/CON/clip_000.mid": playing(7),
            "data/clips/jtd/a/clip_1.mid": playing(7),
            "data/raw/solo/b/metadata.json": b"{",
            "references/data_splits/bad/train_split.csv": b"a,b\n",
            "references/recordings.csv": b"pianist\n",
        }
        layout["data/clips/solo/Z/clip_000.mid"] = playing(8)
        report = import_source(root, zipped(tmp_path / "a.zip", {**layout, **broken}))
        assert (report.recordings, report.clips, report.splits) == (3, 4, ("two",))
        found = reasons(report.skipped)
        assert "not a MIDI file" in found["data/clips/jtd/a/clip_002.mid"]
        assert "larger than 4 MB" in found["data/clips/jtd/d/clip_000.mid"]
        assert "name" in found["data/clips/jtd/CON/clip_000.mid"]
        assert "line 1" in found["references/data_splits/bad"]
        assert len(found) == len(broken)
        assert "data/clips/jtd/c" not in "".join(contents(root))

    def test_other_contents_under_the_same_name_are_an_error_that_changes_nothing(
        self, root: DataRoot, layout: dict[str, bytes], tmp_path: Path
    ) -> None:
        import_source(root, zipped(tmp_path / "a.zip", layout))
        before = contents(root)
        layout["data/clips/jtd/a/clip_000.mid"] = playing(99)
        layout["data/clips/jtd/new/clip_000.mid"] = playing(5)
        other = zipped(tmp_path / "b.zip", layout)
        with pytest.raises(ImportSourceError, match=r"1 of \d+ .*data/clips/jtd/a.*--name"):
            import_source(root, other)
        assert contents(root) == before

    def test_a_name_keeps_two_data_sets_apart(self, root: DataRoot, layout: dict[str, bytes], tmp_path: Path) -> None:
        layout["references/recordings.csv"] = b"track,pianist,album\njtd/a,Ann,First\n"
        source = zipped(tmp_path / "a.zip", layout)
        import_source(root, source)
        before = contents(root)
        report = import_source(root, source, name="other")
        assert report.splits == ("other-two",)
        assert [entry.track for entry in root.split("other-two").part("train")] == ["other-jtd/a", "other-solo/b"]
        assert root.tracks() == ["jtd/a", "other-jtd/a", "other-solo/b", "solo/b"]
        assert root.recordings()["other-jtd/a"].album == "First"
        own = ("references/recordings.csv",)
        after = contents(root)
        assert {name: after[name] for name in before if name not in own} == {
            name: data for name, data in before.items() if name not in own
        }
        assert import_source(root, source, name="other").unchanged == 2

    def test_performances_without_clips_are_cut(self, root: DataRoot, tmp_path: Path) -> None:
        source = zipped(tmp_path / "a.zip", {"data/raw/jtd/a/piano_midi.mid": playing(1, 95.0)})
        assert import_source(root, source).clips == 3
        assert len(root.clip_paths("jtd/a")) == 3

    def test_splits_alone_can_be_brought(self, root: DataRoot, layout: dict[str, bytes], tmp_path: Path) -> None:
        only = {name: data for name, data in layout.items() if name.startswith("references")}
        report = import_source(root, put(tmp_path / "repo", only))
        assert (report.recordings, report.splits, report.pianists) == (0, ("two",), ("Ann", "Bob"))

    def test_two_data_sets_side_by_side_are_refused(
        self, root: DataRoot, layout: dict[str, bytes], tmp_path: Path
    ) -> None:
        files = {f"{outer}/{name}": data for outer in ("a", "b") for name, data in layout.items()}
        with pytest.raises(ImportSourceError, match="several data sets"):
            import_source(root, zipped(tmp_path / "a.zip", files))

    @pytest.mark.parametrize("source", ["x" * 5000, "~nobody_of_that_name/x", "a\0b"])
    def test_a_path_that_cannot_be_looked_at_is_refused(self, source: str, root: DataRoot) -> None:
        with pytest.raises(ImportSourceError, match="cannot be looked at"):
            import_source(root, source)

    def test_the_real_one_arrives_whole(self, root: DataRoot, shared: Path) -> None:
        report = import_source(
            root, shared / "data" / "jazz20.zip", metadata=shared / "data" / "recordings.csv", name=None
        )
        assert (report.recordings, report.clips, len(report.pianists), report.skipped) == (1285, 5254, 20, ())
        assert report.splits == ("20class_80min",)
        infos = root.recordings()
        assert len(infos) == 1285
        assert all(info.album and info.composition and info.setting for info in infos.values())


class TestFolders:
    @pytest.mark.parametrize("as_zip", [True, False])
    def test_each_pianist_has_one(
        self, root: DataRoot, performances: dict[str, bytes], tmp_path: Path, as_zip: bool
    ) -> None:
        name = "My Études!"
        source = zipped(tmp_path / f"{name}.zip", performances) if as_zip else put(tmp_path / name, performances)
        report = import_source(root, source)
        assert (report.recordings, report.clips, report.pianists) == (3, 2 + 1 + 4, ("Ann Alpha", "Bob Beta"))
        assert (report.skipped, report.ignored) == ((), 1)
        assert {track.split("/")[0] for track in root.tracks()} == {"my-etudes"}
        infos = root.recordings()
        assert sorted(info.pianist for info in infos.values()) == ["Ann Alpha", "Ann Alpha", "Bob Beta"]
        assert sorted(round(info.duration_s or 0) for info in infos.values()) == [20, 70, 125]

    def test_clips_are_cut_and_the_original_is_kept(
        self, root: DataRoot, performances: dict[str, bytes], tmp_path: Path
    ) -> None:
        import_source(root, put(tmp_path / "set", performances))
        (track,) = [track for track in root.tracks() if "bob" in track]
        raw = root.raw_dir / track
        assert (raw / "piano_midi.mid").read_bytes() == performances["Bob Beta/two.mid"]
        metadata = json.loads((raw / "metadata.json").read_text())
        assert metadata == {"pianist": "Bob Beta", "duration_s": 125.0, "original_file": "Bob Beta/two.mid"}
        expected = split_into_clips(read_midi(performances["Bob Beta/two.mid"]))
        clips = [read_midi(path) for path in root.clip_paths(track)]
        assert [clip.onsets_s.tolist() for clip in clips] == [clip.onsets_s.tolist() for clip in expected]

    def test_twice_changes_nothing_and_zip_or_folder_is_the_same(
        self, root: DataRoot, performances: dict[str, bytes], tmp_path: Path
    ) -> None:
        import_source(root, put(tmp_path / "set", performances))
        before = contents(root)
        assert import_source(root, tmp_path / "set").unchanged == 3
        files = {f"wrapping/{name}": data for name, data in performances.items()}
        assert import_source(root, zipped(tmp_path / "set.zip", files)).unchanged == 3
        assert contents(root) == before

    @pytest.mark.parametrize("as_zip", [True, False])
    def test_a_folder_around_them_is_no_pianist(self, root: DataRoot, tmp_path: Path, as_zip: bool) -> None:
        files = {"dataset/Evans/a.mid": playing(1), "dataset/Monk/b.mid": playing(2)}
        source = zipped(tmp_path / "set.zip", files) if as_zip else put(tmp_path / "set", files)
        assert import_source(root, source).pianists == ("Evans", "Monk")

    def test_a_changed_file_needs_another_name(
        self, root: DataRoot, performances: dict[str, bytes], tmp_path: Path
    ) -> None:
        source = put(tmp_path / "set", performances)
        import_source(root, source)
        put(source, {"Ann Alpha/one.mid": playing(42)})
        with pytest.raises(ImportSourceError, match="--name"):
            import_source(root, source)
        assert import_source(root, source, name="second").recordings == 3
        assert len(root.tracks()) == 6

    def test_files_that_read_alike_stay_apart(self, root: DataRoot, tmp_path: Path) -> None:
        names = [
            "Ann/a b.mid",
            "Ann/a-b.mid",
            "Ann/A B.mid",
            "Ann/x/a b.mid",
            "Ann/音楽.mid",
            "Ann/曲.mid",
            "Änn/a b.mid",
        ]
        files = {name: playing(seed) for seed, name in enumerate(names)}
        report = import_source(root, put(tmp_path / "set", files))
        assert report.recordings == len(names)
        kept = {path.read_bytes() for path in root.raw_dir.rglob("*.mid")}
        assert kept == set(files.values())
        assert report.pianists == ("Ann", "Änn")

    def test_broken_files_do_not_end_an_import(self, root: DataRoot, tmp_path: Path) -> None:
        silence = Notes.from_arrays([0.0, 200.0], [1.0, 201.0], [60, 60], [64, 64])
        files = {
            "Ann/good.mid": playing(1),
            "Ann/html.mid": b"<html>",
            "Ann/empty.mid": b"",
            "Ann/huge.mid": bytes(5_000_000),
            "Ann/silent.mid": write_midi(silence),
            "nobody.mid": playing(2),
        }
        report = import_source(root, put(tmp_path / "set", files))
        assert report.recordings == 2
        assert report.clips == 2 + 2
        found = reasons(report.skipped)
        assert set(found) == set(files) - {"Ann/good.mid"}
        assert "larger than 4 MB" in found["Ann/huge.mid"]
        assert "not in the folder of a pianist" in found["nobody.mid"]
        assert "4 of its 6 clips hold no note" in found["Ann/silent.mid"]
        (track,) = [track for track in root.tracks() if "silent" in track]
        assert [path.name for path in root.clip_paths(track)] == ["clip_000.mid", "clip_005.mid"]

    def test_names_are_only_text(self, root: DataRoot, tmp_path: Path) -> None:
        names = ["<img src=x onerror=alert(1)>", "\u202egnp", "-rf", "a\nb", "x" * 200, "CON", "~", "$(id)", "🎹"]
        report = import_source(root, put(tmp_path / "set", {f"{name}/t.mid": playing(1) for name in names}))
        assert report.recordings == len(names)
        assert "<img src=x onerror=alert(1)>" in report.pianists
        assert "gnp" in report.pianists
        for name in contents(root):
            assert name.isascii()
            assert all(is_plain_name(part) for part in name.split("/"))

    def test_processes_give_the_same(self, root: DataRoot, performances: dict[str, bytes], tmp_path: Path) -> None:
        source = put(tmp_path / "set", performances)
        seen: list[tuple[int, int]] = []
        import_source(root, source, workers=2, progress=lambda done, total: seen.append((done, total)))
        alone = DataRoot(tmp_path / "alone")
        import_source(alone, source)
        assert contents(root) == contents(alone)
        assert seen == [(1, 3), (2, 3), (3, 3)]

    def test_the_root_below_the_source_is_left_out(self, performances: dict[str, bytes], tmp_path: Path) -> None:
        source = put(tmp_path / "set", performances)
        root = DataRoot(source / "workspace")
        import_source(root, source)
        assert import_source(root, source).unchanged == 3

    @given(st.lists(st.text(st.characters(blacklist_characters="/\0"), min_size=1), min_size=1, unique=True))
    @example(["\u00e9", "e\u0301"])
    def test_any_names_give_plain_folders_that_differ(self, names: list[str]) -> None:
        class Names:
            def __init__(self) -> None:
                self.path = Path("/nowhere")
                self.names = tuple(f"A{name}/{other}.mid" for name in names for other in names)

        found, skipped = in_folders(Names(), "source")  # type: ignore[arg-type]
        assert len(found) + len(skipped) == len(names) ** 2
        assert len({performance.recording for performance in found}) == len(found)
        assert all(is_plain_name(performance.recording) for performance in found)

    @given(st.text(), st.integers(1, 50))
    def test_slugs_are_plain(self, text: str, longest: int) -> None:
        made = slug(text, longest)
        assert 1 <= len(made) <= longest
        assert all(sign.isascii() and (sign.isalnum() or sign == "-") for sign in made)
        assert made == made.lower().strip("-")


class TestTables:
    def test_say_who_plays(self, root: DataRoot, tmp_path: Path) -> None:
        put(tmp_path, {"music/a.mid": playing(1), "b.mid": playing(2), "c.mid": playing(3)})
        (tmp_path / "list.csv").write_text(
            "Filename,Pianist,album,composition,source,setting,year\n"
            "music/a.mid,Ann,First,Blues in F,live,solo,1999\n"
            f"{tmp_path}/b.mid,Bob,,,,,\n"
            "./c.mid, Bob ,,,,,\n",
            encoding="utf-8-sig",
        )
        report = import_source(root, tmp_path / "list.csv")
        assert (report.recordings, report.clips, report.pianists) == (3, 6, ("Ann", "Bob"))
        infos = {info.pianist: info for info in root.recordings().values()}
        ann = infos["Ann"]
        assert (ann.album, ann.composition, ann.setting) == ("First", "Blues in F", "solo")
        assert ann.track.startswith("live/ann-a-")
        assert infos["Bob"].track.startswith("list/bob-")

    def test_rows_that_lead_nowhere_are_skipped(self, root: DataRoot, tmp_path: Path) -> None:
        put(tmp_path, {"a.mid": playing(1), "b.mid": b"no"})
        (tmp_path / "folder.mid").mkdir()
        (tmp_path / "list.csv").write_text(
            "file,pianist\na.mid,Ann\nb.mid,Ann\ngone.mid,Ann\nfolder.mid,Ann\n,Ann\nc.mid,\na.mid,Bob\n/dev/zero,Ann\n"
        )
        report = import_source(root, tmp_path / "list.csv")
        assert report.recordings == 1
        assert len(report.skipped) == 7
        found = reasons(report.skipped)
        assert "cannot be read" in found["gone.mid"]
        assert found["/dev/zero"] == "not a regular file"
        assert found["c.mid"] == "line 7 names no pianist"
        assert found["a.mid"] == "line 8 lists it again"

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "no column file or path"),
            ("pianist\nAnn\n", "no column file or path"),
            ("file\na.mid\n", "no column pianist"),
            ("file,pianist\na.mid\n", "line 2"),
            ("file,pianist\n", "nothing in 'list.csv'"),
            ("file,pianist\ngone.mid,Ann\n", "gone.mid"),
        ],
    )
    def test_a_wrong_table_is_refused(self, root: DataRoot, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "list.csv").write_text(text)
        with pytest.raises(ImportSourceError) as caught:
            import_source(root, tmp_path / "list.csv")
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not root.path.exists()


class TestMetadata:
    def test_is_merged_by_track(self, root: DataRoot, layout: dict[str, bytes], tmp_path: Path) -> None:
        (tmp_path / "more.csv").write_text(
            "track,pianist,album,label\njtd/a,Ann,Second,Blue\njtd/nowhere,X,Y,Z\nsolo/b,,Third,\n"
        )
        report = import_source(root, zipped(tmp_path / "a.zip", layout), metadata=tmp_path / "more.csv")
        assert "1 of its 3 tracks are not in the data root" in reasons(report.skipped)["more.csv"]
        infos = root.recordings()
        assert (infos["jtd/a"].pianist, infos["jtd/a"].album) == ("Ann", "Second")
        assert (infos["solo/b"].pianist, infos["solo/b"].album) == ("Bob", "Third")
        assert "label" in root.recordings_file.read_text().splitlines()[0]

    def test_own_corrections_survive_another_import(
        self, root: DataRoot, performances: dict[str, bytes], tmp_path: Path
    ) -> None:
        source = put(tmp_path / "set", performances)
        import_source(root, source)
        text = root.recordings_file.read_text().replace("Bob Beta,", "Robert Beta,")
        root.recordings_file.write_text(text)
        import_source(root, source)
        assert root.recordings_file.read_text() == text

    def test_broken_tables_are_found_before_anything_is_imported(
        self, root: DataRoot, performances: dict[str, bytes], tmp_path: Path
    ) -> None:
        source = put(tmp_path / "set", performances)
        (tmp_path / "more.csv").write_text("album\nx\n")
        with pytest.raises(ImportSourceError, match=r"metadata more\.csv: line 1"):
            import_source(root, source, metadata=tmp_path / "more.csv")
        with pytest.raises(ImportSourceError, match=r"gone\.csv: cannot be read"):
            import_source(root, source, metadata=tmp_path / "gone.csv")
        put(root.path, {"references/recordings.csv": b"album\nx\n"})
        with pytest.raises(DataRootError, match=r"recordings\.csv: line 1"):
            import_source(root, source)
        assert not root.clips_dir.exists()


class TestRefusals:
    @pytest.mark.parametrize("name", sorted(path.name for path in HOSTILE.iterdir()))
    def test_hostile_archives_leave_nothing(self, root: DataRoot, name: str) -> None:
        with pytest.raises((ArchiveError, ImportSourceError)) as caught:
            import_source(root, HOSTILE / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not root.path.exists()

    def test_music_in_a_bad_archive_is_not_kept(
        self, root: DataRoot, performances: dict[str, bytes], tmp_path: Path
    ) -> None:
        source = zipped(tmp_path / "a.zip", performances)
        data = bytearray(source.read_bytes())
        at = data.index(b"Bob Beta/two.mid") + 40
        data[at] ^= 0xFF
        source.write_bytes(bytes(data))
        with pytest.raises(ArchiveError, match="broken at"):
            import_source(root, source)
        assert not root.path.exists()

    @pytest.mark.parametrize("files", [{}, {"readme.txt": b"x"}, {"a.mid": b"MThd"}, {"Ann/a.mid": b"no"}])
    def test_nothing_usable_says_what_would_be(self, root: DataRoot, tmp_path: Path, files: dict[str, bytes]) -> None:
        (tmp_path / "set").mkdir()
        with pytest.raises(ImportSourceError, match=r"nothing in 'set' can be imported.*one with a folder of MIDI"):
            import_source(root, put(tmp_path / "set", files))
        assert not root.path.exists()

    @pytest.mark.parametrize("part", ["", "data", "data/clips/jtd", "references"])
    def test_the_root_itself_is_used_in_place(
        self, root: DataRoot, layout: dict[str, bytes], tmp_path: Path, part: str
    ) -> None:
        put(root.path, layout)
        with pytest.raises(ImportSourceError, match="used in place, with --data-root"):
            import_source(root, root.path / part)

    @pytest.mark.parametrize("name", ["a/b", "..", "", "a\0b", "CON"])
    def test_a_name_that_is_no_folder(
        self, root: DataRoot, performances: dict[str, bytes], tmp_path: Path, name: str
    ) -> None:
        with pytest.raises(ImportSourceError, match="cannot be given to a source"):
            import_source(root, put(tmp_path / "set", performances), name=name)

    def test_a_root_that_cannot_be_written(self, performances: dict[str, bytes], tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(DataRootError, match="cannot write to the data root"):
            import_source(DataRoot(tmp_path / "file" / "root"), put(tmp_path / "set", performances))

    def test_a_full_disk(
        self, root: DataRoot, performances: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(self: Path, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        source = put(tmp_path / "set", performances)
        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(DataRootError, match="No space left on device"):
            import_source(root, source)
        assert not root.path.exists()

    def test_two_imports_at_once(self, root: DataRoot, performances: dict[str, bytes], tmp_path: Path) -> None:
        source = put(tmp_path / "set", performances)
        refused: list[str] = []

        def second(done: int, total: int) -> None:
            with pytest.raises(DataRootError) as caught:
                import_source(root, source, name="other")
            refused.append(str(caught.value))

        assert import_source(root, source, progress=second).recordings == 3
        assert all("another import" in message for message in refused)
        assert len(refused) == 3


class TestKilled:
    """A kill -9 at any moment leaves whole recordings only, and the next import brings the rest."""

    SCRIPT = textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        from pianistid_core.datasets import staging
        from pianistid_core.datasets.importing import import_source
        from pianistid_core.datasets.root import DataRoot
        where, number = sys.argv[3], int(sys.argv[4])
        move, moves = staging._move, []
        def die(*_):
            os.kill(os.getpid(), signal.SIGKILL)
        def moving(source, target):
            if where == "placing" and len(moves) == number:
                die()
            moves.append(target)
            move(source, target)
        staging._move = moving
        def progress(done, total):
            if where == "staging" and done == number:
                die()
        import_source(DataRoot(Path(sys.argv[1])), sys.argv[2], progress=progress)
    """)

    @pytest.mark.parametrize(("where", "number"), [("staging", 2), ("placing", 0), ("placing", 1), ("placing", 3)])
    def test_nothing_is_half_written(
        self, root: DataRoot, layout: dict[str, bytes], tmp_path: Path, where: str, number: int
    ) -> None:
        source = zipped(tmp_path / "a.zip", layout)
        whole = DataRoot(tmp_path / "whole")
        import_source(whole, source)
        ended = subprocess.run(
            [sys.executable, "-c", self.SCRIPT, str(root.path), str(source), where, str(number)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert ended.returncode == -signal.SIGKILL
        visible = {name: data for name, data in contents(root).items() if not name.startswith(".import-")}
        units = {name.rpartition("/")[0] for name in visible}
        assert len(units) == (number if where == "placing" else 0)
        expected = contents(whole)
        for unit in units:
            assert {n for n in visible if n.startswith(f"{unit}/")} == {n for n in expected if n.startswith(f"{unit}/")}
        import_source(root, source)
        assert contents(root) == expected


def test_another_disk_below_the_root(
    root: DataRoot, layout: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def across(source: Path, target: Path) -> None:
        if ".import-" in str(source) and Path(source).parent != Path(target).parent:
            raise OSError(18, "Invalid cross-device link")
        rename(source, target)

    monkeypatch.setattr(staging_module.os, "rename", across)
    import_source(root, zipped(tmp_path / "a.zip", layout))
    expected = {name.replace(".MID", ".mid"): data for name, data in layout.items()}
    assert contents(root) == expected
    assert not list(root.path.rglob(".import-*"))


def test_removing_a_recording_brings_it_back(root: DataRoot, layout: dict[str, bytes], tmp_path: Path) -> None:
    source = zipped(tmp_path / "a.zip", layout)
    import_source(root, source)
    before = contents(root)
    shutil.rmtree(root.clips_dir / "jtd" / "a")
    assert import_source(root, source).recordings == 2
    assert contents(root) == before
