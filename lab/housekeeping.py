"""What pages that were closed leave behind is given back: uploads, state, open files, memory.

Streamlit keeps a closed page's session for a while, in case its browser comes back, and then until some later session
happens to end: the last ones of a day keep their uploads all night. What it frees the allocator keeps as well.
"""

import asyncio
import ctypes
import gc
import logging
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from streamlit import config
from streamlit.runtime import Runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

log = logging.getLogger(__name__)

LOOK_S = 5.0
KEEP_S = 60.0  # a page whose connection broke comes back within seconds

# The sessions that drew a page, and since when each has had no browser (monotonic seconds; None while it has one).
_SESSIONS: dict[str, float | None] = {}


def remember_session() -> None:
    """Keeps in mind the session that draws this page, so that it is ended when its browser is gone for good."""
    context = get_script_run_ctx(suppress_warning=True)
    if context is not None:
        _SESSIONS.setdefault(context.session_id, None)


@asynccontextmanager
async def kept() -> AsyncIterator[None]:
    """While the server runs, sessions that nobody comes back to are ended, and their memory goes back."""
    task = asyncio.create_task(_keep(), name="housekeeping")
    try:
        yield
    finally:
        task.cancel()


async def _keep() -> None:
    while True:
        await asyncio.sleep(LOOK_S)
        try:
            if end_the_gone(time.monotonic()):
                await asyncio.to_thread(give_back)
        except Exception:
            log.exception("housekeeping failed; it tries again")


def end_the_gone(now: float) -> int:
    """Ends the sessions that have had no browser for long enough, and gives how many; for the server's event loop."""
    if not Runtime.exists():
        return 0
    runtime, n_ended = Runtime.instance(), 0
    # Later than that Streamlit itself would find them no more, and yet keep them.
    keep_s = min(KEEP_S, 0.5 * float(config.get_option("server.disconnectedSessionTTL")))
    for session, gone_since in list(_SESSIONS.items()):
        if runtime.is_active_session(session):
            _SESSIONS[session] = None
        elif gone_since is None:
            _SESSIONS[session] = now
        elif now - gone_since >= keep_s:
            runtime.close_session(session)
            del _SESSIONS[session]
            n_ended += 1
    return n_ended


def give_back() -> None:
    """Collects what only points at itself, and hands free memory back to the system where its library can."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # not every C library has it
        if trim is not None:
            trim(0)
