"""Fixtures that every test may use."""

from pathlib import Path

import pytest

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
    """Keeps every test away from the user's cache and workspace."""
    monkeypatch.setenv("PIANISTID_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("PIANISTID_HOME", raising=False)
