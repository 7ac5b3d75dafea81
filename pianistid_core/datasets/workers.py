"""Work shared out to processes, which goes on in this one when they die."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

__all__ = ["shared_out"]

Task = TypeVar("Task")
Result = TypeVar("Result")

_log = logging.getLogger(__name__)

_QUEUED_PER_WORKER = 4


def shared_out(work: Callable[[Task], Result], tasks: Iterable[Task], workers: int) -> Iterator[tuple[Task, Result]]:
    """Gives each task, in order, with what `work` makes of it in one of as many processes as `workers`.

    Only a few tasks are held at a time, so `tasks` may be endless. What a process that died (out of memory, say) has
    left undone is done here; what `work` raises is raised. `work`, tasks and results must be picklable.
    """
    if workers <= 1:
        yield from ((task, work(task)) for task in tasks)
        return
    waiting: deque[tuple[Task, Future[Result] | None]] = deque()
    # Spawned, not forked: the caller may have threads or a GPU.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for task in tasks:
            waiting.append((task, _submitted(pool, work, task)))
            if len(waiting) > workers * _QUEUED_PER_WORKER:
                yield _done(work, *waiting.popleft())
        while waiting:
            yield _done(work, *waiting.popleft())


def _submitted(pool: ProcessPoolExecutor, work: Callable[[Task], Result], task: Task) -> "Future[Result] | None":
    try:
        return pool.submit(work, task)
    except BrokenProcessPool:
        return None


def _done(work: Callable[[Task], Result], task: Task, future: "Future[Result] | None") -> tuple[Task, Result]:
    try:
        if future is not None:
            return task, future.result()
    except BrokenProcessPool as error:
        _log.warning("a process ended early (%s); its work is done in this one", error)
    return task, work(task)
