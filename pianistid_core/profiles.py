"""What a trained model knows of each pianist: how well each concept alone tells them, and who is taken for whom.

Everything is over the recordings of one part of the model's split. Profiles are kept in the run, one file for each
checkpoint and part, and count only while that checkpoint is the same file.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pianistid_core.concepts import CONCEPTS
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import CheckpointError
from pianistid_core.runs import Run

if TYPE_CHECKING:
    import torch

    from pianistid_core.checkpoints import LoadedModel

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
OnProgress = Callable[[int, int], None]

ALL = "all"
FOLDER = "profiles"
_TYPICAL = 5
_MISTAKEN = 3
_FILE = re.compile(r"(checkpoint_[\w]+)-(train|test|validation)\.json")


@dataclass(frozen=True)
class Profile:
    """One pianist as a model knows them, by "all" concepts and by each concept alone.

    `n` recordings; `recall` is the share of them that is named rightly, None without any. `mistaken_for` lists who
    else they are taken for, with the share of the n. `typical` lists (track, probability) of the recordings that are
    named rightly with the highest probability of this pianist.
    """

    pianist: str
    n: int
    recall: dict[str, float | None]
    mistaken_for: dict[str, list[tuple[str, float]]]
    typical: list[tuple[str, float]]


@dataclass(frozen=True)
class Profiles:
    """The profiles of all pianists on a part; `concepts` is empty when the model does not take them apart."""

    part: str
    n_recordings: int
    pianists: tuple[Profile, ...]
    concepts: tuple[str, ...]
    checkpoint: str = ""
    accuracy: float = 0.0

    @property
    def heard(self) -> tuple[str, ...]:
        """The keys of `recall` and `mistaken_for`: "all", then each concept."""
        return (ALL, *self.concepts)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "part": self.part,
            "n_recordings": self.n_recordings,
            "concepts": list(self.concepts),
            "checkpoint": self.checkpoint,
            "accuracy": self.accuracy,
            "pianists": [
                {
                    "pianist": profile.pianist,
                    "n": profile.n,
                    "recall": profile.recall,
                    "mistaken_for": profile.mistaken_for,
                    "typical": profile.typical,
                }
                for profile in self.pianists
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Profiles":
        """What `to_dict` gave. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            part=str(data["part"]),
            n_recordings=int(data["n_recordings"]),
            concepts=tuple(map(str, data["concepts"])),
            checkpoint=str(data["checkpoint"]),
            accuracy=float(data["accuracy"]),
            pianists=tuple(
                Profile(
                    str(one["pianist"]),
                    int(one["n"]),
                    {str(key): None if value is None else float(value) for key, value in one["recall"].items()},
                    {str(key): _pairs(value) for key, value in one["mistaken_for"].items()},
                    _pairs(one["typical"]),
                )
                for one in data["pianists"]
            ),
        )


def _pairs(data: Sequence[Sequence[Any]]) -> list[tuple[str, float]]:
    return [(str(name), float(share)) for name, share in data]


def profiles(
    run: Run,
    root: DataRoot,
    part: str = "test",
    progress: OnProgress | None = None,
    *,
    checkpoint: Path | None = None,
    device: str = "cpu",
) -> Profiles:
    """Measures a run's latest checkpoint, or another of it, on a part of its split, and keeps the result in the run.

    `progress(done, total)` counts clips.

    Raises
    ------
    PianistIDError
        When the run has no checkpoint, it does not fit the split here, or no clip of the part can be drawn.
    """
    from pianistid_core.checkpoints import load_model
    from pianistid_core.datasets.cache import open_note_cache
    from pianistid_core.devices import choose_device

    path = checkpoint or run.latest_checkpoint()
    stamp = _stamp(path)
    where = choose_device(device)
    loaded = load_model(path, root=root, device=where)
    split = loaded.config.data_split_dir
    cache = open_note_cache(root, split, part)
    if not loaded.config.classify_dataset and tuple(cache.class_names) != loaded.class_names:
        raise CheckpointError(
            f"{loaded.path.name} tells others apart than the pianists of split {split!r} in {root.path}; give the data "
            "root it was trained on with --data-root"
        )
    heard = _heard(loaded, cache, where, progress)
    found = _profiles(heard, part, loaded.class_names, cache.recordings, path.name)
    run.save_json(f"{FOLDER}/{path.stem}-{part}.json", {**found.to_dict(), "stamp": stamp})
    return found


