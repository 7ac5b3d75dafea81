"""The paper's tables beside one's own reproductions of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

import cached
import compare_charts
import compare_data as data
import palette
from components.chart import show_chart
from pianistid_core.datasets.root import DataRoot
from pianistid_core.published import N_RECORDINGS, Published, published, reproductions
from pianistid_core.runs import Run, RunSummary
from wording import listed, percent

OWN = 0  # the slot, and so the colour, of one's own runs; the paper's marks are hollow
_KEYS = {"data_split_dir": "other data", "epochs": "other epochs"}


def paper(root: DataRoot, runs: Sequence[RunSummary]) -> None:
    """Every row of the paper, and the runs here whose config repeats it."""
    st.markdown(
        "The paper gives the share of **recordings** named right on the **validation** part of its split "
        f"({N_RECORDINGS} recordings of at least 30 s, after 100 epochs). Your runs stand beside a row when their "
        "config is the same but for seed, names and machine."
    )
    index = cached.run_index(root)
    by_id = {run.id: run for run in runs}
    found = reproductions({id: index.config(run) for id, run in by_id.items()})
    rows = published()
    own = own_scores(found, by_id)
    table_names = sorted({row.table for row in rows})
    columns = st.columns(len(table_names), gap="large")
    for name, column in zip(table_names, columns, strict=True):
        with column:
            mine = [row for row in rows if row.table == name]
            show_chart(
                compare_charts.intervals(_marks(mine, own), palette.current(), what=f"{name} of the paper"),
                key=f"compare_paper_{name.split()[-1]}", title=name,
                about="Networks that hear four concepts." if name == "Table 1" else "Networks that hear all as one.",
                data=paper_table(mine, own),
            )  # fmt: skip
    if not any(own.values()):
        st.info(
            "No run here repeats a row of the paper yet. Start one from a preset of the same name; on a GPU a row "
            "takes hours, on a CPU weeks.",
            icon=":material/science:",
        )  # fmt: skip
    st.caption(
        "Diamonds are the paper's figures, dots your own; bars are Wilson's 95 % intervals over the recordings. A run "
        "on other data or with other epochs is shown with that said: another split has other recordings, so "
        "its figure can be set beside the paper's, but does not repeat it. The split is the paper's only if its clips "
        "were made from the same transcriptions."
    )


def own_scores(
    found: Mapping[str, Mapping[str, tuple[str, ...]]], by_id: Mapping[str, RunSummary]
) -> dict[str, list[tuple[str, data.Score | None, int]]]:
    """For each preset its reproductions: what they differ in, their accuracy (seeds together), and how many."""
    own: dict[str, list[tuple[str, data.Score | None, int]]] = {}
    for preset, runs in found.items():
        groups: dict[tuple[Any, ...], list[str]] = {}
        for id, differs in runs.items():
            groups.setdefault(differs, []).append(id)
        own[preset] = []
        for differs, ids in groups.items():
            scores = [score for id in ids if (score := data.validation_score(Run(by_id[id].path)))]
            what = listed(_KEYS[key] for key in differs)
            own[preset].append((what, data.mean_score(scores), len(scores) or len(ids)))  # n is of the figure
    return own


def _marks(
    rows: Sequence[Published], own: Mapping[str, Sequence[tuple[str, data.Score | None, int]]]
) -> list[compare_charts.Mark]:
    marks = []
    for row in rows:
        title = row.title.replace("Factorised ", "").replace(", average pooling", "").replace("attention with ", "")
        marks.append(
            compare_charts.Mark(title, row.accuracy, row.interval(), percent(row.accuracy, 1), slot=1, hollow=True)
        )
        for what, score, n in own.get(row.preset, ()):
            name = "↳ yours" + (f", {what}" if what else "") + (f", {n} seeds" if n > 1 else "")
            share = score.share if score else None
            marks.append(
                compare_charts.Mark(
                    name, share, score.interval if score else None,
                    percent(share, 1) if score else "no figure yet", OWN,
                )
            )  # fmt: skip
    return marks


def paper_table(
    rows: Sequence[Published], own: Mapping[str, Sequence[tuple[str, data.Score | None, int]]]
) -> pd.DataFrame:
    """Rows of the paper, each once for every kind of reproduction of it, or once with none."""
    lines = []
    for row in rows:
        low, high = row.interval()
        line: dict[str, Any] = {
            "Table": row.table, "Model": row.title, "Published": percent(row.accuracy, 1),
            "Its interval": f"{100 * low:.0f} to {100 * high:.0f} %",
        }  # fmt: skip
        for what, score, n in own.get(row.preset) or [("", None, 0)]:
            ends = score.interval if score else None
            lines.append(
                line | {
                    "Yours": percent(score.share, 1) if score else None,
                    "Your interval": f"{100 * ends[0]:.0f} to {100 * ends[1]:.0f} %" if ends else None,
                    "Runs": n or None, "Differs in": what or None,
                }
            )  # fmt: skip
    return pd.DataFrame(lines)
