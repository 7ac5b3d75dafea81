"""The checkpoint that a run goes on from: its newest whole one."""

import logging
from pathlib import Path
from typing import Any

from pianistid_core.checkpoints import read_checkpoint
from pianistid_core.config import RunConfig
from pianistid_core.errors import CheckpointError, DamagedCheckpointError
from pianistid_core.kept_checkpoints import unreadable
from pianistid_core.outline import MAX_BYTES
from pianistid_core.processes import ProcessIdentity
from pianistid_core.run_config import resumable_checkpoint
from pianistid_core.runs import Run
from pianistid_core.seals import verify

log = logging.getLogger(__name__)


def saved_for(config: RunConfig, run: Run) -> tuple[str, dict[str, Any]] | None:
    """What a run goes on from, by name and content; None when it starts from nothing.

    A damaged checkpoint is passed over for the one before it, which the log and the run's state say, and set aside:
    what it stood for is trained again. Only the run's trainer may call this.

    Raises
    ------
    CheckpointError
        When every checkpoint is damaged: nobody has asked for a start from nothing. Also when one is refused for
        something else than damage, such as its size, which is no reason to set it aside.
    MemoryError
        When the machine has no room for it.
    RunError
        When the run was trained with another config, or its checkpoints are somebody else's.
    OSError
        When a checkpoint cannot be read, and not because it is damaged.
    """
    if resumable_checkpoint(config, run) is None:
        return None
    damaged: list[Path] = []
    for path in reversed(run.checkpoints()):
        try:
            saved = _read(path)
        except DamagedCheckpointError as error:
            log.warning("%s", error)
            damaged.append(path)
            continue
        if damaged:
            reason = f"{_names(damaged)} damaged; it goes on from {path.name}, the newest whole one"
            log.warning("run %s: %s", run.id, reason)
            run.set_aside(damaged)
            run.set_state("running", reason, epochs=config.epochs, process=ProcessIdentity.of())
        return path.name, saved
    raise CheckpointError(
        f"run {run.id} cannot go on: {_names(damaged)} damaged, and there is no other; put a good copy in place, or "
        "start over with --set checkpoint_cfg.load_checkpoints=false"
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        sealed = verify(path)
    except OSError as error:
        if not unreadable(error):
            raise
        raise DamagedCheckpointError(
            f"{path.name} is damaged: the disk cannot read it any more ({error.strerror})"
        ) from error
    try:
        return read_checkpoint(path)
    except CheckpointError as error:
        if isinstance(error.__cause__, OSError | MemoryError):  # the machine's trouble, which may pass
            raise error.__cause__ from error
        if sealed or path.stat().st_size > MAX_BYTES:  # it is as it was written, and refused for something else
            raise
        raise DamagedCheckpointError(str(error)) from error


def _names(paths: list[Path]) -> str:
    return f"{', '.join(path.name for path in paths)} {'is' if len(paths) == 1 else 'are'}"
