from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import trees
from conftest import build
from PIL import Image

from tmkt_data.cache.reader import Cache
from tmkt_data.datasets.catalogue import Catalogue
from tmkt_data.datasets.ncaltech101 import open_ncaltech101
from tmkt_data.datasets.nmnist import open_nmnist
from tmkt_data.datasets.registry import DATASETS, default_spec, open_catalogue
from tmkt_data.datasets.source_table import Source
from tmkt_data.datasets.splits import SplitCode
from tmkt_data.errors import CacheError, CatalogueError, SpecError
from tmkt_data.events.events import SensorSize
from tmkt_data.images.frames import Placement
from tmkt_data.pairs.report import measure_alignment
from tmkt_data.prepare.plan import find_prepared, plan_prepare

COUNTS = {"BACKGROUND_Google": 3, "Faces_easy": 4, "airplanes": 3}


@pytest.fixture
def caltech(tmp_path: Path) -> Path:
    return trees.write_ncaltech(tmp_path / "root", COUNTS)


def move(root: Path, source: str, target: str) -> Path:
    (root / target).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(root / source, root / target)
    return root


def test_ncaltech101_lists_both_sides_with_published_labels(caltech):
    catalogue = open_ncaltech101(caltech)
    assert len(catalogue.class_names) == 101
    assert [source.id for source in catalogue.recordings][:4] == [
        "BACKGROUND_Google/image_0001", "BACKGROUND_Google/image_0002", "BACKGROUND_Google/image_0003",
        "Faces_easy/image_0001",
    ]  # fmt: skip
    assert {source.label for source in catalogue.recordings} == {0, 1, 5}
    assert catalogue.num_twins == 10
    assert any(
        note.startswith("10 of 8709 recordings; missing: BACKGROUND_Google/image_0004,") for note in catalogue.notes
    )


def test_objects_only_shifts_every_label_by_one(caltech):
    catalogue = open_ncaltech101(caltech, class_set="objects")
    assert len(catalogue.class_names) == 100
    assert {source.label for source in catalogue.recordings} == {0, 4}
    assert catalogue.class_names[0] == "Faces_easy"
    assert "recordings: folders left out: BACKGROUND_Google" in catalogue.notes


@pytest.mark.parametrize("events", ["Caltech101", "N-Caltech101/Caltech101", "ncaltech101/Caltech101"])
@pytest.mark.parametrize("images", ["101_ObjectCategories", "caltech101/101_ObjectCategories"])
def test_the_usual_layouts_of_ncaltech101_are_found(caltech, events, images):
    root = caltech
    if events != "Caltech101":
        move(root, "Caltech101", events)
    if images != "101_ObjectCategories":
        move(root, "101_ObjectCategories", images)
    assert open_ncaltech101(root).num_twins == 10
    assert open_ncaltech101(events=root / events, images=root / images).num_twins == 10


def test_faces_junk_and_strange_names_are_left_out_and_noted(caltech):
    photos = caltech / "101_ObjectCategories"
    shutil.copytree(photos / "Faces_easy", photos / "Faces")
    (photos / "BACKGROUND_Google" / "tmp").write_bytes(b"junk")
    (photos / "airplanes" / "image_1.jpg").write_bytes(b"junk")
    (caltech / "Caltech101" / "airplanes" / "Thumbs.db").write_bytes(b"junk")
    catalogue = open_ncaltech101(caltech)
    assert len(catalogue.images) == 10
    assert "images: folders left out: Faces" in catalogue.notes
    assert "images: files left out: BACKGROUND_Google/tmp, airplanes/image_1.jpg" in catalogue.notes
    assert "recordings: files left out: airplanes/Thumbs.db" in catalogue.notes


def test_links_that_lead_nowhere_are_left_out_and_noted(caltech):
    folder = caltech / "Caltech101" / "airplanes"
    (folder / "image_0004.bin").symlink_to(folder / "image_0004.bin")
    (folder / "image_0005.bin").symlink_to(folder / "nowhere")
    (folder / "image_0006.bin").symlink_to(folder / "image_0001.bin")
    (caltech / "Caltech101" / "ant").symlink_to(caltech / "Caltech101" / "ant")
    (caltech / "Caltech101" / "crab").symlink_to(caltech / "nowhere")
    catalogue = open_ncaltech101(caltech)
    assert sum(source.id.startswith("airplanes/") for source in catalogue.recordings) == 4
    assert "recordings: files left out: airplanes/image_0004.bin, airplanes/image_0005.bin" in catalogue.notes


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EACCES])
@pytest.mark.parametrize("name", ["image_0002.bin", "image_0002.jpg", "airplanes"])
def test_what_the_system_cannot_look_at_is_no_broken_link(caltech, monkeypatch, name, number):
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: Refusing(real(path), name, number))
    with pytest.raises(CatalogueError, match=rf"cannot be read \({os.strerror(number)}\); check") as refused:
        open_ncaltech101(caltech)
    assert "\n" not in str(refused.value)


