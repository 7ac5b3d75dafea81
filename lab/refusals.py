"""Refusals for the audit log: every one of a person at first, and then no more for a while, however often they try.

Whoever may only look is refused as often as a program can ask, and each line would push an older one out of the log.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

MOST_AN_HOUR = 100
_HOUR_S = 3600.0
_MOST_PEOPLE = 5_000
LAST_ONE = "further refusals of this person are left out for an hour"


class Refusals:
    """How many refusals of each person were written down within the last hour."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._written: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def line(self, whose: Hashable, why: str) -> str | None:
        """What is written down of a refusal: its sentence, which the last for a while ends otherwise; None for none."""
        now = self._clock()
        with self._lock:
            began, number = self._written.pop(whose, (now, 0))
            if now - began >= _HOUR_S:
                began, number = now, 0
            self._written[whose] = (began, number + 1)
            if len(self._written) > _MOST_PEOPLE:
                self._written.popitem(last=False)
        if number + 1 < MOST_AN_HOUR:
            return why
        return f"{why}; {LAST_ONE}" if number + 1 == MOST_AN_HOUR else None
