"""The colours: they stand out from their paper, and differ for every kind of eye."""

import itertools
import tomllib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import palette

CONFIG = tomllib.loads((Path(__file__).parent.parent / ".streamlit" / "config.toml").read_text())["theme"]
LOOKS = ("light", "dark")

# Machado, Oliveira and Fernandes (2009), severity 1, for linear RGB.
EYES = {
    "all colours": np.eye(3),
    "no red": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "no green": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def lab_of(colour: str, eye: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A colour in CIELAB (D65), as an eye sees it."""
    rgb = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(eye @ linear, 0, 1) / TO_XYZ.sum(axis=1)
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def least_distance(colours: list[str]) -> float:
    seen = [[lab_of(colour, eye) for colour in colours] for eye in EYES.values()]
    return min(float(np.linalg.norm(a - b)) for eye in seen for a, b in itertools.combinations(eye, 2))


@pytest.mark.parametrize("look", LOOKS)
def test_no_two_pianists_look_alike_to_any_eye(look: str) -> None:
    colours = CONFIG[look]["chartCategoricalColors"]
    assert len(colours) == len(set(colours)) == 24
    assert least_distance(colours[:8]) >= 14
    assert least_distance(colours[4:12]) >= 14
    assert least_distance(colours) >= 11


@pytest.mark.parametrize("look", LOOKS)
def test_pianists_text_and_the_accent_stand_out_from_their_papers(look: str) -> None:
    theme = CONFIG[look]
    papers = [theme["backgroundColor"], theme["secondaryBackgroundColor"], theme["sidebar"]["backgroundColor"]]
    for colour in theme["chartCategoricalColors"]:
        assert palette.contrast(colour, papers[0]) >= 3, colour
    for key in ("textColor", "grayTextColor", "linkColor"):
        assert min(palette.contrast(theme[key], paper) for paper in papers) >= 4.5, key
    assert palette.contrast(theme["primaryColor"], "#ffffff") >= 4.5


@pytest.mark.parametrize("look", LOOKS)
def test_differences_go_from_one_side_over_paper_to_the_other(look: str) -> None:
    colours = palette.of_theme(look)
    assert len(colours.diverging) == 11
    assert colours.of_difference(0) == colours.paper
    assert colours.of_difference(-1) == colours.of_difference(-7) == colours.diverging[0]
    assert colours.of_difference(1) == colours.diverging[-1]
    strength = [palette.contrast(colours.of_difference(score / 5), colours.paper) for score in range(-5, 6)]
    assert strength[:6] == sorted(strength[:6], reverse=True)
    assert strength[5:] == sorted(strength[5:])
    for score in range(-5, 6):
        assert palette.contrast(colours.on_difference(score / 5), colours.of_difference(score / 5)) >= 4.5
    assert least_distance([colours.diverging[0], colours.diverging[-1]]) >= 30


@given(st.lists(st.text(min_size=1), unique=True, min_size=1, max_size=24), st.randoms())
def test_a_pianist_keeps_their_colour_in_whatever_order_names_come(names: list[str], random: object) -> None:
    shuffled = list(names)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    colours = palette.of_theme("light")
    given_colours = [colours.of_pianist(name, names) for name in names]
    assert given_colours == [colours.of_pianist(name, shuffled) for name in names]
    assert len(set(given_colours)) == len(names)


def test_a_concept_and_one_of_twenty_pianists_never_share_a_colour() -> None:
    names = [f"pianist {number:02d}" for number in range(20)]
    colours = palette.of_theme("light")
    concepts = {colours.of_series(index) for index in range(4)}
    assert not concepts & {colours.of_pianist(name, names) for name in names}


def test_from_the_25th_on_a_pattern_tells() -> None:
    names = [f"pianist {number:03d}" for number in range(60)]
    colours = palette.of_theme("light")
    assert colours.of_pianist(names[24], names) == colours.of_pianist(names[0], names)
    assert palette.pattern_of(names[0], names) is None
    assert palette.pattern_of(names[24], names) is not None
    assert palette.pattern_of(names[24], names) != palette.pattern_of(names[48], names)


def test_a_stranger_has_a_colour_too() -> None:
    assert palette.of_theme("light").of_pianist("nobody", ["Ada", "Bela"]).startswith("#")
