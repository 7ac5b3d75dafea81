"""What was typed into Build survives a page change, a refresh, a restart and a second tab."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from hypothesis import given
from hypothesis import strategies as some
from streamlit.testing.v1 import AppTest

import drafts
from drafts import Draft, DraftError, DraftStore
from lab_support import field, lab, words, yaml_of
from pianistid_core.config import load_config
from pianistid_core.datasets.root import DataRoot

BUILD = "views/build.py"


@pytest.fixture
def root(demo_root: DataRoot, tmp_path: Path) -> DataRoot:
    return DataRoot(demo_root.path, tmp_path / "cache")


@pytest.fixture
def store(root: DataRoot) -> DraftStore:
    return DraftStore(root)


def draft_of(at: AppTest) -> str:
    found = at.query_params["draft"]
    return found if isinstance(found, str) else str(found[0])


def restart() -> None:
    st.cache_data.clear()
    st.cache_resource.clear()


# --- on the page ---


def test_what_was_typed_survives_a_page_change(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(root, monkeypatch, BUILD)
    field(at, "number_input", "batch_size").set_value(3).run()
    at.switch_page("views/data.py").run()
    at.switch_page(BUILD).run()
    assert field(at, "number_input", "batch_size").value == 3


def test_it_survives_a_refresh_and_a_restart(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(root, monkeypatch, BUILD)
    field(at, "number_input", "batch_size").set_value(3).run()
    named = draft_of(at)
    again = lab(root, monkeypatch, BUILD, draft=named)
    assert field(again, "number_input", "batch_size").value == 3
    restart()
    again = lab(root, monkeypatch, BUILD, draft=named)
    assert field(again, "number_input", "batch_size").value == 3
    again.button(key="undo").click().run()
    assert field(again, "number_input", "batch_size").value == 8


def test_a_visit_without_a_name_takes_up_the_latest_draft(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(root, monkeypatch, BUILD)
    field(at, "number_input", "epochs").set_value(77).run()
    restart()
    again = lab(root, monkeypatch, BUILD)
    assert field(again, "number_input", "epochs").value == 77
    assert draft_of(again) == draft_of(at)


@pytest.mark.parametrize("bad", ["../../etc/passwd", "0123456789", "ffffffffffff", "<b>x</b>", "a" * 500])
def test_a_bad_name_is_a_sentence_and_never_a_path(bad: str, root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    first = lab(root, monkeypatch, BUILD)
    field(first, "number_input", "epochs").set_value(77).run()
    at = lab(root, monkeypatch, BUILD, draft=bad)
    assert not at.exception
    assert "here is the latest one" in words(at)
    assert field(at, "number_input", "epochs").value == 77
    assert draft_of(at) == draft_of(first)


def test_a_broken_yaml_survives_too(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(root, monkeypatch, BUILD)
    next(area for area in at.text_area if area.label == "YAML").set_value("epochs: many\n").run()
    restart()
    again = lab(root, monkeypatch, BUILD)
    assert yaml_of(again) == "epochs: many\n"
    assert "line 1, epochs: got 'many'" in words(again)
    assert field(again, "number_input", "epochs").value == 12


def test_two_tabs_build_on_each_other(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = lab(root, monkeypatch, BUILD), lab(root, monkeypatch, BUILD)
    field(one, "number_input", "epochs").set_value(77).run()
    field(two, "number_input", "batch_size").set_value(3).run()
    for at in (one.run(), two):
        assert field(at, "number_input", "epochs").value == 77
        assert field(at, "number_input", "batch_size").value == 3


def test_a_disk_that_refuses_is_named_and_typing_goes_on(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(root, monkeypatch, BUILD)

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(drafts, "write_atomically", full)
    field(at, "number_input", "epochs").set_value(77).run()
    assert "What you type cannot be kept on disk: No space left on device" in words(at)
    field(at, "number_input", "batch_size").set_value(3).run()
    assert field(at, "number_input", "epochs").value == 77
    monkeypatch.undo()


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": "many", "seed": 10**40, "optim_cfg": 7, "model_cfg": {"layers": [1, "x"]}},
        {"optim_cfg": {"lr": float("nan")}, "train_dataset_cfg": {"use_concepts": {"a": 1}}, "run": ["x"]},
        {"encoder_module": {"a": 1}, "data_split_dir": None, "no_such": 1},
    ],
)
def test_a_draft_that_somebody_edited_is_shown_with_its_faults(
    values: dict[str, Any], root: DataRoot, store: DraftStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = Draft(base="demo.yaml", values=values)
    store.save(draft)
    at = lab(root, monkeypatch, BUILD, draft=draft.id)
    assert not at.exception
    assert "to fix" in words(at)
    assert at.button(key="start").disabled
    at.toggle(key="advanced").set_value(True).run()
    assert not at.exception


def test_a_clone_leaves_what_was_being_built(
    root: DataRoot, store: DraftStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = lab(root, monkeypatch, BUILD)
    field(at, "number_input", "epochs").set_value(77).run()
    before = draft_of(at)
    other = Draft()
    other.take(load_config("jazz20-cpu.yaml"), "jazz20-cpu.yaml")
    store.save(other)
    assert store.load(before).values["epochs"] == 77


# --- on disk ---


def a_draft() -> Draft:
    draft = Draft()
    draft.take(load_config("demo.yaml"), "demo.yaml")
    return draft


def test_a_draft_comes_back_as_it_was(store: DraftStore) -> None:
    draft = a_draft()
    draft.take(load_config("jazz20-cpu.yaml"), "jazz20-cpu.yaml")
    draft.yaml_text, draft.yaml_faults = "x: [", ("line 1",)
    draft.sweep.axes[0] = ("epochs", "1, 2")
    draft.sweep.open = True
    store.save(draft)
    found = store.load(draft.id)
    for name in ("id", "base", "values", "yaml_text", "yaml_faults", "sweep", "history", "written"):
        assert getattr(found, name) == getattr(draft, name), name


def test_steps_back_are_bounded_and_end(store: DraftStore) -> None:
    draft = a_draft()
    for number in range(40):
        draft.remember()
        draft.values["epochs"] = 100 + number
    assert len(draft.history) == drafts.MOST_STEPS
    steps = 0
    while draft.undo():
        steps += 1
    assert steps == drafts.MOST_STEPS
    assert draft.values["epochs"] == 139 - drafts.MOST_STEPS


def test_the_number_of_drafts_is_bounded(store: DraftStore) -> None:
    made = []
    for number in range(drafts.MOST_DRAFTS + 5):
        draft = a_draft()
        store.save(draft)
        store.save_result(draft.id, {"config": {}})
        os.utime(store.path(draft.id), ns=(number * 10**9, number * 10**9))
        made.append(draft.id)
    store.prune()
    assert store.ids() == made[:4:-1]
    assert store.result(made[0]) is None
    assert store.result(made[-1]) == {"config": {}}


def test_drafts_of_one_data_root_are_not_anothers(root: DataRoot, tmp_path: Path) -> None:
    here, there = DraftStore(root), DraftStore(DataRoot(tmp_path / "other", root.cache_dir))
    draft = a_draft()
    here.save(draft)
    assert there.latest() is None
    with pytest.raises(DraftError, match="not here any more"):
        there.load(draft.id)


@pytest.mark.parametrize("bad", ["", "..", "a/b", "0123456789\n", "ABCDEF0123", "\x00" * 10, "é" * 10])
def test_a_name_that_is_no_id_never_reaches_the_disk(bad: str, store: DraftStore) -> None:
    with pytest.raises(DraftError):
        store.load(bad)
    assert not store.folder.exists()


@given(content=some.binary(max_size=60) | some.text(max_size=60).map(str.encode))
def test_any_bytes_are_a_draft_or_a_sentence(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    store = DraftStore(DataRoot(tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("cache")))
    store.folder.mkdir(parents=True)
    store.path("0123456789").write_bytes(content)
    with pytest.raises(DraftError, match="damaged"):
        store.load("0123456789")
    assert store.latest() is None


json_values: some.SearchStrategy[Any] = some.recursive(
    some.none() | some.booleans() | some.integers() | some.text(max_size=5),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = some.sampled_from(["base", "values", "yaml_text", "yaml_faults", "sweep", "history", "axes"])


@given(plain=some.dictionaries(KEYS, json_values, max_size=7) | json_values)
def test_any_json_is_a_draft_or_a_sentence(plain: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    store = DraftStore(DataRoot(tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("cache")))
    store.folder.mkdir(parents=True)
    store.path("0123456789").write_text(json.dumps(plain))
    try:
        draft = store.load("0123456789")
    except DraftError:
        return
    assert isinstance(draft.values, dict)
    assert len(draft.sweep.axes) == 2
