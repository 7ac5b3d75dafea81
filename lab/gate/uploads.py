"""What may be uploaded: how much at once, how much in all, and into whose session.

Streamlit keeps uploads in memory, takes any number of them, and takes them for any session that is open. A browser
always says how large a file is before it sends it, so what is too large is refused before it is read.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from streamlit import config
from streamlit.runtime import Runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager

MOST_FILES = 2_000
SESSION_HOLDS = 2  # times the largest file
SERVER_HOLDS = 4
_FRAME_BYTES = 1 << 20  # what a form adds to its file

TooMuch = tuple[int, str]


class Uploads:
    """The uploads of one server: those that lie in memory, and those on their way; for its event loop alone."""

    def __init__(self) -> None:
        self._coming: dict[tuple[str, str], int] = {}

    def problem(self, session: str, file: str, size: int | None) -> TooMuch | None:
        """Why an upload is refused, as an HTTP status and a sentence; None when it may come. `size` is in bytes."""
        if size is None:
            return 411, "say how large the upload is; a browser does"
        largest = int(config.get_option("server.maxUploadSize")) << 20
        if size > largest + _FRAME_BYTES:
            return 413, f"a file may have at most {largest >> 20} MB; this one has more"
        stored = _stored()
        coming = self._coming
        mine = {name: len(data) for name, data in stored.get(session, {}).items()}
        mine |= {name: n for (owner, name), n in coming.items() if owner == session}
        mine.pop(file, None)
        everything = sum(len(data) for files in stored.values() for data in files.values()) + sum(coming.values())
        if len(mine) >= MOST_FILES:
            return 413, f"a page may hold at most {MOST_FILES:,} uploaded files; remove some first"
        if sum(mine.values()) + size > SESSION_HOLDS * largest + _FRAME_BYTES:
            return 413, f"a page may hold at most {SESSION_HOLDS * largest >> 20:,} MB of uploads; remove some first"
        if everything + size > SERVER_HOLDS * largest + _FRAME_BYTES:
            return 413, "the lab holds as many uploads as it has room for; try again when others have removed theirs"
        return None

    @contextmanager
    def coming(self, session: str, file: str, size: int) -> Iterator[None]:
        """Counts an upload while it comes."""
        self._coming[session, file] = size
        try:
            yield
        finally:
            self._coming.pop((session, file), None)


def belongs_to(session: str, ticket: str, header: str) -> bool:
    """Whether a page's session was opened with a ticket, which the gate has put into the header of its socket."""
    client = Runtime.instance().get_client(session) if Runtime.exists() else None
    context = client.client_context if client is not None else None
    if context is None:
        return False
    return any(name.lower() == header and value == ticket for name, value in context.headers)


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
