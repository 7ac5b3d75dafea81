"""No foreign text becomes a path outside the data root: each door refuses it in words, or stays inside."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from drafts import DraftStore
from hostile_names import NAMES
from identify_files import file_stem
from pianistid_core import trash
from pianistid_core.cluster_trainer import travels
from pianistid_core.config import parse_config
from pianistid_core.datasets.importing import import_source
from pianistid_core.datasets.root import DataRoot, Split, SplitEntry, write_split
from pianistid_core.errors import PianistIDError
from pianistid_core.midi import write_midi
from pianistid_core.run_config import run_for
from pianistid_core.runs import Run
from tiny import make_notes

ROOM = "place"  # what lies beside the data root, and would be reached by ../


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    """A data root with a run, a split and a recording, and the same once more outside of it."""
    base = tmp_path_factory.mktemp("outside")
    found = DataRoot(base / "a" / "b" / "root", base / "a" / "b" / "cache")
    for folder in (found.path, base / "a" / ROOM, base / ROOM):
        for run in (folder / "checkpoints" / "study" / "one", folder / "one", folder / "study" / "one"):
            run.mkdir(parents=True)
            (run / "run.json").write_text("{}")
            (run / "checkpoint_001.pth").write_bytes(b"")
        for split in (folder / "references" / "data_splits" / "own", folder / "own"):
            split.mkdir(parents=True)
            (split / "train_split.csv").write_text(",track,pianist,duration\n0,study/one,Ada,31.0\n")
        clip = folder / "data" / "clips" / "study" / "one" / "clip_000.mid"
        clip.parent.mkdir(parents=True)
        write_midi(make_notes(0, seconds=5), clip)
    source = base / "a" / "source" / "Ada"
    source.mkdir(parents=True)
    write_midi(make_notes(1, seconds=31), source / "piece.mid")
    return found


def finds_a_run(root: DataRoot, one: str, two: str) -> Iterator[Path]:
    yield Run.find(root.checkpoints_dir, one).path
    yield Run.find(root.checkpoints_dir, f"{one}/{two}").path


def names_a_run(root: DataRoot, one: str, two: str) -> Iterator[Path]:
    config = parse_config({"experiment": one, "run": two})
    yield run_for(config, root).path


def drops_a_checkpoint(root: DataRoot, one: str, two: str) -> Iterator[Path]:
    Run(root.checkpoints_dir / "study" / "one").delete_checkpoint(one)
    yield root.path


def reads_a_split(root: DataRoot, one: str, two: str) -> Iterator[Path]:
    root.split(one)
    yield root.splits_dir / one


def writes_a_split(root: DataRoot, one: str, two: str) -> Iterator[Path]:
    folder = write_split(root, Split(one, ("Ada",), {"train": (SplitEntry("study/one", 0, 31.0),)}))
    yield folder
    shutil.rmtree(folder)


def lists_clips(root: DataRoot, one: str, two: str) -> Iterator[Path]:
    yield root.clip_names(f"{one}/{two}")[0]
    yield root.clip_names(one)[0]


def imports_under_a_name(root: DataRoot, one: str, two: str) -> Iterator[Path]:
    import_source(root, root.path.parent.parent / "source", name=one)
    yield root.clips_dir / one
    shutil.rmtree(root.clips_dir / one)
    shutil.rmtree(root.raw_dir / one)


def opens_a_draft(root: DataRoot, one: str, two: str) -> Iterator[Path]:
    yield DraftStore(root).path(one)
    DraftStore(root).load(one)


def puts_back_from_the_trash(root: DataRoot, one: str, two: str) -> Iterator[Path]:
    yield trash.restore(root.checkpoints_dir, one).path


def empties_the_trash(root: DataRoot, one: str, two: str) -> Iterator[Path]:
    assert trash.empty(root.checkpoints_dir, [one]) == 0
    yield root.path


def comes_from_a_cluster(root: DataRoot, one: str, two: str) -> Iterator[Path]:
    run = root.checkpoints_dir / "study" / "one"
    for name in (one, f"{one}/{two}", f"figures/{one}"):
        if travels(name):
            yield run / name


def waits_in_a_queue(root: DataRoot, one: str, two: str) -> Iterator[Path]:
    run = Run(root.checkpoints_dir / "study" / "one")
    run.save_json("queued.json", {"queue": one, "id": two})
    entry = run.queue_entry()
    (run.path / "queued.json").unlink()
    if entry is not None:
        assert (entry[0] / "waiting").is_dir() and entry[0].name == "queue"
        yield root.path / entry[1]


def is_taken_away(root: DataRoot, one: str, two: str) -> Iterator[Path]:
    yield root.path / f"{file_stem(one)}.mid"


DOORS: tuple[Callable[[DataRoot, str, str], Iterator[Path]], ...] = (
    finds_a_run, names_a_run, drops_a_checkpoint, reads_a_split, writes_a_split, lists_clips, imports_under_a_name,
    opens_a_draft, puts_back_from_the_trash, empties_the_trash, comes_from_a_cluster, waits_in_a_queue, is_taken_away,
)  # fmt: skip
PIECES = [
    "..", "/", "\\", ":", "C:", ".", "~", "\0", " ", "a", "CON", "study", "one", "own", ROOM, "queue", "-", "\u202e",
]  # fmt: skip
HOSTILE = st.lists(st.sampled_from(PIECES), max_size=7).map("".join) | st.sampled_from(NAMES) | st.text(max_size=20)


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(one=HOSTILE, two=HOSTILE)
@example(one=f"../../../{ROOM}/own", two=f"../../{ROOM}/one")
@example(one="..", two="one")
@example(one=f"../../{ROOM}", two="one")
@example(one="/etc", two="passwd")
@example(one="C:", two="x")
@example(one="x" * 300, two="x" * 300)
@example(one="\udcff", two="\udcff")
def test_each_door_refuses_in_words_or_stays_inside(
    door: Callable[[DataRoot, str, str], Iterator[Path]], one: str, two: str, root: DataRoot
) -> None:
    base = root.path.parent.parent.parent
    before = everything(base, root)
    try:
        for path in door(root, one, two):
            inside = path.resolve().is_relative_to(root.path.resolve()) or path.is_relative_to(root.cache_dir)
            assert inside, path
            name = path.name
            assert not PureWindowsPath(name).drive and "\\" not in name and name.rstrip(". ")
    except PianistIDError as error:
        words = str(error)
        assert words and "Traceback" not in words and len(words.splitlines()) == 1
    assert everything(base, root) == before, "something was made or removed outside of the data root"


def everything(base: Path, root: DataRoot) -> set[Path]:
    """All files outside of the data root and its cache."""
    own = {root.path, root.cache_dir}
    return {path for path in base.rglob("*") if not own & {path, *path.parents}}
