"""How quick the lab is: first paint, reruns with 1,000 runs, live refreshes and tabs, clicks, answers.

    python tests/benchmarks/lab.py [first-paint] [reruns] [refresh] [tabs] [clicks] [identify]

Without arguments, everything. Needs Chromium (or one named in $CHROMIUM) but for `reruns` and `refresh`.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "lab"), str(REPOSITORY / "tests")]

from lab_support import PAGES, many_runs  # noqa: E402
from pianistid_core import launch  # noqa: E402
from pianistid_core.config import load_config  # noqa: E402
from pianistid_core.datasets.demo import make_demo  # noqa: E402
from pianistid_core.datasets.root import DataRoot  # noqa: E402
from pianistid_core.metrics_log import MetricsLog  # noqa: E402
from pianistid_core.midi import Notes, read_midi, write_midi  # noqa: E402
from pianistid_core.run_config import run_for  # noqa: E402

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
N_RUNS = 1000
N_TABS = 5
N_CLICKS = 100


@contextmanager
def serving(root: DataRoot) -> Iterator[tuple[str, int]]:
    """`streamlit run lab/Home.py` on a free port: its address and its process number."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"PIANISTID_HOME": str(root.path), "PIANISTID_CACHE": str(root.cache_dir)}
    command = [sys.executable, "-m", "streamlit", "run", "lab/Home.py", "--server.port", str(port)]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@contextmanager
def browsing() -> Iterator[Any]:
    """A Chromium that starts empty."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


def reachable(url: str) -> None:
    while True:
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2):
                return
        except OSError:
            time.sleep(0.02)


def settled(page: Any) -> None:
    page.locator("[data-testid=stApp][data-test-connection-state=CONNECTED]").wait_for(state="attached")
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for(state="attached")


def first_paint(folder: Path) -> None:
    """From `streamlit run` to the first heading on the screen, and whether the server has loaded torch by then."""
    root = DataRoot(folder / "home", folder / "cache")
    make_demo(root, recordings_per_pianist=4)
    with browsing() as browser:
        seconds = []
        for _ in range(3):
            page = browser.new_page()
            began = time.perf_counter()
            with serving(root) as (url, pid):
                reachable(url)
                page.goto(url)
                page.get_by_role("heading", level=1).wait_for()
                seconds.append(time.perf_counter() - began)
                settled(page)
                torch = "libtorch" in Path(f"/proc/{pid}/maps").read_text() if sys.platform == "linux" else None
                page.close()
    print(f"first paint: {statistics.median(seconds):.2f} s (of {len(seconds)}); torch loaded by then: {torch}")


def reruns(folder: Path) -> None:
    """A page change and a rerun of each page with 1,000 runs on disk, in the server's own time."""
    from streamlit.testing.v1 import AppTest

    root = DataRoot(folder / "home", folder / "cache")
    make_demo(root, recordings_per_pianist=4)
    many_runs(root.path, N_RUNS)
    os.environ |= {"PIANISTID_HOME": str(root.path), "PIANISTID_CACHE": str(root.cache_dir)}
    at = AppTest.from_file(str(REPOSITORY / "lab" / "shell.py"), default_timeout=120).run()
    for page in PAGES:
        at.switch_page(page).run()
    for page in PAGES:
        changes, again = [], []
        for _ in range(7):
            at.switch_page(PAGES[0] if page != PAGES[0] else PAGES[1]).run()
            changes.append(_timed(lambda page=page: at.switch_page(page).run()))  # type: ignore[misc]
            again.append(_timed(at.run))
        if at.exception:
            print(f"  {page}: FAILED, {at.exception[0].message}")
        print(
            f"{page}, {N_RUNS:,} runs: page change {1000 * statistics.median(changes):.0f} ms, "
            f"rerun {1000 * statistics.median(again):.0f} ms"
        )


def refresh(folder: Path) -> None:
    """One more row of a metrics log, read by a page that has followed it: at row 1,000 and at row 1,000,000."""

    def row(epoch: int) -> bytes:
        metrics = {"epoch": epoch, "train_loss": 1.5, "test_loss": 1.6, "test_recording_accuracy": 0.5, "lr": 0.001}
        return json.dumps(metrics).encode() + b"\n"

    medians = {}
    for rows in (1_000, 1_000_000):
        path = folder / f"metrics-{rows}.jsonl"
        with path.open("wb") as file:
            for epoch in range(1, rows + 1):
                file.write(row(epoch))
        log = MetricsLog(path)
        opening = _timed(log.refresh)
        seconds = []
        for extra in range(200):
            with path.open("ab") as file:
                file.write(row(rows + 1 + extra))
            seconds.append(_timed(log.refresh))
        medians[rows] = statistics.median(seconds)
        print(f"metrics log of {rows:,} rows: opened in {opening:.2f} s, a refresh {1e6 * medians[rows]:.0f} us")
    print(f"a refresh at row 1,000,000 costs {medians[1_000_000] / medians[1_000]:.2f} times one at row 1,000")


