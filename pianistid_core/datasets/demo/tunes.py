"""The tunes that the virtual pianists share: chord symbols, keys and the forms that jazz is built on.

A form is written in C (or C minor) as players write it: bars between "|", one or two chords a bar. The progressions are
common property (the twelve-bar blues, ii-V-I, the cycle of fifths, modal vamps); the titles are our own.
"""

from dataclasses import dataclass

from pianistid_core.errors import DataError

NOTE_NAMES = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
_PITCH_CLASSES = {name: index for index, name in enumerate(NOTE_NAMES)}

# Semitones above the root, by scale degree as a player names it.
_QUALITIES = {
    "maj7": {3: 4, 5: 7, 7: 11, 9: 14, 11: 18, 13: 21},
    "m7": {3: 3, 5: 7, 7: 10, 9: 14, 11: 17, 13: 21},
    "7": {3: 4, 5: 7, 7: 10, 9: 14, 11: 18, 13: 21},
    "m7b5": {3: 3, 5: 6, 7: 10, 9: 13, 11: 17, 13: 20},
}


@dataclass(frozen=True)
class Chord:
    """A chord symbol: the pitch class of its root (0 = C) and its quality."""

    root: int
    quality: str

    def degree(self, number: int) -> int:
        """Semitones from the root up to a degree: 1, 3, 5, 7, 9, 11 or 13."""
        return 0 if number == 1 else _QUALITIES[self.quality][number]

    @property
    def tones(self) -> tuple[int, ...]:
        """The pitch classes that a soloist leans on: third, fifth, seventh and ninth."""
        return tuple((self.root + self.degree(number)) % 12 for number in (3, 5, 7, 9))

    @property
    def scale(self) -> frozenset[int]:
        """The pitch classes of the chord's scale: all seven degrees."""
        return frozenset((self.root + self.degree(number)) % 12 for number in (1, 3, 5, 7, 9, 11, 13))

    def __str__(self) -> str:
        return f"{NOTE_NAMES[self.root]}{self.quality}"


Bar = tuple[Chord, ...]


@dataclass(frozen=True)
class Tune:
    """A title and the bars of one chorus, written in C."""

    title: str
    form: str

    def chorus(self, key: int) -> tuple[Bar, ...]:
        """The chords of each bar, transposed up by `key` semitones."""
        bars = self.form.replace("\n", " ").split("|")
        return tuple(tuple(parse_chord(symbol, key) for symbol in bar.split()) for bar in bars)


def parse_chord(symbol: str, key: int = 0) -> Chord:
    """Reads a chord symbol such as "Bbm7", transposed up by `key` semitones.

    Raises: DataError when the root or the quality is none that the demo knows.
    """
    root = symbol[:2] if symbol[1:2] == "b" else symbol[:1]
    quality = symbol[len(root) :]
    if root not in _PITCH_CLASSES or quality not in _QUALITIES:
        raise DataError(f"chord {symbol!r} is not a root of C..B with one of {', '.join(_QUALITIES)}")
    return Chord((_PITCH_CLASSES[root] + key) % 12, quality)


TUNES = (
    Tune("Harbour Street Blues", "C7|F7|C7|Gm7 C7|F7|F7|C7|Em7 A7|Dm7|G7|C7 A7|Dm7 G7"),
    Tune("Nightjar Minor Blues", "Cm7|Cm7|Cm7|C7|Fm7|Fm7|Cm7|Cm7|Ab7|G7|Cm7|Dm7b5 G7"),
    Tune(
        "Paper Lanterns",
        """Dm7|G7|Cmaj7|Fmaj7|Bm7b5|E7|Am7|Am7|Dm7|G7|Cmaj7|Fmaj7|Bm7b5|E7|Am7|Am7|
        Bm7b5|E7|Am7|Am7|Dm7|G7|Cmaj7|Fmaj7|Bm7b5|E7|Am7 D7|Gm7 C7|Fmaj7|E7|Am7|Am7""",
    ),
    Tune(
        "Attic Changes",
        """Cmaj7 A7|Dm7 G7|Em7 A7|Dm7 G7|Gm7 C7|Fmaj7 Bb7|Em7 A7|Dm7 G7|
        E7|E7|A7|A7|D7|D7|G7|G7|Cmaj7 A7|Dm7 G7|Em7 A7|Dm7 G7|Gm7 C7|Fmaj7 Bb7|Dm7 G7|Cmaj7""",
    ),
    Tune("Two-Five Ferry", "Dm7|G7|Cmaj7|Cmaj7|Cm7|F7|Bbmaj7|Bbmaj7|Bbm7|Eb7|Abmaj7|Abmaj7|Dm7b5|G7|Cmaj7|Cmaj7"),
    Tune(
        "Plateau",
        """Dm7|Dm7|Dm7|Dm7|Dm7|Dm7|Dm7|Dm7|Ebm7|Ebm7|Ebm7|Ebm7|Ebm7|Ebm7|Ebm7|Ebm7|
        Dm7|Dm7|Dm7|Dm7|Dm7|Dm7|Dm7|Dm7""",
    ),
    Tune("Third Rail", "Cmaj7 Eb7|Abmaj7 B7|Emaj7 G7|Cmaj7|Dm7|G7|Gm7 C7|Fmaj7|Fm7 Bb7|Ebmaj7|Dm7 G7|Cmaj7"),
    Tune("Corner of Ninth", "Cmaj7|Cmaj7|D7|D7|Dm7|G7|Cmaj7|Dm7 G7|Gm7|C7|Fmaj7|Fmaj7|D7|D7|Dm7|G7"),
    Tune(
        "Rain on the Tin Roof",
        "Cm7|Ab7|Dm7b5|G7|Cm7|Fm7|Bb7|Ebmaj7|Abmaj7|Dm7b5|G7|Cm7|Fm7 Bb7|Ebmaj7 Ab7|Dm7b5 G7|Cm7",
    ),
    Tune("Quiet Tram", "Cmaj7|Bm7b5 E7|Am7|Gm7 C7|Fmaj7|Fm7 Bb7|Cmaj7|A7|Dm7|G7|Em7 A7|Dm7 G7"),
    Tune("Copper Kettle", "C7|C7|Bb7|Bb7|C7|C7|Dm7|G7|F7|F7|C7|A7|D7|G7|C7|G7"),
    Tune("Last Bus Home", "Fmaj7|Fm7 Bb7|Cmaj7|Am7|Dm7|G7|Em7b5|A7|Dm7|Fm7 Bb7|Em7|Ebm7 Ab7|Dm7|G7|Cmaj7|Gm7 C7"),
)
