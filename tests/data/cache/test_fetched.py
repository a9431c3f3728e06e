"""Caches of object stores are copied once, again where they were changed, and no half of one is taken for whole."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import trees
from click.testing import CliRunner

from tmkt_data import PairedFrames
from tmkt_data.cache.fetched import local_copy, local_path, token_of
from tmkt_data.cache.reader import Cache, read_cache_info
from tmkt_data.cache.verify import verify_cache
from tmkt_data.cli.main import main
from tmkt_data.errors import CacheError, StoreError
from tmkt_data.locks import lock

fsspec = pytest.importorskip("fsspec")


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A bucket with a cache in one file, and the same in shards; and the cache directory."""
    monkeypatch.setenv("TMKT_CACHES", str(tmp_path / "caches"))
    root, out = trees.write_nmnist(tmp_path / "root", per_digit=6, test_per_digit=1, digits=3), tmp_path / "out"
    out.mkdir()
    for name, words in (("one.h5", ()), ("set.h5", ("--shards", 2))):
        made = run("prepare", "nmnist", "--root", root, "--size", 16, "--time-bins", 2, "--out", out / name, *words)
        assert made.exit_code == 0
    system = fsspec.filesystem("memory")
    system.put(f"{out}/", "/bucket/", recursive=True)
    yield out
    system.rm("/", recursive=True)


@pytest.mark.parametrize("name", ["one.h5", "set.h5"])
def test_pairs_are_those_of_the_local_cache_and_each_file_is_copied_once(bucket, name):
    said = []
    copy = local_copy(f"memory://bucket/{name}", said.append)
    assert len(said) == (1 if name == "one.h5" else 3)
    assert copy.read_bytes() == (bucket / name).read_bytes()
    for _ in verify_cache(copy):
        pass
    here, there = PairedFrames(bucket / name), PairedFrames(f"memory://bucket/{name}")
    assert len(here) == len(there)
    for one, other in zip(here[0], there[0], strict=True):
        assert np.array_equal(one, other)
    assert local_copy(f"memory://bucket/{name}", said.append) == copy
    assert len(said) == (1 if name == "one.h5" else 3)
    assert local_path(bucket / name) == bucket / name


@pytest.mark.usefixtures("bucket")
def test_who_wants_a_copy_that_another_one_makes_says_so_and_waits():
    url = "memory://bucket/one.h5"
    copy, said, other = local_copy(url), [], ExitStack()
    other.enter_context(lock(copy.parent / ".lock", CacheError("held")))

    def say(line):
        said.append(line)
        other.close()

    assert local_copy(url, say) == copy
    assert said == [f"waiting for another process that copies {url} to {copy.parent}"]


def test_a_file_that_was_changed_is_copied_again_and_alone(bucket):
    said = []
    local_copy("memory://bucket/set.h5", said.append)
    system, shard = fsspec.filesystem("memory"), "/bucket/set.h5.shards/00002-of-00002.h5"
    system.pipe(shard, system.cat_file(shard))
    del said[:]
    copy = local_copy("memory://bucket/set.h5", said.append)
    assert [line.split()[1] for line in said] == [f"memory:/{shard}"]
    whole = (bucket / "set.h5").read_bytes()
    os.truncate(copy, 100)
    assert local_copy("memory://bucket/set.h5").read_bytes() == whole
    copy.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert local_copy("memory://bucket/set.h5").read_bytes() == whole


