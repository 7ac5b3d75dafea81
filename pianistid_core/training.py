"""Training, from a config to a finished run.

`train` reads from top to bottom as the story of a run: data, model, then for every epoch a training pass, a test pass
and the scheduler; after the last, a validation pass. It can be stopped at any batch and taken up again at that batch,
and the numbers are those of a run that was never stopped: draws depend on (seed, epoch, clip) alone, torch's generator
is set anew each epoch, and a checkpoint in the middle of an epoch holds its state.
"""

import errno
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch.optim.lr_scheduler import ReduceLROnPlateau

from pianistid_core.batches import Batch
from pianistid_core.checkpoints import load_state, read_checkpoint
from pianistid_core.config import RunConfig, flatten, to_dict, to_yaml
from pianistid_core.datasets.cache import NoteCache, open_note_cache
from pianistid_core.datasets.root import DataRoot
from pianistid_core.devices import choose_device, environment, peak_memory_bytes
from pianistid_core.errors import CheckpointError, DataError, MidiError, PianistIDError, RunError
from pianistid_core.evaluation import Metrics, measure, predict
from pianistid_core.learning import DivergedError, Learner, class_names_of, clips_of
from pianistid_core.loader import ClipDataset, make_loader
from pianistid_core.processes import ProcessIdentity
from pianistid_core.queue_files import holding, leave
from pianistid_core.run_config import resumable_checkpoint
from pianistid_core.run_log import FailureKind
from pianistid_core.runs import WAITING, Run, RunState, Status
from pianistid_core.stopping import ENDINGS, Signalled, Stop, on_signals
from pianistid_core.tracking import Tracker, open_tracker

log = logging.getLogger(__name__)

FIGURE_EVERY_EPOCHS = 5
CHECKPOINT_FORMAT = 1
_PROGRESS_EVERY_S = 0.5
OnProgress = Callable[[str, int, int], None]


@dataclass
class _Position:
    """How far training has come: completed epochs, batches of the next, and that epoch's sums so far."""

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    n_correct: int = 0
    n_clips: int = 0
    seconds: float = 0.0
    skipped: Counter[str] = field(default_factory=Counter)

    def next_epoch(self) -> "_Position":
        return _Position(self.epoch + 1)