class Refusing:
    """`os.scandir` on a file system that cannot look at one entry, as where a server is gone."""

    def __init__(self, entries, name, number):
        self._entries, self._name, self._number = entries, name, number

    def __enter__(self):
        return map(self._entry, self._entries)

    def __exit__(self, *_):
        self._entries.close()

    def _entry(self, entry):
        return RefusedEntry(entry, self._number) if entry.name == self._name else entry


class RefusedEntry:
    """An entry of a folder with its name alone."""

    def __init__(self, entry, number):
        self.name, self.path, self._number = entry.name, entry.path, number

    def stat(self):
        raise OSError(self._number, os.strerror(self._number))

    is_file = is_dir = stat


def test_grey_and_large_images_become_intensities(caltech, tmp_path):
    photos = caltech / "101_ObjectCategories"
    Image.fromarray(np.full((2000, 3000), 77, np.uint8)).save(photos / "airplanes/image_0003.jpg")
    cache = Cache(build("ncaltech101", caltech, tmp_path / "c.h5"))
    row = cache.image_ids.index("airplanes/image_0003")
    assert cache.tables["images/width_px"][row] == 3000
    assert abs(cache.image_frames(np.array([row])).astype(int) - 77).max() <= 1


def test_pairs_go_by_name_whatever_is_deleted_or_added(caltech, tmp_path):
    before = Cache(build("ncaltech101", caltech, tmp_path / "a.h5"))
    (caltech / "101_ObjectCategories/Faces_easy/image_0002.jpg").unlink()
    (caltech / "Caltech101/airplanes/image_0001.bin").unlink()
    after = Cache(build("ncaltech101", caltech, tmp_path / "b.h5"))

    def twins(cache: Cache) -> dict[str, str | None]:
        names = (cache.image_ids[twin] if twin >= 0 else None for twin in cache.tables["events/twin"].tolist())
        return dict(zip(cache.event_ids, names, strict=True))

    assert all(twin == sample for sample, twin in twins(before).items())
    assert twins(after)["Faces_easy/image_0002"] is None
    assert {sample: twin for sample, twin in twins(after).items() if twin is not None} == {
        sample: sample for sample in after.event_ids if sample != "Faces_easy/image_0002"
    }
    alone = after.image_ids.index("airplanes/image_0001")
    assert after.splits("images", "twin-disjoint")[alone] == SplitCode.TRAIN


def test_nmnist_ids_carry_part_and_number(nmnist_root):
    catalogue = open_nmnist(nmnist_root)
    assert catalogue.recordings[0].id == "0/test-00049"
    assert catalogue.recordings[3].id == "0/train-00001"
    assert {source.part for source in catalogue.recordings} == {"train", "test"}
    assert catalogue.num_twins == 60


@pytest.mark.parametrize("zipped", [True, False])
def test_mnist_may_come_as_idx_files(tmp_path, zipped):
    root = trees.write_nmnist(tmp_path / "root", per_digit=3, test_per_digit=0, digits=2)
    shutil.rmtree(root / "MNIST_png")
    pixels = trees.write_mnist_idx(root / "MNIST" / "raw", [0, 0, 0, 1, 1, 1], zipped=zipped)
    catalogue = open_nmnist(root)
    assert catalogue.num_twins == 6
    cache = Cache(build("nmnist", root, tmp_path / "c.h5", canvas="tight", size=28))
    np.testing.assert_array_equal(cache.image_frames(np.arange(6)), pixels)


def test_a_changed_archive_is_seen(tmp_path):
    root = trees.write_nmnist(tmp_path / "root", per_digit=3, test_per_digit=0, digits=2)
    shutil.rmtree(root / "MNIST_png")
    trees.write_mnist_idx(root / "MNIST", [0, 0, 0, 1, 1, 1], zipped=False)
    path = build("nmnist", root, tmp_path / "c.h5")
    plan = plan_prepare(open_nmnist(root), default_spec("nmnist"), path)
    archive = root / "MNIST" / "train-images-idx3-ubyte"
    later = path.stat().st_mtime + 100
    os.utime(archive, (later, later))
    assert find_prepared(plan) is not None
    data = bytearray(archive.read_bytes())
    data[16 + 784 * 2] ^= 1
    archive.write_bytes(data)
    os.utime(archive, (later, later))
    with pytest.raises(CacheError, match=r"0/train-00003 has changed since it was prepared \(1 in all\)"):
        find_prepared(plan)


