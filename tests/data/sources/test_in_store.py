"""Datasets in object stores: the same samples and bytes of a cache as from local files, read with few waits."""

import dataclasses
import re
import threading
import time

import numpy as np
import pytest
import trees
from click.testing import CliRunner

from tmkt_data.cli.main import main
from tmkt_data.datasets.registry import default_spec
from tmkt_data.errors import CatalogueError, StoreError
from tmkt_data.files import read_bytes
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import find_prepared, plan_prepare
from tmkt_data.sources.doctor import list_digests
from tmkt_data.sources.foreign import READ_IN_PLACE
from tmkt_data.sources.in_store import list_store
from tmkt_data.sources.locate import Locations, find_sources
from tmkt_data.storage.member_files import AHEAD_FILES, asked_ahead
from tmkt_data.storage.member_list import split_member

from ..datasets.published_trees import write_esimagenet

fsspec = pytest.importorskip("fsspec")
WRITERS = {
    "ncaltech101": lambda root: trees.write_ncaltech(root, {"airplanes": 3, "ant": 4}),
    "nmnist": lambda root: trees.write_nmnist(root, per_digit=3, test_per_digit=1, digits=2),
    "esimagenet": write_esimagenet,
    "folder": lambda root: trees.write_folder(root, {"wave/a": 1, "still/c": 3}, {"wave/a": 1, "still/c": 3}),
}


@pytest.fixture
def bucket():
    """A bucket in memory; called with a folder, it takes its files."""
    system = fsspec.filesystem("memory")

    def put(folder, name):
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                system.pipe(f"/bucket/{name}/{file.relative_to(folder).as_posix()}", file.read_bytes())
        return f"memory://bucket/{name}"

    yield put
    system.rm("/", recursive=True)


@pytest.fixture
def counts(monkeypatch):
    """Requests to a store in memory, each of which takes a while."""
    kind, lock, counts = type(fsspec.filesystem("memory")), threading.Lock(), {"now": 0, "most": 0, "all": 0}
    read = kind.cat_file

    def cat_file(self, path, **options):
        with lock:
            counts["now"] += 1
            counts["all"] += 1
            counts["most"] = max(counts["most"], counts["now"])
        time.sleep(0.02)
        with lock:
            counts["now"] -= 1
        return read(self, path, **options)

    monkeypatch.setattr(kind, "cat_file", cat_file)
    return counts


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def prepared(name, given, tmp_path, out):
    spec = dataclasses.replace(default_spec(name), time_bins=2, size=16)
    with find_sources(name, Locations(given), unpack_to=tmp_path / "lists") as sources:
        plan = plan_prepare(sources.catalogue, spec, tmp_path / out)
        for _ in prepare_cache(plan, workers=2):
            pass
        assert find_prepared(plan) is not None
        return plan.path.read_bytes(), plan.key, dict(list_digests(sources.catalogue, sources.bases))


def test_every_dataset_that_is_read_in_place_is_tried_here():
    assert set(WRITERS) == set(READ_IN_PLACE)


@pytest.mark.parametrize("name", WRITERS)
def test_cache_key_and_digests_are_those_of_local_files(tmp_path, bucket, name):
    tree = WRITERS[name](tmp_path / "tree")
    local = prepared(name, tree, tmp_path, "local.h5")
    assert prepared(name, bucket(tree, "some/set"), tmp_path, "stored.h5") == local
    assert prepared(name, tree.as_uri(), tmp_path, "file.h5") == local


def test_commands_take_urls_of_both_sides(tmp_path, bucket, monkeypatch):
    monkeypatch.setenv("TMKT_CACHES", str(tmp_path / "caches"))
    tree = trees.write_ncaltech(tmp_path / "tree", {"airplanes": 3, "ant": 4})
    given = [
        *("--events", bucket(tree / "Caltech101", "events")),
        *("--images", bucket(tree / "101_ObjectCategories", "photos")),
    ]
    options = [*given, "--size", 16, "--time-bins", 2]
    assert run("prepare", "ncaltech101", "--root", tree, *options[4:], "--out", tmp_path / "a.h5").exit_code == 0
    planned = run(
        "plan", "ncaltech101", *options, "--out", tmp_path / "plan", "--cache", tmp_path / "s.h5", "--shards", 2
    )
    assert planned.exit_code == 0, planned.output
    assert "reading 7 objects of memory://bucket/events in place" in planned.output
    for last in (["--shard", "1/2"], ["--shard", "2/2"], ["--finish"]):
        assert run("prepare", "--plan", tmp_path / "plan", *last).exit_code == 0
    assert run("prepare", "ncaltech101", *options, "--out", tmp_path / "b.h5").exit_code == 0
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert "already prepared" in run("prepare", "ncaltech101", *options, "--out", tmp_path / "b.h5").output
    doctor = run("doctor", "ncaltech101", *given, "--deep")
    assert re.search(r"damaged +0\n", doctor.output), doctor.output
    for name in ("digits", "caltech101-twins", "tonic:NMNIST"):
        refused = run("prepare", name, "--root", "memory://bucket/photos")
        assert refused.exit_code == 2
        assert refused.stderr.endswith(
            f"{name} is made on this machine, expected a path of a file system; copy it to a disk\n"
        )
    assert (
        "cepdvs is not read from object stores, expected one of" in run("prepare", "cepdvs", "--root", given[1]).stderr
    )


