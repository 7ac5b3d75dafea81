"""Whole performances from anywhere: who plays each file, what to call it, and its clips.

Two ways to say who plays: a folder for each pianist (files at any depth below it), or a CSV with the columns `file` and
`pianist`. A performance becomes the recording `<pianist>-<title>-<8 hex digits>`, where the digits are of the file's
path: they keep apart files that read alike, and are the same at the next import. The original names stay in
metadata.json, as text.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path, PurePosixPath

from pianistid_core.datasets.archives import MIDI_SUFFIXES, Skipped, Source
from pianistid_core.datasets.root import RecordingInfo
from pianistid_core.datasets.staging import Staged, Staging
from pianistid_core.datasets.tables import TableError, rows
from pianistid_core.datasets.workers import shared_out
from pianistid_core.errors import ImportSourceError, MidiError
from pianistid_core.midi import DEFAULT_LIMITS, read_midi, split_into_clips, write_midi

__all__ = [
    "MAX_MIDI_BYTES",
    "CutPerformance",
    "Performance",
    "PerformanceImport",
    "cut",
    "in_folders",
    "in_table",
    "slug",
]

MAX_MIDI_BYTES = DEFAULT_LIMITS.max_bytes

_FILE_COLUMNS = ("file", "path", "filename", "midi", "midi_file", "midi_filename")
_PIANIST_COLUMNS = ("pianist", "performer", "artist")
_FACT_COLUMNS = ("album", "composition", "setting", "title")


@dataclass(frozen=True)
class Performance:
    """A file with one whole performance: where it is, what is known about it, and what it is to be called.

    `path` is `file` without a folder that wraps all others, so that a zip and the folder it was made of give the same.
    """

    file: str
    pianist: str
    source_name: str
    path: str = ""
    recording: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def track(self) -> str:
        """The recording's name in the data root."""
        return f"{self.source_name}/{self.recording}"

    def info(self, duration_s: float) -> RecordingInfo:
        """The recording's row in references/recordings.csv."""
        facts = self.facts
        return RecordingInfo(
            self.track,
            self.pianist,
            facts.get("album"),
            facts.get("composition") or facts.get("title"),
            facts.get("setting"),
            duration_s,
        )

    def metadata(self, duration_s: float) -> bytes:
        """The recording's metadata.json."""
        facts = {"pianist": self.pianist, **self.facts, "duration_s": duration_s, "original_file": self.path}
        return json.dumps(facts, ensure_ascii=False, indent=2).encode("utf-8", "replace")


@dataclass(frozen=True)
class CutPerformance:
    """A performance's length and clips as MIDI files; a clip without notes is None. Or why it cannot be read."""

    duration_s: float = 0.0
    clips: tuple[bytes | None, ...] = ()
    problem: str = ""


class PerformanceImport:
    """Stages whole performances and their clips; `read(file, max_bytes)` gives a file's bytes."""

    def __init__(
        self,
        performances: Sequence[Performance],
        skipped: Sequence[Skipped],
        read: Callable[[str, int], bytes],
        workers: int = 1,
        n_ignored: int = 0,
    ) -> None:
        self._performances = performances
        self._staged = Staged(list(skipped), n_ignored)
        self._read = read
        self._workers = workers
        self._unread: dict[str, str] = {}

    def stage(self, staging: Staging, progress: Callable[[int, int], None]) -> Staged:
        """Stages everything. Raises: ArchiveError, DataRootError."""
        results = shared_out(cut, self._contents(), self._workers)
        for number, (performance, (data, result)) in enumerate(zip(self._performances, results, strict=True), 1):
            if problem := self._unread.get(performance.file) or result.problem:
                self._staged.skipped.append(Skipped(performance.file, problem))
            else:
                self._stage_one(staging, performance, data, result)
            progress(number, len(self._performances))
        return self._staged

    def _contents(self) -> Iterator[bytes]:
        for performance in self._performances:
            try:
                yield self._read(performance.file, MAX_MIDI_BYTES)
            except ImportSourceError as error:
                self._unread[performance.file] = str(error)
                yield b""

    def _stage_one(self, staging: Staging, performance: Performance, data: bytes, result: CutPerformance) -> None:
        raw, clips = f"data/raw/{performance.track}", f"data/clips/{performance.track}"
        staging.put(raw, "piano_midi.mid", data)
        staging.put(raw, "metadata.json", performance.metadata(result.duration_s))
        for number, clip in enumerate(result.clips):
            if clip is not None:
                staging.put(clips, f"clip_{number:03}.mid", clip)
        silent = result.clips.count(None)
        if silent:
            reason = f"{silent} of its {len(result.clips)} clips hold no note; the others are imported"
            self._staged.skipped.append(Skipped(performance.file, reason))
        self._staged.n_clips += len(result.clips) - silent
        self._staged.tracks.add(performance.track)
        self._staged.infos.append(performance.info(result.duration_s))


