"""Why a run failed, in words and by kind; of a device without room, also the largest batch that fits."""

import errno
import gc
import logging
import os
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from pianistid_core.config import RunConfig
from pianistid_core.errors import DataError, DiskFullError, MidiError
from pianistid_core.learning import DivergedError, Learner
from pianistid_core.run_log import FailureKind

log = logging.getLogger(__name__)

# How torch says that memory ran out where it has no error of its own for it.
_OF_DEVICE = ("CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
_OF_MACHINE = ("can't allocate memory", "not enough memory")

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_ACCESS = (errno.EROFS, errno.EACCES, errno.EPERM)


def failure_in_words(error: Exception, config: RunConfig, learner: Learner | None = None) -> str:
    """One sentence on why a run failed, with what to do.

    With the `learner` of the run, a device that ran out of memory is tried with smaller batches, by steps that change
    the learner's weights: none of them may be saved afterwards.
    """
    if _is_of_device(error):
        return f"the device ran out of memory; {_smaller(error, config, learner)}"
    if _is_of_machine(error):
        return f"the machine ran out of memory; lower batch_size (now {config.batch_size}) or num_workers"
    if isinstance(error, OSError):
        return _of_file(error)
    return f"{type(error).__name__}: {error}"


def _of_file(error: OSError) -> str:
    name, why = error.filename or "a file", error.strerror or error
    if error.errno in _FULL:
        return "the disk is full; free some space and resume"
    if error.errno == errno.EFBIG:
        return f"{name} may not grow any further ({why}); raise the limit on the size of files and resume"
    if error.errno in _NO_ACCESS:
        return f"{name} cannot be used any more ({why}); give the user who trains access to its folder, and resume"
    if isinstance(error, FileNotFoundError) and error.filename:
        return _of_missing(Path(os.fsdecode(name)))
    if error.errno == errno.EIO:
        return f"the disk fails at {name} ({why}); see to the disk and resume"
    return f"{type(error).__name__}: {error}"


def _of_missing(path: Path) -> str:
    gone = next((folder for folder in reversed(path.absolute().parents) if not folder.exists()), None)
    if gone is not None:
        return f"the folder {gone} is gone: it was moved or deleted; put it back and resume"
    return f"a file is missing: {path}; put it back and resume"


def failure_kind(error: Exception) -> FailureKind | None:
    """What kind of failure an error is; None when it is of no kind of its own."""
    if _is_of_device(error) or _is_of_machine(error):
        return "out of memory"
    if isinstance(error, DiskFullError) or (isinstance(error, OSError) and error.errno in (*_FULL, errno.EFBIG)):
        return "disk full"
    if isinstance(error, OSError) and error.errno in _NO_ACCESS:
        return "no access"
    if isinstance(error, FileNotFoundError):
        return "missing file"
    if isinstance(error, DivergedError):
        return "loss is not a number"
    return "bad data" if isinstance(error, DataError | MidiError) else None


def _is_of_device(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or _says(error, _OF_DEVICE)


def _is_of_machine(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or _says(error, _OF_MACHINE)


def _says(error: BaseException, words: tuple[str, ...]) -> bool:
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def _smaller(error: Exception, config: RunConfig, learner: Learner | None) -> str:
    """What to do about a batch too big, found out on the learner where there is one."""
    lower = f"lower batch_size (now {config.batch_size})"
    if learner is None:
        return lower
    log.info("the device ran out of memory; looking for the largest batch that fits")
    # The frames that the error came through hold the batch and its activations.
    traceback.clear_frames(error.__traceback__)
    smallest = 2 if config.loss_type == "cce+triplet" else 1
    try:
        largest = largest_batch(lambda n: _fits(learner, n), smallest=smallest, below=config.batch_size)
    except Exception as trouble:  # the run's own failure is what has to be told
        log.warning("no smaller batch could be tried: %s: %s", type(trouble).__name__, trouble)
        return lower
    if largest is None:
        return f"not even a batch of {smallest} fits, so choose a smaller network or another device"
    return f"the largest batch that fits is {largest}, so set batch_size to {largest} (now {config.batch_size})"


def largest_batch(fits: Callable[[int], bool], *, smallest: int, below: int) -> int | None:
    """The largest number of clips from `smallest` on and under `below` of which `fits` is true; None: of none.

    What fits is taken to fit with fewer clips as well.
    """
    fitting, too_many = None, below
    n = max(smallest, below // 2)
    while (fitting or smallest - 1) + 1 < too_many:
        if fits(n):
            fitting = n
        else:
            too_many = n
        n = max(smallest, too_many // 2) if fitting is None else (fitting + too_many) // 2
    return fitting


def _fits(learner: Learner, n: int) -> bool:
    _free()
    try:
        learner.try_batch(n)
    except Exception as error:
        if not _is_of_device(error):
            raise
        traceback.clear_frames(error.__traceback__)
        return False
    finally:
        _free()
    return True


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
