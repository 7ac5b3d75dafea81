"""Checkpoints made to break whoever reads them: code, lies about sizes, bombs, damage, and data of the wrong kind.

`cases(good)` makes them of the bytes of a checkpoint that this program wrote, each with what is to come of it.
"""

import collections
import io
import pickle
import random
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pianistid_core.config import to_dict
from pianistid_core.learning import Learner
from tiny import tiny_config

EXECUTED = "PIANISTID_EXECUTED"
"""The variable that names the file which code in a checkpoint would write."""


@dataclass(frozen=True)
class CheckpointCase:
    """The bytes of a file, and words of the sentence that refuses it; None when it is to be loaded."""

    name: str
    make: Callable[[], bytes]
    refusal: str | None


class Code:
    """Unpickled, it leaves a file where EXECUTED says."""

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open(__import__('os').environ[{EXECUTED!r}], 'w').close()",)


class Numbers:
    """A storage that a file claims to hold."""

    def __init__(self, key: str, n: int, kind: Any = torch.FloatStorage, place: str = "cpu") -> None:
        self.id = ("storage", kind, key, place, n)


class Tensor:
    """A tensor that a file claims to hold."""

    def __init__(self, numbers: Numbers, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> None:
        self.arguments = (numbers, offset, size, stride, False, collections.OrderedDict())

    def __reduce__(self) -> tuple[Any, ...]:
        return torch._utils._rebuild_tensor_v2, self.arguments


class Call:
    """Something called while it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


class _Pickler(pickle._Pickler):
    def persistent_id(self, value: Any) -> Any:
        return value.id if isinstance(value, Numbers) else None


def pickled(value: Any, protocol: int = 2) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, protocol).dump(value)
    return buffer.getvalue()


def archive(data: bytes, storages: Mapping[str, bytes] = {}, *, method: int = zipfile.ZIP_STORED) -> bytes:
    """An archive as torch writes it, around any pickle."""
    return zipped({"data.pkl": data, **{f"data/{key}": value for key, value in storages.items()}}, method=method)


def zipped(members: Mapping[str, bytes], *, method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as made:
        for name, value in ({"version": b"3\n", "byteorder": b"little"} | dict(members)).items():
            made.writestr(f"archive/{name}", value)
    return buffer.getvalue()


def saved(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def cases(good: bytes) -> list[CheckpointCase]:
    """Some 90 files, made of a good one."""
    content = torch.load(io.BytesIO(good), weights_only=True)
    parts = (_code(), _foreign(good, content), _archives(good), _tensors(content), _weights(content), _said(content))
    return [CheckpointCase(name, make, refusal) for part in parts for name, make, refusal in part]


_Row = tuple[str, Callable[[], bytes], str | None]
_MORE = "more than weights"
_DAMAGED = "damaged"


def _state(value: Any) -> dict[str, Any]:
    return {"model_state_dict": {"weight": value}, "epoch": 1}


def _code() -> Iterator[_Row]:
    yield "C01 code in an archive", lambda: archive(pickled({"model_state_dict": {}, "epoch": Code()})), _MORE
    yield "C01 code as a pickle", lambda: pickle.dumps(Code(), 2), "no archive"
    yield (
        "C01 code as torch wrote files before",
        (lambda: saved(_state(Code()), _use_new_zipfile_serialization=False)),
        "no archive",
    )
    yield "C01 code by a newer protocol", lambda: archive(pickled({"model_state_dict": {}, "e": Code()}, 5)), ""
    yield "C01 code by an old operation", lambda: archive(b"\x80\x02(S'exit'\nios\nsystem\n."), _DAMAGED
    yield "C01 os.system by name", lambda: archive(b"\x80\x02cos\nsystem\nq\0X\4\0\0\0exitq\1\x85R."), _MORE
    yield "C01 getattr of a name", lambda: archive(b"\x80\x02cbuiltins\ngetattr\nq\0."), _MORE
    yield "C01 an extension code", lambda: archive(b"\x80\x02\x82\x01."), _DAMAGED
    yield (
        "C01 attributes of a dict replaced",
        (lambda: archive(b"\x80\x02}X\x10\0\0\0model_state_dictccollections\nOrderedDict\n)R}X\5\0\0\0itemsK\1sbs.")),
        _MORE,
    )
    for name, call in {
        "a bytearray of 10^12": Call(bytearray, 10**12),
        "a tensor type of 10^12": Call(torch.FloatTensor, 10**12),
        "a set": {1, 2},
        "a device": torch.device("cpu"),
        "a size": torch.Size([10**9]),
        "a complex number": 1j,
    }.items():
        yield f"C01 {name}", (lambda call=call: archive(pickled(_state(call)))), _MORE  # type: ignore[misc]
    yield (
        "C01 a NumPy object",
        lambda: archive(pickled(_state(Call(_numpy_scalar(), np.dtype("O"), b"12345678")))),
        _MORE,
    )
    yield "C01 a NumPy record", lambda: archive(pickled(_state(np.zeros(1, [("a", "f8")])[0]))), _MORE
    yield "C01 a NumPy array", lambda: archive(pickled(_state(np.zeros(3)))), _MORE


def _numpy_scalar() -> Any:
    return np.float64(0).__reduce__()[0]


def _foreign(good: bytes, content: Mapping[str, Any]) -> Iterator[_Row]:
    foreign = {
        "empty": b"", "text": b"text", "MIDI": b"MThd\0\0\0\6\0\0\0\1\0\x60", "JSON": b"{}",
        "a zip's first bytes": b"PK\3\4", "noise": random.Random(0).randbytes(50_000), "zeros": bytes(50_000),
        "a pickle": pickle.dumps({}),
    }  # fmt: skip
    for name, data in foreign.items():
        yield f"C04 {name}", (lambda data=data: data), ""  # type: ignore[misc]
    yield "C04 a zip of something else", lambda: _zip_of({"readme.txt": b"hello"}), "none that torch wrote"
    yield "C04 two folders", lambda: _zip_of({"a/data.pkl": b"", "b/data.pkl": b""}), "none that torch wrote"
    yield "C04 as torch wrote files before", lambda: saved(content, _use_new_zipfile_serialization=False), "no archive"
    yield "C04 TorchScript", _torchscript, ""
    yield "C04 no pickle", lambda: zipped({"data/0": b""}), "none that torch wrote"
    yield "C04 an empty pickle", lambda: archive(b""), _DAMAGED
    yield "C04 a pickle of noise", lambda: archive(random.Random(1).randbytes(500)), _DAMAGED
    yield (
        "C04 of a newer torch",
        lambda: zipped({"data.pkl": pickled({"model_state_dict": {}}), "version": b"999\n"}),
        "",
    )
    yield "C04 a list", lambda: saved([1, 2]), "no model_state_dict"
    yield "C04 weights of another kind", lambda: saved({"model_state_dict": [1, 2]}), "no model_state_dict"
    for share in (1, 10, 50, 90, 99):
        yield f"C02 cut at {share} %", (lambda share=share: good[: len(good) * share // 100]), ""  # type: ignore[misc]
    yield "C02 a byte short", lambda: good[:-1], _DAMAGED
    yield "C02 a byte longer", lambda: good + b"\0", ""
    for number in range(8):
        yield f"C03 a bit flipped, {number}", (lambda number=number: _flipped(good, number)), ""  # type: ignore[misc]


def _flipped(good: bytes, seed: int) -> bytes:
    """One bit of the weights, in a file that has no seal."""
    plain = bytearray(saved(torch.load(io.BytesIO(good), weights_only=True)))
    with zipfile.ZipFile(io.BytesIO(plain)) as opened:
        member = max((m for m in opened.infolist() if "/data/" in m.filename), key=lambda member: member.file_size)
    at = member.header_offset + 200 + random.Random(seed).randrange(member.file_size - 200)
    plain[at] ^= 1 << seed % 8
    return bytes(plain)


def _zip_of(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, data in members.items():
            made.writestr(name, data)
    return buffer.getvalue()


def _torchscript() -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(torch.nn.Linear(1, 1), torch.zeros(1, 1)), buffer)
    return buffer.getvalue()


def _archives(good: bytes) -> Iterator[_Row]:
    """What a zip can lie about."""
    weights, plain = pickled(_state(Tensor(Numbers("0", 64), (64,), (1,)))), bytes(256)
    whole = archive(weights, {"0": plain})
    yield "C06 compressed", lambda: archive(weights, {"0": plain}, method=zipfile.ZIP_DEFLATED), "compressed"
    yield (
        "C06 200 MB of zeros in 200 kB",
        (
            lambda: archive(
                pickled(_state(Tensor(Numbers("0", 50_000_000), (50_000_000,), (1,)))),
                {"0": bytes(200_000_000)},
                method=zipfile.ZIP_DEFLATED,
            )
        ),
        "compressed",
    )
    yield "C06 bzip2", lambda: archive(weights, {"0": plain}, method=zipfile.ZIP_BZIP2), "compressed"
    yield "C06 LZMA", lambda: archive(weights, {"0": plain}, method=zipfile.ZIP_LZMA), "compressed"
    yield "C06 encrypted", lambda: _entry(whole, 8, b"\1\0"), "encrypted"
    yield "C06 a size of 4 GB", lambda: _entry(_entry(whole, 20, b"\xff" * 4), 24, b"\xff" * 4), "overlap"
    yield "C06 a size of 4 GB unpacked", lambda: _entry(whole, 24, b"\xff\xff\xff\x7f"), "compressed"
    yield "C06 members that overlap", lambda: _entry(whole, 42, b"\0\0\0\0", number=2), ""
    yield "C06 a member beyond the end", lambda: _entry(whole, 42, b"\xff\xff\xff\x7f"), ""
    yield "C06 a member twice", lambda: _twice(whole, "archive/data.pkl"), "more than once"
    yield "C06 a member twice but for case", lambda: _twice(whole, "archive/DATA.pkl"), "more than once"
    yield "C06 more members than there are", lambda: whole[:-14] + b"\xff\xff\xff\xff" + whole[-10:], ""
    yield "C06 fewer members than there are", lambda: whole[:-14] + b"\1\0\1\0" + whole[-10:], "longer than it says"
    yield "C06 a list elsewhere", lambda: whole[:-6] + b"\0\0\0\0" + whole[-2:], "not where it says"
    yield "C06 two lists that differ", lambda: _second_list(whole), "lists of members differ"
    yield "C06 100,000 members", lambda: zipped({f"data/{i}": b"" for i in range(60_000)} | {"data.pkl": weights}), ""
    yield "C06 two archives, one behind the other", lambda: whole + whole, ""


def _entry(whole: bytes, at: int, value: bytes, *, number: int = 3) -> bytes:
    """The archive with a field of the list's entry changed."""
    data, position = bytearray(whole), -1
    for _ in range(number + 1):
        position = data.index(b"PK\1\2", position + 1)
    data[position + at : position + at + len(value)] = value
    return bytes(data)


def _twice(whole: bytes, name: str) -> bytes:
    buffer = io.BytesIO(whole)
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "a") as made:
        warnings.simplefilter("ignore")
        made.writestr(name, pickled({"model_state_dict": {}}))
    return buffer.getvalue()


