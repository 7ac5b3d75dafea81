"""What a run is computed with: the device that a config names, and a record of machine and versions."""

import os
import platform
from importlib import metadata
from typing import Any

import numpy as np
import torch

from pianistid_core.errors import RunError


def choose_device(name: str) -> torch.device:
    """The device that a config names; `auto` is a GPU where there is one.

    Raises
    ------
    RunError
        When the device is not on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    missing = (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()) or (
        device.type == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise RunError(f"there is no device {name!r} on this machine; give device=auto, or device=cpu")
    return device


def environment(device: torch.device) -> dict[str, Any]:
    """What a run was made with: versions, machine, device."""
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    try:
        versions["pianistid"] = metadata.version("pianistid")
    except metadata.PackageNotFoundError:
        versions["pianistid"] = "not installed"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "versions": versions,
        "system": platform.platform(),
        "device": str(device),
        "device_name": name,
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
    }
