"""The architectures: build one from a config's `encoder_module` and `model_cfg`.

torch is imported when a model is built, not before, so that pages and command lines that only read the options start
at once.
"""

from collections.abc import Mapping
from operator import index
from typing import TYPE_CHECKING, Any

from pianistid_core.errors import ConfigError, Fault, ModelError
from pianistid_core.models.options import (
    ENCODERS,
    CnnOptions,
    CompactOptions,
    CrnnOptions,
    FactorisedOptions,
    LayerOptions,
    ModelOptions,
    NgramOptions,
    ResNetOptions,
)
from pianistid_core.schema import closest, parse

if TYPE_CHECKING:
    from pianistid_core.models.blocks import PianistModel
    from pianistid_core.models.concept_model import ConceptModel
    from pianistid_core.models.factorised import FactorisedModel
    from pianistid_core.models.ngram import NgramModel

__all__ = [
    "ENCODERS",
    "CnnOptions",
    "CompactOptions",
    "ConceptModel",
    "CrnnOptions",
    "FactorisedModel",
    "FactorisedOptions",
    "LayerOptions",
    "ModelOptions",
    "NgramModel",
    "NgramOptions",
    "PianistModel",
    "ResNetOptions",
    "build_model",
    "for_inference",
    "model_options",
]


def model_options(encoder_module: str, model_cfg: Mapping[str, Any] | ModelOptions) -> ModelOptions:
    """Reads and checks one architecture's options.

    Raises ConfigError with everything wrong with them, and ModelError when there is no such architecture.
    """
    if not isinstance(encoder_module, str) or encoder_module not in ENCODERS:
        meant = closest(encoder_module, ENCODERS) if isinstance(encoder_module, str) else None
        hint = f"; did you mean {meant}?" if meant else ""
        raise ModelError(f"there is no encoder_module {encoder_module!r}; give one of {', '.join(ENCODERS)}{hint}")
    options_class = ENCODERS[encoder_module]
    if isinstance(model_cfg, options_class):
        faults = model_cfg.cross_check("model_cfg") if isinstance(model_cfg, FactorisedOptions) else []
        options: ModelOptions | None = model_cfg
    elif isinstance(model_cfg, ModelOptions):
        message = f"got {type(model_cfg).__name__}; {encoder_module} takes {options_class.__name__}"
        options, faults = None, [Fault("model_cfg", message)]
    else:
        options, faults = parse(options_class, model_cfg, prefix="model_cfg")
    if options is None or faults:
        raise ConfigError(faults, source=encoder_module)
    return options


def build_model(encoder_module: str, model_cfg: Mapping[str, Any] | ModelOptions, num_classes: int) -> "PianistModel":
    """Builds a network with fresh weights, drawn from torch's generator.

    Raises ConfigError for options that cannot be, and ModelError for an unknown architecture or number of classes.
    """
    options = model_options(encoder_module, model_cfg)
    n = _whole_number(num_classes)
    if n is None or n < 1:
        raise ModelError(f"{num_classes!r} classes came; a model tells at least 1 pianist from the others")
    from pianistid_core.models.compact import CompactModel
    from pianistid_core.models.convolutional import CnnModel, CrnnModel
    from pianistid_core.models.factorised import FactorisedModel
    from pianistid_core.models.ngram import NgramModel
    from pianistid_core.models.resnet import ResNetModel

    match options:
        case CnnOptions():
            return CnnModel(options, n)
        case CrnnOptions():
            return CrnnModel(options, n)
        case ResNetOptions():
            return ResNetModel(options, n)
        case FactorisedOptions():
            return FactorisedModel(options, n)
        case CompactOptions():
            return CompactModel(options, n)
        case NgramOptions():
            return NgramModel(options, n)


def _whole_number(value: Any) -> int | None:
    try:
        return None if isinstance(value, bool) else index(value)
    except TypeError:
        return None


def for_inference(model: "PianistModel", *, compile: bool = False) -> "PianistModel":
    """Gives a faster copy for evaluation only; see `pianistid_core.models.inference`."""
    from pianistid_core.models import inference

    return inference.for_inference(model, compile=compile)


def __getattr__(name: str) -> Any:
    if name == "PianistModel":
        from pianistid_core.models.blocks import PianistModel

        return PianistModel
    if name == "ConceptModel":
        from pianistid_core.models.concept_model import ConceptModel

        return ConceptModel
    if name == "NgramModel":
        from pianistid_core.models.ngram import NgramModel

        return NgramModel
    if name == "FactorisedModel":
        from pianistid_core.models.factorised import FactorisedModel

        return FactorisedModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
