"""Runs that are asked to stop in every phase: how many stopped, what is left of them, and how long the slowest took.

    python tests/reliability/stops.py --each 10 --hung 2

Each run is a real one with 2 to 4 loader processes, started as the page starts one and asked to stop while it reads
clips, trains, tests, saves, or makes its last evaluation. Then come trainers that cannot heed: one whose processes are
all frozen, one that waits for frozen loader processes and so heeds no SIGTERM, and a frozen one whose supervisor was
killed. The time is that from the request until the run stands as ended and none of its processes is left.
Exit status 1 when a run did not end within 45 s, stands as anything but stopped (or finished, where the request came a
moment too late), or left a process.
"""

import argparse
import logging
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pianistid_core import launch
from pianistid_core.config import RunConfig
from pianistid_core.datasets.root import DataRoot, Split, SplitEntry, write_split
from pianistid_core.midi import split_into_clips, write_midi
from pianistid_core.runs import Run
from tiny import HABITS, PIANISTS, make_notes, tiny_config

WITHIN_S = 45.0
GIVEN_UP_AFTER_S = 90.0
STARTS_WITHIN_S = 300.0


def write_data(root: DataRoot) -> None:
    """Few recordings to learn from and long ones to test with, so that each phase lasts a moment."""
    parts: dict[str, list[SplitEntry]] = {"train": [], "test": []}
    for label in range(len(PIANISTS)):
        for number in range(5):
            part = "test" if number > 2 else "train"
            track = f"stops/{label}-{number}"
            (root.clips_dir / track).mkdir(parents=True)
            notes = make_notes(10 * label + number, seconds=601.0 if part == "test" else 121.0, **HABITS[label])
            for index, clip in enumerate(split_into_clips(notes)):
                write_midi(clip, root.clips_dir / track / f"clip_{index:03d}.mid")
            parts[part].append(SplitEntry(track, label, notes.duration_s))
    write_split(root, Split("stops", PIANISTS, {part: tuple(entries) for part, entries in parts.items()}))


@dataclass(frozen=True)
class Phase:
    """A moment of a training: what shows that it has come."""

    name: str
    has_come: Callable[[Run], bool]
    epochs: int = 500


def _at(run: Run) -> tuple[str, bool]:
    progress = run.progress() or {}
    return str(progress.get("phase", "")), progress.get("batch") == progress.get("batches")


def _trains_itself(run: Run) -> bool:
    said = run.read_json("state.json") or {}
    return said.get("status") == "running" and said.get("reason") == ""


PHASES = (
    Phase("reading clips", _trains_itself),
    Phase("training step", lambda run: _at(run) == ("train", False)),
    Phase("test evaluation", lambda run: _at(run) in (("train", True), ("test", False))),
    Phase("saving", lambda run: any(run.path.glob(".checkpoint_*"))),
    Phase("validation", lambda run: bool(run.checkpoints()), epochs=1),
)
TRAINING = Phase("", lambda run: _at(run)[0] == "train")


def processes_of(run: Run) -> list[psutil.Process]:
    """Every process that names the run, in its command or its environment, other than this one."""
    found = []
    for process in psutil.process_iter():
        try:
            said = [*process.cmdline(), *process.environ().values()]
            if process.status() != psutil.STATUS_ZOMBIE and process.pid != psutil.Process().pid:
                found += [process] if any(str(run.path) == text or str(run.path) + "/" in text for text in said) else []
        except psutil.Error:
            continue
    return found


@dataclass
class Outcome:
    """How one run ended."""

    name: str
    status: str
    seconds: float
    left: int


class Trial:
    """One data root in which run after run is started and stopped."""

    def __init__(self, root: DataRoot, seed: int) -> None:
        self.root, self.rng, self.n = root, np.random.default_rng(seed), 0

    def started(self, phase: Phase) -> Run:
        """A run that has come to a phase."""
        self.n += 1
        if phase.name == "reading clips":
            shutil.rmtree(self.root.cache_dir, ignore_errors=True)
        run = launch.start(self.config(phase.epochs), self.root)
        deadline = time.monotonic() + STARTS_WITHIN_S
        while not phase.has_come(run):
            if time.monotonic() > deadline or run.state().status not in ("queued", "running"):
                raise SystemExit(f"{phase.name} never came: {run.state()}\n{run.log_tail(20)}")
            time.sleep(0.002)
        return run

    def config(self, epochs: int) -> RunConfig:
        return tiny_config(
            run=f"run-{self.n}", epochs=epochs, data_split_dir="stops", batch_size=2,
            num_workers=int(self.rng.integers(2, 5)),
        )  # fmt: skip

    def stopped(self, name: str, run: Run) -> Outcome:
        """Asks a run to stop and waits until nothing of it is left."""
        began = time.monotonic()
        launch.stop(run)
        waited, over = 0.0, False
        while not over and waited < GIVEN_UP_AFTER_S:
            time.sleep(0.05)
            over = run.state().status not in ("queued", "running")
            # Counted the moment it says so: it may say it only when nothing is left.
            left = processes_of(run) if over else []
            waited = time.monotonic() - began
        outcome = Outcome(name, run.state().status, waited, len(left) if over else len(processes_of(run)))
        for process in processes_of(run):
            process.kill()
        print(f"  {name}: {outcome.status} after {waited:.1f} s, {outcome.left} left: {run.state().reason}", flush=True)
        shutil.rmtree(run.path, ignore_errors=True)
        return outcome

    def hung(self, name: str) -> Outcome:
        """A run whose trainer cannot heed a request."""
        run = self.started(TRAINING)
        trainer = run.trainer()
        if trainer is None:
            raise SystemExit(f"{run.id} has no trainer: {run.state()}")
        process, supervisor = psutil.Process(trainer.pid), run.supervisor()
        frozen = process.children(recursive=True)
        if name != "its loaders frozen":
            frozen.append(process)
        if name == "frozen, supervisor killed" and supervisor is not None:
            supervisor.signal(signal.SIGKILL)
        for one in frozen:
            one.suspend()
        return self.stopped(name, run)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=10, help="how many stops in each of the 5 phases")
    parser.add_argument("--hung", type=int, default=2, help="how many of each kind of trainer that cannot heed")
    parser.add_argument("--seed", type=int, default=0, help="how many loader processes each has")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="stops-") as folder:
        root = DataRoot(Path(folder) / "root", cache_dir=Path(folder) / "cache")
        write_data(root)
        trial = Trial(root, options.seed)
        for phase in PHASES:
            outcomes += [trial.stopped(phase.name, trial.started(phase)) for _ in range(options.each)]
        for name in ("frozen", "its loaders frozen", "frozen, supervisor killed"):
            outcomes += [trial.hung(name) for _ in range(options.hung)]
    bad = False
    for name in dict.fromkeys(outcome.name for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.name == name]
        ended = sum(outcome.status in ("stopped", "finished") for outcome in mine)
        stopped = sum(outcome.status == "stopped" for outcome in mine)
        worst, left = max(outcome.seconds for outcome in mine), sum(outcome.left for outcome in mine)
        bad = bad or ended < len(mine) or left > 0 or worst > WITHIN_S
        print(f"{name:28} {len(mine):3} asked, {stopped:3} stopped, {ended - stopped} had just finished, "
              f"{left} processes left, slowest {worst:.1f} s")  # fmt: skip
    worst, left = max(outcome.seconds for outcome in outcomes), sum(outcome.left for outcome in outcomes)
    print(f"{len(outcomes)} stops: {left} processes left, slowest {worst:.1f} s")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
