"""The model in the box: what comes out is what went in, and what is no box is refused at the door."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from setuptools.dist import Distribution

from pianistid_core import boxed
from pianistid_core.boxed import CARD, FACTS, LICENCE, MOST_BYTES, WEIGHTS, Box, averaged, load_box, read_box, write_box
from pianistid_core.checkpoints import LoadedModel
from pianistid_core.clips import draw_clip
from pianistid_core.config import RunConfig
from pianistid_core.datasets.root import DataRoot, Split, SplitEntry
from pianistid_core.errors import CheckpointError, DamagedCheckpointError, PianistIDError, RunError
from pianistid_core.identify import Identifier
from pianistid_core.models import build_model
from pianistid_core.robustness import measure_expressive
from tiny import PIANISTS, make_notes, tiny_config

REPOSITORY = Path(__file__).resolve().parent.parent


def untrained(config: RunConfig) -> LoadedModel:
    torch.manual_seed(3)
    model = build_model(config.encoder_module, config.model_cfg, len(PIANISTS)).eval()
    return LoadedModel(model, config, PIANISTS, Path("checkpoint_007.pth"), 7)


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return untrained(tiny_config(checkpoint_cfg={"checkpoint_dir": "/home/somebody/runs"}))


@pytest.fixture
def box(loaded: LoadedModel, tmp_path: Path) -> Box:
    return write_box(loaded, tmp_path / "box", title="Three pianists", measured={"kept": 3})


def of_n_grams(seed: int, music: int = 0) -> LoadedModel:
    """A model of n-grams with weights drawn from a seed, which knows those of some music."""
    config = tiny_config(
        encoder_module="ngram", model_cfg={"vocabulary": 500, "least_recordings": 1}, train_dataset_cfg={},
        test_dataset_cfg={},
    )  # fmt: skip
    one = untrained(config)
    roll = draw_clip(make_notes(music, seconds=30), config.test_dataset_cfg, np.random.default_rng(0))[np.newaxis]
    one.model.study([(torch.from_numpy(roll), np.array([0]))])
    torch.manual_seed(seed)
    torch.nn.init.normal_(one.model.get_parameter("weight"))
    return one


def test_the_mean_of_weights_answers_with_the_mean_of_logits() -> None:
    several = [of_n_grams(seed) for seed in range(3)]
    drawn = draw_clip(make_notes(7, seconds=30), several[0].config.test_dataset_cfg, np.random.default_rng(0))
    roll = torch.from_numpy(drawn[np.newaxis])
    mean = torch.stack([one.model(roll) for one in several]).mean(dim=0)
    one = averaged(several)
    assert torch.allclose(one.model(roll), mean, atol=1e-4)
    assert not torch.allclose(several[0].model(roll), mean, atol=1e-2)
    assert (one.path, one.config, one.model.training) == (several[0].path, several[0].config, False)
    assert averaged(several[:1]) is several[0]


def test_only_trainings_that_differ_in_their_seed_are_averaged(loaded: LoadedModel) -> None:
    with pytest.raises(CheckpointError, match="not as good as any of them"):
        averaged([loaded, loaded])
    with pytest.raises(CheckpointError, match="differ in their seed alone"):
        averaged([of_n_grams(0), of_n_grams(1, music=1)])


def test_what_comes_out_is_what_went_in(loaded: LoadedModel, box: Box) -> None:
    again = load_box(box.folder)
    assert (again.class_names, again.epoch, again.path) == (PIANISTS, 7, box.folder / WEIGHTS)
    assert again.name == "Three pianists (shipped)"
    assert again.config.model_cfg == loaded.config.model_cfg and not again.model.training
    for name, tensor in again.model.state_dict().items():
        came = loaded.model.state_dict()[name]
        assert tensor.dtype == came.dtype
        torch.testing.assert_close(tensor, came, rtol=1e-3, atol=1e-3)
    notes = make_notes(5, seconds=40)
    here, there = (Identifier(one, torch.device("cpu")).identify(notes).probabilities for one in (loaded, again))
    assert there == pytest.approx(here, abs=2e-3)
    assert {path.name for path in box.folder.iterdir()} == {WEIGHTS, FACTS, CARD, LICENCE}
    assert "Attribution-NonCommercial 4.0" in (box.folder / LICENCE).read_text()
    assert box.card.startswith("# Three pianists: model card\n") and box.sha256[:16] in box.card
    assert (box.measured, box.right) == ({"kept": 3}, None)


def test_what_is_measured_is_what_is_shipped(loaded: LoadedModel, box: Box) -> None:
    measured, shipped = boxed.as_boxed(loaded).model.state_dict(), load_box(box.folder).model.state_dict()
    assert all(torch.equal(measured[name], shipped[name]) for name in shipped)
    changed = [name for name, tensor in shipped.items() if not torch.equal(tensor, loaded.model.state_dict()[name])]
    assert changed, "half precision changes something, else this test says nothing"


def test_a_box_names_no_folder_of_the_machine_that_made_it(box: Box) -> None:
    assert "somebody" not in (box.folder / FACTS).read_text()


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (torch.linspace(-3, 3, 1000), torch.float16),
        (torch.linspace(-1e6, 1e6, 1000), torch.float32),  # infinite in half precision
        (torch.linspace(1e-9, 2e-9, 1000), torch.float32),  # nothing in half precision
        (torch.linspace(-3, 3, 8), torch.float32),
        (torch.arange(200), torch.uint8),
        (torch.arange(-3, 2000), torch.int16),
        (torch.arange(100_000), torch.int32),
        (torch.tensor([2**40]), torch.int64),
        (torch.tensor([True]), torch.bool),
    ],
)
def test_as_few_bytes_as_keep_what_a_tensor_says(values: torch.Tensor, kind: torch.dtype) -> None:
    small = boxed._small(values)
    assert small.dtype == kind
    torch.testing.assert_close(small.to(values.dtype), values, rtol=1e-3, atol=2e-3)


def damaged(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        facts = json.loads((folder / FACTS).read_text())
        (folder / FACTS).write_text(json.dumps(change(facts)))

    return spoil


def flip(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-5] ^= 1
    (folder / WEIGHTS).write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "kind", "words"),
    [
        (shutil.rmtree, RunError, "no model in the box"),
        (lambda folder: (folder / FACTS).unlink(), CheckpointError, "cannot be read"),
        (lambda folder: (folder / FACTS).write_text("{"), CheckpointError, "cannot be read"),
        (damaged(lambda facts: [facts]), CheckpointError, "format list"),
        (damaged(lambda facts: facts | {"format": 2}), CheckpointError, "format 2, and this program reads 1"),
        (damaged(lambda facts: facts | {"title": ""}), CheckpointError, "title"),
        (damaged(lambda facts: facts | {"class_names": ["a", "a"]}), CheckpointError, "class_names"),
        (damaged(lambda facts: facts | {"weights": {}}), CheckpointError, "weights"),
        (damaged(lambda facts: facts | {"calibration": 3}), CheckpointError, "calibration"),
        (damaged(lambda facts: facts | {"config": {"epocs": 3}}), CheckpointError, "another version.*epocs"),
        (damaged(lambda facts: facts | {"class_names": ["a"]}), CheckpointError, "another architecture"),
        (flip, DamagedCheckpointError, "checksum"),
        (lambda folder: (folder / WEIGHTS).write_bytes(bytes(12_000_001)), CheckpointError, "at most 12"),
    ],
)
def test_what_is_no_box_is_refused(spoil: Callable[[Path], None], kind: type, words: str, box: Box) -> None:
    spoil(box.folder)
    with pytest.raises(kind, match=words):
        load_box(box.folder)


def test_weights_that_are_no_safetensors_are_refused_though_their_checksum_fits(box: Box) -> None:
    torch.save({"x": torch.ones(3)}, box.folder / WEIGHTS)
    digest = hashlib.sha256((box.folder / WEIGHTS).read_bytes()).hexdigest()
    damaged(lambda facts: facts | {"weights": {"sha256": digest}})(box.folder)
    with pytest.raises(CheckpointError, match="damaged"):
        load_box(box.folder)


def test_what_is_too_large_for_a_box_is_not_put_in(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boxed, "MOST_BYTES", 1000)
    with pytest.raises(CheckpointError, match="smaller network"):
        write_box(loaded, tmp_path / "box", title="Three")
    assert not (tmp_path / "box").exists()


def test_the_shipped_model_is_the_default_and_a_damaged_one_does_not_hide_the_newest_run(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIANISTID_BOX", str(tmp_path / "mine"))
    assert not boxed.is_shipped()
    made = write_box(loaded, boxed.box_folder(), title="Three pianists")
    root = DataRoot(tmp_path / "root")
    assert Identifier.default(root).name == "Three pianists (shipped)"
    assert Identifier.from_checkpoint(made.weights).name == "Three pianists (shipped)"
    flip(made.folder)
    with pytest.raises(RunError, match="train one first"):
        Identifier.default(root)


def test_what_is_in_the_box_is_told_without_torch(box: Box) -> None:
    code = "import sys; from pathlib import Path; from pianistid_core.boxed import read_box"
    code += "; print(read_box(Path(sys.argv[1])).name); print({'torch', 'safetensors'} & set(sys.modules))"
    asked = [sys.executable, "-c", code, str(box.folder)]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert done.stdout == "Three pianists (shipped)\nset()\n"


def test_without_safetensors_there_is_one_clear_sentence(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(CheckpointError, match="pip install safetensors"):
        load_box(box.folder)


def test_the_package_takes_the_box_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    distribution = Distribution()
    distribution.parse_config_files()
    distribution.include_package_data = False  # what a version control adds is not asked, only what is declared
    build = distribution.get_command_obj("build_py")
    build.ensure_finalized()
    packed = {name for _, _, _, names in build.data_files for name in names}
    here = {
        str(path.relative_to(REPOSITORY / "pianistid_core")) for path in (REPOSITORY / "pianistid_core/box").iterdir()
    }
    assert f"box/{LICENCE}" in packed and here <= packed


def test_the_shipped_box_is_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIANISTID_BOX")
    if not boxed.is_shipped():
        pytest.skip("this copy of the source has no weights in its box")
    shipped = read_box()
    loaded = load_box()
    assert loaded.class_names == shipped.class_names and len(shipped.class_names) == 20
    assert loaded.calibration is not None
    assert "CC BY-NC 4.0" in shipped.card
    assert shipped.weights.stat().st_size <= MOST_BYTES == 12_000_000
    assert shipped.measured["test"]["hears"] == ["melody", "harmony", "rhythm"]


def test_the_shipped_model_does_on_clips_as_transcribed_what_its_card_says(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIANISTID_BOX")
    clips = shared / "data" / "expressive"
    if not (boxed.is_shipped() and clips.is_dir()):
        pytest.skip("this copy of the source has no weights in its box, or no clips as transcribed beside it")
    loaded = load_box()
    whose = [(f"jtd/{name.split()[-1]}{name[0]}-".lower(), label) for label, name in enumerate(loaded.class_names)]
    test = tuple(SplitEntry(track, label, 60.0) for track, label in whose)
    split = Split("by name", loaded.class_names, {"test": test})
    found = measure_expressive(Identifier(loaded, torch.device("cpu")), clips, split)
    said = read_box().measured["expressive"]["held out"]
    assert found["held out"]["n"] == said["n"]
    # Of those on the edge another machine may see one otherwise.
    assert abs(found["held out"]["right"] - said["right"]) <= 1


def test_errors_are_of_the_tree() -> None:
    with pytest.raises(PianistIDError):
        read_box(Path("nowhere"))
