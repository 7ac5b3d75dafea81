"""Hostile names on every page, without a browser: no page fails, and none draws a name as anything but text."""

import json
import re

import pytest
from streamlit.testing.v1 import AppTest

from hostile_names import NAMES
from lab_support import PAGES, lab
from pianistid_core.config import load_config, to_yaml
from pianistid_core.datasets.root import DataRoot, Split, SplitEntry, write_split
from pianistid_core.midi import write_midi
from pianistid_core.run_labels import RunLabels
from pianistid_core.runs import Run
from tiny import make_notes

SOME = NAMES[::9]
# What would be drawn, where a name is not made safe: a link, an image, a tag, a formula, a directive of Streamlit's.
DRAWN = re.compile(
    r"(?<!\\)(!?\[[^\]\\]*\]\((http|javascript|data)|<(script|img|svg|iframe|meta|style|a )|\$\\href|:streamlit:)"
    r"|\\:streamlit|\w\\?:\\?/\\?/names|(?<!\\):red\[in red"
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    """A data root in which pianists, pieces, tags, notes, reasons and log lines have hostile names, one run a name."""
    base = tmp_path_factory.mktemp("hostile")
    root = DataRoot(base / "home", base / "cache")
    entries = []
    for number, _ in enumerate(SOME):
        clip = root.clips_dir / "somewhere" / f"r{number}" / "clip_000.mid"
        clip.parent.mkdir(parents=True)
        write_midi(make_notes(number, seconds=5), clip)
        entries.append(SplitEntry(f"somewhere/r{number}", number, 31.0))
    names = tuple(" ".join(name.split()).replace("\0", "") or "x" for name in SOME)
    write_split(root, Split("own", names, {"train": tuple(entries), "test": tuple(entries[:3])}))
    template = to_yaml(load_config("demo.yaml"))
    for number, name in enumerate(SOME):
        folder = name.replace("/", "\u2215").replace("\0", "")[:60].strip(". ") or "x"
        run = Run.create(root.checkpoints_dir, folder, f"{number}")
        run.save_text("config.yaml", template)
        run.set_state("failed", name, epochs=2)
        run.append_metrics({"epoch": 1, "test_loss": 1.0, "test_recording_accuracy": 0.5})
        (run.path / "log.txt").write_text(f"2026-11-27 12:00:00,000 ERROR {name}\n", errors="replace")
        (run.path / "labels.json").write_text(json.dumps(RunLabels((name[:20],), name).to_dict()))
    return root


def drawn(at: AppTest) -> str:
    """Everything on a page that is markdown."""
    kinds = (at.title, at.header, at.subheader, at.markdown, at.caption, at.error, at.warning, at.info, at.success)
    texts = [str(element.value) for kind in kinds for element in kind]
    texts += [str(button.label) for button in at.button]
    return "\n".join(text for text in texts if not text.startswith("<style"))


@pytest.mark.parametrize("page", PAGES)
def test_no_page_draws_a_name_as_more_than_text(page: str, hostile: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(hostile, monkeypatch, page)
    assert not at.exception
    assert DRAWN.search(drawn(at)) is None


@pytest.mark.parametrize("number", range(0, len(SOME), 3))
def test_a_run_of_a_hostile_name_is_text(number: int, hostile: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    run = next(path.parent for path in hostile.checkpoints_dir.glob(f"*/{number}/run.json"))
    at = lab(hostile, monkeypatch, "views/runs.py", run=f"{run.parent.name}/{run.name}")
    assert not at.exception
    assert DRAWN.search(drawn(at)) is None
    assert at.title[0].value != "Runs", "the run is open"


@pytest.mark.parametrize("name", SOME[::2])
def test_an_address_may_ask_for_anything(name: str, hostile: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    page = PAGES[SOME.index(name) % len(PAGES)]
    keys = ("run", "split", "track", "clip", "model", "checkpoint", "draft", "pianist", "runs", "example", "run_tab")
    at = lab(hostile, monkeypatch, page, **dict.fromkeys(keys, name))
    assert not at.exception
    assert DRAWN.search(drawn(at)) is None


def test_what_is_looked_for_is_found() -> None:
    for text in ("![x](http://names.invalid/x.png)", "<script>x", ":red[in red]", "http\\://names", "\\:streamlit\\:"):
        assert DRAWN.search(text), text
    assert DRAWN.search(r"\!\[x\]\(http\::small[]\/\/names\.invalid\)") is None


def test_the_hostile_names_are_many_and_each_is_another() -> None:
    assert len(set(NAMES)) == len(NAMES) == 200
