"""Words and figures as the pages show them, and the one place where foreign text is made safe.

Streamlit renders markdown in labels, toasts, metrics and captions, so a name that came with a file (a pianist, a track,
a run) could draw an image or a link. `plain` keeps every such name text.
"""

import re
import shlex
from collections.abc import Iterable
from datetime import UTC, datetime

_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:@&=^/\"'])")
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]+"
)
_NO_CHARACTER = re.compile(
    "[\ud800-\udfff]"
)  # a byte of a file's name that is no UTF-8; the browser's messages take none
# After markdown's own escapes are gone, the page still looks through each piece of text for addresses, arrows and signs
# of its own, and makes links and pictures of them. A directive with nothing in it ends a piece and draws nothing.
_APART = ":small[]"
_MADE_INTO_MORE = re.compile(
    r"(?<=:)(?=streamlit:|material_|//)|(?<=www)(?=\.)|(?<=@)(?=[\w-])|(?<=[-<>~])(?=[-=>])", re.IGNORECASE
)


def one_line(text: object, limit: int = 200) -> str:
    """Gives text on one line, without control or direction marks, cut at `limit` characters."""
    line = _NO_CHARACTER.sub("\ufffd", _CONTROL.sub(" ", str(text)).strip())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def plain(text: object, limit: int = 200) -> str:
    """Gives foreign text so that markdown shows it as it is: nothing in it is a link, an image or a tag."""
    pieces = _MADE_INTO_MORE.split(one_line(text, limit))
    return _APART.join(_SPECIAL.sub(r"\\\1", piece) for piece in pieces)


def sentence(error: object) -> str:
    """Gives an error's message as one safe line for `st.error` and the like."""
    text = one_line(error, 1200)
    if not text:
        return "Something went wrong, and gave no reason\\."
    first = text.split(" ", 1)[0]
    return plain(text[:1].upper() + text[1:] if first.isalpha() else text, 1200)


def command(*words: str) -> str:
    """Gives a command to copy into a terminal, in which each word is one to the shell whatever stands in it."""
    return shlex.join(one_line(word, 1000) for word in words)


def percent(share: float | None, digits: int = 0) -> str:
    """Gives 0.853 as "85 %"; nothing as a dash."""
    return "—" if share is None or share != share else f"{100 * share:.{digits}f} %"


def duration(seconds: float | None) -> str:
    """Gives a length of time in the unit a person would use."""
    if seconds is None or seconds != seconds:
        return "—"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s" if minutes < 10 else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 100 else f"{hours} h"


def clock(seconds: float) -> str:
    """Gives a place in a piece: 75 s as "1:15"."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"


def count(n: int, one: str, many: str | None = None) -> str:
    """Gives "1 clip", "2,400 clips"."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def listed(words: Iterable[object], limit: int = 6) -> str:
    """Joins words as a sentence does, the last with "and"; cut after `limit`."""
    items = [one_line(word) for word in words]
    if len(items) > limit:
        items = [*items[:limit], f"{len(items) - limit} more"]
    return ", ".join(items[:-1]) + " and " + items[-1] if len(items) > 1 else "".join(items)


def said(value: object) -> str:
    """Gives a setting's value as its YAML would have it."""
    return "none" if value is None else one_line(str(value).lower() if isinstance(value, bool) else value, 500)


def ago(moment: float | None, now: float) -> str:
    """Says how long a moment (seconds since 1970) is past."""
    if moment is None:
        return "—"
    past = max(0.0, now - moment)
    if past < 90:
        return "just now"
    if past < 86_400 * 2:
        return f"{past / 60:.0f} min ago" if past < 3600 else f"{past / 3600:.0f} h ago"
    return datetime.fromtimestamp(moment, UTC).astimezone().strftime("%d %b %Y")
