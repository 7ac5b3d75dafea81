"""`pianistid box make`, `show` and `check`: the model that comes with the package."""

import logging
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pianistid_core.boxed import LICENCE, MOST_BYTES, Box, box_folder, load_box, read_box, weights_bytes
from pianistid_core.commands.configs import add_set
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
from pianistid_core.config import load_config
from pianistid_core.datasets.root import PARTS, DataRoot, require_clips
from pianistid_core.errors import DataError, PianistIDError, RunError
from pianistid_core.run_config import find_run, run_for
from pianistid_core.runs import Run

if TYPE_CHECKING:
    from pianistid_core.calibration import Calibration
    from pianistid_core.checkpoints import LoadedModel
    from pianistid_core.config import RunConfig

CONFIG = "box.yaml"
_TEST = "test part"
_TITLES = {20: "Twenty jazz pianists"}


def add_box(parser: ArgumentParser) -> None:
    """Adds the actions of `box`."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    make = actions.add_parser("make", help="train the model, measure it, and put both into the box")
    what = make.add_mutually_exclusive_group()
    what.add_argument("--config", metavar="FILE", default=CONFIG, help=f"the config to train by (default: {CONFIG})")
    what.add_argument("--run", metavar="RUN", help="put this finished run in, and train nothing; " + RUN_HELP)
    add_set(make)
    make.add_argument(
        "--seeds", type=int, nargs="+", default=[], metavar="N",
        help="train with these seeds too, and take the mean of the weights: for networks that are linear in them",
    )  # fmt: skip
    make.add_argument("--to", metavar="FOLDER", help="another folder than the package's own box")
    make.add_argument("--title", help="what the model is called (default: by the number of its pianists)")
    make.add_argument(
        "--folds",
        type=int,
        default=5,
        metavar="N",
        help="how many models are trained again to calibrate it (default: 5; 0: by the test part)",
    )
    make.add_argument(
        "--strangers", type=int, default=4, metavar="N",
        help="how many are trained without some pianists, to see whether it tells strangers (default: 4)",
    )  # fmt: skip
    make.add_argument(
        "--most", type=int, metavar="N", help="ask about so many recordings otherwise, evenly chosen (default: all)"
    )
    make.add_argument("--expressive", metavar="FOLDER", help="also measure clips as transcribed, in this folder")
    add_data_root(make)
    add_json(make)
    make.set_defaults(handle=_make, log_level=logging.INFO)
    for name, handle, words in (
        ("show", _show, "print the model card and what was measured"),
        ("check", _check, "prove that the weights are those of the card, that they load and answer"),
    ):
        action = actions.add_parser(name, help=words)
        action.add_argument("--from", dest="folder", metavar="FOLDER", help="another folder than the package's own box")
        add_data_root(action)
        add_json(action)
        action.set_defaults(handle=handle)


# --- make ------------------------------------------------------------------------------------------------------------


def _make(options: Namespace) -> int:
    from pianistid_core.boxed import as_boxed, averaged, write_box
    from pianistid_core.checkpoints import load_model

    if options.run and options.seeds:
        raise RunError("--run puts in what is trained, and --seeds trains more; give one of them")
    root = open_root(options.data_root)
    runs = [find_run(options.run, root)] if options.run else list(_trained(options, root))
    run = runs[0]
    loaded = as_boxed(averaged([load_model(one.path, root=root) for one in runs]))
    if loaded.calibration is None:
        loaded = replace(loaded, calibration=_calibrated(run, loaded, root, options))
    measured = _measured(loaded, root, options) | {"profiles": _profiles(run, root)}
    title = options.title or _TITLES.get(len(loaded.class_names), f"{len(loaded.class_names)} pianists")
    box = write_box(
        loaded,
        Path(options.to).expanduser() if options.to else box_folder(),
        title=title,
        measured=measured,
        made={
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "program": _program(),
            "command": " ".join(
                ["pianistid box make", *(["--seeds"] if options.seeds else []), *map(str, options.seeds)]
            ),
            "trainings": len(runs),
        },
    )
    if options.json:
        say_json(_facts(box))
        return 0
    right = box.right
    say(f"{box.title} is in {box.folder}, {box.weights.stat().st_size / 1e6:.1f} MB")
    if right is not None:
        say(f"it names the pianist of {right[0]:.3f} of {count(right[1], 'test recording')}; CARD.md there says more")
    return 0


def _trained(options: Namespace, root: DataRoot) -> Iterator[Run]:
    """The run of the config, and one for each further seed, trained to their ends: all but what is trained already."""
    from pianistid_core.devices import keep_memory

    config = load_config(options.config, overrides=options.set)
    split = root.split(config.data_split_dir)
    for part in PARTS:
        require_clips(root, split, part)
    keep_memory()
    yield _trained_once(config, root)
    for seed in options.seeds:
        yield _trained_once(replace(config, seed=seed, run=f"{config.run}-seed{seed}"), root)


def _trained_once(config: "RunConfig", root: DataRoot) -> Run:
    from pianistid_core import training

    run = run_for(config, root)
    with progress("batches") as shown:
        state = training.train(config, root, run, on_progress=shown.show)
    if state.status != "finished":
        raise RunError(f"run {run.id} {state.status} before its end, so nothing is put into the box; train it again")
    return run


def _calibrated(run: Run, loaded: "LoadedModel", root: DataRoot, options: Namespace) -> "Calibration | None":
    """A calibration by what models of the same config say of the training recordings that they are trained without.

    Without folds it is by the test part, and then no recording is left to test it on.
    """
    from pianistid_core.calibrating import fit
    from pianistid_core.calibration import CALIBRATION_FILE
    from pianistid_core.checkpoints import fingerprint
    from pianistid_core.held_out import by_folds, draws, hear, leave_out, strangers_measured, usual_in

    config, measured = loaded.config, {}
    try:
        with progress("batches") as shown:
            held = (
                by_folds(config, root, folds=options.folds, progress=shown.show)
                if options.folds
                else hear(loaded, root, "test")
            )
            strange = [
                leave_out(config, root, names, progress=shown.show)
                for names in draws(loaded.class_names, options.strangers)
            ]
        if strange:
            measured["unknown"] = strangers_measured(strange)
        part = f"training recordings, held out in {options.folds} folds" if options.folds else _TEST
        found = fit(*held, part=part, usual=usual_in(root, config.data_split_dir), measured=measured)
    except DataError as error:
        complain(f"note: the model is not calibrated: {error}")
        return None
    # So that a box that is made again need not train all of these again.
    kept = {"checkpoint": loaded.path.name, "fingerprint": fingerprint(loaded.path), "calibration": found.to_dict()}
    run.save_json(CALIBRATION_FILE, kept)
    return found


def _measured(loaded: "LoadedModel", root: DataRoot, options: Namespace) -> dict[str, Any]:
    import torch

    from pianistid_core.calibrating import measure
    from pianistid_core.datasets.cache import open_note_cache
    from pianistid_core.held_out import hear
    from pianistid_core.identify import Identifier
    from pianistid_core.measuring import measure_model
    from pianistid_core.robustness import measure_expressive, measure_robustness, recordings_of

    split = loaded.config.data_split_dir
    with progress("batches") as shown:
        test = measure_model(
            loaded,
            root,
            calibration=loaded.calibration,
            progress=lambda done, total: shown.show("measuring", done, total),
        )
    identifier = Identifier(loaded, torch.device("cpu"))
    recordings = recordings_of(open_note_cache(root, split, "test"))
    if options.most:
        recordings = recordings[:: max(1, -(-len(recordings) // options.most))]
    with progress("recordings") as shown:
        otherwise = measure_robustness(
            identifier,
            recordings,
            progress=lambda done, total: shown.show("the same music otherwise", done, total),
        )
    measured: dict[str, Any] = {"test": test, "robustness": otherwise}
    if loaded.calibration is not None and loaded.calibration.part != _TEST:
        measured["calibration"] = measure(loaded.calibration, hear(loaded, root, "test"))
    if options.expressive is not None:
        measured["expressive"] = measure_expressive(identifier, Path(options.expressive), root.split(split))
    return measured


def _profiles(run: Run, root: DataRoot) -> dict[str, Any]:
    """What it knows of each pianist, for the page that tells of that."""
    from pianistid_core.profiles import profiles

    with progress("clips") as shown:
        return profiles(run, root, "test", lambda done, total: shown.show("profiling", done, total)).to_dict()


def _program() -> str:
    from importlib import metadata

    try:
        return f"pianistid {metadata.version('pianistid')}"
    except metadata.PackageNotFoundError:
        return "pianistid"


# --- show and check --------------------------------------------------------------------------------------------------


def _show(options: Namespace) -> int:
    box = read_box(_folder(options))
    if options.json:
        say_json(_facts(box))
        return 0
    for line in box.card.splitlines():
        say(line)
    return 0


def _facts(box: Box) -> dict[str, Any]:
    return {
        "title": box.title,
        "folder": str(box.folder),
        "sha256": box.sha256,
        "bytes": box.weights.stat().st_size,
        "encoder_module": box.config.encoder_module,
        "class_names": list(box.class_names),
        "epoch": box.epoch,
        "calibration": box.calibration,
        "measured": box.measured,
        "made": box.made,
    }


def _folder(options: Namespace) -> Path | None:
    return Path(options.folder).expanduser() if options.folder else None


def _check(options: Namespace) -> int:
    checks: list[tuple[str, bool, str]] = []
    try:
        for check in (_weights_are_whole, _card_is_there, _answers):
            checks.append(check(_folder(options)))
    except PianistIDError as error:
        if not options.json:
            _say_checks(checks)
        complain(str(error))
        if options.json:
            say_json({"sound": False, "checks": [_plain(one) for one in checks], "error": str(error)})
        return 1
    sound = all(fine for _, fine, _ in checks)
    if options.json:
        say_json({"sound": sound, "checks": [_plain(one) for one in checks]})
    else:
        _say_checks(checks)
    return 0 if sound else 1


def _plain(check: tuple[str, bool, str]) -> dict[str, Any]:
    return dict(zip(("check", "sound", "words"), check, strict=True))


def _say_checks(checks: list[tuple[str, bool, str]]) -> None:
    if checks:
        say_table(("check", "sound", ""), [(name, "yes" if fine else "no", words) for name, fine, words in checks])


def _weights_are_whole(folder: Path | None) -> tuple[str, bool, str]:
    box = read_box(folder)
    size = len(weights_bytes(box))
    return "weights", True, f"{size / 1e6:.1f} of at most {MOST_BYTES / 1e6:g} MB, SHA-256 {box.sha256[:16]}..."


def _card_is_there(folder: Path | None) -> tuple[str, bool, str]:
    box = read_box(folder)
    missing = [
        words for words, there in (("the card", box.card), (LICENCE, (box.folder / LICENCE).is_file())) if not there
    ]
    return "card and licence", not missing, f"missing: {', '.join(missing)}" if missing else "there"


def _answers(folder: Path | None) -> tuple[str, bool, str]:
    """Asks the model who plays a tune that one of the demo's virtual pianists plays, whom it cannot know."""
    import numpy as np
    import torch

    from pianistid_core.datasets.demo.pianists import PIANISTS
    from pianistid_core.datasets.demo.playing import perform
    from pianistid_core.datasets.demo.tunes import TUNES
    from pianistid_core.identify import Identifier

    begun = time.perf_counter()
    identifier = Identifier(load_box(folder), torch.device("cpu"))
    loaded = time.perf_counter()
    answer = identifier.identify(perform(PIANISTS[0], TUNES[0], np.random.default_rng(0)).notes)
    done = time.perf_counter()
    fine = abs(sum(answer.probabilities.values()) - 1) < 1e-6 and len(answer.probabilities) == len(
        identifier.class_names
    )
    words = f"loaded in {loaded - begun:.2f} s, {answer.duration_s:.0f} s of music in {done - loaded:.2f} s"
    return "answers", fine, words
