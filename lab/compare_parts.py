"""The parts of the Compare page: what each of its tabs draws. What can be chosen in them is in the address bar."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

import acts
import compare_charts
import compare_data as data
import jobs
import palette
import state
from acts import acting
from compare_data import METRICS, TEST, VALIDATION, Subject
from components.chart import show_chart
from components.confusion_matrix import Moment, show_confusion
from components.empty import show_empty
from components.tables import download
from pianistid_core.accounts import Role
from pianistid_core.comparison import PairedTest, differing_keys, look_alike_order, paired_test
from pianistid_core.confusion import Confusion
from pianistid_core.errors import PianistIDError
from run_checkpoints import evaluate
from wording import command, count, duration, listed, one_line, percent, plain, said, sentence

BY_EPOCH, BY_TIME = "Epoch", "Time"
PARTS = {"Validation": VALIDATION, "Test": TEST}
PERCENT = "%.1f %%"
# Every run has its own; they say where it lies, not how it was trained.
NAMES = ("experiment", "run")
MOST_MATRICES = 6
_EVALUATED = "compare.evaluated"


# --- curves ----------------------------------------------------------------------------------------------------------


def curves(chosen: Sequence[Subject]) -> None:
    """One figure of all runs by epoch or by time."""
    bar = st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="compare_curves_bar")
    label = bar.selectbox(
        "Figure", list(METRICS), key="compare_metric", bind="query-params", width=240,
        help="Measured after every epoch. Recordings count as right when the pianist named from all their clips is.",
    )  # fmt: skip
    across = bar.segmented_control(
        "Along", [BY_EPOCH, BY_TIME], default=BY_EPOCH, key="compare_axis", bind="query-params", required=True,
        help="Epochs done, or time spent training, which differs with the machine.",
    )  # fmt: skip
    smooth = bar.slider(
        "Smoothing", 0.0, 0.95, 0.0, 0.05, key="compare_smooth", bind="query-params", width=240,
        help="Shows a running mean, which makes noisy curves easier to tell apart.",
    )  # fmt: skip
    metric = METRICS[label]
    so_far = bar.toggle(
        "Best so far", key="compare_best", bind="query-params", disabled=metric.more_is_better is None,
        help="Shows the best value up to each epoch instead of the value itself.",
    )  # fmt: skip
    fold = fold_seeds(chosen, "compare_fold")
    by_time = across == BY_TIME
    found = data.lines(chosen, metric, by_time=by_time, smooth=smooth or 0.0, best_so_far=so_far, fold=fold)
    if not found:
        st.info("None of these runs has finished an epoch yet.", icon=":material/show_chart:")
        return
    chart = compare_charts.curves(found, label, metric, palette.current(), by_time=by_time)
    notes = []
    missing = len(data.grouped(chosen, fold)) - len(found)
    if missing:
        notes.append(f"{count(missing, 'run')} without a finished epoch {'is' if missing == 1 else 'are'} left out.")
    if any(line.low for line in found):
        notes.append("Bands are 95 % intervals of the mean over seeds, at the epochs that all of them have.")
    if smooth:
        notes.append("Smoothed.")
    show_chart(
        chart, key="compare_curves", title=f"{label}, by {'time' if by_time else 'epoch'}",
        about=" ".join(notes) or "Point at a line or its name to lift it out.",
        data=lambda: curve_table(found, by_time),
    )  # fmt: skip


def fold_seeds(chosen: Sequence[Subject], key: str) -> bool:
    """The switch that folds seeds into one, where there are any."""
    groups = [group for group in data.grouped(chosen, True) if len(group) > 1]
    if not groups:
        return False
    return st.toggle(
        f"Fold {count(sum(map(len, groups)), 'run')} that differ only in their seed into "
        f"{count(len(groups), 'mean', 'means')}",
        key=key, bind="query-params",
        help="Runs whose config is the same but for seed, name and machine become one line: their mean, with the "
        "interval in which the mean of many more seeds would lie.",
    )  # fmt: skip


def curve_table(lines: Sequence[data.Line], by_time: bool) -> pd.DataFrame:
    """The lines as one long table."""
    place = "seconds" if by_time else "epoch"
    rows = []
    for line in lines:
        none = (None,) * len(line.x)
        ends = zip(line.low or none, line.high or none, strict=True)
        for x, y, (low, high) in zip(line.x, line.y, ends, strict=True):
            rows.append({"run": line.name, "seeds": line.n, place: x, "value": y, "low": low, "high": high})
    return pd.DataFrame(rows)


# --- results ---------------------------------------------------------------------------------------------------------


def results(chosen: Sequence[Subject]) -> None:
    """How well each run does, with intervals."""
    fold = fold_seeds(chosen, "compare_fold")
    found = data.results(chosen, fold=fold)
    measured = [one for one in found if one.last is not None]
    if measured:
        marks = [
            compare_charts.Mark(
                one.name, one.last.share, one.last.interval, _of(one.last), one.slot
            )
            for one in measured if one.last is not None
        ]  # fmt: skip
        show_chart(
            compare_charts.intervals(marks, palette.current(), what="Recordings of the test part named right"),
            key="compare_results", title="Recordings of the test part named right",
            about="After the last epoch, with 95 % intervals.", data=lambda: result_table(found),
        )  # fmt: skip
    else:
        st.info("None of these runs has been measured yet.", icon=":material/monitoring:")
    table = result_table(found)
    st.dataframe(
        table, hide_index=True, key="compare_table", column_config=_result_columns(), placeholder="—",
        height="content", alt="Accuracy, loss, time and size of each run.",
    )  # fmt: skip
    uneven = [
        group[0].name for group in data.grouped(chosen, fold) if len({one.summary.state.epoch for one in group}) > 1
    ]
    if uneven:
        words = (
            f"not all seeds of {listed(uneven)} have trained for the same number of epochs, so their mean mixes them"
        )
        st.warning(sentence(words), icon=":material/warning:")
    st.caption(
        "Intervals hold 95 %: Wilson's for one run, over its recordings; Student's for the mean of several seeds. The "
        "best of many epochs flatters a run; the validation part, heard once at the end, does not."
    )
    download(table, key="compare_results_all", name="results")


def result_table(found: Sequence[data.Result]) -> pd.DataFrame:
    """One line a run or group of seeds."""
    return pd.DataFrame(
        {
            "Run": [one.name for one in found],
            "Seeds": [one.seeds for one in found],
            "Test, last": [_percent(one.last) for one in found],
            "Interval": [_interval(one.last) for one in found],
            "Test, best": [_percent(one.best) for one in found],
            "In epoch": [one.best_epoch for one in found],
            "Validation": [_percent(one.validation) for one in found],
            "Its interval": [_interval(one.validation) for one in found],
            "Clips": [None if one.clips is None else 100 * one.clips for one in found],
            "Test loss": [one.loss for one in found],
            "Epochs": [one.epochs for one in found],
            "Training": [duration(one.seconds) if one.seconds else "—" for one in found],
            "Parameters": [one.parameters for one in found],
        }
    )


def _result_columns() -> dict[str, Any]:
    number, text = st.column_config.NumberColumn, st.column_config.TextColumn
    return {
        "Run": text(width="medium", pinned=True),
        "Seeds": number(width="small", help="Runs that stand behind this line."),
        "Test, last": number(format=PERCENT, help="Test recordings named right after the last epoch."),
        "Interval": text(help="95 % interval of it."),
        "Test, best": number(format=PERCENT, help="Test recordings named right after the best epoch."),
        "In epoch": number(width="small", help="The first epoch that was as good."),
        "Validation": number(format=PERCENT, help="Validation recordings named right in the last evaluation."),
        "Its interval": text(help="95 % interval of the validation accuracy."),
        "Clips": number(format=PERCENT, help="Clips of 30 s of the test part named right after the last epoch."),
        "Test loss": number(format="%.3f", help="After the last epoch."),
        "Epochs": number(width="small"),
        "Training": text(width="small", help="Time spent training, without evaluations."),
        "Parameters": number(format="localized", help="Numbers that training adjusts."),
    }


def _percent(score: data.Score | None) -> float | None:
    return None if score is None else 100 * score.share


def _interval(score: data.Score | None) -> str:
    if score is None or score.interval is None:
        return "—"
    return f"{100 * score.interval[0]:.0f} to {100 * score.interval[1]:.0f} %"


def _of(score: data.Score) -> str:
    return f"{percent(score.share)} of {score.n}" if score.n else percent(score.share)


# --- config ----------------------------------------------------------------------------------------------------------


def config(chosen: Sequence[Subject]) -> None:
    """The keys in which the configs differ, a run a column."""
    every = st.toggle(
        "Also keys that are the same", key="compare_keys", bind="query-params",
        help="Off shows only what differs between these runs.",
    )  # fmt: skip
    configs = {subject.id: subject.config for subject in chosen}
    without = [subject.name for subject in chosen if not subject.config]
    if without:
        st.warning(sentence(f"{listed(without)} has no config that can be read"), icon=":material/warning:")
    differing = differing_keys(configs)
    if every:
        keys = dict.fromkeys(key for subject in chosen for key in subject.config)
        rows = {key: {id: values.get(key) for id, values in configs.items()} for key in keys}
    else:
        rows = differing
    rows = {key: row for key, row in rows.items() if key not in NAMES}
    if not rows:
        words = "These runs have the same config but for their names."
        st.info(
            words if len(chosen) > 1 else "One run differs from nothing. Choose a second, or show all keys.",
            icon=":material/equal:",
        )  # fmt: skip
        return
    table = pd.DataFrame(
        [
            {"Key": key, **{subject.name: said(row[subject.id]) for subject in chosen}}
            for key, row in rows.items()
        ]
    )  # fmt: skip
    if every:
        table.insert(1, "Differs", ["yes" if key in differing else "" for key in rows])
    st.dataframe(
        table, hide_index=True, key="compare_config", height="content" if len(rows) <= 16 else 600,
        column_config={"Key": st.column_config.TextColumn(pinned=True)},
        alt="Config keys of these runs, and the value of each run.",
    )  # fmt: skip
    download(table, key="compare_config_all", name="configs")


# --- matrices --------------------------------------------------------------------------------------------------------


def matrices(chosen: Sequence[Subject]) -> None:
    """Who is taken for whom, side by side, and what changed from one run to another."""
    by_name = {subject.name: subject for subject in chosen}
    bar = st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="compare_matrices_bar")
    picked = bar.multiselect(
        "Matrices", list(by_name), default=list(by_name)[:2], max_selections=MOST_MATRICES, key="compare_matrices",
        bind="query-params", width=560, 
        help="The runs whose matrices stand side by side; the first is what others differ from.",
    )  # fmt: skip
    part = _part(bar, "compare_matrix_part")
    found = {name: data.last_matrix(by_name[name].run, part) for name in picked if name in by_name}
    without = [name for name, matrix in found.items() if matrix is None]
    if without:
        st.info(
            sentence(f"no confusion matrix over the {part} part is kept of {listed(without)}"),
            icon=":material/grid_on:",
        )
    kept = {name: matrix for name, matrix in found.items() if matrix is not None}
    other = next(name for name in PARTS.values() if name != part)
    if not kept and any(data.last_matrix(by_name[name].run, other) for name in found):
        st.caption(f"One over the {other} part is kept: choose it above.")
    if not kept:
        return
    same, strangers = _of_same_pianists(kept)
    colours = palette.current()
    order = look_alike_order(np.sum([matrix.counts for matrix in same.values()], axis=0))
    columns = st.columns(min(3, len(kept))) if len(kept) > 1 else [st.container(width=620)]
    for number, (name, matrix) in enumerate(kept.items()):
        with columns[number % len(columns)]:
            st.markdown(f"**{plain(name)}**")
            rank = order if name in same else look_alike_order(matrix.counts)
            names = [one_line(matrix.class_names[index]) for index in rank]
            counts = matrix.counts[rank][:, rank]
            show_chart(
                compare_charts.small_matrix(counts, names, colours, height=60 + 17 * max(8, len(names))),
                key=f"compare_matrix_{number}",
            )
            right, total = int(matrix.counts.trace()), int(matrix.counts.sum())
            epoch = data.matrix_epoch(by_name[name].run, part)
            after = "" if epoch is None else f" after epoch {epoch}"
            share = percent(right / max(1, total), 1)
            st.caption(plain(f"{right} of {total} {part} recordings are right ({share}){after}."))
    if strangers:
        knows = "knows" if len(strangers) == 1 else "know"
        first = next(iter(same))
        words = f"no difference is drawn with {listed(strangers)}, which {knows} other pianists than {first}"
        st.info(sentence(words), icon=":material/groups:")
    moments = [Moment(by_name[name].id, name, part, matrix) for name, matrix in same.items()]
    st.subheader("Cell by cell" if len(moments) == 1 else "What changed, cell by cell", anchor=False)
    base = moments[0].key if len(moments) > 1 else ""
    grid = "+".join(moment.key for moment in moments)
    show_confusion(
        moments, order, key=f"compare_grid:{part}:{grid}", start=moments[min(1, len(moments) - 1)].key, slider="Run",
        base=base,
    )  # fmt: skip


def _of_same_pianists(kept: dict[str, Confusion]) -> tuple[dict[str, Confusion], list[str]]:
    """The matrices over the first one's pianists, in its order, and the names of those over others."""
    names = next(iter(kept.values())).class_names
    same: dict[str, Confusion] = {}
    strangers = []
    for name, matrix in kept.items():
        if sorted(matrix.class_names) == sorted(names) and len(set(names)) == len(names):
            rank = [matrix.class_names.index(pianist) for pianist in names]
            same[name] = Confusion(names, matrix.counts[rank][:, rank], ())
        else:
            strangers.append(name)
    return same or {next(iter(kept)): next(iter(kept.values()))}, strangers


