"""The gate of a lab that is really served: who comes in, what is refused, and what nobody is told."""

import asyncio
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest
from starlette.types import Message, Receive, Scope, Send
from streamlit import config
from streamlit.proto.BackMsg_pb2 import BackMsg
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gate import browsers
from gate.attempts import Attempts
from gate.headers import inline_scripts, page_policy
from gate.middleware import Gate
from gate.organisation import address_in
from gate.refused_logins import RefusedLogins
from gate.requests import safe_path
from gate.server import in_use
from gate.sessions import LASTS_S, Sessions
from gate.uploads import MOST_FILES, Uploads, in_time
from lab_support import to_its_end
from lab_visitor import XSRF, PageSocket, ServedLab
from pianistid_core.accounts import AccountFile, Role
from pianistid_core.audit import entries
from pianistid_core.datasets.root import DataRoot

PASSWORD = "canary battery staple"
COOKIE = "pianistid_session"  # where no port is known
PAGE = {"Accept": "text/html,application/xhtml+xml"}


@dataclass
class Guarded:
    """A lab with accounts, and the cookies of two who have logged in."""

    lab: ServedLab
    file: AccountFile
    ada: dict[str, str]
    look: dict[str, str]

    @property
    def cookie(self) -> str:
        """The name of the cookie of a login: one of its own for each lab on a machine."""
        return f"{COOKIE}_{self.lab.port}"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("gate")
    file = AccountFile.of(folder / "root")
    file.add("Ada", Role.ADMINISTER, PASSWORD)
    file.add("Looker", Role.LOOK, PASSWORD)
    lab = ServedLab(folder / "root", folder / "log")
    try:
        lab.wait()
        name_of = f"{COOKIE}_{lab.port}"
        cookies = [
            {name_of: lab.log_in(name, PASSWORD).cookies[name_of], "_streamlit_xsrf": "2|00000000|" + 32 * "0" + "|1"}
            for name in ("Ada", "Looker")
        ]
        yield Guarded(lab, file, *cookies)
    finally:
        lab.end()
    log = lab.log.read_text()
    said = log + (folder / "root" / "audit" / "log.jsonl").read_text()
    for secret in (PASSWORD, cookies[0][name_of], cookies[1][name_of]):
        assert secret not in said
    assert "Traceback" not in log, log


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/runs"),
        ("GET", "/index.html"),
        ("GET", "/static/js/index.js"),
        ("GET", "/media/0123456789.wav"),
        ("GET", "/component/x/index.html"),
        ("GET", "/_stcore/host-config"),
        ("GET", "/_stcore/bidi-components/x/y.js"),
        ("GET", "//_stcore/host-config"),
        ("GET", "/_stcore/../_stcore/host-config"),
        ("GET", "/_stcore/health/../host-config"),
        ("GET", "/_stcore/%68ost-config"),
        ("GET", "/auth/login"),
        ("GET", "/oauth2callback"),
        ("PUT", "/_stcore/upload_file/session/file"),
        ("DELETE", "/_stcore/upload_file/session/file"),
        ("OPTIONS", "/_stcore/upload_file/session/file"),
        ("POST", "/"),
    ],
)
@pytest.mark.parametrize("cookie", [None, "forged", ""], ids=["no cookie", "forged", "empty"])
def test_without_a_login_nothing_is_served(guarded: Guarded, method: str, path: str, cookie: str | None) -> None:
    cookies = {} if cookie is None else {guarded.cookie: cookie}
    answer = guarded.lab.request(method, path, headers={"Origin": guarded.lab.url}, cookies=cookies)
    assert answer.status == 401
    assert answer.text.count("\n") == 1 and "log in" in answer.text.lower()
    page = guarded.lab.request("GET", path, headers=PAGE, cookies=cookies)
    assert page.status in (303, 401) and "streamlit" not in page.text.lower()


def test_a_cookie_that_is_sent_twice_is_nobodys(guarded: Guarded) -> None:
    line = f"{guarded.cookie}=forged; {guarded.cookie}={guarded.ada[guarded.cookie]}"
    assert guarded.lab.request("GET", "/runs", headers={"Cookie": line}).status == 401


