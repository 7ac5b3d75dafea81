"""Devices: the one that a config names, or a sentence when it is not there."""

import subprocess
import sys

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


FAULTS = """
import resource, sys, torch
from pianistid_core.devices import keep_memory

if sys.argv[1] == "keep":
    keep_memory()

def step():
    kept = [torch.ones(n) for n in (10_000_000, 15_000_000, 12_000_000)]  # above 32 MB glibc never learns to keep them
    return sum(tensor.mul(2).sum().item() for tensor in kept)

for _ in range(6):  # what is asked for first has to be handed out in any case
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc, the C library of most Linux systems, can be told so")
def test_a_process_that_keeps_memory_is_not_handed_it_anew() -> None:
    def faults(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert 10 * faults("keep") < faults("let go")
