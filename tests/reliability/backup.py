"""A data root moved in one archive: the same hashes, the same result, nothing left behind when it fails.

    python tests/reliability/backup.py --kills 20 --damages 60

Makes the demo's data, trains a run to its end and another half-way, packs the root while a third trains, and restores
it into a root that is not there yet: every file's SHA-256 is compared, `evaluate` must measure the same there, and the
run that was half-way must end there with the weights of one that was never stopped. Then the restoring is killed with
signal 9 at random moments; after each the root holds what it held before, and whole units of the backup at most, and
the last restoring brings all of it and sweeps the rest. Then the archive is cut and its bits are flipped. Exit status 1
when anything differs, is left behind or passes.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pianistid_core import launch
from pianistid_core.backups.opening import check_backup
from pianistid_core.backups.packing import write_backup
from pianistid_core.backups.restoring import restore
from pianistid_core.config import load_config
from pianistid_core.datasets.demo.making import make_demo
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import PianistIDError
from pianistid_core.runs import Run

# What is rewritten for its new place, or only there while something goes on.
PASSING = {"state.json", "progress.json", "lock", "launch.lock", "heartbeat", "exit.json", "stop", "log.txt"}


def pianistid(*arguments: str, cache: Path) -> str:
    """One command, as a person gives it."""
    done = subprocess.run(
        [sys.executable, "-m", "pianistid_core", *arguments], capture_output=True, text=True, check=False,
        env={**os.environ, "PIANISTID_CACHE": str(cache)},
    )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(f"pianistid {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def hashes(root: Path) -> dict[str, str]:
    """The SHA-256 of every file of a root that is not only there while something goes on."""
    files = [path for path in root.rglob("*") if path.is_file()]
    files = [path for path in files if not any(part.startswith(".") for part in path.relative_to(root).parts)]
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.name not in PASSING and path.relative_to(root).parts[0] not in ("audit", "queue")
    }


def leftovers(root: Path) -> list[str]:
    """What a killed or refused restoring has left."""
    return [path.name for path in root.glob(".import-*")] if root.is_dir() else []


def weights_of(run: Run) -> dict[str, Any]:
    import torch

    weights = torch.load(run.checkpoints()[-1], weights_only=True)["model_state_dict"]
    return {name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for name, tensor in weights.items()}


def made(folder: Path, epochs: int, n_extra: int) -> tuple[DataRoot, Path]:
    """A root with a finished run, one stopped half-way, one that trains, and `n_extra` megabytes of checkpoints."""
    root, cache = DataRoot(folder / "root", cache_dir=folder / "cache"), folder / "cache"
    make_demo(root)
    where = ("--data-root", str(root.path))
    common = ("train", "--config", "demo.yaml", *where, "--set", "num_threads=1", "--set")
    pianistid(*common, "run=whole", "--set", f"epochs={epochs}", cache=cache)
    half = launch.start(load_config("demo.yaml", overrides=["run=half", f"epochs={epochs}", "num_threads=1"]), root)
    while half.epochs_done() < epochs // 2:
        time.sleep(0.05)
    launch.stop_and_wait(half)
    extra = root.checkpoints_dir / "demo" / "whole" / "evaluation" / "bytes.json"
    extra.write_bytes(random.Random(0).randbytes(n_extra * 1_000_000))
    live = launch.start(load_config("demo.yaml", overrides=["run=live", "epochs=500", "num_threads=1"]), root)
    while live.epochs_done() < 1:
        time.sleep(0.1)
    return root, cache


def moved(root: DataRoot, there: DataRoot, archive: Path) -> bool:
    """Packs, restores, compares; says whether everything is the same."""
    began = time.monotonic()
    packed = write_backup(root, archive)
    packing_s = time.monotonic() - began
    launch.stop_and_wait(Run.find(root.checkpoints_dir, "demo/live"))
    check_backup(archive)
    began = time.monotonic()
    done = restore(archive, there)
    print(f"packed {len(packed.contents.entries):,} files of {packed.contents.bytes / 1e6:,.1f} MB into "
          f"{packed.bytes / 1e6:,.1f} MB in {packing_s:.1f} s while {', '.join(packed.contents.live)} trained; "
          f"restored {done.files:,} files in {time.monotonic() - began:.1f} s")  # fmt: skip
    before, after = hashes(root.path), hashes(there.path)
    before = {name: digest for name, digest in before.items() if "/live/" not in name}
    equal = sum(after.get(name) == digest for name, digest in before.items())
    extra = [name for name in after if name not in before and "/live/" not in name]
    for name in [name for name, digest in before.items() if after.get(name) != digest][:5] + extra[:5]:
        print(f"    differs: {name}", file=sys.stderr)
    live = Run.find(there.checkpoints_dir, "demo/live").state()
    print(f"hashes: {equal:,} of {len(before):,} equal, {len(extra)} more; the run that trained is {live.status}")

    where = [("--data-root", str(one.path)) for one in (root, there)]
    caches = [root.cache_dir, there.cache_dir]
    said = [json.loads(pianistid("evaluate", "demo/whole", "--split", "validation", "--json", *at, cache=cache))
            for at, cache in zip(where, caches, strict=True)]  # fmt: skip
    results = [json.loads((one.checkpoints_dir / "demo/whole/evaluation/validation.json").read_text())
               for one in (root, there)]  # fmt: skip
    same = _result(results[0]) == _result(results[1]) == _result(said[0]) == _result(said[1])
    moved_config = str(there.checkpoints_dir / "demo/half/config.yaml")
    pianistid("train", "--config", moved_config, "--set", "checkpoint_cfg.load_checkpoints=true", *where[1],
              cache=caches[1])  # fmt: skip
    runs = Run.find(root.checkpoints_dir, "demo/whole"), Run.find(there.checkpoints_dir, "demo/half")
    identical = weights_of(runs[0]) == weights_of(runs[1])
    print(f"evaluate there: {'the same' if same else 'different'}; half a run gone on with there: "
          f"{'weights identical' if identical else 'weights differ'} to the uninterrupted run's")  # fmt: skip
    return equal == len(before) and not extra and live.status == "interrupted" and same and identical


def _result(said: Any) -> str:
    """An answer without the path in it, which is of its place."""
    if isinstance(said, dict):
        return json.dumps({key: _result(value) for key, value in sorted(said.items()) if key != "checkpoint"})
    return json.dumps(said)


def killed(archive: Path, folder: Path, times: int) -> bool:
    """Restores again and again, each time killed at a random moment."""
    root, chance = DataRoot(folder / "killed", cache_dir=folder / "killed-cache"), random.Random(1)
    root.splits_dir.mkdir(parents=True)
    (root.path / "lab.json").write_text('{"of": "this place"}')
    with_list = {entry.name: entry.sha256 for entry in check_backup(archive).entries}
    command = [sys.executable, "-m", "pianistid_core", "restore", str(archive), "--data-root", str(root.path)]
    environment = {**os.environ, "PIANISTID_CACHE": str(root.cache_dir)}
    began = time.monotonic()
    subprocess.run(
        [*command[:-1], str(folder / "timed")], check=True, capture_output=True, env=environment
    )  # how long it takes when nobody kills it
    longest = time.monotonic() - began
    died = strange = partial = 0
    for _ in range(times):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        time.sleep(chance.uniform(0.0, longest))
        process.send_signal(signal.SIGKILL)
        died += process.wait() == -signal.SIGKILL
        found = {name: digest for name, digest in hashes(root.path).items() if name != "lab.json"}
        strange += sum(with_list.get(name) != digest for name, digest in found.items())
        partial += bool(found)
        strange += (root.path / "lab.json").read_text() != '{"of": "this place"}'
        shutil.rmtree(root.checkpoints_dir, ignore_errors=True)  # so that the next has as much to do
        shutil.rmtree(root.path / "data", ignore_errors=True)
    restore(archive, root)
    found = {name: digest for name, digest in hashes(root.path).items() if name != "lab.json"}
    wanted = {name: digest for name, digest in hashes(folder / "timed").items() if name != "lab.json"}
    left = leftovers(root.path)
    print(f"restoring killed {died} times of {times} ({partial} after it had begun to place): {strange} files strange "
          f"or changed; the last brought {len(found):,} of {len(wanted):,} files, {len(left)} left behind")  # fmt: skip
    return strange == 0 and found == wanted and not left


def damaged(archive: Path, folder: Path, times: int) -> bool:
    """Cuts the archive and flips its bits, and tries to check and to restore each."""
    data, chance = archive.read_bytes(), random.Random(2)
    refused = left = silent = 0
    for number in range(times):
        target, copy = DataRoot(folder / "damaged", cache_dir=folder / "damaged-cache"), folder / "damaged.zip"
        if number % 3 == 0:
            copy.write_bytes(data[: chance.randrange(len(data))])
        else:
            changed = bytearray(data)
            changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            copy.write_bytes(changed)
        try:
            restore(copy, target)
        except PianistIDError:
            refused += 1
            left += target.path.exists()
        else:
            # A bit that no file and no name depends on: what came in must be what was packed.
            same = all(hashes(target.path).get(name) == digest for name, digest in hashes(folder / "timed").items())
            silent += not same
        shutil.rmtree(target.path, ignore_errors=True)
    harmless = times - refused - silent
    print(f"damaged: {times} archives, {refused} refused, {harmless} restored with the same bytes, {silent} with "
          f"others; {left} left something behind")  # fmt: skip
    return silent == 0 and left == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=4, help="of the whole run (default: %(default)s)")
    parser.add_argument("--megabytes", type=int, default=200, help="more in the root (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=20, help="of a restoring (default: %(default)s)")
    parser.add_argument("--damages", type=int, default=60, help="archives cut or flipped (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pianistid-backup-") as name:
        folder = Path(name)
        root, _ = made(folder, options.epochs, options.megabytes)
        there = DataRoot(folder / "there", cache_dir=folder / "cache-there")
        archive = folder / "lab.zip"
        good = moved(root, there, archive)
        good = killed(archive, folder, options.kills) and good
        good = damaged(archive, folder, options.damages) and good
    print("kept" if good else "NOT KEPT")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
