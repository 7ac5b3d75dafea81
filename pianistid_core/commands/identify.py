"""`pianistid identify`: who plays in a MIDI file, how sure the model is, and what it says with concepts masked."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pianistid_core.atomic import write_atomically
from pianistid_core.commands.console import (
    Progress,
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
from pianistid_core.concepts import CONCEPTS
from pianistid_core.errors import DataError, PianistIDError
from pianistid_core.midi import read_midi
from pianistid_core.run_config import find_run

if TYPE_CHECKING:
    from pianistid_core.attribution import Attribution
    from pianistid_core.identify import Identification, Identifier
    from pianistid_core.midi import Notes
    from pianistid_core.neighbours import Familiarity, Neighbour
    from pianistid_core.phrases import Phrase

WRONG_USAGE = 2
_SHOWN_PIANISTS = 5
_SHOWN_NOTES = 8


def add_identify(parser: ArgumentParser) -> None:
    """Adds the options of `identify`."""
    parser.add_argument("files", metavar="FILE", nargs="+", help="MIDI files")
    parser.add_argument(
        "--model", metavar="RUN", help=RUN_HELP + " (default: the model in the box, else the newest trained run)"
    )
    parser.add_argument("--config", metavar="FILE", help="the config of a checkpoint that does not hold its own")
    parser.add_argument("--device", default="cpu", help="cpu (default), auto, cuda, cuda:N or mps")
    parser.add_argument("--no-concepts", action="store_true", help="leave out what the model says with concepts masked")
    parser.add_argument(
        "--explain",
        action="store_true",
        help="also say what each concept gave, which notes mattered, and which training recordings are most alike",
    )
    parser.add_argument(
        "--phrases",
        action="store_true",
        help="also say which phrases told, in words of music; the model has to be made of n-grams, as the one in the "
        "box is",
    )
    parser.add_argument(
        "--report",
        metavar="FILE",
        help="also write all of this, for one MIDI file, as one HTML file that works offline",
    )
    add_data_root(parser)
    add_json(parser)
    parser.set_defaults(handle=_identify)


def _identify(options: Namespace) -> int:
    if options.report and len(options.files) > 1:
        complain(f"--report is for one MIDI file, but {len(options.files)} came; call it once for each")
        return WRONG_USAGE
    identifier = _identifier(options)
    answers: list[dict[str, Any]] = []
    failed = False
    with progress("files") as shown:
        for number, file in enumerate(options.files):
            if len(options.files) > 1:
                shown.show("identifying", number, len(options.files))
            try:
                notes = read_midi(file)
                answer = identifier.identify(notes, concepts=not options.no_concepts)
                told = _phrases(identifier, notes, answer, options, shown)
                more = _explained(identifier, notes, answer, options, shown)
            except PianistIDError as error:
                if len(options.files) == 1:
                    raise
                complain(str(error))
                answers.append({"file": file, "error": str(error)})
                failed = True
                continue
            answers.append({"file": file, **answer.to_dict(), **(more.to_dict() if more else {})})
            if told is not None:
                answers[-1]["phrases"] = [phrase.to_dict() for phrase in told]
            if options.report:
                _write_report(options.report, file, notes, answer, more, told or ())
            if not options.json:
                shown.close()
                _say(file, answer, with_clips=len(options.files) == 1)
                if told is not None:
                    _say_phrases(answer, told)
                if more:
                    _say_explained(notes, answer, more)
    if options.json:
        say_json(answers[0] if len(options.files) == 1 else answers)
    return 1 if failed else 0


@dataclass(frozen=True)
class _Explained:
    """What explains one answer; there are no neighbours where the model's training data is not here."""

    attribution: "Attribution"
    neighbours: "list[Neighbour]"
    familiarity: "Familiarity | None"

    def to_dict(self) -> dict[str, Any]:
        return {
            "attribution": self.attribution.to_dict(),
            "neighbours": [one.to_dict() for one in self.neighbours],
            "familiarity": self.familiarity.to_dict() if self.familiarity else None,
        }


def _explained(
    identifier: "Identifier", notes: "Notes", answer: "Identification", options: Namespace, shown: Progress
) -> _Explained | None:
    """Explains an answer where that was asked for."""
    if not options.explain and not options.report:
        return None
    from pianistid_core.attribution import attribute
    from pianistid_core.neighbours import open_index

    attribution = attribute(
        identifier, notes, answer.pianist, progress=lambda done, total: shown.show("scoring notes, clips", done, total)
    )
    try:
        index = open_index(
            identifier,
            open_root(options.data_root),
            progress=lambda done, total: shown.show("listening to the training clips", done, total),
        )
    except DataError as error:
        complain(f"note: no training recordings to compare with: {error}")
        return _Explained(attribution, [], None)
    return _Explained(attribution, index.nearest(identifier, notes), index.familiarity(identifier, notes))


