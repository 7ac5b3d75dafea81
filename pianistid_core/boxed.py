"""The model in the box: the trained model that comes with the package, so that the first question has an answer.

A box is a folder of four files: `model.safetensors`, the weights; `box.json`, all else that it takes to use them, with
what was measured and the weights' checksum; `CARD.md`, the model card; `LICENSE-WEIGHTS`, the licence of the weights.
Weights are read as data only. They are kept in half precision, and whole numbers in as few bytes as hold them, where
that changes nothing that matters; a model takes them up in its own precision. torch and safetensors are imported where
weights are read or written, so that a page may say what is in the box before either is loaded.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pianistid_core.atomic import write_atomically
from pianistid_core.card import card_text
from pianistid_core.config import RunConfig, parse_config, to_dict
from pianistid_core.errors import CheckpointError, ConfigError, DamagedCheckpointError, RunError
from pianistid_core.strict_json import parse_json

if TYPE_CHECKING:
    import torch

    from pianistid_core.checkpoints import LoadedModel

WEIGHTS, FACTS, CARD, LICENCE = "model.safetensors", "box.json", "CARD.md", "LICENSE-WEIGHTS"
FORMAT = 1
MOST_BYTES = 12_000_000
_MOST_FACTS = 4_000_000
_MOST_NAME = 200
# Where a network trained is no part of what it is, and names folders and machines.
_OF_THE_MACHINE = ("checkpoint_cfg", "mlflow_cfg", "device", "num_workers", "num_threads")
_TOLD_APART = 2**-10  # what rounding to half precision may change, as a share of a tensor's largest number
_WORTH_PACKING = 256  # numbers: below, half precision saves nothing


@dataclass(frozen=True)
class Box:
    """What a box says of its model: all but the weights themselves, which are in `weights`."""

    folder: Path
    title: str
    config: RunConfig
    class_names: tuple[str, ...]
    epoch: int | None
    calibration: Mapping[str, Any] | None
    measured: Mapping[str, Any]
    sha256: str
    made: Mapping[str, Any]

    @property
    def weights(self) -> Path:
        """The file that the weights are in; it stands for the model wherever a checkpoint's path does."""
        return self.folder / WEIGHTS

    @property
    def name(self) -> str:
        """ "Twenty jazz pianists (shipped)": where runs are named, this names the model in the box."""
        return f"{self.title} (shipped)"

    @property
    def card(self) -> str:
        """The model card as Markdown; nothing where it is missing."""
        try:
            return (self.folder / CARD).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return ""

    @cached_property
    def right(self) -> tuple[float, int] | None:
        """The share of test recordings that it names rightly, and how many there were; None where nobody measured."""
        test = self.measured.get("test")
        found = test.get("recordings") if isinstance(test, Mapping) else None
        try:
            return (found["right"] / found["n"], int(found["n"])) if found else None
        except (KeyError, TypeError, ZeroDivisionError):
            return None


def box_folder() -> Path:
    """Where the box lies: in the package, or where $PIANISTID_BOX says."""
    chosen = os.environ.get("PIANISTID_BOX")
    return Path(chosen).expanduser() if chosen else Path(__file__).resolve().parent / "box"


def is_shipped() -> bool:
    """Whether there is a model in the box; a copy of the source may come without one."""
    return (box_folder() / WEIGHTS).is_file()


def is_box(path: str | Path) -> bool:
    """Whether a path is that of a box's weights."""
    return Path(path).name == WEIGHTS


def read_box(folder: Path | None = None) -> Box:
    """What a box says of its model, without its weights; of the shipped one, unless another folder is named.

    Raises
    ------
    RunError
        When there is no model in it.
    CheckpointError
        When what it says cannot be read, or is not what a box says.
    """
    here = box_folder() if folder is None else Path(folder)
    if not (here / WEIGHTS).is_file():
        raise RunError(f"there is no model in the box {here}; `pianistid box make` trains one and puts it there")
    try:
        with (here / FACTS).open("rb") as file:
            facts = parse_json(file.read(_MOST_FACTS))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{here / FACTS} cannot be read: {error}; install or make the box again") from error
    if not isinstance(facts, Mapping) or facts.get("format") != FORMAT:
        came = ascii(facts.get("format"))[:40] if isinstance(facts, Mapping) else type(facts).__name__
        raise CheckpointError(f"{FACTS} has the format {came}, and this program reads {FORMAT}; take a box made for it")
    return _box_of(here, facts)


