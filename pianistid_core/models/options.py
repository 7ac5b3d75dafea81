"""The options of each architecture: what a config's `model_cfg` may say. No torch is imported here.

A class is chosen by the config's `encoder_module` through `ENCODERS`; the defaults are the paper's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from pianistid_core.errors import Fault
from pianistid_core.fields import When
from pianistid_core.rolls import N_FRAMES, N_KEYS
from pianistid_core.schema import option

NORM_HELP = (
    "The normalisation of each block: bn is batch norm; ibn puts half of the channels through instance norm, which "
    "hides differences of level between recordings."
)


def _frame_pool(default: int = 1) -> Any:
    return option(
        default,
        label="Frames averaged",
        help=(
            "Averages this many frames of 10 ms before the network, which costs timing detail and saves as many times "
            "the computation: 10 leaves 10 frames a second, 1 leaves the roll as it is."
        ),
        level="advanced",
        low=1,
        high=100,
        unit="frames",
    )


@dataclass(frozen=True)
class CnnOptions:
    """Eight blocks of convolution and a head of two layers (`cnn`)."""

    in_channels: ClassVar[int] = 1

    pool_type: str = option(
        "max",
        label="Pooling",
        help=(
            "How the maps become one vector: max keeps the strongest response, avg their mean, and gem learns a place "
            "between the two."
        ),
        choices=("avg", "max", "gem"),
    )
    norm_type: str = option("bn", label="Norm", help=NORM_HELP, choices=("bn", "ibn"))
    frame_pool: int = _frame_pool()


@dataclass(frozen=True)
class CrnnOptions:
    """The blocks of the CNN, read along time by a recurrent layer (`crnn`)."""

    in_channels: ClassVar[int] = 1

    pool_type: str = option(
        "max",
        label="Pooling over time",
        help=(
            "How the recurrent layer's steps become one vector: max keeps the strongest response, avg their mean, and "
            "gem learns a place between the two."
        ),
        choices=("avg", "max", "gem"),
    )
    norm_type: str = option("bn", label="Norm", help=NORM_HELP, choices=("bn", "ibn"))
    frame_pool: int = _frame_pool()


@dataclass(frozen=True)
class ResNetOptions:
    """A residual network over single rolls (`resnet50`), the paper's most accurate model."""

    in_channels: ClassVar[int] = 1

    layers: tuple[int, ...] = option(
        (3, 4, 6, 3),
        label="Blocks per stage",
        help=(
            "How many bottleneck blocks each of the four stages has; [3, 4, 6, 3] is ResNet-50, and fewer blocks "
            "make a smaller and faster network."
        ),
        level="advanced",
        low=1,
        high=64,
        length=(4, 4),
    )
    pool_type: str = option(
        "avg",
        label="Pooling",
        help="How the last maps become one vector: avg takes their mean, gem learns a place between mean and maximum.",
        choices=("avg", "gem"),
    )
    norm_type: str = option("bn", label="Norm", help=NORM_HELP, choices=("bn", "ibn"))
    frame_pool: int = _frame_pool()


@dataclass(frozen=True)
class LayerOptions:
    """One block of a concept encoder's stack."""

    in_channels: int = option(
        label="Channels in",
        help="The channels this block reads, which the block before it must give; the first reads the roll's 1.",
        low=1,
        high=4096,
    )
    out_channels: int = option(
        label="Channels out",
        help="The channels this block gives; more of them tell more patterns apart and cost more time and memory.",
        low=1,
        high=4096,
    )
    conv_kernel_size: int = option(
        3,
        label="Kernel size",
        help="How many keys and frames one convolution sees; odd sizes only, so that the maps keep their size.",
        choices=(1, 3, 5, 7, 9, 11, 13, 15),
    )
    has_pool: bool = option(
        False,
        label="Pooled",
        help="Ends the block with average pooling, so that the following blocks see more music for less work.",
    )
    pool_kernel_size: int = option(
        2,
        label="Pooling size",
        help="How many keys and frames the pooling averages; keys and frames become as many times fewer.",
        low=1,
        high=88,
        when=("has_pool", (True,)),
    )

    @property
    def pool_size(self) -> int:
        """The factor by which keys and frames shrink, 1 without pooling."""
        return self.pool_kernel_size if self.has_pool else 1


FOUR_LAYERS = (
    LayerOptions(in_channels=1, out_channels=64, has_pool=True),
    LayerOptions(in_channels=64, out_channels=128, has_pool=True),
    LayerOptions(in_channels=128, out_channels=256, has_pool=True),
    LayerOptions(in_channels=256, out_channels=512),
)

