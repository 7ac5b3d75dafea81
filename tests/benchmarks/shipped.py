"""How long the shipped model takes: to load in a fresh process, and to answer three minutes with all 16 subsets.

    python tests/benchmarks/shipped.py [--model PATH] [--threads 2]

The goal is 1.5 s for an answer on two cores, once the model is loaded. CPU seconds are those of all threads, and hold
where other programs take their share of the machine.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence

import torch
from identification import MINUTES, ROUNDS, Stopwatch, spread, three_minutes

from pianistid_core.identify import Identifier


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", help="weights of another box, or a checkpoint (default: the shipped model)")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    watch = Stopwatch()
    subprocess.run([sys.executable, "-c", "import pianistid_core.identify"], check=True)
    print(f"importing, in a process of its own: {watch.read()[0]:.1f} s")
    watch = Stopwatch()
    identifier = Identifier.from_checkpoint(options.model) if options.model else Identifier.default()
    print(f"loading {identifier.name}: {watch.read()[0]:.2f} s, {torch.get_num_threads()} threads")
    notes = three_minutes()
    times = []
    for _ in range(1 + ROUNDS):
        watch = Stopwatch()
        found = identifier.identify(notes)
        times.append(watch.read())
    wall, cpu = ([time[of] for time in times[1:]] for of in (0, 1))
    subsets = len(found.concepts) + bool(found.silence)
    print(f"first answer: {times[0][0]:.2f} s, CPU {times[0][1]:.2f} s")
    print(f"{MINUTES} minutes, {len(found.clips)} clips, {subsets} subsets: {spread(wall)}, CPU {spread(cpu)}")


if __name__ == "__main__":
    main(sys.argv[1:])
