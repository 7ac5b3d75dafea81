"""The strict reader for YAML that people write or upload: plain data or one clear sentence, and never a hang.

It accepts one document in UTF-8 of at most 100 kB and 10,000 values, nested at most 30 deep, whose root is a mapping
with text keys. It refuses anchors, aliases, merge keys, tags, and a key given twice. It differs from YAML 1.1 in four
ways: `1e-3` is a number; `1:30`, `012` and dates stay text. No Python object is ever built from a tag.
"""

import re
from typing import Any

import yaml

from pianistid_core.errors import ConfigError, Fault

MAX_BYTES = 100_000
MAX_DEPTH = 30
MAX_VALUES = 10_000
MAX_DIGITS = 4000

_TOO_DEEP = f"nested more than {MAX_DEPTH} deep"

_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)$")
_FLOAT = re.compile(
    r"[-+]?(?:(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|\.(?:inf|Inf|INF))$|\.(?:nan|NaN|NAN)$"
)
_BOOL = re.compile(r"(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$")
_NULL = re.compile(r"(?:~|null|Null|NULL|)$")
_MERGE = re.compile(r"<<$")
_TAG = "tag:yaml.org,2002:"
_TRUE = frozenset({"yes", "true", "on"})


# Anchors, aliases, tags, explicit keys and lists nested in one line: possible in YAML, never in what is written here.
_NOT_WRITTEN = re.compile(rb"[&*!?%]|- - ")

_Resolvers = dict[str, list[tuple[str, re.Pattern[str]]]]


def _resolvers() -> _Resolvers:
    """Gives, by first character, what an unquoted scalar may be, as PyYAML's resolver wants it."""
    table: _Resolvers = {}
    for name, pattern, first in (
        ("bool", _BOOL, "yYnNtTfFoO"),
        ("int", _INT, "-+0123456789"),
        ("float", _FLOAT, "-+0123456789."),
        ("null", _NULL, ["~", "n", "N", ""]),
        ("merge", _MERGE, "<"),
    ):
        for character in first:
            table.setdefault(character, []).append((_TAG + name, pattern))
    return table


def _resolvers_of_both() -> _Resolvers:
    ours, theirs = _resolvers(), yaml.SafeDumper.yaml_implicit_resolvers
    return {first: theirs.get(first, []) + ours.get(first, []) for first in theirs.keys() | ours.keys()}


class _Loader(yaml.SafeLoader):
    """Composes nodes only: what would share, recurse or construct is refused while reading."""

    yaml_implicit_resolvers = _resolvers()
    _depth = 0
    _values = 0

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:
        # While it looks ahead for a key, the scanner's work grows with the square of the brackets that are open.
        if self.flow_level >= MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=_TOO_DEEP, problem_mark=self.get_mark())
        super().fetch_flow_collection_start(TokenClass)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _refusal("an anchor or alias (& or *) is not accepted; write the value out", event)
        if getattr(event, "tag", None) is not None:
            raise _refusal("a tag (!...) is not accepted; write plain values", event)
        if self._depth >= MAX_DEPTH:
            raise _refusal(_TOO_DEEP, event)
        self._values += 1
        if self._values > MAX_VALUES:
            raise _refusal(f"more than {MAX_VALUES:,} values", event)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


class _Dumper(yaml.SafeDumper):
    """Writes plain data so that this reader, and any YAML 1.1 reader, gets the same data back."""

    yaml_implicit_resolvers = _resolvers_of_both()

    def ignore_aliases(self, data: object) -> bool:
        return True


