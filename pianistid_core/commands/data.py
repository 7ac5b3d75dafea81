"""`pianistid data`: bring music into the data root, split it, check it, list what is there."""

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pianistid_core.audit import noting
from pianistid_core.commands.console import (
    add_data_root,
    add_json,
    count,
    duration,
    open_root,
    progress,
    say,
    say_json,
    say_table,
)
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import SplitError

if TYPE_CHECKING:
    from pianistid_core.datasets.importing import ImportReport

_SHOWN_LINES = 10


def add_data(parser: ArgumentParser) -> None:
    """Adds the subcommands of `data`."""
    commands = parser.add_subparsers(metavar="ACTION", required=True)
    summaries = {
        "import": ("bring in a zip, a folder or a CSV of MIDI files", _add_import),
        "fetch": ("download the paper's public archive", _add_fetch),
        "split": ("divide recordings into train, test and validation", _add_split),
        "check": ("examine a data root or a split for leaks, gaps and broken files", _add_check),
        "demo": ("compose the demo's virtual pianists", _add_demo),
        "list": ("list sources and splits", _add_list),
    }
    for name, (summary, add) in summaries.items():
        command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        add(command)
        add_data_root(command)
        add_json(command)


# --- import ----------------------------------------------------------------------------------------------------------


def _add_import(parser: ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a zip or folder in the archive's layout, one with a folder of MIDI files for each pianist, or a CSV with "
        "the columns file and pianist",
    )
    parser.add_argument("--name", help="what the source is called in the data root (default: from its file name)")
    parser.add_argument("--metadata", metavar="CSV", help="a table of albums, compositions and the like, by track")
    parser.add_argument("--workers", type=_positive, default=_processors(), help="processes that cut performances")
    parser.set_defaults(handle=_import)


def _import(options: Namespace) -> int:
    from pianistid_core.datasets.importing import import_source

    root = open_root(options.data_root)
    with progress("files") as shown, noting(root, "import", str(options.source)):
        report = import_source(
            root,
            options.source,
            name=options.name,
            metadata=options.metadata,
            progress=lambda done, total: shown.show("importing", done, total),
            workers=options.workers,
        )
    if options.json:
        say_json({**vars(report), "skipped": [vars(skipped) for skipped in report.skipped]})
        return 0
    _say_import(root, report)
    return 0


def _say_import(root: DataRoot, report: "ImportReport") -> None:
    say(
        f"imported into {root.path}: {count(report.recordings, 'recording')} ({report.unchanged:,} of them there before"
        f"), {count(report.clips, 'clip')}, {count(len(report.pianists), 'pianist')}, "
        f"{count(report.checkpoints, 'checkpoint')}"
    )
    if report.splits:
        say(f"splits: {', '.join(report.splits)}")
    elif not root.split_names():
        say("next: pianistid data split NAME")
    if report.ignored:
        say(f"{count(report.ignored, 'other file')} left alone")
    if report.skipped:
        say(f"skipped {len(report.skipped):,}:")
        _say_some([f"{skipped.name}: {skipped.reason}" for skipped in report.skipped])


def _say_some(lines: Sequence[str]) -> None:
    """Prints the first few of a list, and how many more there are."""
    for line in lines[:_SHOWN_LINES]:
        say(f"  {line}")
    if len(lines) > _SHOWN_LINES:
        say(f"  and {len(lines) - _SHOWN_LINES:,} more (--json lists them all)")


# --- split -----------------------------------------------------------------------------------------------------------


def _add_split(parser: ArgumentParser) -> None:
    from pianistid_core.datasets.splitting import DEFAULT_RATIOS, GROUPINGS

    parser.add_argument("name", metavar="NAME", help="what the split is called; a config names it as data_split_dir")
    parser.add_argument("--by", choices=GROUPINGS, default=GROUPINGS[0], help="what is never in two parts")
    parser.add_argument(
        "--ratios",
        nargs="+",
        type=_numbers,
        default=[list(DEFAULT_RATIOS)],
        metavar="SHARE",
        help="shares of train, test and validation (default: {} {} {})".format(*DEFAULT_RATIOS),
    )
    parser.add_argument("--minimum-minutes", type=float, default=0.0, metavar="M", help="leave out who has less music")
    parser.add_argument("--pianists", nargs="+", metavar="NAME", help="only these pianists")
    parser.add_argument("--sources", nargs="+", metavar="NAME", help="only these folders of data/clips")
    parser.add_argument("--metadata", metavar="CSV", help="a table of albums and compositions, by track")
    parser.add_argument("--seed", type=int, default=42, help="same seed, same files (default: 42)")
    kept = parser.add_mutually_exclusive_group()
    kept.add_argument("--preview", action="store_true", help="show the split without writing it")
    kept.add_argument("--overwrite", action="store_true", help="replace a split of that name")
    parser.set_defaults(handle=_split)


