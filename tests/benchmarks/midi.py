"""How long reading MIDI files takes in bulk, beside one by one and by pretty_midi.

    python tests/benchmarks/midi.py [--archive jazz20.zip] [--passes 7]

Times are CPU microseconds a file on one core, the median of several passes and their range. The files are those of a
zip, or the golden clips over and over. "From disk" opens and reads each file too, from the system's cache. Loading the
compiled reader, once a process, is timed apart; compiling it, once a machine, is not in any figure.
"""

import argparse
import io
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import pretty_midi

from pianistid_core.bulk_midi import read_many, read_many_files
from pianistid_core.errors import MidiError
from pianistid_core.midi import read_midi

GOLDEN = Path(__file__).parent.parent / "golden"
BY_PRETTY_MIDI = 40
ONE_BY_ONE = 400


def spent_us(work: Callable[[], object], n_files: int) -> float:
    began = time.process_time()
    work()
    return 1e6 * (time.process_time() - began) / n_files


def the_files(archive: Path | None) -> list[bytes]:
    if archive is None:
        return [path.read_bytes() for path in sorted(GOLDEN.glob("*.mid"))] * 100
    with zipfile.ZipFile(archive) as opened:
        return [opened.read(name) for name in sorted(opened.namelist()) if name.lower().endswith((".mid", ".midi"))]


def some(items: Sequence[bytes], n: int) -> list[bytes]:
    return list(items[:: max(1, len(items) // n)])


def by_read_midi(datas: Sequence[bytes]) -> None:
    for data in datas:
        try:
            read_midi(data)
        except MidiError:
            continue


def by_pretty_midi(datas: Sequence[bytes]) -> None:
    for data in datas:
        pretty_midi.PrettyMIDI(io.BytesIO(data))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, help="a zip of MIDI files (default: the golden clips)")
    parser.add_argument("--passes", type=int, default=7)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    files = the_files(options.archive)
    few, fewer = some(files, ONE_BY_ONE), some(files, BY_PRETTY_MIDI)
    began = time.process_time()
    reading = read_many(files)
    first_s = time.process_time() - began
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{number}.mid") for number in range(len(files))]
        for path, data in zip(paths, files, strict=True):
            path.write_bytes(data)
        works: dict[str, tuple[Callable[[], object], int]] = {
            "in bulk, from memory": (lambda: read_many(files), len(files)),
            "in bulk, from disk": (lambda: read_many_files(paths), len(files)),
            "one by one, read_midi": (lambda: by_read_midi(few), len(few)),
            "one by one, pretty_midi": (lambda: by_pretty_midi(fewer), len(fewer)),
        }
        passes = [{name: spent_us(*work) for name, work in works.items()} for _ in range(options.passes)]
    notes = int(reading.packed.starts[-1]) / len(files)
    print(f"{len(files)} files, {sum(map(len, files)) / len(files):.0f} bytes and {notes:.0f} notes each")
    print(f"fallbacks to the slower reader: {reading.fallbacks}; files that cannot be read: {len(reading.errors)}")
    print(f"loading the compiled reader and reading all once: {first_s:.2f} s")
    for name in works:
        values = [one[name] for one in passes]
        print(f"{name:26s} {median(values):9.1f} us a file   ({min(values):.1f} to {max(values):.1f})")
    for name in ("one by one, read_midi", "one by one, pretty_midi"):
        ratios = [one[name] / one["in bulk, from disk"] for one in passes]
        print(f"{name} / in bulk, from disk: {median(ratios):.0f} ({min(ratios):.0f} to {max(ratios):.0f})")


if __name__ == "__main__":
    main()
