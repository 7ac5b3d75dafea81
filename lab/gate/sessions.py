"""Who is logged in, in the server's memory.

A browser holds a random token in a cookie; the server keeps only the token's digest, the ticket, which it also hands to
the pages so that they know whose click it is. A ticket opens nothing by itself. Whether it still stands for somebody is
asked each time anew: an account that is gone, has another password or another role counts from that moment.
"""

import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from pianistid_core.accounts import Account, AccountFile, Accounts, Person, Role
from pianistid_core.audit import machine_user
from pianistid_core.errors import AccessError

LASTS_S = 12 * 3600.0
_MOST = 5_000
_MOST_EACH = 20


@dataclass(frozen=True)
class Session:
    """One login: whose, by which password's stamp (none for the organisation's login), and until when."""

    ticket: str
    name: str
    stamp: str | None
    ends: float


class Sessions:
    """The logins of one server, and the accounts that they rest on.

    Where nobody is asked, which only a server without accounts on a loopback address may do, everybody is the user of
    the machine and holds one ticket, `machine`.
    """

    def __init__(self, accounts: AccountFile, *, asks: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self.file = accounts
        self.machine = secrets.token_hex(32)
        self._asks = asks
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[str, Session] = {}
        self._ended: dict[str, float] = {}  # tickets of the organisation's login that were ended here, and until when

    def asks(self) -> bool:
        """Whether a visitor has to log in; once there was a reason to ask, the server goes on asking."""
        if not self._asks:
            try:
                self._asks = bool(self.file.read())
            except AccessError:
                self._asks = True
        return self._asks

    def accounts(self) -> Accounts:
        """The accounts as they are now. Raises: AccessError when they cannot be read."""
        return self.file.read()

    def open(self, account: Account) -> str:
        """Begins a session and gives the token for the browser's cookie."""
        token = secrets.token_urlsafe(32)
        self._keep(Session(ticket_of(token), account.name, account.stamp, self._clock() + LASTS_S))
        return token

    def adopt(self, identity: str, address: str) -> Session | None:
        """The session of somebody whom the organisation's login has named, or None when it was ended here.

        `identity` is the signed cookie that says so, and as long as the session lasts it is the same.
        """
        ticket = ticket_of(identity)
        with self._lock:
            if ticket in self._ended:
                return None
            found = self._open.get(ticket)
        if found is None:
            found = Session(ticket, address, None, self._clock() + LASTS_S)
            self._keep(found)
        return found

    def find(self, token: str) -> Session | None:
        """The session that a browser's token opens, while it lasts."""
        ticket = ticket_of(token)
        with self._lock:
            found = self._open.get(ticket)
        return found if found and self.person(ticket) else None

    def person(self, ticket: str | None) -> Person | None:
        """Who holds a ticket now; None when it is nobody's, or the session has ended or run out."""
        if ticket is None:
            return None
        if secrets.compare_digest(ticket, self.machine):
            return None if self.asks() else Person(machine_user(), Role.ADMINISTER)
        with self._lock:
            found = self._open.get(ticket)
        if found is None:
            return None
        if found.ends <= self._clock():
            self.end(ticket)
            return None
        try:
            accounts = self.accounts()
        except AccessError:
            return None
        if found.stamp is None:
            role = accounts.member(found.name)
            return Person(found.name, role) if role else None
        account = accounts.account(found.name)
        if account is None or account.stamp != found.stamp:
            self.end(ticket)
            return None
        return Person(account.name, account.role)

    def end(self, ticket: str) -> None:
        """Ends a session; nothing happens when there is none."""
        with self._lock:
            found = self._open.pop(ticket, None)
            if found and found.stamp is None:
                self._ended[ticket] = self._clock() + LASTS_S

    def _keep(self, session: Session) -> None:
        now = self._clock()
        with self._lock:
            self._open = {ticket: one for ticket, one in self._open.items() if one.ends > now}
            self._ended = {ticket: ends for ticket, ends in self._ended.items() if ends > now}
            mine = [ticket for ticket, one in self._open.items() if one.name == session.name]
            for ticket in mine[: len(mine) - _MOST_EACH + 1] if len(mine) >= _MOST_EACH else ():
                del self._open[ticket]
            if len(self._open) >= _MOST:
                del self._open[next(iter(self._open))]
            self._open[session.ticket] = session


def ticket_of(token: str) -> str:
    """The digest by which a token is known."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class _Served:
    """The sessions of the server that runs in this process, if one does."""

    sessions: Sessions | None = None


def serve(sessions: Sessions | None) -> None:
    """Says which sessions the pages of this process ask; None when no server runs."""
    _Served.sessions = sessions


def served() -> Sessions | None:
    """The sessions of the server in this process, or None where none has been set up, as in a test of a page."""
    return _Served.sessions
