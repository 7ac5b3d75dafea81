"""What the Compare page shows, as plain data: the runs, their curves and results, and what each recording came to."""

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

import cached
from pianistid_core.comparison import mean_interval, seed_groups
from pianistid_core.confusion import Confusion, RecordingOutcome
from pianistid_core.datasets.root import DataRoot
from pianistid_core.intervals import Interval, wilson
from pianistid_core.metrics_log import Curves
from pianistid_core.run_folder import CHECKPOINT, checkpoint_position
from pianistid_core.runs import Run, RunSummary
from run_charts import elapsed_s, smoothed
from wording import one_line

MAX_RUNS = 20
N_COLOURS = 5
MAX_POINTS = 300
VALIDATION, TEST = "validation", "test"
_PARAMETERS = re.compile(rb": ([\d,]+) parameters")
_LOG_HEAD_BYTES = 8192


@dataclass(frozen=True)
class Metric:
    """A figure that every epoch has: its key in the metrics, whether it is a share, and whether more is better."""

    key: str
    is_share: bool = True
    more_is_better: bool | None = True


METRICS = {
    "Recordings, test": Metric("test_recording_accuracy"),
    "Clips, test": Metric("test_clip_accuracy"),
    "Clips, training": Metric("train_clip_accuracy"),
    "Loss, test": Metric("test_loss", False, False),
    "Loss, training": Metric("train_loss", False, False),
    "Learning rate": Metric("lr", False, None),
}


@dataclass(frozen=True)
class Subject:
    """One run that is compared: its short name among the others, and the slot that gives its colour and line."""

    id: str
    name: str
    slot: int
    run: Run
    summary: RunSummary
    config: Mapping[str, Any]
    curves: Curves

    @property
    def split(self) -> str:
        """The split that it was trained and tested on."""
        return str(self.config.get("data_split_dir", ""))


@dataclass(frozen=True)
class Line:
    """One line of a chart of curves; a line of several seeds has the mean in `y`, and the ends of its interval."""

    name: str
    slot: int
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    n: int = 1


@dataclass(frozen=True)
class Score:
    """A share of n recordings and its interval; of several seeds, the mean of theirs."""

    share: float
    n: int
    interval: Interval | None


@dataclass(frozen=True)
class Result:
    """One line of the table of results: a run, or several that differ only in their seed."""

    name: str
    slot: int
    seeds: int
    last: Score | None
    best: Score | None
    best_epoch: int | None
    validation: Score | None
    clips: float | None
    loss: float | None
    epochs: int
    seconds: float
    parameters: int | None


@dataclass(frozen=True)
class Outcomes:
    """What each recording of a part came to, with the names that its numbers stand for.

    `epoch` is how far the model was trained; None for the evaluation that ends a training.
    """

    class_names: tuple[str, ...]
    recordings: tuple[RecordingOutcome, ...]
    epoch: int | None = None


# --- the runs --------------------------------------------------------------------------------------------------------


def subjects(root: DataRoot, chosen: Sequence[RunSummary]) -> list[Subject]:
    """The chosen runs with all that the page needs of them."""
    index = cached.run_index(root)
    names = short_names([summary.id for summary in chosen])
    slots = slots_of([summary.id for summary in chosen])
    return [
        Subject(
            summary.id, names[summary.id], slots[summary.id], Run(summary.path), summary, index.config(summary),
            cached.metrics_log(Run(summary.path)).refresh(),
        )
        for summary in chosen
    ]  # fmt: skip


def short_names(ids: Sequence[str]) -> dict[str, str]:
    """The name of each run, without its experiment where all have the same."""
    one_experiment = len({id.split("/")[0] for id in ids}) == 1
    return {id: one_line(id.split("/", 1)[-1] if one_experiment else id, 60) for id in ids}


def slots_of(ids: Iterable[str]) -> dict[str, int]:
    """A colour and line for each run, which depends on its name and hardly on who else is there.

    The first slots are colours with whole lines, the next the same colours dashed, and so on. A run that finds its own
    colour taken moves on to the next free one.
    """
    taken: dict[str, int] = {}
    for id in sorted(ids, key=lambda id: (zlib.crc32(id.encode()), id)):
        wanted = zlib.crc32(id.encode()) % N_COLOURS
        round_ = len(taken) // N_COLOURS
        free = (
            round_ * N_COLOURS + (wanted + step) % N_COLOURS
            for step in range(N_COLOURS)
        )  # fmt: skip
        taken[id] = next(slot for slot in free if slot not in taken.values())
    return taken


