"""What the networks cost on a CPU: a forward pass, a training step and an evaluation with all masks.

    python tests/benchmarks/network.py [--quick] [forward] [step] [evaluation]

Each is done in this program's way and in the reference's, with the paper's options, 20 pianists, batches of 4 and two
threads. Every way has a process of its own and these take turns, one round after the other, so that a ratio is of
neighbours in time; it is the median of the rounds' ratios. Seconds are the median of the rounds (least to most). CPU
seconds are those of both threads, and hold where other programs take their share of the machine. The first round is
not counted: it lays out memory, or compiles.
"""

import copy
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

# Before torch is loaded: waiting threads shall not count as computing ones.
os.environ |= {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}

import numpy as np
import torch

from pianistid_core.batches import Batch
from pianistid_core.concepts import CONCEPTS
from pianistid_core.config import RunConfig, load_config
from pianistid_core.devices import keep_memory
from pianistid_core.evaluation import CONCEPT_SUBSETS, predict_each
from pianistid_core.learning import Learner
from pianistid_core.models import FactorisedModel, PianistModel, build_model, for_inference

PRESETS = {
    "factorised resnet18": "disentangle-final-experiments/"
    "disentangle-jtd+pijama-resnet18-noattention-maxpool-augment50-mask30concept3.yaml",
    "resnet50": "baselines/resnet50-jtd+pijama-augment.yaml",
}
PIANISTS, BATCH, THREADS = 20, 4, 2
CPU = torch.device("cpu")

Answer = torch.Tensor | None
Work = Callable[[], Answer]


def config_of(network: str) -> RunConfig:
    return load_config(PRESETS[network])


def model_of(network: str) -> PianistModel:
    torch.manual_seed(0)
    config = config_of(network)
    return build_model(config.encoder_module, config.model_cfg, PIANISTS).eval()


def batch_for(model: PianistModel) -> Batch:
    """Rolls of which a twentieth sounds, as in music."""
    torch.manual_seed(1)
    shape = (BATCH, model.in_channels, 88, 3000)
    rolls = (torch.rand(shape) < 0.05).float() * torch.rand(shape)
    numbers = torch.arange(BATCH)
    return Batch(rolls, numbers, numbers, numbers, None, [])


# --- a forward pass --------------------------------------------------------------------------------------------------


def forward_as_trained(network: str) -> Work:
    model = model_of(network)
    rolls = batch_for(model).rolls

    def work() -> Answer:
        with torch.no_grad():
            logits: torch.Tensor = model(rolls)
        return logits

    return work


def forward_for_inference(network: str, *, compile: bool) -> Work:
    keep_memory()
    model = for_inference(model_of(network), compile=compile)
    rolls = batch_for(model).rolls

    def work() -> Answer:
        with torch.inference_mode():
            logits: torch.Tensor = model(rolls)
        return logits

    return work


# --- a training step -------------------------------------------------------------------------------------------------


def step_by_hand(network: str) -> Work:
    config, model = config_of(network), model_of(network).train()
    batch = batch_for(model)
    kinds = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    optimiser = kinds[config.optim_type](model.parameters(), lr=1e-4)

    def work() -> Answer:
        logits = model(batch.rolls)
        loss = torch.nn.functional.cross_entropy(logits, batch.labels)
        accuracy = (logits.argmax(dim=1) == batch.labels).float().mean()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        loss.item(), accuracy.item()
        return None

    return work


def step_of_learner(network: str) -> Work:
    keep_memory()
    learner = Learner(config_of(network), CPU, PIANISTS)
    learner.model.train()
    batch = batch_for(learner.model)

    def work() -> Answer:
        learner.learn(batch, "the benchmark").loss_sum.item()
        return None

    return work


# --- an evaluation with all masks ------------------------------------------------------------------------------------


def evaluation_as_the_reference(network: str) -> Work:
    """The whole model, its encoders once more, and the head 14 times on copies of the embeddings with some zeroed."""
    model = model_of(network)
    batch = batch_for(model)
    masks = [mask for size in (1, 2, 3) for mask in combinations(range(len(CONCEPTS)), size)]

    def work() -> Answer:
        assert isinstance(model, FactorisedModel)
        with torch.no_grad():
            answers = [model(batch.rolls)]
            embeddings = list(model.encode_concepts(batch.rolls).split(1, dim=1))
            for mask in masks:
                copies = copy.deepcopy(embeddings)
                for concept in mask:
                    copies[concept] = copies[concept] * 0
                features = model.pooling(torch.cat(copies, dim=1).transpose(1, 2))
                answers.append(model.head(features))
                (answers[-1].argmax(dim=1) == batch.labels).float().mean().item()
        kept = [tuple(name for at, name in enumerate(CONCEPTS) if at not in mask) for mask in ((), *masks)]
        order = [kept.index(subset) for subset in CONCEPT_SUBSETS]
        return torch.softmax(torch.stack(answers)[order].double(), dim=-1)

    return work


def evaluation(network: str, *, compile: bool) -> Work:
    keep_memory()
    model = for_inference(model_of(network), compile=compile)
    batch = batch_for(model)

    def work() -> Answer:
        found = predict_each(model, [batch], CONCEPT_SUBSETS, CPU)
        return torch.from_numpy(np.stack([one.probabilities for one in found]))

    return work


