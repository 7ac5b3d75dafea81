"""What a preflight tries, through the code of training itself; see `preflight`."""

import contextlib
import itertools
import os
import shutil
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from pianistid_core.config import RunConfig, to_dict
from pianistid_core.datasets.root import PARTS, DataRoot, Split, require_clips
from pianistid_core.errors import DataError, PianistIDError, RunError
from pianistid_core.preflight_estimate import Estimate, Measured, Range
from pianistid_core.preflight_speed import Speed, compare_speeds, training_batches
from pianistid_core.run_config import resumable_checkpoint, run_for
from pianistid_core.run_folder import checkpoint_position
from pianistid_core.runs import Confusion, Run

if TYPE_CHECKING:
    import torch

    from pianistid_core.batches import AnyBatch
    from pianistid_core.datasets.cache import NoteCache
    from pianistid_core.learning import Learner
    from pianistid_core.loader import ClipDataset

__all__ = ["Check", "Estimate", "OnCheck", "Preflight", "Range", "Speed", "Trial", "scratch_folder"]

OnCheck = Callable[["Check"], None]

_MIN_STEPS = 4  # the first is slower and is not counted
_MAX_TRAINING_S = 8.0
_ENOUGH_TRAINING_S = 4.0
_MAX_EVALUATION_S = 4.0
_MAX_EVALUATION_BATCHES = 4
_SCRATCH = ".preflight-"


@dataclass(frozen=True)
class Check:
    """One thing that was tried: whether it went well, what was found or what to do, and how long it took."""

    name: str
    ok: bool
    detail: str
    seconds: float


