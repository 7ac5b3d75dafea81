"""The archive's layout in somebody else's zip or folder: which file is what, and how it gets into a staging folder."""

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

from pianistid_core.datasets.archives import Skipped, Source
from pianistid_core.datasets.performances import MAX_MIDI_BYTES, cut
from pianistid_core.datasets.root import Split, read_recordings_file
from pianistid_core.datasets.staging import Staged, Staging
from pianistid_core.errors import DataRootError, ImportSourceError, MidiError, SplitError
from pianistid_core.midi import read_midi
from pianistid_core.names import is_plain_name
from pianistid_core.strict_json import parse_json

__all__ = ["Layout", "LayoutImport", "find_layout"]

_MAX_TABLE_BYTES = 64 << 20
_MAX_JSON_BYTES = 1 << 20
_MAX_CHECKPOINT_BYTES = 4 << 30

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

    files: dict[str, list[tuple[str, tuple[str, ...]]]]

    def __len__(self) -> int:
        return sum(len(files) for files in self.files.values())


def find_layout(source: Source) -> Layout | None:
    """The layout in a source, at its top or at most two folders down; None when there is none.

    Raises: ImportSourceError when there are several side by side.
    """
    found: dict[str, dict[str, list[tuple[str, tuple[str, ...]]]]] = defaultdict(lambda: defaultdict(list))
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
    """Stages a layout; with a `name`, sources and splits are renamed so that they meet nothing of the same name."""

    def __init__(self, source: Source, layout: Layout, name: str | None) -> None:
        self._source = source
        self._layout = layout
        self._name = name
        self._sources = {groups[0] for kind in ("clip", "raw") for _, groups in layout.files.get(kind, [])}
        self._units: dict[str, bool] = {}
        self._staging: Staging
        self._staged = Staged(list(source.skipped), source.n_hidden + len(source.names) - len(layout))

    def stage(self, staging: Staging, progress: Callable[[int, int], None]) -> Staged:
        """Stages everything. Raises: ArchiveError, DataRootError."""
        self._staging = staging
        by_kind: dict[str, Callable[..., None]] = {
            "raw": self._stage_raw,
            "clip": self._stage_clip,
            "split": self._stage_split,
            "recordings": self._stage_recordings,
            "checkpoint": self._stage_checkpoint,
        }
        done = 0
        for kind, stage in by_kind.items():
            for file, groups in self._layout.files.get(kind, []):
                try:
                    stage(file, *groups)
                except (ImportSourceError, MidiError) as error:
                    self._skip(file, error)
                done += 1
                progress(done, len(self._layout))
        self._finish_recordings()
        self._finish_splits()
        self._staged.splits = tuple(staging.staged.split_names())
        return self._staged

    def _skip(self, name: str, why: Exception) -> None:
        self._staged.skipped.append(Skipped(name, str(why)))

    def _stage_clip(self, file: str, source: str, recording: str, number: str) -> None:
        unit = self._unit("data/clips", self._renamed(source), recording)
        data = self._source.read(file, MAX_MIDI_BYTES)
        read_midi(data)
        self._put_clip(unit, int(number), data)
        self._staged.tracks.add(unit.removeprefix("data/clips/"))

    def _stage_raw(self, file: str, source: str, recording: str, leaf: str) -> None:
        unit = self._unit("data/raw", self._renamed(source), recording)
        if leaf == "metadata.json":
            self._staging.put(unit, leaf, _checked_json(self._source.read(file, _MAX_JSON_BYTES)))
            return
        data = self._source.read(file, MAX_MIDI_BYTES)
        if "clip" in self._layout.files:
            read_midi(data)
        else:
            self._cut(self._unit("data/clips", self._renamed(source), recording), data)
        self._staging.put(unit, leaf, data)
        self._staged.tracks.add(unit.removeprefix("data/raw/"))

    def _cut(self, unit: str, data: bytes) -> None:
        performance = cut(data)
        if performance.problem:
            raise ImportSourceError(performance.problem)
        for number, clip in enumerate(performance.clips):
            if clip is not None:
                self._put_clip(unit, number, clip)

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
                self._skip(unit, error)
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
            self._skip("references/recordings.csv", error)
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


def _checked_json(data: bytes) -> bytes:
    try:
        parse_json(data)
    except ValueError as error:
        raise ImportSourceError("is not JSON") from error
    return data
