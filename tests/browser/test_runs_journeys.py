"""What a person does with runs, in a real browser against a real server."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pianistid_core import launch, trash
from pianistid_core.config import load_config
from pianistid_core.runs import Run

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Locator, Page, expect
from steps import LIVE_MS, settled, visit, wait_for

if TYPE_CHECKING:
    from conftest import Server
    from pianistid_core.datasets.root import DataRoot

TINY = ["train_dataset_cfg.n_clips=16", "test_dataset_cfg.n_clips=8", "model_cfg.frame_pool=60"]


def start(root: "DataRoot", name: str, epochs: int) -> Run:
    """Starts a small run in the background."""
    overrides = [f"run={name}", f"epochs={epochs}", "checkpoint_cfg.checkpoint_after_n_epochs=5", *TINY]
    return launch.start(load_config("demo.yaml", overrides=overrides), root)


def kept(root: "DataRoot", name: str) -> Run:
    """A finished run on disk, as a copy of nothing but its record."""
    run = Run.create(root.checkpoints_dir, "listed", name)
    run.set_state("finished", epochs=3)
    run.append_metrics({"epoch": 1, "test_recording_accuracy": 0.5, "test_loss": 1.0, "seconds": 2.0})
    return run


def table(page: Page) -> Locator:
    return page.locator(".st-key-runs_table [data-testid=stDataFrame]")


def row_of(page: Page, id: str) -> int:
    """Where a run stands in the table that is shown."""
    name = table(page).get_by_text(id, exact=True)
    expect(name).to_be_attached()
    return int((name.get_attribute("id") or "").rpartition("-")[2])


def tick(page: Page, id: str) -> None:
    table(page).click(position={"x": 18, "y": 35 + 35 * row_of(page, id) + 17})
    settled(page)


def chosen(page: Page) -> Locator:
    return page.locator(".st-key-bulk_bar").get_by_text(re.compile(r"^\d+ chosen$"))


def filtered(page: Page, text: str) -> None:
    box = page.locator(".st-key-runs_filter input")
    box.fill(text)
    box.press("Enter")
    settled(page)


@pytest.mark.slow
def test_a_run_outlives_the_server(page: Page, server: "Server", trained_root: "DataRoot") -> None:
    run = start(trained_root, "survivor", epochs=10)
    visit(page, "/runs?run=demo/survivor")
    wait_for(lambda: run.state().status == "running" and len(run.metrics()) >= 1, 60)
    server.kill()
    done = len(run.metrics())
    wait_for(lambda: len(run.metrics()) > done, 60)
    server.start()
    visit(page, "/runs?run=demo/survivor")
    expect(page.get_by_role("combobox", name="Run")).to_have_value("demo/survivor", timeout=LIVE_MS)
    expect(page.locator(".st-key-run_state")).to_contain_text("Finished", timeout=LIVE_MS)
    expect(page.get_by_test_id("stMetricValue").first).to_have_text("10 / 10")
    page.get_by_role("tab", name="Confusion matrix").click()
    expect(page.get_by_role("grid", name=re.compile("Confusion matrix, Validation"))).to_be_visible()
    assert run.state().status == "finished"


def test_a_row_of_the_table_opens_its_run(page: Page) -> None:
    visit(page, "/runs?run=no/such")
    expect(page.get_by_test_id("stAlert")).to_contain_text("There is no run no/such")
    expect(table(page)).to_be_visible()
    table(page).click(position={"x": 90, "y": 35 + 35 * row_of(page, "shipped/tiny") + 17})
    expect(page).to_have_url(re.compile("run=shipped.*tiny"))
    settled(page)  # until then, the list's own choice of a run stands beside that of the run's page
    expect(page.get_by_role("combobox", name="Run")).to_have_value("shipped/tiny")
    page.reload()
    expect(page.get_by_role("combobox", name="Run")).to_have_value("shipped/tiny")
    page.get_by_role("button", name="All runs").click()
    expect(table(page)).to_be_visible()
    expect(page).not_to_have_url(re.compile("run=shipped"))


def test_several_runs_go_to_the_trash_and_come_back(page: Page, trained_root: "DataRoot") -> None:
    runs = [kept(trained_root, name) for name in ("aa", "bb", "cc")]
    visit(page, "/runs")
    filtered(page, "listed")
    tick(page, "listed/aa")
    tick(page, "listed/cc")
    expect(chosen(page)).to_have_text("2 chosen")
    page.locator(".st-key-bulk_trash button:visible").click()
    expect(page.locator(".st-key-undo_line")).to_contain_text("2 runs are in the trash")
    assert [run.path.exists() for run in runs] == [False, True, False]
    page.locator(".st-key-undo_trash button:visible").click()
    expect(page.locator(".st-key-undo_line")).to_have_count(0)
    assert all(run.path.exists() for run in runs)
    assert trash.discarded(trained_root.checkpoints_dir) == []


@pytest.mark.slow
def test_a_selection_and_clicks_survive_a_list_that_changes(page: Page, trained_root: "DataRoot") -> None:
    for name in ("older", "old"):
        kept(trained_root, name)
    live = kept(trained_root, "live")
    live.set_state("queued", "starting", epochs=90)
    visit(page, "/runs")
    filtered(page, "listed")
    tick(page, "listed/older")
    for number in range(8):
        live.append_metrics({"epoch": 2 + number, "test_recording_accuracy": 0.5, "seconds": 1.0})
        kept(trained_root, f"new-{number}")
        expect(table(page).get_by_text(f"listed/new-{number}")).to_be_attached(timeout=LIVE_MS)
        expect(chosen(page)).to_have_text("1 chosen")
    star = page.locator(".st-key-bulk_star button:visible")
    for number in range(10):
        star.click()
        expect(star).to_contain_text("Remove star" if number % 2 == 0 else "Star")
    star.click()
    expect(star).to_contain_text("Remove star")
    starred = [run for run in ("older", "old", "live", "new-0") if _starred(trained_root, run)]
    assert starred == ["older"]
    live.set_state("stopped", epochs=90)


def _starred(root: "DataRoot", name: str) -> bool:
    return Run.find(root.checkpoints_dir, f"listed/{name}").labels().starred


def test_walk_through_the_matrix_by_keyboard_and_hear_a_recording(page: Page, trained_root: "DataRoot") -> None:
    visit(page, "/runs?run=shipped/tiny&run_tab=Confusion+matrix")
    grid = page.get_by_role("grid", name=re.compile("Confusion matrix"))
    expect(grid).to_be_visible()
    names = trained_root.split("demo").class_names
    assert grid.get_by_role("gridcell").count() == len(names) ** 2
    assert grid.locator("td[tabindex='0']").count() == 1
    run = Run.find(trained_root.checkpoints_dir, "shipped/tiny")
    matrix = run.confusion(run.confusion_names()[-1])
    assert matrix is not None
    one = matrix.recordings[0]
    who = names[one.true]
    label = f"{who} recognised" if one.heard == one.true else f"{who} heard as {names[one.heard]}"
    wanted = grid.get_by_role("gridcell", name=re.compile(f"^{label}: "))
    place = [int(wanted.get_attribute(f"data-{axis}") or 0) for axis in ("row", "column")]
    grid.locator("td[tabindex='0']").focus()
    for key, times in (("ArrowDown", place[0]), ("ArrowRight", place[1])):
        for _ in range(times):
            page.keyboard.press(key)
    expect(wanted).to_be_focused()
    page.keyboard.press("Enter")
    expect(wanted).to_have_attribute("aria-selected", "true")
    expect(page.get_by_test_id("stMain")).to_contain_text(f"{label}: ")
    expect(page.get_by_role("slider", name=re.compile("Piano roll of"))).to_be_visible(timeout=LIVE_MS)
    page.get_by_role("radio", name="Counts").click()
    expect(wanted).to_have_text(str(int(matrix.counts[one.true, one.heard])))
    page.get_by_role("radio", name="By name").click()
    first = grid.get_by_role("rowheader").first
    expect(first).to_contain_text(min(names, key=str.casefold))
    page.get_by_role("combobox", name="Difference from").select_option(index=1)
    expect(page.get_by_text(re.compile("cells show what changed"))).to_be_visible()


def test_the_matrix_scrolls_inside_itself_on_a_phone(page: Page, trained_root: "DataRoot") -> None:
    page.set_viewport_size({"width": 390, "height": 900})
    for tab in ("Curves", "Confusion+matrix", "Log", "Config", "Checkpoints"):
        visit(page, f"/runs?run=shipped/tiny&run_tab={tab}")
        wider = page.get_by_test_id("stMain").evaluate("main => main.scrollWidth - main.clientWidth")
        assert wider <= 0, tab
    for view in ("Runs", "Queue", "Trash"):
        visit(page, f"/runs?runs_view={view}")
        wider = page.get_by_test_id("stMain").evaluate("main => main.scrollWidth - main.clientWidth")
        assert wider <= 0, view


def test_a_checkpoint_is_evaluated_and_downloaded(page: Page, trained_root: "DataRoot", tmp_path: Path) -> None:
    visit(page, "/runs?run=shipped/tiny&run_tab=Checkpoints")
    page.locator(".st-key-checkpoint_evaluate button:visible").click(timeout=LIVE_MS)
    done = page.get_by_test_id("stAlert").filter(has_text="recordings of the test part")
    expect(done).to_be_visible(timeout=LIVE_MS)
    run = Run.find(trained_root.checkpoints_dir, "shipped/tiny")
    assert (run.read_json("evaluation/test.json") or {})["part"] == "test"
    with page.expect_download() as download:
        page.locator(".st-key-checkpoint_download button:visible").click()
    saved = tmp_path / "saved.pth"
    download.value.save_as(saved)
    assert saved.read_bytes() == run.latest_checkpoint().read_bytes()


def test_stop_a_run_from_its_page(page: Page, trained_root: "DataRoot") -> None:
    run = start(trained_root, "endless", epochs=500)
    visit(page, "/runs?run=demo/endless")
    expect(page.locator(".st-key-loss_chart canvas").first).to_be_visible(timeout=LIVE_MS)
    page.locator(".st-key-live_follow label").first.click()
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Stop and save").click()
    expect(page.locator(".st-key-run_state")).to_contain_text(re.compile("Stopp"))
    expect(page.locator(".st-key-run_state")).to_contain_text("Stopped", timeout=LIVE_MS)
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    assert run.state().status == "stopped"
    assert run.checkpoints()
