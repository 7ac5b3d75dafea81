"""Build: the form, the YAML, faults and presets."""

import pytest

from lab_support import field, lab, words, yaml_of
from pianistid_core.datasets.root import DataRoot


def test_the_form_and_the_yaml_say_the_same(demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(demo_root, monkeypatch, "views/build.py")
    assert not at.button(key="start").disabled
    field(at, "number_input", "epochs").set_value(7).run()
    assert "epochs: 7\n" in yaml_of(at)
    area = next(area for area in at.text_area if area.label == "YAML")
    area.set_value(yaml_of(at).replace("epochs: 7", "epochs: 9")).run()
    assert not at.exception
    assert field(at, "number_input", "epochs").value == 9
    assert "Differences from the preset (1)" in [expander.label for expander in at.expander]


def test_what_was_typed_survives_a_page_change(demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(demo_root, monkeypatch, "views/build.py")
    field(at, "number_input", "batch_size").set_value(3).run()
    at.switch_page("views/data.py").run()
    at.switch_page("views/build.py").run()
    assert field(at, "number_input", "batch_size").value == 3


def test_faults_show_all_at_once_and_at_their_fields(demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(demo_root, monkeypatch, "views/build.py")
    field(at, "number_input", "epochs").set_value(0).run()
    field(at, "number_input", "batch_size").set_value(0).run()
    assert "2 things to fix" in words(at)
    assert words(at).count("got 0; give a whole number of at least 1") == 4
    assert at.button(key="start").disabled


def test_a_changed_architecture_brings_its_own_fields(demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(demo_root, monkeypatch, "views/build.py")
    field(at, "selectbox", "encoder_module").select("crnn").run()
    assert not at.exception
    assert "needs" in words(at) or "takes one channel" in words(at)
    assert not [w for w in at.toggle if w.key and w.key.endswith("model_cfg.use_masking")]


def test_a_broken_yaml_leaves_the_form_as_it_was(demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(demo_root, monkeypatch, "views/build.py")
    area = next(area for area in at.text_area if area.label == "YAML")
    area.set_value("epochs: many\nuse_fc2: 1\n").run()
    assert "epochs: got 'many'" in words(at)
    assert "use_fc2" in words(at)
    assert field(at, "number_input", "epochs").value != 0
    at.button(key="drop_yaml").click().run()
    assert not at.exception
    assert "many" not in yaml_of(at)


@pytest.mark.parametrize("advanced", [False, True])
def test_every_preset_opens(advanced: bool, demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(demo_root, monkeypatch, "views/build.py")
    if advanced:
        at.toggle(key="advanced").set_value(True).run()
    picker = next(box for box in at.selectbox if box.label == "Start from")
    for name in list(picker.options):
        next(box for box in at.selectbox if box.label == "Start from").select(name).run()
        assert not at.exception, name
        assert yaml_of(at)
