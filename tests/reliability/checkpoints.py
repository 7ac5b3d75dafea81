"""Hostile checkpoints: how many are refused in one sentence, what they cost, and whether any of their code runs.

    python tests/reliability/checkpoints.py [--only WORDS]

Each file is loaded as the lab loads a model, in a process of its own with 500 MB to go; then training is asked to go
on from checkpoints whose weights are good and of which the rest is not, and to take a step. Exit status 1 when one was
not refused in a clear sentence, took more than 2 s of CPU or 500 MB, ran code, or left a file.
"""

import argparse
import os
import sys
import tempfile
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from trial import Outcome, report, tried

from hostile_checkpoints import EXECUTED, cases, good_content, hostile_states, saved
from pianistid_core.checkpoints import check_position, load_model
from pianistid_core.learning import Learner
from tiny import tiny_config

_LIMIT_S, _LIMIT_MB = 2, 500


def loaded(path: Path) -> None:
    load_model(path)


def gone_on_from(content: Mapping[str, Any]) -> str | None:
    """What a training does with a checkpoint before its first step, and that step."""
    learner = Learner(tiny_config(sched_type="plateau"), torch.device("cpu"), 3)
    try:
        check_position(content, source="checkpoint.pth")
        learner.load(content, source="checkpoint.pth")
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        return f"checkpoint.pth does not hold what training goes on from ({type(error).__name__}: {error})"
    learner.try_batch(2)
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only cases that hold these words")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    content = good_content()
    good = saved(content)
    unexpected: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        path, ran = Path(folder, "hostile.pth"), Path(folder, "executed")
        os.environ[EXECUTED] = str(ran)
        path.write_bytes(good)
        load_model(path)
        files: list[Outcome] = []
        for case in cases(good):
            if options.only not in case.name:
                continue
            path.write_bytes(case.make())
            files.append(tried(case.name, lambda: loaded(path), limit_s=60, limit_mb=_LIMIT_MB))
            if (case.refusal is None) != (files[-1].end == "read") or (case.refusal or "") not in files[-1].said:
                unexpected.append(f"{case.name}: {files[-1].end}: {files[-1].said[:300]}")
        others = {entry.name for entry in Path(folder).iterdir()} - {path.name}
        states = hostile_states(content).items()
        gone_on = [tried(name, partial(gone_on_from, state), limit_s=60) for name, state in states]
        ran_any = ran.exists()
    kept = report("hostile checkpoints", files, most_s=_LIMIT_S, most_mb=_LIMIT_MB)
    kept &= report("hostile states to go on from", gone_on, most_s=_LIMIT_S, most_mb=_LIMIT_MB)
    went_on = [one.name for one in gone_on if one.end == "read"]
    print(
        f"code run: {int(ran_any)}; files left beside them: {len(others)}; not as expected: {len(unexpected + went_on)}"
    )
    print(*unexpected, *went_on, sep="\n", end="")
    sys.exit(0 if kept and not (ran_any or others or unexpected or went_on) else 1)


if __name__ == "__main__":
    main()
