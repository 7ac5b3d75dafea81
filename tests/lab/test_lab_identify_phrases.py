"""The phrases that told, on the page: only where a model is made of n-grams, each to see and hear in its place."""

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import identify_phrases
import identify_work
from lab_support import lab, rolls_of, words
from pianistid_core.datasets.root import DataRoot
from pianistid_core.run_config import run_for
from pianistid_core.training import train
from tiny import make_notes, tiny_config, until, write_tiny_data

OPTIONS = {"vocabulary": 3000, "least_recordings": 2}


@pytest.fixture(scope="module")
def ngram_root(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    folder = tmp_path_factory.mktemp("ngram")
    root = DataRoot(folder / "home", folder / "cache")
    write_tiny_data(root)
    config = tiny_config(
        run="ngram", epochs=1, encoder_module="ngram", model_cfg=OPTIONS, train_dataset_cfg={}, test_dataset_cfg={}
    )
    train(config, root, run_for(config, root))
    return root


def explained(root: DataRoot, run: str, monkeypatch: pytest.MonkeyPatch) -> tuple[AppTest, identify_work.Insight]:
    at = lab(root, monkeypatch, "views/identify.py", model=run, example="tiny")
    insight = next(iter(identify_work._explainer()._found.values()))
    until(lambda: insight.finished)
    at.run()
    assert not at.exception
    return at, insight


def test_phrases_stand_on_the_page_and_the_first_is_marked(
    ngram_root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, insight = explained(ngram_root, "tests/ngram", monkeypatch)
    told = insight.phrases
    assert told and "phrases" not in insight.troubles
    assert "Phrases that told" in [one.value for one in at.subheader]
    [table] = [one.value for one in at.dataframe if "Phrase" in one.value.columns]
    assert [text.lower() for text in table["Phrase"]] == [phrase.words.lower() for phrase in told]
    assert (table["Share"] > 0).tolist() == [phrase.speaks_for for phrase in told]
    [roll] = [one for one in rolls_of(at) if any(layer["name"] == "This phrase" for layer in one.get("layers", []))]
    marked = [number for number, score in enumerate(roll["layers"][0]["w"]) if score]
    assert marked == list(told[0].notes) and {roll["layers"][0]["w"][number] for number in marked} == {1000}
    assert roll["begin"] == pytest.approx(max(0.0, told[0].times_s[0] - 0.3), abs=1e-3)
    assert "Press play to hear it in its place" in words(at)
    assert f"% of all that spoke for {insight.attribution.pianist}." in words(at)  # type: ignore[union-attr]


def test_nothing_of_it_where_a_model_is_made_of_something_else(
    trained_root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = lab(trained_root, monkeypatch, "views/identify.py", model="demo/tiny", example="demo")
    insight = next(iter(identify_work._explainer()._found.values()))
    until(lambda: insight.finished)
    at.run()
    assert not at.exception and insight.phrases is None and insight.troubles == {}
    assert "Phrases that told" not in [one.value for one in at.subheader]


def test_what_goes_wrong_is_said_in_a_sentence(ngram_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    from pianistid_core import phrases
    from pianistid_core.errors import ExtractionError

    def fails(*args: object, **more: object) -> None:
        raise ExtractionError("no phrase can be told")

    monkeypatch.setattr(phrases, "phrases", fails)
    at, insight = explained(ngram_root, "tests/ngram", monkeypatch)
    assert insight.troubles == {"phrases": "no phrase can be told"}
    assert "this could not be worked out: no phrase can be told" in words(at).lower()


@pytest.mark.parametrize("gives", [0.5, -0.5])
def test_a_few_marked_notes_among_many_are_in_full_colour(gives: float) -> None:
    from components.piano_roll import player_data
    from pianistid_core.phrases import Phrase

    notes = make_notes(1, seconds=61)
    phrase = Phrase("melody", "interval1", "E5 D5 (down 2)", gives, 0.1, 1, (31.0,), (90, 91), 3)
    data = player_data(identify_phrases.marked(phrase, notes, "Ada"))
    scores = np.array(data["layers"][0]["w"])
    assert np.flatnonzero(scores).tolist() == [90, 91] and scores[90] == (1000 if gives > 0 else -1000)
    assert data["begin"] == 30.7 and data["layers"][0]["poles"] == ["against Ada", "for Ada"]
