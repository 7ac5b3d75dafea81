"""Home, Data and Tracking as a person goes through them, and what happens when the server goes away meanwhile."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Page, expect
from steps import LIVE_MS, settled, visit

from lab_support import a_run

if TYPE_CHECKING:
    from conftest import Server
    from pianistid_core.datasets.root import DataRoot


def test_the_guided_path_goes_on_by_itself(first_page: Page) -> None:
    """A first visitor makes music and trains, each with one click, and never leaves the page."""
    visit(first_page, "/")
    first_page.get_by_role("button", name="Make demo data").click()
    train = first_page.get_by_role("button", name="Train the demo")
    expect(train).to_be_enabled(timeout=LIVE_MS)
    expect(first_page.get_by_role("link", name="Look and listen")).to_be_visible()
    train.click()
    expect(first_page.get_by_role("link", name="See how it learns")).to_be_visible(timeout=LIVE_MS)
    expect(first_page.locator(".st-key-home_running")).to_contain_text("demo/demo", timeout=LIVE_MS)
    first_page.get_by_role("link", name="See how it learns").click()
    expect(first_page).to_have_url(re.compile("/runs.*run=demo"))
    expect(first_page.locator(".st-key-loss_chart canvas").first).to_be_visible(timeout=LIVE_MS)
    settled(first_page)
    first_page.get_by_role("button", name="Stop").first.click()
    first_page.get_by_role("button", name=re.compile("discard", re.IGNORECASE)).first.click()


def test_a_clip_is_found_stepped_through_and_linked_to(page: Page) -> None:
    visit(page, "/data?data_tab=Look+and+listen")
    roll = page.get_by_role("slider", name=re.compile("Piano roll of"))
    expect(roll).to_be_visible()
    before = roll.get_attribute("aria-label")
    page.get_by_role("button", name="Next clip").click()
    expect(roll).not_to_have_attribute("aria-label", before or "")
    expect(page).to_have_url(re.compile("track=demo.*clip=[12]"))
    after, address = roll.get_attribute("aria-label") or "", page.url
    visit(page, "/tracking")
    visit(page, address)
    expect(roll).to_have_attribute("aria-label", after)


def test_the_preview_follows_the_options(page: Page) -> None:
    visit(page, "/data?data_tab=Splits")
    figures = page.locator(".st-key-figures_preview")
    expect(figures).to_contain_text("Validation")
    handles = page.locator(".st-key-split_shares input[type=range]")
    handles.nth(1).focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    expect(figures).not_to_contain_text("Validation", timeout=LIVE_MS)
    page.get_by_role("radio", name="Composition").click()
    expect(page.locator(".st-key-split_preview canvas").first).to_be_visible()


def test_the_figures_behind_a_chart_are_a_table_and_a_file(page: Page) -> None:
    visit(page, "/data")
    page.locator(".st-key-hours_data button").first.click()
    expect(page.get_by_test_id("stDataFrame")).to_be_visible(timeout=LIVE_MS)
    with page.expect_download() as download:
        page.get_by_test_id("stDownloadButton").get_by_role("button", name="Download as CSV").click()
    text = Path(download.value.path()).read_text()
    assert text.splitlines()[0].startswith("Pianist,Training: recordings")
    assert len(text.splitlines()) == 9


def test_an_open_page_comes_back_with_the_server_and_is_not_stale(
    page: Page, server: "Server", trained_root: "DataRoot"
) -> None:
    visit(page, "/")
    expect(page.get_by_role("link", name="shipped/tiny")).to_be_visible()
    other = page.context.new_page()
    visit(other, "/data?data_tab=Look+and+listen&split=demo")
    roll = other.get_by_role("slider", name=re.compile("Piano roll of"))
    expect(roll).to_be_visible(timeout=LIVE_MS)
    first = roll.get_attribute("aria-label") or ""
    other.get_by_role("button", name="Next clip").click()
    expect(roll).not_to_have_attribute("aria-label", first, timeout=LIVE_MS)
    settled(other)
    second = roll.get_attribute("aria-label") or ""
    server.kill()
    app = page.get_by_test_id("stApp")
    expect(app).not_to_have_attribute("data-test-connection-state", "CONNECTED", timeout=LIVE_MS)
    expect(page.get_by_text(re.compile("connect", re.IGNORECASE)).first).to_be_visible(timeout=LIVE_MS)
    run = a_run(trained_root.path, "meanwhile", "finished")
    try:
        server.start()
        expect(app).to_have_attribute("data-test-connection-state", "CONNECTED", timeout=LIVE_MS)
        expect(page.get_by_role("link", name="study/meanwhile")).to_be_visible(timeout=LIVE_MS)
        expect(other.get_by_test_id("stApp")).to_have_attribute(
            "data-test-connection-state", "CONNECTED", timeout=LIVE_MS
        )
        settled(other)
        expect(roll).to_have_attribute("aria-label", second)
        # A click before the new server has drawn the page once is nobody's yet: wait for that, by what it draws anew.
        other.reload()
        expect(roll).to_have_attribute("aria-label", second, timeout=LIVE_MS)
        settled(other)
        other.get_by_role("button", name="Previous clip").click()
        expect(roll).to_have_attribute("aria-label", first, timeout=LIVE_MS)
    finally:
        run.delete()
        other.close()


def test_mlflow_is_switched_on_for_new_runs(page: Page, trained_root: "DataRoot") -> None:
    visit(page, "/tracking")
    page.locator(".st-key-mlflow_use label").first.click()
    expect(page.get_by_role("radio", name="In this data root")).to_be_visible(timeout=LIVE_MS)
    visit(page, "/tracking")
    switch = page.locator(".st-key-mlflow_use input")
    expect(switch).to_be_checked()
    page.locator(".st-key-mlflow_use label").first.click()
    expect(page.get_by_role("radio", name="In this data root")).to_have_count(0, timeout=LIVE_MS)
    assert (trained_root.path / "lab.json").is_file()
