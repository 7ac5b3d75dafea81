"""What the Pianists page says, as plain data and words: which models there are, and what one knows of each pianist."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from pianistid_core.comparison import look_alike_order
from pianistid_core.intervals import Interval, wilson
from pianistid_core.profiles import ALL, Profile, Profiles
from pianistid_core.run_folder import CHECKPOINT
from pianistid_core.runs import RunSummary
from wording import count, listed, one_line, percent

BEST_FIRST, LOOK_ALIKES, BY_NAME = "Best known first", "Look-alikes together", "By name"
_ROUNDING = 0.01
ORDERS = (BEST_FIRST, LOOK_ALIKES, BY_NAME)


def trained(runs: Sequence[RunSummary]) -> list[RunSummary]:
    """The runs that have a checkpoint."""
    return [run for run in runs if _has_checkpoint(run.path)]


def _has_checkpoint(folder: Path) -> bool:
    try:
        return any(CHECKPOINT.fullmatch(name) for name in os.listdir(folder))
    except OSError:
        return False


def heard_by(name: str) -> str:
    """What a column is called: everything, or one concept alone."""
    return "Everything" if name == ALL else name.capitalize()


def ordered(found: Profiles, order: str) -> list[Profile]:
    """The pianists in an order; those without recordings stand last."""
    pianists = list(found.pianists)
    if order == LOOK_ALIKES:
        pianists = [pianists[index] for index in look_alike_order(_confusions(found))]
    elif order == BY_NAME:
        pianists.sort(key=lambda one: one.pianist.casefold())
    else:
        pianists.sort(key=lambda one: (-(one.recall[ALL] or 0.0), -_alone(one, found), one.pianist.casefold()))
    return sorted(pianists, key=lambda one: one.n == 0)


def _alone(profile: Profile, found: Profiles) -> float:
    return sum(profile.recall[concept] or 0.0 for concept in found.concepts)


def _confusions(found: Profiles) -> npt.NDArray[np.float64]:
    """Recordings by who plays and who is heard, as far as profiles keep them."""
    place = {one.pianist: index for index, one in enumerate(found.pianists)}
    counts = np.zeros((len(place), len(place)))
    for row, one in enumerate(found.pianists):
        counts[row, row] = one.n * (one.recall[ALL] or 0.0)
        for other, share in one.mistaken_for[ALL]:
            if other in place:
                counts[row, place[other]] = one.n * share
    return counts


def interval(profile: Profile, name: str) -> Interval | None:
    """Wilson's interval of a pianist's recall."""
    recall = profile.recall[name]
    return None if recall is None else wilson(round(recall * profile.n), profile.n)


def mean_recalls(found: Profiles) -> dict[str, float]:
    """For everything and each concept alone, the mean of the pianists' recalls."""
    known = [one for one in found.pianists if one.n]
    return {name: sum(one.recall[name] or 0.0 for one in known) / max(1, len(known)) for name in found.heard}


@dataclass(frozen=True)
class Mistaken:
    """How many recordings of others are taken for a pianist, of how many; at least so many where not all are known."""

    times: int
    of: int
    at_least: bool

    def __str__(self) -> str:
        return f"{'at least ' if self.at_least else ''}{self.times} of {self.of}"


def others_taken_for(profile: Profile, found: Profiles, name: str) -> Mistaken:
    """How often others are taken for a pianist, by everything or a concept alone.

    Without it a recall can deceive: a model that says one name for everybody is always right about that one.
    """
    others = [one for one in found.pianists if one.n and one.pianist != profile.pianist]
    times, at_least = 0, False
    for one in others:
        named = dict(one.mistaken_for[name])
        times += round(named.get(profile.pianist, 0.0) * one.n)
        # Profiles keep the three most frequent; what is beyond them may be this pianist.
        unknown = one.n * (1 - (one.recall[name] or 0.0) - sum(named.values()))
        at_least |= profile.pianist not in named and unknown > _ROUNDING
    return Mistaken(times, sum(one.n for one in others), at_least)


def in_words(profile: Profile, found: Profiles) -> str:
    """What a model knows of a pianist, in a few sentences."""
    name, part = one_line(profile.pianist), found.part
    if not profile.n:
        return f"No recording of {name} is in the {part} part, so nothing can be said of how well they are recognised."
    right = round((profile.recall[ALL] or 0.0) * profile.n)
    words = [f"{name} is recognised in {right} of {count(profile.n, 'recording')} of the {part} part."]
    taken = profile.mistaken_for[ALL]
    if taken:
        words.append(f"Otherwise mostly taken for {one_line(taken[0][0])}.")
    if not found.concepts:
        return " ".join(words)
    recalls = {concept: profile.recall[concept] or 0.0 for concept in found.concepts}
    best, worst = max(recalls.values()), min(recalls.values())
    if best == worst:
        words.append(f"Each concept alone is right in {percent(best)} of them.")
    else:
        leading = listed(concept for concept in recalls if recalls[concept] == best)
        trailing = listed(concept for concept in recalls if recalls[concept] == worst)
        words.append(f"Best told by {leading} alone ({percent(best)}), least by {trailing} ({percent(worst)}).")
    too = {concept: others_taken_for(profile, found, concept) for concept in recalls if recalls[concept]}
    said = [
        f"by {concept} alone {mistaken} recordings of others"
        for concept, mistaken in too.items()
        if recalls[concept] == best and mistaken.times >= recalls[concept] * profile.n
    ]
    if said:
        words.append(f"But that says little: {listed(said)} are taken for {name} as well.")
    taken_more = [
        f"by {concept} for {one_line(others[0][0])} ({percent(others[0][1])})"
        for concept in found.concepts
        if (others := profile.mistaken_for[concept]) and others[0][1] > recalls[concept]
    ]
    if taken_more:
        words.append(f"By one concept alone rather taken for another: {listed(taken_more)}.")
    return " ".join(words)


def overview_table(found: Profiles, order: str) -> pd.DataFrame:
    """One line a pianist: recordings, and the share named right by everything and by each concept alone."""
    return pd.DataFrame(
        [
            {"Pianist": one_line(one.pianist), "Recordings": one.n}
            | {f"{heard_by(name)}, %": _per_cent(one.recall[name]) for name in found.heard}
            for one in ordered(found, order)
        ]
    )


def profile_table(profile: Profile, found: Profiles) -> pd.DataFrame:
    """One line for everything and each concept: recall, interval, whom they are taken for, and who for them."""
    rows = []
    for name in found.heard:
        ends = interval(profile, name)
        others = [f"{one_line(other)} {percent(share)}" for other, share in profile.mistaken_for[name]]
        rows.append(
            {
                "Heard": heard_by(name) if name == ALL else f"{heard_by(name)} alone",
                "Right": percent(profile.recall[name]),
                "95 % interval": f"{percent(ends[0])} to {percent(ends[1])}" if ends else "—",
                "Taken for": ", ".join(others) or "nobody else",
                "Others taken for them": str(others_taken_for(profile, found, name)),
            }
        )
    return pd.DataFrame(rows)


def _per_cent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 1)