def parameters_of(run: Run) -> int | None:
    """How many parameters a run's network has, as its log says when it begins."""
    try:
        with (run.path / "log.txt").open("rb") as file:
            found = _PARAMETERS.search(file.read(_LOG_HEAD_BYTES))
    except OSError:
        return None
    return int(found[1].replace(b",", b"")) if found else None


def grouped(chosen: Sequence[Subject], fold: bool) -> list[list[Subject]]:
    """The runs one by one, or those together that differ only in their seed."""
    if not fold:
        return [[subject] for subject in chosen]
    by_id = {subject.id: subject for subject in chosen}
    return [[by_id[id] for id in ids] for ids in seed_groups({subject.id: subject.config for subject in chosen})]


def name_of(group: Sequence[Subject]) -> str:
    """What a run, or several seeds of one, is called."""
    first = group[0].name
    return first if len(group) == 1 else f"{first} and {len(group) - 1} more seed{'s' if len(group) > 2 else ''}"


# --- curves ----------------------------------------------------------------------------------------------------------


def lines(
    chosen: Sequence[Subject],
    metric: Metric,
    *,
    by_time: bool = False,
    smooth: float = 0.0,
    best_so_far: bool = False,
    fold: bool = False,
) -> list[Line]:
    """One line a run, or a group of seeds, by epoch or by seconds of training; a run without rows has none."""
    found = []
    for group in grouped(chosen, fold):
        members = [_line(subject, metric, by_time, smooth, best_so_far) for subject in group]
        members = [member for member in members if member]
        if len(members) == 1:
            places = tuple(place for place, _ in members[0].values())
            found.append(Line(name_of(group[:1]), group[0].slot, places, tuple(v for _, v in members[0].values())))
        elif members:
            found.append(_folded(group, members))
    return [_thinned(line) for line in found]


def _line(
    subject: Subject, metric: Metric, by_time: bool, smooth: float, best_so_far: bool
) -> dict[int, tuple[float, float | None]]:
    """Place and value by epoch."""
    rows = subject.curves.rows
    values = [_number(row.get(metric.key)) for row in rows]
    if smooth:
        values = smoothed(values, smooth)
    if best_so_far and metric.more_is_better is not None:
        values = _best_so_far(values, more=metric.more_is_better)
    epochs = [int(row["epoch"]) for row in rows]
    places = elapsed_s(rows, subject.curves.seconds) if by_time else [float(epoch) for epoch in epochs]
    return {epoch: (place, value) for epoch, place, value in zip(epochs, places, values, strict=True)}


def _best_so_far(values: Sequence[float | None], *, more: bool) -> list[float | None]:
    best: float | None = None
    found: list[float | None] = []
    for value in values:
        if value is not None and (best is None or (value > best if more else value < best)):
            best = value
        found.append(best)
    return found


def _folded(group: Sequence[Subject], members: Sequence[dict[int, tuple[float, float | None]]]) -> Line:
    """The mean of seeds over the epochs that all of them have, with its interval."""
    epochs = sorted(set.intersection(*(set(member) for member in members)))
    x, y, low, high = [], [], [], []
    for epoch in epochs:
        values = [value for member in members if (value := member[epoch][1]) is not None]
        x.append(sum(member[epoch][0] for member in members) / len(members))
        mean = mean_interval(values) if len(values) == len(members) else None
        y.append(mean.mean if mean else None)
        low.append(mean.low if mean else None)
        high.append(mean.high if mean else None)
    return Line(name_of(group), group[0].slot, tuple(x), tuple(y), tuple(low), tuple(high), len(members))


def _thinned(line: Line) -> Line:
    n = len(line.x)
    if n <= MAX_POINTS:
        return line
    at = sorted({round(place * (n - 1) / (MAX_POINTS - 1)) for place in range(MAX_POINTS)})
    return replace(
        line, x=tuple(line.x[place] for place in at), y=_at(line.y, at), low=_at(line.low, at), high=_at(line.high, at)
    )


def _at(values: Sequence[float | None], places: Sequence[int]) -> tuple[float | None, ...]:
    return tuple(values[place] for place in places) if values else ()


# --- results ---------------------------------------------------------------------------------------------------------


def results(chosen: Sequence[Subject], *, fold: bool = False) -> list[Result]:
    """How well each run does, or each group of seeds on average."""
    found = []
    for group in grouped(chosen, fold):
        each = [_result(subject) for subject in group]
        found.append(each[0] if len(each) == 1 else _mean_result(group, each))
    return found


