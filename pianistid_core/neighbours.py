"""The training recordings that a model hears as most alike, and whether music is like anything that it knows.

A recording is described by what goes into the model's head (its penultimate features), averaged over its clips, less
the mean of all training clips; likeness is the cosine. What is known of the training part is kept in the data root's
cache under the checkpoint, the data and this code's version, and is checked when read. Shapes: n clips, r recordings,
D features.
"""

import hashlib
import json
import logging
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pianistid_core.atomic import replacing
from pianistid_core.batches import Form
from pianistid_core.datasets.cache import NoteCache, open_note_cache
from pianistid_core.datasets.duplicates import SIMILAR, ClipPrint, clip_print, overlay
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import DataError, ExtractionError
from pianistid_core.identify import Identifier
from pianistid_core.loader import ClipDataset, ahead, make_loader
from pianistid_core.midi import Notes, split_into_clips

log = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
OnProgress = Callable[[int, int], None]

_VERSION = 1
_ARRAYS = ("clips", "features", "reached")
_AT_ONCE = 8  # more at once leave a CPU's caches, and are slower
_LOW_PERCENTILE = 5.0
_MIN_TO_COMPARE = 5


@dataclass(frozen=True)
class Neighbour:
    """A training recording, how alike the model hears it (-1 to 1), and the clip of it that is most alike."""

    track: str
    pianist: str
    similarity: float
    clip: Path

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self) | {"clip": str(self.clip)}


@dataclass(frozen=True)
class Familiarity:
    """How alike the nearest training recording is, and what 95 of 100 recordings new to the model reach.

    `usual_low` is None where too few such recordings are known; then nothing is called unlike.
    """

    similarity: float
    usual_low: float | None
    unlike: bool
    words: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


class RecordingIndex:
    """What a model hears in every training clip: ask for the recordings most like a performance."""

    def __init__(self, root: DataRoot, train: NoteCache, known: "_Known") -> None:
        self._root = root
        self._train = train
        self._known = known
        self._prints: dict[int, ClipPrint] = {}
        ids = train.recording_ids[known.clips]
        self._recordings: IntArray = np.unique(ids)
        self._centre: FloatArray = known.features.mean(axis=0, dtype=np.float64)
        centred = known.features - self._centre
        self._clip_directions = _directions(centred)
        self._directions, self._of_recording = _by_recording(centred, ids)

    def __len__(self) -> int:
        return len(self._recordings)

    def nearest(self, identifier: Identifier, notes: Notes, n: int = 5, *, track: str | None = None) -> list[Neighbour]:
        """The n training recordings most like a performance, the likest first; never the same recording.

        Left out are `track`, where it is said, and every recording of which a clip holds the same music.

        Raises
        ------
        ExtractionError
            When no clip can be drawn from the music.
        """
        direction = self._direction(identifier, notes)
        similarities = self._directions @ direction
        prints = [clip_print(piece) for piece in split_into_clips(notes)]
        found: list[Neighbour] = []
        for position in np.argsort(-similarities, kind="stable"):
            if len(found) == n:
                break
            name = self._train.recordings[self._recordings[position]]
            rows = np.flatnonzero(self._of_recording == position)
            if name == track or self._same_music(prints, rows):
                continue
            best = rows[int((self._clip_directions[rows] @ direction).argmax())]
            clip = int(self._known.clips[best])
            found.append(
                Neighbour(
                    name,
                    self._train.class_names[int(self._train.labels[clip])],
                    float(similarities[position]),
                    self._root.clips_dir / self._train.clip_names[clip],
                )
            )
        return found

    def familiarity(
        self,
        identifier: Identifier,
        notes: Notes,
        *,
        track: str | None = None,
        nearest: Sequence[Neighbour] | None = None,
    ) -> Familiarity:
        """Whether a performance is as like the training recordings as music that the model never heard usually is.

        `nearest` is what `nearest` has found, where that is known: then nothing is heard again.

        Raises
        ------
        ExtractionError
            When no clip can be drawn from the music.
        """
        found = self.nearest(identifier, notes, 1, track=track) if nearest is None else nearest
        similarity = found[0].similarity if found else -1.0
        return _familiarity(similarity, self._known.reached)

    def _direction(self, identifier: Identifier, notes: Notes) -> FloatArray:
        features = identifier.features(notes)
        if not len(features):
            raise ExtractionError("no clip of this music can be drawn for this model, so it is like nothing it knows")
        direction: FloatArray = _directions((features - self._centre).sum(axis=0, keepdims=True))[0]
        return direction

    def _same_music(self, prints: list[ClipPrint], rows: npt.NDArray[np.intp]) -> bool:
        return any(_alike(mine, self._print(int(self._known.clips[row]))) for row in rows for mine in prints)

    def _print(self, clip: int) -> ClipPrint:
        if clip not in self._prints:
            self._prints[clip] = clip_print(self._train.notes(clip))
        return self._prints[clip]


