"""Who gets past the gate: serves the lab in its variants and tries what a stranger, a forger and another role would.

Each line of the table is a kind of request: how many were tried, how many were refused as they should be, and one
answer. Where something must be let in, that it is counts as well. Exit status 1 when anything went otherwise.

    python tests/reliability/gate.py            # about a minute; --names 200 tries more of each kind
"""

import argparse
import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from websockets.exceptions import ConnectionClosed, InvalidStatus

from lab_visitor import Answer, PageSocket, ServedLab
from pianistid_core.accounts import AccountFile, Role

PASSWORD = "canary " + secrets.token_urlsafe(9)
COOKIE = "pianistid_session"
PLACES = (
    "/", "/runs", "/index.html", "/static/js/index.js", "/media/0.wav", "/component/x/y.js", "/_stcore/host-config",
    "/_stcore/bidi-components/x/y.js", "/app/static/x", "/auth/login", "/auth/logout", "/oauth2callback",
)  # fmt: skip
TRAVERSALS = (
    "/../../etc/passwd", "/static/../../../../etc/passwd", "/static/..%2f..%2f..%2fetc/passwd", "//etc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd", "/media/..%5c..%5cx", "/component/x/../../../etc/passwd", "/static//etc/passwd",
    "/_stcore/health/../host-config", "/static/%00", "/_stcore/upload_file/../../x/y", "/static/\\\\host\\share",
)  # fmt: skip
HOSTS = (
    "evil.example", "evil.example:8501", "127.0.0.1.evil.example", "localhost.evil.example", "user@localhost",
    "localhost@evil.example", "[::2]", "0.0.0.0", "169.254.169.254", "127.0.0.1/x", "127.0.0.1#", "",
)  # fmt: skip
ORIGINS = (
    "http://evil.example", "https://evil.example", "null", "file://", "http://127.0.0.1:1", "http://localhost",
    "http://127.0.0.1.evil.example", "chrome-extension://abc", "http://user@127.0.0.1", "",
)  # fmt: skip
UNSAFE = ("POST", "PUT", "DELETE", "PATCH")


@dataclass
class Line:
    """One kind of request: how many were tried, how many went as they should, and what one was answered."""

    kind: str
    tried: int = 0
    right: int = 0
    answer: str = ""
    wrong: list[str] = field(default_factory=list)

    def count(self, right: bool, what: str, answer: str) -> None:
        self.tried += 1
        self.right += right
        self.answer = self.answer or answer
        if not right:
            self.wrong.append(f"{what}: {answer}")


