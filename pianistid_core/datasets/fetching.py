"""Fetching the paper's public archive from Zenodo, or from any server that answers as Zenodo does.

What there is to fetch, how large, and with which checksum is asked at run time from `{api}/records/{id}`. A download
goes to a `.part` file named after its checksum; after a break, by the network or by a kill, the next try asks only for
the rest. Nothing is unpacked before its checksum fits. An archive is deleted once it is imported; a marker in the cache
remembers its checksum, so that it is not downloaded a second time.
"""

import difflib
import hashlib
import http.client
import json
import logging
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from pianistid_core.atomic import write_atomically
from pianistid_core.datasets.importing import ImportReport, import_source
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import DataRootError, FetchError
from pianistid_core.names import is_plain_name
from pianistid_core.strict_json import parse_json

__all__ = ["API", "RECORD", "FetchReport", "RemoteFile", "fetch_archive", "list_files"]

API = "https://zenodo.org/api"
RECORD = "14774191"

Progress = Callable[[str, int, int], None]

_log = logging.getLogger(__name__)

_TIMEOUT_S = 30.0
_MAX_LIST_BYTES = 8 << 20
_CHUNK_BYTES = 1 << 18
_USER_AGENT = "pianistid (research data download)"
_PASSING = {408, 416, 429, 500, 502, 503, 504}
_CHECKSUMS = {"md5", "sha1", "sha256", "sha512"}


@dataclass(frozen=True)
class RemoteFile:
    """A file of a record: its name, size in bytes, checksum ("md5:...") and address."""

    name: str
    size: int
    checksum: str
    url: str


@dataclass(frozen=True)
class FetchReport:
    """What was fetched, what importing it brought, where files lie that are not archives, what was there before."""

    files: tuple[RemoteFile, ...]
    imports: tuple[ImportReport, ...]
    kept: tuple[Path, ...]
    there: tuple[RemoteFile, ...] = ()


def fetch_archive(
    root: DataRoot,
    *,
    record: str = RECORD,
    api: str = API,
    files: Sequence[str] | None = None,
    again: bool = False,
    progress: Progress | None = None,
    tries: int = 4,
    wait_s: float = 1.0,
) -> FetchReport:
    """Downloads a record's archives and imports them into the root.

    `files` names what to take; by default what training needs: the zips with clips and splits where they can be told
    by name, else every zip. An archive that has been imported into this root, and is still there, is fetched only when
    told `again`. `progress(what, done, total)` counts bytes of a download, then files of its import. A
    broken download goes on where it stopped, up to `tries` times without a byte of progress, `wait_s` apart (doubled
    each time); what is still missing then is fetched by the next call.

    Raises: FetchError when the server cannot be reached, has no such record or file, or sends something else than it
    announced; and what `import_source` raises.
    """
    progress = progress or _no_progress
    wanted = _chosen(list_files(record, api=api), files)
    there = [] if again else [file for file in wanted if _is_imported(root, file)]
    fetched = [file for file in wanted if file not in there]
    folder = root.cache_dir / "downloads" / (record if is_plain_name(record) else _short_hash(record))
    imports: list[ImportReport] = []
    kept: list[Path] = []
    for file in fetched:
        path = _download(file, folder, _Patience(tries, wait_s), progress)
        if path.suffix.lower() != ".zip":
            kept.append(path)
            continue
        imports.append(import_source(root, path, progress=lambda done, total: progress("import", done, total)))
        _mark_imported(root, file, imports[-1])
        path.unlink()
    return FetchReport(tuple(fetched), tuple(imports), tuple(kept), tuple(there))


