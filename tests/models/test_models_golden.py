"""The twenty configurations of the reference: names, shapes, counts, logits, features and masked logits."""

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pianistid_core.concepts import CONCEPTS
from pianistid_core.models import build_model
from pianistid_core.models.blocks import PianistModel
from pianistid_core.models.factorised import FactorisedModel
from pianistid_core.rolls import normalise

TOLERANCE = 1e-3
# The eight factorised ResNet-18s have the same encoders and, by the recipe, the same weights in them: the others of a
# group start from the first one's embeddings, since an encoder's pass is what costs.
SAME_ENCODERS = {9: 8, 12: 8, 13: 8, 14: 8, 15: 8, 16: 8, 17: 8}
ENTRIES = sorted(range(20), key=lambda index: SAME_ENCODERS.get(index, index))

State = dict[str, torch.Tensor]


@functools.cache
def read_entries(shared: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((shared / "golden" / "models.json").read_text())
    return entries


@functools.cache
def read_rolls(shared: Path, channels: int) -> torch.Tensor:
    with np.load(shared / "golden" / "models_inputs.npz") as inputs:
        raw = inputs["single" if channels == 1 else "multi"]
    return torch.from_numpy(np.stack([normalise(clip) for clip in raw]))


def build_empty(entry: dict[str, Any]) -> PianistModel:
    """The entry's network without memory for its weights, which is quick and enough for names and shapes."""
    with torch.device("meta"):
        return build_model(entry["encoder_module"], entry["model_cfg"], entry["num_classes"]).eval()


def draw(position: int, name: str, shape: list[int]) -> torch.Tensor:
    """The weight of one entry of a state dict, by the recipe of the golden folder's README."""
    if name.endswith(("running_mean", "num_batches_tracked")):
        return torch.zeros(shape, dtype=torch.long if name.endswith("tracked") else torch.float32)
    if name.endswith("running_var"):
        return torch.ones(shape)
    numel = int(np.prod(shape))
    z = np.random.RandomState(position).standard_normal(numel).reshape(shape)
    if len(shape) > 1:
        z *= np.sqrt(2 / (numel / shape[0]))
    elif name.endswith(".p"):
        z = 3 + 0.1 * z
    else:
        z = (1 if name.endswith("weight") else 0) + 0.1 * z
    return torch.from_numpy(z.astype(np.float32))


def draw_state(entry: dict[str, Any], known: State) -> State:
    names = enumerate(entry["state_dict"])
    return {name: known[name] if name in known else draw(position, name, shape) for position, (name, shape) in names}


class Encoded:
    """The encoders' weights and embeddings of one group of entries; only the last group is kept."""

    def __init__(self) -> None:
        self.group = -1
        self.state: State = {}
        self.embeddings = torch.empty(0)


@pytest.fixture(scope="module")
def encoded() -> Iterator[Encoded]:
    yield Encoded()
    read_rolls.cache_clear()


def assert_close(found: torch.Tensor, wanted: list[Any]) -> None:
    expected = torch.tensor(wanted)
    assert found.shape == expected.shape
    worst = float((found - expected).abs().max() / expected.abs().max())
    assert worst <= TOLERANCE, f"off by {worst:.2g} of the largest logit"


@pytest.mark.parametrize("index", ENTRIES)
def test_names_shapes_and_counts_are_those_of_the_published_checkpoints(shared: Path, index: int) -> None:
    entry = read_entries(shared)[index]
    model = build_empty(entry)
    assert [(name, list(tensor.shape)) for name, tensor in model.state_dict().items()] == [
        (name, shape) for name, shape in entry["state_dict"]
    ]
    assert sum(parameter.numel() for parameter in model.parameters()) == entry["num_parameters"]
    assert model.feature_size == entry["feature_shape"][1]


@pytest.mark.parametrize("index", ENTRIES)
def test_logits_are_the_references(shared: Path, index: int, encoded: Encoded) -> None:
    entry = read_entries(shared)[index]
    model = build_empty(entry)
    group = SAME_ENCODERS.get(index, index)
    state = draw_state(entry, encoded.state if encoded.group == group else {})
    model.load_state_dict(state, strict=True, assign=True)
    model.to(memory_format=torch.channels_last)  # the same numbers, sooner
    rolls = read_rolls(shared, model.in_channels)
    with torch.inference_mode():
        if not isinstance(model, FactorisedModel):
            features = model.forward_features(rolls)
            assert_close(model.head(features), entry["logits"])
            assert_features(features, entry)
            return
        if encoded.group != group:
            encoded.group, encoded.embeddings = group, model.encode_concepts(rolls)
            encoded.state = {name: tensor for name, tensor in state.items() if "_concept." in name}
        model.encode_concepts = lambda rolls: encoded.embeddings  # type: ignore[method-assign]
        assert_close(model(rolls), entry["logits"])
        assert_features(model.forward_features(rolls), entry)
        assert_close(model.classify(encoded.embeddings), entry["logits"])
        assert_masked_logits(model, encoded.embeddings, entry["masked_logits"])


def assert_features(features: torch.Tensor, entry: dict[str, Any]) -> None:
    assert list(features.shape) == entry["feature_shape"]
    assert float(features.mean()) == pytest.approx(entry["features_mean"], rel=TOLERANCE, abs=1e-5)
    assert float(features.std(correction=0)) == pytest.approx(entry["features_std"], rel=TOLERANCE)


def assert_masked_logits(model: FactorisedModel, embeddings: torch.Tensor, masked: dict[str, list[Any]]) -> None:
    assert len(masked) == 2 ** len(CONCEPTS) - 2
    for kept, logits in masked.items():
        assert_close(model.classify(embeddings, keep=kept.split("+")), logits)
