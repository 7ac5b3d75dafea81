"""Makes splits: which recordings train, test and validate, so that nothing that must stay apart comes together.

Recordings are grouped (each alone, or by album, or by composition) and groups are never divided. Titles are compared
without case, accents, punctuation or a "(take 2)"; an album counts as one group whoever plays on it; a recording
without an album or composition is a group of its own.

How groups are dealt out to parts stands in `dealing`. The same recordings, options and seed give the same files, byte
for byte, in whatever order the file system lists them.
"""

import difflib
import json
import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pianistid_core.datasets.dealing import Group, deal
from pianistid_core.datasets.root import (
    PARTS,
    DataRoot,
    RecordingInfo,
    Split,
    SplitEntry,
    read_recordings_file,
    write_split,
)
from pianistid_core.datasets.tables import listed
from pianistid_core.errors import SplitError
from pianistid_core.midi import CLIP_LENGTH_S
from pianistid_core.names import folder_name_problem
from pianistid_core.strict_json import parse_json

__all__ = [
    "DEFAULT_RATIOS",
    "GROUPINGS",
    "LeftOut",
    "PianistShare",
    "SplitPlan",
    "described_recordings",
    "group_name",
    "make_split",
    "plan_split",
    "preview_split",
    "split_options",
]

GROUPINGS = ("recording", "album", "composition")
DEFAULT_RATIOS = (0.8, 0.1, 0.1)

_OPTIONS_FILE = "split_options.json"
_LOPSIDED = 0.15


@dataclass(frozen=True)
class PianistShare:
    """One pianist's recordings and minutes in each part of a split."""

    pianist: str
    recordings: Mapping[str, int]
    minutes: Mapping[str, float]


@dataclass(frozen=True)
class LeftOut:
    """A pianist who is not in a split, and why."""

    pianist: str
    minutes: float
    reason: str


@dataclass(frozen=True)
class SplitPlan:
    """A split, written or not, with what a person wants to know about it."""

    split: Split
    by: str
    ratios: Mapping[str, float]
    seed: int
    shares: tuple[PianistShare, ...]
    left_out: tuple[LeftOut, ...]
    warnings: tuple[str, ...]

    @property
    def hours(self) -> dict[str, float]:
        """Hours of music in each part."""
        return {part: sum(entry.duration_s for entry in entries) / 3600 for part, entries in self.split.parts.items()}

    def to_dict(self) -> dict[str, Any]:
        """Everything but the list of recordings, as plain JSON."""
        return {
            "name": self.split.name,
            "by": self.by,
            "ratios": dict(self.ratios),
            "seed": self.seed,
            "hours": self.hours,
            "recordings": {part: len(entries) for part, entries in self.split.parts.items()},
            "pianists": [asdict(share) for share in self.shares],
            "left_out": [asdict(left_out) for left_out in self.left_out],
            "warnings": list(self.warnings),
        }


def make_split(
    root: DataRoot,
    name: str,
    *,
    by: str = "recording",
    ratios: Sequence[float] = DEFAULT_RATIOS,
    minimum_minutes: float = 0.0,
    pianists: Sequence[str] | None = None,
    sources: Sequence[str] | None = None,
    seed: int = 42,
    metadata: Path | None = None,
    overwrite: bool = False,
) -> SplitPlan:
    """Makes a split of the clips in a data root and writes it; `preview_split` says what each argument means.

    Raises
    ------
    SplitError
        As `preview_split`; or when the split exists and `overwrite` is false.
    DataRootError
        When the data root cannot be written.
    """
    plan = preview_split(
        root,
        name,
        by=by,
        ratios=ratios,
        minimum_minutes=minimum_minutes,
        pianists=pianists,
        sources=sources,
        seed=seed,
        metadata=metadata,
    )
    options = {
        "by": by,
        "ratios": list(ratios),
        "minimum_minutes": minimum_minutes,
        "seed": seed,
        "left_out": [asdict(left_out) for left_out in plan.left_out],
    }
    beside = {_OPTIONS_FILE: (json.dumps(options, indent=1) + "\n").encode()}
    write_split(root, plan.split, overwrite=overwrite, beside=beside)
    return plan


