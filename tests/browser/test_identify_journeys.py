"""Identify in a real browser: upload, look, hear, the stage, one's own playing, and what is taken away."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Locator, Page, expect
from steps import LIVE_MS, settled, visit

if TYPE_CHECKING:
    from pianistid_core.datasets.root import DataRoot

LATER_MS = 180_000
PAGE = "/identify?model=shipped/tiny"


def upload(page: Page, files: list[Any]) -> None:
    page.locator(".st-key-midi_files input[type=file]").set_input_files(files)


def pieces(root: "DataRoot", n: int) -> list[dict[str, Any]]:
    recordings = sorted(root.raw_dir.glob("demo/*/piano_midi.mid"))[::9][:n]
    return [
        {"name": f"piece {number}.mid", "mimeType": "audio/midi", "buffer": path.read_bytes()}
        for number, path in enumerate(recordings)
    ]


def player(page: Page) -> Locator:
    """The player of the piece itself, not of a recording that is alike."""
    return page.locator("[class*=st-key-roll_]")


def roll(page: Page) -> Locator:
    """What the player says of its sound."""
    return player(page).locator(".roll")


def answered(page: Page, root: "DataRoot") -> None:
    names = root.split("demo").class_names
    expect(page.locator(".st-key-headline h2")).to_have_text(re.compile("|".join(names)), timeout=LIVE_MS)
    expect(roll(page)).to_be_visible(timeout=LIVE_MS)


def look_into(page: Page, name: str) -> None:
    chosen = page.get_by_role("combobox", name="Look into")
    chosen.scroll_into_view_if_needed()
    page.wait_for_timeout(500)  # a list that opens while the page still scrolls closes again
    chosen.click()
    page.get_by_role("option", name=name).click()
    settled(page)


def test_identify_several_files_one_of_them_broken(page: Page, trained_root: "DataRoot") -> None:
    given = pieces(trained_root, 3)
    given.append({"name": "broken <b>.mid", "mimeType": "audio/midi", "buffer": given[0]["buffer"][:200]})
    visit(page, PAGE)
    upload(page, given)
    main = page.get_by_test_id("stMain")
    expect(main.get_by_test_id("stAlert")).to_contain_text("broken <b>.mid", timeout=LIVE_MS)
    expect(main.get_by_test_id("stAlert")).to_contain_text("cut")
    expect(page.locator(".st-key-headline")).to_contain_text("piece 0.mid")
    answered(page, trained_root)
    expect(page.locator(".st-key-alone canvas").first).to_be_visible()
    expect(page.locator(".st-key-shapley canvas").first).to_be_visible()
    stage = page.get_by_role("slider", name=re.compile("Piano roll of piece 0"))
    stage.focus()
    stage.press("ArrowRight")
    expect(stage).to_have_attribute("aria-valuenow", "1")
    player(page).get_by_role("radio", name="Harmony").click()
    player(page).get_by_role("button", name="Play", exact=True).click()
    expect(stage).to_have_attribute("aria-valuenow", "3", timeout=10_000)
    player(page).get_by_role("button", name="Pause").click()
    look_into(page, "piece 2.mid")
    expect(page.locator(".st-key-headline")).to_contain_text("piece 2.mid")


def test_real_transcriptions_are_answered(page: Page, trained_root: "DataRoot", shared: Path) -> None:
    """Full timing, velocities and pedal, from real recordings: played by nobody the demo's model knows."""
    given = sorted((shared / "data" / "expressive").glob("pijama_*.mid"))[:3]
    visit(page, PAGE)
    upload(page, list(given))
    expect(page.locator(".st-key-headline")).to_contain_text(given[0].name, timeout=LIVE_MS)
    answered(page, trained_root)
    chosen = page.get_by_role("combobox", name="Look into")
    chosen.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    chosen.click()
    for path in given:
        expect(page.get_by_role("option", name=path.name)).to_be_visible()


