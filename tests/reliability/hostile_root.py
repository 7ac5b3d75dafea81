"""Data roots in which everything that can have a name has a hostile one, and which of them came in.

`filled_root` goes through the product's own doors. `forged_root` is what a colleague's folder may be: made by hand.
A name is a hostile string with a mark at its end, such as ⟦p017⟧: `p` says where it stands, 017 which string it is.
"""

import contextlib
import csv
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small networks: more threads wait for each other

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "tests")]

from hostile_names import NAMES  # noqa: E402
from pianistid_core import trash  # noqa: E402
from pianistid_core.config import load_config, parse_config, to_dict, to_yaml  # noqa: E402
from pianistid_core.datasets.importing import import_source  # noqa: E402
from pianistid_core.datasets.root import DataRoot  # noqa: E402
from pianistid_core.datasets.splitting import make_split  # noqa: E402
from pianistid_core.errors import PianistIDError  # noqa: E402
from pianistid_core.midi import Notes, write_midi  # noqa: E402
from pianistid_core.names import folder_name_problem  # noqa: E402
from pianistid_core.run_config import run_for  # noqa: E402
from pianistid_core.run_labels import MAX_TAG_CHARACTERS, RunLabels  # noqa: E402
from pianistid_core.run_queue import RunQueue  # noqa: E402
from pianistid_core.runs import Confusion, Run  # noqa: E402
from pianistid_core.training import train  # noqa: E402

FIELDS = {
    "p": "pianists", "a": "albums", "c": "compositions", "m": "tracks in MIDI", "f": "files left out",
    "t": "tags", "n": "notes", "l": "log lines", "k": "classes of a run", "v": "config values", "u": "uploads",
    "r": "runs and experiments", "s": "splits", "d": "recordings' folders", "w": "typed into fields",
    "q": "in addresses",
}  # fmt: skip
PER_RUN = 10
TINY = ["epochs=1", "train_dataset_cfg.n_clips=null", "test_dataset_cfg.n_clips=null", "model_cfg.frame_pool=60"]
_LONGEST_FILE = 200  # bytes


@dataclass
class Made:
    """A data root, and by field the names in it that should be read back, and how many a door refused in words."""

    root: DataRoot
    there: dict[str, dict[int, str]] = field(default_factory=dict)
    refused: dict[str, list[str]] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)

    def put(self, kind: str, number: int, name: str) -> None:
        """Notes that a name came in."""
        self.there.setdefault(kind, {})[number] = name

    def refuse(self, kind: str, words: object) -> None:
        """Notes that a door refused a name, and what it said."""
        self.refused.setdefault(kind, []).append(str(words))


def named(kind: str, number: int, *, longest: int = 10_000) -> str:
    """A hostile string with its mark, cut before the mark where a field takes no more."""
    mark = f"⟦{kind}{number:03d}⟧"
    return NAMES[number][: longest - len(mark)] + mark


def on_disk(name: str) -> str:
    """The nearest name that a folder of this system can have."""
    text = name.replace("/", "\u2215").replace("\0", "\u2400").strip() or "x"
    while len(text.encode("utf-8", "surrogatepass")) > _LONGEST_FILE:
        text = text[1:]
    return text if text not in (".", "..") else f"_{text}"