def _second_list(whole: bytes) -> bytes:
    """A record for large archives that tells of other members than the usual one."""
    _, _, _, _, count, size, start, _ = struct.unpack("<4s4H2LH", whole[-22:])
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count - 1, size, start)
    return whole[:-22] + record + struct.pack("<4sLQL", b"PK\6\7", 0, len(whole) - 22, 1) + whole[-22:]


def _tensors(content: Mapping[str, Any]) -> Iterator[_Row]:
    """What a tensor can lie about."""

    def of(tensor: Any, **storages: bytes) -> Callable[[], bytes]:
        return lambda: archive(pickled(_state(tensor)), storages)

    yield (
        "C05 10^12 numbers that are one",
        of(Tensor(Numbers("a", 1), (10**6, 10**6), (0, 0)), a=bytes(4)),
        "several times",
    )
    yield "C05 rows that overlap", of(Tensor(Numbers("a", 99), (50, 50), (1, 1)), a=bytes(396)), "several times"
    yield "C05 beyond its numbers", of(Tensor(Numbers("a", 4), (100,), (1,)), a=bytes(16)), "beyond its numbers"
    yield "C05 far beyond its numbers", of(Tensor(Numbers("a", 4), (2,), (2**62,)), a=bytes(16)), "beyond its numbers"
    yield "C05 an offset beyond", of(Tensor(Numbers("a", 4), (1,), (1,), 2**40), a=bytes(16)), "beyond its numbers"
    yield "C05 a negative offset", of(Tensor(Numbers("a", 4), (1,), (1,), -1), a=bytes(16)), _DAMAGED
    yield "C05 a negative size", of(Tensor(Numbers("a", 4), (-1,), (1,)), a=bytes(16)), _DAMAGED
    yield "C05 a negative stride", of(Tensor(Numbers("a", 4), (2,), (-1,), 2), a=bytes(16)), _DAMAGED
    yield "C05 a size of no kind", of(Tensor(Numbers("a", 4), ("x",), (1,)), a=bytes(16)), _DAMAGED  # type: ignore[arg-type]
    yield (
        "C05 10^12 numbers of which four are there",
        of(Tensor(Numbers("a", 10**12), (4,), (1,)), a=bytes(16)),
        "more numbers",
    )
    yield "C05 no such numbers", of(Tensor(Numbers("b", 4), (4,), (1,)), a=bytes(16)), "more numbers"
    yield "C05 the numbers of another folder", of(Tensor(Numbers("../version", 1), (1,), (1,))), "more numbers"
    two = [Tensor(Numbers("a", 4, kind), (4,), (1,)) for kind in (torch.FloatStorage, torch.IntStorage)]
    yield "C05 the same numbers as of two kinds", of(two, a=bytes(16)), "different kinds"
    yield "C05 numbers of no known kind", of(Tensor(Numbers("a", 4, torch.QInt8Storage), (4,), (1,)), a=bytes(4)), _MORE
    sparse = torch.sparse_coo_tensor([[0, 1]], [1.0, 2.0], (2,), check_invariants=True)
    yield "C07 sparse", lambda: saved(_state(sparse)), _MORE
    yield (
        "C07 sparse with false places",
        (lambda: saved(_state(torch.sparse_coo_tensor([[10**9]], [1.0], (2,), check_invariants=False)))),
        _MORE,
    )
    yield "C07 quantised", _quantised, _MORE
    yield "C07 nested", _nested, _MORE
    yield "C08 on no device", lambda: saved(_state(torch.zeros(3, device="meta"))), _MORE
    yield "C08 complex", lambda: saved(_state(torch.zeros(3, dtype=torch.complex64))), _MORE
    yield "C08 eight bits", lambda: saved(_state(torch.zeros(3).to(torch.float8_e4m3fn))), _MORE


