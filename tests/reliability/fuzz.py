"""Coverage-guided fuzzing of the doors through which foreign files come in: MIDI, YAML, archives.

    python tests/reliability/fuzz.py --door midi|yaml|archive [--minutes 30] [--corpus FOLDER] [--archive jazz20.zip]

Prints how many inputs were tried, how many gave anything but data or one of the program's own errors, and the most
memory; inputs that did are kept beside the corpus. Of MIDI, the plain and the compiled reader must give the same notes;
an archive is imported whole, and must leave nothing outside its data root, and nothing in it when it is refused. An
input that takes more than 5 s, or the process more than 2 GB, counts too. Exit status 1 when there was any. Seeds are
the hostile files of the tests, configs and golden clips, and the clips of `--archive`. It needs atheris (libFuzzer for
Python), which nothing else does: `pip install atheris`.
"""

import argparse
import contextlib
import hashlib
import importlib
import io
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

DOORS = ("midi", "yaml", "archive")
_LONGEST_S, _MOST_MB = 5, 2048
_MAX_LEN = {"midi": 16_384, "yaml": 4_096, "archive": 16_384}
_MOST_FINDINGS = 50
_WATCHED = {
    "midi": ["pianistid_core.midi", "pianistid_core.bulk_midi"],
    "yaml": ["pianistid_core.strict_yaml", "pianistid_core.schema", "pianistid_core.config", "yaml"],
    "archive": [
        "pianistid_core.datasets.archives",
        "pianistid_core.datasets.importing",
        "pianistid_core.datasets.layout",
        "pianistid_core.datasets.performances",
        "pianistid_core.datasets.staging",
        "pianistid_core.datasets.tables",
        "pianistid_core.datasets.recordings",
        "pianistid_core.names",
        "zipfile",
    ],
}


class Broken(Exception):
    """A promise that an input broke without raising anything."""


# --- what is done with an input --------------------------------------------------------------------------------------


def midi_door() -> Callable[[bytes], None]:
    import numpy as np

    import pianistid_core.compiled_midi  # noqa: F401  loaded, it is what read_many uses
    from pianistid_core.bulk_midi import read_many
    from pianistid_core.errors import MidiError
    from pianistid_core.midi import read_midi, split_into_clips, write_midi

    def read(data: bytes) -> None:
        reading = read_many([data])
        if reading.fallbacks:
            raise Broken("the compiled reader refuses what the plain one reads")
        try:
            notes = read_midi(data)
        except MidiError as error:
            if str(reading.errors.get(0)) != str(error) or len(str(error)) < 20 or "\n" in str(error):
                raise Broken(f"not one sentence in both: {error!s} | {reading.errors.get(0)}") from error
            return
        for field in ("onsets_s", "offsets_s", "pitches", "velocities"):
            if not np.array_equal(getattr(notes, field), getattr(reading.packed.notes(0), field)):
                raise Broken(f"the readers differ in {field}")
        clips = split_into_clips(notes)
        if len(clips) > 480 or sum(map(len, clips)) > 2 * len(notes):
            raise Broken(f"{len(notes)} notes became {len(clips)} clips")
        write_midi(clips[0])

    return read


def yaml_door() -> Callable[[bytes], None]:
    from pianistid_core.config import parse_config, to_yaml
    from pianistid_core.errors import ConfigError
    from pianistid_core.strict_json import parse_json
    from pianistid_core.strict_yaml import read_value, read_written_yaml, read_yaml, write_yaml

    def read(data: bytes) -> None:
        with contextlib.suppress(ValueError):
            parse_json(data)
        with contextlib.suppress(ConfigError):
            read_value(data, source="fuzz")
        with contextlib.suppress(ConfigError):
            read_written_yaml(data)
        try:
            plain = read_yaml(data)
        except ConfigError as error:
            if "\n" in str(error) or len(error.faults) != 1:
                raise Broken(f"not one sentence: {error!s}") from error
            return
        text = write_yaml(plain)
        if repr(read_yaml(text)) != repr(plain):
            raise Broken("what is written is not read back")
        try:
            config = parse_config(plain, source="fuzz")
        except ConfigError:
            return
        if to_yaml(parse_config(read_yaml(to_yaml(config)), source="again")) != to_yaml(config):
            raise Broken("a config does not come back the same")

    return read


