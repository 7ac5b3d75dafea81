"""What each step of the shipped recipe gives, and how the recipe stands with other seeds and on harder splits.

    python tests/benchmarks/recipe.py --data-root workspace [--metadata recordings.csv] [--only seeds splits steps]

Trains what is not trained yet, one run after the other, under the experiment `recipe` of the data root, and prints
three tables. Steps are chosen by a fifth of the training recordings (split `recipe-dev`), never by the test part; seeds
and splits only say how the chosen recipe stands. Some five minutes a run on one core. With --metadata (albums and
compositions by track) also on splits in which no album, or no composition, is both learned from and asked about. With
--results the rows of seeds and splits are put into a table of results, for the lab's page and for docs/results.md.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pianistid_core import training
from pianistid_core.atomic import write_atomically
from pianistid_core.comparison import mean_interval, paired_test
from pianistid_core.config import load_config
from pianistid_core.confusion import RecordingOutcome
from pianistid_core.datasets.root import DataRoot, Split, write_split
from pianistid_core.datasets.splitting import make_split
from pianistid_core.intervals import wilson
from pianistid_core.paper_results import REFERENCE, Recipe, read_results
from pianistid_core.run_config import run_for
from pianistid_core.runs import Run

EXPERIMENT, DEV, BOX = "recipe", "recipe-dev", "box.yaml"
SEEDS = (1, 2, 3, 4)
FOLDS = 5
NO_GAP = {f"{part}_dataset_cfg.release_gap_s": 0.0 for part in ("train", "test")}
# Each is the box's config but for one thing.
REFERENCES = {
    "baselines/resnet50-jtd+pijama-augment.yaml": "ResNet-50",
    REFERENCE: "factorised ResNet-18",
}
STEPS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "box": ("the box's recipe", {}),
    "adam": ("Adam instead of SGD with momentum", {"optim_type": "adam", "optim_cfg.lr": 0.003}),
    "hard-labels": ("labels not smoothed", {"loss_cfg.label_smoothing": 0.0}),
    "unadjusted": ("pianists of few clips not made up for", {"loss_cfg.logit_adjustment": 0.0}),
    "no-gap": ("keys struck again at once not told apart", NO_GAP),
    "every-n-gram": ("n-grams of a single recording as well", {"model_cfg.least_recordings": 1}),
    "small-vocabulary": ("50,000 n-grams instead of 200,000", {"model_cfg.vocabulary": 50_000}),
    "large-vocabulary": ("600,000 n-grams (too large for the box)", {"model_cfg.vocabulary": 600_000}),
    "intervals-only": ("no absolute pitch", {"model_cfg.absolute_pitch": False}),
    "dropout": ("half of the n-grams dropped in training", {"model_cfg.ngram_dropout": 0.5}),
    "masked": ("concepts masked in training", {"model_cfg.use_masking": True}),
    "augmented": ("half of the clips transposed and stretched", {"train_dataset_cfg.data_augmentation": True}),
    "jittered": ("clips begun at random", {"train_dataset_cfg.jitter_start": True}),
}


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-root")
    parser.add_argument("--metadata")
    parser.add_argument("--only", nargs="*", default=["seeds", "splits", "steps"])
    parser.add_argument("--results", type=Path, help="put the rows into this table of results")
    parser.add_argument("--steps", nargs="*", default=list(STEPS), choices=list(STEPS))
    options = parser.parse_args(arguments)
    root = DataRoot.open(options.data_root)
    rows: list[Recipe] = []
    if "seeds" in options.only:
        rows.append(seeds(root))
    if "splits" in options.only and options.metadata:
        rows += splits(root, options.metadata)
    if options.results is not None:
        table = json.loads(options.results.read_text()) | {"best": [asdict(row) for row in rows]}
        write_atomically(options.results, (json.dumps(table, indent=2) + "\n").encode())
    if "steps" in options.only:
        steps(root, options.steps)


def seeds(root: DataRoot) -> Recipe:
    runs = [trained(root, "seed-42", {}), *(trained(root, f"seed-{seed}", {"seed": seed}) for seed in SEEDS)]
    print(f"\nThe recipe with {len(runs)} seeds, test part of {load_config(BOX).data_split_dir}:")
    means = {}
    for name in ("recording_accuracy", "clip_accuracy", "macro_recall"):
        found = mean_interval([measured(run)[name] for run in runs])
        means[name] = found.mean
        values = ", ".join(f"{measured(run)[name]:.3f}" for run in runs)
        print(f"{name:20} mean {found.mean:.3f}, sd {found.sd or 0:.3f} ({values})")
    say("first seed", runs[0])
    against_reference(runs[0])
    n = len(outcomes(runs[0]))
    low, high = wilson(round(n * means["recording_accuracy"]), n) or (0.0, 1.0)
    return Recipe("The paper's test split", **means, low=low, high=high, seeds=(42, *SEEDS))


def against_reference(run: Run) -> None:
    """The paired test against the reference's networks of the size that a CPU trains, by the same code on the same."""
    results = read_results()
    ours = sorted(outcomes(run), key=lambda one: one.track)
    for preset, theirs in results.experiments.items():
        if preset not in REFERENCES:
            continue
        named = [
            RecordingOutcome(one.track, one.true, one.true if mark == "1" else -1, 0.0)
            for one, mark in zip(ours, theirs.outcomes, strict=True)
        ]
        words = paired_test(named, ours, names=(REFERENCES[preset], "the recipe"))
        print(
            f"{words.words} difference {words.difference:+.3f} [{words.low:+.3f}, {words.high:+.3f}], p {words.p:.1e}"
        )


