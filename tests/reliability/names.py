"""Names come back as text: 200 hostile strings through every field and every page of the lab, in a real Chromium.

    python tests/reliability/names.py [--names 200] [--group 40] [--every 1] [--keep FOLDER]

Makes two data roots: one that the product's own doors fill with these names (pianists, albums, compositions, files,
tags, notes, logs, classes of a run, uploads), and one that was made by hand, as a colleague's folder may be. Opens
every page of both with every tab, expander, popover and list, points at charts, scrolls tables, types the names into
every field, puts them into addresses, takes downloads away and opens the report. Counts scripts that ran, requests to
other hosts, elements that were put into the page, navigations away and exceptions shown, and reads the names back from
what is on the screen. Exit status 1 when one of these is not 0, or a name came back as something else.
"""

import argparse
import csv
import json
import pickle
import re
import signal
import sys
import tempfile
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from hostile_root import FIELDS, Made, bad_files, filled_root, forged_root, midi_called, named  # noqa: E402
from lab_server import LabServer  # noqa: E402
from playwright.sync_api import Browser, Error, Locator  # noqa: E402
from watched_page import Findings, Seen, WatchedPage, chromium  # noqa: E402

from hostile_names import NAMES  # noqa: E402
from pianistid_core.names import printable  # noqa: E402

BEGAN = time.monotonic()
CUT = re.compile(r"\.\.\.$|…$")
MARK = re.compile(r"⟦([a-z])(\d{3})⟧")
FOLDERS = "rsdf"  # kinds whose names were made what a folder can be called
SHOWN = "pacftnlkursqw"  # kinds that some page shows; a track's name in a MIDI file is shown nowhere
ADDRESSES = (
    "/data?split={q}&track={q}&clip={q}&data_tab={q}&data_measure={q}", "/runs?run={q}&run_tab={q}&runs_filter={q}",
    "/compare?runs={q}&compare_filter={q}&compare_tab={q}", "/identify?model={q}&checkpoint={q}&example={q}&source={q}",
    "/pianists?model={q}&pianist={q}&checkpoint={q}", "/build?draft={q}", "/runs?runs_view={q}&runs_sort={q}",
)  # fmt: skip


class Reading:
    """Which names were read from the screen as they are, and which came back as something else."""

    def __init__(self) -> None:
        self.equal: dict[str, set[int]] = {}
        self.altered: list[str] = []
        self.names: dict[str, dict[int, str]] = {}

    def expect(self, made: Made) -> None:
        """The names of a data root, as it keeps them."""
        self.names = made.there

    def take(self, seen: Seen, place: str) -> None:
        """Reads every name whose mark is seen."""
        for text in (*seen.texts, *seen.marks, *seen.painted):
            for match in MARK.finditer(text):
                kind, number = match[1], int(match[2])
                stored = self.names.get(kind, {}).get(number) or named(kind, number)
                before = normal(text[max(0, match.start() - 4 * len(stored) - 50) : match.end()])
                if CUT.search(text, max(0, match.start() - 12), match.start()):
                    continue  # the uploader shows the beginning and the end of a long name
                # A message may quote a name as Python does, in which what is not seen is written out.
                # A browser sends quotation marks in a file's name as %22, and YAML breaks lines by a backslash.
                forms = [normal(stored), *(normal(quoted(stored)[1:-1]) for quoted in (repr, ascii))]
                forms += [normal(stored.replace('"', "%22"))] if kind == "u" else []
                forms += [normal(json.dumps(stored, ensure_ascii=False)[1:-1])] if kind == "w" else []
                # A sentence begins with a capital; a log shows no terminal codes.
                forms += [normal(stored[:1].upper() + stored[1:]), normal(printable(stored))]
                before = before.replace("\\ \\ ", " ") if kind == "w" else before
                if before.endswith(tuple(forms)):
                    self.equal.setdefault(kind, set()).add(number)
                else:
                    self.altered.append(f"{place}: {forms[0]!r} reads {before[-len(forms[0]) - 20 :]!r}")


def normal(text: str) -> str:
    """Text as it is read: on one line, composed, one blank for many."""
    seen = "".join(" " if unicodedata.category(c)[0] == "C" else c for c in unicodedata.normalize("NFC", text))
    return " ".join(seen.split())


