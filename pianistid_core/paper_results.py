"""The paper's tables reproduced at CPU size: what each of the sixteen experiments came to, and whether pairs agree.

A table of results is a small JSON file that ships with the package. For each experiment it holds which recordings of
the validation part were named rightly, so that every figure, interval and test here is worked out from it anew.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from pianistid_core.atomic import write_atomically
from pianistid_core.comparison import PairedTest, paired_test
from pianistid_core.config import load_config
from pianistid_core.confusion import RecordingOutcome
from pianistid_core.cpu_sized import SEED, cpu_sized
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import RunError
from pianistid_core.intervals import Interval, wilson
from pianistid_core.paper_pairs import REFERENCE, Pair, pairs
from pianistid_core.published import PART, Published, published
from pianistid_core.run_config import run_for
from pianistid_core.runs import Run
from pianistid_core.strict_json import parse_json

__all__ = [
    "LIMITS", "SHIPPED", "Comparison", "Recipe", "Reproduced", "Results", "Tally", "collect", "comparisons",
    "read_results", "rows", "save_results", "tally", "tally_in_words", "to_train", "verdict",
]  # fmt: skip

SHIPPED = Path(__file__).parent / "results" / "paper_cpu.json"
_FORMAT = 1
Agreement = Literal["yes", "no", "cannot be told", "no direction"]

# What the CPU-sized versions can show, and what not: for the page of the docs and that of the lab.
LIMITS = (
    "They can show large effects, in small networks that are trained shortly. The paper's, but for the CRNN, are 60 to "
    "170 times larger, and saw every clip a hundred times. Augmentation mainly works against learning by heart, for "
    "which a short training has little time. An effect that is missing or turned round here says nothing against the "
    "paper.",
    "The paired test is about one training of each, over recordings. It does not know how much two trainings differ "
    "that differ only in their seed; where one was repeated with another seed, that figure stands beside it. Over the "
    "paper's own repetitions of its ResNet-50 on twenty random splits the standard deviation was 2.1 points.",
    "On 139 recordings a difference of less than some seven points can hardly be told. Most of the paper's own "
    "differences are of that size, on 160 recordings and from one training each. And of eighteen 95 % intervals, about "
    "one leaves out 0 by chance alone.",
    "Many comparisons share an experiment, most of all the factorised ResNet-18 with average pooling: if its one "
    "training was lucky, they all lean one way.",
    "The clips of jazz20 are poorer than the paper's: on a grid of 100 ms, all notes equally loud, and without the "
    "padding that jitter needs, so that there is no jitter. Loudness tells nothing here, and the dynamics encoder "
    "hears little more than how many chords and notes there are.",
    "The CRNNs, of which one cannot be made smaller, hardly learned in the time they had: they name about a fifth "
    "of the recordings or less, and a comparison with them says little.",
    "Figures can be compared within a family, not between families: these differ in clips, epochs and in how coarsely "
    "they hear time. The one comparison of two kinds of encoders keeps clips and epochs equal, not that.",
    "All sixteen have a head of one layer, so the paper's tables do not say what a second one does.",
)


@dataclass(frozen=True)
class Reproduced:
    """What the CPU-sized version of one experiment came to on the validation part, after one training.

    `outcomes` has a "1" for each recording that was named rightly and a "0" for each other one, in the order of their
    names; `epochs` and `n_train_clips` are what it was trained for and on.
    """

    preset: str
    outcomes: str
    clip_accuracy: float
    macro_recall: float
    n_clips: int
    epochs: int
    n_train_clips: int
    seed: int

    @property
    def n(self) -> int:
        """How many recordings were heard."""
        return len(self.outcomes)

    @property
    def right(self) -> int:
        """How many of them were named rightly."""
        return self.outcomes.count("1")

    @property
    def accuracy(self) -> float:
        """The share of recordings that were named rightly."""
        return self.right / self.n

    def interval(self) -> Interval:
        """Wilson's 95 % interval of that share."""
        return wilson(self.right, self.n) or (0.0, 1.0)


@dataclass(frozen=True)
class Recipe:
    """A row of the section "Our best recipe": what was trained, its figures on the validation part, and the seeds.

    `low` and `high` are the interval of the recording accuracy, a mean over seeds where there are several.
    """

    label: str
    clip_accuracy: float
    recording_accuracy: float
    macro_recall: float
    low: float
    high: float
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Results:
    """A table of results: the experiments by preset, repeats of them with other seeds, and the best recipe's rows.

    `split` is what they were trained and heard on, `recordings` a digest of the names of those heard, and `baseline`
    the share of them that whoever has most of them plays.
    """

    split: str
    recordings: str
    baseline: float
    experiments: Mapping[str, Reproduced]
    repeats: tuple[Reproduced, ...] = ()
    best: tuple[Recipe, ...] = ()

    def again(self, preset: str) -> dict[int, Reproduced]:
        """The repeats of an experiment by their seed."""
        return {row.seed: row for row in self.repeats if row.preset == preset}


