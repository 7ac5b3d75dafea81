"""Many sessions for minutes: people watch a run that trains, others start, stop, resume, delete and tag the same runs.

    python tests/reliability/sessions.py [--minutes 10] [--sessions 25] [--people 10] [--runs 20] [--rest 200]

Figure 7 of the reliability table. A real server and real sessions (WebSocket and messages, nothing painted). It counts
what went wrong: exceptions on a page, errors in the server's log, actions without effect and without a sentence that
says why, two trainers in one run, runs that are neither in the list nor in the trash; and it prints the server's memory,
open files and threads each minute, at the end, and after the tabs are closed. The runs are tiny, so that what is
measured is the server: no more than `--trainers` people start at a time, the others queue their runs.

Exit status 1 when anything went wrong, or when the memory after all tabs are closed is more than `--margin-mb` above
that before them.
"""

import argparse
import collections
import io
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyarrow.ipc
from client import Tab, TabError
from lab_server import LabServer, Taken

from pianistid_core import launch, trash
from pianistid_core.config import load_config, to_yaml
from pianistid_core.datasets.demo import make_demo
from pianistid_core.datasets.root import DataRoot
from pianistid_core.midi import Notes, read_midi, write_midi
from pianistid_core.runs import Run, find_runs

EXPERIMENT = "many"
TINY = [
    f"experiment={EXPERIMENT}", "epochs=100000", "train_dataset_cfg.n_clips=16", "test_dataset_cfg.n_clips=12",
    "model_cfg.frame_pool=60", "num_threads=1", "checkpoint_cfg.checkpoint_after_n_epochs=5",
]  # fmt: skip
EFFECT_S = 60.0
LOOK_S = 0.4


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


# --- what is seen from outside ----------------------------------------------------------------------------------------


@dataclass
class Seen:
    """What an observer of the disk and of the processes saw: where each run was, and trainers too many."""

    places: dict[str, list[tuple[float, str]]] = field(default_factory=lambda: collections.defaultdict(list))
    doubles: set[tuple[str, tuple[int, ...]]] = field(default_factory=set)
    most_trainers: int = 0

    def was(self, run: str, since: float, until: float, what: Callable[[str], bool]) -> bool:
        """Whether a run was once like that between two moments; what holds at a moment holds until the next look."""
        last = "?"
        for when, place in self.places[run]:
            if when > until:
                break
            if when < since:
                last = place
            elif what(place):
                return True
        return what(last)


class Observer(threading.Thread):
    """Looks at the runs and at the processes all the time."""

    def __init__(self, root: DataRoot) -> None:
        super().__init__(name="observer", daemon=True)
        self.root = root
        self.seen = Seen()
        self.live = 0
        self.ends = threading.Event()

    def run(self) -> None:
        while not self.ends.wait(LOOK_S):
            self.look()

    def look(self) -> None:
        """One look."""
        now = time.monotonic()
        places = {one.run_id: "trash" for one in trash.discarded(self.root.checkpoints_dir)}
        for run in find_runs(self.root.checkpoints_dir):
            places[run.id] = run.state().status
        for id, place in places.items():
            known = self.seen.places[id]
            if not known or known[-1][1] != place:
                known.append((now, place))
        self.live = sum(place in ("running", "queued") for place in places.values())
        trainers = collections.defaultdict(list)
        for process in psutil.process_iter(["cmdline", "pid"]):
            words = process.info["cmdline"] or []
            if "train" in words and "pianistid_core" in words:
                for word in words:
                    if word.startswith(str(self.root.checkpoints_dir)):
                        trainers[str(Path(word).parent)].append(process.info["pid"])
        self.seen.most_trainers = max(self.seen.most_trainers, len(trainers))
        for folder, pids in trainers.items():
            if len(pids) > 1 and len([pid for pid in pids if trains(pid)]) > 1:
                self.seen.doubles.add((folder, tuple(sorted(pids))))


def trains(pid: int) -> bool:
    """Whether a process holds the lock of a run: one that was started beside a trainer ends by itself."""
    try:
        return any(path.path.endswith("metrics.jsonl") for path in psutil.Process(pid).open_files())
    except psutil.Error:
        return False


# --- the people -------------------------------------------------------------------------------------------------------


@dataclass
class Action:
    """What somebody did to runs, when (monotonic seconds), and what the page said to it."""

    who: int
    what: str
    runs: tuple[str, ...]
    sent: float
    answered: float = 0.0
    said: str = ""
    refused: str = ""
    tag: str = ""