def archive_door() -> Callable[[bytes], None]:
    from pianistid_core.datasets.importing import import_source
    from pianistid_core.datasets.root import DataRoot
    from pianistid_core.errors import DataError

    folder = Path(tempfile.mkdtemp(prefix="fuzzed-archives-"))
    source, place = folder / "fuzz.zip", folder / "root"

    def read(data: bytes) -> None:
        source.write_bytes(data if data[:2] == b"PK" else built_zip(data))
        try:
            import_source(DataRoot(place), source, name="fuzz")
        except DataError as error:
            if "\n" in str(error) or place.exists():
                raise Broken(f"not one sentence, or something is left: {error!s}") from error
        if {entry.name for entry in folder.iterdir()} - {"fuzz.zip", "root"}:
            raise Broken("something lies outside the data root")
        if place.exists():
            if list(place.glob(".import-*")):
                raise Broken("a staging folder is left")
            shutil.rmtree(place)

    return read


def built_zip(data: bytes) -> bytes:
    """A zip that the fuzzer's bytes describe, whose checksums are right, so that more than the first check is met."""
    import atheris

    given = atheris.FuzzedDataProvider(data)
    body, directory, n = b"", b"", given.ConsumeIntInRange(0, 6)
    for _ in range(n):
        name = (
            given.PickValueInList(_NAMES) if given.ConsumeBool() else given.ConsumeBytes(given.ConsumeIntInRange(0, 60))
        )
        content = given.PickValueInList(_CONTENTS) if given.ConsumeBool() else given.ConsumeBytes(200)
        method = given.PickValueInList([0, 0, 8, 8, 8, 9, 12, 14, 99])
        packed = zlib.compress(content, 9)[2:-4] if method == 8 else content
        flags = given.PickValueInList([0, 0, 0, 1, 8, 0x800, 0x2000])
        size = len(content) if given.ConsumeIntInRange(0, 9) else given.ConsumeIntInRange(0, 2**32 - 1)
        offset = len(body) if given.ConsumeIntInRange(0, 9) else given.ConsumeIntInRange(0, len(body) + 50)
        mode = 0o644 << 16 if given.ConsumeIntInRange(0, 9) else given.ConsumeIntInRange(0, 2**32 - 1)
        extra = given.ConsumeBytes(given.ConsumeIntInRange(0, 9)) if given.ConsumeIntInRange(0, 9) == 0 else b""
        crc, shared = zlib.crc32(content), (20, flags, method, 0, 0x21)
        body += struct.pack("<4s5H3L2H", b"PK\3\4", *shared, crc, len(packed), size, len(name), len(extra))
        body += name + extra + packed
        fields = (crc, len(packed), size, len(name), len(extra), 0, 0, 0, mode, offset)
        directory += struct.pack("<4s6H3L5H2L", b"PK\1\2", 0x314, *shared, *fields) + name + extra
    count = n if given.ConsumeIntInRange(0, 9) else given.ConsumeIntInRange(0, 65_535)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), len(body), 0)
    return body + directory + end + given.ConsumeBytes(given.ConsumeIntInRange(0, 20))


_NAMES = [
    b"Ada/one.mid", b"Ben/two.MIDI", b"../x.mid", b"/etc/x.mid", b"C:\\x.mid", b"a/../b.mid",
    b"x/Ada/a.mid", b"x/Ben/b.mid",
    b"data/clips/s/r/clip_000.mid", b"data/clips/s/r/clip_001.mid", b"data/raw/s/r/piano_midi.mid",
    b"data/raw/s/r/metadata.json", b"references/data_splits/p/train_split.csv",
    b"references/data_splits/p/test_split.csv",
    b"references/data_splits/p/pianist_mapping.csv", b"references/recordings.csv",
    b"checkpoints/e/r/checkpoint_001.pth",
    b"__MACOSX/._a.mid", b"a/b.zip", b"\xff\xfe/a.mid", "\u202eAda/x.mid".encode(), b"Ada/\n.mid", b"CON/nul.mid",
]  # fmt: skip
_MIDI = bytes.fromhex("4d546864000000060000000101e04d54726b0000000c00903c50830080 3c0000ff2f00".replace(" ", ""))
_CONTENTS = [
    _MIDI, b"", b"{}", b"track,pianist\ns/r,Ada\n", b",pianist,track,idx\n0,Ada,s/r,0\n", b"[" * 5000, b"\xff" * 200,
    b"recording,pianist,duration_s\ns/r,Ada,nan\n", b'track,pianist\n"s/r,Ada\n', b"PK\3\4", b"index,pianist\n0,Ada\n",
]  # fmt: skip


# --- seeds -----------------------------------------------------------------------------------------------------------


