"""Writes a demo data set in the archive's layout, with the truth about it, or nothing at all.

Everything is made in a folder aside and renamed into place, the split last: what can be seen is whole.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pianistid_core.concepts import CONCEPTS
from pianistid_core.datasets.demo.pianists import HABITS, PIANISTS, GroundTruth, VirtualPianist
from pianistid_core.datasets.demo.playing import perform
from pianistid_core.datasets.demo.tunes import NOTE_NAMES, TUNES, Tune
from pianistid_core.datasets.recordings import RecordingsTable
from pianistid_core.datasets.root import DataRoot, RecordingInfo, Split, write_split
from pianistid_core.datasets.splitting import plan_split
from pianistid_core.errors import DataError, DataRootError, SplitError
from pianistid_core.midi import read_midi, split_into_clips, write_midi
from pianistid_core.names import folder_name_problem
from pianistid_core.strict_json import parse_json

__all__ = ["DemoReport", "ground_truth", "make_demo"]

RATIOS = (0.625, 0.1875, 0.1875)
_TRUTH_FILE = "ground_truth.json"
_TUNES_AN_ALBUM = 4
_MAX_RECORDINGS = 200


@dataclass(frozen=True)
class DemoReport:
    """What a demo data set holds; `created` is false when it was there already, byte for byte."""

    name: str
    seed: int
    pianists: tuple[str, ...]
    recordings: int
    clips: int
    duration_s: float
    parts: dict[str, int]
    created: bool

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON."""
        return {**vars(self), "pianists": list(self.pianists)}


