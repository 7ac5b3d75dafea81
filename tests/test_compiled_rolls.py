"""The compiled drawing: what the plain code draws, bit for bit, on notes made to break it and on real ones."""

import dataclasses
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nasty import any_chance, any_options, as_floats, clips_of_notes, drawn
from pianistid_core.batches import FORMS, Form
from pianistid_core.clips import ClipOptions
from pianistid_core.concepts import DynamicsOptions, ExtractorOptions
from pianistid_core.drawing import Chance
from pianistid_core.midi import Notes, read_midi
from pianistid_core.packed_notes import PackedNotes
from pianistid_core.strokes import Strokes
from tiny import make_notes

compiled_rolls = pytest.importorskip("pianistid_core.compiled_rolls", reason="numba is not installed")

GOLDEN = Path(__file__).parent / "golden"
TRAINING = ClipOptions(multichannel=True, data_augmentation=True, augmentation_probability=1.0, jitter_start=True)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=80, deadline=None)
@given(clips_of_notes(), any_options, any_chance)
def test_every_form_is_what_the_plain_code_draws(
    form: Form, packed: PackedNotes, options: ClipOptions, chance: Chance
) -> None:
    plain, reasons = drawn(packed, options, chance, "float32", plainly=True)
    rolls, same_reasons = drawn(packed, options, chance, form)
    assert same_reasons == reasons
    assert torch.equal(as_floats(rolls, options), as_floats(plain, options))


@settings(max_examples=50, deadline=None)
@given(clips_of_notes(), any_options, any_chance)
def test_strokes_are_the_plain_ones_in_their_order(packed: PackedNotes, options: ClipOptions, chance: Chance) -> None:
    (plain, _), (compiled, _) = (drawn(packed, options, chance, "strokes", plainly=way) for way in (True, False))
    assert isinstance(plain, Strokes) and isinstance(compiled, Strokes)
    assert compiled.n_cells == plain.n_cells and compiled.n_clips == plain.n_clips
    for name in ("rows", "firsts", "lasts", "values"):
        assert torch.equal(getattr(compiled, name), getattr(plain, name)), name


Case = tuple[Notes, dict[str, object], Path]


def golden_clips(shared: Path | None) -> list[Case]:
    """The golden cases that start at 0 s, as a draw does that is not jittered: notes, what must fail, arrays."""
    folder = GOLDEN if shared is None else shared / "golden" / "extractors"
    archive = None if shared is None else zipfile.ZipFile(shared / "data" / "jazz20.zip")
    cases = []
    for case in json.loads((folder / "index.json").read_text()):
        place, _, member = case["midi"].partition(":")
        if case["clip_start"] == 0.0:
            data = archive.read(member) if archive and member else ((shared or folder) / place).read_bytes()
            cases.append((read_midi(data), case["errors"], folder / case["arrays"]))
    return cases


def check_golden(cases: list[Case]) -> int:
    checked = 0
    single = ClipOptions(normalize_velocity=False)
    channels = {"single": single} | {
        name: dataclasses.replace(single, multichannel=True, use_concepts=(number,))
        for number, name in enumerate(("melody", "harmony"))
    }
    for notes, errors, path in cases:
        with np.load(path) as arrays:
            for name, options in channels.items():
                rolls, (reason,) = drawn(PackedNotes.of([notes]), options, Chance(), "uint8")
                assert bool(reason) == (name in errors), reason
                if not reason:
                    assert np.array_equal(as_floats(rolls, options)[0, 0].numpy(), arrays[name])
                checked += 1
    return checked


def test_synthetic_clips_equal_the_reference() -> None:
    assert check_golden(golden_clips(None)) == 36


def test_real_clips_equal_the_reference(shared: Path) -> None:
    cases = golden_clips(shared)
    assert check_golden(cases) == 72
    packed = PackedNotes.of([notes for notes, *_ in cases])
    chance = Chance(7, 1, attempts=10, training=True)
    for options in (TRAINING, ClipOptions(data_augmentation=True, jitter_start=True)):
        plain, reasons = drawn(packed, options, chance, "float32", plainly=True)
        for form in FORMS:
            rolls, same_reasons = drawn(packed, options, chance, form)
            assert same_reasons == reasons and torch.equal(as_floats(rolls, options), as_floats(plain, options))


