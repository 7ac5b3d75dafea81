"""The parts of the Results page: the experiments, the comparisons, the best recipe, and what all that can show."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

import compare_charts
import palette
import results_charts
from components.chart import show_chart
from components.figures import show_figures
from components.tables import download
from pianistid_core.paper_pairs import questions_of
from pianistid_core.paper_results import (
    LIMITS,
    Comparison,
    Recipe,
    Results,
    comparisons,
    rows,
    tally,
    tally_in_words,
)
from pianistid_core.published import N_RECORDINGS
from wording import count, percent, plain

TABLES = {"Table 1": "Networks that hear four concepts", "Table S5": "Networks that hear all as one"}
_POINTS = {name: st.column_config.NumberColumn(format="%+.1f") for name in ("Paper, points", "Here, points")}
_LEANS = {True: "same way", False: "other way", None: None}
OURS, PAPERS = 0, 1  # slots, and so colours; the paper's marks are hollow


def heading(results: Results) -> None:
    """How the comparisons came out, as figures."""
    found = comparisons(results)
    of = tally(found)
    sure = "Pairs whose 95 % interval of the difference leaves out 0."
    show_figures(
        [
            (
                "Experiments", f"{len(results.experiments)} of {len(list(rows(results)))}",
                "Of the paper's two tables; the others are not trained.", "trained at CPU size",
            ),
            ("Same direction", str(of.yes), sure, f"of {of.with_direction}"),
            ("Other direction", str(of.no), sure, f"of {of.with_direction}"),
            (
                "Cannot be told", str(of.cannot_be_told), "The 95 % interval of the difference includes 0.",
                f"{of.lean_alike} of {of.with_direction} lean the paper's way",
            ),
        ],
        key="results",
    )  # fmt: skip


def pairs(results: Results) -> None:
    """Every comparison as a chart and a table."""
    found = comparisons(results)
    if not found:
        st.info("No two experiments that differ in one thing are trained yet.", icon=":material/science:")
        return
    show_chart(
        results_charts.differences(found, palette.current()), key="results_pairs",
        title="Does a change go in the same direction?",
        about="Points of recording accuracy that a change brings. Diamonds are the paper's, dots ours with a 95 % "
        "interval that allows for the pairing; a grey dot may as well be no difference.",
    )  # fmt: skip
    table = pair_table(found)
    st.dataframe(
        table, hide_index=True, key="results_pair_table", height="content", placeholder="—", column_config=_POINTS,
        alt="Each comparison: the paper's difference, ours with its interval, and whether the direction agrees.",
    )  # fmt: skip
    download(lambda: pair_table(found), key="results_pairs_csv", name="paper-comparisons")
    st.caption(plain(tally_in_words(results), 600))


def pair_table(found: Sequence[Comparison]) -> pd.DataFrame:
    """One row a comparison; differences are in points of recording accuracy."""
    return pd.DataFrame(
        [
            {
                "Question": one.pair.question, "Change": one.pair.change, "Where": one.pair.setting,
                "Direction agrees": one.agrees, "Leans": _LEANS[one.leans],
                "Paper, points": round(100 * one.published, 1),
                "Here, points": round(100 * one.test.difference, 1),
                "95 % interval": f"{100 * one.test.low:+.1f} to {100 * one.test.high:+.1f}",
                "p": "< 0.001" if one.test.p < 0.001 else f"{one.test.p:.3f}",
                "Other seeds": ", ".join(f"{100 * difference:+.1f}" for difference in one.again) or None,
            }
            for one in found
        ]
    )  # fmt: skip


def experiments(results: Results) -> None:
    """Every experiment beside the paper's figure."""
    for name, title in TABLES.items():
        mine = [(row, ours) for row, ours in rows(results) if row.table == name]
        marks = []
        for row, ours in mine:
            short = row.title.replace(", average pooling", "").replace("attention with ", "")
            marks.append(
                compare_charts.Mark(
                    short, row.accuracy, row.interval(), percent(row.accuracy, 1), slot=PAPERS, hollow=True
                )
            )  # fmt: skip
            if ours is not None:
                share = percent(ours.accuracy, 1)
                marks.append(compare_charts.Mark("↳ at CPU size", ours.accuracy, ours.interval(), share, slot=OURS))
        show_chart(
            compare_charts.intervals(marks, palette.current(), what=f"{name} of the paper, and ours", whole=True),
            key=f"results_{name.split()[-1]}", title=f"{name}: {title.lower()}",
            about="Recordings named right. Diamonds are the paper's figures, dots those at CPU size; bars are Wilson's "
            "95 % intervals.",
        )  # fmt: skip
    st.dataframe(
        experiment_table(results), hide_index=True, key="results_table", height="content", placeholder="—",
        alt="Each experiment: the published accuracy and ours with its interval.",
    )  # fmt: skip
    download(lambda: experiment_table(results), key="results_csv", name="paper-experiments")
    n = next((ours.n for ours in results.experiments.values()), 0)
    st.caption(
        plain(
            f"Published: {N_RECORDINGS} recordings. Here: {count(n, 'recording')} of jazz20's test part, which stands "
            "in for the validation part that it does not have. Always naming whoever plays most of them is right for "
            f"{percent(results.baseline, 1)}.",
            400,
        )
    )


