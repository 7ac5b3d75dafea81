"""How the fields of a schema are declared, and how a form learns what they are; see `pianistid_core.schema`."""

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from typing import Any, Literal

Level = Literal["basic", "advanced"]
Kind = Literal["bool", "int", "float", "str", "choice", "list", "group"]
When = tuple[str, tuple[Any, ...]]


@dataclass(frozen=True, kw_only=True)
class Meta:
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
    check: Callable[[Any], str | None] | None


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
    check: Callable[[Any], str | None] | None = None,
) -> Any:
    """Declares one field of a schema.

    `low` and `high` are inclusive unless `low_open` or `high_open`; on a list they, and `choices`, hold for
    each item. `length` is the smallest and largest number of items (or characters). `when=("name", values)`:
    the field matters only while that sibling, or dotted key from the root, has one of the values. `key` is the
    name in the YAML where it differs from the attribute's. `variants=("sibling", {value: class})`: the sibling,
    declared before this field, chooses the group's class. `check` says what a value should be instead, or gives
    None when it is fine.
    """
    meta = Meta(
        label=label, help=help, level=level, choices=choices, low=low, high=high, low_open=low_open,
        high_open=high_open, step=step, length=length, when=when, unit=unit, key=key, variants=variants, check=check,
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
    "group" and `item_fields`, whose keys are relative to one item. `when` holds conditions on dotted keys from
    the root, all to be met.
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
class Field:
    """A dataclass field with its annotation taken apart; for a list, `item` is the field of one item."""

    name: str
    key: str
    kind: Kind
    optional: bool
    group: type | None
    item: "Field | None"
    meta: Meta
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
def declared(cls: type) -> tuple[Field, ...]:
    """Gives the fields of a schema class in order."""
    hints = typing.get_type_hints(cls)
    found = []
    for field in dataclasses.fields(cls):
        if "option" not in field.metadata:
            raise TypeError(f"{cls.__name__}.{field.name} is not written with option()")
        found.append(_take_apart(field.name, hints[field.name], field.metadata["option"], field))
    return tuple(found)


def _take_apart(name: str, annotation: Any, meta: Meta, field: dataclasses.Field[Any]) -> Field:
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
    return Field(name, meta.key or name, kind, optional, group, item, meta, field)


def fields_of(
    cls: type, *, values: Mapping[str, Any] | None = None, prefix: str = "", base: object = None
) -> list[FieldInfo]:
    """Describes each field of a schema in order; `values`, nested as in the YAML, decide between variants."""
    return _describe(cls, values or {}, prefix, base, ())


def _describe(
    cls: type, values: Mapping[str, Any], prefix: str, base: object, when: tuple[When, ...]
) -> list[FieldInfo]:
    names = {field.name: field.key for field in declared(cls)}
    found: list[FieldInfo] = []
    for field in declared(cls):
        conditions = when
        if field.meta.when is not None:
            name, allowed = field.meta.when
            conditions += ((join_key(prefix, names[name]) if name in names else name, allowed),)
        default = field.default(base)
        if field.kind != "group":
            found.append(_info(field, join_key(prefix, field.key), default, conditions))
            continue
        group = field.group_class
        if field.meta.variants is not None:
            by, classes = field.meta.variants
            chooser = next(f for f in declared(cls) if f.name == by)
            chosen = values.get(chooser.key, chooser.default(base))
            known = isinstance(chosen, str | None) and chosen in classes
            group = classes[chosen if known else chooser.default(base)]
        if type(default) is not group:
            default = group()
        dotted = join_key(prefix, field.key)
        found.append(_info(field, dotted, None, conditions))
        given = values.get(field.key)
        inner = given if isinstance(given, Mapping) else {}
        found.extend(_describe(group, inner, dotted, default, conditions))
    return found


def _info(field: Field, dotted: str, default: Any, when: tuple[When, ...]) -> FieldInfo:
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
        return {field.key: to_plain(getattr(value, field.name)) for field in declared(type(value))}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value


def join_key(prefix: str, key: Any) -> str:
    """Gives the dotted key of `key` inside `prefix`."""
    return f"{prefix}.{key}" if prefix else str(key)