class Person(threading.Thread):
    """Does one thing after another to the runs of the list, as fast as somebody in a hurry."""

    WHAT = ("resume", "resume many", "stop", "discard", "restore", "tag", "star", "archive", "first")
    WEIGHTS = (2, 2, 4, 2, 3, 5, 3, 2, 1)

    def __init__(self, number: int, lab: LabServer, observer: Observer, until: float, trainers: int) -> None:
        super().__init__(name=f"person {number}", daemon=True)
        self.number, self.lab, self.observer, self.until, self.trainers = number, lab, observer, until, trainers
        self.random = random.Random(number)
        self.done: list[Action] = []
        self.troubles: list[str] = []
        self.tab = lab.tab()
        self.tags = 0

    def run(self) -> None:
        try:
            self.tab.open("runs", runs_archived="true")
            while time.monotonic() < self.until:
                self.act()
                self.tab.watch(self.random.uniform(1.0, 6.0))
        except TabError as error:
            self.troubles.append(f"person {self.number}: {error}")
        finally:
            self.tab.close()

    def act(self) -> None:
        """One thing, to one or two runs that are in the list."""
        what = self.random.choices(self.WHAT, self.WEIGHTS)[0]
        if what == "restore":
            return self.restore()
        if what.startswith("resume") and self.observer.live > (self.trainers if what == "resume" else 8):
            return None
        names = shown(self.tab, "runs_table")
        wanted = [name for name in names if name.startswith(f"{EXPERIMENT}/shared-")]
        if not wanted:
            return None
        n = 1 if what == "resume" else self.random.choice((1, 2, 3)) if what != "resume many" else 2
        chosen = sorted(self.random.sample(range(len(wanted)), min(n, len(wanted))))
        self.tab.select_rows("runs_table", [names.index(wanted[at]) for at in chosen])
        button = {
            "resume": "bulk_resume", "resume many": "bulk_resume", "stop": f"bulk_{self.random.choice(('save', 'finish', 'discard'))}",
            "discard": "bulk_trash", "star": "bulk_star", "archive": "bulk_archive", "first": "bulk_first",
        }.get(what, "")  # fmt: skip
        if button and (not self.tab.has(button) or self.tab.widget(button).disabled):
            return None
        if what == "stop" and next(menu.disabled for menu in self.tab.elements("popover") if menu.label == "Stop"):
            return None
        if what == "tag":
            self.tags += 1
            tag = f"{self.number}-{self.tags}"
            return self.sent(what, [wanted[at] for at in chosen], lambda: self.tab.fill("bulk_tag_text", tag), tag)
        return self.sent(what, [wanted[at] for at in chosen], lambda: self.tab.press(button))

    def restore(self) -> None:
        """Puts a run back from the trash, by its undo line or by the list of the trash."""
        if self.tab.has("undo_trash") and self.random.random() < 0.5:
            line = next((text for text in self.tab.words().splitlines() if "in the trash:" in text), "")
            names = re.findall(rf"{EXPERIMENT}/shared-\d\d", line)
            return self.sent("restore", names, lambda: self.tab.press("undo_trash"))
        self.tab.fill("runs_view", "Trash")
        if self.tab.has("trash_table"):
            names = shown(self.tab, "trash_table")
            at = self.random.randrange(len(names))
            self.tab.select_rows("trash_table", [at])
            if not self.tab.widget("trash_restore").disabled:
                self.sent("restore", [names[at]], lambda: self.tab.press("trash_restore"))
        self.tab.fill("runs_view", "Runs")
        return None

    def sent(self, what: str, runs: list[str], do: Callable[[], None], tag: str = "") -> None:
        """Does it, and keeps what the page said."""
        action = Action(self.number, what, tuple(runs), time.monotonic(), tag=tag)
        self.done.append(action)
        do()
        action.answered = time.monotonic()
        toasts = [toast.body.replace("\\", "") for toast in self.tab.elements("toast")]
        undo = [text for text in self.tab.words().splitlines() if "in the trash:" in text]
        action.said = "; ".join([*toasts, *(undo if what == "discard" else [])])
        action.refused = "; ".join(self.tab.errors())


def shown(tab: Tab, key: str) -> list[str]:
    """The names in the first column of a table, as they are on the page."""
    if not tab.has(key):
        return []
    data = tab.widget(key, "dataframe").arrow_data.data
    return [str(name) for name in pyarrow.ipc.open_stream(io.BytesIO(data)).read_all().column("Run").to_pylist()]


def lost(action: Action, seen: Seen, all_actions: list[Action]) -> str:
    """Why an action counts as lost, or nothing."""
    if not action.answered:
        return "no answer"
    if not action.said and not action.refused:
        return "nothing was said"
    if action.refused or action.what in ("tag", "star", "archive", "first"):
        return ""
    wanted: dict[str, Callable[[str], bool]] = {
        "resume": lambda place: place in ("running", "queued"),
        "resume many": lambda place: place in ("running", "queued"),
        "stop": lambda place: place not in ("running", "queued"),
        "discard": lambda place: place == "trash",
        "restore": lambda place: place != "trash",
    }
    for run in action.runs:
        until = action.answered + EFFECT_S
        if seen.was(run, action.sent, until, wanted[action.what]):
            continue
        # Undone by somebody else between two looks?
        others = [one for one in all_actions if one is not action and run in one.runs and one.sent < until]
        if not any(one.answered > action.sent - 1 and one.what != action.what for one in others):
            return f"{run} was never like that"
    return ""