class Visitor:
    """Goes through a page as a curious person would: opens everything, points at everything, types everywhere."""

    def __init__(self, watched: WatchedPage, reading: Reading) -> None:
        self.watched, self.page, self.reading = watched, watched.page, reading
        self.fields: set[str] = set()

    def look(self, place: str) -> None:
        """Reads what is there."""
        self.reading.take(self.watched.look(place), place)

    def tour(self, path: str, place: str, *, types: Sequence[str] = (), deep: bool = True) -> None:
        """Opens a page and everything on it, one tab after the other."""
        self.watched.goto(path)
        self.open_all(place, types, deep)
        tabs = self.page.locator("[role=tab]:visible")
        for number in range(1, tabs.count()):
            if number < tabs.count():
                with suppress(Error):
                    tabs.nth(number).click(timeout=5000)
                    self.watched.settled()
                    self.open_all(f"{place}, tab {number + 1}", types, deep)

    def open_all(self, place: str, types: Sequence[str], deep: bool) -> None:
        """Opens expanders, popovers and lists, scrolls tables, points at charts, types into fields."""
        self.look(place)
        closed = self.page.locator("[data-testid=stExpander] details:not([open]) > summary:visible")
        for _ in range(min(closed.count(), 12)):
            with suppress(Error):
                closed.first.click(timeout=3000)
        self.watched.settled()
        if deep:
            self.scroll_tables()
            self.point_at_charts(place)
            self.open_lists(place)
        self.look(place)
        self.open_popovers(place, types)
        self.type_into(self.page.locator("[data-testid=stMain]"), place, types)

    def scroll_tables(self) -> None:
        """Brings every row of every table into view."""
        tables = self.page.locator("[data-testid=stDataFrame]:visible")
        for number in range(min(tables.count(), 4)):
            with suppress(Error):
                tables.nth(number).scroll_into_view_if_needed(timeout=3000)
                tables.nth(number).hover(timeout=3000)
                for _ in range(18):
                    self.page.mouse.wheel(0, 420)
                    self.page.wait_for_timeout(25)

    def point_at_charts(self, place: str) -> None:
        """Moves over each chart, so that it says what it has to say."""
        charts = self.page.locator("[data-testid*=ECharts] canvas:visible, [data-testid*=Echarts] canvas:visible")
        for number in range(min(charts.count(), 4)):
            with suppress(Error):
                charts.nth(number).scroll_into_view_if_needed(timeout=3000)
                box = charts.nth(number).bounding_box()
                for step in range(6 if box else 0):
                    across, down = 0.35 + 0.06 * (step % 3), (step + 1) / 7
                    self.page.mouse.move(box["x"] + box["width"] * across, box["y"] + box["height"] * down)
                    self.page.wait_for_timeout(30)
                    self.look(place)

    def open_lists(self, place: str) -> None:
        """Opens each list to choose from, and goes down in it."""
        boxes = self.page.locator("[data-testid=stMain] [data-testid=stSelectbox]:visible input:enabled")
        for number in range(min(boxes.count(), 5)):
            with suppress(Error):
                boxes.nth(number).click(timeout=3000)
                for _ in range(8):
                    self.look(place)
                    self.page.keyboard.press("PageDown")
                    self.page.mouse.wheel(0, 300)
                self.page.keyboard.press("Escape")

    def open_popovers(self, place: str, types: Sequence[str]) -> None:
        """Opens each popover and what is in it."""
        buttons = self.page.locator("[data-testid=stMain] [data-testid=stPopover] button:visible:enabled")
        for number in range(min(buttons.count(), 14)):
            with suppress(Error):
                buttons.nth(number).click(timeout=3000)
                self.watched.settled()
                self.look(place)
                body = self.page.locator("[data-testid=stPopoverBody]:visible")
                if types and body.count():
                    self.type_into(body.last, place, types)
                self.page.keyboard.press("Escape")

    def type_into(self, part: Locator, place: str, types: Sequence[str]) -> None:
        """Types the names into each field, as many at a time as it takes."""
        if not types:
            return
        fields = part.locator(
            "[data-testid=stTextInput] input:visible:enabled, [data-testid=stTextArea] textarea:visible:enabled"
        )
        for number in range(fields.count()):
            with suppress(Error):
                field = fields.nth(number)
                label = field.get_attribute("aria-label", timeout=2000) or "?"
                if f"{place.split(',')[0]}: {label}" in self.fields:
                    continue
                self.fields.add(f"{place.split(',')[0]}: {label}")
                before = field.input_value()
                for text in joined(types, int(field.get_attribute("maxlength") or 1500)):
                    field.fill(text, timeout=5000)
                    self.look(place)
                    field.press("Enter" if field.evaluate("one => one.localName") == "input" else "Control+Enter")
                    self.watched.settled()
                    self.look(place)
                    field = fields.nth(number)
                field.fill(before, timeout=5000)
                field.press("Enter" if field.evaluate("one => one.localName") == "input" else "Control+Enter")
                self.watched.settled()


