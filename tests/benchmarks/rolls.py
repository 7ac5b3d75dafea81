"""How long a clip takes, from file to notes and from notes to rolls, beside what it is compared with.

    python tests/benchmarks/rolls.py

Times are CPU milliseconds a clip on one core, the median of several passes over the golden clips; ratios are taken
within one pass, so that they hold on any machine. The reference implementation took 72 to 93 ms for a clip of four
channels (measured on another machine), and writing that much memory 0.18 ms.
"""

import io
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np
import pretty_midi

from pianistid_core.concepts import concept_rolls
from pianistid_core.errors import ExtractionError
from pianistid_core.midi import Notes, read_midi
from pianistid_core.rolls import N_FRAMES, N_KEYS, normalise, piano_roll

GOLDEN = Path(__file__).parent.parent / "golden"
PASSES = 9
T = TypeVar("T")


def milliseconds(work: Callable[[T], object], items: Sequence[T]) -> float:
    began = time.process_time()
    for item in items:
        work(item)
    return 1000 * (time.process_time() - began) / len(items)


def drawable(notes: Notes) -> bool:
    try:
        concept_rolls(notes)
    except ExtractionError:
        return False
    return True


def main() -> None:
    warnings.simplefilter("ignore")
    files = [path.read_bytes() for path in sorted(GOLDEN.glob("*.mid"))]
    clips = [notes for notes in map(read_midi, files) if drawable(notes)]
    works: dict[str, tuple[Callable[..., object], Sequence[object]]] = {
        "write 4 x 88 x 3000 float32": (lambda notes: np.full((4, N_KEYS, N_FRAMES), 1, np.float32), clips),
        "four channels, normalised while drawn": (lambda notes: concept_rolls(notes, normalised=True), clips),
        "four channels, normalised after": (lambda notes: normalise(concept_rolls(notes)), clips),
        "one channel, normalised while drawn": (lambda notes: piano_roll(notes, normalised=True), clips),
        "file to notes": (read_midi, files),
        "file to notes by pretty_midi": (lambda data: pretty_midi.PrettyMIDI(io.BytesIO(data)), files),
    }
    passes = [{name: milliseconds(work, items) for name, (work, items) in works.items()} for _ in range(PASSES)]
    print(f"{sum(map(len, clips)) / len(clips):.0f} notes a clip, {len(clips)} clips, median of {PASSES} passes")
    for name in works:
        values = [times[name] for times in passes]
        print(f"{name:40s} {median(values):7.3f} ms   ({min(values):.3f} to {max(values):.3f})")
    for name, base in (
        ("four channels, normalised while drawn", "write 4 x 88 x 3000 float32"),
        ("file to notes by pretty_midi", "file to notes"),
    ):
        print(f"{name} / {base}: {median(times[name] / times[base] for times in passes):.1f}")


if __name__ == "__main__":
    main()
