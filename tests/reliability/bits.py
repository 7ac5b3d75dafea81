"""One bit of a checkpoint flipped: is it found, and what does torch make of it alone?

    python tests/reliability/bits.py --flips 400

A checkpoint is saved as a training saves it. One bit is flipped at so many random places, one at a time, and besides
each bit of the end record and the seal. Each file is given to `read_checkpoint`, and to plain `torch.load`. Exit status
1 when a flip is not found.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from pianistid_core.checkpoints import read_checkpoint
from pianistid_core.errors import CheckpointError, DamagedCheckpointError
from pianistid_core.runs import Run

SEAL_AND_END_BYTES = 86 + 22


def is_found(path: Path) -> bool:
    try:
        read_checkpoint(path)
    except DamagedCheckpointError:
        return True
    except CheckpointError:  # refused, but for what torch said of it
        return False
    return False


def torch_notices(path: Path) -> bool:
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception:
        return True
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=400, help="bits at random places")
    parser.add_argument("--values", type=int, default=100_000, help="weights in the checkpoint, 4 bytes each")
    parser.add_argument("--seed", type=int, default=0, help="which places are drawn")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory(prefix="bits-") as folder:
        run = Run.create(Path(folder), "reliability", "bits")
        weights = torch.from_numpy(rng.normal(size=(10, options.values // 10)).astype(np.float32))
        layers = {f"layer{number}.weight": weights[number].clone() for number in range(10)}
        path = run.save_checkpoint({"model_state_dict": layers, "epoch": 1}, epoch=1, batch=0, keep_old=True)
        data = path.read_bytes()
        read_checkpoint(path)
        anywhere = rng.choice(8 * len(data), size=options.flips, replace=False).tolist()
        at_the_end = list(range(8 * (len(data) - SEAL_AND_END_BYTES), 8 * len(data)))
        complete = True
        for name, bits in (("at random places", anywhere), ("in the end record and the seal", at_the_end)):
            found = noticed = 0
            began = time.perf_counter()
            for bit in bits:
                changed = bytearray(data)
                changed[bit // 8] ^= 1 << bit % 8
                path.write_bytes(changed)
                found += is_found(path)
                noticed += torch_notices(path)
            complete &= found == len(bits)
            seconds = time.perf_counter() - began
            print(
                f"{len(bits)} flips {name} of {len(data):,} bytes: {found} found; by torch.load alone {noticed}; "
                f"{seconds:.0f} s"
            )
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
