"""The seal of a checkpoint: any bit that changes is found, and torch reads the file as it reads its own."""

import errno
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from pianistid_core.errors import DamagedCheckpointError
from pianistid_core.seals import sealing, verify

STATE = {"model_state_dict": {"weight": torch.arange(20.0)}, "epoch": 3}
END_BYTES = 22
SEAL_BYTES = 86


def write(path: Path, state: Any = STATE) -> bytes:
    with path.open("wb") as file, sealing(file) as sealed:
        torch.save(state, sealed)
    return path.read_bytes()


def test_a_sealed_file_is_the_archive_that_torch_writes_and_a_comment(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    data = write(path)
    assert verify(path) is True
    plain = io.BytesIO()
    torch.save(STATE, plain)
    length = SEAL_BYTES.to_bytes(2, "little")
    assert data[:-SEAL_BYTES] == plain.getvalue()[:-2] + length
    for saved in (torch.load(path, weights_only=True), torch.load(path, weights_only=True, mmap=True)):
        assert torch.equal(saved["model_state_dict"]["weight"], torch.arange(20.0)) and saved["epoch"] == 3
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None and archive.comment.startswith(b"pianistid seal sha256 ")


def test_every_bit_of_the_file_is_under_the_seal(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    data = write(path, {"model_state_dict": {"w": torch.zeros(2)}})
    step = 7  # every seventh bit of the archive, and each of the end record and the seal
    places = [*range(0, 8 * (len(data) - END_BYTES - SEAL_BYTES), step)]
    places += range(8 * (len(data) - END_BYTES - SEAL_BYTES), 8 * len(data))
    for bit in places:
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(DamagedCheckpointError, match=r"a\.pth is damaged.*copy it again"):
            verify(path)


def test_a_file_that_was_cut_or_grew_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    data = write(path)
    for length in [*range(4, len(data), 97), *range(len(data) - END_BYTES - SEAL_BYTES, len(data))]:
        path.write_bytes(data[:length])
        with pytest.raises(DamagedCheckpointError):
            verify(path)
    path.write_bytes(data + b"\n")
    with pytest.raises(DamagedCheckpointError):
        verify(path)


@pytest.mark.parametrize("lost", [1, 30, 64, 86, 100, 200])
def test_an_end_that_the_disk_lost_is_damage_and_no_missing_seal(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "a.pth"
    data = write(path)
    path.write_bytes(data[:-lost] + bytes(lost))
    with pytest.raises(DamagedCheckpointError):
        verify(path)


def test_a_published_file_has_no_seal_and_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "published.pth"
    torch.save(STATE, path)
    assert verify(path) is False
    path.write_bytes(path.read_bytes()[:-2] + b"\x05\x00hello")  # somebody else's comment
    assert verify(path) is False
    path.write_bytes(b"no archive at all")
    assert verify(path) is False


class FullDisk(io.RawIOBase):
    """A file on a disk with room for so many bytes."""

    def __init__(self, room: int) -> None:
        self.room = room

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return len(data)


@pytest.mark.parametrize("room", [0, 100, 1000, 1500])
def test_a_full_disk_is_said_to_be_full_whatever_torch_makes_of_it(room: int) -> None:
    with pytest.raises(OSError, match="No space left") as raised, sealing(FullDisk(room)) as sealed:  # type: ignore[arg-type]
        torch.save(STATE, sealed)
    assert raised.value.errno == errno.ENOSPC


def test_only_a_zip_without_a_comment_is_sealed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="zip"), (tmp_path / "a").open("wb") as file, sealing(file) as sealed:
        sealed.write(b"not a zip, but long enough for an end record")
