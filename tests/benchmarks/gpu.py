"""Everything about speed that only a GPU can show, in one call; results as text, and as JSON with --json FILE.

    python tests/benchmarks/gpu.py                           about eight minutes on one large GPU
    python tests/benchmarks/gpu.py --only steps,busy --networks factorised

- peak: what one large bf16 matrix product reaches, which is the arithmetic limit that the rest is held against;
- loader: clips a second by each form, drawn and brought to the device;
- steps: training steps of the paper's networks, as the reference computes and with one fast key after the other, fed by
  the loader and on one constant batch; share of the peak; memory;
- busy: the share of time in which the GPU computes while it is fed, by torch's profiler, and the costliest kernels;
- hundred: 100 epochs of 7,271 training clips and a test pass each, by the best setting measured;
- evaluation: a test pass with all 15 subsets of concepts, and the share of the subsets in it;
- accuracy: the demo trained as the reference computes and fast, side by side;
- peers: the code of several processes (nccl, shared gradients, norms and draws) with this one process, against a plain
  step: how far weights are apart after some steps, and what a step costs.

On a machine without a GPU it can be tried with --device cpu --tiny, which measures nothing worth knowing.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from steps import Bench, median, wait_for
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from pianistid_core.batches import Batch
from pianistid_core.config import RunConfig, parse_config
from pianistid_core.datasets.cache import open_note_cache
from pianistid_core.datasets.demo.making import make_demo
from pianistid_core.datasets.root import DataRoot
from pianistid_core.evaluation import CONCEPT_SUBSETS, ablate
from pianistid_core.learning import Learner, clips_of
from pianistid_core.loader import ahead, make_loader
from pianistid_core.models.chance import Share
from pianistid_core.peers import Peers
from pianistid_core.runs import Run
from pianistid_core.sharing import sharing
from pianistid_core.speed import AS_REFERENCE, FAST_ON_GPU
from pianistid_core.training import train

PAPER_CLIPS, PAPER_TEST_CLIPS, PAPER_EPOCHS = 7271, 900, 100
CLIPS = {"multichannel": True, "data_augmentation": True, "jitter_start": True, "augmentation_probability": 0.5}
TEST_CLIPS = {"multichannel": True, "data_augmentation": False, "jitter_start": False}
NETWORKS: dict[str, dict[str, Any]] = {
    "factorised": {
        "encoder_module": "disentangle",
        "model_cfg": {"_use_resnet": True, "_resnet_cls": "resnet18", "use_masking": True, "pool_type": "max"},
        "optim_type": "adam",
        "train_dataset_cfg": CLIPS,
        "test_dataset_cfg": TEST_CLIPS,
    },
    "resnet50": {
        "encoder_module": "resnet50",
        "train_dataset_cfg": {**CLIPS, "multichannel": False},
        "test_dataset_cfg": {**TEST_CLIPS, "multichannel": False},
    },
    "compact": {
        "encoder_module": "disentangle",
        "model_cfg": {"compact_encoders": True, "compact_stem": 8, "compact_width": 16},
        "optim_type": "adam",
        "train_dataset_cfg": CLIPS,
        "test_dataset_cfg": TEST_CLIPS,
    },
}
REFERENCE, FAST = dict(AS_REFERENCE), dict(FAST_ON_GPU)
LADDER: dict[str, dict[str, Any]] = {
    "as the reference": REFERENCE,
    "bf16": {"precision": "bf16"},
    "bf16, channels last": {"precision": "bf16", "channels_last": True},
    "bf16, channels last, fused": {"precision": "bf16", "channels_last": True, "fused_optimiser": True},
    "bf16, channels last, fused, strokes": {**FAST, "compile": False},
    "all of them": FAST,
}


def config_of(network: str, keys: dict[str, Any], batch_size: int) -> RunConfig:
    return parse_config({**NETWORKS[network], **keys, "batch_size": batch_size, "data_split_dir": "demo"})


def flop_a_clip(bench: Bench) -> float:
    """Floating-point operations of one clip's forward pass."""
    clip = bench.constant.rolls[:1].float()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        bench.learner.model.eval()(clip)
    bench.learner.model.train()
    return float(counter.get_total_flops())


