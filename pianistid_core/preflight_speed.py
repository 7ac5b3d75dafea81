"""The same step as the reference computes it and fast: measured here, with what runs of either kind reached."""

import gc
import itertools
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pianistid_core.comparison import OF_THE_SEED
from pianistid_core.config import RunConfig, flatten
from pianistid_core.run_index import RunIndex
from pianistid_core.speed import AS_REFERENCE, FAST_ON_CPU, FAST_ON_GPU, fast_settings, with_settings

if TYPE_CHECKING:
    import torch

    from pianistid_core.batches import AnyBatch
    from pianistid_core.loader import ClipDataset

KINDS = ("reference", "fast")
_MIN_STEPS = 3
_ENOUGH_S = 4.0
_MAX_S = 12.0


@dataclass(frozen=True)
class Speed:
    """What a training step takes, fed by the loader: seconds, those of the first, and the most memory held.

    `kind` is one of `KINDS`. Where the step could not be taken, `trouble` says why and the rest is 0.
    """

    kind: str
    step_s: float
    first_s: float
    memory_bytes: int
    trouble: str = ""


@dataclass(frozen=True)
class Reached:
    """The accuracy that a finished run reached at its end, over recordings of the test part."""

    run_id: str
    accuracy: float


# --- measured here ---------------------------------------------------------------------------------------------------


def compare_speeds(
    config: RunConfig, device: "torch.device", clips: "ClipDataset", n_classes: int
) -> tuple[Speed, ...]:
    """Measures a config's step as the reference computes it, and fast as the device can."""
    settings = (AS_REFERENCE, fast_settings(on_gpu=device.type == "cuda"))
    return tuple(
        _try(kind, with_settings(config, chosen), device, clips, n_classes)
        for kind, chosen in zip(KINDS, settings, strict=True)
    )


def _try(kind: str, config: RunConfig, device: "torch.device", clips: "ClipDataset", n_classes: int) -> Speed:
    from pianistid_core.failures import failure_in_words

    try:
        return _measure(kind, config, device, clips, n_classes)
    except Exception as error:  # the other may go well
        return Speed(kind, 0.0, 0.0, 0, failure_in_words(error, config))
    finally:
        gc.collect()


def _measure(kind: str, config: RunConfig, device: "torch.device", clips: "ClipDataset", n_classes: int) -> Speed:
    from pianistid_core.devices import peak_memory_bytes, reset_peak_memory
    from pianistid_core.learning import Learner, Sums

    reset_peak_memory(device)
    learner, sums = Learner(config, device, n_classes), Sums(device)
    learner.model.train()
    seconds: list[float] = []
    began = last = time.perf_counter()
    for epoch, is_first, batch in training_batches(config, clips):
        if len(batch):
            where = f"epoch {epoch + 1}"
            sums.add(learner.learn(batch, where))
            sums.read(where)
        now = time.perf_counter()
        # A loader's first batch is waited for, and is one of many in a real epoch; unless that is a single batch.
        if not (is_first and epoch) or len(seconds) < 2:
            seconds.append(now - last)
        last = now
        if _is_enough(len(seconds) - 1, now - began - seconds[0]):
            break
    return Speed(kind, statistics.median(seconds[1:]), seconds[0], peak_memory_bytes(device))


def _is_enough(n_steps: int, elapsed_s: float) -> bool:
    return elapsed_s > (_ENOUGH_S if n_steps >= _MIN_STEPS else _MAX_S) and n_steps > 0


def training_batches(config: RunConfig, clips: "ClipDataset") -> "Iterator[tuple[int, bool, AnyBatch]]":
    """Batches as training draws them, epoch after epoch: (epoch, whether it is a loader's first, batch)."""
    import torch

    from pianistid_core.learning import form_of
    from pianistid_core.loader import ahead, make_loader
    from pianistid_core.trainer import epoch_seed

    for epoch in itertools.count():
        clips.set_epoch(epoch)
        torch.manual_seed(epoch_seed(config.seed, epoch))
        loader = make_loader(
            clips,
            batch_size=config.batch_size,
            shuffle=True,
            num_workers=config.num_workers,
            form=form_of(config),
        )
        for number, batch in enumerate(ahead(loader)):
            yield epoch, number == 0, batch


# --- reached by runs -------------------------------------------------------------------------------------------------


def reached(config: RunConfig, index: RunIndex) -> dict[str, Reached]:
    """The newest finished run of each kind that is this experiment: it differs from the config in nothing else."""
    wanted = _experiment(flatten(config))
    found: dict[str, Reached] = {}
    for summary in index.summaries():
        accuracy = summary.last.get("test_recording_accuracy")
        if summary.state.status != "finished" or not isinstance(accuracy, int | float):
            continue
        run = index.config(summary)
        kind = _kind(run)
        if kind is not None and kind not in found and _experiment(run) == wanted:
            found[kind] = Reached(summary.id, float(accuracy))
    return found


def _kind(config: Mapping[str, Any]) -> str | None:
    settings = {key: config.get(key) for key in AS_REFERENCE}
    if settings == AS_REFERENCE:
        return "reference"
    return "fast" if settings in (dict(FAST_ON_GPU), dict(FAST_ON_CPU)) else None


def _experiment(config: Mapping[str, Any]) -> dict[str, Any]:
    """What decides what is learned, its seed too, but for the settings for speed."""
    beside: Iterable[str] = (OF_THE_SEED - {"seed"}) | AS_REFERENCE.keys()
    return {key: value for key, value in config.items() if key.split(".")[0] not in beside}