class Table:
    """All lines, and the tries that fill them."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def line(self, kind: str) -> Line:
        self.lines.append(Line(kind))
        return self.lines[-1]

    def requests(self, kind: str, tries: Iterator[tuple[str, Answer]], allowed: Callable[[Answer], bool]) -> None:
        line = self.line(kind)
        for what, answer in tries:
            words = answer.text.strip().split("\n")[0][:70] if not answer.text.startswith("<") else "a page"
            line.count(allowed(answer), what, f"{answer.status} {words}".strip())

    def sockets(self, kind: str, tries: Iterator[tuple[str, Callable[[], PageSocket]]], expected: bool) -> None:
        line = self.line(kind)
        for what, begin in tries:
            try:
                with begin() as page:
                    page.run()
                line.count(expected, what, "opened")
            except (InvalidStatus, ConnectionClosed, OSError) as error:
                line.count(not expected, what, str(error)[:70])

    def show(self) -> bool:
        print(f"{'what was tried':58} tried  as it should  for instance")
        for line in self.lines:
            print(f"{line.kind:58} {line.tried:5}  {line.right:12}  {line.answer}")
            for wrong in line.wrong[:5]:
                print(f"    WRONG {wrong}")
        tried, right = sum(line.tried for line in self.lines), sum(line.right for line in self.lines)
        print(f"{'all':58} {tried:5}  {right:12}")
        return tried == right


@contextmanager
def served(root: Path, log: Path, *options: str) -> Iterator[ServedLab]:
    lab = ServedLab(root, log, *options)
    try:
        lab.wait()
        yield lab
    finally:
        lab.end()


def refused(answer: Answer) -> bool:
    return answer.status in (400, 401, 403, 404, 411, 413, 429) and "traceback" not in answer.text.lower()


def either_way(table: Table, lab: ServedLab, cookies: dict[str, str] | None, what: str) -> None:
    """What holds with a login and where nobody is asked: hosts, origins, closed doors, no way out of the folders."""
    page = {"Accept": "text/html"}
    table.requests(
        f"{what}: a host that is not ours",
        (
            (host, lab.request("GET", path, headers={"Host": host}, cookies=cookies))
            for host in HOSTS
            for path in PLACES
        ),
        refused,
    )
    table.requests(
        f"{what}: a request of another site's page",
        (
            (f"{method} {origin}", lab.request(method, path, headers={"Origin": origin}, cookies=cookies, length=0))
            for origin in ORIGINS
            for method in ("GET", *UNSAFE)
            for path in ("/", "/login", "/logout", "/_stcore/upload_file/a/b")
        ),
        refused,
    )
    table.sockets(
        f"{what}: a socket of another site's page",
        ((origin, lambda origin=origin: PageSocket(lab, cookies, origin=origin)) for origin in ORIGINS if origin),
        expected=False,
    )
    table.sockets(
        f"{what}: a socket to a host that is not ours",
        (
            (host, lambda host=host: PageSocket(lab, cookies, origin=f"http://{host}", headers={"Host": host}))
            for host in HOSTS
        ),
        expected=False,
    )
    closed = ("/_stcore/metrics", "/_stcore/agent/openapi.json", "/_stcore/agent/interact", "/_stcore/agent/mcp")
    table.requests(
        f"{what}: metrics, and the door for programs",
        ((path, lab.request(method, path, cookies=cookies, length=0)) for path in closed for method in ("GET", "POST")),
        lambda answer: answer.status == 404,
    )
    table.requests(
        f"{what}: a path that leads out of its folder",
        ((path, lab.request("GET", path, headers=page, cookies=cookies)) for path in TRAVERSALS),
        lambda answer: "root:" not in answer.text and answer.status < 500,
    )
    table.requests(
        f"{what}: every answer is protected",
        ((path, lab.request("GET", path, headers=page, cookies=cookies)) for path in (*PLACES, *TRAVERSALS, *closed)),
        lambda answer: (
            "frame-ancestors 'none'" in answer.headers.get("content-security-policy", "")
            and answer.headers.get("x-content-type-options") == "nosniff"
            and not [name for name in answer.headers if name.startswith("access-control-")]
        ),
    )


def with_accounts(table: Table, lab: ServedLab, file: AccountFile, n_names: int) -> None:
    """What a login is for: strangers, forgers, other roles, sessions that have ended, uploads."""
    forged = [{}] + [{f"{COOKIE}_{lab.port}": secrets.token_urlsafe(32)} for _ in range(n_names)]
    table.requests(
        "login: no cookie, or a forged one",
        ((f"{method} {path}", lab.request(method, path, cookies=cookies, length=0))
         for cookies in forged[:3] for path in PLACES for method in ("GET", *UNSAFE)),
        lambda answer: answer.status == 401,
    )  # fmt: skip
    table.requests(
        "login: more forged cookies",
        (("/", lab.request("GET", "/", cookies=cookies)) for cookies in forged[3:]),
        lambda answer: answer.status == 401,
    )
    table.sockets(
        "login: a socket without a login",
        (("/", lambda cookies=cookies: PageSocket(lab, cookies)) for cookies in forged[:5]),
        expected=False,
    )
    tries = ((f"try {number}", lab.log_in(f"name-{number}", PASSWORD, **{"X-Forwarded-For": "203.0.113.7"}))
             for number in range(25))  # fmt: skip
    answers = list(tries)
    table.requests("login: 25 names guessed from one address, none gets in", iter(answers), lambda a: not a.cookies)
    table.requests("login: ... of which the last have to wait", iter(answers[-3:]), lambda a: a.status == 429)
    ada, bela = (lab.log_in(name, PASSWORD).cookies for name in ("Ada", "Bela"))
    table.requests("login: the right password lets in", iter([("Ada", lab.request("GET", "/", cookies=ada))]),
                   lambda answer: answer.status == 200)  # fmt: skip
    either_way(table, lab, ada, "logged in")
    with PageSocket(lab, ada) as mine, PageSocket(lab, bela, resume=mine.session or None) as other:
        mine.run()
        other.run()
        uploads(table, lab, mine, other)
        line = table.line("login: a page is closed when its session is ended")
        file.set_password("Bela", PASSWORD + "2")
        try:
            list(other.messages(timeout_s=20))
        except ConnectionClosed as error:
            line.count(True, "password", f"closed {error.rcvd.code if error.rcvd else ''}")
        except TimeoutError:
            line.count(False, "password", "still open")
    ended = lab.log_in("Ada", PASSWORD).cookies
    lab.request("POST", "/logout", headers={"Origin": lab.url}, cookies=ended)
    table.requests(
        "login: a cookie after logout, and after another password",
        ((name, lab.request("GET", "/", cookies=cookies)) for name, cookies in (("logout", ended), ("password", bela))),
        lambda answer: answer.status == 401,
    )


def uploads(table: Table, lab: ServedLab, mine: PageSocket, other: PageSocket) -> None:
    """Uploads that are too large, too many, or into another's page."""
    table.requests(
        "uploads: too large, by what they say",
        ((f"{size} MB", mine.upload(lab, b"", length=size << 20)) for size in (11, 600, 5_000, 1 << 30)),
        lambda answer: answer.status == 413,
    )
    path = f"/_stcore/upload_file/{mine.session}/x"
    table.requests(
        "uploads: without a length, or without the page's token",
        iter([
            ("chunked", lab.request("PUT", path, headers={"Transfer-Encoding": "chunked"}, cookies=mine.cookies,
                                    body=b"0\r\n\r\n")),
            ("no token", lab.request("PUT", path, cookies=mine.cookies, body=b"x")),
        ]),
        refused,
    )  # fmt: skip
    session, other.session = other.session, mine.session
    table.requests(
        "uploads: into another person's page",
        ((f"try {number}", other.upload(lab, b"x")) for number in range(5)),
        lambda answer: answer.status == 403,
    )
    other.session = session
    four = b"x" * (4 << 20)
    answers = [(f"file {number}", mine.upload(lab, four, file=f"file-{number}")) for number in range(8)]
    taken = [answer for _, answer in answers if answer.status == 204]
    table.requests("uploads: files of 4 MB until a page is full (2 x 10 MB)", iter(answers[len(taken) :]),
                   lambda answer: answer.status == 413)  # fmt: skip
    table.line("uploads: ... of which were taken (5)").count(len(taken) == 5, "taken", str(len(taken)))


