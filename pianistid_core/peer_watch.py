"""Whether the other processes of a training still live, watched from a thread of its own.

A process that waits for a dead one in a collective operation may wait long, and heeds no signal meanwhile. So each
writes once a second into a store that they share, with who it is and how it ended. Whoever is gone without a word, or
with one, is known to all within seconds, and a process that cannot get out of its waiting is ended.
"""

import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pianistid_core.errors import RunError
from pianistid_core.processes import ProcessIdentity
from pianistid_core.run_log import FailureKind

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

log = logging.getLogger(__name__)

BEAT_EVERY_S = 0.5
SILENT_AFTER_BEATS = 120  # counted, for a machine that sleeps makes no time pass for either
GRACE_S = 10.0
# What torchrun tells each process that it starts.
TORCHRUN_NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def under_torchrun(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether torchrun has started this process."""
    return all(name in environ for name in TORCHRUN_NAMES)


def is_first(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is the first that torchrun has started, or the only one."""
    return not under_torchrun(environ) or environ["RANK"].strip() == "0"


class PeerError(RunError):
    """Another process of this training is gone or has failed; `kind` is the kind of its failure, where known."""

    def __init__(
        self, message: str, *, rank: int | None = None, kind: FailureKind | None = None, died: bool = False
    ) -> None:
        super().__init__(message)
        self.rank, self.kind, self.died = rank, kind, died


@dataclass(frozen=True)
class Beat:
    """What a process last said of itself; `end` is None while it trains, "" after a good end, else why it failed."""

    host: str
    process: ProcessIdentity | None
    number: int = 0
    end: str | None = None
    kind: FailureKind | None = None

    def to_json(self) -> str:
        """As the store keeps it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: bytes) -> "Beat":
        """As the store gives it."""
        said = json.loads(text)
        process = said.pop("process")
        return cls(**said, process=ProcessIdentity(**process) if process else None)


class PeerWatch:
    """Tells the others that this process lives, and finds out about them.

    `on_stuck` is called with the reason when this process has to be ended because it cannot get out of its waiting.
    """

    def __init__(self, store: "Store", rank: int, world: int, on_stuck: Callable[[PeerError], None]) -> None:
        self.store, self.rank, self.world = store, rank, world
        self.on_stuck = on_stuck
        self._mine = Beat(socket.gethostname(), ProcessIdentity.of())
        self._seen: dict[int, tuple[int, int]] = {}
        self._loss: PeerError | None = None
        self._known, self._over, self._writing = threading.Event(), threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._watch, name="peers", daemon=True)

    def start(self) -> None:
        """Begins to watch; each of the others has to say within minutes that it is there."""
        self._say()
        self._thread.start()

    def end(self, why: str = "", kind: FailureKind | None = None) -> None:
        """Says how this process ends, and watches no more."""
        self._over.set()
        self._thread.join(timeout=5)
        try:
            self._say(end=why, kind=kind)
        except RuntimeError:  # the store went with its process; who asks for this one will see that as well
            log.debug("the store of the peers is gone")

    def loss(self, wait_s: float = 0.0) -> PeerError | None:
        """Which of the others is gone or has failed, as far as is known after a while."""
        self._known.wait(wait_s)
        return self._loss

    def check(self) -> None:
        """Raises the PeerError of another process that is gone or has failed."""
        if self._loss is not None:
            raise self._loss

    def _say(self, **changes: Any) -> None:
        with self._writing:
            said = {**self._mine.__dict__, "number": self._mine.number + 1, **changes}
            self._mine = Beat(**said)
            self.store.set(f"peer/{self.rank}", self._mine.to_json())

    def _watch(self) -> None:
        others = [rank for rank in range(self.world) if rank != self.rank]
        while not self._over.wait(BEAT_EVERY_S):
            try:
                self._say()
                said = self.store.multi_get([f"peer/{rank}" for rank in others])
                loss = self._lost({rank: Beat.from_json(text) for rank, text in zip(others, said, strict=True)})
            except RuntimeError:
                loss = PeerError(
                    "the process that held this training together (torchrun) is gone; resume to go on", kind="killed"
                )
            if loss is not None:
                self._found(loss)
                return

    def _found(self, loss: PeerError) -> None:
        self._loss = loss
        self._known.set()
        # Most often what waits for the lost one fails by itself, and the training ends in words of its own.
        if not self._over.wait(GRACE_S):
            self.on_stuck(loss)
            os._exit(1)

    def _lost(self, beats: dict[int, Beat]) -> PeerError | None:
        # Who failed said why; those that died may have died of it.
        for rank, beat in beats.items():
            if beat.end:
                return PeerError(f"{beat.end} (process {rank} of this training)", rank=rank, kind=beat.kind)
        for rank, beat in beats.items():
            if beat.end is None and self._is_gone(rank, beat):
                return died(rank)
        return None

    def _is_gone(self, rank: int, beat: Beat) -> bool:
        if beat.host == self._mine.host and beat.process is not None and not beat.process.alive():
            return True
        number, missed = self._seen.get(rank, (-1, 0))
        self._seen[rank] = (beat.number, missed + 1 if beat.number == number else 0)
        return self._seen[rank][1] > SILENT_AFTER_BEATS


def died(rank: int) -> PeerError:
    """The error that says that a process is gone without a word."""
    return PeerError(
        f"a process of this training died (rank {rank}); resume to go on", rank=rank, kind="killed", died=True
    )
