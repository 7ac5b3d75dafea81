"""`pianistid runs tag|note|star|archive|trash|restore|find`: keep many runs in order."""

import argparse
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from pianistid_core import trash
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
from pianistid_core.errors import PianistIDError
from pianistid_core.places import cluster_data, cluster_of
from pianistid_core.run_config import find_run
from pianistid_core.run_filter import parse_filter
from pianistid_core.run_index import RunIndex
from pianistid_core.runs import Run, RunLabels, RunSummary, describe_time

_RUN = "experiment/run, or a run folder"


def add_tidying(commands: "argparse._SubParsersAction[ArgumentParser]") -> None:
    """Adds the subcommands of `runs` that keep runs in order."""
    tag = commands.add_parser("tag", help="give a run tags, or take them away")
    tag.add_argument("run", metavar="RUN", help=_RUN)
    tag.add_argument("tags", metavar="TAG", nargs="+", help="a short word")
    tag.add_argument("--remove", action="store_true", help="take these tags away")
    tag.set_defaults(handle=_tag)

    note = commands.add_parser("note", help="write a note on a run; an empty text removes it")
    note.add_argument("run", metavar="RUN", help=_RUN)
    note.add_argument("text", metavar="TEXT", help="what to remember of it")
    note.set_defaults(handle=_note)

    star = commands.add_parser("star", help="mark runs with a star")
    star.set_defaults(handle=_star)
    archive = commands.add_parser("archive", help="put runs away, so that lists leave them out")
    archive.set_defaults(handle=_archive)
    for parser in (star, archive):
        parser.add_argument("runs", metavar="RUN", nargs="+", help=_RUN)
        parser.add_argument("--off", action="store_true", help="take it back")

    throw = commands.add_parser("trash", help="move runs to the trash, show what is in it, or empty it")
    throw.add_argument("runs", metavar="RUN", nargs="*", help=_RUN + "; with none, what is in the trash is shown")
    add_stop(throw)
    throw.add_argument("--empty", action="store_true", help="remove for good what is in the trash")
    throw.set_defaults(handle=_trash)

    restore = commands.add_parser("restore", help="put runs from the trash back")
    restore.add_argument("ids", metavar="ID", nargs="+", help="as `runs trash` shows it, or the name of the run")
    restore.set_defaults(handle=_restore)

    find = commands.add_parser("find", help="list the runs that a filter means, the newest first")
    find.add_argument(
        "filter",
        metavar="EXPR",
        help="such as 'accuracy > 0.7 and optim_cfg.lr < 0.01', or part of a name, tag or note",
    )
    find.set_defaults(handle=_find)
    for parser in (tag, note, star, archive, throw, restore, find):
        add_data_root(parser)
        add_json(parser)


def add_stop(parser: ArgumentParser) -> None:
    """Adds the option to stop a run that is to go."""
    parser.add_argument(
        "--stop",
        action="store_true",
        help="stop it first, if it runs or waits in the queue, and wait until it has ended",
    )


def summary_data(run: RunSummary) -> dict[str, Any]:
    """One line of a list of runs as plain data."""
    return {
        "id": run.id,
        "path": str(run.path),
        "cluster": cluster_data(cluster_of(Run(run.path))),
        "created": run.created,
        "state": asdict(run.state),
        "best_recording_accuracy": run.best_recording_accuracy,
        "seconds": run.seconds,
        "labels": run.labels.to_dict(),
        "last": dict(run.last),
    }


def say_runs(summaries: Sequence[RunSummary]) -> None:
    """Prints a table of runs; a star stands before those that have one."""
    rows = [
        (
            ("* " if run.labels.starred else "") + run.id,
            run.state.status,
            f"{run.state.epoch}/{run.state.epochs or '?'}",
            run.best_recording_accuracy,
            describe_time(run.created),
            "here" if (cluster := cluster_of(Run(run.path))) is None else cluster.address,
            ", ".join(run.labels.tags),
        )
        for run in summaries
    ]
    say_table(("run", "state", "epoch", "best", "made", "where", "tags"), rows)


def _tag(options: Namespace) -> int:
    root = open_root(options.data_root)
    run = find_run(options.run, root)
    named = {tag.casefold() for tag in options.tags}

    def tag(labels: RunLabels) -> RunLabels:
        kept = tuple(tag for tag in labels.tags if tag.casefold() not in named)
        return replace(labels, tags=kept if options.remove else (*kept, *options.tags))

    with noting(root, "label", run.id):
        kept = run.relabel(tag)
    return _say(options, run, kept)


