"""Arrays and texts that may be larger than memory: appended to on disk, then mapped.

An array is a flat .npy file. Texts are two of them: all in one as UTF-8 (`<name>.npy`), and where each begins
(`<name>_starts.npy`).
"""

import json
import zlib
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from pianistid_core.atomic import write_atomically
from pianistid_core.strict_json import parse_json

__all__ = ["ArrayFile", "Strings", "Texts", "TextsFile", "checksum", "mapped", "read_sealed", "write_sealed"]

_HEADER_BYTES = 128


class ArrayFile:
    """A flat .npy file under construction, of which only the length is kept in memory; close it to make it whole."""

    def __init__(self, path: Path, kind: str) -> None:
        self._dtype = np.dtype(kind)
        self._length = 0
        self._file = open(path, "wb")  # noqa: SIM115
        self._file.write(self._header())

    def append(self, values: npt.ArrayLike) -> None:
        """Adds values at the end. Raises: OSError."""
        array = np.ascontiguousarray(values, self._dtype)
        self._file.write(array.data)
        self._length += len(array)

    def close(self) -> None:
        """Writes the length into the file and closes it. Raises: OSError."""
        self._file.seek(0)
        self._file.write(self._header())
        self._file.close()

    def abandon(self) -> None:
        """Closes the file as it is."""
        self._file.close()

    def _header(self) -> bytes:
        # NumPy's own format, always as long, so that it can be written again once the length is known.
        text = f"{{'descr': '{self._dtype.str}', 'fortran_order': False, 'shape': ({self._length},), }}"
        room = _HEADER_BYTES - 10
        return b"\x93NUMPY\x01\x00" + room.to_bytes(2, "little") + text.encode().ljust(room - 1) + b"\n"


class TextsFile:
    """Texts under construction."""

    def __init__(self, folder: Path, name: str) -> None:
        self._text, self._starts = (
            ArrayFile(folder / f"{name}.npy", "u1"),
            ArrayFile(folder / f"{name}_starts.npy", "i8"),
        )
        self._end = 0
        self._starts.append([0])

    def append(self, texts: Iterable[str]) -> None:
        """Adds texts at the end. Raises: OSError."""
        encoded = [text.encode("utf-8", "surrogateescape") for text in texts]
        ends = self._end + np.cumsum([len(text) for text in encoded], dtype=np.int64)
        self._text.append(np.frombuffer(b"".join(encoded), np.uint8))
        self._starts.append(ends)
        self._end = int(ends[-1]) if len(ends) else self._end

    def close(self) -> None:
        """Makes the files whole. Raises: OSError."""
        self._text.close()
        self._starts.close()

    def abandon(self) -> None:
        """Closes the files as they are."""
        self._text.abandon()
        self._starts.abandon()


class Strings(Sequence[str]):
    """Strings that are made when they are asked for; a slice of them is a tuple."""

    @abstractmethod
    def _at(self, i: int) -> str: ...

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        places = range(len(self))[index]
        return self._at(places) if isinstance(places, int) else tuple(map(self._at, places))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self[:3]))}{', ...' if len(self) > 3 else ''})"


class Texts(Strings):
    """Texts that a `TextsFile` has written, mapped."""

    def __init__(self, folder: Path, name: str) -> None:
        self._text, self._starts = mapped(folder / f"{name}.npy", "u1"), mapped(folder / f"{name}_starts.npy", "i8")
        if not len(self._starts) or self._starts[-1] != len(self._text):
            raise ValueError(f"{name} does not end where its last text does")

    def __len__(self) -> int:
        return len(self._starts) - 1

    def _at(self, i: int) -> str:
        text = self._text[self._starts[i] : self._starts[i + 1]]
        return text.tobytes().decode("utf-8", "surrogateescape")


def mapped(path: Path, kind: str) -> npt.NDArray[Any]:
    """A flat .npy file as a read-only array whose memory is the file. Raises: OSError, ValueError."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.dtype != np.dtype(kind) or array.ndim != 1:
        raise ValueError(f"{path.name} is {array.dtype} {array.shape}")
    # A plain view: slicing a memmap costs four times as much, and gives nothing more.
    view: npt.NDArray[Any] = array.view(np.ndarray)
    return view


def checksum(path: Path) -> int:
    """The CRC-32 of a file. Raises: OSError."""
    total = 0
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            total = zlib.crc32(piece, total)
    return total


def write_sealed(path: Path, facts: dict[str, Any]) -> None:
    """Writes plain data as JSON, with a checksum of it. Raises: OSError."""
    write_atomically(path, json.dumps({"checksum": _seal(facts), "facts": facts}).encode())


def read_sealed(path: Path) -> dict[str, Any]:
    """What `write_sealed` has written. Raises: OSError; ValueError, KeyError or TypeError when it is damaged."""
    sealed = parse_json(path.read_bytes())
    facts: dict[str, Any] = sealed["facts"]
    if sealed["checksum"] != _seal(facts):
        raise ValueError(f"{path.name} is not what was written")
    return facts


def _seal(facts: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(facts).encode())
