"""Devices: the one that a config names, or a sentence when it is not there."""

import pytest
import torch

from pianistid_core.devices import choose_device, environment
from pianistid_core.errors import RunError


def test_auto_takes_what_there_is() -> None:
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert choose_device("auto").type == expected
    assert choose_device("cpu") == torch.device("cpu")


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(RunError, match="device=auto"):
        choose_device("cuda:99")


def test_the_environment_names_versions_and_device() -> None:
    found = environment(torch.device("cpu"))
    assert found["device"] == "cpu" and found["versions"]["torch"] == torch.__version__ and found["cpus"] >= 1
