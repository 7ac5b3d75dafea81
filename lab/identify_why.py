"""Why the model thinks so: each concept alone, left out, and its exact share; the notes; the recordings most alike."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import streamlit as st

import cached
import charts
import identify_charts
import palette
from components.chart import show_chart
from components.piano_roll import CONCEPT_HELP
from components.recordings import show_recordings
from components.tables import show_data
from identify_answer import MATTERED, Answer, probability_column
from identify_charts import MINUS, NUMBERS, points
from identify_work import Insight
from pianistid_core.concepts import CONCEPTS
from pianistid_core.datasets.root import DataRoot
from pianistid_core.midi import key_name
from pianistid_core.shapley import together
from run_states import PERCENT
from wording import clock, count, listed, one_line, percent, plain, sentence

if TYPE_CHECKING:
    from pianistid_core.boxed import Box
    from pianistid_core.identify import Identification, Probabilities
    from pianistid_core.profiles import Profiles


def concepts(found: "Identification", told: Mapping[str, str]) -> None:
    """The model's answer when concepts are masked: each alone, each left out, its share, and all subsets of them.

    `told` has each concept's own accuracy in words. A concept that the model does not hear is named as such: a share
    of 0 or a bar of no length would look like a finding.
    """
    st.subheader("What gave them away")
    if not found.concepts:
        st.caption(
            "This model hears a recording as a whole, so it cannot say which concept told. A factorised model can: "
            "choose one above, or train one from a preset whose name begins with disentangle."
        )
        return
    who = found.pianist
    full = found.concepts[CONCEPTS][who]
    alone = {concept: found.concepts[(concept,)] for concept in found.hears}
    without = {concept: found.concepts[tuple(c for c in CONCEPTS if c != concept)] for concept in found.hears}
    shares = {concept: share for concept, share in found.shapley().items() if concept in found.hears}
    strongest = max(alone, key=lambda concept: alone[concept][who])
    costliest = min(without, key=lambda concept: without[concept][who])
    st.markdown(
        plain(
            f"From {strongest} alone the model gives {who} {percent(alone[strongest][who])}. "
            f"Without {costliest} its {percent(full)} become {percent(without[costliest][who])}.",
            600,
        )
    )
    for place, concept in zip(st.columns(4, gap="small"), CONCEPTS, strict=True):
        with place:
            if concept in found.hears:
                _card(concept, who, full, alone[concept], without[concept], shares.get(concept), told.get(concept, ""))
            else:
                _unheard_card(concept)
    if shares:
        _shares(found, who, full, shares)
    _alone_and_without(who, alone, without)
    _subsets(found, who)


def right_alone(profiles: "Profiles | None") -> dict[str, str]:
    """Each concept's own accuracy, in words, where the run has its profiles: recordings named rightly by it alone."""
    if profiles is None or not profiles.concepts:
        return {}
    told = {}
    for concept in profiles.concepts:
        right = total = 0.0
        for one in profiles.pianists:
            recall = one.recall.get(concept)
            if recall is not None:
                right, total = right + recall * one.n, total + one.n
        if total:
            told[concept] = (
                f"Alone it names {percent(right / total)} of {count(round(total), profiles.part + ' recording')}."
            )
    return told


def right_alone_of_box(box: "Box") -> dict[str, str]:
    """The same for the model in the box, where it was measured."""
    test = box.measured.get("test")
    found = test.get("concepts") if isinstance(test, Mapping) else None
    told = {}
    for concept, measured in (found or {}).items():
        recordings = measured["recordings"]
        if concept in CONCEPTS and recordings["n"]:
            share = percent(recordings["right"] / recordings["n"])
            told[concept] = f"Alone it names {share} of {count(recordings['n'], 'test recording')}."
    return told


def _unheard_card(concept: str) -> None:
    """In place of figures that would be 0 whatever is played."""
    with st.container(border=True, key=f"concept_{concept}", height="stretch", gap="small"):
        st.markdown(f"**{concept.capitalize()}**", help=CONCEPT_HELP[concept])
        st.markdown("Not heard by this model.")
        st.caption("Its answer is the same whatever is played of this, so it has no share in it.")