def _box_of(folder: Path, facts: Mapping[str, Any]) -> Box:
    names, weights, calibration = facts.get("class_names"), facts.get("weights"), facts.get("calibration")
    epoch, title = facts.get("epoch"), facts.get("title")
    sound = {
        "title": isinstance(title, str) and 0 < len(title) <= _MOST_NAME,
        "class_names": isinstance(names, list)
        and len(names) > 0
        and all(isinstance(name, str) and 0 < len(name) <= _MOST_NAME for name in names)
        and len(set(names)) == len(names),
        "weights": isinstance(weights, Mapping) and isinstance(weights.get("sha256"), str),
        "config": isinstance(facts.get("config"), Mapping),
        "epoch": epoch is None or (type(epoch) is int and epoch >= 0),
        "calibration": calibration is None or isinstance(calibration, Mapping),
        "measured": isinstance(facts.get("measured", {}), Mapping),
        "made": isinstance(facts.get("made", {}), Mapping),
    }
    wrong = next((key for key, fine in sound.items() if not fine), None)
    if wrong is not None:
        raise CheckpointError(f"{FACTS} is damaged: its {wrong} cannot be; install or make the box again")
    try:
        config = parse_config(facts["config"], source=FACTS)
    except ConfigError as error:
        raise CheckpointError(f"{FACTS} is of another version of the program: {error}") from error
    return Box(
        folder=folder,
        title=str(title),
        config=config,
        class_names=tuple(names or ()),
        epoch=epoch,
        calibration=calibration,
        measured=facts.get("measured", {}),
        sha256=str((weights or {})["sha256"]),
        made=facts.get("made", {}),
    )


def load_box(folder: Path | None = None, *, device: "str | torch.device" = "cpu") -> "LoadedModel":
    """The model of a box, the shipped one unless another folder is named, on a device or "auto".

    Raises
    ------
    RunError
        When there is no model in it.
    CheckpointError
        When its weights are not those that were put in, are too large, or do not fit what it says of them.
    """
    from pianistid_core.calibration import Calibration
    from pianistid_core.checkpoints import LoadedModel, load_state
    from pianistid_core.devices import choose_device
    from pianistid_core.models import build_model

    box = read_box(folder)
    packed = _read_weights(box)
    model = build_model(box.config.encoder_module, box.config.model_cfg, len(box.class_names))
    load_state(model, _unpacked(packed, model.state_dict()), source=box.weights.name)
    model.to(choose_device(str(device))).eval()
    calibration = None if box.calibration is None else Calibration.from_dict(box.calibration, source=FACTS)
    return LoadedModel(
        model, box.config, box.class_names, box.weights, box.epoch, title=box.name, calibration=calibration
    )


def _read_weights(box: Box) -> "dict[str, torch.Tensor]":
    data = weights_bytes(box)
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load
    except ImportError as error:
        raise CheckpointError(
            "the shipped model is read with safetensors, which is not installed; `pip install safetensors`"
        ) from error
    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{box.weights.name} is damaged: {error}; install or make the box again") from error


def weights_bytes(box: Box) -> bytes:
    """The weights as they lie in the file, once they are found to be those that were put in.

    Raises
    ------
    CheckpointError
        When they cannot be read, are more than a box may hold, or are not those of the checksum.
    """
    path = box.weights
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise CheckpointError(f"{path.name} has {size / 1e6:.1f} MB, and a box holds at most {MOST_BYTES / 1e6:g}")
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be read: {error.strerror or error}") from error
    if hashlib.sha256(data).hexdigest() != box.sha256:
        raise DamagedCheckpointError(
            f"{path.name} is damaged: its checksum is not that of what was put in; install or make the box again"
        )
    return data


# --- making one ------------------------------------------------------------------------------------------------------


