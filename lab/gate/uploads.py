"""What may be uploaded: how much at once, how much in all, how slowly, and into whose session.

Streamlit keeps uploads in memory, takes any number of them, and takes them for any session that is open. A browser
always says how large a file is before it sends it, so what is too large is refused before it is read.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from starlette.types import Message, Receive
from streamlit import config
from streamlit.runtime import Runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager

MOST_FILES = 2_000
PERSON_HOLDS = 2  # times the largest file
SERVER_HOLDS = 4
SLOWEST_BYTES_S = 50_000  # so that nobody keeps others' room for what hardly comes
PATIENCE_S = 30.0
_FRAME_BYTES = 1 << 20  # what a form adds to its file

TooMuch = tuple[int, str]


class Uploads:
    """The uploads of one server: those that lie in memory, and those on their way; for its event loop alone.

    `whose` names the person of a page's session, or says None for a page that is nobody's any more.
    """

    def __init__(self, whose: Callable[[str], str | None]) -> None:
        self._whose = whose
        self._coming: dict[tuple[str, str], int] = {}

    def problem(self, session: str, file: str, size: int | None) -> TooMuch | None:
        """Why an upload is refused, as an HTTP status and a sentence; None when it may come. `size` is in bytes."""
        if size is None:
            return 411, "say how large the upload is; a browser does"
        largest = int(config.get_option("server.maxUploadSize")) << 20
        if size > largest + _FRAME_BYTES:
            return 413, f"a file may have at most {largest >> 20} MB; this one has more"
        if (session, file) in self._coming:
            return 409, "this file is being uploaded already; wait until it is there"
        held = [(owner, name, len(data)) for owner, files in _stored().items() for name, data in files.items()]
        coming = [(owner, name, n) for (owner, name), n in self._coming.items()]
        if len({name for owner, name, _ in held + coming if owner == session} - {file}) >= MOST_FILES:
            return 413, f"a page may hold at most {MOST_FILES:,} uploaded files; remove some first"
        person = self._whose(session)
        others = {owner for owner, _, _ in held + coming}
        pages = {owner for owner in others if self._whose(owner) == person} | {session}
        mine = sum(n for owner, name, n in held + coming if owner in pages and (owner, name) != (session, file))
        if mine + size > PERSON_HOLDS * largest + _FRAME_BYTES:
            return 413, (
                f"the pages of one person may hold at most {PERSON_HOLDS * largest >> 20:,} MB of uploads together; "
                "remove some, or close a page, first"
            )
        if sum(n for _, _, n in held + coming) + size > SERVER_HOLDS * largest + _FRAME_BYTES:
            return 413, "the lab holds as many uploads as it has room for; try again when others have removed theirs"
        return None

    @contextmanager
    def coming(self, session: str, file: str, size: int) -> Iterator[None]:
        """Counts an upload while it comes."""
        self._coming[session, file] = size
        try:
            yield
        finally:
            del self._coming[session, file]


def in_time(receive: Receive, patience_s: float = PATIENCE_S, slowest: float = SLOWEST_BYTES_S) -> Receive:
    """`receive` of a body that comes without a long pause and, on average, not slower than `slowest` bytes a second.

    What it gives raises TimeoutError otherwise.
    """
    begun, taken = time.monotonic(), 0

    async def timely() -> Message:
        nonlocal taken
        left = begun + patience_s + taken / slowest - time.monotonic()
        async with asyncio.timeout(min(max(left, 0.0), patience_s)):
            message = await receive()
        taken += len(message.get("body", b""))
        return message

    return timely


def ticket_of_page(session: str, header: str) -> str | None:
    """The ticket that a page's session was opened with, which the gate has put into the header of its socket."""
    client = Runtime.instance().get_client(session) if Runtime.exists() else None
    context = client.client_context if client is not None else None
    if context is None:
        return None
    return next((value for name, value in context.headers if name.lower() == header), None)


def _stored() -> Mapping[str, Mapping[str, bytes]]:
    if not Runtime.exists():
        return {}
    manager = Runtime.instance().uploaded_file_mgr
    if not isinstance(manager, MemoryUploadedFileManager):
        return {}
    return {
        session: {name: file.data for name, file in list(files.items())}
        for session, files in list(manager.file_storage.items())
    }
