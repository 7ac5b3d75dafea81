"""Identify: a model, a MIDI file, and the answer: who, how sure, where, and by which concept."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import streamlit as st

import cached
import charts
import palette
import runs_table
import state
from components.chart import show_chart
from components.piano_roll import Band, performance_roll, show_roll
from pianistid_core.concepts import CONCEPTS
from pianistid_core.datasets.root import PARTS, DataRoot
from pianistid_core.errors import PianistIDError
from pianistid_core.midi import Notes
from pianistid_core.runs import Run, RunSummary, list_runs
from wording import count, duration, listed, one_line, percent, plain, sentence

if TYPE_CHECKING:
    from pianistid_core.identify import Identification

MAX_FILES = 50
MAX_MB = 20


@dataclass(frozen=True)
class Given:
    """One piece to identify: its name, its bytes, and who plays when that is known."""

    name: str
    data: bytes
    truth: str | None = None


@dataclass(frozen=True)
class Answer:
    """What came of one piece: an identification, or the sentence that says why not."""

    given: Given
    found: "Identification | None"
    notes: Notes | None
    error: str = ""


def choose_model(root: DataRoot) -> Path | None:
    """The checkpoint to ask: of a run that has one, the latest unless another is chosen."""
    runs: list[RunSummary] = [run for run in list_runs(root.checkpoints_dir) if Run(run.path).checkpoints()]
    if not runs:
        with st.container(border=True, width=640):
            st.markdown("##### No trained model yet")
            st.write("Identify asks a model that was trained here. The demo trains in a few minutes.")
            st.page_link("views/home.py", label="Make and train the demo", icon=":material/home:")
        return None
    by_id = {run.id: run for run in runs}

    asked = st.query_params.get(state.MODEL)
    if asked and asked not in by_id:
        st.warning(sentence(f"there is no trained run {asked} here; another is used"), icon=":material/warning:")
    state.bound_choice(state.MODEL, list(by_id))
    one, two = st.columns([3, 2])
    chosen = one.selectbox(
        "Model", list(by_id), index=None, key=state.MODEL, bind="query-params", format_func=one_line,
        help="A run with a checkpoint, newest first. Its accuracy is on recordings that it never learned from.",
    )  # fmt: skip
    if chosen not in by_id:
        return None
    paths = Run(by_id[chosen].path).checkpoints()[::-1]
    picked = two.selectbox(
        "Checkpoint", [path.name for path in paths], key=f"checkpoint:{chosen}",
        help="The newest comes first.",
    )  # fmt: skip
    best = by_id[chosen].best_recording_accuracy
    if best is not None:
        st.caption(f"This model named the pianist of {percent(best)} of the test recordings.")
    return next((path for path in paths if path.name == picked), paths[0])


def uploads() -> list[Given]:
    files = st.file_uploader(
        "MIDI files", type=["mid", "midi"], accept_multiple_files=True, max_upload_size=MAX_MB, key="midi_files",
        help=f"Piano performances as MIDI: one or many, {MAX_MB} MB each. They stay on this machine.",
    )  # fmt: skip
    if len(files) > MAX_FILES:
        st.warning(f"The first {MAX_FILES} files are taken; drop the others later.", icon=":material/warning:")
    return [Given(file.name, file.getvalue()) for file in files[:MAX_FILES]]


def example(root: DataRoot) -> Given | None:
    """A whole recording or a clip of a data set, for which the truth is known."""
    splits = cached.contents(root).splits
    if not splits:
        return None
    asked = st.query_params.get("example")
    with st.expander("Or take a recording that is here", icon=":material/library_music:", expanded=bool(asked)):
        st.caption("From the parts that a model does not learn from, so that the answer is an honest one.")
        one, two, three = st.columns([2, 2, 4])
        names = list(splits)
        split = splits[
            one.selectbox("Split", names, index=names.index(asked) if asked in names else 0, key="example_split")
            or names[0]
        ]
        entries = [entry for part in PARTS[1:] for entry in split.parts.get(part, ())]
        pianists = sorted({split.class_names[entry.pianist] for entry in entries})
        pianist = two.selectbox("Pianist", pianists, key="example_pianist")
        tracks = [entry.track for entry in entries if split.class_names[entry.pianist] == pianist]
        recordings = cached.contents(root).recordings

        def title(track: str) -> str:
            info = recordings.get(track)
            return one_line((info.composition if info else None) or track.rpartition("/")[2], 80)

        track = three.selectbox("Recording", tracks, format_func=title, key="example_track")
        if not track or not pianist:
            return None
        files = recording_files(root, track)
        if not files:
            st.warning(sentence(f"no file of {track} is on disk"), icon=":material/warning:")
            return None
        one, two = st.columns([2, 6], vertical_alignment="bottom")
        part = one.selectbox("What of it", list(files), key=f"example_part_{track}")
        if not two.toggle("Identify this", value=bool(asked), key="example_on"):
            return None
        chosen = part or next(iter(files))
        return Given(f"{title(track)}, {chosen.lower()}", files[chosen].read_bytes(), truth=pianist)


def recording_files(root: DataRoot, track: str) -> dict[str, Path]:
    """What there is of a recording: the whole of it where the data root holds that, and its clips."""
    whole = root.raw_dir / track / "piano_midi.mid"
    clips = {f"Clip {number}": path for number, path in enumerate(root.clip_paths(track), start=1)}
    return ({"The whole": whole} if whole.is_file() else {}) | clips


def ask(model: Path, pieces: list[Given]) -> list[Answer]:
    """Identifies each piece; a bad one gets its sentence and does not hold up the others."""
    answers = []
    bar = st.progress(0.0) if len(pieces) > 1 else None
    for number, given in enumerate(pieces):
        if bar:
            bar.progress(number / len(pieces), text=plain(f"Listening to {given.name}"))
        try:
            if len(given.data) > MAX_MB * 2**20:
                answers.append(Answer(given, None, None, f"the file is larger than {MAX_MB} MB"))
                continue
            notes = cached.notes_of_upload(given.data)
            answers.append(Answer(given, cached.identification(model, given.data), notes))
        except PianistIDError as error:
            answers.append(Answer(given, None, None, str(error)))
    if bar:
        bar.empty()
    return answers


def probability_column(width: Literal["small", "medium"] = "small") -> Any:
    """A column of probabilities in per cent, each with its bar."""
    return st.column_config.ProgressColumn(
        format=runs_table.PERCENT, min_value=0, max_value=100, width=width, color="primary"
    )


def overview(answers: list[Answer]) -> Answer | None:
    """Several files at a glance; the one to look into is chosen below."""
    good = [answer for answer in answers if answer.found]
    for answer in answers:
        if answer.error:
            st.error(f"**{plain(answer.given.name)}**: {sentence(answer.error)}", icon=":material/music_off:")
    if not good:
        return None
    if len(good) == 1:
        return good[0]
    rows = [
        (one_line(answer.given.name), one_line(answer.found.pianist), 100 * answer.found.confidence)
        for answer in good
        if answer.found
    ]
    st.dataframe(
        pd.DataFrame(rows, columns=["File", "Heard", "Probability"]), hide_index=True, key="answers",
        column_config={
            "File": st.column_config.TextColumn(width="medium"),
            "Heard": st.column_config.TextColumn(width="small"),
            "Probability": probability_column(),
        },
        alt="Each file with the pianist heard.",
    )  # fmt: skip
    position = st.selectbox(
        "Look into", range(len(good)), format_func=lambda n: one_line(good[n].given.name), key="answer"
    )
    return good[position or 0]


def how_sure(confidence: float) -> str:
    if confidence >= 0.8:
        return "and the model is sure"
    return "with some doubt" if confidence >= 0.5 else "but it could well be someone else"


def headline(answer: Answer, found: "Identification") -> None:
    """Who, how sure, and how the runners-up compare."""
    others = list(found.probabilities.items())[1:3]
    with st.container(border=True, key="headline"):
        st.caption(plain(answer.given.name))
        st.markdown(f"## {plain(found.pianist)}")
        st.markdown(f"**{percent(found.confidence)}** probable, {how_sure(found.confidence)}.")
        if others:
            st.markdown(plain(f"Next: {listed(f'{name} {percent(value)}' for name, value in others)}."))
        truth = answer.given.truth
        if truth is not None:
            right = truth == found.pianist
            mark = ":green[:material/check_circle:]" if right else ":orange[:material/cancel:]"
            st.markdown(f"{mark} {'Right' if right else 'In truth'}: {plain(truth)} plays.")
        st.caption(
            plain(
                f"{duration(found.duration_s)} of music, {count(found.n_notes, 'note')}, "
                f"{count(len(found.clips), 'clip')} heard by {found.model}."
            )
        )
    for warning in found.warnings[:5]:
        st.warning(sentence(warning), icon=":material/warning:")
    if len(found.warnings) > 5:
        st.caption(f"And {len(found.warnings) - 5} more warnings of this kind.")


def along_the_music(answer: Answer, found: "Identification") -> None:
    """The piano roll with sound, the likeliest pianist of each clip above it, and the probabilities along it."""
    if answer.notes is None:
        return
    ranked = list(found.probabilities)[:5]
    bands = [
        Band(clip.start_s, clip.end_s, one_line(top, 40), ranked.index(top) if top in ranked else 7, share)
        for clip in found.clips
        for top, share in list(clip.probabilities.items())[:1]
    ]
    st.subheader("Look and listen")
    digest = hashlib.sha256(answer.given.data).hexdigest()[:12]
    roll = performance_roll(answer.notes, one_line(answer.given.name), bands if len(bands) > 1 else ())
    show_roll(roll, key=f"roll_{digest}", height=320)
    if len(found.clips) > 1:
        st.subheader("Clip by clip")
        spans = [(clip.start_s, clip.end_s) for clip in found.clips]
        clips = [{one_line(k): v for k, v in clip.probabilities.items()} for clip in found.clips]
        show_chart(charts.timeline(spans, clips, palette.current()), key="timeline")


def what_told(found: "Identification") -> None:
    """The model's answer when concepts are masked: each alone, each left out, and all fifteen subsets."""
    if not found.concepts:
        st.caption("This model hears a recording as a whole, so it cannot say which concept told.")
        return
    st.subheader("What gave them away")
    who = found.pianist
    colours = palette.current()
    full = found.concepts[CONCEPTS][who]
    alone = [found.concepts[(concept,)] for concept in CONCEPTS]
    without = [found.concepts[tuple(c for c in CONCEPTS if c != concept)] for concept in CONCEPTS]
    strongest = max(range(4), key=lambda i: alone[i][who])
    costliest = min(range(4), key=lambda i: without[i][who])
    st.markdown(
        plain(
            f"From {CONCEPTS[strongest]} alone the model gives {who} {percent(alone[strongest][who])}. "
            f"Without {CONCEPTS[costliest]} its {percent(full)} become {percent(without[costliest][who])}.",
            600,
        )
    )
    left, right = st.columns(2, gap="large")
    series = [colours.of_series(index) for index in range(4)]
    labels = [concept.capitalize() for concept in CONCEPTS]
    reach = charts.reach_of([result[who] for result in (*alone, *without)])
    with left:
        st.markdown(f"**One concept alone**: probability of {plain(who)}")
        notes = [_note(result, who) for result in alone]
        show_chart(charts.subset_bars(labels, [r[who] for r in alone], notes, series, reach=reach), key="alone")
    with right:
        st.markdown(f"**One concept left out**: probability of {plain(who)}")
        notes = [_note(result, who) for result in without]
        names = [f"No {concept}" for concept in CONCEPTS]
        show_chart(charts.subset_bars(names, [r[who] for r in without], notes, series, reach=reach), key="without")
    with st.expander("All fifteen subsets"):
        rows = []
        for kept, result in found.concepts.items():
            top = next(iter(result))
            marks = [concept in kept for concept in CONCEPTS]
            rows.append((*marks, 100 * result[who], one_line(top), 100 * result[top]))
        names = [*labels, one_line(f"Probability of {who}"), "Likeliest", "Its probability"]
        st.dataframe(
            pd.DataFrame(rows, columns=names), hide_index=True, key="subsets", height="content",
            column_config={
                names[4]: probability_column("medium"),
                names[6]: st.column_config.NumberColumn(format=runs_table.PERCENT),
            },
            alt="The answer for each subset of concepts kept.",
        )  # fmt: skip