def _part(place: "st.delta_generator.DeltaGenerator", key: str) -> str:
    chosen = place.segmented_control(
        "Part", list(PARTS), default="Validation", key=key, bind="query-params", required=True,
        help="Validation is heard once, after the last epoch; the test part after every epoch, of which every fifth "
        "and the last keep a matrix (here: the latest).",
    )  # fmt: skip
    return PARTS[str(chosen)]


# --- is one better? --------------------------------------------------------------------------------------------------


def better(chosen: Sequence[Subject]) -> None:
    """A paired test of two runs over the recordings that both have heard."""
    if len(chosen) < 2:
        words = "The test sets one run beside another, over the recordings that both have heard. Choose a second above."
        show_empty(":material/compare_arrows:", "Better than which?", words, key="second")
        return
    by_name = {subject.name: subject for subject in chosen}
    names = list(by_name)
    bar = st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="compare_better_bar")
    for key, default in (("compare_a", names[0]), ("compare_b", names[1])):
        if st.session_state.get(key) not in by_name and st.query_params.get(key) not in by_name:
            st.session_state[key] = default
    a_name = bar.selectbox(
        "A", names, key="compare_a", bind="query-params", width=240, help="The run to set another beside."
    )
    b_name = bar.selectbox(
        "B", names, key="compare_b", bind="query-params", width=240, help="The run that may be better."
    )
    part = _part(bar, "compare_test_part")
    if a_name == b_name:
        st.info("A and B are the same run; choose another for one of them.", icon=":material/compare_arrows:")
        return
    a, b = by_name[a_name], by_name[b_name]
    heard_a, heard_b = data.outcomes(a.run, part), data.outcomes(b.run, part)
    if heard_a is None or heard_b is None:
        unknown = [subject for subject, heard in ((a, heard_a), (b, heard_b)) if heard is None]
        _evaluate_again(unknown, part, evaluation_of(a, b, part))
        return
    if a.split != b.split:
        words = f"A was tested on split {a.split}, B on {b.split}; only recordings that both have heard count"
        st.warning(sentence(words), icon=":material/warning:")
    try:
        test = paired_test(heard_a.recordings, heard_b.recordings)
    except PianistIDError as error:
        st.error(sentence(error), icon=":material/error:")
        return
    with st.container(border=True, key="compare_verdict"):
        st.markdown(f"#### {plain(test.words, 300)}")
        of = f"A is {a.name}{_after(heard_a)}, B is {b.name}{_after(heard_b)}"
        st.caption(plain(f"{of}; recordings of the {part} part of split {b.split or '?'}.", 400))
    _behind([(a, heard_a), (b, heard_b)], part)
    by = compare_charts.points(test.difference, test.low, test.high)
    chart = compare_charts.difference(test.difference, test.low, test.high, (a.name, b.name), palette.current())
    left, right = st.columns([3, 2], gap="large")
    with left:
        show_chart(
            chart, key="compare_difference", title="Accuracy of B less that of A",
            about=f"{by}; the bar is its 95 % interval.", data=lambda: test_table(test),
        )  # fmt: skip
    with right:
        st.subheader("How the recordings fall", anchor=False)
        table = pd.DataFrame(
            [
                ("Both", test.a_right - test.only_a), ("Only A", test.only_a), ("Only B", test.only_b),
                ("Neither", test.n - test.b_right - test.only_a), ("All", test.n),
            ],
            columns=["Who names it", "Recordings"],
        )  # fmt: skip
        st.dataframe(table, hide_index=True, key="compare_pairs", height="content", alt="How the recordings fall.")
    _disputed(heard_a, heard_b)
    with st.expander("For nerds: how this is tested", icon=":material/functions:"):
        st.markdown(
            "Both models hear the same recordings, so only those on which they disagree tell them apart. If the models "
            "were equally good, each such recording would fall to either like a fair coin; *p* is the chance that the "
            "coin is at least as lopsided (McNemar's exact test, two-sided). The interval of the difference is "
            "Newcombe's for paired shares (1998, method 10). A *p* above 0.05 does not show that two models are equal. "
            "Of twenty pairs that differ by nothing, one will have a *p* below 0.05, so do not go fishing. And two "
            "trainings with other seeds differ too: this test is about these two models, not about their configs."
        )


