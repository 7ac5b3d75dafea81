"""How the processes of a training share a network's work, so that the numbers are those of one process."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pianistid_core.config import RunConfig
from pianistid_core.errors import DataError, RunError
from pianistid_core.evaluation import Predictions
from pianistid_core.models.chance import Share, share_chance
from pianistid_core.models.norms import Together, share_norms
from pianistid_core.peers import Peers


def refuse_what_cannot_be_shared(config: RunConfig, peers: Peers) -> None:
    """Raises RunError when several processes cannot train by a config as one would."""
    if peers.many and config.loss_type == "cce+triplet":
        raise RunError(
            f"loss_type cce+triplet compares all clips of a batch with each other, and {peers.world} processes hold "
            "only shares of it; train it with one process, or with loss_type: cce"
        )


def for_learner(config: RunConfig, peers: Peers) -> RunConfig:
    """The config by which one of several processes steps: nothing is compiled, for a compiler knows no peers."""
    return replace(config, compile=False) if peers.many else config


def sharing(peers: Peers, share: Share) -> Callable[[nn.Module], nn.Module] | None:
    """What makes a learner's pass one that peers share; None where there are none.

    `share` says which clips of the batch at hand are this process's, and is set anew before each.
    """
    if not peers.many:
        return None

    def wrap(whole: nn.Module) -> nn.Module:
        share_chance(whole, share)
        share_norms(whole, Together(peers.add_up, *peers.share))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # older versions of torch do not know the new name yet
            # Buffers are the same everywhere, for all of them come from shared statistics.
            return DistributedDataParallel(whole, broadcast_buffers=False)

    return wrap


def joined_predictions(parts: Sequence[Predictions]) -> Predictions:
    """The predictions of all processes as one would have made them, for a part whose clips come in order.

    Raises
    ------
    DataError
        When not a single clip could be drawn.
    """
    skipped = tuple(sorted(skip for part in parts for skip in part.skipped))
    held = [part for part in parts if len(part.clips)]
    if not held:
        raise DataError(
            f"no clip of this part could be drawn; the first: {skipped[0][1] if skipped else 'it is empty'}"
        )
    clips = np.concatenate([part.clips for part in held])
    order = np.argsort(clips, kind="stable")
    return Predictions(
        probabilities=np.concatenate([part.probabilities for part in held])[order],
        labels=np.concatenate([part.labels for part in held])[order],
        recordings=np.concatenate([part.recordings for part in held])[order],
        clips=clips[order],
        loss=sum(part.loss * len(part.clips) for part in held) / len(clips),
        skipped=skipped,
    )


def no_predictions(skipped: Sequence[tuple[int, str]], n_classes: int) -> Predictions:
    """The predictions of a process that had no clip to predict, only such as could not be drawn."""
    none = np.empty(0, np.int64)
    return Predictions(np.empty((0, n_classes)), none, none, none, 0.0, tuple(skipped))
