"""A schema is a frozen dataclass whose fields are written with `option()`; everything else follows from it.

    @dataclass(frozen=True)
    class SgdOptions:
        lr: float = option(0.01, label="Learning rate", help="...", low=0, low_open=True)

`parse` turns a mapping into an instance and gives every fault at once; `fields_of` describes the fields for a
form; `to_plain` gives the mapping back. Annotations may be bool, int, float, str, `X | None`, `tuple[X, ...]`,
another such dataclass, or a union of them chosen by a sibling (`variants`). A class may define
`cross_check(self, prefix) -> list[Fault]` for rules over several fields; it runs once each is sound by itself.
"""

import contextlib
import dataclasses
import difflib
import math
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import Any, TypeVar

from pianistid_core.errors import Fault
from pianistid_core.fields import Field, FieldInfo, Meta, declared, fields_of, join_key, option, to_plain
from pianistid_core.strict_yaml import read_yaml, write_yaml

__all__ = [
    "Fault",
    "FieldInfo",
    "closest",
    "fields_of",
    "option",
    "parse",
    "read_yaml",
    "to_plain",
    "write_yaml",
]

T = TypeVar("T")

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_MAX_TEXT = 4096
_MAX_ITEMS = 1000


def parse(cls: type[T], mapping: object, *, prefix: str = "", base: T | None = None) -> tuple[T | None, list[Fault]]:
    """Builds `cls` from a mapping, or gives all its faults; `base` holds the values of keys left out."""
    reader = _Reader()
    try:
        instance = reader.group(_Choice(cls), mapping, prefix, base)
    except _Bad:
        return None, reader.faults
    return (None if reader.faults else typing.cast(T, instance)), reader.faults


@dataclass(frozen=True)
class _Choice:
    """The class a group is read as; where a sibling chose it, that sibling's value and the other classes."""

    cls: type
    by: str = ""
    value: Any = None
    others: Mapping[Any, type] = dataclasses.field(default_factory=dict)


class _Bad(Exception):
    """A value that does not fit; its fault is noted already."""


class _Reader:
    """Walks a mapping beside its schema and notes each fault."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def refuse(self, key: str, message: str) -> _Bad:
        self.faults.append(Fault(key, message))
        return _Bad()

    def group(self, choice: _Choice, mapping: object, prefix: str, base: object) -> Any:
        if mapping is None:  # `model_cfg:` with nothing after it
            mapping = {}
        fields = declared(choice.cls)
        if not isinstance(mapping, Mapping):
            raise self.refuse(prefix, f"got {_show(mapping)}; give a section with the keys {_listed(fields)}")
        known = {field.key for field in fields}
        for key in mapping:
            if key not in known:
                self.faults.append(Fault(join_key(prefix, _name(key)), _unknown(choice, key, mapping)))
        values: dict[str, Any] = {}
        for field in fields:
            with contextlib.suppress(_Bad):
                values[field.name] = self.field(field, mapping, prefix, base, values)
        if len(values) < len(fields):
            raise _Bad
        instance = choice.cls(**values)
        check = getattr(instance, "cross_check", None)
        if check is not None:
            self.faults.extend(check(prefix))
        return instance

    def field(
        self, field: Field, mapping: Mapping[Any, Any], prefix: str, base: object, siblings: dict[str, Any]
    ) -> Any:
        dotted = join_key(prefix, field.key)
        if field.kind == "group":
            return self.group_field(field, mapping.get(field.key), dotted, base, siblings)
        if field.key not in mapping:
            default = field.default(base)
            if default is MISSING:
                raise self.refuse(dotted, f"missing; give {_allowed(field)}")
            return default
        return self.value(field, mapping[field.key], dotted)

    def group_field(self, field: Field, value: object, dotted: str, base: object, siblings: dict[str, Any]) -> Any:
        if field.meta.variants is None:
            default = field.default(base)
            inherited = None if default is MISSING else default
            return self.group(_Choice(field.group_class), value, dotted, inherited)
        by, classes = field.meta.variants
        if by not in siblings:  # the choice itself is faulty: nothing can be said of what depends on it
            raise _Bad
        chosen = classes[siblings[by]]
        default = None if base is None else getattr(base, field.name)
        inherited = default if type(default) is chosen else None
        return self.group(_Choice(chosen, by, siblings[by], classes), value, dotted, inherited)

    def value(self, field: Field, value: Any, dotted: str) -> Any:
        if value is None:
            if field.optional:
                return None
            raise self.refuse(dotted, f"got null; give {_allowed(field)}")
        if field.kind == "list":
            return self.items(field, value, dotted)
        if field.kind == "group":
            return self.group(_Choice(field.group_class), value, dotted, None)
        fitting = _fit(field, value)
        if fitting is MISSING:
            raise self.refuse(dotted, f"got {_show(value)}; give {_allowed(field)}{_hint(field, value)}")
        problem = None if field.meta.check is None else field.meta.check(fitting)
        if problem is not None:
            raise self.refuse(dotted, f"got {_show(value)}; {problem}")
        return fitting

    def items(self, field: Field, value: Any, dotted: str) -> tuple[Any, ...]:
        item = field.item
        shortest, longest = field.meta.length or (0, _MAX_ITEMS)
        if item is None or not isinstance(value, list | tuple) or not shortest <= len(value) <= longest:
            raise self.refuse(dotted, f"got {_show(value)}; give {_allowed(field)}")
        found = []
        for index, part in enumerate(value):
            with contextlib.suppress(_Bad):
                found.append(self.value(item, part, f"{dotted}[{index}]"))
        if len(found) < len(value):
            raise _Bad
        return tuple(found)


def _fit(field: Field, value: Any) -> Any:
    """Gives the value as the field's type and within its bounds, or MISSING."""
    meta = field.meta
    if meta.choices is not None:
        return next((c for c in meta.choices if type(c) is type(value) and c == value), MISSING)
    if field.kind == "bool":
        return value if isinstance(value, bool) else MISSING
    if field.kind == "str":
        shortest, longest = meta.length or (0, _MAX_TEXT)
        fits = isinstance(value, str) and shortest <= len(value) <= longest and not _UNPRINTABLE.search(value)
        return value if fits else MISSING
    number = _number(value) if field.kind == "float" else value
    if isinstance(number, bool) or not isinstance(number, float if field.kind == "float" else int):
        return MISSING
    return number if _within(number, meta) else MISSING


