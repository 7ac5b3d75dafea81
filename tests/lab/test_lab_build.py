"""Build: the form, the YAML, faults and presets; preflight, the queue and sweeps."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import bases
import build_preflight
import cached
import jobs
from data_check import Checked, job_of
from home_devices import Device
from lab_support import a_run, field, lab, many_runs, words, yaml_of
from pianistid_core import launch
from pianistid_core.config import RunConfig, load_config, parse_config, to_yaml
from pianistid_core.datasets.doctor import Report
from pianistid_core.datasets.findings import Finding
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import RunError
from pianistid_core.places import Cluster
from pianistid_core.preflight import Check, Estimate, Preflight, Range, Speed
from pianistid_core.runs import Run
from pianistid_core.schema import read_yaml
from pianistid_core.speed import FAST_ON_CPU, FAST_ON_GPU, speed_settings, with_settings
from tiny import until

BUILD = "views/build.py"
ESTIMATE = Estimate(Range(8, 10, 14), Range(110, 130, 190), Range(4e8, 5e8, 7e8), Range(2e6, 2.5e6, 3e6))
SPEEDS = (Speed("reference", 0.25, 0.5, 900_000_000), Speed("fast", 0.05, 31.0, 600_000_000))


@pytest.fixture
def root(demo_root: DataRoot, tmp_path: Path) -> DataRoot:
    """The demo's data with drafts, runs and a queue of its own."""
    own = tmp_path / "home"
    own.mkdir()
    for name in ("data", "references"):
        (own / name).symlink_to(demo_root.path / name)
    return DataRoot(own, tmp_path / "cache")


def yaml_area(at: AppTest) -> Any:
    return next(area for area in at.text_area if area.label == "YAML")


def picker(at: AppTest) -> Any:
    return next(box for box in at.selectbox if box.label in ("Preset", "Run") and box.key.startswith("base:"))


def kind(at: AppTest) -> Any:
    return next(group for group in at.button_group if group.key.startswith("base_kind:"))


def n_changes(at: AppTest) -> int:
    """How many settings the page says are unlike what the form started from."""
    found = re.search(r"(\d+) settings? unlike", words(at))
    return int(found[1]) if found else 0 if "setting for setting" in words(at) else -1


# --- the form and the YAML ---


