"""The paper's tables at CPU size: figures from outcomes, directions, what ships, and what is collected from runs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pianistid_core.config import load_config, to_yaml
from pianistid_core.confusion import Confusion, RecordingOutcome
from pianistid_core.cpu_sized import cpu_sized
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import RunError
from pianistid_core.paper_pairs import REFERENCE, pairs
from pianistid_core.paper_results import (
    SHIPPED,
    Recipe,
    Reproduced,
    Results,
    collect,
    comparisons,
    read_results,
    rows,
    save_results,
    tally,
    tally_in_words,
    to_train,
    verdict,
)
from pianistid_core.published import published
from pianistid_core.run_config import run_for

MASKING = next(pair for pair in pairs() if (pair.question, pair.setting) == ("Masking", "augmented"))
POOLING = next(pair for pair in pairs() if (pair.question, pair.setting) == ("Pooling", "no attention"))


def reproduced(preset: str, outcomes: str, seed: int = 42) -> Reproduced:
    return Reproduced(preset, outcomes, 0.4, 0.3, 642, 10, 2306, seed)


def results(**of: str) -> Results:
    """A table in which some presets, by their place in a pair ("a", "b"), have outcomes."""
    found = {getattr(MASKING, place): outcomes for place, outcomes in of.items()}
    return Results("split", "0" * 16, 0.2, {preset: reproduced(preset, marks) for preset, marks in found.items()})


# --- figures and directions ------------------------------------------------------------------------------------------


def test_figures_come_from_the_outcomes() -> None:
    row = reproduced(REFERENCE, "1" * 30 + "0" * 70)
    assert (row.n, row.right, row.accuracy) == (100, 30, 0.3)
    assert row.interval() == pytest.approx((0.2189, 0.3958), abs=5e-5)


@pytest.mark.parametrize(
    ("a", "b", "agrees", "leans", "words"),
    [
        ("0" * 80 + "1" * 20, "1" * 60 + "0" * 20 + "1" * 20, "yes", True, "yes"),
        ("1" * 60 + "0" * 40, "0" * 100, "no", False, "no"),
        ("0" * 99 + "1", "1" * 2 + "0" * 97 + "1", "cannot be told", True, "cannot be told (leans the same way)"),
        ("1" * 2 + "0" * 97 + "1", "0" * 99 + "1", "cannot be told", False, "cannot be told (leans the other way)"),
        ("10" * 50, "10" * 50, "cannot be told", None, "cannot be told (equal here)"),
    ],
)
def test_a_direction_agrees_only_where_the_interval_leaves_out_nought(
    a: str, b: str, agrees: str, leans: bool | None, words: str
) -> None:
    [one] = comparisons(results(a=a, b=b))
    assert one.pair == MASKING and one.published == pytest.approx(0.043)
    assert (one.agrees, one.leans, verdict(one)) == (agrees, leans, words)
    assert (one.test.low <= 0 <= one.test.high) == (agrees == "cannot be told")


def test_where_the_paper_gives_both_the_same_there_is_no_direction() -> None:
    found = Results("split", "", 0.2, {p: reproduced(p, m) for p, m in ((POOLING.a, "0000"), (POOLING.b, "1111"))})
    [one] = comparisons(found)
    assert (one.published, one.agrees, one.leans) == (0, "no direction", None)
    assert tally([one]).with_direction == 0 and verdict(one) == "the paper has none"


def test_repeats_stand_beside_and_are_not_tested() -> None:
    found = results(a="0011", b="0111")
    again = (reproduced(MASKING.a, "1111", 43), reproduced(MASKING.b, "0000", 43), reproduced(MASKING.b, "0001", 44))
    [one] = comparisons(replace(found, repeats=again))
    assert one.again == (-1.0,)
    assert one.test == comparisons(found)[0].test


def test_the_tally_counts_every_pair_once() -> None:
    found = comparisons(read_results())
    of = tally(found)
    assert of.yes + of.no + of.cannot_be_told == of.with_direction <= of.pairs == len(found)
    assert f"Here {of.yes} agree with it" in tally_in_words(read_results())


# --- the table that ships --------------------------------------------------------------------------------------------


def test_the_table_that_ships_is_sound() -> None:
    found = read_results()
    assert found.experiments.keys() <= {row.preset for row in published()}
    for preset, row in found.experiments.items():
        config = cpu_sized(load_config(preset))
        assert (row.epochs, row.n_train_clips) == (config.epochs, config.train_dataset_cfg.n_clips)
        assert (row.n, row.n_clips, row.seed) == (139, 642, 42)
    assert [row.preset for row, _ in rows(found)] == [row.preset for row in published()]
    text = SHIPPED.read_text()
    assert (
        len(text) < 60_000
        and "/"
        not in text.replace("baselines/", "").replace("disentangle-final-experiments/", "")[
            : text.index('"experiments"')
        ]
    )


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    recipe = Recipe("n-grams", 0.7, 0.8, 0.75, 0.72, 0.86, (1, 2))
    whole = replace(results(a="0101", b="0111"), repeats=(reproduced(MASKING.a, "1111", 43),), best=(recipe,))
    save_results(whole, tmp_path / "made" / "table.json")
    assert read_results(tmp_path / "made" / "table.json") == whole


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 9}, "format 9, not 1"),
        ({"experiments": [{"preset": "x"}]}, "damaged"),
        ({"experiments": None}, "damaged"),
        ({"best": [{"label": "x"}]}, "damaged"),
        ({"baseline": "much"}, "damaged"),
    ],
)
def test_a_damaged_table_is_one_sentence(change: dict[str, object], said: str, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    save_results(results(a="0101", b="0111"), path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RunError, match=said):
        read_results(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense", "[" * 100_000])
def test_what_is_no_table_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text(text)
    with pytest.raises(RunError, match=r"table\.json"):
        read_results(path)


def test_outcomes_must_be_marks_of_equally_many_recordings(tmp_path: Path) -> None:
    for marks in ({"a": "01x1", "b": "0111"}, {"a": "011", "b": "0111"}, {"a": "", "b": ""}):
        save_results(results(**marks), tmp_path / "table.json")
        with pytest.raises(RunError, match="damaged"):
            read_results(tmp_path / "table.json")
    with pytest.raises(RunError, match="cannot be read"):
        read_results(tmp_path / "none.json")


# --- from runs -------------------------------------------------------------------------------------------------------


def a_finished_run(root: DataRoot, preset: str, right: str, *, seed: int = 42, names: str = "abcd") -> None:
    config = cpu_sized(load_config(preset), seed=seed)
    run = run_for(config, root)
    run.make()
    run.save_text("config.yaml", to_yaml(config))
    outcomes = [
        RecordingOutcome(f"x/{name}", 0, int(mark == "0"), 0.9) for name, mark in zip(names, right, strict=True)
    ]
    counts = np.array([[right.count("1"), right.count("0")], [0, 0]])
    run.save_json("confusion/validation.json", Confusion(("Ada", "Bela"), counts, tuple(outcomes)).to_dict())
    run.save_json("evaluation/validation.json", {"clip_accuracy": 0.5, "macro_recall": 0.4, "n_clips": 9})
    run.set_state("finished", epochs=config.epochs)


@pytest.fixture
def root(tmp_path: Path) -> DataRoot:
    return DataRoot(tmp_path / "root", tmp_path / "cache")


def test_runs_are_collected_by_the_names_of_their_recordings(root: DataRoot) -> None:
    a_finished_run(root, MASKING.a, "1000")
    a_finished_run(root, MASKING.b, "0011", names="dcba")
    a_finished_run(root, MASKING.b, "1111", seed=43)
    found = collect(root, seeds=(42, 43))
    assert found.experiments[MASKING.a].outcomes == "1000"
    assert found.experiments[MASKING.b].outcomes == "1100"
    assert [row.seed for row in found.repeats] == [43] and found.repeats[0].preset == MASKING.b
    assert found.baseline == 1.0 and len(found.recordings) == 16
    assert collect(root).repeats == ()
    done = {row.preset for row, _, is_done in to_train(root) if is_done}
    assert done == {MASKING.a, MASKING.b}


def test_runs_that_heard_other_recordings_are_not_set_beside_each_other(root: DataRoot) -> None:
    a_finished_run(root, MASKING.a, "1000")
    a_finished_run(root, MASKING.b, "1000", names="abcz")
    with pytest.raises(RunError, match="different recordings"):
        collect(root)


def test_without_a_run_there_is_nothing_to_collect(root: DataRoot) -> None:
    with pytest.raises(RunError, match="pianistid paper train"):
        collect(root)
    a_finished_run(root, MASKING.a, "1000", seed=43)
    with pytest.raises(RunError, match="pianistid paper train"):
        collect(root, seeds=(42, 43))


def test_the_reference_is_trained_first_and_recurrent_networks_last(root: DataRoot) -> None:
    order = [row.preset for row, _, _ in to_train(root)]
    assert order[0] == REFERENCE and len(set(order)) == 16
    assert {name for preset in order[-3:] for name in ("crnn", "8conv") if name in preset} == {"crnn", "8conv"}