def _note(result: dict[str, float], who: str) -> str:
    """A bar's label: the probability, and who is likelier when it is someone else."""
    top = next(iter(result))
    return percent(result[who]) if top == who else f"{percent(result[who])}, hears {one_line(top, 24)}"


def page() -> None:
    root = state.data_root()
    st.title("Identify")
    model = choose_model(root)
    if model is None:
        return
    pieces = uploads()
    if not pieces:
        chosen = example(root)
        pieces = [chosen] if chosen else []
    if not pieces:
        st.caption("Nothing to listen to yet: drop a MIDI file above, or take a recording that is here.")
        return
    try:
        cached.model(model)
    except PianistIDError as error:
        st.error(sentence(error), icon=":material/error:")
        return
    answer = overview(ask(model, pieces))
    if answer is None or answer.found is None:
        return
    left, right = st.columns([2, 3], gap="large")
    with left:
        headline(answer, answer.found)
    with right:
        st.markdown("**Probability** by pianist, over the whole recording")
        names = {one_line(name): value for name, value in answer.found.probabilities.items()}
        show_chart(charts.probability_bars(names, palette.current()), key="probabilities")
    what_told(answer.found)
    along_the_music(answer, answer.found)
    st.download_button(
        "Download the answer as JSON", answer.found.to_json(), file_name="identification.json",
        mime="application/json", icon=":material/download:", on_click="ignore", key="answer_json",
    )  # fmt: skip


page()