def test_a_login_opens_the_page_that_was_asked_for(guarded: Guarded) -> None:
    asked = guarded.lab.request("GET", "/runs?run=a%2Fb", headers=PAGE)
    assert (asked.status, asked.headers["location"]) == (303, "/login?next=/runs%3Frun%3Da%252Fb")
    form = guarded.lab.request("GET", asked.headers["location"])
    assert 'value="/runs?run=a%2Fb"' in form.text and "<script" not in form.text
    assert "default-src 'none'" in form.headers["content-security-policy"]
    done = guarded.lab.log_in("Ada", PASSWORD, "/runs?run=a%2Fb")
    assert (done.status, done.headers["location"]) == (303, "/runs?run=a%2Fb")
    kept = done.headers["set-cookie"].lower()
    assert "httponly" in kept and "samesite=strict" in kept and "path=/" in kept and f"max-age={int(LASTS_S)}" in kept
    assert guarded.lab.request("GET", "/runs", cookies=done.cookies).status == 200
    over_tls = guarded.lab.log_in("Ada", PASSWORD, **{"X-Forwarded-Proto": "https"})
    assert "secure" in over_tls.headers["set-cookie"].lower()


def test_a_wrong_password_and_an_unknown_name_are_answered_alike(guarded: Guarded) -> None:
    wrong = guarded.lab.log_in("Ada", "wrong horse battery")
    unknown = guarded.lab.log_in("Eve", "wrong horse battery")
    assert wrong.status == unknown.status == 401
    assert wrong.text.replace("Ada", "") == unknown.text.replace("Eve", "")
    assert guarded.cookie not in wrong.cookies
    script = guarded.lab.log_in('"><script>x</script>', "wrong horse battery")
    assert "<script" not in script.text


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "file://"])
def test_another_sites_page_can_ask_nothing(guarded: Guarded, origin: str) -> None:
    assert guarded.lab.log_in("Ada", PASSWORD, Origin=origin).status == 403
    for method, path in [("GET", "/_stcore/host-config"), ("PUT", "/_stcore/upload_file/a/b"), ("POST", "/logout")]:
        assert guarded.lab.request(method, path, headers={"Origin": origin}, cookies=guarded.ada).status == 403
    with pytest.raises(InvalidStatus, match="403"):
        PageSocket(guarded.lab, guarded.ada, origin=origin)
    without = guarded.lab.request("POST", "/logout", headers={"Sec-Fetch-Site": "cross-site"}, cookies=guarded.ada)
    assert without.status == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "a@127.0.0.1", "127.0.0.1#", "[::1", ""]
)
def test_another_host_name_is_refused_though_it_leads_here(guarded: Guarded, host: str) -> None:
    for path in ("/", "/_stcore/health", "/login"):
        answer = guarded.lab.request("GET", path, headers={"Host": host}, cookies=guarded.ada)
        assert answer.status in (400, 403), path
    with pytest.raises(InvalidStatus):
        PageSocket(guarded.lab, guarded.ada, origin=f"http://{host}", headers={"Host": host})


@pytest.mark.parametrize("path", ["/_stcore/metrics", "/_stcore/agent/openapi.json", "/_stcore/agent/interact"])
def test_what_nobody_needs_is_closed_to_all(guarded: Guarded, path: str) -> None:
    assert guarded.lab.request("GET", path, cookies=guarded.ada).status == 404
    assert guarded.lab.request("POST", path, cookies=guarded.ada, body=b"{}").status == 404


def test_health_is_open_and_says_nothing(guarded: Guarded) -> None:
    answer = guarded.lab.request("GET", "/_stcore/health")
    assert (answer.status, answer.text) == (200, "ok")
    assert guarded.lab.request("POST", "/_stcore/health").status == 401


