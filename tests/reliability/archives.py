"""Hostile archives: how many are imported as far as they go or refused in one sentence, and what they leave behind.

    python tests/reliability/archives.py [--kills 20]

Each is imported into a data root of its own, as the lab does it, in a process with 500 MB to go. A refused one must
leave no data root, and none may leave anything outside it. Then imports are killed (SIGKILL) at random moments: the
next import into the same root must leave no half-written file. Exit status 1 when one was not refused in a clear
sentence, left something, or took 500 MB; or a refusal took more than 2 s of CPU.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from trial import Outcome, report, tried

from hostile_zips import Member, ZipCase, cases, packed
from pianistid_core.datasets.importing import import_source
from pianistid_core.datasets.root import DataRoot

TESTS = Path(__file__).resolve().parents[1]
_MOST_S, _MOST_MB = 2, 500


def imported(archive: Path, root: Path) -> None:
    import_source(DataRoot(root, root / "cache"), archive, name="hostile")


def left_by(folder: Path, outcome: Outcome) -> list[str]:
    """What lies where it should not: beside the data root, or in it after a refusal."""
    root = folder / "a" / "b" / "root"
    outside = [
        str(path) for path in folder.rglob("*") if path not in root.parents and root not in (path, *path.parents)
    ]
    outside = [name for name in outside if not name.endswith("hostile.zip")]
    staged = [str(path) for path in root.glob(".import-*")] if root.exists() else []
    return outside + staged + ([str(root)] if outcome.end == "refused" and root.exists() else [])


def tried_in_a_folder(case: ZipCase) -> tuple[Outcome, list[str]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive, root = folder / "hostile.zip", folder / "a" / "b" / "root"
        archive.write_bytes(case.make())
        root.parent.mkdir(parents=True)
        outcome = tried(case.name, partial(imported, archive, root), limit_s=60, limit_mb=_MOST_MB)
        return outcome, left_by(folder, outcome)


def killed_and_again(seed: int) -> list[str]:
    """What is left of an import that was killed, once the same archive has been imported again."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        archive, root = Path(name, "good.zip"), Path(name, "root")
        archive.write_bytes(packed([Member(f"{who}/{i}.mid") for who in ("Ada", "Ben") for i in range(100)]))
        child = os.fork()
        if child == 0:
            imported(archive, root)
            os._exit(0)
        time.sleep(rng.uniform(0, 0.6))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        imported(archive, root)
        found = len(list(root.glob("data/clips/*/*/clip_000.mid")))
        strange = [str(path) for path in root.rglob("*") if path.name.startswith(".import-")]
        return strange + ([] if found == 200 else [f"{found} of 200 recordings"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    found = [
        *cases(),
        *(ZipCase(path.name, path.read_bytes, "") for path in sorted((TESTS / "hostile/archives").iterdir())),
    ]
    outcomes, left, unexpected = [], [], []
    for case in found:
        outcome, leavings = tried_in_a_folder(case)
        outcomes.append(outcome)
        left += [f"{case.name}: {name}" for name in leavings]
        as_expected = outcome.end == ("read" if case.refusal is None else "refused") or case.name == "names.zip"
        if not as_expected or (case.refusal or "") not in outcome.said:
            unexpected.append(f"{case.name}: {outcome.end}: {outcome.said[-300:]}")
    after_kills = [one for seed in range(options.kills) for one in killed_and_again(seed)]
    kept = report("hostile archives", outcomes, most_s=_MOST_S, most_mb=_MOST_MB, read_s=30)
    print(f"left outside the target or by a refused one: {len(left)}; not as expected: {len(unexpected)}")
    print(f"{options.kills} imports killed and done again: {len(after_kills)} things half-written or missing")
    print(*left, *unexpected, *after_kills, sep="\n", end="")
    sys.exit(0 if kept and not (left or unexpected or after_kills) else 1)


if __name__ == "__main__":
    main()
