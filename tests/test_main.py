"""The command line: what it prints where, what it refuses and how, and that it starts at once."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from pianistid_core import __main__ as command_line
from pianistid_core.commands.configs import keys_page
from pianistid_core.config import to_yaml
from pianistid_core.datasets.root import DataRoot
from pianistid_core.midi import write_midi
from pianistid_core.runs import Run
from tiny import HABITS, PIANISTS, make_notes, tiny_config

COMMAND = [sys.executable, "-m", "pianistid_core"]
FACTORISED_SUBSETS = 15


@pytest.fixture(scope="module")
def trained(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with one run, tests/tiny, trained by the command line."""
    folder = tmp_path_factory.mktemp("trained")
    root = folder / "root"
    shutil.copytree(tiny_data, root)
    config = folder / "tiny.yaml"
    config.write_text(to_yaml(tiny_config(epochs=2)))
    done = subprocess.run(
        [*COMMAND, "train", "--config", str(config), "--set", "optim_cfg.lr=0.02", "--data-root", str(root)],
        capture_output=True,
        text=True,
        env={**os.environ, "PIANISTID_CACHE": str(folder / "cache")},
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("run tests/tiny finished; it is in ")
    for promised in ("parameters", "in 4 batches", "epoch 2/2: train loss", "recording accuracy"):
        assert promised in done.stderr
    return root


@pytest.fixture
def run_in(trained: Path, tmp_path: Path) -> Path:
    """A copy of that root, to spoil."""
    shutil.copytree(trained, tmp_path / "root")
    return tmp_path / "root"


@pytest.fixture
def solo(tmp_path: Path) -> Path:
    path = tmp_path / "solo.mid"
    write_midi(make_notes(99, **HABITS[0]), path)
    return path


class Answer:
    """What one call printed and returned."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def pianistid(capsys: pytest.CaptureFixture[str]) -> Any:
    """Calls the command line in this process."""

    def call(*arguments: object) -> Answer:
        capsys.readouterr()
        status = command_line.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return Answer(status, printed.out, printed.err)

    return call


# --- the frame -------------------------------------------------------------------------------------------------------


def test_help_names_every_command_and_loads_nothing_for_it() -> None:
    code = (
        "import sys; from pianistid_core.__main__ import main; main(['--help']); "
        "print(sorted({'numpy', 'torch', 'yaml', 'pandas', 'pianistid_core.config'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(re.search(rf"\n    {name}\s", done.stdout) for name in command_line.COMMANDS)
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize("name", command_line.COMMANDS)
def test_every_command_explains_itself_without_loading_torch(name: str) -> None:
    code = f"import sys; from pianistid_core.__main__ import main; main(['{name}', '--help'])"
    code += "; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "usage: " in done.stdout and done.stdout.endswith("False\n")


def test_every_action_takes_a_data_root_and_json(pianistid: Any) -> None:
    actions = {
        "data": ("import", "fetch", "split", "check", "demo", "list"),
        "runs": ("list", "show", "stop", "delete", "export"),
        "config": ("check", "show", "presets", "fields"),
    }
    calls = [(name, action) for name, all_of_it in actions.items() for action in all_of_it]
    for call in [*calls, ("train",), ("evaluate",), ("ablate",), ("identify",)]:
        answer = pianistid(*call, "--help")
        assert answer.status == 0 and "--data-root" in answer.out and "--json" in answer.out, call


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["data"],
        ["train"],
        ["identify"],
        ["runs", "stop", "a/b", "--kind", "softly"],
        ["data", "split", "x", "--by", "colour"],
        ["data", "split", "x", "--ratios", "many"],
        ["train", "--config", "a", "--resume", "b"],
    ],
)
def test_wrong_usage_is_2(arguments: list[str], pianistid: Any) -> None:
    answer = pianistid(*arguments)
    assert answer.status == 2 and answer.out == "" and "usage: pianistid" in answer.err


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch, pianistid: Any) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(DataRoot, "tracks", interrupted)
    answer = pianistid("data", "list")
    assert (answer.status, answer.err) == (130, "interrupted\n")


def test_a_reader_that_leaves_is_no_error() -> None:
    process = subprocess.Popen([*COMMAND, "config", "fields", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


def test_a_full_disk_or_a_missing_permission_is_one_sentence(monkeypatch: pytest.MonkeyPatch, pianistid: Any) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device", "/there")

    monkeypatch.setattr(DataRoot, "tracks", full)
    answer = pianistid("data", "list")
    assert (answer.status, answer.err) == (1, "the system refused: No space left on device: /there\n")


def test_a_bug_is_not_dressed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(DataRoot, "tracks", bug)
    with pytest.raises(ZeroDivisionError):
        command_line.main(["data", "list"])


def test_version(pianistid: Any) -> None:
    assert pianistid("--version").out.startswith("pianistid ")


# --- config ----------------------------------------------------------------------------------------------------------


def test_a_sound_config_and_all_faults_of_another(tmp_path: Path, pianistid: Any) -> None:
    good = pianistid("config", "check", "demo.yaml")
    assert good.status == 0 and "is sound" in good.out and "disentangle" in good.out
    bad = tmp_path / "bad.yaml"
    bad.write_text("epochs: many\nmodel_cfg: {use_fc2: true}\nencoder_module: disentangle\n")
    answer = pianistid("config", "check", bad)
    lines = answer.err.splitlines()
    assert answer.status == 1 and answer.out == "" and all(line.startswith(f"{bad}: ") for line in lines)
    assert [line.split(": ")[1] for line in lines] == ["epochs", "model_cfg.use_fc2"]
    assert "got 'many'" in lines[0] and "did you mean use_2fc" in lines[1]


def test_show_is_a_config_that_loads_again(tmp_path: Path, pianistid: Any) -> None:
    shown = pianistid("config", "show", "demo.yaml", "--set", "epochs=3")
    again = tmp_path / "again.yaml"
    again.write_text(shown.out)
    assert pianistid("config", "show", again).out == shown.out
    assert pianistid("config", "show", again, "--json").json == yaml.safe_load(shown.out)
    assert pianistid("config", "show", "--json", "--set", "run=x").json["run"] == "x"


def test_presets_and_fields(pianistid: Any) -> None:
    presets = {preset["name"]: preset for preset in pianistid("config", "presets", "--json").json}
    assert presets["baselines/resnet50-jtd+pijama-augment.yaml"]["published_accuracy"] == 0.944
    table = pianistid("config", "presets").out
    assert "demo.yaml" in table and "published validation accuracy" in table
    fields = pianistid("config", "fields", "--json").json
    assert {("optim_cfg.momentum", "sgd"), ("optim_cfg.betas", "adam"), ("epochs", None)} <= {
        (field["key"], field["of"]) for field in fields
    }
    assert "model_cfg.layers (resnet50)" in pianistid("config", "fields").out


def test_the_list_of_keys_in_the_docs_is_the_schema() -> None:
    """Run `pianistid config fields --markdown > docs/config-keys.md` after a change of the schema."""
    text = (Path(__file__).parent.parent / "docs" / "config-keys.md").read_text()
    for line in keys_page():
        # The words may be a draft behind; keys, defaults and what is allowed may not.
        assert line.rpartition("| ")[0].rpartition("| ")[0] in text, line


# --- data ------------------------------------------------------------------------------------------------------------


def test_import_split_and_list(tmp_path: Path, pianistid: Any) -> None:
    root, source = tmp_path / "root", tmp_path / "my pianists"
    for label, pianist in enumerate(PIANISTS):
        (source / pianist).mkdir(parents=True)
        for number in range(4):
            write_midi(make_notes(10 * label + number, **HABITS[label]), source / pianist / f"{number}.mid")
    (source / PIANISTS[0] / "broken.mid").write_bytes(b"RIFF")

    imported = pianistid("data", "import", source, "--workers", 1, "--data-root", root)
    assert imported.status == 0 and "12 recordings" in imported.out and "24 clips" in imported.out
    assert "broken.mid: this is not a MIDI file" in imported.out
    report = pianistid("data", "import", source, "--workers", 1, "--data-root", root, "--json").json
    assert report["unchanged"] == 12 and [skipped["name"] for skipped in report["skipped"]] == [
        f"{PIANISTS[0]}/broken.mid"
    ]

    split = ["data", "split", "mine", "--ratios", "0.5", "0.25", "0.25", "--data-root", root]
    preview = pianistid(*split, "--preview")
    assert (
        preview.status == 0 and "nothing was written" in preview.out and not (root / "references/data_splits").exists()
    )
    written = pianistid(*split, "--json").json
    assert written["written"] and written["recordings"] == {"train": 6, "test": 3, "validation": 3}
    assert pianistid(*split).status == 1
    assert pianistid(*split, "--overwrite", "--ratios", "0.5,0.5,0").status == 0

    listed = pianistid("data", "list", "--data-root", root)
    assert "my-pianists" in listed.out or "my_pianists" in listed.out
    facts = pianistid("data", "list", "--data-root", root, "--json").json
    assert facts["sources"][0]["clips"] == 24 and facts["splits"][0]["recordings"] == {"train": 6, "test": 6}


def test_a_broken_split_does_not_hide_the_others(tmp_path: Path, tiny_data: Path, pianistid: Any) -> None:
    root = tmp_path / "root"
    shutil.copytree(tiny_data, root)
    (root / "references/data_splits/torn").mkdir()
    (root / "references/data_splits/torn/train_split.csv").write_text("track\n")
    answer = pianistid("data", "list", "--data-root", root)
    assert answer.status == 0 and "tiny" in answer.out and "broken: split 'torn'" in answer.out


def test_the_demo_and_its_check(tmp_path: Path, pianistid: Any) -> None:
    answer = pianistid("data", "demo", "--data-root", tmp_path, "--json").json
    assert len(answer["pianists"]) >= 6 and answer["created"]
    again = pianistid("data", "demo", "--data-root", tmp_path)
    assert again.out.startswith("there already") and "train --config demo.yaml" in again.out

    # The doctor has nothing against it, until a recording is planted in two parts.
    healthy = pianistid("data", "check", "demo", "--workers", 1, "--data-root", tmp_path, "--json")
    assert healthy.status == 0 and healthy.json["healthy"]
    splits = tmp_path / "references/data_splits/demo"
    line = (splits / "train_split.csv").read_text().splitlines()[1]
    with (splits / "test_split.csv").open("a") as file:
        file.write(line + "\n")
    sick = pianistid("data", "check", "--workers", 1, "--data-root", tmp_path)
    assert sick.status == 1 and "error: The same recording in two parts (split demo)" in sick.out
    assert f"{line.split(',')[1]}: train and test" in sick.out


def test_fetch_from_a_server_and_offline(tmp_path: Path, tiny_data: Path, pianistid: Any) -> None:
    (tmp_path / "there").mkdir()
    zipped = Path(shutil.make_archive(str(tmp_path / "there" / "clips"), "zip", tiny_data)).read_bytes()
    with served(zipped) as api:
        listed = pianistid("data", "fetch", "--api", api, "--record", "1", "--list")
        fetched = pianistid("data", "fetch", "--api", api, "--record", "1", "--data-root", tmp_path / "root")
        second = pianistid("data", "fetch", "--api", api, "--record", "1", "--data-root", tmp_path / "root")
        again = pianistid("data", "fetch", "--api", api, "--record", "1", "--data-root", tmp_path / "root", "--again")
    assert "clips.zip" in listed.out
    assert fetched.status == 0 and "fetched clips.zip" in fetched.out and "splits: tiny" in fetched.out
    assert second.status == 0 and "there already: clips.zip" in second.out and "fetched" not in second.out
    assert again.status == 0 and "fetched clips.zip" in again.out
    offline = pianistid("data", "fetch", "--api", api, "--record", "1", "--data-root", tmp_path / "root")
    assert offline.status == 1 and "offline?" in offline.err and offline.err.count("\n") == 1


@contextmanager
def served(zipped: bytes) -> Iterator[str]:
    """A server on this machine that answers as Zenodo's API does, with one file; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = f"http://{self.headers['Host']}/content"
            file = {"key": "clips.zip", "size": len(zipped), "checksum": f"md5:{md5(zipped).hexdigest()}"}
            body = (
                zipped
                if self.path == "/content"
                else json.dumps({"files": [{**file, "links": {"self": url}}]}).encode()
            )
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["data", "import", "no such folder"], "does not exist"),
        (["data", "split", "x"], "no clips"),
        (["data", "check"], "nothing to check"),
        (["data", "list", "--data-root", __file__], "is a file"),
        (["train", "--config", "no-such.yaml"], "no such file"),
        (["train", "--config", "demo.yaml"], "no split 'demo'"),
        (["train", "--config", "demo.yaml", "--set", "run=a/b"], "run"),
        (["train", "--resume", "a/b"], "no run 'a/b'"),
        (["evaluate", "a/b"], "no run 'a/b'"),
        (["evaluate", "nothing.pth"], "no checkpoint"),
        (["ablate", "../x"], "no run '../x'"),
        (["identify", "x.mid"], "no trained model"),
        (["identify", "x.mid", "--model", "a/b"], "no run 'a/b'"),
        (["runs", "show", "a/b"], "no run 'a/b'"),
        (["runs", "delete", ".."], "no run '..'"),
        (["config", "check", "x\ny.yaml"], "no such file"),
    ],
)
def test_what_is_refused_is_one_sentence_and_leaves_nothing(
    arguments: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pianistid: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = pianistid(*arguments)
    assert answer.status == 1 and answer.out == ""
    assert reason in answer.err and answer.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# --- train -----------------------------------------------------------------------------------------------------------


def test_an_override_wins_over_the_yaml_which_stays_as_it_is(trained: Path) -> None:
    resolved = yaml.safe_load((trained / "checkpoints/tests/tiny/config.yaml").read_text())
    assert resolved["optim_cfg"]["lr"] == 0.02 and resolved["epochs"] == 2
    assert (trained.parent / "tiny.yaml").read_text() == to_yaml(tiny_config(epochs=2))


def test_resume_goes_on_and_restart_begins_again(run_in: Path, pianistid: Any) -> None:
    before = pianistid("runs", "show", "tests/tiny", "--data-root", run_in, "--json").json["metrics"]
    resumed = pianistid("train", "--resume", "tests/tiny", "--set", "epochs=3", "--data-root", run_in, "--json").json
    assert resumed["state"]["status"] == "finished" and resumed["metrics"][:2] == before
    assert len(resumed["metrics"]) == 3
    config = run_in / "checkpoints/tests/tiny/config.yaml"
    restarted = pianistid(
        "train", "--config", config, "--restart", "--set", "epochs=1", "--data-root", run_in, "--json"
    )
    assert len(restarted.json["metrics"]) == 1
    assert pianistid("train", "--resume", "tests/tiny", "--restart", "--data-root", run_in).status == 1


def test_a_run_that_was_moved_goes_on_where_it_is(run_in: Path, tmp_path: Path, pianistid: Any) -> None:
    moved = tmp_path / "it's elsewhere" / "tests" / "tiny"
    shutil.move(run_in / "checkpoints/tests/tiny", moved)
    answer = pianistid("train", "--resume", moved, "--set", "epochs=3", "--data-root", run_in, "--json").json
    assert (answer["path"], answer["state"]["epoch"]) == (str(moved), 3)
    renamed = moved.with_name("other")
    moved.rename(renamed)
    assert "holds run tests/tiny" in pianistid("train", "--resume", renamed, "--data-root", run_in).err


def test_a_split_without_its_clips_is_refused_before_a_run_is_made(run_in: Path, pianistid: Any) -> None:
    shutil.rmtree(run_in / "data/clips/tiny/ada-3")
    config = run_in / "checkpoints/tests/tiny/config.yaml"
    answer = pianistid("train", "--config", config, "--set", "run=new", "--data-root", run_in)
    assert answer.status == 1 and "tiny/ada-3" in answer.err and answer.err.count("\n") == 1
    assert not (run_in / "checkpoints/tests/new").exists()


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_keeps_a_checkpoint_and_ends_cleanly(run_in: Path) -> None:
    config = run_in / "checkpoints/tests/tiny/config.yaml"
    command = [*COMMAND, "train", "--config", str(config), "--set", "run=long", "--set", "epochs=1000"]
    command += ["--data-root", str(run_in), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "epoch 1/1000" in line:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in err
    answer = json.loads(out)
    assert answer["state"]["status"] == "stopped" and answer["checkpoints"]


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_in_the_background_a_run_goes_on_until_it_is_stopped(run_in: Path, pianistid: Any) -> None:
    config = run_in / "checkpoints/tests/tiny/config.yaml"
    arguments = ["--config", config, "--set", "run=behind", "--set", "epochs=1000", "--data-root", run_in]
    started = pianistid("train", *arguments, "--background", "--json").json
    try:
        assert started["state"]["status"] in ("queued", "running")
        for _ in range(600):
            if Run.open(Path(started["path"])).metrics():
                break
            threading.Event().wait(0.1)
        assert pianistid("train", *arguments, "--background").status == 1
        assert pianistid("runs", "delete", "tests/behind", "--data-root", run_in).status == 1
    finally:
        stop = ["runs", "stop", "tests/behind", "--wait", "--kind", "discard", "--data-root", run_in, "--json"]
        stopped = pianistid(*stop)
    assert stopped.json["state"]["status"] == "stopped"
    again = pianistid("runs", "stop", "tests/behind", "--data-root", run_in)
    assert again.status == 1 and "not running" in again.err


# --- evaluate, ablate, identify --------------------------------------------------------------------------------------


def test_evaluate_by_name_folder_and_checkpoint(run_in: Path, tmp_path: Path, pianistid: Any) -> None:
    run = run_in / "checkpoints/tests/tiny"
    answers = [
        pianistid("evaluate", source, "--data-root", run_in, "--json").json
        for source in ("tests/tiny", run, run / "checkpoint_002.pth")
    ]
    assert answers[0]["recording_accuracy"] == answers[1]["recording_accuracy"] == answers[2]["recording_accuracy"]
    assert answers[0]["n_recordings"] == 3 and answers[0]["part"] == "test"
    assert set(answers[0]["per_pianist"]) == set(PIANISTS)
    assert answers[0]["baseline"]["recording_accuracy"] == pytest.approx(1 / 3)
    assert json.loads((run / "evaluation/test.json").read_text()) == answers[2]
    heard = answers[0]["confusion"]["recordings"]
    assert len(heard) == 3 and all(one["track"].startswith("tiny/") and 0 < one["probability"] <= 1 for one in heard)

    alone = tmp_path / "alone.pth"
    shutil.copy(run / "checkpoint_002.pth", alone)
    kept = set(tmp_path.iterdir())
    text = pianistid("evaluate", alone, "--split", "validation", "--data-root", run_in)
    assert text.status == 0 and "no validation part" in text.out and "recording accuracy" in text.out
    assert set(tmp_path.iterdir()) == kept
    assert (
        pianistid("evaluate", "tests/tiny", "--split", "train", "--data-root", run_in, "--json").json["n_clips"] == 18
    )


def test_ablate_gives_15_rows_per_pianist_recalls_a_baseline_and_figures(
    run_in: Path, tmp_path: Path, pianistid: Any
) -> None:
    figures = tmp_path / "figures"
    text = pianistid("ablate", "tests/tiny", "--data-root", run_in, "--figures", figures)
    assert text.status == 0 and "no melody" in text.out and "always naming" in text.out
    assert len(list(figures.glob("*.png"))) == FACTORISED_SUBSETS
    answer = pianistid("ablate", "tests/tiny", "--data-root", run_in, "--json").json
    assert len(answer["rows"]) == FACTORISED_SUBSETS and answer["rows"][0]["kept"][0] == "melody"
    assert all(set(row["per_pianist"]) == set(PIANISTS) and row["confusion"] for row in answer["rows"])
    assert answer["baseline"]["pianist"] in PIANISTS
    assert json.loads((run_in / "checkpoints/tests/tiny/ablation/test.json").read_text()) == answer


@pytest.mark.parametrize("command", ["evaluate", "ablate"])
def test_a_compiled_network_says_the_same(
    command: str, run_in: Path, pianistid: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []

    def compile(method: Any, **options: Any) -> Any:
        compiled.append(method)
        return method

    monkeypatch.setattr("torch.compile", compile)
    arguments = [command, "tests/tiny", "--data-root", run_in, "--json"]
    plainly = pianistid(*arguments).json
    assert not compiled
    assert pianistid(*arguments, "--compile").json == plainly and len(compiled) == 1


def test_a_checkpoint_of_other_pianists_is_refused(run_in: Path, pianistid: Any) -> None:
    mapping = run_in / "references/data_splits/tiny/pianist_mapping.csv"
    mapping.write_text(mapping.read_text().replace(PIANISTS[0], "Somebody Else"))
    answer = pianistid("evaluate", "tests/tiny", "--data-root", run_in)
    assert answer.status == 1 and answer.err.count("\n") == 1 and "checkpoint_002.pth" in answer.err


def test_a_damaged_checkpoint_is_refused(run_in: Path, solo: Path, pianistid: Any) -> None:
    checkpoint = run_in / "checkpoints/tests/tiny/checkpoint_002.pth"
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    answer = pianistid("identify", solo, "--model", "tests/tiny", "--data-root", run_in)
    assert answer.status == 1 and answer.out == "" and answer.err.count("\n") == 1 and "damaged" in answer.err


def test_identify_one_file(run_in: Path, solo: Path, pianistid: Any) -> None:
    answer = pianistid("identify", solo, "--model", "tests/tiny", "--data-root", run_in, "--json").json
    assert answer["file"] == str(solo) and set(answer["probabilities"]) == set(PIANISTS)
    assert len(answer["clips"]) == 2 and len(answer["concepts"]) == FACTORISED_SUBSETS
    text = pianistid("identify", solo, "--data-root", run_in)
    assert answer["pianist"] in text.out and "melody+harmony" in text.out and "0 s" in text.out
    without = pianistid("identify", solo, "--no-concepts", "--data-root", run_in, "--json").json
    assert without["concepts"] == {} and without["probabilities"] == answer["probabilities"]


def test_identify_several_files_one_of_them_broken(run_in: Path, solo: Path, tmp_path: Path, pianistid: Any) -> None:
    broken = tmp_path / "broken.mid"
    broken.write_bytes(b"MThd")
    answer = pianistid("identify", solo, broken, "--data-root", run_in, "--json")
    assert answer.status == 1 and "broken.mid" in answer.err and answer.err.count("\n") == 1
    assert [("error" in one, one["file"]) for one in answer.json] == [(False, str(solo)), (True, str(broken))]
    alone = pianistid("identify", broken, "--data-root", run_in, "--json")
    assert alone.status == 1 and alone.out == ""


def test_names_cannot_reach_the_terminal(run_in: Path, tmp_path: Path, solo: Path, pianistid: Any) -> None:
    sneaky = tmp_path / "so\x1b[2Jlo\n.mid"
    shutil.copy(solo, sneaky)
    answer = pianistid("identify", sneaky, "--data-root", run_in)
    assert answer.status == 0 and "\x1b" not in answer.out and "\\x1b[2Jlo\\n.mid" in answer.out


# --- runs ------------------------------------------------------------------------------------------------------------


def test_list_and_show(run_in: Path, pianistid: Any) -> None:
    listed = pianistid("runs", "list", "--data-root", run_in)
    assert "tests/tiny" in listed.out and "finished" in listed.out and "2/2" in listed.out
    rows = pianistid("runs", "list", "--data-root", run_in, "--json").json
    assert [(row["id"], row["state"]["status"]) for row in rows] == [("tests/tiny", "finished")]
    shown = pianistid("runs", "show", "tests/tiny", "--log", 50, "--data-root", run_in)
    assert "test recordings" in shown.out and "epoch 2/2" in shown.out


def test_labels_are_kept_and_found(run_in: Path, pianistid: Any) -> None:
    def runs(*arguments: object) -> Answer:
        answer = pianistid("runs", *arguments, "--data-root", run_in)
        assert isinstance(answer, Answer)
        return answer

    assert "tags base, two words" in runs("tag", "tests/tiny", "base", "two words").out
    assert runs("tag", "tests/tiny", "BASE", "other", "--remove", "--json").json["tags"] == ["two words"]
    assert runs("note", "tests/tiny", "worth a\x1b look").status == 1
    assert runs("note", "tests/tiny", "worth a look").status == 0
    assert runs("star", "tests/tiny").out == "run tests/tiny has a star\n"
    refused = runs("archive", "tests/none", "tests/tiny", "--json")
    assert refused.status == 1 and refused.json == {"changed": ["tests/tiny"]} and "tests/none" in refused.err
    for expression in ("worth", "starred and archived", "'two words' in tags and optim_cfg.lr == 0.02"):
        assert [row["id"] for row in runs("find", expression, "--json").json] == ["tests/tiny"]
    assert "* tests/tiny" in runs("find", "test_loss < 100").out
    assert runs("list", "--json").json == [] and "1 run put away" in runs("list").out
    assert [row["id"] for row in runs("list", "--all", "--json").json] == ["tests/tiny"]
    assert runs("archive", "tests/tiny", "--off").status == 0
    assert runs("find", "archived", "--json").json == []
    wrong = runs("find", "acuracy > 0.5")
    assert wrong.status == 1 and "did you mean accuracy?" in wrong.err
    assert runs("list", "--json").json[0]["labels"]["note"] == "worth a look"


def test_a_run_goes_to_the_trash_and_back(run_in: Path, pianistid: Any) -> None:
    def runs(*arguments: object) -> Answer:
        answer = pianistid("runs", *arguments, "--data-root", run_in)
        assert isinstance(answer, Answer)
        return answer

    assert "the trash is empty" in runs("trash").out
    assert "in the trash" in runs("trash", "tests/tiny").out
    assert runs("list", "--json").json == []
    (one,) = runs("trash", "--json").json
    assert one["run_id"] == "tests/tiny" and "tests/tiny" in runs("trash").out
    assert runs("restore", "tests/tiny").out == "run tests/tiny is back\n"
    assert runs("restore", one["id"]).status == 1
    assert [row["id"] for row in runs("list", "--json").json] == ["tests/tiny"]
    assert runs("trash", "tests/tiny").status == 0
    assert runs("trash", "--empty", "--json").json == {"removed": 1}
    assert runs("restore", "tests/tiny").status == 1


def test_export_is_one_zip_of_what_matters(run_in: Path, tmp_path: Path, pianistid: Any) -> None:
    target = tmp_path / "run.zip"
    (run_in / "checkpoints/tests/tiny/queued.json").write_text("{}")
    assert pianistid("runs", "export", "tests/tiny", target, "--data-root", run_in).status == 0
    with zipfile.ZipFile(target) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
    assert {"config.yaml", "metrics.jsonl", "checkpoint_002.pth", "evaluation/validation.json"} <= set(names)
    assert {"figures/epoch_001_confusionmatrix.png", "confusion/validation.json"} <= set(names)
    assert "checkpoint_001.pth" not in names and not {"lock", "queued.json"} & set(names)
    assert not any(name.startswith(("/", "..")) or "\\" in name for name in names)
    before = target.read_bytes()
    refused = pianistid("runs", "export", "tests/tiny", target, "--data-root", run_in)
    assert refused.status == 1 and "exists already" in refused.err and target.read_bytes() == before
    assert pianistid("runs", "export", "tests/tiny", target, "--overwrite", "--data-root", run_in).status == 0
    assert pianistid("runs", "export", "tests/tiny", tmp_path / "no/run.zip", "--data-root", run_in).status == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root", "run.zip"]


def test_delete_removes_what_it_can_and_tells_the_rest(run_in: Path, pianistid: Any) -> None:
    answer = pianistid("runs", "delete", "tests/none", "tests/tiny", "--data-root", run_in, "--json")
    assert answer.status == 1 and answer.json == {"deleted": ["tests/tiny"]} and "tests/none" in answer.err
    assert not (run_in / "checkpoints/tests/tiny").exists()


# --- the README ------------------------------------------------------------------------------------------------------


def test_the_readme_names_every_module_and_no_other() -> None:
    repository = Path(__file__).parent.parent
    text = (repository / "README.md").read_text()
    tree = text.partition("## Where things are")[2].partition("More:")[0]
    named: set[Path] = set()
    for line in tree.splitlines():
        if line.startswith("    ") and not line.startswith("      "):
            folder = repository / line.split()[0].rstrip(",") if line.split()[0].endswith("/") else repository
        for word in re.findall(r"[\w./]+\.(?:py|css|svg|toml|md)\b", line[:38]):
            named.add(folder / word)
    missing = sorted(str(path) for path in named if not path.exists() and path.name != "logo.svg")
    assert not missing, f"the README names what is not there: {missing}"
    modules = {
        path
        for top in ("pianistid_core", "lab")
        for path in (repository / top).rglob("*.py")
        if path.name != "__init__.py"
    }
    unnamed = sorted(str(path.relative_to(repository)) for path in modules - named)
    assert not unnamed, f"the README's map does not name {unnamed}"


def test_every_link_of_the_docs_leads_somewhere() -> None:
    repository = Path(__file__).parent.parent
    for page in [repository / "README.md", *(repository / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if not target.startswith(("http", "docs/screenshots/")):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_command_of_the_docs_is_one(pianistid: Any) -> None:
    repository = Path(__file__).parent.parent
    text = "".join(page.read_text() for page in [repository / "README.md", *(repository / "docs").glob("*.md")])
    commands = {tuple(words.split()) for words in re.findall(r"pianistid ((?:data|runs|config) [a-z]+|[a-z]+)\b", text)}
    for command in commands - {("data",), ("runs",), ("config",)}:
        assert pianistid(*command, "--help").status == 0, command
