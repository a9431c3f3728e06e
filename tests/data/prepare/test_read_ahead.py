"""Files of a block are read ahead: each as it is, or left to the reader that says what is wrong with it."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.prepare import read_ahead
from tmkt_data.prepare.read_ahead import KnownFile, ReadAhead, first_bytes

WAYS = pytest.mark.parametrize("in_one_call", [True, False] if os.name == "posix" else [False])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for size in (0, 1, 5, 40, 200, 5000):
        (folder / f"{size} ü").write_bytes(np.random.default_rng(size).bytes(size))
    return folder


@WAYS
@settings(deadline=None)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 5, 40, 200, 5000, None]), max_size=60),
    skipped=st.sets(st.integers(0, 59)),
    window=st.sampled_from([1, 64, 4096]),
)
def test_every_file_is_itself(folder, in_one_call, sizes, skipped, window):
    files = [None if size is None else KnownFile(str(folder / f"{size} ü"), size) for size in sizes]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read_ahead, "WINDOW_BYTES", window)
        patch.setattr(read_ahead, "_IN_ONE_CALL", in_one_call)
        ahead = ReadAhead(files)
        for at, size in enumerate(sizes):
            if at in skipped:
                continue
            found = ahead.bytes_of(at)
            assert (found is None) == (size is None)
            assert found is None or found.tobytes() == (folder / f"{size} ü").read_bytes()


@WAYS
@pytest.mark.parametrize("limit", [1, 40, 4096])
def test_first_bytes_are_at_most_so_many(folder, monkeypatch, in_one_call, limit):
    monkeypatch.setattr(read_ahead, "_IN_ONE_CALL", in_one_call)
    names = [*sorted(path.name for path in folder.iterdir()), "missing"] * 5
    for name, start in zip(names, first_bytes([str(folder / name) for name in names], limit), strict=True):
        if name == "missing":
            assert start is None
        else:
            assert start.tobytes() == (folder / name).read_bytes()[:limit]
    assert list(first_bytes([], limit)) == []


@WAYS
def test_what_is_not_as_it_should_be_is_left_to_others(folder, tmp_path, monkeypatch, in_one_call):
    monkeypatch.setattr(read_ahead, "_IN_ONE_CALL", in_one_call)
    if os.name == "posix":
        os.mkfifo(tmp_path / "pipe")
    (tmp_path / "cut").write_bytes(b"1234")
    (tmp_path / "grown").write_bytes(b"123456")
    names = ["pipe", "cut", "grown", "missing", "zero\0byte", "cut\0", "."]
    files = [KnownFile(str(tmp_path / name), 5) for name in names]
    good = KnownFile(str(folder / "40 ü"), 40)
    ahead = ReadAhead([file for bad in files for file in (bad, good)])
    for at in range(2 * len(files)):
        found = ahead.bytes_of(at)
        assert (found is None) == (at % 2 == 0)
        assert found is None or found.tobytes() == (folder / "40 ü").read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="names of undecodable bytes are those of POSIX systems")
def test_a_name_of_undecodable_bytes(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff\xfe"
    with open(path, "wb") as file:  # noqa: PTH123 - no text has this name
        file.write(b"123")
    assert ReadAhead([KnownFile(os.fsdecode(path), 3)]).bytes_of(0).tobytes() == b"123"


@pytest.mark.skipif(sys.platform != "linux", reason="open files are listed by Linux")
@WAYS
def test_no_file_is_left_open(folder, monkeypatch, in_one_call):
    monkeypatch.setattr(read_ahead, "_IN_ONE_CALL", in_one_call)
    before = len(list(Path("/proc/self/fd").iterdir()))
    files = [KnownFile(str(folder / "40 ü"), 40), KnownFile(str(folder), 5)] * 20
    ahead = ReadAhead(files)
    for at in range(len(files)):
        ahead.bytes_of(at)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