def test_the_form_and_the_yaml_say_the_same(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(root, monkeypatch, BUILD)
    assert not at.button(key="start").disabled
    assert n_changes(at) == 0
    field(at, "number_input", "epochs").set_value(7).run()
    assert "epochs: 7\n" in yaml_of(at)
    yaml_area(at).set_value(yaml_of(at).replace("epochs: 7", "epochs: 9")).run()
    assert not at.exception
    assert field(at, "number_input", "epochs").value == 9
    assert n_changes(at) == 1


def test_without_data_the_form_stands_and_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(DataRoot(tmp_path / "none", tmp_path / "cache"), monkeypatch, BUILD)
    assert "One thing to fix: 1 in Name and data" in words(at)
    assert "There is no data to learn from yet" in words(at)
    for key in ("start", "queue", "preflight_go"):
        assert at.button(key=key).disabled
    assert yaml_of(at).startswith("experiment: demo")


def test_faults_show_all_at_once_and_at_their_fields(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(root, monkeypatch, BUILD)
    field(at, "number_input", "epochs").set_value(0).run()
    field(at, "number_input", "train_dataset_cfg.n_clips").set_value(0).run()
    assert "2 things to fix: 1 in Learning and 1 in Clips" in words(at)
    assert words(at).lower().count("got 0; give a whole number of at least 1") == 4
    assert at.button(key="start").disabled
    field(at, "number_input", "epochs").set_value(4).run()
    field(at, "number_input", "train_dataset_cfg.n_clips").set_value(8).run()
    assert "to fix" not in words(at)
    assert not at.button(key="start").disabled


def test_a_changed_choice_shows_its_own_fields_with_their_defaults(
    root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = lab(root, monkeypatch, BUILD)
    field(at, "number_input", "optim_cfg.lr").set_value(0.5).run()
    field(at, "selectbox", "optim_type").select("sgd").run()
    assert field(at, "number_input", "optim_cfg.lr").value == 0.01
    assert "lr: 0.01\n" in yaml_of(at)
    field(at, "selectbox", "encoder_module").select("crnn").run()
    assert not at.exception
    assert "needs" in words(at) or "takes one channel" in words(at)
    assert not [w for w in at.toggle if w.key and w.key.endswith("model_cfg.use_masking")]


def test_a_field_that_depends_on_another_shows_only_when_it_matters(
    root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = lab(root, monkeypatch, BUILD)
    key = "train_dataset_cfg.augmentation_probability"
    field(at, "toggle", "train_dataset_cfg.data_augmentation").set_value(True).run()
    assert field(at, "number_input", key)
    field(at, "toggle", "train_dataset_cfg.data_augmentation").set_value(False).run()
    assert not [w for w in at.number_input if w.key and w.key.endswith(f":{key}")]


def test_a_setting_is_found_wherever_it_stands(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(root, monkeypatch, BUILD)
    at.text_input(key="find_setting").set_value("seed").run()
    field(at, "number_input", "seed").set_value(7).run()
    assert "seed: 7\n" in yaml_of(at)
    at.text_input(key="find_setting").set_value("no such thing").run()
    assert "Nothing found" in words(at)
    at.text_input(key="find_setting").set_value("attention heads").run()
    assert "has an effect only while Self-attention is on" in words(at)
    assert not at.exception


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epochs: many\nuse_fc2: 1\n", ("line 1, epochs: got 'many'", "line 2, use_fc2", "2 faults in this YAML")),
        ("epochs: 3\nrun: [a\n", ("line 3, column 1",)),
        ("optim_cfg:\n  lr: 0.1\n  momentum: 7\n", ("line 3, optim_cfg.momentum: got 7",)),
        ("", ("it is empty",)),
        ("epochs: 1\nepochs: 2\n", ("given twice, first on line 1",)),
    ],
)
def test_a_broken_yaml_names_the_line_and_leaves_the_form_as_it_was(
    text: str, said: tuple[str, ...], root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = lab(root, monkeypatch, BUILD)
    field(at, "number_input", "epochs").set_value(31).run()
    yaml_area(at).set_value(text).run()
    for words_ in said:
        assert words_ in words(at)
    assert yaml_of(at) == text
    assert field(at, "number_input", "epochs").value == 31
    at.button(key="drop_yaml").click().run()
    assert not at.exception
    assert "epochs: 31\n" in yaml_of(at)


@pytest.mark.parametrize("advanced", [False, True])
def test_every_preset_opens(advanced: bool, root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(root, monkeypatch, BUILD)
    if advanced:
        at.toggle(key="advanced").set_value(True).run()
    names = list(picker(at).options)
    assert len(names) == 21
    for name in names:
        picker(at).select(name).run()
        assert not at.exception, name
        assert yaml_of(at)
        assert n_changes(at) == (-1 if at.button(key="start").disabled else 0)


def test_undo_and_back_to_the_preset(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(root, monkeypatch, BUILD)
    assert at.button(key="undo").disabled
    assert at.button(key="back_to_base").disabled
    field(at, "number_input", "epochs").set_value(31).run()
    field(at, "number_input", "batch_size").set_value(3).run()
    at.button(key="undo").click().run()
    assert field(at, "number_input", "batch_size").value == 8
    assert field(at, "number_input", "epochs").value == 31
    at.button(key="back_to_base").click().run()
    assert field(at, "number_input", "epochs").value == 12
    assert at.button(key="back_to_base").disabled
    at.button(key="undo").click().run()
    assert field(at, "number_input", "epochs").value == 31
    picker(at).select("jazz20-cpu.yaml").run()
    at.button(key="undo").click().run()
    assert picker(at).value == "demo.yaml"
    assert field(at, "number_input", "epochs").value == 31


def test_an_earlier_run_is_a_start(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    a_run(root.path, "first", "finished")
    at = lab(root, monkeypatch, BUILD)
    kind(at).set_value("Earlier runs").run()
    assert any("study/first · 60 % of recordings" in option for option in picker(at).options)
    picker(at).set_value("run: study/first").run()
    assert not at.exception
    assert "run: first\n" in yaml_of(at)
    assert n_changes(at) == 0
    at.button(key="undo").click().run()
    assert kind(at).value == "Presets"


def test_a_start_that_was_deleted_is_named(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(root.path, "gone", "finished")
    at = lab(root, monkeypatch, BUILD)
    kind(at).set_value("Earlier runs").run()
    picker(at).set_value("run: study/gone").run()
    run.delete()
    at.run()
    assert not at.exception
    assert "cannot be read any more" in words(at)
    assert not at.button(key="start").disabled


def test_the_picker_holds_a_thousand_runs(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    many_runs(root.path, 1000, metrics_rows=3)
    at = lab(root, monkeypatch, BUILD)
    kind(at).set_value("Earlier runs").run()
    assert len(picker(at).options) == 1000


# --- names, leakage ---


def test_a_name_that_is_taken_says_what_would_happen(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(root.path, "old", "finished", done=3)
    at = lab(root, monkeypatch, BUILD)
    field(at, "text_input", "experiment").set_value("study").run()
    field(at, "text_input", "run").set_value("old").run()
    assert "study/old exists, with 3 epochs done" in words(at)
    assert "Starting begins it anew" in words(at), "it has no checkpoint to go on from"
    run.path.joinpath("checkpoint_003.pth").write_bytes(b"")
    run.path.joinpath("run.json").unlink()
    at.run()
    assert "holds checkpoints that this program did not train" in words(at)


def test_a_run_with_other_settings_gives_way_with_one_click(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr(
        launch, "start", lambda config, root, cluster: started.append(config.run) or Run(root.path / "gone")
    )
    a_run(root.path, "old", "finished", done=12).path.joinpath("checkpoint_012.pth").write_bytes(b"")
    at = lab(root, monkeypatch, BUILD)
    field(at, "text_input", "experiment").set_value("study").run()
    field(at, "text_input", "run").set_value("old").run()
    assert "Starting only tests it once more" in words(at)
    field(at, "number_input", "epochs").set_value(20).run()
    assert "goes on from its last checkpoint" in words(at)
    field(at, "number_input", "optim_cfg.lr").set_value(0.5).run()
    assert "was trained with other settings: optim_cfg.lr" in words(at)
    for button in ("start", "queue"):
        at.button(key=button).click().run()
        assert started == []
        assert "Give this run another name" in words(at) and "--set" not in words(at)
    at.button(key="rename").click().run()
    assert field(at, "text_input", "run").value == "old-2"
    assert "run: old-2" in yaml_of(at)
    assert not [button for button in at.button if button.key == "rename"]
    at.button(key="start").click().run()
    assert started == ["old-2"]


def test_a_run_that_would_be_begun_anew_is_said(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(root.path, "old", "finished", done=12)
    run.path.joinpath("checkpoint_012.pth").write_bytes(b"")
    (run.path.parent / "old-2").mkdir()
    at = lab(root, monkeypatch, BUILD)
    field(at, "text_input", "experiment").set_value("study").run()
    field(at, "text_input", "run").set_value("old").run()
    assert "load_checkpoints: true" in yaml_of(at)
    yaml_area(at).set_value(yaml_of(at).replace("load_checkpoints: true", "load_checkpoints: false")).run()
    assert "its results and checkpoints are removed" in words(at)
    at.button(key="rename").click().run()
    assert field(at, "text_input", "run").value == "old-3"
    a_run(root.path, "old-3", "finished", done=3)
    at.run()
    at.button(key="rename").click().run()
    assert field(at, "text_input", "run").value == "old-4", "it counts on, and does not number a number"


def report(errors: int) -> Report:
    finding = Finding("error", "two_parts", "In two parts", "A recording is in two parts", "demo")
    return Report("root", ("demo",), (finding,) * errors, (), ())


@pytest.mark.parametrize(
    ("errors", "said"),
    [(None, "has not been checked"), (2, "The doctor found 2 errors in demo"), (0, None)],
)
def test_leakage_is_said_in_a_line_and_does_not_block(
    errors: int | None, said: str | None, root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    if errors is not None:
        checked = Checked(report(errors), cached.seen(root, "demo"))
        jobs.start(job_of(root, "demo"), "Checking demo", lambda progress: checked)
        until(lambda: (job := jobs.find(job_of(root, "demo"))) is not None and not job.running)
    at = lab(root, monkeypatch, BUILD)
    assert not at.button(key="start").disabled
    if said is None:
        assert "doctor" not in words(at)
        assert "has not been checked" not in words(at)
    else:
        assert said in words(at)


# --- preflight ---


def preflight_that(
    monkeypatch: pytest.MonkeyPatch, ok: bool = True, gate: threading.Event | None = None
) -> list[RunConfig]:
    """Puts a preflight of known outcome in the place of the real one; gives the configs that it was asked for."""
    asked: list[RunConfig] = []

    def stub(
        config: RunConfig,
        root: DataRoot,
        on_check: Callable[[Check], None] | None = None,
        timeout_s: float = 1.0,
        *,
        compare: bool = False,
    ) -> Preflight:
        asked.append(config)
        checks = [Check("Data", True, "64 clips were read", 0.4)]
        if on_check:
            on_check(checks[0])
        if gate is not None:
            gate.wait(20)
        checks.append(Check("Training batch", ok, "loss 2.08" if ok else "the loss is not a number", 1.5))
        if on_check:
            on_check(checks[1])
        return Preflight(tuple(checks), ESTIMATE if ok else None, "CPU", SPEEDS if compare else ())

    monkeypatch.setattr(build_preflight, "run_preflight", stub)
    return asked


def finish(at: AppTest) -> None:
    until(lambda: not any(job.running for job in jobs._jobs().values()))
    at.run()


def test_a_preflight_that_passes_gives_the_estimate(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = preflight_that(monkeypatch)
    at = lab(root, monkeypatch, BUILD)
    field(at, "number_input", "epochs").set_value(13).run()
    at.button(key="preflight_go").click().run()
    finish(at)
    assert [config.epochs for config in asked] == [13]
    shown = words(at)
    assert "Preflight passed" in shown
    assert "2 checks in 2 s on CPU" in shown
    assert "An epoch takes 8.0 s to 14 s, the whole run 1 min 50 s to 3 min 10 s" in shown
    assert "400 MB to 700 MB of memory" in shown
    figures = {metric.label: metric.value.replace("\\", "") for metric in at.metric}
    assert figures == {"An epoch": "10 s", "The whole run": "2 min 10 s", "Peak memory": "500 MB", "Disk": "2.5 MB"}


def test_checks_appear_as_they_are_done(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    preflight_that(monkeypatch, gate=gate)
    at = lab(root, monkeypatch, BUILD)
    at.button(key="preflight_go").click().run()
    until(lambda: "64 clips were read" in words(at.run()))
    assert "Training batch" not in words(at)
    assert at.button(key="preflight_go").disabled
    at.switch_page("views/data.py").run()
    gate.set()
    at.switch_page(BUILD).run()
    finish(at)
    assert "Preflight passed" in words(at)


def test_a_preflight_that_fails_says_why_and_does_not_block(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    preflight_that(monkeypatch, ok=False)
    at = lab(root, monkeypatch, BUILD)
    at.button(key="preflight_go").click().run()
    finish(at)
    assert "Preflight: 1 check failed" in words(at)
    assert "The loss is not a number" in words(at)
    assert not at.metric
    assert not at.button(key="start").disabled


def test_a_preflight_that_cannot_run_is_a_sentence(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(config: RunConfig, root: DataRoot, **settings: Any) -> Preflight:
        raise RunError("the preflight took longer than 180 s and was ended")

    monkeypatch.setattr(build_preflight, "run_preflight", broken)
    at = lab(root, monkeypatch, BUILD)
    at.button(key="preflight_go").click().run()
    finish(at)
    assert "The preflight took longer than 180 s" in words(at)
    assert not at.exception


def test_a_preflight_belongs_to_its_config(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    preflight_that(monkeypatch)
    at = lab(root, monkeypatch, BUILD)
    at.button(key="preflight_go").click().run()
    finish(at)
    assert "changed since" not in words(at)
    field(at, "number_input", "epochs").set_value(99).run()
    field(at, "number_input", "optim_cfg.lr").set_value(0.5).run()
    assert "The settings have changed since: Epochs and Optimiser settings: Learning rate" in words(at)
    at.button(key="undo").click().run()
    at.button(key="undo").click().run()
    assert "changed since" not in words(at)
    field(at, "number_input", "epochs").set_value(0).run()
    assert "before the settings that are now to be fixed" in words(at)


def test_a_preflight_outlives_the_server(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    preflight_that(monkeypatch)
    at = lab(root, monkeypatch, BUILD)
    at.button(key="preflight_go").click().run()
    finish(at)
    st.cache_data.clear()
    st.cache_resource.clear()
    assert "Preflight passed" in words(lab(root, monkeypatch, BUILD))


# --- fast ---


def table(at: AppTest) -> Any:
    return next(frame.value for frame in at.dataframe if "Peak memory" in frame.value.columns)


@pytest.mark.parametrize("kind", ["GPU", "CPU"])
def test_the_fast_switch_sets_what_suits_the_machine_and_takes_it_back(
    kind: str, root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "devices", lambda: (Device(kind, "a device", None, 0, 1),))
    at = lab(root, monkeypatch, BUILD)
    wanted = FAST_ON_GPU if kind == "GPU" else FAST_ON_CPU
    switch = lambda: next(one for one in at.toggle if one.label == "Fast")  # noqa: E731
    assert not switch().value and yaml_of(at).endswith("roll_form: float32\n")
    switch().set_value(True).run()
    assert switch().value and speed_settings(parse_config(read_yaml(yaml_of(at)))) == dict(wanted)
    assert ("precision bf16" in words(at)) is (kind == "GPU")
    assert ("makes most processors slower" in words(at)) is (kind == "CPU")
    switch().set_value(False).run()
    assert not switch().value and n_changes(at) == 0
    at.button(key="undo").click().run()
    assert switch().value and not at.exception


def test_both_kinds_of_step_stand_side_by_side(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    preflight_that(monkeypatch)
    at = lab(root, monkeypatch, BUILD)
    assert not at.dataframe or "Accuracy:" not in words(at)
    at.button(key="speed_compare").click().run()
    finish(at)
    rows = table(at).to_dict("records")
    assert [row["Step"] for row in rows] == ["As the reference", "Fast"]
    assert [row["Time"] for row in rows] == ["250 ms", "50 ms"] and rows[1]["The first"] == "31 s"
    assert [row["Peak memory"] for row in rows] == ["900 MB", "600 MB"]
    assert {row["Accuracy"] for row in rows} == {"no run yet"}
    assert "Train it as the reference and fast, with the same seed" in words(at)
    next(one for one in at.toggle if one.label == "Fast").set_value(True).run()
    assert len(table(at)) == 2
    field(at, "number_input", "epochs").set_value(99).run()
    assert not [frame for frame in at.dataframe if "Peak memory" in frame.value.columns]


def test_finished_runs_tell_the_accuracy_of_each_kind(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    preflight_that(monkeypatch)
    a_run(root.path, "plain", "finished", done=4)
    fast = a_run(root.path, "quick", "finished", done=3)
    config = with_settings(load_config(fast.path / "config.yaml"), FAST_ON_GPU)
    fast.save_text("config.yaml", to_yaml(config))
    at = lab(root, monkeypatch, BUILD)
    assert "as the reference 80.0 % (study/plain), fast 60.0 % (study/quick)" in words(at)
    at.button(key="speed_compare").click().run()
    finish(at)
    assert list(table(at)["Accuracy"]) == ["80.0 %", "60.0 %"]


# --- starting and queueing ---


def test_starting_opens_the_run_and_a_second_click_is_a_sentence(
    root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[RunConfig] = []

    def start(config: RunConfig, root: DataRoot, cluster: Cluster | None) -> Run:
        if started:
            raise RunError(f"run {config.experiment}/{config.run} is already running; stop it first")
        started.append(config)
        return a_run(root.path, config.run, "running")

    monkeypatch.setattr(launch, "start", start)
    at = lab(root, monkeypatch, BUILD)
    at.button(key="start").click().run()
    assert [config.run for config in started] == ["demo"]
    assert not at.exception
    at.switch_page(BUILD).run()
    at.button(key="start").click().run()
    assert len(started) == 1
    assert "already running" in words(at)


def test_queueing_says_where_it_waits_and_takes_a_name_once(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = cached.run_queue(root)
    queue.pause()
    at = lab(root, monkeypatch, BUILD)
    at.button(key="queue").click().run()
    assert "demo/demo is in the queue and starts next, which is paused" in words(at)
    at.button(key="queue").click().run()
    assert "already waits in the queue" in words(at)
    field(at, "text_input", "run").set_value("second").run()
    at.button(key="queue").click().run()
    assert "demo/second is in the queue as number 2" in words(at)
    assert [entry.run_id for entry in queue.entries()] == ["demo/demo", "demo/second"]
    field(at, "number_input", "epochs").set_value(77).run()
    assert [entry.epochs for entry in queue.entries()] == [12, 12]


# --- sweeps ---


def sweep_field(at: AppTest, kind: str, name: str) -> Any:
    found = [w for w in getattr(at, kind) if w.key and w.key.startswith("sweep:") and w.key.endswith(f":{name}")]
    return found[0]


def open_sweep(at: AppTest, key: str, values: str, seeds: str = "") -> None:
    at.button(key="sweep_toggle").click().run()
    sweep_field(at, "selectbox", "0:key").select(key).run()
    sweep_field(at, "text_input", "0:values").set_value(values).run()
    if seeds:
        sweep_field(at, "text_input", "seeds").set_value(seeds).run()


def test_a_sweep_shows_its_runs_and_queues_them_with_one_click(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    cached.run_queue(root).pause()
    preflight_that(monkeypatch)
    at = lab(root, monkeypatch, BUILD)
    at.button(key="preflight_go").click().run()
    finish(at)
    open_sweep(at, "optim_cfg.lr", "0.01, 0.003", seeds="1..3")
    assert "6 runs, 11 min to 19 min in all" in words(at)
    at.button(key="queue_sweep").click().run()
    assert not at.exception
    assert "6 runs of the sweep are in the queue" in words(at)
    entries = cached.run_queue(root).entries()
    assert len({entry.run_id for entry in entries}) == 6
    assert sorted((entry.config.optim_cfg.lr, entry.config.seed) for entry in entries)[0] == (0.003, 1)
    at.button(key="queue_sweep").click().run()
    assert "already waits" in words(at)


def test_a_sweep_without_an_estimate_says_how_to_get_one(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(root, monkeypatch, BUILD)
    open_sweep(at, "epochs", "10, 20")
    assert "2 runs" in words(at)
    assert "Run a preflight to see how long this takes" in words(at)


@pytest.mark.parametrize(
    ("key", "values", "seeds", "said"),
    [
        ("epochs", "ten", "", "give whole numbers"),
        ("epochs", "0, 5", "", "of at least 1"),
        ("optim_cfg.lr", "0.1, -1", "", "above 0"),
        ("epochs", "5", "a, b", "give whole numbers"),
        ("epochs", "1..150", "1..150", "200"),
    ],
)
def test_faults_of_a_sweep_are_said_and_nothing_is_queued(
    key: str, values: str, seeds: str, said: str, root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = lab(root, monkeypatch, BUILD)
    open_sweep(at, key, values, seeds)
    assert not at.exception
    assert "to fix in the sweep" in words(at)
    assert said in words(at)
    assert not [button for button in at.button if button.key == "queue_sweep"]


def test_an_empty_sweep_asks_for_values(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(root, monkeypatch, BUILD)
    at.button(key="sweep_toggle").click().run()
    assert "Give values for a setting, or some seeds" in words(at)
    at.button(key="sweep_toggle").click().run()
    assert "Give values for a setting" not in words(at)


# --- what things cost ---


def test_the_page_does_not_load_torch(root: DataRoot) -> None:
    code = (
        "import sys; sys.path.insert(0, 'lab')\n"
        "from streamlit.testing.v1 import AppTest\n"
        "at = AppTest.from_file('lab/shell.py', default_timeout=60); at.run(); at.switch_page('views/build.py').run()\n"
        "assert not at.exception\n"
        "print('torch' in sys.modules)"
    )
    environment = {"PIANISTID_HOME": str(root.path), "PIANISTID_CACHE": str(root.cache_dir)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | environment,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout.strip() == "False"


def test_presets_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(bases, "load_config", lambda name: read.append(name) or load_config(name))
    for _ in range(3):
        bases.config_of_base("demo.yaml")
    assert read == ["demo.yaml"]