@pytest.mark.parametrize("options", [TRAINING, ClipOptions(data_augmentation=True, augmentation_probability=1.0)])
def test_notes_that_are_ended_sooner_are_drawn_alike(options: ClipOptions) -> None:
    packed = PackedNotes.of([make_notes(seed) for seed in range(4)])
    options = dataclasses.replace(options, release_gap_s=0.037)
    chance = Chance(3, 1, attempts=10, training=True)
    plain, reasons = drawn(packed, options, chance, "float32", plainly=True)
    assert not torch.equal(plain, drawn(packed, dataclasses.replace(options, release_gap_s=0.0), chance, "float32")[0])
    for form in FORMS:
        rolls, same_reasons = drawn(packed, options, chance, form)
        assert same_reasons == reasons and torch.equal(as_floats(rolls, options), as_floats(plain, options))


def whole_keyboard(softest: int = 90, keys: int = 88) -> PackedNotes:
    """Keys from the lowest held for 30 s, so that with all of them no cell is empty; the top one struck at 90."""
    pitches, ones = np.arange(21, 21 + keys), np.ones(keys)
    return PackedNotes.of([Notes.from_arrays(0 * ones, 40 * ones, pitches, np.maximum(softest, pitches - 18))])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("packed", [whole_keyboard(), whole_keyboard(40), whole_keyboard(40, keys=87)])
def test_a_roll_without_an_empty_cell_is_normalised_by_its_minimum(form: Form, packed: PackedNotes) -> None:
    for options in (ClipOptions(), ClipOptions(normalize_velocity=False)):
        plain, _ = drawn(packed, options, Chance(), "float32", plainly=True)
        assert torch.equal(as_floats(drawn(packed, options, Chance(), form)[0], options), as_floats(plain, options))


@pytest.mark.parametrize("form", FORMS)
def test_a_loudest_note_that_is_covered_is_not_what_normalises(form: Form) -> None:
    covered = Notes.from_arrays([0.0, 0.0, 5.0], [1.0, 2.0, 6.0], [60, 60, 62], [120, 40, 50])
    rolls, _ = drawn(PackedNotes.of([covered]), ClipOptions(), Chance(), form)
    assert as_floats(rolls, ClipOptions()).unique().tolist() == [0.0, np.float32(40) / np.float32(50), 1.0]


def test_every_edge_of_a_frame_and_the_times_beside_it_fall_where_numpy_has_them() -> None:
    edges = np.linspace(0, 30, 3001)
    times = np.sort(np.concatenate([edges, np.nextafter(edges, 0), np.nextafter(edges, 31)]))
    for onsets, offsets in ((times, times + 0.5), (np.maximum(times - 0.5, 0), times)):
        notes = Notes.from_arrays(onsets, offsets, np.full(len(times), 60), np.full(len(times), 64))
        packed = PackedNotes.of([notes])
        (plain, _), (compiled, _) = (
            drawn(packed, ClipOptions(), Chance(), "strokes", plainly=way) for way in (True, False)
        )
        assert isinstance(plain, Strokes) and isinstance(compiled, Strokes)
        assert torch.equal(compiled.firsts, plain.firsts) and torch.equal(compiled.lasts, plain.lasts)


def test_a_clip_beyond_the_last_is_refused() -> None:
    packed = whole_keyboard()
    seeds = compiled_rolls.Seeds(np.empty(0, np.uint64), 0, 1, np.zeros(1, np.uint64))
    for clip in (-1, 1):
        with pytest.raises(IndexError, match="of 1"):
            compiled_rolls.draw_strokes(packed, [clip], ClipOptions(), seeds)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**40))
def test_the_number_of_a_clip_counts_with_all_its_bits(clip: int) -> None:
    words = np.empty(6, np.uint64)
    seeds = compiled_rolls.Seeds(np.array([5, 6], np.uint64), 3, 1, np.empty(0, np.uint64))
    n = compiled_rolls.clip_words(seeds, clip, 4, words)
    from pianistid_core.compiled_chance import words_of

    assert words[:n].tolist() == words_of(5, 6, clip, 7).tolist()


def test_halves_on_a_grid_go_to_the_even_step() -> None:
    # 0.15 and 0.45 lie half-way on a grid of 0.3 s: both fall on step 0 or 2, as NumPy rounds.
    notes = Notes.from_arrays([0.15, 0.45, 0.75], [1.0, 1.0, 1.0], [60, 62, 64], [9, 9, 9])
    options = ClipOptions(
        multichannel=True, use_concepts=(3,), extractor_cfg=ExtractorOptions(dynamics=DynamicsOptions(0.3))
    )
    (plain, _), (compiled, _) = (
        drawn(PackedNotes.of([notes]), options, Chance(), "strokes", plainly=way) for way in (True, False)
    )
    assert isinstance(plain, Strokes) and isinstance(compiled, Strokes)
    assert compiled.firsts.tolist() == plain.firsts.tolist()
