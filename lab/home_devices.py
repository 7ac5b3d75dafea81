"""What training runs on, and how busy it is: read from the driver's own tool and the system, without torch."""

import shutil
import subprocess
from dataclasses import dataclass

import psutil

_GPU_QUERY = (
    "nvidia-smi", "--query-gpu=name,utilization.gpu,memory.used,memory.total", "--format=csv,noheader,nounits"
)  # fmt: skip
_MIB = 1 << 20


@dataclass(frozen=True)
class Device:
    """A processor: its name, the share of it in use (0 to 1, None where unknown), and its memory in bytes."""

    kind: str
    name: str
    use: float | None
    memory_used: int
    memory_total: int


def read_devices() -> tuple[Device, ...]:
    """The GPUs of this machine, or its processor where there is none."""
    return _gpus() or (_cpu(),)


def parse_gpus(text: str) -> tuple[Device, ...]:
    """Reads the tool's table: name, per cent in use, MiB in use, MiB in all; lines that say otherwise are left out."""
    found = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.rsplit(",", 3)]
        if len(fields) == 4 and fields[2].isdigit() and fields[3].isdigit():
            use = int(fields[1]) / 100 if fields[1].isdigit() else None
            found.append(Device("GPU", fields[0], use, int(fields[2]) * _MIB, int(fields[3]) * _MIB))
    return tuple(found)


def _gpus() -> tuple[Device, ...]:
    if not shutil.which(_GPU_QUERY[0]):
        return ()
    try:
        done = subprocess.run(_GPU_QUERY, capture_output=True, text=True, timeout=3, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse_gpus(done.stdout)


def _cpu() -> Device:
    cores = psutil.cpu_count() or 1
    memory = psutil.virtual_memory()
    try:
        use: float | None = min(1.0, psutil.getloadavg()[0] / cores)
    except OSError:
        use = None
    name = f"{cores} core{'s' if cores > 1 else ''}"
    return Device("CPU", name, use, memory.total - memory.available, memory.total)
