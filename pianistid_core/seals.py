"""The seal of a checkpoint: its own SHA-256 at the end of the file, so that a single changed bit is found.

torch reads a checkpoint without looking at the check sums of its zip archive: of a thousand changed bits it notices a
handful, and the others become other weights. The seal is the archive's comment, which every reader of zips passes
over, torch in any version and program among them:

    ... the archive ... | end record, with the comment's length | "pianistid seal sha256 " | 64 hexadecimal digits

The digits are those of every byte before them. What was hit in the seal itself is still known as a seal: by most of
its mark, or by the length of the comment. A published checkpoint has none, and can only be told to be whole.
"""

import hashlib
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pianistid_core.errors import DamagedCheckpointError

_MARK = b"pianistid seal sha256 "
_DIGITS = 64
_SEAL_BYTES = len(_MARK) + _DIGITS
_END = struct.Struct("<4s16sH")  # the end record of a zip: its signature, what is in it, the length of the comment
_END_SIGNATURE, _FIRST_SIGNATURE = b"PK\x05\x06", b"PK\x03\x04"
_MOST_COMMENT = 0xFFFF
_BLOCK_BYTES = 1 << 20
# A seal whose mark was hit itself is still taken for one; chance does not come that near to its 176 bits.
_CHANGED_BITS = 32


class _Sealed:
    """What is written to it goes on to a file, but for the last bytes: they may be the archive's end record."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hash, self._kept = file, hashlib.sha256(), b""
        self.failed: OSError | None = None

    def write(self, data: bytes) -> int:
        whole = memoryview(data).cast("B")
        kept = self._kept + bytes(whole[-_END.size :])
        go_on, self._kept = kept[: -_END.size], kept[-_END.size :]
        self._put(go_on)
        self._put(whole[: max(0, len(whole) - _END.size)])
        return len(whole)

    def flush(self) -> None:
        with self._noting_failure():
            self._file.flush()

    def close(self) -> None:
        if len(self._kept) != _END.size or not self._kept.startswith(_END_SIGNATURE) or self._kept[-2:] != b"\0\0":
            raise ValueError("only a zip archive without a comment can be sealed")
        signature, about, _ = _END.unpack(self._kept)
        self._put(_END.pack(signature, about, _SEAL_BYTES) + _MARK)
        self._file.write(self._hash.hexdigest().encode())

    def _put(self, data: bytes | memoryview) -> None:
        with self._noting_failure():
            self._file.write(data)
        self._hash.update(data)

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failed = error
            raise


@contextmanager
def sealing(file: BinaryIO) -> Iterator[BinaryIO]:
    """A file to `torch.save` into, from beginning to end; when the block ends well, `file` holds it with its seal.

    Raises
    ------
    OSError
        When `file` cannot be written, also where torch has made an error of its own of it.
    ValueError
        When what was written is no zip archive.
    """
    sealed = _Sealed(file)
    try:
        yield sealed  # type: ignore[misc]  # of a file, torch asks for these methods alone
    except Exception as error:
        if sealed.failed is not None and sealed.failed is not error:
            raise sealed.failed from error
        raise
    sealed.close()


def verify(path: Path) -> bool:
    """Whether a checkpoint has a seal, and it is whole; False for one that was never sealed, as published ones are.

    Reads the file once, a megabyte at a time. Of a file without a seal, no more is looked at than whether it ends as
    a zip archive does; what is no archive at all is left to who reads it.

    Raises
    ------
    DamagedCheckpointError
        When a bit of a sealed file is not as it was written, or the file was cut short.
    OSError
        When it cannot be read.
    """
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if _has_seal(file, size):
            if not _is_whole(file, size):
                raise _damaged(path, "its checksum is not that of what it holds")
            return True
        file.seek(0)
        if file.read(len(_FIRST_SIGNATURE)) == _FIRST_SIGNATURE and not _ends_as_zip(file, size):
            raise _damaged(path, "it does not end where it should")
    return False


def _has_seal(file: BinaryIO, size: int) -> bool:
    if size < _SEAL_BYTES:
        return False
    file.seek(size - _SEAL_BYTES)
    came = int.from_bytes(file.read(len(_MARK)), "big")
    return (came ^ int.from_bytes(_MARK, "big")).bit_count() <= _CHANGED_BITS


def _is_whole(file: BinaryIO, size: int) -> bool:
    digest, left = hashlib.sha256(), size - _DIGITS
    file.seek(0)
    while left:
        block = file.read(min(_BLOCK_BYTES, left))
        if not block:  # it became shorter meanwhile
            return False
        digest.update(block)
        left -= len(block)
    return file.read() == digest.hexdigest().encode()


def _ends_as_zip(file: BinaryIO, size: int) -> bool:
    """Whether an end record stands where its own comment makes it the end of the file, and was never a seal's."""
    file.seek(max(0, size - _END.size - _MOST_COMMENT))
    tail = file.read()
    at = tail.rfind(_END_SIGNATURE)
    while at >= 0:
        left = len(tail) - at - _END.size
        if left >= 0 and left == _END.unpack_from(tail, at)[2]:
            return left != _SEAL_BYTES
        at = tail.rfind(_END_SIGNATURE, 0, at)
    return False


def _damaged(path: Path, why: str) -> DamagedCheckpointError:
    return DamagedCheckpointError(f"{Path(path).name} is damaged: {why}; copy it again, or take another")
