"""A small language to choose runs by: `optim_cfg.lr < 0.01 and (accuracy > 0.7 or "baseline" in tags)`.

It reads like Python and is parsed by Python's own parser, but nothing is ever evaluated: what is not a comparison,
`in`, `and`, `or` or `not` of names and plain values is refused. A value that a run lacks compares false. A text without
any operator is looked for in the run's name, tags and note.
"""

import ast
import operator
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pianistid_core.config import config_fields
from pianistid_core.errors import FilterError
from pianistid_core.runs import STATUSES, RunSummary, describe_time
from pianistid_core.schema import closest

__all__ = ["MAX_CHARACTERS", "FilterError", "RunFilter", "config_keys", "known_names", "parse_filter"]

MAX_CHARACTERS = 1000
MAX_DEPTH = 30

_ALLOWED = "allowed are names, numbers, quoted texts, < <= > >= == != in not and or, and brackets"
_OPERATOR = re.compile(r"[<>=!()\[\]]|\b(?:and|or|not|in|is)\b")
_WHITE = re.compile(r"\s")
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda value, among: value in among,
    ast.NotIn: lambda value, among: value not in among,
}

# What a run is asked for besides its config; a metric is that of the last epoch.
_FACTS: dict[str, Callable[[RunSummary], Any]] = {
    "id": lambda run: run.id,
    "experiment": lambda run: run.id.partition("/")[0],
    "run": lambda run: run.id.partition("/")[2],
    "state": lambda run: run.state.status,
    "accuracy": lambda run: run.best_recording_accuracy,
    "clip_accuracy": lambda run: run.last.get("test_clip_accuracy"),
    "epoch": lambda run: run.state.epoch,
    "epochs": lambda run: run.state.epochs,
    "seconds": lambda run: run.seconds,
    "tags": lambda run: run.labels.tags,
    "tag": lambda run: run.labels.tags,
    "note": lambda run: run.labels.note,
    "starred": lambda run: run.labels.starred,
    "archived": lambda run: run.labels.archived,
    "created": lambda run: describe_time(run.created),
    "age_days": lambda run: (time.time() - run.created) / 86_400,
}
_METRICS = (
    "train_loss", "train_clip_accuracy", "test_loss", "test_clip_accuracy", "test_recording_accuracy",
    "test_macro_recall", "lr", "clips_per_second", "skipped", "test_skipped", "peak_memory_mb",
)  # fmt: skip
_WORDS = {"true": True, "True": True, "false": False, "False": False}
_CHOICES = ("encoder_module", "optim_type", "sched_type", "loss_type")


class _RefusedError(Exception):
    """A part of a filter that has no meaning here; `column` counts bytes."""

    def __init__(self, message: str, node: ast.expr) -> None:
        self.column = node.col_offset
        super().__init__(message)


class _Missing:
    """What a run does not have."""


_MISSING = _Missing()


@dataclass(frozen=True)
class _Subject:
    summary: RunSummary
    config: Mapping[str, Any]

    def contains(self, text: str) -> bool:
        said = self.summary.labels
        places = (self.summary.id, *said.tags, said.note)
        return any(text in " ".join(place.casefold().split()) for place in places)


_Value = Callable[[_Subject], Any]


@dataclass(frozen=True)
class RunFilter:
    """A filter that has been read; `needs_config` tells whether it asks for any key of a config."""

    text: str
    needs_config: bool
    _truth: Callable[[_Subject], bool]

    def matches(self, summary: RunSummary, config: Mapping[str, Any]) -> bool:
        """Whether a run is meant; `config` holds its config by dotted keys."""
        return self._truth(_Subject(summary, config))


def parse_filter(text: str) -> RunFilter:
    """Reads a filter; an empty one means every run.

    Raises
    ------
    FilterError
        When it cannot be read, with the place and what is allowed.
    """
    if len(text) > MAX_CHARACTERS:
        raise FilterError(
            f"the filter has {len(text):,} characters; at most {MAX_CHARACTERS:,} are read", MAX_CHARACTERS
        )
    # Spaces for whatever is white, and none before the first character: places stay, and Python sees one line.
    plain = _WHITE.sub(" ", text).rstrip().lstrip()
    skipped = len(text) - len(text.lstrip())
    if not plain:
        return RunFilter(text, False, lambda subject: True)
    if not _OPERATOR.search(_without_quoted(plain)) and plain not in ("starred", "archived"):
        wanted = " ".join(_unquoted(plain).casefold().split())
        return RunFilter(text, False, lambda subject: subject.contains(wanted))
    reader = _Reader()
    try:
        tree = ast.parse(plain, mode="eval")
        truth = reader.truth(tree.body, 0)
    except _RefusedError as error:
        # Python counts in bytes of UTF-8.
        position = len(plain.encode()[: error.column].decode(errors="ignore"))
        raise FilterError(str(error), skipped + position) from None
    except SyntaxError as error:
        at_end = not error.offset or error.lineno != 1
        position = skipped + (len(plain) if at_end else min((error.offset or 1) - 1, len(plain)))
        raise FilterError(
            f"this cannot be read as a filter ({error.msg}); {_ALLOWED}; to look for these words, put them in quotes",
            position,
        ) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise FilterError(f"this cannot be read as a filter; {_ALLOWED}") from error
    return RunFilter(text, reader.needs_config, truth)


