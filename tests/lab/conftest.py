"""Each test of a page meets a server that has cached nothing, and data that was made once."""

from collections.abc import Iterator

import pytest
import streamlit as st

from pianistid_core.config import load_config
from pianistid_core.datasets.demo import make_demo
from pianistid_core.datasets.root import DataRoot
from pianistid_core.run_config import run_for
from pianistid_core.training import train

TINY = [
    "epochs=2", "run=tiny", "train_dataset_cfg.n_clips=16", "test_dataset_cfg.n_clips=12", "model_cfg.frame_pool=60",
]  # fmt: skip


@pytest.fixture(autouse=True)
def fresh_server() -> Iterator[None]:
    """Each test meets a server that has cached nothing."""
    st.cache_data.clear()
    st.cache_resource.clear()
    yield


@pytest.fixture(scope="session")
def demo_root(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    base = tmp_path_factory.mktemp("lab")
    root = DataRoot(base / "home", base / "cache")
    make_demo(root, recordings_per_pianist=4)
    return root


@pytest.fixture(scope="session")
def trained_root(demo_root: DataRoot) -> DataRoot:
    """Demo data and a tiny model that was trained on it."""
    config = load_config("demo.yaml", overrides=TINY)
    train(config, demo_root, run_for(config, demo_root))
    return demo_root
