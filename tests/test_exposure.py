"""Who can reach a lab: loopback or the world, and which names it answers to."""

from pathlib import Path

import pytest

from pianistid_core import __main__ as command_line
from pianistid_core.errors import AccessError
from pianistid_core.exposure import allowed_hosts, is_exposed, is_loopback, organisation_login, own_addresses


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.10", "localhost", "LOCALHOST.", "::1", "[::1]"])
def test_loopback_is_this_machine_alone(address: str) -> None:
    assert is_loopback(address)
    assert not is_exposed(address, ["localhost", "127.0.0.1"])


@pytest.mark.parametrize(
    "address",
    [None, "", "0.0.0.0", "::", "192.168.1.5", "lab.example.org", "localhost.example.org", "127.0.0.1.nip.io"],
)
def test_everything_else_can_be_reached_by_others(address: str | None) -> None:
    assert is_exposed(address, [])


def test_a_name_for_others_exposes_a_loopback_address_as_behind_a_proxy() -> None:
    assert is_exposed("127.0.0.1", ["localhost", "lab.example.org"])


def test_a_lab_answers_to_what_it_listens_on_and_to_what_is_named() -> None:
    assert set(allowed_hosts("127.0.0.1", [])) == {"127.0.0.1", "localhost", "::1"}
    assert set(allowed_hosts("192.168.1.5", ["Lab.Example.ORG."])) >= {"192.168.1.5", "lab.example.org"}
    assert set(allowed_hosts("0.0.0.0", [])) >= set(own_addresses())
    for host in ("*", "*.example.org"):
        with pytest.raises(AccessError, match="may not hold a \\*"):
            allowed_hosts("127.0.0.1", [host])


def test_an_organisations_login_is_found_or_what_it_lacks_is_said(tmp_path: Path) -> None:
    assert not organisation_login([tmp_path])
    secrets = tmp_path / "secrets.toml"
    secrets.write_text("[other]\nkey = 'canary-secret'\n")
    assert not organisation_login([tmp_path])
    secrets.write_text("[auth\nkey = 'canary-secret'\n")
    with pytest.raises(AccessError, match="cannot be read") as damaged:
        organisation_login([tmp_path])
    assert "canary-secret" not in str(damaged.value)


@pytest.mark.parametrize("options", [["--address", "0.0.0.0"], ["--host", "lab.example.org"], ["--address", "::"]])
def test_the_command_does_not_expose_a_lab_that_asks_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    assert command_line.main(["lab", "--data-root", str(tmp_path), "--port", "1", *options]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "would ask nobody for a password" in said.err and "pianistid access add" in said.err
    assert "`pianistid lab --address 127.0.0.1`" in said.err


def test_the_command_wants_both_parts_of_tls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["lab", "--data-root", str(tmp_path), "--cert", "x.pem"]) == 1
    assert "both --cert and --key" in capsys.readouterr().err
