"""A sweep: one config made into many, by several values for up to two keys, and several seeds."""

import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pianistid_core.config import RunConfig, config_fields, flatten, parse_config, to_dict
from pianistid_core.errors import ConfigError, Fault
from pianistid_core.names import folder_name_problem
from pianistid_core.schema import FieldInfo, closest
from pianistid_core.strict_yaml import read_value

__all__ = ["MAX_AXES", "MAX_RUNS", "Axis", "parse_axes", "parse_values", "sweep"]

MAX_AXES = 2
MAX_RUNS = 200
MAX_NAME = 80
_CHOICES = ("encoder_module", "optim_type", "sched_type", "loss_type")
_NAMES = ("experiment", "run")
_RANGE = re.compile(r"([-+]?\d{1,10})\s*\.\.\s*([-+]?\d{1,10})")
_NO_NAME = re.compile(r"[^\w+\-.,=() ]+")


@dataclass(frozen=True)
class Axis:
    """One key that varies, and its values in order."""

    key: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class _Variant:
    """What one run of a sweep sets, by dotted key."""

    settings: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        return ", ".join(f"{key}={_text(value)}" for key, value in self.settings)


def sweep(config: RunConfig, axes: Sequence[Axis], seeds: Sequence[int] = ()) -> list[RunConfig]:
    """Makes a run for every combination of the axes' values and the seeds, each with a name of its own.

    A value of encoder_module, optim_type, sched_type or loss_type leaves behind the config's section for the old
    choice. A key that a variant's choices do not have is left out of it, and variants that come to the same are
    dropped. Without axes and seeds the config itself is what there is.

    Raises
    ------
    ConfigError
        With every fault found: of the axes, and of each variant, which is named.
    """
    faults = list(_axis_faults(config, axes, seeds))
    n_runs = math.prod([*(len(_once(axis.values)) for axis in axes), len(_once(seeds)) or 1])
    if not faults and n_runs > MAX_RUNS:
        faults.append(Fault("", f"this makes {n_runs:,} runs; give fewer values or seeds, for {MAX_RUNS} at most"))
    if faults:
        raise ConfigError(faults, source="sweep")
    every = [*axes, *([Axis("seed", tuple(seeds))] if seeds else [])]
    if not every:
        return [config]
    variants = [
        _Variant(tuple(zip((axis.key for axis in every), values, strict=True)))
        for values in itertools.product(*(_once(axis.values) for axis in every))
    ]
    found = _without_duplicates(_parsed(config, variants))
    names = _names(config.run, [axis.key for axis in every], [variant for variant, _ in found])
    return [replace(variant_config, run=name) for (_, variant_config), name in zip(found, names, strict=True)]


def parse_axes(config: RunConfig, texts: Sequence[str]) -> list[Axis]:
    """Reads "optim_cfg.lr=0.01,0.003" and the like as axes.

    Raises
    ------
    ConfigError
        With a fault for each text that names no key, and for each part that is no value of it.
    """
    axes: list[Axis] = []
    faults: list[Fault] = []
    pairs = [tuple(part.strip() for part in text.partition("=")) for text in texts]
    # Choices first: what they choose says which keys there are.
    for key, equals, values in sorted(pairs, key=lambda pair: pair[0] not in _CHOICES):
        known = _known_keys(config, axes)
        if not equals or not key:
            faults.append(Fault("", f"got {key!r}; give key=values, such as optim_cfg.lr=0.01,0.003"))
        elif key not in known:
            faults.append(_unknown(key, known))
        else:
            try:
                axes.append(Axis(key, parse_values(values, known[key])))
            except ConfigError as error:
                faults += error.faults
    if faults:
        raise ConfigError(faults, source="sweep")
    order = [key for key, _, _ in pairs]
    return sorted(axes, key=lambda axis: order.index(axis.key))


