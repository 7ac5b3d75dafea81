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
from pianistid_core.models.ngrams import (
    CLOSE,
    MIDDLE_C,
    MOST_HELD,
    MOST_LEGATO,
    MOST_STRUCK,
    MOST_WAIT,
    NEAR,
    NO_WAIT,
    SHORT_LENGTH,
    SHORT_WAIT,
    Found,
)
from pianistid_core.rolls import FRAMES_PER_SECOND, LOWEST_PITCH

_STEP_MS = 1000 * STEP_FRAMES // FRAMES_PER_SECOND
_MOST_KEYS = 9
_HERE, _REGISTER = "at just this pitch", "in this register"
_AMONG = {
    "skyline": " as the highest line of all",
    "single": " among single notes",
    "high": " as the top line from middle C up",
}


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
        alone = _AMONG.get(name, "")
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
        if name == "high chord":
            high = [[key for key in self._struck(at) if key >= MIDDLE_C] for at in self.at]
            return f"{', then '.join(_named(keys) for keys in high)}, all that is struck from middle C up"
        struck = self._struck(self.at[0])
        if name in ("pitch classes", "sounding classes"):
            held = self.m.held[self.at[0]].nonzero().flatten().tolist() if name == "sounding classes" else []
            keys = sorted({*struck, *held})
            classes = dict.fromkeys(key_name(key + LOWEST_PITCH).rstrip("-0123456789") for key in keys)
            how = "sounding" if name == "sounding classes" else "struck"
            return f"{' '.join(classes)} {how} together, in whatever octaves"
        if name == "chord without top":
            return f"{_named(struck[:-1])} struck together below a top note"
        if name == "chord under top":
            return f"{_named([key for key in struck if struck[-1] - key <= NEAR])} struck together, on top"
        most = CLOSE if name == "close chord over low" else NEAR
        return f"{_named([key for key in struck if key - struck[0] <= most])} struck together, at the bottom"

    def rhythm(self, name: str) -> str:
        counts = [len(self._struck(at)) for at in self.at]
        if name == "wait":
            return _waits(self._waits(MOST_WAIT))
        if name == "count":
            told = _listed([_up_to(n, MOST_STRUCK) for n in counts])
            return f"{told} keys struck in turn" if counts[1:] else f"{_keys(*counts)} struck"
        if name == "count and wait":
            pairs = zip(counts, self._waits(SHORT_WAIT), strict=True)
            return _in_turn([f"{_keys(n)}, {_after(wait, SHORT_WAIT)}" for n, wait in pairs])
        if name == "held and struck":
            held = [int(self.m.n_held[at]) for at in self.at]
            over = [_up_to(n, MOST_HELD) if n else "none" for n in held]
            return _in_turn([f"{_keys(n)} struck over {some} held" for n, some in zip(counts, over, strict=True)])
        if name == "legato":
            return f"top note {_in_turn([_ending(self._top_length(at), self._wait(at, MOST_WAIT)) for at in self.at])}"
        if self.keys is not None:
            return self._note(name, *self.at, *self.keys)
        return self._lengths(name, counts)

    # --- their parts ---

    def _each(self, keys: Tensor) -> list[int]:
        return [int(keys[at]) for at in self.at]

    def _struck(self, at: int) -> list[int]:
        return [int(key) for key in self.m.struck[at].nonzero()]

    def _of_keys(self, name: str, keys: Sequence[int]) -> str:
        """What is made of one key or two."""
        if name == "key":
            return f"{_named(keys)} struck, {_HERE}"
        if "lead" in name:
            way = _moves(_steps(keys))
            past = " past the moment between" if name.startswith("late") else ""
            where = {"at": f", {_REGISTER}", "keys": f", {_HERE}"}.get(name.split()[-1], "")
            return f"{_named(keys)} from chord to chord ({way}{past}){where}"
        if name == "pair" or name.startswith("interval"):
            between = sum(keys[0] < key < keys[1] for key in self._struck(self.at[0]))
            inside = f" with {_keys(between)} between" if between else ""
            where = {"interval at": f", {_REGISTER}", "pair": f", {_HERE}"}.get(name, "")
            return f"{_named(keys)} struck together{inside} ({abs(keys[1] - keys[0])} apart){where}"
        held, struck = (_named([key]) for key in keys)
        if name.startswith("held under top"):
            return f"{held} held while {struck} is struck on top{f', {_REGISTER}' if name.endswith('at') else ''}"
        n = len(self._struck(self.at[0]))
        where = f", lowest of {_up_to(n, MOST_STRUCK)}" if n > 1 else " alone"
        return f"{held} held while {struck} is struck{where}"

    def _note(self, name: str, at: int, key: int) -> str:
        """One note of whatever voice: how long it sounds, and what there is around it."""
        most = MOST_WAIT if name == "note and wait" else SHORT_LENGTH
        note, wait = f"a note of {_ms(int(self.m.lengths[at, key]), most)}", _after(self._wait(at, most), most)
        if name == "note and wait":
            return f"{note}, {wait}"
        if name == "note, wait and count":
            return f"{note}, {_keys(len(self._struck(at)))} struck, {wait}"
        is_first = at == 0 or int(self.m.clips[at - 1]) != int(self.m.clips[at])
        since = 0 if is_first else int(self.m.steps[at] - self.m.steps[at - 1])
        before = f"{_ms(since, most)} after what was before" if since else "the first of a clip"
        return f"{note}, {before}, {wait}"

    def _lengths(self, name: str, counts: Sequence[int]) -> str:
        """How long the notes of a voice sound, alone or with what else there is."""
        which, keys = ("lowest", self.m.low) if name.startswith("low") else ("top", self.m.top)
        most = SHORT_LENGTH if " and " in name else MOST_WAIT
        lengths = [int(self.m.lengths[at, keys[at]]) for at in self.at]
        of = [f"a {which} note of {_ms(length, most)}" for length in lengths]
        if name == "length and wait":
            return _in_turn([f"{one}, {_after(wait, most)}" for one, wait in zip(of, self._waits(most), strict=True)])
        if name == "low length and count":
            return _in_turn([f"{one}, {_keys(n)} struck" for one, n in zip(of, counts, strict=True)])
        return f"{which} notes lasting {_times(lengths, most)}" if lengths[1:] else of[0]

    def _top_length(self, at: int) -> int:
        return min(int(self.m.lengths[at, self.m.top[at]]), MOST_WAIT)

    def _waits(self, most: int) -> list[int]:
        return [self._wait(at, most) for at in self.at]

    def _wait(self, at: int, most: int) -> int:
        """Steps until the next moment, as the n-gram saw them; `NO_WAIT` for the last moment of a clip."""
        last = at + 1 >= len(self.m) or int(self.m.clips[at + 1]) != int(self.m.clips[at])
        return NO_WAIT if last else min(int(self.m.steps[at + 1] - self.m.steps[at]), most)


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


def _ending(length: int, wait: int) -> str:
    """Where a note ends, by how long it sounds and how long it is until the next one."""
    if wait == NO_WAIT:
        return "at the end of the clip"
    over = length - wait
    if over == 0:
        return "held until the next"
    how, which = ("held on", "past") if over > 0 else ("let go", "before")
    return f"{how} {_ms(abs(over), MOST_LEGATO)} {which} the next"


def _after(wait: int, most: int) -> str:
    return "then the clip ends" if wait == NO_WAIT else f"wait {_ms(wait, most)}"


def _waits(waits: Sequence[int]) -> str:
    """ "waits of 200, 100, 100 ms", and the clip's end where nothing follows."""
    told = [wait for wait in waits if wait != NO_WAIT]
    if not told:
        return "the last notes of a clip"
    end = ", then the clip ends" if len(told) < len(waits) else ""
    return f"{'waits' if told[1:] else 'a wait'} of {_times(told, MOST_WAIT)}{end}"
