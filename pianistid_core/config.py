"""A run's config: one schema with defaults and help, read from YAML, overridden, compared and written.

A default belongs to the choice it was written for: `optim_type: adam` alone means Adam with Adam's defaults, and an
override that changes `encoder_module`, `optim_type`, `sched_type` or `loss_type` leaves behind the settings that the
YAML holds for the old choice. A user's YAML is only ever read.
"""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pianistid_core.clips import ClipOptions
from pianistid_core.errors import ConfigError, Fault
from pianistid_core.models.options import ENCODERS, ModelOptions, ResNetOptions
from pianistid_core.names import folder_name_problem
from pianistid_core.presets import Preset, config_dir, find_config, presets
from pianistid_core.schema import FieldInfo, fields_of, option, parse, read_yaml, to_plain, write_yaml
from pianistid_core.strict_yaml import MAX_BYTES, read_value
from pianistid_core.training_options import (
    LOSSES,
    OPTIMISERS,
    SCHEDULES,
    CheckpointOptions,
    CosineOptions,
    CrossEntropyOptions,
    LossOptions,
    MlflowOptions,
    OptimiserOptions,
    ScheduleOptions,
    SgdOptions,
)

__all__ = [
    "Preset",
    "RunConfig",
    "config_dir",
    "config_fields",
    "default_config",
    "difference",
    "flatten",
    "load_config",
    "parse_config",
    "presets",
    "to_dict",
    "to_yaml",
]

# The choices whose section belongs to them alone.
_CHOICES = {
    "encoder_module": "model_cfg",
    "optim_type": "optim_cfg",
    "sched_type": "sched_cfg",
    "loss_type": "loss_cfg",
}
_DEVICE = re.compile(r"auto|cpu|mps|cuda(?::\d{1,2})?")


