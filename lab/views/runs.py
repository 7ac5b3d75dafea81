"""Runs: every run on disk, and one of them as it trains. Everything is read from the run's folder."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

import actions
import charts
import palette
import runs_table
import state
from components.chart import show_chart
from components.figures import show_figures
from guard import guard
from pianistid_core.config import flatten
from pianistid_core.errors import PianistIDError
from pianistid_core.run_config import config_of
from pianistid_core.runs import Run, RunState, RunSummary, describe_time, list_runs
from wording import count, duration, one_line, percent, plain, said, sentence

TICK_S = 1.5
TABLE_TICK_S = 3.0
LIVE = ("running", "queued")
ROW_TAKEN = "runs.row_taken"


def choose(runs: list[RunSummary]) -> Run | None:
    """The table of runs, and the one that is shown."""
    ids = [run.id for run in runs]
    asked = st.query_params.get(state.RUN)
    if asked and asked not in ids:
        st.warning(sentence(f"there is no run {asked} in this data root any more"), icon=":material/warning:")
    live = any(run.state.status in LIVE for run in runs)
    st.fragment(list_of_runs, run_every=TABLE_TICK_S if live else None, key="live_table")(ids)
    picker, buttons = st.columns([2, 3], vertical_alignment="bottom")
    state.bound_choice(state.RUN, ids)
    chosen = picker.selectbox("Run", ids, index=None, key=state.RUN, bind="query-params", format_func=one_line)
    if chosen is None:
        return None
    run = Run.find(state.data_root().checkpoints_dir, chosen)
    with buttons:
        controls(run, run.state())
    return run


@guard
def list_of_runs(known: list[str]) -> None:
    """Every run on disk; a chosen row is shown below, and a run that came or went draws the page anew."""
    runs = list_runs(state.data_root().checkpoints_dir)
    ids = [run.id for run in runs]

    def take_row() -> None:
        rows = st.session_state["runs_table"]["selection"]["rows"]
        if rows and rows[0] < len(ids):
            st.session_state[state.RUN] = ids[rows[0]]
            st.session_state[ROW_TAKEN] = True

    st.dataframe(
        runs_table.table(runs), hide_index=True, column_config=runs_table.columns(), key="runs_table",
        on_select=take_row, selection_mode="single-row", height=35 * min(len(runs), 6) + 37,
        placeholder="—", alt="Every run with its state, progress and accuracy.",
    )  # fmt: skip
    if st.session_state.pop(ROW_TAKEN, False) or ids != known:
        st.rerun()


def controls(run: Run, now: RunState) -> None:
    """Buttons stand outside the parts that refresh themselves: a click there could be lost."""
    root = state.data_root()
    with st.container(horizontal=True, vertical_alignment="center"):
        runs_table.badge(now, stopping=now.status == "running" and run.stop_request() is not None)
        if now.status in LIVE:
            with st.popover("Stop", icon=":material/stop_circle:", key="stop_menu"):
                st.button(
                    "Stop and save", key="stop_save", icon=":material/save:", width="stretch",
                    on_click=actions.stop_run, args=(run, "save"),
                    help="Ends after this batch and keeps a checkpoint to go on from.",
                )  # fmt: skip
                st.button(
                    "Finish now", key="stop_finish", icon=":material/flag:", width="stretch",
                    on_click=actions.stop_run, args=(run, "finish"),
                    help="Ends after this batch, evaluates, and counts as finished.",
                )  # fmt: skip
                st.button(
                    "Discard", key="stop_discard", icon=":material/delete:", width="stretch",
                    on_click=actions.stop_run, args=(run, "discard"),
                    help="Ends now and keeps nothing of this epoch.",
                )  # fmt: skip
        elif now.status in ("stopped", "failed", "interrupted"):
            st.button(
                "Resume", key="resume", type="primary", icon=":material/resume:", on_click=actions.resume_run,
                args=(run, root), help="Goes on from the latest checkpoint, as if it had never stopped.",
            )  # fmt: skip
        if run.checkpoints():
            link = {state.MODEL: run.id}
            st.page_link("views/identify.py", label="Identify with it", icon=":material/hearing:", query_params=link)
        st.button(
            "Build on it", key="clone", type="tertiary", icon=":material/content_copy:", on_click=clone, args=(run,),
            help="Puts its config into the Build form.",
        )  # fmt: skip
        if now.status not in LIVE:
            with st.popover("Delete", icon=":material/delete:", type="tertiary", key="delete_menu"):
                st.write(plain(f"This removes {run.id} and its checkpoints from disk."))
                st.button(
                    "Delete it", key="delete", type="primary", on_click=actions.delete_run, args=(run,),
                )  # fmt: skip
    if st.session_state.pop("go_build", False):
        st.switch_page("views/build.py")


def clone(run: Run) -> None:
    def take() -> None:
        actions.draft_from(config_of(run), f"run: {run.id}")
        st.session_state["go_build"] = True

    actions.attempt(take)


@guard
def summary(run: Run, was: RunState) -> None:
    """How far it is and how well it does; when its state changes, the whole page follows."""
    now = run.state()
    if now.status != was.status or not run.path.is_dir():
        st.rerun()
    rows = run.metrics()
    last = rows[-1] if rows else {}
    if now.status in LIVE:
        progress = run.progress() or {}
        epochs = now.epochs or progress.get("epochs") or 1
        batches = progress.get("batches") or 0
        inside = (progress.get("batch") or 0) / batches if batches else 0.0
        share = min(1.0, (now.epoch + (inside if progress.get("phase") == "train" else 0.0)) / epochs)
        st.progress(share, text=plain(progress_in_words(now, progress), 300))
    elif now.reason:
        show = st.error if now.status == "failed" else st.info
        show(sentence(now.reason), icon=runs_table.STATES[now.status][1])
    best = max(
        (r["test_recording_accuracy"] for r in rows if r.get("test_recording_accuracy") is not None), default=None
    )
    show_figures(
        [
            ("Epoch", f"{now.epoch} / {now.epochs}" if now.epochs else str(now.epoch), "Epochs done, of all."),
            (
                "Test loss",
                "—" if last.get("test_loss") is None else f"{last['test_loss']:.3f}",
                "Mean loss over the clips of the test part, after the last epoch.",
            ),
            (
                "Clips right",
                percent(last.get("test_clip_accuracy")),
                "Share of 30 s clips of the test part whose pianist was named.",
            ),
            (
                "Recordings right",
                percent(last.get("test_recording_accuracy")),
                f"Share of test recordings whose pianist was named, from all their clips. Best: {percent(best)}.",
            ),
        ]
    )


def progress_in_words(now: RunState, progress: dict[str, object]) -> str:
    """Where a training is, and when it should be done."""
    if now.status == "queued" or not progress:
        return "Starting: reading the data and building the network"
    phases = {"train": "training", "test": "testing", "validation": "last evaluation"}
    phase = phases.get(str(progress.get("phase")), str(progress.get("phase", "")))
    words = f"Epoch {progress.get('epoch')} of {now.epochs}: {phase}"
    if progress.get("batches"):
        words += f", batch {progress.get('batch')} of {progress.get('batches')}"
    eta = progress.get("eta_s")
    if isinstance(eta, int | float):
        words += f". About {duration(eta)} left"
    return words


@guard
def curves(run: Run) -> None:
    rows = run.metrics()
    if not rows:
        st.info("The curves begin when the first epoch is done.", icon=":material/show_chart:")
        return
    colours = palette.current()
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**Accuracy**")
        show_chart(charts.accuracy_curves(rows, colours), key="accuracy_chart")
    with right:
        st.markdown("**Loss**")
        show_chart(charts.loss_curves(rows, colours), key="loss_chart")
    skipped = rows[-1].get("skipped")
    n = sum(skipped.values()) if isinstance(skipped, dict) else skipped
    if isinstance(n, int) and n:
        st.caption(f"In the last epoch {count(n, 'clip was', 'clips were')} left out; the log says why.")


def confusion(run: Run) -> None:
    """Who is taken for whom, at the end or after any epoch that was kept."""
    found = run.confusions()
    if not found:
        st.info("A confusion matrix is kept every five epochs and at the end.", icon=":material/grid_on:")
        return
    names = {key: "Validation" if key == "validation" else f"Epoch {int(key[6:])}" for key in found}
    one, two = st.columns([3, 1], vertical_alignment="bottom")
    keys = [*(key for key in found if key != "validation"), *(["validation"] if "validation" in found else [])]
    with one:
        if len(keys) > 1:
            chosen = st.select_slider(
                "After", keys, value=keys[-1], format_func=lambda key: names[key], key=f"confusion_{len(keys)}_{run.id}"
            )
        else:
            chosen = keys[0]
            st.caption(f"After {names[chosen].lower()}")
    as_counts = two.segmented_control("Show", ["Recall, %", "Counts"], default="Recall, %", key="confusion_unit")
    matrix = found[chosen]
    colours = palette.current()
    class_names = [one_line(name) for name in matrix.class_names]
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.markdown("**Who plays** (rows) **and who is heard** (columns)")
        chart = charts.confusion_matrix(matrix.counts, class_names, colours, as_counts=as_counts == "Counts")
        show_chart(chart, key="confusion_chart")
    with right:
        st.markdown("**Recall** by pianist")
        show_chart(charts.recall_bars(matrix.counts, class_names, colours), key="recall_chart")
    n = int(matrix.counts.sum())
    part = "validation" if chosen == "validation" else "test"
    right_n = int(matrix.counts.trace())
    st.caption(f"{right_n} of {n} recordings of the {part} part are right ({percent(right_n / max(n, 1), 1)}).")


@guard
def log(run: Run) -> None:
    text = run.log_tail(200)
    if not text:
        st.caption("The log is empty so far.")
        return
    with st.container(height=420, border=False, autoscroll=True, key="log_box"):
        st.code(text, language=None, wrap_lines=True)


def config(run: Run) -> None:
    try:
        values = flatten(config_of(run))
    except PianistIDError as error:
        st.warning(sentence(error), icon=":material/warning:")
        return
    st.dataframe(
        pd.DataFrame([(key, said(value)) for key, value in values.items()], columns=["Key", "Value"]),
        hide_index=True, key="config_table", alt="Every key of the run's config.",
    )  # fmt: skip
    text = run.read_text("config.yaml")
    if text:
        st.download_button(
            "Download YAML", text, file_name="config.yaml", icon=":material/download:", on_click="ignore"
        )


def files(run: Run) -> None:
    """Checkpoints, and what is known of the machine and the data."""
    rows = []
    for path in run.checkpoints():
        try:
            on_disk = path.stat()
        except OSError:
            continue
        rows.append((path.name, on_disk.st_size / 2**20, describe_time(on_disk.st_mtime)))
    if rows:
        st.dataframe(
            pd.DataFrame(rows, columns=["Checkpoint", "Size", "Saved"]), hide_index=True, key="checkpoints",
            column_config={"Size": st.column_config.NumberColumn(format="%.1f MB")}, alt="Checkpoints on disk.",
        )  # fmt: skip
    else:
        st.caption("No checkpoint yet.")
    left, right = st.columns(2, gap="large")
    for column, title, name in ((left, "Machine", "environment.json"), (right, "Data", "data.json")):
        facts = run.read_json(name)
        if facts:
            with column, st.expander(title):
                st.dataframe(
                    pd.DataFrame(named_facts(facts), columns=["What", "Value"]), hide_index=True, height="content",
                    alt=f"What is known of the {title.lower()}.",
                )  # fmt: skip
    st.caption("Folder")
    st.code(str(run.path), language=None, wrap_lines=True)


def named_facts(facts: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """What a file of a run says, one line a fact, with the names of what it stands under."""
    lines: list[tuple[str, str]] = []
    for name, value in facts.items():
        label = one_line(f"{above}{name}".replace("_", " "))
        lines += named_facts(value, f"{label}, ") if isinstance(value, Mapping) else [(label, said(value))]
    return lines


def page() -> None:
    st.title("Runs")
    runs = list_runs(state.data_root().checkpoints_dir)
    if not runs:
        with st.container(border=True, width=640):
            st.markdown("##### No run yet")
            st.write("A run is one training: its config, its curves, its checkpoints. Start one from a preset.")
            st.page_link("views/build.py", label="Build a run", icon=":material/tune:")
        return
    run = choose(runs)
    if run is None:
        return
    now = run.state()
    tick = TICK_S if now.status in LIVE else None
    st.fragment(summary, run_every=tick, key="live_summary")(run, now)
    names = ["Curves", "Confusion matrix", "Log", "Config", "Files"]
    curves_tab, confusion_tab, log_tab, config_tab, files_tab = st.tabs(
        names, key="run_tab", on_change="rerun", bind="query-params"
    )
    if curves_tab.open:
        with curves_tab:
            st.fragment(curves, run_every=tick, key="live_curves")(run)
    if confusion_tab.open:
        with confusion_tab:
            st.fragment(follow_confusions, run_every=tick, key="live_confusions")(run, len(run.confusions()))
            confusion(run)
    if log_tab.open:
        with log_tab:
            st.fragment(log, run_every=tick, key="live_log")(run)
    if config_tab.open:
        with config_tab:
            config(run)
    if files_tab.open:
        with files_tab:
            files(run)


@guard
def follow_confusions(run: Run, known: int) -> None:
    """Draws the page anew when another matrix has been kept; the slider itself must not refresh under a hand."""
    if len(run.confusions()) != known:
        st.rerun()


page()
