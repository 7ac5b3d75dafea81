"""The doctor: planted leaks are found, clean data raise no alarm, and every finding names what is behind it."""

import json
import multiprocessing
import os
import shutil
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pianistid_core.datasets import doctor as doctor_module
from pianistid_core.datasets.demo import make_demo
from pianistid_core.datasets.doctor import Finding, Report, check
from pianistid_core.datasets.findings import ExaminedClip
from pianistid_core.datasets.root import DataRoot, Split, SplitEntry, write_split
from pianistid_core.datasets.splitting import make_split
from pianistid_core.errors import DataRootError, SplitError
from pianistid_core.midi import Notes, augment, read_midi, write_midi

Change = Callable[[Notes], Notes]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    """A demo data set without fault, not to be changed."""
    root = DataRoot(tmp_path_factory.mktemp("clean"))
    make_demo(root, recordings_per_pianist=4)
    return root


@pytest.fixture
def root(clean: DataRoot, tmp_path: Path) -> DataRoot:
    """A copy of it to spoil."""
    shutil.copytree(clean.path, tmp_path / "root")
    return DataRoot(tmp_path / "root")


_examine = doctor_module._examine


def deadly(jobs: Sequence[tuple[str, Path]]) -> list[ExaminedClip]:
    """Kills the process that it is given to, but not this one."""
    if multiprocessing.parent_process() is not None:
        os._exit(1)
    return _examine(jobs)


def kinds(report: Report, *severities: str) -> set[str]:
    return {finding.kind for finding in report.findings if finding.severity in severities}


def the(report: Report, kind: str) -> Finding:
    (finding,) = [finding for finding in report.findings if finding.kind == kind]
    return finding


def a_track(root: DataRoot, part: str, index: int = 0) -> str:
    return root.split("demo").part(part)[index].track


def change_split(root: DataRoot, change: Callable[[dict[str, tuple[SplitEntry, ...]]], None]) -> None:
    split = root.split("demo")
    parts = dict(split.parts)
    change(parts)
    write_split(root, Split("demo", split.class_names, parts), overwrite=True)


def add_recording(root: DataRoot, track: str, part: str, clips: list[Notes]) -> None:
    """Puts a new recording by the first pianist into one part of the split."""
    (root.clips_dir / track).mkdir(parents=True)
    for number, clip in enumerate(clips):
        write_midi(clip, root.clips_dir / track / f"clip_{number:03d}.mid")
    entry = SplitEntry(track, 0, 30.0 * len(clips))
    change_split(root, lambda parts: parts.update({part: (*parts[part], entry)}))


def from_arrays(notes: Notes, **changes: object) -> Notes:
    arrays = {name: getattr(notes, name) for name in ("onsets_s", "offsets_s", "pitches", "velocities")}
    return Notes.from_arrays(**{**arrays, **changes})  # type: ignore[arg-type]


# --- ways to disguise a copy -----------------------------------------------------------------------------------------


def as_it_is(notes: Notes) -> Notes:
    return notes


def constant_velocity(notes: Notes) -> Notes:
    return from_arrays(notes, velocities=np.full(len(notes), 63))


def later(notes: Notes) -> Notes:
    return notes.shifted(3.7)


def begun_later(notes: Notes) -> Notes:
    return notes.between(9.3, 1e3).shifted(-9.3)


def excerpt(notes: Notes) -> Notes:
    return notes.between(6.0, 20.0).shifted(-6.0)


def transposed(notes: Notes) -> Notes:
    return from_arrays(notes, pitches=notes.pitches + 3)


def faster(notes: Notes) -> Notes:
    return from_arrays(notes, onsets_s=notes.onsets_s / 1.12, offsets_s=notes.offsets_s / 1.12)


def on_a_grid(notes: Notes) -> Notes:
    onsets_s = np.round(notes.onsets_s, 1)
    return from_arrays(notes, onsets_s=onsets_s, offsets_s=np.maximum(np.round(notes.offsets_s, 1), onsets_s + 0.1))


