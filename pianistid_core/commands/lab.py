"""`pianistid lab`: serves the lab, and refuses to expose it unprotected."""

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from importlib.util import find_spec
from pathlib import Path

from pianistid_core.accounts import NAMED_BY, AccountFile
from pianistid_core.commands.console import add_data_root, open_root
from pianistid_core.errors import AccessError
from pianistid_core.exposure import (
    WITHOUT_LOGIN,
    allowed_hosts,
    bare_host,
    is_exposed,
    is_loopback,
    is_wildcard,
    organisation_login,
    own_addresses,
    settings_folders,
)

_REPOSITORY = Path(__file__).resolve().parents[2]


def add_lab(parser: ArgumentParser) -> None:
    """Adds the options of `lab`."""
    parser.add_argument(
        "--address",
        metavar="ADDRESS",
        default="127.0.0.1",
        help="where to listen (default: %(default)s, this machine alone; 0.0.0.0 is every address of the machine)",
    )
    parser.add_argument("--port", metavar="PORT", type=_port, default=8501, help="the port (default: %(default)s)")
    parser.add_argument(
        "--host",
        metavar="NAME",
        action="append",
        default=[],
        help="a host name that the lab answers to, as behind a proxy; may be given more than once",
    )
    parser.add_argument("--cert", metavar="FILE", help="a certificate for TLS, with --key")
    parser.add_argument("--key", metavar="FILE", help="the key of the certificate")
    add_data_root(parser)
    parser.set_defaults(handle=_serve)


def _serve(options: Namespace) -> int:
    root = open_root(options.data_root).path
    home = _REPOSITORY / "lab" / "Home.py"
    if not home.is_file() or find_spec("streamlit") is None:
        raise AccessError("the pages of the lab are not here: run this from a checkout installed by `pip install -e .`")
    if bool(options.cert) != bool(options.key):
        raise AccessError("TLS needs both --cert and --key")
    hosts = allowed_hosts(options.address, options.host)
    file = AccountFile.of(root)
    asks = bool(file.read()) or organisation_login(settings_folders())
    if is_exposed(options.address, options.host) and not asks:
        raise AccessError(WITHOUT_LOGIN)
    command = [sys.executable, "-m", "streamlit", "run", str(home)]
    settings = {"server.address": options.address, "server.port": options.port}
    settings["browser.serverAddress"] = _in_a_url(options.host[0] if options.host else _shown(options.address))
    if options.cert:
        files = {"server.sslCertFile": options.cert, "server.sslKeyFile": options.key}
        settings |= {name: Path(file).expanduser().absolute() for name, file in files.items()}
    for name, value in settings.items():
        command += [f"--{name}", str(value)]
    for host in hosts:
        command += ["--server.allowedHosts", host]
    os.environ["PIANISTID_HOME"] = str(root)
    if os.environ.get(NAMED_BY):
        os.environ[NAMED_BY] = str(file.path)  # relative to where the command was given
    os.chdir(_REPOSITORY)  # where its settings lie
    sys.stdout.flush()
    os.execv(sys.executable, command)


def _shown(address: str) -> str:
    """The address that is printed: of a server on every address the first that others reach."""
    if not is_wildcard(address):
        return address
    return next((one for one in own_addresses() if not is_loopback(one)), "127.0.0.1")


def _in_a_url(host: str) -> str:
    """A host as a URL writes it: an IPv6 address stands in brackets."""
    return f"[{bare_host(host)}]" if ":" in host else host


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise ArgumentTypeError(f"a port is a number from 1 to 65535, not {text!r}")
    return int(text)
