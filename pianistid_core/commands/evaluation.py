"""`pianistid evaluate`, `ablate` and `profile`: measure a trained model on a part of a split."""

import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pianistid_core.atomic import write_atomically
from pianistid_core.commands.console import (
    add_data_root,
    add_json,
    count,
    open_root,
    progress,
    say,
    say_json,
    say_table,
)
from pianistid_core.commands.runs import RUN_HELP
from pianistid_core.concepts import CONCEPTS
from pianistid_core.datasets.root import PARTS, DataRoot
from pianistid_core.errors import CheckpointError, RunError
from pianistid_core.run_config import find_run
from pianistid_core.runs import Confusion, Run

if TYPE_CHECKING:
    import torch

    from pianistid_core.batches import AnyBatch, Form
    from pianistid_core.checkpoints import LoadedModel
    from pianistid_core.datasets.cache import NoteCache
    from pianistid_core.evaluation import AblationRow, Metrics
    from pianistid_core.loader import Loader
    from pianistid_core.models import PianistModel

log = logging.getLogger(__name__)


def add_evaluate(parser: ArgumentParser) -> None:
    """Adds the options of `evaluate`."""
    _add_common(parser)
    parser.set_defaults(handle=_evaluate)


def add_ablate(parser: ArgumentParser) -> None:
    """Adds the options of `ablate`."""
    _add_common(parser)
    parser.set_defaults(handle=_ablate)


def add_profile(parser: ArgumentParser) -> None:
    """Adds the options of `profile`."""
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument(
        "--part", choices=PARTS, default="test", metavar="PART", help="test (default), validation or train"
    )
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    add_data_root(parser)
    add_json(parser)
    parser.set_defaults(handle=_profile)


def _add_common(parser: ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help=RUN_HELP + "; any .pth file of the paper's format will do")
    parser.add_argument(
        "--split", choices=PARTS, default="test", metavar="PART", help="test (default), validation or train"
    )
    parser.add_argument("--config", metavar="FILE", help="the config of a checkpoint that does not hold its own")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the network first, which takes up to a minute and may pay for thousands of clips",
    )
    parser.add_argument("--figures", metavar="FOLDER", help="also write confusion matrices as PNG files, here")
    add_data_root(parser)
    add_json(parser)


# --- evaluate --------------------------------------------------------------------------------------------------------


def _evaluate(options: Namespace) -> int:
    from pianistid_core.evaluation import commonest_class_accuracy, measure, predict
    from pianistid_core.loader import ahead

    subject = _subject(options)
    with progress("batches") as shown:
        total = len(subject.loader)
        predictions = predict(
            subject.model,
            ahead(subject.loader),
            subject.device,
            on_batch=lambda done: shown.show(f"evaluating {options.split}", done, total),
            precision=subject.precision,
        )
    metrics = measure(predictions, subject.loaded.class_names, subject.cache.recordings)
    name, accuracy = commonest_class_accuracy(subject.train_labels(), metrics)
    data = {**subject.facts(), **metrics.to_dict(), "baseline": {"pianist": name, "recording_accuracy": accuracy}}
    _keep(subject, f"evaluation/{options.split}.json", data)
    _draw(options.figures, {f"{options.split}_confusionmatrix.png": metrics.confusion}, subject.loaded.name)
    if options.json:
        say_json(data)
        return 0
    _introduce(subject)
    _say_skipped(metrics)
    say()
    say_table(("pianist", "recordings", "recall"), _per_pianist(metrics))
    say()
    say(f"recording accuracy {metrics.recording_accuracy:.3f} over {count(metrics.n_recordings, 'recording')}")
    say(f"clip accuracy {metrics.clip_accuracy:.3f} over {count(metrics.n_clips, 'clip')}, loss {metrics.loss:.4f}")
    say(f"always naming {name}, who has most training clips: {accuracy:.3f}")
    return 0


def _per_pianist(metrics: "Metrics") -> list[tuple[object, ...]]:
    totals = metrics.confusion.counts.sum(axis=1).tolist()
    return list(zip(metrics.confusion.class_names, totals, metrics.recalls, strict=True))


# --- ablate ----------------------------------------------------------------------------------------------------------


