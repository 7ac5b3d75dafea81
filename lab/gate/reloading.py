"""The one script of the gate's own, put into Streamlit's page: a tab whose session has ended goes to the login."""

from pathlib import Path

from starlette.types import Message, Scope, Send

SCRIPT = (Path(__file__).parent / "reload.js").read_text(encoding="utf-8")
_HEAD = b"<head>"


def readable(scope: Scope) -> Scope:
    """A request whose answer comes as it is, not compressed."""
    return {**scope, "headers": [pair for pair in scope["headers"] if pair[0].lower() != b"accept-encoding"]}


def reloading(send: Send) -> Send:
    """`send` for an answer into which the script is put, first of all in its head, when it is a page."""
    begun: Message | None = None
    body = bytearray()

    async def put(message: Message) -> None:
        nonlocal begun
        if message["type"] == "http.response.start" and _is_page(message):
            begun = message
        elif begun is None or message["type"] != "http.response.body":
            await send(message)
        else:
            body.extend(message.get("body", b""))
            if not message.get("more_body"):
                page = bytes(body).replace(_HEAD, _HEAD + b"<script>" + SCRIPT.encode() + b"</script>", 1)
                kept = [pair for pair in begun["headers"] if pair[0].lower() != b"content-length"]
                await send({**begun, "headers": [*kept, (b"content-length", str(len(page)).encode())]})
                await send({"type": "http.response.body", "body": page})

    return put


def _is_page(message: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/html") for name, value in message.get("headers", [])
    )
