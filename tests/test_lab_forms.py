"""The form follows the schema: what it stores is what a YAML would say."""

from collections.abc import Sequence
from typing import Any

import pytest

import forms
from pianistid_core.config import config_fields, load_config, parse_config, presets, to_dict
from pianistid_core.errors import ConfigError, Fault


def a_form(values: dict[str, Any], faults: Sequence[Fault] = (), *, advanced: bool = False) -> forms.Form:
    return forms.Form(values, faults, "k", lambda key, value: None, advanced)


def test_a_changed_choice_takes_its_own_defaults_and_says_so() -> None:
    values: dict[str, Any] = {"optim_type": "sgd", "optim_cfg": {"lr": 0.5, "momentum": 0.1}}
    assert forms.put(values, "optim_type", "adam")
    assert values == {"optim_type": "adam"}
    assert to_dict(parse_config(values))["optim_cfg"]["lr"] == 0.001


def test_an_ordinary_change_leaves_everything_else() -> None:
    values: dict[str, Any] = {"optim_cfg": {"lr": 0.5}, "model_cfg": {"pool_type": "gem"}}
    assert not forms.put(values, "optim_cfg.momentum", 0.3)
    assert values == {"optim_cfg": {"lr": 0.5, "momentum": 0.3}, "model_cfg": {"pool_type": "gem"}}


def test_values_are_read_by_dotted_key() -> None:
    assert forms.get({"a": {"b": 1}}, "a.b") == 1
    assert forms.get({"a": {"b": 1}}, "a.c", 7) == 7
    assert forms.get({"a": 3}, "a.b") is None


@pytest.mark.parametrize("preset", presets(), ids=lambda preset: preset.name)
def test_every_preset_survives_the_form(preset: Any) -> None:
    config = load_config(preset.name)
    values = to_dict(config)
    for info in config_fields(values):
        if info.kind != "group":
            assert forms.value_of(values, info) == forms.get(values, info.key)
    assert parse_config(values) == config


def test_advanced_fields_show_when_asked_for_or_at_fault() -> None:
    fields = config_fields({})

    def shown(**options: Any) -> set[str]:
        return {info.key for info in forms.shown(fields, a_form({}, options.pop("faults", ()), **options))}

    assert "seed" not in shown()
    assert "seed" in shown(advanced=True)
    assert "seed" in shown(faults=[Fault("seed", "wrong")])


def test_a_field_that_depends_on_another_hides_with_it() -> None:
    values = {"train_dataset_cfg": {"data_augmentation": False}}
    keys = {info.key for info in forms.shown(config_fields(values), a_form(values, advanced=True))}
    assert "train_dataset_cfg.augmentation_probability" not in keys
    assert "train_dataset_cfg.data_augmentation" in keys


def test_faults_of_items_belong_to_their_list() -> None:
    form = a_form({}, [Fault("model_cfg.layers[1].pool", "no"), Fault("model_cfg.layers_x", "other")])
    assert form.fault_of("model_cfg.layers") == "no"


def test_edits_of_a_table_apply_to_its_rows() -> None:
    base = [{"a": 1}, {"a": 2}, {"a": 3}]
    edits = {"edited_rows": {0: {"a": 9}}, "deleted_rows": [1], "added_rows": [{"a": 4, "b": None}, {}]}
    assert forms.edited_rows(base, edits) == [{"a": 9}, {"a": 3}, {"a": 4}]
    assert base[0] == {"a": 1}


@pytest.mark.parametrize(("text", "value"), [("3", 3), (" 0.5 ", 0.5), ("1e-3", 0.001), ("x", "x")])
def test_items_of_a_list_are_read_as_typed(text: str, value: Any) -> None:
    assert forms.number_or_text(text) == value


def test_help_names_the_key_and_the_range() -> None:
    info = next(info for info in config_fields({}) if info.key == "batch_size")
    text = forms.help_text(info)
    assert "`batch_size`" in text
    assert "at least 1" in text


def test_what_no_number_is_reaches_the_schema_as_a_fault() -> None:
    values: dict[str, Any] = {"optim_type": "adam"}
    forms.put(values, "optim_cfg.betas", [forms.number_or_text("x"), 0.9])
    with pytest.raises(ConfigError, match="betas"):
        parse_config(values)


def test_items_with_names_are_shown_by_them() -> None:
    assert [forms.item_name(item, ("melody", "harmony")) for item in (0, 1, 2, "x")] == ["melody", "harmony", "2", "x"]


def test_bounds_are_written_out() -> None:
    info = next(info for info in config_fields({}) if info.key == "seed")
    assert "at most 4,294,967,295" in forms.range_in_words(info)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("learning rate", "optim_cfg.lr"),
        ("LR", "optim_cfg.lr"),
        ("eta_min", "sched_cfg.eta_min"),
        ("checkpoint every", "checkpoint_cfg.checkpoint_after_n_epochs"),
        ("training clips number", "train_dataset_cfg.n_clips"),
    ],
)
def test_a_setting_is_found_by_its_name_key_or_section(text: str, first: str) -> None:
    hits = [info.key for info in forms.found(config_fields({}), text)]
    assert first in hits[:4]


@pytest.mark.parametrize("text", ["", "   ", "no such thing at all"])
def test_a_search_without_words_or_hits_finds_nothing(text: str) -> None:
    assert forms.found(config_fields({}), text) == []


def test_a_field_without_effect_says_what_it_waits_for() -> None:
    values = {"train_dataset_cfg": {"data_augmentation": False}}
    fields = config_fields(values)
    labels = {info.key: info.label for info in fields}
    now = forms.current_values(values, fields)
    by_key = {info.key: info for info in fields}
    waits = forms.condition_of(by_key["train_dataset_cfg.augmentation_probability"], now, labels)
    assert waits == "Augmentation probability has an effect only while Augment is on."
    assert forms.condition_of(by_key["epochs"], now, labels) is None
