"""`pianistid runs`: list, show, stop, delete and export runs; what keeps them in order is in `tidying`."""

import zipfile
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pianistid_core.atomic import replacing
from pianistid_core.audit import noting
from pianistid_core.commands.console import (
    add_data_root,
    add_json,
    complain,
    count,
    open_root,
    say,
    say_json,
    say_table,
)
from pianistid_core.commands.tidying import add_stop, add_tidying, say_runs, summary_data
from pianistid_core.errors import PianistIDError, RunError
from pianistid_core.heartbeat import BEAT_FILE
from pianistid_core.masking import masked
from pianistid_core.places import remote_place
from pianistid_core.run_config import find_run
from pianistid_core.runs import CONFIG_FILE, PLACE_FILE, QUEUED_FILE, REQUEST_FILE, STOP_KINDS, Run, list_runs

RUN_HELP = "experiment/run, a run folder, or a checkpoint in one"
_METRICS = (
    ("train_loss", "train loss"),
    ("train_clip_accuracy", "train clips"),
    ("test_loss", "test loss"),
    ("test_clip_accuracy", "test clips"),
    ("test_recording_accuracy", "test recordings"),
)
_SHOWN_EPOCHS = 10
# What only serves while a run goes on; of the checkpoints only the last is exported.
_NOT_EXPORTED = frozenset(
    ("lock", "launch.lock", "stop", "progress.json", "exit.json", BEAT_FILE, REQUEST_FILE, QUEUED_FILE, PLACE_FILE)
)


def add_runs(parser: ArgumentParser) -> None:
    """Adds the subcommands of `runs`."""
    commands = parser.add_subparsers(metavar="ACTION", required=True)

    listing = commands.add_parser("list", help="list runs, the newest first")
    listing.add_argument("--all", action="store_true", help="also those that are put away by `runs archive`")
    listing.set_defaults(handle=_list)

    show = commands.add_parser("show", help="show one run: state, metrics, files, the end of its log")
    show.add_argument("run", metavar="RUN", help=RUN_HELP)
    show.add_argument("--log", type=int, default=0, metavar="LINES", help="also print the last lines of its log")
    show.set_defaults(handle=_show)

    stop = commands.add_parser("stop", help="stop a run, keeping a checkpoint unless told otherwise")
    stop.add_argument("run", metavar="RUN", help=RUN_HELP)
    stop.add_argument(
        "--kind",
        choices=STOP_KINDS,
        default="save",
        help="save a checkpoint and end (default), finish with a last evaluation, or discard what is not saved",
    )
    stop.add_argument("--wait", action="store_true", help="return only when it has stopped")
    stop.set_defaults(handle=_stop)

    delete = commands.add_parser("delete", help="remove runs from disk")
    delete.add_argument("runs", metavar="RUN", nargs="+", help=RUN_HELP)
    add_stop(delete)
    delete.set_defaults(handle=_delete)

    export = commands.add_parser("export", help="pack a run into one zip: config, metrics, figures, last checkpoint")
    export.add_argument("run", metavar="RUN", help=RUN_HELP)
    export.add_argument("file", metavar="FILE.zip", help="the zip to write")
    export.add_argument("--overwrite", action="store_true", help="replace a file of that name")
    export.set_defaults(handle=_export)
    for command in (listing, show, stop, delete, export):
        add_data_root(command)
        add_json(command)
    add_tidying(commands)


def describe(run: Run) -> dict[str, Any]:
    """Everything about a run as plain data."""
    summary = run.summary()
    return {
        "id": run.id,
        "path": str(run.path),
        "place": asdict(place) if (place := remote_place(run)) else None,
        "created": summary.created,
        "state": asdict(summary.state),
        "best_recording_accuracy": summary.best_recording_accuracy,
        "progress": run.progress(),
        "metrics": run.metrics(),
        "checkpoints": [path.name for path in run.checkpoints()],
        "size_bytes": run.size_bytes(),
        "labels": summary.labels.to_dict(),
        "failure": asdict(failure) if (failure := run.failure()) else None,
    }


