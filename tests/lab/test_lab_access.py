"""The pages on who may come in, and on what was done."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import who
from gate import sessions
from gate.sessions import Sessions
from lab_support import lab, words
from pianistid_core.accounts import AccountFile, Role
from pianistid_core.audit import entries, note
from pianistid_core.datasets.root import DataRoot

PASSWORD = "a long walk home"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataRoot:
    monkeypatch.setenv("PIANISTID_ACCESS", str(tmp_path / "access.json"))
    AccountFile(tmp_path / "access.json").set_others(None)  # makes the file, with nobody in it
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "home").mkdir()
    return DataRoot(tmp_path / "home", tmp_path / "cache")


def organisations_login(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets up an organisation's login, as far as is looked for: its settings, and the library that it needs."""
    (home / ".streamlit").mkdir()
    (home / ".streamlit" / "secrets.toml").write_text("[auth]\n")
    (home / "libraries" / "authlib").mkdir(parents=True)
    (home / "libraries" / "authlib" / "__init__.py").touch()
    monkeypatch.syspath_prepend(home / "libraries")


def as_person(root: DataRoot, monkeypatch: pytest.MonkeyPatch, page: str, role: str = "administer") -> AppTest:
    at = lab(root, monkeypatch, page)
    at.user = {"name": "Ada", "role": role}
    return at.run()


def add(at: AppTest, name: str, role: str, password: str) -> None:
    at.text_input(key="add_name").set_value(name)
    at.selectbox(key="add_role").set_value(role)
    at.text_input(key="add_password").set_value(password)
    at.button(key="add_person").click().run()
    assert not at.exception


def test_people_are_added_changed_and_removed_and_one_who_administers_stays(
    root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = AccountFile(tmp_path / "access.json")
    at = as_person(root, monkeypatch, "views/access.py")
    assert "Add people, the first of them" in words(at) and "For this machine alone" in words(at)
    add(at, "Lou", "look", PASSWORD)
    assert "The first person must be one who may administer" in words(at) and not file.read()
    add(at, "Ada", "administer", PASSWORD)
    add(at, "Lou", "look", "short")
    assert "Lou" not in {one.name for one in file.read().people.values()}
    add(at, "Lou", "look", PASSWORD)
    add(at, "rita@example.org", "administer", "")
    assert "no organisation's login is set up" in words(at) and not file.read().members
    at.selectbox(key="others:refused").set_value("look").run()
    assert "no organisation's login is set up" in words(at) and file.read().others is None
    organisations_login(tmp_path, monkeypatch)
    add(at, "rita@example.org", "run", "")
    assert at.text_input(key="add_password").value == ""
    assert file.read().member("rita@example.org") is Role.RUN
    at.selectbox(key="change_name").set_value("Lou").run()
    at.selectbox(key="role:Lou:look").set_value("run").run()
    assert file.read().people["lou"].role is Role.RUN
    at.text_input(key="reset_password").set_value("another long walk")
    at.button(key="reset_save").click().run()
    assert file.read().check("Lou", "another long walk") is not None
    at.button(key="remove_person").click().run()
    assert "lou" not in file.read().people
    at.selectbox(key="change_name").set_value("Ada").run()
    at.button(key="remove_person").click().run()
    assert "the only one who may administer" in words(at) and "ada" in file.read().people
    at.selectbox(key="others:refused").set_value("look").run()
    assert file.read().others is Role.LOOK
    file.set_role("rita@example.org", Role.ADMINISTER)
    (tmp_path / ".streamlit" / "secrets.toml").unlink()
    at.run().selectbox(key="change_name").set_value("Ada").run()
    at.button(key="remove_person").click().run()
    assert "the only one who may administer" in words(at) and "ada" in file.read().people  # Rita cannot come in
    log = entries(root, 100)
    assert {line.what for line in log} == {"access"} and {line.who for line in log} == {"Ada"}
    assert [line.about for line in log if line.ended == "done"] == [
        "others of the organisation: look", "Lou removed", "password of Lou", "Lou may run",
        "rita@example.org may run", "Lou may look", "Ada may administer",
    ]  # fmt: skip
    kept = "".join(path.read_text() for path in (root.path / "audit").iterdir())
    assert PASSWORD not in kept and "another long walk" not in kept


@pytest.mark.parametrize("page", ["views/access.py", "views/audit.py"])
def test_who_does_not_administer_sees_neither_people_nor_their_acts(
    root: DataRoot, tmp_path: Path, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    AccountFile(tmp_path / "access.json").add("Bela", Role.ADMINISTER, PASSWORD)
    note(root, "Bela", "start", "study/secret")
    at = as_person(root, monkeypatch, page, role="run")
    assert "with the role administer" in words(at)
    assert not at.dataframe and "Bela" not in words(at)


def test_the_log_is_shown_filtered_and_names_stay_text(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    at = as_person(root, monkeypatch, "views/audit.py")
    assert "will stand in this list" in words(at)
    note(root, "Ann", "stop", "study/a", where="lab")
    note(root, "![x](http://x/y.png)\n\u202e", "start", "=1+1")
    at.run()
    table = at.dataframe[0].value
    assert list(table["What"]) == ["start", "stop"] and "\n" not in table["Who"][0] and "\u202e" not in table["Who"][0]
    at.selectbox(key="audit_who").set_value("Ann").run()
    assert list(at.dataframe[0].value["About"]) == ["study/a"]
    at.text_input(key="audit_about").set_value("nothing").run()
    assert "Nothing fits" in words(at)


def test_the_password_that_holds_now_cannot_be_tried_for_ever(
    root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = AccountFile(tmp_path / "access.json")
    served = Sessions(file, asks=True)
    session = served.find(served.open(file.add("Ada", Role.LOOK, PASSWORD)))
    assert session is not None
    at = lab(root, monkeypatch, "views/access.py")
    sessions.serve(served)
    try:
        at.user = {who.TICKET: session.ticket}
        at.run()

        def change(old: str) -> str:
            for key, value in (("own_old", old), ("own_new", "another long walk"), ("own_again", "another long walk")):
                at.text_input(key=key).set_value(value)
            at.button(key="own_save").click().run()
            return words(at)

        for _ in range(5):
            assert "That is not your password now" in change("a short walk home")
        assert "Too many tries failed; wait" in change("a short walk home")
        assert "Too many tries failed; wait" in change(PASSWORD) and file.read().check("Ada", PASSWORD)
    finally:
        sessions.serve(None)
