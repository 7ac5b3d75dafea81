"""A disk that fills, in each kind of write: is any file left that is neither what it was nor what it was to become?

    python tests/reliability/full_disk.py            as root, or where `unshare -Urm` is allowed

A tmpfs of 48 MB is mounted in a mount namespace of this script's own. First each kind of write is tried alone, with no
room at all and with a little of it, then it is tried again with room. Then whole trainings: the disk is filled at some
moment of a run, which must end in words, and, once there is room, go on to the end of a run that always had it. After
every failure all files are looked at. Last a stopped run is to go on where nothing can be written. Exit status 1 when
a file is corrupt, a failure has no words, or a run does not go on.
"""

import argparse
import errno
import json
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kills import MODEL, outcome, same

from pianistid_core.atomic import write_atomically
from pianistid_core.config import RunConfig, to_yaml
from pianistid_core.confusion import Confusion
from pianistid_core.datasets.cache import open_note_cache
from pianistid_core.datasets.importing import import_source
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import PianistIDError
from pianistid_core.midi import read_midi
from pianistid_core.queue_files import QueueFiles
from pianistid_core.run_config import run_for
from pianistid_core.runs import Run, RunLabels
from pianistid_core.seals import verify
from pianistid_core.strict_json import parse_json
from pianistid_core.strict_yaml import read_yaml
from pianistid_core.tracking import open_tracker
from pianistid_core.training import train
from pianistid_core.training_options import MlflowOptions
from tiny import tiny_config, write_tiny_data

SIZE = "48m"
ROOMS = (0, 4096, 3 * 4096)  # a tmpfs gives room by pages
MOMENTS = (("train", 1), ("train", 4), ("test", 1), ("test", 2), ("validation", 1))
RUN_ROOMS = (0, 16 << 10, 64 << 10)


class Disk:
    """The small file system, and what fills it."""

    def __init__(self, path: Path) -> None:
        self.path, self._filler = path, path / "filler"

    def fill(self, room: int) -> None:
        """Leaves so many bytes."""
        with self._filler.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
            os.truncate(self._filler, max(0, self._filler.stat().st_size - room))

    def free(self) -> None:
        self._filler.unlink(missing_ok=True)


def is_whole(path: Path) -> bool:
    """Whether a file is complete, by what its name says it is."""
    data = path.read_bytes()
    try:
        if path.suffix == ".json":
            parse_json(data)
        elif path.suffix == ".jsonl":
            return all(parse_json(line) is not None for line in data.split(b"\n")[:-1]) and data[-1:] in (b"", b"\n")
        elif path.suffix == ".yaml":
            read_yaml(data, source=path.name)
        elif path.suffix == ".pth":
            return verify(path)
        elif path.suffix == ".png":
            return data.startswith(b"\x89PNG") and data.endswith(b"IEND\xaeB`\x82")
        elif path.suffix == ".mid":
            read_midi(data)
        elif path.suffix == ".db":
            with sqlite3.connect(path) as store:
                return store.execute("pragma integrity_check").fetchone() == ("ok",)
    except (PianistIDError, ValueError, OSError, sqlite3.Error):
        return False
    return not path.name.endswith(".tmp")


def files(folder: Path) -> dict[Path, bytes]:
    skipped = ("filler", "lock", "log.txt", "heartbeat", ".reserve")
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in skipped and not path.name.endswith((".lock", "-journal", "-wal", "-shm"))
    }


def corrupt(folder: Path, before: dict[Path, bytes]) -> list[str]:
    """The files that are not what they were before, and not whole either."""
    return [path.name for path, data in files(folder).items() if before.get(path) != data and not is_whole(path)]