def _ablate(options: Namespace) -> int:
    from pianistid_core.evaluation import ablate, commonest_class_accuracy, subset_name
    from pianistid_core.loader import ahead

    subject = _subject(options)
    with progress("batches") as shown:
        total = len(subject.loader)
        rows = ablate(
            subject.model,
            ahead(subject.loader),
            subject.device,
            subject.loaded.class_names,
            on_batch=lambda done: shown.show(f"ablating on {options.split}", done, total),
            precision=subject.precision,
        )
    name, accuracy = commonest_class_accuracy(subject.train_labels(), rows[0].metrics)
    hears = subject.hears
    data = {
        **subject.facts(),
        "hears": list(hears),
        "rows": [{"kept": list(row.kept), **row.metrics.to_dict()} for row in rows],
        "baseline": {"pianist": name, "recording_accuracy": accuracy},
    }
    _keep(subject, f"ablation/{options.split}.json", data)
    confusions = {f"{options.split}_{subset_name(row.kept)}_confusionmatrix.png": row.metrics.confusion for row in rows}
    _draw(options.figures, confusions, subject.loaded.name)
    if options.json:
        say_json(data)
        return 0
    _introduce(subject)
    _say_skipped(rows[0].metrics)
    say()
    full = rows[0].metrics.recording_accuracy
    say_table(
        ("kept", "recording accuracy", "against all", "clip accuracy"),
        [
            (
                subset_name(row.kept),
                row.metrics.recording_accuracy,
                f"{row.metrics.recording_accuracy - full:+.3f}",
                row.metrics.clip_accuracy,
            )
            for row in rows
            if set(row.kept) <= set(hears)
        ],
    )
    for concept in CONCEPTS:
        if concept not in hears:
            say(f"note: {concept}: not heard by this model, so no row is with it")
    say(f"always naming {name}, who has most training clips: {accuracy:.3f}")
    say()
    say("Recall of each pianist's recordings, with all concepts, with one alone, and with one left out:")
    _say_per_pianist(rows, hears)
    return 0


def _say_per_pianist(rows: list["AblationRow"], hears: Sequence[str]) -> None:
    by_kept = {row.kept: row.metrics for row in rows}
    columns = {"all": by_kept[CONCEPTS]}
    columns |= {concept: by_kept[(concept,)] for concept in hears}
    columns |= {f"no {out}": by_kept[tuple(kept for kept in CONCEPTS if kept != out)] for out in hears}
    names = rows[0].metrics.confusion.class_names
    say_table(
        ("pianist", *columns),
        [(name, *(metrics.recalls[index] for metrics in columns.values())) for index, name in enumerate(names)],
    )


# --- profile ---------------------------------------------------------------------------------------------------------


def _profile(options: Namespace) -> int:
    from pianistid_core.profiles import profiles

    root = open_root(options.data_root)
    run, source = _run_and_source(options.run, root)
    if run is None:
        raise RunError(
            f"{options.run!r} is not in a run, where its profiles are kept; name a run or a checkpoint in one"
        )
    with progress("clips") as shown:
        found = profiles(
            run,
            root,
            options.part,
            lambda done, total: shown.show(f"profiling on {options.part}", done, total),
            checkpoint=source if source.suffix == ".pth" else None,
            device=options.device,
        )
    if options.json:
        say_json(found.to_dict())
        return 0
    say(
        f"{run.id}, {found.checkpoint}: {found.accuracy:.3f} of {count(found.n_recordings, 'recording')} of the "
        f"{found.part} part are named rightly"
    )
    say()
    say("Share of each pianist's recordings that is named rightly, with all concepts and with one alone:")
    say_table(
        ("pianist", "recordings", *found.heard),
        [(one.pianist, one.n, *(one.recall[name] for name in found.heard)) for one in found.pianists],
    )
    say()
    say_table(
        ("pianist", "mistaken for", "most typical recording"),
        [
            (
                one.pianist,
                ", ".join(f"{name} {share:.2f}" for name, share in one.mistaken_for["all"]) or None,
                f"{one.typical[0][0]} {one.typical[0][1]:.3f}" if one.typical else None,
            )
            for one in found.pianists
        ],
    )
    return 0


# --- what both need --------------------------------------------------------------------------------------------------


