"""Fixtures that every test may use."""

import shutil
from pathlib import Path

import pytest

from pianistid_core.datasets.root import DataRoot
from tiny import write_tiny_data

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the repository; tests that need it skip where it is absent."""
    path = REPOSITORY.parent / "shared"
    if not (path / "golden" / "models.json").exists():
        pytest.skip("the reference data (../shared) is not on this machine")
    return path


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps every test away from the user's cache and workspace, and from the shipped model, which comes and goes."""
    monkeypatch.setenv("PIANISTID_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("PIANISTID_BOX", str(tmp_path_factory.mktemp("box")))
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
