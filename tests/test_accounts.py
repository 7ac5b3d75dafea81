"""Accounts: what is kept of a password, who is let in, and that the file is its owner's alone."""

import io
import json
import os
import sys
from pathlib import Path

import pytest

from pianistid_core import __main__ as command_line
from pianistid_core.accounts import FILE_NAME, AccountFile, Role
from pianistid_core.errors import AccessError

PASSWORD = "correct horse battery"


GOOD = {
    "accounts": [{"name": "Ada", "role": "look", "password": f"{'A' * 22}==${'A' * 43}=", "stamp": "x"}],
    "organisation": {"members": {}, "others": None},
}


@pytest.fixture
def file(tmp_path: Path) -> AccountFile:
    return AccountFile(tmp_path / FILE_NAME)


def test_a_role_holds_those_before_it_and_has_a_word() -> None:
    assert Role.LOOK < Role.RUN < Role.ADMINISTER
    assert [Role.named(role.label) for role in Role] == list(Role)
    with pytest.raises(AccessError, match="look, run, administer"):
        Role.named("root")


def test_a_name_and_its_password_open_the_account_and_nothing_else_does(file: AccountFile) -> None:
    made = file.add("Ada", Role.RUN, PASSWORD)
    accounts = AccountFile(file.path).read()
    assert accounts.check("ADA ", PASSWORD) == made  # names are compared without regard to case
    assert accounts.check("Ada", PASSWORD + "!") is None
    assert accounts.check("Bela", PASSWORD) is None
    assert accounts.check("Ada", "") is None


def test_the_file_keeps_no_password_and_is_its_owners_alone(file: AccountFile) -> None:
    made = file.add("Ada", Role.LOOK, PASSWORD)
    text = file.path.read_text()
    assert PASSWORD not in text
    assert made.password in text
    assert PASSWORD not in repr(made) and made.password not in repr(made)
    assert file.path.stat().st_mode & 0o777 == 0o600
    file.path.chmod(0o644)
    file.set_role("Ada", Role.RUN)
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_two_accounts_with_one_password_have_different_hashes(file: AccountFile) -> None:
    assert file.add("Ada", Role.LOOK, PASSWORD).password != file.add("Bela", Role.LOOK, PASSWORD).password


def test_another_password_is_another_stamp_and_another_role_is_not(file: AccountFile) -> None:
    stamp = file.add("Ada", Role.LOOK, PASSWORD).stamp
    file.set_role("ada", Role.ADMINISTER)
    account = file.read().account("Ada")
    assert account and (account.role, account.stamp) == (Role.ADMINISTER, stamp)
    file.set_password("ada", "another horse battery")
    account = file.read().account("Ada")
    assert account and account.stamp != stamp
    assert file.read().check("Ada", PASSWORD) is None


def test_what_is_removed_is_gone_and_what_another_writes_is_seen(file: AccountFile) -> None:
    other = AccountFile(file.path)
    assert not other.read()
    file.add("Ada", Role.LOOK, PASSWORD)
    assert other.read().account("Ada")
    other.remove("Ada")
    assert not file.read()
    with pytest.raises(AccessError, match="no account 'Ada'"):
        file.remove("Ada")


@pytest.mark.parametrize(
    ("name", "password", "words"),
    [
        ("", PASSWORD, "1 to 64 characters"),
        ("a" * 65, PASSWORD, "1 to 64 characters"),
        ("Ada\x1b[31m", PASSWORD, "can be seen"),
        ("Ada", "short", "10 to 200 characters"),
        ("Ada", "x" * 201, "10 to 200 characters"),
        ("Ada", "aaaaaaaaaaaa", "different characters"),
        ("ada.lovelace", "Ada.Lovelace", "not the name"),
        ("ADA", PASSWORD, "already"),
    ],
)
def test_what_cannot_be_an_account_is_refused_in_words(file: AccountFile, name: str, password: str, words: str) -> None:
    file.path.write_text(json.dumps(GOOD))
    with pytest.raises(AccessError, match=words) as refused:
        file.add(name, Role.LOOK, password)
    assert not password or password not in str(refused.value)


