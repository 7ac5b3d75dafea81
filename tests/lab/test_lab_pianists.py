"""Pianists: what a model knows, in every state of the page, in words and in charts."""

import zlib
from dataclasses import replace
from pathlib import Path

import pytest

import jobs
import palette
import pianists_charts as charts
import pianists_data as data
from lab_support import a_run, charts_of, lab, words
from pianistid_core.concepts import CONCEPTS
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import RunError
from pianistid_core.profiles import Profile, Profiles
from pianistid_core.runs import Run
from pianists_measure import measure
from test_lab_charts import plain_json

COLOURS = palette.of_theme("light")
PAGE = "views/pianists.py"


def a_profile(name: str, n: int, recalls: tuple[float, ...], other: str = "Bela") -> Profile:
    """A pianist whose recordings that are not named rightly all go to one other."""
    keys = ("all", *CONCEPTS)
    share = dict(zip(keys, recalls, strict=True))
    return Profile(
        name, n, {key: value if n else None for key, value in share.items()},
        {key: [(other, 1 - value)] if n and value < 1 else [] for key, value in share.items()},
        [(f"tiny/{name}-{number}", 0.9 - 0.1 * number) for number in range(2)] if n and share["all"] else [],
    )  # fmt: skip


FOUND = Profiles(
    "test", 13,
    (
        a_profile("Ada", 6, (5 / 6, 0.0, 4 / 6, 0.5, 0.5)), a_profile("Bela", 4, (1.0, 0.25, 0.25, 0.25, 0.25), "Ada"),
        a_profile("Cleo", 3, (0.0, 0.0, 1 / 3, 0.0, 0.0)), a_profile("Dan", 0, (0.0,) * 5),
    ),
    CONCEPTS, "checkpoint_003.pth", 9 / 13,
)  # fmt: skip
WHOLE = replace(
    FOUND,
    concepts=(),
    pianists=tuple(
        replace(one, recall={"all": one.recall["all"]}, mistaken_for={"all": one.mistaken_for["all"]})
        for one in FOUND.pianists
    ),
)


def a_model(root: Path, found: Profiles | None, name: str = "model") -> Run:
    run = a_run(root, name, "finished")
    path = run.path / "checkpoint_003.pth"
    path.write_bytes(b"not weights")
    if found is not None:
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        run.save_json(f"profiles/checkpoint_003-{found.part}.json", {**found.to_dict(), "stamp": stamp})
    return run


# --- the page --------------------------------------------------------------------------------------------------------


def test_without_a_model_it_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(tmp_path, "untrained", "finished")
    (run.path / "checkpoint_of_another_program.pth").write_bytes(b"")
    at = lab(tmp_path, monkeypatch, PAGE)
    assert "No trained model yet" in [header.value for header in at.subheader]
    assert not at.selectbox


def test_a_model_is_measured_at_a_click_and_what_goes_wrong_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_model(tmp_path, None)
    at = lab(tmp_path, monkeypatch, PAGE)
    assert "Not measured yet" in [header.value for header in at.subheader]
    at.button(key="pianists_measure").click().run()
    job = jobs.find(f"profile {run.path} test")
    assert job is not None
    assert job.finished.wait(120)
    at.run()
    assert not at.exception
    assert "checkpoint_003.pth" in at.error[0].value.replace("\\", "")
    assert at.button(key="pianists_measure")


def test_the_process_that_measures_tells_why_it_cannot(tmp_path: Path) -> None:
    run = a_model(tmp_path, None)
    with pytest.raises(RunError, match=r"checkpoint_003\.pth"):
        measure(run, DataRoot(tmp_path, tmp_path / "cache"), "test", lambda done, total: None)


def test_what_a_model_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_model(tmp_path, FOUND)
    at = lab(tmp_path, monkeypatch, PAGE)
    assert {metric.label: metric.value.replace("\\", "") for metric in at.metric} == {
        "Recordings right": "69 %", "Melody alone": "8 %", "Harmony alone": "42 %", "Rhythm alone": "25 %",
        "Dynamics alone": "25 %",
    }  # fmt: skip
    assert at.selectbox(key="pianist").value == "Bela"  # the best known
    overview, radar, recalls, taken = charts_of(at)
    assert overview["yAxis"]["data"] == ["Bela  4", "Ada  6", "Cleo  3", "Dan  0"]
    assert [axis["name"] for axis in radar["radar"]["indicator"]] == ["Melody", "Harmony", "Rhythm", "Dynamics"]
    assert recalls["yAxis"]["data"][0] == "Everything"
    assert len(taken["yAxis"]["data"]) == 5
    at.segmented_control(key="pianists_order").set_value("By name").run()
    assert charts_of(at)[0]["yAxis"]["data"] == ["Ada  6", "Bela  4", "Cleo  3", "Dan  0"]


def test_a_link_opens_a_pianist_of_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_model(tmp_path, FOUND, "older")
    a_model(tmp_path, None, "newer")
    at = lab(tmp_path, monkeypatch, PAGE, model="study/older", pianist="Ada")
    assert "Ada is recognised in 5 of 6 recordings of the test part" in words(at)
    assert at.selectbox(key=f"pianists_{zlib.crc32(b'Ada'):08x}_track").options[0].startswith("Ada-0, 90 % sure")
    gone = lab(tmp_path, monkeypatch, PAGE, model="study/gone", pianist="Ada")
    assert "There is no trained run study/gone here" in words(gone)
    stranger = lab(tmp_path, monkeypatch, PAGE, model="study/older", pianist="Nobody")
    assert "This model does not know Nobody" in words(stranger)
    assert not stranger.exception


