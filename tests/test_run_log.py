"""What a run's log is written with; how it is read and followed is tested with the runs."""

import logging
import sys

from hypothesis import example, given, settings
from hypothesis import strategies as st

from pianistid_core.run_log import LineFormatter

FORGED = "Ada\n2026-11-27 12:00:00,000 ERROR all is lost"


def record(*values: object, message: str = "%s plays") -> logging.LogRecord:
    return logging.LogRecord("pianistid_core", logging.INFO, "file.py", 1, message, values, None)


@settings(deadline=None)
@given(st.text())
@example(FORGED)
@example("\x1b]0;a title\x07\x1b[31m")
@example("\udcff")
def test_no_name_brings_a_line_or_a_colour_of_its_own(name: str) -> None:
    line = LineFormatter().format(record(name))
    assert line.isprintable() and len(line.splitlines()) == 1
    line.encode()


def test_what_is_seen_stays_as_it_is() -> None:
    assert LineFormatter(stamped=False).format(record("Bill Evans, é 楽")) == "Bill Evans, é 楽 plays"
    assert LineFormatter().format(record("Ada")).endswith(" INFO Ada plays")


def test_a_traceback_keeps_its_lines() -> None:
    try:
        raise ValueError(FORGED)
    except ValueError:
        failed = record("Ada")
        failed.exc_info = sys.exc_info()
    lines = LineFormatter(stamped=False).format(failed).splitlines()
    assert lines[0] == "Ada plays" and lines[1] == "Traceback (most recent call last):"
