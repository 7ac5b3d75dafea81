"""`pianistid cluster`: the Ray cluster of a data root; and the options by which `train` and `queue` use one."""

from argparse import ArgumentParser, Namespace
from dataclasses import asdict, replace

from pianistid_core.audit import noting
from pianistid_core.cluster import offer_of
from pianistid_core.commands.console import add_data_root, add_json, open_root, say, say_json
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import ClusterError
from pianistid_core.places import Cluster, checked, save_cluster, saved_cluster

_ADDRESS_HELP = "HOST:PORT on a machine of the cluster, or ray://HOST:PORT from any other"


def add_cluster(parser: ArgumentParser) -> None:
    """Adds the subcommands of `cluster`."""
    commands = parser.add_subparsers(metavar="ACTION", required=True)
    show = commands.add_parser("show", help="ask the cluster that is set what it has, and what is free")
    show.set_defaults(handle=_show)
    use = commands.add_parser("use", help="set the cluster that `--ray` without an address means")
    use.add_argument("ray", metavar="ADDRESS", help=_ADDRESS_HELP)
    _add_share(use)
    use.set_defaults(handle=_use)
    forget = commands.add_parser("forget", help="set none any more; runs that are there go on")
    forget.set_defaults(handle=_forget)
    for command in (show, use, forget):
        add_data_root(command)
        add_json(command)


def add_ray(parser: ArgumentParser) -> None:
    """Adds --ray and what a run gets there."""
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        nargs="?",
        const="",
        help=f"train on a Ray cluster: {_ADDRESS_HELP}; without an address, the one of `pianistid cluster use`",
    )
    _add_share(parser)


def chosen_cluster(options: Namespace, root: DataRoot) -> Cluster | None:
    """The cluster that the options name; None when they name none, which means this machine.

    Raises
    ------
    ClusterError
        When there is none to use, or the options contradict each other or describe none.
    """
    if options.ray is None:
        if any(value is not None for value in (options.gpus, options.cpus, options.ray_data)):
            raise ClusterError("--gpus, --cpus and --ray-data say what a run gets on a Ray cluster; give --ray as well")
        return None
    saved = saved_cluster(root)
    if not options.ray and saved is None:
        raise ClusterError(
            "no cluster is set for this data root; give its address as --ray ADDRESS, or set it by "
            "`pianistid cluster use ADDRESS`"
        )
    base = saved if saved is not None and options.ray in ("", saved.address) else Cluster(options.ray)
    given = {"gpus": options.gpus, "cpus": options.cpus, "data_root": options.ray_data}
    return checked(replace(base, **{key: value for key, value in given.items() if value is not None}), root)


def _add_share(parser: ArgumentParser) -> None:
    parser.add_argument("--gpus", type=float, metavar="N", help="GPUs for a run there: 0, 0.5, 1 (default), 2 ...")
    parser.add_argument("--cpus", type=int, metavar="N", help="CPUs for a run there (default 1)")
    parser.add_argument(
        "--ray-data", metavar="FOLDER", help="where the data root lies on the cluster's machines (default: as here)"
    )


def _show(options: Namespace) -> int:
    root = open_root(options.data_root)
    cluster = saved_cluster(root)
    if cluster is None:
        raise ClusterError("no cluster is set for this data root; `pianistid cluster use ADDRESS` sets one")
    offer = offer_of(cluster.address)
    if options.json:
        say_json({"cluster": asdict(cluster), "offer": asdict(offer)})
    else:
        say(f"{cluster.address}: {offer.in_words()}")
        say(f"a run gets {cluster.in_words()}; the data root there is {cluster.data_root or root.path}")
    return 0


def _use(options: Namespace) -> int:
    root = open_root(options.data_root)
    cluster = chosen_cluster(options, root)
    with noting(root, "settings", f"cluster {cluster.address}" if cluster else "no cluster"):
        save_cluster(root, cluster)
    if options.json:
        say_json({"cluster": None if cluster is None else asdict(cluster)})
    elif cluster is not None:
        say(f"the cluster of this data root is {cluster.address}, a run gets {cluster.in_words()}; `--ray` uses it")
    return 0


def _forget(options: Namespace) -> int:
    root = open_root(options.data_root)
    with noting(root, "settings", "no cluster"):
        save_cluster(root, None)
    if options.json:
        say_json({"cluster": None})
    else:
        say("this data root has no cluster any more; runs that are there go on")
    return 0