def _quantised() -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return saved(_state(torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8)))


def _nested() -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return saved(_state(torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])))


def _weights(content: Mapping[str, Any]) -> Iterator[_Row]:
    """Weights that are no use to the config's model."""
    state = content["model_state_dict"]
    name = next(name for name, tensor in state.items() if tensor.ndim > 1)

    def with_weights(changed: Mapping[str, Any]) -> Callable[[], bytes]:
        return lambda: saved({**content, "model_state_dict": {**state, **changed}})

    for value in ("nan", "inf", "-inf"):
        yield f"C08 {value} in a weight", with_weights({name: torch.full_like(state[name], float(value))}), "not finite"
    yield (
        "C08 whole numbers",
        with_weights({name: torch.zeros(state[name].shape, dtype=torch.int64)}),
        "holds torch.int64",
    )
    yield "C08 another shape", with_weights({name: state[name][..., None]}), "has shape"
    yield "C08 a text for a weight", with_weights({name: "weights"}), "has shape"
    yield "C08 double precision", with_weights({name: state[name].double()}), None
    yield "C08 a weight too many", with_weights({"more": torch.zeros(1)}), "holds 'more'"
    yield "C08 a weight with a name of 900 kB", with_weights({"x" * 900_000: torch.zeros(1)}), "'xxx"
    yield "C08 a weight with a number for a name", with_weights({3: torch.zeros(1)}), "holds 3"  # type: ignore[dict-item]
    lacking = {key: value for key, value in state.items() if key != name}
    yield "C08 a weight too few", lambda: saved({**content, "model_state_dict": lacking}), "lacks"
    yield "C13 one pianist fewer", lambda: saved({**content, "class_names": content["class_names"][:-1]}), "class list"


