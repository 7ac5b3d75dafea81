"""Pianists: what a trained model knows of each pianist, by all it hears and by one concept alone."""

import zlib
from collections.abc import Sequence

import streamlit as st

import acts
import cached
import jobs
import palette
import pianists_charts as charts
import pianists_data as data
import state
from acts import acting
from components.chart import show_chart
from components.empty import show_empty
from components.figures import show_figures
from components.recordings import show_recordings
from guard import guarded
from pianistid_core.accounts import Role
from pianistid_core.boxed import Box
from pianistid_core.datasets.root import DataRoot
from pianistid_core.profiles import Profile, Profiles, saved
from pianistid_core.runs import Run, RunSummary
from pianists_measure import measure
from wording import count, one_line, percent, plain, sentence

PIANIST = "pianist"
PARTS = {"Test": "test", "Validation": "validation"}


def main() -> None:
    """Chooses a model, and shows what it knows."""
    st.title("Pianists")
    root = state.data_root()
    runs = data.trained(cached.run_index(root).summaries())
    with guarded():
        box = cached.shipped()
    shipped = box_profiles(box)
    if not runs and shipped is None:
        words = "This page tells what a trained model knows of each pianist. The demo trains in a few minutes."
        show_empty(":material/groups:", "No trained model yet", words, train_one, key="no_model")
        return
    chosen = choose(runs, box.name if box is not None and shipped is not None else "")
    if chosen is None:
        return
    run, part = chosen
    found = shipped if run is None else measured(run, root, part)
    if found is None:
        return
    heading(found)
    overview(found)
    one = choose_pianist(found)
    if one is not None:
        portrait(one, found)
        typical(one, root, shipped=run is None)
    for_nerds(found)


def train_one() -> None:
    """The way to a first model."""
    st.page_link("views/home.py", label="Make and train the demo", icon=":material/home:")


def box_profiles(box: Box | None) -> Profiles | None:
    """What is known of the pianists of the model in the box, where that was measured when it was made."""
    try:
        return Profiles.from_dict(box.measured["profiles"]) if box is not None else None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def choose(runs: Sequence[RunSummary], shipped: str) -> tuple[Run | None, str] | None:
    """The model, None for the one in the box, and the part of its split to look at."""
    by_id = {run.id: run for run in runs}
    names = ([shipped] if shipped else []) + list(by_id)
    asked = st.query_params.get(state.MODEL)
    if asked and asked not in names:
        st.warning(sentence(f"there is no trained run {asked} here; another is shown"), icon=":material/warning:")
    state.bound_choice(state.MODEL, names)
    one, two = st.columns([5, 2], vertical_alignment="bottom")
    model = one.selectbox(
        "Model", names, index=None, key=state.MODEL, bind="query-params", format_func=one_line,
        help="The model that comes with the lab, and the runs with a checkpoint, newest first, at their most trained.",
    )  # fmt: skip
    if shipped and model == shipped:
        return None, PARTS["Test"]
    part = two.segmented_control(
        "Part", list(PARTS), default="Test", key="pianists_part", bind="query-params", required=True,
        help="Which recordings the figures are of. The model has learned from neither.",
    )  # fmt: skip
    return (Run(by_id[model].path), PARTS[str(part)]) if model in by_id else None


def measured(run: Run, root: DataRoot, part: str) -> Profiles | None:
    """The profiles kept in the run, else a button that measures them."""
    job = f"profile {run.path} {part}"
    found = saved(run, part)
    if found is not None:
        jobs.forget(job)
        return found
    going = jobs.find(job)
    if going is None or not going.running:
        words = f"Listens to the recordings of the {part} part five times: with everything, and by one concept alone. "
        words += "It takes seconds for the demo, and minutes for the paper's pianists on a CPU."

        def go() -> None:
            st.button(
                "Measure this model", key="pianists_measure", type="primary", icon=":material/hearing:",
                on_click=start, args=(run, root, part, job),
                **acts.allowed(Role.RUN, "Works in the background; the page can be left."),
            )  # fmt: skip

        show_empty(":material/groups:", "Not measured yet", words, go, key="measure")
    done = jobs.draw(job)
    if done is not None and done.error is None:
        # It ended well, but what it wrote is not there: the checkpoint was replaced or the run removed meanwhile.
        st.warning(sentence("the model changed while it was measured; measure it once more"), icon=":material/warning:")
    return None


@acting(Role.RUN)
def start(run: Run, root: DataRoot, part: str, job: str) -> None:
    """Measures a model in the background."""
    jobs.start(job, f"Listening to the {part} recordings", lambda progress: measure(run, root, part, progress))


def heading(found: Profiles) -> None:
    """The figures of the whole model."""
    right = round(found.accuracy * found.n_recordings)
    figures = [
        (
            "Recordings right", percent(found.accuracy), f"Of the {found.part} part, with everything heard.",
            f"{right} of {found.n_recordings}, {found.part} part",
        )
    ]  # fmt: skip
    means = data.mean_recalls(found)
    for concept in found.concepts:
        words = f"Mean over pianists of the share of recordings named right by {concept} alone."
        figures.append((f"{concept.capitalize()} alone", percent(means[concept]), words, "mean over pianists"))
    show_figures(figures, key="pianists")
    if not found.concepts:
        words = "This model hears all as one, so it cannot be asked about a concept alone; a factorised model can."
        st.info(plain(words, 300), icon=":material/info:")
    st.caption(plain(f"From {found.checkpoint}."))