@pytest.mark.parametrize("when", ["halfway", "at the end"])
def test_a_copy_that_is_stopped_is_made_again(bucket, monkeypatch, when):
    kind = type(fsspec.filesystem("memory"))

    def get_file(self, path, to, **_):
        data = self.cat_file(path)
        Path(to).write_bytes(data[: len(data) // 2 if when == "halfway" else len(data)])
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr(kind, "get_file", get_file)
        with pytest.raises(KeyboardInterrupt):
            local_copy("memory://bucket/one.h5")
    folder = next((bucket.parent / "caches" / "fetched").iterdir())
    assert [path.name for path in folder.iterdir() if path.name != ".lock"] == []
    assert local_copy("memory://bucket/one.h5").read_bytes() == (bucket / "one.h5").read_bytes()


@pytest.mark.usefixtures("bucket")
def test_a_copy_that_is_shorter_than_its_object_is_refused(monkeypatch):
    kind = type(fsspec.filesystem("memory"))
    monkeypatch.setattr(kind, "get_file", lambda self, path, to: Path(to).write_bytes(self.cat_file(path)[:-1]))
    with pytest.raises(StoreError, match=r"memory://bucket/one\.h5: was changed while it was copied; run it again"):
        local_copy("memory://bucket/one.h5")


@pytest.mark.usefixtures("bucket")
def test_a_disk_that_is_full_is_not_said_to_be_the_store(monkeypatch):
    def get_file(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "get_file", get_file)
    with pytest.raises(CacheError, match=r"one\.h5: cannot be written \(No space left on device\); free some space"):
        local_copy("memory://bucket/one.h5")


@pytest.mark.usefixtures("bucket")
def test_what_is_in_the_way_of_a_copy_is_one_line():
    copy = local_copy("memory://bucket/set.h5")
    shards = copy.with_name("set.h5.shards")
    shutil.rmtree(shards)
    shards.touch()
    with pytest.raises(CacheError, match=r"00001-of-00002\.h5: cannot be written \(File exists\); check its folder"):
        PairedFrames("memory://bucket/set.h5")
    token_of(copy).unlink()
    token_of(copy).mkdir()
    with pytest.raises(CacheError, match=r"set\.h5: cannot be written \(.+\); check its folder or name another$"):
        local_copy("memory://bucket/set.h5")


@pytest.mark.usefixtures("bucket")
def test_copies_are_listed_and_removed_with_the_caches_of_their_dataset():
    copies = [local_copy(f"memory://bucket/{name}") for name in ("one.h5", "set.h5")]
    listed = run("datasets").stdout
    assert all(f"prepared: {copy} (" in listed for copy in copies)
    with lock(copies[0].parent / ".lock", CacheError("held")):
        partly = run("remove", "nmnist", "--yes")
    assert "another process is copying a cache to it; wait for it to end" in partly.stderr
    assert (partly.exit_code, copies[0].exists(), copies[1].exists()) == (1, True, False)
    removed = run("remove", "nmnist", "--yes")
    assert removed.exit_code == 0, removed.output
    assert not list(copies[0].parent.parent.iterdir())
    refused = run("remove", "memory://bucket/one.h5", "--yes")
    assert refused.exit_code == 2
    assert "found the URL memory://bucket/one.h5, expected a dataset or a file" in refused.stderr


@pytest.mark.usefixtures("bucket")
def test_who_opens_a_url_as_a_file_is_told_what_takes_urls():
    for open_it in (Cache, read_cache_info):
        with pytest.raises(CacheError, match=r"^memory://bucket/one\.h5: a URL, expected a file; PairedFrames takes"):
            open_it("memory://bucket/one.h5")


def test_what_is_no_cache_is_one_line_and_is_not_copied(bucket):
    system = fsspec.filesystem("memory")
    system.pipe("/bucket/other.h5", bytes(1000))
    system.rm("/bucket/set.h5.shards/00001-of-00002.h5")
    for name, text in (
        ("none.h5", "no such object; check the URL, or make it with tmkt-data prepare"),
        ("other.h5", "not a tmkt cache; make one with tmkt-data prepare"),
        ("set.h5", "no such object"),
    ):
        with pytest.raises(CacheError, match=text):
            local_copy(f"memory://bucket/{name}")
    assert not list((bucket.parent / "caches").rglob("other.h5"))


@pytest.mark.usefixtures("bucket")
def test_commands_take_urls():
    for command in ("inspect", "verify", "preview"):
        done = run(command, "memory://bucket/set.h5")
        assert done.exit_code == 0, done.output
    assert "copying" not in done.output
    refused = run("compress", "memory://bucket/one.h5")
    assert refused.exit_code == 2
    assert "expected a path of a file system" in refused.stderr
