"""Splits: nothing is divided, everyone is where the ratios say, and the same seed gives the same bytes."""

import json
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pianistid_core.datasets import root as root_module
from pianistid_core.datasets import splitting as splitting_module
from pianistid_core.datasets.root import PARTS, DataRoot, RecordingInfo, Split, read_recordings_file
from pianistid_core.datasets.splitting import (
    SplitPlan,
    group_name,
    make_split,
    plan_split,
    preview_split,
    split_options,
)
from pianistid_core.errors import DataRootError, SplitError


def infos(
    recordings: int = 20, pianists: Sequence[str] = ("Ann", "Bob", "Cyd"), albums: int = 5, seed: int = 0
) -> list[RecordingInfo]:
    """Recordings of two to nine minutes, a few an album, all playing from one book of tunes."""
    rng = random.Random(seed)
    return [
        RecordingInfo(
            f"live/{pianist.lower()}-{number:03d}",
            pianist,
            album=f"{pianist} Album {number % albums}",
            composition=f"tune {rng.randrange(30)}",
            duration_s=rng.uniform(120.0, 540.0),
        )
        for pianist in pianists
        for number in range(recordings)
    ]


def tracks(plan: SplitPlan) -> dict[str, set[str]]:
    return {part: {entry.track for entry in entries} for part, entries in plan.split.parts.items()}


def make_root(path: Path, recordings: Sequence[RecordingInfo]) -> DataRoot:
    """A data root in which each recording has one clip; splitting looks at names alone."""
    root = DataRoot(path)
    for info in recordings:
        folder = root.clips_dir / info.track
        folder.mkdir(parents=True)
        (folder / "clip_000.mid").write_bytes(b"")
    lines = ["track,pianist,album,composition,duration_s"]
    lines += [f"{i.track},{i.pianist},{i.album or ''},{i.composition or ''},{i.duration_s}" for i in recordings]
    root.recordings_file.parent.mkdir(parents=True)
    root.recordings_file.write_text("\n".join(lines) + "\n")
    return root


def files(root: DataRoot, name: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((root.splits_dir / name).iterdir())}


