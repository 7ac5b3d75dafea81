"""Identify: a model, music, and the answer: who, how sure, where, and by which concept."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

import cached
import identify_answer
import identify_files
import identify_many
import identify_phrases
import identify_sources
import identify_why
import identify_work
import state
from components.empty import show_empty
from guard import guard, guarded
from identify_answer import Answer
from identify_work import Insight
from pianistid_core.boxed import Box, is_box
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import PianistIDError
from pianistid_core.run_folder import CHECKPOINT
from pianistid_core.runs import Run, RunSummary
from wording import clock, count, duration, listed, one_line, percent, plain, sentence

if TYPE_CHECKING:
    from pianistid_core.identify import Identification


def trained_runs(root: DataRoot) -> list[RunSummary]:
    """The runs that have a checkpoint, the latest first."""
    return [run for run in cached.run_index(root).summaries() if Run(run.path).checkpoints()]


def shipped_model() -> Box | None:
    """The model that comes with the lab, unless there is none or what describes it cannot be read."""
    with guarded():
        return cached.shipped()
    return None


def nothing_to_ask() -> None:
    """What to do where there is neither a run nor a model in the box."""
    show_empty(
        ":material/hearing:", "No trained model yet",
        "Identify asks a model that was trained here. The demo trains in a few minutes.",
        lambda: st.page_link("views/home.py", label="Make and train the demo", icon=":material/home:"),
        key="identify",
    )  # fmt: skip


def choose_model(runs: Sequence[RunSummary], box: Box | None) -> Path | None:
    """The model to ask: the one in the box, else the checkpoint of the latest run, unless another is chosen."""
    by_id = {run.id: run for run in runs}
    names = [box.name] if box is not None else []
    names += list(by_id)
    asked = st.query_params.get(state.MODEL)
    if asked and asked not in names:
        st.warning(sentence(f"there is no trained run {asked} here; another is used"), icon=":material/warning:")
    state.bound_choice(state.MODEL, names)
    chosen = st.selectbox(
        "Model", names, index=None, key=state.MODEL, bind="query-params", format_func=one_line,
        help="The model that comes with the lab, and the runs with a checkpoint, newest first. Their accuracy is on "
        "recordings that they never learned from.",
    )  # fmt: skip
    if box is not None and chosen == box.name:
        about_box(box)
        return box.weights
    return checkpoint_of(by_id[chosen]) if chosen in by_id else None


def about_box(box: Box) -> None:
    """How often the model in the box is right, and its card."""
    who = count(len(box.class_names), "pianist")
    if box.right is not None:
        share, n = box.right
        st.caption(f"It named the pianist of {percent(share)} of {count(n, 'test recording')}, among {who}.")
    else:
        st.caption(f"It knows {who}.")
    if box.card and st.button(
        "Model card", key="model_card", icon=":material/description:", type="tertiary",
        help="What it learned from, how good it is, and what it must not be used for.",
    ):  # fmt: skip
        show_card(box.card)


@st.dialog("Model card", width="large", icon=":material/description:")
def show_card(card: str) -> None:
    with st.container(key="card_text"):
        st.markdown(card)


def checkpoint_of(run: RunSummary) -> Path:
    """The checkpoint of a run to ask: its newest, unless another is chosen."""
    names = [path.name for path in Run(run.path).checkpoints()[::-1]]
    wanted = st.query_params.get("checkpoint")
    if wanted and wanted not in names:
        st.warning(
            sentence(f"{run.id} has no checkpoint {wanted} any more; its newest is used"), icon=":material/warning:"
        )
    state.bound_choice("checkpoint", names)
    picked = st.selectbox(
        "Checkpoint", names, index=None, key="checkpoint", bind="query-params", help="The newest comes first."
    )
    path = run.path / (picked if picked in names else names[0])
    right = right_of_test(path)
    if right is not None:
        st.caption(f"It named the pianist of {percent(right)} of the test recordings.")
    return path


def right_of_test(model: Path) -> float | None:
    """The share of test recordings that a checkpoint names rightly, of its own epoch and not of the run's best."""
    match = CHECKPOINT.fullmatch(model.name)
    if match is None or match[2] is not None:
        return None
    rows = cached.metrics_log(Run(model.parent)).refresh().rows
    mine = [row.get("test_recording_accuracy") for row in rows if row.get("epoch") == int(match[1])]
    return float(mine[-1]) if mine and isinstance(mine[-1], int | float) else None


def split_of(root: DataRoot, model: Path, runs: Sequence[RunSummary], box: Box | None) -> str:
    """The split that a model was trained on, or nothing where its config does not say."""
    if box is not None and model == box.weights:
        return box.config.data_split_dir
    run = next(run for run in runs if run.path == model.parent)
    return str(cached.run_index(root).config(run).get("data_split_dir", ""))


def learned_from(root: DataRoot, split: str, track: str | None) -> bool:
    """Whether a recording is in the part of a split that a model of it learned from."""
    known = cached.contents(root).splits.get(split)
    return (
        track is not None and known is not None and any(entry.track == track for entry in known.parts.get("train", ()))
    )