def in_folders(source: Source, source_name: str) -> tuple[list[Performance], list[Skipped]]:
    """The MIDI files below one folder for each pianist.

    The only folder is taken for a wrapping when it has several folders and no MIDI files directly in it.
    """
    files = [name for name in source.names if PurePosixPath(name).suffix.lower() in MIDI_SUFFIXES]
    wrapping = _wrapping(files)
    found: list[Performance] = []
    skipped: list[Skipped] = []
    for file in files:
        folder, slash, _ = file.removeprefix(wrapping).partition("/")
        pianist = _as_text(folder)
        if not slash or not pianist:
            skipped.append(Skipped(file, "not in the folder of a pianist, so nobody is said to play it"))
        else:
            found.append(Performance(file, pianist, source_name))
    return _named(found, wrapping), skipped


def in_table(table: Path, source_name: str) -> tuple[list[Performance], list[Skipped]]:
    """The files that a CSV assigns to pianists; paths are relative to the CSV.

    Raises: ImportSourceError when the CSV cannot be read or lacks a column.
    """
    found: dict[str, Performance] = {}
    skipped: list[Skipped] = []
    try:
        for line, row in rows(table, one_of=(_FILE_COLUMNS, _PIANIST_COLUMNS)):
            columns = {name.lower(): value for name, value in row.items() if value}
            file, pianist = _first(columns, _FILE_COLUMNS), _as_text(_first(columns, _PIANIST_COLUMNS))
            if not file or not pianist:
                skipped.append(Skipped(file or f"line {line}", f"line {line} names no {'pianist' if file else 'file'}"))
            elif file in found:
                skipped.append(Skipped(file, f"line {line} lists it again"))
            else:
                facts = {name: columns[name] for name in _FACT_COLUMNS if name in columns}
                own_source = slug(columns["source"], 60) if "source" in columns else source_name
                found[file] = Performance(file, pianist, own_source, facts=facts)
    except TableError as error:
        raise ImportSourceError(f"{table.name}: {error}") from error
    return _named(found.values(), ""), skipped


def slug(text: str, longest: int) -> str:
    """Lower-case ASCII letters and digits with single hyphens: at least one character, at most `longest`."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_text).strip("-")[:longest].strip("-") or "x"


def cut(data: bytes) -> CutPerformance:
    """Reads a performance and cuts it into clips, each a MIDI file."""
    if len(data) > MAX_MIDI_BYTES:
        return CutPerformance(problem=f"larger than {MAX_MIDI_BYTES / 1e6:g} MB, more than any performance needs")
    try:
        notes = read_midi(data)
    except MidiError as error:
        return CutPerformance(problem=str(error))
    clips = tuple(write_midi(clip) if len(clip) else None for clip in split_into_clips(notes))
    return CutPerformance(notes.duration_s, clips)


def _wrapping(files: Sequence[str]) -> str:
    tops = {file.partition("/")[0] for file in files}
    below = [file.split("/")[1:] for file in files]
    pianists = {parts[0] for parts in below if len(parts) > 1}
    if len(tops) == 1 and len(pianists) > 1 and all(len(parts) > 1 for parts in below):
        return f"{tops.pop()}/"
    return ""


def _named(performances: Iterable[Performance], wrapping: str) -> list[Performance]:
    taken: set[str] = set()
    named: list[Performance] = []
    for performance in performances:
        original = performance.file.removeprefix(wrapping)
        path = PurePosixPath(unicodedata.normalize("NFC", original))
        readable = f"{slug(performance.pianist, 40)}-{slug(path.stem, 80)}"
        names = (f"{readable}-{_hex_digits(path, attempt)}" for attempt in count())
        recording = next(name for name in names if name not in taken)
        taken.add(recording)
        named.append(replace(performance, path=original, recording=recording))
    return named


def _hex_digits(path: PurePosixPath, attempt: int) -> str:
    text = f"{path}\0{attempt}" if attempt else str(path)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _first(columns: Mapping[str, str], names: Sequence[str]) -> str:
    return next((columns[name] for name in names if name in columns), "")


def _as_text(name: str) -> str:
    """A name as text: composed, without control and direction signs, single spaces, not endless."""
    printable = "".join(" " if unicodedata.category(c)[0] == "C" else c for c in unicodedata.normalize("NFC", name))
    return " ".join(printable.split())[:200]
