"""Nobody else is asked: a whole journey in which neither the page nor the server and its children go to another host.

    python tests/reliability/network.py [--epochs 2] [--clips 16] [--open] [--show]

Home, demo data, a training that MLflow mirrors, watched live, another, both compared, music identified with its report
and everything else taken away, and every page of settings. It all runs in a network namespace that has a loopback and
nothing else (`unshare`), so whatever needs another host fails there; `--open` leaves the network as it is. Every
request of the page is recorded, and every connection that the server or any process it starts so much as tries, by
`strace`. Exit status 1 when one goes to another host, or when the journey does not reach its end.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path[:0] = [str(HERE)]

import psutil  # noqa: E402
from playwright.sync_api import Browser, Page, expect  # noqa: E402
from watched_page import Findings, WatchedPage, chromium  # noqa: E402

_INSIDE = "PIANISTID_NETWORK_INSIDE"
_LONG_MS = 900_000
_ADDRESS = re.compile(
    r"sin_port=htons\((\d+)\), sin_addr=inet_addr\(\"([^\"]+)\"\)|sin6_port=htons\((\d+)\)"
    r".*?inet_pton\(AF_INET6, \"([^\"]+)\""
)
_OWN = re.compile(r"(https?|wss?)://(127\.0\.0\.1|localhost)[:/]|data:|blob:")
_PORT = 8599


@dataclass
class Told:
    """What was asked of whom."""

    findings: Findings = field(default_factory=Findings)
    requests: int = 0
    stations: list[str] = field(default_factory=list)
    mlflow: list[str] = field(default_factory=list)


def alone() -> None:
    """Starts this program once more where there is no network but a loopback."""
    if os.environ.get(_INSIDE) or not shutil.which("unshare") or not shutil.which("ip"):
        return
    again = [sys.executable, str(Path(__file__).resolve()), *sys.argv[1:]]
    script = 'ip link set lo up && exec "$@"'
    command = ["unshare", "-rn", "sh", "-c", script, "sh", *again]
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode == 0:
        os.execvpe(command[0], command, os.environ | {_INSIDE: "1"})


@contextmanager
def traced(folder: Path) -> Iterator[str]:
    """The lab on a data root that is not there yet, with every attempt to connect written to `folder`/connections."""
    environment = os.environ | {
        "PIANISTID_HOME": str(folder / "home"), "PIANISTID_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", "streamlit", "run", "lab/Home.py", "--server.port", str(_PORT)]
    if shutil.which("strace"):
        watch = [
            "strace",
            "-f",
            "-qq",
            "--seccomp-bpf",
            "-e",
            "trace=connect,sendto,sendmsg,sendmmsg",
            "-e",
            "signal=none",
        ]
        command = [*watch, "-o", str(folder / "connections"), *command]
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        url = f"http://127.0.0.1:{_PORT}"
        _await(f"{url}/_stcore/health", folder / "server.log")
        yield url
    finally:
        for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
            with suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        for one in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else ():
            with suppress(psutil.NoSuchProcess):
                one.kill()


def _await(address: str, log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"the lab did not start: {log.read_text()[-2000:]}")


def journey(browser: Browser, url: str, told: Told, epochs: int, clips: int) -> None:
    """Home, demo data, training, live, compare, identify, settings."""
    watched = WatchedPage(browser, url, told.findings)
    page = watched.page

    def reached(station: str) -> None:
        watched.settled()
        watched.look(station)
        told.stations.append(station)
        told.requests = watched.requests
        print(f"  {station}", flush=True)

    watched.goto("/")
    page.get_by_role("button", name="Make demo data").click()
    expect(page.get_by_role("button", name="Train the demo")).to_be_enabled(timeout=_LONG_MS)
    reached("Home, demo data")
    watched.goto("/tracking")
    page.locator(".st-key-mlflow_use label").first.click()
    expect(page.get_by_role("radio", name="In this data root")).to_be_visible(timeout=_LONG_MS)
    reached("MLflow switched on")
    for name in ("one", "two"):
        train(watched, name, epochs, clips)
        expect(page.locator(".st-key-loss_chart canvas").first).to_be_visible(timeout=_LONG_MS)
        reached(f"run {name} watched live")
        expect(page.locator(".st-key-run_state")).to_contain_text("Finished", timeout=_LONG_MS)
        for tab in ("Confusion matrix", "Log", "Config", "Checkpoints"):
            page.get_by_role("tab", name=tab).click()
            reached(f"run {name}, {tab}")
    watched.goto(f"/compare?runs={quote('demo/one,demo/two')}")
    for tab in ("Curves", "Results", "Config", "Matrices", "Is one better", "The paper"):
        page.get_by_role("tab", name=re.compile(tab)).first.click()
        reached(f"Compare, {tab}")
    identify(watched, reached)
    settings(watched, reached, told)
    watched.close()


def train(watched: WatchedPage, name: str, epochs: int, clips: int) -> None:
    """Starts a small run from the Build page."""
    page = watched.page
    watched.goto("/build")
    for key, value in (("run", name), ("epochs", str(epochs))):
        fill(watched, page, key, value)
    page.get_by_role("tab", name="Clips").click()
    for part in ("train", "test"):
        fill(watched, page, f"{part}_dataset_cfg.n_clips", str(clips))
    page.locator(".st-key-start button:visible").click()
    page.wait_for_url(re.compile("/runs"), timeout=_LONG_MS)


def fill(watched: WatchedPage, page: Page, key: str, value: str) -> None:
    """Fills a field of the Build form."""
    place = page.locator(f"[class*=st-key-field-][class*='-{key.replace('.', '-')}'] input").first
    place.fill(value)
    place.press("Enter")
    watched.settled()


def identify(watched: WatchedPage, reached: Callable[[str], None]) -> None:
    """Identifies a recording of the demo, waits for all that follows, and takes everything away."""
    page = watched.page
    watched.goto(f"/identify?model={quote('demo/two')}&example=demo")
    page.locator(".st-key-answer_html button").first.wait_for(timeout=_LONG_MS)
    expect(page.locator(".st-key-alike_roll .roll").first).to_be_visible(timeout=_LONG_MS)
    for key in ("answer_html", "answer_json", "answer_csv", "answer_midi"):
        with page.expect_download(timeout=_LONG_MS) as got:
            page.locator(f".st-key-{key} button").first.click()
        if key == "answer_html":
            report = Path(got.value.path()).with_suffix(".html")
            shutil.copyfile(got.value.path(), report)
            apart = WatchedPage(page.context.browser, f"file://{report}", watched.findings)
            apart.page.goto(f"file://{report}")
            apart.look("Report")
            apart.close()
    reached("Identify, with its report")


def settings(watched: WatchedPage, reached: Callable[[str], None], told: Told) -> None:
    """Every page that the sidebar names, and MLflow's own pages."""
    page = watched.page
    watched.goto("/")
    links = page.locator("[data-testid=stSidebar] a").evaluate_all("all => all.map(one => one.pathname)")
    for path in dict.fromkeys(links):
        watched.goto(path)
        reached(f"page {path}")
    watched.goto("/tracking")
    start = page.get_by_role("button", name=re.compile("MLflow", re.IGNORECASE)).first
    if start.count() and start.is_enabled():
        start.click()
        link = page.locator(
            "[data-testid=stMain] a[href^='http://127.0.0.1'], [data-testid=stMain] a[href^='http://localhost']"
        )
        with suppress(AssertionError):
            expect(link.first).to_be_visible(timeout=120_000)
        if link.count():
            open_mlflow(page, link.first.get_attribute("href") or "", told)
            reached("MLflow's own pages")


