"""Drafts: what was typed into Build, kept on disk so that it survives a page change, a refresh and a restart.

A draft is one small JSON file in the data root's cache folder, named by an id that stands in the address bar. Two pages
may show the same draft: each looks at the file's time before it changes anything, and takes up what the other wrote.
"""

import copy
import hashlib
import json
import re
import secrets
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pianistid_core.atomic import write_atomically
from pianistid_core.config import RunConfig, to_dict
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import PianistIDError
from pianistid_core.strict_json import parse_json

MOST_DRAFTS = 40
MOST_STEPS = 15
_MOST_BYTES = 1_000_000
_ID = re.compile(r"[0-9a-f]{10}")


class DraftError(PianistIDError):
    """A draft that is not there, or whose file is not one."""


@dataclass(frozen=True)
class Step:
    """What a draft held before a change: where it started from and its values."""

    base: str
    values: dict[str, Any]


@dataclass
class SweepText:
    """What was typed for a sweep: two settings with their values, and seeds."""

    open: bool = False
    axes: list[tuple[str, str]] = field(default_factory=lambda: [("", ""), ("", "")])
    seeds: str = ""


@dataclass
class Draft:
    """The config being built: plain values nested as in a YAML, and what it is compared with.

    `generation` names the widgets: it grows when values come from elsewhere, so that every widget takes them up. It and
    `written`, the file's time as last seen here, belong to one session; everything else is on disk.
    """

    id: str = field(default_factory=lambda: secrets.token_hex(5))
    base: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    yaml_text: str | None = None
    yaml_faults: tuple[str, ...] = ()
    sweep: SweepText = field(default_factory=SweepText)
    history: list[Step] = field(default_factory=list)
    generation: int = 0
    written: int = 0

    def remember(self) -> None:
        """Keeps what it holds, for `undo`; the oldest steps are forgotten."""
        step = Step(self.base, copy.deepcopy(self.values))
        if not self.base or (self.history and self.history[-1] == step):
            return
        self.history = [*self.history, step][-MOST_STEPS:]

    def take(self, config: RunConfig, base: str) -> None:
        """Takes up a whole config in place of what it held."""
        self.remember()
        self.base, self.values = base, copy.deepcopy(to_dict(config))
        self.drop_text()

    def undo(self) -> bool:
        """Goes back by one change; says whether there was one."""
        if not self.history:
            return False
        step = self.history.pop()
        self.base, self.values = step.base, step.values
        self.drop_text()
        return True

    def drop_text(self) -> None:
        """Lets the YAML follow the values again, and every widget with it."""
        self.yaml_text, self.yaml_faults = None, ()
        self.generation += 1


