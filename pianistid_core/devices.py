"""What a run is computed with: the device that a config names, and a record of machine and versions."""

import contextlib
import ctypes
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

# As in malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


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


def keep_memory() -> None:
    """Has this process keep the memory that it frees, where the C library is glibc: each step asks for as much again.

    Without it, tensors of a step on a CPU are pages that the system hands out and clears anew at every step, a tenth to
    a sixth of a step's time. For a process that trains, and does nothing else.
    """
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    for setting, n_bytes in ((_M_MMAP_THRESHOLD, 1 << 30), (_M_TRIM_THRESHOLD, (1 << 31) - 1), (_M_TOP_PAD, 1 << 28)):
        mallopt(setting, n_bytes)


def reset_peak_memory(device: torch.device) -> None:
    """Counts the most memory held at a time from now on, where that can be."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform.startswith("linux"):
        with contextlib.suppress(OSError):  # where it is not allowed, the count goes on
            Path("/proc/self/clear_refs").write_text("5")


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