def seeds(door: str, archive: Path | None) -> list[bytes]:
    found: list[bytes] = []
    if door == "midi":
        from hostile_midi import cases

        found += [path.read_bytes() for path in (TESTS / "golden").glob("*.mid")]
        if archive is not None:
            with zipfile.ZipFile(archive) as opened:
                names = sorted(name for name in opened.namelist() if name.endswith(".mid"))
                found += [opened.read(name) for name in names[:: max(1, len(names) // 200)]]
        found += [case.make() for case in cases()]
    elif door == "yaml":
        found += [path.read_bytes() for path in (TESTS.parent / "config").rglob("*.yaml")]
        with contextlib.suppress(ImportError):
            from hostile_yaml import REFUSED

            found += [
                text.encode("utf-8", "replace") if isinstance(text, str) else text for text, _ in REFUSED.values()
            ]
    else:
        found += [path.read_bytes() for path in (TESTS / "hostile" / "archives").iterdir()]
        found += [whole_zip(random.Random(number)) for number in range(20)]
        found += [random.Random(number).randbytes(400) for number in range(100)]
    return [data for data in found if 0 < len(data) <= _MAX_LEN[door]]


def whole_zip(rng: random.Random) -> bytes:
    """A zip of a few names and contents that an import knows."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as opened:
        for name in rng.sample(_NAMES, rng.randint(1, 6)):
            opened.writestr(name.decode("utf-8", "replace"), rng.choice(_CONTENTS))
    return buffer.getvalue()


# --- the fuzzer, in processes of its own -----------------------------------------------------------------------------


def fuzz_here(door: str, arguments: list[str]) -> None:
    """Fuzzes until libFuzzer ends this process."""
    import atheris

    # The compiled reader cannot be watched from inside: numba would compile the watching too.
    with atheris.instrument_imports(include=_WATCHED[door], exclude=["pianistid_core.compiled_midi"]):
        for name in _WATCHED[door]:
            sys.modules.pop(name, None)
            importlib.import_module(name)
        read = {"midi": midi_door, "yaml": yaml_door, "archive": archive_door}[door]()
    atheris.Setup([sys.argv[0], *arguments], read)
    atheris.Fuzz()


def fuzzed(door: str, seconds: float, corpus: Path) -> tuple[int, int, int]:
    """Inputs tried, findings, most megabytes; after a finding it goes on with what time is left."""
    findings_folder = corpus.with_name(f"{corpus.name}-findings")
    findings_folder.mkdir(exist_ok=True)
    until, tried, findings, most_mb = time.monotonic() + seconds, 0, 0, 0
    while (left := until - time.monotonic()) > 1 and findings < _MOST_FINDINGS:
        command = [sys.executable, __file__, "--door", door, "--here", str(corpus), f"-max_total_time={int(left)}",
                   f"-timeout={_LONGEST_S}", f"-rss_limit_mb={_MOST_MB}", f"-max_len={_MAX_LEN[door]}",
                   f"-artifact_prefix={findings_folder}/", "-print_final_stats=1", "-verbosity=1"]  # fmt: skip
        ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
        numbers = {name: int(value) for name, value in re.findall(r"stat::(\w+):\s+(\d+)", ended.stderr)}
        tried += numbers.get("number_of_executed_units", 0)
        most_mb = max(most_mb, numbers.get("peak_rss_mb", 0))
        if not numbers:
            raise SystemExit(f"{ended.stderr[-2000:]}\nthe fuzzer did not begin")
        if ended.returncode != 0:
            findings += 1
            print(f"--- finding {findings}, exit status {ended.returncode}", *ended.stderr.splitlines()[-40:], sep="\n")
    return tried, findings, most_mb


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--door", choices=DOORS, required=True)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--corpus", type=Path, help="a folder to keep inputs in (default: a temporary one)")
    parser.add_argument("--archive", type=Path, help="a zip of real MIDI files to begin from")
    parser.add_argument("--here", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        import atheris  # noqa: F401
    except ImportError:
        raise SystemExit("this needs atheris, which nothing else here does: pip install atheris") from None
    if options.here:
        fuzz_here(options.door, options.here)
        return
    with tempfile.TemporaryDirectory(prefix="fuzz-") as temporary:
        corpus = options.corpus or Path(temporary, options.door)
        corpus.mkdir(parents=True, exist_ok=True)
        for data in seeds(options.door, options.archive):
            (corpus / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
        os.environ["TMPDIR"] = temporary
        tried, findings, most_mb = fuzzed(options.door, 60 * options.minutes, corpus)
    print(f"{options.door}: {tried:,} inputs in {options.minutes:g} minutes, {findings} uncaught, {most_mb} MB at most")
    sys.exit(1 if findings or not tried else 0)


if __name__ == "__main__":
    main()