def splits(root: DataRoot, metadata: str) -> list[Recipe]:
    print("\nThe recipe on splits of the same recordings:")
    rows = []
    for by in ("recording", "album", "composition"):
        name = f"recipe-by-{by}"
        if name not in root.split_names():
            make_split(root, name, by=by, ratios=(0.86, 0.14, 0.0), metadata=Path(metadata))
        run = trained(root, name, {"data_split_dir": name})
        say(f"no {by} in both", run)
        found = measured(run)
        low, high = wilson(sum(one.true == one.heard for one in outcomes(run)), len(outcomes(run))) or (0.0, 1.0)
        figures = {key: found[key] for key in ("clip_accuracy", "recording_accuracy", "macro_recall")}
        rows.append(Recipe(f"No {by} in both parts", **figures, low=low, high=high, seeds=(42,)))
    return rows


def steps(root: DataRoot, chosen: Sequence[str]) -> None:
    if DEV not in root.split_names():
        write_split(root, development(root.split(load_config(BOX).data_split_dir)))
    first = trained(root, "dev-box", {"data_split_dir": DEV})
    print("\nThe recipe but for one thing, a fifth of the training recordings:")
    for name in chosen:
        words, overrides = STEPS[name]
        run = trained(root, f"dev-{name}", {"data_split_dir": DEV, **overrides})
        say(words, run)
        if run.id != first.id:
            print(f"{'':44}{paired_test(outcomes(first), outcomes(run), names=('the recipe', 'this')).words}")


def development(split: Split) -> Split:
    """A fifth of each pianist's training recordings is asked about, the rest is learned from."""
    rng, held = np.random.default_rng(0), set()
    entries = split.part("train")
    labels = np.array([entry.pianist for entry in entries])
    for label in np.unique(labels):
        mine = rng.permutation(np.flatnonzero(labels == label))
        held |= set(mine[rng.integers(FOLDS) :: FOLDS].tolist())
    parts = {
        "train": tuple(entry for number, entry in enumerate(entries) if number not in held),
        "test": tuple(entry for number, entry in enumerate(entries) if number in held),
    }
    return Split(DEV, split.class_names, parts)


def trained(root: DataRoot, name: str, overrides: Mapping[str, Any]) -> Run:
    names = {"experiment": EXPERIMENT, "run": name, "checkpoint_cfg.checkpoint_after_n_epochs": 1000}
    config = load_config(BOX, overrides=list(assignments({**names, **overrides})))
    run = run_for(config, root)
    if not run.path.is_dir() or run.state().status != "finished":
        training.train(config, root, run)
    return run


def assignments(overrides: Mapping[str, Any]) -> Iterator[str]:
    for key, value in overrides.items():
        yield f"{key}={str(value).lower() if isinstance(value, bool) else value}"


def measured(run: Run) -> dict[str, Any]:
    return run.read_json("evaluation/validation.json") or {}


def outcomes(run: Run) -> Sequence[RecordingOutcome]:
    confusion = run.confusion("validation")
    return confusion.recordings if confusion is not None and confusion.recordings else ()


def say(words: str, run: Run) -> None:
    found = measured(run)
    right, n = sum(one.true == one.heard for one in outcomes(run)), len(outcomes(run))
    low, high = wilson(right, n) or (0.0, 1.0)
    print(
        f"{words:44}recordings {found['recording_accuracy']:.3f} [{low:.3f}, {high:.3f}] of {n}, "
        f"clips {found['clip_accuracy']:.3f}, macro recall {found['macro_recall']:.3f}",
        flush=True,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
