"""What every journey does: open a page, wait until it stands still, wait for something beyond the page."""

import time
from collections.abc import Callable

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Page, expect

LIVE_MS = 90_000  # for what a training or a job brings about, on a machine that trains beside the tests


def visit(page: Page, path: str) -> None:
    """Opens a page of the lab and waits until it stands."""
    page.goto(path)
    expect(page.locator("h1").first).to_be_visible(timeout=LIVE_MS)
    settled(page)


def settled(page: Page) -> None:
    """Waits until the page's script has run and its widgets are drawn."""
    page.wait_for_timeout(210)  # widgets wait that long before they tell the server
    page.locator("[data-testid=stApp][data-test-connection-state=CONNECTED]").wait_for(state="attached")
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for(state="attached")
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0)


def wait_for(condition: Callable[[], object], seconds: float) -> None:
    """Waits for what the page does not show."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.1)
