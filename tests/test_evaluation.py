"""Measures: exact over clips, averaged over recordings, and the ablation's fifteen rows."""

import copy
import json

import numpy as np
import pytest
import torch

from pianistid_core.batches import Form
from pianistid_core.concepts import CONCEPTS
from pianistid_core.datasets.cache import open_note_cache
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import DataError, ModelError
from pianistid_core.evaluation import (
    CONCEPT_SUBSETS,
    Predictions,
    ablate,
    average_by_recording,
    commonest_class_accuracy,
    measure,
    predict,
    predict_each,
)
from pianistid_core.loader import ClipDataset, ahead, make_loader
from pianistid_core.models import build_model
from pianistid_core.runs import Confusion
from tiny import PIANISTS, tiny_config

CPU = torch.device("cpu")


def predictions(rows: list[tuple[int, int, list[float]]]) -> Predictions:
    recordings, labels, probabilities = map(list, zip(*rows, strict=True))
    return Predictions(np.array(probabilities), np.array(labels), np.array(recordings), np.arange(len(rows)), 0.5)


ROWS = predictions(
    [
        (7, 0, [0.9, 0.1, 0.0]),
        (7, 0, [0.4, 0.6, 0.0]),
        (3, 1, [0.6, 0.4, 0.0]),
        (3, 1, [0.6, 0.4, 0.0]),
        (3, 1, [0.0, 1.0, 0.0]),
        (5, 1, [0.7, 0.3, 0.0]),
    ]
)


def test_a_recording_is_the_mean_of_its_clips() -> None:
    ids, averages = average_by_recording(ROWS.probabilities, ROWS.recordings)
    assert ids.tolist() == [3, 5, 7]
    assert np.allclose(averages, [[0.4, 0.6, 0.0], [0.7, 0.3, 0.0], [0.65, 0.35, 0.0]])


def test_lists_are_averaged_as_arrays_are() -> None:
    ids, averages = average_by_recording([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], [4, 4, 2])
    assert ids.tolist() == [2, 4] and averages.tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_accuracies_recalls_and_confusion() -> None:
    metrics = measure(ROWS, ("a", "b", "c"))
    assert metrics.clip_accuracy == pytest.approx(2 / 6)
    assert metrics.recording_accuracy == pytest.approx(2 / 3)
    assert metrics.confusion.counts.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert metrics.recalls == (1.0, 0.5, None)
    assert metrics.macro_recall == pytest.approx(0.75)
    assert metrics.to_dict()["per_pianist"] == {"a": 1.0, "b": 0.5, "c": None}
    assert metrics.confusion.row_normalised().tolist() == [[1, 0, 0], [0.5, 0.5, 0], [0, 0, 0]]


def test_with_the_names_of_tracks_each_recording_has_an_outcome() -> None:
    tracks = [f"tiny/{number}" for number in range(8)]
    confusion = measure(ROWS, ("a", "b", "c"), tracks).confusion
    assert [(one.track, one.true, one.heard) for one in confusion.recordings] == [
        ("tiny/3", 1, 1),
        ("tiny/5", 1, 0),
        ("tiny/7", 0, 0),
    ]
    assert [one.probability for one in confusion.recordings] == pytest.approx([0.6, 0.7, 0.65])
    again = Confusion.from_dict(json.loads(json.dumps(confusion.to_dict())))
    assert again is not None and again.recordings == confusion.recordings
    counted = np.zeros((3, 3), np.int64)
    for one in confusion.recordings:
        counted[one.true, one.heard] += 1
    assert np.array_equal(counted, confusion.counts)
    assert measure(ROWS, ("a", "b", "c")).confusion.recordings == ()


def test_the_commonest_pianist_is_that_of_training() -> None:
    name, accuracy = commonest_class_accuracy(np.array([1, 1, 0]), measure(ROWS, ("a", "b", "c")))
    assert (name, accuracy) == ("b", pytest.approx(2 / 3))


def test_there_are_fifteen_subsets_of_concepts() -> None:
    assert len(set(CONCEPT_SUBSETS)) == 15
    assert CONCEPT_SUBSETS[0] == CONCEPTS


@pytest.fixture
def clips(tiny_root: DataRoot) -> ClipDataset:
    cache = open_note_cache(tiny_root, "tiny", "test")
    return ClipDataset(cache, tiny_config().test_dataset_cfg, seed=0, training=False)


def factorised() -> torch.nn.Module:
    torch.manual_seed(0)
    config = tiny_config()
    return build_model(config.encoder_module, config.model_cfg, 3)


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (4, 0), (4, 2)])
def test_predictions_do_not_depend_on_batches_or_workers(clips: ClipDataset, batch_size: int, workers: int) -> None:
    model = factorised()
    one = predict(model, make_loader(clips, batch_size=6, shuffle=False), CPU)
    other = predict(model, make_loader(clips, batch_size=batch_size, shuffle=False, num_workers=workers), CPU)
    assert np.allclose(one.probabilities, other.probabilities, atol=1e-6)
    assert one.loss == pytest.approx(other.loss, abs=1e-5)


