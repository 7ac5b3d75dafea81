"""What is left of the notes that mattered when a model forgets, and models that never learned: seen through."""

from dataclasses import replace

import pytest
import torch

from pianistid_core.attribution import Attribution, attribute
from pianistid_core.checkpoints import LoadedModel
from pianistid_core.errors import ModelError
from pianistid_core.identify import Identifier
from pianistid_core.midi import Notes
from pianistid_core.models import PianistModel, build_model
from pianistid_core.randomisation import cascade, forget, layers_from_the_head, untrained
from tiny import tiny_config

CPU = torch.device("cpu")
SINGLE = {"encoder_module": "compact", "model_cfg": {"frame_pool": 50, "stem_width": 4, "width": 8}}


Explained = list[tuple[Notes, Attribution]]


def test_the_scores_fall_apart_layer_after_layer(taught: LoadedModel, explained: Explained) -> None:
    identifier = Identifier(taught, CPU)
    steps = [cascade(identifier, notes, known, steps=2) for notes, known in explained[:2]]
    assert [[(step.layers, step.of) for step in one] for one in steps] == [[(1, 13), (13, 13)]] * 2
    head, everything = (sum(one[at].correlation for one in steps) / 2 for at in range(2))
    assert head < 0.95 and everything < 0.5 and everything < head


def test_models_that_never_learned_are_seen_through_and_one_that_did_is_not(
    taught: LoadedModel, explained: Explained
) -> None:
    identifier = Identifier(taught, CPU)
    blank = [attribute(untrained(identifier, seed), notes) for seed, (notes, _) in enumerate(explained[:4])]
    assert [one.informative for one in blank] == [False] * 4
    assert all("so there is little to explain" in " ".join(one.words) for one in blank)
    learned = [known for _, known in explained]
    assert sum(one.informative for one in learned) >= 4, [(one.control, one.stability) for one in learned]
    assert sum(one.control for one in learned) / 6 < 0.3, "what it marks is not what any model of this kind marks"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_models_that_never_learned_are_seen_through(taught: LoadedModel, unheard_clips: list[Notes]) -> None:
    identifier = Identifier(taught, CPU)
    blank = [attribute(untrained(identifier, seed), unheard_clips[seed]) for seed in range(20)]
    assert sum(one.informative for one in blank) == 0
    assert sum(attribute(identifier, clip).informative for clip in unheard_clips[:20]) >= 15


def test_the_head_comes_first_and_encoders_are_gone_down_side_by_side(taught: LoadedModel) -> None:
    layers = layers_from_the_head(taught.model)
    assert layers[0] == ("fc2.fc",)
    assert layers[-1] == tuple(f"{concept}_concept.stem" for concept in ("melody", "harmony", "rhythm", "dynamics"))
    alone = layers_from_the_head(a_single_channel_model())
    assert alone[0] == ("fc",) and alone[-1] == ("encoder.stem",) and all(len(layer) == 1 for layer in alone)


def a_single_channel_model() -> PianistModel:
    config = tiny_config(**SINGLE, train_dataset_cfg={}, test_dataset_cfg={})
    torch.manual_seed(1)
    return build_model(config.encoder_module, config.model_cfg, 3)


def test_a_layer_forgets_what_it_says_and_keeps_how_loudly() -> None:
    model = a_single_channel_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    forget(model, ("encoder.stem",), torch.Generator().manual_seed(1))
    after = model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"encoder.stem.weight"}
    was, now = before["encoder.stem.weight"].flatten(), after["encoder.stem.weight"].flatten()
    assert torch.equal(was.sort().values, now.sort().values)


def test_the_model_that_is_asked_forgets_nothing(taught: LoadedModel, explained: Explained) -> None:
    identifier = Identifier(taught, CPU)
    before = {name: value.clone() for name, value in taught.model.state_dict().items()}
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    seen: list[tuple[int, int]] = []
    notes, known = explained[0]
    one = cascade(identifier, notes, known, steps=1, progress=lambda *at: seen.append(at))
    untrained(identifier, 5)
    assert torch.equal(torch.rand(1), expected), "chance is left as it was"
    assert all(torch.equal(value, before[name]) for name, value in taught.model.state_dict().items())
    assert seen == [(1, 1)] and one[0].layers == 1
    assert cascade(identifier, notes, known, steps=1) == one
    assert one[0].to_dict() == {"layers": 1, "of": 13, "lowest": "fc2.fc", "correlation": one[0].correlation}


def test_untrained_models_differ_by_their_seed(taught: LoadedModel) -> None:
    identifier = Identifier(taught, CPU)
    one, same, other = (untrained(identifier, seed).loaded.model.state_dict()["fc2.fc.weight"] for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert untrained(identifier, 1).class_names == identifier.class_names


def test_what_cannot_forget_is_refused(taught: LoadedModel, explained: Explained) -> None:
    notes, known = explained[0]
    with pytest.raises(ModelError, match="at least 1"):
        cascade(Identifier(taught, CPU), notes, known, steps=0)

    class Weightless(PianistModel):
        def __init__(self) -> None:
            super().__init__(in_channels=4, num_classes=8, feature_size=8, frame_pool=1)

    with pytest.raises(ModelError, match="no layer with weights"):
        cascade(Identifier(replace(taught, model=Weightless()), CPU), notes, known)