def _split(options: Namespace) -> int:
    from pianistid_core.datasets.splitting import make_split, preview_split

    arguments: dict[str, Any] = {
        "by": options.by,
        "ratios": [share for shares in options.ratios for share in shares],
        "minimum_minutes": options.minimum_minutes,
        "pianists": options.pianists,
        "sources": options.sources,
        "seed": options.seed,
        "metadata": Path(options.metadata) if options.metadata else None,
    }
    root = open_root(options.data_root)
    if options.preview:
        plan = preview_split(root, options.name, **arguments)
    else:
        with noting(root, "split", options.name):
            plan = make_split(root, options.name, **arguments, overwrite=options.overwrite)
    if options.json:
        say_json({**plan.to_dict(), "written": not options.preview})
        return 0
    parts = list(plan.split.parts)
    rows: list[list[object]] = [
        [share.pianist, *(share.recordings[part] for part in parts), *(round(share.minutes[part]) for part in parts)]
        for share in plan.shares
    ]
    totals = [len(entries) for entries in plan.split.parts.values()]
    rows.append(["all", *totals, *(round(60 * plan.hours[part]) for part in parts)])
    say_table(["pianist", *(f"{part}" for part in parts), *(f"{part} min" for part in parts)], rows)
    for left_out in plan.left_out:
        say(f"left out: {left_out.pianist} ({left_out.minutes:.0f} min): {left_out.reason}")
    for warning in plan.warnings:
        say(f"note: {warning}")
    where = "nothing was written" if options.preview else f"written to {root.splits_dir / options.name}"
    say(f"split {options.name} by {plan.by}, seed {plan.seed}: {where}")
    return 0


# --- demo ------------------------------------------------------------------------------------------------------------


def _add_demo(parser: ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, help="same seed, same music (default: 0)")
    parser.add_argument("--name", default="demo", help="what source and split are called (default: demo)")
    parser.set_defaults(handle=_demo)


def _demo(options: Namespace) -> int:
    from pianistid_core.datasets.demo import make_demo

    root = open_root(options.data_root)
    with progress("recordings") as shown, noting(root, "demo", options.name):
        report = make_demo(
            root,
            name=options.name,
            seed=options.seed,
            progress=lambda done, total: shown.show("composing", done, total),
        )
    if options.json:
        say_json(report.to_dict())
        return 0
    say(
        f"{'composed' if report.created else 'there already'}: {count(report.recordings, 'recording')} by "
        f"{count(len(report.pianists), 'virtual pianist')}, {count(report.clips, 'clip')}, "
        f"{duration(report.duration_s)}, in {root.path}"
    )
    say(f"split {report.name}: " + ", ".join(f"{part} {number}" for part, number in report.parts.items()))
    if report.name == "demo":
        say("next: pianistid train --config demo.yaml")
    return 0


# --- fetch -----------------------------------------------------------------------------------------------------------


def _add_fetch(parser: ArgumentParser) -> None:
    from pianistid_core.datasets.fetching import API, RECORD

    parser.add_argument("--files", nargs="+", metavar="NAME", help="only these files (default: what training needs)")
    parser.add_argument("--list", action="store_true", help="list the record's files and fetch nothing")
    parser.add_argument("--again", action="store_true", help="fetch also what has been imported before")
    parser.add_argument("--record", default=RECORD, help=f"the Zenodo record (default: {RECORD}, the paper's)")
    parser.add_argument("--api", default=API, metavar="URL", help=f"the server to ask (default: {API})")
    parser.set_defaults(handle=_fetch)


def _fetch(options: Namespace) -> int:
    from pianistid_core.datasets.fetching import fetch_archive, list_files

    if options.list:
        files = list_files(options.record, api=options.api)
        if options.json:
            say_json([vars(file) for file in files])
        else:
            say_table(("file", "MB", "checksum"), [(file.name, file.size / 1e6, file.checksum) for file in files])
        return 0
    root = open_root(options.data_root)
    with progress("bytes or files") as shown, noting(root, "fetch", str(options.record)):
        report = fetch_archive(
            root,
            record=options.record,
            api=options.api,
            files=options.files,
            again=options.again,
            progress=shown.show,
        )
    imported = [{**vars(one), "skipped": [vars(skipped) for skipped in one.skipped]} for one in report.imports]
    if options.json:
        files_kept = [str(path) for path in report.kept]
        fetched, there = ([vars(file) for file in found] for found in (report.files, report.there))
        say_json({"files": fetched, "imports": imported, "kept": files_kept, "there": there})
        return 0
    for file in report.there:
        say(f"there already: {file.name}, imported into {root.path} before (--again fetches it anyway)")
    for file in report.files:
        say(f"fetched {file.name}, {file.size / 1e6:,.1f} MB")
    for one in report.imports:
        _say_import(root, one)
    for path in report.kept:
        say(f"kept as it is: {path}")
    return 0


