"""The parts of the Identify page that need no page: words, charts, names, windows."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cached
import identify_work
import palette
from components.piano_roll import Moments, performance_roll, player_data
from identify_answer import (
    Answer,
    assembled,
    compared,
    how_sure,
    in_a_sentence,
    moment_rows,
    moments_of,
    unheard,
    whoever_plays,
)
from identify_charts import MINUS, points, ranking, waterfall
from identify_files import file_stem
from identify_sources import Given, told_apart
from identify_why import right_alone
from pianistid_core.calibration import VERDICTS, Unknown
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import SplitError
from pianistid_core.evaluation import CONCEPT_SUBSETS
from pianistid_core.identify import ClipResult, Identification, Identifier
from pianistid_core.neighbours import Familiarity
from pianistid_core.profiles import Profile, Profiles
from pianistid_core.run_config import run_for
from pianistid_core.training import train
from tiny import make_notes, tiny_config, until


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ((0.97, 0.01), "nobody else comes near; next is Bela (1 %)"),
        ((0.6, 0.15), "far ahead of Bela (15 %)"),
        ((0.5, 0.3), "ahead of Bela (30 %)"),
        ((0.4, 0.35), "hardly ahead of Bela (35 %)"),
        ((0.41, 0.405), "level with Bela (40 %)"),
        ((0.99, 0.0), "nobody else comes near; next is Bela (0.0 %)"),
    ],
)
def test_the_margin_in_words(shares: tuple[float, float], words: str) -> None:
    assert compared(dict(zip(("Ada", "Bela"), shares, strict=True))) == words


def test_one_pianist_has_nobody_to_be_compared_with() -> None:
    assert compared({"Ada": 1.0}) == ""


@pytest.mark.parametrize(
    ("limit", "below", "words"),
    [
        (0.9, "The model is fairly sure", "The model is sure"),
        (0.75, "The model has some doubt", "The model is fairly sure"),
        (0.5, "It could well be someone else", "The model has some doubt"),
    ],
)
def test_from_a_limit_on_the_model_is_as_sure_as_its_words(limit: float, below: str, words: str) -> None:
    assert (how_sure(limit - 0.001), how_sure(limit)) == (below, words)


def test_more_probable_never_sounds_less_sure() -> None:
    said = [how_sure(share) for share in (0.2, 0.5, 0.75, 0.9)]
    assert len(set(said)) == 4
    assert "someone else" in said[0] and said[3] == "The model is sure"


@pytest.mark.parametrize("share", [0.4, 0.6, 0.8, 0.99])
def test_music_unlike_all_makes_no_model_sure(share: float) -> None:
    found = replace(found_in(1, False), probabilities={"Ada": share, "Bela": 1 - share})
    usual, strange = in_a_sentence(found, strange=False), in_a_sentence(found, strange=True)
    assert how_sure(share) in usual and "unlike" not in usual
    assert how_sure(share) not in strange and "unlike all it knows" in strange
    assert "Bela" in usual and "Bela" in strange


def test_an_answer_that_may_be_nobody_s_says_so_first() -> None:
    usual = replace(found_in(1, False), coverage=0.9, candidates=("Ada", "Bela"), unknown=Unknown(0.4, VERDICTS[0]))
    assert in_a_sentence(usual, strange=False) == in_a_sentence(found_in(1, False), strange=False)
    assert "unless it notices" in whoever_plays(usual) and "whoever plays" in whoever_plays(found_in(1, False))
    nobody = replace(usual, unknown=Unknown(0.001, VERDICTS[2]))
    assert in_a_sentence(nobody, strange=False).startswith("Most like **Ada**: 60 % probable, if it is one")
    assert "another's name" not in whoever_plays(nobody)
    notes = make_notes(1, seconds=31.0)
    roll = assembled(
        performance_roll(notes, "a"), Answer(Given("a", b""), nobody, notes), nobody, identify_work.Insight()
    )
    assert roll.verdict is not None and roll.verdict.unlike


def test_one_pianist_alone_is_a_whole_sentence() -> None:
    found = replace(found_in(1, False), probabilities={"Ada": 1.0})
    assert in_a_sentence(found, strange=False) == "**100 %** probable. The model is sure\\."


def test_the_stage_knows_that_music_is_unlike_all() -> None:
    notes = make_notes(1, seconds=31.0)
    answer, found = Answer(Given("a", b""), None, notes), found_in(1, False)
    base = performance_roll(notes, "a")
    for strange in (False, True):
        insight = identify_work.Insight(familiarity=Familiarity(0.2, 0.8, strange, ""))
        verdict = player_data(assembled(base, answer, found, insight))["verdict"]
        assert verdict["unlike"] is strange


@pytest.mark.parametrize(("seconds", "said"), [(89.6, "the last 30 s"), (90.4, ""), (12.0, ""), (60.0, "")])
def test_what_is_too_short_for_a_clip_is_said(seconds: float, said: str) -> None:
    words = unheard(replace(found_in(1, False), duration_s=seconds))
    assert said in words and bool(words) == bool(said)


def test_changes_have_a_sign() -> None:
    assert points(0.123) == "+12.3"
    assert points(-0.05) == f"{MINUS}5.0"


@pytest.mark.parametrize("shares", [(0.3, 0.2, -0.05, 0.1), (-0.3, 0.2, 0.2, 0.1)])
def test_the_steps_of_a_waterfall_join(shares: tuple[float, ...]) -> None:
    silence, names = 0.12, ("melody", "harmony", "rhythm", "dynamics")
    full = silence + sum(shares)
    chart = waterfall(silence, dict(zip(names, shares, strict=True)), full, palette.of_theme("light"))
    under, over = (series["data"] for series in chart.option["series"])
    assert all(low >= 0 for low in under), "stacked bars cannot begin below 0"
    floor = min(0.0, silence + min(np.cumsum(shares)))
    at = silence - floor
    for low, bar, share in zip(under[1:-1], over[1:-1], shares, strict=True):
        assert bar["value"] == pytest.approx(abs(share), abs=1e-5)
        assert low == pytest.approx(min(at, at + share), abs=1e-5)
        at += share
    assert over[-1]["value"] == pytest.approx(full, abs=1e-5)
    assert "Nothing heard" in chart.option["yAxis"]["data"]
    assert f"{100 * full:.1f} %" in chart.alt


def test_the_ranking_ends_with_all_others_together() -> None:
    shares = {f"pianist {n}": (10 - n) / 55 for n in range(10)}
    chart = ranking(shares, palette.of_theme("dark"), top=6)
    assert chart.option["yAxis"]["data"][-1] == "4 others"
    assert sum(bar["value"] for bar in chart.option["series"][0]["data"]) == pytest.approx(1.0, abs=1e-3)


def test_names_that_come_twice_are_numbered() -> None:
    names = [piece.name for piece in told_apart([Given(name, b"") for name in ("a", "b", "a", "a (2)", "a")])]
    assert names == ["a", "b", "a (2)", "a (2) (2)", "a (3)"]
    assert len(set(names)) == 5


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a piece.mid", "a piece"),
        ("../../etc/passwd.mid", "etc_passwd"),
        ("<b>.mid", "b"),
        ("🎹.mid", "piece"),
        ("", "piece"),
    ],
)
def test_a_file_gets_a_harmless_name(name: str, stem: str) -> None:
    assert file_stem(name) == stem


def test_the_lines_as_a_table() -> None:
    rows = moment_rows(Moments([(0, 30)], ["Ada", "Bela"], [0, 1], np.array([[0.75, 0.25]])))
    assert rows == [{"start_s": 0, "end_s": 30, "Ada": 0.75, "Bela": 0.25}]


def found_in(clips: int, concepts: bool) -> Identification:
    heard = {"Ada": 0.6, "Bela": 0.3, "Clio": 0.1}
    return Identification(
        probabilities=heard,
        clips=tuple(ClipResult(30.0 * n, 30.0 * (n + 1), heard) for n in range(clips)),
        concepts={kept: heard for kept in CONCEPT_SUBSETS} if concepts else {},
        skipped=(), warnings=(), model="a model", duration_s=30.0 * clips, n_notes=100,
    )  # fmt: skip


@pytest.mark.parametrize("concepts", [True, False])
def test_clips_stand_for_the_moments_until_windows_are_there(concepts: bool) -> None:
    moments = moments_of(found_in(3, concepts), identify_work.Insight())
    assert list(moments.spans_s) == [(0.0, 30.0), (30.0, 60.0), (60.0, 90.0)]
    assert list(moments.names) == ["Ada", "Bela", "Clio"]
    assert moments.shares.tolist() == [[0.6, 0.3, 0.1]] * 3
    assert set(moments.concepts) == ({"Melody", "Harmony", "Rhythm", "Dynamics"} if concepts else set())
    assert not moments.smooth


def test_who_leads_by_one_concept_alone_is_among_the_names() -> None:
    names = tuple("ABCDEFGHIJ")
    shares = np.tile(np.linspace(0.3, 0.0, 10), (2, 1))
    alone = np.zeros((2, 10))
    alone[1, 9] = 1.0
    insight = identify_work.Insight(
        windows=identify_work.Windows(((0, 30), (10, 40)), names, shares, {"melody": alone})
    )
    moments = moments_of(found_in(2, True), insight)
    assert list(moments.names) == [*"ABCDE", "J"]
    assert moments.smooth
    assert moments.concepts["Melody"][1].tolist() == [0, 0, 0, 0, 0, 1]
    assert len(set(moments.colours)) == 6, "each has a colour of their own"


def test_a_concepts_own_accuracy_counts_recordings() -> None:
    def one(name: str, n: int, recall: float | None) -> Profile:
        return Profile(name, n, {"all": 1.0, "melody": recall}, {}, [])

    known = Profiles("test", 4, (one("Ada", 3, 1.0), one("Bela", 1, 0.0), one("Clio", 0, None)), ("melody",))
    assert right_alone(known) == {"melody": "Alone it names 75 % of 4 test recordings."}
    assert right_alone(None) == {}


@pytest.fixture(scope="module")
def identifier(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Identifier:
    base = tmp_path_factory.mktemp("windows")
    root = DataRoot(tiny_data, base / "cache")
    config = tiny_config(
        checkpoint_cfg={"checkpoint_dir": str(base / "runs"), "checkpoint_after_n_epochs": 1}, epochs=1
    )
    run = run_for(config, root)
    train(config, root, run)
    return Identifier.from_checkpoint(run.path)


def test_windows_cover_the_music_and_agree_with_the_model(identifier: Identifier) -> None:
    notes = make_notes(1, seconds=65.0)
    windows = identify_work.moving_answers(identifier, notes)
    assert windows is not None
    assert windows.spans_s[0] == (0.0, 30.0)
    assert windows.spans_s[-1][1] == pytest.approx(notes.duration_s)
    assert np.allclose(windows.shares.sum(axis=1), 1)
    assert set(windows.concepts) == {"melody", "harmony", "rhythm", "dynamics"}
    first = identifier.identify(notes.between(0, 30), concepts=False)
    assert windows.shares[0] == pytest.approx([first.probabilities[name] for name in windows.names], abs=1e-6)


def test_a_clip_has_no_windows_and_an_hour_not_many(identifier: Identifier) -> None:
    assert identify_work.moving_answers(identifier, make_notes(2, seconds=31.0)) is None
    seen: list[tuple[int, int]] = []
    windows = identify_work.moving_answers(
        identifier, make_notes(2, seconds=900.0, step_s=1.0), lambda done, total: seen.append((done, total))
    )
    assert windows is not None
    assert len(windows.spans_s) <= 25
    assert seen[-1][0] < seen[-1][1] <= 25


@pytest.mark.parametrize(("cores", "now", "then"), [(2, 2, 1), (1, 1, 1), (8, 8, 7), (8, 3, 3), (None, 2, 1)])
def test_a_core_is_left_for_the_page(monkeypatch: pytest.MonkeyPatch, cores: int | None, now: int, then: int) -> None:
    import torch

    given: list[int] = []
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: now)
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    cached.leave_a_core()
    assert given == [then]


def test_a_loaded_model_leaves_a_core(identifier: Identifier, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[bool] = []
    monkeypatch.setattr(cached, "leave_a_core", lambda: left.append(True))
    cached.model(identifier.loaded.path)
    assert left


def test_the_index_is_made_beside_the_rest_and_its_trouble_is_told(
    identifier: Identifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pianistid_core import neighbours

    made_in: list[str] = []

    def fails(*args: object, progress: object = None) -> None:
        made_in.append(threading.current_thread().name)
        raise SplitError("there is no such split here")

    monkeypatch.setattr(neighbours, "open_index", fails)
    asked = identify_work.Asked(
        make_notes(1, seconds=31.0), identifier.class_names[0], None, DataRoot(Path("x")), identifier.loaded.path
    )
    for idle in (True, False):
        monkeypatch.setattr(identify_work, "a_core_is_idle", lambda idle=idle: idle)
        insight = identify_work.Insight()
        identify_work.Explainer().begin(insight, asked)
        until(lambda insight=insight: insight.finished)
        assert insight.troubles == {"neighbours": "there is no such split here"}
        assert insight.attribution is not None
    assert made_in == ["explainer's index", "explainer"], "once each"


def test_of_too_many_pieces_the_oldest_is_given_up_and_may_be_asked_again(identifier: Identifier) -> None:
    def ask(explainer: identify_work.Explainer, number: int) -> identify_work.Insight:
        insight = explainer.insight(str(number))
        notes = make_notes(number, seconds=2.0)
        explainer.begin(insight, identify_work.Asked(notes, "nobody", None, DataRoot(Path("x")), Path("no.pth")))
        return insight

    class Waits(identify_work.Explainer):
        """Works on nothing until it may."""

        def _work(self) -> None:
            may.wait()
            super()._work()

    may = threading.Event()
    explainer = Waits()
    insights = [ask(explainer, number) for number in range(40)]
    assert [insight.finished for insight in insights] == [True] * 8 + [False] * 32
    assert "open this piece again later" in insights[0].troubles["all"]
    assert explainer.insight("0") is not insights[0] and not explainer.insight("0").begun
    may.set()
    until(lambda: all(insight.finished for insight in insights))
