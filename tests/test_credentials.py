"""A password in an MLflow address: kept apart, put back for the server, and nowhere else."""

import logging
import stat
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from pianistid_core.__main__ import main
from pianistid_core.config import parse_config, to_yaml
from pianistid_core.credentials import fit_to_show, keep_password, with_password, without_password
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import ConfigError
from pianistid_core.mlflow_store import Store
from pianistid_core.run_config import run_for
from pianistid_core.run_filter import parse_filter
from pianistid_core.run_index import RunIndex
from pianistid_core.training import train
from pianistid_core.training_options import MlflowOptions
from tiny import tiny_config

CANARY = "c4nary%40s3cret"
ADDRESS = f"http://ann:{CANARY}@127.0.0.1:9"  # where nobody listens


def holding(folder: Path) -> list[str]:
    """The files below a folder that hold the password, in whichever form."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            if b"c4nary" in data:
                found.append(path.relative_to(folder).as_posix())
    return found


@pytest.mark.parametrize(
    ("address", "plain"),
    [
        ("https://ann:pw@host:5000/x", "https://ann@host:5000/x"),
        ("https://ann@host", "https://ann@host"),
        ("https://host", "https://host"),
        ("http://ann:p:w@[::1]:5000", "http://ann@[::1]:5000"),
        ("postgresql://ann:pw@host/db", "postgresql://ann@host/db"),
        ("mysql+pymysql://ann:pw@host:3306/db?x=y", "mysql+pymysql://ann@host:3306/db?x=y"),
        ("sqlite:///a:b@c", "sqlite:///a:b@c"),
        ("http://[broken", "http://[broken"),
    ],
)
def test_the_password_leaves_the_address_and_comes_back_for_the_server(
    address: str, plain: str, tmp_path: Path
) -> None:
    assert without_password(address) == plain
    assert keep_password(tmp_path, address) == plain
    assert with_password(tmp_path, plain) == address
    assert Store(plain, tmp_path).uri == address
    assert with_password(tmp_path, "https://bob@host:5000/x") == "https://bob@host:5000/x"


@pytest.mark.parametrize(
    "address",
    [
        "http://ann:12/c4nary@host:5000", "http://ann:1?c4nary@host", "http://host:5000/x?token=c4nary",
        "http://host:c4nary", "postgresql://host/db?password=c4nary", " http://ann:12/c4nary@host",
    ],
)  # fmt: skip
def test_an_address_with_a_password_where_none_belongs_is_no_setting(address: str) -> None:
    with pytest.raises(ConfigError, match="tracking_uri") as refused:
        parse_config({"mlflow_cfg": {"use": True, "tracking_uri": address}})
    assert "c4nary" not in str(refused.value)


def test_it_is_its_owners_alone_to_read_and_each_user_has_their_own(tmp_path: Path) -> None:
    keep_password(tmp_path, "https://ann:one@host")
    keep_password(tmp_path, "https://bob:two@host")
    keep_password(tmp_path, "https://ann:three@host")
    path = tmp_path / "mlflow" / "credentials.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert with_password(tmp_path, "https://ann@host/a") == "https://ann:three@host/a"
    assert with_password(tmp_path, "https://bob@host/a") == "https://bob:two@host/a"
    path.write_text("[")
    assert with_password(tmp_path, "https://ann@host/a") == "https://ann@host/a"


def test_a_password_is_nowhere_but_where_it_is_kept(
    tiny_root: DataRoot, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(tiny_config(epochs=1), mlflow_cfg=MlflowOptions(use=True, tracking_uri=ADDRESS))
    run = run_for(config, tiny_root)
    with caplog.at_level(logging.DEBUG, logger="pianistid_core"):
        assert train(config, tiny_root, run).status == "finished"
    assert run.log_tail(200)  # in which the server that nobody is at is told
    there = ["--data-root", str(tiny_root.path)]
    (tmp_path / "own.yaml").write_text(to_yaml(config))
    for command in (
        ["runs", "show", run.id, "--log", "200", "--json"], ["runs", "list", "--json"], ["queue", "list", "--json"],
        ["audit", "--json"], ["runs", "export", run.id, str(tmp_path / "run.zip")],
    ):  # fmt: skip
        assert main([*command, *there]) == 0
    assert main(["config", "show", str(tmp_path / "own.yaml")]) == 0
    said = capsys.readouterr()
    assert "c4nary" not in said.out + said.err + caplog.text
    assert "http://ann@127.0.0.1:9" in (run.path / "config.yaml").read_text()
    assert holding(tiny_root.checkpoints_dir.parent) == ["mlflow/credentials.json"]
    assert with_password(tiny_root.checkpoints_dir.parent, "http://ann@127.0.0.1:9") == ADDRESS
    # A run of before, whose folder still holds it, neither shows it nor hands it on nor answers for a letter of it.
    (run.path / "config.yaml").write_text(to_yaml(config))
    assert main(["runs", "export", run.id, str(tmp_path / "run.zip"), "--overwrite", *there]) == 0
    with zipfile.ZipFile(tmp_path / "run.zip") as archive:
        assert all(b"c4nary" not in archive.read(name) for name in archive.namelist())
    index = RunIndex(tiny_root.checkpoints_dir)
    (summary,) = index.summaries()
    assert not parse_filter('"c4nary" in mlflow_cfg.tracking_uri').matches(summary, index.config(summary))
    assert parse_filter('"127.0.0.1" in mlflow_cfg.tracking_uri').matches(summary, index.config(summary))
    assert fit_to_show(config).mlflow_cfg.tracking_uri == "http://ann@127.0.0.1:9"
