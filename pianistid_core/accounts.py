"""Who may do what in the lab: roles, in order."""

from enum import IntEnum


class Role(IntEnum):
    """What a person may do; each may do what those before it may."""

    LOOK = 1
    RUN = 2
    ADMINISTER = 3

    @property
    def label(self) -> str:
        """The role as a word: look, run or administer."""
        return self.name.lower()