@pytest.mark.parametrize("missing", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
def test_half_of_an_idx_pair_is_refused(tmp_path, missing):
    root = trees.write_nmnist(tmp_path / "root", per_digit=1, test_per_digit=0, digits=1)
    shutil.rmtree(root / "MNIST_png")
    trees.write_mnist_idx(root / "MNIST", [0, 1], zipped=False)
    (root / "MNIST" / missing).unlink()
    with pytest.raises(CatalogueError, match=r"is missing beside it; fetch both$"):
        open_nmnist(root)


def test_a_part_is_not_taken_for_the_whole(tmp_path):
    root = trees.write_nmnist(tmp_path / "root", per_digit=2, test_per_digit=1, digits=1)
    with pytest.raises(CatalogueError, match="nmnist: no recordings"):
        open_nmnist(root, events=root / "N-MNIST" / "Train")


def test_idx_files_that_disagree_are_refused(tmp_path):
    root = trees.write_nmnist(tmp_path / "root", per_digit=1, test_per_digit=0, digits=1)
    shutil.rmtree(root / "MNIST_png")
    trees.write_mnist_idx(root / "MNIST", [0, 1], zipped=False)
    labels = root / "MNIST" / "train-labels-idx1-ubyte"
    labels.write_bytes(b"\x00\x00\x08\x01\x00\x00\x00\x01\x00")
    with pytest.raises(CatalogueError, match="2 images, train-labels-idx1-ubyte has 1 labels"):
        open_nmnist(root)
    labels.write_bytes(b"\x00\x00\x08\x01\x00\x00\x00\x02\x00\x0b")
    with pytest.raises(CatalogueError, match="label 11, expected 0 to 9"):
        open_nmnist(root)


@pytest.mark.parametrize("name", ["nmnist", "ncaltech101"])
def test_missing_data_says_where_it_looked_what_it_wants_and_where_to_get_it(tmp_path, name):
    with pytest.raises(CatalogueError) as caught:
        open_catalogue(name, tmp_path)
    text = str(caught.value)
    assert str(tmp_path) in text
    for line in (*DATASETS[name].tree, *DATASETS[name].homes, DATASETS[name].license):
        assert line in text
    assert "tmkt-data prepare digits" in text


def test_a_missing_image_side_is_told_from_a_missing_event_side(caltech):
    shutil.rmtree(caltech / "101_ObjectCategories")
    with pytest.raises(CatalogueError, match="ncaltech101: no images"):
        open_ncaltech101(caltech)


def test_digits_and_others_refuse_what_they_do_not_have(tmp_path):
    with pytest.raises(SpecError, match="did you mean 'ncaltech101'"):
        open_catalogue("ncaltech", tmp_path)
    with pytest.raises(SpecError, match="nmnist has only 'all'"):
        open_catalogue("nmnist", tmp_path, class_set="objects")
    with pytest.raises(SpecError, match="omit --events and --images"):
        open_catalogue("digits", tmp_path, events=tmp_path)


def test_equal_or_unsorted_ids_are_refused(tmp_path):
    def source(sample: str) -> Source:
        return Source(sample, 0, str(tmp_path), 1)

    for ids in (["a/1", "a/1"], ["a/2", "a/1"]):
        with pytest.raises(CatalogueError, match="expected unique sorted ids"):
            Catalogue("x", ("a",), SensorSize(4, 4), Placement(0, 0, 4, 4), tuple(map(source, ids)), ())


def test_defaults_follow_the_dataset():
    assert (default_spec("ncaltech101").size, default_spec("ncaltech101").canvas) == (48, "tight")
    assert (default_spec("nmnist").size, default_spec("digits").canvas) == (34, "fixed")


@pytest.mark.real_data
def test_real_nmnist_pairs_lie_on_each_other(real_data, tmp_path):
    cache = Cache(build("nmnist", real_data, tmp_path / "nmnist.h5", size=34, time_bins=30))
    assert (cache.info.num_recordings, cache.info.num_images) == (650, 650)
    assert int(cache.tables["events/num_kept"].sum()) == 2_440_263 + 183_168
    assert not cache.tables["events/num_outside_sensor"].any()
    alignment = measure_alignment(cache)
    assert alignment is not None
    assert alignment.own > 0.83
    assert alignment.own > alignment.same_class + 0.1 > alignment.other_class + 0.1
    assert alignment.own_is_best > 0.7


@pytest.mark.real_data
def test_the_real_ncaltech101_recording_finds_its_photograph(real_data, tmp_path):
    cache = Cache(build("ncaltech101", real_data, tmp_path / "caltech.h5", size=96))
    assert cache.event_ids == ("Faces_easy/image_0001",)
    assert cache.info.num_images == 320
    assert int(cache.event_frames(np.array([0])).sum()) == 67_445
    assert (cache.tables["images/label"] == 3).sum() == 40
    alignment = measure_alignment(cache)
    assert alignment is not None
    assert alignment.own > 0.35
    assert alignment.own_is_best == 1.0
