"""The parts of a config that only training reads: optimisers, schedules, losses, checkpoints and tracking.

Each class belongs to one value of `optim_type`, `sched_type` or `loss_type`, and so do its defaults. Keys and meanings
are those of torch's classes of the same name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pianistid_core.errors import Fault
from pianistid_core.fields import join_key
from pianistid_core.masking import hides_password
from pianistid_core.schema import option


def _learning_rate(default: float) -> Any:
    return option(
        default,
        label="Learning rate",
        help="How far each step moves the weights: too large and the loss jumps or grows, too small and it creeps.",
        low=0,
        low_open=True,
        high=10,
    )


def _weight_decay(default: float) -> Any:
    return option(
        default,
        label="Weight decay",
        help="How strongly weights are pulled towards zero at each step, which holds back learning by heart.",
        low=0,
        high=1,
        level="advanced",
    )


@dataclass(frozen=True)
class SgdOptions:
    """Stochastic gradient descent; the paper trained its ResNet-50 with these values."""

    lr: float = _learning_rate(0.01)
    momentum: float = option(
        0.9,
        label="Momentum",
        help="The share of the last step that is carried into the next, which smooths the way over noisy batches.",
        low=0,
        high=1,
        high_open=True,
    )
    nesterov: bool = option(
        False,
        label="Nesterov momentum",
        help="Looks ahead along the momentum before each step; it needs a momentum above 0.",
        level="advanced",
    )
    weight_decay: float = _weight_decay(0.0001)

    def cross_check(self, prefix: str) -> list[Fault]:
        """Refuses what torch would refuse when the optimiser is built."""
        if self.nesterov and self.momentum == 0:
            message = "got true with a momentum of 0; give false, or a momentum above 0"
            return [Fault(join_key(prefix, "nesterov"), message)]
        return []


@dataclass(frozen=True)
class AdamOptions:
    """Adam; the paper trained its recurrent and factorised models with it."""

    lr: float = _learning_rate(0.001)
    betas: tuple[float, ...] = option(
        (0.9, 0.999),
        label="Betas",
        help="How slowly the running means of the gradient and of its square forget; two numbers, each below 1.",
        low=0,
        high=1,
        high_open=True,
        length=(2, 2),
        level="advanced",
    )
    eps: float = option(
        1e-8,
        label="Epsilon",
        help="A small number that keeps steps finite where gradients vanish; larger values damp the first steps.",
        low=0,
        low_open=True,
        high=1,
        level="advanced",
    )
    weight_decay: float = _weight_decay(0.0)
    amsgrad: bool = option(
        False,
        label="AMSGrad",
        help="Never lets the estimate of a gradient's size shrink, which can help when training does not settle.",
        level="advanced",
    )


@dataclass(frozen=True)
class PlateauOptions:
    """Lowers the learning rate when a figure of the test split stops improving."""

    mode: str = option(
        "min",
        label="Watches",
        help="What must improve: min watches the loss on the test split, max the recording accuracy on it.",
        choices=("min", "max"),
    )
    factor: float = option(
        0.1,
        label="Factor",
        help="The learning rate is multiplied by this when improvement stops; 0.1 makes it ten times smaller.",
        low=0,
        low_open=True,
        high=1,
        high_open=True,
    )
    patience: int = option(
        10,
        label="Patience",
        help="How many epochs without improvement are waited for before the learning rate falls.",
        low=0,
        high=100_000,
        unit="epochs",
    )
    threshold: float = option(
        0.0001,
        label="Threshold",
        help="Changes smaller than this do not count as an improvement, so that noise does not keep the rate up.",
        low=0,
        high=1,
        level="advanced",
    )
    threshold_mode: str = option(
        "rel",
        label="Threshold measured",
        help="Whether the threshold is a share of the best figure so far (rel) or a plain difference from it (abs).",
        choices=("rel", "abs"),
        level="advanced",
    )
    cooldown: int = option(
        0,
        label="Cooldown",
        help="How many epochs pass after the learning rate fell before patience is counted again.",
        low=0,
        high=100_000,
        unit="epochs",
        level="advanced",
    )
    min_lr: float = option(
        0.0,
        label="Lowest learning rate",
        help="The learning rate never falls below this, however long the figure stands still.",
        low=0,
        high=10,
        level="advanced",
    )


@dataclass(frozen=True)
class CosineOptions:
    """Lets the learning rate fall along half a cosine."""

    T_max: int = option(
        100,
        label="Epochs to the minimum",
        help="After this many epochs the learning rate has fallen to its lowest; usually the number of epochs.",
        low=1,
        high=1_000_000,
        unit="epochs",
    )
    eta_min: float = option(
        0.0,
        label="Lowest learning rate",
        help="Where the cosine ends; with 0 the last epochs hardly move the weights any more.",
        low=0,
        high=10,
        level="advanced",
    )


@dataclass(frozen=True)
class StepOptions:
    """Multiplies the learning rate every so many epochs."""

    step_size: int = option(
        30,
        label="Epochs per step",
        help="The learning rate is lowered each time this many epochs have passed since the last time.",
        low=1,
        high=1_000_000,
        unit="epochs",
    )
    gamma: float = option(
        0.1,
        label="Factor",
        help="The learning rate is multiplied by this at each step; 0.1 makes it ten times smaller.",
        low=0,
        low_open=True,
        high=1,
    )


@dataclass(frozen=True)
class LinearOptions:
    """Moves the learning rate in a straight line from one share of it to another."""

    start_factor: float = option(
        1 / 3,
        label="Share at the start",
        help="The share of the learning rate that the first epoch uses; small shares warm a network up gently.",
        low=0,
        low_open=True,
        high=1,
    )
    end_factor: float = option(
        1.0,
        label="Share at the end",
        help="The share of the learning rate that is reached at the end of the line and kept from then on.",
        low=0,
        high=1,
    )
    total_iters: int = option(
        5,
        label="Epochs on the line",
        help="How many epochs it takes to get from the share at the start to the share at the end.",
        low=1,
        high=1_000_000,
        unit="epochs",
    )


@dataclass(frozen=True)
class NoOptions:
    """No schedule: the learning rate stays as it is."""


def _label_smoothing() -> Any:
    return option(
        0.0,
        label="Label smoothing",
        help="The share of each label that is spread over all pianists, so that a network never aims at certainty.",
        low=0,
        high=1,
        high_open=True,
    )


def _logit_adjustment() -> Any:
    return option(
        0.0,
        label="Logit adjustment",
        help="How far pianists with few clips are made up for in training (Menon et al. 2021): 0 not at all, 1 as if "
        "all had equally many.",
        low=0,
        high=2,
    )


@dataclass(frozen=True)
class CrossEntropyOptions:
    """Cross entropy alone."""

    label_smoothing: float = _label_smoothing()
    logit_adjustment: float = _logit_adjustment()


@dataclass(frozen=True)
class TripletOptions:
    """Cross entropy plus a term that draws two clips of one pianist together and others apart."""

    margin: float = option(
        0.3,
        label="Margin",
        help="How much more alike two clips of one pianist should be than clips of two, before the term is content.",
        low=0,
        high=100,
    )
    similarity: str = option(
        "cosine",
        label="Similarity",
        help="How likeness of two embeddings is measured: by their angle (cosine) or their inner product (dot).",
        choices=("cosine", "dot"),
    )
    label_smoothing: float = _label_smoothing()
    logit_adjustment: float = _logit_adjustment()


@dataclass(frozen=True)
class CheckpointOptions:
    """When the state of a training is saved, where, and whether it is taken up again."""

    save_checkpoints: bool = option(
        True,
        label="Save checkpoints",
        help="Writes the model and the state of training to disk, so that a run can be resumed and used afterwards.",
    )
    load_checkpoints: bool = option(
        True,
        label="Resume from checkpoints",
        help="Goes on from the newest checkpoint of the run, if it has one, instead of starting again.",
    )
    checkpoint_after_n_epochs: int = option(
        25,
        label="Checkpoint every",
        help="How many epochs lie between two checkpoints; the last epoch and an early stop are saved in any case.",
        low=1,
        high=1_000_000,
        unit="epochs",
    )
    checkpoint_dir: str | None = option(
        None,
        label="Folder for runs",
        help="Where runs are kept, as experiment/run below it; left empty, the checkpoints folder of the data root.",
        length=(1, 1024),
        level="advanced",
    )
    delete_old_checkpoints: bool = option(
        False,
        label="Keep only the newest two",
        help="Deletes older checkpoints of the run when a newer one is proven on disk, but for the one before it, to "
        "which the run falls back should the newest be damaged.",
        level="advanced",
    )


@dataclass(frozen=True)
class MlflowOptions:
    """Whether a run is also logged to MLflow, and where."""

    use: bool = option(
        False,
        label="Log to MLflow",
        help="Sends parameters, metrics, figures and the model to MLflow as well; the run's own files stay complete.",
    )
    tracking_uri: str | None = option(
        None,
        label="Tracking server",
        help="Address of an MLflow server, such as http://127.0.0.1:5000; left empty, a local store in the data root.",
        length=(1, 1024),
        when=("use", (True,)),
    )
    run_id: str | None = option(
        None,
        label="MLflow run",
        help="The id of an MLflow run to go on with; left empty, a new one is made for a new run.",
        length=(1, 256),
        when=("use", (True,)),
        level="advanced",
    )

    def cross_check(self, prefix: str) -> list[Fault]:
        """An address that may hold a password in an odd place, which is not shown here either."""
        problem = None if self.tracking_uri is None else hides_password(self.tracking_uri)
        message = f"got an address that cannot be used: {problem}"
        return [] if problem is None else [Fault(join_key(prefix, "tracking_uri"), message)]


OptimiserOptions = SgdOptions | AdamOptions
ScheduleOptions = PlateauOptions | CosineOptions | StepOptions | LinearOptions | NoOptions
LossOptions = CrossEntropyOptions | TripletOptions

OPTIMISERS: Mapping[str, type[OptimiserOptions]] = MappingProxyType({"adam": AdamOptions, "sgd": SgdOptions})
SCHEDULES: Mapping[str | None, type[ScheduleOptions]] = MappingProxyType(
    {
        "plateau": PlateauOptions,
        "cosine": CosineOptions,
        "step": StepOptions,
        "linear": LinearOptions,
        None: NoOptions,
    }
)
LOSSES: Mapping[str, type[LossOptions]] = MappingProxyType({"cce": CrossEntropyOptions, "cce+triplet": TripletOptions})