class DraftStore:
    """The drafts that one person has in a data root: of somebody with an account, or of whoever sits at the machine."""

    def __init__(self, root: DataRoot, owner: str = "") -> None:
        self.folder = root.drafts_dir
        # Beside those of others, under a name that says nothing about whose they are and is never a path.
        mark = unicodedata.normalize("NFKC", owner).strip().casefold().encode("utf-8", "surrogatepass")
        self._prefix = f"{hashlib.sha256(mark).hexdigest()[:16]}." if owner else ""

    def path(self, draft_id: str) -> Path:
        """The file of a draft.

        Raises: DraftError when the id is none; it is never used as a path.
        """
        if not _ID.fullmatch(draft_id):
            raise DraftError(f"the address names the draft {draft_id[:60]!r}, which is no draft's name")
        return self.folder / f"{self._prefix}{draft_id}.json"

    def written(self, draft_id: str) -> int:
        """The time of a draft's file in nanoseconds, 0 when it is not there."""
        try:
            return self.path(draft_id).stat().st_mtime_ns
        except OSError:
            return 0

    def load(self, draft_id: str) -> Draft:
        """The draft of that id.

        Raises: DraftError when there is none, or its file cannot be read.
        """
        path = self.path(draft_id)
        try:
            seen = path.stat().st_mtime_ns
            with path.open("rb") as file:
                content = file.read(_MOST_BYTES + 1)
        except FileNotFoundError:
            raise DraftError(f"the draft {draft_id} is not here any more") from None
        except OSError as error:
            raise DraftError(f"the draft {draft_id} cannot be read: {error.strerror}") from None
        try:
            if len(content) > _MOST_BYTES:
                raise ValueError("too large")
            draft = _from_plain(draft_id, parse_json(content))
        except (ValueError, TypeError, KeyError):
            raise DraftError(f"the file of the draft {draft_id} is damaged") from None
        draft.written = seen
        return draft

    def save(self, draft: Draft) -> None:
        """Writes a draft.

        Raises: DraftError when the disk refuses.
        """
        path = self.path(draft.id)
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # a config may hold a server's password
            write_atomically(path, json.dumps(_to_plain(draft), ensure_ascii=True, default=str).encode())
        except OSError as error:
            raise DraftError(f"what you type cannot be kept on disk: {error.strerror} ({self.folder})") from None
        draft.written = path.stat().st_mtime_ns

    def ids(self) -> list[str]:
        """The drafts on disk, the latest first."""
        try:
            found = [path for path in self.folder.glob(f"{self._prefix}*.json") if _ID.fullmatch(self._id(path))]
        except OSError:
            return []
        return [self._id(path) for path in sorted(found, key=_time, reverse=True)]

    def _id(self, path: Path) -> str:
        return path.stem.removeprefix(self._prefix)

    def latest(self) -> Draft | None:
        """The draft that was changed last, if one can be read."""
        for draft_id in self.ids():
            try:
                return self.load(draft_id)
            except DraftError:
                continue
        return None

    def prune(self) -> None:
        """Removes the oldest drafts beyond the number that is kept."""
        for draft_id in self.ids()[MOST_DRAFTS:]:
            self.path(draft_id).unlink(missing_ok=True)
            self._result_path(draft_id).unlink(missing_ok=True)

    def save_result(self, draft_id: str, plain: dict[str, Any]) -> None:
        """Keeps the result of a draft's last preflight beside it."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(self._result_path(draft_id), json.dumps(plain, default=str).encode())

    def result(self, draft_id: str) -> dict[str, Any] | None:
        """The result of a draft's last preflight as `save_result` got it, or None when there is none to be read."""
        try:
            with self._result_path(draft_id).open("rb") as file:
                found = parse_json(file.read(_MOST_BYTES))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _result_path(self, draft_id: str) -> Path:
        return self.path(draft_id).with_suffix(".preflight.json")


def _time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _to_plain(draft: Draft) -> dict[str, Any]:
    return {
        "base": draft.base,
        "values": draft.values,
        "yaml_text": draft.yaml_text,
        "yaml_faults": list(draft.yaml_faults),
        "sweep": {"open": draft.sweep.open, "axes": draft.sweep.axes, "seeds": draft.sweep.seeds},
        "history": [{"base": step.base, "values": step.values} for step in draft.history],
    }


def _from_plain(draft_id: str, plain: Any) -> Draft:
    """Reads what `_to_plain` wrote; raises ValueError, TypeError or KeyError for anything else."""
    text = _section(plain).get("yaml_text")
    sweep = _section(plain.get("sweep", {}))
    axes = [(_text(key), _text(values)) for key, values in sweep.get("axes", ())]
    return Draft(
        id=draft_id,
        base=_text(plain.get("base")),
        values=_section(plain.get("values")),
        yaml_text=None if text is None else _text(text),
        yaml_faults=tuple(_text(fault) for fault in plain.get("yaml_faults") or ()),
        sweep=SweepText(bool(sweep.get("open")), [*axes, ("", ""), ("", "")][:2], _text(sweep.get("seeds", ""))),
        history=[Step(_text(s["base"]), _section(s["values"])) for s in plain.get("history", ())][-MOST_STEPS:],
    )


def _section(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("not a section")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not text")
    return value
