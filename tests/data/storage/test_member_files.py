"""Paths that lead into a list of members, and those that only look so."""

import os
import tempfile
import threading
import zipfile
from pathlib import Path

import pytest
from file_limits import file_size_limit

from tmkt_data.errors import CatalogueError, EventError
from tmkt_data.files import file_digest, read_bytes
from tmkt_data.sources.in_place import encode_list, encode_member_list, list_members
from tmkt_data.sources.misplaced import walk
from tmkt_data.storage.member_bytes import STORED, MemberPlace
from tmkt_data.storage.member_files import (
    AHEAD_BYTES,
    AHEAD_FILES,
    asked_ahead,
    file_status,
    is_file,
    is_folder,
    is_in_store,
    on_disk,
    scan,
)
from tmkt_data.storage.member_list import read_member_list, split_member

FILES = {"a/b/one.bin": b"1" * 9000, "a/b.bin": b"", "a/b0/two.bin": b"2", "three.bin": b"345"}


@pytest.fixture
def members(tmp_path):
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in FILES.items():
            file.writestr(name, data)
    path = tmp_path / "set.members"
    path.write_bytes(encode_member_list([archive], list_members({archive: "."})))
    return path


def entries(folder):
    with scan(folder) as found:
        return sorted((entry.name, entry.is_dir(), entry.stat().st_size if entry.is_file() else 0) for entry in found)


def test_members_are_files_and_folders(members):
    assert entries(members) == [("a", True, 0), ("three.bin", False, 3)]
    assert entries(members / "a") == [("b", True, 0), ("b.bin", False, 0), ("b0", True, 0)]
    assert entries(members / "a" / "b") == [("one.bin", False, 9000)]
    assert is_folder(members)
    assert is_folder(members / "a/b")
    assert not is_folder(members / "a/b.bin")
    assert is_file(members / "a/b.bin")
    assert not is_file(members / "a/b")
    found = {
        os.path.relpath(f"{at}/{name}", members): read_bytes(f"{at}/{name}")
        for at, _, names in walk(members)
        for name in names
    }
    assert found == FILES
    assert file_status(members / "a/b/one.bin").num_bytes == 9000
    assert read_bytes(members / "three.bin", limit=2) == b"34"
    assert file_digest(members / "three.bin", "xxh3", error=EventError)


@pytest.mark.parametrize(
    ("name", "text"), [("a", "a folder, expected a file"), ("a/c", "no such file"), ("three.bin/x", "no such file")]
)
def test_what_is_no_member_is_the_error_of_a_file(members, name, text):
    with pytest.raises(EventError, match=text):
        read_bytes(members / name)
    with pytest.raises(OSError, match=r"No such|Not a dir"):
        entries(members / "three.bin")


def test_folders_and_files_of_such_a_name_are_what_they_are(tmp_path):
    (tmp_path / "x.members" / "in").mkdir(parents=True)
    (tmp_path / "x.members" / "in" / "y.members").write_bytes(b"12")
    assert split_member(tmp_path / "x.members" / "in") is None
    assert read_bytes(tmp_path / "x.members" / "in" / "y.members") == b"12"
    assert file_status(tmp_path / "x.members" / "in" / "y.members").num_bytes == 2
    assert entries(tmp_path / "x.members") == [("in", True, 0)]


def test_a_list_below_a_folder_of_such_a_name_is_found(tmp_path, members):
    folder = tmp_path / "y.members"
    folder.mkdir()
    members.rename(folder / "set.members")
    assert read_bytes(folder / "set.members" / "three.bin") == b"345"


def test_readers_that_need_a_path_have_a_copy_of_the_name(members):
    with on_disk(members / "three.bin") as copy:
        assert (copy.name, copy.read_bytes()) == ("three.bin", b"345")
    assert not copy.exists()
    with on_disk(members) as same:
        assert same == members