def joined(names: Sequence[str], longest: int) -> Iterator[str]:
    """The names one after the other, as many at a time as a field takes."""
    longest = min(longest, 1500)
    part = ""
    for name in names:
        one = name if len(name) <= longest else name[-longest:]
        if part and len(part) + 1 + len(one) > longest:
            yield part
            part = ""
        part = f"{part} {one}" if part else one
    if part:
        yield part


# --- the data root that our own doors have filled ---


def through_the_filled(visitor: Visitor, made: Made, numbers: Sequence[int], group: int, folder: Path) -> list[str]:
    """Every page of the lab on the first data root; gives what was wrong with downloads."""
    typed = [named("w", number) for number in numbers]
    visitor.tour("/", "Home")
    for split in made.splits:
        visitor.tour(f"/data?split={quote(split)}", "Data", deep=split == made.splits[0])
    say_time("Data")
    bring_in(visitor, folder)
    visitor.tour("/runs", "Runs", types=typed)
    for view in ("Queue", "Trash"):
        visitor.tour(f"/runs?runs_view={view}", view)
    say_time("Runs")
    for run in made.runs:
        first = run in (made.runs[0], made.runs[-1])  # the others have the same parts, with other names
        visitor.tour(f"/runs?run={quote(run)}", "Run", types=typed if run == made.runs[0] else (), deep=first)
    say_time("each run")
    groups = [run for run in made.runs if run.startswith("groups/")]
    said = [run for run in made.runs if run.startswith("said/")]
    for runs in (groups, said[:6]):
        visitor.tour(f"/compare?runs={quote(','.join(runs))}", "Compare", types=typed if runs is groups else ())
    say_time("Compare")
    problems: list[str] = []
    for place, run in enumerate(groups):
        problems += identify(visitor, run, numbers[place * group : (place + 1) * group])
        pianists(visitor, run)
    say_time("Identify and Pianists")
    other = {"/", "/data", "/runs", "/compare", "/identify", "/pianists"}
    visitor.watched.goto("/")
    links = visitor.page.locator("[data-testid=stSidebar] a").evaluate_all("all => all.map(one => one.pathname)")
    for path in dict.fromkeys(link for link in links if link not in other):
        visitor.tour(path, path.strip("/").capitalize(), types=typed)
    visitor.tour("/data", "Data", types=typed, deep=False)
    say_time("the other pages")
    return problems


def bring_in(visitor: Visitor, folder: Path) -> None:
    """Imports a folder whose files are no music, by its path; each is named among those that were left out."""
    page = visitor.page
    visitor.watched.goto(f"/data?data_tab={quote('Bring in more')}")
    page.locator(".st-key-import_path input").fill(str(folder / "bad"))
    page.locator(".st-key-import_path input").press("Enter")
    visitor.watched.settled()
    page.locator(".st-key-import_from button").first.click()
    page.get_by_text("can be imported").or_(page.get_by_text("left out")).first.wait_for(timeout=60_000)
    visitor.watched.settled()
    visitor.open_all("Bring in more", (), True)


def identify(visitor: Visitor, run: str, numbers: Sequence[int]) -> list[str]:
    """Asks a model who plays files of these names; what can be taken away says the same."""
    page, problems = visitor.page, []
    visitor.watched.goto(f"/identify?model={quote(run)}")
    files = [
        {"name": f"{named('u', n)}.mid", "mimeType": "audio/midi", "buffer": midi_called(named("m", n), n)}
        for n in numbers
    ]
    page.locator("[data-testid=stFileUploader] input[type=file]").first.set_input_files(files)
    page.locator(".st-key-answer_html button").first.wait_for(timeout=180_000)
    with suppress(Error):
        page.locator(".st-key-insight").wait_for(state="detached", timeout=60_000)
    visitor.watched.settled()
    visitor.open_all("Identify", (), True)
    for key in ("answer_html", "answer_json", "answer_csv", "answers_csv"):
        button = page.locator(f".st-key-{key} button")
        if not button.count():
            continue
        with page.expect_download(timeout=60_000) as got:
            button.first.click()
        path = Path(got.value.path())
        problems += taken_away(visitor, key, path)
    return problems


