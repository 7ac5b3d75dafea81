"""Work that takes longer than a click: imports, demo data, checks. It goes on when its page is left or refreshed.

A job is a thread of this server with its progress; what it makes is on disk, so nothing else need outlive the server.
Training is not a job: it has a process of its own (`pianistid_core.launch`).
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

import acts
from pianistid_core.errors import PianistIDError
from wording import plain, sentence

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
Work = Callable[[Progress], Any]

MOST_ENDED = 20

_STARTING = threading.Lock()


@dataclass
class Job:
    """One piece of work: how far it is, and in the end its result or what went wrong."""

    title: str
    done: int = 0
    total: int = 0
    result: Any = None
    error: str | None = None
    finished: threading.Event = field(default_factory=threading.Event)

    @property
    def running(self) -> bool:
        """Whether it still works."""
        return not self.finished.is_set()

    @property
    def share(self) -> float:
        """How much of it is done, 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 0.0


@st.cache_resource(show_spinner=False)
def _jobs() -> dict[str, Job]:
    return {}


def find(key: str) -> Job | None:
    """The job of that name, running or just finished."""
    return _jobs().get(key)


def forget(key: str) -> None:
    """Drops a finished job."""
    _jobs().pop(key, None)


def start(key: str, title: str, work: Work, *, about: str = "") -> Job:
    """Starts work in the background, unless the job of that name is running already.

    The audit log gets a line now and one when it has ended, which name what it is `about`.
    """
    act = acts.now()
    with _STARTING:  # a click in each of two tabs is one job
        found = find(key)
        if found is not None and found.running:
            acts.tell(about, f"{found.title} is still going on")
            return found
        forget(key)  # so that it stands last, as the newest
        ended = [old for old, one in list(_jobs().items()) if not one.running]
        for old in ended[: max(0, len(ended) - MOST_ENDED)]:  # a page that never came back for its result
            forget(old)
        job = _jobs()[key] = Job(title)
    if act is not None:
        act.tell(about, begun=True)
    threading.Thread(target=_work, args=(job, work, act, about), name=f"job {key}").start()
    return job


def _work(job: Job, work: Work, act: acts.Act | None, about: str) -> None:
    def progress(done: int, total: int) -> None:
        job.done, job.total = done, total

    job.error = "It ended unexpectedly. The server's log says why."
    try:
        job.result = work(progress)
        job.error = None
    except PianistIDError as error:
        job.error = str(error)
    except OSError as error:
        job.error = f"The system refused: {error.strerror or error}."
        log.exception("%s failed", job.title)
    finally:
        if act is not None:
            act.tell(about, job.error or "")
        job.finished.set()


def draw(key: str) -> Job | None:
    """Shows a job while it runs, and its error when it failed; gives the job once it is done."""
    job = find(key)
    if job is None:
        return None
    if job.running:
        _watch(key)
        return None
    if job.error is not None:
        st.error(sentence(job.error), icon=":material/error:")
    return job


@st.fragment(run_every=0.5, key="job")
def _watch(key: str) -> None:
    job = find(key)
    if job is None or not job.running:
        st.rerun()
    count = f" ({job.done:,} of {job.total:,})" if job.total > 1 else ""
    st.progress(job.share, text=plain(job.title + count))
