"""How long a clip takes from packed notes to a batch of 20, on one core, in the form in which training draws it.

    python tests/benchmarks/loader.py                                          the demo's training clips
    python tests/benchmarks/loader.py --data-root ROOT --split 20class_80min   those of a data set, here of 60 s
    python tests/benchmarks/loader.py --seconds 30                             only what is heard from 0 to 30 s

Every clip is augmented and starts at a random moment; rhythm and dynamics have random keys; rolls are normalised. Each
round draws one batch by every way, so that what else the machine does falls on all of them; the first is not counted.
Times are milliseconds a clip, the median of the rounds and their range, as CPU time of the process and by the clock.
The reference took 72 to 93 ms for a clip of four channels and 26 to 32 for one, its parsing included.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from unittest.mock import patch

import numpy as np
import torch

from pianistid_core import drawing
from pianistid_core.batches import FORMS
from pianistid_core.clips import ClipOptions
from pianistid_core.datasets.cache import open_note_cache
from pianistid_core.datasets.demo.making import make_demo
from pianistid_core.datasets.root import DataRoot
from pianistid_core.drawing import Chance, Room, draw
from pianistid_core.packed_notes import PackedNotes
from pianistid_core.rolls import N_FRAMES, N_KEYS

BATCH = 20
ONE = ClipOptions(data_augmentation=True, augmentation_probability=1.0, jitter_start=True)
FOUR = ClipOptions(multichannel=True, data_augmentation=True, augmentation_probability=1.0, jitter_start=True)
CHANNELS = {"four channels": FOUR, "one channel": ONE}
REFERENCE_MS = {"four channels": (72, 93), "one channel": (26, 32)}
PLAIN, MEMORY = "plain NumPy, float32", "writing the memory alone"

Times = dict[str, list[tuple[float, float]]]


def packed_notes(arguments: argparse.Namespace) -> PackedNotes:
    if arguments.data_root:
        packed = open_note_cache(DataRoot.open(arguments.data_root), arguments.split, arguments.part).packed
    else:
        root = DataRoot(Path(tempfile.mkdtemp()))
        make_demo(root)
        packed = open_note_cache(root, "demo", arguments.part).packed
    if not arguments.seconds:
        return packed
    return PackedNotes.of([packed.notes(i).between(0.0, arguments.seconds) for i in range(len(packed))])


def timed(work: Callable[[], object]) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return 1000 * (time.process_time() - cpu) / BATCH, 1000 * (time.perf_counter() - wall) / BATCH


def measured(packed: PackedNotes, options: ClipOptions, rounds: int) -> Times:
    rng, times, room = np.random.default_rng(0), Times(), Room()
    memory = torch.empty(BATCH, options.n_channels, N_KEYS, N_FRAMES)
    for number in range(rounds + 1):
        clips = rng.choice(len(packed), BATCH, replace=len(packed) < BATCH).tolist()
        one_batch = partial(draw, packed, clips, options, Chance(0, number, 0, 10, training=True), room=room)
        times.setdefault(MEMORY, []).append(timed(memory.zero_))
        for form in FORMS:
            times.setdefault(form, []).append(timed(partial(one_batch, form=form)))
        with patch.object(drawing, "compiled_rolls", return_value=None):
            times.setdefault(PLAIN, []).append(timed(partial(one_batch, form="float32")))
    return {name: values[1:] for name, values in times.items()}


def report(channels: str, times: Times) -> None:
    low, high = REFERENCE_MS[channels]
    print(f"\n{channels}{'':24s} CPU ms a clip              by the clock              times faster than the reference")
    for name, values in times.items():
        (cpu, wall) = ([value[i] for value in values] for i in (0, 1))
        row = "".join(f"{median(one):9.4f} ({min(one):.4f} to {max(one):.4f})" for one in (cpu, wall))
        faster = "" if name == MEMORY else f"{low / median(cpu):8.0f} to {high / median(cpu):.0f}"
        print(f"  {name:26s}{row}  {faster}")
    by_plain = {
        form: median(plain[0] / fast[0] for plain, fast in zip(times[PLAIN], times[form], strict=True))
        for form in FORMS
    }
    print("  plain NumPy / compiled:   " + ", ".join(f"{form} {ratio:.0f}" for form, ratio in by_plain.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--split", default="20class_80min")
    parser.add_argument("--part", default="train")
    parser.add_argument("--seconds", type=float, help="keep only notes that begin before this second of a clip")
    parser.add_argument("--rounds", type=int, default=25)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    packed = packed_notes(arguments)
    notes = int(packed.starts[-1]) / len(packed)
    print(f"{len(packed)} clips of {notes:.0f} notes, {arguments.rounds} batches of {BATCH}, one thread")
    for channels, options in CHANNELS.items():
        report(channels, measured(packed, options, arguments.rounds))


if __name__ == "__main__":
    main()
