"""The most similar training recordings: the right ones, never the same one, kept on disk and checked when read."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pianistid_core.checkpoints import LoadedModel
from pianistid_core.datasets.root import DataRoot, Split, SplitEntry, write_split
from pianistid_core.errors import ExtractionError, SplitError
from pianistid_core.identify import Identifier
from pianistid_core.midi import Notes, read_midi, split_into_clips, write_midi
from pianistid_core.models import build_model
from pianistid_core.neighbours import RecordingIndex, open_index
from pianistid_core.rolls import piano_roll
from tiny import HABITS, PIANISTS, make_notes, tiny_config

CONFIG = tiny_config(
    encoder_module="compact", model_cfg={"frame_pool": 50, "stem_width": 8, "width": 16},
    train_dataset_cfg={}, test_dataset_cfg={},
)  # fmt: skip


@pytest.fixture
def identifier(tmp_path: Path) -> Identifier:
    """A model with random weights, which hear the habits of the tiny pianists well enough."""
    path = tmp_path / "checkpoint_001.pth"
    path.write_bytes(b"weights")
    torch.manual_seed(0)
    model = build_model(CONFIG.encoder_module, CONFIG.model_cfg, 3).eval()
    return Identifier(LoadedModel(model, CONFIG, PIANISTS, path, 1), torch.device("cpu"))


@pytest.fixture
def index(identifier: Identifier, tiny_root: DataRoot) -> RecordingIndex:
    return open_index(identifier, tiny_root)


def whole(root: DataRoot, track: str) -> Notes:
    """A recording put together from its clips, the padding of each left out."""
    pieces = [read_midi(path).between(0, 30).shifted(30 * i) for i, path in enumerate(root.clip_paths(track))]
    return Notes.from_arrays(
        *(
            np.concatenate([getattr(piece, name) for piece in pieces])
            for name in ("onsets_s", "offsets_s", "pitches", "velocities")
        )
    )


# Not the third habit: its recordings are mostly one chord at the same times, which is the same music.
@pytest.mark.parametrize("label", range(2))
def test_the_nearest_are_those_of_the_same_habit(index: RecordingIndex, identifier: Identifier, label: int) -> None:
    found = index.nearest(identifier, make_notes(77, **HABITS[label]), 3)
    assert {one.pianist for one in found} == {PIANISTS[label]} and len({one.track for one in found}) == 3
    assert [one.similarity for one in found] == sorted((one.similarity for one in found), reverse=True)
    assert all(-1 <= one.similarity <= 1 and one.clip.is_file() for one in found)
    assert all(one.clip.parent.name == one.track.partition("/")[2] for one in found)
    assert len(index) == 9


def test_the_clip_is_the_one_most_alike(index: RecordingIndex, identifier: Identifier, tiny_root: DataRoot) -> None:
    notes = make_notes(77, **HABITS[0])
    best = index.nearest(identifier, notes, 1)[0]
    mine = identifier.features(notes).mean(axis=0)
    clips = tiny_root.clip_paths(best.track)
    everything = [path for track in _train(tiny_root) for path in tiny_root.clip_paths(track)]
    centre = np.concatenate([identifier.hear(_roll(path)) for path in everything]).mean(axis=0)
    alike = [_cosine(identifier.hear(_roll(path))[0] - centre, mine - centre) for path in clips]
    assert best.clip == clips[int(np.argmax(alike))]


def _train(root: DataRoot) -> list[str]:
    return [entry.track for entry in root.split("tiny").part("train")]


def _roll(path: Path) -> torch.Tensor:
    return torch.from_numpy(piano_roll(read_midi(path), normalised=True))[None]


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize("change", ["as it is", "later", "an excerpt", "transposed"])
def test_the_same_recording_is_never_its_own_neighbour(
    index: RecordingIndex, identifier: Identifier, tiny_root: DataRoot, change: str
) -> None:
    track = "tiny/ada-1"
    notes = whole(tiny_root, track)
    if change == "later":
        notes = notes.shifted(7.3)
    if change == "an excerpt":
        notes = notes.between(12, 44).shifted(-12)
    if change == "transposed":
        notes = Notes.from_arrays(notes.onsets_s, notes.offsets_s, notes.pitches.astype(int) + 2, notes.velocities)
    found = index.nearest(identifier, notes, 9)
    assert len(found) == 8 and track not in {one.track for one in found}


def test_a_track_is_left_out_by_name(index: RecordingIndex, identifier: Identifier) -> None:
    notes = make_notes(77, **HABITS[0])
    first = index.nearest(identifier, notes, 1)[0].track
    assert first not in {one.track for one in index.nearest(identifier, notes, 9, track=first)}


def test_it_is_made_once_and_read_from_disk_after(identifier: Identifier, tiny_root: DataRoot) -> None:
    seen: list[tuple[int, int]] = []
    one = open_index(identifier, tiny_root, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (24, 24)
    other = open_index(identifier, tiny_root, progress=lambda done, total: pytest.fail("made again"))
    notes = make_notes(77)
    assert one.nearest(identifier, notes) == other.nearest(identifier, notes)
    assert not list((tiny_root.cache_dir / "neighbours").glob("*.tmp"))


def test_a_new_checkpoint_or_other_data_make_it_anew(identifier: Identifier, tiny_root: DataRoot) -> None:
    open_index(identifier, tiny_root)
    made: list[int] = []
    os.utime(identifier.loaded.path, ns=(1, 1))
    open_index(identifier, tiny_root, progress=lambda done, total: made.append(done))
    assert made
    made.clear()
    write_midi(make_notes(123), tiny_root.clip_paths("tiny/ada-0")[0])
    open_index(identifier, tiny_root, progress=lambda done, total: made.append(done))
    assert made


@pytest.mark.parametrize("damage", [b"", b"no archive", "cut", "other arrays"])
def test_a_damaged_index_is_made_again(
    identifier: Identifier, tiny_root: DataRoot, damage: bytes | str, caplog: pytest.LogCaptureFixture
) -> None:
    before = open_index(identifier, tiny_root).nearest(identifier, make_notes(77))
    [path] = (tiny_root.cache_dir / "neighbours").glob("*.npz")
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "other arrays":
        np.savez(path, clips=np.arange(3), features=np.zeros((3, 5), np.float32), reached=np.zeros(0))
    elif isinstance(damage, bytes):
        path.write_bytes(damage)
    assert open_index(identifier, tiny_root).nearest(identifier, make_notes(77)) == before
    assert "damaged" in caplog.text


def test_strange_music_is_called_unlike_and_usual_music_is_not(identifier: Identifier, tmp_path: Path) -> None:
    root = _root_with_many_tests(tmp_path)
    index = open_index(identifier, root)
    usual = index.familiarity(identifier, make_notes(500, **HABITS[0]))
    assert usual.usual_low is not None and usual.similarity >= usual.usual_low and not usual.unlike
    assert "like what the model knows" in usual.words and "6 test recordings" in usual.words
    onsets = np.arange(0, 60, 0.02)
    pitches = np.random.default_rng(1).integers(21, 108, len(onsets))
    noise = Notes.from_arrays(onsets, onsets + 3, pitches, np.full(len(onsets), 99))
    strange = index.familiarity(identifier, noise)
    assert strange.unlike and strange.similarity < usual.usual_low and "unlike all" in strange.words


def _root_with_many_tests(folder: Path) -> DataRoot:
    root = DataRoot(folder / "many", cache_dir=folder / "cache")
    parts: dict[str, list[SplitEntry]] = {"train": [], "test": []}
    for label in range(3):
        for number in range(4):
            track = f"many/{label}-{number}"
            (root.clips_dir / track).mkdir(parents=True)
            notes = make_notes(100 * label + number, **HABITS[label])
            for i, clip in enumerate(split_into_clips(notes)):
                write_midi(clip, root.clips_dir / track / f"clip_{i:03d}.mid")
            parts["test" if number > 1 else "train"].append(SplitEntry(track, label, notes.duration_s))
    write_split(root, Split("tiny", PIANISTS, {part: tuple(entries) for part, entries in parts.items()}))
    return root


def test_few_recordings_to_compare_with_are_no_ground_for_a_warning(
    index: RecordingIndex, identifier: Identifier
) -> None:
    found = index.familiarity(identifier, make_notes(77, **HABITS[0]))
    assert found.usual_low is None and not found.unlike and "3 test recordings" in found.words
    assert found.to_dict()["unlike"] is False


def test_music_whose_neighbours_are_known_is_not_heard_again(
    identifier: Identifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = open_index(identifier, _root_with_many_tests(tmp_path))
    notes = make_notes(500, **HABITS[0])
    expected, nearest = index.familiarity(identifier, notes), index.nearest(identifier, notes)
    monkeypatch.setattr(Identifier, "features", lambda *_: pytest.fail("the music was heard once more"))
    assert index.familiarity(identifier, notes, nearest=nearest) == expected


def test_what_is_usual_is_told_in_recordings_there_are(identifier: Identifier, tmp_path: Path) -> None:
    index = open_index(identifier, _root_with_many_tests(tmp_path))
    found = index.familiarity(identifier, make_notes(500, **HABITS[0]))
    assert "5 of the 6 test recordings" in found.words, "there are no 95 of 100 of six"


def test_music_that_cannot_be_drawn_and_splits_that_are_not_there_are_refused(
    index: RecordingIndex, identifier: Identifier, tiny_root: DataRoot
) -> None:
    low = Notes.from_arrays([0.0], [1.0], [5], [60])
    with pytest.raises(ExtractionError, match="no clip of this music"):
        index.nearest(identifier, low)
    with pytest.raises(SplitError):
        open_index(identifier, tiny_root, "nothing")
