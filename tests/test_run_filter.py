"""The filter of runs: it reads like Python, evaluates nothing, and refuses in words."""

import ast
import operator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pianistid_core.config import flatten, load_config
from pianistid_core.run_filter import MAX_CHARACTERS, FilterError, config_keys, known_names, parse_filter
from pianistid_core.runs import RunLabels, RunState, RunSummary

CONFIG = flatten(load_config("demo.yaml"))
RUN = RunSummary(
    id="jazz/resnet-long",
    path=Path("jazz/resnet-long"),
    state=RunState("finished", epoch=20, epochs=40),
    best_recording_accuracy=0.75,
    last={"epoch": 20, "test_loss": 0.5, "lr": 0.002, "test_clip_accuracy": 0.6, "skipped": 0},
    created=1_735_000_000.0,
    labels=RunLabels(("Baseline", "two words"), "Tried with\nless dropout", starred=True),
    seconds=90.0,
)
NEW = RunSummary("jazz/new", Path("jazz/new"), RunState("queued"), None, {}, 1_735_000_000.0)


def matches(text: str, run: RunSummary = RUN, config: Any = CONFIG) -> bool:
    return parse_filter(text).matches(run, config)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "accuracy > 0.7",
        "0.7 < accuracy <= 0.75 < 1",
        "optim_cfg.lr < 0.01 and (accuracy > 0.9 or \"Baseline\" in tags) and not archived",
        "optim_cfg.lr == 2e-3",
        "test_loss <= .5 and lr == 0.002",
        "clip_accuracy == 0.6 and epoch == 20 and epochs == 40 and seconds == 90",
        "state == 'finished'",
        "state in ('finished', 'stopped') and state not in ['failed']",
        "experiment == 'jazz' and run == 'resnet-long' and id == 'jazz/resnet-long'",
        "'resnet' in run and 'wordy' not in note",
        "encoder_module == 'disentangle' and train_dataset_cfg.multichannel",
        "train_dataset_cfg.multichannel == true and test_dataset_cfg.data_augmentation == False",
        "starred",
        "starred and not archived",
        "age_days > 1 and created < '2025-06-01' and created > '2024'",
        "skipped >= -1",
        "train_dataset_cfg.use_concepts == (0, 1, 2, 3)",
        "3 in train_dataset_cfg.use_concepts",
        "baseline",
        "BASELINE",
        "two words",
        "'less dropout' or accuracy > 1",
        "jazz/resnet",
        "resnet-long",
        "with less",
        "\"resnet\"",
    ],
)  # fmt: skip
def test_this_run_is_meant(text: str) -> None:
    assert matches(text)


@pytest.mark.parametrize(
    "text",
    [
        "accuracy > 0.75",
        "not starred",
        "archived",
        "state == 'failed'",
        "'baseline' in tags",  # tags are compared as they are written
        "accuracy < 'a'",
        "id < 3",
        "3 in note",
        "note in 3",
        "nobody",
        '"accuracy > 0"',
        "false",
    ],
)
def test_this_run_is_not_meant(text: str) -> None:
    assert not matches(text)


@pytest.mark.parametrize("sign", ["<", "<=", ">", ">=", "==", "!="])
@pytest.mark.parametrize("name", ["accuracy", "test_loss", "clip_accuracy", "sched_cfg.patience", "peak_memory_mb"])
def test_what_a_run_lacks_compares_false(name: str, sign: str) -> None:
    assert not matches(f"{name} {sign} 0.5", NEW, {})
    assert not matches(f"0.5 {sign} {name}", NEW, {})
    assert matches(f"not {name} {sign} 0.5", NEW, {})
    assert not matches(f"{name} in (1, 2)", NEW, {}) and not matches(f"{name} not in (1, 2)", NEW, {})


