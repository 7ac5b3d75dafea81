"""MLflow's own pages over the store in a data root: started, found again and stopped.

The server is a process of its own in a session of its own, listens on the loopback address alone, and outlives the lab
that started it. Who it is stands in `mlflow/server.json` of the data root, so that whoever comes next finds it; what
it says goes to `mlflow/server.log`. MLflow's telemetry is off, and it fetches nothing.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from pianistid_core.atomic import write_atomically
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import TrackingError
from pianistid_core.mirror import lacking
from pianistid_core.mlflow_store import local_store, make_local_store
from pianistid_core.processes import ProcessIdentity
from pianistid_core.strict_json import parse_json

HOST = "127.0.0.1"

_READY_WITHIN_S = 240.0
_ENDS_WITHIN_S = 5.0
_LOOK_EVERY_S = 0.1
_MAX_LOG_BYTES = 1 << 20
# What would open the server to others, or have it answer any name.
_NOT_HANDED_ON = frozenset(
    {"MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE", "MLFLOW_SERVER_ALLOWED_HOSTS", "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"}
    | {"MLFLOW_HOST", "MLFLOW_SERVER_X_FRAME_OPTIONS"}
)
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


@dataclass(frozen=True)
class ServerState:
    """A server that lives: who it is, where it listens, since when, and whether it has begun to answer."""

    process: ProcessIdentity
    port: int
    started: float
    ready: bool

    @property
    def url(self) -> str:
        """Its address for a browser on this machine."""
        return f"http://{HOST}:{self.port}"


class MlflowServer:
    """The one MLflow server of a data root."""

    def __init__(self, root_path: Path) -> None:
        self.folder = root_path / "mlflow"
        self.log_path = self.folder / "server.log"
        self._record = self.folder / "server.json"
        self._root_path = root_path

    def state(self) -> ServerState | None:
        """The server that lives now; None when there is none. A record whose process is gone is no server."""
        try:
            said = parse_json(self._record.read_bytes())
            state = ServerState(ProcessIdentity(**said["process"]), int(said["port"]), float(said["started"]), False)
        except (OSError, ValueError, TypeError, KeyError, OverflowError):
            return None
        if not state.process.alive():
            return None
        return ServerState(state.process, state.port, state.started, _answers(state.port))

    def start(self, port: int | None = None, on_wait: Callable[[float], None] | None = None) -> ServerState:
        """Starts the server and waits until it answers; one that lives already is given as it is.

        `port` is chosen by the system unless given; `on_wait` hears the share of the longest wait that has passed.

        Raises
        ------
        TrackingError
            When MLflow is not installed, the port is taken, or the server ends before it answers or never does.
        """
        if find_spec("mlflow") is None:
            raise TrackingError("MLflow is not installed; install it with `python -m pip install mlflow`")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".server.lock", timeout=_READY_WITHIN_S):
                living = self.state()
                if living is None:
                    living = self._launch(_free_port(port))
                return self._ready(living, on_wait)
        except Timeout as error:
            raise TrackingError("another process has been starting MLflow for minutes; look at the log") from error
        except OSError as error:
            reason = error.strerror or error
            raise TrackingError(
                f"MLflow cannot be started in {self.folder}: {reason}; choose another data root"
            ) from error

    def stop(self) -> bool:
        """Ends the server and everything that it has started; says whether there was one."""
        state = self.state()
        if state is None:
            self._forget()
            return False
        family = _family(state.process)
        _signal_group(state.process, signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=_ENDS_WITHIN_S)
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(alive, timeout=_ENDS_WITHIN_S)
        self._forget()
        return True

    def last_words(self) -> str:
        """The last lines of its log, on one line; empty when there is none."""
        try:
            with self.log_path.open("rb") as file:
                file.seek(max(0, self.log_path.stat().st_size - 4096))
                lines = file.read().decode("utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        return " ".join(line.strip() for line in lines if line.strip()).strip()[-400:] if lines else ""

    def _launch(self, port: int) -> ServerState:
        command = [sys.executable, "-m", "pianistid_core.mlflow_server", str(self._root_path), str(port)]
        if self.log_path.exists() and self.log_path.stat().st_size > _MAX_LOG_BYTES:
            self.log_path.unlink()
        with self.log_path.open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                cwd=self.folder, env=os.environ | _QUIET,
            )  # fmt: skip
        identity = ProcessIdentity.of(process.pid)
        if identity is None:
            raise TrackingError(f"MLflow ended at once ({self.last_words() or 'without a word'}); see {self.log_path}")
        state = ServerState(identity, port, time.time(), False)
        record: dict[str, Any] = {"process": asdict(identity), "port": port, "started": state.started}
        write_atomically(self._record, json.dumps(record).encode())
        return state

    def _ready(self, state: ServerState, on_wait: Callable[[float], None] | None) -> ServerState:
        until = time.monotonic() + _READY_WITHIN_S
        while not _answers(state.port):
            left = until - time.monotonic()
            if not state.process.alive():
                self._forget()
                raise TrackingError(f"MLflow ended before it answered ({self.last_words()}); see {self.log_path}")
            if left <= 0:
                self.stop()
                raise TrackingError(f"MLflow gave no answer within {_READY_WITHIN_S:.0f} s; see {self.log_path}")
            if on_wait is not None:
                on_wait(1 - left / _READY_WITHIN_S)
            time.sleep(_LOOK_EVERY_S)
        return ServerState(state.process, state.port, state.started, True)

    def _forget(self) -> None:
        self._record.unlink(missing_ok=True)


def _free_port(asked: int | None) -> int:
    """A port that nobody listens on: the one asked for, or any.

    Raises: TrackingError when the one asked for is taken or not allowed.
    """
    with socket.socket() as probe:
        try:
            probe.bind((HOST, asked or 0))
        except (OSError, OverflowError) as error:
            raise TrackingError(
                f"port {asked} is taken or not allowed; give another, or none for a free one"
            ) from error
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _family(identity: ProcessIdentity) -> list[psutil.Process]:
    try:
        process = psutil.Process(identity.pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _signal_group(identity: ProcessIdentity, number: int) -> None:
    """Signals the server's whole session, or the one process where there are no groups; never a stranger."""
    if not identity.alive():
        return
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(identity.pid, number)
        else:
            os.kill(identity.pid, number)


def serve(root_path: Path, port: int) -> None:
    """Makes the store unless it is there, and turns this process into MLflow's server.

    Entries whose trainer was killed are ended first, and copies of runs that are not whole completed beside it.
    """
    make_local_store(root_path)  # or brings it up, when MLflow has become newer
    store, root = local_store(root_path), DataRoot(root_path)
    store.end_abandoned()
    if lacking(root):
        subprocess.Popen([sys.executable, "-m", "pianistid_core.mirror", str(root_path)], stdin=subprocess.DEVNULL)
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1",
        # Names that lead here, so that no page of somebody else's that has its name lead here is answered.
        "--allowed-hosts", f"{HOST}:{port},localhost:{port}", "--x-frame-options", "DENY",
        "--cors-allowed-origins", f"http://{HOST}:{port}",
        "--backend-store-uri", store.uri, "--default-artifact-root", store.artifacts, "--no-serve-artifacts",
    ]  # fmt: skip
    os.execve(command[0], command, {key: value for key, value in os.environ.items() if key not in _NOT_HANDED_ON})


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
