"""The paper's two tables of results, and which runs repeat one of their rows.

Cheston, Bance and Harrison (2025) report the share of recordings that are recognised, on the validation part of the
split `20class_80min` (160 recordings of at least 30 s), after 100 epochs. The figures stand in the shipped configs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pianistid_core.comparison import OF_THE_SEED
from pianistid_core.config import flatten, load_config
from pianistid_core.intervals import wilson
from pianistid_core.presets import presets

PART = "validation"
N_RECORDINGS = 160
# A run that differs from the paper's in these alone is worth setting beside it, as long as the difference is named.
_STILL_CLOSE = frozenset({"epochs", "data_split_dir", "precision"})


@dataclass(frozen=True)
class Published:
    """One row of the paper: the preset that repeats it, its title, the table, and the recording accuracy (0 to 1)."""

    preset: str
    title: str
    table: str
    accuracy: float

    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the published accuracy, over the paper's recordings."""
        return wilson(round(self.accuracy * N_RECORDINGS), N_RECORDINGS) or (0.0, 1.0)


@cache
def published() -> tuple[Published, ...]:
    """Every row of the paper that a shipped config repeats: table by table, the best first.

    Raises
    ------
    ConfigError
        When the package was installed without its configs.
    """
    rows = [
        Published(preset.name, preset.title, preset.table or "", preset.published_accuracy)
        for preset in presets()
        if preset.published_accuracy is not None
    ]
    return tuple(sorted(rows, key=lambda row: (row.table, -row.accuracy, row.title)))


def reproductions(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, tuple[str, ...]]]:
    """The runs that repeat a row: for each preset, ids of runs with the keys in which they still differ from it.

    `configs` holds each run's config by dotted keys. Seed, names and machine do not count; a run with other data,
    epochs or precision is given with those keys.

    Raises
    ------
    ConfigError
        When the package was installed without its configs.
    """
    wanted = _configs_of_rows()
    found: dict[str, dict[str, tuple[str, ...]]] = {preset: {} for preset in wanted}
    for id, config in configs.items():
        for preset, theirs in wanted.items():
            differs = _differs(config, theirs)
            if differs is not None:
                found[preset][id] = differs
    return found


def _differs(config: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The keys in which a run differs from a row, None when it is another experiment; mostly the first keys tell."""
    differs = []
    for key, value in theirs.items():
        if key not in config or config[key] != value:
            if key not in _STILL_CLOSE:
                return None
            differs.append(key)
    return tuple(differs) if _of_the_experiment(config).keys() == theirs.keys() else None


@cache
def _configs_of_rows() -> dict[str, dict[str, Any]]:
    return {row.preset: _of_the_experiment(flatten(load_config(row.preset))) for row in published()}


def _of_the_experiment(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key.split(".")[0] not in OF_THE_SEED}
