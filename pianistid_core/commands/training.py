"""`pianistid train`: train by a config, here or in the background, or go on with a run.

Under torchrun each of its processes runs this command; the first answers, the others speak only of errors.
"""

import logging
import shlex
from argparse import ArgumentParser, Namespace
from pathlib import Path

from pianistid_core.audit import machine_user, note, noting
from pianistid_core.commands.cluster import add_ray, chosen_cluster
from pianistid_core.commands.configs import add_set
from pianistid_core.commands.console import (
    add_data_root,
    add_json,
    open_root,
    progress,
    say,
    say_json,
)
from pianistid_core.commands.runs import describe
from pianistid_core.config import RunConfig, load_config
from pianistid_core.datasets.root import PARTS, DataRoot, require_clips
from pianistid_core.errors import RunError
from pianistid_core.peer_watch import is_first, under_torchrun
from pianistid_core.places import cluster_of
from pianistid_core.run_config import config_to_resume, find_run, run_for
from pianistid_core.run_starter import remember_starter
from pianistid_core.runs import REQUEST_FILE, Run

_LOAD = "checkpoint_cfg.load_checkpoints"


def add_train(parser: ArgumentParser) -> None:
    """Adds the options of `train`."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", metavar="FILE", help="a YAML file, or a name below config/, such as demo.yaml")
    what.add_argument("--resume", metavar="RUN", help="go on with a run by its own config: experiment/run or a folder")
    add_set(parser)
    parser.add_argument("--restart", action="store_true", help="start again from nothing; older checkpoints are lost")
    parser.add_argument("--background", action="store_true", help="train in a process of its own and return at once")
    add_ray(parser)
    add_data_root(parser)
    add_json(parser)
    parser.set_defaults(handle=_train, log_level=logging.INFO if is_first() else logging.ERROR)


def _train(options: Namespace) -> int:
    if options.background and under_torchrun():
        raise RunError("torchrun waits for its processes, and --background leaves them; give one of the two")
    root = open_root(options.data_root)
    cluster = chosen_cluster(options, root)
    if cluster is not None and not options.background:
        raise RunError("a run on a Ray cluster is followed by a process of its own; give --background with --ray")
    config, run = _config_and_run(options, root)
    # Asked before the run's folder is made, so that a slip in a name leaves nothing behind.
    split = root.split(config.data_split_dir)
    for part in PARTS:
        require_clips(root, split, part)
    if options.background:
        from pianistid_core import launch

        # A run goes on where it trained before, unless it is told where.
        with noting(root, "resume" if run else "start", run_for(config, root).id):
            started = launch.start(config, root, cluster=cluster or (cluster_of(run) if run else None))
        remember_starter(started, machine_user())
        if options.json:
            say_json(describe(started))
        else:
            show = f"pianistid runs show {shlex.quote(started.id)}"
            say(f"run {started.id} starts in the background; `{show}` tells how it goes")
        return 0

    here = run or run_for(config, root)
    if is_first() and not _is_handed_over(options, here):
        note(root, machine_user(), "resume" if run else "start", here.id, ended="begun")
    return _train_here(config, root, here, as_json=options.json)


def _is_handed_over(options: Namespace, run: Run) -> bool:
    """Whether this is the trainer of a run that somebody started elsewhere, which is written down there."""
    return options.config is not None and Path(options.config).absolute() == run.path / REQUEST_FILE


def _train_here(config: RunConfig, root: DataRoot, run: Run, *, as_json: bool) -> int:
    from pianistid_core import training
    from pianistid_core.devices import keep_memory
    from pianistid_core.peers import Peers, RefusedByFirst

    keep_memory()
    peers = Peers.from_environment()
    if not peers.first:
        try:
            training.train(config, root, run, peers=peers)
        except RefusedByFirst:  # which says why
            return 1
        return 0
    with progress("batches") as shown:
        state = training.train(config, root, run, on_progress=shown.show, peers=peers)
    if as_json:
        say_json(describe(run))
    else:
        say(f"run {run.id} {state.status}{': ' + state.reason if state.reason else ''}; it is in {run.path}")
    return 0


def _config_and_run(options: Namespace, root: DataRoot) -> tuple[RunConfig, Run | None]:
    """The config to train by, and the run to go on with where one was named."""
    overrides = [*options.set]
    if options.restart:
        overrides.append(f"{_LOAD}=false")
    if options.config is not None:
        return load_config(options.config, overrides=overrides), None
    if options.restart:
        raise RunError("--resume goes on and --restart starts again; give one of them")
    run = find_run(options.resume, root)
    return config_to_resume(run, root, overrides=overrides), run
