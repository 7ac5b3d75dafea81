"""How long a training step takes, fed by the real loader, against the same step on one batch that lies on the device.

    python tests/benchmarks/steps.py                                          the compact network, on the demo's clips
    python tests/benchmarks/steps.py --config jazz20-cpu.yaml --data-root ROOT --set batch_size=16
    python tests/benchmarks/steps.py --config fast/resnet50.yaml --device cuda

Rounds of both kinds take turns, so that whatever else the machine does falls on both; the ratio is taken within each
pair of rounds. Nothing is written but to a temporary folder, where the demo is composed when no data root is given.
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import torch

from pianistid_core.batches import Batch
from pianistid_core.config import RunConfig, load_config
from pianistid_core.datasets.cache import open_note_cache
from pianistid_core.datasets.demo.making import make_demo
from pianistid_core.datasets.root import DataRoot
from pianistid_core.devices import choose_device
from pianistid_core.learning import Learner, class_names_of, clips_of
from pianistid_core.loader import ClipDataset, ahead, make_loader


def endless(dataset: ClipDataset, config: RunConfig) -> Iterator[Batch]:
    """Full batches of one epoch after the other, as training draws them."""
    for epoch in itertools.count():
        dataset.set_epoch(epoch)
        loader = make_loader(
            dataset,
            batch_size=config.batch_size,
            shuffle=True,
            num_workers=config.num_workers,
            form=config.roll_form,
        )
        yield from (batch for batch in ahead(loader) if len(batch) == config.batch_size)


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Bench:
    """A network that learns, and clips to learn from."""

    def __init__(self, config: RunConfig, root: DataRoot, device: torch.device) -> None:
        self.config, self.device = config, device
        cache = open_note_cache(root, config.data_split_dir, "train")
        self.clips = clips_of(config, cache, training=True)
        self.learner = Learner(config, device, len(class_names_of(config, cache)))
        self.learner.model.train()
        self.batches = endless(self.clips, config)
        self.constant = next(self.batches).to_device(device)

    def fed(self, steps: int) -> float:
        """Seconds a step, each with a batch that the loader has drawn for it."""
        wait_for(self.device)
        began = time.perf_counter()
        for _ in range(steps):
            self.learner.learn(next(self.batches), "the benchmark")
        wait_for(self.device)
        return (time.perf_counter() - began) / steps

    def starved_of_nothing(self, steps: int) -> float:
        """Seconds a step, each with the same batch."""
        wait_for(self.device)
        began = time.perf_counter()
        for _ in range(steps):
            self.learner.learn(self.constant, "the benchmark")
        wait_for(self.device)
        return (time.perf_counter() - began) / steps

    def drawn(self, steps: int) -> float:
        """Seconds a batch, drawn and brought to the device, with nothing learned."""
        wait_for(self.device)
        began = time.perf_counter()
        for _ in range(steps):
            next(self.batches).to_device(self.device)
        wait_for(self.device)
        return (time.perf_counter() - began) / steps


def spread(values: list[float], unit: float = 1000) -> str:
    return f"{unit * median(values):9.2f} ({unit * min(values):.2f} to {unit * max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="demo.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=4, help="steps in a round")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = DataRoot.open(options.data_root or folder)
        if options.data_root is None:
            make_demo(root)
        overrides = [*options.set, *([] if options.data_root else ["data_split_dir=demo"])]
        config = load_config(options.config, overrides=overrides)
        device = choose_device(options.device)
        bench = Bench(config, root, device)
        bench.fed(3), bench.starved_of_nothing(3)  # compiled, warm
        pairs = [(bench.fed(options.steps), bench.starved_of_nothing(options.steps)) for _ in range(options.rounds)]
        draws = [bench.drawn(options.steps) for _ in range(options.rounds)]
        bench.batches.close()
    fed, constant = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    ratios = [one / other for one, other in pairs]
    print(
        f"{options.config} {' '.join(options.set)}: {config.encoder_module}, batches of {config.batch_size}, {device}, "
        f"{torch.get_num_threads()} threads, {options.rounds} rounds of {options.steps} steps"
    )
    print(f"step fed by the loader, ms        {spread(fed)}")
    print(f"step on one constant batch, ms    {spread(constant)}")
    print(f"ratio within a round              {spread(ratios, 1)}")
    print(f"a batch drawn alone, ms           {spread(draws)}")


if __name__ == "__main__":
    main()
