"""Zips that escape, explode, lie or are broken, and folders: read safely, or refused in one sentence."""

import os
import resource
import stat
import struct
import time
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostile_zips import ZipCase, cases
from pianistid_core.datasets.archives import ArchiveLimits, ZipSource, open_source, shown
from pianistid_core.datasets.importing import import_source
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import ArchiveError, DataError, ImportSourceError

HOSTILE = Path(__file__).parent / "hostile" / "archives"
MOST = 4_000_000


def make_zip(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes], deflated: bool = True) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def read_all(path: Path, limits: ArchiveLimits | None = None) -> dict[str, bytes]:
    source = open_source(path, limits or ArchiveLimits())
    try:
        return {name: source.read(name, MOST) for name in source.names}
    finally:
        source.close()


def refusal(path: Path, limits: ArchiveLimits | None = None) -> str:
    with pytest.raises(ArchiveError) as caught:
        read_all(path, limits)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    assert len(message) < 400
    return message


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("badcrc.zip", "is broken at 'a.mid'"),
        ("bomb1g_bz2.zip", "packed with bzip2"),
        ("dup.zip", "more than once"),
        ("empty.zip", "is empty"),
        ("encrypted.zip", "encrypted"),
        ("liar_big.zip", "over 200 times"),
        ("notzip.zip", "not a zip"),
        ("slip_dotdot.zip", "lead outside"),
        ("trunc.zip", "cut off"),
        ("zero_entries.zip", "nothing in it"),
    ],
)
def test_hostile_archives_are_refused_at_once(name: str, why: str) -> None:
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    assert why in refusal(HOSTILE / name)
    assert time.perf_counter() - started < 10  # unpacked, they take longer
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


QUICK = [case for case in cases() if not case.name.startswith(("Z13 one", "Z07 200,000"))]


@pytest.mark.parametrize("case", QUICK, ids=[ascii(case.name) for case in QUICK])
def test_hostile_archives_are_imported_as_far_as_they_go_or_leave_nothing(case: ZipCase, tmp_path: Path) -> None:
    archive, root = tmp_path / "a.zip", tmp_path / "a" / "b" / "root"
    archive.write_bytes(case.make())
    root.parent.mkdir(parents=True)
    if case.refusal is None:
        assert import_source(DataRoot(root, root / "cache"), archive, name="hostile").recordings > 0
    else:
        with pytest.raises(DataError) as caught:
            import_source(DataRoot(root, root / "cache"), archive, name="hostile")
        said = str(caught.value)
        assert case.refusal in said and said.isprintable() and len(said) < 600
        assert not root.exists()
    outside = {path for path in tmp_path.rglob("*") if root not in (path, *path.parents)}
    assert outside == {archive, root.parent, root.parent.parent}
    assert not list(root.glob(".import-*"))


def test_strange_names_are_only_text() -> None:
    found = read_all(HOSTILE / "names.zip")
    assert len(found) == 9
    assert not any(".hidden" in name or "__MACOSX" in name for name in found)
    assert all(shown(name).isascii() and len(shown(name)) <= 80 for name in found)


@pytest.mark.parametrize(
    "name",
    [
        "/a.mid",
        "../a.mid",
        "a/../../b.mid",
        "a/./b.mid",
        "C:/a.mid",
        "c:a.mid",
        "..\\a.mid",
        "a\\b.mid",
        "a//b.mid",
        "..",
    ],
)
def test_names_that_could_escape_are_refused(tmp_path: Path, name: str) -> None:
    assert "lead outside" in refusal(make_zip(tmp_path / "a.zip", (name, b"x")))


