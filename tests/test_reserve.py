"""A little disk space kept back for last words."""

import os
from pathlib import Path

import pytest

from pianistid_core.reserve import RESERVE_BYTES, RESERVE_FILE, give_back, keep_back


def test_space_is_taken_and_freed(tmp_path: Path) -> None:
    keep_back(tmp_path)
    keep_back(tmp_path)  # a trainer that was killed left it
    assert (tmp_path / RESERVE_FILE).stat().st_blocks * 512 >= RESERVE_BYTES
    give_back(tmp_path)
    give_back(tmp_path)
    assert os.listdir(tmp_path) == []
    give_back(tmp_path / "gone")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_disk_without_that_space_is_full(tmp_path: Path) -> None:
    (tmp_path / RESERVE_FILE).symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        keep_back(tmp_path)
    assert os.listdir(tmp_path) == []