# --- pair by pair --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """One pair: the paper's difference of recording accuracy (b less a), and ours with its paired test.

    `agrees` is "cannot be told" when the 95 % interval of our difference includes 0, and "no direction" when the paper
    gives both the same figure. `leans` says whether our difference has the paper's sign, whatever its interval; None
    where either is 0. `again` are our differences with other seeds, which `test` is not about.
    """

    pair: Pair
    published: float
    test: PairedTest
    agrees: Agreement
    leans: bool | None
    again: tuple[float, ...] = ()


def rows(results: Results) -> Iterator[tuple[Published, Reproduced | None]]:
    """Each row of the paper, table by table, with what came of it here; None while it is not trained."""
    for row in published():
        yield row, results.experiments.get(row.preset)


def comparisons(results: Results) -> list[Comparison]:
    """Every pair of which both are trained."""
    accuracies = {row.preset: row.accuracy for row in published()}
    found = []
    for pair in pairs():
        a, b = results.experiments.get(pair.a), results.experiments.get(pair.b)
        if a is not None and b is not None:
            theirs = round(accuracies[pair.b] - accuracies[pair.a], 6)
            test = paired_test(_outcomes(a), _outcomes(b))
            ours, others = results.again(pair.a), results.again(pair.b)
            again = tuple(others[seed].accuracy - ours[seed].accuracy for seed in sorted(ours.keys() & others.keys()))
            found.append(Comparison(pair, theirs, test, _agreement(theirs, test), _leaning(theirs, test), again))
    return found


@dataclass(frozen=True)
class Tally:
    """How pairs came out: how many there are, in how many the paper gives a direction, and what ours say of those."""

    pairs: int
    with_direction: int
    yes: int
    no: int
    cannot_be_told: int
    lean_alike: int


def tally(found: Sequence[Comparison]) -> Tally:
    """Counts how pairs came out."""
    count = Counter(one.agrees for one in found)
    directed = len(found) - count["no direction"]
    alike = sum(one.leans is True for one in found)
    return Tally(len(found), directed, count["yes"], count["no"], count["cannot be told"], alike)


def tally_in_words(results: Results) -> str:
    """How the pairs of a table came out, in sentences."""
    of = tally(comparisons(results))
    return (
        f"Of {of.pairs} pairs, the paper gives {of.with_direction} a direction. Here {of.yes} agree with it, {of.no} "
        f"do not, and of {of.cannot_be_told} it cannot be told, because the 95 % interval of the difference includes "
        f"0. Whatever their intervals, {of.lean_alike} of the {of.with_direction} differences have the paper's sign."
    )


def verdict(one: Comparison) -> str:
    """Whether a pair's direction agrees, in a few words."""
    if one.agrees == "no direction":
        return "the paper has none"
    if one.agrees != "cannot be told":
        return one.agrees
    leaning = {True: "leans the same way", False: "leans the other way", None: "equal here"}[one.leans]
    return f"cannot be told ({leaning})"


def _agreement(theirs: float, test: PairedTest) -> Agreement:
    if theirs == 0:
        return "no direction"
    if test.low <= 0 <= test.high:
        return "cannot be told"
    return "yes" if (test.difference > 0) == (theirs > 0) else "no"


def _leaning(theirs: float, test: PairedTest) -> bool | None:
    return None if theirs == 0 or test.difference == 0 else (test.difference > 0) == (theirs > 0)


def _outcomes(row: Reproduced) -> list[RecordingOutcome]:
    """As the paired test takes them: a recording by its number, and whether it was named rightly."""
    return [RecordingOutcome(str(number), 1, int(mark), 1.0) for number, mark in enumerate(row.outcomes)]


# --- from runs -------------------------------------------------------------------------------------------------------


def to_train(root: DataRoot, *, seed: int = SEED) -> list[tuple[Published, Run, bool]]:
    """Each experiment of the paper with the run that its CPU-sized version trains, and whether that has finished.

    Those that most others are compared with come first, so that a table cut short can say something.
    """
    order = list(dict.fromkeys([REFERENCE, *(preset for pair in _by_cost() for preset in (pair.a, pair.b))]))
    found = []
    for row in sorted(published(), key=lambda row: order.index(row.preset)):
        run = run_for(cpu_sized(load_config(row.preset), seed=seed), root)
        found.append((row, run, _is_done(run)))
    return found


