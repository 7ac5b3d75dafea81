"""Every page for everyone: axe-core finds nothing serious, the keyboard reaches everything, a phone is wide enough.

`PAGES` is the list of pages in their main states; a new page or tab is added there, and so checked in both looks, by
keyboard and at every width.
"""

from typing import Any

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

RUN = "run=shipped/tiny"
PAGES = {
    "home": "/",
    "data": "/data",
    "data, clips": "/data?data_tab=Look+and+listen",
    "data, check": "/data?data_tab=Check",
    "data, splits": "/data?data_tab=Splits",
    "data, import": "/data?data_tab=Bring+in+more",
    "build": "/build",
    "runs": "/runs",
    "run, curves": f"/runs?{RUN}",
    "run, confusion": f"/runs?{RUN}&run_tab=Confusion+matrix",
    "run, log": f"/runs?{RUN}&run_tab=Log",
    "run, config": f"/runs?{RUN}&run_tab=Config",
    "run, checkpoints": f"/runs?{RUN}&run_tab=Checkpoints",
    "compare": "/compare",
    "results": "/results",
    "results, experiments": "/results?results_tab=Experiments",
    "identify": "/identify?model=shipped/tiny",
    "identify, answer": "/identify?model=shipped/tiny&example=demo",
    "pianists": "/pianists?model=shipped/tiny",
    "tracking": "/tracking",
    "cluster": "/cluster",
}
WIDTHS = (1440, 1024, 390)
EMPTY_PAGES = (
    "/", "/data", "/build", "/runs", "/compare", "/results", "/identify", "/pianists", "/tracking", "/cluster",
)  # fmt: skip

# Rules of axe-core that are broken by something that is not ours and cannot be worked round: the rule, and why.
EXCEPTIONS: dict[str, str] = {}

# What the keyboard does in another way: the steps of a number are its arrow keys, a choice is emptied by Delete, and
# what scrolls does so with the arrow keys of what stands in it.
_OTHERWISE = (
    '[data-testid="stNumberInputStepUp"]', '[data-testid="stNumberInputStepDown"]',
    '[data-baseweb="select"] [role="button"]',
    '[aria-label="Clear all"]', '[aria-label="Clear value"]', '[data-testid="stElementToolbar"] button',
)  # fmt: skip

_CONTROLS = """
otherwise => {
  const found = [];
  const walk = root => {
    for (const element of root.querySelectorAll('*')) {
      if (element.shadowRoot) walk(element.shadowRoot);
      const kind = 'button, a[href], input, select, textarea, summary, [role=button], [role=slider], [role=tab]';
      if (!element.matches(kind) || element.disabled || element.getAttribute('aria-disabled') === 'true') continue;
      if (element.type === 'hidden' || element.closest('[aria-hidden=true], [inert]')) continue;
      if (element.matches(otherwise) || !element.checkVisibility({ visibilityProperty: true })) continue;
      if (element.matches('input[type=file]')) continue;  // its button is what is pressed
      found.push(element);
    }
  };
  walk(document);
  window.__controls = found;
  window.__seen = new Set();
  return found.length;
}
"""

_FOCUSED = """
() => {
  let element = document.activeElement;
  while (element && element.shadowRoot && element.shadowRoot.activeElement) element = element.shadowRoot.activeElement;
  if (!element || element === document.body) return null;
  if (element.matches('main')) return { name: 'the page itself, which scrolls', visible: true };
  window.__seen.add(element);
  const shows = one => {
    const style = getComputedStyle(one);
    return (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== 'none';
  };
  let visible = false;
  for (let one = element, steps = 0; one && steps < 5; one = one.parentElement || one.getRootNode().host, steps++)
    visible = visible || shows(one) || [...one.children].slice(0, 6).some(shows);
  return { name: element.outerHTML.slice(0, 160), visible };
}
"""

_MISSED = """
() => {
  const groups = '[role=tablist], [role=radiogroup], [role=grid], [role=group], [role=toolbar]';
  const group = element => element.closest(groups);
  const reached = new Set([...window.__seen].map(group).filter(Boolean));
  return window.__controls
    .filter(element => element.isConnected && !window.__seen.has(element))
    .filter(element => ![...window.__seen].some(seen => element.contains(seen) || seen.contains(element)))
    .filter(element => !(group(element) && reached.has(group(element))))
    .map(element => element.outerHTML.slice(0, 160));
}
"""


_STYLED = "[...document.styleSheets].some(sheet => [...sheet.cssRules].some(one => one.selectorText === '.st-key-nav'))"


def visit(page: Page, path: str) -> None:
    """Opens a page and waits until its script has run and its charts and players are drawn."""
    page.goto(path)
    app = page.get_by_test_id("stApp")
    expect(app).to_have_attribute("data-test-connection-state", "CONNECTED", timeout=60_000)
    expect(page.locator("h1").first).to_be_visible(timeout=60_000)
    # The lab's own styles, with the outline of what is focused, come a moment later where the machine is busy.
    # Playwright's own waiting for a function is text that a page under our policy does not run.
    page.evaluate(f"async () => {{ while (!({_STYLED})) await new Promise(requestAnimationFrame) }}")
    expect(app).to_have_attribute("data-test-script-state", "notRunning", timeout=60_000)
    if "example=" in path:
        # What comes by itself after the answer.
        expect(page.get_by_role("heading", name="Most alike")).to_be_visible(timeout=120_000)
    page.wait_for_timeout(500)
    expect(app).to_have_attribute("data-test-script-state", "notRunning", timeout=60_000)


def grave(page: Page) -> list[str]:
    """What axe-core finds that is serious or critical, a line each."""
    response: dict[str, Any] = Axe().run(page).response
    return [
        f"{violation['impact']} {violation['id']}: {node['html'][:200]}"
        for violation in response["violations"]
        if violation["impact"] in ("serious", "critical") and violation["id"] not in EXCEPTIONS
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize("look", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious_and_no_width_scrolls_sideways(name: str, look: str, page: Page) -> None:
    page.emulate_media(color_scheme=look)  # type: ignore[arg-type]
    visit(page, PAGES[name])
    assert grave(page) == []
    for width in WIDTHS if look == "light" else ():
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(300)
        assert page.get_by_test_id("stMain").evaluate("main => main.scrollWidth - main.clientWidth") <= 0, width


@pytest.mark.parametrize("path", EMPTY_PAGES)
def test_axe_finds_nothing_serious_for_a_first_visitor(path: str, first_page: Page) -> None:
    visit(first_page, path)
    assert grave(first_page) == []


# The pages with the most kinds of controls stand for the others, which the slow suite walks through as well.
MOST_CONTROLS = ("data, splits", "build", "runs", "run, checkpoints", "identify, answer")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in MOST_CONTROLS else pytest.mark.slow) for name in PAGES]
)
def test_the_keyboard_reaches_every_control_and_shows_where_it_is(name: str, page: Page) -> None:
    visit(page, PAGES[name])
    n_controls = page.evaluate(_CONTROLS, ", ".join(_OTHERWISE))
    assert n_controls > 5
    hidden: list[str] = []
    n_outside = 0
    for _ in range(3 * n_controls + 40):
        page.keyboard.press("Tab")
        focused = page.evaluate(_FOCUSED)
        n_outside += focused is None
        if n_outside == 2:  # past the last control, and once more past the first
            break
        if focused is not None and not focused["visible"]:
            hidden.append(focused["name"])
    assert page.evaluate(_MISSED) == []
    assert hidden == []