def test_an_object_that_changes_before_its_shard_is_made_is_one_line_and_a_new_listing_takes_it(
    tmp_path, bucket, monkeypatch
):
    monkeypatch.setenv("TMKT_CACHES", str(tmp_path / "caches"))
    tree = trees.write_nmnist(tmp_path / "tree", per_digit=3, test_per_digit=1, digits=2)
    options = ["nmnist", "--root", bucket(tree, "nm"), "--size", 16, "--time-bins", 2]
    assert run("plan", *options, "--out", tmp_path / "plan", "--cache", tmp_path / "s.h5", "--shards", 1).exit_code == 0
    changed = next(tree.rglob("00001.bin"))
    trees.random_recording(changed, np.random.default_rng(9), 34, 34, 77)
    bucket(tree, "nm")
    failed = run("prepare", "--plan", tmp_path / "plan", "--shard", "1/1")
    assert failed.exit_code == 1
    assert re.fullmatch(
        r"\nerror: memory://bucket/nm/\S+: was changed since it was listed; run it again.*\n", failed.stderr
    )
    assert run("prepare", *options, "--out", tmp_path / "a.h5").exit_code == 0
    stale = run("prepare", "--plan", tmp_path / "plan", "--shard", "1/1")
    assert "was changed since" in stale.stderr
    assert "make the plan again" in stale.stderr
    assert run("prepare", *options[:1], "--root", tree, *options[3:], "--out", tmp_path / "b.h5").exit_code == 0
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_a_store_that_fails_meanwhile_leaves_no_sample_out(tmp_path, bucket):
    tree = trees.write_nmnist(tmp_path / "tree", per_digit=3, test_per_digit=1, digits=2)
    with find_sources("nmnist", Locations(bucket(tree, "nm")), unpack_to=tmp_path / "u") as sources:
        plan = plan_prepare(sources.catalogue, default_spec("nmnist"), tmp_path / "a.h5")
        system = fsspec.filesystem("memory")
        system.rm(next(path for path in system.find("/bucket") if path.endswith("00002.bin")))
        with pytest.raises(StoreError, match=r"00002\.bin: cannot be read \(no such object"):
            for _ in prepare_cache(plan, workers=2, skip_bad=True):
                pass
    assert not plan.path.exists()


def test_many_objects_are_asked_for_at_the_same_time_and_each_once(tmp_path, bucket, counts):
    tree = trees.write_nmnist(tmp_path / "tree", per_digit=30, test_per_digit=10, digits=1)
    prepared("nmnist", bucket(tree, "nm"), tmp_path, "a.h5")
    assert counts["most"] >= 16
    # Once to prepare, once for the digests.
    assert counts["all"] == 2 * 80


def test_what_was_asked_for_is_dropped_where_it_is_not_read(tmp_path, bucket):
    (tmp_path / "tree").mkdir()
    for number in range(2 * AHEAD_FILES):
        (tmp_path / "tree" / f"{number:03d}").write_bytes(b"%d" % number)
    files = list_of(bucket(tmp_path / "tree", "set"), tmp_path, 2 * AHEAD_FILES)
    store = split_member(files[0])[0]._holders[0]
    with asked_ahead(files) as ask:
        ask(0)
        assert len(store._asked) == AHEAD_FILES
        ask(3)
        assert read_bytes(files[3]) == b"3"
        assert len(store._asked) == AHEAD_FILES - 1
        assert not {f"{number:03d}" for number in (0, 1, 2)} & store._asked.keys()
    assert not store._asked
    with asked_ahead([str(tmp_path / "tree" / "000"), "", "no.members/file"]) as ask:
        ask(2)


def list_of(url, tmp_path, num):
    from tmkt_data.sources.in_store import encode_store_list

    path = tmp_path / "x.members"
    path.write_bytes(encode_store_list(list_store(url)))
    return [str(path / f"{number:03d}") for number in range(num)]


@pytest.mark.usefixtures("bucket")
def test_names_that_are_none_of_files_are_left_out_and_said():
    system = fsspec.filesystem("memory")
    for name in ("a/b.bin", "a//c.bin", "a/\x1b[2J", "more.zip", "__MACOSX/a/b.bin", "a/._b.bin", "d", "d/e"):
        system.store[f"/bucket/set/{name}"] = type(system.open("/x", "wb"))(
            system, f"/bucket/set/{name}", name.encode()
        )
    found = list_store("memory://bucket/set/")
    assert set(found.objects) == {"a/b.bin", "d/e"}
    assert {why: sorted(names) for why, names in found.left_out.items()} == {
        "whose names are none of files": ["a/\x1b[2J", "a//c.bin"],
        "archives, which are not read in a store; unpack or copy them": ["more.zip"],
        "of macOS": ["__MACOSX/a/b.bin", "a/._b.bin"],
        "with names of folders": ["d"],
    }
    with pytest.raises(CatalogueError, match=r"memory://bucket/set/a/b\.bin: one object, expected the folder"):
        list_store("memory://bucket/set/a/b.bin")


def test_what_cannot_be_read_is_left_out_and_said(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.bin").write_bytes(b"bytes")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    found = list_store(tmp_path.as_uri())
    assert set(found.objects) == {"a/b.bin"}
    assert found.left_out == {"which are links to folders or to nothing, no files, or of unknown size": ["b"]}


def test_a_recording_too_large_for_memory_is_refused(tmp_path, bucket, monkeypatch):
    monkeypatch.setattr("tmkt_data.sources.foreign.LARGEST_MEMBER", 100)
    url = bucket(trees.write_nmnist(tmp_path / "tree", per_digit=1, test_per_digit=1, digits=1), "nm")
    with (
        pytest.raises(
            CatalogueError, match=r"0/test-00002: found a recording of 0 MiB, expected at most 0 MiB in an object"
        ),
        find_sources("nmnist", Locations(url), unpack_to=tmp_path / "u"),
    ):
        pass
