"""The gate of the server that Streamlit is about to run, from its settings; and how that server ends."""

import logging
import os
import signal
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from starlette.middleware import Middleware
from streamlit import config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

import housekeeping
import state
from gate import organisation, sessions
from gate.middleware import TICKET_HEADER, Gate
from pianistid_core.accounts import AccountFile
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import AccessError, DataRootError
from pianistid_core.exposure import WITHOUT_LOGIN, allowed_hosts, is_exposed

log = logging.getLogger(__name__)

_THEME = Path(__file__).resolve().parents[2] / ".streamlit" / "config.toml"

_MUST_BE_ON = {
    "server.enableCORS": "pages of other sites could then use the lab",
    "server.enableXsrfProtection": "pages of other sites could then upload into the lab",
}
_MUST_BE_OFF = {
    "server.enableAgentApi": "programs could then use the lab past the login",
    "global.developmentMode": "pages of other sites could then use the lab",
    "server.trustedUserHeaders": "people would be named by what a request says",
    "server.corsAllowedOrigins": "pages of other sites could then use the lab",
}


def gate(ticket: str) -> Middleware:
    """The gate around the pages; Streamlit keeps what it says about a session's person under the name `ticket`.

    Raises: AccessError when the lab may not be served as its settings say, or its accounts cannot be read.
    """
    _check_settings()
    _take_theme(_THEME)
    address = config.get_option("server.address")
    named = [str(host) for host in config.get_option("server.allowedHosts")]
    hosts = allowed_hosts(address, named)
    root = DataRoot.open()
    accounts = AccountFile.of(root.path)
    members = organisation.is_set_up()
    asks = bool(accounts.read()) or members
    exposed = is_exposed(address, named)
    if exposed and not asks:
        raise AccessError(WITHOUT_LOGIN)
    if exposed and not config.get_option("server.sslCertFile"):
        log.warning("passwords cross the network unencrypted unless a proxy adds TLS; --cert and --key do so here")
    # Streamlit looks at these once more for each socket; it is told what the gate goes by.
    config.set_option("server.allowedHosts", list(hosts))
    config.set_option("server.trustedUserHeaders", {TICKET_HEADER: ticket})
    served = sessions.Sessions(accounts, asks=asks)
    sessions.serve(served)
    base = str(config.get_option("server.baseUrlPath") or "").strip("/")
    base = f"/{base}" if base else ""
    return Middleware(Gate, sessions=served, root=partial(in_use, root), hosts=hosts, base=base, members=members)


def in_use(first: DataRoot) -> DataRoot:
    """The data root that the pages work with now; the one that the server began with when it cannot be had."""
    try:
        return state.data_root()
    except DataRootError:
        return first


def _check_settings() -> None:
    for option, danger in _MUST_BE_ON.items():
        if not config.get_option(option):
            raise AccessError(f"{option} is switched off, and {danger}; switch it on")
    for option, danger in _MUST_BE_OFF.items():
        if config.get_option(option):
            raise AccessError(f"{option} is set, and {danger}; leave it out")


def _take_theme(path: Path) -> None:
    """Sets what a file says about the looks and nothing else says: Streamlit reads it in its own folder alone."""
    tables = [("theme", tomllib.loads(path.read_text(encoding="utf-8"))["theme"])]
    while tables:
        place, table = tables.pop()
        for key, value in table.items():
            name = f"{place}.{key}"
            if isinstance(value, dict):
                tables.append((name, value))
            elif not config.is_manually_set(name):
                config.set_option(name, value, str(path))


@asynccontextmanager
async def ends_quietly(_app: Any) -> AsyncIterator[None]:
    """While the server runs, Ctrl-C ends it with status 0: uvicorn raises the signal once more, as an abortion."""
    for number in (signal.SIGINT, signal.SIGTERM):
        server = getattr(signal.getsignal(number), "__self__", None)
        if isinstance(server, uvicorn.Server):
            _believe_only_named_proxies(server)
            signal.signal(number, _ending(server))
    async with housekeeping.kept():
        yield


def _believe_only_named_proxies(server: uvicorn.Server) -> None:
    """Lets only proxies that $FORWARDED_ALLOW_IPS names say whom a request comes from.

    Uvicorn else believes whatever runs on this machine, and a proxy that passes its visitors' headers on as they are
    would let each of them choose the address under which failed logins are counted.
    """
    app = server.config.loaded_app
    if isinstance(app, ProxyHeadersMiddleware) and not os.environ.get("FORWARDED_ALLOW_IPS"):
        app.trusted_hosts = ProxyHeadersMiddleware(app.app, trusted_hosts=[]).trusted_hosts


def _ending(server: uvicorn.Server) -> Any:
    def end(_number: int, _frame: FrameType | None) -> None:
        server.force_exit = server.should_exit  # a second time means at once
        server.should_exit = True

    return end