def _after(heard: data.Outcomes) -> str:
    return "" if heard.epoch is None else f" after epoch {heard.epoch}"


def _behind(heard: Sequence[tuple[Subject, data.Outcomes]], part: str) -> None:
    """Says which runs have a checkpoint that is trained further than what was tested, and offers to measure those."""
    late = [
        subject for subject, one in heard if one.epoch is not None and one.epoch < data.checkpoint_epoch(subject.run)
    ]
    if not late:
        return
    has, it = ("has", "its") if len(late) == 1 else ("have", "their")
    words = f"{listed(one.name for one in late)} {has} trained further than was tested here"
    st.warning(sentence(f"{words}; evaluate {it} latest checkpoint to test that"), icon=":material/history:")
    _evaluate(late, part, evaluation_of(heard[0][0], heard[1][0], part))


def test_table(test: PairedTest) -> pd.DataFrame:
    """The figures of a paired test as one line."""
    return pd.DataFrame([{key: value for key, value in asdict(test).items() if key != "words"}])


def evaluation_of(a: Subject, b: Subject, part: str) -> str:
    """The name of the job that measures what the test of two runs lacks; other tests have jobs of their own."""
    return f"compare {part} of {' and '.join(sorted(str(subject.run.path) for subject in (a, b)))}"


