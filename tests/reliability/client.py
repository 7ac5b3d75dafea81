"""A browser tab of the lab without a browser: the WebSocket and the messages of Streamlit, and nothing painted.

A `Tab` does what the page in a browser does with the server: it opens a page, keeps what is drawn, keeps what its
widgets hold, refreshes what refreshes itself when it is due, presses, types and uploads. Each belongs to one thread.
"""

import http.client
import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

from streamlit.proto.Alert_pb2 import Alert
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.Common_pb2 import UploadedFileInfo
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState, WidgetStates
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

XSRF_COOKIE = "_streamlit_xsrf"
_ENDED = (ForwardMsg.FINISHED_SUCCESSFULLY, ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY)
_KEPT_FOR_RUNS = 2
_BOUNDARY = "a-part-of-the-upload"

Path = tuple[int, ...]


class TabError(Exception):
    """The server did not do what a tab may expect: no answer in time, no such widget, a refused upload."""


@dataclass
class _Drawn:
    """An element or a block on the page, and the run that drew it."""

    kind: str
    what: Any
    run: str
    fragment: str


@dataclass
class Told:
    """What a tab was told so far: times of reruns (seconds), bytes of messages, what went wrong."""

    reruns_s: list[float] = field(default_factory=list)
    ticks_s: list[float] = field(default_factory=list)
    rerun_bytes: list[int] = field(default_factory=list)
    bytes_in: int = 0
    finished: int = 0
    exceptions: list[str] = field(default_factory=list)
    toasts: list[str] = field(default_factory=list)


