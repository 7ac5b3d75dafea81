"""Keeping references/recordings.csv: what an import says about recordings is merged into it, row by row."""

from collections.abc import Iterable
from pathlib import Path

from pianistid_core.atomic import write_atomically
from pianistid_core.datasets.archives import Skipped
from pianistid_core.datasets.root import RECORDING_COLUMNS, DataRoot, RecordingInfo, read_recordings_file
from pianistid_core.datasets.tables import TableError, csv_bytes, rows
from pianistid_core.errors import DataRootError, ImportSourceError

__all__ = ["RecordingsTable"]

_Row = dict[str, str]


class RecordingsTable:
    """A root's recordings.csv, and a table of further facts (`metadata`) on its way into it.

    Raises: DataRootError or ImportSourceError when one of the two cannot be read.
    """

    def __init__(self, root: DataRoot, metadata: Path | None = None) -> None:
        self._root = root
        self._metadata = metadata
        self._facts = _read_facts(metadata) if metadata else []
        self._rows: dict[str, _Row] = {}
        if root.recordings_file.is_file():
            read_recordings_file(root.recordings_file)
            self._rows = {row["track"]: row for _, row in rows(root.recordings_file, required=("track",))}

    def merge(self, infos: Iterable[RecordingInfo], there: set[str]) -> list[Skipped]:
        """Adds what `infos` and the metadata say, and writes the table if that changed it.

        What is said of a recording that was in the root before (its track is in `there`) only fills gaps; the
        metadata replaces. Returns the metadata's rows that fit no recording.

        Raises: DataRootError when the table cannot be written.
        """
        before = {track: dict(row) for track, row in self._rows.items()}
        for info in infos:
            self._update(info.track, _cells(info), only_gaps=info.track in there)
        unmatched = self._merge_facts() if self._facts else []
        if self._rows != before:
            self._write()
        return unmatched

    def _merge_facts(self) -> list[Skipped]:
        known = self._root.recordings()
        known.update((track, known.get(track, RecordingInfo(track, ""))) for track in self._root.tracks())
        unmatched: list[str] = []
        for row in self._facts:
            track = row["track"]
            if track not in known:
                unmatched.append(track)
                continue
            self._update(track, _cells(known[track]), only_gaps=True)
            self._update(track, {name: value for name, value in row.items() if name}, only_gaps=False)
        if not unmatched:
            return []
        reason = f"{len(unmatched)} of its {len(self._facts)} tracks are not in the data root, such as {unmatched[0]!a}"
        return [Skipped(self._metadata.name if self._metadata else "", reason)]

    def _update(self, track: str, cells: _Row, *, only_gaps: bool) -> None:
        row = self._rows.setdefault(track, {"track": track})
        for name, value in cells.items():
            if value and not (only_gaps and row.get(name)):
                row[name] = value

    def _write(self) -> None:
        own = dict.fromkeys(name for row in self._rows.values() for name in row)
        columns = [*RECORDING_COLUMNS, *(name for name in own if name not in RECORDING_COLUMNS)]
        table = [[row.get(column, "") for column in columns] for row in self._rows.values()]
        try:
            self._root.recordings_file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._root.recordings_file, csv_bytes(columns, table))
        except OSError as error:
            raise DataRootError(f"cannot write {self._root.recordings_file}: {error.strerror}") from error


def _read_facts(path: Path) -> list[_Row]:
    try:
        return [row for _, row in rows(path, required=("track",))]
    except TableError as error:
        raise ImportSourceError(f"metadata {path.name}: {error}") from error


def _cells(info: RecordingInfo) -> _Row:
    values = {column: getattr(info, column) for column in RECORDING_COLUMNS}
    return {column: str(value) for column, value in values.items() if value not in (None, "")}