def tabs(folder: Path) -> None:
    """How much five tabs that watch a run slow its training down: stretches of one training with and without them."""
    root = DataRoot(folder / "home", folder / "cache")
    make_demo(root, recordings_per_pianist=8)
    run = launch.start(load_config("demo.yaml", overrides=["epochs=400", "num_threads=1", "run=watched"]), root)
    alone, watched = [], []

    def stretch(epochs: int = 5) -> list[float]:
        begun = len(run.metrics()) + 1  # the epoch that is on its way has seen other times
        while len(run.metrics()) < begun + epochs:
            time.sleep(0.3)
        return [row["seconds"] for row in run.metrics()[begun : begun + epochs]]

    with serving(root) as (url, _), browsing() as browser:
        reachable(url)
        stretch(2)
        for _ in range(2):
            alone += stretch()
            pages = [browser.new_page() for _ in range(N_TABS)]
            for page in pages:
                page.goto(f"{url}/runs?run={run.id}")
                page.locator("canvas").first.wait_for()
            stretch(2)
            watched += stretch()
            for page in pages:
                page.close()
            stretch(1)
    launch.stop_and_wait(run, "discard")
    slower = statistics.median(watched) / statistics.median(alone) - 1
    print(
        f"an epoch alone {statistics.median(alone):.2f} s, with {N_TABS} live tabs {statistics.median(watched):.2f} s: "
        f"{100 * slower:+.1f} %"
    )


def clicks(folder: Path) -> None:
    """A hundred clicks on the page of a run that trains: each must have its effect."""
    root = DataRoot(folder / "home", folder / "cache")
    make_demo(root, recordings_per_pianist=8)
    run = launch.start(load_config("demo.yaml", overrides=["epochs=60", "num_threads=1", "run=clicked"]), root)
    effects = 0
    from playwright.sync_api import TimeoutError

    with serving(root) as (url, _), browsing() as browser:
        reachable(url)
        page = browser.new_page()
        page.goto(f"{url}/runs?run={run.id}")
        page.locator(".st-key-star button").first.wait_for()
        settled(page)
        for number in range(N_CLICKS):
            now, then = ("Star", "Starred") if number % 2 == 0 else ("Starred", "Star")
            # As a person does: when the button says what a click on it would do.
            page.locator(".st-key-star button:visible", has_text=re.compile(f"{now}$")).click()
            with contextlib.suppress(TimeoutError):
                page.locator(".st-key-star button:visible", has_text=re.compile(f"{then}$")).wait_for(timeout=5_000)
            effects += run.labels().starred == (then == "Starred")
    launch.stop_and_wait(run, "discard")
    print(f"{N_CLICKS} clicks on a live page: {effects} effects")


def identify(folder: Path) -> None:
    """A 3-minute upload to a demo model: until the answer stands, and until all of the page does."""
    root = DataRoot(folder / "home", folder / "cache")
    make_demo(root, recordings_per_pianist=8)
    config = load_config("demo.yaml", overrides=["epochs=2"])
    run = run_for(config, root)
    launch.start(config, root)
    while run.state().status in ("queued", "running"):
        time.sleep(0.5)
    pieces = {"a server that has just started": folder / "one.mid", "the next piece": folder / "two.mid"}
    for first, midi in enumerate(pieces.values()):
        write_midi(three_minutes(root, first=first), midi)
    with serving(root) as (url, _), browsing() as browser:
        reachable(url)
        for visit, midi in pieces.items():
            page = browser.new_page()
            page.set_default_timeout(120_000)
            page.goto(f"{url}/identify?model={run.id}")
            settled(page)
            began = time.perf_counter()
            page.locator(".st-key-midi_files input[type=file]").set_input_files(midi)
            page.locator(".st-key-headline h2").wait_for()
            answer = time.perf_counter() - began
            page.get_by_text("an association, not a proof").wait_for()
            page.get_by_role("heading", name="Most alike").wait_for()
            settled(page)
            everything = time.perf_counter() - began
            page.close()
            print(f"3 minutes of music, {visit}: the answer after {answer:.1f} s, everything after {everything:.1f} s")


def three_minutes(root: DataRoot, *, first: int = 0) -> Notes:
    """Recordings of the demo from the nth on, one after another, until they fill three minutes."""
    import numpy as np

    parts: list[Notes] = []
    length = 0.0
    for path in sorted(root.raw_dir.glob("demo/*/piano_midi.mid"))[first:]:
        if length >= 180:
            break
        notes = read_midi(path)
        parts.append(
            Notes.from_arrays(notes.onsets_s + length, notes.offsets_s + length, notes.pitches, notes.velocities)
        )
        length += notes.duration_s
    names = ("onsets_s", "offsets_s", "pitches", "velocities")
    joined = Notes.from_arrays(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
    return joined.between(0.0, 180.0)


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


BENCHMARKS = {
    "first-paint": first_paint,
    "reruns": reruns,
    "refresh": refresh,
    "tabs": tabs,
    "clicks": clicks,
    "identify": identify,
}


def main() -> None:
    for name in sys.argv[1:] or BENCHMARKS:
        with tempfile.TemporaryDirectory() as folder:
            BENCHMARKS[name](Path(folder))


if __name__ == "__main__":
    main()