class TestPlan:
    def test_every_recording_is_in_one_part(self) -> None:
        recordings = infos()
        parts = tracks(plan_split(recordings, "s"))
        assert set().union(*parts.values()) == {info.track for info in recordings}
        assert sum(map(len, parts.values())) == len(recordings)

    def test_every_pianist_comes_near_the_ratios(self) -> None:
        plan = plan_split(infos(recordings=40), "s")
        for share in plan.shares:
            total = sum(share.minutes.values())
            for part, ratio in zip(PARTS, (0.8, 0.1, 0.1), strict=True):
                assert share.minutes[part] / total == pytest.approx(ratio, abs=0.03), (share.pianist, part)

    def test_class_names_are_sorted_and_entries_follow_them(self) -> None:
        split = plan_split(infos(pianists=("Zoe", "Ann", "Mel")), "s").split
        assert split.class_names == ("Ann", "Mel", "Zoe")
        for entries in split.parts.values():
            for entry in entries:
                assert split.class_names[entry.pianist].lower() in entry.track

    @pytest.mark.parametrize("by", ["album", "composition"])
    def test_no_group_is_in_two_parts(self, by: str) -> None:
        recordings = {info.track: info for info in infos(recordings=30)}
        groups = {
            part: {group_name(recordings[track], by) for track in names}
            for part, names in tracks(plan_split(recordings.values(), "s", by=by)).items()
        }
        assert all(groups.values())
        assert not groups["train"] & groups["test"]
        assert not groups["train"] & groups["validation"]
        assert not groups["test"] & groups["validation"]

    def test_by_recording_does_divide_albums(self) -> None:
        """The opposite of the test above: else it would pass for any split."""
        recordings = {info.track: info for info in infos(recordings=30)}
        parts = tracks(plan_split(recordings.values(), "s"))
        albums = {part: {recordings[track].album for track in names} for part, names in parts.items()}
        assert albums["train"] & albums["test"]

    def test_titles_are_compared_without_what_labels_vary_in(self) -> None:
        def name(title: str) -> str:
            return group_name(RecordingInfo("a/b", "Ann", composition=title), "composition")

        variants = ("Désafinado", "DESAFINADO", "desafinado!", "Desafinado (take 2)", " Desafinado  [Alternate Take]")
        assert {name(title) for title in variants} == {"desafinado"}
        assert name("All of Me") != name("All of You")
        assert name("(Live)") == "live"

    def test_an_album_is_one_group_whoever_plays(self) -> None:
        duo = [RecordingInfo(f"x/{n}", "AB"[n % 2], album="Duo", duration_s=300.0) for n in range(6)]
        solo = [RecordingInfo(f"y/{n}", "AB"[n % 2], album=f"Solo {n}", duration_s=100.0) for n in range(30)]
        parts = tracks(plan_split([*duo, *solo], "s", by="album"))
        assert sum(bool(names & {info.track for info in duo}) for names in parts.values()) == 1

    def test_a_recording_without_album_is_its_own_group(self) -> None:
        recordings = [RecordingInfo(f"x/{n}", "AB"[n % 2], duration_s=60.0) for n in range(20)]
        recordings.append(RecordingInfo("x/known", "A", album="One", duration_s=60.0))
        plan = plan_split(recordings, "s", by="album")
        assert all(plan.split.parts[part] for part in PARTS)
        assert any("20 of 21 recordings have no album" in warning for warning in plan.warnings)

    def test_zero_for_validation_means_none(self) -> None:
        plan = plan_split(infos(), "s", ratios=(0.7, 0.3, 0.0))
        assert set(plan.split.parts) == {"train", "test"}
        assert plan.split.validation_is_test

    def test_seeds_give_different_splits(self) -> None:
        recordings = infos(recordings=40)
        tests = [frozenset(tracks(plan_split(recordings, "s", seed=seed))["test"]) for seed in range(5)]
        assert len(set(tests)) == 5

    def test_order_of_the_recordings_does_not_matter(self) -> None:
        recordings = infos()
        shuffled = random.Random(1).sample(recordings, len(recordings))
        assert plan_split(recordings, "s") == plan_split(shuffled, "s")

    def test_minimum_minutes_leaves_out_and_names(self) -> None:
        recordings = [*infos(), RecordingInfo("live/dee", "Dee", duration_s=300.0)]
        plan = plan_split(recordings, "s", minimum_minutes=30)
        assert plan.split.class_names == ("Ann", "Bob", "Cyd")
        assert [(left.pianist, left.minutes) for left in plan.left_out] == [("Dee", 5.0)]
        assert "fewer than 30" in plan.left_out[0].reason
        assert not plan_split(infos(), "s").left_out

    def test_chosen_pianists_only(self) -> None:
        plan = plan_split(infos(), "s", pianists=["Cyd", "Ann"])
        assert plan.split.class_names == ("Ann", "Cyd")

    def test_too_few_groups_are_said_and_go_to_train_first(self) -> None:
        recordings = [*infos(), RecordingInfo("live/dee", "Dee", duration_s=300.0)]
        plan = plan_split(recordings, "s")
        assert "live/dee" in tracks(plan)["train"]
        (warning,) = plan.warnings
        assert "Dee has no test and no validation recording" in warning

    def test_large_groups_are_said(self) -> None:
        recordings = infos(recordings=12, albums=3)
        plan = plan_split(recordings, "s", by="album")
        assert any("too large to come nearer" in warning for warning in plan.warnings)
        assert all(count for share in plan.shares for count in share.recordings.values())

    def test_report_is_plain_data(self) -> None:
        plan = plan_split(infos(), "s", minimum_minutes=1)
        assert json.loads(json.dumps(plan.to_dict()))["recordings"]["train"] == len(plan.split.parts["train"])
        assert sum(plan.hours.values()) == pytest.approx(sum(info.duration_s or 0 for info in infos()) / 3600)

    @settings(max_examples=40, deadline=None)
    @given(
        st.lists(
            st.tuples(st.sampled_from("ABC"), st.integers(0, 12), st.floats(1.0, 900.0)), min_size=12, max_size=60
        ),
        st.sampled_from(["recording", "album"]),
        st.integers(0, 99),
    )
    def test_any_recordings(self, drawn: list[tuple[str, int, float]], by: str, seed: int) -> None:
        recordings = [
            RecordingInfo(f"x/{number}", pianist, album=f"album {album}", duration_s=duration_s)
            for number, (pianist, album, duration_s) in enumerate(drawn)
        ]
        if len({info.pianist for info in recordings}) < 2:
            return
        try:
            plan = plan_split(recordings, "s", by=by, seed=seed)
        except SplitError as error:
            # Only where groups cannot fill the parts.
            assert "would be empty" in str(error)
            assert len({group_name(info, by) for info in recordings}) < 8
            return
        part_of = {entry.track: part for part, entries in plan.split.parts.items() for entry in entries}
        assert part_of.keys() == {info.track for info in recordings}
        parts_of_group = defaultdict(set)
        for info in recordings:
            parts_of_group[group_name(info, by)].add(part_of[info.track])
        assert all(len(parts) == 1 for parts in parts_of_group.values())
        assert all(share.recordings["train"] for share in plan.shares)
        if by == "recording":
            for share in plan.shares:
                if sum(share.recordings.values()) >= 3:
                    assert all(share.recordings.values()), share


