"""A real server on a free port with a data root of its own, and a real Chromium that may only reach that server."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pianistid_core.boxed import write_box
from pianistid_core.checkpoints import load_model
from pianistid_core.config import load_config
from pianistid_core.datasets.demo import make_demo
from pianistid_core.datasets.root import DataRoot
from pianistid_core.datasets.splitting import make_split
from pianistid_core.ladder import Family
from pianistid_core.measuring import measure_model
from pianistid_core.run_config import find_run, run_for
from pianistid_core.runs import find_runs
from pianistid_core.training import train

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

REPOSITORY = Path(__file__).resolve().parents[2]
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)  # fmt: skip
TINY = [
    "epochs=2", "experiment=shipped", "run=tiny", "train_dataset_cfg.n_clips=16", "test_dataset_cfg.n_clips=12",
    "model_cfg.frame_pool=60",
]  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("browser")


class Server:
    """`streamlit run lab/Home.py`, to be killed and started again."""

    def __init__(self, root: DataRoot) -> None:
        self.root = root
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = root.path.parent / f"server-{self.port}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.kills = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        environment = os.environ | {
            "PIANISTID_HOME": str(self.root.path), "PIANISTID_CACHE": str(self.root.cache_dir), "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        command = [sys.executable, "-m", "streamlit", "run", "lab/Home.py", "--server.port", str(self.port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=2):
                    return
            except OSError:
                time.sleep(0.1)
        pytest.fail(f"the server did not start: {self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        self.kills += 1
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


@pytest.fixture(scope="session")
def trained_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataRoot]:
    """Demo data and one tiny trained model; whatever trains in it is ended afterwards."""
    base = tmp_path_factory.mktemp("browser")
    root = DataRoot(base / "home", base / "cache")
    make_demo(root, recordings_per_pianist=4)
    make_split(root, "second", by="composition")  # a page must have room for more than one
    config = load_config("demo.yaml", overrides=TINY)
    train(config, root, run_for(config, root))
    yield root
    for run in find_runs(root.checkpoints_dir):
        trainer = run.trainer()
        if trainer is not None:
            Family(run.path, trainer).end()


@pytest.fixture(scope="session")
def server(trained_root: DataRoot) -> Iterator[Server]:
    running = Server(trained_root)
    running.start()
    yield running
    running.kill()
    log = running.log.read_text()
    assert "deprecat" not in log.lower(), log
    assert "Traceback" not in log, log


@pytest.fixture(scope="session")
def browser() -> Iterator["playwright_api.Browser"]:
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not chromium:
        pytest.skip("no Chromium: install Debian's chromium, or name one in $CHROMIUM")
    with playwright_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def empty_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on a data root that is not there yet: what a first visitor meets."""
    base = tmp_path_factory.mktemp("first visit")
    running = Server(DataRoot(base / "home", base / "cache"))
    running.start()
    yield running
    running.kill()
    assert "Traceback" not in running.log.read_text(), running.log.read_text()


@pytest.fixture(scope="session")
def box_server(trained_root: DataRoot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a model in its box, on a data root that is not there yet."""
    base = tmp_path_factory.mktemp("box")
    loaded = load_model(find_run("shipped/tiny", trained_root).path)
    write_box(loaded, base / "box", title="Eight pianists", measured={"test": measure_model(loaded, trained_root)})
    running = Server(DataRoot(base / "home", base / "cache"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIANISTID_BOX", str(base / "box"))
        running.start()
    yield running
    running.kill()
    assert "Traceback" not in running.log.read_text(), running.log.read_text()


@pytest.fixture
def box_page(browser: "playwright_api.Browser", box_server: Server) -> Iterator["playwright_api.Page"]:
    """A page of a lab that comes with a model, watched likewise."""
    with watched_page(browser, box_server) as opened:
        yield opened


@pytest.fixture
def page(browser: "playwright_api.Browser", server: Server) -> Iterator["playwright_api.Page"]:
    """A page of the lab; at the end nothing has failed on it, and nothing was asked of another host."""
    with watched_page(browser, server) as opened:
        yield opened


@pytest.fixture
def first_page(browser: "playwright_api.Browser", empty_server: Server) -> Iterator["playwright_api.Page"]:
    """A page of the lab as a first visitor opens it, watched likewise."""
    with watched_page(browser, empty_server) as opened:
        yield opened


@contextmanager
def watched_page(browser: "playwright_api.Browser", server: Server) -> Iterator["playwright_api.Page"]:
    """A page whose requests, errors and console are looked at when it is closed."""
    context = browser.new_context(base_url=server.url, viewport={"width": 1440, "height": 1000})
    opened = context.new_page()
    opened.set_default_timeout(20_000)
    foreign: list[str] = []
    errors: list[str] = []
    kills = server.kills

    def asked(request: "playwright_api.Request") -> None:
        if not request.url.startswith((server.url, server.url.replace("http", "ws"), "data:", "blob:")):
            foreign.append(request.url)

    def told(message: "playwright_api.ConsoleMessage") -> None:
        # Below a page's path, Streamlit first looks for its server there: it is not, which is as it should be.
        probes = "404" in message.text and "/_stcore/" in message.location.get("url", "")
        # While a server is away, the browser says so; so does a chart whose code it was about to fetch.
        gone = (
            "ERR_CONNECTION", "WebSocket", "from server", "server endpoint", "server is not responding",
            "Failed to fetch dynamically imported module",
        )  # fmt: skip
        away = server.kills > kills and any(words in message.text for words in gone)
        if message.type == "error" and not probes and not away:
            errors.append(f"{message.text} ({message.location.get('url', '')})")

    opened.on("request", asked)
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", told)
    yield opened
    playwright_api.expect(opened.get_by_test_id("stException")).to_have_count(0)
    assert foreign == []
    assert errors == []
    context.close()
