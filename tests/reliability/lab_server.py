"""A lab that is served on a free port with a data root of its own, and what its process takes of the machine."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from client import Server, Tab

REPOSITORY = Path(__file__).resolve().parents[2]
_TROUBLE = ("Exception in", "ERROR")
_LAST_LINES = 8


@dataclass(frozen=True)
class Taken:
    """What the server takes at a moment: megabytes resident and its own, open files, threads, CPU seconds so far."""

    rss_mb: float
    pss_mb: float
    files: int
    threads: int
    cpu_s: float


class LabServer:
    """`streamlit run lab/Home.py` on a data root; `log` is what it says."""

    def __init__(
        self, root: Path, cache: Path, *, options: dict[str, str] | None = None, script: str = "lab/Home.py"
    ) -> None:
        self.root = root
        self.log = root.parent / f"server-{time.monotonic_ns()}.log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        environment = os.environ | {"PIANISTID_HOME": str(root), "PIANISTID_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "streamlit", "run", script, "--server.port", str(self.port)]
        for key, value in (options or {}).items():
            command += [f"--{key}", value]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def __enter__(self) -> Self:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.server = Server(self.url)
            except OSError:
                time.sleep(0.1)
            else:
                return self
        raise RuntimeError(f"the lab did not start: {self.log.read_text()[-2000:]}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def tab(self, *, patience_s: float = 60.0) -> Tab:
        """A new tab, with cookies of its own."""
        return Tab(Server(self.url), patience_s=patience_s)

    def taken(self) -> Taken:
        """What it takes now."""
        process = psutil.Process(self.process.pid)
        with process.oneshot():
            memory, times = process.memory_full_info(), process.cpu_times()
            own = getattr(memory, "pss", memory.rss)
            return Taken(
                memory.rss / 1e6, own / 1e6, process.num_fds(), process.num_threads(), times.user + times.system
            )

    def troubles(self) -> list[str]:
        """What its log tells of errors: each traceback as its last lines, and each line of an error."""
        found: list[str] = []
        lines = self.log.read_text(errors="replace").splitlines()
        for number, line in enumerate(lines):
            if "Traceback (most recent call last)" in line:
                end = next((at for at in range(number + 1, len(lines)) if lines[at][:1].strip()), len(lines) - 1)
                found.append("\n      ".join(lines[max(number, end - _LAST_LINES) : end + 1]))
            elif any(word in line for word in _TROUBLE):
                found.append(line)
        return found
