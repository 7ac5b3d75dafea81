"""A trainer's sign of life, given every few seconds from a thread of its own, and its log kept within bounds.

A trainer that was frozen, or that waits for a disk which does not answer, still has its process: only the missing sign
tells. The sign is counted from the boot of the machine, so that a clock that is set neither makes nor hides a silence.
It is written over the one before, which takes no room on a disk that is full.
"""

import io
import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from pianistid_core.atomic import replacing
from pianistid_core.processes import Moment, ProcessIdentity
from pianistid_core.strict_json import parse_json

log = logging.getLogger(__name__)

BEAT_FILE = "heartbeat"
BEAT_EVERY_S = 3.0
SILENT_AFTER_S = 20.0
# A trainer that warns at each batch for a month must not fill the disk.
MOST_LOG_BYTES = 64 << 20
KEPT_LOG_BYTES = 16 << 20
OLD_LOG = "log.old.txt"
_BYTES = 400
_COPIED_AT_ONCE = 1 << 20


@contextmanager
def beating(folder: Path) -> Iterator[None]:
    """Gives the sign of life of this process in a run's folder while the block lasts."""
    me, over = ProcessIdentity.of(), threading.Event()

    def beat() -> None:
        while True:
            try:
                _write(folder / BEAT_FILE, me)
                bound_log(folder / "log.txt")
            except OSError as error:  # the folder is gone or cannot be written, which the training will meet itself
                log.debug("no sign of life can be left in %s: %s", folder, error)
            if over.wait(BEAT_EVERY_S):
                return

    # Not waited for at the end: it may be held up by the disk, and so would be whoever waits.
    threading.Thread(target=beat, name="heartbeat", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def silent_s(folder: Path, process: ProcessIdentity) -> float | None:
    """For how many seconds a living trainer has given no sign; None while it does, or when it never gave one."""
    try:
        said = parse_json((folder / BEAT_FILE).read_bytes())
    except (OSError, ValueError):
        return None
    match said:
        case {"process": by, "moment": at} if ProcessIdentity.from_json(by) == process:
            moment = Moment.from_json(at)
            age_s = None if moment is None else moment.age_s()
            return age_s if age_s is not None and age_s > SILENT_AFTER_S else None
    return None


def bound_log(path: Path) -> None:
    """Begins a log anew that has grown too long: its end goes to `log.old.txt`, what was before is gone.

    Raises: OSError when the end cannot be kept; the log then stays as it is.
    """
    try:
        if path.stat().st_size <= MOST_LOG_BYTES:
            return
    except FileNotFoundError:
        return
    # Cut in place, for it is held open, to be appended to, by whoever writes it.
    with path.open("r+b") as file:
        file.seek(-KEPT_LOG_BYTES, os.SEEK_END)
        with replacing(path.with_name(OLD_LOG)) as kept:
            _copy(file, kept)
        # What was written while the copy was flushed and named belongs to it as well.
        with path.with_name(OLD_LOG).open("ab", buffering=0) as late:
            _copy(file, late)
            file.truncate(0)
    with path.open("ab") as file:
        file.write(f"(the log had grown to {MOST_LOG_BYTES >> 20} MB; its end is in {OLD_LOG})\n".encode())


def _copy(file: BinaryIO, kept: BinaryIO | io.FileIO) -> None:
    while data := file.read(_COPIED_AT_ONCE):
        kept.write(data)


def _write(path: Path, me: ProcessIdentity | None) -> None:
    said = json.dumps({"process": asdict(me) if me else None, "moment": asdict(Moment.now())})
    data = said.encode().ljust(_BYTES)
    number = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        os.write(number, data)
    finally:
        os.close(number)
