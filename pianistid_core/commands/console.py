"""What every command shares: options, plain tables, JSON, progress and log lines.

Answers go to standard output; progress, log and errors go to standard error. Names come from files, so nothing of
them reaches the terminal that is not a printable character.
"""

import json
import logging
import math
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pianistid_core.datasets.root import DataRoot
from pianistid_core.names import printable
from pianistid_core.run_log import LineFormatter

_LOG_EVERY_S = 30.0
_WIDEST_CELL = 60


def add_data_root(parser: ArgumentParser) -> None:
    """Adds --data-root."""
    parser.add_argument(
        "--data-root",
        metavar="FOLDER",
        help="where clips, splits and runs lie (default: $PIANISTID_HOME, else ./workspace)",
    )


def add_json(parser: ArgumentParser) -> None:
    """Adds --json."""
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")


def open_root(path: str | None) -> DataRoot:
    """The data root that --data-root or its default names. Raises: DataRootError."""
    return DataRoot.open(path)


# --- answers ---------------------------------------------------------------------------------------------------------


def say(text: str = "") -> None:
    """Prints a line of the answer."""
    sys.stdout.write(printable(text) + "\n")


def say_json(data: object) -> None:
    """Prints the whole answer as one JSON document; numbers that are not finite become null."""
    sys.stdout.write(json.dumps(_finite(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def complain(text: str) -> None:
    """Prints a line to standard error."""
    sys.stderr.write(printable(text) + "\n")


def say_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a table in columns; numbers stand to the right, what is missing is a dash."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(text) for text in column) for column in zip(headers, *cells, strict=True)]
    to_right = [
        all(isinstance(row[i], int | float) or row[i] is None for row in rows) and bool(rows)
        for i in range(len(headers))
    ]
    for line in ([printable(header) for header in headers], *cells):
        padded = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, to_right, strict=True)
        ]
        sys.stdout.write("  ".join(padded).rstrip() + "\n")


def count(number: int, noun: str, plural: str | None = None) -> str:
    """ "1 clip", "2,000 clips"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """ "2 h 05 min", "3 min 20 s", "12 s"."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}" if math.isfinite(value) else "-"
    text = printable(f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value))
    return text if len(text) <= _WIDEST_CELL else text[: _WIDEST_CELL - 1] + "…"


def _finite(data: Any) -> Any:
    if isinstance(data, float) and not math.isfinite(data):
        return None
    if isinstance(data, Mapping):
        return {str(key): _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return data


# --- progress and log ------------------------------------------------------------------------------------------------


class Progress:
    """Progress of named phases: a bar on a terminal, a line now and then anywhere else."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._on_terminal = sys.stderr.isatty()
        self._bar: Any = None
        self._phase = ""
        self._said = time.monotonic()

    def show(self, phase: str, done: int, total: int) -> None:
        """Says that `done` of `total` are done."""
        if self._on_terminal:
            self._draw(phase, done, total)
            return
        now = time.monotonic()
        if now - self._said > _LOG_EVERY_S:
            self._said = now
            complain(f"{phase}: {done:,} of {total:,} {self._unit}")

    def _draw(self, phase: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if self._bar is None or phase != self._phase or done < self._bar.n:
            self.close()
            self._bar = tqdm(total=total, desc=printable(phase), unit=f" {self._unit}", leave=False, dynamic_ncols=True)
            self._phase = phase
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


@contextmanager
def progress(unit: str) -> Iterator[Progress]:
    """A progress display for the length of a block."""
    shown = Progress(unit)
    try:
        yield shown
    finally:
        shown.close()


class _AboveTheBar(logging.Handler):
    """Writes log lines to standard error, above a progress bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        # An error without a traceback is raised as well, and ends the command with its sentence.
        if record.levelno >= logging.ERROR and not record.exc_info:
            return
        line = self.format(record)
        if sys.stderr.isatty():
            from tqdm import tqdm

            tqdm.write(line, file=sys.stderr)
        else:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()


@contextmanager
def logging_to_stderr(level: int) -> Iterator[None]:
    """Shows the package's log from `level` up for the length of a block."""
    package = logging.getLogger("pianistid_core")
    handler = _AboveTheBar(level)
    detailed = level < logging.WARNING
    handler.setFormatter(LineFormatter(stamped=detailed))
    before = package.level, package.propagate
    package.setLevel(min(package.level or level, level))
    package.propagate = False
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(before[0])
        package.propagate = before[1]
