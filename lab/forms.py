"""Draws a form from the schema: a widget for each `FieldInfo`, with its help, range and faults.

The values are a mapping nested as in a YAML. A widget hands its value over when it changes, so that the mapping is the
one truth and a page change loses nothing. Nothing here knows a key by name.
"""

import math
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import streamlit as st

import acts
from acts import acting
from pianistid_core.accounts import Role
from pianistid_core.config import config_fields
from pianistid_core.errors import Fault
from pianistid_core.schema import FieldInfo
from wording import listed, plain, said

Values = MutableMapping[str, Any]
# What a number input can hold without rounding.
_MOST_WHOLE = 2**53 - 1


@dataclass(frozen=True)
class Form:
    """What drawing needs: the values, the faults to show, the widgets' names, and what the user may choose from.

    `store` takes a dotted key and its new value. `suggestions` are by key; `names`, by the last word of a key, says
    what its choices 0, 1, 2... are called.
    """

    values: Values
    faults: Sequence[Fault]
    key_prefix: str
    store: Callable[[str, Any], None]
    advanced: bool = False
    suggestions: Mapping[str, Sequence[str]] | None = None
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def fault_of(self, key: str) -> str | None:
        """What is wrong with a field or with an item of it."""
        found = [fault.message for fault in self.faults if fault.key == key or fault.key.startswith(f"{key}[")]
        return " ".join(found) or None


