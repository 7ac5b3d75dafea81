"""The public names: enough for the README's story, from a file to a named pianist."""

import re
from collections import Counter
from pathlib import Path

import pytest

import pianistid_core
from pianistid_core import (
    ClipDataset,
    ClipOptions,
    DataRoot,
    Identifier,
    average_by_recording,
    build_model,
    load_model,
    make_loader,
    predict,
    run_for,
    train,
)
from tiny import make_notes, tiny_config

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_story_of_the_readme_can_be_called(tiny_root: DataRoot) -> None:
    config = tiny_config(epochs=1)
    train(config, tiny_root, run_for(config, tiny_root))
    loaded = load_model("tests/tiny", root=tiny_root.path)
    clips = ClipDataset.open(tiny_root.path, "tiny", "validation")
    found = predict(loaded.model, make_loader(clips))
    recordings, probabilities = average_by_recording(found.probabilities, found.recordings)
    assert found.probabilities.shape == (6, 3)
    assert recordings.shape == (3,) and probabilities.shape == (3, 3)
    named = Identifier.default(tiny_root.path, device="auto").identify(make_notes(1))
    assert set(named.probabilities) == set(clips.class_names)


def test_an_untrained_network_takes_what_a_loader_gives(tiny_root: DataRoot) -> None:
    clips = ClipDataset.open(tiny_root, "tiny", "test", ClipOptions(n_clips=3))
    rolls, _, _ = next(iter(make_loader(clips)))
    model = build_model("compact", {"stem_width": 4, "width": 8}, len(clips.class_names))
    assert model(rolls).shape == (3, 3)


@pytest.mark.parametrize("name", re.findall(r"from pianistid_core import (.+)", README))
def test_the_readme_imports_only_public_names(name: str) -> None:
    assert set(name.split(", ")) <= set(pianistid_core.__all__)


def test_the_readme_names_each_module_once() -> None:
    tree = README.partition("## Where things are")[2].partition("More:")[0]
    core = tree.partition("pianistid_core/")[2].partition("\n\n")[0]
    counts = Counter(re.findall(r"^ {6}(\S+\.py)", core, re.M))
    assert counts and {name for name, count in counts.items() if count > 1} == set()
