"""Who sits at the page: nobody that no gate has let in, and what each may do."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import who
from gate import sessions
from gate.sessions import Sessions
from lab_support import lab, words
from pianistid_core.accounts import AccountFile, Role
from pianistid_core.audit import machine_user
from pianistid_core.errors import AccessError


def _page() -> None:
    import streamlit as st

    import who
    from pianistid_core.accounts import Role
    from pianistid_core.errors import AccessError

    try:
        st.text(f"{who.me().name} {who.me().role.label} {[role.label for role in Role if who.may(role)]}")
    except AccessError as error:
        st.text(str(error))


def _shown(user: dict[str, str] | None = None) -> str:
    at = AppTest.from_function(_page)
    if user:
        at.user = user
    return str(at.run().text[0].value)


def test_without_a_server_it_is_the_machines_user_or_whom_the_test_names() -> None:
    assert _shown() == f"{machine_user()} administer ['look', 'run', 'administer']"
    assert _shown({"name": "Ada", "role": "run"}) == "Ada run ['look', 'run']"


def test_outside_of_a_page_there_is_nobody() -> None:
    assert not who.may(Role.LOOK)
    with pytest.raises(AccessError, match="not logged in"):
        who.me()


def test_where_a_gate_stands_only_its_ticket_counts(tmp_path: Path) -> None:
    file = AccountFile(tmp_path / "access.json")
    account = file.add("Ada", Role.RUN, "canary battery staple")
    served = Sessions(file, asks=True)
    ticket = served.find(served.open(account)).ticket  # type: ignore[union-attr]
    sessions.serve(served)
    try:
        assert _shown() == _shown({"name": "Ada", "role": "administer"})
        assert "not logged in" in _shown({who.TICKET: served.machine})
        assert _shown({who.TICKET: ticket}) == "Ada run ['look', 'run']"
        file.set_role("Ada", Role.LOOK)
        assert _shown({who.TICKET: ticket}) == "Ada look ['look']"
        served.end(ticket)
        assert "not logged in" in _shown({who.TICKET: ticket})
    finally:
        sessions.serve(None)


def test_nothing_is_drawn_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = lab(tmp_path, monkeypatch)
    assert shown.title
    sessions.serve(Sessions(AccountFile(tmp_path / "access.json"), asks=True))
    try:
        shown.run()
        assert "not logged in" in words(shown)
        assert not shown.title and not shown.button and not shown.sidebar.children
    finally:
        sessions.serve(None)
