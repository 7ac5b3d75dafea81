"""A run and its config: where a config trains, what a run was trained with, and whether it may go on."""

from collections.abc import Sequence
from pathlib import Path

from pianistid_core.config import RunConfig, difference, load_config
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import RunError
from pianistid_core.runs import CONFIG_FILE, REQUEST_FILE, Run

# What may differ between a run and its continuation without making it another run.
_MAY_CHANGE = frozenset(
    {"epochs", "device", "num_workers", "num_threads", "channels_last", "compile", "fused_optimiser", "roll_form"}
    | {"checkpoint_cfg", "mlflow_cfg"}
)


def run_for(config: RunConfig, root: DataRoot) -> Run:
    """The run that a config trains: in its own `checkpoint_dir`, or the data root's. Nothing is made yet."""
    chosen = config.checkpoint_cfg.checkpoint_dir
    folder = Path(chosen).expanduser() if chosen else root.checkpoints_dir
    return Run(folder.absolute() / config.experiment / config.run)


def leads_outside(config: RunConfig, root: DataRoot) -> list[str]:
    """The keys by which a config writes to a folder or a local database outside of the data root."""
    keys = []
    if config.checkpoint_cfg.checkpoint_dir and not _is_in(root, config.checkpoint_cfg.checkpoint_dir):
        keys.append("checkpoint_cfg.checkpoint_dir")
    address = config.mlflow_cfg.tracking_uri
    if config.mlflow_cfg.use and address is not None:
        scheme, sign, rest = address.strip().partition("://")
        is_local = not sign or rest.startswith("/") or scheme.lower().startswith(("sqlite", "file"))
        path = address.removeprefix("sqlite:///")
        if is_local and (path == address or "?" in path or not _is_in(root, path)):
            keys.append("mlflow_cfg.tracking_uri")
    return keys


def _is_in(root: DataRoot, path: str) -> bool:
    try:
        place = Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError):  # a home of nobody, links in a ring, a character of no file system
        return False
    return any(place.is_relative_to(home.resolve()) for home in (root.path, root.checkpoints_dir.parent))


def find_run(name: str | Path, root: DataRoot) -> Run:
    """The run that "experiment/run", a run folder or a .pth file in one means.

    Raises
    ------
    RunError
        When there is none.
    """
    path = Path(name)
    if path.suffix == ".pth" and path.is_file():
        return Run.open(path.absolute().parent)
    if str(name) and path.is_dir():
        try:
            return Run.open(path.absolute())
        except RunError:
            # A folder that happens to have the name of a run is not in its way.
            if path.is_absolute():
                raise
    return Run.find(root.checkpoints_dir, str(name))


def config_of(run: Run, *, overrides: Sequence[str] = ()) -> RunConfig:
    """The config that a run was trained with, or is asked to train with when it has not begun.

    Raises
    ------
    RunError
        When the run has none.
    ConfigError
        When it cannot be read.
    """
    for name in (CONFIG_FILE, REQUEST_FILE):
        if (run.path / name).is_file():
            return load_config(run.path / name, overrides=overrides)
    raise RunError(f"run {run.id} has no config.yaml, so it cannot go on; train it with --config")


def config_to_resume(run: Run, root: DataRoot, *, overrides: Sequence[str] = ()) -> RunConfig:
    """The config by which a run goes on from its latest checkpoint, where it lies now.

    Raises
    ------
    RunError
        When the run has no config, or its folder was renamed.
    """
    places = [*overrides, "checkpoint_cfg.load_checkpoints=true"]
    config = config_of(run, overrides=places)
    # A run may have been moved or lie elsewhere than its config says; it goes on where it is.
    if run_for(config, root).path != run.path.absolute():
        folder = str(run.path.absolute().parent.parent).replace("'", "''")
        config = config_of(run, overrides=[*places, f"checkpoint_cfg.checkpoint_dir='{folder}'"])
    if run_for(config, root).path != run.path.absolute():
        raise RunError(
            f"{run.path} holds run {config.experiment}/{config.run}; put its folder back under that name, or train "
            "another run with --config"
        )
    return config


def resumable_checkpoint(config: RunConfig, run: Run) -> Path | None:
    """The checkpoint to go on from, if the config wants that, there is one, and it is whole: nobody has read it yet.

    Raises
    ------
    RunError
        When the folder holds checkpoints of somebody else's, or the run was trained with another config.
    """
    if run.checkpoints() and not run.is_own():
        raise RunError(
            f"{run.path} holds checkpoints that this program did not train, and they are left alone; choose another "
            "run name with --set run=NAME"
        )
    if not config.checkpoint_cfg.load_checkpoints or not run.checkpoints():
        return None
    changed = changed_since(run, config)
    if changed:
        raise RunError(
            f"run {run.id} was trained with another config (it differs in {', '.join(changed)}); choose another "
            "run name with --set run=NAME, or start over with --set checkpoint_cfg.load_checkpoints=false"
        )
    return run.checkpoints()[-1]


def changed_since(run: Run, config: RunConfig) -> list[str]:
    """The keys that keep a config from going on with a run, which was trained with other values of them.

    Raises: ConfigError when the run's own config cannot be read.
    """
    if not (run.path / CONFIG_FILE).exists():
        return []
    before = load_config(run.path / CONFIG_FILE)
    return [key for key, _, _ in difference(before, config) if key.split(".")[0] not in _MAY_CHANGE]
