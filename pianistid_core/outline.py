"""A checkpoint in outline: what its file says that it holds, looked at before torch opens it and takes memory.

torch reads a checkpoint as data and believes it: a file of 2 kB can name a tensor of 10^12 numbers, one that reaches
beyond what is stored, or members that unpack to a gigabyte. So the zip is checked first: stored members only, that lie
one behind the other and together are no larger than the file. Then its pickle is gone through with stand-ins that
build nothing: plain data, and dense tensors of which every number is stored in the file. What else a pickle can do is
refused by its name.
"""

import codecs
import io
import os
import pickle
import struct
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar

from pianistid_core.errors import CheckpointError, DamagedCheckpointError

MAX_BYTES = 4 << 30
"""The largest checkpoint that is read; the configs' largest network and its optimiser take 1.1 GB."""

# The largest network of the configs, a resnet50 for each concept, takes 350 kB and 104,000 steps.
_MAX_PICKLE_BYTES, _MAX_STEPS = 1_000_000, 300_000
_MAX_DIRECTORY_BYTES = 8 << 20
_MAX_MEMBERS = 20_000
_MAX_VALUES, _MAX_DEPTH = 200_000, 40

_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_MOST_COMMENT = 0xFFFF
_ENCRYPTED = 0x1
_BLOCK_BYTES = 1 << 20

# Bytes of a number, by the name that torch gives to the storage.
_ITEM_BYTES = {
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "IntStorage": 4,
    "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1,
}  # fmt: skip
_NUMPY_BYTES = {
    "f2": 2,
    "f4": 4,
    "f8": 8,
    "i1": 1,
    "i2": 2,
    "i4": 4,
    "i8": 8,
    "u1": 1,
    "u2": 2,
    "u4": 4,
    "u8": 8,
    "b1": 1,
}
# What NumPy pickles of the type of a plain number, after its byte order.
_PLAIN_NUMPY = (None, None, None, -1, -1, 0)
_OPCODES = (
    pickle.PROTO, pickle.STOP, pickle.GLOBAL, pickle.REDUCE, pickle.BUILD, pickle.BINPERSID, pickle.MARK,
    pickle.EMPTY_DICT, pickle.EMPTY_LIST, pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3,
    pickle.APPEND, pickle.APPENDS, pickle.SETITEM, pickle.SETITEMS, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE,
    pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT, pickle.BINUNICODE,
    pickle.SHORT_BINSTRING, pickle.BINGET, pickle.LONG_BINGET, pickle.BINPUT, pickle.LONG_BINPUT,
)  # fmt: skip


@dataclass(frozen=True)
class _Member:
    """Where the bytes of a file in the archive lie, and their check sum."""

    start: int
    size: int
    crc: int


class _Refused(Exception):
    """Why a checkpoint is refused; `check_outline` makes the sentence of it."""


class _Strange(_Refused):
    """A name that a checkpoint of weights and numbers has no use for."""


def check_outline(file: BinaryIO, name: str, *, sealed: bool = False) -> None:
    """Goes through an open checkpoint without building anything of it; `sealed` says that its bytes have been proven.

    Raises
    ------
    CheckpointError
        When torch could not read it safely, or not at all; `name` is what the file is called.
    DamagedCheckpointError
        When a member of it is not as it was written.
    """
    try:
        members = _members(file)
        if not sealed:
            _check_sums(file, members, name)
        _check_pickle(_bytes_of(file, members["data.pkl"]), members)
    except _Strange as error:
        raise CheckpointError(
            f"{name} holds more than weights and numbers ({error}), and could run code, so it is not opened"
        ) from error
    except _Refused as error:
        raise CheckpointError(f"{name} is not a checkpoint that can be used: {error}") from error
    except (
        pickle.UnpicklingError,
        struct.error,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        EOFError,
    ) as error:
        raise CheckpointError(f"{name} is damaged or not a checkpoint; copy or train it again") from error
    file.seek(0)


# --- the archive -----------------------------------------------------------------------------------------------------


def _members(file: BinaryIO) -> dict[str, _Member]:
    """The files in the archive, by their names without the folder that holds them all."""
    size = file.seek(0, os.SEEK_END)
    if size > MAX_BYTES:
        raise _Refused(f"it has {size / 1e9:.1f} GB, and at most {MAX_BYTES / 1e9:.1f} GB are read")
    start, end, count = _directory(file, size)
    file.seek(start)
    directory = file.read(end - start)
    found: dict[str, tuple[int, int, int]] = {}
    position = 0
    for _ in range(count):
        if directory[position : position + 4] != b"PK\1\2":
            raise _Refused("its list of members is damaged")
        fields = _ENTRY.unpack_from(directory, position)
        flags, method, crc, packed, unpacked = fields[3], fields[4], *fields[7:10]
        name_bytes, extra_bytes, comment_bytes, offset = *fields[10:13], fields[16]
        position += _ENTRY.size
        member = directory[position : position + name_bytes].decode()
        position += name_bytes + extra_bytes + comment_bytes
        if method != 0 or packed != unpacked or flags & _ENCRYPTED:
            raise _Refused("a member is compressed or encrypted, which torch writes none of; save it again with torch")
        if member.casefold() in found:
            raise _Refused("a member is in it more than once")
        found[member.casefold()] = (offset, packed, crc)
    if position != len(directory):
        raise _Refused("its list of members is longer than it says")
    return _without_folder(_placed(file, found, start))


