"""The last line of defence: what went wrong is said in a sentence where it happened, never as a traceback."""

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from pianistid_core.errors import PianistIDError
from wording import one_line, sentence

log = logging.getLogger(__name__)
P = ParamSpec("P")


@contextmanager
def guarded() -> Iterator[None]:
    """Draws an error of the core, or of the file system, in place of what could not be drawn."""
    try:
        yield
    except PianistIDError as error:
        st.error(sentence(error), icon=":material/error:")
    except OSError as error:
        log.exception("the system refused")
        what = f" ({one_line(error.filename)})" if error.filename else ""
        reason = error.strerror or str(error)
        st.error(sentence(f"the system refused: {reason}{what}; look at the disk and reload"), icon=":material/error:")


def guard(draw: Callable[P, None]) -> Callable[P, None]:
    """The same for a part that refreshes itself, which runs outside of its page."""

    @functools.wraps(draw)
    def safely(*args: P.args, **kwargs: P.kwargs) -> None:
        with guarded():
            draw(*args, **kwargs)

    return safely


def whole(callback: Callable[P, None]) -> Callable[P, None]:
    """A callback that is not broken off when the next request comes while it works.

    Streamlit looks for requests whenever a callback touches the session's state, drops the rest of the callback, and
    never calls it again: what was typed just before a click elsewhere, or clicked as a live part refreshed, was lost.
    The request is taken up after the callback.
    """

    @functools.wraps(callback)
    def undisturbed(*args: P.args, **kwargs: P.kwargs) -> None:
        context = get_script_run_ctx(suppress_warning=True)
        requests = context.script_requests if context is not None else None
        if requests is None or "on_scriptrunner_yield" in vars(requests):
            callback(*args, **kwargs)
            return
        vars(requests)["on_scriptrunner_yield"] = lambda: None
        try:
            callback(*args, **kwargs)
        finally:
            del vars(requests)["on_scriptrunner_yield"]

    return undisturbed
