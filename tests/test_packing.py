"""Arrays and texts that grow on disk and are mapped: what NumPy reads, and strings on demand."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pianistid_core.datasets.packing import ArrayFile, Texts, TextsFile, checksum, mapped, read_sealed, write_sealed


@pytest.mark.parametrize("kind", ["f8", "i8", "u1"])
@pytest.mark.parametrize("pieces", [[], [[]], [[1, 2], [], [3]], [[7] * 100_000]], ids=["none", "empty", "few", "many"])
def test_an_array_that_grew_is_one_that_numpy_saved(tmp_path: Path, kind: str, pieces: list[list[int]]) -> None:
    file = ArrayFile(tmp_path / "grown.npy", kind)
    for piece in pieces:
        file.append(piece)
    file.close()
    expected = np.array([value for piece in pieces for value in piece], kind)
    loaded = np.load(tmp_path / "grown.npy")
    assert loaded.dtype == expected.dtype
    assert loaded.tolist() == expected.tolist()
    np.save(tmp_path / "saved.npy", expected)
    assert (tmp_path / "saved.npy").read_bytes() == (tmp_path / "grown.npy").read_bytes()


def test_a_mapped_array_is_read_only_and_of_the_kind_that_was_asked_for(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(3.0))
    array = mapped(tmp_path / "a.npy", "f8")
    assert type(array) is np.ndarray
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    with pytest.raises(ValueError, match=r"a\.npy is float64"):
        mapped(tmp_path / "a.npy", "i8")


def test_an_abandoned_array_is_not_whole(tmp_path: Path) -> None:
    file = ArrayFile(tmp_path / "a.npy", "i8")
    file.append([1, 2, 3])
    file.abandon()
    assert len(np.load(tmp_path / "a.npy")) == 0


@given(st.lists(st.lists(st.text(max_size=10), max_size=5), max_size=5))
def test_texts_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, pieces: list[list[str]]) -> None:
    folder = tmp_path_factory.mktemp("texts")
    written = TextsFile(folder, "names")
    for piece in pieces:
        written.append(piece)
    written.close()
    texts, expected = Texts(folder, "names"), [text for piece in pieces for text in piece]
    assert list(texts) == expected
    assert len(texts) == len(expected)
    assert texts[1:3] == tuple(expected[1:3])
    assert all(text in texts for text in expected)
    if expected:
        assert texts[-1] == expected[-1]
    for i in (len(expected), -len(expected) - 1):
        with pytest.raises(IndexError):
            texts[i]


def test_texts_that_were_cut_are_refused(tmp_path: Path) -> None:
    written = TextsFile(tmp_path, "names")
    written.append(["one", "two"])
    written.close()
    np.save(tmp_path / "names.npy", np.zeros(3, np.uint8))
    with pytest.raises(ValueError, match="names does not end"):
        Texts(tmp_path, "names")


def test_sealed_facts_come_back_or_are_refused(tmp_path: Path) -> None:
    facts = {"a": [1, "é"], "b": None}
    write_sealed(tmp_path / "facts.json", facts)
    assert read_sealed(tmp_path / "facts.json") == facts
    text = (tmp_path / "facts.json").read_text()
    (tmp_path / "facts.json").write_text(text.replace("[1", "[2"))
    with pytest.raises(ValueError, match="not what was written"):
        read_sealed(tmp_path / "facts.json")


def test_a_checksum_tells_files_apart(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    (tmp_path / "b").write_bytes(b"x" * 2_999_999 + b"y")
    assert checksum(tmp_path / "a") != checksum(tmp_path / "b")
