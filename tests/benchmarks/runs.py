"""How long it takes to look at runs: a growing metrics file, a thousand runs, a filter, a long log.

    python tests/benchmarks/runs.py

Prints milliseconds (median of several), and how a refresh at row 1,000,000 compares with one at row 1,000.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab_support import many_runs
from pianistid_core.metrics_log import MetricsLog
from pianistid_core.run_filter import parse_filter
from pianistid_core.run_index import RunIndex
from pianistid_core.runs import Run

ROW = (
    b'{"epoch": %d, "train_loss": 2.195682246109535, "train_clip_accuracy": 0.1896551724137931, "seconds": 4.58, '
    b'"clips_per_second": 37.9, "skipped": 0, "skipped_reasons": {}, "test_loss": 2.0061950729672797, '
    b'"test_clip_accuracy": 0.12, "test_recording_accuracy": 0.125, "test_macro_recall": 0.125, "lr": 0.002}\n'
)
FILTER = "optim_cfg.lr < 0.003 and (accuracy > 0.7 or 'baseline' in tags) and not archived"
LONG_AGO = 1_700_000_000


def median_ms(work: Callable[[], object], times: int = 21) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken)


class Growing:
    """A run of so many rows, and how long looks at it take while rows are added."""

    def __init__(self, folder: Path, n_rows: int) -> None:
        self.run = Run.create(folder, "experiment", f"run-{n_rows}")
        self.run.set_state("finished", epochs=n_rows)
        with self.run.metrics_path.open("wb") as file:
            for start in range(1, n_rows + 1, 1000):
                file.write(b"".join(ROW % number for number in range(start, min(start + 1000, n_rows + 1))))
        self.n_rows = n_rows
        self.log = MetricsLog(self.run.metrics_path)
        self.log.refresh()
        self.times: dict[str, list[float]] = {"one new row": [], "nothing new": [], "Run.state": []}

    def look(self) -> None:
        self.n_rows += 1
        with self.run.metrics_path.open("ab") as file:
            file.write(ROW % self.n_rows)
        for what, work in zip(self.times, (self.log.refresh, self.log.refresh, self.run.state), strict=True):
            self.times[what].append(median_ms(work, 1))


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        early, late = Growing(folder, 1_000), Growing(folder, 1_000_000)
        for _ in range(500):  # by turns, so that both meet the same machine
            early.look()
            late.look()
        for what in early.times:
            a, b = statistics.median(early.times[what]), statistics.median(late.times[what])
            print(f"{what}: {a:.3f} ms at row 1,000, {b:.3f} ms at row 1,000,000 ({b / a:.2f} times)")

        many_runs(folder / "many", 1000)
        for path in (folder / "many").rglob("*"):
            os.utime(path, (LONG_AGO, LONG_AGO))
        index, wanted = RunIndex(folder / "many" / "checkpoints"), parse_filter(FILTER)
        print(f"1,000 runs, first look: {median_ms(index.summaries, 1):.0f} ms")
        print(f"1,000 runs, unchanged: {median_ms(index.summaries):.1f} ms")
        runs = index.summaries()

        def chosen() -> int:
            return sum(wanted.matches(run, index.config(run)) for run in runs)

        print(f"filter with config keys over 1,000 runs, first: {median_ms(chosen, 1):.0f} ms")
        print(f"filter with config keys over 1,000 runs, again: {median_ms(chosen):.1f} ms")

        run = Run.create(folder, "experiment", "talkative")
        line = "2026-01-02 03:04:05,678 INFO epoch 1/20: train loss 2.1367 | recording accuracy 0.333 | 0.4 s\n"
        with (run.path / "log.txt").open("w") as file:
            for _ in range(100):
                file.write(line * 100_000)
        size = (run.path / "log.txt").stat().st_size
        for what, settings in (("last lines", {}), ("search", {"contains": "0.333"}), ("errors", {"level": "ERROR"})):
            first = median_ms(lambda s=settings: Run(run.path).log_page(**s), 1)
            again = median_ms(lambda s=settings: run.log_page(**s), 5)
            print(f"log of {size / 1e9:.1f} GB, {what}: first {first:.0f} ms, again {again:.0f} ms")


if __name__ == "__main__":
    main()
