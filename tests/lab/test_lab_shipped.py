"""The model in the box, as pages have it: first on Identify, one drop away on Home, honest of what it does not hear."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import identify_work
from lab_support import charts_of, lab, rolls_of, words
from pianistid_core.boxed import FACTS, write_box
from pianistid_core.checkpoints import load_model
from pianistid_core.concepts import CONCEPTS
from pianistid_core.datasets.root import DataRoot
from pianistid_core.measuring import measure_model
from pianistid_core.models import FactorisedModel
from pianistid_core.profiles import profiles
from pianistid_core.run_config import find_run

PAGE = "views/identify.py"


@pytest.fixture(autouse=True)
def only_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identify_work, "begin", lambda insight, asked: None)


@pytest.fixture(scope="module")
def made(trained_root: DataRoot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    loaded = load_model(find_run("demo/tiny", trained_root).path)
    measured = {
        "test": measure_model(loaded, trained_root),
        "profiles": profiles(find_run("demo/tiny", trained_root), trained_root).to_dict(),
    }
    write_box(loaded, folder, title="Eight pianists", measured=measured)
    return folder


@pytest.fixture
def box(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIANISTID_BOX", str(made))
    return made


@pytest.fixture
def solo(trained_root: DataRoot) -> bytes:
    return next(iter(sorted(trained_root.raw_dir.glob("demo/*/piano_midi.mid")))).read_bytes()


def heard_by(at: AppTest) -> str:
    return next(line for line in words(at).splitlines() if " heard by " in line)


def test_the_first_upload_is_answered_without_data_or_training(
    box: Path, solo: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = lab(tmp_path / "nothing", monkeypatch, PAGE)
    assert at.selectbox(key="model").options == ["Eight pianists (shipped)"]
    at.file_uploader[0].upload("solo.mid", solo, "audio/midi").run()
    assert not at.exception
    assert "heard by Eight pianists (shipped)" in heard_by(at)
    assert "among 8 pianists" in words(at) and "Alone it names " in words(at)
    assert "are not in this data root, so none can be compared" in words(at)
    assert not (tmp_path / "nothing").exists()


def test_it_comes_first_and_a_run_can_be_chosen(
    box: Path, solo: bytes, trained_root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = lab(trained_root, monkeypatch, PAGE)
    assert at.selectbox(key="model").options == ["Eight pianists (shipped)", "demo/tiny"]
    assert at.selectbox(key="model").value == "Eight pianists (shipped)"
    at = lab(trained_root, monkeypatch, PAGE, model="demo/tiny")
    at.file_uploader[0].upload("solo.mid", solo, "audio/midi").run()
    assert "heard by demo/tiny" in heard_by(at)


def test_its_card_is_one_click_away(box: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(tmp_path, monkeypatch, PAGE)
    at.button(key="model_card").click().run()
    assert "not evidence of authorship or authenticity" in words(at)


def test_a_file_dropped_on_home_is_answered_at_once(
    box: Path, solo: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = lab(tmp_path, monkeypatch)
    assert "knows 8 pianists" in words(at)
    at.file_uploader(key="home_files").upload("my <solo>.mid", solo, "audio/midi").run()
    assert not at.exception
    assert at.title[0].value == "Identify" and at.query_params["model"] == "Eight pianists (shipped)"
    assert "my <solo>.mid" in words(at) and "from Home" in words(at) and heard_by(at)
    at.switch_page(PAGE).run()  # which in a browser has happened
    at.button(key="put_away").click().run()
    assert "Nothing to listen to yet" in words(at)


def test_its_pianists_are_known_without_data(
    box: Path, tmp_path: Path, trained_root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = lab(tmp_path, monkeypatch, "views/pianists.py")
    assert at.selectbox(key="model").options == ["Eight pianists (shipped)"]
    assert len(at.selectbox(key="pianist").options) == 8
    text = words(at)
    assert "not in this data root" in text or "so none is typical" in text
    at = lab(trained_root, monkeypatch, "views/pianists.py", model="demo/tiny")
    assert at.selectbox(key="model").value == "demo/tiny" and not at.warning


def test_without_a_box_home_promises_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(tmp_path, monkeypatch)
    assert not at.file_uploader and "comes with the lab" not in words(at)
    assert "Identify asks a model that was trained here" in words(lab(tmp_path, monkeypatch, PAGE))


def test_a_damaged_box_is_said_and_hides_no_run(
    made: Path, tmp_path: Path, trained_root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in made.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / FACTS).write_text("{}")
    monkeypatch.setenv("PIANISTID_BOX", str(tmp_path))
    at = lab(trained_root, monkeypatch, PAGE)
    assert len(at.error) == 1 and "reads 1" in at.error[0].value
    assert at.selectbox(key="model").options == ["demo/tiny"]
    assert len(lab(trained_root, monkeypatch).error) == 1


def test_what_is_not_heard_is_said_and_drawn_nowhere(
    box: Path, solo: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FactorisedModel, "hears", CONCEPTS[:3])
    at = lab(tmp_path, monkeypatch, PAGE)
    at.file_uploader[0].upload("solo.mid", solo, "audio/midi").run()
    assert not at.exception
    assert "Not heard by this model." in words(at)
    assert "From nothing heard to all three" in words(at)
    assert "All seven subsets" in [box.label for box in at.expander]
    drawn = [str(chart["yAxis"].get("data")) for chart in charts_of(at) if "yAxis" in chart]
    assert any("All three heard" in names for names in drawn)
    assert not any("ynamics" in names for names in drawn)
    [player] = [roll for roll in rolls_of(at) if "layers" in roll]
    assert set(player["moments"]["concepts"]) == {"Melody", "Harmony", "Rhythm"}