def taken_away(visitor: Visitor, key: str, path: Path) -> list[str]:
    """Looks into a download; gives what is wrong with it."""
    if key == "answer_html":
        report = path.with_suffix(".html")
        report.write_bytes(path.read_bytes())
        page = WatchedPage(visitor.page.context.browser, f"file://{report}", visitor.watched.findings)
        page.page.goto(f"file://{report}")
        visitor.reading.take(page.look("Report"), "Report")
        page.close()
        visitor.watched.places.add("Report")
        return []
    text = path.read_text(encoding="utf-8")
    if key == "answer_json":
        visitor.reading.take(Seen(tuple(strings(json.loads(text))), (), ()), "JSON")
        return []
    rows = list(csv.reader(text.splitlines(keepends=True)))
    cells = [cell for row in rows for cell in row]
    formulas = [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r")) and not is_number(cell)]
    visitor.reading.take(Seen(tuple(cells), (), ()), "CSV")
    return [f"{key}: a spreadsheet takes {cell!r} for a formula" for cell in formulas]


def strings(data: object) -> Iterator[str]:
    """Every text in plain data, keys too."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for key, value in data.items():
            yield str(key)
            yield from strings(value)
    elif isinstance(data, list):
        for value in data:
            yield from strings(value)


def is_number(text: str) -> bool:
    """Whether text is a figure, which may begin with a minus."""
    with suppress(ValueError):
        float(text)
        return True
    return False


def pianists(visitor: Visitor, run: str) -> None:
    """Measures what a model knows of each pianist, and looks at it."""
    page = visitor.page
    visitor.watched.goto(f"/pianists?model={quote(run)}")
    button = page.get_by_role("button", name=re.compile("^.*Measure")).first
    with suppress(Error):
        button.click(timeout=5000)
        page.locator("[data-testid*=ECharts], [data-testid*=Echarts]").first.wait_for(timeout=180_000)
    visitor.watched.settled()
    visitor.open_all("Pianists", (), True)


# --- the data root from a colleague, and addresses ---


def through_the_forged(visitor: Visitor, made: Made, every: int) -> None:
    """Every page of the lab on a data root that was made by hand."""
    visitor.tour("/", "Home")
    for split in made.splits[:4]:
        visitor.tour(f"/data?split={quote(split)}", "Data", deep=split == made.splits[0])
    say_time("Data")
    visitor.tour("/runs", "Runs")
    say_time("Runs")
    tabs = ("Curves", "Confusion matrix", "Log", "Config", "Checkpoints")
    for place, run in enumerate(made.runs[::every]):
        visitor.watched.goto(f"/runs?run={quote(run)}&run_tab={quote(tabs[place % len(tabs)])}")
        visitor.look("Run")
    say_time("each run")
    for at in range(0, len(made.runs), 20 * every):
        query = "&".join(f"runs={quote(run)}" for run in made.runs[at : at + 20])
        visitor.tour(f"/compare?{query}", "Compare", deep=at == 0)
    for path in ("/identify", "/pianists", "/build", "/tracking", "/cluster"):
        visitor.tour(path, path.strip("/").capitalize(), deep=path == "/build")


def in_addresses(visitor: Visitor, numbers: Sequence[int]) -> None:
    """Each name in every place of an address of one page."""
    for number in numbers:
        path = ADDRESSES[number % len(ADDRESSES)].format(q=quote(named("q", number).replace("\0", "")))
        visitor.watched.goto(path)
        visitor.look(path.partition("?")[0].strip("/").capitalize())


def both_roots(folder: Path, numbers: Sequence[int], group: int) -> tuple[Made, Made]:
    """Makes the data roots, or takes those that were made in this folder before."""
    made_before = folder / "made.pickle"
    if made_before.is_file():
        both: tuple[Made, Made] = pickle.loads(made_before.read_bytes())
        return both
    filled = filled_root(folder, numbers, group=group)
    models = sorted((filled.root.checkpoints_dir / "groups").glob("*/checkpoint_*.pth"))
    forged = forged_root(folder, numbers, models[0] if models else None)
    bad_files(folder, numbers)
    made_before.write_bytes(pickle.dumps((filled, forged)))
    return filled, forged


def run(browser: Browser, folder: Path, numbers: Sequence[int], group: int, every: int) -> int:
    """Does all of it and prints the table; gives the exit status."""
    findings, reading, fields, places, problems = Findings(), Reading(), set[str](), set[str](), list[str]()
    filled, forged = both_roots(folder, numbers, group)
    say_time("two data roots are made")
    n_requests = 0
    for made in (forged, filled):
        reading.expect(made)
        with LabServer(made.root.path, made.root.cache_dir) as server:
            watched = WatchedPage(browser, server.url, findings)
            visitor = Visitor(watched, reading)
            try:
                if made is filled:
                    problems += through_the_filled(visitor, made, numbers, group, folder)
                    in_addresses(visitor, numbers[::every])
                else:
                    through_the_forged(visitor, made, every)
            except (Error, KeyboardInterrupt) as error:
                problems.append(f"the journey broke off: {type(error).__name__}: {str(error)[:400]}")
            fields |= visitor.fields
            places |= watched.places
            n_requests += watched.requests
            watched.close()
            findings.exceptions += [f"server: {line[:300]}" for line in server.troubles()]
        say_time("all pages of one data root")
    n_pages = len({place.split(",")[0] for place in places})
    return report(findings, reading, [filled, forged], fields, (n_pages, len(places), n_requests), problems)


def report(
    findings: Findings,
    reading: Reading,
    roots: Sequence[Made],
    fields: set[str],
    counts: tuple[int, int, int],
    problems: Sequence[str],
) -> int:
    """Prints what was found; gives the exit status."""
    say(f"\n{'where a name stands':24} {'came in':>8} {'refused':>8} {'read back equal':>16}")
    n_there = n_read = 0
    for kind, what in FIELDS.items():
        there = {number for made in roots for number in made.there.get(kind, {})}
        refused = sum(len(made.refused.get(kind, ())) for made in roots)
        read = reading.equal.get(kind, set())
        there |= read
        if kind in SHOWN:
            n_there, n_read = n_there + len(there), n_read + len(read & there)
        say(f"{what:24} {len(there):8} {refused:8} {len(read & there) if kind in SHOWN else '-':>16}")
        if kind in SHOWN and there - read:
            say(f"    not seen: {', '.join(repr(NAMES[number][:24]) for number in sorted(there - read)[:8])}")
    wrong = {
        "scripts run": findings.scripts, "requests to other hosts": findings.requests,
        "elements put into a page": findings.injected, "navigations away": findings.navigations,
        "exceptions shown": findings.exceptions, "errors of the page": findings.errors,
        "names come back as something else": reading.altered, "other faults": list(problems),
    }  # fmt: skip
    for what, found in wrong.items():
        for one in list(dict.fromkeys(found))[:12]:
            say(f"{what}: {one}")
    n_pages, n_places, n_requests = counts
    say(
        f"\nstrings {len(NAMES)}, fields typed into {len(fields)}, pages {n_pages}, parts of pages {n_places}, "
        f"requests of the page {n_requests}; " + ", ".join(f"{what} {len(found)}" for what, found in wrong.items())
    )
    say(f"read back equal: {n_read} of {n_there}")
    return 1 if any(wrong.values()) else 0


def say_time(what: str) -> None:
    """Prints how long it has taken up to here."""
    say(f"  {time.monotonic() - BEGAN:5.0f} s: {what}")


def say(text: str) -> None:
    """Prints a line at once."""
    print(text.encode("utf-8", "backslashreplace").decode(), flush=True)


def main() -> int:
    """Runs it as asked."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was found by then is told
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--names", type=int, default=len(NAMES), help="how many of the strings, evenly chosen")
    parser.add_argument("--group", type=int, default=40, help="how many pianists one model tells apart")
    parser.add_argument("--every", type=int, default=1, help="open each run and address, or only every Nth")
    parser.add_argument("--keep", type=Path, help="where to make the data roots, which stay and are used again")
    options = parser.parse_args()
    step = max(1, len(NAMES) // max(1, options.names))
    numbers = list(range(0, len(NAMES), step))
    with tempfile.TemporaryDirectory(prefix="names-") as made, chromium() as browser:
        folder = options.keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        return run(browser, folder, numbers, options.group, options.every)


if __name__ == "__main__":
    sys.exit(main())
