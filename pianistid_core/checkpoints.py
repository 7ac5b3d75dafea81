"""What is in a checkpoint: read as data, checked against the model, never run.

A checkpoint is a dict with `model_state_dict`, `optimizer_state_dict`, `scheduler_state_dict` and `epoch`, as the
paper's published ones. Those that this program writes also hold their config and class names, so that one file is
enough; for a published one these are looked up beside it (see `load_model`).
"""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pianistid_core.calibration import CALIBRATION_FILE, Calibration
from pianistid_core.config import RunConfig, config_dir, load_config, parse_config
from pianistid_core.datasets.root import DataRoot
from pianistid_core.devices import choose_device
from pianistid_core.errors import CheckpointError, ConfigError, PianistIDError
from pianistid_core.models import PianistModel, build_model
from pianistid_core.outline import check_outline
from pianistid_core.runs import Run
from pianistid_core.seals import verify
from pianistid_core.strict_json import parse_json

_WANTED = ("model_state_dict",)
_MAX_EPOCH = 1_000_000
# How torch says that memory ran out.
_NO_MEMORY = ("can't allocate memory", "not enough memory")
_MAX_NAME = 200
_MOST_CALIBRATION = 1_000_000
_TAIL_BYTES = 4096
_PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode, with what it takes to use it."""

    model: PianistModel
    config: RunConfig
    class_names: tuple[str, ...]
    path: Path
    epoch: int | None
    title: str | None = None
    calibration: Calibration | None = None

    @property
    def name(self) -> str:
        """ "experiment/run, checkpoint_010.pth", unless it has a title of its own."""
        return self.title or f"{self.config.experiment}/{self.config.run}, {self.path.name}"


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint as data, once its seal, if it has one, and its outline are found in order.

    Raises
    ------
    CheckpointError
        When the file is missing, damaged, not a checkpoint, or would run code. Where it is the machine that fails, not
        the file, the cause is an OSError or a MemoryError.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {str(path)!r}")
    try:
        sealed = verify(path)
        with open(path, "rb") as file, torch.serialization.safe_globals(_numpy_scalars()):
            check_outline(file, path.name, sealed=sealed)
            saved = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be read: {error.strerror or error}") from error
    except PianistIDError:
        raise
    except (Exception, MemoryError) as error:
        if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
            words = "this machine has not enough memory left; free some, then try again"
            raise CheckpointError(f"{path.name} cannot be read: {words}") from MemoryError(str(error))
        # In outline it was sound; what torch makes of a file that is made to break it can be any error.
        raise CheckpointError(f"{path.name} is damaged or not a checkpoint; copy or train it again") from error
    if not isinstance(saved, dict) or any(not isinstance(saved.get(key), Mapping) for key in _WANTED):
        raise CheckpointError(f"{path.name} is not a checkpoint: it holds no model_state_dict")
    return saved


def load_state(model: nn.Module, state: Mapping[str, torch.Tensor], *, source: str) -> None:
    """Loads weights strictly into a model.

    Raises
    ------
    CheckpointError
        When names or shapes differ, or a weight is not finite; the message names the first.
    """
    _check_fit(model, state, source)
    # A plain dict: torch also heeds what a file notes beside its weights.
    model.load_state_dict(dict(state))


def _check_fit(model: nn.Module, state: Mapping[str, torch.Tensor], source: str) -> None:
    wanted = model.state_dict()
    for name, tensor in wanted.items():
        if name not in state:
            raise CheckpointError(f"{source} is of another architecture: it lacks {name}, which the config's model has")
        if not isinstance(state[name], torch.Tensor) or state[name].shape != tensor.shape:
            came = tuple(getattr(state[name], "shape", ()))
            raise CheckpointError(
                f"{source} is of another architecture or class list: {name} has shape {came}, "
                f"the config's model has {tuple(tensor.shape)}"
            )
        if state[name].is_floating_point() != tensor.is_floating_point():
            raise CheckpointError(
                f"{source} is of no use: {name} holds {state[name].dtype} where the model has {tensor.dtype}"
            )
        if not torch.isfinite(state[name]).all():
            raise CheckpointError(
                f"{source} is of no use: {name} holds weights that are not finite; take an earlier checkpoint"
            )
    extra = next((name for name in state if name not in wanted), None)
    if extra is not None:
        raise CheckpointError(
            f"{source} is of another architecture: it holds {ascii(extra)[:80]}, which the config's model lacks"
        )


def check_position(saved: Mapping[str, Any], *, source: str) -> None:
    """Sees that a checkpoint says how far training had come, in numbers that can be.

    Raises
    ------
    CheckpointError
        When it does not; the message names the first that cannot be, and `source`, the checkpoint.
    """
    whole = {key: _is_whole(saved.get(key)) for key in ("epoch", "batch", "n_clips", "n_correct")}
    finite = {key: _is_finite(saved.get(key)) for key in ("loss_sum", "seconds")}
    names, skipped = saved.get("class_names"), saved.get("skipped")
    others = {
        "class_names": isinstance(names, list) and all(isinstance(name, str) for name in names),
        "skipped": isinstance(skipped, Mapping)
        and all(isinstance(reason, str) and _is_whole(count) for reason, count in skipped.items()),
        "data_fingerprint": isinstance(saved.get("data_fingerprint"), str),
    }
    wrong = next((key for key, fine in {**whole, **finite, **others}.items() if not fine), None)
    if wrong is not None:
        raise CheckpointError(
            f"{source} does not say where training was: its {wrong} is {ascii(saved.get(wrong, 'missing'))[:60]}; "
            "remove it to go on from the one before, or choose another run name with --set run=NAME"
        )


def _is_whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 53


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def find_checkpoint(source: str | Path, root: DataRoot | None = None) -> Path:
    """The checkpoint that "experiment/run", a run folder or a .pth file means; of a run, its latest.

    Raises
    ------
    PianistIDError
        When there is no such run or checkpoint.
    """
    path = Path(source)
    if path.suffix == ".pth" or path.is_file():
        return path
    if path.is_dir():
        return Run.open(path).latest_checkpoint()
    return Run.find((root or DataRoot.open()).checkpoints_dir, str(source)).latest_checkpoint()


def load_model(
    source: str | Path,
    *,
    root: DataRoot | str | Path | None = None,
    config: RunConfig | None = None,
    device: str | torch.device = "cpu",
) -> LoadedModel:
    """Rebuilds the model of a .pth file, a run folder or "experiment/run" of a data root, on a device or "auto".

    A checkpoint without a config (a published one) takes `config`, else the config of its run folder, else the one
    of the same experiment and run in `config/`; its class names come from the split that the config names. Its
    calibration is the checkpoint's own, else the one that `pianistid calibrate` has kept in its run folder.

    Raises
    ------
    CheckpointError
        When it cannot be read, does not fit its config, holds what is no number, or nothing says what its config or
        its classes are.
    """
    if isinstance(root, str | Path):
        root = DataRoot.open(root)
    path = find_checkpoint(source, root)
    saved = read_checkpoint(path)
    epoch = _epoch_of(path, saved)
    config = config or _config_of(path, saved)
    class_names = _class_names_of(path, saved, config, root)
    # Built without memory for weights first: a checkpoint that does not fit is refused before any is taken.
    with torch.device("meta"):
        outline = build_model(config.encoder_module, config.model_cfg, len(class_names))
    _check_fit(outline, saved["model_state_dict"], path.name)
    model = build_model(config.encoder_module, config.model_cfg, len(class_names))
    model.load_state_dict(dict(saved["model_state_dict"]))
    model.to(choose_device(str(device))).eval()
    return LoadedModel(model, config, class_names, path, epoch, calibration=_calibration_of(path, saved))


def fingerprint(path: Path) -> str:
    """What tells a checkpoint from another of its name: a checksum of its end, where its seal and its index are.

    Raises: OSError when it cannot be read.
    """
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        return hashlib.sha256(file.read(_TAIL_BYTES)).hexdigest()


def _calibration_of(path: Path, saved: Mapping[str, Any]) -> Calibration | None:
    if saved.get("calibration") is not None:
        return Calibration.from_dict(saved["calibration"], source=path.name)
    beside = path.absolute().parent / CALIBRATION_FILE
    if not beside.is_file():
        return None
    try:
        with open(beside, "rb") as file:
            kept = parse_json(file.read(_MOST_CALIBRATION))
        if not isinstance(kept, Mapping) or kept.get("fingerprint") != fingerprint(path):
            return None  # of an earlier checkpoint
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{CALIBRATION_FILE} cannot be read: {error}; calibrate the model again") from error
    return Calibration.from_dict(kept.get("calibration"), source=CALIBRATION_FILE)


def _epoch_of(path: Path, saved: Mapping[str, Any]) -> int | None:
    epoch = saved.get("epoch")
    if not isinstance(epoch, int | float | np.number):
        return None
    if not 0 <= epoch <= _MAX_EPOCH:
        raise CheckpointError(f"{path.name} is damaged: its epoch is {ascii(epoch)[:40]}; copy or train it again")
    return int(epoch)


def _config_of(path: Path, saved: Mapping[str, Any]) -> RunConfig:
    if isinstance(saved.get("config"), Mapping):
        if not _is_plain(saved["config"]):
            raise CheckpointError(f"{path.name} is damaged: its config is no plain data; copy or train it again")
        return parse_config(saved["config"], source=path.name)
    folder = path.absolute().parent
    beside = folder / "config.yaml"
    if beside.is_file():
        return load_config(beside)
    try:
        return load_config(config_dir() / folder.parent.name / f"{folder.name}.yaml")
    except ConfigError as error:
        raise CheckpointError(
            f"{path.name} does not say what its config is, and there is none beside it or in config/ under "
            f"{folder.parent.name}/{folder.name}; give one with --config"
        ) from error


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(inner) for key, inner in value.items())
    return all(map(_is_plain, value)) if isinstance(value, list | tuple) else isinstance(value, _PLAIN)


def _class_names_of(path: Path, saved: Mapping[str, Any], config: RunConfig, root: DataRoot | None) -> tuple[str, ...]:
    names = saved.get("class_names")
    if isinstance(names, list) and names:
        if not all(isinstance(name, str) and 0 < len(name) <= _MAX_NAME for name in names):
            raise CheckpointError(
                f"{path.name} is damaged: its pianists must be names of 1 to {_MAX_NAME} characters; train it again"
            )
        known = tuple(names)
        twice = next((name for name, count in Counter(known).items() if count > 1), None)
        if twice is not None:
            raise CheckpointError(f"{path.name} names {twice!r} twice among its pianists; train it with each name once")
        return known
    roots = [root or DataRoot.open(), *(DataRoot(folder) for folder in path.absolute().parents[2:4])]
    for candidate in roots:
        if config.data_split_dir in candidate.split_names():
            return candidate.split(config.data_split_dir).class_names
    raise CheckpointError(
        f"{path.name} does not name its pianists, and no data root here has split {config.data_split_dir!r}; "
        "give the data root it belongs to with --data-root"
    )


def _numpy_scalars() -> list[Any]:
    """What the published checkpoints may hold beside tensors: metrics as NumPy numbers, under old and new names."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8")]
    return [np.dtype, *kinds, *((scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core"))]