def _directory(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Where the list of members begins and ends, and how many there are; both of its records must say the same."""
    file.seek(0)
    if file.read(4) != b"PK\3\4":
        raise _Refused("it is no archive, as torch has written them since 2020; save it again with a newer torch")
    file.seek(max(0, size - _END.size - _MOST_COMMENT))
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size or at + _END.size + _END.unpack_from(tail, at)[7] != len(tail):
        raise _Refused("it is damaged or was cut short; copy or train it again")
    _, _, _, _, count, directory_bytes, start, _ = _END.unpack_from(tail, at)
    end = size - len(tail) + at
    locator = end - _LOCATOR_64.size
    if locator >= _END_64.size:
        file.seek(locator - _END_64.size)
        record, pointer = file.read(_END_64.size), file.read(_LOCATOR_64.size)
        if pointer[:4] == b"PK\6\7":
            end = locator - _END_64.size
            said = _END_64.unpack(record)
            if (
                record[:4] != b"PK\6\6"
                or _LOCATOR_64.unpack(pointer)[2] != end
                or said[7:] != (count, directory_bytes, start)
            ):
                raise _Refused("its two lists of members differ")
    if count > _MAX_MEMBERS or directory_bytes > _MAX_DIRECTORY_BYTES:
        raise _Refused(f"it claims {count} members, and at most {_MAX_MEMBERS} are read")
    if start + directory_bytes != end:
        raise _Refused("its list of members is not where it says")
    return start, end, count


def _placed(file: BinaryIO, found: Mapping[str, tuple[int, int, int]], end: int) -> dict[str, _Member]:
    """The members with the place of their bytes, none of which belongs to two of them."""
    ordered = sorted(found.items(), key=lambda item: item[1][0])
    offsets = [offset for _, (offset, _, _) in ordered] + [end]
    placed: dict[str, _Member] = {}
    for (name, (offset, size, crc)), following in zip(ordered, offsets[1:], strict=True):
        file.seek(offset)
        header = file.read(_LOCAL.size)
        if header[:4] != b"PK\3\4":
            raise _Refused("a member is not where the list says")
        fields = _LOCAL.unpack(header)
        start = offset + _LOCAL.size + fields[9] + fields[10]
        if start + size > following:
            raise _Refused("its members overlap")
        placed[name] = _Member(start, size, crc)
    return placed


def _without_folder(members: Mapping[str, _Member]) -> dict[str, _Member]:
    folders = {name.partition("/")[0] for name in members}
    bare = {name.partition("/")[2]: member for name, member in members.items()}
    if len(folders) != 1 or "data.pkl" not in bare:
        raise _Refused("it is an archive, but none that torch wrote")
    return bare


def _check_sums(file: BinaryIO, members: Mapping[str, _Member], name: str) -> None:
    for inner, member in members.items():
        file.seek(member.start)
        left, crc = member.size, 0
        while left:
            block = file.read(min(_BLOCK_BYTES, left))
            if not block:
                raise EOFError
            crc, left = zlib.crc32(block, crc), left - len(block)
        if crc != member.crc:
            raise DamagedCheckpointError(
                f"{name} is damaged: {ascii(inner)[:60]} in it is not as it was written; copy it again, or take another"
            )


def _bytes_of(file: BinaryIO, member: _Member) -> bytes:
    if member.size > _MAX_PICKLE_BYTES:
        raise _Refused(f"beside its weights it holds {member.size / 1e6:.1f} MB, over the 1 MB allowed")
    file.seek(member.start)
    return file.read(member.size)


# --- the pickle ------------------------------------------------------------------------------------------------------


def _check_pickle(data: bytes, members: Mapping[str, _Member]) -> None:
    sizes = {name.removeprefix("data/"): member.size for name, member in members.items() if name.startswith("data/")}
    _Values().count(_Outline(data, sizes).load(), 0)


class _Values:
    """Counts what plain data holds, however often the same list or dict stands in it."""

    def __init__(self) -> None:
        self._seen = 0

    def count(self, value: Any, depth: int) -> None:
        self._seen += 1
        if self._seen > _MAX_VALUES:
            raise _Refused(f"it holds more than {_MAX_VALUES:,} values")
        if depth > _MAX_DEPTH:
            raise _Refused(f"its data are nested more than {_MAX_DEPTH} deep")
        if isinstance(value, dict):
            for key, inner in value.items():
                self.count(key, depth + 1)
                self.count(inner, depth + 1)
        elif isinstance(value, list | tuple):
            for inner in value:
                self.count(inner, depth + 1)


@dataclass(frozen=True)
class _Kind:
    """The kind of number in a storage."""

    name: str
    item_bytes: int


@dataclass(frozen=True)
class _Storage:
    """Stands in for a storage of so many numbers."""

    n: int


@dataclass(frozen=True)
class _Tensor:
    """Stands in for a tensor."""


@dataclass(frozen=True)
class _NumpyType:
    """Stands in for the type of a NumPy number."""

    item_bytes: int


class _Outline(pickle._Unpickler):
    """Goes through a pickle as torch does, with nothing behind its names but stand-ins."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {}

    def __init__(self, data: bytes, sizes: Mapping[str, int]) -> None:
        super().__init__(io.BytesIO(data))
        self._sizes = sizes
        self._known: dict[str, tuple[_Kind, int]] = {}
        self.steps = 0

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _ITEM_BYTES:
            return _Kind(name, _ITEM_BYTES[name])
        known = _NAMES.get(f"{module}.{name}")
        if known is None:
            raise _Strange(ascii(f"{module}.{name}")[1:-1][:80])
        return known

    def persistent_load(self, pid: Any) -> _Storage:
        """A storage, all of whose numbers are in the file; the same one each time it is named."""
        tag, kind, key, place, n = pid
        if tag != "storage" or not isinstance(kind, _Kind) or not isinstance(key, str) or not isinstance(place, str):
            raise ValueError("not a storage")
        if type(n) is not int or n < 0 or n * kind.item_bytes != self._sizes.get(key.casefold()):
            raise _Refused("it names more numbers than it holds")
        if self._known.setdefault(key, (kind, n)) != (kind, n):
            raise _Refused("it names the same numbers twice, as of different kinds")
        return _Storage(n)

    def load_build(self) -> None:
        """What is set on an object that is there: modules note the versions of their weights, NumPy a byte order."""
        stack: list[Any] = self.stack  # type: ignore[attr-defined]
        state, built = stack.pop(), stack[-1]
        if type(built) is OrderedDict and isinstance(state, dict) and set(state) == {"_metadata"}:
            return
        is_numpy = isinstance(built, _NumpyType) and isinstance(state, tuple) and len(state) == 8
        if is_numpy and state[0] == 3 and state[1] in ("<", "|") and state[2:] == _PLAIN_NUMPY:
            return
        raise _Strange("attributes of an object")


def _counted(step: Callable[[Any], None]) -> Callable[[Any], None]:
    def counted(outline: _Outline) -> None:
        outline.steps += 1
        if outline.steps > _MAX_STEPS:
            raise _Refused(f"its data take more than {_MAX_STEPS:,} steps to read")
        step(outline)

    return counted


_Outline.dispatch = {code[0]: _counted(pickle._Unpickler.dispatch[code[0]]) for code in _OPCODES}
_Outline.dispatch[pickle.BUILD[0]] = _Outline.load_build


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, *_: Any) -> _Tensor:
    numbers = (offset, *size, *stride)
    if (
        not isinstance(storage, _Storage)
        or len(size) != len(stride)
        or any(type(n) is not int or n < 0 for n in numbers)
    ):
        raise ValueError("not a tensor")
    if 0 in size:
        return _Tensor()
    last = offset
    for step, length in sorted(zip(stride, size, strict=True)):
        # A stride no longer than what lies within it gives the same number twice, to 10^12 of them.
        if length > 1 and step <= last - offset:
            raise _Refused("a tensor in it names the same numbers several times")
        last += step * (length - 1)
    if last >= storage.n:
        raise _Refused("a tensor in it reaches beyond its numbers")
    return _Tensor()


def _parameter(data: Any, grad: Any, hooks: Any) -> _Tensor:
    if not isinstance(data, _Tensor):
        raise ValueError("not a tensor")
    return data


def _numpy_type(code: Any, *_: Any) -> _NumpyType:
    if code not in _NUMPY_BYTES:
        raise _Strange(f"numpy {ascii(code)[:20]}")
    return _NumpyType(_NUMPY_BYTES[code])


def _numpy_number(kind: Any, data: Any) -> float:
    if not isinstance(kind, _NumpyType) or not isinstance(data, bytes) or len(data) != kind.item_bytes:
        raise ValueError("not a number")
    return 0.0


def _encoded(text: Any, encoding: Any) -> bytes:
    if encoding != "latin1":
        raise _Strange(f"an encoding {ascii(encoding)[:20]}")
    return codecs.encode(text, "latin1")


def _ordered() -> OrderedDict[Any, Any]:
    return OrderedDict()


_NAMES: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "numpy.dtype": _numpy_type,
    "numpy.core.multiarray.scalar": _numpy_number,
    "numpy._core.multiarray.scalar": _numpy_number,
    "_codecs.encode": _encoded,
}