def make_demo(
    root: DataRoot,
    *,
    name: str = "demo",
    seed: int = 0,
    recordings_per_pianist: int = 16,
    progress: Callable[[int, int], None] | None = None,
) -> DemoReport:
    """Composes, plays and writes a data set of eight virtual pianists, with a split and the ground truth.

    Its clips are in data/clips/<name>, its performances in data/raw/<name>, its split and ground_truth.json in
    references/data_splits/<name>; its recordings are added to references/recordings.csv. The same seed and number of
    recordings give the same bytes, and making them again changes nothing. `progress` hears (done, total) recordings.

    Raises
    ------
    DataError
        When the name, seed or number of recordings is not possible, or another data set has that name.
    DataRootError
        When the data root cannot be written.
    """
    _check_arguments(name, seed, recordings_per_pianist)
    aside = root.path / f".making-{name}-{os.getpid()}"
    try:
        root.path.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        report, infos = _make(DataRoot(aside), name, seed, recordings_per_pianist, progress)
        created = _move_into_place(DataRoot(aside), root, name, infos)
    except OSError as error:
        raise DataRootError(f"cannot write the demo data to {root.path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return DemoReport(**{**vars(report), "created": created})


def ground_truth(root: DataRoot, name: str = "demo") -> GroundTruth:
    """Reads which concept tells which of a demo data set's pianists apart.

    Raises
    ------
    SplitError
        When the data set has no ground truth (only `make_demo` writes one), or the file is not one.
    """
    path = root.splits_dir / name / _TRUTH_FILE
    try:
        truth = parse_json(path.read_bytes())
        pianists = tuple(VirtualPianist(row["name"], **row["styles"]) for row in truth["pianists"])
        return GroundTruth(truth["data_set"], truth["seed"], pianists)
    except FileNotFoundError as error:
        raise SplitError(
            f"split {name!r} has no ground truth in {path.parent}; only demo data has one (`pianistid data demo`)"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SplitError(f"{path} is not a ground truth ({error}); make the demo data again") from error


# --- making ----------------------------------------------------------------------------------------------------------


def _check_arguments(name: str, seed: int, recordings_per_pianist: int) -> None:
    if problem := folder_name_problem(name):
        raise DataError(f"a data set cannot be called {name!r}: {problem}")
    if seed < 0:
        raise DataError(f"the seed must be 0 or more, not {seed}")
    if not 3 <= recordings_per_pianist <= _MAX_RECORDINGS:
        raise DataError(
            f"{recordings_per_pianist} recordings a pianist are not possible; give 3 (one for each part of the split) "
            f"to {_MAX_RECORDINGS}"
        )


def _make(
    aside: DataRoot, name: str, seed: int, n_recordings: int, progress: Callable[[int, int], None] | None
) -> tuple[DemoReport, list[RecordingInfo]]:
    infos, n_clips = [], 0
    for number, pianist in enumerate(PIANISTS):
        for index in range(n_recordings):
            info, clips = _record(aside, name, pianist, index, np.random.default_rng([seed, number, index]))
            infos.append(info)
            n_clips += clips
            if progress is not None:
                progress(len(infos), len(PIANISTS) * n_recordings)
    split = _split(infos, name, seed)
    folder = write_split(aside, split)
    (folder / _TRUTH_FILE).write_bytes(_truth_bytes(GroundTruth(name, seed, PIANISTS)))
    report = DemoReport(
        name=name,
        seed=seed,
        pianists=split.class_names,
        recordings=len(infos),
        clips=n_clips,
        duration_s=sum(info.duration_s or 0.0 for info in infos),
        parts={part: len(entries) for part, entries in split.parts.items()},
        created=True,
    )
    return report, infos


def _split(infos: list[RecordingInfo], name: str, seed: int) -> Split:
    """A split by recording in which every pianist has the same number of recordings in each part."""
    durations_s = {info.track: info.duration_s or 0.0 for info in infos}
    alike = [replace(info, duration_s=60.0) for info in infos]
    planned = plan_split(alike, name, ratios=RATIOS, seed=seed).split
    parts = {
        part: tuple(replace(entry, duration_s=durations_s[entry.track]) for entry in entries)
        for part, entries in planned.parts.items()
    }
    return replace(planned, parts=parts)


def _record(
    aside: DataRoot, name: str, pianist: VirtualPianist, index: int, rng: np.random.Generator
) -> tuple[RecordingInfo, int]:
    """Plays one tune and writes its performance, metadata and clips; gives also the number of clips."""
    tune = TUNES[index % len(TUNES)]
    recording = _recording_name(pianist, tune, index)
    performance = perform(pianist, tune, rng)
    raw, clips = aside.raw_dir / name / recording, aside.clips_dir / name / recording
    raw.mkdir(parents=True)
    clips.mkdir(parents=True)
    # Clips are cut from the performance as a file holds it, in whole ticks, as clips of a real archive are.
    played = read_midi(write_midi(performance.notes, raw / "piano_midi.mid"))
    album = f"{pianist.name} Alone, Volume {1 + index // _TUNES_AN_ALBUM}"
    metadata = {
        "track_name": tune.title,
        "composition_canonic": tune.title.lower(),
        "album_name": album,
        "recording_year": None,
        "bandleader": pianist.name,
        "pianist": pianist.name,
        "setting": "solo",
        "virtual": True,
        "duration_s": round(played.duration_s, 6),
        "tempo_bpm": performance.tempo_bpm,
        "key": NOTE_NAMES[performance.key],
        "fname": recording,
    }
    (raw / "metadata.json").write_bytes(_json_bytes(metadata))
    cut = split_into_clips(played)
    for number, clip in enumerate(cut):
        write_midi(clip, clips / f"clip_{number:03d}.mid")
    track = f"{name}/{recording}"
    duration_s = round(played.duration_s, 6)
    return RecordingInfo(track, pianist.name, album, tune.title.lower(), "solo", duration_s), len(cut)


def _recording_name(pianist: VirtualPianist, tune: Tune, index: int) -> str:
    """As the archive names them: surname and initial, title, setting, year, eight characters of its own."""
    first, last = pianist.name.lower().split()
    title = "".join(letter for letter in tune.title.lower() if letter.isalnum())
    own = hashlib.sha256(f"{pianist.name}/{tune.title}/{index}".encode()).hexdigest()[:8]
    return f"{last}{first[0]}-{title}-unaccompanied-xxxx-{own}"


def _truth_bytes(truth: GroundTruth) -> bytes:
    return _json_bytes(
        {
            "about": "Virtual pianists composed by PianistID Lab. Two pianists with the same label in a concept are "
            "alike in it; `pairs` says which concepts tell whom apart.",
            "data_set": truth.data_set,
            "seed": truth.seed,
            "concepts": HABITS,
            "pianists": [
                {
                    "index": index,
                    "name": pianist.name,
                    "habits": pianist.habits,
                    "styles": {concept: pianist.style(concept) for concept in CONCEPTS},
                }
                for index, pianist in enumerate(truth.pianists)
            ],
            "pairs": [
                {
                    "a": pair.a,
                    "b": pair.b,
                    "differs_in": list(pair.differs_in),
                    "alike_in": [concept for concept in CONCEPTS if concept not in pair.differs_in],
                }
                for pair in truth.pairs
            ],
            "leaks": "None by construction: left-hand chords always lie below a simultaneous melody note, have three "
            "notes whatever the voicing, and stand a beat clear of the line; melody notes over chords are drawn alike "
            "for everyone; rhythm moves notes without reordering them; velocity depends on neither pitch nor time. "
            "Chance remains: eight small samples of one distribution are never quite alike. The plain piano roll "
            "(one channel) shows all four concepts at once.",
        }
    )


def _json_bytes(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


# --- moving into place -----------------------------------------------------------------------------------------------


def _move_into_place(aside: DataRoot, root: DataRoot, name: str, infos: list[RecordingInfo]) -> bool:
    """Renames what was made into the data root; gives whether anything was missing there."""
    moves = [
        (made / name, there / name)
        for made, there in (
            (aside.raw_dir, root.raw_dir),
            (aside.clips_dir, root.clips_dir),
            (aside.splits_dir, root.splits_dir),
        )
    ]
    for made, there in moves:
        if there.exists() and not _same_files(made, there):
            raise DataError(
                f"{there} exists already and is not this demo data (another seed, size or data set); choose "
                "another name, or delete it first"
            )
    missing = [(made, there) for made, there in moves if not there.exists()]
    table = RecordingsTable(root)
    for made, there in missing:
        if there.parent == root.splits_dir:
            # The split makes the data set visible, so everything else comes before it.
            table.merge(infos, set())
        there.parent.mkdir(parents=True, exist_ok=True)
        made.rename(there)
    table.merge(infos, set())
    return bool(missing)


def _same_files(first: Path, second: Path) -> bool:
    def files(folder: Path) -> dict[Path, Path]:
        return {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}

    ours, theirs = files(first), files(second)
    return ours.keys() == theirs.keys() and all(
        path.stat().st_size == theirs[key].stat().st_size and path.read_bytes() == theirs[key].read_bytes()
        for key, path in ours.items()
    )
