"""A schema is a frozen dataclass whose fields are written with `option()`; everything else follows from it.

    @dataclass(frozen=True)
    class SgdOptions:
        lr: float = option(0.01, label="Learning rate", help="...", low=0, low_open=True)

`parse` turns a mapping into an instance and gives every fault at once; `fields_of` describes the fields for a
form; `to_plain` gives the mapping back. Annotations may be bool, int, float, str, `X | None`, `tuple[X, ...]`,
another such dataclass, or a union of them chosen by a sibling (`variants`). A class may define
`cross_check(self, prefix) -> list[Fault]` for rules over several fields; it runs when each is sound by itself.
"""

import contextlib
import dataclasses
import difflib
import functools
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import Any, Literal, TypeVar

from pianistid_core.errors import Fault
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

Level = Literal["basic", "advanced"]
Kind = Literal["bool", "int", "float", "str", "choice", "list", "group"]
When = tuple[str, tuple[Any, ...]]
T = TypeVar("T")

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_MAX_TEXT = 4096


@dataclass(frozen=True, kw_only=True)
class _Meta:
    """What `option()` was told; kept in the dataclass field's metadata."""

    label: str
    help: str
    level: Level
    choices: tuple[Any, ...] | None
    low: float | None
    high: float | None
    low_open: bool
    high_open: bool
    step: float | None
    length: tuple[int, int] | None
    when: When | None
    unit: str
    key: str | None
    variants: tuple[str, Mapping[Any, type]] | None


def option(
    default: Any = MISSING,
    *,
    default_factory: Any = MISSING,
    label: str,
    help: str,
    level: Level = "basic",
    choices: tuple[Any, ...] | None = None,
    low: float | None = None,
    high: float | None = None,
    low_open: bool = False,
    high_open: bool = False,
    step: float | None = None,
    length: tuple[int, int] | None = None,
    when: When | None = None,
    unit: str = "",
    key: str | None = None,
    variants: tuple[str, Mapping[Any, type]] | None = None,
) -> Any:
    """Declares one field of a schema.

    `low` and `high` are inclusive unless `low_open` or `high_open`; on a list they, and `choices`, hold for each
    item. `length` is the smallest and largest number of items (or characters). `when=("name", values)`: the field
    matters only while that sibling, or dotted key from the root, has one of the values. `key` is the name in the
    YAML where it differs from the attribute's. `variants=("sibling", {value: class})`: the sibling, declared before
    this field, chooses the group's class.
    """
    meta = _Meta(
        label=label, help=help, level=level, choices=choices, low=low, high=high, low_open=low_open,
        high_open=high_open, step=step, length=length, when=when, unit=unit, key=key, variants=variants,
    )  # fmt: skip
    if default is not MISSING:
        return dataclasses.field(default=default, metadata={"option": meta})
    if default_factory is not MISSING:
        return dataclasses.field(default_factory=default_factory, metadata={"option": meta})
    return dataclasses.field(metadata={"option": meta})


@dataclass(frozen=True, kw_only=True)
class FieldInfo:
    """One field as a form or a reference table needs it.

    `kind` "group" is a section's heading, followed by the section's fields; a list of groups has `item_kind`
    "group" and `item_fields`, whose keys are relative to one item. `when` holds dotted keys from the root, all to
    be met.
    """

    key: str
    label: str
    help: str
    kind: Kind
    optional: bool
    default: Any
    choices: tuple[Any, ...] | None
    low: float | None
    high: float | None
    low_open: bool
    high_open: bool
    step: float | None
    length: tuple[int, int] | None
    level: Level
    unit: str
    when: tuple[When, ...]
    item_kind: Kind | None
    item_fields: tuple["FieldInfo", ...]

    @property
    def section(self) -> str:
        """The dotted key of the group this field stands in, "" at the root."""
        return self.key.rpartition(".")[0]

    def matters(self, values: Mapping[str, Any]) -> bool:
        """Says whether the field has any effect, given the other fields' values by dotted key."""
        return all(values.get(key) in allowed for key, allowed in self.when if key in values)


@dataclass(frozen=True)
class _Field:
    """A dataclass field with its annotation taken apart."""

    name: str
    key: str
    kind: Kind
    optional: bool
    group: type | None
    item: "_Field | None"
    meta: _Meta
    field: dataclasses.Field[Any]

    @property
    def group_class(self) -> type:
        if self.group is None:
            raise TypeError(f"{self.key} is not a section")
        return self.group

    def default(self, base: object) -> Any:
        """Gives the value for a key left out, or MISSING when it must be given."""
        if base is not None:
            return getattr(base, self.name)
        if self.field.default is not MISSING:
            return self.field.default
        return MISSING if self.field.default_factory is MISSING else self.field.default_factory()


