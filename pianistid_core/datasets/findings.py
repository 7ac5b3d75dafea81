"""What the doctor looks for in clips and splits: each check yields its findings, or nothing.

Severities
----------
- error: a result on this split cannot be trusted, or training will not start: the same music in two parts, files that
  cannot be read, recordings without clips.
- warning: something is probably not as wanted: empty clips, clips without chords, pianists of very different size.
- note: a fact to know when results are described: albums shared by the parts of a split by recording, for example.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pianistid_core.datasets.duplicates import ClipPrint, Likeness
from pianistid_core.datasets.root import DataRoot, RecordingInfo, Split, missing_clips
from pianistid_core.datasets.splitting import group_name, split_options
from pianistid_core.errors import SplitError
from pianistid_core.midi import CLIP_LENGTH_S

__all__ = [
    "SEVERITIES",
    "Examined",
    "ExaminedClip",
    "Finding",
    "about_clips",
    "about_root",
    "about_split",
    "broken_split",
]

SEVERITIES = ("error", "warning", "note")

_IMBALANCE = 10.0


@dataclass(frozen=True)
class Finding:
    """One thing that the doctor has to say, with the files or recordings behind it."""

    severity: str
    kind: str
    title: str
    message: str
    split: str | None = None
    items: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExaminedClip:
    """One clip as read: `printed` is None when it cannot be; `kind` and `fault` say what is wrong, if anything."""

    name: str
    track: str
    printed: ClipPrint | None
    kind: str = ""
    fault: str = ""


@dataclass(frozen=True)
class Examined:
    """Everything that was read: clips, which of them are alike (indices of `clips`), what is known of recordings."""

    clips: Sequence[ExaminedClip]
    likenesses: Sequence[Likeness]
    known: Mapping[str, RecordingInfo]

    @cached_property
    def clips_of(self) -> Counter[str]:
        """How many clips each track has."""
        return Counter(clip.track for clip in self.clips)

    def tracks(self, likeness: Likeness) -> tuple[str, str]:
        """The two recordings of two like clips."""
        return self.clips[likeness.a].track, self.clips[likeness.b].track


# --- clips -----------------------------------------------------------------------------------------------------------


def about_clips(examined: Examined) -> Iterator[Finding]:
    """What is wrong with single clips, whatever the split."""
    faulty: dict[str, list[str]] = defaultdict(list)
    for clip in examined.clips:
        faulty[clip.kind].append(f"{clip.name}: {clip.fault}")
    if unreadable := faulty["unreadable"]:
        message = f"{_count(unreadable, 'clip')} cannot be read and will be skipped; replace or delete the files."
        yield Finding("error", "unreadable", "Clips that cannot be read", message, items=tuple(unreadable))
    if empty := faulty["empty"]:
        message = f"{_count(empty, 'clip')} {_are(empty)} silent and will be skipped; delete or replace them."
        yield Finding("warning", "empty", "Empty clips", message, items=tuple(empty))
    if chordless := faulty["no-chords"]:
        message = (
            f"{_count(chordless, 'clip')} {_have(chordless)} no group of three notes within 300 ms: a model with a "
            "harmony channel skips such clips; others can use them."
        )
        yield Finding("warning", "no-chords", "Clips without chords", message, items=tuple(chordless))
    if gaps := list(_gaps(examined.clips)):
        message = (
            f"{_count(gaps, 'recording')} {_have(gaps)} clips numbered with gaps, so some were lost; import the data "
            "again, or go on with what is there."
        )
        yield Finding("warning", "gaps", "Clips missing from the middle", message, items=tuple(gaps))


def _gaps(clips: Sequence[ExaminedClip]) -> Iterator[str]:
    numbers: dict[str, set[int]] = defaultdict(set)
    for clip in clips:
        numbers[clip.track].add(int("".join(filter(str.isdigit, Path(clip.name).stem))))
    for track, present in numbers.items():
        if absent := sorted(set(range(max(present))) - present):
            yield f"{track}: no clip {', '.join(map(str, absent))}"


# --- one split -------------------------------------------------------------------------------------------------------


def broken_split(name: str, error: SplitError) -> Finding:
    """The finding about a split whose tables cannot be read."""
    message = f"{error}. Mend its tables, or make the split again."
    return Finding("error", "broken-split", "A split that cannot be read", message, split=name)


def about_split(root: DataRoot, split: Split, examined: Examined) -> Iterator[Finding]:
    """What is wrong with one split, or good to know about it."""
    made_by = split_options(root, split.name).get("by")
    yield from _missing(root, split)
    yield from _same_recordings(split)
    yield from _same_music(split, examined)
    yield from _shared_titles(split, examined, "album", promised=made_by == "album")
    yield from _shared_titles(split, examined, "composition", promised=made_by == "composition")
    yield from _absent_pianists(split)
    yield from _imbalance(split, examined)
    yield from _contradictions(split, examined)
    yield from _incomplete(split, examined)
    if split.validation_is_test:
        message = "The test part serves as validation too, so validation results are not independent of it."
        yield Finding("note", "no-validation", "No validation part", message, split.name)


def _missing(root: DataRoot, split: Split) -> Iterator[Finding]:
    missing = [f"{part}: {track}" for part, entries in split.parts.items() for track in missing_clips(root, entries)]
    if missing:
        message = (
            f"{_count(missing, 'recording')} in the split {_have(missing)} no clips, so training will not start; "
            "import them, or make another split."
        )
        yield Finding("error", "missing", "Recordings without clips", message, split.name, tuple(missing))


def _same_recordings(split: Split) -> Iterator[Finding]:
    parts: dict[str, list[str]] = defaultdict(list)
    for part, entries in split.parts.items():
        for entry in entries:
            parts[entry.track].append(part)
    leaked = [f"{track}: {' and '.join(names)}" for track, names in parts.items() if len(names) > 1]
    if leaked:
        message = (
            f"{_count(leaked, 'recording')} {_are(leaked)} in more than one part, so a network is tested on what "
            "it was trained on; keep each in one part."
        )
        yield Finding("error", "same-recording", "The same recording in two parts", message, split.name, tuple(leaked))


def _same_music(split: Split, examined: Examined) -> Iterator[Finding]:
    part_of = _part_of(split)
    leaked = [likeness for likeness in examined.likenesses if _leaks(likeness, part_of, examined)]
    if leaked:
        pairs = {examined.tracks(likeness) for likeness in leaked}
        items = []
        for likeness in leaked:
            first, second = (examined.clips[index] for index in (likeness.a, likeness.b))
            parts = f"{part_of[first.track]}: {first.name} = {part_of[second.track]}: {second.name}"
            items.append(f"{parts} ({_described(likeness)})")
        message = (
            f"{_count(leaked, 'pair')} of clips, from {_count(pairs, 'pair')} of recordings, {_are(leaked)} nearly the "
            "same, note for note, in different parts; delete one recording of each pair, or put both into one part."
        )
        yield Finding("error", "same-music", "The same music in two parts", message, split.name, tuple(items))


def _leaks(likeness: Likeness, part_of: Mapping[str, str], examined: Examined) -> bool:
    parts = {part_of.get(track) for track in examined.tracks(likeness)}
    return len(parts) == 2 and None not in parts


def _shared_titles(split: Split, examined: Examined, by: str, *, promised: bool) -> Iterator[Finding]:
    """Albums or compositions in two parts: an error where the split was made to keep them apart, else a note."""
    titles: dict[str, Counter[str]] = defaultdict(Counter)
    untitled = total = 0
    for part, entries in split.parts.items():
        for entry in entries:
            info = examined.known.get(entry.track)
            total += part != "train"
            if info is None or not getattr(info, by):
                untitled += 1
            else:
                titles[group_name(info, by)][part] += 1
    shared = {title: counts for title, counts in sorted(titles.items()) if len(counts) > 1}
    if shared:
        held_out = sum(count for counts in shared.values() for part, count in counts.items() if part != "train")
        advice = (
            f"the split was made by {by} and no longer keeps them apart: make it again."
            if promised
            else f"results may owe something to the {by}, and a split by {by} shows how much."
        )
        message = (
            f"{_count(shared, by)} {_are(shared)} in more than one part ({held_out} of {total} recordings outside "
            f"train belong to one); {advice}"
        )
        items = [
            f"{title}: {', '.join(f'{n} {part}' for part, n in counts.items())}" for title, counts in shared.items()
        ]
        severity = "error" if promised else "note"
        yield Finding(severity, f"shared-{by}", f"{by.capitalize()}s in two parts", message, split.name, tuple(items))
    if untitled:
        which = f"{untitled:,} recordings" if titles else "any recording"
        message = (
            f"Nothing says the {by} of {which}, so that was not checked; a table of recordings with {by}s would tell."
        )
        yield Finding("note", f"unknown-{by}", f"{by.capitalize()}s not checked", message, split.name)


def _absent_pianists(split: Split) -> Iterator[Finding]:
    present = {part: {split.class_names[entry.pianist] for entry in entries} for part, entries in split.parts.items()}
    trained = present.get("train", set())
    untrained = sorted(set().union(*present.values()) - trained)
    if untrained:
        message = f"{_count(untrained, 'pianist')} {_are(untrained)} tested but never trained; make the split again."
        yield Finding("error", "untrained", "Pianists without training data", message, split.name, tuple(untrained))
    untested = [f"{name}: no {part}" for name in sorted(trained) for part in present if name not in present[part]]
    if untested:
        message = (
            "Results say nothing about pianists who are trained but not tested; give the split more of their "
            "recordings, or leave them out."
        )
        yield Finding("warning", "untested", "Pianists missing in a part", message, split.name, tuple(untested))


def _imbalance(split: Split, examined: Examined) -> Iterator[Finding]:
    trained: Counter[str] = Counter()
    for entry in split.parts.get("train", ()):
        trained[split.class_names[entry.pianist]] += examined.clips_of[entry.track]
    sizes = sorted((count, name) for name, count in trained.items() if count)
    if not sizes or sizes[-1][0] <= _IMBALANCE * sizes[0][0]:
        return
    (least, smallest), (most, largest) = sizes[0], sizes[-1]
    message = (
        f"{largest} has {most / least:.0f} times as many training clips ({most}) as {smallest} ({least}): look at each "
        "pianist's accuracy, not only at the mean, or leave out pianists with little music."
    )
    yield Finding("warning", "imbalance", "Pianists of very different size", message, split.name)


def _contradictions(split: Split, examined: Examined) -> Iterator[Finding]:
    contradicted = []
    for entries in split.parts.values():
        for entry in entries:
            named, info = split.class_names[entry.pianist], examined.known.get(entry.track)
            if info is not None and info.pianist not in ("", named):
                contradicted.append(f"{entry.track}: {named} in the split, {info.pianist} on record")
    if contradicted:
        message = (
            f"{_count(contradicted, 'recording')} {_have(contradicted)} another pianist in the split than on record; "
            "find out who plays."
        )
        yield Finding(
            "warning", "other-pianist", "Pianists that contradict the records", message, split.name, tuple(contradicted)
        )


def _incomplete(split: Split, examined: Examined) -> Iterator[Finding]:
    expected = {
        entry.track: int(entry.duration_s // CLIP_LENGTH_S) for entries in split.parts.values() for entry in entries
    }
    here = {track: min(examined.clips_of[track], number) for track, number in expected.items()}
    fewer = [f"{track}: {here[track]} of {number}" for track, number in expected.items() if 0 < here[track] < number]
    if fewer:
        message = (
            f"{_count(fewer, 'recording')} {_have(fewer)} fewer clips than their length gives: {sum(here.values()):,} "
            f"of {sum(expected.values()):,} clips of the split are here."
        )
        yield Finding("note", "incomplete", "Recordings that are not here in full", message, split.name, tuple(fewer))


# --- the data root ---------------------------------------------------------------------------------------------------


def about_root(examined: Examined, splits: Sequence[Split]) -> Iterator[Finding]:
    """What concerns no single split: repeats that do not leak (yet), recordings that nothing uses."""
    parts_of = [_part_of(split) for split in splits]
    pairs: dict[tuple[str, str], list[Likeness]] = defaultdict(list)
    for likeness in examined.likenesses:
        if not any(_leaks(likeness, part_of, examined) for part_of in parts_of):
            pairs[examined.tracks(likeness)].append(likeness)
    if pairs:
        items = [
            f"{a} = {b} ({_count(same, 'clip')}; {_described(max(same, key=lambda one: one.overlay.similarity))})"
            for (a, b), same in pairs.items()
        ]
        message = (
            f"{_count(pairs, 'pair')} of recordings {_have(pairs)} clips that are nearly the same, note for note. They "
            "are not in different parts, so nothing leaks; a new split might part them."
        )
        yield Finding("note", "repeats", "The same music under two names", message, items=tuple(items))
    unused = sorted(set(examined.clips_of).difference(*parts_of)) if splits else []
    if unused:
        message = f"{_count(unused, 'recording')} {_are(unused)} in no split, so nothing uses them."
        yield Finding("note", "unused", "Recordings in no split", message, items=tuple(unused))


def _part_of(split: Split) -> dict[str, str]:
    return {entry.track: part for part, entries in split.parts.items() for entry in entries}


def _described(likeness: Likeness) -> str:
    """What is alike, for a person: "97 % of notes", "96 % of notes, 3 semitones higher, 1.2 s later"."""
    overlay = likeness.overlay
    words = [f"{100 * overlay.similarity:.0f} % of notes"]
    if overlay.semitones:
        words.append(f"{abs(overlay.semitones)} semitones {'higher' if overlay.semitones > 0 else 'lower'}")
    if abs(overlay.stretch - 1) > 0.005:
        words.append(f"{overlay.stretch:.2f} times as long")
    if abs(overlay.shift_s) >= 0.1:
        words.append(f"{abs(overlay.shift_s):.1f} s {'later' if overlay.shift_s > 0 else 'earlier'}")
    return ", ".join(words)


def _count(things: Sized, noun: str) -> str:
    return f"{len(things):,} {noun}{'' if len(things) == 1 else 's'}"


def _are(things: Sized) -> str:
    return "is" if len(things) == 1 else "are"


def _have(things: Sized) -> str:
    return "has" if len(things) == 1 else "have"