def shaken(notes: Notes) -> Notes:
    moved = np.clip(np.random.default_rng(0).normal(0.0, 0.012, len(notes)), -0.03, 0.03)
    onsets_s = np.maximum(notes.onsets_s + moved, 0.0)
    return from_arrays(notes, onsets_s=onsets_s, offsets_s=np.maximum(notes.offsets_s, onsets_s + 0.02))


def with_wrong_notes(notes: Notes) -> Notes:
    rng = np.random.default_rng(0)
    wrong = rng.random(len(notes)) < 0.06
    kept = rng.random(len(notes)) >= 0.04
    changed = from_arrays(
        notes, pitches=np.where(wrong, notes.pitches + rng.integers(-4, 5, len(notes)), notes.pitches)
    )
    return Notes(changed.onsets_s[kept], changed.offsets_s[kept], changed.pitches[kept], changed.velocities[kept])


def augmented(notes: Notes) -> Notes:
    return augment(notes, np.random.default_rng(4))


DISGUISES: list[Change] = [
    as_it_is,
    constant_velocity,
    later,
    begun_later,
    excerpt,
    transposed,
    faster,
    on_a_grid,
    shaken,
    with_wrong_notes,
    augmented,
]


class TestPlantedLeaks:
    @pytest.mark.parametrize("disguise", DISGUISES, ids=lambda disguise: str(disguise.__name__))
    def test_a_copy_in_another_part(self, root: DataRoot, disguise: Change) -> None:
        source = a_track(root, "train", 5)
        clips = [disguise(read_midi(path)) for path in root.clip_paths(source)]
        add_recording(root, "demo/copy-under-another-name", "test", clips)
        finding = the(check(root, "demo"), "same-music")
        assert finding.severity == "error"
        assert finding.split == "demo"
        for item in finding.items:
            assert source in item
            assert "demo/copy-under-another-name" in item
            assert "train: " in item
            assert "test: " in item

    def test_one_clip_hidden_in_another_recording(self, root: DataRoot) -> None:
        source, victim = a_track(root, "train", 3), a_track(root, "validation", 2)
        shutil.copy(root.clip_paths(source)[1], root.clip_paths(victim)[0])
        finding = the(check(root, "demo"), "same-music")
        assert any(f"{source}/clip_001.mid" in item and f"{victim}/clip_000.mid" in item for item in finding.items)

    def test_a_few_notes_copied_whole(self, root: DataRoot) -> None:
        """Too short for an outline, but the same from the first note to the last."""
        few = read_midi(root.clip_paths(a_track(root, "train"))[0]).between(0.0, 4.0)
        add_recording(root, "demo/short-one", "train", [few])
        add_recording(root, "demo/short-two", "test", [few.shifted(1.0)])
        assert "demo/short-one" in the(check(root, "demo"), "same-music").items[0]

    def test_only_what_a_network_may_hear_is_compared(self, root: DataRoot) -> None:
        """A clip of any length is heard for 30 s from within its first 30 s."""
        source = a_track(root, "train", 5)
        copied = [read_midi(path) for path in root.clip_paths(source)]
        add_recording(root, "demo/heard", "test", [notes.shifted(29.0) for notes in copied])
        add_recording(root, "demo/unheard", "test", [notes.shifted(61.0) for notes in copied])
        items = the(check(root, "demo"), "same-music").items
        assert any("demo/heard" in item and source in item for item in items)
        assert not any("demo/unheard" in item for item in items)

    def test_the_same_recording_in_two_parts(self, root: DataRoot) -> None:
        entry = root.split("demo").part("train")[0]
        change_split(root, lambda parts: parts.update(test=(*parts["test"], entry)))
        finding = the(check(root, "demo"), "same-recording")
        assert finding.severity == "error"
        assert finding.items == (f"{entry.track}: train and test",)

    @pytest.mark.parametrize("by", ["album", "composition"])
    def test_a_broken_promise(self, root: DataRoot, by: str) -> None:
        """A split made by album is found out when an album comes to be in two parts."""
        shutil.rmtree(root.splits_dir / "demo")
        extra = "demo2"
        make_demo(root, name=extra, seed=9, recordings_per_pianist=12)
        make_split(root, "demo", by=by, sources=[extra])
        assert f"shared-{by}" not in kinds(check(root, "demo"), *("error", "warning", "note"))
        entry = root.split("demo").part("train")[0]
        change_split(root, lambda parts: parts.update(train=parts["train"][1:], test=(*parts["test"], replace(entry))))
        finding = the(check(root, "demo"), f"shared-{by}")
        assert finding.severity == "error"
        assert "make it again" in finding.message

    def test_nothing_is_said_of_copies_within_one_part_but_a_note(self, root: DataRoot) -> None:
        source = a_track(root, "train")
        add_recording(root, "demo/copy", "train", [read_midi(path) for path in root.clip_paths(source)])
        report = check(root, "demo")
        assert "same-music" not in kinds(report, "error")
        finding = the(report, "repeats")
        assert finding.severity == "note"
        assert source in finding.items[0]
        assert "demo/copy" in finding.items[0]

    def test_all_at_once(self, root: DataRoot) -> None:
        """One fault does not hide another."""
        source = a_track(root, "train", 5)
        for disguise in DISGUISES:
            clips = [disguise(read_midi(path)) for path in root.clip_paths(source)]
            add_recording(root, f"demo/{disguise.__name__}", "test", clips)
        finding = the(check(root, "demo"), "same-music")
        for disguise in DISGUISES:
            assert any(f"demo/{disguise.__name__}/" in item and source in item for item in finding.items), disguise