def _evaluate_again(unknown: Sequence[Subject], part: str, key: str) -> None:
    """Says what is missing for the test, and measures it in the job of that name."""
    names = listed(subject.name for subject in unknown)
    words = f"it is not known which recordings of the {part} part {names} named, only how many"
    st.info(sentence(words), icon=":material/help:")
    lost = [subject.name for subject in unknown if not subject.run.checkpoints()]
    if lost:
        words = f"no checkpoint of {listed(lost)} is on disk, so it cannot be measured now; train it again to know"
        st.warning(sentence(words), icon=":material/save:")
    _evaluate([subject for subject in unknown if subject.run.checkpoints()], part, key)


def _evaluate(ready: Sequence[Subject], part: str, key: str) -> None:
    """Measures the latest checkpoints of runs, and shows how far that is."""
    job = jobs.find(key)
    if ready:
        st.button(
            f"Evaluate {count(len(ready), 'run')} again", key="compare_evaluate", type="primary",
            icon=":material/grading:", on_click=_evaluate_all, args=(ready, part, key),
            **acts.allowed(
                Role.RUN,
                "Measures the latest checkpoint in a process of its own; the outcome of each recording is kept.",
                off=job is not None and job.running,
            ),
        )  # fmt: skip
    done = jobs.draw(key)
    if done is not None and done.error is None and st.session_state.get(_EVALUATED) is not done:
        # What it found may have come after this page looked for it.
        st.session_state[_EVALUATED] = done
        st.rerun()
    if ready:
        st.caption("Or in a terminal:")
        lines = [command("pianistid", "evaluate", subject.id, "--split", part) for subject in ready]
        st.code("\n".join(lines), language=None)


