"""Logins that failed, for the audit log: a line for each name now and then, however often somebody tries."""

import time
from collections.abc import Callable

_QUIET_S = 600.0
SOMEBODY = "somebody"  # a name that nobody has may be a password in the wrong place, and is not written down


class RefusedLogins:
    """How often each name failed since its last line; names that nobody has are counted as one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: dict[str, int] = {}
        self._noted: dict[str, float] = {}

    def count(self, name: str | None) -> int:
        """Counts a failure of an account's name, or of none; gives how many a line shall tell of now, most often 0."""
        name, now = name or SOMEBODY, self._clock()
        self._failed[name] = self._failed.get(name, 0) + 1
        if now - self._noted.get(name, -_QUIET_S) < _QUIET_S:
            return 0
        self._noted[name] = now
        return self._failed.pop(name)
