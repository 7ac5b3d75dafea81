"""Jobs: what has ended does not stay in memory for ever."""

import threading

import jobs


def test_of_jobs_that_ended_only_the_latest_are_kept_and_none_that_runs() -> None:
    go = threading.Event()
    jobs.start("long", "Long", lambda progress: go.wait(30))
    n = 3 * jobs.MOST_ENDED
    for number in range(n):
        jobs.start(f"short {number}", "Short", lambda progress: bytes(10)).finished.wait(30)
    kept = [number for number in range(n) if jobs.find(f"short {number}") is not None]
    assert kept == list(range(n - 1 - jobs.MOST_ENDED, n))
    again = f"short {kept[5]}"
    jobs.start(again, "Short", lambda progress: bytes(10)).finished.wait(30)
    for number in range(n, n + 10):
        jobs.start(f"short {number}", "Short", lambda progress: bytes(10)).finished.wait(30)
    assert jobs.find(again) is not None, "one that was done again is as new as that"
    running = jobs.find("long")
    assert running is not None and running.running
    go.set()
    assert running.finished.wait(30)
