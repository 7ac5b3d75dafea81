"""What becomes of MLflow when many trainers open a fresh store at once, are killed, or meet a store that is locked.

    python tests/reliability/mlflow_store.py --processes 6 --repeats 5

Real processes log runs through `pianistid_core.tracking` to a store that is not there yet, all at the same moment; the
same is done with MLflow alone, for comparison. Then real runs train in the background: one has its trainer killed with
signal 9, one its trainer and supervisor both, and one trains while somebody holds the store locked. Printed: processes
that failed, entries that are not whole, what MLflow says of the killed ones and after how many seconds, and what the
locked store cost. Exit status 1 when one of ours fails, an entry is not whole or stays RUNNING.
"""

import argparse
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pianistid_core import launch
from pianistid_core.config import load_config
from pianistid_core.datasets.demo.making import make_demo
from pianistid_core.datasets.root import DataRoot
from pianistid_core.mirror import catch_up, lacking
from pianistid_core.mlflow_store import local_store
from pianistid_core.runs import Run

OURS = """
import sys, time
from pathlib import Path
from pianistid_core.mlflow_store import load_mlflow
from pianistid_core.tracking import open_tracker
from pianistid_core.training_options import MlflowOptions
root, number, epochs = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
load_mlflow()
print("ready", flush=True)
sys.stdin.readline()
tracker = open_tracker(MlflowOptions(use=True), root_path=root, experiment="race", run_name=number,
                       parameters={"number": int(number)})
for epoch in range(1, epochs + 1):
    tracker.log_epoch({"train_loss": 1 / epoch}, epoch)
tracker.end("FINISHED")
sys.exit(tracker.problem)
"""
BARE = """
import sys, logging
from pathlib import Path
from mlflow import MlflowClient
import mlflow.store.tracking.sqlalchemy_store
root, number, epochs = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
client = MlflowClient(tracking_uri=f"sqlite:///{root}/mlflow.db")
run = client.create_run("0", run_name=number).info.run_id
for epoch in range(1, epochs + 1):
    client.log_metric(run, "train_loss", 1 / epoch, step=epoch)
client.set_terminated(run, "FINISHED")
"""


