"""The checkpoints of one run: size and age, evaluate, download, delete, and what evaluations found."""

import json
import os
import re
import subprocess
import sys
import tempfile
from io import BufferedReader
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

import acts
import jobs
import run_actions
import run_reliability
from acts import acting
from components.empty import show_empty
from pianistid_core.accounts import Role
from pianistid_core.datasets.root import PARTS, DataRoot
from pianistid_core.errors import RunError
from pianistid_core.intervals import wilson
from pianistid_core.metrics_log import finite_number
from pianistid_core.runs import Run, describe_time
from wording import one_line, percent, plain, sentence

PART_WORDS = {"test": "Test", "validation": "Validation", "train": "Training"}
_BATCHES = re.compile(r"(\d+) of (\d+) batches")


def draw(run: Run, root: DataRoot, *, live: bool) -> None:
    """Draws the checkpoints, what can be done with one, and the evaluations kept."""
    found = on_disk(run)
    if found:
        several(run, root, found, live=live)
    else:
        show_empty(
            ":material/save:", "No checkpoint yet" if live else "No checkpoint",
            "One is kept when the run ends, is stopped and saved, or after every so many epochs." if live
            else "None of this run is on disk: it ended before one was kept, or they were deleted.", key="checkpoints",
        )  # fmt: skip
    damaged(run)
    evaluations(run)
    run_reliability.draw(run)
    st.caption("Folder")
    st.code(str(run.path), language=None, wrap_lines=True)


def damaged(run: Run) -> None:
    """Names the checkpoints that were found damaged and passed over, with nothing where there are none."""
    names = ", ".join(path.name for path in run.damaged_checkpoints())
    if names:
        st.warning(
            sentence(f"damaged on disk, passed over and trained again from the one before: {names}; the log says more"),
            icon=":material/broken_image:",
        )


def on_disk(run: Run) -> list[tuple[Path, int, float]]:
    """Each checkpoint with its bytes and when it was saved; one that vanishes meanwhile is left out."""
    found = []
    for path in reversed(run.checkpoints()):
        try:
            status = path.stat()
        except OSError:
            continue
        found.append((path, status.st_size, status.st_mtime))
    return found


def epoch_of(path: Path) -> str:
    """How far a checkpoint is trained, from its name."""
    pieces = path.stem.split("_")
    epochs = f"{int(pieces[1])}"
    return f"{epochs}, and {int(pieces[3])} batches" if len(pieces) > 3 else epochs


def several(run: Run, root: DataRoot, found: list[tuple[Path, int, float]], *, live: bool) -> None:
    """The table of checkpoints and the buttons for the chosen one."""
    st.dataframe(
        pd.DataFrame(
            [(path.name, epoch_of(path), size / 2**20, describe_time(saved)) for path, size, saved in found],
            columns=["Checkpoint", "Epochs", "Size", "Saved"],
        ),
        hide_index=True, key="checkpoints", height=35 * min(len(found), 8) + 38,
        column_config={"Size": st.column_config.NumberColumn(format="%.1f MB")},
        alt="Checkpoints on disk, the most trained first.",
    )  # fmt: skip
    names = [path.name for path, _, _ in found]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(
            "Checkpoint", names, key="checkpoint_name", width=260, help="What the buttons beside it act on."
        )
        part = st.selectbox(
            "Part", list(PARTS), key="checkpoint_part", width=150, index=list(PARTS).index("test"),
            format_func=lambda name: PART_WORDS.get(name, name), help="Which recordings to measure it on.",
        )  # fmt: skip
        path = run.path / (chosen if chosen in names else names[0])
        job = jobs.find(job_of(run))
        st.button(
            "Evaluate", key="checkpoint_evaluate", icon=":material/grading:", on_click=start_evaluation,
            args=(run, path, part, root),
            **acts.allowed(
                Role.RUN, "Measures it in a process of its own; training and page go on.",
                off=job is not None and job.running,
            ),
        )  # fmt: skip
        st.download_button(
            "Download", lambda: opened(path), file_name=f"{run.path.name}_{path.name}", key="checkpoint_download",
            mime="application/octet-stream", icon=":material/download:",
            on_click=run_actions.say_if_gone, args=(path, f"checkpoint {path.name} of {run.id}"),
            help="The .pth file; it is read when you click.",
        )  # fmt: skip
        with st.popover(
            "Delete", icon=":material/delete:", type="tertiary", key="checkpoint_delete_menu", disabled=live,
            help="While it trains, its checkpoints stay." if live else "Removes one checkpoint.",
        ):  # fmt: skip
            st.write(plain(f"This removes {path.name} of {run.id} from disk. It cannot be undone."))
            if len(names) == 1:
                st.write("It is the only one: without it the run cannot go on or identify.")
            st.button(
                "Delete it", key="checkpoint_delete", type="primary", on_click=run_actions.delete_checkpoint,
                args=(run, path.name), **acts.allowed(Role.RUN, "Frees its disk space."),
            )  # fmt: skip
    done = jobs.draw(job_of(run))
    if done is not None and done.error is None:
        st.success(sentence(in_words(done.result)), icon=":material/grading:")


