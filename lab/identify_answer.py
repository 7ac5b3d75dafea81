"""The answer of the Identify page: who, how sure, against whom, what to beware of, and the piece to see and hear."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import streamlit as st

import cached
import identify_charts
import identify_work
import palette
from components.chart import show_chart
from components.piano_roll import Band, Layer, Moments, Roll, Verdict, show_roll
from components.tables import show_data
from identify_sources import MAX_MB, Given
from identify_work import Insight
from pianistid_core.midi import Notes
from run_states import PERCENT
from wording import count, duration, one_line, percent, plain, sentence

if TYPE_CHECKING:
    from pathlib import Path

    from pianistid_core.identify import Identification

MATTERED = "Notes that mattered"
_MOST_NAMES = 12
_MOST_WARNINGS = 4


@dataclass(frozen=True)
class Answer:
    """What came of one piece: an identification, or the sentence that says why not."""

    given: Given
    found: "Identification | None"
    notes: Notes | None
    error: str = ""


def ask(model: "Path", given: Given) -> Answer:
    """Identifies one piece; what cannot be identified gets its sentence.

    Raises nothing that belongs to the piece: those errors are in the answer.
    """
    from pianistid_core.errors import ExtractionError, InvalidNotesError, MidiError

    if len(given.data) > MAX_MB * 2**20:
        size = len(given.data) / 2**20
        return Answer(given, None, None, f"the file has {size:.0f} MB; at most {MAX_MB} MB are taken, so cut it up")
    try:
        notes = cached.notes_of_upload(given.data)
        return Answer(given, cached.identification(model, given.data), notes)
    except (MidiError, InvalidNotesError, ExtractionError) as error:
        return Answer(given, None, None, str(error))


def probability_column(width: Literal["small", "medium"] = "small") -> Any:
    """A column of probabilities in per cent, each with its bar."""
    return st.column_config.ProgressColumn(format=PERCENT, min_value=0, max_value=100, width=width, color="primary")


def unlike(insight: Insight) -> bool:
    """Whether the music is known to be unlike all that the model learned from."""
    return insight.familiarity is not None and insight.familiarity.unlike


def unheard(found: "Identification") -> str:
    """What is left of the music after its last whole clip, in words; nothing where that is less than a second."""
    return f"; the last {found.unheard_s:.0f} s, too short for a clip, were not" if found.unheard_s >= 1 else ""


def in_a_sentence(found: "Identification", *, strange: bool) -> str:
    """How probable, how sure and against whom, as Markdown; `strange` music makes no model sure."""
    against = plain(compared(found.probabilities))
    if found.stranger and not found.headline.startswith(found.pianist):
        likest = f"Most like **{plain(found.pianist)}**: {percent(found.confidence)} probable"
        return f"{likest}, if it is one of those it knows\\."
    if strange:
        how, what = [f"**{percent(found.confidence)}** probable", against], "this music is unlike all it knows"
        own = "the model's own measure" if found.coverage is None else "measured on music that it knows"
        return ", ".join(part for part in how if part) + f"\\. That is {own}, and {what}."
    how = [how_sure(found.confidence), against]
    return f"**{percent(found.confidence)}** probable. " + ", ".join(part for part in how if part) + "\\."


def how_sure(confidence: float) -> str:
    """A probability in words."""
    if confidence >= 0.9:
        return "The model is sure"
    if confidence >= 0.75:
        return "The model is fairly sure"
    return "The model has some doubt" if confidence >= 0.5 else "It could well be someone else"


def compared(probabilities: dict[str, float]) -> str:
    """How the likeliest pianist stands against the runner-up, in words; nothing when there is no other."""
    ranked = list(probabilities.items())
    if len(ranked) < 2:
        return ""
    (_, first), (second, share) = ranked[:2]
    ratio = first / max(share, 1e-9)
    said = f"{second} ({percent(share, 0 if share >= 0.01 else 1)})"
    if ratio >= 20:
        return f"nobody else comes near; next is {said}"
    if ratio >= 3:
        return f"far ahead of {said}"
    if ratio >= 1.5:
        return f"ahead of {said}"
    return f"hardly ahead of {said}" if ratio >= 1.1 else f"level with {said}"


def headline(answer: Answer, found: "Identification", insight: Insight) -> None:
    """Who, how sure, against whom and whether that is right; beside it the likeliest pianists."""
    with st.container(border=True, key="headline"):
        left, right = st.columns([5, 6], gap="large", vertical_alignment="center")
        with left:
            st.caption(plain(answer.given.name))
            st.markdown(f"## {plain(found.headline)}")
            st.markdown(in_a_sentence(found, strange=unlike(insight)))
            show_calibrated(found)
            st.caption(plain(whoever_plays(found)))
            if answer.given.truth is not None:
                verdict(answer.given.truth, found)
            facts = f"{duration(found.duration_s)} of music, {count(found.n_notes, 'note')}, "
            st.caption(
                plain(f"{facts}{count(len(found.clips), 'clip')} of 30 s heard by {found.model}{unheard(found)}.")
            )
        with right:
            colours = palette.current()
            show_chart(identify_charts.ranking(found.probabilities, colours), key="probabilities")
            rows = [{"pianist": name, "probability": share} for name, share in found.probabilities.items()]
            show_data(rows, key="probabilities", name="probabilities", alt="Each pianist's probability.")
    beware(found, insight)


def whoever_plays(found: "Identification") -> str:
    """What the answer is worth when the pianist may be anybody, in sentences."""
    guess = f"Guessing among {len(found.probabilities)} pianists would be right"
    guessing = f"{guess} {percent(1 / len(found.probabilities))} of the time."
    if found.unknown is None:
        return f"It names one of the {len(found.probabilities)} pianists it knows, whoever plays. {guessing}"
    if found.stranger:
        return guessing
    return f"Whoever is not among the pianists it knows gets another's name, unless it notices. {guessing}"


def show_calibrated(found: "Identification") -> None:
    """What a calibration adds to the headline: what the number means, who else it may be, whether it is anybody."""
    if found.coverage is None:
        return
    if found.stranger:
        st.markdown(f":orange[:material/person_off:] {plain(found.doubt())}")
    st.markdown(f":material/groups: {plain(found.in_question())}")
    if not found.stranger:
        st.caption(plain(f"Of 100 answers this sure, about {100 * found.confidence:.0f} are right."))


def verdict(truth: str, found: "Identification") -> None:
    """Whether the answer is right, for a recording of which that is known."""
    if truth == found.pianist:
        st.markdown(f":green[:material/check_circle:] Right: {plain(truth)} plays.")
    elif truth in found.probabilities:
        place = list(found.probabilities).index(truth) + 1
        share = percent(found.probabilities[truth])
        st.markdown(
            f":orange[:material/cancel:] In truth {plain(truth)} plays, who is number {place} here with {share}."
        )
    else:
        st.markdown(f":orange[:material/cancel:] In truth {plain(truth)} plays, whom this model does not know.")


def beware(found: "Identification", insight: Insight) -> None:
    """What to know before believing the answer."""
    familiarity = insight.familiarity
    if familiarity is not None and unlike(insight):
        st.warning(sentence(familiarity.words), icon=":material/person_off:")
    warnings = (*found.remarks, *found.warnings)
    for warning in warnings[:_MOST_WARNINGS]:
        st.warning(sentence(warning), icon=":material/warning:")
    if len(warnings) > _MOST_WARNINGS:
        with st.expander(f"{len(warnings) - _MOST_WARNINGS} more warnings", key="more_warnings"):
            for warning in warnings[_MOST_WARNINGS:]:
                st.caption(sentence(warning))


def along_the_music(answer: Answer, found: "Identification", insight: Insight) -> None:
    """The piano roll with sound, who is heard when under it, and the stage view."""
    if answer.notes is None:
        return
    st.subheader("Look and listen")
    base = identify_work.whole_roll(answer.given.data, one_line(answer.given.name))
    roll = assembled(base, answer, found, insight)
    show_roll(roll, key=f"roll_{identify_work.digest(answer.given.data)}", height=340)
    moments = roll.moments
    if moments is not None and len(moments.spans_s) > 1:
        what = "the 30 s around it" if moments.smooth else "its 30 s clip"
        left, right = st.columns([6, 1], vertical_alignment="center")
        left.caption(
            f"Lines: how probable each pianist is, in per cent, at each moment by {what}. The five "
            "likeliest are drawn. A click moves the music there."
        )
        with right:
            show_data(moment_rows(moments), key="timeline", name="along-the-music", alt="Who is heard when.")


def assembled(base: Roll, answer: Answer, found: "Identification", insight: Insight) -> Roll:
    """The piece with all that is known of it so far: bands, moments, and the notes that mattered as a layer."""
    names = list(found.probabilities)
    bands = [
        Band(clip.start_s, clip.end_s, one_line(top, 40), palette.place_of(top, names), share)
        for clip in found.clips
        for top, share in list(clip.probabilities.items())[:1]
    ]
    layers = list(base.layers)
    mattered = mattered_layer(layers[0], insight)
    if mattered is not None:
        layers.append(mattered)
    truth = one_line(answer.given.truth, 60) if answer.given.truth is not None else None
    return replace(
        base,
        layers=layers,
        bands=bands if len(bands) > 1 else (),
        moments=moments_of(found, insight),
        verdict=Verdict(one_line(found.pianist, 60), found.confidence, truth, unlike(insight) or found.stranger),
    )


def mattered_layer(played: Layer, insight: Insight) -> Layer | None:
    """The notes as played, coloured by how much each spoke for the pianist or against."""
    attribution = insight.attribution
    if attribution is None or len(attribution.scores) != len(played.starts_s):
        return None
    who = one_line(attribution.pianist, 40)
    words = "" if attribution.informative else " Take it with care: the controls below say that it is not telling."
    return replace(
        played, name=MATTERED, scores=attribution.scores, poles=(f"against {who}", f"for {who}"),
        help=f"How much each note spoke for {who}, or against: an association, not a proof.{words}",
    )  # fmt: skip


def moments_of(found: "Identification", insight: Insight) -> Moments:
    """Who is heard when: by windows that overlap once they are known, by clips until then."""
    windows = insight.windows
    if windows is not None:
        names = windows.names
        shares, concepts = windows.shares, windows.concepts
        spans: Sequence[tuple[float, float]] = windows.spans_s
    else:
        names = tuple(sorted(found.probabilities))
        spans = [(clip.start_s, clip.end_s) for clip in found.clips]
        shares = np.array([[clip.probabilities[name] for name in names] for clip in found.clips])
        # Until the windows are there, what a concept says of the whole piece stands for each clip.
        alone = {concept: found.concepts[(concept,)] for concept in found.hears if found.concepts}
        concepts = {
            concept: np.tile([heard[name] for name in names], (len(spans), 1)) for concept, heard in alone.items()
        }
    kept = _who_matters(shares, list(concepts.values()))
    return Moments(
        spans_s=spans,
        names=[one_line(names[n], 40) for n in kept],
        colours=[palette.place_of(names[n], names) for n in kept],
        shares=shares[:, kept],
        concepts={concept.capitalize(): rows[:, kept] for concept, rows in concepts.items()},
        smooth=windows is not None,
    )


def _who_matters(shares: "np.ndarray", concepts: Sequence["np.ndarray"]) -> list[int]:
    """The columns of those who are likely on the whole, or the likeliest somewhere, by all or by one concept."""
    order = [int(n) for n in np.argsort(-shares.mean(axis=0), kind="stable")]
    leading = {int(n) for rows in (shares, *concepts) for n in np.unique(rows.argmax(axis=1))}
    return [*order[:5], *(n for n in order[5:] if n in leading)][:_MOST_NAMES]


def moment_rows(moments: Moments) -> list[dict[str, object]]:
    """The lines under the roll as a table."""
    return [
        {"start_s": start, "end_s": end, **dict(zip(moments.names, np.round(row, 4).tolist(), strict=True))}
        for (start, end), row in zip(moments.spans_s, moments.shares, strict=True)
    ]
