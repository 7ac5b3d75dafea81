"""How import, doctor, cache and loader grow with the number of clips, and what that makes of a million.

    python tests/benchmarks/growth.py [--sizes 1000,10000,100000] [--workers 1] [--at FOLDER]

For each size, made-up clips of 300 notes, all different, are written to a folder in the archive's layout; then it is
imported, examined, packed and loaded, each step in a process of its own, whose CPU time (its children's too) and whose
memory above its start are printed. 100,000 clips take some minutes and 2 GB of disk under `--at`, emptied again.

The exponent is the slope of log time over log size, 1 for linear: over all sizes, and between the last two, where fixed
costs such as loading numba no longer flatten it. The time at a million is that of the largest size times its ratio.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pianistid_core.datasets.root import DataRoot, Split, SplitEntry, write_split

CLIPS_A_RECORDING = 8
PIANISTS = 20
NOTES = 300
BATCHES = 30
MILLION = 1_000_000
MB = 1 << 20


def a_clip(rng: np.random.Generator) -> bytes:
    """A MIDI file of a tune by chance, in C and on a grid of 0.1 s, so that clips resemble each other a little.

    Every event takes five bytes, delta times two of them, so that no loop over notes is needed.
    """
    starts = np.sort(rng.integers(0, 280, NOTES)) * 96
    steps = 20 + np.abs(np.cumsum(rng.integers(-4, 5, NOTES)) + rng.integers(0, 42)) % 42
    keys = np.array([0, 2, 4, 5, 7, 9, 11])[steps % 7] + 12 * (steps // 7) + 12
    ticks = np.concatenate([starts, starts + rng.integers(100, 900, NOTES)])
    events = np.zeros((2 * NOTES, 5), np.uint8)
    events[:, 2] = np.repeat([0x90, 0x80], NOTES)
    events[:, 3] = np.tile(keys, 2)
    events[:, 4] = np.concatenate([rng.integers(20, 127, NOTES), np.zeros(NOTES, int)])
    order = np.argsort(ticks, kind="stable")
    deltas = np.diff(ticks[order], prepend=0)
    events = events[order]
    events[:, 0], events[:, 1] = deltas >> 7 | 0x80, deltas & 0x7F
    body = events.tobytes() + b"\x00\xff\x2f\x00"
    header = b"MThd\x00\x00\x00\x06\x00\x00\x00\x01\x01\xe0"
    return header + b"MTrk" + len(body).to_bytes(4, "big") + body


def make(folder: Path, n_clips: int) -> None:
    """A data set in the archive's layout: nine in ten recordings train, the others test."""
    root, rng = DataRoot(folder), np.random.default_rng(n_clips)
    parts: dict[str, list[SplitEntry]] = {"train": [], "test": []}
    for number in range(n_clips // CLIPS_A_RECORDING):
        track = f"made/recording-{number:06}"
        at = root.clips_dir / track
        at.mkdir(parents=True)
        for clip in range(CLIPS_A_RECORDING):
            (at / f"clip_{clip:03}.mid").write_bytes(a_clip(rng))
        parts["train" if number % 10 else "test"].append(SplitEntry(track, number % PIANISTS, 30.0 * CLIPS_A_RECORDING))
    names = tuple(f"Pianist {number}" for number in range(PIANISTS))
    write_split(root, Split("grown", names, {part: tuple(entries) for part, entries in parts.items()}))


# --- steps: each runs in a process of its own ------------------------------------------------------------------------


def step_import(made: Path, root: Path, workers: int) -> None:
    from pianistid_core.datasets.importing import import_source

    import_source(DataRoot(root), made, workers=workers)


def step_doctor(made: Path, root: Path, workers: int) -> None:
    from pianistid_core.datasets.doctor import check

    check(DataRoot(root), workers=workers)


def step_cache(made: Path, root: Path, workers: int) -> None:
    from pianistid_core.datasets.cache import open_note_cache

    open_note_cache(DataRoot(root), "grown", "train", workers=workers)


def step_loader(made: Path, root: Path, workers: int) -> dict[str, float]:
    """The first batches of a shuffled epoch, after one of the test part, which loads and compiles what has to be."""
    from pianistid_core.loader import ClipDataset, make_loader

    next(iter(make_loader(ClipDataset.open(root, "grown", "test"), batch_size=20, shuffle=True)))
    before = anonymous_mb()
    dataset = ClipDataset.open(root, "grown", "train")
    loader = iter(make_loader(dataset, batch_size=20, shuffle=True))
    began, n_clips, most_mb = time.process_time(), 0, 0.0
    for _ in range(BATCHES):
        n_clips += len(next(loader).labels)
        most_mb = max(most_mb, anonymous_mb())
    spent_s = time.process_time() - began
    return {"ms a clip": 1000 * spent_s / n_clips, "own memory while iterating, MB": most_mb - before}


STEPS: dict[str, Callable[[Path, Path, int], dict[str, float] | None]] = {
    "import": step_import,
    "doctor": step_doctor,
    "cache build": step_cache,
    "cache open": step_cache,
    "loader": step_loader,
}


def anonymous_mb() -> float:
    """Memory that is this process's own: not the files that it maps, whose pages the system takes back as it likes."""
    with open("/proc/self/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["RssAnon"].split()[0]) / 1024


def run_step(name: str, made: Path, root: Path, workers: int) -> None:
    """Runs a step here and prints what it took, as JSON."""
    from pianistid_core import loader  # noqa: F401  what is loaded anyway counts as the start

    before = anonymous_mb()
    began_s = time.perf_counter()
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_s = -sum(usage.ru_utime + usage.ru_stime for usage in usages)
    peak = usages[0].ru_maxrss / 1024
    facts = STEPS[name](made, root, workers) or {}
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_s += sum(usage.ru_utime + usage.ru_stime for usage in usages)
    facts |= {"cpu_s": cpu_s, "wall_s": time.perf_counter() - began_s}
    facts |= {"peak_mb": usages[0].ru_maxrss / 1024 - peak, "held_mb": anonymous_mb() - before}
    print(json.dumps(facts))


def measured(name: str, made: Path, root: Path, workers: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--step", name, str(made), str(root), "--workers", str(workers)]
    environment = {**os.environ, "PIANISTID_CACHE": str(root.parent / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr}")
    facts: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return facts


# --- the report ------------------------------------------------------------------------------------------------------


def grow(sizes: list[int], workers: int, at: Path) -> dict[str, dict[int, dict[str, float]]]:
    found: dict[str, dict[int, dict[str, float]]] = {name: {} for name in STEPS}
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=at) as folder:
            made, root = Path(folder, "made"), Path(folder, "root")
            make(made, size)
            for name in STEPS:
                found[name][size] = facts = measured(name, made, root, workers)
                if name == "import":
                    shutil.rmtree(made)
                more = "".join(
                    f", {key} {value:.3f}" for key, value in facts.items() if not key.endswith(("_s", "_mb"))
                )
                print(
                    f"{size:>9,} clips  {name:12s} CPU {facts['cpu_s']:8.2f} s, wall {facts['wall_s']:8.2f} s, "
                    f"{1e6 * facts['cpu_s'] / size:7.0f} us a clip; memory: peak +{facts['peak_mb']:.0f} MB, own at "
                    f"the end +{facts['held_mb']:.1f} MB{more}",
                    flush=True,
                )
    return found


def report(found: dict[str, dict[int, dict[str, float]]]) -> None:
    print("\nexponent of time over all sizes / between the last two, and a million clips:")
    for name, by_size in found.items():
        sizes = sorted(by_size)
        times = [by_size[size]["cpu_s"] for size in sizes]
        if len(sizes) < 2 or name == "loader":
            continue
        overall = float(np.polyfit(np.log(sizes), np.log(times), 1)[0])
        last = float(np.log(times[-1] / times[-2]) / np.log(sizes[-1] / sizes[-2]))
        slope = (times[-1] - times[-2]) / (sizes[-1] - sizes[-2])
        linear_s = times[-1] + slope * (MILLION - sizes[-1])
        power_s = times[-1] * (MILLION / sizes[-1]) ** max(1.0, last)
        held = [by_size[size]["peak_mb"] for size in sizes]
        a_clip_bytes = (held[-1] - held[-2]) * MB / (sizes[-1] - sizes[-2])
        print(
            f"  {name:12s} {overall:5.2f} / {last:4.2f}   {linear_s / 60:6.1f} min of CPU by the last two sizes' line, "
            f"{power_s / 60:6.1f} by the exponent; peak memory {a_clip_bytes:7.0f} bytes a clip"
        )
    by_size = found["loader"]
    sizes = sorted(by_size)
    if len(sizes) > 1:
        most_mb = [by_size[size]["own memory while iterating, MB"] for size in sizes]
        per_clip = (most_mb[-1] - most_mb[-2]) * MB / (sizes[-1] - sizes[-2])
        print(
            f"  loader, own memory while iterating: {', '.join(f'{mb:.1f}' for mb in most_mb)} MB, "
            f"{per_clip:.0f} bytes for each clip more in the data set"
        )
        print("  loader, ms a clip:", ", ".join(f"{by_size[size]['ms a clip']:.3f}" for size in sizes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000,10000,100000", help="numbers of clips, with commas")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--at", type=Path, help="where to make the data (default: the system's folder for such)")
    parser.add_argument("--step", nargs=3, metavar=("NAME", "MADE", "ROOT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        name, made, root = options.step
        run_step(name, Path(made), Path(root), options.workers)
        return
    report(grow([int(size) for size in options.sizes.split(",")], options.workers, options.at))


if __name__ == "__main__":
    main()