def preview_split(
    root: DataRoot,
    name: str,
    *,
    by: str = "recording",
    ratios: Sequence[float] = DEFAULT_RATIOS,
    minimum_minutes: float = 0.0,
    pianists: Sequence[str] | None = None,
    sources: Sequence[str] | None = None,
    seed: int = 42,
    metadata: Path | None = None,
) -> SplitPlan:
    """Plans a split of the clips in a data root without writing anything.

    Parameters
    ----------
    by
        What must not be in two parts: each "recording", each "album" or each "composition".
    ratios
        Shares of train, test and validation, which sum to 1; with 0 for validation there is none.
    minimum_minutes
        Pianists with less music are left out, and named in `left_out`.
    pianists, sources
        Only these pianists, only clips of these sources (the folders of data/clips); all by default.
    metadata
        A table like references/recordings.csv whose facts go before those of the data root.

    Raises
    ------
    SplitError
        When an argument is out of range, a pianist or source is unknown, or nothing remains to be split.
    DataRootError
        When `metadata` cannot be read.
    """
    recordings = described_recordings(root, metadata)
    if sources is not None:
        known = sorted({info.track.partition("/")[0] for info in recordings})
        for source in sources:
            if source not in known:
                raise SplitError(f"no source {source!r} in {root.clips_dir}; there is {listed(known) or 'none'}")
        recordings = [info for info in recordings if info.track.partition("/")[0] in set(sources)]
    if not recordings:
        raise SplitError(f"there are no clips in {root.clips_dir} to split; import some, or make the demo data")
    return plan_split(
        recordings, name, by=by, ratios=ratios, minimum_minutes=minimum_minutes, pianists=pianists, seed=seed
    )


def plan_split(
    recordings: Iterable[RecordingInfo],
    name: str,
    *,
    by: str = "recording",
    ratios: Sequence[float] = DEFAULT_RATIOS,
    minimum_minutes: float = 0.0,
    pianists: Sequence[str] | None = None,
    seed: int = 42,
) -> SplitPlan:
    """Plans a split of described recordings; touches no file.

    Raises
    ------
    SplitError
        As `preview_split`.
    """
    shares = _checked_options(name, by, ratios, minimum_minutes, seed)
    usable, unnamed = _named(sorted(recordings, key=lambda info: info.track))
    chosen, left_out = _chosen(usable, pianists, minimum_minutes)
    class_names = tuple(sorted({info.pianist for info in chosen}))
    if len(class_names) < 2:
        raise SplitError(
            f"{len(class_names)} pianist{'' if len(class_names) == 1 else 's'} with at least {minimum_minutes:g} "
            "minutes of music cannot be told apart; a split needs two or more"
        )
    groups = _grouped(chosen, by)
    part_of = deal(groups, class_names, shares, seed)
    parts = _entries(chosen, groups, part_of, class_names, shares)
    split = Split(name, class_names, parts)
    warnings = [*unnamed, *_absences(split, groups, by), *_lopsided(split, shares, by), *_ungrouped(chosen, by)]
    if empty := [part for part, entries in parts.items() if not entries]:
        raise SplitError(
            f"the {listed(empty)} part would be empty: {len(groups)} groups by {by} are too few for {len(parts)} parts"
        )
    return SplitPlan(split, by, shares, seed, _shares(split), tuple(left_out), tuple(warnings))


def described_recordings(root: DataRoot, metadata: Path | None = None) -> list[RecordingInfo]:
    """Every recording that has clips, with what is known about it and its length; sorted by track.

    Where no length is known, it is 30 s a clip. The facts of `metadata` go before those of the data root.

    Raises
    ------
    DataRootError
        When `metadata` or the root's own table cannot be read.
    """
    known = root.recordings()
    for info in read_recordings_file(metadata) if metadata is not None else []:
        facts = {key: value for key, value in asdict(info).items() if value}
        known[info.track] = replace(known[info.track], **facts) if info.track in known else info
    described = []
    for track in root.tracks():
        n_clips = len(root.clip_paths(track))
        if n_clips:
            info = known.get(track, RecordingInfo(track, ""))
            described.append(info if info.duration_s else replace(info, duration_s=CLIP_LENGTH_S * n_clips))
    return described