class Server:
    """Where a lab is served: its address, and the cookies that a browser would keep for it."""

    def __init__(self, url: str, cookies: dict[str, str] | None = None) -> None:
        self.url = url.rstrip("/")
        self.host = urlsplit(self.url).netloc
        self.cookies = dict(cookies or {})
        if XSRF_COOKIE not in self.cookies:
            self.request("GET", "/_stcore/health")

    def request(
        self, method: str, path: str, body: bytes | Iterable[bytes] = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """One request as a browser of this server makes it: its status and its body; keeps the cookies it sets."""
        connection = http.client.HTTPConnection(self.host, timeout=300)
        try:
            all_headers = {"Cookie": self.cookie_line(), "Origin": self.url} | (headers or {})
            # A server that refuses may answer, and close, before all is sent.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, body=body or None, headers=all_headers)
            answer = connection.getresponse()
            for name, value in answer.getheaders():
                if name.lower() == "set-cookie":
                    key, _, rest = value.partition("=")
                    self.cookies[key.strip()] = rest.partition(";")[0].strip('"')
            return answer.status, answer.read()
        finally:
            connection.close()

    def cookie_line(self) -> str:
        """The cookies as a header."""
        return "; ".join(f"{key}={value}" for key, value in self.cookies.items())


class Tab:
    """One tab, and so one session of the server.

    Raises: TabError when the server closes it or does not answer in `patience_s`.
    """

    def __init__(self, server: Server, *, patience_s: float = 60.0) -> None:
        self.server = server
        self.patience_s = patience_s
        self.told = Told()
        self.session_id = ""
        self.query: dict[str, list[str]] = {}
        self._page_hash = ""
        self._page_name = ""
        self._pages: dict[str, str] = {}
        self._drawn: dict[Path, _Drawn] = {}
        self._states: dict[str, WidgetState] = {}
        self._timers: dict[str, tuple[float, float]] = {}
        self._kept: dict[str, tuple[int, bytes]] = {}
        self._n_runs = 0
        self._run = ""
        self._fragments: frozenset[str] = frozenset()
        self._sent: float | None = None
        self._sent_is_tick = False
        self._bytes_before = 0
        self._urls: dict[str, Any] = {}
        token = server.cookies.get(XSRF_COOKIE, "none")
        self._open = ExitStack()
        socket = connect(
            f"{server.url.replace('http', 'ws', 1)}/_stcore/stream", origin=Origin(server.url),
            subprotocols=[Subprotocol("streamlit"), Subprotocol(token)], max_size=None,
            additional_headers={"Cookie": server.cookie_line()}, open_timeout=patience_s, ping_interval=None,
        )  # fmt: skip
        self._socket: ClientConnection = self._open.enter_context(socket)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the tab."""
        self._open.close()

    # --- what a visitor does ------------------------------------------------------------------------------------------

    def open(self, page: str = "", **query: str) -> Self:
        """Opens a page by its address ("" is the first), and waits until it is drawn."""
        self.query = {key: [value] for key, value in query.items()}
        self._page_name, self._page_hash = page, self._pages.get(page, "")
        self._states.clear()
        self.rerun()
        return self

    def rerun(self, *triggers: WidgetState) -> None:
        """Asks for the page again with what the widgets hold, and waits until it is drawn."""
        self.wait(
            lambda: self._sent is None
        )  # or the end of a refresh that is on its way would be taken for this one's
        before = self.told.finished
        self._ask(triggers)
        self.wait(lambda: self.told.finished > before and self._sent is None)

    def press(self, key: str) -> None:
        """Presses a button."""
        button = self.widget(key, "button")
        if button.disabled:
            raise TabError(f"the button {key} cannot be pressed now")
        self.rerun(WidgetState(id=button.id, trigger_value=True))

    def fill(self, key: str, value: str | bool | int | float | list[str] | None) -> None:
        """Fills in a field, or chooses in a selection, by what is shown."""
        self.hold(key, value)
        self.rerun()

    def hold(self, key: str, value: str | bool | int | float | list[str] | None) -> None:
        """Has a widget hold a value without telling the server yet."""
        kind, what = self._find(key)
        self._states[what.id] = _state(kind, what.id, value)
        self._address(what, value)

    def _address(self, what: Any, value: Any) -> None:
        """Puts a widget's value into the address, where it stands there."""
        if bound := getattr(what, "query_param_key", ""):
            self.query.pop(bound, None)
            if value not in (None, "", []):
                self.query[bound] = [str(one) for one in value] if isinstance(value, list) else [str(value)]

    def select_rows(self, key: str, rows: list[int]) -> None:
        """Chooses rows of a table."""
        table = self.widget(key, "dataframe")
        chosen = json.dumps({"selection": {"rows": rows, "columns": [], "cells": []}})
        self._states[table.id] = WidgetState(id=table.id, string_value=chosen)
        self.rerun()

    def upload(self, key: str, files: dict[str, bytes]) -> list[int]:
        """Drops files into an uploader: gives the HTTP status of each, and has the widget hold those taken."""
        uploader = self.widget(key, "file_uploader")
        taken = self._states.get(uploader.id)
        state = WidgetState(id=uploader.id)
        if taken is not None:
            state.CopyFrom(taken)
        answered = []
        for place, (name, data) in zip(self.places(list(files)), files.items(), strict=True):
            status = self.put(place.upload_url, name, data)
            answered.append(status)
            if status // 100 == 2:
                info = UploadedFileInfo(name=name, size=len(data), file_id=place.file_id, file_urls=place)
                state.file_uploader_state_value.uploaded_file_info.append(info)
        self._states[uploader.id] = state
        self.rerun()
        return answered

    def put(self, url: str, name: str, data: bytes) -> int:
        """Sends one file to an upload's address, and gives the HTTP status."""
        head = (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        body = (head.encode(), data, f"\r\n--{_BOUNDARY}--\r\n".encode())  # in pieces: no second copy of what is large
        headers = {
            "Content-Type": f"multipart/form-data; boundary={_BOUNDARY}",
            "Content-Length": str(sum(map(len, body))),
            "X-Xsrftoken": self.server.cookies.get(XSRF_COOKIE, ""),
        }
        return self.server.request("PUT", f"/{url.lstrip('/')}", body, headers)[0]

    def places(self, names: list[str]) -> list[Any]:
        """Asks where files may be uploaded to: an address for each."""
        request = BackMsg()
        request.file_urls_request.request_id = asked = f"upload-{time.monotonic_ns()}"
        request.file_urls_request.file_names.extend(names)
        request.file_urls_request.session_id = self.session_id
        self._send(request)
        self.wait(lambda: asked in self._urls)
        answer = self._urls.pop(asked)
        if answer.error_msg:
            raise TabError(f"no place to upload to: {answer.error_msg}")
        return list(answer.file_urls)

    def held(self) -> list[WidgetState]:
        """What the widgets hold."""
        return list(self._states.values())

    def adopt(self, id: str, state: WidgetState) -> None:
        """Has a widget claim to hold what another holds, as a browser that lies would."""
        mine = WidgetState()
        mine.CopyFrom(state)
        mine.id = id
        self._states[id] = mine
        self.rerun()

    # --- what is on the page ------------------------------------------------------------------------------------------

    def elements(self, *kinds: str) -> Iterator[Any]:
        """What is drawn now, of these kinds ("markdown", "button", "echarts_chart", ...), in order."""
        for _, drawn in sorted(self._drawn.items(), key=lambda item: item[0]):
            if not kinds or drawn.kind in kinds:
                yield drawn.what

    def widget(self, key: str, kind: str | None = None) -> Any:
        """A widget by its key.

        Raises: TabError when the page has none of that name.
        """
        found_kind, found = self._find(key)
        if kind is not None and found_kind != kind:
            raise TabError(f"{key} is a {found_kind} and no {kind}")
        return found

    def has(self, key: str) -> bool:
        """Whether the page has a widget of that key."""
        return any(_is(drawn.what, key) for drawn in self._drawn.values())

    def words(self) -> str:
        """All text on the page, without the marks that keep foreign text plain."""
        lines = []
        for drawn in self._drawn.values():
            what = drawn.what
            for name in ("body", "text", "label", "message"):
                value = getattr(what, name, "")
                if isinstance(value, str) and value:
                    lines.append(value)
        return "\n".join(lines).replace("\\", "")

    def errors(self) -> list[str]:
        """The sentences in red boxes on the page."""
        return [alert.body.replace("\\", "") for alert in self.elements("alert") if alert.format == Alert.ERROR]

    # --- the conversation ---------------------------------------------------------------------------------------------

    def wait(self, until: Callable[[], bool]) -> None:
        """Listens, and refreshes what is due, until something holds.

        Raises: TabError when it does not in `patience_s`.
        """
        deadline = time.monotonic() + self.patience_s
        while not until():
            if time.monotonic() > deadline:
                raise TabError(f"no answer within {self.patience_s:.0f} s")
            self._listen(min(deadline, time.monotonic() + 0.25))

    def watch(self, seconds: float) -> None:
        """Looks at the page for a while, as a tab that is left open does."""
        deadline = time.monotonic() + seconds
        while (now := time.monotonic()) < deadline:
            self._listen(min([deadline, *(max(now, due) for _, due in self._timers.values())]))
            self._tick()

    def _tick(self) -> None:
        now = time.monotonic()
        for fragment, (interval, due) in list(self._timers.items()):
            if due <= now:
                self._timers[fragment] = (interval, now + interval)
                self._ask((), fragment)

    def _ask(self, triggers: Iterable[WidgetState], fragment: str = "") -> None:
        state = ClientState(
            query_string=urlencode(self.query, doseq=True), page_script_hash=self._page_hash, page_name=self._page_name,
            fragment_id=fragment, is_auto_rerun=bool(fragment), cached_message_hashes=list(self._kept),
            widget_states=WidgetStates(widgets=[*self._states.values(), *triggers]),
        )  # fmt: skip
        if self._page_hash:
            state.page_name = ""
        if self._sent is None:
            self._sent, self._sent_is_tick, self._bytes_before = time.monotonic(), bool(fragment), self.told.bytes_in
        self._send(BackMsg(rerun_script=state))

    def _send(self, message: BackMsg) -> None:
        try:
            self._socket.send(message.SerializeToString())
        except ConnectionClosed as error:
            raise TabError(f"the server closed the tab: {error}") from error

    def _listen(self, deadline: float) -> None:
        """Takes in one message, if one comes in time."""
        try:
            data = self._socket.recv(timeout=max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            return
        except ConnectionClosed as error:
            raise TabError(f"the server closed the tab: {error}") from error
        if isinstance(data, bytes):
            self.told.bytes_in += len(data)
            self._take(ForwardMsg.FromString(data))

    def _take(self, message: ForwardMsg) -> None:
        kind = message.WhichOneof("type")
        if kind == "ref_hash":
            kept = ForwardMsg.FromString(self._kept[message.ref_hash][1])
            kept.metadata.CopyFrom(message.metadata)
            message, kind = kept, kept.WhichOneof("type")
            self._kept[message.hash] = (self._n_runs, self._kept[message.hash][1])
        elif message.metadata.cacheable:
            self._kept[message.hash] = (self._n_runs, message.SerializeToString())
        if kind == "delta":
            self._draw(message)
        elif kind == "new_session":
            self._begin(message)
        elif kind == "script_finished":
            self._finish(message)
        elif kind == "navigation":
            self._pages = {
                "" if one.is_default else one.url_pathname: one.page_script_hash for one in message.navigation.app_pages
            }
            self._page_hash = message.navigation.page_script_hash or self._page_hash
        elif kind == "auto_rerun":
            interval = message.auto_rerun.interval
            self._timers[message.auto_rerun.fragment_id] = (interval, time.monotonic() + interval)
        elif kind == "stop_auto_rerun":
            for fragment in message.stop_auto_rerun.fragment_ids:
                self._timers.pop(fragment, None)
        elif kind == "page_info_changed":
            self.query = parse_qs(message.page_info_changed.query_string)
        elif kind == "file_urls_response":
            self._urls[message.file_urls_response.response_id] = message.file_urls_response

    def _begin(self, message: ForwardMsg) -> None:
        new = message.new_session
        self.session_id = new.initialize.session_id or self.session_id
        self._run = message.metadata.run.script_run_id
        self._fragments = frozenset(message.metadata.run.fragment_ids)
        if not self._fragments:
            self._timers.clear()

    def _draw(self, message: ForwardMsg) -> None:
        path, delta = tuple(message.metadata.delta_path), message.delta
        kind = delta.WhichOneof("type")
        if kind == "new_element":
            name = delta.new_element.WhichOneof("type") or "empty"
            what = getattr(delta.new_element, name)
            self._drawn[path] = _Drawn(name, what, self._run, delta.fragment_id)
            if name == "exception":
                self.told.exceptions.append(f"{what.type}: {what.message}")
            if name == "toast":  # a browser keeps it on the screen, whatever is drawn next
                self.told.toasts.append(what.body.replace("\\", ""))
            if getattr(what, "set_value", False):
                self._obey(name, what)
        elif kind == "add_block":
            name = delta.add_block.WhichOneof("type") or "block"
            what = getattr(delta.add_block, name) if name != "block" else delta.add_block
            self._drawn[path] = _Drawn(name, what, self._run, delta.fragment_id)

    def _obey(self, kind: str, what: Any) -> None:
        """Takes over the value that the server gives a widget."""
        value: Any = None
        if kind in ("button_group", "multiselect"):
            value = list(what.raw_values)
        elif kind == "selectbox":
            value = what.raw_value if what.HasField("raw_value") else None
        elif kind in ("text_input", "text_area", "checkbox"):
            value = what.value
        else:
            self._states.pop(what.id, None)
            return
        self._states[what.id] = _state(kind, what.id, value)
        self._address(what, value)

    def _finish(self, message: ForwardMsg) -> None:
        status = message.script_finished
        if status == ForwardMsg.FINISHED_WITH_COMPILE_ERROR:
            self.told.exceptions.append("the page could not be compiled")
        if status not in _ENDED:
            return
        whole = status == ForwardMsg.FINISHED_SUCCESSFULLY
        for path, drawn in list(self._drawn.items()):
            if drawn.run != self._run and (whole or drawn.fragment in self._fragments):
                del self._drawn[path]
        if whole:
            self._n_runs += 1
            here = {getattr(drawn.what, "id", "") for drawn in self._drawn.values()}
            self._states = {id: state for id, state in self._states.items() if id in here}
            old = self._n_runs - _KEPT_FOR_RUNS
            self._kept = {key: kept for key, kept in self._kept.items() if kept[0] >= old}
        self.told.finished += 1
        if self._sent is not None:
            (self.told.ticks_s if self._sent_is_tick else self.told.reruns_s).append(time.monotonic() - self._sent)
            self.told.rerun_bytes.append(self.told.bytes_in - self._bytes_before)
            self._sent = None

    def _find(self, key: str) -> tuple[str, Any]:
        for drawn in self._drawn.values():
            if _is(drawn.what, key):
                return drawn.kind, drawn.what
        raise TabError(f"the page has no widget {key}")


def _is(what: Any, key: str) -> bool:
    id = getattr(what, "id", "")
    return isinstance(id, str) and id.startswith("$$") and id.endswith(f"-{key}")


def _state(kind: str, id: str, value: Any) -> WidgetState:
    """What a widget of a kind says when it holds a value; nothing but its name when it holds none."""
    state = WidgetState(id=id)
    if value is None:
        return state
    if kind in ("button_group", "multiselect"):
        state.string_array_value.data.extend([value] if isinstance(value, str) else value)
    elif kind == "checkbox":
        state.bool_value = bool(value)
    elif kind in ("number_input",):
        state.double_value = float(value)
    else:
        state.string_value = str(value)
    return state