@pytest.mark.parametrize(
    "path", ["/", "/login", "/nothing/here", "/_stcore/metrics", "/_stcore/health", "/media/x.wav"]
)
def test_every_answer_says_what_protects_it(guarded: Guarded, path: str) -> None:
    for cookies in (None, guarded.ada):
        headers = guarded.lab.request("GET", path, cookies=cookies).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe-eval'" not in headers["content-security-policy"].replace("wasm-unsafe-eval'", "")
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
        assert "midi=(self)" in headers["permissions-policy"] and "camera=()" in headers["permissions-policy"]
        assert headers["cache-control"] == "no-store"
        assert not [name for name in headers if name.startswith("access-control-")]


def test_a_socket_needs_a_login_and_a_made_up_ticket_is_dropped(guarded: Guarded) -> None:
    with pytest.raises(InvalidStatus, match="401"):
        PageSocket(guarded.lab, {})
    with PageSocket(guarded.lab, guarded.look, headers={"X-Pianistid-Ticket": "0" * 64}) as page:
        drawn = page.run()
    assert "Looker, may look" in drawn


def test_one_persons_page_is_not_anothers(guarded: Guarded) -> None:
    with PageSocket(guarded.lab, guarded.ada) as page:
        page.run()
        assert page.upload(guarded.lab, b"MThd").status == 204
        stranger = PageSocket(guarded.lab, guarded.look, resume=page.session)
        with stranger:
            assert "Looker, may look" in stranger.run()  # a session of its own, not Ada's
            assert stranger.session != page.session
            stranger.session = page.session
            assert stranger.upload(guarded.lab, b"MThd").status == 403
            path = f"/_stcore/upload_file/{page.session}/a-file"
            assert guarded.lab.request("DELETE", path, cookies=guarded.look).status == 403


def test_uploads_are_bounded_before_they_are_read(guarded: Guarded) -> None:
    with PageSocket(guarded.lab, guarded.ada) as page:
        page.run()
        huge = page.upload(guarded.lab, b"", length=600 << 20)
        assert huge.status == 413 and "at most 500 MB" in huge.text
        path = f"/_stcore/upload_file/{page.session}/a-file"
        headers = {"Origin": guarded.lab.url, "Transfer-Encoding": "chunked"}
        unsaid = guarded.lab.request("PUT", path, headers=headers, cookies=page.cookies, body=b"0\r\n\r\n")
        assert unsaid.status == 411
        for number in range(5):
            assert page.upload(guarded.lab, b"x", file=f"file-{number}").status == 204
    assert MOST_FILES > 1_000  # a folder of performances comes through


def test_a_file_comes_once_at_a_time(guarded: Guarded) -> None:
    with PageSocket(guarded.lab, guarded.ada) as page, socket.create_connection(("127.0.0.1", guarded.lab.port)) as put:
        page.run()
        cookies = "; ".join(f"{name}={value}" for name, value in page.cookies.items())
        head = [
            f"PUT /_stcore/upload_file/{page.session}/a-file HTTP/1.1", f"Host: 127.0.0.1:{guarded.lab.port}",
            f"Origin: {guarded.lab.url}", f"Cookie: {cookies}", f"X-Xsrftoken: {page.cookies[XSRF]}",
            "Content-Type: multipart/form-data; boundary=x", "Content-Length: 1000000", "Expect: 100-continue",
        ]  # fmt: skip
        put.sendall("\r\n".join([*head, "", ""]).encode())
        put.settimeout(60)
        assert b" 100 " in put.recv(100)  # it has been let in, and is waited for
        assert page.upload(guarded.lab, b"x").status == 409
        assert page.upload(guarded.lab, b"x", file="another").status == 204


