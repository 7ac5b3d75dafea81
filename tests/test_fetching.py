"""Fetching, from a server on this machine that breaks off, forgets, lies and refuses."""

import hashlib
import json
import shutil
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pianistid_core.datasets.fetching import FetchReport, fetch_archive, list_files
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import ArchiveError, FetchError
from pianistid_core.midi import Notes, write_midi


def archive(*, seed: int = 0, padding: int = 200_000) -> bytes:
    """A zip in the archive's layout; the padding makes it long enough to break off in."""
    onsets_s = np.arange(0, 29, 0.5)
    notes = Notes.from_arrays(onsets_s, onsets_s + 0.4, 40 + (np.arange(58) * (seed + 3)) % 40, np.full(58, 64))
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("data/clips/jtd/a/clip_000.mid", write_midi(notes))
        made.writestr("reports/figures/padding.bin", np.random.default_rng(seed).bytes(padding))
    return buffer.getvalue()


class Zenodo(ThreadingHTTPServer):
    """Answers as Zenodo's API does; its attributes say how it misbehaves."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.checksums: dict[str, str] = {}
        self.sizes: dict[str, int] = {}
        self.ranges = True
        self.breaks: list[int] = []  # after how many bytes each of the next answers ends
        self.statuses: list[int] = []  # what the next downloads answer instead
        self.shift = 0  # by how much a range begins elsewhere than asked
        self.listing: bytes | None = None
        self.asked: list[str | None] = []  # the Range header of each download

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/api"

    def entry(self, name: str) -> dict[str, Any]:
        data = self.files[name]
        checksum = self.checksums.get(name, f"md5:{hashlib.md5(data).hexdigest()}")
        url = f"{self.api}/records/1/files/{name}/content"
        return {"key": name, "size": self.sizes.get(name, len(data)), "checksum": checksum, "links": {"self": url}}

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has heard enough hangs up."""


class Handler(BaseHTTPRequestHandler):
    server: Zenodo

    def do_GET(self) -> None:
        parts = self.path.split("/")
        if parts[:4] != ["", "api", "records", "1"]:
            self.send_error(404)
        elif len(parts) == 4:
            listing = self.server.listing
            self._answer(listing or json.dumps({"files": [self.server.entry(n) for n in self.server.files]}).encode())
        else:
            self._download(self.server.files[parts[5]])

    def _download(self, data: bytes) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        if self.server.statuses and (status := self.server.statuses.pop(0)) != 200:
            self.send_error(status)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.server.ranges else 0
        self._answer(data[start:], f"bytes {start + self.server.shift}-{len(data) - 1}/{len(data)}" if start else None)

    def _answer(self, body: bytes, content_range: str | None = None) -> None:
        self.send_response(206 if content_range else 200)
        self.send_header("Content-Length", str(len(body)))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        is_download = "files" in self.path
        end = self.server.breaks.pop(0) if is_download and self.server.breaks else len(body)
        self.wfile.write(body[:end])

    def log_message(self, format: str, *args: object) -> None:
        """Tests are quiet."""


@pytest.fixture
def zenodo() -> Iterator[Zenodo]:
    server = Zenodo()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def root(tmp_path: Path) -> DataRoot:
    return DataRoot(tmp_path / "root")


def fetch(root: DataRoot, zenodo: Zenodo, **options: Any) -> FetchReport:
    return fetch_archive(root, record="1", api=zenodo.api, wait_s=0.0, **options)


