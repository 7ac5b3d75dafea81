"""Drawing a batch: the same by compiled and by plain code, in memory that is used again only when nobody needs it."""

import gc
import logging
import pickle
import pkgutil
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from nasty import as_floats, drawn
from pianistid_core import drawing
from pianistid_core.batches import FORMS, Form
from pianistid_core.clips import ClipOptions, draw_clip
from pianistid_core.concepts import evaluation_rng
from pianistid_core.drawing import Chance, Room, draw, without
from pianistid_core.midi import Notes
from pianistid_core.packed_notes import PackedNotes
from tiny import make_notes

FOUR = ClipOptions(multichannel=True)
MIXED = PackedNotes.of([make_notes(1), make_notes(2, chord=()), make_notes(3), Notes([], [], [], [])])


@pytest.mark.parametrize("plainly", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_clips_that_cannot_be_drawn_are_left_out_with_the_reason(form: Form, plainly: bool) -> None:
    rolls, reasons = drawn(MIXED, FOUR, Chance(), form, plainly=plainly)
    assert [reason.split(":")[0] for reason in reasons] == ["", "no chords in the clip", "", "no notes in the clip"]
    expected = [draw_clip(MIXED.notes(i), FOUR, evaluation_rng(MIXED.notes(i))) for i in (0, 2)]
    assert np.array_equal(as_floats(rolls, FOUR).numpy(), np.stack(expected))


@pytest.mark.parametrize("plainly", [False, True])
def test_another_draw_is_tried_where_one_has_no_notes(plainly: bool) -> None:
    # Notes from 44.9 s on are heard from a start after 14.9 s alone: one try in 150.
    late = make_notes(0, seconds=2)
    packed = PackedNotes.of([Notes(late.onsets_s + 40, late.offsets_s + 40, late.pitches, late.velocities)])
    options = ClipOptions(jitter_start=True)
    found = [
        sum(
            not drawn(packed, options, Chance(seed, 0, 0, tries, True), "uint8", plainly=plainly)[1][0]
            for seed in range(20)
        )
        for tries in (1, 10)
    ]
    assert found[0] < 15 < found[1]


@pytest.mark.parametrize("form", FORMS)
def test_no_clips_are_an_empty_batch(form: Form) -> None:
    for plainly in (False, True):
        rolls, reasons = drawn(PackedNotes.of([]), FOUR, Chance(), form, plainly=plainly)
        assert as_floats(rolls, FOUR).shape == (0, 4, 88, 3000) and reasons == []


@pytest.mark.parametrize("form", FORMS)
def test_some_clips_can_be_left_out_of_a_batch(form: Form) -> None:
    packed = PackedNotes.of([make_notes(seed) for seed in range(3)])
    rolls, _ = drawn(packed, FOUR, Chance(), form)
    assert without(rolls, []) is rolls
    assert torch.equal(as_floats(without(rolls, [1]), FOUR), as_floats(rolls, FOUR)[[0, 2]])


def test_without_numba_it_is_said_once_and_the_plain_code_draws(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = as_floats(drawn(MIXED, FOUR, Chance(), "float32")[0], FOUR)
    for module in ("numba", "pianistid_core.compiled_chance", "pianistid_core.compiled_rolls"):
        monkeypatch.setitem(sys.modules, module, None)
        monkeypatch.delattr(f"pianistid_core.{module.split('.')[-1]}", raising=False)
    drawing.compiled_rolls.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                assert torch.equal(
                    as_floats(draw(MIXED, range(4), FOUR, Chance(), "float32", Room())[0], FOUR), expected
                )
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "plain code" in caplog.text
    finally:
        drawing.compiled_rolls.cache_clear()


@pytest.mark.parametrize(
    ("where", "instead"),
    [
        ("numpy.random.default_rng", lambda old: lambda seed: old([*seed, 1] if isinstance(seed, list) else seed)),
        ("pianistid_core.clips.augment", lambda old: lambda notes, rng: old(notes, rng).shifted(0.05)),
    ],
)
def test_compiled_code_that_draws_otherwise_is_not_used(
    where: str, instead: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("numba", reason="numba is not installed")
    drawing.compiled_rolls.cache_clear()
    assert drawing.compiled_rolls() is not None
    monkeypatch.setattr(where, instead(pkgutil.resolve_name(where)))
    drawing.compiled_rolls.cache_clear()
    try:
        assert drawing.compiled_rolls() is None and "__pycache__" in caplog.text
    finally:
        drawing.compiled_rolls.cache_clear()


def test_memory_is_lent_again_only_when_no_tensor_is_left_over_it() -> None:
    room = Room()
    first = room.lend((2, 3), torch.float32)
    place, view = first.data_ptr(), first[1:].view(torch.uint8).numpy()
    del first
    other = room.lend((2, 3), torch.float32)
    assert other.data_ptr() != place and view.shape == (1, 12)
    del view
    gc.collect()
    again = room.lend((3,), torch.float32)
    assert again.data_ptr() == place
    del again
    assert room.lend((4, 3), torch.float32).shape == (4, 3)


def test_a_room_travels_empty() -> None:
    assert isinstance(pickle.loads(pickle.dumps(Room())), Room)