def _list_in_one_line(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.Node:
    in_one_line = not any(isinstance(value, dict) for value in values)
    return dumper.represent_sequence(_TAG + "seq", values, flow_style=in_one_line)


_Dumper.add_representer(list, _list_in_one_line)


def read_yaml(text: str | bytes, *, source: str = "config") -> dict[str, Any]:
    """Reads one YAML mapping into plain dicts, lists, text, numbers, booleans and None.

    Raises: ConfigError with a single fault that names the line and column.
    """
    data = read_value(text, source=source)
    if data is None:
        raise _error("it is empty; write at least one key, such as `experiment: mine`", source)
    if not isinstance(data, dict):
        raise _error("it must hold `key: value` lines, not a single value or a list", source)
    return data


def read_value(text: str | bytes, *, source: str) -> Any:
    """Reads one YAML value of any kind, under the same rules as `read_yaml`; nothing at all gives None."""
    decoded = _decode(text, source)
    loader = None
    try:
        loader = _Loader(decoded)
        node = loader.get_single_node()
        return None if node is None else _plain(node)
    except yaml.reader.ReaderError as error:
        where = _place(decoded, error.position)
        raise _error(f"{where}: character U+{error.character:04X} is not text", source) from None
    except yaml.MarkedYAMLError as error:
        raise _error(_sentence(error), source) from None
    except (ValueError, OverflowError, RecursionError) as error:
        where = "" if loader is None else f"line {loader.line + 1}, column {loader.column + 1}: "
        raise _error(f"{where}not YAML that can be read ({str(error)[:120]})", source) from None
    finally:
        if loader is not None:
            loader.dispose()


class _FastLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The parser in C with this module's scalars."""

    yaml_implicit_resolvers = _resolvers()


def read_written_yaml(data: bytes) -> dict[str, Any]:
    """Reads what `write_yaml` wrote, seven times as fast as `read_yaml`, to which it leaves what looks otherwise.

    Of a key given twice the last counts, so it is for showing what was written, not for reading what to do.

    Raises
    ------
    ConfigError
        When it is not a YAML mapping that `read_yaml` would take.
    """
    if len(data) <= MAX_BYTES and not _NOT_WRITTEN.search(data) and data.count(b"[") + data.count(b"{") < 200:
        try:
            values = yaml.load(data, _FastLoader)
        except (yaml.YAMLError, ValueError, RecursionError):
            values = None
        if isinstance(values, dict) and _is_plain(values, MAX_DEPTH - 1):
            return values
    return read_yaml(data)


def _is_plain(value: Any, levels: int) -> bool:
    """Whether data have text for keys, and are nested no deeper than so many levels."""
    if isinstance(value, dict):
        return levels > 0 and all(isinstance(key, str) and _is_plain(item, levels - 1) for key, item in value.items())
    return levels > 0 and all(_is_plain(item, levels - 1) for item in value) if isinstance(value, list) else True


def write_yaml(data: dict[str, Any]) -> str:
    """Writes plain data in the order given; `read_yaml` gives it back, and that again gives the same bytes."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _decode(text: str | bytes, source: str) -> str:
    size = len(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        limit = MAX_BYTES // 1000
        raise _error(f"{size / 1000:,.0f} kB is too large for a config; {limit} kB at most", source)
    if isinstance(text, str):
        return text.removeprefix("\ufeff")
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = _place(text[: error.start].decode("utf-8", "replace"), len(text))
        raise _error(f"{where}: not UTF-8 text; save the file as UTF-8", source) from None


def _plain(node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _mapping(node)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item) for item in node.value]
    return _scalar(node)


def _mapping(node: yaml.MappingNode) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    first_line: dict[str, int] = {}
    for key_node, value_node in node.value:
        if key_node.tag == _TAG + "merge":
            raise _refusal("a merge key (<<) is not accepted; write the keys out", key_node)
        if key_node.tag != _TAG + "str":
            raise _refusal("a key must be text; put it in quotes", key_node)
        key = key_node.value
        if key in plain:
            raise _refusal(f"the key {_short(key)} is given twice, first on line {first_line[key]}", key_node)
        first_line[key] = key_node.start_mark.line + 1
        plain[key] = _plain(value_node)
    return plain


def _scalar(node: yaml.Node) -> Any:
    name, value = node.tag.removeprefix(_TAG), node.value
    if name == "null":
        return None
    if name == "bool":
        return value.lower() in _TRUE
    if name == "int":
        if len(value) > MAX_DIGITS:
            raise _refusal(f"a number of {len(value):,} digits", node)
        return int(value.replace("_", ""))
    if name == "float":
        digits = value.replace("_", "").lower()
        return float(re.sub(r"\.(?=inf|nan)", "", digits))
    return value


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _refusal(problem: str, at: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark)


def _sentence(error: yaml.MarkedYAMLError) -> str:
    """One line from PyYAML's several: the place, then the problem."""
    problem = " ".join(str(error.problem or error.context or "not YAML").split())
    if problem.startswith("but ") and error.context:
        problem = f"{error.context}, {problem}"
    mark = error.problem_mark or error.context_mark
    place = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
    hint = "; indent with spaces, not tabs" if "'\\t'" in problem else ""
    return f"{place}{problem[:200]}{hint}"


def _place(text: str, position: int) -> str:
    lines = text[:position].split("\n")
    return f"line {len(lines)}, column {len(lines[-1]) + 1}"


def _error(message: str, source: str) -> ConfigError:
    return ConfigError([Fault("", message)], source=source)