def _by_cost() -> list[Pair]:
    """The pairs, those with a recurrent network last: it takes longest."""
    return sorted(pairs(), key=lambda pair: "CRNN" in f"{pair.setting} {pair.change}")


def collect(root: DataRoot, *, seeds: Sequence[int] = (SEED,), best: Sequence[Recipe] = ()) -> Results:
    """The table of what is trained in a data root; with further seeds, also the repeats with those.

    Raises
    ------
    RunError
        When nothing is trained with the first seed, or when runs have heard different recordings.
    """
    done = [(row, run, seed) for seed in seeds for row, run, is_done in to_train(root, seed=seed) if is_done]
    found = [(seed, *_reproduced(row, run, seed)) for row, run, seed in done]
    if not any(seed == seeds[0] for seed, _, _ in found):
        raise RunError("no experiment of the paper is trained here; `pianistid paper train` trains them")
    if len({tuple(one.track for one in outcomes) for _, _, outcomes in found}) > 1:
        raise RunError("the runs have heard different recordings, so they cannot be set beside each other")
    outcomes = found[0][2]
    digest = sha256("\n".join(one.track for one in outcomes).encode()).hexdigest()[:16]
    commonest = max(Counter(one.true for one in outcomes).values()) / len(outcomes)
    experiments = {row.preset: row for seed, row, _ in found if seed == seeds[0]}
    repeats = tuple(row for seed, row, _ in found if seed != seeds[0])
    split = cpu_sized(load_config(REFERENCE)).data_split_dir
    return Results(split, digest, round(commonest, 6), experiments, repeats, tuple(best))


def _reproduced(row: Published, run: Run, seed: int) -> tuple[Reproduced, list[RecordingOutcome]]:
    """What a run came to, and the outcomes of its recordings by their names."""
    confusion, measured = run.confusion(PART), run.read_json(f"evaluation/{PART}.json")
    if confusion is None or not confusion.recordings or measured is None:
        raise RunError(f"run {run.id} does not say which recordings it named rightly; train it again")
    outcomes = sorted(confusion.recordings, key=lambda one: one.track)
    config = cpu_sized(load_config(row.preset), seed=seed)
    reproduced = Reproduced(
        preset=row.preset,
        outcomes="".join(str(int(one.true == one.heard)) for one in outcomes),
        clip_accuracy=round(float(measured["clip_accuracy"]), 6),
        macro_recall=round(float(measured["macro_recall"]), 6),
        n_clips=int(measured["n_clips"]),
        epochs=config.epochs,
        n_train_clips=config.train_dataset_cfg.n_clips or 0,
        seed=seed,
    )
    return reproduced, outcomes


def _is_done(run: Run) -> bool:
    return run.state().status == "finished" and run.confusion(PART) is not None


# --- on disk ---------------------------------------------------------------------------------------------------------


def save_results(results: Results, path: Path) -> None:
    """Writes a table of results."""
    data = {"format": _FORMAT, **asdict(results)}
    data["experiments"] = [asdict(row) for row in results.experiments.values()]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode())


def read_results(path: Path = SHIPPED) -> Results:
    """Reads a table of results, by default the one that ships.

    Raises
    ------
    RunError
        When there is none, or it is damaged.
    """
    try:
        data = parse_json(path.read_bytes())
    except OSError as error:
        raise RunError(f"the table of results {path.name} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise RunError(f"the table of results {path.name} is no JSON: {error}") from error
    try:
        return _results(data)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"the table of results {path.name} is damaged ({error}); write it again with `pianistid paper train`"
        ) from error


def _results(data: Any) -> Results:
    if data["format"] != _FORMAT:
        raise ValueError(f"format {data['format']}, not {_FORMAT}")
    experiments = [Reproduced(**row) for row in data["experiments"]]
    repeats = [Reproduced(**row) for row in data["repeats"]]
    if any(not row.outcomes or set(row.outcomes) - set("01") for row in (*experiments, *repeats)):
        raise ValueError("outcomes that are not all 0 or 1")
    if len({row.n for row in (*experiments, *repeats)}) > 1:
        raise ValueError("experiments with different numbers of recordings")
    best = [Recipe(**(row | {"seeds": tuple(row["seeds"])})) for row in data["best"]]
    return Results(
        split=str(data["split"]),
        recordings=str(data["recordings"]),
        baseline=float(data["baseline"]),
        experiments={row.preset: row for row in experiments},
        repeats=tuple(repeats),
        best=tuple(best),
    )
