"""Which of the paper's experiments differ in one thing, and what that is. An experiment is named by its preset."""

from dataclasses import dataclass
from functools import cache

__all__ = ["REFERENCE", "Pair", "pairs", "questions_of"]

# The experiment that most others are compared with.
REFERENCE = (
    "disentangle-resnet-channel/disentangle-jtd+pijama-resnet18-mask30concept3-augment50-noattention-avgpool-onefc.yaml"
)
_NO_MASK = "disentangle-resnet-channel/disentangle-jtd+pijama-resnet18-nomask-augment50-noattention-avgpool-onefc.yaml"


def _final(name: str) -> str:
    return f"disentangle-final-experiments/disentangle-jtd+pijama-{name}.yaml"


_NO_AUGMENT = _final("resnet18-noattention-avgpool-noaugment-mask30concept3")
_NEITHER = _final("resnet18-noattention-avgpool-noaugment-nomask")
_HEADS = {n: _final(f"resnet18-{n}heads-avgpool-augment50-mask30concept3") for n in (4, 8, 16)}
_MAX = _final("resnet18-noattention-maxpool-augment50-mask30concept3")
_MAX_HEADS = _final("resnet18-4heads-maxpool-augment50-mask30concept3")
_RESNET34 = _final("resnet34-noattention-avgpool-augment50-mask30concept3")
_RESNET50 = _final("resnet50-noattention-avgpool-augment50-mask30concept3")
_STACK = _final("8conv3pool-noattention-avgpool-augment50-mask30concept3")


@dataclass(frozen=True)
class Pair:
    """Two of the paper's experiments that differ in one thing: what it is, in which setting, and from what to what."""

    question: str
    setting: str
    change: str
    a: str
    b: str


@cache
def pairs() -> tuple[Pair, ...]:
    """Every pair of the paper's experiments that differ in one thing, question by question."""
    on = "off to on"
    baseline = "baselines/{}-jtd+pijama{}.yaml"
    return (
        Pair("Augmentation", "ResNet-50", on, baseline.format("resnet50", ""), baseline.format("resnet50", "-augment")),
        Pair("Augmentation", "CRNN", on, baseline.format("crnn", ""), baseline.format("crnn", "-augment")),
        Pair("Augmentation", "factorised, masked", on, _NO_AUGMENT, REFERENCE),
        Pair("Augmentation", "factorised, not masked", on, _NEITHER, _NO_MASK),
        Pair("Masking", "augmented", on, _NO_MASK, REFERENCE),
        Pair("Masking", "not augmented", on, _NEITHER, _NO_AUGMENT),
        Pair("Attention", "average pooling", "none to 4 heads", REFERENCE, _HEADS[4]),
        Pair("Attention", "average pooling", "none to 8 heads", REFERENCE, _HEADS[8]),
        Pair("Attention", "average pooling", "none to 16 heads", REFERENCE, _HEADS[16]),
        Pair("Attention", "average pooling", "4 to 8 heads", _HEADS[4], _HEADS[8]),
        Pair("Attention", "average pooling", "8 to 16 heads", _HEADS[8], _HEADS[16]),
        Pair("Attention", "max pooling", "none to 4 heads", _MAX, _MAX_HEADS),
        Pair("Pooling", "no attention", "average to max", REFERENCE, _MAX),
        Pair("Pooling", "4 heads", "average to max", _HEADS[4], _MAX_HEADS),
        Pair("Size of encoders", "factorised", "ResNet-18 to 34", REFERENCE, _RESNET34),
        Pair("Size of encoders", "factorised", "ResNet-18 to 50", REFERENCE, _RESNET50),
        Pair("Size of encoders", "factorised", "ResNet-34 to 50", _RESNET34, _RESNET50),
        Pair("Kind of encoders", "factorised", "CRNN to ResNet-18", _STACK, REFERENCE),
    )


def questions_of(preset: str) -> tuple[str, ...]:
    """The questions that an experiment helps to answer, each once."""
    return tuple(dict.fromkeys(pair.question for pair in pairs() if preset in (pair.a, pair.b)))