def kinds_of_writes(root: DataRoot, music: Path, work: Path) -> dict[str, Callable[[], object]]:
    """Each kind of write by its name, as something that can be tried again and again."""
    run = Run.create(root.checkpoints_dir, "reliability", "writes")
    confusion = Confusion(("Ada", "Ben"), np.array([[3, 1], [0, 4]]))
    weights = {"model_state_dict": {"w": torch.zeros(50_000)}, "epoch": 1}
    queue = QueueFiles.of(root)
    for stage in ("waiting", "claimed", "started", "failed"):
        (queue.folder / stage).mkdir(parents=True, exist_ok=True)
    numbers = iter(range(1, 1_000_000))
    store = MlflowOptions(use=True, tracking_uri=f"sqlite:///{work}/mlflow.db")
    tracker = open_tracker(store, root_path=root.path, experiment="reliability", run_name="writes", parameters={})
    config = tiny_config()

    def cache() -> None:
        shutil.rmtree(root.cache_dir, ignore_errors=True)
        open_note_cache(root, "tiny", "train")

    def again() -> None:
        import_source(root, music, name=f"import-{next(numbers)}")

    def row() -> None:
        tracker.log_epoch({"epoch": 1, "train_loss": 0.5}, next(numbers))

    return {
        "checkpoint": lambda: run.save_checkpoint(weights, epoch=next(numbers), batch=0, keep_old=False),
        "metrics row": lambda: run.append_metrics({"epoch": next(numbers), "words": "x" * 5000}),
        "metrics cut": lambda: run.truncate_metrics(1),
        "state.json": lambda: run.set_state("stopped", "x" * 5000, epochs=3),
        "exit.json": lambda: run.set_exit(1),
        "progress.json": lambda: run.set_progress(phase="train", words="x" * 5000),
        "config.yaml": lambda: run.save_text("config.yaml", to_yaml(config)),
        "confusion and figure": lambda: run.save_confusion(next(numbers), confusion),
        "evaluation": lambda: run.save_json("evaluation/test.json", {"words": "x" * 5000}),
        "labels": lambda: run.set_labels(RunLabels(note=f"note {next(numbers)}")),
        "stop request": lambda: run.request_stop("save"),
        "queue entry": lambda: queue.write("waiting", f"{next(numbers):06d}", {"words": "x" * 5000}),
        "queue order": lambda: queue.set_order(["a" * 3000, "b" * 3000]),
        "any other file": lambda: write_atomically(work / "other.json", json.dumps("x" * 20_000).encode()),
        "note cache": cache,
        "import": again,
        "MLflow row": row,
    }


def try_each_kind(disk: Disk, root: DataRoot, music: Path) -> bool:
    n_tried = n_failed = n_corrupt = n_left = 0
    complete, refused_without_room = True, []
    for name, write in kinds_of_writes(root, music, disk.path).items():
        write()
        for room in ROOMS:
            before = files(disk.path)
            disk.fill(room)
            n_tried += 1
            refused = True
            try:
                write()
                refused = False
            except PianistIDError as error:
                if "disk is full" not in str(error) and "No space left" not in str(error):
                    print(f"{name}, {room} bytes left: {str(error)!r} does not say that the disk is full")
                    complete = False
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    print(f"{name}, {room} bytes left: {error!r} does not say that the disk is full")
                    complete = False
            n_failed += refused
            refused_without_room += [name] if refused and room == 0 else []
            # What is whole may stay: a matrix whose picture had no room is a matrix.
            new = [path for path in files(disk.path).keys() - before.keys() if refused]
            left = [
                str(path) for path in new if any(part.startswith(".") for part in path.relative_to(root.path).parts)
            ]
            if left:
                print(f"{name}, {room} bytes left: left behind: {', '.join(left)}")
                n_left += len(left)
            if broken := corrupt(disk.path, before):
                print(f"{name}, {room} bytes left: corrupt: {', '.join(broken)}")
                n_corrupt += len(broken)
            disk.free()
            write()
            if broken := corrupt(disk.path, before):
                print(f"{name}, with room again: corrupt: {', '.join(broken)}")
                n_corrupt += len(broken)
    print(
        f"writes: {n_tried} tried on a full disk, {n_failed} refused ({len(refused_without_room)} of the kinds with no "
        f"room at all), {n_corrupt} corrupt files, {n_left} left behind",
        flush=True,
    )
    return complete and n_corrupt == n_left == 0


def config_of(run: str, place: Path, **changes: object) -> RunConfig:
    where = {"checkpoint_after_n_epochs": 1, "checkpoint_dir": str(place), "delete_old_checkpoints": True}
    return tiny_config(run=run, model_cfg=MODEL, sched_type="cosine", checkpoint_cfg=where, **changes)