def _said(content: Mapping[str, Any]) -> Iterator[_Row]:
    """What stands beside the weights."""

    def with_(**changed: Any) -> Callable[[], bytes]:
        return lambda: saved({**content, **changed})

    for epoch in (float("nan"), float("inf"), -1, 10**300, 1e300):
        yield f"C09 epoch {str(epoch)[:6]}", with_(epoch=epoch), "its epoch"
    yield "C09 a text for an epoch", with_(epoch="ten"), None
    config = content["config"]
    recursive: dict[str, Any] = {**config}
    recursive["model_cfg"] = recursive
    laughs: Any = "ha"
    for _ in range(9):
        laughs = [laughs] * 10
    hostile = {
        "of no keys": {},
        "of no architecture": {**config, "encoder_module": "os.system"},
        "of 10^9 layers": {**config, "model_cfg": {**config["model_cfg"], "num_layers": 10**9}},
        "with a path for a name": {**config, "experiment": "../../x"},
        "with a text of 900 kB": {**config, "encoder_module": "x" * 900_000},
        "with a tensor": {**config, "batch_size": torch.zeros(3)},
        "with a key that is none": {**config, 3: 4},
    }
    for name, value in hostile.items():
        yield f"C13 a config {name}", with_(config=value), ""
    yield "C13 a config in itself", with_(config=recursive), "nested more than"
    yield "C13 a config of 10^9 laughs", with_(config={**config, "run": laughs}), "more than 200,000 values"
    yield (
        "C13 100,000 lists in each other",
        (lambda: archive(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".")),
        "nested more than",
    )
    yield "C13 pianists of 900 kB", with_(class_names=["x" * 900_000, "b", "c"]), "1 to 200 characters"
    yield "C13 pianists without names", with_(class_names=["", "b", "c"]), "1 to 200 characters"
    yield "C13 numbers for pianists", with_(class_names=[1, 2, 3]), "1 to 200 characters"
    yield "C13 a pianist twice", with_(class_names=["a", "b", "a"]), "twice"
    yield "C14 a million keys", with_(more=dict.fromkeys(range(1_000_000), 0)), "1 MB allowed"
    yield "C14 50,000 lists", with_(more=[[] for _ in range(50_000)]), None
    yield "C14 900 kB of open lists", lambda: archive(b"\x80\x02" + b"]" * 900_000 + b"."), "300,000 steps"
    yield "C14 a place in memory of 2^31", lambda: archive(b"\x80\x02]r\xff\xff\xff\x7f."), "no model_state_dict"


