"""Those who use a lab at the same time: an observer of disk and processes, people who act, tabs that watch."""

import collections
import io
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyarrow.ipc
from client import Tab, TabError
from lab_server import LabServer

from pianistid_core import trash
from pianistid_core.datasets.root import DataRoot
from pianistid_core.runs import Run, find_runs

EXPERIMENT = "many"
EFFECT_S = 60.0
LOOK_S = 0.4
STOPS = ("save", "discard")  # and not "finish": what has finished can be neither resumed nor stopped


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
                acts, toasts = len(self.done), len(self.tab.told.toasts)
                self.act()
                self.tab.watch(self.random.uniform(1.0, 6.0))
                for action in self.done[acts:]:  # also what came a moment later, with a refresh in between
                    action.said = "; ".join(filter(None, [action.said, *self.tab.told.toasts[toasts:]]))
                    action.refused = action.refused or "; ".join(self.tab.errors())
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
            "resume": "bulk_resume", "resume many": "bulk_resume", "stop": f"bulk_{self.random.choice(STOPS)}",
            "discard": "bulk_trash", "star": "bulk_star", "archive": "bulk_archive", "first": "bulk_first",
        }.get(what, "")  # fmt: skip
        if button and (not self.tab.has(button) or self.tab.widget(button).disabled):
            return None
        menu = {"stop": "Stop", "tag": "Tag"}.get(what)
        if menu and next(one.disabled for one in self.tab.elements("popover") if one.label == menu):
            return None  # others have taken away what was chosen
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
            tab = self.random.choice(("Curves", "Log", "Confusion matrix"))
            self.tab.open("runs", run=f"{EXPERIMENT}/watched", run_tab=tab)
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
