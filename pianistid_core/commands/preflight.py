"""`pianistid preflight`: try everything that a run will do, and say how long the whole will take."""

from argparse import ArgumentParser, Namespace

from pianistid_core.commands.configs import add_set
from pianistid_core.commands.console import add_data_root, add_json, duration, open_root, say, say_json
from pianistid_core.config import load_config
from pianistid_core.preflight import Check, Estimate, Range, run_preflight


def add_preflight(parser: ArgumentParser) -> None:
    """Adds the options of `preflight`."""
    parser.add_argument("--config", metavar="FILE", required=True, help="a YAML file, or a name below config/")
    add_set(parser)
    parser.add_argument(
        "--timeout", type=float, default=600.0, metavar="SECONDS", help="give up after so long (default: 600)"
    )
    add_data_root(parser)
    add_json(parser)
    parser.set_defaults(handle=_preflight)


def _preflight(options: Namespace) -> int:
    root = open_root(options.data_root)
    config = load_config(options.config, overrides=options.set)
    found = run_preflight(
        config, root, on_check=(lambda check: None) if options.json else _say_check, timeout_s=options.timeout
    )
    if options.json:
        say_json(found.to_dict())
    elif found.estimate is not None:
        for line in estimate_in_words(found.estimate):
            say(line)
    return 0 if found.ok else 1


def _say_check(check: Check) -> None:
    say(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.detail} ({check.seconds:.1f} s)")


def estimate_in_words(estimate: Estimate) -> list[str]:
    """An estimate as lines for people."""
    return [
        f"an epoch takes {_time(estimate.epoch_s)}, the whole run {_time(estimate.total_s)}",
        f"memory {_size(estimate.memory_bytes)}; disk space {_size(estimate.disk_bytes)}",
    ]


def _time(of: Range) -> str:
    return f"{_short(of.likely)} ({_short(of.low)} to {_short(of.high)})"


def _short(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


def _size(of: Range) -> str:
    return f"{of.likely / 1e6:,.0f} MB ({of.low / 1e6:,.0f} to {of.high / 1e6:,.0f})"
