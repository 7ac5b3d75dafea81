"""Whether a model's explanations can be trusted: all that is measured of them, over clips of a part of its split.

Deletion curves tell whether the notes that rank highest are those that the answer rests on; the controls, layers that
forget and models that never learned tell whether the ranking shows what was learned; and on the demo data the truth
itself tells whether the right concept is named.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pianistid_core.attribution import Attribution, attribute
from pianistid_core.datasets.root import DataRoot
from pianistid_core.deletion import DRAWS, Deletion, delete, pooled
from pianistid_core.demo_truth import TruthReport, against_the_truth
from pianistid_core.errors import DataError, ExtractionError, MidiError, SplitError
from pianistid_core.identify import Identifier
from pianistid_core.midi import CLIP_LENGTH_S, Notes, read_midi
from pianistid_core.randomisation import Forgotten, cascade, untrained

OnProgress = Callable[[int, int], None]

CLIPS = 40
FORGETFUL = 4
_SEED = 20250101


class Checked(NamedTuple):
    """How far the scores of one clip's notes can be trusted, as `Attribution` has it."""

    control: float
    stability: float
    completeness: float
    informative: bool


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """What was measured of a model's explanations over n clips of a part of its split.

    `checked` are the controls of each clip; `forgotten` one cascade for each of a few clips; `naive` the controls of as
    many models that are built alike and have learned nothing. `truth` is None where it is not known, or the model does
    not take music apart. `skipped` counts clips that cannot be read or drawn.
    """

    model: str
    split: str
    part: str
    n_recordings: int
    deletion: Deletion
    checked: tuple[Checked, ...]
    forgotten: tuple[tuple[Forgotten, ...], ...]
    naive: tuple[Checked, ...]
    truth: TruthReport | None
    skipped: int

    @property
    def n_clips(self) -> int:
        """How many clips were asked."""
        return len(self.checked)

    @property
    def mean_cascade(self) -> tuple[Forgotten, ...]:
        """The cascade as its mean over the clips."""
        return tuple(
            Forgotten(step[0].layers, step[0].of, step[0].lowest, float(np.mean([one.correlation for one in step])))
            for step in zip(*self.forgotten, strict=True)
        )

    @property
    def informative(self) -> int:
        """Of how many clips the controls say that the notes' scores tell something of the model."""
        return sum(one.informative for one in self.checked)

    @property
    def seen_through(self) -> int:
        """How many of the models that learned nothing the controls say so of."""
        return sum(not one.informative for one in self.naive)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "model": self.model,
            "split": self.split,
            "part": self.part,
            "n_clips": self.n_clips,
            "n_recordings": self.n_recordings,
            "skipped": self.skipped,
            "deletion": self.deletion.to_dict(),
            "controls": {
                "informative": self.informative,
                "clips": [one._asdict() for one in self.checked],
                "cascade": [step.to_dict() for step in self.mean_cascade],
                "cascades": [[step.to_dict() for step in steps] for steps in self.forgotten],
                "untrained": [one._asdict() for one in self.naive],
                "untrained_seen_through": self.seen_through,
            },
            "truth": self.truth.to_dict() if self.truth else None,
        }


def faithfulness(
    identifier: Identifier,
    root: DataRoot,
    part: str = "test",
    *,
    clips: int = CLIPS,
    draws: int = DRAWS,
    forgetful: int = FORGETFUL,
    progress: OnProgress | None = None,
) -> Faithfulness:
    """Measures how far a model's explanations can be trusted, on clips of a part of the split that it was trained on.

    Up to `clips` clips are asked, each of another recording as long as there are some; of the first `forgetful` of them
    the model is also asked with its layers forgetting, and one like it that never learned. `progress(done, total)`
    counts clips.

    Raises
    ------
    SplitError
        When the data root has no such split.
    DataError
        When the part has no clip that can be read and drawn, or none was asked for.
    """
    if clips < 1:
        raise DataError(f"{clips} clips were asked for; give at least 1")
    split = identifier.loaded.config.data_split_dir
    asked = _Asked(identifier, draws)
    for track, notes in _clips(root, split, part):
        if len(asked.checked) == clips:
            break
        asked.clip(track, notes, forgets=len(asked.forgotten) < forgetful)
        if progress is not None:
            progress(len(asked.checked), clips)
    if not asked.checked:
        raise DataError(f"no clip of the {part} part of split {split!r} in {root.path} can be explained")
    return Faithfulness(
        identifier.name,
        split,
        part,
        len(asked.tracks),
        pooled(asked.deleted),
        tuple(asked.checked),
        tuple(asked.forgotten),
        tuple(asked.naive),
        _truth(identifier, root, part),
        asked.skipped,
    )


class _Asked:
    """What has been asked of the clips so far."""

    def __init__(self, identifier: Identifier, draws: int) -> None:
        self._identifier = identifier
        self._draws = draws
        self.tracks: set[str] = set()
        self.deleted: list[Deletion] = []
        self.checked: list[Checked] = []
        self.forgotten: list[tuple[Forgotten, ...]] = []
        self.naive: list[Checked] = []
        self.skipped = 0

    def clip(self, track: str, notes: Notes | None, *, forgets: bool) -> None:
        """Asks of one clip, unless it cannot be drawn, also with notes missing."""
        try:
            if notes is None:
                raise ExtractionError("this clip cannot be read")
            attribution = attribute(self._identifier, notes)
            deleted = delete(self._identifier, notes, attribution, draws=self._draws)
        except ExtractionError:
            self.skipped += 1
            return
        self.tracks.add(track)
        self.deleted.append(deleted)
        self.checked.append(_checked(attribution))
        if forgets:
            number = len(self.forgotten)
            self.forgotten.append(cascade(self._identifier, notes, attribution, seed=_SEED + number))
            self.naive.append(_checked(attribute(untrained(self._identifier, _SEED + 1 + number), notes)))


def _checked(attribution: Attribution) -> Checked:
    return Checked(attribution.control, attribution.stability, attribution.completeness, attribution.informative)


def _clips(root: DataRoot, split: str, part: str) -> Iterator[tuple[str, Notes | None]]:
    """The clips of a part in an order of chance, one of each recording first: tracks and notes, None unread."""
    rng = np.random.default_rng(_SEED)
    entries = root.split(split).part(part)
    paths = {entries[at].track: root.clip_paths(entries[at].track) for at in rng.permutation(len(entries))}
    left = {track: [found[at] for at in rng.permutation(len(found))] for track, found in paths.items() if found}
    while left:
        for track in list(left):
            path = left[track].pop()
            if not left[track]:
                del left[track]
            try:
                yield track, read_midi(path).between(0.0, CLIP_LENGTH_S)
            except MidiError:
                yield track, None


def _truth(identifier: Identifier, root: DataRoot, part: str) -> TruthReport | None:
    if not identifier.factorised:
        return None
    try:
        return against_the_truth(identifier.loaded, root, part)
    except SplitError:  # no demo data, so that nobody knows the truth
        return None
