"""Archives read in place: the same samples and the same bytes of a cache as unpacked, with one file beside them."""

import dataclasses
import io
import os
import re
import shutil
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import trees
from click.testing import CliRunner

from tmkt_data.cli.main import main
from tmkt_data.datasets.registry import default_spec
from tmkt_data.errors import CatalogueError
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import find_prepared, plan_prepare
from tmkt_data.sources.archive_members import ArchiveLimits
from tmkt_data.sources.archives import unpack_archives
from tmkt_data.sources.doctor import list_digests
from tmkt_data.sources.foreign import READ_IN_PLACE
from tmkt_data.sources.in_place import list_members
from tmkt_data.sources.locate import Locations, find_sources
from tmkt_data.storage.member_list import read_member_list

from ..datasets.published_trees import write_esimagenet

FORMS = {"stored": ".zip", "deflated": ".zip", "tar": ".tar"}


def packed(folder, path, form="stored"):
    """Write the files below a folder into an archive."""
    files = [(file, file.relative_to(folder)) for file in sorted(folder.rglob("*")) if file.is_file()]
    path = path.with_suffix(FORMS[form])
    if form == "tar":
        with tarfile.open(path, "w") as archive:
            for file, name in files:
                archive.add(file, name)
        return path
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if form == "deflated" else zipfile.ZIP_STORED) as archive:
        for file, name in files:
            archive.write(file, name)
    return path


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def write_folder(root):
    trees.write_folder(root, {"wave/a": 1, "wave/b": 2, "still/c": 3}, {"wave/a": 1, "still/c": 3})
    trees.write_scene(root / "events" / "wave" / "inner" / "f.bin", 4)
    rng = np.random.default_rng(0)
    with h5py.File(root / "events" / "wave" / "d.h5", "w") as file:
        for name, most in (("t", 9000), ("x", 40), ("y", 30), ("p", 2)):
            values = rng.integers(0, most, 500)
            file[f"events/{name}"] = np.sort(values) if name == "t" else values
    np.save(root / "events" / "wave" / "e.npy", trees_array(rng))
    return root


def trees_array(rng):
    array = np.zeros(300, [("t", "i8"), ("x", "u2"), ("y", "u2"), ("p", "?")])
    array["t"], array["x"], array["y"] = np.sort(rng.integers(0, 9000, 300)), rng.integers(0, 40, 300), 7
    return array


WRITERS = {
    "ncaltech101": lambda root: trees.write_ncaltech(root, {"airplanes": 3, "ant": 4}),
    "nmnist": lambda root: trees.write_nmnist(root, per_digit=3, test_per_digit=1, digits=2),
    "esimagenet": write_esimagenet,
    "folder": write_folder,
}


def test_every_dataset_that_is_read_in_place_is_tried_here():
    assert set(WRITERS) == set(READ_IN_PLACE)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", WRITERS)
def test_samples_notes_digests_and_bytes_of_the_cache_are_those_of_unpacked_files(tmp_path, name, form):
    archive = packed(WRITERS[name](tmp_path / "tree"), tmp_path / "set", form)
    spec, found = dataclasses.replace(default_spec(name), time_bins=2, size=16), {}
    for unpack in (False, True):
        unpack_to = tmp_path / f"unpacked {unpack}"
        with find_sources(name, Locations(archive), unpack_to=unpack_to, unpack=unpack) as sources:
            plan = plan_prepare(sources.catalogue, spec, tmp_path / f"{unpack}.h5")
            for _ in prepare_cache(plan, workers=2):
                pass
            assert find_prepared(plan) is not None
            digests = dict(list_digests(sources.catalogue, sources.bases))
        facts = [
            tuple(source._replace(file="") for source in side)
            for side in (plan.catalogue.recordings, plan.catalogue.images)
        ]
        found[unpack] = plan.path.read_bytes(), plan.key, plan.catalogue.notes, digests, facts
        names = [path.name for path in unpack_to.iterdir()]
        assert (len(names) == 1 and names[0].endswith(".members")) is not unpack
    assert found[False] == found[True]


