"""All runs of a checkpoints folder, read again only where something has changed.

What is written into a run folder is renamed into place, which changes the folder's time; metrics are appended, which
changes their file's. A time so young that the clock of the file system may not have moved since is not trusted, and a
run whose state depends on a process or on the hour is derived anew each time.
"""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pianistid_core.errors import ConfigError
from pianistid_core.masking import masked_values
from pianistid_core.metrics_log import MetricsLog
from pianistid_core.runs import CONFIG_FILE, METRICS_FILE, REQUEST_FILE, SPARKLINE_VALUES, WAITING, Run, RunSummary
from pianistid_core.speed import AS_REFERENCE
from pianistid_core.strict_yaml import MAX_BYTES, read_written_yaml

_SETTLED_NS = 2_000_000_000
_LARGE_BYTES = 1 << 20  # metrics that take so long to read that they are followed, though nobody may add to them
_Stamp = tuple[int, ...]
_NO_CONFIG: Mapping[str, Any] = MappingProxyType({})


@dataclass
class _Entry:
    """What was read of a run: None for a folder that is none. `log` is kept while it grows, or where it is large."""

    seen: _Stamp
    settled: bool
    summary: RunSummary | None
    log: MetricsLog | None


class RunIndex:
    """The runs of one checkpoints folder; many threads may share one.

    `reads` counts how often a run was read from disk.
    """

    def __init__(self, checkpoints_dir: Path) -> None:
        self.checkpoints_dir = checkpoints_dir
        self.reads = 0
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._configs: dict[str, tuple[_Stamp, Mapping[str, Any]]] = {}

    def summaries(self, *, archived: bool | None = None) -> list[RunSummary]:
        """A summary of every run, newest first; only those put away, or only the others, where asked for."""
        with self._lock:
            now_ns = time.time_ns()
            entries = {path: self._entry(path, status, now_ns) for path, status in _folders(self.checkpoints_dir)}
            for gone in self._configs.keys() - entries.keys():
                del self._configs[gone]
            self._entries = entries
        found = [entry.summary for entry in entries.values() if entry.summary is not None]
        if archived is not None:
            found = [summary for summary in found if summary.labels.archived is archived]
        return sorted(found, key=lambda summary: (-summary.created, summary.id))

    def config(self, summary: RunSummary) -> Mapping[str, Any]:
        """The run's config by dotted keys, as it was written; empty when there is none that can be read."""
        for name in (CONFIG_FILE, REQUEST_FILE):
            path = os.path.join(summary.path, name)
            seen = _stamp(path)
            if not seen:
                continue
            with self._lock:
                known = self._configs.get(str(summary.path))
            if known is not None and known[0] == seen:
                return known[1]
            values = _read_config(Path(path))
            if seen[1] + _SETTLED_NS < time.time_ns():
                with self._lock:
                    self._configs[str(summary.path)] = (seen, values)
            return values
        return _NO_CONFIG

    def _entry(self, path: str, status: os.stat_result, now_ns: int) -> _Entry:
        metrics = _stamp(os.path.join(path, METRICS_FILE))
        seen = (status.st_ino, status.st_mtime_ns, *metrics)
        known = self._entries.get(path)
        if known is not None and known.settled and known.seen == seen:
            return known
        self.reads += 1
        log = (known.log if known else None) or MetricsLog(Path(path, METRICS_FILE), max_rows=SPARKLINE_VALUES)
        summary = _summary(Run(Path(path)), log)
        moving = summary is not None and (summary.state.is_due() or summary.state.reason == WAITING)
        newest = max(status.st_mtime_ns, metrics[1] if metrics else 0)
        follow = moving or (bool(metrics) and metrics[2] > _LARGE_BYTES)
        return _Entry(seen, not moving and newest + _SETTLED_NS < now_ns, summary, log if follow else None)


def _folders(checkpoints_dir: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every folder that may be a run, with its status; hidden ones, such as the trash, are none."""
    for experiment in _shown_folders(str(checkpoints_dir)):
        for folder in _shown_folders(experiment.path):
            try:
                yield folder.path, folder.stat()
            except OSError:  # gone since it was listed
                continue


def _shown_folders(path: str) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(path) as entries:
            return [entry for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    except OSError:
        return []


def _stamp(path: str) -> _Stamp:
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return (status.st_ino, status.st_mtime_ns, status.st_size)


def _summary(run: Run, log: MetricsLog) -> RunSummary | None:
    try:
        return run.summary(log.refresh()) if run.is_run() else None
    except OSError:  # gone, or not ours to read
        return None


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            # Runs from before there were such settings computed as the reference.
            values = dict(_leaves(read_written_yaml(file.read(MAX_BYTES + 1)), ""))
        # Masked, since a filter may ask for any letter of any value.
        return MappingProxyType({**AS_REFERENCE, **masked_values(values)})
    except (OSError, ConfigError):
        return _NO_CONFIG


def _leaves(mapping: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        dotted = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, dict):
            yield from _leaves(value, dotted)
        else:
            yield dotted, value