@pytest.mark.parametrize("how", ["password", "remove", "log out"])
def test_a_page_is_closed_when_its_persons_session_ends(guarded: Guarded, how: str) -> None:
    guarded.file.add("Guest", Role.RUN, PASSWORD)
    try:
        cookies = guarded.lab.log_in("Guest", PASSWORD).cookies
        with PageSocket(guarded.lab, cookies) as page:
            assert "Guest, may run" in page.run()
            if how == "password":
                guarded.file.set_password("Guest", "another battery staple")
            elif how == "remove":
                guarded.file.remove("Guest")
            else:
                done = guarded.lab.request("POST", "/logout", headers={"Origin": guarded.lab.url}, cookies=cookies)
                assert (done.status, done.headers["location"]) == (303, "/login")
            with pytest.raises(ConnectionClosed):
                list(page.messages(timeout_s=20))
        assert guarded.lab.request("GET", "/runs", cookies=cookies).status == 401
    finally:
        if guarded.file.read().account("Guest"):
            guarded.file.remove("Guest")


def test_another_role_counts_from_the_next_click(guarded: Guarded) -> None:
    with PageSocket(guarded.lab, guarded.look) as page:
        guarded.file.set_role("Looker", Role.RUN)
        try:
            assert "Looker, may run" in page.run()
        finally:
            guarded.file.set_role("Looker", Role.LOOK)
        assert "Looker, may look" in page.run()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--server.address", "0.0.0.0"], "would ask nobody for a password"),
        (["--server.enableCORS", "false"], "server.enableCORS is switched off"),
    ],
)
def test_an_unprotected_lab_is_not_served_to_others(tmp_path: Path, options: list[str], words: str) -> None:
    lab = ServedLab(tmp_path / "root", tmp_path / "log", *options)
    assert lab.process.wait(60) == 1
    said = (tmp_path / "log").read_text()
    assert words in said and "Traceback" not in said


def test_another_lab_on_this_machine_has_another_cookie(guarded: Guarded) -> None:
    """Browsers keep cookies by host, not by port."""
    token = guarded.ada[guarded.cookie]
    assert guarded.lab.request("GET", "/runs", cookies={guarded.cookie: token, f"{COOKIE}_1": "another"}).status == 200
    assert guarded.lab.request("GET", "/runs", cookies={f"{COOKIE}_1": token}).status == 401


# --- without a server ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["//evil.example", "https://evil.example", "/\\evil.example", "\\\\evil", "", "/a\r\nX: y", "javascript:x", "/é"],
)
def test_a_login_leads_nowhere_else(path: str) -> None:
    assert safe_path(path) == "/"
    assert safe_path("/runs?run=a%2Fb&x=1") == "/runs?run=a%2Fb&x=1"


@pytest.mark.parametrize(("verified", "asked", "accepted"), [
    (True, True, True), (False, False, False), (None, False, True), ("false", False, False), ("true", False, False),
])  # fmt: skip
def test_an_address_counts_when_the_provider_vouches_for_it(verified: object, asked: bool, accepted: bool) -> None:
    said = {"is_logged_in": True, "email": "ada@example.org", "email_verified": verified}
    assert bool(address_in(said)) is asked
    assert bool(address_in(said, unverified=True)) is accepted
    assert address_in({**said, "is_logged_in": "yes"}, unverified=True) is None


def test_one_person_leaves_others_room_in_however_many_pages() -> None:
    whose = {"first": "Lou", "second": "Lou", "third": "Rob"}.get
    uploads, large = Uploads(whose), config.get_option("server.maxUploadSize") << 20
    with uploads.coming("first", "a", large), uploads.coming("second", "b", large):
        assert uploads.problem("first", "a", 1) == (409, "this file is being uploaded already; wait until it is there")
        problem = uploads.problem("second", "c", 2 << 20)
        assert problem and problem[0] == 413 and "pages of one person" in problem[1]
        assert uploads.problem("third", "c", large) is None
    assert uploads.problem("second", "c", large) is None


def test_an_upload_that_does_not_come_is_given_up() -> None:
    sent = [b"x" * 10, b"x" * 10]

    async def receive() -> Message:
        if not sent:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": sent.pop(), "more_body": True}

    async def upload(slowest: float) -> int:
        timely, taken = in_time(receive, patience_s=0.05, slowest=slowest), 0
        while True:
            try:
                taken += len((await timely())["body"])
            except TimeoutError:
                return taken

    assert to_its_end(asyncio.wait_for(upload(1.0), 20)) == 20  # what has come is no reason to wait longer at one time