def split_options(root: DataRoot, name: str) -> dict[str, Any]:
    """The options that a split was made with; empty for a split that came from elsewhere."""
    try:
        options = parse_json((root.splits_dir / name / _OPTIONS_FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return options if isinstance(options, dict) else {}


def group_name(info: RecordingInfo, by: str) -> str:
    """What a recording is grouped under: its normalised album or composition, or its track where it has none."""
    title = _normalised({"album": info.album, "composition": info.composition}.get(by) or "")
    return title or f"track {info.track}"


# --- steps -----------------------------------------------------------------------------------------------------------


def _checked_options(
    name: str, by: str, ratios: Sequence[float], minimum_minutes: float, seed: int
) -> dict[str, float]:
    """The parts that the split will have, with their shares."""
    if problem := folder_name_problem(name):
        raise SplitError(f"a split cannot be called {name!r}: {problem}")
    if by not in GROUPINGS:
        raise SplitError(f"a split can be made by {', '.join(GROUPINGS[:-1])} or {GROUPINGS[-1]}, not by {by!r}")
    numbers = [float(ratio) for ratio in ratios]
    if len(numbers) != len(PARTS) or not all(math.isfinite(ratio) for ratio in numbers):
        raise SplitError(f"ratios are three numbers for {', '.join(PARTS)}, such as 0.8 0.1 0.1, not {list(ratios)}")
    if min(numbers) < 0 or min(numbers[:2]) == 0 or abs(sum(numbers) - 1) > 1e-6:
        raise SplitError(
            f"ratios {numbers} sum to {sum(numbers):g}; they must sum to 1, with train and test above 0 and "
            "validation at least 0"
        )
    if not math.isfinite(minimum_minutes) or minimum_minutes < 0:
        raise SplitError(f"the least minutes a pianist must have cannot be {minimum_minutes}; give 0 or more")
    if seed < 0:
        raise SplitError(f"the seed must be 0 or more, not {seed}")
    return {part: ratio for part, ratio in zip(PARTS, numbers, strict=True) if ratio > 0}


def _named(recordings: Sequence[RecordingInfo]) -> tuple[list[RecordingInfo], list[str]]:
    named = [info for info in recordings if info.pianist]
    unnamed = [info.track for info in recordings if not info.pianist]
    if not unnamed:
        return named, []
    more = ", ..." if len(unnamed) > 3 else ""
    return named, [
        f"{len(unnamed)} recordings are left out because nothing says who plays ({', '.join(unnamed[:3])}{more}); "
        "name their pianists in references/recordings.csv"
    ]


def _chosen(
    recordings: Sequence[RecordingInfo], pianists: Sequence[str] | None, minimum_minutes: float
) -> tuple[list[RecordingInfo], list[LeftOut]]:
    minutes: dict[str, float] = defaultdict(float)
    for info in recordings:
        minutes[info.pianist] += (info.duration_s or 0.0) / 60
    for name in pianists or ():
        if name not in minutes:
            close = difflib.get_close_matches(name, minutes, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there is {listed(sorted(minutes)) or 'none'}"
            raise SplitError(f"no pianist {name!r} among the recordings; {hint}")
    wanted = set(minutes if pianists is None else pianists)
    left_out = [
        LeftOut(name, minutes[name], f"{minutes[name]:.1f} minutes of music, fewer than {minimum_minutes:g}")
        for name in sorted(wanted)
        if minutes[name] < minimum_minutes
    ]
    kept = wanted - {left.pianist for left in left_out}
    return [info for info in recordings if info.pianist in kept], left_out


def _grouped(recordings: Sequence[RecordingInfo], by: str) -> list[Group]:
    classes = {name: index for index, name in enumerate(sorted({info.pianist for info in recordings}))}
    members: dict[str, list[RecordingInfo]] = defaultdict(list)
    for info in recordings:
        members[group_name(info, by)].append(info)
    groups = []
    for name in sorted(members):
        seconds: dict[int, float] = defaultdict(float)
        for info in members[name]:
            seconds[classes[info.pianist]] += info.duration_s or 0.0
        groups.append(Group(name, tuple(info.track for info in members[name]), dict(seconds)))
    return groups


def _entries(
    recordings: Sequence[RecordingInfo],
    groups: Sequence[Group],
    part_of: Mapping[str, str],
    class_names: Sequence[str],
    shares: Mapping[str, float],
) -> dict[str, tuple[SplitEntry, ...]]:
    part_of_track = {track: part_of[group.name] for group in groups for track in group.tracks}
    parts: dict[str, list[SplitEntry]] = {part: [] for part in shares}
    for info in recordings:
        entry = SplitEntry(info.track, class_names.index(info.pianist), float(info.duration_s or 0.0))
        parts[part_of_track[info.track]].append(entry)
    return {part: tuple(entries) for part, entries in parts.items()}


def _absences(split: Split, groups: Sequence[Group], by: str) -> list[str]:
    warnings = []
    for index, name in enumerate(split.class_names):
        missing = [
            part for part, entries in split.parts.items() if not any(entry.pianist == index for entry in entries)
        ]
        if missing:
            n_groups = sum(index in group.seconds for group in groups)
            warnings.append(
                f"{name} has no {' and no '.join(missing)} recording: {n_groups} group{'' if n_groups == 1 else 's'} "
                f"by {by} cannot fill {len(split.parts)} parts; add recordings or leave this pianist out"
            )
    return warnings


def _lopsided(split: Split, shares: Mapping[str, float], by: str) -> list[str]:
    warnings = []
    for share in _shares(split):
        total = max(sum(share.minutes.values()), 1e-9)
        part = max(shares, key=lambda part: abs(share.minutes[part] / total - shares[part]))
        got = share.minutes[part] / total
        if all(share.recordings.values()) and abs(got - shares[part]) > _LOPSIDED:
            warnings.append(
                f"{share.pianist} has {got:.0%} of the music in {part} where {shares[part]:.0%} were asked for: "
                f"the groups by {by} are too large to come nearer"
            )
    return warnings


def _ungrouped(recordings: Sequence[RecordingInfo], by: str) -> list[str]:
    alone = sum(group_name(info, by) == f"track {info.track}" for info in recordings) if by != "recording" else 0
    if not alone:
        return []
    if alone == len(recordings):
        raise SplitError(
            f"nothing says the {by} of any recording, so a split by {by} is not possible; "
            f"a table of recordings with {by}s would tell, and a split by recording needs none"
        )
    return [f"{alone} of {len(recordings)} recordings have no {by} on record; each was treated as a group of its own"]


def _shares(split: Split) -> tuple[PianistShare, ...]:
    rows = []
    for index, name in enumerate(split.class_names):
        own = {part: [e for e in entries if e.pianist == index] for part, entries in split.parts.items()}
        rows.append(
            PianistShare(
                name,
                {part: len(entries) for part, entries in own.items()},
                {part: sum(entry.duration_s for entry in entries) / 60 for part, entries in own.items()},
            )
        )
    return tuple(rows)


def _normalised(title: str) -> str:
    """A title without what differs between labels: case, accents, punctuation, "(take 2)", "[live]"."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", title) if not unicodedata.combining(c)).casefold()
    without_take = re.sub(r"[(\[][^)\]]*\b(take|alternate|live|remaster\w*|mono|stereo)\b[^)\]]*[)\]]", " ", plain)
    return " ".join(re.findall(r"\w+", without_take)) or " ".join(re.findall(r"\w+", plain))
