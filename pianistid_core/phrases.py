"""What gave a pianist away, in words of music: the n-grams of a performance that spoke the most for them.

What an n-gram model answers is a sum over n-grams, each made of notes that are known. An n-gram that all pianists like
raises every logit alike and tells nobody from anybody, so what counts is what it gives to the pianist's logit less the
mean of what it gives to all of them. The sum of that over all n-grams of a clip, and the same difference of the logits
of silence, is exactly the pianist's logit less the mean of all logits. Music is listened to more than once, moved a
little against the grid of steps, as it is for the answer, and what is given is the mean.

The same few notes are seen by many families at once: a lick as five intervals, as four of them, as its pitches. So
n-grams of one concept that share most of their notes are one phrase, which is told by the strongest of them and gives
what all of them give together. Shapes: n notes of a performance, V n-grams of the vocabulary, p pairs of an n-gram and
a note that it is made of.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pianistid_core.attribution import painters_of_steps
from pianistid_core.clips import draw_clip
from pianistid_core.concepts import evaluation_rng
from pianistid_core.errors import ExtractionError, ModelError
from pianistid_core.identify import Identifier
from pianistid_core.midi import CLIP_LENGTH_S, Notes, split_into_clips
from pianistid_core.models import NgramModel
from pianistid_core.models.moments import Moments
from pianistid_core.models.ngrams import FAMILIES, Found
from pianistid_core.phrase_words import words
from pianistid_core.strokes import moved

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
OnProgress = Callable[[int, int], None]

TIMES = 6
_AGAINST = 4  # of so many that speak for a pianist, one that speaks against
_TRIED = 5  # so many times as many groups as are asked for are made, the strongest n-grams first
_MOST_OF_THEM = 0.5


@dataclass(frozen=True, eq=False)
class Phrase:
    """One turn of a performance that spoke for a pianist, or against, by the strongest n-gram that saw it.

    `gives` is what its n-grams, `n_ngrams` of them, give together to the pianist's logit less the mean of all, summed
    over clips; `share` is that of all that phrases give the same way. `count`, `times_s` (the first few, in seconds)
    and `notes` (their numbers, ascending) are those of the n-gram that `words` tell of.
    """

    concept: str
    family: str
    words: str
    gives: float
    share: float
    count: int
    times_s: tuple[float, ...]
    notes: tuple[int, ...]
    n_ngrams: int

    @property
    def speaks_for(self) -> bool:
        """Whether it spoke for the pianist, not against."""
        return self.gives > 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "concept": self.concept,
            "family": self.family,
            "words": self.words,
            "gives": self.gives,
            "share": self.share,
            "count": self.count,
            "times_s": list(self.times_s),
            "notes": list(self.notes),
            "n_ngrams": self.n_ngrams,
        }


def has_phrases(identifier: Identifier) -> bool:
    """Whether a model's answers are made of n-grams, so that it can say which phrases told."""
    return isinstance(identifier.model, NgramModel)