def share_of_masks(network: str, n: int) -> None:
    """Prints how long the encoders take, and how long all masks together."""
    torch.set_num_threads(THREADS)
    model = for_inference(model_of(network))
    assert isinstance(model, FactorisedModel)
    rolls = batch_for(model).rolls
    seconds: dict[str, list[float]] = {"encoders": [], "masks": []}
    with torch.inference_mode():
        embeddings = model.encode_concepts(rolls)
        model.classify_each(embeddings, CONCEPT_SUBSETS)
        for _ in range(n):
            began = time.process_time()
            embeddings = model.encode_concepts(rolls)
            between = time.process_time()
            for _ in range(100):
                model.classify_each(embeddings, CONCEPT_SUBSETS)
            seconds["encoders"].append(between - began)
            seconds["masks"].append((time.process_time() - between) / 100)
    encoders, masks = (statistics.median(found) for found in seconds.values())
    print(
        f"  of which: encoders {1000 * encoders / BATCH:.0f} ms of CPU a clip, all {len(CONCEPT_SUBSETS)} masks "
        f"{1000 * masks / BATCH:.3f} ms: {100 * masks / (encoders + masks):.3f} %"
    )


# --- taking turns ----------------------------------------------------------------------------------------------------


@dataclass
class Seconds:
    wall: float
    cpu: float


def attend(pipe: Connection, make: Callable[[], Work]) -> None:
    """What each process does: the work, whenever it is asked for it."""
    torch.set_num_threads(THREADS)
    work = make()
    while pipe.recv():
        wall, cpu = time.perf_counter(), time.process_time()
        answer = work()
        seconds = Seconds(time.perf_counter() - wall, time.process_time() - cpu)
        pipe.send((seconds, None if answer is None else answer.numpy()))


def side_by_side(title: str, ways: dict[str, Callable[[], Work]], *, rounds: int, per: int = 1) -> None:
    """Prints what each way costs, in seconds for each of `per` clips, beside the first of them."""
    context = get_context("spawn")
    pipes: dict[str, Connection] = {}
    processes = []
    for name, make in ways.items():
        pipes[name], other = context.Pipe()
        processes.append(context.Process(target=attend, args=(other, make), daemon=True))
        processes[-1].start()
    seconds: dict[str, list[Seconds]] = {name: [] for name in ways}
    answers: dict[str, Any] = {}
    for number in range(rounds + 1):
        for name, pipe in pipes.items():
            pipe.send(True)
            spent, answers[name] = pipe.recv()
            if number:
                seconds[name].append(spent)
    for process, pipe in zip(processes, pipes.values(), strict=True):
        pipe.send(False)
        process.join()
    print(f"{title}, {rounds} rounds")
    first = next(iter(ways))
    for name, found in seconds.items():
        line = f"  {name:34} CPU {spread([s.cpu / per for s in found])}, wall {spread([s.wall / per for s in found])}"
        if name != first:
            gains = [(was.cpu / now.cpu, was.wall / now.wall) for was, now in zip(seconds[first], found, strict=True)]
            cpu, wall = (statistics.median(gain) for gain in zip(*gains, strict=True))
            line += f"; {cpu:.2f} times as fast by CPU, {wall:.2f} by wall{difference(answers[first], answers[name])}"
        print(line, flush=True)


def difference(wanted: Any, found: Any) -> str:
    if wanted is None:
        return ""
    worst = np.abs(found - wanted).max()
    return f"; off by {worst:.1e}, {worst / np.abs(wanted).max():.1e} of the largest"


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} s ({min(values):.2f}-{max(values):.2f})"


def main(arguments: Sequence[str]) -> None:
    quick = "--quick" in arguments
    asked = [argument for argument in arguments if argument != "--quick"] or ["forward", "step", "evaluation"]
    print(
        f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {THREADS} threads, batches of {BATCH}"
    )
    if "forward" in asked:
        for network in PRESETS:
            ways = {
                "as trained (reference)": partial(forward_as_trained, network),
                "folded, channels last": partial(forward_for_inference, network, compile=False),
                "the same, compiled": partial(forward_for_inference, network, compile=True),
            }
            side_by_side(f"forward pass, {network}", ways, rounds=3 if quick else 9)
    if "step" in asked:
        for network in PRESETS:
            ways = {
                "by hand (reference)": partial(step_by_hand, network),
                "Learner": partial(step_of_learner, network),
            }
            side_by_side(f"training step, {network}", ways, rounds=2 if quick else 5)
    if "evaluation" in asked:
        network = "factorised resnet18"
        ways = {
            "two passes, 14 copies (reference)": partial(evaluation_as_the_reference, network),
            "predict_each": partial(evaluation, network, compile=False),
            "predict_each, compiled": partial(evaluation, network, compile=True),
        }
        side_by_side(f"evaluation with all masks, a clip, {network}", ways, rounds=3 if quick else 7, per=BATCH)
        share_of_masks(network, 3 if quick else 7)


if __name__ == "__main__":
    main(sys.argv[1:])