@functools.cache
def _fields(cls: type) -> tuple[_Field, ...]:
    hints = typing.get_type_hints(cls)
    found = []
    for field in dataclasses.fields(cls):
        if "option" not in field.metadata:
            raise TypeError(f"{cls.__name__}.{field.name} is not written with option()")
        found.append(_take_apart(field.name, hints[field.name], field.metadata["option"], field))
    return tuple(found)


def _take_apart(name: str, annotation: Any, meta: _Meta, field: dataclasses.Field[Any]) -> _Field:
    optional, item, group = False, None, None
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(annotation) if member is not types.NoneType]
        optional = len(members) < len(typing.get_args(annotation))
        annotation = members[0]
    kind: Kind
    if meta.variants is not None or dataclasses.is_dataclass(annotation):
        kind, group = "group", annotation
    elif typing.get_origin(annotation) in (tuple, list):
        kind, item = "list", _take_apart(name, typing.get_args(annotation)[0], meta, field)
    elif annotation in (bool, int, float, str):
        kind = typing.cast(Kind, annotation.__name__) if meta.choices is None else "choice"
    else:
        raise TypeError(f"the schema has no rule for the annotation of {name}: {annotation!r}")
    return _Field(name, meta.key or name, kind, optional, group, item, meta, field)


def parse(
    cls: type[T], mapping: object, *, prefix: str = "", base: T | None = None
) -> tuple[T | None, list[Fault]]:
    """Builds `cls` from a mapping, or gives all its faults; keys left out come from `base`, else the defaults."""
    reader = _Reader()
    try:
        instance = reader.group(_Choice(cls), mapping, prefix, base)
    except _Bad:
        return None, reader.faults
    return (None if reader.faults else typing.cast(T, instance)), reader.faults


@dataclass(frozen=True)
class _Choice:
    """The class a group is read as and, where a sibling chose it, that sibling's value and the other classes."""

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
        fields = _fields(choice.cls)
        if not isinstance(mapping, Mapping):
            raise self.refuse(prefix, f"got {_show(mapping)}; give a section with the keys {_listed(fields)}")
        known = {field.key for field in fields}
        for key in mapping:
            if key not in known:
                self.faults.append(Fault(_join(prefix, key), _unknown(choice, key, mapping)))
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
        self, field: _Field, mapping: Mapping[Any, Any], prefix: str, base: object, siblings: dict[str, Any]
    ) -> Any:
        dotted = _join(prefix, field.key)
        if field.kind == "group":
            return self.group_field(field, mapping.get(field.key), dotted, base, siblings)
        if field.key not in mapping:
            default = field.default(base)
            if default is MISSING:
                raise self.refuse(dotted, f"missing; give {_allowed(field)}")
            return default
        return self.value(field, mapping[field.key], dotted)

    def group_field(
        self, field: _Field, value: object, dotted: str, base: object, siblings: dict[str, Any]
    ) -> Any:
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

    def value(self, field: _Field, value: Any, dotted: str) -> Any:
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
        return fitting

    def items(self, field: _Field, value: Any, dotted: str) -> tuple[Any, ...]:
        item = field.item
        shortest, longest = field.meta.length or (0, 1000)
        if item is None or not isinstance(value, list | tuple) or not shortest <= len(value) <= longest:
            raise self.refuse(dotted, f"got {_show(value)}; give {_allowed(field)}")
        found = []
        for index, part in enumerate(value):
            with contextlib.suppress(_Bad):
                found.append(self.value(item, part, f"{dotted}[{index}]"))
        if len(found) < len(value):
            raise _Bad
        return tuple(found)


def _fit(field: _Field, value: Any) -> Any:
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


def _within(number: float, meta: _Meta) -> bool:
    if meta.low is not None and (number < meta.low or (meta.low_open and number == meta.low)):
        return False
    return meta.high is None or not (number > meta.high or (meta.high_open and number == meta.high))


def fields_of(
    cls: type, *, values: Mapping[str, Any] | None = None, prefix: str = "", base: object = None
) -> list[FieldInfo]:
    """Describes each field of a schema in order; `values`, as in the YAML, decide between variants."""
    return _describe(cls, values or {}, prefix, base, ())