# --- those who watch --------------------------------------------------------------------------------------------------


class Watcher(threading.Thread):
    """A tab that is left open on a page that refreshes itself, and now and then looks at something else."""

    PAGES = ("run", "run", "compare", "home", "identify", "list", "run")

    def __init__(self, number: int, lab: LabServer, pieces: list[bytes], until: float, pace: float) -> None:
        super().__init__(name=f"watcher {number}", daemon=True)
        self.number, self.lab, self.pieces, self.until, self.pace = number, lab, pieces, until, pace
        self.kind = self.PAGES[number % len(self.PAGES)]
        self.random = random.Random(1000 + number)
        self.troubles: list[str] = []
        self.tab = lab.tab()

    def run(self) -> None:
        try:
            while time.monotonic() < self.until:
                self.look()
        except TabError as error:
            self.troubles.append(f"watcher {self.number} ({self.kind}): {error}")
        finally:
            self.tab.close()

    def look(self) -> None:
        """Opens its page, and stays for a while."""
        if self.kind == "run":
            self.tab.open(
                "runs", run=f"{EXPERIMENT}/watched", run_tab=self.random.choice(("Curves", "Log", "Confusion matrix"))
            )
        elif self.kind == "compare":
            self.tab.open("compare", runs=f"{EXPERIMENT}/watched,{EXPERIMENT}/model,{EXPERIMENT}/shared-00")
        elif self.kind == "identify":
            self.tab.open("identify", model=f"{EXPERIMENT}/model")
            piece = self.pieces[self.random.randrange(len(self.pieces))]
            statuses = self.tab.upload("midi_files", {f"mine-{self.number}.mid": piece})
            if statuses != [204]:
                self.troubles.append(f"watcher {self.number}: an upload was answered {statuses}")
        elif self.kind == "list":
            self.tab.open("runs")
        else:
            self.tab.open()
        stay = self.random.uniform(15, 40) * self.pace * (2 if self.kind == "identify" else 1)
        self.tab.watch(min(stay, max(0.0, self.until - time.monotonic())))


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
                launch.stop_and_wait(run, "discard", timeout_s=20)
            except Exception as error:
                print(f"  {run.id} could not be stopped: {error}")


def percentile(values: list[float], share: float) -> float:
    return statistics.quantiles(values, n=100)[round(100 * share) - 1] if len(values) > 1 else 0.0


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
    print(
        f"  the watched run: {run.state().status}, epoch {run.state().epoch}; most trainers at once {seen.most_trainers}"
    )
    print(
        f"  reruns: {len(reruns)}, median {statistics.median(reruns):.2f} s, 95 % under {percentile(reruns, 0.95):.2f} s, "
        f"slowest {max(reruns):.2f} s"
    )
    if ticks:
        print(
            f"  refreshes: {len(ticks)}, median {statistics.median(ticks):.3f} s, 95 % under {percentile(ticks, 0.95):.2f} s"
        )
    print(
        f"  bytes of a rerun: median {statistics.median(sizes) / 1e3:.0f} kB, 95 % under {percentile(sizes, 0.95) / 1e3:.0f} kB"
    )
    grown = after.rss_mb - before.rss_mb
    print(f"  server memory: {before.rss_mb:.0f} MB before, {after.rss_mb:.0f} MB after all are gone ({grown:+.0f} MB)")
    print(f"  server files {before.files} before, {after.files} after; threads {before.threads}, {after.threads}")
    wrong = len(lost_ones) + sum(exceptions.values()) + len(log) + len(troubles) + len(seen.doubles) + len(lost_runs)
    wrong += grown > options.margin_mb
    print("all well" if not wrong else f"WRONG: {wrong}")
    return 1 if wrong else 0


def lost_tags(root: DataRoot, actions: list[Action]) -> list[tuple[Action, str]]:
    """Tags that were said to be there and are not, wherever their run lies now."""
    labels = {run.id: run.labels() for run in find_runs(root.checkpoints_dir)}
    for one in trash.discarded(root.checkpoints_dir):
        labels[one.run_id] = Run(root.checkpoints_dir / trash.TRASH / one.id / "run").labels()
    missing = []
    for action in actions:
        if action.what == "tag" and not action.refused:
            gone = [run for run in action.runs if run in labels and action.tag not in labels[run].tags]
            if gone:
                missing.append((action, f"the tag {action.tag} is not on {', '.join(gone)}"))
    return missing


if __name__ == "__main__":
    sys.exit(main())