def test_commands_read_in_place_plan_in_shards_and_unpack_where_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("TMKT_CACHES", str(tmp_path / "caches"))
    tree = trees.write_ncaltech(tmp_path / "tree", {"airplanes": 3, "ant": 4})
    given = [
        *("--events", packed(tree / "Caltech101", tmp_path / "events", "tar")),
        *("--images", packed(tree / "101_ObjectCategories", tmp_path / "photos", "deflated")),
    ]
    options = [*given, "--size", 16, "--time-bins", 2]
    first = run("prepare", "ncaltech101", *options, "--out", tmp_path / "a.h5")
    assert first.exit_code == 0
    assert f"reading {tmp_path / 'events.tar'} in place" in first.output
    again = run("prepare", "ncaltech101", *options, "--out", tmp_path / "a.h5")
    assert "already prepared" in again.output
    assert "in place" not in again.output
    planned = run(
        "plan", "ncaltech101", *options, "--out", tmp_path / "plan", "--cache", tmp_path / "s.h5", "--shards", 2
    )
    assert planned.exit_code == 0, planned.output
    for last in (["--shard", "1/2"], ["--shard", "2/2"], ["--finish"]):
        assert run("prepare", "--plan", tmp_path / "plan", *last).exit_code == 0
    unpacked = run("prepare", "ncaltech101", *options, "--out", tmp_path / "b.h5", "--unpack")
    assert "unpacking" in unpacked.output
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert run("verify", tmp_path / "s.h5").exit_code == 0
    wrong = run("prepare", "--plan", tmp_path / "plan", "--shard", "1/2", "--unpack")
    assert wrong.exit_code == 2
    doctor = run("doctor", "ncaltech101", *given, "--deep")
    assert re.search(r"damaged +0\n", doctor.output), doctor.output


def test_what_is_unpacked_already_is_used(tmp_path):
    archive = packed(trees.write_ncaltech(tmp_path / "tree", {"ant": 2}), tmp_path / "set")
    for unpack in (True, False):
        said = []
        with find_sources(
            "ncaltech101", Locations(archive), unpack_to=tmp_path / "u", unpack=unpack, say=said.append
        ) as sources:
            assert ".members" not in sources.catalogue.recordings[0].file
    assert not said


@pytest.mark.parametrize("why", ["compressed as a whole", "holds another archive", "a file of more than 1 MiB"])
def test_what_cannot_be_read_in_place_is_unpacked_and_the_note_says_why(tmp_path, why, monkeypatch):
    monkeypatch.setattr("tmkt_data.sources.in_place.LARGEST_MEMBER", 1 << 20)
    tree = trees.write_ncaltech(tmp_path / "tree", {"ant": 2})
    if "another" in why:
        shutil.make_archive(str(tree / "more"), "zip", tree / "Caltech101")
    elif "MiB" in why:
        (tree / "large.dat").write_bytes(np.random.default_rng(0).bytes((1 << 20) + 1))
    form = "gztar" if "whole" in why else "tar" if "another" in why else "zip"
    archive = Path(shutil.make_archive(str(tmp_path / "set"), form, tree))
    said = []
    with find_sources("ncaltech101", Locations(archive), unpack_to=tmp_path / "u", say=said.append) as found:
        assert found.catalogue.num_twins == 2
    assert why in said[0]
    assert said[0].endswith(", so it is unpacked")
    assert said[1].startswith("unpacking ")


def write_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def write_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            if data == b"->":
                entry.type, entry.linkname, entry.size = tarfile.SYMTYPE, "/etc/passwd", 0
            archive.addfile(entry, io.BytesIO(data))
    return path


