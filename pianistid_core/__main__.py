"""The command line: `pianistid COMMAND ...`, or `python -m pianistid_core COMMAND ...`.

Exit status: 0 done; 1 refused, with one sentence on standard error; 2 wrong usage; 130 interrupted.
"""

import argparse
import errno
import logging
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module, metadata
from io import TextIOWrapper

from pianistid_core.errors import ConfigError, PianistIDError

# A command's module is imported only when it is named, so that `--help` costs nothing.
COMMANDS = {
    "data": "import, fetch, split, check and list data sets, or make the demo's",
    "train": "train a model by a config",
    "preflight": "try what a run will do for some seconds, and say how long it takes",
    "queue": "list, add, move and remove runs that wait to be trained",
    "cluster": "set the Ray cluster that runs may be handed to, and ask what it has",
    "sweep": "queue a run for every combination of values and seeds",
    "evaluate": "measure a trained model on a part of its split",
    "calibrate": "fit what a trained model's probabilities mean, and measure how true they are",
    "ablate": "measure a factorised model with concepts left out",
    "paper": "train the paper's experiments at CPU size, and show what came of them",
    "profile": "measure how well each concept alone tells each pianist",
    "faithfulness": "measure whether a model's explanations say what its answers rest on",
    "identify": "say who plays in a MIDI file",
    "box": "make, show and check the model that comes with the package",
    "runs": "list, find, label, show, stop, delete and export runs",
    "lab": "serve the lab's pages",
    "access": "list, add, change and remove who may come into the lab",
    "audit": "list who did what, when, and how it ended",
    "backup": "pack a data root or some of its runs into one file, or check such a file",
    "restore": "bring a backup, or an exported run, into a data root",
    "config": "check and show configs, and list those that ship with the project",
}
_MODULES = {
    "evaluate": "evaluation",
    "ablate": "evaluation",
    "profile": "evaluation",
    "config": "configs",
    "train": "training",
    "restore": "backup",
}
_INTERRUPTED = 130
_BROKEN_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        options = _parser(arguments).parse_args(arguments)
    except SystemExit as end:  # --help, or wrong usage, which argparse has told already
        return int(end.code or 0)
    try:
        return _handled(options.handle, options)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read the answer has seen enough; closing standard output at exit must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE


def _handled(handle: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    from pianistid_core.commands.console import complain, logging_to_stderr

    try:
        with logging_to_stderr(getattr(options, "log_level", logging.WARNING)):
            status = handle(options)
            sys.stdout.flush()
            return status
    except ConfigError as error:
        for fault in error.faults:
            complain(f"{error.source}: {fault}")
    except PianistIDError as error:
        complain(str(error))
    except OSError as error:
        # A full disk or a missing permission is no fault of the program's; a code it does not know may be.
        if error.errno in (None, errno.EPIPE):
            raise
        complain(f"the system refused: {error.strerror}" + (f": {error.filename}" if error.filename else ""))
    return 1


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pianistid",
        description="Who is playing this piano, and what gave them away?",
        epilog="`pianistid COMMAND --help` says more about each. A first round: pianistid data demo; "
        "pianistid train --config demo.yaml; pianistid identify FILE.mid --model demo/demo",
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    named = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name == named:
            module = import_module(f"pianistid_core.commands.{_MODULES.get(name, name)}")
            getattr(module, f"add_{name}")(command)
    return parser


def _version() -> str:
    try:
        return f"pianistid {metadata.version('pianistid')}"
    except metadata.PackageNotFoundError:
        return "pianistid (not installed)"


if __name__ == "__main__":
    sys.exit(main())
