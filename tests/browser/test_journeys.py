"""What a person does in the lab, in a real browser against a real server."""

import re
from typing import TYPE_CHECKING

import pytest

from pianistid_core.runs import Run

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Locator, Page, expect
from steps import LIVE_MS, settled, visit

if TYPE_CHECKING:
    from pianistid_core.datasets.root import DataRoot


def field(page: Page, key: str) -> Locator:
    """The input of a form field, by its key in the schema."""
    name = re.sub(r"[^a-zA-Z0-9_-]", "-", key)
    return page.locator(f"[class*=st-key-field-][class*='-{name}'] input").first


def fill(page: Page, key: str, value: str) -> None:
    field(page, key).fill(value)
    field(page, key).press("Enter")
    settled(page)


def build(page: Page, name: str, epochs: int, clips: int) -> None:
    """Fills the Build form for a small run of the demo."""
    visit(page, "/build")
    fill(page, "run", name)
    fill(page, "epochs", str(epochs))
    page.get_by_role("tab", name="Clips").click()
    fill(page, "train_dataset_cfg.n_clips", str(clips))
    fill(page, "test_dataset_cfg.n_clips", "8")


def start(page: Page, name: str) -> None:
    page.locator(".st-key-start button:visible").click()
    page.wait_for_url(re.compile("/runs"))
    settled(page)
    expect(page.get_by_role("combobox", name="Run")).to_have_value(f"demo/{name}")
    expect(page).to_have_url(re.compile(f"run=demo.*{name}"))


def test_start_a_run_watch_it_and_stop_it(page: Page, trained_root: "DataRoot") -> None:
    build(page, "watched", epochs=500, clips=16)
    expect(page.locator(".st-key-yaml_box textarea")).to_have_value(
        re.compile(r"run: watched\nbatch_size: \d+\nepochs: 500")
    )
    start(page, "watched")
    expect(page.get_by_test_id("stMetricValue").first).to_have_text(
        re.compile("[2-9] / 500|[1-9][0-9]+ / 500"), timeout=LIVE_MS
    )
    expect(page.locator(".st-key-loss_chart canvas").first).to_be_visible()
    page.get_by_role("tab", name="Log").click()
    expect(page.get_by_text("epoch 1/500")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Stop and save").click()
    expect(page.locator(".st-key-run_state")).to_contain_text("Stopped", timeout=LIVE_MS)
    run = Run.find(trained_root.checkpoints_dir, "demo/watched")
    assert run.state().status == "stopped"
    assert run.checkpoints()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()


@pytest.mark.parametrize("width", [pytest.param(1440, marks=pytest.mark.slow), 390])
def test_no_page_scrolls_sideways(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    for path in ("/", "/data", "/data?data_tab=Look+and+listen", "/build", "/runs", "/identify?example=demo"):
        visit(page, path)
        wider = page.get_by_test_id("stMain").evaluate("main => main.scrollWidth - main.clientWidth")
        assert wider <= 0, path
        expect(page.get_by_test_id("stException")).to_have_count(0)