def test_a_name_with_nul_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", ("aXb.mid", b"x"))
    path.write_bytes(path.read_bytes().replace(b"aXb.mid", b"a\0b.mid"))
    assert "lead outside" in refusal(path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    member = zipfile.ZipInfo("a.mid")
    member.create_system = 3
    member.external_attr = (kind | 0o777) << 16
    assert "link or a device" in refusal(make_zip(tmp_path / "a.zip", (member, b"/etc/passwd")))


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_other_packings_are_refused(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("a.mid", b"x")
    assert "only stored and deflated" in refusal(tmp_path / "a.zip")


def test_limits_count_what_is_claimed(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", *[(f"{i}.mid", b"x" * 100) for i in range(5)], ("other.bin", b"y" * 10_000))
    assert len(read_all(path, ArchiveLimits(max_members=6, max_total_bytes=500))) == 6
    assert "more than 5 members" in refusal(path, ArchiveLimits(max_members=5))
    assert "claim 0.0 GB" in refusal(path, ArchiveLimits(max_total_bytes=499))
    assert "directory of members" in refusal(path, ArchiveLimits(max_directory_bytes=100))


def test_an_end_record_that_lies_about_the_number_is_no_help(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", *[(f"{i}.mid", b"x") for i in range(50)])
    data = bytearray(path.read_bytes())
    data[-14:-10] = struct.pack("<2H", 1, 1)
    path.write_bytes(bytes(data))
    assert "more than 49 members" in refusal(path, ArchiveLimits(max_members=49))


def test_a_great_many_members_are_refused_quickly(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        archive.writestr("a.mid", b"")
        archive.filelist *= 100_001  # the directory is written from this list
        archive._didModify = True  # type: ignore[attr-defined]
    started = time.perf_counter()
    assert "more than 100000 members" in refusal(tmp_path / "many.zip")
    assert time.perf_counter() - started < 15


def test_a_bomb_is_refused_by_its_ratio(tmp_path: Path) -> None:
    assert "over 200 times" in refusal(make_zip(tmp_path / "a.zip", ("a.mid", bytes(3_000_000))))


def test_a_file_that_is_too_large_is_left_to_the_caller(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", ("a.bin", bytes(50_000_000)))
    with pytest.raises(ImportSourceError, match="larger than 4 MB"):
        read_all(path)


def patched_size(path: Path, claimed: int) -> Path:
    """Makes both headers of the only member claim another unpacked size."""
    data = bytearray(path.read_bytes())
    data[22:26] = struct.pack("<L", claimed)
    at = data.index(b"PK\1\2")
    data[at + 24 : at + 28] = struct.pack("<L", claimed)
    path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize("claimed", [0, 10, 999, 1001, 5000])
def test_a_lie_about_the_size_is_found(tmp_path: Path, claimed: int) -> None:
    refusal(patched_size(make_zip(tmp_path / "a.zip", ("a.mid", bytes(range(250)) * 4)), claimed))


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", ("a.mid", b"A" * 300), ("b.mid", b"B" * 300), deflated=False)
    data = bytearray(path.read_bytes())
    second = data.index(b"PK\1\2", data.index(b"PK\1\2") + 1)
    data[second + 42 : second + 46] = struct.pack("<L", 0)  # b.mid now begins where a.mid does
    path.write_bytes(bytes(data))
    assert "overlaps" in refusal(path)


def test_a_member_whose_own_header_reaches_into_the_next_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", ("a.mid", b"A" * 300), ("b.mid", b"B" * 300), deflated=False)
    data = bytearray(path.read_bytes())
    data[28:30] = struct.pack("<H", 40)  # a.mid's data would begin 40 bytes later
    path.write_bytes(bytes(data))
    assert "overlaps" in refusal(path)


def test_hidden_files_are_counted_and_archives_named(tmp_path: Path) -> None:
    path = make_zip(
        tmp_path / "a.zip",
        ("__MACOSX/x/._a.mid", b""),
        ("x/.DS_Store", b""),
        ("x/Thumbs.db", b""),
        ("x/more.zip", b"PK"),
        ("x/more.tar.GZ", b""),
        ("x/a.mid", b"1"),
    )
    source = ZipSource(path)
    assert source.names == ("x/a.mid",)
    assert source.n_hidden == 3
    assert [skipped.name for skipped in source.skipped] == ["x/more.zip", "x/more.tar.GZ"]
    assert all("archive in the archive" in skipped.reason for skipped in source.skipped)


@settings(max_examples=150, deadline=None)
@given(cut=st.integers(0, 700), flips=st.lists(st.tuples(st.integers(0, 699), st.integers(1, 255)), max_size=4))
def test_damage_never_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flips: list[tuple[int, int]]
) -> None:
    path = make_zip(
        tmp_path_factory.getbasetemp() / "damaged.zip", ("a/a.mid", b"1" * 99), ("b/b.mid", bytes(range(200)))
    )
    data = bytearray(path.read_bytes())
    for at, change in flips:
        if at < len(data):
            data[at] ^= change
    path.write_bytes(bytes(data[: len(data) - cut] if cut < 100 else data))
    try:
        found = read_all(path)
    except (ArchiveError, ImportSourceError):
        return
    assert all(len(content) <= 200 for content in found.values())


def test_the_real_archive_is_read_whole(shared: Path) -> None:
    found = read_all(shared / "data" / "jazz20.zip")
    assert len(found) == 5257
    assert sum(name.endswith(".mid") for name in found) == 5254


class TestFolders:
    def test_are_read_like_zips(self, tmp_path: Path) -> None:
        for name in ("b/x.mid", "a/y.MID", ".git/config", "a/._y.mid", "__MACOSX/z.mid", "a/old.zip", "out/own.mid"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"123")
        source = open_source(tmp_path, without=tmp_path / "out")
        assert source.names == ("a/y.MID", "b/x.mid")
        assert source.n_hidden == 3
        assert [skipped.name for skipped in source.skipped] == ["a/old.zip"]
        assert source.read("b/x.mid", 3) == b"123"
        with pytest.raises(ImportSourceError, match="larger"):
            source.read("b/x.mid", 2)

    def test_links_to_folders_and_pipes_do_no_harm(self, tmp_path: Path) -> None:
        (tmp_path / "loop").symlink_to(tmp_path)
        (tmp_path / "gone.mid").symlink_to(tmp_path / "nowhere")
        os.mkfifo(tmp_path / "pipe.mid")
        source = open_source(tmp_path)
        assert source.names == ("gone.mid", "pipe.mid")
        for name in source.names:
            with pytest.raises(ImportSourceError):
                source.read(name, MOST)

    def test_nothing_there_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(ImportSourceError, match="does not exist"):
            open_source(tmp_path / "nowhere")