def _device_problem(name: str) -> str | None:
    return None if _DEVICE.fullmatch(name) else "give auto, cpu, cuda, cuda:N for the Nth GPU (from 0), or mps"


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a run does; frozen, complete and checked."""

    experiment: str = option(
        "default",
        label="Experiment",
        help="The name under which runs are grouped; it is also the name of their folder.",
        check=folder_name_problem,
    )
    run: str = option(
        "debug_local",
        label="Run",
        help="The name of this run within its experiment; it is also the name of its folder.",
        check=folder_name_problem,
    )
    batch_size: int = option(
        5,
        label="Batch size",
        help="How many clips are seen before each step; more is steadier and faster on a GPU, and needs more memory.",
        low=1,
        high=65_536,
        unit="clips",
    )
    epochs: int = option(
        100,
        label="Epochs",
        help="How many times training goes through all clips; the paper's runs took 100.",
        low=1,
        high=1_000_000,
    )
    data_split_dir: str = option(
        "20class_80min",
        label="Data split",
        help="Which split of the recordings to train and test on: a folder of references/data_splits.",
        check=folder_name_problem,
    )
    classify_dataset: bool = option(
        False,
        label="Classify the source",
        help="Learns to name the collection a clip comes from (such as jtd or pijama) instead of the pianist.",
        level="advanced",
    )
    train_dataset_cfg: ClipOptions = option(
        ClipOptions(data_augmentation=True, jitter_start=True),
        label="Training clips",
        help="How clips of the training part are chosen, varied and drawn.",
    )
    test_dataset_cfg: ClipOptions = option(
        ClipOptions(),
        label="Test clips",
        help="How clips of the test and validation parts are drawn; usually without any variation.",
    )
    encoder_module: str = option(
        "resnet50",
        label="Architecture",
        help=(
            "The network: resnet50 is the paper's most accurate, disentangle explains itself by four concepts, cnn and "
            "crnn are smaller baselines, compact is made for CPUs, and ngram weighs n-grams and traces them to notes."
        ),
        choices=tuple(ENCODERS),
    )
    model_cfg: ModelOptions = option(
        default_factory=ResNetOptions,
        label="Network",
        help="The settings of the chosen architecture; each has its own, with its own defaults.",
        variants=("encoder_module", ENCODERS),
    )
    optim_type: str = option(
        "sgd",
        label="Optimiser",
        help="How weights follow the gradient: sgd with momentum, or adam, which sets the step for each weight.",
        choices=tuple(OPTIMISERS),
    )
    optim_cfg: OptimiserOptions = option(
        default_factory=SgdOptions,
        label="Optimiser settings",
        help="The settings of the chosen optimiser; each has its own, with its own defaults.",
        variants=("optim_type", OPTIMISERS),
    )
    sched_type: str | None = option(
        "cosine",
        label="Schedule",
        help="How the learning rate changes from epoch to epoch; null keeps it as it is.",
        choices=tuple(name for name in SCHEDULES if name is not None),
    )
    sched_cfg: ScheduleOptions = option(
        default_factory=CosineOptions,
        label="Schedule settings",
        help="The settings of the chosen schedule; each has its own, with its own defaults.",
        variants=("sched_type", SCHEDULES),
    )
    loss_type: str = option(
        "cce",
        label="Loss",
        help="What training makes small: cce is cross entropy; cce+triplet also draws clips of one pianist together.",
        choices=tuple(LOSSES),
    )
    loss_cfg: LossOptions = option(
        default_factory=CrossEntropyOptions,
        label="Loss settings",
        help="The settings of the chosen loss; cross entropy alone has none.",
        variants=("loss_type", LOSSES),
    )
    checkpoint_cfg: CheckpointOptions = option(
        CheckpointOptions(),
        label="Checkpoints",
        help="When the state of training is saved, where, and whether it is taken up again.",
    )
    mlflow_cfg: MlflowOptions = option(
        MlflowOptions(), label="MLflow", help="Whether the run is also logged to MLflow, and to which server."
    )
    seed: int = option(
        42,
        label="Seed",
        help="The start of all chance in a run: same config, seed and machine, same numbers.",
        low=0,
        high=2**32 - 1,
        level="advanced",
    )
    num_workers: int = option(
        0,
        label="Loader processes",
        help="How many processes draw clips beside training; 0: a thread does, mostly faster. Results are the same.",
        low=0,
        high=64,
        level="advanced",
    )
    device: str = option(
        "auto",
        label="Device",
        help="Where the network runs: auto takes a GPU when there is one; cpu, cuda, cuda:N or mps name one.",
        check=_device_problem,
        level="advanced",
    )
    num_threads: int | None = option(
        None,
        label="CPU threads",
        help="How many threads torch may use for one operation; left empty, as many as torch thinks best.",
        low=1,
        high=1024,
        level="advanced",
    )
    precision: str = option(
        "float32",
        label="Precision",
        help=(
            "The numbers training computes with: float32 as the paper did, or bf16: several times faster on a recent "
            "GPU, faster on CPUs made for it, slower on others. Weights stay float32."
        ),
        choices=("float32", "bf16"),
        level="advanced",
    )
    channels_last: bool = option(
        False,
        label="Channels last",
        help="Lays the network's images out as GPUs like them, which is faster there and slower on a CPU.",
        level="advanced",
    )
    compile: bool = option(
        False,
        label="Compile the network",
        help="Lets torch make faster code of the network first, which takes a minute and pays on a GPU.",
        level="advanced",
    )
    fused_optimiser: bool = option(
        False,
        label="Fused optimiser",
        help="Moves all weights in one go where torch can do so on the device, instead of one after the other.",
        level="advanced",
    )
    roll_form: str = option(
        "float32",
        label="Clips travel as",
        help=(
            "How clips reach the device: float32 as drawn, uint8 in a quarter of the size, or strokes, notes that the "
            "device itself draws. The rolls are the same."
        ),
        choices=("float32", "uint8", "strokes"),
        level="advanced",
    )

    def cross_check(self, prefix: str) -> list[Fault]:
        """Finds what the sections do to each other: channels that do not fit, parts that do not agree."""
        faults = [*self._channel_faults(), *self._loss_faults()]
        named = {fault.key for fault in faults}
        return [*faults, *(fault for fault in self._agreement_faults() if fault.key not in named)]

    def _channel_faults(self) -> Iterator[Fault]:
        needed = self.model_cfg.in_channels
        for section, clips in (
            ("train_dataset_cfg", self.train_dataset_cfg),
            ("test_dataset_cfg", self.test_dataset_cfg),
        ):
            if clips.n_channels == needed:
                continue
            if needed > 1 and clips.multichannel:
                message = f"got {list(clips.use_concepts)}; {self.encoder_module} needs all four, [0, 1, 2, 3]"
                yield Fault(f"{section}.use_concepts", message)
            elif needed > 1:
                message = f"got false; {self.encoder_module} needs the four concept channels, so give true"
                yield Fault(f"{section}.multichannel", message)
            else:
                message = f"got true; {self.encoder_module} takes one channel, so give false (or one use_concepts)"
                yield Fault(f"{section}.multichannel", message)

    def _agreement_faults(self) -> Iterator[Fault]:
        for key in ("normalize_velocity", "multichannel", "use_concepts", "extractor_cfg"):
            train, test = self.train_dataset_cfg, self.test_dataset_cfg
            of_concepts = key in ("use_concepts", "extractor_cfg")
            if of_concepts and not (train.multichannel and test.multichannel):
                continue
            if getattr(train, key) != getattr(test, key):
                message = "differs from train_dataset_cfg; a network must be tested on the kind of roll it learned"
                yield Fault(f"test_dataset_cfg.{key}", message)

    def _loss_faults(self) -> Iterator[Fault]:
        if self.loss_type == "cce+triplet" and self.batch_size < 2:
            message = "got 1; cce+triplet compares the clips of a batch with each other, so give at least 2"
            yield Fault("batch_size", message)


def load_config(path: str | Path, *, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a config from a path, or a path relative to the repository's `config/`, with overrides on top.

    Raises: ConfigError with every fault, or with the nearest names when there is no such file.
    """
    found = find_config(path)
    try:
        with found.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError([Fault("", f"cannot be read: {error.strerror}")], source=str(path)) from None
    return parse_config(read_yaml(content, source=str(path)), overrides=overrides, source=str(path))


