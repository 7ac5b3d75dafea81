"""How long it takes to identify three minutes of music with the factorised ResNet-18, all 15 subsets of concepts.

    python tests/benchmarks/identification.py [MIDI] [--device cuda]

The model has fresh weights: its answer is noise, its arithmetic is the real one. Compared with running the network as
it stands once for every subset, on the same clips. CPU seconds are those of all threads, and hold where other programs
take their share of the machine.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pianistid_core.clips import draw_clip
from pianistid_core.concepts import evaluation_rng
from pianistid_core.config import load_config, to_dict
from pianistid_core.evaluation import CONCEPT_SUBSETS
from pianistid_core.identify import Identifier
from pianistid_core.midi import Notes, read_midi, split_into_clips
from pianistid_core.models import build_model

PRESET = (
    "disentangle-final-experiments/disentangle-jtd+pijama-resnet18-noattention-maxpool-augment50-mask30concept3.yaml"
)
MINUTES = 3
ROUNDS = 5


def three_minutes() -> Notes:
    """Seven notes a second and a chord of four every second."""
    rng = np.random.default_rng(0)
    onsets = np.sort(rng.uniform(0, 60 * MINUTES, 7 * 60 * MINUTES))
    beats = np.repeat(np.arange(60.0 * MINUTES), 4)
    starts = np.concatenate([onsets, beats])
    pitches = np.concatenate([rng.integers(60, 90, len(onsets)), np.tile([40, 47, 52, 56], 60 * MINUTES)])
    return Notes.from_arrays(starts, starts + 0.3, pitches, rng.integers(40, 100, len(starts)))


class Stopwatch:
    """Wall and CPU seconds since it was made."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self.wall, time.process_time() - self.cpu


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} s ({min(values):.2f}-{max(values):.2f})"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("midi", nargs="?")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    config = load_config(PRESET)
    torch.manual_seed(0)
    model = build_model(config.encoder_module, config.model_cfg, 20)
    saved = {
        "model_state_dict": model.state_dict(),
        "config": to_dict(config),
        "class_names": [f"pianist {number}" for number in range(20)],
        "epoch": 0,
    }
    with tempfile.TemporaryDirectory() as folder:
        torch.save(saved, Path(folder) / "model.pth")
        watch = Stopwatch()
        identifier = Identifier.from_checkpoint(Path(folder) / "model.pth", device=options.device)
        print(f"loading: {watch.read()[0]:.1f} s, on {identifier.device}, {torch.get_num_threads()} threads")
    notes = read_midi(options.midi) if options.midi else three_minutes()
    times = []
    for _ in range(1 + ROUNDS):
        watch = Stopwatch()
        found = identifier.identify(notes)
        times.append(watch.read())
    print(f"first answer: {times[0][0]:.2f} s, CPU {times[0][1]:.2f} s")
    wall, cpu = ([time[of] for time in times[1:]] for of in (0, 1))
    print(
        f"{len(found.clips)} clips, {len(found.concepts)} subsets, {ROUNDS} rounds: {spread(wall)}, CPU {spread(cpu)}"
    )
    watch = Stopwatch()
    for clip in split_into_clips(notes):
        draw_clip(clip, identifier.clip_options, evaluation_rng(clip))
    print(f"of which drawing the clips: CPU {1000 * watch.read()[1]:.0f} ms")

    model = model.to(identifier.device).eval()
    rolls = torch.rand(2, 4, 88, 3000, device=identifier.device)
    with torch.inference_mode():
        watch = Stopwatch()
        model(rolls).sum().item()
        once = [seconds / 2 * len(found.clips) * len(CONCEPT_SUBSETS) for seconds in watch.read()]
    print(
        f"running the network once for every subset: {once[0]:.0f} s, CPU {once[1]:.0f} s: "
        f"{once[1] / statistics.median(cpu):.0f} times as long by CPU"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
