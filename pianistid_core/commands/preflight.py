"""`pianistid preflight`: try everything that a run will do, and say how long the whole will take."""

from argparse import ArgumentParser, Namespace
from dataclasses import asdict

from pianistid_core.commands.configs import add_set
from pianistid_core.commands.console import add_data_root, add_json, duration, open_root, say, say_json
from pianistid_core.config import load_config
from pianistid_core.preflight import Check, Estimate, Range, Speed, run_preflight
from pianistid_core.preflight_speed import Reached, reached
from pianistid_core.run_index import RunIndex


def add_preflight(parser: ArgumentParser) -> None:
    """Adds the options of `preflight`."""
    parser.add_argument("--config", metavar="FILE", required=True, help="a YAML file, or a name below config/")
    add_set(parser)
    parser.add_argument(
        "--timeout", type=float, default=600.0, metavar="SECONDS", help="give up after so long (default: 600)"
    )
    parser.add_argument(
        "--compare", action="store_true", help="also measure a step as the reference computes it, and fast"
    )
    add_data_root(parser)
    add_json(parser)
    parser.set_defaults(handle=_preflight)


def _preflight(options: Namespace) -> int:
    root = open_root(options.data_root)
    config = load_config(options.config, overrides=options.set)
    found = run_preflight(
        config,
        root,
        on_check=(lambda check: None) if options.json else _say_check,
        timeout_s=options.timeout,
        compare=options.compare,
    )
    accuracies = reached(config, RunIndex(root.checkpoints_dir)) if found.speeds else {}
    if options.json:
        say_json(found.to_dict() | {"reached": {kind: asdict(run) for kind, run in accuracies.items()}})
        return 0 if found.ok else 1
    lines = [] if found.estimate is None else estimate_in_words(found.estimate)
    for line in (*lines, *(speed_in_words(speed, accuracies.get(speed.kind)) for speed in found.speeds)):
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


def speed_in_words(speed: Speed, run: Reached | None) -> str:
    """A kind of step as a line for people, with the accuracy of a run that took such steps."""
    if speed.trouble:
        return f"{speed.kind}: {speed.trouble}"
    of_run = "no finished run to tell the accuracy by" if run is None else f"accuracy {run.accuracy:.3f} ({run.run_id})"
    times = f"{1000 * speed.step_s:,.0f} ms a step, the first {1000 * speed.first_s:,.0f} ms"
    return f"{speed.kind}: {times}; {speed.memory_bytes / 1e6:,.0f} MB; {of_run}"


def _time(of: Range) -> str:
    return f"{_short(of.likely)} ({_short(of.low)} to {_short(of.high)})"


def _short(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


def _size(of: Range) -> str:
    return f"{of.likely / 1e6:,.0f} MB ({of.low / 1e6:,.0f} to {of.high / 1e6:,.0f})"
