"""The model card: what a shipped model is, how good it is and of what, and what it must not be used for.

Every figure comes from what was measured (`measuring`, `robustness`, the calibration's own); what nobody measured is
left out, not guessed. The limits and the uses are those of the data that the model of twenty jazz pianists is made of.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Table = Sequence[Sequence[object]]


def card_text(title: str, facts: Mapping[str, Any]) -> str:
    """The card of a model as Markdown; `facts` are those of its box."""
    measured = facts.get("measured", {})
    sections: list[Callable[[], list[str]]] = [
        lambda: _opening(title, facts),
        lambda: _accuracy(measured.get("test")),
        lambda: _pianists(measured.get("test")),
        lambda: _concepts(measured.get("test")),
        lambda: _calibration(facts.get("calibration"), measured.get("calibration")),
        lambda: _otherwise(measured.get("robustness"), measured.get("expressive")),
        lambda: _data(measured.get("test")),
        lambda: list(_USES),
        lambda: list(_LICENCE),
    ]
    return "\n".join(line for section in sections for line in section()) + "\n"


def _opening(title: str, facts: Mapping[str, Any]) -> list[str]:
    config, made = facts.get("config", {}), facts.get("made", {})
    weights = facts.get("weights", {})
    hears = (facts.get("measured", {}).get("test") or {}).get("hears")
    names = facts.get("class_names", [])
    lines = [f"# {title}: model card", ""]
    lines.append(
        f"A network (`encoder_module: {config.get('encoder_module')}`) that names which of {len(names)} pianists plays "
        "in a MIDI file of a piano performance, how sure it is, and what gave them away."
    )
    if hears:
        unheard = [one for one in ("melody", "harmony", "rhythm", "dynamics") if one not in hears]
        lines.append(f"It hears {_and(hears)}" + (f", and not {_and(unheard)}." if unheard else "."))
    lines += ["", *_table(("model", title), _facts(facts, made, weights)), ""]
    if made.get("command"):
        lines += [
            f"Made by `{made['command']}`; `pianistid box check` proves that the weights are those of this card.",
            "",
        ]
    return lines


def _facts(facts: Mapping[str, Any], made: Mapping[str, Any], weights: Mapping[str, Any]) -> Table:
    rows = [
        ("Weights", f"{weights['bytes'] / 1e6:.1f} MB of safetensors" if "bytes" in weights else ""),
        ("SHA-256", _in_groups(str(weights.get("sha256", "")))),
        ("Trained for", _trained_for(facts.get("epoch"), made.get("trainings"))),
        ("Made", " with ".join(str(made[key]) for key in ("date", "program") if made.get(key))),
        ("Licence", "weights CC BY-NC 4.0 (not for commercial use); the program MIT"),
    ]
    return [row for row in rows if row[1]]


def _trained_for(epochs: object, trainings: object) -> str:
    if not epochs:
        return ""
    several = isinstance(trainings, int) and trainings > 1
    return f"{epochs} epochs" + (f", {trainings} times with other seeds; the weights are the mean" if several else "")


def _accuracy(test: Mapping[str, Any] | None) -> list[str]:
    if not test:
        return []
    macro, commonest = test["macro_recall"], test["commonest"]
    rows = [
        ("recordings named rightly", _share(test["recordings"]), _of(test["recordings"])),
        ("30 s clips named rightly", _share(test["clips"]), _of(test["clips"])),
        ("mean recall of the pianists", _value(macro["value"], macro["interval"]), ""),
        (f"always naming {commonest['pianist']}, who has most recordings", _share(commonest), _of(commonest)),
    ]
    return [
        "## How often it is right", "",
        f"On the {test['part']} part of the split `{test['split']}`: recordings that it did not learn from. In "
        "brackets the 95 % interval.", "",
        *_table(("of the test part", "share", "number"), rows), "",
    ]  # fmt: skip


def _pianists(test: Mapping[str, Any] | None) -> list[str]:
    if not test:
        return []
    concepts = list(test["per_pianist"][0]["alone"]) if test["per_pianist"] else []
    rows = [
        (
            one["pianist"],
            one["learned_from"],
            one["n"],
            _share(one),
            f"{one['right']} of {one['named']}" if one["named"] else "never named",
            *(f"{one['alone'][concept]} of {one['n']}" for concept in concepts),
        )
        for one in test["per_pianist"]
    ]
    headers = ("pianist", "learned from", "tested on", "recall", "right when named", *(f"by {c}" for c in concepts))
    return [
        "### Pianist by pianist", "",
        "Recordings. Where few were tested the interval is wide: then the recall says little.", "",
        *_table(headers, rows), "",
    ]  # fmt: skip


def _concepts(test: Mapping[str, Any] | None) -> list[str]:
    if not test or not test["concepts"]:
        return []
    rows = [
        (name if name.startswith("no ") else f"{name} alone", _share(one["recordings"]), _share(one["clips"]))
        for name, one in test["concepts"].items()
    ]
    return [
        "### One concept alone, one left out", "",
        *_table(("heard", "recordings", "clips"), [("all", _share(test["recordings"]), _share(test["clips"])), *rows]),
        "",
    ]  # fmt: skip


def _calibration(calibration: Mapping[str, Any] | None, tested: Mapping[str, Any] | None) -> list[str]:
    lines = ["## How far to trust its probabilities", ""]
    if not calibration:
        return [*lines, "They are not calibrated: 90 % does not mean that nine in ten such answers are right.", ""]
    own = calibration.get("measured") or {}
    found = tested or own
    lines += [f"Calibrated by {calibration.get('n_recordings', 0):,} recordings ({calibration.get('part', '')}).", ""]
    where = "On the test part" if tested else "On a fifth of these at a time, fitted to the others"
    rows = [
        (words, f"{found[key]:.{digits}f}")
        for key, (words, digits) in _CALIBRATED.items()
        if isinstance(found.get(key), int | float)
    ]
    unknown = own.get("unknown") or {}
    rows += [
        (words, f"{unknown[key]:.3f}") for key, words in _STRANGERS.items() if isinstance(unknown.get(key), int | float)
    ]
    if rows:
        lines += [f"{where}:", "", *_table(("what", "value"), rows), ""]
    bins = [(f"{sure:.2f}", f"{right / n:.2f}", n) for sure, right, n in found.get("bins", ()) if n]
    if bins:
        lines += ["Said and true:", "", *_table(("it says", "it is right", "recordings"), bins), ""]
    lengths = [
        (one["from"], one["n_recordings"], *(f"{one[key]:.2f}" for key in ("accuracy", "coverage", "candidates")))
        for one in found.get("by_clips", ())
    ]
    if lengths:
        headers = ("clips, from", "recordings", "named rightly", "among the candidates", "candidates")
        lines += ["By how much music there is:", "", *_table(headers, lengths), ""]
    return lines


_CALIBRATED = {
    "ece": ("mean distance of what it says from how often that is right (ECE), recordings", 3),
    "ece_clips": ("the same for single clips", 3),
    "coverage": ("how often the right one is among the candidates it names", 3),
    "candidates": ("how many candidates it names, on average", 1),
    "alone": ("how often it names one alone", 3),
    "false_alarms": ("recordings of the known pianists that it calls perhaps none of these", 3),
}
_STRANGERS = {
    "auroc": "telling recordings of pianists it never met from those it knows (AUROC), by models trained without some",
    "caught": "recordings of pianists it never met that are called perhaps none of these",
}


def _otherwise(robustness: Sequence[Mapping[str, Any]] | None, expressive: Mapping[str, Any] | None) -> list[str]:
    if not robustness and not expressive:
        return []
    lines = ["## The same music otherwise", ""]
    if robustness:
        rows = [(one["variation"], _share(one), f"{100 * one['same'] / one['n']:.0f} %") for one in robustness]
        lines += [*_table((f"{robustness[0]['n']} recordings", "named rightly", "same name as before"), rows), ""]
    if expressive:
        names = {"train": "of recordings in its training part", "held out": "of recordings held out"}
        rows = [(names.get(name, name), _share(one), _of(one)) for name, one in expressive.items() if one["n"]]
        lines += [
            "Clips as transcribed, with full timing and velocities, 30 s each, the first guess:", "",
            *_table(("clips", "named rightly", "number"), rows), "",
        ]  # fmt: skip
    return lines


def _data(test: Mapping[str, Any] | None) -> list[str]:
    if not test:
        return []
    train = test["train"]
    amount = f"{train['recordings']:,} recordings, {train['clips']:,} clips of 30 s"
    lines = ["## What it learned from, and its limits", ""]
    if test["split"] != _SPLIT:
        return [*lines, f"The training part of the split `{test['split']}`: {amount}.", ""]
    return [*lines, _LEARNED.format(amount=amount), *_LIMITS]


_SPLIT = "20class_80min"
_LEARNED = (
    "The training part ({amount}) of the paper's split of the Jazz Trio Database and PiJAMA (Cheston, Bance and "
    "Harrison 2025, *Deconstructing Jazz Piano Style Using Machine Learning*), as the paper's public web "
    "application holds it."
)
_LIMITS = (
    "",
    "- Onsets and offsets lie on a grid of 100 ms, and all velocities are alike: touch, swing and fine timing are not "
    "in the data. What comes with finer timing is heard through that grid.",
    "- About half of the clips of the paper's data are there: some 62 % of each recording's, in no particular order, "
    "and nothing of the paper's validation part, which was kept for judging.",
    "- The notes are automatic transcriptions of audio, with their errors: missing quiet notes, added overtones, "
    "smeared pedal. A transcriber's habits, a piano or a studio may be learned in place of a pianist's.",
    "- Some pianists are there mostly solo, others mostly with bass and drums. What tells solo from trio helps to tell "
    "them, and a pianist in the other setting may be taken for someone else.",
    "- Albums and tunes are not kept apart by the split: a test recording may share both with a training one.",
    "- Twenty pianists: well known, recorded, mostly male, most of them active in the United States in the second half "
    "of the 20th century. That is who was transcribed, not who plays jazz. Nobody else can be named.",
    "",
)
_USES = (
    "## What it is for",
    "",
    "Teaching and research on musical style; demonstrations; comparing a performance with those of the twenty and "
    "asking which notes a likeness rests on. A name is the likeliest of those it knows, no finding about who played.",
    "",
    "## What it must not be used for",
    "",
    "- It is not evidence of authorship or authenticity. Do not use it to attribute disputed or anonymous recordings, "
    "to value or sell them, or in any quarrel about rights.",
    "- Do not use it to judge a living musician: their worth, their originality, or whether they copy somebody.",
    "- Do not use it to find out whether music was made by a machine, or to rank players, pupils or applicants.",
    "- Do not read its concepts as causes: they say what this model heard, not how a pianist plays.",
    "- Do not use it commercially: the data it learned from do not allow it.",
    "",
)
_LICENCE = (
    "## Licence",
    "",
    "The weights and these figures: CC BY-NC 4.0, see LICENSE-WEIGHTS beside this card, because PiJAMA's data are for "
    "non-commercial use. The program: MIT.",
)


def _table(headers: Sequence[str], rows: Table) -> list[str]:
    def line(cells: Sequence[object]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "/").replace("\n", " ") for cell in cells) + " |"

    return [line(headers), "|" + " --- |" * len(headers), *(line(row) for row in rows)]


def _in_groups(digest: str) -> str:
    """A checksum in groups, between which a narrow page may wrap."""
    return " ".join(f"`{digest[start : start + 16]}`" for start in range(0, len(digest), 16))


def _share(found: Mapping[str, Any]) -> str:
    return _value(found["right"] / found["n"], found["interval"]) if found["n"] else "none tested"


def _value(value: float, interval: Sequence[float] | None) -> str:
    return f"{value:.3f}" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")


def _of(found: Mapping[str, Any]) -> str:
    return f"{found['right']:,} of {found['n']:,}"


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
