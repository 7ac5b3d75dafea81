"""A visitor of a lab that is really served: requests, a login and a page's socket, without a browser."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

REPOSITORY = Path(__file__).resolve().parent.parent
XSRF = "_streamlit_xsrf"
BOUNDARY = "where-a-part-ends"


@dataclass
class Answer:
    """An answer to a request; header names are in small letters."""

    status: int
    headers: dict[str, str]
    text: str
    cookies: dict[str, str] = field(default_factory=dict)


class ServedLab:
    """`streamlit run lab/Home.py` on a free port, with a log of its own, started in a folder."""

    def __init__(self, root: Path, log: Path, *options: str, folder: Path = REPOSITORY) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.log = log
        environment = os.environ | {"PIANISTID_HOME": str(root), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "streamlit", "run", str(REPOSITORY / "lab" / "Home.py")]
        command += ["--server.port", str(self.port), *options]
        with log.open("ab") as said:
            self.process = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait(self, timeout_s: float = 90) -> None:
        """Waits until it answers. Raises: RuntimeError when it ends or takes too long."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError):
                if self.request("GET", "/_stcore/health").status == 200:
                    return
            time.sleep(0.1)
        raise RuntimeError(f"the lab did not start: {self.log.read_text()[-2000:]}")

    def end(self, number: int = signal.SIGTERM) -> int:
        """Sends it a signal and gives its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        cookies: dict[str, str] | None = None,
        body: bytes | None = None,
        length: int | None = None,
    ) -> Answer:
        """One request as it stands: nothing but what is given is sent along; `length` is said instead of the body's."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        given = {"Host": f"127.0.0.1:{self.port}"} | (headers or {})
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in given.items():
                connection.putheader(name, value)
            if cookies:
                connection.putheader("Cookie", "; ".join(f"{name}={value}" for name, value in cookies.items()))
            if (body is not None or length is not None) and "Transfer-Encoding" not in given:
                connection.putheader("Content-Length", str(len(body or b"") if length is None else length))
            connection.endheaders(body)
            got = connection.getresponse()
            pairs = [(name.lower(), value) for name, value in got.getheaders()]
            set_cookies = [value.partition(";")[0].partition("=") for name, value in pairs if name == "set-cookie"]
            text = got.read().decode("utf-8", "replace")
            return Answer(got.status, dict(pairs), text, {name: value for name, _, value in set_cookies})
        finally:
            connection.close()

    def log_in(self, name: str, password: str, following: str = "/", **headers: str) -> Answer:
        """Sends the form of the login, as a browser does."""
        body = urlencode({"name": name, "password": password, "next": following}).encode()
        kind = {"Content-Type": "application/x-www-form-urlencoded", "Origin": self.url}
        return self.request("POST", "/login", headers=kind | headers, body=body)


class PageSocket:
    """A page's socket, with the session that Streamlit has opened for it."""

    def __init__(
        self,
        lab: ServedLab,
        cookies: dict[str, str] | None = None,
        *,
        origin: str | None = "",
        headers: dict[str, str] | None = None,
        resume: str | None = None,
    ) -> None:
        token = (cookies or {}).get("_streamlit_xsrf") or lab.request("GET", "/_stcore/health").cookies[
            "_streamlit_xsrf"
        ]
        self.cookies = {XSRF: token} | (cookies or {})
        line = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        names = ["streamlit", token, *([resume] if resume else [])]
        self._open = contextlib.ExitStack()
        socket = connect(
            f"ws://127.0.0.1:{lab.port}/_stcore/stream",
            origin=Origin(lab.url if origin == "" else origin) if origin is not None else None,
            subprotocols=[Subprotocol(name) for name in names],
            additional_headers={"Cookie": line} | (headers or {}),
            max_size=None,
            open_timeout=60,
            close_timeout=1,
        )
        self.connection: ClientConnection = self._open.enter_context(socket)
        self.session = ""

    def __enter__(self) -> "PageSocket":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def run(self, timeout_s: float = 90) -> str:
        """Runs the page once and gives all that it sent, as text."""
        ask = BackMsg()
        ask.rerun_script.query_string = ""
        self.connection.send(ask.SerializeToString())
        told = []
        for message in self.messages(timeout_s):
            told.append(str(message))
            if message.WhichOneof("type") == "new_session":
                self.session = message.new_session.initialize.session_id or self.session
            elif message.WhichOneof("type") == "script_finished":
                break
        return "\n".join(told)

    def messages(self, timeout_s: float) -> Iterator[ForwardMsg]:
        deadline = time.monotonic() + timeout_s
        while True:
            data = self.connection.recv(timeout=max(0.0, deadline - time.monotonic()))
            message = ForwardMsg()
            message.ParseFromString(data if isinstance(data, bytes) else data.encode())
            yield message

    def upload(self, lab: ServedLab, data: bytes, *, file: str = "a-file", length: int | None = None) -> Answer:
        """Uploads a file into this page, as a browser does."""
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="f"; filename="x.mid"\r\n\r\n'
        body = head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()
        return lab.request(
            "PUT",
            f"/_stcore/upload_file/{self.session}/{file}",
            headers={
                "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
                "Origin": lab.url,
                "X-Xsrftoken": self.cookies[XSRF],
            },
            cookies=self.cookies,
            body=body if length is None else b"",
            length=length,
        )
