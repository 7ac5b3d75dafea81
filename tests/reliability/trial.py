"""One trial of a hostile file: in a process of its own, so that what it takes, and how it ends, can be told."""

import json
import os
import resource
import select
import signal
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pianistid_core.errors import PianistIDError

__all__ = ["Outcome", "report", "tried"]

_LONGEST_SENTENCE = 600
_PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: `end` is read, refused, unclear, uncaught, crashed or hung; seconds are of CPU."""

    name: str
    end: str
    said: str
    seconds: float
    mb: float

    @property
    def is_clean(self) -> bool:
        return self.end in ("read", "refused")


def tried(name: str, work: Callable[[], str | None], *, limit_s: float, limit_mb: int = 0) -> Outcome:
    """Does `work` in a child; it gives None, or a sentence, or raises what it raises.

    `limit_mb` of memory beyond what this process has are the child's bounds, where it is given.
    """
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        _in_child(work, sending, limit_s, limit_mb)
    os.close(sending)
    told = _told(receiving, 30 * limit_s)
    if told is None:
        os.kill(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    # What the child had to begin with comes first: it is less than this process has, for pages of files come later.
    before_kb, _, words = (told or b"0\n").partition(b"\n")
    end, said = ("hung", "") if told is None else ("", "") if not words else json.loads(words)
    if os.WIFSIGNALED(status) and end != "hung":
        number = os.WTERMSIG(status)
        end, said = ("hung", "") if number == signal.SIGXCPU else ("crashed", signal.Signals(number).name)
    if end == "refused" and (len(said) > _LONGEST_SENTENCE or len(said) < 20 or not said.isprintable()):
        end = "unclear"
    mb = max(0, used.ru_maxrss - int(before_kb)) / 1000
    return Outcome(name, end or "crashed", said, used.ru_utime + used.ru_stime, mb)


def _in_child(work: Callable[[], str | None], sending: int, limit_s: float, limit_mb: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.write(sending, f"{int(Path('/proc/self/statm').read_text().split()[1]) * _PAGE_KB}\n".encode())
    resource.setrlimit(resource.RLIMIT_CPU, (int(limit_s) + 1, int(limit_s) + 3))
    if limit_mb:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * _PAGE_KB * 1024 + limit_mb * 1_000_000
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    try:
        said = work()
        told = ("read", "") if said is None else ("refused", said)
    except PianistIDError as error:
        told = ("refused", str(error))
    except BaseException:
        told = ("uncaught", traceback.format_exc()[-1500:])
    os.write(sending, json.dumps(told).encode()[:60_000])
    os._exit(0)


def _told(receiving: int, longest_s: float) -> bytes | None:
    """What the child said before it ended; None when it did not end."""
    pieces = b""
    with os.fdopen(receiving, "rb", buffering=0) as file:
        while select.select([file], [], [], longest_s)[0]:
            piece = file.read(65_536)
            if not piece:
                return pieces
            pieces += piece
    return None


def report(
    what: str, outcomes: Iterable[Outcome], *, most_s: float, most_mb: float, read_s: float | None = None
) -> bool:
    """Prints the line of a table, and what broke the promise; whether it was kept.

    `read_s` are allowed, instead of `most_s`, for what is read and not refused.
    """
    all_of = list(outcomes)
    slowest, largest = max(all_of, key=lambda one: one.seconds), max(all_of, key=lambda one: one.mb)
    counts = {
        end: sum(one.end == end for one in all_of)
        for end in ("read", "refused", "unclear", "uncaught", "crashed", "hung")
    }
    said = ", ".join(f"{count} {end}" for end, count in counts.items())
    print(f"{what}: {len(all_of)} tried: {said}")
    print(
        f"  slowest {slowest.seconds:.2f} s of CPU ({slowest.name}), most memory {largest.mb:.0f} MB ({largest.name})"
    )
    refused_s = max((one.seconds for one in all_of if one.end == "refused"), default=0.0)
    print(f"  slowest refusal {refused_s:.2f} s of CPU")
    allowed_s = {"read": most_s if read_s is None else read_s}
    broken = [
        one for one in all_of if not one.is_clean or one.seconds > allowed_s.get(one.end, most_s) or one.mb > most_mb
    ]
    for one in broken:
        print(f"  BROKEN {one.name}: {one.end}, {one.seconds:.2f} s, {one.mb:.0f} MB: {one.said[-600:]}")
    return not broken
