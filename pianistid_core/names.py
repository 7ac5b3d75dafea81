"""Names that become folders: experiments, runs and splits."""

import unicodedata

MAX_CHARACTERS = 120
MAX_BYTES = 240  # file systems stop at 255, and a name may get an ending
_EXTRA_CHARACTERS = frozenset("+-_.,=() ")
_WINDOWS_DEVICES = frozenset(
    ["CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(1, 10))]
)


def folder_name_problem(name: str) -> str | None:
    """Says what a name should be instead, or gives None for a name that is safe as a folder on every system."""
    if not name.strip():
        return "give a name that is not empty"
    if len(name) > MAX_CHARACTERS or len(name.encode("utf-8", "replace")) > MAX_BYTES:
        return f"give at most {MAX_CHARACTERS} characters ({MAX_BYTES} bytes), since it names a folder"
    if "/" in name or "\\" in name:
        return "leave out / and \\, since it names one folder"
    if ".." in name or name[0] in ". " or name[-1] in ". ":
        return "leave out .. and a dot or space at either end, since it names a folder"
    strange = next((c for c in name if not c.isalnum() and c not in _EXTRA_CHARACTERS), None)
    if strange is not None:
        return f"leave out {strange!r}; letters, digits, spaces and + - _ . , = ( ) may stand in a folder's name"
    if unicodedata.normalize("NFKC", name) != name:
        return f"write it as {unicodedata.normalize('NFKC', name)!r}, since its characters have look-alikes"
    if name.split(".")[0].rstrip().upper() in _WINDOWS_DEVICES:
        return "give another name, since Windows keeps this one for a device"
    return None
