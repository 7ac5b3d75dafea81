"""How the gate itself answers: with a page of its own, or with a sentence, and always with the headers that protect."""

from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import Message, Receive, Send

from gate import headers
from gate.login_page import STYLE, sentence_page
from gate.requests import Refusal, Visit


async def answer(visit: Visit, response: Response, receive: Receive, send: Send) -> None:
    """Sends a response of the gate's own."""
    await response(visit.scope, receive, protecting(send, headers.plain_policy(STYLE)))


async def refuse(visit: Visit, refusal: Refusal, receive: Receive, send: Send) -> None:
    """Answers with a sentence, also to what wanted to become a socket."""
    words = refusal.sentence[0].upper() + refusal.sentence[1:] + "."
    if visit.is_for_page:
        await answer(visit, HTMLResponse(sentence_page("Not here", words), refusal.status), receive, send)
    elif not visit.is_socket or "websocket.http.response" in visit.scope.get("extensions", {}):
        await answer(visit, PlainTextResponse(words + "\n", refusal.status), receive, send)
    else:
        await send({"type": "websocket.close", "code": 1008, "reason": ""})


def protecting(send: Send, policy: str) -> Send:
    """`send` with the headers that protect a response, under a policy for its content."""

    async def protected(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            message = {**message, "headers": headers.secured(message.get("headers", []), policy)}
        await send(message)

    return protected