# --- check -----------------------------------------------------------------------------------------------------------


def _add_check(parser: ArgumentParser) -> None:
    parser.description = "Examine a data root or a split; the exit status is 1 when there are errors."
    parser.add_argument("split", metavar="SPLIT", nargs="?", help="one split (default: all clips and every split)")
    parser.add_argument("--metadata", metavar="CSV", help="a table of albums and compositions, by track")
    parser.add_argument("--workers", type=_positive, default=_processors(), help="processes that read clips")
    parser.set_defaults(handle=_check)


def _check(options: Namespace) -> int:
    from pianistid_core.datasets.doctor import SEVERITIES, check

    root = open_root(options.data_root)
    with progress("clips") as shown:
        report = check(
            root,
            options.split,
            metadata=Path(options.metadata) if options.metadata else None,
            progress=lambda done, total: shown.show("reading clips", done, total),
            workers=options.workers,
        )
    if options.json:
        say_json(report.to_dict())
        return 0 if report.healthy else 1
    say_table(
        ("split", "part", "pianists", "recordings", "clips", "hours", "commonest"),
        [
            (
                one.split or "-",
                one.part or "-",
                one.pianists,
                one.recordings,
                one.clips,
                f"{one.hours:.1f}",
                one.baseline,
            )
            for one in report.parts
        ],
    )
    for finding in report.findings:
        say()
        say(f"{finding.severity}: {finding.title}" + (f" (split {finding.split})" if finding.split else ""))
        say(f"  {finding.message}")
        _say_some(finding.items)
    say()
    counts = {severity: len(report.by_severity(severity)) for severity in SEVERITIES}
    say(", ".join(count(number, severity) for severity, number in counts.items()))
    return 0 if report.healthy else 1


# --- list ------------------------------------------------------------------------------------------------------------


def _add_list(parser: ArgumentParser) -> None:
    parser.set_defaults(handle=_list)


def _list(options: Namespace) -> int:
    root = open_root(options.data_root)
    sources, splits = _sources(root), [_split_facts(root, name) for name in root.split_names()]
    if options.json:
        say_json({"data_root": str(root.path), "sources": sources, "splits": splits})
        return 0
    say(f"data root {root.path}" + ("" if root.writable() else " (read-only)"))
    if not sources and not splits:
        say(
            "there is nothing here yet; pianistid data import SOURCE brings music in, pianistid data demo composes some"
        )
        return 0
    if sources:
        say()
        say_table(("source", "recordings", "clips"), [tuple(source.values()) for source in sources])
    if splits:
        say()
        parts = ("train", "test", "validation")
        say_table(
            ("split", "pianists", *parts, "hours"),
            [
                (
                    split["name"],
                    split["pianists"],
                    *(split["recordings"].get(part) for part in parts),
                    f"{split['hours']:.1f}",
                )
                for split in splits
                if "error" not in split
            ],
        )
    for split in splits:
        if "error" in split:
            say(f"broken: {split['error']}")
    return 0


def _sources(root: DataRoot) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for track in root.tracks():
        source = track.partition("/")[0]
        facts = found.setdefault(source, {"name": source, "recordings": 0, "clips": 0})
        facts["recordings"] += 1
        facts["clips"] += len(root.clip_paths(track))
    return list(found.values())


def _split_facts(root: DataRoot, name: str) -> dict[str, Any]:
    try:
        split = root.split(name)
    except SplitError as error:
        return {"name": name, "error": str(error)}
    return {
        "name": name,
        "pianists": len(split.class_names),
        "recordings": {part: len(entries) for part, entries in split.parts.items()},
        "hours": sum(entry.duration_s for entries in split.parts.values() for entry in entries) / 3600,
    }


# --- kinds of argument -----------------------------------------------------------------------------------------------


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not a number, such as 0.8, nor three with commas") from error


def _processors() -> int:
    return min(8, os.cpu_count() or 1)
