"""How a training is asked to stop: by signal, or by a request in its run."""

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from pianistid_core.runs import Status, StopKind

ENDINGS: dict[StopKind, tuple[Status, str]] = {
    "save": ("stopped", "stopped on request; resume to go on"),
    "finish": ("finished", "finished early, on request"),
    "discard": ("stopped", "discarded on request"),
}


# As processes that train together tell each other; 0 is to go on.
_KINDS: tuple[StopKind, ...] = ("save", "finish", "discard")


def number_of(kind: StopKind | None) -> int:
    """A request to stop as a number, 0 for none."""
    return 0 if kind is None else 1 + _KINDS.index(kind)


def first_of(numbers: Iterable[int]) -> StopKind | None:
    """What several processes agree on, each of which was asked for the number it gives; None when all go on."""
    asked = min((number for number in numbers if number), default=None)
    return None if asked is None else _KINDS[asked - 1]


class Stop(Exception):
    """Raised between two batches when a stop was asked for."""

    def __init__(self, kind: StopKind) -> None:
        super().__init__(kind)
        self.kind = kind


@dataclass
class Signalled:
    """Whether SIGINT or SIGTERM came, and what they ask for."""

    kind: StopKind | None = None


@contextmanager
def on_signals() -> Iterator[Signalled]:
    """Turns SIGINT and SIGTERM into a request to save and stop; a second SIGINT interrupts at once."""
    signalled = Signalled()

    def handle(number: int, frame: FrameType | None) -> None:
        if signalled.kind is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        signalled.kind = "save"

    numbers = (signal.SIGINT, signal.SIGTERM)
    try:
        before = [signal.signal(number, handle) for number in numbers]
    except ValueError:  # not in the main thread: signals are somebody else's there
        yield signalled
        return
    try:
        yield signalled
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