HOSTILE = {
    "above": [("../evil", b"1")],
    "absolute": [("/etc/evil", b"1")],
    "control": [("a\x1b[2J", b"1")],
    "twice": [("a/b", b"1"), ("a/./b", b"2")],
    "below a file": [("a/b", b"1"), ("a/b/c", b"2")],
    "a file above": [("a/b/c", b"2"), ("a/b", b"1")],
    "bomb": [("a", bytes(3 << 20))],
    "many": [(f"{number}", b"") for number in range(9)],
}
REASONS = {"a file above": "duplicate member|lies below"}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_hostile_archives_are_refused_as_when_they_are_unpacked(tmp_path, case, write):
    archive = write(tmp_path / f"set.{write.__name__[6:]}", HOSTILE[case])
    limits = ArchiveLimits(members=8, free_bytes=1 << 10, ratio=2 if write is write_zip else 0)
    if case not in ("bomb", "many"):
        limits = ArchiveLimits()
    refusals = []
    for read in (
        lambda: list_members({archive: "."}, limits),
        lambda: list(unpack_archives({archive: "."}, tmp_path / "out", limits)),
    ):
        with pytest.raises(CatalogueError) as raised:
            read()
        refusals.append(str(raised.value))
    if case == "a file above":
        assert all("duplicate member" in text or "lies below" in text for text in refusals)
    else:
        assert refusals[0] == refusals[1]


def test_links_are_refused(tmp_path):
    archive = write_tar(tmp_path / "set.tar", [("link", b"->")])
    with pytest.raises(CatalogueError, match="is a link or a device"):
        list_members({archive: "."})


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("share", [0.3, 0.97])
def test_a_truncated_archive_is_refused_or_unpacked_and_then_refused(tmp_path, kind, share):
    archive = {"zip": write_zip, "tar": write_tar}[kind](
        tmp_path / f"set.{kind}", [(f"{number}", bytes(range(250)) * 9) for number in range(9)]
    )
    data = archive.read_bytes().rstrip(b"\0")
    archive.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CatalogueError, match="fetch it again"):
        list_members({archive: "."})


def catalogue_of(tmp_path, form):
    archive = packed(trees.write_ncaltech(tmp_path / "tree", {"ant": 3}), tmp_path / "set", form)
    with find_sources("ncaltech101", Locations(archive), unpack_to=tmp_path / "u") as sources:
        return archive, plan_prepare(sources.catalogue, default_spec("ncaltech101"), tmp_path / "a.h5")


@pytest.mark.parametrize("form", ["stored", "deflated"])
def test_damage_is_the_archives_and_no_sample_is_left_out_for_it(tmp_path, form):
    archive, plan = catalogue_of(tmp_path, form)
    status, data = archive.stat(), bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as opened:
        at = opened.getinfo("Caltech101/ant/image_0002.bin").header_offset
    data[at + 200] ^= 1
    archive.write_bytes(data)
    os.utime(archive, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(CatalogueError, match=r"set\.zip: member 'Caltech101/ant/image_0002\.bin' is not what"):
        for _ in prepare_cache(plan, skip_bad=True):
            pass
    assert not plan.path.exists()


def test_an_archive_that_was_changed_since_is_not_read(tmp_path):
    archive, plan = catalogue_of(tmp_path, "tar")
    os.utime(archive, ns=(1, 1))
    with pytest.raises(CatalogueError, match=r"set\.tar: was changed since its members were listed; run it again"):
        for _ in prepare_cache(plan, skip_bad=True):
            pass


def test_an_archive_that_is_gone_is_one_line(tmp_path):
    archive, plan = catalogue_of(tmp_path, "tar")
    archive.unlink()
    with pytest.raises(CatalogueError, match=r"No such file"):
        for _ in prepare_cache(plan):
            pass


def test_a_damaged_list_is_one_line(tmp_path):
    path = tmp_path / "x.members"
    path.write_bytes(b"damaged")
    with pytest.raises(CatalogueError, match=r"x\.members: no list of members, or a damaged one"):
        read_member_list(path)
