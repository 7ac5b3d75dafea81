"""`pianistid paper`, and the page docs/results.md that it writes."""

import json
from pathlib import Path
from typing import Any

import pytest

from pianistid_core import __main__ as command_line
from pianistid_core.commands.paper import results_page
from pianistid_core.paper_results import LIMITS, Recipe, Reproduced, Results, read_results, save_results
from pianistid_core.published import published

PAGE = Path(__file__).parent.parent / "docs" / "results.md"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table of results of everything, with a repeat and a recipe."""
    rows = {
        row.preset: Reproduced(row.preset, "1" * n + "0" * (40 - n), 0.4, 0.3, 80, 10, 2306, 42)
        for n, row in enumerate(published(), start=10)
    }
    first = next(iter(rows))
    again = Reproduced(first, "1" * 11 + "0" * 29, 0.4, 0.3, 80, 10, 2306, 43)
    recipe = Recipe("n-grams", 0.7, 0.8, 0.75, 0.72, 0.86, (1, 2))
    save_results(Results("some_split", "0" * 16, 0.2, rows, (again,), (recipe,)), tmp_path / "table.json")
    return tmp_path / "table.json"


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    status = command_line.main(["paper", *map(str, arguments)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_the_page_is_that_of_the_table_that_ships() -> None:
    assert PAGE.read_text() == "\n".join(results_page(read_results())) + "\n", (
        "write it anew: pianistid paper show --markdown > docs/results.md"
    )


def test_the_page_has_every_experiment_comparison_and_limit(table: Path) -> None:
    page = results_page(read_results(table))
    text = "\n".join(page)
    assert all(f"| {row.title} | {row.table} |" in text for row in published())
    assert all(limit in text for limit in LIMITS)
    assert "## Our best recipe" in page and "| n-grams | 0.700 | **0.800** | 0.720 to 0.860 | 0.750 | 1, 2 |" in page
    assert "Of 18 pairs" in text and "Not trained yet" not in text and "| not trained |" not in text
    widths = {line.count("|") for line in page if line.startswith("|")}
    assert widths == {11, 10, 7, 6}


def test_what_is_not_trained_is_said(tmp_path: Path) -> None:
    save_results(Results("some_split", "", 0.0, {}), tmp_path / "none.json")
    text = "\n".join(results_page(read_results(tmp_path / "none.json")))
    assert "Not trained yet: Factorised ResNet-18, average pooling," in text
    assert "18 pairs of 18 left out" in text


def test_show_prints_both_tables_or_json(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "show", "--results", table)
    assert status == 0 and "Factorised ResNet-18, max pooling" in out and "off to on" in out
    status, out, _ = call(capsys, "show", "--results", table, "--json")
    data: Any = json.loads(out)
    assert len(data["experiments"]) == 16 and len(data["comparisons"]) == 18 and data["best"][0]["label"] == "n-grams"
    first = data["experiments"][0]["here"]
    assert (first["n"], first["right"]) == (40, 10) and first["interval"][0] < first["recording_accuracy"] == 0.25
    status, out, _ = call(capsys, "show", "--results", table, "--markdown")
    assert out.startswith("# Results")
    assert call(capsys, "show", "--results", table.with_name("none.json"))[0] == 1


def test_train_lists_what_is_there_and_refuses_what_it_cannot_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIANISTID_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "root"
    (root / "references" / "data_splits").mkdir(parents=True)
    status, out, _ = call(capsys, "train", "--dry-run", "--data-root", root, "--seeds", "42,43", "--json")
    wanted = json.loads(out)
    assert status == 0 and len(wanted) == 32 and not any(one["trained"] for one in wanted)
    status, out, _ = call(capsys, "train", "--dry-run", "--data-root", root)
    assert out.count(" no\n") == 16
    status, _, err = call(capsys, "train", "--data-root", root, "--seeds", "one")
    assert status == 1 and "give whole numbers" in err
    status, _, err = call(capsys, "train", "--data-root", root)
    assert status == 1 and "20class_80min" in err and not (root / "checkpoints").exists()
