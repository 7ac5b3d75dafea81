"""Fixtures that every test may use."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pianistid_core.attribution import Attribution, attribute
from pianistid_core.checkpoints import LoadedModel, load_model
from pianistid_core.config import load_config
from pianistid_core.datasets.demo import make_demo
from pianistid_core.datasets.root import DataRoot
from pianistid_core.identify import Identifier
from pianistid_core.midi import Notes, read_midi
from pianistid_core.run_config import run_for
from pianistid_core.training import train
from tiny import write_tiny_data

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the repository; tests that need it skip where it is absent."""
    path = REPOSITORY.parent / "shared"
    if not (path / "golden" / "models.json").exists():
        pytest.skip("the reference data (../shared) is not on this machine")
    return path


@pytest.fixture(scope="session", autouse=True)
def empty_box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps every test, and every server that one starts, away from the shipped model, which comes and goes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIANISTID_BOX", str(tmp_path_factory.mktemp("box")))
        yield


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps every test away from the user's cache and workspace."""
    monkeypatch.setenv("PIANISTID_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("PIANISTID_HOME", raising=False)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root of three pianists with three habits, four recordings each, two clips a recording; read only."""
    root = DataRoot(tmp_path_factory.mktemp("tiny"))
    write_tiny_data(root)
    return root.path


@pytest.fixture
def tiny_root(tiny_data: Path, tmp_path: Path) -> DataRoot:
    """The tiny data set with runs and caches of its own."""
    shutil.copytree(tiny_data, tmp_path / "root")
    return DataRoot(tmp_path / "root", cache_dir=tmp_path / "cache")


# A model of the demo that has learned its pianists, a tenth the size of the one that ships.
TAUGHT = (
    "run=taught epochs=10 sched_cfg.T_max=10 batch_size=4 optim_cfg.lr=0.01 train_dataset_cfg.data_augmentation=false "
    "model_cfg.frame_pool=25 model_cfg.compact_stem=8 model_cfg.compact_width=24 num_threads=1 device=cpu "
    "checkpoint_cfg.checkpoint_after_n_epochs=10"
)


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A factorised model that tells the demo's pianists apart, trained once in a quarter of a minute; read only."""
    folder = tmp_path_factory.mktemp("taught")
    root = DataRoot(folder / "root", folder / "cache")
    make_demo(root, recordings_per_pianist=6)
    config = load_config("demo.yaml", overrides=TAUGHT.split())
    run = run_for(config, root)
    train(config, root, run)
    return load_model(run.path, root=root)


@pytest.fixture(scope="session")
def unheard_demo(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    """Other music of the same pianists, 67 clips in its training part, none of which `taught` has heard; read only."""
    folder = tmp_path_factory.mktemp("unheard")
    root = DataRoot(folder / "root", folder / "cache")
    make_demo(root, seed=1, recordings_per_pianist=6)
    return root


@pytest.fixture(scope="session")
def unheard_clips(unheard_demo: DataRoot) -> list[Notes]:
    """A clip of 30 s of every recording of the training part of `unheard_demo`, those with most notes first.

    A concept needs chords, of which a clip with few notes has none once some are deleted.
    """
    paths = [unheard_demo.clip_paths(entry.track)[0] for entry in unheard_demo.split("demo").part("train")]
    return sorted((read_midi(path).between(0.0, 30.0) for path in paths), key=len, reverse=True)


@pytest.fixture(scope="session")
def explained(taught: LoadedModel, unheard_clips: list[Notes]) -> list[tuple[Notes, Attribution]]:
    """Six of `unheard_clips`, with the notes that mattered to `taught`."""
    identifier = Identifier(taught, torch.device("cpu"))
    return [(notes, attribute(identifier, notes)) for notes in unheard_clips[:6]]
