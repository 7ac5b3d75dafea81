"""A data set and a network small enough to train within a test, and a way to wait without burning a core."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from pianistid_core.config import RunConfig, parse_config
from pianistid_core.datasets.root import DataRoot, Split, SplitEntry, write_split
from pianistid_core.midi import Notes, split_into_clips, write_midi

PIANISTS = ("Ada Even", "Ben Cluster", "Cleo Wide")


def make_notes(
    seed: int,
    *,
    centre: int = 60,
    seconds: float = 61.0,
    step_s: float = 0.25,
    chord: tuple[int, ...] = (0, 4, 7),
) -> Notes:
    """Music-like notes around one pitch: an even line, and below it a chord every second (none when it is empty)."""
    rng = np.random.default_rng(seed)
    onsets = np.arange(0.0, seconds, step_s)
    rows = [np.column_stack([onsets, onsets + 0.8 * step_s, centre + 12 + rng.integers(0, 12, len(onsets))])]
    beats = np.arange(0.0, seconds, 1.0)
    rows += [np.column_stack([beats, beats + 0.9, np.full(len(beats), centre + step)]) for step in chord]
    table = np.concatenate(rows)
    velocities = rng.integers(30, 110, len(table))
    return Notes.from_arrays(table[:, 0], table[:, 1], table[:, 2].astype(int), velocities)


HABITS: tuple[dict[str, Any], ...] = (
    {"step_s": 0.2, "chord": (0, 4, 7)},
    {"step_s": 0.5, "chord": (0, 1, 2)},
    {"step_s": 1.0, "chord": (-12, -6, 0, 6)},
)


def write_tiny_data(root: DataRoot) -> None:
    """Three pianists with three habits, four recordings each, two clips a recording, as split "tiny" of a root."""
    parts: dict[str, list[SplitEntry]] = {"train": [], "test": []}
    for label, pianist in enumerate(PIANISTS):
        for number in range(4):
            track = f"tiny/{pianist.split()[0].lower()}-{number}"
            folder = root.clips_dir / track
            folder.mkdir(parents=True)
            notes = make_notes(10 * label + number, **HABITS[label])
            for index, clip in enumerate(split_into_clips(notes)):
                write_midi(clip, folder / f"clip_{index:03d}.mid")
            parts["test" if number == 3 else "train"].append(SplitEntry(track, label, notes.duration_s))
    write_split(root, Split("tiny", PIANISTS, {part: tuple(entries) for part, entries in parts.items()}))


def tiny_config(**changes: Any) -> RunConfig:
    """A factorised network that learns the tiny data set within seconds."""
    layers = [
        {"in_channels": 1, "out_channels": 16, "conv_kernel_size": 3, "has_pool": True, "pool_kernel_size": 2},
        {"in_channels": 16, "out_channels": 32, "conv_kernel_size": 3, "has_pool": True, "pool_kernel_size": 2},
    ]
    mapping: dict[str, Any] = {
        "experiment": "tests",
        "run": "tiny",
        "batch_size": 5,
        "epochs": 2,
        "data_split_dir": "tiny",
        "train_dataset_cfg": {"multichannel": True, "data_augmentation": True, "jitter_start": True},
        "test_dataset_cfg": {"multichannel": True},
        "encoder_module": "disentangle",
        "model_cfg": {"layers": layers, "use_gru": False, "use_attention": False, "use_2fc": False, "pool_type": "max"}
        | {"frame_pool": 50},
        "optim_type": "adam",
        "optim_cfg": {"lr": 0.01},
        "checkpoint_cfg": {"checkpoint_after_n_epochs": 1},
        "device": "cpu",
        "num_threads": 1,
    }
    return parse_config(mapping | changes)


def until(condition: Callable[[], bool]) -> None:
    """Waits until a condition holds, looking twenty times a second; pytest's time limit ends a wait in vain."""
    while not condition():
        threading.Event().wait(0.05)
