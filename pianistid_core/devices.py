"""What a run is computed with: the device that a config names, and a record of machine and versions."""

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import psutil
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


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory held at a time so far: of the device on CUDA, else resident memory of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():  # the system's own count of a process includes what its parent held when it began
        peak = next((line for line in status.read_text().splitlines() if line.startswith("VmHWM:")), "VmHWM: 0 kB")
        return 1024 * int(peak.split()[1])
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
