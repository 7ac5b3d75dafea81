"""The archive's layout in somebody else's zip or folder: which file is what, and how it gets into a staging folder."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from pianistid_core.bulk_midi import read_many
from pianistid_core.datasets.archives import Skipped, Source
from pianistid_core.datasets.performances import MAX_MIDI_BYTES, CutPerformance, cut
from pianistid_core.datasets.root import Split, read_recordings_file
from pianistid_core.datasets.staging import Staged, Staging
from pianistid_core.datasets.workers import shared_out
from pianistid_core.errors import DataRootError, ImportSourceError, MidiError, SplitError
from pianistid_core.names import is_plain_name
from pianistid_core.strict_json import parse_json

__all__ = ["Layout", "LayoutImport", "find_layout"]

_MAX_TABLE_BYTES = 64 << 20
_MAX_JSON_BYTES = 1 << 20
_MAX_CHECKPOINT_BYTES = 4 << 30
_FILES_AT_ONCE, _BYTES_AT_ONCE = 512, 16 << 20

_File = tuple[str, tuple[str, ...]]  # a name, and the parts of its path that matter

# The layout may lie in a folder, or in a folder in a folder.
_OUTER = r"(?P<outer>(?:[^/]+/){0,2}?)"
_PATTERNS = {
    "clip": re.compile(_OUTER + r"data/clips/([^/]+)/([^/]+)/clip_(\d{1,6})\.midi?", re.IGNORECASE),
    "raw": re.compile(_OUTER + r"data/raw/([^/]+)/([^/]+)/(piano_midi\.mid|metadata\.json)"),
    "split": re.compile(
        _OUTER + r"references/data_splits/([^/]+)/((?:train|test|validation)_split\.csv|pianist_mapping\.csv)"
    ),
    "recordings": re.compile(_OUTER + r"references/(recordings\.csv)"),
    "checkpoint": re.compile(_OUTER + r"checkpoints/([^/]+)/([^/]+)/(checkpoint_\d{1,6}\.pth)"),
}


@dataclass(frozen=True)
class Layout:
    """The files of a source that belong to the layout: by kind, (name, the parts of its path that matter)."""

    files: dict[str, list[_File]]

    def __len__(self) -> int:
        return sum(len(files) for files in self.files.values())


def find_layout(source: Source) -> Layout | None:
    """The layout in a source, at its top or at most two folders down; None when there is none.

    Raises: ImportSourceError when there are several side by side.
    """
    found: dict[str, dict[str, list[_File]]] = defaultdict(lambda: defaultdict(list))
    for name in source.names:
        for kind, pattern in _PATTERNS.items():
            if match := pattern.fullmatch(name):
                found[match["outer"]][kind].append((name, match.groups()[1:]))
                break
    # Checkpoints alone may be anything's.
    outers = [outer for outer, kinds in found.items() if set(kinds) != {"checkpoint"}]
    if not outers:
        return None
    least = min(outer.count("/") for outer in outers)
    nearest = [outer for outer in outers if outer.count("/") == least]
    if len(nearest) > 1:
        raise ImportSourceError(
            f"{source.path.name} holds several data sets ({', '.join(map(repr, sorted(nearest)[:3]))}); import each by "
            "itself"
        )
    return Layout(dict(found[nearest[0]]))


class LayoutImport:
    """Stages a layout; with a `name`, sources and splits are renamed so that they meet nothing of the same name.

    Clips are read in bulk; performances that have to be cut are cut in as many processes as `workers`.
    """

    def __init__(self, source: Source, layout: Layout, name: str | None, workers: int = 1) -> None:
        self._source = source
        self._layout = layout
        self._name = name
        self._workers = workers
        self._sources = {groups[0] for kind in ("clip", "raw") for _, groups in layout.files.get(kind, [])}
        self._units: dict[str, bool] = {}
        self._staging: Staging
        self._staged = Staged(list(source.skipped), source.n_hidden + len(source.names) - len(layout))

    def stage(self, staging: Staging, progress: Callable[[int, int], None]) -> Staged:
        """Stages everything. Raises: ArchiveError, DataRootError."""
        self._staging = staging
        for done, (file, stage) in enumerate(self._steps(), 1):
            try:
                stage()
            except (ImportSourceError, MidiError) as error:
                self._staged.skipped.append(Skipped(file, str(error)))
            progress(done, len(self._layout))
        self._finish_recordings()
        self._finish_splits()
        self._staged.splits = tuple(staging.staged.split_names())
        return self._staged

    def _steps(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Each file with what stages it."""
        raw, clips = (self._layout.files.get(kind, []) for kind in ("raw", "clip"))
        for file, groups in raw:
            if groups[2] == "metadata.json":
                yield file, partial(self._stage_metadata, file, *groups)
        performances = [(file, groups) for file, groups in raw if groups[2] != "metadata.json"]
        if clips:
            for (file, groups), data, problem in self._checked(performances):
                yield file, partial(self._stage_raw, groups, data, problem)
        else:
            results = shared_out(_cut_or_not, self._contents(performances), self._workers)
            for (file, groups), (content, performance) in zip(performances, results, strict=True):
                yield file, partial(self._stage_cut, groups, content, performance)
        for (file, groups), data, problem in self._checked(clips):
            yield file, partial(self._stage_clip, groups, data, problem)
        others: dict[str, Callable[..., None]] = {
            "split": self._stage_split,
            "recordings": self._stage_recordings,
            "checkpoint": self._stage_checkpoint,
        }
        for kind, stage in others.items():
            for file, groups in self._layout.files.get(kind, []):
                yield file, partial(stage, file, *groups)

    def _contents(self, files: Iterable[_File]) -> Iterator[bytes | str]:
        """The bytes of MIDI files, or why there are none."""
        for file, _ in files:
            try:
                yield self._source.read(file, MAX_MIDI_BYTES)
            except ImportSourceError as error:
                yield str(error)

    def _checked(self, files: Sequence[_File]) -> Iterator[tuple[_File, bytes, str]]:
        """MIDI files with their bytes, and what keeps them from being read, if anything."""
        for some in self._batches(files):
            contents = list(self._contents(some))
            errors = read_many(data if isinstance(data, bytes) else b"" for data in contents).errors
            for i, (file, data) in enumerate(zip(some, contents, strict=True)):
                if isinstance(data, bytes):
                    yield file, data, str(errors.get(i, ""))
                else:
                    yield file, b"", data

    def _batches(self, files: Sequence[_File]) -> Iterator[list[_File]]:
        batch: list[_File] = []
        n_bytes = 0
        for file in files:
            batch.append(file)
            n_bytes += min(self._source.size(file[0]), MAX_MIDI_BYTES)
            if len(batch) == _FILES_AT_ONCE or n_bytes >= _BYTES_AT_ONCE:
                yield batch
                batch, n_bytes = [], 0
        if batch:
            yield batch

    def _stage_clip(self, groups: tuple[str, ...], data: bytes, problem: str) -> None:
        source, recording, number = groups
        unit = self._unit("data/clips", self._renamed(source), recording)
        _refuse(problem)
        self._put_clip(unit, int(number), data)
        self._staged.tracks.add(unit.removeprefix("data/clips/"))

    def _stage_metadata(self, file: str, source: str, recording: str, leaf: str) -> None:
        unit = self._unit("data/raw", self._renamed(source), recording)
        self._staging.put(unit, leaf, _checked_json(self._source.read(file, _MAX_JSON_BYTES)))

    def _stage_raw(self, groups: tuple[str, ...], data: bytes, problem: str) -> None:
        source, recording, leaf = groups
        unit = self._unit("data/raw", self._renamed(source), recording)
        _refuse(problem)
        self._staging.put(unit, leaf, data)
        self._staged.tracks.add(unit.removeprefix("data/raw/"))

    def _stage_cut(self, groups: tuple[str, ...], data: bytes | str, performance: CutPerformance) -> None:
        unit = self._unit("data/clips", self._renamed(groups[0]), groups[1])
        _refuse(performance.problem)
        for number, clip in enumerate(performance.clips):
            if clip is not None:
                self._put_clip(unit, number, clip)
        self._stage_raw(groups, data if isinstance(data, bytes) else b"", "")

    def _put_clip(self, unit: str, number: int, data: bytes) -> None:
        leaf = f"clip_{number:03}.mid"
        if not self._staging.take(f"{unit}/{leaf}"):
            raise ImportSourceError("a clip of this number has been there already")
        self._staging.put(unit, leaf, data)
        self._staged.n_clips += 1

    def _stage_split(self, file: str, split: str, leaf: str) -> None:
        unit = self._unit("references/data_splits", split)
        self._staging.put(unit, leaf, self._source.read(file, _MAX_TABLE_BYTES))

    def _stage_recordings(self, file: str, leaf: str) -> None:
        self._staging.put("", f"references/{leaf}", self._source.read(file, _MAX_TABLE_BYTES))

    def _stage_checkpoint(self, file: str, experiment: str, run: str, leaf: str) -> None:
        if self._source.size(file) > _MAX_CHECKPOINT_BYTES:
            raise ImportSourceError(f"larger than {_MAX_CHECKPOINT_BYTES >> 30} GiB")
        unit = self._unit("checkpoints", f"{self._name}-{experiment}" if self._name else experiment, run, leaf)
        self._staging.put_with(unit, "", lambda path: self._source.copy(file, path, _MAX_CHECKPOINT_BYTES))
        self._staged.n_checkpoints += 1

    def _finish_splits(self) -> None:
        for name in [unit.rpartition("/")[2] for unit in self._units if unit.startswith("references/data_splits/")]:
            unit = f"references/data_splits/{name}"
            try:
                split = self._staging.staged.split(name)
            except SplitError as error:
                self._staged.skipped.append(Skipped(unit, str(error)))
                self._staging.drop(unit)
                continue
            if self._name:
                self._staging.drop(unit)
                self._staging.put_split(self._renamed_split(split))

    def _finish_recordings(self) -> None:
        table = self._staging.staged.recordings_file
        if not table.is_file():
            return
        try:
            infos = read_recordings_file(table)
        except DataRootError as error:
            self._staged.skipped.append(Skipped("references/recordings.csv", str(error)))
            table.unlink()
            return
        self._staged.infos = [replace(info, track=self._renamed_track(info.track)) for info in infos]
        table.unlink()

    def _unit(self, *parts: str) -> str:
        """The path of a unit; refuses names that are no folder, and those that differ from another only in case."""
        unit = "/".join(parts)
        if unit not in self._units:
            plain = all(is_plain_name(part) for part in parts[1:])
            self._units[unit] = plain and self._staging.take(unit)
        if not self._units[unit]:
            raise ImportSourceError("its name or its folder's cannot be one on every system; rename it")
        return unit

    def _renamed(self, source: str) -> str:
        if not self._name:
            return source
        return self._name if len(self._sources) <= 1 else f"{self._name}-{source}"

    def _renamed_track(self, track: str) -> str:
        source, _, recording = track.partition("/")
        return f"{self._renamed(source)}/{recording}"

    def _renamed_split(self, split: Split) -> Split:
        parts = {
            part: tuple(replace(entry, track=self._renamed_track(entry.track)) for entry in entries)
            for part, entries in split.parts.items()
        }
        return Split(f"{self._name}-{split.name}", split.class_names, parts)


def _cut_or_not(data: bytes | str) -> CutPerformance:
    """Cuts a performance; one that could not be read comes as the reason, which is passed on."""
    return cut(data) if isinstance(data, bytes) else CutPerformance(problem=data)


def _refuse(problem: str) -> None:
    if problem:
        raise ImportSourceError(problem)


def _checked_json(data: bytes) -> bytes:
    try:
        parse_json(data)
    except ValueError as error:
        raise ImportSourceError("is not JSON") from error
    return data
