"""Small tables: how the data root's CSV files and what stands in them are read and written."""

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from pathlib import Path

from pianistid_core.errors import DataError
from pianistid_core.names import stays_inside

__all__ = [
    "TableError",
    "csv_bytes",
    "harmless_cell",
    "is_track",
    "listed",
    "plain_cell",
    "rows",
    "seconds",
    "whole_number",
]

_MAX_CSV_BYTES = 256 << 20
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class TableError(DataError):
    """A CSV that cannot be read; the caller says which."""


def rows(
    path: Path, *, required: Sequence[str] = (), one_of: Sequence[Sequence[str]] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields (line number, row by column name) of a CSV; an unnamed first column is called ''.

    All of `required` must be columns, and of each group in `one_of` at least one, in any case.

    Raises: TableError, whose message names the line.
    """
    try:
        if path.stat().st_size > _MAX_CSV_BYTES:
            raise TableError(f"larger than {_MAX_CSV_BYTES >> 20} MB, which no table of recordings is")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(f"not UTF-8 text (byte {error.start}); save it as a UTF-8 CSV") from error
    except OSError as error:
        raise TableError(f"cannot be read: {error.strerror}") from error
    reader = csv.reader(StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        absent = [name for name in required if name not in header]
        if absent:
            raise TableError(f"line 1: no column {listed(absent)}; it has {listed(header) or 'none'}")
        for group in one_of:
            if not {name.lower() for name in header} & set(group):
                raise TableError(f"line 1: no column {' or '.join(group)}; it has {listed(header) or 'none'}")
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise TableError(f"line {reader.line_num}: {len(cells)} columns where the header has {len(header)}")
            yield reader.line_num, dict(zip(header, (cell.strip() for cell in cells), strict=True))
    except csv.Error as error:
        raise TableError(f"line {reader.line_num}: {error}") from error


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """The bytes of a CSV as pandas would write it."""
    text = StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()


def harmless_cell(text: str) -> str:
    """Text for a cell that no spreadsheet takes for a formula: an apostrophe is put before what begins as one.

    `plain_cell` takes it away again, whatever the text was.
    """
    return f"'{text}" if _begins_a_formula(text) else text


def plain_cell(cell: str) -> str:
    """The text that `harmless_cell` was given."""
    return cell[1:] if cell.startswith("'") and _begins_a_formula(cell) else cell


def _begins_a_formula(text: str) -> bool:
    return text.lstrip("'").startswith(_FORMULA_STARTS)


def is_track(track: str) -> bool:
    """Whether a track reads source/recording and stays inside the folder that it is looked up in."""
    source, slash, recording = track.partition("/")
    return bool(slash) and stays_inside(source) and stays_inside(recording)


def seconds(value: object) -> float | None:
    """A number or its text as seconds; None when it is not a finite number of at least 0."""
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number >= 0 else None


def whole_number(text: str) -> int | None:
    """A whole number from 0, in plain digits; None when it is anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def listed(names: Iterable[str]) -> str:
    """Names for a message, quoted."""
    return ", ".join(repr(name) for name in names)