def _result(subject: Subject) -> Result:
    matrix = last_matrix(subject.run, TEST)
    n = int(matrix.counts.sum()) if matrix else 0
    best, epoch = subject.summary.best_recording_accuracy, subject.curves.best_epoch.get("test_recording_accuracy")
    last = subject.curves.last
    return Result(
        subject.name, subject.slot, 1, _score(_number(last.get("test_recording_accuracy")), n), _score(best, n), epoch,
        validation_score(subject.run), _number(last.get("test_clip_accuracy")), _number(last.get("test_loss")),
        subject.summary.state.epoch, subject.curves.seconds, parameters_of(subject.run),
    )  # fmt: skip


def _mean_result(group: Sequence[Subject], each: Sequence[Result]) -> Result:
    return Result(
        name_of(group), group[0].slot, len(each), mean_score([one.last for one in each]),
        mean_score([one.best for one in each]), None, mean_score([one.validation for one in each]),
        _mean([one.clips for one in each]), _mean([one.loss for one in each]), min(one.epochs for one in each),
        _mean([one.seconds for one in each]) or 0.0, each[0].parameters,
    )  # fmt: skip


def mean_score(scores: Sequence[Score | None]) -> Score | None:
    """The mean of seeds with the interval of the mean; None unless all have been measured."""
    known = [score for score in scores if score is not None]
    if not known or len(known) < len(scores):
        return None
    if len(known) == 1:
        return known[0]
    mean = mean_interval(score.share for score in known)
    ends = None if mean.low is None or mean.high is None else (max(0.0, mean.low), min(1.0, mean.high))
    return Score(mean.mean, known[0].n, ends)


def validation_score(run: Run) -> Score | None:
    """The recordings of the validation part that a run's last evaluation got right."""
    matrix = last_matrix(run, VALIDATION)
    n = int(matrix.counts.sum()) if matrix else 0
    return _score(int(matrix.counts.trace()) / n, n) if matrix and n else None


def _score(share: float | None, n: int) -> Score | None:
    if share is None:
        return None
    return Score(share, n, wilson(round(min(max(share, 0.0), 1.0) * n), n))


# --- matrices and outcomes -------------------------------------------------------------------------------------------


def last_matrix(run: Run, part: str) -> Confusion | None:
    """The latest confusion matrix over a part: the validation's, or that of the last epoch that kept one."""
    if part == VALIDATION:
        return run.confusion(VALIDATION)
    epoch = matrix_epoch(run, part)
    return None if epoch is None else run.confusion(f"epoch_{epoch:03d}")


def matrix_epoch(run: Run, part: str) -> int | None:
    """After which epoch the latest matrix over the test part was made: one is kept every few epochs only."""
    kept = [name for name in run.confusion_names() if name.startswith("epoch_")] if part == TEST else []
    return int(kept[-1].removeprefix("epoch_")) if kept else None


def checkpoint_epoch(run: Run) -> int:
    """After how many epochs the most trained checkpoint was saved; 0 when there is none."""
    kept = run.checkpoints()
    return checkpoint_position(kept[-1])[0] if kept else 0


def outcomes(run: Run, part: str) -> Outcomes | None:
    """What each recording of a part came to, in training or by `pianistid evaluate`, whichever heard the further model.

    None when neither says.
    """
    found = [one for one in (_trained(run, part), _evaluated(run, part)) if one is not None]
    return max(found, key=lambda one: -1 if one.epoch is None else one.epoch, default=None)


def _trained(run: Run, part: str) -> Outcomes | None:
    matrix = last_matrix(run, part)
    return Outcomes(matrix.class_names, matrix.recordings, matrix_epoch(run, part)) if _knows(matrix) else None


def _evaluated(run: Run, part: str) -> Outcomes | None:
    data = run.read_json(f"evaluation/{part}.json") or {}
    said = data.get("confusion")
    matrix = Confusion.from_dict(said) if isinstance(said, Mapping) else None
    of = CHECKPOINT.fullmatch(Path(str(data.get("checkpoint", ""))).name)
    return Outcomes(matrix.class_names, matrix.recordings, int(of[1]) if of else None) if _knows(matrix) else None


def _knows(matrix: Confusion | None) -> TypeGuard[Confusion]:
    return matrix is not None and bool(matrix.recordings)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
