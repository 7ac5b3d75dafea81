"""What a model says of recordings that it never learned from, and of pianists that it does not know.

A part of the split that is kept for that gives few recordings. More are had by training again: a model of the same
config on four fifths of the training recordings, heard on the rest, five times over; or one that some pianists are left
out of, heard on theirs. Both train in a folder of their own, which is gone afterwards; the data root is only read. The
test part is not touched.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pianistid_core import training
from pianistid_core.batches import Form
from pianistid_core.calibrating import HeldOut, auroc, fit
from pianistid_core.calibration import PERHAPS, Calibration, lead
from pianistid_core.checkpoints import LoadedModel, load_model
from pianistid_core.config import RunConfig, parse_config, to_dict
from pianistid_core.datasets.cache import open_note_cache
from pianistid_core.datasets.root import DataRoot, Split, SplitEntry, write_split
from pianistid_core.errors import CheckpointError, DataError, RunError
from pianistid_core.evaluation import predict
from pianistid_core.loader import ClipDataset, ahead, make_loader
from pianistid_core.manner import Usual, usual_of
from pianistid_core.run_config import run_for

OnProgress = Callable[[str, int, int], None]

FOLDS = 5
LEFT_OUT = 5
_FEWEST_KNOWN = 2
_AT_ONCE = 8
_LOOKED_AT = 10  # recordings in the part that each epoch ends with a look at
_SMALLEST = 1e-300


@dataclass(frozen=True)
class Strangers:
    """One draw: who was left out, and what is said of the held-out recordings of the others and of all of theirs."""

    left_out: tuple[str, ...]
    known: HeldOut
    unknown: HeldOut

    @property
    def auroc(self) -> float:
        """The probability that a known pianist's recording has the greater lead."""
        return auroc(*(list(_leads(held)) for held in (self.known, self.unknown)))

    def caught(self, recall: float = 1 - PERHAPS) -> float:
        """The share of the unknown that fall below the lead that a share `recall` of the known reach."""
        known, unknown = (np.array(list(_leads(held))) for held in (self.known, self.unknown))
        return float((unknown < np.quantile(known, 1 - recall)).mean())

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "left_out": list(self.left_out),
            "n_known": len(np.unique(self.known.recordings)),
            "n_unknown": len(np.unique(self.unknown.recordings)),
            "auroc": self.auroc,
            "caught": self.caught(),
        }


def _leads(held: HeldOut) -> Iterator[float]:
    return (lead(held.logits[rows]) for _, rows in held.rows())


def hear(loaded: LoadedModel, root: DataRoot, part: str, *, split: str | None = None) -> HeldOut:
    """What a model says of every clip of a part of its split, or of another split of the same pianists.

    Raises
    ------
    CheckpointError
        When the split is not of the model's pianists.
    PianistIDError
        When there is no such split here, or not a single clip of it can be drawn.
    """
    config = loaded.config
    cache = open_note_cache(root, split or config.data_split_dir, part)
    dataset = ClipDataset(
        cache, config.test_dataset_cfg, seed=config.seed, training=False, classify_dataset=config.classify_dataset
    )
    if tuple(dataset.class_names) != loaded.class_names:
        raise CheckpointError(
            f"{loaded.name} tells {len(loaded.class_names)} pianists apart who are not those of split "
            f"{split or config.data_split_dir!r} in {root.path}; give the data root it was trained on with --data-root"
        )
    form: Form = "float32"
    found = predict(loaded.model, ahead(make_loader(dataset, batch_size=_AT_ONCE, form=form)))
    # Shares have the same logits but for a constant, of which nothing here takes notice.
    logits = np.log(np.maximum(found.probabilities, _SMALLEST))
    return HeldOut(logits, found.labels, found.recordings)


def usual_in(root: DataRoot, split: str) -> Usual:
    """What is usual in the training music of a split.

    Raises
    ------
    PianistIDError
        When there is no such split here, or no clip in it has notes enough.
    """
    cache = open_note_cache(root, split, "train")
    return usual_of(cache.notes(clip) for clip in range(len(cache)))


def calibrate(
    loaded: LoadedModel, root: DataRoot, part: str = "validation", *, held: HeldOut | None = None, **more: Any
) -> Calibration:
    """A calibration by a part of the split that the model did not learn from, or by what was held out otherwise.

    `more` goes to `fit`.

    Raises
    ------
    DataError
        When there are fewer than 20 recordings.
    PianistIDError
        When the split is not here, or is not of the model's pianists.
    """
    heard = held or hear(loaded, root, part)
    return fit(*heard, part=part, usual=usual_in(root, loaded.config.data_split_dir), **more)


# --- training again --------------------------------------------------------------------------------------------------


def by_folds(
    config: RunConfig, root: DataRoot, *, folds: int = FOLDS, seed: int = 0, progress: OnProgress | None = None
) -> HeldOut:
    """What models of a config say of all training recordings, each heard by the one that did not learn from it.

    `progress` is told (phase, done, total).

    Raises
    ------
    DataError
        When a pianist has fewer training recordings than there are folds.
    PianistIDError
        When a training fails, or its data is not here.
    """
    split = root.split(config.data_split_dir)
    fold_of = _dealt(split.part("train"), folds, seed)
    heard: list[HeldOut] = []
    with _workplace(root) as place:
        for fold in range(folds):
            parts = _parts(split, fold_of != fold, fold_of == fold)
            model = _trained(config, place, Split(f"fold{fold}", split.class_names, parts), fold, folds, progress)
            held = hear(model, place, "validation")
            # Recordings are numbered by part; two parts must not share a number.
            heard.append(held._replace(recordings=held.recordings + fold * len(fold_of)))
    return HeldOut(*(np.concatenate(columns) for columns in zip(*heard, strict=True)))