class TestCleanData:
    def test_the_demo_raises_no_alarm(self, clean: DataRoot) -> None:
        report = check(clean)
        assert report.healthy
        assert kinds(report, "error", "warning") == set()
        assert kinds(report, "note") == {"shared-album", "shared-composition"}

    def test_the_published_split(self, shared: Path, tmp_path: Path) -> None:
        """5,254 real clips. One pair of recordings does hold the same music in train and test, under two titles."""
        with zipfile.ZipFile(shared / "data" / "jazz20.zip") as archive:
            archive.extractall(tmp_path)
        report = check(DataRoot(tmp_path), metadata=shared / "data" / "recordings.csv")
        assert kinds(report, "error") == {"same-music"}
        leak = the(report, "same-music")
        assert len(leak.items) == 2
        for item in leak.items:
            assert "train: jtd/jarrettk-basinstreetblues-peacockgdejohnettej-1993-486d09c2" in item
            assert "test: jtd/jarrettk-byebyeblackbird-peacockgmotianp-1992-a2b64c05" in item
        repeats = the(report, "repeats").items
        assert len(repeats) == 8
        assert all(item.split(" = ")[0].split("-")[0] == item.split(" = ")[1].split("-")[0] for item in repeats)
        assert kinds(report, "warning") == {"no-chords", "untested", "imbalance"}
        assert the(report, "untested").items == ("Geri Allen: no test",)
        train, test = report.parts
        assert (train.recordings, train.clips, test.recordings, test.clips) == (1146, 4612, 139, 642)
        assert test.baseline == pytest.approx(14 / 139)