def experiment_table(results: Results) -> pd.DataFrame:
    """One row an experiment; shares are in per cent."""
    lines = []
    for row, ours in rows(results):
        line: dict[str, Any] = {
            "Model": row.title, "Table": row.table, "Helps to tell": ", ".join(questions_of(row.preset)).lower(),
            "Published": percent(row.accuracy, 1),
        }  # fmt: skip
        if ours is not None:
            low, high = ours.interval()
            again = results.again(row.preset).values()
            line |= {
                "Here": percent(ours.accuracy, 1), "95 % interval": f"{100 * low:.0f} to {100 * high:.0f} %",
                "Other seeds": ", ".join(percent(one.accuracy, 1) for one in again) or None,
                "Recordings": ours.n, "Clips here": percent(ours.clip_accuracy, 1), "Epochs": ours.epochs,
                "Training clips": ours.n_train_clips,
            }  # fmt: skip
        lines.append(line)
    return pd.DataFrame(lines)


def recipe(best: Sequence[Recipe]) -> None:
    """The best that was reached on the same recordings."""
    marks = [
        compare_charts.Mark(
            one.label, one.recording_accuracy, (one.low, one.high), percent(one.recording_accuracy, 1), slot=OURS
        )
        for one in best
    ]  # fmt: skip
    show_chart(
        compare_charts.intervals(marks, palette.current(), what="Our best recipe", whole=True),
        key="results_best", title="Our best recipe", about="Recordings named right, with 95 % intervals.",
        data=lambda: recipe_table(best),
    )  # fmt: skip
    st.dataframe(
        recipe_table(best), hide_index=True, key="results_best_table", height="content",
        alt="Each recipe: accuracy over clips and recordings, macro recall, interval and seeds.",
    )  # fmt: skip


def recipe_table(best: Sequence[Recipe]) -> pd.DataFrame:
    """One row a recipe; shares are in per cent."""
    return pd.DataFrame(
        [
            {
                "Recipe": one.label, "Clips": percent(one.clip_accuracy, 1),
                "Recordings": percent(one.recording_accuracy, 1),
                "95 % interval": f"{100 * one.low:.0f} to {100 * one.high:.0f} %",
                "Macro recall": percent(one.macro_recall, 1), "Seeds": ", ".join(map(str, one.seeds)),
            }
            for one in best
        ]
    )  # fmt: skip


def limits() -> None:
    """What can be concluded, and what not."""
    st.header("What this can show, and what not", anchor=False)
    st.markdown("\n".join(f"- {plain(limit, 600)}" for limit in LIMITS))
    st.caption("Train them with:")
    st.code("pianistid paper train --data-root ROOT --results paper_cpu.json", language=None, wrap_lines=True)