def right_alone(model: Path) -> dict[str, str]:
    """Each concept's own accuracy, in words, where the run or the box knows it."""
    if is_box(model):
        box = cached.shipped()
        return {} if box is None else identify_why.right_alone_of_box(box)
    from pianistid_core import profiles

    try:
        return identify_why.right_alone(profiles.saved(Run(model.parent), checkpoint=model))
    except PianistIDError:
        return {}


def watch(insight: Insight) -> None:
    """Says what is still worked on, and draws the page again when a part has come."""
    drawn = insight.version

    @st.fragment(run_every=None if insight.finished else 0.7, key="insight")
    @guard
    def _watch() -> None:
        if insight.version != drawn:
            st.rerun()
        if not insight.finished:
            share = min(1.0, insight.done / insight.total) if insight.total else 0.0
            st.progress(share, text=f"{insight.doing}")

    _watch()


def for_nerds(model: Path, answer: Answer, found: "Identification", insight: Insight) -> None:
    """What each number is, and what it came from."""
    with st.expander("For nerds", icon=":material/science:", key="nerds"):
        shared = cached.model(model).identifier
        config = shared.loaded.config
        epoch = shared.loaded.epoch
        roll = "a roll each" if len(shared.hears) == 4 else "from one piano roll"
        features = f"{listed(shared.hears)}, {roll}" if shared.factorised else "one piano roll"
        facts = {
            "Model": f"{found.model}, {config.encoder_module}",
            "Checkpoint": f"{model.name}{f', after epoch {epoch}' if epoch is not None else ''}",
            "Hears": f"{features}; 88 keys, 100 frames a second, 30 s at a time",
            "Music": f"{found.n_notes:,} notes, {duration(found.duration_s)}, {len(found.clips)} clips, "
            f"{len(found.skipped)} left out",
            "Probability of a piece": "The mean over its clips of what the network gives for each, after softmax.",
            "One concept alone": "The same with the other three masked in the network, the same weights.",
            "Lines under the roll": f"Windows of 30 s, a new one every {identify_work.WINDOW_STEP_S:.0f} s or more; "
            "not averaged into the answer.",
            "Similarity": "Cosine of the network's last features, averaged over a recording, less the mean of all.",
        }
        if insight.phrases is not None:
            facts["Phrases that told"] = (
                "Each known n-gram's part of the logit less the mean over all pianists, summed over clips, without "
                "approximation; n-grams of a concept that share most of their notes are one phrase."
            )
        if insight.attribution is not None:
            facts["Notes that mattered"] = (
                f"By {insight.attribution.method}; control {insight.attribution.control:.2f}, stability "
                f"{insight.attribution.stability:.2f}, completeness {insight.attribution.completeness:.2f}."
            )
        for name, value in facts.items():
            one, two = st.columns([2, 6])
            one.caption(name)
            two.markdown(plain(value, 400))
        clips = [f"{clock(clip.start_s)} {next(iter(clip.probabilities))}" for clip in found.clips[:40]]
        st.caption(plain("Clips: " + "; ".join(clips), 2000))


def show(root: DataRoot, model: Path, split: str, answer: Answer, found: "Identification") -> None:
    """All that is known of one piece: the answer first, then the rest as it comes."""
    from pianistid_core.phrases import has_phrases

    if answer.notes is None:
        return
    given = answer.given
    asked = identify_work.Asked(answer.notes, found.pianist, given.track, root, model)
    insight = identify_work.insight(asked, given.data)
    identify_answer.headline(answer, found, insight)
    if learned_from(root, split, given.track):
        st.warning(
            "The model learned from this very recording, so a right answer says nothing of how well it tells others.",
            icon=":material/school:",
        )
    watch(insight)
    identify_answer.along_the_music(answer, found, insight)
    identify_why.concepts(found, right_alone(model))
    can_tell = has_phrases(cached.model(model).identifier)
    identify_phrases.phrases_that_told(answer, found, insight, can_tell=can_tell)
    left, right = st.columns([2, 3], gap="large")
    with left:
        identify_why.notes_that_mattered(answer, insight)
    with right:
        identify_why.alike(root, insight, split)
    identify_files.downloads(answer, found, insight)
    for_nerds(model, answer, found, insight)
    identify_work.begin(insight, asked)


def page() -> None:
    root = state.data_root()
    st.title("Identify")
    runs, box = trained_runs(root), shipped_model()
    if not runs and box is None:
        nothing_to_ask()
        return
    music, ask = st.columns([7, 3], gap="large")
    with ask:
        model = choose_model(runs, box)
    if model is None:
        return
    identify_work.warm_up()
    split = split_of(root, model, runs, box)
    with music:
        pieces = identify_sources.draw_sources(root, split)
    if not pieces:
        with st.container(key="nothing_yet"):
            st.caption("Nothing to listen to yet: drop MIDI files, take a recording that is here, or play.")
        return
    try:
        cached.model(model)
    except PianistIDError as error:
        st.error(sentence(error), icon=":material/error:")
        return
    answer = identify_many.overview(identify_many.ask_all(model, pieces))
    if answer is not None and answer.found is not None:
        show(root, model, split, answer, answer.found)


page()
