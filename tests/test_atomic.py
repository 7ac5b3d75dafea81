"""Files that are whole or not there, and what killed processes leave beside them."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pianistid_core.atomic import replacing, sweep, write_atomically

CORE = Path(__file__).parent.parent / "pianistid_core"
LAB = CORE.parent / "lab"

# Where a file is written otherwise than aside and by renaming, and why it may be.
EXPLAINED = {
    "atomic.py": "it is what writes aside",
    "kept_checkpoints.py": "torch.save, into what atomic.replacing gives",
    "reserve.py": "space that is taken; nobody reads it",
    "devices.py": "/proc/self/clear_refs, which is no file on a disk",
    "cluster_trainer.py": "a file that arrives in pieces, in a folder that nobody reads before it is whole",
    "datasets/fetching.py": "a download that goes on where it stopped; its checksum is proven before it is renamed",
    "datasets/staging.py": "what arrives is staged in a folder of its own, and moved in whole",
    "datasets/archives.py": "unpacked into a staging folder",
    "datasets/packing.py": "the arrays of a note cache, in a folder that takes its name when it is whole",
    "datasets/demo/making.py": "the demo's files, in a staging folder",
    "backups/restoring.py": "a backup's files, staged in a folder of their own",
    "neighbours.py": "np.savez, into what atomic.replacing gives",
    "lab/backup_view.py": "an upload's copy in a folder of its own",
    "lab/data_import.py": "an upload's copy in a folder of its own",
}
WRITERS = {"write_text", "write_bytes", "savez", "savez_compressed", "savefig", "copyfile", "copyfileobj"}


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_atomically(path, b"old")
    with pytest.raises(ValueError, match="in the middle"), replacing(path) as file:
        file.write(b"ne")
        file.flush()
        assert path.read_bytes() == b"old"
        raise ValueError("in the middle")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["state.json"]
    write_atomically(path, b"new", durable=False)
    assert path.read_bytes() == b"new"


def test_what_is_not_proven_takes_no_place(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    write_atomically(path, b"old")

    def refuse(written: Path) -> None:
        assert written.read_bytes() == b"new" and path.read_bytes() == b"old"
        raise ValueError("not as it was written")

    with pytest.raises(ValueError, match="not as"), replacing(path, prove=refuse) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["checkpoint"]


def test_what_a_dead_process_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    code = (
        "import os, sys, signal; from pathlib import Path; from pianistid_core.atomic import replacing\n"
        "with replacing(Path(sys.argv[1])) as file: os.kill(os.getpid(), signal.SIGKILL)"
    )
    for name in ("a.json", "figures/b.png"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=False)
    others = [tmp_path / name for name in (".notes.tmp", "c.tmp", ".d.1.tmp")]
    for path in others:
        path.write_bytes(b"")
    with replacing(tmp_path / "mine.json") as file:
        file.write(b"1")
        assert {name.split(".")[1] for name in sweep(tmp_path)} == {"a", "b"}
    assert (tmp_path / "mine.json").read_bytes() == b"1"
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == sorted(
        ["mine.json", *(path.name for path in others)]
    )


def writes(path: Path) -> list[str]:
    """The calls in a module that write a file, each as text."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        texts = [value.value for value in ast.walk(node) if isinstance(value, ast.Constant)]
        # What wave and zipfile open are members and streams.
        opens = (
            name == "open"
            and ast.unparse(node.func) not in ("wave.open", "archive.open")
            and any(isinstance(text, str) and text[:1] in ("w", "x") for text in texts)
        )
        saves = ast.unparse(node.func) in ("torch.save", "np.save", "numpy.save")
        to_file = name in WRITERS or (name == "to_csv" and node.args)
        if opens or saves or to_file:
            found.append(ast.unparse(node)[:80])
    return found


@pytest.mark.parametrize("path", [*CORE.rglob("*.py"), *LAB.rglob("*.py")], ids=lambda path: path.name)
def test_nothing_writes_over_a_file_in_place(path: Path) -> None:
    name = str(path.relative_to(CORE if path.is_relative_to(CORE) else LAB.parent))
    assert name in EXPLAINED or not writes(path), "write it with atomic.replacing, or say in EXPLAINED why not"


def test_every_explanation_is_of_something() -> None:
    for name in EXPLAINED:
        assert writes(LAB.parent / name if name.startswith("lab/") else CORE / name), f"{name} needs none any more"