def saved(run: Run, part: str | None = None, checkpoint: Path | None = None) -> Profiles | None:
    """The profiles kept of a run's most trained checkpoint that has some, or None.

    Only those of a `part` or `checkpoint`, where one is named; of parts, test comes first.
    """
    order = {path.stem: number for number, path in enumerate(run.checkpoints())}
    names = [(match[1], match[2]) for match in map(_FILE.fullmatch, _names(run)) if match and match[1] in order]
    for stem, of_part in sorted(names, key=lambda name: (-order[name[0]], name[1] != "test", name[1])):
        if part not in (None, of_part) or (checkpoint is not None and checkpoint.stem != stem):
            continue
        found = _read(run, stem, of_part)
        if found is not None:
            return found
    return None


def _names(run: Run) -> list[str]:
    try:
        return [path.name for path in (run.path / FOLDER).iterdir()]
    except OSError:
        return []


def _read(run: Run, stem: str, part: str) -> Profiles | None:
    data = run.read_json(f"{FOLDER}/{stem}-{part}.json")
    try:
        if data is None or data["stamp"] != _stamp(run.path / f"{stem}.pth"):
            return None
        return Profiles.from_dict(data)
    except (OSError, KeyError, TypeError, ValueError, AttributeError):
        return None


def _stamp(path: Path) -> list[int]:
    """What changes when a checkpoint is written again."""
    try:
        status = path.stat()
    except OSError as error:
        raise CheckpointError(f"there is no checkpoint {str(path)!r}") from error
    return [status.st_size, status.st_mtime_ns]


# --- measuring -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Heard:
    """Probabilities (r, K) of r recordings by what was kept, their labels (r,), and their numbers (r,)."""

    probabilities: dict[str, FloatArray]
    labels: IntArray
    recordings: IntArray
    concepts: tuple[str, ...]


def _heard(loaded: "LoadedModel", cache: Any, device: "torch.device", progress: OnProgress | None) -> _Heard:
    from pianistid_core.evaluation import average_by_recording, predict, predict_each
    from pianistid_core.loader import ClipDataset, ahead, make_loader
    from pianistid_core.models import ConceptModel, for_inference

    config = loaded.config
    dataset = ClipDataset(cache, config.test_dataset_cfg, classify_dataset=config.classify_dataset)
    batch_size = max(8, config.batch_size)

    def on_batch(number: int) -> None:
        if progress is not None:
            progress(min(number * batch_size, len(dataset)), len(dataset))

    model = for_inference(loaded.model)
    batches = ahead(make_loader(dataset, batch_size=batch_size, form="strokes" if device.type == "cuda" else "float32"))
    precision = config.precision if device.type == "cuda" else None
    concepts: tuple[str, ...] = model.hears if isinstance(model, ConceptModel) else ()
    if concepts:
        subsets = (CONCEPTS, *((concept,) for concept in concepts))
        heard = predict_each(model, batches, subsets, device, on_batch=on_batch, precision=precision)
    else:
        heard = [predict(model, batches, device, on_batch=on_batch, precision=precision)]
    of_clips = heard[0].recordings
    ids, first = np.unique(of_clips, return_index=True)
    return _Heard(
        {
            name: average_by_recording(found.probabilities, of_clips)[1]
            for name, found in zip((ALL, *concepts), heard, strict=True)
        },
        heard[0].labels[first],
        ids,
        concepts,
    )


def _profiles(
    heard: _Heard, part: str, class_names: tuple[str, ...], tracks: Sequence[str], checkpoint: str
) -> Profiles:
    guesses = {name: found.argmax(axis=1) for name, found in heard.probabilities.items()}
    pianists = []
    for index, pianist in enumerate(class_names):
        mine = np.flatnonzero(heard.labels == index)
        n = len(mine)
        sure = heard.probabilities[ALL][mine, index]
        right = guesses[ALL][mine] == index
        order = [place for place in np.argsort(-sure, kind="stable") if right[place]][:_TYPICAL]
        pianists.append(
            Profile(
                pianist,
                n,
                {name: float((found[mine] == index).mean()) if n else None for name, found in guesses.items()},
                {
                    name: [
                        (class_names[other], times / n)
                        for other, times in Counter(found[mine][found[mine] != index].tolist()).most_common(_MISTAKEN)
                    ]
                    for name, found in guesses.items()
                },
                [(tracks[int(heard.recordings[mine[place]])], float(sure[place])) for place in order],
            )
        )
    accuracy = float((guesses[ALL] == heard.labels).mean())
    return Profiles(part, len(heard.labels), tuple(pianists), heard.concepts, checkpoint, accuracy)
