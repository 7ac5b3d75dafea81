"""The last line of defence: what went wrong is said in a sentence where it happened, never as a traceback."""

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec

import streamlit as st

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
