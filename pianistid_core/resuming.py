"""Whether training may go on with what is in a run directory."""

from pathlib import Path

from pianistid_core.config import RunConfig, difference, load_config
from pianistid_core.errors import RunError
from pianistid_core.runs import Run

# What may differ between a run and its continuation without making it another run.
_MAY_CHANGE = ("epochs", "device", "num_workers", "num_threads", "checkpoint_cfg", "mlflow_cfg")


def resumable_checkpoint(config: RunConfig, run: Run) -> Path | None:
    """The checkpoint to go on from, if the config wants that and there is one.

    Raises
    ------
    RunError
        When the run was trained with another config.
    """
    if not config.checkpoint_cfg.load_checkpoints or not run.checkpoints():
        return None
    if (run.path / "config.yaml").exists():
        before = load_config(run.path / "config.yaml")
        changed = [key for key, _, _ in difference(before, config) if key.split(".")[0] not in _MAY_CHANGE]
        if changed:
            raise RunError(
                f"run {run.id} was trained with another config (it differs in {', '.join(changed)}); choose another "
                "run name with --set run=NAME, or start over with --set checkpoint_cfg.load_checkpoints=false"
            )
    return run.latest_checkpoint()
