"""kill -9 in the middle of saving a checkpoint: is there always one that loads?

    python tests/reliability/saves.py --kills 100

A process of its own saves checkpoints, one after the other, and says before each that it begins and after each that it
is done. It is killed while it saves, at moments drawn evenly over what a save takes. Then the run's newest checkpoint
must load with the weights of the save that was at hand or of one before it, none that it said was done may be lost,
and a sweep must leave nothing half-written. For comparison the same is done with plain `torch.save` over one file.
Exit status 1 when one is lost.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from pianistid_core.checkpoints import read_checkpoint
from pianistid_core.errors import PianistIDError
from pianistid_core.runs import Run


def state(number: int, n_values: int) -> dict[str, object]:
    return {"model_state_dict": {"w": torch.full((n_values,), float(number))}, "epoch": number}


def save_for_ever(run: Run, n_values: int, said: int, *, plain: bool) -> None:
    """Saves checkpoints 1, 2, ...; says B before each and D after it."""
    for number in range(1, 1_000_000):
        whole = state(number, n_values)
        os.write(said, b"B")
        if plain:
            torch.save(whole, run.path / "plain.pth")
        else:
            run.save_checkpoint(whole, epoch=number, batch=0, keep_old=False)
        os.write(said, b"D")


def killed_in_a_save(run: Run, n_values: int, wait_s: float, at_least: int, *, plain: bool) -> tuple[int, bool]:
    """Kills a saving process so many seconds into a save; gives how many it had done, and whether one was at hand."""
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reads)
        try:
            save_for_ever(run, n_values, writes, plain=plain)
        finally:
            os._exit(1)
    os.close(writes)
    said = b""
    while said.count(b"D") < at_least or not said.endswith(b"B"):
        if not (more := os.read(reads, 1)):
            raise RuntimeError("the saving process ended by itself")
        said += more
    time.sleep(wait_s)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    while more := os.read(reads, 4096):
        said += more
    os.close(reads)
    return said.count(b"D"), said.endswith(b"B")


def is_kept(run: Run, n_values: int, done: int) -> bool:
    """Whether the newest checkpoint loads, and is of the last save that was done or the one at hand."""
    try:
        newest = run.latest_checkpoint()
        saved = read_checkpoint(newest)
    except PianistIDError as error:
        print(error)
        return False
    number, weights = saved["epoch"], saved["model_state_dict"]["w"]
    run.sweep()
    whole = number in (done, done + 1) and torch.equal(weights, torch.full((n_values,), float(number)))
    before = run.checkpoints()[-2] if number > 1 else newest
    read_checkpoint(before)
    return whole and not list(run.path.glob(".*.tmp"))


def plain_loads(path: Path, n_values: int) -> bool:
    try:
        saved = torch.load(path, weights_only=True)
    except Exception:
        return False
    return torch.equal(saved["model_state_dict"]["w"], torch.full((n_values,), float(saved["epoch"])))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="kills in the middle of a save, of either kind")
    parser.add_argument("--values", type=int, default=1_000_000, help="weights in the checkpoint, 4 bytes each")
    parser.add_argument("--seed", type=int, default=0, help="which moments are drawn")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    torch.set_num_threads(1)
    complete = True
    for plain in (False, True):
        took = []
        with tempfile.TemporaryDirectory(prefix="saves-") as folder:
            run = Run.create(Path(folder), "reliability", "measured")
            for number in range(1, 6):
                whole, began = state(number, options.values), time.perf_counter()
                if plain:
                    torch.save(whole, run.path / "plain.pth")
                else:
                    run.save_checkpoint(whole, epoch=number, batch=0, keep_old=False)
                took.append(time.perf_counter() - began)
        loadable = in_a_save = tried = 0
        began = time.perf_counter()
        while in_a_save < options.kills:
            tried += 1
            with tempfile.TemporaryDirectory(prefix="saves-") as folder:
                run = Run.create(Path(folder), "reliability", f"killed-{tried}")
                wait_s = rng.uniform(0, sorted(took)[2])
                done, at_hand = killed_in_a_save(run, options.values, wait_s, 2, plain=plain)
                if not at_hand:  # the save was quicker than that: killed between two
                    continue
                in_a_save += 1
                if plain:
                    loadable += plain_loads(run.path / "plain.pth", options.values)
                else:
                    loadable += is_kept(run, options.values, done)
        seconds = time.perf_counter() - began
        print(
            f"{'plain torch.save' if plain else 'save_checkpoint'}: kill -9 in the middle of {in_a_save} saves: "
            f"{loadable} loadable; {seconds:.0f} s",
            flush=True,
        )
        complete &= plain or loadable == in_a_save
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
