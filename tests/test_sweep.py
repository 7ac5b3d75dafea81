"""Sweeps: every combination once, each under a name of its own, or all that is wrong with them."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pianistid_core.config import RunConfig, config_fields, default_config, difference, load_config, to_dict
from pianistid_core.errors import ConfigError
from pianistid_core.models.options import ENCODERS
from pianistid_core.names import folder_name_problem
from pianistid_core.schema import FieldInfo
from pianistid_core.sweep import MAX_RUNS, Axis, parse_axes, parse_values, sweep

DEMO = load_config("demo.yaml", overrides=["run=base"])


def names_of(configs: list[RunConfig]) -> list[str]:
    return [config.run for config in configs]


def field(key: str, config: RunConfig = DEMO) -> FieldInfo:
    return next(info for info in config_fields(to_dict(config)) if info.key == key)


def test_every_combination_is_made_with_a_readable_name() -> None:
    found = sweep(DEMO, [Axis("optim_cfg.lr", (0.01, 1e-5)), Axis("batch_size", (4, 8))], seeds=[1, 2])
    assert len(found) == 8
    assert names_of(found)[:3] == [
        "base-lr0.01-batch_size4-seed1",
        "base-lr0.01-batch_size4-seed2",
        "base-lr0.01-batch_size8-seed1",
    ]
    assert names_of(found)[-1] == "base-lr1e-05-batch_size8-seed2"
    last = {key: theirs for key, _, theirs in difference(DEMO, found[-1])}
    assert last == {"run": "base-lr1e-05-batch_size8-seed2", "optim_cfg.lr": 1e-5, "seed": 2}


def test_seeds_alone_and_nothing_at_all() -> None:
    assert names_of(sweep(DEMO, [], seeds=[3, 1, 3])) == ["base-seed3", "base-seed1"]
    assert sweep(DEMO, []) == [DEMO]


def test_a_choice_leaves_the_old_section_behind() -> None:
    adam, sgd = sweep(DEMO, [Axis("optim_type", ("adam", "sgd"))])
    assert names_of([adam, sgd]) == ["base-adam", "base-sgd"]
    assert adam.optim_cfg == DEMO.optim_cfg
    assert sgd.optim_cfg == default_config().optim_cfg


def test_what_comes_to_the_same_is_made_once() -> None:
    # Adam has no momentum, and without a schedule there is no T_max: those values change nothing there.
    found = sweep(DEMO, [Axis("optim_type", ("adam", "sgd")), Axis("optim_cfg.momentum", (0.1, 0.5))])
    assert names_of(found) == ["base-adam", "base-sgd-momentum0.1", "base-sgd-momentum0.5"]
    found = sweep(DEMO, [Axis("sched_type", ("cosine", None)), Axis("sched_cfg.T_max", (6, 12))])
    assert names_of(found) == ["base-cosine-T_max6", "base-cosine-T_max12", "base-sched_type=none"]
    assert len(sweep(DEMO, [Axis("batch_size", (4, 4, 8))])) == 2


def test_keys_without_effect_under_the_others_make_no_new_run() -> None:
    idle = next(
        info
        for info in config_fields(to_dict(DEMO))
        if info.key == "train_dataset_cfg.augmentation_probability" and info.when
    )
    axes = [Axis("train_dataset_cfg.data_augmentation", (True, False)), Axis(idle.key, (0.2, 0.4))]
    assert names_of(sweep(DEMO, axes)) == [
        "base-data_augmentation=true-augmentation_probability0.2",
        "base-data_augmentation=true-augmentation_probability0.4",
        "base-data_augmentation=false-augmentation_probability0.2",
    ]


def test_keys_of_the_same_last_name_are_told_apart() -> None:
    (found,) = sweep(DEMO, [Axis("train_dataset_cfg.n_clips", (10,)), Axis("test_dataset_cfg.n_clips", (None,))])
    assert found.run == "base-train_dataset_cfg.n_clips10-test_dataset_cfg.n_clips=none"


def test_all_faults_are_told_with_their_variants() -> None:
    with pytest.raises(ConfigError) as refused:
        sweep(DEMO, [Axis("encoder_module", ("disentangle", "cnn")), Axis("optim_cfg.lr", (-1, 0.1))], seeds=[1])
    text = str(refused.value)
    assert (
        "optim_cfg.lr: got -1; give a number above 0" in text and "encoder_module=disentangle, optim_cfg.lr=-1" in text
    )
    assert "train_dataset_cfg.multichannel" in text and "encoder_module=cnn, optim_cfg.lr=0.1, seed=1" in text


@pytest.mark.parametrize(
    ("axes", "seeds", "part"),
    [
        ([Axis("optim_cfg.lrr", (1,))], [], "did you mean optim_cfg.lr"),
        ([Axis("run", ("a", "b"))], [], "names the run itself"),
        ([Axis("optim_cfg", ({},))], [], "is a section"),
        ([Axis("batch_size", ())], [], "has no values"),
        ([Axis("batch_size", (1,)), Axis("batch_size", (2,))], [], "is given twice"),
        ([Axis("seed", (1, 2))], [3], "as a key and as seeds"),
        ([Axis("batch_size", (1,)), Axis("epochs", (1,)), Axis("optim_cfg.lr", (1,))], [], "2 at most"),
        ([Axis("batch_size", tuple(range(1, 30)))], range(10), f"{MAX_RUNS} at most"),
        ([], [-1], "seed: got -1"),
    ],
)
def test_what_cannot_be_swept_is_refused(axes: list[Axis], seeds: list[int], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        sweep(DEMO, axes, seeds)


def test_several_faults_of_axes_come_together() -> None:
    with pytest.raises(ConfigError) as refused:
        sweep(DEMO, [Axis("optim_cfg.lrr", (1,)), Axis("batch_size", ())])
    assert {fault.key for fault in refused.value.faults} == {"optim_cfg.lrr", "batch_size"}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.text(st.sampled_from("ab é音-_.,=()+"), min_size=1, max_size=118).filter(
        lambda name: not folder_name_problem(name)
    ),
    st.lists(st.text(max_size=90).filter(str.isprintable), min_size=1, max_size=4),
    st.lists(st.integers(0, 2**32 - 1), max_size=3),
)
def test_names_are_unique_and_can_be_folders(base: str, texts: list[str], seeds: list[int]) -> None:
    config = load_config("demo.yaml", overrides=["mlflow_cfg.use=true", f"run='{base}'"])
    found = sweep(config, [Axis("mlflow_cfg.tracking_uri", tuple(text or "x" for text in texts))], seeds)
    names = names_of(found)
    assert len({name.casefold() for name in names}) == len(names)
    assert all(len(name) <= 80 and folder_name_problem(name) is None for name in names)


def test_values_are_read_as_the_fields_kind() -> None:
    assert parse_values("0.01, 3e-3,0.01", field("optim_cfg.lr")) == (0.01, 0.003)
    assert parse_values("1", field("optim_cfg.lr")) == (1.0,)
    assert parse_values("1..3, 8, 5..4", field("batch_size")) == (1, 2, 3, 8, 5, 4)
    assert parse_values("adam,sgd", field("optim_type")) == ("adam", "sgd")
    assert parse_values("cosine, null", field("sched_type")) == ("cosine", None)
    assert parse_values("true, no", field("train_dataset_cfg.jitter_start")) == (True, False)
    assert parse_values("[0.8, 0.9], [0.9, 0.99]", field("optim_cfg.betas")) == ([0.8, 0.9], [0.9, 0.99])
    assert parse_values("null, 10", field("train_dataset_cfg.n_clips")) == (None, 10)
    assert parse_values("a, b", field("data_split_dir")) == ("a", "b")


@pytest.mark.parametrize(
    ("text", "key", "parts"),
    [
        ("", "batch_size", ["got nothing"]),
        ("1.5, x, 2", "batch_size", ["got 1.5; give whole numbers", "got x"]),
        ("1..3", "optim_cfg.lr", ["a range is for whole numbers"]),
        ("1..5000", "batch_size", [f"more than {MAX_RUNS}"]),
        ("adam, adamw", "optim_type", ["got adamw; give adam, sgd"]),
        ("[1", "optim_cfg.betas", ["got '[1'"]),
    ],
)
def test_each_part_that_is_no_value_is_named(text: str, key: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_values(text, field(key))
    for part in parts:
        assert part in str(refused.value)


def test_axes_are_read_from_text_also_for_keys_of_another_choice() -> None:
    assert parse_axes(DEMO, ["optim_cfg.momentum=0.1,0.5", "optim_type=sgd"]) == [
        Axis("optim_cfg.momentum", (0.1, 0.5)),
        Axis("optim_type", ("sgd",)),
    ]
    with pytest.raises(ConfigError) as refused:
        parse_axes(DEMO, ["batch_size", "optim_cfg.lrr=1", "epochs=x"])
    assert len(refused.value.faults) == 3


def test_every_architecture_can_be_swept_where_the_rolls_fit() -> None:
    one_channel = [f"{part}_dataset_cfg.multichannel=false" for part in ("train", "test")]
    config = load_config("demo.yaml", overrides=["encoder_module=cnn", *one_channel])
    flat = tuple(name for name in ENCODERS if name != "disentangle")
    assert [found.encoder_module for found in sweep(config, [Axis("encoder_module", flat)])] == list(flat)
