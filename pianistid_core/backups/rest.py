"""What a run says of itself once it is elsewhere: nothing of processes of another machine.

A run that trains or waits comes into a backup, and out of one, as interrupted at its last checkpoint.
"""

from collections.abc import Mapping
from typing import Any

from pianistid_core.runs import STATUSES, WAITING, RunState

TRAINED = "it was training when it was packed; resume to go on from its last checkpoint"
WAITED = "it waited in the queue when it was packed; start it, or queue it again"
_ENDED = frozenset(STATUSES) - {"running", "queued"}
_PROCESSES = ("process", "child", "supervisor")


def at_rest(said: Mapping[str, Any], now: RunState | None = None) -> dict[str, Any] | None:
    """What a run's state.json says elsewhere; None when it may stay as it is.

    `now` is what is true of the run where it is packed; what comes from elsewhere has nothing but its word.
    """
    ended = said.get("status") in _ENDED
    if ended and all(said.get(key) is None for key in _PROCESSES):
        return None
    kept = {**{key: value for key, value in said.items() if key not in _PROCESSES}, "process": None}
    if ended:
        return kept
    if said.get("reason") == WAITING:
        return {**kept, "status": "interrupted", "reason": WAITED}
    if now is not None and now.status in _ENDED:
        return {**kept, "status": now.status, "reason": now.reason}
    return {**kept, "status": "interrupted", "reason": TRAINED}
