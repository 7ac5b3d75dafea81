"""A run's checkpoints on disk: saved whole and proven, and never without one to fall back to.

A checkpoint is written aside, flushed, read back from the disk and compared with its seal, and only then takes its
name; older ones are deleted after that, and the newest of them stays. One that is damaged all the same is passed over
by a run that goes on, and set aside under a name of its own, `checkpoint_010.pth.damaged`.
"""

import errno
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pianistid_core.atomic import replacing
from pianistid_core.errors import DamagedCheckpointError, DiskFullError, RunError
from pianistid_core.run_folder import CHECKPOINT, RunFolder, checkpoint_position
from pianistid_core.seals import sealing, verify

_DAMAGED = ".damaged"


class KeptCheckpoints(RunFolder):
    """A run, as far as its checkpoints go."""

    def latest_checkpoint(self) -> Path:
        """The most trained checkpoint.

        What is measured of a run is of this one or of none: a damaged one is not silently replaced by another network.

        Raises
        ------
        RunError
            When there is none yet.
        DamagedCheckpointError
            When it is damaged; the message names the whole one before it, if there is one.
        OSError
            When it cannot be read.
        """
        checkpoints = self.checkpoints()
        if not checkpoints:
            raise RunError(f"run {self.id} has no checkpoint yet; train it first, or wait for its first one")
        try:
            verify(checkpoints[-1])
        except DamagedCheckpointError as error:
            before = next((path for path in reversed(checkpoints[:-1]) if _is_whole(path)), None)
            instead = (
                f"{before.name} before it is whole: name that one, or resume the run, which goes on from it"
                if before is not None
                else "no other of the run is whole; train it again"
            )
            raise DamagedCheckpointError(f"run {self.id}: {checkpoints[-1].name} is damaged; {instead}") from error
        return checkpoints[-1]

    def save_checkpoint(self, state: Mapping[str, Any], *, epoch: int, batch: int, keep_old: bool) -> Path:
        """Writes a checkpoint after `epoch` epochs and `batch` batches of the next, whole and proven or not at all.

        Of older ones, the newest is kept in any case. Unless `keep_old`, the others are deleted; those in the middle
        of an epoch always are, for they only serve to go on from.

        Raises
        ------
        DiskFullError
            When there is less room than the last checkpoint took; nothing is written then.
        RunError
            When it cannot be read back as it was written; the older ones are all kept.
        OSError
            When it cannot be written.
        """
        import torch

        path = self.path / (f"checkpoint_{epoch:03d}" + (f"_batch_{batch:05d}" if batch else "") + ".pth")
        self._require_room(path.name)
        with replacing(path, prove=self._prove) as file, sealing(file) as sealed:
            torch.save(dict(state), sealed)
        older = [old for old in self.checkpoints() if checkpoint_position(old) < (epoch, batch)]
        for old in older[:-1]:
            if not keep_old or checkpoint_position(old)[1]:
                old.unlink(missing_ok=True)
        _damaged_name(path).unlink(missing_ok=True)
        return path

    def delete_checkpoint(self, name: str) -> None:
        """Removes one checkpoint, or one that was set aside because it was damaged.

        Raises
        ------
        RunError
            When there is none of that name, the run is running, or the folder is not one that this program made.
        """
        path = self.path / name
        if not CHECKPOINT.fullmatch(name.removesuffix(_DAMAGED)) or not path.is_file():
            raise RunError(f"run {self.id} has no checkpoint {name!r}; it may have been deleted already")
        if self.is_due():
            raise RunError(f"run {self.id} is still running and goes on from its checkpoints; stop it first")
        if not self.is_own():
            raise RunError(f"{self.path} was not made by this program, so it is left alone; remove {name} yourself")
        path.unlink(missing_ok=True)

    def damaged_checkpoints(self) -> list[Path]:
        """Those that were found damaged and set aside, from the least to the most trained."""
        found = (path for path in self.path.glob(f"checkpoint_*{_DAMAGED}") if CHECKPOINT.fullmatch(path.stem))
        return sorted(found, key=lambda path: checkpoint_position(path.with_suffix("")))

    def set_aside(self, damaged: Iterable[Path]) -> None:
        """Gives damaged checkpoints a name by which nothing takes them for whole ones, and by which they are listed."""
        for path in damaged:
            os.replace(path, _damaged_name(path))

    def _require_room(self, name: str) -> None:
        checkpoints = self.checkpoints()
        if not checkpoints:
            return
        needed, free = checkpoints[-1].stat().st_size, shutil.disk_usage(self.path).free
        if free < needed:
            raise DiskFullError(
                f"the disk is full: {name} needs {needed / 1e6:,.1f} MB and {free / 1e6:,.1f} MB are free in "
                f"{self.path}; free some space and resume, the run goes on from {checkpoints[-1].name}"
            )

    def _prove(self, written: Path) -> None:
        """Reads a checkpoint back from the disk, not from the memory that it was written to."""
        if hasattr(os, "posix_fadvise"):
            with written.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            sealed = verify(written)
        except DamagedCheckpointError:
            sealed = False
        if not sealed:
            raise RunError(
                f"a checkpoint could not be read back as it was written in {self.path}: the disk or the memory of this "
                "machine fails; the older checkpoints are kept, move the run to a sound disk and resume"
            )


def unreadable(error: OSError) -> bool:
    """Whether an error of reading says that the disk has lost what it held there, which is damage as any other."""
    return error.errno == errno.EIO


def _is_whole(path: Path) -> bool:
    try:
        verify(path)
    except (DamagedCheckpointError, OSError):
        return False
    return True


def _damaged_name(path: Path) -> Path:
    return path.with_name(path.name + _DAMAGED)