class _Reader:
    """Turns a syntax tree into functions of a run."""

    def __init__(self) -> None:
        self.needs_config = False

    def truth(self, node: ast.expr, depth: int) -> Callable[[_Subject], bool]:
        if depth > MAX_DEPTH:
            raise _RefusedError(f"this is nested more than {MAX_DEPTH} deep; write it with fewer brackets", node)
        match node:
            case ast.BoolOp(op=ast.And(), values=values):
                parts = [self.truth(value, depth + 1) for value in values]
                return lambda subject: all(part(subject) for part in parts)
            case ast.BoolOp(values=values):
                parts = [self.truth(value, depth + 1) for value in values]
                return lambda subject: any(part(subject) for part in parts)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inner = self.truth(operand, depth + 1)
                return lambda subject: not inner(subject)
            case ast.Compare():
                return self.comparison(node)
            case ast.Constant(value=str(text)):
                wanted = text.casefold()
                return lambda subject: subject.contains(wanted)
            case ast.Name() | ast.Attribute() | ast.Constant(value=bool()):
                value = self.value(node)
                return lambda subject: value(subject) not in (False, None, _MISSING, "", ())
        raise _refused(node)

    def comparison(self, node: ast.Compare) -> Callable[[_Subject], bool]:
        values = [self.value(part) for part in (node.left, *node.comparators)]
        compare = [_COMPARISONS.get(type(op)) for op in node.ops]
        checks: list[Callable[[Any, Any], Any]] = []
        for one, right in zip(compare, node.comparators, strict=True):
            if one is None:
                raise _RefusedError("`is` does not compare values; write == or !=", right)
            checks.append(one)

        def truth(subject: _Subject) -> bool:
            found = [value(subject) for value in values]
            pairs = zip(checks, found, found[1:], strict=False)
            return all(_holds(check, left, right) for check, left, right in pairs)

        return truth

    def value(self, node: ast.expr) -> _Value:
        match node:
            case ast.Constant(value=bool() | int() | float() | str() as constant):
                return lambda subject: constant
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return lambda subject: -number
            case ast.Tuple(elts=elements) | ast.List(elts=elements) | ast.Set(elts=elements):
                parts = [self.element(element) for element in elements]
                return lambda subject: tuple(part(subject) for part in parts)
            case ast.Name() | ast.Attribute():
                return self.named(node)
        raise _refused(node)

    def element(self, node: ast.expr) -> _Value:
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            raise _RefusedError("a list in a list has no meaning here; write one list", node)
        return self.value(node)

    def named(self, node: ast.Name | ast.Attribute) -> _Value:
        name = _dotted(node)
        if name in _WORDS:
            word = _WORDS[name]
            return lambda subject: word
        if name in _FACTS:
            fact = _FACTS[name]
            return lambda subject: _present(fact(subject.summary))
        if name in _METRICS:
            return lambda subject: _present(subject.summary.last.get(name))
        if name in config_keys():
            self.needs_config = True
            return lambda subject: _present(subject.config.get(name))
        if name in STATUSES:
            raise _RefusedError(f'{name!r} is a state; write state == "{name}"', node)
        near = closest(name, known_names())
        meant = f"did you mean {near}?" if near else "names are accuracy, tags or keys of a config such as optim_cfg.lr"
        raise _RefusedError(f"there is no {name!r}; {meant} (a text to look for stands in quotes)", node)


def _holds(check: Callable[[Any, Any], Any], left: Any, right: Any) -> bool:
    if isinstance(left, _Missing) or isinstance(right, _Missing):
        return False
    try:
        return bool(check(left, right))
    except TypeError:  # a text and a number, say
        return False


def _present(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return _MISSING if value is None else value


def _dotted(node: ast.expr) -> str:
    parts: list[str] = []
    at = node
    while isinstance(at, ast.Attribute):
        parts.append(at.attr)
        at = at.value
    if not isinstance(at, ast.Name):
        raise _refused(node)
    return ".".join([at.id, *reversed(parts)])


def _refused(node: ast.expr) -> _RefusedError:
    words = {ast.BinOp: "arithmetic", ast.Call: "a call", ast.Subscript: "an index", ast.Lambda: "a function"}
    what = words.get(type(node), "this")
    return _RefusedError(f"{what} has no place in a filter; {_ALLOWED}", node)


def _without_quoted(text: str) -> str:
    return re.sub(r"\"[^\"]*\"|'[^']*'", "_", text)


def _unquoted(text: str) -> str:
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1] if quoted else text


@cache
def config_keys() -> frozenset[str]:
    """Every dotted key that a config may have, for whatever choices."""
    return frozenset(_config_keys())


def _config_keys() -> Iterator[str]:
    plain = {info.key: info for info in config_fields({})}
    yield from plain
    for key in _CHOICES:
        for choice in plain[key].choices or ():
            yield from (info.key for info in config_fields({key: choice}))


def known_names() -> tuple[str, ...]:
    """Every name that a filter may use, those of a run first."""
    return (*_FACTS, *_METRICS, *sorted(config_keys()))