def _describe(
    cls: type, values: Mapping[str, Any], prefix: str, base: object, when: tuple[When, ...]
) -> list[FieldInfo]:
    names = {field.name: field.key for field in _fields(cls)}
    found: list[FieldInfo] = []
    for field in _fields(cls):
        conditions = when
        if field.meta.when is not None:
            name, allowed = field.meta.when
            conditions += ((_join(prefix, names[name]) if name in names else name, allowed),)
        default = field.default(base)
        if field.kind != "group":
            found.append(_info(field, _join(prefix, field.key), default, conditions))
            continue
        group = field.group_class
        if field.meta.variants is not None:
            by, classes = field.meta.variants
            chooser = next(f for f in _fields(cls) if f.name == by)
            chosen = values.get(chooser.key, chooser.default(base))
            known = isinstance(chosen, str | None) and chosen in classes
            group = classes[chosen if known else chooser.default(base)]
        if type(default) is not group:
            default = group()
        dotted = _join(prefix, field.key)
        found.append(_info(field, dotted, None, conditions))
        given = values.get(field.key)
        inner = given if isinstance(given, Mapping) else {}
        found.extend(_describe(group, inner, dotted, default, conditions))
    return found


def _info(field: _Field, dotted: str, default: Any, when: tuple[When, ...]) -> FieldInfo:
    meta, item = field.meta, field.item
    return FieldInfo(
        key=dotted, label=meta.label, help=meta.help, kind=field.kind, optional=field.optional,
        default=None if default is MISSING else to_plain(default), choices=meta.choices, low=meta.low,
        high=meta.high, low_open=meta.low_open, high_open=meta.high_open, step=meta.step, length=meta.length,
        level=meta.level, unit=meta.unit, when=when, item_kind=None if item is None else item.kind,
        item_fields=tuple(fields_of(item.group_class)) if item is not None and item.kind == "group" else (),
    )  # fmt: skip


def to_plain(value: Any) -> Any:
    """Turns an instance of a schema into dicts, lists and scalars, complete and in the schema's order."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.key: to_plain(getattr(value, field.name)) for field in _fields(type(value))}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value


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
    fields = _fields(choice.cls)
    known = [field.key for field in fields]
    context = f" for {choice.by} {_word(choice.value)}" if choice.by else ""
    if not isinstance(key, str):
        return f"the key {_show(key)} is not text; the keys{context} are {_listed(fields)}"
    inside = fields_of(choice.cls, values=mapping)
    nested = {info.key.rpartition(".")[2]: info.key for info in reversed(inside)}
    for value, other in choice.others.items():
        if other is not choice.cls and key in {field.key for field in _fields(other)} and key not in known:
            owner = f"{choice.by} {_word(value)}"
            return f"unknown key{context}; it belongs to {owner}; allowed are {_listed(fields)}"
    meant = nested.get(key) or closest(key, known)
    if meant is None:
        near = closest(key, nested)
        meant = nested[near] if near is not None else None
    if meant is not None:
        return f"unknown key{context}; did you mean {meant}?"
    return f"unknown key{context}; allowed are {_listed(fields)}"


def _hint(field: _Field, value: Any) -> str:
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


def _allowed(field: _Field) -> str:
    """Says in words what a field takes."""
    return _bounded(field) + (", or null" if field.optional else "")


def _bounded(field: _Field) -> str:
    meta = field.meta
    if field.kind == "list":
        shortest, longest = meta.length or (0, 1000)
        count = f"{shortest}" if shortest == longest else f"{shortest} to {longest}"
        each = "" if field.item is None else f", each {_bounded(field.item)}"
        return f"a list of {count} items{each}"
    if meta.choices is not None:
        return "one of " + ", ".join(_word(choice) for choice in meta.choices)
    if field.kind == "group":
        return f"a section with the keys {_listed(_fields(field.group_class))}"
    if field.kind == "bool":
        return "true or false"
    if field.kind == "str":
        shortest, longest = meta.length or (0, _MAX_TEXT)
        return f"text of {shortest} to {longest} printable characters"
    noun = "a whole number" if field.kind == "int" else "a number"
    low = "" if meta.low is None else f" {'above' if meta.low_open else 'of at least'} {meta.low:g}"
    high = "" if meta.high is None else f" {'below' if meta.high_open else 'at most'} {meta.high:g}"
    return noun + low + (" and" if low and high else "") + high


def _listed(fields: Sequence[_Field]) -> str:
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


def _join(prefix: str, key: Any) -> str:
    name = _cut(key if isinstance(key, str) and not _UNPRINTABLE.search(key) else repr(key))
    return f"{prefix}.{name}" if prefix else name
