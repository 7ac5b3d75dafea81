"""Names that become folders and files: experiments, runs and splits, and what archives and servers call theirs."""

import unicodedata

MAX_CHARACTERS = 120
MAX_BYTES = 240  # file systems stop at 255, and a name may get an ending
_MOST_BYTES = 255
_EXTRA_CHARACTERS = frozenset("+-_.,=() ")
_WINDOWS_DEVICES = frozenset(["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"]) | frozenset(
    f"{port}{number}" for port in ("COM", "LPT") for number in "123456789¹²³"
)


def is_plain_name(name: str) -> bool:
    """Whether a name that somebody else chose is safe for a file or folder on every system."""
    if not name or _n_bytes(name) > MAX_BYTES or name[0] in ".-~ " or name[-1] in ". ":
        return False
    if any(character in '/\\:*?"<>|' or unicodedata.category(character)[0] == "C" for character in name):
        return False
    return not _is_device(name)


def stays_inside(name: str) -> bool:
    """Whether a name, looked up in a folder, can only be of something right in that folder, on every system.

    Looser than a plain name: it is for folders that are there already, whatever somebody has called them.
    """
    if not name.strip(". ") or _n_bytes(name) > _MOST_BYTES or name[1:2] == ":":
        return False
    return not any(character in "/\\\0" for character in name)


def twin_of(name: str) -> str:
    """What two names have in common that are one file on a system which ignores case or how letters are composed."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def printable(text: str) -> str:
    """One line of text in which every character that is not seen is written out, for terminals and logs."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _written_out(c) for c in text)


def folder_name_problem(name: str) -> str | None:
    """Says what a name that is being chosen should be instead, or gives None for one that is safe and easy to read.

    What passes is also a plain name.
    """
    if not name.strip():
        return "give a name that is not empty"
    if len(name) > MAX_CHARACTERS or _n_bytes(name) > MAX_BYTES:
        return f"give at most {MAX_CHARACTERS} characters ({MAX_BYTES} bytes), since it names a folder"
    if "/" in name or "\\" in name:
        return "leave out / and \\, since it names one folder"
    if ".." in name or name[0] in ". " or name[-1] in ". ":
        return "leave out .. and a dot or space at either end, since it names a folder"
    if name[0] == "-":
        return "leave out the - at its beginning, since commands would take it for an option"
    strange = next((c for c in name if not c.isalnum() and c not in _EXTRA_CHARACTERS), None)
    if strange is not None:
        return f"leave out {strange!r}; letters, digits, spaces and + - _ . , = ( ) may stand in a folder's name"
    if unicodedata.normalize("NFKC", name) != name:
        return f"write it as {unicodedata.normalize('NFKC', name)!r}, since its characters have look-alikes"
    if _is_device(name):
        return "give another name, since Windows keeps this one for a device"
    return None


def _written_out(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _n_bytes(name: str) -> int:
    return len(name.encode("utf-8", "surrogatepass"))


def _is_device(name: str) -> bool:
    return name.split(".")[0].rstrip().upper() in _WINDOWS_DEVICES
