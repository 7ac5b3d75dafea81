"""`pianistid sweep`: queue a run for every combination of values and seeds."""

from argparse import ArgumentParser, Namespace

from pianistid_core.audit import machine_user, noting
from pianistid_core.commands.configs import add_set
from pianistid_core.commands.console import add_data_root, add_json, count, open_root, say, say_json, say_table
from pianistid_core.config import RunConfig, config_fields, difference, load_config, to_dict
from pianistid_core.datasets.root import DataRoot
from pianistid_core.run_config import run_for
from pianistid_core.run_queue import RunQueue
from pianistid_core.run_starter import remember_starter
from pianistid_core.sweep import parse_axes, parse_values, sweep

_NOT_SHOWN = ("run",)


def add_sweep(parser: ArgumentParser) -> None:
    """Adds the options of `sweep`."""
    parser.add_argument("--config", metavar="FILE", required=True, help="a YAML file, or a name below config/")
    add_set(parser)
    parser.add_argument(
        "--over",
        action="append",
        default=[],
        metavar="KEY=V1,V2",
        help="a key and the values to try, such as optim_cfg.lr=0.01,0.003 or batch_size=1..4; up to two of these",
    )
    parser.add_argument("--seeds", default="", metavar="S1,S2", help="seeds to repeat each with, such as 1,2,3 or 1..3")
    parser.add_argument("--dry-run", action="store_true", help="only list the runs; queue nothing")
    add_data_root(parser)
    add_json(parser)
    parser.set_defaults(handle=_sweep)


def _sweep(options: Namespace) -> int:
    root = open_root(options.data_root)
    config = load_config(options.config, overrides=options.set)
    axes = parse_axes(config, options.over)
    seed = next(info for info in config_fields(to_dict(config)) if info.key == "seed")
    seeds = parse_values(options.seeds, seed) if options.seeds else ()
    runs = sweep(config, axes, seeds)
    if not options.dry_run:
        with noting(root, "queue add", ", ".join(f"{run.experiment}/{run.run}" for run in runs)):
            RunQueue(root).add(runs)
        for run in runs:
            remember_starter(run_for(run, root), machine_user())
    if options.json:
        say_json([{"run": f"{run.experiment}/{run.run}", "differs": _differs(config, run)} for run in runs])
        return 0
    rows = [
        (f"{run.experiment}/{run.run}", ", ".join(f"{key}={value}" for key, value in _differs(config, run).items()))
        for run in runs
    ]
    say_table(("run", "differs in"), rows)
    say(_outcome(len(runs), options.dry_run, root))
    return 0


def _outcome(n_runs: int, dry_run: bool, root: DataRoot) -> str:
    if dry_run:
        return f"{count(n_runs, 'run')}; without --dry-run they are queued"
    waits = "; the queue is paused" if RunQueue(root).paused else ""
    return f"{count(n_runs, 'run')} queued{waits}; `pianistid queue list` shows what waits"


def _differs(config: RunConfig, run: RunConfig) -> dict[str, object]:
    return {key: theirs for key, _, theirs in difference(config, run) if key not in _NOT_SHOWN and theirs is not None}
