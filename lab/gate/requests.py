"""A request as the gate sees it: where it is for, where it comes from, and whether it may come from there."""

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from starlette.requests import HTTPConnection
from starlette.types import Scope

from pianistid_core.exposure import bare_host

COOKIE = "pianistid_session"  # how the name of the cookie of a login begins
HEALTH = "/_stcore/health"
LOGIN = "/login"
LOGOUT = "/logout"
# Streamlit's figures about itself and its door for programs: nothing of the lab needs them.
_CLOSED = ("/_stcore/metrics", "/_stcore/agent", "/_stcore/script-health-check")
_FOR_PROGRAMS = ("/_stcore/", "/static/", "/media/", "/component/", "/app/")
_SAFE = {"GET", "HEAD", "OPTIONS"}
UPLOAD = "/_stcore/upload_file/"


class Refusal(NamedTuple):
    """Why a request is refused: an HTTP status, and a sentence."""

    status: int
    sentence: str


class Visit:
    """One request or socket; paths are as below the base path at which the lab is served."""

    def __init__(self, scope: Scope, base: str) -> None:
        self.scope = scope
        self.connection = HTTPConnection(scope)
        self.base = base
        path: str = scope["path"]
        inside = not base or path == base or path.startswith(f"{base}/")
        self.path = (path.removeprefix(base) if inside else path) or "/"
        self.is_socket = scope["type"] == "websocket"
        self.method = "GET" if self.is_socket else str(scope["method"]).upper()
        self.host = self.connection.headers.get("host", "")
        # A proxy says so, and whoever else does harms nobody but himself: his cookie does not come back over http.
        told = self.connection.headers.get("x-forwarded-proto", "")
        self.is_secure = scope.get("scheme") in ("https", "wss") or told == "https"
        client = scope.get("client")
        self.address = str(client[0]) if client else ""
        # Browsers keep cookies by host and not by port; two labs of one machine must not log each other out.
        _, port = scope.get("server") or ("", None)
        self.cookie = f"{COOKIE}_{port}" if port else COOKIE
        self.browser_cookie = self.cookie.replace("session", "browser")

    @property
    def is_passed_on(self) -> bool:
        """Whether it says that a proxy has passed it on, so that it may come from anywhere."""
        names = self.connection.headers.keys()
        return any(name in ("forwarded", "via", "x-real-ip") or name.startswith("x-forwarded-") for name in names)

    @property
    def is_closed(self) -> bool:
        """Whether it is for something that nobody is served."""
        return any(self.path == path or self.path.startswith(f"{path}/") for path in _CLOSED)

    @property
    def is_for_page(self) -> bool:
        """Whether a person's browser asks for a page of the lab, so that an answer in HTML will be seen."""
        return (
            not self.is_socket
            and self.method in ("GET", "HEAD")
            and not self.path.startswith(_FOR_PROGRAMS)
            and "text/html" in self.connection.headers.get("accept", "")
        )

    @property
    def is_from_elsewhere(self) -> bool:
        """Whether a browser follows another site's link, and so holds back cookies that are for this site alone."""
        return self.connection.headers.get("sec-fetch-site") in ("cross-site", "same-site")

    @property
    def here(self) -> str:
        """The path and query of the page that is asked for, safe to go back to."""
        query = self.connection.url.query
        return safe_path(quote(self.path, safe="/-._~") + (f"?{query}" if query else ""))

    def refusal(self, hosts: Sequence[str]) -> Refusal | None:
        """Why it may not come from where it comes from: the host that it asks for, or the page that it was made by."""
        name = _host_name(self.connection.headers.getlist("host"))
        if name is None or name not in hosts:
            return Refusal(
                403,
                "this lab does not answer to the host name it was asked by; use an address that it printed when it "
                "started, or start it with `pianistid lab --host NAME`",
            )
        origins = self.connection.headers.getlist("origin")
        if any(not _is_same(origin, self.host) for origin in origins):
            return Refusal(403, "this was asked for by a page of another site; open the lab itself")
        site = self.connection.headers.get("sec-fetch-site", "none")
        if not origins and (self.is_socket or self.method not in _SAFE) and site not in ("none", "same-origin"):
            return Refusal(403, "this was asked for by a page of another site; open the lab itself")
        return None

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies; of one that is sent twice nobody can tell whose it is, and it counts as none."""
        given = ";".join(self.connection.headers.getlist("cookie")).split(";")
        names = [one.partition("=")[0].strip() for one in given]
        return {name: value for name, value in self.connection.cookies.items() if names.count(name) == 1}

    @property
    def size(self) -> int | None:
        """How many bytes the request says that it brings, or None when it does not say."""
        if "transfer-encoding" in self.connection.headers:  # which would count, whatever else is said
            return None
        said = self.connection.headers.get("content-length", "")
        return int(said) if said.isascii() and said.isdigit() and len(said) < 20 else None


def safe_path(path: str) -> str:
    """A path of this site to go on to; the first page when it could lead elsewhere."""
    good = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isascii()
    return path if good and path.isprintable() and len(path) < 2000 else "/"


def _host_name(headers: Sequence[str]) -> str | None:
    """The name in a request's one Host header, without its port; None when it is no such thing."""
    if len(headers) != 1:
        return None
    try:
        parts = urlsplit(f"//{headers[0]}")
        _ = parts.port
    except ValueError:
        return None
    if parts.netloc != headers[0] or "@" in parts.netloc or not parts.hostname:
        return None
    return bare_host(parts.hostname)


def _is_same(origin: str, host: str) -> bool:
    """Whether an origin is that of the host asked for; behind a proxy that adds TLS their schemes differ."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    if parts.scheme not in ("http", "https"):
        return False
    usual = ":80" if parts.scheme == "http" else ":443"
    return parts.netloc.lower().removesuffix(usual) == host.lower().removesuffix(usual)