def get(values: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """The value at a dotted key."""
    place: Any = values
    for part in key.split("."):
        if not isinstance(place, Mapping) or part not in place:
            return default
        place = place[part]
    return place


def put(values: Values, key: str, value: Any) -> bool:
    """Sets the value at a dotted key, and drops what was set for another choice; says whether anything was dropped.

    When a choice such as the optimiser changes, the section that it rules takes the new choice's own defaults.
    """
    before = {info.key: (info.kind, info.default) for info in config_fields(values)}
    *sections, last = key.split(".")
    place = values
    for section in sections:
        inner = place.get(section)
        place[section] = dict(inner) if isinstance(inner, Mapping) else {}
        place = place[section]
    place[last] = value
    after = {info.key: (info.kind, info.default) for info in config_fields(values)}
    changed = {k for k in {*before, *after} if before.get(k) != after.get(k)}
    ruled = {k.rpartition(".")[0] for k in changed} - {""}
    for section in ruled:
        _drop(values, section)
    return bool(ruled)


def _drop(values: Values, section: str) -> None:
    parent, _, last = section.rpartition(".")
    place = get(values, parent) if parent else values
    if isinstance(place, MutableMapping):
        place.pop(last, None)


def value_of(values: Mapping[str, Any], info: FieldInfo) -> Any:
    """The value of a field as it stands: set, or its default."""
    return get(values, info.key, info.default)


def current_values(values: Mapping[str, Any], fields: Sequence[FieldInfo]) -> dict[str, Any]:
    """Every field's value by dotted key, which `FieldInfo.matters` asks for."""
    return {info.key: value_of(values, info) for info in fields if info.kind != "group"}


def shown(fields: Sequence[FieldInfo], form: Form, now: Mapping[str, Any] | None = None) -> list[FieldInfo]:
    """The fields to draw now: those that matter, advanced ones when asked for or when something is wrong with them."""
    now = current_values(form.values, fields) if now is None else now
    return [
        info
        for info in fields
        if info.matters(now) and (info.level == "basic" or form.advanced or form.fault_of(info.key))
    ]


def found(fields: Sequence[FieldInfo], text: str) -> list[FieldInfo]:
    """The fields that a search means: every word stands in the label, the key, the help or a section's name."""
    words = text.lower().split()
    labels = {info.key: info.label for info in fields}

    def place(info: FieldInfo) -> str:
        parts = info.key.split(".")
        return " ".join(labels.get(".".join(parts[:n]), "") for n in range(1, len(parts)))

    def rank(info: FieldInfo) -> int:
        name = f"{info.label} {info.key}".lower()
        return 0 if all(word in name for word in words) else 1

    hits = [
        info
        for info in fields
        if info.kind != "group"
        and words
        and all(word in f"{info.label} {info.key} {info.help} {place(info)}".lower() for word in words)
    ]
    return sorted(hits, key=rank)


def condition_of(info: FieldInfo, now: Mapping[str, Any], labels: Mapping[str, str]) -> str | None:
    """Says what a field that has no effect now waits for."""
    for key, allowed in info.when:
        if key in now and now[key] not in allowed:
            return f"{info.label} has an effect only while {labels.get(key, key)} is {_either(allowed)}."
    return None


def _either(values: Sequence[Any]) -> str:
    words = ["on" if value is True else "off" if value is False else said(value) for value in values]
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else listed(words)


def draw_fields(fields: Sequence[FieldInfo], form: Form, *, columns: int = 2, untitled: str = "") -> None:
    """Draws the fields in order, side by side, under the headings of their sections, but for the one named."""
    leaves = {info.section for info in fields if info.kind != "group"}
    row: list[Any] = []
    section = fields[0].section if fields else ""
    for info in fields:
        if info.kind == "group":
            has_any = any(leaf == info.key or leaf.startswith(f"{info.key}.") for leaf in leaves)
            if has_any and info.key != untitled:
                _heading(info)
                row = []
                section = info.key
            continue
        if info.section != section:
            row, section = row if info.section == untitled else [], info.section
        wide = info.item_kind == "group" or (info.kind == "list" and info.choices is not None)
        if wide or not row:
            row = [] if wide else list(st.columns(columns))
        with st.container() if wide else row.pop(0):
            draw_field(info, form)


def _heading(info: FieldInfo) -> None:
    """The name of a section within a section: smaller the deeper it lies."""
    label = plain(info.label)
    st.markdown(f"**{label}**" if info.key.count(".") < 2 else f":gray[**{label}**]", help=info.help)


def draw_field(info: FieldInfo, form: Form) -> None:
    """Draws one field's widget and, below it, what is wrong with its value."""
    _widget(info, form)
    fault = form.fault_of(info.key)
    if fault:
        st.markdown(f":small[:red[:material/error: {plain(fault, 600)}]]")


def help_text(info: FieldInfo) -> str:
    """A field's help with its range, its unit and the key it has in a YAML."""
    parts = [info.help]
    bounds = range_in_words(info)
    if bounds:
        parts.append(bounds)
    return " ".join(parts) + f"\n\n`{info.key}`"


def range_in_words(info: FieldInfo) -> str:
    """Says what a number may be."""
    low = None if info.low is None else f"{'above' if info.low_open else 'at least'} {_bound(info.low)}"
    high = None if info.high is None else f"{'below' if info.high_open else 'at most'} {_bound(info.high)}"
    bounds = " and ".join(part for part in (low, high) if part)
    words = f"Range: {bounds}." if bounds else ""
    if info.optional:
        words += " Empty means none." if info.kind in ("int", "float", "str") else ""
    return words.strip()


def _bound(number: float) -> str:
    return f"{number:,.0f}" if number == int(number) else f"{number:g}"


def _widget(info: FieldInfo, form: Form) -> None:
    key = f"{form.key_prefix}:{info.key}"
    value = value_of(form.values, info)
    label = f"{info.label} ({info.unit})" if info.unit else info.label
    common: dict[str, Any] = {
        "key": key,
        **acts.allowed(Role.RUN, help_text(info)),
        "on_change": _store,
        "args": (form.store, info, key),
    }
    if info.kind == "bool":
        st.toggle(label, value=bool(value), **common)
    elif form.suggestions and form.suggestions.get(info.key):
        options = list(dict.fromkeys([*form.suggestions[info.key], str(value)]))
        st.selectbox(label, options, index=options.index(str(value)), accept_new_options=True, **common)
    elif info.kind == "choice":
        choices = [*(info.choices or ()), *([None] if info.optional else [])]
        at = choices.index(value) if value in choices else None
        st.selectbox(label, choices, index=at, format_func=choice_name, **common)
    elif info.kind == "int":
        st.number_input(label, value=_whole(value), step=1, placeholder="none", **common)
    elif info.kind == "float":
        number = _real(value)
        step = info.step or _step(number)
        st.number_input(label, value=number, step=step, format="%g", placeholder="none", **common)
    elif info.kind == "list":
        _list_widget(info, label, value, common, form.names.get(info.key.rpartition(".")[2], ()))
    else:
        text = "" if value is None else str(value)
        st.text_input(label, value=text, placeholder="none" if info.optional else None, **common)


def _list_widget(info: FieldInfo, label: str, value: Any, common: dict[str, Any], names: Sequence[str]) -> None:
    items = list(value) if isinstance(value, list | tuple) else []
    if info.item_kind == "group":
        items = [item for item in items if isinstance(item, Mapping)]
        st.caption(label, help=common.pop("help"))
        table = pd.DataFrame(items, columns=[field.key for field in info.item_fields])
        columns: dict[str, Any] = {field.key: _column(field) for field in info.item_fields}
        st.data_editor(table, num_rows="dynamic", hide_index=True, column_config=columns, **common)
        # The editor's edits are relative to what it was first drawn with, so that is kept beside it.
        st.session_state[f"{common['key']}:base"] = items
    elif info.choices is not None:
        chosen = [item for item in items if item in info.choices]
        st.multiselect(label, info.choices, default=chosen, format_func=lambda item: item_name(item, names), **common)
    else:
        st.text_input(label, value=", ".join(f"{item}" for item in items), **common)


def _column(info: FieldInfo) -> Any:
    columns = st.column_config
    if info.kind == "bool":
        return columns.CheckboxColumn(info.label, help=info.help, default=info.default)
    if info.choices is not None:
        return columns.SelectboxColumn(info.label, help=info.help, options=list(info.choices), default=info.default)
    if info.kind in ("int", "float"):
        step = 1 if info.kind == "int" else None
        return columns.NumberColumn(info.label, help=info.help, step=step, default=info.default)
    return columns.TextColumn(info.label, help=info.help, default=info.default)


@acting(Role.RUN)
def _store(store: Callable[[str, Any], None], info: FieldInfo, key: str) -> None:
    value = st.session_state[key]
    if info.kind == "list" and info.item_kind == "group":
        value = edited_rows(st.session_state.get(f"{key}:base", []), value)
    elif info.kind == "list" and info.choices is not None:
        value = sorted(value)
    elif info.kind == "list":
        value = [number_or_text(part) for part in str(value).split(",") if part.strip()]
    elif info.kind == "str" and info.optional and not value:
        value = None
    elif info.kind == "float" and value is not None:
        value = float(value)
    store(info.key, value)


def edited_rows(base: Sequence[Mapping[str, Any]], edits: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Applies what a data editor reports (edited, added and deleted rows) to the rows that it was drawn with."""
    rows = [dict(row) for row in base]
    for position, changes in edits.get("edited_rows", {}).items():
        rows[int(position)].update(changes)
    gone = set(edits.get("deleted_rows", []))
    kept = [row for position, row in enumerate(rows) if position not in gone]
    added = [{name: value for name, value in row.items() if value is not None} for row in edits.get("added_rows", [])]
    return [*kept, *(row for row in added if row)]


def number_or_text(text: str) -> Any:
    """Reads one item of a list as a person types it; what is no number stays text, for the schema to refuse."""
    word = text.strip()
    for read in (int, float):
        try:
            return read(word)
        except ValueError:
            continue
    return word


def choice_name(value: Any) -> str:
    """How a choice is shown."""
    return "none" if value is None else str(value)


def item_name(item: Any, names: Sequence[str]) -> str:
    """How an item of a list is shown: by its name when its number has one."""
    return names[item] if isinstance(item, int) and 0 <= item < len(names) else str(item)


def _whole(value: Any) -> int | None:
    """A whole number as a number input takes it; anything else is nothing there, and a fault beside it."""
    is_whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MOST_WHOLE
    return value if is_whole else None


def _real(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number and abs(value) < 1e300 else None


def _step(value: float | None) -> float:
    return 10.0 ** math.floor(math.log10(abs(value))) if value else 0.01