def _phrases(
    identifier: "Identifier", notes: "Notes", answer: "Identification", options: Namespace, shown: Progress
) -> "tuple[Phrase, ...] | None":
    """The phrases that told, where they were asked for; in a report, where the model has any."""
    if not options.phrases and not options.report:
        return None
    from pianistid_core.phrases import has_phrases, phrases

    if not options.phrases and not has_phrases(identifier):
        return None
    return phrases(
        identifier, notes, answer.pianist, progress=lambda done, total: shown.show("reading clips", done, total)
    )


def _say_phrases(answer: "Identification", told: Sequence["Phrase"]) -> None:
    say()
    say(f"The phrases that spoke the most for {answer.pianist}, and some against:")
    say_table(
        ("concept", "phrase", "heard", "first at", "share"),
        [
            (
                phrase.concept,
                phrase.words,
                phrase.count,
                f"{phrase.times_s[0]:.1f} s",
                f"{100 * phrase.share if phrase.speaks_for else -100 * phrase.share:+.1f} %",
            )
            for phrase in told
        ],
    )
    say("note: a share is of all that speaks the same way; a phrase is named by its notes where it is first heard")


def _write_report(
    target: str,
    file: str,
    notes: "Notes",
    answer: "Identification",
    more: _Explained | None,
    told: Sequence["Phrase"],
) -> None:
    from pianistid_core.report import identification_html

    page = identification_html(
        Path(file).name,
        notes,
        answer,
        attribution=more.attribution if more else None,
        neighbours=more.neighbours if more else (),
        familiarity=more.familiarity if more else None,
        phrases=told,
    )
    write_atomically(Path(target), page.encode())


def _say_explained(notes: "Notes", answer: "Identification", more: _Explained) -> None:
    shapley = {concept: share for concept, share in answer.shapley().items() if concept in answer.hears}
    if shapley:
        say()
        say(f"What each concept gives of the probability of {answer.pianist} (exact Shapley values):")
        before = answer.silence[answer.pianist]
        say_table(
            ("concept", "gives"),
            [("nothing heard", f"{before:.3f}"), *((name, f"{value:+.3f}") for name, value in shapley.items())],
        )
    attribution = more.attribution
    say()
    say(f"The notes that mattered most for {attribution.pianist}:")
    say_table(
        ("at", "MIDI pitch", "velocity", "score"),
        [
            (
                f"{notes.onsets_s[index]:.2f} s",
                int(notes.pitches[index]),
                int(notes.velocities[index]),
                f"{attribution.scores[index]:+.3f}",
            )
            for index in attribution.strongest(_SHOWN_NOTES)
        ],
    )
    for sentence in attribution.words:
        say(f"note: {sentence}")
    if more.neighbours:
        say()
        say("The most similar training recordings:")
        say_table(
            ("pianist", "recording", "similarity"),
            [(one.pianist, one.track, one.similarity) for one in more.neighbours],
        )
    if more.familiarity:
        say(f"note: {more.familiarity.words}")


def _identifier(options: Namespace) -> "Identifier":
    from pianistid_core.config import load_config
    from pianistid_core.devices import choose_device, keep_memory
    from pianistid_core.identify import Identifier

    root = open_root(options.data_root)
    keep_memory()
    device = str(choose_device(options.device))
    if options.model is None:
        return Identifier.default(root, device=device)
    source = Path(options.model)
    if source.suffix != ".pth":
        source = find_run(options.model, root).path
    config = load_config(options.config) if options.config else None
    return Identifier.from_checkpoint(source, config=config, root=root, device=device)


def _say(file: str, answer: "Identification", *, with_clips: bool) -> None:
    who = f"{answer.pianist} ({answer.confidence:.3f})"
    if answer.unknown is not None and answer.stranger:
        who = f"{answer.unknown.verdict} {len(answer.probabilities)}; most like {who}"
    say(
        f"{file}: {who}, by {answer.model}; {duration(answer.duration_s)}, "
        f"{count(answer.n_notes, 'note')}, {count(len(answer.clips), 'clip')}"
    )
    for sentence in (answer.in_question(), answer.doubt()):
        if sentence:
            say(sentence)
    for warning in (*answer.remarks, *answer.warnings):
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
                if set(kept) <= set(answer.hears)
            ],
        )
        for concept in CONCEPTS:
            if concept not in answer.hears:
                say(f"note: {concept}: not heard by this model")
