"""A list of 1,000 runs, a run with 1,000,000 rows of metrics, a log of 1,000,000 lines: how long pages take.

    python tests/reliability/many.py [--runs 1000] [--rows 1000000] [--lines 1000000]

Part of figure 7 of the reliability table. A real server and one session (WebSocket and messages, nothing painted).
For each page: seconds until it is drawn the first time and again, kilobytes that go to the browser the first time and
again, and what the server's memory grew by. Exit status 1 when a page shows an error, a rerun takes longer than
`--most-s`, or sends more than `--most-kb`.
"""

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from client import Tab
from lab_server import LabServer

from lab_support import many_runs
from pianistid_core.processes import ProcessIdentity
from pianistid_core.runs import Run

ROW = (
    b'{"epoch": %d, "train_loss": %.6f, "train_clip_accuracy": 0.1896551724137931, "seconds": 4.58, '
    b'"clips_per_second": 37.9, "skipped": 0, "skipped_reasons": {}, "test_loss": 2.0061950729672797, '
    b'"test_clip_accuracy": 0.12, "test_recording_accuracy": 0.125, "test_macro_recall": 0.125, "lr": 0.002}\n'
)
LINE = "2026-01-02 03:04:05,678 %s epoch %d/1000000: train loss 2.1367 | recording accuracy 0.333 | 0.4 s\n"


def long_run(root: Path, rows: int, lines: int) -> str:
    """A stopped run of many rows and lines; gives its name."""
    run = Run.create(root / "checkpoints", "study-0", "long")
    run.set_state("stopped", "stopped by hand", epochs=2 * rows)
    with run.metrics_path.open("wb") as file:
        for start in range(1, rows + 1, 1000):
            block = range(start, min(start + 1000, rows + 1))
            file.write(b"".join(ROW % (number, 2.0 + number % 97 / 97) for number in block))
    with (run.path / "log.txt").open("w") as file:
        for start in range(1, lines + 1, 1000):
            block = range(start, min(start + 1000, lines + 1))
            file.write("".join(LINE % ("INFO" if n % 1000 else "WARNING", n) for n in block))
    return run.id


def visits(name: str) -> dict[str, tuple[str, dict[str, str]]]:
    """What is looked at: a page with what stands in its address."""
    others = "study-0/run-0000,study-1/run-0001"
    return {
        "the first page": ("", {}),
        "list of all runs": ("runs", {}),
        "list, filtered": ("runs", {"runs_filter": "optim_cfg.lr < 0.003 and accuracy > 0.7"}),
        "list, by accuracy": ("runs", {"runs_sort": "Best accuracy"}),
        "long run, curves": ("runs", {"run": name}),
        "long run, log": ("runs", {"run": name, "run_tab": "Log"}),
        "long run, compared": ("compare", {"runs": f"{name},{others}"}),
        "20 runs compared": ("compare", {"runs": ",".join(f"study-{n % 7}/run-{n:04d}" for n in range(20))}),
        "identify": ("identify", {}),
        "build": ("build", {}),
        "data": ("data", {}),
        "pianists": ("pianists", {}),
        "tracking": ("tracking", {}),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--most-s", type=float, default=1.0)
    parser.add_argument("--most-kb", type=float, default=200.0)
    options = parser.parse_args()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name, "home")
        many_runs(root, options.runs)
        long = long_run(root, options.rows, options.lines)
        with LabServer(root, Path(name, "cache")) as lab:
            print(f"{options.runs:,} runs, one of {options.rows:,} rows and {options.lines:,} log lines")
            print(f"  a server that has started: {lab.taken().rss_mb:.0f} MB")
            for what, (page, query) in visits(long).items():
                wrong += look(lab, what, page, query, options)
            wrong += live(lab, Run.find(root / "checkpoints", long))
            wrong += lab.troubles()
            print(f"  the server at the end: {lab.taken().rss_mb:.0f} MB")
    print("all well" if not wrong else f"WRONG: {len(wrong)}", *wrong, sep="\n  ")
    return 1 if wrong else 0


def look(lab: LabServer, what: str, page: str, query: dict[str, str], options: argparse.Namespace) -> list[str]:
    """Opens a page and draws it five times more."""
    before = lab.taken().rss_mb
    with lab.tab(patience_s=300) as tab:
        tab.open(page, **query)
        first_s, first_kb = tab.told.reruns_s[-1], tab.told.rerun_bytes[-1] / 1e3
        for _ in range(5):
            tab.rerun()
        again_s = statistics.median(tab.told.reruns_s[-5:])
        again_kb = statistics.median(tab.told.rerun_bytes[-5:]) / 1e3
        grown = lab.taken().rss_mb - before
        took = f"first {first_s:6.2f} s {first_kb:6.0f} kB, again {1000 * again_s:5.0f} ms {again_kb:6.0f} kB"
        print(f"  {what:20} {took}, memory {grown:+5.0f} MB", flush=True)
        wrong = [f"{what}: {text}" for text in (*tab.told.exceptions, *unexpected(tab))]
    if again_s > options.most_s:
        wrong.append(f"{what}: a rerun takes {again_s:.2f} s")
    if again_kb > options.most_kb:
        wrong.append(f"{what}: a rerun sends {again_kb:.0f} kB")
    return wrong


def unexpected(tab: Tab) -> list[str]:
    """Red boxes that do not say what is simply so: that there is no data here."""
    return [text for text in tab.errors() if "no data to learn from" not in text]


def live(lab: LabServer, run: Run) -> list[str]:
    """The long run as it grows: what a refresh costs when a row and a hundred lines come between."""
    run.set_state("running", epochs=20_000_000, process=ProcessIdentity.of(os.getpid()))
    with lab.tab(patience_s=300) as tab:
        tab.open("runs", run=run.id, run_tab="Log")
        for number in range(20):
            with run.metrics_path.open("ab") as file:
                file.write(ROW % (10_000_000 + number, 1.0))
            with (run.path / "log.txt").open("a") as log:
                log.write("".join(LINE % ("INFO", n) for n in range(100)))
            tab.rerun()
        seconds = statistics.median(tab.told.reruns_s[-20:])
        size = statistics.median(tab.told.rerun_bytes[-20:]) / 1e3
        print(f"  long run, growing    again {1000 * seconds:5.0f} ms {size:6.0f} kB")
        return [*tab.told.exceptions, *unexpected(tab)]


if __name__ == "__main__":
    sys.exit(main())
