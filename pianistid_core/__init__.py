"""The headless core of PianistID Lab: from a MIDI file to a named pianist, and what gave them away.

    notes = read_midi("solo.mid")                           # onsets, offsets, pitches, velocities
    rolls = normalise(concept_rolls(notes))                 # float32 (4, 88, 3000)
    clips = ClipDataset.open("workspace", "demo", "test")   # a part of a data set, for make_loader and predict
    answer = Identifier.default().identify("solo.mid")      # who, how sure, and with concepts masked

Names are loaded when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pianistid_core.checkpoints import load_model
    from pianistid_core.clips import ClipOptions
    from pianistid_core.concepts import CONCEPTS, concept_rolls
    from pianistid_core.config import RunConfig, load_config
    from pianistid_core.datasets.root import DataRoot
    from pianistid_core.errors import PianistIDError
    from pianistid_core.evaluation import average_by_recording, predict
    from pianistid_core.identify import Identification, Identifier
    from pianistid_core.loader import ClipDataset, make_loader
    from pianistid_core.midi import Notes, read_midi, split_into_clips, write_midi
    from pianistid_core.models import build_model
    from pianistid_core.rolls import normalise, piano_roll
    from pianistid_core.run_config import run_for
    from pianistid_core.training import train

__all__ = [
    "CONCEPTS",
    "ClipDataset",
    "ClipOptions",
    "DataRoot",
    "Identification",
    "Identifier",
    "Notes",
    "PianistIDError",
    "RunConfig",
    "average_by_recording",
    "build_model",
    "concept_rolls",
    "load_config",
    "load_model",
    "make_loader",
    "normalise",
    "piano_roll",
    "predict",
    "read_midi",
    "run_for",
    "split_into_clips",
    "train",
    "write_midi",
]

_HOME = {
    "CONCEPTS": "concepts",
    "ClipDataset": "loader",
    "ClipOptions": "clips",
    "DataRoot": "datasets.root",
    "Identification": "identify",
    "Identifier": "identify",
    "Notes": "midi",
    "PianistIDError": "errors",
    "RunConfig": "config",
    "average_by_recording": "evaluation",
    "build_model": "models",
    "concept_rolls": "concepts",
    "load_config": "config",
    "load_model": "checkpoints",
    "make_loader": "loader",
    "normalise": "rolls",
    "piano_roll": "rolls",
    "predict": "evaluation",
    "read_midi": "midi",
    "run_for": "run_config",
    "split_into_clips": "midi",
    "train": "training",
    "write_midi": "midi",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