def test_an_evaluation_is_made_without_dropout_and_can_be_stopped(clips: ClipDataset) -> None:
    model = factorised().train()
    loader = make_loader(clips, batch_size=2, shuffle=False)
    assert np.array_equal(predict(model, loader, CPU).probabilities, predict(model, loader, CPU).probabilities)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(model, loader, CPU, check=stop)


def test_without_a_device_a_model_predicts_where_it_is(clips: ClipDataset) -> None:
    model = factorised()
    loader = make_loader(clips)
    wanted = predict(model, loader, CPU).probabilities
    for device in ({}, {"device": None}, {"device": "cpu"}):
        assert np.array_equal(predict(model, loader, **device).probabilities, wanted)  # type: ignore[arg-type]


def test_the_ablation_runs_the_model_with_every_subset(clips: ClipDataset) -> None:
    model = factorised().eval()
    loader = make_loader(clips, batch_size=4, shuffle=False)
    rows = ablate(model, loader, CPU, PIANISTS)
    assert [row.kept for row in rows] == list(CONCEPT_SUBSETS)
    full = measure(predict(model, loader, CPU), PIANISTS)
    assert rows[0].metrics.loss == pytest.approx(full.loss)
    assert np.array_equal(rows[0].metrics.confusion.counts, full.confusion.counts)
    assert len({round(row.metrics.loss, 6) for row in rows}) == 15


def test_any_subsets_can_be_asked_for_in_one_pass(clips: ClipDataset) -> None:
    model = factorised().eval()
    loader = make_loader(clips, batch_size=4)
    wanted = [(), ("rhythm",), CONCEPTS]
    silence, rhythm, everything = predict_each(model, loader, wanted)
    assert np.allclose(everything.probabilities, predict(model, loader).probabilities, atol=1e-6)
    assert np.ptp(silence.probabilities, axis=0).max() < 1e-6 < np.ptp(rhythm.probabilities, axis=0).max()
    for one in (silence, rhythm):
        assert np.array_equal(one.clips, everything.clips) and np.array_equal(one.labels, everything.labels)


def test_logits_fetched_in_pieces_are_those_fetched_at_once(
    clips: ClipDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = factorised().eval()
    loader = make_loader(clips, batch_size=1)
    wanted = predict_each(model, loader)
    monkeypatch.setattr("pianistid_core.evaluation._FETCH_AT", 100)
    for one, other in zip(predict_each(model, loader), wanted, strict=True):
        assert np.array_equal(one.probabilities, other.probabilities)


@pytest.mark.parametrize("form", ["uint8", "strokes"])
def test_batches_of_any_form_give_the_same_predictions(clips: ClipDataset, form: Form) -> None:
    model = factorised().eval()
    wanted = predict(model, make_loader(clips, batch_size=4))
    found = predict(model, ahead(make_loader(clips, batch_size=4, form=form)))
    assert np.array_equal(found.probabilities, wanted.probabilities)
    assert np.array_equal(found.recordings, wanted.recordings) and found.loss == wanted.loss


def test_half_precision_is_only_for_those_who_ask(clips: ClipDataset) -> None:
    model = factorised().eval()
    loader = make_loader(clips)
    full, half = predict(model, loader, precision="float32"), predict(model, loader, precision="bf16")
    assert np.array_equal(full.probabilities, predict(model, loader).probabilities)
    assert 1e-7 < np.abs(half.probabilities - full.probabilities).max() < 0.05
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_what_a_cpu_gives_and_is_not_waited_for(clips: ClipDataset) -> None:
    model = factorised().eval()
    wanted = predict_each(model, make_loader(clips, batch_size=2))
    there = copy.deepcopy(model).cuda()
    loader = make_loader(clips, batch_size=2, form="strokes")
    predict_each(there, loader)
    batches = list(loader)

    def no_waiting(done: int) -> None:
        torch.cuda.set_sync_debug_mode("error" if done < len(batches) else "default")

    try:
        found = predict_each(there, batches, on_batch=no_waiting)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for one, other in zip(found, wanted, strict=True):
        assert np.allclose(one.probabilities, other.probabilities, atol=1e-3)
    half = predict(there, loader, precision="bf16")
    assert np.allclose(half.probabilities, wanted[0].probabilities, atol=0.05)


def test_only_a_factorised_model_can_be_ablated(clips: ClipDataset) -> None:
    with pytest.raises(ModelError, match="concepts"):
        ablate(build_model("cnn", {}, 3), make_loader(clips, batch_size=4, shuffle=False), CPU, PIANISTS)


def test_a_part_without_any_drawable_clip_is_refused(clips: ClipDataset) -> None:
    empty = [clips.draw([])]
    with pytest.raises(DataError, match="no clip"):
        predict(factorised(), empty, CPU)
