"""Comparing runs and asking what a model knows, in a real browser against a real server."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Page, expect
from steps import settled, visit

from lab_support import a_run

expect.set_options(timeout=20_000)

if TYPE_CHECKING:
    from pianistid_core.datasets.root import DataRoot


@pytest.fixture(scope="module")
def two_runs(trained_root: "DataRoot") -> Iterator[tuple[str, str]]:
    runs = [a_run(trained_root.path, name, "finished") for name in ("left", "right")]
    yield runs[0].id, runs[1].id
    for run in runs:
        run.delete()


def test_two_runs_are_chosen_and_the_link_opens_the_same_view(page: Page, two_runs: tuple[str, str]) -> None:
    visit(page, "/compare")
    chooser = page.locator(".st-key-runs input")
    for name in two_runs:
        chooser.click()
        chooser.fill(name)
        page.get_by_role("option", name=name).click()
        settled(page)
    page.keyboard.press("Escape")  # the list stays open for the next one, over all else
    page.get_by_role("tab", name="Results").click()
    settled(page)
    expect(page.locator(".st-key-compare_results canvas").first).to_be_visible()
    for part in ("runs=study(%2F|/)left&runs=study(%2F|/)right", "compare_tab=Results"):
        expect(page).to_have_url(re.compile(part))
    page.locator(".st-key-compare_link button").first.click()
    link = page.locator("[data-testid=stPopoverBody] code").inner_text().strip()
    other = page.context.new_page()
    visit(other, link)
    for name in two_runs:
        expect(other.locator(".st-key-runs")).to_contain_text(name)
    expect(other.get_by_role("tab", name="Results")).to_have_attribute("aria-selected", "true")
    expect(other.locator(".st-key-compare_results canvas").first).to_be_visible()
    expect(other.get_by_test_id("stException")).to_have_count(0)
    other.set_viewport_size({"width": 390, "height": 844})
    for tab in ("Curves", "Results", "Config", "Matrices", "Is one better?", "The paper"):
        other.get_by_role("tab", name=tab).click()
        settled(other)
        wide = other.get_by_test_id("stMain").evaluate("main => main.scrollWidth - main.clientWidth")
        assert wide <= 0, tab
    other.close()


def test_a_link_to_a_run_that_is_gone_says_so_and_mends_the_address(page: Page, two_runs: tuple[str, str]) -> None:
    visit(page, f"/compare?runs={two_runs[0]},study/gone")
    expect(page.get_by_test_id("stMain").get_by_test_id("stAlert")).to_contain_text("study/gone is not here any more")
    expect(page.locator(".st-key-runs")).to_contain_text(two_runs[0])
    expect(page.locator(".st-key-compare_curves canvas").first).to_be_visible()
    expect(page).to_have_url(re.compile(r"runs=study(%2F|/)left$"))


def test_what_a_model_knows_is_measured_and_heard(page: Page) -> None:
    visit(page, "/pianists?model=shipped/tiny")
    page.get_by_role("button", name="Measure this model").click()
    expect(page.locator(".st-key-pianists_overview canvas").first).to_be_visible(timeout=90_000)
    expect(page.locator(".st-key-pianist_words")).to_contain_text("recording")
    page.set_viewport_size({"width": 390, "height": 844})
    settled(page)
    assert page.get_by_test_id("stMain").evaluate("main => main.scrollWidth - main.clientWidth") <= 0