def export_run(run: Run, target: Path, *, overwrite: bool = False) -> int:
    """Packs a run into a zip, names relative to its folder, and gives the number of files in it.

    Of the checkpoints only the last is packed. The zip is written aside and renamed, so it is whole or not there.

    Raises
    ------
    RunError
        When the file exists already and `overwrite` is false, or its folder does not.
    """
    if target.is_dir():
        raise RunError(f"{str(target)!r} is a folder; name the zip to write")
    if target.exists() and not overwrite:
        raise RunError(f"{target} exists already; choose another name, or give --overwrite")
    if not target.absolute().parent.is_dir():
        raise RunError(f"{target.absolute().parent} is not a folder; make it first, or choose another")
    outdated = set(run.checkpoints()[:-1])
    n_files = 0
    with replacing(target) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(run.path.rglob("*")):
            name = path.relative_to(run.path).as_posix()
            hidden = any(part.startswith(".") for part in name.split("/"))
            if hidden or name in _NOT_EXPORTED or path in outdated or not path.is_file():
                continue
            packing = zipfile.ZIP_STORED if path.suffix in (".pth", ".png") else zipfile.ZIP_DEFLATED
            if name == CONFIG_FILE:  # one of before may hold the password of an MLflow server
                text = path.read_bytes().decode("utf-8", "surrogateescape")
                archive.writestr(name, masked(text).encode("utf-8", "surrogateescape"), packing)
            else:
                archive.write(path, name, packing)
            n_files += 1
    return n_files


def _list(options: Namespace) -> int:
    root = open_root(options.data_root)
    every = list_runs(root.checkpoints_dir)
    summaries = [run for run in every if options.all or not run.labels.archived]
    if options.json:
        say_json([summary_data(run) for run in summaries])
    elif every and not summaries:
        say(f"{count(len(every), 'run')} put away; `pianistid runs list --all` lists them")
    elif not summaries:
        say(f"there are no runs in {root.checkpoints_dir} yet; pianistid train --config FILE makes one")
    else:
        say_runs(summaries)
    return 0


def _show(options: Namespace) -> int:
    run = find_run(options.run, open_root(options.data_root))
    if options.json:
        log = {"log": run.log_tail(options.log)} if options.log > 0 else {}
        say_json({**describe(run), **log})
        return 0
    state, rows = run.state(), run.metrics()
    say(f"{run.id}: {state.status}{', ' + state.reason if state.reason else ''}")
    say(f"folder {run.path}, {run.size_bytes() / 1e6:,.1f} MB, {count(len(run.checkpoints()), 'checkpoint')}")
    if place := remote_place(run):
        say(f"on {place.in_words()}, with {place.cluster.in_words()}")
    labels, failure = run.labels(), run.failure()
    if labels.tags or labels.note:
        say("; ".join([*labels.tags, *labels.note.splitlines()]))
    if failure:
        say(f"{failure.kind}: {failure.hint}")
    progress = run.progress()
    if state.status == "running" and progress:
        say(f"now: epoch {progress.get('epoch')}, {progress.get('phase')} {progress.get('batch')}")
    if rows:
        say()
        shown = rows[-_SHOWN_EPOCHS:]
        say_table(
            ("epoch", *(title for _, title in _METRICS)),
            [(row["epoch"], *(row.get(key) for key, _ in _METRICS)) for row in shown],
        )
    if options.log > 0:
        say()
        for line in run.log_tail(options.log).splitlines():
            say(line)
    return 0


def _stop(options: Namespace) -> int:
    from pianistid_core import launch

    root = open_root(options.data_root)
    run = find_run(options.run, root)
    with noting(root, "stop", run.id, kind=options.kind):
        if options.wait:
            launch.stop_and_wait(run, options.kind)
        else:
            launch.stop(run, options.kind)
    if not run.path.is_dir():  # it waited in the queue and had never trained
        if options.json:
            say_json({"id": run.id, "removed": True})
        else:
            say(f"run {run.id} was taken out of the queue; it had not trained, so nothing of it is left")
    elif options.json:
        say_json(describe(run))
    else:
        say(f"run {run.id} " + (f"is {run.state().status}" if options.wait else "was asked to stop"))
    return 0


def _delete(options: Namespace) -> int:
    from pianistid_core.launch import bring_to_rest

    root = open_root(options.data_root)
    deleted: list[str] = []
    failed = False
    for name in options.runs:
        try:
            run = find_run(name, root)
            with noting(root, "delete", run.id):
                if not options.stop or bring_to_rest(run):
                    with run.launching():
                        run.delete()
            deleted.append(run.id)
        except PianistIDError as error:
            complain(str(error))
            failed = True
    if options.json:
        say_json({"deleted": deleted})
    else:
        for id in deleted:
            say(f"run {id} is deleted")
    return 1 if failed else 0


def _export(options: Namespace) -> int:
    root = open_root(options.data_root)
    run = find_run(options.run, root)
    target = Path(options.file)
    with noting(root, "export", run.id, file=str(target)):
        n_files = export_run(run, target, overwrite=options.overwrite)
    if options.json:
        say_json({"run": run.id, "file": str(target), "files": n_files, "bytes": target.stat().st_size})
    else:
        say(f"run {run.id} is in {target}: {count(n_files, 'file')}, {target.stat().st_size / 1e6:,.1f} MB")
    return 0