class TestFindings:
    def test_unreadable_clips_have_a_reason(self, root: DataRoot) -> None:
        broken = root.clip_paths(a_track(root, "train"))[0]
        broken.write_bytes(broken.read_bytes()[:100])
        finding = the(check(root), "unreadable")
        assert finding.severity == "error"
        (item,) = finding.items
        assert item.startswith(f"{a_track(root, 'train')}/clip_000.mid: ")
        assert "cut off" in item

    def test_empty_clips(self, root: DataRoot) -> None:
        """Notes only in the padding, or off the keyboard."""
        paths = root.clip_paths(a_track(root, "train"))
        write_midi(Notes.from_arrays([40.0], [41.0], [60], [70]), paths[0])
        write_midi(Notes.from_arrays([1.0], [2.0], [5], [70]), paths[1])
        finding = the(check(root), "empty")
        assert (finding.severity, len(finding.items)) == ("warning", 2)

    def test_clips_without_chords(self, root: DataRoot) -> None:
        path = root.clip_paths(a_track(root, "train"))[0]
        onsets_s = np.arange(0.0, 29.0, 0.5)
        write_midi(Notes.from_arrays(onsets_s, onsets_s + 0.4, 60 + np.arange(58) % 12, np.full(58, 70)), path)
        finding = the(check(root), "no-chords")
        assert (finding.severity, len(finding.items)) == ("warning", 1)
        assert kinds(check(root), "error") == set()

    def test_clips_missing_from_the_middle(self, root: DataRoot) -> None:
        track = a_track(root, "train")
        root.clip_paths(track)[0].unlink()
        finding = the(check(root), "gaps")
        assert finding.severity == "warning"
        assert finding.items == (f"{track}: no clip 0",)
        assert the(check(root), "incomplete").severity == "note"

    def test_recordings_without_clips(self, root: DataRoot) -> None:
        track = a_track(root, "test")
        shutil.rmtree(root.clips_dir / track)
        finding = the(check(root, "demo"), "missing")
        assert finding.severity == "error"
        assert finding.items == (f"test: {track}",)

    def test_a_pianist_who_is_tested_but_not_trained(self, root: DataRoot) -> None:
        change_split(root, lambda p: p.update(train=tuple(entry for entry in p["train"] if entry.pianist != 3)))
        finding = the(check(root, "demo"), "untrained")
        assert (finding.severity, finding.items) == ("error", ("Dov Lindgren",))

    def test_a_pianist_who_is_trained_but_not_tested(self, root: DataRoot) -> None:
        change_split(root, lambda p: p.update(test=tuple(entry for entry in p["test"] if entry.pianist != 3)))
        finding = the(check(root, "demo"), "untested")
        assert (finding.severity, finding.items) == ("warning", ("Dov Lindgren: no test",))

    def test_imbalance(self, root: DataRoot) -> None:
        def thin_out(parts: dict[str, tuple[SplitEntry, ...]]) -> None:
            parts["train"] = tuple(e for e in parts["train"] if e.pianist == 0)[:1] + tuple(
                replace(entry, pianist=1) for entry in parts["train"] if entry.pianist > 0
            )

        change_split(root, thin_out)
        finding = the(check(root, "demo"), "imbalance")
        assert finding.severity == "warning"
        assert "Bela Marsh has 14 times" in finding.message or "Bela Marsh has 15 times" in finding.message

    def test_no_validation(self, root: DataRoot) -> None:
        change_split(root, lambda parts: parts.pop("validation"))
        assert the(check(root, "demo"), "no-validation").severity == "note"
        assert the(check(root), "unused").severity == "note"

    def test_a_pianist_that_the_records_contradict(self, root: DataRoot) -> None:
        entry = root.split("demo").part("train")[0]
        change_split(root, lambda p: p.update(train=(replace(entry, pianist=(entry.pianist + 1) % 8), *p["train"][1:])))
        finding = the(check(root, "demo"), "other-pianist")
        assert finding.severity == "warning"
        assert entry.track in finding.items[0]

    def test_a_split_that_cannot_be_read(self, root: DataRoot) -> None:
        path = root.splits_dir / "demo" / "test_split.csv"
        path.write_text(path.read_text().replace("demo/", "", 1))
        for report in (check(root), check(root, "demo")):
            assert the(report, "broken-split").severity == "error"
            assert "line 2" in the(report, "broken-split").message

    def test_albums_unknown(self, root: DataRoot) -> None:
        root.recordings_file.unlink()
        shutil.rmtree(root.raw_dir)
        report = check(root)
        assert {"unknown-album", "unknown-composition"} <= kinds(report, "note")
        assert "any recording" in the(report, "unknown-album").message
        assert all("--" not in finding.message for finding in report.findings), "a page shows them too"

    def test_albums_from_a_given_table(self, clean: DataRoot, root: DataRoot) -> None:
        shutil.rmtree(root.raw_dir)
        table = root.recordings_file.rename(root.path / "elsewhere.csv")
        assert kinds(check(root, metadata=table)) == kinds(check(clean))
        assert the(check(root, metadata=table), "shared-album").severity == "note"

    def test_every_finding_is_a_sentence(self, root: DataRoot) -> None:
        root.clip_paths(a_track(root, "train"))[0].write_bytes(b"")
        shutil.rmtree(root.clips_dir / a_track(root, "test"))
        for finding in check(root).findings:
            assert finding.message.endswith(".")
            assert "\n" not in finding.message
            assert finding.title[0].isupper()