@dataclass(frozen=True, eq=False)
class _Known:
    """What is kept on disk: the n training clips that can be drawn, their features (n, D), and what others reach.

    `reached` holds for each recording of the test part the similarity of the training recording nearest to it.
    """

    clips: npt.NDArray[np.int64]
    features: npt.NDArray[np.float32]
    reached: FloatArray


def open_index(
    identifier: Identifier, root: DataRoot, split: str | None = None, progress: OnProgress | None = None
) -> RecordingIndex:
    """The index of a model's training part: read from the cache, or made, which takes seconds to a minute.

    `split` is the one that the model was trained on, unless another is named; `progress(done, total)` counts clips.

    Raises
    ------
    SplitError
        When there is no such split here, or its clips are missing.
    DataError
        When not a single training clip can be drawn.
    """
    name = split or identifier.loaded.config.data_split_dir
    train = open_note_cache(root, name, "train")
    test = _test_part(root, name)
    path = root.cache_dir / "neighbours" / f"{_key(identifier, train, test)}.npz"
    known = _read(path, len(train), identifier.model.feature_size)
    if known is None:
        known = _learn(identifier, train, test, progress)
        _write(path, known)
    return RecordingIndex(root, train, known)


def _test_part(root: DataRoot, split: str) -> NoteCache | None:
    try:
        return open_note_cache(root, split, "test")
    except DataError as error:
        log.info("no recordings to compare with: %s", error)
        return None


