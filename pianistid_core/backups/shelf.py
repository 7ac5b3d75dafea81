"""The backups of a data root that lie in it, in `backups/`: which there are, and their names."""

import re
import time
from dataclasses import dataclass
from pathlib import Path

from pianistid_core.atomic import sweep
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import DataRootError
from pianistid_core.names import is_plain_name

_NAME = re.compile(r"[^/\\]+\.zip", re.IGNORECASE)


@dataclass(frozen=True)
class Kept:
    """A backup on the shelf; `made` is when its file was written, in seconds since 1970."""

    name: str
    path: Path
    bytes: int
    made: float


def shelf_of(root: DataRoot) -> Path:
    """The folder of a data root's backups, which is in no backup itself."""
    return root.checkpoints_dir.parent / "backups"


def kept_backups(root: DataRoot) -> list[Kept]:
    """The backups of a data root, the latest first."""
    found = []
    folder = shelf_of(root)
    for path in sorted(folder.glob("*.zip")) if folder.is_dir() else ():
        if is_plain_name(path.name) and path.is_file() and not path.is_symlink():
            status = path.stat()
            found.append(Kept(path.name, path, status.st_size, status.st_mtime))
    return sorted(found, key=lambda one: (-one.made, one.name))


def place_for(root: DataRoot, what: str = "lab") -> Path:
    """Where the next backup goes; makes the folder, and sweeps from it what killed ones have left.

    Raises: DataRootError when the folder cannot be made.
    """
    folder = shelf_of(root)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataRootError(f"{folder} cannot be made: {error.strerror or error}; name another file") from error
    sweep(folder)
    stamp, number = time.strftime("%Y-%m-%d-%H%M%S"), 1
    while (path := folder / f"{what}-{stamp}{'' if number == 1 else f'-{number}'}.zip").exists():
        number += 1
    return path


def remove(root: DataRoot, name: str) -> None:
    """Removes a backup from the shelf for good.

    Raises: DataRootError when there is none of that name, or it cannot be removed.
    """
    if not _NAME.fullmatch(name) or name not in {one.name for one in kept_backups(root)}:
        raise DataRootError(f"there is no backup {name[:80]!a}; it may have been removed already")
    try:
        (shelf_of(root) / name).unlink()
    except OSError as error:
        raise DataRootError(f"the backup {name} cannot be removed: {error.strerror or error}") from error
