"""A little disk space kept back while a run trains, so that on a full disk it can still say that the disk is full.

A run that cannot write its state stands as running until its process is gone, and then as one that ended without a
word. The space lies in the run's own folder, in a file that is taken away just before the last words are written.
"""

import contextlib
import os
from pathlib import Path

RESERVE_FILE = ".reserve"
RESERVE_BYTES = 128 << 10


def keep_back(folder: Path) -> None:
    """Takes the space. Raises: OSError when there is none."""
    try:
        # Nothing that a file system could make smaller, or leave out.
        (folder / RESERVE_FILE).write_bytes(os.urandom(RESERVE_BYTES))
    except OSError:
        give_back(folder)
        raise


def give_back(folder: Path) -> None:
    """Frees the space, if it was taken; a folder that is gone or read-only is none to write last words in."""
    with contextlib.suppress(OSError):
        (folder / RESERVE_FILE).unlink(missing_ok=True)