def test_a_real_piano_sounds_soon_after_the_click(page: Page, trained_root: "DataRoot") -> None:
    visit(page, PAGE)
    upload(page, pieces(trained_root, 1))
    answered(page, trained_root)
    expect(roll(page)).to_have_attribute("data-samples", "30", timeout=LIVE_MS)
    player(page).get_by_role("button", name="Play", exact=True).click()
    expect(roll(page)).to_have_attribute("data-sound", "piano")
    expect(roll(page)).to_have_attribute("data-latency", re.compile(r"^\d+$"))
    expect(roll(page)).to_have_attribute("data-level", re.compile(r"^0\.\d*[1-9]"), timeout=20_000)
    assert int(roll(page).get_attribute("data-latency") or 0) < 1000, "200 ms on a machine of its own"
    assert page.locator(".st-key-piano_bank audio").count() == 1, "one bank however many players"
    expect(page.locator(".st-key-piano_bank")).to_be_hidden()


def test_the_lines_under_the_roll_move_the_music(page: Page, trained_root: "DataRoot") -> None:
    visit(page, PAGE)
    upload(page, pieces(trained_root, 1))
    answered(page, trained_root)
    lines = player(page).locator(".lines canvas")
    expect(lines).to_have_attribute("aria-label", re.compile("^Likeliest pianist along the music: .* from 0:00"))
    expect(player(page).locator(".legend li")).to_have_count(5)
    box = lines.bounding_box()
    assert box is not None
    lines.click(position={"x": box["width"] / 2, "y": box["height"] / 2})
    stage = player(page).get_by_role("slider", name=re.compile("Piano roll"))
    expect(stage).to_have_attribute("aria-valuenow", re.compile("^1[3-6]$"))


def test_the_stage_opens_follows_the_sound_and_closes(page: Page, trained_root: "DataRoot") -> None:
    page.set_viewport_size({"width": 1920, "height": 1080})
    visit(page, "/identify?model=shipped/tiny&example=demo")
    answered(page, trained_root)
    player(page).get_by_role("button", name="Stage view").click()
    theatre = page.get_by_role("dialog", name="Stage view")
    expect(theatre).to_be_visible()
    names = trained_root.split("demo").class_names
    expect(theatre.locator(".name")).to_have_text(re.compile("|".join(names)))
    assert float(theatre.locator(".name").evaluate("e => parseFloat(getComputedStyle(e).fontSize)")) > 80
    expect(theatre.locator(".bars li")).to_have_count(5)
    expect(theatre.locator(".says-one")).to_have_count(4)
    wide = theatre.evaluate("d => [d.scrollWidth - d.clientWidth, d.scrollHeight - d.clientHeight]")
    assert wide == [0, 0], "all of it is in sight"
    page.keyboard.press("Space")
    expect(theatre.get_by_role("slider", name=re.compile("Piano roll"))).to_have_attribute(
        "aria-valuenow", re.compile("^[2-9]$"), timeout=20_000
    )
    theatre.get_by_role("button", name="Who really plays?").click()
    expect(theatre.locator(".whole")).to_contain_text(re.compile("(Right: .* plays|In truth .* plays)"))
    theatre.locator(".says-one").first.click()
    expect(theatre.get_by_role("radio", name="Melody")).to_be_checked()
    page.keyboard.press("Escape")
    expect(theatre).to_be_hidden()
    expect(player(page).get_by_role("button", name="Pause")).to_be_visible()
    expect(player(page).get_by_role("radio", name="Melody")).to_be_checked()
    player(page).get_by_role("button", name="Pause").click()


def test_what_is_played_on_the_computers_keys_is_identified(page: Page, trained_root: "DataRoot") -> None:
    visit(page, PAGE)
    page.get_by_role("tab", name="Play").click()
    settled(page)
    board = page.locator(".board")
    expect(board).to_have_attribute("data-samples", "30", timeout=LIVE_MS)
    page.get_by_role("button", name="Record").click()
    for turn in range(16):
        for key in ("KeyC", "KeyB", f"Key{'QWERTYUI'[turn % 8]}"):  # three keys at once: chords for harmony
            page.keyboard.down(key)
        page.wait_for_timeout(250)
        for key in ("KeyC", "KeyB", f"Key{'QWERTYUI'[turn % 8]}"):
            page.keyboard.up(key)
        page.wait_for_timeout(120)
    expect(board).to_have_attribute("data-sound", "piano")
    page.get_by_role("button", name="Stop and identify").click()
    expect(board.locator(".state")).to_have_text(re.compile(r"^Take 1: \d+ s, 48 notes\.$"))
    expect(page.locator(".st-key-headline")).to_contain_text("Your take 1", timeout=LIVE_MS)
    answered(page, trained_root)
    board.get_by_role("button", name="Clear").click()
    expect(page.locator(".st-key-headline")).to_have_count(0)