@pytest.mark.parametrize(
    ("text", "words", "position"),
    [
        ("acuracy > 0.5", "did you mean accuracy?", 0),
        ("accuracy > 0.5 and optim_cfg.learning > 1", "no 'optim_cfg.learning'", 19),
        ("optim_cfg.rl < 1", "did you mean optim_cfg.lr?", 0),
        ("failed or accuracy > 1", 'state == "failed"', 0),
        (" accuracy >", "cannot be read", 11),
        ("(accuracy > 1", "cannot be read", 0),
        ("accuracy > 1 + 1", "arithmetic", 11),
        ("len(tags) > 1", "a call", 0),
        ("tags[0] == 'x'", "an index", 0),
        ("accuracy is 1", "write == or !=", 12),
        ("x = 3", "cannot be read", 0),
        ("accuracy > 1j", "no place", 11),
        ("accuracy > b'1'", "no place", 11),
        ("  'é' in note\nand acuracy > 1", "did you mean accuracy?", 18),
        ("accuracy in ((1, 2), 3)", "a list in a list", 13),
        ("3 and accuracy > 1", "no place", 0),
        ("(lambda: 1) == 1", "a function", 1),
        ("__import__('os').system('true') == 0", "a call", 0),
        ("accuracy > 1" + " " * MAX_CHARACTERS, "characters", MAX_CHARACTERS),
        ("not " * 100 + "starred", "deep", 0),
    ],
)
def test_what_cannot_be_read_is_refused_in_words_and_with_its_place(text: str, words: str, position: int) -> None:
    with pytest.raises(FilterError) as refused:
        parse_filter(text)
    assert words in str(refused.value)
    if position:
        assert refused.value.position == position


def test_a_filter_says_whether_it_needs_the_config() -> None:
    assert not parse_filter("accuracy > 0.5 and 'x' in tags").needs_config
    assert parse_filter("accuracy > 0.5 and seed == 1").needs_config


def test_every_known_name_can_be_asked_for() -> None:
    assert set(CONFIG) <= set(known_names()) and "sched_cfg.patience" in config_keys()
    for name in known_names():
        parse_filter(f"{name} == 1").matches(RUN, CONFIG)


WORDS = (
    "accuracy optim_cfg.lr tags note starred < >= == is lambda if else await yield None x # ... 0.5 -1 1e999 'a' f'{x}'"
)
MARKS = ["(", ")", ",", "[", "]", "{", "}", '"', "'", ".", ":", "=", ":=", "*", "**", "\\"]
SPACED = [" in ", " not in ", " and ", " or ", " not ", "\n", "\0", "\ud800", "é", "ﬁ"]
pieces = st.sampled_from([*WORDS.split(), *MARKS, *SPACED])


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(max_size=80), st.lists(pieces, max_size=14).map("".join)))
@example("(" * 500)
@example("-" * 900 + "1 > 0")
@example("a." * 499 + "a > 1")
@example("1 < " * 240 + "2")
@example("not " * 240 + "starred")
@example("[" * 90 + "] == 1")
@example("'\\")
def test_any_text_is_read_or_refused_and_nothing_else(text: str) -> None:
    try:
        read = parse_filter(text)
    except FilterError as refused:
        assert 0 <= refused.position <= max(len(text), MAX_CHARACTERS)
        return
    for run, config in ((RUN, CONFIG), (NEW, {})):
        assert read.matches(run, config) in (True, False)


SIGNS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne}
numbers = st.one_of(st.integers(-5, 5), st.floats(-5, 5))


@settings(max_examples=200, deadline=None)
@given(numbers, st.lists(st.tuples(st.sampled_from(list(SIGNS)), numbers), min_size=1, max_size=3), st.booleans())
def test_comparisons_are_those_of_python(first: float, rest: list[tuple[str, float]], negated: bool) -> None:
    text = repr(first) + "".join(f" {sign} {number!r}" for sign, number in rest)
    if negated:
        text = f"not ({text})"
    wanted = eval(compile(ast.parse(text, mode="eval"), "test", "eval"))
    assert matches(text) is wanted
    run = RunSummary("a/b", Path("a/b"), RunState("finished"), first, {}, 0.0)
    assert matches(text.replace(repr(first), "accuracy", 1), run) is wanted
