"""What a model comes to: counted as the predictions say, with intervals that hold the shares."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pianistid_core.calibration import Calibration
from pianistid_core.checkpoints import LoadedModel
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import CheckpointError
from pianistid_core.evaluation import Predictions, measure, predict
from pianistid_core.loader import ClipDataset, make_loader
from pianistid_core.measuring import _Outcome, counted, macro_recall, measure_model
from pianistid_core.models import build_model
from tiny import PIANISTS, tiny_config


def untrained(names: tuple[str, ...] = PIANISTS, **changes: Any) -> LoadedModel:
    torch.manual_seed(1)
    config = tiny_config(**changes)
    model = build_model(config.encoder_module, config.model_cfg, len(names)).eval()
    return LoadedModel(model, config, names, Path("checkpoint_001.pth"), 1)


@pytest.fixture(scope="module")
def root(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    return DataRoot(tiny_data, cache_dir=tmp_path_factory.mktemp("cache"))


def test_it_counts_what_an_evaluation_counts(root: DataRoot) -> None:
    loaded = untrained()
    found = measure_model(loaded, root)
    dataset = ClipDataset.open(root, "tiny", "test", loaded.config.test_dataset_cfg)
    truth = measure(predict(loaded.model, make_loader(dataset, batch_size=8)), PIANISTS)
    assert found["recordings"]["right"] / found["recordings"]["n"] == pytest.approx(truth.recording_accuracy)
    assert found["clips"]["right"] / found["clips"]["n"] == pytest.approx(truth.clip_accuracy)
    assert found["macro_recall"]["value"] == pytest.approx(truth.macro_recall)
    assert [one["right"] / one["n"] for one in found["per_pianist"]] == list(truth.recalls)
    assert [one["named"] for one in found["per_pianist"]] == truth.confusion.counts.sum(axis=0).tolist()
    assert [one["learned_from"] for one in found["per_pianist"]] == [3, 3, 3]
    assert found["train"] == {"recordings": 9, "clips": 18}
    assert found["commonest"]["n"] == 3 and found["commonest"]["right"] == 1
    concepts = ("melody", "harmony", "rhythm", "dynamics")
    assert list(found["concepts"]) == [*concepts, *(f"no {one}" for one in concepts)]
    assert list(found["per_pianist"][0]["alone"]) == list(concepts)


def test_a_calibration_has_its_say_in_recordings() -> None:
    """One clip is sure of the first pianist, two lean to the second: flattened, the two outvote the one."""
    shares = np.array([[0.98, 0.01, 0.01], [0.3, 0.6, 0.1], [0.3, 0.6, 0.1]])
    labels = recordings = np.zeros(3, np.int64)
    heard = Predictions(shares, labels, recordings, np.arange(3), loss=1.0)
    flat = Calibration(temperature=20.0, power=1.0, growth=0.0, thresholds=((1, 0.0),))
    sharp = Calibration(temperature=0.2, power=1.0, growth=0.0, thresholds=((1, 0.0),))
    assert _Outcome(heard, None).guesses.tolist() == [0]
    assert _Outcome(heard, flat).guesses.tolist() == _flat_mean(shares)
    assert _Outcome(heard, sharp).guesses.tolist() == [1]


def _flat_mean(shares: np.ndarray) -> list[int]:
    rooted = shares ** (1 / 20)
    return [int((rooted / rooted.sum(axis=1, keepdims=True)).mean(axis=0).argmax())]


def test_concepts_that_are_not_heard_are_not_measured(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = untrained()
    monkeypatch.setattr(type(loaded.model), "hears", ("melody", "rhythm"))
    found = measure_model(loaded, root)
    assert list(found["concepts"]) == ["melody", "rhythm", "no melody", "no rhythm"]
    assert found["hears"] == ["melody", "rhythm"]


def test_a_model_without_concepts_has_none(root: DataRoot) -> None:
    single = {"encoder_module": "compact", "model_cfg": {"stem_width": 4, "width": 8}}
    found = measure_model(untrained(**single, train_dataset_cfg={}, test_dataset_cfg={}), root)
    assert found["concepts"] == {} and found["hears"] is None and found["per_pianist"][0]["alone"] == {}


def test_other_pianists_are_refused(root: DataRoot) -> None:
    with pytest.raises(CheckpointError, match="2 pianists apart who are not those"):
        measure_model(untrained(("Ada Even", "Somebody Else")), root)


def test_the_interval_of_a_mean_recall_holds_it_and_narrows() -> None:
    few, many = macro_recall([3, 0, 2], [4, 0, 4]), macro_recall([300, 0, 200], [400, 0, 400])
    assert few["value"] == many["value"] == pytest.approx((0.75 + 0.5) / 2)
    for found in (few, many):
        low, high = found["interval"]
        assert 0 <= low < found["value"] < high <= 1
    assert np.ptp(many["interval"]) < np.ptp(few["interval"]) / 5
    assert macro_recall([5], [5])["interval"][1] == 1.0
    assert counted(0, 0) == {"right": 0, "n": 0, "interval": None}


def test_one_pianist_has_the_interval_of_a_share() -> None:
    assert macro_recall([7], [10])["interval"] == pytest.approx(counted(7, 10)["interval"], abs=1e-5)