def train(config: RunConfig, root: DataRoot, run: Run, *, on_progress: OnProgress | None = None) -> RunState:
    """Trains a run to its end, or goes on with it from its latest checkpoint.

    `on_progress` is told (phase, done, total). SIGINT and SIGTERM, and a stop request in the run, end it after the
    batch at hand, with a checkpoint. The state it ends in is returned, and kept in the run.

    Raises
    ------
    RunError
        When another process trains this run or the queue is starting it, when it was trained with another config, or
        when its loss is no number.
    SplitError
        When the data root has no such split.
    PianistIDError
        When data, model or checkpoint are not what the config says. The run then stands as failed, with the reason.
    """
    # What can be refused is refused before anything is written.
    device = choose_device(config.device)
    root.split(config.data_split_dir)
    resumable_checkpoint(config, run)
    if run.state().reason == WAITING:
        # Or the queue would train it a second time; what it starts itself does not wait any more.
        with holding(run) as place:
            leave(run, place)
    run.make()
    lock = FileLock(run.path / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        busy = run.trainer()
        by = f" by process {busy.pid}" if busy else ""
        raise RunError(
            f"run {run.id} is already being trained{by}; stop it first, or choose another run name"
        ) from error
    try:
        with _logging_to(run), on_signals() as signalled:
            return _train(config, root, run, device, signalled, on_progress or (lambda phase, done, total: None))
    finally:
        lock.release()


def _train(
    config: RunConfig,
    root: DataRoot,
    run: Run,
    device: torch.device,
    signalled: Signalled,
    on_progress: OnProgress,
) -> RunState:
    # A request from before this training is none of its business, unless it came while the supervisor started it.
    me = ProcessIdentity.of()
    if run.trainer() not in (me, ProcessIdentity.of(os.getppid())):
        run.clear_stop()
    run.set_state("running", epochs=config.epochs, process=me)
    trainer: _Trainer | None = None
    status: Status = "interrupted"
    reason = "interrupted at once; resume to go on from its latest checkpoint"
    failure: FailureKind | None = None
    try:
        trainer = _Trainer(config, root, run, device, signalled, on_progress)
        trainer.fit()
        status, reason = "finished", ""
    except Stop as stop:
        status, reason = ENDINGS[stop.kind]
    except PianistIDError as error:
        status, reason, failure = "failed", str(error), failure_kind(error)
        log.error("run %s failed: %s", run.id, reason)
        raise
    except Exception as error:
        status, reason, failure = "failed", failure_in_words(error, config), failure_kind(error)
        log.exception("run %s failed: %s", run.id, reason)
        raise RunError(reason) from error
    finally:
        run.set_state(status, reason, epochs=config.epochs, failure=failure)
        run.clear_stop()
        if trainer is not None:
            trainer.tracker.end("FINISHED" if status == "finished" else "KILLED" if status == "stopped" else "FAILED")
    log.info("run %s %s%s", run.id, status, f": {reason}" if reason else "")
    return run.state()


class _Trainer:
    """The parts of one training, and its loop."""

    def __init__(
        self,
        config: RunConfig,
        root: DataRoot,
        run: Run,
        device: torch.device,
        signalled: Signalled,
        on_progress: OnProgress,
    ) -> None:
        self.config, self.run, self.device = config, run, device
        self.signalled, self.on_progress = signalled, on_progress
        self.tracker = Tracker.off()
        self._last_progress = 0.0
        self._epoch_s: float | None = None
        self.position = _Position()
        if config.num_threads:
            torch.set_num_threads(config.num_threads)
        resumable = resumable_checkpoint(config, run)

        self.caches = {part: self._open_cache(root, part) for part in ("train", "test", "validation")}
        self.class_names = class_names_of(config, self.caches["train"])
        self.learner = Learner(config, self.device, len(self.class_names))
        self.model, self.optimiser = self.learner.model, self.learner.optimiser
        self.scheduler = self.learner.scheduler
        self.train_clips = self._dataset("train", training=True)
        if resumable is not None:
            self._resume(resumable)
        else:
            run.clear()

        run.save_text("config.yaml", to_yaml(config))
        run.save_json("environment.json", environment(self.device))
        fingerprints = {part: cache.fingerprint for part, cache in self.caches.items()}
        run.save_json("data.json", {"split": config.data_split_dir, "parts": fingerprints})
        self._introduce(root)
        self.tracker = open_tracker(
            config.mlflow_cfg,
            root_path=root.path if root.writable() else root.checkpoints_dir.parent,
            experiment=config.experiment,
            run_name=config.run,
            parameters=flatten(config),
            saved_run_id=(run.read_json("mlflow.json") or {}).get("run_id") if resumable is not None else None,
        )
        if self.tracker.run_id is not None:
            about = {"run_id": self.tracker.run_id, "experiment_id": self.tracker.experiment_id}
            run.save_json("mlflow.json", about)

    # --- the loop ---

    def fit(self) -> None:
        epochs = self.config.epochs
        while self.position.epoch < epochs:
            began = time.perf_counter()
            try:
                train_row = self._train_pass()
                test = self._evaluate("test")
            except Stop as stop:
                self._end_early(stop)
                raise
            epoch = self.position.epoch + 1
            lr = self.optimiser.param_groups[0]["lr"]
            self._step_scheduler(test)
            row = {
                "epoch": epoch,
                **train_row,
                "test_loss": test.loss,
                "test_clip_accuracy": test.clip_accuracy,
                "test_recording_accuracy": test.recording_accuracy,
                "test_macro_recall": test.macro_recall,
                "lr": lr,
                "test_skipped": sum(test.skipped.values()),
                "peak_memory_mb": round(peak_memory_bytes(self.device) / 1e6, 1),
            }
            self._close_epoch(epoch, row, test)
            self._epoch_s = time.perf_counter() - began
        self._validate()

    def _train_pass(self) -> dict[str, Any]:
        position, began = self.position, time.perf_counter()
        if position.batch == 0:
            torch.manual_seed(epoch_seed(self.config.seed, position.epoch))
        self.train_clips.set_epoch(position.epoch)
        loader = make_loader(
            self.train_clips,
            batch_size=self.config.batch_size,
            shuffle=True,
            num_workers=self.config.num_workers,
            start_batch=position.batch,
        )
        n_batches = position.batch + len(loader)
        self.model.train()
        for batch in loader:
            self._check_stop(position, began)
            position.skipped.update(reason for _, reason in batch.skipped)
            if len(batch.labels):
                self._learn(batch, position)
            position.batch += 1
            elapsed = time.perf_counter() - began
            self._show(
                "train",
                position.batch,
                n_batches,
                seconds=elapsed,
                loss=position.loss_sum / max(1, position.n_clips),
                clips_per_second=position.n_clips / max(1e-9, position.seconds + elapsed),
            )
        if position.n_clips == 0:
            reason = next(iter(position.skipped), "it is empty")
            raise DataError(f"no clip of the training part could be drawn; the first: {reason}")
        position.seconds += time.perf_counter() - began
        return {
            "train_loss": position.loss_sum / position.n_clips,
            "train_clip_accuracy": position.n_correct / position.n_clips,
            "seconds": position.seconds,
            "clips_per_second": position.n_clips / position.seconds,
            "skipped": sum(position.skipped.values()),
            "skipped_reasons": dict(position.skipped),
        }

    def _learn(self, batch: Batch, position: _Position) -> None:
        """One step of the optimiser."""
        step = self.learner.learn(batch, f"epoch {position.epoch + 1}, batch {position.batch + 1}")
        position.loss_sum += float(step.loss_sum)
        position.n_correct += int(step.n_correct)
        position.n_clips += step.n_clips

    def _close_epoch(self, epoch: int, row: dict[str, Any], test: Metrics) -> None:
        self.position = self.position.next_epoch()
        last = epoch == self.config.epochs
        if epoch % FIGURE_EVERY_EPOCHS == 0 or epoch == 1 or last:
            self.run.save_confusion(epoch, test.confusion)
            self.tracker.log_figure(self.run.path / "figures" / f"epoch_{epoch:03d}_confusionmatrix.png")
        self.run.append_metrics(row)
        self.tracker.log_epoch(row, epoch)
        if epoch % self.config.checkpoint_cfg.checkpoint_after_n_epochs == 0 or last:
            self._save_checkpoint()
        log.info(
            "epoch %d/%d: train loss %.4f, clip accuracy %.3f | test loss %.4f, clip accuracy %.3f, "
            "recording accuracy %.3f | lr %.2e | %.1f s%s",
            *(epoch, self.config.epochs, row["train_loss"], row["train_clip_accuracy"], test.loss, test.clip_accuracy),
            *(test.recording_accuracy, row["lr"], row["seconds"]),
            f" | {row['skipped']} clips skipped ({_reasons(row['skipped_reasons'])})" if row["skipped"] else "",
        )

    def _end_early(self, stop: Stop) -> None:
        if stop.kind == "discard":
            return
        self._save_checkpoint(asked=True)
        if stop.kind == "finish":
            self.signalled.kind = None
            self.run.clear_stop()
            self._validate()

    def _validate(self) -> None:
        metrics = self._evaluate("validation")
        self.run.save_json("evaluation/validation.json", metrics.to_dict())
        self.run.save_confusion("validation", metrics.confusion)
        self.tracker.log_figure(self.run.path / "figures" / "validation_confusionmatrix.png")
        if self.run.checkpoints():
            self.tracker.log_model(self.run.latest_checkpoint())
        log.info(
            "validation: clip accuracy %.3f over %d clips, recording accuracy %.3f over %d recordings",
            *(metrics.clip_accuracy, metrics.n_clips, metrics.recording_accuracy, metrics.n_recordings),
        )

    def _evaluate(self, part: str) -> Metrics:
        dataset = self._dataset(part, training=False)
        loader = make_loader(
            dataset, batch_size=self.config.batch_size, shuffle=False, num_workers=self.config.num_workers
        )
        predictions = predict(
            self.model,
            loader,
            self.device,
            on_batch=lambda done: self._show(part, done, len(loader)),
            check=self._check_stop,
        )
        return measure(predictions, self.class_names, dataset.cache.recordings)

    # --- parts ---

    def _open_cache(self, root: DataRoot, part: str) -> NoteCache:
        def progress(done: int, total: int) -> None:
            self._show(f"reading {part} clips", done, total)

        self._check_stop()
        return open_note_cache(root, self.config.data_split_dir, part, progress=progress)

    def _dataset(self, part: str, *, training: bool) -> ClipDataset:
        return clips_of(self.config, self.caches[part], training=training)

    def _step_scheduler(self, test: Metrics) -> None:
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(test.loss if self.scheduler.mode == "min" else test.recording_accuracy)
        elif self.scheduler is not None:
            self.scheduler.step()

    def _introduce(self, root: DataRoot) -> None:
        """Logs what a researcher checks first: data, size of the network, batches an epoch."""
        n_parameters = sum(parameter.numel() for parameter in self.model.parameters())
        log.info("run %s on %s, %d pianists or sources", self.run.id, self.device, len(self.class_names))
        log.info("%s: %s parameters", self.config.encoder_module, f"{n_parameters:,}")
        for part, cache in self.caches.items():
            n_clips = len(self.train_clips if part == "train" else self._dataset(part, training=False))
            unreadable = f", {len(cache.unreadable)} unreadable left out" if cache.unreadable else ""
            log.info("%s: %d clips in %d batches%s", part, n_clips, -(-n_clips // self.config.batch_size), unreadable)
            for clip in cache.unreadable:
                log.warning("%s was left out: %s", clip.name, clip.reason)
        if root.split(self.config.data_split_dir).validation_is_test:
            log.info("the split has no validation part: validation uses the test part")
        if self.position.epoch or self.position.batch:
            log.info("going on after %d epochs and %d batches", self.position.epoch, self.position.batch)

    # --- stopping and going on ---

    def _check_stop(self, position: _Position | None = None, began: float = 0.0) -> None:
        kind = self.signalled.kind or self.run.stop_request()
        if kind is not None:
            if position is not None:
                position.seconds += time.perf_counter() - began
            raise Stop(kind)

    def _save_checkpoint(self, *, asked: bool = False) -> None:
        options = self.config.checkpoint_cfg
        if not options.save_checkpoints and not asked:
            return
        position = self.position
        state = {
            "format": CHECKPOINT_FORMAT,
            **self.learner.state(),
            "epoch": position.epoch,
            "batch": position.batch,
            "loss_sum": position.loss_sum,
            "n_correct": position.n_correct,
            "n_clips": position.n_clips,
            "seconds": position.seconds,
            "skipped": dict(position.skipped),
            "config": to_dict(self.config),
            "class_names": list(self.class_names),
            "data_fingerprint": self.caches["train"].fingerprint,
        }
        path = self.run.save_checkpoint(
            state, epoch=position.epoch, batch=position.batch, keep_old=not options.delete_old_checkpoints
        )
        log.info("checkpoint %s", path.name)

    def _resume(self, path: Path) -> None:
        saved = read_checkpoint(path)
        try:
            if list(saved["class_names"]) != list(self.class_names):
                raise CheckpointError(f"{path.name} knows other pianists than split {self.config.data_split_dir!r}")
            if saved["data_fingerprint"] != self.caches["train"].fingerprint:
                log.warning("the training clips have changed since %s was written", path.name)
            load_state(self.model, saved["model_state_dict"], source=path.name)
            self.optimiser.load_state_dict(saved["optimizer_state_dict"])
            if self.scheduler is not None and saved["scheduler_state_dict"] is not None:
                self.scheduler.load_state_dict(saved["scheduler_state_dict"])
            torch.set_rng_state(saved["torch_rng"])
            if self.device.type == "cuda" and saved["cuda_rng"] is not None:
                torch.cuda.set_rng_state(saved["cuda_rng"], self.device)
            sums = {key: saved[key] for key in ("loss_sum", "n_correct", "n_clips", "seconds")}
            self.position = _Position(saved["epoch"], saved["batch"], **sums, skipped=Counter(saved["skipped"]))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"{path.name} does not hold what training goes on from ({type(error).__name__}: {error}); remove it to "
                "go on from the one before, or choose another run name with --set run=NAME"
            ) from error
        self.run.truncate_metrics(self.position.epoch)

    def _show(self, phase: str, done: int, total: int, **values: float) -> None:
        self.on_progress(phase, done, total)
        now = time.monotonic()
        if now - self._last_progress < _PROGRESS_EVERY_S and done < total:
            return
        self._last_progress = now
        epoch = min(self.position.epoch + 1, self.config.epochs)
        eta_s = self._eta_s(phase, done / max(1, total), values.pop("seconds", 0.0))
        self.run.set_progress(
            phase=phase, epoch=epoch, epochs=self.config.epochs, batch=done, batches=total, eta_s=eta_s, **values
        )

    def _eta_s(self, phase: str, share: float, seconds: float) -> float | None:
        """Seconds to the end, from the last epoch or else from what there is of this one; None before any batch."""
        epoch_s = self._epoch_s
        if phase == "train":
            epoch_s = epoch_s or seconds / share
        elif epoch_s is not None:
            share = 1.0
        return None if epoch_s is None else epoch_s * (self.config.epochs - self.position.epoch - share)


# --- around the loop -------------------------------------------------------------------------------------------------


def failure_in_words(error: Exception, config: RunConfig) -> str:
    """One sentence on why a run failed, with what to do."""
    if isinstance(error, torch.OutOfMemoryError):
        return f"the device ran out of memory; lower batch_size (now {config.batch_size})"
    if isinstance(error, MemoryError):
        return f"the machine ran out of memory; lower batch_size (now {config.batch_size}) or num_workers"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full; free some space and resume"
    if isinstance(error, FileNotFoundError):
        return f"a file is missing: {error.filename}"
    return f"{type(error).__name__}: {error}"


def failure_kind(error: Exception) -> FailureKind | None:
    """What kind of failure an error is; None when it is of no kind of its own."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "out of memory"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "disk full"
    if isinstance(error, FileNotFoundError):
        return "missing file"
    if isinstance(error, DivergedError):
        return "loss is not a number"
    return "bad data" if isinstance(error, DataError | MidiError) else None


@contextmanager
def _logging_to(run: Run) -> Iterator[None]:
    """Writes the package's log to the run's log.txt, unless stderr goes there already."""
    path = run.path / "log.txt"
    package = logging.getLogger("pianistid_core")
    try:
        already = os.path.samestat(os.fstat(2), path.stat())
    except OSError:
        already = False
    handler: logging.Handler = logging.NullHandler() if already else logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handler.setLevel(logging.INFO)
    level = package.level
    package.setLevel(min(level or logging.INFO, logging.INFO))
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level)
        handler.close()


def epoch_seed(seed: int, epoch: int) -> int:
    """One seed for torch per epoch, so that an epoch's chance does not depend on those before it."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)


def _reasons(reasons: dict[str, int]) -> str:
    return "; ".join(f"{count} x {reason}" for reason, count in reasons.items())