@acting(Role.RUN)
def _evaluate_all(unknown: Sequence[Subject], part: str, key: str) -> None:
    root = state.data_root()

    def work(progress: jobs.Progress) -> None:
        for number, subject in enumerate(unknown):
            progress(number, len(unknown))
            evaluate(subject.run.latest_checkpoint(), part, root)

    jobs.start(key, f"Evaluating {count(len(unknown), 'run')} on the {part} part", work)


def _disputed(a: data.Outcomes, b: data.Outcomes) -> None:
    """The recordings that only one of the two names."""
    theirs = {one.track: one for one in b.recordings}
    rows = []
    for one in a.recordings:
        other = theirs.get(one.track)
        if other is None or (one.true == one.heard) == (other.true == other.heard):
            continue
        by_a, by_b = a.class_names[one.heard], b.class_names[other.heard]
        right = "A" if one.true == one.heard else "B"
        names = (one_line(a.class_names[one.true]), right, one_line(by_a), one_line(by_b))
        rows.append((one_line(one.track), *names))
    if not rows:
        return
    st.subheader(f"{count(len(rows), 'recording')} that only one of them names", anchor=False)
    table = pd.DataFrame(rows, columns=["Recording", "Pianist", "Named by", "A hears", "B hears"])
    st.dataframe(
        table.sort_values(["Named by", "Pianist", "Recording"]), hide_index=True, key="compare_disputed",
        height="content" if len(rows) <= 8 else 320, alt="Recordings on which the two runs disagree.",
    )  # fmt: skip
