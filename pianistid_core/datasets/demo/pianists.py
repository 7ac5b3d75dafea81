"""Eight virtual pianists, and the truth about what tells them apart.

Each pianist is four habits, one a concept, of two kinds each. The eight sit in a ring in which one habit changes at
every step: neighbours are alike in all but one concept, and each concept tells two pairs of neighbours apart.

    Ada -melody- Bela -harmony- Clio -rhythm- Dov -dynamics- Esme -melody- Finn -harmony- Greta -rhythm- Hugo
     `---------------------------------------- dynamics -------------------------------------------------'

A habit shows in the channel of its own concept and leaves the other three as they are (see `playing`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from pianistid_core.concepts import CONCEPTS
from pianistid_core.errors import DataError

# What a listener hears, by concept and by label.
HABITS = {
    "melody": {
        "wide arpeggios": "leaps through the chord in wide arpeggios",
        "chromatic enclosures": "winds around each target in small chromatic steps",
    },
    "harmony": {
        "open shells": "plays open shells (root, seventh, tenth) low in the left hand",
        "stacked fourths": "stacks rootless fourths in the middle of the keyboard",
    },
    "rhythm": {
        "laid-back swing": "swings hard, laid back and legato, and lets chords ring",
        "straight and clipped": "plays straight, driving, clipped eighths and stabs the chords",
    },
    "dynamics": {
        "even touch": "keeps every note nearly as loud as the next",
        "swelling phrases": "lets each phrase swell from very soft to very loud, over quiet chords",
    },
}


@dataclass(frozen=True)
class VirtualPianist:
    """A pianist that the project made up: a name, and a label (a key of `HABITS`) for each concept."""

    name: str
    melody: str
    harmony: str
    rhythm: str
    dynamics: str

    def style(self, concept: str) -> str:
        """The label of one concept."""
        return str(getattr(self, concept))

    @property
    def habits(self) -> str:
        """What a listener hears, in one sentence."""
        heard = [HABITS[concept][self.style(concept)] for concept in CONCEPTS]
        return f"{self.name} {'; '.join(heard)}."

    def differs_in(self, other: "VirtualPianist") -> tuple[str, ...]:
        """The concepts in which two pianists have different habits."""
        return tuple(concept for concept in CONCEPTS if self.style(concept) != other.style(concept))


def _ring(names: Iterable[str]) -> tuple[VirtualPianist, ...]:
    """Walks twice round the concepts, changing one habit a step: eight pianists, the last next to the first."""
    choice = dict.fromkeys(CONCEPTS, 0)
    pianists = []
    for step, name in enumerate(names):
        labels = {concept: tuple(HABITS[concept])[choice[concept]] for concept in CONCEPTS}
        pianists.append(VirtualPianist(name, **labels))
        choice[CONCEPTS[step % 4]] ^= 1
    return tuple(pianists)


PIANISTS = _ring(
    ("Ada Quill", "Bela Marsh", "Clio Hart", "Dov Lindgren", "Esme Rook", "Finn Alder", "Greta Moss", "Hugo Penn")
)


@dataclass(frozen=True)
class PianistPair:
    """Two pianists, and the concepts in which they differ; in all others they are alike."""

    a: str
    b: str
    differs_in: tuple[str, ...]


@dataclass(frozen=True)
class GroundTruth:
    """Which concept tells which virtual pianists apart: what explanations are tested against."""

    data_set: str
    seed: int
    pianists: tuple[VirtualPianist, ...]

    @property
    def pairs(self) -> tuple[PianistPair, ...]:
        """All pairs of pianists."""
        return tuple(PianistPair(a.name, b.name, a.differs_in(b)) for a, b in combinations(self.pianists, 2))

    def twins(self, concept: str) -> tuple[PianistPair, ...]:
        """The pairs that are alike in all but one concept."""
        return tuple(pair for pair in self.pairs if pair.differs_in == (concept,))

    def pianist(self, name: str) -> VirtualPianist:
        """One pianist by name.

        Raises: DataError when nobody has that name.
        """
        for pianist in self.pianists:
            if pianist.name == name:
                return pianist
        known = ", ".join(pianist.name for pianist in self.pianists)
        raise DataError(f"no virtual pianist {name!r} in {self.data_set!r}; there are {known}")

    def groups(self, kept: Iterable[str]) -> tuple[tuple[str, ...], ...]:
        """The pianists in groups that the kept concepts cannot tell apart; all four concepts give eight groups.

        No model that sees the kept concepts alone can be right more often than groups / pianists, by more than luck.
        """
        heard = set(kept)
        concepts = [concept for concept in CONCEPTS if concept in heard]
        groups: dict[tuple[str, ...], list[str]] = {}
        for pianist in self.pianists:
            groups.setdefault(tuple(pianist.style(concept) for concept in concepts), []).append(pianist.name)
        return tuple(tuple(names) for names in groups.values())
