"""What a person does on Build, in a real browser against a real server."""

import re
from typing import TYPE_CHECKING

import pytest

from pianistid_core.run_queue import RunQueue

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Locator, Page, expect
from steps import LIVE_MS, settled, visit

if TYPE_CHECKING:
    from conftest import Server
    from pianistid_core.datasets.root import DataRoot

expect.set_options(timeout=20_000)  # five seconds are too few on a machine that trains beside the tests


def field(page: Page, key: str) -> Locator:
    """The input of a form field, by its key in the schema."""
    name = re.sub(r"[^a-zA-Z0-9_-]", "-", key)
    return page.locator(f"[class*=st-key-field-][class*='-{name}'] input").first


def fill(page: Page, key: str, value: str) -> None:
    field(page, key).fill(value)
    field(page, key).press("Enter")
    settled(page)


def press(page: Page, key: str) -> None:
    # A button with help is drawn twice, of which one shows: with a tooltip on wide screens, without on phones.
    button = page.locator(f".st-key-{key} button:visible").first
    expect(button).to_be_enabled()
    button.click()
    settled(page)


def fresh_form(page: Page) -> None:
    """Opens Build with the demo as it ships, whatever other tests have typed."""
    visit(page, "/build")
    back = page.locator(".st-key-back_to_base button:visible").first
    expect(back).to_be_visible()
    if back.is_enabled():
        back.click()
        settled(page)


@pytest.fixture(autouse=True)
def quiet_queue(trained_root: "DataRoot") -> "object":
    """What is queued here is not trained, and is gone afterwards."""
    queue = RunQueue(trained_root)
    queue.pause()
    yield queue
    for entry in queue.entries():
        queue.remove(entry.id)
    queue.unpause()


def test_build_preflight_queue_and_refresh(page: Page, trained_root: "DataRoot", server: "Server") -> None:
    fresh_form(page)
    fill(page, "run", "journey")
    fill(page, "epochs", "3")
    page.get_by_role("tab", name="Clips").click()
    fill(page, "train_dataset_cfg.n_clips", "16")
    fill(page, "test_dataset_cfg.n_clips", "8")
    press(page, "preflight_go")
    panel = page.locator(".st-key-preflight")
    expect(panel).to_contain_text("Preflight passed", timeout=LIVE_MS)
    expect(panel).to_contain_text("The whole run")
    expect(panel).to_contain_text(re.compile("It holds .* of memory and leaves .* on disk"))
    press(page, "queue")
    expect(page.locator(".st-key-build_news")).to_contain_text("demo/journey is in the queue")
    assert [entry.run_id for entry in RunQueue(trained_root).entries()] == ["demo/journey"]
    page.reload()
    settled(page)
    expect(field(page, "run")).to_have_value("journey")
    expect(field(page, "epochs")).to_have_value("3")
    expect(panel).to_contain_text("Preflight passed")
    server.kill()
    server.start()
    visit(page, "/build")
    expect(field(page, "run")).to_have_value("journey")
    expect(panel).to_contain_text("Preflight passed")
    fill(page, "epochs", "4")
    expect(panel).to_contain_text("The settings have changed since: Epochs")


def test_faults_stand_at_their_fields_and_in_the_tab_that_holds_them(page: Page) -> None:
    fresh_form(page)
    page.get_by_role("tab", name="Clips").click()
    fill(page, "train_dataset_cfg.n_clips", "0")
    expect(page.get_by_role("tab", name="Clips")).to_have_attribute("aria-selected", "true")
    expect(page.locator(".st-key-card_training_clips")).to_contain_text("got 0; give a whole number")
    expect(page.locator(".st-key-build_state")).to_contain_text("One thing to fix: 1 in Clips")
    expect(page.locator(".st-key-start button:visible").first).to_be_disabled()
    press(page, "undo")
    expect(page.locator(".st-key-start button:visible").first).to_be_enabled()


def test_the_yaml_and_the_form_follow_each_other(page: Page) -> None:
    fresh_form(page)
    text = page.locator(".st-key-yaml_box textarea")
    expect(text).to_have_value(re.compile("epochs: 12\n"))
    text.fill(text.input_value().replace("epochs: 12\n", "epochs: 21\n"))
    text.press("Control+Enter")
    expect(field(page, "epochs")).to_have_value("21")
    settled(page)
    text.fill("epochs: many\n")
    text.press("Control+Enter")
    expect(page.get_by_test_id("stAlert")).to_contain_text("line 1, epochs: got 'many'")
    expect(field(page, "epochs")).to_have_value("21")
    press(page, "drop_yaml")
    expect(text).to_have_value(re.compile("epochs: 21\n"))


def test_a_sweep_is_queued_with_one_click(page: Page, trained_root: "DataRoot") -> None:
    fresh_form(page)
    if not page.locator(".st-key-sweep_panel").count():
        press(page, "sweep_toggle")
    seeds = page.get_by_role("textbox", name="Seeds")
    seeds.fill("1..3")
    seeds.press("Enter")
    expect(page.locator(".st-key-sweep_panel")).to_contain_text("3 runs")
    press(page, "queue_sweep")
    expect(page.locator(".st-key-build_news")).to_contain_text("3 runs of the sweep are in the queue")
    assert len(RunQueue(trained_root).entries()) == 3
    seeds.fill("")
    seeds.press("Enter")
    settled(page)
    press(page, "sweep_toggle")


def test_a_setting_is_found_by_typing_its_name(page: Page) -> None:
    fresh_form(page)
    search = page.get_by_role("textbox", name="Find a setting")
    search.fill("weight decay")
    search.press("Enter")
    expect(field(page, "optim_cfg.weight_decay")).to_be_visible()


@pytest.mark.parametrize("width", [1440, 1024, 390])
def test_the_bar_stays_in_sight(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    fresh_form(page)
    page.get_by_test_id("stMain").evaluate("main => main.scrollTo(0, main.scrollHeight)")
    page.wait_for_timeout(300)
    for key in ("preflight_go", "sweep_toggle", "queue", "start"):
        expect(page.locator(f".st-key-{key} button:visible").first).to_be_in_viewport(ratio=0.9)
    assert page.get_by_test_id("stMain").evaluate("main => main.scrollWidth - main.clientWidth") <= 0
