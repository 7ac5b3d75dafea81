"""Uploads: nobody sees another's, too many are refused before they fill the memory, and all of them are given back.

    python tests/reliability/uploads.py [--megabytes 499] [--files 10]

Part of figure 7 of the reliability table. A real server and real sessions. Prints what a second session can see of the
first one's files (text, media, addresses), how the server answers `--files` uploads of the largest size at once, and
its memory before, with them, and after their pages were closed. Exit status 1 when anything is seen, an upload is
neither taken (204) nor refused for its size (411, 413), or the memory does not come back.
"""

import argparse
import collections
import re
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from client import Server, Tab, TabError
from lab_server import LabServer
from sessions import EXPERIMENT, make_root, music, trained

SECRET = "only-mine-4711"
# What refuses without reading may close before the answer is heard.
REFUSED = (411, 413, "ConnectionResetError", "BrokenPipeError", "RemoteDisconnected")


def seen_by_another(lab: LabServer, piece: bytes) -> list[str]:
    """What somebody else can get of a file that one session has uploaded and had identified."""
    wrong = []
    with lab.tab() as mine, lab.tab() as theirs:
        mine.open("identify", model=f"{EXPERIMENT}/model")
        mine.upload("midi_files", {f"{SECRET}.mid": piece})
        mine.wait(lambda: SECRET in mine.words())
        media = sorted(set(re.findall(r"/media/[\w.]+", "\n".join(str(one) for one in mine.elements()))))
        for page in ("", "data", "build", "runs", "compare", "identify", "pianists", "tracking"):
            theirs.open(page)
            everything = "\n".join(str(one) for one in theirs.elements())
            if SECRET in everything:
                wrong.append(f"the page {page or 'home'} of another session shows the name of the file")
            if any(address in everything for address in media):
                wrong.append(f"the page {page or 'home'} of another session names a media file of the first")
        theirs.open("identify", model=f"{EXPERIMENT}/model")
        uploader = theirs.widget("midi_files")
        if list(getattr(uploader, "uploaded_file_info", ())):
            wrong.append("the uploader of another session holds the file")
        wrong += taken_over(mine, theirs)
    return wrong


def taken_over(mine: Tab, theirs: Tab) -> list[str]:
    """Whether a session can hold the file of another by naming it, or put a file into it."""
    wrong = []
    state = next(one for one in mine.held() if one.HasField("file_uploader_state_value"))
    theirs.adopt(theirs.widget("midi_files").id, state)
    if SECRET in theirs.words():
        wrong.append("another session holds the file by naming it")
    info = state.file_uploader_state_value.uploaded_file_info[0]
    stranger = Tab(Server(mine.server.url))
    with stranger:
        stranger.open()
        status = stranger.put(info.file_urls.upload_url.replace(info.file_id, "x" * 36), "planted.mid", b"MThd")
    print(f"  a file put into another's session: answered {status}")
    for path in ("/media/", "/_stcore/upload_file/", info.file_urls.upload_url):
        status, body = mine.server.request("GET", f"/{path.lstrip('/')}")
        if SECRET.encode() in body or b"MThd" in body:
            wrong.append(f"{path} gives the file away")
    return wrong


def at_once(lab: LabServer, n: int, megabytes: int) -> tuple[collections.Counter[int | str], float]:
    """Uploads of the largest size, each by a page of its own, at once; gives the answers and the most memory."""
    data = bytes(megabytes << 20)
    answers: collections.Counter[int | str] = collections.Counter()
    most = lab.taken().rss_mb
    ends = threading.Event()
    tabs: list[Tab] = []

    def send() -> None:
        tab = lab.tab(patience_s=300)
        tabs.append(tab)
        try:
            tab.open("data")
            places = tab.places(["large.zip"])
            answers[tab.put(places[0].upload_url, "large.zip", data)] += 1
        except (OSError, TabError) as error:
            answers[type(error).__name__] += 1

    threads = [threading.Thread(target=send) for _ in range(n)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        most = max(most, lab.taken().rss_mb)
        ends.wait(0.25)
    most = max(most, lab.taken().rss_mb)
    for tab in tabs:
        tab.close()
    return answers, most


def back(lab: LabServer, before: float, margin_mb: float, patience_s: float) -> tuple[float, float]:
    """How long until the memory is back, or the patience at an end; and what it is then."""
    began = time.monotonic()
    while (now := lab.taken().rss_mb) > before + margin_mb and time.monotonic() - began < patience_s:
        time.sleep(1)
    return time.monotonic() - began, now


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=499, help="the size of a large upload without its form")
    parser.add_argument("--files", type=int, default=10, help="how many large uploads at once")
    parser.add_argument("--margin-mb", type=float, default=60)
    parser.add_argument("--patience-s", type=float, default=180)
    options = parser.parse_args()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        root = make_root(Path(name), 1)
        trained(root)
        with LabServer(root.path, root.cache_dir) as lab:
            found = seen_by_another(lab, music(root, 1)[0])
            print(f"seen of another's upload: {len(found)}", *found, sep="\n  ")
            wrong += found
            time.sleep(20)  # what Identify works out goes on for a while
            before = lab.taken()
            answers, most = at_once(lab, options.files, options.megabytes)
            seconds, after = back(lab, before.rss_mb, options.margin_mb, options.patience_s)
            print(f"{options.files} uploads of {options.megabytes} MB at once: answered {dict(answers)}")
            print(
                f"  server memory {before.rss_mb:.0f} MB before, {most:.0f} MB at most, {after:.0f} MB "
                f"{seconds:.0f} s after the pages were closed"
            )
            if any(answer not in (204, *REFUSED) for answer in answers):
                wrong.append(f"uploads were answered {dict(answers)}")
            if after > before.rss_mb + options.margin_mb:
                wrong.append(f"{after - before.rss_mb:.0f} MB did not come back")
            wrong += lab.troubles()
    print("all well" if not wrong else f"WRONG: {len(wrong)}", *wrong, sep="\n  ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
