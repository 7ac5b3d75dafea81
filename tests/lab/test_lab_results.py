"""Results: the table that ships, without a data root; with everything, with nothing, and damaged."""

from pathlib import Path

import pytest

import palette
import paper_table
import results_charts
from lab_support import charts_of, lab, words
from pianistid_core import paper_results
from pianistid_core.paper_results import LIMITS, Results, comparisons, read_results, save_results
from test_lab_charts import plain_json

PAGE = "views/results.py"


@pytest.fixture
def ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The table that the page finds: one of everything."""
    path = tmp_path / "table.json"
    save_results(paper_table.whole(), path)
    monkeypatch.setattr(paper_results.read_results, "__defaults__", (path,))
    return path


def test_what_ships_is_shown_without_any_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(tmp_path / "nothing", monkeypatch, PAGE)
    assert at.title[0].value == "Results"
    assert not at.exception and not at.error
    assert all(limit[:60] in words(at) for limit in LIMITS)


@pytest.mark.parametrize(("tab", "n_charts"), [("Comparisons", 1), ("Experiments", 2), ("Our best recipe", 1)])
def test_every_tab(tab: str, n_charts: int, ships: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(tmp_path, monkeypatch, PAGE, results_tab=tab)
    assert not at.exception and not at.error
    assert len(charts_of(at)) == n_charts
    assert len(at.dataframe) == 1


def test_without_a_recipe_there_is_no_tab_of_it(ships: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_results(Results("split", "", 0.0, {}), ships)
    at = lab(tmp_path, monkeypatch, PAGE)
    assert [tab.label for tab in at.tabs] == ["Comparisons", "Experiments"]
    assert "No two experiments" in words(at)
    at = lab(tmp_path, monkeypatch, PAGE, results_tab="Experiments")
    assert not at.exception and len(charts_of(at)) == 2


def test_a_damaged_table_is_a_sentence(ships: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ships.write_text("{")
    at = lab(tmp_path, monkeypatch, PAGE)
    assert not at.exception
    assert "The table of results table.json is no JSON" in words(at)


def test_a_recipe_s_name_is_shown_as_it_is(ships: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_results(paper_table.whole(label="![x](http://evil) {b}"), ships)
    at = lab(tmp_path, monkeypatch, PAGE, results_tab="Our best recipe")
    assert not at.exception
    assert "evil" not in words(at)


def test_the_chart_of_differences_says_all_in_words() -> None:
    found = comparisons(paper_table.whole())
    chart = results_charts.differences(found, palette.of_theme("dark"))
    plain_json(chart)
    assert len(chart.option["yAxis"]["data"]) == len(found) == 18
    assert "Masking: off to on, augmented: paper +4.3, here " in chart.alt
    narrow = chart.option["media"][0]["option"]["series"]
    assert len(narrow) == len(chart.option["series"]) and narrow[-1] == {"data": []}
    plain_json(results_charts.differences([], palette.of_theme("light")))


def test_grey_is_what_cannot_be_told() -> None:
    colours = palette.of_theme("light")
    found = comparisons(paper_table.whole())
    dots = results_charts.differences(found, colours).option["series"][-2]["data"]
    for one, dot in zip(found, dots, strict=True):
        is_sure = not one.test.low <= 0 <= one.test.high
        assert (dot["itemStyle"]["color"] != colours.ink_soft) == is_sure


def test_the_real_table_draws() -> None:
    plain_json(results_charts.differences(comparisons(read_results()), palette.of_theme("light")))