def _note(options: Namespace) -> int:
    root = open_root(options.data_root)
    run = find_run(options.run, root)
    with noting(root, "label", run.id):
        kept = run.relabel(lambda labels: replace(labels, note=options.text))
    return _say(options, run, kept)


def _say(options: Namespace, run: Run, kept: RunLabels) -> int:
    if options.json:
        say_json({"id": run.id, **kept.to_dict()})
    else:
        said = [f"tags {', '.join(kept.tags)}"] if kept.tags else []
        said += [f"note {kept.note}"] if kept.note else []
        say(f"run {run.id}: {'; '.join(said) or 'no tags and no note'}")
    return 0


def _star(options: Namespace) -> int:
    def star(run: Run) -> str:
        run.relabel(lambda labels: replace(labels, starred=not options.off))
        return "has no star" if options.off else "has a star"

    return _each(options, "label", star)


def _archive(options: Namespace) -> int:
    def archive(run: Run) -> str:
        run.relabel(lambda labels: replace(labels, archived=not options.off))
        return "is back in the list" if options.off else "is put away"

    return _each(options, "label", archive)


def _trash(options: Namespace) -> int:
    root = open_root(options.data_root)
    checkpoints_dir = root.checkpoints_dir
    if options.runs:
        return _each(options, "delete", lambda run: _throw(run, stop=options.stop))
    if options.empty:
        with noting(root, "empty trash", ", ".join(one.run_id for one in trash.discarded(checkpoints_dir))):
            n_removed = trash.empty(checkpoints_dir)
        if options.json:
            say_json({"removed": n_removed})
        else:
            say(f"{count(n_removed, 'run')} removed for good")
        return 0
    found = trash.discarded(checkpoints_dir)
    if options.json:
        say_json([asdict(one) for one in found])
    elif not found:
        say("the trash is empty")
    else:
        rows = [(one.id, one.run_id, describe_time(one.when), f"{one.size_bytes / 1e6:,.1f} MB") for one in found]
        say_table(("id", "run", "discarded", "size"), rows)
    return 0


def _throw(run: Run, *, stop: bool) -> str:
    from pianistid_core.launch import stop_and_discard

    thrown = stop_and_discard(run) if stop else trash.discard(run)
    if thrown is None:
        return "was taken out of the queue; it had not trained, so nothing of it is left"
    return f"is in the trash as {thrown.id}"


def _restore(options: Namespace) -> int:
    root = open_root(options.data_root)
    checkpoints_dir = root.checkpoints_dir
    latest = {one.run_id: one.id for one in reversed(trash.discarded(checkpoints_dir))}

    def restore(name: str) -> tuple[str, str]:
        with noting(root, "restore", name):
            return trash.restore(checkpoints_dir, latest.get(name, name)).id, "is back"

    return _report(options, options.ids, restore)


def _find(options: Namespace) -> int:
    wanted = parse_filter(options.filter)
    index = RunIndex(open_root(options.data_root).checkpoints_dir)
    found = [run for run in index.summaries() if wanted.matches(run, index.config(run) if wanted.needs_config else {})]
    if options.json:
        say_json([summary_data(run) for run in found])
    elif not found:
        say("no run is meant by this filter")
    else:
        say_runs(found)
    return 0


def _each(options: Namespace, what: str, change: Callable[[Run], str]) -> int:
    root = open_root(options.data_root)

    def one(name: str) -> tuple[str, str]:
        run = find_run(name, root)
        with noting(root, what, run.id):
            return run.id, change(run)

    return _report(options, options.runs, one)


def _report(options: Namespace, names: Sequence[str], change: Callable[[str], tuple[str, str]]) -> int:
    """Changes one run after the other and says what became of each; one that is refused does not stop the others."""
    done: list[tuple[str, str]] = []
    failed = False
    for name in names:
        try:
            done.append(change(name))
        except PianistIDError as error:
            complain(str(error))
            failed = True
    if options.json:
        say_json({"changed": [id for id, _ in done]})
    else:
        for id, what in done:
            say(f"run {id} {what}")
    return 1 if failed else 0
