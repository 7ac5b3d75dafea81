"""Preflight: everything a run will do, tried once for a few seconds, and from it an estimate of the whole.

`preflight` reads the data, builds the network, trains and evaluates a few batches through the code of training itself,
writes a checkpoint and reads it back, and looks at the disk. Nothing is left behind and no run folder is made.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pianistid_core.config import RunConfig
from pianistid_core.datasets.root import DataRoot

OnCheck = Callable[["Check"], None]


@dataclass(frozen=True)
class Check:
    """One thing that was tried: whether it went well, what was found or what to do, and how long it took."""

    name: str
    ok: bool
    detail: str
    seconds: float


@dataclass(frozen=True)
class Range:
    """An estimate: the likely value, and what it will hardly be below or above."""

    low: float
    likely: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """What the whole run will take; disk space is what it will have written at its end."""

    epoch_s: Range
    total_s: Range
    memory_bytes: Range
    disk_bytes: Range


@dataclass(frozen=True)
class Preflight:
    """All checks in their order, and the estimate where everything went well; `device` is what it ran on."""

    checks: tuple[Check, ...]
    estimate: Estimate | None
    device: str

    @property
    def ok(self) -> bool:
        """Whether the run can be started."""
        return bool(self.checks) and all(check.ok for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"ok": self.ok, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Preflight":
        """What `to_dict` gave."""
        estimate = data["estimate"]
        return cls(
            tuple(Check(**check) for check in data["checks"]),
            None if estimate is None else Estimate(**{key: Range(**value) for key, value in estimate.items()}),
            data["device"],
        )


def preflight(config: RunConfig, root: DataRoot, on_check: OnCheck | None = None) -> Preflight:
    """Tries everything in this process."""
    raise NotImplementedError


def run_preflight(
    config: RunConfig, root: DataRoot, on_check: OnCheck | None = None, timeout_s: float = 180.0
) -> Preflight:
    """Tries everything in a process of its own, which is ended after `timeout_s`."""
    raise NotImplementedError