def leave_out(
    config: RunConfig,
    root: DataRoot,
    left_out: Sequence[str],
    *,
    folds: int = FOLDS,
    seed: int = 0,
    progress: OnProgress | None = None,
) -> Strangers:
    """What a model of a config that never met some pianists says of their recordings, and of others' held out.

    Raises
    ------
    DataError
        When fewer than two pianists are left, or one is not in the split.
    PianistIDError
        When a training fails, or its data is not here.
    """
    split = root.split(config.data_split_dir)
    missing = next((name for name in left_out if name not in split.class_names), None)
    kept = [name for name in split.class_names if name not in left_out]
    if missing is not None or len(kept) < _FEWEST_KNOWN:
        raise DataError(
            f"{missing!r} is no pianist of split {split.name!r}"
            if missing is not None
            else f"with {len(left_out)} pianists left out, fewer than {_FEWEST_KNOWN} are left to tell apart"
        )
    number = {split.class_names.index(name): place for place, name in enumerate(kept)}
    entries = [one for one in split.part("train") if one.pianist in number]
    known = Split(
        "known",
        tuple(kept),
        {"train": tuple(SplitEntry(one.track, number[one.pianist], one.duration_s) for one in entries)},
    )
    fold_of = _dealt(known.part("train"), folds, seed)
    # A split has no place for pianists without a number; whose these are is known here.
    strangers = tuple(
        SplitEntry(one.track, 0, one.duration_s) for one in split.part("train") if one.pianist not in number
    )
    with _workplace(root) as place:
        model = _trained(
            config, place, Split("known", known.class_names, _parts(known, fold_of != 0, fold_of == 0)), 0, 1, progress
        )
        write_split(place, Split("strangers", known.class_names, {"train": strangers, "test": strangers}))
        return Strangers(
            tuple(left_out), hear(model, place, "validation"), hear(model, place, "test", split="strangers")
        )


def draws(names: Sequence[str], n: int, size: int = LEFT_OUT, seed: int = 0) -> Iterator[tuple[str, ...]]:
    """n groups of pianists to leave out: everybody once before anybody twice."""
    rng = np.random.default_rng(seed)
    groups: list[tuple[str, ...]] = []
    for _ in range(n):
        if not groups:
            order = [names[k] for k in rng.permutation(len(names))]
            groups = [tuple(order[k : k + size]) for k in range(0, len(order) - size + 1, size)]
        if not groups:
            raise DataError(f"{size} pianists cannot be left out of {len(names)}")
        yield groups.pop()


def strangers_measured(found: Sequence[Strangers]) -> dict[str, Any]:
    """What all draws come to, as plain data: means over the draws, and each draw."""
    return {
        "auroc": float(np.mean([one.auroc for one in found])),
        "caught": float(np.mean([one.caught() for one in found])),
        "false_alarms": PERHAPS,
        "draws": [one.to_dict() for one in found],
    }


def _dealt(entries: Sequence[SplitEntry], folds: int, seed: int) -> npt.NDArray[np.int64]:
    """Which fold each recording is in: each pianist's are dealt out evenly.

    Raises
    ------
    DataError
        When a pianist has fewer recordings than there are folds.
    """
    rng = np.random.default_rng(seed)
    labels = np.array([entry.pianist for entry in entries])
    fold_of = np.zeros(len(entries), np.int64)
    for label in np.unique(labels):
        mine = rng.permutation(np.flatnonzero(labels == label))
        if len(mine) < folds:
            raise DataError(
                f"a pianist has {len(mine)} training recordings, too few for {folds} folds; take fewer folds"
            )
        fold_of[mine] = (np.arange(len(mine)) + rng.integers(folds)) % folds
    return fold_of


def _parts(
    split: Split, learn: npt.NDArray[np.bool_], hold: npt.NDArray[np.bool_]
) -> dict[str, tuple[SplitEntry, ...]]:
    entries = split.part("train")
    held = tuple(entries[k] for k in np.flatnonzero(hold))
    return {
        "train": tuple(entries[k] for k in np.flatnonzero(learn)),
        "test": held[:: max(1, len(held) // _LOOKED_AT)],
        "validation": held,
    }


@contextmanager
def _workplace(root: DataRoot) -> Iterator[DataRoot]:
    """A data root with the same clips but splits, runs and caches of its own, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="pianistid-held-out-") as folder:
        place = DataRoot(Path(folder) / "root", cache_dir=Path(folder) / "cache")
        place.path.mkdir()
        (place.path / "data").symlink_to(root.clips_dir.parent, target_is_directory=True)
        yield place


def _trained(
    config: RunConfig, place: DataRoot, split: Split, number: int, total: int, progress: OnProgress | None
) -> LoadedModel:
    """A model of a config, trained on a split in a workplace."""
    write_split(place, split)
    plain = to_dict(config)
    mine = parse_config(
        plain
        | {
            "experiment": "held_out",
            "run": split.name,
            "data_split_dir": split.name,
            "checkpoint_cfg": {"checkpoint_after_n_epochs": config.epochs, "delete_old_checkpoints": True},
            "mlflow_cfg": {"use": False},
        }
    )
    run = run_for(mine, place)

    def told(phase: str, done: int, of: int) -> None:
        if progress is not None:
            progress(f"model {number + 1} of {total}, {phase}", done, of)

    state = training.train(mine, place, run, on_progress=told)
    if state.status != "finished":
        raise RunError(f"a model that holds out {split.name} {state.status} before its end; nothing was measured")
    return load_model(run.path, root=place)
