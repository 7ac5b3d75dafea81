"""A lab with accounts in a real browser: a wrong password, a right one, somebody who may only look, and the way out."""

from collections.abc import Iterator
from typing import Literal

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Browser, Page, ViewportSize, expect
from steps import settled

from lab_visitor import ServedLab
from pianistid_core.accounts import AccountFile, Role

PASSWORD = "canary battery staple"


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedLab]:
    folder = tmp_path_factory.mktemp("asking")
    AccountFile(folder / "root" / "access.json").add("Looker", Role.LOOK, PASSWORD)
    lab = ServedLab(folder / "root", folder / "log")
    try:
        lab.wait()
        yield lab
    finally:
        lab.end()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 390)])
def test_somebody_who_may_look_comes_in_looks_and_goes(
    browser: Browser, asking: ServedLab, scheme: str, width: int
) -> None:
    colours: Literal["dark", "light"] = "dark" if scheme == "dark" else "light"
    size: ViewportSize = {"width": width, "height": 900}
    context = browser.new_context(base_url=asking.url, viewport=size, color_scheme=colours)
    page: Page = context.new_page()
    page.set_default_timeout(60_000)
    violations: list[str] = []
    page.on("console", lambda said: violations.append(said.text) if "Content Security Policy" in said.text else None)

    page.goto("/runs")
    expect(page).to_have_url(f"{asking.url}/login?next=/runs")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("document.scripts.length") == 0
    page.get_by_label("Name").fill("Looker")
    page.get_by_label("Password").fill("wrong battery staple")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_have_text("Name and password do not belong together.")
    expect(page.get_by_label("Name")).to_have_value("Looker")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")

    expect(page).to_have_url(f"{asking.url}/runs")
    expect(page.get_by_role("heading", name="Runs", exact=True)).to_be_visible(timeout=60_000)
    settled(page)
    assert "pianistid_session" not in page.evaluate("document.cookie")  # for the server alone
    if width < 500:
        page.get_by_test_id("stExpandSidebarButton").click()
    expect(page.locator(".st-key-nav_person")).to_contain_text("Looker, may look")
    page.get_by_role("button", name="Log out").click()

    expect(page.get_by_role("button", name="Log in")).to_be_visible()
    page.goto("/runs")
    expect(page).to_have_url(f"{asking.url}/login?next=/runs")
    assert violations == []
    context.close()


def test_a_tab_whose_session_has_ended_elsewhere_goes_to_the_login(browser: Browser, asking: ServedLab) -> None:
    context = browser.new_context(base_url=asking.url)
    page: Page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto("/login?next=/runs")
    page.get_by_label("Name").fill("Looker")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Runs", exact=True)).to_be_visible(timeout=60_000)
    AccountFile(asking.log.parent / "root" / "access.json").set_password("Looker", f"{PASSWORD} anew")
    expect(page).to_have_url(f"{asking.url}/login?next=/runs", timeout=60_000)
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
    context.close()