class TestReport:
    def test_tables_count_what_is_there(self, clean: DataRoot) -> None:
        report = check(clean, "demo")
        n_clips = sum(len(clean.clip_paths(track)) for track in clean.tracks())
        assert sum(row.clips for row in report.rows) == sum(part.clips for part in report.parts) == n_clips
        assert sum(row.recordings for row in report.rows) == len(clean.tracks())
        assert sum(row.hours for row in report.rows) == pytest.approx(n_clips / 120)
        assert [part.part for part in report.parts] == ["train", "test", "validation"]
        assert {part.baseline for part in report.parts} == {0.125}
        assert {row.pianist for row in report.rows} == set(clean.split("demo").class_names)

    def test_is_plain_json(self, root: DataRoot) -> None:
        root.clip_paths(a_track(root, "train"))[0].write_bytes(b"")
        report = check(root)
        read = json.loads(json.dumps(report.to_dict()))
        assert read["healthy"] is False
        assert read["counts"]["error"] == 1
        assert len(read["findings"]) == len(report.findings)
        assert read["findings"][0]["severity"] == "error"

    def test_gravest_first(self, root: DataRoot) -> None:
        root.clip_paths(a_track(root, "train"))[1].write_bytes(b"")
        change_split(root, lambda p: p.update(test=tuple(entry for entry in p["test"] if entry.pianist != 3)))
        severities = [finding.severity for finding in check(root).findings]
        assert severities == sorted(severities, key=["error", "warning", "note"].index)
        assert set(severities) == {"error", "warning", "note"}

    def test_without_any_split(self, root: DataRoot) -> None:
        shutil.rmtree(root.splits_dir)
        report = check(root)
        assert (report.splits, report.healthy) == ((), True)
        assert len(report.rows) == 8
        assert report.parts[0].part is None

    def test_nothing_to_check_is_an_error(self, tmp_path: Path) -> None:
        for path in (tmp_path, tmp_path / "missing"):
            with pytest.raises(DataRootError, match=r"there is nothing to check in .*`pianistid data import`"):
                check(DataRoot(path))

    def test_progress_counts_clips(self, clean: DataRoot) -> None:
        heard: list[tuple[int, int]] = []
        check(clean, progress=lambda done, total: heard.append((done, total)))
        n_clips = sum(len(clean.clip_paths(track)) for track in clean.tracks())
        assert heard[-1] == (n_clips, n_clips)

    def test_several_processes_find_the_same(self, root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor_module, "_FILES_PER_TASK", 16)
        source = a_track(root, "train")
        add_recording(root, "demo/copy", "test", [read_midi(path) for path in root.clip_paths(source)])
        assert check(root, workers=2) == check(root)

    def test_processes_that_die_change_nothing(self, clean: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
        expected = check(clean)
        monkeypatch.setattr(doctor_module, "_examine", deadly)
        monkeypatch.setattr(doctor_module, "_FILES_PER_TASK", 16)
        assert check(clean, workers=2) == expected

    def test_nothing_is_written(self, clean: DataRoot) -> None:
        before = {path: path.stat().st_mtime_ns for path in clean.path.rglob("*")}
        check(clean)
        assert {path: path.stat().st_mtime_ns for path in clean.path.rglob("*")} == before

    def test_a_split_that_does_not_exist(self, clean: DataRoot) -> None:
        with pytest.raises(SplitError, match="did you mean 'demo'"):
            check(clean, "demoo")

    def test_a_table_that_cannot_be_read(self, clean: DataRoot, tmp_path: Path) -> None:
        with pytest.raises(DataRootError, match=r"nowhere\.csv"):
            check(clean, metadata=tmp_path / "nowhere.csv")