def _number(value: Any) -> float | None:
    """Gives a finite float; so does text such as "1e-3", which YAML 1.1 readers do not take for a number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and (len(value) > 60 or not _NUMBER.fullmatch(value)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _within(number: float, meta: Meta) -> bool:
    if meta.low is not None and (number < meta.low or (meta.low_open and number == meta.low)):
        return False
    return meta.high is None or not (number > meta.high or (meta.high_open and number == meta.high))


def closest(word: str, known: Iterable[str]) -> str | None:
    """Gives the known word most like this one, also with parts transposed (use_fc2: use_2fc), or None."""

    def likeness(candidate: str) -> float:
        a, b = word.lower(), candidate.lower()
        as_written = difflib.SequenceMatcher(None, a, b).ratio()
        rearranged = difflib.SequenceMatcher(None, "".join(sorted(a)), "".join(sorted(b))).ratio()
        return max(as_written, 0.9 * rearranged)

    best = max(known, key=likeness, default=None) if len(word) <= 200 else None
    return best if best is not None and likeness(best) >= 0.7 else None


def _unknown(choice: _Choice, key: Any, mapping: Mapping[Any, Any]) -> str:
    """Says what an unknown key may have been meant to be: a neighbour, another choice's key, a nested one."""
    fields = declared(choice.cls)
    known = [field.key for field in fields]
    context = f" for {choice.by} {_word(choice.value)}" if choice.by else ""
    if not isinstance(key, str):
        return f"the key {_show(key)} is not text; the keys{context} are {_listed(fields)}"
    inside = fields_of(choice.cls, values=mapping)
    nested = {info.key.rpartition(".")[2]: info.key for info in reversed(inside)}
    for value, other in choice.others.items():
        if other is not choice.cls and key in {field.key for field in declared(other)} and key not in known:
            owner = f"{choice.by} {_word(value)}"
            return f"unknown key{context}; it belongs to {owner}; allowed are {_listed(fields)}"
    meant = nested.get(key) or closest(key, known)
    if meant is None:
        near = closest(key, nested)
        meant = nested[near] if near is not None else None
    if meant is not None:
        return f"unknown key{context}; did you mean {meant}?"
    return f"unknown key{context}; allowed are {_listed(fields)}"


def _hint(field: Field, value: Any) -> str:
    if isinstance(value, str) and field.meta.choices is not None:
        words = {str(c): c for c in field.meta.choices}
        if field.optional:
            words |= {"null": None, "none": None}
        meant = closest(value, words)
        return "" if meant is None else f"; did you mean {_word(words[meant])}?"
    if field.kind == "int" and isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"; did you mean {int(value)}?"
    if field.kind == "str" and isinstance(value, bool | int | float):
        return "; put it in quotes if it is meant as text"
    return ""


def _allowed(field: Field) -> str:
    """Says in words what a field takes."""
    return _bounded(field) + (", or null" if field.optional else "")


def _bounded(field: Field) -> str:
    meta = field.meta
    if field.kind == "list":
        shortest, longest = meta.length or (0, _MAX_ITEMS)
        count = f"{shortest}" if shortest == longest else f"{shortest} to {longest}"
        each = "" if field.item is None else f", each {_bounded(field.item)}"
        return f"a list of {count} items{each}"
    if meta.choices is not None:
        return "one of " + ", ".join(_word(choice) for choice in meta.choices)
    if field.kind == "group":
        return f"a section with the keys {_listed(declared(field.group_class))}"
    if field.kind == "bool":
        return "true or false"
    if field.kind == "str":
        shortest, longest = meta.length or (0, _MAX_TEXT)
        return f"text of {shortest} to {longest} printable characters"
    noun = "a whole number" if field.kind == "int" else "a number"
    low = "" if meta.low is None else f" {'above' if meta.low_open else 'of at least'} {_bound(meta.low)}"
    high = "" if meta.high is None else f" {'below' if meta.high_open else 'at most'} {_bound(meta.high)}"
    return noun + low + (" and" if low and high else "") + high


def _bound(number: float) -> str:
    """1000000 for 1e6: a bound is there to be read."""
    return str(int(number)) if number == int(number) else f"{number:g}"


def _listed(fields: Sequence[Field]) -> str:
    return ", ".join(field.key for field in fields) or "(none)"


def _word(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _show(value: Any) -> str:
    """Shows what came, shortly and on one line, as it would stand in the YAML."""
    if value is None or isinstance(value, bool):
        return _word(value)
    if isinstance(value, int) and abs(value) >= 10**30:
        return f"a whole number of about {value.bit_length() * 3 // 10:,} digits"
    if isinstance(value, Mapping):
        return f"a section of {len(value)} keys"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)} items" if len(value) > 8 else _cut(repr(list(value)))
    return _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def _name(key: Any) -> str:
    """Gives a key as it can stand in a message: short and on one line."""
    return _cut(key if isinstance(key, str) and not _UNPRINTABLE.search(key) else repr(key))