def test_members_of_the_organisation_have_a_role_and_the_others_what_is_said(file: AccountFile) -> None:
    file.add_member("Ada@Example.org", Role.RUN)
    assert file.read().member("ada@example.org") is Role.RUN
    assert file.read().member("eve@example.org") is None
    file.set_others(Role.LOOK)
    assert file.read().member("eve@example.org") is Role.LOOK
    file.set_role("ada@example.org", Role.LOOK)
    file.remove("ada@example.org")
    file.set_others(None)
    assert file.read().member("ada@example.org") is None
    with pytest.raises(AccessError, match="no e-mail address"):
        file.add_member("Ada", Role.RUN)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "[" * 100_000,
        json.dumps(GOOD)[:-9],
        json.dumps(GOOD).replace('"look"', '"root"'),
        json.dumps(GOOD).replace("AAAA", "", 1),
        json.dumps(GOOD).replace('"Ada"', "1"),
    ],
)
def test_a_damaged_file_lets_nobody_in_and_says_so(file: AccountFile, text: str) -> None:
    file.path.write_text(json.dumps(GOOD))
    assert file.read().account("Ada")
    file.path.write_text(text)
    with pytest.raises(AccessError, match="damaged"):
        file.read()


def test_the_file_may_be_named_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert AccountFile.of(tmp_path).path == tmp_path / FILE_NAME
    monkeypatch.setenv("PIANISTID_ACCESS", str(tmp_path / "elsewhere.json"))
    assert AccountFile.of(tmp_path).path == tmp_path / "elsewhere.json"


def test_a_file_that_is_named_and_missing_lets_nobody_in_until_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIANISTID_ACCESS", "elsewhere.json")
    file = AccountFile.of(tmp_path / "root")
    with pytest.raises(AccessError, match=r"PIANISTID_ACCESS names .*elsewhere\.json"):
        file.read()
    file.add("Ada", Role.ADMINISTER, PASSWORD)
    assert AccountFile.of(tmp_path / "root").read().account("Ada")


def test_the_lab_is_served_by_the_accounts_that_the_command_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command goes to another folder before it becomes the server, and an IPv6 address is shown in brackets."""
    AccountFile(tmp_path / "own.json").add("Ada", Role.ADMINISTER, PASSWORD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIANISTID_ACCESS", "own.json")
    monkeypatch.setenv("PIANISTID_HOME", str(tmp_path))
    served: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _program, command: served.append(command))
    command_line.main(["lab", "--address", "::1", "--data-root", str(tmp_path)])
    assert os.environ["PIANISTID_ACCESS"] == str(tmp_path / "own.json") and Path.cwd() != tmp_path
    assert AccountFile.of(tmp_path).read().account("Ada")
    shown = served[0][served[0].index("--browser.serverAddress") + 1]
    assert shown == "[::1]"


def test_the_command_makes_changes_and_lists_accounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def access(*arguments: str, password: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(password))
        status = command_line.main(["access", *arguments, "--data-root", str(tmp_path)])
        return status, *capsys.readouterr()

    status, out, err = access("add", "Ada", "--role", "run", password=f"{PASSWORD}\n")
    assert status == 0 and PASSWORD not in out + err
    status, out, err = access("add", "Bela", password="short\n")
    assert status == 1 and "10 to 200 characters" in err and "short" not in err
    assert access("add", "Bela")[2].startswith("no password came")
    assert access("role", "Ada", "administer")[0] == 0
    monkeypatch.setenv("HOME", str(tmp_path))
    for words in (("add", "rita@example.org", "--organisation"), ("others", "look")):
        status, _, err = access(*words)
        assert status == 1 and "no organisation's login is set up" in err
    assert access("others", "refuse")[0] == 0
    assert json.loads(access("list", "--json")[1])["accounts"] == [{"name": "Ada", "role": "administer"}]
    log = (tmp_path / "audit" / "log.jsonl").read_text()
    assert "Ada may run" in log and PASSWORD not in log
