"""Who can reach a lab: this machine alone, or others; and whether it may be served so.

A server is exposed when it listens on anything but the loopback addresses, or when it answers to a host name that is
not this machine's own name for itself, as behind a proxy. An exposed lab asks who is there, or it is not served.
"""

import ipaddress
import tomllib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from pianistid_core.errors import AccessError

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")
WITHOUT_LOGIN = (
    "the lab can be reached from other machines and would ask nobody for a password: add an account with "
    "`pianistid access add NAME --role administer`, set up the organisation's login in .streamlit/secrets.toml, or "
    "serve it for this machine alone with `pianistid lab --address 127.0.0.1`"
)

NO_ORGANISATION = (
    "no organisation's login is set up; give [auth] in .streamlit/secrets.toml first, or add an account with a password"
)


def is_loopback(address: str | None) -> bool:
    """Whether only this machine can reach an address; none at all means every address of the machine."""
    if not address:
        return False
    name = bare_host(address)
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def bare_host(host: str) -> str:
    """A host without brackets or a dot at its end, in small letters."""
    return host.strip().lower().removeprefix("[").removesuffix("]").rstrip(".")


def is_exposed(address: str | None, hosts: Sequence[str]) -> bool:
    """Whether others than this machine can reach a server on an address that answers to these host names."""
    return not is_loopback(address) or not all(is_loopback(host) for host in hosts)


def allowed_hosts(address: str | None, hosts: Sequence[str]) -> tuple[str, ...]:
    """The host names and addresses that a server answers to: loopback's, those named, and those it listens on.

    Raises: AccessError for a name that stands for any.
    """
    if any("*" in host for host in hosts):
        raise AccessError(
            "server.allowedHosts may not hold a *, since any page of the web could then reach the lab; name each host"
        )
    found = [*LOOPBACK_NAMES, *(bare_host(host) for host in hosts)]
    if is_wildcard(address):
        found += own_addresses()
    elif address:
        found.append(bare_host(address))
    return tuple(dict.fromkeys(host for host in found if host))


def is_wildcard(address: str | None) -> bool:
    """Whether an address stands for all of the machine's."""
    if not address:
        return True
    try:
        return ipaddress.ip_address(bare_host(address)).is_unspecified
    except ValueError:
        return False


def own_addresses() -> list[str]:
    """The addresses that this machine has, without asking the network for more."""
    import socket

    import psutil

    families = (socket.AF_INET, socket.AF_INET6)
    by_card = psutil.net_if_addrs().values()
    return [one.address.partition("%")[0] for card in by_card for one in card if one.family in families]


def settings_folders() -> list[Path]:
    """Where Streamlit looks for the secrets.toml of a lab that `pianistid lab` serves."""
    repository = Path(__file__).resolve().parents[1]
    return [place / ".streamlit" for place in (Path.home(), repository, repository / "lab")]


def organisation_login(folders: Sequence[Path]) -> bool:
    """Whether an organisation's login is set up in a secrets.toml of one of these folders.

    Raises: AccessError when there is one that cannot be read, or what it needs is not installed.
    """
    for path in (folder / "secrets.toml" for folder in folders):
        try:
            secrets = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:  # the text itself is no part of the message: it holds secrets
            raise AccessError(f"{path} cannot be read: it is damaged, or not allowed to be") from error
        if "auth" in secrets:
            if find_spec("authlib") is None:
                raise AccessError("the organisation's login needs Authlib: `pip install 'pianistid[oidc]'`")
            return True
    return False
