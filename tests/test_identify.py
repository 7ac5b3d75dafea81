"""Identifying: the right pianist with the concepts masked, plain data, and sentences for what cannot be."""

import csv
import io
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pianistid_core.__main__ import main
from pianistid_core.calibration import CALIBRATION_FILE, Calibration
from pianistid_core.checkpoints import fingerprint, load_model, read_checkpoint
from pianistid_core.concepts import CONCEPTS
from pianistid_core.datasets.root import DataRoot
from pianistid_core.devices import choose_device
from pianistid_core.errors import CheckpointError, ExtractionError, MidiError, ModelError, RunError
from pianistid_core.evaluation import CONCEPT_SUBSETS
from pianistid_core.identify import Identifier
from pianistid_core.manner import usual_of
from pianistid_core.midi import Notes, write_midi
from pianistid_core.models import FactorisedModel, build_model
from pianistid_core.run_config import run_for
from pianistid_core.runs import Run
from pianistid_core.training import train
from tiny import HABITS, PIANISTS, make_notes, tiny_config


@pytest.fixture(scope="module")
def trained_root(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    """The tiny data set's root, with one factorised and, older, one single-channel run."""
    folder = tmp_path_factory.mktemp("identify")
    shutil.copytree(tiny_data, folder / "root")
    root = DataRoot(folder / "root", cache_dir=folder / "cache")
    single = {"encoder_module": "resnet50", "model_cfg": {"layers": [1, 1, 1, 1], "frame_pool": 100}}
    clips = {"train_dataset_cfg": {}, "test_dataset_cfg": {}}
    for config in (tiny_config(run="single", epochs=1, **single, **clips), tiny_config(run="four", epochs=15)):
        train(config, root, run_for(config, root))
    return root


@pytest.fixture(scope="module")
def identifier(trained_root: DataRoot) -> Identifier:
    return Identifier.from_checkpoint("tests/four", root=trained_root)


@pytest.mark.parametrize("label", range(3))
def test_the_right_pianist_is_named(identifier: Identifier, label: int) -> None:
    found = identifier.identify(make_notes(99, seconds=95, **HABITS[label]))
    assert found.pianist == PIANISTS[label]
    assert found.confidence == max(found.probabilities.values()) == next(iter(found.probabilities.values()))
    assert sum(found.probabilities.values()) == pytest.approx(1.0)
    assert [(clip.start_s, clip.end_s) for clip in found.clips] == [(0, 30), (30, 60), (60, 90)]


def test_a_recording_is_the_mean_of_its_clips(identifier: Identifier) -> None:
    found = identifier.identify(make_notes(5, seconds=70))
    for pianist, probability in found.probabilities.items():
        assert probability == pytest.approx(np.mean([clip.probabilities[pianist] for clip in found.clips]))


def test_every_subset_of_concepts_is_answered(identifier: Identifier) -> None:
    found = identifier.identify(make_notes(5))
    assert list(found.concepts) == list(CONCEPT_SUBSETS)
    assert found.concepts[CONCEPTS] == found.probabilities
    assert len({json.dumps(answer) for answer in found.concepts.values()}) == 15
    assert identifier.identify(make_notes(5), concepts=False).concepts == {}


def test_shapley_values_share_out_what_hearing_makes(identifier: Identifier) -> None:
    found = identifier.identify(make_notes(5, seconds=70))
    assert sum(found.silence.values()) == pytest.approx(1.0) and np.isfinite(list(found.silence.values())).all()
    for pianist in (None, *PIANISTS):
        who = pianist or found.pianist
        shares = found.shapley(pianist)
        assert list(shares) == list(CONCEPTS)
        assert sum(shares.values()) == pytest.approx(found.probabilities[who] - found.silence[who], abs=1e-9)
        assert len(found.interactions(pianist)) == 6
    plain = found.to_dict()
    assert plain["silence"] == found.silence and plain["shapley"] == found.shapley()
    with pytest.raises(ModelError, match="Ada Even"):
        found.shapley("Nobody")


@pytest.mark.parametrize("pool_type", ["avg", "max", "gem", "masked-avg", "conv1x1"])
@pytest.mark.parametrize("use_attention", [False, True])
def test_silence_is_a_number_for_every_pooling(pool_type: str, use_attention: bool) -> None:
    options = {"compact_encoders": True, "pool_type": pool_type, "use_attention": use_attention, "use_gru": False}
    model = build_model("disentangle", options, 3).eval()
    assert isinstance(model, FactorisedModel)
    with torch.inference_mode():
        [logits] = model.classify_each(torch.randn(2, 4, model.feature_size), [()])
        assert logits.shape == (2, 3) and torch.isfinite(logits).all()
        torch.testing.assert_close(logits[0], logits[1])


def test_the_table_holds_every_probability_once(identifier: Identifier) -> None:
    found = identifier.identify(make_notes(5, seconds=70))
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert list(rows[0]) == ["kind", "start_s", "end_s", "kept", "pianist", "probability"]
    assert Counter(row["kind"] for row in rows) == {"recording": 3, "clip": 6, "subset": 45, "silence": 3}
    second = next(row for row in rows if row["kind"] == "clip" and row["start_s"] == "30")
    assert float(second["probability"]) == found.clips[1].probabilities[second["pianist"]]
    harmony = {row["pianist"]: float(row["probability"]) for row in rows if row["kept"] == "harmony"}
    assert harmony == found.concepts[("harmony",)]


def test_a_name_in_the_table_is_no_formula(identifier: Identifier) -> None:
    found = replace(identifier.identify(make_notes(5)), probabilities={"=1+1": 1.0})
    assert "'=1+1" in found.to_csv() and ",=1+1" not in found.to_csv()


def test_path_bytes_and_notes_give_the_same_answer(identifier: Identifier, tmp_path: Path) -> None:
    data = write_midi(make_notes(5), tmp_path / "solo.mid")
    by_path, by_bytes = identifier.identify(tmp_path / "solo.mid"), identifier.identify(data)
    assert by_path == by_bytes
    assert set(by_path.to_dict()["concepts"]) >= {"melody", "melody+harmony", "melody+harmony+rhythm+dynamics"}
    assert json.loads(by_path.to_json()) == json.loads(json.dumps(by_path.to_dict()))


def test_many_clips_are_the_sum_of_their_parts(identifier: Identifier) -> None:
    long = make_notes(6, seconds=400)
    assert len(identifier.identify(long).clips) == 13
    whole, part = (identifier.identify(notes).clips[0].probabilities for notes in (long, long.between(0, 60)))
    assert whole == pytest.approx(part, abs=1e-6)


def test_short_music_is_one_clip_and_says_so(identifier: Identifier) -> None:
    found = identifier.identify(make_notes(5, seconds=12))
    assert len(found.clips) == 1 and found.clips[0].end_s == pytest.approx(found.duration_s)
    assert any("12 s long" in warning for warning in found.warnings)
    assert not identifier.identify(make_notes(5, seconds=29)).warnings


def test_clips_without_chords_are_left_out_and_named(identifier: Identifier) -> None:
    notes = make_notes(5, seconds=95)
    plain = make_notes(5, seconds=95, chord=())
    late = notes.between(31, 200)
    early = plain.between(0, 29)
    mixed = Notes.from_arrays(
        *(
            np.concatenate([getattr(early, f), getattr(late, f)])
            for f in ("onsets_s", "offsets_s", "pitches", "velocities")
        )
    )
    found = identifier.identify(mixed)
    assert [clip.start_s for clip in found.clips] == [30, 60]
    assert [(clip.start_s, clip.end_s) for clip in found.skipped] == [(0, 30)]
    assert any("0 to 30 s" in warning and "no chords" in warning for warning in found.warnings)


def test_music_without_chords_gets_one_clear_sentence(identifier: Identifier) -> None:
    with pytest.raises(ExtractionError, match="no chords"):
        identifier.identify(make_notes(5, chord=()))


def test_a_broken_file_gets_one_clear_sentence(identifier: Identifier) -> None:
    with pytest.raises(MidiError, match="not a MIDI file"):
        identifier.identify(b"no music")


def test_a_single_channel_model_answers_without_concepts(trained_root: DataRoot) -> None:
    single = Identifier.from_checkpoint("tests/single", root=trained_root)
    found = single.identify(make_notes(5, chord=()))
    assert found.concepts == {} and not single.factorised and len(found.probabilities) == 3
    assert found.silence == {} == found.shapley() == found.interactions()
    assert "subset" not in found.to_csv()


def test_even_loudness_is_mentioned(identifier: Identifier) -> None:
    notes = make_notes(5)
    even = Notes.from_arrays(notes.onsets_s, notes.offsets_s, notes.pitches, np.full(len(notes), 63))
    assert any("equally loud" in warning for warning in identifier.identify(even).warnings)
    two = Notes.from_arrays(notes.onsets_s, notes.offsets_s, notes.pitches, np.arange(len(notes)) % 2 + 60)
    assert any("only 2 different loudnesses" in warning for warning in identifier.identify(two).warnings)


def test_many_clips_without_chords_are_one_warning(identifier: Identifier) -> None:
    plain, chords = make_notes(5, seconds=185, chord=()), make_notes(5, seconds=30)
    both = Notes.from_arrays(
        *(
            np.concatenate([getattr(plain, f), getattr(chords, f)])
            for f in ("onsets_s", "offsets_s", "pitches", "velocities")
        )
    )
    found = identifier.identify(both)
    assert len(found.skipped) == 5
    [warning] = [warning for warning in found.warnings if "no chords" in warning]
    assert "5 clips were left out (30 to 60 s, 60 to 90 s, " in warning


def test_the_command_explains_and_writes_a_report(
    trained_root: DataRoot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, page = tmp_path / "solo <1>.mid", tmp_path / "report.html"
    write_midi(make_notes(99, seconds=31, **HABITS[0]), file)
    asked = ["identify", str(file), "--model", "tests/four", "--data-root", str(trained_root.path)]
    assert main([*asked, "--report", str(page)]) == 0
    shown = capsys.readouterr().out
    assert "Shapley" in shown and "notes that mattered" in shown and "not a proof" in shown and "tiny/" in shown
    written = page.read_text()
    assert "solo &lt;1&gt;.mid" in written and "Which notes mattered" in written and "tiny/" in written
    assert main([*asked, "--explain", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert len(answer["attribution"]["scores"]) == answer["n_notes"]
    assert answer["neighbours"][0]["pianist"] in PIANISTS and answer["familiarity"]["unlike"] is False
    assert sum(answer["shapley"].values()) == pytest.approx(
        answer["confidence"] - answer["silence"][answer["pianist"]], abs=1e-9
    )
    assert main(["identify", str(file), *asked[1:], "--report", str(page)]) == 2
    assert "one MIDI file" in capsys.readouterr().err


def test_the_command_explains_without_the_training_data(
    trained_root: DataRoot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "solo.mid"
    write_midi(make_notes(99, seconds=31), file)
    checkpoint = str(Run.find(trained_root.checkpoints_dir, "tests/single").latest_checkpoint())
    assert main(["identify", str(file), "--model", checkpoint, "--data-root", str(tmp_path), "--explain"]) == 0
    shown = capsys.readouterr()
    assert "no training recordings to compare with" in shown.err and "notes that mattered" in shown.out


def test_the_command_tells_phrases_where_a_model_has_any(
    trained_root: DataRoot, tiny_root: DataRoot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"vocabulary": 3000, "least_recordings": 2}
    config = tiny_config(
        run="ngram", epochs=1, encoder_module="ngram", model_cfg=options, train_dataset_cfg={}, test_dataset_cfg={}
    )
    train(config, tiny_root, run_for(config, tiny_root))
    file, page = tmp_path / "solo.mid", tmp_path / "report.html"
    write_midi(make_notes(99, seconds=31, **HABITS[0]), file)
    asked = ["identify", str(file), "--model", "tests/ngram", "--data-root", str(tiny_root.path)]
    assert main([*asked, "--phrases", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["phrases"]
    assert told and {"concept", "family", "words", "gives", "share", "count", "times_s", "notes"} <= set(told[0])
    assert main([*asked, "--phrases"]) == 0
    shown = capsys.readouterr().out
    assert "The phrases that spoke the most for" in shown and told[0]["words"][:40] in shown
    assert main([*asked, "--report", str(page)]) == 0
    assert "Phrases that told" in page.read_text() and "phrases that spoke" in capsys.readouterr().out
    other = ["identify", str(file), "--model", "tests/four", "--data-root", str(trained_root.path), "--phrases"]
    assert main(other) == 1
    assert "not made of n-grams" in capsys.readouterr().err


def test_the_default_is_the_newest_trained_run(trained_root: DataRoot, tmp_path: Path) -> None:
    assert Identifier.default(trained_root).name.startswith("tests/four")
    with pytest.raises(RunError, match="train one first"):
        Identifier.default(DataRoot(tmp_path))


def test_a_run_that_cannot_be_loaded_does_not_hide_an_older_one(
    trained_root: DataRoot, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = Run.find(trained_root.checkpoints_dir, "tests/four")
    runs = tmp_path / "checkpoints" / "tests"
    for age, name in enumerate(("bad", "worse", "good")):
        shutil.copytree(source.path, runs / name)
        identity = json.loads((runs / name / "run.json").read_text())
        (runs / name / "run.json").write_text(json.dumps(identity | {"created": identity["created"] - age}))
    for name, change in (("bad", {"config": {"experiment": 3}}), ("worse", {"epoch": float("nan")})):
        checkpoint = Run.open(runs / name).latest_checkpoint()
        torch.save(read_checkpoint(checkpoint) | change, checkpoint)
    with caplog.at_level("INFO"):
        found = Identifier.default(DataRoot(tmp_path))
    assert found.loaded.path.parent.name == "good"
    assert "tests/bad cannot identify" in caplog.text and "tests/worse cannot identify" in caplog.text


def test_a_root_may_be_given_as_its_path_and_the_device_as_auto(trained_root: DataRoot, tmp_path: Path) -> None:
    run = Run.find(trained_root.checkpoints_dir, "tests/four")
    shutil.copytree(run.path, tmp_path / "checkpoints" / "tests" / "four")
    for root in (tmp_path, str(tmp_path)):
        for found in (
            Identifier.default(root, device="auto"),
            Identifier.from_checkpoint("tests/four", root=root, device="auto"),
        ):
            assert found.name.startswith("tests/four")
            assert found.device == choose_device("auto") == next(found.loaded.model.parameters()).device


# --- calibrated ------------------------------------------------------------------------------------------------------


def calibration_for_tests() -> Calibration:
    """One that doubts: half the logits, a low bar for candidates, and leads of which half lie under 1."""
    music = [make_notes(seed, seconds=30.0, **HABITS[seed % 3]) for seed in range(12)]
    return Calibration(
        temperature=2.0,
        power=1.0,
        growth=0.1,
        thresholds=((1, 0.02),),
        leads=((1, (-1.0, 0.0, 1.0, 100.0)),),
        shares=(0.01, 0.05, 0.5, 1.0),
        usual=usual_of(music),
    )


@pytest.fixture
def calibrated(identifier: Identifier) -> Identifier:
    return Identifier(replace(identifier.loaded, calibration=calibration_for_tests()), torch.device("cpu"))


def test_without_a_calibration_nothing_is_added(identifier: Identifier) -> None:
    found = identifier.identify(make_notes(5))
    assert found.candidates == () and found.coverage is None and found.unknown is None and found.remarks == ()
    assert not {"candidates", "coverage", "unknown", "remarks"} & set(found.to_dict())
    assert {row.split(",")[0] for row in found.to_csv().splitlines()[1:]} == {"recording", "clip", "subset", "silence"}


def test_a_calibration_changes_every_probability_alike(identifier: Identifier, calibrated: Identifier) -> None:
    notes = make_notes(5, seconds=70)
    plain, found = identifier.identify(notes), calibrated.identify(notes)
    assert found.pianist == plain.pianist and found.confidence < plain.confidence
    # Half the logits of a clip are the roots of its shares.
    for before, after in zip(plain.clips, found.clips, strict=True):
        roots = {name: share**0.5 for name, share in before.probabilities.items()}
        assert after.probabilities == pytest.approx({name: root / sum(roots.values()) for name, root in roots.items()})
    assert found.concepts[CONCEPTS] == pytest.approx(found.probabilities)
    assert sum(found.shapley().values()) == pytest.approx(found.confidence - found.silence[found.pianist])
    assert sum(found.probabilities.values()) == pytest.approx(1)


def test_the_answer_says_who_else_it_may_be_and_what_is_strange(calibrated: Identifier) -> None:
    found = calibrated.identify(make_notes(5, seconds=70))
    assert found.candidates == tuple(name for name, share in found.probabilities.items() if share >= 0.02)
    assert found.coverage == 0.9 and found.unknown is not None and found.unknown.verdict == "one of these"
    plain = found.to_dict()
    assert plain["candidates"] == list(found.candidates) and plain["unknown"] == found.unknown.to_dict()
    strange = calibrated.identify(make_notes(5, seconds=70, step_s=0.06, chord=(0, 1, 2, 3, 4, 5, 6, 7)))
    assert strange.unknown is not None and strange.unknown.verdict != "one of these"
    assert any("notes a second" in remark for remark in strange.remarks)
    assert strange.headline != strange.pianist and found.headline == found.pianist
    assert strange.doubt() and not found.doubt() and "if the pianist is one" in strange.in_question()
    rows = list(csv.DictReader(io.StringIO(strange.to_csv())))
    kinds = Counter(row["kind"] for row in rows)
    assert kinds["candidate"] == len(strange.candidates) and kinds["remark"] == len(strange.remarks)
    [row] = [row for row in rows if row["kind"] == "unknown"]
    assert row["kept"] == strange.unknown.verdict and float(row["probability"]) == strange.unknown.familiarity


def test_who_is_in_question_is_said_with_how_often_that_is_right(calibrated: Identifier) -> None:
    found = calibrated.identify(make_notes(5, seconds=70))
    alone = replace(found, candidates=found.candidates[:1])
    assert alone.in_question().startswith("Nobody else comes into question") and "9 times in 10" in alone.in_question()
    many = replace(found, candidates=tuple(f"P{n}" for n in range(11)), coverage=0.95)
    assert many.in_question() == "One of: P0, P1, P2, P3, P4, P5, P6, P7 and 3 more (right 95 times in 100)."


def test_the_command_says_at_first_sight_that_it_may_be_nobody(
    trained_root: DataRoot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(Run.find(trained_root.checkpoints_dir, "tests/four").path, tmp_path / "four")
    run = Run.open(tmp_path / "four")
    kept = {"fingerprint": fingerprint(run.latest_checkpoint()), "calibration": calibration_for_tests().to_dict()}
    run.save_json(CALIBRATION_FILE, kept)
    write_midi(make_notes(5, seconds=70), tmp_path / "usual.mid")
    write_midi(make_notes(5, seconds=70, step_s=0.06, chord=(0, 1, 2, 3, 4, 5, 6, 7)), tmp_path / "strange.mid")
    for name in ("usual", "strange"):
        arguments = ["identify", str(tmp_path / f"{name}.mid"), "--model", str(run.path), "--no-concepts"]
        assert main([*arguments, "--data-root", str(trained_root.path)]) == 0
        first, second, *rest = capsys.readouterr().out.splitlines()
        assert ("none of these 3; most like" in first) == (name == "strange")
        assert "9 times in 10" in second
        assert any("notes a second" in line for line in rest) == (name == "strange")


def test_a_calibration_in_the_run_s_folder_is_that_of_one_checkpoint(trained_root: DataRoot, tmp_path: Path) -> None:
    shutil.copytree(Run.find(trained_root.checkpoints_dir, "tests/single").path, tmp_path / "single")
    run = Run.open(tmp_path / "single")
    assert load_model(run.path, root=trained_root).calibration is None
    mine = calibration_for_tests()
    of = fingerprint(run.latest_checkpoint())
    run.save_json(CALIBRATION_FILE, {"fingerprint": of, "calibration": mine.to_dict()})
    assert load_model(run.path, root=trained_root).calibration == mine
    run.save_json(CALIBRATION_FILE, {"fingerprint": of[::-1], "calibration": mine.to_dict()})
    assert load_model(run.path, root=trained_root).calibration is None
    for broken in ({"fingerprint": of}, {"fingerprint": of, "calibration": {**mine.to_dict(), "power": -1}}):
        run.save_json(CALIBRATION_FILE, broken)
        with pytest.raises(CheckpointError, match="calibrate the model again"):
            load_model(run.path, root=trained_root)
    run.save_text(CALIBRATION_FILE, "{")
    with pytest.raises(CheckpointError, match="calibrate the model again"):
        load_model(run.path, root=trained_root)


def test_a_checkpoint_may_hold_its_calibration(trained_root: DataRoot, tmp_path: Path) -> None:
    run = Run.find(trained_root.checkpoints_dir, "tests/single")
    saved = read_checkpoint(run.latest_checkpoint())
    torch.save({**saved, "calibration": calibration_for_tests().to_dict()}, tmp_path / "with.pth")
    assert load_model(tmp_path / "with.pth", root=trained_root).calibration == calibration_for_tests()
    torch.save({**saved, "calibration": {"format": 1}}, tmp_path / "broken.pth")
    with pytest.raises(CheckpointError, match=r"broken\.pth.*calibration"):
        load_model(tmp_path / "broken.pth", root=trained_root)