def parse_values(text: str, info: FieldInfo) -> tuple[Any, ...]:
    """Reads "0.01, 0.003" as the values of a field, or "1..5" for whole numbers; bounds are for `sweep` to check.

    Raises
    ------
    ConfigError
        With a fault for each part that is no such value.
    """
    values: list[Any] = []
    faults: list[Fault] = []
    parts = _parts(text)
    if not parts:
        faults.append(Fault(info.key, "got nothing; give values separated by commas, such as 0.01, 0.003"))
    for part in parts:
        try:
            values += _values(part, info)
        except ValueError as error:
            faults.append(Fault(info.key, str(error)))
        except ConfigError as error:
            faults += [Fault(info.key, f"got {part!r}; {fault.message}") for fault in error.faults]
    if faults:
        raise ConfigError(faults, source="sweep")
    return _once(values)


# --- reading values --------------------------------------------------------------------------------------------------


def _parts(text: str) -> list[str]:
    """Splits at commas that stand in no bracket."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        if character == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _values(part: str, info: FieldInfo) -> Sequence[Any]:
    if (match := _RANGE.fullmatch(part)) and info.kind != "str":
        first, last = int(match[1]), int(match[2])
        if info.kind != "int":
            raise ValueError(f"got {part}; a range is for whole numbers, so write the values out")
        if abs(last - first) >= MAX_RUNS:
            raise ValueError(f"got {part}; that is more than {MAX_RUNS} values")
        step = 1 if last >= first else -1
        return range(first, last + step, step)
    if info.kind == "str" and part.lower() not in ("null", "~"):
        return [part.strip("\"'")]
    value = read_value(part, source=info.key)
    if value is None and info.optional:
        return [None]
    return [_as_kind(value, part, info)]


def _as_kind(value: Any, part: str, info: FieldInfo) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if info.kind == "float" and number:
        return float(value)
    fits = {
        "int": number and isinstance(value, int),
        "bool": isinstance(value, bool),
        "list": isinstance(value, list),
        "choice": value in (info.choices or ()),
    }
    if fits.get(info.kind, False):
        return value
    words = {"int": "whole numbers", "float": "numbers", "bool": "true or false", "list": "lists such as [0, 1]"}
    allowed = ", ".join(str(choice) for choice in info.choices or ()) or words.get(info.kind, "other values")
    raise ValueError(f"got {part}; give {allowed}" + (", or null" if info.optional else ""))


def _once(values: Sequence[Any]) -> tuple[Any, ...]:
    """Each value once; true is not 1 here, but 1 is 1.0."""
    found: dict[str, Any] = {}
    for value in values:
        found.setdefault(json.dumps(_number(value), default=str), value)
    return tuple(found.values())


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


# --- variants --------------------------------------------------------------------------------------------------------


def _axis_faults(config: RunConfig, axes: Sequence[Axis], seeds: Sequence[int]) -> Iterator[Fault]:
    if len(axes) > MAX_AXES:
        yield Fault("", f"got {len(axes)} keys to vary; {MAX_AXES} at most, and seeds beside them")
    known = _known_keys(config, axes)
    times = Counter(axis.key for axis in axes)
    for key, n in times.items():
        if n > 1:
            yield Fault(key, "is given twice; give all its values at once")
    for axis in axes:
        if axis.key in _NAMES:
            yield Fault(axis.key, "names the run itself, and every run of a sweep gets its own; vary another key")
        elif axis.key == "seed" and seeds:
            yield Fault("seed", "is given as a key and as seeds; give one of them")
        elif axis.key not in known:
            yield _unknown(axis.key, known)
        elif known[axis.key].kind == "group":
            yield Fault(axis.key, "is a section; vary one of its keys")
        if not axis.values:
            yield Fault(axis.key, "has no values; give at least one")
    if any(not isinstance(seed, int) or isinstance(seed, bool) for seed in seeds):
        yield Fault("seed", f"got {list(seeds)}; give whole numbers")


def _unknown(key: str, known: Iterable[str]) -> Fault:
    near = closest(key, known)
    meant = f"did you mean {near}?" if near else "`pianistid config fields` lists all keys"
    return Fault(key, f"is not a key of this config; {meant}")


def _known_keys(config: RunConfig, axes: Sequence[Axis]) -> dict[str, FieldInfo]:
    """The keys of the config, and those that its choices have when an axis varies them."""
    known = {info.key: info for info in config_fields(to_dict(config))}
    for axis in axes:
        if axis.key in _CHOICES:
            for value in axis.values:
                for info in config_fields(to_dict(config) | {axis.key: value}):
                    known.setdefault(info.key, info)
    return known


def _parsed(config: RunConfig, variants: Sequence[_Variant]) -> list[tuple[_Variant, RunConfig]]:
    plain = to_dict(config)
    found: list[tuple[_Variant, RunConfig]] = []
    faulty: dict[Fault, list[_Variant]] = {}
    for variant in variants:
        kept = _applicable(plain, variant)
        try:
            overrides = [f"{key}={_yaml(value)}" for key, value in kept.settings]
            found.append((kept, parse_config(plain, overrides=overrides, source="sweep")))
        except ConfigError as error:
            for fault in error.faults:
                faulty.setdefault(fault, []).append(variant)
    if faulty:
        raise ConfigError([_in_variants(fault, where) for fault, where in faulty.items()], source="sweep")
    return found


def _applicable(plain: Mapping[str, Any], variant: _Variant) -> _Variant:
    """The settings that mean something under the variant's own choices."""
    values = dict(plain)
    for key, value in variant.settings:
        if key in _CHOICES:
            values[key] = value
    keys = {info.key for info in config_fields(values)}
    return _Variant(tuple((key, value) for key, value in variant.settings if key in keys))


