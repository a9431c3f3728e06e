"""Caches that go to an object store: the bytes of local ones, there once they are complete, and found there again."""

from __future__ import annotations

import os
import re
import resource
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from file_limits import file_size_limit

from tmkt_data.cache.build_folder import not_being_built
from tmkt_data.cache.reader import read_cache_info
from tmkt_data.cache.stand_in import write_stand_in
from tmkt_data.errors import CacheError, StoreError
from tmkt_data.prepare.store_target import StoreTarget
from tmkt_data.storage.objects import find_object

from .conftest import one_line, run

fsspec = pytest.importorskip("fsspec")
OPTIONS = ("--size", "16", "--time-bins", "2")


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """The folder that caches are built in; empty again, but for what was stopped."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture(params=["memory", "file"])
def place(request, tmp_path):
    yield "memory://bucket/out" if request.param == "memory" else (tmp_path / "store").as_uri()
    if request.param == "memory":
        fsspec.filesystem("memory").rm("/", recursive=True)


def prepare(*words):
    return run("prepare", "nmnist", *words, *OPTIONS)


def stored(url):
    system, path = fsspec.url_to_fs(url)
    return {name.removeprefix(f"{path}/"): system.cat_file(name) for name in system.find(path)}


def local(root, tmp_path, *words):
    out = tmp_path / "local" / "a.h5"
    out.parent.mkdir()
    assert prepare("--root", root, "--out", out, *words).exit_code == 0
    return {path.relative_to(out.parent).as_posix(): path.read_bytes() for path in out.parent.rglob("*.h5")}


def left(scratch):
    return [path for path in scratch.rglob("*") if path.is_file()]


def no_connection(*_, **__):
    raise ConnectionResetError("reset by peer")


@pytest.mark.parametrize("words", [(), ("--shards", "3")])
def test_bytes_are_those_of_a_local_run_and_nothing_stays_here(root, tmp_path, place, scratch, words):
    expected = local(root, tmp_path, *words)
    made = prepare("--root", root, "--out", f"{place}/a.h5", *words)
    assert made.exit_code == 0, made.output
    assert stored(place) == expected
    assert f"wrote {place}/a.h5: " in made.stdout
    told = "warning: memory://bucket/out is memory of this process; the cache is gone when it ends\n"
    assert (told in made.stdout) == place.startswith("memory:")
    assert f"tmkt-data preview {place}/a.h5" in made.stdout
    again = prepare("--root", root, "--out", f"{place}/a.h5")
    assert f"already prepared: {place}/a.h5" in again.stdout
    assert str(scratch) not in made.output + again.output
    assert not left(scratch)


def test_tasks_of_a_plan_make_shards_and_a_lost_one_is_made_alone(root, tmp_path, place, scratch):
    expected = local(root, tmp_path, "--shards", "2")
    plan = tmp_path / "plan"
    planned = run("plan", "nmnist", "--root", root, *OPTIONS, "--cache", f"{place}/a.h5", "--out", plan, "--shards", 2)
    assert f"2 shards of {place}/a.h5" in planned.stdout
    assert run("prepare", "--plan", plan, "--shard", "2/2").exit_code == 0
    early = run("prepare", "--plan", plan, "--finish")
    assert f"shard 1/2: {place}/a.h5.shards/00001-of-00002.h5 is missing" in early.stderr
    assert early.exit_code == 1
    for last in (["--shard", "1/2"], ["--shard", "2/2"], ["--finish"]):
        assert run("prepare", "--plan", plan, *last).exit_code == 0
    assert stored(place) == expected
    system, path = fsspec.url_to_fs(place)
    system.rm(f"{path}/a.h5.shards/00001-of-00002.h5")
    system.pipe(f"{path}/a.h5.shards/00001-of-00002.h5", b"damaged")
    before = find_object(f"{place}/a.h5.shards/00002-of-00002.h5")
    again = prepare("--root", root, "--out", f"{place}/a.h5")
    assert "making shard 1 of 2 again" in again.stdout
    assert stored(place) == expected
    assert find_object(f"{place}/a.h5.shards/00002-of-00002.h5") == before
    assert not left(scratch)


def test_what_was_built_and_not_uploaded_is_uploaded_by_the_next_run(root, tmp_path, scratch, monkeypatch):
    expected, url = local(root, tmp_path), "memory://bucket/a.h5"
    kind = type(fsspec.filesystem("memory"))
    with monkeypatch.context() as broken:
        broken.setattr(kind, "put_file", no_connection)
        failed = prepare("--root", root, "--out", url)
    assert failed.exit_code == 1
    assert f"error: {url}: cannot be written (no connection, reset by peer); check the store" in failed.stderr
    assert find_object(url) is None
    assert "already prepared" in prepare("--root", root, "--out", url).stdout
    assert stored("memory://bucket") == expected
    assert not left(scratch)
    fsspec.filesystem("memory").rm("/", recursive=True)


def test_what_was_built_to_replace_a_cache_of_the_store_is_uploaded_by_the_next_run(
    root, tmp_path, scratch, monkeypatch
):
    url = "memory://bucket/a.h5"
    own = shutil.copytree(root, tmp_path / "own")
    assert prepare("--root", own, "--out", url).exit_code == 0
    recordings = sorted((own / "N-MNIST" / "Train" / "0").iterdir())
    recordings[0].write_bytes(recordings[0].read_bytes()[:-5])
    expected = local(own, tmp_path)
    assert expected != stored("memory://bucket")
    with monkeypatch.context() as broken:
        broken.setattr(type(fsspec.filesystem("memory")), "put_file", no_connection)
        assert prepare("--root", own, "--out", url, "--force").exit_code == 1
    again = prepare("--root", own, "--out", url)
    assert "already prepared" in again.stdout, again.output
    assert stored("memory://bucket") == expected
    assert not left(scratch)
    fsspec.filesystem("memory").rm("/", recursive=True)


@pytest.mark.parametrize("words", [(), ("--shards", "2")])
def test_what_was_built_with_other_options_and_not_uploaded_replaces_nothing(root, scratch, monkeypatch, words):
    url = "memory://bucket/a.h5"
    smaller = ("prepare", "nmnist", "--root", root, "--size", "8", "--out", url, *words)
    assert prepare("--root", root, "--out", url, *words).exit_code == 0
    expected = stored("memory://bucket")
    with monkeypatch.context() as broken:
        broken.setattr(type(fsspec.filesystem("memory")), "put_file", no_connection)
        assert run(*smaller, "--force").exit_code == 1
    (built,) = scratch.rglob("*.h5")
    whole = built.read_bytes()
    refused = prepare("--root", root, "--out", url, *words)
    assert "found another cache built for it here (nmnist, " in one_line(refused)
    assert f"remove {built.relative_to(scratch)} in {scratch}, or give --force to replace both" in one_line(refused)
    assert (built.read_bytes(), stored("memory://bucket")) == (whole, expected)
    if not words:
        assert "already prepared" in run(*smaller).stdout
        assert stored("memory://bucket") == {"a.h5": whole}
        assert not left(scratch)
    else:
        built.unlink()
        assert "already prepared" in prepare("--root", root, "--out", url).stdout
        assert stored("memory://bucket") == expected
    fsspec.filesystem("memory").rm("/", recursive=True)


@contextmanager
def no_more_files():
    """No further file can be opened."""
    before, next_one = resource.getrlimit(resource.RLIMIT_NOFILE), os.dup(0)
    os.close(next_one)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_one, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_what_was_built_and_cannot_be_read_just_now_stays(root, tmp_path):
    whole, target = local(root, tmp_path)["a.h5"], StoreTarget.of("memory://bucket/a.h5")
    key = read_cache_info(tmp_path / "local" / "a.h5").plan
    target.path.write_bytes(whole)
    with no_more_files(), pytest.raises(CacheError, match="Too many open files"):
        target.bring("a.h5", key)
    assert target.path.read_bytes() == whole
    target.bring("a.h5", key)
    assert stored("memory://bucket") == {"a.h5": whole}
    fsspec.filesystem("memory").rm("/", recursive=True)


def test_what_another_machine_uploaded_meanwhile_stays(root, tmp_path, scratch):
    url = "memory://bucket/a.h5"
    other = run("prepare", "nmnist", "--root", root, *OPTIONS[:2], "--time-bins", "3", "--out", tmp_path / "other.h5")
    assert other.exit_code == 0
    target = StoreTarget.of(url)
    target.path.write_bytes((tmp_path / "other.h5").read_bytes())
    os.utime(target.path, (1, 1))
    expected = local(root, tmp_path)
    fsspec.filesystem("memory").pipe("/bucket/a.h5", expected["a.h5"])
    assert "already prepared" in prepare("--root", root, "--out", url).stdout
    assert stored("memory://bucket") == expected
    assert not left(scratch)
    fsspec.filesystem("memory").rm("/", recursive=True)


def test_a_full_disk_here_is_not_taken_for_the_store(root, tmp_path, scratch, monkeypatch):
    url = (tmp_path / "store").as_uri()
    advice = "; or set TMPDIR to a folder of a larger disk, as what goes to a store is built there"
    with file_size_limit(3000):
        built = prepare("--root", root, "--out", f"{url}/a.h5")
    assert re.fullmatch(
        rf"error: {scratch}/\S+: cannot be written \(File too large\); free some space and run it again{advice}",
        one_line(built),
    )
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2, 2, 0))
        refused = prepare("--root", root, "--out", f"{url}/a.h5")
    assert re.fullmatch(
        rf"error: {scratch}/\S+: 0 MB free, needed \d+ MB; free some space or give another --out{advice}",
        one_line(refused),
    )
    assert prepare("--root", root, "--out", f"{url}/a.h5").exit_code == 0
    with file_size_limit(3000):
        found = prepare("--root", root, "--out", f"{url}/a.h5")
    assert one_line(found).startswith(f"error: {scratch}/")
    assert "--force" not in one_line(found)
    assert one_line(found).endswith(advice)


def test_a_stand_in_is_never_taken_for_a_cache(root, place):
    assert prepare("--root", root, "--out", f"{place}/a.h5").exit_code == 0
    target = StoreTarget.of(f"{place}/a.h5")
    target.bring("a.h5", "")
    whole = stored(place)["a.h5"]
    assert target.path.stat().st_size == len(whole)
    assert target.path.read_bytes() != whole
    system, path = fsspec.url_to_fs(place)
    system.rm(f"{path}/a.h5")
    target.bring("a.h5", "")
    assert not target.path.exists()
    assert find_object(f"{place}/a.h5") is None


def test_what_is_in_the_way_is_one_line(root, place):
    system, path = fsspec.url_to_fs(place)
    system.makedirs(path, exist_ok=True)
    system.pipe(f"{path}/a.h5", b"something else")
    refused = prepare("--root", root, "--out", f"{place}/a.h5")
    assert (
        one_line(refused)
        == f"error: {place}/a.h5: not a tmkt cache; make one with tmkt-data prepare (--force replaces it)"
    )
    assert stored(place) == {"a.h5": b"something else"}
    assert prepare("--root", root, "--out", f"{place}/a.h5", "--force").exit_code == 0
    other = run("prepare", "nmnist", "--root", root, "--size", "8", "--out", f"{place}/a.h5")
    assert one_line(other).startswith(f"error: {place}/a.h5: holds another cache (nmnist")
    web = prepare("--root", root, "--out", "http://127.0.0.1:9/a.h5")
    assert one_line(web).startswith("error: http://127.0.0.1:9/a.h5: a web server, which takes no files; expected")


def test_a_folder_of_somebody_else_is_not_built_in(scratch):
    home = StoreTarget.of("memory://bucket/a.h5").folder.parent
    Path(home).rename(scratch / "moved")
    home.symlink_to(scratch / "moved")
    with pytest.raises(CacheError, match="belongs to somebody else; set TMPDIR"):
        StoreTarget.of("memory://bucket/a.h5")


def test_a_bucket_alone_is_no_cache(scratch):
    with pytest.raises(StoreError, match=r"s3://bucket: names no object, expected one such as s3://bucket/cache\.h5"):
        StoreTarget.of("s3://bucket/")
    assert not list(scratch.iterdir())


def test_a_cache_that_another_run_of_this_machine_is_uploading_is_left_to_it(root, tmp_path):
    whole, target = local(root, tmp_path)["a.h5"], StoreTarget.of("memory://bucket/a.h5")
    target.path.write_bytes(whole)
    with not_being_built(target.path):
        refused = prepare("--root", root, "--out", "memory://bucket/a.h5")
    assert one_line(refused).endswith(": another tmkt-data prepare is building this cache; wait for it to end")
    assert find_object("memory://bucket/a.h5") is None
    assert target.path.read_bytes() == whole


def test_a_stand_in_whose_folder_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(CacheError, match=r"a\.h5: cannot be written \(File exists\); check its folder or name another"):
        write_stand_in(tmp_path / "taken" / "a.h5", 10, [], lambda *_: b"")
