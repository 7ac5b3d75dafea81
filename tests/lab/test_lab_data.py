"""Data: statistics, clips, the doctor, import and splits."""

import csv
import io
import os
import shutil
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

import data_browser
import data_charts
import data_check
import data_import
import data_split
import jobs
import palette
import state
from components.tables import csv_of
from data_browser import ALL, ANY_PART, Item
from lab_support import charts_of, lab, rolls_of, words
from pianistid_core.datasets.doctor import Report
from pianistid_core.datasets.findings import Finding
from pianistid_core.datasets.root import DataRoot, Split, SplitEntry, write_split
from tiny import until

PAGE = "views/data.py"
COLOURS = palette.of_theme("light")


@pytest.fixture
def own_root(demo_root: DataRoot, tmp_path: Path) -> DataRoot:
    """A copy of the demo that a test may change."""
    shutil.copytree(demo_root.path / "data", tmp_path / "home" / "data")
    shutil.copytree(demo_root.path / "references", tmp_path / "home" / "references")
    return DataRoot(tmp_path / "home", tmp_path / "cache")


def bars_of(at: AppTest) -> dict[str, object]:
    return next(chart for chart in charts_of(at) if chart["series"][0]["type"] == "bar")


# --- statistics ---


def test_statistics_of_a_split(demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(demo_root, monkeypatch, PAGE)
    split = demo_root.split("demo")
    values = {metric.label: metric.value for metric in at.metric}
    assert values["Pianists"] == "8"
    assert values["Recordings"] == "32"
    bars = charts_of(at)[0]
    assert sorted(bars["yAxis"]["data"]) == sorted(split.class_names)
    at.segmented_control(key="data_measure").set_value("Recordings").run()
    counted = sum(sum(series["data"]) for series in charts_of(at)[0]["series"])
    assert counted == 32
    at.segmented_control(key="data_measure").set_value("Clips").run()
    tracks = [entry.track for part in split.parts.values() for entry in part]
    on_disk = sum(len(demo_root.clip_paths(track)) for track in tracks)
    assert sum(sum(series["data"]) for series in charts_of(at)[0]["series"]) == on_disk


def test_a_measure_in_the_address_is_shown(demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(demo_root, monkeypatch, PAGE, data_measure="Clips")
    assert charts_of(at)[0]["xAxis"]["axisLabel"]["formatter"] == "{value}"


@given(
    st.lists(
        st.tuples(st.sampled_from(["train", "test", "validation"]), st.integers(0, 3), st.floats(0, 1e4)), max_size=40
    )
)
def test_holdings_add_up(entries: list[tuple[str, int, float]]) -> None:
    parts: dict[str, list[SplitEntry]] = {}
    for number, (part, pianist, seconds) in enumerate(entries):
        parts.setdefault(part, []).append(SplitEntry(f"a/{number}", pianist, seconds))
    split = Split("any", ("A", "B", "C", "D"), {part: tuple(found) for part, found in parts.items()})
    held = data_charts.holdings_of(split, {f"a/{number}": 2 for number in range(len(entries))})
    assert sum(one.recordings for one in held) == len(entries)
    assert sum(one.clips or 0 for one in held) == 2 * len(entries)
    assert sum(one.hours for one in held) * 3600 == pytest.approx(sum(seconds for _, _, seconds in entries))
    for measure in data_charts.MEASURES:
        chart = data_charts.holdings_chart(held, measure, COLOURS)
        assert chart.alt.startswith(measure)
    table = data_charts.holdings_table(held)
    assert len(table) == (4 if parts else 0)


def test_foreign_names_are_text_and_no_formula() -> None:
    rows = [{"File": "=cmd()", "n": -3}, {"File": "plain", "n": 4}]
    read = list(csv.DictReader(io.StringIO(csv_of(rows).decode())))
    assert [row["File"] for row in read] == ["'=cmd()", "plain"]
    assert [row["n"] for row in read] == ["-3", "4"], "numbers stay numbers"
    assert csv_of(lambda: rows) == csv_of(rows)


# --- clips ---


def test_a_clip_to_look_at_and_hear(demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(demo_root, monkeypatch, PAGE, data_tab="Look and listen")
    roll = next(roll for roll in rolls_of(at) if "layers" in roll)
    assert [layer["name"] for layer in roll["layers"]] == ["As played", "Melody", "Harmony", "Rhythm", "Dynamics"]
    assert len(roll["layers"][0]["s"]) > 10
    before = roll["piece"]
    pianists = at.selectbox(key="clip_pianist")
    pianists.select(pianists.options[2]).run()
    assert not at.exception
    assert next(roll for roll in rolls_of(at) if "layers" in roll)["piece"] != before


def test_next_and_previous_walk_through_clips_and_recordings(
    demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = lab(demo_root, monkeypatch, PAGE, data_tab="Look and listen")
    assert at.button(key="clip_previous").disabled
    tracks = at.selectbox(key="clip_track")
    first, n = tracks.value, len(demo_root.clip_paths(tracks.value))
    for number in range(1, n):
        at.button(key="clip_next").click().run()
        assert at.selectbox(key="clip_number").value == number
        assert at.selectbox(key="clip_track").value == first
    at.button(key="clip_next").click().run()
    assert at.selectbox(key="clip_track").value != first
    assert at.query_params["track"] == at.selectbox(key="clip_track").value
    at.button(key="clip_previous").click().run()
    assert at.selectbox(key="clip_track").value == first
    assert not at.exception


def test_a_link_opens_the_same_clip(demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = demo_root.split("demo").parts["test"]
    track = next(entry.track for entry in entries if len(demo_root.clip_paths(entry.track)) > 1)
    at = lab(demo_root, monkeypatch, PAGE, data_tab="Look and listen", track=track, clip="2")
    assert at.selectbox(key="clip_track").value == track
    assert at.selectbox(key="clip_number").value == 1
    assert "clip_001" in words(at)


@pytest.mark.parametrize(("track", "clip"), [("no/such", "1"), ("../../etc", "9"), ("demo/x", "99999999999")])
def test_a_link_to_what_is_not_there_is_said(
    track: str, clip: str, demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = lab(demo_root, monkeypatch, PAGE, data_tab="Look and listen", track=track, clip=clip)
    assert f"no recording {track}" in words(at)
    assert at.selectbox(key="clip_track").value


def test_a_split_that_is_not_there_is_said(demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(demo_root, monkeypatch, PAGE, split="![gone](x)")
    assert "There is no split ![gone](x) here" in words(at)
    assert at.selectbox(key="split").value == "demo"


def test_search_and_filters(demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(demo_root, monkeypatch, PAGE, data_tab="Look and listen")
    everything = len(at.selectbox(key="clip_track").options)
    at.selectbox(key="clip_part").select("test").run()
    some = len(at.selectbox(key="clip_track").options)
    assert some == len(demo_root.split("demo").parts["test"]) < everything
    at.text_input(key="clip_search").set_value("no such piece anywhere").run()
    assert not at.exception
    assert "Nothing matches" in " ".join(element.value for element in at.subheader)


def test_every_word_of_a_search_must_occur() -> None:
    items = [Item("a/1", "Ada", "train", "Blue in Green", "Kind"), Item("a/2", "Bela", "test", "Blue Train", "")]
    assert data_browser.matching(items, ALL, ANY_PART, "BLUE kind") == items[:1]
    assert data_browser.matching(items, "Bela", ANY_PART, "blue") == items[1:]
    assert data_browser.matching(items, ALL, "train", "") == items[:1]
    assert data_browser.matching(items, ALL, ANY_PART, "a/2") == items[1:]


def test_a_recording_whose_clips_are_gone_is_said(own_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    track = own_root.split("demo").parts["train"][0].track
    shutil.rmtree(own_root.clips_dir / track)
    at = lab(own_root, monkeypatch, PAGE, data_tab="Look and listen", track=track)
    assert f"no clips of {track} are on disk".casefold() in words(at).casefold()
    assert not at.exception


def test_a_broken_clip_is_said(own_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    track = own_root.split("demo").parts["train"][0].track
    own_root.clip_paths(track)[0].write_bytes(b"MThd")
    at = lab(own_root, monkeypatch, PAGE, data_tab="Look and listen", track=track)
    assert len(at.error) == 1
    assert not at.exception


# --- the doctor ---


def test_the_doctor_reports(demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(demo_root, monkeypatch, PAGE, data_tab="Check")
    at.button(key="check").click().run()
    until(lambda: bool(at.run().metric))
    assert not at.exception
    assert {metric.label for metric in at.metric} == {"To fix", "To know", "Good to know"}


def test_a_report_holds_until_its_data_changes(own_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(own_root, monkeypatch, PAGE, data_tab="Check")
    at.button(key="check").click().run()
    until(lambda: bool(at.run().metric))
    assert "has changed since" not in words(at)
    assert data_check.report_of(own_root, "demo") is not None
    write_split(own_root, replace(own_root.split("demo"), name="other"))
    assert data_check.report_of(own_root, "demo") is not None, "another split is another matter"
    os.utime(own_root.splits_dir / "demo" / "train_split.csv", (1, 1))
    assert data_check.report_of(own_root, "demo") is None
    assert "The data has changed since this check" in words(at.run())
    assert at.metric, "what was found is still to be read"


def test_a_finding_shows_the_files_behind_it(own_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    track = own_root.split("demo").parts["train"][0].track
    own_root.clip_paths(track)[0].write_bytes(b"MThd")
    at = lab(own_root, monkeypatch, PAGE, data_tab="Check")
    at.button(key="check").click().run()
    until(lambda: bool(at.run().metric))
    assert {metric.label: metric.value for metric in at.metric}["To fix"] == "1"
    assert "To fix" in [element.value for element in at.subheader]
    at.session_state["finding_error_0_items"] = True
    at.run()
    assert any(track in str(list(table.value.iloc[:, 0])) for table in at.dataframe)


def test_all_findings_are_rows_with_their_files() -> None:
    findings = (
        Finding("error", "broken", "Broken", "Two are broken.", "demo", ("a/1", "a/2")),
        Finding("note", "fact", "A fact", "It is so.", "demo"),
    )
    rows = data_check.rows_of(Report("root", ("demo",), findings, (), ()))
    assert [row["file"] for row in rows] == ["a/1", "a/2", ""]


# --- import ---


def test_a_path_that_cannot_be_imported(demo_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(demo_root, monkeypatch, PAGE, data_tab="Bring in more")
    at.button(key="import_from").click().run()
    assert "Give the path" in words(at)
    at.text_input(key="import_path").set_value(str(tmp_path / "missing"))
    at.button(key="import_from").click().run()
    until(lambda: "missing" in words(at.run()))
    assert not at.exception
    assert len(at.error) == 1


def test_a_folder_is_imported_and_split(demo_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "mine"
    for number, path in enumerate(sorted(demo_root.raw_dir.glob("demo/*/piano_midi.mid"))[:12]):
        place = source / f"Pianist {'AB'[number % 2]}" / f"piece {number}.mid"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
    (source / "Pianist A" / "not music.mid").write_bytes(b"no")
    root = DataRoot(tmp_path / "home")
    at = lab(root, monkeypatch, PAGE)
    at.text_input(key="import_path").set_value(str(source))
    at.button(key="import_from").click().run()
    until(lambda: bool(at.run().success))
    assert "12 recordings" in words(at)
    assert "not music.mid" in str([table.value for table in at.dataframe])
    at.run()
    at.button(key="split_make").click().run()
    assert not at.exception
    assert root.split_names() == ["all"]
    assert at.run().selectbox(key="split").value == "all"


def zip_of(folder: Path, name: str) -> "Upload":
    upload = Upload()
    with zipfile.ZipFile(upload, "w") as archive:
        for number, path in enumerate(sorted(folder.glob("demo/*/piano_midi.mid"))[:2]):
            archive.writestr(f"Pianist A/piece {number}.mid", path.read_bytes())
    upload.seek(0)
    upload.name = name
    return upload


class Upload(io.BytesIO):
    """What a file uploader gives, as far as the import asks."""

    name = ""


@pytest.mark.parametrize("name", ["mine.zip", "<b>*a*</b> 🎹.zip", "..\\..\\x.zip", f"{'long' * 100}.zip"])
def test_an_upload_leaves_nothing_behind_in_the_cache(name: str, demo_root: DataRoot, tmp_path: Path) -> None:
    root = DataRoot(tmp_path / "home", tmp_path / "cache")
    data_import.take_upload(root, zip_of(demo_root.raw_dir, name))
    until(lambda: (job := jobs.find(data_import.import_job(root))) is not None and not job.running)
    job = jobs.find(data_import.import_job(root))
    assert job is not None
    assert job.error is None
    assert list((tmp_path / "cache").glob("uploads/*")) == []


def test_of_two_imports_at_once_the_second_is_said_and_not_kept(
    demo_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    root = DataRoot(tmp_path / "home", tmp_path / "cache")
    jobs.start(data_import.import_job(root), "Importing another", lambda progress: go.wait(30))
    said: list[str] = []
    monkeypatch.setattr(state, "complain", said.append)
    data_import.take_upload(root, zip_of(demo_root.raw_dir, "mine.zip"))
    go.set()
    assert said == ["another import is running; bring in mine.zip when it has ended"]
    assert list((tmp_path / "cache").glob("uploads/*")) == []


def test_uploads_that_a_killed_server_left_are_cleared_by_the_next_import(demo_root: DataRoot, tmp_path: Path) -> None:
    root = DataRoot(tmp_path / "home", tmp_path / "cache")
    uploads, kept = tmp_path / "cache" / "uploads", tmp_path / "kept"
    old, new, foreign = uploads / ("a" * 32), uploads / ("b" * 32), uploads / "mine"
    for folder in (old, new, foreign, kept):
        folder.mkdir(parents=True)
        (folder / "music.zip").write_bytes(b"PK")
    (uploads / ("c" * 32)).symlink_to(kept)
    for folder in (old, foreign, kept):
        os.utime(folder, (0, 0))
    os.utime(uploads / ("c" * 32), (0, 0), follow_symlinks=False)
    data_import.take_upload(root, zip_of(demo_root.raw_dir, "mine.zip"))
    until(lambda: (job := jobs.find(data_import.import_job(root))) is not None and not job.running)
    assert not old.exists()
    assert all((folder / "music.zip").exists() for folder in (new, foreign, kept))


def test_an_import_is_shown_in_its_data_root_only(
    demo_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, other = DataRoot(tmp_path / "home", tmp_path / "cache"), tmp_path / "other"
    data_import.take_upload(done, zip_of(demo_root.raw_dir, "mine.zip"))
    until(lambda: (job := jobs.find(data_import.import_job(done))) is not None and not job.running)
    at = lab(done, monkeypatch, PAGE)
    assert "2 recordings and" in words(at)
    state.choose_data_root(str(other))
    at.run()
    assert not at.success


def test_work_that_brings_nothing_in_keeps_no_import_waiting(
    demo_root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    jobs.start("check:elsewhere", "Checking", lambda progress: go.wait(30))
    at = lab(demo_root, monkeypatch, PAGE, data_tab="Bring in more")
    free = not at.button(key="import_from").disabled
    jobs.start(data_import.import_job(demo_root), "Importing", lambda progress: go.wait(30))
    at.run()
    go.set()
    assert free and at.button(key="import_from").disabled, "an import into the same root is waited for"


# --- splits ---


def test_a_split_is_seen_before_it_is_written(own_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(own_root, monkeypatch, PAGE, data_tab="Splits")
    assert own_root.split_names() == ["demo"]
    at.slider(key="split_shares").set_value((60, 100)).run()
    assert [metric.label for metric in at.metric] == ["Training", "Test"], "no validation part"
    at.multiselect(key="split_pianists").set_value(list(own_root.split("demo").class_names[:3])).run()
    assert len(bars_of(at)["yAxis"]["data"]) == 3  # type: ignore[index]
    at.text_input(key="split_name").set_value("mine").run()
    seen = {metric.label: metric.value for metric in at.metric}
    at.button(key="split_make").click().run()
    assert not at.exception
    made = own_root.split("mine")
    assert len(made.class_names) == 3
    assert list(made.parts) == ["train", "test"]
    assert set(seen) == {"Training", "Test"}
    assert at.selectbox(key="split").value == "mine"
    assert at.text_input(key="split_name").value != "mine", "the next one gets a name of its own"


def test_what_a_split_is_made_of_survives_a_look_elsewhere(
    own_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = lab(own_root, monkeypatch, PAGE, data_tab="Splits")
    at.number_input(key="split_minutes").set_value(3).run()
    at.number_input(key="split_seed").set_value(7).run()
    at.segmented_control(key="split_by").set_value("album").run()
    at.slider(key="split_shares").set_value((60, 80)).run()
    at.text_input(key="split_name").set_value("mine").run()
    kept = at.multiselect(key="split_pianists").options[:3]
    at.multiselect(key="split_pianists").set_value(kept).run()
    at.switch_page("views/tracking.py").run()
    at.switch_page(PAGE)
    at.query_params["data_tab"] = "Splits"
    at.run()
    assert at.number_input(key="split_minutes").value == 3
    assert at.number_input(key="split_seed").value == 7
    assert at.segmented_control(key="split_by").value == "album"
    assert at.slider(key="split_shares").value == (60, 80)
    assert at.text_input(key="split_name").value == "mine"
    assert at.multiselect(key="split_pianists").value == kept
    for path in own_root.clips_dir.glob("demo/*"):  # music by others, as another data root would have
        if not path.name.startswith("quilla"):
            shutil.rmtree(path)
    at.run()
    assert not at.exception


def test_what_is_written_is_what_was_seen(own_root: DataRoot) -> None:
    from pianistid_core.datasets.splitting import described_recordings, make_split

    options = data_split.Options("composition", (0.7, 0.2, 0.1), 0.0, None, ("demo",), 7)
    seen = data_split.plan_of(described_recordings(own_root), "mine", options)
    made = make_split(own_root, "mine", by="composition", ratios=(0.7, 0.2, 0.1), sources=("demo",), seed=7)
    assert seen.split == made.split == own_root.split("mine")


def test_options_that_cannot_be_met_are_said_in_place(own_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = lab(own_root, monkeypatch, PAGE, data_tab="Splits")
    at.number_input(key="split_minutes").set_value(90_000).run()
    assert "cannot be told apart" in words(at)
    at.number_input(key="split_minutes").set_value(0).run()
    at.slider(key="split_shares").set_value((0, 100)).run()
    assert "they must sum to 1" in words(at)
    assert not at.exception


def test_a_split_is_replaced_only_when_that_is_said(own_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    before = own_root.split("demo")
    at = lab(own_root, monkeypatch, PAGE, data_tab="Splits")
    at.text_input(key="split_name").set_value("demo").run()
    at.number_input(key="split_seed").set_value(5).run()
    at.button(key="split_make").click().run()
    assert "exists already" in words(at)
    assert own_root.split("demo") == before
    at.checkbox(key="split_replace").check().run()
    at.button(key="split_make").click().run()
    assert not at.error
    assert own_root.split("demo") != before


def test_pianists_with_too_little_are_named(own_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    table = own_root.path / "references" / "recordings.csv"
    place = own_root.clips_dir / "mine" / "one"
    place.mkdir(parents=True)
    shutil.copy(own_root.clip_paths(own_root.tracks()[0])[0], place / "clip_000.mid")
    with table.open("a") as file:
        file.write("mine/one,Newcomer,,,,30\n")
    at = lab(own_root, monkeypatch, PAGE, data_tab="Splits")
    at.number_input(key="split_minutes").set_value(1).run()
    assert "Newcomer" in words(at)
    assert "1 pianist left out" in words(at)


@given(st.integers(0, 100), st.integers(0, 100))
def test_shares_are_what_the_handles_say(a: int, b: int) -> None:
    first, second = sorted((a, b))
    shares = data_split.shares_of(first, second)
    assert sum(shares) == pytest.approx(1)
    assert min(shares) >= 0


# --- trouble ---


def test_a_split_that_cannot_be_read_is_said_and_the_others_stay(
    own_root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = own_root.splits_dir / "torn"
    folder.mkdir()
    (folder / "train_split.csv").write_text("track,pianist,duration\nnot a track,0,1\n")
    at = lab(own_root, monkeypatch, PAGE)
    assert "torn cannot be read" in words(at)
    assert at.selectbox(key="split").options == ["demo"]


def test_a_table_of_recordings_that_cannot_be_read_is_said(own_root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    (own_root.path / "references" / "recordings.csv").write_text("no,such\n1,2\n")
    at = lab(own_root, monkeypatch, PAGE)
    assert "recordings.csv" in words(at)
    assert not at.exception


def test_a_big_data_set_is_fast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,300 recordings of 20 pianists: each rerun is far below what a person notices, on a busy machine too."""
    root = DataRoot(tmp_path / "home", tmp_path / "cache")
    names = tuple(f"Pianist {number:02d}" for number in range(20))
    parts: dict[str, tuple[SplitEntry, ...]] = {}
    for part, tens in (("train", 100), ("test", 30)):
        entries = []
        for number in range(10 * tens):
            track = f"big/{part}-{number:04d}"
            place = root.clips_dir / track
            place.mkdir(parents=True)
            (place / "clip_000.mid").write_bytes(b"MThd")
            entries.append(SplitEntry(track, number % 20, 30.0))
        parts[part] = tuple(entries)
    write_split(root, Split("big", names, parts))
    at = lab(root, monkeypatch, PAGE)
    for tab in ("Statistics", "Look and listen", "Splits"):
        at.session_state["data_tab"] = tab
        at.run()
        took = []
        for _ in range(5):
            began = time.perf_counter()
            at.run()
            took.append(time.perf_counter() - began)
        assert not at.exception
        assert min(took) < 2.0, (tab, took)
