"""How long it takes to identify five minutes of music with the factorised ResNet-18, all 15 subsets of concepts.

    python tests/benchmarks/identification.py [MIDI]

The model has fresh weights: its answer is noise, its arithmetic is the real one. Compared with running the network as
it stands once for every subset, on the same clips.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from pianistid_core.config import load_config, to_dict
from pianistid_core.evaluation import CONCEPT_SUBSETS
from pianistid_core.identify import Identifier
from pianistid_core.midi import Notes, read_midi
from pianistid_core.models import build_model

PRESET = (
    "disentangle-final-experiments/disentangle-jtd+pijama-resnet18-noattention-maxpool-augment50-mask30concept3.yaml"
)
MINUTES = 5


def five_minutes() -> Notes:
    """Seven notes a second and a chord of four every second."""
    rng = np.random.default_rng(0)
    onsets = np.sort(rng.uniform(0, 60 * MINUTES, 7 * 60 * MINUTES))
    beats = np.repeat(np.arange(60.0 * MINUTES), 4)
    starts = np.concatenate([onsets, beats])
    pitches = np.concatenate([rng.integers(60, 90, len(onsets)), np.tile([40, 47, 52, 56], 60 * MINUTES)])
    return Notes.from_arrays(starts, starts + 0.3, pitches, rng.integers(40, 100, len(starts)))


def main() -> None:
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
        began = time.perf_counter()
        identifier = Identifier.from_checkpoint(Path(folder) / "model.pth")
        print(f"loading: {time.perf_counter() - began:.1f} s, {torch.get_num_threads()} threads")
    notes = read_midi(sys.argv[1]) if len(sys.argv) > 1 else five_minutes()
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        found = identifier.identify(notes)
        seconds.append(time.perf_counter() - began)
    print(
        f"{len(found.clips)} clips, {len(found.concepts)} subsets: {min(seconds):.2f} s (of {len(seconds)}: {seconds})"
    )

    rolls = torch.rand(2, 4, 88, 3000)
    with torch.inference_mode():
        began = time.perf_counter()
        model.eval()(rolls)
        once = (time.perf_counter() - began) / 2
    naive = once * len(found.clips) * len(CONCEPT_SUBSETS)
    print(
        f"running the network once for every subset would take {naive:.0f} s: {naive / min(seconds):.0f} times as long"
    )


if __name__ == "__main__":
    main()