def parse_config(mapping: Mapping[str, Any], *, overrides: Sequence[str] = (), source: str = "config") -> RunConfig:
    """Checks a mapping, as read from a YAML, with overrides `dotted.key=YAML value` on top.

    Raises: ConfigError with every fault found.
    """
    values, faults = _overridden(mapping, overrides)
    config, more = parse(RunConfig, values)
    if config is None or faults:
        raise ConfigError([*faults, *more], source=source)
    return config


def default_config() -> RunConfig:
    """Gives the config of an empty YAML: the paper's ResNet-50."""
    return parse_config({})


def to_dict(config: RunConfig) -> dict[str, Any]:
    """Gives every key of a config as plain data, in the schema's order."""
    plain: dict[str, Any] = to_plain(config)
    return plain


def to_yaml(config: RunConfig) -> str:
    """Writes every key of a config; reading it gives an equal config, and writing that the same bytes."""
    return write_yaml(to_dict(config))


def config_fields(values: Mapping[str, Any]) -> list[FieldInfo]:
    """Describes each field of the form, given the choices made so far, nested as in a YAML."""
    return fields_of(RunConfig, values=values)


def flatten(config: RunConfig) -> dict[str, Any]:
    """Gives every value by its dotted key; lists stay whole."""
    return dict(_leaves(to_dict(config), ""))


def difference(a: RunConfig, b: RunConfig) -> list[tuple[str, Any, Any]]:
    """Lists dotted key, value in a and value in b where they differ; None where a config has no such key."""
    ours, theirs = flatten(a), flatten(b)
    keys = [*ours, *(key for key in theirs if key not in ours)]
    return [(key, ours.get(key), theirs.get(key)) for key in keys if ours.get(key) != theirs.get(key)]


def _overridden(mapping: Mapping[str, Any], overrides: Sequence[str]) -> tuple[dict[str, Any], list[Fault]]:
    """Lays overrides over a copy of the mapping."""
    values: dict[str, Any] = copy.deepcopy(dict(mapping))
    faults: list[Fault] = []
    settings: list[tuple[str, str]] = []
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not all(part.strip() for part in key.split(".")):
            faults.append(Fault("", f"got the override {text!r}; give key=value, such as optim_cfg.lr=0.001"))
        else:
            settings.append((key.strip(), value.strip()))
    # Choices first: changing one leaves behind what the YAML says for the old one, but no other override.
    for key, value in sorted(settings, key=lambda setting: setting[0] not in _CHOICES):
        faults.extend(_override(values, key, value))
    return values, faults


def _override(values: dict[str, Any], key: str, text: str) -> list[Fault]:
    field = next((info for info in config_fields(values) if info.key == key), None)
    is_text = field is not None and field.kind == "str"
    try:
        value = read_value(text, source=key)
    except ConfigError as error:
        if not is_text:
            return [Fault(key, str(fault)) for fault in error.faults]
        value = text
    if is_text and value is not None and not isinstance(value, str):
        value = text  # `run=12` means the name 12
    if key in _CHOICES and values.get(key, _default_choice(key)) != value:
        values.pop(_CHOICES[key], None)
    *sections, last = key.split(".")
    place = values
    for section in sections:
        inner = place.get(section)
        if inner is None:
            inner = place[section] = {}
        if not isinstance(inner, dict):
            return [Fault(key, f"{section} is not a section with keys of its own")]
        place = inner
    place[last] = value
    return []


def _default_choice(key: str) -> Any:
    return RunConfig.__dataclass_fields__[key].default


def _leaves(plain: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in plain.items():
        dotted = f"{prefix}.{key}" if prefix else key
        if isinstance(value, dict):
            yield from _leaves(value, dotted)
        else:
            yield dotted, value