@dataclass(frozen=True)
class Preflight:
    """All checks in their order, and the estimate where enough went well; `device` is what it ran on.

    `speeds` holds the step as the reference and fast, where that was asked for.
    """

    checks: tuple[Check, ...]
    estimate: Estimate | None
    device: str
    speeds: tuple[Speed, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the run can be started."""
        return bool(self.checks) and all(check.ok for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"ok": self.ok, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Preflight":
        """What `to_dict` gave."""
        estimate = data["estimate"]
        return cls(
            tuple(Check(**check) for check in data["checks"]),
            None if estimate is None else Estimate(**{key: Range(**value) for key, value in estimate.items()}),
            data["device"],
            tuple(Speed(**speed) for speed in data.get("speeds", ())),
        )


# --- what is tried ---------------------------------------------------------------------------------------------------


class Trial:
    """One preflight: the parts of a run as they are made, and what was found."""

    split: Split
    device: "torch.device"
    caches: "dict[str, NoteCache]"
    learner: "Learner"
    class_names: tuple[str, ...]

    def __init__(
        self, config: RunConfig, root: DataRoot, token: str, on_check: OnCheck | None, *, compare: bool = False
    ) -> None:
        self.config, self.root, self.compare = config, root, compare
        self.run = run_for(config, root)
        self.scratch = scratch_folder(config, root, token)
        self.on_check = on_check or (lambda check: None)
        self.on_begin: Callable[[str], None] = lambda name: None
        self.checks: dict[str, Check] = {}
        self.measured = Measured()
        self.speeds: tuple[Speed, ...] = ()

    def fly(self) -> Preflight:
        """Makes all checks that can be made, and the estimate."""
        import torch

        threads = torch.get_num_threads()
        if self.config.num_threads:
            torch.set_num_threads(self.config.num_threads)
        try:
            self._check("Run name", self._look_at_run)
            self._check("Device", self._choose_device)
            self._check("Data split", self._read_split)
            self._check("Clips", self._read_clips, needs=("Data split",))
            self._check("Network", self._build, needs=("Device", "Clips"))
            self._check("Training", self._train, needs=("Network",))
            self._check("Evaluation", self._evaluate, needs=("Training",))
            self._check("Checkpoint", self._save_and_load, needs=("Training",))
            self._check("Disk space", self._look_at_disk, needs=("Checkpoint",))
            if self.compare:
                self._check("Speed", self._compare, needs=("Training",))
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)
            torch.set_num_threads(threads)
        measured = all(self._is_ok(name) for name in ("Training", "Evaluation", "Checkpoint"))
        device = str(self.device) if self._is_ok("Device") else self.config.device
        estimate = self.measured.estimate(self.config) if measured else None
        return Preflight(tuple(self.checks.values()), estimate, device, self.speeds)

    def _check(self, name: str, action: Callable[[], str], needs: Sequence[str] = ()) -> None:
        if not all(self._is_ok(need) for need in needs):
            return
        from pianistid_core.failures import failure_in_words

        self.on_begin(name)
        began = time.perf_counter()
        try:
            ok, detail = True, action()
        except PianistIDError as error:
            ok, detail = False, str(error)
        except Exception as error:  # whatever it is, it would end the run as well
            learner = self.learner if name == "Training" else None
            ok, detail = False, failure_in_words(error, self.config, learner)
        self.checks[name] = Check(name, ok, detail, time.perf_counter() - began)
        self.on_check(self.checks[name])

    def _is_ok(self, name: str) -> bool:
        return name in self.checks and self.checks[name].ok

    # --- before training ---

    def _look_at_run(self) -> str:
        state = self.run.state() if self.run.path.is_dir() else None
        if state is not None and state.is_due():
            raise RunError(f"run {self.run.id} is running at this moment; stop it first, or choose another run name")
        resumable = resumable_checkpoint(self.config, self.run)
        if resumable is None:
            return f"{self.run.id} starts from nothing"
        # What was trained after it is trained again.
        epochs = self.config.epochs
        self.measured.epochs_done = min(checkpoint_position(resumable)[0], epochs)
        return f"{self.run.id} goes on from {resumable.name}, after {self.measured.epochs_done} of {epochs} epochs"

    def _choose_device(self) -> str:
        import torch

        from pianistid_core.devices import choose_device

        self.device = choose_device(self.config.device)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return f"{self.device}, {torch.cuda.get_device_name(self.device)}"
        n = torch.get_num_threads()
        return f"{self.device}, {n} thread{'s' if n > 1 else ''}"

    def _read_split(self) -> str:
        self.split = self.root.split(self.config.data_split_dir)
        for part in PARTS:
            if not self.split.part(part):
                raise DataError(f"split {self.split.name!r} has an empty {part} part; make it again with more in it")
            require_clips(self.root, self.split, part)
        counts = {part: len(self.split.part(part)) for part in PARTS}
        validation = "test again as" if self.split.validation_is_test else f"{counts['validation']:,}"
        return (
            f"{counts['train']:,} training, {counts['test']:,} test and {validation} validation recordings of "
            f"{len(self.split.class_names)} pianists"
        )

    def _read_clips(self) -> str:
        from pianistid_core.datasets.cache import open_note_cache
        from pianistid_core.learning import class_names_of

        self.caches = {part: open_note_cache(self.root, self.split.name, part) for part in ("train", "test")}
        self.class_names = class_names_of(self.config, self.caches["train"])
        clips = {"train": self._clips("train"), "test": self._clips("test")}
        self.measured.n_train_clips, self.measured.n_test_clips = len(clips["train"]), len(clips["test"])
        self.measured.n_validation_clips = self._n_validation_clips()
        labels = clips["train"].labels[clips["train"].clips]
        without = [name for number, name in enumerate(self.class_names) if not np.any(labels == number)]
        if without:
            shown = ", ".join(without[:3]) + (", ..." if len(without) > 3 else "")
            raise DataError(
                f"{len(without)} of {len(self.class_names)} have no training clips ({shown}); make the split again, or "
                "raise train_dataset_cfg.n_clips"
            )
        unreadable = sum(len(cache.unreadable) for cache in self.caches.values())
        left_out = f"; {unreadable:,} unreadable ones are left out" if unreadable else ""
        return f"{len(clips['train']):,} training and {len(clips['test']):,} test clips{left_out}"

    def _clips(self, part: str) -> "ClipDataset":
        from pianistid_core.learning import clips_of

        return clips_of(self.config, self.caches[part], training=part == "train")

    def _n_validation_clips(self) -> float:
        """Told from the recordings' lengths: reading the part itself would cost more than it tells."""
        if self.split.validation_is_test:
            return float(self.measured.n_test_clips)
        lengths = {part: sum(entry.duration_s for entry in self.split.part(part)) for part in ("test", "validation")}
        return self.measured.n_test_clips * lengths["validation"] / max(1.0, lengths["test"])

    def _build(self) -> str:
        from pianistid_core.learning import Learner, n_clips_of

        n_classes = len(self.class_names)
        of_each = n_clips_of(self._clips("train"), n_classes)
        self.learner = Learner(self.config, self.device, n_classes, n_clips_of=of_each)
        n = sum(parameter.numel() for parameter in self.learner.model.parameters())
        return f"{self.config.encoder_module} with {n:,} parameters"

    # --- training and evaluation ---

    def _train(self) -> str:
        began = time.perf_counter()
        losses: list[float] = []
        seconds: list[float] = []
        skipped: Counter[str] = Counter()
        self.learner.model.train()
        last = began
        for number, (epoch, is_first, batch) in enumerate(training_batches(self.config, self._clips("train")), start=1):
            skipped.update(reason for _, reason in batch.skipped)
            if len(batch.labels):
                where = f"epoch {epoch + 1}, batch {number}"
                losses.append(self._learn(batch, where))
            self._synchronise()
            now = time.perf_counter()
            if is_first and self.config.num_workers:
                self.measured.restart_s = now - last  # the loader's processes start anew each epoch
            elif seconds or number > 1:
                seconds.append(now - last)
            last = now
            if number == 1:
                first_s = now - began
            # Each batch of an epoch that is a single one is a loader's first.
            if self._is_enough(seconds, now - began) or (not seconds and epoch >= _MIN_STEPS):
                break
        if not losses:
            reason = next(iter(skipped), "it is empty")
            raise DataError(f"no clip of the training part could be drawn; the first: {reason}")
        self.measured.step_s = seconds or [first_s]
        if self.device.type != "cuda":  # whose memory is not the one that the loader's processes take
            self.measured.workers_bytes = _memory_of_children()
        self.measured.steady_step_s = step_s = self._steady_step_s()
        self.measured.restart_s = max(0.0, self.measured.restart_s - step_s)
        left_out = f"; {sum(skipped.values()):,} clips could not be drawn" if skipped else ""
        return (
            f"{len(seconds) + 1} batches of {self.config.batch_size} clips in {_seconds(step_s)} each, the first in "
            f"{_seconds(first_s)}; loss {losses[-1]:.3f}{left_out}"
        )

    def _learn(self, batch: "AnyBatch", where: str) -> float:
        """One step of training, waited for: its loss."""
        from pianistid_core.learning import Sums

        sums = Sums(self.device)
        sums.add(self.learner.learn(batch, where))
        return sums.read(where).loss_sum / sums.n_clips

    def _is_enough(self, seconds: Sequence[float], elapsed: float) -> bool:
        if len(seconds) + 1 < _MIN_STEPS and (elapsed < _MAX_TRAINING_S or len(seconds) < 2):
            return False
        return elapsed > (_ENOUGH_TRAINING_S if len(seconds) >= 10 else _MAX_TRAINING_S)

    def _steady_step_s(self) -> float:
        """A step once the loader's first batches are used up: whichever is slower, drawing or learning."""
        median = statistics.median(self.measured.step_s)
        if not self.config.num_workers:
            return median
        clips = self._clips("train")
        n = min(self.config.batch_size, len(clips), 8)
        began = time.perf_counter()
        for index in range(n):
            clips[index]
        drawing_s = (time.perf_counter() - began) / n * self.config.batch_size
        processes = min(self.config.num_workers, os.cpu_count() or 1)
        return max(median, drawing_s / processes)

    def _evaluate(self) -> str:
        from pianistid_core.evaluation import measure, predict
        from pianistid_core.learning import form_of
        from pianistid_core.loader import ahead, make_loader

        loader = make_loader(
            self._clips("test"),
            batch_size=self.config.batch_size,
            num_workers=self.config.num_workers,
            form=form_of(self.config),
        )
        times = [time.perf_counter()]

        def some() -> "Iterator[AnyBatch]":
            for batch in itertools.islice(ahead(loader), _MAX_EVALUATION_BATCHES):
                yield batch
                if time.perf_counter() - times[0] > _MAX_EVALUATION_S:
                    return

        def done(n_batches: int) -> None:
            self._synchronise()
            times.append(time.perf_counter())

        found = predict(self.learner.model, some(), self.device, on_batch=done, precision=self.config.precision)
        measured = measure(found, self.class_names)
        seconds = [after - before for before, after in itertools.pairwise(times)]
        self.measured.eval_s = seconds[1:] or seconds
        return f"{len(seconds)} batches in {_seconds(statistics.median(seconds))} each; loss {measured.loss:.3f}"

    def _synchronise(self) -> None:
        """Waits for the device: what was asked of a GPU is not done when the call returns."""
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def _compare(self) -> str:
        del self.learner  # whose memory would be counted
        self.speeds = compare_speeds(self.config, self.device, self._clips("train"), len(self.class_names))
        return "; ".join(
            f"{speed.kind}: {speed.trouble or f'{_seconds(speed.step_s)} a step'}" for speed in self.speeds
        )

    # --- disk ---

    def _save_and_load(self) -> str:
        from pianistid_core.checkpoints import load_state, read_checkpoint
        from pianistid_core.devices import peak_memory_bytes
        from pianistid_core.keeping import CHECKPOINT_FORMAT

        in_the_way = next((place for place in self.run.path.parents if place.exists() and not place.is_dir()), None)
        if in_the_way is not None:
            raise RunError(
                f"the run would be in {self.run.path.parent}, and {in_the_way} is a file; choose another place with "
                "checkpoint_cfg.checkpoint_dir"
            )
        try:
            for folder in ("confusion", "figures"):
                (self.scratch / folder).mkdir(parents=True)
        except OSError as error:
            raise RunError(
                f"cannot write where the run would be, in {self.scratch.parent} ({error.strerror or error}); choose "
                "another place with checkpoint_cfg.checkpoint_dir"
            ) from error
        run = Run(self.scratch)
        began = time.perf_counter()
        state = {"format": CHECKPOINT_FORMAT, **self.learner.state(), "config": to_dict(self.config)}
        state |= {"epoch": 1, "batch": 0, "class_names": list(self.class_names)}
        path = run.save_checkpoint(state, epoch=1, batch=0, keep_old=True)
        self.measured.checkpoint_s = time.perf_counter() - began
        self.measured.checkpoint_bytes = path.stat().st_size
        load_state(self.learner.model, read_checkpoint(path)["model_state_dict"], source=path.name)
        path.unlink()
        n = len(self.class_names)
        began = time.perf_counter()
        run.save_confusion(1, Confusion(self.class_names, np.full((n, n), 10, np.int64)))
        self.measured.figure_s = time.perf_counter() - began
        self.measured.figure_bytes = run.size_bytes()
        self.measured.peak_bytes = peak_memory_bytes(self.device)
        return (
            f"{_size(self.measured.checkpoint_bytes)} written and read back in {_seconds(self.measured.checkpoint_s)}"
        )

    def _look_at_disk(self) -> str:
        free = shutil.disk_usage(self.scratch.parent).free
        needed = self.measured.disk_bytes(self.config)
        # The next checkpoint is whole before an older one is deleted.
        most = needed + self.measured.checkpoint_bytes
        if free < 1.1 * most:
            raise RunError(
                f"the run writes about {_size(most)}, and {_size(free)} are free in {self.scratch.parent}; free some "
                "space, keep only the newest checkpoints (checkpoint_cfg.delete_old_checkpoints), or save fewer"
            )
        return f"the run writes about {_size(needed)}; {_size(free)} are free"


def _memory_of_children() -> int:
    total = 0
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            total += child.memory_full_info().uss
    return total


def scratch_folder(config: RunConfig, root: DataRoot, token: str) -> Path:
    """A folder for trying things, on the disk where the run would be; what stands above it is there already."""
    place = run_for(config, root).path.parent
    while not place.is_dir() and place != place.parent:
        place = place.parent
    return place / f"{_SCRATCH}{token}"


def _seconds(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _size(n_bytes: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= size:
            return f"{n_bytes / size:,.1f} {unit}"
    return f"{n_bytes / 1e3:,.0f} kB"
