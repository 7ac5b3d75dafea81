"""Many sessions for minutes: people watch a run that trains, others start, stop, resume, delete and tag the same runs.

    python tests/reliability/sessions.py [--minutes 10] [--sessions 25] [--people 10] [--runs 20] [--rest 200]

Figure 7 of the reliability table. A real server and real sessions (WebSocket and messages, nothing painted). It counts
what went wrong: exceptions on a page, errors in the server's log, actions without effect and without a sentence that
says why, two trainers in one run, runs that are neither in the list nor in the trash; and it prints the server's
memory, open files and threads each minute, at the end, and after the tabs are closed. The runs are tiny, so that what
is measured is the server: no more than `--trainers` people start at a time, the others queue their runs.

Exit status 1 when anything went wrong, or when the memory after all tabs are closed is more than `--margin-mb` above
that before them.
"""

import argparse
import collections
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from crowd import EFFECT_S, EXPERIMENT, Observer, Person, Seen, Watcher, lost, lost_tags
from lab_server import LabServer, Taken

from pianistid_core import launch, trash
from pianistid_core.config import load_config, to_yaml
from pianistid_core.datasets.demo import make_demo
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import RunError
from pianistid_core.ladder import Patience
from pianistid_core.midi import Notes, read_midi, write_midi
from pianistid_core.runs import Run, find_runs

TINY = [
    f"experiment={EXPERIMENT}", "epochs=100000", "train_dataset_cfg.n_clips=16", "test_dataset_cfg.n_clips=12",
    "model_cfg.frame_pool=60", "num_threads=1", "checkpoint_cfg.checkpoint_after_n_epochs=5",
]  # fmt: skip


# --- the data root ----------------------------------------------------------------------------------------------------


def make_root(folder: Path, n_runs: int) -> DataRoot:
    """Demo data, and runs that were stopped before they trained."""
    root = DataRoot(folder / "home", folder / "cache")
    make_demo(root, recordings_per_pianist=4)
    for number in range(n_runs):
        name = f"shared-{number:02d}"
        run = Run.create(root.checkpoints_dir, EXPERIMENT, name)
        run.save_text("request.yaml", to_yaml(load_config("demo.yaml", overrides=[*TINY, f"run={name}"])))
        run.set_state("stopped", "made to be resumed", epochs=100_000)
    return root


def trained(root: DataRoot) -> Run:
    """A run of two epochs: the model that Identify asks."""
    overrides = [*TINY, "epochs=2", "run=model", "checkpoint_cfg.checkpoint_after_n_epochs=1"]
    run = launch.start(load_config("demo.yaml", overrides=overrides), root)
    while run.state().status in ("queued", "running"):
        time.sleep(0.3)
    if run.state().status != "finished":
        raise RuntimeError(f"the model did not train: {run.state().reason}; {run.log_tail(5)}")
    return run


def watched(root: DataRoot) -> Run:
    """The run that trains all the time, in the background of everything."""
    code = (
        "import os, sys; os.nice(10); from pianistid_core import launch; from pianistid_core.config import load_config;"
        "from pianistid_core.datasets.root import DataRoot; from pathlib import Path;"
        "launch.start(load_config('demo.yaml', overrides=sys.argv[3:]), DataRoot(Path(sys.argv[1]), Path(sys.argv[2])))"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(root.path), str(root.cache_dir), *TINY, "run=watched"], check=True,
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    return Run.find(root.checkpoints_dir, f"{EXPERIMENT}/watched")


def music(root: DataRoot, n: int) -> list[bytes]:
    """Pieces to drop: recordings of the demo, each of another length."""
    files = sorted(root.raw_dir.glob("demo/*/piano_midi.mid"))
    pieces = []
    for number in range(n):
        notes: Notes = read_midi(files[number % len(files)])
        pieces.append(write_midi(notes.between(0.0, 40.0 + number)))
    return pieces


# --- the whole --------------------------------------------------------------------------------------------------------


def line(when: str, taken: Taken, more: str = "") -> None:
    print(
        f"{when:>14}  {taken.rss_mb:6.0f} MB resident, {taken.pss_mb:6.0f} MB own, {taken.files:3d} files, "
        f"{taken.threads:3d} threads, {taken.cpu_s:5.0f} s of CPU{more}",
        flush=True,
    )


def warm(lab: LabServer, piece: bytes) -> None:
    """Visits every page once, so that what a server loads only once is loaded."""
    with lab.tab() as tab:
        for page in ("", "data", "build", "runs", "compare", "pianists", "tracking"):
            tab.open(page)
        tab.open("runs", run=f"{EXPERIMENT}/watched")
        tab.open("compare", runs=f"{EXPERIMENT}/watched,{EXPERIMENT}/model")
        tab.open("identify", model=f"{EXPERIMENT}/model")
        tab.upload("midi_files", {"warm.mid": piece})
        tab.watch(20)


def settle(root: DataRoot) -> None:
    """Ends whatever trains or waits."""
    for run in find_runs(root.checkpoints_dir):
        if run.state().status in ("running", "queued"):
            try:
                launch.stop_and_wait(run, "discard", patience=Patience(10.0, 20.0))
            except RunError as error:
                print(f"  {run.id} could not be stopped: {error}")


def percentile(values: list[float], share: float) -> float:
    return statistics.quantiles(values, n=100)[round(100 * share) - 1] if len(values) > 1 else 0.0


