"""The gate: every request and every socket passes here before Streamlit sees it.

In this order: the host that is asked for and the page that asks; what is served to nobody; who asks; what is brought
along. What passes carries a ticket in a header that no browser can set, by which `who.me` knows whose click it is.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence

from google.protobuf.message import DecodeError
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.proto.BackMsg_pb2 import BackMsg

from gate import headers, organisation
from gate.answers import answer, protecting, refuse
from gate.login import Login
from gate.reloading import SCRIPT, readable, reloading
from gate.requests import HEALTH, LOGIN, LOGOUT, UPLOAD, Refusal, Visit
from gate.sessions import Sessions
from gate.uploads import Uploads, in_time, ticket_of_page
from pianistid_core.accounts import Role
from pianistid_core.datasets.root import DataRoot

log = logging.getLogger(__name__)

TICKET_HEADER = "x-pianistid-ticket"
_LOOK_EVERY_S = 2.0
_OPEN_BEHIND_PROXY = (
    "this was passed on by a proxy, and the lab, which has no accounts, would let in everybody whom it passes on; add "
    "one with `pianistid access add NAME --role administer`, or open the lab on its own machine"
)


class Gate:
    """The gate as an ASGI application around another.

    `root` gives the data root whose audit log is kept now, `hosts` are the names it answers to, `base` is the
    path below which it is served, and `members` says whether the organisation's login is set up.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        sessions: Sessions,
        root: Callable[[], DataRoot],
        hosts: Sequence[str],
        base: str = "",
        members: bool = False,
    ) -> None:
        self._app = app
        self._sessions = sessions
        self._hosts = hosts
        self._base = base
        self._members = members
        self._login = Login(sessions, root, base, members=members)
        self._uploads = Uploads(self._person_of_page)
        self._scripts = [*headers.inline_scripts(), f"'{headers.digest(SCRIPT)}'"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        visit = Visit(_without_ticket(scope), self._base)
        refusal = visit.refusal(self._hosts)
        if refusal is None and visit.is_passed_on and not self._sessions.asks():
            refusal = Refusal(403, _OPEN_BEHIND_PROXY)
        if refusal is None and visit.is_closed:
            refusal = Refusal(404, "there is nothing here")
        if refusal is not None:
            await refuse(visit, refusal, receive, send)
        elif visit.path == HEALTH and not visit.is_socket and visit.method in ("GET", "HEAD"):
            await self._on(visit, receive, send)
        elif visit.path in (LOGIN, LOGOUT) and not visit.is_socket and self._sessions.asks():
            await answer(visit, await self._login.answer(visit, self._ticket(visit), receive), receive, send)
        else:
            await self._known(visit, receive, send)

    async def _known(self, visit: Visit, receive: Receive, send: Send) -> None:
        """Lets through what comes with a session, and shows the rest the login."""
        ticket = self._ticket(visit)
        if ticket is None:
            if self._members and visit.path in organisation.PATHS and visit.method == "GET" and not visit.is_socket:
                await self._on(visit, receive, send)
            elif visit.is_for_page:
                await answer(visit, self._login.first(visit), receive, send)
            else:
                await refuse(visit, Refusal(401, "log in first: open the lab in a browser"), receive, send)
        elif visit.is_socket:
            await self._socket(visit, ticket, receive, send)
        elif visit.path.startswith(UPLOAD) and visit.method in ("PUT", "DELETE"):
            await self._upload(visit, ticket, receive, send)
        else:
            await self._on(visit, receive, send)

    def _ticket(self, visit: Visit) -> str | None:
        """The ticket of whoever asks, or None for a stranger."""
        if not self._sessions.asks():
            return self._sessions.machine
        found = self._sessions.find(visit.cookies.get(visit.cookie, ""))
        if found is None and self._members:
            identity = organisation.identity(visit.cookies)
            found = self._sessions.adopt(*identity) if identity else None
        return found.ticket if found and self._sessions.person(found.ticket) else None

    # --- what is let through -----------------------------------------------------------------------------------------

    async def _on(self, visit: Visit, receive: Receive, send: Send) -> None:
        """To Streamlit, whose answer gets the headers that protect it."""
        policy = headers.page_policy(visit.host, self._scripts)
        answering = protecting(send, policy)
        if visit.is_for_page and visit.method == "GET":
            await self._app(readable(visit.scope), receive, reloading(answering))
        else:
            await self._app(visit.scope, receive, answering)

    async def _upload(self, visit: Visit, ticket: str, receive: Receive, send: Send) -> None:
        session, _, file = visit.path.removeprefix(UPLOAD).partition("/")
        if ticket_of_page(session, TICKET_HEADER) != ticket:
            await refuse(visit, Refusal(403, "this page is not open, or not yours; reload it"), receive, send)
            return
        if visit.method != "PUT":
            await self._on(visit, receive, send)
            return
        size = visit.size
        problem = self._uploads.problem(session, file, size)
        if problem is not None:
            await refuse(visit, Refusal(*problem), receive, send)
            return
        try:
            with self._uploads.coming(session, file, size or 0):
                await self._on(visit, in_time(receive), send)
        except ClientDisconnect:  # nobody is left to be answered
            log.info("an upload was broken off")
        except TimeoutError:
            await refuse(visit, Refusal(408, "the upload came too slowly, or not at all; try again"), receive, send)

    def _person_of_page(self, session: str) -> str | None:
        person = self._sessions.person(ticket_of_page(session, TICKET_HEADER))
        return person.name if person else None

    async def _socket(self, visit: Visit, ticket: str, receive: Receive, send: Send) -> None:
        """A page's socket, which is closed when its session ends."""
        visit.scope["headers"].append((TICKET_HEADER.encode(), ticket.encode()))
        closed = False

        async def close() -> None:
            nonlocal closed
            if not closed:
                closed = True
                with contextlib.suppress(RuntimeError, OSError):  # it may be gone already
                    await send({"type": "websocket.close", "code": 1008, "reason": "logged out"})

        async def watch() -> None:
            while self._sessions.person(ticket):
                await asyncio.sleep(_LOOK_EVERY_S)
            await close()

        async def let_in() -> Message:
            while True:
                message = await receive()
                if message["type"] != "websocket.receive":
                    return message
                person = self._sessions.person(ticket)
                if person is None:
                    await close()
                    return {"type": "websocket.disconnect", "code": 1008}
                if person.role >= Role.ADMINISTER or not _empties_caches(message):
                    return message

        async def let_out(message: Message) -> None:
            if not closed:
                await send(message)

        watching = asyncio.create_task(watch())
        try:
            await self._app(visit.scope, let_in, let_out)
        finally:
            watching.cancel()


def _empties_caches(message: Message) -> bool:
    """Whether a page asks to empty the caches that all pages share, and with them what the lab remembers."""
    asked = BackMsg()
    try:
        asked.ParseFromString(message.get("bytes") or b"")
    except DecodeError:  # Streamlit closes the socket on it
        return False
    return asked.WhichOneof("type") == "clear_cache"


def _without_ticket(scope: Scope) -> Scope:
    """The request without a ticket that a visitor has made up."""
    kept = [(name, value) for name, value in scope["headers"] if name.lower() != TICKET_HEADER.encode()]
    return {**scope, "headers": kept}
