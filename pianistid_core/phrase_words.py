"""What an n-gram is, in words of music made from the notes that it was found in.

An n-gram itself is a number and can be read by nobody, but wherever it occurs its notes are known. Melody is told as
notes and the steps between them in semitones, harmony as keys struck together or held, rhythm as waits, counts and
lengths in steps of 100 ms.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from pianistid_core.midi import key_name
from pianistid_core.models.moments import STEP_FRAMES, Moments
from pianistid_core.models.ngrams import AROUND_TOP, MOST_HELD, MOST_STRUCK, MOST_WAIT, NO_WAIT, Found
from pianistid_core.rolls import FRAMES_PER_SECOND, LOWEST_PITCH

_STEP_MS = 1000 * STEP_FRAMES // FRAMES_PER_SECOND
_SHORT_WAIT, _SHORT_LENGTH = 6, 8  # where families that look at two things at once stop counting
_MOST_KEYS = 9
_HERE = "at just this pitch"


def words(found: Found, at: int, moments: Moments) -> str:
    """The n-gram number `at` of those found in some moments, as a phrase without a full stop."""
    name, size = _parted(found.family.name)
    reader = _Reader(moments, found.moments[at].tolist(), None if found.keys is None else found.keys[at].tolist())
    if found.family.concept == "rhythm":
        return reader.rhythm(name)
    return reader.melody(name, size) if found.family.concept == "melody" else reader.harmony(name)


def _parted(name: str) -> tuple[str, int]:
    """ "interval3" as "interval" and 3; without a number 0."""
    match = re.fullmatch(r"(.*?) ?(\d+)", name)
    return (match[1], int(match[2])) if match else (name, 0)


class _Reader:
    """Reads the moments `at` that one n-gram spans."""

    def __init__(self, moments: Moments, at: Sequence[int], keys: Sequence[int] | None) -> None:
        self.m, self.at, self.keys = moments, at, keys

    # --- the concepts ---

    def melody(self, name: str, size: int) -> str:
        tops = self._each(self.m.top)
        said = _named(tops)
        alone = " as the highest line of all" if name == "skyline" else ""
        if tops[1:] and len(set(tops)) == 1 and name != "pitch":
            return f"{_repeated(tops)}{alone}"
        if name == "pitch":
            return f"{said}, {_HERE}"
        if name == "skip":
            skips = [after - before for before, after in zip(tops, tops[2:], strict=False)][-size:]
            return f"{said} ({_moves(skips)} past the note between)"
        steps = _steps(tops)
        if name == "contour":
            return f"{said} ({', '.join(_leap(step) for step in steps)})"
        return f"{said}{alone} ({_moves(steps)})"

    def harmony(self, name: str) -> str:
        if self.keys is not None:
            return self._of_keys(name, self.keys)
        if name.startswith("bass"):
            lows = self._each(self.m.low)
            if name == "bass step" and len(set(lows)) == 1:
                return f"{_repeated(lows)} as lowest note"
            steps = _moves(_steps(lows))
            return f"{_named(lows)} as lowest notes{f' ({steps})' if name == 'bass step' else f', {_HERE}'}"
        if name == "chord top":
            tops = self._each(self.m.top)
            if len(set(tops)) == 1:
                return f"{_repeated(tops)} on top of chords"
            steps = _moves(_steps(tops))
            return f"{_named(tops)} on top of chords ({steps})"
        if name.startswith("held"):
            return self._held(name)
        if name.startswith("chord pair"):
            return f"{', then '.join(_named(self._struck(at)) for at in self.at)}, each struck together"
        struck = self._struck(self.at[0])
        if name == "chord without bass":
            return f"{_named(struck[1:])} struck together above a bass"
        if name in ("chord without top", "voicing"):
            where = f", {_HERE}" if name == "voicing" else ""
            return f"{_named(struck[:-1])} struck together below a top note{where}"
        if name == "pitch classes":
            classes = dict.fromkeys(key_name(key + LOWEST_PITCH).rstrip("-0123456789") for key in struck)
            return f"{' '.join(classes)} struck together, in whatever octaves"
        return f"{_named(struck)} struck together{f', {_HERE}' if name == 'chord' else ''}"

    def rhythm(self, name: str) -> str:
        counts = [len(self._struck(at)) for at in self.at]
        if name == "wait":
            return _waits(self._waits(MOST_WAIT))
        if name == "count":
            told = _listed([_up_to(n, MOST_STRUCK) for n in counts])
            return f"{told} keys struck in turn" if counts[1:] else f"{_keys(*counts)} struck"
        if name == "count and wait":
            pairs = zip(counts, self._waits(_SHORT_WAIT), strict=True)
            return _in_turn([f"{_keys(n)}, {_after(wait, _SHORT_WAIT)}" for n, wait in pairs])
        if name == "held and struck":
            held = [int(self.m.n_held[at]) for at in self.at]
            over = [_up_to(n, MOST_HELD) if n else "none" for n in held]
            return _in_turn([f"{_keys(n)} struck over {some} held" for n, some in zip(counts, over, strict=True)])
        return self._lengths(name, counts)

    # --- their parts ---

    def _each(self, keys: Tensor) -> list[int]:
        return [int(keys[at]) for at in self.at]

    def _struck(self, at: int) -> list[int]:
        return [int(key) for key in self.m.struck[at].nonzero()]

    def _of_keys(self, name: str, keys: Sequence[int]) -> str:
        """What is made of one key or two at a moment."""
        if name == "key":
            return f"{_named(keys)} struck, {_HERE}"
        if name.startswith("interval"):
            between = sum(keys[0] < key < keys[1] for key in self._struck(self.at[0]))
            inside = f" with {_keys(between)} between" if between else ""
            where = ", in this register" if name == "interval at" else ""
            return f"{_named(keys)} struck together{inside} ({abs(keys[1] - keys[0])} apart){where}"
        held, struck = (_named([key]) for key in keys)
        if name == "held under top":
            return f"{held} held while {struck} is struck on top"
        n = len(self._struck(self.at[0]))
        where = f", lowest of {_up_to(n, MOST_STRUCK)}" if n > 1 else " alone"
        return f"{held} held while {struck} is struck{where}"

    def _held(self, name: str) -> str:
        at = self.at[0]
        held, top = self.m.held[at].nonzero().flatten().tolist(), int(self.m.top[at])
        if name == "held chord":
            struck = self._struck(at)
            return f"{_named(held)} held while {_named(struck)} {'are' if struck[1:] else 'is'} struck"
        around = [key for key in held if abs(top - key) <= AROUND_TOP]
        return f"{_named(around)} held around {_named([top])}, the top note struck"

    def _lengths(self, name: str, counts: Sequence[int]) -> str:
        """How long the notes of a voice sound, alone or with what else there is."""
        which, keys = ("lowest", self.m.low) if name.startswith("low") else ("top", self.m.top)
        most = _SHORT_LENGTH if " and " in name else MOST_WAIT
        lengths = [int(self.m.lengths[at, keys[at]]) for at in self.at]
        of = [f"a {which} note of {_ms(length, most)}" for length in lengths]
        if name == "length and wait":
            return _in_turn([f"{one}, {_after(wait, most)}" for one, wait in zip(of, self._waits(most), strict=True)])
        if name == "low length and count":
            return _in_turn([f"{one}, {_keys(n)} struck" for one, n in zip(of, counts, strict=True)])
        return f"{which} notes lasting {_times(lengths, most)}" if lengths[1:] else of[0]

    def _waits(self, most: int) -> list[int]:
        """Steps until the next moment, as the n-gram saw them; `NO_WAIT` for the last moment of a clip."""
        waits = []
        for at in self.at:
            last = at + 1 >= len(self.m) or int(self.m.clips[at + 1]) != int(self.m.clips[at])
            waits.append(NO_WAIT if last else min(int(self.m.steps[at + 1] - self.m.steps[at]), most))
        return waits


def _named(keys: Sequence[int]) -> str:
    named = [key_name(key + LOWEST_PITCH) for key in keys]
    return " ".join(named if len(named) <= _MOST_KEYS else [*named[: _MOST_KEYS - 1], "…", named[-1]])


def _in_turn(items: Sequence[str]) -> str:
    """What comes one after another; said once where it is all the same."""
    return f"{len(items)} times in turn: {items[0]}" if items[1:] and len(set(items)) == 1 else "; ".join(items)


def _repeated(keys: Sequence[int]) -> str:
    return f"{_named(keys[:1])} {len(keys)} times in a row"


def _steps(keys: Sequence[int]) -> list[int]:
    return [after - before for before, after in pairwise(keys)]


def _moves(steps: Sequence[int]) -> str:
    """Ways from note to note in semitones: "down 1, up 5, same"."""
    return ", ".join("same" if step == 0 else f"{'up' if step > 0 else 'down'} {abs(step)}" for step in steps)


def _leap(step: int) -> str:
    size = abs(step)
    if size == 0:
        return "repeated"
    kind = "step" if size <= 2 else "third" if size <= 4 else "leap" if size <= 9 else "wide leap"
    return f"{kind} {'up' if step > 0 else 'down'}"


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))


def _up_to(n: int, most: int) -> str:
    """A number as far as n-grams count: "6 or more"."""
    return f"{n}" if n < most else f"{most} or more"


def _keys(n: int) -> str:
    return f"{_up_to(n, MOST_STRUCK)} key{'' if n == 1 else 's'}"


def _ms(steps: int, most: int) -> str:
    return f"{_STEP_MS * min(steps, most)} ms{' or more' if steps >= most else ''}"


def _times(steps: Sequence[int], most: int) -> str:
    """Lengths of time with their unit once: "200, 100 ms"."""
    if any(step >= most for step in steps):
        return ", ".join(_ms(step, most) for step in steps)
    return f"{_listed([_STEP_MS * step for step in steps])} ms"


def _after(wait: int, most: int) -> str:
    return "then the clip ends" if wait == NO_WAIT else f"wait {_ms(wait, most)}"


def _waits(waits: Sequence[int]) -> str:
    """ "waits of 200, 100, 100 ms", and the clip's end where nothing follows."""
    told = [wait for wait in waits if wait != NO_WAIT]
    if not told:
        return "the last notes of a clip"
    end = ", then the clip ends" if len(told) < len(waits) else ""
    return f"{'waits' if told[1:] else 'a wait'} of {_times(told, MOST_WAIT)}{end}"
