"""`pianistid calibrate`: what a trained model's probabilities mean, fitted to recordings that it never learned from."""

import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pianistid_core.commands.console import (
    add_data_root,
    add_json,
    complain,
    count,
    open_root,
    progress,
    say,
    say_json,
    say_table,
)
from pianistid_core.commands.runs import RUN_HELP
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import RunError
from pianistid_core.run_config import find_run
from pianistid_core.runs import Run

if TYPE_CHECKING:
    from pianistid_core.calibrating import HeldOut
    from pianistid_core.calibration import Calibration
    from pianistid_core.checkpoints import LoadedModel

log = logging.getLogger(__name__)

OnProgress = Callable[[str, int, int], None]


def add_calibrate(parser: ArgumentParser) -> None:
    """Adds the options of `calibrate`."""
    parser.add_argument("run", metavar="RUN", help=RUN_HELP + "; its newest checkpoint is calibrated")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--part",
        choices=("validation", "test"),
        default="validation",
        metavar="PART",
        help="validation (default) or test",
    )
    how.add_argument(
        "--folds",
        type=int,
        metavar="N",
        help="train N models again, each on all but an N-th of the training recordings, and calibrate by what they say "
        "of the rest: many more recordings, and no part is used up",
    )
    parser.add_argument(
        "--strangers",
        type=int,
        default=0,
        metavar="N",
        help="also train N models that some pianists are left out of, and measure how well unknown pianists are told",
    )
    parser.add_argument(
        "--left-out", type=int, default=5, metavar="N", help="how many pianists are left out (default: 5)"
    )
    add_data_root(parser)
    add_json(parser)
    parser.set_defaults(handle=_calibrate, log_level=logging.WARNING)


def _calibrate(options: Namespace) -> int:
    from pianistid_core.checkpoints import load_model
    from pianistid_core.devices import keep_memory

    root = open_root(options.data_root)
    run = find_run(options.run, root)
    if not run.is_own():
        raise RunError(f"{run.id} is not a run of this program, so its calibration cannot be kept in it")
    keep_memory()
    loaded = load_model(run.path, root=root)
    with progress("batches") as shown:
        held, part = _held_out(options, loaded, root, shown.show)
        strangers = _strangers(options, loaded, root, shown.show)
    found = _fitted(loaded, root, held, part, strangers)
    _keep(run, loaded, found)
    if options.json:
        say_json({"model": loaded.name, **found.to_dict()})
        return 0
    _say(loaded.name, found)
    return 0


def _held_out(options: Namespace, loaded: "LoadedModel", root: DataRoot, show: OnProgress) -> "tuple[HeldOut, str]":
    """What is said of recordings that were not learned from, and in words which these are."""
    from pianistid_core.held_out import by_folds, hear

    if options.folds is not None:
        held = by_folds(loaded.config, root, folds=options.folds, progress=show)
        return held, f"training recordings, held out in {options.folds} folds"
    if options.part == "validation" and root.split(loaded.config.data_split_dir).validation_is_test:
        complain("note: this split has no validation part, so this is its test part: what is measured on it is used up")
        return hear(loaded, root, "test"), "test part"
    return hear(loaded, root, options.part), f"{options.part} part"


def _strangers(options: Namespace, loaded: "LoadedModel", root: DataRoot, show: OnProgress) -> dict[str, Any]:
    from pianistid_core.held_out import draws, leave_out, strangers_measured

    if not options.strangers:
        return {}
    found = []
    for number, names in enumerate(draws(loaded.class_names, options.strangers, options.left_out)):
        who = f"stranger draw {number + 1} of {options.strangers}"

        def told(phase: str, done: int, total: int, who: str = who) -> None:
            show(f"{who}, {phase}", done, total)

        found.append(leave_out(loaded.config, root, names, progress=told))
    return {"unknown": strangers_measured(found)}


def _fitted(
    loaded: "LoadedModel", root: DataRoot, held: "HeldOut", part: str, measured: dict[str, Any]
) -> "Calibration":
    from pianistid_core.calibrating import fit
    from pianistid_core.held_out import usual_in

    return fit(*held, part=part, usual=usual_in(root, loaded.config.data_split_dir), measured=measured)


def _keep(run: Run, loaded: "LoadedModel", found: "Calibration") -> None:
    from pianistid_core.calibration import CALIBRATION_FILE
    from pianistid_core.checkpoints import fingerprint

    try:
        run.save_json(
            CALIBRATION_FILE,
            {
                "checkpoint": loaded.path.name,
                "fingerprint": fingerprint(loaded.path),
                "calibration": found.to_dict(),
            },
        )
    except OSError as error:
        raise RunError(f"the calibration cannot be kept in {run.path}: {error.strerror or error}") from error


def _say(name: str, found: "Calibration") -> None:
    from pianistid_core.intervals import wilson

    measured = found.measured
    say(f"{name}, calibrated by {count(found.n_recordings, 'recording')}: {found.part}")
    say()
    say("Measured on a fifth of them at a time, fitted on the others:")
    say(f"expected calibration error {measured['ece']:.3f} of recordings, {measured['ece_clips']:.3f} of clips")
    say(
        f"the right one is among the candidates in {measured['coverage']:.3f} of recordings (wanted {found.coverage:g})"
    )
    say(f"there are {measured['candidates']:.2f} candidates on average, one alone in {measured['alone']:.3f}")
    say(f"{measured['false_alarms']:.3f} of recordings by known pianists are taken for somebody else's")
    say()
    say_table(
        ("said to be sure", "right", "of recordings", "95 % interval"),
        [
            (f"{sure:.3f}", f"{right / n:.3f}", n, "{:.3f} to {:.3f}".format(*(wilson(right, n) or (0, 1))))
            for sure, right, n in measured["bins"]
        ],
    )
    say()
    say_table(
        ("clips, from", "recordings", "named rightly", "coverage", "candidates"),
        [
            (row["from"], row["n_recordings"], row["accuracy"], row["coverage"], f"{row['candidates']:.2f}")
            for row in measured["by_clips"]
        ],
    )
    unknown = measured.get("unknown")
    if unknown:
        say()
        say(f"Pianists that a model never met, {count(len(unknown['draws']), 'draw')}:")
        say_table(
            ("left out", "AUROC", "caught"),
            [(", ".join(one["left_out"]), one["auroc"], one["caught"]) for one in unknown["draws"]],
        )
        say(
            f"AUROC {unknown['auroc']:.3f}; {unknown['caught']:.3f} of their recordings are found to be by none of the "
            f"known, where {unknown['false_alarms']:g} of the known ones' are"
        )
