"""Metrics as they grow: nothing is read twice, nothing half-written is shown, and a look costs the same for ever."""

import errno
import json
import os
import threading
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pianistid_core.metrics_log import MAX_LINE_BYTES, Curves, MetricsLog, append_row, last_row, shared_log
from pianistid_core.runs import Run


def line(epoch: int, **values: Any) -> bytes:
    return json.dumps({"epoch": epoch, **values}).encode() + b"\n"


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def test_what_is_not_there_has_no_rows(path: Path) -> None:
    log = MetricsLog(path)
    assert log.refresh() == Curves()
    append(path, line(1, test_loss=2.0))
    assert log.refresh().last == {"epoch": 1, "test_loss": 2.0}
    path.unlink()
    assert log.refresh() == Curves()


def test_only_what_was_appended_is_read(path: Path) -> None:
    log = MetricsLog(path)
    append(path, b"".join(line(epoch, test_loss=1 / epoch) for epoch in range(1, 401)))
    first = log.refresh()
    before = log.bytes_read
    assert log.refresh() is first
    append(path, line(401, test_loss=0.0))
    assert log.refresh().n_rows == 401
    assert log.bytes_read - before < 1000 and log.reread == 0


@pytest.mark.parametrize("before", [0, 1, 2, 900])
@pytest.mark.parametrize("torn", [b"", b"{", b'{"epoch": 9, "wor', b"x" * 40_000])
def test_a_torn_last_line_is_taken_away_before_the_next_row(path: Path, before: int, torn: bytes) -> None:
    whole = b"".join(line(epoch, words="y" * 20) for epoch in range(before))
    append(path, whole + torn)
    assert MetricsLog(path).refresh().n_rows == before
    append_row(path, {"epoch": before, "test_loss": 0.5})
    assert path.read_bytes() == whole + b'{"epoch": %d, "test_loss": 0.5}\n' % before


def test_a_row_is_one_write_at_the_end_whole_or_not_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append_row(path, {"epoch": 1})
    really, written = os.write, []

    def filling(handle: int, data: bytes) -> int:
        written.append(bytes(data))
        if len(written) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return really(handle, data if len(written) == 1 else data[:4])  # a short write is how a disk fills

    monkeypatch.setattr(os, "write", filling)
    append_row(path, {"epoch": 2})
    assert written == [line(2)]
    with pytest.raises(OSError, match="No space left"):
        append_row(path, {"epoch": 3})
    monkeypatch.undo()
    assert path.read_bytes() == line(1) + line(2)
    append_row(path, {"epoch": 3})
    assert MetricsLog(path).refresh().n_rows == 3


def work_of_a_refresh(path: Path, n_rows: int) -> int:
    """The bytes read to see one more row in a file of so many."""
    append(path, b"".join(b'{"epoch": %d}\n' % epoch for epoch in range(1, n_rows + 1)))
    log = MetricsLog(path)
    assert log.refresh().n_rows == n_rows
    before = log.bytes_read
    append(path, line(n_rows + 1))
    curves = log.refresh()
    assert curves.n_rows == n_rows + 1 and len(curves.rows) <= 1000
    return log.bytes_read - before


def test_a_refresh_at_row_one_million_costs_what_it_costs_at_row_one_thousand(tmp_path: Path) -> None:
    early = work_of_a_refresh(tmp_path / "early", 1_000)
    late = work_of_a_refresh(tmp_path / "late", 1_000_000)
    assert late <= 1.5 * early


def test_the_last_row_is_found_from_the_end(path: Path) -> None:
    assert last_row(path) == {}
    append(path, b"".join(line(epoch, words="x" * 200) for epoch in range(1, 1001)) + b'{"epoch": 1001, "wo')
    assert last_row(path)["epoch"] == 1000
    append(path, b"\n" + b"damaged\n" * 20_000)
    assert last_row(path)["epoch"] == 1000


