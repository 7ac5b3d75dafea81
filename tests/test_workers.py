"""Work shared out to processes: in order, a few at a time, and whole when a process dies."""

import multiprocessing
import os
from collections.abc import Iterator

import pytest

from pianistid_core.datasets.workers import shared_out


def doubled(number: int) -> int:
    return 2 * number


def deadly(number: int) -> int:
    """Kills the process that it is given to, but not this one."""
    if multiprocessing.parent_process() is not None:
        os._exit(1)
    return 2 * number


def refusing(number: int) -> int:
    raise ValueError(f"not {number}")


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order_with_their_tasks(workers: int) -> None:
    assert list(shared_out(doubled, range(30), workers)) == [(number, 2 * number) for number in range(30)]


@pytest.mark.parametrize("workers", [1, 2])
def test_no_tasks_no_results(workers: int) -> None:
    assert list(shared_out(doubled, [], workers)) == []


def test_what_dead_processes_left_undone_is_done_here(caplog: pytest.LogCaptureFixture) -> None:
    assert list(shared_out(deadly, range(30), 2)) == [(number, 2 * number) for number in range(30)]
    assert "ended early" in caplog.text


@pytest.mark.parametrize("workers", [1, 2])
def test_what_the_work_raises_is_raised(workers: int) -> None:
    with pytest.raises(ValueError, match="not 0"):
        list(shared_out(refusing, range(3), workers))


@pytest.mark.parametrize("workers", [1, 2])
def test_only_a_few_tasks_are_held(workers: int) -> None:
    taken = []

    def tasks() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    results = shared_out(doubled, tasks(), workers)
    next(results)
    assert len(taken) < 20
    results.close()  # type: ignore[attr-defined]
