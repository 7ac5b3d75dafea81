"""What people say of a run: tags, a note, a star, and whether it is put away."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pianistid_core.errors import RunError

MAX_TAGS = 20
MAX_TAG_CHARACTERS = 40
MAX_NOTE_CHARACTERS = 4000


@dataclass(frozen=True)
class RunLabels:
    """Tags, note, star and archive of a run; a tag is a short word, a note may have several lines."""

    tags: tuple[str, ...] = ()
    note: str = ""
    starred: bool = False
    archived: bool = False

    def checked(self) -> "RunLabels":
        """The same labels without stray spaces and repeated tags.

        Raises
        ------
        RunError
            When a tag or the note is too long, holds control characters, or there are too many tags.
        """
        tags: dict[str, str] = {}
        for tag in self.tags:
            clean = " ".join(unicodedata.normalize("NFC", tag).split())
            if clean:
                tags.setdefault(clean.casefold(), clean)
        if len(tags) > MAX_TAGS:
            raise RunError(f"got {len(tags)} tags; a run takes at most {MAX_TAGS}, so leave some out")
        for clean in tags.values():
            if len(clean) > MAX_TAG_CHARACTERS:
                raise RunError(
                    f"the tag {clean[:20] + '...'!r} has {len(clean)} characters; a tag has at most "
                    f"{MAX_TAG_CHARACTERS}, and the note takes more"
                )
            if not clean.isprintable() or "," in clean:
                raise RunError(f"the tag {clean!r} holds a comma or a control character; leave it out")
        return RunLabels(tuple(tags.values()), _checked_note(self.note), self.starred, self.archived)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "tags": list(self.tags)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "RunLabels":
        """What `to_dict` gave; what is damaged or not allowed counts as not said."""
        tags, note = data.get("tags"), data.get("note")
        known = [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, Sequence) else []
        labels = cls(
            tuple(known) if not isinstance(tags, str) else (),
            note if isinstance(note, str) else "",
            data.get("starred") is True,
            data.get("archived") is True,
        )
        try:
            return labels.checked()
        except RunError:
            return cls(starred=labels.starred, archived=labels.archived)


def _checked_note(note: str) -> str:
    clean = unicodedata.normalize("NFC", note.replace("\r\n", "\n").replace("\t", " ")).strip()
    if len(clean) > MAX_NOTE_CHARACTERS:
        raise RunError(
            f"the note has {len(clean):,} characters; at most {MAX_NOTE_CHARACTERS:,} are kept, so shorten it"
        )
    strange = next((c for c in clean if c != "\n" and unicodedata.category(c) in ("Cc", "Cs")), None)
    if strange is not None:
        raise RunError(f"the note holds the control character {strange!r}; leave it out")
    return clean
