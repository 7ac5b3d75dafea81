"""The settings that change how fast a run is and, within rounding, not what it learns: as the reference, and fast."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pianistid_core.config import RunConfig

Settings = Mapping[str, Any]

AS_REFERENCE: Settings = MappingProxyType(
    {
        "precision": "float32",
        "channels_last": False,
        "compile": False,
        "fused_optimiser": False,
        "roll_form": "float32",
    }
)
FAST_ON_GPU: Settings = MappingProxyType(
    {"precision": "bf16", "channels_last": True, "compile": True, "fused_optimiser": True, "roll_form": "strokes"}
)
# What pays on a GPU makes a CPU slower, but for this.
FAST_ON_CPU: Settings = MappingProxyType({**AS_REFERENCE, "fused_optimiser": True})


def fast_settings(*, on_gpu: bool) -> Settings:
    """The settings of a fast run."""
    return FAST_ON_GPU if on_gpu else FAST_ON_CPU


def speed_settings(config: RunConfig) -> dict[str, Any]:
    """The settings for speed that a config has."""
    return {key: getattr(config, key) for key in AS_REFERENCE}


def with_settings(config: RunConfig, settings: Settings) -> RunConfig:
    """The same config with other settings for speed."""
    return dataclasses.replace(config, **settings)
