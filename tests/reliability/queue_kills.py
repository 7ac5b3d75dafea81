"""kill -9 of who serves the page, of who starts the runs, or of everything, while a queue of runs is worked off.

    python tests/reliability/queue_kills.py --runs 10 --kills 20

The page's server is a process that does what a page does when it is drawn: it looks at the queue and wakes it. At each
of the random moments one of three is killed: that server, the dispatcher, or every process there is (server,
dispatcher, supervisor, trainer and its loaders). After each the server is opened again, and a run that then stands as
interrupted is put at the front of the queue, as a person would. In the end each run has to have finished once, in the
order in which they were queued, with each epoch's row once. Exit status 1 when it is not so.
"""

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pianistid_core.config import RunConfig
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import RunError
from pianistid_core.run_config import config_to_resume
from pianistid_core.run_index import RunIndex
from pianistid_core.run_queue import RunQueue
from pianistid_core.runs import Run
from tiny import tiny_config, write_tiny_data

KINDS = ("server", "dispatcher", "everything")
SMALL = {"conv_kernel_size": 3, "has_pool": True, "pool_kernel_size": 2}
LAYERS = [{"in_channels": 1, "out_channels": 4, **SMALL}, {"in_channels": 4, "out_channels": 8, **SMALL}]
MODEL = {
    "layers": LAYERS, "use_gru": False, "use_attention": False, "use_2fc": False, "pool_type": "max", "frame_pool": 100,
}  # fmt: skip
EPOCHS = 6


def serve(root: DataRoot) -> None:
    """Does what pages do, until it is killed."""
    queue, index = RunQueue(root), RunIndex(root.checkpoints_dir)
    while True:
        queue.wake()
        index.summaries()
        time.sleep(0.5)


def config_of(number: int) -> RunConfig:
    return tiny_config(run=f"run-{number:02d}", epochs=EPOCHS, model_cfg=MODEL, num_workers=2 * (number % 2))


def started_server(root: DataRoot) -> "subprocess.Popen[bytes]":
    command = [sys.executable, __file__, "--serve", str(root.path), str(root.cache_dir)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)


def processes_of(root: DataRoot, *names: str) -> list[psutil.Process]:
    """The processes of a data root, all or those that run a module."""
    found = []
    for process in psutil.process_iter():
        try:
            said = process.cmdline()
            theirs = any(str(root.path) in text for text in [*said, process.environ().get("PIANISTID_RUN", "")])
            if theirs and process.pid != os.getpid() and (not names or any(name in said for name in names)):
                found.append(process)
        except psutil.Error:
            continue
    return found


class Trial:
    """One queue, worked off while it is killed at."""

    def __init__(self, root: DataRoot, n_runs: int) -> None:
        self.root, self.queue = root, RunQueue(root)
        self.configs = [config_of(number) for number in range(n_runs)]
        self.runs = [Run(root.checkpoints_dir / "tests" / config.run) for config in self.configs]
        self.order: list[str] = []
        self.server: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        self.queue.add(self.configs)
        self.server = started_server(self.root)

    def is_over(self) -> bool:
        """Whether each run has finished; notes the order in which they do."""
        for run in self.runs:
            if run.id not in self.order and run.state().status == "finished":
                self.order.append(run.id)
        return len(self.order) == len(self.runs)

    def kill(self, kind: str) -> int:
        """Kills, and gives how many processes that were."""
        if kind == "server":
            doomed = [psutil.Process(self.server.pid)] if self.server else []
        else:
            doomed = processes_of(self.root, *(["pianistid_core.run_queue"] if kind == "dispatcher" else []))
        for process in doomed:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(doomed, timeout=10)
        return len(doomed)

    def mend(self) -> None:
        """What a person does after that: opens the page again, and resumes what stands as interrupted, first of all."""
        if self.server is not None and self.server.poll() is not None:
            self.server = started_server(self.root)
        for run in self.runs:
            state = run.state()
            if state.status in ("interrupted", "failed"):
                try:
                    (entry,) = self.queue.add([config_to_resume(run, self.root)])
                    self.queue.move(entry.id, 0)
                except RunError as error:  # the queue was faster
                    print(f"  {run.id} is {state.status} ({state.reason}) and was not resumed: {error}")

    def end(self) -> None:
        while family := processes_of(self.root):
            for process in family:
                process.kill()
            psutil.wait_procs(family, timeout=5)

    def faults(self) -> list[str]:
        """What is not as it should be."""
        found = [] if self.order == [run.id for run in self.runs] else [f"they finished in the order {self.order}"]
        for run in self.runs:
            epochs = [row["epoch"] for row in run.metrics()]
            lost, doubled = set(range(1, EPOCHS + 1)) - set(epochs), [e for e, n in Counter(epochs).items() if n > 1]
            if lost or doubled:
                found.append(f"{run.id}: rows lost {sorted(lost)}, doubled {doubled}")
            if (n := run.log_tail(5000).count(f"run {run.id} finished")) != 1:
                found.append(f"{run.id} finished {n} times by its log")
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10, help="how many runs wait")
    parser.add_argument("--kills", type=int, default=20, help="at how many moments something is killed")
    parser.add_argument("--kind", choices=KINDS, help="what is killed; each of the three in turn when not given")
    parser.add_argument("--apart", type=float, default=20.0, help="seconds from kill to kill, on the average")
    parser.add_argument("--within", type=float, default=3600.0, help="seconds after which the queue is given up")
    parser.add_argument("--seed", type=int, default=0, help="which moments are drawn")
    parser.add_argument("--serve", nargs=2, metavar=("ROOT", "CACHE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if options.serve:
        serve(DataRoot(Path(options.serve[0]), Path(options.serve[1])))
    rng = np.random.default_rng(options.seed)
    os.environ["OMP_NUM_THREADS"] = "1"
    killed: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="queue-kills-") as folder:
        root = DataRoot(Path(folder) / "root", cache_dir=Path(folder) / "cache")
        write_tiny_data(root)
        trial, began = Trial(root, options.runs), time.monotonic()
        try:
            trial.begin()
            next_kill = time.monotonic() + rng.uniform(0, 2 * options.apart)
            while not trial.is_over() and time.monotonic() - began < options.within:
                time.sleep(0.2)
                if sum(killed.values()) < options.kills and time.monotonic() >= next_kill:
                    kind = options.kind or KINDS[sum(killed.values()) % len(KINDS)]
                    n = trial.kill(kind)
                    killed[kind] += 1
                    print(f"  kill {sum(killed.values())}: {kind}, {n} processes, "
                          f"{len(trial.order)} runs done", flush=True)  # fmt: skip
                    next_kill = time.monotonic() + rng.uniform(0, 2 * options.apart)
                trial.mend()
            n_done, faults = len(trial.order), trial.faults()
        finally:
            trial.end()
    for fault in faults:
        print(fault)
    kinds = ", ".join(f"{kind} {n}" for kind, n in killed.items())
    print(f"{sum(killed.values())} kills ({kinds}): {n_done} of {options.runs} runs done, {len(faults)} faults, "
          f"{time.monotonic() - began:.0f} s")  # fmt: skip
    return int(bool(faults) or n_done < options.runs)


if __name__ == "__main__":
    sys.exit(main())
