"""Identify: a model, music, and the answer: who, how sure, where, and by which concept."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

import cached
import identify_answer
import identify_files
import identify_many
import identify_sources
import identify_why
import identify_work
import state
from components.empty import show_empty
from guard import guard
from identify_answer import Answer
from identify_work import Insight
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import PianistIDError
from pianistid_core.run_folder import CHECKPOINT
from pianistid_core.runs import Run, RunSummary
from wording import clock, duration, one_line, percent, plain, sentence

if TYPE_CHECKING:
    from pianistid_core.identify import Identification
    from pianistid_core.profiles import Profiles


def trained_runs(root: DataRoot) -> list[RunSummary]:
    """The runs that have a checkpoint, the latest first; says what to do where there is none."""
    runs = [run for run in cached.run_index(root).summaries() if Run(run.path).checkpoints()]
    if not runs:
        show_empty(
            ":material/hearing:", "No trained model yet",
            "Identify asks a model that was trained here. The demo trains in a few minutes.",
            lambda: st.page_link("views/home.py", label="Make and train the demo", icon=":material/home:"),
            key="identify",
        )  # fmt: skip
    return runs


def choose_model(runs: Sequence[RunSummary]) -> Path | None:
    """The checkpoint to ask: of the latest run, unless another is chosen."""
    by_id = {run.id: run for run in runs}
    asked = st.query_params.get(state.MODEL)
    if asked and asked not in by_id:
        st.warning(sentence(f"there is no trained run {asked} here; another is used"), icon=":material/warning:")
    state.bound_choice(state.MODEL, list(by_id))
    chosen = st.selectbox(
        "Model", list(by_id), index=None, key=state.MODEL, bind="query-params", format_func=one_line,
        help="A run with a checkpoint, newest first. Its accuracy is on recordings that it never learned from.",
    )  # fmt: skip
    if chosen not in by_id:
        return None
    names = [path.name for path in Run(by_id[chosen].path).checkpoints()[::-1]]
    wanted = st.query_params.get("checkpoint")
    if wanted and wanted not in names:
        st.warning(
            sentence(f"{chosen} has no checkpoint {wanted} any more; its newest is used"), icon=":material/warning:"
        )
    state.bound_choice("checkpoint", names)
    picked = st.selectbox(
        "Checkpoint", names, index=None, key="checkpoint", bind="query-params", help="The newest comes first."
    )
    path = by_id[chosen].path / (picked if picked in names else names[0])
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


def split_of(root: DataRoot, run: RunSummary) -> str:
    """The split that a run was trained on, or nothing where its config does not say."""
    return str(cached.run_index(root).config(run).get("data_split_dir", ""))


def learned_from(root: DataRoot, split: str, track: str | None) -> bool:
    """Whether a recording is in the part of a split that a model of it learned from."""
    known = cached.contents(root).splits.get(split)
    return (
        track is not None and known is not None and any(entry.track == track for entry in known.parts.get("train", ()))
    )


def profiles_of(model: Path) -> "Profiles | None":
    """What the run knows of each concept's own accuracy, when that was measured."""
    from pianistid_core import profiles

    try:
        return profiles.saved(Run(model.parent), checkpoint=model)
    except PianistIDError:
        return None


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
        features = "melody, harmony, rhythm and dynamics, a roll each" if shared.factorised else "one piano roll"
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
        if insight.attribution is not None:
            facts["Notes that mattered"] = (
                f"Integrated gradients; control {insight.attribution.control:.2f}, stability "
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
    identify_why.concepts(found, profiles_of(model))
    left, right = st.columns([2, 3], gap="large")
    with left:
        identify_why.notes_that_mattered(answer, insight)
    with right:
        identify_why.alike(root, insight)
    identify_files.downloads(answer, found, insight)
    for_nerds(model, answer, found, insight)
    identify_work.begin(insight, asked)


def page() -> None:
    root = state.data_root()
    st.title("Identify")
    runs = trained_runs(root)
    if not runs:
        return
    music, ask = st.columns([7, 3], gap="large")
    with ask:
        model = choose_model(runs)
    if model is None:
        return
    identify_work.warm_up()
    split = split_of(root, next(run for run in runs if run.path == model.parent))
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