def test_a_click_on_the_keys_sounds_and_the_octave_moves(page: Page) -> None:
    visit(page, PAGE)
    page.get_by_role("tab", name="Play").click()
    settled(page)
    board = page.locator(".board")
    board.locator(".key.white").nth(7).click(position={"x": 8, "y": 120})
    expect(board).to_have_attribute("data-sound", re.compile("piano|tone"))
    before = board.locator(".octave").text_content()
    board.get_by_role("button", name="An octave higher").click()
    expect(board.locator(".octave")).not_to_have_text(before or "")


def test_a_midi_keyboard_that_is_refused_is_said_in_words(page: Page) -> None:
    page.add_init_script(
        "navigator.requestMIDIAccess = () => Promise.reject(new DOMException('no', 'NotAllowedError'))"
    )
    visit(page, PAGE)
    page.get_by_role("tab", name="Play").click()
    settled(page)
    page.get_by_role("button", name="Connect a MIDI keyboard").click()
    expect(page.locator(".midi")).to_contain_text("The browser did not allow MIDI keyboards")


def test_a_midi_keyboard_plays(page: Page) -> None:
    page.add_init_script(
        "const input = { name: 'Test keys', state: 'connected' };"
        "window.testKeys = input;"
        "navigator.requestMIDIAccess = () => Promise.resolve({ inputs: new Map([['1', input]]) })"
    )
    visit(page, PAGE)
    page.get_by_role("tab", name="Play").click()
    settled(page)
    page.get_by_role("button", name="Connect a MIDI keyboard").click()
    expect(page.locator(".midi")).to_have_text("Connected: Test keys.")
    page.evaluate("testKeys.onmidimessage({ data: [0x90, 60, 100] })")
    expect(page.locator(".board [data-pitch='60']")).to_have_class(re.compile("down"))
    page.evaluate("testKeys.onmidimessage({ data: [0x80, 60, 0] })")
    expect(page.locator(".board [data-pitch='60']")).not_to_have_class(re.compile("down"))


def test_the_rest_comes_by_itself_and_is_heard_and_taken_away(
    page: Page, trained_root: "DataRoot", tmp_path: Path
) -> None:
    visit(page, PAGE)
    upload(page, pieces(trained_root, 1))
    answered(page, trained_root)
    mattered = player(page).get_by_role("radio", name="Notes that mattered")
    expect(mattered).to_be_visible(timeout=LATER_MS)
    mattered.click()
    expect(player(page).locator(".ramp .top")).to_contain_text("for ")
    alike = page.locator(".st-key-alike_roll")
    expect(alike.locator(".roll")).to_be_visible(timeout=LATER_MS)
    alike.get_by_role("button", name="Play", exact=True).click()
    expect(alike.locator(".roll")).to_have_attribute("data-level", re.compile("[1-9]"), timeout=20_000)
    alike.get_by_role("button", name="Pause").click()
    settled(page)
    kinds = (("answer_json", "json"), ("answer_csv", "csv"), ("answer_html", "html"), ("answer_midi", "mid"))
    for key, suffix in kinds:
        with page.expect_download(timeout=LIVE_MS) as waiting:
            page.locator(f".st-key-{key} button").first.click()
        path = tmp_path / f"file.{suffix}"
        waiting.value.save_as(path)
        assert waiting.value.suggested_filename.endswith(suffix)
        assert path.stat().st_size > 200
    data = json.loads((tmp_path / "file.json").read_text(encoding="utf-8"))
    assert data["pianist"] in trained_root.split("demo").class_names
    assert data["neighbours"] and data["attribution"]["scores"]
    assert (tmp_path / "file.mid").read_bytes() == pieces(trained_root, 1)[0]["buffer"]
    report = (tmp_path / "file.html").read_text(encoding="utf-8")
    assert "http://" not in report.replace("http://www.w3.org", "") and "<script" not in report.lower()


@pytest.mark.parametrize("width", [1440, 1024, 390])
def test_nothing_overlaps_or_scrolls_sideways(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    for path in ("/identify?model=shipped/tiny&source=Play", "/identify?model=shipped/tiny&example=demo"):
        visit(page, path)
        wider = page.get_by_test_id("stMain").evaluate("main => main.scrollWidth - main.clientWidth")
        assert wider <= 0, path
        expect(page.get_by_test_id("stException")).to_have_count(0)