def test_an_upload_that_only_drips_is_given_up() -> None:
    async def receive() -> Message:
        await asyncio.sleep(0.01)  # never a long pause, and never much
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def drips() -> None:
        timely = in_time(receive, patience_s=0.2, slowest=1e6)
        for _ in range(200):
            await timely()

    with pytest.raises(TimeoutError):
        to_its_end(drips())


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_session_ends_by_itself(tmp_path: Path) -> None:
    clock = Clock()
    file = AccountFile(tmp_path / "access.json")
    account = file.add("Ada", Role.RUN, PASSWORD)
    sessions = Sessions(file, asks=False, clock=clock)
    token = sessions.open(account)
    session = sessions.find(token)
    assert session and token not in (session.ticket, repr(session))
    clock.now += LASTS_S - 1
    assert sessions.find(token)
    clock.now += 2
    assert sessions.find(token) is None and sessions.person(session.ticket) is None


def test_one_person_holds_so_many_sessions_and_no_more(tmp_path: Path) -> None:
    file = AccountFile(tmp_path / "access.json")
    account = file.add("Ada", Role.RUN, PASSWORD)
    sessions = Sessions(file, asks=True)
    tokens = [sessions.open(account) for _ in range(30)]
    assert [bool(sessions.find(token)) for token in tokens] == [False] * 10 + [True] * 20


def test_an_open_lab_asks_as_soon_as_there_is_an_account_and_never_stops(tmp_path: Path) -> None:
    file = AccountFile(tmp_path / "access.json")
    sessions = Sessions(file, asks=False)
    person = sessions.person(sessions.machine)
    assert person and person.role is Role.ADMINISTER
    file.add("Ada", Role.LOOK, PASSWORD)
    assert sessions.person(sessions.machine) is None
    file.remove("Ada")
    assert sessions.person(sessions.machine) is None
    file.path.write_text("damaged")
    assert Sessions(file, asks=False).asks()


def test_who_fails_waits_longer_each_time_and_a_success_forgets_it() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    waits = []
    for _ in range(12):
        wait = attempts.begin("Ada", "10.0.0.1")
        waits.append(wait)
        if wait:
            clock.now += wait
            assert attempts.begin("Ada", "10.0.0.1") == 0
    assert waits[:5] == [0.0] * 5 and waits[5:8] == [5.0, 10.0, 20.0]
    assert attempts.begin("Bela", "10.0.0.1") == 0  # from the same house, so far
    assert attempts.begin("Ada", "10.0.0.2") == 0  # nobody is kept out by a stranger's tries
    clock.now += 400
    assert attempts.begin("Ada", "10.0.0.1") == 0
    attempts.succeeded("Ada", "10.0.0.1")
    assert [attempts.begin("Ada", "10.0.0.1") for _ in range(5)] == [0.0] * 5