def write_box(
    loaded: "LoadedModel",
    folder: Path,
    *,
    title: str,
    measured: Mapping[str, Any] | None = None,
    made: Mapping[str, Any] | None = None,
) -> Box:
    """Puts a trained model into a folder, with its calibration, what was measured of it, and a card that says so.

    The weights come last: a box that is written to its end is whole, and one that is not has none.

    Raises
    ------
    CheckpointError
        When its weights are more than a box may hold.
    ConfigError
        When its config is not one that can be read again.
    OSError
        When the folder cannot be written.
    """
    data = _packed(loaded.model.state_dict())
    if len(data) > MOST_BYTES:
        raise CheckpointError(
            f"the weights come to {len(data) / 1e6:.1f} MB, and a box holds at most {MOST_BYTES / 1e6:g}; "
            "train a smaller network"
        )
    config = {key: value for key, value in to_dict(loaded.config).items() if key not in _OF_THE_MACHINE}
    facts = {
        "format": FORMAT,
        "title": title,
        "weights": {"file": WEIGHTS, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()},
        "config": config,
        "class_names": list(loaded.class_names),
        "epoch": loaded.epoch,
        "calibration": None if loaded.calibration is None else loaded.calibration.to_dict(),
        "measured": dict(measured or {}),
        "made": dict(made or {}),
    }
    text = json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).unlink(missing_ok=True)
    write_atomically(folder / FACTS, text.encode())
    write_atomically(folder / CARD, card_text(title, facts).encode())
    licence = Path(__file__).resolve().parent / "box" / LICENCE
    write_atomically(folder / LICENCE, licence.read_bytes())
    write_atomically(folder / WEIGHTS, data)
    return read_box(folder)


def _packed(state: "Mapping[str, torch.Tensor]") -> bytes:
    from safetensors.torch import save

    # Copies: weights that share memory, or lie strided in it, have no place in the file format.
    small = {name: _small(tensor.detach().cpu()).contiguous().clone() for name, tensor in state.items()}
    return bytes(save(small))


def _small(tensor: "torch.Tensor") -> "torch.Tensor":
    """A tensor in as few bytes as keep what it says."""
    import torch

    if tensor.numel() == 0 or tensor.dtype == torch.bool:
        return tensor
    if not tensor.is_floating_point():
        low, high = int(tensor.min()), int(tensor.max())
        for kind in (torch.uint8, torch.int16, torch.int32):
            if torch.iinfo(kind).min <= low and high <= torch.iinfo(kind).max:
                return tensor.to(kind)
        return tensor
    if tensor.numel() < _WORTH_PACKING:
        return tensor
    half = tensor.to(torch.float16)
    # Too large for half precision is infinite there, and too small all is nothing: both are told by this.
    lost = (tensor - half.to(tensor.dtype)).abs().max()
    return half if bool(lost <= _TOLD_APART * tensor.abs().max()) else tensor


def _unpacked(packed: "Mapping[str, torch.Tensor]", wanted: "Mapping[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """Weights in the model's own precision; what is of another kind is left as it is, for the check that follows."""
    return {
        name: tensor.to(wanted[name].dtype)
        if name in wanted and tensor.is_floating_point() == wanted[name].is_floating_point()
        else tensor
        for name, tensor in packed.items()
    }


def averaged(loaded: "Sequence[LoadedModel]") -> "LoadedModel":
    """One model whose weights are the mean of those of several, which differ in the seed of their training alone.

    What the first of them is otherwise, it is: its path, its calibration.

    Raises
    ------
    CheckpointError
        When a model of theirs does not answer with the mean of their logits, or they differ in more than weights.
    """
    import copy

    import torch

    from pianistid_core.checkpoints import load_state

    first = loaded[0]
    if len(loaded) == 1:
        return first
    if not first.model.is_linear:
        raise CheckpointError(
            f"the mean of the weights of several {first.config.encoder_module} networks is not as good as any of them; "
            "put one of them in"
        )
    model = copy.deepcopy(first.model)
    parameters = {name for name, _ in model.named_parameters()}
    states = [one.model.state_dict() for one in loaded]
    for one, state in zip(loaded[1:], states[1:], strict=True):
        alike = one.class_names == first.class_names and state.keys() == states[0].keys()
        if not alike or any(
            not torch.equal(state[name], tensor) for name, tensor in states[0].items() if name not in parameters
        ):
            raise CheckpointError(
                f"{one.name} learned from other clips, or otherwise, than {first.name}; average trainings that differ "
                "in their seed alone"
            )
    mean = {name: sum(state[name] for state in states) / len(states) for name in parameters}
    load_state(model, {**states[0], **mean}, source=WEIGHTS)
    return replace(first, model=model.eval())


def as_boxed(loaded: "LoadedModel") -> "LoadedModel":
    """A trained model as it would come out of a box: what is measured of it is true of what is shipped."""
    import copy

    from safetensors.torch import load

    from pianistid_core.checkpoints import load_state

    model = copy.deepcopy(loaded.model)
    load_state(model, _unpacked(load(_packed(loaded.model.state_dict())), model.state_dict()), source=WEIGHTS)
    return replace(loaded, model=model.eval())