def test_a_pianist_without_recordings_or_without_a_right_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_model(tmp_path, FOUND)
    at = lab(tmp_path, monkeypatch, PAGE, pianist="Dan")
    assert "No recording of Dan is in the test part" in words(at)
    assert len(charts_of(at)) == 1
    at = lab(tmp_path, monkeypatch, PAGE, pianist="Cleo")
    assert "The model names none of the recordings of Cleo" in words(at)


def test_a_model_without_concepts_shows_what_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_model(tmp_path, WHOLE)
    at = lab(tmp_path, monkeypatch, PAGE)
    assert "it cannot be asked about a concept alone" in words(at)
    assert len(charts_of(at)) == 3
    assert at.selectbox(key=f"pianists_{zlib.crc32(b'Bela'):08x}_track")
    assert not at.exception


def test_profiles_of_another_checkpoint_or_part_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_model(tmp_path, FOUND)
    at = lab(tmp_path, monkeypatch, PAGE, pianists_part="Validation")
    assert at.button(key="pianists_measure")
    (run.path / "checkpoint_003.pth").write_bytes(b"trained once more")
    assert lab(tmp_path, monkeypatch, PAGE).button(key="pianists_measure")


# --- words and charts ------------------------------------------------------------------------------------------------


def test_a_pianist_in_words() -> None:
    ada, bela, cleo, dan = FOUND.pianists
    assert data.in_words(ada, FOUND) == (
        "Ada is recognised in 5 of 6 recordings of the test part. Otherwise mostly taken for Bela. "
        "Best told by harmony alone (67 %), least by melody (0 %). "
        "By one concept alone rather taken for another: by melody for Bela (100 %)."
    )
    assert "Each concept alone is right in 25 % of them" in data.in_words(bela, FOUND)
    assert "taken for" in data.in_words(cleo, FOUND)
    assert data.in_words(dan, FOUND).startswith("No recording of Dan")
    assert data.in_words(WHOLE.pianists[0], WHOLE) == (
        "Ada is recognised in 5 of 6 recordings of the test part. Otherwise mostly taken for Bela."
    )


def test_a_name_that_is_given_to_all_says_little_of_its_own() -> None:
    """By harmony alone this model says Ada whoever plays, and so is right about each of hers."""
    ada, bela = a_profile("Ada", 6, (1.0, 0.0, 1.0, 0.5, 0.5)), a_profile("Bela", 8, (1.0, 0.5, 0.0, 0.5, 1.0), "Ada")
    found = Profiles("test", 14, (ada, bela), CONCEPTS)
    assert (
        "Best told by harmony alone (100 %), least by melody (0 %). But that says little: by harmony alone 8 of 8 "
        "recordings of others are taken for Ada as well."
    ) in data.in_words(ada, found)
    assert "says little" not in data.in_words(bela, found)
    table = data.profile_table(ada, found).set_index("Heard")
    assert table.loc["Harmony alone", "Others taken for them"] == "8 of 8"
    assert table.loc["Everything", "Others taken for them"] == "0 of 8"


def test_who_else_is_taken_for_a_pianist_is_a_lower_bound_where_not_all_is_kept() -> None:
    ada, bela = a_profile("Ada", 6, (1.0,) * 5), a_profile("Bela", 10, (0.2,) * 5)
    known = replace(bela, mistaken_for={**bela.mistaken_for, "all": [("Cleo", 0.3), ("Dan", 0.2), ("Eve", 0.2)]})
    assert str(data.others_taken_for(ada, Profiles("test", 16, (ada, known), CONCEPTS), "all")) == "at least 0 of 10"
    named = replace(known, mistaken_for={**known.mistaken_for, "all": [("Ada", 0.3), ("Dan", 0.2), ("Eve", 0.2)]})
    assert str(data.others_taken_for(ada, Profiles("test", 16, (ada, named), CONCEPTS), "all")) == "3 of 10"


@pytest.mark.parametrize("found", [FOUND, WHOLE, replace(FOUND, pianists=())])
@pytest.mark.parametrize("order", data.ORDERS)
def test_every_chart_is_plain_data(found: Profiles, order: str) -> None:
    pianists = data.ordered(found, order)
    assert sorted(one.pianist for one in pianists) == sorted(one.pianist for one in found.pianists)
    assert [one.n == 0 for one in pianists] == sorted(one.n == 0 for one in pianists)
    plain_json(charts.overview(pianists, found, COLOURS))
    assert len(data.overview_table(found, order)) == len(pianists)
    for one in pianists:
        plain_json(charts.radar(one, found, COLOURS))
        plain_json(charts.recalls(one, found, COLOURS))
        taken = plain_json(charts.taken_for(one, found, COLOURS))
        if one.n:
            totals = [sum(series["data"][row] for series in taken["series"]) for row in range(len(found.heard))]
            assert totals == pytest.approx([100] * len(found.heard), abs=0.1)
