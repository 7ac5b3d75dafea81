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
from dataclasses import dataclass

from streamlit import config
from streamlit.runtime import Runtime
from streamlit.runtime.app_session import AppSession
from streamlit.runtime.scriptrunner import get_script_run_ctx

log = logging.getLogger(__name__)

LOOK_S = 5.0
GIVE_BACK_S = 60.0  # while pages are drawn; Streamlit itself collects nothing here (lab/.streamlit/config.toml)
KEEP_S = 60.0  # a page whose connection broke comes back within seconds


@dataclass
class _Page:
    """The session of a page, and since when it has had no browser (monotonic seconds; None while it has one)."""

    session: AppSession
    gone_since: float | None = None


_PAGES: dict[str, _Page] = {}


def remember_session() -> None:
    """Keeps in mind the session that draws this page, so that it is ended when its browser is gone for good."""
    context = get_script_run_ctx(suppress_warning=True)
    if context is None or context.session_id in _PAGES or not Runtime.exists():
        return
    session = Runtime.instance().get_app_session(context.session_id)
    if session is not None:
        _PAGES[context.session_id] = _Page(session)


@asynccontextmanager
async def kept() -> AsyncIterator[None]:
    """While the server runs, sessions that nobody comes back to are ended, and their memory goes back."""
    task = asyncio.create_task(_keep(), name="housekeeping")
    try:
        yield
    finally:
        task.cancel()


async def _keep() -> None:
    given_back = time.monotonic()
    while True:
        await asyncio.sleep(min(LOOK_S, _streamlit_keeps_s() / 8))
        now = time.monotonic()
        try:
            if end_the_gone(now) or (_PAGES and now - given_back >= GIVE_BACK_S):
                given_back = now
                await asyncio.to_thread(give_back)
        except Exception:  # a fault of one look must not end all later ones: memory would never be given back again
            log.exception("housekeeping failed; it tries again")


def end_the_gone(now: float) -> int:
    """Ends the sessions that have had no browser for long enough, and gives how many; for the server's event loop."""
    if not Runtime.exists():
        return 0
    runtime, n_ended = Runtime.instance(), 0
    keep_s = min(KEEP_S, _streamlit_keeps_s() / 2)
    for id, page in list(_PAGES.items()):
        if runtime.is_active_session(id):
            page.gone_since = None
        elif page.gone_since is None:
            page.gone_since = now
        elif now - page.gone_since >= keep_s:
            runtime.close_session(id)
            # Streamlit's loop holds on to the session that it served last, until it serves another.
            page.session.session_state.clear()
            del _PAGES[id]
            n_ended += 1
    return n_ended


def _streamlit_keeps_s() -> float:
    """How long Streamlit itself finds a closed page's session; after that it only keeps it."""
    return float(config.get_option("server.disconnectedSessionTTL"))


def give_back() -> None:
    """Collects what only points at itself, and hands free memory back to the system where its library can."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # not every C library has it
        if trim is not None:
            trim(0)
