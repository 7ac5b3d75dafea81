"""Logging in and out: the form, the tries it allows, the cookie it sets and takes away."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from urllib.parse import parse_qs, quote

from anyio import CancelScope, to_thread
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Receive

from gate import browsers, organisation
from gate.attempts import Attempts
from gate.login_page import again_page, login_page
from gate.refused_logins import SOMEBODY, RefusedLogins
from gate.requests import LOGIN, LOGOUT, Visit, safe_path
from gate.sessions import LASTS_S, Sessions
from pianistid_core import audit
from pianistid_core.accounts import LONGEST_NAME, LONGEST_PASSWORD, Account, Accounts
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import AccessError

log = logging.getLogger(__name__)

_LARGEST_FORM = 1 << 14
_HASHES_AT_ONCE = 2  # each takes a core and 32 MiB
_MOST_WAITING = 40  # a class that begins at once; the last of them waits some seconds
_WRONG = "Name and password do not belong together."


class Login:
    """What is answered at /login and /logout, and to whoever has not logged in yet."""

    def __init__(self, sessions: Sessions, root: Callable[[], DataRoot], base: str, *, members: bool) -> None:
        self._root = root
        self._sessions = sessions
        self._base = base
        self._members = members
        self._attempts = Attempts()
        self._refused = RefusedLogins()
        # Those in a browser that is known have a place of their own, which strangers cannot take.
        self._hashing = {known: asyncio.Semaphore(_HASHES_AT_ONCE) for known in (False, True)}
        self._waiting = {False: 0, True: 0}

    def first(self, visit: Visit) -> Response:
        """The way to the login, for a browser that asks for a page."""
        if visit.is_from_elsewhere:
            return HTMLResponse(again_page(self._base + visit.here))
        return self._to(f"{LOGIN}?next={quote(visit.here, safe='/')}")

    async def answer(self, visit: Visit, ticket: str | None, receive: Receive) -> Response:
        """The answer at /login or /logout to somebody who holds a ticket, or to a stranger."""
        if visit.path == LOGOUT:
            return await self._log_out(visit, ticket) if visit.method == "POST" else self._to("/")
        if visit.method == "POST":
            return await self._log_in(visit, await _form(visit, receive), receive)
        following = safe_path(visit.connection.query_params.get("next", "/"))
        return self._to(following) if ticket else self._page(following, problem=self._unknown(visit))

    def _unknown(self, visit: Visit) -> str:
        """What is said to somebody whom the organisation knows and this lab does not."""
        identity = organisation.identity(visit.cookies) if self._members else None
        if identity is None:
            return ""
        return f"Your organisation knows you as {identity[1][:100]}, but this lab does not: ask whoever looks after it."

    async def _log_in(self, visit: Visit, form: dict[str, str], receive: Receive) -> Response:
        name, password = form.get("name", ""), form.get("password", "")
        following = safe_path(form.get("next", "/"))
        if not name or len(name) > LONGEST_NAME or not password or len(password) > LONGEST_PASSWORD:
            return self._page(following, name, _WRONG, 401)
        try:
            accounts = self._sessions.accounts()
        except AccessError as error:  # a stranger need not know where the file lies
            log.error("nobody can log in: %s", error)
            return self._page(following, name, "Nobody can log in: the lab's accounts cannot be read.", 503)
        browser = browsers.known(accounts, name, visit.cookies.get(visit.browser_cookie, ""))
        if self._waiting[bool(browser)] >= _MOST_WAITING:
            return self._later(following, name, "Very many are logging in at this moment.", 5, 503)
        waits = self._attempts.begin(name, visit.address, browser)
        if waits > 0:
            return self._later(following, name, "Too many tries failed.", int(waits) + 1, 429)
        account = await self._check(accounts, name, password, bool(browser), receive)
        if account is None:
            self._attempts.failed(name, visit.address, browser)
            await self._note_failure(accounts, name, visit)
            return self._page(following, name, _WRONG, 401)
        self._attempts.succeeded(name, visit.address, browser)
        await self._end_old(visit)
        await to_thread.run_sync(partial(audit.note, self._root(), account.name, "log in", where=audit.LAB))
        page = self._to(following)
        self._set_cookie(page, visit, browsers.mark(account), browsers.KNOWN_FOR_S, visit.browser_cookie)
        self._set_cookie(page, visit, self._sessions.open(account), int(LASTS_S))
        return page

    async def _check(
        self, accounts: Accounts, name: str, password: str, is_known: bool, receive: Receive
    ) -> Account | None:
        """The account that is opened; None also for a try whose browser has gone before its turn came."""
        self._waiting[is_known] += 1
        try:
            async with self._hashing[is_known]:
                if await _has_gone(receive):
                    return None
                return await to_thread.run_sync(accounts.check, name, password)
        finally:
            self._waiting[is_known] -= 1

    async def _note_failure(self, accounts: Accounts, name: str, visit: Visit) -> None:
        account = accounts.account(name)
        if tries := self._refused.count(account.name if account else None):
            who = account.name if account else SOMEBODY
            reason = "wrong password" if account else "nobody has this name"
            note = partial(audit.note, self._root(), who, "log in", where=audit.LAB, ended="refused", why=reason)
            await to_thread.run_sync(partial(note, tries=tries, address=visit.address))

    def _later(self, following: str, name: str, why: str, seconds: int, status: int) -> Response:
        page = self._page(following, name, f"{why} Wait {seconds} s and try again.", status)
        page.headers["Retry-After"] = str(seconds)
        return page

    async def _log_out(self, visit: Visit, ticket: str | None) -> Response:
        by_password = self._sessions.find(visit.cookies.get(visit.cookie, "")) is not None
        await self._end(ticket)
        page = self._to(LOGIN if by_password or not self._members else organisation.LOGOUT)
        self._set_cookie(page, visit, "", 0)
        return page

    async def _end_old(self, visit: Visit) -> None:
        """Ends the session that a browser had before it logs in anew."""
        old = self._sessions.find(visit.cookies.get(visit.cookie, ""))
        await self._end(old.ticket if old else None)

    async def _end(self, ticket: str | None) -> None:
        person = self._sessions.person(ticket)
        if ticket is None or person is None:
            return
        self._sessions.end(ticket)
        await to_thread.run_sync(partial(audit.note, self._root(), person.name, "log out", where=audit.LAB))

    def _page(self, following: str, name: str = "", problem: str = "", status: int = 200) -> Response:
        try:
            passwords = bool(self._sessions.accounts().people) or not self._members
        except AccessError:
            passwords = True
        page = login_page(
            action=self._base + LOGIN,
            following=following,
            name=name,
            problem=problem,
            passwords=passwords,
            links=organisation.login_links(self._base) if self._members else (),
        )
        return HTMLResponse(page, status_code=status)

    def _to(self, path: str) -> Response:
        return RedirectResponse(self._base + path, status_code=303)

    def _set_cookie(self, page: Response, visit: Visit, token: str, lasts_s: int, name: str = "") -> None:
        page.set_cookie(
            name or visit.cookie,
            token,
            max_age=lasts_s,
            path=self._base or "/",
            httponly=True,
            samesite="strict",
            secure=visit.is_secure,
        )


async def _has_gone(receive: Receive) -> bool:
    """Whether a visitor whose request has come in whole has closed the connection; it is not waited for."""
    gone = False
    with CancelScope() as at_once:
        at_once.cancel()
        gone = (await receive())["type"] == "http.disconnect"
    return gone


async def _form(visit: Visit, receive: Receive) -> dict[str, str]:
    """The fields of a form; empty when it is no such form, or larger than a name and a password can be."""
    if visit.connection.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
        return {}
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > _LARGEST_FORM or message["type"] == "http.disconnect":
            return {}
        if not message.get("more_body"):
            break
    try:
        fields = parse_qs(body.decode("ascii"), max_num_fields=8, keep_blank_values=True)
    except ValueError:
        return {}
    return {name: values[0] for name, values in fields.items()}