RESNET_WIDTHS: Mapping[str, int] = MappingProxyType({"resnet18": 512, "resnet34": 512, "resnet50": 2048})


def _stem_width(default: int, *, when: When | None = None) -> Any:
    return option(
        default,
        label="Stem width",
        help="How many shapes of two octaves and 400 ms the stem looks for; most of the computation is here.",
        low=1,
        high=1024,
        when=when,
    )


def _compact_width(default: int, *, when: When | None = None) -> Any:
    return option(
        default,
        label="Width",
        help="How many values describe each moment after the stem; a clip is described by twice as many.",
        low=1,
        high=4096,
        when=when,
    )


@dataclass(frozen=True)
class CompactOptions:
    """A small network made for piano rolls on a CPU (`compact`), which the paper does not have."""

    in_channels: ClassVar[int] = 1

    stem_width: int = _stem_width(64)
    width: int = _compact_width(192)
    head_dropout: float = option(
        0.4,
        label="Dropout",
        help="The share of a clip's features that is left out at each step of training, against learning by heart.",
        low=0.0,
        high=0.95,
    )
    frame_pool: int = _frame_pool(10)


@dataclass(frozen=True)
class FactorisedOptions:
    """One encoder for each of melody, harmony, rhythm and dynamics (`disentangle`): the model that explains itself."""

    in_channels: ClassVar[int] = 4

    use_resnet: bool = option(
        False,
        key="_use_resnet",
        label="ResNet encoders",
        help="Hears each concept through a residual network instead of the layers below: more accurate, slower.",
    )
    resnet_cls: str = option(
        "resnet18",
        key="_resnet_cls",
        label="ResNet",
        help="Which residual network encodes each concept; in the paper the smallest was as accurate as the others.",
        choices=tuple(RESNET_WIDTHS),
        when=("use_resnet", (True,)),
    )
    layers: tuple[LayerOptions, ...] = option(
        FOUR_LAYERS,
        label="Layers",
        help="The blocks of convolution that encode each concept, from the roll to the embedding, in order.",
        level="advanced",
        length=(1, 32),
        when=("use_resnet", (False,)),
    )
    use_gru: bool = option(
        True,
        label="Recurrent layer",
        help="Reads the last layer's maps along time, so that an embedding knows the order of events; slower to train.",
        when=("use_resnet", (False,)),
    )
    use_masking: bool = option(
        False,
        label="Mask concepts in training",
        help="Hides some concepts of some clips in training, so that each encoder learns to tell pianists by itself.",
    )
    mask_probability: float = option(
        0.3,
        label="Masking probability",
        help="The share of clips that lose concepts in training; more makes the encoders more independent.",
        low=0.0,
        high=1.0,
        when=("use_masking", (True,)),
    )
    max_masked_concepts: int = option(
        3,
        label="Most concepts masked",
        help="A clip that is masked loses between one and this many of its four concepts, each number equally often.",
        low=0,
        high=4,
        when=("use_masking", (True,)),
    )
    use_attention: bool = option(
        True,
        label="Self-attention",
        help="Lets each concept's embedding take the other three into account; without it concepts stay separable.",
    )
    num_attention_heads: int = option(
        2,
        label="Attention heads",
        help="How many ways of relating concepts are learned side by side; must divide the size of an embedding.",
        low=1,
        high=2048,
        when=("use_attention", (True,)),
    )
    pool_type: str = option(
        "avg",
        label="Pooling across concepts",
        help=(
            "How four embeddings become one: avg is their mean, max the largest of each value, gem learns a place "
            "between the two, conv1x1 learns a weight for each concept, and masked-avg is the mean of those not masked."
        ),
        choices=("avg", "max", "gem", "conv1x1", "masked-avg"),
    )
    use_2fc: bool = option(
        True,
        label="Two-layer head",
        help="Puts a layer of a quarter of the embedding's size before the one that names the pianist.",
        level="advanced",
    )
    drop_logits: bool = option(
        True,
        label="Dropout on logits",
        help="Drops half of the head's answers in training, as the paper did; switched off, half of its input instead.",
        level="advanced",
    )
    compact_encoders: bool = option(
        False,
        label="Compact encoders",
        help="Hears each concept through a small network made for CPUs, instead of the layers or a ResNet.",
    )
    compact_stem: int = _stem_width(24, when=("compact_encoders", (True,)))
    compact_width: int = _compact_width(64, when=("compact_encoders", (True,)))
    frame_pool: int = _frame_pool()

    @property
    def embedding_size(self) -> int:
        """D, the length of one concept's embedding."""
        if self.compact_encoders:
            return 2 * self.compact_width
        return RESNET_WIDTHS[self.resnet_cls] if self.use_resnet else self.layers[-1].out_channels

    def cross_check(self, prefix: str) -> list[Fault]:
        """Finds what single fields cannot show: layers that do not chain, and sizes that do not divide."""
        dotted = f"{prefix}." if prefix else ""
        stacked = not (self.use_resnet or self.compact_encoders)
        faults = [Fault(f"{dotted}{key}", text) for key, text in self._layer_faults()] if stacked else []
        if self.use_resnet and self.compact_encoders:
            faults.append(Fault(f"{dotted}compact_encoders", "got true beside _use_resnet: true; choose one of them"))
        faults += [Fault(f"{dotted}{key}", text) for key, text in self._width_faults()]
        return faults

    def _layer_faults(self) -> Iterator[tuple[str, str]]:
        channels, keys, frames = 1, N_KEYS, N_FRAMES // self.frame_pool
        for index, layer in enumerate(self.layers):
            if layer.in_channels != channels:
                source = "the roll has" if index == 0 else f"layers[{index - 1}] gives"
                text = f"got {layer.in_channels}; {source} {channels}, so give {channels}"
                yield f"layers[{index}].in_channels", text
            channels = layer.out_channels
            if min(keys, frames) < layer.pool_size:
                text = (
                    f"got {layer.pool_size}, but only {keys} keys and {frames} frames are left here; pool less, or "
                    "lower frame_pool"
                )
                yield f"layers[{index}].pool_kernel_size", text
                return
            keys, frames = keys // layer.pool_size, frames // layer.pool_size

    def _width_faults(self) -> Iterator[tuple[str, str]]:
        width = self.embedding_size
        last = f"layers[{len(self.layers) - 1}].out_channels"
        if self.use_attention and width % self.num_attention_heads:
            near = _divisor_near(width, self.num_attention_heads)
            text = f"got {self.num_attention_heads}, which does not divide the embedding's {width} values"
            yield "num_attention_heads", f"{text}; give a divisor such as {near}"
        if self.use_2fc and width < 4:
            key, given, least = ("compact_width", self.compact_width, 2) if self.compact_encoders else (last, width, 4)
            text = f"got {given}, but the head's first layer is a quarter of an embedding of {width} values"
            yield key, f"{text}; give at least {least}, or use_2fc: false"
        if self.use_gru and not (self.use_resnet or self.compact_encoders) and width % 2:
            yield last, f"got {width}, but the recurrent layer gives half in each direction; give an even number"


