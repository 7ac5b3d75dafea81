"""What a training leaves behind: rows, matrices, checkpoints and progress in its run, and a copy of them in MLflow."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pianistid_core.config import RunConfig, to_yaml
from pianistid_core.datasets.root import DataRoot
from pianistid_core.evaluation import Metrics
from pianistid_core.mirror import Mirror
from pianistid_core.runs import Run, Status

log = logging.getLogger(__name__)

FIGURE_EVERY_EPOCHS = 5
CHECKPOINT_FORMAT = 1
PROGRESS_EVERY_S = 0.5


class Keeper:
    """Keeps what one training leaves. Without a run it keeps nothing: another process of the training does."""

    def __init__(self, config: RunConfig, run: Run | None) -> None:
        self.config, self.run = config, run
        self._mirror: Mirror | None = None
        self._last_progress = 0.0

    def begin(
        self, root: DataRoot, *, environment: Mapping[str, Any], fingerprints: Mapping[str, str], goes_on: bool
    ) -> None:
        """Writes down what the training is about to do, with what, and opens its entry in MLflow."""
        if self.run is None:
            return
        self.run.save_text("config.yaml", to_yaml(self.config))
        self.run.save_json("environment.json", environment)
        self.run.save_json("data.json", {"split": self.config.data_split_dir, "parts": fingerprints})
        self._mirror = Mirror(self.config, root, self.run, goes_on=goes_on)

    def start_over(self) -> None:
        """Takes away what a former training left."""
        if self.run is not None:
            self.run.clear()

    def go_on_after(self, epochs: int) -> None:
        """Takes away what a former training left beyond its first epochs."""
        if self.run is not None:
            self.run.truncate_metrics(epochs)

    def epoch(self, row: dict[str, Any], test: Metrics) -> None:
        """Keeps one epoch's row, and its matrix every few epochs."""
        if self.run is None:
            return
        epoch = row["epoch"]
        if epoch % FIGURE_EVERY_EPOCHS == 0 or epoch in (1, self.config.epochs):
            self.run.save_confusion(epoch, test.confusion)
            self._send_figure(f"epoch_{epoch:03d}")
        self.run.append_metrics(row)
        if self._mirror is not None:
            self._mirror.epoch(row, epoch)

    def validation(self, metrics: Metrics) -> None:
        """Keeps what the validation pass measured, and sends the last checkpoint to MLflow."""
        if self.run is None:
            return
        self.run.save_json("evaluation/validation.json", metrics.to_dict())
        self.run.save_confusion("validation", metrics.confusion)
        self._send_figure("validation")
        if self._mirror is not None and (checkpoints := self.run.checkpoints()):
            self._mirror.model(checkpoints[-1])

    def checkpoint(self, state: Mapping[str, Any]) -> Path | None:
        """Writes a checkpoint; its `epoch` and `batch` say where it goes on."""
        if self.run is None:
            return None
        keep_old = not self.config.checkpoint_cfg.delete_old_checkpoints
        whole = {"format": CHECKPOINT_FORMAT, **state}
        return self.run.save_checkpoint(whole, epoch=state["epoch"], batch=state["batch"], keep_old=keep_old)

    def wants_progress(self, *, is_last: bool) -> bool:
        """Whether it is time to say where the training is: twice a second, and at the end of a phase."""
        now = time.monotonic()
        if self.run is None or (now - self._last_progress < PROGRESS_EVERY_S and not is_last):
            return False
        self._last_progress = now
        return True

    def progress(self, **values: Any) -> None:
        """Says where the training is."""
        if self.run is not None:
            self.run.set_progress(epochs=self.config.epochs, **values)

    def end(self, status: Status) -> None:
        """Tells MLflow how it ended."""
        if self._mirror is not None:
            self._mirror.end(status)

    def _send_figure(self, name: str) -> None:
        if self.run is not None and self._mirror is not None:
            self._mirror.figure(self.run.path / "figures" / f"{name}_confusionmatrix.png")