def _in_variants(fault: Fault, where: Sequence[_Variant]) -> Fault:
    shown = "; ".join(str(variant) for variant in where[:3]) + ("; ..." if len(where) > 3 else "")
    which = f"in the variant {shown}" if len(where) == 1 else f"in {len(where)} variants: {shown}"
    return Fault(fault.key, f"{fault.message} ({which})")


def _without_duplicates(found: Sequence[tuple[_Variant, RunConfig]]) -> list[tuple[_Variant, RunConfig]]:
    unique: dict[str, tuple[_Variant, RunConfig]] = {}
    for variant, config in found:
        unique.setdefault(_effect(config), (variant, config))
    return list(unique.values())


def _effect(config: RunConfig) -> str:
    """What a config comes to: every key that matters under the others, as text to compare."""
    values = flatten(config)
    idle = {info.key for info in config_fields(to_dict(config)) if not info.matters(values)}
    return json.dumps({key: value for key, value in values.items() if key not in idle}, default=str)


# --- names -----------------------------------------------------------------------------------------------------------


def _names(base: str, keys: Sequence[str], variants: Sequence[_Variant]) -> list[str]:
    """A name for each variant, such as base-lr0.01-seed2: at most 80 characters, and none twice."""
    words = _words_for(keys)
    names: list[str] = []
    taken: set[str] = set()
    for number, variant in enumerate(variants, start=1):
        name = _name(base, "".join(f"-{_piece(words[key], key, value)}" for key, value in variant.settings))
        if not _is_name(name) or name.casefold() in taken:
            name = _name(base, f"-{number}")
        if not _is_name(name) or name.casefold() in taken:
            name = f"sweep-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _name(base: str, ending: str) -> str:
    return base[: max(0, MAX_NAME - len(ending))].rstrip(". ") + ending


def _is_name(name: str) -> bool:
    return 0 < len(name) <= MAX_NAME and folder_name_problem(name) is None


def _words_for(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each key, or as many as it takes to tell them apart."""
    last = Counter(key.rpartition(".")[2] for key in keys)
    return {key: key if last[key.rpartition(".")[2]] > 1 else key.rpartition(".")[2] for key in keys}


def _piece(word: str, key: str, value: Any) -> str:
    text = _NO_NAME.sub("", _text(value).replace(", ", ",")).rstrip(". ")
    if key in _CHOICES and value is not None:
        return text
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{word}{text}" if is_number else f"{word}={text}"


def _text(value: Any) -> str:
    """A value as a person writes it: 1, 0.01, true, none, 0, 1, 2."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e9:
        return str(int(value))
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    return str(value)


def _yaml(value: Any) -> str:
    """A value as YAML on one line."""
    return json.dumps(value, ensure_ascii=False, default=str)
