"""Notes and options made to break what draws them, and the plain drawing that everything else is held to."""

from unittest.mock import patch

import numpy as np
import torch
from hypothesis import strategies as st

from pianistid_core import drawing
from pianistid_core.batches import Form, PackedRolls, Rolls
from pianistid_core.clips import ClipOptions
from pianistid_core.concepts import DynamicsOptions, ExtractorOptions, HarmonyOptions, MelodyOptions
from pianistid_core.drawing import Chance, Room, draw
from pianistid_core.midi import Notes
from pianistid_core.packed_notes import PackedNotes
from pianistid_core.strokes import Strokes, normalise_rolls, paint

# Times on frame edges and on the edges of grids, in between, a hair beside, and beyond the 30 s.
_ONSETS_S = (
    st.integers(0, 6200).map(lambda frame: frame / 100)
    | st.integers(0, 3000).map(lambda frame: float(np.linspace(0, 30, 3001)[frame]))
    | st.integers(0, 3000).map(lambda frame: float(np.nextafter(frame / 100, 0)))
    | st.integers(0, 200).map(lambda step: 0.15 + 0.3 * step)
    | st.floats(0.0, 62.0)
    | st.sampled_from([0.0, 1.0, 30.0])
)
_LENGTHS_S = st.floats(0.0, 4.0) | st.sampled_from([0.0, 0.01, 0.02, 0.3, 50.0]) | st.floats(0.009, 0.011)
_PITCHES = st.integers(0, 127) | st.sampled_from([20, 21, 60, 60, 64, 67, 108, 109])
_VELOCITIES = st.integers(0, 127) | st.sampled_from([0, 1, 64, 127])
_GRIDS_S = st.sampled_from([0.001, 0.01, 0.02, 0.3, 0.25, 5.0]) | st.floats(0.001, 5.0)


@st.composite
def clips_of_notes(draw: st.DrawFn, largest: int = 60) -> PackedNotes:
    """One to four clips, some empty, some all chords."""
    row = st.tuples(_ONSETS_S, _LENGTHS_S, _PITCHES, _VELOCITIES)
    clips = []
    for rows in draw(st.lists(st.lists(row, max_size=largest), min_size=1, max_size=4)):
        onsets, lengths, pitches, velocities = (
            (np.array(column) for column in zip(*rows, strict=True)) if rows else (np.empty((4, 0)))
        )
        if rows and draw(st.booleans()):
            onsets = np.sort(onsets)[np.arange(len(onsets)) // 5 * 5]
        clips.append(Notes.from_arrays(onsets, onsets + lengths, pitches.astype(int), velocities.astype(int)))
    return PackedNotes.of(clips)


any_options = st.builds(
    ClipOptions,
    release_gap_s=st.sampled_from([0.0, 0.02, 0.05]),
    normalize_velocity=st.booleans(),
    multichannel=st.booleans(),
    data_augmentation=st.booleans(),
    augmentation_probability=st.sampled_from([0.0, 0.5, 1.0]),
    jitter_start=st.booleans(),
    use_concepts=st.sets(st.integers(0, 3), min_size=1).map(lambda kept: tuple(sorted(kept))),
    extractor_cfg=st.builds(
        ExtractorOptions,
        st.builds(MelodyOptions, st.sampled_from([0, 21, 60, 100]), _GRIDS_S),
        st.builds(HarmonyOptions, st.sampled_from([30, 64, 109, 128]), st.integers(1, 4), _GRIDS_S, st.booleans()),
        st.builds(DynamicsOptions, _GRIDS_S),
    ),
)
any_chance = st.builds(
    Chance,
    seed=st.sampled_from([0, 1, 2**33 + 5]),
    epoch=st.integers(0, 200),
    stream=st.sampled_from([0, 1 << 20]),
    attempts=st.sampled_from([1, 3]),
    training=st.booleans(),
)


def drawn(
    packed: PackedNotes, options: ClipOptions, chance: Chance, form: Form, *, plainly: bool = False
) -> tuple[Rolls, list[str]]:
    """All clips, as one batch of a form; `plainly`, as if numba were not there."""
    clips = range(len(packed))
    if not plainly:
        return draw(packed, clips, options, chance, form, Room())
    with patch.object(drawing, "compiled_rolls", return_value=None):
        return draw(packed, clips, options, chance, form, Room())


def as_floats(rolls: Rolls, options: ClipOptions, device: str = "cpu") -> torch.Tensor:
    """Rolls of any form as the network gets them."""
    if isinstance(rolls, PackedRolls):
        return rolls.floats(device, normalised=options.normalize_velocity).cpu()
    if isinstance(rolls, Strokes):
        painted = paint(rolls, device)
        return (normalise_rolls(painted) if options.normalize_velocity else painted).cpu()
    return rolls
