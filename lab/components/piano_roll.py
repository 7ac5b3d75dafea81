"""The piano roll with a playhead and sound: the one place that knows what its JavaScript takes.

Times go to the browser as whole milliseconds, shares as whole thousandths, colours as positions in the theme's
categorical palette (so that light and dark follow the theme without a rerun), as "#rrggbb", or None for "by velocity".
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import streamlit as st

from components.piano_sound import place_bank, sound_script
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
    """One thing to show and hear: a name, its colour in the palette (None: by velocity), and n notes.

    With `scores` (n, signed) its notes are drawn from one colour to another: against and for what `poles` name.
    """

    name: str
    starts_s: npt.NDArray[np.float64]
    ends_s: npt.NDArray[np.float64]
    pitches: npt.NDArray[Any]
    velocities: npt.NDArray[Any]
    colour: int | None = None
    help: str = ""
    scores: npt.NDArray[np.float64] | None = None
    poles: tuple[str, str] = ("against", "for")


@dataclass(frozen=True)
class Band:
    """A stretch of the piece with a name over it, such as the pianist heard there; strength is 0 to 1."""

    start_s: float
    end_s: float
    label: str
    colour: int | str = 0
    strength: float = 1.0


@dataclass(frozen=True)
class Moments:
    """Who is heard where: for each of m stretches of the piece, the shares of n names, each with its colour.

    `concepts` holds the same (m, n) for what each concept says alone. A name may be "" for all others together.
    `smooth` means stretches that overlap, drawn as lines between their middles; else each stands for itself.
    """

    spans_s: Sequence[tuple[float, float]]
    names: Sequence[str]
    colours: Sequence[int | str]
    shares: npt.NDArray[np.float64]
    concepts: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    smooth: bool = False


@dataclass(frozen=True)
class Verdict:
    """What is said of the whole piece: the name, how probable, who plays when that is known, and whether the music is
    unlike all that the model learned from.
    """

    name: str
    share: float
    truth: str | None = None
    unlike: bool = False


@dataclass(frozen=True)
class Roll:
    """What the player shows: one or more layers of one piece, bands along it, and who is heard when.

    With `moments` there is a line a name under the roll, and a stage view that follows the sound. `begin_s` is where
    the playhead stands at first.
    """

    label: str
    duration_s: float
    layers: Sequence[Layer]
    bands: Sequence[Band] = field(default_factory=tuple)
    moments: Moments | None = None
    verdict: Verdict | None = None
    begin_s: float = 0.0


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


def player_data(
    roll: Roll, *, height: int = 300, window_s: float = 30.0, bank: Sequence[Sequence[float]] = ()
) -> dict[str, Any]:
    """The JSON that the browser draws: plain numbers and text only; `bank` says where the samples of the sound lie."""
    layers = [_layer_data(layer) for layer in roll.layers]
    first = layers[0] if layers else {}
    piece = zlib.crc32(repr((roll.label, first.get("s"), first.get("p"))).encode())
    return {
        "piece": piece,
        "label": roll.label,
        "duration": round(float(roll.duration_s), 3),
        "begin": round(float(roll.begin_s), 3),
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
        "moments": _moments_data(roll.moments) if roll.moments is not None and roll.moments.spans_s else None,
        "verdict": _verdict_data(roll.verdict),
        "bank": [list(sample) for sample in bank],
    }  # fmt: skip


def _layer_data(layer: Layer) -> dict[str, Any]:
    scores = None
    if layer.scores is not None:
        # The strongest few would leave all others grey: what most notes reach is full colour.
        # Where most have none, the strongest is.
        reach = float(np.quantile(np.abs(layer.scores), 0.98)) if len(layer.scores) else 0.0
        reach = reach or float(np.abs(layer.scores).max(initial=0.0))
        scores = _thousandths(np.clip(layer.scores / reach, -1, 1) if reach > 0 else np.zeros(len(layer.scores)))
    return {
        "name": layer.name,
        "help": layer.help,
        "colour": layer.colour,
        "s": _milliseconds(layer.starts_s),
        "e": _milliseconds(layer.ends_s),
        "p": [int(pitch) for pitch in layer.pitches],
        "v": [int(velocity) for velocity in layer.velocities],
        "w": scores,
        "poles": list(layer.poles),
    }


def _moments_data(moments: Moments) -> dict[str, Any]:
    return {
        "starts": _milliseconds(np.array([start for start, _ in moments.spans_s])),
        "ends": _milliseconds(np.array([end for _, end in moments.spans_s])),
        "names": list(moments.names),
        "colours": list(moments.colours),
        "shares": [_thousandths(row) for row in moments.shares],
        "concepts": {name: [_thousandths(row) for row in rows] for name, rows in moments.concepts.items()},
        "smooth": moments.smooth,
    }


def _verdict_data(verdict: Verdict | None) -> dict[str, Any] | None:
    if verdict is None:
        return None
    return {
        "name": verdict.name, "share": round(float(verdict.share), 4), "truth": verdict.truth,
        "unlike": verdict.unlike,
    }  # fmt: skip


def _milliseconds(times_s: npt.NDArray[np.float64]) -> list[int]:
    return [int(t) for t in np.rint(np.asarray(times_s, np.float64) * 1000)]


def _thousandths(shares: npt.NDArray[np.float64]) -> list[int]:
    return [int(share) for share in np.rint(np.nan_to_num(np.asarray(shares, np.float64)) * 1000)]


def _text(suffix: str) -> str:
    return (Path(__file__).parent / f"piano_roll.{suffix}").read_text(encoding="utf-8")


def _stage_script() -> str:
    return (Path(__file__).parent / "piano_stage.js").read_text(encoding="utf-8")


_PLAYER = st.components.v2.component(
    "pianistid_piano_roll",
    html=_text("html"),
    css=_text("css"),
    js="\n".join((sound_script(), _stage_script(), _text("js"))),
)


def show_roll(roll: Roll, *, key: str, height: int = 300, window_s: float = 30.0) -> None:
    """Draws the player; the same key with other notes starts it again from the beginning."""
    _PLAYER(key=key, data=player_data(roll, height=height, window_s=window_s, bank=place_bank()))
