"""A server up for hours, in minutes: pages drawn as fast as they can be, and what each thousand leaves behind.

    python tests/reliability/hours.py [--minutes 10] [--tabs 4]

Part of figure 7 of the reliability table. A real server and real sessions; a run's metrics and log grow meanwhile, and
each tab is closed and opened again now and then. Prints the server's memory after each thousand reruns, what a thousand
more cost (a line through the second half), how many hours of 25 tabs with a rerun every 2 s that is, and what lives on
in a page drawn in this process, by type. Exit status 1 when a thousand reruns cost more than `--most-kb`, or a page
shows an error.
"""

import argparse
import gc
import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from client import TabError
from lab_server import LabServer

from lab_support import HOME, many_runs
from pianistid_core.runs import Run

VISITS: tuple[tuple[str, dict[str, str]], ...] = (
    ("runs", {"run": "study-0/run-0000", "run_tab": "Curves"}),
    ("runs", {"run": "study-0/run-0000", "run_tab": "Log"}),
    ("runs", {}),
    ("compare", {"runs": "study-0/run-0000,study-1/run-0001"}),
    ("", {}),
    ("build", {}),
)
TABS_OF_A_CLASS = 25
RERUN_EVERY_S = 2.0


class Visitor(threading.Thread):
    """Draws one page after another without a pause; closes its tab after a few hundred reruns and opens another."""

    def __init__(self, lab: LabServer, number: int, ends: threading.Event) -> None:
        super().__init__(daemon=True)
        self.lab, self.number, self.ends = lab, number, ends
        self.n = 0
        self.troubles: list[str] = []

    def run(self) -> None:
        while not self.ends.is_set():
            try:
                with self.lab.tab() as tab:
                    for visit in range(20):
                        page, query = VISITS[(self.number + visit) % len(VISITS)]
                        tab.open(page, **query)
                        for _ in range(15):
                            if self.ends.is_set():
                                break
                            tab.rerun()
                        self.n += 16
                    self.troubles += tab.told.exceptions
            except TabError as error:
                self.troubles.append(str(error))


def grow(run: Run, epoch: int) -> None:
    """One more epoch of a run."""
    with run.metrics_path.open("ab") as file:
        row = {"epoch": epoch, "train_loss": 1.0, "test_loss": 1.1, "test_recording_accuracy": 0.5, "seconds": 1.0}
        file.write(json.dumps(row).encode() + b"\n")
    with (run.path / "log.txt").open("a") as log:
        log.write(f"2026-01-02 03:04:05,678 INFO epoch {epoch}: train loss 1.0\n" * 20)


def living(root: Path, reruns: int) -> Counter[str]:
    """How many more objects of each type live after so many reruns of each page in this process."""
    from streamlit.testing.v1 import AppTest

    os.environ["PIANISTID_HOME"] = str(root)
    shell = HOME.with_name("shell.py")
    at = AppTest.from_file(str(shell if shell.exists() else HOME), default_timeout=120).run()
    before: Counter[str] = Counter()
    for half in range(2):
        for page in ("views/home.py", "views/runs.py", "views/compare.py", "views/build.py"):
            at.switch_page(page).run()
            for _ in range(reruns):
                at.run()
        gc.collect()
        now = Counter(type(one).__name__ for one in gc.get_objects())
        if half == 0:
            before = now
    return now - before


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--tabs", type=int, default=4)
    parser.add_argument("--most-kb", type=float, default=500.0, help="most kB that a thousand reruns may cost")
    parser.add_argument(
        "--objects", type=int, default=100, help="reruns of each page to count objects over; 0 for none"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name, "home")
        many_runs(root, 50)
        if options.objects:
            more = living(root, options.objects)
            n = 4 * options.objects
            print(f"objects more after {n} reruns in one process: {sum(more.values())} {dict(more.most_common(6))}")
        return drawn(root, Path(name, "cache"), options)


def drawn(root: Path, cache: Path, options: argparse.Namespace) -> int:
    """Draws for minutes, and tells what came of it."""
    run = Run.find(root / "checkpoints", "study-0/run-0000")
    for epoch in range(21, 4_000):  # longer than what is kept of it, so that keeping it is no growth
        grow(run, epoch)
    ends = threading.Event()
    points: list[tuple[float, float]] = []
    with LabServer(root, cache) as lab:
        visitors = [Visitor(lab, number, ends) for number in range(options.tabs)]
        for visitor in visitors:
            visitor.start()
        until, epoch, told = time.monotonic() + 60 * options.minutes, 4_000, 0
        while time.monotonic() < until:
            time.sleep(0.5)
            grow(run, epoch := epoch + 1)
            n, taken = sum(visitor.n for visitor in visitors), lab.taken()
            points.append((n / 1000, taken.rss_mb))
            if n // 1000 > told:
                told = n // 1000
                words = f"{taken.rss_mb:.0f} MB, {taken.files} files, {taken.threads} threads"
                print(f"  {n:6,} reruns: {words}", flush=True)
        ends.set()
        for visitor in visitors:
            visitor.join(60)
        troubles = [text for visitor in visitors for text in visitor.troubles] + lab.troubles()
    n = sum(visitor.n for visitor in visitors)
    late = np.array(points[len(points) // 2 :])
    slope_kb = 1000 * float(np.polyfit(late[:, 0], late[:, 1], 1)[0])
    hours = n * RERUN_EVERY_S / TABS_OF_A_CLASS / 3600
    day_mb = 8 / hours * n / 1000 * slope_kb / 1000
    print(f"{n:,} reruns in {options.minutes:g} minutes: {hours:.1f} hours of {TABS_OF_A_CLASS} tabs")
    print(f"  a thousand reruns more cost {slope_kb:+.0f} kB (second half), a day of eight hours {day_mb:+.1f} MB")
    print(f"  troubles: {len(troubles)}", *troubles[:5], sep="\n    ")
    return 1 if troubles or slope_kb > options.most_kb else 0


if __name__ == "__main__":
    sys.exit(main())