def _card(
    concept: str,
    who: str,
    full: float,
    alone: "Probabilities",
    without: "Probabilities",
    share: float | None,
    accuracy: str,
) -> None:
    with st.container(border=True, key=f"concept_{concept}", height="stretch", gap="small"):
        st.markdown(f"**{concept.capitalize()}**", help=CONCEPT_HELP[concept])
        heard = next(iter(alone))
        st.markdown(f"Alone it hears **{plain(one_line(heard, 40))}**, {percent(alone[heard])}.")
        drop = f"Left out: {percent(full)} become {percent(without[who])}"
        other = next(iter(without))
        st.markdown(plain(f"{drop}, and it hears {one_line(other, 40)}." if other != who else f"{drop}.", 300))
        if share is not None:
            st.markdown(f"Its share: **{points(share)}** points.")
        if accuracy:
            st.caption(accuracy)


def _shares(found: "Identification", who: str, full: float, shares: dict[str, float]) -> None:
    silence = found.silence[who]
    left, right = st.columns([3, 2], gap="large", vertical_alignment="center")
    with left:
        number = NUMBERS[len(shares)]
        st.markdown(f"**From nothing heard to all {number}**: probability of {plain(who)}")
        show_chart(identify_charts.waterfall(silence, shares, full, palette.current()), key="shapley")
        rows = [{"concept": name, "share": value} for name, value in shares.items()]
        show_data(rows, key="shapley", name="shapley-values", alt="Each concept's share.")
    with right:
        parts = " ".join(f"{'+' if value >= 0 else MINUS} {abs(100 * value):.1f}" for value in shares.values())
        st.markdown(f"{100 * silence:.1f} {parts} = **{100 * full:.1f}** per cent")
        st.caption(
            "Exact Shapley values: what a concept adds to each set of the others, averaged over every order in which "
            f"the {number} can be heard. They add up to the difference between hearing all and hearing nothing."
        )
        pairs = {pair: more for pair, more in found.interactions().items() if set(pair) <= set(shares)}
        if pairs:
            st.caption(together(pairs))


def _alone_and_without(who: str, alone: "dict[str, Probabilities]", without: "dict[str, Probabilities]") -> None:
    colours = palette.current()
    series = [colours.of_series(CONCEPTS.index(concept)) for concept in alone]
    labels = [concept.capitalize() for concept in alone]
    reach = charts.reach_of([result[who] for result in (*alone.values(), *without.values())])
    halves = (
        ("alone", "One concept alone", labels, alone),
        ("without", "One concept left out", [f"No {concept}" for concept in without], without),
    )
    for place, (key, title, names, results) in zip(st.columns(2, gap="large"), halves, strict=True):
        with place:
            st.markdown(f"**{title}**: probability of {plain(who)}")
            values = [result[who] for result in results.values()]
            notes = [_note(result, who) for result in results.values()]
            chart = charts.subset_bars(names, values, notes, series, reach=reach)
            chart.option["grid"]["right"] = 150  # room for whom it hears instead
            show_chart(chart, key=key)
            rows = [{"concepts": name, **result} for name, result in zip(names, results.values(), strict=True)]
            show_data(rows, key=key, name=f"concepts-{key}", alt=f"{title}: each pianist's probability.")


def _note(result: "Probabilities", who: str) -> str:
    """A bar's label: the probability, and who is likelier when it is someone else."""
    top = next(iter(result))
    return percent(result[who]) if top == who else f"{percent(result[who])}, hears {one_line(top, 24)}"


def _subsets(found: "Identification", who: str) -> None:
    import pandas as pd

    heard = found.hears
    subsets = {tuple(c for c in kept if c in heard): result for kept, result in found.concepts.items()}
    subsets.pop((), None)  # only what is not heard: silence
    with st.expander(f"All {NUMBERS[len(subsets)]} subsets", key="subsets_box", icon=":material/grid_on:"):
        rows = []
        for kept, result in subsets.items():
            top = next(iter(result))
            marks = [concept in kept for concept in heard]
            rows.append((*marks, 100 * result[who], one_line(top), 100 * result[top]))
        labels = [concept.capitalize() for concept in heard]
        names = [*labels, one_line(f"Probability of {who}"), "Likeliest", "Its probability"]
        st.dataframe(
            pd.DataFrame(rows, columns=names), hide_index=True, key="subsets", height="content",
            column_config={
                names[-3]: probability_column("medium"),
                names[-1]: st.column_config.NumberColumn(format=PERCENT),
            },
            alt="The answer for each subset of concepts kept.",
        )  # fmt: skip
        if found.silence:
            st.caption(
                plain(
                    f"With all of them masked the model gives {who} {percent(found.silence[who], 1)}: it hears nothing."
                )
            )