def test_many_names_from_one_address_wait_too_and_memory_is_bounded() -> None:
    attempts = Attempts(Clock())
    waits = []
    for number in range(1, 40):
        waits.append(attempts.begin(f"name-{number}", f"2001:db8::{number:x}"))
        attempts.failed(f"name-{number}", f"2001:db8::{number:x}")
    assert waits[:20] == [0.0] * 20 and waits[20] > 0  # one household's half of the address
    for number in range(20_000):
        attempts.begin(f"name-{number}", f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(attempts) <= 10_000


def test_a_class_behind_one_address_logs_in_at_once_and_strangers_keep_out_no_known_browser() -> None:
    attempts = Attempts(Clock())
    assert [attempts.begin(f"name-{number}", "10.0.0.1") for number in range(40)] == [0.0] * 40
    for number in range(100):
        attempts.begin("Ada", f"10.1.0.{number}")
        attempts.failed("Ada", "10.0.0.1")
    assert attempts.begin("Ada", "10.0.0.1") > 0 and attempts.begin("Ada", "10.2.0.1") > 0
    waits = [attempts.begin("Ada", "10.0.0.1", "known") for _ in range(7)]
    assert waits[:5] == [0.0] * 5 and waits[6] > 0  # which guesses no more than another
    attempts.succeeded("Ada", "10.0.0.1", "known")
    assert attempts.begin("Ada", "10.0.0.1", "known") == 0


def test_a_browser_is_known_to_one_account_until_it_has_another_password(tmp_path: Path) -> None:
    file = AccountFile(tmp_path / "access.json")
    ada, _ = file.add("Ada", Role.LOOK, PASSWORD), file.add("Bela", Role.LOOK, PASSWORD)
    given = browsers.mark(ada)
    assert browsers.known(file.read(), "ada", given) and "Ada" not in given
    assert not browsers.known(file.read(), "Bela", given)
    assert not any(browsers.known(file.read(), "Ada", forged) for forged in ("", ".", "é", given[:-1], f"0{given}"))
    file.set_password("Ada", "another battery staple")
    assert not browsers.known(file.read(), "Ada", given)


def test_failed_logins_are_told_of_now_and_then() -> None:
    clock = Clock()
    refused = RefusedLogins(clock)
    assert [refused.count("Ada") for _ in range(5)] == [1, 0, 0, 0, 0]
    assert [refused.count(None) for _ in range(3)] == [1, 0, 0]
    clock.now += 3600
    assert refused.count("Ada") == 5


class Door:
    """A gate of its own, to which the form of a login is sent."""

    def __init__(self, folder: Path, *, asks: bool = True) -> None:
        self.file = AccountFile(folder / "access.json")
        if asks:
            self.file.add("Ada", Role.LOOK, PASSWORD)
        self.root = DataRoot(folder)
        sessions = Sessions(self.file, asks=asks)
        self.gate = Gate(self._page, sessions=sessions, root=lambda: self.root, hosts=["localhost"])

    async def _page(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def log_in(
        self, name: str, password: str, address: str, *, gone: bool = False, **headers: str
    ) -> tuple[int, str]:
        """The status and the cookies of the answer."""
        told: list[Message] = [
            {"type": "http.request", "body": urlencode({"name": name, "password": password}).encode()}
        ]
        told += [{"type": "http.disconnect"}] if gone else []
        sent: list[Message] = []

        async def receive() -> Message:
            if not told:
                await asyncio.Event().wait()
            return told.pop(0)

        async def send(message: Message) -> None:
            sent.append(message)

        given = {"host": "localhost", "content-type": "application/x-www-form-urlencoded"} | headers
        pairs = [(key.replace("_", "-").encode(), value.encode()) for key, value in given.items()]
        scope = {"type": "http", "method": "POST", "path": "/login", "query_string": b"", "headers": pairs}
        await self.gate({**scope, "scheme": "http", "client": (address, 1)}, receive, send)
        cookies = [value.decode().partition(";")[0] for key, value in sent[0]["headers"] if key == b"set-cookie"]
        return sent[0]["status"], "; ".join(cookies)


def test_a_login_is_written_down_where_the_pages_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    door, first = Door(tmp_path), DataRoot(tmp_path / "first")
    monkeypatch.setenv("PIANISTID_HOME", str(tmp_path / "second"))
    door.root = in_use(first)
    assert to_its_end(door.log_in("Ada", PASSWORD, "10.0.0.1"))[0] == 303
    assert [line.what for line in entries(DataRoot(tmp_path / "second"))] == ["log in"] and not entries(first)
    (tmp_path / "second" / "audit").rename(tmp_path / "aside")
    (tmp_path / "second").rmdir()
    (tmp_path / "second").touch()
    assert in_use(first) is first  # a file is in its place


def test_many_logins_at_once_wait_in_a_line_that_has_an_end_and_who_is_known_passes_it(tmp_path: Path) -> None:
    door = Door(tmp_path)

    async def crowd() -> tuple[list[int], int]:
        _, cookies = await door.log_in("Ada", PASSWORD, "10.0.0.9")
        strangers = [asyncio.create_task(door.log_in(f"name-{n}", PASSWORD, "10.0.0.1", gone=n > 1)) for n in range(60)]
        await asyncio.sleep(0)
        known, _ = await door.log_in("Ada", PASSWORD, "10.0.0.1", cookie=cookies)
        return [status for status, _ in await asyncio.gather(*strangers)], known

    begun = time.monotonic()
    statuses, known = to_its_end(crowd())
    assert time.monotonic() - begun < 15  # nothing is worked out for whoever has gone
    assert known == 303 and statuses.count(503) == 20 and set(statuses) == {401, 503}
    refused = [entry for entry in entries(door.root) if entry.ended == "refused"]
    assert [(entry.who, entry.what) for entry in refused] == [("somebody", "log in")]
    assert PASSWORD not in str(refused)


@pytest.mark.parametrize("name", ["forwarded", "x_forwarded_for", "x_forwarded_host", "via", "x_real_ip"])
def test_an_open_lab_serves_nobody_whom_a_proxy_passes_on(tmp_path: Path, name: str) -> None:
    status, _ = to_its_end(Door(tmp_path, asks=False).log_in("Ada", PASSWORD, "127.0.0.1", **{name: "10.0.0.1"}))
    assert status == 403
    assert to_its_end(Door(tmp_path, asks=False).log_in("Ada", PASSWORD, "127.0.0.1"))[0] == 200


@pytest.mark.parametrize(("role", "lets_through"), [(Role.LOOK, 1), (Role.RUN, 1), (Role.ADMINISTER, 2)])
def test_only_who_administers_can_empty_what_all_pages_share(tmp_path: Path, role: Role, lets_through: int) -> None:
    file = AccountFile(tmp_path / "access.json")
    sessions = Sessions(file, asks=True)
    token = sessions.open(file.add("Ada", role, PASSWORD))
    empty, again = BackMsg(), BackMsg()
    empty.clear_cache = True
    again.rerun_script.query_string = ""
    told = [{"type": "websocket.receive", "bytes": one.SerializeToString()} for one in (empty, again)]
    heard: list[Message] = []

    async def page(_scope: Scope, receive: Receive, _send: Send) -> None:
        while (message := await receive())["type"] == "websocket.receive":
            heard.append(message)

    async def receive() -> Message:
        return told.pop(0) if told else {"type": "websocket.disconnect"}

    async def send(_message: Message) -> None:
        pass

    async def visit() -> None:
        headers = [(b"host", b"localhost"), (b"cookie", f"{COOKIE}={token}".encode())]
        gate = Gate(page, sessions=sessions, root=lambda: DataRoot(tmp_path), hosts=["localhost"])
        await gate({"type": "websocket", "path": "/_stcore/stream", "headers": headers, "scheme": "ws"}, receive, send)

    to_its_end(visit())
    assert len(heard) == lets_through and heard[-1]["bytes"] == again.SerializeToString()


def test_the_policy_runs_the_servers_scripts_and_no_others() -> None:
    policy = page_policy("127.0.0.1:8501", inline_scripts())
    scripts = next(part for part in policy.split("; ") if part.startswith("script-src"))
    assert "'unsafe-inline'" not in scripts and "'unsafe-eval'" not in scripts and "http" not in scripts
    assert "'sha256-" in scripts


def test_tries_do_not_hold_up_the_lab(guarded: Guarded) -> None:
    """Failures of one address are slowed down by an answer, never by keeping a request waiting."""
    for number in range(8):  # whom nobody has named as a proxy cannot choose another address each time
        answer = guarded.lab.log_in("Guest", "wrong horse battery", **{"X-Forwarded-For": f"203.0.113.{number}"})
        if answer.status == 429:
            break
    assert answer.status == 429 and int(answer.headers["retry-after"]) >= 1
    begun = time.monotonic()
    assert guarded.lab.request("GET", "/_stcore/health").status == 200
    assert time.monotonic() - begun < 5