def trained_until(config: RunConfig, root: DataRoot, phase: str, batch: int, action: Callable[[], object]) -> str:
    """Trains a run, and does something once a batch of its second epoch is done; gives how it failed, or nothing."""
    seen = 0

    def look(now: str, done: int, total: int) -> None:
        nonlocal seen
        seen += (now, done) == (phase, batch)
        if (now, done) == (phase, batch) and seen == (1 if phase == "validation" else 2):
            action()

    try:
        train(config, root, run_for(config, root), on_progress=look)
    except PianistIDError as error:
        return str(error)
    return ""


def fill_in_mid_run(disk: Disk, root: DataRoot) -> bool:
    place = disk.path / "runs"
    whole = run_for(config_of("whole", place), root)
    train(config_of("whole", place), root, whole)
    n_runs = n_ended = n_said = n_corrupt = n_same = 0
    for phase, batch in MOMENTS:
        for room in RUN_ROOMS:
            config = config_of(f"{phase}-{batch}-{room}", place)
            run = run_for(config, root)
            n_runs += 1
            words = trained_until(config, root, phase, batch, lambda room=room: disk.fill(room))
            broken = corrupt(run.path, {})
            n_corrupt += len(broken)
            if words:
                n_ended += 1
                failure = run.failure()
                says = "the disk is full" in words and failure is not None and failure.kind == "disk full"
                n_said += says
                if not says:
                    print(f"{run.id}: said {words!r}, shown as {run.state()}")
            disk.free()
            fits = train(config, root, run).status == "finished" and same(outcome(run), outcome(whole))
            n_same += fits
            if broken or not fits:
                print(f"{run.id}: corrupt {broken}, {run.state()}\n{run.log_tail(20)}")
            shutil.rmtree(run.path)
    print(
        f"runs: {n_runs} whose disk filled: {n_ended} ended for it, {n_said} of them saying so on the page, "
        f"{n_corrupt} corrupt files, {n_same} went on to the identical end",
        flush=True,
    )
    return n_corrupt == 0 and n_said == n_ended > 0 and n_same == n_runs


def read_only(disk: Disk, root: DataRoot) -> bool:
    """A run whose file system is read-only when it is to go on; in mid-run its open log would keep that from it."""
    place = disk.path / "runs"
    whole, run = (run_for(config_of(name, place), root) for name in ("whole", "read-only"))
    if not whole.checkpoints():
        train(config_of("whole", place), root, whole)
    trained_until(config_of("read-only", place), root, "test", 1, lambda: run.request_stop("save"))
    before = files(run.path)
    mount("-o", "remount,ro", disk.path)
    try:
        train(config_of("read-only", place), root, run)
        words = "it trained"
    except PianistIDError as error:
        words = str(error)
    unchanged = files(run.path) == before
    mount("-o", "remount,rw", disk.path)
    fits = train(config_of("read-only", place), root, run).status == "finished" and same(outcome(run), outcome(whole))
    print(f"read-only: {words!r}; all files as they were: {unchanged}; went on to the identical end: {fits}")
    return unchanged and fits and "Read-only file system" in words


def mount(*arguments: object) -> None:
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"mount {' '.join(map(str, arguments))}: {done.stderr.strip()}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("writes", "runs", "read-only"), help="a part of it")
    parser.add_argument("--in-namespace", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.in_namespace:
        here = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-Urm"]
        os.execvp(here[0], [*here, sys.executable, *sys.argv, "--in-namespace"])
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="full-disk-") as folder:
        small = Path(folder) / "small"
        small.mkdir()
        mount("-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", small)
        try:
            print(f"a tmpfs of {SIZE}")
            elsewhere = DataRoot(Path(folder) / "root", cache_dir=Path(folder) / "cache")
            write_tiny_data(elsewhere)
            disk, complete = Disk(small), True
            if options.only in (None, "writes"):
                root = DataRoot(small / "root", cache_dir=small / "cache")
                write_tiny_data(root)
                music = Path(folder) / "music"
                shutil.copytree(elsewhere.clips_dir / "tiny", music)
                complete &= try_each_kind(disk, root, music)
                shutil.rmtree(root.path)
            # The log is read from its file; the package's own lines go there again.
            logging.disable(logging.NOTSET)
            logging.lastResort = None
            if options.only in (None, "runs"):
                complete &= fill_in_mid_run(disk, elsewhere)
            if options.only in (None, "read-only"):
                complete &= read_only(disk, elsewhere)
        finally:
            subprocess.run(["umount", "-l", str(small)], check=False)
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