def spread(seconds: list[float]) -> str:
    """Median, 95th percentile and largest of some times."""
    if not seconds:
        return "none"
    return (
        f"median {statistics.median(seconds):.2f} s, 95 % under {percentile(seconds, 0.95):.2f} s, "
        f"slowest {max(seconds):.2f} s"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--sessions", type=int, default=25, help="tabs that watch")
    parser.add_argument("--people", type=int, default=10, help="tabs that act")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--trainers", type=int, default=2, help="most that train when somebody starts one at once")
    parser.add_argument("--pace", type=float, default=1.0, help="how long a tab stays, against the usual 15 to 40 s")
    parser.add_argument("--rest", type=float, default=200, help="seconds to look at memory after all tabs are closed")
    parser.add_argument("--margin-mb", type=float, default=60)
    parser.add_argument("--folder", type=Path, help="where to work; else a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        return load(Path(name), options)


def load(folder: Path, options: argparse.Namespace) -> int:
    root = make_root(folder, options.runs)
    trained(root)
    run = watched(root)
    try:
        pieces = music(root, 12)
        with LabServer(root.path, root.cache_dir) as lab:
            line("fresh", lab.taken())
            warm(lab, pieces[0])
            before = lab.taken()
            line("warm", before)
            observer = Observer(root)
            observer.start()
            until = time.monotonic() + 60 * options.minutes
            watchers = [Watcher(n, lab, pieces, until, options.pace) for n in range(options.sessions)]
            people = [Person(n, lab, observer, until, options.trainers) for n in range(options.people)]
            for thread in (*watchers, *people):
                thread.start()
            minute = 0
            while time.monotonic() < until:
                time.sleep(max(0.0, min(60.0, until - time.monotonic())))
                minute += 1
                acted = sum(len(one.done) for one in people)
                line(f"minute {minute}", lab.taken(), f"; {acted} actions, load {os.getloadavg()[0]:.1f}")
            for thread in (*watchers, *people):
                thread.join(120)
            alive = [thread.name for thread in (*watchers, *people) if thread.is_alive()]
            line("all closed", lab.taken())
            time.sleep(EFFECT_S if options.minutes >= 2 else 20)
            observer.ends.set()
            rested = options.rest
            after = lab.taken()
            while rested > 0:
                time.sleep(min(rested, 50))
                rested -= 50
                after = lab.taken()
                line(f"{options.rest - max(rested, 0):.0f} s later", after)
            return report(root, run, lab, observer.seen, watchers, people, alive, before, after, options)
    finally:
        settle(root)


def report(
    root: DataRoot, run: Run, lab: LabServer, seen: Seen, watchers: list[Watcher], people: list[Person],
    alive: list[str], before: Taken, after: Taken, options: argparse.Namespace,
) -> int:  # fmt: skip
    tabs = [one.tab for one in (*watchers, *people)]
    exceptions = collections.Counter(text for tab in tabs for text in tab.told.exceptions)
    troubles = [text for one in (*watchers, *people) for text in one.troubles] + [f"{name} hangs" for name in alive]
    actions = sorted((action for one in people for action in one.done), key=lambda action: action.sent)
    lost_ones = [(action, why) for action in actions if (why := lost(action, seen, actions))]
    lost_ones += lost_tags(root, actions)
    names = {f"{EXPERIMENT}/shared-{number:02d}" for number in range(options.runs)}
    here = collections.Counter(
        [one.id for one in find_runs(root.checkpoints_dir)]
        + [one.run_id for one in trash.discarded(root.checkpoints_dir)]
    )
    lost_runs = sorted(name for name in names if here[name] != 1)
    reruns = [seconds for tab in tabs for seconds in tab.told.reruns_s]
    ticks = [seconds for tab in tabs for seconds in tab.told.ticks_s]
    sizes = [float(size) for tab in tabs for size in tab.told.rerun_bytes]
    log = lab.troubles()
    refused = collections.Counter(re.sub(r"\S*/\S+", "RUN", one.refused)[:110] for one in actions if one.refused)
    print(f"{options.sessions} sessions and {options.people} people, {options.minutes:g} minutes")
    print(f"  actions: {len(actions)} ({dict(collections.Counter(one.what for one in actions))})")
    print(f"  refused with a sentence: {sum(refused.values())}")
    for text, n in refused.most_common(6):
        print(f"    {n} x {text}")
    print(f"  lost actions: {len(lost_ones)}")
    for action, why in lost_ones[:10]:
        print(
            f"    {action.what} of {', '.join(action.runs)} by {action.who}: {why} ({action.said!r} {action.refused!r})"
        )
    print(f"  exceptions on pages: {sum(exceptions.values())} {dict(exceptions.most_common(5))}")
    print(f"  errors in the server's log: {len(log)}", *log[:8], sep="\n    ")
    print(f"  tabs in trouble: {len(troubles)}", *troubles[:8], sep="\n    ")
    print(f"  two trainers in one run: {len(seen.doubles)}; lost runs: {len(lost_runs)} {lost_runs}")
    now = run.state()
    print(f"  the watched run: {now.status}, epoch {now.epoch}; most trainers at once {seen.most_trainers}")
    for what, seconds in (("reruns", reruns), ("refreshes", ticks)):
        print(f"  {what}: {len(seconds)}, {spread(seconds)}")
    print(
        f"  kB of a rerun: median {statistics.median(sizes) / 1e3:.0f}, 95 % under {percentile(sizes, 0.95) / 1e3:.0f}"
    )
    grown = after.rss_mb - before.rss_mb
    print(f"  server memory: {before.rss_mb:.0f} MB before, {after.rss_mb:.0f} MB after all are gone ({grown:+.0f} MB)")
    print(f"  server files {before.files} before, {after.files} after; threads {before.threads}, {after.threads}")
    wrong = len(lost_ones) + sum(exceptions.values()) + len(log) + len(troubles) + len(seen.doubles) + len(lost_runs)
    wrong += grown > options.margin_mb
    print("all well" if not wrong else f"WRONG: {wrong}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
