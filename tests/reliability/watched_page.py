"""A page in a real Chromium that is watched: what ran, what was asked of whom, what was put into it, what it shows."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Page, Request, sync_playwright

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
_OWN_SCHEMES = ("data:", "blob:", "about:")
# Charts and tables are painted: what is written on a canvas is kept, since no element holds it.
_HOOK = """
(() => {
  const kept = new Set()
  window.__painted = kept
  for (const name of ["fillText", "strokeText"]) {
    const own = CanvasRenderingContext2D.prototype[name]
    CanvasRenderingContext2D.prototype[name] = function (text, ...rest) {
      kept.add(String(text))
      return own.call(this, text, ...rest)
    }
  }
})()
"""
_LOOK = """
async () => {
  const texts = [], marks = [], injected = []
  const own = address => {
    try {
      const url = new URL(address, location.href)
      return ["data:", "blob:", "about:"].includes(url.protocol) || url.origin === location.origin
    } catch { return false }
  }
  const walk = root => {
    const body = root.body || root
    for (const node of body.querySelectorAll("*")) {
      const tag = node.localName
      if (node.shadowRoot) walk(node.shadowRoot)
      if (["iframe", "frame", "object", "embed", "base", "marquee", "video", "math"].includes(tag)) injected.push(tag)
      if (tag === "script" && body.contains(node) && !node.src && !(node.type || "").includes("json"))
        injected.push("script " + node.textContent.slice(0, 80))
      if (tag === "meta") injected.push("meta")
      if (node.classList && node.classList.contains("katex")) injected.push("formula")
      for (const { name, value } of node.attributes) {
        if (/^on/i.test(name)) injected.push(`${tag} ${name}`)
        if (["src", "href", "action", "data", "srcset", "poster", "formaction", "xlink:href"].includes(name)
            && value && !own(value)) injected.push(`${tag} ${name}=${value.slice(0, 120)}`)
        if (name === "srcdoc") injected.push("srcdoc")
        if (["title", "aria-label", "alt", "placeholder", "value", "aria-valuetext"].includes(name)) marks.push(value)
      }
      if (["input", "textarea"].includes(tag) && node.value) marks.push(node.value)
      if (tag === "style" && node.textContent.includes("display:none!important")) injected.push("style")
    }
    texts.push(body.textContent || "")
  }
  walk(document)
  const painted = [...window.__painted]
  window.__painted.clear()
  return {
    texts, marks, painted, injected, ran: window.__x !== undefined, title: document.title, at: location.href,
    failed: document.querySelectorAll("[data-testid=stException]").length,
  }
}
"""


@dataclass
class Findings:
    """What went wrong on the pages that were looked at, each as where and what."""

    scripts: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    injected: list[str] = field(default_factory=list)
    navigations: list[str] = field(default_factory=list)
    exceptions: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Seen:
    """What a page shows: text of elements, what stands in fields and in names for screen readers, what is painted."""

    texts: tuple[str, ...]
    marks: tuple[str, ...]
    painted: tuple[str, ...]


@contextmanager
def chromium() -> Iterator[Browser]:
    """A Chromium: the one of the system, or the one that $CHROMIUM names."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not path:
        raise SystemExit("no Chromium here: install Debian's chromium, or name one in $CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class WatchedPage:
    """One page of one server; whatever it does that it should not is kept in `findings`."""

    def __init__(self, browser: Browser, url: str, findings: Findings | None = None) -> None:
        self.url = url
        self.findings = findings or Findings()
        self.requests = 0
        self.places: set[str] = set()
        self.context: BrowserContext = browser.new_context(
            base_url=url, viewport={"width": 1440, "height": 1600}, accept_downloads=True
        )
        self.context.add_init_script(_HOOK)
        self.context.route(lambda address: not self._own(address), lambda route: route.abort())
        self.context.on("request", self._asked)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(30_000)
        self.page.on("pageerror", lambda error: self.findings.errors.append(f"{self._where()}: {error}"))
        self.page.on("console", self._told)
        self.page.on("dialog", self._asks)
        self.page.on("framenavigated", lambda frame: self._went(frame.url))
        self.page.on("popup", lambda popup: self._went(popup.url))

    def _own(self, address: str) -> bool:
        return address.startswith((self.url, self.url.replace("http", "ws", 1), *_OWN_SCHEMES))

    def _where(self) -> str:
        return self.page.url.removeprefix(self.url)[:100]

    def _asked(self, request: Request) -> None:
        self.requests += 1
        if not self._own(request.url):
            self.findings.requests.append(f"{self._where()}: {request.url[:200]}")

    def _told(self, message: ConsoleMessage) -> None:
        # Below a page's path, Streamlit first looks for its server there: it is not, which is as it should be.
        probe = "404" in message.text and "/_stcore/" in message.location.get("url", "")
        if message.type == "error" and not probe:
            self.findings.errors.append(f"{self._where()}: {message.text[:300]}")

    def _asks(self, dialog: Any) -> None:
        self.findings.scripts.append(f"{self._where()}: a dialog says {dialog.message[:80]!r}")
        dialog.dismiss()

    def _went(self, address: str) -> None:
        if not self._own(address):
            self.findings.navigations.append(f"to {address[:200]}")

    def goto(self, path: str) -> None:
        """Opens a page of the server and waits until it stands."""
        self.page.goto(path)
        self.page.locator("h1, [data-testid=stAlert]").first.wait_for(state="attached", timeout=90_000)
        self.settled()

    def settled(self) -> None:
        """Waits until the page's script has run and its widgets are drawn."""
        self.page.wait_for_timeout(220)  # widgets wait that long before they tell the server
        state = "[data-testid=stApp][data-test-connection-state=CONNECTED][data-test-script-state=notRunning]"
        for _ in range(3):  # a page that refreshes itself runs again and again
            with suppress(Error):
                self.page.locator(state).wait_for(state="attached", timeout=20_000)
                return

    def look(self, place: str) -> Seen:
        """Looks for what should not be there, and gives what is."""
        self.places.add(place)
        found = self.page.evaluate(_LOOK)
        if found["ran"]:
            self.findings.scripts.append(f"{place}: {found['at'][:200]}")
            self.page.evaluate("() => { delete window.__x }")
        self.findings.injected += [f"{place}: {one}" for one in found["injected"]]
        if found["failed"]:
            self.findings.exceptions.append(f"{place}: {found['at'][:200]}")
        return Seen(tuple(found["texts"]), (*found["marks"], found["title"]), tuple(found["painted"]))

    def close(self) -> None:
        """Closes the page."""
        self.context.close()
