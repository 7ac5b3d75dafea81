"""kill -9 of a trainer at random moments: does it go on, and is the end that of a run that nobody killed?

    python tests/reliability/kills.py --runs 100

Each run trains in a process of its own by the real `train`, is killed once or more at moments drawn evenly over what
it takes (reading clips, steps, evaluation, saving), goes on after each, and is compared with an uninterrupted run of
the same config: every figure of metrics.jsonl but for times and memory, all weights, the optimiser and the schedule of
the last checkpoint, the validation results, and the confusion matrices. The configs have batch norm, dropout, masked
concepts, augmentation and a cosine schedule, 0 or 2 loader processes, and a checkpoint every epoch or every third.
Exit status 1 when a run does not go on or ends differently.
"""

import argparse
import json
import logging
import os
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pianistid_core.checkpoints import read_checkpoint
from pianistid_core.config import RunConfig
from pianistid_core.datasets.root import DataRoot
from pianistid_core.loader import ClipDataset, make_loader
from pianistid_core.run_config import run_for
from pianistid_core.runs import Run
from pianistid_core.training import train
from tiny import tiny_config, write_tiny_data

TIMES = ("seconds", "clips_per_second", "peak_memory_mb")
LAYERS = [
    {"in_channels": 1, "out_channels": 4, "conv_kernel_size": 3, "has_pool": True, "pool_kernel_size": 2},
    {"in_channels": 4, "out_channels": 8, "conv_kernel_size": 3, "has_pool": True, "pool_kernel_size": 2},
]
MODEL = {"layers": LAYERS, "use_gru": False, "use_attention": False, "use_2fc": False, "pool_type": "max"} | {
    "frame_pool": 100, "use_masking": True, "drop_logits": True,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "0 workers, every epoch": {"num_workers": 0, "checkpoint_cfg": {"checkpoint_after_n_epochs": 1}},
    "2 workers, every epoch": {
        "num_workers": 2,
        "checkpoint_cfg": {"checkpoint_after_n_epochs": 1, "delete_old_checkpoints": True},
    },
    "0 workers, every third": {"num_workers": 0, "checkpoint_cfg": {"checkpoint_after_n_epochs": 3}},
    "2 workers, every third": {"num_workers": 2, "checkpoint_cfg": {"checkpoint_after_n_epochs": 3}},
}


def config_of(name: str, run: str) -> RunConfig:
    return tiny_config(run=run, epochs=4, model_cfg=MODEL, sched_type="cosine", sched_cfg={"T_max": 4}, **CONFIGS[name])


def start(config: RunConfig, root: DataRoot) -> int:
    """Trains a run in a forked process that leads a group of its own; gives its number."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        logging.disable(logging.NOTSET)
        code = 0 if train(config, root, run_for(config, root)).status == "finished" else 2
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed(pid: int, after_s: float) -> bool:
    """Kills a process after so many seconds; False when it had ended by itself before."""
    time.sleep(after_s)
    os.kill(pid, signal.SIGKILL)
    return ended(pid) == -signal.SIGKILL


def moment(run: Run) -> str:
    """What a killed trainer was doing."""
    if list(run.path.glob(".checkpoint_*.tmp")):
        return "saving"
    progress = run.progress()
    return "starting" if progress is None else str(progress.get("phase"))


def outcome(run: Run) -> dict[str, Any]:
    """What a run has come to, without what depends on the clock."""
    saved = read_checkpoint(run.latest_checkpoint())
    keep = ("model_state_dict", "optimizer_state_dict", "scheduler_state_dict", "epoch", "batch", "torch_rng")
    return {
        "rows": [{key: value for key, value in row.items() if key not in TIMES} for row in run.metrics()],
        "saved": {key: saved[key] for key in keep},
        "validation": run.read_json("evaluation/validation.json"),
        "matrices": {path.name: json.loads(path.read_text()) for path in sorted(run.path.glob("confusion/*.json"))},
    }


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100, help="how many runs are killed, each once or more")
    parser.add_argument("--seed", type=int, default=0, help="which moments are drawn")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    moments: Counter[str] = Counter()
    n_kills = n_resumed = n_same = 0
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        root = DataRoot(Path(folder) / "root", cache_dir=Path(folder) / "cache")
        write_tiny_data(root)
        # Once here, so that what is compiled need not be in every process; no gradient, or none could be forked.
        next(iter(make_loader(ClipDataset.open(root, "tiny", "train"))))
        whole, takes_s = {}, {}
        for number, name in enumerate(CONFIGS):
            config = config_of(name, f"whole-{number}")
            ended(start(config, root))  # compiles what is left
            began = time.monotonic()
            again = config_of(name, f"whole-again-{number}")
            if ended(start(again, root)):
                print(f"{name}: the uninterrupted run failed")
                return 1
            takes_s[name] = time.monotonic() - began
            whole[name] = outcome(run_for(config, root))
            if not same(whole[name], outcome(run_for(again, root))):
                print(f"{name}: two uninterrupted runs differ")
                return 1
        began = time.monotonic()
        for number in range(options.runs):
            name = list(CONFIGS)[number % len(CONFIGS)]
            config = config_of(name, f"killed-{number:03d}")
            run = run_for(config, root)
            for _ in range(int(rng.choice([1, 1, 2, 3]))):
                if not killed(start(config, root), rng.uniform(0.02, takes_s[name])):
                    # It was quicker than it was the first time: a moment after its end is none of a training.
                    break
                n_kills += 1
                moments[moment(run)] += 1
            code = ended(start(config, root))
            n_resumed += code == 0
            fits = code == 0 and same(whole[name], outcome(run))
            n_same += fits
            print(f"run {number + 1}: {n_kills} kills, {n_same} identical", end="\r", file=sys.stderr, flush=True)
            if not fits:
                print(f"{run.id} ({name}): exit status {code}, {run.state()}\n{run.log_tail(30)}")
        seconds = time.monotonic() - began
    where = ", ".join(f"{phase} {count}" for phase, count in moments.most_common())
    print(
        f"{options.runs} runs, kill -9 {n_kills} times ({where}): {n_resumed} resumed, {n_same} identical ends; "
        f"{seconds:.0f} s"
    )
    return 0 if n_resumed == n_same == options.runs else 1


if __name__ == "__main__":
    sys.exit(main())