def never_served(table: Table, folder: Path) -> None:
    """Ways to start it that would expose it, none of which may serve anything."""
    line = table.line("started so that others could use it unasked")
    for options in (
        ["--server.address", "0.0.0.0"], ["--server.address", "::"], ["--server.address", ""],
        ["--server.allowedHosts", "lab.example.org"], ["--server.allowedHosts", "*"], ["--server.enableCORS", "false"],
        ["--server.enableXsrfProtection", "false"], ["--server.enableAgentApi", "true"],
        ["--server.corsAllowedOrigins", "http://evil.example"],
        ["--server.trustedUserHeaders", '{"X-User": "name"}'],
    ):  # fmt: skip
        lab = ServedLab(folder / "open", folder / "never", *options)
        try:
            lab.wait()
            line.count(False, " ".join(options), "it is served")
        except RuntimeError:
            said = (folder / "never").read_text().strip().split("\n")[-1]
            line.count("is not served" in said, " ".join(options), said[:70])
        lab.end()
        (folder / "never").unlink()


def no_secret_told(table: Table, folder: Path, secret: str) -> None:
    line = table.line("files in which a password or hash could stand, and does not")
    for path in [*folder.rglob("*log*"), *folder.rglob("*.jsonl")]:
        if path.is_file():
            text = path.read_text(errors="replace")
            line.count(PASSWORD not in text and secret not in text, path.name, "clean")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, default=50, help="forged cookies to try (default: %(default)s)")
    options = parser.parse_args()
    os.environ["FORWARDED_ALLOW_IPS"] = (
        "127.0.0.1"  # as behind a proxy, by which guessing comes from an address of its own
    )
    table = Table()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with served(folder / "open", folder / "open.log") as lab:
            either_way(table, lab, None, "this machine alone")
        file = AccountFile(folder / "asked" / "access.json")
        for person, role in (("Ada", Role.ADMINISTER), ("Bela", Role.LOOK)):
            file.add(person, role, PASSWORD)
        with served(folder / "asked", folder / "asked.log", "--server.maxUploadSize", "10") as lab:
            with_accounts(table, lab, file, options.names)
        never_served(table, folder)
        account = file.read().account("Ada")
        no_secret_told(table, folder, account.password if account else PASSWORD)
    return 0 if table.show() else 1


if __name__ == "__main__":
    sys.exit(main())
