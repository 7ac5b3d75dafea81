"""`pianistid faithfulness`: whether a model's explanations say what its answers rest on, and what it learned."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from pianistid_core.commands.console import (
    add_data_root,
    add_json,
    count,
    open_root,
    progress,
    say,
    say_json,
    say_table,
)
from pianistid_core.commands.runs import RUN_HELP
from pianistid_core.concepts import CONCEPTS
from pianistid_core.datasets.root import PARTS
from pianistid_core.run_config import find_run

if TYPE_CHECKING:
    from pianistid_core.deletion import Deletion
    from pianistid_core.demo_truth import TruthReport
    from pianistid_core.faithfulness import Faithfulness


def add_faithfulness(parser: ArgumentParser) -> None:
    """Adds the options of `faithfulness`."""
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument(
        "--part", choices=PARTS, default="test", metavar="PART", help="test (default), validation or train"
    )
    parser.add_argument("--clips", type=int, default=40, metavar="N", help="how many clips are asked (default: 40)")
    parser.add_argument(
        "--draws", type=int, default=5, metavar="N", help="how often random notes are drawn for a clip (default: 5)"
    )
    parser.add_argument(
        "--forgetful", type=int, default=4, metavar="N",
        help="for how many of the clips the model is also asked with its layers forgetting (default: 4)",
    )  # fmt: skip
    parser.add_argument("--device", default="cpu", help="cpu (default), auto, cuda, cuda:N or mps")
    add_data_root(parser)
    add_json(parser)
    parser.set_defaults(handle=_faithfulness)


def _faithfulness(options: Namespace) -> int:
    from pianistid_core.devices import choose_device, keep_memory
    from pianistid_core.faithfulness import faithfulness
    from pianistid_core.identify import Identifier

    root = open_root(options.data_root)
    source = Path(options.run)
    if source.suffix != ".pth":
        source = find_run(options.run, root).path
    keep_memory()
    identifier = Identifier.from_checkpoint(source, root=root, device=str(choose_device(options.device)))
    with progress("clips") as shown:
        found = faithfulness(
            identifier,
            root,
            options.part,
            clips=options.clips,
            draws=options.draws,
            forgetful=options.forgetful,
            progress=lambda done, total: shown.show("deleting notes", done, total),
        )
    if options.json:
        say_json(found.to_dict())
        return 0
    say(
        f"{found.model}, on {count(found.n_clips, 'clip')} of {count(found.n_recordings, 'recording')} of the "
        f"{found.part} part of split {found.split}"
    )
    if found.skipped:
        say(f"note: {count(found.skipped, 'clip')} cannot be read or explained")
    _say_deletion(found.deletion)
    _say_controls(found)
    if found.truth is not None:
        _say_truth(found.truth)
    return 0


def _say_deletion(deletion: "Deletion") -> None:
    from pianistid_core.deletion import MEASURES, ORDERS

    for measure in MEASURES:
        say()
        say(f"The answer's {measure} as notes are deleted (mean over clips, 95 % interval):")
        curves = [deletion.curve(order, measure) for order in ORDERS]
        say_table(
            ("deleted", *(f"{order} first" if order != "random" else order for order in ORDERS)),
            [
                (
                    f"{100 * share:.0f} %",
                    *(f"{curve.mean[at]:.3f} ({curve.low[at]:.3f} to {curve.high[at]:.3f})" for curve in curves),
                )
                for at, share in enumerate(deletion.shares)
            ],
        )
    say()
    say("How much lower the answer is on average with the highest ranked deleted than with others:")
    rows = []
    for measure in MEASURES:
        for order in ORDERS[1:]:
            value, interval = deletion.area(order, measure)
            lower = int((deletion.areas(order, measure) > 0).sum())
            shown = f"{interval[0]:+.3f} to {interval[1]:+.3f}" if interval else None
            rows.append((measure, order, f"{value:+.3f}", shown, f"{lower} of {deletion.n_clips}"))
    say_table(("of the answer", "others", "lower by", "95 % interval", "lower in clips"), rows)
    if deletion.skipped:
        say(f"note: {count(deletion.skipped, 'clip')} cannot be drawn with so many notes deleted, so not asked here")
    for sentence in deletion.words():
        say(f"note: {sentence}")


def _say_controls(found: "Faithfulness") -> None:
    say()
    say("Whether the notes' scores show what was learned:")
    n = found.n_clips
    for name, values in (
        ("rank correlation with a model of random weights", [one.control for one in found.checked]),
        ("rank correlation with the same music 50 ms later", [one.stability for one in found.checked]),
        ("share of the answer that the scores make up", [one.completeness for one in found.checked]),
    ):
        say(f"  {name}: {sum(values) / n:.3f} on average, {min(values):.3f} to {max(values):.3f}")
    say(f"  clips of which the controls say that the scores are informative: {found.informative} of {n}")
    if not found.naive:
        return
    say(f"  models that have learned nothing, seen through: {found.seen_through} of {len(found.naive)}")
    say()
    say(f"As layers forget, from the head down ({count(len(found.forgotten), 'clip')}):")
    say_table(
        ("layers that forgot", "down to", "rank correlation with the model's own scores"),
        [(f"{step.layers} of {step.of}", step.lowest, step.correlation) for step in found.mean_cascade],
    )


def _say_truth(truth: "TruthReport") -> None:
    say()
    say(
        f"Which concept tells two of the demo's pianists apart ({count(truth.n_clips, 'clip')} of its {truth.part} "
        f"part; {truth.accuracy:.3f} are named rightly):"
    )
    say_table(
        (
            "pair",
            "truly",
            *(f"{concept} alone" for concept in CONCEPTS),
            *(f"{concept}'s share" for concept in CONCEPTS),
        ),
        [
            (
                f"{pair.a} / {pair.b}",
                "+".join(pair.differs_in),
                *(pair.accuracy[concept] for concept in CONCEPTS),
                *(pair.shapley[concept] for concept in CONCEPTS),
            )
            for pair in truth.twins
        ],
    )
    say(truth.words)