def test_a_full_disk_below_a_copy_is_named(members, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with (
        file_size_limit(2),
        pytest.raises(CatalogueError, match=rf"{tmp_path}/\S+: cannot be written .*; free some space, or set TMPDIR"),
        on_disk(members / "three.bin"),
    ):
        pass


def test_threads_read_at_the_same_time(members):
    wrong = []

    def read():
        for name, data in FILES.items():
            wrong.extend(name for _ in range(50) if read_bytes(members / name) != data)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_is_not_there_is_told_apart_from_what_is_no_folder(members):
    for name, error in (("a/c", FileNotFoundError), ("three.bin", NotADirectoryError)):
        with pytest.raises(error, match=name):
            entries(members / name)
    with pytest.raises(FileNotFoundError, match="a/c"):
        file_status(members / "a/c")
    assert not is_in_store(str(members / "three.bin"))
    assert not is_in_store(str(members.parent / "set.zip"))


@pytest.mark.parametrize("name", ["a/./b.bin", "./a/b.bin", "a//b.bin", "/a/b.bin"])
def test_a_member_is_found_however_its_path_is_written(members, name):
    assert read_bytes(f"{members}/{name}") == FILES["a/b.bin"]
    assert is_file(Path(f"{members}/{name}"))


@pytest.mark.parametrize("change", [lambda data: data[:-30], lambda _: b"", lambda _: b"no archive at all"])
def test_a_damaged_list_is_one_line(members, change):
    members.write_bytes(change(members.read_bytes()))
    with pytest.raises(
        CatalogueError, match=r"set\.members: no list of members, or a damaged one .*; remove it and run it"
    ):
        read_member_list(members)


@pytest.mark.parametrize("at", [-1, 0])
def test_an_archive_that_was_changed_or_damaged_is_named(members, at):
    archive = members.parent / "set.zip"
    status, data = archive.stat(), bytearray(archive.read_bytes())
    data[split_member(members / "three.bin")[0].find("three.bin").offset + 1] ^= 1
    archive.write_bytes(data)
    # With its time as it was, only the checksum of the member tells.
    os.utime(archive, ns=(status.st_atime_ns, status.st_mtime_ns + at))
    text = "was changed since its members were listed" if at else "'three.bin' is not what its header says"
    with pytest.raises(CatalogueError, match=text):
        read_bytes(members / "three.bin")


def stored_list(tmp_path, num_bytes, count):
    """A list of objects of a store in memory, which are said to be as large as that."""
    system = pytest.importorskip("fsspec").filesystem("memory")
    url = f"memory://{tmp_path.name}"
    for number in range(count):
        system.pipe(f"/{tmp_path.name}/{number:03}.bin", b"12")
    members = {f"{number:03}.bin": MemberPlace(0, 0, num_bytes, num_bytes, STORED, 0) for number in range(count)}
    path = tmp_path / "store.members"
    path.write_bytes(encode_list([{"url": url}], members))
    return [str(path / name) for name in sorted(members)]


@pytest.mark.parametrize(("num_bytes", "num_asked"), [(1, AHEAD_FILES), (AHEAD_BYTES // 2, 2), (AHEAD_BYTES * 2, 1)])
def test_objects_are_asked_for_ahead_within_limits_and_dropped_once_passed(tmp_path, num_bytes, num_asked):
    paths = stored_list(tmp_path, num_bytes, AHEAD_FILES + 3)
    assert is_in_store(paths[0])
    members, _ = split_member(paths[0])
    asked = members.store_of(members.find("000.bin"))._asked
    with asked_ahead(["", *paths]) as ask:
        ask(0)
        # The first path is none of a store.
        assert list(asked) == [f"{number:03}.bin" for number in range(min(num_asked, AHEAD_FILES - 1))]
        ask(2)
        first = [f"{number:03}.bin" for number in range(1, AHEAD_FILES + 3)]
        assert list(asked) == first[:num_asked]
    assert not asked
