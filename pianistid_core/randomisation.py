"""What is left of the notes that mattered when a model forgets what it learned, or never learned anything.

Cascading randomisation: layer after layer, from the head down, loses what it learned, and the notes are scored again
(Adebayo et al. 2018). If scores show what a model learned, the more it has forgotten the less they are like what they
were; scores that stay alike show the music and the architecture. A layer forgets when each of its tensors gets its own
numbers in an order of chance: the sizes of the weights stay, so that it is what they say that is lost and not how
loudly. `untrained` gives the other extreme: a model before its first lesson, which the controls should see through.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from pianistid_core.attribution import Attribution, attribute, rank_correlation
from pianistid_core.errors import ModelError
from pianistid_core.identify import Identifier
from pianistid_core.midi import Notes
from pianistid_core.models import PianistModel, build_model

OnProgress = Callable[[int, int], None]

STEPS = 4
_SEED = 20250101


@dataclass(frozen=True)
class Forgotten:
    """How alike the notes' scores are to the model's own once `layers` of its `of` layers, from the head, forgot.

    `lowest` names the lowest of these; `correlation` is the rank correlation of the absolute scores, 1 for the same.
    """

    layers: int
    of: int
    lowest: str
    correlation: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def cascade(
    identifier: Identifier,
    notes: Notes,
    attribution: Attribution | None = None,
    *,
    steps: int = STEPS,
    seed: int = _SEED,
    progress: OnProgress | None = None,
) -> tuple[Forgotten, ...]:
    """Lets a model forget from its head down, in up to so many steps: first the head, at last every layer.

    The scores of the notes are compared with `attribution` (default: that of the model's answer). What `identifier`
    knows stays as it is.

    Raises
    ------
    ExtractionError
        When no clip can be drawn from the music.
    ModelError
        When the model has no layers that could forget, or no step is asked for.
    """
    if steps < 1:
        raise ModelError(f"{steps} steps were asked for; give at least 1")
    known = attribute(identifier, notes) if attribution is None else attribution
    model = copy.deepcopy(identifier.loaded.model)
    layers = layers_from_the_head(model)
    if not layers:
        raise ModelError(f"{identifier.name} has no layer with weights that could forget what it learned")
    chance = torch.Generator().manual_seed(seed)
    stops = sorted({round(1 + (len(layers) - 1) * step / max(steps - 1, 1)) for step in range(steps)})
    found, done = [], 0
    for stop in stops:
        for name in layers[done:stop]:
            forget(model, name, chance)
        done = stop
        forgetful = Identifier(replace(identifier.loaded, model=model), identifier.device)
        scores = attribute(forgetful, notes, known.pianist).scores
        either = (known.scores != 0) | (scores != 0)
        correlation = rank_correlation(known.scores[either], scores[either])
        found.append(Forgotten(done, len(layers), layers[done - 1][0], correlation))
        if progress is not None:
            progress(len(found), len(stops))
    return tuple(found)


def untrained(identifier: Identifier, seed: int) -> Identifier:
    """An identifier that is built alike and has learned nothing; another one for each seed."""
    config = identifier.loaded.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(config.encoder_module, config.model_cfg, len(identifier.class_names)).eval()
    return Identifier(replace(identifier.loaded, model=model.to(identifier.device)), identifier.device)


def layers_from_the_head(model: PianistModel) -> list[tuple[str, ...]]:
    """The layers that have weights of their own, the last one first, by the names of their modules.

    Encoders beside each other, one for each concept, are gone down side by side: one layer is the same in all of them.
    """
    names = [name for name, module in model.named_modules() if any(True for _ in _tensors(module))]
    beside: dict[str, list[str]] = {}
    for name in reversed(names):
        inner = name.partition(".")[2]
        beside.setdefault(inner if inner and _twins(names, inner) > 1 else name, []).append(name)
    return [tuple(reversed(layer)) for layer in beside.values()]


def forget(model: PianistModel, layer: Iterable[str], chance: torch.Generator) -> None:
    """Gives every tensor of some modules its own numbers in another order, in place."""
    for name in layer:
        for tensor in _tensors(model.get_submodule(name)):
            with torch.no_grad():
                flat = tensor.detach().flatten()
                order = torch.randperm(len(flat), generator=chance).to(flat.device)
                tensor.copy_(flat[order].view_as(tensor))


def _twins(names: list[str], inner: str) -> int:
    return sum(name.partition(".")[2] == inner for name in names)


def _tensors(module: torch.nn.Module) -> list[torch.Tensor]:
    """The tensors of a module itself, not of those in it, whose order says something."""
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return [tensor for tensor in own if tensor.is_floating_point() and tensor.numel() > 1]