def hostile_states(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Checkpoints whose weights are good, and of which what training goes on from is not."""
    optimiser, rng = content["optimizer_state_dict"], content["torch_rng"]
    group, state = optimiser["param_groups"][0], optimiser["state"]
    first = state[0]
    tensor = next(name for name, value in first.items() if isinstance(value, torch.Tensor) and value.ndim)

    def of(**changed: Any) -> dict[str, Any]:
        return {**optimiser, **changed}

    states = {
        "no dict": 3,
        "nothing": {},
        "no groups": of(param_groups=[]),
        "groups of another kind": of(param_groups=[3]),
        "another number of weights": of(param_groups=[{**group, "params": [0]}]),
        "a rate in words": of(param_groups=[{**group, "lr": "fast"}]),
        "a rate that is no number": of(param_groups=[{**group, "lr": float("nan")}]),
        "a state of another kind": of(state=[1, 2]),
        "a state of no weight": of(state={**state, 10**6: first}),
        "a state by name": of(state={**state, "weight": first}),
        "a state without its parts": of(state={**state, 0: {}}),
        "a state of another shape": of(state={**state, 0: {**first, tensor: torch.zeros(3, 3, 3)}}),
        "a state of whole numbers": of(state={**state, 0: {**first, tensor: first[tensor].long()}}),
        "a state of words": of(state={**state, 0: {**first, tensor: "much"}}),
    }
    changed = [("optimizer_state_dict", name, value) for name, value in states.items()]
    schedule = content["scheduler_state_dict"]
    schedules = (
        {"no dict": 3, "an epoch in words": {**schedule, "last_epoch": "ten"}, "a list": [1]} if schedule else {}
    )
    changed += [("scheduler_state_dict", name, value) for name, value in schedules.items()]
    changed += [
        ("torch_rng", "no tensor", 3), ("torch_rng", "too short", rng[:10]), ("torch_rng", "numbers", rng.float()),
        ("epoch", "in words", "ten"), ("epoch", "negative", -1), ("epoch", "not a number", float("nan")),
        ("batch", "in words", "ten"), ("batch", "not whole", 1.5), ("n_clips", "a list", [1]),
        ("n_correct", "negative", -1), ("loss_sum", "not a number", float("nan")), ("loss_sum", "in words", "much"),
        ("seconds", "endless", float("inf")),
        ("skipped", "a list", [1]), ("skipped", "of words", {"a": "b"}), ("class_names", "a number", 3),
        ("data_fingerprint", "a list", [1]),
    ]  # fmt: skip
    hostile = {f"{key}: {name}": {**content, key: value} for key, name, value in changed}
    return hostile | {f"without {key}": {k: v for k, v in content.items() if k != key} for key in _RESUMED}


_RESUMED = ("optimizer_state_dict", "torch_rng", "batch", "loss_sum", "n_clips", "skipped", "class_names")


def good_content() -> dict[str, Any]:
    """What a checkpoint of this program holds, of a network that has taken two steps."""
    config = tiny_config(sched_type="plateau")
    learner = Learner(config, torch.device("cpu"), 3)
    learner.try_batch(2)
    position = {"batch": 0, "loss_sum": 1.5, "n_correct": 3, "n_clips": 6, "seconds": 0.5, "skipped": {"no chords": 1}}
    said = {"epoch": 1, "config": to_dict(config), "class_names": ["a", "b", "c"], "data_fingerprint": "0"}
    return {**learner.state(), **said, **position}


def without_seal(data: bytes) -> bytes:
    """The same file without its comment."""
    at = data.rfind(b"PK\5\6")
    return data[: at + 20] + b"\0\0"
