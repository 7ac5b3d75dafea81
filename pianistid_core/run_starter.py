"""Who started a run, kept in its folder so that it goes wherever the run goes."""

import logging

from pianistid_core.runs import Run

log = logging.getLogger(__name__)

_FILE = "by.json"
_MOST_CHARACTERS = 200


def remember_starter(run: Run, who: str) -> None:
    """Keeps who started a run, or went on with it last; a disk that refuses costs only that."""
    try:
        run.save_json(_FILE, {"by": who[:_MOST_CHARACTERS]})
    except OSError as error:
        log.warning("who started run %s cannot be kept: %s", run.id, error.strerror or error)


def starter_of(run: Run) -> str | None:
    """The name of the person who started a run; None when that was not kept. It is foreign text."""
    name = (run.read_json(_FILE) or {}).get("by")
    return name[:_MOST_CHARACTERS] if isinstance(name, str) and name else None
