"""What a whole run will take in time, memory and disk space, worked out from what its preflight measured."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from pianistid_core.config import RunConfig

_STARTUP_S = 3.0
_ROW_BYTES = 1_000  # of an epoch: a row of metrics and a line of the log


@dataclass(frozen=True)
class Range:
    """An estimate: the likely value, and what it will hardly be below or above."""

    low: float
    likely: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """What the whole run will take; disk space is what it will have written at its end."""

    epoch_s: Range
    total_s: Range
    memory_bytes: Range
    disk_bytes: Range


@dataclass
class Measured:
    """What the checks of a preflight found out: times in seconds, sizes in bytes, clips an epoch or evaluation has.

    `step_s` and `eval_s` are batch by batch; `steady_step_s` is a step once the loader's first batches are used up.
    """

    epochs_done: int = 0
    n_train_clips: int = 0
    n_test_clips: int = 0
    n_validation_clips: float = 0.0
    step_s: list[float] = field(default_factory=list)
    steady_step_s: float = 0.0
    restart_s: float = 0.0
    eval_s: list[float] = field(default_factory=list)
    workers_bytes: int = 0
    checkpoint_bytes: int = 0
    checkpoint_s: float = 0.0
    figure_bytes: int = 0
    figure_s: float = 0.0
    peak_bytes: int = 0

    def disk_bytes(self, config: RunConfig) -> float:
        """What the run will have written at its end."""
        n_checkpoints = _n_checkpoints(config)
        kept = min(2, n_checkpoints) if config.checkpoint_cfg.delete_old_checkpoints else n_checkpoints
        copies = kept + (1 if config.mlflow_cfg.use else 0)
        return copies * self.checkpoint_bytes + _n_figures(config) * self.figure_bytes + config.epochs * _ROW_BYTES

    def estimate(self, config: RunConfig) -> Estimate:
        """What the run will take, with ranges by how much the measured steps differ."""
        eval_s = statistics.median(self.eval_s)
        n_train, n_test = self.n_train_clips / config.batch_size, self.n_test_clips / config.batch_size
        epoch_s = n_train * self.steady_step_s + n_test * eval_s + self.restart_s * (1 + n_test / max(1.0, n_train))
        # Files come seldom, and are part of the whole rather than of an epoch.
        share = (config.epochs - self.epochs_done) / config.epochs
        files_s = share * (_n_checkpoints(config) * self.checkpoint_s + _n_figures(config) * self.figure_s / 2)
        validation_s = self.n_validation_clips / config.batch_size * eval_s
        total_s = _STARTUP_S + (config.epochs - self.epochs_done) * epoch_s + validation_s + files_s
        spread = _spread(self.step_s)
        memory, disk = self.peak_bytes + self.workers_bytes, self.disk_bytes(config)
        return Estimate(
            epoch_s=_around(epoch_s, spread),
            total_s=_around(total_s, spread),
            memory_bytes=Range(0.95 * memory, memory, 1.25 * memory),
            disk_bytes=Range(0.9 * disk, disk, 1.2 * disk + 1e6),
        )


def _n_checkpoints(config: RunConfig) -> int:
    options = config.checkpoint_cfg
    return -(-config.epochs // options.checkpoint_after_n_epochs) if options.save_checkpoints else 0


def _n_figures(config: RunConfig) -> int:
    from pianistid_core.keeping import FIGURE_EVERY_EPOCHS

    epochs = config.epochs
    return len({1, epochs, *range(FIGURE_EVERY_EPOCHS, epochs + 1, FIGURE_EVERY_EPOCHS)}) + 1


def _around(likely: float, spread: float) -> Range:
    return Range(likely * (1 - spread), likely, likely * (1 + 1.5 * spread))


def _spread(seconds: Sequence[float]) -> float:
    """How far an estimate from these may be off, as a share: their own unrest, and what no preflight can see."""
    if len(seconds) < 2:
        return 0.35
    unrest = statistics.stdev(seconds) / statistics.mean(seconds) / len(seconds) ** 0.5
    return float(min(0.5, 0.12 + 2 * unrest))