def phrases(
    identifier: Identifier, notes: Notes, pianist: str | None = None, n: int = 12, *, progress: OnProgress | None = None
) -> tuple[Phrase, ...]:
    """The n phrases that spoke the most for a pianist (default: the model's answer), then a fourth as many against.

    `progress(done, total)` counts clips.

    Raises
    ------
    ExtractionError
        When no clip can be drawn from the music.
    ModelError
        When the model is not made of n-grams or does not know the pianist, or fewer than one phrase is asked for.
    """
    if n < 1:
        raise ModelError(f"{n} phrases were asked for; ask for at least 1")
    tally = given(identifier, notes, pianist, progress=progress)
    groups = sorted(tally.groups(_TRIED * n), key=lambda group: -abs(group.gives))
    chosen = [group for group in groups if group.gives > 0][:n]
    chosen += [group for group in groups if group.gives < 0][: max(1, n // _AGAINST)]
    return tally.told(chosen)


def given(
    identifier: Identifier, notes: Notes, pianist: str | None = None, *, progress: OnProgress | None = None
) -> "Given":
    """What each known n-gram of a performance gives to a pianist's logit less the mean of all, over all its clips.

    Raises: ExtractionError and ModelError, as `phrases` does.
    """
    model = identifier.model
    if not isinstance(model, NgramModel):
        raise ModelError(f"{identifier.name} is not made of n-grams, so no phrase can be told")
    who = identifier.identify(notes, concepts=False).pianist if pianist is None else pianist
    if who not in identifier.class_names:
        raise ModelError(f"{identifier.name} does not know {who!r}; it tells {', '.join(identifier.class_names)} apart")
    tally = Given(identifier, model, who, notes)
    pieces = split_into_clips(notes)
    for number, piece in enumerate(pieces):
        tally.add(piece, number)
        if progress is not None:
            progress(number + 1, len(pieces))
    if not tally.n_clips:
        raise ExtractionError("no clip of this music can be drawn for this model, so no phrase can be told")
    return tally


@dataclass(frozen=True, eq=False)
class Group:
    """N-grams of one concept that share most of their notes: their rows, the strongest that speaks as all do first."""

    rows: Ints
    gives: float


class Given:
    """What n-grams give, added up over clips: `gives` float64 (V,)."""

    def __init__(self, identifier: Identifier, model: NgramModel, pianist: str, notes: Notes) -> None:
        self.model, self.notes, self.pianist = model, notes, pianist
        self.gives: Floats = np.zeros(len(model.vocabulary.codes))
        self._identifier = identifier
        target = identifier.class_names.index(pianist)
        with torch.inference_mode():
            self._weights = model.weight[:, target].double() - model.weight.double().mean(dim=1)
        self._drawn: dict[int, Notes] = {}
        self._pairs: list[tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]] = []

    @property
    def n_clips(self) -> int:
        """How many clips could be drawn."""
        return len(self._drawn)

    def add(self, piece: Notes, number: int) -> None:
        """Adds the clip of that number, unless it cannot be drawn."""
        try:
            clips = list(self._heard(piece, number))
        except ExtractionError:
            return
        self._drawn[number] = piece
        n = len(self.notes)
        parts = [np.empty(0, np.int64)]
        for clip in clips:
            with torch.inference_mode():
                held = self.model.hold(clip.moments)
                given = held.values.double() * self._weights[held.rows] / len(clips)
            self.gives[held.rows.cpu().numpy()] += given.cpu().numpy()
            for found, of, at in clip.known():
                which, its_notes = clip.made_of(found, at)
                parts.append(of[which] * n + its_notes)
        keys = np.unique(np.concatenate(parts))
        self._pairs.append(((keys // n).astype(np.int32), (keys % n).astype(np.int32)))

    def groups(self, most: int) -> Iterator[Group]:
        """Phrases, those with the strongest n-grams first: each n-gram is in one of them at the most."""
        of_pair, notes = (np.concatenate(column) for column in zip(*self._pairs, strict=True))
        rows, numbers = np.unique(of_pair, return_inverse=True)
        sizes = np.bincount(numbers, minlength=len(rows))
        order = np.argsort(numbers, kind="stable")
        ends = np.cumsum(sizes)
        concepts = self._concepts(rows)
        gives = self.gives[rows]
        free = gives != 0
        for leader in np.argsort(-np.abs(gives), kind="stable"):
            if most == 0:
                return
            if not free[leader]:
                continue
            most -= 1
            its_own = np.zeros(len(self.notes), bool)
            its_own[notes[order[ends[leader] - sizes[leader] : ends[leader]]]] = True
            shared = np.bincount(numbers[its_own[notes]], minlength=len(rows))
            like = shared > _MOST_OF_THEM * np.maximum(sizes, sizes[leader])
            mine = np.flatnonzero(like & free & (concepts == concepts[leader]))
            free[mine] = False
            together = float(gives[mine].sum())
            way = np.sign(together) or 1.0
            yield Group(rows[mine[np.argsort(-way * gives[mine], kind="stable")]], together)

    def told(self, groups: Sequence[Group]) -> tuple[Phrase, ...]:
        """Groups in words, in one pass over the clips that hold them."""
        leaders = np.array([group.rows[0] for group in groups], np.int64)
        met = [[_Met() for _ in self.model.listenings] for _ in groups]
        names = {FAMILIES[number].name for number in self._families(leaders)}
        for number, piece in self._drawn.items():
            for listening, clip in enumerate(self._heard(piece, number)):
                for found, rows, at in clip.known(names):
                    for place in np.flatnonzero(np.isin(rows, leaders)):
                        its_notes = np.unique(clip.made_of(found, at[place : place + 1])[1])
                        for of in np.flatnonzero(leaders == rows[place]):
                            met[of][listening].add(found, int(at[place]), clip.moments, its_notes)
        # Where it is met most often, as music off the grid is not heard alike each time.
        best = [max(listenings, key=lambda one: len(one.notes)) for listenings in met]
        return tuple(self._phrase(*one) for one in zip(groups, self._families(leaders), best, strict=True))

    def _heard(self, piece: Notes, number: int) -> Iterator["_Clip"]:
        """A clip as each listening has it, the one that moves nothing first."""
        for by in sorted(self.model.listenings, key=abs):
            yield _Clip(self._identifier, self.model, self.notes, piece, number, by)

    def _phrase(self, group: Group, family: int, met: "_Met") -> Phrase:
        same_way = self.gives[np.sign(self.gives) == np.sign(group.gives)]
        return Phrase(
            concept=FAMILIES[family].concept,
            family=FAMILIES[family].name,
            words=met.words,
            gives=group.gives,
            share=group.gives / float(same_way.sum()),
            count=len(met.notes),
            times_s=tuple(sorted(float(self.notes.onsets_s[notes].min()) for notes in met.notes)[:TIMES]),
            notes=tuple(np.unique(np.concatenate(met.notes)).tolist()),
            n_ngrams=len(group.rows),
        )

    def _families(self, rows: npt.NDArray[Any]) -> Ints:
        starts = self.model.vocabulary.starts.cpu().numpy()
        families: Ints = np.searchsorted(starts, rows, side="right") - 1
        return families

    def _concepts(self, rows: npt.NDArray[Any]) -> npt.NDArray[np.str_]:
        return np.array([family.concept for family in FAMILIES])[self._families(rows)]


@dataclass
class _Met:
    """Where one n-gram was met in one listening: the words for the first time, and the notes of each time."""

    words: str = ""
    notes: list[Ints] = field(default_factory=list)

    def add(self, found: Found, at: int, moments: Moments, its_notes: Ints) -> None:
        self.words = self.words or words(found, at, moments)
        self.notes.append(its_notes)


class _Clip:
    """One clip's moments, moved by some frames, and which note of the performance each key of each of them is.

    Raises: ExtractionError when it cannot be drawn.
    """

    def __init__(
        self, identifier: Identifier, model: NgramModel, notes: Notes, piece: Notes, number: int, by: int
    ) -> None:
        options = identifier.clip_options
        rolls = torch.from_numpy(draw_clip(piece, options, evaluation_rng(piece))[np.newaxis]).to(identifier.device)
        self._model = model
        with torch.inference_mode():
            self.moments = m = Moments.of(moved(rolls, by))
            self._top, self._low = m.top.cpu().numpy(), m.low.cpu().numpy()
            struck, held = m.struck.cpu().numpy(), m.held.cpu().numpy()
        first = int(np.searchsorted(notes.onsets_s, CLIP_LENGTH_S * number))
        painters = painters_of_steps(piece, first, options, by=by)
        self._notes = painters[:, m.steps.cpu().numpy()].T.astype(np.int64) - 1
        self._keys = {"struck": _KeysOf(struck), "sounding": _KeysOf(struck | held)}

    def known(self, names: Collection[str] | None = None) -> Iterator[tuple[Found, Ints, Ints]]:
        """The known n-grams of all families, or of some: their rows, and their places among those found."""
        with torch.inference_mode():
            for found in self._model.find(self.moments):
                if names is None or found.family.name in names:
                    rows, known = self._model.vocabulary.find(found.codes)
                    yield found, rows.cpu().numpy(), known.nonzero().squeeze(1).cpu().numpy()

    def made_of(self, found: Found, at: Ints) -> tuple[Ints, Ints]:
        """The notes that n-grams `at` are made of: for each, which of `at` it belongs to, and the note's number."""
        moments = found.moments.cpu().numpy()[at]
        which = np.repeat(np.arange(len(at)), moments.shape[1])
        places = moments.ravel()
        if found.keys is not None:
            keys = found.keys.cpu().numpy()[at]
            # As many keys to a moment, and in the same order.
            each = keys.shape[1] // moments.shape[1]
            which, places, keys = np.repeat(which, each), np.repeat(places, each), keys.ravel()
        elif found.family.voice in ("top", "low"):
            keys = (self._top if found.family.voice == "top" else self._low)[places]
        else:
            which, places, keys = self._keys[found.family.voice].spread(which, places)
        return which, self._notes[places, keys]


class _KeysOf:
    """The keys of each moment, from a table (n, 88), one after another."""

    def __init__(self, table: npt.NDArray[np.bool_]) -> None:
        self._keys = np.nonzero(table)[1]
        self._sizes = table.sum(axis=1)
        self._starts = np.cumsum(self._sizes) - self._sizes

    def spread(self, which: Ints, places: Ints) -> tuple[Ints, Ints, Ints]:
        """Each of `which` and each of the moments `places` once for each key of the moment, and those keys."""
        sizes = self._sizes[places]
        begins = np.cumsum(sizes) - sizes
        order = np.arange(int(sizes.sum())) + np.repeat(self._starts[places] - begins, sizes)
        return np.repeat(which, sizes), np.repeat(places, sizes), self._keys[order]