def notes_that_mattered(answer: Answer, insight: Insight) -> None:
    """Which notes spoke for the pianist, how far to trust that, and where to see it."""
    st.subheader(MATTERED)
    attribution = insight.attribution
    if attribution is None:
        not_yet(insight, "attribution")
        return
    st.markdown(
        f"Choose *{MATTERED}* above the piano roll to see each note coloured by how much it spoke for "
        f"{plain(attribution.pianist)} or against, and to hear them."
    )
    if not attribution.informative:
        st.warning("The controls say that this picture tells little of the model. Do not read much into it.")
    for line in attribution.words:
        st.caption(sentence(line))
    notes = answer.notes
    if notes is None or len(notes) != len(attribution.scores):
        return
    strongest = attribution.strongest(3)
    if strongest:
        said = listed(
            f"{key_name(int(notes.pitches[n]))} at {clock(float(notes.onsets_s[n]))} ({_way(attribution.scores[n])})"
            for n in strongest
        )
        st.caption(plain(f"The three strongest: {said}.", 300))
    rows = {
        "onset_s": notes.onsets_s, "pitch": notes.pitches, "velocity": notes.velocities, "score": attribution.scores,
        **attribution.by_concept,
    }  # fmt: skip
    show_data(rows, key="mattered", name="notes-that-mattered", alt="Each note with its score.")
    _without_them(insight)


def _without_them(insight: Insight) -> None:
    """Whether the notes that rank highest are those that this answer rests on: it is asked again without them."""
    st.markdown("**Without them**: probability of the answer as its notes are deleted")
    found = insight.deletion
    if found is None:
        not_yet(insight, "deletion")
        return
    from pianistid_core.deletion import MEASURES, ORDERS

    show_chart(identify_charts.deletion(found, palette.current()), key="without_them")
    for line in found.words():
        st.caption(sentence(line))
    st.caption(
        f"{count(found.n_clips, 'clip')} of this music, each asked by itself; the band holds "
        f"{count(found.n_draws, 'draw')} of random notes."
    )
    rows = [
        {"deleted": share, "order": order, **{measure: found.curve(order, measure).mean[at] for measure in MEASURES}}
        for order in ORDERS
        for at, share in enumerate(found.shares)
    ]
    show_data(rows, key="without_them", name="without-the-notes-that-mattered", alt="The answer without its notes.")


def _way(score: float) -> str:
    return "for" if score > 0 else "against"


def alike(root: DataRoot, insight: Insight, split: str) -> None:
    """The training recordings that the model hears as most alike, to look at and hear; `split` is what it learned."""
    st.subheader("Most alike, of what it learned from")
    if split not in cached.contents(root).splits:
        st.caption("The recordings that this model learned from are not in this data root, so none can be compared.")
        return
    neighbours = insight.neighbours
    if neighbours is None:
        not_yet(insight, "neighbours")
        return
    if insight.familiarity is not None and not insight.familiarity.unlike:
        st.caption(sentence(insight.familiarity.words))
    if not neighbours:
        st.caption("No other recording is there to compare with.")
        return
    labels = {one.track: f"{one.pianist}, similarity {one.similarity:.2f}" for one in neighbours}
    show_recordings(root, [one.track for one in neighbours], key="alike", labels=labels, height=220)
    st.caption("The recording that is asked about, and others of the same music, are left out.")


def not_yet(insight: Insight, part: str) -> None:
    """In place of a part that is not there: why not, or that it comes."""
    trouble = insight.troubles.get(part) or insight.troubles.get("all")
    if trouble:
        st.caption(sentence(f"this could not be worked out: {trouble}"))
    else:
        st.caption("It comes in a moment.")