def music(seed: int, seconds: float = 32.0) -> Notes:
    """A little music: chords and a line above them."""
    rng = np.random.default_rng(seed)
    beats = np.repeat(np.arange(0.0, seconds, 0.5), 4)
    pitches = (np.tile([0, 4, 7, 12], len(beats) // 4) + np.repeat(rng.integers(45, 70, len(beats) // 4), 4)).astype(
        int
    )
    return Notes.from_arrays(beats, beats + 0.45, pitches, rng.integers(40, 110, len(beats)))


def midi_called(name: str, seed: int) -> bytes:
    """A MIDI file whose track has a name."""
    data = write_midi(music(seed))
    at = data.index(b"MTrk")
    length = int.from_bytes(data[at + 4 : at + 8], "big")
    text = name.encode("utf-8", "surrogatepass")[:120]
    event = b"\x00\xff\x03" + bytes([len(text)]) + text
    return data[: at + 4] + (length + len(event)).to_bytes(4, "big") + event + data[at + 8 :]


def filled_root(folder: Path, numbers: Sequence[int], *, group: int) -> Made:
    """A data root that the product's own doors have filled: pianists, recordings, models, runs, tags, notes."""
    made = Made(DataRoot(folder / "filled", folder / "cache"))
    _bring_in_music(made, folder / "source", numbers)
    stored = {info.pianist for info in made.root.recordings().values()}
    for number in numbers:
        pianist = next((name for name in stored if f"⟦p{number:03d}⟧" in name), named("p", number))
        for kind, name in (("p", pianist), ("a", named("a", number)), ("c", named("c", number))):
            made.put(kind, number, name)
    groups = [numbers[at : at + group] for at in range(0, len(numbers), group)]
    for place, members in enumerate(groups):
        mine = [name for name in stored if any(f"⟦p{number:03d}⟧" in name for number in members)]
        if len(mine) > 1:
            made.splits.append(f"group {place}")
            make_split(made.root, made.splits[-1], pianists=mine, ratios=(0.4, 0.3, 0.3))
            overrides = [*TINY, f"data_split_dir={made.splits[-1]}", "experiment=groups", f"run=group {place}"]
            config = load_config("demo.yaml", overrides=overrides)
            train(config, made.root, run_for(config, made.root))
            made.runs.append(f"groups/group {place}")
    for at in range(0, len(numbers), PER_RUN):
        _run_with_words(made, numbers[at : at + PER_RUN], f"said {at // PER_RUN}")
    _named_runs(made, numbers)
    return made


def _bring_in_music(made: Made, source: Path, numbers: Sequence[int]) -> None:
    source.mkdir(parents=True)
    rows = []
    for number in numbers:
        for take in range(3):
            file = f"{number:03d}-{take}.mid"
            (source / file).write_bytes(midi_called(named("m", number), 10 * number + take))
            facts = [f"{named(kind, number)}{' ' * take}" for kind in "pac"]
            rows.append([file, *facts])
    with (source / "music.csv").open("w", newline="", encoding="utf-8", errors="surrogatepass") as file:
        csv.writer(file).writerows([["file", "pianist", "album", "composition"], *rows])
    import_source(made.root, source / "music.csv", name="music")


def bad_files(folder: Path, numbers: Sequence[int]) -> Path:
    """A folder of one pianist whose files are no MIDI and have hostile names."""
    pianist = folder / "bad" / "someone"
    pianist.mkdir(parents=True)
    for number in numbers:
        name = on_disk(named("f", number))
        (pianist / f"{name}.mid").write_bytes(b"no music")
    return folder / "bad"


def _run_with_words(made: Made, numbers: Sequence[int], name: str) -> None:
    config = load_config("demo.yaml", overrides=["experiment=said", f"run={name}"])
    run = Run.create(made.root.checkpoints_dir, "said", name)
    run.save_text("config.yaml", to_yaml(config))
    run.set_state("finished", epochs=3)
    for epoch in (1, 2, 3):
        run.append_metrics(
            {"epoch": epoch, "train_loss": 2.0 / epoch, "test_loss": 2.2, "test_recording_accuracy": 0.5}
        )
    classes = tuple(named("k", number) for number in numbers)
    matrix = Confusion(classes, np.eye(len(classes), dtype=int) * 3 + 1)
    for when in (1, 3, "validation"):
        run.save_confusion(when, matrix)
    log = [f"2026-11-27 12:00:00,000 INFO {' '.join(named('l', number).splitlines())}" for number in numbers]
    (run.path / "log.txt").write_text("\n".join(log) + "\n", encoding="utf-8", errors="replace")
    tags = []
    for number in numbers:
        made.put("k", number, named("k", number))
        made.put("l", number, named("l", number))
        tag = named("t", number, longest=MAX_TAG_CHARACTERS)
        try:
            RunLabels(tags=(tag,)).checked()
        except PianistIDError as error:
            made.refuse("t", error)
        else:
            tags.append(tag)
            made.put("t", number, tag)
    notes = []
    for number in numbers:
        try:
            RunLabels(note=named("n", number)).checked()
        except PianistIDError as error:
            made.refuse("n", error)
        else:
            notes.append(named("n", number))
            made.put("n", number, named("n", number))
    run.set_labels(RunLabels(tags=tuple(tags), note="\n".join(notes)))
    made.runs.append(run.id)


def _named_runs(made: Made, numbers: Sequence[int]) -> None:
    """Asks for runs and splits of these names; what is accepted waits in a paused queue, or lies in the trash."""
    queue = RunQueue(made.root)
    queue.pause()
    accepted = []
    demo = to_dict(load_config("demo.yaml"))
    for number in numbers:
        name = f"{NAMES[number]} ({number:03d})"
        for kind in ("experiment", "run", "data_split_dir"):
            try:
                config = parse_config({**demo, "run": "x", "data_split_dir": made.splits[0], kind: name})
            except PianistIDError as error:
                made.refuse("s" if kind == "data_split_dir" else "r", error)
                continue
            if kind == "run":
                accepted.append(config)
            if folder_name_problem(name):
                raise RuntimeError(f"{name!r} was accepted, and is no folder's name")
    for config in accepted[:6]:
        queue.add([config])
    for config in accepted[6:10]:
        run = Run.create(made.root.checkpoints_dir, config.experiment, config.run)
        run.save_text("config.yaml", to_yaml(config))
        run.set_state("finished", epochs=1)
        trash.discard(run)


def forged_root(folder: Path, numbers: Sequence[int], model: Path | None) -> Made:
    """A data root from a colleague, made by hand: folders of any name, and files that say anything."""
    made = Made(DataRoot(folder / "forged", folder / "forged-cache"))
    root = made.root
    template = to_yaml(load_config("demo.yaml"))
    for number in numbers:
        name = on_disk(named("r", number))
        run = root.checkpoints_dir / name / name
        run.mkdir(parents=True)
        value = json.dumps(named("v", number))
        (run / "config.yaml").write_text(template.replace("run: demo\n", f"run: {value}\n"), errors="replace")
        about = {"experiment": name, "run": name, "created": time.time() - number}
        (run / "run.json").write_text(json.dumps(about))
        state = {"status": "failed", "reason": named("v", number), "epochs": 2, "started": 1.0, "process": None}
        (run / "state.json").write_text(json.dumps(state))
        (run / "queued.json").write_text(json.dumps({"queue": f"../../../../{name}", "id": name}))
        (run / "place.json").write_text(json.dumps({"address": named("v", number), "machine": named("v", number)}))
        (run / "progress.json").write_text(json.dumps({"phase": named("v", number), "epoch": named("v", number)}))
        (run / "labels.json").write_text(json.dumps({"tags": [named("t", number)], "note": named("n", number)}))
        row = {"epoch": 1, "test_loss": 1.0, named("v", number): 1.0}
        (run / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        (run / "log.txt").write_bytes(named("l", number).encode("utf-8", "surrogatepass") + b"\xff\xfe\n")
        if model is not None and number % 20 == 0:
            shutil.copy2(model, run / "checkpoint_001.pth")
        made.put("r", number, name)
        made.runs.append(f"{name}/{name}")
    for number in numbers[::10]:
        _forged_split(made, number)
    return made


def _forged_split(made: Made, number: int) -> None:
    root, name, recording = made.root, on_disk(named("s", number)), on_disk(named("d", number))
    clips = root.clips_dir / "colleague" / recording
    folder = root.splits_dir / name
    clips.mkdir(parents=True)
    folder.mkdir(parents=True)
    (clips / "clip_000.mid").write_bytes(midi_called(named("m", number), number))
    mapping = [["", "idx"], [named("p", number), 0], ["Somebody else", 1]]
    table = [["", "track", "pianist", "duration"], [0, f"colleague/{recording}", 0, 32.0], [1, "../../x", 0, 32.0]]
    with contextlib.suppress(UnicodeEncodeError):
        for file, rows in (("pianist_mapping.csv", mapping), ("train_split.csv", table[:2]), ("test_split.csv", table)):
            with (folder / file).open("w", newline="", encoding="utf-8") as out:
                csv.writer(out).writerows(rows if number % 20 else [*rows[:2]])
    made.put("s", number, name)
    made.splits.append(name)
