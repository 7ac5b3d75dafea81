"""The paper's experiments at a size that one core of a CPU trains in minutes, each with what it compares left as it is.

Kept from a config: augmentation and its probability, masking, attention and its heads, pooling, layers of the head, the
recurrent layer, the number of convolutions of a stack. Changed, by one rule for all:

- A ResNet becomes a compact encoder, the larger the wider: the paper's question whether a larger network is better
  stays, though width takes the place of depth. A stack of convolutions keeps its layers at an eighth of their width.
- Rolls are averaged over more frames, so that rhythm is heard more coarsely than in the paper.
- Clips start where they start: jitter needs clips with padding, and takes up to half of the music from others.
- Within a family (`Size`), all train on equally many clips for equally many epochs, with Adam and a cosine schedule, in
  batches of 8. Dropout is before the head, not on logits: a short training would not get over it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from pianistid_core.config import RunConfig, parse_config, to_dict
from pianistid_core.errors import ConfigError, Fault
from pianistid_core.models.options import CrnnOptions, FactorisedOptions, ResNetOptions

EXPERIMENT = "paper-cpu"
BATCH_SIZE = 8
SEED = 42
NARROWER = 8

# Stem and width of the compact encoder that stands for each ResNet; twice the width is divided by 4, 8 and 16 heads.
ENCODER_SIZES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {"resnet18": (16, 64), "resnet34": (24, 96), "resnet50": (32, 128)}
)


@dataclass(frozen=True)
class Size:
    """How a family of experiments is trained: clips of the training part, epochs, learning rate, frames averaged."""

    n_clips: int
    epochs: int
    lr: float
    frame_pool: int


FACTORISED = Size(n_clips=2306, epochs=10, lr=0.002, frame_pool=40)
STACK = Size(n_clips=2306, epochs=10, lr=0.002, frame_pool=60)
RESNET = Size(n_clips=2306, epochs=20, lr=0.002, frame_pool=20)
CRNN = Size(n_clips=1153, epochs=4, lr=0.001, frame_pool=100)
FAMILIES: Mapping[str, Size] = MappingProxyType(
    {"factorised ResNet": FACTORISED, "factorised CRNN": STACK, "ResNet-50": RESNET, "CRNN": CRNN}
)


def size_of(config: RunConfig) -> Size:
    """The size at which a config's family is trained.

    Raises
    ------
    ConfigError
        When its network is none of the paper's.
    """
    match config.model_cfg:
        case ResNetOptions():
            return RESNET
        case CrnnOptions():
            return CRNN
        case FactorisedOptions(use_resnet=True):
            return FACTORISED
        case FactorisedOptions(compact_encoders=False):
            return STACK
    message = f"got {config.encoder_module}; only the paper's networks (resnet50, crnn, disentangle) have a CPU size"
    raise ConfigError([Fault("encoder_module", message)], source=f"{config.experiment}/{config.run}")


def cpu_sized(config: RunConfig, *, seed: int = SEED) -> RunConfig:
    """The CPU-sized version of one of the paper's configs, as a run of the experiment `paper-cpu`.

    Raises
    ------
    ConfigError
        When its network is none of the paper's.
    """
    size = size_of(config)
    encoder, model = _network(config, size)
    values = to_dict(config) | {
        "experiment": EXPERIMENT,
        "run": config.run if seed == SEED else f"{config.run}-seed{seed}",
        "batch_size": BATCH_SIZE,
        "epochs": size.epochs,
        "encoder_module": encoder,
        "model_cfg": model,
        "optim_type": "adam",
        "optim_cfg": {"lr": size.lr},
        "sched_type": "cosine",
        "sched_cfg": {"T_max": size.epochs},
        "seed": seed,
        "device": "cpu",
        "num_threads": 1,
        "fused_optimiser": True,
    }
    values["train_dataset_cfg"] = values["train_dataset_cfg"] | {"n_clips": size.n_clips, "jitter_start": False}
    values["checkpoint_cfg"] = {"checkpoint_after_n_epochs": 2, "delete_old_checkpoints": True}
    return parse_config(values, source=f"{config.experiment}/{config.run}")


def _network(config: RunConfig, size: Size) -> tuple[str, dict[str, Any]]:
    """The architecture and its options at that size."""
    options: dict[str, Any] = dict(to_dict(config)["model_cfg"])
    match config.model_cfg:
        case FactorisedOptions(use_resnet=True, resnet_cls=name):
            stem, width = ENCODER_SIZES[name]
            compact = {"_use_resnet": False, "compact_encoders": True, "compact_stem": stem, "compact_width": width}
            return "disentangle", options | compact | {"drop_logits": False, "frame_pool": size.frame_pool}
        case FactorisedOptions(layers=layers):
            narrow = [
                replace(
                    layer,
                    in_channels=max(1, layer.in_channels // NARROWER),
                    out_channels=max(1, layer.out_channels // NARROWER),
                )
                for layer in layers
            ]
            as_dicts = [vars(layer) for layer in narrow]
            return "disentangle", options | {
                "layers": as_dicts, "drop_logits": False, "frame_pool": size.frame_pool
            }  # fmt: skip
        case ResNetOptions():
            return "compact", {"stem_width": 16, "width": 96, "frame_pool": size.frame_pool}
    return config.encoder_module, options | {"frame_pool": size.frame_pool}