def overview(found: Profiles) -> None:
    """Every pianist by everything and each concept alone."""
    order = st.segmented_control(
        "Order", list(data.ORDERS), default=data.BEST_FIRST, key="pianists_order", bind="query-params", required=True,
        help="Look-alikes are pianists that are taken for each other.",
    )  # fmt: skip
    order = str(order)
    about = f"Per cent of each pianist's recordings of the {found.part} part; beside the name how many there are."
    with st.container(width=900):
        show_chart(
            charts.overview(data.ordered(found, order), found, palette.current()), key="pianists_overview",
            title="Who is recognised, and by what" if found.concepts else "Who is recognised", about=about,
            data=lambda: data.overview_table(found, order),
        )  # fmt: skip


def choose_pianist(found: Profiles) -> Profile | None:
    """The pianist to look at closely, from the address or the list."""
    by_name = {one.pianist: one for one in data.ordered(found, data.BEST_FIRST)}
    if not by_name:
        return None
    asked = st.query_params.get(PIANIST)
    if asked and asked not in by_name:
        st.warning(sentence(f"this model does not know {asked}"), icon=":material/warning:")
    state.bound_choice(PIANIST, list(by_name))
    name = st.selectbox(
        "Pianist", list(by_name), index=None, key=PIANIST, bind="query-params", format_func=one_line, width=420,
        help="Whom to look at closely, the best known first.",
    )  # fmt: skip
    return by_name.get(str(name))


def portrait(one: Profile, found: Profiles) -> None:
    """One pianist: in words, by each concept, and whom they are taken for."""
    with st.container(border=True, key="pianist_words"):
        st.subheader(plain(one.pianist), anchor=False)
        st.write(plain(data.in_words(one, found), 900))
    if not one.n:
        return
    colours = palette.current()
    left, right = st.columns([2, 3] if found.concepts else [1, 1], gap="large")
    if found.concepts:
        with left:
            show_chart(
                charts.radar(one, found, colours), key="pianists_radar", title="By one concept alone",
                about="Per cent of recordings named right.", data=lambda: data.profile_table(one, found),
            )  # fmt: skip
    with right if found.concepts else left:
        of = f"Of {count(one.n, 'recording')}, with 95 % intervals."
        show_chart(
            charts.recalls(one, found, colours), key="pianists_recalls", title="How sure that is", about=of,
            data=lambda: data.profile_table(one, found),
        )  # fmt: skip
    show_chart(
        charts.taken_for(one, found, colours), key="pianists_taken", title=f"Whom {one_line(one.pianist)} is taken for",
        about="Where the recordings go, by everything and by each concept alone; at most three others are named.",
        data=lambda: data.profile_table(one, found),
    )  # fmt: skip
    st.dataframe(
        data.profile_table(one, found), hide_index=True, key="pianists_table", height="content",
        column_config={"Taken for": st.column_config.TextColumn(width="large")},
        alt="Recall, interval and look-alikes by each concept.",
    )  # fmt: skip


def typical(one: Profile, root: DataRoot, *, shipped: bool) -> None:
    """The recordings that sound most like the pianist to the model, to look at and hear.

    Those of the `shipped` model need not be here.
    """
    if not one.n:
        return
    st.subheader("Most typical recordings", anchor=False)
    if not one.typical:
        st.caption(plain(f"The model names none of the recordings of {one_line(one.pianist)}, so none is typical."))
        return
    if shipped and not any(root.clip_paths(track) for track, _ in one.typical):
        st.caption("The recordings that this model was tested on are not in this data root.")
        return
    st.caption("Named right, and with the highest probability; the first is the most typical.")
    labels = {track: f"{percent(share)} sure" for track, share in one.typical}
    # By a number: a name may hold what a key may not, such as two underscores.
    key = f"pianists_{zlib.crc32(one.pianist.encode('utf-8', 'surrogatepass')):08x}"
    show_recordings(root, [track for track, _ in one.typical], key=key, labels=labels)


def for_nerds(found: Profiles) -> None:
    """What the numbers mean, and do not."""
    with st.expander("For nerds: what these numbers mean", icon=":material/functions:"):
        n = len([one for one in found.pianists if one.n])
        st.markdown(
            f"A recording counts as named right when the probabilities of its clips of 30 s, averaged, are highest for "
            f"its pianist. Guessing among {n} pianists is right {percent(1 / max(1, n))} of the time. Intervals are "
            "Wilson's: of six recordings, five right can mean anything from 44 to 97 %."
        )
        if found.concepts:
            st.markdown(
                "**A concept alone** means that the embeddings of the others are set to zero before the model's "
                "head. The head has learned from all of them together, though with some hidden at times, and pools "
                "over all: one alone also arrives weaker. So a low figure can mean that the concept holds little "
                "evidence, or that the head hears it too softly: scale and evidence mix. Compare pianists by one "
                "concept rather than concepts with each other. With little to go by a model says the same few names "
                "again and again, and is right about those by chance: the table tells how many recordings of others "
                "are taken for them too. And a figure says how *this model* tells a pianist, not what makes them "
                "sound as they do."
            )


main()
