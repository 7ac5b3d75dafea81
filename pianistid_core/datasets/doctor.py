"""The doctor: what is in a data set, and what is wrong with it.

Every clip is read once, and every step is linear in the number of clips. Hours are those of clips, 30 s each. What is
looked for, and how grave it is, stands in `findings`.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pianistid_core.bulk_midi import BulkReading, read_many_files
from pianistid_core.concepts import PAPER_EXTRACTORS, harmony
from pianistid_core.datasets.duplicates import Likeness, clip_print, find_duplicates
from pianistid_core.datasets.findings import (
    SEVERITIES,
    Examined,
    ExaminedClip,
    Finding,
    about_clips,
    about_root,
    about_split,
    broken_split,
)
from pianistid_core.datasets.root import DataRoot, Split
from pianistid_core.datasets.splitting import described_recordings
from pianistid_core.datasets.workers import shared_out
from pianistid_core.errors import DataRootError, ExtractionError, MidiError, SplitError
from pianistid_core.midi import CLIP_LENGTH_S
from pianistid_core.rolls import heard_notes

__all__ = ["SEVERITIES", "Finding", "PartSummary", "PianistRow", "Report", "check"]

_FILES_PER_TASK = 512


@dataclass(frozen=True)
class PianistRow:
    """What one pianist has in one part of a split; in no part, when there is no split."""

    split: str | None
    part: str | None
    pianist: str
    recordings: int
    clips: int
    hours: float


@dataclass(frozen=True)
class PartSummary:
    """One part of a split as a whole; `baseline` is the share of recordings by its commonest pianist."""

    split: str | None
    part: str | None
    pianists: int
    recordings: int
    clips: int
    hours: float
    baseline: float


@dataclass(frozen=True)
class Report:
    """The doctor's report: findings, gravest first, and the tables."""

    root: str
    splits: tuple[str, ...]
    findings: tuple[Finding, ...]
    parts: tuple[PartSummary, ...]
    rows: tuple[PianistRow, ...]

    @property
    def healthy(self) -> bool:
        """Whether there is no error."""
        return not self.by_severity("error")

    def by_severity(self, severity: str) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON."""
        return {
            "root": self.root,
            "splits": list(self.splits),
            "healthy": self.healthy,
            "counts": {severity: len(self.by_severity(severity)) for severity in SEVERITIES},
            "findings": [{**asdict(finding), "items": list(finding.items)} for finding in self.findings],
            "parts": [asdict(part) for part in self.parts],
            "rows": [asdict(row) for row in self.rows],
        }


def check(
    root: DataRoot,
    split_name: str | None = None,
    *,
    metadata: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 1,
) -> Report:
    """Examines the clips of one split, or all clips and every split of a data root.

    `metadata` is a table like references/recordings.csv, for albums and compositions that the root does not know.
    `progress` hears (done, total) clips. With more than one of `workers`, clips are read and compared in as many
    processes.

    Raises
    ------
    SplitError
        When there is no split of that name.
    DataRootError
        When there is nothing to check, or a table of recordings or a folder cannot be read.
    """
    splits, findings = _splits(root, split_name)
    tracks = root.tracks() if split_name is None else _tracks(splits)
    if not (tracks or splits or findings):
        raise DataRootError(
            f"there is nothing to check in {root.path}: it has no clips and no splits; bring music in with "
            "`pianistid data import`, or choose another with --data-root"
        )
    clips = _read(root, tracks, progress, workers)
    known = {info.track: info for info in described_recordings(root, metadata)}
    examined = Examined(clips, _likenesses(clips, workers), known)
    findings += about_clips(examined)
    for split in splits:
        findings += about_split(root, split, examined)
    findings += about_root(examined, splits)
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    rows = _rows(splits, examined)
    return Report(str(root.path), tuple(split.name for split in splits), tuple(findings), _parts(rows), rows)


def _splits(root: DataRoot, split_name: str | None) -> tuple[list[Split], list[Finding]]:
    """The splits to check; those of the root that cannot be read become findings."""
    if split_name is not None and split_name not in root.split_names():
        return [root.split(split_name)], []
    splits, findings = [], []
    for name in root.split_names() if split_name is None else [split_name]:
        try:
            splits.append(root.split(name))
        except SplitError as error:
            findings.append(broken_split(name, error))
    return splits, findings


# --- reading clips ---------------------------------------------------------------------------------------------------


def _tracks(splits: Sequence[Split]) -> list[str]:
    return sorted({entry.track for split in splits for entries in split.parts.values() for entry in entries})


def _read(
    root: DataRoot, tracks: Iterable[str], progress: Callable[[int, int], None] | None, workers: int
) -> list[ExaminedClip]:
    jobs = [(track, path) for track in tracks for path in root.clip_paths(track)]
    tasks = [jobs[start : start + _FILES_PER_TASK] for start in range(0, len(jobs), _FILES_PER_TASK)]
    clips: list[ExaminedClip] = []
    for _, some in shared_out(_examine, tasks, min(workers, len(tasks))):
        clips += some
        if progress is not None:
            progress(len(clips), len(jobs))
    return clips


def _examine(jobs: Sequence[tuple[str, Path]]) -> list[ExaminedClip]:
    reading = read_many_files([path for _, path in jobs])
    return [_examine_clip(f"{track}/{path.name}", track, reading, i) for i, (track, path) in enumerate(jobs)]


def _examine_clip(name: str, track: str, reading: BulkReading, i: int) -> ExaminedClip:
    try:
        notes = reading.notes(i)
    except MidiError as error:
        return ExaminedClip(name, track, None, "unreadable", str(error))
    # A network hears 30 s that begin within the first 30 s: two clips that are alike only later are not alike.
    heard, printed = heard_notes(notes), clip_print(notes.between(0.0, 2 * CLIP_LENGTH_S))
    if not len(heard):
        return ExaminedClip(name, track, printed, "empty", "nothing begins on the 88 keys in its first 30 s")
    try:
        harmony(heard, PAPER_EXTRACTORS.harmony)
    except ExtractionError as error:
        return ExaminedClip(name, track, printed, "no-chords", str(error))
    return ExaminedClip(name, track, printed)


def _likenesses(clips: Sequence[ExaminedClip], workers: int) -> list[Likeness]:
    """The clips of different recordings that hold the same music; indices are those of `clips`."""
    readable = [(index, clip.track, clip.printed) for index, clip in enumerate(clips) if clip.printed is not None]
    numbers: dict[str, int] = {}
    recordings = [numbers.setdefault(track, len(numbers)) for _, track, _ in readable]
    found = find_duplicates([printed for _, _, printed in readable], recordings, workers=workers)
    return [Likeness(readable[a][0], readable[b][0], overlay) for a, b, overlay in found]


# --- tables ----------------------------------------------------------------------------------------------------------


def _rows(splits: Sequence[Split], examined: Examined) -> tuple[PianistRow, ...]:
    groups: list[tuple[str | None, str | None, dict[str, str]]] = [
        (split.name, part, {entry.track: split.class_names[entry.pianist] for entry in entries})
        for split in splits
        for part, entries in split.parts.items()
    ]
    if not splits:
        pianists = {track: info.pianist for track, info in examined.known.items() if track in examined.clips_of}
        groups = [(None, None, {track: name or "unknown" for track, name in pianists.items()})]
    rows = []
    for split_name, part, named in groups:
        for pianist in sorted(set(named.values())):
            own = [track for track, name in named.items() if name == pianist]
            n_clips = sum(examined.clips_of[track] for track in own)
            rows.append(PianistRow(split_name, part, pianist, len(own), n_clips, n_clips * CLIP_LENGTH_S / 3600))
    return tuple(rows)


def _parts(rows: Sequence[PianistRow]) -> tuple[PartSummary, ...]:
    groups: dict[tuple[str | None, str | None], list[PianistRow]] = defaultdict(list)
    for row in rows:
        groups[row.split, row.part].append(row)
    return tuple(
        PartSummary(
            split,
            part,
            len(own),
            sum(row.recordings for row in own),
            sum(row.clips for row in own),
            sum(row.hours for row in own),
            max(row.recordings for row in own) / max(sum(row.recordings for row in own), 1),
        )
        for (split, part), own in groups.items()
    )
