"""How far the Identify page lets an explanation be trusted: the answer without its notes, and warnings."""

from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import identify_charts
import identify_work
import palette
from lab_support import charts_of, lab, rolls_of, words
from pianistid_core.config import load_config
from pianistid_core.datasets.root import DataRoot
from pianistid_core.deletion import ORDERS, SHARES, Deletion
from pianistid_core.run_config import run_for
from pianistid_core.training import train
from tiny import until

LITTLE = "The controls say that this picture tells little of the model."


@pytest.fixture(scope="module")
def blank_root(demo_root: DataRoot, tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    """A model that was shown the demo's music and learned nothing of it, since its steps are too small."""
    folder = tmp_path_factory.mktemp("blank")
    (folder / "home").mkdir()
    for name in ("data", "references"):
        (folder / "home" / name).symlink_to(demo_root.path / name)
    root = DataRoot(folder / "home", demo_root.cache_dir)
    config = load_config(
        "demo.yaml",
        overrides=[
            "epochs=1", "run=blank", "train_dataset_cfg.n_clips=8", "test_dataset_cfg.n_clips=8", "optim_cfg.lr=1e-12",
        ],
    )  # fmt: skip
    train(config, root, run_for(config, root))
    return root


def explained(root: DataRoot, run: str, monkeypatch: pytest.MonkeyPatch) -> tuple[AppTest, identify_work.Insight]:
    """The page on one of the demo's recordings once all of its explanations are there."""
    at = lab(root, monkeypatch, "views/identify.py", model=run, example="demo")
    insight = next(iter(identify_work._explainer()._found.values()))
    until(lambda: insight.finished)
    at.run()
    assert not at.exception and insight.troubles == {}
    return at, insight


def test_the_answer_is_asked_again_without_its_notes(trained_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at, insight = explained(trained_root, "demo/tiny", monkeypatch)
    found = insight.deletion
    assert found is not None and found.n_clips <= 2 and found.n_draws == 6
    text = words(at)
    assert "**Without them**: probability of the answer as its notes are deleted" in text
    assert all(sentence.split(":")[0] in text for sentence in found.words())
    assert "the band holds 6 draws of random notes" in text
    [chart] = [one for one in charts_of(at) if "Highest ranked first" in one.get("legend", {}).get("data", [])]
    assert len(chart["series"][-1]["data"]) == len(found.shares)


def test_a_model_that_learned_nothing_is_told_by_a_warning(
    blank_root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, insight = explained(blank_root, "demo/blank", monkeypatch)
    assert insight.attribution is not None and not insight.attribution.informative
    assert any(LITTLE in str(warning.value) for warning in at.warning)
    assert "so there is little to explain" in words(at)
    layers = {layer["name"]: layer for roll in rolls_of(at) for layer in roll.get("layers", [])}
    assert "Take it with care" in layers["Notes that mattered"]["help"]
    insight.attribution = _told(insight)
    assert not any(LITTLE in str(warning.value) for warning in at.run().warning)


def _told(insight: identify_work.Insight):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    assert insight.attribution is not None
    return replace(insight.attribution, informative=True)


def test_without_scores_nothing_is_deleted(
    trained_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pianistid_core import attribution
    from pianistid_core.errors import ExtractionError

    def fails(*args: object, **more: object) -> None:
        raise ExtractionError("no note can be scored")

    monkeypatch.setattr(attribution, "attribute", fails)
    at = lab(trained_root, monkeypatch, "views/identify.py", model="demo/tiny", example="demo")
    insight = next(iter(identify_work._explainer()._found.values()))
    until(lambda: insight.finished)
    at.run()
    assert not at.exception and insight.deletion is None and set(insight.troubles) == {"attribution"}
    assert "Without them" not in words(at)


@pytest.mark.parametrize("n_shares", [len(SHARES), 3])
def test_the_band_of_the_chart_holds_every_draw(n_shares: int) -> None:
    rng = np.random.default_rng(1)
    curves = {order: rng.random((2, 4 if order == "random" else 1, n_shares, 2)) for order in ORDERS}
    found = Deletion(curves, shares=SHARES[:n_shares])
    chart = identify_charts.deletion(found, palette.of_theme("light"))
    low, height, usual, highest = ([value for _, value in one["data"]] for one in chart.option["series"])
    drawn = 100 * curves["random"][..., 0].mean(axis=0)
    assert low == pytest.approx(drawn.min(axis=0), abs=2e-3)
    assert np.add(low, height) == pytest.approx(drawn.max(axis=0), abs=2e-3)
    assert usual == pytest.approx(drawn.mean(axis=0), abs=2e-3)
    assert highest == pytest.approx(100 * curves["highest"][:, 0, :, 0].mean(axis=0), abs=2e-3)
    assert chart.option["xAxis"]["max"] == 100 * SHARES[n_shares - 1]
    assert f"{100 * SHARES[n_shares - 1]:.0f} % of the notes deleted" in chart.alt