def list_files(record: str = RECORD, *, api: str = API) -> list[RemoteFile]:
    """The files of a record, as the server lists them now.

    Raises: FetchError when it cannot be reached, has no such record, or answers something else.
    """
    url = f"{api.rstrip('/')}/records/{quote(record, safe='')}"
    if not _is_web_address(url):
        raise FetchError(f"{api!a} is not the address of an API; it looks like {API}")
    try:
        with _talking(url), _opened(url) as response:
            text = _received(response, _MAX_LIST_BYTES)
    except _Broken as error:
        raise _offline(urlsplit(url).netloc, error) from error
    try:
        found = [_remote_file(entry, url) for entry in parse_json(text)["files"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FetchError(
            f"{url} answered something that is not a list of files ({type(error).__name__}: {error}); is it a Zenodo "
            "API?"
        ) from error
    if not found:
        raise FetchError(f"record {record} at {api} holds no files that anyone may download")
    return found


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def _remote_file(entry: dict[str, Any], listed_at: str) -> RemoteFile:
    kind, colon, digest = str(entry["checksum"]).partition(":")
    url, size = str(entry["links"]["self"]), int(entry["size"])
    if not colon or kind not in _CHECKSUMS or not re.fullmatch(r"[0-9a-f]{32,128}", digest):
        raise ValueError(f"checksum {entry['checksum']!r}")
    # An https list must not lead to http, nor to file:.
    safe = urlsplit(url).scheme in {"https", urlsplit(listed_at).scheme}
    if not safe or not _is_web_address(url) or size < 0:
        raise ValueError(f"address {url!r}, size {size}")
    return RemoteFile(str(entry["key"]), size, f"{kind}:{digest}", url)


def _chosen(there: list[RemoteFile], wanted: Sequence[str] | None) -> list[RemoteFile]:
    by_name = {file.name: file for file in there}
    if wanted is not None:
        for name in wanted:
            if name not in by_name:
                close = difflib.get_close_matches(name, by_name, n=1)
                hint = f" (did you mean {close[0]!r}?)" if close else ""
                raise FetchError(f"the record has no file {name!r}{hint}; it has {', '.join(map(repr, by_name))}")
        return [by_name[name] for name in dict.fromkeys(wanted)]
    zips = [file for file in there if file.name.lower().endswith(".zip")]
    needed = [file for file in zips if re.search("clip|split|reference", file.name.lower())]
    chosen = needed if any("clip" in file.name.lower() for file in needed) else zips
    if not chosen:
        raise FetchError(f"the record has no zip; name what to fetch: {', '.join(map(repr, by_name))}")
    return chosen


def _marker(root: DataRoot, file: RemoteFile) -> Path:
    return root.cache_dir / "roots" / root.identity / "fetched" / f"{file.checksum.replace(':', '-')}.json"


def _mark_imported(root: DataRoot, file: RemoteFile, report: ImportReport) -> None:
    marker = _marker(root, file)
    brought = {"recordings": report.recordings, "splits": report.splits}
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(marker, json.dumps(brought).encode())
    except OSError as error:
        # Without it the next fetch takes longer, and no more than that.
        _log.debug("no marker was written for %s: %s", file.name, error)


def _is_imported(root: DataRoot, file: RemoteFile) -> bool:
    """Whether a file of this checksum was imported, and the root still has as many recordings and those splits."""
    try:
        brought = parse_json(_marker(root, file).read_bytes())
        n_recordings, splits = int(brought["recordings"]), set(brought["splits"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return len(root.tracks()) >= n_recordings and splits <= set(root.split_names())


class _Patience:
    """How often to try again without getting anywhere, and how long to wait in between."""

    def __init__(self, tries: int, wait_s: float) -> None:
        self._tries = tries
        self._wait_s = wait_s
        self._failures = 0
        self._best = -1

    def allows_another(self, n_bytes: int) -> bool:
        """Counts a failure after `n_bytes` are there; waits, or says that it is enough."""
        self._failures = 1 if n_bytes > self._best else self._failures + 1
        self._best = max(self._best, n_bytes)
        if self._failures >= self._tries:
            return False
        time.sleep(self._wait_s * 2 ** (self._failures - 1))
        return True


def _download(file: RemoteFile, folder: Path, patience: _Patience, progress: Progress) -> Path:
    """The downloaded and verified file; what an earlier try left is gone on with."""
    from filelock import FileLock, Timeout

    # Beside the checksum, the name is for people; a strange one stays out of the file system.
    target = folder / (file.name if is_plain_name(file.name) else f"{_short_hash(file.name)}{_plain_suffix(file.name)}")
    part = folder / f"{file.checksum.replace(':', '-')}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(part.with_suffix(".lock"), timeout=0):
            if target.is_file() and _digest(target, file) == file.checksum:
                return target
            _fill(file, part, patience, progress)
            if (found := _digest(part, file)) != file.checksum:
                part.unlink()
                raise FetchError(
                    f"{file.name!a} arrived altered (its checksum is {found}, not {file.checksum}) and was deleted; "
                    "fetch it again"
                )
            os.replace(part, target)
    except Timeout as error:
        raise FetchError(
            f"{file.name!a} is being downloaded already, by another process; wait until it ends"
        ) from error
    except OSError as error:
        raise DataRootError(
            f"cannot write the download to {folder} ({error.strerror or error}); free space, or set PIANISTID_CACHE to "
            "another folder"
        ) from error
    return target


def _fill(file: RemoteFile, part: Path, patience: _Patience, progress: Progress) -> None:
    while (have := part.stat().st_size if part.exists() else 0) != file.size:
        if have > file.size:
            part.unlink()
            continue
        if (free := shutil.disk_usage(part.parent).free) < file.size - have:
            raise FetchError(
                f"{file.name!a} needs {(file.size - have) / 1e9:.2f} GB and {part.parent} has {free / 1e9:.2f} GB; set "
                "PIANISTID_CACHE to a folder with more room"
            )
        progress(f"download {file.name}", have, file.size)
        try:
            with _talking(file.url, file):
                _append(file, part, have, progress)
        except _Broken as error:
            have = part.stat().st_size if part.exists() else 0
            if not patience.allows_another(have):
                raise FetchError(
                    f"the download of {file.name!a} broke off after {have} of {file.size} bytes ({error}); run the "
                    "same command again to go on from there"
                ) from error
            _log.info("%s broke off after %d bytes (%s): going on", file.name, have, error)
    part.touch()
    progress(f"download {file.name}", file.size, file.size)


def _append(file: RemoteFile, part: Path, have: int, progress: Progress) -> None:
    """Adds what the server sends to what is there; starts over where the server will not go on."""
    with _opened(file.url, have) as response:
        resumed = response.status == 206
        if resumed and _first_byte(response) != have:
            part.unlink(missing_ok=True)
            raise _Broken("the server sent another part than it was asked for")
        done = have if resumed else 0
        with open(part, "ab" if resumed else "wb") as output:
            while piece := _received(response, _CHUNK_BYTES):
                done += len(piece)
                if done > file.size:
                    part.unlink()
                    raise FetchError(f"the server sends more for {file.name!a} than the {file.size} bytes it announced")
                output.write(piece)
                progress(f"download {file.name}", done, file.size)
    if done < file.size:
        raise _Broken("the server stopped sending")


class _Broken(Exception):
    """A connection that broke while data came: worth another try."""


def _received(response: http.client.HTTPResponse, max_bytes: int) -> bytes:
    try:
        return response.read(max_bytes)
    except (http.client.HTTPException, OSError) as error:
        raise _Broken(str(error) or type(error).__name__) from error


def _first_byte(response: http.client.HTTPResponse) -> int | None:
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _digest(path: Path, file: RemoteFile) -> str:
    """The checksum of what is at `path`, of the kind that was announced and written like it."""
    kind = file.checksum.partition(":")[0]
    digest = hashlib.new(kind, usedforsecurity=False)
    with open(path, "rb") as data:
        while piece := data.read(1 << 20):
            digest.update(piece)
    return f"{kind}:{digest.hexdigest()}"


@contextmanager
def _opened(url: str, first_byte: int = 0) -> Iterator[Any]:
    headers = {"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"}
    if first_byte:
        headers["Range"] = f"bytes={first_byte}-"
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S) as response:
        yield response


@contextmanager
def _talking(url: str, file: RemoteFile | None = None) -> Iterator[None]:
    """Turns whatever a conversation raises into a FetchError, or into _Broken where another try may help."""
    host = urlsplit(url).netloc
    what = f"{file.name!a}" if file else url
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        if file and error.code in _PASSING:
            raise _Broken(f"HTTP {error.code} {error.reason}") from error
        advice = "is the record's number right?" if error.code in {404, 410} else "try again later"
        raise FetchError(f"{host} answered {error.code} {error.reason} for {what}; {advice}") from error
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        reason = getattr(error, "reason", error)
        if file:
            raise _Broken(f"cannot reach {host}: offline? {reason}") from error
        raise _offline(host, reason) from error


def _offline(host: str, reason: object) -> FetchError:
    return FetchError(
        f"cannot reach {host} (offline? {reason}): connect to the internet and try again, or download the archive "
        "elsewhere and bring it with `pianistid data import FILE.zip`"
    )


def _plain_suffix(name: str) -> str:
    return ".zip" if name.lower().endswith(".zip") else ""


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _no_progress(what: str, done: int, total: int) -> None:
    """Nobody is watching."""
