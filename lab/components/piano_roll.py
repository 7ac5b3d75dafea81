"""The piano roll with a playhead and sound: the one place that knows what its JavaScript takes.

Times go to the browser as whole milliseconds, colours as positions in the theme's categorical palette, or None for
"by velocity", so that light and dark follow the theme without a rerun.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import streamlit as st

from pianistid_core.concepts import CONCEPTS, DrawnNotes, draw_concepts
from pianistid_core.errors import ExtractionError
from pianistid_core.midi import Notes, split_into_clips
from pianistid_core.rolls import CLIP_SECONDS

CONCEPT_HELP = {
    "melody": "Melody: the highest of the notes that begin together, all equally long and loud.",
    "harmony": "Harmony: the chords of three or more notes in their order, all equally long and loud.",
    "rhythm": "Rhythm: when keys go down and come up, on random keys, all equally loud.",
    "dynamics": "Dynamics: how loudly keys are struck, on random keys, all equally long.",
}


@dataclass(frozen=True)
class Layer:
    """One thing to show and hear: a name, its colour in the palette (None: by velocity), and n notes."""

    name: str
    starts_s: npt.NDArray[np.float64]
    ends_s: npt.NDArray[np.float64]
    pitches: npt.NDArray[Any]
    velocities: npt.NDArray[Any]
    colour: int | None = None
    help: str = ""


@dataclass(frozen=True)
class Band:
    """A stretch of the piece with a name over it, such as the pianist heard there; strength is 0 to 1."""

    start_s: float
    end_s: float
    label: str
    colour: int = 0
    strength: float = 1.0


@dataclass(frozen=True)
class Roll:
    """What the player shows: one or more layers of one piece, and bands along it."""

    label: str
    duration_s: float
    layers: Sequence[Layer]
    bands: Sequence[Band] = field(default_factory=tuple)


def as_played(notes: Notes, name: str = "As played") -> Layer:
    """The notes of a performance, coloured by how loudly each was struck."""
    return Layer(name, notes.onsets_s, notes.offsets_s, notes.pitches, notes.velocities)


def concept_layers(notes: Notes) -> tuple[list[Layer], str | None]:
    """The four concepts of a clip's first 30 s as layers; what cannot be drawn is left out, and said in words."""
    layers: list[Layer] = []
    missing: str | None = None
    for index, name in enumerate(CONCEPTS):
        try:
            drawn: DrawnNotes = draw_concepts(notes, concepts=(name,))[name]
        except ExtractionError as error:
            missing = str(error)
            continue
        n = len(drawn.starts_s)
        velocities = np.full(n, drawn.velocities) if isinstance(drawn.velocities, int) else drawn.velocities
        order = np.argsort(drawn.starts_s, kind="stable")
        layers.append(
            Layer(
                name.capitalize(), drawn.starts_s[order], drawn.ends_s[order], drawn.pitches[order],
                velocities[order], None if name == "dynamics" else index, CONCEPT_HELP[name],
            )
        )  # fmt: skip
    return layers, missing


def clip_roll(notes: Notes, label: str) -> tuple[Roll, str | None]:
    """A 30 s clip as played and as its four concepts; the padding that a clip file carries is left out."""
    heard = notes.between(0.0, CLIP_SECONDS)
    layers, missing = concept_layers(notes)
    played = as_played(heard)
    return Roll(label, min(max(notes.duration_s, 1.0), CLIP_SECONDS), [played, *layers]), missing


def performance_roll(notes: Notes, label: str, bands: Sequence[Band] = ()) -> Roll:
    """A whole performance as played, and as its concepts are heard in each of its 30 s clips, one after another."""
    clips = split_into_clips(notes)
    found: dict[str, list[Layer]] = {}
    for number, clip in enumerate(clips):
        for layer in concept_layers(clip)[0]:
            found.setdefault(layer.name, []).append(_later(layer, number * CLIP_SECONDS))
    layers = [_joined(parts) for parts in found.values()]
    return Roll(label, max(notes.duration_s, 1.0), [as_played(notes), *layers], bands)


def _later(layer: Layer, by_s: float) -> Layer:
    return replace(layer, starts_s=layer.starts_s + by_s, ends_s=layer.ends_s + by_s)


def _joined(parts: Sequence[Layer]) -> Layer:
    return replace(
        parts[0],
        starts_s=np.concatenate([part.starts_s for part in parts]),
        ends_s=np.concatenate([part.ends_s for part in parts]),
        pitches=np.concatenate([part.pitches for part in parts]),
        velocities=np.concatenate([part.velocities for part in parts]),
    )


def player_data(roll: Roll, *, height: int = 300, window_s: float = 30.0) -> dict[str, Any]:
    """The JSON that the browser draws: plain numbers and text only."""
    layers = [_layer_data(layer) for layer in roll.layers]
    piece = zlib.crc32(repr([(roll.label, layer["name"], layer["s"], layer["p"]) for layer in layers]).encode())
    return {
        "piece": piece,
        "label": roll.label,
        "duration": round(float(roll.duration_s), 3),
        "height": height,
        "window": window_s,
        "layers": layers,
        "bands": [
            {
                "start": float(band.start_s), "end": float(band.end_s), "label": band.label,
                "colour": band.colour, "strength": round(min(max(float(band.strength), 0.12), 1.0), 3),
            }
            for band in roll.bands
        ],
    }  # fmt: skip


def _layer_data(layer: Layer) -> dict[str, Any]:
    def milliseconds(times_s: npt.NDArray[np.float64]) -> list[int]:
        return [int(t) for t in np.rint(np.asarray(times_s) * 1000)]

    return {
        "name": layer.name,
        "help": layer.help,
        "colour": layer.colour,
        "s": milliseconds(layer.starts_s),
        "e": milliseconds(layer.ends_s),
        "p": [int(pitch) for pitch in layer.pitches],
        "v": [int(velocity) for velocity in layer.velocities],
    }


def _text(suffix: str) -> str:
    return (Path(__file__).parent / f"piano_roll.{suffix}").read_text(encoding="utf-8")


_PLAYER = st.components.v2.component("pianistid_piano_roll", html=_text("html"), css=_text("css"), js=_text("js"))


def show_roll(roll: Roll, *, key: str, height: int = 300, window_s: float = 30.0) -> None:
    """Draws the player; the same key with other notes starts it again from the beginning."""
    _PLAYER(key=key, data=player_data(roll, height=height, window_s=window_s))
