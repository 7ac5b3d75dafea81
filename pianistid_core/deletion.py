"""Deletion curves: how fast an answer falls when the notes that an attribution ranks highest are deleted.

If scores say which notes a model's answer rests on, deleting the highest ranked lowers that answer faster than deleting
as many others (Samek et al. 2017; Petsiuk, Das and Saenko 2018). Music with notes missing is unlike any that a model
learned from, and its answer may move for that alone; so the highest ranked are compared with other notes in the same
number: random ones, and those that fill most of the roll, since a score that only knew those would say nothing of the
pianist. Deleting the lowest ranked first keeps the highest, and so is the end of the insertion curve.

Each clip of 30 s is asked by itself. Shapes: n clips, d draws, s shares deleted, the first of them 0; the last axis is
that of `MEASURES`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pianistid_core.attribution import Attribution, attribute
from pianistid_core.errors import ExtractionError, ModelError
from pianistid_core.identify import Identifier
from pianistid_core.intervals import Interval, bootstrap
from pianistid_core.midi import CLIP_LENGTH_S, Notes, split_into_clips
from pianistid_core.rolls import is_heard

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
OnProgress = Callable[[int, int], None]

SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)
ORDERS = ("highest", "random", "most painted", "lowest")
MEASURES = ("probability", "log odds")
DRAWS = 5
_SEED = 20250101
_WORTH_A_SENTENCE = 0.005
_TINY = np.finfo(np.float64).tiny


class Curve(NamedTuple):
    """A mean over clips (s,), and its 95 % interval (s,), which is the mean itself where there are too few for one."""

    mean: FloatArray
    low: FloatArray
    high: FloatArray


class Area(NamedTuple):
    """How much lower one curve lies than another on average, and the 95 % interval of that, None for too few clips."""

    value: float
    interval: Interval | None


@dataclass(frozen=True, eq=False)
class Deletion:
    """What is left of a model's answer to n clips as more and more of their notes are deleted.

    `curves[order]` (n, d, s, 2) holds the probability of the pianist and the logarithm of its odds against all others;
    d is 1 for every order but "random". `skipped` counts clips that could not be drawn with so many notes deleted.
    """

    curves: dict[str, FloatArray]
    skipped: int = 0
    shares: tuple[float, ...] = SHARES

    @property
    def n_clips(self) -> int:
        """How many clips were asked."""
        return len(self.curves["highest"])

    @property
    def n_draws(self) -> int:
        """How often random notes were drawn for each clip."""
        return int(self.curves["random"].shape[1])

    def curve(self, order: str, measure: str = "probability") -> Curve:
        """One order's mean over the clips."""
        of_clips = self._of_clips(order, measure)
        mean = of_clips.mean(axis=0)
        intervals = [bootstrap(column) or (at, at) for column, at in zip(of_clips.T, mean, strict=True)]
        return Curve(mean, np.array([low for low, _ in intervals]), np.array([high for _, high in intervals]))

    def drawn(self, measure: str = "probability") -> FloatArray:
        """Each draw of random notes, as its mean over the clips: (d, s)."""
        mean: FloatArray = self.curves["random"][..., MEASURES.index(measure)].mean(axis=0)
        return mean

    def area(self, against: str = "random", measure: str = "probability") -> Area:
        """How much lower the curve of the highest ranked lies than another's, on average over the shares."""
        of_clips = self.areas(against, measure)
        return Area(float(of_clips.mean()), bootstrap(of_clips))

    def areas(self, against: str = "random", measure: str = "probability") -> FloatArray:
        """The same for each clip: (n,)."""
        return self._mean_over_shares(self._of_clips(against, measure) - self._of_clips("highest", measure))

    def ahead_of_draws(self, measure: str = "probability") -> int:
        """In how many of the draws the highest ranked lower the answer faster than the random notes."""
        gaps = self.drawn(measure) - self._of_clips("highest", measure).mean(axis=0)
        return int((self._mean_over_shares(gaps) > 0).sum())

    @property
    def told(self) -> bool:
        """Whether the highest ranked lower the answer faster than random ones: in every draw, by enough, beyond chance.

        Enough is half a point of probability. Beyond chance is where the area's interval lies above 0; too few clips
        have none.
        """
        value, interval = self.area()
        in_every_draw = self.ahead_of_draws() == self.n_draws
        return in_every_draw and value >= _WORTH_A_SENTENCE and (interval is None or interval[0] > 0)

    def words(self) -> tuple[str, ...]:
        """What the curves say, in sentences, the first of them the outcome."""
        area = self.area()
        size = f"{100 * abs(area.value):.1f} points of probability {'lower' if area.value > 0 else 'higher'} on average"
        if self.told:
            outcome = f"Deleting the notes that rank highest lowers the answer faster than deleting random ones: {size}"
        else:
            outcome = (
                "Deleting the notes that rank highest does not lower the answer reliably faster than deleting random "
                f"ones: {size}, and lower in {self.ahead_of_draws()} of {self.n_draws} draws"
            )
        if area.interval is not None:
            low, high = area.interval
            outcome += f" (95 % interval over {self.n_clips} clips {100 * low:+.1f} to {100 * high:+.1f})"
        return (
            f"{outcome}.",
            "Music with notes missing is unlike any that a model learned from, so its answer may move for that alone: "
            "only the difference to random notes in the same number counts.",
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: means, intervals and areas; not each clip's curves, but its area."""
        return {
            "n_clips": self.n_clips,
            "skipped": self.skipped,
            "shares_deleted": list(self.shares),
            "curves": {
                measure: {
                    order: {name: values.tolist() for name, values in self.curve(order, measure)._asdict().items()}
                    for order in ORDERS
                }
                for measure in MEASURES
            },
            "areas": {
                measure: {
                    order: self.area(order, measure)._asdict() | {"clips": self.areas(order, measure).tolist()}
                    for order in ORDERS[1:]
                }
                for measure in MEASURES
            },
            "draws": self.n_draws,
            "ahead_of_draws": self.ahead_of_draws(),
            "told": self.told,
            "words": list(self.words()),
        }

    def _of_clips(self, order: str, measure: str) -> FloatArray:
        """Each clip's mean over its draws: (n, s)."""
        mean: FloatArray = self.curves[order][..., MEASURES.index(measure)].mean(axis=1)
        return mean

    def _mean_over_shares(self, gaps: FloatArray) -> FloatArray:
        """The area under (k, s) by the trapezoidal rule, over the width: (k,)."""
        widths = np.diff(self.shares)
        mean: FloatArray = ((gaps[:, 1:] + gaps[:, :-1]) / 2 * widths).sum(axis=1) / widths.sum()
        return mean


def delete(
    identifier: Identifier,
    notes: Notes,
    attribution: Attribution | None = None,
    *,
    draws: int = DRAWS,
    most_clips: int | None = None,
    progress: OnProgress | None = None,
) -> Deletion:
    """Deletes notes of a performance in four orders, and asks a model what is left of its answer.

    The notes are ranked by `attribution` (default: that of the model's answer), within each clip. With `most_clips` no
    more than that many are asked, spread evenly. Where chords are heard, a clip with few has none left at some point:
    the curves go as far as any clip can, over the clips that can. `progress(done, total)` counts clips.

    Raises
    ------
    ExtractionError
        When no clip can be drawn from the music, also with notes missing.
    ModelError
        When the scores are not of these notes, or there are no draws.
    """
    ranked = attribute(identifier, notes) if attribution is None else attribution
    if len(ranked.scores) != len(notes):
        raise ModelError(f"{len(ranked.scores)} scores came for {len(notes)} notes; give the attribution of this music")
    if draws < 1:
        raise ModelError(f"{draws} draws of random notes were asked for; give at least 1 to compare with")
    pieces = split_into_clips(notes)
    chosen = _spread(len(pieces), most_clips)
    rows: list[dict[str, FloatArray]] = []
    for done, number in enumerate(chosen):
        if progress is not None:
            progress(done, len(chosen))
        first = int(np.searchsorted(notes.onsets_s, CLIP_LENGTH_S * number))
        clip = _heard_alone(pieces[number])
        try:
            rows.append(_curves(identifier, clip, ranked.scores[first : first + len(clip)], ranked.pianist, draws))
        except ExtractionError:
            continue
    furthest = max((row["highest"].shape[1] for row in rows), default=0)
    if furthest < 2:
        raise ExtractionError("no clip of this music can be drawn for this model once notes are deleted from it")
    kept = [row for row in rows if row["highest"].shape[1] == furthest]
    curves = {order: np.stack([row[order] for row in kept]) for order in ORDERS}
    return Deletion(curves, skipped=len(chosen) - len(kept), shares=SHARES[:furthest])


def pooled(parts: list[Deletion]) -> Deletion:
    """The curves of several pieces of music as one, over all their clips that go as far as any.

    Raises
    ------
    ModelError
        When there is none.
    """
    if not parts:
        raise ModelError("there are no deletion curves to put together")
    shares = max((part.shares for part in parts), key=len)
    kept = [part for part in parts if part.shares == shares]
    curves = {order: np.concatenate([part.curves[order] for part in kept]) for order in ORDERS}
    asked = sum(part.n_clips + part.skipped for part in parts)
    return Deletion(curves, skipped=asked - len(curves["highest"]), shares=shares)


def _spread(n: int, most: int | None) -> list[int]:
    """Up to so many of the numbers below n, evenly spread."""
    if most is None or most >= n:
        return list(range(n))
    return [int(at) for at in (np.arange(most) + 0.5) * n / most]


def _heard_alone(piece: Notes) -> Notes:
    """A clip of 30 s without what follows it, and so short that it is one clip whatever is deleted from it."""
    clip = piece.between(0.0, CLIP_LENGTH_S)
    return Notes(clip.onsets_s, np.minimum(clip.offsets_s, 1.5 * CLIP_LENGTH_S), clip.pitches, clip.velocities)


def _curves(
    identifier: Identifier, clip: Notes, scores: npt.NDArray[np.float64], pianist: str, draws: int
) -> dict[str, FloatArray]:
    """One clip's curves (d, s, 2) for each order, as far as it can be drawn."""
    rng = np.random.default_rng([_SEED, len(clip)])
    heard = np.flatnonzero(is_heard(clip))
    if not len(heard):
        raise ExtractionError("no note of this clip is heard")
    whole = _said(identifier, clip, pianist)
    painted = (clip.offsets_s - clip.onsets_s) * clip.velocities

    def first(values: FloatArray) -> IntArray:
        """The heard notes with the largest values first; equal ones in an order that chance gives."""
        return heard[np.lexsort((rng.random(len(heard)), -values[heard]))]

    orders = {
        "highest": [first(scores)],
        "random": [rng.permutation(heard) for _ in range(draws)],
        "most painted": [first(painted)],
        "lowest": [first(-scores)],
    }
    said: dict[str, list[list[tuple[float, float]]]] = {name: [[whole] for _ in some] for name, some in orders.items()}
    for share in SHARES[1:]:
        try:
            step = {
                name: [_said(identifier, _without(clip, one, share), pianist) for one in some]
                for name, some in orders.items()
            }
        except ExtractionError:
            break
        for name, answers in step.items():
            for curve, answer in zip(said[name], answers, strict=True):
                curve.append(answer)
    return {name: np.array(curves) for name, curves in said.items()}


def _without(clip: Notes, order: IntArray, share: float) -> Notes:
    """The clip without the first notes of an order: that share of them, at least one."""
    kept = np.ones(len(clip), bool)
    kept[order[: max(1, round(share * len(order)))]] = False
    return Notes(clip.onsets_s[kept], clip.offsets_s[kept], clip.pitches[kept], clip.velocities[kept])


def _said(identifier: Identifier, clip: Notes, pianist: str) -> tuple[float, float]:
    """The probability of a pianist, and the logarithm of its odds."""
    said = identifier.identify(clip, concepts=False).probabilities
    others = sum(probability for name, probability in said.items() if name != pianist)
    return said[pianist], float(np.log(max(said[pianist], _TINY)) - np.log(max(others, _TINY)))