class TestRefusals:
    @pytest.mark.parametrize(
        ("ratios", "words"),
        [
            ((0.8, 0.1), "three numbers"),
            ((0.8, 0.1, 0.2), "sum to 1.1"),
            ((80, 10, 10), "sum to 100"),
            ((1.2, -0.1, -0.1), "at least 0"),
            ((1.0, 0.0, 0.0), "train and test above 0"),
            ((0.0, 0.5, 0.5), "train and test above 0"),
            ((float("nan"), 0.5, 0.5), "three numbers"),
        ],
    )
    def test_bad_ratios(self, ratios: tuple[float, ...], words: str) -> None:
        with pytest.raises(SplitError, match=words):
            plan_split(infos(), "s", ratios=ratios)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"by": "label"}, "not by 'label'"),
            ({"pianists": ["An"]}, "did you mean 'Ann'"),
            ({"pianists": ["Ann", "Nobody At All"]}, "there is 'Ann', 'Bob', 'Cyd'"),
            ({"pianists": ["Ann"]}, "needs two or more"),
            ({"minimum_minutes": 10_000}, "needs two or more"),
            ({"minimum_minutes": -1}, "give 0 or more"),
            ({"minimum_minutes": float("inf")}, "give 0 or more"),
            ({"seed": -1}, "seed"),
        ],
    )
    def test_bad_options(self, arguments: dict[str, object], words: str) -> None:
        with pytest.raises(SplitError, match=words):
            plan_split(infos(), "s", **arguments)  # type: ignore[arg-type]

    @pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b", ".hidden", "con", "a\n"])
    def test_bad_names(self, name: str) -> None:
        with pytest.raises(SplitError, match="cannot be called"):
            plan_split(infos(), name)

    def test_nothing_known_of_albums(self) -> None:
        recordings = [RecordingInfo(f"x/{n}", "AB"[n % 2], duration_s=60.0) for n in range(20)]
        with pytest.raises(SplitError, match="nothing says the album of any recording"):
            plan_split(recordings, "s", by="album")

    def test_a_part_that_would_be_empty(self) -> None:
        recordings = [RecordingInfo(f"x/{n}", "AB"[n], duration_s=60.0) for n in range(2)]
        with pytest.raises(SplitError, match="would be empty"):
            plan_split(recordings, "s")

    def test_a_root_without_clips(self, tmp_path: Path) -> None:
        with pytest.raises(SplitError, match="no clips"):
            preview_split(DataRoot(tmp_path), "s")

    def test_a_metadata_table_that_cannot_be_read(self, tmp_path: Path) -> None:
        root = make_root(tmp_path / "root", infos())
        with pytest.raises(DataRootError, match=r"nowhere\.csv"):
            preview_split(root, "s", metadata=tmp_path / "nowhere.csv")

    def test_an_unknown_source(self, tmp_path: Path) -> None:
        root = make_root(tmp_path, infos())
        with pytest.raises(SplitError, match=r"no source 'studio'.*there is 'live'"):
            preview_split(root, "s", sources=["studio"])


