"""The confusion matrix as a picture."""

import struct
import sys

import numpy as np
import pytest

from pianistid_core.figures import confusion_matrix_png


def shares_of(n_classes: int) -> np.ndarray:
    counts = np.random.default_rng(3).integers(0, 3, (n_classes, n_classes)) + 9 * np.eye(n_classes, dtype=int)
    return counts / counts.sum(axis=1, keepdims=True)


def size_of(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def pixels(png: bytes) -> np.ndarray:
    from io import BytesIO

    from matplotlib.image import imread

    return imread(BytesIO(png))


@pytest.mark.parametrize("n_classes", [1, 2, 20, 130])
def test_any_number_of_classes_gives_a_picture_of_sensible_size(n_classes: int) -> None:
    width, height = size_of(
        confusion_matrix_png(shares_of(n_classes), [f"Pianist {i}" for i in range(n_classes)], title="jazz/run")
    )
    assert 400 < height <= width < 2400


def test_same_data_same_bytes_and_other_data_other_bytes() -> None:
    names = ["Bill Evans", "McCoy Tyner", "Hank Jones"]
    first = confusion_matrix_png(np.eye(3), names, title="a/b")
    assert confusion_matrix_png(np.eye(3), names, title="a/b") == first
    assert confusion_matrix_png(np.eye(3)[::-1].copy(), names, title="a/b") != first
    assert b"tIME" not in first and b"Creation" not in first


def test_names_are_text_and_never_formulas() -> None:
    hostile = [r"$\frac", "a\nb\tc", "x" * 500, "\u7530\u4e2d", "<script>"]
    picture = confusion_matrix_png(np.eye(5), hostile, title=r"$\undefined{")
    assert size_of(picture)[0] < 2400


def test_a_row_without_recordings_is_grey_not_zero() -> None:
    shares = np.eye(4)
    full = pixels(confusion_matrix_png(shares, list("abcd"), title="t"))
    shares[2] = 0.0
    grey = np.array([0xE4, 0xE4, 0xE4]) / 255

    def grey_share(picture: np.ndarray) -> float:
        return float(np.isclose(picture[..., :3], grey, atol=0.002).all(axis=-1).mean())

    without = pixels(confusion_matrix_png(shares, list("abcd"), title="t"))
    assert grey_share(full) < 0.01 and grey_share(without) > 0.05
    shares[2] = np.nan
    assert np.array_equal(pixels(confusion_matrix_png(shares, list("abcd"), title="t")), without)


def test_a_matrix_that_does_not_fit_its_names_is_refused() -> None:
    for shape, names in (((3, 3), ["a", "b"]), ((2, 3), ["a", "b"]), ((0, 0), [])):
        with pytest.raises(ValueError, match="does not fit"):
            confusion_matrix_png(np.zeros(shape), names, title="t")


def test_nothing_is_left_in_pyplot() -> None:
    confusion_matrix_png(np.eye(2), ["a", "b"], title="t")
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()
