"""`pianistid audit`: who did what in a data root, when, from where, and how it ended."""

import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from datetime import UTC, datetime, timedelta

from pianistid_core.audit import Entry, entries, folder_of
from pianistid_core.commands.console import add_data_root, add_json, open_root, say, say_json, say_table

_SPAN = re.compile(r"(\d{1,4})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def add_audit(parser: ArgumentParser) -> None:
    """Adds the options of `audit`."""
    parser.add_argument("--who", metavar="NAME", help="only what this person did")
    parser.add_argument("--what", metavar="ACTION", help="only this action, such as start, stop, delete or import")
    parser.add_argument("--about", metavar="TEXT", help="only what was done to runs or data with this in their name")
    parser.add_argument(
        "--since", metavar="TIME", type=_moment, help="only from then on: 2026-11-27, 2026-11-27T09:30, 90m, 24h or 7d"
    )
    parser.add_argument("--last", metavar="N", type=_count, default=50, help="at most so many lines (default 50)")
    add_data_root(parser)
    add_json(parser)
    parser.set_defaults(handle=_audit)


def _audit(options: Namespace) -> int:
    root = open_root(options.data_root)
    found = entries(
        root, options.last, who=options.who, what=options.what, about=options.about, since=options.since
    )  # fmt: skip
    if options.json:
        say_json([entry.to_dict() for entry in found])
    elif not found:
        say(f"nothing of the kind is in {folder_of(root)}")
    else:
        say_table(("when", "who", "what", "about", "from", "ended"), [_row(entry) for entry in reversed(found)])
    return 0


def _row(entry: Entry) -> tuple[str, ...]:
    when = entry.when.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    ended = f"{entry.ended}: {entry.why}" if entry.why else entry.ended
    return when, entry.who, entry.what, entry.about, entry.where, ended


def _moment(text: str) -> datetime:
    span = _SPAN.fullmatch(text.strip().lower())
    if span:
        return datetime.now(UTC) - timedelta(**{_UNITS[span[2]]: int(span[1])})
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no time; give one such as 2026-11-27, 2026-11-27T09:30 or 24h") from None
    return when if when.tzinfo is not None else when.astimezone()


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise ArgumentTypeError(f"got {text!r}; give a whole number from 1 to 100000")
    return int(text)
