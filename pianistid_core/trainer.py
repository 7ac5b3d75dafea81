"""The loop of a training.

`Trainer` reads from top to bottom as the story of a run: data, model, then for every epoch a training pass, a test
pass and the scheduler; after the last, a validation pass. It can be stopped at any batch and taken up again at that
batch, and the numbers are those of a run that was never stopped: draws depend on (seed, epoch, clip) alone, torch's
generator is set anew each epoch, and a checkpoint in the middle of an epoch holds its state. Several processes may
train together: each takes its share of every batch, and all draw for the whole of it.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from pianistid_core.batches import AnyBatch
from pianistid_core.checkpoints import check_position
from pianistid_core.config import RunConfig, to_dict, to_yaml
from pianistid_core.datasets.cache import NoteCache, open_note_cache
from pianistid_core.datasets.root import PARTS, DataRoot
from pianistid_core.devices import environment, peak_memory_bytes, reset_peak_memory
from pianistid_core.errors import CheckpointError, DataError
from pianistid_core.evaluation import Metrics, measure, predict
from pianistid_core.keeping import Keeper
from pianistid_core.learning import Learner, Sums, Totals, class_names_of, clips_of, form_of, n_clips_of
from pianistid_core.loader import ClipDataset, Loader, ahead, make_loader
from pianistid_core.models.chance import Share
from pianistid_core.peers import Peers
from pianistid_core.resuming import saved_for
from pianistid_core.runs import Run
from pianistid_core.sharing import for_learner, joined_predictions, no_predictions, sharing
from pianistid_core.stopping import Signalled, Stop, first_of, number_of

log = logging.getLogger(__name__)

OnProgress = Callable[[str, int, int], None]


@dataclass
class _Position:
    """How far training has come: completed epochs, batches of the next, and what that epoch gave so far.

    Sums and skipped clips are this process's; `n_clips` counts those of all.
    """

    sums: Sums
    epoch: int = 0
    batch: int = 0
    n_clips: int = 0
    seconds: float = 0.0
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def where(self) -> str:
        """ "epoch 3, batch 12": the batch at hand."""
        return f"epoch {self.epoch + 1}, batch {self.batch + 1}"


@dataclass(frozen=True)
class _Again:
    """What can be gone through as often as one likes."""

    begin: Callable[[], Iterator[tuple[torch.Tensor, npt.NDArray[np.int64]]]]

    def __iter__(self) -> Iterator[tuple[torch.Tensor, npt.NDArray[np.int64]]]:
        return self.begin()


class Trainer:
    """The parts of one training, and its loop."""

    def __init__(
        self,
        config: RunConfig,
        root: DataRoot,
        run: Run,
        device: torch.device,
        peers: Peers,
        keeper: Keeper,
        signalled: Signalled,
        on_progress: OnProgress,
    ) -> None:
        self.config, self.run, self.device, self.peers, self.keeper = config, run, device, peers, keeper
        self.signalled, self.on_progress = signalled, on_progress
        self.share = Share()
        self.position = _Position(Sums(device))
        self._epoch_s: float | None = None
        if config.num_threads:
            torch.set_num_threads(config.num_threads)
        reset_peak_memory(device)
        resumable = peers.from_first(lambda: saved_for(config, run))

        self.caches = {part: self._open_cache(root, part) for part in PARTS}
        fingerprints = {part: cache.fingerprint for part, cache in self.caches.items()}
        peers.alike("the config", to_yaml(config))
        peers.alike("the data set", str(fingerprints))
        self.class_names = class_names_of(config, self.caches["train"])
        self.train_clips = self._dataset("train", training=True)
        self.learner = Learner(
            for_learner(config, peers),
            device,
            len(self.class_names),
            wrap=sharing(peers, self.share),
            n_clips_of=n_clips_of(self.train_clips, len(self.class_names)),
        )
        self.model, self.optimiser = self.learner.model, self.learner.optimiser
        self.scheduler = self.learner.scheduler
        if resumable is not None:
            self._resume(*resumable)
        else:
            keeper.start_over()
        keeper.begin(root, environment=environment(device), fingerprints=fingerprints, goes_on=resumable is not None)
        self._introduce(root)

    # --- the loop ---

    def fit(self) -> None:
        epochs = self.config.epochs
        if self.model.studies and (self.position.epoch, self.position.batch) == (0, 0):
            self._study()
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

    def _study(self) -> None:
        try:
            self.model.study(_Again(self._studied))
        except Stop as stop:
            self._end_early(stop)
            raise

    def _studied(self) -> Iterator[tuple[torch.Tensor, npt.NDArray[np.int64]]]:
        """All clips of the training part as they are, which each of several processes looks through by itself."""
        clips = ClipDataset(self.caches["train"], self.config.test_dataset_cfg, seed=self.config.seed, training=False)
        loader = make_loader(clips, batch_size=self.config.batch_size, num_workers=self.config.num_workers)
        for number, batch in enumerate(ahead(loader)):
            self._check_stop()
            self._show("studying train", number + 1, len(loader))
            here = batch.to_device(self.device)
            yield here.rolls, here.recordings.cpu().numpy()

    def _train_pass(self) -> dict[str, Any]:
        position, began = self.position, time.perf_counter()
        if position.batch == 0:
            torch.manual_seed(epoch_seed(self.config.seed, position.epoch))
        self.train_clips.set_epoch(position.epoch)
        loader = self._loader(self.train_clips, start_batch=position.batch)
        n_batches = position.batch + len(loader)
        self.model.train()
        for batch in ahead(loader):
            n_clips = self._meet(len(batch), position, began)
            position.skipped.update(reason for _, reason in batch.skipped)
            if n_clips:
                self._learn(batch, n_clips)
            position.n_clips += n_clips
            position.batch += 1
            self._show("train", position.batch, n_batches, position.seconds + time.perf_counter() - began)
        totals, skipped = self._totals()
        if totals.n_clips == 0:
            raise DataError(
                f"no clip of the training part could be drawn; the first: {next(iter(skipped), 'it is empty')}"
            )
        position.seconds += time.perf_counter() - began
        return {
            "train_loss": totals.loss_sum / totals.n_clips,
            "train_clip_accuracy": totals.n_correct / totals.n_clips,
            "seconds": position.seconds,
            "clips_per_second": totals.n_clips / position.seconds,
            "skipped": sum(skipped.values()),
            "skipped_reasons": dict(skipped),
        }

    def _learn(self, batch: AnyBatch, n_clips: int) -> None:
        """One step of the optimiser, on this process's share of a batch of n clips."""
        # Gradients are averaged over the processes, and each is to count for its clips.
        weight = self.peers.world * len(batch) / n_clips if self.peers.many else None
        self.position.sums.add(self.learner.learn(batch, self.position.where, weight=weight))

    def _totals(self) -> tuple[Totals, Counter[str]]:
        """What the epoch gave so far, over all processes."""
        parts = self.peers.gather((self.position.sums.read(self.position.where), self.position.skipped))
        totals = Totals(
            sum(part.loss_sum for part, _ in parts),
            sum(part.n_correct for part, _ in parts),
            sum(part.n_clips for part, _ in parts),
        )
        return totals, sum((skipped for _, skipped in parts), Counter())

    def _close_epoch(self, epoch: int, row: dict[str, Any], test: Metrics) -> None:
        self.position = _Position(Sums(self.device), epoch)
        self.keeper.epoch(row, test)
        if epoch % self.config.checkpoint_cfg.checkpoint_after_n_epochs == 0 or epoch == self.config.epochs:
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
            if self.peers.first:
                self.run.clear_stop()
            self._validate()

    def _validate(self) -> None:
        metrics = self._evaluate("validation")
        self.keeper.validation(metrics)
        log.info(
            "validation: clip accuracy %.3f over %d clips, recording accuracy %.3f over %d recordings",
            *(metrics.clip_accuracy, metrics.n_clips, metrics.recording_accuracy, metrics.n_recordings),
        )

    def _evaluate(self, part: str) -> Metrics:
        dataset = self._dataset(part, training=False)
        loader = self._loader(dataset)
        skipped: list[tuple[int, str]] = []
        try:
            predictions = predict(
                self.model,
                _noting(skipped, ahead(loader)),
                self.device,
                on_batch=lambda done: self._show(part, done, len(loader)),
                check=self._check_stop,
                precision=self.config.precision,
            )
        except DataError:
            if not self.peers.many:
                raise
            # The others may have clips of which something can be said.
            predictions = no_predictions(skipped, len(self.class_names))
        if self.peers.many:
            predictions = joined_predictions(self.peers.gather(predictions))
        return measure(predictions, self.class_names, dataset.cache.recordings)

    # --- parts ---

    def _open_cache(self, root: DataRoot, part: str) -> NoteCache:
        def progress(done: int, total: int) -> None:
            self._show(f"reading {part} clips", done, total)
            if not self.peers.many:  # of several, one reads while the others wait for it
                self._check_stop()

        self._meet()
        split = self.config.data_split_dir
        return self.peers.one_a_machine_first(lambda: open_note_cache(root, split, part, progress=progress))

    def _dataset(self, part: str, *, training: bool) -> ClipDataset:
        return clips_of(self.config, self.caches[part], training=training)

    def _loader(self, dataset: ClipDataset, *, start_batch: int = 0) -> Loader[AnyBatch]:
        """This process's share of the batches of a part."""
        return make_loader(
            dataset,
            batch_size=self.config.batch_size,
            shuffle=dataset.training,
            num_workers=self.config.num_workers,
            start_batch=start_batch,
            form=form_of(self.config),
            share=self.peers.share,
        )

    def _step_scheduler(self, test: Metrics) -> None:
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(test.loss if self.scheduler.mode == "min" else test.recording_accuracy)
        elif self.scheduler is not None:
            self.scheduler.step()

    def _introduce(self, root: DataRoot) -> None:
        """Logs what a researcher checks first: data, size of the network, batches an epoch."""
        n_parameters = sum(parameter.numel() for parameter in self.model.parameters())
        together = f" and {self.peers.world - 1} more" if self.peers.many else ""
        log.info("run %s on %s%s, %d pianists or sources", self.run.id, self.device, together, len(self.class_names))
        log.info("%s: %s parameters", self.config.encoder_module, f"{n_parameters:,}")
        if self.peers.many and self.config.compile:
            log.info("compile: true is for one process; %d of them run the network as it is", self.peers.world)
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

    def _meet(self, n_clips: int = 0, position: _Position | None = None, began: float = 0.0) -> int:
        """Meets the other processes between two batches: one that is to stop stops all, and shares are dealt.

        `n_clips` are those of this process in the batch at hand; all processes' are given back.
        """
        # Only the first sees a request in the run, or processes could see it at different batches.
        mine = self.signalled.kind or (self.run.stop_request() if self.peers.first else None)
        rows = self.peers.numbers(n_clips, number_of(mine))
        kind = first_of(number for _, number in rows)
        if kind is not None:
            if position is not None:
                position.seconds += time.perf_counter() - began
            raise Stop(kind)
        counts = [count for count, _ in rows]
        self.share.start, self.share.count = sum(counts[: self.peers.rank]), n_clips
        self.share.total = sum(counts)
        return self.share.total

    def _check_stop(self) -> None:
        self._meet()

    def _save_checkpoint(self, *, asked: bool = False) -> None:
        if not self.config.checkpoint_cfg.save_checkpoints and not asked:
            return
        position = self.position
        totals, skipped = self._totals()
        path = self.keeper.checkpoint(
            {
                **self.learner.state(),
                "epoch": position.epoch,
                "batch": position.batch,
                "loss_sum": totals.loss_sum,
                "n_correct": totals.n_correct,
                "n_clips": totals.n_clips,
                "seconds": position.seconds,
                "skipped": dict(skipped),
                "config": to_dict(self.config),
                "class_names": list(self.class_names),
                "data_fingerprint": self.caches["train"].fingerprint,
            }
        )
        if path is not None:
            log.info("checkpoint %s", path.name)

    def _resume(self, name: str, saved: dict[str, Any]) -> None:
        try:
            check_position(saved, source=name)
            if list(saved["class_names"]) != list(self.class_names):
                raise CheckpointError(f"{name} knows other pianists than split {self.config.data_split_dir!r}")
            if saved["data_fingerprint"] != self.caches["train"].fingerprint:
                log.warning("the training clips have changed since %s was written", name)
            self.learner.load(saved, source=name)
            totals = Totals(saved["loss_sum"], saved["n_correct"], saved["n_clips"])
            # What all processes gave so far is counted once, by the first.
            sums = Sums(self.device, totals if self.peers.first else None)
            skipped = Counter(saved["skipped"]) if self.peers.first else Counter()
            where = (saved["epoch"], saved["batch"], saved["n_clips"], saved["seconds"])
            self.position = _Position(sums, *where, skipped=skipped)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"{name} does not hold what training goes on from ({type(error).__name__}: {error}); remove it to "
                "go on from the one before, or choose another run name with --set run=NAME"
            ) from error
        self.keeper.go_on_after(self.position.epoch)

    def _show(self, phase: str, done: int, total: int, seconds: float = 0.0) -> None:
        """Tells who looks at it where the training is; in a training pass, of so many seconds, also how it goes."""
        self.on_progress(phase, done, total)
        if not self.keeper.wants_progress(is_last=done >= total):
            return
        values: dict[str, float] = {}
        if phase == "train":
            totals = self.position.sums.glance(self.position.where)
            if totals.n_clips:  # of a GPU, nothing has arrived at first
                values["loss"] = totals.loss_sum / totals.n_clips
            values["clips_per_second"] = self.position.n_clips / max(1e-9, seconds)
        epoch = min(self.position.epoch + 1, self.config.epochs)
        eta_s = self._eta_s(phase, done / max(1, total), seconds)
        self.keeper.progress(phase=phase, epoch=epoch, batch=done, batches=total, eta_s=eta_s, **values)

    def _eta_s(self, phase: str, share: float, seconds: float) -> float | None:
        """Seconds to the end, from the last epoch or else from what there is of this one; None before any batch."""
        epoch_s = self._epoch_s
        if phase == "train":
            epoch_s = epoch_s or seconds / share
        elif epoch_s is not None:
            share = 1.0
        return None if epoch_s is None else epoch_s * (self.config.epochs - self.position.epoch - share)


# --- small parts -----------------------------------------------------------------------------------------------------


def _noting(skipped: list[tuple[int, str]], batches: Iterator[AnyBatch]) -> Iterator[AnyBatch]:
    """The same batches, with the clips that they skip noted down."""
    for batch in batches:
        skipped += batch.skipped
        yield batch


def epoch_seed(seed: int, epoch: int) -> int:
    """One seed for torch per epoch, so that an epoch's chance does not depend on those before it."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)


def _reasons(reasons: dict[str, int]) -> str:
    return "; ".join(f"{count} x {reason}" for reason, count in reasons.items())
