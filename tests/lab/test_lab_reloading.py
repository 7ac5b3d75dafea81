"""A tab whose session has ended: its page brings the script along that leads to the login."""

from pathlib import Path

from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from gate.headers import digest
from gate.middleware import Gate
from gate.reloading import SCRIPT
from gate.sessions import Sessions
from lab_support import to_its_end
from pianistid_core.accounts import AccountFile
from pianistid_core.datasets.root import DataRoot

PAGE = "<!doctype html><html><head><title>x</title></head><body></body></html>"


def test_only_a_page_brings_the_script_which_its_policy_names(tmp_path: Path) -> None:
    def answer(response: Response, accept: str) -> tuple[dict[str, str], str]:
        sent: list[Message] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            assert accept == "*/*" or b"accept-encoding" not in dict(scope["headers"])
            await response(scope, receive, send)

        async def receive() -> Message:
            return {"type": "http.request"}

        async def send(message: Message) -> None:
            sent.append(message)

        sessions = Sessions(AccountFile(tmp_path / "access.json"), asks=False)
        gate = Gate(app, sessions=sessions, root=lambda: DataRoot(tmp_path), hosts=["localhost"])
        headers = [(b"host", b"localhost"), (b"accept", accept.encode()), (b"accept-encoding", b"gzip")]
        scope = {"type": "http", "path": "/runs", "method": "GET", "headers": headers, "query_string": b""}
        to_its_end(gate(scope, receive, send))
        said = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return said, b"".join(message.get("body", b"") for message in sent[1:]).decode()

    said, body = answer(HTMLResponse(PAGE), "text/html")
    assert body == PAGE.replace("<head>", f"<head><script>{SCRIPT}</script>")
    assert int(said["content-length"]) == len(body.encode()) and digest(SCRIPT) in said["content-security-policy"]
    assert answer(JSONResponse([PAGE]), "text/html")[1] == JSONResponse([PAGE]).body.decode()
    assert answer(HTMLResponse(PAGE), "*/*")[1] == PAGE
