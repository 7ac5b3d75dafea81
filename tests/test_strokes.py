"""Strokes: painted on any device they are the rolls that the rasteriser paints."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from nasty import any_chance, any_options, as_floats, clips_of_notes, drawn
from pianistid_core import strokes as strokes_module
from pianistid_core.clips import ClipOptions
from pianistid_core.drawing import Chance
from pianistid_core.midi import Notes
from pianistid_core.packed_notes import PackedNotes
from pianistid_core.rolls import normalise, piano_roll
from pianistid_core.strokes import Strokes, normalise_rolls, paint
from tiny import make_notes


def strokes_of(*clips: Notes, options: ClipOptions | None = None) -> Strokes:
    rolls, _ = drawn(PackedNotes.of(list(clips)), options or ClipOptions(), Chance(), "strokes", plainly=True)
    assert isinstance(rolls, Strokes)
    return rolls


@settings(max_examples=100, deadline=None)
@given(clips_of_notes(), any_options, any_chance)
def test_painted_strokes_are_the_rasterised_notes(packed: PackedNotes, options: ClipOptions, chance: Chance) -> None:
    rolls, _ = drawn(packed, options, chance, "float32", plainly=True)
    strokes, _ = drawn(packed, options, chance, "strokes", plainly=True)
    assert isinstance(strokes, Strokes) and isinstance(rolls, torch.Tensor)
    assert paint(strokes, "cpu").shape == rolls.shape
    assert torch.equal(as_floats(strokes, options), rolls)


def test_the_later_stroke_covers_the_earlier_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    notes = Notes.from_arrays([0.0, 0.5], [2.0, 1.0], [60, 60], [100, 40])
    for most_in_32_bits in (1 << 24, 1):
        monkeypatch.setattr(strokes_module, "_MOST_IN_32_BITS", most_in_32_bits)
        painted = paint(strokes_of(notes), "cpu")
        assert painted[0, 0, 39, [0, 49, 60, 150]].tolist() == [100, 100, 40, 100]
        assert np.array_equal(painted[0].numpy(), piano_roll(notes))


def test_normalising_on_the_device_is_normalising() -> None:
    rolls = torch.from_numpy(np.random.default_rng(0).integers(0, 128, (2, 3, 88, 3000)).astype(np.float32))
    rolls[0, 1] = 5
    rolls[1] = rolls[1].clamp(30, 90)
    assert np.array_equal(normalise_rolls(rolls.clone()).numpy(), normalise(rolls.numpy()))


def test_clips_that_are_left_out_make_the_others_move_up() -> None:
    clips = [make_notes(seed, seconds=10) for seed in range(4)]
    options = ClipOptions(multichannel=True)
    some = strokes_of(*clips, options=options).without([0, 2])
    assert torch.equal(paint(some, "cpu"), paint(strokes_of(clips[1], clips[3], options=options), "cpu"))
    assert some.n_clips == 2 and some.n_cells == int((some.lasts.long() - some.firsts.long()).sum())


def test_no_strokes_paint_empty_rolls() -> None:
    late = Notes.from_arrays([30.0], [31.0], [60], [60])
    assert not paint(strokes_of(late), "cpu").any()
    assert not normalise_rolls(paint(strokes_of(late), "cpu")).any()
    assert paint(strokes_of(), "cpu").shape == (0, 1, 88, 3000)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_paints_the_same_bits() -> None:
    packed = PackedNotes.of([make_notes(seed) for seed in range(6)])
    for options in (ClipOptions(), ClipOptions(multichannel=True), ClipOptions(normalize_velocity=False)):
        plain, _ = drawn(packed, options, Chance(), "float32", plainly=True)
        for form in ("uint8", "strokes"):
            rolls, _ = drawn(packed, options, Chance(), form)
            assert torch.equal(as_floats(rolls, options, "cuda"), as_floats(plain, options))
