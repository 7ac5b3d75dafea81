"""Whether an answer stands when the music is otherwise: transposed, hurried, jittered, split by hand, cut short.

    python tests/benchmarks/robustness.py --data-root workspace [--model demo/demo] [--expressive FOLDER] [--most 100]

Over the recordings of the model's test part. Without --model it asks the shipped model, and without one the newest run.
With --expressive it also asks about clips as transcribed, with full timing and velocities; those of recordings that the
model learned from are told apart.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pianistid_core.datasets.cache import open_note_cache
from pianistid_core.datasets.root import DataRoot
from pianistid_core.identify import Identifier
from pianistid_core.robustness import measure_expressive, measure_robustness, recordings_of, variations


def share(found: Mapping[str, Any]) -> str:
    low, high = found["interval"]
    return f"{found['right'] / found['n']:.3f} [{low:.2f}, {high:.2f}] of {found['n']}"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-root")
    parser.add_argument("--model")
    parser.add_argument("--expressive")
    parser.add_argument("--most", type=int, help="ask about so many recordings, evenly chosen")
    options = parser.parse_args(arguments)
    root = DataRoot.open(options.data_root)
    identifier = Identifier.from_checkpoint(options.model, root=root) if options.model else Identifier.default(root)
    split = identifier.loaded.config.data_split_dir
    recordings = recordings_of(open_note_cache(root, split, "test"))
    if options.most:
        recordings = recordings[:: max(1, len(recordings) // options.most)]
    print(f"{identifier.name}, {len(recordings)} recordings of the test part of {split}")
    width = max(len(variation.name) for variation in variations())
    for row in measure_robustness(identifier, recordings):
        print(f"{row['variation']:{width}}  {share(row)}, the same name as before {row['same'] / row['n']:.3f}")
    if options.expressive:
        print("clips as transcribed, the first guess:")
        for name, found in measure_expressive(identifier, Path(options.expressive), root.split(split)).items():
            print(f"{name:{width}}  {share(found) if found['n'] else 'none'}")


if __name__ == "__main__":
    main(sys.argv[1:])
