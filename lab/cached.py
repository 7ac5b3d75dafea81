"""The only things that the lab caches: parsed clips, tables of a data root, and loaded models.

Each is keyed by what it depends on, with modification times, so that nothing stale is shown.
"""

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from home_devices import Device, read_devices
from pianistid_core.boxed import CARD, FACTS, WEIGHTS, Box, box_folder, is_shipped, read_box
from pianistid_core.datasets.root import DataRoot, RecordingInfo, Split
from pianistid_core.metrics_log import MetricsLog, shared_log
from pianistid_core.midi import Notes, read_midi
from pianistid_core.run_index import RunIndex

if TYPE_CHECKING:
    from pianistid_core.identify import Identification, Identifier
    from pianistid_core.run_queue import RunQueue
    from pianistid_core.runs import Run


def stamp(*paths: Path) -> tuple[float, ...]:
    """Modification times, 0 for what is not there: part of a cache's key."""
    times = []
    for path in paths:
        try:
            times.append(path.stat().st_mtime)
        except OSError:
            times.append(0.0)
    return tuple(times)


@dataclass(frozen=True)
class Contents:
    """What a data root holds: its splits by name (or why one cannot be read), recordings, and tracks with clips."""

    splits: dict[str, Split]
    broken_splits: dict[str, str]
    recordings: dict[str, RecordingInfo]
    tracks: tuple[str, ...]


def contents(root: DataRoot) -> Contents:
    """Reads the tables of a data root again only when its folders have changed. To be read, not changed."""
    return _contents(root.path, root.cache_dir, seen(root))


def seen(root: DataRoot, split: str | None = None) -> tuple[float, ...]:
    """The times of what a data root holds: its music, and its splits or one of them."""
    sources = sorted(root.clips_dir.glob("*")) if root.clips_dir.is_dir() else []
    splits = sorted(root.splits_dir.glob("*/*.csv")) if root.splits_dir.is_dir() else []
    if split is None:
        return stamp(root.clips_dir, root.splits_dir, root.recordings_file, *sources, *splits)
    mine = [path for path in splits if path.parent.name == split]
    return stamp(root.clips_dir, root.recordings_file, *sources, *mine)


@st.cache_resource(max_entries=4, show_spinner="Reading the data set")
def _contents(path: Path, cache_dir: Path, seen: tuple[float, ...]) -> Contents:
    from pianistid_core.errors import PianistIDError

    root = DataRoot(path, cache_dir)
    splits: dict[str, Split] = {}
    broken: dict[str, str] = {}
    for name in root.split_names():
        try:
            splits[name] = root.split(name)
        except PianistIDError as error:
            broken[name] = str(error)
    return Contents(splits, broken, root.recordings(), tuple(root.tracks()))


def described(root: DataRoot) -> Sequence[RecordingInfo]:
    """Every recording that has clips, with its length: what a split is made of. To be read, not changed."""
    return _described(root.path, root.cache_dir, seen(root))


@st.cache_resource(max_entries=2, show_spinner="Reading the data set")
def _described(path: Path, cache_dir: Path, seen: tuple[float, ...]) -> Sequence[RecordingInfo]:
    from pianistid_core.datasets.splitting import described_recordings

    return tuple(described_recordings(DataRoot(path, cache_dir)))


@st.cache_resource(max_entries=8, show_spinner=False)
def _clip_counts(path: Path, cache_dir: Path, tracks: tuple[str, ...], seen: tuple[float, ...]) -> dict[str, int]:
    root = DataRoot(path, cache_dir)
    return {track: len(root.clip_paths(track)) for track in tracks}


def clip_counts(root: DataRoot, tracks: tuple[str, ...]) -> dict[str, int]:
    """How many clips each recording has on disk."""
    sources = {root.clips_dir / track.split("/")[0] for track in tracks}
    return _clip_counts(root.path, root.cache_dir, tracks, stamp(root.clips_dir, *sorted(sources)))


@st.cache_data(ttl=2, show_spinner=False)
def devices() -> tuple[Device, ...]:
    """What training runs on and how busy it is, asked at most every two seconds."""
    return read_devices()


def notes_of(path: Path) -> Notes:
    """The notes of a MIDI file on disk.

    Raises: MidiError when it cannot be read.
    """
    return _notes_of(path, stamp(path))


@st.cache_data(max_entries=64, show_spinner=False)
def _notes_of(path: Path, seen: tuple[float, ...]) -> Notes:
    return read_midi(path)


@st.cache_data(max_entries=64, show_spinner=False)
def notes_of_upload(data: bytes) -> Notes:
    """The notes of an uploaded MIDI file.

    Raises: MidiError when it cannot be read.
    """
    return read_midi(data)


def shipped() -> Box | None:
    """The model in the box, where there is one, as it is described there.

    Raises: CheckpointError when what describes it cannot be read.
    """
    folder = box_folder()
    return _shipped(folder, stamp(*(folder / name for name in (WEIGHTS, FACTS, CARD)))) if is_shipped() else None


@st.cache_resource(max_entries=2, show_spinner=False)
def _shipped(folder: Path, seen: tuple[float, ...]) -> Box:
    return read_box(folder)


@dataclass(frozen=True)
class SharedModel:
    """A loaded model and the lock that every session takes while it uses it."""

    identifier: "Identifier"
    lock: threading.Lock


def model(path: Path) -> SharedModel:
    """The model of a checkpoint, loaded once for all sessions and again when the file changes.

    Raises: CheckpointError and its kin when it cannot be loaded.
    """
    return _model(path, stamp(path))


@st.cache_resource(max_entries=2, show_spinner="Loading the model")
def _model(path: Path, seen: tuple[float, ...]) -> SharedModel:
    from pianistid_core.identify import Identifier

    leave_a_core()
    return SharedModel(Identifier.from_checkpoint(path), threading.Lock())


def leave_a_core() -> None:
    """Has torch compute on all cores of the machine but one, on which pages are drawn meanwhile.

    Its threads wait for each other by spinning: where a page takes the core of one, all of them come to a stand.
    """
    import torch

    torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 2) - 1)))


def identification(path: Path, data: bytes) -> "Identification":
    """What a checkpoint says of a MIDI file, worked out once for each pair.

    Raises: PianistIDError when the model or the file cannot be used.
    """
    return _identification(path, stamp(path), data)


@st.cache_data(max_entries=128, show_spinner=False)
def _identification(path: Path, seen: tuple[float, ...], data: bytes) -> "Identification":
    shared = model(path)
    with shared.lock:
        return shared.identifier.identify(data)


def run_index(root: DataRoot) -> RunIndex:
    """The index of a data root's runs, shared by all sessions, which looks anew each time it is asked."""
    return _run_index(root.checkpoints_dir)


@st.cache_resource(max_entries=4, show_spinner=False)
def _run_index(checkpoints_dir: Path) -> RunIndex:
    return RunIndex(checkpoints_dir)


def metrics_log(run: "Run") -> MetricsLog:
    """The metrics of a run as they grow, read once for all sessions."""
    return shared_log(run.metrics_path)


def run_queue(root: DataRoot) -> "RunQueue":
    """The queue of a data root; it lives in files, so any number of them are one."""
    from pianistid_core.run_queue import RunQueue

    return RunQueue(root)
