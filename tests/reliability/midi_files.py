"""Hostile MIDI files, and real ones damaged at random: how many are read or refused in a sentence, and what they cost.

    python tests/reliability/midi_files.py [--mutations 20000] [--archive jazz20.zip] [--hostile midi.zip]

Each file goes to the plain reader, to the compiled one, which must agree with it, and the way on of one that is read:
it is cut into clips and these are written, as an import does, and a small network names its pianist. Processes of
their own do it, with 500 MB to go. Mutated are the clips of `--archive`, or else the golden ones. Exit status 1 when a
file crashed or hung a reader, gave no clear sentence or two different answers, or took over 5 s of CPU or 500 MB.
"""

import argparse
import importlib
import random
import sys
import time
import warnings
import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from trial import Outcome, report, tried

from hostile_midi import MidiCase, cases, damaged
from pianistid_core.bulk_midi import read_many
from pianistid_core.checkpoints import LoadedModel
from pianistid_core.datasets.performances import cut
from pianistid_core.errors import ExtractionError, MidiError
from pianistid_core.identify import Identifier
from pianistid_core.midi import Notes, read_midi
from pianistid_core.models import build_model
from tiny import tiny_config

TESTS = Path(__file__).resolve().parents[1]
_MOST_S, _MOST_MB = 5, 500
_AT_ONCE = 500
# The longest, the fullest, and one note of four hours.
_IDENTIFIED = {"M34 200,000 notes in 4 hours", "M34 200,000 notes", "M18 a note of four hours", "M33 256 tracks"}
_FIELDS = ("onsets_s", "offsets_s", "pitches", "velocities")


def read_by_both(data: bytes) -> str | None:
    """None when both readers give the same notes, or the sentence with which both refuse."""
    reading = read_many([data])
    try:
        notes = read_midi(data)
    except MidiError as error:
        if reading.fallbacks or str(reading.errors.get(0)) != str(error):
            raise AssertionError(f"one reader refuses ({error}), the other says {reading.errors}") from error
        return str(error)
    if reading.fallbacks or reading.errors or not same(notes, reading.packed.notes(0)):
        raise AssertionError(f"the readers differ: {len(notes)} notes, {len(reading.packed.notes(0))}")
    return None


def same(one: Notes, other: Notes) -> bool:
    return all(np.array_equal(getattr(one, field), getattr(other, field)) for field in _FIELDS)


def imported(data: bytes) -> str | None:
    """What an import makes of a file: its clips, as files."""
    return cut(data).problem or None


def identified(identifier: Identifier, data: bytes) -> str | None:
    try:
        identifier.identify(data)
    except (MidiError, ExtractionError) as error:
        return str(error)
    return None


def many_damaged(whole: Sequence[bytes], seeds: range) -> str | None:
    """Reads many damaged files; the sentence says how many were refused, and the most that one took."""
    refused, slowest = 0, 0.0
    for seed in seeds:
        data = damaged(whole, random.Random(seed))
        began = time.process_time()
        try:
            said = read_by_both(data)
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
        slowest = max(slowest, time.process_time() - began)
        if said is not None and (len(said) < 20 or not said.isprintable()):
            raise AssertionError(f"seed {seed}: no sentence: {said!r}")
        refused += said is not None
    return f"{refused} of {len(seeds)} refused, the slowest in {slowest:.3f} s"


def hand_made(hostile: Path | None) -> list[MidiCase]:
    found = cases()
    if hostile is not None:
        with zipfile.ZipFile(hostile) as opened:
            found += [
                MidiCase(f"{hostile.name}: {name}", partial(opened_member, hostile, name), "")
                for name in opened.namelist()
            ]
    return found


def opened_member(archive: Path, name: str) -> bytes:
    with zipfile.ZipFile(archive) as opened:
        return opened.read(name)


def real_files(archive: Path | None) -> list[bytes]:
    if archive is None:
        return [path.read_bytes() for path in sorted((TESTS / "golden").glob("*.mid"))]
    with zipfile.ZipFile(archive) as opened:
        return [opened.read(name) for name in sorted(opened.namelist()) if name.endswith((".mid", ".midi"))][::8]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=20_000)
    parser.add_argument("--archive", type=Path, help="a zip of real MIDI files to damage")
    parser.add_argument("--hostile", type=Path, help="a zip of more hostile files")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    whole = real_files(options.archive)
    importlib.import_module("pianistid_core.compiled_midi")  # loaded, it is what read_many uses
    read_many(whole[:1])  # and compiled once, here, for all that are forked
    config = tiny_config()
    model = build_model(config.encoder_module, config.model_cfg, 3).eval()
    identifier = Identifier(LoadedModel(model, config, ("a", "b", "c"), Path("tiny.pth"), None), torch.device("cpu"))

    readings: list[Outcome] = []
    imports: list[Outcome] = []
    identifications: list[Outcome] = []
    for case in hand_made(options.hostile):
        data = case.make()
        readings.append(tried(case.name, partial(read_by_both, data), limit_s=60, limit_mb=_MOST_MB))
        if readings[-1].end == "read":
            imports.append(tried(case.name, partial(imported, data), limit_s=120))
            if case.name in _IDENTIFIED:
                identifications.append(tried(case.name, partial(identified, identifier, data), limit_s=300))
    batches = [
        range(start, min(start + _AT_ONCE, options.mutations)) for start in range(0, options.mutations, _AT_ONCE)
    ]
    mutated = [
        tried(f"seeds from {batch.start}", partial(many_damaged, whole, batch), limit_s=600) for batch in batches
    ]
    kept = report("hostile MIDI files, by both readers", readings, most_s=_MOST_S, most_mb=_MOST_MB)
    kept &= report("  imported, those that are read", imports, most_s=_MOST_S, most_mb=_MOST_MB)
    report("  identified, those that are read", identifications, most_s=600, most_mb=_MOST_MB)
    if mutated:
        kept &= report(f"real files damaged, {_AT_ONCE} at a time", mutated, most_s=600, most_mb=_MOST_MB)
        counts = [int(one.said.split()[0]) for one in mutated if one.end == "refused"]
        slowest = max(float(one.said.split()[-2]) for one in mutated if one.end == "refused")
        print(f"  {options.mutations} damaged files: {sum(counts)} refused, slowest single file {slowest:.3f} s of CPU")
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