def _key(identifier: Identifier, train: NoteCache, test: NoteCache | None) -> str:
    """Names the checkpoint, the data, and how clips are drawn."""
    path = identifier.loaded.path
    status = path.stat()
    facts = [
        _VERSION,
        [str(path.absolute()), status.st_size, status.st_mtime_ns],
        [train.fingerprint, test.fingerprint if test else ""],
        asdict(identifier.clip_options),
        identifier.loaded.class_names,
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _learn(identifier: Identifier, train: NoteCache, test: NoteCache | None, progress: OnProgress | None) -> _Known:
    counted = _Counted(progress, len(train) + (len(test) if test else 0))
    clips, features = _features(identifier, train, counted)
    if not len(clips):
        raise DataError("not a single training clip can be drawn for this model, so there is nothing to compare with")
    if test is None:
        return _Known(clips, features, np.empty(0))
    new_clips, new = _features(identifier, test, counted)
    centre = features.mean(axis=0, dtype=np.float64)
    here, _ = _by_recording(features - centre, train.recording_ids[clips])
    there, _ = _by_recording(new - centre, test.recording_ids[new_clips])
    reached = (there @ here.T).max(axis=1) if len(there) else np.empty(0)
    return _Known(clips, features, reached)


class _Counted:
    """Tells how many of all clips are done."""

    def __init__(self, progress: OnProgress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def add(self, n: int) -> None:
        self._done += n
        if self._progress is not None:
            self._progress(self._done, self._total)


def _features(
    identifier: Identifier, cache: NoteCache, counted: _Counted
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The clips (n,) of a part that can be drawn, and their features (n, D)."""
    dataset = ClipDataset(cache, identifier.clip_options)
    clips: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
    features = [np.empty((0, identifier.model.feature_size), np.float32)]
    form: Form = "strokes" if identifier.device.type == "cuda" else "float32"
    for batch in ahead(make_loader(dataset, batch_size=_AT_ONCE, form=form)):
        if len(batch):
            clips.append(batch.clips.numpy())
            features.append(identifier.hear(batch.to_device(identifier.device).rolls))
        counted.add(len(batch.clips) + len(batch.skipped))
    return np.concatenate(clips), np.concatenate(features)


def _by_recording(centred: npt.NDArray[np.floating[Any]], ids: npt.NDArray[np.int64]) -> tuple[FloatArray, IntArray]:
    """The direction (r, D) of each recording by its clips (n, D), and which of the r each clip belongs to (n,)."""
    known, of_recording = np.unique(ids, return_inverse=True)
    sums = np.zeros((len(known), centred.shape[1]))
    np.add.at(sums, of_recording, centred)
    return _directions(sums), of_recording


def _directions(vectors: npt.NDArray[np.floating[Any]]) -> FloatArray:
    """Vectors (m, D) of length 1; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions: FloatArray = np.asarray(vectors, np.float64) / np.where(lengths > 0, lengths, 1.0)
    return directions


def _familiarity(similarity: float, reached: FloatArray) -> Familiarity:
    n = len(reached)
    if n < _MIN_TO_COMPARE:
        words = (
            f"The nearest training recording has a similarity of {similarity:.2f}. With {n} test recordings to compare "
            "with, nobody can say whether that is usual."
        )
        return Familiarity(similarity, None, False, words)
    usual_low = float(np.percentile(reached, _LOW_PERCENTILE))
    unlike = similarity < usual_low
    usual = (
        f"{int((reached >= usual_low).sum())} of the {n} test recordings, which the model never learned from, reach "
        f"{usual_low:.2f}"
    )
    if unlike:
        words = (
            f"This music is unlike all that the model learned from: the nearest recording has a similarity of "
            f"{similarity:.2f}, where {usual}. Whatever name it gives, take it as a guess."
        )
    else:
        words = f"This music is like what the model knows: a similarity of {similarity:.2f}, where {usual}."
    return Familiarity(similarity, usual_low, unlike, words)


def _alike(one: ClipPrint, other: ClipPrint) -> bool:
    """Whether two clips hold the same music, wherever in time it lies."""
    if one.whole == other.whole:
        return True
    laid = overlay(one, other)
    return laid is not None and laid.similarity >= SIMILAR


def _read(path: Path, n_clips: int, n_features: int) -> _Known | None:
    """What was kept, or None when it is missing, damaged or of another shape."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            known = _Known(*(saved[name] for name in _ARRAYS))
        kinds = (known.clips.dtype == np.int64, known.features.dtype == np.float32, known.reached.dtype == np.float64)
        shapes = (known.clips.ndim == 1, known.features.shape == (len(known.clips), n_features))
        inside = len(known.clips) and known.clips.min() >= 0 and known.clips.max() < n_clips
        if not (all(kinds) and all(shapes) and inside and np.isfinite(known.features).all()):
            raise ValueError("its arrays do not fit")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        log.warning("the index of training recordings %s is damaged (%s) and is made again", path.name, error)
        return None
    return known


def _write(path: Path, known: _Known) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            np.savez(file, **{name: getattr(known, name) for name in _ARRAYS})
    except OSError as error:
        # What cannot be kept is made again next time.
        log.warning("the index of training recordings is not kept in %s: %s", path.parent, error.strerror)
