"""The processes that train one run together, as torchrun starts them, and what they say to each other.

    torchrun --nproc-per-node 2 -m pianistid_core train --config ...

Each of them goes through the same training with a share of every batch. The first alone writes. Small numbers and
decisions go over CPUs (gloo), gradients and statistics over GPUs (nccl) where the training runs there.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from pianistid_core.devices import choose_device
from pianistid_core.errors import RunError
from pianistid_core.peer_watch import TORCHRUN_NAMES, PeerError, PeerWatch, under_torchrun
from pianistid_core.run_log import FailureKind

# Longer than the first may write figures and checkpoints; who died is known long before.
TIMEOUT = timedelta(minutes=30)
_ASK_EVERY_S = 0.1
_WORDS_WITHIN_S = 5.0

T = TypeVar("T")
OnStuck = Callable[[PeerError], None]


class RefusedByFirst(PeerError):
    """What the first process could not do; it says why itself."""


@dataclass
class Peers:
    """This process among those of a training: its number `rank` of `world`, and its number on this machine."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    _watch: PeerWatch | None = field(default=None, repr=False)
    _store: Any = field(default=None, repr=False)
    _point: int = field(default=0, repr=False)
    _last_words: tuple[str, FailureKind | None] | None = field(default=None, repr=False)

    @classmethod
    def alone(cls) -> "Peers":
        """One process that trains by itself."""
        return cls()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Peers":
        """The processes that torchrun started, or this one alone.

        Raises
        ------
        RunError
            When the environment contradicts itself.
        """
        if not under_torchrun(environ):
            return cls.alone()
        said = {name: environ[name] for name in TORCHRUN_NAMES[:3]}
        try:
            rank, world, local_rank = (int(number) for number in said.values())
        except ValueError as error:
            raise RunError(f"torchrun's environment holds {said}; give whole numbers, or start by torchrun") from error
        if not 0 <= rank < world or local_rank < 0:
            raise RunError(f"torchrun's environment holds {said}; ranks count from 0 and are below WORLD_SIZE")
        return cls(rank, world, local_rank)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    @property
    def many(self) -> bool:
        """Whether there are others."""
        return self.world > 1

    @property
    def share(self) -> tuple[int, int]:
        """Which share of each batch is this process's: number and count."""
        return self.rank, self.world

    def device(self, name: str) -> torch.device:
        """The device of this process, for the one that a config names: each process of a machine has a GPU of its own.

        Raises
        ------
        RunError
            When there is no such device, or none for each process.
        """
        device = choose_device(name)
        if not self.many or device.type == "cpu":
            return device
        if device.type != "cuda":
            if name == "auto":
                return torch.device("cpu")
            raise RunError(
                f"device {name!r} cannot be shared by {self.world} processes; give device=cuda, or device=cpu"
            )
        if device.index is not None:
            raise RunError(
                f"device {name!r} is one GPU for {self.world} processes; give device=cuda: each takes its own"
            )
        if self.local_rank >= torch.cuda.device_count():
            raise RunError(
                f"there is no GPU for process {self.local_rank} of this machine, which has "
                f"{torch.cuda.device_count()}; start as many processes as there are GPUs, or give device=cpu"
            )
        return torch.device("cuda", self.local_rank)

    # --- coming together and parting ---

    @contextmanager
    def joined(self, device: torch.device, on_stuck: OnStuck = lambda error: None) -> Iterator[None]:
        """Connects the processes for the length of a block, and watches that all of them live.

        `on_stuck` is called when this process is about to be ended from outside its waiting for one that is gone.

        Raises
        ------
        PeerError
            When another process has failed, died, or never came.
        """
        if not self.many:
            yield
            return
        self._connect(device, on_stuck)
        try:
            yield
            self.wait_for_all()
        except BaseException as error:
            words, kind = self._last_words or (str(error) or type(error).__name__, None)
            self._part(words, kind)
            raise
        self._part("")

    def _connect(self, device: torch.device, on_stuck: OnStuck) -> None:
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        try:
            store, _, _ = next(rendezvous("env://", self.rank, self.world, timeout=TIMEOUT))
            self._store = PrefixStore(f"training/{attempt}", store)
            self._watch = PeerWatch(self._store.clone(), self.rank, self.world, on_stuck)
            self._watch.start()
            if device.type == "cuda":
                torch.cuda.set_device(device)
            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, store=self._store, rank=self.rank, world_size=self.world, timeout=TIMEOUT)
        except RuntimeError as error:
            raise self.explained(error) from error

    def _part(self, why: str, kind: FailureKind | None = None) -> None:
        if self._watch is not None:
            self._watch.end(why, kind)
        if dist.is_initialized():
            with suppress(RuntimeError):
                # After a failure the others may never come to what is still under way.
                group = dist.group.WORLD
                if why and group is not None and dist.get_backend() != "gloo":
                    group.abort()
                dist.destroy_process_group()
        self._watch, self._store = None, None

    def last_words(self, why: str, kind: FailureKind | None) -> None:
        """What the others are told when this process ends in failure."""
        self._last_words = (why, kind)

    def explained(self, error: Exception) -> Exception:
        """The error of a lost or failed peer that an error of communication comes from, if it does; else itself."""
        if self._watch is None or isinstance(error, PeerError) or not isinstance(error, RuntimeError):
            return error
        return self._watch.loss(_WORDS_WITHIN_S) or error

    # --- saying and asking ---

    def add_up(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over all processes, in place."""
        if self.many:
            dist.all_reduce(tensor)
        return tensor

    def numbers(self, *mine: int) -> list[tuple[int, ...]]:
        """The whole numbers of each process, in the order of their ranks.

        Raises
        ------
        PeerError
            When one of them is known to have failed or died.
        """
        if self._watch is None:
            return [mine]
        self._watch.check()
        rows = torch.zeros(self.world, len(mine), dtype=torch.int64)
        rows[self.rank] = torch.tensor(mine)
        return [tuple(row) for row in self.add_up(rows).tolist()]

    def gather(self, mine: T) -> list[T]:
        """What each process has, in the order of their ranks: plain data and tensors on the CPU."""
        if not self.many:
            return [mine]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, mine)
        return found

    def from_first(self, make: Callable[[], T]) -> T:
        """What the first process makes, however long it takes, given to all: plain data and tensors on the CPU.

        Raises
        ------
        RefusedByFirst
            In the others, when the first could not make it; there the error itself.
        """
        if not self.many:
            return make()
        made: list[Any] = [None]
        refusal: Exception | None = None
        if self.first:
            try:
                made[0] = make()
            except Exception as error:
                refusal = error
        self.wait_for_all()
        if any(refused for (refused,) in self.numbers(refusal is not None)):
            raise refusal or RefusedByFirst("the first process of this training could not go on; it says why")
        dist.broadcast_object_list(made, src=0, device=torch.device("cpu"))
        return made[0]  # type: ignore[no-any-return]

    def one_a_machine_first(self, make: Callable[[], T]) -> T:
        """What each process makes: one of each machine before the others, which then find what it has left on disk."""
        made = make() if self.local_rank == 0 else None
        self.wait_for_all()
        return make() if made is None else made

    def wait_for_all(self) -> None:
        """Waits until all processes have come here, however long that takes.

        Raises
        ------
        PeerError
            When one of them has failed or died.
        """
        if self._watch is None:
            return
        self._point += 1
        key = f"point/{self._point}"
        try:
            here = self._store.add(key, 1)
            while here < self.world:
                self._watch.check()
                time.sleep(_ASK_EVERY_S)
                here = self._store.add(key, 0)
        except RuntimeError as error:
            raise self.explained(error) from error

    def alike(self, what: str, mine: str) -> None:
        """Makes sure that something is the same everywhere.

        Raises
        ------
        RunError
            When it is not; `what` names it.
        """
        theirs = self.gather(mine)
        other = next((rank for rank, text in enumerate(theirs) if text != theirs[0]), None)
        if other is not None:
            raise RunError(f"{what} of process {other} differs from that of the first; give all the same, and resume")
