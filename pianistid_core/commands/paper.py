"""`pianistid paper`: the paper's tables at CPU size: trained here, and beside the published figures."""

from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pianistid_core.audit import machine_user, note
from pianistid_core.commands.console import (
    add_data_root,
    add_json,
    count,
    open_root,
    progress,
    say,
    say_json,
    say_table,
)
from pianistid_core.config import load_config
from pianistid_core.cpu_sized import BATCH_SIZE, ENCODER_SIZES, FAMILIES, NARROWER, SEED, cpu_sized
from pianistid_core.datasets.root import PARTS, DataRoot, require_clips
from pianistid_core.errors import RunError
from pianistid_core.paper_pairs import pairs, questions_of
from pianistid_core.paper_results import (
    LIMITS,
    SHIPPED,
    Comparison,
    Results,
    collect,
    comparisons,
    read_results,
    rows,
    save_results,
    tally_in_words,
    to_train,
    verdict,
)
from pianistid_core.published import N_RECORDINGS, Published

if TYPE_CHECKING:
    from pianistid_core.runs import Run


def add_paper(parser: ArgumentParser) -> None:
    """Adds the actions of `paper`."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    show = actions.add_parser("show", help="print a table of results: by default the one that ships")
    show.add_argument("--results", metavar="FILE", help="another table, as `paper train` writes it")
    show.add_argument("--markdown", action="store_true", help="print the page docs/results.md")
    show.set_defaults(handle=_show)
    train = actions.add_parser(
        "train", help="train what is not trained yet, one after the other, and write a table of results"
    )
    train.add_argument("--results", metavar="FILE", help="write the table here, after each experiment")
    train.add_argument(
        "--seeds", default=str(SEED), metavar="S1,S2", help=f"the seed ({SEED}), and further ones to repeat all with"
    )
    train.add_argument("--dry-run", action="store_true", help="only list what is trained and what is not")
    train.set_defaults(handle=_train)
    for action in (show, train):
        add_data_root(action)
        add_json(action)


_EXPERIMENT = ("model", "published", "here", "95 % interval", "n", "clips right", "other seeds")
_COMPARISON = ("question", "where", "change", "published", "here", "95 % interval", "p", "other seeds", "agrees")


# --- show ------------------------------------------------------------------------------------------------------------


def _show(options: Namespace) -> int:
    results = read_results(Path(options.results) if options.results else SHIPPED)
    if options.markdown:
        for line in results_page(results):
            say(line)
        return 0
    if options.json:
        say_json(_as_data(results))
        return 0
    say_table(_EXPERIMENT, _experiments(results))
    say()
    say_table(_COMPARISON, [_comparison(one) for one in comparisons(results)])
    say()
    say(tally_in_words(results))
    return 0


def _as_data(results: Results) -> dict[str, Any]:
    """Every figure of a table, worked out."""
    return {
        "split": results.split,
        "experiments": [
            {
                "preset": row.preset, "title": row.title, "published": row.accuracy,
                "here": None if ours is None else asdict(ours)
                | {"n": ours.n, "right": ours.right, "recording_accuracy": ours.accuracy, "interval": ours.interval()},
            }
            for row, ours in rows(results)
        ],
        "repeats": [asdict(one) | {"recording_accuracy": one.accuracy} for one in results.repeats],
        "comparisons": [asdict(one) for one in comparisons(results)],
        "best": [asdict(recipe) for recipe in results.best],
    }  # fmt: skip


def _experiments(results: Results) -> list[tuple[object, ...]]:
    return [
        (row.title, row.accuracy, ours and ours.accuracy, ours and _between(*ours.interval()), ours and ours.n,
         ours and ours.clip_accuracy, _again(row, results) or None)
        for row, ours in rows(results)
    ]  # fmt: skip


def _comparison(one: Comparison) -> tuple[object, ...]:
    pair, test = one.pair, one.test
    between = f"{test.low:+.3f} to {test.high:+.3f}"
    again = ", ".join(f"{difference:+.3f}" for difference in one.again)
    signs = f"{one.published:+.3f}", f"{test.difference:+.3f}"
    return pair.question, pair.setting, pair.change, *signs, between, _p(test.p), again or None, verdict(one)


def _again(row: Published, results: Results) -> str:
    """The accuracies of the repeats with other seeds."""
    return ", ".join(f"{one.accuracy:.3f}" for one in results.again(row.preset).values())


def _between(low: float, high: float) -> str:
    return f"{low:.3f} to {high:.3f}"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


# --- the page --------------------------------------------------------------------------------------------------------


def results_page(results: Results) -> list[str]:
    """The lines of docs/results.md."""
    done = list(results.experiments.values())
    n = done[0].n if done else 0
    missing = [row.title for row, ours in rows(results) if ours is None]
    lines = [
        "# Results: the paper's tables at CPU size",
        "",
        "Written by `pianistid paper show --markdown > docs/results.md` from `pianistid_core/results/paper_cpu.json`.",
        "",
        "The paper trained sixteen networks for 100 epochs on a large GPU. Here is each of them at a size that a core",
        "of a CPU trains in minutes, with what it compares left as it is. Their own accuracy is far below the paper's",
        "and says little. What can be compared is whether a change (augmentation, masking, attention, pooling, size)",
        "goes in the same direction.",
        "",
        "    pianistid paper train --data-root ROOT --results paper_cpu.json    trains what is not trained yet",
        "    pianistid paper show --results paper_cpu.json                      prints both tables below",
        "    pianistid evaluate paper-cpu/RUN --split validation                one of them, by pianist",
        "",
        "## Each experiment",
        "",
        f"Shares of recordings named rightly. Published: {N_RECORDINGS} recordings, the validation part of the paper's",
        f"split. Here: {n} recordings of split `{results.split}` as jazz20 has it. That has no validation part, so its",
        "test part stands in, as everywhere in this program: these are other recordings than the paper's. The last",
        "epoch counts. How large and how long was decided by the time it takes and by how well the first experiment",
        "learned, before the others were trained; none was stopped or chosen by these recordings. Intervals are",
        f"Wilson's, 95 %. Always naming whoever plays most of them is right for {results.baseline:.3f}.",
        "",
        "| model | table | helps to tell | published | here | interval | n | other seeds | clips here | trained for |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(_experiment_line(row, results) for row, _ in rows(results)),
        "",
    ]
    if missing:
        lines += [f"Not trained yet: {', '.join(missing)}.", ""]
    lines += [*_pairs_section(results), *_recipe_section(results), *_limits_section()]
    lines += _rule_section()
    return lines


def _experiment_line(row: Published, results: Results) -> str:
    ours = results.experiments.get(row.preset)
    what = ", ".join(question.lower() for question in questions_of(row.preset))
    cells = [row.title, row.table, what, f"{row.accuracy:.3f}"]
    if ours is None:
        return "| " + " | ".join([*cells, "not trained", *[""] * 5]) + " |"
    trained = f"{ours.epochs} epochs of {ours.n_train_clips:,} clips"
    figures = [
        f"**{ours.accuracy:.3f}**",
        _between(*ours.interval()),
        str(ours.n),
        f"{ours.clip_accuracy:.3f}",
        trained,
    ]
    return "| " + " | ".join([*cells, *figures]) + " |"


def _pairs_section(results: Results) -> list[str]:
    found = comparisons(results)
    lines = [
        "## Each comparison",
        "",
        "Two experiments that differ in one thing, on the same recordings. A difference is the second's share less the "
        "first's; its interval allows for the pairing (Newcombe 1998), and p is McNemar's, exact. *Agrees* is "
        "*cannot be told* when the interval includes 0: then these recordings do not show a direction. Interval and p "
        "are different tests, and at the edge one may see a difference where the other does not.",
        "",
        "| question | where | change | published | here | interval | p | other seeds | direction agrees |",
        "|---|---|---|---|---|---|---|---|---|",
        *("| " + " | ".join(str(cell or "") for cell in _comparison(one)) + " |" for one in found),
        "",
        tally_in_words(results),
        "",
    ]
    left_out = len(pairs()) - len(found)
    if left_out:
        lines += [f"{count(left_out, 'pair')} of {len(pairs())} left out: not both are trained.", ""]
    return lines


def _recipe_section(results: Results) -> list[str]:
    if not results.best:
        return []
    return [
        "## Our best recipe",
        "",
        "| recipe | clips | recordings | interval | macro recall | seeds |",
        "|---|---|---|---|---|---|",
        *(
            f"| {one.label} | {one.clip_accuracy:.3f} | **{one.recording_accuracy:.3f}** "
            f"| {_between(one.low, one.high)} | {one.macro_recall:.3f} | {', '.join(map(str, one.seeds)) or '-'} |"
            for one in results.best
        ),
        "",
    ]


def _limits_section() -> list[str]:
    return ["## What this can show, and what not", "", *(f"- {limit}" for limit in LIMITS), ""]


def _rule_section() -> list[str]:
    """How a config becomes its CPU-sized version."""
    widths = ", ".join(f"{stem} and {width} ({name})" for name, (stem, width) in ENCODER_SIZES.items())
    return [
        "## The rule",
        "",
        "`pianistid_core.cpu_sized.cpu_sized(config)` makes the CPU-sized version of any of the sixteen. It keeps",
        "augmentation and its probability, masking, attention and its heads, pooling and head, and changes",
        "",
        f"- a factorised ResNet's encoders to compact ones, stem and width {widths}: width stands for depth;",
        f"- the factorised CRNN's eight convolutions to 1/{NARROWER} of their width; its recurrent layer stays;",
        "- ResNet-50 to the compact network, of stem 16 and width 96; the CRNN stays as it is, but hears seconds;",
        f"- all of them to batches of {BATCH_SIZE}, Adam, a cosine schedule, no jitter, and dropout before the",
        "  head of a factorised network, not on its logits.",
        "",
        "| family | clips | epochs | learning rate | frames averaged |",
        "|---|---|---|---|---|",
        *_families(),
    ]


def _families() -> list[str]:
    return [
        f"| {name} | {size.n_clips:,} | {size.epochs} | {size.lr} | {size.frame_pool} |"
        for name, size in FAMILIES.items()
    ]


# --- train -----------------------------------------------------------------------------------------------------------


def _train(options: Namespace) -> int:
    from pianistid_core.devices import keep_memory

    root = open_root(options.data_root)
    seeds = _seeds(options.seeds)
    wanted = [(*one, seed) for seed in seeds for one in to_train(root, seed=seed)]
    if options.dry_run:
        return _list(wanted, as_json=options.json)
    target = Path(options.results) if options.results else None
    best = read_results(target if target is not None and target.exists() else SHIPPED).best
    _require_data(root, wanted[0][0])
    keep_memory()
    for row, run, is_done, seed in wanted:
        if not is_done:
            _train_one(row, run, root, seed)
        if target is not None:
            save_results(collect(root, seeds=seeds, best=best), target)
    if options.json:
        say_json(_as_data(collect(root, seeds=seeds, best=best)))
    else:
        say(f"{count(len(wanted), 'experiment')} trained" + (f"; the table is in {target}" if target else ""))
    return 0


def _seeds(text: str) -> tuple[int, ...]:
    try:
        seeds = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0:
        raise RunError(f"got --seeds {text!r}; give whole numbers of at least 0, such as {SEED},{SEED + 1}")
    return seeds


def _require_data(root: DataRoot, row: Published) -> None:
    split = root.split(cpu_sized(load_config(row.preset)).data_split_dir)
    for part in PARTS:
        require_clips(root, split, part)


def _train_one(row: Published, run: "Run", root: DataRoot, seed: int) -> None:
    from pianistid_core import training

    note(root, machine_user(), "start", run.id, ended="begun")
    with progress("batches") as shown:
        state = training.train(cpu_sized(load_config(row.preset), seed=seed), root, run, on_progress=shown.show)
    if state.status != "finished":
        raise RunError(f"run {run.id} is {state.status}: {state.reason}; the same command goes on with it")


def _list(wanted: "list[tuple[Published, Run, bool, int]]", *, as_json: bool) -> int:
    if as_json:
        say_json([{"preset": row.preset, "run": run.id, "trained": done} for row, run, done, _ in wanted])
        return 0
    say_table(
        ("model", "seed", "trained"), [(row.title, seed, "yes" if done else "no") for row, _, done, seed in wanted]
    )
    return 0
