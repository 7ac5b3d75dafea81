"""The virtual pianists: real files, real music, and habits that show in their own concept and in no other."""

import hashlib
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pianistid_core.concepts import CONCEPTS, concept_rolls, draw_concepts
from pianistid_core.datasets.demo import HABITS, PIANISTS, ground_truth, make_demo
from pianistid_core.datasets.demo.playing import ENDINGS, LINES, Pattern, perform
from pianistid_core.datasets.demo.tunes import TUNES, Chord, parse_chord
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import DataError, DataRootError, SplitError
from pianistid_core.midi import Notes, augment, read_midi, split_into_clips

FloatArray = npt.NDArray[np.float64]


def tree(root: DataRoot) -> dict[str, str]:
    """Every file of a data root and the hash of its bytes."""
    return {
        str(path.relative_to(root.path)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.path.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    """A small demo data set, not to be changed."""
    root = DataRoot(tmp_path_factory.mktemp("demo"))
    make_demo(root, recordings_per_pianist=4)
    return root


def clips(root: DataRoot) -> Iterator[Notes]:
    return (read_midi(path) for track in root.tracks() for path in root.clip_paths(track))


class TestFiles:
    def test_layout(self, root: DataRoot) -> None:
        assert root.split_names() == ["demo"]
        split = root.split("demo")
        assert split.class_names == tuple(pianist.name for pianist in PIANISTS)
        in_parts = sorted(entry.track for entries in split.parts.values() for entry in entries)
        assert in_parts == root.tracks()
        for track in root.tracks():
            assert (root.raw_dir / track / "piano_midi.mid").is_file()
            metadata = json.loads((root.raw_dir / track / "metadata.json").read_text())
            names = [path.name for path in root.clip_paths(track)]
            assert names == [f"clip_{n:03d}.mid" for n in range(int(metadata["duration_s"] // 30))]

    def test_everyone_has_equally_many_recordings_in_every_part(self, tmp_path: Path) -> None:
        root = DataRoot(tmp_path)
        make_demo(root, recordings_per_pianist=8)
        for entries in root.split("demo").parts.values():
            counts = np.bincount([entry.pianist for entry in entries], minlength=len(PIANISTS))
            assert len(set(counts)) == 1

    def test_recordings_are_described(self, root: DataRoot) -> None:
        for track, info in root.recordings().items():
            assert info.album
            assert info.composition
            assert info.pianist in {pianist.name for pianist in PIANISTS}
            assert info.duration_s == pytest.approx(read_midi(root.raw_dir / track / "piano_midi.mid").duration_s)

    def test_clips_are_cut_from_the_performance(self, root: DataRoot) -> None:
        track = root.tracks()[0]
        whole = read_midi(root.raw_dir / track / "piano_midi.mid")
        for expected, path in zip(split_into_clips(whole), root.clip_paths(track), strict=True):
            clip = read_midi(path)
            np.testing.assert_allclose(clip.onsets_s, expected.onsets_s, atol=1e-6)
            np.testing.assert_array_equal(np.sort(clip.pitches), np.sort(expected.pitches))

    def test_the_same_seed_gives_the_same_bytes(self, root: DataRoot, tmp_path: Path) -> None:
        again = DataRoot(tmp_path)
        make_demo(again, recordings_per_pianist=4)
        assert tree(again) == tree(root)

    def test_another_seed_gives_other_music(self, root: DataRoot, tmp_path: Path) -> None:
        other = DataRoot(tmp_path)
        make_demo(other, recordings_per_pianist=4, seed=1)
        first, second = ({name: h for name, h in tree(r).items() if name.endswith(".mid")} for r in (root, other))
        assert not set(first.values()) & set(second.values())

    def test_making_it_again_changes_nothing(self, tmp_path: Path) -> None:
        root = DataRoot(tmp_path)
        first = make_demo(root, recordings_per_pianist=3)
        before = {path: path.stat().st_mtime_ns for path in root.path.rglob("*") if path.is_file()}
        second = make_demo(root, recordings_per_pianist=3)
        assert (first.created, second.created) == (True, False)
        assert {path: path.stat().st_mtime_ns for path in root.path.rglob("*") if path.is_file()} == before

    @pytest.mark.parametrize("change", [{"seed": 5}, {"recordings_per_pianist": 4}])
    def test_another_data_set_of_that_name_is_kept(self, tmp_path: Path, change: dict[str, int]) -> None:
        root = DataRoot(tmp_path)
        make_demo(root, recordings_per_pianist=3)
        before = tree(root)
        with pytest.raises(DataError, match=r"exists already.*another name"):
            make_demo(root, **{"recordings_per_pianist": 3, **change})  # type: ignore[arg-type]
        assert tree(root) == before
        make_demo(root, name="other", **{"recordings_per_pianist": 3, **change})  # type: ignore[arg-type]
        assert root.split_names() == ["demo", "other"]
        assert before.items() - tree(root).items() == {
            ("references/recordings.csv", before["references/recordings.csv"])
        }

    def test_breaking_off_leaves_nothing(self, tmp_path: Path) -> None:
        def stop(done: int, total: int) -> None:
            if done == 5:
                raise KeyboardInterrupt

        root = DataRoot(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            make_demo(root, recordings_per_pianist=3, progress=stop)
        assert list(tmp_path.iterdir()) == []

    def test_what_a_killed_maker_left_is_completed(self, tmp_path: Path) -> None:
        """Killed between two renames: the clips are there, the split is not."""
        root = DataRoot(tmp_path)
        make_demo(root, recordings_per_pianist=3)
        whole = tree(root)
        for path in (root.splits_dir / "demo").iterdir():
            path.unlink()
        (root.splits_dir / "demo").rmdir()
        root.recordings_file.unlink()
        assert make_demo(root, recordings_per_pianist=3).created
        assert tree(root) == whole

    def test_other_recordings_on_record_stay(self, tmp_path: Path) -> None:
        root = DataRoot(tmp_path)
        root.recordings_file.parent.mkdir(parents=True)
        root.recordings_file.write_text("track,pianist,album,label\nmine/one,Ann,First,Blue\n")
        make_demo(root, recordings_per_pianist=3)
        assert root.recordings()["mine/one"].album == "First"
        assert "Blue" in root.recordings_file.read_text()
        assert len(root.recordings()) == 1 + 8 * 3

    def test_progress_counts_to_the_end(self, tmp_path: Path) -> None:
        heard: list[tuple[int, int]] = []
        report = make_demo(
            DataRoot(tmp_path), recordings_per_pianist=3, progress=lambda done, total: heard.append((done, total))
        )
        assert heard == [(n, 24) for n in range(1, 25)]
        assert (report.recordings, report.parts) == (24, {"train": 8, "test": 8, "validation": 8})
        assert json.loads(json.dumps(report.to_dict()))["clips"] == report.clips

    @pytest.mark.parametrize(
        "arguments",
        [
            {"name": "a/b"},
            {"name": ".."},
            {"seed": -1},
            {"recordings_per_pianist": 2},
            {"recordings_per_pianist": 9999},
        ],
    )
    def test_what_cannot_be_is_refused(self, tmp_path: Path, arguments: dict[str, object]) -> None:
        with pytest.raises(DataError):
            make_demo(DataRoot(tmp_path), **arguments)  # type: ignore[arg-type]
        assert list(tmp_path.iterdir()) == []

    def test_a_root_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(DataRootError, match="cannot write"):
            make_demo(DataRoot(tmp_path / "file" / "root"), recordings_per_pianist=3)


def sequences(notes: Notes) -> dict[str, list[float]]:
    """What each channel draws from the first 80 moments of a performance, without its random keys."""
    onsets_s = np.unique(notes.onsets_s)
    drawn = draw_concepts(notes.between(0.0, onsets_s[80]))
    rhythm = np.column_stack([drawn["rhythm"].starts_s, drawn["rhythm"].ends_s])
    return {
        "melody": drawn["melody"].pitches.tolist(),
        "harmony": drawn["harmony"].pitches.tolist(),
        "rhythm": rhythm.ravel().tolist(),
        "dynamics": np.asarray(drawn["dynamics"].velocities).tolist(),
    }


class TestMusic:
    def test_every_clip_has_every_concept(self, root: DataRoot) -> None:
        for clip in clips(root):
            drawn = draw_concepts(clip)
            assert set(drawn) == set(CONCEPTS)

    def test_also_wherever_training_begins(self, root: DataRoot) -> None:
        rng = np.random.default_rng(0)
        for clip in clips(root):
            for _ in range(3):
                draw_concepts(augment(clip, rng), rng.uniform(0.0, 15.0), rng)

    def test_density_range_and_touch_are_a_pianists(self, root: DataRoot) -> None:
        for track in root.tracks():
            notes = read_midi(root.raw_dir / track / "piano_midi.mid")
            assert 3 <= len(notes) / notes.duration_s <= 9
            assert 55 <= notes.duration_s <= 110
            assert notes.pitches.min() >= 27  # and 21 after transposing six semitones down
            assert notes.pitches.max() <= 103
            assert notes.velocities.min() >= 25
            assert notes.velocities.max() <= 115

    def test_onsets_are_human(self, root: DataRoot) -> None:
        """No two gaps between beats are alike to the millisecond, as they are when a sequencer plays."""
        notes = read_midi(root.raw_dir / root.tracks()[0] / "piano_midi.mid")
        gaps_ms = np.round(1000 * np.diff(np.unique(notes.onsets_s)))
        assert len(set(gaps_ms)) > len(gaps_ms) / 4

    def test_second_eighths_come_late_in_swing_and_half_way_when_straight(self) -> None:
        for pianist in PIANISTS:
            performance = perform(pianist, TUNES[1], np.random.default_rng(1))
            phases = np.unique(performance.notes.onsets_s) * performance.tempo_bpm / 60 % 1
            # More notes fall on the beat than off it, so the commonest phase is the beat.
            counts, edges = np.histogram(np.concatenate([phases, phases + 1]), bins=40, range=(0, 2))
            after_beat = (phases - edges[counts.argmax()]) % 1
            off_beat = after_beat[(after_beat > 0.2) & (after_beat < 0.85)]
            assert len(off_beat) > 20
            assert np.median(off_beat) == pytest.approx(0.68 if pianist.rhythm == "laid-back swing" else 0.5, abs=0.06)

    def test_no_key_is_struck_while_it_is_down(self, root: DataRoot) -> None:
        for track in root.tracks():
            notes = read_midi(root.raw_dir / track / "piano_midi.mid")
            for pitch in np.unique(notes.pitches):
                own = notes.pitches == pitch
                assert (notes.onsets_s[own][1:] >= notes.offsets_s[own][:-1]).all()

    def test_chords_are_three_notes_under_a_melody_note(self, root: DataRoot) -> None:
        """So the melody channel never shows the voicing, nor the harmony channel the line."""
        for clip in clips(root):
            onsets_s, counts = np.unique(clip.onsets_s, return_counts=True)
            assert set(counts) == {1, 4}
            melody = [int(clip.pitches[clip.onsets_s == onset_s].max()) for onset_s in onsets_s]
            assert min(melody) >= 69 > max(clip.pitches[clip.pitches < 69], default=0)
            sizes = np.unique(draw_concepts(clip)["harmony"].starts_s, return_counts=True)[1]
            assert set(sizes) == {4}

    @pytest.mark.parametrize("first", range(8))
    def test_neighbours_given_the_same_chance_differ_in_one_channel_alone(self, first: int) -> None:
        pair = PIANISTS[first], PIANISTS[(first + 1) % 8]
        one, other = (sequences(perform(pianist, TUNES[3], np.random.default_rng(5)).notes) for pianist in pair)
        differing = tuple(concept for concept in CONCEPTS if one[concept] != other[concept])
        assert differing == pair[0].differs_in(pair[1])

    @pytest.mark.parametrize("pattern", [*LINES, *ENDINGS])
    def test_chords_stand_a_beat_clear(self, pattern: Pattern) -> None:
        for beats in (pattern.relaxed, pattern.driving):
            assert len(beats) == len(pattern.gestures)
            assert beats[0] >= 0
            assert beats[-1] <= 3
            for (beat, kind), (next_beat, next_kind) in pairwise(zip(beats, pattern.gestures, strict=True)):
                assert next_beat - beat >= (1 if "C" in (kind, next_kind) else 0.5)

    def test_chord_symbols(self) -> None:
        assert parse_chord("Bbm7") == Chord(10, "m7")
        assert str(parse_chord("Cmaj7", 5)) == "Fmaj7"
        assert {chord for chord in parse_chord("G7").tones} == {11, 2, 5, 9}
        with pytest.raises(DataError, match="H7"):
            parse_chord("H7")

    @pytest.mark.parametrize("number", range(len(TUNES)))
    def test_every_tune_can_be_played_in_every_key(self, number: int) -> None:
        for key in range(12):
            assert all(1 <= len(bar) <= 2 for bar in TUNES[number].chorus(key))


class TestGroundTruth:
    def test_neighbours_in_the_ring_differ_in_one_concept(self) -> None:
        ring = [*PIANISTS, PIANISTS[0]]
        assert [a.differs_in(b) for a, b in pairwise(ring)] == [(concept,) for concept in (*CONCEPTS, *CONCEPTS)]

    def test_is_read_back(self, root: DataRoot) -> None:
        truth = ground_truth(root, "demo")
        assert truth.pianists == PIANISTS
        assert [pianist.name for pianist in truth.pianists] == list(root.split("demo").class_names)
        assert len(truth.pairs) == 28
        for concept in CONCEPTS:
            assert len(truth.twins(concept)) == 2

    def test_the_file_says_what_the_code_knows(self, root: DataRoot) -> None:
        truth = json.loads((root.splits_dir / "demo" / "ground_truth.json").read_text())
        styles = {row["name"]: row["styles"] for row in truth["pianists"]}
        assert all(styles[name][concept] in HABITS[concept] for name in styles for concept in CONCEPTS)
        for pair in truth["pairs"]:
            differs = [c for c in CONCEPTS if styles[pair["a"]][c] != styles[pair["b"]][c]]
            assert pair["differs_in"] == differs
            assert sorted(pair["differs_in"] + pair["alike_in"]) == sorted(CONCEPTS)
        assert all(row["habits"].startswith(row["name"]) for row in truth["pianists"])

    def test_groups_that_kept_concepts_cannot_tell_apart(self, root: DataRoot) -> None:
        truth = ground_truth(root)
        assert len(truth.groups(CONCEPTS)) == 8
        assert truth.groups([]) == (tuple(pianist.name for pianist in PIANISTS),)
        for concept in CONCEPTS:
            assert [len(group) for group in truth.groups([concept])] == [4, 4]
            without = truth.groups(set(CONCEPTS) - {concept})
            merged = {frozenset((pair.a, pair.b)) for pair in truth.twins(concept)}
            assert {frozenset(group) for group in without if len(group) == 2} == merged

    def test_one_pianist_by_name(self, root: DataRoot) -> None:
        assert ground_truth(root).pianist("Ada Quill").melody == "wide arpeggios"
        with pytest.raises(DataError, match=r"Bill Evans.*Ada Quill"):
            ground_truth(root).pianist("Bill Evans")

    def test_real_data_have_none(self, root: DataRoot) -> None:
        with pytest.raises(SplitError, match="no ground truth"):
            ground_truth(root, "20class_80min")

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"pianists": [{"name": "A", "styles": {"touch": "soft"}}]}'])
    def test_a_damaged_file_is_refused(self, tmp_path: Path, text: str) -> None:
        root = DataRoot(tmp_path)
        (root.splits_dir / "demo").mkdir(parents=True)
        (root.splits_dir / "demo" / "ground_truth.json").write_text(text)
        with pytest.raises(SplitError, match="is not a ground truth"):
            ground_truth(root)


# --- what each channel shows -----------------------------------------------------------------------------------------


def statistics(channel: npt.NDArray[np.float32]) -> FloatArray:
    """A few plain figures of one channel (88, 3000): where, how loud, how long, in what steps."""
    on = channel > 0
    where = on.sum(axis=1).reshape(22, 4).sum(axis=1) / on.sum()
    loud = np.histogram(channel[on], bins=[0, 0.3, 0.5, 0.7, 0.85, 1.01])[0] / on.sum()
    edges = np.diff(np.pad(on, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    lengths = np.argwhere(edges == -1)[:, 1] - np.argwhere(edges == 1)[:, 1]
    long = np.histogram(lengths, bins=[0, 8, 12, 20, 30, 45, 70, 110, 3001])[0] / len(lengths)
    steps = []
    for line in (on.argmax(axis=0), 87 - on[::-1].argmax(axis=0)):
        leaps = np.abs(np.diff(line[on.any(axis=0)]))
        leaps = leaps[leaps > 0]
        steps.append(np.histogram(leaps, bins=[1, 3, 5, 8, 12, 20, 88])[0] / max(len(leaps), 1))
    return np.concatenate([where, loud, long, *steps, [len(lengths) / 100]])


def told_apart(features: FloatArray, is_first: npt.NDArray[np.bool_], folds: npt.NDArray[np.int64]) -> float:
    """The accuracy of a linear classifier (ridge regression) on recordings that it was not fitted on."""
    right = 0
    for fold in np.unique(folds):
        test = folds == fold
        mean, spread = features[~test].mean(axis=0), features[~test].std(axis=0) + 1e-6
        scaled = np.column_stack([(features - mean) / spread, np.ones(len(features))])
        fitted = scaled[~test]
        weights = np.linalg.solve(
            fitted.T @ fitted + 30 * np.eye(fitted.shape[1]), fitted.T @ (2.0 * is_first[~test] - 1)
        )
        right += int(((scaled[test] @ weights > 0) == is_first[test]).sum())
    return right / len(features)


@pytest.fixture(scope="module")
def accuracies() -> dict[tuple[str, str], dict[str, float]]:
    """How well each channel tells each two neighbours in the ring apart."""
    features, pianist, folds = [], [], []
    for number, player in enumerate(PIANISTS):
        for index in range(24):
            performance = perform(player, TUNES[index % len(TUNES)], np.random.default_rng([11, number, index]))
            for clip in split_into_clips(performance.notes):
                features.append([statistics(channel) for channel in concept_rolls(clip, normalised=True)])
                pianist.append(number)
                folds.append(index % 4)
    drawn, who, fold = np.array(features), np.array(pianist), np.array(folds)
    found = {}
    for first in range(8):
        second = (first + 1) % 8
        pair = (who == first) | (who == second)
        found[PIANISTS[first].name, PIANISTS[second].name] = {
            concept: told_apart(drawn[pair, channel], who[pair] == first, fold[pair])
            for channel, concept in enumerate(CONCEPTS)
        }
    return found


@pytest.mark.parametrize("first", range(8))
def test_neighbours_are_told_apart_by_their_concept_and_by_no_other(
    accuracies: dict[tuple[str, str], dict[str, float]], first: int
) -> None:
    a, b = PIANISTS[first], PIANISTS[(first + 1) % 8]
    (concept,) = a.differs_in(b)
    by_concept = accuracies[a.name, b.name]
    assert by_concept[concept] > 0.9, by_concept
    assert max(by_concept[other] for other in CONCEPTS if other != concept) < 0.65, by_concept