def peak(device: torch.device, size: int) -> float:
    """FLOP/s of a bf16 matrix product."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        left @ right
    wait_for(device)
    began = time.perf_counter()
    for _ in range(20):
        left @ right
    wait_for(device)
    return 20 * 2 * size**3 / (time.perf_counter() - began)


class Script:
    def __init__(self, options: argparse.Namespace, root: DataRoot) -> None:
        self.options, self.root = options, root
        self.device = torch.device(options.device)
        self.batch_sizes = [2] if options.tiny else [20, 80, 160]
        self.n_steps, self.rounds = (1, 2) if options.tiny else (20, 5)
        self.networks = ["compact"] if options.tiny else options.networks.split(",")
        self.found: dict[str, Any] = {}
        self.peak = peak(self.device, 256 if options.tiny else 8192)

    def say(self, part: str, row: dict[str, Any]) -> None:
        self.found.setdefault(part, []).append(row)
        print(f"{part:10s} " + "  ".join(f"{key} {_short(value)}" for key, value in row.items()), flush=True)

    def bench(self, network: str, keys: dict[str, Any], batch_size: int) -> Bench:
        bench = Bench(config_of(network, keys, batch_size), self.root, self.device)
        bench.fed(3), bench.starved_of_nothing(3)
        return bench

    # --- the parts ---

    def loader(self) -> None:
        for form in ("float32", "uint8", "strokes"):
            for workers in (0, 2) if self.options.tiny else (0, 4, 8):
                bench = Bench(
                    config_of("compact", {"roll_form": form, "num_workers": workers}, 20), self.root, self.device
                )
                bench.drawn(5)
                seconds = median([bench.drawn(self.n_steps) for _ in range(self.rounds)])
                bench.batches.close()
                self.say(
                    "loader", {"form": form, "workers": workers, "clips/s": 20 / seconds, "ms/batch": 1e3 * seconds}
                )

    def steps(self) -> None:
        for network in self.networks:
            for batch_size in self.batch_sizes:
                ladder = LADDER if batch_size == self.batch_sizes[0] else {"all of them": FAST}
                for name, keys in ladder.items():
                    self._step(network, name, keys, batch_size)

    def _step(self, network: str, name: str, keys: dict[str, Any], batch_size: int) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        try:
            bench = self.bench(network, keys, batch_size)
        except torch.OutOfMemoryError:
            self.say("steps", {"network": network, "keys": name, "batch": batch_size, "failed": "out of memory"})
            return
        flop = 3 * batch_size * flop_a_clip(bench)
        pairs = [(bench.fed(self.n_steps), bench.starved_of_nothing(self.n_steps)) for _ in range(self.rounds)]
        drawn = median([bench.drawn(self.n_steps) for _ in range(self.rounds)])
        bench.batches.close()
        fed, constant = (median([pair[side] for pair in pairs]) for side in (0, 1))
        row = {
            "network": network,
            "keys": name,
            "batch": batch_size,
            "fed_ms": 1e3 * fed,
            "constant_ms": 1e3 * constant,
            "fed/constant": median([one / other for one, other in pairs]),
            "drawn_ms": 1e3 * drawn,
            "network/loader": constant / drawn,
            "clips/s": batch_size / fed,
            "TFLOP/s": flop / fed / 1e12,
            "of_peak": flop / fed / self.peak,
            "memory_GB": torch.cuda.max_memory_allocated(self.device) / 1e9 if self.device.type == "cuda" else 0.0,
        }
        self.say("steps", row)

    def busy(self) -> None:
        for network in self.networks:
            for name, keys in (("as the reference", REFERENCE), ("all of them", FAST)):
                bench = self.bench(network, keys, self.batch_sizes[0])
                kinds = [ProfilerActivity.CPU]
                kinds += [ProfilerActivity.CUDA] if self.device.type == "cuda" else []
                with profile(activities=kinds) as seen:
                    began = time.perf_counter()
                    bench.fed(self.n_steps)
                    wall = time.perf_counter() - began
                bench.batches.close()
                on_device = [event for event in seen.events() if event.device_type.name == "CUDA"]
                spans = [(event.time_range.start, event.time_range.end) for event in on_device]
                self.say("busy", {"network": network, "keys": name, "share": covered(spans) / 1e6 / wall})
                table = seen.key_averages().table(
                    sort_by="self_device_time_total" if spans else "self_cpu_time_total",
                    row_limit=12,
                    max_name_column_width=60,
                )
                print(table)
                self.found.setdefault("kernels", {})[f"{network}, {name}"] = table

    def hundred(self) -> None:
        for network in self.networks:
            rows = [row for row in self.found.get("steps", []) if row["network"] == network and "clips/s" in row]
            for name in ("as the reference", "all of them"):
                chosen = [row for row in rows if row["keys"] == name and row["batch"] == self.batch_sizes[0]]
                if chosen:
                    clips = PAPER_EPOCHS * (PAPER_CLIPS + PAPER_TEST_CLIPS / 3)  # a test clip costs a third
                    self.say(
                        "hundred", {"network": network, "keys": name, "minutes": clips / chosen[0]["clips/s"] / 60}
                    )

    def evaluation(self) -> None:
        network = self.networks[0]
        config = config_of(network, FAST, 20)
        bench = Bench(config, self.root, self.device)
        cache = open_note_cache(self.root, "demo", "test")
        names = tuple(map(str, range(len(cache.class_names))))
        for _ in range(2):
            wait_for(self.device)
            began = time.perf_counter()
            clips = clips_of(config, cache, training=False)
            ablate(bench.learner.model, ahead(make_loader(clips, batch_size=20)), self.device, names)
            wait_for(self.device)
            seconds = time.perf_counter() - began
        bench.batches.close()
        self.say(
            "evaluation", {"network": network, "subsets": len(CONCEPT_SUBSETS), "ms/clip": 1e3 * seconds / len(cache)}
        )

    def accuracy(self) -> None:
        for name, keys in (("as the reference", REFERENCE), ("all of them", FAST)):
            mapping = {
                **NETWORKS["compact"],
                **keys,
                "experiment": "speed",
                "run": name.replace(" ", "-"),
                "batch_size": 8,
                "epochs": 1 if self.options.tiny else 12,
                "data_split_dir": "demo",
                "device": str(self.device),
                "optim_cfg": {"lr": 0.002},
            }
            config = parse_config(mapping)
            run = Run(self.root.checkpoints_dir / "speed" / str(config.run))
            began = time.perf_counter()
            train(config, self.root, run)
            seconds = time.perf_counter() - began
            validation = json.loads((run.path / "evaluation" / "validation.json").read_text())
            row = {"keys": name, "recording_accuracy": validation["recording_accuracy"], "seconds": seconds}
            self.say("accuracy", {**row, "clip_accuracy": validation["clip_accuracy"]})

    def peers(self) -> None:
        os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
        os.environ["MASTER_PORT"] = "29555"
        config = config_of(self.networks[0], {"optim_type": "sgd", "optim_cfg": {"lr": 0.01}}, self.batch_sizes[0])
        n = config.batch_size
        alone = self._stepped(Learner(config, self.device, 8))
        share = Share(n, 0, n)
        peers = OneOfOne(0, 1, 0)
        with peers.joined(self.device):
            together = self._stepped(Learner(config, self.device, 8, wrap=sharing(peers, share)))
        apart = max(float((alone[1][name] - together[1][name]).abs().max()) for name in alone[1])
        self.say("peers", {"alone_ms": 1e3 * alone[0], "together_ms": 1e3 * together[0], "weights_apart": apart})

    def _stepped(self, learner: Learner) -> tuple[float, dict[str, torch.Tensor]]:
        """Seconds a step, and the weights after six."""
        learner.model.train()
        torch.manual_seed(7)
        n = learner.config.batch_size
        numbers = torch.arange(n)
        batch = Batch(torch.rand(n, learner.model.in_channels, 88, 3000), numbers % 8, numbers, numbers, None, [])
        seconds = []
        for _ in range(2 if self.options.tiny else 6):
            wait_for(self.device)
            began = time.perf_counter()
            learner.learn(batch, "the benchmark", weight=1.0)
            wait_for(self.device)
            seconds.append(time.perf_counter() - began)
        return median(seconds), {name: value.float().cpu() for name, value in learner.model.state_dict().items()}


class OneOfOne(Peers):
    """One process that goes about it as if there were more."""

    many = True  # type: ignore[assignment]


def covered(spans: list[tuple[float, float]]) -> float:
    """How much of time the spans cover together."""
    total, end = 0.0, float("-inf")
    for first, last in sorted(spans):
        total += max(0.0, last - max(first, end))
        end = max(end, last)
    return total


def _short(value: object) -> str:
    return (
        f"{value:.3g}"
        if isinstance(value, float) and value < 1000
        else f"{value:,.0f}"
        if isinstance(value, float)
        else str(value)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--networks", default="factorised,resnet50")
    parser.add_argument("--only", default="loader,steps,busy,hundred,evaluation,accuracy,peers")
    parser.add_argument("--tiny", action="store_true", help="try the script itself")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("there is no GPU here; --device cpu --tiny tries the script itself")
    with tempfile.TemporaryDirectory() as folder:
        root = DataRoot.open(folder)
        make_demo(root)
        script = Script(options, root)
        name = torch.cuda.get_device_name() if script.device.type == "cuda" else "CPU"
        print(f"{name}, torch {torch.__version__}; a bf16 matrix product reaches {script.peak / 1e12:.3g} TFLOP/s")
        for part in options.only.split(","):
            work: Callable[[], None] = getattr(script, part)
            work()
        if options.json:
            options.json.write_text(json.dumps({"device": name, "peak": script.peak, **script.found}, indent=1))


if __name__ == "__main__":
    main()
