"""Failed logins, counted by name and by address: after some, the next try has to wait, longer each time."""

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_SHORTEST_S = 5.0
_LONGEST_S = 300.0
_FORGOTTEN_S = 3600.0
_MOST = 10_000
# How many failures pass before waiting begins: of one name from one address, of one address, of one name from anywhere.
# The last is generous, so that a stranger cannot keep somebody out for long by failing in that person's name. A browser
# that has logged in by a name before is counted by itself, so that strangers cannot keep it out at all.
_FREE = {"both": 5, "browser": 5, "address": 20, "name": 50}
_LONGEST_OF = {"both": _LONGEST_S, "browser": _LONGEST_S, "address": _LONGEST_S, "name": 30.0}


@dataclass
class _Failures:
    number: int = 0
    last: float = 0.0
    waits_until: float = 0.0


class Attempts:
    """The failures of the last hour; the oldest are dropped when there are too many to remember."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: OrderedDict[tuple[str, ...], _Failures] = OrderedDict()

    def begin(self, name: str, address: str, browser: str = "") -> float:
        """Counts a try as failed until it is known to be good; gives the seconds to wait when it may not be made yet.

        It is counted before the password is looked at, so that many tries at once in one name gain nothing. Of an
        address it counts when it has failed: a class behind one address logs in at once. `browser` is what is known of
        one that has logged in by this name before.
        """
        now = self._clock()
        with self._lock:
            keys = _keys(name, address, browser)
            waits = max((self._failures[key].waits_until for key in keys if key in self._failures), default=0.0) - now
            if waits > 0:
                return waits
            for key in keys:
                if key[0] != "address":
                    self._count(key, now)
        return 0.0

    def failed(self, name: str, address: str, browser: str = "") -> None:
        """Counts a try that has failed, or that nobody waited for, against the address that it came from."""
        now = self._clock()
        with self._lock:
            for key in _keys(name, address, browser):
                if key[0] == "address":
                    self._count(key, now)

    def succeeded(self, name: str, address: str, browser: str = "") -> None:
        """Forgets the failures of a name from an address, and takes back what `begin` counted of the name."""
        with self._lock:
            for key in _keys(name, address, browser):
                found = self._failures.get(key)
                if found is None or key[0] == "address":
                    continue
                found.number -= 1
                if key[0] in ("both", "browser") or found.number <= 0:
                    del self._failures[key]

    def __len__(self) -> int:
        return len(self._failures)

    def _count(self, key: tuple[str, ...], now: float) -> None:
        found = self._failures.pop(key, None)
        if found is None or now - found.last > _FORGOTTEN_S:
            found = _Failures()
        found.number += 1
        found.last = now
        over = found.number - _FREE[key[0]]
        if over >= 0:
            found.waits_until = now + min(_SHORTEST_S * 2.0 ** min(over, 30), _LONGEST_OF[key[0]])
        self._failures[key] = found
        while len(self._failures) > _MOST:
            self._failures.popitem(last=False)


def _keys(name: str, address: str, browser: str) -> tuple[tuple[str, ...], ...]:
    name, near = name.strip().casefold()[:200], _neighbourhood(address)
    if browser:
        return (("browser", name, browser),)
    return ("both", name, near), ("address", near), ("name", name)


def _neighbourhood(address: str) -> str:
    """An address; of an IPv6 address the half that one household has to itself."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:100]
    if parsed.version == 6:
        return str(ipaddress.ip_network((parsed, 64), strict=False).network_address)
    return str(parsed)