def opened(path: Path) -> BufferedReader:
    """The file of a checkpoint. Raises: OSError when it vanished, which is no file then, not an empty one."""
    return path.open("rb")


def job_of(run: Run) -> str:
    """The name of the job that evaluates this run."""
    return f"evaluate {run.path}"


@acting(Role.RUN)
def start_evaluation(run: Run, path: Path, part: str, root: DataRoot) -> None:
    """Measures a checkpoint in the background."""

    def work(progress: jobs.Progress) -> dict[str, Any]:
        return evaluate(path, part, root, progress)

    jobs.start(job_of(run), f"Evaluating {path.name} on the {PART_WORDS[part].lower()} part", work)


def evaluate(path: Path, part: str, root: DataRoot, progress: jobs.Progress | None = None) -> dict[str, Any]:
    """What `pianistid evaluate` measures, in a process of its own so that the server need not load the model.

    Raises: RunError with the command's own words when it refuses.
    """
    if not path.is_file():
        raise RunError(f"checkpoint {path.name} is not there any more; choose another")
    command = [sys.executable, "-m", "pianistid_core", "evaluate", str(path), "--split", part, "--json"]
    said = ""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as answer:
        with subprocess.Popen(
            [*command, "--data-root", str(root.path)], env={**os.environ, "PIANISTID_CACHE": str(root.cache_dir)},
            stdin=subprocess.DEVNULL, stdout=answer, stderr=subprocess.PIPE, text=True, errors="replace",
        ) as process:  # fmt: skip
            for line in process.stderr or ():
                said = line.strip() or said
                found = _BATCHES.search(line)
                if found and progress is not None:
                    progress(int(found[1]), int(found[2]))
        if process.returncode:
            raise RunError(one_line(said, 600) or f"the evaluation ended with status {process.returncode}")
        answer.seek(0)
        try:
            data = json.load(answer)
        except ValueError as error:
            raise RunError("the evaluation gave no answer that can be read; look at the log of the server") from error
    return data if isinstance(data, dict) else {}


def in_words(data: dict[str, Any]) -> str:
    """What an evaluation found, in a sentence."""
    row = measured(data)
    between = f", 95 % interval {row['Interval']}" if row["Interval"] else ""
    return f"{row['Checkpoint']}: {row['Recordings right']} recordings of the {data.get('part', 'test')} part{between}"


def measured(data: dict[str, Any]) -> dict[str, str]:
    """One line of the table of evaluations; what a file lacks is a dash."""
    accuracy, n = finite_number(data.get("recording_accuracy")), data.get("n_recordings")
    words, interval = "—", ""
    if accuracy is not None and 0 <= accuracy <= 1 and isinstance(n, int) and 0 < n < 2**53:
        right = round(accuracy * n)
        words = f"{right} of {n} ({percent(accuracy, 1)})"
        between = wilson(right, n)
        interval = f"{percent(between[0])} to {percent(between[1])}" if between else ""
    baseline = data.get("baseline")
    chance = finite_number(baseline.get("recording_accuracy")) if isinstance(baseline, dict) else None
    return {
        "Part": PART_WORDS.get(str(data.get("part")), one_line(data.get("part", "—"), 30)),
        "Checkpoint": one_line(Path(str(data.get("checkpoint", "—"))).name, 60),
        "Recordings right": words,
        "Interval": interval,
        "Clips right": percent(finite_number(data.get("clip_accuracy")), 1),
        "Always the commonest": percent(chance, 1),
    }


def evaluations(run: Run) -> None:
    """What was measured of this run and kept."""
    rows = []
    for part in PARTS:
        data = run.read_json(f"evaluation/{part}.json")
        if data:
            rows.append(measured({"part": part, **data}))
    if not rows:
        return
    st.markdown("**Evaluations**")
    st.dataframe(
        pd.DataFrame(rows), hide_index=True, key="evaluations", height="content",
        column_config={
            "Recordings right": st.column_config.TextColumn(help="Recordings whose pianist was named."),
            "Interval": st.column_config.TextColumn(
                "95 % interval", help="Where the share would lie with other recordings of the kind (Wilson)."
            ),
            "Clips right": st.column_config.TextColumn(help="30 s clips whose pianist was named."),
            "Always the commonest": st.column_config.TextColumn(
                help="Recordings right by always naming the pianist with most training clips."
            ),
        },
        alt="The evaluations kept, by part.",
    )  # fmt: skip