def open_mlflow(page: Page, address: str, told: Told) -> None:
    """Opens MLflow's own pages, and keeps what they ask of others: they are MLflow's, and counted apart."""
    context = page.context.browser.new_context()
    other = context.new_page()
    other.on("request", lambda request: told.mlflow.append(request.url))
    with suppress(Exception):
        other.goto(address, timeout=60_000)
        other.wait_for_timeout(5000)
    context.close()


def connections(folder: Path) -> Mapping[str, Sequence[str]]:
    """The addresses that any process tried to reach: those of this machine, and others."""
    found: dict[str, list[str]] = {"here": [], "elsewhere": []}
    trace = folder / "connections"
    if not trace.is_file():
        return found
    with trace.open(errors="replace") as lines:
        for line in lines:
            match = _ADDRESS.search(line)
            if match:
                host, port = match[2] or match[4], match[1] or match[3]
                near = host.startswith("127.") or host in ("::1", "0.0.0.0", "::") or host.startswith("::ffff:127.")
                found["here" if near else "elsewhere"].append(f"{host}:{port}  {line.strip()[:200]}")
    return found


def main() -> int:
    """Runs it as asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=2, help="of each of the two runs")
    parser.add_argument("--clips", type=int, default=16, help="that each run trains and tests on")
    parser.add_argument("--open", action="store_true", help="leave the network as it is")
    parser.add_argument("--keep", type=Path, help="where to work; it stays")
    options = parser.parse_args()
    if not options.open:
        alone()
    inside = bool(os.environ.get(_INSIDE))
    watched_by = "strace" if shutil.which("strace") else "nobody: strace is not here"
    print(f"network: {'a loopback only' if inside else 'as it is'}; connections watched by {watched_by}", flush=True)
    told, began, broke = Told(), time.monotonic(), ""
    with tempfile.TemporaryDirectory(prefix="network-") as made, chromium() as browser:
        folder = options.keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        with traced(folder) as url:
            try:
                journey(browser, url, told, options.epochs, options.clips)
            except Exception as error:
                broke = f"{type(error).__name__}: {str(error)[:600]}"
        tried = connections(folder)
        trouble = [line for line in (folder / "server.log").read_text().splitlines() if "Traceback" in line]
    return report(told, tried, broke, trouble, time.monotonic() - began)


def report(told: Told, tried: Mapping[str, Sequence[str]], broke: str, trouble: Sequence[str], seconds: float) -> int:
    """Prints what was found; gives the exit status."""
    elsewhere = tried["elsewhere"]
    foreign = [url for url in told.mlflow if not _OWN.match(url)]
    for what, found in (
        ("asked of another host by the page", told.findings.requests), ("tried by a process", elsewhere),
        ("asked by MLflow's own page", foreign), ("error of the page", told.findings.errors), ("server", trouble),
    ):  # fmt: skip
        for one in list(dict.fromkeys(found))[:15]:
            print(f"{what}: {one}")
    if broke:
        print(f"the journey broke after {told.stations[-1:] or 'nothing'}: {broke}")
    print(
        f"stations {len(told.stations)} in {seconds:.0f} s; requests of the page {told.requests}, to other hosts "
        f"{len(told.findings.requests)}; connections tried by the server and its children {len(tried['here'])} to "
        f"this machine, {len(elsewhere)} to others; MLflow's own page: {len(told.mlflow)} requests, {len(foreign)} to "
        "others; "
        f"exceptions shown {len(told.findings.exceptions)}, tracebacks {len(trouble)}"
    )
    return 1 if told.findings.requests or elsewhere or broke or told.findings.exceptions or trouble else 0


if __name__ == "__main__":
    sys.exit(main())
