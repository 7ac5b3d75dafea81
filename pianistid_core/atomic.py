"""Files that are whole or not there: written aside, flushed, renamed into place, and the folder flushed as well.

What a killed process leaves aside names that process, and is swept away by `sweep`.
"""

import errno
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import psutil

_ASIDE = re.compile(r"\..+\.(\d+)\.\d+\.tmp")
# How file systems say that they have no flushing of folders.
_NO_FLUSHING = (errno.EINVAL, errno.EBADF, errno.ENOTSUP)


@contextmanager
def replacing(path: Path, *, prove: Callable[[Path], object] | None = None, durable: bool = True) -> Iterator[BinaryIO]:
    """A binary file that takes the place of `path` when the block ends well, and vanishes when it does not.

    `prove` is given the file, flushed and closed, before it takes that place, and keeps it out by raising. What need
    not outlive a loss of power is written without flushing when `durable` is false; a reader never sees a part of it
    either.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        if prove is not None:
            prove(aside)
        os.replace(aside, path)
    finally:
        # After a failure; where the folder has become read-only or is gone, the failure says so itself.
        with suppress(OSError):
            aside.unlink(missing_ok=True)
    if durable:
        flush_folder(path.parent)


def write_atomically(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Writes `data` so that a reader sees the old file or the new one, never a part; see `replacing`."""
    with replacing(path, durable=durable) as file:
        file.write(data)


def flush_folder(folder: Path) -> None:
    """Makes sure that the names in a folder outlive a loss of power, where the system has a way to."""
    if os.name == "nt":  # no folder can be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FLUSHING:
            raise
    finally:
        os.close(handle)


def sweep(folder: Path) -> list[str]:
    """Removes the half-written files that dead processes left in a folder and those in it; gives their names.

    Those of a living process stay, and whatever was not written by `replacing`.
    """
    swept = []
    for path in sorted(folder.rglob(".*.tmp")):
        match = _ASIDE.fullmatch(path.name)
        if match is None or psutil.pid_exists(int(match[1])):
            continue
        with suppress(OSError):
            path.unlink()
            swept.append(path.name)
    return swept