def at_once(code: str, root: Path, processes: int, epochs: int) -> int:
    """Starts processes, lets all of them go at the same moment, and gives how many failed."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(root), str(number), str(epochs)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "DO_NOT_TRACK": "true"},
        )
        for number in range(processes)
    ]  # fmt: skip
    for process in started:
        assert process.stdout is not None
        process.stdout.readline()
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    failed = 0
    for process in started:
        _, said = process.communicate(timeout=600)
        failed += process.returncode != 0
        if process.returncode != 0:
            last = (said.strip().splitlines() or ["without a word"])[-1]
            print(f"    failed: {last[:160]}", file=sys.stderr)
    return failed


def whole_entries(root: Path, epochs: int) -> int:
    """How many entries of the race are finished and have every epoch once."""
    client = client_of(root)
    runs = client.search_runs([client.get_experiment_by_name("race").experiment_id])
    steps = [[m.step for m in client.get_metric_history(run.info.run_id, "train_loss")] for run in runs]
    wanted = list(range(1, epochs + 1))
    return sum(run.info.status == "FINISHED" and found == wanted for run, found in zip(runs, steps, strict=True))


def client_of(root: Path) -> Any:
    from pianistid_core.mlflow_store import load_mlflow

    return load_mlflow()(tracking_uri=local_store(root).uri)


def race(folder: Path, options: argparse.Namespace) -> bool:
    """Fresh stores, opened by all processes at once: ours, then MLflow alone, twice on the same store."""
    failed = whole = 0
    began = time.monotonic()
    for repeat in range(options.repeats):
        root = folder / f"ours-{repeat}"
        failed += at_once(OURS, root, options.processes, options.epochs)
        whole += whole_entries(root, options.epochs)
    tried = options.repeats * options.processes
    print(f"ours: {options.repeats} fresh stores x {options.processes} processes: {failed} of {tried} failed, "
          f"{whole} entries whole, {time.monotonic() - began:.0f} s")  # fmt: skip
    for repeat in range(options.bare_repeats):
        root = folder / f"bare-{repeat}"
        root.mkdir()
        first = at_once(BARE, root, options.processes, options.epochs)
        again = at_once(BARE, root, options.processes, options.epochs)
        print(f"MLflow alone: {first} of {options.processes} failed, on the same store again {again}")
    return failed == 0 and whole == tried


def status_of(run: Run, root: DataRoot) -> str:
    run_id = (run.read_json("mlflow.json") or {})["run_id"]
    with contextlib.closing(sqlite3.connect(local_store(root.path).database, timeout=20)) as store:
        return str(store.execute("SELECT status FROM runs WHERE run_uuid = ?", (run_id,)).fetchone()[0])


def begun(root: DataRoot, name: str) -> Run:
    """A run in the background that trains and has its entry in MLflow."""
    wanted = [f"run={name}", "epochs=200", "mlflow_cfg.use=true", "num_threads=1"]
    run = launch.start(load_config("demo.yaml", overrides=wanted), root)
    until(lambda: run.state().pid is not None and run.epochs_done() > 0, 300, "training")
    until(lambda: (run.path / "mlflow.json").is_file() and status_of(run, root) == "RUNNING", 300, "an entry")
    return run


def until(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Waits for a condition; gives how long it took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise SystemExit(f"no {what} within {seconds:.0f} s")
        time.sleep(0.05)
    return time.monotonic() - began


def killed(root: DataRoot) -> bool:
    """A trainer killed alone, and one killed with the supervisor that would have seen to it."""
    run = begun(root, "killed")
    trainer = run.trainer()
    assert trainer is not None
    trainer.signal(signal.SIGKILL)
    took = until(lambda: status_of(run, root) != "RUNNING", 60, "word of the end")
    print(f"trainer killed: MLflow says {status_of(run, root)} after {took:.1f} s")
    both = begun(root, "killed-with-supervisor")
    for process in (both.supervisor(), both.trainer()):
        assert process is not None
        process.signal(signal.SIGKILL)
    until(lambda: not both.is_due(), 30, "end")
    before = status_of(both, root)
    ended = local_store(root.path).end_abandoned()  # what the next training, the Tracking page and MLflow's pages do
    after = status_of(both, root)
    print(f"trainer and supervisor killed: {before}, and {after} after the next look ({ended} ended)")
    return "RUNNING" not in (status_of(run, root), after)


def locked(root: DataRoot) -> bool:
    """A run that trains while the store is locked, and its copy afterwards."""
    with contextlib.closing(sqlite3.connect(local_store(root.path).database, timeout=20)) as store:
        store.execute("BEGIN EXCLUSIVE")
        wanted = ["run=locked", "epochs=3", "mlflow_cfg.use=true", "num_threads=1"]
        run = launch.start(load_config("demo.yaml", overrides=wanted), root)
        until(lambda: run.epochs_done() == 3, 600, "third epoch")
        took = until(lambda: not run.is_due(), 200, "end")
    rows, state = len(run.metrics()), run.state().status
    missing = [one.id for one in lacking(root)]
    for one in lacking(root):
        catch_up(one, root)
    run_id = (run.read_json("mlflow.json") or {})["run_id"]
    history = client_of(root.path).get_metric_history(run_id, "train_loss")
    print(f"store locked: run {state} with {rows} of 3 rows, gone {took:.1f} s after its last epoch; then completed: "
          f"{len(missing)} copies, {len(history)} epochs, {status_of(run, root)}")  # fmt: skip
    return (state, rows, len(history), status_of(run, root)) == ("finished", 3, 3, "FINISHED")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=5, help="fresh stores (default: %(default)s)")
    parser.add_argument("--bare-repeats", type=int, default=1, help="with MLflow alone (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=20, help="that each process logs (default: %(default)s)")
    parser.add_argument("--only", choices=("race", "runs"), help="only the race, or only runs that are killed")
    options = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory(prefix="pianistid-mlflow-") as name:
        folder = Path(name)
        if options.only != "runs":
            good = race(folder, options)
        if options.only != "race":
            root = DataRoot(folder / "root", cache_dir=folder / "cache")
            make_demo(root)
            good = killed(root) and good
            good = locked(root) and good
    print(json.dumps({"kept": good}))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