class TestFiles:
    def test_the_same_bytes_whatever_the_order_of_the_file_system(self, tmp_path: Path) -> None:
        recordings = infos()
        shuffled = random.Random(3).sample(recordings, len(recordings))
        first, second = make_root(tmp_path / "1", recordings), make_root(tmp_path / "2", shuffled)
        for root in (first, second):
            make_split(root, "mine", by="album", seed=7)
        assert files(first, "mine") == files(second, "mine")
        assert {"train_split.csv", "test_split.csv", "validation_split.csv", "pianist_mapping.csv"} <= files(
            first, "mine"
        ).keys()

    def test_what_is_written_is_read_back(self, tmp_path: Path) -> None:
        root = make_root(tmp_path, infos())
        plan = make_split(root, "mine")
        read: Split = root.split("mine")
        assert read.class_names == plan.split.class_names
        assert dict(read.parts) == dict(plan.split.parts)

    def test_preview_writes_nothing_and_tells_the_same(self, tmp_path: Path) -> None:
        root = make_root(tmp_path, infos())
        plan = preview_split(root, "mine")
        assert not root.splits_dir.exists()
        assert make_split(root, "mine") == plan

    def test_an_existing_name_is_kept_unless_told(self, tmp_path: Path) -> None:
        root = make_root(tmp_path, infos())
        make_split(root, "mine", seed=1)
        before = files(root, "mine")
        with pytest.raises(SplitError, match="exists already"):
            make_split(root, "mine", seed=2)
        assert files(root, "mine") == before
        make_split(root, "mine", seed=2, overwrite=True)
        assert files(root, "mine") != before

    def test_overwriting_without_validation_leaves_no_old_table(self, tmp_path: Path) -> None:
        root = make_root(tmp_path, infos())
        make_split(root, "mine")
        make_split(root, "mine", ratios=(0.8, 0.2, 0), overwrite=True)
        assert root.split("mine").validation_is_test

    def test_a_preview_refuses_what_cannot_be_written(self, tmp_path: Path) -> None:
        root = make_root(tmp_path, infos())
        for make in (preview_split, make_split):
            with pytest.raises(SplitError, match="cannot be called"):
                make(root, "What's new")

    def test_a_split_comes_with_its_options_or_not_at_all(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = root_module.write_atomically

        def failing(path: Path, data: bytes) -> None:
            if path.name == "split_options.json":
                raise OSError(28, "No space left on device")
            write(path, data)

        root = make_root(tmp_path, infos())
        with monkeypatch.context() as full, pytest.raises(DataRootError, match="cannot write split"):
            full.setattr(root_module, "write_atomically", failing)
            full.setattr(splitting_module, "write_atomically", failing, raising=False)
            make_split(root, "mine")
        assert root.split_names() == []
        make_split(root, "mine")
        assert split_options(root, "mine")["seed"] == 42

    def test_options_are_remembered(self, tmp_path: Path) -> None:
        root = make_root(tmp_path, infos())
        make_split(root, "mine", by="composition", seed=5)
        assert split_options(root, "mine")["by"] == "composition"
        assert split_options(root, "mine")["seed"] == 5
        assert split_options(root, "elsewhere") == {}

    def test_facts_of_the_given_table_go_first(self, tmp_path: Path) -> None:
        recordings = infos()
        root = make_root(tmp_path, recordings)
        table = tmp_path / "facts.csv"
        table.write_text("track,pianist\n" + "\n".join(f"{info.track},Someone Else" for info in recordings[:20]))
        plan = preview_split(root, "mine", metadata=table)
        assert plan.split.class_names == ("Bob", "Cyd", "Someone Else")

    def test_clips_of_nobody_are_left_out_and_said(self, tmp_path: Path) -> None:
        root = make_root(tmp_path, infos())
        (root.clips_dir / "live" / "mystery").mkdir()
        (root.clips_dir / "live" / "mystery" / "clip_000.mid").write_bytes(b"")
        plan = preview_split(root, "mine")
        assert "live/mystery" not in set().union(*tracks(plan).values())
        assert any("nothing says who plays (live/mystery)" in warning for warning in plan.warnings)

    def test_one_source_only(self, tmp_path: Path) -> None:
        studio = [
            RecordingInfo(info.track.replace("live", "studio"), info.pianist, duration_s=200.0) for info in infos()
        ]
        root = make_root(tmp_path, [*infos(), *studio])
        plan = preview_split(root, "mine", sources=["studio"])
        assert all(track.startswith("studio/") for names in tracks(plan).values() for track in names)

    def test_without_a_length_clips_are_counted(self, tmp_path: Path) -> None:
        recordings = [RecordingInfo(f"x/{n:02d}", "AB"[n % 2], duration_s=0.0) for n in range(20)]
        plan = preview_split(make_root(tmp_path, recordings), "mine")
        assert sum(plan.hours.values()) == pytest.approx(20 * 30 / 3600)


@pytest.mark.parametrize("by", ["album", "composition"])
def test_the_real_recordings(shared: Path, by: str) -> None:
    """1,285 recordings of 20 pianists: disjoint, everyone everywhere, hours near the ratios."""
    recordings = read_recordings_file(shared / "data" / "recordings.csv")
    plan = plan_split(recordings, "real", by=by)
    of_track = {info.track: info for info in recordings}
    groups = {part: {group_name(of_track[track], by) for track in names} for part, names in tracks(plan).items()}
    assert not groups["train"] & (groups["test"] | groups["validation"]) and not groups["test"] & groups["validation"]
    assert len(plan.split.class_names) == 20
    assert all(count for share in plan.shares for count in share.recordings.values())
    total = sum(plan.hours.values())
    assert plan.hours["test"] / total == pytest.approx(0.1, abs=0.02)
    assert plan.hours["validation"] / total == pytest.approx(0.1, abs=0.02)