def test_a_file_without_lines_is_not_read_whole_for_its_last_row(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(200 << 20)
    tracemalloc.start()
    try:
        assert last_row(path) == {}
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()


rows = st.lists(
    st.one_of(
        st.builds(line, st.integers(1, 10**6), test_loss=st.floats(0, 9), test_recording_accuracy=st.floats(0, 1)),
        st.sampled_from([b"{\n", b"[1]\n", b'{"epoch": "one"}\n', b'{"epoch": true}\n', b"\xff\xfe\n", b"NaN\n"]),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(rows, st.lists(st.integers(0, 4000), max_size=8), st.binary(max_size=5).filter(lambda end: b"\n" not in end))
def test_any_way_of_appending_gives_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, rows: list[bytes], cuts: list[int], torn: bytes
) -> None:
    folder = tmp_path_factory.mktemp("appended")
    data = b"".join(rows) + torn
    (folder / "whole").write_bytes(data)
    log = MetricsLog(folder / "pieces", max_rows=8)
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, stop in pairwise(places):
        append(folder / "pieces", data[start:stop])
        log.refresh()
    assert log.refresh() == MetricsLog(folder / "whole", max_rows=8).refresh()
    assert log.reread == 0
    run = Run(folder / "experiment" / "run")
    run.path.mkdir(parents=True)
    run.metrics_path.write_bytes(data)
    curves = log.refresh()
    assert curves.n_rows == len(run.metrics()) and dict(curves.last) == dict(last_row(run.metrics_path))


def test_a_torn_last_line_waits_until_it_is_whole(path: Path) -> None:
    log = MetricsLog(path)
    append(path, line(1) + line(2, test_loss=0.5)[:-8])
    assert log.refresh().n_rows == 1
    append(path, line(2, test_loss=0.5)[-8:])
    curves = log.refresh()
    assert curves.last == {"epoch": 2, "test_loss": 0.5} and curves.damaged == 0


@pytest.mark.parametrize("damage", ['"x"', "true", "[1]", "1e400", "9" * 400, "NaN", '"1"'])
def test_what_is_no_figure_is_none(damage: str, path: Path) -> None:
    append(path, f'{{"epoch": 1, "test_loss": {damage}, "seconds": {damage}, "lr": 0.1}}\n'.encode())
    curves = MetricsLog(path).refresh()
    assert curves.last == {"epoch": 1, "test_loss": None, "seconds": None, "lr": 0.1}
    assert curves.seconds == 0 and curves.best == {}


@pytest.mark.parametrize("epoch", ["-3", "true", "1.0", "99999999999999999999", "null"])
def test_a_row_of_no_epoch_is_passed_over(epoch: str, path: Path) -> None:
    append(path, f'{{"epoch": {epoch}, "test_loss": 1.0}}\n{{"epoch": 1, "seconds": 1e308}}\n'.encode())
    curves = MetricsLog(path).refresh()
    assert (curves.n_rows, curves.damaged) == (1, 1) and curves.seconds < 1e13


def test_damaged_lines_are_passed_over_and_counted(path: Path) -> None:
    append(path, line(1) + b"{\n" + line(2) + b"\n[]\n" + b'{"epoch": 3, "test_loss": NaN}\n')
    curves = MetricsLog(path).refresh()
    assert [row["epoch"] for row in curves.rows] == [1, 2, 3] and curves.damaged == 2
    assert curves.last["test_loss"] is None and "test_loss" not in curves.best


def test_a_line_without_end_is_not_kept_in_memory(path: Path) -> None:
    log = MetricsLog(path)
    append(path, line(1))
    for _ in range(3):
        append(path, b"x" * (MAX_LINE_BYTES + 1))
        before = log.bytes_read
        assert log.refresh().n_rows == 1
        assert log.bytes_read - before < 2 * MAX_LINE_BYTES
    append(path, b"\n" + line(2))
    curves = log.refresh()
    assert (curves.n_rows, curves.damaged, curves.last["epoch"]) == (2, 1, 2)


def test_a_run_that_is_taken_up_again_is_read_anew(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "experiment", "run")
    log = MetricsLog(run.metrics_path)
    for epoch in (1, 2, 3):
        run.append_metrics({"epoch": epoch, "test_loss": 1.0})
    assert log.refresh().n_rows == 3
    run.truncate_metrics(1)
    run.append_metrics({"epoch": 2, "test_loss": 0.5})
    run.append_metrics({"epoch": 3, "test_loss": 0.6})
    curves = log.refresh()
    assert [row["test_loss"] for row in curves.rows] == [1.0, 0.5, 0.6]
    assert curves.best["test_loss"] == 0.5 and curves.best_epoch["test_loss"] == 2


def test_a_file_written_anew_in_place_is_noticed(path: Path) -> None:
    log = MetricsLog(path)
    append(path, line(1, test_loss=1.0) + line(2, test_loss=1.0))
    log.refresh()
    with path.open("r+b") as file:  # the same file, and no shorter than before
        file.write(line(1, test_loss=2.0) + line(2, test_loss=2.0) + line(3, test_loss=2.0))
    assert [row["test_loss"] for row in log.refresh().rows] == [2.0, 2.0, 2.0]
    os.truncate(path, 0)
    assert log.refresh().n_rows == 0


@pytest.mark.parametrize("n", [1, 2, 9, 10, 11, 99, 1000])
def test_rows_are_thinned_evenly_with_the_first_and_the_last(path: Path, n: int) -> None:
    append(path, b"".join(line(epoch) for epoch in range(1, n + 1)))
    curves = MetricsLog(path, max_rows=10).refresh()
    epochs = [row["epoch"] for row in curves.rows]
    assert epochs[0] == 1 and epochs[-1] == n and len(epochs) == min(n, len(epochs)) <= 10
    assert len(epochs) >= min(n, 5)
    steps = {b - a for a, b in pairwise(epochs[:-1])}
    assert len(steps) <= 1


def test_the_best_of_each_metric_is_of_all_rows(path: Path) -> None:
    losses = [3.0, 0.5, 2.0, 0.5, 1.0] * 20
    append(
        path,
        b"".join(
            line(epoch, test_loss=loss, test_recording_accuracy=1 - loss / 4, lr=loss, seconds=2)
            for epoch, loss in enumerate(losses, start=1)
        ),
    )
    curves = MetricsLog(path, max_rows=4).refresh()
    assert curves.best == {"test_loss": 0.5, "test_recording_accuracy": 0.875}
    assert curves.best_epoch == {"test_loss": 2, "test_recording_accuracy": 2}
    assert curves.seconds == 200


def test_numbers_beyond_any_axis_are_no_best(path: Path) -> None:
    append(path, b'{"epoch": 1, "test_loss": -1e999, "test_recording_accuracy": 1' + b"0" * 400 + b"}\n")
    curves = MetricsLog(path).refresh()
    assert curves.n_rows == 1 and curves.best == {}


def test_many_threads_see_whole_curves(path: Path) -> None:
    log = shared_log(path)
    assert shared_log(path) is log
    wrong: list[Curves] = []
    done = threading.Event()

    def look() -> None:
        seen = 0
        while not done.is_set():
            curves = log.refresh()
            if curves.n_rows < seen or (curves.n_rows and curves.last["epoch"] != curves.n_rows):
                wrong.append(curves)
            seen = curves.n_rows

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for epoch in range(1, 301):
        append(path, line(epoch))
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong and log.refresh().n_rows == 300
