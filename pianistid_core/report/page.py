"""A report of one identification: who, how sure, along the music, by concept, phrase and note, and how to read it."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pianistid_core.concepts import CONCEPTS
from pianistid_core.midi import Notes, key_name
from pianistid_core.report.parts import (
    Bar,
    bars,
    clock,
    legend,
    paragraph,
    percent,
    points,
    roll,
    section,
    signed,
    table,
    text,
    ticks,
    timeline,
)
from pianistid_core.report.style import ACCENT, AGAINST, CONCEPT_COLOURS, FOR, RANK_COLOURS, STYLE
from pianistid_core.shapley import together

if TYPE_CHECKING:
    from pianistid_core.attribution import Attribution
    from pianistid_core.identify import Identification
    from pianistid_core.neighbours import Familiarity, Neighbour
    from pianistid_core.phrases import Phrase

_SHOWN = len(RANK_COLOURS)
_SHOWN_NOTES = 12
_SHOWN_TIMES = 3
_SHOWN_CLIPS = 60
_NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four", 7: "seven", 15: "fifteen"}
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
# A page that says itself that it runs and fetches nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def identification_html(
    name: str,
    notes: Notes,
    found: "Identification",
    *,
    attribution: "Attribution | None" = None,
    neighbours: Sequence["Neighbour"] = (),
    familiarity: "Familiarity | None" = None,
    phrases: Sequence["Phrase"] = (),
    colours: Mapping[str, str] | None = None,
) -> str:
    """An identification as one HTML file that needs no network, in light and dark, for screen and print.

    `name` is what the music is called; `colours` may give pianists their "#rrggbb".
    """
    shades = _shades(found, colours or {})
    body = "\n".join(
        [
            _answer(name, found, familiarity),
            _along(notes, found, attribution, shades),
            _concepts(found),
            _phrases(found, phrases),
            _notes_that_mattered(notes, attribution),
            _neighbours(neighbours, familiarity),
            _subsets(found),
            _clips(found),
            _facts(found),
            _how_to_read(found, attribution),
        ]
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f"<title>{text(f'{found.headline}: {name}', 160)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n"
        '<footer class="small">Made by PianistID Lab. This file needs no network and runs no program.</footer>\n'
        "</body>\n</html>\n"
    )


def _shades(found: "Identification", colours: Mapping[str, str]) -> dict[str, str]:
    """The colour of each pianist who is drawn, the likeliest first."""
    names = list(found.probabilities)[:_SHOWN]
    return {
        who: colours[who] if _COLOUR.fullmatch(colours.get(who, "")) else RANK_COLOURS[rank]
        for rank, who in enumerate(names)
    }


def _answer(name: str, found: "Identification", familiarity: "Familiarity | None") -> str:
    lines = [
        Bar(who, share, percent(share), ACCENT if rank == 0 else "var(--soft)")
        for rank, (who, share) in enumerate(list(found.probabilities.items())[:_SHOWN])
    ]
    others = len(found.probabilities) - len(lines)
    rest = sum(list(found.probabilities.values())[_SHOWN:])
    warnings = [found.doubt(), *found.remarks, *found.warnings]
    if familiarity is not None and familiarity.unlike:
        warnings.insert(0, familiarity.words)
    return "\n".join(
        [
            '<header class="answer">',
            paragraph(name, "eyebrow"),
            f"<h1>{text(found.headline)}</h1>",
            f'<p class="sure">{_most_like(found)}<strong>{percent(found.confidence)}</strong> probable, '
            f"{_how_sure(found, familiarity)}</p>",
            paragraph(found.in_question()),
            bars(lines),
            paragraph(f"{others} more pianists share {percent(rest)}.", "small") if others > 0 else "",
            "</header>",
            *(paragraph(warning, "warn") for warning in warnings),
        ]
    )


def _most_like(found: "Identification") -> str:
    """Who it is most like, where the headline does not say that."""
    return "" if found.headline.startswith(found.pianist) else f"Most like {text(found.pianist)}: "


def _how_sure(found: "Identification", familiarity: "Familiarity | None") -> str:
    second = next(iter(list(found.probabilities.items())[1:]), None)
    if familiarity is not None and familiarity.unlike:
        return "by the model's own measure, but this music is unlike all it knows."
    if found.stranger:
        return "if it is one of those that the model knows."
    if found.confidence >= 0.9:
        return "and the model is sure."
    if found.confidence >= 0.75:
        return "and the model is fairly sure."
    if second is None or found.confidence >= 0.5:
        return "with some doubt."
    return f"but it could well be someone else, such as {text(second[0])}."


def _along(notes: Notes, found: "Identification", attribution: "Attribution | None", shades: Mapping[str, str]) -> str:
    if not len(notes):
        return ""
    scores = attribution.scores if attribution is not None and len(attribution.scores) == len(notes) else None
    described = f"Piano roll of {len(notes)} notes in {clock(notes.duration_s)}, pitch upwards, time to the right."
    drawing, n_drawn = roll(notes, scores, described)
    likeliest = [next(iter(clip.probabilities)) for clip in found.clips]
    share = f"{likeliest.count(found.pianist)} of {len(likeliest)}"
    columns = timeline(
        [(clip.start_s, clip.end_s) for clip in found.clips],
        [[clip.probabilities.get(who, 0.0) for who in shades] for clip in found.clips],
        list(shades.values()),
        notes.duration_s,
        f"Probability by clip; {found.pianist} is the likeliest in {share}.",
    )
    thinned = f" Of {len(notes):,} notes {n_drawn:,} are drawn." if n_drawn < len(notes) else ""
    meaning = (
        f"Blue notes spoke for {attribution.pianist}, brown ones against." if attribution and scores is not None else ""
    )
    below = (
        f"{meaning} Below, each 30 s clip is shared out among the pianists by their probability; what is empty goes to "
        f"all others.{thinned}"
    )
    return section(
        "Along the music", drawing, columns, ticks(notes.duration_s), legend(list(shades.items())),
        paragraph(below.strip(), "small"),
    )  # fmt: skip


def _concepts(found: "Identification") -> str:
    hears = found.hears
    shapley = {concept: share for concept, share in found.shapley().items() if concept in hears}
    if not shapley:
        return section(
            "What gave them away",
            paragraph("This model hears a recording as a whole and cannot say which concept told."),
        )
    who = found.pianist
    alone = {concept: found.concepts[(concept,)][who] for concept in hears}
    without = {concept: found.concepts[tuple(kept for kept in CONCEPTS if kept != concept)][who] for concept in hears}
    shades = dict(zip(CONCEPTS, CONCEPT_COLOURS, strict=True))
    reach = max(max(abs(value) for value in shapley.values()), 0.01)
    silence = found.silence[who]
    way = 1 if found.confidence >= silence else -1
    strongest = max(shapley, key=lambda concept: way * shapley[concept])
    return section(
        "What gave them away",
        paragraph(
            f"Before it hears anything the model gives {who} {percent(silence)}; having heard all "
            f"{_NUMBERS[len(hears)]} concepts, {percent(found.confidence)}. Of that difference {strongest} gives "
            f"the most, {points(shapley[strongest])} percentage points."
        ),
        "<h3>What each concept gives, in percentage points (exact Shapley values)</h3>",
        bars([Bar(c.capitalize(), shapley[c] / reach, points(shapley[c]), shades[c]) for c in hears], both_ways=True),
        paragraph(
            f"{percent(silence)} {' '.join(points(shapley[c]) for c in hears)} = {percent(found.confidence)}",
            "small",
        ),
        '<div class="pair"><div>',
        f"<h3>One concept alone: probability of {text(who)}</h3>",
        bars([Bar(c.capitalize(), alone[c], percent(alone[c]), shades[c]) for c in hears]),
        "</div><div>",
        f"<h3>One concept left out: probability of {text(who)}</h3>",
        bars([Bar(f"No {c}", without[c], percent(without[c]), shades[c]) for c in hears]),
        "</div></div>",
        paragraph(_together(found)),
        _not_heard(found),
    )


def _together(found: "Identification") -> str:
    """What two concepts do together, where it is worth a sentence."""
    pairs = {pair: more for pair, more in found.interactions().items() if set(pair) <= set(found.hears)}
    return together(pairs) if pairs else ""


def _not_heard(found: "Identification") -> str:
    """Which concepts the model is deaf to: figures of 0 would look like a finding."""
    missing = [concept for concept in CONCEPTS if concept not in found.hears]
    return paragraph(f"{' and '.join(missing).capitalize()}: not heard by this model.") if missing else ""


def _phrases(found: "Identification", phrases: Sequence["Phrase"]) -> str:
    if not phrases:
        return ""
    shades = dict(zip(CONCEPTS, CONCEPT_COLOURS, strict=True))
    rows = []
    for phrase in phrases:
        share = phrase.share if phrase.speaks_for else -phrase.share
        seconds = list(dict.fromkeys(clock(time) for time in phrase.times_s))[:_SHOWN_TIMES]
        times = ", ".join(seconds)
        rows.append(
            (
                f'<span class="whole">{_mark(True, shades[phrase.concept])} {text(phrase.concept)}</span>',
                text(phrase.words[:1].upper() + phrase.words[1:]),
                f"{points(share)}&nbsp;%",
                str(phrase.count),
                f'<span class="whole">{text(f"{times}, …" if phrase.count > len(seconds) else times)}</span>',
            )
        )
    return section(
        "Phrases that told",
        paragraph(
            f"What spoke for {found.pianist} in this model and not for everybody, and a few things that spoke against. "
            "A phrase is named by its notes where it is first heard; it may come again on other keys."
        ),
        table(("Concept", "Phrase", "Share", "Heard", "At"), rows, numbers=(2, 3), long=(1,)),
        paragraph(
            "A share is of all that speaks the same way. The model's score is a sum over such phrases and what it "
            "gives before it hears anything, so these figures are exact. They say what this model heard, not how a "
            "pianist plays.",
            "small",
        ),
    )


def _notes_that_mattered(notes: Notes, attribution: "Attribution | None") -> str:
    if attribution is None or len(attribution.scores) != len(notes):
        return ""
    chosen = attribution.strongest(_SHOWN_NOTES)
    reach = max((abs(float(attribution.scores[index])) for index in chosen), default=1.0)
    rows = []
    for index in sorted(chosen):
        score = float(attribution.scores[index])
        shares = {concept: float(scores[index]) for concept, scores in attribution.by_concept.items()}
        mostly = max(shares, key=lambda concept: abs(shares[concept])) if shares else ""
        rows.append(
            (
                clock(float(notes.onsets_s[index])),
                key_name(int(notes.pitches[index])),
                str(int(notes.velocities[index])),
                signed(score, 3),
                bars([Bar("", score / reach, "", FOR if score >= 0 else AGAINST)], both_ways=True),
                *((text(mostly),) if shares else ()),
            )
        )
    headers = ["Time", "Note", "Velocity", "Score", "", *(("Mostly as",) if attribution.by_concept else ())]
    verdict = "" if attribution.informative else "By these checks, do not rely on this picture."
    return section(
        "Which notes mattered",
        paragraph(
            f"The notes that changed the model's score for {attribution.pianist} the most, by {attribution.method}."
        ),
        paragraph(verdict, "warn") if verdict else "",
        table(headers, rows, numbers=(2, 3)) if rows else "",
        *(paragraph(word, "small") for word in attribution.words),
    )


def _neighbours(neighbours: Sequence["Neighbour"], familiarity: "Familiarity | None") -> str:
    rows = [(text(one.pianist), text(one.track), text(one.clip.name), f"{one.similarity:.2f}") for one in neighbours]
    return section(
        "Most similar training recordings",
        paragraph(familiarity.words) if familiarity is not None else "",
        table(("Pianist", "Recording", "Likest clip", "Similarity"), rows, numbers=(3,), long=(1,)) if rows else "",
        paragraph(
            "Similarity is the cosine between what the model hears in two recordings: 1 is alike, 0 has nothing in "
            "common. The same recording is never among them.",
            "small",
        )
        if rows
        else "",
    )


def _subsets(found: "Identification") -> str:
    who = found.pianist
    rows = []
    shades = dict(zip(CONCEPTS, CONCEPT_COLOURS, strict=True))
    heard_in = {tuple(c for c in kept if c in found.hears): heard for kept, heard in found.concepts.items()}
    heard_in.pop((), None)
    answers = list(heard_in.items()) + ([((), found.silence)] if found.silence else [])
    for kept, heard in answers:
        top, share = next(iter(heard.items()))
        marks = [_mark(concept in kept, shades[concept]) for concept in found.hears]
        rows.append((*marks, percent(heard[who]), text(top), percent(share)))
    headers = (*(c.capitalize() for c in found.hears), f"Probability of {who}", "Likeliest", "Its probability")
    n, all_of = len(found.hears), _NUMBERS[len(heard_in)] if heard_in else ""
    return (
        section(f"All {all_of} subsets of concepts, and none", table(headers, rows, numbers=(n, n + 2))) if rows else ""
    )


def _mark(kept: bool, colour: str) -> str:
    style = f' style="background:{colour};border-color:{colour}"' if kept else ""
    return f'<span class="dot" role="img" aria-label="{"heard" if kept else "masked"}"{style}></span>'


def _clips(found: "Identification") -> str:
    rows = []
    for clip in found.clips[:_SHOWN_CLIPS]:
        (top, share), *others = clip.probabilities.items()
        second = f"{text(others[0][0])} {percent(others[0][1])}" if others else ""
        rows.append((f"{clock(clip.start_s)} to {clock(clip.end_s)}", text(top), percent(share), second))
    more = len(found.clips) - len(rows)
    return section(
        "Clip by clip",
        table(("Clip", "Likeliest", "Probability", "Next"), rows, numbers=(2,)),
        paragraph(f"{more} more clips are in the downloads as CSV and JSON.", "small") if more else "",
        *(
            paragraph(f"{clock(clip.start_s)} to {clock(clip.end_s)} was left out: {clip.reason}.", "small")
            for clip in found.skipped[:_SHOWN_CLIPS]
        ),
    )


def _facts(found: "Identification") -> str:
    facts = {
        "Model": found.model,
        "It tells apart": f"{len(found.probabilities)} pianists",
        "Music": f"{clock(found.duration_s)}, {found.n_notes:,} notes",
        "Clips heard": f"{len(found.clips)} of {len(found.clips) + len(found.skipped)}, 30 s each{_unheard(found)}",
    }
    rows = "".join(f"<dt>{text(key)}</dt><dd>{text(value)}</dd>" for key, value in facts.items())
    return section("About this answer", f"<dl>{rows}</dl>")


def _unheard(found: "Identification") -> str:
    return (
        f"; the last {found.unheard_s:.0f} s are too short for a clip and were not heard"
        if found.unheard_s >= 1
        else ""
    )


def _how_to_read(found: "Identification", attribution: "Attribution | None") -> str:
    sentences = [
        f"The model always names one of the {len(found.probabilities)} pianists it learned. Whoever is not among them "
        + ("gets another's name." if found.unknown is None else "gets another's name, and only some are noticed."),
        "A probability is the mean over the 30 s clips of the music. It says how sure the model is, not how often such "
        "an answer is right."
        if found.coverage is None
        else "Probabilities are calibrated on recordings not learned from: of 100 answers called 70 % probable, "
        "about 70 are right, if the pianist is one that the model knows.",
    ]
    if found.concepts:
        number = _NUMBERS[len(found.hears)]
        sentences.append(
            "Melody is the top line, harmony the chords, rhythm when keys go down and up, dynamics how loud; each "
            f"forgets the rest. Shapley values share out the difference that hearing all {number} makes, with nothing "
            "left over: each is what a concept adds, averaged over every order of adding them."
        )
    if attribution is not None:
        sentences.append(
            "A note's score is an association in this one model. It is no proof of how a pianist plays, and one note "
            "alone says little."
        )
    return section("How to read this", *(paragraph(sentence) for sentence in sentences))
