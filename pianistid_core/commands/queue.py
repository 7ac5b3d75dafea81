"""`pianistid queue`: runs that wait, here one trained after the other."""

from argparse import ArgumentParser, Namespace
from typing import Any

from pianistid_core.audit import machine_user, noting
from pianistid_core.commands.cluster import add_ray, chosen_cluster
from pianistid_core.commands.configs import add_set
from pianistid_core.commands.console import add_data_root, add_json, count, open_root, say, say_json, say_table
from pianistid_core.config import load_config
from pianistid_core.errors import RunError
from pianistid_core.places import cluster_data
from pianistid_core.run_config import run_for
from pianistid_core.run_queue import QueueEntry, RunQueue
from pianistid_core.run_starter import remember_starter
from pianistid_core.runs import describe_time

_ENTRY_HELP = "a waiting run, as experiment/run, or its place in the queue from 1"


def add_queue(parser: ArgumentParser) -> None:
    """Adds the subcommands of `queue`."""
    commands = parser.add_subparsers(metavar="ACTION", required=True)

    listing = commands.add_parser("list", help="list the runs that wait, the next first")
    listing.set_defaults(handle=_list)

    add = commands.add_parser("add", help="put a run at the end of the queue; it starts when nothing else trains")
    add.add_argument("--config", metavar="FILE", required=True, help="a YAML file, or a name below config/")
    add_set(add)
    add_ray(add)
    add.set_defaults(handle=_add)

    move = commands.add_parser("move", help="move a waiting run to another place")
    move.add_argument("entry", metavar="RUN", help=_ENTRY_HELP)
    move.add_argument("place", metavar="PLACE", type=int, help="the new place, 1 being the next to start")
    move.set_defaults(handle=_move)

    remove = commands.add_parser("remove", help="take runs out of the queue; what never trained leaves no folder")
    remove.add_argument("entries", metavar="RUN", nargs="+", help=_ENTRY_HELP)
    remove.set_defaults(handle=_remove)

    pause = commands.add_parser("pause", help="start no further run; one that trains goes on")
    pause.set_defaults(handle=_pause)
    unpause = commands.add_parser("unpause", help="go on with starting runs")
    unpause.set_defaults(handle=_unpause)
    for command in (listing, add, move, remove, pause, unpause):
        add_data_root(command)
        add_json(command)


def _queue(options: Namespace) -> RunQueue:
    return RunQueue(open_root(options.data_root))


def _list(options: Namespace) -> int:
    queue = _queue(options)
    queue.wake()
    if options.json:
        _say_queue(queue)
        return 0
    entries = queue.entries()
    if entries:
        rows = [
            (place, entry.run_id, entry.epochs, describe_time(entry.queued), _where(entry))
            for place, entry in enumerate(entries, start=1)
        ]
        say_table(("place", "run", "epochs", "queued", "where"), rows)
    else:
        say("no run waits; `pianistid queue add --config FILE` queues one")
    if queue.paused:
        say("the queue is paused; `pianistid queue unpause` goes on")
    return 0


def _add(options: Namespace) -> int:
    queue = _queue(options)
    cluster = chosen_cluster(options, queue.root)
    config = load_config(options.config, overrides=options.set)
    with noting(queue.root, "queue add", f"{config.experiment}/{config.run}"):
        (entry,) = queue.add([config], cluster=cluster)
    remember_starter(run_for(config, queue.root), machine_user())
    if options.json:
        say_json(_described(entry))
    else:
        waits = "; the queue is paused" if queue.paused else ""
        say(f"run {entry.run_id} is queued{waits}; `pianistid queue list` shows what waits")
    return 0


def _move(options: Namespace) -> int:
    queue = _queue(options)
    entry = _find(queue, options.entry)
    with noting(queue.root, "queue move", entry.run_id):
        queue.move(entry.id, options.place - 1)
    return _done(queue, options, f"run {entry.run_id} was moved to place {_place(queue, entry)}")


def _remove(options: Namespace) -> int:
    queue = _queue(options)
    entries = [_find(queue, name) for name in options.entries]
    for entry in entries:
        with noting(queue.root, "queue remove", entry.run_id):
            queue.remove(entry.id)
    return _done(queue, options, f"{count(len(entries), 'run')} taken out of the queue")


def _pause(options: Namespace) -> int:
    queue = _queue(options)
    with noting(queue.root, "queue pause"):
        queue.pause()
    return _done(queue, options, "the queue is paused; a run that trains goes on")


def _unpause(options: Namespace) -> int:
    queue = _queue(options)
    with noting(queue.root, "queue unpause"):
        queue.unpause()
    return _done(queue, options, "the queue goes on")


def _done(queue: RunQueue, options: Namespace, text: str) -> int:
    if options.json:
        _say_queue(queue)
    else:
        say(text)
    return 0


def _say_queue(queue: RunQueue) -> None:
    say_json({"paused": queue.paused, "waiting": [_described(entry) for entry in queue.entries()]})


def _described(entry: QueueEntry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "run": entry.run_id,
        "epochs": entry.epochs,
        "queued": entry.queued,
        "cluster": cluster_data(entry.cluster),
    }


def _where(entry: QueueEntry) -> str:
    return "here" if entry.cluster is None else entry.cluster.address


def _place(queue: RunQueue, entry: QueueEntry) -> int:
    return next((place for place, other in enumerate(queue.entries(), start=1) if other.id == entry.id), 0)


def _find(queue: RunQueue, name: str) -> QueueEntry:
    entries = queue.entries()
    for place, entry in enumerate(entries, start=1):
        if name in (entry.run_id, entry.id, str(place)):
            return entry
    waiting = ", ".join(entry.run_id for entry in entries[:5]) + (", ..." if len(entries) > 5 else "") or "none"
    raise RunError(f"no run {name!r} waits in the queue; those that wait: {waiting}")
