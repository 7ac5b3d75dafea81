"""Refusals in the audit log: who is refused over and over pushes nothing out of it."""

from pathlib import Path

import pytest

import acts
import state
import who
from pianistid_core.accounts import Person, Role
from pianistid_core.audit import entries
from pianistid_core.datasets.root import DataRoot
from refusals import LAST_ONE, MOST_AN_HOUR, Refusals


def test_a_person_who_is_refused_over_and_over_cannot_fill_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = DataRoot(tmp_path / "home", tmp_path / "cache")
    root.path.mkdir()
    monkeypatch.setattr(state, "complain", lambda _: None)
    monkeypatch.setattr(state, "data_root", lambda: root)
    monkeypatch.setattr(who, "may", lambda role: role is Role.LOOK)
    anything = acts.acting(Role.RUN, "anything")(lambda: None)
    for name in ("Lou", "Rob"):
        monkeypatch.setattr(who, "me", lambda name=name: Person(name, Role.LOOK))
        for _ in range(3 * MOST_AN_HOUR):
            anything()
    lines = entries(root, 1000)
    assert [line.who for line in lines] == MOST_AN_HOUR * ["Rob"] + MOST_AN_HOUR * ["Lou"]
    assert [LAST_ONE in line.why for line in lines] == 2 * ([True] + (MOST_AN_HOUR - 1) * [False])


def test_refusals_are_written_down_again_after_an_hour() -> None:
    hours = [0.0]
    refusals = Refusals(lambda: 3600 * hours[0])
    for hours[0] in (0.0, 0.5, 1.0, 1.9, 2.0):
        said = [refusals.line("Lou", "no") for _ in range(MOST_AN_HOUR)]
        assert bool(said[0]) is (hours[0] in (0.0, 1.0, 2.0)) and bool(said[-1]) is bool(said[0])
