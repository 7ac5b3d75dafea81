"""The first click in a real browser: a file dropped on the Home of an empty lab is answered by the model in the box."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Page, expect
from steps import LIVE_MS, visit

if TYPE_CHECKING:
    from conftest import Server
    from pianistid_core.datasets.root import DataRoot


def test_a_file_dropped_on_home_is_answered_and_the_card_is_a_click_away(
    box_page: Page, box_server: "Server", trained_root: "DataRoot"
) -> None:
    page = box_page
    visit(page, "/")
    expect(page.get_by_role("heading", name="Identify a MIDI file")).to_be_visible()
    piece: Path = next(iter(sorted(trained_root.raw_dir.glob("demo/*/piano_midi.mid"))))
    page.locator(".st-key-home_files input[type=file]").set_input_files(piece)
    names = trained_root.split("demo").class_names
    expect(page.locator(".st-key-headline h2")).to_have_text(re.compile("|".join(names)), timeout=LIVE_MS)
    expect(page).to_have_url(re.compile(r"/identify\?model=Eight\+pianists"))
    expect(page.get_by_text("from Home")).to_be_visible()
    page.get_by_role("button", name="Model card").click()
    expect(page.get_by_role("dialog")).to_contain_text("not evidence of authorship or authenticity")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Put away").click()
    expect(page.get_by_text("Nothing to listen to yet")).to_be_visible()
    assert not box_server.root.path.exists(), "to look and to ask writes nothing into a data root"
