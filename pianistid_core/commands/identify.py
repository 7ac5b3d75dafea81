"""`pianistid identify`: who plays in a MIDI file, how sure the model is, and what it says with concepts masked."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from pianistid_core.commands.console import (
    add_data_root,
    add_json,
    complain,
    count,
    duration,
    open_root,
    progress,
    say,
    say_json,
    say_table,
)
from pianistid_core.commands.runs import RUN_HELP
from pianistid_core.errors import PianistIDError
from pianistid_core.run_config import find_run

if TYPE_CHECKING:
    from pianistid_core.identify import Identification, Identifier

_SHOWN_PIANISTS = 5


def add_identify(parser: ArgumentParser) -> None:
    """Adds the options of `identify`."""
    parser.add_argument("files", metavar="FILE", nargs="+", help="MIDI files")
    parser.add_argument("--model", metavar="RUN", help=RUN_HELP + " (default: the newest trained run)")
    parser.add_argument("--config", metavar="FILE", help="the config of a checkpoint that does not hold its own")
    parser.add_argument("--device", default="cpu", help="cpu (default), auto, cuda, cuda:N or mps")
    parser.add_argument("--no-concepts", action="store_true", help="leave out what the model says with concepts masked")
    add_data_root(parser)
    add_json(parser)
    parser.set_defaults(handle=_identify)


def _identify(options: Namespace) -> int:
    identifier = _identifier(options)
    answers: list[dict[str, Any]] = []
    failed = False
    with progress("files") as shown:
        for number, file in enumerate(options.files):
            if len(options.files) > 1:
                shown.show("identifying", number, len(options.files))
            try:
                answer = identifier.identify(file, concepts=not options.no_concepts)
            except PianistIDError as error:
                if len(options.files) == 1:
                    raise
                complain(str(error))
                answers.append({"file": file, "error": str(error)})
                failed = True
                continue
            answers.append({"file": file, **answer.to_dict()})
            if not options.json:
                shown.close()
                _say(file, answer, with_clips=len(options.files) == 1)
    if options.json:
        say_json(answers[0] if len(options.files) == 1 else answers)
    return 1 if failed else 0


def _identifier(options: Namespace) -> "Identifier":
    from pathlib import Path

    from pianistid_core.config import load_config
    from pianistid_core.devices import choose_device
    from pianistid_core.identify import Identifier

    root = open_root(options.data_root)
    device = str(choose_device(options.device))
    if options.model is None:
        return Identifier.default(root, device=device)
    source = Path(options.model)
    if source.suffix != ".pth":
        source = find_run(options.model, root).path
    config = load_config(options.config) if options.config else None
    return Identifier.from_checkpoint(source, config=config, root=root, device=device)


def _say(file: str, answer: "Identification", *, with_clips: bool) -> None:
    say(
        f"{file}: {answer.pianist} ({answer.confidence:.3f}), by {answer.model}; {duration(answer.duration_s)}, "
        f"{count(answer.n_notes, 'note')}, {count(len(answer.clips), 'clip')}"
    )
    for warning in answer.warnings:
        say(f"note: {warning}")
    if not with_clips:
        return
    say()
    likeliest = list(answer.probabilities.items())[:_SHOWN_PIANISTS]
    say_table(("pianist", "probability"), likeliest)
    if len(answer.clips) > 1:
        say()
        say_table(
            ("from", "to", "pianist", "probability"),
            [
                (f"{clip.start_s:.0f} s", f"{clip.end_s:.0f} s", *next(iter(clip.probabilities.items())))
                for clip in answer.clips
            ],
        )
    if answer.concepts:
        say()
        say_table(
            ("heard", "pianist", "probability", answer.pianist),
            [
                ("+".join(kept), *next(iter(found.items())), found[answer.pianist])
                for kept, found in answer.concepts.items()
            ],
        )