def failure(root: DataRoot, zenodo: Zenodo, **options: Any) -> str:
    with pytest.raises(FetchError) as caught:
        fetch(root, zenodo, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def left_over(root: DataRoot) -> list[Path]:
    downloads = root.cache_dir / "downloads"
    return [path for path in downloads.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_the_archive_is_fetched_verified_and_imported(root: DataRoot, zenodo: Zenodo) -> None:
    zenodo.files["zenodo.zip"] = archive()
    seen: list[tuple[str, int, int]] = []
    report = fetch(root, zenodo, progress=lambda what, done, total: seen.append((what, done, total)))
    assert [file.name for file in report.files] == ["zenodo.zip"]
    assert report.imports[0].clips == 1
    assert root.tracks() == ["jtd/a"]
    size = len(zenodo.files["zenodo.zip"])
    downloads = [done for what, done, total in seen if what == "download zenodo.zip" and total == size]
    assert downloads == sorted(downloads)
    assert downloads[-1] == size
    assert seen[-1] == ("import", 1, 1)
    assert left_over(root) == []


def test_what_is_there_is_not_fetched_a_second_time(root: DataRoot, zenodo: Zenodo, tmp_path: Path) -> None:
    zenodo.files["zenodo.zip"] = archive()
    assert fetch(root, zenodo).there == ()
    second = fetch(root, zenodo)
    assert ([file.name for file in second.there], second.files, second.imports) == (["zenodo.zip"], (), ())
    assert len(zenodo.asked) == 1
    other = DataRoot(tmp_path / "other")
    assert fetch(other, zenodo).imports[0].recordings == 1, "what one root has is not in another"
    assert fetch(root, zenodo, again=True).imports[0].unchanged == 1
    zenodo.files["zenodo.zip"] = archive(padding=300_000)
    assert fetch(root, zenodo).imports[0].unchanged == 1, "another checksum is another archive"


def test_what_is_no_longer_there_is_fetched_again(root: DataRoot, zenodo: Zenodo) -> None:
    zenodo.files["zenodo.zip"] = archive()
    fetch(root, zenodo)
    shutil.rmtree(root.path)
    assert fetch(root, zenodo).imports[0].recordings == 1
    assert root.tracks() == ["jtd/a"]
    (marker,) = (root.cache_dir / "roots").rglob("*.json")
    marker.write_text("{")
    assert fetch(root, zenodo).imports[0].unchanged == 1


def test_a_broken_download_goes_on_where_it_stopped(root: DataRoot, zenodo: Zenodo) -> None:
    zenodo.files["zenodo.zip"] = archive()
    zenodo.breaks = [70_000, 50_000]
    assert fetch(root, zenodo).imports[0].clips == 1
    assert zenodo.asked == [None, "bytes=70000-", "bytes=120000-"]


def test_the_next_call_goes_on_too(root: DataRoot, zenodo: Zenodo) -> None:
    zenodo.files["zenodo.zip"] = archive()
    zenodo.breaks = [70_000]
    assert "broke off after 70000 of" in failure(root, zenodo, tries=1)
    assert not root.path.exists()
    assert fetch(root, zenodo).imports[0].clips == 1
    assert zenodo.asked == [None, "bytes=70000-"]


def test_progress_renews_patience_and_standstill_ends_it(root: DataRoot, zenodo: Zenodo) -> None:
    zenodo.files["zenodo.zip"] = archive()
    zenodo.breaks = [20_000] * 6
    assert fetch(root, zenodo, tries=2).imports
    zenodo.files["zenodo.zip"] = archive(seed=1)
    zenodo.breaks = [0] * 100
    zenodo.asked.clear()
    assert "run the same command again" in failure(root, zenodo, tries=3)
    assert len(zenodo.asked) == 3


def test_a_server_that_cannot_go_on_starts_over(root: DataRoot, zenodo: Zenodo) -> None:
    zenodo.files["zenodo.zip"] = archive()
    zenodo.breaks, zenodo.ranges = [70_000], False
    assert fetch(root, zenodo).imports[0].clips == 1
    assert zenodo.asked == [None, "bytes=70000-"]


def test_a_server_that_goes_on_elsewhere_is_not_believed(root: DataRoot, zenodo: Zenodo) -> None:
    zenodo.files["zenodo.zip"] = archive()
    zenodo.breaks, zenodo.shift = [70_000], 5
    assert fetch(root, zenodo).imports[0].clips == 1
    assert zenodo.asked == [None, "bytes=70000-", None]


def test_a_busy_server_is_asked_again(root: DataRoot, zenodo: Zenodo) -> None:
    zenodo.files["zenodo.zip"] = archive()
    zenodo.statuses = [503, 429, 200]
    assert fetch(root, zenodo).imports[0].clips == 1


def test_a_wrong_checksum_deletes_and_says_so(root: DataRoot, zenodo: Zenodo) -> None:
    zenodo.files["zenodo.zip"] = archive()
    zenodo.checksums["zenodo.zip"] = "md5:" + "0" * 32
    message = failure(root, zenodo)
    assert "arrived altered" in message
    assert "md5:" + "0" * 32 in message
    assert left_over(root) == []
    assert not root.path.exists()


def test_a_changed_part_is_found(root: DataRoot, zenodo: Zenodo) -> None:
    zenodo.files["zenodo.zip"] = archive()
    zenodo.breaks = [70_000]
    failure(root, zenodo, tries=1)
    (part,) = left_over(root)
    part.write_bytes(b"x" + part.read_bytes()[1:])
    assert "arrived altered" in failure(root, zenodo)
    assert fetch(root, zenodo).imports[0].clips == 1


def test_a_part_of_another_version_is_not_gone_on_with(root: DataRoot, zenodo: Zenodo) -> None:
    zenodo.files["zenodo.zip"] = archive()
    zenodo.breaks = [70_000]
    failure(root, zenodo, tries=1)
    zenodo.files["zenodo.zip"] = archive(seed=1)
    zenodo.asked.clear()
    assert fetch(root, zenodo).imports[0].clips == 1
    assert zenodo.asked == [None]


@pytest.mark.parametrize("announced", [1000, 0])
def test_more_than_was_announced_is_refused(root: DataRoot, zenodo: Zenodo, announced: int) -> None:
    zenodo.files["zenodo.zip"] = archive()
    zenodo.sizes["zenodo.zip"] = announced
    message = failure(root, zenodo)
    assert "more" in message or "altered" in message
    assert left_over(root) == []


def test_no_room_is_said_before_anything_is_sent(root: DataRoot, zenodo: Zenodo) -> None:
    zenodo.files["zenodo.zip"] = archive()
    zenodo.sizes["zenodo.zip"] = 10**18
    assert "set PIANISTID_CACHE to a folder with more room" in failure(root, zenodo)
    assert zenodo.asked == []


def test_by_default_what_training_needs(root: DataRoot, zenodo: Zenodo) -> None:
    zenodo.files = {"checkpoints.zip": archive(seed=1), "clips.zip": archive(), "README.txt": b"x"}
    assert [file.name for file in fetch(root, zenodo).files] == ["clips.zip"]
    del zenodo.files["clips.zip"]
    zenodo.files["everything.zip"] = archive(seed=1)
    assert {file.name for file in fetch(DataRoot(root.path / "b"), zenodo).files} == {
        "checkpoints.zip",
        "everything.zip",
    }
    zenodo.files = {"README.txt": b"x"}
    assert "has no zip; name what to fetch: 'README.txt'" in failure(root, zenodo)


def test_files_by_name(root: DataRoot, zenodo: Zenodo) -> None:
    zenodo.files = {"clips.zip": archive(), "checkpoint_099.pth": b"weights"}
    report = fetch(root, zenodo, files=["checkpoint_099.pth"])
    assert [path.read_bytes() for path in report.kept] == [b"weights"]
    assert report.imports == ()
    fetch(root, zenodo, files=["checkpoint_099.pth"])
    assert len(zenodo.asked) == 1
    assert "did you mean 'clips.zip'" in failure(root, zenodo, files=["clip.zip"])


def test_names_that_would_escape_are_only_text(root: DataRoot, zenodo: Zenodo) -> None:
    zenodo.files = {"clips.zip": archive()}
    entry = zenodo.entry("clips.zip")
    zenodo.listing = json.dumps({"files": [{**entry, "key": "../../../clips.zip"}]}).encode()
    assert fetch(root, zenodo).imports[0].clips == 1
    folders = {root.cache_dir / "downloads" / "1", root.cache_dir / "roots" / root.identity / "fetched"}
    assert {path.parent for path in root.cache_dir.rglob("*") if path.is_file()} <= folders


def test_a_download_that_is_no_archive_is_kept_for_a_look(root: DataRoot, zenodo: Zenodo) -> None:
    zenodo.files["zenodo.zip"] = b"not a zip at all"
    with pytest.raises(ArchiveError, match="not a zip"):
        fetch(root, zenodo)
    assert [path.name for path in left_over(root)] == ["zenodo.zip"]


def test_an_unknown_record(zenodo: Zenodo) -> None:
    with pytest.raises(FetchError, match=r"answered 404 .*is the record's number right"):
        list_files("2", api=zenodo.api)


def test_a_file_that_is_gone(root: DataRoot, zenodo: Zenodo) -> None:
    zenodo.files["zenodo.zip"] = archive()
    zenodo.statuses = [404]
    assert "answered 404" in failure(root, zenodo)


def test_offline_says_what_to_do(root: DataRoot, zenodo: Zenodo) -> None:
    api = zenodo.api
    zenodo.server_close()  # nobody listens on the port now
    with pytest.raises(FetchError, match=r"offline\?.*pianistid data import FILE\.zip"):
        fetch_archive(root, record="1", api=api)
    assert not root.path.exists()


@pytest.mark.parametrize(
    "listing",
    [
        b"<html>",
        b"[]",
        b'{"files": null}',
        b'{"files": [{"key": "a.zip"}]}',
        b'{"files": [{"key": "a.zip", "size": 1, "checksum": "md5:0", "links": {"self": "http://x/a"}}]}',
        b'{"files": [{"key": "a.zip", "size": 1, "checksum": "crc:00000000000000000000000000000000",'
        b' "links": {"self": "http://x/a"}}]}',
        b'{"files": [{"key": "a.zip", "size": 1, "checksum": "md5:00000000000000000000000000000000",'
        b' "links": {"self": "file:///etc/passwd"}}]}',
        b"[" * 100_000,
    ],
)
def test_answers_that_are_no_list_are_refused(zenodo: Zenodo, listing: bytes) -> None:
    zenodo.listing = listing
    with pytest.raises(FetchError, match="not a list of files"):
        list_files("1", api=zenodo.api)


@pytest.mark.parametrize("api", ["nonsense", "ftp://127.0.0.1:1/api", "http://127.0.0.1:1/api", "http://[", ""])
def test_strange_addresses_are_fetch_errors(api: str) -> None:
    with pytest.raises(FetchError):
        list_files("1", api=api)