class _Subject(NamedTuple):
    """A trained model, as loaded and as it is asked, the clips to measure it on, and the run it came from, if any."""

    loaded: "LoadedModel"
    model: "PianistModel"
    loader: "Loader[AnyBatch]"
    cache: "NoteCache"
    device: "torch.device"
    run: Run | None
    root: DataRoot
    part: str

    def facts(self) -> dict[str, Any]:
        """What was measured on what."""
        return {
            "model": self.loaded.name,
            "checkpoint": str(self.loaded.path),
            "split": self.loaded.config.data_split_dir,
            "part": self.part,
            "validation_is_test": self.validation_is_test,
            "n_unreadable": len(self.cache.unreadable),
        }

    @property
    def precision(self) -> str | None:
        """What a GPU computes in: what the run was trained in there. A CPU has full precision."""
        return self.loaded.config.precision if self.device.type == "cuda" else None

    @property
    def hears(self) -> tuple[str, ...]:
        """The concepts that can change the model's answer."""
        from pianistid_core.models import ConceptModel

        return self.model.hears if isinstance(self.model, ConceptModel) else CONCEPTS

    @property
    def validation_is_test(self) -> bool:
        """Whether validation was asked for and the split has none, so that this is its test part."""
        return self.part == "validation" and self.root.split(self.loaded.config.data_split_dir).validation_is_test

    def train_labels(self) -> Any:
        """The labels (n,) of all training clips, from which the commonest pianist is told."""
        from pianistid_core.datasets.cache import open_note_cache

        config = self.loaded.config
        cache = open_note_cache(self.root, config.data_split_dir, "train")
        return cache.sources if config.classify_dataset else cache.labels


def _subject(options: Namespace) -> _Subject:
    from pianistid_core.checkpoints import load_model
    from pianistid_core.config import load_config
    from pianistid_core.datasets.cache import open_note_cache
    from pianistid_core.devices import choose_device, keep_memory
    from pianistid_core.loader import ClipDataset, make_loader
    from pianistid_core.models import for_inference

    root = open_root(options.data_root)
    run, source = _run_and_source(options.run, root)
    device = choose_device(options.device)
    keep_memory()
    loaded = load_model(
        source, root=root, config=load_config(options.config) if options.config else None, device=device
    )
    config = loaded.config
    with progress("clips") as shown:
        cache = open_note_cache(
            root,
            config.data_split_dir,
            options.split,
            progress=lambda done, total: shown.show(f"reading {options.split} clips", done, total),
        )
    dataset = ClipDataset(
        cache, config.test_dataset_cfg, seed=config.seed, training=False, classify_dataset=config.classify_dataset
    )
    if tuple(dataset.class_names) != tuple(loaded.class_names):
        raise CheckpointError(
            f"{loaded.path.name} tells {len(loaded.class_names)} pianists apart who are not the "
            f"{len(dataset.class_names)} of split {config.data_split_dir!r} in {root.path}; give the data root it was "
            "trained on with --data-root"
        )
    form: Form = "strokes" if device.type == "cuda" else "float32"
    loader = make_loader(dataset, batch_size=max(8, config.batch_size), form=form)
    model = for_inference(loaded.model, compile=options.compile)
    return _Subject(loaded, model, loader, cache, device, run, root, options.split)


def _run_and_source(name: str, root: DataRoot) -> tuple[Run | None, Path]:
    """The run that is meant, where it is one, and what to load: a checkpoint, or the run's folder."""
    path = Path(name)
    if path.suffix != ".pth":
        run = find_run(name, root)
        return run, run.path
    try:
        return find_run(name, root), path
    except RunError:
        return None, path


def _keep(subject: _Subject, name: str, data: dict[str, Any]) -> None:
    """Keeps a result in the run that it is of, unless it is of an older checkpoint or somebody else's run."""
    run = subject.run
    if run is None or not run.is_own() or subject.loaded.path != run.latest_checkpoint():
        return
    try:
        run.save_json(name, data)
    except OSError as error:
        log.warning("the result is not kept in %s: %s", run.path, error.strerror)


def _draw(folder: str | None, confusions: dict[str, Confusion], title: str) -> None:
    if folder is None:
        return
    from pianistid_core.figures import confusion_matrix_png

    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    for name, confusion in confusions.items():
        heading = f"{title}, {name.removesuffix('_confusionmatrix.png')}"
        png = confusion_matrix_png(confusion.row_normalised(), confusion.class_names, title=heading)
        write_atomically(target / name, png)


def _introduce(subject: _Subject) -> None:
    say(f"{subject.loaded.name}, on the {subject.part} part of split {subject.loaded.config.data_split_dir}")
    if subject.validation_is_test:
        say("note: this split has no validation part, so this is its test part")
    if subject.cache.unreadable:
        say(f"note: {count(len(subject.cache.unreadable), 'clip')} cannot be read; `pianistid data check` says why")


def _say_skipped(metrics: "Metrics") -> None:
    for reason, number in metrics.skipped.items():
        say(f"note: {count(number, 'clip')} skipped: {reason}")
