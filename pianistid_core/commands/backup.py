"""`pianistid backup` and `pianistid restore`: a data root, or runs of it, in one file, checked, and back."""

from argparse import ArgumentParser, Namespace
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pianistid_core.audit import noting
from pianistid_core.backups.layout import PARTS, Part
from pianistid_core.backups.manifest import Contents
from pianistid_core.backups.opening import check_backup
from pianistid_core.backups.packing import write_backup
from pianistid_core.backups.restoring import restore
from pianistid_core.commands.console import (
    add_data_root,
    add_json,
    complain,
    count,
    open_root,
    progress,
    say,
    say_json,
)
from pianistid_core.run_config import find_run
from pianistid_core.runs import describe_time

_WITHOUT: tuple[Part, ...] = tuple(part for part in PARTS if part != "runs")


def add_backup(parser: ArgumentParser) -> None:
    """Adds the options of `backup`."""
    parser.add_argument("file", metavar="FILE", help="the backup to write, such as lab.zip; with --check, to read")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--runs", metavar="RUN", nargs="+", help="only these: experiment/run, without the rest")
    chosen.add_argument("--check", action="store_true", help="compare every file in a backup with its SHA-256")
    parser.add_argument(
        "--with-data", action="store_true", help="with --runs: also the splits they train on, with their clips"
    )
    _add_without(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace a file of that name")
    add_data_root(parser)
    add_json(parser)
    parser.set_defaults(handle=_backup)


def add_restore(parser: ArgumentParser) -> None:
    """Adds the options of `restore`."""
    parser.add_argument("file", metavar="FILE", help="what `pianistid backup` or `pianistid runs export` has made")
    parser.add_argument(
        "--rename", action="store_true", help="give runs whose name is taken by another run another name"
    )
    _add_without(parser)
    add_data_root(parser)
    add_json(parser)
    parser.set_defaults(handle=_restore)


def _add_without(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--without", metavar="PART", nargs="+", default=[], choices=_WITHOUT, help=f"leave out {', '.join(_WITHOUT)}"
    )


def contents_data(contents: Contents) -> dict[str, Any]:
    """What a backup holds as plain data."""
    kept = {key: value for key, value in asdict(contents).items() if key not in ("entries", "artifacts")}
    return {**kept, "files": len(contents.entries), "bytes": contents.bytes}


def _backup(options: Namespace) -> int:
    target = Path(options.file)
    if options.check:
        return _check(target, options)
    root = open_root(options.data_root)
    runs = None if options.runs is None else [find_run(name, root) for name in options.runs]
    parts = set(PARTS) - set(options.without)
    if runs is not None and not options.with_data:
        parts.discard("data")
    about = str(target) if runs is None else ", ".join(run.id for run in runs)
    with progress("bytes") as shown, noting(root, "backup", about) if root.path.exists() else nullcontext():
        packed = write_backup(
            root, target, runs=runs, parts=parts, overwrite=options.overwrite,
            on_progress=lambda done, total: shown.show("packing", done, total),
        )  # fmt: skip
    if options.json:
        found = {**contents_data(packed.contents), "left_out": packed.left_out, "twins": packed.twins}
        say_json({"file": str(target), "packed_bytes": packed.bytes, **found})
        return 0
    say(f"{_held(packed.contents)} are in {target}, which is {packed.bytes / 1e6:,.1f} MB")
    if packed.contents.live:
        say(f"{_listed(packed.contents.live)}: still training, and packed at the last checkpoint")
    for one in packed.left_out[:20]:
        complain(f"left out: {one}")
    for one in packed.twins[:20]:
        complain(f"{one}: some disks take it for another name in the backup, which cannot be restored there")
    return 0


def _check(path: Path, options: Namespace) -> int:
    with progress("bytes") as shown:
        contents = check_backup(path, lambda done, total: shown.show("checking", done, total))
    if options.json:
        say_json({"file": str(path), "whole": True, **contents_data(contents)})
        return 0
    when = "" if contents.made is None else f", made {describe_time(contents.made)}"
    say(f"{path} is whole: {_held(contents)}{when}")
    return 0


def _restore(options: Namespace) -> int:
    path, root = Path(options.file), open_root(options.data_root)
    was_there = root.path.exists()  # a root that is made in vain goes again, so nothing is written down in it
    with progress("bytes") as shown, noting(root, "restore", str(path)) if was_there else nullcontext():
        done = restore(
            path, root, without=options.without, rename=options.rename,
            on_progress=lambda done, total: shown.show("restoring", done, total),
        )  # fmt: skip
    if not was_there:
        with noting(root, "restore", str(path)):
            pass
    if options.json:
        kept = {key: value for key, value in asdict(done).items() if key != "contents"}
        say_json({"file": str(path), "data_root": str(root.path), **kept})
        return 0
    what = f"{count(len(done.runs), 'run')}, {count(len(done.splits), 'split')}, {count(done.files, 'file')}"
    say(f"{what} came into {root.path}" + (f"; {done.already:,} things were there already" if done.already else ""))
    for before, now in done.renamed.items():
        say(f"{before} is here as {now}")
    for note in done.notes:
        say(note)
    return 0


def _held(contents: Contents) -> str:
    runs, splits = count(len(contents.runs), "run"), count(len(contents.splits), "split")
    return f"{runs}, {splits}, {count(len(contents.entries), 'file')} of {contents.bytes / 1e6:,.1f} MB"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