def _divisor_near(width: int, heads: int) -> int:
    divisors = [number for number in range(1, width + 1) if width % number == 0]
    return min(divisors, key=lambda number: abs(number - heads))


@dataclass(frozen=True)
class NgramOptions:
    """A weight for each n-gram of melody, harmony and rhythm (`ngram`), which the paper has as a regression."""

    in_channels: ClassVar[int] = 1

    vocabulary: int = option(
        200_000,
        label="N-grams known",
        help="How many n-grams have weights: those that most recordings have in common; a file of 10 MB holds 200,000.",
        low=1,
        high=10_000_000,
    )
    least_recordings: int = option(
        3,
        label="Least recordings",
        help="An n-gram is known only when at least this many recordings of the training part have it.",
        low=1,
        high=1_000_000,
        level="advanced",
    )
    ngram_dropout: float = option(
        0.3,
        label="N-gram dropout",
        help="The share of a clip's n-grams that is left out at each step of training, against learning by heart.",
        low=0.0,
        high=0.95,
    )
    absolute_pitch: bool = option(
        True,
        label="Absolute pitch",
        help="Hears which keys are played as well as intervals: more accurate, but less sure of transposed music.",
    )
    use_masking: bool = option(
        False,
        label="Mask concepts in training",
        help="Hides some concepts of some clips in training, so that each learns to tell pianists by itself.",
    )
    mask_probability: float = option(
        0.3,
        label="Masking probability",
        help="The chance of each concept of a clip to be hidden in training; one is always left.",
        low=0.0,
        high=0.95,
        when=("use_masking", (True,)),
    )


ModelOptions = CnnOptions | CrnnOptions | ResNetOptions | FactorisedOptions | CompactOptions | NgramOptions

ENCODERS: Mapping[str, type[ModelOptions]] = MappingProxyType(
    {"cnn": CnnOptions, "crnn": CrnnOptions, "resnet50": ResNetOptions, "disentangle": FactorisedOptions}
    | {"compact": CompactOptions, "ngram": NgramOptions}
)
